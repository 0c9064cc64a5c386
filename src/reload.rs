//! Applies changed settings to the running rooms.
//!
//! ```text
//! read → check → bind what is new → open the log → read for what is new      (may fail)
//! log → pace, page → Kafka → streams → listeners                             (cannot)
//! ```
//! A reload that fails changes nothing. No stream that still exists is closed: what is only tuned goes on,
//! what shows other records is built anew beside the old one, which hands its clients over. What nobody
//! needs any more ends by itself.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use log::{error, info, warn};

use crate::config::diff::{Changes, StreamChange, diff};
use crate::config::print::fingerprint;
use crate::config::socket::SocketAccess;
use crate::config::{Settings, StreamSettings};
use crate::daemon::{Bound, Daemon, Reading, Running, Sources, bind, connection, warn_of_memory};
use crate::fd_limit;
use crate::http::assets::Assets;
use crate::http::health;
use crate::http::unix;
use crate::kafka::history::{Archive, History};
use crate::kafka::tail::Connection;
use crate::logging;
use crate::stream::subscription::Goodbye;
use crate::stream::tuning::{Pace, Tuning};
use crate::systemd;

/// How long a listener that is not wanted any more may take to let go of its address. It is far quicker
/// unless every worker is busy, and then only the next reload that wants the address back would notice.
const UNLISTEN: Duration = Duration::from_secs(1);

/// What was done, or why nothing was.
type Said = Result<String, Box<dyn std::error::Error>>;

/// What takes over, and runs already.
struct Started {
    connection: Connection,
    history: Arc<History>,
    streams: Vec<Running>,
    /// The thread that reads for them, if there are any.
    reading: Option<Reading>,
}

impl Daemon {
    /// Reads the settings again and applies them. Any error leaves everything as it was, and is said.
    pub(crate) async fn reload(&mut self, sources: &Sources) {
        systemd::reloading();
        let outcome = self.try_reload(sources).await;
        self.app.reloads.count(outcome.is_ok());
        match outcome {
            Ok(what) => self.teller.reloaded(&what),
            Err(why) => {
                // Log rotation sends its SIGHUP whatever the configuration says.
                if let Err(error) = logging::apply(&self.settings.log) {
                    error!("{error}; the log goes on where it did");
                }
                // Several mistakes come on lines of their own.
                let why = why.to_string().replace('\n', "; ");
                error!("reload failed, everything stays as it was: {why}");
                self.teller
                    .failed(&format!("reload failed, everything stays as it was: {why}"));
            }
        }
        systemd::ready();
    }

    async fn try_reload(&mut self, sources: &Sources) -> Said {
        let loaded = sources.load()?;
        warn_of_memory(&loaded);
        let next = loaded.settings;
        let changes = diff(&self.settings, &next);
        let access = SocketAccess::from(&next.http);
        let bound = bind(&changes.listen, &access).map_err(|error| {
            // The old one is served until nothing can fail any more.
            if changes.unlisten.is_empty() {
                error.to_string()
            } else {
                format!("{error} (if it overlaps with an address that it is to replace, restart)")
            }
        })?;
        let log = logging::prepare(&next.log)?;
        let started = self.start_fresh(&next, &changes)?;
        let has_other_files = started.connection.access.has_other_files(&self.connection.access);
        self.set_socket_access(&next, &changes)?;
        log.install();
        self.apply(next, started);
        self.listen(bound, &changes).await;
        self.tidy();

        let mut keys = changes.keys.clone();
        if has_other_files {
            keys.push("what the files of kafka.tls and kafka.sasl hold".to_owned());
        }
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

    /// Gives the sockets that stay their new mode and group. The last step that can fail.
    fn set_socket_access(&self, next: &Settings, changes: &Changes) -> Result<(), String> {
        let access = SocketAccess::from(&next.http);
        if access == SocketAccess::from(&self.settings.http) {
            return Ok(());
        }
        let stays = |address: &&String| !changes.listen.contains(address);
        for address in next.http.listen.iter().filter(stays) {
            if let Some(path) = address.strip_prefix("unix:") {
                unix::set_access(Path::new(path), &access).map_err(|error| format!("{address}: {error}"))?;
            }
        }
        Ok(())
    }

    /// Starts streams that are new or built anew, on a thread of their own: what others read is not
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
        // A stream that stays needs what it was built with: connected clients may have filters that are
        // refused from now on.
        let built = self.streams.iter().map(|running| running.stream.settings());
        let stays = |settings: &&StreamSettings| kept.iter().any(|kept| kept.path == settings.path);
        let all: Vec<StreamSettings> = built.filter(stays).chain(&fresh).cloned().collect();
        let connection = connection(&next.kafka, &all);
        let history = if connection == self.connection {
            Arc::clone(&self.history)
        } else {
            Arc::new(History::new(connection.clone(), Arc::clone(&self.app.kafka)))
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
        // While there are none but those it was asked about.
        health::has_loaded(&self.app);
        self.app.reloads.apply(fingerprint(&next));
        let before = std::mem::replace(&mut self.settings, next);
        self.connections
            .set_write_timeout(self.settings.http.write_timeout.0);
        let (http, ui) = (&self.settings.http, &self.settings.ui);
        self.app.limits.set(http.into());
        let max_clients = http.max_clients;
        let mut shown = self.app.shown().clone();
        shown.front = Arc::new(http.into());
        if before.ui != *ui {
            shown.page = Arc::new(Assets::new(&ui.title, ui.assets.clone()));
        }
        self.app.show(shown);
        self.connect(started.connection, started.history);
        self.exchange(started.streams);
        self.readings.extend(started.reading);
        self.retire_readings();
        self.show();
        self.reserve();
        if before.http.max_clients != max_clients {
            fd_limit::warn_if_short(max_clients, self.connections.reserve());
        }
    }

    /// Reads over this connection from now on, at the same offsets, and the past from there.
    fn connect(&mut self, connection: Connection, history: Arc<History>) {
        if connection == self.connection {
            return;
        }
        for reading in &self.readings {
            reading.tail.reconnect(connection.clone());
        }
        self.connection = connection;
        let before = std::mem::replace(&mut self.history, history);
        for running in &self.streams {
            running
                .stream
                .set_archive(Arc::clone(&self.history) as Arc<dyn Archive>);
        }
        // Last, so that who waits there finds the new one when it is told.
        self.retired.extend(before.close());
    }

    /// Puts new streams in their places, tunes those that stay, and lets go of the others.
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
                    old.stream.retune(Tuning::new(settings, pace));
                    old
                }
                // Every stream of the settings is fresh or was there.
                (None, None) => continue,
            };
            self.streams.push(running);
        }
        for gone in before.into_values() {
            gone.stream.close(Goodbye::StreamRemoved);
            gone.stop();
        }
    }

    /// Lets go of streams that are gone, and of the threads that read for none any more.
    fn retire_readings(&mut self) {
        let mut kept = Vec::new();
        for mut reading in self.readings.drain(..) {
            let is_running = |stream: &Arc<_>| {
                let mut running = self.streams.iter();
                running.any(|running| Arc::ptr_eq(&running.stream, stream))
            };
            reading.streams.retain(is_running);
            if reading.streams.is_empty() {
                self.retired.push(reading.tail.stop());
            } else {
                kept.push(reading);
            }
        }
        self.readings = kept;
    }

    /// Serves new addresses, and those that are gone no more. Who is connected there stays.
    async fn listen(&mut self, bound: Vec<Bound>, changes: &Changes) {
        for bound in bound {
            self.serve(bound);
        }
        let is_gone = |(address, _): &mut (String, _)| changes.unlisten.contains(address);
        let gone: Vec<_> = self.listeners.extract_if(.., is_gone).collect();
        for (address, switch) in gone {
            // Nobody receives only if that listener has failed.
            let _ = switch.send(true);
            match tokio::time::timeout(UNLISTEN, switch.closed()).await {
                Ok(()) => info!("listening on {address} no more"),
                Err(_) => warn!("{address}: its listener is slow to end"),
            }
        }
    }
}
