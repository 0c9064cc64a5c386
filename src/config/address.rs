//! Addresses as text.

/// Whether `text` is `host:port` with a port of at least `least`.
pub(super) fn check_host_port(text: &str, least: u16) -> Result<(), String> {
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err("has no port".to_owned());
    };
    if host.is_empty() || host.contains(char::is_whitespace) || (host.contains(':') && !host.starts_with('['))
    {
        return Err("has no proper host".to_owned());
    }
    match port.parse::<u16>() {
        Ok(port) if port >= least => Ok(()),
        _ => Err(format!("has no proper port ({port:?})")),
    }
}
