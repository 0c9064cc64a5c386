//! Which routes for operators a listener serves.

use super::state::AppState;
use crate::config::exposure::Exposed;

/// The kind of listener at which a request has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    /// For clients: streams, the page, and what is exposed.
    Public,
    /// For operators: their routes alone.
    Admin,
}

impl Surface {
    /// The prefix of the paths.
    pub(super) fn base_path(self, state: &AppState) -> String {
        match self {
            Self::Admin => String::new(),
            Self::Public => state.requests().base_path.as_str().to_owned(),
        }
    }

    /// Whether it serves this route.
    pub(super) fn serves(self, state: &AppState, route: Exposed) -> bool {
        match self {
            Self::Admin => true,
            Self::Public => state.requests().exposed.contains(&route),
        }
    }
}
