//! A proxy that misbehaves on demand: it cuts a response off at a given place, and answers with an error page.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// The response of a proxy that cannot reach its daemon.
const ERROR_PAGE: &[u8] = b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: 21\r\n\
    Connection: close\r\n\r\n<h1>Bad Gateway</h1>\n";

/// Passes connections on to one port. Its threads end with their connections, which end with either side.
pub struct Proxy {
    port: u16,
    plan: Arc<Mutex<Plan>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Plan {
    PassOn,
    /// The first response that comes to this text ends right after it.
    Cut(Vec<u8>),
    /// The next request for the stream gets the error page.
    Refuse,
}

impl Proxy {
    /// `path` is the stream's.
    pub fn start(target: u16, path: &str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let plan = Arc::new(Mutex::new(Plan::PassOn));
        let request = format!("GET {path}").into_bytes();
        let shared = Arc::clone(&plan);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                // No upstream: the client sees the connection close.
                let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else {
                    continue;
                };
                let (plan, request) = (Arc::clone(&shared), request.clone());
                let ends = (client.try_clone(), server.try_clone());
                let (Ok(to_client), Ok(to_server)) = ends else {
                    continue;
                };
                thread::spawn(move || requests(client, to_server, &plan, &request));
                let plan = Arc::clone(&shared);
                thread::spawn(move || responses(server, to_client, &plan));
            }
        });
        Proxy { port, plan }
    }

    pub fn origin(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// From now on: one response is cut off right after that text, and the next request for the stream is refused.
    pub fn cut_and_refuse(&self, after: &str) {
        *lock(&self.plan) = Plan::Cut(after.into());
    }

    /// Whether both have happened.
    pub fn is_done(&self) -> bool {
        *lock(&self.plan) == Plan::PassOn
    }
}

fn requests(mut client: TcpStream, mut server: TcpStream, plan: &Mutex<Plan>, request: &[u8]) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = client.read(&mut buffer) {
        // A request without a body comes in one piece.
        let is_stream = buffer[..read].starts_with(request);
        if is_stream && lock(plan).clone() == Plan::Refuse {
            *lock(plan) = Plan::PassOn;
            let _ = client.write_all(ERROR_PAGE);
            break;
        }
        if server.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    close(&client, &server);
}

fn responses(mut server: TcpStream, mut client: TcpStream, plan: &Mutex<Plan>) {
    // Either way it has ended.
    let _ = pass_on(&mut server, &mut client, plan);
    close(&client, &server);
}

fn pass_on(server: &mut TcpStream, client: &mut TcpStream, plan: &Mutex<Plan>) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    // The text may come in two pieces.
    let mut before = Vec::new();
    loop {
        let read = server.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        let mut plan = lock(plan);
        if let Plan::Cut(text) = &*plan {
            let old = before.len();
            before.extend_from_slice(&buffer[..read]);
            if let Some(at) = before.windows(text.len()).position(|window| window == text) {
                let end = at + text.len() - old;
                *plan = Plan::Refuse;
                client.write_all(&buffer[..end])?;
                return Ok(());
            }
            before.drain(..before.len().saturating_sub(text.len() - 1));
        }
        drop(plan);
        client.write_all(&buffer[..read])?;
    }
}

fn close(client: &TcpStream, server: &TcpStream) {
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
}

fn lock(plan: &Mutex<Plan>) -> MutexGuard<'_, Plan> {
    plan.lock().unwrap_or_else(PoisonError::into_inner)
}
