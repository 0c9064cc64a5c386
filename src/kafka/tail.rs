//! The reading thread: connects, decides where each partition is read from, reads, and starts
//! again after trouble without losing or doubling a record.
//!
//! ```text
//! connect ──► resolve (partitions, watermarks → offsets) ──► poll ⟲ ──error──► back off ──┐
//!    ▲                                                                                    │
//!    └────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//! The [`Inbox`] with the offsets outlives every client, so a rebuilt one continues where the last
//! one stopped. The thread blocks in three places: in the client's `poll` (at most [`POLL_WAIT`]), in
//! questions to brokers, and in `blocking_send` while a stream's channel is full; before each it says by
//! when it turns again ([`Pulse`](super::pulse::Pulse)). It ends when it is told to stop, or when no
//! stream listens any more.

use std::sync::{Arc, mpsc as std_mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use log::{debug, info, warn};
use tokio::sync::mpsc;

use super::access::Access;
use super::client::{Clients, Connect};
use super::inbox::Inbox;
use super::lag::{End, lag};
use super::look::{self, Asked, Looked};
use super::progress::Loading;
use super::record::{BEGINNING, Feed};
use super::rights::Rights;
use super::source::{Source, SourceError};
use super::stall::Stalls;
use super::status::Status;
use super::tally::Trouble;
pub use super::topic::Begin;
use super::topic::{DOUBT, DOUBT_PAUSE, Found, Topic, ends, looks_recreated};
use crate::config::{Client, Isolation};

/// Longest wait for records in one poll, and so the longest before a stop is seen.
const POLL_WAIT: Duration = Duration::from_millis(100);

/// Records that came one by one are handed on at most so often: who is woken for ten at once does
/// little more than for one, and so do their clients. A record after a pause is handed on at once.
const GATHER: Duration = Duration::from_millis(10);

/// Records that a poll must bring to be worth handing on whenever they come.
const ENOUGH: u64 = 64;

/// How often missing topics and new partitions are looked for.
const REFRESH: Duration = Duration::from_secs(5);

/// How often a broker is asked whether it answers again, while the client library reconnects.
const REFRESH_IN_TROUBLE: Duration = Duration::from_secs(1);

/// First and longest pause before a client is built anew; each is shortened by up to half, at random.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// A session that lasted so long was healthy: the next trouble is a new one.
const HEALTHY: Duration = Duration::from_secs(30);

/// How long questions may stay without an answer until a new client is tried, and how often that is.
const UNANSWERED: Duration = Duration::from_secs(60);

/// How long a client may take to end.
const CLOSING: Duration = Duration::from_secs(60);

/// How to reach Kafka.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// `host:port` of some brokers.
    pub brokers: Vec<String>,
    /// Which client library is wanted.
    pub client: Client,
    /// Which records are visible.
    pub isolation: Isolation,
    /// Who we are to brokers, and they to us.
    pub access: Access,
    /// Properties handed to librdkafka as they are.
    pub librdkafka: Vec<(String, String)>,
    /// Whether a stream shows headers, or filters may look at them.
    pub needs_headers: bool,
    /// Why librdkafka is needed whatever the broker speaks, if something needs it.
    pub needs_librdkafka: Option<&'static str>,
}

/// One topic to read.
#[derive(Debug)]
pub struct TopicPlan {
    /// Its name.
    pub name: Arc<str>,
    /// Where to begin.
    pub begin: Begin,
    /// The streams that use it. The channels' bounds are the back-pressure.
    pub feeds: Vec<mpsc::Sender<Feed>>,
}

/// What the thread is told.
enum Order {
    /// To end.
    Stop,
    /// To go on at its own offsets with clients from here.
    Connect(Box<dyn Connect>),
}

/// The running thread.
#[derive(Debug)]
pub struct Tail {
    orders: std_mpsc::Sender<Order>,
    thread: JoinHandle<()>,
    status: Arc<Status>,
}

impl Tail {
    /// Starts the thread `kafka-tail`, which reads `topics` until it is stopped.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn spawn(
        connection: Connection,
        topics: Vec<TopicPlan>,
        status: Arc<Status>,
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
        status: Arc<Status>,
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
        self.status.pulse().give();
    }

    /// How it is doing.
    #[must_use]
    pub fn status(&self) -> &Arc<Status> {
        &self.status
    }

    /// Tells the thread to stop and gives its handle to be joined. It ends within about
    /// [`POLL_WAIT`], or once a question under way is answered: a few seconds where no broker is. A thread
    /// that waits for room in a stream's channel ends when the receiver is dropped.
    pub fn stop(self) -> JoinHandle<()> {
        // The thread may have ended by itself; then there is nobody to tell.
        let _ = self.orders.send(Order::Stop);
        self.status.pulse().give();
        self.thread
    }
}

struct Worker {
    connect: Box<dyn Connect>,
    topics: Vec<Topic>,
    inbox: Inbox,
    status: Arc<Status>,
    ordered: std_mpsc::Receiver<Order>,
    is_stopped: bool,
    /// Clients from here are to be used instead of those of the source that is being read.
    is_reconnecting: bool,
    /// Since when a topic has looked as if it had been recreated.
    in_doubt: Option<Instant>,
    rights: Rights,
    stalls: Stalls,
}

impl Worker {
    fn new(
        connect: Box<dyn Connect>,
        plans: Vec<TopicPlan>,
        status: Arc<Status>,
        ordered: std_mpsc::Receiver<Order>,
    ) -> Self {
        let topics = plans
            .iter()
            .map(|plan| Topic::new(plan.name.clone(), plan.begin))
            .collect();
        let plans = plans.into_iter().map(|plan| (plan.name, plan.feeds));
        let inbox = Inbox::watched(plans, status.pulse()).counted_in(status.tally());
        Self {
            connect,
            topics,
            inbox,
            status,
            ordered,
            is_stopped: false,
            is_reconnecting: false,
            in_doubt: None,
            rights: Rights::default(),
            stalls: Stalls::default(),
        }
    }

    fn run(mut self) {
        let mut failures = 0;
        while !self.inbox.is_closed() {
            self.heed_orders();
            if self.is_stopped {
                break;
            }
            if std::mem::take(&mut self.is_reconnecting) {
                failures = 0;
            }
            let (started, received) = (Instant::now(), self.inbox.received());
            self.turns(self.connect.patience());
            let outcome = self.connect.connect().and_then(|mut source| {
                let outcome = self.read(&mut *source);
                self.turns(CLOSING);
                outcome
            });
            // What was read before an error is right and was counted as taken.
            self.inbox.flush();
            let error = match outcome {
                Ok(()) | Err(SourceError::Interrupted) => continue,
                Err(error) => error,
            };
            self.status.tally().count(error.kind());
            if self.connect.refuse(&error) {
                info!("{error}: another client takes over");
                continue;
            }
            self.failed(&error);
            let was_healthy = self.inbox.received() > received || started.elapsed() > HEALTHY;
            failures = if was_healthy { 1 } else { failures + 1 };
            self.wait(backoff(failures));
        }
        self.status.pulse().rest();
        debug!("kafka-tail ends");
    }

    /// The thread turns, and will again within this time.
    fn turns(&self, within: Duration) {
        self.status.pulse().beat(within);
    }

    /// Reads until told to stop or to change over (`Ok`), or the source fails.
    fn read(&mut self, source: &mut dyn Source) -> Result<(), SourceError> {
        self.status.forget_stopped();
        self.stalls.forget();
        self.rights.hand_over(source);
        let mut found = self.resolve(source)?;
        let (mut refreshed, mut answered) = (Instant::now(), Instant::now());
        while let Some(known) = &found {
            let before = self.inbox.received();
            self.turns(POLL_WAIT);
            let outcome = source.poll(POLL_WAIT, &mut self.inbox);
            self.inbox.flush();
            match outcome {
                Ok(()) => {}
                Err(error @ SourceError::OutOfRange { .. }) => {
                    self.status.tally().count(error.kind());
                    found = self.find_place(source, error)?;
                    continue;
                }
                Err(error @ SourceError::Codec { .. }) => {
                    self.status.tally().count(error.kind());
                    if self.connect.refuse(&error) {
                        info!("{error}: another client takes over");
                        return Ok(());
                    }
                    self.stop_partition(source, &error);
                }
                Err(error) => return Err(error),
            }
            self.note_figures(source)?;
            if (1..ENOUGH).contains(&(self.inbox.received() - before)) {
                // Not on the way of the record that has just come, but of those behind it.
                std::thread::sleep(GATHER);
            }
            if self.is_interrupted() || self.inbox.is_closed() {
                return Ok(());
            }
            let is_quiet = self.inbox.received() == before;
            self.note_loaded(source, is_quiet)?;
            self.rights.note(source, &*self.connect, &self.status);

            let lacks_leaders = self.topics.iter().any(|topic| !topic.leaderless.is_empty());
            let pause = if let Some(trouble) = source.trouble() {
                if self.troubled(trouble) {
                    self.status.tally().count(Trouble::Transport);
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
            if self.forget_unwanted() {
                refreshed = Instant::now();
                found = self.resolve(source)?;
                continue;
            }
            if let Some(looked) = source.look(&self.asked()) {
                refreshed = Instant::now();
                if looked.is_ok() {
                    answered = refreshed;
                }
                match looked {
                    Ok(now) if self.found(&now) != *known || now.iter().any(|topic| topic.is_led) => {
                        found = self.resolve(source)?;
                    }
                    Ok(_) => {}
                    Err(error @ SourceError::Interrupted) => return Err(error),
                    Err(error) if source.reconnects() => {
                        self.status.tally().count(error.kind());
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

    /// Where the offset of a partition is out of range: goes on at those that exist, without another
    /// client, so that the other partitions hardly notice.
    ///
    /// # Errors
    /// With `why`, if all offsets are as they should be.
    fn find_place(
        &mut self,
        source: &mut dyn Source,
        why: SourceError,
    ) -> Result<Option<Vec<Found>>, SourceError> {
        let places =
            |inbox: &Inbox| -> Vec<Vec<i64>> { inbox.positions().map(|(_, next)| next.to_vec()).collect() };
        let before = places(&self.inbox);
        let found = self.resolve(source)?;
        if found.is_some() && places(&self.inbox) == before {
            return Err(why);
        }
        Ok(found)
    }

    /// What cannot be read stops its partition, and no other.
    fn stop_partition(&self, source: &mut dyn Source, why: &SourceError) {
        if let SourceError::Codec { topic, partition, .. } = why {
            source.stop(topic, *partition);
            if self.status.set_stopped(topic, *partition, &why.to_string()) {
                warn!("{why}; until then this partition is not read");
            }
        }
    }

    /// Tells how far behind the ends of partitions reading is, and how connections are, as far as there is
    /// news of those.
    ///
    /// # Errors
    /// When a partition does not get on although nothing is said to be wrong.
    fn note_figures(&mut self, source: &mut dyn Source) -> Result<(), SourceError> {
        if let Some(links) = source.links() {
            self.status.set_links(links);
        }
        let ends = source.ends();
        // Where something is wrong, or markers at the end are not told from records, standing still means nothing.
        let may_stall = source.reconnects() && source.trouble().is_none();
        if !may_stall {
            self.stalls.forget();
        }
        for end in ends {
            let Some(next) = self.inbox.next_offset(&end.topic, end.partition) else {
                continue;
            };
            let lag = end.lag(next);
            if let Some(lag) = lag {
                self.status.set_lag(&end.topic, end.partition, lag);
            }
            if end.is_fetched && lag.is_none_or(|lag| lag == 0) || self.is_leaderless(&end) {
                self.stalls.is_done(&end.topic, end.partition);
            } else if may_stall && self.stalls.is_stalled(&end.topic, end.partition, next) {
                let reason = match end.offset {
                    Some(offset) if end.is_fetched => {
                        format!("nothing comes, although there are records up to {offset}")
                    }
                    _ => "the client library does not fetch it".to_owned(),
                };
                return Err(SourceError::Partition {
                    brokers: self.connect.brokers(),
                    at: format!(
                        "topic {:?} partition {} at offset {next}",
                        end.topic, end.partition
                    ),
                    reason,
                });
            }
        }
        Ok(())
    }

    /// Whether a new client gets the answers that the present one waits for: libraries have lost their way to
    /// brokers before, for good.
    fn is_answered_anew(&mut self) -> bool {
        self.turns(self.connect.patience());
        let is_answered = match self.connect.connect() {
            Ok(mut other) => {
                let looked = self.look(&mut *other);
                self.turns(CLOSING);
                looked.is_ok()
            }
            Err(_) => false,
        };
        debug!("a new client gets answers: {is_answered}");
        is_answered
    }

    /// Whether nothing can come of a partition because nobody leads it.
    fn is_leaderless(&self, end: &End) -> bool {
        let topic = self.topics.iter().find(|topic| *topic.name == *end.topic);
        topic.is_some_and(|topic| topic.leaderless.contains(&(end.partition as usize)))
    }

    /// Reads no more what no stream wants any more; returns whether there was such a topic.
    fn forget_unwanted(&mut self) -> bool {
        let gone = self.inbox.forget_unwanted();
        for name in &gone {
            info!("topic {name:?} is read no more: no stream uses it");
            self.status.forget(name);
            self.rights.forget(name);
            self.topics.retain(|topic| topic.name != *name);
        }
        !gone.is_empty()
    }

    /// What is looked at.
    fn asked(&self) -> Vec<Asked> {
        let asked = |topic: &Topic| Asked {
            topic: Arc::clone(&topic.name),
            leaderless: topic.leaderless.clone(),
        };
        self.topics.iter().map(asked).collect()
    }

    /// What that shows: the id of a topic that is no more may still be told, and is believed of none.
    fn found(&self, looked: &[Looked]) -> Vec<Found> {
        let seen = self.topics.iter().zip(looked);
        seen.map(|(topic, looked)| Found {
            partitions: looked.partitions,
            id: looked.id.filter(|id| !topic.past.contains(id)).or(topic.id),
        })
        .collect()
    }

    /// Looks at what exists, and waits for it.
    fn look(&self, source: &mut dyn Source) -> Result<Vec<Found>, SourceError> {
        // Who asks so decides anew of all partitions anyway, those without a leader too.
        let asked = |topic: &Topic| Asked {
            topic: Arc::clone(&topic.name),
            leaderless: Vec::new(),
        };
        let asked: Vec<Asked> = self.topics.iter().map(asked).collect();
        look::now(source, &asked).map(|looked| self.found(&looked))
    }

    /// Looks at what exists; at the first contact, asks again for a while where a topic seems missing.
    /// `None` where there is something else to do first.
    fn look_until_sure(&mut self, source: &mut dyn Source) -> Result<Option<Vec<Found>>, SourceError> {
        let asked = Instant::now();
        loop {
            let found = self.look(source)?;
            let is_missing = self.topics.iter().zip(&found).any(|(topic, found)| {
                !topic.contacted && found.partitions == 0 && !source.forbidden().contains(&topic.name)
            });
            if !is_missing || asked.elapsed() > DOUBT {
                return Ok(Some(found));
            }
            // What is decided at the first contact stays, so nothing is decided in a hurry.
            if self.is_interrupted() {
                return Ok(None);
            }
            self.turns(DOUBT_PAUSE);
            std::thread::sleep(DOUBT_PAUSE);
        }
    }

    /// Decides from where every partition is read, tells the streams, and assigns. Returns what was
    /// found; `None` where there is something else to do first, or another client to be taken.
    fn resolve(&mut self, source: &mut dyn Source) -> Result<Option<Vec<Found>>, SourceError> {
        let Some(found) = self.look_until_sure(source)? else {
            return Ok(None);
        };
        let brokers = self.connect.brokers();
        let (mut is_doubtful, mut has_turned) = (false, false);
        let asked = Instant::now();
        for (topic, &found) in self.topics.iter_mut().zip(&found) {
            let known = self.inbox.next_offsets(&topic.name);
            let bounds = topic.bounds(source, found.partitions, &known, asked, self.status.pulse())?;
            let is_identified = topic.id != found.id;
            // A topic that is gone may be a broker that does not know it yet: its offsets are kept,
            // and compared with what exists once it is back.
            let next = if bounds.is_empty() {
                known.clone()
            } else if bounds.iter().all(Option::is_none) && !known.is_empty() {
                // Nobody can say anything of it.
                known.clone()
            } else if let Some(old) = topic.id.filter(|_| is_identified) {
                warn!(
                    "kafka {brokers}: topic {:?}: has another id: it was recreated and is read from its beginning",
                    topic.name
                );
                topic.past.push(old);
                has_turned = true;
                topic.begin_anew(&mut self.inbox, &bounds)
            } else if let Some(why) = looks_recreated(&known, &bounds) {
                is_doubtful = true;
                if self.in_doubt.get_or_insert_with(Instant::now).elapsed() < DOUBT {
                    let at = format!("topic {:?}", topic.name);
                    return Err(SourceError::Partition {
                        brokers,
                        at,
                        reason: format!("{why}; asking again"),
                    });
                }
                warn!(
                    "kafka {brokers}: topic {:?}: {why}: it was recreated and is read from its beginning",
                    topic.name
                );
                has_turned = true;
                topic.begin_anew(&mut self.inbox, &bounds)
            } else {
                topic.next_offsets(&known, &bounds)
            };
            if !topic.contacted {
                topic.loading = Some(Loading::new(next.clone(), ends(&bounds), Instant::now()));
            }
            // A topic that is gone is read no further, and one that begins anew is at its beginning.
            let lags = next
                .iter()
                .zip(&bounds)
                .map(|(&next, bounds)| bounds.map_or(0, |bounds| lag(next, bounds.high)));
            self.status.set_lags(&topic.name, lags.collect());
            if next != known || is_identified || !topic.contacted {
                topic.id = found.id;
                let low = bounds
                    .iter()
                    .map(|bounds| bounds.map_or(BEGINNING, |bounds| bounds.low));
                let low = low.collect();
                self.inbox.assign(&topic.name, topic.id, next, low);
            }
            let is_forbidden = source.forbidden().contains(&topic.name);
            // What may not be seen has not been met: once it may, it is read from where the streams begin.
            topic.contacted |= !(is_forbidden && found.partitions == 0);
            let leaderless = bounds.iter().enumerate().filter(|(_, bounds)| bounds.is_none());
            topic.leaderless = leaderless.map(|(partition, _)| partition).collect();
            if self.status.set_leaderless(&topic.name, &topic.leaderless) {
                let (name, partitions) = (&topic.name, &topic.leaderless);
                warn!(
                    "kafka {brokers}: topic {name:?}: no leader answers for partitions {partitions:?}; the others are read"
                );
            }
            let is_missing = found.partitions == 0 && !is_forbidden;
            if self.status.set_missing(&topic.name, is_missing) {
                let name = &topic.name;
                if is_missing {
                    warn!(
                        "kafka {brokers}: topic {name:?} does not exist; it is looked for every {REFRESH:?}"
                    );
                } else {
                    let count = found.partitions;
                    info!("kafka {brokers}: topic {name:?} exists now, with {count} partitions");
                }
            }
        }
        if !is_doubtful || self.in_doubt.is_some_and(|since| since.elapsed() >= DOUBT) {
            self.in_doubt = None;
        }
        self.rights.note(source, &*self.connect, &self.status);
        if has_turned {
            // A client that knows the topic that was may ask for that one for ever.
            return Ok(None);
        }
        source.assign(&self.inbox)?;
        self.note_loaded(source, false)?;
        Ok(Some(found))
    }

    /// Tells the streams of every topic that has been read up to its end as of the start, and everyone
    /// else how far the others are.
    fn note_loaded(&mut self, source: &mut dyn Source, is_quiet: bool) -> Result<(), SourceError> {
        for topic in &mut self.topics {
            let Some(loading) = &mut topic.loading else {
                continue;
            };
            let next = self.inbox.next_offsets(&topic.name);
            let mut is_loaded = true;
            for (partition, (&next, &until)) in (0..).zip(next.iter().zip(loading.until())) {
                // Asking costs a fetch, so only where no record has come for a while.
                if next < until && !(is_quiet && source.is_at_end(&topic.name, partition, next)?) {
                    is_loaded = false;
                    break;
                }
            }
            let (name, now) = (&topic.name, Instant::now());
            if is_loaded {
                let (records, elapsed) = (self.inbox.received_from(name), loading.elapsed(now));
                // What may not be read keeps no stream from its other topics.
                if !source.forbidden().contains(name) {
                    info!(
                        "topic {name:?} is loaded up to the end it had at the start: {records} records in {elapsed:.1?}"
                    );
                }
                self.status.set_loaded(name);
                self.inbox.loaded(name);
                topic.loading = None;
            } else {
                self.status.set_loading(name, loading.percent(&next));
                if let Some(progress) = loading.tell(&next, now) {
                    info!("topic {name:?}: {progress}");
                }
            }
        }
        Ok(())
    }

    /// Tells of an error that reading does not end with. One that needs a person is told although there
    /// was another before.
    fn failed(&self, error: &SourceError) {
        let what = error.to_string();
        if !matches!(error, SourceError::Refused { .. }) {
            self.troubled(&what);
        } else if self.status.refused(&what) {
            warn!("{what}; streams stay open, retrying");
        }
    }

    fn healthy(&self) {
        if self.status.healthy() {
            self.status.tally().count_recovery();
            info!("kafka {}: answers again", self.connect.brokers());
        }
    }

    /// Something is wrong; returns whether nothing was before.
    fn troubled(&self, what: &str) -> bool {
        let is_news = self.status.troubled(what);
        if is_news {
            warn!("{what}; streams stay open, retrying");
        }
        is_news
    }

    /// Whether there is something else to do than to read on. It stays so until the source is left.
    fn is_interrupted(&mut self) -> bool {
        self.heed_orders();
        self.is_stopped || self.is_reconnecting
    }

    /// Waits until the pause is over or there is something else to do.
    fn wait(&mut self, pause: Duration) {
        if self.is_interrupted() {
            return;
        }
        self.turns(pause);
        match self.ordered.recv_timeout(pause) {
            Ok(order) => self.heed(order),
            Err(std_mpsc::RecvTimeoutError::Disconnected) => self.is_stopped = true,
            Err(std_mpsc::RecvTimeoutError::Timeout) => {}
        }
    }

    /// Takes all orders that have come: of several connections the last one counts.
    fn heed_orders(&mut self) {
        loop {
            match self.ordered.try_recv() {
                Ok(order) => self.heed(order),
                // Whoever gives orders is gone only at the end.
                Err(std_mpsc::TryRecvError::Disconnected) => {
                    self.is_stopped = true;
                    return;
                }
                Err(std_mpsc::TryRecvError::Empty) => return,
            }
        }
    }

    fn heed(&mut self, order: Order) {
        self.status.pulse().take();
        match order {
            Order::Stop => self.is_stopped = true,
            Order::Connect(connect) => {
                self.connect = connect;
                self.is_reconnecting = true;
                // Which library it will be is not known until it has connected.
                self.status.forget_client();
            }
        }
    }
}

/// How long to wait after so many failures in a row, with jitter.
pub(super) fn backoff(failures: u32) -> Duration {
    let (first, longest) = BACKOFF;
    let full = first
        .saturating_mul(1 << failures.saturating_sub(1).min(16))
        .min(longest);
    full.mul_f64(rand::random_range(0.5..1.0))
}
