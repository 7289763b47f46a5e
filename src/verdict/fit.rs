//! Which rules fit a destination: by role, by prefix or tag, by name.

use super::classify::Classifier;
use super::index::Rules;
use crate::audit::Grade;
use crate::matrix::{DestinationHere as To, RoleSet, Rule, RuleHere, TagHere, Zone};
use crate::model::{DomainName, DomainPattern, Transport};
use crate::names::Reading;
use std::net::IpAddr;

/// Where a flow goes: its responder, or what the client asked its proxy for.
pub(super) struct Destination {
    /// None where only a name is known (through a proxy).
    pub ip: Option<IpAddr>,
    pub port: u16,
    /// Roles of the address.
    pub roles: RoleSet,
    pub proxied: bool,
}

/// A rule, and what it means at this site.
#[derive(Clone, Copy)]
pub(super) struct Ready<'a> {
    pub order: usize,
    pub rule: &'a Rule,
    pub here: &'a RuleHere,
    /// The number of its destination: equal for rules that lead to the same.
    pub place: usize,
}

impl Ready<'_> {
    /// Whether it stands in the coverage table: rules of the page, and aliases that count here.
    pub(super) fn listed(&self) -> bool {
        !self.rule.is_alias() || self.here.state.applies()
    }

    /// Why no flow can fit it here.
    pub(super) fn not_applicable(&self) -> Option<String> {
        self.here.state.why_not().or_else(|| match &self.here.to {
            To::Tag { tag: TagHere::Unknown { why, .. }, .. } => Some(why.clone()),
            _ => None,
        })
    }

    /// Whether it applies here, stands on the page, and leads to one of these roles.
    pub(super) fn leads_to(&self, roles: RoleSet) -> bool {
        self.is_at(roles) && self.here.state.applies() && !self.rule.is_alias()
    }

    /// Whether its destination is one of these roles.
    pub(super) fn is_at(&self, roles: RoleSet) -> bool {
        match self.here.to {
            To::Role(role) | To::SiteDefined { role, .. } => roles.contains(role),
            To::Names { .. } | To::Tag { .. } | To::VirtualNetwork => false,
        }
    }

    /// Whether its destination is a storage account.
    pub(super) fn is_for_accounts(&self) -> bool {
        match &self.here.to {
            To::Tag { accounts, .. } | To::Names { accounts, .. } => *accounts,
            To::Role(_) | To::VirtualNetwork | To::SiteDefined { .. } => false,
        }
    }

    /// The storage accounts that the names of a chain give, by the rule's patterns, the asked name's first.
    pub(super) fn accounts_in(&self, names: &[DomainName]) -> impl Iterator<Item = String> {
        let patterns = match &self.here.to {
            To::Tag { names, .. } | To::Names { names, .. } => names.as_slice(),
            To::Role(_) | To::VirtualNetwork | To::SiteDefined { .. } => &[],
        };
        names.iter().filter_map(|name| {
            patterns.iter().find_map(|pattern| {
                let account = pattern.placeholder(name).map(str::to_owned);
                // A pattern without the placeholder (`*.blob...`) names the account by its first label.
                account.or_else(|| {
                    (pattern.matches(name) && !pattern.is_exact())
                        .then(|| name.as_str().split('.').next().unwrap_or_default().to_owned())
                })
            })
        })
    }
}

/// The rules whose From, transport, port and condition fit a flow.
pub(super) struct Fits<'j, 'a> {
    judge: &'j Classifier<'a>,
    rules: Rules<'a>,
    identified: bool,
    proxied: bool,
    ip: Option<IpAddr>,
    /// Whether the address stands in for some documented name.
    mirror: bool,
}

impl<'j, 'a> Fits<'j, 'a> {
    pub(super) fn new(
        judge: &'j Classifier<'a>,
        proto: Transport,
        from: RoleSet,
        dest: &Destination,
    ) -> Self {
        let rules = judge.index.fitting(from, proto, dest.port);
        let mirror = dest.ip.is_some_and(|ip| judge.site.is_mirror(ip));
        let (identified, proxied) = (!dest.roles.is_empty(), dest.proxied);
        Fits { judge, rules, identified, proxied, ip: dest.ip, mirror }
    }

    /// Rules that the address alone fits, with the grade.
    pub(super) fn by_address(&self, ip: Option<IpAddr>) -> Vec<(Ready<'a>, Grade)> {
        let Some(ip) = ip else { return Vec::new() };
        self.rules.leading(|ready| self.address_fits(ready, ip))
    }

    fn address_fits(&self, ready: &Ready<'_>, ip: IpAddr) -> Option<Grade> {
        let site = self.judge.site;
        match &ready.here.to {
            To::Role(role) | To::SiteDefined { role, .. } => {
                site.roles_of(ip).contains(*role).then_some(Grade::Site)
            }
            To::Tag { tag: TagHere::Known(tag), .. } => {
                self.judge.matrix.tags().contains(*tag, ip).then_some(Grade::Tag)
            }
            To::VirtualNetwork => site.in_virtual_network(ip).then_some(Grade::Tag),
            To::Tag { tag: TagHere::Unknown { .. }, .. } | To::Names { .. } => None,
        }
    }

    /// Rules by a regional tag that is not known here, though the address lies in the tag of all regions.
    pub(super) fn region_unknown(&self, ip: Option<IpAddr>) -> Vec<Ready<'a>> {
        let Some(ip) = ip else { return Vec::new() };
        let within = |ready: &Ready<'_>| match &ready.here.to {
            To::Tag { tag: TagHere::Unknown { within: Some(tag), .. }, .. } => {
                self.judge.matrix.tags().contains(*tag, ip)
            }
            _ => false,
        };
        self.leading(within)
    }

    /// Rules by a tag of whose addresses nothing is known here, that some chain names as far as that can be inferred.
    pub(super) fn tag_unknown(&self, ip: Option<IpAddr>, readings: &[Reading<'_>]) -> Vec<Ready<'a>> {
        if self.identified || self.proxied || ip.is_some_and(|ip| self.judge.is_own_space(ip)) {
            return Vec::new();
        }
        self.leading(|ready| {
            matches!(ready.here.to, To::Tag { tag: TagHere::Unknown { within: None, .. }, .. })
                && readings.iter().any(|reading| self.judge.names_in(ready, reading))
        })
    }

    /// Rules that some name of some chain fits, in the order of the packs; and how many chains some rule fits.
    pub(super) fn by_readings(&self, readings: &[Reading<'_>]) -> (Vec<Ready<'a>>, usize) {
        let (mut places, mut fitting) = (vec![false; self.rules.places().count()], 0);
        for reading in readings {
            let mut some = false;
            for (ready, fits) in self.rules.places().zip(&mut places) {
                let here = self.names_fit(ready, reading);
                (*fits, some) = (*fits | here, some | here);
            }
            fitting += usize::from(some);
        }
        (self.rules.of_places(&places), fitting)
    }

    /// Rules that every chain fits.
    pub(super) fn by_every_reading(&self, readings: &[Reading<'_>]) -> Vec<Ready<'a>> {
        if readings.is_empty() {
            return Vec::new();
        }
        let fits = |ready: &Ready<'_>| readings.iter().all(|reading| self.names_fit(ready, reading));
        self.leading(fits)
    }

    /// The rules that lead where `fits` says yes.
    fn leading(&self, fits: impl Fn(&Ready<'a>) -> bool) -> Vec<Ready<'a>> {
        let found = self.rules.leading(|ready| fits(ready).then_some(()));
        found.into_iter().map(|(ready, ())| ready).collect()
    }

    /// All of them, in the order of the packs.
    pub(super) fn rules(&self) -> &[Ready<'a>] {
        &self.rules
    }

    fn names_fit(&self, ready: &Ready<'_>, reading: &Reading<'_>) -> bool {
        let (site, names) = (self.judge.site, &reading.names);
        let mirrored =
            self.mirror && self.ip.is_some_and(|ip| names.iter().any(|name| site.mirror_allows(name, ip)));
        // An address that holds a site role is identified: no rule by name fits it.
        if self.identified && !mirrored {
            return false;
        }
        match &ready.here.to {
            // Names inferred for a tag document no address outside its prefixes, but for a private endpoint.
            To::Tag { .. } if !self.proxied && !self.ip.is_some_and(|ip| site.in_virtual_network(ip)) => {
                false
            }
            _ => self.judge.names_in(ready, reading),
        }
    }

    /// Rules that could fit if the address had a name. Only rules by name can miss one; and neither a name of the vendor's
    /// nor a product's stands at an address of one's own.
    pub(super) fn if_named(&self, ip: Option<IpAddr>) -> Vec<Ready<'a>> {
        if self.identified {
            return Vec::new();
        }
        let site = self.judge.site;
        let own = ip.is_some_and(|ip| self.judge.is_own_space(ip));
        let in_network = ip.is_some_and(|ip| site.in_virtual_network(ip));
        let could = |ready: &Ready<'_>| match &ready.here.to {
            To::Names { names, zones, .. } => {
                let mirrored = ip.is_some_and(|ip| site.is_mirror(ip));
                !names.is_empty() && (!own || mirrored || (in_network && !zones.is_empty()))
            }
            To::Role(role) => !site.role_names(*role).is_empty(),
            To::SiteDefined { role, names } => !site.role_names(*role).is_empty() || !names.is_empty(),
            // Outside its prefixes is no; through a proxy the address is not seen.
            To::Tag { names, .. } => self.proxied && !names.is_empty(),
            To::VirtualNetwork => false,
        };
        self.leading(could)
    }

    /// A name that the pack itself gives (as name, behind a tag, for a product), at an address of one's own, which neither
    /// `[mirrors]` nor a private endpoint explains.
    pub(super) fn pack_name_at_own_address(&self, names: &[DomainName], ip: IpAddr) -> Option<DomainName> {
        let site = self.judge.site;
        if names.iter().any(|name| site.mirror_allows(name, ip)) {
            return None;
        }
        self.rules.places().find_map(|ready| {
            let (patterns, zones): (&[DomainPattern], &[Zone]) = match &ready.here.to {
                To::Names { names, zones, .. } | To::Tag { names, zones, .. } => (names, zones),
                To::Role(_) | To::SiteDefined { .. } | To::VirtualNetwork => return None,
            };
            let found = names.iter().find(|name| patterns.iter().any(|pattern| pattern.matches(name)))?;
            let private = names.iter().any(|name| zones.iter().any(|zone| zone.contains(name)));
            (!(private && site.in_virtual_network(ip))).then(|| found.clone())
        })
    }

    /// Whether a rule's destination is this one, port and initiator aside.
    pub(super) fn destination_fits(
        &self,
        ready: &Ready<'_>,
        dest: &Destination,
        readings: &[Reading<'_>],
    ) -> bool {
        dest.ip.is_some_and(|ip| self.address_fits(ready, ip).is_some())
            || (!readings.is_empty() && readings.iter().all(|reading| self.names_fit(ready, reading)))
    }
}

impl Classifier<'_> {
    /// Whether a chain holds a name that a rule gives, whatever the address.
    pub(super) fn names_in(&self, ready: &Ready<'_>, reading: &Reading<'_>) -> bool {
        self.matches.of(reading).fits(ready.place)
    }
}

/// Rules of these roles that give this name (or infer it for a tag), whatever the port.
pub(super) fn naming<'a>(judge: &Classifier<'a>, from: RoleSet, name: &DomainName) -> Vec<Ready<'a>> {
    let names = std::slice::from_ref(name);
    let fits = |ready: &Ready<'_>| match &ready.here.to {
        To::Names { names: patterns, .. } | To::Tag { names: patterns, .. } => any_match(patterns, names),
        To::Role(role) => judge.site.role_names(*role).contains(name),
        To::SiteDefined { role, names: patterns } => {
            judge.site.role_names(*role).contains(name) || any_match(patterns, names)
        }
        To::VirtualNetwork => false,
    };
    let named = judge.index.of(from).leading(|ready| fits(ready).then_some(()));
    named.into_iter().map(|(ready, ())| ready).filter(|ready| ready.here.state.applies()).collect()
}

pub(super) fn any_match(patterns: &[DomainPattern], names: &[DomainName]) -> bool {
    names.iter().any(|name| patterns.iter().any(|pattern| pattern.matches(name)))
}
