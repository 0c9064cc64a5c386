//! The threads, each with a worker.

use std::fmt;
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
use super::io_uring::IoUring;
use super::new_client::NewClient;
use super::sockets::Sockets;
use super::worker::Worker;
use crate::kafka::pulse::Pulse;

/// The threads' name.
const NAME: &str = "delivery";

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

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Epoll => "epoll",
            Self::IoUring => "io_uring",
        })
    }
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
        let mut this = Self {
            intakes: Vec::new(),
            pulses: Vec::new(),
            threads: Vec::new(),
        };
        let driver = choose(driver)?;
        info!("event streams over HTTP/1.1 are written by {driver}, on {count} threads");
        for _ in 0..count {
            let intake = Arc::new(Intake::new()?);
            let pulse = Arc::new(Pulse::default());
            let (taken, beaten) = (Arc::clone(&intake), Arc::clone(&pulse));
            let epoll = Epoll::new(intake.alarm())?;
            let thread = match driver {
                Driver::Epoll => spawn(move || run(epoll, taken, &beaten))?,
                #[cfg(feature = "io-uring")]
                Driver::IoUring => {
                    let ring = IoUring::new(epoll)?;
                    spawn(move || run(ring, taken, &beaten))?
                }
                #[cfg(not(feature = "io-uring"))]
                Driver::IoUring => return Err(io::ErrorKind::Unsupported.into()),
            };
            this.intakes.push(intake);
            this.pulses.push(pulse);
            this.threads.push(thread);
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

/// The driver to use: the one that is asked for, or the best one.
fn choose(asked: Option<Driver>) -> io::Result<Driver> {
    #[cfg(feature = "io-uring")]
    if asked != Some(Driver::Epoll) {
        return match (IoUring::probe(), asked) {
            (Ok(()), _) => Ok(Driver::IoUring),
            (Err(error), Some(_)) => Err(error),
            (Err(error), None) => {
                info!("delivery by epoll: io_uring cannot be used: {error}");
                Ok(Driver::Epoll)
            }
        };
    }
    #[cfg(not(feature = "io-uring"))]
    if asked == Some(Driver::IoUring) {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "this build has no io_uring (feature io-uring)",
        ));
    }
    Ok(asked.unwrap_or(Driver::Epoll))
}

fn spawn(run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(NAME.to_owned()).spawn(run)
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

        fn send_to_all(&mut self, _: &[&()], _: &[u8], _: &mut Vec<(usize, io::Result<usize>)>) {}

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
