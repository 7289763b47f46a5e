//! Hosts as clients write them: in server names, `Host` headers and CONNECT targets.

use crate::model::DomainName;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest text taken for a name: RFC 1035 allows 253 characters, longer ones name no host.
const MAX_NAME: usize = 255;

/// A host as a client wrote it. A client can write anything: whatever is neither address nor host name is kept as an
/// escaped [`DomainName`] that no pattern matches.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host {
    /// The name or literal address.
    pub name: HostName,
    /// The port after the colon, if one was written.
    pub port: Option<u16>,
}

/// What stands before the port of a [`Host`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostName {
    /// A name, lower case, escaped.
    Name(DomainName),
    /// A literal address (in brackets for IPv6).
    Ip(IpAddr),
}

impl Host {
    /// Reads `host[:port]` (RFC 3986 section 3.2). `None` if there is no text or far too much of it.
    pub fn from_wire(bytes: &[u8]) -> Option<Host> {
        let bytes = bytes.trim_ascii();
        if let Some(inner) = bytes.strip_prefix(b"[")
            && let Some(close) = inner.iter().position(|&b| b == b']')
            && let Some((literal, rest)) = inner.split_at_checked(close)
            && let Some(ip) = std::str::from_utf8(literal).ok().and_then(|text| text.parse::<Ipv6Addr>().ok())
            && let Some(port) = rest.get(1..).and_then(optional_port)
        {
            return Some(Host { name: HostName::Ip(ip.into()), port });
        }
        let split = bytes.iter().position(|&b| b == b':').and_then(|colon| bytes.split_at_checked(colon));
        if let Some((name, tail)) = split
            && let Some(port) = optional_port(tail)
        {
            return Some(Host { name: HostName::from_wire(name)?, port });
        }
        Some(Host { name: HostName::from_wire(bytes)?, port: None })
    }
}

/// The port of `:port`; `Some(None)` when there is none or it is empty, `None` when it is no port.
fn optional_port(tail: &[u8]) -> Option<Option<u16>> {
    match tail.split_first() {
        None | Some((b':', [])) => Some(None),
        Some((b':', digits)) if digits.iter().all(u8::is_ascii_digit) => {
            std::str::from_utf8(digits).ok()?.parse().ok().map(Some)
        }
        Some(_) => None,
    }
}

impl HostName {
    /// Reads a name or dotted IPv4 address.
    fn from_wire(bytes: &[u8]) -> Option<HostName> {
        let v4 = std::str::from_utf8(bytes).ok().and_then(|text| text.parse::<Ipv4Addr>().ok());
        match v4 {
            Some(ip) => Some(HostName::Ip(ip.into())),
            None => name_from_wire(bytes).map(HostName::Name),
        }
    }

    /// As it stands in a Host field: IPv6 addresses in brackets.
    pub fn in_uri(&self) -> String {
        match self {
            HostName::Ip(IpAddr::V6(ip)) => format!("[{ip}]"),
            other => other.to_string(),
        }
    }

    /// The name, unless it is a literal address.
    pub fn as_name(&self) -> Option<&DomainName> {
        match self {
            HostName::Name(name) => Some(name),
            HostName::Ip(_) => None,
        }
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostName::Name(name) => name.fmt(f),
            HostName::Ip(ip) => ip.fmt(f),
        }
    }
}

impl fmt::Display for Host {
    /// `host` or `host:port`, IPv6 addresses in brackets when a port follows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.name, self.port) {
            (name, None) => name.fmt(f),
            (HostName::Ip(IpAddr::V6(ip)), Some(port)) => write!(f, "[{ip}]:{port}"),
            (name, Some(port)) => write!(f, "{name}:{port}"),
        }
    }
}

/// A dotted text as a domain name, every odd byte escaped; `None` if it is empty or longer than any name.
///
/// A text with an empty or overlong label becomes one label with its dots escaped, so that it can be read but never
/// equals a name: `.example.org` must not pass for `example.org`.
pub(super) fn name_from_wire(text: &[u8]) -> Option<DomainName> {
    let text = text.strip_suffix(b".").unwrap_or(text);
    if text.is_empty() || text.len() > MAX_NAME {
        return None;
    }
    if let Some(name) = DomainName::of_host(text) {
        return Some(name);
    }
    let labels = || text.split(|&b| b == b'.');
    Some(if labels().all(|label| (1..=63).contains(&label.len())) {
        DomainName::from_labels(labels())
    } else {
        DomainName::from_labels([text])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    #[rustfmt::skip]
    fn a_host_is_split_from_its_port_and_garbage_stays_readable_but_harmless() {
        for (wire, expected) in [
            ("Example.ORG",           Some("example.org")),
            (" example.org. ",        Some("example.org")),
            ("example.org:8443",      Some("example.org:8443")),
            ("example.org:",          Some("example.org")),
            ("192.0.2.1:80",          Some("192.0.2.1:80")),
            ("[2001:db8::1]:443",     Some("[2001:db8::1]:443")),
            ("[2001:db8::1]",         Some("2001:db8::1")),
            ("example.org:99999",     Some("example.org:99999")), // no port: the colon is part of the garbage
            ("a b",                   Some("a\\032b")),
            (".example.org",          Some("\\.example\\.org")),
            ("a..b",                  Some("a\\.\\.b")),
            ("x\u{1b}[2J.net",        Some("x\\027[2j.net")),
            ("",                      None),
            (".",                     None),
        ] {
            assert_eq!(Host::from_wire(wire.as_bytes()).map(|host| host.to_string()).as_deref(), expected, "{wire:?}");
        }
        assert_eq!(Host::from_wire(b"example.org:99999").unwrap().port, None);
        assert_eq!(Host::from_wire(b"[FE80::1]:80").unwrap().name.in_uri(), "[fe80::1]");
        assert_eq!(Host::from_wire(b"192.0.2.1:80").unwrap().name, HostName::Ip("192.0.2.1".parse().unwrap()));
        assert_eq!(Host::from_wire(&[b'a'; 256]), None);
    }

    proptest! {
        /// Names that are taken as a whole are those that their labels make, and no others are.
        #[test]
        fn a_plain_host_name_is_its_own_text(
            labels in prop::collection::vec("[a-z0-9_-]{0,3}|[a-z]{62,65}|[ -~]{1,3}", 1..4),
        ) {
            let text = labels.join(".").into_bytes();
            let plain = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
            let mut parts = text.split(|&b| b == b'.');
            let is_plain = parts.all(|part| (1..=63).contains(&part.len()) && part.iter().all(|&b| plain(b)));
            let whole = DomainName::of_host(&text);
            prop_assert_eq!(whole.is_some(), is_plain);
            if let Some(whole) = whole {
                prop_assert_eq!(whole, DomainName::from_labels(text.split(|&b| b == b'.')));
            }
        }
    }
}
