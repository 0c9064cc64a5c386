//! Starts and stops all parts of the daemon; [`reload`](crate::reload) changes them.
//!
//! ```text
//! start:  log → bind → streams → kafka-reader → serve → READY
//! stop:   STOPPING → listeners close, `goodbye` to every client → reading threads stop →
//!         connections end, channels close, threads are joined, all within drain_timeout
//! ```
#![forbid(unsafe_code)]

pub(crate) mod plan;

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use log::{debug, error, info, warn};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::MissedTickBehavior;

use crate::auth;
use crate::config::files::FileContents;
use crate::config::print::fingerprint;
use crate::config::{
    self, DeliveryDriver, Document, Endpoint, Flags, HttpSettings, Loaded, Scheme, Settings, StreamSettings,
};
use crate::decode::feeds::Lookup;
use crate::delivery::{Delivery, Driver};
use crate::fd_limit;
use crate::http::connections::Connections;
use crate::http::exposure::Surface;
use crate::http::listener::{BindError, Listener, overlap};
use crate::http::redirect;
use crate::http::router::routes;
use crate::http::self_check::SelfCheck;
use crate::http::server::{self, Stopping, Transport};
use crate::http::state::AppState;
use crate::http::tls::{Prepared, Tls};
use crate::kafka::client::HANDLES;
use crate::kafka::connection::Connection;
use crate::kafka::history::{self, Archive, History};
use crate::kafka::reader::ReaderHandle;
use crate::kafka::record::Feed;
use crate::schema_registry::SchemaRegistry;
use crate::signals::Request;
use crate::status_line::StatusLine;
use crate::stream::Stream;
use crate::stream::announcer::Announcer;
use crate::stream::clock::Clock;
use crate::stream::control::Goodbye;
use crate::stream::history_reads::HistoryReads;
use crate::stream::live_settings::Pace;
use crate::stream::writer::{CHANNEL_BATCHES, Writer};
use crate::systemd;
use crate::watchdog::Watchdog;
use crate::writers::Writers;

/// The sources of the settings, which a reload reads again.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    /// The file, or the demo's text.
    pub document: Document,
    /// The variables that are read.
    pub environment: Environment,
    /// The command line.
    pub flags: Flags,
}

/// The variables that are read from the environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Environment {
    /// Those with the daemon's prefix, and `PORT`.
    All,
    /// Only `PORT`.
    #[cfg(feature = "librdkafka")]
    PortOnly,
}

impl Sources {
    pub(crate) fn load(&self) -> Result<Loaded, config::load::ConfigError> {
        let environment: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| self.environment == Environment::All || name == "PORT")
            .collect();
        config::load(&self.document, &environment, &self.flags)
    }
}

/// Logs a warning where the bounds exceed the available memory.
pub(crate) fn warn_of_memory(loaded: &Loaded) {
    if let Some(remedy) = loaded.memory.remedy(&loaded.settings) {
        let found = loaded.memory.describe(&loaded.settings);
        warn!("memory: {found}, which is too little: {remedy}");
    }
}

/// A bound listener and its endpoint in the settings.
#[derive(Debug)]
pub struct Bound {
    /// The endpoint in the settings.
    pub endpoint: Endpoint,
    /// One of the sockets of its address.
    pub listener: Listener,
}

/// Binds every endpoint of these settings. `held` are those that the daemon serves already.
///
/// # Errors
/// When one cannot be bound.
pub fn bind(endpoints: &[Endpoint], http: &HttpSettings, held: &[Endpoint]) -> Result<Vec<Bound>, BindError> {
    let mut bound: Vec<Bound> = Vec::new();
    for endpoint in endpoints {
        let access = http.socket_access(endpoint);
        let listeners = Listener::bind_endpoint(endpoint, &access).map_err(|error| {
            let mut ours = bound.iter().map(|bound| &bound.endpoint).chain(held);
            let overlapping = ours.find(|ours| overlap(&ours.address, &endpoint.address));
            match overlapping.filter(|_| error.is_taken()) {
                Some(ours) => {
                    let remedy = format!(
                        "the daemon itself serves {ours}, which overlaps: remove one of them from {}, or restart where one \
                         replaces the other",
                        ours.key()
                    );
                    error.with_remedy(remedy)
                }
                None => error,
            }
        })?;
        bound.extend(listeners.into_iter().map(|listener| Bound {
            endpoint: endpoint.clone(),
            listener,
        }));
    }
    Ok(bound)
}

/// Interval of counting the descriptors that reading Kafka needs: clusters grow rarely.
const RESERVE_EVERY: Duration = Duration::from_secs(5);

/// Serves a listener until its switch closes it.
type Serve = Box<dyn Fn(Bound, Stopping) -> BoxedServing + Send>;
type BoxedServing = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

pub(crate) struct Running {
    pub(crate) stream: Arc<Stream>,
    /// Aborts its writer, which drops the channel's receiver.
    writer: AbortHandle,
    announcer: AbortHandle,
}

impl Running {
    /// Stops its tasks. Its readers must have been woken before, because nothing wakes them afterwards.
    pub(crate) fn stop(&self) {
        self.writer.abort();
        self.announcer.abort();
    }
}

pub(crate) struct Reading {
    pub(crate) reader: ReaderHandle,
    pub(crate) streams: Vec<Arc<Stream>>,
}

pub(crate) struct Daemon {
    pub(crate) settings: Settings,
    /// The content of the files that they name, when the settings were read.
    pub(crate) files: FileContents,
    /// The connection settings of all Kafka clients.
    pub(crate) connection: Connection,
    pub(crate) app: Arc<AppState>,
    pub(crate) connections: Arc<Connections>,
    /// In the order of the configuration.
    pub(crate) streams: Vec<Running>,
    pub(crate) readings: Vec<Reading>,
    pub(crate) history: Arc<History>,
    pub(crate) schema_registry: SchemaRegistry,
    pub(crate) tls: Arc<Tls>,
    /// Threads that are stopping.
    pub(crate) retired: Vec<JoinHandle<()>>,
    pub(crate) status_line: Arc<StatusLine>,
    /// Endpoints, and the switches of their listeners.
    pub(crate) listeners: Vec<(Endpoint, watch::Sender<bool>)>,
    writers: Writers,
    /// The largest number of brokers known so far.
    brokers: usize,
    tasks: JoinSet<()>,
    serving: JoinSet<io::Result<()>>,
    serve: Serve,
    /// The threads of event streams; ended with the daemon.
    _delivery: Option<Arc<Delivery>>,
}

/// Starts the threads that write event streams, unless hyper is to, and has them checked.
fn start_delivery(
    http: &HttpSettings,
    connections: &Connections,
    writers: &Writers,
) -> io::Result<Option<Arc<Delivery>>> {
    let driver = match http.delivery {
        DeliveryDriver::Hyper => return Ok(None),
        DeliveryDriver::Auto => None,
        DeliveryDriver::Epoll => Some(Driver::Epoll),
        DeliveryDriver::IoUring => Some(Driver::IoUring),
    };
    let threads = usize::try_from(http.delivery_threads).unwrap_or(0);
    let started = Delivery::start(driver, threads).map_err(|error| {
        let word = http.delivery.as_str();
        io::Error::new(
            error.kind(),
            format!("http.delivery = {word:?} cannot be had: {error}; \"auto\" takes what can"),
        )
    })?;
    let delivery = Arc::new(started);
    connections.set_delivery(&delivery);
    for (number, pulse) in delivery.pulses().iter().enumerate() {
        let name = format!("delivery thread {number}");
        writers.pulses().add_other(name, pulse);
    }
    Ok(Some(delivery))
}

/// Runs the daemon on bound listeners until it is asked to shut down, and reloads it on request.
pub(crate) async fn run(
    settings: Settings,
    listeners: Vec<Bound>,
    certificates: Option<Prepared>,
    mut requests: mpsc::Receiver<Request>,
    sources: Sources,
) -> io::Result<()> {
    let mut daemon = Daemon::start(settings, listeners, certificates)?;
    systemd::ready();
    if systemd::is_listening() {
        tokio::spawn(Arc::clone(&daemon.status_line).run());
    }
    let mut outcome = Ok(());
    let mut looks = tokio::time::interval(RESERVE_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = looks.tick() => daemon.reserve(),
            request = requests.recv() => match request {
                Some(Request::Reload) => daemon.reload(&sources).await,
                Some(Request::Shutdown) | None => break,
            },
            Some(ended) = daemon.serving.join_next() => {
                if let Ok(Err(error)) = ended {
                    // The listeners were bound, so the operating system has failed.
                    error!("a listener failed: {error}");
                    outcome = Err(error);
                    break;
                }
            }
        }
    }
    daemon.end().await;
    outcome
}

impl Daemon {
    fn start(settings: Settings, listeners: Vec<Bound>, certificates: Option<Prepared>) -> io::Result<Self> {
        fd_limit::raise();
        let app = Arc::new(AppState::new(&settings));
        let connections = Arc::clone(&app.connections);
        app.auth
            .apply(auth::Prepared::load(&settings).map_err(io::Error::other)?);
        let shown = Arc::downgrade(&app);
        app.auth.status.on_change(move || {
            if let Some(app) = shown.upgrade() {
                let streams = app.shown().streams.clone();
                for stream in &streams {
                    stream.check_access();
                }
            }
        });
        app.reloads.apply(fingerprint(&settings));
        let [public, admin] = [Surface::Public, Surface::Admin].map(|surface| {
            let routes = routes(Arc::clone(&app), surface);
            server::handler(Arc::clone(&app), routes, surface)
        });
        let status_line = Arc::new(StatusLine::new(Arc::clone(&app)));
        let mut writers = Writers::start()?;
        if let Some(period) = systemd::watchdog_period() {
            // The listeners for operators serve it in any case.
            let self_check = SelfCheck::new(Arc::clone(&admin))?;
            let watchdog = Watchdog::new(period / 2, Arc::clone(&app.kafka), writers.pulses(), self_check);
            // Until the runtime ends, because a shutdown takes time too.
            tokio::spawn(watchdog.run());
        }
        let delivery = start_delivery(&settings.http, &connections, &writers)?;
        let tls = Arc::new(Tls::new(Arc::clone(&app.tls), Arc::clone(&app.auth)));
        tls.apply(certificates);
        tokio::spawn(Arc::clone(&tls).watch());
        let redirect = redirect::handler(Arc::clone(&app));
        let (served, with_tls) = (Arc::clone(&connections), Arc::clone(&tls));
        let serve: Serve = Box::new(move |bound, stopping| {
            let (transport, surface, handler) = match bound.endpoint.scheme {
                Scheme::Http => (Transport::Plain, Surface::Public, &public),
                Scheme::Https => (Transport::Tls(Arc::clone(&with_tls)), Surface::Public, &public),
                Scheme::Redirect => (Transport::Plain, Surface::Public, &redirect),
                Scheme::Admin => (Transport::Plain, Surface::Admin, &admin),
            };
            Box::pin(server::serve(
                bound.listener,
                transport,
                surface,
                Arc::clone(handler),
                Arc::clone(&served),
                stopping,
            ))
        });
        let connection = plan::connection(&settings.kafka, &settings.streams);
        let history = Arc::new(History::new(
            connection.clone(),
            Arc::clone(&app.kafka),
            Arc::clone(&app.replay_quota),
        ));
        let registry = SchemaRegistry::new(&settings.kafka.schema_registry, Arc::clone(&app.schema_registry));
        // Set here alone.
        let _ = app.schemas.set(registry.clone());
        let schemas = registry.clone();
        writers.set_schemas(Lookup::new(move |id| {
            let schemas = schemas.clone();
            async move { schemas.schema(id).await }
        }));
        let mut daemon = Self {
            app,
            schema_registry: registry,
            tls,
            connections,
            streams: Vec::new(),
            readings: Vec::new(),
            history: Arc::clone(&history),
            retired: Vec::new(),
            status_line,
            listeners: Vec::new(),
            writers,
            brokers: 0,
            tasks: JoinSet::new(),
            serving: JoinSet::new(),
            serve,
            _delivery: delivery,
            connection: connection.clone(),
            files: FileContents::read(&settings),
            settings,
        };
        let fresh = daemon.settings.streams.clone();
        let pace = Pace::from(&daemon.settings.http);
        let (streams, reading) = daemon.read(&fresh, pace, connection, &history)?;
        daemon.streams = streams;
        daemon.readings.push(reading);
        daemon.show();
        daemon.reserve();
        for bound in listeners {
            daemon.serve(bound);
        }
        Ok(daemon)
    }

    /// Starts streams, and a thread that reads for them.
    pub(crate) fn read(
        &mut self,
        settings: &[StreamSettings],
        pace: Pace,
        connection: Connection,
        history: &Arc<History>,
    ) -> io::Result<(Vec<Running>, Reading)> {
        let mut feeds: Vec<mpsc::Sender<Feed>> = Vec::new();
        let mut running = Vec::new();
        for settings in settings {
            let archive = Arc::clone(history) as Arc<dyn Archive>;
            let counters = self.app.ledger.of(&settings.path);
            let past = HistoryReads::new(archive, self.writers.replay_spawner(settings));
            let stream = Stream::counting(settings.clone(), pace, Some(past), Clock::SYSTEM, counters);
            stream.set_spawn(self.writers.spawner(&settings.path));
            let (sender, receiver) = mpsc::channel(CHANNEL_BATCHES);
            let (writer, tasks) = (Writer::new(Arc::clone(&stream)), &mut self.tasks);
            running.push(Running {
                announcer: tasks.spawn(Announcer::new(Arc::clone(&stream))),
                writer: self.writers.spawn(tasks, settings, writer, receiver),
                stream,
            });
            feeds.push(sender);
        }
        let plans = plan::topics(settings, &feeds);
        let reading = Reading {
            // Without a thread the channels close with the plans, and the writers end.
            reader: ReaderHandle::spawn(connection, plans, self.app.kafka.reader())?,
            streams: running
                .iter()
                .map(|running| Arc::clone(&running.stream))
                .collect(),
        };
        Ok((running, reading))
    }

    /// Publishes the running streams and reading threads to the HTTP service.
    pub(crate) fn show(&self) {
        let statuses = self.readings.iter().map(|reading| reading.reader.status());
        self.app.kafka.set(statuses.map(Arc::clone).collect());
        let mut shown = self.app.shown().clone();
        shown.streams = self
            .streams
            .iter()
            .map(|running| Arc::clone(&running.stream))
            .collect();
        self.app.show(shown);
    }

    pub(crate) fn serve(&mut self, bound: Bound) {
        let endpoint = bound.endpoint.clone();
        let for_whom = match endpoint.scheme {
            Scheme::Http | Scheme::Https | Scheme::Redirect => "",
            Scheme::Admin => " for operators",
        };
        info!("listening on {}{for_whom}", bound.listener.url(endpoint.scheme));
        let (switch, stopping) = Stopping::channel();
        self.serving.spawn((self.serve)(bound, stopping));
        self.listeners.push((endpoint, switch));
    }

    /// Reserves the descriptors that reading Kafka needs with the number of brokers known now.
    pub(crate) fn reserve(&mut self) {
        self.tidy();
        let brokers = self.app.kafka.brokers().max(self.connection.brokers.len());
        // Threads that are stopping may still hold connections.
        let reading: usize = self.readings.iter().map(|reading| reading.reader.threads()).sum();
        let readers = reading + self.retired.len();
        let handles = HANDLES * readers + history::MAX_HANDLES;
        let reserve = fd_limit::reserve(brokers, handles);
        let before = self.connections.set_reserve(reserve);
        if before != reserve {
            debug!(
                "descriptors: {reserve} are reserved, for {handles} handles of Kafka clients with {brokers} brokers"
            );
        }
        // Logged again only for more brokers, because the number of readers changes with every reload.
        if brokers > self.brokers {
            self.brokers = brokers;
            fd_limit::warn_if_short(self.settings.http.max_clients, reserve);
        }
    }

    /// Drops tasks and threads that have ended.
    pub(crate) fn tidy(&mut self) {
        while self.tasks.try_join_next().is_some() {}
        self.retired.retain(|thread| !thread.is_finished());
    }

    async fn end(mut self) {
        systemd::stopping();
        let clients = |running: &Running| running.stream.figures().clients;
        info!(
            "shutting down, {} clients connected",
            self.streams.iter().map(clients).sum::<usize>()
        );
        self.app.is_draining.store(true, Ordering::Relaxed);
        for (_, switch) in &self.listeners {
            // Fails only if that listener has failed.
            let _ = switch.send(true);
        }
        for running in &self.streams {
            running.stream.close(Goodbye::Shutdown);
        }
        let timeout = self.settings.http.drain_timeout.0;
        if tokio::time::timeout(timeout, self.drain()).await.is_err() {
            warn!("drain_timeout ({timeout:?}) exceeded, exiting anyway");
        }
        systemd::settle().await;
        info!("stopped");
    }

    async fn drain(&mut self) {
        let readings = std::mem::take(&mut self.readings);
        let mut threads: Vec<JoinHandle<()>> = readings
            .into_iter()
            .map(|reading| reading.reader.stop())
            .collect();
        while self.serving.join_next().await.is_some() {}
        // Receivers first: a thread that is blocked on a full channel then sees that it is closed.
        self.tasks.shutdown().await;
        threads.append(&mut self.retired);
        threads.extend(self.history.close());
        let joined =
            tokio::task::spawn_blocking(|| threads.into_iter().all(|thread| thread.join().is_ok())).await;
        if !matches!(joined, Ok(true)) {
            error!("a thread that reads Kafka panicked");
        }
    }
}

/// The runtime of connections, with a worker per core.
///
/// # Errors
/// When the operating system refuses a thread.
pub fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("http")
        .build()
}

/// How long the exit waits for blocking tasks.
pub(crate) const RUNTIME_SHUTDOWN: Duration = Duration::from_millis(100);
