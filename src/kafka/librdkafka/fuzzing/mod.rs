//! Target of the fuzzer: batches of records as brokers send them, through librdkafka and the reader of its batches.
//!
//! `broker` answers the library's own requests over a loopback port, with the bytes of each case as the records of one
//! partition and a record that ends the case in another.

mod broker;
mod reference;

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use self::broker::{Broker, CASES, ENDS, TOPIC};
use self::reference::Expected;
use super::fetch_handle::{AssignError, FetchHandle, push};
use super::handle_factory::HandleFactory;
use crate::config::{Client, Isolation, KafkaSettings};
use crate::kafka::batcher::Batcher;
use crate::kafka::connection::{Connection, Purpose};
use crate::kafka::pulse::Pulse;
use crate::kafka::record::{Feed, Record};
use crate::kafka::security::Credentials;

/// How long a case may take on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long one call waits.
const WAIT: Duration = Duration::from_millis(100);

/// From this offset on the next partition has the cases: a batch may claim the last one that there is.
const FAR: i64 = 1 << 40;

/// A client of the broker.
struct Reader {
    /// First, so that it has ended when the client does: that waits for its answers.
    broker: Broker,
    /// The partition of the next case.
    partition: i32,
    fetch: FetchHandle,
    batcher: Batcher,
    feeds: mpsc::Receiver<Feed>,
}

thread_local! {
    static READER: RefCell<Option<Reader>> = const { RefCell::new(None) };
}

impl Reader {
    fn start() -> Self {
        let broker = Broker::start().expect("a loopback port");
        let connection = Connection {
            brokers: vec![broker.address()],
            client: Client::Librdkafka,
            isolation: Isolation::ReadUncommitted,
            credentials: Credentials::new(&KafkaSettings::default()),
            // A malformed batch is fetched again at once.
            librdkafka: [("fetch.error.backoff.ms", "0"), ("fetch.queue.backoff.ms", "0")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            needs_headers: true,
            needs_librdkafka: None,
        };
        let factory = HandleFactory::new(&connection, Purpose::Live).expect("settings");
        let (sender, feeds) = mpsc::channel(1 << 10);
        let mut batcher = Batcher::new([(Arc::from(TOPIC), vec![sender])]);
        let starts = vec![0; ENDS as usize + 1];
        batcher.assign(TOPIC, None, starts.clone(), starts);
        let mut fetch = FetchHandle::new(&factory).expect("a handle");
        match fetch.assign(&batcher, |_| false, false, &Pulse::default()) {
            Ok(is_whole) => assert!(is_whole),
            Err(AssignError::Library(what, error)) => unreachable!("{what}: {error}"),
            Err(AssignError::NoQueue(_) | AssignError::Interrupted) => unreachable!("nobody interrupts it"),
        }
        Self {
            broker,
            partition: 0,
            fetch,
            batcher,
            feeds,
        }
    }

    /// Reads a case to its end. `check` is called for each of its records.
    fn read(&mut self, case: broker::Case, mut check: impl FnMut(&Record<'_>)) {
        let (place, end) = (self.partition, self.broker.send(self.partition, case));
        let is_over = AtomicBool::new(false);
        let until = Instant::now() + PATIENCE;
        while !is_over.load(Ordering::Relaxed) {
            assert!(Instant::now() < until, "the batch did not end");
            let batcher = &mut self.batcher;
            self.fetch.queue.take(WAIT, |fetched| {
                assert_eq!(fetched.topic(), TOPIC);
                if fetched.is_end() {
                    return;
                }
                if let Some((_, text)) = fetched.error() {
                    assert!(!text.is_empty());
                    return;
                }
                assert!(fetched.offset() >= 0);
                if fetched.partition() == ENDS {
                    is_over.fetch_or(fetched.value() == Some(&end), Ordering::Relaxed);
                } else {
                    assert_eq!(fetched.partition(), place);
                }
                push(batcher, &fetched, true);
            });
        }
        self.batcher.flush();
        while let Ok(feed) = self.feeds.try_recv() {
            if let Feed::Records(batch) = feed {
                let of_case = batch
                    .iter()
                    .filter(|record| record.partition.cast_signed() == place);
                of_case.for_each(|record| check(&record));
            }
        }
    }
}

/// Any bytes that a broker sends as records are read as the records that they are, or are an error of their partition;
/// nothing beyond them is read. The first byte says whether they are raw or the records of a batch whose count and attributes
/// are the next two bytes.
pub(crate) fn batches(data: &[u8]) {
    let Some((&[how, count, attributes], bytes)) = data.split_first_chunk() else {
        return;
    };
    READER.with_borrow_mut(|reader| {
        let reader = reader.get_or_insert_with(Reader::start);
        let next = reader
            .batcher
            .next_offset(TOPIC, reader.partition.cast_unsigned())
            .unwrap_or(0);
        let case = if how & 1 == 0 {
            broker::Case::Batch {
                count,
                attributes,
                records: bytes.to_vec(),
            }
        } else {
            broker::Case::Raw(data.get(1..).unwrap_or_default().to_vec())
        };
        if !case.is_survived() {
            return;
        }
        let mut expected = match &case {
            broker::Case::Batch { records, .. } => Expected::of(records),
            broker::Case::Raw(_) => Expected::any(),
        };
        let mut last = next - 1;
        reader.read(case, |record| {
            assert!(record.offset > last);
            last = record.offset;
            expected.meet(record);
        });
    });
    READER.with_borrow_mut(|reader| {
        let Some(known) = reader.as_mut().filter(|reader| reader.broker.offset() >= FAR) else {
            return;
        };
        known.partition += 1;
        if known.partition == CASES {
            *reader = None;
        }
    });
}
