//! `kafka-sse-bridge tail`: a client of one stream, made for support.
//!
//! ```text
//! connection ──bytes──► parser ──items──► show (stdout), summary (stderr, at the end)
//!      ▲                                     │
//!      └──── again after `retry`, with the last id ◄──┘
//! ```
//! It behaves as an EventSource does by the HTML standard, and shows what an EventSource hides: why a stream ended, the
//! body of an error, the offsets in ids, and the latency of events. It knows only the names of the daemon's control
//! events and the format of its ids.
#![forbid(unsafe_code)]

mod connection;
mod latency;
#[cfg(not(feature = "rustls"))]
mod no_tls;
mod show;
mod summary;
#[cfg(feature = "rustls")]
mod tls;
mod token;

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use clap::Args;
use http::{HeaderName, HeaderValue};
use tokio::time::sleep;

use self::connection::{Given, OpenError, Stream, Target};
#[cfg(not(feature = "rustls"))]
use self::no_tls as tls;
use self::show::{CUT, Style};
use self::summary::Summary;
use self::token::Token;
use crate::cli::common::{Failure, print};
use crate::config::FileName;
use crate::logging::printable;
use crate::signals::{self, Request};
use crate::sse::parse::{Item, Parser};

/// Reconnect time until the server sends another: that of browsers.
const DEFAULT_RETRY: Duration = Duration::from_secs(3);

/// The stream, and how it is shown.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The stream, like http://127.0.0.1:3000/events, or with https; filters and since as in any client.
    url: String,
    /// Continue after the event with this id, instead of the start in the URL.
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true, value_parser = whole_id)]
    id: String,
    /// Send the token in this file, as Authorization: Bearer; without this, that in the variable KAFKA_SSE_BRIDGE_TOKEN.
    #[arg(long, value_name = "FILE")]
    token_file: Option<FileName>,
    /// Send this header too; may be repeated. Other users of this machine can see it.
    #[arg(long, value_name = "NAME: VALUE", value_parser = header)]
    header: Vec<(HeaderName, HeaderValue)>,
    /// Connect to this Unix socket; of the URL, only path and host are used then.
    #[arg(long, value_name = "PATH")]
    unix_socket: Option<PathBuf>,
    /// Connect to this address; of the URL, path and host are used, also to check the certificate.
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "unix_socket")]
    connect: Option<String>,
    /// With https, trust the CAs in this file (PEM) instead of those of the system.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<FileName>,
    /// With https, show this certificate (PEM) to a server that asks for one.
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<FileName>,
    /// The private key of the certificate (PEM, not encrypted).
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<FileName>,
    /// End after this many events, control events included.
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Show ids as the offsets they hold, by partition.
    #[arg(long)]
    ids: bool,
    /// Show the latency of each event, and measure heartbeats too.
    #[arg(long)]
    latency: bool,
    /// Print one JSON object per event and line.
    #[arg(long)]
    json: bool,
}

fn whole_id(text: &str) -> Result<String, String> {
    if text.contains(CUT) {
        return Err(format!(
            "this id is not whole: {CUT} replaces its middle; tail --json shows whole ids"
        ));
    }
    Ok(text.to_owned())
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let form = "a header like 'Name: value' is needed";
    let (name, value) = text.split_once(':').ok_or(form)?;
    let name = name.trim().parse().map_err(|error| format!("{error}; {form}"))?;
    let mut value: HeaderValue = value.trim().parse().map_err(|error| format!("{error}; {form}"))?;
    // It may be a secret, so headers that are printed must not show it.
    value.set_sensitive(true);
    Ok((name, value))
}

/// Follows the stream until the wanted number of events or a signal, then prints a summary.
pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let token = Token::new(options.token_file.clone()).map_err(Failure::Other)?;
    let target = Target::new(Given {
        url: &options.url,
        unix: options.unix_socket.clone(),
        connect: options.connect.as_deref(),
        headers: &options.header,
        token,
        ca_file: options.ca_file.as_ref(),
        cert: options.cert.as_ref(),
        key: options.key.as_ref(),
    })
    .map_err(Failure::Other)?;
    if target.shows_token() {
        note(&format!(
            "the token is sent without TLS to {}: whoever is on the network between can read and use it; write https://, \
             if the server speaks TLS",
            target.place()
        ));
    }
    let mut requests = signals::watch(Request::Shutdown)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let started = Instant::now();
    let mut summary = Summary::new(options.latency);
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = follow(options, &target, &mut summary) => outcome,
            _ = requests.recv() => Ok(()),
        }
    });
    // Without waiting for a thread that resolves a name.
    runtime.shutdown_background();
    if !summary.is_first() {
        note(&summary.text(started.elapsed()));
    }
    outcome
}

enum End {
    /// The wanted number of events has arrived, or the reader of stdout has closed it.
    Enough,
    /// It broke or was closed, for this reason; reconnect.
    Again(String),
}

async fn follow(options: &Options, target: &Target, summary: &mut Summary) -> Result<(), Failure> {
    let mut resume = Resume {
        id: options.id.clone(),
        retry: DEFAULT_RETRY,
    };
    loop {
        let why = match target.open(&resume.id).await {
            Ok(stream) => {
                summary.connected();
                match read(options, stream, &mut resume, summary).await? {
                    End::Enough => return Ok(()),
                    End::Again(why) => why,
                }
            }
            // On the first connection a wrong address is more likely than an outage.
            Err(OpenError::Unreachable(why)) if summary.is_first() => return Err(Failure::Other(why)),
            Err(OpenError::Unreachable(why)) => why,
            Err(OpenError::Refused(why)) => {
                return Err(Failure::Other(format!(
                    "{}; an EventSource gives up here",
                    printable(&why)
                )));
            }
        };
        let id = if resume.id.is_empty() {
            "without an id"
        } else {
            "with the last id"
        };
        note(&format!(
            "{}; connecting again in {:?}, {id}",
            printable(&why),
            resume.retry
        ));
        sleep(resume.retry).await;
    }
}

struct Resume {
    id: String,
    retry: Duration,
}

async fn read(
    options: &Options,
    mut stream: Stream,
    resume: &mut Resume,
    summary: &mut Summary,
) -> Result<End, Failure> {
    let style = Style {
        is_json: options.json,
        shows_positions: options.ids,
        shows_latency: options.latency,
    };
    let mut parser = Parser::resuming(&resume.id);
    let (mut items, mut out) = (Vec::new(), String::new());
    loop {
        let bytes = match stream.next().await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(End::Again("the server ended the stream".to_owned())),
            Err(why) => return Ok(End::Again(format!("the connection broke: {why}"))),
        };
        let now = SystemTime::now();
        summary.received(bytes.len());
        parser
            .feed(&bytes, &mut items)
            .map_err(|error| Failure::Other(error.to_string()))?;
        let mut is_enough = false;
        for item in items.drain(..) {
            match item {
                Item::Comment(_) => summary.comment(),
                Item::Retry(retry) => resume.retry = retry,
                // Events after the last wanted one arrived in the same read.
                Item::Event(_) if is_enough => {}
                Item::Event(event) => {
                    let latency = summary.event(&event, now);
                    style.write(&mut out, &event, latency);
                    is_enough = options.count.is_some_and(|count| summary.events() >= count);
                }
            }
        }
        parser.last_event_id().clone_into(&mut resume.id);
        if !print(&out)? || is_enough {
            return Ok(End::Enough);
        }
        out.clear();
    }
}

/// Writes to stderr, apart from the events.
fn note(text: &str) {
    for line in text.lines() {
        // The command continues without stderr.
        let _ = writeln!(io::stderr(), "kafka-sse-bridge: {line}");
    }
}
