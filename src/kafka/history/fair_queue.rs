//! A fair queue: flows take turns.
//!
//! The flow with the least running work has the next turn; among equals, the flow whose last turn is longest ago.
//! Within a flow the cheapest work comes first, but each piece of work is overtaken at most [`MAX_OVERTAKEN`] times, so
//! that none starves. Whoever takes work says which flows may have a turn; the others keep their places. Pure: no clock,
//! no threads.

use std::collections::BTreeMap;

/// The key of a flow. Opaque here: HTTP derives it from a client's identity or address.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow(pub u64);

/// How much cheaper work must be for each earlier piece that it overtakes: reading a thousand records takes as long as
/// starting a replay.
const COST_PER_RANK: u64 = 1000;

/// How many later pieces of work of the same flow may overtake one, regardless of cost.
pub const MAX_OVERTAKEN: u64 = 100;

/// Queued work, by flow.
#[derive(Debug)]
pub struct FairQueue<T> {
    flows: BTreeMap<Flow, FlowQueue<T>>,
    len: usize,
    /// The number of the next work.
    number: u64,
    popped: u64,
}

#[derive(Debug)]
struct FlowQueue<T> {
    /// By rank, which is the number plus a bounded penalty for the cost; then by number.
    work: BTreeMap<(u64, u64), T>,
    running: usize,
    last_turn: u64,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self {
            flows: BTreeMap::new(),
            len: 0,
            number: 0,
            popped: 0,
        }
    }
}

impl<T> FairQueue<T> {
    /// How much work is queued.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether no work is queued.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Queues work; returns its number.
    pub fn push(&mut self, flow: Flow, cost: u64, work: T) -> u64 {
        let number = self.number;
        self.number += 1;
        let rank = number + (cost / COST_PER_RANK).min(MAX_OVERTAKEN);
        // An idle flow accumulates no turns and comes behind waiting flows. Otherwise a flow that queues its work piece
        // by piece would always come first.
        let last_turn = self.popped;
        let queue = self.flows.entry(flow).or_insert_with(|| FlowQueue {
            work: BTreeMap::new(),
            running: 0,
            last_turn,
        });
        queue.work.insert((rank, number), work);
        self.len += 1;
        number
    }

    /// Takes the next work of the flows that may have a turn, with its number. It counts as running until
    /// [`done`](Self::done) is called for it.
    pub fn pop(&mut self, may_run: impl Fn(Flow) -> bool) -> Option<(u64, T)> {
        let waiting = self.flows.iter_mut().filter(|(_, flow)| !flow.work.is_empty());
        let waiting = waiting.filter(|(flow, _)| may_run(**flow)).map(|(_, flow)| flow);
        let flow = waiting.min_by_key(|flow| (flow.running, flow.last_turn))?;
        let ((_, number), work) = flow.work.pop_first()?;
        self.popped += 1;
        flow.last_turn = self.popped;
        flow.running += 1;
        self.len -= 1;
        Some((number, work))
    }

    /// Marks one running work of a flow as ended.
    pub fn done(&mut self, flow: Flow) {
        if let Some(queue) = self.flows.get_mut(&flow) {
            queue.running = queue.running.saturating_sub(1);
        }
        self.forget_idle(flow);
    }

    /// Removes queued work.
    pub fn remove(&mut self, flow: Flow, number: u64) -> Option<T> {
        let queue = self.flows.get_mut(&flow)?;
        let key = *queue.work.keys().find(|(_, queued)| *queued == number)?;
        let work = queue.work.remove(&key);
        self.len -= 1;
        self.forget_idle(flow);
        work
    }

    /// Removes the last work of the longest queue, if that is longer than the queue of `flow` would be with one more.
    /// The work of a flow that `is_held` gives way to that of any flow that is not, and never the other way round.
    pub(super) fn displace(&mut self, flow: Flow, is_held: impl Fn(Flow) -> bool) -> Option<T> {
        let mine = self.flows.get(&flow).map_or(0, |queue| queue.work.len());
        let is_mine_held = is_held(flow);
        let (is_other_held, length, other) = self
            .waiting()
            .map(|(other, length)| (is_held(other), length, other))
            .filter(|(is_other_held, ..)| *is_other_held || !is_mine_held)
            .max()?;
        let gives_way = is_other_held && !is_mine_held;
        if !gives_way && length <= mine + 1 {
            return None;
        }
        let (_, work) = self.flows.get_mut(&other)?.work.pop_last()?;
        self.len -= 1;
        self.forget_idle(other);
        Some(work)
    }

    /// The flows that have work queued, and how much.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (Flow, usize)> {
        let lengths = self.flows.iter().map(|(flow, queue)| (*flow, queue.work.len()));
        lengths.filter(|(_, length)| *length > 0)
    }

    /// Removes the queued work of a flow for which `is_meant` holds.
    pub(super) fn extract(&mut self, flow: Flow, is_meant: impl Fn(&T) -> bool) -> Vec<T> {
        let Some(queue) = self.flows.get_mut(&flow) else {
            return Vec::new();
        };
        let (removed, kept): (BTreeMap<_, T>, _) = std::mem::take(&mut queue.work)
            .into_iter()
            .partition(|(_, work)| is_meant(work));
        queue.work = kept;
        self.len -= removed.len();
        self.forget_idle(flow);
        removed.into_values().collect()
    }

    /// Removes all queued work.
    pub fn clear(&mut self) -> Vec<T> {
        self.len = 0;
        let flows = self.flows.values_mut();
        flows
            .flat_map(|flow| std::mem::take(&mut flow.work).into_values())
            .collect()
    }

    fn forget_idle(&mut self, flow: Flow) {
        let is_idle = |queue: &FlowQueue<T>| queue.work.is_empty() && queue.running == 0;
        if self.flows.get(&flow).is_some_and(is_idle) {
            self.flows.remove(&flow);
        }
    }
}
