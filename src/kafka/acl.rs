//! Reports topics without READ permission, and when the permission returns.

use std::collections::BTreeSet;
use std::sync::Arc;

use log::{info, warn};

use super::client::Connect;
use super::consumer::Consumer;
use super::reader_status::ReaderStatus;

#[derive(Debug, Default)]
pub(super) struct UnauthorizedTopics {
    unauthorized: BTreeSet<Arc<str>>,
}

impl UnauthorizedTopics {
    pub(super) fn note(&mut self, consumer: &dyn Consumer, connect: &dyn Connect, status: &ReaderStatus) {
        let unauthorized = consumer.unauthorized();
        if *unauthorized == self.unauthorized {
            return;
        }
        let brokers = connect.brokers();
        for name in unauthorized {
            let what = format!("kafka {brokers}: {}", connect.forbids(name));
            if status.set_forbidden(name, Some(what.clone())) {
                warn!("{what}; it is tried on, and other topics are read");
            }
        }
        for name in self.unauthorized.difference(unauthorized) {
            if status.set_forbidden(name, None) {
                info!("kafka {brokers}: topic {name:?} may be read now");
            }
        }
        self.unauthorized.clone_from(unauthorized);
    }

    pub(super) fn hand_over(&self, consumer: &mut dyn Consumer) {
        consumer.remember_unauthorized(&self.unauthorized);
    }

    pub(super) fn forget(&mut self, topic: &str) {
        self.unauthorized.remove(topic);
    }
}
