//! A process outside the suite: started in a group of its own, guarded, waited for, ended by its id.

use super::scratch;
use super::wait::millis;
use rustix::process::{Pid, kill_process, kill_process_group};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use rustix::process::Signal;

/// Killed, with its whole group, when dropped.
pub struct Process {
    pid: u32,
    state: Mutex<State>,
}

enum State {
    /// Not reaped yet, so its id is still its own.
    Started(Child),
    Ended(ExitStatus),
}

impl Process {
    /// Starts `command` with an empty stdin.
    pub fn spawn(command: &mut Command) -> io::Result<Process> {
        let child = command.stdin(Stdio::null()).process_group(0).spawn()?;
        let pid = child.id();
        scratch::guard(pid);
        Ok(Process {
            pid,
            state: Mutex::new(State::Started(child)),
        })
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Runs `take` on the child, for its piped streams. Nothing to take once it has been waited for.
    pub fn take<T>(&self, take: impl FnOnce(&mut Child) -> Option<T>) -> Option<T> {
        match &mut *self.state() {
            State::Started(child) => take(child),
            State::Ended(_) => None,
        }
    }

    /// Sends a signal; nothing happens if the process has ended.
    pub fn signal(&self, signal: Signal) {
        // The lock keeps the process from being reaped, and its id from being reused, meanwhile.
        if let State::Started(child) = &*self.state() {
            let _ = kill_process(Pid::from_child(child), signal);
        }
    }

    pub fn try_wait(&self) -> Option<ExitStatus> {
        let mut state = self.state();
        if let State::Started(child) = &mut *state {
            let status = child.try_wait().expect("own child can be waited for")?;
            scratch::release(self.pid);
            *state = State::Ended(status);
        }
        match *state {
            State::Ended(status) => Some(status),
            State::Started(_) => None,
        }
    }

    /// The exit status, if the process ends in time.
    pub fn wait(&self, within: Duration) -> Option<ExitStatus> {
        let started = Instant::now();
        loop {
            match self.try_wait() {
                Some(status) => return Some(status),
                None if started.elapsed() >= within => return None,
                None => std::thread::sleep(millis(5)),
            }
        }
    }

    /// SIGKILL to it and its group, then reaps it.
    pub fn kill(&self) {
        if let State::Started(child) = &*self.state() {
            let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
        }
        while self.wait(Duration::from_secs(1)).is_none() {}
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
