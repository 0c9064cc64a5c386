// Follows a stream once per cut, through a proxy that cuts the first connection with `cb=N` after N bytes of its body, and may
// answer the second with an error page. Returns the cuts after which something else was seen than without any. Of a stream that
// keeps a table each row is to be seen once: its id depends on the time, and whoever resumes is told of deletes.

const isRecord = ({ type }) => type === "message" || type === "delete";

/** `atOnce` streams at a time of each of the `urls`, which are of the same stream through different origins. */
export async function cutEverywhere(follow, urls, atOnce, options) {
  const [whole] = urls;
  const once = (url, cut) => new Promise((done) => {
    const seen = [];
    let wasCut = cut === undefined;
    const stream = follow(cut === undefined ? url : `${url}?cb=${cut}`, {
      ...options,
      onEvent: (event) => isRecord(event) && seen.push([event.type, event.text, event.lastEventId]),
      onState({ state }) {
        if (state === "reconnecting") wasCut = true;
        if (state !== "live" || !wasCut) return;
        stream.close();
        done(seen);
      },
    });
  });
  const controller = new AbortController();
  const { body } = await fetch(whole, { signal: controller.signal });
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  while (!/^event: caught-up\ndata: .*\n\n/m.test(text)) text += (await reader.read()).value;
  controller.abort();
  const { length } = new TextEncoder().encode(text);
  const isTable = /^event: caught-up\ndata: {"reason":"snapshot"}/m.test(text);
  const shown = (seen) => JSON.stringify(isTable ? seen.filter(([type]) => type === "message").map(([, row]) => row) : seen);
  const records = await once(whole);
  const expected = shown(records);
  const wrong = [];
  let cuts = 0;
  const worker = async (url) => {
    while (cuts < length) {
      const cut = cuts++;
      const seen = shown(await once(url, cut));
      if (seen !== expected) wrong.push([cut, seen]);
    }
  };
  await Promise.all(urls.flatMap((url) => Array.from({ length: atOnce }, () => worker(url))));
  return { records: records.length, cuts, wrong };
}
