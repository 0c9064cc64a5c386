//! The reading thread: connects, decides where each partition is read from, reads, and starts
//! again after trouble without losing or doubling a record.
//!
//! ```text
//! connect ──► resolve (partitions, watermarks → offsets) ──► poll ⟲ ──error──► back off ──┐
//!    ▲                                                                                    │
//!    └────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//! The [`Batcher`] with the offsets outlives every client, so a rebuilt one continues where the last
//! one stopped. The thread blocks in three places: in the client's `poll` (at most [`POLL_WAIT`]), in
//! questions to brokers, and in `blocking_send` while a stream's channel is full; before each it says by
//! when it turns again ([`Pulse`](super::pulse::Pulse)). It ends when it is told to stop, or when no
//! stream listens any more.
//!
//! Here is the thread's way round, and what it says of trouble. What it is told is in [`commands`]; from where
//! partitions are read, in [`resolve`]; what is noted of them meanwhile, in [`monitoring`]. Which client library reads
//! is not known here: [`client`](super::client) builds it.

mod backpressure;
mod commands;
mod end_offsets;
mod monitoring;
mod progress;
mod resolve;
mod topic;

use std::collections::BTreeSet;
use std::sync::{Arc, mpsc as std_mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use self::topic::Begin;
use super::acl::UnauthorizedTopics;
use super::batcher::Batcher;
use super::client::{Clients, Connect, Handles};
use super::connection::{Connection, backoff};
use super::counters::Trouble;
use super::error::{ErrorKind, KafkaError};
use super::metadata::{Asked, Known, Looked};
use super::reader_status::ReaderStatus;
use super::stall::Stalls;
use super::stream_queues::StreamChannel;
use commands::{Order, Orders};
use end_offsets::Ends;
use log::{debug, info, warn};
use topic::{Found, Topic};

/// Longest wait for records in one poll, and so the longest before a stop is seen.
const POLL_WAIT: Duration = Duration::from_millis(100);

/// The same while topics are not read because a stream has not taken what came of them: it is looked often whether it
/// has.
const PAUSED_WAIT: Duration = Duration::from_millis(10);

/// Records that came one by one are handed on at most so often: who is woken for ten at once does
/// little more than for one, and so do their clients. A record after a pause is handed on at once.
const GATHER: Duration = Duration::from_millis(10);

/// Records that a poll must bring to be worth handing on whenever they come.
const ENOUGH: u64 = 64;

/// How often missing topics and new partitions are looked for.
const REFRESH: Duration = Duration::from_secs(5);

/// How often a broker is asked whether it answers again, while the client library reconnects.
const REFRESH_IN_TROUBLE: Duration = Duration::from_secs(1);

/// A session that lasted so long was healthy: the next trouble is a new one.
const HEALTHY: Duration = Duration::from_secs(30);

/// How long questions may stay without an answer until a new client is tried, and how often that is.
const UNANSWERED: Duration = Duration::from_secs(30);

/// How long a client may take to end.
const CLOSING: Duration = Duration::from_secs(60);

/// One topic to read.
#[derive(Debug)]
pub struct TopicPlan {
    /// Its name.
    pub name: Arc<str>,
    /// Where to begin.
    pub begin: Begin,
    /// The streams that use it.
    pub feeds: Vec<StreamChannel>,
}

/// The running thread.
#[derive(Debug)]
pub struct Tail {
    orders: std_mpsc::Sender<Order>,
    thread: JoinHandle<()>,
    status: Arc<ReaderStatus>,
}

impl Tail {
    /// Starts the thread `kafka-tail`, which reads `topics` until it is stopped.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn spawn(
        connection: Connection,
        topics: Vec<TopicPlan>,
        status: Arc<ReaderStatus>,
    ) -> std::io::Result<Self> {
        Self::spawn_with(
            Box::new(Clients::leading(connection, Arc::clone(&status))),
            topics,
            status,
        )
    }

    /// The same, reading with whatever `connect` gives.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn spawn_with(
        connect: Box<dyn Connect>,
        topics: Vec<TopicPlan>,
        status: Arc<ReaderStatus>,
    ) -> std::io::Result<Self> {
        let (orders, ordered) = std_mpsc::channel();
        let worker_status = Arc::clone(&status);
        let thread = std::thread::Builder::new()
            .name("kafka-tail".to_owned())
            .spawn(move || Worker::new(connect, topics, worker_status, ordered).run())?;
        Ok(Self {
            orders,
            thread,
            status,
        })
    }

    /// Goes on over another connection, at the same offsets: nothing is lost or doubled.
    pub fn reconnect(&self, connection: Connection) {
        let clients = Clients::leading(connection, Arc::clone(&self.status));
        // A thread that has ended reads nothing any more, over whatever connection.
        let _ = self.orders.send(Order::Connect(Box::new(clients)));
        self.status.pulse().command_sent();
    }

    /// How it is doing.
    #[must_use]
    pub fn status(&self) -> &Arc<ReaderStatus> {
        &self.status
    }

    /// Tells the thread to stop and gives its handle to be joined. It ends within about
    /// [`POLL_WAIT`], or once a question under way is answered: a few seconds where no broker is.
    pub fn stop(self) -> JoinHandle<()> {
        // The thread may have ended by itself; then there is nobody to tell.
        let _ = self.orders.send(Order::Stop);
        self.status.pulse().command_sent();
        self.thread
    }
}

struct Worker {
    connect: Box<dyn Connect>,
    topics: Vec<Topic>,
    batcher: Batcher,
    status: Arc<ReaderStatus>,
    orders: Orders,
    /// Since when a topic has looked as if it had been recreated.
    in_doubt: Option<Instant>,
    unauthorized: UnauthorizedTopics,
    stalls: Stalls,
    /// When the look that is under way was begun, in milliseconds since the epoch.
    asked_at: Option<i64>,
    ends: Ends,
}

impl Worker {
    fn new(
        connect: Box<dyn Connect>,
        plans: Vec<TopicPlan>,
        status: Arc<ReaderStatus>,
        ordered: std_mpsc::Receiver<Order>,
    ) -> Self {
        let topics = plans
            .iter()
            .map(|plan| Topic::new(plan.name.clone(), plan.begin))
            .collect();
        let plans = plans.into_iter().map(|plan| (plan.name, plan.feeds));
        let batcher = Batcher::new(plans).counted_in(status.counters());
        let orders = Orders::new(ordered, Arc::clone(status.pulse()));
        Self {
            connect,
            topics,
            batcher,
            status,
            orders,
            in_doubt: None,
            unauthorized: UnauthorizedTopics::default(),
            stalls: Stalls::default(),
            asked_at: None,
            ends: Ends::default(),
        }
    }

    fn run(mut self) {
        let mut failures = 0;
        while !self.batcher.is_closed() {
            self.orders.heed();
            if self.orders.is_stopped {
                break;
            }
            if let Some(connect) = self.orders.next.take() {
                self.connect = connect;
                failures = 0;
                // Which library it will be is not known until it has connected.
                self.status.forget_client();
            }
            let (started, received) = (Instant::now(), self.batcher.received());
            self.turns(self.connect.patience());
            let outcome = self.connect.connect().and_then(|mut handles| {
                let outcome = self.read(&mut handles);
                if self.orders.next.is_some() {
                    // It may take a while to end, and is not what is read with any more.
                    self.status.forget_client();
                }
                self.turns(CLOSING);
                outcome
            });
            // What was read before an error is right and was counted as taken.
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
            self.failed(&error);
            let was_healthy = self.batcher.received() > received || started.elapsed() > HEALTHY;
            failures = if was_healthy { 1 } else { failures + 1 };
            self.orders.wait(backoff(failures));
        }
        self.status.pulse().rest();
        debug!("kafka-tail ends");
    }

    /// How long a poll may wait for records.
    fn poll_wait(&self) -> Duration {
        if self.batcher.is_any_paused() {
            PAUSED_WAIT
        } else {
            POLL_WAIT
        }
    }

    /// The thread turns, and will again within this time.
    fn turns(&self, within: Duration) {
        self.status.pulse().beat(within);
    }

    /// Reads until told to stop or to change over (`Ok`), or the source fails.
    fn read(&mut self, handles: &mut Handles) -> Result<(), KafkaError> {
        self.status.forget_stopped();
        self.stalls.forget();
        self.unauthorized.hand_over(&mut *handles.consumer);
        let mut found = self.resolve(handles)?;
        let (mut refreshed, mut answered) = (Instant::now(), Instant::now());
        while let Some(known) = &found {
            if self.batcher.is_any_full() {
                // Said since the last poll, such as that a topic is loaded: the next one may wait for records in vain.
                self.update_paused(&mut *handles.consumer)?;
            }
            let before = self.batcher.received();
            self.turns(POLL_WAIT);
            let outcome = handles.consumer.poll(self.poll_wait(), &mut self.batcher);
            self.batcher.flush();
            match outcome {
                Ok(()) => {}
                Err(error) if matches!(error.kind, ErrorKind::OutOfRange { .. }) => {
                    self.status.counters().count_error(error.counted_as());
                    found = self.find_place(handles, error)?;
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
            self.note_figures(&mut *handles.consumer, known)?;
            if (1..ENOUGH).contains(&(self.batcher.received() - before)) {
                // Not on the way of the record that has just come, but of those behind it.
                std::thread::sleep(GATHER);
            }
            if self.orders.is_interrupted() || self.batcher.is_closed() {
                return Ok(());
            }
            self.note_loaded(&*handles.consumer);
            self.note_at_end(&*handles.consumer);
            self.unauthorized
                .note(&*handles.consumer, &*self.connect, &self.status);

            let lacks_leaders = self.topics.iter().any(|topic| !topic.leaderless.is_empty());
            let pause = if let Some(trouble) = handles.consumer.trouble() {
                let is_news = if handles.consumer.is_refused() {
                    self.refused(trouble)
                } else {
                    self.troubled(trouble)
                };
                if is_news {
                    self.status.counters().count_error(Trouble::Transport);
                }
                REFRESH_IN_TROUBLE
            } else {
                self.healthy();
                if lacks_leaders {
                    REFRESH_IN_TROUBLE
                } else {
                    REFRESH
                }
            };
            if refreshed.elapsed() < pause {
                continue;
            }
            if let Some(kept) = self.forget_unwanted(known) {
                handles.forget_look();
                handles.consumer.assign(&self.batcher)?;
                refreshed = Instant::now();
                found = Some(kept);
                continue;
            }
            let asked_at = *self.asked_at.get_or_insert_with(resolve::unix_millis);
            self.ends.begin_look();
            if let Some(looked) = handles.look(&self.asked(known)) {
                refreshed = Instant::now();
                self.asked_at = None;
                self.note_ends(&looked);
                self.note_leaderless(&looked, asked_at);
                if looked.is_ok() {
                    answered = refreshed;
                }
                match looked {
                    Ok(looked) => found = Some(self.resolve_changed(handles, looked, asked_at)?),
                    Err(error) if error.is_interrupted() => return Err(error),
                    Err(error) if handles.consumer.reconnects() => {
                        self.status.counters().count_error(error.counted_as());
                        self.failed(&error);
                        if answered.elapsed() >= UNANSWERED {
                            if self.is_answered_anew() {
                                return Err(error);
                            }
                            answered = Instant::now();
                        }
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Partitions that a look found without a leader had none when it was begun.
    fn note_leaderless(&mut self, looked: &Result<Vec<Looked>, KafkaError>, asked_at: i64) {
        let Ok(looked) = looked else { return };
        for (topic, looked) in self.topics.iter_mut().zip(looked) {
            if !topic.leaderless.is_empty() && looked.bounds.is_none() {
                topic.leaderless_at = asked_at;
            }
        }
    }

    /// Whether a new client gets the answers that the present one waits for: libraries have lost their way to
    /// brokers before, for good.
    fn is_answered_anew(&mut self) -> bool {
        self.turns(self.connect.patience());
        let is_answered = self.connect.connect_admin().is_ok_and(|admin| {
            let names: Vec<Arc<str>> = self.topics.iter().map(|topic| Arc::clone(&topic.name)).collect();
            admin.topics(&names, &BTreeSet::new()).is_ok()
        });
        debug!("a new client gets answers: {is_answered}");
        is_answered
    }

    /// What is looked at, given what is known.
    fn asked(&self, found: &[Found]) -> Vec<Asked> {
        let asked = self.topics.iter().zip(found);
        asked
            .map(|(topic, found)| Asked {
                topic: Arc::clone(&topic.name),
                leaderless: topic.leaderless.clone(),
                // What is not fetched brings no news of its end, nor of where it begins now.
                wants_bounds: self.batcher.is_paused(&topic.name)
                    || !self.status.stopped_of(&topic.name).is_empty(),
                wants_ends: self.batcher.has_table(&topic.name) && self.ends.wants(&topic.name),
                known: Some(Known {
                    partitions: found.partitions,
                    id: topic.id,
                    past: topic.past.clone(),
                }),
            })
            .collect()
    }

    /// What that shows: the id of a topic that is no more may still be told, and is believed of none.
    fn found(&self, looked: &[Looked]) -> Vec<Found> {
        let seen = self.topics.iter().zip(looked);
        seen.map(|(topic, looked)| Found {
            partitions: looked.state.partitions,
            id: looked.state.id.filter(|id| !topic.past.contains(id)).or(topic.id),
            is_identified: looked.state.id.is_some_and(|id| !topic.past.contains(&id)),
        })
        .collect()
    }

    /// Looks at what exists, and waits for it.
    fn look(&self, handles: &mut Handles) -> Result<Vec<Found>, KafkaError> {
        // Who asks so decides anew of all partitions anyway, those without a leader too.
        let asked = |topic: &Topic| Asked {
            topic: Arc::clone(&topic.name),
            leaderless: Vec::new(),
            wants_bounds: false,
            wants_ends: false,
            known: None,
        };
        let asked: Vec<Asked> = self.topics.iter().map(asked).collect();
        handles.look_now(&asked).map(|looked| self.found(&looked))
    }

    /// Tells of an error that reading does not end with. One that needs a person is told although there
    /// was another before.
    fn failed(&self, error: &KafkaError) {
        let what = error.to_string();
        if matches!(error.kind, ErrorKind::Refused { .. }) {
            self.refused(&what);
        } else {
            self.troubled(&what);
        }
    }

    /// A login or a certificate is refused; returns whether that is news.
    fn refused(&self, what: &str) -> bool {
        let is_news = self.status.set_auth_error(what);
        if is_news {
            warn!("{what}; streams stay open, retrying");
        }
        is_news
    }

    fn healthy(&self) {
        if self.status.set_healthy() {
            self.status.counters().count_recovery();
            info!("kafka {}: answers again", self.connect.brokers());
        }
    }

    /// Something is wrong; returns whether nothing was before.
    fn troubled(&self, what: &str) -> bool {
        let is_news = self.status.set_error(what);
        if is_news {
            warn!("{what}; streams stay open, retrying");
        }
        is_news
    }
}
