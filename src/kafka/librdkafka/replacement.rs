//! Replaces both handles after a topic was recreated, while reading of other topics continues.
//!
//! The admin thread creates, connects and assigns the new handles. The old consumer is read until the new one has
//! returned its first records.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::consumer::LibrdkafkaConsumer;
use super::fetch_handle::{FetchHandle, push};
use super::settings::REQUEST_TIMEOUT;
use crate::kafka::admin::PendingRequest;
use crate::kafka::batcher::{Batcher, FetchPosition};
use crate::kafka::consumer::Consumer;
use crate::kafka::error::KafkaError;

/// How long a replaced handle is still read: the new one needs about as long for its first record.
const OVERLAP: Duration = Duration::from_secs(1);

/// Longest wait in a poll of either handle while both are read.
const OVERLAP_WAIT: Duration = Duration::from_millis(5);

impl LibrdkafkaConsumer {
    /// Begins to replace both handles, because a topic was recreated.
    pub(super) fn begin_replacement(&mut self, batcher: &Batcher) -> Result<(), KafkaError> {
        if self.replacing.is_some() {
            return Ok(());
        }
        let (factory, pulse) = (self.factory.clone(), Arc::clone(&self.pulse));
        let describes_topics = self.describes_topics.load(Ordering::Relaxed);
        let places = batcher.fetch_positions();
        let places: Vec<FetchPosition> = places
            .filter(|place| !self.large_batches.is_stopped(place))
            .collect();
        self.replacing = Some(self.admin.begin(move |admin| {
            admin.reset()?;
            let mut reading = FetchHandle::new(&factory)?;
            if describes_topics {
                reading.warm_up(&places, REQUEST_TIMEOUT, &pulse);
            }
            Ok(reading)
        })?);
        Ok(())
    }

    pub(super) fn take_replacement(&mut self, batcher: &Batcher) -> Result<(), KafkaError> {
        let Some(answer) = self.replacing.as_ref().and_then(PendingRequest::answer) else {
            return Ok(());
        };
        self.replacing = None;
        let old = std::mem::replace(&mut self.reading, answer?);
        self.assign(batcher)?;
        self.retiring = Some((old, Instant::now() + OVERLAP));
        Ok(())
    }

    /// Takes records of the old handle, so that reading does not pause until the new one returns some. The batcher
    /// drops duplicates. Returns how long to wait for the new handle.
    pub(super) fn poll_retiring(&mut self, wait: Duration, batcher: &mut Batcher) -> Duration {
        let with_headers = self.with_headers;
        let Some((old, until)) = &mut self.retiring else {
            return wait;
        };
        // The new handle reports the same errors, or they do not matter.
        old.queue.take(Duration::ZERO, |fetched| {
            if fetched.error().is_none() {
                push(batcher, &fetched, with_headers);
            }
        });
        if Instant::now() >= *until {
            self.retire();
        }
        wait.min(OVERLAP_WAIT)
    }

    pub(super) fn retire(&mut self) {
        if let Some((old, _)) = self.retiring.take() {
            old.dispose();
        }
    }
}
