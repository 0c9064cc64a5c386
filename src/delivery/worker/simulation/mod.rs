//! Random histories of a stream whose clients a worker serves, over sockets that fail in every way.
//!
//! What a client has received is checked against the records that were written. Where nothing fails it is compared
//! with what a subscription gives that is stepped by itself.

mod client;
mod clock;
mod histories;
mod received;
mod rig;
mod serving;
mod sockets;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use self::client::{Begin, SimClient, Want};
use self::rig::{Kind, Rig};
use self::sockets::{Faults, Network, SimSocket, SimSockets};
use super::{Stopped, Worker, service};
use crate::delivery::intake::Intake;
use crate::stream::control::Goodbye;
use crate::stream::counters::Departure;

/// More turns than anything takes that is not endless.
const MOST_TURNS: usize = 100_000;

/// A worker, its stream and its clients.
struct Simulation {
    rig: Rig,
    network: Network,
    intake: Arc<Intake<SimSocket>>,
    worker: Worker<SimSockets>,
    clients: Vec<SimClient>,
    /// Whether each client is compared with a subscription beside it.
    has_references: bool,
}

/// How it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The stream closes.
    Goodbye,
    /// The worker is stopped.
    Stop,
    /// It cannot wait for its sockets.
    Broken,
    /// The clients leave.
    Leave,
}

impl Simulation {
    fn new(kind: Kind, seed: u64, has_references: bool) -> Self {
        let network = Network::new(seed);
        let intake = Arc::new(Intake::new().expect("an eventfd"));
        let worker = Worker::new(SimSockets(network.clone()), Arc::clone(&intake), clock::now());
        Self {
            rig: Rig::new(kind),
            network,
            intake,
            worker,
            clients: Vec::new(),
            has_references,
        }
    }

    fn join(&mut self, want: Want) {
        let (client, new) = SimClient::open(&self.rig, &self.network, want, self.has_references);
        self.clients.push(client);
        assert!(self.intake.enter(new).is_ok(), "it has not stopped");
        self.turn();
    }

    /// One turn, and the events after it. Returns whether there is nothing more to do.
    fn turn(&mut self) -> bool {
        let timeout = self.worker.turn(clock::now()).expect("not stopped");
        if !self.worker.waiting.is_empty() {
            assert!(
                timeout.is_some_and(|timeout| timeout <= service::PATIENCE),
                "{timeout:?} although somebody waits to be served"
            );
        }
        let has_events = self.network.has_events();
        self.worker.wait(timeout).expect("a simulated wait");
        timeout != Some(Duration::ZERO) && !has_events
    }

    /// Turns until there is nothing more to do at this time.
    fn settle_now(&mut self) {
        let mut quiet = 0;
        for _ in 0..MOST_TURNS {
            // What an event has brought about is done in the next turn.
            quiet = if self.turn() { quiet + 1 } else { 0 };
            if quiet == 2 {
                return;
            }
        }
        panic!("endless");
    }

    /// Turns until there is nothing more to do and nobody waits to be served, and steps the subscriptions beside.
    fn settle(&mut self) {
        for client in &mut self.clients {
            client.step_reference();
        }
        self.settle_now();
        for _ in 0..MOST_TURNS {
            if self.worker.waiting.is_empty() {
                return;
            }
            clock::advance(service::PATIENCE);
            self.settle_now();
        }
        panic!("somebody waits for ever");
    }

    /// Checks all clients, as far as they got.
    fn check(&self) {
        for client in &self.clients {
            client.is_gone(&self.network);
            client.check(&self.rig, &self.network, false);
        }
    }

    /// Every client that is left takes everything, and lacks nothing then.
    fn check_complete(&mut self, stalled: impl Fn(usize) -> bool) {
        self.network.lock().faults = Faults::default();
        for client in &self.clients {
            let room = if stalled(client.number) { 0 } else { usize::MAX };
            self.network.read(client.number, room);
        }
        self.settle();
        for client in &self.clients {
            let is_left =
                !client.is_gone(&self.network) && !self.network.lock().peers[client.number].has_ended;
            let is_complete = is_left && !stalled(client.number);
            client.check_reference(&self.network, self.rig.kind.has_small_log);
            client.check(&self.rig, &self.network, is_complete);
        }
    }

    /// Those that take nothing are closed, and counted.
    fn check_timeouts(&mut self, stalled: impl Fn(usize) -> bool) {
        for _ in 0..120 {
            clock::advance(Duration::from_millis(500));
            self.settle();
        }
        for client in self.clients.iter().filter(|client| stalled(client.number)) {
            assert!(
                client.is_gone(&self.network),
                "client {} is not closed",
                client.number
            );
        }
        for client in &self.clients {
            let timed_out = client.seen.timed_out.load(Ordering::Relaxed);
            let departure = *client.seen.departure.lock();
            assert!(timed_out <= 1);
            if departure == Some(Departure::WriteTimeout) {
                assert_eq!(timed_out, 1);
            }
            let net = self.network.lock();
            let peer = &net.peers[client.number];
            if timed_out == 1 && peer.error.is_none() {
                // Of one that was to be told something, that is the reason of its end.
                assert!(
                    !matches!(departure, None | Some(Departure::Left)),
                    "{departure:?}"
                );
            }
        }
    }

    /// Ends everything; nothing is left.
    fn end(mut self, end: End) {
        for client in &mut self.clients {
            client.drop_reference();
        }
        match end {
            End::Goodbye => {
                let is_open: Vec<bool> = self
                    .clients
                    .iter()
                    .map(|client| !client.is_gone(&self.network))
                    .collect();
                self.rig.stream().close(Goodbye::Shutdown);
                self.settle();
                for (client, is_open) in self.clients.iter().zip(is_open) {
                    let net = self.network.lock();
                    let peer = &net.peers[client.number];
                    let (_, has_ended) = received::dechunked(&peer.received);
                    assert!(
                        !is_open || has_ended && peer.is_shut_down,
                        "client {}",
                        client.number
                    );
                }
                self.check();
                // They do not close their side, but are not waited for.
                for _ in 0..20 {
                    clock::advance(Duration::from_millis(100));
                    self.settle();
                }
            }
            End::Stop => {
                self.intake.stop();
                assert_eq!(self.worker.turn(clock::now()), Err(Stopped));
                self.worker.close_all();
            }
            End::Broken => {
                self.worker.close_all();
                let want = Want {
                    begin: Begin::Default,
                    key: None,
                    access: None,
                    room: usize::MAX,
                };
                let (_, new) = SimClient::open(&self.rig, &self.network, want, false);
                assert!(self.intake.enter(new).is_err(), "nobody would serve it");
            }
            End::Leave => {
                for number in 0..self.clients.len() {
                    self.network.fail(number, std::io::ErrorKind::ConnectionReset);
                }
                self.settle();
            }
        }
        for client in &self.clients {
            assert!(
                client.is_gone(&self.network),
                "client {} is left: {end:?}",
                client.number
            );
            let ended = client.seen.ended.load(Ordering::Relaxed);
            assert!(ended == 1, "ended {ended} times");
        }
        self.check();
        assert_eq!(self.intake.clients(), 0);
        assert!(self.worker.clients.is_empty());
        assert_eq!(self.worker.served, 0, "somebody is still served");
        if matches!(end, End::Goodbye | End::Leave) {
            assert!(self.worker.groups.is_empty(), "a group is left");
            assert!(self.worker.by_stream.is_empty());
        }
        drop(self.worker);
        let streams = &self.rig.streams;
        for (number, stream) in streams.iter().enumerate() {
            assert_eq!(stream.clients(), 0);
            let is_last = number + 1 == streams.len();
            // Those before it refer to the last.
            let own = if is_last {
                self.rig.own_references() + number
            } else {
                1
            };
            assert_eq!(Arc::strong_count(stream), own, "references to stream {number}");
        }
        let opened: u64 = streams.iter().map(|stream| stream.counters().opened.get()).sum();
        let closed = streams.iter().flat_map(|stream| stream.counters().closed());
        assert_eq!(opened, closed.map(|(_, count)| count).sum::<u64>());
        assert_eq!(Arc::strong_count(&self.intake), 1, "wakers are left");
    }
}
