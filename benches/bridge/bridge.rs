//! The daemon as a process, and short questions to it.

use crate::harness::broker::{Broker, free_port};
use crate::harness::daemon::BINARY;
use crate::harness::process::{Process, Signal};
use crate::harness::scratch;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The one stream's path.
pub const PATH: &str = "/bench";

const CONFIG: &str = "config.toml";

/// The driver of this build's connections, if the command line names one: the value of `http.delivery`. Other builds may
/// not know the key.
pub static DELIVERY: OnceLock<String> = OnceLock::new();

/// How long the daemon may take to be ready.
const PATIENCE: Duration = Duration::from_secs(120);

/// Killed when dropped.
pub struct Bridge {
    process: Process,
    pub port: u16,
    config: String,
    directory: TempDir,
}

/// How to start a daemon with one stream of one topic.
#[derive(Clone, Copy)]
pub struct Launch<'a> {
    pub binary: &'a Path,
    pub topic: &'a str,
    pub start: &'a str,
    /// Lines of the table about Kafka.
    pub kafka: &'a str,
    /// No keepalives during a round, unless the round measures them.
    pub keepalive: &'a str,
    /// More lines of the table about HTTP.
    pub http: &'a str,
    /// More lines of the stream's table.
    pub settings: &'a str,
}

impl<'a> Launch<'a> {
    /// This build, with the defaults.
    pub fn new(topic: &'a str, start: &'a str) -> Launch<'a> {
        Launch {
            binary: Path::new(BINARY),
            topic,
            start,
            kafka: "client = \"librdkafka\"",
            keepalive: "10m",
            http: "",
            settings: "",
        }
    }

    /// Starts it; returns at once.
    pub fn spawn(self, broker: &Broker) -> Bridge {
        let directory = scratch::directory("bridge");
        let port = free_port();
        let brokers = broker.bootstrap();
        let file = directory.path().join(CONFIG);
        let driver = DELIVERY
            .get()
            .filter(|_| self.binary == Path::new(BINARY))
            .map_or_else(String::new, |name| format!("delivery = \"{name}\"\n"));
        let config = format!(
            "[kafka]\nbrokers = [\"{brokers}\"]\n{}\n\
             [http]\nlisten = [\"127.0.0.1:{port}\"]\nkeepalive = \"{}\"\n{driver}{}\n\
             [log]\nlevel = \"warn\"\n\
             [[stream]]\npath = \"{PATH}\"\ntopics = [\"{}\"]\nstart = \"{}\"\n{}\n",
            self.kafka, self.keepalive, self.http, self.topic, self.start, self.settings
        );
        std::fs::write(&file, &config).expect("config.toml");
        let mut command = Command::new(self.binary);
        command.args(["run", "--config"]).arg(&file).stdout(Stdio::null());
        let process =
            Process::spawn(&mut command).unwrap_or_else(|error| panic!("{}: {error}", self.binary.display()));
        Bridge {
            process,
            port,
            config,
            directory,
        }
    }

    /// Starts it and waits until it is ready.
    pub fn start(self, broker: &Broker) -> Bridge {
        let bridge = self.spawn(broker);
        bridge.wait_for("/health/ready", Duration::from_millis(5));
        bridge
    }
}

impl Bridge {
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Makes it reload its configuration, which differs in the page's title.
    pub fn reload(&self, title: &str) {
        let config = format!("{}\n[ui]\ntitle = \"{title}\"\n", self.config);
        std::fs::write(self.directory.path().join(CONFIG), config).expect("config.toml");
        self.process.signal(Signal::HUP);
    }

    /// Asks every `pause` until the answer is 200.
    pub fn wait_for(&self, path: &str, pause: Duration) {
        let began = Instant::now();
        let mut asker = None;
        loop {
            assert!(
                began.elapsed() < PATIENCE,
                "{path} is not 200 within {PATIENCE:?}"
            );
            if asker.is_none() {
                asker = self.asker().ok();
            }
            match asker.as_mut().map(|asker| asker.get(path)) {
                Some(Ok((200, _))) => return,
                Some(Err(_)) => asker = None,
                Some(Ok(_)) | None => {}
            }
            assert!(self.process.try_wait().is_none(), "the daemon ended");
            thread::sleep(pause);
        }
    }

    /// Waits until it has seen that all its clients are gone.
    pub fn wait_alone(&self) {
        self.wait_until("/streams", "clients that left are gone", |body| {
            let answer: serde_json::Value = serde_json::from_str(body).expect("JSON");
            answer["streams"][0]["clients"] == 0
        });
    }

    /// Waits until an answer holds a text.
    pub fn wait_for_text(&self, path: &str, text: &str) {
        self.wait_until(path, text, |body| body.contains(text));
    }

    fn wait_until(&self, path: &str, what: &str, is_so: impl Fn(&str) -> bool) {
        let mut asker = self.asker().expect("a connection");
        let began = Instant::now();
        loop {
            let (_, body) = asker.get(path).expect("the daemon answers");
            if is_so(&body) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{path}: not yet: {what}: {body}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn asker(&self) -> io::Result<Asker> {
        let socket = TcpStream::connect(("127.0.0.1", self.port))?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Asker { socket })
    }
}

/// One connection for one question after the other: asking often must cost the daemon little.
pub struct Asker {
    socket: TcpStream,
}

impl Asker {
    /// The status and the body, which must come with its length.
    pub fn get(&mut self, path: &str) -> io::Result<(u16, String)> {
        self.socket
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        let mut buffer = [0; 4096];
        loop {
            let read = self.socket.read(&mut buffer)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            answer.push_str(&String::from_utf8_lossy(&buffer[..read]));
            let Some((head, body)) = answer.split_once("\r\n\r\n") else {
                continue;
            };
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            if body.len() < length.unwrap_or(0) {
                continue;
            }
            let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
            return Ok((status.unwrap_or(0), body.to_owned()));
        }
    }
}
