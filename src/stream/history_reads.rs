//! What a stream reads from Kafka for single clients: replays and offset lookups, shared by those who need the same.

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
    /// Lookups that somebody waits for.
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
    #[must_use]
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

    /// Asks Kafka about offsets of these topics, together with whoever asks the same.
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
        if let Some(reader) = under_way.find_map(|replay| replay.join(from)) {
            counters.count_replay(true);
            return Ok(reader);
        }
        let (replay, reader, task) = replay_writer::request(&archive, settings, flow, (from, to.clone()))?;
        (self.spawn)(task);
        counters.count_replay(false);
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

    /// How many replays have readers, and how many bytes of records they hold, all told.
    pub(super) fn replays(&self) -> (usize, usize) {
        let replays = self.replays.lock();
        let under_way = replays.iter().filter_map(Weak::upgrade);
        under_way.fold((0, 0), |(count, bytes), replay| {
            (count + 1, bytes + replay.cost())
        })
    }
}
