//! The package: what is in it, that it installs, runs, bundles and has types; and its tests in Node.

use super::FILES;
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::daemon::Daemon;
use crate::harness::followers::Runtime;
use crate::harness::http::get;
use crate::harness::produce::Message;
use crate::harness::wait::{block_on, secs};
use crate::harness::{on_broker, promise, scratch};
use crate::pages;
use flate2::read::GzDecoder;
use libtest_mimic::Trial;
use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

const LIBRARY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/client");

/// Most bytes of the library as it is served, compressed.
const MAX_SIZE: usize = 6 * 1024;

pub(super) fn trials() -> Vec<Trial> {
    let is_missing = Runtime::Library.is_missing();
    let with_node = [
        promise(the_library_outlives_failing_servers_and_shares_connections_in_node),
        promise(the_package_has_what_it_names_and_nothing_else),
        promise(the_types_fit_what_applications_write),
        on_broker(Version::V4_4, the_package_follows_a_stream_installed_and_bundled),
    ];
    let with_node = with_node.map(|trial| trial.with_ignored_flag(is_missing));
    let mut trials = vec![promise(
        the_library_is_served_in_six_kibibytes_beside_pages_of_ones_own_too,
    )];
    trials.extend(with_node);
    trials
}

/// The packages that its tests use.
fn tools() -> PathBuf {
    Runtime::Library.home().join("node_modules")
}

/// A directory in which the packed library is installed, beside the bundler, the compiler and the frameworks.
pub(super) struct Project(TempDir);

impl Project {
    pub(super) fn new() -> Project {
        let project = Project(scratch::directory("project"));
        let path = project.path();
        fs::write(path.join("package.json"), r#"{"private":true,"type":"module"}"#).expect("written");
        let packed = project.run("npm", &["pack", "--silent", LIBRARY]);
        let packed = format!("./{}", String::from_utf8_lossy(&packed.stdout).trim());
        project.run(
            "npm",
            &["install", "--offline", "--no-audit", "--no-fund", &packed],
        );
        for entry in fs::read_dir(tools()).expect("the packages").flatten() {
            let link = path.join("node_modules").join(entry.file_name());
            if !link.exists() {
                symlink(entry.path(), link).expect("a link");
            }
        }
        project
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    /// # Panics
    /// If it fails.
    pub(super) fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let output = Command::new(program)
            .args(arguments)
            .current_dir(self.path())
            .output()
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        let text = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        assert!(
            output.status.success(),
            "{program} {arguments:?}: {}",
            text.concat()
        );
        output
    }
}

fn the_library_outlives_failing_servers_and_shares_connections_in_node() {
    let files = ["follow", "table", "share"].map(|name| format!("{FILES}/{name}.test.mjs"));
    let output = Command::new("node")
        .arg("--test")
        .args(files)
        .output()
        .expect("node runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

fn the_library_is_served_in_six_kibibytes_beside_pages_of_ones_own_too() {
    let own = scratch::directory("own-page");
    fs::write(own.path().join("index.html"), "mine").expect("written");
    let of_own = format!("[ui]\nassets = \"{}\"\n", own.path().display());
    let types = fs::read(format!("{LIBRARY}/client.d.ts")).expect("its types");
    for daemon in [pages::daemon(""), pages::daemon(&of_own)] {
        block_on(async {
            let url = daemon.url("/assets/client.js");
            let served = get(&url, &[("accept-encoding", "gzip")]).await;
            assert_eq!(
                served.header("content-type"),
                Some("text/javascript; charset=utf-8")
            );
            assert_eq!(served.header("content-encoding"), Some("gzip"));
            assert!(served.body.len() <= MAX_SIZE, "{} bytes", served.body.len());
            let mut plain = String::new();
            GzDecoder::new(&served.body[..])
                .read_to_string(&mut plain)
                .expect("gzip");
            for exported in ["export function follow(", "export function table("] {
                assert!(plain.contains(exported), "{plain}");
            }
            let served = daemon.get("/assets/client.d.ts").await;
            assert!(served.status == 200 && served.body == types, "{}", served.status);
            for name in [
                "package.json",
                "README.md",
                "client/client.js",
                "client/package.json",
            ] {
                assert_eq!(daemon.get(&format!("/assets/{name}")).await.status, 404, "{name}");
            }
        });
    }
    // One's own file has precedence.
    fs::write(own.path().join("client.js"), "mine too").expect("written");
    let daemon = pages::daemon(&of_own);
    block_on(async {
        assert_eq!(daemon.get("/assets/client.js").await.text(), "mine too");
    });
}

fn the_package_has_what_it_names_and_nothing_else() {
    let project = Project::new();
    let installed = project.path().join("node_modules/kafka-sse-bridge-client");
    let mut names: Vec<String> = fs::read_dir(installed)
        .expect("the package")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort_unstable();
    let wanted = [
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "README.md",
        "client.d.ts",
        "client.js",
        "package.json",
    ];
    assert_eq!(names, wanted);
    let package = fs::read_to_string(format!("{LIBRARY}/package.json")).expect("package.json");
    let package: serde_json::Value = serde_json::from_str(&package).expect("JSON");
    assert_eq!(package["version"], env!("CARGO_PKG_VERSION"));
    for licence in ["LICENSE-APACHE", "LICENSE-MIT"] {
        let read = |path: String| fs::read_to_string(path).expect("a licence");
        let root = env!("CARGO_MANIFEST_DIR");
        assert!(
            read(format!("{LIBRARY}/{licence}")) == read(format!("{root}/{licence}")),
            "{licence} is another text"
        );
    }
}

fn the_types_fit_what_applications_write() {
    let project = Project::new();
    fs::copy(format!("{FILES}/examples/use.ts"), project.path().join("use.ts")).expect("a copy");
    let compiler = tools().join("typescript/bin/tsc");
    let options =
        "--strict --noEmit --module nodenext --target es2022 --lib es2022,dom,dom.iterable --types use.ts";
    let (options, file) = options.split_once(" --types ").expect("both");
    let mut arguments = vec![compiler.to_str().expect("UTF-8")];
    arguments.extend(options.split(' '));
    arguments.push(file);
    project.run("node", &arguments);
}

fn the_package_follows_a_stream_installed_and_bundled(broker: &Broker) {
    let topic = topic_name("package");
    broker.create_topic(&topic, 1, &[]);
    broker.produce(&topic, &[Message::value("first"), Message::value("second")]);
    let daemon = Daemon::start(&crate::common::config(broker, &[&topic], "start = \"earliest\""));
    block_on(daemon.wait_ready(secs(30)));
    let project = Project::new();
    for name in ["first.mjs", "bundled.mjs"] {
        fs::copy(format!("{FILES}/{name}"), project.path().join(name)).expect("a copy");
    }
    project.run("node", &["bundled.mjs", "bundle.mjs"]);
    for program in ["first.mjs", "bundle.mjs"] {
        let output = project.run("node", &[program, &daemon.url("/events")]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(said, "message first\nmessage second\ncaught-up\n", "{program}");
    }
    // The bundle needs no package.
    fs::remove_dir_all(project.path().join("node_modules/kafka-sse-bridge-client")).expect("removed");
    project.run("node", &["bundle.mjs", &daemon.url("/events")]);
}
