//! Requests that hyper refuses by itself over HTTP/1.1: their errors as JSON, like all others.
//!
//! A request whose head cannot be parsed or is too large reaches no handler: hyper writes a response without a body, ends
//! the connection, and offers no way to change that. So [`with_body`] recognises such a response where it is written.
//! No handler sends these statuses without a body.

use bytes::Bytes;
use http::StatusCode;

use super::error::{ApiError, ErrorCode};

/// Most bytes of a request's head; a larger one is answered by 431. An event id and a dozen cookies fit.
pub(super) const MAX_HEAD: u32 = 32 * 1024;

/// Most fields of a request's head, hyper's default.
const MAX_FIELDS: usize = 100;

/// The longest response of hyper's own: a status line and three fields.
const LONGEST: usize = 256;

/// The field by which such a response says that it has no body.
const NO_BODY: &str = "\r\ncontent-length: 0\r\n";

/// The same response with a body, if these bytes are one of hyper's own.
pub(super) fn with_body(response: &[u8]) -> Option<Bytes> {
    if response.len() > LONGEST || !response.starts_with(b"HTTP/1.") {
        return None;
    }
    let head = std::str::from_utf8(response).ok()?;
    let status = head.split(' ').nth(1)?;
    let error = match status {
        "400" => ApiError::new(
            StatusCode::BAD_REQUEST,
            ErrorCode::MalformedRequest,
            "the head of the request is not HTTP",
        ),
        "431" => ApiError::new(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            ErrorCode::HeadTooLarge,
            format!(
                "the head of the request has more than {MAX_HEAD} bytes or {MAX_FIELDS} fields; an event id has its place in \
                 Last-Event-ID or lastEventId, and cookies that nobody needs can be deleted"
            ),
        ),
        _ => return None,
    };
    let (before, after) = head.split_once(NO_BODY)?;
    // The end of the head is the end of the bytes.
    if !head.ends_with("\r\n\r\n") || head.find("\r\n\r\n")? + 4 < head.len() {
        return None;
    }
    let body = error.body();
    let fields = format!(
        "content-type: application/json\r\ncache-control: no-store\r\nx-content-type-options: nosniff\r\ncontent-length: {}",
        body.len()
    );
    Some(format!("{before}\r\n{fields}\r\n{after}{body}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\
                       date: Sun, 29 Nov 2026 10:00:00 GMT\r\n\r\n";

    #[test]
    fn an_error_without_a_body_gets_one() {
        for (own, code) in [
            (OWN.to_owned(), "head_too_large"),
            (OWN.replace("HTTP/1.1 431", "HTTP/1.0 431"), "head_too_large"),
            (
                "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n".to_owned(),
                "malformed_request",
            ),
        ] {
            let bytes = with_body(own.as_bytes()).expect("an error");
            let text = std::str::from_utf8(&bytes).expect("text");
            let (head, body) = text.split_once("\r\n\r\n").expect("a body");
            assert!(own.starts_with(head.lines().next().expect("a status")), "{head}");
            assert!(
                head.contains(&format!("\r\ncontent-length: {}", body.len())),
                "{text}"
            );
            assert_eq!(head.matches("content-length").count(), 1, "{head}");
            assert_eq!(head.contains("\r\ndate: "), own.contains("date"), "{head}");
            let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
            assert_eq!(body["error"]["code"], code);
        }
    }

    #[test]
    fn other_bytes_are_passed_on() {
        for other in [
            OWN.replace("431", "404"),
            OWN.replace("content-length: 0", "content-length: 10"),
            OWN.replace("HTTP/1.1", "data: HTTP/1.1"),
            format!("{OWN}x"),
            format!("{OWN}{OWN}"),
            OWN.trim_end().to_owned(),
            OWN.replace("date", &"x".repeat(LONGEST)),
            String::new(),
        ] {
            assert_eq!(with_body(other.as_bytes()), None, "{other:?}");
        }
        assert_eq!(with_body(b"HTTP/1.1 431 \xff"), None);
    }
}
