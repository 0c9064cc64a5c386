//! The bytes of one file of the page, plain and compressed.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

/// The file that is served at `/`.
pub(super) const INDEX: &str = "index.html";

/// Where the title is put into [`INDEX`].
const TITLE: &str = "{{title}}";

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

/// Puts the title in, which is escaped already; what is not text stays as it is.
pub(super) fn put_in_title(content: Vec<u8>, title: &str) -> Vec<u8> {
    match std::str::from_utf8(&content) {
        Ok(text) => text.replace(TITLE, title).into_bytes(),
        Err(_) => content,
    }
}
