//! `[[stream]]`: its keys and their defaults.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::auth::Allow;
use super::cors::CorsSettings;
use super::filter_value::{Written, is_bound};
use super::formats::{AvroJson, DataFormat, Int64, Timestamps, Unwrap};
use super::list::list;
use super::units::{Size, Span};
use super::views::ViewSettings;
use super::words::words;

/// Bytes of finished frames that a stream keeps in memory.
pub(crate) const DEFAULT_LOG_BYTES: Size = Size::mebibytes(64);
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
pub(crate) const DEFAULT_MAX_TABLE_BYTES: Size = Size::mebibytes(256);
/// Most value paths and header names in the filters of a stream's clients: some tens of microseconds per record that
/// has a value at all of them.
const DEFAULT_MAX_FILTER_PATHS: u32 = 1000;
/// Most filters by topic and partition alone on a stream: each is compared with every record.
const DEFAULT_MAX_UNINDEXED_FILTERS: u32 = 256;

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
    /// The format of keys in Kafka.
    pub key_format: DataFormat,
    /// The format of values in Kafka.
    pub value_format: DataFormat,
    /// How values of Avro unions are shown.
    pub avro_json: AvroJson,
    /// How integers of 64 bits are shown.
    pub int64: Int64,
    /// How Avro's dates and times are shown.
    pub timestamps: Timestamps,
    /// The envelope of values: the row after a change is shown instead of the event.
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
    /// The shortest time between two values of a key for each client of a table; clients may ask for a longer one. 0 is
    /// none.
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
    /// The clients that may read it; by default all, and with `[auth]` all that authenticate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow: Option<Allow>,
    /// The fixed filter, which clients cannot widen: names as in a query (`key`, `topic`, `partition`, `header.NAME`,
    /// `value.PATH`), each with the values that pass. A value `{name}` is that of a parameter of the path,
    /// and `${claims.name}` those of a claim of the client.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub filter: BTreeMap<String, Vec<String>>,
    /// Whether clients may filter by their query.
    pub client_filters: bool,
    /// Most different value paths and header names in the filters of all clients; 0 is unlimited.
    pub max_filter_paths: u32,
    /// Most different filters by topic and partition alone, which no index serves; 0 is unlimited.
    pub max_unindexed_filters: u32,
    /// Pages of other origins that may read the stream, instead of those in `[http.cors]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cors: Option<CorsSettings>,
    /// Its views in the page; the first is the default.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub view: Vec<ViewSettings>,
}

impl StreamSettings {
    /// Whether the stream keeps a table of the latest record per key.
    pub fn has_table(&self) -> bool {
        self.start == Start::Snapshot
    }

    /// Whether the fixed filter looks at headers.
    pub(crate) fn filters_headers(&self) -> bool {
        self.filter.keys().any(|name| name.starts_with("header."))
    }

    /// Whether keys or values name registered schemas, perhaps in headers.
    #[must_use]
    pub(crate) fn has_schema_ids(&self) -> bool {
        self.key_format.is_framed() || self.value_format.is_framed()
    }

    /// Whether members of values are left out.
    #[must_use]
    pub(crate) fn leaves_out(&self) -> bool {
        !self.fields.is_empty() || !self.hide.is_empty()
    }

    /// Whether each client gets the records that its path or its claims select.
    pub(crate) fn has_bound_filter(&self) -> bool {
        self.path.contains('{') || self.filters_by_claims()
    }

    /// Whether the filter uses claims of the client.
    pub(crate) fn filters_by_claims(&self) -> bool {
        self.claims().next().is_some()
    }

    /// The names of the claims of the client that the filter uses.
    pub(crate) fn claims(&self) -> impl Iterator<Item = &str> {
        let values = self.filter.values().flatten();
        values.filter_map(|value| match Written::parse(value) {
            Written::Claim(name) => Some(name),
            Written::Text(_) | Written::Parameter(_) => None,
        })
    }

    /// Whether a part of the filter is the same for all clients.
    pub(crate) fn has_fixed_filter(&self) -> bool {
        self.filter.values().any(|values| !is_bound(values))
    }

    /// Whether headers are kept beside the frames, for filters.
    pub(crate) fn keeps_headers(&self) -> bool {
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
            allow: None,
            filter: BTreeMap::new(),
            client_filters: true,
            max_filter_paths: DEFAULT_MAX_FILTER_PATHS,
            max_unindexed_filters: DEFAULT_MAX_UNINDEXED_FILTERS,
            cors: None,
            view: Vec::new(),
        }
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
