//! When a change of each key takes effect: the only place that decides it.
//!
//! Every section is destructured without `..`, so that a key that is added does not compile until it is decided here.

use super::auth::{AuthSettings, CertificateAuthSettings, JwtSettings, ProxySettings, TokenSettings};
use super::cors::CorsSettings;
use super::effect::Effect::{Live, NewStream, Rebuild, Restart};
use super::effect::{ComparedKey, Effects};
use super::exposure::AdminSettings;
use super::http_tls::HttpTlsSettings;
use super::schema_registry::SchemaRegistrySettings;
use super::security::{SaslSettings, TlsSettings};
use super::settings::{Draft, HttpSettings, KafkaSettings, LogSettings, MemorySettings, UiSettings};
use super::stream::{Start, StreamSettings};
use super::views::{ColumnSettings, ViewSettings};

/// Compares all keys of a section; does not compile where one is missing.
macro_rules! compare {
    ($old:ident, $new:ident, $section:ident { $($key:ident: $effect:expr),+ $(,)? }) => {{
        let $section { $($key),+ } = $old;
        vec![$(ComparedKey {
            name: stringify!($key).to_owned(),
            differs: *$key != $new.$key,
            effects: Effects::from($effect),
        }),+]
    }};
}

pub(super) fn kafka(old: &KafkaSettings, new: &KafkaSettings) -> Vec<ComparedKey> {
    // Reading continues over a new connection.
    let mut keys = compare!(
        old,
        new,
        KafkaSettings {
            brokers: Live,
            client: Live,
            isolation: Live,
            tls: Live,
            sasl: Live,
            librdkafka: Live,
            schema_registry: Live,
        }
    );
    let [old_tls, new_tls] = [old, new].map(|kafka| kafka.tls.clone().unwrap_or_default());
    let [old_sasl, new_sasl] = [old, new].map(|kafka| kafka.sasl.clone().unwrap_or_default());
    nest(
        &mut keys,
        "tls",
        old.tls.is_some() != new.tls.is_some(),
        tls(&old_tls, &new_tls),
    );
    nest(
        &mut keys,
        "sasl",
        old.sasl.is_some() != new.sasl.is_some(),
        sasl(&old_sasl, &new_sasl),
    );
    nest(
        &mut keys,
        "schema_registry",
        false,
        schema_registry(&old.schema_registry, &new.schema_registry),
    );
    keys
}

fn tls(old: &TlsSettings, new: &TlsSettings) -> Vec<ComparedKey> {
    compare!(
        old,
        new,
        TlsSettings {
            ca_file: Live,
            cert_file: Live,
            key_file: Live,
        }
    )
}

fn sasl(old: &SaslSettings, new: &SaslSettings) -> Vec<ComparedKey> {
    compare!(
        old,
        new,
        SaslSettings {
            mechanism: Live,
            username: Live,
            password_file: Live,
            token_file: Live,
        }
    )
}

fn schema_registry(old: &SchemaRegistrySettings, new: &SchemaRegistrySettings) -> Vec<ComparedKey> {
    compare!(
        old,
        new,
        SchemaRegistrySettings {
            urls: Live,
            username: Live,
            password_file: Live,
            token_file: Live,
            ca_file: Live,
            cert_file: Live,
            key_file: Live,
            timeout: Live,
            unknown_schema_timeout: Live,
            max_cache_bytes: Live,
        }
    )
}

pub(super) fn http(old: &HttpSettings, new: &HttpSettings) -> Vec<ComparedKey> {
    let has_sockets = has_sockets(&new.listen);
    // A socket that exists keeps the mode and the group that it has.
    let keeps_mode = has_sockets && old.unix_socket_mode.is_some() && new.unix_socket_mode.is_none();
    let keeps_group = has_sockets && old.unix_socket_group.is_some() && new.unix_socket_group.is_none();
    let mut keys = compare!(
        old,
        new,
        HttpSettings {
            listen: Live,
            unix_socket_mode: Live.unless(Restart, keeps_mode),
            unix_socket_group: Live.unless(Restart, keeps_group),
            keepalive: Live,
            retry: Live,
            drain_timeout: Live,
            max_lifetime: Live,
            write_timeout: Live,
            max_clients: Live,
            max_clients_per_ip: Live,
            max_connections_per_ip: Live,
            max_opens_per_second: Live,
            max_opens_per_second_per_ip: Live,
            max_replay_bytes_per_minute: Live,
            max_replay_bytes_per_minute_per_client: Live,
            trusted_proxies: Live,
            hosts: Live,
            base_path: Live,
            ignored_parameters: Live,
            http2: Live,
            http2_max_concurrent_streams: Live,
            delivery: Restart,
            delivery_threads: Restart,
            expose: Live,
            cors: Live,
            admin: Live,
            tls: Live,
        }
    );
    nest(&mut keys, "cors", false, cors(&old.cors, &new.cors));
    nest(&mut keys, "admin", false, admin(&old.admin, &new.admin));
    let [old_tls, new_tls] = [old, new].map(|http| http.tls.clone().unwrap_or_default());
    nest(
        &mut keys,
        "tls",
        old.tls.is_some() != new.tls.is_some(),
        http_tls(&old_tls, &new_tls),
    );
    keys
}

fn http_tls(old: &HttpTlsSettings, new: &HttpTlsSettings) -> Vec<ComparedKey> {
    compare!(
        old,
        new,
        HttpTlsSettings {
            listen: Live,
            certificates: Live,
            min_version: Live,
            client_auth: Live,
            client_ca_file: Live,
            handshake_timeout: Live,
            max_handshakes: Live,
            max_handshakes_per_ip: Live,
            redirect_to_https: Live,
            https_port: Live,
            hsts_max_age: Live,
        }
    )
}

fn has_sockets(addresses: &[String]) -> bool {
    addresses.iter().any(|address| address.starts_with("unix:"))
}

fn admin(old: &AdminSettings, new: &AdminSettings) -> Vec<ComparedKey> {
    let has_sockets = has_sockets(&new.listen);
    let keeps_mode = has_sockets && old.unix_socket_mode.is_some() && new.unix_socket_mode.is_none();
    let keeps_group = has_sockets && old.unix_socket_group.is_some() && new.unix_socket_group.is_none();
    compare!(
        old,
        new,
        AdminSettings {
            listen: Live,
            unix_socket_mode: Live.unless(Restart, keeps_mode),
            unix_socket_group: Live.unless(Restart, keeps_group),
        }
    )
}

fn cors(old: &CorsSettings, new: &CorsSettings) -> Vec<ComparedKey> {
    compare!(
        old,
        new,
        CorsSettings {
            allow_origins: Live,
            allow_headers: Live,
            allow_credentials: Live,
            allow_private_network: Live,
        }
    )
}

pub(super) fn auth(old: &AuthSettings, new: &AuthSettings) -> Vec<ComparedKey> {
    let mut keys = compare!(
        old,
        new,
        AuthSettings {
            warn_before: Live,
            cookie: Live,
            query_parameter: Live,
            jwt: Live,
            tokens: Live,
            proxy: Live,
            certificate: Live,
        }
    );
    let [old_jwt, new_jwt] = [old, new].map(|auth| auth.jwt.clone().unwrap_or_default());
    let has_changed = old.jwt.is_some() != new.jwt.is_some();
    nest(&mut keys, "jwt", has_changed, jwt(&old_jwt, &new_jwt));
    let [old_tokens, new_tokens] = [old, new].map(|auth| auth.tokens.clone().unwrap_or_default());
    let has_changed = old.tokens.is_some() != new.tokens.is_some();
    nest(&mut keys, "tokens", has_changed, tokens(&old_tokens, &new_tokens));
    let [old_proxy, new_proxy] = [old, new].map(|auth| auth.proxy.clone().unwrap_or_default());
    let has_changed = old.proxy.is_some() != new.proxy.is_some();
    nest(&mut keys, "proxy", has_changed, proxy(&old_proxy, &new_proxy));
    let [old_certificate, new_certificate] = [old, new].map(|auth| auth.certificate.unwrap_or_default());
    let has_changed = old.certificate.is_some() != new.certificate.is_some();
    let inner = certificate(old_certificate, new_certificate);
    nest(&mut keys, "certificate", has_changed, inner);
    keys
}

fn certificate(old: CertificateAuthSettings, new: CertificateAuthSettings) -> Vec<ComparedKey> {
    let (old, new) = (&old, &new);
    compare!(old, new, CertificateAuthSettings { sub: Live })
}

fn jwt(old: &JwtSettings, new: &JwtSettings) -> Vec<ComparedKey> {
    compare!(
        old,
        new,
        JwtSettings {
            algorithms: Live,
            key_file: Live,
            jwks_url: Live,
            jwks_ca_file: Live,
            jwks_refresh: Live,
            jwks_min_interval: Live,
            jwks_timeout: Live,
            issuer: Live,
            audience: Live,
            leeway: Live,
        }
    )
}

fn tokens(old: &TokenSettings, new: &TokenSettings) -> Vec<ComparedKey> {
    compare!(old, new, TokenSettings { file: Live })
}

fn proxy(old: &ProxySettings, new: &ProxySettings) -> Vec<ComparedKey> {
    compare!(
        old,
        new,
        ProxySettings {
            headers: Live,
            lists: Live,
        }
    )
}

pub(super) fn memory(old: &MemorySettings, new: &MemorySettings) -> Vec<ComparedKey> {
    compare!(old, new, MemorySettings { limit: Live })
}

pub(super) fn stream(old: &StreamSettings, new: &StreamSettings, lacks_rows: bool) -> Vec<ComparedKey> {
    // Records whose headers were not kept cannot be filtered by them; headers that were kept may stay.
    let lacks_headers = new.keeps_headers() && !old.keeps_headers();
    // Only reading again brings the rows that found no place.
    let has_room = |is_raised: bool| lacks_rows && is_raised;
    // How much is read when reading a stream begins; with another start everything is.
    let has_preload = new.start == Start::Live;
    let mut keys = compare!(
        old,
        new,
        StreamSettings {
            path: NewStream,
            topics: Rebuild,
            start: Rebuild,
            key_format: Rebuild,
            value_format: Rebuild,
            avro_json: Rebuild,
            int64: Rebuild,
            timestamps: Rebuild,
            unwrap: Rebuild,
            metadata_field: Rebuild,
            fields: Rebuild,
            hide: Rebuild,
            format: Rebuild,
            key_field: Rebuild,
            topic_field: Rebuild,
            partition_field: Rebuild,
            offset_field: Rebuild,
            timestamp_field: Rebuild,
            headers_field: Rebuild,
            event: Rebuild,
            heartbeat: Live,
            heartbeat_interval: Live,
            log_bytes: Live,
            preload: Live.unless(Restart, has_preload),
            lag: Live,
            throttle: Live,
            checkpoint_interval: Live,
            delete_retention: Live,
            max_keys: Live.unless(Rebuild, has_room(new.max_keys > old.max_keys)),
            max_table_bytes: Live.unless(Rebuild, has_room(new.max_table_bytes > old.max_table_bytes)),
            when_full: Live,
            allow: Live,
            filter: Rebuild,
            client_filters: Live.unless(Rebuild, lacks_headers),
            max_filter_paths: Live,
            max_unindexed_filters: Live,
            cors: Live,
            view: Live,
        }
    );
    let (old_views, new_views) = (&old.view, &new.view);
    nest(
        &mut keys,
        "view",
        old_views.len() != new_views.len(),
        in_any(old_views, new_views, view),
    );
    let [old_cors, new_cors] = [old, new].map(|stream| stream.cors.clone().unwrap_or_default());
    nest(
        &mut keys,
        "cors",
        old.cors.is_some() != new.cors.is_some(),
        cors(&old_cors, &new_cors),
    );
    keys
}

// The page asks for its views, so they concern nothing that is open.
fn view(old: &ViewSettings, new: &ViewSettings) -> Vec<ComparedKey> {
    let mut keys = compare!(
        old,
        new,
        ViewSettings {
            kind: Live,
            title: Live,
            columns: Live,
            sort: Live,
            filter: Live,
            value: Live,
            group: Live,
            minutes: Live,
        }
    );
    let (old, new) = (&old.columns, &new.columns);
    nest(
        &mut keys,
        "columns",
        old.len() != new.len(),
        in_any(old, new, column),
    );
    keys
}

fn column(old: &ColumnSettings, new: &ColumnSettings) -> Vec<ComparedKey> {
    compare!(
        old,
        new,
        ColumnSettings {
            path: Live,
            label: Live,
            format: Live,
            unit: Live,
            digits: Live,
            colors: Live,
            items: Live,
            limit: Live,
            bar: Live,
            hidden: Live,
            pinned: Live,
            align: Live,
        }
    )
}

pub(super) fn ui(old: &UiSettings, new: &UiSettings) -> Vec<ComparedKey> {
    compare!(
        old,
        new,
        UiSettings {
            title: Live,
            logo: Live,
            accent: Live,
            default_view: Live,
            frame_ancestors: Live,
            assets: Live,
            login_url: Live,
        }
    )
}

pub(super) fn log(old: &LogSettings, new: &LogSettings) -> Vec<ComparedKey> {
    compare!(
        old,
        new,
        LogSettings {
            level: Live,
            format: Live,
            file: Live,
            stderr: Live,
            targets: Live,
        }
    )
}

/// The keys of tables in a list: each differs where it does in any two that have the same place.
fn in_any<T: Default>(old: &[T], new: &[T], compare: fn(&T, &T) -> Vec<ComparedKey>) -> Vec<ComparedKey> {
    let mut keys = compare(&T::default(), &T::default());
    for (old, new) in old.iter().zip(new) {
        for (key, of_these) in keys.iter_mut().zip(compare(old, new)) {
            key.differs |= of_these.differs;
        }
    }
    keys
}

/// Lists the keys of a table within a section. The table itself differs where it was added or removed.
fn nest(keys: &mut Vec<ComparedKey>, table: &str, is_added_or_removed: bool, inner: Vec<ComparedKey>) {
    for key in keys.iter_mut().filter(|key| key.name == table) {
        key.differs = is_added_or_removed;
    }
    keys.extend(inner.into_iter().map(|key| ComparedKey {
        name: format!("{table}.{}", key.name),
        differs: key.differs && !is_added_or_removed,
        effects: key.effects,
    }));
}

/// Every key with its section (`http.cors.allow_origins`, `stream.path`), and the effects that a change of it can have.
pub fn all() -> Vec<(String, Effects)> {
    let draft = Draft::default();
    let Draft {
        kafka: of_kafka,
        http: of_http,
        auth: of_auth,
        memory: of_memory,
        streams: _,
        ui: of_ui,
        log: of_log,
    } = &draft;
    let of_stream = StreamSettings::default();
    let sections = [
        ("kafka", kafka(of_kafka, of_kafka)),
        ("http", http(of_http, of_http)),
        ("auth", auth(of_auth, of_auth)),
        ("memory", memory(of_memory, of_memory)),
        ("stream", stream(&of_stream, &of_stream, false)),
        ("ui", ui(of_ui, of_ui)),
        ("log", log(of_log, of_log)),
    ];
    let named = |(section, keys): (&str, Vec<ComparedKey>)| {
        let named: Vec<_> = keys
            .into_iter()
            .map(|key| (format!("{section}.{}", key.name), key.effects))
            .collect();
        named
    };
    sections.into_iter().flat_map(named).collect()
}
