// Which of many rows of equal height are in the document, so that 100,000 rows cost what fifty cost. Pure arithmetic.

// Browsers do not lay out more than 17 to 33 million px. A list that would be higher scrolls proportionally.
const MAX_HEIGHT = 8_000_000;
const OVERSCAN = 8; // rows above and below what is seen
const SLACK = 3; // rows that may come into view before others are made

export class Virtual {
  #from = 0;
  #to = 0;
  count = 0;
  rowHeight = 36; // px
  viewport = 0; // px that rows have

  // Height of all rows, in px.
  get height() {
    return Math.min(this.count * this.rowHeight, MAX_HEIGHT);
  }

  // How far the first row would be above the viewport if all were laid out.
  #offset(scrollTop) {
    const whole = this.count * this.rowHeight;
    if (whole <= MAX_HEIGHT) return scrollTop;
    const scrolled = Math.min(scrollTop / (MAX_HEIGHT - this.viewport), 1);
    return scrolled * (whole - this.viewport);
  }

  // The index of the first row that is seen, and of the one after the last.
  seen(scrollTop) {
    const first = Math.floor(this.#offset(scrollTop) / this.rowHeight);
    return { first: clamp(first, 0, this.count), last: clamp(first + Math.ceil(this.viewport / this.rowHeight) + 1, 0, this.count) };
  }

  // Rows to be in the document, { from, to }, and how far above them everything else ends, `before` px. The same ones as the
  // last time, while these still cover what is seen, unless `isFresh`.
  window(scrollTop, isFresh) {
    const { first, last } = this.seen(scrollTop);
    const covers = this.#from <= Math.max(first - SLACK, 0) && this.#to >= Math.min(last + SLACK, this.count) && this.#to <= this.count;
    if (isFresh || !covers) {
      this.#from = clamp(first - OVERSCAN, 0, this.count);
      this.#to = clamp(last + OVERSCAN, 0, this.count);
    }
    return { from: this.#from, to: this.#to, before: Math.max(scrollTop - (this.#offset(scrollTop) - this.#from * this.rowHeight), 0) };
  }

  // The inverse of #offset.
  #scrollTop(offset) {
    const whole = this.count * this.rowHeight;
    return whole <= MAX_HEIGHT ? offset : (offset / (whole - this.viewport)) * (MAX_HEIGHT - this.viewport);
  }

  // Where to scroll so that a row is seen whole; `scrollTop` itself if it is.
  scrollTo(index, scrollTop) {
    const top = index * this.rowHeight;
    const offset = this.#offset(scrollTop);
    const wanted = Math.min(Math.max(offset, top + this.rowHeight - this.viewport), top);
    return wanted === offset ? scrollTop : this.#scrollTop(wanted);
  }

  // Where to scroll so that the first row that is not seen whole comes first.
  next(scrollTop) {
    const offset = this.#offset(scrollTop);
    const index = Math.floor((offset + this.viewport + 1) / this.rowHeight); // of what is cut by less than a px nobody misses anything
    return this.#scrollTop(Math.max(index * this.rowHeight, offset + this.rowHeight));
  }

  // Rows that Page Down skips.
  get page() {
    return Math.max(Math.floor(this.viewport / this.rowHeight) - 1, 1);
  }
}

function clamp(value, least, most) {
  return Math.min(Math.max(value, least), most);
}
