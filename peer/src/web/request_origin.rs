//! Whether a request may come from a page of this server: the name it was sent to, and the site it was made by. No I/O.
//!
//! A page elsewhere can make a browser send requests here: to this machine's address, and with DNS rebinding under a name
//! of its own. Cookies are `SameSite=Strict`; these two checks hold without them.

use std::net::{IpAddr, Ipv6Addr};

/// Returns whether a `Host` is an address, or a name of this machine: no other name can lead here by rebinding.
pub(super) fn is_own_host(host: &str, own_names: &[String]) -> bool {
    if let Some(bracketed) = host.strip_prefix('[') {
        let address = bracketed.split_once(']');
        return address.is_some_and(|(address, port)| address.parse::<Ipv6Addr>().is_ok() && is_port(port));
    }
    let (name, port) = host.split_at(host.find(':').unwrap_or(host.len()));
    if !is_port(port) {
        return false;
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    name.parse::<IpAddr>().is_ok() || own_names.iter().any(|own| own.eq_ignore_ascii_case(name))
}

fn is_port(text: &str) -> bool {
    text.is_empty() || text.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok())
}

/// The headers that tell by which site a request was made.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RequestOrigin<'a> {
    /// The scheme of this server's own addresses, `https` or `http`.
    pub(super) scheme: &'a str,
    pub(super) host: &'a str,
    pub(super) origin: Option<&'a str>,
    pub(super) fetch_site: Option<&'a str>,
}

impl RequestOrigin<'_> {
    /// Returns whether a request that changes something may be obeyed: it was made by a page of this server, by the user
    /// who typed its address, or by no browser.
    pub(super) fn may_change(self) -> bool {
        match self.fetch_site {
            // `null` is a form of our own pages, too: with `no-referrer` browsers keep its origin to themselves.
            Some("same-origin" | "none") => self.origin.is_none_or(|origin| origin == "null" || self.is_own(origin)),
            Some(_) => false,
            // Browsers without that header send the origin with what changes something.
            None => self.origin.is_none_or(|origin| self.is_own(origin)),
        }
    }

    fn is_own(self, origin: &str) -> bool {
        let host = origin.strip_prefix(self.scheme).and_then(|rest| rest.strip_prefix("://"));
        host.is_some_and(|host| host.eq_ignore_ascii_case(self.host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_own_names_lead_here() {
        let own = ["localhost".to_owned(), "Desk".to_owned(), "desk.local".to_owned()];
        for host in
            ["192.0.2.1", "192.0.2.1:8443", "[2001:db8::1]", "[::1]:8443", "localhost:1", "desk", "DESK.local.:80"]
        {
            assert!(is_own_host(host, &own), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:8443",
            "192.0.2.1.evil.example",
            "[::1",
            "[evil]",
            "[::1]evil",
            "localhost:x",
            "localhost:99999",
            "a@localhost",
            "localhost evil",
            "desk.local..",
            "::1",
            "127.1",
        ] {
            assert!(!is_own_host(host, &own), "{host}");
        }
    }

    #[test]
    fn only_own_pages_and_programs_change_anything() {
        let host = "192.0.2.1:8443";
        let of = |origin, fetch_site| RequestOrigin { scheme: "https", host, origin, fetch_site }.may_change();
        assert!(of(None, None), "curl");
        assert!(of(Some("https://192.0.2.1:8443"), None) && of(Some("https://192.0.2.1:8443"), Some("same-origin")));
        assert!(of(Some("null"), Some("same-origin")), "a form under no-referrer");
        assert!(of(None, Some("none")));
        for (origin, site) in [
            (Some("https://evil.example"), None),
            (Some("https://evil.example"), Some("cross-site")),
            (Some("https://evil.example"), Some("same-origin")),
            (Some("https://192.0.2.1:9999"), Some("same-site")),
            (Some("http://192.0.2.1:8443"), None),
            (Some("null"), None),
            (Some("null"), Some("cross-site")),
            (None, Some("cross-site")),
            (None, Some("same-site")),
            (None, Some("")),
        ] {
            assert!(!of(origin, site), "{origin:?} {site:?}");
        }
    }

    #[test]
    fn a_plain_server_has_plain_origins() {
        let of = |origin| {
            let host = "127.0.0.1:8445";
            RequestOrigin { scheme: "http", host, origin: Some(origin), fetch_site: None }.may_change()
        };
        assert!(of("http://127.0.0.1:8445"));
        for other in ["https://127.0.0.1:8445", "http://127.0.0.1:8446", "http:127.0.0.1:8445", "https", "http"] {
            assert!(!of(other), "{other}");
        }
    }
}
