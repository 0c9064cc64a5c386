//! One HTTP request and its whole answer, for everything that is not a stream.

use super::wait::secs;
use reqwest::{Method, header::HeaderMap, redirect::Policy};

pub struct Response {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Response {
    /// A header's value, if it is there and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.text()))
    }
}

pub async fn get(url: &str, headers: &[(&str, &str)]) -> Response {
    request(Method::GET, url, headers)
        .await
        .unwrap_or_else(|error| panic!("GET {url}: {error}"))
}

/// Any method; an error is one of the connection, never a status. No redirect is followed, nothing is
/// decompressed, and no proxy of the environment is asked.
pub async fn request(
    method: Method,
    url: &str,
    headers: &[(&str, &str)],
) -> Result<Response, reqwest::Error> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(Policy::none())
        .timeout(secs(20))
        .build()?;
    let mut request = client.request(method, url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await?;
    Ok(Response {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        body: response.bytes().await?.to_vec(),
    })
}
