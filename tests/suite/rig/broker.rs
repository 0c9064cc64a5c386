//! A Kafka in memory, which history is read from.

use super::{Rec, rec};
use kafka_sse_bridge::kafka::history::{
    Archive, Busy, OffsetLookup, OffsetRange, OffsetSpec, ReplayRequest, ReplaySlot, SlotLimits,
};
use kafka_sse_bridge::kafka::record::{Batch, Feed};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The records by topic, partition and offset.
#[derive(Debug, Default)]
pub struct MemoryBroker {
    pub(super) records: Mutex<Vec<Vec<Vec<Rec>>>>,
    /// The first offset that every partition still holds.
    pub(super) low: Mutex<Vec<Vec<i64>>>,
    /// How often history was read.
    pub reads: AtomicUsize,
}

impl MemoryBroker {
    /// With so many partitions per topic, all of them empty.
    pub fn new(partitions: &[usize]) -> Arc<Self> {
        Arc::new(Self {
            records: Mutex::new(partitions.iter().map(|&count| vec![Vec::new(); count]).collect()),
            low: Mutex::new(partitions.iter().map(|&count| vec![0; count]).collect()),
            ..Self::default()
        })
    }

    /// Puts so many records into every partition.
    pub(super) fn fill(&self, counts: &[Vec<usize>]) {
        let numbered = |(partition, count): (u32, &usize)| {
            let numbered = |number| rec("k", format!("past-{number}")).partition(partition);
            (0..*count).map(numbered).collect()
        };
        let of_topic = |counts: &Vec<usize>| (0..).zip(counts).map(numbered).collect();
        self.set_records(counts.iter().map(of_topic).collect());
    }

    pub(super) fn set_records(&self, records: Vec<Vec<Vec<Rec>>>) {
        *self.records.lock().unwrap() = records;
    }

    /// All records, by topic, partition and offset.
    pub fn records(&self) -> Vec<Vec<Vec<Rec>>> {
        self.records.lock().unwrap().clone()
    }

    fn feeds(&self, request: &ReplayRequest) -> Vec<Feed> {
        let (topics, low) = (self.records.lock().unwrap(), self.low.lock().unwrap());
        let mut feeds = Vec::new();
        for ((name, ranges), (records, low)) in request.topics.iter().zip(topics.iter().zip(&*low)) {
            let from = |(range, low): (&OffsetRange, &i64)| range.from.max((*low).min(range.to));
            let next: Vec<i64> = ranges.iter().zip(low).map(from).collect();
            feeds.push(Feed::Assigned {
                topic: Arc::clone(name),
                id: None,
                next: next.clone(),
                low: low.clone(),
            });
            for ((range, records), next) in ranges.iter().zip(records).zip(next) {
                let wanted = (0..)
                    .zip(records)
                    .filter(|(offset, _)| (next..range.to).contains(offset));
                // Small batches, so that a replay takes several turns.
                for piece in wanted.collect::<Vec<_>>().chunks(7) {
                    let mut batch = Batch::new(Arc::clone(name));
                    for (offset, record) in piece {
                        record.push(&mut batch, *offset);
                    }
                    feeds.push(Feed::Records(Arc::new(batch)));
                }
            }
        }
        feeds.extend(request.topics.iter().map(|(topic, _)| Feed::Loaded {
            topic: Arc::clone(topic),
        }));
        feeds
    }
}

impl Archive for MemoryBroker {
    fn replay(&self, request: ReplayRequest) -> Result<ReplaySlot, Busy> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let feeds = self.feeds(&request);
        tokio::spawn(async move {
            for feed in feeds {
                if request.feed.send(feed).await.is_err() {
                    return;
                }
            }
        });
        let terms = SlotLimits {
            max_bytes: usize::MAX,
            slow_reader_timeout: Duration::from_secs(3600),
        };
        Ok(ReplaySlot::new(terms, || {}))
    }

    fn is_contended(&self) -> bool {
        false
    }

    fn look_up(&self, lookup: OffsetLookup) -> Result<(), Busy> {
        let topics = self.records.lock().unwrap();
        let end = |records: &Vec<Rec>| i64::try_from(records.len()).expect("few");
        let answer = |(ask, records): (&OffsetSpec, &Vec<Rec>)| match ask {
            OffsetSpec::Skip => None,
            OffsetSpec::Latest => Some(end(records)),
            OffsetSpec::Timestamp(time) => {
                let found = (0..)
                    .zip(records)
                    .find(|(_, record)| record.timestamp >= Some(*time));
                Some(found.map_or(end(records), |(offset, _)| offset))
            }
        };
        let asked = lookup.topics.iter().zip(&*topics);
        let offsets = asked.map(|((_, asks), topic)| asks.iter().zip(topic).map(answer).collect());
        let offsets = offsets.collect();
        drop(topics);
        lookup.is_started.store(true, Ordering::SeqCst);
        (lookup.reply)(Ok(offsets));
        Ok(())
    }

    fn lacks_times_and_headers(&self) -> bool {
        false
    }
}
