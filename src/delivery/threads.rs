//! The threads, each with a worker.

use std::io;
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use log::{error, info};

use super::epoll::Epoll;
use super::intake::Intake;
#[cfg(feature = "io-uring")]
use super::io_uring::{IoUring, try_out};
use super::new_client::NewClient;
use super::sockets::Sockets;
use super::worker::Worker;
use crate::kafka::pulse::Pulse;

/// The threads' name.
const NAME: &str = "delivery";

/// What they write, in log lines.
const STREAMS: &str = "event streams over HTTP/1.1";

/// How long a thread waits at most, so that the watchdog sees that it returns.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// How bytes are handed to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// A system call per write.
    Epoll,
    /// Many writes per system call.
    IoUring,
}

/// The threads that write event streams.
#[derive(Debug)]
pub struct Delivery {
    intakes: Vec<Arc<Intake<OwnedFd>>>,
    pulses: Vec<Arc<Pulse>>,
    threads: Vec<JoinHandle<()>>,
}

impl Delivery {
    /// Starts `count` threads; as many as there are processors, if that is 0. Without a `driver` it is the best that
    /// the kernel allows.
    ///
    /// # Errors
    /// When the operating system refuses a thread or a descriptor, or the driver that was asked for.
    pub fn start(driver: Option<Driver>, count: usize) -> io::Result<Self> {
        let count = match count {
            0 => thread::available_parallelism().map_or(1, NonZero::get),
            count => count,
        };
        let intakes: Vec<_> = (0..count)
            .map(|_| Ok(Arc::new(Intake::new()?)))
            .collect::<io::Result<_>>()?;
        if driver == Some(Driver::Epoll) {
            info!("{STREAMS} are written by epoll, on {count} threads");
        } else {
            match rings(&intakes) {
                Ok(rings) => {
                    info!("{STREAMS} are written by io_uring, on {count} threads");
                    return Self::spawn(intakes, rings);
                }
                Err(error) if driver.is_some() => return Err(error),
                Err(error) => {
                    info!(
                        "{STREAMS} are written by epoll, on {count} threads: io_uring cannot be used: {error}"
                    );
                }
            }
        }
        let epolls = epolls(&intakes).collect::<io::Result<_>>()?;
        Self::spawn(intakes, epolls)
    }

    /// A thread for each intake.
    fn spawn<S>(intakes: Vec<Arc<Intake<OwnedFd>>>, sockets: Vec<S>) -> io::Result<Self>
    where
        S: Sockets<Socket = OwnedFd> + Send + 'static,
    {
        let mut this = Self {
            pulses: intakes.iter().map(|_| Arc::default()).collect(),
            intakes,
            threads: Vec::new(),
        };
        for ((intake, pulse), sockets) in this.intakes.iter().zip(&this.pulses).zip(sockets) {
            let (intake, pulse) = (Arc::clone(intake), Arc::clone(pulse));
            let thread = thread::Builder::new().name(NAME.to_owned());
            this.threads
                .push(thread.spawn(move || run(sockets, intake, &pulse))?);
        }
        Ok(this)
    }

    /// Hands a client to the thread that has the fewest. It is closed where all threads have ended.
    pub fn enter(&self, mut client: NewClient<OwnedFd>) {
        let mut intakes: Vec<_> = self.intakes.iter().collect();
        intakes.sort_by_key(|intake| intake.clients());
        for intake in intakes {
            match intake.enter(client) {
                Ok(()) => return,
                // A thread that cannot wait for its sockets has ended.
                Err(back) => client = back,
            }
        }
        client.close();
    }

    /// The pulses of the threads.
    pub fn pulses(&self) -> &[Arc<Pulse>] {
        &self.pulses
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        for intake in &self.intakes {
            intake.stop();
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                error!("a delivery thread panicked");
            }
        }
    }
}

/// What waits for the sockets of each thread.
fn epolls(intakes: &[Arc<Intake<OwnedFd>>]) -> impl Iterator<Item = io::Result<Epoll>> {
    intakes.iter().map(|intake| Epoll::new(intake.alarm()))
}

/// A ring for each thread, or why there are none.
#[cfg(feature = "io-uring")]
fn rings(intakes: &[Arc<Intake<OwnedFd>>]) -> io::Result<Vec<IoUring>> {
    try_out()?;
    epolls(intakes).map(|epoll| IoUring::new(epoll?)).collect()
}

#[cfg(not(feature = "io-uring"))]
fn rings(_: &[Arc<Intake<OwnedFd>>]) -> io::Result<Vec<Epoll>> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "this build has none (feature io-uring)",
    ))
}

/// Runs a worker until it is stopped. One that cannot wait for its sockets ends too, and its pulse stays due: others take
/// its clients, and the watchdog has the daemon started again.
fn run<S: Sockets>(sockets: S, intake: Arc<Intake<S::Socket>>, pulse: &Pulse) {
    let mut worker = Worker::new(sockets, intake, Instant::now());
    loop {
        pulse.beat(Duration::ZERO);
        let Ok(timeout) = worker.turn(Instant::now()) else {
            pulse.rest();
            break;
        };
        let timeout = timeout.map_or(LONGEST_WAIT, |timeout| timeout.min(LONGEST_WAIT));
        pulse.beat(timeout);
        if let Err(error) = worker.wait(Some(timeout)) {
            error!("a delivery thread cannot wait for its sockets: {error}");
            break;
        }
    }
    worker.close_all();
}

#[cfg(test)]
mod tests {
    use super::super::sockets::{Event, Token};
    use super::*;

    /// The operating system refuses to wait.
    struct Broken;

    impl Sockets for Broken {
        type Socket = ();

        fn now(&self) -> Instant {
            Instant::now()
        }

        fn register(&mut self, (): &(), _: Token) -> io::Result<()> {
            Ok(())
        }

        fn wait(&mut self, _: Option<Duration>, _: &mut Vec<Event>) -> io::Result<()> {
            Err(io::ErrorKind::PermissionDenied.into())
        }

        fn send(&mut self, (): &(), _: &[&[u8]]) -> io::Result<usize> {
            Ok(0)
        }

        fn send_to_all(&mut self, _: &[(u32, &())], _: &[u8], _: &mut Vec<(usize, io::Result<usize>)>) {}

        fn receive(&mut self, (): &(), _: &mut [u8]) -> io::Result<usize> {
            Ok(0)
        }

        fn shut_down(&mut self, (): &()) {}

        fn abort(&mut self, (): &()) {}

        fn error_of(&mut self, (): &()) -> Option<io::Error> {
            None
        }
    }

    #[test]
    fn a_thread_that_cannot_wait_ends_and_is_late_for_ever() {
        let intake = Arc::new(Intake::new().expect("an eventfd"));
        let pulse = Pulse::default();
        run(Broken, Arc::clone(&intake), &pulse);
        let began = Instant::now();
        while pulse.overdue().is_none() {
            assert!(began.elapsed() < 10 * LONGEST_WAIT, "it rests");
            thread::yield_now();
        }
        let stopped = Pulse::default();
        intake.stop();
        run(Broken, intake, &stopped);
        assert_eq!(stopped.overdue(), None);
    }
}
