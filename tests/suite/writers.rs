//! Writers run on threads of their own: a writer that hangs delays no client, and the watchdog distinguishes it from
//! one that advances.

use crate::harness::http;
use crate::harness::stream::Stream as Client;
use crate::harness::wait::{block_on, ensure, eventually, millis, secs};
use crate::rig;
use crate::trials;
use kafka_sse_bridge::config::settings::Draft;
use kafka_sse_bridge::config::socket::SocketAccess;
use kafka_sse_bridge::config::{Scheme, Start};
use kafka_sse_bridge::http::exposure::Surface;
use kafka_sse_bridge::http::listener::Listener;
use kafka_sse_bridge::http::router::routes;
use kafka_sse_bridge::http::server::{Stopping, Transport, serve};
use kafka_sse_bridge::http::state::AppState;
use kafka_sse_bridge::kafka::pulse::Pulse;
use kafka_sse_bridge::kafka::record::{Batch, Feed, Stamp};
use kafka_sse_bridge::stream::Stream;
use kafka_sse_bridge::stream::announcer::Announcer;
use kafka_sse_bridge::stream::clock::Clock;
use kafka_sse_bridge::stream::writer::Writer;
use kafka_sse_bridge::writers::Writers;
use libtest_mimic::Trial;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, mpsc as std_mpsc};
use std::thread;
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub fn trials() -> Vec<Trial> {
    trials![
        a_hanging_writer_blocks_no_runtime_thread,
        a_writer_that_advances_slowly_is_not_late,
        a_writer_that_hangs_in_one_record_is_late,
        a_writer_in_an_endless_loop_is_late,
        a_late_check_counts_as_one,
        writers_that_all_hang_are_all_late,
        a_writer_with_many_batches_lets_others_write_in_between,
    ]
}

/// The threads of writers.
const WRITER: &str = "stream-writer";

/// Blocks writers that ask for the time while it is shut.
static IS_SHUT: Mutex<bool> = Mutex::new(false);
static OPENED: Condvar = Condvar::new();
static HAS_COME: AtomicBool = AtomicBool::new(false);

fn gated_clock() -> Duration {
    if thread::current().name() != Some(WRITER) {
        return secs(1);
    }
    let mut is_shut = IS_SHUT.lock().expect("no panic");
    while *is_shut {
        HAS_COME.store(true, Ordering::SeqCst);
        is_shut = OPENED.wait(is_shut).expect("no panic");
    }
    secs(1)
}

fn clock() -> Duration {
    secs(1)
}

/// A stream and its channel.
fn stream(
    path: &str,
    time_of_day: fn() -> Duration,
) -> (Arc<Stream>, mpsc::Sender<Feed>, mpsc::Receiver<Feed>) {
    stream_with(path, Start::Live, time_of_day, 4)
}

/// The same, with a channel for so many batches.
fn stream_with(
    path: &str,
    start: Start,
    time_of_day: fn() -> Duration,
    batches: usize,
) -> (Arc<Stream>, mpsc::Sender<Feed>, mpsc::Receiver<Feed>) {
    let settings = rig::settings(1, |settings| {
        path.clone_into(&mut settings.path);
        settings.start = start;
    });
    let (sender, receiver) = mpsc::channel(batches);
    let clock = Clock {
        time_of_day,
        ..Clock::SYSTEM
    };
    (
        Stream::with_clock(settings, rig::PACE, None, clock),
        sender,
        receiver,
    )
}

async fn begin(feeds: &mpsc::Sender<Feed>) {
    for feed in [rig::assigned("t", &[0]), Feed::Loaded { topic: "t".into() }] {
        feeds.send(feed).await.expect("it is taken");
    }
}

async fn send(feeds: &mpsc::Sender<Feed>, offset: i64) {
    let mut batch = Batch::new("t".into());
    let stamp = Stamp {
        partition: 0,
        offset,
        timestamp: None,
    };
    let value = format!("n{offset}");
    batch.push(stamp, None, Some(value.as_bytes()), std::iter::empty());
    let feed = Feed::Records(Arc::new(batch));
    feeds.send(feed).await.expect("it is taken");
}

fn a_hanging_writer_blocks_no_runtime_thread() {
    // One worker: a task that held it would hold up everything.
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let writers = Writers::with(Builder::new_multi_thread().worker_threads(2)).expect("threads");
    // With a table: its writer asks for the time while it holds the lock of that.
    let (busy, busy_feeds, busy_received) = stream_with("/busy", Start::Snapshot, gated_clock, 4);
    let (other, feeds, received) = stream("/other", clock);
    let mut tasks = JoinSet::new();
    for (stream, received) in [(&busy, busy_received), (&other, received)] {
        tasks.spawn_on(Announcer::new(Arc::clone(stream)), runtime.handle());
        let writer = Writer::new(Arc::clone(stream));
        writers.spawn(&mut tasks, stream.settings(), writer, received);
    }
    let state = AppState::new(&Draft::default());
    let mut shown = state.shown().clone();
    shown.streams = vec![busy, other];
    state.show(shown);
    let connections = Arc::clone(&state.connections);
    let handler = routes(Arc::new(state), Surface::Public);
    let entered = runtime.enter();
    let listener = Listener::bind("127.0.0.1:0", &SocketAccess::default())
        .expect("a port")
        .remove(0);
    drop(entered);
    let address = listener.url(Scheme::Http);
    let url = |path: &str| format!("{address}{path}");
    let (_switch, stopping) = Stopping::channel();
    runtime.spawn(serve(
        listener,
        Transport::Plain,
        Surface::Public,
        handler,
        connections,
        stopping,
    ));

    block_on(async {
        begin(&busy_feeds).await;
        begin(&feeds).await;
        let mut waiting = Client::open(url("/busy")).await;
        waiting
            .collect_until(|event| event.is("caught-up"), secs(30))
            .await;
        *IS_SHUT.lock().expect("no panic") = true;
        send(&busy_feeds, 0).await;
        eventually(secs(30), "the writer hangs", || {
            ensure(HAS_COME.load(Ordering::SeqCst), "it does not")
        });
        for offset in 0..20 {
            for path in ["/health/live", "/health/ready", "/streams", "/metrics"] {
                assert_eq!(http::get(&url(path), &[]).await.status, 200, "{path}");
            }
            let mut client = Client::open(url("/other")).await;
            client
                .collect_until(|event| event.is("caught-up"), secs(30))
                .await;
            send(&feeds, offset).await;
            let event = client.next(secs(30)).await;
            assert_eq!(event.data, format!("n{offset}"), "beside a writer that hangs");
        }
        *IS_SHUT.lock().expect("no panic") = false;
        OPENED.notify_all();
        assert_eq!(waiting.next(secs(30)).await.data, "n0", "it continues");
    });
}

/// The most that a look adds to the lateness of a thread.
const TICK: Duration = millis(20);

/// A lateness of several looks.
const SLACK: Duration = millis(160);

/// A thread at work with a pulse, until the channel is closed.
fn at_work(
    work: impl FnOnce(&Pulse, std_mpsc::Receiver<()>) + Send + 'static,
) -> (Arc<Pulse>, impl FnOnce()) {
    let pulse = Arc::new(Pulse::default());
    let (release, released) = std_mpsc::channel();
    let worker = Arc::clone(&pulse);
    let thread = thread::spawn(move || {
        worker.beat(Duration::ZERO);
        work(&worker, released);
        worker.rest();
    });
    (pulse, move || {
        drop(release);
        thread.join().expect("it ends");
    })
}

fn is_over(released: &std_mpsc::Receiver<()>) -> bool {
    released.try_recv() == Err(std_mpsc::TryRecvError::Disconnected)
}

fn a_writer_that_advances_slowly_is_not_late() {
    let pulse = Pulse::default();
    pulse.beat(Duration::ZERO);
    for _ in 0..50 {
        // Long enough that the look would count the thread as late without the step.
        thread::sleep(TICK);
        pulse.step();
        assert_eq!(pulse.look(TICK).late, Duration::ZERO);
    }
}

/// Looks until the thread is late, and until it is not once it has ended.
fn is_seen(pulse: &Pulse, release: impl FnOnce()) {
    eventually(secs(60), "it is late", || {
        ensure(pulse.look(TICK).late > SLACK, "it is not")
    });
    release();
    assert_eq!(pulse.look(TICK).late, Duration::ZERO, "it has ended");
}

fn a_writer_that_hangs_in_one_record_is_late() {
    let (pulse, release) = at_work(|_, released| {
        let _ = released.recv();
    });
    is_seen(&pulse, release);
}

fn a_writer_in_an_endless_loop_is_late() {
    let (pulse, release) = at_work(|_, released| {
        while !is_over(&released) {
            std::hint::spin_loop();
        }
    });
    is_seen(&pulse, release);
}

fn a_late_check_counts_as_one() {
    let (pulse, release) = at_work(|_, released| {
        let _ = released.recv();
    });
    eventually(secs(60), "a look finds it late", || {
        ensure(pulse.look(TICK).late > Duration::ZERO, "it is not")
    });
    let before = pulse.look(TICK).late;
    // The next look is late by far more than it may add.
    thread::sleep(10 * TICK);
    let late = pulse.look(TICK).late;
    assert!(
        late <= before + TICK,
        "{late:?} after {before:?}: the look was late, not the thread"
    );
    release();
}

fn writers_that_all_hang_are_all_late() {
    let writers = Writers::with(Builder::new_multi_thread().worker_threads(1)).expect("a thread");
    let pulses = writers.pulses();
    pulses.look(TICK);
    eventually(secs(60), "the thread comes for a task", || {
        ensure(pulses.look(TICK).1 == Duration::ZERO, "it does not")
    });
    let (release, released) = std_mpsc::channel::<()>();
    // On the one thread, and unknown to any pulse.
    let spawn = writers.spawner("/x");
    let (stuck, is_stuck) = std_mpsc::channel();
    spawn(Box::pin(async move {
        let _ = stuck.send(());
        let _ = released.recv();
    }));
    is_stuck.recv().expect("it runs");
    let (what, _) = eventually(secs(60), "it is late", || {
        let (what, late) = pulses.look(TICK);
        if late > SLACK {
            Ok((what, late))
        } else {
            Err("it is not")
        }
    });
    assert!(what.contains("/x") || what.contains("no thread"), "{what}");
    drop(release);
    eventually(secs(60), "it is back", || {
        ensure(pulses.look(TICK).1 == Duration::ZERO, "it is not")
    });
}

/// The stream with many batches, for the clock of the other.
static BUSY: OnceLock<Arc<Stream>> = OnceLock::new();

/// How many records of it had been written when the other first asked for the time.
static WRITTEN_BEFORE: AtomicU64 = AtomicU64::new(u64::MAX);

fn observing_clock() -> Duration {
    if let Some(busy) = BUSY.get() {
        WRITTEN_BEFORE.fetch_min(busy.figures().records, Ordering::SeqCst);
    }
    secs(1)
}

fn a_writer_with_many_batches_lets_others_write_in_between() {
    /// More than tokio lets a task take from a channel in one turn.
    const BATCHES: i64 = 400;
    let writers = Writers::with(Builder::new_multi_thread().worker_threads(1)).expect("a thread");
    let batches = usize::try_from(BATCHES).expect("few") + 2;
    let (busy, busy_feeds, busy_received) = stream_with("/busy", Start::Live, clock, batches);
    let (other, feeds, received) = stream_with("/other", Start::Live, observing_clock, 4);
    // The one thread is busy until both have all they are to write.
    let (release, released) = std_mpsc::channel::<()>();
    let spawn = writers.spawner("/gate");
    spawn(Box::pin(async move {
        let _ = released.recv();
    }));
    let mut tasks = JoinSet::new();
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .expect("a runtime");
    let _entered = runtime.enter();
    for (stream, received) in [(&busy, busy_received), (&other, received)] {
        let writer = Writer::new(Arc::clone(stream));
        writers.spawn(&mut tasks, stream.settings(), writer, received);
    }
    block_on(async {
        begin(&busy_feeds).await;
        for offset in 0..BATCHES {
            send(&busy_feeds, offset).await;
        }
        begin(&feeds).await;
        send(&feeds, 0).await;
    });
    assert!(BUSY.set(Arc::clone(&busy)).is_ok());
    drop(release);
    eventually(secs(60), "both have written", || {
        let written = [&busy, &other].map(|stream| stream.figures().records);
        ensure(written == [BATCHES.unsigned_abs(), 1], format!("{written:?}"))
    });
    let before = WRITTEN_BEFORE.load(Ordering::SeqCst);
    assert!(
        before < 10,
        "{before} batches of another stream were written before the first of this one"
    );
}
