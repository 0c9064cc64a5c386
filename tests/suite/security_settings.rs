//! The settings `tls` and `sasl`, and the errors of wrong ones, which contain no secret.

use crate::harness::certificates::Certificates;
use crate::harness::daemon::{BINARY, run_to_end};
use crate::harness::process::Process;
use crate::harness::wait::secs;
use crate::trials;
use libtest_mimic::Trial;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

pub fn trials() -> Vec<Trial> {
    trials![
        errors_for_tls_and_sasl_name_line_and_remedy,
        print_config_shows_tls_and_sasl,
        a_systemd_credential_is_read_by_its_name,
        the_pure_rust_build_names_missing_tls_and_sasl_features,
        a_build_without_tls_or_signatures_serves_nothing_that_needs_them,
    ]
}

const SECRET: &str = "not-to-be-told";

const STREAM: &str = "[[stream]]\npath = \"/x\"\ntopics = [\"t\"]\n";

/// Files that `tls` and `sasl` may name, and some they may not.
struct Files(TempDir);

impl Files {
    fn new() -> Files {
        let files = Files(tempfile::tempdir().expect("a directory"));
        for (name, content) in [
            ("password", format!("{SECRET}\n").as_bytes()),
            ("token", SECRET.as_bytes()),
            ("empty", b"\n"),
            ("binary", b"\xff\xfe"),
            ("large", &vec![b'x'; (1 << 20) + 1]),
            ("ca.pem", b"-----BEGIN CERTIFICATE-----\n"),
            ("key.pem", b"-----BEGIN PRIVATE KEY-----\n"),
            ("locked.pem", b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n"),
        ] {
            fs::write(files.0.path().join(name), content).expect("written");
        }
        files
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// A configuration with these lines at the beginning of `[kafka]`, in which `@` is the directory.
    fn config(&self, kafka: &str) -> String {
        let text = format!("[kafka]\n{kafka}\n{STREAM}");
        let file = self.path().join("config.toml");
        fs::write(&file, text.replace('@', &format!("{}/", self.path().display()))).expect("written");
        file.display().to_string()
    }

    /// The output of `check`, and whether it passes.
    fn check(&self, kafka: &str, environment: &[(&str, &str)]) -> (bool, String) {
        let output = run_to_end(&["check", "--config", &self.config(kafka)], environment);
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8(said).expect("UTF-8");
        assert!(!said.contains(SECRET), "{kafka}: {said}");
        (output.status.success(), said)
    }
}

/// Wrong lines of `[kafka]`, and their errors.
type Wrong = &'static [(&'static str, &'static str)];

const WRONG_TLS: Wrong = &[
    ("tls = { ca_file = \"@none\" }", "none: No such file"),
    ("tls = { ca_file = \"@\" }", "Is a directory"),
    ("tls = { ca_file = \"@password\" }", "holds no certificate in PEM"),
    ("tls = { ca_file = \"@large\" }", "is larger than 1048576 bytes"),
    (
        "tls = { cert_file = \"@ca.pem\" }",
        "kafka.tls.cert_file: needs key_file; set both",
    ),
    (
        "tls = { key_file = \"@key.pem\" }",
        "kafka.tls.key_file: needs cert_file; set both",
    ),
    (
        "tls = { cert_file = \"@ca.pem\", key_file = \"@ca.pem\" }",
        "holds no private key in PEM",
    ),
    (
        "tls = { cert_file = \"@ca.pem\", key_file = \"@locked.pem\" }",
        "is encrypted; decrypt it",
    ),
    ("tls = { cafile = \"x\" }", "did you mean \"ca_file\"?"),
];

const WRONG_SASL: Wrong = &[
    ("sasl = { username = \"me\" }", "kafka.sasl.mechanism: is missing"),
    (
        "sasl = { mechanism = \"SCRAM-SHA-1\" }",
        "unknown value \"SCRAM-SHA-1\"; did you mean \"SCRAM-SHA-",
    ),
    (
        "sasl = { mechanism = \"GSSAPI\" }",
        "known: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER",
    ),
    (
        "sasl = { mechanism = \"PLAIN\", password_file = \"@password\" }",
        "kafka.sasl.username: is missing; mechanism = \"PLAIN\" needs it",
    ),
    (
        "sasl = { mechanism = \"PLAIN\", username = \"me\" }",
        "kafka.sasl.password_file: is missing; mechanism = \"PLAIN\" needs it",
    ),
    (
        "sasl = { mechanism = \"OAUTHBEARER\" }",
        "kafka.sasl.token_file: is missing; mechanism = \"OAUTHBEARER\" needs it",
    ),
    (
        "sasl = { mechanism = \"PLAIN\", USER, token_file = \"@token\" }",
        "kafka.sasl.token_file: cannot be set with mechanism = \"PLAIN\"; remove it",
    ),
    (
        "sasl = { mechanism = \"OAUTHBEARER\", token_file = \"@token\", password_file = \"@password\" }",
        "kafka.sasl.password_file: cannot be set with mechanism = \"OAUTHBEARER\"; remove it",
    ),
    (
        "sasl = { mechanism = \"PLAIN\", username = \"me\", password_file = \"@empty\" }",
        "empty is empty; write the secret into it",
    ),
    (
        "sasl = { mechanism = \"PLAIN\", username = \"me\", password_file = \"@binary\" }",
        "binary holds no text (UTF-8)",
    ),
    (
        "sasl = { mechanism = \"PLAIN\", username = \"me\", password = \"not-to-be-told\" }",
        "unknown key \"password\"; did you mean \"password_file\"?",
    ),
    (
        "sasl = { mechanism = \"PLAIN\", username = \"me\", password_file = 271828 }",
        "kafka.sasl.password_file: is not a text; put the value in quotes",
    ),
];

const WRONG_TOGETHER: Wrong = &[
    (
        "client = \"kafka\"\nisolation = \"read_uncommitted\"\nsasl = { mechanism = \"PLAIN\", USER }",
        "kafka.sasl: needs librdkafka: client = \"kafka\" knows no SASL; set client = \"auto\"",
    ),
    (
        "sasl = { mechanism = \"PLAIN\", USER }\nlibrdkafka = { \"sasl.password\" = \"not-to-be-told\" }",
        "\"sasl.password\" is for sasl in [kafka] to set; remove one of them",
    ),
    (
        "tls = {}\nlibrdkafka = { \"ssl.ca.location\" = \"x\" }",
        "\"ssl.ca.location\" is for tls in [kafka] to set; remove one of them",
    ),
    (
        "tls = {}\nlibrdkafka = { \"security.protocol\" = \"ssl\" }",
        "\"security.protocol\" is for tls and sasl in [kafka] to set; remove one of them",
    ),
];

fn errors_for_tls_and_sasl_name_line_and_remedy() {
    let files = Files::new();
    let user = "username = \"me\", password_file = \"@password\"";
    for (kafka, says) in [WRONG_TLS, WRONG_SASL, WRONG_TOGETHER].concat() {
        let (passes, said) = files.check(&kafka.replace("USER", user), &[]);
        assert!(!passes && said.contains(says), "{kafka}: {said}");
        assert!(said.contains("config.toml:"), "{kafka}: {said}");
        assert!(!said.contains("271828"), "{said}");
    }
    for kafka in [
        "tls = {}",
        "tls = { ca_file = \"@ca.pem\", cert_file = \"@ca.pem\", key_file = \"@key.pem\" }",
        "client = \"kafka\"\nisolation = \"read_uncommitted\"\ntls = { ca_file = \"@ca.pem\" }",
        "sasl = { mechanism = \"SCRAM-SHA-256\", USER }",
        "sasl = { mechanism = \"OAUTHBEARER\", token_file = \"@token\" }",
        // Keys of the protocol, unlike credentials, may be combined.
        "tls = {}\nlibrdkafka = { \"ssl.cipher.suites\" = \"x\", \"ssl.endpoint.identification.algorithm\" = \"none\" }",
    ] {
        let (passes, said) = files.check(&kafka.replace("USER", user), &[]);
        assert!(passes, "{kafka}: {said}");
    }
}

fn print_config_shows_tls_and_sasl() {
    let files = Files::new();
    let login = "mechanism = \"PLAIN\", username = \"me\", password_file = \"@password\"";
    for kafka in [
        format!("tls = {{ ca_file = \"@ca.pem\" }}\nsasl = {{ {login} }}"),
        "tls = {}".to_owned(),
    ] {
        let config = files.config(&kafka);
        let print = |config: &str| {
            let output = run_to_end(
                &["print-config", "--config", config],
                &[("KAFKA_SSE_BRIDGE__KAFKA__BROKERS", "one:9092")],
            );
            String::from_utf8(output.stdout).expect("UTF-8")
        };
        let printed = print(&config);
        assert!(printed.contains("[kafka.tls]\n"), "{printed}");
        assert!(!printed.contains("***") && !printed.contains(SECRET), "{printed}");
        if kafka.contains("sasl") {
            let line = format!("password_file = \"{}/password\"", files.path().display());
            assert!(printed.contains(&line), "{printed}");
            assert!(
                printed.contains("# ") && printed.contains("config.toml:3"),
                "{printed}"
            );
        }
        // It means the same when it is read again.
        let again = files.path().join("again.toml");
        fs::write(&again, &printed).expect("written");
        let values = |text: &str| -> Vec<String> {
            let value = |line: &str| line.split(" # ").next().unwrap_or_default().trim().to_owned();
            text.lines().map(value).collect()
        };
        assert_eq!(values(&print(&again.display().to_string())), values(&printed));
    }
    let (passes, said) = files.check(
        "tls = {}",
        &[
            ("KAFKA_SSE_BRIDGE__KAFKA__SASL__MECHANISM", "OAUTHBEARER"),
            (
                "KAFKA_SSE_BRIDGE__KAFKA__SASL__TOKEN_FILE",
                &files.path().join("token").display().to_string(),
            ),
        ],
    );
    assert!(passes, "{said}");
}

fn a_systemd_credential_is_read_by_its_name() {
    let files = Files::new();
    let kafka = |name: &str| {
        format!(
            "sasl = {{ mechanism = \"PLAIN\", username = \"me\", password_file = \"credential:{name}\" }}"
        )
    };
    let directory = files.path().display().to_string();
    let given = [("CREDENTIALS_DIRECTORY", directory.as_str())];
    let (passes, said) = files.check(&kafka("password"), &given);
    assert!(passes, "{said}");
    for (name, environment, says) in [
        ("password", &given[..0], "CREDENTIALS_DIRECTORY is not set"),
        ("none", &given, "/none: No such file"),
        ("../password", &given, "does not name a credential"),
        ("", &given, "does not name a credential"),
    ] {
        let (passes, said) = files.check(&kafka(name), environment);
        assert!(!passes && said.contains(says), "{name}: {said}");
    }
}

/// The error of a command of the pure-Rust build for a configuration that it refuses.
fn refused_by_pure_rust(command: &str, config: &str) -> String {
    let binary = std::env::var_os("KAFKA_SSE_BRIDGE_PURE_RUST_BIN").expect(
        "KAFKA_SSE_BRIDGE_PURE_RUST_BIN names the pure-Rust build; scripts/test makes it and sets it",
    );
    assert_ne!(Path::new(&binary), Path::new(BINARY));
    let mut process = Command::new(&binary);
    process.args([command, "--config", config]).stderr(Stdio::piped());
    let process = Process::spawn(&mut process).expect("the pure-Rust build");
    let mut said = String::new();
    let mut pipe = process.take(|child| child.stderr.take()).expect("stderr");
    pipe.read_to_string(&mut said).expect("UTF-8");
    let status = process.wait(secs(30)).expect("it ends");
    assert_eq!(status.code(), Some(78), "{said}");
    said
}

fn the_pure_rust_build_names_missing_tls_and_sasl_features() {
    let files = Files::new();
    for (kafka, says) in [
        (
            "tls = {}",
            "kafka.tls: needs OpenSSL, which is not part of this build; install one with the cargo feature",
        ),
        (
            "sasl = { mechanism = \"PLAIN\", username = \"me\", password_file = \"@password\" }",
            "kafka.sasl: needs librdkafka, which is not part of this build; install one with the cargo feature",
        ),
        (
            "schema_registry = { urls = [\"https://registry.example.org\"] }",
            "kafka.schema_registry.urls: needs TLS for https, which is not part of this build; install one with the cargo \
             feature rustls",
        ),
    ] {
        let config = files.config(&format!("isolation = \"read_uncommitted\"\n{kafka}"));
        let said = refused_by_pure_rust("check", &config);
        assert!(said.contains(says), "{said}");
    }
}

/// Records that somebody believes to be protected are not served without protection.
fn a_build_without_tls_or_signatures_serves_nothing_that_needs_them() {
    let certificates = Certificates::new();
    let files = Files::new();
    for (section, says) in [
        (
            certificates.section(""),
            "http.tls: needs TLS, which is not part of this build; install one with the cargo feature rustls",
        ),
        (
            "[auth.jwt]\nalgorithms = [\"HS256\"]\nkey_file = \"@password\"\n".to_owned(),
            "auth.jwt: needs signatures, which are not part of this build; install one with the cargo feature jwt",
        ),
        (
            "[auth.jwt]\nalgorithms = [\"ES256\"]\njwks_url = \"http://127.0.0.1:1\"\n".to_owned(),
            "auth.jwt: needs signatures",
        ),
    ] {
        let config = files.config(&format!("isolation = \"read_uncommitted\"\n{section}"));
        for command in ["check", "run"] {
            let said = refused_by_pure_rust(command, &config);
            assert!(said.contains(says), "{command}: {said}");
        }
    }
}
