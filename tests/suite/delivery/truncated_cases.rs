//! Cases with truncated logs that failed once, operation by operation.

use super::cases::{begin, check, go, place, produce, produce_keys, read, setup, take};
use super::model::Kind;
use super::ops::Op;
use super::setup::{Setup, Wants};
use kafka_sse_bridge::config::{Lag, Start};

/// A client comes from a replica that has read lost records to one that has still to read the offset at which the log was
/// truncated, so that nothing is truncated for that one.
pub fn a_client_that_comes_to_a_lagging_replica_is_compared_with_the_truncated_log() {
    for (start, is_envelope) in [
        (Start::Earliest, true),
        (Start::Live, true),
        (Start::Snapshot, false),
    ] {
        let place = place(0, 0);
        let mut ops = [begin(0), begin(1)].concat();
        ops.extend([read(0, place, 1), read(1, place, 1)]);
        ops.extend([go(0, 0), take(0, 9)]);
        ops.push(produce_keys(place, &[0, 1, 2, 3, 4, 5, 0, 1]));
        ops.extend([read(0, place, 8), read(1, place, 4), take(0, 20)]);
        ops.extend([
            Op::Truncate { place, eighths: 5 },
            produce_keys(place, &[0, 1, 2, 3, 2, 3]),
        ]);
        ops.extend([go(0, 1), take(0, 20), read(1, place, 4), take(0, 20)]);
        ops.extend([read(1, place, 20), take(0, 20)]);
        let setup = Setup {
            is_envelope,
            has_epochs: true,
            preload: 0,
            log_bytes: 32768,
            ..setup(start, [1, 0])
        };
        check(setup, ops);
    }
}

/// A replay reads beyond a truncation that its replica has not noticed yet. The client has caught up when the `gap`
/// comes.
pub fn a_replay_beyond_an_unnoticed_truncation_is_followed_by_the_gap() {
    let (quiet, truncated, past) = (place(0, 0), place(0, 1), place(1, 0));
    let ops = vec![
        read(0, quiet, 1),
        Op::AddPartition { topic: 0 },
        go(0, 0),
        read(0, quiet, 1),
        read(1, quiet, 1),
        produce(truncated, 2),
        take(0, 1),
        // The other replica begins behind it, so the client needs a replay there.
        produce(past, 1),
        Op::Pass {
            seconds: 101,
            is_cut: true,
        },
        go(0, 1),
        Op::Truncate {
            place: truncated,
            eighths: 4,
        },
        produce(truncated, 1),
        take(0, 9),
        read(1, quiet, 1),
        take(0, 9),
    ];
    let setup = Setup {
        lag: Lag::Disconnect,
        has_epochs: true,
        preload: 0,
        ..setup(Start::Live, [1, 1])
    };
    check(setup, ops);
}

/// The offset of a lost record has no record after the truncation. A replica that started later compares by the records
/// that it has read, so that its client gets no `gap`, and loses nothing.
pub fn a_lost_record_without_a_successor_is_not_announced_by_a_later_replica() {
    let place = place(0, 0);
    let mut ops = begin(0).to_vec();
    ops.extend([produce(place, 2), read(0, place, 2), go(0, 0), take(0, 9)]);
    ops.push(Op::Truncate { place, eighths: 4 });
    ops.push(Op::Restart {
        replica: 0,
        is_graceful: false,
    });
    ops.push(Op::Produce {
        place,
        keys: vec![(Some(0), Kind::Hole), (Some(0), Kind::Value)],
        skew: 0,
    });
    ops.extend(begin(0));
    ops.extend([read(0, place, 9), go(0, 0), take(0, 9)]);
    let setup = Setup {
        has_epochs: true,
        preload: 0,
        ..setup(Start::Earliest, [1, 0])
    };
    check(setup, ops);
}

/// A client with a table leaves where its next event is the `reset` of a truncation.
pub fn an_id_from_before_the_reset_of_a_truncation_is_reset_too() {
    let place = place(0, 0);
    let mut ops = begin(0).to_vec();
    ops.push(produce_keys(place, &[0, 1, 2, 3]));
    ops.extend([read(0, place, 9), go(0, 0), take(0, 9)]);
    ops.extend([Op::Truncate { place, eighths: 4 }, read(0, place, 9)]);
    ops.push(Op::Restart {
        replica: 0,
        is_graceful: true,
    });
    let setup = Setup {
        is_envelope: false,
        has_epochs: true,
        ..setup(Start::Snapshot, [1, 0])
    };
    check(setup, ops);
}

/// A client falls off the log, is given what has changed in the table, and leaves amid its rows. Then all records of a
/// partition are lost of which its id has none yet.
pub fn a_client_that_leaves_amid_rows_of_lost_records_may_keep_them() {
    let (lost, other) = (place(1, 0), place(1, 1));
    let left = [
        produce_keys(lost, &[0, 0, 0, 1, 2]),
        go(0, 1),
        take(0, 1),
        produce(other, 5),
        read(1, other, 5),
        read(1, lost, 4),
        take(0, 3),
        Op::Truncate {
            place: lost,
            eighths: 0,
        },
    ];
    let follower = [begin(0).as_slice(), &[read(0, other, 5)]].concat();
    for before in [Vec::new(), follower] {
        let ops = [&begin(1), left.as_slice(), &before, &[go(0, 0)]].concat();
        let setup = Setup {
            lag: Lag::Latest,
            is_envelope: false,
            preload: 0,
            has_times: false,
            has_epochs: true,
            ..setup(Start::Snapshot, [1, 2])
        };
        check(setup, ops);
    }
}

/// A replica that began behind the records of a partition knows no leader epoch of it. When its log is truncated, the ids
/// name none. Another replica, which knows the truncation and has read less than such an id claims, cannot tell it from an
/// id of the lost records: it sends what Kafka has now, after a gap, rather than nothing.
pub fn an_id_without_a_leader_epoch_beyond_a_truncated_log_is_taken_for_one_of_the_lost_records() {
    let mut setup = setup(Start::Live, [2, 0]);
    (setup.preload, setup.has_times, setup.has_epochs) = (0, false, true);
    setup.clients[2].1 = Wants::Shade(0);
    let ops = vec![
        Op::AddPartition { topic: 0 },
        read(1, place(0, 0), 1),
        produce(place(0, 2), 9),
        go(2, 0),
        Op::Pass {
            seconds: 101,
            is_cut: false,
        },
        read(0, place(0, 0), 1),
        produce(place(0, 1), 1),
        Op::Truncate {
            place: place(0, 2),
            eighths: 0,
        },
        produce(place(0, 2), 1),
        produce(place(0, 0), 2),
        read(0, place(0, 0), 1),
        take(2, 1),
        read(1, place(0, 0), 1),
        go(2, 1),
        take(2, 1),
    ];
    check(setup, ops);
}

/// Readers keep up here: retention leaves what a replica has yet to read, also where it must go back for it.
pub fn retention_waits_for_what_a_replica_must_go_back_for() {
    let mut setup = setup(Start::Live, [1, 1]);
    (setup.log_bytes, setup.has_times, setup.has_epochs) = (8192, false, true);
    let ops = vec![
        read(0, place(0, 0), 1),
        read(0, place(0, 0), 1),
        produce(place(1, 0), 4),
        read(0, place(1, 0), 3),
        Op::Truncate {
            place: place(1, 0),
            eighths: 2,
        },
        produce(place(1, 0), 2),
        go(1, 0),
        Op::Retain {
            place: place(1, 0),
            eighths: 6,
        },
        take(1, 1),
    ];
    check(setup, ops);
}

/// A replica that has gone back before all that it read knows the leader epoch of the record before, and so notices when
/// that is lost as well.
pub fn a_second_truncation_before_all_that_a_replica_has_read_is_noticed() {
    let mut setup = setup(Start::Live, [1, 0]);
    (setup.has_times, setup.has_epochs) = (false, true);
    let mut ops = vec![produce(place(0, 0), 4)];
    ops.extend(begin(0));
    ops.extend([
        read(0, place(0, 0), 1),
        produce(place(0, 0), 1),
        Op::Truncate {
            place: place(0, 0),
            eighths: 2,
        },
        Op::Pass {
            seconds: 1,
            is_cut: false,
        },
        Op::Truncate {
            place: place(0, 0),
            eighths: 0,
        },
        produce(place(0, 0), 1),
    ]);
    check(setup, ops);
}

/// A replica that has read nothing of a partition notices only that its log has become shorter, and only where it ends by
/// then.
pub fn a_truncation_of_an_unread_partition_is_noticed_by_its_end() {
    let mut setup = setup(Start::Live, [2, 1]);
    (setup.has_times, setup.has_epochs, setup.is_envelope) = (false, true, false);
    setup.clients[1].0 = Some(Start::Earliest);
    let ops = vec![
        produce(place(0, 1), 9),
        produce(place(0, 0), 1),
        go(1, 1),
        read(1, place(0, 0), 1),
        Op::Truncate {
            place: place(0, 1),
            eighths: 1,
        },
        read(1, place(0, 0), 1),
        take(1, 1),
        Op::Refresh { replica: 0 },
        produce(place(0, 0), 1),
        produce(place(0, 1), 1),
    ];
    check(setup, ops);
}

/// The same for an id that names a leader epoch, at a replica that had read nothing of the partition when its log was
/// truncated.
pub fn an_id_beyond_a_truncation_of_an_unread_partition_is_taken_for_one_of_the_lost_records() {
    let mut setup = setup(Start::Live, [1, 0]);
    (setup.preload, setup.has_times, setup.has_epochs) = (0, false, true);
    let mut ops = vec![
        produce(place(0, 0), 1),
        read(0, place(0, 0), 1),
        Op::Truncate {
            place: place(0, 0),
            eighths: 0,
        },
    ];
    ops.extend(begin(1));
    ops.extend([
        go(2, 1),
        Op::Pass {
            seconds: 1,
            is_cut: false,
        },
        produce(place(0, 0), 1),
        read(1, place(0, 0), 1),
        take(2, 1),
        go(2, 0),
        read(0, place(0, 0), 1),
        take(2, 1),
    ]);
    check(setup, ops);
}
