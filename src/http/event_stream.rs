//! `GET <stream.path>`: a subscription that hyper polls.

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

use super::connections::Connection;
use super::error::ApiError;
use super::limits::Permit;
use super::over_limit;
use super::query::opening;
use super::response::as_event_stream;
use super::state::AppState;
use crate::stream::Stream;
use crate::stream::subscription::{Step, Subscription};

/// Opens the stream for a client.
///
/// # Errors
/// When the request is invalid. A client over a limit gets no error, see
/// [`over_limit`].
pub(super) fn answer(
    state: &AppState,
    stream: &Arc<Stream>,
    method: &Method,
    query: &str,
    headers: &HeaderMap,
    connection: Option<Arc<Connection>>,
) -> Result<Response, ApiError> {
    if let Some(why) = stream.failure() {
        return Err(ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "stream_refused",
            why,
        ));
    }
    let mut opening = opening(query, &state.requests().ignored_parameters, headers, stream)?;
    if method == Method::HEAD {
        return Ok(as_event_stream(warp::reply().into_response()));
    }
    let connection = connection.ok_or_else(|| ApiError::internal("the request has no connection"))?;
    let address = state.limits.client(connection.peer(), headers);
    opening.flow = address.into();
    let permit = match state.limits.admit(address) {
        Ok(permit) => permit,
        Err(limit) => return Ok(over_limit::answer(limit, &opening, headers)),
    };
    match stream.admit(opening) {
        Ok(subscription) => {
            let events = EventStream::new(subscription, connection, permit);
            Ok(as_event_stream(warp::reply::stream(events).into_response()))
        }
        Err((limit, opening)) => {
            state.limits.refuse_by(&stream.settings().path, limit, address);
            Ok(over_limit::answer(limit.into(), &opening, headers))
        }
    }
}

/// The body of a stream's response.
///
/// It has one timer. Each delivery moves the deadline away, so a delivery does not touch the timer: it may fire early, and is
/// then reset.
struct EventStream {
    subscription: Subscription,
    timer: Pin<Box<Sleep>>,
    connection: Arc<Connection>,
    permit: Permit,
    opened: Instant,
}

impl EventStream {
    fn new(subscription: Subscription, connection: Arc<Connection>, permit: Permit) -> Self {
        debug!(
            "{}: {} opened, for {}",
            subscription.path(),
            connection.peer(),
            permit.address()
        );
        connection.set_streaming(true);
        Self {
            subscription,
            timer: Box::pin(tokio::time::sleep(std::time::Duration::ZERO)),
            connection,
            permit,
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
        self.connection.set_streaming(false);
        if self.connection.has_timed_out() {
            self.subscription.timed_out();
        }
        debug!(
            "{}: {} closed, for {}: {} after {:.1} s, {} events",
            self.subscription.path(),
            self.connection.peer(),
            self.permit.address(),
            self.subscription.departure().as_str(),
            self.opened.elapsed().as_secs_f64(),
            self.subscription.delivered()
        );
    }
}
