//! librdkafka's callbacks: causes of errors, statistics, and requests for a token.

use std::error::Error;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use log::debug;
use parking_lot::Mutex;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError as RdKafkaError, RDKafkaErrorCode};

use super::statistics::Statistics;
use crate::config::{FileName, units};
use crate::kafka::lag::End;
use crate::kafka::reader_status::BrokerState;
use crate::kafka::token::Token;

/// Most events of one handle that are served at a time.
pub(super) const MAX_CAUSES: usize = 64;

/// How long a transport error explains other failures: the library repeats the same error at this interval.
const CAUSE_LASTS: Duration = Duration::from_secs(30);

/// The same for responses that are too large, with a margin: statistics count further ones every two seconds.
const OVERSIZE_LASTS: Duration = Duration::from_secs(45);

/// How long such a response explains other failures: requests on the same connection fail with it.
const OVERSIZE_EXPLAINS: Duration = Duration::from_secs(5);

/// How many consecutive statistics must name no broker: one may do so while the library replaces its brokers.
const ABANDONED: u32 = 2;

/// The state that callbacks leave for the thread of the handle.
#[derive(Default)]
pub(super) struct Context {
    /// The last transport error, and its time. It names the cause, which errors of requests lack.
    last: Mutex<Option<(Instant, String)>>,
    /// Ends of partitions that were updated since they were last taken.
    ends: Mutex<Vec<End>>,
    /// Connections, if they were updated since they were last taken.
    links: Mutex<Option<Vec<BrokerState>>>,
    oversize: Mutex<SizeErrors>,
    lost: AtomicU32,
    reads_uncommitted: bool,
    token_file: Option<FileName>,
}

/// Responses that were larger than the library accepts.
#[derive(Default)]
struct SizeErrors {
    last: Option<(Instant, String)>,
    seen: Option<Instant>,
    /// Whether one was seen since the last [`Context::take_oversize`].
    is_news: bool,
    /// How many responses were dropped, as of the last statistics.
    receive_errors: u64,
}

impl ClientContext for Context {
    // The library requests a token when the handle is created, and after four fifths of each token's lifetime. Polls of
    // the handle serve the request.
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _config: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        let Some(file) = &self.token_file else {
            return Err("no token_file is set".into());
        };
        let token = Token::read(file)?;
        debug!(
            "kafka: token read from {file}, valid until {}",
            units::Instant::seconds(token.until)
        );
        Ok(OAuthToken {
            lifetime_ms: token.until_millis(),
            // Only the broker knows the subject of an opaque token.
            principal_name: token.subject.unwrap_or_else(|| "kafka-sse-bridge".to_owned()),
            token: token.text,
        })
    }

    fn stats_raw(&self, statistics: &[u8]) {
        match serde_json::from_slice::<Statistics>(statistics) {
            Ok(statistics) => {
                if statistics.has_brokers() {
                    self.lost.store(0, Ordering::Relaxed);
                } else {
                    self.lost.fetch_add(1, Ordering::Relaxed);
                }
                self.note_receive_errors(statistics.receive_errors());
                *self.links.lock() = Some(statistics.broker_states());
                *self.ends.lock() = statistics.ends(self.reads_uncommitted);
            }
            Err(error) => debug!("librdkafka's statistics: {error}"),
        }
    }

    // The library repeats messages while a broker is down; the reader logs an outage once.
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        debug!(target: "librdkafka", "{facility}: {message}");
    }

    // The default logs the end of every partition as an error; `poll` returns the errors that matter.
    fn error(&self, error: RdKafkaError, reason: &str) {
        debug!("librdkafka: {error}: {reason}");
        if is_too_large(reason) {
            let mut oversize = self.oversize.lock();
            let now = Instant::now();
            oversize.last = Some((now, reason.to_owned()));
            (oversize.seen, oversize.is_news) = (Some(now), true);
        }
        if !error.rdkafka_error_code().is_some_and(names_no_cause) {
            *self.last.lock() = Some((Instant::now(), reason.to_owned()));
        }
    }
}

impl ConsumerContext for Context {}

impl Context {
    pub(super) fn new(reads_uncommitted: bool, token_file: Option<FileName>) -> Self {
        Self {
            reads_uncommitted,
            token_file,
            ..Self::default()
        }
    }

    pub(super) fn ends(&self) -> Vec<End> {
        std::mem::take(&mut *self.ends.lock())
    }

    pub(super) fn broker_states(&self) -> Option<Vec<BrokerState>> {
        self.links.lock().take()
    }

    /// The library repeats the error only every 30 seconds, but its statistics count every response.
    fn note_receive_errors(&self, count: u64) {
        let mut oversize = self.oversize.lock();
        let is_known = oversize
            .last
            .as_ref()
            .is_some_and(|(came, _)| came.elapsed() < OVERSIZE_LASTS);
        if is_known && count > oversize.receive_errors {
            (oversize.seen, oversize.is_news) = (Some(Instant::now()), true);
        }
        oversize.receive_errors = count;
    }

    /// Whether a response was larger than the library accepts, since the last call.
    pub(super) fn take_oversize(&self) -> bool {
        std::mem::take(&mut self.oversize.lock().is_news)
    }

    /// Whether a response was too large in the last [`OVERSIZE_EXPLAINS`], which explains other failures.
    pub(super) fn is_oversize(&self) -> bool {
        self.oversize
            .lock()
            .seen
            .is_some_and(|seen| seen.elapsed() < OVERSIZE_EXPLAINS)
    }

    pub(super) fn last_oversize(&self) -> Option<String> {
        let oversize = self.oversize.lock();
        oversize.last.as_ref().map(|(_, reason)| reason.clone())
    }

    /// Whether the library has dropped all brokers, and will never connect to one again.
    ///
    /// Metadata without brokers, as from a cluster that was frozen and has fenced all of them, makes the library drop
    /// every broker it knows. It then connects to the configured ones, unless that response arrives so late that it
    /// cancels the attempt (librdkafka issue 5301).
    pub(super) fn is_abandoned(&self) -> bool {
        self.lost.load(Ordering::Relaxed) >= ABANDONED
    }

    pub(super) fn cause(&self) -> Option<String> {
        let last = self.last.lock();
        let (_, cause) = last.as_ref().filter(|(came, _)| came.elapsed() < CAUSE_LASTS)?;
        Some(cause.clone())
    }
}

/// Whether an error does not explain why the transport fails: "all brokers down" follows from earlier errors, and
/// permissions do not concern the transport.
fn names_no_cause(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::AllBrokersDown
            | RDKafkaErrorCode::GroupAuthorizationFailed
            | RDKafkaErrorCode::TopicAuthorizationFailed
    )
}

fn is_too_large(reason: &str) -> bool {
    reason.contains("increase receive.message.max.bytes")
}

/// Runs the callbacks of an unassigned handle.
pub(super) fn serve(handle: &BaseConsumer<Context>) {
    for _ in 0..MAX_CAUSES {
        // `None` is also returned for an event that rdkafka handles by itself.
        let _ = handle.poll(Duration::ZERO);
    }
}
