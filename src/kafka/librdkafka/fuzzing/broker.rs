//! A broker of one topic, which sends what it is given as records.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::{Buf, BufMut};
use parking_lot::{Condvar, Mutex};

pub(super) const TOPIC: &str = "t";

/// Partitions for cases, one after the other: a case may claim the last offset of its partition.
pub(super) const CASES: i32 = 16;

/// The partition with a record behind each case.
pub(super) const ENDS: i32 = CASES;

/// How long a fetch waits for a case.
const WAIT: Duration = Duration::from_millis(50);

/// Bytes of a batch between its length and its records.
const BATCH_HEAD: usize = 49;

/// Bytes of a batch up to its attributes.
const HEAD: usize = 23;

/// The bits of the attributes that name the compression.
const CODEC: u8 = 7;

/// Requests that are answered, each with its greatest version. Of these versions librdkafka reads batches of format 2.
const APIS: [(i16, i16); 6] = [(0, 3), (1, 4), (2, 1), (3, 4), (10, 0), (18, 3)];

/// The records of one answer.
pub(super) enum Case {
    /// As they are.
    Raw(Vec<u8>),
    /// With the head of a batch that begins at the offset that is asked for.
    Batch {
        count: u8,
        attributes: u8,
        records: Vec<u8>,
    },
}

impl Case {
    /// Whether it has nothing at which librdkafka (2.12) is known to end the process or to loop:
    /// - a message of format 0 or 1, which Kafka 4 no longer sends, shorter than its head (an assertion in `rdbuf.c`)
    /// - compressed records that are nothing when decompressed (the same assertion), or gzip that is cut off before its first
    ///   byte of content (an endless loop in `rdgz.c`). A broker takes no such batch from a producer.
    pub(super) fn is_survived(&self) -> bool {
        let bytes = match self {
            Self::Raw(bytes) => bytes,
            Self::Batch { attributes, .. } => return attributes & CODEC == 0,
        };
        let mut rest = bytes.as_slice();
        while let Some(head) = rest.first_chunk::<HEAD>() {
            let mut fields = &head[8..];
            let (length, _, format) = (fields.get_i32(), fields.get_u32(), fields.get_u8());
            if format < 2 || head[HEAD - 1] & CODEC != 0 {
                return false;
            }
            let length = usize::try_from(length).unwrap_or(0);
            rest = rest.get(length + 12..).unwrap_or_default();
        }
        // Too short for a batch, but perhaps not for a message.
        rest.get(16).is_none_or(|format| *format >= 2)
    }

    fn bytes(self, offset: i64) -> Vec<u8> {
        match self {
            Self::Raw(bytes) => bytes,
            Self::Batch {
                count,
                attributes,
                records,
            } => batch(offset, count, attributes, &records),
        }
    }
}

#[derive(Default)]
struct BrokerState {
    case: Option<Case>,
    /// How many there were.
    count: u64,
    /// The partition of the last one, and the offset that was asked for there last.
    partition: i32,
    offset: i64,
    is_over: bool,
}

/// The broker; it ends when it is dropped.
pub(super) struct Broker {
    address: SocketAddr,
    shared: Arc<(Mutex<BrokerState>, Condvar)>,
}

impl Broker {
    pub(super) fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let shared: Arc<(Mutex<BrokerState>, Condvar)> = Arc::default();
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            while let Ok((socket, _)) = listener.accept() {
                if accepting.0.lock().is_over {
                    break;
                }
                let shared = Arc::clone(&accepting);
                // The client closes its connections at its end.
                thread::spawn(move || {
                    let _ = serve(socket, address, &shared);
                });
            }
        });
        Ok(Self { address, shared })
    }

    pub(super) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Answers the next fetch with this case in this partition; returns the value of the record behind it.
    pub(super) fn send(&self, partition: i32, case: Case) -> [u8; 8] {
        let (state, has_case) = &*self.shared;
        let mut state = state.lock();
        if state.partition != partition {
            (state.partition, state.offset) = (partition, 0);
        }
        state.case = Some(case);
        state.count += 1;
        has_case.notify_all();
        state.count.to_be_bytes()
    }

    /// The next offset of the partition of the last case, as the client asked for it last.
    pub(super) fn offset(&self) -> i64 {
        self.shared.0.lock().offset
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let (state, has_case) = &*self.shared;
        state.lock().is_over = true;
        has_case.notify_all();
        // The thread that accepts sees it.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(
    mut socket: TcpStream,
    address: SocketAddr,
    shared: &(Mutex<BrokerState>, Condvar),
) -> io::Result<()> {
    socket.set_nodelay(true)?;
    loop {
        let mut length = [0; 4];
        socket.read_exact(&mut length)?;
        let mut request = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap_or(0)];
        socket.read_exact(&mut request)?;
        let mut request = request.as_slice();
        let (api, version, correlation) = (request.get_i16(), request.get_i16(), request.get_i32());
        let client = usize::try_from(request.get_i16()).unwrap_or(0);
        request.advance(client);
        let mut answer = Vec::new();
        answer.put_i32(correlation);
        match api {
            1 => fetched(request, &mut answer, shared),
            3 => metadata(address, &mut answer),
            10 => coordinator(address, &mut answer),
            18 => versions(version, &mut answer),
            _ => return Ok(()),
        }
        let length = u32::try_from(answer.len()).unwrap_or(u32::MAX);
        socket.write_all(&[&length.to_be_bytes()[..], &answer].concat())?;
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.put_i16(i16::try_from(text.len()).unwrap_or(0));
    out.put_slice(text.as_bytes());
}

fn versions(version: i16, out: &mut Vec<u8>) {
    let is_flexible = version > 2;
    out.put_i16(0);
    if is_flexible {
        out.put_u8(u8::try_from(APIS.len() + 1).unwrap_or(0));
    } else {
        out.put_i32(i32::try_from(APIS.len()).unwrap_or(0));
    }
    for (api, greatest) in APIS {
        out.put_i16(api);
        out.put_i16(0);
        out.put_i16(greatest);
        if is_flexible {
            out.put_u8(0);
        }
    }
    if version > 0 {
        out.put_i32(0);
    }
    if is_flexible {
        out.put_u8(0);
    }
}

fn metadata(address: SocketAddr, out: &mut Vec<u8>) {
    out.put_i32(0);
    out.put_i32(1);
    put_node(address, out);
    // No rack, no name of the cluster.
    out.put_i16(-1);
    out.put_i16(-1);
    out.put_i32(1);
    out.put_i32(1);
    out.put_i16(0);
    put_text(out, TOPIC);
    out.put_u8(0);
    out.put_i32(ENDS + 1);
    for partition in 0..=ENDS {
        out.put_i16(0);
        out.put_i32(partition);
        // Leader, replicas and those in sync.
        for number in [1, 1, 1, 1, 1] {
            out.put_i32(number);
        }
    }
}

fn put_node(address: SocketAddr, out: &mut Vec<u8>) {
    out.put_i32(1);
    put_text(out, &address.ip().to_string());
    out.put_i32(address.port().into());
}

fn coordinator(address: SocketAddr, out: &mut Vec<u8>) {
    out.put_i16(0);
    put_node(address, out);
}

/// Version 4.
fn fetched(mut request: &[u8], out: &mut Vec<u8>, shared: &(Mutex<BrokerState>, Condvar)) {
    // Replica, time, least and greatest size, isolation.
    request.advance(17);
    let mut asked = Vec::new();
    for _ in 0..request.get_i32() {
        let name = usize::try_from(request.get_i16()).unwrap_or(0);
        request.advance(name);
        for _ in 0..request.get_i32() {
            asked.push((request.get_i32(), request.get_i64()));
            request.advance(4);
        }
    }
    // The library asks in turns, and reads the answer in its order: the case comes before its end.
    asked.sort_unstable();
    let offset = |wanted: i32| {
        asked
            .iter()
            .find(|(partition, _)| *partition == wanted)
            .map(|(_, next)| *next)
    };
    let (mut sent, mut end) = (None, Vec::new());
    if offset(ENDS).is_some() {
        let (state, has_case) = shared;
        let mut state = state.lock();
        if state.case.is_none() && !state.is_over {
            has_case.wait_for(&mut state, WAIT);
        }
        if let Some(next) = offset(state.partition) {
            state.offset = next;
            sent = state.case.take().map(|case| (state.partition, case.bytes(next)));
            // A record with neither key nor headers.
            end = [&[28, 0, 0, 0, 1, 16][..], &state.count.to_be_bytes(), &[0]].concat();
        }
    }
    out.put_i32(0);
    out.put_i32(1);
    put_text(out, TOPIC);
    out.put_i32(i32::try_from(asked.len()).unwrap_or(0));
    for (partition, next) in asked {
        let records = match &sent {
            Some((place, case)) if *place == partition => case.clone(),
            Some(_) if partition == ENDS => batch(next, 1, 0, &end),
            _ => Vec::new(),
        };
        out.put_i32(partition);
        out.put_i16(0);
        // Far behind the records, so that no end is reached.
        out.put_i64(next.saturating_add(1 << 20));
        out.put_i64(next.saturating_add(1 << 20));
        out.put_i32(-1);
        out.put_i32(i32::try_from(records.len()).unwrap_or(0));
        out.put_slice(&records);
    }
}

/// A batch of format 2.
fn batch(offset: i64, count: u8, attributes: u8, records: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_i64(offset);
    out.put_i32(i32::try_from(BATCH_HEAD + records.len()).unwrap_or(0));
    // The leader's epoch, the format, and a checksum that is not looked at.
    out.put_i32(0);
    out.put_u8(2);
    out.put_u32(0);
    out.put_i16(attributes.into());
    out.put_i32(i32::from(count) - 1);
    out.put_i64(1000);
    out.put_i64(2000);
    // No producer.
    out.put_i64(-1);
    out.put_i16(-1);
    out.put_i32(-1);
    out.put_i32(count.into());
    out.put_slice(records);
    out
}
