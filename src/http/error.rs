//! The format of errors: JSON, with a code for programs and a message for people.

use http::header::{ALLOW, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use warp::reply::{Reply, Response};

use super::response::json;

/// An error response: `{"error":{"code","message","parameter"?,"accepts"?}}`.
#[derive(Debug, Clone, Serialize)]
pub(super) struct ApiError {
    #[serde(skip)]
    status: StatusCode,
    code: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameter: Option<String>,
    /// How clients may say who they are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    accepts: Vec<&'static str>,
    /// The value of `WWW-Authenticate`.
    #[serde(skip)]
    challenge: Option<String>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            parameter: None,
            accepts: Vec::new(),
            challenge: None,
        }
    }

    /// With a challenge to the client to say who it is, for 401 and 403 (RFC 9110, section 11.6.1).
    pub(super) fn with_challenge(self, challenge: String) -> Self {
        Self {
            challenge: Some(challenge),
            ..self
        }
    }

    /// With the ways in which the client may say who it is.
    pub(super) fn with_accepts(self, accepts: Vec<&'static str>) -> Self {
        Self { accepts, ..self }
    }

    /// A parameter of the query or the path is invalid: 400.
    pub(super) fn parameter(code: &'static str, parameter: &str, message: impl Into<String>) -> Self {
        Self {
            parameter: Some(parameter.to_owned()),
            ..Self::new(StatusCode::BAD_REQUEST, code, message)
        }
    }

    /// The configuration forbids a query parameter: 403.
    pub(super) fn forbidden(code: &'static str, parameter: &str, message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::FORBIDDEN,
            ..Self::parameter(code, parameter, message)
        }
    }

    pub(super) fn internal(message: &str) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }

    /// The text of the body.
    pub(super) fn body(&self) -> String {
        serde_json::json!({ "error": self }).to_string()
    }

    /// The path exists, the method does not: 405.
    pub(super) fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
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
