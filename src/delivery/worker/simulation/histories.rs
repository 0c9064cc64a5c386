//! The histories, and what must be true of each.

use std::io;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;

use super::super::{SETTLED, State};
use super::client::{Begin, Want};
use super::rig::{Kind, Record, SMALL_LOG};
use super::sockets::Faults;
use super::{End, Simulation, clock};
use crate::config::Lag;
use crate::stream::control::Goodbye;
use crate::stream::live_settings::LiveSettings;

/// A change of the live settings.
#[derive(Debug, Clone, Copy)]
enum Change {
    Keepalive(u8),
    Heartbeat(Option<u8>),
    Lifetime(u8),
    Lag(bool),
    Log(bool),
    Throttle(bool),
}

#[derive(Debug, Clone)]
enum Op {
    Append(Vec<Vec<Record>>),
    Join(Want),
    /// A client reads: its socket takes so many bytes.
    Read(Index, usize),
    Send(Index, usize),
    HalfClose(Index),
    Fail(Index, usize),
    /// So many milliseconds pass.
    Pass(u64),
    Turns(u8),
    Apply(Change),
    /// A client's right ends.
    Revoke(Index),
    /// Another stream replaces the one that is served.
    Replace,
}

fn records() -> impl Strategy<Value = Vec<Vec<Record>>> {
    let len = prop_oneof![12 => 0..200_usize, 3 => 200..5_000_usize, 1 => 20_000..90_000_usize];
    let record = (0..6_u8, prop::option::weighted(0.9, len));
    prop::collection::vec(prop::collection::vec(record, 1..6), 1..4)
}

fn want() -> impl Strategy<Value = Want> {
    let begin = prop_oneof![
        3 => Just(Begin::Default),
        2 => Just(Begin::Live),
        2 => any::<u8>().prop_map(Begin::After),
    ];
    let access = prop::option::weighted(0.1, 6..30_u8);
    (begin, prop::option::weighted(0.25, 0..6_u8), access, room()).prop_map(|(begin, key, access, room)| {
        Want {
            begin,
            key,
            access,
            room,
        }
    })
}

fn room() -> impl Strategy<Value = usize> {
    prop_oneof![1 => Just(0), 2 => 1..400_usize, 1 => 400..80_000_usize, 6 => Just(usize::MAX)]
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        prop_oneof![Just(5_u8), Just(10), Just(20)].prop_map(Change::Keepalive),
        prop::option::of(3..9_u8).prop_map(Change::Heartbeat),
        prop_oneof![Just(0_u8), Just(15)].prop_map(Change::Lifetime),
        any::<bool>().prop_map(Change::Lag),
        any::<bool>().prop_map(Change::Log),
        any::<bool>().prop_map(Change::Throttle),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => records().prop_map(Op::Append),
        6 => want().prop_map(Op::Join),
        6 => (any::<Index>(), room()).prop_map(|(client, room)| Op::Read(client, room)),
        1 => (any::<Index>(), 1..100_000_usize).prop_map(|(client, bytes)| Op::Send(client, bytes)),
        1 => any::<Index>().prop_map(Op::HalfClose),
        1 => (any::<Index>(), 0..3_usize).prop_map(|(client, how)| Op::Fail(client, how)),
        3 => (1..6_000_u64).prop_map(Op::Pass),
        6 => (1..8_u8).prop_map(Op::Turns),
        2 => change().prop_map(Op::Apply),
        1 => any::<Index>().prop_map(Op::Revoke),
        1 => Just(Op::Replace),
    ]
}

fn kind() -> impl Strategy<Value = Kind> {
    (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(has_table, is_other, has_small_log)| Kind {
        has_table,
        lag: lag(has_table, is_other),
        has_small_log,
    })
}

const fn lag(has_table: bool, is_other: bool) -> Lag {
    match (is_other, has_table) {
        (true, _) => Lag::Disconnect,
        (false, true) => Lag::Latest,
        (false, false) => Lag::Replay,
    }
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        Just(End::Goodbye),
        Just(End::Stop),
        Just(End::Broken),
        Just(End::Leave)
    ]
}

impl Simulation {
    fn apply(&mut self, change: Change, is_exact: bool) {
        let kind = self.rig.kind;
        let mut settings: LiveSettings = *self.rig.stream().live_settings();
        let seconds = |seconds: u8| Duration::from_secs(seconds.into());
        match change {
            Change::Keepalive(every) => settings.pace.keepalive = seconds(every),
            Change::Heartbeat(every) => settings.heartbeat = every.map(seconds),
            // Lifetimes are shortened at random, and the steps of a throttled reader depend on when it is stepped.
            Change::Lifetime(_) | Change::Throttle(_) if is_exact => {}
            Change::Lifetime(long) => settings.pace.max_lifetime = seconds(long),
            Change::Throttle(is_on) if kind.has_table => settings.throttle = seconds(2 * u8::from(is_on)),
            Change::Lag(is_other) => {
                settings.lag = lag(kind.has_table, is_other);
                self.rig.may_skip |= kind.has_small_log && settings.lag == Lag::Replay;
            }
            Change::Log(is_smaller) if kind.has_small_log => {
                settings.log_bytes = if is_smaller { SMALL_LOG / 2 } else { SMALL_LOG };
            }
            Change::Throttle(_) | Change::Log(_) => {}
        }
        self.rig.stream().apply(settings);
    }

    fn run(&mut self, op: &Op, is_exact: bool) {
        let number = |client: &Index| (!self.clients.is_empty()).then(|| client.index(self.clients.len()));
        match op {
            Op::Append(batches) => {
                for batch in batches {
                    self.rig.append(batch);
                }
            }
            Op::Join(want) => self.join(Want {
                room: if is_exact { usize::MAX } else { want.room },
                ..*want
            }),
            // Whole ticks, so that nothing is due later than it would be by itself.
            Op::Pass(time) if is_exact => clock::advance(Duration::from_secs(time.div_ceil(1000))),
            Op::Pass(time) => clock::advance(Duration::from_millis(*time)),
            Op::Turns(_) | Op::Read(..) | Op::HalfClose(_) | Op::Fail(..) if is_exact => {}
            Op::Turns(turns) => {
                for _ in 0..*turns {
                    self.turn();
                }
            }
            Op::Read(client, room) => {
                if let Some(number) = number(client) {
                    self.network.read(number, *room);
                }
            }
            Op::Send(client, bytes) => {
                if let Some(number) = number(client) {
                    self.network.send(number, *bytes);
                }
            }
            Op::HalfClose(client) => {
                if let Some(number) = number(client) {
                    self.network.end(number);
                }
            }
            Op::Fail(client, how) => {
                if let Some(number) = number(client) {
                    let errors = [
                        io::ErrorKind::ConnectionReset,
                        io::ErrorKind::BrokenPipe,
                        io::ErrorKind::TimedOut,
                    ];
                    self.network.fail(number, errors[*how]);
                }
            }
            Op::Apply(change) => self.apply(*change, is_exact),
            Op::Revoke(client) => {
                if let Some(number) = number(client) {
                    self.clients[number].revoke();
                    self.rig.stream().check_access();
                }
            }
            Op::Replace => self.rig.replace(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_client_receives_what_its_subscription_gives(
        kind in kind(),
        ops in prop::collection::vec(op(), 1..60),
        end in end(),
    ) {
        let mut simulation = Simulation::new(kind, 1, true);
        for op in &ops {
            simulation.run(op, true);
            simulation.settle();
        }
        simulation.check_complete(|_| false);
        simulation.end(end);
    }

    #[test]
    fn whatever_fails_a_client_receives_a_right_prefix(
        kind in kind(),
        ops in prop::collection::vec(op(), 1..80),
        seed in any::<u64>(),
        faults in prop_oneof![Just(Faults::default()), Just(Faults::MILD), Just(Faults::ALL)],
        end in end(),
    ) {
        let mut simulation = Simulation::new(kind, seed, false);
        simulation.network.lock().faults = faults;
        for op in &ops {
            simulation.run(op, false);
            simulation.turn();
        }
        simulation.check();
        simulation.apply(Change::Throttle(false), false);
        let stalled = |number: usize| number % 4 == 3;
        simulation.check_complete(stalled);
        simulation.check_timeouts(stalled);
        simulation.end(end);
    }
}

/// More by the variable `PROPTEST_CASES`.
fn cases() -> u32 {
    let cases = std::env::var("PROPTEST_CASES").ok();
    cases.and_then(|cases| cases.parse().ok()).unwrap_or(64)
}

#[test]
fn a_client_that_sends_without_end_holds_up_nobody() {
    let kind = Kind {
        has_table: false,
        lag: Lag::Disconnect,
        has_small_log: false,
    };
    let mut simulation = Simulation::new(kind, 1, false);
    let want = Want {
        begin: Begin::Default,
        key: None,
        access: None,
        room: usize::MAX,
    };
    simulation.join(want);
    // As long as the stream lasts, and behind its end.
    for _ in 0..2 {
        simulation.network.send(0, 1 << 30);
        simulation.turn();
        let left = simulation.network.lock().peers[0].input;
        assert!(left > 1 << 29, "read at once");
        simulation.rig.stream().close(Goodbye::Shutdown);
        simulation.settle();
    }
    simulation.end(End::Goodbye);
}

/// Bytes of a block stay in memory as long as anybody has a part of them.
#[test]
fn a_client_that_stalls_lets_go_of_the_logs_blocks() {
    for lag in [Lag::Disconnect, Lag::Latest] {
        let kind = Kind {
            has_table: lag == Lag::Latest,
            lag,
            has_small_log: true,
        };
        let mut simulation = Simulation::new(kind, 1, false);
        for _ in 0..3 {
            simulation.join(Want {
                begin: Begin::Default,
                key: None,
                access: None,
                room: 600,
            });
        }
        // All are at the head: the first record stalls one, the second another, in mid-chunk.
        simulation.network.read(1, 600);
        simulation.network.read(2, usize::MAX);
        simulation.settle();
        for len in [1000, 40_000] {
            simulation.rig.append(&[(1, Some(len))]);
            simulation.settle();
        }
        let stalled = |simulation: &Simulation| -> Vec<bool> {
            let clients = simulation.worker.clients.iter();
            clients
                .filter_map(|(_, client)| match &client.state {
                    State::Active(active) => active.unwritten.as_ref().map(|unwritten| unwritten.is_own),
                    _ => None,
                })
                .collect()
        };
        assert_eq!(stalled(&simulation), [false, false]);
        clock::advance(SETTLED);
        simulation.settle();
        assert!(stalled(&simulation).contains(&true), "few bytes are copied");
        // The others leave the log with their block, and are the client's alone then.
        simulation.rig.append(&[(2, Some(3000)), (3, Some(3000))]);
        clock::advance(SETTLED);
        simulation.settle();
        assert_eq!(stalled(&simulation), [true, true]);
        simulation.rig.may_skip |= lag == Lag::Disconnect;
        simulation.check_complete(|_| false);
        simulation.end(End::Leave);
    }
}
