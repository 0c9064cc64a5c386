//! Records at a steady pace, each stamped with the time at which it was handed to the producer.

use crate::audience::{Receipts, Receive, key, value};
use crate::harness::broker::{Broker, topic_name};
use crate::measure::now;
use crate::topics;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use std::thread;
use std::time::{Duration, Instant};

/// The records of a source.
#[derive(Clone, Copy)]
pub struct Flow {
    /// Bytes of a record's value.
    pub length: usize,
    /// From one record to the next.
    pub pause: Duration,
    /// How many keys take turns; `None` is no key at all.
    pub keys: Option<u64>,
}

/// Topics of one partition that take turns, mostly one, whose records are numbered from 1 on through all rounds.
pub struct Source {
    pub topics: Vec<String>,
    producer: BaseProducer,
    flow: Flow,
    next: u64,
}

impl Source {
    /// Creates a topic, and a producer that sends every record at once.
    pub fn new(broker: &Broker, hint: &str, flow: Flow) -> Source {
        Source::over(broker, hint, flow, 1)
    }

    /// The same with `count` topics: record `n` goes to the topic at `n % count`.
    pub fn over(broker: &Broker, hint: &str, flow: Flow, count: usize) -> Source {
        let topics: Vec<String> = (0..count).map(|_| topic_name(hint)).collect();
        topics::create(broker, &topics);
        let mut client = broker.client();
        client.set("linger.ms", "0").set("socket.nagle.disable", "true");
        Source {
            topics,
            producer: client.create().expect("a producer"),
            flow,
            next: 1,
        }
    }

    /// The topic, or the first one.
    pub fn topic(&self) -> &str {
        &self.topics[0]
    }

    /// Writes the next `count` records, and returns what each of the audiences received meanwhile,
    /// when the last has all that is meant for it.
    pub fn round<const N: usize>(&mut self, count: usize, audiences: [&mut dyn Receive; N]) -> [Receipts; N] {
        let first = self.next;
        self.next += count as u64;
        let source = &*self;
        thread::scope(|scope| {
            let receiving = audiences.map(|audience| scope.spawn(move || audience.receive(first, count)));
            source.write(first, count);
            receiving.map(|receiving| receiving.join().expect("all records come"))
        })
    }

    fn write(&self, first: u64, count: usize) {
        let mut due = Instant::now();
        let turns = self.topics.iter().cycle().skip(index(first, self.topics.len()));
        for (number, topic) in (first..).zip(turns).take(count) {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            due += self.flow.pause;
            let value = value(number, now(), self.flow.length);
            let key = self.flow.keys.map(|keys| key(number, keys));
            let mut record = BaseRecord::<str, str>::to(topic).payload(&value).partition(0);
            record.key = key.as_deref();
            self.producer
                .send(record)
                .unwrap_or_else(|(error, _)| panic!("{error}"));
            self.producer.poll(Duration::ZERO);
        }
        // The first records of five hundred new topics take twenty seconds.
        let more_topics = u32::try_from(self.topics.len() - 1).expect("few");
        self.producer
            .flush(Duration::from_secs(10) + Duration::from_millis(100) * more_topics)
            .expect("records are acknowledged");
    }
}

/// On whose turn a record is.
fn index(number: u64, turns: usize) -> usize {
    usize::try_from(number).expect("a small number") % turns
}
