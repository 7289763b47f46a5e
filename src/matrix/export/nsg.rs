//! Network security groups of Azure, as a template for its resource manager.
//!
//! Facts of Microsoft's documentation: "Network security groups overview" (what rules may say, augmented rules, what reaches a
//! machine in spite of them), "Azure subscription and service limits, quotas, and constraints" (networking limits),
//! "Template reference: Microsoft.Network networkSecurityGroups" (lengths and characters), "Virtual network service tags",
//! "What is IP address 168.63.129.16", "Syntax and expressions in ARM templates" (escaping).

use super::permitted::{Among, Permit, Permitted, Side};
use super::{Distinct, Family, FirewallRules, NO_FAMILY, Unexpressed, common, cut};
use crate::matrix::baseline::{PLATFORM_ADDRESS, shown_prefix};
use crate::matrix::load::RoleIdx;
use crate::matrix::source::shown;
use crate::model::{DomainPattern, Transport};
use ipnet::IpNet;
use serde::Serialize;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;

const SCHEMA: &str = "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#";
const API_VERSION: &str = "2023-09-01";

/// Rules in a group, at most.
const MOST_RULES: usize = 1000;
/// Addresses and prefixes in the rules of a group, at most; for sources and for destinations.
const MOST_PREFIXES: usize = 4000;
/// Characters of a name.
const NAME_BYTES: usize = 80;
/// Characters of a rule's description.
const DESCRIPTION_BYTES: usize = 140;

/// The number of the first rule: 100 is the least that Azure takes.
const FIRST: usize = 100;
/// How far numbers lie apart, if there is room: so that a rule of one's own can stand between.
const STEP: usize = 10;
/// The numbers of the last rules, which refuse: 4096 is the greatest that Azure takes, and each number stands once.
const REFUSE_OUT: usize = 4096;
const REFUSE_IN: usize = 4095;

/// What a group does not stop: the host answers here (resolver, wire server, metadata, DHCP).
const BY_THE_HOST: [IpAddr; 3] =
    [PLATFORM_ADDRESS, IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)), IpAddr::V4(Ipv4Addr::BROADCAST)];

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Template {
    #[serde(rename = "$schema")]
    schema: &'static str,
    content_version: &'static str,
    metadata: Metadata,
    parameters: Parameters,
    resources: Vec<Resource>,
}

/// What the resource manager lets by unread, for people and programs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    made_by: &'static str,
    site: String,
    documented_in: Vec<String>,
    remarks: Vec<String>,
    unexpressed: Vec<Unexpressed>,
    without_effect: Vec<Without>,
}

/// Rules that permit nothing here.
#[derive(Serialize)]
struct Without {
    rules: Vec<String>,
    why: String,
}

#[derive(Serialize)]
struct Parameters {
    location: Parameter,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Parameter {
    r#type: &'static str,
    default_value: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Resource {
    r#type: &'static str,
    api_version: &'static str,
    name: String,
    location: &'static str,
    properties: Group,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    security_rules: Vec<SecurityRule>,
}

#[derive(Serialize)]
struct SecurityRule {
    name: String,
    properties: RuleProperties,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum Way {
    Outbound,
    Inbound,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RuleProperties {
    description: String,
    priority: usize,
    direction: Way,
    access: &'static str,
    protocol: &'static str,
    source_port_range: &'static str,
    #[serde(flatten)]
    destination_ports: Ports,
    #[serde(flatten)]
    source: Source,
    #[serde(flatten)]
    destination: Target,
}

#[derive(Serialize)]
#[serde(rename_all_fields = "camelCase", untagged)]
enum Ports {
    Any { destination_port_range: &'static str },
    These { destination_port_ranges: Vec<String> },
}

#[derive(Serialize)]
#[serde(rename_all_fields = "camelCase", untagged)]
enum Source {
    One { source_address_prefix: String },
    These { source_address_prefixes: Vec<String> },
}

#[derive(Serialize)]
#[serde(rename_all_fields = "camelCase", untagged)]
enum Target {
    One { destination_address_prefix: String },
    These { destination_address_prefixes: Vec<String> },
}

/// One side of a rule.
enum End {
    /// `*`, or a service tag.
    Word(String),
    Nets(Vec<IpNet>),
}

impl End {
    fn count(&self) -> usize {
        match self {
            End::Word(_) => 1,
            End::Nets(nets) => nets.len(),
        }
    }

    /// Whether it is the one machine that these are, too: what it sends to itself passes no group.
    fn is_alone(&self, these: &[IpNet]) -> bool {
        match (self, these) {
            (End::Nets(nets), [one]) => nets == these && one.prefix_len() == one.max_prefix_len(),
            _ => false,
        }
    }

    /// A word, or the list.
    fn written(self) -> Result<String, Vec<String>> {
        match self {
            End::Word(word) => Ok(literal(&word)),
            End::Nets(nets) => Err(nets.iter().map(shown_prefix).collect()),
        }
    }

    fn source(self) -> Source {
        match self.written() {
            Ok(source_address_prefix) => Source::One { source_address_prefix },
            Err(source_address_prefixes) => Source::These { source_address_prefixes },
        }
    }

    fn destination(self) -> Target {
        match self.written() {
            Ok(destination_address_prefix) => Target::One { destination_address_prefix },
            Err(destination_address_prefixes) => Target::These { destination_address_prefixes },
        }
    }
}

/// A rule without its number.
struct Draft {
    name: String,
    description: String,
    direction: Way,
    protocol: &'static str,
    ports: Option<Vec<String>>,
    source: End,
    destination: End,
}

/// Writes the template.
///
/// # Errors
/// A group would be larger than Azure takes.
pub(super) fn write(mut permitted: Permitted<'_>) -> Result<FirewallRules, String> {
    let permits = std::mem::take(&mut permitted.permits);
    for permit in &permits {
        let (mut gaps, names) = (gaps(&permitted, permit), names_of(permit));
        if let Some(tag) = permitted.tag_around(&permits, permit, &names) {
            let why = format!("all its addresses lie in the service tag {tag}, which is permitted");
            permitted.without_permit(permit, &why);
            gaps.clear();
        }
        let told = |other: &Permit<'_>| other.first() == permit.first() && is_written(&permitted, other);
        if gaps.is_empty() && is_impossible(&permitted, permit) && !permits.iter().any(told) {
            permitted.without_permit(permit, NO_FAMILY);
        }
        permitted.unexpressed.extend(gaps);
    }
    let mut names = Distinct::default();
    let mut resources = Vec::new();
    for &role in &permitted.guarded {
        let id = &permitted.matrix.role_def(role).id;
        let drafts = drafts(&permitted, role, &permits);
        let security_rules = numbered(drafts).map_err(|why| {
            format!("the network security group for {id} would have {why}: guard fewer machines at once (--role), or join prefixes")
        })?;
        resources.push(Resource {
            r#type: "Microsoft.Network/networkSecurityGroups",
            api_version: API_VERSION,
            name: name(&mut names, &format!("portproof-{id}")),
            location: "[parameters('location')]",
            properties: Group { security_rules },
        });
    }
    let mut remarks = remarks(&permitted, &permits);
    remarks.append(&mut permitted.remarks);
    let metadata = Metadata {
        made_by: "portproof rules export --for nsg",
        site: literal(permitted.site.name()),
        documented_in: permitted.pages().iter().map(|page| literal(page)).collect(),
        remarks: remarks.iter().map(|remark| literal(remark)).collect(),
        unexpressed: permitted.unexpressed.iter().map(literally).collect(),
        without_effect: permitted
            .without
            .iter()
            .map(|(why, ids)| Without {
                rules: ids.iter().map(|id| literal(id)).collect(),
                why: literal(why),
            })
            .collect(),
    };
    let location = Parameter { r#type: "string", default_value: "[resourceGroup().location]" };
    let template = Template {
        schema: SCHEMA,
        content_version: "1.0.0.0",
        metadata,
        parameters: Parameters { location },
        resources,
    };
    let text =
        serde_json::to_string_pretty(&template).map_err(|error| format!("cannot be written: {error}"))?;
    Ok(FirewallRules { text: format!("{text}\n"), unexpressed: permitted.unexpressed, remarks })
}

/// What of a permit no group can say.
fn gaps(permitted: &Permitted<'_>, permit: &Permit<'_>) -> Vec<Unexpressed> {
    let gap = |names: Vec<String>, why: &str| Unexpressed { rule: permit.ids(), names, why: why.to_owned() };
    let mut gaps = Vec::new();
    let others = permit.ways.iter().any(|way| !matches!(way, Side::Names(_)));
    let is_written = is_written(permitted, permit);
    for way in &permit.ways {
        match way {
            // The addresses are let by, and said to be all.
            Side::Names(named) if named.is_listed && is_written => {}
            Side::Names(named) => {
                let names = named.patterns.iter().map(ToString::to_string).collect();
                let why = match (named.among, others, is_written) {
                    (Among::VirtualNetwork, _, true) => {
                        "in part: private endpoints of it in the virtual network are told by DNS name"
                    }
                    (_, true, true) => "in part: by address it is, by DNS name no network security group can",
                    (_, true, false) => {
                        "nothing of it is permitted: no rule by address can be written, and by DNS name no network security group can"
                    }
                    (_, false, _) => {
                        "a network security group knows no DNS names; application rules of Azure Firewall do"
                    }
                };
                let gap = gap(names, why);
                // Names alone are told once, wherever they lead.
                if !gaps.contains(&gap) {
                    gaps.push(gap);
                }
            }
            Side::Tag { name, nets: Err(why) } if name.contains('<') => {
                gaps.push(gap(vec![name.clone()], why))
            }
            _ => {}
        }
    }
    for transport in permit.transports.iter().filter(|transport| protocol(**transport).is_none()) {
        gaps.push(gap(vec![transport.to_string()], "a network security group knows no such protocol"));
    }
    gaps
}

/// Whether a permit has no rule in any group, though groups stop its traffic.
fn is_impossible(permitted: &Permitted<'_>, permit: &Permit<'_>) -> bool {
    let by_host = by_the_host(&permit.from) || permit.ways.iter().all(by_the_host);
    !by_host && !is_written(permitted, permit)
}

/// Whether a permit has a rule in some group.
fn is_written(permitted: &Permitted<'_>, permit: &Permit<'_>) -> bool {
    let mut machines = permitted.guarded.iter().map(|role| permitted.nets(&Side::Role(*role)));
    let directions = [Way::Outbound, Way::Inbound];
    permit.transports.iter().any(|transport| protocol(*transport).is_some())
        && machines.any(|machines| {
            directions.iter().any(|direction| !ends(permitted, permit, *direction, &machines).is_empty())
        })
}

/// The names that a permit leads to, if it leads to nothing else.
fn names_of(permit: &Permit<'_>) -> Vec<DomainPattern> {
    let mut names = Vec::new();
    for way in &permit.ways {
        match way {
            Side::Names(named) => names.extend(named.patterns.iter().cloned()),
            _ => return Vec::new(),
        }
    }
    names
}

/// Whether it is Azure's host alone.
fn by_the_host(side: &Side) -> bool {
    match side {
        Side::Listed(nets) => !nets.is_empty() && beyond_the_host(nets).is_empty(),
        _ => false,
    }
}

/// What is to be said of these rules as rules of network security groups.
fn remarks(permitted: &Permitted<'_>, permits: &[Permit<'_>]) -> Vec<String> {
    let mut remarks = vec![
        "each group is for network interfaces or subnets of that role's machines alone: what it does not permit it refuses to \
         whatever is behind it, and logs nothing (virtual network flow logs do)"
            .to_owned(),
    ];
    let hosts =
        permits.iter().filter(|permit| permit.from == Side::Guarded && permit.ways.iter().all(by_the_host));
    let hosts: Vec<String> = hosts.map(Permit::ids).collect();
    if !hosts.is_empty() {
        remarks.push(format!(
            "Azure's host answers at 168.63.129.16 and 169.254.169.254 whatever a group says: {} need no rule",
            hosts.join(", ")
        ));
    }
    let by_list = permits.iter().filter(|permit| {
        let is_listed = |way: &Side| matches!(way, Side::Names(named) if named.is_listed);
        permit.ways.iter().any(is_listed) && is_written(permitted, permit)
    });
    let by_list: Vec<String> = by_list.map(Permit::ids).collect();
    if !by_list.is_empty() {
        remarks.push(format!(
            "{}: let by at the addresses that the platform lists for its names, at no other that a resolver gives",
            by_list.join(", ")
        ));
    }
    let unknown = permits.iter().flat_map(|permit| permit.ways.iter().map(move |way| (permit, way)));
    for (permit, way) in unknown {
        if let Side::Tag { name, nets: Err(_) } = way
            && !name.contains('<')
        {
            remarks.push(format!(
                "{}: whether there is a service tag {name} in the {} cloud was not checked, for want of its service tags",
                permit.ids(),
                permitted.site.cloud()
            ));
        }
    }
    remarks
}

/// The rules of the group for one role.
fn drafts(permitted: &Permitted<'_>, role: RoleIdx, permits: &[Permit<'_>]) -> Vec<Draft> {
    let machines = permitted.nets(&Side::Role(role));
    let mut drafts = Vec::new();
    let mut names = Distinct::default();
    for direction in [Way::Outbound, Way::Inbound] {
        for permit in permits {
            let id = permit.first();
            let description =
                cut(&shown(&format!("{}: {}", permit.citation(), permit.purpose)), DESCRIPTION_BYTES);
            for protocol in permit.transports.iter().filter_map(|transport| protocol(*transport)) {
                for (family, source, destination) in ends(permitted, permit, direction, &machines) {
                    let end = match direction {
                        Way::Outbound => "out",
                        Way::Inbound => "in",
                    };
                    let version = match family {
                        Family::V4 => "",
                        Family::V6 => "-ipv6",
                    };
                    drafts.push(Draft {
                        name: name(&mut names, &format!("{id}-{end}{version}")),
                        description: literal(&description),
                        direction,
                        protocol,
                        ports: permit.ports.as_deref().filter(|_| protocol != "Icmp").map(ranges),
                        source,
                        destination,
                    });
                }
            }
        }
    }
    drafts
}

/// Who begins what to whom, of what a permit means for these machines, in one direction.
fn ends(
    permitted: &Permitted<'_>,
    permit: &Permit<'_>,
    direction: Way,
    machines: &[IpNet],
) -> Vec<(Family, End, End)> {
    let mut found = Vec::new();
    for way in &permit.ways {
        for family in Family::BOTH {
            let these = match direction {
                Way::Outbound => common(&permitted.nets(&permit.from), machines),
                Way::Inbound => common(&permitted.nets(way), machines),
            };
            let these = family.of(&these);
            if these.is_empty() {
                continue;
            }
            match direction {
                Way::Outbound => {
                    found
                        .extend(asked(permitted, way, family).map(|asked| (family, End::Nets(these), asked)));
                }
                Way::Inbound => {
                    let begin = begun(permitted, permit, family).filter(|begin| !begin.is_alone(&these));
                    found.extend(begin.map(|begin| (family, begin, End::Nets(these))));
                }
            }
        }
    }
    found
}

/// The destination that a way means, in one version of IP; none where that has no such.
fn asked(permitted: &Permitted<'_>, way: &Side, family: Family) -> Option<End> {
    let some = |nets: &[IpNet]| !family.of(nets).is_empty();
    match way {
        Side::Anyone => Some(End::Word("*".to_owned())),
        Side::Internet => Some(End::Word("Internet".to_owned())),
        Side::Tag { name, nets: Ok(nets) } => some(nets).then(|| End::Word(name.clone())),
        Side::Tag { name, nets: Err(_) } => (!name.contains('<')).then(|| End::Word(name.clone())),
        // Not Azure's own word for it, which also stands for peered networks and for what is routed there.
        Side::Role(_) | Side::Guarded | Side::Listed(_) | Side::VirtualNetwork => {
            let nets = family.of(&beyond_the_host(&permitted.nets(way)));
            (!nets.is_empty()).then_some(End::Nets(nets))
        }
        Side::Names(_) => None,
    }
}

/// Who begins, in one version of IP.
fn begun(permitted: &Permitted<'_>, permit: &Permit<'_>, family: Family) -> Option<End> {
    let nets = permitted.nets(&permit.from);
    // Probes of a load balancer come from the host's address, and go by a tag of their own; they are what it begins over TCP.
    let probes = nets.contains(&IpNet::from(PLATFORM_ADDRESS)) && permit.transports.contains(&Transport::Tcp);
    if probes && family == Family::V4 && beyond_the_host(&nets).is_empty() {
        return Some(End::Word("AzureLoadBalancer".to_owned()));
    }
    asked(permitted, &permit.from, family)
}

/// The prefixes that are not Azure's host alone.
fn beyond_the_host(nets: &[IpNet]) -> Vec<IpNet> {
    nets.iter().filter(|net| !BY_THE_HOST.iter().any(|host| IpNet::from(*host) == **net)).copied().collect()
}

/// The rules with their numbers, and those at the end that refuse.
///
/// # Errors
/// What there is too much of.
fn numbered(drafts: Vec<Draft>) -> Result<Vec<SecurityRule>, String> {
    if drafts.len() + 2 > MOST_RULES {
        return Err(format!("{} rules, and Azure takes {MOST_RULES}", drafts.len() + 2));
    }
    let prefixes = |of: fn(&Draft) -> &End| drafts.iter().map(|draft| of(draft).count()).sum::<usize>();
    let most = prefixes(|draft| &draft.source).max(prefixes(|draft| &draft.destination));
    if most > MOST_PREFIXES {
        return Err(format!(
            "{most} addresses and prefixes on one side of its rules, and Azure takes {MOST_PREFIXES}"
        ));
    }
    let in_direction = |way: Way| drafts.iter().filter(|draft| draft.direction == way).count();
    let longest = in_direction(Way::Outbound).max(in_direction(Way::Inbound)).max(1);
    let step = ((REFUSE_IN - FIRST) / longest).min(STEP);
    let mut next = [FIRST, FIRST];
    let mut rules = Vec::new();
    for draft in drafts {
        let [outbound, inbound] = &mut next;
        let number = match draft.direction {
            Way::Outbound => outbound,
            Way::Inbound => inbound,
        };
        rules.push(rule(draft, *number, "Allow"));
        *number += step;
    }
    for (name, direction, number, what) in [
        ("undocumented-out", Way::Outbound, REFUSE_OUT, "begin"),
        ("undocumented-in", Way::Inbound, REFUSE_IN, "are asked for"),
    ] {
        let refused = Draft {
            name: name.to_owned(),
            description: format!("What these machines {what} and no rule above permits is undocumented."),
            direction,
            protocol: "*",
            ports: None,
            source: End::Word("*".to_owned()),
            destination: End::Word("*".to_owned()),
        };
        rules.push(rule(refused, number, "Deny"));
    }
    Ok(rules)
}

fn rule(draft: Draft, priority: usize, access: &'static str) -> SecurityRule {
    SecurityRule {
        name: draft.name,
        properties: RuleProperties {
            description: draft.description,
            priority,
            direction: draft.direction,
            access,
            protocol: draft.protocol,
            source_port_range: "*",
            destination_ports: match draft.ports {
                Some(destination_port_ranges) => Ports::These { destination_port_ranges },
                None => Ports::Any { destination_port_range: "*" },
            },
            source: draft.source.source(),
            destination: draft.destination.destination(),
        },
    }
}

fn ranges(ports: &[RangeInclusive<u16>]) -> Vec<String> {
    let shown = ports.iter().map(|range| match range.start() == range.end() {
        true => range.start().to_string(),
        false => format!("{}-{}", range.start(), range.end()),
    });
    shown.collect()
}

/// The group's word for a transport; none where it has none. ICMPv6 no group knows.
fn protocol(transport: Transport) -> Option<&'static str> {
    match transport {
        Transport::Tcp => Some("Tcp"),
        Transport::Udp => Some("Udp"),
        Transport::Icmp => Some("Icmp"),
        Transport::Other(50) => Some("Esp"),
        Transport::Other(51) => Some("Ah"),
        Transport::Icmp6 | Transport::Sctp | Transport::Other(_) => None,
    }
}

/// A name as Azure takes it: letters, digits, `_`, `.`, `-`; the last is a letter, a digit or `_`.
fn name(taken: &mut Distinct, text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-') { c } else { '_' };
    let text: String = text.chars().map(plain).collect();
    taken.name(text.trim_end_matches(['.', '-']), NAME_BYTES)
}

/// A text as the resource manager takes it: within brackets it would be an expression.
fn literal(text: &str) -> String {
    let text = shown(text);
    if text.starts_with('[') && text.ends_with(']') { format!("[{text}") } else { text }
}

fn literally(gap: &Unexpressed) -> Unexpressed {
    Unexpressed {
        rule: literal(&gap.rule),
        names: gap.names.iter().map(|name| literal(name)).collect(),
        why: literal(&gap.why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_within_brackets_is_no_expression() {
        for (text, expected) in [
            ("[resourceGroup().location]", "[[resourceGroup().location]"),
            ("[x", "[x"),
            ("plain", "plain"),
            ("[]", "[[]"),
        ] {
            assert_eq!(literal(text), expected);
        }
    }

    #[test]
    fn names_are_of_azures_characters_and_end_as_they_must() {
        let mut taken = Distinct::default();
        for (text, expected) in
            [("vbaz-05a-out", "vbaz-05a-out"), ("vbaz-05a-out", "vbaz-05a-out_2"), ("a b-.", "a_b")]
        {
            assert_eq!(name(&mut taken, text), expected);
        }
        let long = name(&mut taken, &"x".repeat(200));
        assert_eq!(long.len(), NAME_BYTES);
        assert_eq!(name(&mut taken, &long).len(), NAME_BYTES);
    }

    fn draft(direction: Way, nets: usize) -> Draft {
        Draft {
            name: "r".to_owned(),
            description: String::new(),
            direction,
            protocol: "Tcp",
            ports: None,
            source: End::Nets(vec!["10.0.0.0/32".parse().unwrap(); nets]),
            destination: End::Word("*".to_owned()),
        }
    }

    #[test]
    fn a_group_has_no_more_than_azure_takes_and_its_numbers_stand_once() {
        let drafts =
            |rules: usize, nets: usize| (0..rules).map(|_| draft(Way::Outbound, nets)).collect::<Vec<_>>();
        for rules in [1, 398, 399, 400, 998] {
            let rules = numbered(drafts(rules, 1)).unwrap();
            let numbers: Vec<usize> = rules.iter().map(|rule| rule.properties.priority).collect();
            let (refusing, permitting) =
                numbers.split_last_chunk::<2>().map(|(front, last)| (last, front)).unwrap();
            assert_eq!(*refusing, [REFUSE_OUT, REFUSE_IN]);
            assert!(permitting.is_sorted_by(|a, b| a < b), "{numbers:?}");
            assert!(permitting.iter().all(|number| (FIRST..REFUSE_IN).contains(number)), "{numbers:?}");
        }
        let told = |drafts| numbered(drafts).err().unwrap_or_default();
        assert!(told(drafts(999, 1)).contains("1001 rules"));
        assert!(told(drafts(1, 4001)).contains("4001 addresses"));
        assert!(told(drafts(1, 4000)).is_empty());
    }
}
