//! The reading thread over a source of the test's making: what was read is handed on once, whatever
//! the source does, and offsets are believed only when they make sense.

use crate::harness::trial;
use crate::harness::wait::{ensure, eventually, millis, secs};
use kafka_sse_bridge::kafka::client::Connect;
use kafka_sse_bridge::kafka::inbox::Inbox;
use kafka_sse_bridge::kafka::record::{Feed, Stamp};
use kafka_sse_bridge::kafka::source::{Bounds, Source, SourceError};
use kafka_sse_bridge::kafka::status::Status;
use kafka_sse_bridge::kafka::tail::{Begin, Tail, TopicPlan};
use libtest_mimic::Trial;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("what_was_read_before_an_error_is_handed_on_once", before_an_error),
        trial(
            "records_that_left_kafka_are_passed_and_reading_goes_on",
            left_kafka,
        ),
        trial(
            "an_end_below_what_was_read_is_asked_again_before_it_is_believed",
            end_below,
        ),
        trial("added_partitions_are_read_from_their_beginning", added_partitions),
        trial(
            "a_codec_that_cannot_be_read_makes_another_client_take_over_at_once",
            codec,
        ),
        trial("rebuilding_backs_off_while_nothing_is_read", backs_off),
        trial("an_outage_is_told_once_and_so_is_its_end", told_once),
        trial("a_stop_is_heard_while_a_channel_is_full", stops),
    ]
}

/// What the next poll does.
pub enum Poll {
    /// Records of partition 0 with these offsets.
    Records(Vec<i64>),
    RecordsThenFail(Vec<i64>),
    Fail(SourceError),
}

/// A Kafka that does as it is told; shared by the sources built over it.
#[derive(Default)]
pub struct Script {
    pub bounds: Vec<Bounds>,
    pub polls: VecDeque<Poll>,
    assigned: Vec<Vec<i64>>,
    connects: Vec<Instant>,
    refusals: usize,
    unreachable: bool,
}

type Kafka = Arc<Mutex<Script>>;

struct Scripted(Kafka);

fn unreachable() -> SourceError {
    SourceError::Unreachable {
        brokers: "b:1".to_owned(),
        reason: "scripted".to_owned(),
    }
}

impl Connect for Scripted {
    fn connect(&mut self) -> Result<Box<dyn Source>, SourceError> {
        let mut script = self.0.lock().unwrap();
        script.connects.push(Instant::now());
        if script.unreachable {
            Err(unreachable())
        } else {
            Ok(Box::new(Self(Arc::clone(&self.0))))
        }
    }

    fn brokers(&self) -> String {
        "b:1".to_owned()
    }

    fn refuse(&mut self, why: &SourceError) -> bool {
        let is_codec = matches!(why, SourceError::Codec { .. });
        self.0.lock().unwrap().refusals += usize::from(is_codec);
        is_codec
    }
}

impl Source for Scripted {
    fn partitions(&mut self, topics: &[Arc<str>]) -> Result<Vec<usize>, SourceError> {
        Ok(vec![self.0.lock().unwrap().bounds.len(); topics.len()])
    }

    fn bounds(&mut self, _topic: &str, partitions: usize) -> Result<Vec<Bounds>, SourceError> {
        Ok(self.0.lock().unwrap().bounds[..partitions].to_vec())
    }

    fn offsets_at(&mut self, _topic: &str, _asked: &[Option<i64>]) -> Result<Vec<Option<i64>>, SourceError> {
        Err(unreachable())
    }

    fn assign(&mut self, inbox: &Inbox) -> Result<(), SourceError> {
        self.0.lock().unwrap().assigned.push(inbox.next_offsets("t"));
        Ok(())
    }

    fn poll(&mut self, _wait: Duration, inbox: &mut Inbox) -> Result<(), SourceError> {
        let next = self.0.lock().unwrap().polls.pop_front();
        let is_last = matches!(next, Some(Poll::RecordsThenFail(_)));
        match next {
            None => std::thread::sleep(millis(1)),
            Some(Poll::Fail(error)) => return Err(error),
            Some(Poll::Records(offsets) | Poll::RecordsThenFail(offsets)) => {
                for offset in offsets {
                    let stamp = Stamp {
                        partition: 0,
                        offset,
                        timestamp: None,
                    };
                    inbox.push("t", stamp, None, Some(b"v"), std::iter::empty());
                }
            }
        }
        if is_last { Err(unreachable()) } else { Ok(()) }
    }

    fn is_at_end(&mut self, _topic: &str, _partition: u32, _next: i64) -> Result<bool, SourceError> {
        Ok(false)
    }

    fn trouble(&self) -> Option<&str> {
        None
    }

    fn reconnects(&self) -> bool {
        false
    }
}

pub struct Rig {
    kafka: Kafka,
    feeds: mpsc::Receiver<Feed>,
    pub status: Arc<Status>,
    tail: Option<Tail>,
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

    fn over(script: Script, channel: usize) -> Self {
        let kafka: Kafka = Arc::new(Mutex::new(script));
        let (feed, feeds) = mpsc::channel(channel);
        let plan = TopicPlan {
            name: "t".into(),
            begin: Begin::Earliest,
            feeds: vec![feed],
        };
        let status = Arc::new(Status::default());
        let connect = Box::new(Scripted(Arc::clone(&kafka)));
        let tail = Tail::spawn_with(connect, vec![plan], Arc::clone(&status)).expect("a thread");
        Self {
            kafka,
            feeds,
            status,
            tail: Some(tail),
        }
    }

    pub fn script<T>(&self, act: impl FnOnce(&mut Script) -> T) -> T {
        act(&mut self.kafka.lock().unwrap())
    }

    /// The offsets handed on, until there are that many.
    fn offsets(&mut self, count: usize) -> Vec<i64> {
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

    fn assigned(&self, times: usize) -> Vec<Vec<i64>> {
        eventually(secs(20), "the source is assigned again", || {
            let assigned = self.script(|script| script.assigned.clone());
            if assigned.len() >= times {
                Ok(assigned)
            } else {
                Err(format!("{assigned:?}"))
            }
        })
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.feeds.close();
        if let Some(tail) = self.tail.take() {
            let _ = tail.stop().join();
        }
    }
}

fn before_an_error() {
    let polls = vec![
        Poll::Records(vec![0, 1, 2]),
        Poll::Fail(unreachable()),
        // A client may deliver again what it delivered before, and out of its order.
        Poll::Records(vec![1, 2, 3, 2, 4]),
    ];
    let mut rig = Rig::start(0, 5, polls);
    assert_eq!(rig.offsets(5), [0, 1, 2, 3, 4]);
    assert_eq!(
        rig.assigned(2),
        [[0], [3]],
        "the next client continues at our own offset"
    );

    // The very poll that reads may fail.
    let polls = vec![
        Poll::RecordsThenFail(vec![0, 1]),
        Poll::RecordsThenFail(vec![2, 3]),
    ];
    assert_eq!(Rig::start(0, 4, polls).offsets(4), [0, 1, 2, 3]);
}

fn left_kafka() {
    let mut rig = Rig::start(0, 3, vec![Poll::Records(vec![0, 1, 2])]);
    assert_eq!(rig.offsets(3), [0, 1, 2]);
    rig.script(|script| {
        script.bounds[0] = Bounds { low: 7, high: 9 };
        script
            .polls
            .extend([Poll::Fail(unreachable()), Poll::Records(vec![7, 8])]);
    });
    assert_eq!(rig.offsets(2), [7, 8]);
    assert_eq!(rig.assigned(2)[1], [7]);
}

fn end_below() {
    let mut rig = Rig::start(0, 3, vec![Poll::Records(vec![0, 1, 2])]);
    rig.offsets(3);
    // A new leader that lags: its end is below what was read, for a moment.
    rig.script(|script| {
        script.bounds[0].high = 1;
        script.polls.push_back(Poll::Fail(unreachable()));
    });
    let connects = rig.script(|script| script.connects.len());
    eventually(secs(20), "it is asked again", || {
        ensure(
            rig.script(|script| script.connects.len()) >= connects + 2,
            "not yet",
        )
    });
    rig.script(|script| {
        script.bounds[0].high = 4;
        script.polls.push_back(Poll::Records(vec![3]));
    });
    assert_eq!(rig.offsets(1), [3], "nothing was read again");
    // One that stays is another topic.
    rig.script(|script| {
        script.bounds[0] = Bounds { low: 0, high: 2 };
        script
            .polls
            .extend([Poll::Fail(unreachable()), Poll::Records(vec![0, 1])]);
    });
    assert_eq!(rig.offsets(2), [0, 1]);
}

fn added_partitions() {
    let rig = Rig::start(5, 9, Vec::new());
    assert_eq!(rig.assigned(1), [[5]]);
    rig.script(|script| script.bounds.push(Bounds { low: 2, high: 100 }));
    assert_eq!(rig.assigned(2)[1], [5, 2]);
}

fn codec() {
    let error = SourceError::Codec {
        brokers: "b:1".to_owned(),
        what: "topic \"t\"".to_owned(),
    };
    let mut rig = Rig::start(
        0,
        2,
        vec![Poll::Records(vec![0]), Poll::Fail(error), Poll::Records(vec![1])],
    );
    assert_eq!(rig.offsets(2), [0, 1]);
    assert_eq!(rig.script(|script| script.refusals), 1);
    assert!(
        !rig.status
            .snapshot()
            .degraded
            .iter()
            .any(|what| what.contains("codec") || what.contains("lz4"))
    );
}

fn backs_off() {
    let rig = Rig::over(
        Script {
            unreachable: true,
            ..Script::default()
        },
        16,
    );
    let connects = eventually(secs(30), "it tries again and again", || {
        let connects = rig.script(|script| script.connects.clone());
        if connects.len() >= 6 {
            Ok(connects)
        } else {
            Err(connects.len())
        }
    });
    let pauses: Vec<Duration> = connects.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // 100, 200, 400, 800, 1600 ms, each shortened by up to half.
    for (pause, least) in pauses.iter().zip([50, 100, 200, 400, 800]) {
        assert!(*pause >= millis(least), "{pauses:?}");
    }
    assert!(rig.status.snapshot().degraded[0].contains("scripted"));
}

fn told_once() {
    let mut rig = Rig::over(
        Script {
            unreachable: true,
            bounds: vec![Bounds { low: 0, high: 0 }],
            ..Script::default()
        },
        16,
    );
    eventually(secs(20), "it is in trouble", || {
        ensure(rig.script(|script| script.connects.len()) >= 3, "not yet")
    });
    assert_eq!(rig.status.snapshot().degraded.len(), 1);
    rig.script(|script| {
        script.unreachable = false;
        script.polls.push_back(Poll::Records(vec![0]));
    });
    rig.offsets(1);
    eventually(secs(20), "it is well again", || {
        let snapshot = rig.status.snapshot();
        ensure(
            snapshot.degraded.is_empty() && snapshot.contacted,
            format!("{snapshot:?}"),
        )
    });
}

fn stops() {
    let polls = (0..50).map(|number| Poll::Records(vec![number])).collect();
    let script = Script {
        bounds: vec![Bounds { low: 0, high: 50 }],
        polls,
        ..Script::default()
    };
    let mut rig = Rig::over(script, 2);
    eventually(secs(20), "the channel is full", || {
        ensure(rig.feeds.len() == 2, rig.feeds.len().to_string())
    });
    let thread = rig.tail.take().expect("it runs").stop();
    rig.feeds.close();
    while rig.feeds.try_recv().is_ok() {}
    assert!(thread.join().is_ok());
}
