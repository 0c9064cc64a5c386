//! What the library's words for a failed connection come from, with the remedy.

use crate::kafka::auth_error::Refusal;
#[cfg(feature = "tls")]
use crate::kafka::probe;
use crate::kafka::security::Access;

/// Who refuses what, where that is the cause. May ask a broker for its certificate.
pub(super) fn refusal(cause: &str, access: &Access) -> Option<Refusal> {
    Refusal::from_transport(cause, access, |broker| look(broker, access))
}

/// A closer look at a certificate that did not pass.
#[cfg(feature = "tls")]
fn look(broker: &str, access: &Access) -> Option<Refusal> {
    access.tls()?;
    let error = probe::ask(broker, access).err()?;
    probe::refusal(&error).cloned()
}

#[cfg(not(feature = "tls"))]
fn look(_: &str, _: &Access) -> Option<Refusal> {
    None
}
