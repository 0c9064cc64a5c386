//! Clients that are behind, and how many of them are served.

use super::super::service::{PATIENCE, SERVED, STEPS};
use super::client::{Begin, Want};
use super::rig::Kind;
use super::{End, Simulation, clock};
use crate::config::Lag;

const BATCHES: usize = 10;

/// The records of a batch: about 512 KiB, as much as a step of a client that is behind writes.
const BATCH: [(u8, Option<usize>); 64] = [(1, Some(8 * 1024)); 64];

/// Five clients that are some steps behind, and whose sockets take so many bytes.
fn five_behind(room: usize) -> Simulation {
    let kind = Kind {
        has_table: false,
        lag: Lag::Disconnect,
        has_small_log: false,
    };
    let mut simulation = Simulation::new(kind, 1, false);
    for _ in 0..BATCHES {
        simulation.rig.append(&BATCH);
    }
    for _ in 0..5 {
        simulation.join(Want {
            begin: Begin::Default,
            key: None,
            access: None,
            room,
        });
    }
    simulation
}

impl Simulation {
    fn received(&self) -> Vec<usize> {
        let net = self.network.lock();
        net.peers.iter().map(|peer| peer.received.len()).collect()
    }
}

#[test]
fn those_whose_sockets_take_nothing_make_way_for_the_next() {
    // More than the first step of each, which it has at once.
    let room = 800_000;
    let mut simulation = five_behind(room);
    let mut full = Vec::new();
    for _ in 0..3 {
        simulation.settle_now();
        full.push(
            simulation
                .received()
                .iter()
                .filter(|&&bytes| bytes == room)
                .count(),
        );
        clock::advance(PATIENCE);
    }
    assert_eq!(full, [SERVED, 2 * SERVED, 5]);
    // Who reads is served although others are still full.
    simulation.network.read(4, usize::MAX);
    simulation.settle_now();
    let received = simulation.received();
    assert!(received[..4].iter().all(|&bytes| bytes == room), "{received:?}");
    assert!(received[4] > 4_000_000, "{received:?}");
    simulation.check_complete(|_| false);
    simulation.end(End::Leave);
}

#[test]
fn those_that_read_make_way_for_the_next_after_some_steps() {
    let mut simulation = five_behind(usize::MAX);
    let step = simulation.received()[0];
    loop {
        let received = simulation.received();
        let (Some(&least), Some(&most)) = (received.iter().min(), received.iter().max()) else {
            unreachable!("there are five");
        };
        let ahead = most - least;
        assert!(ahead <= (usize::from(STEPS) + 1) * step, "{received:?}");
        if least > 4_000_000 {
            break;
        }
        simulation.turn();
    }
    simulation.check_complete(|_| false);
    simulation.end(End::Leave);
}
