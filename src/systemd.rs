//! What systemd is told (`sd_notify(3)`). Outside systemd every call does nothing.
#![forbid(unsafe_code)]

use std::time::Duration;

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

/// The daemon lives.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// How long systemd waits for the next [`alive`]; `None` where it does not.
#[must_use]
pub fn watchdog_period() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|period| !period.is_zero())
}

/// Whether there is anybody to tell.
#[must_use]
pub fn is_listening() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
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
