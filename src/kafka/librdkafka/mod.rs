//! The librdkafka client as a [`Source`]: every broker, compression, transactions and security.
//!
//! Two handles: one consumes and nothing else, the other, unassigned, answers questions ([`asking`]), on a thread
//! beside ([`aside`](super::worker_thread)): a broker that hangs may be the one that is asked, and the others are read on.
//! Records and the errors of their partitions come by a queue of ours, by the batch; what is of no
//! partition stays in the handle's own, which is looked at after every batch. librdkafka reconnects by
//! itself, so transport errors are a state here, not a failure.

mod asking;
mod consuming;
mod context;
mod explain;
mod ffi;
mod offsets;
mod oversize;
mod probing;
mod renewal;
pub(super) mod settings;
mod trouble;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::Message;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError as RdKafkaError, RDKafkaErrorCode};

use self::asking::{Asking, Look, Seen, is_of_group};
use self::consuming::{AssignError, Consuming, Maker, push};
use self::context::{Context, MAX_CAUSES};
use self::explain::refusal;
use self::ffi::MOST;
use self::oversize::{Oversize, Step, Tools};
use self::renewal::Renewed;
use self::trouble::{Failed, Trouble};
use super::auth_error::Refusal;
use super::batcher::{Batcher, Place};
use super::connection::{BROKER_PATIENCE, Connection, Purpose};
use super::error::{ErrorKind, KafkaError, Location};
use super::lag::End;
use super::link::Link;
use super::metadata::{Asked, Looked};
use super::partition::Bounds;
use super::pulse::Pulse;
use super::record::TopicId;
use super::security::Access;
use super::source::Source;
use super::worker_thread::{Begun, Left, WorkerThread};
use crate::config::Isolation;

/// How often the asking handle is served that is asked seldom, and must not be late for its next token.
const SERVE_EVERY: Duration = Duration::from_secs(1);

/// A consuming handle and an asking one.
pub(super) struct Librdkafka {
    brokers: Arc<str>,
    maker: Maker,
    consuming: Consuming,
    asking: WorkerThread<Asking>,
    /// What the asking handle has told.
    told: Arc<Context>,
    /// The look that is under way.
    looking: Option<Begun<Look>>,
    /// Both handles made anew, while that is under way.
    renewing: Option<Begun<Renewed>>,
    /// The consuming handle before, which is read until that time.
    retiring: Option<(Consuming, Instant)>,
    /// Hears whether the asking handle needs a token, and when that was begun.
    serving: Option<(Begun<()>, Instant)>,
    trouble: Option<Trouble>,
    oversize: Oversize,
    /// Whether brokers describe many topics in one request.
    is_described: bool,
    /// Topics that may not be seen, or not be read.
    forbidden: BTreeSet<Arc<str>>,
    access: Access,
    /// Whether anybody looks at headers: unpacking them costs where there are none too.
    with_headers: bool,
    pulse: Arc<Pulse>,
}

impl Librdkafka {
    /// Creates both handles; does not wait for a broker.
    ///
    /// # Errors
    /// When librdkafka refuses a setting.
    pub(super) fn new(
        connection: &Connection,
        purpose: Purpose,
        pulse: &Arc<Pulse>,
    ) -> Result<Self, KafkaError> {
        let brokers = connection.bootstrap_servers();
        // The files as they are now, and what they were by then.
        let access = connection.access.reloaded();
        let maker = Maker {
            brokers: brokers.clone(),
            config: settings::config(connection, &access, purpose)?,
            reads_uncommitted: connection.isolation == Isolation::ReadUncommitted,
            token_file: access.token_file().cloned(),
        };
        let consuming = maker.consuming()?;
        let asking = maker.asking()?;
        let told = Arc::clone(asking.context());
        let asking = Asking::new(asking, connection, access.clone(), Arc::clone(pulse));
        let asking = WorkerThread::spawn("kafka-asking", asking, Arc::clone(pulse)).map_err(|error| {
            KafkaError::unreachable(&brokers, format!("no thread for questions: {error}"))
        })?;
        Ok(Self {
            oversize: Oversize::new(&brokers),
            brokers,
            maker,
            consuming,
            asking,
            told,
            looking: None,
            renewing: None,
            retiring: None,
            serving: None,
            trouble: None,
            is_described: false,
            forbidden: BTreeSet::new(),
            access,
            with_headers: connection.needs_headers,
            pulse: Arc::clone(pulse),
        })
    }

    /// What comes of a question; nothing is read meanwhile.
    fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Asking) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T, KafkaError> {
        self.asking.call(question).map_err(|left| self.left(left))?
    }

    fn left(&self, why: Left) -> KafkaError {
        match why {
            Left::Called => KafkaError::new(&self.brokers, ErrorKind::Interrupted),
            Left::Late => KafkaError::unreachable(&self.brokers, "librdkafka does not come back"),
        }
    }

    /// What that error of the consuming handle is.
    fn unreachable(&self, what: &str, error: RdKafkaError) -> KafkaError {
        let what = what.to_owned();
        let explained = self.ask(move |asking| Ok(asking.unreachable(&what, &error)));
        explained.unwrap_or_else(|error| error)
    }

    /// Takes in what was seen of topics.
    fn take_in(&mut self, seen: Seen) -> Vec<usize> {
        if seen.trouble.is_some() || !self.trouble.as_ref().is_some_and(Trouble::lasts) {
            self.trouble = seen.trouble.map(Trouble::new);
        }
        for (topic, may_be_read) in seen.rights {
            if may_be_read {
                self.forbidden.remove(&topic);
            } else {
                self.forbidden.insert(topic);
            }
        }
        self.is_described = seen.is_described;
        seen.counts
    }

    /// To be called now and then.
    ///
    /// # Errors
    /// When either handle has no broker left: it would not find one again by itself.
    fn check_brokers(&self) -> Result<(), KafkaError> {
        if self.consuming.handle.context().is_abandoned() || self.told.is_abandoned() {
            return Err(KafkaError::unreachable(
                &self.brokers,
                "the cluster named no broker for a while, and librdkafka has forgotten all",
            ));
        }
        Ok(())
    }

    /// Lets the asking handle hear that it needs a token, where it has one.
    fn serve_asking(&mut self) {
        if self.access.token_file().is_none() {
            return;
        }
        let is_due = self
            .serving
            .as_ref()
            .is_none_or(|(serving, at)| at.elapsed() >= SERVE_EVERY && serving.answer().is_some());
        if is_due {
            let serving = self.asking.begin(|asking| asking.serve());
            // One that is full hangs in a question, which says so itself.
            self.serving = serving.ok().map(|serving| (serving, Instant::now()));
        }
    }

    fn refusal(&self, cause: &str) -> Option<Refusal> {
        let brokers = u32::try_from(self.brokers.split(',').count()).unwrap_or(u32::MAX);
        self.pulse.beat(BROKER_PATIENCE.saturating_mul(brokers));
        refusal(cause, &self.access)
    }

    /// Looks at what the consuming handle says of no partition: transport errors are a state.
    fn heed_events(&mut self) -> Result<(), KafkaError> {
        for _ in 0..MAX_CAUSES {
            if !self.consuming.queue.has_events() {
                break;
            }
            match self.consuming.handle.poll(Duration::ZERO) {
                // Also said of an event that is none of ours.
                None => {}
                // Its partition is not attached to the queue, so what follows would be lost: the next client
                // begins at our own offsets.
                Some(Ok(record)) => {
                    let partition = record.partition().cast_unsigned();
                    return Err(KafkaError::partition(
                        &self.brokers,
                        Location::partition(record.topic(), partition),
                        "a record came beside its queue",
                    ));
                }
                Some(Err(error @ RdKafkaError::MessageConsumptionFatal(_))) => {
                    return Err(KafkaError::unreachable(&self.brokers, error.to_string()));
                }
                Some(Err(error)) if is_of_group(&error) => {}
                Some(Err(error)) => {
                    let context = self.consuming.handle.context();
                    let cause = context.cause();
                    if context.is_oversize() {
                        self.trouble = Some(Trouble::new(format!(
                            "kafka {}: an answer is larger than receive.message.max.bytes; finding out which partition \
                             it is of",
                            self.brokers
                        )));
                        continue;
                    }
                    self.trouble = Some(match cause.and_then(|cause| self.refusal(&cause)) {
                        Some(refusal) => Trouble::refusal(refusal.at(&self.brokers).to_string()),
                        None => Trouble::new(format!("kafka {}: {error}", self.brokers)),
                    });
                }
            }
        }
        Ok(())
    }

    /// Goes on with finding out whose batch is too large, where one is.
    ///
    /// # Errors
    /// When one was found.
    fn search_oversize(&mut self, batcher: &Batcher) -> Result<(), KafkaError> {
        let is_heard = self.consuming.handle.context().take_oversize();
        let tools = Tools {
            maker: &self.maker,
            asking: &self.asking,
            consuming: &self.consuming,
            pulse: &self.pulse,
        };
        match self.oversize.step(is_heard, batcher, &tools) {
            Step::Nothing => Ok(()),
            Step::Resumed => self.assign(batcher),
            Step::Found(found) => Err(found.error(&self.brokers)),
        }
    }
}

impl Source for Librdkafka {
    fn partitions(&mut self, topics: &[Arc<str>]) -> Result<Vec<usize>, KafkaError> {
        let (topics, doubted) = (topics.to_vec(), self.forbidden.clone());
        let seen = self.ask(move |asking| asking.see(&topics, &doubted))?;
        Ok(self.take_in(seen))
    }

    fn topic_ids(&mut self, topics: &[Arc<str>]) -> Result<Vec<Option<TopicId>>, KafkaError> {
        let topics = topics.to_vec();
        self.ask(move |asking| asking.topic_ids(&topics))
    }

    fn look(&mut self, asked: &[Asked], _pulse: &Pulse) -> Option<Result<Vec<Looked>, KafkaError>> {
        let Some(looking) = &self.looking else {
            let (asked, doubted) = (asked.to_vec(), self.forbidden.clone());
            match self.asking.begin(move |asking| asking.look(&asked, &doubted)) {
                Ok(looking) => self.looking = Some(looking),
                Err(left) => return Some(Err(self.left(left))),
            }
            return None;
        };
        let answer = looking.answer()?;
        self.looking = None;
        let answer = answer.unwrap_or_else(|left| Err(self.left(left)));
        Some(answer.map(|(seen, looked)| {
            self.take_in(seen);
            looked
        }))
    }

    fn forget_look(&mut self) {
        self.looking = None;
    }

    fn bounds(&mut self, topic: &str, partitions: usize) -> Result<Vec<Option<Bounds>>, KafkaError> {
        let bounds = self.bounds_of(&[(topic.into(), partitions)])?;
        Ok(bounds.into_iter().next().unwrap_or_default())
    }

    fn bounds_of(&mut self, topics: &[(Arc<str>, usize)]) -> Result<Vec<Vec<Option<Bounds>>>, KafkaError> {
        let topics = topics.to_vec();
        self.ask(move |asking| asking.bounds_of(&topics))
    }

    fn offsets_at(&mut self, topic: &str, asked: &[Option<i64>]) -> Result<Vec<Option<i64>>, KafkaError> {
        let (topic, asked) = (topic.to_owned(), asked.to_vec());
        self.ask(move |asking| asking.offsets_at(&topic, &asked))
    }

    fn assign(&mut self, batcher: &Batcher) -> Result<(), KafkaError> {
        // It may read what is not to be read any more.
        self.retire();
        self.oversize.forget_moved(batcher);
        let is_stopped = |place: &Place<'_>| self.oversize.is_stopped(place);
        match self
            .consuming
            .assign(batcher, is_stopped, self.is_described, &self.pulse)
        {
            Ok(true) => Ok(()),
            Ok(false) => self.begin_renewal(batcher),
            Err(AssignError::Library(what, error)) => Err(self.unreachable(&what, error)),
            Err(AssignError::NoQueue(at)) => Err(KafkaError::partition(
                &self.brokers,
                at,
                "librdkafka gives no queue",
            )),
            Err(AssignError::Interrupted) => Err(KafkaError::new(&self.brokers, ErrorKind::Interrupted)),
        }
    }

    fn poll(&mut self, wait: Duration, batcher: &mut Batcher) -> Result<(), KafkaError> {
        self.check_brokers()?;
        self.serve_asking();
        self.take_renewal(batcher)?;
        let wait = self.poll_retiring(wait, batcher);
        let (with_headers, trouble) = (self.with_headers, &mut self.trouble);
        let mut failed = Vec::new();
        let Consuming { queue, ended, .. } = &mut self.consuming;
        let taken = queue.take(wait, |fetched| {
            let error = if fetched.is_end() {
                ended.note(fetched.topic(), fetched.partition(), fetched.offset());
                None
            } else {
                fetched.error()
            };
            if let Some((code, text)) = error {
                failed.push(Failed {
                    topic: fetched.topic().to_owned(),
                    partition: fetched.partition(),
                    offset: fetched.offset(),
                    code,
                    text,
                });
                return;
            }
            // Whoever reads on is over it: over the transport's, or over that of the partition.
            let is_over = |trouble: &Trouble| trouble.ends_with(fetched.topic(), fetched.partition());
            if trouble.as_ref().is_some_and(is_over) {
                *trouble = None;
            }
            if !fetched.is_end() {
                push(batcher, &fetched, with_headers);
            }
        });
        self.consuming.is_drained = taken < MOST;
        self.heed_events()?;
        let (mut out_of_range, mut lost) = (None, Vec::new());
        for failed in failed {
            if failed.code == RDKafkaErrorCode::AutoOffsetReset {
                // Each is reported once, and several come together when a broker is lost.
                lost.extend(failed.lost());
                out_of_range.get_or_insert((failed.at(), failed.text));
                continue;
            }
            if failed.code == RDKafkaErrorCode::TopicAuthorizationFailed {
                self.forbidden.insert(failed.topic.into());
                continue;
            }
            self.trouble = Some(Trouble::of(failed, &self.brokers));
        }
        if let Some((at, reason)) = out_of_range {
            let kind = ErrorKind::OutOfRange { reason, lost };
            return Err(KafkaError::new(&self.brokers, kind).located(at));
        }
        self.search_oversize(batcher)
    }

    fn stop(&mut self, topic: &Arc<str>, partition: u32) {
        self.oversize.stop(topic, partition);
        self.trouble = None;
    }

    fn resumed(&mut self) -> Vec<(Arc<str>, u32)> {
        self.oversize.take_resumed()
    }

    fn passed(&mut self, topic: &str, partition: u32, next: i64) -> i64 {
        // While more is there than one call takes, records follow, and whether markers do need not be asked.
        if !self.consuming.is_drained {
            return next;
        }
        let end = self.consuming.ended.offset(topic, partition);
        let position = self.consuming.position(topic, partition, next);
        end.map_or(position, |end| end.max(position))
    }

    fn is_at_end(&mut self, topic: &str, partition: u32, next: i64) -> Result<bool, KafkaError> {
        Ok(self.forbidden.contains(topic)
            || self.consuming.ended.is_before(topic, partition, next)
            || self.oversize.has_stopped(topic, partition))
    }

    fn remember_forbidden(&mut self, topics: &BTreeSet<Arc<str>>) {
        self.forbidden.clone_from(topics);
    }

    fn forbidden(&self) -> &BTreeSet<Arc<str>> {
        &self.forbidden
    }

    fn trouble(&self) -> Option<&str> {
        let trouble = self.trouble.as_ref().map(Trouble::as_str);
        trouble.or_else(|| self.oversize.trouble())
    }

    fn is_searching(&self) -> bool {
        self.oversize.is_searching()
    }

    fn is_refused(&self) -> bool {
        self.trouble.as_ref().is_some_and(Trouble::is_refusal)
    }

    fn ends(&mut self) -> Vec<End> {
        self.consuming.handle.context().ends()
    }

    fn links(&mut self) -> Option<Vec<Link>> {
        self.consuming.handle.context().links()
    }

    fn members(&mut self) -> Result<Vec<String>, KafkaError> {
        self.ask(|asking| asking.members())
    }

    fn reconnects(&self) -> bool {
        // It goes on with what the files held when it was made.
        !self.access.reloaded().is_rotation_of(&self.access)
    }
}
