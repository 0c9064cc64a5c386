//! Clients that are behind, and which of them are served.

use std::os::fd::OwnedFd;

use super::super::service::{PATIENCE, SHARE};
use super::client::{Begin, Want};
use super::rig::Kind;
use super::{End, Simulation, clock};
use crate::config::Lag;
use crate::delivery::client::Client;
use crate::stream::pieces::PIECE;

/// Bytes that a socket takes at a time: enough for a client to be behind, and less than its share.
const ROOM: usize = SHARE * 2 / 3;

const WANT: Want = Want {
    begin: Begin::Default,
    key: None,
    access: None,
    room: ROOM,
};

/// A stream whose clients are a MB and more behind when they come.
fn stream() -> Simulation {
    let kind = Kind {
        has_table: false,
        lag: Lag::Disconnect,
        has_small_log: false,
    };
    let mut simulation = Simulation::new(kind, 1, false);
    for _ in 0..20 {
        simulation.rig.append(&[(1, Some(8 * 1024)); 8]);
    }
    simulation
}

impl Simulation {
    fn received(&self) -> Vec<usize> {
        let net = self.network.lock();
        net.peers.iter().map(|peer| peer.received.len()).collect()
    }

    /// How many clients have received so many bytes.
    fn having(&self, bytes: usize) -> usize {
        self.received()
            .iter()
            .filter(|&&received| received == bytes)
            .count()
    }
}

#[test]
fn one_whose_socket_takes_nothing_makes_way_for_the_next() {
    let mut simulation = stream();
    for _ in 0..4 {
        simulation.join(WANT);
    }
    simulation.settle_now();
    assert_eq!(simulation.having(ROOM), 4, "each is sent something when it comes");
    for number in 0..4 {
        simulation.network.read(number, ROOM);
    }
    for served in 1..=4 {
        simulation.settle_now();
        assert_eq!(simulation.having(2 * ROOM), served);
        clock::advance(PATIENCE);
    }
    simulation.check_complete(|_| false);
    simulation.end(End::Leave);
}

#[test]
fn one_that_reads_makes_way_for_the_next_once_it_has_its_share() {
    let mut simulation = stream();
    for _ in 0..3 {
        simulation.join(WANT);
    }
    simulation.settle_now();
    // One is served and full, and two wait, of whom the first would take everything.
    simulation.network.read(0, ROOM);
    simulation.settle_now();
    simulation.network.read(1, usize::MAX);
    simulation.network.read(2, ROOM);
    simulation.settle_now();
    assert_eq!(simulation.received(), [2 * ROOM, ROOM, ROOM]);
    // Its share is full with this.
    simulation.network.read(0, ROOM);
    simulation.settle_now();
    let received = simulation.received();
    assert_eq!(received[0], 3 * ROOM, "it is served on");
    assert_eq!(received[2], ROOM, "it makes way when it would be served again");
    simulation.network.read(0, ROOM);
    simulation.settle_now();
    let received = simulation.received();
    assert!(received[1] > ROOM + SHARE, "{received:?}");
    assert_eq!(received[2], 2 * ROOM);
    simulation.check_complete(|_| false);
    simulation.end(End::Leave);
}

#[test]
fn all_that_read_get_on_alike() {
    let kind = Kind {
        has_table: true,
        lag: Lag::Latest,
        has_small_log: false,
    };
    let mut simulation = Simulation::new(kind, 1, false);
    let rows: Vec<_> = (0..200).map(|key| (key, Some(8 * 1024))).collect();
    simulation.rig.append(&rows);
    for _ in 0..5 {
        simulation.join(Want { room: 0, ..WANT });
    }
    for number in 0..5 {
        simulation.network.read(number, usize::MAX);
    }
    loop {
        let received = simulation.received();
        let (Some(&least), Some(&most)) = (received.iter().min(), received.iter().max()) else {
            unreachable!("there are five");
        };
        assert!(most - least <= 8 * PIECE, "{received:?}");
        if least > 1_600_000 {
            break;
        }
        simulation.turn();
    }
    simulation.check_complete(|_| false);
    simulation.end(End::Leave);
}

#[test]
fn one_at_the_head_does_not_wait_for_those_that_are_behind() {
    let mut simulation = stream();
    for _ in 0..3 {
        simulation.join(WANT);
    }
    simulation.join(Want {
        begin: Begin::Live,
        ..WANT
    });
    // With a filter it is never parked.
    simulation.join(Want {
        begin: Begin::Live,
        key: Some(3),
        access: None,
        room: usize::MAX,
    });
    simulation.settle_now();
    for number in 0..3 {
        simulation.network.read(number, ROOM);
    }
    simulation.settle_now();
    assert!(!simulation.worker.waiting.is_empty());
    // More at once than one has that is behind.
    for record in [(3, Some(3000)), (3, Some(100))] {
        let before = simulation.received()[4];
        simulation.rig.append(&[record]);
        simulation.settle_now();
        assert!(simulation.received()[4] > before + record.1.unwrap_or(0));
    }
    // A part of the record is left when its socket is full.
    simulation.network.read(3, 500);
    simulation.rig.append(&[(2, Some(1000))]);
    simulation.settle_now();
    let before = simulation.received();
    simulation.network.read(3, ROOM);
    simulation.settle_now();
    let received = simulation.received();
    assert!(received[3] > before[3], "it waits: {received:?}");
    assert_eq!(received[..3], before[..3]);
    assert!(!simulation.worker.waiting.is_empty());
    simulation.check_complete(|_| false);
    simulation.end(End::Leave);
}

/// There may be a hundred thousand of them.
#[test]
fn a_client_that_waits_takes_two_cache_lines() {
    assert!(
        size_of::<Client<OwnedFd>>() <= 128,
        "{}",
        size_of::<Client<OwnedFd>>()
    );
}
