//! A client on a thread of its own, which can be left behind in the middle of a call.
//!
//! The `kafka` crate waits for a broker for up to two minutes, and nothing can be said to it meanwhile.
//! So it is called on another thread, and whoever reads waits here, turning, until there is an answer or
//! something else to do. What is left behind ends by itself once its call does, and nobody hears what came
//! of it: an answer changes nothing but by being returned from here. Knows nothing of Kafka.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use super::pulse::Pulse;

/// How often is looked whether there is something else to do, while an answer is waited for.
const LOOK: Duration = Duration::from_millis(100);

/// How long a call may take: far longer than a broker that hangs is waited for, and long enough for the
/// largest fetch over a line of 1 Mbit/s.
const PATIENCE: Duration = Duration::from_secs(600);

/// A client, wherever it is busy.
pub(super) struct Aside<C> {
    /// One call at a time, so there is never more than one in it.
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

impl<C: Send + 'static> Aside<C> {
    /// Takes the client to a thread of its own, for calls by the thread with this pulse.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub(super) fn spawn(mut client: C, pulse: Arc<Pulse>) -> io::Result<Self> {
        let (calls, called) = mpsc::sync_channel::<Call<C>>(1);
        std::thread::Builder::new()
            .name("kafka-crate".to_owned())
            .spawn(move || {
                for call in called {
                    call(&mut client);
                }
            })?;
        Ok(Self { calls, pulse })
    }

    /// What `work` gives.
    ///
    /// # Errors
    /// When that is not waited for any longer.
    pub(super) fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut C) -> T + Send + 'static,
    ) -> Result<T, Left> {
        let (answer, answered) = mpsc::sync_channel(1);
        let call = Box::new(move |client: &mut C| {
            // Nobody waits any more for a call that was left behind.
            let _ = answer.send(work(client));
        });
        // Full only if a call was left behind.
        self.calls.try_send(call).map_err(|_| Left::Late)?;
        let asked = Instant::now();
        loop {
            self.pulse.beat(LOOK);
            match answered.recv_timeout(LOOK) {
                Ok(answer) => return Ok(answer),
                Err(RecvTimeoutError::Timeout) if self.pulse.is_called() => return Err(Left::Called),
                Err(RecvTimeoutError::Timeout) if asked.elapsed() < PATIENCE => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Err(Left::Late),
            }
        }
    }
}
