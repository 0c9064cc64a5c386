//! The rules for values and between keys that types do not hold. Reads a [`Draft`] and the files that it names.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::added_fields;
use super::address::{check_host_port, literal, meets};
use super::auth::Allow;
use super::cors::CorsSettings;
use super::endpoint::{Endpoint, Scheme};
use super::faults::{Fault, Faults};
use super::filter::{Filter, Name};
use super::fingerprint::fingerprint;
use super::memory;
use super::parameters::is_last_event_id;
use super::settings::{Client, Draft, HttpSettings, Isolation, KafkaSettings, Settings};
use super::stream::{LEAST_LOG, Lag, StreamSettings};
use super::units::{Size, Span};
use super::validate_auth;
use super::validate_formats;
use super::validate_http_tls;
use super::validate_paths::{check_collisions, check_path};
use super::validate_reshape;
use super::validate_schema_registry;
use super::validate_security;
use super::validate_ui;
use super::validate_views;
use crate::sse::control::ControlEvent;

pub use super::validate_paths::RESERVED_PATHS;

/// Reserved event names: those of control events, and EventSource's `open` and `error`.
pub fn reserved_events() -> impl Iterator<Item = &'static str> {
    let control = ControlEvent::ALL.map(ControlEvent::as_str);
    control.into_iter().chain(["error", "open"])
}

/// librdkafka properties that the daemon sets, because "every record once" depends on them.
const OWN_PROPERTIES: [&str; 7] = [
    "auto.offset.reset",
    "bootstrap.servers",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.partition.eof",
    "isolation.level",
    "metadata.broker.list",
];

/// More threads than any machine has processors.
const MOST_DELIVERY_THREADS: u32 = 1024;

/// The shortest interval of keepalives, heartbeats and checkpoints, and the shortest timeout of a client.
const LEAST_PAUSE: Span = Span::seconds(1);

/// The longest throttle: an hour. Beyond that a client can ask for the table now and then.
pub(crate) const LONGEST_THROTTLE: Span = Span::seconds(60 * 60);

/// The shortest reconnect time that is sent to browsers.
const LEAST_RETRY: Span = Span(Duration::from_millis(100));

/// The least quota of replays: what a turn is at least.
const LEAST_REPLAY_BYTES: Size = Size::mebibytes(4);

/// Longest topic name that Kafka allows.
const MAX_TOPIC_NAME: usize = 249;

/// Validates a draft.
///
/// # Errors
/// Every broken rule, in the order of the sections.
pub fn validate(mut draft: Draft) -> Result<Settings, Vec<Fault>> {
    let mut faults = Faults::default();
    if draft.auth.is_configured() {
        // The default depends on another section, and everything else reads the stream's alone.
        for stream in &mut draft.streams {
            stream.allow.get_or_insert(Allow::Authenticated);
        }
    }
    check_kafka(&draft, &mut faults);
    validate_security::validate(&draft.kafka, &mut faults);
    validate_schema_registry::validate(&draft.kafka.schema_registry, &mut faults);
    check_http(&draft, &mut faults);
    validate_auth::validate(&draft, &mut faults);
    if draft.streams.is_empty() {
        faults.add(
            "stream",
            "no stream is configured; add [[stream]] with a path and topics",
        );
    }
    for (index, stream) in draft.streams.iter().enumerate() {
        let key = |name: &str| format!("stream[{index}].{name}");
        check_stream(stream, &key, &mut faults);
        let has_registry = draft.kafka.schema_registry.is_configured();
        validate_formats::validate(stream, &key, has_registry, &mut faults);
        validate_reshape::validate(stream, &key, &mut faults);
        added_fields::validate(stream, &key, &mut faults);
        check_table(stream, &key, &mut faults);
        check_filter(stream, &key, &mut faults);
        validate_views::validate(stream, draft.kafka.client, &key, &mut faults);
        for (name, message) in stream.cors.iter().flat_map(CorsSettings::faults) {
            faults.add(key(&format!("cors.{name}")), message);
        }
    }
    check_collisions(&draft.streams, &mut faults);
    if let Some(message) = memory::fault(&draft) {
        faults.add("memory.limit", message);
    }
    validate_ui::validate(&draft, &mut faults);
    faults.or(Settings(draft))
}

fn check_kafka(draft: &Draft, faults: &mut Faults) {
    let kafka = &draft.kafka;
    if kafka.brokers.is_empty() {
        faults.add(
            "kafka.brokers",
            "is empty; name at least one broker as \"host:port\"",
        );
    }
    for broker in &kafka.brokers {
        if let Err(why) = check_host_port(broker, 1) {
            faults.add(
                "kafka.brokers",
                format!("{broker:?} {why}; write it like \"kafka-1.example.org:9092\""),
            );
        }
    }
    if kafka.client == Client::Kafka {
        if kafka.isolation == Isolation::ReadCommitted {
            faults.add(
                "kafka.client",
                "\"kafka\" reads uncommitted records; set isolation = \"read_uncommitted\" beside it, or \
                 client = \"auto\"",
            );
        }
        if let Some(index) = draft.streams.iter().position(StreamSettings::filters_headers) {
            let message =
                "looks at headers, which client = \"kafka\" does not give; set client = \"auto\" in [kafka]";
            faults.add(format!("stream[{index}].filter"), message);
        }
        for (index, stream) in draft.streams.iter().enumerate() {
            for (name, field, what) in [
                ("headers_field", &stream.headers_field, "headers"),
                ("timestamp_field", &stream.timestamp_field, "timestamps"),
            ] {
                if field.is_some() {
                    let message = format!(
                        "shows {what}, which client = \"kafka\" does not give; set client = \"auto\" in [kafka], or remove it"
                    );
                    faults.add(format!("stream[{index}].{name}"), message);
                }
            }
        }
        if !kafka.librdkafka.is_empty() {
            faults.add(
                "kafka.librdkafka",
                "has no effect with client = \"kafka\"; remove one of them",
            );
        }
    }
    if !cfg!(feature = "librdkafka") && kafka.isolation == Isolation::ReadCommitted {
        faults.add(
            "kafka.isolation",
            "\"read_committed\" needs librdkafka, which is not part of this build; set \"read_uncommitted\"",
        );
    }
    let is_built = match kafka.client {
        Client::Auto => true,
        Client::Kafka => cfg!(feature = "kafka-crate"),
        Client::Librdkafka => cfg!(feature = "librdkafka"),
    };
    if !is_built {
        faults.add(
            "kafka.client",
            format!(
                "{:?} is not part of this build; set \"auto\"",
                kafka.client.as_str()
            ),
        );
    }
    check_properties(kafka, faults);
}

fn check_properties(kafka: &KafkaSettings, faults: &mut Faults) {
    for name in OWN_PROPERTIES {
        if kafka.librdkafka.contains_key(name) {
            let message = format!("{name:?} is the daemon's own to set; remove it");
            faults.add(format!("kafka.librdkafka.{name:?}"), message);
        }
    }
    // With the other client no property has an effect, which is a fault of its own.
    #[cfg(feature = "librdkafka")]
    if kafka.client != Client::Kafka {
        for (name, value) in &kafka.librdkafka {
            if let Some(message) = super::librdkafka::fault(name, value) {
                faults.add(format!("kafka.librdkafka.{name:?}"), message);
            }
        }
    }
}

fn check_http(draft: &Draft, faults: &mut Faults) {
    let http = &draft.http;
    check_listen(draft, faults);
    for (name, span) in [
        ("keepalive", http.keepalive),
        ("retry", http.retry),
        ("drain_timeout", http.drain_timeout),
        ("max_lifetime", http.max_lifetime),
        ("write_timeout", http.write_timeout),
    ] {
        faults.add_if_longest(format!("http.{name}"), span);
    }
    if http.keepalive < LEAST_PAUSE {
        faults.add(
            "http.keepalive",
            format!("is less than {LEAST_PAUSE}; proxies are content with 15s"),
        );
    }
    if http.max_lifetime > Span::seconds(0) && http.max_lifetime < LEAST_PAUSE {
        faults.add(
            "http.max_lifetime",
            format!("is less than {LEAST_PAUSE}; 0s means for ever, 1h is usual"),
        );
    }
    if http.write_timeout < LEAST_PAUSE {
        faults.add(
            "http.write_timeout",
            format!("is less than {LEAST_PAUSE}, which a network that works may take; 30s is usual"),
        );
    }
    if http.retry < LEAST_RETRY {
        faults.add("http.retry", format!("is less than {LEAST_RETRY}; 2s is usual"));
    }
    check_replay_quota(http, faults);
    if let Some(why) = fault_of_base_path(&http.base_path) {
        let message = format!(
            "{:?} {why}; write something like \"/live\", or \"\" for none",
            http.base_path
        );
        faults.add("http.base_path", message);
    }
    for name in &http.ignored_parameters {
        if matches!(name.as_str(), "start" | "since")
            || is_last_event_id(name)
            || !matches!(Name::parse(name), Ok(None))
        {
            let message = format!("{name:?} means something to streams; name only what they do not know");
            faults.add("http.ignored_parameters", message);
        }
    }
    if http.http2_max_concurrent_streams == 0 {
        faults.add(
            "http.http2_max_concurrent_streams",
            "is 0, so that no request is served; 128 is usual",
        );
    }
    if http.delivery_threads > MOST_DELIVERY_THREADS {
        let message = format!(
            "is {}; at most {MOST_DELIVERY_THREADS}, and more than one per processor serve nobody faster",
            http.delivery_threads
        );
        faults.add("http.delivery_threads", message);
    }
    for (name, message) in http.cors.faults() {
        faults.add(format!("http.cors.{name}"), message);
    }
    if let Some(tls) = &http.tls {
        validate_http_tls::validate(tls, faults);
    }
}

fn check_replay_quota(http: &HttpSettings, faults: &mut Faults) {
    let (in_all, per_client) = (
        http.max_replay_bytes_per_minute,
        http.max_replay_bytes_per_minute_per_client,
    );
    for (name, quota) in [
        ("max_replay_bytes_per_minute", in_all),
        ("max_replay_bytes_per_minute_per_client", per_client),
    ] {
        if quota > Size(0) && quota < LEAST_REPLAY_BYTES {
            faults.add(
                format!("http.{name}"),
                format!("is less than {LEAST_REPLAY_BYTES}, which a turn reads at least; 1GiB is usual, 0B is unlimited"),
            );
        }
    }
    if in_all > Size(0) && per_client > in_all {
        faults.add(
            "http.max_replay_bytes_per_minute_per_client",
            format!("has no effect: it is more than the {in_all} of max_replay_bytes_per_minute; lower it, or remove it"),
        );
    }
}

/// The addresses of `[http]` and `[http.admin]`, and the groups of their sockets.
fn check_listen(draft: &Draft, faults: &mut Faults) {
    let (http, admin) = (&draft.http, &draft.http.admin);
    if http.listen.is_empty() && http.tls.is_none() {
        faults.add(
            "http.listen",
            "is empty; name at least one address like \"127.0.0.1:3000\"",
        );
    }
    for (section, addresses, group) in [
        ("http", &http.listen, &http.unix_socket_group),
        ("http.admin", &admin.listen, &admin.unix_socket_group),
    ] {
        for listen in addresses {
            let outcome = match listen.strip_prefix("unix:") {
                Some(path) if path.starts_with('/') => Ok(()),
                Some(_) => Err("names a socket without an absolute path".to_owned()),
                // Sockets that a socket unit has bound.
                None if listen == "systemd" => Ok(()),
                None => check_host_port(listen, 0),
            };
            if let Err(why) = outcome {
                let message = format!(
                    "{listen:?} {why}; write \"127.0.0.1:3000\", \"*:3000\", \"unix:/run/x.sock\" or \"systemd\""
                );
                faults.add(format!("{section}.listen"), message);
            }
        }
        if group.as_ref().is_some_and(String::is_empty) {
            faults.add(
                format!("{section}.unix_socket_group"),
                "is empty; write the name or number of a group, or remove the line",
            );
        }
    }
    check_addresses_differ(&http.endpoints(), faults);
}

/// Any two addresses of all listeners can be bound beside each other, as far as that is known without asking for names.
fn check_addresses_differ(endpoints: &[Endpoint], faults: &mut Faults) {
    // Two sockets may have the same name where each gets another port, or another descriptor.
    let is_one = |endpoint: &&Endpoint| endpoint.address != "systemd" && !endpoint.address.ends_with(":0");
    let endpoints: Vec<&Endpoint> = endpoints.iter().filter(is_one).collect();
    for (index, endpoint) in endpoints.iter().enumerate() {
        let address = &endpoint.address;
        let overlaps = |other: &&&Endpoint| {
            *address == other.address
                || literal(address)
                    .zip(literal(&other.address))
                    .is_some_and(|(one, other)| meets(one, other))
        };
        let Some(other) = endpoints[..index].iter().find(overlaps) else {
            continue;
        };
        let message = if endpoint == other {
            format!("{address:?} is named twice; name it once")
        } else {
            format!(
                "{address:?} cannot be bound beside {:?} of {}; choose another address or port",
                other.address,
                other.key()
            )
        };
        let key = match endpoint.scheme {
            Scheme::Http => "http.listen",
            Scheme::Https => "http.tls.listen",
            Scheme::Redirect => "http.tls.redirect_to_https",
            Scheme::Admin => "http.admin.listen",
        };
        faults.add(key, message);
    }
}

fn check_stream(stream: &StreamSettings, key: &dyn Fn(&str) -> String, faults: &mut Faults) {
    check_path(stream, key, faults);
    if stream.topics.is_empty() {
        faults.add(key("topics"), "is missing; write topics = [\"my-topic\"]");
    }
    let mut topics = BTreeSet::new();
    let mut fingerprints = BTreeMap::new();
    for topic in &stream.topics {
        let is_name = topic
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if !is_name
            || topic.is_empty()
            || topic.len() > MAX_TOPIC_NAME
            || matches!(topic.as_str(), "." | "..")
        {
            let message = format!(
                "{topic:?} cannot be a topic's name; Kafka allows letters, digits, and any of ._- up to {MAX_TOPIC_NAME}"
            );
            faults.add(key("topics"), message);
        }
        if !topics.insert(topic) {
            faults.add(key("topics"), format!("{topic:?} is named twice; name it once"));
        } else if let Some(other) = fingerprints.insert(fingerprint(topic), topic) {
            let message = format!(
                "{other:?} and {topic:?} have the same CRC-32, by which event ids tell topics apart; give one of \
                 them a stream of its own"
            );
            faults.add(key("topics"), message);
        }
    }

    if let Some(event) = &stream.event {
        if reserved_events().any(|reserved| reserved == event) {
            let message = format!(
                "{event:?} has a meaning of its own; take another than {}",
                reserved_events().collect::<Vec<_>>().join(", ")
            );
            faults.add(key("event"), message);
        } else if event.is_empty() || event.chars().any(char::is_control) {
            let message = format!("{event:?} cannot be an event's name; write a word, or remove the line");
            faults.add(key("event"), message);
        }
    }
    if stream.throttle > LONGEST_THROTTLE {
        faults.add(
            key("throttle"),
            format!("is more than {LONGEST_THROTTLE}; 1s is usual"),
        );
    }
    if stream.throttle > Span::seconds(0) && !stream.has_table() {
        faults.add(
            key("throttle"),
            "needs a table, which has the latest value of each key: set start = \"snapshot\", or remove throttle",
        );
    }
    for (name, interval) in [
        ("checkpoint_interval", stream.checkpoint_interval),
        ("heartbeat_interval", stream.heartbeat_interval),
    ] {
        faults.add_if_longest(key(name), interval);
        if interval < LEAST_PAUSE {
            faults.add(key(name), format!("is less than {LEAST_PAUSE}; 10s is usual"));
        }
    }
    if stream.log_bytes < LEAST_LOG {
        faults.add(
            key("log_bytes"),
            format!("is less than {LEAST_LOG}, which two blocks of records may take"),
        );
    }
}

fn check_table(stream: &StreamSettings, key: &dyn Fn(&str) -> String, faults: &mut Faults) {
    if stream.lag == Some(Lag::Latest) && !stream.has_table() {
        let message = "\"latest\" needs a table; write start = \"snapshot\", or lag = \"disconnect\"";
        faults.add(key("lag"), message);
    }
    if stream.max_keys == 0 {
        faults.add(
            key("max_keys"),
            "is 0, so that the table holds no key; 1000000 is usual",
        );
    }
    if stream.max_table_bytes < LEAST_LOG {
        faults.add(
            key("max_table_bytes"),
            format!("is less than {LEAST_LOG}; 256MiB is usual"),
        );
    }
}

fn check_filter(stream: &StreamSettings, key: &dyn Fn(&str) -> String, faults: &mut Faults) {
    if let Err((name, message)) = Filter::from_settings(&stream.filter, &stream.topics) {
        let key = match name {
            Some(name) => key(&format!("filter.{name:?}")),
            None => key("filter"),
        };
        faults.add(key, message);
    }
}

/// The fault of a path prefix, if any.
fn fault_of_base_path(path: &str) -> Option<&'static str> {
    if path.is_empty() {
        return None;
    }
    if !path.starts_with('/') {
        return Some("does not begin with \"/\"");
    }
    if path.ends_with('/') {
        return Some("ends with \"/\"");
    }
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    if !path.bytes().all(is_plain) {
        return Some("holds more than letters, digits, and any of -._~/");
    }
    let is_no_name = |part: &str| matches!(part, "" | "." | "..");
    path.split('/')
        .skip(1)
        .any(is_no_name)
        .then_some("holds an empty part, \".\" or \"..\"")
}
