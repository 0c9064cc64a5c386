//! The files of the page: those in the binary, or a directory in their place.
//!
//! The files in the binary are prepared once: index.html filled, all compressed where that helps, ETags made. Those of a
//! directory are found by [`directory`].

mod content;
mod directory;

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Component, Path};
use std::sync::Arc;
use std::time::Duration;

use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use log::warn;
use parking_lot::Mutex;
use rust_embed::RustEmbed;
use warp::reply::{Reply, Response};

use self::content::{Content, INDEX, Template, compress};
use self::directory::{Body, Directory, Pieces};
use super::accept;
use crate::config::settings::Draft;
use crate::logging::Seldom;

/// The page shows data of unknown origin: nothing but its own files may run or load.
pub(super) const POLICY: &str =
    "default-src 'self'; frame-ancestors 'self'; base-uri 'none'; form-action 'none'";

#[derive(RustEmbed)]
#[folder = "assets/"]
struct Embedded;

/// Shortest time between two log lines about a directory without a page.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// The page.
#[derive(Debug)]
pub struct Assets {
    files: Files,
    /// Locked for a log line about a directory without a page, and by nothing else.
    lacks_page_log: Mutex<Seldom>,
}

#[derive(Debug)]
enum Files {
    /// By name, with their tags.
    InBinary(HashMap<String, (String, Arc<Content>)>),
    Directory(Arc<Directory>),
}

impl Assets {
    /// The page of these settings.
    pub fn new(settings: &Draft) -> Self {
        let ui = &settings.ui;
        let login_url = ui.login_url.as_deref().unwrap_or_default();
        let template = Template::new(&ui.title, login_url, &settings.exposed());
        if let Some(directory) = ui.assets.clone() {
            return Self::of(Files::Directory(Arc::new(Directory::new(directory, template))));
        }
        let files = Embedded::iter().filter_map(|name| {
            let mut plain = Embedded::get(&name)?.data.into_owned();
            if name == INDEX {
                plain = template.fill(plain);
            }
            let tag = format!("{:08x}-{:x}", crc32fast::hash(&plain), plain.len());
            let gzip = compress(&plain).map(Into::into);
            let content = Content::new(plain.into(), gzip);
            Some((name.to_string(), (tag, Arc::new(content))))
        });
        Self::of(Files::InBinary(files.collect()))
    }

    const fn of(files: Files) -> Self {
        Self {
            files,
            lacks_page_log: Mutex::new(Seldom::new(LOG_EVERY)),
        }
    }

    /// Whether the page is what is wanted at a path. Only a directory can lack it, which is logged.
    pub(super) fn lacks_page(&self, path: &str) -> bool {
        let Files::Directory(directory) = &self.files else {
            return false;
        };
        if name_of(path).as_deref() != Some(INDEX) {
            return false;
        }
        let mut log = self.lacks_page_log.lock();
        if let Some(held_back) = log.admit() {
            warn!(
                "{}: holds no index.html that can be read, so / answers 404; put one there, or correct assets in \
                 [ui]{held_back}",
                directory.path().display()
            );
        }
        true
    }

    pub(crate) async fn answer(&self, path: &str, method: &Method, request: &HeaderMap) -> Option<Response> {
        let name = name_of(path)?;
        let client = Client::of(request);
        let (tag, body) = match &self.files {
            Files::InBinary(files) => {
                let (tag, content) = files.get(&*name)?;
                (Some(tag.clone()), Body::Kept(Arc::clone(content)))
            }
            Files::Directory(assets) => {
                let found = assets
                    .find(&name, method, client.takes_gzip, |tag| {
                        client.known(tag).is_some()
                    })
                    .await?;
                (found.tag, found.body)
            }
        };
        Some(client.answer(&name, tag.as_deref(), body))
    }

    /// Whether a path is one of the page's. Whether there is a file, [`Assets::answer`] finds out.
    pub(crate) fn holds(&self, path: &str) -> bool {
        name_of(path).is_some_and(|name| match &self.files {
            Files::InBinary(files) => files.contains_key(&*name),
            Files::Directory(_) => true,
        })
    }
}

/// The encoding that a client accepts, and the ETags in its cache.
struct Client<'a> {
    request: &'a HeaderMap,
    takes_gzip: bool,
}

impl<'a> Client<'a> {
    fn of(request: &'a HeaderMap) -> Self {
        Self {
            request,
            takes_gzip: accept::gzip(request),
        }
    }

    /// The ETag of the bytes that the client has of the file with this tag: compressed ones have another.
    fn known(&self, tag: &str) -> Option<String> {
        let possible = [true, false]
            .into_iter()
            .filter(|is_gzip| self.takes_gzip || !is_gzip);
        possible
            .map(|is_gzip| etag(tag, is_gzip))
            .find(|etag| accept::if_none_match(self.request, etag))
    }

    fn answer(&self, name: &str, tag: Option<&str>, body: Body) -> Response {
        let gzip = match &body {
            Body::Kept(content) => content.gzip().cloned().filter(|_| self.takes_gzip),
            Body::OnDisk(..) | Body::Omitted(_) => None,
        };
        let is_gzip = gzip.is_some();
        let known = match (&body, tag) {
            (_, None) => None,
            // Without them it is not known which of the two it would be.
            (Body::Omitted(_), Some(tag)) => self.known(tag),
            (_, Some(tag)) => {
                Some(etag(tag, is_gzip)).filter(|etag| accept::if_none_match(self.request, etag))
            }
        };
        let is_known = known.is_some();
        let mut length = None;
        let mut response = match body {
            _ if is_known => StatusCode::NOT_MODIFIED.into_response(),
            Body::Kept(content) => Response::new(gzip.unwrap_or_else(|| content.plain().clone()).into()),
            Body::OnDisk(file, size) => {
                length = Some(size);
                warp::reply::stream(Pieces::new(file, size)).into_response()
            }
            Body::Omitted(size) => {
                length = size;
                warp::reply().into_response()
            }
        };
        let headers = response.headers_mut();
        let etag = known.or_else(|| tag.map(|tag| etag(tag, is_gzip)));
        if let Some(etag) = etag.and_then(|etag| HeaderValue::try_from(etag).ok()) {
            headers.insert(ETAG, etag);
        }
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
        if let Some(length) = length {
            headers.insert(CONTENT_LENGTH, length.into());
        }
        if !is_known {
            if let Ok(content_type) = HeaderValue::try_from(content_type(name)) {
                headers.insert(CONTENT_TYPE, content_type);
            }
            headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
            headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            if is_gzip {
                headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
        }
        response
    }
}

/// Other bytes, another tag.
fn etag(tag: &str, is_gzip: bool) -> String {
    format!("\"{tag}{}\"", if is_gzip { "-gzip" } else { "" })
}

fn content_type(name: &str) -> String {
    let mime = mime_guess::from_path(name).first_or_octet_stream();
    match (mime.type_().as_str(), mime.subtype().as_str()) {
        ("text", _) | (_, "javascript" | "json") => format!("{mime}; charset=utf-8"),
        _ => mime.to_string(),
    }
}

/// The file's name for a path: `/` is index.html, everything else lies under `/assets/`.
fn name_of(path: &str) -> Option<Cow<'_, str>> {
    if path == "/" {
        return Some(INDEX.into());
    }
    if path == "/favicon.ico" {
        return Some("favicon.svg".into());
    }
    let name = percent_encoding::percent_decode_str(path.strip_prefix("/assets/")?)
        .decode_utf8()
        .ok()?;
    // Only plain names, so that no path leaves the directory.
    let is_plain = Path::new(&*name)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    (is_plain && !name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_a_file_of_the_page_and_none_outside_of_it() {
        for (path, name) in [
            ("/", Some(INDEX)),
            ("/favicon.ico", Some("favicon.svg")),
            ("/assets/a/b.css", Some("a/b.css")),
            ("/assets/a%20b", Some("a b")),
            ("/assets/", None),
            ("/assets/../secret", None),
            ("/assets/%2e%2e/secret", None),
            ("/assets//etc/passwd", None),
            ("/assets/%ff", None),
            ("/other", None),
        ] {
            assert_eq!(name_of(path).as_deref(), name, "{path}");
        }
    }
}
