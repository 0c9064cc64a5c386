//! Clients other than this suite's own: the programs of tests/clients, its page in a browser, and curl.
//!
//! scripts/client-libraries installs their dependencies, below the cache that holds the brokers' jars.

use super::browser::{Browser, Engine};
use super::process::Process;
use super::scratch;
use super::sse::{Item, Parser};
use fantoccini::wd::WindowHandle;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use tempfile::TempDir;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/client-libraries");

/// The client programs, as they are and as docs/clients.md shows them.
pub const PROGRAMS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");

/// An event as a client library hands it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub event: String,
    pub data: String,
    pub id: String,
}

impl Seen {
    /// # Panics
    /// If the line does not have the form that every client program writes.
    pub fn parse(line: &str) -> Seen {
        let value: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let field = |name: &str| {
            value[name]
                .as_str()
                .unwrap_or_else(|| panic!("no {name}: {line}"))
                .to_owned()
        };
        Seen {
            event: field("event"),
            data: field("data"),
            id: field("id"),
        }
    }
}

/// One that follows a stream.
pub trait Client {
    /// All events it has been given so far, over all its connections.
    async fn seen(&mut self) -> Vec<Seen>;

    /// Whether it leaves U+0000 out of data.
    fn drops_nul(&self) -> bool {
        false
    }
}

/// The runtime of a client program.
#[derive(Clone, Copy, Debug)]
pub enum Runtime {
    Node,
    /// Node with the client library of assets/client, whose tests have packages of their own.
    Library,
    Python,
    Go,
    /// Python with the reference libraries of Avro and Protobuf.
    Schemas,
}

impl Runtime {
    fn name(self) -> &'static str {
        match self {
            Runtime::Node => "node",
            Runtime::Library => "library",
            Runtime::Python => "python",
            Runtime::Go => "go",
            Runtime::Schemas => "schemas",
        }
    }

    /// Whether its tests must be skipped; the reason is then written to stderr.
    pub fn is_missing(self) -> bool {
        let checked = Command::new(SCRIPT).args(["--check", self.name()]).status();
        // Anything else that is wrong is the test's to fail by.
        checked.is_ok_and(|status| status.code() == Some(69))
    }

    /// The directory of its libraries, installed if they are not there yet.
    pub fn home(self) -> PathBuf {
        let output = Command::new(SCRIPT)
            .arg(self.name())
            .stderr(Stdio::inherit())
            .output()
            .unwrap_or_else(|error| panic!("{SCRIPT}: {error}"));
        assert!(
            output.status.success(),
            "{SCRIPT} {}: {} (its stderr is above)",
            self.name(),
            output.status
        );
        String::from_utf8_lossy(&output.stdout).trim().into()
    }

    /// The output of a program, a file below tests/clients, for this input. For Node.
    ///
    /// # Panics
    /// If it fails.
    pub fn run(self, program: &str, input: &str) -> String {
        let home = self.home();
        let source = Path::new(PROGRAMS).join(program);
        let directory = scratch::directory("program");
        let copy = directory.path().join("program.mjs");
        fs::copy(&source, &copy).unwrap_or_else(|error| panic!("{}: {error}", source.display()));
        symlink(home.join("node_modules"), directory.path().join("node_modules"))
            .expect("a link to node_modules");
        let file = directory.path().join("input");
        fs::write(&file, input).expect("an input");
        let output = with(self.name().as_ref(), &copy)
            .stdin(fs::File::open(&file).expect("the input"))
            .stderr(Stdio::inherit())
            .output()
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        assert!(
            output.status.success(),
            "{program}: {} (its stderr is above)",
            output.status
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// A program of tests/clients that follows one stream and reconnects by itself. Killed when dropped.
pub struct Follower {
    process: Process,
    /// Its output that `seen` has not consumed yet.
    lines: Arc<Mutex<Vec<String>>>,
    seen: Vec<Seen>,
    reader: Option<JoinHandle<()>>,
    /// Where its stderr goes.
    log: PathBuf,
    directory: TempDir,
}

impl Follower {
    /// Runs `program`, a file below tests/clients, on that runtime with the stream's URL.
    pub fn start(runtime: Runtime, program: &str, url: &str) -> Follower {
        let home = runtime.home();
        let source = Path::new(PROGRAMS).join(program);
        let directory = scratch::directory("follower");
        let mut command = match runtime {
            Runtime::Node => {
                // Modules are looked for beside the program, wherever node is started.
                let copy = directory.path().join("follow.mjs");
                fs::copy(&source, &copy).unwrap_or_else(|error| panic!("{}: {error}", source.display()));
                symlink(home.join("node_modules"), directory.path().join("node_modules"))
                    .expect("a link to node_modules");
                with("node".as_ref(), &copy)
            }
            Runtime::Library => {
                let modules = directory.path().join("node_modules");
                fs::create_dir(&modules).expect("a directory");
                let library = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/client");
                symlink(library, modules.join("kafka-sse-bridge-client")).expect("a link to the library");
                let copy = directory.path().join("follow.mjs");
                fs::copy(&source, &copy).unwrap_or_else(|error| panic!("{}: {error}", source.display()));
                with("node".as_ref(), &copy)
            }
            Runtime::Python | Runtime::Schemas => with(&home.join("bin/python"), &source),
            Runtime::Go => Command::new(home.join("follow")),
        };
        let log = directory.path().join("stderr");
        command
            .arg(url)
            .stdout(Stdio::piped())
            .stderr(fs::File::create(&log).expect("a file for its stderr"));
        let process = Process::spawn(&mut command).unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = process
            .take(|child| child.stdout.take())
            .expect("stdout is piped");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&lines);
        let reader = thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                lock(&shared).push(line);
            }
        });
        Follower {
            process,
            lines,
            seen: Vec::new(),
            reader: Some(reader),
            log,
            directory,
        }
    }
}

impl Client for Follower {
    /// # Panics
    /// If it has ended, which none of them ever should.
    async fn seen(&mut self) -> Vec<Seen> {
        let ended = self.process.try_wait();
        assert!(ended.is_none(), "the client ended: {ended:?}");
        let lines = std::mem::take(&mut *lock(&self.lines));
        self.seen.extend(lines.iter().map(|line| Seen::parse(line)));
        self.seen.clone()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.process.kill();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        if thread::panicking() {
            let said = fs::read_to_string(&self.log).unwrap_or_default();
            eprintln!("--- stderr of the client\n{said}---");
        }
    }
}

/// curl and a parser of its output: curl knows no events, so each end restarts it with the last id.
pub struct Curl {
    url: String,
    running: Option<(Process, JoinHandle<()>)>,
    items: Arc<Mutex<Vec<Item>>>,
}

impl Curl {
    pub fn start(url: &str) -> Curl {
        let mut curl = Curl {
            url: url.to_owned(),
            running: None,
            items: Arc::default(),
        };
        curl.connect();
        curl
    }

    fn connect(&mut self) {
        let mut command = Command::new("curl");
        // With --fail an error's page is not taken for events.
        command.args(["--silent", "--no-buffer", "--fail"]);
        if let Some(seen) = self.events().last() {
            command.args(["--header", &format!("Last-Event-ID: {}", seen.id)]);
        }
        command
            .arg(&self.url)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let process =
            Process::spawn(&mut command).unwrap_or_else(|error| panic!("curl (package: curl): {error}"));
        let stdout = process
            .take(|child| child.stdout.take())
            .expect("stdout is piped");
        let shared = Arc::clone(&self.items);
        let reader = thread::spawn(move || parse(stdout, &shared));
        self.running = Some((process, reader));
    }

    fn events(&self) -> Vec<Seen> {
        let as_seen = |item: &Item| match item {
            Item::Event(event) => Some(Seen {
                event: event.name.clone(),
                data: event.data.clone(),
                id: event.id.clone(),
            }),
            Item::Violation(what) => panic!("{}: rule of docs/wire.md broken: {what}", self.url),
            Item::Comment(_) | Item::Retry(_) => None,
        };
        lock(&self.items).iter().filter_map(as_seen).collect()
    }
}

impl Client for Curl {
    /// If curl has ended it is started again.
    ///
    /// # Panics
    /// If the events break a rule of docs/wire.md.
    async fn seen(&mut self) -> Vec<Seen> {
        if let Some((_, reader)) = self.running.take_if(|(process, _)| process.try_wait().is_some()) {
            // Nothing of the old connection may come after the new one's.
            let _ = reader.join();
            self.connect();
        }
        self.events()
    }
}

/// A tab that shows a page of tests/clients/browser.
pub struct Tab<'a> {
    browser: &'a Browser,
    window: WindowHandle,
    seen: Vec<Seen>,
    has_event_source: bool,
}

impl<'a> Tab<'a> {
    pub async fn open(browser: &'a Browser, origin: &str, stream: &str) -> Tab<'a> {
        Tab::open_page(browser, &format!("{origin}/?stream={stream}"), true).await
    }

    /// One that follows the stream by the client library; `options` are more parameters of the page.
    pub async fn with_library(browser: &'a Browser, origin: &str, stream: &str, options: &str) -> Tab<'a> {
        let page = format!("{origin}/assets/library.html?stream={stream}{options}");
        Tab::open_page(browser, &page, options.is_empty()).await
    }

    async fn open_page(browser: &'a Browser, page: &str, has_event_source: bool) -> Tab<'a> {
        let client = &browser.client;
        let window = client.new_window(true).await.expect("a tab").handle;
        client
            .switch_to_window(window.clone())
            .await
            .expect("the tab is open");
        browser.goto(page).await;
        Tab {
            browser,
            window,
            seen: Vec::new(),
            has_event_source,
        }
    }
}

impl Client for Tab<'_> {
    async fn seen(&mut self) -> Vec<Seen> {
        let client = &self.browser.client;
        client
            .switch_to_window(self.window.clone())
            .await
            .expect("the tab is open");
        let lines = self
            .browser
            .run(&format!(
                "return [...document.querySelectorAll('#events li')].slice({}).map(item => item.textContent)",
                self.seen.len()
            ))
            .await;
        let lines = lines.as_array().expect("a list");
        self.seen
            .extend(lines.iter().map(|line| Seen::parse(line.as_str().expect("text"))));
        self.seen.clone()
    }

    fn drops_nul(&self) -> bool {
        self.has_event_source && self.browser.engine == Engine::Firefox
    }
}

fn with(interpreter: &Path, program: &Path) -> Command {
    let mut command = Command::new(interpreter);
    command.arg(program);
    command
}

fn parse(mut stdout: ChildStdout, items: &Mutex<Vec<Item>>) {
    let mut parser = Parser::new();
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = stdout.read(&mut buffer) {
        lock(items).extend(parser.feed(&buffer[..read]));
    }
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
