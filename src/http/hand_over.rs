//! Hands a connection over once the head of its event stream is written: [`delivery`](crate::delivery) writes the rest.
//!
//! The handler decides, as for every response. The body that it returns offers the subscription to the connection when
//! hyper first polls it, which is after the head was encoded, and never has a byte itself. hyper flushes the socket once
//! the head has left its buffer; by that flush the socket knows that the offer can be taken, has its descriptor
//! duplicated, and fails, so that hyper drops the connection. Nothing of this needs more of hyper than that it polls a
//! body after encoding the head, and flushes after writing.

use std::convert::Infallible;
use std::io;
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use log::debug;
use rustix::io::fcntl_dupfd_cloexec;

use super::connections::{Connection, Counted, Limit, Offer};
use super::limits::Permit;
use super::peer::Peer;
use crate::delivery::{Delivery, Guard, NewClient};
use crate::stream::subscription::Subscription;

/// A stream that is to be handed over.
#[derive(Debug)]
pub(super) struct HandOver {
    /// Until it is handed over.
    stream: Option<(Box<Subscription>, Box<StreamGuard>)>,
    opened: Instant,
    delivery: Arc<Delivery>,
}

impl HandOver {
    pub(super) fn new(
        subscription: Subscription,
        connection: &Arc<Connection>,
        permit: Permit,
        delivery: Arc<Delivery>,
    ) -> Self {
        connection.set_streaming(true);
        let guard = StreamGuard {
            connection: Arc::clone(connection.counted()),
            permit: Some(permit),
        };
        Self {
            stream: Some((Box::new(subscription), Box::new(guard))),
            opened: Instant::now(),
            delivery,
        }
    }
}

impl Drop for HandOver {
    fn drop(&mut self) {
        // The connection has ended before it could be handed over.
        if let Some((subscription, mut guard)) = self.stream.take() {
            guard.ended(&subscription, self.opened);
        }
    }
}

impl Offer for HandOver {
    fn take(mut self: Box<Self>, socket: BorrowedFd<'_>) -> io::Result<()> {
        // The registration of the socket ends with its own descriptor.
        let socket = fcntl_dupfd_cloexec(socket, 0)?;
        if let Some((subscription, guard)) = self.stream.take() {
            self.delivery.enter(NewClient {
                socket,
                subscription,
                guard,
                opened: self.opened.into(),
            });
        }
        Ok(())
    }
}

/// The body of a response that is handed over: it never has a byte.
#[derive(Debug)]
pub(super) struct HandedOver {
    connection: Arc<Connection>,
    offer: Option<Box<HandOver>>,
}

impl HandedOver {
    pub(super) fn new(connection: Arc<Connection>, offer: HandOver) -> Self {
        Self {
            connection,
            offer: Some(Box::new(offer)),
        }
    }
}

impl futures_core::Stream for HandedOver {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(offer) = self.offer.take() {
            self.connection.offer(offer);
        }
        Poll::Pending
    }
}

/// What an event stream holds of its connection and of the limits.
#[derive(Debug)]
pub(super) struct StreamGuard {
    connection: Arc<Counted>,
    /// Until the stream ends.
    permit: Option<Permit>,
}

impl Guard for StreamGuard {
    fn write_timeout(&self) -> Duration {
        self.connection.write_timeout()
    }

    fn timed_out(&mut self) {
        self.connection.close_by(Limit::WriteTimeout);
    }

    fn ended(&mut self, subscription: &Subscription, opened: Instant) {
        if let Some(permit) = self.permit.take() {
            log_end(subscription, self.connection.peer(), &permit, opened);
        }
    }
}

/// The target of log lines about clients that come and go, whoever writes to them: operators set its level by this name.
pub(super) const LOG_TARGET: &str = "kafka_sse_bridge::http::event_stream";

/// Logs the end of a stream.
pub(super) fn log_end(subscription: &Subscription, peer: Peer, permit: &Permit, opened: Instant) {
    debug!(
        target: LOG_TARGET,
        "{}: {} closed, for {}: {} after {:.1} s, {} events",
        subscription.path(),
        peer,
        permit.address(),
        subscription.departure().as_str(),
        opened.elapsed().as_secs_f64(),
        subscription.delivered()
    );
}
