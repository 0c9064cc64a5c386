//! Starts, reconnects and stops the reading thread.

use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use super::beside::ThreadsBeside;
use super::commands::ReaderCommand;
use super::state::{KafkaReader, Role};
use super::topic::StartOffset;
use crate::kafka::client::{Clients, Connect};
use crate::kafka::connection::Connection;
use crate::kafka::reader_status::ReaderStatus;
use crate::kafka::stream_queues::StreamChannel;

/// One topic to read.
#[derive(Debug)]
pub struct TopicPlan {
    /// Its name.
    pub name: Arc<str>,
    /// Where reading starts.
    pub start: StartOffset,
    /// The streams that use it.
    pub feeds: Vec<StreamChannel>,
}

/// A running reading thread.
#[derive(Debug)]
pub struct ReaderHandle {
    commands: mpsc::Sender<ReaderCommand>,
    thread: JoinHandle<()>,
    status: Arc<ReaderStatus>,
    beside: Arc<ThreadsBeside>,
}

impl ReaderHandle {
    /// Starts the thread `kafka-reader`, which reads `topics` until it is stopped.
    ///
    /// # Errors
    /// When the operating system cannot start a thread.
    pub fn spawn(
        connection: Connection,
        topics: Vec<TopicPlan>,
        status: Arc<ReaderStatus>,
    ) -> std::io::Result<Self> {
        let clients = Clients::leading(connection.clone(), Arc::clone(&status));
        Self::start(Box::new(clients), Some(connection), topics, status)
    }

    /// The same, with clients from `connect`. A stream that takes too little holds up the others of its topics.
    ///
    /// # Errors
    /// When the operating system cannot start a thread.
    pub fn spawn_with(
        connect: Box<dyn Connect>,
        topics: Vec<TopicPlan>,
        status: Arc<ReaderStatus>,
    ) -> std::io::Result<Self> {
        Self::start(connect, None, topics, status)
    }

    fn start(
        connect: Box<dyn Connect>,
        connection: Option<Connection>,
        topics: Vec<TopicPlan>,
        status: Arc<ReaderStatus>,
    ) -> std::io::Result<Self> {
        let (commands, receiver) = mpsc::channel();
        let topics = topics.into_iter().map(|plan| (plan.name, plan.start, plan.feeds));
        let beside = Arc::new(ThreadsBeside::new(connection, Arc::clone(&status)));
        let shared = (Arc::clone(&beside), Role::First);
        let thread = KafkaReader::new(connect, topics, Arc::clone(&status), receiver, shared).spawn()?;
        Ok(Self {
            commands,
            thread,
            status,
            beside,
        })
    }

    /// Continues over another connection, at the same offsets.
    pub(crate) fn reconnect(&self, connection: Connection) {
        self.beside.reconnect(&connection);
        let clients = Clients::leading(connection, Arc::clone(&self.status));
        self.send(ReaderCommand::Reconnect(Box::new(clients)));
    }

    /// How many threads read: one, and those that have taken over streams.
    pub(crate) fn threads(&self) -> usize {
        1 + self.beside.count()
    }

    /// Its status, which leads to that of threads that have taken over streams.
    pub fn status(&self) -> &Arc<ReaderStatus> {
        &self.status
    }

    /// Stops the thread, with those that have taken over streams, and returns its handle to be joined. It ends within
    /// about 100 ms, or after the present request: a few seconds while no broker answers.
    pub fn stop(self) -> JoinHandle<()> {
        self.beside.stop();
        self.send(ReaderCommand::Stop);
        self.thread
    }

    fn send(&self, command: ReaderCommand) {
        // Fails if the thread has ended, and then has no effect.
        let _ = self.commands.send(command);
        self.status.pulse().command_sent();
    }
}
