//! A client of a rig's stream, driven step by step.

use crate::harness::sse::{Event, Item, Parser};
use kafka_sse_bridge::stream::subscription::{Step, Subscription};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Drives a subscription as the HTTP server does, at times that the test chooses.
pub struct Client {
    pub subscription: Subscription,
    parser: Parser,
    pub now: Instant,
    wakes: Arc<Wakes>,
}

impl Client {
    pub fn of(subscription: Subscription) -> Self {
        Self {
            subscription,
            parser: Parser::new(),
            now: Instant::now(),
            wakes: Arc::default(),
        }
    }

    /// The next step, and the events that it sends.
    pub fn step(&mut self) -> (Vec<Item>, Step) {
        let step = self.subscription.step(self.now);
        match &step {
            Step::Send(bytes) => (self.parser.feed(bytes), step),
            _ => (Vec::new(), step),
        }
    }

    /// All that there is to send now, and the step after it.
    pub fn items(&mut self) -> (Vec<Item>, Step) {
        let mut items = Vec::new();
        for _ in 0..100_000 {
            let (more, step) = self.step();
            items.extend(more);
            if !matches!(step, Step::Send(_) | Step::Yield) {
                return (items, step);
            }
        }
        panic!("endless: {} items", items.len())
    }

    pub fn events(&mut self) -> Vec<Event> {
        self.items().0.into_iter().filter_map(event).collect()
    }

    /// The due events as lines of name and data.
    pub fn lines(&mut self) -> Vec<String> {
        self.events().iter().map(line).collect()
    }

    /// The events of a client that may have to wait for history.
    pub async fn events_with_history(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        // More turns than the tasks of a replay need.
        for _ in 0..300 {
            events.extend(self.events());
            tokio::task::yield_now().await;
        }
        events
    }

    /// The same as lines.
    pub async fn lines_with_history(&mut self) -> Vec<String> {
        self.events_with_history().await.iter().map(line).collect()
    }

    /// The lines of the records and deletes among the due events.
    pub fn shown(&mut self) -> Vec<String> {
        let is_record = |event: &Event| matches!(event.name.as_str(), "message" | "delete");
        let events = self.events();
        events.iter().filter(|event| is_record(event)).map(line).collect()
    }

    pub fn last_event_id(&self) -> &str {
        self.parser.last_event_id()
    }

    pub fn advance(&mut self, time: Duration) {
        self.now += time;
    }

    /// Asks to be woken; whether there is nothing to do before.
    pub fn is_waiting(&mut self) -> bool {
        self.subscription.wait(&Waker::from(Arc::clone(&self.wakes)))
    }

    /// Waits as the HTTP server does.
    pub fn wait(&mut self) {
        while !self.is_waiting() {
            let (items, _) = self.items();
            assert!(items.is_empty(), "unsent before the wait: {items:?}");
        }
    }

    /// How often it was woken since the last call.
    pub fn wakes(&self) -> usize {
        self.wakes.0.swap(0, Ordering::SeqCst)
    }
}

pub fn event(item: Item) -> Option<Event> {
    match item {
        Item::Event(event) => Some(event),
        Item::Violation(what) => panic!("{what}"),
        Item::Comment(_) | Item::Retry(_) => None,
    }
}

/// The state of a browser of a table stream with `key_field = "id"` after these events.
pub fn apply(table: &mut BTreeMap<String, String>, events: &[Event]) {
    for event in events {
        let id = || event.json()["id"].as_str().expect("a key").to_owned();
        match event.name.as_str() {
            "message" => drop(table.insert(id(), event.data.clone())),
            "delete" => drop(table.remove(&id())),
            _ => {}
        }
    }
}

pub fn line(event: &Event) -> String {
    format!("{} {}", event.name, event.data)
}

/// Runs a test that reads history on one thread, so that all events have come after some turns.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a tokio runtime").block_on(future)
}
