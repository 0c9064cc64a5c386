//! Queries and filters.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http::{HeaderMap, HeaderValue};

use crate::config::filter::{Filter, Name};
use crate::config::{Start, StreamSettings};
use crate::http::query::{StreamQuery, parse};
use crate::kafka::record::{Batch, Stamp};
use crate::sse::write;
use crate::stream::Stream;
use crate::stream::filter::{Candidate, Matcher, key_hash, pack_headers};
use crate::stream::live_settings::Pace;

const PACE: Pace = Pace {
    keepalive: Duration::from_secs(15),
    retry: Duration::from_secs(2),
    max_lifetime: Duration::ZERO,
};

/// The filters that the configuration fixes.
const FIXED: [&[(&str, &[&str])]; 3] = [
    &[],
    &[("key", &["k", "base64:AAE"]), ("value.a.b", &["1", "x"])],
    &[
        ("header.h", &["x"]),
        ("partition", &["0", "1"]),
        ("topic", &["t"]),
    ],
];

/// A stream for each of them, with a table and without.
static STREAMS: LazyLock<Vec<Arc<Stream>>> = LazyLock::new(|| {
    let fixed = FIXED
        .iter()
        .flat_map(|fixed| [(fixed, Start::Live), (fixed, Start::Snapshot)]);
    fixed
        .map(|(fixed, start)| {
            let owned = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
            let settings = StreamSettings {
                path: "/x".to_owned(),
                topics: owned(&["t", "u"]),
                start,
                filter: fixed
                    .iter()
                    .map(|(name, values)| ((*name).to_owned(), owned(values)))
                    .collect(),
                ..StreamSettings::default()
            };
            Stream::new(settings, PACE, None)
        })
        .collect()
});

/// The filter of any query passes no record that the fixed one does not, and all that both pass; its terms read back as they
/// are written; nothing of the query gets into an error's header. The first byte selects a stream, the second a record, and
/// lines have a query, an id, a key, a header and a JSON value.
pub(crate) fn queries(data: &[u8]) {
    let Some((&[stream, record], text)) = data.split_first_chunk() else {
        return;
    };
    let mut lines = text.splitn(5, |byte| *byte == b'\n');
    let query = lines.next().and_then(|line| std::str::from_utf8(line).ok());
    let (Some(query), Some(id), Some(key), Some(header), Some(json)) =
        (query, lines.next(), lines.next(), lines.next(), lines.next())
    else {
        return;
    };
    let stream = &STREAMS[usize::from(stream) % STREAMS.len()];
    let settings = stream.settings();
    let mut headers = HeaderMap::new();
    if let Ok(id) = HeaderValue::from_bytes(id) {
        headers.insert("last-event-id", id);
    }
    let Ok(StreamQuery { opening, .. }) = parse(query, &|_| false, &headers, stream) else {
        return;
    };
    assert!(opening.since.is_none_or(|since| since >= 0));
    assert!(opening.throttle.is_none() || settings.has_table());
    assert!(opening.start != Some(Start::Snapshot) || settings.has_table());
    let Some(filter) = opening.filter else {
        return;
    };
    assert!(!filter.is_empty());
    let mut again = Filter::default();
    for (name, wanted) in filter.terms() {
        let parsed = Name::parse(&name.to_string());
        assert_eq!(parsed.as_ref(), Ok(&Some(name.clone())));
        for value in wanted {
            again
                .add(name.clone(), value, &settings.topics)
                .expect("as before");
        }
    }
    assert_eq!(again, filter);
    let mut batch = Batch::new("t".into());
    let stamp = Stamp {
        partition: u32::from(record >> 1 & 3),
        offset: 0,
        timestamp: None,
    };
    batch.push(
        stamp,
        Some(key),
        Some(json),
        [(&b"h"[..], Some(header)), (b"h", Some(b"x"))].into_iter(),
    );
    let mut packed = Vec::new();
    batch.iter().for_each(|record| pack_headers(&record, &mut packed));
    let mut frame = Vec::new();
    write::write_data(&mut frame, json);
    write::end(&mut frame);
    let candidate = Candidate {
        topic: u16::from(record & 1),
        partition: stamp.partition,
        key: key_hash(Some(key)),
        is_tombstone: record & 0x80 != 0,
        headers: &packed,
        frame: &frame,
    };
    let accepts = |filter: &Filter| Matcher::new(filter, settings).accepts(&candidate);
    let fixed = Filter::from_settings(&settings.filter, &settings.topics).expect("valid");
    let is_passed = accepts(&fixed) && accepts(&filter);
    assert_eq!(accepts(&fixed.clone().and(&filter)), is_passed);
    assert_eq!(accepts(&filter.and(&fixed)), is_passed);
}
