//! A build without TLS: URLs of https are refused.

use std::convert::Infallible;
use std::error::Error;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::https::Files;

/// There is none.
#[derive(Clone)]
pub(super) struct Tls(Infallible);

impl Tls {
    /// # Errors
    /// Always.
    pub(super) fn new(_: &str, _: &Files) -> Result<Self, String> {
        Err(
            "https needs TLS, which is not part of this build; install one with the cargo feature rustls"
                .to_owned(),
        )
    }

    #[expect(clippy::unused_async, reason = "with rustls it waits")]
    pub(super) async fn connect<I>(&self, _: I) -> Result<I, String>
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        match self.0 {}
    }
}

pub(super) fn explain(_: &(dyn Error + 'static)) -> Option<String> {
    None
}
