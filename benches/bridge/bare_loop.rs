//! A bare loop that makes its records itself, without Kafka, and its clients.

use crate::audience::{Receipts, Receive};
use crate::bare::{Bare, go};
use crate::measure::Meter;
use crate::produce::Flow;
use std::time::Duration;

pub struct BareLoop {
    process: Bare,
    port: u16,
    clients: Box<dyn Receive>,
    next: u64,
    count: usize,
    pause: Duration,
}

impl BareLoop {
    /// A process with `role`, whose rounds have `count` records of a flow, with ids of `id` bytes.
    pub fn new(
        role: &str,
        id: &str,
        flow: &Flow,
        count: usize,
        connect: impl Fn(u16) -> Box<dyn Receive>,
    ) -> BareLoop {
        let mut process = Bare::spawn(&[role, &flow.length.to_string(), id]);
        let port = process.port();
        BareLoop {
            process,
            port,
            clients: connect(port),
            next: 1,
            count,
            pause: flow.pause,
        }
    }

    /// What the clients received in a round, and the processor time of the process.
    pub fn round(&mut self) -> (Receipts, Duration) {
        let meter = Meter::start(self.process.pid());
        go(self.port, self.next, self.count, self.pause);
        let receipts = self.clients.receive(self.next, self.count);
        self.next += self.count as u64;
        (receipts, meter.used())
    }
}
