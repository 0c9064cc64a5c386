// What /health/ready names as `degraded`, with what to do about it.

const KINDS = [
  {
    is: /^kafka: no broker has answered yet/,
    title: "Kafka has not answered yet",
    isSaid: true,
    remedy: "Check `brokers` in [kafka], and that this server reaches them; `kafka-sse-bridge doctor` tries it. The streams begin by themselves.",
    outdated: true,
  },
  {
    is: /^kafka: topic "(?<topic>(?:[^"\\]|\\.)*)" does not exist/,
    isSaid: true,
    title: ({ topic }) => `Topic ${topic} does not exist`,
    remedy: "Create it, or correct `topics` of the stream. It is looked for every five seconds, and counts as empty until then.",
  },
  {
    is: /^kafka: topic "(?<topic>(?:[^"\\]|\\.)*)": no leader answers for/,
    title: ({ topic }) => `Partitions of ${topic} have no leader`,
    remedy: "Their brokers are down, or are electing a leader. Reading continues by itself when one answers.",
    outdated: true,
  },
  {
    is: /^stream (?<stream>\/\S*): its table is full/,
    title: ({ stream }) => `The table of ${stream} is full`,
    remedy: "Some keys are missing from it. Raise `max_keys` or `max_table_bytes` of the stream; `limit` of [memory] bounds all of them together.",
  },
  {
    is: /^stream (?<stream>\/\S*): does not keep up/,
    title: ({ stream }) => `${stream} does not keep up with its topics`,
    remedy: "Records arrive faster than the stream encodes them. Give it fewer topics, or run it in a daemon of its own.",
    outdated: true,
  },
  { is: /^stream (?<stream>\/[^:\s]*):/, title: ({ stream }) => `${stream} needs attention` },
  { is: /^kafka: topic "(?<topic>(?:[^"\\]|\\.)*)"/, title: ({ topic }) => `Topic ${topic} cannot be read in full`, outdated: true },
  {
    is: /^kafka(?: \S+)?: /,
    title: "Kafka cannot be reached",
    remedy: "The streams stay open and continue where they were as soon as a broker answers. Check the brokers, and the network to them; `kafka-sse-bridge doctor` names the cause.",
    outdated: true,
  },
  { is: /^schema registry: .*wait/, title: "The schema registry does not answer", remedy: "Records whose schemas are not known yet wait for it.", outdated: true },
  { is: /^schema registry: /, title: "A schema cannot be used" },
  { is: /^(?:tls|https?|certificate)\b/i, title: "A certificate needs attention" },
  { is: /^(?:auth|jwks)\b/i, title: "Logins need attention" },
];

// { title, text (as the server says it; null where the title says the same), remedy (or null), outdated (rows may not be the newest), stream, topic (whom it
// concerns; neither: all) }.
export function explain(text) {
  const said = String(text);
  for (const { is, title, isSaid = false, remedy = null, outdated = false } of KINDS) {
    const groups = is.exec(said)?.groups;
    if (!is.test(said)) continue;
    const about = { stream: groups?.stream ?? null, topic: groups?.topic ?? null };
    return { title: typeof title === "function" ? title(about) : title, text: isSaid ? null : withoutPrefix(said), remedy, outdated, ...about };
  }
  return { title: "The server reports a problem", text: said, remedy: null, outdated: false, stream: null, topic: null };
}

// A problem in a line of text.
export function sentencesOf({ title, text, remedy }) {
  return [`${title}.`, text && (/[.!?]$/.test(text) ? text : `${text}.`), remedy?.replaceAll("`", "")].filter(Boolean).join(" ");
}

// "kafka: …" and "kafka 127.0.0.1:9092: …" are said by the title already, but for the address.
function withoutPrefix(text) {
  const rest = text.replace(/^(?:kafka:?|stream \/[^:\s]*:) /, "");
  return rest.charAt(0).toUpperCase() + rest.slice(1);
}
