//! The settings: types, and each default as a named constant.
//!
//! A [`Draft`] is what the operator wrote; [`Settings`] exist only validated (see [`validate`](super::validate)).

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::auth::AuthSettings;
use super::cors::CorsSettings;
use super::exposure::{AdminSettings, Exposed, optional_list};
use super::hosts::HostPattern;
use super::http_tls::HttpTlsSettings;
use super::list::list;
use super::proxies::Proxy;
use super::schema_registry::SchemaRegistrySettings;
use super::security::{SaslSettings, TlsSettings};
use super::socket::SocketMode;
use super::stream::StreamSettings;
use super::units::{Size, Span};
use super::words::words;

/// Brokers asked first when none are configured.
const DEFAULT_BROKER: &str = "localhost:9092";
/// Address and port served when none are configured: this machine only.
const DEFAULT_LISTEN: &str = "127.0.0.1:3000";
/// Interval of comments on idle connections; proxies close them after 30 to 60 s.
const DEFAULT_KEEPALIVE: Span = Span::seconds(15);
/// Reconnect time of browsers, jittered by ±25 % per connection.
pub(crate) const DEFAULT_RETRY: Span = Span::seconds(2);
/// How long a shutdown waits for streams and requests to end.
const DEFAULT_DRAIN_TIMEOUT: Span = Span::seconds(10);
/// How long a connection may last: without a limit.
const DEFAULT_MAX_LIFETIME: Span = Span::seconds(0);
/// How long a client's socket may accept no byte: longer than a phone needs to change networks.
const DEFAULT_WRITE_TIMEOUT: Span = Span::seconds(30);
/// Most streams open at once: as many as a machine with a few gigabytes serves, and more than the usual limit of
/// descriptors.
pub(crate) const DEFAULT_MAX_CLIENTS: u64 = 100_000;
/// Most streams open at once on one connection of HTTP/2: more than a browser opens, and what other servers allow.
const DEFAULT_HTTP2_MAX_CONCURRENT_STREAMS: u32 = 128;
/// Title of the page.
const DEFAULT_TITLE: &str = "kafka-sse-bridge";

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
    /// How clients authenticate.
    pub auth: AuthSettings,
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

impl Draft {
    /// The routes for operators that the listeners for clients serve too: those in `expose`. Without that key all of
    /// them, or health alone where the settings tell operators from clients.
    pub fn exposed(&self) -> Vec<Exposed> {
        let is_closed =
            !self.http.admin.listen.is_empty() || self.http.tls.is_some() || self.auth.is_configured();
        match &self.http.expose {
            Some(exposed) => exposed.clone(),
            None if is_closed => vec![Exposed::Health],
            None => Exposed::ALL.to_vec(),
        }
    }
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
    /// Most connections open at once for one address; 0 is unlimited.
    pub max_connections_per_ip: u64,
    /// How many streams may be opened in a second; 0 is unlimited.
    pub max_opens_per_second: u32,
    /// How many streams one address may open in a second; 0 is unlimited.
    pub max_opens_per_second_per_ip: u32,
    /// Bytes of records that replays may read from Kafka in a minute; 0 is unlimited.
    pub max_replay_bytes_per_minute: Size,
    /// Bytes of records that replays of one client may read from Kafka in a minute; 0 is unlimited.
    pub max_replay_bytes_per_minute_per_client: Size,
    /// Peers whose `X-Forwarded-For` and `Forwarded` are believed.
    #[serde(deserialize_with = "list")]
    pub trusted_proxies: Vec<Proxy>,
    /// Names that the daemon answers to; without any, all that cannot be a rebound page's.
    #[serde(deserialize_with = "list")]
    pub hosts: Vec<HostPattern>,
    /// Prefix of all paths; empty is none.
    pub base_path: String,
    /// Query parameters that streams ignore, in addition to those that they always ignore.
    #[serde(deserialize_with = "list")]
    pub ignored_parameters: Vec<String>,
    /// Routes for operators that the listeners for clients serve too; the default depends on other keys.
    #[serde(deserialize_with = "optional_list", skip_serializing_if = "Option::is_none")]
    pub expose: Option<Vec<Exposed>>,
    /// Whether HTTP/2 is spoken without TLS too, with clients that begin with its preface.
    pub http2: bool,
    /// Most requests of one connection of HTTP/2 that are served at once.
    pub http2_max_concurrent_streams: u32,
    /// How event streams over HTTP/1.1 without TLS are written.
    pub delivery: DeliveryDriver,
    /// Threads that write them; 0 is one per processor.
    pub delivery_threads: u32,
    /// Pages of other origins that may read streams.
    pub cors: CorsSettings,
    /// Listeners for operators.
    pub admin: AdminSettings,
    /// HTTPS; `None` is without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<HttpTlsSettings>,
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
            max_connections_per_ip: 0,
            max_opens_per_second: 0,
            max_opens_per_second_per_ip: 0,
            max_replay_bytes_per_minute: Size(0),
            max_replay_bytes_per_minute_per_client: Size(0),
            trusted_proxies: Vec::new(),
            hosts: Vec::new(),
            base_path: String::new(),
            ignored_parameters: Vec::new(),
            expose: None,
            http2: false,
            http2_max_concurrent_streams: DEFAULT_HTTP2_MAX_CONCURRENT_STREAMS,
            delivery: DeliveryDriver::default(),
            delivery_threads: 0,
            cors: CorsSettings::default(),
            admin: AdminSettings::default(),
            tls: None,
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

/// `[ui]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UiSettings {
    /// Title of the page.
    pub title: String,
    /// A picture beside the title: a file of SVG, PNG or WebP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logo: Option<PathBuf>,
    /// The colour of links and marks, as CSS writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accent: Option<String>,
    /// The first view of the page: the path of a stream, and perhaps parameters of the page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_view: Option<String>,
    /// Origins whose pages may show the page in a frame, beside its own; `none` allows no page.
    #[serde(deserialize_with = "list")]
    pub frame_ancestors: Vec<String>,
    /// Directory that is served instead of the page in the binary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assets: Option<PathBuf>,
    /// The login page for users who may not read the stream of the page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub login_url: Option<String>,
}

impl Default for UiSettings {
    fn default() -> Self {
        Self {
            title: DEFAULT_TITLE.to_owned(),
            logo: None,
            accent: None,
            default_view: None,
            frame_ancestors: Vec::new(),
            assets: None,
            login_url: None,
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
    /// Who writes event streams over HTTP/1.1 without TLS.
    DeliveryDriver {
        /// The best that the kernel allows.
        #[default]
        Auto = "auto",
        /// Threads of their own, many writes per system call.
        IoUring = "io_uring",
        /// Threads of their own, a system call per write.
        Epoll = "epoll",
        /// The tasks that answer all other requests.
        Hyper = "hyper",
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
