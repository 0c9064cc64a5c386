//! The response to a path that is not served: it names the path that was probably meant.
//!
//! Only paths that the listener serves are named. A path is compared as text; nothing here opens or redirects to one.

use std::borrow::Cow;

use http::StatusCode;
use percent_encoding::percent_decode_str;

use super::error::{ApiError, ErrorCode};
use super::exposure::Surface;
use super::state::AppState;
use crate::config::exposure::Exposed;

/// Paths that are served beside streams and files of the page.
const OWN: [(&str, Exposed); 7] = [
    ("/about", Exposed::About),
    // If it is not exposed, the reduced form is.
    ("/streams", Exposed::Streams),
    ("/metrics", Exposed::Metrics),
    ("/health/live", Exposed::Health),
    ("/health/ready", Exposed::Health),
    ("/openapi.json", Exposed::Descriptions),
    ("/asyncapi.json", Exposed::Descriptions),
];

/// The page.
const PAGE: &str = "/";

/// Most bytes of a letter in UTF-8.
const MOST_BYTES: usize = 4;

/// Letters of a path for each that may be wrong.
const LETTERS_PER_MISTAKE: usize = 5;

/// The error for a whole path, as the request has it.
pub(super) fn error(state: &AppState, surface: Surface, path: &str) -> ApiError {
    let base = &surface.base_path(state);
    let meant = nearest(state, surface, base, path).map(|meant| format!("did you mean {meant}?"));
    let is_inside = path.strip_prefix(base).is_some_and(|rest| rest.starts_with('/'));
    let where_else = match (is_inside, &meant) {
        (true, _) if !surface.serves(state, Exposed::About) => None,
        (true, _) => Some(format!("{base}/about lists what is")),
        (false, None) => Some(format!("everything is below {base}/")),
        (false, Some(_)) => Some(format!("Everything is below {base}/")),
    };
    let hints: Vec<String> = meant.into_iter().chain(where_else).collect();
    let gap = if hints.is_empty() { "" } else { "; " };
    let message = format!("nothing is served at {path}{gap}{}", hints.join(" "));
    ApiError::new(StatusCode::NOT_FOUND, ErrorCode::NotFound, message)
}

/// The answer where `ui.assets` holds no page.
pub(super) fn no_page(state: &AppState, surface: Surface) -> ApiError {
    let base = surface.base_path(state);
    let listed = if surface.serves(state, Exposed::About) {
        format!("; {base}/about lists all paths")
    } else {
        String::new()
    };
    let message =
        format!("no page at {base}/: the directory in ui.assets has no readable index.html{listed}");
    ApiError::new(StatusCode::NOT_FOUND, ErrorCode::NotFound, message)
}

/// The path that is served and differs least, if it differs little: by its case, by slashes at its end, by escapes that
/// it does not need, by the base path that it lacks, or by a letter here and there.
fn nearest(state: &AppState, surface: Surface, base: &str, path: &str) -> Option<String> {
    let plain = plain(path);
    // A copy, because what follows asks for the state again.
    let streams = state.shown().streams.clone();
    let inside = path.strip_prefix(base).unwrap_or(path);
    let is_public = surface == Surface::Public;
    let streams = streams.iter().filter(|_| is_public).filter_map(|stream| {
        let path = &stream.settings().path;
        let Some(template) = stream.path_template() else {
            return Some((Cow::Borrowed(path.as_str()), path.len()));
        };
        // With the values of the request, of which no letter may be wrong.
        let inside = inside.trim_end_matches('/');
        let filled = template.with_values_of(inside)?;
        Some((Cow::Owned(filled), path.len()))
    });
    let is_served = |route| route == Exposed::Streams || surface.serves(state, route);
    let own = OWN.into_iter().filter(|(_, route)| is_served(*route));
    let own = own.map(|(path, _)| path).chain(is_public.then_some(PAGE));
    let own = own.map(|path| (Cow::Borrowed(path), path.len()));
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
