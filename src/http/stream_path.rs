//! The stream that a path names, and the values of the path's parameters.
//!
//! A literal path takes precedence over one with parameters, however the request escapes it: a proxy that removes escapes
//! before it decides who may read it must not decide about another stream.

use std::sync::Arc;

use super::error::ApiError;
use crate::config::path_parameters::{BadValue, PathValues};
use crate::stream::Stream;

/// A stream, as a request names it.
pub(super) struct FoundStream {
    pub(super) stream: Arc<Stream>,
    /// The values of the parameters, where its path has any.
    pub(super) path_values: Option<PathValues>,
}

/// The stream at a path; `None` where there is none.
///
/// # Errors
/// When a parameter cannot have its value.
pub(super) fn find(streams: &[Arc<Stream>], path: &str) -> Result<Option<FoundStream>, ApiError> {
    let literal = |path: &str| {
        let mut literal = streams.iter().filter(|stream| stream.path_parameters().is_none());
        literal.find(|stream| stream.settings().path == path)
    };
    if let Some(stream) = literal(path) {
        return Ok(Some(FoundStream {
            stream: Arc::clone(stream),
            path_values: None,
        }));
    }
    let matching = streams.iter().find_map(|stream| {
        let parameters = stream.path_parameters()?;
        Some((stream, parameters, parameters.template().values(path)?))
    });
    let Some((stream, parameters, values)) = matching else {
        return Ok(None);
    };
    let values = values.map_err(|bad| error(&bad))?;
    if literal(&parameters.template().with_values(&values)).is_some() {
        return Ok(None);
    }
    parameters.filter(&values).map_err(|bad| error(&bad))?;
    Ok(Some(FoundStream {
        stream: Arc::clone(stream),
        path_values: Some(values),
    }))
}

/// The stream whose path, or template, a path is; also where the values of its parameters are refused.
pub(super) fn template<'s>(streams: &'s [Arc<Stream>], path: &str) -> Option<&'s Arc<Stream>> {
    let literal = streams.iter().find(|stream| stream.settings().path == path);
    literal.or_else(|| {
        let is_template = |stream: &&Arc<Stream>| {
            let parameters = stream.path_parameters();
            parameters.is_some_and(|parameters| parameters.template().values(path).is_some())
        };
        streams.iter().find(is_template)
    })
}

fn error(bad: &BadValue) -> ApiError {
    ApiError::parameter("bad_path_parameter", &bad.parameter, bad.to_string())
}
