//! The format of errors: JSON, with a code for programs and a message for people.

use http::header::{ALLOW, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde::{Serialize, Serializer};
use warp::reply::{Reply, Response};

use super::response::json;
use crate::sse::words::words;

words! {
    /// The code of an error, for programs.
    ErrorCode {
        /// A query parameter that is neither known nor ignored.
        UnknownParameter = "unknown_parameter",
        /// An invalid `since`.
        BadSince = "bad_since",
        /// An invalid filter.
        BadFilter = "bad_filter",
        /// An invalid value of a parameter of the path.
        BadPathParameter = "bad_path_parameter",
        /// A client without credentials.
        Unauthorized = "unauthorized",
        /// A token that is not accepted.
        InvalidToken = "invalid_token",
        /// A client certificate that is not valid any more.
        InvalidCertificate = "invalid_certificate",
        /// A client that may not read the stream.
        Forbidden = "forbidden",
        /// A client without a claim that the stream's filter compares.
        MissingClaim = "missing_claim",
        /// A filter for a stream that allows none.
        FiltersForbidden = "filters_forbidden",
        /// A filter by a member that the stream leaves out.
        HiddenValue = "hidden_value",
        /// An invalid `start`.
        BadStart = "bad_start",
        /// An invalid `throttle`.
        BadThrottle = "bad_throttle",
        /// A `sample`, which is not offered.
        BadSample = "bad_sample",
        /// An invalid `format`.
        BadFormat = "bad_format",
        /// An invalid `follow`.
        BadFollow = "bad_follow",
        /// An invalid `limit`.
        BadLimit = "bad_limit",
        /// An invalid `after`.
        BadAfter = "bad_after",
        /// A head that is not HTTP.
        MalformedRequest = "malformed_request",
        /// A malformed or ambiguous host.
        BadHost = "bad_host",
        /// HTTP at an address of HTTPS; `tls` writes it.
        TlsRequired = "tls_required",
        /// A request that cannot be redirected, because it has no host or path.
        NoHost = "no_host",
        /// A path at which nothing is served.
        NotFound = "not_found",
        /// A method other than GET and HEAD.
        MethodNotAllowed = "method_not_allowed",
        /// A path and query that are too long.
        UriTooLong = "uri_too_long",
        /// A host name that the daemon does not answer to.
        UnknownHost = "unknown_host",
        /// A head that is too large.
        HeadTooLarge = "head_too_large",
        /// A response that could not be written.
        Internal = "internal",
        /// A stream with too many partitions for an event id.
        StreamRefused = "stream_refused",
        /// A table that is not loaded yet.
        NotLoaded = "not_loaded",
        /// Keys for tokens that cannot be fetched.
        KeysUnavailable = "keys_unavailable",
        /// The limit of open streams.
        TooManyClients = "too_many_clients",
        /// The limit of paths in filters.
        TooManyFilterPaths = "too_many_filter_paths",
        /// The limit of filters without an indexed term.
        TooManyUnindexedFilters = "too_many_unindexed_filters",
        /// The limit of open streams of an address.
        TooManyClientsPerIp = "too_many_clients_per_ip",
        /// The limit of streams opened per second.
        TooManyOpens = "too_many_opens",
    }
}

/// An error response: `{"error":{"code","message","parameter"?,"accepts"?}}`.
#[derive(Debug, Clone, Serialize)]
pub(super) struct ApiError {
    #[serde(skip)]
    status: StatusCode,
    code: ErrorCode,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameter: Option<String>,
    /// The ways in which clients may authenticate.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    accepts: Vec<&'static str>,
    /// The value of `WWW-Authenticate`.
    #[serde(skip)]
    challenge: Option<String>,
}

impl Serialize for ErrorCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl ApiError {
    pub(super) fn new(status: StatusCode, code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            parameter: None,
            accepts: Vec::new(),
            challenge: None,
        }
    }

    /// With a challenge to the client to authenticate, for 401 and 403 (RFC 9110, section 11.6.1).
    pub(super) fn with_challenge(self, challenge: String) -> Self {
        Self {
            challenge: Some(challenge),
            ..self
        }
    }

    /// With the ways in which the client may authenticate.
    pub(super) fn with_accepts(self, accepts: Vec<&'static str>) -> Self {
        Self { accepts, ..self }
    }

    /// A parameter of the query or the path is invalid: 400.
    pub(super) fn parameter(code: ErrorCode, parameter: &str, message: impl Into<String>) -> Self {
        Self {
            parameter: Some(parameter.to_owned()),
            ..Self::new(StatusCode::BAD_REQUEST, code, message)
        }
    }

    /// The configuration forbids a query parameter: 403.
    pub(super) fn forbidden(code: ErrorCode, parameter: &str, message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::FORBIDDEN,
            ..Self::parameter(code, parameter, message)
        }
    }

    pub(super) fn internal(message: &str) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, ErrorCode::Internal, message)
    }

    /// The text of the body.
    pub(super) fn body(&self) -> String {
        serde_json::json!({ "error": self }).to_string()
    }

    /// The path exists, the method does not: 405.
    pub(super) fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            ErrorCode::MethodNotAllowed,
            "only GET and HEAD are served here",
        )
    }
}

impl Reply for ApiError {
    fn into_response(self) -> Response {
        let status = self.status;
        let challenge = self
            .challenge
            .as_ref()
            .and_then(|text| HeaderValue::try_from(text).ok());
        let mut response = json(&serde_json::json!({ "error": self }));
        *response.status_mut() = status;
        if let Some(challenge) = challenge {
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        if status == StatusCode::METHOD_NOT_ALLOWED {
            response
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        response
    }
}
