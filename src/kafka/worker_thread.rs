//! A blocking client on a thread of its own, whose calls can be abandoned.
//!
//! The `kafka` crate blocks for up to two minutes and librdkafka for as long as its timeouts, and neither call can be
//! cancelled. So another thread makes the calls, and the caller waits here for the answer, for an order or for a time
//! limit, or fetches the answer later. An abandoned call runs to its end, and its answer is dropped. Knows nothing of
//! Kafka.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use super::pulse::Pulse;

/// How often a caller that waits looks for an order.
const CHECK_EVERY: Duration = Duration::from_millis(100);

/// How long a call may take: far longer than a request to a broker that hangs, and long enough for the largest fetch
/// over a line of 1 Mbit/s.
const TIMEOUT: Duration = Duration::from_secs(600);

/// Calls that may be queued; there are more only behind one that hangs.
const MAX_QUEUED: usize = 3;

/// The thread of a client.
pub struct WorkerThread<C> {
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

/// Why a call has no answer. The client is of no further use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abandoned {
    /// The calling thread has an order to follow.
    Interrupted,
    /// The call took too long.
    TimedOut,
}

impl<C: Send + 'static> WorkerThread<C> {
    /// Moves a client to a thread of this name, for calls by the thread with this pulse. The thread also calls `serve`
    /// whenever no call has come for the time that it returned last; `None` is never.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn spawn(
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

    /// Begins a call, behind those that were begun before.
    ///
    /// # Errors
    /// When an earlier call hangs.
    pub fn begin<T: Send + 'static>(
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

    /// Calls, and waits for the answer.
    ///
    /// # Errors
    /// When the call was abandoned.
    pub fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut C) -> T + Send + 'static,
    ) -> Result<T, Abandoned> {
        let pending = self.begin(call)?;
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

/// A call that was begun.
pub struct PendingCall<T> {
    answered: Receiver<T>,
    begun: Instant,
}

impl<T> PendingCall<T> {
    /// The answer; `None` while the call goes on.
    pub fn answer(&self) -> Option<Result<T, Abandoned>> {
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

/// Makes one call on a thread of its own. `None` when it takes longer than `limit`; the thread then ends with the call,
/// or with the process.
pub fn within<T: Send + 'static>(limit: Duration, call: impl FnOnce() -> T + Send + 'static) -> Option<T> {
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
