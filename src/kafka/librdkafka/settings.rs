//! The properties of librdkafka handles.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError as RdKafkaError;

use crate::config::librdkafka::reason;
use crate::kafka::connection::{Connection, Purpose};
use crate::kafka::error::{ErrorKind, KafkaError};
use crate::kafka::security::Credentials;

/// How long a request to a broker may take.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// How often the library gives statistics, in milliseconds; 0 is never.
const STATISTICS: &str = "statistics.interval.ms";

/// Settings that differ from librdkafka's own, each with its reason. An operator's
/// `[kafka.librdkafka]` table comes after them and wins.
const DEFAULTS: [(&str, &str); 18] = [
    // Assigning needs a group's name, but the group is never joined and nothing is committed.
    ("group.id", "kafka-sse-bridge"),
    ("client.id", "kafka-sse-bridge"),
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    // An offset that is gone must be seen, not skipped in silence.
    ("auto.offset.reset", "error"),
    // A daemon that reads a topic must not create it.
    ("allow.auto.create.topics", "false"),
    // Back within two seconds when a broker returns, instead of ten.
    ("reconnect.backoff.max.ms", "1000"),
    // A frozen broker is noticed after twenty seconds instead of seventy.
    ("socket.timeout.ms", "10000"),
    ("fetch.wait.max.ms", "100"),
    // 4 MiB read ahead instead of 64: the log is our buffer.
    ("queued.max.messages.kbytes", "4096"),
    // One answer holds as much at most, whatever the number of partitions; 50 MiB is the default. A larger
    // record comes all the same, alone.
    ("fetch.max.bytes", "4194304"),
    // 128 MiB: above what brokers take in one request by default (socket.request.max.bytes, 100 MiB), with what a
    // fetch of thousands of partitions adds. librdkafka's own 100,000,000 bytes are below. Memory is taken for the
    // answers that come, not for this.
    ("receive.message.max.bytes", "134217728"),
    // Fetching stops while those are full, and goes on as soon as there is room: the default second
    // would cost nine tenths of the throughput.
    ("fetch.queue.backoff.ms", "10"),
    // Client metrics for brokers cost a twentieth of the reading thread.
    ("enable.metrics.push", "false"),
    // A fetch that failed is tried again soon; half a second is the default.
    ("fetch.error.backoff.ms", "100"),
    ("socket.nagle.disable", "true"),
    ("log.connection.close", "false"),
    // Ends of partitions from fetches, and whether brokers are known: without a request, and without work per record.
    (STATISTICS, "2000"),
];

/// Differences for replays: several read at a time, each for a part of the topic, and hold a quarter of what live reading
/// does. Their readers may keep them waiting, and statistics would pile up meanwhile; they notice stalls by themselves.
const THRIFTY: [(&str, &str); 4] = [
    (STATISTICS, "0"),
    ("queued.max.messages.kbytes", "1024"),
    ("fetch.max.bytes", "1048576"),
    ("fetch.message.max.bytes", "262144"),
];

/// Differences for a probe of one batch: a limit of one byte brings one batch, whatever its size.
const PROBING: [(&str, &str); 4] = [
    (STATISTICS, "0"),
    ("fetch.message.max.bytes", "1"),
    ("queued.min.messages", "1"),
    ("fetch.wait.max.ms", "10"),
];

/// The settings of a handle that probes, of those of one that reads.
pub(super) fn probing(config: &ClientConfig) -> ClientConfig {
    let mut config = config.clone();
    // Another name of the same property, in a map without an order.
    config.remove("max.partition.fetch.bytes");
    for (name, value) in PROBING {
        config.set(name, value);
    }
    config
}

/// The defaults, then the properties of `credentials`, then the operator's own.
///
/// # Errors
/// When a file that [kafka] names cannot be used.
pub(in crate::kafka) fn config(
    connection: &Connection,
    credentials: &Credentials,
    purpose: Purpose,
) -> Result<ClientConfig, KafkaError> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &*connection.bootstrap_servers());
    config.set("isolation.level", connection.isolation.as_str());
    for (name, value) in DEFAULTS {
        config.set(name, value);
    }
    if purpose == Purpose::History {
        for (name, value) in THRIFTY {
            config.set(name, value);
        }
    }
    let brokers = connection.bootstrap_servers();
    let properties = credentials.properties().map_err(|reason| {
        let remedy = "see to the files that [kafka] names".to_owned();
        KafkaError::new(&brokers, ErrorKind::Refused { reason, remedy })
    })?;
    #[cfg(feature = "tls")]
    if let Some(tls) = credentials.tls() {
        // It names the file that is wrong.
        crate::kafka::tls::checked_connector(tls).map_err(|auth_error| auth_error.at(&brokers))?;
    }
    for (name, value) in properties {
        config.set(name, value);
    }
    for (name, value) in &connection.librdkafka {
        config.set(name, value);
    }
    Ok(config)
}

/// The error for settings that librdkafka refuses.
pub(super) fn refused_settings(error: &RdKafkaError, brokers: &Arc<str>) -> KafkaError {
    let why = match error {
        // Without the value, which may be a secret.
        RdKafkaError::ClientConfig(_, _, name, _) => format!("{name:?} {}", reason(error)),
        other => other.to_string(),
    };
    let remedy = match error {
        // Files are read when the handle is created, and nothing else can be wrong then.
        RdKafkaError::ClientCreation(what) if what.contains("ssl.") => {
            "correct tls in [kafka], or the properties \"ssl.…\" in [kafka.librdkafka]"
        }
        _ => "correct the table [kafka.librdkafka]",
    };
    KafkaError::unsupported(brokers, format!("librdkafka refuses its settings: {why}"), remedy)
}
