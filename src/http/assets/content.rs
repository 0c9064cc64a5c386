//! The bytes of one file of the page, plain and compressed.

use std::io::Write;
use std::sync::OnceLock;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::config::UiSettings;
use crate::config::exposure::Exposed;
use crate::http::html::escape;

/// The file that is served at `/`.
pub(super) const INDEX: &str = "index.html";

/// The path of the configured logo, below that of the page.
pub(super) const LOGO: &str = "logo";

/// The texts that replace names in double braces in [`INDEX`], by name, escaped for HTML.
#[derive(Debug, Clone)]
pub(super) struct Template(Vec<(&'static str, String)>);

impl Template {
    pub(super) fn new(ui: &UiSettings, exposed: &[Exposed]) -> Self {
        // To the routes for operators that are served beside the page.
        let links = [
            (Exposed::About, "<a href=\"about\">About</a>"),
            (Exposed::Streams, "<a href=\"streams\">Streams</a>"),
        ];
        let links = links.iter().filter(|(route, _)| exposed.contains(route));
        let logo = ui.logo.as_ref().map(|_| format!("assets/{LOGO}"));
        let or_empty = |text: &Option<String>| escape(text.as_deref().unwrap_or_default());
        Self(vec![
            ("title", escape(&ui.title)),
            ("logo", logo.unwrap_or_default()),
            ("accent", or_empty(&ui.accent)),
            ("default_view", or_empty(&ui.default_view)),
            ("login_url", or_empty(&ui.login_url)),
            ("links", links.map(|(_, link)| *link).collect()),
        ])
    }

    /// Fills a page; one that is not text stays as it is, and so do other names.
    pub(super) fn fill(&self, page: Vec<u8>) -> Vec<u8> {
        let Ok(text) = std::str::from_utf8(&page) else {
            return page;
        };
        let mut parts = text.split("{{");
        let mut filled = parts.next().unwrap_or_default().to_owned();
        // Once from the beginning to the end, so that what is put in may have braces itself.
        for part in parts {
            let known = part.split_once("}}").and_then(|(name, rest)| {
                let (_, value) = self.0.iter().find(|(known, _)| *known == name)?;
                Some((value, rest))
            });
            match known {
                Some((value, rest)) => filled.extend([value, rest]),
                None => filled.extend(["{{", part]),
            }
        }
        filled.into_bytes()
    }

    /// Differs between templates that make different pages.
    pub(super) fn salt(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        for (_, text) in &self.0 {
            hasher.update(text.as_bytes());
            hasher.update(b"\n");
        }
        hasher.finalize()
    }
}

#[derive(Debug)]
pub(super) struct Content {
    plain: Bytes,
    /// Only where it is smaller. Made when it is first wanted, unless it came with the file.
    gzip: OnceLock<Option<Bytes>>,
}

impl Content {
    /// A file with its compressed form, or without one.
    pub(super) fn new(plain: Bytes, gzip: Option<Bytes>) -> Self {
        Self {
            plain,
            gzip: gzip.into(),
        }
    }

    /// A file that is compressed when that is first wanted, in some milliseconds.
    pub(super) const fn to_compress(plain: Bytes) -> Self {
        Self {
            plain,
            gzip: OnceLock::new(),
        }
    }

    pub(super) const fn plain(&self) -> &Bytes {
        &self.plain
    }

    /// The compressed form, where that is smaller.
    pub(super) fn gzip(&self) -> Option<&Bytes> {
        let gzip = self.gzip.get_or_init(|| compress(&self.plain).map(Into::into));
        gzip.as_ref()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_braces_are_filled_once_and_others_stay() {
        let ui = UiSettings {
            title: "A & {{links}} {{title}}".to_owned(),
            accent: Some("#0f6b74".to_owned()),
            ..UiSettings::default()
        };
        let template = Template::new(&ui, &[Exposed::Streams]);
        let fill = |text: &str| String::from_utf8(template.fill(text.into())).expect("text");
        assert_eq!(
            fill("<h1>{{title}}</h1>{{links}}"),
            "<h1>A &amp; {{links}} {{title}}</h1><a href=\"streams\">Streams</a>"
        );
        assert_eq!(
            fill("{{accent}}|{{default_view}}|{{login_url}}|{{logo}}"),
            "#0f6b74|||"
        );
        for other in [
            "",
            "{{",
            "}}",
            "{{other}}",
            "{{ title }}",
            "{{{{",
            "{title}",
            "a {{b",
        ] {
            assert_eq!(fill(other), other);
        }
        assert_eq!(fill("{{{{title}}"), "{{A &amp; {{links}} {{title}}");
        assert_eq!(template.fill(vec![0xff]), [0xff], "no text");
        let other = Template::new(&UiSettings::default(), &[Exposed::Streams]);
        assert_ne!(template.salt(), other.salt());
    }
}
