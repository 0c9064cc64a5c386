//! The state of the reading thread, and how it reports errors.

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use log::{info, warn};

use super::beside::ThreadsBeside;
use super::commands::{CommandQueue, ReaderCommand};
use super::end_offsets::EndOffsets;
use super::topic::{StartOffset, Topic};
use crate::kafka::acl::UnauthorizedTopics;
use crate::kafka::batcher::Batcher;
use crate::kafka::client::Connect;
use crate::kafka::error::{ErrorKind, KafkaError};
use crate::kafka::reader_status::ReaderStatus;
use crate::kafka::stall::Stalls;
use crate::kafka::stream_queues::StreamChannel;

pub(super) struct KafkaReader {
    pub(super) connect: Box<dyn Connect>,
    pub(super) topics: Vec<Topic>,
    pub(super) batcher: Batcher,
    pub(super) status: Arc<ReaderStatus>,
    pub(super) commands: CommandQueue,
    /// Since when a topic has seemed to be recreated.
    pub(super) in_doubt: Option<Instant>,
    pub(super) unauthorized: UnauthorizedTopics,
    pub(super) stalls: Stalls,
    /// When the present metadata refresh began, in milliseconds since the epoch.
    pub(super) refresh_begun: Option<i64>,
    pub(super) end_offsets: EndOffsets,
    pub(super) beside: Arc<ThreadsBeside>,
    pub(super) role: Role,
}

/// Which thread of a [`ReaderHandle`](super::ReaderHandle) it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The one that was started for the streams.
    First,
    /// One that has taken over streams.
    Beside,
}

impl KafkaReader {
    pub(super) fn new(
        connect: Box<dyn Connect>,
        plans: impl Iterator<Item = (Arc<str>, StartOffset, Vec<StreamChannel>)>,
        status: Arc<ReaderStatus>,
        commands: mpsc::Receiver<ReaderCommand>,
        (beside, role): (Arc<ThreadsBeside>, Role),
    ) -> Self {
        let (topics, channels): (Vec<Topic>, Vec<_>) = plans
            .map(|(name, start, channels)| (Topic::new(Arc::clone(&name), start), (name, channels)))
            .unzip();
        Self {
            connect,
            topics,
            batcher: Batcher::new(channels).counted_in(status.counters()),
            commands: CommandQueue::new(commands, Arc::clone(status.pulse())),
            status,
            in_doubt: None,
            unauthorized: UnauthorizedTopics::default(),
            stalls: Stalls::default(),
            refresh_begun: None,
            end_offsets: EndOffsets::default(),
            beside,
            role,
        }
    }

    pub(super) fn beat(&self, within: Duration) {
        self.status.pulse().beat(within);
    }

    /// Reports an error that reading survives. An authentication error is reported even within an outage.
    pub(super) fn report(&self, error: &KafkaError) {
        self.report_text(
            &error.to_string(),
            matches!(error.kind, ErrorKind::Refused { .. }),
        );
    }

    /// Reports an error, given as text; returns whether it is new.
    pub(super) fn report_text(&self, error: &str, is_auth_error: bool) -> bool {
        let is_new = if is_auth_error {
            self.status.set_auth_error(error)
        } else {
            self.status.set_error(error)
        };
        if is_new {
            warn!("{error}; streams stay open, retrying");
        }
        is_new
    }

    pub(super) fn report_healthy(&self) {
        if self.status.set_healthy() {
            self.status.counters().count_recovery();
            info!("kafka {}: answers again", self.connect.brokers());
        }
    }
}
