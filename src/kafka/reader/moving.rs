//! Moves streams that hold up others of their topics to another reading thread ([`beside`](super::beside)).

use std::io;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use log::info;

use super::beside::{Beside, ThreadsBeside};
use super::commands::MovedStreams;
use super::state::{KafkaReader, Role};
use crate::kafka::client::Clients;
use crate::kafka::connection::Connection;

/// How often the first thread, while it has no streams, looks whether the others have ended.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl KafkaReader {
    pub(super) fn spawn(self) -> io::Result<JoinHandle<()>> {
        let builder = std::thread::Builder::new().name("kafka-reader".to_owned());
        builder.spawn(move || self.run())
    }

    /// Hands streams that hold up others to another thread. Returns whether there were any.
    pub(super) fn move_blocking(&mut self, now: Instant) -> bool {
        let moving = self.batcher.blocking(now);
        if moving.is_empty() {
            return false;
        }
        let names: Vec<Arc<str>> = moving
            .iter()
            .map(|&queue| Arc::clone(self.batcher.stream(queue)))
            .collect();
        let (topics, held_up) = (self.batcher.topics_of_any(&moving), self.batcher.sharing(&moving));
        let beside = Arc::clone(&self.beside);
        let spawn = |connection| spawn_beside(&beside, connection);
        let is_moved = beside.hand_over(&topics, spawn, || MovedStreams {
            topics: self
                .topics
                .iter()
                .filter(|topic| topics.contains(&topic.name))
                .cloned()
                .collect(),
            batcher: self.batcher.split(&moving),
        });
        if is_moved {
            for name in &names {
                self.status.set_paused(name, None);
                self.status.set_slow(name, None);
            }
            info!(
                "streams {names:?}: another thread reads topics {topics:?} for them from now on, and streams \
                 {held_up:?}, which they held up, go on"
            );
        }
        is_moved
    }

    /// Takes over the streams that other threads have handed to this one.
    pub(super) fn take_over(&mut self) {
        for moved in std::mem::take(&mut self.commands.moved) {
            self.topics.extend(moved.topics);
            self.batcher.absorb(moved.batcher);
            for queue in self.batcher.paused() {
                let topics = self.batcher.topics_of(queue);
                self.status.set_paused(self.batcher.stream(queue), Some(topics));
            }
        }
    }

    /// Whether the thread, which has no streams, may end: nothing is handed to it, and nothing can be.
    pub(super) fn may_end(&mut self) -> bool {
        let gone = self.batcher.forget_unwanted();
        self.forget_topics(&gone);
        self.topics.clear();
        self.status.rest();
        if self.role == Role::First {
            let is_last = self.beside.count() == 0;
            if !is_last {
                self.commands.wait(LOOK_EVERY);
            }
            return is_last;
        }
        let commands = &mut self.commands;
        self.beside.leave(&self.status, || {
            commands.receive();
            !commands.moved.is_empty()
        })
    }
}

/// Starts a thread without streams. It ends for lack of them only through the list, whose lock is held.
fn spawn_beside(beside: &Arc<ThreadsBeside>, connection: Connection) -> io::Result<Beside> {
    let status = beside.status();
    let clients = Box::new(Clients::leading(connection, Arc::clone(&status)));
    let (commands, receiver) = mpsc::channel();
    let shared = (Arc::clone(beside), Role::Beside);
    let reader = KafkaReader::new(clients, std::iter::empty(), Arc::clone(&status), receiver, shared);
    Ok(Beside::new(commands, status, reader.spawn()?))
}
