//! The rules of `[ui]`.

use std::fs::{self, File};
use std::path::Path;

use super::colors::is_color;
use super::cors::{ANY_ORIGIN, fault_of_origin};
use super::faults::Faults;
use super::path_parameters::PathTemplate;
use super::settings::Draft;

/// The only entry of `frame_ancestors` that is no origin: no page may show the page in a frame.
pub(crate) const NO_ANCESTOR: &str = "none";

/// Most bytes of a logo: it is a part of every first visit.
const MAX_LOGO: u64 = 1 << 20;

/// The endings of files that can be a logo, in which browsers show them.
const LOGOS: [&str; 3] = ["svg", "png", "webp"];

pub(super) fn validate(draft: &Draft, faults: &mut Faults) {
    let ui = &draft.ui;
    if let Some(assets) = &ui.assets
        && !assets.join("index.html").is_file()
    {
        let message = format!(
            "{} holds no index.html; name the directory that does",
            assets.display()
        );
        faults.add("ui.assets", message);
    }
    if let Some(url) = &ui.login_url
        && !is_link(url)
    {
        let message = format!(
            "{url:?} is not a URL of http or https, nor a path; write \"/login\" or \"https://login.example.org/\""
        );
        faults.add("ui.login_url", message);
    }
    if let Some(logo) = &ui.logo
        && let Some(why) = fault_of_logo(logo)
    {
        let message = format!(
            "{} {why}; name a file of SVG, PNG or WebP of at most 1 MiB",
            logo.display()
        );
        faults.add("ui.logo", message);
    }
    if let Some(accent) = &ui.accent
        && !is_color(accent)
    {
        faults.add(
            "ui.accent",
            format!("{accent:?} is not a colour; write it like \"#0f6b74\" or \"teal\""),
        );
    }
    if let Some(view) = &ui.default_view
        && let Some(why) = fault_of_view(view, draft)
    {
        let message = format!("{view:?} {why}; write the path of a stream, as in \"/orders?view=feed\"");
        faults.add("ui.default_view", message);
    }
    for ancestor in &ui.frame_ancestors {
        if let Some(why) = fault_of_ancestor(ancestor, ui.frame_ancestors.len()) {
            let message = format!(
                "{ancestor:?} {why}; write it like \"https://intranet.example.org\" or \"https://*.example.org\", or \
                 \"{NO_ANCESTOR}\" alone"
            );
            faults.add("ui.frame_ancestors", message);
        }
    }
}

fn fault_of_logo(file: &Path) -> Option<String> {
    let ending = file.extension().and_then(|ending| ending.to_str());
    if !ending.is_some_and(|ending| LOGOS.contains(&ending.to_ascii_lowercase().as_str())) {
        return Some("has another ending than .svg, .png and .webp".to_owned());
    }
    match fs::metadata(file) {
        Err(error) => Some(format!("cannot be read: {error}")),
        Ok(metadata) if !metadata.is_file() => Some("is not a file".to_owned()),
        Ok(metadata) => match File::open(file) {
            Err(error) => Some(format!("cannot be read: {error}")),
            Ok(_) => (metadata.len() > MAX_LOGO).then(|| "is larger".to_owned()),
        },
    }
}

/// The fault of a link within the page, if there is one.
fn fault_of_view(view: &str, draft: &Draft) -> Option<&'static str> {
    if view
        .chars()
        .any(|character| character.is_control() || matches!(character, '#' | '\\' | ' '))
    {
        return Some("has characters that a link has escaped");
    }
    let path = view.split('?').next().unwrap_or_default();
    let is_served = draft
        .streams
        .iter()
        .any(|stream| match PathTemplate::parse(&stream.path) {
            Ok(Some(template)) => matches!(template.values(path), Some(Ok(_))),
            _ => stream.path == path,
        });
    (!is_served).then_some("begins with the path of no stream")
}

fn fault_of_ancestor(ancestor: &str, entries: usize) -> Option<&'static str> {
    if ancestor == NO_ANCESTOR {
        return (entries > 1).then_some("stands beside others");
    }
    if ancestor == ANY_ORIGIN {
        return Some("would let every site lay the page under its own");
    }
    if ancestor.contains('[') {
        return Some("is an address of IPv6, which a Content-Security-Policy cannot have");
    }
    fault_of_origin(ancestor)
}

/// Whether a page may lead somewhere: no script (`javascript:`), and no other host by mistake (`//host`).
fn is_link(url: &str) -> bool {
    let is_path = url.starts_with('/') && !url.starts_with("//");
    let is_absolute = url.parse::<http::Uri>().is_ok_and(|url| {
        matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some_and(|host| !host.is_empty())
    });
    (is_path || is_absolute) && !url.contains(|character: char| character.is_control() || character == '\\')
}
