//! A proxy that cuts connections where the request says: one with `cb=N` ends after N bytes of the body of its first response,
//! and where N is odd, the next request for the same gets an error page. `cb` is a parameter that the daemon passes over.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

const ERROR_PAGE: &[u8] = b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: 21\r\n\
    Access-Control-Allow-Origin: *\r\nConnection: close\r\n\r\n<h1>Bad Gateway</h1>\n";

/// How many requests there were for each path and cut.
type Requests = Arc<Mutex<HashMap<(String, usize), usize>>>;

/// Starts one that passes on to `target`; returns its origin. Its threads end with their connections, which end with either
/// side.
pub(super) fn start(target: u16) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let requests = Requests::default();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let requests = Arc::clone(&requests);
            // An end of either side, at whatever point, is what this proxy is for.
            thread::spawn(move || drop(pass(client, target, &requests)));
        }
    });
    format!("http://127.0.0.1:{port}")
}

fn pass(mut client: TcpStream, target: u16, requests: &Requests) -> io::Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", target))?;
    let limit = Arc::new(Mutex::new(None));
    let (shared, to_client, from_server) = (Arc::clone(&limit), client.try_clone()?, server.try_clone()?);
    thread::spawn(move || {
        let _ = responses(&from_server, &to_client, &shared);
        close(&to_client, &from_server);
    });
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = client.read(&mut buffer) {
        // A request without a body comes in one piece.
        if let Some((path, cut)) = cut_of(&buffer[..read]) {
            let mut requests = lock(requests);
            let count = requests.entry((path, cut)).or_default();
            *count += 1;
            match *count {
                1 => *lock(&limit) = Some(cut),
                2 if cut % 2 == 1 => {
                    client.write_all(ERROR_PAGE)?;
                    break;
                }
                _ => {}
            }
        }
        server.write_all(&buffer[..read])?;
    }
    close(&client, &server);
    Ok(())
}

/// The path and N of a request for it with `cb=N`. A preflight is none: what is cut is a stream.
fn cut_of(request: &[u8]) -> Option<(String, usize)> {
    let line = request.split(|byte| *byte == b'\r').next()?;
    let line = std::str::from_utf8(line).ok()?.strip_prefix("GET ")?;
    let (path, value) = line.split_once("?cb=")?;
    let bytes = value.split([' ', '&']).next()?.parse().ok()?;
    Some((path.to_owned(), bytes))
}

fn responses(mut server: &TcpStream, mut client: &TcpStream, limit: &Mutex<Option<usize>>) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    // Bytes since the head began, while one is cut.
    let mut since_head = Vec::new();
    loop {
        let read = server.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        let Some(limit) = *lock(limit) else {
            client.write_all(&buffer[..read])?;
            continue;
        };
        let before = since_head.len();
        since_head.extend_from_slice(&buffer[..read]);
        let head = since_head.windows(4).position(|window| window == b"\r\n\r\n");
        let end = head.map_or(usize::MAX, |head| head + 4 + limit);
        if end <= since_head.len() {
            return client.write_all(&since_head[before.min(end)..end]);
        }
        client.write_all(&buffer[..read])?;
    }
}

fn close(client: &TcpStream, server: &TcpStream) {
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
