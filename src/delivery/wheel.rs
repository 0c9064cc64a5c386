//! Timers of many clients, as coarse as [`TICK`]: each is an entry in the slot of its tick.
//!
//! A deadline that moves away is not moved here: whoever is called looks whether it is due, and if not is entered again.
//! So a delivery costs nothing here.

use std::time::{Duration, Instant};

/// How exact timers are; they are late by up to two of these.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// A number of ticks since the wheel began. Four bytes, because every client has some: they last for 13 years.
pub(super) type Ticks = u32;

/// A tick that does not come.
pub(super) const NEVER: Ticks = Ticks::MAX;

/// Slots: a timer further away than all of them is entered again on the way.
const SLOTS: Ticks = 1024;

/// The timers, each for something that `T` names.
#[derive(Debug)]
pub(super) struct Wheel<T> {
    began: Instant,
    /// The tick up to which all slots were emptied.
    done: Ticks,
    slots: Vec<Vec<(Ticks, T)>>,
    len: usize,
}

impl<T: Copy> Wheel<T> {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            began: now,
            done: 0,
            slots: (0..SLOTS).map(|_| Vec::new()).collect(),
            len: 0,
        }
    }

    /// The first tick that is not before `at`.
    pub(super) fn tick_of(&self, at: Instant) -> Ticks {
        let since = at.saturating_duration_since(self.began);
        let ticks = since.as_nanos().div_ceil(TICK.as_nanos());
        Ticks::try_from(ticks).unwrap_or(NEVER - 1).max(self.done + 1)
    }

    /// Whether a tick is yet to come.
    pub(super) fn is_to_come(&self, tick: Ticks) -> bool {
        tick > self.done
    }

    /// Calls at a tick of [`tick_of`](Self::tick_of).
    pub(super) fn enter(&mut self, tick: Ticks, what: T) {
        let tick = tick.max(self.done + 1);
        self.slots[slot_of(tick)].push((tick, what));
        self.len += 1;
    }

    /// Moves what is due at `now` into `due`.
    pub(super) fn advance(&mut self, now: Instant, due: &mut Vec<T>) {
        let since = now.saturating_duration_since(self.began);
        let until = Ticks::try_from(since.as_nanos() / TICK.as_nanos()).unwrap_or(NEVER - 1);
        if self.len == 0 {
            self.done = self.done.max(until);
            return;
        }
        // After a long sleep every slot is looked at once, and no more.
        let slots = (until.saturating_sub(self.done)).min(SLOTS);
        for tick in until + 1 - slots..=until {
            let slot = &mut self.slots[slot_of(tick)];
            let before = due.len();
            slot.retain(|(at, what)| {
                if *at <= until {
                    due.push(*what);
                }
                *at > until
            });
            self.len -= due.len() - before;
            if slot.is_empty() && slot.capacity() > 64 {
                *slot = Vec::new();
            }
        }
        self.done = self.done.max(until);
    }

    /// When [`advance`](Self::advance) is to be called next; `None` where nothing is entered.
    pub(super) fn next(&self) -> Option<Instant> {
        if self.len == 0 {
            return None;
        }
        let slots = 1..=SLOTS;
        let mut ticks = slots.map(|ahead| self.done + ahead);
        let next = ticks.find(|&tick| !self.slots[slot_of(tick)].is_empty())?;
        Some(self.began + TICK.saturating_mul(next))
    }
}

/// The slot of a tick.
fn slot_of(tick: Ticks) -> usize {
    usize::try_from(tick % SLOTS).unwrap_or(0)
}

#[cfg(test)]
mod model;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(began: Instant, milliseconds: u64) -> Instant {
        began + Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_timer_is_due_at_its_time_and_not_before() {
        let began = Instant::now();
        let mut wheel = Wheel::new(began);
        let mut due = Vec::new();
        for (name, milliseconds) in [(1, 0), (2, 99), (3, 100), (4, 101), (5, 250_000), (6, 150_000)] {
            wheel.enter(wheel.tick_of(at(began, milliseconds)), name);
        }
        let mut seen = Vec::new();
        for tick in 0..=2_600 {
            let now = at(began, tick * 100);
            wheel.advance(now, &mut due);
            seen.extend(due.drain(..).map(|name| (name, tick * 100)));
        }
        let expected = [(1, 100), (2, 100), (3, 100), (4, 200), (6, 150_000), (5, 250_000)];
        assert_eq!(seen, expected);
        assert_eq!(wheel.next(), None);
    }

    #[test]
    fn it_sleeps_until_the_next_timer_and_may_oversleep() {
        let began = Instant::now();
        let mut wheel = Wheel::new(began);
        wheel.enter(wheel.tick_of(at(began, 1_000)), 'a');
        wheel.enter(wheel.tick_of(at(began, 200_000)), 'b');
        assert_eq!(wheel.next(), Some(at(began, 1_000)));
        let mut due = Vec::new();
        wheel.advance(at(began, 3_000), &mut due);
        assert_eq!(due, ['a']);
        // It is further away than all slots: called on the way at the latest.
        assert!(wheel.next().is_some_and(|next| next <= at(began, 200_000)));
        due.clear();
        wheel.advance(at(began, 900_000), &mut due);
        assert_eq!(due, ['b']);
    }

    #[test]
    fn a_timer_of_the_past_is_due_at_the_next_tick() {
        let began = Instant::now();
        let mut wheel = Wheel::new(began);
        let mut due = Vec::new();
        wheel.advance(at(began, 5_000), &mut due);
        wheel.enter(wheel.tick_of(began), 'a');
        assert_eq!(wheel.next(), Some(at(began, 5_100)));
        wheel.advance(at(began, 5_100), &mut due);
        assert_eq!(due, ['a']);
    }
}
