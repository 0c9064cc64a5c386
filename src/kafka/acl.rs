//! Which topics may not be read, as it was last told.
//!
//! Decides nothing: what may be read, the consumer finds out by trying.

use std::collections::BTreeSet;
use std::sync::Arc;

use log::{info, warn};

use super::client::Connect;
use super::consumer::Consumer;
use super::reader_status::ReaderStatus;

/// Topics that may not be read.
#[derive(Debug, Default)]
pub(super) struct Rights {
    forbidden: BTreeSet<Arc<str>>,
}

impl Rights {
    /// Says of topics that they may not be read, and that they may again.
    pub(super) fn note(&mut self, consumer: &dyn Consumer, connect: &dyn Connect, status: &ReaderStatus) {
        let forbidden = consumer.forbidden();
        if *forbidden == self.forbidden {
            return;
        }
        let brokers = connect.brokers();
        for name in forbidden {
            let what = format!("kafka {brokers}: {}", connect.forbids(name));
            if status.set_forbidden(name, Some(what.clone())) {
                warn!("{what}; it is tried on, and other topics are read");
            }
        }
        for name in self.forbidden.difference(forbidden) {
            if status.set_forbidden(name, None) {
                info!("kafka {brokers}: topic {name:?} may be read now");
            }
        }
        self.forbidden.clone_from(forbidden);
    }

    /// Tells a new consumer what is known.
    pub(super) fn hand_over(&self, consumer: &mut dyn Consumer) {
        consumer.remember_forbidden(&self.forbidden);
    }

    /// A topic is read no more.
    pub(super) fn forget(&mut self, topic: &str) {
        self.forbidden.remove(topic);
    }
}
