//! How other threads reach a worker: new clients, and what was woken.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use parking_lot::Mutex;

use super::epoll::alarm;
use super::new_client::NewClient;
use super::sockets::Token;

/// What a waker wakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Woken {
    /// A client that is no parked one.
    Client(Token),
    /// The parked clients of a stream.
    Group(Token),
}

/// The queue of one worker.
#[derive(Debug)]
pub(super) struct Intake<S> {
    queue: Mutex<Queue<S>>,
    alarm: OwnedFd,
    /// Clients that the worker has or is about to get.
    clients: AtomicUsize,
}

#[derive(Debug)]
struct Queue<S> {
    arrived: Vec<NewClient<S>>,
    woken: Vec<Woken>,
    is_stopped: bool,
    /// Whether the alarm was raised since the worker last took everything.
    is_raised: bool,
}

impl<S> Intake<S> {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            queue: Mutex::new(Queue {
                arrived: Vec::new(),
                woken: Vec::new(),
                is_stopped: false,
                is_raised: false,
            }),
            alarm: alarm()?,
            clients: AtomicUsize::new(0),
        })
    }

    /// What the worker waits for beside its sockets.
    pub(super) fn alarm(&self) -> &OwnedFd {
        &self.alarm
    }

    pub(super) fn clients(&self) -> usize {
        self.clients.load(Ordering::Relaxed)
    }

    pub(super) fn client_left(&self) {
        self.clients.fetch_sub(1, Ordering::Relaxed);
    }

    /// Adds a client; returns it where the worker has stopped.
    pub(super) fn enter(&self, client: NewClient<S>) -> Result<(), NewClient<S>> {
        let mut client = Some(client);
        self.add(|queue| {
            if !queue.is_stopped {
                self.clients.fetch_add(1, Ordering::Relaxed);
                queue.arrived.extend(client.take());
            }
        });
        client.map_or(Ok(()), Err)
    }

    pub(super) fn wake(&self, woken: Woken) {
        self.add(|queue| queue.woken.push(woken));
    }

    /// Has the worker close its clients and end.
    pub(super) fn stop(&self) {
        self.add(|queue| queue.is_stopped = true);
    }

    fn add(&self, add: impl FnOnce(&mut Queue<S>)) {
        let mut queue = self.queue.lock();
        add(&mut queue);
        let is_raised = std::mem::replace(&mut queue.is_raised, true);
        drop(queue);
        if !is_raised {
            // Fails only where it was raised more often than 64 bits can count.
            let _ = rustix::io::write(&self.alarm, &1_u64.to_ne_bytes());
        }
    }

    /// Moves out what has come. Returns whether the worker is to end.
    pub(super) fn take(&self, arrived: &mut Vec<NewClient<S>>, woken: &mut Vec<Woken>) -> bool {
        let mut queue = self.queue.lock();
        queue.is_raised = false;
        arrived.append(&mut queue.arrived);
        woken.append(&mut queue.woken);
        queue.is_stopped
    }
}

/// Wakes one client or group of a worker, once until that has been looked at.
pub(super) struct Alarm<S> {
    intake: Arc<Intake<S>>,
    woken: Woken,
    is_woken: AtomicBool,
}

impl<S: Send + 'static> Alarm<S> {
    pub(super) fn new(intake: &Arc<Intake<S>>, woken: Woken) -> Arc<Self> {
        Arc::new(Self {
            intake: Arc::clone(intake),
            woken,
            is_woken: AtomicBool::new(false),
        })
    }

    pub(super) fn waker(self: &Arc<Self>) -> Waker {
        Arc::clone(self).into()
    }

    /// To be called before the worker looks at what may have changed.
    pub(super) fn reset(&self) {
        self.is_woken.store(false, Ordering::SeqCst);
    }
}

impl<S: Send + 'static> Wake for Alarm<S> {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_woken.swap(true, Ordering::SeqCst) {
            self.intake.wake(self.woken);
        }
    }
}

#[cfg(test)]
mod tests;
