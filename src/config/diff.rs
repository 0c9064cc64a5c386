//! What a reload changes. Pure: two settings in, a list out.

use super::settings::{Settings, Start, StreamSettings};

/// The differences between the settings that are in effect and those to come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Every key that differs, as a person would name it: `http.keepalive`, `stream "/x": lag`.
    pub keys: Vec<String>,
    /// What becomes of each stream of the new settings, in their order, and of those that are gone.
    pub streams: Vec<StreamChange>,
    /// Addresses to be served from now on.
    pub listen: Vec<String>,
    /// Addresses to be served no more.
    pub unlisten: Vec<String>,
    /// Keys whose change waits for a restart.
    pub restart: Vec<String>,
}

/// What becomes of a stream, by its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamChange {
    /// It is as it was, or differs in what may change while clients are connected.
    Kept(String),
    /// It shows other records, or shows them differently: another one takes its place and its clients.
    Rebuilt(String),
    /// It is new.
    Added(String),
    /// It is served no more.
    Removed(String),
}

impl Changes {
    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

/// Compares two settings.
#[must_use]
pub fn diff(old: &Settings, new: &Settings) -> Changes {
    let mut changes = Changes {
        listen: missing(&new.http.listen, &old.http.listen),
        unlisten: missing(&old.http.listen, &new.http.listen),
        ..Changes::default()
    };
    changes.note("kafka.", &old.kafka, &new.kafka);
    changes.note("http.", &old.http, &new.http);
    changes.note("memory.", &old.memory, &new.memory);
    // A socket that exists keeps what it was given.
    let is_unset = (old.http.unix_socket_mode.is_some() && new.http.unix_socket_mode.is_none())
        || (old.http.unix_socket_group.is_some() && new.http.unix_socket_group.is_none());
    if is_unset && new.http.listen.iter().any(|address| address.starts_with("unix:")) {
        changes
            .restart
            .push("http.unix_socket_mode and http.unix_socket_group".to_owned());
    }
    for stream in &new.streams {
        let path = stream.path.clone();
        let before = old.streams.iter().find(|before| before.path == path);
        let Some(before) = before else {
            changes.keys.push(format!("stream {path:?} added"));
            changes.streams.push(StreamChange::Added(path));
            continue;
        };
        changes.note(&format!("stream {path:?}: "), before, stream);
        if !shows_alike(before, stream) {
            changes.streams.push(StreamChange::Rebuilt(path));
            continue;
        }
        // It says how much is read when a stream starts to be read.
        if before.preload != stream.preload && stream.start == Start::Live {
            changes.restart.push(format!("stream {path:?}: preload"));
        }
        changes.streams.push(StreamChange::Kept(path));
    }
    for before in &old.streams {
        if new.streams.iter().all(|stream| stream.path != before.path) {
            changes.keys.push(format!("stream {:?} removed", before.path));
            changes.streams.push(StreamChange::Removed(before.path.clone()));
        }
    }
    changes.note("ui.", &old.ui, &new.ui);
    changes.note("log.", &old.log, &new.log);
    changes
}

impl Changes {
    /// Notes which members of a section differ.
    fn note<T: serde::Serialize>(&mut self, prefix: &str, old: &T, new: &T) {
        let (old, new) = (members(old), members(new));
        let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
        names.sort_unstable();
        names.dedup();
        let differ = names.into_iter().filter(|name| old.get(*name) != new.get(*name));
        self.keys.extend(differ.map(|name| format!("{prefix}{name}")));
    }
}

fn members<T: serde::Serialize>(section: &T) -> toml::Table {
    // Sections are structs that were read from TOML.
    toml::Table::try_from(section).unwrap_or_default()
}

fn missing(wanted: &[String], there: &[String]) -> Vec<String> {
    let is_missing = |address: &&String| !there.contains(address);
    wanted.iter().filter(is_missing).cloned().collect()
}

/// Whether clients are shown the same records in the same way.
fn shows_alike(one: &StreamSettings, other: &StreamSettings) -> bool {
    one.topics == other.topics
        && one.start == other.start
        && one.format == other.format
        && one.key_field == other.key_field
        && one.event == other.event
        && one.filter == other.filter
        // Headers that were not kept beside the records are not there to filter by; those that were may stay.
        && (one.keeps_headers() || !other.keeps_headers())
}
