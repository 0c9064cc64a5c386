//! A daemon seen from outside: whether it answers and notifies systemd, and how soon.

use super::SILENCE;
use crate::harness::systemd::{ALIVE, Systemd};
use crate::harness::wait::millis;
use rustix::process::setpriority_process;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The priority of what measures, where it may be raised: beside busy loops it would measure itself otherwise.
const PRIORITY: i32 = -15;

/// Pause between two questions.
const PAUSE: Duration = millis(20);

/// Measured times, shown in milliseconds: of half of them, of 99 of 100, and of all.
#[derive(Debug)]
pub struct Times(Vec<Duration>);

impl Times {
    pub fn of(mut times: Vec<Duration>) -> Times {
        times.sort_unstable();
        Times(times)
    }

    /// What `percent` of them are not above; 0 where there are none.
    pub fn percent(&self, percent: usize) -> Duration {
        let index = (self.0.len() * percent / 100).min(self.0.len().saturating_sub(1));
        self.0.get(index).copied().unwrap_or_default()
    }
}

impl fmt::Display for Times {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |percent| format!("{:.1}", self.percent(percent).as_secs_f64() * 1e3);
        out.write_str(&[50, 99, 100].map(at).join("  "))
    }
}

/// Requests `/health/live` over a new connection, and returns how long the response took.
pub fn ask_whether_it_lives(port: u16, within: Duration) -> io::Result<Duration> {
    let began = Instant::now();
    let mut socket = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), within)?;
    socket.set_read_timeout(Some(within))?;
    socket.write_all(b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer)?;
    if answer.starts_with(b"HTTP/1.1 200 ") {
        Ok(began.elapsed())
    } else {
        Err(io::Error::other("another answer than 200"))
    }
}

/// Says that something is over when it is dropped, so that a panic ends those who wait for that.
pub struct Ends<'a>(pub &'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Looks at a daemon.
pub struct Watch<'a> {
    /// The daemon's port.
    pub port: u16,
    pub systemd: &'a Systemd,
    /// Is set when what was to be watched has ended.
    pub is_over: &'a AtomicBool,
}

/// What it has seen.
pub struct Seen {
    /// How long `/health/live` took each time.
    pub answers: Times,
    pub unanswered: u64,
    /// The longest time without a keepalive to systemd.
    pub silence: Duration,
    /// Whether the priority could be raised.
    pub is_raised: bool,
}

impl Watch<'_> {
    /// Looks on while `act` runs.
    pub fn during(&self, act: impl FnOnce()) -> Seen {
        thread::scope(|scope| {
            let asking = scope.spawn(|| self.ask());
            let hearing = scope.spawn(|| self.hear());
            let ends = Ends(self.is_over);
            act();
            drop(ends);
            let mut seen = asking.join().expect("the daemon is asked");
            seen.silence = hearing.join().expect("the daemon is heard");
            seen
        })
    }

    fn ask(&self) -> Seen {
        let is_raised = setpriority_process(None, PRIORITY).is_ok();
        let (mut answers, mut unanswered) = (Vec::new(), 0);
        while !self.is_over.load(Ordering::Relaxed) {
            match ask_whether_it_lives(self.port, SILENCE) {
                Ok(took) => answers.push(took),
                Err(_) => unanswered += 1,
            }
            thread::sleep(PAUSE);
        }
        Seen {
            answers: Times::of(answers),
            unanswered,
            silence: Duration::ZERO,
            is_raised,
        }
    }

    fn hear(&self) -> Duration {
        let _ = setpriority_process(None, PRIORITY);
        let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
        while !self.is_over.load(Ordering::Relaxed) {
            if self
                .systemd
                .try_next(millis(100))
                .is_some_and(|message| message == [ALIVE])
            {
                longest = longest.max(last.elapsed());
                last = Instant::now();
            }
        }
        longest.max(last.elapsed())
    }
}
