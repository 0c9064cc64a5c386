//! Handshakes of TLS 1.3, each with a request and the end of the connection: processor time, beside nginx with the same
//! certificate, if it is installed.

use crate::Options;
use crate::bridge::Launch;
use crate::harness::broker::{Broker, free_port};
use crate::harness::certificates::Certificates;
use crate::harness::gateway::{Link, connect_tls, trusting};
use crate::harness::process::Process;
use crate::harness::scratch;
use crate::measure::{Meter, median, median_ratio};
use crate::report::{Table, figure};
use rustls::HandshakeKind;
use rustls::client::Resumption;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;

/// Connections that are opened at the same time.
const AT_ONCE: usize = 8;

/// How long a server may take to listen.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server under test.
struct Server {
    pid: u32,
    port: u16,
    fresh: Side,
    resumed: Side,
}

/// Per round: connections per second, and µs of the server's processor time per connection.
#[derive(Default)]
struct Side {
    rate: Vec<f64>,
    cpu: Vec<f64>,
}

impl Server {
    fn new(pid: u32, port: u16) -> Server {
        Server {
            pid,
            port,
            fresh: Side::default(),
            resumed: Side::default(),
        }
    }

    fn round(&mut self, runtime: &Runtime, ca: &[u8], count: usize) {
        for (kind, side) in [
            (HandshakeKind::Full, &mut self.fresh),
            (HandshakeKind::Resumed, &mut self.resumed),
        ] {
            let config = client(ca, kind);
            // The first ones get the tickets that the others resume with.
            runtime.block_on(connect(self.port, &config, AT_ONCE));
            let meter = Meter::start(self.pid);
            let began = Instant::now();
            let kinds = runtime.block_on(connect(self.port, &config, count));
            side.rate.push(count as f64 / began.elapsed().as_secs_f64());
            side.cpu.push(meter.used().as_nanos() as f64 / 1e3 / count as f64);
            assert!(
                kinds.iter().all(|found| *found == kind),
                "all handshakes are {kind:?}"
            );
        }
    }
}

fn client(ca: &[u8], kind: HandshakeKind) -> Arc<rustls::ClientConfig> {
    let mut config = Arc::unwrap_or_clone(trusting(ca, &[b"http/1.1"]));
    if kind == HandshakeKind::Full {
        config.resumption = Resumption::disabled();
    }
    Arc::new(config)
}

/// Opens `count` connections, some at once, and asks for health on each.
async fn connect(port: u16, config: &Arc<rustls::ClientConfig>, count: usize) -> Vec<HandshakeKind> {
    let workers = (0..AT_ONCE).map(|_| {
        let config = Arc::clone(config);
        tokio::spawn(async move {
            let mut kinds = Vec::new();
            for _ in 0..count / AT_ONCE {
                kinds.push(ask(port, &config).await);
            }
            kinds
        })
    });
    let mut kinds = Vec::new();
    for worker in workers.collect::<Vec<_>>() {
        kinds.extend(worker.await.expect("no connection fails"));
    }
    kinds
}

async fn ask(port: u16, config: &Arc<rustls::ClientConfig>) -> HandshakeKind {
    let mut link = connect_tls(port, Arc::clone(config)).await.expect("a handshake");
    let request = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    link.write_all(request).await.expect("sent");
    let mut answer = Vec::new();
    link.read_to_end(&mut answer)
        .await
        .expect("an answer and its end");
    assert!(
        answer.starts_with(b"HTTP/1.1 200"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    let Link::Tls(link) = link else {
        panic!("it has TLS")
    };
    link.get_ref().1.handshake_kind().expect("it is complete")
}

/// nginx in one process, which answers everything.
struct Nginx {
    process: Process,
    port: u16,
    _directory: TempDir,
}

impl Nginx {
    /// None if it is not installed.
    fn start(certificates: &Certificates) -> Option<Nginx> {
        const PROGRAM: &str = "/usr/sbin/nginx";
        if !Path::new(PROGRAM).exists() {
            return None;
        }
        let directory = scratch::directory("nginx");
        let port = free_port();
        let base = directory.path().display();
        let config = format!(
            "daemon off;\nmaster_process off;\npid {base}/pid;\nerror_log {base}/error;\n\
             events {{ worker_connections 1024; }}\n\
             http {{\n access_log off;\n client_body_temp_path {base}/body;\n proxy_temp_path {base}/proxy;\n \
             fastcgi_temp_path {base}/fastcgi;\n uwsgi_temp_path {base}/uwsgi;\n scgi_temp_path {base}/scgi;\n \
             server {{\n  listen 127.0.0.1:{port} ssl;\n  ssl_protocols TLSv1.3;\n  ssl_session_cache shared:s:10m;\n  \
             ssl_certificate {};\n  ssl_certificate_key {};\n  location / {{ return 200 'ok'; }}\n }}\n}}\n",
            certificates.path("server.pem"),
            certificates.path("server.key")
        );
        let file = directory.path().join("nginx.conf");
        std::fs::write(&file, config).expect("nginx.conf");
        let mut command = Command::new(PROGRAM);
        command
            .arg("-c")
            .arg(&file)
            .args(["-e", "stderr"])
            .stdout(Stdio::null());
        let process = Process::spawn(&mut command).expect("nginx starts");
        Some(Nginx {
            process,
            port,
            _directory: directory,
        })
    }
}

fn wait_for_port(port: u16) {
    let began = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(began.elapsed() < PATIENCE, "port {port} does not listen");
        thread::sleep(Duration::from_millis(10));
    }
}

pub fn run(broker: &Broker, options: &Options) {
    let count = options.pick(4000, 800);
    let rounds = options.pick(7, 2);
    let certificates = Certificates::new();
    let tls = free_port();
    let section = certificates
        .section("")
        .replace("127.0.0.1:0", &format!("127.0.0.1:{tls}"));
    let topic = crate::harness::broker::topic_name("handshakes");
    broker.create_topic(&topic, 1, &[]);
    let launch = Launch {
        settings: &section,
        ..Launch::new(&topic, "live")
    };
    let bridge = launch.start(broker);
    let nginx = Nginx::start(&certificates);
    let mut ours = Server::new(bridge.pid(), tls);
    let mut theirs = nginx
        .as_ref()
        .map(|nginx| Server::new(nginx.process.pid(), nginx.port));
    let runtime = Runtime::new().expect("a runtime");
    for round in 0..=rounds {
        for server in std::iter::once(&mut ours).chain(theirs.as_mut()) {
            if round == 0 {
                wait_for_port(server.port);
            }
            server.round(&runtime, &certificates.ca(), count);
            if round == 0 {
                // Warms everything up, and does not count.
                (server.fresh, server.resumed) = (Side::default(), Side::default());
            }
        }
    }
    let mut table = Table::new(&["", "bridge", "nginx", "ratio"]);
    for (name, of) in [
        ("fresh", (|server| &server.fresh) as fn(&Server) -> &Side),
        ("resumed", |server| &server.resumed),
    ] {
        let mut row = |what: &str, of: &dyn Fn(&Server) -> &Vec<f64>| {
            let (nginx, ratio) = theirs.as_ref().map_or_else(
                || ("not installed".to_owned(), String::new()),
                |theirs| {
                    (
                        figure(median(of(theirs))),
                        figure(median_ratio(of(&ours), of(theirs))),
                    )
                },
            );
            table.row(&[format!("{name}: {what}"), figure(median(of(&ours))), nginx, ratio]);
        };
        row("connections/s", &|server| &of(server).rate);
        row("processor µs per connection", &|server| &of(server).cpu);
    }
    table.print(&format!(
        "handshakes: TLS 1.3, a request and an end each, {AT_ONCE} at once, {rounds} rounds of {count}"
    ));
}
