//! The promises of delivery, over TLS and over HTTP/2.

use crate::common::{config, expected, is_record, named, numbered, of_partition, records, until_records};
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::certificates::Certificates;
use crate::harness::daemon::Daemon;
use crate::harness::gateway::{Gateway, Transport};
use crate::harness::process::Signal;
use crate::harness::produce::Message;
use crate::harness::stream::{NoEvent, Stream};
use crate::harness::wait::{block_on, secs};
use crate::harness::{name_of, trial};
use libtest_mimic::Trial;
use std::sync::Arc;
use std::time::Duration;

const PATIENCE: Duration = secs(30);

pub fn trials() -> Vec<Trial> {
    [
        on_each(every_record_arrives_once_and_in_order),
        on_each(a_client_resumes_where_it_was),
        on_each(a_snapshot_is_followed_by_every_update),
        on_each(a_shutdown_is_announced),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The same test once per transport: `name_over_tls@4.4.0`.
fn on_each(test: impl Fn(Transport) + Copy + Send + 'static) -> Vec<Trial> {
    let on = |transport: Transport| {
        let name = format!("{}_over_{}@{}", name_of(&test), transport.name(), Version::V4_4);
        trial(name, move || test(transport))
    };
    Transport::ALL.map(on).into()
}

/// A daemon that reads a topic of its own, and the gateway to it.
struct Setup {
    daemon: Daemon,
    gateway: Gateway,
    broker: Arc<Broker>,
    topic: String,
}

impl Setup {
    fn new(transport: Transport, partitions: i32, stream: &str) -> Setup {
        let broker = Broker::shared(Version::V4_4);
        let topic = topic_name("transports");
        broker.create_topic(&topic, partitions, &[]);
        let certificates = Certificates::new();
        let text = config(&broker, &[&topic], stream);
        let text = text.replacen("[http]\n", "[http]\nhttp2 = true\n", 1);
        let daemon = Daemon::start(&certificates.behind(&text, ""));
        let port = match transport {
            Transport::Http2 => daemon.port(),
            Transport::Tls | Transport::TlsHttp2 => daemon.tls_port(),
        };
        let gateway = Gateway::start(transport, port, &certificates.ca());
        Setup {
            daemon,
            gateway,
            broker,
            topic,
        }
    }

    async fn open(&self, last_event_id: &str) -> Stream {
        let stream = Stream::to(self.gateway.url("/events"))
            .last_event_id(last_event_id)
            .send()
            .await
            .expect("a response");
        assert_eq!(stream.status, 200);
        stream
    }
}

fn every_record_arrives_once_and_in_order(transport: Transport) {
    const EACH: usize = 5000;
    let setup = Setup::new(transport, 2, "start = \"earliest\"");
    block_on(async {
        // The first half is history, the second arrives meanwhile.
        for partition in 0..2 {
            setup
                .broker
                .produce(&setup.topic, &numbered(partition, 0, EACH / 2));
        }
        setup.daemon.wait_ready(PATIENCE).await;
        let mut streams = Vec::new();
        for _ in 0..5 {
            streams.push(setup.open("").await);
        }
        for partition in 0..2 {
            setup
                .broker
                .produce(&setup.topic, &numbered(partition, EACH / 2, EACH / 2));
        }
        for stream in &mut streams {
            let events = stream.collect_until(until_records(2 * EACH), PATIENCE).await;
            let records = records(&events);
            assert_eq!(records.len(), 2 * EACH);
            for partition in 0..2 {
                assert_eq!(of_partition(&records, partition), expected(partition, EACH));
            }
        }
    });
}

fn a_client_resumes_where_it_was(transport: Transport) {
    const ALL: usize = 3000;
    let setup = Setup::new(transport, 1, "start = \"earliest\"");
    block_on(async {
        setup.broker.produce(&setup.topic, &numbered(0, 0, ALL));
        setup.daemon.wait_ready(PATIENCE).await;
        let mut all = Vec::new();
        let mut id = String::new();
        while all.len() < ALL {
            let mut stream = setup.open(&id).await;
            let some = 700.min(ALL - all.len());
            let events = stream.collect_until(until_records(some), PATIENCE).await;
            all.extend(records(&events));
            stream.last_event_id().clone_into(&mut id);
        }
        assert_eq!(all, expected(0, ALL));
    });
}

fn a_snapshot_is_followed_by_every_update(transport: Transport) {
    let setup = Setup::new(transport, 1, "start = \"snapshot\"");
    block_on(async {
        let row = |key: &str, value: &str| Message::new(key, value);
        setup
            .broker
            .produce(&setup.topic, &[row("a", "1"), row("b", "1"), row("a", "2")]);
        setup.daemon.wait_ready(PATIENCE).await;
        let mut stream = setup.open("").await;
        let events = stream.collect_until(named("caught-up"), PATIENCE).await;
        assert_eq!(records(&events), ["1", "2"]);
        setup.broker.produce(&setup.topic, &[row("b", "2")]);
        let events = stream.collect_until(is_record, PATIENCE).await;
        assert_eq!(records(&events), ["2"]);
        setup.broker.produce(&setup.topic, &[Message::tombstone("a")]);
        stream.collect_until(named("delete"), PATIENCE).await;
    });
}

fn a_shutdown_is_announced(transport: Transport) {
    let mut setup = Setup::new(transport, 1, "start = \"live\"");
    block_on(async {
        setup.daemon.wait_ready(PATIENCE).await;
        let mut stream = setup.open("").await;
        stream.collect_until(named("caught-up"), PATIENCE).await;
        setup.daemon.signal(Signal::TERM);
        let (events, end) = stream.collect_to_end(PATIENCE).await;
        assert!(events.iter().any(|event| event.name == "goodbye"), "{events:?}");
        assert!(matches!(end, NoEvent::Ended), "{end}");
    });
    assert!(setup.daemon.wait_exit(secs(20)).success());
}
