//! `/about`: product, version, URLs, and the headers that arrived, to debug proxies with.

use http::header::{CACHE_CONTROL, VARY};
use http::{HeaderMap, HeaderValue, Method};
use serde_json::{Map, Value, json};
use warp::reply::{Reply, Response};

use super::accept;
use super::exposure::Surface;
use super::html::escape;
use super::response;
use super::state::AppState;
use crate::config::exposure::Exposed;

const STYLE: &str = "/assets/style.css";

/// Shown in place of a value that may be secret or personal.
const HIDDEN: &str = "***";

/// Headers whose values are shown: those in which proxies describe a request's path, and those that browsers send to
/// every site. Any other may hold a credential that a proxy injects (`X-Forwarded-Access-Token`, `X-Amzn-Oidc-Data`,
/// `Cf-Access-Jwt-Assertion`), a user, or a URL with a token in its query (`Referer`, `X-Original-Url`).
const SHOWN: [&str; 38] = [
    "accept",
    "accept-encoding",
    "accept-language",
    "cache-control",
    "cdn-loop",
    "cf-connecting-ip",
    "cf-ipcountry",
    "cf-ray",
    "cf-visitor",
    "connection",
    "content-length",
    "content-type",
    "dnt",
    "forwarded",
    "host",
    "last-event-id",
    "origin",
    "pragma",
    "priority",
    "sec-fetch-dest",
    "sec-fetch-mode",
    "sec-fetch-site",
    "sec-fetch-user",
    "te",
    "true-client-ip",
    "upgrade-insecure-requests",
    "user-agent",
    "via",
    "x-client-ip",
    "x-forwarded-by",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-forwarded-server",
    "x-real-ip",
    "x-request-id",
];

/// HTML for browsers, JSON where the request asks for it.
pub(super) async fn answer(state: &AppState, surface: Surface, headers: &HeaderMap) -> Response {
    let json = accept::media_type(headers, "application/json");
    let is_html = !json.is_named() || accept::media_type(headers, "text/html") >= json;
    // A directory in place of the page may have no style.
    let has_style = is_html && surface == Surface::Public && {
        let (assets, no_headers) = (state.assets(), HeaderMap::new());
        let found = assets.answer(STYLE, &Method::HEAD, &no_headers).await;
        found.is_some()
    };
    let urls = urls(state, surface);
    let shown = shown(headers);
    let mut response = if is_html {
        warp::reply::html(html(&urls, &shown, has_style)).into_response()
    } else {
        let headers: Map<String, Value> = shown
            .into_iter()
            .map(|(name, value)| (name, json!(value)))
            .collect();
        response::json(&json!({
            "product": env!("CARGO_PKG_NAME"),
            "version": env!("CARGO_PKG_VERSION"),
            "urls": urls
                .iter()
                .map(|url| json!({ "path": format!("{}{}", url.base, url.path), "what": url.what }))
                .collect::<Vec<_>>(),
            "headers": headers,
        }))
    };
    let headers = response.headers_mut();
    headers.insert(VARY, HeaderValue::from_static("accept"));
    // It shows the request of one client.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    state.assets().headers().add_to(headers);
    response
}

/// A path that is listed.
struct Url {
    /// The prefix of the path.
    base: String,
    path: String,
    what: String,
    /// Whether this listener serves it, at one path.
    is_link: bool,
}

/// The streams and the page, with what this listener serves beside them.
fn urls(state: &AppState, surface: Surface) -> Vec<Url> {
    let base = Surface::Public.base_path(state);
    let is_public = surface == Surface::Public;
    let streams = state.shown().streams.clone();
    let streams = streams.iter().map(|stream| {
        let settings = stream.settings();
        Url {
            base: base.clone(),
            path: settings.path.clone(),
            what: format!("events of {}", settings.topics.join(", ")),
            // A path with parameters has no single target.
            is_link: is_public && !settings.path.contains('{'),
        }
    });
    let page = Url {
        base: base.clone(),
        path: "/".to_owned(),
        what: "the page".to_owned(),
        is_link: is_public,
    };
    let serves_streams = surface.serves(state, Exposed::Streams);
    let what_of_streams = if serves_streams {
        "the streams, their positions and clients (JSON)"
    } else {
        "the streams that the client may read (JSON)"
    };
    let own = [
        (Exposed::About, "/about", "this"),
        (Exposed::Streams, "/streams", what_of_streams),
        (Exposed::Metrics, "/metrics", "figures, for Prometheus"),
        (Exposed::Health, "/health/live", "whether the process runs"),
        (
            Exposed::Health,
            "/health/ready",
            "whether every stream has loaded",
        ),
        (
            Exposed::Descriptions,
            "/openapi.json",
            "requests and responses, as OpenAPI 3.1",
        ),
        (Exposed::Descriptions, "/asyncapi.json", "events, as AsyncAPI 3.0"),
    ];
    let own = own
        .into_iter()
        .filter(|(route, ..)| *route == Exposed::Streams || surface.serves(state, *route))
        .map(|(_, path, what)| Url {
            base: surface.base_path(state),
            path: path.to_owned(),
            what: what.to_owned(),
            is_link: true,
        });
    streams.chain([page]).chain(own).collect()
}

/// The request's headers, with the values of [`SHOWN`] only; a repeated one with its values joined.
fn shown(headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .keys()
        .map(|name| {
            let values = headers
                .get_all(name)
                .iter()
                .map(|value| String::from_utf8_lossy(value.as_bytes()));
            let value = if SHOWN.contains(&name.as_str()) {
                values.collect::<Vec<_>>().join(", ")
            } else {
                HIDDEN.to_owned()
            };
            (name.to_string(), value)
        })
        .collect()
}

fn html(urls: &[Url], headers: &[(String, String)], has_style: bool) -> String {
    let row = |name: &str, value: &str| {
        let value = escape(value);
        format!("<tr><th scope=\"row\">{name}</th><td>{value}</td></tr>")
    };
    let url = |url: &Url| {
        let (base, path) = (&url.base, escape(&url.path));
        // Relative, so that it works under a proxy's path prefix.
        let name = if url.is_link {
            format!("<a href=\".{path}\">{base}{path}</a>")
        } else {
            format!("{base}{path}")
        };
        row(&name, &url.what)
    };
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>About {product}</title>\
         {style}</head><body class=\"about\"><main>\
         <h1>{product} {version}</h1><h2>URLs</h2><table>{urls}</table>\
         <h2>Headers of this request</h2><table>{headers}</table></main></body></html>",
        product = env!("CARGO_PKG_NAME"),
        version = env!("CARGO_PKG_VERSION"),
        style = if has_style {
            format!("<link rel=\"stylesheet\" href=\".{STYLE}\">")
        } else {
            String::new()
        },
        urls = urls.iter().map(url).collect::<String>(),
        headers = headers
            .iter()
            .map(|(name, value)| row(&escape(name), value))
            .collect::<String>(),
    )
}
