//! The loop of the reading thread: connect, read, back off.

use std::time::{Duration, Instant};

use log::{debug, info};

use super::state::{KafkaReader, Role};
use super::topic::{REFRESH, TopicInfo};
use crate::kafka::client::Handles;
use crate::kafka::connection::backoff;
use crate::kafka::consumer::Consumer;
use crate::kafka::counters::ErrorClass;
use crate::kafka::error::{ErrorKind, KafkaError};

/// Longest wait for records in one poll, which bounds the time until a command is received.
const POLL_WAIT: Duration = Duration::from_millis(100);

/// The same while topics are paused, so that they resume soon after their streams have caught up.
const PAUSED_WAIT: Duration = Duration::from_millis(10);

/// Shortest time between two batches of few records: waking clients for ten records costs little more than for one. A
/// record after a pause is sent at once.
const GATHER: Duration = Duration::from_millis(10);

/// Records of one poll that justify a batch of their own.
const ENOUGH: u64 = 64;

/// How often metadata is refreshed while partitions lack leaders, or the client library recovers from an error.
const FAST_REFRESH: Duration = Duration::from_secs(1);

/// A session of this length was healthy: the next failure starts a new backoff.
const HEALTHY: Duration = Duration::from_secs(30);

/// How long metadata refreshes may fail until another client is tried, and how often that is.
const UNANSWERED: Duration = Duration::from_secs(30);

const CLOSING: Duration = Duration::from_secs(60);

struct Refreshes {
    last: Instant,
    succeeded: Instant,
}

impl KafkaReader {
    /// Runs until the thread is stopped or all streams have closed their channels.
    pub(super) fn run(mut self) {
        let mut failures = 0;
        loop {
            self.commands.receive();
            if self.commands.is_stopped {
                break;
            }
            self.take_over();
            if self.batcher.is_closed() {
                if self.may_end() {
                    break;
                }
                continue;
            }
            if let Some(connect) = self.commands.reconnect.take() {
                self.connect = connect;
                failures = 0;
                // The client library is unknown until it has connected.
                self.status.forget_client();
            }
            let (started, received) = (Instant::now(), self.batcher.received());
            self.beat(self.connect.patience());
            let outcome = self.connect.connect().and_then(|mut handles| {
                let outcome = self.read(&mut handles);
                if self.commands.reconnect.is_some() {
                    // It may take a while to close, and no longer reads.
                    self.status.forget_client();
                }
                self.beat(CLOSING);
                outcome
            });
            // Records that were read before an error are valid and count as read.
            self.batcher.flush();
            let error = match outcome {
                Ok(()) => continue,
                Err(error) if error.is_interrupted() => continue,
                Err(error) => error,
            };
            self.status.counters().count_error(error.counted_as());
            if self.connect.refuse(&error) {
                info!("{error}: another client takes over");
                continue;
            }
            self.report(&error);
            let was_healthy = self.batcher.received() > received || started.elapsed() > HEALTHY;
            failures = if was_healthy { 1 } else { failures + 1 };
            self.commands.wait(backoff(failures));
        }
        self.status.pulse().rest();
        if self.role == Role::First {
            self.beside.join();
        }
        debug!("kafka-reader ends");
    }

    /// Reads until a command is received or another client takes over (`Ok`), or the client fails.
    fn read(&mut self, handles: &mut Handles) -> Result<(), KafkaError> {
        self.status.forget_stopped();
        self.stalls.forget();
        self.unauthorized.hand_over(&mut *handles.consumer);
        let mut found = self.resolve(handles)?;
        let now = Instant::now();
        let mut refreshes = Refreshes {
            last: now,
            succeeded: now,
        };
        while let Some(known) = &found {
            if self.batcher.is_any_full() {
                // Sends what was added since the last poll, such as the end of a load: the next poll may be empty.
                self.update_paused(&mut *handles.consumer)?;
            }
            let before = self.batcher.received();
            self.beat(POLL_WAIT);
            let outcome = handles.consumer.poll(self.poll_wait(), &mut self.batcher);
            self.batcher.flush();
            match outcome {
                Ok(()) => {}
                Err(error) if matches!(error.kind, ErrorKind::OutOfRange { .. }) => {
                    self.status.counters().count_error(error.counted_as());
                    found = self.recover_offsets(handles, error)?;
                    continue;
                }
                Err(error) if error.is_of_batch() => {
                    self.status.counters().count_error(error.counted_as());
                    if self.connect.refuse(&error) {
                        info!("{error}: another client takes over");
                        return Ok(());
                    }
                    self.stop_partition(&mut *handles.consumer, &error)?;
                }
                Err(error) => return Err(error),
            }
            self.update_paused(&mut *handles.consumer)?;
            self.update_status(&mut *handles.consumer, known)?;
            if (1..ENOUGH).contains(&(self.batcher.received() - before)) {
                // Delays later records, not the present ones.
                std::thread::sleep(GATHER);
            }
            if self.commands.is_interrupted() || self.batcher.is_closed() {
                return Ok(());
            }
            self.update_loading(&*handles.consumer);
            self.end_offsets.notify(&mut self.batcher, &*handles.consumer);
            self.unauthorized
                .note(&*handles.consumer, &*self.connect, &self.status);
            let pause = self.refresh_pause(&*handles.consumer);
            if refreshes.last.elapsed() >= pause
                && let Some(refreshed) = self.refresh(handles, known, &mut refreshes)?
            {
                found = Some(refreshed);
            }
        }
        Ok(())
    }

    fn poll_wait(&self) -> Duration {
        if self.batcher.is_any_paused() {
            PAUSED_WAIT
        } else {
            POLL_WAIT
        }
    }

    /// Reports an error that the client library retries; returns how long to wait between two metadata refreshes.
    fn refresh_pause(&self, consumer: &dyn Consumer) -> Duration {
        if let Some(error) = consumer.retried_error() {
            if self.report_text(error, consumer.is_refused()) {
                self.status.counters().count_error(ErrorClass::Transport);
            }
            return FAST_REFRESH;
        }
        self.report_healthy();
        if self.topics.iter().any(|topic| !topic.leaderless.is_empty()) {
            FAST_REFRESH
        } else {
            REFRESH
        }
    }

    /// Removes unused topics, or refreshes metadata and applies changes. Returns the topics, or `None` while the refresh
    /// is in progress.
    fn refresh(
        &mut self,
        handles: &mut Handles,
        known: &[TopicInfo],
        refreshes: &mut Refreshes,
    ) -> Result<Option<Vec<TopicInfo>>, KafkaError> {
        if let Some(kept) = self.forget_unused(known) {
            handles.forget_look();
            handles.consumer.assign(&self.batcher)?;
            refreshes.last = Instant::now();
            return Ok(Some(kept));
        }
        let Some((looked, begun)) = self.refresh_metadata(handles, known) else {
            return Ok(None);
        };
        refreshes.last = Instant::now();
        match looked {
            Ok(looked) => {
                refreshes.succeeded = refreshes.last;
                self.resolve_changed(handles, looked, begun).map(Some)
            }
            Err(error) if !error.is_interrupted() && handles.consumer.reconnects() => {
                self.status.counters().count_error(error.counted_as());
                self.report(&error);
                if refreshes.succeeded.elapsed() >= UNANSWERED {
                    if self.does_another_client_work() {
                        return Err(error);
                    }
                    refreshes.succeeded = Instant::now();
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}
