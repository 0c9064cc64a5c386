//! Checks the network path to each broker: DNS, TCP, and the `ApiVersions` request that every broker answers.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::thread;
use std::time::{Duration, Instant};

use super::report::{Finding, Report};
use crate::kafka::api_versions::{self, VersionRanges};
use crate::kafka::auth_error::AuthError;
use crate::kafka::connection::{Connection, SecurityProtocol};
use crate::kafka::security::Credentials;
use crate::kafka::worker_thread::within;

const NAME_LIMIT: Duration = Duration::from_secs(5);

const CONNECT_LIMIT: Duration = Duration::from_secs(3);

const MAX_ADDRESSES: usize = 4;

/// Time limit for a broker's `ApiVersions` response. For a name with one address the probe's own limit is shorter.
const VERSIONS_LIMIT: Duration = Duration::from_secs(8);

/// The origin of a broker's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The configuration names it.
    Configured,
    /// Another broker names it.
    Advertised,
}

/// Checks all brokers in parallel. Returns those that answer.
pub(super) fn check(
    connection: &Connection,
    brokers: &[String],
    kind: Kind,
    report: &mut Report,
) -> Vec<String> {
    let looks: Vec<Option<Look>> = thread::scope(|scope| {
        let looking: Vec<_> = brokers
            .iter()
            .map(|broker| scope.spawn(move || Look::at(broker, kind, connection)))
            .collect();
        looking.into_iter().map(|thread| thread.join().ok()).collect()
    });
    let mut answering = Vec::new();
    for (broker, look) in brokers.iter().zip(looks) {
        let Some(look) = look else { continue };
        look.findings.into_iter().for_each(|finding| report.add(finding));
        if look.is_answering {
            answering.push(broker.clone());
        }
    }
    answering
}

#[derive(Default)]
struct Look {
    findings: Vec<Finding>,
    is_answering: bool,
}

impl Look {
    fn at(broker: &str, kind: Kind, connection: &Connection) -> Self {
        let mut look = Self::default();
        let name = match kind {
            Kind::Configured => broker.to_owned(),
            Kind::Advertised => format!("{broker} (advertised)"),
        };
        let Some(addresses) = look.resolve(broker, &name, kind) else {
            return look;
        };
        if !look.connect(&addresses, &name, kind) {
            return look;
        }
        if SecurityProtocol::of(connection) == SecurityProtocol::TlsOfLibrdkafka {
            look.findings.push(Finding::ok(
                format!("api versions {name}"),
                "skipped: librdkafka's own TLS settings are in use",
            ));
            look.is_answering = true;
        } else {
            look.ask(broker, &name, &connection.credentials);
        }
        look
    }

    fn resolve(&mut self, broker: &str, name: &str, kind: Kind) -> Option<Vec<SocketAddr>> {
        let check = format!("dns {name}");
        let asked = broker.to_owned();
        let found = within(NAME_LIMIT, move || {
            asked.to_socket_addrs().map(Iterator::collect::<Vec<_>>)
        });
        let why = match found {
            Some(Ok(addresses)) if !addresses.is_empty() => {
                let shown: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
                self.findings.push(Finding::ok(check, shown.join(", ")));
                return Some(addresses);
            }
            Some(Ok(_)) => "the name has no address".to_owned(),
            Some(Err(error)) => error.to_string(),
            None => format!("no answer within {NAME_LIMIT:?}"),
        };
        let remedy = match kind {
            Kind::Configured => "correct brokers in [kafka], or the resolver (/etc/resolv.conf, /etc/hosts)",
            Kind::Advertised => {
                "the brokers send clients to this name: correct advertised.listeners at the broker, \
                 or make the name known here (/etc/hosts)"
            }
        };
        self.findings.push(Finding::fail(check, why, remedy));
        None
    }

    fn connect(&mut self, addresses: &[SocketAddr], name: &str, kind: Kind) -> bool {
        let check = format!("tcp {name}");
        let mut reasons = Vec::new();
        for address in addresses.iter().take(MAX_ADDRESSES) {
            let started = Instant::now();
            match TcpStream::connect_timeout(address, CONNECT_LIMIT) {
                Ok(_) => {
                    let took = started.elapsed();
                    let found = format!("connected to {address} in {took:.1?}");
                    self.findings.push(Finding::ok(check, found));
                    return true;
                }
                Err(error) => reasons.push(format!("{address}: {error}")),
            }
        }
        let remedy = match kind {
            Kind::Configured => {
                "start the broker, correct its port in brokers in [kafka], or open the firewall between"
            }
            Kind::Advertised => {
                "the brokers send clients to this address: correct advertised.listeners at the broker, \
                 or open the firewall between"
            }
        };
        self.findings
            .push(Finding::fail(check, reasons.join("; "), remedy));
        false
    }

    fn ask(&mut self, broker: &str, name: &str, credentials: &Credentials) {
        let check = format!("api versions {name}");
        let (asked, by) = (broker.to_owned(), credentials.clone());
        let answer = within(VERSIONS_LIMIT, move || api_versions::version_ranges(&asked, &by));
        if let Some(Err(error)) = &answer
            && let Some(refusal) = api_versions::auth_error(error)
        {
            let AuthError { reason, remedy } = refusal.clone();
            self.findings.push(Finding::fail(check, reason, remedy));
            return;
        }
        let why = match answer {
            Some(Ok(versions)) => {
                self.findings.push(Finding::ok(check, describe(versions)));
                self.is_answering = true;
                return;
            }
            // The operating system's text for a timeout of a socket does not mention a timeout.
            Some(Err(error))
                if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) =>
            {
                "it accepts connections, but does not answer".to_owned()
            }
            Some(Err(error)) => error.to_string(),
            None => format!("it accepts connections, but does not answer within {VERSIONS_LIMIT:?}"),
        };
        self.findings.push(Finding::fail(
            check,
            why,
            if credentials.tls().is_some() {
                "check that this is the broker's TLS listener; a plaintext listener needs no tls in [kafka]; \
                 see the broker's log if it hangs"
            } else {
                "check that this is the broker's plaintext listener; a TLS listener needs tls in [kafka]; \
                 see the broker's log if it hangs"
            },
        ));
    }
}

fn describe(versions: VersionRanges) -> String {
    let VersionRanges { fetch, list_offsets } = versions;
    let readers = if versions.suit_the_kafka_crate() {
        "the kafka crate and librdkafka"
    } else {
        "librdkafka"
    };
    format!(
        "Fetch {}–{}, ListOffsets {}–{}: supported by {readers}",
        fetch.0, fetch.1, list_offsets.0, list_offsets.1
    )
}
