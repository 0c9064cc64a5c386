//! The threads that write: a runtime of their own for everything that encodes records.
//!
//! A stream's writer, and that of a replay, may need a processor for as long as records come. On the runtime of
//! connections it would hold up every client, and the watchdog with them. Here each is a task among others,
//! which has its turn after every batch of another, on as many threads as there are processors. What wakes
//! readers stays on the runtime of connections ([`Announcer`](crate::stream::announcer::Announcer)).
//!
//! Each task has a [`Pulse`] that the watchdog judges.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet, yield_now};

use crate::kafka::pulse::Pulse;
use crate::kafka::record::Feed;
use crate::stream::feed::Feeder;
use crate::stream::stream::Spawn;

/// The name of the threads.
const NAME: &str = "stream-writer";

/// The threads, and what the tasks on them are at.
#[derive(Debug)]
pub struct Writers {
    /// Taken when this is dropped.
    runtime: Option<Runtime>,
    handle: Handle,
    pulses: Arc<Pulses>,
}

impl Writers {
    /// As many threads as there are processors.
    ///
    /// # Errors
    /// When the operating system gives none.
    pub fn start() -> io::Result<Self> {
        Self::with(&mut Builder::new_multi_thread())
    }

    /// The same, with so many threads as `builder` is set to.
    ///
    /// # Errors
    /// When the operating system gives none.
    pub fn with(builder: &mut Builder) -> io::Result<Self> {
        // Replays look at the time; nothing here has a socket.
        let runtime = builder.thread_name(NAME).enable_time().build()?;
        Ok(Self {
            handle: runtime.handle().clone(),
            pulses: Arc::new(Pulses::new(runtime.handle().clone())),
            runtime: Some(runtime),
        })
    }

    /// What the tasks are at.
    #[must_use]
    pub fn pulses(&self) -> Arc<Pulses> {
        Arc::clone(&self.pulses)
    }

    /// Writes a stream until the other end of the channel is gone, as one of `tasks`.
    pub fn spawn(
        &self,
        tasks: &mut JoinSet<()>,
        path: &str,
        feeder: Feeder,
        feeds: mpsc::Receiver<Feed>,
    ) -> AbortHandle {
        let pulse = Arc::clone(feeder.pulse());
        self.pulses.add(format!("the writer of stream {path}"), &pulse);
        let writing = Judged {
            pulse,
            task: Box::pin(write(feeder, feeds)),
        };
        tasks.spawn_on(writing, &self.handle)
    }

    /// What a stream starts the writers of its replays with.
    #[must_use]
    pub fn spawner(&self, path: &str) -> Spawn {
        let (handle, pulses) = (self.handle.clone(), self.pulses());
        let name = format!("a replay of stream {path}");
        Box::new(move |task| {
            let pulse = Arc::default();
            pulses.add(name.clone(), &pulse);
            handle.spawn(Judged { pulse, task });
        })
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        // Not by waiting: this may be a thread of another runtime, and a writer may hang.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn write(mut feeder: Feeder, mut feeds: mpsc::Receiver<Feed>) {
    while let Some(feed) = feeds.recv().await {
        feeder.take(&feed);
        // The other streams have their turn.
        yield_now().await;
        // In pieces, between which the others have theirs, and what has come meanwhile goes first.
        while feeds.is_empty() && feeder.tidy() {
            yield_now().await;
        }
    }
}

/// A task that is due whenever it is polled.
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

/// The pulses of all tasks that write, and that of the threads themselves.
#[derive(Debug)]
pub struct Pulses {
    handle: Handle,
    tasks: Mutex<Vec<(String, Weak<Pulse>)>>,
    /// Whether a thread has taken the empty task of the last look.
    is_taken: Arc<AtomicBool>,
    /// For how long none has: locked by looks alone.
    untaken: Mutex<Duration>,
}

impl Pulses {
    fn new(handle: Handle) -> Self {
        Self {
            handle,
            tasks: Mutex::default(),
            is_taken: Arc::new(AtomicBool::new(true)),
            untaken: Mutex::default(),
        }
    }

    fn tasks(&self) -> MutexGuard<'_, Vec<(String, Weak<Pulse>)>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, name: String, pulse: &Arc<Pulse>) {
        let mut tasks = self.tasks();
        tasks.retain(|(_, pulse)| pulse.strong_count() > 0);
        tasks.push((name, Arc::downgrade(pulse)));
    }

    /// What is the latest, and for how long it has got nothing done; `tick` as for [`Pulse::look`].
    pub fn look(&self, tick: Duration) -> (String, Duration) {
        let (mut name, mut late, mut has_moved) = (String::new(), Duration::ZERO, false);
        for (task, pulse) in &*self.tasks() {
            let Some(look) = pulse.upgrade().map(|pulse| pulse.look(tick)) else {
                continue;
            };
            has_moved |= look.has_moved;
            if look.late > late {
                (name, late) = (format!("{task} hangs in one record"), look.late);
            }
        }
        let untaken = self.look_at_threads(tick, has_moved);
        if untaken > late {
            (name, late) = (
                "no thread that writes comes back from its task".to_owned(),
                untaken,
            );
        }
        (name, late)
    }

    /// For how long no thread has come for a task, while none got anything done.
    fn look_at_threads(&self, tick: Duration, has_moved: bool) -> Duration {
        let mut untaken = self.untaken.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_taken.swap(false, Ordering::Relaxed) {
            *untaken = Duration::ZERO;
            let is_taken = Arc::clone(&self.is_taken);
            self.handle
                .spawn(async move { is_taken.store(true, Ordering::Relaxed) });
        } else if has_moved {
            // The task waits for its turn.
            *untaken = Duration::ZERO;
        } else {
            *untaken += tick;
        }
        *untaken
    }
}
