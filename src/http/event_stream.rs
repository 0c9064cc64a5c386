//! `GET <stream.path>`: a subscription driven by hyper.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use log::debug;
use tokio::time::Sleep;
use warp::reply::{Reply, Response};

use super::error::ApiError;
use super::limits::{Limits, Slot};
use super::over_limit;
use super::peer::Peer;
use super::query::opening;
use super::response::as_stream;
use super::write_timeout::TimedOut;
use crate::stream::stream::Stream;
use crate::stream::subscription::{Step, Subscription};

/// The other end, and what becomes of its connection.
type Origin = (Peer, Option<TimedOut>);

/// Answers with the stream, or with an error before it opens, or turns the client away. Beside the query there are
/// the names of the parameters in it that are passed over.
pub fn answer(
    stream: &Arc<Stream>,
    limits: &Arc<Limits>,
    method: &Method,
    (query, ignored): (&str, &[String]),
    headers: &HeaderMap,
    (peer, timed_out): Origin,
) -> Response {
    if let Some(why) = stream.failure() {
        return ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "stream_refused", why).into_response();
    }
    let mut opening = match opening(query, ignored, headers, stream) {
        Ok(opening) => opening,
        Err(problem) => return problem.into_response(),
    };
    if method == Method::HEAD {
        return as_stream(warp::reply().into_response());
    }
    let address = limits.client(peer, headers);
    opening.flow = address.into();
    let slot = match limits.admit(address) {
        Ok(slot) => slot,
        Err(limit) => return over_limit::answer(limit, &opening, headers),
    };
    match stream.admit(opening) {
        Ok(subscription) => {
            let events = EventStream::new(subscription, (peer, timed_out), slot);
            as_stream(warp::reply::stream(events).into_response())
        }
        Err((limit, opening)) => {
            limits.turned_away(limit.into(), address);
            over_limit::answer(limit.into(), &opening, headers)
        }
    }
}

/// The body of a stream's answer.
///
/// Holds one timer. Deadlines move away with everything that is sent, so the timer is not touched
/// by a delivery: it may fire early, and is then set anew.
struct EventStream {
    subscription: Subscription,
    timer: Pin<Box<Sleep>>,
    peer: Peer,
    timed_out: Option<TimedOut>,
    slot: Slot,
    opened: Instant,
}

impl EventStream {
    fn new(subscription: Subscription, (peer, timed_out): Origin, slot: Slot) -> Self {
        debug!("{}: {peer} opened, for {}", subscription.path(), slot.address());
        Self {
            subscription,
            timer: Box::pin(tokio::time::sleep(std::time::Duration::ZERO)),
            peer,
            slot,
            timed_out,
            opened: Instant::now(),
        }
    }
}

impl futures_core::Stream for EventStream {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            match this.subscription.step(Instant::now()) {
                Step::Send(bytes) => return Poll::Ready(Some(Ok(bytes))),
                Step::End => return Poll::Ready(None),
                Step::Yield => {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Step::Wait(deadline) => {
                    if !this.subscription.wait(context.waker()) {
                        continue;
                    }
                    // A reload may bring it forward.
                    if this.timer.deadline() > deadline.into() {
                        this.timer.as_mut().reset(deadline.into());
                    }
                    while this.timer.as_mut().poll(context).is_ready() {
                        if deadline <= Instant::now() {
                            break;
                        }
                        this.timer.as_mut().reset(deadline.into());
                    }
                    if deadline > Instant::now() {
                        return Poll::Pending;
                    }
                }
            }
        }
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        if self.timed_out.as_ref().is_some_and(TimedOut::has_happened) {
            self.subscription.timed_out();
        }
        debug!(
            "{}: {} closed, for {}: {} after {:.1} s, {} events",
            self.subscription.path(),
            self.peer,
            self.slot.address(),
            self.subscription.departure().as_str(),
            self.opened.elapsed().as_secs_f64(),
            self.subscription.delivered()
        );
    }
}
