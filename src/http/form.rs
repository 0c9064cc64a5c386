//! The form in which a client wants a stream: events, lines of JSON, or one document.
//!
//! `?format=` decides, otherwise `Accept`. Parameters that another form does not have are refused, because a client that
//! sends them expects what it would not get.

use http::HeaderMap;

use super::error::{ApiError, ErrorCode};
use super::{accept, document, ndjson};

/// The media type of event streams.
pub(super) const EVENT_STREAM: &str = "text/event-stream";

/// A form, with its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Form {
    /// Server-Sent Events.
    Events,
    /// An object per line.
    Lines {
        /// Whether the response ends once the client has caught up, instead of following the stream.
        ends_at_head: bool,
    },
    /// The table.
    Document(document::Page),
}

/// The parameters that choose a form, as the query has them.
#[derive(Debug, Default)]
pub(super) struct Parameters {
    format: Option<Format>,
    follow: Option<bool>,
    limit: Option<usize>,
    after: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Events,
    Lines,
    Document,
}

impl Parameters {
    /// Takes a parameter of the query. Returns whether it is one of these.
    ///
    /// # Errors
    /// For an invalid value, and one that is given twice.
    pub(super) fn take(&mut self, name: &str, value: &str) -> Result<bool, ApiError> {
        match name {
            "format" => put(&mut self.format, ErrorCode::BadFormat, name, format(value)?)?,
            "follow" => put(&mut self.follow, ErrorCode::BadFollow, name, follow(value)?)?,
            "limit" => put(&mut self.limit, ErrorCode::BadLimit, name, limit(value)?)?,
            "after" => put(&mut self.after, ErrorCode::BadAfter, name, value.to_owned())?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The form that the client wants of a stream.
    ///
    /// # Errors
    /// When the stream has no such form, or the form no such parameter.
    pub(super) fn form(self, headers: &HeaderMap, has_table: bool) -> Result<Form, ApiError> {
        let format = self.format.unwrap_or_else(|| preferred(headers, has_table));
        if format != Format::Lines && self.follow.is_some() {
            return Err(ApiError::parameter(
                ErrorCode::BadFollow,
                "follow",
                "\"follow\" belongs to format=ndjson; an EventSource would reconnect at the end",
            ));
        }
        if format != Format::Document {
            for (name, code, is_given) in [
                ("limit", ErrorCode::BadLimit, self.limit.is_some()),
                ("after", ErrorCode::BadAfter, self.after.is_some()),
            ] {
                if is_given {
                    let message = format!("{name:?} belongs to format=json, the pages of a table");
                    return Err(ApiError::parameter(code, name, message));
                }
            }
        }
        Ok(match format {
            Format::Events => Form::Events,
            Format::Lines => Form::Lines {
                ends_at_head: self.follow == Some(false),
            },
            Format::Document if !has_table => {
                return Err(ApiError::parameter(
                    ErrorCode::BadFormat,
                    "format",
                    "invalid format \"json\": this stream has no table; expected \"events\" or \"ndjson\"",
                ));
            }
            Format::Document => Form::Document(document::Page::new(self.limit, self.after.as_deref())?),
        })
    }
}

/// Sets a parameter that was not set before.
fn put<T>(place: &mut Option<T>, code: ErrorCode, name: &str, value: T) -> Result<(), ApiError> {
    if place.replace(value).is_some() {
        let message = format!("duplicate query parameter {name:?}; keep one of them");
        return Err(ApiError::parameter(code, name, message));
    }
    Ok(())
}

fn format(word: &str) -> Result<Format, ApiError> {
    match word {
        "events" => Ok(Format::Events),
        "ndjson" => Ok(Format::Lines),
        "json" => Ok(Format::Document),
        other => {
            let message = format!("invalid format {other:?}: expected \"events\", \"ndjson\" or \"json\"");
            Err(ApiError::parameter(ErrorCode::BadFormat, "format", message))
        }
    }
}

fn follow(word: &str) -> Result<bool, ApiError> {
    word.parse().map_err(|_| {
        let message = format!("invalid follow {word:?}: expected \"true\" or \"false\"");
        ApiError::parameter(ErrorCode::BadFollow, "follow", message)
    })
}

fn limit(number: &str) -> Result<usize, ApiError> {
    let limit = number.parse().ok().filter(|limit| *limit > 0);
    limit.ok_or_else(|| {
        let message = format!("invalid limit {number:?}: expected a number of rows from 1 on");
        ApiError::parameter(ErrorCode::BadLimit, "limit", message)
    })
}

/// The form that `Accept` names with the highest weight. A range like `*/*` names none, and an event stream is what most
/// clients of a stream want.
fn preferred(headers: &HeaderMap, has_table: bool) -> Format {
    let events = accept::media_type(headers, EVENT_STREAM);
    let others = [
        (Format::Lines, ndjson::MEDIA_TYPE, true),
        (Format::Document, document::MEDIA_TYPE, has_table),
    ];
    let named = others.into_iter().filter(|(_, _, is_served)| *is_served);
    let named = named.map(|(format, media_type, _)| (format, accept::media_type(headers, media_type)));
    let best = named
        .filter(|(_, preference)| preference.is_named() && *preference > events)
        .max_by_key(|(_, preference)| *preference);
    best.map_or(Format::Events, |(format, _)| format)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_form_is_what_accept_names_with_the_highest_weight() {
        for (accept, has_table, expected) in [
            (None, true, Format::Events),
            (Some("*/*"), true, Format::Events),
            (Some("text/event-stream"), true, Format::Events),
            (Some("application/json"), true, Format::Document),
            (Some("application/json"), false, Format::Events),
            (Some("application/json, text/plain, */*"), true, Format::Document),
            (Some("application/json;q=0"), true, Format::Events),
            (Some("application/x-ndjson"), false, Format::Lines),
            (
                Some("application/json;q=0.5, application/x-ndjson"),
                true,
                Format::Lines,
            ),
            (Some("text/event-stream, application/json"), true, Format::Events),
            (
                Some("text/event-stream;q=0.5, application/json"),
                true,
                Format::Document,
            ),
        ] {
            let headers = accept.map(|accept| (http::header::ACCEPT, HeaderValue::from_static(accept)));
            let headers = headers.into_iter().collect();
            assert_eq!(preferred(&headers, has_table), expected, "{accept:?}");
        }
    }
}
