//! All that a verdict may depend on. A flow is judged by its circumstances alone, so flows of equal circumstances need
//! judging once.

use super::fit::Ready;
use super::index::RuleIndex;
use crate::flow::{ConnectTarget, Flow};
use crate::matrix::{BaselineLine, BaselinePeer, Direction, Matrix, RoleIdx, RoleSet, Site};
use crate::model::{AppProtocol, DomainName, FramePoint, Transport};
use crate::names::{Bookmark, ChainNumber, Ledger, Reading};
use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;

/// Where a flow comes from and goes to, what it speaks, and what is known of its destination.
///
/// [`Classifier::rule_on`](super::classify::Classifier::rule_on) sees nothing else of a flow: that is what makes it safe to
/// remember verdicts. The initiator's address is not among it, only what it is to the site: a flood comes from a million
/// addresses that are all the same nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Circumstances {
    pub from: Initiator,
    pub to: IpAddr,
    pub port: u16,
    pub proto: Transport,
    /// The place of the first rule that documents the conversation the other way round by the initiator's port.
    pub reversed_by: Option<usize>,
    pub app: Option<AppProtocol>,
    pub telling: Telling,
}

/// What the initiator's address is to the site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Initiator {
    pub roles: RoleSet,
    pub loopback: bool,
    /// Which of the baseline's peers it is, a bit each.
    peers: u128,
    /// The address, where the baseline has more peers than bits.
    address: Option<IpAddr>,
}

/// How many first payload bytes there are to tell an application from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Telling {
    Nothing,
    Few,
    Enough,
}

/// What is known of where a flow goes.
#[derive(Clone, Debug, Default)]
pub(super) struct Evidence {
    /// The chains by which the host knew the address; through a proxy, the name asked for.
    pub readings: Vec<Reading>,
    /// The server name or HTTP host that the client wrote.
    pub written: Option<DomainName>,
    /// Whether a ClientHello was read that gives a name.
    pub announced: bool,
    /// The server name inside a proxy's tunnel.
    pub inner: Option<DomainName>,
    /// Whether one of the chains holds the written name.
    pub corroborated: bool,
    /// What the client asked the responder, a proxy that the site lists, to connect it to: it stands for the destination.
    pub target: Option<ConnectTarget>,
    /// Who that the site does not trust gave the address, and as what, where nobody else gave it.
    pub untrusted: Option<(IpAddr, Option<DomainName>)>,
    /// Whether only an answer that nobody asked for gave it.
    pub unsolicited: bool,
    /// Whether DNS gave this host other addresses for the written name, and never this one.
    pub elsewhere: bool,
}

impl Evidence {
    /// Whether nothing at all is known.
    pub(super) fn is_none(&self) -> bool {
        self.readings.is_empty()
            && self.written.is_none()
            && !self.announced
            && self.target.is_none()
            && self.untrusted.is_none()
            && !self.unsolicited
    }

    /// Whether the flow goes through a proxy that the site lists, to what the client asked of it.
    pub(super) fn proxied(&self) -> bool {
        self.target.is_some()
    }

    /// The frames in which the names were learnt.
    pub(super) fn points(&self) -> Vec<FramePoint> {
        self.readings.iter().map(|reading| reading.point).collect()
    }
}

/// What a chain says.
#[derive(PartialEq, Eq, Hash)]
enum Said<'a> {
    Chain(ChainNumber),
    Names(&'a [DomainName]),
}

/// When a chain was told is no part of what it says: whether that was too late, or too long ago, is.
fn said(reading: &Reading) -> (Said<'_>, [bool; 4]) {
    let said = reading.chain.map_or_else(|| Said::Names(&reading.names), Said::Chain);
    (said, [reading.expired, reading.late, reading.contested, reading.salvaged])
}

impl PartialEq for Evidence {
    fn eq(&self, other: &Evidence) -> bool {
        // Every field is taken apart here, so that a new one cannot be forgotten.
        let Evidence {
            readings,
            written,
            announced,
            inner,
            corroborated,
            target,
            untrusted,
            unsolicited,
            elsewhere,
        } = self;
        readings.iter().map(said).eq(other.readings.iter().map(said))
            && (written, inner, target, untrusted)
                == (&other.written, &other.inner, &other.target, &other.untrusted)
            && (announced, corroborated, unsolicited, elsewhere)
                == (&other.announced, &other.corroborated, &other.unsolicited, &other.elsewhere)
    }
}

impl Eq for Evidence {}

impl Hash for Evidence {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Fewer than are compared: what parts most is enough, and this is asked of every flow.
        for reading in &self.readings {
            said(reading).hash(state);
        }
        (&self.written, &self.target).hash(state);
    }
}

/// Looks circumstances up: what the site, the baseline and the ledger say of a flow's two ends.
pub(super) struct Surveyor<'a> {
    site: &'a Site,
    ledger: &'a Ledger,
    bookmark: Bookmark,
    proxy: Option<RoleIdx>,
    /// Each peer of the baseline's lines about what comes in, once.
    peers: Vec<&'a BaselinePeer>,
    /// Ports that rules name, by transport.
    named_ports: Vec<(Transport, PortBits)>,
}

/// One bit for each port.
type PortBits = Box<[u64; 1024]>;

/// Bits for peers of the baseline.
const PEER_BITS: usize = 128;

impl<'a> Surveyor<'a> {
    pub(super) fn new(
        matrix: &'a Matrix,
        site: &'a Site,
        ledger: &'a Ledger,
        proxy: Option<RoleIdx>,
    ) -> Self {
        let mut peers: Vec<&BaselinePeer> = Vec::new();
        // Those of lines about what comes in: whom it comes from.
        let comes_in = matrix.baseline().iter().filter(|line| line.direction != Direction::Out);
        for peer in comes_in.flat_map(|line| &line.peers) {
            if !peers.contains(&peer) {
                peers.push(peer);
            }
        }
        let mut named_ports: Vec<(Transport, PortBits)> = Vec::new();
        let mut done: BTreeSet<(Transport, u16, u16)> = BTreeSet::new();
        for rule in matrix.rules().iter().filter(|rule| rule.transport.has_ports()) {
            let place = named_ports.iter().position(|(transport, _)| *transport == rule.transport);
            let place = place.unwrap_or_else(|| {
                named_ports.push((rule.transport, Box::new([0; 1024])));
                named_ports.len() - 1
            });
            let Some((_, bits)) = named_ports.get_mut(place) else { continue };
            for range in rule.ports.ranges() {
                if done.insert((rule.transport, *range.start(), *range.end())) {
                    range.clone().for_each(|port| bits[usize::from(port) / 64] |= 1 << (port % 64));
                }
            }
        }
        Surveyor { site, ledger, bookmark: Bookmark::default(), proxy, peers, named_ports }
    }

    fn rules_name(&self, transport: Transport, port: u16) -> bool {
        let bits = self.named_ports.iter().find(|(named, _)| *named == transport);
        bits.is_some_and(|(_, bits)| bits[usize::from(port) / 64] & (1 << (port % 64)) != 0)
    }

    /// What an address is to the site, as an initiator.
    pub(super) fn initiator(&self, ip: IpAddr) -> Initiator {
        let mut peers = 0;
        for (bit, peer) in self.peers.iter().take(PEER_BITS).enumerate() {
            peers |= u128::from(peer.fits(self.site, ip, &[])) << bit;
        }
        Initiator {
            roles: self.site.roles_of(ip),
            loopback: ip.is_loopback(),
            peers,
            address: (self.peers.len() > PEER_BITS).then_some(ip),
        }
    }

    /// Whether the initiator is whom a line of the baseline about what comes in speaks of.
    pub(super) fn is_peer(&self, from: &Initiator, line: &BaselineLine) -> bool {
        line.peers.iter().any(|peer| {
            match (self.peers.iter().position(|known| *known == peer), from.address) {
                (Some(bit), _) if bit < PEER_BITS => from.peers & (1 << bit) != 0,
                (_, Some(ip)) => peer.fits(self.site, ip, &[]),
                (_, None) => false,
            }
        })
    }

    pub(super) fn is_proxy(&self, roles: RoleSet) -> bool {
        self.proxy.is_some_and(|proxy| roles.contains(proxy))
    }

    /// Where a flow comes from and goes to.
    pub(super) fn circumstances(&self, flow: &Flow<'_>, index: &RuleIndex<'_>) -> Circumstances {
        let from = self.initiator(flow.from.ip);
        let reversed_by = if !from.roles.is_empty() && self.rules_name(flow.proto, flow.from.port) {
            let by_port = |ready: &&Ready<'_>| ready.rule.carries(flow.proto, flow.from.port);
            let rules = index.of(self.site.roles_of(flow.to.ip));
            rules.iter().filter(|ready| ready.leads_to(from.roles)).find(by_port).map(|ready| ready.order)
        } else {
            None
        };
        Circumstances {
            from,
            to: flow.to.ip,
            port: flow.to.port,
            proto: flow.proto,
            reversed_by,
            app: flow.app,
            telling: match flow.telling_bytes {
                0 => Telling::Nothing,
                n if n < Flow::TELLING_BYTES => Telling::Few,
                _ => Telling::Enough,
            },
        }
    }

    /// What is known of where a flow goes; `target` is what the client asked the responder for, as a proxy.
    pub(super) fn evidence(&self, flow: &Flow<'_>, target: Option<&ConnectTarget>) -> Evidence {
        let (ip, announced) = (flow.to.ip, flow.server_name().is_some());
        // A proxy may hold other roles, too: where it was asked for nothing, it is the destination.
        if let Some(target) = target
            && self.is_proxy(self.site.roles_of(ip))
        {
            let reading = target.name.clone().map(|name| Reading {
                names: [name].into(),
                chain: None,
                point: flow.named_at().or(flow.begin()).unwrap_or_default(),
                expired: false,
                late: false,
                contested: false,
                salvaged: false,
            });
            return Evidence {
                readings: reading.into_iter().collect(),
                announced,
                // What the client names inside its tunnel may be another account than the one it asked the proxy for.
                inner: flow.server_name().filter(|_| target.tunnel).cloned(),
                target: Some(target.clone()),
                ..Evidence::default()
            };
        }
        let host = self.site.host_of(flow.from.ip);
        let written = flow
            .server_name()
            .cloned()
            .or_else(|| flow.http_host().and_then(|host| host.parse::<DomainName>().ok()))
            .filter(|name| name.as_str().trim_matches(['[', ']']).parse::<IpAddr>().is_err());
        let (readings, corroborated) =
            self.ledger.readings(host, ip, flow.first_ts, written.as_ref(), &self.bookmark);
        let (mut untrusted, mut unsolicited) = (None, false);
        if readings.is_empty() {
            let answer = self.ledger.untrusted(host, ip, flow.first_ts);
            untrusted = answer.map(|answer| (answer.resolver, answer.names.first().cloned()));
            unsolicited = self.ledger.only_unsolicited(host, ip).is_some();
        }
        let mut elsewhere = false;
        if let Some(name) = &written {
            let early = readings.iter().any(|reading| !reading.late && !reading.contested);
            elsewhere = !early
                && !self.ledger.ever_named(host, name, ip)
                && self.ledger.told_otherwise(host, name, ip, flow.first_ts);
        }
        Evidence {
            readings,
            written,
            announced,
            corroborated,
            untrusted,
            unsolicited,
            elsewhere,
            ..Evidence::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::HTTP_PROXY_ROLE;
    use crate::model::{CaptureId, Timestamp};

    fn reading(name: &str, frame: u64, late: bool) -> Reading {
        let point = FramePoint { time: Timestamp(frame as i64), capture: CaptureId(0), frame };
        Reading {
            names: [name.parse().unwrap()].into(),
            chain: None,
            point,
            expired: false,
            late,
            contested: false,
            salvaged: false,
        }
    }

    #[test]
    fn evidence_is_the_same_whenever_it_was_told_and_another_where_it_says_something_else() {
        let told = |name, frame, late| Evidence {
            readings: vec![reading(name, frame, late)],
            ..Evidence::default()
        };
        let first = told("a.example", 1, false);
        let hash = |evidence: &Evidence| {
            use std::hash::BuildHasher;
            foldhash::fast::FixedState::with_seed(7).hash_one(evidence)
        };
        let later = told("a.example", 9, false);
        assert!(first == later && hash(&first) == hash(&later));
        for other in [
            told("a.example", 1, true),
            told("b.example", 1, false),
            Evidence::default(),
            Evidence { written: Some("a.example".parse().unwrap()), ..first.clone() },
            Evidence { elsewhere: true, ..first.clone() },
            Evidence { announced: true, ..first.clone() },
        ] {
            assert!(first != other, "{other:?}");
        }
    }

    #[test]
    fn an_initiator_is_known_by_the_peers_of_the_baseline_that_it_is() {
        let matrix = Matrix::builtin();
        let site =
            "[site]\nname = \"s\"\nvirtual_network = [\"20.0.0.0/8\"]\n[roles]\nworker = [\"10.0.0.0/8\"]\n";
        let site = Site::parse(site, "site.toml", &matrix).unwrap();
        let ledger = Ledger::default();
        let surveyor = Surveyor::new(&matrix, &site, &ledger, matrix.role(HTTP_PROXY_ROLE));
        for ip in [
            "168.63.129.16",
            "168.63.129.17",
            "255.255.255.255",
            "20.1.2.3",
            "21.1.2.3",
            "10.0.0.1",
            "127.0.0.1",
            "224.0.0.1",
            "fd00::1",
            "2001:db8::1",
            "ff02::1",
        ] {
            let ip: IpAddr = ip.parse().unwrap();
            let known = surveyor.initiator(ip);
            assert_eq!(known.roles, site.roles_of(ip));
            for line in matrix.baseline().iter().filter(|line| line.direction != Direction::Out) {
                let is = line.peers.iter().any(|peer| peer.fits(&site, ip, &[]));
                assert_eq!(surveyor.is_peer(&known, line), is, "{ip} {}", line.id);
            }
        }
    }
}
