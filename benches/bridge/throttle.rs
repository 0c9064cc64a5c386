//! A thousand clients that are throttled on a stream of ten thousand updates a second, beside a thousand
//! clients on a stream that has no more updates than the others are sent.

use crate::Options;
use crate::audience::{Audience, key, value};
use crate::bridge::{Bridge, Launch, PATH};
use crate::harness::broker::{Broker, topic_name};
use crate::measure::{Meter, median, median_ratio};
use crate::report::{Table, at_most, figure};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use std::thread;
use std::time::{Duration, Instant};

const CLIENTS: usize = 1000;
const KEYS: u64 = 1000;
const VALUE: usize = 100;

/// Updates per second of the stream whose clients are throttled, and of the other.
const MANY: u64 = 10_000;
const FEW: u64 = 1000;

/// The interval in which either side's clients are sent every key about once.
const THROTTLE: &str = "?throttle=1s";

/// Records are written in bursts, so that many clients do not cost a write per record.
const BURST: Duration = Duration::from_millis(10);

const ROUND: Duration = Duration::from_secs(5);

/// Most processor time, as a multiple of the clients' without a throttle.
const MOST: f64 = 1.2;

/// The figures of one side, one value per round.
#[derive(Default)]
struct Side {
    /// Processor time per second of a round, in ms.
    cpu: Vec<f64>,
    /// Records that a client is sent per second.
    deliveries: Vec<f64>,
}

/// Writes the records of a topic, whose keys take turns.
struct Source {
    topic: String,
    producer: BaseProducer,
    /// Records per second.
    rate: u64,
    next: u64,
}

impl Source {
    /// Writes `count` records at the rate.
    fn write(&self, count: u64) {
        let bursts = Duration::from_secs(1).as_millis() / BURST.as_millis();
        let burst = self.rate / u64::try_from(bursts).expect("few");
        let mut due = Instant::now();
        for number in (self.next..).take(count.try_into().expect("few")) {
            if (number - self.next).is_multiple_of(burst) {
                thread::sleep(due.saturating_duration_since(Instant::now()));
                due += BURST;
                self.producer.poll(Duration::ZERO);
            }
            let (key, value) = (key(number, KEYS), value(number, 0, VALUE));
            let record = BaseRecord::to(&self.topic).key(&key).payload(&value).partition(0);
            self.producer
                .send(record)
                .unwrap_or_else(|(error, _)| panic!("{error}"));
        }
        self.producer
            .flush(Duration::from_secs(10))
            .expect("records are acknowledged");
    }
}

/// A daemon with a topic of its own, and clients or none.
struct Party {
    source: Source,
    bridge: Bridge,
    audience: Option<Audience>,
    side: Side,
}

impl Party {
    fn new(broker: &Broker, rate: u64, query: Option<&str>) -> Party {
        let topic = topic_name("throttle");
        broker.create_topic(&topic, 1, &[]);
        let bridge = Launch::new(&topic, "snapshot").start(broker);
        let connect = |query| Audience::connect(bridge.port, &format!("{PATH}{query}"), CLIENTS);
        Party {
            audience: query.map(connect),
            source: Source {
                topic,
                producer: broker.client().create().expect("a producer"),
                rate,
                next: 1,
            },
            bridge,
            side: Side::default(),
        }
    }

    fn round(&mut self) {
        let (first, count) = (self.source.next, self.source.rate * ROUND.as_secs());
        let meter = Meter::start(self.bridge.pid());
        let (source, audience) = (&self.source, self.audience.as_mut());
        let deliveries = thread::scope(|scope| {
            let receiving =
                audience.map(|audience| scope.spawn(move || audience.receive_latest(first, count, KEYS)));
            source.write(count);
            receiving.map_or(0, |receiving| receiving.join().expect("all records come"))
        });
        self.source.next += count;
        let seconds = ROUND.as_secs_f64();
        self.side.cpu.push(meter.used().as_secs_f64() * 1e3 / seconds);
        self.side
            .deliveries
            .push(deliveries as f64 / CLIENTS as f64 / seconds);
    }
}

pub fn run(broker: &Broker, options: &Options) {
    let rounds = options.pick(7, 2);
    let mut parties = [
        Party::new(broker, MANY, None),
        Party::new(broker, MANY, Some(THROTTLE)),
        Party::new(broker, FEW, None),
        Party::new(broker, FEW, Some("")),
    ];
    // Warms everything up, and does not count.
    for party in &mut parties {
        party.round();
        party.side = Side::default();
    }
    for _ in 0..rounds {
        parties.iter_mut().for_each(Party::round);
    }
    let [many_alone, throttled, few_alone, plain] = parties.map(|party| party.side);
    let mut table = Table::new(&["", "throttled", "not throttled", "ratio", "target"]);
    let mut row = |name: &str, [ours, theirs]: [&[f64]; 2], most: Option<f64>| {
        let ratio = median_ratio(ours, theirs);
        table.row(&[
            name.to_owned(),
            figure(median(ours)),
            figure(median(theirs)),
            figure(ratio),
            most.map_or_else(String::new, |most| at_most(ratio, most)),
        ]);
    };
    row(
        &format!("processor, ms per s: {CLIENTS} clients"),
        [&throttled.cpu, &plain.cpu],
        Some(MOST),
    );
    row("the same: no clients", [&many_alone.cpu, &few_alone.cpu], None);
    row(
        "records per s and client",
        [&throttled.deliveries, &plain.deliveries],
        None,
    );
    table.print(&format!(
        "throttle: {MANY} updates/s of {KEYS} keys, throttled to 1 s, and {FEW} updates/s; values of {VALUE} bytes, \
         {rounds} rounds of {} s",
        ROUND.as_secs()
    ));
}
