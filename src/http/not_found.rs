//! The response to a path that is not served: it names the path that was probably meant.
//!
//! `/about` lists these paths anyway. A path is compared as text; nothing here opens or redirects to one.

use std::borrow::Cow;

use http::StatusCode;
use percent_encoding::percent_decode_str;

use super::error::ApiError;
use super::state::AppState;

/// Paths that are served beside streams and files of the page.
const OWN: [&str; 8] = [
    "/",
    "/about",
    "/streams",
    "/metrics",
    "/health/live",
    "/health/ready",
    "/openapi.json",
    "/asyncapi.json",
];

/// Most bytes of a letter in UTF-8.
const MOST_BYTES: usize = 4;

/// Letters of a path for each that may be wrong.
const LETTERS_PER_MISTAKE: usize = 5;

/// The error for a whole path, as the request has it.
pub(super) fn error(state: &AppState, path: &str) -> ApiError {
    let requests = state.requests();
    let base = requests.base_path.as_str();
    let meant = nearest(state, base, path).map(|meant| format!("did you mean {meant}? "));
    let is_inside = path.strip_prefix(base).is_some_and(|rest| rest.starts_with('/'));
    let where_else = match (is_inside, &meant) {
        (true, _) => format!("{base}/about lists what is"),
        (false, None) => format!("everything is below {base}/"),
        (false, Some(_)) => format!("Everything is below {base}/"),
    };
    let message = format!(
        "nothing is served at {path}; {}{where_else}",
        meant.unwrap_or_default()
    );
    ApiError::new(StatusCode::NOT_FOUND, "not_found", message)
}

/// The answer where `ui.assets` holds no page.
pub(super) fn no_page(state: &AppState) -> ApiError {
    let requests = state.requests();
    let base = requests.base_path.as_str();
    let message = format!(
        "no page at {base}/: the directory in ui.assets has no readable index.html; {base}/about lists all paths"
    );
    ApiError::new(StatusCode::NOT_FOUND, "not_found", message)
}

/// The path that is served and differs least, if it differs little: by its case, by slashes at its end, by escapes that
/// it does not need, by the base path that it lacks, or by a letter here and there.
fn nearest(state: &AppState, base: &str, path: &str) -> Option<String> {
    let plain = plain(path);
    let shown = state.shown();
    let inside = path.strip_prefix(base).unwrap_or(path);
    let streams = shown.streams.iter().filter_map(|stream| {
        let path = &stream.settings().path;
        let Some(parameters) = stream.path_parameters() else {
            return Some((Cow::Borrowed(path.as_str()), path.len()));
        };
        // With the values of the request, of which no letter may be wrong.
        let inside = inside.trim_end_matches('/');
        let filled = parameters.template().with_values_of(inside)?;
        Some((Cow::Owned(filled), path.len()))
    });
    let own = OWN.map(|path| (Cow::Borrowed(path), path.len()));
    let rated = streams.chain(own).filter_map(|(served, length)| {
        let whole = format!("{base}{served}");
        // A template that matches the request does not serve it: that is a literal path with needless escapes.
        if whole == path {
            return None;
        }
        let most = length.saturating_sub(1) / LETTERS_PER_MISTAKE;
        let distances = [&*whole, &*served].map(|served| distance(&plain, &self::plain(served), most));
        let distance = distances.into_iter().flatten().min()?;
        Some((distance, whole))
    });
    rated
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, whole)| whole)
}

/// How many letters differ, if no more than `most`. Texts whose lengths differ by more are not compared: comparing takes
/// the product of both lengths, and a client may ask for any path.
fn distance(one: &str, other: &str, most: usize) -> Option<usize> {
    let is_possible = one.len().abs_diff(other.len()) <= most * MOST_BYTES;
    is_possible
        .then(|| strsim::osa_distance(one, other))
        .filter(|distance| *distance <= most)
}

fn plain(path: &str) -> String {
    let decoded = percent_decode_str(path).decode_utf8_lossy().to_lowercase();
    match decoded.trim_end_matches('/') {
        "" => "/".to_owned(),
        trimmed => trimmed.to_owned(),
    }
}
