//! Runs a blocking client on its own thread, so that a caller can abandon a call.
//!
//! The `kafka` crate blocks for up to two minutes, librdkafka up to its timeouts, and neither call can be cancelled.
//! A worker thread makes the calls. The caller waits for the result, a command or a time limit, or fetches the result
//! later. An abandoned call runs to completion, and its result is dropped. Knows nothing of Kafka.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use super::pulse::Pulse;

/// How often a waiting caller checks for a command.
const CHECK_EVERY: Duration = Duration::from_millis(100);

/// How long a call may take: far longer than a request to a hanging broker, and long enough for the largest fetch at
/// 1 Mbit/s.
const TIMEOUT: Duration = Duration::from_secs(600);

/// Most calls that may be queued. More accumulate only behind a call that hangs.
const MAX_QUEUED: usize = 3;

/// A handle to the thread of a client.
pub(crate) struct WorkerThread<C> {
    calls: SyncSender<Call<C>>,
    pulse: Arc<Pulse>,
}

type Call<C> = Box<dyn FnOnce(&mut C) + Send>;

impl<C> Clone for WorkerThread<C> {
    fn clone(&self) -> Self {
        Self {
            calls: self.calls.clone(),
            pulse: Arc::clone(&self.pulse),
        }
    }
}

/// Why a call has no result. The client is unusable afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Abandoned {
    Interrupted,
    TimedOut,
}

impl<C: Send + 'static> WorkerThread<C> {
    /// Moves a client to a new thread of this name. `pulse` is that of the calling thread. The new thread calls `serve`
    /// before each call, and again when no call arrives within the time that `serve` returned (`None`: no limit).
    pub(crate) fn spawn(
        name: &str,
        mut client: C,
        pulse: Arc<Pulse>,
        mut serve: impl FnMut(&mut C) -> Option<Duration> + Send + 'static,
    ) -> io::Result<Self> {
        let (calls, queue) = mpsc::sync_channel::<Call<C>>(MAX_QUEUED);
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            loop {
                let call = match serve(&mut client) {
                    Some(pause) => queue.recv_timeout(pause),
                    None => queue.recv().map_err(RecvTimeoutError::from),
                };
                match call {
                    Ok(call) => call(&mut client),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            }
        })?;
        Ok(Self { calls, pulse })
    }

    /// Begins a call, queued behind earlier ones. Fails when an earlier call hangs.
    pub(crate) fn begin<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut C) -> T + Send + 'static,
    ) -> Result<PendingCall<T>, Abandoned> {
        let (answer, answered) = mpsc::sync_channel(1);
        let call = Box::new(move |client: &mut C| {
            // The receiver is gone once the call was abandoned.
            let _ = answer.send(call(client));
        });
        self.calls.try_send(call).map_err(|_| Abandoned::TimedOut)?;
        Ok(PendingCall {
            answered,
            begun: Instant::now(),
        })
    }

    pub(crate) fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut C) -> T + Send + 'static,
    ) -> Result<T, Abandoned> {
        self.wait(&self.begin(call)?)
    }

    /// Waits for the result of a call, a command or the time limit of calls.
    pub(crate) fn wait<T>(&self, pending: &PendingCall<T>) -> Result<T, Abandoned> {
        loop {
            self.pulse.beat(CHECK_EVERY);
            match pending.within(CHECK_EVERY) {
                Some(answer) => return answer,
                None if self.pulse.has_command() => return Err(Abandoned::Interrupted),
                None => {}
            }
        }
    }
}

pub(crate) struct PendingCall<T> {
    answered: Receiver<T>,
    begun: Instant,
}

impl<T> PendingCall<T> {
    /// The result; `None` while the call is in progress.
    pub(crate) fn answer(&self) -> Option<Result<T, Abandoned>> {
        self.within(Duration::ZERO)
    }

    fn within(&self, wait: Duration) -> Option<Result<T, Abandoned>> {
        match self.answered.recv_timeout(wait) {
            Ok(answer) => Some(Ok(answer)),
            Err(RecvTimeoutError::Timeout) if self.begun.elapsed() < TIMEOUT => None,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Some(Err(Abandoned::TimedOut)),
        }
    }
}

/// Makes one call on its own thread. `None` if it takes longer than `limit`; the thread then ends with the call or the
/// process.
pub(crate) fn within<T: Send + 'static>(
    limit: Duration,
    call: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (sender, answer) = mpsc::sync_channel(1);
    let spawned = std::thread::Builder::new()
        .name("time-limit".to_owned())
        .spawn(move || {
            // The receiver is gone once the limit has passed.
            let _ = sender.send(call());
        });
    spawned.ok()?;
    answer.recv_timeout(limit).ok()
}
