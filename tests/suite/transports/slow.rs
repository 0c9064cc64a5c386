//! Clients that read slowly or not at all: what happens to each of them is the same over every transport and driver.

use super::{PATIENCE, Setup, Way, on_each};
use crate::common::{is_record, named, records};
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::produce::Message;
use crate::harness::stream::{NoEvent, Stream};
use crate::harness::wait::{block_on, ensure, eventually_async};
use crate::metrics::{EVENTS, figures};
use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    [
        on_each(a_client_that_reads_nothing_is_closed_and_counted),
        on_each(a_slow_client_is_disconnected_and_comes_back),
        on_each(a_slow_client_gets_every_record_from_kafka),
        on_each(a_slow_client_gets_the_latest_values),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// More than sockets, windows and the log hold: 30 MB.
const COUNT: usize = 60;
const BYTES: usize = 500_000;

/// Records with their numbers, of four keys.
fn large(first: usize, count: usize) -> Vec<Message> {
    let value = |number: usize| format!("{number} {}", "x".repeat(BYTES));
    (first..first + count)
        .map(|number| Message::new(format!("k{}", number % 4), value(number)))
        .collect()
}

/// The numbers of records.
fn numbers(records: &[String]) -> Vec<usize> {
    let number = |record: &String| record.split(' ').next()?.parse().ok();
    records
        .iter()
        .map(|record| number(record).expect("a number"))
        .collect()
}

fn setup(way: Way, http: &str, stream: &str) -> Setup {
    let topic = topic_name("slow");
    Broker::shared(Version::V4_4).create_topic(&topic, 1, &[]);
    Setup::of(way, topic, http, &format!("log_bytes = \"1MiB\"\n{stream}"))
}

impl Setup {
    /// A client that has caught up and then reads nothing, while far more is written than can wait for it. Another one
    /// reads all of it meanwhile. Both are returned.
    async fn fall_behind(&self) -> (Stream, Stream) {
        self.daemon.wait_ready(PATIENCE).await;
        let open = Stream::to(self.gateway.url("/events")).receive_buffer(4096);
        let mut slow = open.send().await.expect("a response");
        let mut quick = self.open("").await;
        for stream in [&mut slow, &mut quick] {
            stream.collect_until(named("caught-up"), PATIENCE).await;
        }
        for number in 0..COUNT {
            self.broker.produce(&self.topic, &large(number, 1));
            let events = quick.collect_until(is_record, PATIENCE).await;
            assert_eq!(numbers(&records(&events)), [number]);
        }
        (slow, quick)
    }

    async fn count(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let name = format!("kafka_sse_bridge_{name}");
        figures(&self.daemon)
            .await
            .get(&name, &[&[EVENTS], labels].concat())
    }
}

fn a_client_that_reads_nothing_is_closed_and_counted(way: Way) {
    let setup = setup(way, "write_timeout = \"2s\"", "start = \"live\"");
    block_on(async {
        let (mut slow, mut quick) = setup.fall_behind().await;
        eventually_async(PATIENCE, "it is closed and counted", async || {
            let labels = [("reason", "write-timeout")];
            let count = setup.count("clients_closed_total", &labels).await;
            ensure((count - 1.0).abs() < 0.5, count.to_string())
        })
        .await;
        let timeouts = figures(&setup.daemon)
            .await
            .get("kafka_sse_bridge_connection_write_timeouts_total", &[]);
        assert!((timeouts - 1.0).abs() < 0.5, "{timeouts}");
        let (events, end) = slow.collect_to_end(PATIENCE).await;
        assert!(matches!(end, NoEvent::Broken(_)), "{end}");
        assert!(records(&events).len() < COUNT);
        // The quick one goes on, with HTTP/2 over the same connection.
        setup.broker.produce(&setup.topic, &large(COUNT, 1));
        let events = quick.collect_until(is_record, PATIENCE).await;
        assert_eq!(numbers(&records(&events)), [COUNT]);
        let clients = setup.count("clients", &[]).await;
        assert!((clients - 1.0).abs() < 0.5, "{clients}");
    });
}

fn a_slow_client_is_disconnected_and_comes_back(way: Way) {
    let setup = setup(way, "", "start = \"live\"\nlag = \"disconnect\"");
    block_on(async {
        let (mut slow, _) = setup.fall_behind().await;
        let (events, end) = slow.collect_to_end(PATIENCE).await;
        assert!(matches!(end, NoEvent::Ended), "{end}");
        let last = events.last().expect("a goodbye");
        assert_eq!(
            (last.name.as_str(), last.data.as_str()),
            ("goodbye", r#"{"reason":"slow"}"#)
        );
        let mut all = numbers(&records(&events));
        assert!(all.len() < COUNT);
        // Its id leads to the rest, from Kafka.
        let id = slow.last_event_id().to_owned();
        let mut again = setup.open(&id).await;
        while all.len() < COUNT {
            let events = again.collect_until(is_record, PATIENCE).await;
            all.extend(numbers(&records(&events)));
        }
        assert_eq!(all, (0..COUNT).collect::<Vec<_>>());
    });
}

fn a_slow_client_gets_every_record_from_kafka(way: Way) {
    let setup = setup(way, "", "start = \"live\"\nlag = \"replay\"");
    block_on(async {
        let (mut slow, _) = setup.fall_behind().await;
        let mut all = Vec::new();
        while all.len() < COUNT {
            let events = slow.collect_until(is_record, PATIENCE).await;
            all.extend(numbers(&records(&events)));
        }
        assert_eq!(all, (0..COUNT).collect::<Vec<_>>());
        assert!(setup.count("clients_slow_total", &[]).await > 0.5);
    });
}

fn a_slow_client_gets_the_latest_values(way: Way) {
    let setup = setup(way, "", "start = \"snapshot\"\nlag = \"latest\"");
    block_on(async {
        let (mut slow, _) = setup.fall_behind().await;
        let mut all = Vec::new();
        let mut is_conflated = false;
        while all.last() != Some(&(COUNT - 1)) {
            let event = slow.next(PATIENCE).await;
            is_conflated |= event.is("conflated");
            all.extend(numbers(&records(&[event])));
        }
        assert!(is_conflated && all.len() < COUNT, "{all:?}");
        assert!(all.is_sorted());
        for key in 0..4 {
            let last = all.iter().rfind(|number| **number % 4 == key);
            assert_eq!(last.map(|number| number / 4), Some(COUNT / 4 - 1), "{all:?}");
        }
        assert!(setup.count("clients_conflated_total", &[]).await > 0.5);
    });
}
