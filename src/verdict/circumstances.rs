//! All that a verdict may depend on. A flow is judged by its circumstances alone, so flows of equal circumstances need
//! judging once.

use super::fit::Ready;
use super::index::RuleIndex;
use super::ports::PortsAlike;
use super::row::{NameEvidence, NameEvidenceSource};
use crate::flow::{ConnectTarget, Flow};
use crate::matrix::{BaselineLine, BaselinePeer, Direction, Matrix, RoleIdx, RoleSet, Site};
use crate::model::{AppProtocol, DomainName, FramePoint, Timestamp, Transport, address_bits};
use crate::names::{About, Bookmark, ChainNumber, Ledger, Names, Reading};
use ipnet::{IpNet, Ipv4Net};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where a flow comes from and goes to, what it speaks, and what is known of its destination.
///
/// [`Classifier::rule_on`](super::classify::Classifier::rule_on) sees nothing else of a flow: that is what makes it safe to
/// remember verdicts. The initiator's address is not among it, only what it is to the site: a flood comes from a million
/// addresses that are all the same nobody.
#[derive(Clone, Copy, Debug)]
pub(super) struct Circumstances {
    /// One of the ports that are alike; no part of what is compared.
    pub port: u16,
    pub alike: PortsAlike,
    pub to: IpAddr,
    pub proto: Transport,
    pub from: Initiator,
    /// The place of the first rule that documents the conversation the other way round by the initiator's port.
    pub reversed_by: Option<u32>,
    pub app: Option<AppProtocol>,
    pub telling: Telling,
}

impl PartialEq for Circumstances {
    #[inline]
    fn eq(&self, other: &Circumstances) -> bool {
        // Every field is taken apart here, so that a new one cannot be forgotten.
        let Circumstances { port: _, alike, to, proto, from, reversed_by, app, telling } = self;
        // What differs most often is compared first.
        *alike == other.alike
            && *to == other.to
            && (*proto, *app, *telling) == (other.proto, other.app, other.telling)
            && *from == other.from
            && *reversed_by == other.reversed_by
    }
}

impl Eq for Circumstances {}

impl Hash for Circumstances {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Circumstances { port: _, alike, to, proto, from, reversed_by, app, telling } = *self;
        (alike, to, proto, from, reversed_by, app, telling).hash(state);
    }
}

/// What the initiator's address is to the site: its number in [`Surveyor::kinds`], so that one number is compared for every flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Initiator(u32);

impl Initiator {
    /// A number that those who are the same to the site have in common.
    pub(super) fn kind(self) -> u32 {
        self.0
    }
}

/// All that an initiator's address may be to the site.
#[derive(Clone, Debug, PartialEq, Eq)]
struct InitiatorKind {
    roles: RoleSet,
    loopback: bool,
    /// Which of [`Surveyor::peers`] it is, a bit each.
    peers: Box<[u128]>,
}

const _: () = assert!(size_of::<Circumstances>() <= 40);

/// How many first payload bytes there are to tell an application from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Telling {
    Nothing,
    Few,
    Enough,
}

/// What is known of where a flow goes.
#[derive(Clone, Debug, Default)]
pub(super) struct Evidence<'l> {
    /// The chains by which the host knew the address; through a proxy, the name asked for.
    pub readings: Vec<Reading<'l>>,
    /// The server name or HTTP host that the client wrote.
    pub written: Option<DomainName>,
    /// Whether a ClientHello was read that gives a name.
    pub announced: bool,
    /// Whether one of the chains holds the written name.
    pub corroborated: bool,
    /// Whether only an answer that nobody asked for gave it.
    pub unsolicited: bool,
    /// Whether DNS gave this host other addresses for the written name, and never this one.
    pub elsewhere: bool,
    /// What else there is.
    pub rare: Option<Box<Rare>>,
}

/// What is known of where few flows go: apart, so that of most flows [`Evidence`] is one line of the cache.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Rare {
    /// What the client asked the responder, a proxy that the site lists, to connect it to: it stands for the destination.
    pub target: Option<ConnectTarget>,
    /// The server name inside a proxy's tunnel.
    pub inner: Option<DomainName>,
    /// Who that the site does not trust gave the address, and as what, where nobody else gave it.
    pub untrusted: Option<(IpAddr, Option<DomainName>)>,
    /// Names of further destinations, where the client asked its proxy for several.
    pub further_names: Vec<NameEvidence>,
}

impl Rare {
    pub(super) fn of_target(target: ConnectTarget) -> Self {
        Rare { target: Some(target), ..Rare::default() }
    }

    pub(super) fn of_untrusted(resolver: IpAddr, name: Option<DomainName>) -> Self {
        Rare { untrusted: Some((resolver, name)), ..Rare::default() }
    }
}

const _: () = assert!(size_of::<Evidence<'_>>() <= 64);

/// Of where nothing is known.
static NOTHING: Evidence<'static> = Evidence {
    readings: Vec::new(),
    written: None,
    announced: false,
    corroborated: false,
    unsolicited: false,
    elsewhere: false,
    rare: None,
};

impl<'l> Evidence<'l> {
    /// What is known, which may be nothing.
    #[inline]
    pub(super) fn or_nothing<'e>(known: &'e Option<Evidence<'l>>) -> &'e Evidence<'l> {
        known.as_ref().unwrap_or(&NOTHING)
    }
}

impl Evidence<'_> {
    /// What the client asked its proxy to connect it to.
    pub(super) fn target(&self) -> Option<&ConnectTarget> {
        self.rare.as_ref()?.target.as_ref()
    }

    /// The server name inside a proxy's tunnel.
    pub(super) fn inner(&self) -> Option<&DomainName> {
        self.rare.as_ref()?.inner.as_ref()
    }

    /// Who that the site does not trust gave the address, and as what.
    pub(super) fn untrusted(&self) -> Option<&(IpAddr, Option<DomainName>)> {
        self.rare.as_ref()?.untrusted.as_ref()
    }

    /// Names of further destinations.
    pub(super) fn further_names(&self) -> &[NameEvidence] {
        self.rare.as_ref().map_or(&[], |rare| &rare.further_names)
    }

    /// Whether the flow goes through a proxy that the site lists, to what the client asked of it.
    pub(super) fn proxied(&self) -> bool {
        self.target().is_some()
    }

    /// The frames in which the names were learnt.
    pub(super) fn points(&self) -> impl Iterator<Item = FramePoint> {
        self.readings.iter().map(|reading| reading.point)
    }

    /// Whether there is a reading without names: of what is not told one by one.
    pub(super) fn has_nameless(&self) -> bool {
        self.readings.iter().any(|reading| reading.names.is_empty())
    }

    /// The chains that give a name, newest first.
    pub(super) fn named(&self) -> impl Iterator<Item = &Reading<'_>> {
        self.readings.iter().filter(|reading| !reading.names.is_empty())
    }

    /// The best name of the destination, and the number of its chain, if it has one.
    pub(super) fn first_name(&self) -> Option<&DomainName> {
        let told = self.named().next().and_then(|reading| reading.names.first());
        told.or(self.written.as_ref())
    }

    /// What the first name is told by, beside what else a verdict rests on; none where only the name itself tells it.
    pub(super) fn first_chain(&self) -> Option<FirstChain> {
        match self.named().next() {
            None => Some(FirstChain(None)),
            Some(reading) if reading.chain.is_some() => Some(FirstChain(reading.chain)),
            Some(_) if self.proxied() => Some(FirstChain(None)),
            Some(_) => None,
        }
    }

    /// Where the names of the chains come from.
    pub(super) fn source(&self) -> NameEvidenceSource {
        if self.proxied() { NameEvidenceSource::Proxy } else { NameEvidenceSource::Dns }
    }

    /// All names of the destination, newest first; their age is that of the answers when a flow began at `first_ts`.
    pub(super) fn names(&self, first_ts: Option<Timestamp>) -> Vec<NameEvidence> {
        let source = self.source();
        let of_reading = |reading: &Reading<'_>| {
            let told = first_ts.filter(|_| source == NameEvidenceSource::Dns);
            Some(NameEvidence {
                name: reading.names.first()?.clone(),
                chain: reading.names.shared(),
                source,
                age_ns: told.map(|time| time.since(reading.point.time)),
                scope: if self.proxied() { "flow" } else { "host" }.into(),
                expired: reading.expired,
                late: reading.late,
            })
        };
        let written = self.written.iter().map(|name| NameEvidence {
            name: name.clone(),
            chain: [name.clone()].into(),
            source: if self.announced { NameEvidenceSource::Tls } else { NameEvidenceSource::Http },
            age_ns: None,
            scope: "flow".into(),
            expired: false,
            late: false,
        });
        let mut names = Vec::with_capacity(self.readings.len() + 1 + self.further_names().len());
        names.extend(self.readings.iter().filter_map(of_reading).chain(written));
        names.extend_from_slice(self.further_names());
        names
    }
}

/// Tells the first names of flows apart of which all else is the same that a verdict rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FirstChain(Option<ChainNumber>);

/// Looks circumstances up: what the site, the baseline and the ledger say of a flow's two ends.
pub(super) struct Surveyor<'a> {
    site: &'a Site,
    ledger: &'a Ledger,
    bookmark: Bookmark<'a>,
    proxy: Option<RoleIdx>,
    /// Each peer of the baseline's lines about what comes in, once.
    peers: Vec<&'a BaselinePeer>,
    /// Ports that rules name, by transport.
    named_ports: Vec<(Transport, PortBits)>,
    /// What addresses of IPv4 are, and of IPv6.
    zones: [RefCell<Zones>; 2],
    /// What initiators are, by number.
    kinds: RefCell<Vec<InitiatorKind>>,
}

/// An address that began flows.
#[derive(Clone, Copy)]
pub(super) struct Met {
    pub initiator: Initiator,
    /// Whether it holds any role.
    pub has_roles: bool,
    /// The address that stands for its host.
    pub host: IpAddr,
}

/// What all addresses of a zone are.
#[derive(Clone, Copy)]
struct OfZone {
    initiator: Initiator,
    has_roles: bool,
    /// The address that stands for their host; none where each stands for itself.
    host: Option<IpAddr>,
}

/// Addresses in stretches within which nobody tells one from another: a flood comes from a million addresses, and they are
/// all the same.
struct Zones {
    /// Where each begins, ascending; the first at 0.
    begins: Vec<u128>,
    /// The same of version 4, in words that are compared in one step.
    begins_v4: Vec<u32>,
    /// By the first byte of addresses: the zones of the least and of the greatest of them. Most bytes are in one zone as a whole.
    of_byte: Vec<(u32, u32)>,
    /// What its addresses are, as far as one of them was met.
    met: Vec<Option<OfZone>>,
}

impl Zones {
    /// Those that the ends of prefixes make, among addresses of so many bits.
    fn of(bits: u32, prefixes: impl Iterator<Item = IpNet>) -> Zones {
        let ends =
            |net: IpNet| [Some(address_bits(net.network())), address_bits(net.broadcast()).checked_add(1)];
        let mut begins: Vec<u128> = prefixes.flat_map(ends).flatten().chain([0]).collect();
        begins.sort_unstable();
        begins.dedup();
        let shift = bits - u8::BITS;
        let zone = |ip: u128| (begins.partition_point(|&begin| begin <= ip) - 1) as u32;
        let of_byte = (0..=u8::MAX).map(|byte| {
            let least = u128::from(byte) << shift;
            (zone(least), zone(least | ((1 << shift) - 1)))
        });
        let (of_byte, met) = (of_byte.collect(), vec![None; begins.len()]);
        let begins_v4 = begins.iter().map_while(|&begin| u32::try_from(begin).ok()).collect();
        Zones { begins, begins_v4, of_byte, met }
    }

    /// The place for what the addresses of a zone are.
    #[inline(always)]
    fn of_address(&mut self, ip: IpAddr) -> Option<&mut Option<OfZone>> {
        let byte = match ip {
            IpAddr::V4(ip) => ip.octets()[0],
            IpAddr::V6(ip) => ip.octets()[0],
        };
        let &(first, last) = self.of_byte.get(usize::from(byte))?;
        let zone = if first == last { first as usize } else { self.between(first, last, ip) };
        self.met.get_mut(zone)
    }

    /// The zone of an address, where it is one of several.
    #[inline(never)]
    fn between(&self, first: u32, last: u32, ip: IpAddr) -> usize {
        let (first, last) = (first as usize, last as usize);
        let further = match ip {
            IpAddr::V4(ip) => {
                let begins = self.begins_v4.get(first + 1..=last).unwrap_or_default();
                begins.partition_point(|&begin| begin <= ip.to_bits())
            }
            IpAddr::V6(ip) => {
                let begins = self.begins.get(first + 1..=last).unwrap_or_default();
                begins.partition_point(|&begin| begin <= ip.to_bits())
            }
        };
        first + further
    }
}

/// Peers of the baseline whose bits stand in one word.
const PEERS_TOGETHER: usize = u128::BITS as usize;

/// One bit for each port.
type PortBits = Box<[u64; 1024]>;

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
        let bookmark = Bookmark::default();
        let prefixes = || {
            let own = [IpNet::from(IpAddr::from(Ipv6Addr::LOCALHOST))];
            let loopback = Ipv4Net::new(Ipv4Addr::LOCALHOST, 8).map(IpNet::from);
            let of_peers = peers.iter().flat_map(|peer| peer.prefixes());
            site.prefixes().chain(of_peers).chain(own).chain(loopback)
        };
        let zones = [(true, u32::BITS), (false, u128::BITS)].map(|(v4, bits)| {
            let of_version = prefixes().filter(|net| matches!(net, IpNet::V4(_)) == v4);
            RefCell::new(Zones::of(bits, of_version))
        });
        Surveyor { site, ledger, bookmark, proxy, peers, named_ports, zones, kinds: RefCell::default() }
    }

    fn rules_name(&self, transport: Transport, port: u16) -> bool {
        let bits = self.named_ports.iter().find(|(named, _)| *named == transport);
        bits.is_some_and(|(_, bits)| bits[usize::from(port) / 64] & (1 << (port % 64)) != 0)
    }

    /// Takes readings back that nobody needs any more.
    pub(super) fn take_back(&self, readings: &mut Vec<Reading<'a>>) {
        if readings.capacity() > 0 {
            self.bookmark.take_back(std::mem::take(readings));
        }
    }

    /// What an address is to the site, as an initiator.
    pub(super) fn initiator(&self, ip: IpAddr) -> Initiator {
        let is = |peer: &&BaselinePeer| peer.fits(self.site, ip, &[]);
        let bits = |peers: &[&BaselinePeer]| {
            peers.iter().enumerate().fold(0, |bits, (bit, peer)| bits | u128::from(is(peer)) << bit)
        };
        let peers = self.peers.chunks(PEERS_TOGETHER).map(bits).collect();
        self.number_of(InitiatorKind { roles: self.site.roles_of(ip), loopback: ip.is_loopback(), peers })
    }

    /// The same of one that began a flow with itself: its packets are on no link but the loopback one, where `-i any` and packet
    /// sockets see them.
    #[cold]
    #[inline(never)]
    fn of_itself(&self, ip: IpAddr) -> Initiator {
        let Initiator(place) = self.initiator(ip);
        let kind = self.kinds.borrow().get(place as usize).cloned();
        kind.map_or(Initiator(place), |kind| self.number_of(InitiatorKind { loopback: true, ..kind }))
    }

    fn number_of(&self, kind: InitiatorKind) -> Initiator {
        let mut kinds = self.kinds.borrow_mut();
        let known = kinds.iter().position(|known| *known == kind);
        let number = known.unwrap_or_else(|| {
            kinds.push(kind);
            kinds.len() - 1
        });
        Initiator(number as u32)
    }

    /// The roles of an initiator.
    pub(super) fn roles(&self, from: Initiator) -> RoleSet {
        self.kinds.borrow().get(from.0 as usize).map(|kind| kind.roles).unwrap_or_default()
    }

    /// Whether an initiator is a loopback address, or speaks to itself.
    pub(super) fn is_loopback(&self, from: Initiator) -> bool {
        self.kinds.borrow().get(from.0 as usize).is_some_and(|kind| kind.loopback)
    }

    /// What an address is that began a flow, and whose it is.
    #[inline(always)]
    pub(super) fn met(&self, ip: IpAddr) -> Met {
        let [v4, v6] = &self.zones;
        let mut zones = if ip.is_ipv4() { v4.borrow_mut() } else { v6.borrow_mut() };
        let alike = match zones.of_address(ip) {
            Some(Some(alike)) => *alike,
            Some(place) => *place.insert(self.meet(ip)),
            None => self.meet(ip),
        };
        let OfZone { initiator, has_roles, host } = alike;
        Met { initiator, has_roles, host: host.unwrap_or(ip) }
    }

    /// What an address is that is the first one of its zone, and with it all others.
    #[cold]
    #[inline(never)]
    fn meet(&self, ip: IpAddr) -> OfZone {
        let (initiator, host) = (self.initiator(ip), self.site.host_of(ip));
        let has_roles = !self.roles(initiator).is_empty();
        OfZone { initiator, has_roles, host: Some(host).filter(|host| *host != ip) }
    }

    /// Whether the initiator is whom a line of the baseline about what comes in speaks of.
    pub(super) fn is_peer(&self, from: Initiator, line: &BaselineLine) -> bool {
        let kinds = self.kinds.borrow();
        let Some(kind) = kinds.get(from.0 as usize) else { return false };
        line.peers.iter().any(|peer| {
            self.peers.iter().position(|known| *known == peer).is_some_and(|bit| {
                let bits = kind.peers.get(bit / PEERS_TOGETHER);
                bits.is_some_and(|bits| bits & (1 << (bit % PEERS_TOGETHER)) != 0)
            })
        })
    }

    pub(super) fn is_proxy(&self, roles: RoleSet) -> bool {
        self.proxy.is_some_and(|proxy| roles.contains(proxy))
    }

    /// Where a flow comes from and goes to; `met` is what its initiator is, `alike` what its port is to the rules.
    #[inline(always)]
    pub(super) fn circumstances(
        &self,
        flow: &Flow<'_>,
        met: &Met,
        alike: PortsAlike,
        index: &RuleIndex<'_>,
    ) -> Circumstances {
        // What a machine sends to its own address never leaves it.
        let from = if flow.from.ip == flow.to.ip { self.of_itself(flow.from.ip) } else { met.initiator };
        let reversed_by = if met.has_roles && self.rules_name(flow.proto, flow.from.port) {
            self.reversed_by(flow, from, index)
        } else {
            None
        };
        Circumstances {
            from,
            to: flow.to.ip,
            port: flow.to.port,
            alike,
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

    /// The place of the first rule that documents a flow the other way round by its initiator's port.
    #[inline(never)]
    fn reversed_by(&self, flow: &Flow<'_>, from: Initiator, index: &RuleIndex<'_>) -> Option<u32> {
        let roles = self.roles(from);
        let by_port = |ready: &&Ready<'_>| ready.rule.carries(flow.proto, flow.from.port);
        let rules = index.of(self.site.roles_of(flow.to.ip));
        let first = rules.iter().filter(|ready| ready.leads_to(roles)).find(by_port);
        first.map(|ready| ready.order as u32)
    }

    /// What hosts were told of addresses, one after another.
    pub(super) fn abouts(
        &self,
        pairs: impl Iterator<Item = (IpAddr, IpAddr)>,
        abouts: &mut Vec<Option<About<'a>>>,
    ) {
        self.ledger.abouts(pairs, &self.bookmark, abouts);
    }

    /// What is known of where a flow of `host` goes, which was told `about` that; `target` is what the client asked the responder
    /// for, as a proxy.
    pub(super) fn evidence(
        &self,
        flow: &Flow<'_>,
        host: IpAddr,
        target: Option<&ConnectTarget>,
        about: Option<About<'a>>,
    ) -> Evidence<'a> {
        let (ip, announced) = (flow.to.ip, flow.server_name().is_some());
        // A proxy may hold other roles, too: where it was asked for nothing, it is the destination.
        if let Some(target) = target
            && self.is_proxy(self.site.roles_of(ip))
        {
            let reading = target.name.clone().map(|name| Reading {
                names: Names::Own([name].into()),
                chain: None,
                point: flow.named_at().or(flow.begin()).unwrap_or_default(),
                expired: false,
                late: false,
                contested: false,
                salvaged: false,
            });
            let rare = Rare {
                // What the client names inside its tunnel may be another account than the one it asked the proxy for.
                inner: flow.server_name().filter(|_| target.tunnel).cloned(),
                ..Rare::of_target(target.clone())
            };
            let (readings, rare) = (reading.into_iter().collect(), Some(Box::new(rare)));
            return Evidence { readings, announced, rare, ..Evidence::default() };
        }
        let written = flow
            .server_name()
            .cloned()
            .or_else(|| flow.http_host().and_then(|host| host.parse::<DomainName>().ok()))
            .filter(|_| !flow.hosts_differ())
            .filter(|name| name.as_str().trim_matches(['[', ']']).parse::<IpAddr>().is_err());
        if about.is_none() && written.is_none() {
            return Evidence { announced, ..Evidence::default() };
        }
        let (mut readings, mut corroborated) = (Vec::new(), false);
        let (mut rare, mut unsolicited) = (None, false);
        if let Some(about) = about {
            (readings, corroborated) = about.readings(flow.first_ts, written.as_ref(), &self.bookmark);
            if readings.is_empty() {
                let answer = about.untrusted(flow.first_ts);
                rare =
                    answer.map(|answer| Rare::of_untrusted(answer.resolver, answer.names.first().cloned()));
                unsolicited = about.only_unsolicited().is_some();
            }
        }
        let mut elsewhere = false;
        if let Some(name) = &written {
            let early = readings.iter().any(|reading| !reading.late && !reading.contested);
            elsewhere = !early
                && !about.is_some_and(|about| about.ever_named(name, &self.bookmark))
                && self.ledger.told_otherwise(host, name, ip, flow.first_ts);
        }
        Evidence {
            readings,
            written,
            announced,
            corroborated,
            unsolicited,
            elsewhere,
            rare: rare.map(Box::new),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::HTTP_PROXY_ROLE;

    #[test]
    fn addresses_of_one_zone_are_the_same_nobody() {
        let matrix = Matrix::builtin();
        for resolvers in ["", "resolvers = [\"10.1.0.0/30\", \"9.9.9.9\"]"] {
            let text = format!(
                "[site]\nname = \"s\"\nvirtual_network = [\"20.0.0.0/8\", \"255.0.0.0/8\"]\ntime_servers = [\"30.0.0.7\"]\n\
                 {resolvers}\n[roles]\nworker = [\"10.0.0.0/8\", \"0.0.0.0/32\", \"2001:db8::/32\"]\nconsole = [\"10.2.0.0/16\"]\n\
                 backup-appliance = [[\"10.1.0.4\", \"11.1.0.4\", \"fd00::4\"]]\n"
            );
            let site = Site::parse(&text, "site.toml", &matrix).unwrap();
            let ledger = Ledger::default();
            let surveyor = Surveyor::new(&matrix, &site, &ledger, matrix.role(HTTP_PROXY_ROLE));
            let mut ips: Vec<IpAddr> = Vec::new();
            let near = |begin: u128| [-2, -1, 0, 1, 2, 1 << 20].map(|more| begin.wrapping_add_signed(more));
            for (zones, v4) in surveyor.zones.iter().zip([true, false]) {
                let all = zones.borrow().begins.clone();
                let to_ip = |bits: u128| {
                    if v4 {
                        IpAddr::V4(Ipv4Addr::from_bits(bits as u32))
                    } else {
                        IpAddr::V6(Ipv6Addr::from_bits(bits))
                    }
                };
                ips.extend(all.into_iter().flat_map(near).map(to_ip));
            }
            // Whichever address of a zone is met first.
            for ips in [ips.clone(), ips.into_iter().rev().collect()] {
                surveyor.zones.iter().for_each(|zones| zones.borrow_mut().met.fill(None));
                for &ip in &ips {
                    let met = surveyor.met(ip);
                    assert_eq!(met.initiator, surveyor.initiator(ip), "{ip}");
                    assert_eq!(met.has_roles, !site.roles_of(ip).is_empty(), "{ip}");
                    assert_eq!(met.host, site.host_of(ip), "{ip}");
                }
            }
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
            assert_eq!(
                (surveyor.roles(known), surveyor.is_loopback(known)),
                (site.roles_of(ip), ip.is_loopback())
            );
            for line in matrix.baseline().iter().filter(|line| line.direction != Direction::Out) {
                let is = line.peers.iter().any(|peer| peer.fits(&site, ip, &[]));
                assert_eq!(surveyor.is_peer(known, line), is, "{ip} {}", line.id);
            }
        }
    }
}
