//! Hosts that resolve names over an encrypted transport: why their names are missing.

use super::circumstances::Evidence;
use super::classify::Ruling;
use super::findings::Judged;
use super::judge::Case;
use super::row::{NameEvidence, NameEvidenceSource};
use crate::audit::{EncryptedDns, EncryptedDnsKind, EvidenceFrame};
use crate::flow::{Flow, capture_name};
use crate::matrix::PublicResolvers;
use crate::model::{AppProtocol, DomainName, Transport};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;

/// DNS over TLS and over QUIC (RFC 7858, RFC 9250).
const PORT: u16 = 853;
const HTTPS: u16 = 443;
/// Hosts that the first lines of a report name one by one.
const MOST_REMARKS: usize = 4;
/// Resolvers that are named of one host.
const MOST_TITLES: usize = 4;

/// Which hosts do, how, and whom they ask: by host, kind and resolver.
#[derive(Default)]
pub(super) struct Encrypted {
    uses: BTreeMap<(IpAddr, EncryptedDnsKind, String), EncryptedDns>,
}

impl Encrypted {
    /// Whether a flow may count at all: only those that an audited host began and that got through do, since an attempt that was
    /// blocked has hidden nothing.
    pub(super) fn may_count(flow: &Flow<'_>, ruling: &Ruling, case: &Case<'_>) -> bool {
        flow.worked() && ruling.from_roles.meets(case.site.subjects())
    }

    /// Counts a judged flow that [may count](Encrypted::may_count); they come in the order of their rows.
    pub(super) fn count(&mut self, one: &Judged<'_>) {
        let (flow, case) = (one.flow, one.case);
        let Some(seen) = Seen::of(one) else { return };
        let Some((kind, resolver)) = seen.recognise(PublicResolvers::bundled()) else { return };
        let entry = self.uses.entry((one.host, kind, resolver.clone())).or_insert_with(|| {
            let mut evidence: Vec<EvidenceFrame> = flow
                .proofs()
                .into_iter()
                .map(|(_, point)| EvidenceFrame {
                    capture: capture_name(case.captures, point.capture),
                    frame: point.frame,
                })
                .collect();
            evidence.dedup();
            let [roles, _] = one.roles();
            EncryptedDns {
                host: one.host,
                roles,
                kind,
                resolver,
                flows: 0,
                first_ts: flow.first_ts,
                last_ts: flow.last_ts,
                evidence,
            }
        });
        entry.flows += 1;
        entry.first_ts = entry.first_ts.min(flow.first_ts);
        entry.last_ts = entry.last_ts.max(flow.last_ts);
    }

    /// Adds what later flows came to.
    pub(super) fn add(&mut self, later: Encrypted) {
        for (key, other) in later.uses {
            match self.uses.entry(key) {
                Entry::Vacant(place) => {
                    place.insert(other);
                }
                Entry::Occupied(mut known) => {
                    let known = known.get_mut();
                    known.flows += other.flows;
                    known.first_ts = known.first_ts.min(other.first_ts);
                    known.last_ts = known.last_ts.max(other.last_ts);
                }
            }
        }
    }

    /// For each host, in words, why its names are missing.
    pub(super) fn reasons(&self) -> BTreeMap<IpAddr, String> {
        let mut titles: BTreeMap<IpAddr, Vec<String>> = BTreeMap::new();
        for used in self.uses.values() {
            titles.entry(used.host).or_default().push(used.title());
        }
        titles.into_iter().map(|(host, titles)| (host, reason(host, &titles))).collect()
    }

    /// All of them, by host, kind and resolver.
    pub(super) fn list(&self) -> Vec<EncryptedDns> {
        self.uses.values().cloned().collect()
    }

    /// What the reader must know: a line for each of the first hosts, one for the rest.
    pub(super) fn remarks(&self) -> Vec<String> {
        let reasons = self.reasons();
        let more = reasons.len().saturating_sub(MOST_REMARKS);
        let mut lines: Vec<String> = reasons.into_values().take(MOST_REMARKS).collect();
        if more > 0 {
            lines.push(format!("{more} more audited hosts resolve names over encrypted DNS"));
        }
        lines
    }
}

fn reason(host: IpAddr, titles: &[String]) -> String {
    let (told, more) = titles.split_at(titles.len().min(MOST_TITLES));
    let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
    format!(
        "{host} resolves names over encrypted DNS ({}{more}): no capture shows what they are",
        told.join(", ")
    )
}

/// What tells how a flow carries DNS in secret.
struct Seen<'a> {
    transport: Transport,
    port: u16,
    /// The server, or the proxy that was asked for it.
    ip: IpAddr,
    /// Whether the first bytes are those of TLS, in a proxy's tunnel, too.
    tls: bool,
    /// Whether they are those of QUIC.
    quic: bool,
    /// Whether they are not there, or nothing known.
    untold: bool,
    proxied: bool,
    alpn: &'a [String],
    /// The one name by which the destination is known.
    name: Option<&'a DomainName>,
}

impl<'a> Seen<'a> {
    /// None where it cannot: what speaks something else, or nothing known at a port that tells nothing.
    fn of(one: &Judged<'a>) -> Option<Self> {
        let (flow, evidence) = (one.flow, one.evidence);
        let proxied = evidence.proxied();
        let (transport, port) = match evidence.target() {
            Some(target) => (Transport::Tcp, target.port),
            None => (flow.proto, flow.to.port),
        };
        let in_tunnel = proxied && flow.server_name().is_some();
        let tls = flow.app == Some(AppProtocol::Tls) || in_tunnel;
        let quic = flow.app == Some(AppProtocol::Quic);
        let untold = flow.app.is_none() || (proxied && !in_tunnel);
        if !(tls || quic || (untold && matches!(port, PORT | HTTPS))) {
            return None;
        }
        Some(Seen {
            transport,
            port,
            ip: flow.to.ip,
            tls,
            quic,
            untold,
            proxied,
            alpn: flow.alpn(),
            name: known_name(flow, evidence),
        })
    }

    /// How, and to whom. An offered ALPN goes before the port, and what the first bytes show before both.
    fn recognise(&self, resolvers: &PublicResolvers) -> Option<(EncryptedDnsKind, String)> {
        use EncryptedDnsKind::{DnsOverHttps, DnsOverQuic, DnsOverTls};
        let offers = |protocol: &str| self.alpn.iter().any(|offered| offered == protocol);
        let who = || self.name.map_or_else(|| self.ip.to_string(), ToString::to_string);
        match (self.transport, self.port) {
            _ if self.tls && offers("dot") => return Some((DnsOverTls, who())),
            _ if self.quic && offers("doq") => return Some((DnsOverQuic, who())),
            (Transport::Tcp, PORT) if self.tls || self.untold => return Some((DnsOverTls, who())),
            (Transport::Udp, PORT) if self.quic || self.untold => return Some((DnsOverQuic, who())),
            _ => {}
        }
        let offers_http = self.alpn.is_empty() || ["h2", "h3", "http/1.1"].into_iter().any(offers);
        if !offers_http || !(self.tls || self.quic || (self.untold && self.port == HTTPS)) {
            return None;
        }
        match self.name {
            Some(name) => resolvers.named(name).then(|| (DnsOverHttps, name.to_string())),
            None if self.port == HTTPS && !self.proxied => {
                Some((DnsOverHttps, format!("{} ({})", self.ip, resolvers.at(self.ip)?)))
            }
            None => None,
        }
    }
}

/// The one name by which a flow's destination is known: what the client wrote, unless that may be a cover; else what
/// all evidence agrees on.
fn known_name<'a>(flow: &'a Flow<'_>, evidence: &'a Evidence<'_>) -> Option<&'a DomainName> {
    if let Some(name) = flow.server_name().filter(|_| !flow.ech()) {
        return Some(name);
    }
    let answered =
        |name: &&NameEvidence| matches!(name.source, NameEvidenceSource::Dns | NameEvidenceSource::Proxy);
    let further = evidence.further_names().iter().filter(answered).map(|name| &name.name);
    let mut told = evidence.named().filter_map(|reading| reading.names.first()).chain(further);
    match told.next() {
        Some(first) => told.all(|name| name == first).then_some(first),
        None => flow.server_name(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[rustfmt::skip]
    fn encrypted_dns_is_told_by_alpn_port_or_who_answers() {
        use Transport::{Tcp, Udp};
        const OWN: &str = "9.9.9.9";
        const ELSEWHERE: &str = "203.0.113.9";
        for (what, transport, port, ip, app, alpn, name, expected) in [
            ("port 853",                     Tcp, 853,  ELSEWHERE, "tls",  "",            None,                   Some("DNS over TLS to 203.0.113.9")),
            ("port 853, hello not seen",     Tcp, 853,  ELSEWHERE, "",     "",            None,                   Some("DNS over TLS to 203.0.113.9")),
            ("port 853, something else",     Tcp, 853,  ELSEWHERE, "ssh",  "",            None,                   None),
            ("ALPN dot elsewhere",           Tcp, 443,  ELSEWHERE, "tls",  "dot",         Some("dns.example"),    Some("DNS over TLS to dns.example")),
            ("UDP port 853",                 Udp, 853,  ELSEWHERE, "",     "",            None,                   Some("DNS over QUIC to 203.0.113.9")),
            ("ALPN doq elsewhere",           Udp, 784,  ELSEWHERE, "quic", "doq",         None,                   Some("DNS over QUIC to 203.0.113.9")),
            ("HTTPS to a resolver",          Tcp, 443,  ELSEWHERE, "tls",  "h2 http/1.1", Some("dns.google"),     Some("DNS over HTTPS to dns.google")),
            ("HTTP/3 to a resolver",         Udp, 443,  ELSEWHERE, "quic", "h3",          Some("dns.google"),     Some("DNS over HTTPS to dns.google")),
            ("an ALPN that is not HTTP's",   Tcp, 443,  ELSEWHERE, "tls",  "imap",        Some("dns.google"),     None),
            ("HTTPS to its address",         Tcp, 443,  OWN,       "tls",  "h2",          None,                   Some("DNS over HTTPS to 9.9.9.9 (Quad9)")),
            ("its address, midstream",       Tcp, 443,  OWN,       "",     "",            None,                   Some("DNS over HTTPS to 9.9.9.9 (Quad9)")),
            ("another name at its address",  Tcp, 443,  OWN,       "tls",  "h2",          Some("www.example"),    None),
            ("another port of its address",  Tcp, 8443, OWN,       "tls",  "h2",          None,                   None),
            ("HTTP in the clear",            Tcp, 443,  OWN,       "http", "",            None,                   None),
            ("HTTPS to anybody",             Tcp, 443,  ELSEWHERE, "tls",  "h2",          Some("www.example"),    None),
        ] {
            let alpn: Vec<String> = alpn.split_whitespace().map(str::to_owned).collect();
            let name: Option<DomainName> = name.map(|name| name.parse().unwrap());
            let seen = Seen {
                transport, port, ip: ip.parse().unwrap(), tls: app == "tls", quic: app == "quic", untold: app.is_empty(),
                proxied: false, alpn: &alpn, name: name.as_ref(),
            };
            let got = seen.recognise(PublicResolvers::bundled());
            assert_eq!(got.map(|(kind, who)| format!("{} to {who}", kind.title())).as_deref(), expected, "{what}");
        }
    }
}
