//! In place of TLS where the build has none.
#![expect(
    clippy::unused_async,
    clippy::unused_self,
    clippy::unnecessary_wraps,
    reason = "the same functions as with rustls"
)]

use std::sync::Arc;

use crate::auth::Auth;
use crate::config::HttpSettings;
use crate::http::tls_status::{CertificateFigures, TlsStatus};

/// Nothing: the configuration has no `[http.tls]`.
#[derive(Debug)]
pub(crate) struct Prepared;

impl Prepared {
    /// Succeeds.
    ///
    /// # Errors
    /// None.
    pub(crate) fn read(_: &HttpSettings) -> Result<Option<Self>, String> {
        Ok(None)
    }

    /// None.
    pub(crate) fn certificates(&self) -> &[CertificateFigures] {
        &[]
    }

    /// None.
    pub(crate) fn authorities(&self) -> Vec<CertificateFigures> {
        Vec::new()
    }
}

/// Nothing: no listener has TLS.
#[derive(Debug)]
pub struct Tls;

impl Tls {
    /// Nothing.
    pub fn new(_: Arc<TlsStatus>, _: Arc<Auth>) -> Self {
        Self
    }

    /// Does nothing.
    pub(crate) fn apply(&self, _: Option<Prepared>) {}

    /// Ends at once.
    pub(crate) async fn watch(self: Arc<Self>) {}

    /// Ends at once.
    pub(in crate::http) async fn wait(&self) {}
}
