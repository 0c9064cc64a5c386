//! The state that handlers answer requests from.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use http::{HeaderValue, Request};
use parking_lot::{RwLock, RwLockReadGuard};
use serde_json::Value;

use super::assets::Assets;
use super::base_path::BasePath;
use super::connections::{Connection, Connections};
use super::cors::Cors;
use super::error::ApiError;
use super::hosts::{self, Host, UnknownHosts};
use super::limits::Limits;
use super::reloads::Reloads;
use super::stream_path;
use super::tls_status::TlsStatus;
use crate::auth::Auth;
use crate::config::HttpTlsSettings;
use crate::config::exposure::Exposed;
use crate::config::hosts::HostPattern;
use crate::config::http_tls::HTTPS_PORT;
use crate::config::settings::Draft;
use crate::config::views::ViewSettings;
use crate::kafka::history::ReplayLoad;
use crate::kafka::history::quota::ReplayQuota;
use crate::kafka::status::KafkaStatus;
use crate::schema_registry::{RegistryStatus, SchemaRegistry};
use crate::stream::Stream;
use crate::stream::counters::Ledger;

/// The state of the HTTP service.
#[derive(Debug)]
pub struct AppState {
    shown: RwLock<Shown>,
    /// The rules on which clients may read which streams.
    pub auth: Arc<Auth>,
    /// The status of reading Kafka.
    pub kafka: Arc<KafkaStatus>,
    /// The status of the schema registry.
    pub schema_registry: Arc<RegistryStatus>,
    /// The schema registry, where descriptions find schemas that no record needs.
    pub schemas: OnceLock<SchemaRegistry>,
    /// Set once every stream has loaded; a stream that a reload adds does not clear it.
    pub(super) was_ready: AtomicBool,
    /// The connections of all listeners.
    pub connections: Arc<Connections>,
    /// The open streams, and their limits.
    pub limits: Arc<Limits>,
    /// The quotas of what replays read from Kafka.
    pub replay_quota: Arc<ReplayQuota>,
    /// The counters of streams, including those that a reload has removed.
    pub ledger: Ledger,
    /// Requests for names that the daemon does not answer to.
    pub(super) unknown_hosts: UnknownHosts,
    /// The outcomes of reloads.
    pub reloads: Reloads,
    /// The certificates, and the handshakes with clients.
    pub tls: Arc<TlsStatus>,
    /// Set when the daemon shuts down.
    pub is_draining: AtomicBool,
}

/// The part of the state that a reload may exchange.
#[derive(Debug, Clone)]
pub struct Shown {
    /// The streams, in the order of the configuration.
    pub streams: Vec<Arc<Stream>>,
    /// The files of the page.
    pub assets: Arc<Assets>,
    /// How every request is handled.
    pub requests: Arc<RequestSettings>,
}

/// The settings that apply to every request.
#[derive(Debug)]
pub struct RequestSettings {
    pub(super) base_path: BasePath,
    /// Names that the daemon answers to.
    pub(super) hosts: Vec<HostPattern>,
    pub(super) cors: Cors,
    /// By the path of the stream, where it has rules of its own.
    stream_cors: BTreeMap<String, Cors>,
    /// The views of each stream, by its path, as the page gets them.
    views: BTreeMap<String, Value>,
    /// Query parameters that are ignored, beside those that always are.
    pub(super) ignored_parameters: Vec<String>,
    /// Routes for operators that listeners for clients serve too.
    pub(super) exposed: Vec<Exposed>,
    /// `Strict-Transport-Security` of responses over TLS (RFC 6797).
    pub(super) hsts: Option<HeaderValue>,
    /// The port of HTTPS in redirects.
    pub(super) https_port: u16,
}

impl From<&Draft> for RequestSettings {
    fn from(settings: &Draft) -> Self {
        let http = &settings.http;
        let tls = http.tls.as_ref();
        Self {
            base_path: BasePath::new(http.base_path.clone()),
            hosts: http.hosts.clone(),
            cors: Cors::from(&http.cors),
            stream_cors: settings
                .streams
                .iter()
                .filter_map(|stream| Some((stream.path.clone(), stream.cors.as_ref()?.into())))
                .collect(),
            views: settings
                .streams
                .iter()
                .map(|stream| {
                    let views = stream.view.iter().map(ViewSettings::to_json);
                    (stream.path.clone(), views.collect())
                })
                .collect(),
            ignored_parameters: http.ignored_parameters.clone(),
            exposed: settings.exposed(),
            hsts: tls.and_then(hsts),
            https_port: tls.map_or(HTTPS_PORT, HttpTlsSettings::redirect_port),
        }
    }
}

/// The header, unless its time is 0.
fn hsts(tls: &HttpTlsSettings) -> Option<HeaderValue> {
    let seconds = tls.hsts_max_age.0.as_secs();
    let value = HeaderValue::try_from(format!("max-age={seconds}"));
    value.ok().filter(|_| seconds > 0)
}

impl RequestSettings {
    /// The rules for pages of other origins that hold at a path below the base path.
    pub(super) fn cors_at(&self, shown: &Shown, path: &str) -> &Cors {
        if self.stream_cors.is_empty() {
            return &self.cors;
        }
        let found = stream_path::template(&shown.streams, path);
        found.map_or(&self.cors, |stream| self.cors_of(&stream.settings().path))
    }

    /// Those of the stream with this configured path.
    pub(super) fn cors_of(&self, stream: &str) -> &Cors {
        self.stream_cors.get(stream).unwrap_or(&self.cors)
    }

    /// The views of the stream with this configured path: a list.
    pub(super) fn views_of(&self, stream: &str) -> Value {
        let views = self.views.get(stream).cloned();
        views.unwrap_or_else(|| Value::Array(Vec::new()))
    }
}

impl AppState {
    /// The state before any stream is shown.
    pub fn new(settings: &Draft) -> Self {
        let http = &settings.http;
        Self {
            shown: RwLock::new(Shown {
                streams: Vec::new(),
                assets: Arc::new(Assets::new(settings)),
                requests: Arc::new(settings.into()),
            }),
            auth: Auth::new(),
            kafka: Arc::default(),
            schema_registry: Arc::default(),
            schemas: OnceLock::new(),
            was_ready: AtomicBool::new(false),
            connections: Arc::new(Connections::from(http)),
            limits: Arc::new(Limits::new(http.into())),
            replay_quota: Arc::new(ReplayQuota::new(http.into())),
            ledger: Ledger::default(),
            unknown_hosts: UnknownHosts::default(),
            reloads: Reloads::default(),
            tls: Arc::default(),
            is_draining: AtomicBool::new(false),
        }
    }

    /// The exchangeable part.
    pub fn shown(&self) -> RwLockReadGuard<'_, Shown> {
        self.shown.read()
    }

    /// The replays of all streams, which share an archive.
    pub(super) fn replay_load(&self) -> ReplayLoad {
        let first = self.shown().streams.first().map(Arc::clone);
        first.map(|stream| stream.archive_load()).unwrap_or_default()
    }

    /// Checks the host that a request names, and returns it if there is one. Counts and logs a refusal.
    pub(super) fn check_host<B>(
        &self,
        settings: &RequestSettings,
        request: &Request<B>,
        is_admin: bool,
    ) -> Result<Option<Host>, ApiError> {
        let connection = request.extensions().get::<Arc<Connection>>();
        let peer = connection.map(|connection| connection.peer());
        let rules = hosts::HostRules {
            peer,
            port: connection.and_then(|connection| connection.port()),
            allowed: &settings.hosts,
            trusted: &self.limits.rules().trusted_proxies,
            is_admin,
        };
        hosts::check(request, rules).map_err(|refusal| self.unknown_hosts.error(refusal, peer))
    }

    /// Shows other streams, another page, or handles requests differently, from now on.
    pub fn show(&self, shown: Shown) {
        *self.shown.write() = shown;
    }

    pub(super) fn requests(&self) -> Arc<RequestSettings> {
        Arc::clone(&self.shown().requests)
    }

    pub(super) fn assets(&self) -> Arc<Assets> {
        Arc::clone(&self.shown().assets)
    }
}
