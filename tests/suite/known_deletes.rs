//! Up to when ids say that deletes are known, and that clients which come back forget what they hold only where a
//! delete may be unknown.

use crate::harness::{promise, trial};
use crate::rig::{Client, PACE, Rec, gone, rec};
use kafka_sse_bridge::config::units::{Size, Span};
use kafka_sse_bridge::config::{Start, StreamSettings};
use kafka_sse_bridge::kafka::record::{Batch, Feed};
use kafka_sse_bridge::stream::Stream;
use kafka_sse_bridge::stream::clock::Clock;
use kafka_sse_bridge::stream::position::Position;
use kafka_sse_bridge::stream::start_position::Opening;
use kafka_sse_bridge::stream::writer::Writer;
use libtest_mimic::Trial;
use std::cell::Cell;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("no_id_of_a_quiet_table_becomes_too_old", || {
            return_after_hours(None, false);
        }),
        trial("no_id_of_a_backfilled_table_becomes_too_old", || {
            return_after_hours(Some(NOW_MILLIS - 30 * 24 * 3_600_000), false);
        }),
        trial("no_id_of_a_table_without_timestamps_becomes_too_old", || {
            return_after_hours(Some(-1), false);
        }),
        trial(
            "no_id_becomes_too_old_behind_a_fixed_filter_that_hides_everything",
            || {
                return_after_hours(Some(NOW_MILLIS), true);
            },
        ),
        promise(a_backfilled_delete_is_as_new_as_the_records_before_it),
        promise(ids_do_not_cover_deletes_that_are_not_read_yet),
    ]
}

/// A day of November 2026, in seconds.
const NOW: u64 = 1_795_000_000;

/// The same in milliseconds.
const NOW_MILLIS: i64 = 1_795_000_000_000;

const HOUR: u64 = 3600;

thread_local! {
    /// Unix seconds.
    static CLOCK: Cell<u64> = const { Cell::new(0) };
}

fn monotonic() -> Instant {
    static AT_NOW: LazyLock<Instant> = LazyLock::new(Instant::now);
    *AT_NOW + Duration::from_secs(CLOCK.get() - NOW)
}

fn pass(seconds: u64) {
    CLOCK.set(CLOCK.get() + seconds);
}

/// A replica of a stream that keeps a table of topics with two partitions each, and remembers deletes for an hour.
struct Replica {
    stream: Arc<Stream>,
    writer: Writer,
    topics: &'static [&'static str],
}

impl Replica {
    fn new(topics: &'static [&'static str], is_filtered: bool) -> Self {
        let mut settings = StreamSettings {
            path: "/x".to_owned(),
            topics: topics.iter().map(|&topic| topic.to_owned()).collect(),
            start: Start::Snapshot,
            log_bytes: Size(2048),
            delete_retention: Span::seconds(HOUR),
            ..StreamSettings::default()
        };
        if is_filtered {
            let shown = vec!["yes".to_owned()];
            settings.filter.insert("value.shown".to_owned(), shown);
        }
        let clock = Clock {
            time_of_day: || Duration::from_secs(CLOCK.get()),
            monotonic,
        };
        let stream = Stream::with_clock(settings, PACE, None, clock);
        let mut writer = Writer::new(Arc::clone(&stream));
        for topic in topics {
            writer.take(&Feed::Assigned {
                topic: (*topic).into(),
                id: None,
                next: vec![0; 2],
                low: vec![0; 2],
            });
        }
        Self {
            stream,
            writer,
            topics,
        }
    }

    fn record(&mut self, record: &Rec, offset: i64) {
        let mut batch = Batch::new(self.topics[0].into());
        record.push(&mut batch, offset);
        self.writer.take(&Feed::Records(Arc::new(batch)));
    }

    fn loaded(&mut self) {
        for topic in self.topics {
            self.writer.take(&Feed::Loaded {
                topic: (*topic).into(),
            });
        }
    }

    fn at_end(&mut self, topic: &str, at: Instant) {
        self.writer.take(&Feed::AtEnd {
            topic: topic.into(),
            at,
        });
    }

    fn open(&self, id: Option<&str>) -> Client {
        let mut client = Client::of(self.stream.subscribe(Opening {
            last_event_id: id.map(str::to_owned),
            ..Opening::default()
        }));
        client.now = monotonic();
        client
    }
}

/// A client is connected for three hours, and goes to another replica that has begun just before; one that went away
/// two hours ago comes back there too. `timestamp` is that of records that come meanwhile.
fn return_after_hours(timestamp: Option<i64>, is_filtered: bool) {
    CLOCK.set(NOW);
    let mut first = Replica::new(&["t"], is_filtered);
    first.loaded();
    let mut client = first.open(None);
    client.events();
    let mut early = String::new();
    let mut written = Vec::new();
    for minute in 0..180 {
        pass(60);
        if let Some(timestamp) = timestamp
            && minute % 10 == 0
        {
            let record = Rec {
                timestamp: Some(timestamp),
                ..rec("k", r#"{"shown":"no"}"#)
            };
            first.record(&record, i64::try_from(written.len()).expect("few"));
            written.push(record);
        }
        first.at_end("t", monotonic());
        client.now = monotonic();
        client.events();
        if minute == 60 {
            client.last_event_id().clone_into(&mut early);
        }
    }
    let mut second = Replica::new(&["t"], is_filtered);
    for (offset, record) in (0..).zip(&written) {
        second.record(record, offset);
    }
    // Deletes are known since the new replica started, and as far as they were known at its start.
    if is_filtered {
        pass(60);
        first.at_end("t", monotonic());
        client.now = monotonic();
        client.events();
    }
    second.loaded();
    // More than the log holds: what the client missed comes from the table.
    let written = written.len();
    for offset in written..written + 100 {
        let record = Rec {
            timestamp,
            ..rec("k", r#"{"shown":"no"}"#)
        };
        second.record(&record, i64::try_from(offset).expect("few"));
    }
    let told = second.open(Some(client.last_event_id())).told();
    let caught_up = r#"caught-up {"reason":"replay"}"#;
    if is_filtered {
        assert_eq!(told, [caught_up]);
    } else {
        assert_eq!(told, [r#"message {"shown":"no"}"#, caught_up]);
    }
    let told = second.open(Some(&early)).told();
    assert_eq!(told[0], r#"reset {"reason":"too-old"}"#);
}

fn ids_do_not_cover_deletes_that_are_not_read_yet() {
    CLOCK.set(NOW);
    let as_of = |client: &mut Client| {
        client.now = monotonic();
        client.events();
        let position = Position::parse(client.last_event_id().as_bytes());
        position.expect("a position").as_of.expect("of a table") - NOW
    };
    let mut replica = Replica::new(&["t", "u"], false);
    pass(10);
    replica.loaded();
    let mut client = replica.open(None);
    assert_eq!(as_of(&mut client), 0, "when loading began");
    pass(HOUR);
    // The other partition may be an hour behind, and so may the other topic.
    let fresh = Rec {
        timestamp: Some(NOW_MILLIS + 3_600_000),
        ..rec("k", "{}")
    };
    replica.record(&fresh, 0);
    assert_eq!(as_of(&mut client), 0);
    let earlier = monotonic();
    pass(60);
    let at = monotonic();
    pass(100);
    replica.at_end("t", at);
    replica.record(&fresh, 1);
    assert_eq!(as_of(&mut client), 0);
    replica.at_end("u", earlier);
    replica.record(&fresh, 2);
    // Where the less far topic was, less the second that was not over.
    assert_eq!(as_of(&mut client), 10 + HOUR - 1);
    // A reset topic must be read first.
    pass(100);
    replica.writer.take(&Feed::Recreated { topic: "u".into() });
    replica.at_end("t", monotonic());
    replica.record(&fresh, 3);
    assert_eq!(as_of(&mut client), 10 + HOUR - 1);
}

fn a_backfilled_delete_is_as_new_as_the_records_before_it() {
    CLOCK.set(NOW);
    let mut first = Replica::new(&["t"], false);
    first.loaded();
    let mut client = first.open(None);
    client.events();
    let mut second = Replica::new(&["t"], false);
    let at = |record: Rec, days: i64| Rec {
        timestamp: Some(NOW_MILLIS - days * 24 * 3_600_000),
        ..record
    };
    second.record(&at(rec("a", "{}"), 0), 0);
    second.record(&at(gone("b"), 30), 1);
    second.loaded();
    // More than the log holds.
    for offset in 2..100 {
        second.record(&at(rec("a", "{}"), 0), offset);
    }
    let told = second.open(Some(client.last_event_id())).told();
    let replay = r#"caught-up {"reason":"replay"}"#;
    assert_eq!(told, [r#"delete {"key":"b"}"#, "message {}", replay]);
}
