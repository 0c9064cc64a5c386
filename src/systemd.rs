//! What systemd is told (`sd_notify(3)`). Outside systemd every call does nothing.
#![forbid(unsafe_code)]

use log::warn;
use sd_notify::NotifyState;

/// The daemon serves.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The daemon reads its configuration again; [`ready`] ends it.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => warn!("the monotonic clock: {error}"),
    }
}

/// The daemon ends.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// One line for `systemctl status`.
pub fn status(line: &str) {
    // A line end would begin another assignment.
    let line = line.replace(char::is_control, " ");
    tell(&[NotifyState::Status(&line)]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!("telling systemd: {error}");
    }
}
