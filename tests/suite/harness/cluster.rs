//! Three brokers with replicated topics, so that each may fail while the others continue.

use super::broker::{Broker, Node, Version, free_port};
use super::kafka_home::{KafkaHome, unique_id};
use super::produce::{create_on, create_replicated};
use super::wait::{ensure, eventually, millis, secs};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use std::fmt::Write;
use std::ops::Index;
use std::thread;
use std::time::Duration;

/// As many as it takes for two to agree when one is gone.
pub const NODES: usize = 3;

/// How long a broker may be silent before its partitions get other leaders.
const SESSION: Duration = millis(2500);

/// Added to the properties of every broker of the suite. Partitions return to their preferred leader as soon as it has
/// caught up, so that leaders change twice each time.
const PROPERTIES: &str = "\
min.insync.replicas=2
leader.imbalance.check.interval.seconds=2
leader.imbalance.per.broker.percentage=0
";

/// The brokers, each broker and controller in one process.
pub struct Cluster {
    nodes: Vec<Broker>,
}

/// The nodes from 0; Kafka counts them from 1.
impl Index<usize> for Cluster {
    type Output = Broker;

    fn index(&self, node: usize) -> &Broker {
        &self.nodes[node]
    }
}

/// The leader of a partition, and its in-sync replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Led {
    /// The node, from 0; `None` while there is none.
    pub by: Option<usize>,
    is_preferred: bool,
    in_sync: usize,
}

impl Cluster {
    /// Starts all at once: none of them answers alone.
    pub fn start(version: Version) -> Cluster {
        let home = KafkaHome::find(version.number()).unwrap_or_else(|error| panic!("{error}"));
        let cluster = unique_id();
        let node = |number: usize| Node {
            number,
            port: free_port(),
            controller: free_port(),
            cluster: cluster.clone(),
        };
        let nodes: Vec<Node> = (1..=NODES).map(node).collect();
        let voters = nodes
            .iter()
            .map(|node| format!("{}@127.0.0.1:{}", node.number, node.controller));
        let voters = voters.collect::<Vec<_>>().join(",");
        let prepare = |node: &Node| {
            let mut more = PROPERTIES.to_owned();
            let number = node.number;
            write!(more, "node.id={number}\ncontroller.quorum.voters={voters}\n").expect("memory");
            Broker::prepare(version, &home, node, SESSION, &more).unwrap_or_else(|error| panic!("{error}"))
        };
        let nodes: Vec<Broker> = nodes.iter().map(prepare).collect();
        thread::scope(|scope| {
            let starts: Vec<_> = nodes.iter().map(|node| scope.spawn(|| node.run())).collect();
            for start in starts {
                let started = start.join().expect("no panic");
                started.unwrap_or_else(|error| panic!("{error}"));
            }
        });
        Cluster { nodes }
    }

    /// `host:port` of every broker.
    pub fn bootstrap(&self) -> Vec<String> {
        self.nodes.iter().map(Broker::bootstrap).collect()
    }

    /// A client configuration with the brokers' addresses and short reconnect times.
    pub fn client(&self) -> ClientConfig {
        let mut client = self.nodes[0].client();
        client.set("bootstrap.servers", self.bootstrap().join(","));
        client
    }

    /// Creates a topic of which every broker has a copy, and waits until all have.
    pub fn create_topic(&self, name: &str, partitions: i32) {
        create_replicated(&self.client(), name, partitions, NODES.try_into().expect("few"));
        self.await_calm(name, partitions);
    }

    /// Creates a topic of one partition with replicas on these nodes, of which the first is the preferred leader.
    pub fn create_topic_on(&self, name: &str, nodes: &[usize], config: &[(&str, &str)]) {
        create_on(&self.client(), name, nodes, config);
        self.await_led(name, nodes[0], nodes.len());
    }

    /// Waits until this node leads the topic's one partition, and so many nodes have all of it.
    pub fn await_led(&self, topic: &str, by: usize, in_sync: usize) {
        eventually(secs(90), "the node leads", || {
            let led = self.leaders(topic)?;
            let is_led = led.iter().all(|led| led.by == Some(by) && led.in_sync == in_sync);
            ensure(is_led && !led.is_empty(), format!("{led:?}"))
        });
    }

    /// The current leader of each partition, as reported by a broker.
    ///
    /// # Errors
    /// When none answers.
    pub fn leaders(&self, topic: &str) -> Result<Vec<Led>, String> {
        // A new client for each attempt, because one that waits for a frozen broker asks no other for a while.
        let asking: BaseConsumer = self.client().create().map_err(|error| error.to_string())?;
        let metadata = asking
            .fetch_metadata(Some(topic), secs(2))
            .map_err(|error| error.to_string())?;
        let partitions = metadata
            .topics()
            .first()
            .map_or(&[][..], |topic| topic.partitions());
        let led = partitions.iter().map(|partition| Led {
            by: usize::try_from(partition.leader() - 1).ok(),
            is_preferred: partition.replicas().first() == Some(&partition.leader()),
            in_sync: partition.isr().len(),
        });
        Ok(led.collect())
    }

    /// Waits until all replicas are in sync and every partition is led by its preferred leader.
    pub fn await_calm(&self, topic: &str, partitions: i32) {
        eventually(secs(90), "every broker has everything, and leads its own", || {
            let led = self.leaders(topic)?;
            let is_calm = led
                .iter()
                .all(|led| led.by.is_some() && led.is_preferred && led.in_sync == NODES);
            ensure(
                is_calm && i32::try_from(led.len()) == Ok(partitions),
                format!("{led:?}"),
            )
        });
    }

    /// Waits until every partition is led by another broker than this.
    pub fn await_moved(&self, topic: &str, away_from: usize) {
        eventually(secs(60), "others lead", || {
            let led = self.leaders(topic)?;
            let is_moved = led.iter().all(|led| led.by.is_some_and(|by| by != away_from));
            ensure(is_moved && !led.is_empty(), format!("{led:?}"))
        });
    }
}
