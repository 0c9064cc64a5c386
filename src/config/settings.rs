//! The settings: types, and each default as a named constant.
//!
//! A [`Draft`] is what was written; [`Settings`] exist only checked (see [`validate`](super::validate)).

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::cors::CorsSettings;
use super::list::list;
use super::proxies::Proxy;
use super::security::{FileName, SaslSettings, TlsSettings};
use super::socket::{SocketAccess, SocketMode};
use super::units::{Size, Span};
use super::words::words;

/// Brokers asked first when none are configured.
pub const DEFAULT_BROKER: &str = "localhost:9092";
/// Address and port served when none are configured: this machine only.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:3000";
/// A comment goes to every client that was quiet for so long; proxies give up after 30 to 60 s.
pub const DEFAULT_KEEPALIVE: Span = Span::seconds(15);
/// What a browser waits before it reconnects, jittered by ±25 % per connection.
pub const DEFAULT_RETRY: Span = Span::seconds(2);
/// How long a shutdown waits for streams and requests to end.
pub const DEFAULT_DRAIN_TIMEOUT: Span = Span::seconds(10);
/// How long a connection may last: for ever.
pub const DEFAULT_MAX_LIFETIME: Span = Span::seconds(0);
/// How long a client's socket may take nothing: longer than a phone needs to change networks.
pub const DEFAULT_WRITE_TIMEOUT: Span = Span::seconds(30);
/// Most streams that may be open at once: what a machine with a few gigabytes serves, and more than the
/// usual limit of descriptors.
pub const DEFAULT_MAX_CLIENTS: u64 = 100_000;
/// Bytes of finished frames that a stream keeps in memory.
pub const DEFAULT_LOG_BYTES: Size = Size::mebibytes(64);
/// The least log a stream can have, two full blocks, and the least table.
pub const LEAST_LOG: Size = Size(512 * 1024);
/// Pause between heartbeat events where a stream sends them.
pub const DEFAULT_HEARTBEAT_INTERVAL: Span = Span::seconds(10);
/// A client that a filter keeps quiet is told its place so often, where that has changed.
pub const DEFAULT_CHECKPOINT_INTERVAL: Span = Span::seconds(10);
/// Newest records per partition that are put into the log at the start.
pub const DEFAULT_PRELOAD: u32 = 1000;
/// How long deletes are remembered; keep it at or below the topics' delete.retention.ms.
pub const DEFAULT_DELETE_RETENTION: Span = Span::seconds(24 * 60 * 60);
/// Most keys in a table, deleted ones that are still remembered included.
pub const DEFAULT_MAX_KEYS: u64 = 1_000_000;
/// Most bytes in a table, all told.
pub const DEFAULT_MAX_TABLE_BYTES: Size = Size::mebibytes(256);
/// Most paths of values and names of headers that filters of a stream's clients ask for: some tens of microseconds of
/// work per record where it has a value at all of them.
pub const DEFAULT_MAX_FILTER_PATHS: u32 = 1000;
/// Most filters by topic and partition alone on a stream: each is held against every record.
pub const DEFAULT_MAX_UNINDEXED_FILTERS: u32 = 256;
/// Title of the page.
pub const DEFAULT_TITLE: &str = "Continent and Country Overview";

/// Settings that were checked; read like a [`Draft`].
#[derive(Debug, Clone, PartialEq)]
pub struct Settings(pub(super) Draft);

impl Deref for Settings {
    type Target = Draft;

    fn deref(&self) -> &Draft {
        &self.0
    }
}

/// Everything an operator may write, with defaults for what was left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Draft {
    /// How to reach Kafka.
    pub kafka: KafkaSettings,
    /// What is served where.
    pub http: HttpSettings,
    /// Memory.
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
    /// Which client library reads.
    pub client: Client,
    /// Which records are visible.
    pub isolation: Isolation,
    /// How brokers are known, and what certificate they know us by; `None` is without TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSettings>,
    /// The user that brokers know us as; `None` is nobody in particular.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sasl: Option<SaslSettings>,
    /// Any librdkafka properties, handed on as they are.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub librdkafka: BTreeMap<String, String>,
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
        }
    }
}

impl KafkaSettings {
    /// Every file that `tls` and `sasl` name, with its key.
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
    }
}

/// `[http]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpSettings {
    /// `host:port`, `*:port`, `unix:/path`, or `systemd` for what a socket unit has bound.
    #[serde(deserialize_with = "list")]
    pub listen: Vec<String>,
    /// Permissions of the Unix sockets in `listen`; by default what the umask leaves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unix_socket_mode: Option<SocketMode>,
    /// Group of the Unix sockets in `listen`, by name or number; by default the process's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unix_socket_group: Option<String>,
    /// Pause after which a quiet client gets a comment.
    pub keepalive: Span,
    /// EventSource's reconnect time, jittered by ±25 %.
    pub retry: Span,
    /// How long a shutdown waits for streams and requests to end.
    pub drain_timeout: Span,
    /// How long a stream's connection may last, shortened by up to a tenth at random; 0 is for ever.
    pub max_lifetime: Span,
    /// A connection whose socket takes no byte for so long is closed.
    pub write_timeout: Span,
    /// Most streams open at once; 0 is no limit.
    pub max_clients: u64,
    /// Most streams open at once for one address (for IPv6, one /64); 0 is no limit.
    pub max_clients_per_ip: u64,
    /// How many streams may be opened in a second; 0 is no limit.
    pub max_opens_per_second: u32,
    /// How many streams one address may open in a second; 0 is no limit.
    pub max_opens_per_second_per_ip: u32,
    /// Whose `X-Forwarded-For` and `Forwarded` count.
    #[serde(deserialize_with = "list")]
    pub trusted_proxies: Vec<Proxy>,
    /// A path that everything is served below; empty is none.
    pub base_path: String,
    /// Query parameters that streams pass over, beside those that they always do.
    #[serde(deserialize_with = "list")]
    pub ignored_parameters: Vec<String>,
    /// Which pages of other sites may read.
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
    /// Most memory for all streams and what they share; by default half of what is available.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<Size>,
}

/// `[[stream]]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StreamSettings {
    /// The path that serves the stream.
    pub path: String,
    /// The topics it carries.
    #[serde(deserialize_with = "list")]
    pub topics: Vec<String>,
    /// Where a client begins to read that does not say.
    pub start: Start,
    /// What becomes of a record.
    pub format: Format,
    /// Name under which the key is put into the value, a JSON object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_field: Option<String>,
    /// The SSE event name of records; without one it is EventSource's `message`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// Whether heartbeats are events, besides the comments that keep quiet connections alive.
    pub heartbeat: Heartbeat,
    /// Pause between heartbeat events.
    pub heartbeat_interval: Span,
    /// Bytes of finished frames kept in memory.
    pub log_bytes: Size,
    /// Newest records per partition put into the log at the start.
    pub preload: u32,
    /// What becomes of a client that falls off the log; by default what suits the stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag: Option<Lag>,
    /// How often a client that a filter keeps quiet is told its place, where that has changed.
    pub checkpoint_interval: Span,
    /// How long a table remembers deletes.
    pub delete_retention: Span,
    /// Most keys in a table.
    pub max_keys: u64,
    /// Most bytes in a table.
    pub max_table_bytes: Size,
    /// What becomes of new keys when the table is full.
    pub when_full: WhenFull,
    /// What clients are shown: the same names as in a query (`key`, `topic`, `partition`, `header.NAME`,
    /// `value.PATH`), each with the values that pass. Clients cannot widen it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub filter: BTreeMap<String, Vec<String>>,
    /// Whether clients may filter by their query.
    pub client_filters: bool,
    /// Most different paths of values and names of headers that their filters ask for; 0 is no limit.
    pub max_filter_paths: u32,
    /// Most different filters that no index serves, those by topic and partition alone; 0 is no limit.
    pub max_unindexed_filters: u32,
}

impl StreamSettings {
    /// Whether the stream keeps a table of the latest record per key.
    #[must_use]
    pub fn has_table(&self) -> bool {
        self.start == Start::Snapshot
    }

    /// Whether the fixed filter looks at headers.
    #[must_use]
    pub fn filters_headers(&self) -> bool {
        self.filter.keys().any(|name| name.starts_with("header."))
    }

    /// Whether headers are kept beside the frames, because a filter may ask for them.
    #[must_use]
    pub fn keeps_headers(&self) -> bool {
        self.client_filters || self.filters_headers()
    }

    /// What becomes of a client that falls off the log.
    #[must_use]
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
            format: Format::default(),
            key_field: None,
            event: None,
            heartbeat: Heartbeat::default(),
            heartbeat_interval: DEFAULT_HEARTBEAT_INTERVAL,
            log_bytes: DEFAULT_LOG_BYTES,
            preload: DEFAULT_PRELOAD,
            lag: None,
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
    /// A directory that is served instead of the page in the binary.
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
    /// What is logged where no target says otherwise.
    pub level: Level,
    /// Lines for people or JSON lines.
    pub format: LogFormat,
    /// A file that is appended to, opened anew on SIGHUP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Whether the log also goes to stderr where there is a file. Without a file it always does.
    pub stderr: bool,
    /// Levels by target (a module's path).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub targets: BTreeMap<String, Level>,
}

words! {
    /// Which Kafka client library reads.
    Client {
        /// The `kafka` crate where that trades no promise away, otherwise librdkafka.
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
        /// Only those of committed transactions.
        #[default]
        ReadCommitted = "read_committed",
        /// Those of open and aborted transactions too.
        ReadUncommitted = "read_uncommitted",
    }
}

words! {
    /// Where a client begins to read.
    Start {
        /// With what comes from now on.
        #[default]
        Live = "live",
        /// With the first record that Kafka still has.
        Earliest = "earliest",
        /// With the latest record of every key.
        Snapshot = "snapshot",
    }
}

words! {
    /// What becomes of a record.
    Format {
        /// Its value.
        #[default]
        Value = "value",
        /// A JSON object with its value and everything around it.
        Envelope = "envelope",
    }
}

words! {
    /// What becomes of a client that falls off the log.
    Lag {
        /// It gets the latest record of every key that changed meanwhile.
        Latest = "latest",
        /// It gets every record it missed, from Kafka.
        #[default]
        Replay = "replay",
        /// It is let go; its EventSource comes back with its place.
        Disconnect = "disconnect",
    }
}

words! {
    /// What becomes of new keys when a table is full.
    WhenFull {
        /// They have no place.
        #[default]
        RefuseNew = "refuse-new",
        /// They take the place of the key that was not updated for the longest time.
        EvictOldest = "evict-oldest",
    }
}

words! {
    /// How a stream shows that it lives.
    Heartbeat {
        /// By comments only, which clients do not see.
        #[default]
        Comment = "comment",
        /// By `heartbeat` events too.
        Event = "event",
    }
}

words! {
    /// How much is logged.
    Level {
        /// What lost something or needs a person.
        Error = "error",
        /// What may need one.
        Warn = "warn",
        /// Changes of state.
        #[default]
        Info = "info",
        /// Every client that comes and goes.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

words! {
    /// How log lines look.
    LogFormat {
        /// For people.
        #[default]
        Text = "text",
        /// One JSON object per line.
        Json = "json",
    }
}
