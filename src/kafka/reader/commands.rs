//! Commands to the reading thread: stop, reconnect, and take over streams.
//!
//! The thread receives commands between two polls and during pauses, and takes each off its [`Pulse`]. It carries them
//! out once it has left its client. Knows nothing of clients, topics or streams.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use super::topic::Topic;
use crate::kafka::batcher::Batcher;
use crate::kafka::client::Connect;
use crate::kafka::pulse::Pulse;

pub(super) enum ReaderCommand {
    Stop,
    /// Continue at the same offsets with clients from here.
    Reconnect(Box<dyn Connect>),
    /// Read for these streams as well, at the same offsets.
    TakeOver(Box<MovedStreams>),
}

/// Streams that another thread reads for from now on, and their topics, of which that thread reads none yet.
pub(super) struct MovedStreams {
    pub(super) topics: Vec<Topic>,
    pub(super) batcher: Batcher,
}

/// The commands that are received and not carried out.
pub(super) struct CommandQueue {
    receiver: mpsc::Receiver<ReaderCommand>,
    pulse: Arc<Pulse>,
    pub(super) is_stopped: bool,
    pub(super) reconnect: Option<Box<dyn Connect>>,
    pub(super) moved: Vec<MovedStreams>,
}

impl CommandQueue {
    pub(super) const fn new(receiver: mpsc::Receiver<ReaderCommand>, pulse: Arc<Pulse>) -> Self {
        Self {
            receiver,
            pulse,
            is_stopped: false,
            reconnect: None,
            moved: Vec::new(),
        }
    }

    /// Receives all commands that were sent. The last connection replaces earlier ones.
    pub(super) fn receive(&mut self) {
        loop {
            match self.receiver.try_recv() {
                Ok(command) => self.take(command),
                // The handle is dropped only when the daemon ends.
                Err(mpsc::TryRecvError::Disconnected) => {
                    self.is_stopped = true;
                    return;
                }
                Err(mpsc::TryRecvError::Empty) => return,
            }
        }
    }

    pub(super) fn is_interrupted(&mut self) -> bool {
        self.receive();
        self.is_stopped || self.reconnect.is_some() || !self.moved.is_empty()
    }

    pub(super) fn wait(&mut self, pause: Duration) {
        if self.is_interrupted() {
            return;
        }
        self.pulse.beat(pause);
        match self.receiver.recv_timeout(pause) {
            Ok(command) => self.take(command),
            Err(mpsc::RecvTimeoutError::Disconnected) => self.is_stopped = true,
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
    }

    fn take(&mut self, command: ReaderCommand) {
        self.pulse.command_received();
        match command {
            ReaderCommand::Stop => self.is_stopped = true,
            ReaderCommand::Reconnect(connect) => self.reconnect = Some(connect),
            ReaderCommand::TakeOver(moved) => self.moved.push(*moved),
        }
    }
}
