//! A Kafka within this process: librdkafka's mock cluster, which speaks the real protocol over a
//! loopback port. It keeps at most 5 MiB or 100,000 batches per partition, so it may run for days.

use std::error::Error;

use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, DefaultProducerContext};

/// The topic with one record per country.
pub(super) const COUNTRIES: &str = "countries";

/// The topic with one record per change of a continent's table.
pub(super) const TOP3: &str = "Top3CountrySizePerContinent";

/// The topic with one record per change of a vehicle.
pub(super) const VEHICLES: &str = "vehicles";

const PARTITIONS: i32 = 1;

/// The milliseconds of records in a batch. The mock cluster answers a fetch with one batch: with a batch per record,
/// readers would fall behind where the machine is busy.
const BATCHES: &str = "50";

/// The embedded broker; ends when dropped.
pub(super) struct Broker {
    cluster: MockCluster<'static, DefaultProducerContext>,
}

impl Broker {
    /// Starts it, with all topics.
    pub(super) fn start() -> Result<Self, Box<dyn Error>> {
        let cluster = MockCluster::new(1)?;
        for topic in [COUNTRIES, TOP3, VEHICLES] {
            cluster.create_topic(topic, PARTITIONS, 1)?;
        }
        Ok(Self { cluster })
    }

    pub(super) fn addresses(&self) -> Vec<String> {
        self.cluster
            .bootstrap_servers()
            .split(',')
            .map(str::to_owned)
            .collect()
    }

    pub(super) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.cluster.bootstrap_servers());
        config
    }

    /// A producer of [`BATCHES`], one at a time.
    pub(super) fn producer(&self) -> Result<BaseProducer, Box<dyn Error>> {
        let mut client = self.client();
        client.set("linger.ms", BATCHES);
        // Where answers take longer, batches grow: a fetch takes as long.
        client.set("max.in.flight", "1");
        Ok(client.create()?)
    }
}
