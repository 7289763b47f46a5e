//! Which rules fit a destination: by role, by prefix or tag, by name.

use super::classify::Classifier;
use crate::audit::Grade;
use crate::matrix::{Destination as To, RoleId, Rule, Site};
use crate::model::{DomainName, DomainPattern, Transport};
use crate::names::Reading;
use std::net::IpAddr;

/// Where a flow goes: its responder, or what the client asked its proxy for.
pub(super) struct Destination {
    /// None where only a name is known (through a proxy).
    pub ip: Option<IpAddr>,
    pub port: u16,
    /// Roles of the address.
    pub roles: Vec<RoleId>,
    pub proxied: bool,
}

/// The rules whose From, transport, port and condition fit a flow.
pub(super) struct Fits<'a> {
    site: &'a Site,
    judge: &'a Classifier<'a>,
    rules: Vec<&'a Rule>,
    identified: bool,
    proxied: bool,
    ip: Option<IpAddr>,
}

impl<'a> Fits<'a> {
    pub(super) fn new(
        judge: &'a Classifier<'a>,
        proto: Transport,
        from_roles: &[RoleId],
        dest: &Destination,
    ) -> Self {
        let site = judge.site;
        let rules = judge
            .matrix
            .rules
            .iter()
            .filter(|rule| rule.transport == proto && rule.ports.contains(dest.port))
            .filter(|rule| from_roles.contains(&rule.from))
            .filter(|rule| !rule.is_alias() || site.aliases())
            .filter(|rule| site.condition(rule).is_none_or(|condition| condition.on))
            .collect();
        Fits { site, judge, rules, identified: !dest.roles.is_empty(), proxied: dest.proxied, ip: dest.ip }
    }

    /// Rules that the address alone fits, with the grade.
    pub(super) fn by_address(&self, ip: Option<IpAddr>) -> Vec<(&'a Rule, Grade)> {
        let Some(ip) = ip else { return Vec::new() };
        self.rules.iter().filter_map(|rule| Some((*rule, self.address_fits(rule, ip)?))).collect()
    }

    fn address_fits(&self, rule: &Rule, ip: IpAddr) -> Option<Grade> {
        match &rule.to {
            To::Role(role) | To::RoleOrNames { role, .. } => {
                self.site.roles_of(ip).contains(role).then_some(Grade::Site)
            }
            To::Tag(tag) => {
                let name = self.site.tag_name(&tag.tag, &self.judge.matrix.tags)?;
                self.judge.matrix.tags.contains(&name, ip).then_some(Grade::Tag)
            }
            To::VirtualNetwork => self.site.in_virtual_network(ip).then_some(Grade::Tag),
            To::Names(_) | To::SiteNames { .. } => None,
        }
    }

    /// Rules that some name of one chain fits.
    pub(super) fn by_reading(&self, names: &[DomainName]) -> Vec<&'a Rule> {
        self.rules.iter().copied().filter(|rule| self.names_fit(rule, names)).collect()
    }

    /// Rules that every chain fits.
    pub(super) fn by_every_reading(&self, readings: &[Reading]) -> Vec<&'a Rule> {
        if readings.is_empty() {
            return Vec::new();
        }
        let fits = |rule: &Rule| readings.iter().all(|reading| self.names_fit(rule, &reading.names));
        self.rules.iter().copied().filter(|rule| fits(rule)).collect()
    }

    fn names_fit(&self, rule: &Rule, names: &[DomainName]) -> bool {
        let mirrored = self.ip.is_some_and(|ip| names.iter().any(|name| self.site.mirror_allows(name, ip)));
        // An address that holds a site role is identified: no rule by name fits it.
        if self.identified && !mirrored {
            return false;
        }
        match &rule.to {
            To::Names(patterns) => any_match(patterns, names),
            To::SiteNames { key, default } => any_match(self.site.names(key).unwrap_or(default), names),
            To::Role(role) => self.role_names_fit(role, names),
            To::RoleOrNames { role, key } => {
                self.role_names_fit(role, names)
                    || self.site.names(key).is_some_and(|patterns| any_match(patterns, names))
            }
            To::Tag(_) => {
                let private_endpoint = self.ip.is_some_and(|ip| self.site.in_virtual_network(ip));
                (self.proxied || private_endpoint) && Self::tag_names_fit(self.site, rule, names)
            }
            To::VirtualNetwork => false,
        }
    }

    fn role_names_fit(&self, role: &RoleId, names: &[DomainName]) -> bool {
        self.site.role_names(role).iter().any(|own| names.contains(own))
    }

    /// Whether a chain holds a name behind the rule's tag.
    pub(super) fn tag_names_fit(site: &Site, rule: &Rule, names: &[DomainName]) -> bool {
        match &rule.to {
            To::Tag(tag) => any_match(tag.names(site.cloud()), names),
            _ => false,
        }
    }

    /// Rules that could fit if the address had a name. Only rules by name can miss one; and neither a name of the vendor's
    /// nor a product's stands at an address of one's own.
    pub(super) fn if_named(&self, ip: Option<IpAddr>) -> Vec<&'a Rule> {
        if self.identified {
            return Vec::new();
        }
        let own = ip.is_some_and(|ip| self.judge.is_own_space(ip));
        let in_network = ip.is_some_and(|ip| self.site.in_virtual_network(ip));
        let could = |rule: &&Rule| match &rule.to {
            To::Names(_) | To::SiteNames { .. } => {
                let mirrored = ip.is_some_and(|ip| self.site.is_mirror(ip));
                let named = match &rule.to {
                    To::SiteNames { key, default } => {
                        !self.site.names(key).unwrap_or(default).is_empty()
                    }
                    _ => true,
                };
                named && (!own || mirrored)
            }
            To::Role(role) => !self.site.role_names(role).is_empty(),
            To::RoleOrNames { role, key } => {
                !self.site.role_names(role).is_empty()
                    || self.site.names(key).is_some_and(|patterns| !patterns.is_empty())
            }
            To::Tag(tag) => (self.proxied || in_network) && !tag.names(self.site.cloud()).is_empty(),
            To::VirtualNetwork => false,
        };
        self.rules.iter().copied().filter(could).collect()
    }

    /// A name that the pack itself gives (as name, behind a tag, for a product), at an address of one's own, which neither
    /// `[mirrors]` nor a private endpoint explains.
    pub(super) fn pack_name_at_own_address(&self, names: &[DomainName], ip: IpAddr) -> Option<DomainName> {
        if names.iter().any(|name| self.site.mirror_allows(name, ip)) {
            return None;
        }
        self.rules.iter().find_map(|rule| {
            let patterns: &[DomainPattern] = match &rule.to {
                To::Names(patterns) => patterns,
                To::SiteNames { key, default } => match self.site.names(key) {
                    Some(_) => &[],
                    None => default,
                },
                To::Tag(tag) => {
                    let zone = any_match(tag.private_zones(self.site.cloud()), names);
                    if zone && self.site.in_virtual_network(ip) {
                        return None;
                    }
                    tag.names(self.site.cloud())
                }
                To::Role(_) | To::RoleOrNames { .. } | To::VirtualNetwork => &[],
            };
            names.iter().find(|name| patterns.iter().any(|pattern| pattern.matches(name))).cloned()
        })
    }

    /// Whether some rule of these roles gives this name, whatever the port.
    pub(super) fn documents_name(&self, from_roles: &[RoleId], name: &DomainName) -> bool {
        let name = std::slice::from_ref(name);
        self.judge.matrix.rules.iter().any(|rule| {
            from_roles.contains(&rule.from)
                && (!rule.is_alias() || self.site.aliases())
                && match &rule.to {
                    To::Names(patterns) => any_match(patterns, name),
                    To::SiteNames { key, default } => any_match(self.site.names(key).unwrap_or(default), name),
                    To::Tag(_) => Self::tag_names_fit(self.site, rule, name),
                    To::Role(role) => self.role_names_fit(role, name),
                    To::RoleOrNames { role, key } => {
                        self.role_names_fit(role, name)
                            || self.site.names(key).is_some_and(|patterns| any_match(patterns, name))
                    }
                    To::VirtualNetwork => false,
                }
        })
    }

    /// Whether a rule's destination is this one, port and initiator aside.
    pub(super) fn destination_fits(&self, rule: &Rule, dest: &Destination, readings: &[Reading]) -> bool {
        dest.ip.is_some_and(|ip| self.address_fits(rule, ip).is_some())
            || (!readings.is_empty() && readings.iter().all(|reading| self.names_fit(rule, &reading.names)))
    }

    /// The role that a rule leads to, if it leads to one.
    pub(super) fn role_of(&self, rule: &Rule) -> Option<RoleId> {
        match &rule.to {
            To::Role(role) | To::RoleOrNames { role, .. } => Some(role.clone()),
            _ => None,
        }
    }
}

fn any_match(patterns: &[DomainPattern], names: &[DomainName]) -> bool {
    names.iter().any(|name| patterns.iter().any(|pattern| pattern.matches(name)))
}
