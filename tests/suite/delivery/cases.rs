//! Cases that failed once, operation by operation: the seeds of `proptest-regressions` mean other cases as soon as
//! the strategies change.

use super::archive::Shared;
use super::browser::Browser;
use super::clock;
use super::model::Kind;
use super::ops::{Op, Then};
use super::replica::{Pick, Replica};
use super::setup::{Place, Setup, Wants};
use super::{CLIENTS, on_paused_clock, run};
use kafka_sse_bridge::config::{Lag, Start, WhenFull};
use std::cell::RefCell;
use std::rc::Rc;

pub fn check(setup: Setup, ops: Vec<Op>) {
    let all = format!("{ops:?}");
    run(setup, ops).unwrap_or_else(|what| panic!("{what}: {all}"));
}

pub fn setup(start: Start, partitions: [usize; 2]) -> Setup {
    Setup {
        start,
        lag: Lag::Replay,
        is_envelope: true,
        is_spread: false,
        partitions,
        leaderless: Vec::new(),
        log_bytes: 2048,
        preload: 1,
        bounds: None,
        is_fixed: false,
        has_times: true,
        has_ids: false,
        has_epochs: false,
        padding: 0,
        clients: vec![(None, Wants::All); CLIENTS],
    }
}

pub fn place(topic: usize, partition: usize) -> Place {
    Place { topic, partition }
}

pub fn produce(place: Place, count: usize) -> Op {
    produce_keys(place, &vec![0; count])
}

pub fn produce_keys(place: Place, keys: &[u8]) -> Op {
    Op::Produce {
        place,
        keys: keys.iter().map(|key| (Some(*key), Kind::Value)).collect(),
        skew: 0,
    }
}

pub fn read(replica: usize, place: Place, count: usize) -> Op {
    Op::Read {
        replica,
        picks: vec![Pick { place, count }],
        split: 1,
    }
}

/// A replica learns of its topics one by one.
pub fn begin(replica: usize) -> [Op; 2] {
    [(); 2].map(|()| read(replica, place(0, 0), 1))
}

pub fn go(client: usize, replica: usize) -> Op {
    Op::Go { client, replica }
}

pub fn take(client: usize, count: usize) -> Op {
    Op::Take {
        client,
        count,
        then: Then::Stay,
    }
}

/// A fetch goes past the range of its job. Where the job begins again, because retention took records of another
/// partition, or because a client was built anew, the records behind the range are still there.
pub fn what_lies_behind_the_range_of_a_replay_is_no_gap() {
    let retention = vec![
        produce(place(0, 1), 1),
        produce(place(0, 0), 1),
        produce(place(1, 0), 1),
        produce(place(0, 2), 26),
        Op::Pass {
            seconds: 101,
            is_cut: false,
        },
        produce(place(0, 0), 3),
        go(0, 0),
        take(0, 2),
        Op::Retain {
            place: place(0, 2),
            eighths: 1,
        },
    ];
    check(setup(Start::Earliest, [3, 2]), retention);
    let mut keys = vec![(Some(0), Kind::Value); 10];
    keys[8].1 = Kind::Hole;
    let mut hole = vec![
        Op::Produce {
            place: place(1, 0),
            keys,
            skew: 0,
        },
        go(0, 1),
    ];
    hole.extend(begin(1));
    hole.push(take(0, 9));
    let mut setup = setup(Start::Live, [1, 2]);
    setup.clients[0].0 = Some(Start::Earliest);
    check(setup, hole);
}

/// A replica that knows fewer partitions of both topics takes them for others. When the client comes back for the
/// second `reset`, the replica knows all partitions, and the topics are the same again.
pub fn a_client_cut_off_between_two_resets_loses_nothing() {
    let mut ops = begin(0).to_vec();
    ops.extend([
        Op::AddPartition { topic: 0 },
        Op::AddPartition { topic: 1 },
        produce(place(0, 0), 1),
    ]);
    ops.extend(begin(1));
    ops.extend([go(0, 1), take(0, 1), go(0, 0), take(0, 1), go(0, 0)]);
    let setup = Setup {
        preload: 0,
        ..setup(Start::Live, [2, 1])
    };
    check(setup, ops);
}

/// A client that falls off the log walks through the table, and moves half-way to a replica that has read less: that
/// one has the latest of every key only when it has read on.
pub fn a_client_given_the_table_again_may_leave_half_way() {
    let place = place(0, 1);
    let mut ops = begin(1).to_vec();
    ops.push(produce_keys(place, &[0, 0, 0, 2, 1, 1, 0, 0, 0, 0]));
    ops.extend(begin(0));
    ops.push(produce_keys(place, &[0, 0, 0, 2, 2, 2, 2, 2, 2]));
    ops.extend([go(2, 1), take(2, 1), read(1, place, 19), take(2, 1)]);
    ops.extend([read(0, place, 10), go(2, 0), take(2, 2)]);
    let setup = Setup {
        is_envelope: false,
        preload: 0,
        ..setup(Start::Snapshot, [2, 0])
    };
    check(setup, ops);
}

/// A client holds a record of a key from one partition, and goes away. Then another partition is added, and has a later
/// record of the key, which leaves the full table of the replica to which the client comes back.
pub fn a_client_is_not_left_with_a_record_older_than_one_that_left_an_added_partition() {
    let mut ops = vec![produce_keys(place(1, 0), &[2])];
    ops.extend(begin(0));
    ops.extend([
        read(0, place(1, 0), 1),
        Op::Pass {
            seconds: 5,
            is_cut: false,
        },
        Op::AddPartition { topic: 1 },
        produce_keys(place(1, 1), &[2, 3, 4]),
        go(0, 0),
        take(0, 1),
        Op::Restart {
            replica: 0,
            is_graceful: false,
        },
    ]);
    let setup = Setup {
        lag: Lag::Latest,
        is_envelope: false,
        is_spread: true,
        preload: 0,
        bounds: Some((2, 1 << 20, WhenFull::EvictOldest)),
        ..setup(Start::Snapshot, [1, 1])
    };
    check(setup, ops);
}

/// A client whose id names the first offset of a partition goes to a replica that does not know the partition yet, and
/// then to another one. What retention takes of it meanwhile is named all the same.
pub fn a_replica_that_does_not_know_a_partition_yet_keeps_its_first_offset_in_ids() {
    let mut ops = begin(0).to_vec();
    ops.extend([
        read(1, place(0, 0), 1),
        Op::AddPartition { topic: 0 },
        Op::Refresh { replica: 0 },
        go(0, 0),
        produce(place(0, 1), 2),
        take(0, 1),
        go(0, 1),
        read(1, place(0, 0), 1),
        take(0, 1),
        read(0, place(0, 1), 2),
        Op::Restart {
            replica: 1,
            is_graceful: false,
        },
        Op::Retain {
            place: place(0, 1),
            eighths: 4,
        },
        Op::Restart {
            replica: 0,
            is_graceful: false,
        },
    ]);
    let setup = Setup {
        is_envelope: false,
        preload: 0,
        has_times: false,
        has_ids: true,
        ..setup(Start::Live, [1, 0])
    };
    check(setup, ops);
}

/// A partition that a loading replica cannot read, although the client's id names records of it, delays the others.
pub fn a_client_waits_a_minute_at_most_for_a_loading_replica_to_read_past_its_id() {
    on_paused_clock(async {
        let setup = Setup {
            has_epochs: true,
            ..setup(Start::Earliest, [2, 0])
        };
        let kafka = Shared::new(setup.clone());
        let (stuck, other) = (place(0, 0), place(0, 1));
        let value = |count| vec![(Some(0), Kind::Value); count];
        kafka.lock().produce(stuck, &value(3), 0);
        kafka.lock().produce(other, &value(1), 0);
        let replica = Rc::new(RefCell::new(Replica::new(&kafka)));
        replica.borrow_mut().read_all(&kafka.lock());
        let mut client = Browser::new(kafka.clone(), setup.clients[0]);
        client.go(&replica);
        client.take(usize::MAX).await?;
        assert_eq!([stuck, other].map(|place| client.next_of(place)), [3, 1]);

        kafka.lock().produce(other, &value(1), 0);
        let late = Rc::new(RefCell::new(Replica::new(&kafka)));
        let pick = |place, count| Pick { place, count };
        for picks in [vec![], vec![], vec![pick(stuck, 1), pick(other, 2)]] {
            late.borrow_mut().read(&kafka.lock(), &picks, 1);
        }
        client.go(&late);
        for (seconds, expected) in [(0, 1), (59, 1), (1, 2)] {
            clock::pass(seconds);
            client.take(usize::MAX).await?;
            assert_eq!(client.next_of(other), expected, "after {seconds} s more");
        }
        Ok(())
    })
    .unwrap_or_else(|what: String| panic!("{what}"));
}

/// A client holds a record that the stream's filter lets through. Another partition has a newer record of its key, which
/// the filter hides. In whatever order two replicas read them and the client visits both, it ends without the key.
pub fn a_client_that_visits_a_lagging_replica_keeps_no_hidden_row() {
    let (passing, hiding) = (place(0, 0), place(0, 1));
    let produced = [
        produce_keys(passing, &[0]),
        Op::Pass {
            seconds: 1,
            is_cut: false,
        },
        // The first record passes as well, and is of another key.
        produce_keys(hiding, &[1, 0]),
    ];
    let steps = [0, 1].map(|replica| [read(replica, passing, 1), read(replica, hiding, 2)]);
    for is_loading in [false, true] {
        for order in interleavings(steps.as_flattened(), &[go(0, 0), go(0, 1), go(0, 0)]) {
            let mut ops = if is_loading { produced.to_vec() } else { Vec::new() };
            ops.extend([begin(0), begin(1)].concat());
            if !is_loading {
                ops.extend([read(0, place(1, 0), 1), read(1, place(1, 0), 1)]);
                ops.extend(produced.clone());
            }
            for step in order {
                let is_visit = matches!(step, Op::Go { .. });
                ops.push(step);
                if is_visit {
                    ops.push(Op::Take {
                        client: 0,
                        count: 9,
                        then: Then::Part,
                    });
                }
            }
            let setup = Setup {
                is_envelope: false,
                is_spread: true,
                is_fixed: true,
                preload: 0,
                ..setup(Start::Snapshot, [2, 1])
            };
            check(setup, ops);
        }
    }
}

/// All orders of these operations, with `visits` among them in their own order.
fn interleavings(steps: &[Op], visits: &[Op]) -> Vec<Vec<Op>> {
    if steps.is_empty() && visits.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    let mut extend = |first: &Op, steps: &[Op], visits: &[Op]| {
        let rest = interleavings(steps, visits).into_iter();
        all.extend(rest.map(|rest| [vec![first.clone()], rest].concat()));
    };
    for (index, step) in steps.iter().enumerate() {
        let others = [&steps[..index], &steps[index + 1..]].concat();
        extend(step, &others, visits);
    }
    if let Some((visit, later)) = visits.split_first() {
        extend(visit, steps, later);
    }
    all
}

/// Clients share a replay from different offsets. If retention overtakes it, each is told only of what it lacks.
pub fn a_gap_of_a_shared_replay_names_nothing_that_a_client_has() {
    let mut setup = setup(Start::Earliest, [2, 1]);
    (setup.preload, setup.has_times, setup.has_epochs) = (0, false, true);
    let pass = |is_cut| Op::Pass { seconds: 101, is_cut };
    let ops = vec![
        produce(place(0, 1), 8),
        pass(false),
        produce(place(0, 1), 3),
        go(0, 0),
        produce(place(1, 0), 8),
        produce(place(0, 0), 2),
        take(0, 8),
        pass(true),
        go(1, 0),
        take(1, 1),
        Op::Retain {
            place: place(0, 1),
            eighths: 7,
        },
    ];
    check(setup, ops);
}
