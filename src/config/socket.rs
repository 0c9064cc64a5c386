//! `unix_socket_mode` and `unix_socket_group` in `[http]`: access to Unix sockets.

use std::fmt;
use std::str::FromStr;

use super::units::serde_as_text;

/// Permissions of a socket's file, written in octal like `0660`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketMode(u32);

impl SocketMode {
    pub(crate) const fn bits(self) -> u32 {
        self.0
    }
}

impl FromStr for SocketMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_octal = (3..=4).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
        u32::from_str_radix(text, 8)
            .ok()
            .filter(|bits| is_octal && *bits <= 0o777)
            .map(Self)
            .ok_or_else(|| format!("{text:?} is not a mode; write permissions in octal like \"0660\""))
    }
}

impl fmt::Display for SocketMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

serde_as_text!(SocketMode, "permissions in octal in quotes, like \"0660\"");

/// Mode and group of the Unix sockets that the daemon binds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SocketAccess {
    /// The permissions; `None` leaves those of the umask.
    pub mode: Option<SocketMode>,
    /// The group, by name or number; `None` is that of the process.
    pub group: Option<String>,
}
