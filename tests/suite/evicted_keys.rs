//! Keys without a row in a full table: which clients hold a value of such a key, and which get a delete.

use crate::filtered_readers::{PARIS, city, delete, paris};
use crate::rig::{Rec, Rig, rec, tombstone};
use crate::trials;
use kafka_sse_bridge::config::units::Size;
use kafka_sse_bridge::config::{Start, StreamSettings, WhenFull};
use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    trials![
        an_evicted_key_that_stops_matching_is_sent_as_a_delete,
        a_key_refused_by_the_full_table_is_deleted_when_it_stops_matching,
        a_fixed_filter_deletes_only_evicted_keys_that_were_sent,
        an_older_record_does_not_bring_back_an_evicted_key,
        a_hidden_record_is_not_outlived_by_an_older_one_of_another_partition,
        more_hidden_keys_than_are_remembered_reset_no_client,
        a_delete_forgotten_by_loading_still_hides_older_records,
        clients_are_reset_where_the_table_has_forgotten_evicted_keys,
        a_client_at_earliest_does_not_see_keys_that_a_fixed_filter_hides_now,
    ]
}

/// A table of two keys.
fn table(when_full: WhenFull) -> impl FnOnce(&mut StreamSettings) {
    move |settings| {
        settings.start = Start::Snapshot;
        settings.key_field = Some("id".to_owned());
        settings.max_keys = 2;
        settings.when_full = when_full;
    }
}

fn an_evicted_key_that_stops_matching_is_sent_as_a_delete() {
    let mut rig = Rig::ready(table(WhenFull::EvictOldest));
    let mut client = rig.client(&[PARIS]);
    let mut in_rome = rig.client(&[("value.city", "Rome")]);
    let mut of_other = rig.client(&[("key", "b"), PARIS]);
    for client in [&mut client, &mut in_rome, &mut of_other] {
        assert_eq!(client.shown(), [""; 0]);
    }
    rig.records(&[city("a", "Paris"), city("b", "Oslo"), city("c", "Oslo")]);
    assert_eq!(client.shown(), [paris("a")]);
    assert_eq!(in_rome.shown(), [""; 0]);
    rig.records(&[city("a", "Rome")]);
    assert_eq!(client.shown(), [delete("a")]);
    assert_eq!(in_rome.shown(), [r#"message {"city":"Rome","id":"a"}"#]);
    assert_eq!(of_other.shown(), [""; 0], "it asks for another key");
    // No client can hold a new key.
    rig.records(&[city("d", "Oslo"), city("e", "Oslo")]);
    assert_eq!(client.shown(), [""; 0]);
    // An evicted delete is not held either.
    rig.records(&[tombstone("f"), city("g", "Oslo"), city("h", "Oslo")]);
    client.shown();
    rig.records(&[city("f", "Oslo")]);
    assert_eq!(client.shown(), [""; 0]);
}

fn a_key_refused_by_the_full_table_is_deleted_when_it_stops_matching() {
    let mut rig = Rig::ready(table(WhenFull::RefuseNew));
    let mut client = rig.client(&[PARIS]);
    client.lines();
    rig.records(&[city("a", "Oslo"), city("b", "Oslo"), city("c", "Paris")]);
    assert_eq!(client.shown(), [paris("c")], "it is delivered live");
    rig.records(&[city("c", "Oslo"), city("d", "Oslo")]);
    assert_eq!(client.shown(), [delete("c")]);
}

fn a_fixed_filter_deletes_only_evicted_keys_that_were_sent() {
    let mut rig = Rig::ready(|settings| {
        table(WhenFull::EvictOldest)(settings);
        settings
            .filter
            .insert("value.city".to_owned(), vec!["Paris".to_owned()]);
    });
    let mut client = rig.client(&[]);
    client.lines();
    rig.records(&["a", "b", "c", "d"].map(|key| city(key, "Paris")));
    assert_eq!(client.shown(), ["a", "b", "c", "d"].map(paris));
    rig.records(&[
        city("a", "Oslo"),
        tombstone("b"),
        city("e", "Oslo"),
        tombstone("f"),
    ]);
    assert_eq!(client.shown(), [delete("a"), delete("b")]);
}

fn an_older_record_does_not_bring_back_an_evicted_key() {
    for is_spread in [true, false] {
        let mut rig = Rig::with(&[2], false, table(WhenFull::EvictOldest));
        let at = |key: &str, name: &str, partition, timestamp| at(city(key, name), partition, timestamp);
        let mut client = rig.client(&[]);
        client.lines();
        rig.records(&[
            at("a", "Paris", 0, 50),
            at("b", "Oslo", 0, 60),
            at("c", "Oslo", 0, 70),
        ]);
        client.shown();
        let partition = u32::from(is_spread);
        rig.records(&[at("a", "Rome", partition, 40)]);
        if is_spread {
            assert_eq!(client.shown(), [""; 0]);
            // The time of the latest counts on.
            rig.records(&[at("a", "Bern", 0, 30), at("a", "Rome", 1, 40)]);
            assert_eq!(client.shown(), [r#"message {"city":"Bern","id":"a"}"#]);
        } else {
            assert_eq!(client.shown(), [r#"message {"city":"Rome","id":"a"}"#]);
        }
    }
}

/// A record of a key in a partition, with a timestamp in milliseconds.
fn at(record: Rec, partition: u32, timestamp: i64) -> Rec {
    record.partition(partition).at(timestamp)
}

/// A table with a fixed filter for Paris, of a topic with two partitions.
fn in_paris(settings: &mut StreamSettings) {
    settings.start = Start::Snapshot;
    settings.key_field = Some("id".to_owned());
    settings
        .filter
        .insert("value.city".to_owned(), vec!["Paris".to_owned()]);
}

fn a_hidden_record_is_not_outlived_by_an_older_one_of_another_partition() {
    let mut rig = Rig::with(&[2], false, in_paris);
    let mut client = rig.client(&[]);
    client.lines();
    // Hidden by the filter, a tombstone of a key never seen, and a value that cannot be shown.
    rig.records(&[
        at(city("a", "Oslo"), 0, 60),
        at(tombstone("b"), 0, 60),
        at(rec("c", b"\xff"), 0, 60),
        at(city("d", "Oslo"), 0, 60),
        at(city("d", "Oslo"), 0, 30),
    ]);
    let older = ["a", "b", "c", "d"].map(|key| at(city(key, "Paris"), 1, 50));
    rig.records(&older);
    let holds = |shown: &[String]| shown.iter().any(|said| said.starts_with("message"));
    assert!(!holds(&client.shown()), "older than what is hidden");
    assert!(!holds(&rig.client(&[]).shown()), "nor as a row");
    assert_eq!(rig.stream.counters().superseded()[0].1.records, 4);
    // Newer ones are shown, and end when they are hidden by another partition's.
    rig.records(&[at(city("a", "Paris"), 1, 70), at(city("b", "Paris"), 0, 40)]);
    assert_eq!(client.shown(), ["a", "b"].map(paris));
    rig.records(&[at(city("a", "Oslo"), 0, 80), at(city("b", "Oslo"), 1, 61)]);
    assert_eq!(client.shown(), ["a", "b"].map(delete));
    // A record hidden after a delete counts as well.
    rig.records(&[at(city("a", "Oslo"), 0, 90), at(city("a", "Paris"), 1, 85)]);
    assert!(!holds(&client.shown()));
    rig.records(&[at(city("a", "Paris"), 1, 95)]);
    assert_eq!(client.shown(), [paris("a")]);
}

fn more_hidden_keys_than_are_remembered_reset_no_client() {
    let mut rig = Rig::with(&[2], false, |settings| {
        in_paris(settings);
        settings.max_table_bytes = Size(8192);
    });
    let mut client = rig.client(&[]);
    client.lines();
    rig.records(&[at(city("a", "Oslo"), 0, 60), at(city("b", "Oslo"), 0, 60)]);
    let others: Vec<Rec> = (0..40)
        .map(|key| at(city(&key.to_string(), "Oslo"), 0, 60))
        .collect();
    rig.records(&others);
    rig.records(&[at(city("a", "Paris"), 1, 50), at(city("39", "Paris"), 1, 50)]);
    let shown = client.shown();
    assert!(shown.contains(&paris("a")), "the oldest are forgotten: {shown:?}");
    assert!(!shown.contains(&paris("39")), "the youngest are not: {shown:?}");
    assert_eq!(rig.stream.eviction_resets(), 0);
    let table = rig.stream.figures().table;
    assert!(table.is_some_and(|(_, bytes)| bytes <= 8192), "{table:?}");
}

fn a_delete_forgotten_by_loading_still_hides_older_records() {
    let mut rig = Rig::loading(&[2], table(WhenFull::EvictOldest));
    // Of long ago, so that its marker is the first to go.
    rig.records(&[
        at(tombstone("a"), 0, 2000),
        at(city("b", "Oslo"), 0, 3000),
        at(city("c", "Oslo"), 0, 3000),
        at(city("a", "Paris"), 1, 1000),
    ]);
    rig.load();
    let shown = rig.client(&[]).shown();
    let in_oslo = |key: &str| format!(r#"message {{"city":"Oslo","id":"{key}"}}"#);
    assert_eq!(shown, [in_oslo("b"), in_oslo("c")]);
}

fn clients_are_reset_where_the_table_has_forgotten_evicted_keys() {
    // An eighth of it holds evicted keys.
    let mut rig = Rig::ready(|settings| {
        table(WhenFull::EvictOldest)(settings);
        settings.max_table_bytes = Size(4096);
    });
    rig.records(&[city("a", "Paris")]);
    let mut client = rig.client(&[PARIS]);
    let mut by_key = rig.client(&[("key", "a")]);
    let mut everything = rig.client(&[]);
    for client in [&mut client, &mut by_key, &mut everything] {
        assert_eq!(
            client.lines(),
            [paris("a"), r#"caught-up {"reason":"snapshot"}"#.to_owned()]
        );
    }
    let left = client.last_event_id().to_owned();
    let others: Vec<Rec> = (0..40).map(|key| city(&key.to_string(), "Oslo")).collect();
    rig.records(&others);
    rig.records(&[city("last", "Paris")]);
    assert!(rig.stream.eviction_resets() > 0);
    let reset = [r#"reset {"reason":"too-old"}"#.to_owned(), paris("last")];
    assert_eq!(client.lines(), reset);
    // A key alone never stops to match.
    assert_eq!(by_key.lines(), [""; 0]);
    assert_eq!(everything.shown().len(), 41);
    // An id does not show when its client began, so that every filtered client with an id from before is reset.
    rig.records(&[city("a", "Rome")]);
    assert_eq!(client.lines(), [""; 0]);
    assert_eq!(rig.resume(&left, &[PARIS]).lines()[0], reset[0]);
    let now = client.last_event_id().to_owned();
    assert_eq!(rig.resume(&now, &[PARIS]).lines()[0], reset[0]);
    assert_eq!(
        rig.resume(&now, &[]).lines(),
        [
            r#"message {"city":"Rome","id":"a"}"#,
            r#"caught-up {"reason":"replay"}"#
        ]
    );
}

/// The log holds the record that was shown, and no delete, because the table had forgotten the key by then.
fn a_client_at_earliest_does_not_see_keys_that_a_fixed_filter_hides_now() {
    let mut rig = Rig::ready(|settings| {
        table(WhenFull::EvictOldest)(settings);
        settings.max_table_bytes = Size(4096);
        settings
            .filter
            .insert("value.city".to_owned(), vec!["Paris".to_owned()]);
    });
    let mut client = rig.client_at(Start::Earliest, &[]);
    client.lines();
    let others = (0..40).map(|key| city(&key.to_string(), "Paris"));
    let mut batch = vec![city("a", "Paris")];
    batch.extend(others);
    batch.push(city("a", "Oslo"));
    rig.records(&batch);
    assert!(rig.stream.eviction_resets() > 0);
    let rows = [paris("38"), paris("39")];
    assert_eq!(client.lines()[0], r#"reset {"reason":"too-old"}"#);
    assert_eq!(rig.client_at(Start::Earliest, &[]).shown(), rows);
}
