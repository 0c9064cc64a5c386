//! `GET <stream.path>`: a subscription, which `delivery` drives, or hyper polls.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use log::debug;
use tokio::time::Sleep;
use warp::reply::{Reply, Response};

use super::access;
use super::connections::Connection;
use super::document;
use super::error::{ApiError, ErrorCode};
use super::form::Form;
use super::hand_over::{HandOver, HandedOver, LOG_TARGET, log_end};
use super::limits::Permit;
use super::ndjson::{Lines, as_lines};
use super::over_limit;
use super::parameters::is_ignored;
use super::query::{StreamQuery, parse};
use super::response::as_event_stream;
use super::state::AppState;
use super::stream_path::FoundStream;
use crate::stream::access::Access;
use crate::stream::control::Goodbye;
use crate::stream::counters::Departure;
use crate::stream::subscription::{Step, Subscription};

/// Opens the stream for a client.
///
/// # Errors
/// When the request is invalid. A client over a limit gets no error, see
/// [`over_limit`].
pub(super) async fn answer(
    state: &AppState,
    FoundStream { stream, path_values }: FoundStream,
    method: &Method,
    query: &str,
    headers: &HeaderMap,
    connection: Option<Arc<Connection>>,
) -> Result<Response, ApiError> {
    let access = match access::authorize(state, &stream, query, headers, connection.as_ref()).await {
        Ok(access) => access,
        Err(refusal) => return Ok(*refusal),
    };
    let path_values = path_values?;
    access::check_selection(state, &stream, path_values.as_ref(), access.as_ref())?;
    if let Some(why) = stream.failure() {
        return Err(ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            ErrorCode::StreamRefused,
            why,
        ));
    }
    let requests = state.requests();
    let policy = state.auth.policy();
    let is_passed_over =
        |name: &str| is_ignored(name, &requests.ignored_parameters) || policy.query_parameter() == Some(name);
    let StreamQuery { mut opening, form } = parse(query, &is_passed_over, headers, &stream)?;
    opening.path_values = path_values;
    opening.access = access.clone();
    let lines = match form {
        Form::Lines { ends_at_head } => Some(Lines::new(ends_at_head)),
        Form::Events | Form::Document(_) => None,
    };
    if method == Method::HEAD && !matches!(form, Form::Document(_)) {
        return Ok(with_head(warp::reply().into_response(), lines.is_some()));
    }
    let connection = connection.ok_or_else(|| ApiError::internal("the request has no connection"))?;
    let address = state.limits.client(connection.peer(), headers);
    opening.flow = access::flow(access.as_ref(), address);
    let permit = match state.limits.admit(address) {
        Ok(permit) => permit,
        Err(limit) => return Ok(over_limit::answer(limit, &opening, headers)),
    };
    if let Form::Document(page) = form {
        return document::answer(&stream, page, opening, method, headers, permit).await;
    }
    match stream.admit(opening) {
        Ok(subscription) => {
            let is_lines = lines.is_some();
            log_start(&subscription, &connection, &permit, access.as_ref());
            if !is_lines && let Some(delivery) = connection.delivery() {
                let offer = HandOver::new(subscription, &connection, permit, delivery);
                let body = warp::reply::stream(HandedOver::new(connection, offer));
                let mut response = with_head(body.into_response(), false);
                // Bytes of a next request would have been dropped.
                response
                    .headers_mut()
                    .insert(CONNECTION, HeaderValue::from_static("close"));
                return Ok(response);
            }
            let events = EventStream::new(subscription, lines, connection, permit);
            Ok(with_head(warp::reply::stream(events).into_response(), is_lines))
        }
        Err((limit, opening)) => {
            state.limits.refuse_by(&stream.settings().path, limit, address);
            Ok(over_limit::answer(limit.into(), &opening, headers))
        }
    }
}

fn log_start(subscription: &Subscription, connection: &Connection, permit: &Permit, access: Option<&Access>) {
    debug!(
        target: LOG_TARGET,
        "{}: {} opened, for {}{}",
        subscription.path(),
        connection.peer(),
        permit.address(),
        access::name(access)
    );
}

/// Sets the header fields of the form.
fn with_head(response: Response, is_lines: bool) -> Response {
    if is_lines {
        as_lines(response)
    } else {
        as_event_stream(response)
    }
}

/// The body of a stream's response.
///
/// It has one timer. Each delivery moves the deadline away, so a delivery does not touch the timer: it may fire early,
/// and is then reset.
struct EventStream {
    subscription: Subscription,
    /// Rewrites the events, for a client that wants lines.
    lines: Option<Lines>,
    timer: Pin<Box<Sleep>>,
    connection: Arc<Connection>,
    permit: Permit,
    opened: Instant,
}

impl EventStream {
    fn new(
        subscription: Subscription,
        lines: Option<Lines>,
        connection: Arc<Connection>,
        permit: Permit,
    ) -> Self {
        connection.set_streaming(true);
        Self {
            subscription,
            lines,
            timer: Box::pin(tokio::time::sleep(std::time::Duration::ZERO)),
            connection,
            permit,
            opened: Instant::now(),
        }
    }
}

impl EventStream {
    /// Has the client open another connection where this one would bring it back to what has ended: to this daemon, or
    /// with the certificate that was not accepted any more.
    fn retire_connection(&self) {
        let is_over = match self.subscription.departure() {
            Departure::Told(Goodbye::Lifetime) => true,
            Departure::Told(Goodbye::Unauthorized) => self.connection.client_certificate().is_some(),
            _ => false,
        };
        if is_over {
            self.connection.set_streaming(false);
            self.connection.retire();
        }
    }
}

impl futures_core::Stream for EventStream {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if this.lines.as_ref().is_some_and(Lines::is_over) {
                return Poll::Ready(None);
            }
            match this.subscription.step(Instant::now()) {
                Step::Send(bytes) => match &mut this.lines {
                    None => return Poll::Ready(Some(Ok(bytes))),
                    Some(lines) => {
                        let is_json = this.subscription.shows_json_alone();
                        let lines = lines.rewrite(&bytes, is_json);
                        if !lines.is_empty() {
                            return Poll::Ready(Some(Ok(lines)));
                        }
                    }
                },
                Step::End => {
                    this.retire_connection();
                    return Poll::Ready(None);
                }
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
        log_end(
            &self.subscription,
            self.connection.peer(),
            &self.permit,
            self.opened,
        );
    }
}
