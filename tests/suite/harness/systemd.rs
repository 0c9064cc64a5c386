//! The notifications of a daemon to systemd (`sd_notify(3)`).

use super::daemon::{Daemon, Launch};
use super::wait::{millis, secs};
use std::io;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub const ALIVE: &str = "WATCHDOG=1";

/// The message that fills the queue: a status, which says nothing about the daemon.
const FILLER: &str = "STATUS=filler";

/// The other end of `NOTIFY_SOCKET`.
pub struct Systemd {
    socket: UnixDatagram,
    directory: TempDir,
}

impl Systemd {
    pub fn new() -> Systemd {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = UnixDatagram::bind(directory.path().join("notify")).expect("a socket");
        Systemd { socket, directory }
    }

    /// The environment with which a daemon notifies this socket.
    pub fn hears(&self, launch: Launch) -> Launch {
        launch.env("NOTIFY_SOCKET", self.directory.path().join("notify"))
    }

    pub fn start(&self, text: &str) -> Daemon {
        self.hears(Daemon::with(text)).start()
    }

    /// Fills its own queue until no sender can send without waiting.
    pub fn fill(&self) {
        let sender = UnixDatagram::unbound().expect("a socket");
        sender.set_nonblocking(true).expect("set");
        sender
            .connect(self.directory.path().join("notify"))
            .expect("connected");
        while sender.send(FILLER.as_bytes()).is_ok() {}
    }

    /// The next message, by its lines; `None` where none comes in time.
    pub fn try_next(&self, within: Duration) -> Option<Vec<String>> {
        // Zero would be for ever.
        let within = within.max(millis(1));
        self.socket.set_read_timeout(Some(within)).expect("a timeout");
        let mut buffer = vec![0; 64 * 1024];
        match self.socket.recv(&mut buffer) {
            Ok(length) => {
                let text = String::from_utf8_lossy(&buffer[..length]);
                Some(text.lines().map(str::to_owned).collect())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }

    #[track_caller]
    pub fn next(&self) -> Vec<String> {
        self.try_next(secs(20)).expect("a message")
    }

    /// The next message that is not only about how the daemon is.
    #[track_caller]
    pub fn next_change(&self) -> Vec<String> {
        loop {
            let message = self.next();
            if !message[0].starts_with("STATUS=") && message != [ALIVE] {
                return message;
            }
        }
    }

    /// Waits for a status that is so, and gives it without its name.
    #[track_caller]
    pub fn status(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + secs(60);
        let mut last = None;
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            let message = self.try_next(left).unwrap_or_default();
            let status = message.iter().find_map(|line| line.strip_prefix("STATUS="));
            assert!(status.is_none() || message.len() == 1, "one line: {message:?}");
            match status {
                Some(status) if is_so(status) => return status.to_owned(),
                Some(status) => last = Some(status.to_owned()),
                None => {}
            }
        }
        panic!("systemd never receives {what}; the last message is {last:?}");
    }

    /// Counts the keepalives of the daemon within that time, without earlier ones.
    pub fn signs_of_life(&self, within: Duration) -> usize {
        while self.try_next(Duration::ZERO).is_some() {}
        let deadline = Instant::now() + within;
        let mut heard = 0;
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            heard += usize::from(self.try_next(left).is_some_and(|message| message == [ALIVE]));
        }
        heard
    }
}
