//! Which ids still cover all deletes: a client that resumes is reset only if it may have missed one.

use crate::harness::{promise, trial};
use crate::rig::clock::{self, NOW_MILLIS};
use crate::rig::{Client, PACE, Rec, Rig, rec, settings, tombstone};
use kafka_sse_bridge::config::Start;
use kafka_sse_bridge::config::units::{Size, Span};
use kafka_sse_bridge::kafka::record::Feed;
use kafka_sse_bridge::stream::Stream;
use kafka_sse_bridge::stream::position::Position;
use libtest_mimic::Trial;

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

const HOUR: u64 = 3600;

/// A replica of a stream that keeps a table of topics with two partitions each, and remembers deletes for an hour.
fn replica(topics: usize, is_filtered: bool) -> Rig {
    let settings = settings(topics, |settings| {
        settings.start = Start::Snapshot;
        settings.log_bytes = Size(2048);
        settings.delete_retention = Span::seconds(HOUR);
        if is_filtered {
            let shown = vec!["yes".to_owned()];
            settings.filter.insert("value.shown".to_owned(), shown);
        }
    });
    let stream = Stream::with_clock(settings, PACE, None, clock::CLOCK);
    Rig::of(stream, &vec![2; topics])
}

fn open(replica: &Rig, id: Option<&str>) -> Client {
    let mut client = id.map_or_else(|| replica.client(&[]), |id| replica.resume(id, &[]));
    client.now = clock::monotonic();
    client
}

/// A client is connected for three hours, and goes to another replica that has begun just before; one that went away
/// two hours ago comes back there too. `timestamp` is that of records that come meanwhile.
fn return_after_hours(timestamp: Option<i64>, is_filtered: bool) {
    clock::set(0);
    let mut first = replica(1, is_filtered);
    first.load();
    let mut client = open(&first, None);
    client.events();
    let mut early = String::new();
    let mut written = Vec::new();
    for minute in 0..180 {
        clock::advance(60);
        if let Some(timestamp) = timestamp
            && minute % 10 == 0
        {
            let record = rec("k", r#"{"shown":"no"}"#).at(timestamp);
            first.records(std::slice::from_ref(&record));
            written.push(record);
        }
        first.at_end(0, clock::monotonic());
        client.now = clock::monotonic();
        client.events();
        if minute == 60 {
            client.last_event_id().clone_into(&mut early);
        }
    }
    let mut second = replica(1, is_filtered);
    for record in &written {
        second.records(std::slice::from_ref(record));
    }
    // Deletes are known since the new replica started, and as far as they were known at its start.
    if is_filtered {
        clock::advance(60);
        first.at_end(0, clock::monotonic());
        client.now = clock::monotonic();
        client.events();
    }
    second.load();
    // More than the log holds: what the client missed comes from the table.
    for _ in 0..100 {
        let record = Rec {
            timestamp,
            ..rec("k", r#"{"shown":"no"}"#)
        };
        second.records(&[record]);
    }
    let lines = open(&second, Some(client.last_event_id())).lines();
    let caught_up = r#"caught-up {"reason":"replay"}"#;
    if is_filtered {
        assert_eq!(lines, [caught_up]);
    } else {
        assert_eq!(lines, [r#"message {"shown":"no"}"#, caught_up]);
    }
    let lines = open(&second, Some(&early)).lines();
    assert_eq!(lines[0], r#"reset {"reason":"too-old"}"#);
}

fn ids_do_not_cover_deletes_that_are_not_read_yet() {
    clock::set(0);
    let as_of = |client: &mut Client| {
        client.now = clock::monotonic();
        client.events();
        let position = Position::parse(client.last_event_id().as_bytes());
        position.expect("a position").as_of.expect("of a table") - clock::NOW
    };
    let mut replica = replica(2, false);
    clock::advance(10);
    replica.load();
    let mut client = open(&replica, None);
    assert_eq!(as_of(&mut client), 0, "when loading began");
    clock::advance(HOUR);
    // The other partition may be an hour behind, and so may the other topic.
    let fresh = rec("k", "{}").at(NOW_MILLIS + 3_600_000);
    replica.records(std::slice::from_ref(&fresh));
    assert_eq!(as_of(&mut client), 0);
    let earlier = clock::monotonic();
    clock::advance(60);
    let at = clock::monotonic();
    clock::advance(100);
    replica.at_end(0, at);
    replica.records(std::slice::from_ref(&fresh));
    assert_eq!(as_of(&mut client), 0);
    replica.at_end(1, earlier);
    replica.records(std::slice::from_ref(&fresh));
    // Where the less far topic was, less the second that was not over.
    assert_eq!(as_of(&mut client), 10 + HOUR - 1);
    // A reset topic must be read first.
    clock::advance(100);
    replica.writer.take(&Feed::Recreated { topic: "u".into() });
    replica.at_end(0, clock::monotonic());
    replica.records(std::slice::from_ref(&fresh));
    assert_eq!(as_of(&mut client), 10 + HOUR - 1);
}

fn a_backfilled_delete_is_as_new_as_the_records_before_it() {
    clock::set(0);
    let mut first = replica(1, false);
    first.load();
    let mut client = open(&first, None);
    client.events();
    let mut second = replica(1, false);
    let at = |record: Rec, days: i64| record.at(NOW_MILLIS - days * 24 * 3_600_000);
    second.records(&[at(rec("a", "{}"), 0)]);
    second.records(&[at(tombstone("b"), 30)]);
    second.load();
    // More than the log holds.
    for _ in 2..100 {
        second.records(&[at(rec("a", "{}"), 0)]);
    }
    let lines = open(&second, Some(client.last_event_id())).lines();
    let replay = r#"caught-up {"reason":"replay"}"#;
    assert_eq!(lines, [r#"delete {"key":"b"}"#, "message {}", replay]);
}
