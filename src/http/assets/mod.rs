//! The files of the page: those in the binary, or a directory in their place.
//!
//! The files in the binary are prepared once: index.html filled, scripts and styles without comments, ETags made. They are
//! compressed when somebody wants that. Those of a directory are found by [`directory`], and so is the configured logo.

mod content;
mod directory;
mod slim;

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Component, Path};
use std::sync::Arc;
use std::time::Duration;

use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, VARY};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use log::warn;
use parking_lot::Mutex;
use rust_embed::RustEmbed;
use warp::reply::{Reply, Response};

use self::content::{Content, INDEX, LOGO, Template};
use self::directory::{Body, Directory, Pieces};
use self::slim::slim;
use super::accept;
use super::page_headers::PageHeaders;
use crate::config::settings::Draft;
use crate::logging::Seldom;

#[derive(RustEmbed)]
#[folder = "assets/"]
struct Embedded;

/// The files of the client library that are served, by their names in the binary and below `/assets/`. Its others, as its
/// package.json, are for npm.
const LIBRARY: [(&str, &str); 2] = [
    ("client/client.js", "client.js"),
    ("client/client.d.ts", "client.d.ts"),
];

/// The name below `/assets/` of a file in the binary; `None` where it is not served.
fn served_name(embedded: &str) -> Option<&str> {
    if !embedded.starts_with("client/") {
        return Some(embedded);
    }
    let mut library = LIBRARY.iter();
    library.find_map(|(name, served)| (*name == embedded).then_some(*served))
}

/// The files of the built-in page as they are before anything is put in, by the names below `/assets/`.
pub(crate) fn built_in() -> impl Iterator<Item = (String, Cow<'static, [u8]>)> {
    Embedded::iter().filter_map(|name| {
        let served = served_name(&name)?.to_owned();
        Some((served, Embedded::get(&name)?.data))
    })
}

/// Shortest time between two log lines about a directory without a page.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// A file in memory: its tag and its bytes.
type KeptFile = (String, Arc<Content>);

/// The page.
#[derive(Debug)]
pub struct Assets {
    files: Files,
    /// The configured logo: its directory, and its name there.
    logo: Option<(Arc<Directory>, String)>,
    headers: PageHeaders,
    /// Locked for a log line about a directory without a page, and by nothing else.
    lacks_page_log: Mutex<Seldom>,
}

#[derive(Debug)]
enum Files {
    /// By name.
    InBinary(HashMap<String, KeptFile>),
    /// With the client library of the binary, for pages that do not have it.
    Directory(Arc<Directory>, HashMap<String, KeptFile>),
}

impl Assets {
    /// The page of these settings.
    pub fn new(settings: &Draft) -> Self {
        let ui = &settings.ui;
        let template = Template::new(ui, &settings.exposed());
        let headers = PageHeaders::from(ui);
        let salt = headers.salt();
        let kept = |(name, plain): (String, Cow<'static, [u8]>)| {
            let mut plain = slim(&name, plain.into_owned());
            if name == INDEX {
                plain = template.fill(plain);
            }
            let tag = format!("{:08x}-{:x}-{salt:x}", crc32fast::hash(&plain), plain.len());
            // Compressing all would take as long as everything else from the daemon's start to its first answer.
            let content = Content::to_compress(plain.into());
            (name, (tag, Arc::new(content)))
        };
        let files = match &ui.assets {
            None => Files::InBinary(built_in().map(kept).collect()),
            Some(path) => {
                let is_of_library =
                    |(name, _): &(String, _)| LIBRARY.iter().any(|(_, served)| served == name);
                let library = built_in().filter(is_of_library).map(kept).collect();
                Files::Directory(
                    Arc::new(Directory::new(path.clone(), template.clone(), salt)),
                    library,
                )
            }
        };
        let logo = ui.logo.as_ref().and_then(|logo| {
            let directory = logo.parent().unwrap_or(Path::new("")).to_owned();
            let name = logo.file_name()?.to_str()?.to_owned();
            Some((Arc::new(Directory::new(directory, template.clone(), salt)), name))
        });
        Self {
            files,
            logo,
            headers,
            lacks_page_log: Mutex::new(Seldom::new(LOG_EVERY)),
        }
    }

    /// The header fields of the page's files.
    pub(super) const fn headers(&self) -> &PageHeaders {
        &self.headers
    }

    /// Whether the page is what is wanted at a path. Only a directory can lack it, which is logged.
    pub(super) fn lacks_page(&self, path: &str) -> bool {
        let Files::Directory(directory, _) = &self.files else {
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
        let client = Client::of(request, &self.headers);
        let find = async |directory: &Arc<Directory>, name: &str| {
            let is_known = |tag: &str| client.known(tag).is_some();
            directory.find(name, method, client.takes_gzip, is_known).await
        };
        let in_memory = |(tag, content): &KeptFile| (Some(tag.clone()), Body::Kept(Arc::clone(content)));
        if name == LOGO
            && let Some((directory, file)) = &self.logo
        {
            let found = find(directory, file).await?;
            return Some(client.answer(file, found.tag.as_deref(), found.body));
        }
        let (tag, body) = match &self.files {
            Files::InBinary(files) => in_memory(files.get(&*name)?),
            Files::Directory(directory, library) => match find(directory, &name).await {
                Some(found) => (found.tag, found.body),
                None => in_memory(library.get(&*name)?),
            },
        };
        Some(client.answer(&name, tag.as_deref(), body))
    }

    /// Whether a path is one of the page's. Whether there is a file, [`Assets::answer`] finds out.
    pub(crate) fn holds(&self, path: &str) -> bool {
        name_of(path).is_some_and(|name| match &self.files {
            Files::InBinary(files) => files.contains_key(&*name) || (name == LOGO && self.logo.is_some()),
            Files::Directory(..) => true,
        })
    }
}

/// The encoding that a client accepts, and the ETags in its cache.
struct Client<'a> {
    request: &'a HeaderMap,
    headers: &'a PageHeaders,
    takes_gzip: bool,
}

impl<'a> Client<'a> {
    fn of(request: &'a HeaderMap, headers: &'a PageHeaders) -> Self {
        Self {
            request,
            headers,
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
            Body::Kept(content) if self.takes_gzip => content.gzip().cloned(),
            Body::Kept(_) | Body::OnDisk(..) | Body::Omitted(_) => None,
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
            self.headers.add_to(headers);
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
    // The ending is that of a video, too.
    if Path::new(name).extension() == Some("ts".as_ref()) {
        return "application/typescript; charset=utf-8".to_owned();
    }
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

    #[test]
    fn of_the_client_library_only_its_module_and_its_types_are_served() {
        for (embedded, served) in [
            ("client/client.js", Some("client.js")),
            ("client/client.d.ts", Some("client.d.ts")),
            ("client/package.json", None),
            ("client/tests/client.js", None),
            ("index.html", Some("index.html")),
            ("page/client/x.js", Some("page/client/x.js")),
        ] {
            assert_eq!(served_name(embedded), served, "{embedded}");
        }
        assert_eq!(
            content_type("client.d.ts"),
            "application/typescript; charset=utf-8"
        );
    }
}
