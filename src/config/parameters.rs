//! Names of query parameters that streams understand, in all spellings.

/// Parameters of streams that are neither filters nor `lastEventId`.
pub(crate) const NAMES: [&str; 8] = [
    "start", "since", "throttle", "sample", "format", "follow", "limit", "after",
];

/// Whether a name is `lastEventId` in a spelling that polyfills use. They let applications choose the name
/// (`Last-Event-ID` and `lastEventID` with Mercure), and amvtek's has its own, `evs_last_event_id`. Case, `-` and `_` do
/// not count: a name that was passed over or refused would lose records.
pub(crate) fn is_last_event_id(name: &str) -> bool {
    let letters = |byte: &u8| !matches!(byte, b'-' | b'_');
    let mut plain = name
        .bytes()
        .filter(letters)
        .map(|byte| byte.to_ascii_lowercase())
        .peekable();
    // The prefix "evs" is optional.
    if plain.peek() == Some(&b'e') {
        plain.eq(*b"evslasteventid")
    } else {
        plain.eq(*b"lasteventid")
    }
}
