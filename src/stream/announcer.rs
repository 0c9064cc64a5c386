//! The task that wakes the readers of a stream on their own runtime.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::shared::Stream;

/// Wakes a stream's readers whenever its writer has appended records, until it is dropped.
#[derive(Debug)]
pub struct Announcer {
    stream: Arc<Stream>,
}

impl Announcer {
    /// The one announcer of `stream`. Until it is first polled, the writer wakes the readers.
    #[must_use]
    pub fn new(stream: Arc<Stream>) -> Self {
        Self { stream }
    }
}

impl Future for Announcer {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.stream.audience().announce(context.waker());
        Poll::Pending
    }
}

impl Drop for Announcer {
    fn drop(&mut self) {
        self.stream.audience().dismiss_announcer();
    }
}
