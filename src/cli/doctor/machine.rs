//! Checks this machine: descriptors, memory, addresses, files. Creates nothing; sockets are bound but never listened on.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Access, access};

use super::report::{Finding, Report};
use crate::config::address::ANY_ADDRESS;
use crate::config::available::Available;
use crate::config::{Endpoint, HttpSettings, Loaded, Scheme};
use crate::fd_limit;
use crate::http::listener::{Listener, SYSTEMD};
use crate::http::send_queues::{self, Held};
use crate::http::unix;
use crate::kafka::client::HANDLES;
use crate::kafka::history;
use crate::kafka::worker_thread::within;

/// Time limit for identifying the program that serves an address.
const ABOUT_LIMIT: Duration = Duration::from_secs(3);

const MAX_ABOUT: u64 = 64 * 1024;

/// The part of the available memory from which on send queues are a warning: one of so many.
const LARGE_PART: u64 = 8;

const SEND_QUEUES: &str = "send queues";

pub(super) fn check(loaded: &Loaded, report: &mut Report) {
    let settings = &loaded.settings;
    let http = &settings.http;
    let mut served = Vec::new();
    report.add(check_descriptors(http, settings.kafka.brokers.len()));
    for endpoint in http.endpoints() {
        let address = endpoint.address.as_str();
        report.add(match address.strip_prefix("unix:") {
            Some(path) => listen_unix(&endpoint, Path::new(path), http),
            None if address == SYSTEMD => Finding::ok(
                named(&endpoint),
                "systemd binds the sockets that the daemon serves",
            ),
            None => listen_tcp(&endpoint, http, &mut served),
        });
    }
    if !served.is_empty() {
        report.add(send_queues(&served, loaded.memory.available.as_ref()));
    }
    report.add(log_file(settings.log.file.as_deref()));
    report.add(assets(settings.ui.assets.as_deref()));
}

/// Checks that the limit of descriptors suffices for `max_clients` and connections to this many brokers.
pub(super) fn check_descriptors(http: &HttpSettings, brokers: usize) -> Finding {
    const CHECK: &str = "descriptors";
    let reserve = fd_limit::reserve(brokers, HANDLES + history::MAX_HANDLES);
    // The daemon raises its soft limit to the hard limit.
    let Some(limit) = fd_limit::hard_limit() else {
        return Finding::ok(CHECK, "unlimited here");
    };
    let clients = fd_limit::left_for_clients(limit, reserve);
    let plural = if brokers == 1 { "" } else { "s" };
    let found = format!(
        "at most {limit} here, enough for {clients} clients beside up to {reserve} for reading {brokers} broker{plural}"
    );
    match http.max_clients {
        0 => Finding::ok(
            CHECK,
            format!("{found}; max_clients is unlimited, so this limit applies"),
        ),
        wanted if clients >= wanted => Finding::ok(CHECK, format!("{found}; max_clients is {wanted}")),
        wanted => Finding::warn(
            CHECK,
            format!(
                "{found}, and max_clients is {wanted}: further connections wait to be accepted, without a response"
            ),
            format!(
                "set max_clients = {clients} in [http], or raise the limit: ulimit -Hn where the daemon is started \
                 by hand; the shipped unit sets its own (LimitNOFILE)"
            ),
        ),
    }
}

/// Checks that the available memory covers the sum of the configured bounds.
pub(super) fn memory(loaded: &Loaded) -> Finding {
    const CHECK: &str = "memory";
    let found = loaded.memory.describe(&loaded.settings);
    match loaded.memory.remedy(&loaded.settings) {
        Some(remedy) => Finding::warn(CHECK, found, remedy),
        None => Finding::ok(CHECK, found),
    }
}

/// Checks what the kernel holds for clients of the running daemon, which has these ports.
fn send_queues(ports: &[u16], available: Option<&Available>) -> Finding {
    match send_queues::read(ports) {
        Ok(held) => judge_send_queues(held, available),
        Err(error) => Finding::warn(
            SEND_QUEUES,
            format!("the table of TCP sockets cannot be read: {error}"),
            "mount /proc where doctor runs",
        ),
    }
}

fn judge_send_queues(Held { bytes, connections }: Held, available: Option<&Available>) -> Finding {
    let found = format!(
        "{connections} connections have {} KiB in the kernel that their clients have not acknowledged",
        bytes.div_ceil(1024)
    );
    match available {
        Some(available) if bytes > available.bytes / LARGE_PART => Finding::warn(
            SEND_QUEUES,
            format!(
                "{found}: more than an eighth of the memory available ({})",
                available.source
            ),
            "clients read more slowly than records come: lower write_timeout, max_clients or max_clients_per_ip in \
             [http], or give the daemon more memory (MemoryMax= in the unit)",
        ),
        _ => Finding::ok(SEND_QUEUES, found),
    }
}

/// The name of the check of an address.
fn named(endpoint: &Endpoint) -> String {
    match endpoint.scheme {
        Scheme::Http | Scheme::Https | Scheme::Redirect => format!("listen {endpoint}"),
        Scheme::Admin => format!("admin listen {endpoint}"),
    }
}

/// `served` gets the port if the daemon serves it.
fn listen_tcp(endpoint: &Endpoint, http: &HttpSettings, served: &mut Vec<u16>) -> Finding {
    let (check, address) = (named(endpoint), endpoint.address.as_str());
    let Err(error) = Listener::try_tcp(address) else {
        return Finding::ok(check, "can be bound");
    };
    if error.cause().kind() == io::ErrorKind::AddrInUse {
        let (asked, path) = (address.to_owned(), about_path(endpoint, http));
        let answer = within(ABOUT_LIMIT, move || about_tcp(&asked, &path));
        let answer = answer.and_then(Result::ok).flatten();
        let mut note_served = || {
            let port = address
                .rsplit_once(':')
                .and_then(|(_, port)| port.parse::<u16>().ok());
            served.extend(port);
        };
        match (answer, endpoint.scheme) {
            (Some(Holder::Daemon(daemon)), Scheme::Http | Scheme::Admin) => {
                note_served();
                return held_by_us(check, &daemon);
            }
            (Some(Holder::Tls), Scheme::Https) => {
                note_served();
                return Finding::ok(check, "held by a running kafka-sse-bridge, with TLS");
            }
            (Some(Holder::Redirect), Scheme::Redirect) => {
                return Finding::ok(check, "held by a program that redirects to https");
            }
            _ => {}
        }
    }
    Finding::fail(check, error.cause().to_string(), error.remedy())
}

fn listen_unix(endpoint: &Endpoint, path: &Path, http: &HttpSettings) -> Finding {
    let check = named(endpoint);
    let access = http.socket_access(endpoint);
    if let Some(Err(why)) = access.group.as_deref().map(unix::group) {
        return Finding::fail(check, why, "correct unix_socket_group, or create the group");
    }
    if let Ok(found) = path.symlink_metadata() {
        if !found.file_type().is_socket() {
            return Finding::fail(
                check,
                "a file exists at this path and is not a socket",
                "remove it, or correct listen",
            );
        }
        return match UnixStream::connect(path) {
            Ok(stream) => {
                let asked = about_path(endpoint, http);
                let answer = within(ABOUT_LIMIT, move || about(stream, &asked));
                match answer.and_then(Result::ok).flatten() {
                    Some(Holder::Daemon(daemon)) => held_by_us(check, &daemon),
                    _ => Finding::fail(
                        check,
                        "another program serves this address",
                        "stop that program, or choose another address with --listen",
                    ),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Finding::ok(
                check,
                "stale socket of a process that ended; the daemon replaces it",
            ),
            Err(error) => Finding::fail(check, error.to_string(), "correct its permissions"),
        };
    }
    match writable_directory(path) {
        Ok(()) => Finding::ok(check, "can be created"),
        Err(error) => Finding::fail(
            check,
            format!("its directory: {error}"),
            "create the directory, writable by the daemon's user (RuntimeDirectory in the unit)",
        ),
    }
}

fn held_by_us(check: String, daemon: &Running) -> Finding {
    Finding::ok(
        check,
        match daemon {
            Running::Version(version) => format!("held by a running kafka-sse-bridge {version}"),
            Running::Unnamed => {
                "held by a program that answers like a running kafka-sse-bridge; expose has no \"about\", so that it \
                 cannot be asked"
                    .to_owned()
            }
        },
    )
}

/// The program that serves an address, by its response to HTTP.
enum Holder {
    Daemon(Running),
    /// The daemon, where it speaks TLS.
    Tls,
    /// Any program, where it redirects.
    Redirect,
}

/// The daemon that serves an address.
enum Running {
    /// This version.
    Version(String),
    /// It does not serve `/about` there, and the error has the form of this program's.
    Unnamed,
}

/// The program that serves an address; `None` if it is another one.
fn about_tcp(address: &str, path: &str) -> io::Result<Option<Holder>> {
    // `*:port` always includes IPv4.
    let address = match address.strip_prefix(ANY_ADDRESS) {
        Some(port) => format!("127.0.0.1:{port}"),
        None => address.to_owned(),
    };
    for address in address.to_socket_addrs()? {
        let reachable = match address.ip() {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => SocketAddr::from((Ipv4Addr::LOCALHOST, address.port())),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => SocketAddr::from((Ipv6Addr::LOCALHOST, address.port())),
            _ => address,
        };
        let stream = TcpStream::connect_timeout(&reachable, ABOUT_LIMIT)?;
        if let Some(holder) = about(stream, path)? {
            return Ok(Some(holder));
        }
    }
    Ok(None)
}

fn about_path(endpoint: &Endpoint, http: &HttpSettings) -> String {
    match endpoint.scheme {
        Scheme::Http | Scheme::Https | Scheme::Redirect => format!("{}/about", http.base_path),
        Scheme::Admin => "/about".to_owned(),
    }
}

fn about(mut stream: impl Read + Write, path: &str) -> io::Result<Option<Holder>> {
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(MAX_ABOUT).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    if answer.starts_with("HTTP/1.1 308 ") {
        return Ok(Some(Holder::Redirect));
    }
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let about: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    if about["error"]["code"] == "tls_required" {
        return Ok(Some(Holder::Tls));
    }
    let is_ours = about["product"] == env!("CARGO_PKG_NAME");
    let version = about["version"].as_str().filter(|_| is_ours);
    let is_hidden = about["error"]["code"] == "not_found";
    let running = match version {
        Some(version) => Some(Running::Version(version.to_owned())),
        None => is_hidden.then_some(Running::Unnamed),
    };
    Ok(running.map(Holder::Daemon))
}

fn log_file(path: Option<&Path>) -> Finding {
    const CHECK: &str = "log file";
    let Some(path) = path else {
        return Finding::ok(
            CHECK,
            "none: the log goes to stderr, which is the journal under systemd",
        );
    };
    let shown = path.display();
    let outcome = match path.metadata() {
        // Opening anything else, such as a pipe, may block.
        Ok(found) if !found.is_file() && !found.is_dir() => {
            access(path, Access::WRITE_OK).map_err(io::Error::from)
        }
        Ok(_) => OpenOptions::new().append(true).open(path).map(drop),
        // Not created, because it would belong to the user who runs doctor.
        Err(error) if error.kind() == io::ErrorKind::NotFound => writable_directory(path),
        Err(error) => Err(error),
    };
    match outcome {
        Ok(()) => Finding::ok(CHECK, format!("{shown} can be written by this user")),
        Err(error) => Finding::fail(
            CHECK,
            format!("{shown}: {error}"),
            "correct file in [log], or the permissions of the file and its directory",
        ),
    }
}

fn assets(directory: Option<&Path>) -> Finding {
    const CHECK: &str = "assets";
    let Some(directory) = directory else {
        return Finding::ok(CHECK, "the built-in page");
    };
    match File::open(directory.join("index.html")) {
        Ok(_) => Finding::ok(CHECK, format!("{} holds a page", directory.display())),
        Err(error) => Finding::fail(
            CHECK,
            format!("{}: index.html: {error}", directory.display()),
            "correct assets in [ui], or the permissions of its files",
        ),
    }
}

fn writable_directory(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    access(
        parent.unwrap_or(Path::new(".")),
        Access::WRITE_OK | Access::EXEC_OK,
    )
    .map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn send_queues_of_more_than_an_eighth_of_the_memory_are_a_warning() {
        let available = Available {
            bytes: 800 << 20,
            source: "this machine".to_owned(),
        };
        let held = |bytes| Held {
            bytes,
            connections: 7,
        };
        let finding = judge_send_queues(held(100 << 20), Some(&available)).to_string();
        assert_eq!(
            finding,
            "ok    send queues: 7 connections have 102400 KiB in the kernel that their clients have not acknowledged\n"
        );
        let finding = judge_send_queues(held((100 << 20) + 1), Some(&available)).to_string();
        assert!(
            finding.starts_with("warn  send queues: 7 connections have 102401 KiB "),
            "{finding}"
        );
        assert!(finding.contains("write_timeout"), "{finding}");
        let finding = judge_send_queues(held(u64::MAX), None).to_string();
        assert!(finding.starts_with("ok  "), "{finding}");
    }
}
