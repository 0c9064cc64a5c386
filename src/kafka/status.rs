//! How the Kafka room is doing, for those who report it (readiness, the streams page, logs).
//!
//! Written by the tail's thread, read by anyone; never on the path of a record.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::Client;

/// The state of the connection to Kafka, shared between the tail and its observers.
#[derive(Debug, Default)]
pub struct Status {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    client: Option<String>,
    contacted: bool,
    trouble: Option<String>,
    missing: BTreeSet<String>,
    progress: BTreeMap<String, u8>,
}

/// A copy of the state at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The client library in use, once one is chosen.
    pub client: Option<String>,
    /// Whether a broker has ever answered.
    pub contacted: bool,
    /// What is wrong now, each ready to be shown: `kafka ...`, `topic ... does not exist`.
    pub degraded: Vec<String>,
    /// Topics that are being read up to the end they had at the start, and how many percent of their
    /// offsets are passed.
    pub progress: BTreeMap<String, u8>,
}

impl Status {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A poisoned lock means that another thread panicked between two assignments of plain
        // values; they are still worth reporting.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names the client library in use.
    pub(crate) fn set_client(&self, client: &str) {
        self.lock().client = Some(client.to_owned());
    }

    /// Another library may be used from now on.
    pub(crate) fn forget_client(&self) {
        self.lock().client = None;
    }

    /// Whether this is the client library in use. False while none is chosen.
    pub(crate) fn reads_with(&self, client: Client) -> bool {
        self.lock().client.as_deref() == Some(client.as_str())
    }

    /// Brokers answer; returns whether they did not before.
    pub(crate) fn healthy(&self) -> bool {
        let mut state = self.lock();
        state.contacted = true;
        state.trouble.take().is_some()
    }

    /// Something is wrong; returns whether nothing was before.
    pub(crate) fn troubled(&self, what: &str) -> bool {
        let mut state = self.lock();
        let is_news = state.trouble.is_none();
        if state.trouble.as_deref() != Some(what) {
            state.trouble = Some(what.to_owned());
        }
        is_news
    }

    /// A topic exists or does not; returns whether that is news.
    pub(crate) fn set_missing(&self, topic: &str, missing: bool) -> bool {
        let mut state = self.lock();
        if missing {
            state.missing.insert(topic.to_owned())
        } else {
            state.missing.remove(topic)
        }
    }

    /// A topic is loaded to so many percent.
    pub(crate) fn set_loading(&self, topic: &str, percent: u8) {
        let mut state = self.lock();
        match state.progress.get_mut(topic) {
            Some(known) => *known = percent,
            None => {
                state.progress.insert(topic.to_owned(), percent);
            }
        }
    }

    /// A topic is loaded.
    pub(crate) fn set_loaded(&self, topic: &str) {
        self.lock().progress.remove(topic);
    }

    /// A topic is read no more.
    pub(crate) fn forget(&self, topic: &str) {
        let mut state = self.lock();
        state.missing.remove(topic);
        state.progress.remove(topic);
    }

    /// The state now.
    pub fn snapshot(&self) -> Snapshot {
        let state = self.lock();
        let waiting = (!state.contacted && state.trouble.is_none())
            .then(|| "kafka: no broker has answered yet".to_owned());
        let missing = state
            .missing
            .iter()
            .map(|topic| format!("kafka: topic {topic:?} does not exist"));
        Snapshot {
            client: state.client.clone(),
            contacted: state.contacted,
            degraded: waiting
                .into_iter()
                .chain(state.trouble.iter().cloned())
                .chain(missing)
                .collect(),
            progress: state.progress.clone(),
        }
    }
}

/// The states of all reading threads: one for all streams that came together.
#[derive(Debug, Default)]
pub struct Board {
    all: Mutex<Vec<Arc<Status>>>,
}

impl Board {
    /// Shows these from now on.
    pub fn set(&self, all: Vec<Arc<Status>>) {
        *self.all() = all;
    }

    fn all(&self) -> MutexGuard<'_, Vec<Arc<Status>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a thread reads with this client library.
    pub(crate) fn reads_with(&self, client: Client) -> bool {
        self.all().iter().any(|status| status.reads_with(client))
    }

    /// All of them together: the client of the first, contacted if all are.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let all = self.all();
        let mut shots = all.iter().map(|status| status.snapshot());
        let mut first = shots.next().unwrap_or_else(|| Status::default().snapshot());
        for shot in shots {
            first.contacted &= shot.contacted;
            for what in shot.degraded {
                if !first.degraded.contains(&what) {
                    first.degraded.push(what);
                }
            }
            first.progress.extend(shot.progress);
        }
        first
    }
}
