//! A real browser: Debian's Chromium or Firefox, headless, driven through chromedriver or geckodriver.

use super::daemon::Daemon;
use super::process::{Process, Signal};
use super::scratch;
use super::wait::{eventually, eventually_async, secs};
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use reqwest::{Method, Url};
use rustix::process::{Pid, kill_process};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::time::Duration;
use tempfile::TempDir;

const CHROMIUM: &str = "/usr/bin/chromium";
const CHROMEDRIVER: &str = "/usr/bin/chromedriver";
const FIREFOX: &str = "/usr/bin/firefox-esr";

/// What chromedriver prints before it ends because a port is taken.
const PORT_TAKEN: &str = "port not available. Exiting";

/// Prints the path of geckodriver.
const GECKODRIVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/geckodriver");

/// Which browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    Chromium,
    Firefox,
}

impl Engine {
    /// Whether its tests must be skipped; the reason is then written to stderr. Chromium is required.
    pub fn is_missing(self) -> bool {
        self == Engine::Firefox
            && Command::new(GECKODRIVER)
                .arg("--check")
                .status()
                // Anything else that is wrong is the test's to fail by.
                .is_ok_and(|status| status.code() == Some(69))
    }

    /// Its driver, which chooses a port, and what that prints before the port once it accepts connections.
    fn driver(self, directory: &Path) -> (Command, &'static str) {
        match self {
            Engine::Chromium => {
                for binary in [CHROMEDRIVER, CHROMIUM] {
                    assert!(
                        Path::new(binary).exists(),
                        "{binary} is missing: install the packages chromium and chromium-driver"
                    );
                }
                let mut command = Command::new(CHROMEDRIVER);
                command.arg("--port=0");
                (command, "started successfully on port ")
            }
            Engine::Firefox => {
                let output = Command::new(GECKODRIVER)
                    .stderr(Stdio::inherit())
                    .output()
                    .unwrap_or_else(|error| panic!("{GECKODRIVER}: {error}"));
                assert!(
                    output.status.success(),
                    "{GECKODRIVER}: {} (its stderr is above)",
                    output.status
                );
                let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
                let mut command = Command::new(path);
                command.args(["--port=0", "--profile-root"]).arg(directory);
                // It writes into the home directory, too.
                command.env("HOME", directory);
                (command, "Listening on 127.0.0.1:")
            }
        }
    }

    /// Starts its driver; returns it with its port.
    fn start_driver(self, directory: &Path) -> (Process, u16) {
        let log = directory.join("driver.log");
        let (mut command, started) = self.driver(directory);
        let mut start = || {
            let out = fs::File::create(&log).expect("driver.log");
            Process::spawn(command.stdout(out).stderr(Stdio::null()))
                .unwrap_or_else(|error| panic!("{command:?}: {error}"))
        };
        let mut driver = start();
        let port = eventually(secs(20), "the browser's driver starts", || {
            let said = fs::read_to_string(&log).unwrap_or_default();
            // chromedriver has the kernel choose a port of IPv6, and ends if something else has the same one of IPv4.
            if said.contains(PORT_TAKEN) && driver.try_wait().is_some() {
                driver = start();
            }
            let is_end = |character: char| !character.is_ascii_digit();
            let after = said.split_once(started).map(|(_, rest)| rest);
            let port = after.and_then(|rest| rest.split_once(is_end)?.0.parse().ok());
            port.ok_or(said)
        });
        (driver, port)
    }

    fn capabilities(self, directory: &Path) -> Value {
        match self {
            Engine::Chromium => json!({
                "browserName": "chrome",
                // The authorities of tests are in no store.
                "acceptInsecureCerts": true,
                "goog:chromeOptions": {
                    "binary": CHROMIUM,
                    "args": [
                        "--headless",
                        "--no-sandbox",
                        "--disable-gpu",
                        "--disable-quic",
                        "--no-first-run",
                        "--disable-background-networking",
                        "--disable-component-update",
                        "--disable-sync",
                        // A container's /dev/shm may be too small for a page.
                        "--disable-dev-shm-usage",
                        "--window-size=1280,900",
                        format!("--user-data-dir={}", directory.join("profile").display()),
                    ],
                },
                // Console messages and exceptions of the page are part of the result.
                "goog:loggingPrefs": { "browser": "ALL" },
            }),
            Engine::Firefox => json!({
                "browserName": "firefox",
                "acceptInsecureCerts": true,
                "moz:firefoxOptions": {
                    "binary": FIREFOX,
                    "args": ["-headless", "-width", "1280", "-height", "900"],
                },
            }),
        }
    }
}

/// One window. [`Browser::close`] it at a test's end; a test that fails has it killed.
pub struct Browser {
    pub engine: Engine,
    pub client: Client,
    /// The browser's processes stay in its driver's group, and end with it. Before `directory`: they write there.
    driver: Process,
    directory: TempDir,
}

impl Browser {
    /// Chromium.
    ///
    /// # Panics
    /// If it is not installed, naming the packages.
    pub async fn start() -> Browser {
        Browser::of(Engine::Chromium).await
    }

    /// # Panics
    /// If it is not installed, naming the packages.
    pub async fn of(engine: Engine) -> Browser {
        let directory = scratch::directory("browser");
        let (driver, port) = engine.start_driver(directory.path());
        let Value::Object(capabilities) = engine.capabilities(directory.path()) else {
            unreachable!("written as an object")
        };
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .unwrap_or_else(|error| panic!("{engine:?} does not start: {error}"));
        Browser {
            engine,
            client,
            driver,
            directory,
        }
    }

    /// A window with a page of a daemon that is ready: by its path, or by the URL at which something else passes it on.
    pub async fn open(daemon: &Daemon, link: &str) -> Browser {
        Browser::open_in(Engine::Chromium, daemon, link).await
    }

    /// [`Browser::open`] in that browser.
    pub async fn open_in(engine: Engine, daemon: &Daemon, link: &str) -> Browser {
        daemon.wait_ready(secs(30)).await;
        let browser = Browser::of(engine).await;
        if link.starts_with('/') {
            browser.goto(&daemon.url(link)).await;
        } else {
            browser.goto(link).await;
        }
        browser
    }

    pub async fn goto(&self, url: &str) {
        self.client
            .goto(url)
            .await
            .unwrap_or_else(|error| panic!("{url}: {error}"));
    }

    /// The value of a script's `return`.
    pub async fn run(&self, script: &str) -> Value {
        self.client
            .execute(script, Vec::new())
            .await
            .unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// The first value of a script's `return` of which that is so.
    pub async fn wait_for(
        &self,
        within: Duration,
        script: &str,
        what: &str,
        is_so: impl Fn(&Value) -> bool,
    ) -> Value {
        eventually_async(within, what, async || {
            let seen = self.run(script).await;
            if is_so(&seen) { Ok(seen) } else { Err(seen) }
        })
        .await
    }

    /// Sends a command of the Chrome DevTools Protocol to the window, which Chromium alone knows.
    ///
    /// # Errors
    /// If the window does not answer it, as one that crashes.
    pub async fn devtools(&self, command: &'static str, parameters: Value) -> Result<Value, String> {
        let command = DevTools { command, parameters };
        let answer = self.client.issue_cmd(command).await;
        answer.map_err(|error| error.to_string())
    }

    /// Kills the process of the window's page, whose site gives it `worker`, a script that does nothing. A page is not
    /// told the id of its process, but its worker is a thread there, with a name that those of other pages do not have.
    pub async fn kill_renderer(&self, worker: &str) {
        const NAME: &str = "DedicatedWorker";
        self.run(&format!("window.worker = new Worker({})", json!(worker)))
            .await;
        let group = i32::try_from(self.driver.pid()).expect("a process id");
        let has_worker = |process: &procfs::process::Process| {
            let is_named = |task: &procfs::process::Task| task.stat().is_ok_and(|stat| stat.comm == NAME);
            let is_own = process.stat().is_ok_and(|stat| stat.pgrp == group);
            is_own
                && process
                    .tasks()
                    .is_ok_and(|tasks| tasks.flatten().any(|task| is_named(&task)))
        };
        let renderer = eventually(secs(10), "one renderer has a worker", || {
            let all = procfs::process::all_processes().expect("/proc");
            let mut found = all.flatten().filter(has_worker).map(|process| process.pid);
            found.next().filter(|_| found.next().is_none()).ok_or(NAME)
        });
        let renderer = Pid::from_raw(renderer).expect("a process id");
        kill_process(renderer, Signal::KILL).expect("it is killed");
    }

    /// Bytes of the page's heap after garbage collection.
    pub async fn heap(&self) -> f64 {
        let collected = self.devtools("HeapProfiler.collectGarbage", json!({})).await;
        collected.expect("garbage is collected");
        let usage = self.devtools("Runtime.getHeapUsage", json!({})).await;
        let usage = usage.expect("the heap's size");
        usage["usedSize"].as_f64().unwrap_or_else(|| panic!("{usage}"))
    }

    pub async fn screenshot(&self, file: &Path) {
        let png = self.client.screenshot().await.expect("a screenshot");
        fs::write(file, png).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }

    pub async fn close(self) {
        let Browser {
            client,
            driver,
            directory,
            ..
        } = self;
        let _ = client.close().await;
        drop(driver);
        drop(directory);
    }
}

/// A command that chromedriver passes on.
#[derive(Debug)]
struct DevTools {
    command: &'static str,
    parameters: Value,
}

impl WebDriverCompatibleCommand for DevTools {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, <Url as FromStr>::Err> {
        base.join(&format!(
            "session/{}/goog/cdp/execute",
            session.unwrap_or_default()
        ))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        let body = json!({ "cmd": self.command, "params": self.parameters });
        (Method::POST, Some(body.to_string()))
    }
}
