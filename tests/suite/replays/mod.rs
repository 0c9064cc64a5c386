//! Concurrent replays: slow readers keep theirs while no other waits, and take turns otherwise. The real streams and
//! the real pool, over a scripted Kafka.

mod quotas;

use crate::harness::wait::{block_on, ensure, eventually, eventually_async, millis, secs};
use crate::rig;
use crate::scripted::{self, Pool};
use crate::trials;
use bytes::Bytes;
use kafka_sse_bridge::config::units::Size;
use kafka_sse_bridge::config::{Lag, Start, StreamSettings};
use kafka_sse_bridge::kafka::history::Archive;
use kafka_sse_bridge::kafka::history::fair_queue::Flow;
use kafka_sse_bridge::kafka::history::quota::{QuotaLimits, ReplayQuota};
use kafka_sse_bridge::kafka::record::Feed;
use kafka_sse_bridge::stream::position::{Position, TopicPosition};
use kafka_sse_bridge::stream::start_position::Opening;
use kafka_sse_bridge::stream::subscription::{Step, Subscription};
use kafka_sse_bridge::stream::writer::Writer;
use kafka_sse_bridge::stream::{Stream, live_settings::Pace};
use libtest_mimic::Trial;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

pub fn trials() -> Vec<Trial> {
    let mut trials = trials![
        slow_replay_readers_do_not_starve_a_fast_one,
        the_memory_of_slow_replays_is_bounded_and_each_advances,
        slow_readers_keep_their_replays_while_no_one_waits,
        each_replay_turn_reads_one_window,
        clients_at_nearby_positions_share_a_replay,
        a_replay_that_fails_to_start_is_requested_again,
    ];
    trials.extend(quotas::trials());
    trials
}

const RECORD: usize = 4096;
const WINDOW: usize = 4 << 20;
const SEATS: usize = 8;

/// Positions so far apart share no replay.
const FAR: i64 = 20_000;

/// Records of one partition, as many as there are; counts how often it is connected to, which is
/// once per job.
#[derive(Default)]
struct Kafka {
    end: i64,
    connects: AtomicUsize,
    /// So many connections fail.
    failing: usize,
    /// The first of the records with the key `rare`; those before have none.
    rare: Option<i64>,
}

impl scripted::Kafka for Kafka {
    fn answers(&self) -> bool {
        self.connects.fetch_add(1, Ordering::SeqCst) >= self.failing
    }

    fn ends(&self) -> Vec<i64> {
        vec![self.end]
    }

    fn values(&self, next: i64) -> Vec<Vec<u8>> {
        (next..self.end.min(next + 64))
            .map(|offset| format!("{offset:<RECORD$}").into_bytes())
            .collect()
    }

    fn key(&self, offset: i64) -> Option<&'static [u8]> {
        let first = self.rare?;
        (offset >= first).then_some(b"rare")
    }
}

/// A stream at the end of a topic, without records in memory.
struct Rig {
    kafka: Arc<Kafka>,
    /// Its threads are joined before the stream goes.
    history: Pool,
    quota: Arc<ReplayQuota>,
    stream: Arc<Stream>,
}

impl Rig {
    fn new(kafka: Kafka) -> Self {
        Self::within(kafka, QuotaLimits::default())
    }

    fn within(kafka: Kafka, limits: QuotaLimits) -> Self {
        Self::with(kafka, limits, |_| ())
    }

    fn with(kafka: Kafka, limits: QuotaLimits, change: impl FnOnce(&mut StreamSettings)) -> Self {
        let kafka = Arc::new(kafka);
        let quota = Arc::new(ReplayQuota::new(limits));
        let history = Pool::over(&kafka, Arc::clone(&quota));
        let settings = rig::settings(1, |settings| {
            settings.start = Start::Earliest;
            settings.log_bytes = Size(8 * 1024);
            settings.lag = Some(Lag::Replay);
            change(settings);
        });
        let pace = Pace {
            keepalive: secs(600),
            ..rig::PACE
        };
        let archive: Arc<dyn Archive> = Arc::clone(&history.0) as _;
        let stream = Stream::new(settings, pace, Some(rig::history(archive)));
        let mut writer = Writer::new(Arc::clone(&stream));
        writer.take(&rig::assigned("t", &[kafka.end]));
        writer.take(&Feed::Loaded { topic: "t".into() });
        Self {
            kafka,
            history,
            quota,
            stream,
        }
    }

    /// A client that resumes at this offset. It shares no replay with clients at later offsets.
    fn client(&self, from: i64) -> Browser {
        self.client_of(Flow::default(), from)
    }

    /// The same, whose replays are work of this flow.
    fn client_of(&self, flow: Flow, from: i64) -> Browser {
        let position = Position {
            as_of: None,
            topics: vec![TopicPosition {
                next: vec![from],
                ..TopicPosition::unread("t")
            }],
        };
        let opening = Opening {
            last_event_id: Some(String::from_utf8(position.id()).expect("base64")),
            flow,
            ..Opening::default()
        };
        let mut subscription = self.stream.subscribe(opening);
        let mut taken = VecDeque::new();
        while let Step::Send(bytes) = subscription.step(Instant::now()) {
            taken.push_back(bytes);
        }
        Browser {
            subscription,
            taken,
            next: from,
        }
    }

    fn connects(&self) -> usize {
        self.kafka.connects.load(Ordering::SeqCst)
    }

    fn held(&self) -> usize {
        self.stream.replays().1
    }
}

struct Browser {
    subscription: Subscription,
    /// The events sent at once.
    taken: VecDeque<Bytes>,
    next: i64,
}

impl Browser {
    /// The next piece, once there is one. Its records must be the next ones.
    async fn piece(&mut self) -> Bytes {
        let bytes = poll_fn(|context| {
            if let Some(bytes) = self.taken.pop_front() {
                return Poll::Ready(bytes);
            }
            loop {
                match self.subscription.step(Instant::now()) {
                    Step::Send(bytes) => return Poll::Ready(bytes),
                    Step::End => panic!("the stream ended unexpectedly"),
                    Step::Yield => {}
                    Step::Wait(_) => {
                        if self.subscription.wait(context.waker()) {
                            return Poll::Pending;
                        }
                    }
                }
            }
        })
        .await;
        for line in bytes.split(|&byte| byte == b'\n') {
            let record = line.strip_prefix(b"data: ").filter(|data| data.len() >= RECORD);
            if let Some(record) = record {
                let number = std::str::from_utf8(&record[..20]).expect("text").trim_end();
                assert_eq!(number.parse(), Ok(self.next));
                self.next += 1;
            }
        }
        bytes
    }

    async fn until(&mut self, end: i64) {
        while self.next < end {
            self.piece().await;
        }
    }

    /// Takes a piece and pauses for so long, until it has everything. The pause makes the client slow.
    async fn drip(mut self, pause: Duration, end: i64) {
        while self.next < end {
            self.piece().await;
            tokio::time::sleep(pause).await;
        }
    }
}

fn records(bytes: usize) -> i64 {
    i64::try_from(bytes / RECORD).expect("small")
}

fn slow_replay_readers_do_not_starve_a_fast_one() {
    let end = records(48 << 20);
    let rig = Rig::new(Kafka {
        end,
        ..Kafka::default()
    });
    block_on(async {
        let mut drippers = JoinSet::new();
        for number in (1..=8).rev() {
            drippers.spawn(rig.client(number * 100).drip(secs(3), end));
        }
        eventually_async(secs(20), "they hold all threads", async || {
            ensure(
                rig.connects() >= 4 && rig.held() >= 4 * WINDOW,
                format!("{}", rig.held()),
            )
        })
        .await;
        let mut fast = rig.client(0);
        tokio::time::timeout(secs(60), fast.until(end))
            .await
            .unwrap_or_else(|_| panic!("it got no further than {}", fast.next));
        drippers.shutdown().await;
    });
}

fn the_memory_of_slow_replays_is_bounded_and_each_advances() {
    const READERS: usize = 20;
    const PIECES: usize = 3;
    let end = records(64 << 20);
    let rig = Rig::new(Kafka {
        end,
        ..Kafka::default()
    });
    block_on(async {
        let pieces: Arc<[AtomicUsize; READERS]> = Arc::default();
        let mut readers = JoinSet::new();
        for reader in 0..READERS {
            let mut browser = rig.client(records(4 << 20) - 10 * i64::try_from(reader).expect("small"));
            let pieces = Arc::clone(&pieces);
            readers.spawn(async move {
                loop {
                    let before = browser.next;
                    browser.piece().await;
                    if browser.next > before {
                        pieces[reader].fetch_add(1, Ordering::SeqCst);
                        // Longer than the timeout of a slow reader, which the pool sets to 1 s.
                        tokio::time::sleep(millis(1500)).await;
                    }
                }
            });
        }
        let mut most = 0;
        eventually_async(secs(120), "each gets further", async || {
            most = most.max(rig.held());
            let least = pieces.iter().map(|pieces| pieces.load(Ordering::SeqCst)).min();
            ensure(least >= Some(PIECES), format!("{pieces:?}"))
        })
        .await;
        readers.shutdown().await;
        // A block more or less each.
        assert!(most <= SEATS * (WINDOW + 512 * 1024), "{most} bytes");
        assert!(most > SEATS / 2 * WINDOW, "{most} bytes: the test fills nothing");
    });
}

fn slow_readers_keep_their_replays_while_no_one_waits() {
    let end = records(6 << 20);
    let rig = Rig::new(Kafka {
        end,
        ..Kafka::default()
    });
    rig::run(async {
        tokio::time::pause();
        let mut readers: Vec<Browser> = (0..4).rev().map(|number| rig.client(number)).collect();
        // No time passes for the replays until the threads of the pool have taken all of them.
        eventually(secs(20), "no replay waits for a thread", || {
            ensure(rig.connects() == 4 && !rig.history.is_contended(), "not yet")
        });
        for reader in &mut readers {
            let from = reader.next;
            reader.until(from + 1).await;
        }
        // Three times the timeout of a slow reader.
        tokio::time::advance(secs(3)).await;
        for reader in &mut readers {
            reader.until(end).await;
        }
        assert_eq!(rig.connects(), 4, "each was read once");
    });
}

fn each_replay_turn_reads_one_window() {
    const READERS: usize = 6;
    const SIZE: usize = 12 << 20;
    // Each in a part of its own, so that none shares the replay of another.
    let part = FAR;
    let rig = Rig::new(Kafka {
        end: part * 6,
        ..Kafka::default()
    });
    block_on(async {
        let mut readers = JoinSet::new();
        for number in (0..6).rev() {
            let from = number * part;
            readers.spawn(rig.client(from).drip(millis(150), from + records(SIZE)));
        }
        tokio::time::timeout(secs(120), readers.join_all())
            .await
            .expect("all get all");
        // The last turn of each may be short.
        let lost = rig.connects() - READERS;
        assert!(lost > 0, "no replay lost its turn: the test proves nothing");
        assert!(lost * WINDOW <= READERS * SIZE, "{lost} turns were lost");
    });
}

fn clients_at_nearby_positions_share_a_replay() {
    let end = FAR + 1000;
    let rig = Rig::new(Kafka {
        end,
        ..Kafka::default()
    });
    block_on(async {
        // The last one is near none of the others, though its records would come in time.
        let mut browsers = JoinSet::new();
        for from in [0, 0, 100, 5000, FAR] {
            let mut browser = rig.client(from);
            let until = if from == FAR { end } else { 6000 };
            browsers.spawn(async move { browser.until(until).await });
        }
        browsers.join_all().await;
        assert_eq!(rig.connects(), 2);
    });
}

fn a_replay_that_fails_to_start_is_requested_again() {
    let end = records(1 << 20);
    // A job is given up after the seventh failure.
    let rig = Rig::new(Kafka {
        end,
        failing: 8,
        ..Kafka::default()
    });
    block_on(async {
        let mut client = rig.client(0);
        tokio::time::timeout(secs(60), client.until(end))
            .await
            .expect("it gets all");
    });
}
