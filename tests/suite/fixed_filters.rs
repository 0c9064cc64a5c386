//! Filters from the stream's configuration, which apply to every client.

use crate::rig::{Rig, rec, tombstone};
use crate::trials;
use kafka_sse_bridge::config::{Start, StreamSettings};
use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    trials![
        a_fixed_filter_hides_records_from_everyone,
        a_fixed_filter_on_a_table_deletes_only_keys_that_were_sent,
        a_clients_filter_is_anded_with_the_fixed_one,
    ]
}

fn fix(settings: &mut StreamSettings, terms: &[(&str, &str)]) {
    for (name, value) in terms {
        settings
            .filter
            .entry((*name).to_owned())
            .or_default()
            .push((*value).to_owned());
    }
}

fn a_fixed_filter_hides_records_from_everyone() {
    let mut rig = Rig::ready(|settings| fix(settings, &[("header.public", "yes")]));
    let mut live = rig.client(&[]);
    live.items();
    let public = |value: &str| rec("k", value).header("public", "yes");
    rig.records(&[public("1"), rec("k", "secret"), tombstone("k"), public("2")]);
    rig.records(&[rec("k", "secret")]);
    let shown = ["message 1", "message 2"];
    assert_eq!(live.shown(), shown);
    let mut late = rig.client_at(Start::Earliest, &[]);
    assert_eq!(late.shown(), shown);
    let (shown, hidden) = (rig.stream.figures().records, rig.stream.counters().hidden.get());
    assert_eq!((shown, hidden), (2, 3));
    // The position moves past hidden records, so that no resume repeats them.
    let id = late.last_event_id().to_owned();
    rig.records(&[rec("k", "secret"), public("3")]);
    assert_eq!(rig.resume(&id, &[]).shown(), ["message 3"]);
    assert_eq!(live.shown(), ["message 3"]);
}

fn a_fixed_filter_on_a_table_deletes_only_keys_that_were_sent() {
    let mut rig = Rig::ready(|settings| {
        settings.start = Start::Snapshot;
        fix(settings, &[("value.public", "true")]);
    });
    let (public, secret) = (r#"{"public":true}"#, r#"{"public":false}"#);
    let mut client = rig.client(&[]);
    client.items();
    rig.records(&[
        rec("never", secret),
        tombstone("never"),
        rec("a", public),
        rec("b", public),
    ]);
    let first = client.events();
    let names: Vec<&str> = first.iter().map(|event| event.data.as_str()).collect();
    assert_eq!(
        names, [public; 2],
        "a key that was never shown is not named, not even by a delete"
    );
    let id = client.last_event_id().to_owned();
    rig.records(&[
        rec("a", secret),
        rec("a", secret),
        tombstone("a"),
        rec("b", public),
        tombstone("b"),
        tombstone("b"),
    ]);
    let shown = vec![
        "delete {\"key\":\"a\"}".to_owned(),
        format!("message {public}"),
        "delete {\"key\":\"b\"}".to_owned(),
    ];
    assert_eq!(client.shown(), shown, "once, by whatever it went");
    assert_eq!(
        rig.resume(&id, &[]).shown(),
        shown,
        "a resuming client gets the deletes"
    );
    assert_eq!(rig.client(&[]).shown(), [""; 0]);
    rig.records(&[rec("a", public), rec("never", public)]);
    assert_eq!(
        client.shown(),
        [format!("message {public}"), format!("message {public}")]
    );
    assert_eq!(rig.client(&[]).shown().len(), 2);
    assert_eq!(rig.stream.counters().hidden.get(), 5);
}

fn a_clients_filter_is_anded_with_the_fixed_one() {
    for start in [Start::Earliest, Start::Snapshot] {
        let mut rig = Rig::ready(|settings| {
            settings.start = start;
            fix(settings, &[("key", "a"), ("key", "b")]);
        });
        let mut live = rig.client(&[("key", "b"), ("key", "c")]);
        live.items();
        rig.records(&[
            rec("a", "1"),
            rec("b", "2"),
            rec("c", "3"),
            tombstone("c"),
            tombstone("a"),
        ]);
        assert_eq!(live.shown(), ["message 2"]);
        assert_eq!(rig.client(&[("key", "b"), ("key", "c")]).shown(), ["message 2"]);
    }
}
