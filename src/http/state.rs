//! The state that requests are answered from.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use super::assets::Assets;
use super::connections::Connections;
use super::front::Front;
use super::limits::Limits;
use super::reloads::Reloads;
use crate::kafka::status::Board;
use crate::stream::counters::Ledger;
use crate::stream::stream::Stream;

/// What the features answer from.
#[derive(Debug)]
pub struct AppState {
    /// What a reload may exchange.
    pub shown: RwLock<Shown>,
    /// How the Kafka room is doing.
    pub kafka: Arc<Board>,
    /// Set once every stream has loaded; a stream that a reload brings does not take it away.
    pub was_ready: AtomicBool,
    /// The connections of all listeners.
    pub connections: Arc<Connections>,
    /// The streams that are open, and what limits them.
    pub limits: Arc<Limits>,
    /// What streams have counted, those that are gone included.
    pub ledger: Ledger,
    /// What became of reloads.
    pub reloads: Reloads,
    /// Set when the daemon is about to end.
    pub is_draining: AtomicBool,
}

/// The part of it that a reload may exchange.
#[derive(Debug, Clone)]
pub struct Shown {
    /// The streams, in the order of the configuration.
    pub streams: Vec<Arc<Stream>>,
    /// The page.
    pub page: Arc<Assets>,
    /// What stands before the routes.
    pub front: Arc<Front>,
}

impl AppState {
    /// What is shown now.
    pub fn shown(&self) -> RwLockReadGuard<'_, Shown> {
        self.shown.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows other streams, or another page, from now on.
    pub fn show(&self, shown: Shown) {
        *self.shown.write().unwrap_or_else(PoisonError::into_inner) = shown;
    }

    /// What stands before the routes.
    pub fn front(&self) -> Arc<Front> {
        Arc::clone(&self.shown().front)
    }

    pub(super) fn stream(&self, path: &str) -> Option<Arc<Stream>> {
        let shown = self.shown();
        let found = shown
            .streams
            .iter()
            .find(|stream| stream.settings().path == path)?;
        Some(Arc::clone(found))
    }

    pub(super) fn page(&self) -> Arc<Assets> {
        Arc::clone(&self.shown().page)
    }
}
