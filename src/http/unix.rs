//! Unix sockets: their files, and the permissions of those.

use std::fmt;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use log::warn;
use nix::unistd::Group;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::config::socket::{SocketAccess, SocketMode};

/// The remedy if the mode or group of a socket cannot be set.
pub(super) const ACCESS_REMEDY: &str = "correct unix_socket_mode and unix_socket_group in [http]; the daemon can give its \
     sockets only groups that it is a member of (under systemd SupplementaryGroups=, see docs/operations.md)";

/// The path of a Unix socket that this process has bound; removed when dropped.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode, so that a socket of another process at the same path is not removed.
    made: (u64, u64),
}

impl SocketFile {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn made(path: &Path) -> io::Result<(u64, u64)> {
        let found = path.symlink_metadata()?;
        Ok((found.dev(), found.ino()))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Another process may have removed it, or replaced it.
        if Self::made(&self.path).is_ok_and(|made| made == self.made)
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            warn!("{}: {error}", self.path.display());
        }
    }
}

/// The mode or group of a socket's file could not be set.
#[derive(Debug)]
struct AccessError(String);

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for AccessError {}

/// Whether the error is an [`AccessError`].
pub(super) fn is_about_access(error: &io::Error) -> bool {
    let inner = error.get_ref();
    inner
        .and_then(|inner| inner.downcast_ref::<AccessError>())
        .is_some()
}

/// Binds the path and listens with this backlog.
pub(super) fn bind(
    path: &Path,
    access: &SocketAccess,
    backlog: i32,
) -> io::Result<(UnixListener, SocketFile)> {
    // A socket that refuses connections was left by a process that could not remove it.
    let is_socket = path
        .symlink_metadata()
        .is_ok_and(|found| found.file_type().is_socket());
    if is_socket && UnixStream::connect(path).is_err() {
        std::fs::remove_file(path)?;
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile {
        path: path.to_owned(),
        made: SocketFile::made(path)?,
    };
    // No client can connect before it listens, whatever the umask allows.
    set_access(path, access)?;
    socket.listen(backlog)?;
    Ok((socket.into(), file))
}

/// Gives the file of a socket the mode and group that are set. While its group changes, no group has access.
pub(crate) fn set_access(path: &Path, access: &SocketAccess) -> io::Result<()> {
    let failed = |what: String| io::Error::other(AccessError(what));
    let chmod = |bits| {
        std::fs::set_permissions(path, Permissions::from_mode(bits))
            .map_err(|error| failed(format!("mode {bits:04o}: {error}")))
    };
    let found = path.symlink_metadata()?;
    let before = found.mode() & 0o777;
    let after = access.mode.map_or(before, SocketMode::bits);
    if let Some(name) = &access.group {
        let group = group(name).map_err(failed)?;
        if group != found.gid() {
            chmod(before & after & !0o070)?;
            if let Err(error) = chown(path, None, Some(group)) {
                chmod(before)?;
                return Err(failed(format!("group {name:?}: {error}")));
            }
            return chmod(after);
        }
    }
    if after == before { Ok(()) } else { chmod(after) }
}

pub(crate) fn group(name: &str) -> Result<u32, String> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) => Err(format!("group {name:?} does not exist")),
        Err(error) => Err(format!("group {name:?}: {error}")),
    }
}
