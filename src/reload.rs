//! Applies changed settings to the running daemon.
//!
//! ```text
//! load → validate → bind new addresses → certificates → open the log → start new streams     (may fail)
//! log → pace, page → Kafka → streams → certificates → listeners                             (cannot fail)
//! ```
//! A reload that fails changes nothing. No stream that still exists is closed: live changes apply to open streams, and a
//! stream that is rebuilt is started beside the old one, which hands its clients over. Threads and streams that are no
//! longer needed end by themselves.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use log::{error, info, warn};

use crate::auth;
use crate::config::diff::{Changes, StreamChange, diff};
use crate::config::files::FileContents;
use crate::config::print::fingerprint;
use crate::config::{Endpoint, Settings, StreamSettings};
use crate::daemon::{Bound, Daemon, Reading, Running, Sources, bind, plan, warn_of_memory};
use crate::fd_limit;
use crate::http::assets::Assets;
use crate::http::health;
use crate::http::tls::Prepared;
use crate::http::unix;
use crate::kafka::connection::Connection;
use crate::kafka::history::{Archive, History};
use crate::logging;
use crate::stream::control::Goodbye;
use crate::stream::live_settings::{LiveSettings, Pace};
use crate::systemd;

/// How long to wait until a removed listener has closed its address. It takes longer only if every worker is busy, and
/// that matters only to the next reload that binds the same address.
const UNLISTEN: Duration = Duration::from_secs(1);

/// The changed keys, or why the reload failed.
type Outcome = Result<String, Box<dyn std::error::Error>>;

/// The parts that take over, already running.
struct Started {
    connection: Connection,
    history: Arc<History>,
    streams: Vec<Running>,
    /// The thread that reads for the streams, if there are any.
    reading: Option<Reading>,
}

impl Daemon {
    /// Reads the settings again and applies them. An error is logged, and changes nothing.
    pub(crate) async fn reload(&mut self, sources: &Sources) {
        systemd::reloading();
        let outcome = self.try_reload(sources).await;
        self.app.reloads.count(outcome.is_ok());
        match outcome {
            Ok(what) => self.status_line.reloaded(&what),
            Err(why) => {
                // Log rotation sends a SIGHUP even while the configuration is invalid.
                if let Err(error) = logging::apply(&self.settings.log) {
                    error!("{error}; the log output is unchanged");
                }
                // Each fault is a line.
                let why = why.to_string().replace('\n', "; ");
                error!("reload failed, the running configuration is unchanged: {why}");
                self.status_line.failed(&format!(
                    "reload failed, the running configuration is unchanged: {why}"
                ));
            }
        }
        systemd::ready();
    }

    async fn try_reload(&mut self, sources: &Sources) -> Outcome {
        let loaded = sources.load()?;
        warn_of_memory(&loaded);
        let next = loaded.settings;
        let lacks_rows = |path: &str| {
            let mut streams = self.streams.iter().map(|running| &running.stream);
            streams.any(|stream| stream.settings().path == path && stream.lacks_rows())
        };
        let changes = diff(&self.settings, &next, lacks_rows);
        // Old addresses stay bound until all steps that can fail have succeeded.
        let held: Vec<Endpoint> = self
            .listeners
            .iter()
            .map(|(endpoint, _)| endpoint.clone())
            .collect();
        let bound = bind(&changes.listen, &next.http, &held)?;
        let http = next.clone();
        let (certificates, files) = tokio::task::spawn_blocking(move || {
            let files = FileContents::read(&http);
            Prepared::read(&http.http).map(|certificates| (certificates, files))
        })
        .await??;
        let log = logging::prepare(&next.log)?;
        let rules = auth::Prepared::load(&next)?;
        let started = self.start_fresh(&next, &changes)?;
        self.set_socket_access(&next, &changes)?;
        log.install();
        // Before streams are exchanged, so that nobody gets a record that it may no longer read.
        let has_auth = self.settings.auth.is_configured() || next.auth.is_configured();
        self.app.auth.apply(rules);
        self.apply(next, started);
        self.tls.apply(certificates);
        if has_auth {
            for running in &self.streams {
                running.stream.check_access();
            }
        }
        self.listen(bound, &changes).await;
        self.tidy();

        let mut keys = changes.keys.clone();
        let contents = files.changed_since(&self.files);
        keys.extend(contents.iter().map(|key| format!("content of {key}")));
        self.files = files;
        let mut what = keys.join(", ");
        if keys.is_empty() {
            "nothing has changed".clone_into(&mut what);
        }
        if changes.restart.is_empty() {
            info!("reloaded: {what}");
        } else {
            what = format!("{what}; restart needed for: {}", changes.restart.join(", "));
            warn!("reloaded: {what}");
        }
        Ok(what)
    }

    /// Sets mode and group of the sockets that remain. The last step that can fail.
    fn set_socket_access(&self, next: &Settings, changes: &Changes) -> Result<(), String> {
        let (http, before) = (&next.http, &self.settings.http);
        for endpoint in http.endpoints() {
            let access = http.socket_access(&endpoint);
            let is_new = changes.listen.contains(&endpoint);
            if let Some(path) = endpoint.address.strip_prefix("unix:")
                && !is_new
                && access != before.socket_access(&endpoint)
            {
                unix::set_access(Path::new(path), &access).map_err(|error| format!("{endpoint}: {error}"))?;
            }
        }
        Ok(())
    }

    /// Starts streams that are added or rebuilt, on a thread of their own, so that reading for the others is not
    /// disturbed.
    fn start_fresh(&mut self, next: &Settings, changes: &Changes) -> std::io::Result<Started> {
        let path_of = |change: &StreamChange| match change {
            StreamChange::Added(path) | StreamChange::Rebuilt(path) => Some(path.clone()),
            StreamChange::Kept(_) | StreamChange::Removed(_) => None,
        };
        let paths: Vec<String> = changes.streams.iter().filter_map(path_of).collect();
        let (fresh, kept): (Vec<StreamSettings>, Vec<StreamSettings>) = next
            .streams
            .iter()
            .cloned()
            .partition(|settings| paths.contains(&settings.path));
        // A stream that continues needs the settings that it was built with: connected clients may have filters that
        // are refused from now on.
        let built = self.streams.iter().map(|running| running.stream.settings());
        let stays = |settings: &&StreamSettings| kept.iter().any(|kept| kept.path == settings.path);
        let all: Vec<StreamSettings> = built.filter(stays).chain(&fresh).cloned().collect();
        let connection = plan::connection(&next.kafka, &all);
        let history = if connection == self.connection {
            Arc::clone(&self.history)
        } else {
            Arc::new(History::new(
                connection.clone(),
                Arc::clone(&self.app.kafka),
                Arc::clone(&self.app.replay_quota),
            ))
        };
        let (streams, reading) = if fresh.is_empty() {
            (Vec::new(), None)
        } else {
            let pace = Pace::from(&next.http);
            let (streams, reading) = self.read(&fresh, pace, connection.clone(), &history)?;
            (streams, Some(reading))
        };
        Ok(Started {
            connection,
            history,
            streams,
            reading,
        })
    }

    fn apply(&mut self, next: Settings, started: Started) {
        // Readiness is latched before new streams are added.
        health::has_loaded(&self.app);
        self.app.reloads.apply(fingerprint(&next));
        let before = std::mem::replace(&mut self.settings, next);
        self.connections.apply(&self.settings.http);
        let http = &self.settings.http;
        self.app.limits.set(http.into());
        self.app.replay_quota.set(http.into());
        let max_clients = http.max_clients;
        let mut shown = self.app.shown().clone();
        shown.requests = Arc::new((&*self.settings).into());
        // The page has links to what is exposed.
        if before.ui != self.settings.ui || before.exposed() != self.settings.exposed() {
            shown.assets = Arc::new(Assets::new(&self.settings));
        }
        self.app.show(shown);
        self.connect(started.connection, started.history);
        self.history.quota_changed();
        self.schema_registry.apply(&self.settings.kafka.schema_registry);
        self.exchange(started.streams);
        self.readings.extend(started.reading);
        self.retire_readings();
        self.show();
        self.reserve();
        if before.http.max_clients != max_clients {
            fd_limit::warn_if_short(max_clients, self.connections.reserve());
        }
    }

    /// Switches live reading, at the same offsets, and replays to this connection.
    fn connect(&mut self, connection: Connection, history: Arc<History>) {
        if connection == self.connection {
            return;
        }
        for reading in &self.readings {
            reading.reader.reconnect(connection.clone());
        }
        self.connection = connection;
        let before = std::mem::replace(&mut self.history, history);
        for running in &self.streams {
            running
                .stream
                .set_archive(Arc::clone(&self.history) as Arc<dyn Archive>);
        }
        // Last, so that jobs that are dropped find the new pool.
        self.retired.extend(before.close());
    }

    /// Puts new streams in place, applies live settings to those that continue, and closes the others.
    fn exchange(&mut self, fresh: Vec<Running>) {
        let pace = Pace::from(&self.settings.http);
        let by_path = |streams: Vec<Running>| -> HashMap<String, Running> {
            let path = |running: &Running| running.stream.settings().path.clone();
            streams
                .into_iter()
                .map(|running| (path(&running), running))
                .collect()
        };
        let mut fresh = by_path(fresh);
        let mut before = by_path(std::mem::take(&mut self.streams));
        for settings in &self.settings.streams {
            let old = before.remove(&settings.path);
            let running = match (fresh.remove(&settings.path), old) {
                (Some(new), old) => {
                    if let Some(old) = old {
                        old.stream.succeed(&new.stream);
                        old.stop();
                    }
                    new
                }
                (None, Some(old)) => {
                    old.stream.apply(LiveSettings::new(settings, pace));
                    old
                }
                // Every stream of the settings is new or existed before.
                (None, None) => continue,
            };
            self.streams.push(running);
        }
        for gone in before.into_values() {
            gone.stream.close(Goodbye::StreamRemoved);
            gone.stop();
        }
    }

    /// Drops streams that are gone, and stops threads that read for none.
    fn retire_readings(&mut self) {
        let mut kept = Vec::new();
        for mut reading in self.readings.drain(..) {
            let is_running = |stream: &Arc<_>| {
                let mut running = self.streams.iter();
                running.any(|running| Arc::ptr_eq(&running.stream, stream))
            };
            reading.streams.retain(is_running);
            if reading.streams.is_empty() {
                self.retired.push(reading.reader.stop());
            } else {
                kept.push(reading);
            }
        }
        self.readings = kept;
    }

    /// Serves new addresses and closes removed ones. Open connections are unaffected.
    async fn listen(&mut self, bound: Vec<Bound>, changes: &Changes) {
        for bound in bound {
            self.serve(bound);
        }
        let is_gone = |(endpoint, _): &mut (Endpoint, _)| changes.unlisten.contains(endpoint);
        let gone: Vec<_> = self.listeners.extract_if(.., is_gone).collect();
        for (endpoint, switch) in gone {
            // Fails only if that listener has failed.
            let _ = switch.send(true);
            match tokio::time::timeout(UNLISTEN, switch.closed()).await {
                Ok(()) => info!("stopped listening on {endpoint}"),
                Err(_) => warn!("{endpoint}: the listener has not closed yet"),
            }
        }
    }
}
