//! The effective settings as TOML that can be used again, each with where it came from.

use std::fmt::Write;

use toml::Value;

use super::load::Loaded;
use super::settings::Settings;

/// What stands in place of a secret.
const MASK: &str = "***";

/// The one table whose values may be secrets themselves, and not the place of one.
const PROPERTIES: &str = "kafka.librdkafka";

/// Parts of the names of properties that are.
const SECRETS: [&str; 8] = [
    "password",
    "passphrase",
    "secret",
    "token",
    "key.pem",
    "jaas.config",
    "oauthbearer.config",
    "assertion",
];

/// What no value may show, whatever its name.
const PRIVATE: &str = "PRIVATE KEY";

/// Column in which the origins begin, where the line is short enough.
const ORIGIN_COLUMN: usize = 56;

/// All settings as TOML, with a comment per line that names the origin; secrets are masked.
#[must_use]
pub fn print(loaded: &Loaded) -> String {
    let mut out = String::new();
    // Settings are plain tables, strings, numbers and lists, which TOML can all hold.
    let Ok(Value::Table(table)) = Value::try_from(&*loaded.settings) else {
        return out;
    };
    for (name, section) in &table {
        match section {
            Value::Table(section) => {
                print_section(&mut out, &format!("[{name}]"), name, section, loaded);
                if name == "memory" && section.is_empty() {
                    print_default_limit(&mut out, loaded);
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    if let Value::Table(section) = item {
                        print_section(
                            &mut out,
                            &format!("[[{name}]]"),
                            &format!("{name}[{index}]"),
                            section,
                            loaded,
                        );
                    }
                }
            }
            _ => {}
        }
    }
    out
}

/// A number that is the same for the same settings in every process, and another one for nearly all others.
/// Secrets do not count: a short number is enough to try passwords on.
#[must_use]
pub fn fingerprint(settings: &Settings) -> u32 {
    // As in `print`.
    let mut value = Value::try_from(&**settings).unwrap_or_else(|_| Value::Table(toml::Table::new()));
    mask(&mut value);
    crc32fast::hash(value.to_string().as_bytes())
}

fn mask(value: &mut Value) {
    match value {
        Value::Table(table) => {
            for (name, value) in table {
                if is_secret(name, value) {
                    *value = MASK.into();
                }
                mask(value);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(mask),
        _ => {}
    }
}

fn is_secret(name: &str, value: &Value) -> bool {
    let is_table = matches!(value, Value::Table(_));
    (!is_table && SECRETS.iter().any(|part| name.to_lowercase().contains(part)))
        || value.as_str().is_some_and(|value| value.contains(PRIVATE))
}

fn print_section(out: &mut String, header: &str, path: &str, section: &toml::Table, loaded: &Loaded) {
    let gap = if out.is_empty() { "" } else { "\n" };
    // Writing into a string cannot fail.
    let _ = writeln!(out, "{gap}{header}");
    let is_table = |value: &Value| matches!(value, Value::Table(_));
    for (name, value) in section.iter().filter(|(_, value)| !is_table(value)) {
        print_line(out, path, name, value, loaded);
    }
    for (name, value) in section {
        if let Value::Table(inner) = value {
            let path = format!("{path}.{name}");
            print_section(out, &format!("[{path}]"), &path, inner, loaded);
        }
    }
}

/// The limit of memory where none is set: a comment, because it depends on where the daemon runs.
fn print_default_limit(out: &mut String, loaded: &Loaded) {
    if let (Some(limit), Some(available)) = (loaded.memory.limit, &loaded.memory.available) {
        let line = format!("#limit = \"{limit}\"");
        let _ = writeln!(
            out,
            "{line:ORIGIN_COLUMN$} # default: half of the memory of {}",
            available.source
        );
    }
}

fn print_line(out: &mut String, path: &str, name: &str, value: &Value, loaded: &Loaded) {
    let is_secret = path == PROPERTIES && SECRETS.iter().any(|part| name.to_lowercase().contains(part))
        || value.as_str().is_some_and(|value| value.contains(PRIVATE));
    let value = if is_secret {
        Value::from(MASK)
    } else {
        value.clone()
    };
    let is_bare = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    let name = if is_bare {
        name.to_owned()
    } else {
        format!("{name:?}")
    };
    let line = format!("{name} = {value}");
    let origin = loaded.origin(&format!("{path}.{name}"));
    let _ = writeln!(out, "{line:ORIGIN_COLUMN$} # {origin}");
}
