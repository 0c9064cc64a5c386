//! A time limit for blocking work.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Runs `work` on its own thread and waits for its result until `limit`. After that the thread is abandoned; it ends
/// with the process.
pub(super) fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (sender, result) = mpsc::channel();
    let spawned = thread::Builder::new().name("doctor".to_owned()).spawn(move || {
        // Fails after the limit.
        let _ = sender.send(work());
    });
    spawned.ok()?;
    result.recv_timeout(limit).ok()
}
