//! A scripted Kafka, and a reading thread over it.

use crate::harness::wait::{ensure, eventually, millis, secs};
use kafka_sse_bridge::kafka::admin::{Admin, AdminThread, TopicState};
use kafka_sse_bridge::kafka::batcher::Batcher;
use kafka_sse_bridge::kafka::client::{Connect, Handles};
use kafka_sse_bridge::kafka::consumer::Consumer;
use kafka_sse_bridge::kafka::error::{ErrorKind, KafkaError};
use kafka_sse_bridge::kafka::lag::End;
use kafka_sse_bridge::kafka::partition::Bounds;
use kafka_sse_bridge::kafka::reader::{ReaderHandle, StartOffset, TopicPlan};
use kafka_sse_bridge::kafka::reader_status::ReaderStatus;
use kafka_sse_bridge::kafka::record::{Feed, Stamp, TopicId};
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// The result of the next poll.
pub enum Poll {
    /// Records of partition 0 with these offsets.
    Records(Vec<i64>),
    /// The same, of a leader epoch.
    RecordsOf(u32, Vec<i64>),
    RecordsThenFail(Vec<i64>),
    /// The next record of partition 0 of another topic, where that is read, and so in every poll that follows.
    Others(&'static str),
    Fail(KafkaError),
}

/// A scripted Kafka, shared by the sources built over it.
#[derive(Default)]
pub struct Script {
    pub bounds: Vec<Bounds>,
    /// The one topic that has all of these; any other has the first partition only.
    pub(super) large: Option<String>,
    /// Topics of which offsets were asked for.
    pub(super) asked: Vec<String>,
    /// Partitions without a known state.
    pub(super) leaderless: Vec<usize>,
    pub(super) id: Option<TopicId>,
    /// The id that the next look alone returns, in place of `id`.
    pub(super) id_once: Option<TopicId>,
    /// The offset found for every time; `None`: lookups by time are not supported.
    pub(super) at: Option<i64>,
    pub(super) reconnects: bool,
    /// The end of partition 0 that every poll reports.
    pub(super) end: Option<i64>,
    /// From where on partition 0 of `t` holds nothing readable.
    pub(super) at_end: Option<i64>,
    /// Whether every poll reports that partition 0 is not fetched.
    pub(super) is_idle: bool,
    /// How often ends were reported.
    pub(super) callbacks: usize,
    /// Clients, by their number, that get no answers once they read.
    pub(super) deaf: Vec<usize>,
    pub polls: VecDeque<Poll>,
    /// For every poll, whether the topic `t` was held when it began.
    pub(super) polls_begun: Vec<bool>,
    pub(super) assigned: Vec<Vec<i64>>,
    pub(super) connects: Vec<Instant>,
    pub(super) refusals: usize,
    pub(super) unreachable: bool,
}

type Kafka = Arc<Mutex<Script>>;

/// The connections by number, and what each delivers.
struct Scripted(Kafka, usize);

pub(super) fn unreachable() -> KafkaError {
    KafkaError::unreachable(&"b:1".into(), "scripted")
}

impl Connect for Scripted {
    fn connect(&mut self) -> Result<Handles, KafkaError> {
        let mut script = self.0.lock().unwrap();
        script.connects.push(Instant::now());
        if script.unreachable {
            Err(unreachable())
        } else {
            let number = script.connects.len();
            let admin = Self(Arc::clone(&self.0), number);
            let admin = AdminThread::spawn(admin, Connect::brokers(self), &Arc::default())?;
            let consumer = Self(Arc::clone(&self.0), number);
            Ok(Handles::new(Box::new(consumer), admin))
        }
    }

    fn brokers(&self) -> Arc<str> {
        "b:1".into()
    }

    fn refuse(&mut self, why: &KafkaError) -> bool {
        let is_codec = matches!(why.kind, ErrorKind::Codec(_));
        self.0.lock().unwrap().refusals += usize::from(is_codec);
        is_codec
    }
}

impl Admin for Scripted {
    fn topics(
        &mut self,
        topics: &[Arc<str>],
        _unauthorized: &BTreeSet<Arc<str>>,
    ) -> Result<Vec<TopicState>, KafkaError> {
        let mut script = self.0.lock().unwrap();
        if script.deaf.contains(&self.1) {
            return Err(unreachable());
        }
        let id = script.id_once.take().or(script.id);
        let is_large = |topic: &str| script.large.as_ref().is_none_or(|large| large == topic);
        let count = script.bounds.len();
        let state = |topic: &Arc<str>| TopicState {
            topic: Arc::clone(topic),
            partitions: if is_large(topic) { count } else { count.min(1) },
            id,
            ..TopicState::default()
        };
        Ok(topics.iter().map(state).collect())
    }

    fn bounds(&mut self, topics: &[(Arc<str>, usize)]) -> Result<Vec<Vec<Option<Bounds>>>, KafkaError> {
        let mut script = self.0.lock().unwrap();
        let bounds = topics.iter().map(|(topic, partitions)| {
            script.asked.push(topic.to_string());
            let bounds = script.bounds[..*partitions].iter().enumerate();
            bounds
                .map(|(partition, bounds)| (!script.leaderless.contains(&partition)).then_some(*bounds))
                .collect()
        });
        Ok(bounds.collect())
    }

    fn offsets_at(&mut self, _topic: &str, asked: &[Option<i64>]) -> Result<Vec<Option<i64>>, KafkaError> {
        let at = self.0.lock().unwrap().at;
        let at = at.ok_or_else(unreachable)?;
        Ok(asked.iter().map(|asked| asked.map(|_| at)).collect())
    }
}

impl Consumer for Scripted {
    fn ends(&mut self) -> Vec<End> {
        let mut script = self.0.lock().unwrap();
        script.callbacks += 1;
        let end = End {
            topic: "t".to_owned(),
            partition: 0,
            offset: script.end,
            high: None,
            is_reached: false,
            is_fetched: !script.is_idle,
        };
        let has_news = script.end.is_some() || script.is_idle;
        has_news.then_some(end).into_iter().collect()
    }

    fn assign(&mut self, batcher: &Batcher) -> Result<(), KafkaError> {
        self.0.lock().unwrap().assigned.push(batcher.next_offsets("t"));
        Ok(())
    }

    fn poll(&mut self, _wait: Duration, batcher: &mut Batcher) -> Result<(), KafkaError> {
        let is_paused = batcher.is_paused("t");
        let next = {
            let mut script = self.0.lock().unwrap();
            script.polls_begun.push(is_paused);
            let is_of_t = !matches!(script.polls.front(), Some(Poll::Others(_)));
            if is_of_t && is_paused {
                None
            } else {
                script.polls.pop_front()
            }
        };
        let is_last = matches!(next, Some(Poll::RecordsThenFail(_)));
        match next {
            Some(Poll::Others(topic)) => {
                let place = batcher.fetch_positions().find(|place| *place.topic == *topic);
                if let Some(offset) = place.map(|place| place.next) {
                    let stamp = Stamp {
                        partition: 0,
                        offset,
                        timestamp: None,
                    };
                    batcher.push(None, topic, stamp, None, Some(b"v"), std::iter::empty());
                } else {
                    std::thread::sleep(millis(1));
                }
                self.0.lock().unwrap().polls.push_back(Poll::Others(topic));
            }
            None => std::thread::sleep(millis(1)),
            Some(Poll::Fail(error)) => return Err(error),
            Some(Poll::RecordsOf(epoch, offsets)) => {
                for offset in offsets {
                    let stamp = Stamp {
                        partition: 0,
                        offset,
                        timestamp: None,
                    };
                    batcher.push(Some(epoch), "t", stamp, None, Some(b"v"), std::iter::empty());
                }
            }
            Some(Poll::Records(offsets) | Poll::RecordsThenFail(offsets)) => {
                for offset in offsets {
                    let stamp = Stamp {
                        partition: 0,
                        offset,
                        timestamp: None,
                    };
                    batcher.push(None, "t", stamp, None, Some(b"v"), std::iter::empty());
                }
            }
        }
        if is_last { Err(unreachable()) } else { Ok(()) }
    }

    fn is_at_end(&self, topic: &str, _partition: u32, next: i64) -> bool {
        let script = self.0.lock().unwrap();
        topic == "t" && script.at_end.is_some_and(|at| next >= at)
    }

    fn reconnects(&self) -> bool {
        self.0.lock().unwrap().reconnects
    }
}

pub struct Rig {
    pub(super) kafka: Kafka,
    pub(super) feeds: mpsc::Receiver<Feed>,
    pub status: Arc<ReaderStatus>,
    pub(super) reader: Option<ReaderHandle>,
}

impl Rig {
    pub fn start(low: i64, high: i64, polls: Vec<Poll>) -> Self {
        let script = Script {
            bounds: vec![Bounds { low, high }],
            polls: polls.into(),
            ..Script::default()
        };
        Self::over(script, 1024)
    }

    pub(super) fn over(script: Script, channel: usize) -> Self {
        Self::of_topics(script, channel, &["t"])
    }

    /// One that reads these topics for one stream.
    pub(super) fn of_topics(script: Script, channel: usize, topics: &[&str]) -> Self {
        let (feed, feeds) = mpsc::channel(channel);
        let plans = topics.iter().map(|topic| plan(topic, feed.clone())).collect();
        Self::with(script, plans, feeds)
    }

    /// One that reads the topic `t` for a stream that keeps a table.
    pub(super) fn of_table(script: Script) -> Self {
        let (feed, feeds) = mpsc::channel(1024);
        let mut plan = plan("t", feed);
        for recipient in &mut plan.feeds {
            recipient.has_table = true;
        }
        Self::with(script, vec![plan], feeds)
    }

    /// One that reads the topic `t` from its start offset.
    pub(super) fn beginning(start: StartOffset, script: Script) -> Self {
        let (feed, feeds) = mpsc::channel(1024);
        let plan = TopicPlan {
            start,
            ..plan("t", feed)
        };
        Self::with(script, vec![plan], feeds)
    }

    /// One that reads the topic `t` for a stream that keeps a table.
    pub(super) fn with_table(script: Script) -> Self {
        let (feed, feeds) = mpsc::channel(1024);
        let mut plan = plan("t", feed);
        plan.feeds[0].has_table = true;
        Self::with(script, vec![plan], feeds)
    }

    /// One that reads the topic `t` for a stream, and `busy` for another with a channel of this size.
    pub(super) fn beside_busy(script: Script, channel: usize) -> (Self, mpsc::Receiver<Feed>) {
        let (busy, slow) = mpsc::channel(channel);
        let (feed, feeds) = mpsc::channel(1024);
        let plans = vec![plan("busy", busy), plan("t", feed)];
        (Self::with(script, plans, feeds), slow)
    }

    fn with(script: Script, plans: Vec<TopicPlan>, feeds: mpsc::Receiver<Feed>) -> Self {
        let kafka: Kafka = Arc::new(Mutex::new(script));
        let status = Arc::new(ReaderStatus::default());
        let connect = Box::new(Scripted(Arc::clone(&kafka), 0));
        let reader = ReaderHandle::spawn_with(connect, plans, Arc::clone(&status)).expect("a thread");
        Self {
            kafka,
            feeds,
            status,
            reader: Some(reader),
        }
    }

    pub fn script<T>(&self, act: impl FnOnce(&mut Script) -> T) -> T {
        act(&mut self.kafka.lock().unwrap())
    }

    /// The offsets handed on, until there are that many.
    pub(super) fn offsets(&mut self, count: usize) -> Vec<i64> {
        let mut offsets = Vec::new();
        eventually(secs(20), "the records are handed on", || {
            while let Ok(feed) = self.feeds.try_recv() {
                if let Feed::Records(batch) = feed {
                    offsets.extend(batch.iter().map(|record| record.offset));
                }
            }
            ensure(offsets.len() >= count, format!("{offsets:?}"))
        });
        offsets
    }

    /// One whose topic has an id, and is read up to 3.
    pub(super) fn identified() -> Self {
        let script = Script {
            bounds: vec![Bounds { low: 0, high: 3 }],
            id: TopicId::new(1),
            ..Script::default()
        };
        let mut rig = Self::over(script, 1024);
        eventually(secs(20), "it is assigned, with its id", || {
            match rig.feeds.try_recv() {
                Ok(Feed::Assigned { id, .. }) => ensure(id == TopicId::new(1), format!("{id:?}")),
                other => Err(format!("{other:?}")),
            }
        });
        rig.script(|script| script.polls.push_back(Poll::Records(vec![0, 1, 2])));
        rig.offsets(3);
        rig
    }

    /// The records delivered since.
    pub(super) fn received(&mut self) -> Vec<Feed> {
        std::iter::from_fn(|| self.feeds.try_recv().ok()).collect()
    }

    /// Waits until the topic is reported as recreated.
    pub(super) fn recreated(&mut self) {
        eventually(secs(20), "the topic is another", || {
            loop {
                match self.feeds.try_recv() {
                    Ok(Feed::Recreated { .. }) => break Ok(()),
                    Ok(_) => {}
                    Err(_) => break Err("not yet"),
                }
            }
        });
    }

    pub(super) fn assigned(&self, times: usize) -> Vec<Vec<i64>> {
        self.assigned_within(secs(20), times)
    }

    pub(super) fn assigned_within(&self, within: Duration, times: usize) -> Vec<Vec<i64>> {
        eventually(within, "the source is assigned again", || {
            let assigned = self.script(|script| script.assigned.clone());
            if assigned.len() >= times {
                Ok(assigned)
            } else {
                Err(format!("{assigned:?}"))
            }
        })
    }
}

fn plan(topic: &str, feed: mpsc::Sender<Feed>) -> TopicPlan {
    TopicPlan {
        name: topic.into(),
        start: StartOffset::Earliest,
        feeds: vec![feed.into()],
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.feeds.close();
        if let Some(reader) = self.reader.take() {
            let _ = reader.stop().join();
        }
    }
}
