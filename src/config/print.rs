//! The effective settings as TOML that can be used again, with the origin of each.

use std::fmt::Write;

use toml::Value;

use super::load::Loaded;
use super::settings::Settings;

pub(super) const MASK: &str = "***";

/// The only table whose values may be secrets; other tables hold paths of files with secrets.
const PROPERTIES: &str = "kafka.librdkafka.";

/// Parts of the names of properties whose values are secrets.
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

/// Text that marks a value as a secret, whatever its name.
const PRIVATE: &str = "PRIVATE KEY";

/// Column of the origins, behind lines that are short enough.
const ORIGIN_COLUMN: usize = 56;

/// All settings as TOML, with a comment per line that names the origin; secrets are masked.
pub(crate) fn print(loaded: &Loaded) -> String {
    let mut out = String::new();
    for (name, section) in &masked(&loaded.settings) {
        print_value(&mut out, name, name, section, loaded);
        if name == "memory" && section.as_table().is_some_and(toml::Table::is_empty) {
            print_default_limit(&mut out, loaded);
        }
    }
    out
}

/// A number that is equal for equal settings in every process, and differs for nearly all others. Secrets do not
/// count, because a short number is enough to try passwords on; the paths of their files do.
pub fn fingerprint(settings: &Settings) -> u32 {
    crc32fast::hash(Value::Table(masked(settings)).to_string().as_bytes())
}

/// The settings with [`MASK`] in place of secrets.
fn masked(settings: &Settings) -> toml::Table {
    // Settings are plain tables, strings, numbers and lists, which TOML can all hold.
    let mut table = toml::Table::try_from(&**settings).unwrap_or_default();
    for (name, section) in &mut table {
        mask(name, section);
    }
    table
}

fn mask(path: &str, value: &mut Value) {
    let is_secret = |name: &str| SECRETS.iter().any(|part| name.to_lowercase().contains(part));
    match value {
        Value::Table(table) => {
            for (name, value) in table {
                mask(&format!("{path}.{name}"), value);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| mask(path, item)),
        Value::String(text)
            if text.contains(PRIVATE) || path.strip_prefix(PROPERTIES).is_some_and(is_secret) =>
        {
            MASK.clone_into(text);
        }
        _ => {}
    }
}

/// Whether a value has headers of its own: a table, or a list of tables.
fn is_section(value: &Value) -> bool {
    match value {
        Value::Table(_) => true,
        Value::Array(items) => items.first().is_some_and(Value::is_table),
        _ => false,
    }
}

/// Prints a table, or each of a list. `name` is that of its header, which has no indices, and `path` that of its origins.
fn print_value(out: &mut String, name: &str, path: &str, value: &Value, loaded: &Loaded) {
    match value {
        Value::Table(section) => print_section(out, &format!("[{name}]"), (name, path), section, loaded),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                if let Value::Table(section) = item {
                    let path = format!("{path}[{index}]");
                    print_section(out, &format!("[[{name}]]"), (name, &path), section, loaded);
                }
            }
        }
        _ => {}
    }
}

fn print_section(
    out: &mut String,
    header: &str,
    (name, path): (&str, &str),
    section: &toml::Table,
    loaded: &Loaded,
) {
    let gap = if out.is_empty() { "" } else { "\n" };
    // Writing into a string cannot fail.
    let _ = writeln!(out, "{gap}{header}");
    for (key, value) in section.iter().filter(|(_, value)| !is_section(value)) {
        print_line(out, path, key, value, loaded);
    }
    // Behind the lines, which would belong to these otherwise.
    for (key, value) in section.iter().filter(|(_, value)| is_section(value)) {
        print_value(
            out,
            &format!("{name}.{key}"),
            &format!("{path}.{key}"),
            value,
            loaded,
        );
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
