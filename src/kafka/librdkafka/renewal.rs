//! Both handles made anew, because a topic was recreated, while the others are read on.
//!
//! The new ones are made, connected and assigned on the asking thread. The old one is read until the new one has
//! brought its first records.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;

use super::Librdkafka;
use super::asking::ASK_TIMEOUT;
use super::consuming::{Consuming, PlaceCopy, push};
use super::context::Context;
use crate::kafka::batcher::Batcher;
use crate::kafka::error::KafkaError;
use crate::kafka::source::Source;
use crate::kafka::worker_thread::Begun;

/// How long a handle that another one replaces is still read: the other needs about as long until its first record
/// comes.
const OVERLAP: Duration = Duration::from_secs(1);

/// How long one of the two is waited for meanwhile.
const OVERLAP_WAIT: Duration = Duration::from_millis(5);

/// A new consuming handle, and what the new asking one tells.
pub(super) type Renewed = Result<(Consuming, Arc<Context>), KafkaError>;

impl Librdkafka {
    /// Begins to make both handles anew, because a topic was recreated; the others are read on meanwhile.
    pub(super) fn begin_renewal(&mut self, batcher: &Batcher) -> Result<(), KafkaError> {
        if self.renewing.is_some() {
            return Ok(());
        }
        let (maker, is_described, pulse) = (self.maker.clone(), self.is_described, Arc::clone(&self.pulse));
        let places = batcher.places().filter(|place| !self.oversize.is_stopped(place));
        let places: Vec<PlaceCopy> = places.map(PlaceCopy::from).collect();
        let renewing = self.asking.begin(move |asking| {
            let fresh = maker.asking()?;
            let told = Arc::clone(fresh.context());
            asking.replace_handle(fresh);
            let mut consuming = maker.consuming()?;
            if is_described {
                consuming.warm_up(&places, ASK_TIMEOUT, &pulse);
            }
            Ok((consuming, told))
        });
        self.renewing = Some(renewing.map_err(|left| self.left(left))?);
        Ok(())
    }

    /// Goes on with the handles that were made anew, once they are there.
    pub(super) fn take_renewal(&mut self, batcher: &Batcher) -> Result<(), KafkaError> {
        let Some(answer) = self.renewing.as_ref().and_then(Begun::answer) else {
            return Ok(());
        };
        self.renewing = None;
        let (consuming, told) = answer.unwrap_or_else(|left| Err(self.left(left)))?;
        let old = std::mem::replace(&mut self.consuming, consuming);
        self.told = told;
        self.assign(batcher)?;
        self.retiring = Some((old, Instant::now() + OVERLAP));
        Ok(())
    }

    /// Takes what the handle before still brings, so that there is no pause until the new one brings records. What both
    /// bring is passed over by the batcher. Returns how long the new handle may be waited for.
    pub(super) fn poll_retiring(&mut self, wait: Duration, batcher: &mut Batcher) -> Duration {
        let with_headers = self.with_headers;
        let Some((old, until)) = &mut self.retiring else {
            return wait;
        };
        // Its errors are those of the new handle, or of no consequence.
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

    /// Ends the handle before.
    pub(super) fn retire(&mut self) {
        if let Some((old, _)) = self.retiring.take() {
            old.dispose();
        }
    }
}
