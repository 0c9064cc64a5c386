//! The real binary, started as an operator would start it.

use super::http;
use super::process::{Process, Signal};
use super::scratch;
use super::wait::{ensure, eventually, eventually_async, secs};
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tempfile::TempDir;

/// The binary of this build.
pub const BINARY: &str = env!("CARGO_BIN_EXE_kafka-sse-bridge");

/// The log lines of the daemon once its socket accepts; the port follows.
const LISTENING: &str = "listening on http://127.0.0.1:";
const LISTENING_TLS: &str = "listening on https://127.0.0.1:";

/// How to start the daemon.
pub struct Launch {
    binary: PathBuf,
    config: String,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    socket: Option<OwnedFd>,
}

impl Launch {
    /// Another build, with other features.
    pub fn binary(mut self, binary: impl Into<PathBuf>) -> Launch {
        self.binary = binary.into();
        self
    }

    /// One more argument after `run --config <file>`.
    pub fn arg(mut self, argument: impl Into<OsString>) -> Launch {
        self.arguments.push(argument.into());
        self
    }

    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Launch {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Hands over a socket, as systemd does (`sd_listen_fds(3)`).
    pub fn socket(mut self, socket: impl Into<OwnedFd>) -> Launch {
        self.socket = Some(socket.into());
        self
    }

    /// The command without its arguments.
    fn command(&mut self) -> Command {
        let Some(socket) = self.socket.take() else {
            let mut command = Command::new(&self.binary);
            command.stdout(Stdio::null());
            return command;
        };
        // The shell gives the socket its number.
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(r#"LISTEN_PID=$$ exec "$0" "$@" 3<&1 >/dev/null"#)
            .arg(&self.binary)
            .env("LISTEN_FDS", "1")
            .stdout(socket);
        command
    }

    /// Starts it, and waits until it listens.
    #[track_caller]
    pub fn start(mut self) -> Daemon {
        let directory = scratch::directory("daemon");
        let config = directory.path().join("config.toml");
        fs::write(&config, &self.config).expect("config.toml");
        let mut command = self.command();
        command
            .args(["run", "--config"])
            .arg(&config)
            .args(self.arguments)
            .env("RUST_BACKTRACE", "1")
            .envs(self.environment)
            .current_dir(directory.path())
            .stderr(Stdio::piped());
        let process =
            Process::spawn(&mut command).unwrap_or_else(|error| panic!("{}: {error}", self.binary.display()));
        let stderr = process
            .take(|child| child.stderr.take())
            .expect("stderr is piped");
        let log = Arc::new(Mutex::new(String::new()));
        let shared = Arc::clone(&log);
        let reader = thread::spawn(move || {
            let mut lines = BufReader::new(stderr);
            let mut line = Vec::new();
            while lines.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                lock(&shared).push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
        let mut daemon = Daemon {
            process,
            reader: Some(reader),
            log,
            port: 0,
            config,
            directory,
        };
        daemon.port = eventually(secs(20), "the daemon listens", || daemon.find_port(LISTENING));
        daemon
    }
}

/// Killed when dropped; while a test fails, its log is shown.
pub struct Daemon {
    process: Process,
    reader: Option<JoinHandle<()>>,
    log: Arc<Mutex<String>>,
    port: u16,
    config: PathBuf,
    directory: TempDir,
}

impl Daemon {
    /// Runs the binary of this build with that configuration, whose `[http]` has `listen = ["127.0.0.1:0"]`.
    #[track_caller]
    pub fn start(config: &str) -> Daemon {
        Daemon::with(config).start()
    }

    /// [`Daemon::start`] with more options.
    pub fn with(config: &str) -> Launch {
        Launch {
            binary: BINARY.into(),
            config: config.to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            socket: None,
        }
    }

    fn find_port(&self, listening: &str) -> Result<u16, String> {
        let ended = self.process.try_wait();
        let log = self.log();
        let port = log.split_once(listening).and_then(|(_, rest)| {
            // Up to a character that is not part of it: the line may not be complete yet.
            let (digits, _) = rest.split_once(|c: char| !c.is_ascii_digit())?;
            digits.parse().ok()
        });
        // Waiting longer for a process that has ended is of no use.
        assert!(
            port.is_some() || ended.is_none(),
            "the daemon ended ({ended:?}):\n{log}"
        );
        port.ok_or_else(|| format!("no line with {listening:?}"))
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port of its listener with TLS, if it has one.
    #[track_caller]
    pub fn tls_port(&self) -> u16 {
        eventually(secs(20), "the daemon listens with TLS", || {
            self.find_port(LISTENING_TLS)
        })
    }

    /// `path` begins with a slash and may have a query.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub async fn get(&self, path: &str) -> http::Response {
        http::get(&self.url(path), &[]).await
    }

    /// Waits until `/health/ready` answers 200.
    pub async fn wait_ready(&self, within: Duration) {
        let url = self.url("/health/ready");
        eventually_async(within, "the daemon is ready", async || {
            let answer = http::request(reqwest::Method::GET, &url, &[])
                .await
                .map_err(|error| error.to_string())?;
            ensure(
                answer.status == 200,
                format!("{}: {}", answer.status, answer.text()),
            )
        })
        .await;
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits for the process to end by itself.
    #[track_caller]
    pub fn wait_exit(&mut self, within: Duration) -> ExitStatus {
        let status = self.process.wait(within);
        let status = status.unwrap_or_else(|| panic!("the daemon has not ended within {within:?}"));
        // Its last lines are part of the log.
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        status
    }

    pub fn is_running(&self) -> bool {
        self.process.try_wait().is_none()
    }

    /// All that it has written to stderr so far.
    pub fn log(&self) -> String {
        lock(&self.log).clone()
    }

    /// Waits for a piece of text on stderr.
    #[track_caller]
    pub fn wait_log(&self, text: &str, within: Duration) {
        eventually(within, &format!("the log says {text:?}"), || {
            ensure(lock(&self.log).contains(text), "it does not")
        });
    }

    /// Replaces the whole configuration file, as an editor does. The daemon reads it on SIGHUP.
    pub fn rewrite_config(&self, config: &str) {
        let fresh = self.directory.path().join("config.toml.new");
        fs::write(&fresh, config).expect("config.toml.new");
        fs::rename(&fresh, &self.config).expect("config.toml");
    }

    pub fn config_file(&self) -> &Path {
        &self.config
    }

    /// Its working directory, for files a configuration names.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.process.kill();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        if thread::panicking() {
            eprintln!("--- log of daemon {}\n{}---", self.process.pid(), self.log());
        }
    }
}

/// Runs a command of the binary that ends by itself, such as `check`.
#[track_caller]
pub fn run_to_end(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(BINARY);
    command.args(arguments).envs(environment.iter().copied());
    finish(&mut command)
}

/// Runs a command that ends by itself.
#[track_caller]
pub fn finish(command: &mut Command) -> Output {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let process = Process::spawn(command).unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let stdout = process.take(|child| child.stdout.take()).map(drain);
    let stderr = process.take(|child| child.stderr.take()).map(drain);
    let status = process
        .wait(secs(30))
        .unwrap_or_else(|| panic!("{command:?} has not ended within 30 s"));
    let join = |reader: Option<JoinHandle<Vec<u8>>>| {
        reader.and_then(|reader| reader.join().ok()).unwrap_or_default()
    };
    Output {
        status,
        stdout: join(stdout),
        stderr: join(stderr),
    }
}

fn drain(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut all = Vec::new();
        let _ = pipe.read_to_end(&mut all);
        all
    })
}

fn lock(log: &Mutex<String>) -> std::sync::MutexGuard<'_, String> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}
