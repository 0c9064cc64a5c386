//! A client of event streams that behaves like `EventSource` and also reports what `EventSource` hides.

use super::connection::{Body, Connection};
use super::open::Open;
use super::sse::{Event, Item, Parser};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// An open response. Events it has read but not handed out stay in order; comments and `retry` are kept aside.
pub struct Stream {
    url: String,
    connection: Connection,
    pub status: u16,
    /// In the order sent, names as sent.
    pub headers: Vec<(String, String)>,
    body: Body,
    parser: Parser,
    ready: VecDeque<Event>,
    comments: Vec<String>,
    retry: Option<u64>,
    violations: Vec<String>,
    strict: bool,
    /// `id` of the last event handed out by `next`.
    last_event_id: String,
}

/// The reason why no event follows.
#[derive(Debug)]
pub enum NoEvent {
    /// The server ended the response as HTTP ends one.
    Ended,
    /// The connection broke off.
    Broken(io::Error),
    Timeout,
}

impl fmt::Display for NoEvent {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoEvent::Ended => out.write_str("the stream ended"),
            NoEvent::Broken(error) => write!(out, "the connection broke: {error}"),
            NoEvent::Timeout => out.write_str("nothing came in time"),
        }
    }
}

impl Stream {
    /// A request for the URL, to be given headers and sent.
    pub fn to(url: impl Into<String>) -> Open {
        Open::new(url.into())
    }

    /// Opens the URL as a new `EventSource` would.
    pub async fn open(url: impl Into<String>) -> Stream {
        let url = url.into();
        Stream::to(url.clone())
            .send()
            .await
            .unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    pub(super) fn new(url: String, connection: Connection, head: &str) -> io::Result<Stream> {
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no HTTP response: {head}")))?;
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        let find = |wanted: &str| {
            let named = |(name, _): &&(String, String)| name.eq_ignore_ascii_case(wanted);
            headers.iter().find(named).map(|(_, value)| value.as_str())
        };
        let body = match (find("transfer-encoding"), find("content-length")) {
            (Some(_), _) => Body::ChunkSize,
            (None, Some(length)) => Body::Length(length.parse().map_err(io::Error::other)?),
            (None, None) => Body::UntilClose,
        };
        Ok(Stream {
            url,
            connection,
            status,
            headers,
            body,
            parser: Parser::new(),
            ready: VecDeque::new(),
            comments: Vec::new(),
            retry: None,
            violations: Vec::new(),
            strict: true,
            last_event_id: String::new(),
        })
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let named = |(other, _): &&(String, String)| other.eq_ignore_ascii_case(name);
        self.headers.iter().find(named).map(|(_, value)| value.as_str())
    }

    /// Without it, a broken rule of docs/wire.md fails the test where it is read.
    pub fn lenient(mut self) -> Stream {
        self.strict = false;
        self
    }

    /// The next event.
    ///
    /// # Panics
    /// If none arrives in time, or a rule of docs/wire.md is broken.
    #[track_caller]
    pub fn next(&mut self, within: Duration) -> impl Future<Output = Event> {
        let caller = std::panic::Location::caller();
        async move {
            match self.try_next(within).await {
                Ok(event) => event,
                Err(why) => panic!(
                    "{caller}: {}: {why} within {within:?}; {}",
                    self.url,
                    self.summary()
                ),
            }
        }
    }

    pub async fn try_next(&mut self, within: Duration) -> Result<Event, NoEvent> {
        self.next_by(Instant::now() + within).await
    }

    async fn next_by(&mut self, deadline: Instant) -> Result<Event, NoEvent> {
        while self.ready.is_empty() {
            self.read_more(deadline).await?;
        }
        let event = self.ready.pop_front().expect("not empty");
        self.last_event_id.clone_from(&event.id);
        Ok(event)
    }

    /// Events up to and including the first that fulfils `last`.
    #[track_caller]
    pub fn collect_until(
        &mut self,
        mut last: impl FnMut(&Event) -> bool,
        within: Duration,
    ) -> impl Future<Output = Vec<Event>> {
        let caller = std::panic::Location::caller();
        async move {
            let deadline = Instant::now() + within;
            let mut events: Vec<Event> = Vec::new();
            while !events.last().is_some_and(&mut last) {
                match self.next_by(deadline).await {
                    Ok(event) => events.push(event),
                    Err(why) => {
                        let tail = &events[events.len().saturating_sub(5)..];
                        let count = events.len();
                        let summary = self.summary();
                        panic!(
                            "{caller}: {}: {why} within {within:?} after {count} events, lastly {tail:#?}; {summary}",
                            self.url
                        )
                    }
                }
            }
            events
        }
    }

    /// The events left, and how the stream ended.
    #[track_caller]
    pub fn collect_to_end(&mut self, within: Duration) -> impl Future<Output = (Vec<Event>, NoEvent)> {
        let caller = std::panic::Location::caller();
        async move {
            let deadline = Instant::now() + within;
            let mut events = Vec::new();
            loop {
                match self.next_by(deadline).await {
                    Ok(event) => events.push(event),
                    Err(NoEvent::Timeout) => panic!(
                        "{caller}: {}: no end within {within:?} after {} events",
                        self.url,
                        events.len()
                    ),
                    Err(end) => return (events, end),
                }
            }
        }
    }

    /// Waits for a comment, past those already seen, and leaves the events that come meanwhile for `next`.
    pub async fn next_comment(&mut self, within: Duration) -> Result<String, NoEvent> {
        let deadline = Instant::now() + within;
        let seen = self.comments.len();
        while self.comments.len() == seen {
            self.read_more(deadline).await?;
        }
        Ok(self.comments[seen].clone())
    }

    /// The body's remaining bytes, not parsed: for an error's answer.
    pub async fn body(&mut self, within: Duration) -> Result<Vec<u8>, NoEvent> {
        let deadline = Instant::now() + within;
        let mut body = Vec::new();
        loop {
            match self.read_body(deadline).await {
                Ok(bytes) => body.extend(bytes),
                Err(NoEvent::Ended) => return Ok(body),
                Err(error) => return Err(error),
            }
        }
    }

    /// The id to reconnect with: that of the last event returned.
    pub fn last_event_id(&self) -> &str {
        &self.last_event_id
    }

    pub fn comments(&self) -> &[String] {
        &self.comments
    }

    /// The last `retry` in milliseconds.
    pub fn retry(&self) -> Option<u64> {
        self.retry
    }

    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    fn summary(&self) -> String {
        let (comments, retry) = (&self.comments, self.retry);
        format!("status {}, comments {comments:?}, retry {retry:?}", self.status)
    }

    async fn read_more(&mut self, deadline: Instant) -> Result<(), NoEvent> {
        let read = self.read_body(deadline).await;
        let items = match &read {
            Ok(bytes) => self.parser.feed(bytes),
            Err(NoEvent::Ended) if self.parser.inside_block() => {
                vec![Item::Violation("the stream ended inside a block".to_owned())]
            }
            Err(_) => Vec::new(),
        };
        for item in items {
            match item {
                Item::Event(event) => self.ready.push_back(event),
                Item::Comment(comment) => self.comments.push(comment),
                Item::Retry(milliseconds) => self.retry = Some(milliseconds),
                Item::Violation(what) => {
                    assert!(!self.strict, "{}: rule of docs/wire.md broken: {what}", self.url);
                    self.violations.push(what);
                }
            }
        }
        read.map(drop)
    }

    async fn read_body(&mut self, deadline: Instant) -> Result<Vec<u8>, NoEvent> {
        match timeout_at(deadline, self.body.read(&mut self.connection)).await {
            Err(_) => Err(NoEvent::Timeout),
            Ok(Err(error)) => Err(NoEvent::Broken(error)),
            Ok(Ok(None)) => Err(NoEvent::Ended),
            Ok(Ok(Some(bytes))) => Ok(bytes),
        }
    }
}
