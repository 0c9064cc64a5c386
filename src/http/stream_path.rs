//! The stream that a path names, and the values of the path's parameters.
//!
//! A literal path takes precedence over one with parameters, however the request escapes it: a proxy that removes escapes
//! before it decides which clients may read it must not decide about another stream.

use std::sync::Arc;

use super::error::{ApiError, ErrorCode};
use crate::config::path_parameters::{BadValue, PathValues};
use crate::stream::Stream;

/// A stream, as a request names it.
pub(super) struct FoundStream {
    pub(super) stream: Arc<Stream>,
    /// The values of the parameters, where its path has any. An error is one of a parameter that cannot have its value;
    /// it is for clients that may read the stream.
    pub(super) path_values: Result<Option<PathValues>, ApiError>,
}

/// The stream at a path; `None` where there is none.
pub(super) fn find(streams: &[Arc<Stream>], path: &str) -> Option<FoundStream> {
    let literal = |path: &str| {
        let mut literal = streams.iter().filter(|stream| stream.path_template().is_none());
        literal.find(|stream| stream.settings().path == path)
    };
    if let Some(stream) = literal(path) {
        return Some(FoundStream {
            stream: Arc::clone(stream),
            path_values: Ok(None),
        });
    }
    let (stream, template, values) = streams.iter().find_map(|stream| {
        let template = stream.path_template()?;
        Some((stream, template, template.values(path)?))
    })?;
    if let Ok(values) = &values
        && literal(&template.with_values(values)).is_some()
    {
        return None;
    }
    Some(FoundStream {
        stream: Arc::clone(stream),
        path_values: values.map(Some).map_err(|bad| error(&bad)),
    })
}

/// The stream whose path, or template, a path is; also where the values of its parameters are refused.
pub(super) fn template<'s>(streams: &'s [Arc<Stream>], path: &str) -> Option<&'s Arc<Stream>> {
    let literal = streams.iter().find(|stream| stream.settings().path == path);
    literal.or_else(|| {
        let is_template = |stream: &&Arc<Stream>| {
            let template = stream.path_template();
            template.is_some_and(|template| template.values(path).is_some())
        };
        streams.iter().find(is_template)
    })
}

/// The error of a value that a parameter of a path cannot have.
pub(super) fn error(bad: &BadValue) -> ApiError {
    ApiError::parameter(ErrorCode::BadPathParameter, &bad.parameter, bad.to_string())
}
