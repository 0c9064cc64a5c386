//! The path prefix that a proxy passes through (`http.base_path`). Pure.

use http::Uri;
use http::uri::PathAndQuery;

/// The path prefix of all routes; may be empty.
#[derive(Debug)]
pub(super) struct BasePath(String);

#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotBelow {
    /// It is the prefix without its slash, which breaks relative links. Holds the path and query to redirect to.
    NoSlash(String),
    Outside,
}

impl BasePath {
    pub(super) const fn new(path: String) -> Self {
        Self(path)
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn strip(&self, uri: &mut Uri) -> Result<(), NotBelow> {
        if self.0.is_empty() {
            return Ok(());
        }
        let rest = uri.path().strip_prefix(&self.0).ok_or(NotBelow::Outside)?;
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        if rest.is_empty() {
            return Err(NotBelow::NoSlash(format!("{}/{query}", self.0)));
        }
        if !rest.starts_with('/') {
            return Err(NotBelow::Outside);
        }
        // The end of a path and query that begins with a slash is a path and query.
        let rest: PathAndQuery = format!("{rest}{query}").parse().map_err(|_| NotBelow::Outside)?;
        *uri = Uri::from(rest);
        Ok(())
    }
}

/// Folds repeated slashes of a path to one. Joining a base URL and a path with a slash each creates them, and only some
/// proxies fold them.
pub(super) fn fold_slashes(uri: &mut Uri) {
    if !uri.path().contains("//") {
        return;
    }
    let mut folded = String::with_capacity(uri.path().len());
    for character in uri.path().chars() {
        if character != '/' || !folded.ends_with('/') {
            folded.push(character);
        }
    }
    if let Some(query) = uri.query() {
        folded.push('?');
        folded.push_str(query);
    }
    // It was a path and query, and still is one.
    if let Ok(path) = folded.parse::<PathAndQuery>() {
        *uri = Uri::from(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strip(base: &str, path: &str) -> Result<String, NotBelow> {
        let mut uri: Uri = path.parse().expect("a path");
        BasePath::new(base.to_owned()).strip(&mut uri)?;
        Ok(uri.to_string())
    }

    #[test]
    fn a_path_below_the_base_path_is_stripped_with_its_query_kept() {
        for (base, path, stripped) in [
            ("", "/events?a=b", "/events?a=b"),
            ("/base", "/base/events?a=/base", "/events?a=/base"),
            ("/base", "/base/", "/"),
            ("/base", "/base/base/x", "/base/x"),
        ] {
            assert_eq!(strip(base, path).as_deref(), Ok(stripped), "{base} {path}");
        }
    }

    #[test]
    fn the_base_path_without_its_slash_is_redirected_with_its_query() {
        let redirected = |to: &str| Err(NotBelow::NoSlash(to.to_owned()));
        assert_eq!(strip("/base", "/base"), redirected("/base/"));
        assert_eq!(strip("/base", "/base?a=b"), redirected("/base/?a=b"));
    }

    #[test]
    fn a_path_that_only_resembles_the_base_path_is_outside() {
        for path in [
            "/",
            "/events",
            "/baseevents",
            "/Base/events",
            "/x/base/events",
            "*",
        ] {
            assert_eq!(strip("/base", path), Err(NotBelow::Outside), "{path}");
        }
    }

    #[test]
    fn repeated_slashes_of_a_path_are_folded_and_those_of_a_query_are_not() {
        for (path, folded) in [
            ("/events", "/events"),
            ("//events", "/events"),
            ("/base///events//?a=//b", "/base/events/?a=//b"),
            ("/events?a=//b", "/events?a=//b"),
        ] {
            let mut uri: Uri = path.parse().expect("a path");
            fold_slashes(&mut uri);
            assert_eq!(uri.to_string(), folded, "{path}");
        }
    }
}
