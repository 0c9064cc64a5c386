//! Starts, reconnects and stops the reading thread.

use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use super::commands::ReaderCommand;
use super::state::KafkaReader;
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
        let clients = Clients::leading(connection, Arc::clone(&status));
        Self::spawn_with(Box::new(clients), topics, status)
    }

    /// The same, with clients from `connect`.
    ///
    /// # Errors
    /// When the operating system cannot start a thread.
    pub fn spawn_with(
        connect: Box<dyn Connect>,
        topics: Vec<TopicPlan>,
        status: Arc<ReaderStatus>,
    ) -> std::io::Result<Self> {
        let (commands, receiver) = mpsc::channel();
        let topics = topics.into_iter().map(|plan| (plan.name, plan.start, plan.feeds));
        let reader = KafkaReader::new(connect, topics, Arc::clone(&status), receiver);
        let thread = std::thread::Builder::new()
            .name("kafka-reader".to_owned())
            .spawn(move || reader.run())?;
        Ok(Self {
            commands,
            thread,
            status,
        })
    }

    /// Continues over another connection, at the same offsets.
    pub(crate) fn reconnect(&self, connection: Connection) {
        let clients = Clients::leading(connection, Arc::clone(&self.status));
        self.send(ReaderCommand::Reconnect(Box::new(clients)));
    }

    /// Its status.
    pub fn status(&self) -> &Arc<ReaderStatus> {
        &self.status
    }

    /// Stops the thread and returns its handle to be joined. The thread ends within about 100 ms, or after the present
    /// request: a few seconds while no broker answers.
    pub fn stop(self) -> JoinHandle<()> {
        self.send(ReaderCommand::Stop);
        self.thread
    }

    fn send(&self, command: ReaderCommand) {
        // Fails if the thread has ended, and then has no effect.
        let _ = self.commands.send(command);
        self.status.pulse().command_sent();
    }
}
