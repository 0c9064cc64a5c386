//! The page baked into the binary, or a directory in its place.
//!
//! The baked-in files are prepared once: title put in, compressed where that helps, ETags made. A
//! directory is read anew for every request, because who names one is editing it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Write;
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    IF_NONE_MATCH, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use rust_embed::RustEmbed;
use warp::reply::{Reply, Response};

use super::problem::Problem;

/// Where the title stands in index.html.
const TITLE: &str = "{{title}}";

/// The page shows data of strangers: nothing but its own files may run or load.
const POLICY: &str = "default-src 'self'; frame-ancestors 'self'; base-uri 'none'; form-action 'none'";

#[derive(RustEmbed)]
#[folder = "assets/"]
struct Embedded;

/// The page.
#[derive(Debug)]
pub struct Page {
    title: String,
    files: HashMap<String, File>,
    directory: Option<PathBuf>,
}

#[derive(Debug)]
struct File {
    content_type: HeaderValue,
    etag: HeaderValue,
    gzip_etag: HeaderValue,
    plain: Bytes,
    /// Only where it is smaller.
    gzip: Option<Bytes>,
}

impl File {
    fn new(name: &str, content: &[u8], title: &str) -> Self {
        let content = put_in_title(name, content, title);
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        // Into memory, which cannot fail; if it did, the plain file is served.
        let gzip = encoder.write_all(&content).and_then(|()| encoder.finish()).ok();
        let tag = format!("{:08x}-{:x}", crc32fast::hash(&content), content.len());
        let mime = mime_guess::from_path(name).first_or_octet_stream();
        let content_type = match (mime.type_().as_str(), mime.subtype().as_str()) {
            ("text", _) | (_, "javascript" | "json") => format!("{mime}; charset=utf-8"),
            _ => mime.to_string(),
        };
        let header = |text: String| HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""));
        Self {
            content_type: header(content_type),
            etag: header(format!("\"{tag}\"")),
            gzip_etag: header(format!("\"{tag}-gzip\"")),
            gzip: gzip.filter(|gzip| gzip.len() < content.len()).map(Bytes::from),
            plain: content.into_owned().into(),
        }
    }

    fn answer(&self, request: &HeaderMap) -> Response {
        let text = |name| {
            request
                .get(name)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
        };
        let gzip = self.gzip.as_ref().filter(|_| accepts_gzip(text(ACCEPT_ENCODING)));
        // Other bytes, another tag.
        let etag = if gzip.is_some() {
            &self.gzip_etag
        } else {
            &self.etag
        };
        let is_known = text(IF_NONE_MATCH)
            .split(',')
            .map(|tag| tag.trim().trim_start_matches("W/"))
            .any(|tag| tag == "*" || etag.to_str().is_ok_and(|etag| tag == etag));
        let mut response = if is_known {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            Response::new(gzip.unwrap_or(&self.plain).clone().into())
        };
        let headers = response.headers_mut();
        headers.insert(ETAG, etag.clone());
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
        if !is_known {
            headers.insert(CONTENT_TYPE, self.content_type.clone());
            headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
            headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            if gzip.is_some() {
                headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
        }
        response
    }
}

impl Page {
    /// The page with this title; served from `directory` instead of the binary where one is given.
    #[must_use]
    pub fn new(title: &str, directory: Option<PathBuf>) -> Self {
        let files = Embedded::iter()
            .filter_map(|name| {
                let embedded = Embedded::get(&name)?;
                Some((name.to_string(), File::new(&name, &embedded.data, title)))
            })
            .collect();
        Self {
            title: title.to_owned(),
            files,
            directory,
        }
    }

    /// Whether a path is the page's to answer.
    #[must_use]
    pub fn holds(&self, path: &str) -> bool {
        let Some(name) = name_of(path) else { return false };
        match &self.directory {
            Some(directory) => directory.join(&*name).is_file(),
            None => self.files.contains_key(&*name),
        }
    }

    /// The file at a path that the page holds.
    pub async fn answer(&self, path: &str, request: &HeaderMap) -> Response {
        let missing = || Problem::not_found(path).into_response();
        let Some(name) = name_of(path) else {
            return missing();
        };
        let Some(directory) = &self.directory else {
            return self
                .files
                .get(&*name)
                .map_or_else(missing, |file| file.answer(request));
        };
        let file = directory.join(&*name);
        let (name, title) = (name.into_owned(), self.title.clone());
        // Reading and compressing would hold up the streams that share this worker.
        let prepared = tokio::task::spawn_blocking(move || {
            let content = std::fs::read(file)?;
            Ok::<_, std::io::Error>(File::new(&name, &content, &title))
        });
        match prepared.await {
            Ok(Ok(file)) => file.answer(request),
            _ => missing(),
        }
    }
}

/// The file's name for a path: `/` is index.html, everything else lies under `/assets/`.
fn name_of(path: &str) -> Option<Cow<'_, str>> {
    if path == "/" {
        return Some("index.html".into());
    }
    if path == "/favicon.ico" {
        return Some("favicon.svg".into());
    }
    let name = percent_encoding::percent_decode_str(path.strip_prefix("/assets/")?)
        .decode_utf8()
        .ok()?;
    // Nothing but plain names: no way out of the directory.
    let is_plain = Path::new(&*name)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    (is_plain && !name.is_empty()).then_some(name)
}

fn put_in_title<'a>(name: &str, content: &'a [u8], title: &str) -> Cow<'a, [u8]> {
    match std::str::from_utf8(content) {
        Ok(text) if name == "index.html" => text.replace(TITLE, &escape(title)).into_bytes().into(),
        _ => content.into(),
    }
}

/// Text for HTML, in elements and attributes.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

/// Whether `Accept-Encoding` allows gzip (RFC 9110, section 12.5.3): by name, or else by `*`.
fn accepts_gzip(accept: &str) -> bool {
    let weight_of = |wanted: &str| {
        accept.split(',').find_map(|item| {
            let mut parts = item.split(';').map(str::trim);
            let is_wanted = parts
                .next()
                .is_some_and(|coding| coding.eq_ignore_ascii_case(wanted));
            let weight = parts.find_map(|parameter| parameter.strip_prefix("q=")?.parse::<f32>().ok());
            is_wanted.then_some(weight.unwrap_or(1.0))
        })
    };
    weight_of("gzip")
        .or_else(|| weight_of("*"))
        .is_some_and(|weight| weight > 0.0)
}
