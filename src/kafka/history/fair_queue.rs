//! A fair queue: work of several flows, which have it done by turns.
//!
//! The next turn is that of the flow that has the least work under way; of several, that of the one whose last turn
//! lies furthest back. Within a flow the cheapest work comes first, but what came later passes only for
//! [`MAX_PASSED`] turns, so that nothing waits for ever. Pure: no clock, no threads.

use std::collections::BTreeMap;

/// What shares turns. Opaque here: HTTP makes one of a client's address.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow(pub u64);

/// How much cheaper than what came before it work must be, per place that it gains: a thousand records are read in
/// the time that a job takes to begin.
const COST_OF_A_PLACE: u64 = 1000;

/// Most later pieces of its own flow that may pass work, however much it costs.
pub const MAX_PASSED: u64 = 100;

/// Work that waits, by flow.
#[derive(Debug)]
pub struct Turns<T> {
    flows: BTreeMap<Flow, Waiting<T>>,
    len: usize,
    /// The number of the next work.
    number: u64,
    /// Turns so far.
    popped: u64,
}

/// The work of one flow.
#[derive(Debug)]
struct Waiting<T> {
    /// By the place at which it stands: its number, later by what it costs.
    work: BTreeMap<(u64, u64), T>,
    /// Pieces that are under way.
    under_way: usize,
    /// When its last turn was.
    last_turn: u64,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self {
            flows: BTreeMap::new(),
            len: 0,
            number: 0,
            popped: 0,
        }
    }
}

impl<T> Turns<T> {
    /// How much waits.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Queues work; returns its number.
    pub fn push(&mut self, flow: Flow, cost: u64, work: T) -> u64 {
        let number = self.number;
        self.number += 1;
        let place = number + (cost / COST_OF_A_PLACE).min(MAX_PASSED);
        // A flow that was idle has no claim on turns of the past: it comes behind those that wait, or one that queues
        // its work piece by piece would always come first.
        let last_turn = self.popped;
        let waiting = self.flows.entry(flow).or_insert_with(|| Waiting {
            work: BTreeMap::new(),
            under_way: 0,
            last_turn,
        });
        waiting.work.insert((place, number), work);
        self.len += 1;
        number
    }

    /// The work whose turn it is, with its number. It is under way until [`done`](Self::done) is called for it.
    pub fn pop(&mut self) -> Option<(u64, T)> {
        let waits = self.flows.values_mut().filter(|flow| !flow.work.is_empty());
        let flow = waits.min_by_key(|flow| (flow.under_way, flow.last_turn))?;
        let ((_, number), work) = flow.work.pop_first()?;
        self.popped += 1;
        flow.last_turn = self.popped;
        flow.under_way += 1;
        self.len -= 1;
        Some((number, work))
    }

    /// Work of a flow that was under way is so no more.
    pub fn done(&mut self, flow: Flow) {
        if let Some(waiting) = self.flows.get_mut(&flow) {
            waiting.under_way = waiting.under_way.saturating_sub(1);
        }
        self.forget_idle(flow);
    }

    /// Takes work out that waits.
    pub fn remove(&mut self, flow: Flow, number: u64) -> Option<T> {
        let waiting = self.flows.get_mut(&flow)?;
        let place = *waiting.work.keys().find(|(_, waiting)| *waiting == number)?;
        let work = waiting.work.remove(&place);
        self.len -= 1;
        self.forget_idle(flow);
        work
    }

    /// Takes the last work of the flow out that has the most waiting, where that is more than `flow` would have with
    /// one piece more.
    pub fn displace(&mut self, flow: Flow) -> Option<T> {
        let own = self.flows.get(&flow).map_or(0, |waiting| waiting.work.len());
        let (&most, waiting) = self.flows.iter_mut().max_by_key(|(_, flow)| flow.work.len())?;
        if waiting.work.len() <= own + 1 {
            return None;
        }
        let (_, work) = waiting.work.pop_last()?;
        self.len -= 1;
        self.forget_idle(most);
        Some(work)
    }

    /// Takes all out that waits.
    pub fn clear(&mut self) -> Vec<T> {
        self.len = 0;
        let flows = self.flows.values_mut();
        flows
            .flat_map(|flow| std::mem::take(&mut flow.work).into_values())
            .collect()
    }

    fn forget_idle(&mut self, flow: Flow) {
        let is_idle = |waiting: &Waiting<T>| waiting.work.is_empty() && waiting.under_way == 0;
        if self.flows.get(&flow).is_some_and(is_idle) {
            self.flows.remove(&flow);
        }
    }
}
