//! The daemon as a process, and short questions to it.

use crate::harness::broker::{Broker, free_port};
use crate::harness::daemon::BINARY;
use crate::harness::process::Process;
use crate::harness::scratch;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The one stream's path.
pub const PATH: &str = "/bench";

/// How long the daemon may take to be ready.
const PATIENCE: Duration = Duration::from_secs(120);

/// Killed when dropped.
pub struct Bridge {
    process: Process,
    pub port: u16,
    _directory: TempDir,
}

impl Bridge {
    /// Starts it on one stream of one topic; returns at once.
    pub fn spawn(broker: &Broker, topic: &str, start: &str) -> Bridge {
        let directory = scratch::directory("bridge");
        let port = free_port();
        let brokers = broker.bootstrap();
        let file = directory.path().join("config.toml");
        // The one departure from the defaults: no keepalives into a round of somebody else.
        let config = format!(
            "[kafka]\nbrokers = [\"{brokers}\"]\nclient = \"librdkafka\"\n\
             [http]\nlisten = [\"127.0.0.1:{port}\"]\nkeepalive = \"10m\"\n\
             [log]\nlevel = \"warn\"\n\
             [[stream]]\npath = \"{PATH}\"\ntopics = [\"{topic}\"]\nstart = \"{start}\"\n"
        );
        std::fs::write(&file, config).expect("config.toml");
        let mut command = Command::new(BINARY);
        command.args(["run", "--config"]).arg(&file).stdout(Stdio::null());
        let process = Process::spawn(&mut command).unwrap_or_else(|error| panic!("{BINARY}: {error}"));
        Bridge {
            process,
            port,
            _directory: directory,
        }
    }

    /// Starts it and waits until it is ready.
    pub fn start(broker: &Broker, topic: &str, start: &str) -> Bridge {
        let bridge = Bridge::spawn(broker, topic, start);
        bridge.wait_for("/health/ready", Duration::from_millis(5));
        bridge
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
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
