//! Threads that hang, in a process that has no part in it: stopped one by one, as a debugger does.

use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use std::fs;
use std::marker::PhantomData;

/// Stopped threads of a child, which continue when this is dropped, on the thread that stopped them.
pub struct Hung {
    threads: Vec<Pid>,
    /// Only that thread may resume them (ptrace(2)).
    _here: PhantomData<*const ()>,
}

impl Hung {
    /// Stops all threads of a process that have this name, at least one.
    #[track_caller]
    pub fn threads(pid: u32, name: &str) -> Hung {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
        let mut threads = Vec::new();
        for task in tasks.map_while(Result::ok) {
            // Another thread may just have ended.
            let found = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            if found.trim_end() == name {
                let id = task.file_name().to_string_lossy().parse().expect("a number");
                threads.push(Pid::from_raw(id));
            }
        }
        assert!(!threads.is_empty(), "no thread {name} in {pid}");
        for &thread in &threads {
            ptrace::seize(thread, Options::empty()).expect("it is ours to stop");
            ptrace::interrupt(thread).expect("it can be stopped");
            waitpid(thread, Some(WaitPidFlag::__WALL)).expect("it stops");
        }
        Hung {
            threads,
            _here: PhantomData,
        }
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        for &thread in &self.threads {
            // It may have been killed.
            let _ = ptrace::detach(thread, None);
        }
    }
}
