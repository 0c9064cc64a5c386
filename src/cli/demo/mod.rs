//! `kafka-sse-bridge demo`: live tables in a browser, with nothing else installed.
//!
//! ```text
//! countries.csv ──► topic countries ──► top three per continent ──► Top3CountrySizePerContinent ──► the ordinary daemon
//! simulated fleet ──► topic vehicles ────────────────────────────────────────────────────────────────────┘
//! ```
//! [`broker`] is a Kafka within this process (librdkafka's mock cluster, real protocol over a
//! loopback port), [`countries`] and [`vehicles`] (of a [`fleet`]) produce, [`topn`] consumes, computes and produces. The
//! daemon is the same as that of `run`, on a configuration of its own.
#![forbid(unsafe_code)]

mod broker;
mod countries;
mod fleet;
mod topn;
mod vehicles;

use std::borrow::Cow;
use std::io::{self, IsTerminal};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;
use log::info;

use crate::cli::common::{Failure, LEVELS, say};
use crate::cli::run::serve;
use crate::config::{Document, Endpoint, Flags, LogSettings, Settings};
use crate::daemon::{self, Bound, Environment, Sources};
use crate::http::listener::BindError;
use crate::logging;
use crate::signals::Request;

const CONFIG: Document = Document::BuiltIn {
    name: "demo.toml (built in)",
    text: Cow::Borrowed(include_str!("demo.toml")),
};

/// The address to serve when the default one is in use.
const ANY_PORT: &str = "127.0.0.1:0";

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Serve at this port of 127.0.0.1; 0 takes any that is free [default: 3000, or a free one].
    #[arg(short, long)]
    port: Option<u16>,
    /// Countries per second.
    #[arg(short, long, default_value_t = 10.0, value_parser = rate)]
    rate: f64,
    /// Vehicles in the fleet.
    #[arg(long, value_name = "COUNT", default_value_t = 300, value_parser = clap::value_parser!(u16).range(1..=5000))]
    vehicles: u16,
    /// Records of vehicles per second.
    #[arg(long, value_name = "RATE", default_value_t = 100.0, value_parser = vehicle_rate)]
    vehicle_rate: f64,
    /// Do not open a browser.
    #[arg(long)]
    no_browser: bool,
    /// Log at this level.
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = LEVELS)]
    log_level: String,
}

fn rate(text: &str) -> Result<f64, String> {
    rate_up_to(text, 1000.0)
}

fn vehicle_rate(text: &str) -> Result<f64, String> {
    rate_up_to(text, 10_000.0)
}

fn rate_up_to(text: &str, most: f64) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.01..=most).contains(&rate) => Ok(rate),
        _ => Err(format!("a number from 0.01 to {most} is needed")),
    }
}

/// Runs the demo until a signal ends it.
pub(super) fn run(options: &Options) -> Result<(), Failure> {
    logging::apply(&LogSettings::default())?;
    let broker = broker::Broker::start().map_err(failed("the embedded broker"))?;
    let sources = Sources {
        document: CONFIG,
        // Variables for a daemon on this machine do not apply to the demo.
        environment: Environment::PortOnly,
        flags: Flags {
            listen: options
                .port
                .map(|port| format!("127.0.0.1:{port}"))
                .into_iter()
                .collect(),
            brokers: broker.addresses(),
            log_level: Some(options.log_level.clone()),
            assets: None,
        },
    };
    let settings = sources.load()?.settings;
    logging::apply(&settings.log)?;
    let listeners = bind(&settings, options.port)?;

    let stop = Arc::new(AtomicBool::new(false));
    let countries =
        countries::produce(&broker, options.rate, Arc::clone(&stop)).map_err(failed("countries"))?;
    let topn = topn::compute(&broker, Arc::clone(&stop)).map_err(failed("the top three"))?;
    let vehicles = vehicles::produce(
        &broker,
        options.vehicles.into(),
        options.vehicle_rate,
        Arc::clone(&stop),
    )
    .map_err(failed("the vehicles"))?;

    if let Some(url) = listeners
        .first()
        .map(|bound| bound.listener.url(bound.endpoint.scheme))
    {
        // A browser cannot open the unspecified address.
        let url = url
            .replace("//[::]:", "//localhost:")
            .replace("//0.0.0.0:", "//localhost:");
        announce(&url)?;
        if !options.no_browser {
            open_browser(&url);
        }
    }
    let outcome = serve(settings, sources, listeners, None, Request::Shutdown);
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    for thread in [countries, topn, vehicles] {
        // A panic has ended the process already.
        let _ = thread.join();
    }
    outcome
}

fn failed(what: &'static str) -> impl Fn(Box<dyn std::error::Error>) -> Failure {
    move |error| Failure::Other(format!("demo: {what}: {error}"))
}

/// Binds the address, or another port where the default one is in use.
fn bind(settings: &Settings, port: Option<u16>) -> Result<Vec<Bound>, Failure> {
    let http = &settings.http;
    let with_remedy = |error: BindError, remedy: &'static str| {
        if error.is_taken() {
            error.with_remedy(remedy)
        } else {
            error
        }
    };
    match daemon::bind(&http.endpoints(), http, &[]) {
        Err(error) if port.is_none() && std::env::var_os("PORT").is_none() => {
            let error = with_remedy(error, "another program serves it, so a free port is taken");
            info!("{error}");
            Ok(daemon::bind(&[Endpoint::http(ANY_PORT)], http, &[])?)
        }
        outcome => {
            let remedy = "another program serves it: stop that, or choose another with --port";
            Ok(outcome.map_err(|error| with_remedy(error, remedy))?)
        }
    }
}

fn announce(url: &str) -> Result<(), Failure> {
    say(&format!(
        "\n  The demo is at  {url}/\n  Its events:     curl -N {url}/topn/updates\n                  curl -N {url}/vehicles\n  Ctrl-C ends it.\n\n"
    ))
}

/// Opens a browser in a graphical session.
fn open_browser(url: &str) {
    let has_screen = ["DISPLAY", "WAYLAND_DISPLAY"]
        .iter()
        .any(|name| std::env::var_os(name).is_some());
    if io::stdout().is_terminal() && has_screen {
        let opened = Command::new("xdg-open")
            .arg(url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        if let Err(error) = opened {
            info!("no browser was opened: xdg-open: {error}");
        }
    }
}
