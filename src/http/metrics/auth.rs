//! Metrics of authentication: refused clients, and keys that are fetched.

use std::fmt;

use super::families::Families;
use crate::auth::status::AuthStatus;

pub(super) fn write(status: &AuthStatus, families: &mut Families<'_>) -> fmt::Result {
    families.counter(
        "auth_refused",
        "Clients that may not read a stream, by reason",
        status
            .refused()
            .map(|(reason, count)| (vec![("reason", reason.as_str().to_owned())], count)),
    )?;
    let (fetched, failed) = status.fetches();
    families.counter(
        "auth_key_fetches",
        "Requests for the keys of tokens, by result",
        [("ok", fetched), ("failed", failed)]
            .map(|(result, count)| (vec![("result", result.to_owned())], count)),
    )?;
    families.figure("auth_keys", "Keys that tokens are verified with", status.keys())?;
    families.figure(
        "auth_keys_failing_seconds",
        "How long the keys of tokens cannot be fetched; 0 while they can",
        status.failing().as_secs_f64(),
    )
}
