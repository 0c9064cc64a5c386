//! The table of a stream as one JSON document: `{"position":"…","rows":[…]}`.
//!
//! It is written while it is sent, so a large table takes no more memory than a piece of it.

use std::future::poll_fn;
use std::io::{self, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, RETRY_AFTER, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use log::{debug, warn};
use parking_lot::Mutex;
use warp::reply::{Reply, Response};

use super::accept;
use super::error::{ApiError, ErrorCode};
use super::limits::Permit;
use super::ndjson::{write_json, write_known_json};
use crate::config::memory::MOST_COMPRESSORS;
use crate::logging::Seldom;
use crate::sse::write;
use crate::stream::Stream;
use crate::stream::access::Access;
use crate::stream::document::{Document, Rows};
use crate::stream::pieces;
use crate::stream::position::Position;
use crate::stream::start_position::Opening;

/// Admits a line about a document that was cut off, every ten seconds at most.
static CUT_LOG: Mutex<Seldom> = Mutex::new(Seldom::new(Duration::from_secs(10)));

pub(super) const MEDIA_TYPE: &str = "application/json";

/// Between the position of a page's last row and that of the first page, in `after`. Neither contains it, and it needs no
/// escape in a URL (RFC 3986, section 2.3).
const SEPARATOR: char = '~';

/// Seconds after which a client may ask again for a table that is not loaded.
const LOADING: u64 = 5;

/// The compressors in use.
static COMPRESSORS: AtomicUsize = AtomicUsize::new(0);

/// Most bytes of rows that are examined in vain before other tasks have their turn.
const PIECE: usize = 64 * 1024;

/// Most bytes of a document that are written before other tasks have their turn: a client that reads as fast as they come
/// would hold up the deliveries of all streams.
const TURN: usize = 256 * 1024;

/// How long nothing is sent while rows are examined that the filter does not pass. A client that is gone is noticed when
/// something is sent.
const LONGEST_SILENCE: Duration = Duration::from_secs(1);

/// Bytes that can be written in the time that compressing one takes.
const COST_OF_COMPRESSING: usize = 16;

/// The part of the table that a client asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Page {
    limit: Option<usize>,
    after: Option<After>,
}

/// Where a page begins.
#[derive(Debug, Clone, PartialEq, Eq)]
struct After {
    /// The position of the last row of the page before.
    row: Position,
    /// The position of the first page, and its id.
    first: (Position, String),
}

impl Page {
    /// `limit` in rows; `after` is the `next` of another page.
    ///
    /// # Errors
    /// When `after` is none.
    pub(super) fn new(limit: Option<usize>, after: Option<&str>) -> Result<Self, ApiError> {
        let parse = |text: &str| {
            let (row, first) = text.split_once(SEPARATOR)?;
            Some(After {
                row: Position::parse(row.as_bytes()).ok()?,
                first: (Position::parse(first.as_bytes()).ok()?, first.to_owned()),
            })
        };
        let after =
            after.map(|text| parse(text).ok_or_else(|| bad_after(text, "it is not the \"next\" of a page")));
        Ok(Self {
            limit,
            after: after.transpose()?,
        })
    }
}

fn bad_after(text: &str, why: &str) -> ApiError {
    let message = format!("invalid after {text:?}: {why}; begin with the first page");
    ApiError::parameter(ErrorCode::BadAfter, "after", message)
}

/// Answers with a page of the table, or with 304 if the client has it. `admit` gives the permit for the time of sending.
///
/// # Errors
/// When the table is not loaded, or the request is invalid.
pub(super) async fn answer(
    stream: &Arc<Stream>,
    page: Page,
    opening: Opening,
    method: &Method,
    headers: &HeaderMap,
    permit: Permit,
) -> Result<Response, ApiError> {
    for (name, is_given) in [
        ("start", opening.start.is_some()),
        ("since", opening.since.is_some()),
        ("throttle", opening.throttle.is_some()),
    ] {
        if is_given {
            let message = format!("{name:?} does not belong to format=json: it is the table as it is now");
            return Err(ApiError::parameter(ErrorCode::BadFormat, name, message));
        }
    }
    let (after, first) = page.after.map(|after| (after.row, after.first)).unzip();
    let after = after.zip(first.as_ref().map(|(position, _)| position));
    let document = stream.document(&opening, after, page.limit).map_err(|error| {
        let id = first.as_ref().map_or("", |(_, id)| id);
        bad_after(id, &error.to_string())
    })?;
    let Some(document) = document else {
        return Ok(not_loaded());
    };
    let id = poll_fn(|context| document.poll_id(context.waker()).map(Bytes::clone)).await;
    let etag = etag(stream, &opening, &id, document.fingerprint());
    let is_known = accept::if_none_match(headers, &etag);
    let mut is_gzip = accept::gzip(headers);
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else if method == Method::HEAD {
        warp::reply().into_response()
    } else {
        let position = first.map_or_else(|| String::from_utf8_lossy(&id).into_owned(), |(_, id)| id);
        let gzip = is_gzip.then(Compressor::begin).flatten();
        is_gzip = gzip.is_some();
        let body = Body::new(document, position, gzip, permit, opening.access.clone());
        warp::reply::stream(body).into_response()
    };
    let headers = response.headers_mut();
    if !is_known {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if is_gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
    }
    if let Ok(etag) = HeaderValue::try_from(etag) {
        headers.insert(ETAG, etag);
    }
    // Caches may keep it, and ask whether it is still right; those of several clients may not where it is for one.
    let (cache_control, vary) = if opening.access.is_some() {
        (
            "private, no-cache",
            "accept, accept-encoding, authorization, cookie",
        )
    } else {
        ("no-cache", "accept, accept-encoding")
    };
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache_control));
    headers.insert(VARY, HeaderValue::from_static(vary));
    Ok(response)
}

fn not_loaded() -> Response {
    let error = ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::NotLoaded,
        "the topics of this stream are still being read; retry later",
    );
    let mut response = error.into_response();
    response.headers_mut().insert(RETRY_AFTER, LOADING.into());
    response
}

/// The tag of the document at a position. Weak (RFC 9110, section 8.8.1), because replicas may have rows in another
/// order. The time up to which deletes are known moves on without any change. Rows can change without the position:
/// lower bounds evict rows, and after a restart records may be gone that retention has deleted.
/// Where the client decides which rows are shown, so does it decide the tag.
fn etag(stream: &Stream, opening: &Opening, id: &[u8], fingerprint: u64) -> String {
    let position = Position {
        as_of: None,
        ..Position::parse(id).unwrap_or_default()
    };
    // Other settings show other rows.
    let mut shown = serde_json::to_vec(stream.settings()).unwrap_or_default();
    if opening.access.is_some()
        && let Some(filter) = stream.filter_of(opening)
    {
        shown.extend(format!("{filter:?}").into_bytes());
    }
    format!(
        "W/\"{}-{:08x}-{fingerprint:016x}\"",
        String::from_utf8_lossy(&position.id()),
        crc32fast::hash(&shown)
    )
}

/// The body of a document.
struct Body {
    document: Document,
    first: String,
    stage: Stage,
    has_rows: bool,
    /// The data of a row that has several lines of it.
    joined: Vec<u8>,
    gzip: Option<Compressor>,
    /// Bytes written in this turn.
    spent: usize,
    /// When something was sent.
    sent: Instant,
    /// Counts the client until everything is sent.
    _permit: Permit,
    /// The right of the client.
    access: Option<Access>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Head,
    Rows,
    Over,
}

impl Body {
    fn new(
        document: Document,
        first: String,
        gzip: Option<Compressor>,
        permit: Permit,
        access: Option<Access>,
    ) -> Self {
        Self {
            document,
            first,
            stage: Stage::Head,
            has_rows: false,
            joined: Vec::new(),
            gzip,
            spent: 0,
            sent: Instant::now(),
            _permit: permit,
            access,
        }
    }

    /// Appends the next part of the document. Returns whether there may be more.
    fn write(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        if self.stage == Stage::Head {
            self.stage = Stage::Rows;
            out.extend_from_slice(b"{\"position\":");
            serde_json::to_writer(&mut *out, &self.first)?;
            out.extend_from_slice(b",\"rows\":[");
        }
        let (has_rows, joined) = (&mut self.has_rows, &mut self.joined);
        let write_data = if self.document.is_always_json() {
            write_known_json
        } else {
            write_json
        };
        let rows = self.document.read(pieces::next_size(), |frame| {
            out.extend_from_slice(if std::mem::replace(has_rows, true) {
                b",\n"
            } else {
                b"\n"
            });
            write_data(out, write::payload(frame, joined));
        });
        match rows {
            Rows::More => {}
            Rows::Last(next) => {
                self.stage = Stage::Over;
                out.extend_from_slice(b"\n]");
                if let Some(next) = next {
                    let next = format!("{}{SEPARATOR}{}", String::from_utf8_lossy(&next), self.first);
                    out.extend_from_slice(b",\"next\":");
                    serde_json::to_writer(&mut *out, &next)?;
                }
                out.extend_from_slice(b"}\n");
            }
            Rows::Void => {
                self.stage = Stage::Over;
                return Err(io::Error::other(
                    "the table has changed too much since the document was begun",
                ));
            }
        }
        Ok(())
    }

    /// The bytes to send of a part; none while the compressor keeps them, or while no row is shown.
    fn compress(&mut self, mut part: Vec<u8>) -> io::Result<Vec<u8>> {
        // Many parts are compressed to one.
        let now = Instant::now();
        let is_late = now.duration_since(self.sent) >= LONGEST_SILENCE;
        if part.is_empty() && is_late {
            // Space between rows.
            part.push(b'\n');
        }
        let bytes = match &mut self.gzip {
            Some(gzip) => gzip.compress(&part, is_late, self.stage == Stage::Over)?,
            None => part,
        };
        if !bytes.is_empty() {
            self.sent = now;
        }
        Ok(bytes)
    }
}

/// Compresses one document.
struct Compressor(GzEncoder<Vec<u8>>);

impl Compressor {
    /// One more compressor, unless as many as may be are in use.
    fn begin() -> Option<Self> {
        let more = |used| (used < MOST_COMPRESSORS).then_some(used + 1);
        COMPRESSORS
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()?;
        // The fastest: a document is compressed for one client.
        Some(Self(GzEncoder::new(Vec::new(), Compression::fast())))
    }

    fn compress(&mut self, part: &[u8], is_due: bool, is_last: bool) -> io::Result<Vec<u8>> {
        self.0.write_all(part)?;
        if is_due && self.0.get_ref().is_empty() {
            self.0.flush()?;
        }
        if is_last {
            self.0.try_finish()?;
        }
        Ok(std::mem::take(self.0.get_mut()))
    }
}

impl Drop for Compressor {
    fn drop(&mut self) {
        COMPRESSORS.fetch_sub(1, Ordering::Relaxed);
    }
}

impl futures_core::Stream for Body {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.stage == Stage::Over {
            return Poll::Ready(None);
        }
        if this.spent >= TURN {
            this.spent = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let path = this.document.path();
        if let Some(access) = &this.access
            && !access.holds(path, Instant::now())
        {
            debug!("stream {path}: a document was cut off: its client's token has ended");
            return Poll::Ready(Some(Err(io::Error::other("the token of the client has ended"))));
        }
        let mut part = Vec::with_capacity(PIECE);
        let written = this.write(&mut part);
        let cost = if this.gzip.is_some() {
            COST_OF_COMPRESSING
        } else {
            1
        };
        this.spent += part.len() * cost;
        let written = written.and_then(|()| this.compress(part));
        match written {
            Ok(bytes) if bytes.is_empty() => {
                // Others have their turn before more rows are examined.
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Ok(bytes) => Poll::Ready(Some(Ok(pieces::count(bytes)))),
            Err(error) => {
                if let Some(held_back) = CUT_LOG.lock().admit() {
                    warn!(
                        "stream {}: a document was cut off: {error}{held_back}",
                        this.document.path()
                    );
                }
                Poll::Ready(Some(Err(error)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_documents_are_compressed_at_once() {
        let mut all: Vec<_> = std::iter::repeat_with(Compressor::begin)
            .take(MOST_COMPRESSORS)
            .collect();
        assert!(all.iter().all(Option::is_some));
        assert!(Compressor::begin().is_none());
        all.pop();
        assert!(Compressor::begin().is_some());
    }
}
