//! Clients disconnect repeatedly and reconnect to either of two daemons, which are killed and restarted meanwhile.
//! Every client must get every record once and in order.

use super::readers::{Promise, Readers};
use super::writer::{Shape, Writer};
use super::{Report, SILENCE, launch};
use crate::harness::broker::{Broker, free_port, topic_name};
use crate::harness::daemon::Daemon;
use crate::harness::wait::millis;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const PATH: &str = "/events?start=earliest";

const REPLICAS: usize = 2;

/// The delay of a client after a failed connection.
const AWAY: Duration = millis(50);

/// How much of it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Which library reads Kafka: `librdkafka` or `kafka`.
    pub client: String,
    pub seed: u64,
    /// The daemon's `http.delivery`.
    pub delivery: &'static str,
    pub clients: usize,
    pub partitions: u32,
    pub records: u32,
    /// Records a second.
    pub rate: u32,
    /// Bytes of a value.
    pub bytes: usize,
    /// How long a connection lasts before the client is cut off, in milliseconds.
    pub connected: Range<u64>,
    /// How long a daemon lives before it is killed, in milliseconds; it is one's turn, then the other's.
    pub alive: Range<u64>,
    /// At least so many kills, however soon the records are written.
    pub kills: u32,
    /// Memory for records: little, so that resuming clients are served from Kafka as well.
    pub log_bytes: String,
}

/// A daemon that is always at the same port, when it is there.
struct Replica {
    port: u16,
    config: String,
    delivery: &'static str,
    /// Odd from just before it is killed until it is dead: twice its kills, else.
    deaths: AtomicU32,
}

/// The connection of a client.
#[derive(Clone, Copy)]
struct Visit {
    replica: usize,
    /// Of that replica, when the client came.
    deaths: u32,
    /// When it is cut off, or resumes.
    until: Instant,
}

/// The disturbances of the clients.
#[derive(Default)]
struct Events {
    cuts: u64,
    /// Connections that ended because their daemon was killed.
    orphans: u64,
    moves: u64,
    refused: u64,
}

/// Runs it.
pub fn run(broker: &Broker, plan: &Plan) -> Report {
    let mut report = Report::default();
    report.figure("seed", plan.seed);
    report.figure("http.delivery", plan.delivery);
    let topic = topic_name("endurance");
    let partitions = plan.partitions.try_into().expect("few partitions");
    broker.create_topic(&topic, partitions, &[]);
    let began = Instant::now();
    let shape = Shape::unkeyed(plan.partitions, plan.bytes);
    let mut writer = Writer::new(broker, &topic, shape, plan.seed, began);
    let replicas: Vec<Replica> = (0..REPLICAS)
        .map(|_| Replica::new(broker, &topic, plan))
        .collect();
    let mut clients = Clients {
        readers: Readers::new(&vec![Promise::EVERY; plan.clients], plan.partitions, 0, began),
        visits: Vec::new(),
        rng: StdRng::seed_from_u64(plan.seed ^ 1),
        plan,
        replicas: &replicas,
        events: Events::default(),
    };
    let is_over = AtomicBool::new(false);
    let daemons = thread::scope(|scope| {
        let writing = scope.spawn(|| writer.pace(plan.rate, |written| written < plan.records));
        let killing = scope.spawn(|| kill(&replicas, plan, || is_over.load(Ordering::Relaxed)));
        clients.come();
        // A side that has failed is heard when it is joined.
        let is_enough = || replicas.iter().map(Replica::kills).sum::<u32>() >= plan.kills;
        while !(writing.is_finished() && (is_enough() || killing.is_finished())) {
            clients.go_on(true);
        }
        is_over.store(true, Ordering::Relaxed);
        while !killing.is_finished() {
            clients.go_on(true);
        }
        writing.join().expect("the records are written");
        killing.join().expect("the daemons start again")
    });
    let disturbed = began.elapsed();
    let written = writer.finish();
    if let Err(why) = clients.settle(&written.next) {
        report.wrong.push(why);
    }
    let settled = began.elapsed();
    // One more of each partition shows that nothing doubled came after the last.
    if report.wrong.is_empty()
        && let Err(why) = clients.readers.finish(&writer.finish())
    {
        report.wrong.push(why);
    }
    drop(daemons);
    let records: u32 = written.next.iter().sum();
    clients.report(&mut report, records, disturbed, settled);
    report
}

impl Replica {
    fn new(broker: &Broker, topic: &str, plan: &Plan) -> Replica {
        let port = free_port();
        let config = format!(
            "[kafka]\nbrokers = [\"{}\"]\nclient = \"{}\"\nisolation = \"read_uncommitted\"\n\
             [http]\nlisten = [\"127.0.0.1:{port}\"]\n\
             [[stream]]\npath = \"/events\"\ntopics = [\"{topic}\"]\npreload = 100\nlog_bytes = \"{}\"\n",
            broker.bootstrap(),
            plan.client,
            plan.log_bytes
        );
        Replica {
            port,
            config,
            delivery: plan.delivery,
            deaths: AtomicU32::new(0),
        }
    }

    fn start(&self) -> Daemon {
        launch(&self.config, self.delivery).start()
    }

    fn deaths(&self) -> u32 {
        self.deaths.load(Ordering::SeqCst)
    }

    fn kills(&self) -> u32 {
        self.deaths() / 2
    }
}

/// Starts the daemons, then kills one after the other and starts it again. Ends with all alive.
fn kill(replicas: &[Replica], plan: &Plan, is_over: impl Fn() -> bool) -> Vec<Daemon> {
    let mut rng = StdRng::seed_from_u64(plan.seed ^ 2);
    let mut daemons: Vec<Daemon> = replicas.iter().map(Replica::start).collect();
    for victim in (0..REPLICAS).cycle() {
        let until = Instant::now() + millis(rng.random_range(plan.alive.clone()));
        while Instant::now() < until {
            if is_over() {
                return daemons;
            }
            thread::sleep(millis(10));
        }
        let replica = &replicas[victim];
        // Set before and after, so that a client it cuts off expects that.
        replica.deaths.fetch_add(1, Ordering::SeqCst);
        drop(daemons.remove(victim));
        replica.deaths.fetch_add(1, Ordering::SeqCst);
        thread::sleep(millis(rng.random_range(10..500)));
        daemons.insert(victim, replica.start());
    }
    daemons
}

struct Clients<'a> {
    readers: Readers,
    visits: Vec<Visit>,
    rng: StdRng,
    plan: &'a Plan,
    replicas: &'a [Replica],
    events: Events,
}

impl Clients<'_> {
    fn come(&mut self) {
        let visit = Visit {
            replica: 0,
            deaths: 0,
            until: Instant::now(),
        };
        self.visits = vec![visit; self.readers.all.len()];
    }

    /// Reads for a moment. Then clients whose time has come disconnect, if they still are disturbed, and disconnected
    /// ones reconnect.
    fn go_on(&mut self, is_disturbed: bool) {
        for (client, why) in self.readers.poll(millis(10), |_| {}) {
            let visit = self.visits[client];
            let is_dying = visit.deaths % 2 == 1;
            if !is_dying && self.replicas[visit.replica].deaths() == visit.deaths {
                self.readers.tally.strange(|| {
                    let replica = visit.replica;
                    format!("replica {replica}, which was not killed, let go client {client}: {why}")
                });
            }
            self.events.orphans += 1;
        }
        let now = Instant::now();
        for client in 0..self.visits.len() {
            let is_connected = self.readers.crowd.is_connected(client);
            if is_connected && is_disturbed && now >= self.visits[client].until {
                self.readers.crowd.cut(client);
                self.events.cuts += 1;
                self.connect(client);
            } else if !is_connected && now >= self.visits[client].until {
                self.connect(client);
            }
        }
    }

    fn connect(&mut self, client: usize) {
        let visit = &mut self.visits[client];
        let replica = self.rng.random_range(0..REPLICAS);
        self.events.moves += u64::from(replica != visit.replica);
        // Before it connects: a kill in between is one it may be cut off by.
        *visit = Visit {
            replica,
            deaths: self.replicas[replica].deaths(),
            until: Instant::now() + millis(self.rng.random_range(self.plan.connected.clone())),
        };
        let port = self.replicas[replica].port;
        if self.readers.crowd.connect(client, port, PATH, None).is_err() {
            self.events.refused += 1;
            visit.until = Instant::now() + AWAY;
        }
    }

    /// Without further disturbances, all clients must get all records.
    fn settle(&mut self, written: &[u32]) -> Result<(), String> {
        let mut heard = Instant::now();
        loop {
            let missing = self
                .readers
                .all
                .iter()
                .filter(|reader| !reader.has_all(written))
                .count();
            if missing == 0 {
                return Ok(());
            }
            if heard.elapsed() > SILENCE {
                return Err(format!(
                    "{missing} clients never got everything (nothing came for {SILENCE:?})"
                ));
            }
            let before = self.readers.tally.deliveries;
            self.go_on(false);
            if self.readers.tally.deliveries > before {
                heard = Instant::now();
            }
        }
    }

    fn report(self, report: &mut Report, records: u32, disturbed: Duration, settled: Duration) {
        let (tally, events, clients) = (self.readers.tally, self.events, self.visits.len());
        let expected = u64::from(records + self.plan.partitions) * clients as u64;
        let kills: u32 = self.replicas.iter().map(Replica::kills).sum();
        let per_second = |count: u64| format!("{count} ({:.0}/s)", count as f64 / settled.as_secs_f64());
        report.figure("client library", &self.plan.client);
        report.figure("records written", per_second(records.into()));
        report.figure("clients", clients);
        report.figure("deliveries", per_second(tally.deliveries));
        report.figure("seconds disturbed", format!("{:.1}", disturbed.as_secs_f64()));
        report.figure(
            "seconds until all had all",
            format!("{:.1}", settled.saturating_sub(disturbed).as_secs_f64()),
        );
        report.figure("clients cut off", events.cuts);
        report.figure("clients orphaned by a kill", events.orphans);
        report.figure("moves to the other daemon", events.moves);
        report.figure("connections refused meanwhile", events.refused);
        report.figure("daemons killed", kills);
        report.demand(events.cuts > 0 && events.moves > 0, "no client was disturbed");
        report.demand(kills >= self.plan.kills, format!("only {kills} kills"));
        report.demand(
            tally.deliveries == expected,
            format!("{} deliveries, not {expected}", tally.deliveries),
        );
        tally.report(report);
    }
}
