//! Sends the daemon's state to systemd (`sd_notify(3)`). Outside systemd every call does nothing.
//!
//! No call blocks: the reader of `NOTIFY_SOCKET` may be stopped or overloaded, and its queue may be full. Then
//! `WATCHDOG=1` is dropped, because the next one repeats it. All other messages are kept, and a task sends them in order
//! once there is space. Of reloads and statuses only the latest is kept.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use log::{info, warn};
use parking_lot::Mutex;
use sd_notify::NotifyState;
use tokio::runtime::Handle;
use tokio::sync::Notify;

const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

/// How long the task waits for the socket to be reported as writable before it tries again anyway.
const RETRY: Duration = Duration::from_secs(1);

/// How long the end of the process waits for messages that are still to be sent.
pub(crate) const SETTLE: Duration = Duration::from_secs(1);

static NOTIFIER: LazyLock<Option<Notifier>> =
    LazyLock::new(|| match Notifier::new(&env::var_os(NOTIFY_SOCKET)?) {
        Ok(notifier) => Some(notifier),
        Err(error) => {
            warn!("{NOTIFY_SOCKET}: {error}; systemd is not notified");
            None
        }
    });

pub(crate) fn ready() {
    tell(Message::Ready);
}

/// The daemon reads its configuration again; [`ready`] ends it.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(Message::Reloading(now.to_string())),
        Err(error) => warn!("the monotonic clock: {error}"),
    }
}

pub(crate) fn stopping() {
    tell(Message::Stopping);
}

pub(crate) fn alive() {
    tell(Message::Alive);
}

/// How long systemd waits for the next [`alive`]; `None` without a watchdog.
pub(crate) fn watchdog_period() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|period| !period.is_zero())
}

pub(crate) fn is_listening() -> bool {
    NOTIFIER.is_some()
}

/// One line for `systemctl status`.
pub(crate) fn status(line: &str) {
    // A line end would begin another assignment.
    tell(Message::Status(line.replace(char::is_control, " ")));
}

/// Waits until all messages are sent, for [`SETTLE`] at most.
pub(crate) async fn settle() {
    if let Some(notifier) = &*NOTIFIER {
        // systemd also sees the end of the process.
        let _ = tokio::time::timeout(SETTLE, notifier.settled()).await;
    }
}

fn tell(message: Message) {
    if let Some(notifier) = &*NOTIFIER {
        notifier.tell(message);
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    Ready,
    /// `RELOADING=1`, with an assignment of the time.
    Reloading(String),
    Stopping,
    Status(String),
    Alive,
}

impl Message {
    fn text(&self) -> String {
        match self {
            Self::Ready => format!("{}\n", NotifyState::Ready),
            Self::Reloading(time) => format!("{}\n{time}\n", NotifyState::Reloading),
            Self::Stopping => format!("{}\n", NotifyState::Stopping),
            Self::Status(line) => format!("{}\n", NotifyState::Status(line)),
            Self::Alive => format!("{}\n", NotifyState::Watchdog),
        }
    }
}

/// Sends messages to one socket, in their order, and never blocks.
#[derive(Debug, Clone)]
pub(crate) struct Notifier(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    address: SocketAddr,
    backlog: Mutex<Backlog>,
    is_sent: Notify,
}

#[derive(Debug, Default)]
struct Backlog {
    messages: VecDeque<Message>,
    /// Whether a task sends them. Nothing is sent past it, so the order stays.
    has_task: bool,
}

impl Notifier {
    /// For an address as `NOTIFY_SOCKET` has it: a path, or `@` and an abstract name.
    pub(crate) fn new(address: &OsStr) -> io::Result<Self> {
        let address = match address.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(address)?,
            _ => return Err(io::Error::other("neither a path nor an abstract address")),
        };
        Ok(Self(Arc::new(Inner {
            address,
            backlog: Mutex::default(),
            is_sent: Notify::new(),
        })))
    }

    /// Sends a message, or keeps it for a task of the current runtime.
    pub(crate) fn tell(&self, message: Message) {
        let mut backlog = self.0.backlog.lock();
        if backlog.messages.is_empty() {
            match self.0.send(&message) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return complain(outcome),
            }
        }
        backlog.keep(message);
        if backlog.messages.is_empty() || backlog.has_task {
            return;
        }
        // Every caller is in a runtime; otherwise the next caller in one sends the kept messages.
        if let Ok(runtime) = Handle::try_current() {
            info!("systemd does not read {NOTIFY_SOCKET}; messages wait until it does");
            backlog.has_task = true;
            runtime.spawn(Arc::clone(&self.0).send_backlog());
        }
    }

    pub(crate) async fn settled(&self) {
        loop {
            let is_sent = self.0.is_sent.notified();
            if self.0.backlog.lock().messages.is_empty() {
                return;
            }
            is_sent.await;
        }
    }
}

impl Inner {
    /// Opens a socket per message: one that is kept would stay connected to a reader that was replaced.
    fn socket(&self) -> io::Result<UnixDatagram> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.connect_addr(&self.address)?;
        Ok(socket)
    }

    fn send(&self, message: &Message) -> io::Result<()> {
        // A datagram is sent whole or not at all.
        self.socket()?.send(message.text().as_bytes()).map(|_| ())
    }

    async fn send_backlog(self: Arc<Self>) {
        loop {
            if let Ok(socket) = self.socket().and_then(tokio::net::UnixDatagram::from_std) {
                // On failure, or where it is not reported, the messages are tried all the same.
                let _ = tokio::time::timeout(RETRY, socket.writable()).await;
            }
            let is_full = {
                let mut backlog = self.backlog.lock();
                loop {
                    let Some(message) = backlog.messages.front() else {
                        backlog.has_task = false;
                        break false;
                    };
                    match self.send(message) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => break true,
                        outcome => complain(outcome),
                    }
                    backlog.messages.pop_front();
                }
            };
            if !is_full {
                self.is_sent.notify_waiters();
                return;
            }
        }
    }
}

impl Backlog {
    /// Keeps a message that must not be lost, and drops those that it makes outdated; at most five are kept.
    fn keep(&mut self, message: Message) {
        match &message {
            Message::Alive => return,
            Message::Status(_) => self.messages.retain(|kept| !matches!(kept, Message::Status(_))),
            Message::Reloading(_) => {
                let reload = self
                    .messages
                    .iter()
                    .position(|kept| matches!(kept, Message::Reloading(_)));
                if let Some(reload) = reload {
                    // The end of that reload, too; a status is of no concern to either.
                    let later = self.messages.split_off(reload);
                    self.messages.extend(
                        later
                            .into_iter()
                            .filter(|kept| matches!(kept, Message::Status(_))),
                    );
                }
            }
            Message::Ready | Message::Stopping => {}
        }
        self.messages.push_back(message);
    }
}

fn complain(outcome: io::Result<()>) {
    if let Err(error) = outcome {
        warn!("notifying systemd: {error}");
    }
}
