//! The object that the writer and the readers of a stream share.
//!
//! ```text
//!  writer (one task) ──write──► StreamState (log, head) ◄──read── subscriptions (many)
//!                    ──note───► Audience (version)        ──wake──► waiters
//! ```
//! The writer changes the state, then the version, then wakes the readers.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard, RwLock, RwLockReadGuard};

use super::audience::Audience;
use super::block::Block;
use super::clock::{Clock, Guarded};
use super::control::Goodbye;
use super::counters::Counters;
use super::encode::{Invalid, is_possible};
use super::filter::Matcher;
use super::filter_index::{FilterLimits, OverLimit};
use super::filters::Filters;
use super::gauged::{Gauged, GaugedGuard};
use super::group::Group;
use super::history_reads::HistoryReads;
use super::live_settings::{LiveSettings, Pace};
use super::log::{Log, Sequence};
use super::looks::{FilterSearch, Looks};
use super::lookup::{PendingLookup, Query};
use super::position::Position;
use super::replay::ReplayReader;
use super::state::{LogFigures, StreamState};
use super::table::{ROWS_PER_HOLD, Table, TableFigures};
use crate::config::StreamSettings;
use crate::config::bound_filter::BoundFilter;
use crate::config::filter::Filter;
use crate::config::path_parameters::PathTemplate;
use crate::decode::used::UsedSchemas;
use crate::kafka::history::fair_queue::Flow;
use crate::kafka::history::{Archive, Busy};

/// Starts a task where it holds up no client.
pub type Spawn = Box<dyn Fn(Pin<Box<dyn Future<Output = ()> + Send>>) + Send + Sync>;

/// A stream that can be subscribed to.
#[derive(Debug)]
pub struct Stream {
    settings: StreamSettings,
    live_settings: RwLock<Arc<LiveSettings>>,
    /// The stream that replaced this one, to which the readers move.
    successor: Mutex<Option<Arc<Self>>>,
    /// The streams that this one replaced and that still have readers.
    predecessors: Mutex<Vec<Weak<Self>>>,
    clock: Guarded,
    state: Gauged<StreamState>,
    /// Beside the state, so that nobody waits for its lock to learn whether the stream is ready.
    loaded: OnceLock<Sequence>,
    /// The latest record of every key, where the stream keeps them. Always as far as the log or
    /// further: a record is put in before it is appended there.
    table: Option<Gauged<Table>>,
    /// How often the table has dropped the data on evicted keys.
    eviction_resets: AtomicU64,
    audience: Audience,
    /// Records from before a group came, which are still to be looked through for it.
    looks: Looks,
    /// Where such records are looked through; unless it is set, the reader that asks does it.
    spawn: OnceLock<Hidden<Spawn>>,
    filters: Filters,
    /// The records that no client sees.
    fixed: Option<Matcher>,
    bound_filter: Option<BoundFilter>,
    /// The past that has left the log.
    history: Option<HistoryReads>,
    /// Whether keys are without a row in the table, because it is or was full.
    lacks_rows: AtomicBool,
    closing: OnceLock<Goodbye>,
    failure: OnceLock<String>,
    pub(super) clients: AtomicUsize,
    /// Continues the counts of the path.
    counters: Arc<Counters>,
    /// The schemas that the writer's records have had.
    schemas: Arc<UsedSchemas>,
}

impl Stream {
    /// An empty stream. Without `history` it knows no past beyond its log.
    pub fn new(settings: StreamSettings, pace: Pace, history: Option<HistoryReads>) -> Arc<Self> {
        Self::with_clock(settings, pace, history, Clock::SYSTEM)
    }

    /// The same, by clocks of the caller's.
    pub fn with_clock(
        settings: StreamSettings,
        pace: Pace,
        history: Option<HistoryReads>,
        clock: Clock,
    ) -> Arc<Self> {
        Self::counting(settings, pace, history, clock, Arc::default())
    }

    /// The same, continuing the counts of its path.
    pub fn counting(
        settings: StreamSettings,
        pace: Pace,
        history: Option<HistoryReads>,
        clock: Clock,
        counters: Arc<Counters>,
    ) -> Arc<Self> {
        let clock = Guarded::new(clock);
        let log = Log::new(settings.log_bytes.as_len());
        let fixed = Matcher::fixed(&settings);
        let table = settings.has_table().then(|| {
            let mut table = Table::new((&settings).into());
            // Which keys were shown once and are hidden now is known only of what this process has seen.
            if fixed.is_some() {
                table.knows_nothing_before(clock.unix());
            }
            Gauged::new(table)
        });
        if table.is_some() {
            counters.expect_superseded(&settings.topics);
        }
        for cause in Invalid::ALL
            .into_iter()
            .filter(|cause| is_possible(*cause, &settings))
        {
            counters.expect_invalid(cause);
        }
        let topics = settings.topics.len();
        let bound_filter = BoundFilter::of(&settings);
        Arc::new(Self {
            live_settings: RwLock::new(Arc::new(LiveSettings::new(&settings, pace))),
            successor: Mutex::default(),
            predecessors: Mutex::default(),
            filters: Filters::new(&settings),
            settings,
            clock,
            fixed,
            bound_filter,
            state: Gauged::new(StreamState::new(log, topics)),
            loaded: OnceLock::new(),
            table,
            eviction_resets: AtomicU64::new(0),
            audience: Audience::new(),
            looks: Looks::default(),
            spawn: OnceLock::new(),
            history,
            lacks_rows: AtomicBool::new(false),
            closing: OnceLock::new(),
            failure: OnceLock::new(),
            clients: AtomicUsize::new(0),
            counters,
            schemas: Arc::default(),
        })
    }

    /// The registered schemas of its keys and values.
    pub fn schemas(&self) -> &Arc<UsedSchemas> {
        &self.schemas
    }

    /// The counters of its path.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// The settings that the stream was configured with.
    pub fn settings(&self) -> &StreamSettings {
        &self.settings
    }

    /// The current live settings.
    pub fn live_settings(&self) -> Arc<LiveSettings> {
        Arc::clone(&self.live_settings.read())
    }

    /// Changes the live settings, for connected clients too.
    pub fn apply(&self, live_settings: LiveSettings) {
        if **self.live_settings.read() == live_settings {
            return;
        }
        // Nobody who reads the settings waits for the locks that the writer holds.
        self.write().log.set_capacity(live_settings.log_bytes);
        self.filters.index().set_log_bytes(live_settings.log_bytes);
        if let Some(mut table) = self.write_table() {
            table.set_bounds(live_settings.bounds, self.now());
        }
        *self.live_settings.write() = Arc::new(live_settings);
        self.changed();
    }

    /// Moves all readers to the stream that replaces this one, including those that have yet to come from its
    /// predecessors: a reader with a stalled socket must not keep all streams in between alive.
    pub fn succeed(self: &Arc<Self>, successor: &Arc<Self>) {
        let mut before = std::mem::take(&mut *self.predecessors());
        before.push(Arc::downgrade(self));
        before.retain(|stream| stream.strong_count() > 0);
        for stream in before.iter().filter_map(Weak::upgrade) {
            *stream.next() = Some(Arc::clone(successor));
        }
        *successor.predecessors() = before;
        self.changed();
    }

    fn predecessors(&self) -> MutexGuard<'_, Vec<Weak<Self>>> {
        self.predecessors.lock()
    }

    fn next(&self) -> MutexGuard<'_, Option<Arc<Self>>> {
        self.successor.lock()
    }

    /// The stream that replaced this one.
    pub(super) fn successor(&self) -> Option<Arc<Self>> {
        self.next().clone()
    }

    /// Unix seconds.
    pub(super) fn now(&self) -> u64 {
        self.clock.unix()
    }

    /// The time of day since the epoch, as the clock is set.
    pub(super) fn time_of_day(&self) -> Duration {
        self.clock.time_of_day()
    }

    /// The monotonic time, for deadlines.
    pub(super) fn instant(&self) -> Instant {
        self.clock.instant()
    }

    pub(super) fn audience(&self) -> &Audience {
        &self.audience
    }

    /// The records that no client sees.
    pub(super) fn fixed(&self) -> Option<&Matcher> {
        self.fixed.as_ref()
    }

    /// The terms of the filter that each request decides, if there are any.
    pub(crate) fn bound_filter(&self) -> Option<&BoundFilter> {
        self.bound_filter.as_ref()
    }

    /// The path, if it has parameters.
    pub(crate) fn path_template(&self) -> Option<&PathTemplate> {
        self.bound_filter.as_ref()?.template()
    }

    pub(super) fn client_filters(&self) -> &Filters {
        &self.filters
    }

    /// The group of a filter, with one reader more, within these limits.
    pub(super) fn join(
        &self,
        filter: &Filter,
        limits: Option<FilterLimits>,
    ) -> Result<Arc<Group>, OverLimit> {
        let next = || self.read().log.next();
        self.filters.join(filter, &self.settings, next, limits)
    }

    /// The past that has left the log, where it can be read.
    pub(super) fn history(&self) -> Option<&HistoryReads> {
        self.history.as_ref()
    }

    /// Reads the past elsewhere from now on.
    pub fn set_archive(&self, archive: Arc<dyn Archive>) {
        if let Some(history) = &self.history {
            history.set_archive(archive);
        }
        // Some may wait for their turn at the one before.
        self.changed();
    }

    /// Asks Kafka about offsets. `None` where it cannot be asked.
    pub(super) fn look_up(&self, query: &Query) -> Option<Result<PendingLookup, Busy>> {
        Some(self.history()?.look_up(&self.settings.topics, query))
    }

    /// A reader of the past from `from` up to `to`. `None` where that cannot be read.
    pub(super) fn replay(
        &self,
        flow: Flow,
        from: &Position,
        to: &Position,
    ) -> Option<Result<ReplayReader, Busy>> {
        let history = self.history()?;
        Some(history.replay(&self.settings, flow, (from, to), &self.counters))
    }

    /// Has all readers look whether they may still read.
    pub(crate) fn check_access(&self) {
        self.changed();
    }

    /// Ends all subscriptions, present and future, with an event that says why.
    pub fn close(&self, reason: Goodbye) {
        // The first reason to close is kept.
        let _ = self.closing.set(reason);
        self.changed();
    }

    pub(super) fn closing(&self) -> Option<Goodbye> {
        self.closing.get().copied()
    }

    /// Why the stream can never be served, if it cannot.
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// Refuses the stream from now on, and releases its waiting readers.
    pub(super) fn fail(&self, why: String) {
        // The first failure is the one that is reported.
        let _ = self.failure.set(why);
        self.close(Goodbye::StreamRemoved);
    }

    /// The readers of the stream.
    pub fn clients(&self) -> usize {
        self.clients.load(Ordering::Relaxed)
    }

    /// Whether keys are without a row in the table, because it is or was full. Higher bounds do not bring these rows
    /// back, only a stream that reads the topics again does.
    pub fn lacks_rows(&self) -> bool {
        self.lacks_rows.load(Ordering::Relaxed)
    }

    pub(super) fn note_lack_of_rows(&self) {
        self.lacks_rows.store(true, Ordering::Relaxed);
    }

    /// Whether the topics were read up to the ends they had at the start.
    pub fn is_loaded(&self) -> bool {
        self.loaded.get().is_some()
    }

    /// The head of the log when the topics had been read up to the ends they had at the start.
    pub(super) fn loaded(&self) -> Option<Sequence> {
        self.loaded.get().copied()
    }

    /// To be called under the lock of the state, so that the log has no record behind `head` yet.
    pub(super) fn note_loaded(&self, head: Sequence) {
        let _ = self.loaded.set(head);
    }

    /// Locks the state for reading. Once per delivery: readers share the lock, and the writer holds
    /// it only while finished blocks are linked in and small ones merged, never while it encodes.
    pub(super) fn read(&self) -> RwLockReadGuard<'_, StreamState> {
        self.state.read()
    }

    pub(super) fn write(&self) -> GaugedGuard<'_, StreamState> {
        self.state.write()
    }

    /// Whether the lock of the state is free.
    #[cfg(test)]
    pub(super) fn is_state_free(&self) -> bool {
        self.state.is_free()
    }

    /// Locks the table for reading: for as long as one piece of it is copied out to a client.
    pub(super) fn read_table(&self) -> Option<RwLockReadGuard<'_, Table>> {
        Some(self.table.as_ref()?.read())
    }

    /// Locks the table for one record.
    pub(super) fn write_table(&self) -> Option<GaugedGuard<'_, Table>> {
        Some(self.table.as_ref()?.write())
    }

    /// The figures of the log, which are read without the lock of the state.
    pub(super) fn log_figures(&self) -> LogFigures {
        self.state.figures().lock().clone()
    }

    /// The figures of the table, which are read without its lock.
    pub(super) fn table_figures(&self) -> Option<&TableFigures> {
        Some(self.table.as_ref()?.figures())
    }

    /// Does a piece of what can wait in the table. Returns whether there is more to do.
    pub(super) fn tidy_table(&self) -> bool {
        let has_more = self.write_table().is_some_and(|mut table| table.tidy(self.now()));
        self.note_eviction_resets();
        has_more
    }

    /// Signals readers that the table has dropped the data on evicted keys. Call it when the log has all records of the
    /// table: a reader that is reset must not be shown a forgotten one.
    pub(super) fn note_eviction_resets(&self) {
        let Some(eviction_resets) = self.read_table().map(|table| table.eviction_resets()) else {
            return;
        };
        if self.eviction_resets.swap(eviction_resets, Ordering::SeqCst) != eviction_resets {
            self.changed();
        }
    }

    /// How often the table has forgotten which keys have left it.
    pub fn eviction_resets(&self) -> u64 {
        self.eviction_resets.load(Ordering::SeqCst)
    }

    /// Tells all readers that something other than the log changed, which must be visible already.
    pub(super) fn changed(&self) {
        self.audience.note_change();
        let groups = self.filters.index().iter().map(Arc::clone).collect();
        self.audience.wake_all(groups);
    }

    /// Looks through records of a block for a group. Returns whether that is done; otherwise the group is woken when
    /// it is.
    pub(super) fn look(
        self: &Arc<Self>,
        group: &Arc<Group>,
        (from, until): (Sequence, Sequence),
        block: (Sequence, Arc<Block>),
    ) -> bool {
        let look = FilterSearch {
            group: Arc::clone(group),
            from,
            until,
            block,
        };
        let Some(Hidden(spawn)) = self.spawn.get() else {
            look.run();
            return true;
        };
        if group.begin_look() && self.looks.push(look) {
            let stream = Arc::clone(self);
            spawn(Box::pin(poll_fn(move |context| stream.look_on(context.waker()))));
        }
        false
    }

    /// One turn of the task that looks through records for groups.
    fn look_on(&self, waker: &Waker) -> Poll<()> {
        let Some(look) = self.looks.pop() else {
            return Poll::Ready(());
        };
        look.run();
        self.audience.looked(&look.group);
        waker.wake_by_ref();
        Poll::Pending
    }

    /// Looks through records for filters there. The first that is set counts.
    pub fn set_spawn(&self, spawn: Spawn) {
        let _ = self.spawn.set(Hidden(spawn));
    }
}

/// Something that has nothing to say about itself.
struct Hidden<T>(T);

impl<T> fmt::Debug for Hidden<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("..")
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // The last to hold a stream may be a client on a thread that serves others, and freeing millions of
        // rows takes a second.
        if let Some(table) = self.table.take()
            && table.read().len() > ROWS_PER_HOLD
        {
            let freeing = move || drop(table);
            // Where there is no thread, it is freed here.
            let _ = thread::Builder::new()
                .name("table-free".to_owned())
                .spawn(freeing);
        }
    }
}
