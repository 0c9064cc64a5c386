//! Checks the certificates of `[http.tls]`, and of the CAs of clients: whether they can be used, and for how long.

use std::time::Duration;

use super::report::{Finding, Report};
use crate::config::HttpSettings;
use crate::http::tls::Prepared;
use crate::http::tls_status::CertificateFigures;

/// A certificate that expires sooner should have been renewed: CAs with automatic renewal do so a month before.
const SOON: Duration = Duration::from_secs(21 * DAY);

const DAY: u64 = 24 * 60 * 60;

pub(super) fn check(http: &HttpSettings, report: &mut Report) {
    match Prepared::read(http) {
        Ok(None) => {}
        Ok(Some(prepared)) => {
            for certificate in prepared.certificates() {
                report.add(expiry(certificate));
            }
            for authority in prepared.authorities() {
                report.add(authority_expiry(&authority));
            }
        }
        Err(why) => report.add(Finding::fail(
            "certificates",
            why,
            "correct certificates and client_ca_file in [http.tls]",
        )),
    }
}

fn expiry(certificate: &CertificateFigures) -> Finding {
    const REMEDY: &str = "renew it; the daemon reads the new files within seconds";
    let check = format!("certificate {}", certificate.file);
    let names = match certificate.names.as_slice() {
        [] => "every name".to_owned(),
        names => names.join(", "),
    };
    let Some(left) = certificate.left() else {
        return Finding::fail(check, format!("for {names}: has expired"), REMEDY);
    };
    let found = format!("for {names}: valid for {} days", left.as_secs() / DAY);
    if left < SOON {
        Finding::warn(check, found, REMEDY)
    } else {
        Finding::ok(check, found)
    }
}

/// That of a CA, whose validity no client certificate is checked against.
fn authority_expiry(certificate: &CertificateFigures) -> Finding {
    const REMEDY: &str =
        "put the certificate of the CA that has followed it into client_ca_file of [http.tls]";
    let check = format!("client CA {}", certificate.file);
    let name = certificate.names.join(", ");
    let Some(left) = certificate.left() else {
        return Finding::warn(
            check,
            format!("{name}: has expired; certificates that it has signed are accepted all the same"),
            REMEDY,
        );
    };
    let found = format!("{name}: valid for {} days", left.as_secs() / DAY);
    if left < SOON {
        Finding::warn(check, found, REMEDY)
    } else {
        Finding::ok(check, found)
    }
}
