//! Requests about topics and offsets: the trait that both Kafka clients implement beside
//! [`Consumer`](super::consumer::Consumer), and the thread that makes them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::error::{ErrorKind, KafkaError};
use super::partition::Bounds;
use super::pulse::Pulse;
use super::record::TopicId;
use super::worker_thread::{self, Abandoned, WorkerThread};

/// The state of a topic, as the brokers report it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicState {
    /// The topic.
    pub topic: Arc<str>,
    /// How many partitions it has; 0 if it does not exist.
    pub partitions: usize,
    /// Its id (KIP-516); `None` where it is unknown, because the topic does not exist or brokers before 2.8 have none.
    pub id: Option<TopicId>,
    /// Whether it may be read, if the request shows that.
    pub is_authorized: Option<bool>,
    /// Any other error of the topic.
    pub error: Option<String>,
}

/// A Kafka client for requests about topics and offsets. Its calls block. After an error other than a refusal it may
/// be unusable.
pub trait Admin: Send {
    /// The state of every topic. Never creates one. Tests whether `unauthorized` topics may be read now.
    ///
    /// # Errors
    /// When no broker answers.
    fn topics(
        &mut self,
        topics: &[Arc<str>],
        unauthorized: &BTreeSet<Arc<str>>,
    ) -> Result<Vec<TopicState>, KafkaError>;

    /// The bounds of the partitions (`0..count`) of every topic; `None` if no leader answers.
    ///
    /// # Errors
    /// When no broker answers.
    fn bounds(&mut self, topics: &[(Arc<str>, usize)]) -> Result<Vec<Vec<Option<Bounds>>>, KafkaError>;

    /// Per partition of a topic, from 0, the first offset whose record is at or after the given time (milliseconds
    /// since the epoch), or the high watermark if no record is. `None` where no time is given.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] from a client without times; otherwise when the leader of a partition does not
    /// answer.
    fn offsets_at(&mut self, topic: &str, times: &[Option<i64>]) -> Result<Vec<Option<i64>>, KafkaError>;

    /// `host:port` of the cluster's brokers, as far as the client knows them.
    ///
    /// # Errors
    /// When no broker answers.
    fn brokers(&mut self) -> Result<Vec<String>, KafkaError> {
        Ok(Vec::new())
    }

    /// Drops cached metadata, because a topic was recreated.
    ///
    /// # Errors
    /// When the client library refuses.
    fn reset(&mut self) -> Result<(), KafkaError> {
        Ok(())
    }

    /// Does work of the client library that cannot wait for the next request. Returns the time until the next call;
    /// `None` for never.
    fn serve(&mut self) -> Option<Duration> {
        None
    }
}

/// An [`Admin`] on its own thread: a hanging broker delays neither reading nor commands.
#[derive(Clone)]
pub struct AdminThread {
    worker: WorkerThread<Box<dyn Admin>>,
    pulse: Arc<Pulse>,
    brokers: Arc<str>,
}

pub(super) struct PendingRequest<T> {
    call: worker_thread::PendingCall<Result<T, KafkaError>>,
    brokers: Arc<str>,
}

impl AdminThread {
    /// Starts the thread, for requests by the thread with this pulse.
    ///
    /// # Errors
    /// When the operating system cannot start a thread.
    pub fn spawn(
        admin: impl Admin + 'static,
        brokers: Arc<str>,
        pulse: &Arc<Pulse>,
    ) -> Result<Self, KafkaError> {
        let admin: Box<dyn Admin> = Box::new(admin);
        let worker = WorkerThread::spawn("kafka-admin", admin, Arc::clone(pulse), |admin| admin.serve());
        Ok(Self {
            worker: worker.map_err(|error| {
                KafkaError::unreachable(&brokers, format!("no thread for requests: {error}"))
            })?,
            pulse: Arc::clone(pulse),
            brokers,
        })
    }

    pub(super) fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }

    /// Begins a request. Fails when an earlier one hangs.
    pub(super) fn begin<T: Send + 'static>(
        &self,
        request: impl FnOnce(&mut dyn Admin) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<PendingRequest<T>, KafkaError> {
        let call = self.worker.begin(move |admin| request(&mut **admin));
        Ok(PendingRequest {
            call: call.map_err(|abandoned| no_answer(&self.brokers, abandoned))?,
            brokers: Arc::clone(&self.brokers),
        })
    }

    /// Makes a request and waits for the response, or for a command to the calling thread ([`ErrorKind::Interrupted`]).
    pub(crate) fn call<T: Send + 'static>(
        &self,
        request: impl FnOnce(&mut dyn Admin) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T, KafkaError> {
        let answer = self.worker.call(move |admin| request(&mut **admin));
        answer.unwrap_or_else(|abandoned| Err(no_answer(&self.brokers, abandoned)))
    }

    pub(crate) fn topics(
        &self,
        topics: &[Arc<str>],
        unauthorized: &BTreeSet<Arc<str>>,
    ) -> Result<Vec<TopicState>, KafkaError> {
        let (topics, unauthorized) = (topics.to_vec(), unauthorized.clone());
        self.call(move |admin| admin.topics(&topics, &unauthorized))
    }

    pub(crate) fn bounds(
        &self,
        topics: &[(Arc<str>, usize)],
    ) -> Result<Vec<Vec<Option<Bounds>>>, KafkaError> {
        let topics = topics.to_vec();
        self.call(move |admin| admin.bounds(&topics))
    }

    pub(crate) fn bounds_of(
        &self,
        topic: &Arc<str>,
        partitions: usize,
    ) -> Result<Vec<Option<Bounds>>, KafkaError> {
        let bounds = self.bounds(&[(Arc::clone(topic), partitions)])?;
        Ok(bounds.into_iter().next().unwrap_or_default())
    }

    pub(crate) fn offsets_at(
        &self,
        topic: &Arc<str>,
        times: &[Option<i64>],
    ) -> Result<Vec<Option<i64>>, KafkaError> {
        let (topic, times) = (Arc::clone(topic), times.to_vec());
        self.call(move |admin| admin.offsets_at(&topic, &times))
    }
}

impl<T> PendingRequest<T> {
    /// The response; `None` while the request is in progress.
    pub(super) fn answer(&self) -> Option<Result<T, KafkaError>> {
        let answer = self.call.answer()?;
        Some(answer.unwrap_or_else(|abandoned| Err(no_answer(&self.brokers, abandoned))))
    }
}

pub(super) fn no_answer(brokers: &Arc<str>, abandoned: Abandoned) -> KafkaError {
    match abandoned {
        Abandoned::Interrupted => KafkaError::new(brokers, ErrorKind::Interrupted),
        Abandoned::TimedOut => KafkaError::unreachable(brokers, "the Kafka client does not come back"),
    }
}
