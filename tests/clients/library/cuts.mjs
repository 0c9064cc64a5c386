// Follows a stream once per cut, through a proxy that cuts the first connection with `cb=N` after N bytes of its body, and may
// answer the second with an error page. Returns the cuts after which something else was seen than without any. Of a stream that
// keeps a table each row is to be seen once: its id depends on the time, and whoever resumes is told of deletes.

const isRecord = ({ type }) => type === "message" || type === "delete";

/** `atOnce` streams at a time, cut at every `step`th byte. */
export async function cutEverywhere(follow, url, atOnce, options, step = 1) {
  const once = (cut) => new Promise((done) => {
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
  const { body } = await fetch(url, { signal: controller.signal });
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  while (!/^event: caught-up\ndata: .*\n\n/m.test(text)) text += (await reader.read()).value;
  controller.abort();
  const { length } = new TextEncoder().encode(text);
  const isTable = /^event: caught-up\ndata: {"reason":"snapshot"}/m.test(text);
  const shown = (seen) => JSON.stringify(isTable ? seen.filter(([type]) => type === "message").map(([, row]) => row) : seen);
  const whole = await once();
  const expected = shown(whole);
  const wrong = [];
  let cut = 0;
  const worker = async () => {
    while (cut < length) {
      const mine = cut;
      cut += step;
      const seen = shown(await once(mine));
      if (seen !== expected) wrong.push([mine, seen]);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  return { records: whole.length, cuts: length, wrong };
}
