//! The right of a reader to a stream: whose it is, and when it ends.
//!
//! Whoever opens the stream has checked it, and gives a [`Grant`] that says later whether it still holds: a reload may
//! have removed what it rests on. A reader asks at every change of its stream that is not a record.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use crate::config::claims::Claims;

/// Says whether a right still holds.
pub trait Grant: fmt::Debug + Send + Sync {
    /// Whether it holds now for a client with these claims and the stream at this path.
    fn holds(&self, path: &str, claims: &Claims) -> bool;
}

/// When a right ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    /// When the reader is warned, if it is.
    pub warns_at: Option<Instant>,
    /// When the right is over.
    pub ends_at: Instant,
}

#[derive(Debug)]
struct Inner {
    claims: Claims,
    deadline: Option<Deadline>,
    grant: Box<dyn Grant>,
}

/// The right of a reader. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Access(Arc<Inner>);

impl PartialEq for Access {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Access {}

impl Access {
    /// The right of a client with these claims. Without a deadline it has no end of its own.
    pub fn new(claims: Claims, deadline: Option<Deadline>, grant: Box<dyn Grant>) -> Self {
        Self(Arc::new(Inner {
            claims,
            deadline,
            grant,
        }))
    }

    /// The claims of the client.
    pub fn claims(&self) -> &Claims {
        &self.0.claims
    }

    /// Whether it holds at `now` for the stream at this path.
    pub fn holds(&self, path: &str, now: Instant) -> bool {
        !self.is_over(now) && self.0.grant.holds(path, &self.0.claims)
    }

    /// Whether its end has come.
    pub fn is_over(&self, now: Instant) -> bool {
        self.0.deadline.is_some_and(|deadline| now >= deadline.ends_at)
    }

    pub(super) fn deadline(&self) -> Option<Deadline> {
        self.0.deadline
    }
}
