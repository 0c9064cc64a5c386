//! The checks of what each client received.

use super::script::Script;
use crate::harness::daemon::Daemon;
use crate::harness::followers::{Client, Seen};
use crate::harness::stream::Stream;
use crate::harness::wait::{ensure, eventually_async, secs};

/// The streams that are followed, and the name that each gives to records.
pub(super) const STREAMS: [(&str, &str); 2] = [("events", "message"), ("updates", "update")];

pub(super) const CAUGHT_UP: (&str, &str) = ("caught-up", r#"{"reason":"replay"}"#);

pub(super) const GOODBYE: (&str, &str) = ("goodbye", r#"{"reason":"shutdown"}"#);

/// Each client has been given every record once, in order and with its id, and these control events beside heartbeats.
pub(super) async fn is_as_written<C: Client>(
    clients: &mut [C],
    script: &Script<'_>,
    daemon: &Daemon,
    story: &[(&str, &str)],
) {
    let ids = ids(daemon, script.written.len()).await;
    for (client, (_, name)) in clients.iter_mut().zip(STREAMS) {
        let seen = client.seen().await;
        let expected: Vec<Seen> = script
            .expected(name)
            .into_iter()
            .zip(&ids)
            .map(|((event, data), id)| Seen {
                event,
                data: if client.drops_nul() {
                    data.replace('\0', "")
                } else {
                    data
                },
                id: id.clone(),
            })
            .collect();
        let got = records(&seen);
        if let Some(at) = (0..got.len().max(expected.len())).find(|at| got.get(*at) != expected.get(*at)) {
            panic!("record {at}: {:?}\nnot {:?}", got.get(at), expected.get(at));
        }
        controls(&seen, story);
    }
}

/// Waits until each client fulfils the condition, which also receives the name of its records.
pub(super) async fn until<C: Client>(
    clients: &mut [C],
    what: &str,
    condition: impl Fn(&[Seen], &str) -> Result<(), String>,
) {
    for (client, (_, name)) in clients.iter_mut().zip(STREAMS) {
        eventually_async(secs(60), &format!("{what}, with {name} events"), async || {
            condition(&client.seen().await, name)
        })
        .await;
    }
}

/// Waits until each client has as many records as were written, and has caught up on that many connections.
/// Their values are compared at the end.
pub(super) async fn has_everything<C: Client>(clients: &mut [C], script: &Script<'_>, connections: usize) {
    until(clients, "every record, and caught up", |seen, _| {
        let (count, wanted) = (records(seen).len(), script.written.len());
        let caught_up = named(seen, "caught-up").len();
        ensure(
            count >= wanted && caught_up >= connections,
            format!("{count} of {wanted} records, caught up {caught_up} times of {connections}"),
        )
    })
    .await;
}

/// The ids of the first `count` records.
async fn ids(daemon: &Daemon, count: usize) -> Vec<String> {
    let mut stream = Stream::open(daemon.url("/events")).await.lenient();
    let mut ids = Vec::new();
    while ids.len() < count {
        let event = stream.next(secs(30)).await;
        if matches!(event.name.as_str(), "message" | "delete") {
            ids.push(event.id);
        }
    }
    ids
}

pub(super) fn named<'a>(seen: &'a [Seen], name: &str) -> Vec<&'a Seen> {
    seen.iter().filter(|seen| seen.event == name).collect()
}

const CONTROLS: [&str; 3] = ["caught-up", "heartbeat", "goodbye"];

/// All events except the expected control events: so also an empty event that a comment or `retry` caused, and an
/// unexpected control event.
pub(super) fn records(seen: &[Seen]) -> Vec<Seen> {
    let is_record = |seen: &&Seen| !CONTROLS.contains(&seen.event.as_str());
    seen.iter().filter(is_record).cloned().collect()
}

/// The control events are the expected ones in their order, with the id of the event before.
fn controls(seen: &[Seen], story: &[(&str, &str)]) {
    let controls: Vec<(&str, &str)> = seen
        .iter()
        .filter(|seen| matches!(seen.event.as_str(), "caught-up" | "goodbye"))
        .map(|seen| (seen.event.as_str(), seen.data.as_str()))
        .collect();
    assert_eq!(controls, story);
    for pair in seen.windows(2) {
        if CONTROLS.contains(&pair[1].event.as_str()) {
            assert_eq!(pair[0].id, pair[1].id, "{:?}", pair[1]);
        }
    }
    for beat in named(seen, "heartbeat") {
        let time = serde_json::from_str::<serde_json::Value>(&beat.data).expect("JSON");
        assert!(
            time["time"].as_str().is_some_and(|time| time.ends_with('Z')),
            "{beat:?}"
        );
    }
}
