//! The settings: types, and each default as a named constant.
//!
//! A [`Draft`] is what the operator wrote; [`Settings`] exist only validated (see [`validate`](super::validate)).

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::cors::CorsSettings;
use super::filter::has_parameter;
use super::formats::{AvroJson, DataFormat, Int64, Timestamps, Unwrap};
use super::list::list;
use super::proxies::Proxy;
use super::schema_registry::SchemaRegistrySettings;
use super::security::{FileName, SaslSettings, TlsSettings};
use super::socket::{SocketAccess, SocketMode};
use super::units::{Size, Span};
use super::words::words;

/// Brokers asked first when none are configured.
const DEFAULT_BROKER: &str = "localhost:9092";
/// Address and port served when none are configured: this machine only.
const DEFAULT_LISTEN: &str = "127.0.0.1:3000";
/// Interval of comments on idle connections; proxies close them after 30 to 60 s.
const DEFAULT_KEEPALIVE: Span = Span::seconds(15);
/// Reconnect time of browsers, jittered by ±25 % per connection.
pub const DEFAULT_RETRY: Span = Span::seconds(2);
/// How long a shutdown waits for streams and requests to end.
const DEFAULT_DRAIN_TIMEOUT: Span = Span::seconds(10);
/// How long a connection may last: without a limit.
const DEFAULT_MAX_LIFETIME: Span = Span::seconds(0);
/// How long a client's socket may accept no byte: longer than a phone needs to change networks.
const DEFAULT_WRITE_TIMEOUT: Span = Span::seconds(30);
/// Most streams open at once: as many as a machine with a few gigabytes serves, and more than the usual limit of
/// descriptors.
pub const DEFAULT_MAX_CLIENTS: u64 = 100_000;
/// Bytes of finished frames that a stream keeps in memory.
pub const DEFAULT_LOG_BYTES: Size = Size::mebibytes(64);
/// The smallest log, two full blocks, and the smallest table.
pub const LEAST_LOG: Size = Size(512 * 1024);
/// Interval of heartbeat events, on streams that send them.
const DEFAULT_HEARTBEAT_INTERVAL: Span = Span::seconds(10);
/// Interval of checkpoints for a client whose filter passes nothing while its position advances.
const DEFAULT_CHECKPOINT_INTERVAL: Span = Span::seconds(10);
/// The shortest time between two values of a key: without a limit.
const DEFAULT_THROTTLE: Span = Span::seconds(0);
/// Newest records per partition that are read into the log at the start.
const DEFAULT_PRELOAD: u32 = 1000;
/// How long deletes are remembered; keep it at or below the topics' delete.retention.ms.
const DEFAULT_DELETE_RETENTION: Span = Span::seconds(24 * 60 * 60);
/// Most keys in a table, deleted ones that are still remembered included.
const DEFAULT_MAX_KEYS: u64 = 1_000_000;
/// Most bytes of a table, with all overhead.
pub const DEFAULT_MAX_TABLE_BYTES: Size = Size::mebibytes(256);
/// Most value paths and header names in the filters of a stream's clients: some tens of microseconds per record that
/// has a value at all of them.
const DEFAULT_MAX_FILTER_PATHS: u32 = 1000;
/// Most filters by topic and partition alone on a stream: each is compared with every record.
const DEFAULT_MAX_UNINDEXED_FILTERS: u32 = 256;
/// Title of the page.
const DEFAULT_TITLE: &str = "Continent and Country Overview";

/// Validated settings; read like a [`Draft`].
#[derive(Debug, Clone, PartialEq)]
pub struct Settings(pub(super) Draft);

impl Deref for Settings {
    type Target = Draft;

    fn deref(&self) -> &Draft {
        &self.0
    }
}

/// All sections as written, with defaults for missing keys.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Draft {
    /// The connection to Kafka.
    pub kafka: KafkaSettings,
    /// The HTTP service.
    pub http: HttpSettings,
    /// Limits of memory.
    pub memory: MemorySettings,
    /// The event streams.
    #[serde(rename = "stream")]
    pub streams: Vec<StreamSettings>,
    /// The page.
    pub ui: UiSettings,
    /// Logging.
    pub log: LogSettings,
}

/// `[kafka]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KafkaSettings {
    /// `host:port` of some brokers; the others are learned from them.
    #[serde(deserialize_with = "list")]
    pub brokers: Vec<String>,
    /// The client library.
    pub client: Client,
    /// Which records of transactions are visible.
    pub isolation: Isolation,
    /// Certificates for TLS; `None` is without TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSettings>,
    /// How the daemon authenticates; `None` is without SASL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sasl: Option<SaslSettings>,
    /// Properties that are passed to librdkafka unchanged.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub librdkafka: BTreeMap<String, String>,
    /// The registry that has the schemas of records.
    pub schema_registry: SchemaRegistrySettings,
}

impl Default for KafkaSettings {
    fn default() -> Self {
        Self {
            brokers: vec![DEFAULT_BROKER.to_owned()],
            client: Client::default(),
            isolation: Isolation::default(),
            tls: None,
            sasl: None,
            librdkafka: BTreeMap::new(),
            schema_registry: SchemaRegistrySettings::default(),
        }
    }
}

impl KafkaSettings {
    /// The files that `tls`, `sasl` and `schema_registry` name, with their keys.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, &FileName)> {
        let tls = self.tls.iter().flat_map(|tls| {
            [
                ("kafka.tls.ca_file", &tls.ca_file),
                ("kafka.tls.cert_file", &tls.cert_file),
                ("kafka.tls.key_file", &tls.key_file),
            ]
        });
        let sasl = self.sasl.iter().flat_map(|sasl| {
            [
                ("kafka.sasl.password_file", &sasl.password_file),
                ("kafka.sasl.token_file", &sasl.token_file),
            ]
        });
        tls.chain(sasl)
            .filter_map(|(key, file)| Some((key, file.as_ref()?)))
            .chain(self.schema_registry.files())
    }
}

/// `[http]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpSettings {
    /// `host:port`, `*:port`, `unix:/path`, or `systemd` for the sockets that a socket unit has bound.
    #[serde(deserialize_with = "list")]
    pub listen: Vec<String>,
    /// Permissions of the Unix sockets in `listen`; by default those of the umask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unix_socket_mode: Option<SocketMode>,
    /// Group of the Unix sockets in `listen`, by name or number; by default that of the process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unix_socket_group: Option<String>,
    /// Interval of comments on idle connections.
    pub keepalive: Span,
    /// EventSource's reconnect time, jittered by ±25 %.
    pub retry: Span,
    /// How long a shutdown waits for streams and requests to end.
    pub drain_timeout: Span,
    /// How long a stream's connection may last, shortened by up to a tenth at random; 0 is unlimited.
    pub max_lifetime: Span,
    /// A connection whose socket takes no byte for this time is closed.
    pub write_timeout: Span,
    /// Most streams open at once; 0 is unlimited.
    pub max_clients: u64,
    /// Most streams open at once for one address (for IPv6, one /64); 0 is unlimited.
    pub max_clients_per_ip: u64,
    /// How many streams may be opened in a second; 0 is unlimited.
    pub max_opens_per_second: u32,
    /// How many streams one address may open in a second; 0 is unlimited.
    pub max_opens_per_second_per_ip: u32,
    /// Peers whose `X-Forwarded-For` and `Forwarded` are believed.
    #[serde(deserialize_with = "list")]
    pub trusted_proxies: Vec<Proxy>,
    /// Prefix of all paths; empty is none.
    pub base_path: String,
    /// Query parameters that streams ignore, in addition to those that they always ignore.
    #[serde(deserialize_with = "list")]
    pub ignored_parameters: Vec<String>,
    /// Pages of other origins that may read streams.
    pub cors: CorsSettings,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            listen: vec![DEFAULT_LISTEN.to_owned()],
            unix_socket_mode: None,
            unix_socket_group: None,
            keepalive: DEFAULT_KEEPALIVE,
            retry: DEFAULT_RETRY,
            drain_timeout: DEFAULT_DRAIN_TIMEOUT,
            max_lifetime: DEFAULT_MAX_LIFETIME,
            write_timeout: DEFAULT_WRITE_TIMEOUT,
            max_clients: DEFAULT_MAX_CLIENTS,
            max_clients_per_ip: 0,
            max_opens_per_second: 0,
            max_opens_per_second_per_ip: 0,
            trusted_proxies: Vec::new(),
            base_path: String::new(),
            ignored_parameters: Vec::new(),
            cors: CorsSettings::default(),
        }
    }
}

impl From<&HttpSettings> for SocketAccess {
    fn from(http: &HttpSettings) -> Self {
        Self {
            mode: http.unix_socket_mode,
            group: http.unix_socket_group.clone(),
        }
    }
}

/// `[memory]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MemorySettings {
    /// Most memory for all streams and what they share; by default half of the available memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<Size>,
}

/// `[[stream]]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StreamSettings {
    /// The path that serves the stream; a segment `{name}` is a parameter.
    pub path: String,
    /// The topics it carries.
    #[serde(deserialize_with = "list")]
    pub topics: Vec<String>,
    /// Where a client begins that does not specify it.
    pub start: Start,
    /// What keys are in Kafka.
    pub key_format: DataFormat,
    /// What values are in Kafka.
    pub value_format: DataFormat,
    /// How values of Avro unions are shown.
    pub avro_json: AvroJson,
    /// How integers of 64 bits are shown.
    pub int64: Int64,
    /// How Avro's dates and times are shown.
    pub timestamps: Timestamps,
    /// What values are wrapped in: the row after a change is shown instead of the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unwrap: Option<Unwrap>,
    /// Name under which a change event's `op`, `ts_ms`, `source` and `before` are put into the row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata_field: Option<String>,
    /// Paths of the members of values that are shown; empty for all.
    #[serde(deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<String>,
    /// Paths of the members of values that nobody may see.
    #[serde(deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub hide: Vec<String>,
    /// How a record is shown.
    pub format: Format,
    /// Name under which the key is put into the value, a JSON object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_field: Option<String>,
    /// Name under which the topic is put into the value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic_field: Option<String>,
    /// Name under which the partition is put into the value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition_field: Option<String>,
    /// Name under which the offset is put into the value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset_field: Option<String>,
    /// Name under which the timestamp is put into the value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp_field: Option<String>,
    /// Name under which the headers are put into the value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers_field: Option<String>,
    /// The SSE event name of records; without one it is EventSource's `message`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// Whether heartbeats are events, in addition to the comments that keep idle connections alive.
    pub heartbeat: Heartbeat,
    /// Interval of heartbeat events.
    pub heartbeat_interval: Span,
    /// Bytes of finished frames kept in memory.
    pub log_bytes: Size,
    /// Newest records per partition read into the log at the start.
    pub preload: u32,
    /// How a client continues after its next record has left the log; the default depends on the table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag: Option<Lag>,
    /// The shortest time between two values of a key for each client of a table; clients may ask for a longer one. 0 is none.
    pub throttle: Span,
    /// Interval of checkpoints for a client whose filter passes nothing while its position advances.
    pub checkpoint_interval: Span,
    /// How long a table remembers deletes.
    pub delete_retention: Span,
    /// Most keys in a table.
    pub max_keys: u64,
    /// Most bytes in a table.
    pub max_table_bytes: Size,
    /// How a full table treats new keys.
    pub when_full: WhenFull,
    /// The fixed filter, which clients cannot widen: names as in a query (`key`, `topic`, `partition`, `header.NAME`,
    /// `value.PATH`), each with the values that pass. A value `{name}` is that of a parameter of the path.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub filter: BTreeMap<String, Vec<String>>,
    /// Whether clients may filter by their query.
    pub client_filters: bool,
    /// Most different value paths and header names in the filters of all clients; 0 is unlimited.
    pub max_filter_paths: u32,
    /// Most different filters by topic and partition alone, which no index serves; 0 is unlimited.
    pub max_unindexed_filters: u32,
}

impl StreamSettings {
    /// Whether the stream keeps a table of the latest record per key.
    pub fn has_table(&self) -> bool {
        self.start == Start::Snapshot
    }

    /// Whether the fixed filter looks at headers.
    pub fn filters_headers(&self) -> bool {
        self.filter.keys().any(|name| name.starts_with("header."))
    }

    /// Whether keys or values name registered schemas, perhaps in headers.
    #[must_use]
    pub fn has_schema_ids(&self) -> bool {
        self.key_format.is_framed() || self.value_format.is_framed()
    }

    /// Whether the path has parameters, so that each client gets the records that its path selects.
    pub(crate) fn has_path_parameters(&self) -> bool {
        self.path.contains('{')
    }

    /// Whether a part of the filter is the same for all clients.
    pub(crate) fn has_fixed_filter(&self) -> bool {
        self.filter.values().any(|values| !has_parameter(values))
    }

    /// Whether headers are kept beside the frames, for filters.
    pub fn keeps_headers(&self) -> bool {
        self.client_filters || self.filters_headers()
    }

    /// How a client continues after its next record has left the log.
    pub fn lag(&self) -> Lag {
        self.lag.unwrap_or(if self.has_table() {
            Lag::Latest
        } else {
            Lag::Replay
        })
    }
}

impl Default for StreamSettings {
    fn default() -> Self {
        Self {
            path: String::new(),
            topics: Vec::new(),
            start: Start::default(),
            key_format: DataFormat::Text,
            value_format: DataFormat::Json,
            avro_json: AvroJson::default(),
            int64: Int64::default(),
            timestamps: Timestamps::default(),
            unwrap: None,
            metadata_field: None,
            fields: Vec::new(),
            hide: Vec::new(),
            format: Format::default(),
            key_field: None,
            topic_field: None,
            partition_field: None,
            offset_field: None,
            timestamp_field: None,
            headers_field: None,
            event: None,
            heartbeat: Heartbeat::default(),
            heartbeat_interval: DEFAULT_HEARTBEAT_INTERVAL,
            log_bytes: DEFAULT_LOG_BYTES,
            preload: DEFAULT_PRELOAD,
            lag: None,
            throttle: DEFAULT_THROTTLE,
            checkpoint_interval: DEFAULT_CHECKPOINT_INTERVAL,
            delete_retention: DEFAULT_DELETE_RETENTION,
            max_keys: DEFAULT_MAX_KEYS,
            max_table_bytes: DEFAULT_MAX_TABLE_BYTES,
            when_full: WhenFull::default(),
            filter: BTreeMap::new(),
            client_filters: true,
            max_filter_paths: DEFAULT_MAX_FILTER_PATHS,
            max_unindexed_filters: DEFAULT_MAX_UNINDEXED_FILTERS,
        }
    }
}

/// `[ui]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UiSettings {
    /// Title of the page.
    pub title: String,
    /// Directory that is served instead of the page in the binary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assets: Option<PathBuf>,
}

impl Default for UiSettings {
    fn default() -> Self {
        Self {
            title: DEFAULT_TITLE.to_owned(),
            assets: None,
        }
    }
}

/// `[log]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// Level of targets that are not in `targets`.
    pub level: Level,
    /// Text or JSON lines.
    pub format: LogFormat,
    /// File to append to; a SIGHUP reopens it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Whether to log to stderr in addition to a file. Without a file the log always goes to stderr.
    pub stderr: bool,
    /// Levels by target (the path of a module).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub targets: BTreeMap<String, Level>,
}

words! {
    /// Kafka client libraries.
    Client {
        /// The `kafka` crate where it keeps all promises, otherwise librdkafka.
        #[default]
        Auto = "auto",
        /// The pure-Rust `kafka` crate, for brokers up to 3.9.
        Kafka = "kafka",
        /// librdkafka.
        Librdkafka = "librdkafka",
    }
}

words! {
    /// Which records of transactions are visible.
    Isolation {
        /// Records of committed transactions only.
        #[default]
        ReadCommitted = "read_committed",
        /// Records of open and aborted transactions too.
        ReadUncommitted = "read_uncommitted",
    }
}

words! {
    /// Where a client begins to read.
    Start {
        /// With the next record.
        #[default]
        Live = "live",
        /// With the first record that Kafka still has.
        Earliest = "earliest",
        /// With the latest record of every key.
        Snapshot = "snapshot",
    }
}

words! {
    /// How a record is shown.
    Format {
        /// As its value.
        #[default]
        Value = "value",
        /// As a JSON object with value, key, headers, topic, partition, offset and timestamp.
        Envelope = "envelope",
    }
}

words! {
    /// How a client continues after its next record has left the log.
    Lag {
        /// The latest record of every key that has changed since.
        Latest = "latest",
        /// Every record that it missed, from Kafka.
        #[default]
        Replay = "replay",
        /// `goodbye`; an EventSource reconnects with its position.
        Disconnect = "disconnect",
    }
}

words! {
    /// How a full table treats new keys.
    WhenFull {
        /// They are not stored.
        #[default]
        RefuseNew = "refuse-new",
        /// They replace the keys that were not updated for the longest time.
        EvictOldest = "evict-oldest",
    }
}

words! {
    /// How a stream shows that the connection lives.
    Heartbeat {
        /// By comments, which EventSource ignores.
        #[default]
        Comment = "comment",
        /// By `heartbeat` events too.
        Event = "event",
    }
}

words! {
    /// How much is logged.
    Level {
        /// Data was lost, or an operator must act.
        Error = "error",
        /// An operator may have to act.
        Warn = "warn",
        /// Changes of state.
        #[default]
        Info = "info",
        /// Every connection of a client.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

words! {
    /// How log lines look.
    LogFormat {
        /// A line of text.
        #[default]
        Text = "text",
        /// One JSON object per line.
        Json = "json",
    }
}
