//! The writer threads: a runtime of their own for all tasks that encode records.
//!
//! The writer of a stream or a replay may keep a processor busy for as long as records arrive. On the runtime of
//! connections it would delay all clients and the watchdog. Here it yields to the other writers after every batch, on as
//! many threads as there are processors. Readers are woken on the runtime of connections
//! ([`Announcer`](crate::stream::announcer::Announcer)).
//!
//! Each task has a [`Pulse`] that the watchdog checks.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet, yield_now};
use tokio::time::{Instant, timeout_at};

use crate::config::StreamSettings;
use crate::decode::feeds::{FeedDecoder, Lookup};
use crate::kafka::pulse::Pulse;
use crate::kafka::record::Feed;
use crate::stream::Spawn;
use crate::stream::history_reads::SpawnReplay;
use crate::stream::replay_writer::{ReplayStep, ReplayTask, ReplayWriter};
use crate::stream::writer::Writer;

const NAME: &str = "stream-writer";

/// The threads, and the pulses of the tasks on them.
#[derive(Debug)]
pub struct Writers {
    /// Taken when this is dropped.
    runtime: Option<Runtime>,
    handle: Handle,
    pulses: Arc<Pulses>,
    /// Where decoders find schemas, if the daemon has a registry.
    schemas: Option<Lookup>,
}

impl Writers {
    /// As many threads as there are processors.
    ///
    /// # Errors
    /// When the operating system refuses a thread.
    pub fn start() -> io::Result<Self> {
        Self::with(&mut Builder::new_multi_thread())
    }

    /// As [`start`](Self::start), with the number of threads of `builder`.
    ///
    /// # Errors
    /// When the operating system refuses a thread.
    pub fn with(builder: &mut Builder) -> io::Result<Self> {
        // Replays have timers; no task has a socket.
        let runtime = builder.thread_name(NAME).enable_time().build()?;
        Ok(Self {
            handle: runtime.handle().clone(),
            pulses: Arc::new(Pulses::new(runtime.handle().clone())),
            runtime: Some(runtime),
            schemas: None,
        })
    }

    /// Decodes records with these schemas.
    pub(crate) fn set_schemas(&mut self, schemas: Lookup) {
        self.schemas = Some(schemas);
    }

    /// The pulses of the tasks.
    pub fn pulses(&self) -> Arc<Pulses> {
        Arc::clone(&self.pulses)
    }

    /// Spawns a stream's writer into `tasks`. It ends when the channel is closed.
    pub fn spawn(
        &self,
        tasks: &mut JoinSet<()>,
        settings: &StreamSettings,
        writer: Writer,
        feeds: mpsc::Receiver<Feed>,
    ) -> AbortHandle {
        let pulse = Arc::clone(writer.pulse());
        self.pulses
            .add(format!("the writer of stream {}", settings.path), &pulse);
        let decoder = self.decoder(settings).noting(Arc::clone(writer.schemas()));
        let writing = Judged {
            pulse,
            task: Box::pin(write(writer, decoder, feeds)),
        };
        tasks.spawn_on(writing, &self.handle)
    }

    /// Spawns the tasks that look through records for the filters of a stream.
    pub fn spawner(&self, path: &str) -> Spawn {
        self.spawner_of(format!("a filter of stream {path}"))
    }

    pub(crate) fn replay_spawner(&self, settings: &StreamSettings) -> SpawnReplay {
        let spawn = self.spawner_of(format!("a replay of stream {}", settings.path));
        let (settings, schemas) = (settings.clone(), self.schemas.clone());
        Box::new(move |task| {
            let decoder = FeedDecoder::new(&settings, schemas.clone());
            spawn(Box::pin(write_replay(task, decoder)));
        })
    }

    fn decoder(&self, settings: &StreamSettings) -> FeedDecoder {
        FeedDecoder::new(settings, self.schemas.clone())
    }

    fn spawner_of(&self, name: String) -> Spawn {
        let (handle, pulses) = (self.handle.clone(), self.pulses());
        Box::new(move |task| {
            let pulse = Arc::default();
            pulses.add(name.clone(), &pulse);
            handle.spawn(Judged { pulse, task });
        })
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        // Without waiting: this may be a thread of another runtime, and a writer may hang.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn write(mut writer: Writer, mut decoder: FeedDecoder, mut feeds: mpsc::Receiver<Feed>) {
    let pulse = Arc::clone(writer.pulse());
    while let Some(feed) = feeds.recv().await {
        let mut is_part = true;
        while is_part {
            let next;
            (next, is_part) = decoder.decode(&feed, || pulse.step()).await;
            writer.take(&next);
            // To the other writers. Without a feed `recv` does it, and costs no second turn of the thread.
            if is_part || !feeds.is_empty() {
                yield_now().await;
            }
        }
        // In pieces, with a yield after each; feeds that arrive go first.
        while feeds.is_empty() && writer.tidy() {
            yield_now().await;
        }
    }
}

/// Writes a replay until its readers have taken everything.
pub async fn write_replay(task: ReplayTask, mut decoder: FeedDecoder) {
    let ReplayTask {
        mut writer,
        feeds,
        slot: _slot,
    } = task;
    let mut feeds = Some(feeds);
    // The feed that is being decoded, of which parts may have been taken.
    let mut begun: Option<Feed> = None;
    loop {
        match (writer.step(Instant::now().into_std()), &mut feeds) {
            (ReplayStep::Take, Some(open)) => tokio::select! {
                // The writer makes space behind every feed, so readers are not kept waiting; and without chance, a
                // simulation of this can be repeated.
                biased;
                feed = next_feed(open, &mut begun, &mut decoder) => {
                    writer.take(feed.as_ref(), Instant::now().into_std());
                    // To the other writers.
                    yield_now().await;
                }
                () = reader_moved(&writer) => {}
            },
            (ReplayStep::Full(until), _) => {
                let _ = timeout_at(until.into(), reader_moved(&writer)).await;
            }
            (ReplayStep::Drain(until), _) => {
                feeds = None;
                let _ = timeout_at(until.into(), reader_moved(&writer)).await;
            }
            (ReplayStep::Take, None) | (ReplayStep::End, _) => return,
        }
    }
}

/// The next feed, or the next part of the one that is begun. Dropping the future loses nothing.
async fn next_feed(
    feeds: &mut mpsc::Receiver<Feed>,
    begun: &mut Option<Feed>,
    decoder: &mut FeedDecoder,
) -> Option<Feed> {
    if begun.is_none() {
        *begun = Some(feeds.recv().await?);
    }
    let (next, is_part) = decoder.decode(begun.as_ref()?, || {}).await;
    if !is_part {
        *begun = None;
    }
    Some(next)
}

async fn reader_moved(writer: &ReplayWriter) {
    poll_fn(|context| {
        if writer.wait(context.waker()) {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    })
    .await;
}

/// A task that is due while it is polled.
struct Judged {
    pulse: Arc<Pulse>,
    task: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Future for Judged {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.pulse.beat(Duration::ZERO);
        let polled = self.task.as_mut().poll(context);
        self.pulse.rest();
        polled
    }
}

/// The pulses of all writers, and whether the threads take tasks.
#[derive(Debug)]
pub struct Pulses {
    handle: Handle,
    tasks: Mutex<Vec<(String, Weak<Pulse>)>>,
    /// Threads that are checked beside those of the writers.
    others: Mutex<Vec<(String, Arc<Pulse>)>>,
    /// Whether a thread has run the empty task of the last check.
    is_taken: Arc<AtomicBool>,
    /// How long no thread has run it; locked by checks only.
    untaken: Mutex<Duration>,
}

impl Pulses {
    fn new(handle: Handle) -> Self {
        Self {
            handle,
            tasks: Mutex::default(),
            others: Mutex::default(),
            is_taken: Arc::new(AtomicBool::new(true)),
            untaken: Mutex::default(),
        }
    }

    /// Checks the pulse of a thread that is no writer's.
    pub(crate) fn add_other(&self, name: String, pulse: &Arc<Pulse>) {
        self.others.lock().push((name, Arc::clone(pulse)));
    }

    fn add(&self, name: String, pulse: &Arc<Pulse>) {
        let mut tasks = self.tasks.lock();
        tasks.retain(|(_, pulse)| pulse.strong_count() > 0);
        tasks.push((name, Arc::downgrade(pulse)));
    }

    /// The task that has not advanced for the longest time, and that time; `tick` as for [`Pulse::look`].
    pub fn look(&self, tick: Duration) -> (String, Duration) {
        let (mut name, mut late, mut has_moved) = (String::new(), Duration::ZERO, false);
        for (task, pulse) in &*self.tasks.lock() {
            let Some(look) = pulse.upgrade().map(|pulse| pulse.look(tick)) else {
                continue;
            };
            has_moved |= look.has_moved;
            if look.late > late {
                (name, late) = (format!("{task} hangs"), look.late);
            }
        }
        for (thread, pulse) in &*self.others.lock() {
            let look = pulse.look(tick);
            if look.late > late {
                (name, late) = (format!("{thread} hangs"), look.late);
            }
        }
        let untaken = self.look_at_threads(tick, has_moved);
        if untaken > late {
            (name, late) = ("no writer thread returns from its task".to_owned(), untaken);
        }
        (name, late)
    }

    /// How long no thread has taken a task while no writer advanced.
    fn look_at_threads(&self, tick: Duration, has_moved: bool) -> Duration {
        let mut untaken = self.untaken.lock();
        if self.is_taken.swap(false, Ordering::Relaxed) {
            *untaken = Duration::ZERO;
            let is_taken = Arc::clone(&self.is_taken);
            self.handle
                .spawn(async move { is_taken.store(true, Ordering::Relaxed) });
        } else if has_moved {
            // The task waits behind others.
            *untaken = Duration::ZERO;
        } else {
            *untaken += tick;
        }
        *untaken
    }
}
