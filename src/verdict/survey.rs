//! What captures show of an installation that nobody has described yet: which machine does what the page says of which
//! role, which cloud and region it is in, who resolves its names. A draft of the site file rests on it.
//!
//! It is no judgement. A machine is placed by what it asks for and reaches at any time; which answer it had before which
//! connection is left to [`Judge`](super::Judge), once somebody has checked the site.

use crate::flow::{FlowRecord, InitiatorBy};
use crate::matrix::{
    Cloud, Destination, HTTP_PROXY_ROLE, Matrix, NamesKey, PLATFORM_ADDRESS, PublicResolvers, RoleIdx, Rule,
    RuleId, TagId,
};
use crate::model::{DomainName, DomainPattern, Transport};
use crate::names::{NameRow, NameSource};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Pairs of client and address of which names are kept: a million, some 200 MiB at the most. What is beyond is counted.
const MOST_NAMED: usize = 1 << 20;

/// Names kept of one such pair: enough for a draft.
const NAMES_OF_PAIR: usize = 8;

/// Different entries of each list that is kept: machines, contacts, accounts, destinations. What is beyond is counted.
const MOST_LISTED: usize = 1 << 16;

/// Destinations that are kept of a machine, to tell what one without a role does.
const DESTINATIONS_OF_MACHINE: usize = 64;

/// Things a machine must do of a role before it is proposed for it: one alone is what many others do, too.
const FIRM: usize = 2;

/// The least part of a role's things that it must do: a quarter.
const LEAST_PART: usize = 4;

/// Different destinations that a machine must have been asked for before it counts as a proxy: a probe asks for one.
const PROXIED: usize = 2;

/// Answers of a server, in the most that any gave, below which somebody has to agree to it: a tenth.
const FEW: u64 = 10;

/// How often machines are placed: what peers are may say what a machine is, and the other way round.
const ROUNDS: usize = 4;

/// A survey, row by row: all names first, then all flows.
pub struct Survey<'m> {
    matrix: &'m Matrix,
    kinds: Vec<Kind<'m>>,
    clouds: BTreeMap<Cloud, u64>,
    names: HashMap<(IpAddr, IpAddr), Vec<DomainName>, RandomState>,
    resolvers: BTreeMap<IpAddr, u64>,
    regions: BTreeMap<String, u64>,
    time_servers: BTreeMap<IpAddr, u64>,
    /// What each machine was asked to connect to, with an answer that is no refusal.
    proxies: BTreeMap<IpAddr, BTreeMap<String, u64>>,
    machines: BTreeMap<IpAddr, Machine>,
    /// From whom, to whom, which kind of traffic between roles it may be.
    contacts: BTreeMap<(IpAddr, IpAddr, usize), u64>,
    /// Names on the ports of destinations that the site names, and who asked for them.
    asked: BTreeMap<(NamesKey, IpAddr, DomainName), u64>,
    /// Who asked for a storage account's name.
    account_of: BTreeMap<(String, IpAddr), u64>,
    platform: BTreeMap<IpAddr, u64>,
    /// Codes of regions, by cloud, once somebody asked.
    codes: BTreeMap<Cloud, BTreeSet<String>>,
    flows: u64,
    from_outside: u64,
    not_kept: u64,
    machines_not_kept: u64,
}

/// Rules that the same flows would fit.
struct Kind<'m> {
    rule: &'m Rule,
    ids: Vec<&'m RuleId>,
    from: RoleIdx,
    to: To,
}

/// Where a kind of traffic goes, as far as captures alone tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    /// To names or addresses that the pack knows.
    Known,
    /// To a machine of the site.
    Role(RoleIdx),
    /// To a machine that only the site can tell, of its own or not.
    Given(RoleIdx),
    /// To what the site alone knows.
    Unknown,
}

/// A machine of private space.
#[derive(Default)]
struct Machine {
    begun: u64,
    /// Kinds of traffic to known destinations that it began.
    known: BTreeSet<usize>,
    /// Those of them that only one role begins.
    telling: BTreeSet<usize>,
    destinations: BTreeMap<(String, Transport, u16), u64>,
}

/// What a site file may say, and why. Lists begin with what was seen most.
#[derive(Debug)]
pub struct SiteDraft {
    /// The cloud whose names were asked for most.
    pub cloud: Cloud,
    /// Names of each cloud that were asked for.
    pub clouds: Vec<(Cloud, u64)>,
    /// Regions whose addresses were gone to for documented traffic, by flows.
    pub regions: Vec<(String, u64)>,
    /// Storage accounts whose names were asked for, by answers and server names, and who asked most.
    pub accounts: Vec<(String, u64, IpAddr)>,
    /// Who answered DNS queries, by answers.
    pub resolvers: Vec<Server>,
    /// Who answered over NTP, by flows.
    pub time_servers: Vec<Server>,
    /// Who was asked to connect to others, by flows.
    pub proxies: Vec<Server>,
    /// Machines that spoke to the platform's own address: they run in Azure.
    pub platform: Vec<(IpAddr, u64)>,
    /// Every role of the packs, in their order.
    pub roles: Vec<RoleDraft>,
    /// Every destination whose names the site may give.
    pub keys: Vec<KeyDraft>,
    /// Machines of private space that begin something and fit no role, by flows.
    pub unplaced: Vec<Unplaced>,
    /// Flows looked at.
    pub flows: u64,
    /// Machines of private space.
    pub machines: usize,
    /// Flows that addresses outside of private space began.
    pub from_outside: u64,
    /// Names and contacts beyond what is kept.
    pub not_kept: u64,
    /// Flows of machines beyond those that are kept: what these do is not known.
    pub machines_not_kept: u64,
}

/// A server, and how much it answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its address.
    pub ip: IpAddr,
    /// How often.
    pub count: u64,
    /// Whether it is one of the site's own or of the platform, by its address.
    pub own: bool,
    /// Whether others did so much more that it may be there by chance.
    pub few: bool,
    /// Who operates it, if it is known as a public resolver.
    pub operator: Option<String>,
}

/// Who may play a role.
#[derive(Debug)]
pub struct RoleDraft {
    /// The role's name.
    pub id: String,
    /// What people call it.
    pub title: String,
    /// Whether its machines are the ones audited.
    pub subject: bool,
    /// How many kinds of traffic the packs know of it, rules of the same traffic counted once.
    pub kinds: usize,
    /// Machines, those that do most of it first.
    pub machines: Vec<Placed>,
}

/// A machine that may play a role.
#[derive(Debug)]
pub struct Placed {
    /// Its address.
    pub ip: IpAddr,
    /// Whether it is proposed; else it is told only.
    pub firm: bool,
    /// How many kinds of the role's traffic it takes part in.
    pub kinds: usize,
    /// The rules of that traffic.
    pub rules: Vec<String>,
    /// Other roles that would do as well.
    pub or: Vec<String>,
}

/// A destination whose names the site may give.
#[derive(Debug)]
pub struct KeyDraft {
    /// The key under `[names]`.
    pub key: String,
    /// The rules that it names.
    pub rules: Vec<String>,
    /// Names that the packs supply.
    pub default: Vec<String>,
    /// Names that machines of the role asked for and reached on the rules' ports while no other rule knows them, by flows.
    pub seen: Vec<(DomainName, u64)>,
}

/// A machine without a role.
#[derive(Debug)]
pub struct Unplaced {
    /// Its address.
    pub ip: IpAddr,
    /// Flows that it began.
    pub begun: u64,
    /// Where most of them go: name or address, transport, port, flows.
    pub most: Option<(String, Transport, u16, u64)>,
}

/// Whether an address is of private space and of one machine (RFC 1918, RFC 6598, RFC 4193).
fn is_machine(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_private() || (v4.octets()[0] == 100 && v4.octets()[1] & 0xC0 == 64),
        IpAddr::V6(v6) => v6.is_unique_local(),
    }
}

/// Counts, as long as there is room.
fn add<K: Ord>(counts: &mut BTreeMap<K, u64>, key: K, not_kept: &mut u64) {
    if counts.len() < MOST_LISTED || counts.contains_key(&key) {
        *counts.entry(key).or_default() += 1;
    } else {
        *not_kept += 1;
    }
}

/// Accounts with how often they were asked for, and by whom most.
fn accounts(of: BTreeMap<(String, IpAddr), u64>) -> Vec<(String, u64, IpAddr)> {
    let mut sums: BTreeMap<String, (u64, u64, IpAddr)> = BTreeMap::new();
    for ((account, client), count) in of {
        let (sum, most, by) = sums.entry(account).or_insert((0, 0, client));
        *sum += count;
        if count > *most {
            (*most, *by) = (count, client);
        }
    }
    let mut all: Vec<_> = sums.into_iter().map(|(account, (sum, _, by))| (account, sum, by)).collect();
    all.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    all
}

/// What was counted, most first.
fn by_count<K: Ord>(counts: BTreeMap<K, u64>) -> Vec<(K, u64)> {
    let mut all: Vec<_> = counts.into_iter().collect();
    all.sort_by(|(one, of_one), (other, of_other)| of_other.cmp(of_one).then_with(|| one.cmp(other)));
    all
}

impl<'m> Survey<'m> {
    /// Nothing seen yet.
    pub fn new(matrix: &'m Matrix) -> Self {
        let mut kinds: Vec<Kind<'m>> = Vec::new();
        for rule in matrix.rules().iter().filter(|rule| !rule.is_alias()) {
            if let Some(kind) = kinds.iter_mut().find(|kind| kind.rule.same_traffic(rule)) {
                kind.ids.push(&rule.id);
                continue;
            }
            let role = |id: &str| matrix.role(id);
            let to = match &rule.to {
                Destination::Names(_) | Destination::Tag { .. } => To::Known,
                Destination::SiteNames { default, .. } if !default.is_empty() => To::Known,
                Destination::Role(id) => role(id.as_str()).map_or(To::Unknown, To::Role),
                Destination::SiteDefined { role: id, .. } => role(id.as_str()).map_or(To::Unknown, To::Given),
                Destination::SiteNames { .. } | Destination::VirtualNetwork => To::Unknown,
            };
            if let Some(from) = role(rule.from.as_str()) {
                kinds.push(Kind { rule, ids: vec![&rule.id], from, to });
            }
        }
        Survey {
            matrix,
            kinds,
            clouds: BTreeMap::new(),
            names: HashMap::default(),
            resolvers: BTreeMap::new(),
            account_of: BTreeMap::new(),
            regions: BTreeMap::new(),
            time_servers: BTreeMap::new(),
            proxies: BTreeMap::new(),
            machines: BTreeMap::new(),
            contacts: BTreeMap::new(),
            asked: BTreeMap::new(),
            platform: BTreeMap::new(),
            codes: BTreeMap::new(),
            flows: 0,
            from_outside: 0,
            not_kept: 0,
            machines_not_kept: 0,
        }
    }

    /// Takes a row of the names table.
    pub fn name(&mut self, row: &NameRow) {
        if !is_machine(row.client_ip) {
            return;
        }
        if let (NameSource::Tls | NameSource::Quic | NameSource::Http, Some(told)) = (row.source, &row.name) {
            let name = told.parse();
            name.iter().for_each(|name| self.count_name(name, row.client_ip));
            return;
        }
        let (NameSource::Dns, Some(asked)) = (row.source, &row.qname) else { return };
        let addresses = row.a.iter().chain(&row.aaaa);
        if row.answered_query != Some(true) || row.rcode != Some(0) {
            return;
        }
        if let Some(resolver) = row.resolver_ip {
            add(&mut self.resolvers, resolver, &mut self.not_kept);
        }
        self.count_name(asked, row.client_ip);
        for name in std::iter::once(asked).chain(row.cname_chain.iter().map(|alias| &alias.target)) {
            for &address in addresses.clone() {
                self.keep_name(row.client_ip, address, name);
            }
        }
    }

    fn count_name(&mut self, name: &DomainName, client: IpAddr) {
        let (mut clouds, mut account) = (BTreeSet::new(), None);
        for service in self.matrix.services() {
            for (cloud, of_cloud) in &service.clouds {
                for pattern in of_cloud.names.iter().filter(|pattern| pattern.matches(name)) {
                    clouds.insert(*cloud);
                    account = account.or_else(|| pattern.placeholder(name).filter(|_| service.accounts));
                }
            }
        }
        for rule in self.matrix.rules() {
            if let Some(cloud) = rule.cloud
                && rule.all_names().iter().any(|pattern| pattern.matches(name))
            {
                clouds.insert(cloud);
            }
        }
        // What several clouds have says nothing.
        if let (Some(cloud), 1) = (clouds.first(), clouds.len()) {
            *self.clouds.entry(*cloud).or_default() += 1;
        }
        // Storage accounts have 3 to 24 lower-case letters and digits (Microsoft, "Storage account overview").
        let sound = |account: &&str| {
            (3..=24).contains(&account.len())
                && account.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        let platform = || self.matrix.baseline().iter().flat_map(|line| &line.names);
        if let Some(account) = account.filter(sound)
            && !platform().any(|pattern| pattern.matches(name))
        {
            add(&mut self.account_of, (account.to_owned(), client), &mut self.not_kept);
        }
    }

    fn keep_name(&mut self, client: IpAddr, address: IpAddr, name: &DomainName) {
        if self.names.len() >= MOST_NAMED && !self.names.contains_key(&(client, address)) {
            self.not_kept += 1;
            return;
        }
        let names = self.names.entry((client, address)).or_default();
        if !names.contains(name) {
            if names.len() < NAMES_OF_PAIR {
                names.push(name.clone());
            } else {
                self.not_kept += 1;
            }
        }
    }

    /// The cloud whose names were asked for most.
    fn cloud(&self) -> Cloud {
        let most = self.clouds.iter().max_by_key(|(cloud, count)| (**count, Reverse(**cloud)));
        most.map_or(Cloud::default(), |(cloud, _)| *cloud)
    }

    /// Takes a row of the flows table; all names are in.
    pub fn flow(&mut self, flow: &FlowRecord) {
        self.flows += 1;
        let (from, to) = (flow.initiator_ip, flow.responder_ip);
        let (transport, mut port) = (flow.proto, flow.responder_port);
        if flow.initiator_by == InitiatorBy::FirstPacket || !transport.has_ports() {
            return;
        }
        if !is_machine(from) {
            self.from_outside += 1;
            return;
        }
        let answered = flow.packets_rev > 0;
        if to == PLATFORM_ADDRESS {
            add(&mut self.platform, from, &mut self.not_kept);
            return;
        }
        match (transport, port) {
            (Transport::Udp, 123) => {
                if answered {
                    add(&mut self.time_servers, to, &mut self.not_kept);
                }
                return;
            }
            (Transport::Udp | Transport::Tcp, 53) => return,
            _ => {}
        }
        let by_address = match &flow.proxy_target {
            Some(target) => {
                // A request that was refused, reset or answered with an error by the way says nothing.
                if flow.outcome.worked() && flow.proxy_status.is_none() {
                    self.proxied(to, target.to_string());
                }
                port = target.port;
                target.ip
            }
            None => Some(to),
        };
        let host: Option<DomainName> = flow
            .http_host
            .as_ref()
            .filter(|_| flow.proxy_target.is_none())
            .and_then(|host| host.parse().ok());
        let target = flow.proxy_target.as_ref().and_then(|target| target.name.as_ref());
        let of_dns = if flow.proxy_target.is_none() { self.names.get(&(from, to)) } else { None };
        let names: Vec<DomainName> = of_dns
            .into_iter()
            .flatten()
            .chain(&flow.server_name)
            .chain(&host)
            .chain(target)
            .cloned()
            .collect();
        let worked = flow.outcome.worked();
        self.machine((from, to, worked), by_address, (transport, port), &names);
    }

    /// A machine was asked to connect to somewhere else, and did.
    fn proxied(&mut self, proxy: IpAddr, target: String) {
        if self.proxies.len() >= MOST_LISTED && !self.proxies.contains_key(&proxy) {
            self.not_kept += 1;
            return;
        }
        let targets = self.proxies.entry(proxy).or_default();
        if targets.len() < DESTINATIONS_OF_MACHINE || targets.contains_key(&target) {
            *targets.entry(target).or_default() += 1;
        }
    }

    /// Whether it is a proxy by what others asked of it: what it begins then is theirs.
    fn is_proxy(&self, ip: IpAddr) -> bool {
        self.proxies.get(&ip).is_some_and(|targets| targets.len() >= PROXIED)
    }

    /// What a machine of private space began with another, and whether that demonstrably worked.
    fn machine(
        &mut self,
        (from, to, worked): (IpAddr, IpAddr, bool),
        by_address: Option<IpAddr>,
        (transport, port): (Transport, u16),
        names: &[DomainName],
    ) {
        let cloud = self.cloud();
        let tags = by_address.map(|ip| self.matrix.tags().tags_of(cloud, ip)).unwrap_or_default();
        let (mut known, mut keys, mut met) = (Vec::new(), Vec::new(), false);
        for (number, kind) in self.kinds.iter().enumerate() {
            let rule = kind.rule;
            if !rule.carries(transport, port) || rule.cloud.is_some_and(|of| of != cloud) {
                continue;
            }
            let own = by_address.is_some_and(is_machine);
            match kind.to {
                To::Known if self.knows(rule, cloud, &tags, names) => known.push(number),
                // What nobody answered may be a scan.
                To::Role(_) | To::Given(_) if own && worked && by_address == Some(to) => {
                    met = true;
                    add(&mut self.contacts, (from, to, number), &mut self.not_kept);
                }
                To::Known | To::Role(_) | To::Given(_) | To::Unknown => {}
            }
            match &rule.to {
                Destination::SiteNames { key, .. } if !own => keys.push(key.clone()),
                Destination::SiteDefined { key, .. } => keys.push(key.clone()),
                _ => {}
            }
        }
        if known.is_empty() {
            for (key, name) in keys.into_iter().filter_map(|key| names.first().map(|name| (key, name))) {
                add(&mut self.asked, (key, from, name.clone()), &mut self.not_kept);
            }
        } else {
            let regions: BTreeSet<String> = tags.iter().filter_map(|tag| self.region(cloud, *tag)).collect();
            regions.into_iter().for_each(|region| add(&mut self.regions, region, &mut self.not_kept));
        }
        // Who does nothing of any role leaves room to those that do: a flood has many senders.
        let room = if known.is_empty() && !met { MOST_LISTED / 2 } else { MOST_LISTED };
        if self.machines.len() >= room && !self.machines.contains_key(&from) {
            self.machines_not_kept += 1;
            return;
        }
        let begins = |number: &usize| self.kinds.get(*number).map(|kind| kind.from);
        let roles: BTreeSet<RoleIdx> = known.iter().filter_map(begins).collect();
        let machine = self.machines.entry(from).or_default();
        machine.begun += 1;
        if roles.len() == 1 {
            machine.telling.extend(&known);
        }
        machine.known.extend(known);
        let place = match (names.first(), by_address) {
            (Some(name), _) => name.to_string(),
            (None, ip) => ip.unwrap_or(to).to_string(),
        };
        if machine.destinations.len() < DESTINATIONS_OF_MACHINE
            || machine.destinations.contains_key(&(place.clone(), transport, port))
        {
            *machine.destinations.entry((place, transport, port)).or_default() += 1;
        }
    }

    /// Whether a rule's destination, by names or addresses that the pack knows, is meant.
    fn knows(&self, rule: &Rule, cloud: Cloud, tags: &[TagId], names: &[DomainName]) -> bool {
        let named = |patterns: &[DomainPattern]| {
            patterns.iter().any(|pattern| names.iter().any(|name| pattern.matches(name)))
        };
        match &rule.to {
            Destination::Names(patterns) | Destination::SiteNames { default: patterns, .. } => {
                named(patterns)
            }
            Destination::Tag { tag, services } => {
                let base = self.matrix.tags().find(cloud, tag.base());
                let whole =
                    if tag.is_regional() { base } else { self.matrix.tags().find(cloud, tag.as_str()) };
                let of_cloud = services.iter().filter_map(|service| service.clouds.get(&cloud));
                whole.is_some_and(|whole| tags.contains(&whole))
                    || of_cloud.into_iter().any(|of| named(&of.names))
            }
            Destination::Role(_) | Destination::VirtualNetwork | Destination::SiteDefined { .. } => false,
        }
    }

    /// The region of a tag, as a site file names it.
    fn region(&mut self, cloud: Cloud, tag: TagId) -> Option<String> {
        let tags = self.matrix.tags();
        let (_, part) = tags.name(tag).split_once('.')?;
        let part = part.to_ascii_lowercase();
        let codes = self.codes.entry(cloud).or_insert_with(|| tags.regions(cloud).into_iter().collect());
        let sound = part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        (sound && codes.contains(&part)).then_some(part)
    }

    /// All rows are in.
    pub fn draft(self) -> SiteDraft {
        let cloud = self.cloud();
        let placed = self.placed();
        let proxy = self.matrix.role(HTTP_PROXY_ROLE);
        let mut roles: Vec<RoleDraft> = Vec::new();
        for role in self.matrix.roles() {
            let Some(index) = self.matrix.role(role.id.as_str()).filter(|index| Some(*index) != proxy) else {
                continue;
            };
            let of_role = placed.iter().filter(|(_, place)| place.role == index);
            let mut machines: Vec<Placed> = of_role.map(|(ip, place)| self.told(*ip, place)).collect();
            machines.sort_by_key(|machine| (!machine.firm, Reverse(machine.kinds), machine.ip));
            roles.push(RoleDraft {
                id: role.id.to_string(),
                title: role.title.clone(),
                subject: role.subject,
                kinds: self.kinds_of(index),
                machines,
            });
        }
        let platform_or = |ip: IpAddr| ip == PLATFORM_ADDRESS || is_machine(ip);
        let servers = |counts: &BTreeMap<IpAddr, u64>| {
            let most = counts.values().max().copied().unwrap_or_default();
            let server = |(ip, count): (IpAddr, u64)| Server {
                ip,
                count,
                own: platform_or(ip),
                few: count.saturating_mul(FEW) < most,
                operator: PublicResolvers::bundled().at(ip).map(str::to_owned),
            };
            by_count(counts.clone()).into_iter().map(server).collect::<Vec<_>>()
        };
        let (resolvers, time_servers) = (servers(&self.resolvers), servers(&self.time_servers));
        let by_targets = self.proxies.iter().map(|(ip, targets)| (*ip, targets.values().sum()));
        let mut proxies = servers(&by_targets.collect());
        proxies.iter_mut().for_each(|proxy| proxy.few = !self.is_proxy(proxy.ip));
        let mut unplaced: Vec<Unplaced> = Vec::new();
        for (ip, machine) in self.machines.iter().filter(|(ip, _)| !placed.contains_key(*ip)) {
            if self.is_proxy(*ip) {
                continue;
            }
            let most = by_count(machine.destinations.clone()).into_iter().next();
            let most = most.map(|((place, transport, port), count)| (place, transport, port, count));
            unplaced.push(Unplaced { ip: *ip, begun: machine.begun, most });
        }
        unplaced.sort_by_key(|machine| (Reverse(machine.begun), machine.ip));
        SiteDraft {
            cloud,
            roles,
            resolvers,
            time_servers,
            proxies,
            unplaced,
            keys: self.keys(&placed),
            machines: self.machines.len(),
            flows: self.flows,
            from_outside: self.from_outside,
            not_kept: self.not_kept,
            machines_not_kept: self.machines_not_kept,
            clouds: by_count(self.clouds),
            regions: by_count(self.regions),
            accounts: accounts(self.account_of),
            platform: by_count(self.platform),
        }
    }

    fn keys(&self, placed: &BTreeMap<IpAddr, Place>) -> Vec<KeyDraft> {
        let key = |(key, rules): (NamesKey, Vec<RuleId>)| {
            let from: BTreeSet<RoleIdx> = rules
                .iter()
                .filter_map(|id| self.matrix.role(self.matrix.rule(id.as_str())?.from.as_str()))
                .collect();
            let is_of = |ip| placed.get(ip).is_some_and(|place| place.firm && from.contains(&place.role));
            let mut seen: BTreeMap<DomainName, u64> = BTreeMap::new();
            for ((of, ip, name), count) in &self.asked {
                if *of == key && is_of(ip) {
                    *seen.entry(name.clone()).or_default() += count;
                }
            }
            let default = rules.iter().find_map(|id| match &self.matrix.rule(id.as_str())?.to {
                Destination::SiteNames { default, .. } => {
                    Some(default.iter().map(ToString::to_string).collect())
                }
                _ => None,
            });
            KeyDraft {
                seen: by_count(seen),
                key: key.to_string(),
                rules: rules.iter().map(ToString::to_string).collect(),
                default: default.unwrap_or_default(),
            }
        };
        self.matrix.names_keys().into_iter().map(key).collect()
    }

    /// How many kinds of traffic the packs know of a role.
    fn kinds_of(&self, role: RoleIdx) -> usize {
        self.kinds.iter().filter(|kind| kind.is_of(role)).count()
    }

    /// Which machine plays which role, by what it takes part in.
    fn placed(&self) -> BTreeMap<IpAddr, Place> {
        let mut around: BTreeMap<IpAddr, Vec<(IpAddr, usize, bool)>> = BTreeMap::new();
        for &(from, to, kind) in self.contacts.keys() {
            around.entry(from).or_default().push((to, kind, true));
            around.entry(to).or_default().push((from, kind, false));
        }
        let all: BTreeSet<IpAddr> = self.machines.keys().chain(around.keys()).copied().collect();
        let mut placed = BTreeMap::new();
        for _ in 0..ROUNDS {
            let place = |ip: &IpAddr| {
                let contacts = around.get(ip).map(Vec::as_slice).unwrap_or_default();
                Some((*ip, self.place(*ip, contacts, &placed)?))
            };
            let next: BTreeMap<IpAddr, Place> =
                all.iter().filter(|ip| !self.is_proxy(**ip)).filter_map(place).collect();
            if next == placed {
                break;
            }
            placed = next;
        }
        placed
    }

    /// The role of which a machine does most; where two are equal, that of which it does the larger part.
    fn place(
        &self,
        ip: IpAddr,
        contacts: &[(IpAddr, usize, bool)],
        placed: &BTreeMap<IpAddr, Place>,
    ) -> Option<Place> {
        let firm = |peer: &IpAddr| placed.get(peer).filter(|place| place.firm).map(|place| place.role);
        let mut done: BTreeMap<RoleIdx, BTreeSet<usize>> = BTreeMap::new();
        for &number in self.machines.get(&ip).map(|machine| &machine.known).into_iter().flatten() {
            done.entry(self.kinds.get(number)?.from).or_default().insert(number);
        }
        let known: BTreeSet<RoleIdx> = done.keys().copied().collect();
        for (peer, number, begins) in contacts {
            let kind = self.kinds.get(*number)?;
            let (of, other) = match (kind.to, *begins) {
                (To::Role(to), true) => (kind.from, Some(to)),
                (To::Role(to) | To::Given(to), false) => (to, Some(kind.from)),
                // Whoever it is: the site will tell. By itself it says little: any scan of ports meets such.
                (To::Given(_), true) if known.contains(&kind.from) => (kind.from, None),
                (To::Known | To::Unknown | To::Given(_), _) => continue,
            };
            if other.is_none_or(|other| firm(peer) == Some(other)) {
                done.entry(of).or_default().insert(*number);
            }
        }
        // Of a role with n kinds k are done: k decides, then k / n.
        let mut candidates: Vec<(usize, usize, RoleIdx)> =
            done.iter().map(|(role, kinds)| (kinds.len(), self.kinds_of(*role), *role)).collect();
        candidates.sort_by_key(|&(kinds, of, role)| (Reverse(kinds), of, role));
        let &(most, of, role) = candidates.first()?;
        let alike = |&&(kinds, _, other): &&(usize, usize, RoleIdx)| kinds == most && other != role;
        let or: Vec<RoleIdx> = candidates.iter().filter(alike).map(|&(.., other)| other).collect();
        let kinds = done.remove(&role)?;
        let telling = self.machines.get(&ip).map(|machine| &machine.telling);
        let telling = telling.map_or(0, |telling| telling.intersection(&kinds).count());
        let met = kinds.iter().any(|number| self.kinds.get(*number).is_some_and(|kind| kind.to != To::Known));
        // Beside what many machines of Azure do it does what only the role does, or takes part in what goes on between roles.
        let firm = most >= FIRM && most * LEAST_PART >= of && or.is_empty() && (met || telling >= FIRM);
        Some(Place { role, kinds, or, firm })
    }

    fn told(&self, ip: IpAddr, place: &Place) -> Placed {
        let word = |role: &RoleIdx| self.matrix.role_def(*role).id.to_string();
        let kinds = place.kinds.iter().filter_map(|number| self.kinds.get(*number));
        Placed {
            ip,
            firm: place.firm,
            kinds: place.kinds.len(),
            rules: kinds.flat_map(|kind| kind.ids.iter().map(ToString::to_string)).collect(),
            or: place.or.iter().map(word).collect(),
        }
    }
}

/// Where a machine was placed.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    role: RoleIdx,
    kinds: BTreeSet<usize>,
    /// Roles of which it does as much.
    or: Vec<RoleIdx>,
    /// Whether it is to be proposed.
    firm: bool,
}

impl Kind<'_> {
    /// Whether a machine of the role takes part in it.
    fn is_of(&self, role: RoleIdx) -> bool {
        let to = matches!(self.to, To::Role(to) | To::Given(to) if to == role);
        to || (self.from == role && self.to != To::Unknown)
    }
}
