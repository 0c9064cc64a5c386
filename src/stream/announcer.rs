//! Wakes the readers of a stream on another thread than its writer.
//!
//! A writer has threads of its own. To wake a reader from there costs a lock of the readers' runtime, for each
//! reader and batch. So the writer wakes one task on that runtime, the announcer, which wakes the readers from
//! within. A stream without an announcer wakes its readers itself.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::{Mutex, MutexGuard};

use super::group::Group;
use super::shared::Stream;

/// What a writer has for the announcer of its stream.
#[derive(Debug, Default)]
pub(super) struct Bell(Mutex<Rung>);

#[derive(Debug, Default)]
struct Rung {
    /// Of the announcer, once it runs.
    waker: Option<Waker>,
    /// There are new records.
    has_news: bool,
    /// FilterIndex that are to be woken.
    dirty: Vec<Arc<Group>>,
}

impl Bell {
    fn lock(&self) -> MutexGuard<'_, Rung> {
        self.0.lock()
    }

    /// Leaves it to the announcer to wake the readers. False where there is none: `dirty` is as it was.
    pub(super) fn ring(&self, dirty: &mut Vec<Arc<Group>>) -> bool {
        let mut rung = self.lock();
        let Some(waker) = &rung.waker else {
            return false;
        };
        // An announcer that was woken before and has not run yet finds this too.
        let waker = (!rung.has_news).then(|| waker.clone());
        rung.has_news = true;
        rung.dirty.append(dirty);
        drop(rung);
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// Takes what was rung for since, and leaves a waker for what comes.
    fn take(&self, waker: &Waker) -> Option<Vec<Arc<Group>>> {
        let mut rung = self.lock();
        match &mut rung.waker {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        std::mem::take(&mut rung.has_news).then(|| std::mem::take(&mut rung.dirty))
    }

    /// There is no announcer any more: what it was left is given back.
    fn leave(&self) -> Vec<Arc<Group>> {
        std::mem::take(&mut *self.lock()).dirty
    }
}

/// Wakes a stream's readers whenever its writer has appended records; runs where they do, until it is dropped.
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
        if let Some(dirty) = self.stream.bell().take(context.waker()) {
            self.stream.wake(dirty);
        }
        Poll::Pending
    }
}

impl Drop for Announcer {
    fn drop(&mut self) {
        let dirty = self.stream.bell().leave();
        self.stream.wake(dirty);
    }
}
