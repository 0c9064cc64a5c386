//! Certificates for the daemon's own TLS, and the part of its configuration that names them.

use super::scratch;
use super::secured::Authority;
use super::wait::secs;
use openssl::x509::X509Name;
use openssl::x509::extension::SubjectAlternativeName;
use std::fs;
use std::time::Duration;
use tempfile::TempDir;

pub const DAY: Duration = secs(24 * 60 * 60);

/// With TLS, the listeners for clients serve only health of these unless the configuration names them.
pub const EXPOSED: &str = "expose = [\"health\", \"about\", \"metrics\", \"streams\"]";

/// A directory of certificates that one authority has signed.
pub struct Certificates {
    directory: TempDir,
    authority: Authority,
}

impl Certificates {
    /// With `ca.pem`, and a certificate for 127.0.0.1 and localhost in `server.pem` and `server.key`.
    pub fn new() -> Certificates {
        let certificates = Certificates {
            directory: scratch::directory("certificates"),
            authority: Authority::new("an authority of the suite"),
        };
        fs::write(certificates.path("ca.pem"), certificates.authority.pem()).expect("written");
        certificates.write("server", &["localhost"], 90 * DAY);
        certificates
    }

    pub fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    pub fn ca(&self) -> Vec<u8> {
        self.authority.pem()
    }

    /// Writes `file.pem` and `file.key`, for 127.0.0.1 and these names; as tools that renew certificates do, by renaming.
    pub fn write(&self, file: &str, names: &[&str], valid: Duration) {
        let mut alternatives = SubjectAlternativeName::new();
        alternatives.ip("127.0.0.1");
        for name in names {
            alternatives.dns(name);
        }
        let common = names.first().copied().unwrap_or("server");
        let (certificate, key) = self.authority.sign_until(common, Some(&alternatives), valid);
        self.replace(&format!("{file}.pem"), &certificate);
        self.replace(&format!("{file}.key"), &key);
    }

    /// Writes `file.pem` and `file.key` of a client.
    pub fn write_client(&self, file: &str, common: &str, uri: &str) {
        let mut alternatives = SubjectAlternativeName::new();
        alternatives.uri(uri);
        let (certificate, key) = self.authority.sign_until(common, Some(&alternatives), 90 * DAY);
        self.replace(&format!("{file}.pem"), &certificate);
        self.replace(&format!("{file}.key"), &key);
    }

    /// The same of a client with this subject, as `[("CN", "alice")]`, and these alternative names.
    pub fn write_subject(
        &self,
        file: &str,
        subject: &[(&str, &str)],
        alternatives: &SubjectAlternativeName,
        valid: Duration,
    ) {
        let mut name = X509Name::builder().expect("a name");
        for (attribute, value) in subject {
            name.append_entry_by_text(attribute, value).expect("a name");
        }
        let (certificate, key) = self
            .authority
            .sign_subject(&name.build(), Some(alternatives), valid);
        self.replace(&format!("{file}.pem"), &certificate);
        self.replace(&format!("{file}.key"), &key);
    }

    pub fn replace(&self, name: &str, content: &[u8]) {
        let fresh = self.path(&format!("{name}.new"));
        fs::write(&fresh, content).expect("written");
        fs::rename(fresh, self.path(name)).expect("renamed");
    }

    /// `[http.tls]` on a free port with the certificate `server` and these lines, to be put behind a configuration.
    pub fn section(&self, lines: &str) -> String {
        format!(
            "\n[http.tls]\nlisten = [\"127.0.0.1:0\"]\ncertificates = [{}]\n{lines}\n",
            self.pair("server", "")
        )
    }

    /// A configuration with this section, and with the routes for operators where clients are served.
    pub fn behind(&self, text: &str, lines: &str) -> String {
        let http = format!("[http]\n{EXPOSED}\n");
        text.replacen("[http]\n", &http, 1) + &self.section(lines)
    }

    /// An entry of `certificates`.
    pub fn pair(&self, file: &str, more: &str) -> String {
        format!(
            "{{ cert_file = {:?}, key_file = {:?}{more} }}",
            self.path(&format!("{file}.pem")),
            self.path(&format!("{file}.key"))
        )
    }
}
