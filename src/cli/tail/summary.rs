//! The summary of a session, printed at its end.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::latency::Latencies;
use crate::logging::printable;
use crate::sse::parse::Event;

/// Most event names that are counted: a server that invents names must not fill the memory.
const MAX_NAMES: usize = 1000;

/// Counts of a session, over all its connections.
#[derive(Debug, Default)]
pub(super) struct Summary {
    events: u64,
    names: BTreeMap<String, u64>,
    comments: u64,
    bytes: u64,
    connections: u64,
    gaps: u64,
    /// Offsets in the gaps.
    missing: u64,
    resets: BTreeMap<String, u64>,
    latencies: Latencies,
    /// Whether the latency of heartbeats is measured too.
    measures_heartbeats: bool,
    /// Whether this connection's events are live; the latency of older ones means nothing.
    is_live: bool,
}

impl Summary {
    pub(super) fn new(measures_heartbeats: bool) -> Self {
        Self {
            measures_heartbeats,
            ..Self::default()
        }
    }

    pub(super) fn connected(&mut self) {
        self.connections += 1;
        self.is_live = false;
    }

    /// Whether no connection has been opened yet.
    pub(super) fn is_first(&self) -> bool {
        self.connections == 0
    }

    pub(super) fn received(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    pub(super) fn comment(&mut self) {
        self.comments += 1;
    }

    pub(super) fn events(&self) -> u64 {
        self.events
    }

    /// Counts an event that arrived at `now`; returns its latency in milliseconds, if it has a timestamp.
    pub(super) fn event(&mut self, event: &Event, now: SystemTime) -> Option<i64> {
        self.events += 1;
        count(&mut self.names, &event.name);
        match event.name.as_str() {
            "caught-up" => self.is_live = true,
            "gap" => self.gap(&event.data),
            "reset" => {
                let reason = text_of(&event.data, "reason");
                count(&mut self.resets, reason.as_deref().unwrap_or("no reason"));
            }
            _ => {}
        }
        let stamped = match event.name.as_str() {
            "heartbeat" if self.measures_heartbeats => stamped_in_heartbeat(&event.data),
            _ if self.is_live => stamped_in_envelope(&event.data),
            _ => None,
        }?;
        let late = milliseconds(now).saturating_sub(stamped);
        self.latencies.add(late);
        Some(late)
    }

    fn gap(&mut self, data: &str) {
        self.gaps += 1;
        let gap: Value = serde_json::from_str(data).unwrap_or_default();
        if let (Some(from), Some(to)) = (gap["from"].as_u64(), gap["to"].as_u64()) {
            self.missing = self.missing.saturating_add(to.saturating_sub(from));
        }
    }

    /// The text for a session of this duration, a line per subject.
    pub(super) fn text(&self, lasted: Duration) -> String {
        let lasted = humantime::format_duration(Duration::from_millis(
            u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX),
        ));
        format!("{self} in {lasted}")
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.latencies.count() > 0 {
            writeln!(f, "{}", self.latencies)?;
        }
        if self.gaps > 0 {
            writeln!(f, "{} gaps, {} offsets missing", self.gaps, self.missing)?;
        }
        if !self.resets.is_empty() {
            writeln!(f, "resets: {}", counted(&self.resets))?;
        }
        let reconnects = self.connections.saturating_sub(1);
        write!(f, "{} events", self.events)?;
        if !self.names.is_empty() {
            write!(f, " ({})", counted(&self.names))?;
        }
        write!(
            f,
            ", {} comments, {} bytes, {reconnects} reconnects, {} gaps, {} resets",
            self.comments,
            self.bytes,
            self.gaps,
            self.resets.values().sum::<u64>()
        )
    }
}

fn count(counts: &mut BTreeMap<String, u64>, name: &str) {
    if let Some(count) = counts.get_mut(name) {
        *count += 1;
    } else if counts.len() < MAX_NAMES {
        counts.insert(name.to_owned(), 1);
    }
}

/// `caught-up 1, message 20`
fn counted(counts: &BTreeMap<String, u64>) -> String {
    let each: Vec<String> = counts
        .iter()
        .map(|(name, count)| format!("{} {count}", printable(name)))
        .collect();
    each.join(", ")
}

fn milliseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn text_of(data: &str, member: &str) -> Option<String> {
    let value: Value = serde_json::from_str(data).ok()?;
    Some(value.get(member)?.as_str()?.to_owned())
}

/// The time of a heartbeat, in milliseconds since the epoch.
fn stamped_in_heartbeat(data: &str) -> Option<i64> {
    humantime::parse_rfc3339(&text_of(data, "time")?)
        .ok()
        .map(milliseconds)
}

/// The members by which an envelope differs from a value that has a timestamp too.
#[derive(serde::Deserialize)]
struct Envelope {
    timestamp: i64,
    #[serde(rename = "partition")]
    _partition: u32,
    #[serde(rename = "offset")]
    _offset: i64,
    #[serde(rename = "encoding")]
    _encoding: serde::de::IgnoredAny,
}

/// The time of an envelope's record, in milliseconds since the epoch.
fn stamped_in_envelope(data: &str) -> Option<i64> {
    let envelope: Envelope = serde_json::from_str(data).ok()?;
    Some(envelope.timestamp)
}
