//! How `[kafka.schema_registry]` is written, and what is said where it is wrong.

use crate::harness::daemon::{Daemon, run_to_end};
use crate::harness::figures::Figures;
use crate::harness::process::Signal;
use crate::harness::wait::{block_on, secs};
use crate::trials;
use libtest_mimic::Trial;
use std::fs;
use tempfile::TempDir;

pub fn trials() -> Vec<Trial> {
    trials![
        errors_of_the_registrys_keys_name_line_and_remedy,
        print_config_and_check_show_the_registry,
        a_reload_names_the_changed_keys_of_the_registry,
    ]
}

const SECRET: &str = "not-to-be-told";

const STREAM: &str = "[[stream]]\npath = \"/x\"\ntopics = [\"t\"]\n";

const URL: &str = "urls = [\"https://registry.example.org\"]";

/// Lines of the table that are wrong, and what is said of them; `@` is a directory of files.
const WRONG: &[(&str, &str)] = &[
    (
        "username = \"me\"\npassword_file = \"@password\"",
        "kafka.schema_registry.urls: is missing",
    ),
    (
        "urls = [\"registry:8081\"]",
        "is not a URL of http or https; write it like",
    ),
    ("urls = [\"https://\"]", "is not a URL"),
    ("urls = [\"ftp://registry\"]", "is not a URL of http or https"),
    (
        "urls = [\"https://registry/?x=1\"]",
        "is more than a base URL; remove what begins with \"?\"",
    ),
    ("urls = [\"https://registry/#x\"]", "is more than a base URL"),
    (
        "urls = [\"https://me:not-to-be-told@registry\"]",
        "urls: a URL holds a user, which would show the password wherever settings are shown; set username",
    ),
    (
        "URL\nusername = \"me\"",
        "username: needs password_file; set both",
    ),
    (
        "URL\npassword_file = \"@password\"",
        "password_file: needs username; set both",
    ),
    (
        "URL\nusername = \"me\"\npassword_file = \"@password\"\ntoken_file = \"@password\"",
        "token_file: cannot be set with username and password_file; remove one of them",
    ),
    (
        "URL\nusername = \"\"\npassword_file = \"@password\"",
        "username: is empty; name the user",
    ),
    (
        "URL\nusername = \"a:b\"\npassword_file = \"@password\"",
        "username: contains \":\"",
    ),
    (
        "URL\ntoken_file = \"@empty\"",
        "is empty; write the secret into it",
    ),
    ("URL\ntoken_file = \"@none\"", "none: No such file"),
    (
        "URL\nca_file = \"@password\"",
        "ca_file: PATHpassword holds no certificate in PEM",
    ),
    (
        "URL\ncert_file = \"@ca.pem\"",
        "cert_file: needs key_file; set both",
    ),
    ("URL\nkey_file = \"@locked.pem\"", "is encrypted; decrypt it"),
    (
        "urls = [\"http://registry\"]\nca_file = \"@ca.pem\"",
        "ca_file: has no effect: no URL in urls begins with https",
    ),
    ("URL\ntimeout = \"50ms\"", "timeout: is less than 100ms"),
    ("URL\ntimeout = \"2days\"", "timeout: is longer than 1day"),
    (
        "URL\nmax_cache_bytes = \"1KiB\"",
        "max_cache_bytes: is less than 1MiB",
    ),
    ("URL\nurl = \"x\"", "unknown key \"url\"; did you mean \"urls\"?"),
    (
        "URL\nusername = \"me\"\npassword = \"not-to-be-told\"",
        "unknown key \"password\"; did you mean \"password_file\"?",
    ),
    (
        "URL\npassword_file = 271828",
        "password_file: is not a text; put the value in quotes",
    ),
];

struct Files(TempDir);

impl Files {
    fn new() -> Files {
        let files = Files(tempfile::tempdir().expect("a directory"));
        for (name, content) in [
            ("password", SECRET),
            ("empty", "\n"),
            ("ca.pem", "-----BEGIN CERTIFICATE-----\n"),
            ("locked.pem", "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"),
        ] {
            fs::write(files.0.path().join(name), content).expect("written");
        }
        files
    }

    /// The output of a command, and whether it succeeds.
    fn run(&self, command: &str, table: &str) -> (bool, String) {
        let table = table.replace("URL", URL);
        let text = format!("[kafka.schema_registry]\n{table}\n{STREAM}");
        let file = self.0.path().join("config.toml");
        fs::write(&file, text.replace('@', &format!("{}/", self.0.path().display()))).expect("written");
        let output = run_to_end(&[command, "--config", &file.display().to_string()], &[]);
        let said = String::from_utf8([output.stdout, output.stderr].concat()).expect("UTF-8");
        (output.status.success(), said)
    }
}

fn errors_of_the_registrys_keys_name_line_and_remedy() {
    let files = Files::new();
    for (table, expected) in WRONG {
        // The at sign of a URL is its own.
        let (is_ok, said) = if table.contains("me:") {
            let text = format!("[kafka.schema_registry]\n{table}\n{STREAM}");
            let file = files.0.path().join("config.toml");
            fs::write(&file, text).expect("written");
            let output = run_to_end(&["check", "--config", &file.display().to_string()], &[]);
            let said = String::from_utf8([output.stdout, output.stderr].concat()).expect("UTF-8");
            (output.status.success(), said)
        } else {
            files.run("check", table)
        };
        assert!(!is_ok, "{table} passes: {said}");
        let expected = expected.replace("PATH", &format!("{}/", files.0.path().display()));
        assert!(said.contains(&expected), "{table}: no {expected:?} in {said}");
        assert!(said.contains("config.toml:"), "{table}: no line in {said}");
        assert!(
            !said.contains(SECRET) && !said.contains("271828"),
            "{table}: {said}"
        );
    }
    let (is_ok, said) = files.run("check", "URL\nusername = \"me\"\npassword_file = \"@password\"");
    assert!(is_ok, "{said}");
}

fn print_config_and_check_show_the_registry() {
    let files = Files::new();
    let table = "URL\ntoken_file = \"@password\"\nmax_cache_bytes = \"64MiB\"";
    let (is_ok, said) = files.run("print-config", table);
    assert!(is_ok, "{said}");
    for line in [
        "[kafka.schema_registry]",
        "urls = [\"https://registry.example.org\"]",
        "token_file = \"",
        "timeout = \"10s\"",
        "max_cache_bytes = \"64MiB\"",
    ] {
        assert!(said.contains(line), "no {line:?} in {said}");
    }
    assert!(!said.contains(SECRET), "{said}");
    let (_, said) = files.run("check", table);
    assert!(said.contains("schemas 64 MiB, shared"), "{said}");
    let (_, said) = files.run("check", "");
    assert!(!said.contains("schemas"), "without a registry: {said}");
}

fn a_reload_names_the_changed_keys_of_the_registry() {
    let config = |registry: &str| {
        format!(
            "[kafka]\nbrokers = [\"127.0.0.1:1\"]\n[kafka.schema_registry]\n{registry}\n[http]\nlisten = [\"127.0.0.1:0\"]\n{STREAM}"
        )
    };
    let daemon = Daemon::start(&config(""));
    daemon.rewrite_config(&config("urls = [\"http://127.0.0.1:1\"]\ntimeout = \"3s\""));
    daemon.signal(Signal::HUP);
    daemon.wait_log(
        "reloaded: kafka.schema_registry.timeout, kafka.schema_registry.urls",
        secs(20),
    );
    let text = block_on(daemon.get("/metrics")).text();
    let figures = Figures::parse(&text);
    let requests = figures.get(
        "kafka_sse_bridge_schema_registry_requests_total",
        &[("result", "ok")],
    );
    assert!(requests < 0.5, "no stream needs a schema: {text}");
}
