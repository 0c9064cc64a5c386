//! Schedules what a connection sends beside records: keepalives, heartbeats and checkpoints; and its end. Pure: the
//! caller gives the time.

use std::time::{Duration, Instant};

use super::access::Access;
use super::live_settings::LiveSettings;
use super::moment::Moment;

/// A lifetime is shortened by up to this part of it, so that clients that came together do not all come back together.
const LIFETIME_JITTER: f64 = 0.1;

/// How often a quiet table's reader gets its position in the time for which deletes are remembered.
const REFRESHES: u32 = 8;

/// Why a reader gets its position although no record is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checkpoints {
    /// It does not.
    None,
    /// A filter, its own or the stream's, passes over records.
    Filtered,
    /// The time up to which deletes are known moves without records, and an id must not become as old as deletes are
    /// remembered.
    Table,
}

impl Checkpoints {
    fn interval(self, live_settings: &LiveSettings) -> Duration {
        let interval = live_settings.checkpoint_interval;
        if self == Self::Table {
            let retention = Duration::from_secs(live_settings.bounds.delete_retention);
            interval.max(retention / REFRESHES)
        } else {
            interval
        }
    }
}

/// The action that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Heartbeat,
    /// A checkpoint, if the reader's position has changed.
    Checkpoint,
    Keepalive,
    /// Nothing until this time.
    Nothing(Instant),
}

/// The deadlines of a connection.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    checkpoints: Checkpoints,
    /// Whether the client was warned of the end of its right. Here and not in the reader, where it would take eight bytes
    /// of each that waits.
    has_warned: bool,
    keepalive_at: Moment,
    heartbeat_at: Option<Moment>,
    checkpoint_at: Option<Moment>,
    ends_at: Option<Moment>,
}

impl Schedule {
    /// That of a connection that begins at `now`.
    pub(super) fn new(now: Instant, live_settings: &LiveSettings, checkpoints: Checkpoints) -> Self {
        let has_checkpoints = checkpoints != Checkpoints::None;
        Self {
            checkpoints,
            has_warned: false,
            keepalive_at: (now + live_settings.pace.keepalive).into(),
            heartbeat_at: live_settings.heartbeat.map(|interval| (now + interval).into()),
            checkpoint_at: has_checkpoints.then(|| (now + checkpoints.interval(live_settings)).into()),
            ends_at: end_of_life(now, live_settings),
        }
    }

    /// Takes over the deadlines of the schedule before, of the same connection to another stream.
    pub(super) fn continue_from(&mut self, before: &Self, has_same_lifetime: bool) {
        self.has_warned = before.has_warned;
        self.keepalive_at = self.keepalive_at().min(before.keepalive_at()).into();
        if has_same_lifetime {
            self.ends_at = before.ends_at;
        }
    }

    /// Applies changed settings. What has not changed keeps its deadline.
    pub(super) fn apply(&mut self, now: Instant, before: &LiveSettings, live_settings: &LiveSettings) {
        if live_settings.pace.keepalive != before.pace.keepalive {
            self.keep_alive(now, live_settings);
        }
        if live_settings.heartbeat != before.heartbeat {
            self.heartbeat_at = live_settings.heartbeat.map(|interval| (now + interval).into());
        }
        if live_settings.pace.max_lifetime != before.pace.max_lifetime {
            self.ends_at = end_of_life(now, live_settings);
        }
    }

    /// Something was sent, with or without the reader's position.
    pub(super) fn sent(&mut self, now: Instant, live_settings: &LiveSettings) {
        self.keep_alive(now, live_settings);
        if let Some(checkpoint_at) = &mut self.checkpoint_at {
            *checkpoint_at = (now + self.checkpoints.interval(live_settings)).into();
        }
    }

    /// When a client with this right is to be warned, or the right ends; `None` where it has no end of its own.
    pub(super) fn access_due(&self, access: Option<&Access>) -> Option<Instant> {
        let deadline = access?.deadline()?;
        let warns_at = deadline.warns_at.filter(|_| !self.has_warned);
        Some(warns_at.unwrap_or(deadline.ends_at))
    }

    /// The client is warned.
    pub(super) const fn warned(&mut self) {
        self.has_warned = true;
    }

    /// Whether the connection has lasted as long as it may.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.ends_at.is_some_and(|end| now >= Instant::from(end))
    }

    /// The action that is due at `now` at a reader that has nothing to read; it is scheduled again. `has_begun` says
    /// whether the reader has a position.
    pub(super) fn due(&mut self, now: Instant, live_settings: &LiveSettings, has_begun: bool) -> Due {
        if let Some(due) = self.heartbeat_at.map(Instant::from).filter(|due| now >= *due) {
            // Late by more than an interval (a stalled socket, a suspended machine): skip, not burst.
            let interval = live_settings.heartbeat.unwrap_or_default();
            let next = due + interval;
            let next = if next > now { next } else { now + interval };
            self.heartbeat_at = Some(next.into());
            return Due::Heartbeat;
        }
        if self.is_checkpoint_due(now, live_settings, has_begun) {
            return Due::Checkpoint;
        }
        if now >= self.keepalive_at() {
            // It carries no position, so a checkpoint is not due later for it.
            self.keep_alive(now, live_settings);
            return Due::Keepalive;
        }
        let due = [self.heartbeat_at, self.next_checkpoint(has_begun), self.ends_at];
        let others = due.into_iter().flatten().map(Instant::from);
        Due::Nothing(others.fold(self.keepalive_at(), Instant::min))
    }

    /// When something is due at a reader that has begun.
    pub(super) fn until(&self) -> Instant {
        self.others().fold(self.keepalive_at(), Instant::min)
    }

    /// Whether of what is due at `now` there is nothing but a keepalive.
    pub(super) fn is_only_keepalive(&self, now: Instant) -> bool {
        now >= self.keepalive_at() && self.others().all(|due| now < due)
    }

    fn keepalive_at(&self) -> Instant {
        self.keepalive_at.into()
    }

    /// When anything but a keepalive is due at a reader that has begun.
    fn others(&self) -> impl Iterator<Item = Instant> {
        let due = [self.heartbeat_at, self.checkpoint_at, self.ends_at];
        due.into_iter().flatten().map(Instant::from)
    }

    /// A keepalive is sent: the next one is scheduled.
    pub(super) fn keep_alive(&mut self, now: Instant, live_settings: &LiveSettings) {
        self.keepalive_at = (now + live_settings.pace.keepalive).into();
    }

    /// Whether a checkpoint is due at `now`; if so, the next one is scheduled.
    pub(super) fn is_checkpoint_due(
        &mut self,
        now: Instant,
        live_settings: &LiveSettings,
        has_begun: bool,
    ) -> bool {
        let is_due = self
            .next_checkpoint(has_begun)
            .is_some_and(|due| now >= Instant::from(due));
        if is_due {
            self.checkpoint_at = Some((now + self.checkpoints.interval(live_settings)).into());
        }
        is_due
    }

    fn next_checkpoint(&self, has_begun: bool) -> Option<Moment> {
        self.checkpoint_at
            .filter(|_| has_begun || self.checkpoints == Checkpoints::Filtered)
    }
}

/// When a connection's time is over, if it has one.
fn end_of_life(now: Instant, live_settings: &LiveSettings) -> Option<Moment> {
    let lifetime = live_settings.pace.max_lifetime;
    let shortened = || lifetime.mul_f64(rand::random_range(1.0 - LIFETIME_JITTER..=1.0));
    (!lifetime.is_zero()).then(|| (now + shortened()).into())
}

#[cfg(test)]
mod tests {
    use super::super::live_settings::Pace;
    use super::*;
    use crate::config::StreamSettings;

    const SECOND: Duration = Duration::from_secs(1);

    fn live_settings() -> LiveSettings {
        let pace = Pace {
            keepalive: 15 * SECOND,
            retry: SECOND,
            max_lifetime: Duration::ZERO,
        };
        LiveSettings {
            heartbeat: None,
            checkpoint_interval: 10 * SECOND,
            ..LiveSettings::new(&StreamSettings::default(), pace)
        }
    }

    fn with_heartbeats() -> LiveSettings {
        LiveSettings {
            heartbeat: Some(5 * SECOND),
            ..live_settings()
        }
    }

    #[test]
    fn missed_heartbeats_are_skipped() {
        let (start, live_settings) = (Instant::now(), with_heartbeats());
        let mut schedule = Schedule::new(start, &live_settings, Checkpoints::None);
        let mut due = |after: u32| schedule.due(start + after * SECOND, &live_settings, true);
        assert_eq!(due(4), Due::Nothing(start + 5 * SECOND));
        assert_eq!(due(6), Due::Heartbeat);
        assert_eq!(due(6), Due::Nothing(start + 10 * SECOND));
        assert_eq!(due(14), Due::Heartbeat, "late by less than an interval");
        assert_eq!(due(100), Due::Heartbeat);
        assert_eq!(due(100), Due::Keepalive);
        assert_eq!(due(100), Due::Nothing(start + 105 * SECOND));
    }

    #[test]
    fn a_keepalive_does_not_delay_a_checkpoint_but_anything_else_does() {
        let (start, live_settings) = (Instant::now(), live_settings());
        let mut schedule = Schedule::new(start, &live_settings, Checkpoints::Filtered);
        schedule.sent(start + 8 * SECOND, &live_settings);
        let mut due = |after: u32| schedule.due(start + after * SECOND, &live_settings, true);
        assert_eq!(due(10), Due::Nothing(start + 18 * SECOND));
        assert_eq!(due(18), Due::Checkpoint);
        assert_eq!(due(23), Due::Keepalive);
        assert_eq!(due(23), Due::Nothing(start + 28 * SECOND));
    }

    #[test]
    fn a_table_is_refreshed_for_readers_that_have_begun() {
        let start = Instant::now();
        let mut live_settings = live_settings();
        live_settings.bounds.delete_retention = 160;
        let mut schedule = Schedule::new(start, &live_settings, Checkpoints::Table);
        let later = start + 20 * SECOND;
        assert_eq!(schedule.due(later, &live_settings, false), Due::Keepalive);
        assert_eq!(schedule.due(later, &live_settings, true), Due::Checkpoint);
        assert!(!schedule.is_checkpoint_due(start + 39 * SECOND, &live_settings, true));
        assert!(schedule.is_checkpoint_due(start + 40 * SECOND, &live_settings, true));
    }

    #[test]
    fn changed_settings_move_their_own_deadlines_only() {
        let (start, before) = (Instant::now(), with_heartbeats());
        let mut schedule = Schedule::new(start, &before, Checkpoints::None);
        let mut changed = before;
        changed.heartbeat = Some(50 * SECOND);
        schedule.apply(start + SECOND, &before, &changed);
        assert_eq!(
            schedule.due(start + SECOND, &changed, true),
            Due::Nothing(start + 15 * SECOND)
        );
        let mut ending = changed;
        ending.pace.max_lifetime = 10 * SECOND;
        schedule.apply(start + 2 * SECOND, &changed, &ending);
        assert!(!schedule.is_over(start + 10 * SECOND));
        assert!(schedule.is_over(start + 12 * SECOND));
    }
}
