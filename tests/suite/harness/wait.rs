//! Waiting on a condition with a deadline, in place of sleeping and hoping.

use std::fmt::Display;
use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// How long one look at a condition is followed by none. Short beside any deadline, long beside a look.
const PAUSE: Duration = Duration::from_millis(20);

pub const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub const fn millis(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// The first success of `condition`, which is tried until `within` has passed.
///
/// # Panics
/// When it has, with `what` and the last error.
#[track_caller]
pub fn eventually<T, E: Display>(
    within: Duration,
    what: &str,
    mut condition: impl FnMut() -> Result<T, E>,
) -> T {
    let started = Instant::now();
    loop {
        match condition() {
            Ok(value) => return value,
            Err(error) if started.elapsed() >= within => {
                panic!("not within {within:?}: {what}: {error}")
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

/// [`eventually`] for a condition that has to be awaited.
pub async fn eventually_async<T, E: Display>(
    within: Duration,
    what: &str,
    mut condition: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let started = Instant::now();
    loop {
        // The deadline also ends an attempt that hangs. The last attempt may exceed it a little.
        let left = within.saturating_sub(started.elapsed()) + PAUSE;
        let error = match tokio::time::timeout(left, condition()).await {
            Ok(Ok(value)) => return value,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        assert!(
            started.elapsed() < within,
            "not within {within:?}: {what}: {error}"
        );
        tokio::time::sleep(PAUSE).await;
    }
}

/// `Ok` if it holds, else the explanation; reads well as the last line of a condition.
pub fn ensure(holds: bool, otherwise: impl Into<String>) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise.into()) }
}

/// Runs a test's future in a runtime of its own, so that nothing it leaves running reaches another test.
///
/// One worker beside the calling thread: a test may block (a producer, a broker's restart) while
/// its connections go on.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a tokio runtime")
        .block_on(future)
}

/// Waits for a future that needs no runtime (librdkafka's admin calls), inside or outside of one.
pub fn wait_for<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}
