//! What is to be let by at a site, in terms of no firewall.

use super::dns::ACCOUNT;
use super::{Family, Unexpressed, common};
use crate::matrix::baseline::{BaselineClass, BaselineLine, BaselinePeer, Direction, shown_prefix};
use crate::matrix::load::{Matrix, RoleIdx};
use crate::matrix::rule::{Cloud, ConditionId, Destination, Rule, Service};
use crate::matrix::site::{DestinationHere, RoleSet, RuleHere, RuleState, Site, TagHere};
use crate::matrix::source::shown;
use crate::model::{DomainName, DomainPattern, PortSet, Transport};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;

/// What is to be let by, and what there is to say beside it.
pub(super) struct Permitted<'a> {
    pub(super) matrix: &'a Matrix,
    pub(super) site: &'a Site,
    /// The roles whose machines are guarded: what is not let by is refused to them. Each has an address.
    pub(super) guarded: Vec<RoleIdx>,
    /// In the order of the packs, lines of the platform last.
    pub(super) permits: Vec<Permit<'a>>,
    /// Rules and lines that permit nothing here, by the reason.
    pub(super) without: Vec<(String, Vec<&'a str>)>,
    pub(super) unexpressed: Vec<Unexpressed>,
    pub(super) remarks: Vec<String>,
}

/// What a rule of the page documents here, or rules of the same traffic; or a line of the platform.
pub(super) struct Permit<'a> {
    pub(super) cited: Vec<Cited<'a>>,
    /// What people call the destination, or what the line is.
    pub(super) title: &'a str,
    /// What for.
    pub(super) purpose: &'a str,
    pub(super) from: Side,
    /// Where to: any of these.
    pub(super) ways: Vec<Side>,
    pub(super) transports: Vec<Transport>,
    /// The responder's ports, ascending and apart; `None`: any.
    pub(super) ports: Option<Vec<RangeInclusive<u16>>>,
}

/// A rule, and where it stands.
pub(super) struct Cited<'a> {
    pub(super) id: &'a str,
    /// The row of the page; a line of the platform has none.
    pub(super) row: Option<u32>,
    /// The condition that the site does not set, though the rule depends on it.
    pub(super) unset: Option<&'a ConditionId>,
}

/// One side of a permit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Machines of a role, by address.
    Role(RoleIdx),
    /// All guarded machines.
    Guarded,
    /// Addresses that the site or the platform lists.
    Listed(Vec<IpNet>),
    /// The site's virtual network.
    VirtualNetwork,
    /// A service tag, by its whole name, and its prefixes.
    Tag {
        name: String,
        /// What is known of its prefixes, or why they are not.
        nets: Result<Vec<IpNet>, String>,
    },
    /// Any address of the Internet.
    Internet,
    /// Any address.
    Anyone,
    /// Whatever has one of these names.
    Names(Named),
}

/// Machines by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// What the group is called: the first name, or the tag.
    pub(super) label: String,
    pub(super) patterns: Vec<DomainPattern>,
    pub(super) among: Among,
    /// Whether names that nobody means may be let by, too, where exact ones cannot be told.
    pub(super) may_widen: bool,
    /// Whether the addresses listed beside them are those of the same machines.
    pub(super) is_listed: bool,
}

/// At which addresses a name counts. An address that holds a role is identified: no rule by name fits it (SEMANTICS section
/// 4); and the vendor's names do not stand at addresses of one's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Among {
    /// Any.
    All,
    /// Those that hold no role.
    Unidentified,
    /// Those of others.
    NotOwn,
    /// Those of the virtual network that hold no role: private endpoints.
    VirtualNetwork,
}

impl Permit<'_> {
    /// The ids, with rows and conditions: `vbaz-01 row 1, vbaz-02 row 2 (if rest-api)`.
    pub(super) fn citation(&self) -> String {
        let cited = self.cited.iter().map(|cited| {
            let row = cited.row.map(|row| format!(" row {row}")).unwrap_or_default();
            let unset = cited.unset.map(|condition| format!(" (if {condition})")).unwrap_or_default();
            format!("{}{row}{unset}", cited.id)
        });
        cited.collect::<Vec<_>>().join(", ")
    }

    /// The first of the ids.
    pub(super) fn first(&self) -> &str {
        self.cited.first().map_or("", |cited| cited.id)
    }

    /// The ids alone.
    pub(super) fn ids(&self) -> String {
        self.cited.iter().map(|cited| cited.id).collect::<Vec<_>>().join(", ")
    }
}

impl<'a> Permitted<'a> {
    /// Looks at all rules and lines.
    ///
    /// # Errors
    /// No machine of the roles has an address.
    pub(super) fn new(matrix: &'a Matrix, site: &'a Site, roles: RoleSet) -> Result<Self, String> {
        let (guarded, others): (Vec<RoleIdx>, Vec<RoleIdx>) =
            roles.iter().partition(|role| !site.role_prefixes(*role).is_empty());
        if guarded.is_empty() {
            return Err(format!(
                "{}: no machine to guard has an address: under [roles], give addresses or prefixes to at least one of {}",
                site.file(),
                roles.words(matrix).join(", ")
            ));
        }
        let mut permitted = Permitted {
            matrix,
            site,
            guarded,
            permits: Vec::new(),
            without: Vec::new(),
            unexpressed: Vec::new(),
            remarks: Vec::new(),
        };
        for role in others {
            permitted.unguarded(role);
        }
        for role in permitted.guarded.clone() {
            permitted.unguarded_in_part(role);
        }
        for (rule, here) in matrix.rules().iter().zip(site.rules()) {
            match here.state.why_not() {
                Some(why) => permitted.without(why, rule.id.as_str()),
                None => permitted.rule(rule, here),
            }
        }
        for line in matrix.baseline() {
            permitted.line(line);
        }
        permitted.proxies();
        permitted.remark();
        Ok(permitted)
    }

    /// The prefixes of a side, as few as there can be; none of one that only names tell.
    pub(super) fn nets(&self, side: &Side) -> Vec<IpNet> {
        let nets = match side {
            Side::Role(role) => self.site.role_prefixes(*role).to_vec(),
            Side::Guarded => {
                self.guarded.iter().flat_map(|role| self.site.role_prefixes(*role)).copied().collect()
            }
            Side::Listed(nets) => nets.clone(),
            Side::VirtualNetwork => self.site.virtual_network().to_vec(),
            Side::Tag { nets, .. } => nets.clone().unwrap_or_default(),
            Side::Anyone => vec![Ipv4Net::default().into(), Ipv6Net::default().into()],
            // Never one of the machines that are guarded, as far as this is asked.
            Side::Internet | Side::Names(_) => Vec::new(),
        };
        IpNet::aggregate(&nets)
    }

    /// The addresses that hold a role: no rule by name fits them.
    pub(super) fn identified(&self) -> Vec<IpNet> {
        let roles = self.matrix.roles().iter().filter_map(|role| self.matrix.role(role.id.as_str()));
        let nets: Vec<IpNet> = roles.flat_map(|role| self.site.role_prefixes(role)).copied().collect();
        IpNet::aggregate(&nets)
    }

    /// The addresses of one's own, at which the vendor's names do not stand.
    pub(super) fn own(&self) -> Vec<IpNet> {
        let mut nets = self.not_internet();
        nets.extend(self.identified());
        IpNet::aggregate(&nets)
    }

    /// What is none of the Internet.
    pub(super) fn not_internet(&self) -> Vec<IpNet> {
        let mut nets = BaselinePeer::Internet.prefixes();
        nets.extend(self.site.virtual_network());
        IpNet::aggregate(&nets)
    }

    /// The roles that are guarded, by name.
    pub(super) fn guarded_words(&self) -> Vec<String> {
        self.guarded.iter().copied().collect::<RoleSet>().words(self.matrix)
    }

    /// The pages that the permits are of.
    pub(super) fn pages(&self) -> Vec<String> {
        let ruled: BTreeSet<&str> =
            self.matrix.rules().iter().map(|rule| rule.citation.pack.as_str()).collect();
        let packs = self
            .matrix
            .packs()
            .iter()
            .filter(|pack| ruled.contains(pack.id.as_str()) && pack.overlay_of.is_none());
        packs
            .map(|pack| {
                let version = &pack.product_version;
                let version = if version.is_empty() { String::new() } else { format!(", version {version}") };
                let date = pack.date.map(|date| format!(" ({date})")).unwrap_or_default();
                shown(&format!("{}, {}{version}{date}", pack.page, pack.product))
            })
            .collect()
    }

    /// Notes that a rule or line permits nothing here.
    fn without(&mut self, why: String, id: &'a str) {
        if self.without.iter().any(|(_, ids)| ids.contains(&id)) {
            return;
        }
        match self.without.iter_mut().find(|(known, _)| *known == why) {
            Some((_, ids)) => ids.push(id),
            None => self.without.push((why, vec![id])),
        }
    }

    /// Notes that a permit lets nothing by that others do not.
    pub(super) fn without_permit(&mut self, permit: &Permit<'a>, why: &str) {
        for cited in &permit.cited {
            self.without(why.to_owned(), cited.id);
        }
    }

    /// The service tag in which all addresses of the platform's names lie, if all guarded machines may ask it for the same as
    /// the platform's line lets them: then nothing of the line is missing.
    pub(super) fn tag_around(
        &self,
        permits: &[Permit<'a>],
        line: &Permit<'a>,
        names: &[DomainPattern],
    ) -> Option<&'a str> {
        if line.from != Side::Guarded || line.cited.iter().any(|cited| cited.row.is_some()) {
            return None;
        }
        let covers = |permit: &Permit<'a>, tag: &str| {
            let has = |way: &Side| matches!(way, Side::Tag { name, nets: Ok(nets) } if name == tag && !nets.is_empty());
            permit.ways.iter().any(has)
                && line.transports.iter().all(|transport| permit.transports.contains(transport))
                && within(line.ports.as_deref(), permit.ports.as_deref())
        };
        let tag_of = |name: &DomainPattern| {
            self.matrix.services().iter().find(|service| {
                names_of(service, self.site.cloud()).iter().any(|pattern| takes_in(pattern, name))
            })
        };
        let tag = tag_of(names.first()?)?.tag.as_str();
        let all = names.iter().all(|name| tag_of(name).is_some_and(|service| service.tag.as_str() == tag));
        let asked = self
            .guarded
            .iter()
            .all(|role| permits.iter().any(|permit| permit.from == Side::Role(*role) && covers(permit, tag)));
        (all && asked).then_some(tag)
    }

    /// The guarded roles with machines of which the site lists addresses of the other version of IP alone.
    pub(super) fn lacking(&self, family: Family) -> Vec<String> {
        let hosts = self.site.hosts();
        let has_both = |net: &IpNet| {
            let host = hosts.get(&net.addr()).filter(|_| net.prefix_len() == net.max_prefix_len());
            let others = hosts.iter().filter(|(ip, _)| ip.is_ipv4() != net.addr().is_ipv4());
            host.is_some_and(|host| others.into_iter().any(|(_, of)| of == host))
        };
        let lacks = |role: &RoleIdx| {
            let alone = self.site.role_prefixes(*role).iter().filter(|net| !has_both(net));
            let families: BTreeSet<Family> = alone.map(Family::of_prefix).collect();
            !families.is_empty() && !families.contains(&family)
        };
        let lacking: RoleSet = self.guarded.iter().copied().filter(lacks).collect();
        lacking.words(self.matrix)
    }

    /// A role without an address: what its machines begin cannot be told.
    fn unguarded(&mut self, role: RoleIdx) {
        let id = self.matrix.role_def(role).id.to_string();
        let names: Vec<String> = self.site.role_names(role).iter().map(ToString::to_string).collect();
        if names.is_empty() {
            self.remarks.push(format!("the site lists no {id}: nothing is refused to it"));
        } else {
            let why = "the site gives its machines by name alone: nothing is refused to them";
            self.unexpressed.push(Unexpressed { rule: id, names, why: why.to_owned() });
        }
    }

    /// A role of whose machines the site gives some by address and some by name.
    fn unguarded_in_part(&mut self, role: RoleIdx) {
        let names: Vec<String> = self.site.role_names(role).iter().map(ToString::to_string).collect();
        if !names.is_empty() {
            let why = "the site gives some of its machines by name alone: nothing is refused to those";
            let rule = self.matrix.role_def(role).id.to_string();
            self.unexpressed.push(Unexpressed { rule, names, why: why.to_owned() });
        }
    }

    fn rule(&mut self, rule: &'a Rule, here: &RuleHere) {
        let unset = match &here.state {
            RuleState::AppliesUnset(_) => rule.condition.as_ref(),
            _ => None,
        };
        let cited = Cited { id: rule.id.as_str(), row: Some(rule.citation.row), unset };
        let matrix = self.matrix;
        let twin = |permit: &&mut Permit<'a>| {
            matrix.rule(permit.first()).is_some_and(|other| other.same_traffic(rule))
        };
        if let Some(same) = self.permits.iter_mut().find(twin) {
            same.cited.push(cited);
            return;
        }
        let permit = Permit {
            cited: vec![cited],
            title: &rule.to_title,
            purpose: &rule.purpose,
            from: Side::Role(here.from),
            ways: self.ways(rule, here),
            transports: vec![rule.transport],
            ports: rule.transport.has_ports().then(|| apart(&rule.ports)),
        };
        if self.concerns(&permit) {
            self.permits.push(permit);
        } else {
            self.without("it is between others, to whom nothing is refused".to_owned(), rule.id.as_str());
        }
    }

    /// Where a rule leads.
    fn ways(&self, rule: &Rule, here: &RuleHere) -> Vec<Side> {
        let mut ways = Vec::new();
        let endpoints = |label: &str, names: &[DomainPattern]| {
            Side::Names(Named {
                label: label.to_owned(),
                patterns: names.to_vec(),
                among: Among::VirtualNetwork,
                may_widen: true,
                is_listed: false,
            })
        };
        let has_endpoints = !self.site.virtual_network().is_empty();
        match &here.to {
            DestinationHere::Role(role) => self.of_role(*role, &[], &mut ways),
            DestinationHere::SiteDefined { role, names } => self.of_role(*role, names, &mut ways),
            DestinationHere::VirtualNetwork => ways.push(Side::VirtualNetwork),
            DestinationHere::Names { names, zones, .. } => {
                let mirrors = self.mirrors(names);
                if !mirrors.is_empty() {
                    ways.push(Side::Listed(mirrors));
                }
                let label = label_of(names);
                let patterns = names.clone();
                ways.push(Side::Names(Named {
                    label: label.clone(),
                    patterns,
                    among: Among::NotOwn,
                    may_widen: true,
                    is_listed: false,
                }));
                if has_endpoints && !zones.is_empty() {
                    ways.push(endpoints(&label, names));
                }
            }
            DestinationHere::Tag { tag, names, zones, .. } => {
                let asked = match &rule.to {
                    Destination::Tag { tag, .. } => tag.as_str(),
                    _ => "",
                };
                ways.push(match tag {
                    TagHere::Known(id) => Side::Tag {
                        name: self.matrix.tags().name(*id).to_owned(),
                        nets: Ok(self.matrix.tags().prefixes(*id)),
                    },
                    TagHere::Unknown { why, .. } => {
                        Side::Tag { name: asked.to_owned(), nets: Err(why.clone()) }
                    }
                });
                // Names behind a tag document no address outside its prefixes, but for the virtual network's.
                let mirrors = common(&self.mirrors(names), self.site.virtual_network());
                if !mirrors.is_empty() {
                    ways.push(Side::Listed(mirrors));
                }
                if has_endpoints && !zones.is_empty() && !names.is_empty() {
                    ways.push(endpoints(asked.split('.').next().unwrap_or_default(), names));
                }
            }
        }
        ways
    }

    /// Addresses that stand in for the names at the site.
    fn mirrors(&self, names: &[DomainPattern]) -> Vec<IpNet> {
        names.iter().flat_map(|name| self.site.mirrors_of(name)).collect()
    }

    /// Machines of a role, by address and by name.
    fn of_role(&self, role: RoleIdx, more: &[DomainPattern], ways: &mut Vec<Side>) {
        if !self.site.role_prefixes(role).is_empty() {
            ways.push(Side::Role(role));
        }
        let mut patterns = exact(self.site.role_names(role));
        patterns.extend(more.iter().filter(|name| !patterns.contains(name)).cloned().collect::<Vec<_>>());
        if !patterns.is_empty() {
            let label = label_of(&patterns);
            ways.push(Side::Names(Named {
                label,
                patterns,
                among: Among::Unidentified,
                may_widen: true,
                is_listed: false,
            }));
        }
    }

    /// Whether a guarded machine may take part.
    fn concerns(&self, permit: &Permit<'_>) -> bool {
        let guarded = self.nets(&Side::Guarded);
        let among_them = |side: &Side| !common(&self.nets(side), &guarded).is_empty();
        among_them(&permit.from) || permit.ways.iter().any(among_them)
    }

    /// A line of the platform: whatever is the platform's own is let by, link upkeep that is an IP packet (DHCP) included.
    /// Lines of other classes only tell what undocumented traffic resembles.
    fn line(&mut self, line: &'a BaselineLine) {
        if line.class != BaselineClass::Platform {
            let why = "they tell what undocumented traffic resembles, and document none";
            return self.without(why.to_owned(), &line.id);
        }
        if !line.clouds.is_empty() && !line.clouds.contains(&self.site.cloud()) {
            return self.without("they are for another cloud".to_owned(), &line.id);
        }
        if line.transports.is_empty() {
            return self.without("no firewall of IP packets stops it".to_owned(), &line.id);
        }
        if self.is_of_another_cloud(line) {
            return self.without("they are for another cloud".to_owned(), &line.id);
        }
        let ways = self.peers(line);
        if ways.is_empty() {
            return self.without("the site lists no such peer".to_owned(), &line.id);
        }
        let permit = |from: Side, ways: Vec<Side>| Permit {
            cited: vec![Cited { id: &line.id, row: None, unset: None }],
            title: &line.what,
            purpose: &line.what,
            from,
            ways,
            transports: line.transports.clone(),
            ports: line.ports.as_ref().map(apart),
        };
        let begun_by_peers = ways.iter().filter_map(beginning);
        let incoming: Vec<Permit<'a>> =
            begun_by_peers.map(|peer| permit(peer, vec![Side::Guarded])).collect();
        if line.direction != Direction::In {
            // A guarded machine may be what others have as resolver or time server.
            let serving = ways.iter().flat_map(|way| match way {
                Side::Listed(nets) => common(nets, &self.nets(&Side::Guarded)),
                _ => Vec::new(),
            });
            let serving: Vec<IpNet> = serving.collect();
            self.permits.push(permit(Side::Guarded, ways));
            if !serving.is_empty() {
                self.permits.push(permit(Side::Anyone, vec![Side::Listed(serving)]));
            }
        }
        if line.direction != Direction::Out {
            self.permits.extend(incoming);
        }
    }

    /// Whether it is with names alone, of services in another cloud.
    fn is_of_another_cloud(&self, line: &BaselineLine) -> bool {
        let is_elsewhere = |name: &DomainPattern| {
            let mut clouds = Cloud::WORDS.iter().map(|(_, cloud)| *cloud).filter(|cloud| {
                let names = self.matrix.services().iter().flat_map(|service| names_of(service, *cloud));
                names.into_iter().any(|pattern| takes_in(pattern, name))
            });
            clouds.next().is_some_and(|first| {
                first != self.site.cloud() && clouds.all(|cloud| cloud != self.site.cloud())
            })
        };
        line.peers.is_empty() && !line.names.is_empty() && line.names.iter().all(is_elsewhere)
    }

    /// With whom a line of the platform is.
    fn peers(&self, line: &BaselineLine) -> Vec<Side> {
        let (mut nets, mut ways, mut names) = (Vec::new(), Vec::new(), line.names.clone());
        for peer in &line.peers {
            match peer {
                BaselinePeer::Prefix(net) => nets.push(*net),
                BaselinePeer::SiteResolvers if self.site.resolvers_listed() => {
                    nets.extend(self.site.resolvers())
                }
                BaselinePeer::SiteResolvers | BaselinePeer::Anyone => ways.push(Side::Anyone),
                BaselinePeer::SiteTimeServers => {
                    nets.extend(self.site.time_servers());
                    names.extend(exact(self.site.time_server_names()));
                }
                BaselinePeer::Internet => ways.push(Side::Internet),
            }
        }
        if ways.contains(&Side::Anyone) {
            return vec![Side::Anyone];
        }
        if !nets.is_empty() {
            ways.push(Side::Listed(IpNet::aggregate(&nets)));
        }
        if !names.is_empty() {
            let label = label_of(&names);
            let is_listed = names == line.names
                && !line.peers.is_empty()
                && line.peers.iter().all(|peer| matches!(peer, BaselinePeer::Prefix(_)));
            ways.push(Side::Names(Named {
                label,
                patterns: names,
                among: Among::All,
                may_widen: false,
                is_listed,
            }));
        }
        ways
    }

    /// What is asked of a proxy is documented by what is asked for, which no filter of packets sees.
    fn proxies(&mut self) {
        let Some(role) = self.matrix.proxy_role() else { return };
        let nets = self.site.role_prefixes(role).iter().map(shown_prefix);
        let names: Vec<String> =
            nets.chain(self.site.role_names(role).iter().map(ToString::to_string)).collect();
        if !names.is_empty() {
            let why = "what a proxy is asked for is not seen on the way to it, so that way is not opened";
            let rule = self.matrix.role_def(role).id.to_string();
            self.unexpressed.push(Unexpressed { rule, names, why: why.to_owned() });
        }
    }

    /// Whether a tag is of a service in which each customer has a name of his own, or of one that the packs do not know.
    fn is_anybodys(&self, tag: &str) -> bool {
        let mut known =
            self.matrix.services().iter().filter(|service| tag.split('.').next() == Some(service.tag.base()));
        let shared = |service: &Service| {
            service.clouds.values().flat_map(|here| &here.names).any(DomainPattern::is_exact)
        };
        known.all(|service| !shared(service))
    }

    /// What whoever uses the rules should know, whatever the firewall.
    fn remark(&mut self) {
        for &role in &self.guarded {
            let role = self.matrix.role_def(role);
            if let Some(other) = &role.also_covered_by {
                self.remarks.push(format!(
                    "{} is also covered by {}, which is not among the packs: what only that documents is refused",
                    role.id,
                    shown(other)
                ));
            }
        }
        let cited = || self.permits.iter().flat_map(|permit| &permit.cited);
        let unset: BTreeSet<&str> =
            cited().filter_map(|cited| cited.unset).map(ConditionId::as_str).collect();
        if !unset.is_empty() {
            let rules = cited().filter(|cited| cited.unset.is_some()).count();
            self.remarks.push(format!(
                "{rules} of the rules rest on conditions that the site file does not set, and are marked: {} (true or false under \
                 [conditions] settles it)",
                unset.into_iter().collect::<Vec<_>>().join(", ")
            ));
        }
        let to_anybodys = self.permits.iter().filter(|permit| {
            permit.ways.iter().any(|way| matches!(way, Side::Tag { name, .. } if self.is_anybodys(name)))
        });
        let to_anybodys: Vec<String> = to_anybodys.map(Permit::ids).collect();
        if !to_anybodys.is_empty() {
            self.remarks.push(format!(
                "a service tag is the service's, whoever its customer: {} let everybody's accounts, servers and vaults by, yours or \
                 not",
                to_anybodys.join(", ")
            ));
        }
        if !self.site.resolvers_listed() {
            let why = "the site lists no resolvers, so DNS is let by to any";
            self.remarks.push(why.to_owned());
        }
        if !self.site.accepts().is_empty() {
            let lines: Vec<String> =
                self.site.accepts().iter().map(|accept| accept.line.to_string()).collect();
            self.remarks.push(format!(
                "what the site accepts stays undocumented, and is refused: [[accept]] at line {} of {}",
                lines.join(", "),
                self.site.file()
            ));
        }
    }
}

/// The service's names in a cloud.
fn names_of(service: &Service, cloud: Cloud) -> &[DomainPattern] {
    service.clouds.get(&cloud).map_or(&[], |here| &here.names)
}

/// Whether a pattern fits a name that stands for all of another's.
fn takes_in(pattern: &DomainPattern, other: &DomainPattern) -> bool {
    let example = other.to_string().replace(ACCOUNT, "x").replace('*', "x").replace('#', "1");
    example.parse::<DomainName>().is_ok_and(|name| pattern.matches(&name))
}

/// Whether all of these ports are among those; none: any.
fn within(these: Option<&[RangeInclusive<u16>]>, those: Option<&[RangeInclusive<u16>]>) -> bool {
    let Some(those) = those else { return true };
    let holds = |range: &RangeInclusive<u16>| {
        those.iter().any(|wide| wide.contains(range.start()) && wide.contains(range.end()))
    };
    these.is_some_and(|these| these.iter().all(holds))
}

/// The side as one that begins: a machine is known by its address then, and nothing comes from a broadcast address.
fn beginning(side: &Side) -> Option<Side> {
    match side {
        Side::Names(_) => None,
        Side::Listed(nets) => {
            let machines = nets.iter().filter(|net| **net != IpNet::from(IpAddr::V4(Ipv4Addr::BROADCAST)));
            let machines: Vec<IpNet> = machines.copied().collect();
            (!machines.is_empty()).then_some(Side::Listed(machines))
        }
        other => Some(other.clone()),
    }
}

/// Names that stand for themselves.
fn exact(names: &[DomainName]) -> Vec<DomainPattern> {
    // Whatever may be written as a name may be written as a pattern.
    names.iter().filter_map(|name| name.as_str().parse().ok()).collect()
}

fn label_of(names: &[DomainPattern]) -> String {
    names.first().map(DomainPattern::plain_ending).unwrap_or_default()
}

/// The ranges of a set in their order, those that touch as one: no firewall takes a port twice.
fn apart(ports: &PortSet) -> Vec<RangeInclusive<u16>> {
    let mut ranges = ports.ranges().to_vec();
    ranges.sort_by_key(|range| *range.start());
    let mut apart: Vec<RangeInclusive<u16>> = Vec::new();
    for range in ranges {
        match apart.last_mut() {
            Some(last) if u32::from(*range.start()) <= u32::from(*last.end()) + 1 => {
                *last = *last.start()..=*last.end().max(range.end());
            }
            _ => apart.push(range),
        }
    }
    apart
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_told_once_and_in_order() {
        for (ports, expected) in [
            ("443", "443"),
            ("11000-11999, 1433", "1433 11000-11999"),
            ("80, 80-90, 91, 100", "80-91 100"),
            ("80-100, 85", "80-100"),
            ("1-65535, 65535", "1-65535"),
        ] {
            let ranges = apart(&ports.parse().unwrap());
            let shown: Vec<String> = ranges
                .iter()
                .map(|range| match range.start() == range.end() {
                    true => range.start().to_string(),
                    false => format!("{}-{}", range.start(), range.end()),
                })
                .collect();
            assert_eq!(shown.join(" "), expected);
        }
    }
}
