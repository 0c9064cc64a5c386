//! The properties of librdkafka handles.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError as RdKafkaError;

use crate::config::librdkafka::reason;
use crate::kafka::connection::{Connection, Purpose};
use crate::kafka::error::{ErrorKind, KafkaError};
use crate::kafka::security::Credentials;

pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// The interval of the library's statistics, in milliseconds; 0 disables them.
const STATISTICS: &str = "statistics.interval.ms";

/// Settings that differ from librdkafka's defaults, each with its reason. The operator's `[kafka.librdkafka]` table
/// overrides them.
const DEFAULTS: [(&str, &str); 18] = [
    // Assigning needs a group name, but the handle never joins the group and commits nothing.
    ("group.id", "kafka-sse-bridge"),
    ("client.id", "kafka-sse-bridge"),
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    // A missing offset must be reported, not skipped silently.
    ("auto.offset.reset", "error"),
    // A daemon that reads a topic must not create it.
    ("allow.auto.create.topics", "false"),
    // Reconnects within two seconds when a broker returns, instead of ten.
    ("reconnect.backoff.max.ms", "1000"),
    // Detects a frozen broker after twenty seconds instead of seventy.
    ("socket.timeout.ms", "10000"),
    ("fetch.wait.max.ms", "100"),
    // Reads 4 MiB ahead instead of 64: the log is our buffer.
    ("queued.max.messages.kbytes", "4096"),
    // Bounds a response, whatever the number of partitions; the default is 50 MiB. A larger record still arrives,
    // alone.
    ("fetch.max.bytes", "4194304"),
    // 128 MiB: above the brokers' default limit of a request (socket.request.max.bytes, 100 MiB) plus the overhead of
    // a fetch of thousands of partitions. librdkafka's default of 100,000,000 bytes is below that limit. Memory is
    // allocated for actual responses, not for this limit.
    ("receive.message.max.bytes", "134217728"),
    // Fetching stops while the queues are full, and resumes after this time: the default of one second would cost
    // nine tenths of the throughput.
    ("fetch.queue.backoff.ms", "10"),
    // Client metrics for brokers cost a twentieth of the reading thread.
    ("enable.metrics.push", "false"),
    // Retries a failed fetch soon; the default is half a second.
    ("fetch.error.backoff.ms", "100"),
    ("socket.nagle.disable", "true"),
    ("log.connection.close", "false"),
    // Report end offsets from fetches, and known brokers, without a request and without work per record.
    (STATISTICS, "2000"),
];

/// Differences for replays: several run at a time, each for a part of the topic, and buffer a quarter as much as live
/// reading. Statistics would accumulate while readers delay a replay; replays detect stalls by themselves.
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

/// The settings of a probing handle, derived from those of a consuming one.
pub(super) fn probing(config: &ClientConfig) -> ClientConfig {
    let mut config = config.clone();
    // An alias of the same property; the map has no order.
    config.remove("max.partition.fetch.bytes");
    for (name, value) in PROBING {
        config.set(name, value);
    }
    config
}

/// The defaults, overridden by the properties of `credentials`, then by the operator's.
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
        // Its error names the faulty file.
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

pub(super) fn refused_settings(error: &RdKafkaError, brokers: &Arc<str>) -> KafkaError {
    let why = match error {
        // Omits the value, which may be a secret.
        RdKafkaError::ClientConfig(_, _, name, _) => format!("{name:?} {}", reason(error)),
        other => other.to_string(),
    };
    let remedy = match error {
        // The library reads files when it creates the handle; nothing else can fail then.
        RdKafkaError::ClientCreation(what) if what.contains("ssl.") => {
            "correct tls in [kafka], or the properties \"ssl.…\" in [kafka.librdkafka]"
        }
        _ => "correct the table [kafka.librdkafka]",
    };
    KafkaError::unsupported(brokers, format!("librdkafka refuses its settings: {why}"), remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Brokers refuse requests, so also records, above `socket.request.max.bytes`. A response adds its header, and
    /// fields for the topic and each of its partitions, to the one batch of records that exceeds all other limits.
    #[test]
    fn a_response_with_the_largest_record_that_brokers_take_by_default_is_received() {
        const SOCKET_REQUEST_MAX_BYTES: u64 = 104_857_600;
        const PARTITIONS: u64 = 10_000;
        const PER_PARTITION: u64 = 100 + 249;
        let limits = DEFAULTS
            .iter()
            .filter(|(name, _)| *name == "receive.message.max.bytes");
        let limits: Vec<u64> = limits
            .map(|(_, limit)| limit.parse().expect("a number"))
            .collect();
        assert!(
            matches!(limits[..], [limit] if limit > SOCKET_REQUEST_MAX_BYTES + PARTITIONS * PER_PARTITION),
            "{limits:?}"
        );
        let changed = THRIFTY.iter().chain(&PROBING).map(|(name, _)| *name);
        assert!(
            !changed
                .into_iter()
                .any(|name| name == "receive.message.max.bytes")
        );
    }
}
