//! Starts, reloads and stops the rooms; the only place that knows all of them.
//!
//! ```text
//! start:  log → bind → streams → kafka-tail → serve → READY
//! stop:   STOPPING → no more connections, `goodbye` to every stream → tail told to stop →
//!         connections end, channels close, thread joined, all within drain_timeout
//! ```

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use log::{error, info, warn};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::config::{self, Document, Flags, Format, Loaded, Settings, Start, StreamSettings};
use crate::http::connections::Connections;
use crate::http::listener::{self, Listener, Stopping};
use crate::http::page::Page;
use crate::http::routes::{App, routes};
use crate::kafka::history::{Archive, History};
use crate::kafka::record::Feed;
use crate::kafka::status::Status;
use crate::kafka::tail::{Begin, Connection, Tail, TopicPlan};
use crate::logging;
use crate::signals::Request;
use crate::stream::feed::{self, CHANNEL_BATCHES, Feeder};
use crate::stream::stream::{Pace, Stream};
use crate::stream::subscription::Goodbye;
use crate::systemd;

/// Where the settings come from, to be read again on a reload.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The file, or the demo's text.
    pub document: Document,
    /// Which variables count.
    pub environment: Environment,
    /// The command line.
    pub flags: Flags,
}

/// Which variables of the environment count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    /// All of ours, and `PORT`.
    All,
    /// `PORT` alone.
    PortOnly,
}

impl Sources {
    /// Reads and checks the settings.
    ///
    /// # Errors
    /// Every problem found.
    pub fn load(&self) -> Result<Loaded, config::load::ConfigError> {
        let environment: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| self.environment == Environment::All || name == "PORT")
            .collect();
        config::load(&self.document, &environment, &self.flags)
    }
}

/// Runs the bridge on bound listeners until `shutdown` resolves, then drains it.
///
/// # Errors
/// When the operating system refuses the reading thread or a listener.
pub async fn run(
    settings: &Settings,
    listeners: Vec<Listener>,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let pace = Pace::from(&settings.http);
    let status = Arc::new(Status::default());
    let history = Arc::new(History::new(connection(settings), Arc::clone(&status)));
    let archive = || Some(Arc::clone(&history) as Arc<dyn Archive>);
    let streams: Vec<Arc<Stream>> = settings
        .streams
        .iter()
        .map(|stream| Stream::new(stream.clone(), pace, archive()))
        .collect();
    let mut tasks = JoinSet::new();
    let mut feeds: Vec<mpsc::Sender<Feed>> = Vec::new();
    for stream in &streams {
        let (sender, receiver) = mpsc::channel(CHANNEL_BATCHES);
        tasks.spawn(feed::run(Feeder::new(Arc::clone(stream)), receiver));
        feeds.push(sender);
    }
    let tail = Tail::spawn(connection(settings), plan(settings, &feeds), Arc::clone(&status))?;
    drop(feeds);

    let connections = Arc::new(Connections::new(settings.http.write_timeout.0));
    let app = Arc::new(App {
        streams: streams.clone(),
        page: Page::new(&settings.ui.title, settings.ui.assets.clone()),
        kafka: status,
        connections: Arc::clone(&connections),
        is_draining: AtomicBool::new(false),
    });
    let service = warp::service(routes(Arc::clone(&app)));
    let (stop, stopping) = Stopping::channel();
    let mut serving = JoinSet::new();
    for listener in listeners {
        info!("listening on {}", listener.url());
        serving.spawn(listener::serve(
            listener,
            service.clone(),
            Arc::clone(&connections),
            stopping.clone(),
        ));
    }
    systemd::ready();

    let mut outcome = Ok(());
    tokio::select! {
        () = shutdown => {}
        Some(Ok(Err(error))) = serving.join_next() => {
            // The listeners were bound, so this is the operating system's doing.
            error!("a listener ended: {error}");
            outcome = Err(error);
        }
    }

    systemd::stopping();
    info!(
        "ending: {} clients get goodbye",
        streams
            .iter()
            .map(|stream| stream.figures().clients)
            .sum::<usize>()
    );
    app.is_draining.store(true, Ordering::Relaxed);
    // Nobody receives any more only if every listener has failed.
    let _ = stop.send(true);
    for stream in &streams {
        stream.close(Goodbye::Shutdown);
    }
    let timeout = settings.http.drain_timeout.0;
    if tokio::time::timeout(timeout, drain(serving, tail, &history, tasks))
        .await
        .is_err()
    {
        warn!("not everything ended within drain_timeout ({timeout:?}); ending all the same");
    }
    info!("ended");
    outcome
}

async fn drain(mut serving: JoinSet<io::Result<()>>, tail: Tail, history: &History, mut tasks: JoinSet<()>) {
    let thread = tail.stop();
    while serving.join_next().await.is_some() {}
    // Receivers first: a thread that waits for room in a channel then sees that nobody listens.
    tasks.shutdown().await;
    let threads: Vec<JoinHandle<()>> = history.close().into_iter().chain([thread]).collect();
    let joined =
        tokio::task::spawn_blocking(|| threads.into_iter().all(|thread| thread.join().is_ok())).await;
    if !matches!(joined, Ok(true)) {
        error!("a thread that reads Kafka panicked");
    }
}

/// How to reach Kafka, by these settings.
#[must_use]
pub fn connection(settings: &Settings) -> Connection {
    let streams = &settings.streams;
    let has_envelope = streams.iter().any(|stream| stream.format == Format::Envelope);
    let needs = if has_envelope {
        Some("a stream's format shows timestamps and headers, which need it")
    } else if streams.iter().any(StreamSettings::filters_headers) {
        Some("a stream's filter looks at headers, which need it")
    } else {
        None
    };
    Connection {
        brokers: settings.kafka.brokers.clone(),
        client: settings.kafka.client,
        isolation: settings.kafka.isolation,
        librdkafka: settings.kafka.librdkafka.clone().into_iter().collect(),
        needs_headers: has_envelope || streams.iter().any(StreamSettings::keeps_headers),
        needs_librdkafka: needs,
    }
}

/// Every topic once, with all streams that use it, begun as early as any of them wants.
fn plan(settings: &Settings, feeds: &[mpsc::Sender<Feed>]) -> Vec<TopicPlan> {
    let mut plans: BTreeMap<&str, TopicPlan> = BTreeMap::new();
    for (stream, feed) in settings.streams.iter().zip(feeds) {
        let begin = match stream.start {
            Start::Live => Begin::Newest(stream.preload),
            Start::Earliest | Start::Snapshot => Begin::Earliest,
        };
        for topic in &stream.topics {
            let plan = plans.entry(topic).or_insert_with(|| TopicPlan {
                name: topic.as_str().into(),
                begin,
                feeds: Vec::new(),
            });
            plan.begin = plan.begin.earlier(begin);
            plan.feeds.push(feed.clone());
        }
    }
    plans.into_values().collect()
}

/// Answers signals until one asks to end; reloads on the way. `running` is what was started with.
pub async fn supervise(mut requests: mpsc::Receiver<Request>, sources: Sources, running: Settings) {
    while let Some(Request::Reload) = requests.recv().await {
        systemd::reloading();
        if let Err(why) = reload(&sources, &running) {
            error!("reload failed, everything stays as it was: {why}");
            systemd::status(&format!("reload failed: {why}"));
        }
        systemd::ready();
    }
}

/// Reads the settings again and applies what can be applied while running: logging.
fn reload(sources: &Sources, running: &Settings) -> Result<(), String> {
    let next = sources.load().map_err(|error| error.to_string())?.settings;
    logging::apply(&next.log).map_err(|error| error.to_string())?;
    let sections = [
        ("kafka", next.kafka != running.kafka),
        ("http", next.http != running.http),
        ("stream", next.streams != running.streams),
        ("ui", next.ui != running.ui),
    ];
    let pending: Vec<&str> = sections
        .iter()
        .filter(|(_, differs)| *differs)
        .map(|(name, _)| *name)
        .collect();
    if pending.is_empty() {
        info!("reloaded: log level {}, log file reopened", next.log.level);
        systemd::status("reloaded");
    } else {
        let pending = pending.join(", ");
        warn!(
            "reloaded: log level {}, log file reopened; restart needed for changes in: {pending}",
            next.log.level
        );
        systemd::status(&format!("reloaded; restart needed for changes in: {pending}"));
    }
    Ok(())
}

/// A runtime for the daemon: as many workers as there are cores.
///
/// # Errors
/// When the operating system gives no threads.
pub fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("http")
        .build()
}

/// How long leftover blocking work may hold up the end of the process.
pub const RUNTIME_SHUTDOWN: Duration = Duration::from_millis(100);
