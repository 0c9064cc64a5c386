//! The bytes that the kernel holds for clients: written to their sockets, and not acknowledged by them.
//!
//! Read from the kernel's table of TCP sockets on request. Nothing is counted per client or delivery, and all sockets are
//! included: those of every driver, within TLS and HTTP/2, and those that are closed and still have bytes to send. Asking
//! each socket (`TCP_INFO`, `SIOCOUTQ`) takes a list of all of them and code that is unsafe, for no crate has a safe
//! function for it; asking by netlink takes an address family that the shipped unit forbids. The table has no Unix sockets.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The tables of IPv4 and IPv6, which the shipped unit (`ProcSubset=pid`) leaves visible.
const TABLES: [&str; 2] = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];

/// How long a result is used at least, whoever asks.
const SHORTEST_USE: Duration = Duration::from_secs(1);

/// It is also used for this many times as long as it took to read: a row takes some 2 µs, and the tables have the
/// sockets of all programs. So reading takes at most a fiftieth of one processor.
const USE_PER_READ: u32 = 50;

/// What the kernel holds for clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Held {
    pub(crate) bytes: u64,
    /// Connections with such bytes.
    pub(crate) connections: u64,
}

/// The send queues of the connections to all ports that are served.
#[derive(Debug, Default)]
pub(crate) struct SendQueues {
    /// A port that two listeners have is there twice. Locked for a change or a copy.
    ports: Mutex<Vec<u16>>,
    /// The last result, and until when it is used. Locked while the tables are read: others wait for the same result.
    last: Mutex<Option<(Held, Instant)>>,
}

impl SendQueues {
    /// Includes the connections to a port, until the result is dropped.
    pub(super) fn serve(self: &Arc<Self>, port: u16) -> ServedPort {
        self.ports.lock().push(port);
        ServedPort {
            queues: Arc::clone(self),
            port,
        }
    }

    /// The sum now, or some time ago. Blocks while the tables are read.
    ///
    /// # Errors
    /// When a table cannot be read.
    pub(super) fn held(&self) -> io::Result<Held> {
        let mut last = self.last.lock();
        let begun = Instant::now();
        if let Some((held, until)) = *last
            && begun < until
        {
            return Ok(held);
        }
        let ports = self.ports.lock().clone();
        let held = read(&ports)?;
        let now = Instant::now();
        let used_for = ((now - begun) * USE_PER_READ).max(SHORTEST_USE);
        *last = Some((held, now + used_for));
        Ok(held)
    }
}

/// A port that is served.
#[derive(Debug)]
pub(super) struct ServedPort {
    queues: Arc<SendQueues>,
    port: u16,
}

impl Drop for ServedPort {
    fn drop(&mut self) {
        let mut ports = self.queues.ports.lock();
        if let Some(index) = ports.iter().position(|port| *port == self.port) {
            ports.swap_remove(index);
        }
    }
}

/// The sum over all connections whose local end has one of these ports.
///
/// # Errors
/// When a table cannot be read.
pub(crate) fn read(ports: &[u16]) -> io::Result<Held> {
    let mut held = Held::default();
    for table in TABLES {
        match File::open(table) {
            Ok(file) => add(BufReader::new(file), ports, &mut held)?,
            // IPv6 may be switched off.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(held)
}

fn add(mut table: impl BufRead, ports: &[u16], held: &mut Held) -> io::Result<()> {
    let mut line = String::new();
    while table.read_line(&mut line)? > 0 {
        if let Some((port, bytes)) = row(&line)
            && bytes > 0
            && ports.contains(&port)
        {
            held.bytes += bytes;
            held.connections += 1;
        }
        line.clear();
    }
    Ok(())
}

/// The local port and the send queue of a row of the table (proc_pid_net(5)); `None` for its heading.
fn row(line: &str) -> Option<(u16, u64)> {
    let mut columns = line.split_ascii_whitespace();
    // sl, local_address, rem_address, st, tx_queue:rx_queue
    let (_, port) = columns.nth(1)?.rsplit_once(':')?;
    let (bytes, _) = columns.nth(2)?.split_once(':')?;
    Some((
        u16::from_str_radix(port, 16).ok()?,
        u64::from_str_radix(bytes, 16).ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000003 00:00000000 00000000  1000        0 2 1 0000000000000000 100 0 0 10 0
   1: 0100007F:1F90 0100007F:C001 01 00010400:00000000 01:00000014 00000000  1000        0 3 1 0000000000000000 20 4 0 10 -1
   2: 0100007F:C001 0100007F:1F90 01 00000007:00020000 00:00000000 00000000  1000        0 4 1 0000000000000000 20 4 0 10 -1
   3: 0100007F:1F90 0100007F:C002 04 00000100:00000000 01:00000014 00000000     0        0 0 1 0000000000000000 20 4 0 10 -1
   4: 0100007F:1F91 0100007F:C003 01 00000020:00000000 01:00000014 00000000  1000        0 5 1 0000000000000000 20 4 0 10 -1
";
    const TABLE_6: &str = "   0: 0000000000000000FFFF00000100007F:1F90 0000000000000000FFFF00000100007F:C004 01 00000001:00000000 01:00000014 00000000  1000        0 6 1 0000000000000000 20 4 0 10 -1
";

    #[test]
    fn the_send_queues_of_served_ports_are_added_up() {
        let mut held = Held::default();
        for table in [TABLE, TABLE_6] {
            add(table.as_bytes(), &[8080, 8082], &mut held).expect("text");
        }
        let expected = Held {
            bytes: 0x10400 + 0x100 + 1,
            connections: 3,
        };
        assert_eq!(held, expected);
    }

    #[test]
    fn what_a_client_has_not_acknowledged_is_held_until_it_does() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let mut theirs = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        let (mut ours, _) = listener.accept().expect("a connection");
        ours.set_nonblocking(true).expect("a socket");
        let queues = Arc::new(SendQueues::default());
        let served = queues.serve(port);
        let begun = Instant::now();
        assert_eq!(queues.held().expect("a table"), Held::default());
        let last = queues.last.lock().expect("a result");
        assert!(last.1 >= begun + SHORTEST_USE, "it is used for a second");
        let mut written = 0;
        while let Ok(count) = ours.write(&[b'x'; 4096]) {
            written += count;
        }
        let held = read(&[port]).expect("a table");
        assert_eq!(held.connections, 1);
        assert!(
            (1..=written as u64).contains(&held.bytes),
            "{held:?} of {written}"
        );
        theirs.read_exact(&mut vec![0; written]).expect("all of it");
        let patience = Instant::now() + Duration::from_secs(10);
        while read(&[port]).expect("a table") != Held::default() {
            assert!(Instant::now() < patience, "all of it was read");
            std::thread::yield_now();
        }
        drop(served);
        assert!(queues.ports.lock().is_empty());
    }
}
