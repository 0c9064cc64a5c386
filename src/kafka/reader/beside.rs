//! Reading threads beside the first one, for streams that would hold up others.
//!
//! A topic is paused while a stream that uses it takes nothing, as one that waits for the schema registry. If another
//! stream of the topic takes everything, the first one moves, with all of its topics and with what waits for it, to a
//! thread that reads none of these topics yet: one of those that exist, or a new one. The streams that remain continue at
//! once. The moved stream is read at the same offsets, so nothing is lost or repeated; its topics are fetched twice from
//! then on, until the stream or the daemon is started again.
//!
//! This is their list; [`moving`](super::moving) moves the streams. Streams are handed over, and a thread decides to end,
//! under its lock, so that no stream reaches a thread that has ended.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use log::warn;
use parking_lot::Mutex;

use super::commands::{MovedStreams, ReaderCommand};
use crate::kafka::client::Clients;
use crate::kafka::connection::Connection;
use crate::kafka::reader_status::ReaderStatus;

/// Most threads beside the first one. Each has handles of a client of its own, and their buffers. A topic needs as many
/// as it has streams that stand still at different offsets; streams of different topics share one.
const MAX_BESIDE: usize = 4;

/// The threads that have taken over streams of the first one.
#[derive(Debug)]
pub(super) struct ThreadsBeside {
    /// The status of the first thread, which leads to those of the others.
    first: Arc<ReaderStatus>,
    state: Mutex<BesideState>,
}

#[derive(Debug)]
struct BesideState {
    /// `None` where streams cannot move: clients come from elsewhere, or the system refuses threads.
    connection: Option<Connection>,
    is_stopped: bool,
    threads: Vec<Beside>,
    /// All that have not been joined.
    handles: Vec<JoinHandle<()>>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Beside {
    commands: mpsc::Sender<ReaderCommand>,
    status: Arc<ReaderStatus>,
    topics: BTreeSet<Arc<str>>,
    handle: Option<JoinHandle<()>>,
}

impl Beside {
    pub(super) const fn new(
        commands: mpsc::Sender<ReaderCommand>,
        status: Arc<ReaderStatus>,
        handle: JoinHandle<()>,
    ) -> Self {
        Self {
            commands,
            status,
            topics: BTreeSet::new(),
            handle: Some(handle),
        }
    }

    fn send(&self, command: ReaderCommand) {
        // Fails only if the thread has panicked.
        let _ = self.commands.send(command);
        self.status.pulse().command_sent();
    }
}

impl ThreadsBeside {
    pub(super) fn new(connection: Option<Connection>, first: Arc<ReaderStatus>) -> Self {
        Self {
            first,
            state: Mutex::new(BesideState {
                connection,
                is_stopped: false,
                threads: Vec::new(),
                handles: Vec::new(),
            }),
        }
    }

    pub(super) fn count(&self) -> usize {
        self.state.lock().threads.len()
    }

    pub(super) fn reconnect(&self, connection: &Connection) {
        let mut state = self.state.lock();
        if let Some(known) = &mut state.connection {
            known.clone_from(connection);
        }
        for thread in &state.threads {
            let clients = Clients::leading(connection.clone(), Arc::clone(&thread.status));
            thread.send(ReaderCommand::Reconnect(Box::new(clients)));
        }
    }

    pub(super) fn stop(&self) {
        let mut state = self.state.lock();
        state.is_stopped = true;
        for thread in &state.threads {
            thread.send(ReaderCommand::Stop);
        }
    }

    /// Waits for the threads to end, after [`stop`](Self::stop).
    pub(super) fn join(&self) {
        let handles = std::mem::take(&mut self.state.lock().handles);
        for handle in handles {
            // A panic would have ended the process.
            let _ = handle.join();
        }
    }

    /// Hands streams of these topics to a thread that reads none of them, or to one that `spawn` starts, with none.
    /// Returns false, without calling `moved`, where there is none.
    pub(super) fn hand_over(
        &self,
        topics: &[Arc<str>],
        spawn: impl FnOnce(Connection) -> io::Result<Beside>,
        moved: impl FnOnce() -> MovedStreams,
    ) -> bool {
        let mut state = self.state.lock();
        if state.is_stopped {
            return false;
        }
        let has_none = |thread: &Beside| topics.iter().all(|topic| !thread.topics.contains(topic));
        let index = match state.threads.iter().position(has_none) {
            Some(index) => index,
            None if state.threads.len() >= MAX_BESIDE => return false,
            None => {
                let Some(connection) = state.connection.clone() else {
                    return false;
                };
                match spawn(connection) {
                    Ok(mut thread) => {
                        state.handles.retain(|handle| !handle.is_finished());
                        state.handles.extend(thread.handle.take());
                        state.threads.push(thread);
                        self.show(&state);
                    }
                    Err(error) => {
                        warn!("no thread for streams that hold up others: {error}");
                        state.connection = None;
                        return false;
                    }
                }
                state.threads.len() - 1
            }
        };
        let thread = &mut state.threads[index];
        thread.topics.extend(topics.iter().cloned());
        thread.send(ReaderCommand::TakeOver(Box::new(moved())));
        true
    }

    /// A thread reads these topics no more, so it may take over other streams that use them.
    pub(super) fn forget_topics(&self, of: &Arc<ReaderStatus>, gone: &[Arc<str>]) {
        let mut state = self.state.lock();
        let thread = state
            .threads
            .iter_mut()
            .find(|thread| Arc::ptr_eq(&thread.status, of));
        if let Some(thread) = thread {
            thread.topics.retain(|topic| !gone.contains(topic));
        }
    }

    /// The status of one more thread, which Kafka has answered: it reads on for one that has been answered.
    pub(super) fn status(&self) -> Arc<ReaderStatus> {
        let status = Arc::new(ReaderStatus::counted_in(self.first.counters()));
        status.set_healthy();
        status
    }

    /// A thread without streams ends, unless streams are handed to it at this moment, which `receive` tells. Returns
    /// whether it does.
    pub(super) fn leave(&self, status: &Arc<ReaderStatus>, receive: impl FnOnce() -> bool) -> bool {
        let mut state = self.state.lock();
        if receive() {
            return false;
        }
        state
            .threads
            .retain(|thread| !Arc::ptr_eq(&thread.status, status));
        self.show(&state);
        true
    }

    fn show(&self, state: &BesideState) {
        let statuses = state.threads.iter().map(|thread| Arc::clone(&thread.status));
        self.first.set_beside(statuses.collect());
    }
}
