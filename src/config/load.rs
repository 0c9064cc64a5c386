//! The layers: defaults < file < environment < flags, and the origin of each value.
//!
//! The file is read twice: once strictly on its own, so that an error names its line, and once as a
//! layer under the environment and the flags, by the crate config.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;

use toml::de::DeTable;

use super::address::check_host_port;
use super::available::available;
use super::faults::Fault;
use super::http_tls::HttpTlsSettings;
use super::memory::{self, Memory};
use super::settings::{Draft, Settings};
use super::suggest::nearest;
use super::toml_keys::{find, key_at, line, segments};
use super::validate::validate;

/// The prefix of the daemon's variables; `__` separates the parts of a key.
pub const ENVIRONMENT_PREFIX: &str = "KAFKA_SSE_BRIDGE";

type Builder = config::ConfigBuilder<config::builder::DefaultState>;

/// The table of librdkafka's properties.
const PROPERTIES: &str = "kafka.librdkafka";

/// The table into which an operator may write a secret by mistake.
const SASL: &str = "kafka.sasl";

/// Another one, with values that are no text too.
const SCHEMA_REGISTRY: &str = "kafka.schema_registry";

/// The text of a configuration, and its name in messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// A file, read at every load.
    File(PathBuf),
    /// A text in the binary.
    BuiltIn {
        /// The name.
        name: &'static str,
        /// The text.
        text: Cow<'static, str>,
    },
}

impl Document {
    /// Its name in messages.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::BuiltIn { name, .. } => (*name).to_owned(),
        }
    }

    fn read(&self) -> io::Result<String> {
        match self {
            Self::File(path) => fs::read_to_string(path),
            Self::BuiltIn { text, .. } => Ok(text.clone().into_owned()),
        }
    }
}

/// Settings given on the command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--listen`, may be repeated.
    pub listen: Vec<String>,
    /// `--brokers`, separated by commas; may be repeated.
    pub brokers: Vec<String>,
    /// `--log-level`.
    pub log_level: Option<String>,
    /// `--assets`.
    pub assets: Option<PathBuf>,
}

impl Flags {
    /// The flags given: key, flag, values.
    fn given(&self) -> Vec<(&'static str, &'static str, config::Value)> {
        let list = |items: &[String]| (!items.is_empty()).then(|| config::Value::from(items.to_vec()));
        let assets = self.assets.as_ref().map(|path| path.display().to_string());
        [
            ("http.listen", "--listen", list(&self.listen)),
            ("kafka.brokers", "--brokers", list(&self.brokers)),
            (
                "log.level",
                "--log-level",
                self.log_level.clone().map(config::Value::from),
            ),
            ("ui.assets", "--assets", assets.map(config::Value::from)),
        ]
        .into_iter()
        .filter_map(|(key, flag, value)| Some((key, flag, value?)))
        .collect()
    }
}

/// A fault of the configuration and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// File and line, variable or flag.
    pub place: String,
    /// The key, if the fault is that of one.
    pub key: Option<String>,
    /// The fault and the remedy.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// All faults of a configuration, one per line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ConfigError(pub Vec<Problem>);

/// Settings, and the origin of each value.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The validated settings.
    pub settings: Settings,
    /// The limit of memory, and the bounds that are derived from it.
    pub memory: Memory,
    origins: Origins,
    /// Whether the default of [`PER_IP`] is lower because of [`HANDSHAKES`].
    is_per_ip_derived: bool,
}

const HANDSHAKES: &str = "http.tls.max_handshakes";
const PER_IP: &str = "http.tls.max_handshakes_per_ip";

impl Loaded {
    /// The origin of the value of `key` (`http.listen`, `stream[0].path`): `default`, `derived from memory.limit`,
    /// `file:line`, `environment NAME` or `flag --name`.
    pub fn origin(&self, key: &str) -> String {
        self.origins.of(key).unwrap_or_else(|| {
            if self.memory.is_derived(key) {
                "derived from memory.limit".to_owned()
            } else if self.is_per_ip_derived && key == PER_IP {
                format!("derived from {HANDSHAKES}")
            } else {
                "default".to_owned()
            }
        })
    }
}

#[derive(Debug, Clone, Default)]
struct Origins {
    document: (String, String),
    /// Variable or flag by key, later layers last.
    layers: Vec<BTreeMap<String, String>>,
}

impl Origins {
    fn of(&self, key: &str) -> Option<String> {
        let layered = self.layers.iter().rev().find_map(|layer| layer.get(key)).cloned();
        layered.or_else(|| self.in_file(key))
    }

    /// `file:line` where the file writes `key`.
    fn in_file(&self, key: &str) -> Option<String> {
        let (name, text) = &self.document;
        let table = DeTable::parse(text).ok()?;
        let start = find(table.get_ref(), &segments(key))?;
        Some(format!("{name}:{}", line(text, start)))
    }

    /// The best place to name for a fault of `key`: its own, or its nearest parent's, or the file.
    fn blame(&self, key: &str) -> String {
        if let Some(origin) = self.of(key) {
            return origin;
        }
        let mut parent = key;
        while let Some((shorter, _)) = parent.rsplit_once(['.', '[']) {
            parent = shorter;
            if let Some(place) = self.in_file(parent) {
                return place;
            }
        }
        self.document.0.clone()
    }
}

/// Reads the document and lays the environment and the flags over it.
///
/// # Errors
/// Every problem found, each with file and line, variable or flag.
pub fn load(
    document: &Document,
    environment: &BTreeMap<String, String>,
    flags: &Flags,
) -> Result<Loaded, ConfigError> {
    let name = document.name();
    let text = document.read().map_err(|error| {
        one(
            name.as_str(),
            None,
            format!("cannot be read: {error}; name another file with --config"),
        )
    })?;
    toml::from_str::<Draft>(&text).map_err(|error| in_file(&name, &text, &error))?;
    let mut builder =
        config::Config::builder().add_source(config::File::from_str(&text, config::FileFormat::Toml));
    let mut origins = Origins {
        document: (name, text),
        layers: Vec::new(),
    };

    let mut layer = BTreeMap::new();
    // One value for all properties: of two at the same place the builder keeps the last.
    let mut properties: config::Map<String, config::Value> = config::Map::new();
    for (name, text) in our_variables(environment) {
        let variable = Variable::read(name, text);
        variable.check_alone()?;
        let place = format!("environment {name}");
        match &variable.property {
            Some(property) => {
                properties.insert(property.clone(), text.into());
            }
            None => {
                builder = variable
                    .lay_over(builder)
                    .map_err(|error| one(&place, None, error.to_string()))?;
            }
        }
        layer.insert(variable.key, place);
    }
    if !properties.is_empty() {
        builder = builder
            .set_override(PROPERTIES, properties)
            .map_err(|error| one("environment", Some(PROPERTIES), error.to_string()))?;
    }
    if let Some(port) = environment.get("PORT")
        && !layer.contains_key("http.listen")
    {
        let listen = format!("*:{port}");
        check_host_port(&listen, 0).map_err(|_| {
            let message = format!("{port:?} is not a port; set a number up to 65535, or unset it");
            one("environment PORT", None, message)
        })?;
        builder = builder
            .set_override("http.listen", vec![listen])
            .map_err(|error| one("environment PORT", None, error.to_string()))?;
        layer.insert("http.listen".to_owned(), "environment PORT".to_owned());
    }
    origins.layers.push(layer);

    let mut layer = BTreeMap::new();
    for (key, flag, value) in flags.given() {
        let place = format!("flag {flag}");
        builder = builder
            .set_override(key, value)
            .map_err(|error| one(&place, Some(key), error.to_string()))?;
        layer.insert(key.to_owned(), place);
    }
    origins.layers.push(layer);

    let mut draft: Draft = builder
        .build()
        .and_then(config::Config::try_deserialize)
        .map_err(|error| one("flags", None, explain_unknown(&error.to_string())))?;
    let memory = {
        // Streams are in the file alone, which is parsed once for all of them.
        let table = DeTable::parse(&origins.document.1).ok();
        let is_set = |key: &str| {
            let table = table.as_ref();
            table.is_some_and(|table| find(table.get_ref(), &segments(key)).is_some())
        };
        memory::derive(&mut draft, available(), is_set)
    };
    let is_per_ip_derived = origins.of(PER_IP).is_none()
        && (draft.http.tls.as_mut()).is_some_and(HttpTlsSettings::lower_default_per_ip);
    match validate(draft) {
        Ok(settings) => Ok(Loaded {
            settings,
            memory,
            origins,
            is_per_ip_derived,
        }),
        Err(faults) => {
            let problem = |fault: Fault| Problem {
                place: origins.blame(&fault.key),
                key: Some(fault.key),
                message: fault.message,
            };
            Err(ConfigError(faults.into_iter().map(problem).collect()))
        }
    }
}

/// The daemon's variables, in the order of their names.
fn our_variables(environment: &BTreeMap<String, String>) -> impl Iterator<Item = (&str, &str)> {
    environment
        .iter()
        .filter(|(name, _)| {
            name.strip_prefix(ENVIRONMENT_PREFIX)
                .is_some_and(|rest| rest.starts_with("__"))
        })
        .map(|(name, text)| (name.as_str(), text.as_str()))
}

/// One variable as a key and a value. Values stay text: a title may look like a number.
struct Variable<'a> {
    name: &'a str,
    /// The key, as origins are looked up by it.
    key: String,
    /// The librdkafka property it sets, if it is one.
    property: Option<String>,
    /// Where the value is laid.
    path: String,
    value: config::Value,
}

impl<'a> Variable<'a> {
    fn read(name: &'a str, text: &str) -> Self {
        let parts: Vec<String> = name.split("__").skip(1).map(str::to_lowercase).collect();
        if let [kafka, librdkafka, property] = parts.as_slice()
            && (kafka.as_str(), librdkafka.as_str()) == ("kafka", "librdkafka")
        {
            // Properties have dots in their names, which variables cannot.
            let property = property.replace('_', ".");
            return Self {
                name,
                key: format!("kafka.librdkafka.{property:?}"),
                path: PROPERTIES.to_owned(),
                value: config::Map::from([(property.clone(), config::Value::from(text))]).into(),
                property: Some(property),
            };
        }
        let key = parts.join(".");
        Self {
            name,
            property: None,
            path: key.clone(),
            key,
            value: text.into(),
        }
    }

    fn lay_over(&self, builder: Builder) -> Result<Builder, config::ConfigError> {
        builder.set_override(&self.path, self.value.clone())
    }

    /// Reads the variable on its own, so that an error can name it.
    fn check_alone(&self) -> Result<(), ConfigError> {
        self.lay_over(config::Config::builder())
            .and_then(Builder::build)
            .and_then(config::Config::try_deserialize::<Draft>)
            .map(|_| ())
            .map_err(|error| {
                one(
                    format!("environment {}", self.name),
                    None,
                    explain_unknown(&error.to_string()),
                )
            })
    }
}

fn one(place: impl Into<String>, key: Option<&str>, message: impl Into<String>) -> ConfigError {
    ConfigError(vec![Problem {
        place: place.into(),
        key: key.map(str::to_owned),
        message: message.into(),
    }])
}

/// The fault found by the strict reading of the file, with line and key.
fn in_file(name: &str, text: &str, error: &toml::de::Error) -> ConfigError {
    let start = error.span().map(|span| span.start);
    let key = start.and_then(|start| {
        let table = DeTable::parse(text).ok()?;
        key_at(table.get_ref(), start)
    });
    let place = match start {
        Some(start) => format!("{name}:{}", line(text, start)),
        None => name.to_owned(),
    };
    let is_in = |table: &str| {
        let rest = key.as_deref().and_then(|key| key.strip_prefix(table));
        rest.is_some_and(|rest| rest.starts_with('.'))
    };
    // Where nothing but a value's type can be wrong, the message would show the value.
    let is_unknown = error.message().starts_with("unknown ");
    let is_of_another_type = error.message().starts_with("invalid type");
    let shows_value =
        is_in(PROPERTIES) || (is_in(SASL) && !is_unknown) || (is_in(SCHEMA_REGISTRY) && is_of_another_type);
    let message = if shows_value {
        "is not a text; put the value in quotes".to_owned()
    } else {
        explain_unknown(error.message())
    };
    one(place, key.as_deref(), message)
}

/// Turns serde's "unknown field `x`, expected one of `a`, `b`" into a suggestion.
fn explain_unknown(message: &str) -> String {
    let message = message.trim_end();
    let quoted =
        |text: &str| -> Vec<String> { text.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let (kind, rest) = if let Some(rest) = message.split_once("unknown field ").map(|parts| parts.1) {
        ("key", rest)
    } else if let Some(rest) = message.split_once("unknown variant ").map(|parts| parts.1) {
        ("value", rest)
    } else {
        return message.to_owned();
    };
    // The crate config adds the key, which is named elsewhere.
    let words = quoted(rest.split_once(" for key ").map_or(rest, |parts| parts.0));
    let Some((wrong, known)) = words.split_first() else {
        return message.to_owned();
    };
    let nearest = nearest(wrong, known.iter().map(String::as_str));
    let known = known.join(", ");
    match nearest {
        Some(word) => format!("unknown {kind} {wrong:?}; did you mean {word:?}? (known: {known})"),
        None => format!("unknown {kind} {wrong:?} (known: {known})"),
    }
}
