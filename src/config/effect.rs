//! When a change of a key can take effect: the words. [`reload_effect`](super::reload_effect) decides.

use std::fmt;

/// When a change takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// At the reload; open streams continue.
    Live,
    /// At the reload: the stream is rebuilt, and its clients move to the new one.
    Rebuild,
    /// At the next start of the daemon.
    Restart,
    /// At the reload: the key identifies a stream, so that one stream is removed and another one added.
    NewStream,
}

impl Effect {
    /// This effect, but `exception` where `holds` is true.
    pub(super) const fn unless(self, exception: Self, holds: bool) -> Effects {
        Effects {
            usual: self,
            exception: Some(exception),
            is_exception: holds,
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Live => "live",
            Self::Rebuild => "rebuild",
            Self::Restart => "restart",
            Self::NewStream => "new stream",
        })
    }
}

/// The effects that a change of a key can have, and the one that a given change has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effects {
    usual: Effect,
    exception: Option<Effect>,
    is_exception: bool,
}

impl Effects {
    /// The effect of the change that was compared.
    pub(crate) fn of_change(self) -> Effect {
        match self.exception {
            Some(exception) if self.is_exception => exception,
            _ => self.usual,
        }
    }
}

impl From<Effect> for Effects {
    fn from(usual: Effect) -> Self {
        Self {
            usual,
            exception: None,
            is_exception: false,
        }
    }
}

/// All effects that are possible, as in docs/configuration.md: `live`, or `live or rebuild`.
impl fmt::Display for Effects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.usual.fmt(f)?;
        self.exception
            .map_or(Ok(()), |exception| write!(f, " or {exception}"))
    }
}

/// A key of a section, compared in two settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ComparedKey {
    /// Its name within the section: `keepalive`, `cors.allow_origins`.
    pub name: String,
    /// Whether its values differ.
    pub differs: bool,
    /// When the change takes effect.
    pub effects: Effects,
}
