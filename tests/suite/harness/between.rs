//! A proxy between clients and a broker that can remove all brokers from its `Metadata` responses. A broker that its
//! controller has fenced answers like this, for example after it was frozen.

use super::broker::{Broker, Version, free_port};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// The versions of `Metadata` that the `kafka` crate and librdkafka speak, as [`without_brokers`] reads their
/// answers: the first, and those written as KIP-482 says.
const OLD: i16 = 0;
const FLEXIBLE: RangeInclusive<i16> = 9..=13;

/// A broker with a listener that names this go-between as its own address. The plain listener leads past it.
pub struct Between {
    pub broker: Arc<Broker>,
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    names_nobody: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

impl Between {
    pub fn start(version: Version) -> Between {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let target = free_port();
        let lines = format!(
            "listeners=PLAINTEXT://127.0.0.1:{{port}},BETWEEN://127.0.0.1:{target},\
             CONTROLLER://127.0.0.1:{{controller}}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{{port}},BETWEEN://127.0.0.1:{port}\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,BETWEEN:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
             inter.broker.listener.name=PLAINTEXT\n"
        );
        let broker = Arc::new(Broker::start_with(version, &lines));
        let shared = Arc::<Shared>::default();
        let passing = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                // No upstream: the client sees the connection close.
                let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else {
                    continue;
                };
                // Two small requests in a row would wait for each other's receipts.
                let _ = client.set_nodelay(true);
                let _ = server.set_nodelay(true);
                let ends = [client.try_clone(), server.try_clone(), client.try_clone()];
                let [Ok(to_client), Ok(to_server), Ok(kept)] = ends else {
                    continue;
                };
                passing.open().push(kept);
                let asked = Arc::<Mutex<VecDeque<Asked>>>::default();
                let heard = Arc::clone(&asked);
                thread::spawn(move || {
                    // Either way it has ended.
                    let _ = requests(&client, &to_server, &asked);
                    close(&client, &to_server);
                });
                let shared = Arc::clone(&passing);
                thread::spawn(move || {
                    let _ = answers(&server, &to_client, &heard, &shared);
                    close(&server, &to_client);
                });
            }
        });
        Between { broker, port, shared }
    }

    /// `host:port`, for a configuration's `brokers`.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// From now on no response names a broker. All clients must reconnect.
    pub fn name_nobody(&self) {
        self.shared.names_nobody.store(true, Ordering::SeqCst);
        for open in self.shared.open().drain(..) {
            let _ = open.shutdown(Shutdown::Both);
        }
    }

    /// The broker is named again.
    pub fn name_all(&self) {
        self.shared.names_nobody.store(false, Ordering::SeqCst);
    }
}

impl Shared {
    fn open(&self) -> std::sync::MutexGuard<'_, Vec<TcpStream>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The fields of a request that determine the form of its response.
struct Asked {
    key: i16,
    version: i16,
}

fn requests(client: &TcpStream, server: &TcpStream, asked: &Mutex<VecDeque<Asked>>) -> io::Result<()> {
    loop {
        let frame = frame(client)?;
        let mut header = &frame[4..];
        let what = Asked {
            key: header.try_get_i16()?,
            version: header.try_get_i16()?,
        };
        asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back(what);
        (&*server).write_all(&frame)?;
    }
}

fn answers(
    server: &TcpStream,
    client: &TcpStream,
    asked: &Mutex<VecDeque<Asked>>,
    shared: &Shared,
) -> io::Result<()> {
    loop {
        let frame = frame(server)?;
        // Brokers answer in the order they were asked in.
        let asked = asked.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let version = asked.and_then(|asked| (asked.key == ApiKey::Metadata as i16).then_some(asked.version));
        match version {
            Some(version) if shared.names_nobody.load(Ordering::SeqCst) => {
                (&*client).write_all(&without_brokers(frame, version)?)?;
            }
            _ => (&*client).write_all(&frame)?,
        }
    }
}

/// A request or an answer, with its length before it.
fn frame(mut from: &TcpStream) -> io::Result<Bytes> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let mut frame = BytesMut::from(&length[..]);
    frame.resize(4 + u32::from_be_bytes(length) as usize, 0);
    from.read_exact(&mut frame[4..])?;
    Ok(frame.freeze())
}

/// The same answer, with an empty list of brokers.
fn without_brokers(frame: Bytes, version: i16) -> io::Result<BytesMut> {
    let mut rest = frame;
    rest.advance(4);
    let mut answer = BytesMut::new();
    answer.put_u32(0);
    if version == OLD {
        // The correlation id.
        answer.put(rest.split_to(4));
        for _ in 0..rest.try_get_u32()? {
            rest.advance(4);
            let host = rest.try_get_u16()?;
            rest.advance(usize::from(host) + 4);
        }
        answer.put_u32(0);
    } else {
        assert!(
            FLEXIBLE.contains(&version),
            "Metadata {version} is read by nobody"
        );
        // The correlation id, no tagged fields, and for how long the client is throttled.
        answer.put(rest.split_to(4 + 1 + 4));
        for _ in 0..length(&mut rest)? {
            rest.advance(4);
            let host = length(&mut rest)?;
            rest.advance(host + 4);
            let rack = length(&mut rest)?;
            rest.advance(rack);
            let tags = length(&mut rest)?;
            assert_eq!(tags, 0, "brokers have no tagged fields");
        }
        // The length of a compact array is one more.
        answer.put_u8(1);
    }
    answer.put(rest);
    let length = u32::try_from(answer.len() - 4).expect("an answer's length");
    answer[..4].copy_from_slice(&length.to_be_bytes());
    Ok(answer)
}

/// A compact length, which is written as one more; 0 is null.
fn length(rest: &mut Bytes) -> io::Result<usize> {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = rest.try_get_u8()?;
        value |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    Ok(value.saturating_sub(1))
}

fn close(one: &TcpStream, other: &TcpStream) {
    let _ = one.shutdown(Shutdown::Both);
    let _ = other.shutdown(Shutdown::Both);
}
