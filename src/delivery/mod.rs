//! Writes event streams to sockets: many clients on few threads.
//!
//! ```text
//! http ──socket, subscription──► intake ─┐
//! stream ──waker──► intake (eventfd) ────┼─► worker (one thread): clients, heads, timers ──► sockets (epoll, io_uring)
//! kernel ──readiness──► epoll ───────────┘
//! ```
//! A connection comes here when the head of its response is written, and stays until it is closed. A client that has
//! caught up is [`Parked`](crate::stream::subscription::parked::Parked): a descriptor and a few words. A [sweep](group)
//! writes a batch to all parked clients of a stream: read and framed once, one system call for each client or, with
//! io_uring, for many. Any other client is [`Active`](client::Active): its subscription is stepped, as `http` steps
//! those that stay there (TLS, HTTP/2, HTTP/1.0, lines of JSON).
//!
//! Knows subscriptions and sockets, and nothing of HTTP but the chunks of a body ([`chunk`]).

mod chunk;
mod client;
mod epoll;
mod group;
mod intake;
#[cfg(feature = "io-uring")]
mod io_uring;
mod new_client;
mod sockets;
mod threads;
mod wheel;
mod worker;

pub use new_client::{Guard, NewClient};
pub use threads::{Delivery, Driver};
