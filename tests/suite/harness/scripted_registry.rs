//! A schema registry that answers as a test says, for what a real one does only on bad days.

use openssl::pkey::PKey;
use openssl::ssl::{SslAcceptor, SslMethod, SslVerifyMode};
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A request of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The path with its query.
    pub path: String,
    /// The value of `Authorization`.
    pub authorization: Option<String>,
}

/// The response to it.
pub enum Answer {
    /// A status and a body of JSON.
    Json(u16, String),
    /// 302 to a URL.
    Redirect(String),
    /// A schema of this many bytes, whose length is given before it or only found by reading.
    Large { bytes: u64, has_length: bool },
    /// This body of JSON, a byte at a time.
    Dripping(String),
    /// Nothing, for as long as the client waits.
    Silence,
    /// The end of the connection.
    HangUp,
}

impl Answer {
    /// A schema that has no references.
    pub fn schema(text: &str) -> Answer {
        Answer::Json(200, serde_json::json!({ "schema": text }).to_string())
    }

    /// The answer of a registry that does not have this schema.
    pub fn unknown_schema() -> Answer {
        Answer::Json(
            404,
            r#"{"error_code":40403,"message":"Schema 7 not found"}"#.to_owned(),
        )
    }
}

type Script = Box<dyn Fn(&Request) -> Answer + Send + Sync>;

struct State {
    script: Script,
    tls: Option<SslAcceptor>,
    requests: Mutex<Vec<Request>>,
    /// Bytes of bodies that were written.
    written: AtomicU64,
    is_stopped: AtomicBool,
}

/// Stopped when dropped.
pub struct ScriptedRegistry {
    address: SocketAddr,
    state: Arc<State>,
    accepting: Option<JoinHandle<()>>,
}

impl ScriptedRegistry {
    /// On any port.
    pub fn start(script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> ScriptedRegistry {
        ScriptedRegistry::run(0, None, Box::new(script))
    }

    /// On this port, which must be free.
    pub fn at(port: u16, script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> ScriptedRegistry {
        ScriptedRegistry::run(port, None, Box::new(script))
    }

    /// With TLS, by a certificate and its key in PEM; with `client_ca` it requires certificates of that CA.
    pub fn with_tls(
        (certificate, key): &(Vec<u8>, Vec<u8>),
        client_ca: Option<&[u8]>,
        script: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> ScriptedRegistry {
        let mut tls = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).expect("OpenSSL");
        tls.set_certificate(&X509::from_pem(certificate).expect("a certificate"))
            .expect("accepted");
        tls.set_private_key(&PKey::private_key_from_pem(key).expect("a key"))
            .expect("accepted");
        if let Some(ca) = client_ca {
            let mut store = X509StoreBuilder::new().expect("a store");
            store
                .add_cert(X509::from_pem(ca).expect("a certificate"))
                .expect("accepted");
            tls.set_verify_cert_store(store.build()).expect("accepted");
            tls.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
        }
        ScriptedRegistry::run(0, Some(tls.build()), Box::new(script))
    }

    fn run(port: u16, tls: Option<SslAcceptor>, script: Script) -> ScriptedRegistry {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(State {
            script,
            tls,
            requests: Mutex::default(),
            written: AtomicU64::new(0),
            is_stopped: AtomicBool::new(false),
        });
        let shared = Arc::clone(&state);
        let accepting = thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                if shared.is_stopped.load(Ordering::SeqCst) {
                    return;
                }
                let state = Arc::clone(&shared);
                // Ends with its connection, whose client ends in the test.
                thread::spawn(move || serve(connection, &state));
            }
        });
        ScriptedRegistry {
            address,
            state,
            accepting: Some(accepting),
        }
    }

    pub fn url(&self) -> String {
        let scheme = if self.state.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Request> {
        let requests = &self.state.requests;
        requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The paths of all requests so far.
    pub fn paths(&self) -> Vec<String> {
        self.requests().into_iter().map(|request| request.path).collect()
    }

    /// Bytes of bodies that the system took so far.
    pub fn written(&self) -> u64 {
        self.state.written.load(Ordering::SeqCst)
    }
}

impl Drop for ScriptedRegistry {
    fn drop(&mut self) {
        self.state.is_stopped.store(true, Ordering::SeqCst);
        // Ends the wait for the next connection.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

fn serve(connection: TcpStream, state: &State) {
    // A client that vanished without closing ends the thread too.
    let _ = connection.set_read_timeout(Some(Duration::from_secs(60)));
    match &state.tls {
        Some(tls) => {
            if let Ok(connection) = tls.accept(connection) {
                answer(connection, state);
            }
        }
        None => answer(connection, state),
    }
}

fn answer(mut connection: impl Read + Write, state: &State) {
    let Some(request) = read(&mut connection) else {
        return;
    };
    state
        .requests
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(request.clone());
    match (state.script)(&request) {
        Answer::Json(status, body) => {
            let head = format!(
                "HTTP/1.1 {status} Scripted\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = connection.write_all(format!("{head}{body}").as_bytes());
        }
        Answer::Redirect(url) => {
            let head = format!(
                "HTTP/1.1 302 Found\r\nLocation: {url}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
            let _ = connection.write_all(head.as_bytes());
        }
        Answer::Large { bytes, has_length } => {
            let length = if has_length {
                format!("Content-Length: {}\r\n", bytes + 13)
            } else {
                String::new()
            };
            let head = format!("HTTP/1.1 200 OK\r\n{length}Connection: close\r\n\r\n{{\"schema\":\"");
            let _ = connection.write_all(head.as_bytes());
            let piece = vec![b'x'; 64 * 1024];
            let mut left = bytes;
            while left > 0 {
                let size = usize::try_from(left).map_or(piece.len(), |left| left.min(piece.len()));
                if connection.write_all(&piece[..size]).is_err() {
                    return;
                }
                state.written.fetch_add(size as u64, Ordering::SeqCst);
                left -= size as u64;
            }
            let _ = connection.write_all(b"\"}");
        }
        Answer::Dripping(body) => {
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            for piece in [head.as_bytes()].into_iter().chain(body.as_bytes().chunks(1)) {
                if connection
                    .write_all(piece)
                    .and_then(|()| connection.flush())
                    .is_err()
                {
                    return;
                }
                state.written.fetch_add(1, Ordering::SeqCst);
                // How slow it is.
                thread::sleep(Duration::from_millis(5));
            }
        }
        Answer::Silence => {
            // Until the client gives up.
            let _ = connection.read(&mut [0]);
        }
        Answer::HangUp => {}
    }
    let _ = connection.flush();
}

/// A request without a body.
fn read(connection: &mut impl Read) -> Option<Request> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if connection.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?;
    let mut lines = head.lines();
    let path = lines.next()?.strip_prefix("GET ")?.split(' ').next()?.to_owned();
    let authorization = lines.find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("authorization")
            .then(|| value.to_owned())
    });
    Some(Request { path, authorization })
}
