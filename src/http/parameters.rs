//! Query parameters that a stream does not know: which are ignored, and which are errors.
//!
//! Polyfills, cache busters and authenticating proxies add parameters to every URL, and an EventSource gives up for
//! good on a 400. A mistyped parameter is refused all the same, because it would open another stream than was meant.
//! Knows names only: a value may be a secret, and is never read here.

use super::error::{ApiError, ErrorCode};
use crate::config::suggest::nearest;

/// Ignored on every stream, by their exact names.
///
/// - Access tokens in URLs (RFC 6750, section 2.3), and other credentials for a proxy in front.
/// - Cache busters, of jQuery (`_`) and of application code.
/// - amvtek's EventSource polyfill (`evs_…`), and the padding of Yaffle's for old browsers. Their ids are not
///   ignored, see [`is_last_event_id`](crate::config::parameters::is_last_event_id).
const IGNORED: [&str; 22] = [
    "_",
    "_t",
    "_ts",
    "access_token",
    "api_key",
    "apikey",
    "cachebust",
    "cachebuster",
    "cb",
    "evs_buffer_size_limit",
    "evs_preamble",
    "id_token",
    "jwt",
    "no_cache",
    "nocache",
    "padding",
    "r",
    "rand",
    "random",
    "t",
    "token",
    "ts",
];

/// Longest name that is compared with known ones: comparing takes the product of both lengths.
const LONGEST_COMPARED: usize = 256;

/// The parameters of a stream, for messages.
const PARAMETERS: &str = "start, since, lastEventId, throttle, format, follow, limit, after, and the filters key, topic, partition, header.NAME and value.PATH";

/// Names that a wrong one may be meant for.
const WHOLE: [&str; 11] = [
    "start",
    "since",
    "lastEventId",
    "throttle",
    "format",
    "follow",
    "limit",
    "after",
    "key",
    "topic",
    "partition",
];

/// Parts before the dot that a wrong one may be meant for.
const PREFIXES: [&str; 2] = ["header", "value"];

/// Whether a name that a stream does not know is ignored, by the list above or by `http.ignored_parameters`.
pub(super) fn is_ignored(name: &str, ignored: &[String]) -> bool {
    IGNORED.contains(&name) || ignored.iter().any(|ignored| ignored == name)
}

/// The error for every other name.
pub(super) fn unknown(name: &str) -> ApiError {
    let advice = meant(name).map_or_else(
        || "known are".to_owned(),
        |meant| format!("did you mean {meant:?}? Known are"),
    );
    let message = format!(
        "{name:?} is not a parameter of a stream; {advice} {PARAMETERS}; where a proxy or a library adds it, name it in \
         http.ignored_parameters"
    );
    ApiError::parameter(ErrorCode::UnknownParameter, name, message)
}

/// The parameter that a wrong name resembles.
fn meant(name: &str) -> Option<String> {
    if name.len() > LONGEST_COMPARED {
        return None;
    }
    let lower = name.to_lowercase();
    let (head, rest) = lower.split_once('.').map_or((&*lower, None), |(head, _)| {
        (head, name.split_once('.').map(|parts| parts.1))
    });
    if let Some(prefix) = nearest(head, PREFIXES) {
        match rest {
            Some(rest) if !rest.is_empty() => return Some(format!("{prefix}.{rest}")),
            // Other names are nearer to a whole one.
            None if head != prefix && nearest(head, WHOLE).is_some() => {}
            _ => {
                let example = if prefix == "header" { "NAME" } else { "PATH" };
                return Some(format!("{prefix}.{example}"));
            }
        }
    }
    let whole = nearest(&lower, WHOLE.iter().copied());
    whole.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_name_is_taken_for_the_one_that_it_resembles() {
        for (name, resembled) in [
            ("strat", Some("start")),
            ("Since", Some("since")),
            ("headers.User-Id", Some("header.User-Id")),
            ("vlaue.a", Some("value.a")),
            ("value", Some("value.PATH")),
            ("utm_source", None),
        ] {
            assert_eq!(meant(name).as_deref(), resembled, "{name}");
        }
    }
}
