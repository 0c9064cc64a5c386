//! No client and no wake-up is lost between the threads.

use std::collections::HashSet;
use std::thread;
use std::time::Duration;

use super::super::epoll::Epoll;
use super::super::sockets::{INTAKE, Sockets};
use super::*;

fn token(slot: u32) -> Token {
    Token { slot, generation: 0 }
}

fn taken(intake: &Intake<()>) -> Vec<Woken> {
    let (mut arrived, mut woken) = (Vec::new(), Vec::new());
    assert!(!intake.take(&mut arrived, &mut woken));
    woken
}

/// Whether a wait returns before `timeout`, by the alarm.
fn is_alarmed(epoll: &mut Epoll, timeout: Duration) -> bool {
    let mut events = Vec::new();
    epoll.wait(Some(timeout), &mut events).expect("a wait");
    assert!(events.iter().all(|event| event.token == INTAKE));
    !events.is_empty()
}

#[test]
fn a_wakeup_between_taking_and_waiting_ends_the_wait() {
    let intake = Arc::new(Intake::<()>::new().expect("an eventfd"));
    let mut epoll = Epoll::new(intake.alarm()).expect("epoll");
    let alarm = Alarm::new(&intake, Woken::Client(token(1)));
    for _ in 0..3 {
        assert_eq!(taken(&intake), []);
        alarm.wake_by_ref();
        assert!(is_alarmed(&mut epoll, Duration::from_secs(10)));
        assert_eq!(taken(&intake), [Woken::Client(token(1))]);
        // It was looked at: the next wake-up counts.
        alarm.reset();
        assert!(!is_alarmed(&mut epoll, Duration::ZERO));
    }
}

#[test]
fn many_wakeups_are_one_until_they_are_looked_at() {
    let intake = Arc::new(Intake::<()>::new().expect("an eventfd"));
    let alarm = Alarm::new(&intake, Woken::Group(token(1)));
    let waker = alarm.waker();
    for _ in 0..3 {
        waker.wake_by_ref();
    }
    assert_eq!(taken(&intake), [Woken::Group(token(1))]);
    waker.wake_by_ref();
    assert_eq!(taken(&intake), []);
    alarm.reset();
    waker.wake_by_ref();
    assert_eq!(taken(&intake), [Woken::Group(token(1))]);
}

#[test]
fn every_change_is_seen_after_its_wakeup_whenever_it_comes() {
    const THREADS: u32 = 3;
    const CHANGES: usize = 20_000;
    let intake = Arc::new(Intake::<()>::new().expect("an eventfd"));
    let mut epoll = Epoll::new(intake.alarm()).expect("epoll");
    // As a stream: a change, then a wake-up.
    let alarms: Vec<_> = (0..THREADS)
        .map(|slot| Alarm::new(&intake, Woken::Client(token(slot))))
        .collect();
    let changes: Vec<_> = (0..THREADS).map(|_| Arc::new(AtomicUsize::new(0))).collect();
    let writers: Vec<_> = alarms
        .iter()
        .zip(&changes)
        .map(|(alarm, changes)| {
            let (waker, changes) = (alarm.waker(), Arc::clone(changes));
            thread::spawn(move || {
                for _ in 0..CHANGES {
                    changes.fetch_add(1, Ordering::SeqCst);
                    waker.wake_by_ref();
                }
            })
        })
        .collect();
    let mut seen = [0; THREADS as usize];
    while seen.iter().any(|seen| *seen < CHANGES) {
        for woken in taken(&intake) {
            let Woken::Client(token) = woken else {
                panic!("no group");
            };
            let which = token.slot as usize;
            alarms[which].reset();
            seen[which] = changes[which].load(Ordering::SeqCst);
        }
        if seen.iter().any(|seen| *seen < CHANGES) {
            assert!(is_alarmed(&mut epoll, Duration::from_secs(30)), "lost: {seen:?}");
        }
    }
    for writer in writers {
        writer.join().expect("no panic");
    }
}

#[test]
fn concurrent_wakeups_are_all_taken_once() {
    const THREADS: u32 = 4;
    const EACH: u32 = 2_000;
    let intake = Arc::new(Intake::<()>::new().expect("an eventfd"));
    let mut epoll = Epoll::new(intake.alarm()).expect("epoll");
    let writers: Vec<_> = (0..THREADS)
        .map(|thread| {
            let intake = Arc::clone(&intake);
            thread::spawn(move || {
                for number in 0..EACH {
                    intake.wake(Woken::Client(token(thread * EACH + number)));
                }
            })
        })
        .collect();
    let mut seen = HashSet::new();
    while seen.len() < (THREADS * EACH) as usize {
        let woken = taken(&intake);
        if woken.is_empty() {
            assert!(is_alarmed(&mut epoll, Duration::from_secs(30)), "lost");
        }
        for woken in woken {
            assert!(seen.insert(woken), "taken twice");
        }
    }
    for writer in writers {
        writer.join().expect("no panic");
    }
}
