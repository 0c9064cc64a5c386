//! Reads of a stream from Kafka for single clients: replays and offset lookups, shared by clients that need the same.

use std::fmt;
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};

use super::counters::Counters;
use super::lookup::{Lookup, PendingLookup, Query};
use super::position::Position;
use super::replay::{Replay, ReplayReader};
use super::replay_writer::{self, ReplayTask};
use crate::config::StreamSettings;
use crate::kafka::history::fair_queue::Flow;
use crate::kafka::history::{Archive, Busy};

/// Runs the task that writes a replay, where it holds up no client.
pub type SpawnReplay = Box<dyn Fn(ReplayTask) + Send + Sync>;

/// The past of a stream that has left its log.
pub struct HistoryReads {
    archive: RwLock<Arc<dyn Archive>>,
    spawn: SpawnReplay,
    /// Replays that have readers.
    replays: Mutex<Vec<Weak<Replay>>>,
    /// Lookups with waiting readers.
    lookups: Mutex<Vec<Weak<Lookup>>>,
}

impl fmt::Debug for HistoryReads {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("HistoryReads")
            .field("archive", &self.archive)
            .finish_non_exhaustive()
    }
}

impl HistoryReads {
    /// The past that `archive` reads.
    pub fn new(archive: Arc<dyn Archive>, spawn: SpawnReplay) -> Self {
        Self {
            archive: RwLock::new(archive),
            spawn,
            replays: Mutex::default(),
            lookups: Mutex::default(),
        }
    }

    pub(super) fn archive(&self) -> Arc<dyn Archive> {
        Arc::clone(&self.archive.read())
    }

    /// Reads elsewhere from now on.
    pub(super) fn set_archive(&self, archive: Arc<dyn Archive>) {
        *self.archive.write() = archive;
    }

    /// Asks Kafka about offsets of these topics, together with other readers that ask the same.
    pub(super) fn look_up(&self, topics: &[String], query: &Query) -> Result<PendingLookup, Busy> {
        let archive = self.archive();
        let mut lookups = self.lookups.lock();
        lookups.retain(|lookup| lookup.strong_count() > 0);
        let mut under_way = lookups.iter().filter_map(Weak::upgrade);
        if let Some(lookup) = under_way.find(|lookup| lookup.answers(query)) {
            return Ok(PendingLookup::new(lookup));
        }
        let lookup = Lookup::start(&*archive, topics, query)?;
        lookups.push(Arc::downgrade(&lookup));
        Ok(PendingLookup::new(lookup))
    }

    /// A reader of everything from `from` up to `to`: of a replay under way that still holds all of that, otherwise of a
    /// new one, which is queued as work of `flow`.
    pub(super) fn replay(
        &self,
        settings: &StreamSettings,
        flow: Flow,
        (from, to): (&Position, &Position),
        counters: &Counters,
    ) -> Result<ReplayReader, Busy> {
        let archive = self.archive();
        let mut replays = self.replays.lock();
        replays.retain(|replay| replay.strong_count() > 0);
        let mut under_way = replays.iter().filter_map(Weak::upgrade);
        if let Some(reader) = under_way.find_map(|replay| replay.join(from, flow, &*archive)) {
            counters.replays_shared.add(1);
            return Ok(reader);
        }
        let (replay, reader, task) = replay_writer::request(&archive, settings, flow, (from, to.clone()))?;
        (self.spawn)(task);
        counters.replays_begun.add(1);
        replays.push(Arc::downgrade(&replay));
        Ok(reader)
    }

    /// A log was truncated: clients that come from now on must not share what replays have read of it.
    pub(super) fn outdate_replays(&self) {
        let replays = self.replays.lock();
        replays
            .iter()
            .filter_map(Weak::upgrade)
            .for_each(|replay| replay.outdate());
    }

    /// How many replays have readers, and how many bytes of records these replays hold in all.
    pub(super) fn replays(&self) -> (usize, usize) {
        let replays = self.replays.lock();
        let under_way = replays.iter().filter_map(Weak::upgrade);
        under_way.fold((0, 0), |(count, bytes), replay| {
            (count + 1, bytes + replay.cost())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::super::live_settings::Pace;
    use super::super::shared::Stream;
    use super::super::start_position::Opening;
    use super::super::subscription::{Step, Subscription};
    use super::super::writer::Writer;
    use super::*;
    use crate::config::Start;
    use crate::kafka::history::{OffsetLookup, ReplayRequest, ReplaySlot, SlotLimits};
    use crate::kafka::record::Feed;

    /// Checks at every start that the writer could lock the state of the stream.
    #[derive(Debug, Default)]
    struct Checker {
        stream: OnceLock<Weak<Stream>>,
        started: AtomicUsize,
        lookups: Mutex<Vec<OffsetLookup>>,
    }

    impl Checker {
        fn check(&self) {
            let stream = self.stream.get().and_then(Weak::upgrade);
            let stream = stream.expect("a stream");
            assert!(
                stream.is_state_free(),
                "something is started while the state is locked"
            );
            self.started.fetch_add(1, Ordering::SeqCst);
        }
    }

    impl Archive for Checker {
        fn replay(&self, _request: ReplayRequest) -> Result<ReplaySlot, Busy> {
            self.check();
            let limits = SlotLimits {
                max_bytes: 1 << 20,
                slow_reader_timeout: Duration::from_secs(1),
            };
            Ok(ReplaySlot::new(limits, || ()))
        }

        fn is_contended(&self) -> bool {
            false
        }

        fn look_up(&self, lookup: OffsetLookup) -> Result<(), Busy> {
            self.check();
            // A lookup that is dropped without a reply is asked again.
            self.lookups.lock().push(lookup);
            Ok(())
        }

        fn lacks_times_and_headers(&self) -> bool {
            false
        }
    }

    fn step(subscription: &mut Subscription, stream: &Stream) {
        while let Step::Send(_) | Step::Yield = subscription.step(stream.instant()) {}
    }

    #[test]
    fn nothing_is_started_while_the_state_of_the_stream_is_locked() {
        let checker = Arc::new(Checker::default());
        let spawning = Arc::clone(&checker);
        let history = HistoryReads::new(Arc::clone(&checker) as _, Box::new(move |_task| spawning.check()));
        let settings = StreamSettings {
            path: "/x".to_owned(),
            topics: vec!["t".to_owned()],
            ..StreamSettings::default()
        };
        let pace = Pace {
            keepalive: Duration::from_secs(15),
            retry: Duration::from_secs(1),
            max_lifetime: Duration::ZERO,
        };
        let stream = Stream::new(settings, pace, Some(history));
        checker.stream.set(Arc::downgrade(&stream)).expect("set once");
        let mut writer = Writer::new(Arc::clone(&stream));
        writer.take(&Feed::Assigned {
            topic: "t".into(),
            id: None,
            next: vec![10],
            low: vec![0],
        });
        writer.take(&Feed::Loaded { topic: "t".into() });
        let from_the_beginning = Opening {
            start: Some(Start::Earliest),
            ..Opening::default()
        };
        step(&mut stream.subscribe(from_the_beginning), &stream);
        assert_eq!(checker.started.load(Ordering::SeqCst), 2, "a replay and its task");
        let since = Opening {
            since: Some(1),
            ..Opening::default()
        };
        step(&mut stream.subscribe(since), &stream);
        assert_eq!(checker.started.load(Ordering::SeqCst), 3, "and a lookup");
    }
}
