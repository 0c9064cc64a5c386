//! The schema registry: fetches schemas by id, once per id however many streams need it, and keeps them.
//!
//! [`client`] sends requests; [`rest`] knows the registry's interface, [`cache`] keeps schemas,
//! [`status`] shows how it goes. A task per id fetches on the runtime of connections, because the writer threads have no
//! sockets; readers wait for it on any runtime. A registry that fails is asked again without end, with backoff: what
//! waits for it waits. An id that it does not know is asked for again until `unknown_schema_timeout`.
#![forbid(unsafe_code)]

mod cache;
mod client;
mod rest;
mod status;

use std::collections::HashMap;
use std::collections::hash_map;
use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{info, warn};
use parking_lot::{Mutex, RwLock};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, watch};

pub use self::status::{Outcome, RegistryFigures, RegistryStatus};

use self::cache::Cached;
use self::client::{Client, RequestError};
use self::rest::{FetchError, fetch};
use self::status::Delay;
use crate::config::SchemaRegistrySettings;
use crate::config::units::Span;
use crate::decode::{Schema, SchemaId, SchemaText, Supplied};
use crate::logging::Seldom;

/// First and longest pause before a schema is asked for again; jitter shortens each by up to half.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// The longest pause before an unknown schema is asked for again: it may be registered at any time.
const UNKNOWN_PAUSE: Duration = Duration::from_secs(2);

/// Schemas that are fetched at once; others wait.
const CONCURRENT: usize = 8;

/// How long a schema that is merely described is not asked for again.
const LOOK_PAUSE: Duration = Duration::from_secs(10);

/// Most such ids that are remembered.
const MOST_LOOKS: usize = 1024;

/// Shortest time between two log lines of one kind.
const LOG_PAUSE: Duration = Duration::from_secs(10);

/// The schema registry of the daemon. Clones are the same one.
#[derive(Debug, Clone)]
pub struct SchemaRegistry {
    shared: Arc<Shared>,
    /// The runtime that has sockets.
    runtime: Handle,
}

/// The channel to the readers that wait for an id.
type SchemaSender = watch::Sender<Option<Supplied>>;

#[derive(Debug)]
struct Shared {
    /// `None` without a registry.
    client: RwLock<Option<Arc<Client>>>,
    /// The ids that are being fetched. Locked before the status.
    fetching: Mutex<HashMap<SchemaId, SchemaSender>>,
    status: Arc<RegistryStatus>,
    /// Ends pauses: the settings have changed, or the registry has answered after a failure.
    retry: Notify,
    permits: Semaphore,
    /// When ids that are merely described were asked for.
    looks: Mutex<HashMap<SchemaId, Instant>>,
    failures: Mutex<Seldom>,
    unknown: Mutex<Seldom>,
    unusable: Mutex<Seldom>,
}

impl SchemaRegistry {
    /// Connects to nothing until a schema is needed. To be called within the runtime that has sockets.
    #[must_use]
    pub fn new(settings: &SchemaRegistrySettings, status: Arc<RegistryStatus>) -> Self {
        let registry = Self {
            shared: Arc::new(Shared {
                client: RwLock::new(None),
                fetching: Mutex::default(),
                status,
                retry: Notify::new(),
                permits: Semaphore::new(CONCURRENT),
                looks: Mutex::default(),
                failures: Mutex::new(Seldom::new(LOG_PAUSE)),
                unknown: Mutex::new(Seldom::new(LOG_PAUSE)),
                unusable: Mutex::new(Seldom::new(LOG_PAUSE)),
            }),
            runtime: Handle::current(),
        };
        registry.apply(settings);
        registry
    }

    /// Takes other settings. Schemas are kept unless the URLs differ: ids of another registry are other ids. Whatever is
    /// waited for is asked for again at once.
    pub fn apply(&self, settings: &SchemaRegistrySettings) {
        let Shared { client, status, .. } = &*self.shared;
        let mut client = client.write();
        let before = client.as_ref().map(|client| client.settings());
        let has_other_urls = before.is_none_or(|before| before.urls != settings.urls);
        let differs = before != Some(settings);
        if !settings.is_configured() {
            *client = None;
        } else if differs {
            *client = Some(Arc::new(Client::new(settings.clone(), Arc::clone(status))));
        }
        drop(client);
        let mut cache = status.cache.lock();
        if has_other_urls {
            cache.clear();
        } else {
            cache.forget_failures();
        }
        cache.bound(settings.max_cache_bytes.as_len());
        drop(cache);
        self.shared.retry.notify_waiters();
    }

    /// The schema of an id. Waits as long as the registry fails; without a registry, until a reload brings one.
    pub async fn schema(&self, id: SchemaId) -> Supplied {
        let mut answer = {
            let mut fetching = self.shared.fetching.lock();
            let cached = self.shared.status.cache.lock().get(id, Instant::now());
            let was_awaited = match cached {
                Cached::Hit(supplied) => return supplied,
                Cached::Miss { was_awaited } => was_awaited,
            };
            match fetching.entry(id) {
                hash_map::Entry::Occupied(answer) => answer.get().subscribe(),
                hash_map::Entry::Vacant(entry) => {
                    let (sender, receiver) = watch::channel(None);
                    entry.insert(sender.clone());
                    self.shared.status.wait_for(id);
                    let shared = Arc::clone(&self.shared);
                    self.runtime.spawn(serve(shared, id, sender, was_awaited));
                    receiver
                }
            }
        };
        let answered = answer.wait_for(Option::is_some).await;
        match answered.ok().and_then(|supplied| supplied.clone()) {
            Some(supplied) => supplied,
            // The runtime ends, and this task with it.
            None => pending().await,
        }
    }
}

impl SchemaRegistry {
    /// The schema of an id of which nothing depends but a description. One request, without another if it fails; it
    /// goes on where the caller waits no longer, and the schema is kept for the next one.
    pub async fn look(&self, id: SchemaId) -> Option<Arc<Schema>> {
        let kept = || match self.shared.status.cache.lock().get(id, Instant::now()) {
            Cached::Hit(Supplied::Schema(schema)) => Some(schema),
            _ => None,
        };
        if let Some(schema) = kept() {
            return Some(schema);
        }
        let client = self.shared.client.read().clone()?;
        {
            let mut looks = self.shared.looks.lock();
            if looks.get(&id).is_some_and(|look| look.elapsed() < LOOK_PAUSE) {
                return None;
            }
            if looks.len() >= MOST_LOOKS {
                looks.clear();
            }
            looks.insert(id, Instant::now());
        }
        let shared = Arc::clone(&self.shared);
        let request = self.runtime.spawn(async move {
            if let Ok(schema) = shared.fetch(&client, id).await {
                shared.keep(&client, id, &Supplied::Schema(schema));
            }
        });
        request.await.ok()?;
        kept()
    }
}

/// Fetches a schema for all that wait for it, until there is an answer or none of them is left.
async fn serve(shared: Arc<Shared>, id: SchemaId, answer: SchemaSender, was_awaited: bool) {
    let mut supply = pin!(supply(&shared, id, was_awaited));
    loop {
        tokio::select! {
            supplied = &mut supply => {
                let mut fetching = shared.fetching.lock();
                fetching.remove(&id);
                if let Some(took) = shared.status.end_wait(id)
                    && matches!(supplied, Supplied::Schema(_))
                {
                    info!("schema registry: schema {id} was fetched after {took:.1?}");
                }
                answer.send_replace(Some(supplied));
                return;
            }
            () = answer.closed() => {
                let mut fetching = shared.fetching.lock();
                // Another one may have come meanwhile.
                if answer.receiver_count() == 0 {
                    fetching.remove(&id);
                    shared.status.end_wait(id);
                    return;
                }
            }
        }
    }
}

/// The answer for an id, which is in the cache then.
async fn supply(shared: &Shared, id: SchemaId, was_awaited: bool) -> Supplied {
    let mut attempts = 0_u32;
    let mut unknown_since: Option<Instant> = None;
    loop {
        // Before the request, so that no change is missed.
        let retry = shared.retry.notified();
        let client = shared.client.read().clone();
        let Some(client) = client else {
            retry.await;
            continue;
        };
        let limit = client.settings().unknown_schema_timeout;
        attempts = attempts.saturating_add(1);
        let mut pause = backoff(attempts);
        let (supplied, is_reference) = match shared.fetch(&client, id).await {
            Ok(schema) => (Supplied::Schema(schema), false),
            Err(FetchError::Unusable(reason)) => (Supplied::Unusable(reason), false),
            Err(FetchError::Unavailable(reason)) => {
                shared.is_failing(id, reason);
                pause_for(pause, retry).await;
                continue;
            }
            Err(FetchError::Unknown) => (Supplied::Unknown, false),
            Err(FetchError::UnknownReference(named)) => (
                Supplied::Unusable(format!("it refers to {named}, which the registry does not know")),
                true,
            ),
        };
        if matches!(supplied, Supplied::Unknown) || is_reference {
            let since = *unknown_since.get_or_insert_with(Instant::now);
            let left = limit.0.saturating_sub(since.elapsed());
            if !was_awaited && !left.is_zero() {
                let what = match &supplied {
                    Supplied::Unusable(reason) => format!("a reference of schema {id} ({reason})"),
                    _ => format!("schema {id}"),
                };
                shared.is_unknown(id, what, limit);
                // The last request is at the end of the time.
                pause = pause.min(UNKNOWN_PAUSE).min(left);
                pause_for(pause, retry).await;
                continue;
            }
        }
        if shared.keep(&client, id, &supplied) {
            return supplied;
        }
    }
}

impl Shared {
    async fn fetch(&self, client: &Client, id: SchemaId) -> Result<Arc<Schema>, FetchError> {
        // It is never closed.
        let _permit = self.permits.acquire().await;
        let text: SchemaText = fetch(client, id).await?;
        let compiled = tokio::task::spawn_blocking(move || Schema::compile(&text)).await;
        match compiled {
            Ok(Ok(schema)) => Ok(Arc::new(schema)),
            Ok(Err(error)) => Err(FetchError::Unusable(error.to_string())),
            // The runtime ends.
            Err(error) => Err(FetchError::Unavailable(error.to_string())),
        }
    }

    /// Keeps the answer of a client. Returns whether that client is still the one to ask.
    fn keep(&self, of: &Arc<Client>, id: SchemaId, supplied: &Supplied) -> bool {
        let client = self.client.read();
        if client
            .as_ref()
            .is_none_or(|client| client.settings().urls != of.settings().urls)
        {
            return false;
        }
        let (log, message) = match supplied {
            Supplied::Schema(_) => {
                self.status
                    .cache
                    .lock()
                    .insert(id, supplied.clone(), Instant::now());
                if self.status.is_failing() {
                    self.retry.notify_waiters();
                }
                return true;
            }
            Supplied::Unknown => (
                &self.unknown,
                format!(
                    "it still does not know schema {id} after {}; records with it are passed over until it is registered",
                    of.settings().unknown_schema_timeout
                ),
            ),
            Supplied::Unusable(reason) => (
                &self.unusable,
                format!("schema {id} cannot be used: {reason}; records with it are passed over"),
            ),
        };
        self.status
            .cache
            .lock()
            .insert(id, supplied.clone(), Instant::now());
        if let Some(held_back) = log.lock().admit() {
            warn!("schema registry: {message}{held_back}");
        }
        true
    }

    fn is_failing(&self, id: SchemaId, reason: String) {
        if let Some(held_back) = self.failures.lock().admit() {
            warn!("schema registry: {reason}; records with schema {id} wait for it{held_back}");
        }
        self.status.delay(id, Delay::Failing(reason));
    }

    fn is_unknown(&self, id: SchemaId, what: String, limit: Span) {
        let delay = Delay::Unknown { what, limit };
        self.status.delay(id, delay);
    }
}

async fn pause_for(pause: Duration, retry: impl Future<Output = ()>) {
    // Either is a reason to ask again.
    let _ = tokio::time::timeout(pause, retry).await;
}

/// The pause after this many attempts, with jitter.
fn backoff(attempts: u32) -> Duration {
    let (first, longest) = BACKOFF;
    let doubled = first.saturating_mul(1 << attempts.saturating_sub(1).min(16));
    doubled.min(longest).mul_f64(rand::random_range(0.5..1.0))
}

/// The outcome of a check of one URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// It answers, and what with.
    Ok(String),
    /// It does not: what was found, and the remedy.
    Failed(String, String),
}

/// Asks each URL for its subjects, as `doctor` does.
pub async fn check(settings: &SchemaRegistrySettings) -> Vec<(String, Check)> {
    let client = Client::new(settings.clone(), Arc::default());
    let mut checks = Vec::new();
    for (index, url) in settings.urls.iter().enumerate() {
        let check = match client.get_from(index, "/subjects").await {
            Ok(body) => match serde_json::from_slice::<Vec<String>>(&body) {
                Ok(subjects) => Check::Ok(format!("it answers, and lists {} subjects", subjects.len())),
                Err(error) => Check::Failed(
                    format!(
                        "{url} is not a schema registry: its response to GET /subjects is not a list of names ({error})"
                    ),
                    "correct urls in [kafka.schema_registry]".to_owned(),
                ),
            },
            Err(RequestError::TooLarge) => {
                Check::Ok("it answers, with a very long list of subjects".to_owned())
            }
            Err(RequestError::NotFound) => Check::Failed(
                format!("{url} does not know GET /subjects"),
                "correct urls in [kafka.schema_registry]".to_owned(),
            ),
            Err(RequestError::Failed { reason, remedy, .. }) => Check::Failed(reason, remedy.to_owned()),
        };
        checks.push((url.clone(), check));
    }
    checks
}
