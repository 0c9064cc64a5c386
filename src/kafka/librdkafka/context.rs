//! librdkafka's callbacks: causes of errors, statistics, and requests for a token.

use std::error::Error;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use log::debug;
use parking_lot::{Mutex, MutexGuard};
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError as RdKafkaError, RDKafkaErrorCode};

use super::statistics::Statistics;
use crate::config::{FileName, units};
use crate::kafka::lag::End;
use crate::kafka::reader_status::BrokerState;
use crate::kafka::token::Token;

/// Events of one handle that are served at a time.
pub(super) const MAX_CAUSES: usize = 64;

/// How long an error of the transport explains failures: the library repeats the same one this often.
const CAUSE_LASTS: Duration = Duration::from_secs(30);

/// The same for responses that are too large, with a margin: statistics count further ones every two seconds.
const OVERSIZE_LASTS: Duration = Duration::from_secs(45);

/// How long such an answer explains what else goes wrong: requests on the same connection fail with it.
const OVERSIZE_EXPLAINS: Duration = Duration::from_secs(5);

/// How often in a row the library must say that it knows no broker: between two that it exchanges, it may say
/// it once.
const ABANDONED: u32 = 2;

/// The state that callbacks leave for the thread of the handle.
#[derive(Default)]
pub(super) struct Context {
    /// The last error of the transport, and when it came: it has the cause that answers lack.
    last: Mutex<Option<(Instant, String)>>,
    /// Ends of partitions that are news.
    ends: Mutex<Vec<End>>,
    /// Connections, where there is news.
    links: Mutex<Option<Vec<BrokerState>>>,
    /// Answers that were too large.
    oversize: Mutex<SizeErrors>,
    /// How often in a row it has said that it knows no broker.
    lost: AtomicU32,
    /// Whether uncommitted records are read.
    reads_uncommitted: bool,
    /// Where the token is, if there is one.
    token_file: Option<FileName>,
}

/// Responses that were larger than the library accepts.
#[derive(Default)]
struct SizeErrors {
    /// The last such error, and when it came.
    last: Option<(Instant, String)>,
    /// When the last one was seen.
    seen: Option<Instant>,
    /// Whether that is news.
    is_news: bool,
    /// How many answers were not taken, as of the last statistics.
    receive_errors: u64,
}

impl ClientContext for Context {
    // Requested when the handle is created, and again after four fifths of a token's lifetime; served by polls of the
    // handle.
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

    // The library repeats itself while a broker is down; the reader logs it once.
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        debug!(target: "librdkafka", "{facility}: {message}");
    }

    // The default logs the end of every partition as an error; what matters comes out of `poll`.
    fn error(&self, error: RdKafkaError, reason: &str) {
        debug!("librdkafka: {error}: {reason}");
        if is_too_large(reason) {
            let mut oversize = self.oversize();
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
    /// For a handle that reads uncommitted records or not, with this token, if any.
    pub(super) fn new(reads_uncommitted: bool, token_file: Option<FileName>) -> Self {
        Self {
            reads_uncommitted,
            token_file,
            ..Self::default()
        }
    }

    /// Ends of partitions that are news.
    pub(super) fn ends(&self) -> Vec<End> {
        std::mem::take(&mut *self.ends.lock())
    }

    /// Connections, where there is news.
    pub(super) fn broker_states(&self) -> Option<Vec<BrokerState>> {
        self.links.lock().take()
    }

    fn oversize(&self) -> MutexGuard<'_, SizeErrors> {
        self.oversize.lock()
    }

    /// The library repeats the error every 30 seconds only; its statistics count every response.
    fn note_receive_errors(&self, count: u64) {
        let mut oversize = self.oversize();
        let is_known = oversize
            .last
            .as_ref()
            .is_some_and(|(came, _)| came.elapsed() < OVERSIZE_LASTS);
        if is_known && count > oversize.receive_errors {
            (oversize.seen, oversize.is_news) = (Some(Instant::now()), true);
        }
        oversize.receive_errors = count;
    }

    /// Whether an answer was larger than the library takes, since the last call.
    pub(super) fn take_oversize(&self) -> bool {
        std::mem::take(&mut self.oversize().is_news)
    }

    /// Whether answers are too large now, as far as it was heard: what goes wrong meanwhile follows from that.
    pub(super) fn is_oversize(&self) -> bool {
        self.oversize()
            .seen
            .is_some_and(|seen| seen.elapsed() < OVERSIZE_EXPLAINS)
    }

    /// The library's text for the last such response.
    pub(super) fn last_oversize(&self) -> Option<String> {
        let oversize = self.oversize();
        oversize.last.as_ref().map(|(_, reason)| reason.clone())
    }

    /// Whether the library has no broker left, and will ask none ever again.
    ///
    /// An answer that names no broker, as of a cluster that counts itself out after a frost, makes it drop
    /// all it knows; it begins again with those of its settings, unless that very answer arrives late enough
    /// to cancel the beginning (librdkafka issue 5301).
    pub(super) fn is_abandoned(&self) -> bool {
        self.lost.load(Ordering::Relaxed) >= ABANDONED
    }

    /// Why the transport fails, if it has said so lately.
    pub(super) fn cause(&self) -> Option<String> {
        let last = self.last.lock();
        let (_, cause) = last.as_ref().filter(|(came, _)| came.elapsed() < CAUSE_LASTS)?;
        Some(cause.clone())
    }
}

/// Errors that do not explain why the transport fails: that all brokers are down follows from what went
/// before, and rights are no matter of the transport.
fn names_no_cause(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::AllBrokersDown
            | RDKafkaErrorCode::GroupAuthorizationFailed
            | RDKafkaErrorCode::TopicAuthorizationFailed
    )
}

/// Whether the library says that an answer is larger than it takes.
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
