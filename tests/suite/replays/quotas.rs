//! Clients over their quota of replays: they wait with their streams open, and nobody else does.

use super::{Browser, Kafka, Rig, records};
use crate::common::{config, is_record, records as shown, until_records};
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::daemon::Daemon;
use crate::harness::process::Signal;
use crate::harness::produce::Message;
use crate::harness::stream::Stream;
use crate::harness::wait::{block_on, ensure, eventually, eventually_async, millis, secs};
use crate::harness::{on_broker, promise};
use kafka_sse_bridge::kafka::history::Archive;
use kafka_sse_bridge::kafka::history::fair_queue::Flow;
use kafka_sse_bridge::kafka::history::quota::QuotaLimits;
use libtest_mimic::Trial;
use serde_json::Value;
use tokio::time::timeout;

pub fn trials() -> Vec<Trial> {
    vec![
        promise(a_client_over_its_quota_waits_and_then_gets_every_record),
        promise(hidden_records_of_more_than_a_quota_are_read_once),
        promise(a_client_never_waits_for_the_quota_of_another_one),
        promise(a_replay_is_paid_for_by_one_of_its_readers),
        on_broker(
            Version::V4_4,
            streams_over_a_quota_stay_open_and_others_are_not_delayed,
        ),
    ]
}

const HOG: Flow = Flow(1);
const OTHER: Flow = Flow(2);
const FRESH: Flow = Flow(3);

/// 48 MiB of records, and a third of that for each client.
fn rig() -> (Rig, i64) {
    let end = records(48 << 20);
    let kafka = Kafka {
        end,
        ..Kafka::default()
    };
    let limits = QuotaLimits {
        per_flow: 16 << 20,
        in_all: 0,
    };
    (Rig::within(kafka, limits), end)
}

fn lift(rig: &Rig) {
    rig.quota.set(QuotaLimits::default());
    rig.history.quota_changed();
}

fn await_hog(rig: &Rig) {
    eventually(secs(20), "it waits for its quota", || {
        let load = rig.history.load();
        ensure(load.over_flow_quota == 1, format!("{load:?}"))
    });
}

/// Reads until the next replay of the client waits for its quota.
async fn use_up(rig: &Rig, client: &mut Browser) {
    let reading = timeout(secs(20), async {
        while rig.history.load().over_flow_quota == 0 {
            let _ = timeout(millis(100), client.piece()).await;
        }
    });
    reading.await.expect("the quota is used up");
}

fn a_client_over_its_quota_waits_and_then_gets_every_record() {
    let (rig, end) = rig();
    block_on(async {
        let mut client = rig.client_of(HOG, 0);
        // It gets what was read, and has taken all of it before it asks for more.
        use_up(&rig, &mut client).await;
        let read = client.next;
        assert!((records(15 << 20)..records(20 << 20)).contains(&read), "{read}");
        lift(&rig);
        timeout(secs(60), client.until(end))
            .await
            .expect("it gets the rest");
    });
}

fn hidden_records_of_more_than_a_quota_are_read_once() {
    const TURN: u64 = 16 << 20;
    let per_flow = |bytes: u64| QuotaLimits {
        per_flow: bytes,
        in_all: 0,
    };
    // More than two turns of records that the stream hides, and few after them.
    let (first, end) = (records(36 << 20), records(40 << 20));
    let kafka = Kafka {
        end,
        rare: Some(first),
        ..Kafka::default()
    };
    let rig = Rig::with(kafka, per_flow(TURN), |settings| {
        settings.filter.insert("key".to_owned(), vec!["rare".to_owned()]);
    });
    block_on(async {
        let mut client = rig.client_of(HOG, 0);
        client.next = first;
        for turn in 1..=2 {
            use_up(&rig, &mut client).await;
            assert_eq!(client.next, first, "nothing is shown yet");
            // A changed quota begins anew.
            rig.quota.set(per_flow(TURN + turn));
            rig.history.quota_changed();
        }
        timeout(secs(20), client.until(end))
            .await
            .expect("it gets what is shown");
        assert_eq!(rig.connects(), 3, "each record was read once");
    });
}

fn a_client_never_waits_for_the_quota_of_another_one() {
    let (rig, end) = rig();
    rig.quota.charge(HOG, 1 << 40, std::time::Instant::now());
    block_on(async {
        let mut hog = rig.client_of(HOG, 0);
        await_hog(&rig);
        // Near enough to share its replay.
        let mut other = rig.client_of(OTHER, 10);
        timeout(secs(20), other.until(records(8 << 20)))
            .await
            .expect("it has its own");
        await_hog(&rig);
        // The position it read to is near enough to be shared further on.
        drop(other);
        eventually(secs(20), "no replay runs", || {
            ensure(
                rig.history.load().running == 0,
                format!("{:?}", rig.history.load()),
            )
        });
        // The other way round there is nothing to wait for once a replay runs. Nobody reads before both are there: what
        // all readers have taken may be dropped.
        let (from, connects) = (end - records(8 << 20), rig.connects());
        let mut third = rig.client_of(FRESH, from);
        eventually(secs(20), "it has a replay of its own", || {
            ensure(rig.connects() > connects, format!("{:?}", rig.history.load()))
        });
        let mut rider = rig.client_of(HOG, from);
        timeout(secs(20), async {
            tokio::join!(third.until(from + 1), rider.until(from + 1))
        })
        .await
        .expect("both read");
        lift(&rig);
        timeout(secs(60), hog.until(records(1 << 20)))
            .await
            .expect("at last");
    });
}

fn a_replay_is_paid_for_by_one_of_its_readers() {
    let (rig, end) = rig();
    let from = end - records(6 << 20);
    block_on(async {
        let mut first = rig.client_of(HOG, from);
        let mut second = rig.client_of(OTHER, from);
        timeout(secs(20), async {
            tokio::join!(first.until(from + 1), second.until(from + 1))
        })
        .await
        .expect("both read");
        assert_eq!(rig.connects(), 1, "they share one");
        drop(first);
        let paid = rig.quota.read();
        timeout(secs(20), second.until(end)).await.expect("it reads on");
        assert_eq!(rig.connects(), 1);
        let read = u64::try_from(end - from).expect("small") * (4096 + 32);
        eventually(secs(20), "each record is paid for once", || {
            ensure(
                rig.quota.read() == read,
                format!("{} of {read}", rig.quota.read()),
            )
        });
        assert!(paid < read, "the first one has left before the end");
    });
}

/// Records of a megabyte: more than the quota of a client, and some more than all.
const RECORDS: usize = 24;
const QUOTA: &str = "max_replay_bytes_per_minute_per_client = \"16MiB\"";

fn streams_over_a_quota_stay_open_and_others_are_not_delayed(broker: &Broker) {
    let topic = topic_name("quota");
    broker.create_topic(&topic, 1, &[("max.message.bytes", "2000000")]);
    let value = |number: usize| format!("{number} {}", "x".repeat(1_000_000));
    let messages: Vec<Message> = (0..RECORDS).map(|number| Message::value(value(number))).collect();
    broker.produce(&topic, &messages);
    let number = |record: &String| -> usize {
        let first = record.split(' ').next();
        first.and_then(|number| number.parse().ok()).expect("a number")
    };

    let with = |http: &str| {
        let text = config(broker, &[&topic], "start = \"earliest\"\nlog_bytes = \"512KiB\"");
        let http = format!("[http]\nkeepalive = \"1s\"\n{http}\n");
        text.replacen("[http]\n", &http, 1)
    };
    let daemon = Daemon::start(&with(QUOTA));
    block_on(async {
        daemon.wait_ready(secs(60)).await;
        let open = async |address: &str, id: &str| {
            let open = Stream::to(daemon.url("/events")).source(address);
            open.last_event_id(id).send().await.expect("it opens")
        };
        let state = async || -> Value {
            let text = daemon.get("/streams").await.text();
            serde_json::from_str::<Value>(&text).expect("JSON")["kafka"]["replays"].clone()
        };
        let mut hog = open("127.0.0.2", "").await;
        let mut read = shown(&hog.collect_until(until_records(15), secs(60)).await);
        while state().await["over_quota"]["client"] == 0 {
            if let Ok(event) = hog.try_next(secs(1)).await
                && is_record(&event)
            {
                read.push(event.data);
            }
        }
        assert!((16..RECORDS).contains(&read.len()), "{}", read.len());
        hog.next_comment(secs(20)).await.expect("a keepalive");
        let metrics = daemon.get("/metrics").await.text();
        for line in [
            "kafka_sse_bridge_replays_over_quota{quota=\"client\"} 1",
            "kafka_sse_bridge_replay_quotas_used_up_total{quota=\"client\"} 1",
            "kafka_sse_bridge_replays_waiting 0",
        ] {
            assert!(metrics.contains(line), "{line}: {metrics}");
        }
        daemon.wait_log("a client has used up its quota of replays", secs(20));

        // Another client is not affected, whether or not it could share the replay that waits.
        let id = hog.last_event_id().to_owned();
        for id in ["", &id] {
            let from = if id.is_empty() { 0 } else { read.len() };
            let mut other = open(&format!("127.0.0.{}", 3 + from), id).await;
            let records = shown(
                &other
                    .collect_until(until_records(8.min(RECORDS - from)), secs(60))
                    .await,
            );
            assert_eq!(records.first().map(number), Some(from));
        }
        assert_eq!(state().await["over_quota"]["client"], 1, "the first one waits");

        daemon.rewrite_config(&with(""));
        daemon.signal(Signal::HUP);
        daemon.wait_log("reloaded: http.max_replay_bytes_per_minute_per_client", secs(20));
        let left = RECORDS - read.len();
        read.extend(shown(&hog.collect_until(until_records(left), secs(60)).await));
        assert_eq!(
            read.iter().map(number).collect::<Vec<_>>(),
            (0..RECORDS).collect::<Vec<_>>()
        );
        eventually_async(secs(20), "nobody waits", async || {
            let state = state().await;
            ensure(state["over_quota"]["client"] == 0, state.to_string())
        })
        .await;
    });
}
