//! The differences between two settings, which a reload applies. Pure.

use super::effect::{ComparedKey, Effect};
use super::endpoint::Endpoint;
use super::reload_effect;
use super::settings::{Draft, Settings};

/// The differences between the settings in effect and the next ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Every key that differs, as logs name it: `http.keepalive`, `stream "/x": lag`.
    pub keys: Vec<String>,
    /// The change of each stream of the new settings, in their order, and of removed streams.
    pub streams: Vec<StreamChange>,
    /// Addresses to bind.
    pub listen: Vec<Endpoint>,
    /// Addresses to close.
    pub unlisten: Vec<Endpoint>,
    /// Keys whose change waits for a restart.
    pub restart: Vec<String>,
}

/// The change of a stream, by its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamChange {
    /// It continues, perhaps with changed settings.
    Kept(String),
    /// It is replaced by a new stream, which takes its clients over.
    Rebuilt(String),
    /// It is added.
    Added(String),
    /// It is removed.
    Removed(String),
}

impl Changes {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

/// Compares two settings. `lacks_rows` says of a path whether the table that is served there now has no rows of some
/// keys, because it is or was full.
pub fn diff(old: &Settings, new: &Settings, lacks_rows: impl Fn(&str) -> bool) -> Changes {
    let (before, next) = (old.http.endpoints(), new.http.endpoints());
    let mut changes = Changes {
        listen: missing(&next, &before),
        unlisten: missing(&before, &next),
        ..Changes::default()
    };
    let Draft {
        kafka,
        http,
        auth,
        memory,
        streams,
        ui,
        log,
    } = &**new;
    changes.note("kafka.", reload_effect::kafka(&old.kafka, kafka));
    changes.note("http.", reload_effect::http(&old.http, http));
    changes.note("auth.", reload_effect::auth(&old.auth, auth));
    changes.note("memory.", reload_effect::memory(&old.memory, memory));
    for stream in streams {
        let path = stream.path.clone();
        let before = old.streams.iter().find(|before| before.path == path);
        let Some(before) = before else {
            changes.keys.push(format!("stream {path:?} added"));
            changes.streams.push(StreamChange::Added(path));
            continue;
        };
        let keys = reload_effect::stream(before, stream, lacks_rows(&path));
        let is_rebuilt = changes.note(&format!("stream {path:?}: "), keys);
        changes.streams.push(if is_rebuilt {
            StreamChange::Rebuilt(path)
        } else {
            StreamChange::Kept(path)
        });
    }
    for before in &old.streams {
        if new.streams.iter().all(|stream| stream.path != before.path) {
            changes.keys.push(format!("stream {:?} removed", before.path));
            changes.streams.push(StreamChange::Removed(before.path.clone()));
        }
    }
    changes.note("ui.", reload_effect::ui(&old.ui, ui));
    changes.note("log.", reload_effect::log(&old.log, log));
    changes
}

impl Changes {
    /// Notes which keys of a section differ, and which of them wait for a restart. Returns whether a stream is
    /// rebuilt, which applies all of its keys.
    fn note(&mut self, prefix: &str, keys: Vec<ComparedKey>) -> bool {
        let mut differing: Vec<ComparedKey> = keys.into_iter().filter(|key| key.differs).collect();
        differing.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        let has = |key: &ComparedKey, effect| key.effects.of_change() == effect;
        let is_rebuilt = differing.iter().any(|key| has(key, Effect::Rebuild));
        for key in differing {
            let name = format!("{prefix}{}", key.name);
            if has(&key, Effect::Restart) && !is_rebuilt {
                self.restart.push(name.clone());
            }
            self.keys.push(name);
        }
        is_rebuilt
    }
}

fn missing(wanted: &[Endpoint], there: &[Endpoint]) -> Vec<Endpoint> {
    let is_missing = |endpoint: &&Endpoint| !there.contains(endpoint);
    wanted.iter().filter(is_missing).cloned().collect()
}
