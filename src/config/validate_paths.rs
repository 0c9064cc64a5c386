//! The rules for the paths of streams and their parameters.

use std::collections::BTreeSet;

use super::faults::Faults;
use super::filter::{Filter, FilterError, Name};
use super::filter_value::{CLAIM, Written, is_bound};
use super::path_parameters::PathTemplate;
use super::stream::StreamSettings;

/// Paths that the daemon serves itself, each with everything below it.
pub const RESERVED_PATHS: [&str; 9] = [
    "/",
    "/about",
    "/assets",
    "/asyncapi.json",
    "/favicon.ico",
    "/health",
    "/metrics",
    "/openapi.json",
    "/streams",
];

/// Names the key of a stream in a message.
type KeyName<'a> = &'a dyn Fn(&str) -> String;

/// Checks the path of a stream, and the use of its parameters.
pub(super) fn check_path(stream: &StreamSettings, key: KeyName<'_>, faults: &mut Faults) {
    let path = &stream.path;
    if path.is_empty() {
        return faults.add(key("path"), "is missing; write path = \"/events\"");
    }
    if !path.starts_with('/') || !path.bytes().all(is_path_byte) || path.contains("//") {
        let message = format!(
            "{path:?} is not a plain path; it begins with \"/\" and holds letters, digits, any of -._~/ and parameters \
             like {{id}} only"
        );
        return faults.add(key("path"), message);
    }
    let template = match PathTemplate::parse(path) {
        Ok(template) => template,
        Err(message) => return faults.add(key("path"), message),
    };
    if let Some(reserved) = RESERVED_PATHS.iter().find(|reserved| is_under(path, reserved)) {
        faults.add(
            key("path"),
            format!("{reserved:?} is served by the daemon itself; take another path"),
        );
    }
    let parameters: Vec<&str> = template.iter().flat_map(PathTemplate::parameters).collect();
    check_use(stream, &parameters, key, faults);
}

/// Checks that paths differ: literal ones by their text, and ones with parameters so that no request matches two.
pub(super) fn check_collisions(streams: &[StreamSettings], faults: &mut Faults) {
    let template = |stream: &StreamSettings| PathTemplate::parse(&stream.path).ok().flatten();
    for (index, stream) in streams.iter().enumerate() {
        let before = streams.iter().take(index);
        let message = before.clone().find_map(|other| {
            if other.path == stream.path {
                return Some(format!(
                    "{:?} is served by another stream; give each its own",
                    stream.path
                ));
            }
            template(other)?.overlaps(&template(stream)?).then(|| {
                format!(
                    "{:?} and {:?} match the same requests; give them different literal parts, or use one stream",
                    other.path, stream.path
                )
            })
        });
        if let Some(message) = message {
            faults.add(format!("stream[{index}].path"), message);
        }
    }
}

/// Checks that the filter uses every parameter and no unknown one, each as a whole value.
fn check_use(stream: &StreamSettings, parameters: &[&str], key: KeyName<'_>, faults: &mut Faults) {
    let mut unused: BTreeSet<&str> = parameters.iter().copied().collect();
    // Without the terms of the fixed filter, which counts alone.
    let mut filter = Filter::default();
    for (text, values) in &stream.filter {
        let at = key(&format!("filter.{text:?}"));
        for value in values {
            let part = parameters.iter().find(|name| {
                let braced = format!("{{{name}}}");
                matches!(Written::parse(value), Written::Text(text) if text == value && text.contains(&braced))
            });
            if let Some(name) = part {
                let message = format!(
                    "{value:?} has the parameter {{{name}}} beside other text; a parameter is a whole value, as in \
                     [\"{{{name}}}\"]"
                );
                faults.add(at.clone(), message);
            }
            if matches!(Written::parse(value), Written::Text(text) if text == value && text.contains(CLAIM)) {
                let message = format!(
                    "{value:?} has a claim beside other text, or without a name; a claim is a whole value, as in \
                     [\"{CLAIM}sub}}\"]"
                );
                faults.add(at.clone(), message);
            }
        }
        if !is_bound(values) {
            continue;
        }
        let name = match Name::of_setting(text) {
            Ok(name) => name,
            Err(message) => {
                faults.add(at, message);
                continue;
            }
        };
        for value in values {
            let (text, is_known_later) = match Written::parse(value) {
                Written::Claim(claim) => (claim, true),
                Written::Text(text) => (text, false),
                Written::Parameter(parameter) => {
                    unused.remove(parameter);
                    if !parameters.contains(&parameter) {
                        let message = format!(
                            "{value:?} is not a parameter of the path {:?}; add it to the path, or write \"{{{value}}}\" for \
                             this text",
                            stream.path
                        );
                        faults.add(at.clone(), message);
                    }
                    (parameter, true)
                }
            };
            match filter.add(name.clone(), text, &stream.topics) {
                // The value of a parameter or a claim is known only by a request.
                Err(FilterError::Partition(_) | FilterError::Topic(..) | FilterError::Key(_))
                    if is_known_later => {}
                Err(error) => faults.add(at.clone(), error.to_string()),
                Ok(()) => {}
            }
        }
    }
    if let Some(name) = unused.first() {
        let message = format!(
            "has the parameter {{{name}}}, which no filter uses, so that it would change nothing; write filter = {{ key = \
             [\"{{{name}}}\"] }}, or remove it from the path"
        );
        faults.add(key("path"), message);
    }
    let names = filter.terms().map(|(name, _)| name);
    let names = names
        .filter(|name| matches!(name, Name::Header(_) | Name::Value(_)))
        .count();
    let most = stream.max_filter_paths;
    if most > 0 && names > most as usize {
        let message = format!(
            "is less than the {names} headers and values to which the filter compares parameters of the path or claims, so that no \
             client could open the stream; 1000 is usual"
        );
        faults.add(key("max_filter_paths"), message);
    }
}

fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/-._~{}".contains(&byte)
}

fn is_under(path: &str, reserved: &str) -> bool {
    path.strip_prefix(reserved)
        .is_some_and(|rest| rest.is_empty() || (reserved != "/" && rest.starts_with('/')))
}
