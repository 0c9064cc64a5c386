//! Parses the query and the `Last-Event-ID` of a request for a stream.
//!
//! Knows the names of parameters and what a stream's settings forbid; `stream` decides where reading starts.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderMap;
use percent_encoding::percent_decode_str;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::error::{ApiError, ErrorCode};
use super::form::{Form, Parameters};
use super::parameters::unknown;
use crate::config::Start;
use crate::config::filter::{BASE64, Filter, Name};
use crate::config::parameters::is_last_event_id;
use crate::config::projection::Projection;
use crate::config::units::{Span, other_unit};
use crate::config::validate::LONGEST_THROTTLE;
use crate::stream::Stream;
use crate::stream::start_position::Opening;

/// The end of errors about a Kafka client that supports neither times nor headers.
const LACKING: &str =
    "which the Kafka client in use does not support; set client = \"librdkafka\" in [kafka]";

/// The query of a request for a stream.
#[derive(Debug)]
pub(super) struct StreamQuery {
    /// Where it begins, and its filter.
    pub(super) opening: Opening,
    /// The form of the response.
    pub(super) form: Form,
}

/// The start, the filter and the form that the client asks for. The `Last-Event-ID` header, which EventSource sends by
/// itself, takes precedence over the query, which is all that its first connection can use. `is_ignored` says
/// of unknown parameters whether they are passed over.
pub(super) fn parse(
    query: &str,
    is_ignored: &dyn Fn(&str) -> bool,
    headers: &HeaderMap,
    stream: &Stream,
) -> Result<StreamQuery, ApiError> {
    let mut opening = Opening::default();
    let mut parameters = Parameters::default();
    let mut filter = Filter::default();
    // Parsing replaces what is not UTF-8, and passes over the same empty parts.
    let written = query.split('&').filter(|part| !part.is_empty());
    for (written, (name, value)) in written.zip(form_urlencoded::parse(query.as_bytes())) {
        match &*name {
            "start" if opening.start.is_some() => return Err(twice(ErrorCode::BadStart, "start")),
            "start" => opening.start = Some(start(&value, stream)?),
            "since" if opening.since.is_some() => return Err(twice(ErrorCode::BadSince, "since")),
            "since" => opening.since = Some(since(&value, stream)?),
            "throttle" if opening.throttle.is_some() => {
                return Err(twice(ErrorCode::BadThrottle, "throttle"));
            }
            "throttle" => opening.throttle = Some(throttle(&value, stream)?),
            "sample" => return Err(sample(stream)),
            name if is_last_event_id(name) => {
                // Of several the last counts, unless it is empty.
                if !value.is_empty() {
                    opening.last_event_id = Some(value.into_owned());
                }
            }
            name if parameters.take(name, &value)? => {}
            other => add_term(&mut filter, (other, &value), written, is_ignored, stream)?,
        }
    }
    if !filter.is_empty() {
        opening.filter = Some(filter);
    }
    let mut ids = headers.get_all("last-event-id").iter();
    if let Some(id) = ids.rfind(|id| !id.is_empty()) {
        opening.last_event_id = Some(String::from_utf8_lossy(id.as_bytes()).into_owned());
    }
    let form = parameters.form(headers, stream.settings().has_table())?;
    Ok(StreamQuery { opening, form })
}

fn twice(code: ErrorCode, parameter: &str) -> ApiError {
    let message = format!("duplicate query parameter {parameter:?}; keep one of them");
    ApiError::parameter(code, parameter, message)
}

fn start(word: &str, stream: &Stream) -> Result<Start, ApiError> {
    let has_table = stream.settings().has_table();
    match word {
        "live" => Ok(Start::Live),
        "earliest" => Ok(Start::Earliest),
        "snapshot" if has_table => Ok(Start::Snapshot),
        "snapshot" => {
            let message =
                "invalid start \"snapshot\": this stream has no table; expected \"live\" or \"earliest\"";
            Err(ApiError::parameter(ErrorCode::BadStart, "start", message))
        }
        other => {
            let snapshot = if has_table { "\"snapshot\", " } else { "" };
            let message = format!("invalid start {other:?}: expected {snapshot}\"live\" or \"earliest\"");
            Err(ApiError::parameter(ErrorCode::BadStart, "start", message))
        }
    }
}

/// The shortest time between two values of a key.
fn throttle(text: &str, stream: &Stream) -> Result<Duration, ApiError> {
    let bad = |message: String| ApiError::parameter(ErrorCode::BadThrottle, "throttle", message);
    if !stream.settings().has_table() {
        return Err(bad(
            "this stream has no table, so there is no latest value of a key to wait for, and to leave out records would \
             lose them; only streams with start = \"snapshot\" can be throttled"
                .to_owned(),
        ));
    }
    let interval: Span = text.parse().map_err(bad)?;
    if interval > LONGEST_THROTTLE {
        return Err(bad(format!(
            "invalid throttle {text:?}: at most {LONGEST_THROTTLE}"
        )));
    }
    Ok(interval.0)
}

/// Sampling is not offered: it would leave out the last value of a key.
fn sample(stream: &Stream) -> ApiError {
    let remedy = if stream.settings().has_table() {
        "use \"throttle\", which always ends with the latest value of each key"
    } else {
        "read all records, or ask for a stream that keeps a table and use \"throttle\" there"
    };
    let message = format!("\"sample\" would lose records without saying which; {remedy}");
    ApiError::parameter(ErrorCode::BadSample, "sample", message)
}

fn since(text: &str, stream: &Stream) -> Result<i64, ApiError> {
    let bad = |message: String| ApiError::parameter(ErrorCode::BadSince, "since", message);
    if stream.lacks_times_and_headers() {
        return Err(bad(format!("\"since\" needs the time index of Kafka, {LACKING}")));
    }
    let since = instant(text, SystemTime::now()).ok_or_else(|| {
        bad(format!(
            "invalid since {text:?}: expected RFC 3339 such as 2026-11-25T09:30:00Z, epoch milliseconds, or a duration such \
             as 15m"
        ))
    })?;
    match other_unit(since) {
        Some((unit, meant)) if is_number(text) => Err(bad(format!(
            "{text} is a time in {unit}; write it in milliseconds, {meant}"
        ))),
        _ => Ok(since),
    }
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// An instant in milliseconds since the epoch, written as RFC 3339, as milliseconds, or as a duration before `now`. `now`
/// is rounded down to seconds, so that clients that ask at the same time can share a replay.
fn instant(text: &str, now: SystemTime) -> Option<i64> {
    if is_number(text) {
        return text.parse().ok();
    }
    if let Ok(ago) = humantime::parse_duration(text) {
        let now = now.duration_since(UNIX_EPOCH).ok()?.as_secs();
        return i64::try_from(now.saturating_sub(ago.as_secs()).checked_mul(1000)?).ok();
    }
    // A plus in a query that was not escaped is a space when it gets here.
    let text = text.replace(' ', "+");
    let instant = OffsetDateTime::parse(&text, &Rfc3339).ok()?;
    let milliseconds = instant.unix_timestamp_nanos().div_euclid(1_000_000);
    i64::try_from(milliseconds).ok().filter(|instant| *instant >= 0)
}

fn add_term(
    filter: &mut Filter,
    (parameter, value): (&str, &str),
    written: &str,
    is_ignored: &dyn Fn(&str) -> bool,
    stream: &Stream,
) -> Result<(), ApiError> {
    let settings = stream.settings();
    let bad = |message: String| ApiError::parameter(ErrorCode::BadFilter, parameter, message);
    let Some(name) = Name::parse(parameter).map_err(|error| bad(error.to_string()))? else {
        return if is_ignored(parameter) {
            Ok(())
        } else {
            Err(unknown(parameter))
        };
    };
    if !stream.live_settings().client_filters {
        let message = format!("this stream does not allow client filters; remove {parameter:?}");
        return Err(ApiError::forbidden(
            ErrorCode::FiltersForbidden,
            parameter,
            message,
        ));
    }
    if let Name::Value(path) = &name
        && Projection::of(settings).is_some_and(|projection| !projection.shows(path))
    {
        let message =
            format!("this stream does not show what {parameter:?} compares; filter by what its events have");
        return Err(ApiError::forbidden(ErrorCode::HiddenValue, parameter, message));
    }
    if percent_decode_str(written).decode_utf8().is_err() {
        return Err(bad(format!(
            "{parameter:?} is not UTF-8 after its escapes are decoded; for a key that is not text write its bytes in base64, \
             as key={BASE64}..."
        )));
    }
    if matches!(name, Name::Header(_)) && stream.lacks_times_and_headers() {
        return Err(bad(format!("{parameter:?} needs headers, {LACKING}")));
    }
    filter
        .add(name, value, &settings.topics)
        .map_err(|error| bad(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_rfc_3339_or_epoch_milliseconds_or_a_duration_before_now() {
        let now = UNIX_EPOCH + Duration::from_millis(1_000_000_999);
        for (text, milliseconds) in [
            ("0", Some(0)),
            ("1764063000123", Some(1_764_063_000_123)),
            ("15m", Some(999_100_000)),
            ("1day", Some(913_600_000)),
            // Longer ago than the epoch.
            ("1000000years", Some(0)),
            ("1970-01-01T00:00:01Z", Some(1_000)),
            // A plus that was not escaped.
            ("1970-01-01T02:00:01.5 02:00", Some(1_500)),
            ("1969-12-31T23:59:59Z", None),
            ("1970-01-01", None),
            ("-1", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(instant(text, now), milliseconds, "{text:?}");
        }
    }
}
