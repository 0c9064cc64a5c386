//! `[memory]`: the sum of all bounds on memory, its limit, and the defaults of bounds that are not set. Pure.

use std::collections::BTreeSet;
use std::fmt;

use super::available::Available;
use super::settings::{DeliveryDriver, Draft};
use super::stream::{DEFAULT_LOG_BYTES, DEFAULT_MAX_TABLE_BYTES, LEAST_LOG, StreamSettings};
use super::units::Size;

/// Replays in memory (16 MiB), what they read ahead (as much) and pieces of tables for clients (16 MiB).
const SHARED: u64 = 48 << 20;

/// An estimate of all that has no bound of its own here: the program, records read ahead, queues, files of the page.
const BASE: u64 = 64 << 20;

/// Documents of tables that are compressed at once.
pub(crate) const MOST_COMPRESSORS: usize = 64;

/// About what a compressor takes until its client has read everything (350 KiB), for all of them.
const COMPRESSORS: u64 = MOST_COMPRESSORS as u64 * (352 << 10);

/// An estimate of what the kernel takes for a client that reads: a socket (4 KiB), and what is on its way.
const IN_KERNEL: u64 = 8 << 10;

/// The same of the process, for a client of a delivery thread: half a KiB once it has everything, more if it has a filter
/// or is behind.
const BY_DELIVERY: u64 = 2 << 10;

/// For one of hyper's connections (12 KiB), or streams of HTTP/2.
const BY_HYPER: u64 = 16 << 10;

/// For one with TLS (22 KiB).
const BY_TLS: u64 = 24 << 10;

const MEBIBYTE: u64 = 1 << 20;

/// Bounds that a message names, the largest first.
const MOST_NAMED: usize = 3;

/// The sum of the configured bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sum {
    /// Logs of all streams.
    pub logs: u64,
    /// Notes for the filters of their clients, and the paths of these: at most half of each log.
    pub notes: u64,
    /// Tables of streams that have one.
    pub tables: u64,
    /// Schemas of the registry, if there is one.
    pub schemas: u64,
    /// Compressors of documents, if a stream has a table.
    pub documents: u64,
    /// An estimate for clients, which is not part of the limit.
    pub clients: u64,
}

impl Sum {
    /// Adds up the bounds.
    pub fn of(settings: &Draft) -> Self {
        let sum = |of: &dyn Fn(&StreamSettings) -> u64| {
            let all = settings.streams.iter().map(of);
            all.fold(0, u64::saturating_add)
        };
        Self {
            logs: sum(&|stream| stream.log_bytes.0),
            notes: sum(&notes),
            tables: sum(&|stream| {
                if stream.has_table() {
                    stream.max_table_bytes.0
                } else {
                    0
                }
            }),
            schemas: if settings.kafka.schema_registry.is_configured() {
                settings.kafka.schema_registry.max_cache_bytes.0
            } else {
                0
            },
            documents: if settings.streams.iter().any(StreamSettings::has_table) {
                COMPRESSORS
            } else {
                0
            },
            clients: settings.http.max_clients.saturating_mul(per_client(settings)),
        }
    }

    /// The part that the limit applies to: all but clients.
    pub fn limited(&self) -> u64 {
        [self.logs, self.notes, self.tables, self.schemas, self.documents]
            .into_iter()
            .fold(BASE + SHARED, u64::saturating_add)
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} (logs {}, notes for filters {}, tables {}, ",
            shown(self.limited()),
            shown(self.logs),
            shown(self.notes),
            shown(self.tables)
        )?;
        if self.schemas > 0 {
            write!(f, "schemas {}, ", shown(self.schemas))?;
        }
        if self.documents > 0 {
            write!(f, "documents {}, ", shown(self.documents))?;
        }
        write!(f, "shared {})", shown(BASE + SHARED))
    }
}

/// The limit in effect, and the bounds that are derived from it.
#[derive(Debug, Clone)]
pub struct Memory {
    /// The limit, unless it is not set and the available memory is unknown.
    pub limit: Option<Size>,
    /// Memory of the machine and its control groups.
    pub available: Option<Available>,
    /// Keys of bounds that are below their default because of the limit.
    derived: BTreeSet<String>,
}

impl Memory {
    /// Whether the value of a key is derived from the limit.
    pub fn is_derived(&self, key: &str) -> bool {
        self.derived.contains(key)
    }

    /// The sum of the bounds and the limit, as one line.
    pub(crate) fn describe(&self, settings: &Draft) -> String {
        let sum = Sum::of(settings);
        let mut parts = vec![format!("bounds add up to {sum}")];
        parts.extend(self.limit.map(|limit| format!("limit {}", shown(limit.0))));
        parts.push(match settings.http.max_clients {
            0 => "max_clients sets no limit, so clients are not counted".to_owned(),
            clients => format!("{clients} clients take about {} more", shown(sum.clients)),
        });
        let available = self.available.as_ref();
        parts.extend(
            available.map(|Available { bytes, source }| format!("available {} ({source})", shown(*bytes))),
        );
        parts.join("; ")
    }

    /// The remedy where bounds and clients together exceed the available memory.
    pub fn remedy(&self, settings: &Draft) -> Option<String> {
        let available = self.available.as_ref()?;
        let sum = Sum::of(settings);
        let left = available.bytes.saturating_sub(sum.limited());
        if sum.limited() <= available.bytes && sum.clients <= left {
            return None;
        }
        let more = if sum.limited() < available.bytes {
            format!("set max_clients = {} in [http], ", left / per_client(settings))
        } else {
            String::new()
        };
        let bounds = match largest(settings) {
            bounds if bounds.is_empty() => String::new(),
            bounds => format!("lower limit in [memory] or {bounds}, or "),
        };
        Some(format!(
            "{more}{bounds}give the daemon more memory (MemoryMax= in the unit)"
        ))
    }
}

/// Gives bounds that are not set what the limit leaves for them: between the least and the default, all in proportion.
/// `is_set` says whether the configuration holds a key.
pub fn derive(draft: &mut Draft, available: Option<Available>, is_set: impl Fn(&str) -> bool) -> Memory {
    let half = |available: &Available| Size(available.bytes / 2 / MEBIBYTE * MEBIBYTE);
    let limit = draft.memory.limit.or_else(|| available.as_ref().map(half));
    let mut memory = Memory {
        limit,
        available,
        derived: BTreeSet::new(),
    };
    let Some(limit) = limit else {
        return memory;
    };
    let (log_key, table_key) = (
        |index| key(index, "log_bytes"),
        |index| key(index, "max_table_bytes"),
    );
    let unset: Vec<(bool, bool)> = (0..)
        .zip(&draft.streams)
        .map(|(index, stream)| {
            let is_unset_table = stream.has_table() && !is_set(&table_key(index));
            (!is_set(&log_key(index)), is_unset_table)
        })
        .collect();
    let most = Sum::of(draft).limited();
    let set = |draft: &mut Draft, log: Size, table: Size| {
        for (stream, &(log_is_unset, table_is_unset)) in draft.streams.iter_mut().zip(&unset) {
            if log_is_unset {
                stream.log_bytes = log;
            }
            if table_is_unset {
                stream.max_table_bytes = table;
            }
        }
    };
    if most <= limit.0 {
        return memory;
    }
    set(draft, LEAST_LOG, LEAST_LOG);
    let least = Sum::of(draft).limited();
    let scaled = |most_of_one: Size| {
        let (part, whole) = (limit.0.saturating_sub(least), (most - least).max(1));
        let more = u128::from(most_of_one.0 - LEAST_LOG.0) * u128::from(part) / u128::from(whole);
        // Rounded to readable sizes.
        let steps = u64::try_from(more).unwrap_or(u64::MAX) / LEAST_LOG.0;
        Size(LEAST_LOG.0 + steps * LEAST_LOG.0)
    };
    set(draft, scaled(DEFAULT_LOG_BYTES), scaled(DEFAULT_MAX_TABLE_BYTES));
    for (index, (log_is_unset, table_is_unset)) in unset.into_iter().enumerate() {
        memory.derived.extend(log_is_unset.then(|| log_key(index)));
        memory.derived.extend(table_is_unset.then(|| table_key(index)));
    }
    memory
}

/// The fault of bounds that exceed a limit that is set. A limit that is not set refuses nothing: a configuration
/// that is accepted on one machine is accepted on a smaller one, with a warning.
pub(super) fn fault(draft: &Draft) -> Option<String> {
    let limit = draft.memory.limit?;
    let sum = Sum::of(draft);
    (sum.limited() > limit.0).then(|| {
        let lower = match largest(draft) {
            bounds if bounds.is_empty() => "serve fewer streams".to_owned(),
            bounds => format!("lower {bounds}"),
        };
        format!("{limit} is less than the sum of all bounds, {sum}; raise it, or {lower}")
    })
}

fn notes(stream: &StreamSettings) -> u64 {
    if stream.client_filters || stream.has_bound_filter() {
        stream.log_bytes.0 / 2
    } else {
        0
    }
}

/// The estimate for a client, by the most expensive way in which the daemon serves streams.
const fn per_client(settings: &Draft) -> u64 {
    let http = &settings.http;
    let in_process = if http.tls.is_some() {
        BY_TLS
    } else if http.http2 || matches!(http.delivery, DeliveryDriver::Hyper) {
        BY_HYPER
    } else {
        BY_DELIVERY
    };
    IN_KERNEL + in_process
}

fn key(index: usize, name: &str) -> String {
    format!("stream[{index}].{name}")
}

/// The largest bounds that can be lower, with their values.
fn largest(settings: &Draft) -> String {
    let logs = settings.streams.iter().map(|stream| Some(stream.log_bytes));
    let tables = settings
        .streams
        .iter()
        .map(|stream| stream.has_table().then_some(stream.max_table_bytes));
    let named =
        |name: &'static str| move |(index, size): (usize, Option<Size>)| Some((size?, key(index, name)));
    let mut bounds: Vec<(Size, String)> = logs
        .enumerate()
        .filter_map(named("log_bytes"))
        .chain(tables.enumerate().filter_map(named("max_table_bytes")))
        .filter(|(size, _)| *size > LEAST_LOG)
        .collect();
    bounds.sort_by_key(|(size, _)| std::cmp::Reverse(*size));
    let shown: Vec<String> = bounds
        .iter()
        .take(MOST_NAMED)
        .map(|(size, key)| format!("{key} ({size})"))
        .collect();
    shown.join(", ")
}

fn shown(bytes: u64) -> String {
    let mebibytes = bytes.div_ceil(MEBIBYTE);
    if mebibytes < 10 * 1024 {
        format!("{mebibytes} MiB")
    } else {
        format!("{}.{} GiB", mebibytes / 1024, mebibytes % 1024 * 10 / 1024)
    }
}
