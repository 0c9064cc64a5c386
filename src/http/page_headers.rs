//! Header fields of the page's files and of other HTML: what may run, load and frame it, and what it may use.

use http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::UiSettings;
use crate::config::validate_ui::NO_ANCESTOR;

/// Features of browsers that the page does not use, and that nothing it shows may ask for (Permissions Policy, section
/// 5.2). Left to the page are the clipboard (to write), full screen, and keeping the screen on.
const PERMISSIONS: &str = "accelerometer=(), autoplay=(), camera=(), clipboard-read=(), display-capture=(), \
     encrypted-media=(), gamepad=(), geolocation=(), gyroscope=(), hid=(), idle-detection=(), local-fonts=(), \
     magnetometer=(), microphone=(), midi=(), payment=(), picture-in-picture=(), publickey-credentials-get=(), serial=(), \
     usb=(), window-management=(), xr-spatial-tracking=()";

const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");

/// The header fields, as the settings want them.
#[derive(Debug, Clone)]
pub(super) struct PageHeaders {
    /// The Content-Security-Policy: the page shows data of unknown origin, so nothing but its own files may run or load.
    policy: HeaderValue,
}

impl From<&UiSettings> for PageHeaders {
    fn from(ui: &UiSettings) -> Self {
        let ancestors = match ui.frame_ancestors.as_slice() {
            [only] if only == NO_ANCESTOR => "'none'".to_owned(),
            others => {
                let own = std::iter::once("'self'");
                let all = own.chain(others.iter().map(String::as_str));
                all.collect::<Vec<_>>().join(" ")
            }
        };
        let policy =
            format!("default-src 'self'; frame-ancestors {ancestors}; base-uri 'none'; form-action 'none'");
        Self {
            // Origins that are valid have no other characters.
            policy: policy.parse().unwrap_or(HeaderValue::from_static(
                "default-src 'self'; frame-ancestors 'none'",
            )),
        }
    }
}

impl PageHeaders {
    /// Sets them.
    pub(super) fn add_to(&self, headers: &mut HeaderMap) {
        headers.insert(CONTENT_SECURITY_POLICY, self.policy.clone());
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert(PERMISSIONS_POLICY, HeaderValue::from_static(PERMISSIONS));
    }

    /// Differs where the header fields do: a client that has a file keeps those that came with it.
    pub(super) fn salt(&self) -> u32 {
        crc32fast::hash(self.policy.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_the_named_origins_may_frame_the_page_and_no_others() {
        let policy = |ancestors: &[&str]| {
            let ui = UiSettings {
                frame_ancestors: ancestors.iter().map(|&ancestor| ancestor.to_owned()).collect(),
                ..UiSettings::default()
            };
            let mut headers = HeaderMap::new();
            PageHeaders::from(&ui).add_to(&mut headers);
            let policy = headers[CONTENT_SECURITY_POLICY]
                .to_str()
                .expect("text")
                .to_owned();
            policy
                .split("; ")
                .find_map(|rule| rule.strip_prefix("frame-ancestors "))
                .expect("a rule")
                .to_owned()
        };
        assert_eq!(policy(&[]), "'self'");
        assert_eq!(policy(&["none"]), "'none'");
        assert_eq!(
            policy(&["https://intranet.example.org", "https://*.example.com"]),
            "'self' https://intranet.example.org https://*.example.com"
        );
    }
}
