//! The bytes of one file of the page, plain and compressed.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::config::exposure::Exposed;
use crate::http::html::escape;

/// The file that is served at `/`.
pub(super) const INDEX: &str = "index.html";

/// What is put into [`INDEX`] in place of names in double braces. Escaped for HTML.
#[derive(Debug, Clone)]
pub(super) struct Template {
    title: String,
    login_url: String,
    /// Links to the routes for operators that are served beside the page.
    links: String,
}

impl Template {
    pub(super) fn new(title: &str, login_url: &str, exposed: &[Exposed]) -> Self {
        let links = [
            (Exposed::About, "<a href=\"about\">About</a>"),
            (Exposed::Streams, "<a href=\"streams\">Streams</a>"),
        ];
        let links = links.iter().filter(|(route, _)| exposed.contains(route));
        Self {
            title: escape(title),
            login_url: escape(login_url),
            links: links.map(|(_, link)| *link).collect(),
        }
    }

    /// Fills a page; one that is not text stays as it is.
    pub(super) fn fill(&self, page: Vec<u8>) -> Vec<u8> {
        let Ok(text) = std::str::from_utf8(&page) else {
            return page;
        };
        // The title last, so that it may hold a name itself.
        let text = text.replace("{{links}}", &self.links);
        let text = text.replace("{{login_url}}", &self.login_url);
        text.replace("{{title}}", &self.title).into_bytes()
    }

    /// Differs between templates that make different pages.
    pub(super) fn salt(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        for part in [&self.title, &self.login_url, &self.links] {
            hasher.update(part.as_bytes());
            hasher.update(b"\n");
        }
        hasher.finalize()
    }
}

#[derive(Debug)]
pub(super) struct Content {
    plain: Bytes,
    /// Only where it is smaller.
    gzip: Option<Bytes>,
}

impl Content {
    pub(super) const fn new(plain: Bytes, gzip: Option<Bytes>) -> Self {
        Self { plain, gzip }
    }

    pub(super) const fn plain(&self) -> &Bytes {
        &self.plain
    }

    pub(super) const fn gzip(&self) -> Option<&Bytes> {
        self.gzip.as_ref()
    }
}

/// Compressed by gzip, at zlib's usual level, which is a tenth larger than the best at a fraction of its time; `None`
/// where that is not smaller.
pub(super) fn compress(plain: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    // Into memory, which cannot fail; if it did, the plain file is served.
    let gzip = encoder.write_all(plain).and_then(|()| encoder.finish()).ok()?;
    (gzip.len() < plain.len()).then_some(gzip)
}
