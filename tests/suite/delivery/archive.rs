//! The past of the simulation's Kafka: replays and lookups of offsets, of which one replay at a time is read.

use super::model::Kafka;
use super::setup::{Place, Setup};
use kafka_sse_bridge::kafka::history::{
    Archive, Busy, OffsetLookup, OffsetRange, OffsetSpec, ReplayRequest, ReplaySlot, SlotLimits,
};
use kafka_sse_bridge::kafka::record::{BEGINNING, Batch, Feed};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The limits of a replay: a few records, and a time of the runtime, which passes only while all tasks wait.
pub const TERMS: SlotLimits = SlotLimits {
    max_bytes: 512,
    slow_reader_timeout: Duration::from_millis(10),
};

/// Most records in a batch of a replay.
const BATCH: usize = 7;

/// Kafka, shared between the replicas and the jobs that read its past, of which one at a time has a seat.
#[derive(Clone, Debug)]
pub struct Shared {
    kafka: Arc<Mutex<Kafka>>,
    seats: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

/// A job's seat, once it has one; `None` when that is given up.
type Held = Arc<Mutex<Option<Vec<OwnedSemaphorePermit>>>>;

impl Shared {
    pub fn new(setup: Setup) -> Self {
        Self {
            kafka: Arc::new(Mutex::new(Kafka::new(setup))),
            seats: Arc::new(Semaphore::new(1)),
            waiting: Arc::default(),
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, Kafka> {
        self.kafka.lock().unwrap()
    }

    /// Waits for a seat; false when it is not wanted any more.
    async fn sit(&self, job: &ReplayRequest, held: &Held) -> bool {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let permit = tokio::select! {
            // Without chance.
            biased;
            permit = Arc::clone(&self.seats).acquire_owned() => permit.ok(),
            () = job.feed.closed() => None,
        };
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        match (held.lock().unwrap().as_mut(), permit) {
            (Some(held), Some(permit)) => {
                held.push(permit);
                true
            }
            _ => false,
        }
    }
}

impl Archive for Shared {
    fn replay(&self, request: ReplayRequest) -> Result<ReplaySlot, Busy> {
        let mut kafka = self.lock();
        if kafka.is_busy {
            return Err(Busy);
        }
        kafka.jobs += 1;
        let failures = kafka.failures;
        drop(kafka);
        let held: Held = Arc::new(Mutex::new(Some(Vec::new())));
        let seat = ReplaySlot::new(TERMS, {
            let held = Arc::clone(&held);
            move || drop(held.lock().unwrap().take())
        });
        let kafka = self.clone();
        tokio::spawn(async move {
            if kafka.sit(&request, &held).await {
                // The channel is dropped in the end, or before where nobody listens or the request fails.
                let _ = read(&kafka, request, failures).await;
            }
            kafka.lock().jobs -= 1;
        });
        Ok(seat)
    }

    fn is_contended(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    fn look_up(&self, lookup: OffsetLookup) -> Result<(), Busy> {
        let mut kafka = self.lock();
        if kafka.is_busy {
            return Err(Busy);
        }
        kafka.jobs += 1;
        drop(kafka);
        let kafka = self.clone();
        tokio::spawn(async move {
            tokio::task::yield_now().await;
            lookup.is_started.store(true, Ordering::SeqCst);
            let ends = |(topic, (_, asks)): (usize, &(Arc<str>, Vec<OffsetSpec>))| {
                let places = (0..asks.len()).map(|partition| Place { topic, partition });
                let kafka = kafka.lock();
                places
                    .map(|place| {
                        let end = kafka.has_leader(place).then(|| kafka.high(place));
                        i64::try_from(end?).ok()
                    })
                    .collect()
            };
            let ends = lookup.topics.iter().enumerate().map(ends).collect();
            tokio::task::yield_now().await;
            (lookup.reply)(Ok(ends));
            kafka.lock().jobs -= 1;
        });
        Ok(())
    }

    fn lacks_times_and_headers(&self) -> bool {
        false
    }
}

/// Reads as the history pool does: ranges in small batches, and a word where retention is ahead.
async fn read(kafka: &Shared, job: ReplayRequest, failures: usize) -> Option<()> {
    let mut next: Vec<Vec<usize>> = vec![Vec::new(); job.topics.len()];
    let mut turn = 0;
    for is_first in std::iter::once(true).chain(std::iter::repeat(false)) {
        let mut feeds = Vec::new();
        {
            let kafka = kafka.lock();
            if kafka.failures != failures {
                return None;
            }
            for (topic, (name, ranges)) in job.topics.iter().enumerate() {
                let (from, low) = begun(&kafka, topic, ranges, &next[topic]);
                if is_first || from != next[topic] {
                    feeds.push(Feed::Assigned {
                        topic: Arc::clone(name),
                        id: None,
                        next: offsets(&from),
                        low,
                    });
                    next[topic] = from;
                }
            }
            // The topics' and partitions' turns come one after the other.
            let places: Vec<(Place, OffsetRange)> = pending(&kafka, &job, &next);
            match places.get(turn % places.len().max(1)) {
                Some((place, range)) => {
                    turn += 1;
                    let next = &mut next[place.topic][place.partition];
                    let mut batch = Batch::new(Arc::clone(&job.topics[place.topic].0));
                    // A fetch goes past the range where there is more.
                    let to = usize::try_from(range.to).unwrap() + 2;
                    while let Some(offset) = kafka.next(*place, *next, to)
                        && batch.len() < BATCH
                    {
                        kafka.push(&mut batch, *place, offset);
                        *next = offset + 1;
                    }
                    feeds.push(Feed::Records(Arc::new(batch)));
                }
                None => feeds.extend(job.topics.iter().map(|(name, _)| Feed::Loaded {
                    topic: Arc::clone(name),
                })),
            }
        }
        let is_done = matches!(feeds.last(), Some(Feed::Loaded { .. }));
        for feed in feeds {
            job.feed.send(feed).await.ok()?;
        }
        if is_done {
            return Some(());
        }
        tokio::task::yield_now().await;
    }
    None
}

/// Where reading a topic begins, or goes on, and the first offsets there are.
fn begun(kafka: &Kafka, topic: usize, ranges: &[OffsetRange], known: &[usize]) -> (Vec<usize>, Vec<i64>) {
    let from = |(partition, range): (usize, &OffsetRange)| {
        let place = Place { topic, partition };
        let wanted = known
            .get(partition)
            .map_or(range.from, |&next| i64::try_from(next).unwrap());
        let low = i64::try_from(kafka.low(place)).unwrap();
        let high = i64::try_from(kafka.high(place)).unwrap();
        // Never beyond the range: what lies behind it is not the job's to skip to.
        usize::try_from(wanted.max(low).min(range.to).max(0).min(high)).unwrap()
    };
    let low =
        (0..ranges.len()).map(|partition| i64::try_from(kafka.low(Place { topic, partition })).unwrap());
    (ranges.iter().enumerate().map(from).collect(), low.collect())
}

/// Partitions with records that are still to be read.
fn pending(kafka: &Kafka, job: &ReplayRequest, next: &[Vec<usize>]) -> Vec<(Place, OffsetRange)> {
    let mut places = Vec::new();
    for (topic, (_, ranges)) in job.topics.iter().enumerate() {
        for (partition, range) in ranges.iter().enumerate() {
            let place = Place { topic, partition };
            let to = usize::try_from(range.to).unwrap_or(0);
            if kafka.next(place, next[topic][partition], to).is_some() {
                places.push((place, *range));
            }
        }
    }
    places
}

pub fn offsets(offsets: &[usize]) -> Vec<i64> {
    offsets
        .iter()
        .map(|&offset| i64::try_from(offset).unwrap_or(BEGINNING))
        .collect()
}
