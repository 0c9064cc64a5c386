//! A client on a thread of its own, which can be left behind in the middle of a call.
//!
//! The `kafka` crate waits for a broker for up to two minutes, librdkafka for as long as it is told, and
//! nothing can be said to them meanwhile. So they are called on another thread, and whoever reads waits here,
//! turning, until there is an answer or something else to do, or reads on and asks later. What is left behind
//! ends by itself once its call does, and nobody hears what came of it: an answer changes nothing but by being
//! returned from here. Knows nothing of Kafka.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use super::pulse::Pulse;

/// How often is looked whether there is something else to do, while an answer is waited for.
const LOOK: Duration = Duration::from_millis(100);

/// How long a call may take: far longer than a broker that hangs is waited for, and long enough for the
/// largest fetch over a line of 1 Mbit/s.
const PATIENCE: Duration = Duration::from_secs(600);

/// Calls that may wait; more do so only behind one that was left.
const CALLS: usize = 3;

/// A client, wherever it is busy.
pub(super) struct WorkerThread<C> {
    /// Few: those that were begun, each once at a time, and one that is waited for.
    calls: SyncSender<Call<C>>,
    pulse: Arc<Pulse>,
}

type Call<C> = Box<dyn FnOnce(&mut C) + Send>;

/// Why there is no answer. The client is of no further use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// There is something else to do.
    Called,
    /// It has taken too long.
    Late,
}

impl<C: Send + 'static> WorkerThread<C> {
    /// Takes the client to a thread of its own, of this name, for calls by the thread with this pulse.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub(super) fn spawn(name: &str, mut client: C, pulse: Arc<Pulse>) -> io::Result<Self> {
        let (calls, called) = mpsc::sync_channel::<Call<C>>(CALLS);
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            for call in called {
                call(&mut client);
            }
        })?;
        Ok(Self { calls, pulse })
    }

    /// Begins `work`, behind what was begun before.
    ///
    /// # Errors
    /// When that was left behind.
    pub(super) fn begin<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut C) -> T + Send + 'static,
    ) -> Result<Begun<T>, Left> {
        let (answer, answered) = mpsc::sync_channel(1);
        let call = Box::new(move |client: &mut C| {
            // Nobody waits any more for a call that was left behind.
            let _ = answer.send(work(client));
        });
        // Full only if a call was left behind.
        self.calls.try_send(call).map_err(|_| Left::Late)?;
        Ok(Begun {
            answered,
            at: Instant::now(),
        })
    }

    /// What `work` gives.
    ///
    /// # Errors
    /// When that is not waited for any longer.
    pub(super) fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut C) -> T + Send + 'static,
    ) -> Result<T, Left> {
        let begun = self.begin(work)?;
        loop {
            self.pulse.beat(LOOK);
            match begun.within(LOOK) {
                Some(answer) => return answer,
                None if self.pulse.is_called() => return Err(Left::Called),
                None => {}
            }
        }
    }
}

/// A call that was begun.
pub(super) struct Begun<T> {
    answered: Receiver<T>,
    at: Instant,
}

impl<T> Begun<T> {
    /// What has come of it; `None` while it goes on.
    #[cfg(feature = "librdkafka")]
    pub(super) fn answer(&self) -> Option<Result<T, Left>> {
        self.within(Duration::ZERO)
    }

    fn within(&self, wait: Duration) -> Option<Result<T, Left>> {
        match self.answered.recv_timeout(wait) {
            Ok(answer) => Some(Ok(answer)),
            Err(RecvTimeoutError::Timeout) if self.at.elapsed() < PATIENCE => None,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Some(Err(Left::Late)),
        }
    }
}
