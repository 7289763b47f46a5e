//! One installation: which address plays which role, and what every rule means there.

use super::baseline::PLATFORM_ADDRESS;
use super::date::CalendarDate;
use super::load::{Matrix, RoleIdx};
use super::pack::{calendar_date, port_set};
use super::place::{Place, parse_place, parse_prefix};
use super::rule::{Cloud, ConditionId, Destination, RuleId, Zone};
use super::source::{
    Doc, Fields, Mistakes, Problem, Span, Text, article, nearest, parsed, shown, text_of, texts_of,
};
use super::tags::TagId;
use crate::model::{DomainName, DomainPattern, PortSet, Transport};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use toml::Spanned;
use toml::de::DeValue;

/// A set of roles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoleSet(u128);

impl RoleSet {
    /// All roles that there can be.
    pub const EVERY: RoleSet = RoleSet(u128::MAX);

    /// Whether no role is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `role` is in it.
    pub fn contains(self, role: RoleIdx) -> bool {
        self.0 & (1 << role.0) != 0
    }

    /// Whether the two have a role in common.
    pub fn meets(self, other: RoleSet) -> bool {
        self.0 & other.0 != 0
    }

    /// The roles of both.
    #[must_use]
    pub fn union(self, other: RoleSet) -> RoleSet {
        RoleSet(self.0 | other.0)
    }

    /// The set of one role.
    pub fn of(role: RoleIdx) -> RoleSet {
        RoleSet(1 << role.0)
    }

    /// The roles, in the order of [`Matrix::roles`].
    pub fn iter(self) -> impl Iterator<Item = RoleIdx> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let next = (left != 0).then(|| RoleIdx(left.trailing_zeros() as u8));
            left &= left.wrapping_sub(1);
            next
        })
    }

    /// The ids of the roles, in the order of the packs.
    pub fn words(self, matrix: &Matrix) -> Vec<String> {
        self.iter().map(|role| matrix.role_def(role).id.to_string()).collect()
    }
}

impl FromIterator<RoleIdx> for RoleSet {
    fn from_iter<I: IntoIterator<Item = RoleIdx>>(roles: I) -> Self {
        roles.into_iter().map(RoleSet::of).fold(RoleSet::default(), RoleSet::union)
    }
}

/// Who decided whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwitchedBy {
    /// The site file.
    Site,
    /// The pack: the site file is silent.
    Pack,
}

/// Whether a condition holds at the site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConditionState {
    /// Its rules apply.
    pub on: bool,
    /// Whose word that is.
    pub by: SwitchedBy,
}

/// Whether a rule applies at the site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleState {
    /// It does.
    Applies,
    /// It does because the pack says so where the site is silent: to be marked and counted apart.
    AppliesUnset(ConditionId),
    /// Its condition does not hold.
    Off {
        /// Which condition: the rule's own or one that it needs.
        condition: ConditionId,
        /// Whose word that is.
        by: SwitchedBy,
    },
    /// It is an alias, and the site does not count aliases.
    AliasOff,
    /// It is meant for another cloud.
    OtherCloud(Cloud),
    /// The site has no machine for it to be about; the text says what is missing.
    NotApplicable(String),
}

impl RuleState {
    /// Whether flows may fit the rule.
    pub fn applies(&self) -> bool {
        matches!(self, RuleState::Applies | RuleState::AppliesUnset(_))
    }

    /// Why no flow may fit the rule; `None`: flows may.
    pub fn why_not(&self) -> Option<String> {
        match self {
            RuleState::Applies | RuleState::AppliesUnset(_) => None,
            RuleState::Off { condition, .. } => Some(format!("condition {condition} is off")),
            RuleState::AliasOff => Some("aliases are off".to_owned()),
            RuleState::OtherCloud(cloud) => Some(format!("it is for the {cloud} cloud")),
            RuleState::NotApplicable(why) => Some(why.clone()),
        }
    }
}

/// A service tag as it can be looked up at the site.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TagHere {
    /// Look it up.
    Known(TagId),
    /// It cannot be: no such tag is loaded, or the site names no region.
    Unknown {
        /// Why, and what to do.
        why: String,
        /// The tag of the whole service: an address outside it is outside the regional one too; one inside may be either.
        within: Option<TagId>,
    },
}

/// Where a rule permits traffic to, at this site.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DestinationHere {
    /// Whoever holds the role: by address, or by name where the role lists names.
    Role(RoleIdx),
    /// Names that the page, its overlay or the site gives.
    Names {
        /// The names.
        names: Vec<DomainPattern>,
        /// Zones through which private endpoints of the service lead.
        zones: Vec<Zone>,
        /// Whether `<account>` in a name tells whose storage account it is.
        accounts: bool,
    },
    /// Addresses of a tag, and names that are inferred for it.
    Tag {
        /// The tag.
        tag: TagHere,
        /// Names inferred for the tag in the site's cloud.
        names: Vec<DomainPattern>,
        /// Zones through which private endpoints of its services lead.
        zones: Vec<Zone>,
        /// Whether `<account>` in a name tells whose storage account it is.
        accounts: bool,
    },
    /// The site's virtual network.
    VirtualNetwork,
    /// A machine that only the site tells: whoever holds the role, by address or name, and the `[names]` entry.
    SiteDefined {
        /// The role.
        role: RoleIdx,
        /// The `[names]` entry.
        names: Vec<DomainPattern>,
    },
}

/// What a rule means at the site; stands at the rule's place in [`Matrix::rules`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleHere {
    /// Which rule.
    pub id: RuleId,
    /// Whether it applies.
    pub state: RuleState,
    /// Who initiates.
    pub from: RoleIdx,
    /// Where to.
    pub to: DestinationHere,
}

/// One side of an accepted exception.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AcceptPeer {
    /// Whoever holds the role.
    Role(RoleIdx),
    /// Addresses.
    Prefix(IpNet),
    /// Names.
    Name(DomainPattern),
}

/// An exception that the site accepts: `[[accept]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accept {
    /// Who initiates.
    pub from: AcceptPeer,
    /// Where to.
    pub to: AcceptPeer,
    /// The responder's ports; `None`: any.
    pub ports: Option<PortSet>,
    /// Over what; `None`: anything.
    pub transport: Option<Transport>,
    /// Why, in the words of the site.
    pub reason: String,
    /// The last day; `None`: for good.
    pub until: Option<CalendarDate>,
    /// Where it stands in the site file, counted from 1.
    pub line: u32,
}

impl Accept {
    /// Whether a flow is the one meant, its time aside. `to` is none where a proxy was asked for a name; `names` are those
    /// of the destination, by accepted evidence.
    pub fn fits(
        &self,
        site: &Site,
        from: IpAddr,
        to: Option<IpAddr>,
        names: &[&DomainName],
        transport: Transport,
        port: u16,
    ) -> bool {
        let side = |peer: &AcceptPeer, ip: Option<IpAddr>, names: &[&DomainName]| match peer {
            AcceptPeer::Role(role) => {
                ip.is_some_and(|ip| site.roles_of(ip).contains(*role))
                    || names.iter().any(|name| site.role_names(*role).contains(name))
            }
            AcceptPeer::Prefix(net) => ip.is_some_and(|ip| net.contains(&ip)),
            AcceptPeer::Name(pattern) => names.iter().any(|name| pattern.matches(name)),
        };
        // A port is none of a protocol without ports: what goes by such a protocol is something else.
        let fits = |ports: &PortSet| transport.has_ports() && ports.contains(port);
        let ports = self.ports.as_ref().is_none_or(fits);
        let transport = self.transport.is_none_or(|t| t == transport);
        ports && transport && side(&self.from, Some(from), &[]) && side(&self.to, to, names)
    }
}

/// One role at the site.
#[derive(Clone, Debug, Default)]
struct RoleHere {
    prefixes: Vec<IpNet>,
    names: Vec<DomainName>,
}

/// One installation, as its site file describes it; valid for the matrix it was read against.
#[derive(Clone, Debug)]
pub struct Site {
    name: String,
    file: String,
    sha256: String,
    cloud: Cloud,
    region: Option<String>,
    storage_accounts: BTreeSet<String>,
    resolvers: Vec<IpNet>,
    virtual_network: Vec<IpNet>,
    time_servers: Vec<IpNet>,
    time_server_names: Vec<DomainName>,
    aliases: bool,
    subjects: RoleSet,
    mirrors: Vec<(DomainPattern, Vec<IpNet>)>,
    conditions: BTreeMap<ConditionId, ConditionState>,
    roles: Vec<RoleHere>,
    v4: PrefixMap<Ipv4Net, RoleSet>,
    v6: PrefixMap<Ipv6Net, RoleSet>,
    hosts: BTreeMap<IpAddr, IpAddr>,
    /// Those of IPv4 among them, ascending: every flow asks for its initiator's.
    hosts_v4: Vec<(Ipv4Addr, IpAddr)>,
    accepts: Vec<Accept>,
    rules: Vec<RuleHere>,
    warnings: Vec<Problem>,
}

impl Site {
    /// Reads a site file.
    ///
    /// # Errors
    /// Every mistake of the file.
    pub fn load(path: &Path, matrix: &Matrix) -> Result<Site, Vec<Problem>> {
        Doc::read(path).map_err(|problem| vec![problem]).and_then(|doc| read(&doc, matrix))
    }

    /// Reads a site from a text; `file` is what messages call it.
    ///
    /// # Errors
    /// Every mistake of the text.
    pub fn parse(text: &str, file: &str, matrix: &Matrix) -> Result<Site, Vec<Problem>> {
        read(&Doc::new(file, text), matrix)
    }

    /// What the site calls itself; the file's name if it does not say.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The site file, as it was named.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// SHA-256 of the site file, in hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The cloud it is in.
    pub fn cloud(&self) -> Cloud {
        self.cloud
    }

    /// Rules by service tags of which it is not known here what addresses they mean, by the reason.
    pub fn undecidable(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut undecidable: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for rule in self.rules.iter().filter(|rule| rule.state.applies()) {
            if let DestinationHere::Tag { tag: TagHere::Unknown { why, .. }, .. } = &rule.to {
                undecidable.entry(why).or_default().push(rule.id.as_str());
            }
        }
        undecidable
    }

    /// The region that fills `<region>`, in lower case.
    pub fn region(&self) -> Option<&str> {
        self.region.as_deref()
    }

    /// The storage accounts that are its own; empty: unknown, and to be said.
    pub fn storage_accounts(&self) -> &BTreeSet<String> {
        &self.storage_accounts
    }

    /// Whether the storage account is its own; `None` if it lists none.
    pub fn owns_account(&self, account: &str) -> Option<bool> {
        let listed = !self.storage_accounts.is_empty();
        let account = account.to_ascii_lowercase();
        // The readable copy in the paired region. No account has a hyphen in its name.
        let account = account.strip_suffix("-secondary").unwrap_or(&account);
        listed.then(|| self.storage_accounts.contains(account))
    }

    /// Whether the site lists resolvers. If not, every resolver counts, and the report says so.
    pub fn resolvers_listed(&self) -> bool {
        !self.resolvers.is_empty()
    }

    /// Whether DNS answers of this address count as evidence: the site's resolvers and the platform's; with none listed,
    /// everyone.
    pub fn is_resolver(&self, ip: IpAddr) -> bool {
        ip == PLATFORM_ADDRESS || self.resolvers.is_empty() || holds(&self.resolvers, ip)
    }

    /// What `[site] resolvers` lists.
    pub fn resolvers(&self) -> &[IpNet] {
        &self.resolvers
    }

    /// Whether the address lies in the site's virtual network.
    pub fn in_virtual_network(&self, ip: IpAddr) -> bool {
        holds(&self.virtual_network, ip)
    }

    /// What `[site] virtual_network` lists.
    pub fn virtual_network(&self) -> &[IpNet] {
        &self.virtual_network
    }

    /// Whether the site lists the time server, by address or by one of `names`.
    pub fn is_time_server(&self, ip: IpAddr, names: &[&DomainName]) -> bool {
        holds(&self.time_servers, ip) || names.iter().any(|name| self.time_server_named(name))
    }

    /// Whether the site lists a time server by this name.
    pub fn time_server_named(&self, name: &DomainName) -> bool {
        self.time_server_names.contains(name)
    }

    /// What `[site] time_servers` lists as addresses or prefixes.
    pub fn time_servers(&self) -> &[IpNet] {
        &self.time_servers
    }

    /// What `[site] time_servers` lists as names.
    pub fn time_server_names(&self) -> &[DomainName] {
        &self.time_server_names
    }

    /// Whether the site gives an audited machine by this name.
    pub fn subject_named(&self, name: &DomainName) -> bool {
        self.subjects.iter().any(|role| self.role_names(role).contains(name))
    }

    /// Whether known aliases of documented names count as documented.
    pub fn aliases(&self) -> bool {
        self.aliases
    }

    /// The roles whose machines are audited: the packs' subjects, unless the site names others.
    pub fn subjects(&self) -> RoleSet {
        self.subjects
    }

    /// Whether machines of the role are audited.
    pub fn subject(&self, role: RoleIdx) -> bool {
        self.subjects.contains(role)
    }

    /// All roles that the address holds: of every prefix that covers it, not only the narrowest.
    pub fn roles_of(&self, ip: IpAddr) -> RoleSet {
        match ip {
            IpAddr::V4(ip) => self
                .v4
                .cover(&Ipv4Net::from(ip))
                .fold(RoleSet::default(), |all, (_, roles)| all.union(*roles)),
            IpAddr::V6(ip) => self
                .v6
                .cover(&Ipv6Net::from(ip))
                .fold(RoleSet::default(), |all, (_, roles)| all.union(*roles)),
        }
    }

    /// The one address that stands for the host: the first of its inner list, or the address itself.
    pub fn host_of(&self, ip: IpAddr) -> IpAddr {
        match ip {
            IpAddr::V4(v4) => match self.hosts_v4.binary_search_by_key(&v4.to_bits(), |(ip, _)| ip.to_bits())
            {
                Ok(place) => self.hosts_v4.get(place).map_or(ip, |&(_, host)| host),
                Err(_) => ip,
            },
            IpAddr::V6(_) => self.hosts.get(&ip).copied().unwrap_or(ip),
        }
    }

    /// The hosts with several addresses: address to the one that stands for its host.
    pub fn hosts(&self) -> &BTreeMap<IpAddr, IpAddr> {
        &self.hosts
    }

    /// All prefixes by which the site tells addresses apart: between two neighbouring ends of them, nothing that it says of one
    /// address is another for the next.
    pub fn prefixes(&self) -> impl Iterator<Item = IpNet> {
        let roles = self.v4.keys().map(IpNet::from).chain(self.v6.keys().map(IpNet::from));
        let listed =
            [&self.resolvers, &self.virtual_network, &self.time_servers].into_iter().flatten().copied();
        roles.chain(listed).chain(self.hosts.keys().map(|&ip| ip.into()))
    }

    /// The role's entries that are names.
    pub fn role_names(&self, role: RoleIdx) -> &[DomainName] {
        self.roles.get(usize::from(role.0)).map_or(&[], |role| &role.names)
    }

    /// The role's entries that are addresses or prefixes.
    pub fn role_prefixes(&self, role: RoleIdx) -> &[IpNet] {
        self.roles.get(usize::from(role.0)).map_or(&[], |role| &role.prefixes)
    }

    /// Whether a condition holds here. One that no pack knows does not.
    pub fn condition(&self, id: &str) -> ConditionState {
        self.conditions.get(id).copied().unwrap_or(ConditionState { on: false, by: SwitchedBy::Pack })
    }

    /// All conditions of the packs, and whether they hold.
    pub fn conditions(&self) -> &BTreeMap<ConditionId, ConditionState> {
        &self.conditions
    }

    /// The addresses that the site lists under `[mirrors]` as its own stand-ins for a documented name, or for a name that the
    /// pattern fits.
    pub fn mirrors_of(&self, documented: &DomainPattern) -> Vec<IpNet> {
        let of_name = |name: &str| name.parse().is_ok_and(|name| documented.matches(&name));
        let listed = self.mirrors.iter().filter(|(key, _)| key == documented || of_name(&key.to_string()));
        listed.flat_map(|(_, own)| own.iter().copied()).collect()
    }

    /// Whether some documented name's `[mirrors]` entry lists the address.
    pub fn is_mirror(&self, ip: IpAddr) -> bool {
        self.mirrors.iter().any(|(_, own)| holds(own, ip))
    }

    /// Whether the site lists the address as its own stand-in for the name.
    pub fn mirror_allows(&self, name: &DomainName, ip: IpAddr) -> bool {
        self.mirrors.iter().any(|(pattern, own)| pattern.matches(name) && holds(own, ip))
    }

    /// The accepted exceptions, in the order of the file.
    pub fn accepts(&self) -> &[Accept] {
        &self.accepts
    }

    /// What every rule means here, in the order of [`Matrix::rules`].
    pub fn rules(&self) -> &[RuleHere] {
        &self.rules
    }

    /// What is sound, yet probably not meant.
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }
}

fn holds(prefixes: &[IpNet], ip: IpAddr) -> bool {
    prefixes.iter().any(|net| net.contains(&ip))
}

/// Where inner lists stand: to tell an address in two of them.
#[derive(Default)]
struct Hosts {
    of: BTreeMap<IpAddr, IpAddr>,
    groups: Vec<BTreeSet<IpAddr>>,
}

fn read(doc: &Doc, matrix: &Matrix) -> Result<Site, Vec<Problem>> {
    let mut m = Mistakes::new(doc);
    let Some(root) = m.parse() else { return Err(m.problems) };
    if root.get_ref().contains_key("pack") && !root.get_ref().contains_key("site") {
        m.error(
            &(0..0),
            "this is a rules pack, no site file: give it with --rules, and the site file with --site",
        );
        return Err(m.problems);
    }
    let m = &mut m;
    let mut top = Fields::new(root.get_ref(), 0..0, "the site file");
    let mut section = |key: &'static str, what: &'static str, m: &mut Mistakes<'_>| {
        top.value(key).and_then(|value| Fields::of(value, what, m))
    };
    let (head, names) = (section("site", "[site]", m), section("names", "[names]", m));
    let (mirrors, conditions) =
        (section("mirrors", "[mirrors]", m), section("conditions", "[conditions]", m));
    let roles = section("roles", "[roles]", m);
    let accepts = top.tables("accept", "[[accept]]", m);
    top.done(m);

    let empty = toml::de::DeTable::new();
    let head = head.unwrap_or_else(|| Fields::new(&empty, 0..0, "[site]"));
    let mut site = read_head(head, matrix, m);
    let names = names.map(|table| read_names(&table, matrix, m)).unwrap_or_default();
    if let Some(table) = mirrors {
        site.mirrors = read_mirrors(&table, matrix, &names, m);
    }
    read_conditions(conditions, matrix, &mut site, m);
    read_roles(roles, matrix, &mut site, m);
    site.accepts = accepts.into_iter().filter_map(|table| read_accept(table, matrix, m)).collect();
    site.rules = matrix.rules().iter().filter_map(|rule| rule_here(rule, matrix, &site, &names)).collect();
    warn(&site, matrix, m);

    if m.problems.iter().any(Problem::is_error) {
        m.problems.retain(Problem::is_error);
        m.problems.sort_by_key(|p| p.position);
        return Err(std::mem::take(&mut m.problems));
    }
    m.problems.sort_by_key(|p| p.position);
    site.warnings = std::mem::take(&mut m.problems);
    Ok(site)
}

fn read_head(mut head: Fields<'_, '_>, matrix: &Matrix, m: &mut Mistakes<'_>) -> Site {
    let name = head.text("name", m).map(|t| shown(t.text));
    let cloud = head.word("cloud", &Cloud::WORDS, m).unwrap_or_default();
    let region = head.text("region", m).and_then(|text| region(&text, cloud, matrix, m));
    let mut storage_accounts = BTreeSet::new();
    for text in head.texts("storage_accounts", m) {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        if !(3..=24).contains(&text.text.len()) || !text.text.bytes().all(plain) {
            let first = text.text.split('.').next().unwrap_or_default().to_ascii_lowercase();
            let sound = (3..=24).contains(&first.len()) && first.bytes().all(plain);
            let hint = if sound { format!(": write `{first}`") } else { String::new() };
            let message = format!(
                "`{}` is no storage account's name (3 to 24 lower-case letters and digits){hint}",
                shown(text.text)
            );
            m.error(&text.span, message);
        } else if !storage_accounts.insert(text.text.to_owned()) {
            m.error(&text.span, format!("`{}` stands here twice: leave one out", text.text));
        }
    }
    let resolvers = prefixes(&head.texts("resolvers", m), "resolver", m);
    let virtual_network = prefixes(&head.texts("virtual_network", m), "prefix", m);
    let (mut time_servers, mut time_server_names) = (Vec::new(), Vec::new());
    for text in head.texts("time_servers", m) {
        match parse_place(text.text) {
            Ok(Place::Prefix(net)) => time_servers.push(net),
            Ok(Place::Name(name)) => time_server_names.push(name),
            Err(message) => m.error(&text.span, message),
        }
    }
    let aliases = head.flag("aliases", m).unwrap_or(false);
    let given = head.value("subjects");
    let mut subjects: RoleSet = match given {
        Some(_) => RoleSet::default(),
        None => matrix.roles().iter().filter(|r| r.subject).filter_map(|r| matrix.role_of(&r.id)).collect(),
    };
    for text in given.map(|value| texts_of(value, "subjects", m)).unwrap_or_default() {
        subjects = role_idx(&text, matrix, m).map_or(subjects, |role| subjects.union(RoleSet::of(role)));
    }
    if let Some(value) = given.filter(|_| subjects.is_empty()) {
        m.error(&value.span(), "no role is left to audit: name at least one, or leave `subjects` out");
    }
    head.done(m);
    Site {
        name: name.unwrap_or_else(|| shown(&m.doc.file)),
        file: shown(&m.doc.file),
        sha256: super::sha256_hex(m.doc.text.as_bytes()),
        cloud,
        region,
        storage_accounts,
        resolvers,
        virtual_network,
        time_servers,
        time_server_names,
        aliases,
        subjects,
        mirrors: Vec::new(),
        conditions: BTreeMap::new(),
        roles: vec![RoleHere::default(); matrix.roles().len()],
        v4: PrefixMap::new(),
        v6: PrefixMap::new(),
        hosts: BTreeMap::new(),
        hosts_v4: Vec::new(),
        accepts: Vec::new(),
        rules: Vec::new(),
        warnings: Vec::new(),
    }
}

fn region(text: &Text<'_>, cloud: Cloud, matrix: &Matrix, m: &mut Mistakes<'_>) -> Option<String> {
    let plain: String = text.text.to_lowercase().chars().filter(|c| !matches!(c, ' ' | '-' | '_')).collect();
    if plain.is_empty() || !plain.bytes().all(|b| b.is_ascii_alphanumeric()) {
        m.error(&text.span, "a region is written as Azure's code name, such as `westeurope`");
        return None;
    }
    if plain != text.text.to_ascii_lowercase() {
        m.error(&text.span, format!("`{}` is no region's code name: write `{plain}`", shown(text.text)));
        return None;
    }
    let known = matrix.tags().regions(cloud);
    if !known.is_empty() && !known.contains(&plain) {
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let guess = nearest(&plain, &known).map(|r| format!(" (did you mean `{r}`?)")).unwrap_or_default();
        m.warning(
            &text.span,
            format!("the service tags loaded know no region `{plain}`{guess}: give Microsoft's whole file with --service-tags"),
        );
    }
    Some(plain)
}

fn prefixes(texts: &[Text<'_>], what: &str, m: &mut Mistakes<'_>) -> Vec<IpNet> {
    let mut found: Vec<IpNet> = Vec::new();
    for text in texts {
        match parse_prefix(text.text) {
            Ok(net) if found.contains(&net) => {
                m.error(
                    &text.span,
                    format!("{what} `{}` stands here twice: leave one out", shown(text.text)),
                );
            }
            Ok(net) => found.push(net),
            Err(message) => m.error(&text.span, message),
        }
    }
    found
}

fn role_idx(text: &Text<'_>, matrix: &Matrix, m: &mut Mistakes<'_>) -> Option<RoleIdx> {
    let role = matrix.role(text.text);
    if role.is_none() {
        m.unknown(&text.span, "role", text.text, matrix.roles().iter().map(|role| role.id.as_str()));
    }
    role
}

fn read_names(
    table: &Fields<'_, '_>,
    matrix: &Matrix,
    m: &mut Mistakes<'_>,
) -> BTreeMap<String, Vec<DomainPattern>> {
    let keys = matrix.names_keys();
    let mut names = BTreeMap::new();
    for (key, value) in table.entries() {
        if !keys.keys().any(|known| known.as_str() == key.text) {
            m.unknown(&key.span, "key in [names]", key.text, keys.keys().map(|known| known.as_str()));
        }
        let texts = texts_of(value, key.text, m);
        let patterns: Vec<DomainPattern> = texts
            .iter()
            .filter_map(|text| match parse_prefix(text.text) {
                Ok(_) => {
                    let message = format!("`{}` is an address: write it under [roles]", shown(text.text));
                    m.error(&text.span, message);
                    None
                }
                Err(_) => parsed(text, m),
            })
            .collect();
        names.insert(key.text.to_owned(), patterns);
    }
    names
}

fn read_mirrors(
    table: &Fields<'_, '_>,
    matrix: &Matrix,
    names: &BTreeMap<String, Vec<DomainPattern>>,
    m: &mut Mistakes<'_>,
) -> Vec<(DomainPattern, Vec<IpNet>)> {
    let mut documented: Vec<&DomainPattern> =
        matrix.rules().iter().flat_map(|rule| rule.all_names()).collect();
    documented.extend(matrix.baseline().iter().flat_map(|line| &line.names));
    documented.extend(names.values().flatten());
    let mut mirrors = Vec::new();
    for (key, value) in table.entries() {
        let texts = texts_of(value, key.text, m);
        let own = prefixes(&texts, "address", m);
        let Some(pattern) = parsed::<DomainPattern>(&key, m) else { continue };
        let known = documented.contains(&&pattern)
            || key.text.parse::<DomainName>().is_ok_and(|name| documented.iter().any(|d| d.matches(&name)));
        if !known {
            let exact: Vec<String> = documented.iter().map(ToString::to_string).collect();
            let exact: Vec<&str> = exact.iter().map(String::as_str).collect();
            let guess =
                nearest(key.text, &exact).map(|n| format!(" (did you mean `{n}`?)")).unwrap_or_default();
            let message = format!("no rule names `{}`: write a documented name{guess}", shown(key.text));
            m.error(&key.span, message);
        }
        mirrors.push((pattern, own));
    }
    mirrors
}

fn read_conditions(table: Option<Fields<'_, '_>>, matrix: &Matrix, site: &mut Site, m: &mut Mistakes<'_>) {
    let mut said: BTreeMap<String, bool> = BTreeMap::new();
    for (key, value) in table.map(|table| table.entries()).unwrap_or_default() {
        if matrix.condition(key.text).is_none() {
            m.unknown(&key.span, "condition", key.text, matrix.conditions().iter().map(|c| c.id.as_str()));
        }
        match value.get_ref().as_bool() {
            Some(on) => {
                said.insert(key.text.to_owned(), on);
            }
            None => {
                let found = article(value.get_ref().type_str());
                m.error(
                    &value.span(),
                    format!("a condition holds or not, and here stands {found}: write true or false"),
                );
            }
        }
    }
    for condition in matrix.conditions() {
        let state = match said.get(condition.id.as_str()) {
            Some(&on) => ConditionState { on, by: SwitchedBy::Site },
            None => ConditionState { on: condition.applies_unset, by: SwitchedBy::Pack },
        };
        site.conditions.insert(condition.id.clone(), state);
    }
}

fn read_roles(table: Option<Fields<'_, '_>>, matrix: &Matrix, site: &mut Site, m: &mut Mistakes<'_>) {
    let mut hosts = Hosts::default();
    for (key, value) in table.map(|table| table.entries()).unwrap_or_default() {
        // The entries of an unknown role are checked too: mistakes are told all at once.
        let role = role_idx(&key, matrix, m);
        let here = read_role(value, key.text, &mut hosts, m);
        let Some(role) = role else { continue };
        for net in &here.prefixes {
            let roles = match net {
                IpNet::V4(net) => site.v4.entry(*net).or_default(),
                IpNet::V6(net) => site.v6.entry(*net).or_default(),
            };
            *roles = roles.union(RoleSet::of(role));
        }
        site.roles[usize::from(role.0)] = here;
    }
    site.hosts_v4 = hosts
        .of
        .iter()
        .filter_map(|(ip, &host)| match ip {
            IpAddr::V4(ip) => Some((*ip, host)),
            IpAddr::V6(_) => None,
        })
        .collect();
    site.hosts = hosts.of;
}

fn read_role(value: &Spanned<DeValue<'_>>, role: &str, hosts: &mut Hosts, m: &mut Mistakes<'_>) -> RoleHere {
    let mut here = RoleHere::default();
    let Some(entries) = value.get_ref().as_array() else {
        let found = article(value.get_ref().type_str());
        let message = format!("role `{}` is {found}: write a list, such as [\"10.10.1.4\"]", shown(role));
        m.error(&value.span(), message);
        return here;
    };
    let add = |here: &mut RoleHere, place: Place, text: &Text<'_>, m: &mut Mistakes<'_>| {
        let twice = match place {
            Place::Prefix(net) if here.prefixes.contains(&net) => true,
            Place::Prefix(net) => {
                here.prefixes.push(net);
                false
            }
            Place::Name(name) if here.names.contains(&name) => true,
            Place::Name(name) => {
                if !name.as_str().contains('.') {
                    let message = format!("`{name}` has one label: a DNS query asks for the whole name");
                    m.warning(&text.span, message);
                }
                here.names.push(name);
                false
            }
        };
        if twice {
            m.error(
                &text.span,
                format!("`{}` stands twice in role `{}`: leave one out", shown(text.text), shown(role)),
            );
        }
    };
    for entry in entries {
        if let Some(inner) = entry.get_ref().as_array() {
            let mut group: Vec<IpAddr> = Vec::new();
            for element in inner {
                let Some(text) = text_of(element, "address", m) else { continue };
                match parse_place(text.text) {
                    Ok(Place::Prefix(net)) if net.prefix_len() == net.max_prefix_len() => {
                        group.push(net.addr());
                        add(&mut here, Place::Prefix(net), &text, m);
                    }
                    Ok(Place::Prefix(_) | Place::Name(_)) => {
                        let message = format!(
                            "an inner list is one host with several addresses: write `{}` outside it",
                            shown(text.text)
                        );
                        m.error(&text.span, message);
                    }
                    Err(message) => m.error(&text.span, message),
                }
            }
            if inner.is_empty() {
                m.error(&entry.span(), "an inner list is one host with several addresses: this one has none");
            }
            one_host(&group, &entry.span(), hosts, m);
        } else if let Some(text) = text_of(entry, "entry of a role", m) {
            match parse_place(text.text) {
                Ok(place) => add(&mut here, place, &text, m),
                Err(message) => m.error(&text.span, message),
            }
        }
    }
    here
}

/// Takes note of a host with several addresses. The same list may stand in several roles; an address in two different
/// lists cannot tell which host it is.
fn one_host(group: &[IpAddr], span: &Span, hosts: &mut Hosts, m: &mut Mistakes<'_>) {
    let set: BTreeSet<IpAddr> = group.iter().copied().collect();
    if hosts.groups.contains(&set) {
        return;
    }
    let Some(&first) = group.first() else { return };
    if let Some(shared) = set.iter().find(|ip| hosts.of.contains_key(ip)) {
        let message = format!(
            "`{shared}` is in another host's list already: write all addresses of one host in one list"
        );
        m.error(span, message);
        return;
    }
    hosts.of.extend(set.iter().map(|&ip| (ip, first)));
    hosts.groups.push(set);
}

fn read_accept(mut table: Fields<'_, '_>, matrix: &Matrix, m: &mut Mistakes<'_>) -> Option<Accept> {
    let span = table.span.clone();
    let from = table.need_text("from", m).and_then(|text| accept_peer(&text, matrix, m));
    if let (Some(AcceptPeer::Name(name)), Some(text)) = (&from, table.text("from", m)) {
        let roles: Vec<&str> = matrix.roles().iter().map(|role| role.id.as_str()).collect();
        let guess = nearest(text.text, &roles).map(|r| format!(" (did you mean `{r}`?)")).unwrap_or_default();
        m.error(
            &text.span,
            format!("`{name}`: an initiator is known by address: write a role, address or prefix{guess}"),
        );
    }
    let to = table.need_text("to", m).and_then(|text| accept_peer(&text, matrix, m));
    let ports = table.value("port").map(|value| port_set(value, "port", m));
    let transport = table.text("proto", m).map(|text| parsed::<Transport>(&text, m));
    if let (Some(Some(transport)), Some(value)) = (transport, table.value("port"))
        && !transport.has_ports()
    {
        m.error(&value.span(), format!("{transport} has no ports: leave `port` out"));
    }
    let reason = table.need_text("reason", m).map(|t| t.text.to_owned());
    let until = table.value("until").map(|value| calendar_date(value, "until", m));
    table.done(m);
    let line = m.doc.problem(super::source::Severity::Warning, &span, "").position.map_or(0, |p| p.line);
    Some(Accept {
        from: from?,
        to: to?,
        // Given but unreadable: a mistake is noted, and the exception must not widen.
        ports: ports.map_or(Some(None), |given| given.map(Some))?,
        transport: transport.map_or(Some(None), |given| given.map(Some))?,
        reason: reason?,
        until: until.map_or(Some(None), |given| given.map(Some))?,
        line,
    })
}

/// A role, an address, a prefix or a name pattern, in this order.
fn accept_peer(text: &Text<'_>, matrix: &Matrix, m: &mut Mistakes<'_>) -> Option<AcceptPeer> {
    if let Some(role) = matrix.role(text.text) {
        return Some(AcceptPeer::Role(role));
    }
    let roles: Vec<&str> = matrix.roles().iter().map(|role| role.id.as_str()).collect();
    if !text.text.contains(['.', ':', '/']) {
        // No address, prefix or whole name has none of these.
        m.unknown(&text.span, "role, address or name", text.text, roles);
        return None;
    }
    match parse_place(text.text) {
        Ok(Place::Prefix(net)) => return Some(AcceptPeer::Prefix(net)),
        Ok(Place::Name(_)) => {}
        Err(message) if !text.text.contains(['*', '#', '<']) => {
            m.error(&text.span, message);
            return None;
        }
        Err(_) => {}
    }
    parsed(text, m).map(AcceptPeer::Name)
}

fn rule_here(
    rule: &super::rule::Rule,
    matrix: &Matrix,
    site: &Site,
    names: &BTreeMap<String, Vec<DomainPattern>>,
) -> Option<RuleHere> {
    // Every role of a rule is in the matrix, so nothing is lost here.
    let from = matrix.role_of(&rule.from)?;
    let cloud = site.cloud;
    let given = |key: &str| names.get(key);
    let has_account = |names: &[DomainPattern]| names.iter().any(|name| name.to_string().contains('<'));
    let mut missing: Option<String> = None;
    let to = match &rule.to {
        Destination::Role(role) => {
            let to = matrix.role_of(role)?;
            let here = &site.roles[usize::from(to.0)];
            if here.prefixes.is_empty() && here.names.is_empty() {
                missing = Some(format!("the site lists no {role}"));
            }
            DestinationHere::Role(to)
        }
        Destination::Names(names) => DestinationHere::Names {
            zones: matrix.private_zones(cloud, names),
            accounts: has_account(names),
            names: names.clone(),
        },
        Destination::SiteNames { key, default } => {
            let names = given(key.as_str()).unwrap_or(default);
            if names.is_empty() {
                missing = Some(format!("nothing names {key}: list its names under [names]"));
            }
            DestinationHere::Names {
                zones: matrix.private_zones(cloud, names),
                accounts: has_account(names),
                names: names.clone(),
            }
        }
        Destination::Tag { tag, services } => {
            let known = services.iter().filter_map(|service| service.clouds.get(&cloud));
            let mut zones: Vec<Zone> = Vec::new();
            for zone in known.clone().flat_map(|names| &names.private_zones) {
                if !zones.contains(zone) {
                    zones.push(zone.clone());
                }
            }
            DestinationHere::Tag {
                tag: match matrix.tags().resolve(cloud, tag, site.region()) {
                    Ok(id) => TagHere::Known(id),
                    Err(why) => TagHere::Unknown { why, within: matrix.tags().find(cloud, tag.base()) },
                },
                names: known.flat_map(|names| names.names.iter().cloned()).collect(),
                zones,
                accounts: services.iter().any(|service| service.accounts),
            }
        }
        Destination::VirtualNetwork => {
            if site.virtual_network.is_empty() {
                missing = Some("the site lists no virtual_network".into());
            }
            DestinationHere::VirtualNetwork
        }
        Destination::SiteDefined { role, key } => {
            let to = matrix.role_of(role)?;
            let here = &site.roles[usize::from(to.0)];
            let names = given(key.as_str()).cloned().unwrap_or_default();
            if here.prefixes.is_empty() && here.names.is_empty() && names.is_empty() {
                missing = Some(format!("the site lists no {role}, neither under [roles] nor under [names]"));
            }
            DestinationHere::SiteDefined { role: to, names }
        }
    };
    if site.roles[usize::from(from.0)].prefixes.is_empty() {
        // An initiator is known by its address alone.
        missing = Some(format!("the site lists no address of {}", rule.from));
    }
    let state = match (rule.cloud, missing) {
        (Some(meant), _) if meant != cloud => RuleState::OtherCloud(meant),
        (_, _) if rule.is_alias() && !site.aliases => RuleState::AliasOff,
        (_, missing) => match (condition_state(rule, matrix, site), missing) {
            (Some(off @ RuleState::Off { .. }), _) => off,
            (_, Some(why)) => RuleState::NotApplicable(why),
            (state, None) => state.unwrap_or(RuleState::Applies),
        },
    };
    Some(RuleHere { id: rule.id.clone(), state, from, to })
}

/// Off if the rule's condition or one that it needs does not hold; marked if the pack alone says that it does.
fn condition_state(rule: &super::rule::Rule, matrix: &Matrix, site: &Site) -> Option<RuleState> {
    let own = rule.condition.as_ref()?;
    for condition in matrix.condition_chain(own) {
        let ConditionState { on, by } = site.condition(condition.id.as_str());
        if !on {
            return Some(RuleState::Off { condition: condition.id.clone(), by });
        }
    }
    match site.condition(own.as_str()).by {
        SwitchedBy::Site => Some(RuleState::Applies),
        SwitchedBy::Pack => Some(RuleState::AppliesUnset(own.clone())),
    }
}

/// What is sound, yet would make an audit say less than its reader expects.
fn warn(site: &Site, matrix: &Matrix, m: &mut Mistakes<'_>) {
    if !site.subjects.iter().any(|role| !site.role_prefixes(role).is_empty()) {
        let subjects: Vec<&str> =
            site.subjects.iter().map(|role| matrix.role_def(role).id.as_str()).collect();
        let message = format!(
            "no address holds a role that is audited: every flow would be out of scope; list addresses of {} under [roles]",
            subjects.join(", ")
        );
        m.warning(&(0..0), message);
    }
    for subject in site.subjects.iter() {
        let (id, names) = (&matrix.role_def(subject).id, site.role_names(subject));
        if let Some(name) = names.first().filter(|_| site.role_prefixes(subject).is_empty()) {
            let message = format!(
                "role `{id}` is audited, and the site gives it by name alone ({name}): what its machines begin cannot be told by a \
                 name; give their addresses, too"
            );
            m.warning(&(0..0), message);
        }
    }
    for (index, role) in site.roles.iter().enumerate() {
        if role.prefixes.iter().any(|net| net.prefix_len() == 0) {
            let id = &matrix.roles()[index].id;
            let message = format!(
                "every address holds role `{id}`: an address with a role is identified, so no rule by name can fit it; \
                 write the prefixes that the machines really have"
            );
            m.warning(&(0..0), message);
        }
    }
    for (why, rules) in site.undecidable() {
        m.warning(&(0..0), format!("the addresses of {} cannot be told: {why}", rules.join(", ")));
    }
    for source in matrix.tags().sources().iter().filter(|s| !s.bundled && s.cloud != site.cloud) {
        let message = format!(
            "the site lies in the {} cloud, so the service tags in {}, which are of {}, decide nothing: give those of its own cloud, or \
             another `cloud` here",
            site.cloud, source.file, source.cloud
        );
        m.warning(&(0..0), message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::{BaselineLine, Contact, Direction};

    /// The site file of the contract, as far as it matters here.
    const CONTOSO: &str = r#"
[site]
name = "contoso-weu"
cloud = "public"
region = "westeurope"
storage_accounts = ["contosobackup01"]
resolvers = ["168.63.129.16"]
virtual_network = ["10.10.0.0/16"]
time_servers = ["10.10.0.123", "time.contoso.example"]
aliases = false
[names]
veeam-update-repository = ["repository.veeam.com"]
sql-managed-instance = ["mi1.abc123.database.windows.net"]
[mirrors]
"archive.ubuntu.com" = ["10.10.9.0/24"]
[conditions]
private-environment = false
vss = true
[roles]
backup-appliance = [["10.10.1.4", "fd10::1:4"]]
worker           = ["10.10.2.0/24", ["10.10.3.4", "fd10::3:4"]]
backup-server    = ["10.20.0.10"]
azure-vm         = ["10.30.0.0/16"]
web-browser      = ["10.40.0.0/16"]
console          = ["10.20.0.10", "10.20.0.30"]
smtp-server      = ["mail.contoso.example", "10.20.0.25"]
http-proxy       = []
sql-managed-instance = []
[[accept]]
from = "backup-appliance"
to = "*.contoso.example"
port = 8443
proto = "tcp"
reason = "the monitoring agent"
until = 2026-12-31
[[accept]]
from = "10.10.2.0/24"
to = "192.0.2.0/24"
reason = "a migration"
"#;

    fn contoso() -> (Matrix, Site) {
        let matrix = Matrix::builtin();
        let site = Site::parse(CONTOSO, "site.toml", &matrix).unwrap_or_else(|p| panic!("{p:#?}"));
        (matrix, site)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    #[rustfmt::skip]
    fn an_address_holds_the_roles_of_all_prefixes_that_cover_it() {
        let (matrix, site) = contoso();
        for (address, expected) in [
            ("10.10.1.4",  "backup-appliance"),
            ("fd10::1:4",  "backup-appliance"),
            ("10.10.2.77", "worker"),
            ("10.20.0.10", "backup-server console"),
            ("10.10.3.5",  ""),
            ("8.8.8.8",    ""),
        ] {
            let roles: Vec<&str> = site.roles_of(ip(address)).iter().map(|r| matrix.role_def(r).id.as_str()).collect();
            assert_eq!(roles.join(" "), expected, "{address}");
        }
        let nested = "[roles]\nworker = [\"10.0.0.0/8\"]\nconsole = [\"10.1.0.0/16\"]\nazure-vm = [\"10.1.1.0/24\"]";
        let site = Site::parse(nested, "n", &matrix).unwrap();
        assert_eq!(site.roles_of(ip("10.1.1.1")).iter().count(), 3);
        assert_eq!(site.roles_of(ip("10.1.2.1")).iter().count(), 2);
    }

    #[test]
    fn an_inner_list_is_one_host() {
        let (_, site) = contoso();
        assert_eq!(site.host_of(ip("fd10::1:4")), ip("10.10.1.4"));
        assert_eq!(site.host_of(ip("10.10.1.4")), ip("10.10.1.4"));
        assert_eq!(site.host_of(ip("10.10.2.9")), ip("10.10.2.9"));
    }

    #[test]
    fn what_the_site_says_is_answered_as_said() {
        let (matrix, site) = contoso();
        assert!(
            site.is_resolver(ip("168.63.129.16"))
                && !site.is_resolver(ip("8.8.8.8"))
                && site.resolvers_listed()
        );
        let silent = Site::parse("", "s", &matrix).unwrap();
        assert!(silent.is_resolver(ip("8.8.8.8")) && !silent.resolvers_listed());
        assert_eq!(site.owns_account("contosobackup01"), Some(true));
        assert_eq!(site.owns_account("other"), Some(false));
        assert_eq!(silent.owns_account("other"), None);
        let name = |text: &str| text.parse::<DomainName>().unwrap();
        assert!(site.mirror_allows(&name("archive.ubuntu.com"), ip("10.10.9.9")));
        assert!(!site.mirror_allows(&name("archive.ubuntu.com"), ip("10.10.8.9")));
        assert!(!site.mirror_allows(&name("security.ubuntu.com"), ip("10.10.9.9")));
        assert_eq!(site.condition("private-environment"), ConditionState { on: false, by: SwitchedBy::Site });
        assert_eq!(site.condition("vss"), ConditionState { on: true, by: SwitchedBy::Site });
        assert_eq!(site.condition("cosmos-mongodb"), ConditionState { on: true, by: SwitchedBy::Pack });
        assert_eq!(
            silent.condition("private-environment"),
            ConditionState { on: false, by: SwitchedBy::Pack }
        );
        let subjects: Vec<&str> = site.subjects().iter().map(|r| matrix.role_def(r).id.as_str()).collect();
        assert_eq!(subjects, ["backup-appliance", "worker", "backup-server"]);
        let others = "[site]\nsubjects = [\"azure-vm\"]\n[roles]\nazure-vm = [\"10.0.0.1\"]";
        let others = Site::parse(others, "o", &matrix).unwrap();
        assert!(
            others.subject(matrix.role("azure-vm").unwrap())
                && !others.subject(matrix.role("worker").unwrap())
        );
        assert_eq!(site.role_names(matrix.role("smtp-server").unwrap()), [name("mail.contoso.example")]);
    }

    #[test]
    #[rustfmt::skip]
    fn a_rule_applies_as_roles_conditions_and_clouds_have_it() {
        let matrix = Matrix::builtin();
        let state = |site: &str, rule: &str| {
            let site = Site::parse(site, "s", &matrix).unwrap_or_else(|p| panic!("{p:#?}"));
            match &site.rules().iter().find(|here| here.id.as_str() == rule).unwrap().state {
                RuleState::Applies => "applies".to_owned(),
                RuleState::AppliesUnset(condition) => format!("unset {condition}"),
                RuleState::Off { condition, by } => format!("off {condition} {by:?}"),
                RuleState::AliasOff => "alias off".to_owned(),
                RuleState::OtherCloud(cloud) => format!("cloud {cloud}"),
                RuleState::NotApplicable(why) => format!("n/a {why}"),
            }
        };
        let all = "[roles]\nbackup-appliance=[\"10.0.0.1\"]\nworker=[\"10.0.0.2\"]\nbackup-server=[\"10.0.0.3\"]";
        for (site, rule, expected) in [
            (all.to_owned(), "vbaz-05a", "applies"),
            (all.to_owned(), "vbaz-26", "unset cosmos-mongodb"),
            (all.to_owned(), "vbaz-14", "off private-environment Pack"),
            (format!("{all}\n[conditions]\nprivate-environment=true"), "vbaz-14", "n/a the site lists no virtual_network"),
            (format!("{all}\n[conditions]\nprivate-environment=true\n[site]\nvirtual_network=[\"10.0.0.0/8\"]"), "vbaz-14", "applies"),
            (format!("{all}\n[conditions]\nsql-protection=false"), "vbaz-22b", "off sql-protection Site"),
            (format!("{all}\n[conditions]\nsql-redirect=false"), "vbaz-22a", "unset sql-protection"),
            (all.to_owned(), "vbaz-09a", "n/a the site lists no smtp-server, neither under [roles] nor under [names]"),
            (format!("{all}\n[names]\nsmtp-server=[\"mail.example.net\"]"), "vbaz-09a", "unset email-plain"),
            (format!("{all}\n[names]\nveeam-update-repository=[]"), "vbaz-04", "n/a nothing names veeam-update-repository: list its names under [names]"),
            (all.to_owned(), "vbaz-04", "applies"),
            (all.to_owned(), "vbaz-01", "n/a the site lists no address of web-browser"),
            (all.to_owned(), "vbaz-07-www", "alias off"),
            (format!("{all}\n[site]\naliases=true"), "vbaz-07-www", "applies"),
            (format!("{all}\n[site]\naliases=true"), "vbaz-29-usgov", "cloud usgov"),
            (format!("{all}\n[site]\naliases=true\ncloud=\"usgov\""), "vbaz-29-usgov", "applies"),
        ] {
            // Keys of [site] must come before other tables only in our own eyes: TOML takes any order.
            assert_eq!(state(&site, rule), expected, "{rule} with {site}");
        }
    }

    #[test]
    fn tags_are_resolved_for_the_region_and_cloud_of_the_site() {
        let (matrix, site) = contoso();
        let tag = |site: &Site, rule: &str| match &site
            .rules()
            .iter()
            .find(|h| h.id.as_str() == rule)
            .unwrap()
            .to
        {
            DestinationHere::Tag { tag: TagHere::Known(id), .. } => matrix.tags().name(*id).to_owned(),
            DestinationHere::Tag { tag: TagHere::Unknown { why, within }, .. } => {
                format!("{why} / {:?}", within.map(|id| matrix.tags().name(id)))
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(tag(&site, "vbaz-22a"), "Sql.WestEurope");
        assert_eq!(tag(&site, "vbaz-12"), "Storage");
        let north = Site::parse("[site]\nregion = \"northeurope\"", "s", &matrix).unwrap();
        assert!(tag(&north, "vbaz-22a").contains("for region northeurope"));
        assert!(tag(&north, "vbaz-22a").ends_with("Some(\"Sql\")"));
        let told: Vec<String> = north.warnings().iter().map(ToString::to_string).collect();
        assert!(told.iter().any(|t| t.contains("know no region `northeurope`")), "{told:?}");
        let gov = Site::parse("[site]\ncloud = \"usgov\"", "s", &matrix).unwrap();
        assert!(tag(&gov, "vbaz-12").starts_with("no service tags of the usgov cloud"));
        let names = |site: &Site, rule: &str| match &site
            .rules()
            .iter()
            .find(|h| h.id.as_str() == rule)
            .unwrap()
            .to
        {
            DestinationHere::Tag { names, zones, accounts, .. }
            | DestinationHere::Names { names, zones, accounts } => {
                let names: Vec<String> = names.iter().map(ToString::to_string).collect();
                let zones: Vec<String> = zones.iter().map(ToString::to_string).collect();
                (names.join(" "), zones.join(" "), *accounts)
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(
            names(&site, "vbaz-27b"),
            ("<account>.file.core.windows.net".into(), "privatelink.file.core.windows.net".into(), true)
        );
        assert_eq!(
            names(&site, "vbaz-26"),
            ("*.mongo.cosmos.azure.com".into(), "privatelink.mongo.cosmos.azure.com".into(), false)
        );
        assert_eq!(names(&gov, "vbaz-10").0, "login.microsoftonline.us pasff.usgovcloudapi.net");
        // The page names these two itself; their private endpoints are those of the services behind the tags.
        assert_eq!(names(&site, "vbaz-29").1, "privatelink.azure.com");
        assert_eq!(names(&site, "vbaz-33").1, "privatelink.blob.core.windows.net");
        assert!(names(&site, "vbaz-33").2);
    }

    #[test]
    #[rustfmt::skip]
    fn platform_traffic_is_known_by_direction_peer_port_and_name() {
        let (matrix, site) = contoso();
        let gov = Site::parse("[site]\ncloud = \"usgov\"\nresolvers = [\"10.0.0.53\"]", "s", &matrix).unwrap();
        let line = |id: &str| -> BaselineLine { matrix.baseline().iter().find(|l| l.id == id).unwrap().clone() };
        for (id, site, direction, peer, transport, port, name, expected) in [
            ("plat-wire-80",   &site, Direction::Out, "168.63.129.16",   Transport::Tcp, 80,    "", true),
            ("plat-wire-80",   &site, Direction::In,  "168.63.129.16",   Transport::Tcp, 80,    "", false),
            ("plat-probe",     &site, Direction::In,  "168.63.129.16",   Transport::Tcp, 8080,  "", true),
            ("plat-probe",     &site, Direction::In,  "168.63.129.17",   Transport::Tcp, 8080,  "", false),
            ("plat-dns",       &site, Direction::Out, "168.63.129.16",   Transport::Udp, 53,    "", true),
            ("plat-dns",       &site, Direction::Out, "168.63.129.16",   Transport::Udp, 5353,  "", false),
            ("plat-dns",       &site, Direction::Out, "8.8.8.8",         Transport::Udp, 53,    "", false),
            ("plat-dns",       &gov,  Direction::Out, "10.0.0.53",       Transport::Tcp, 53,    "", true),
            ("plat-time",      &site, Direction::Out, "10.10.0.123",     Transport::Udp, 123,   "", true),
            ("plat-time",      &site, Direction::Out, "192.0.2.1",       Transport::Udp, 123,   "", false),
            ("plat-time",      &site, Direction::Out, "192.0.2.1",       Transport::Udp, 123,   "time.contoso.example", true),
            ("plat-ntp",       &site, Direction::Out, "192.0.2.1",       Transport::Udp, 123,   "", true),
            ("plat-imds",      &site, Direction::Out, "169.254.169.254", Transport::Tcp, 80,    "", true),
            ("plat-imds",      &site, Direction::Out, "169.254.169.254", Transport::Tcp, 443,   "", false),
            ("plat-kms",       &site, Direction::Out, "20.118.99.224",   Transport::Tcp, 1688,  "", true),
            ("plat-kms",       &site, Direction::Out, "192.0.2.1",       Transport::Tcp, 1688,  "azkms.core.windows.net", true),
            ("plat-kms",       &gov,  Direction::Out, "20.118.99.224",   Transport::Tcp, 1688,  "", false),
            ("plat-kms-gov",   &gov,  Direction::Out, "23.97.0.13",      Transport::Tcp, 1688,  "", true),
            ("plat-agent-ext", &site, Direction::Out, "20.60.0.1",       Transport::Tcp, 443,   "umsa1234.blob.core.windows.net", true),
            ("plat-agent-ext", &site, Direction::Out, "20.60.0.1",       Transport::Tcp, 443,   "acct.blob.core.windows.net", false),
            ("net-snat-scan",  &site, Direction::In,  "203.0.113.5",     Transport::Tcp, 22,    "", true),
            ("net-snat-scan",  &site, Direction::In,  "10.10.200.1",     Transport::Tcp, 22,    "", false),
        ] {
            let parsed: Option<DomainName> = name.parse().ok();
            let names: Vec<&DomainName> = parsed.iter().collect();
            let contact = Contact { direction, peer: ip(peer), transport, port, names: &names };
            assert_eq!(line(id).fits(site, contact), expected, "{id} {peer}:{port} {name}");
        }
    }

    #[test]
    fn an_exception_fits_only_what_it_says() {
        let (_, site) = contoso();
        let [agent, migration] = site.accepts() else { panic!("{:?}", site.accepts()) };
        assert_eq!(
            (agent.until.unwrap().to_string(), agent.line, migration.until),
            ("2026-12-31".into(), 29, None)
        );
        let name: DomainName = "agent.contoso.example".parse().unwrap();
        let fits = |names: &[&DomainName], from: &str, transport, port| {
            agent.fits(&site, ip(from), Some(ip("192.0.2.9")), names, transport, port)
        };
        assert!(fits(&[&name], "10.10.1.4", Transport::Tcp, 8443));
        assert!(!fits(&[], "10.10.1.4", Transport::Tcp, 8443));
        assert!(!fits(&[&name], "10.10.1.5", Transport::Tcp, 8443));
        assert!(!fits(&[&name], "10.10.1.4", Transport::Udp, 8443));
        assert!(!fits(&[&name], "10.10.1.4", Transport::Tcp, 8444));
        assert!(migration.fits(&site, ip("10.10.2.1"), Some(ip("192.0.2.9")), &[], Transport::Udp, 9));
        assert!(!migration.fits(&site, ip("10.10.2.1"), Some(ip("192.0.3.9")), &[], Transport::Udp, 9));
    }

    #[test]
    fn all_mistakes_of_a_site_file_are_told_at_once_with_their_places() {
        let text = r#"[site]
nam = "x"
cloud = "azure"
region = "West Europe"
storage_accounts = ["Contoso.blob.core.windows.net", "ok1"]
resolvers = ["168.63.129.16", "10.0.0.0.1"]
virtual_network = "10.0.0.0/8"
aliases = "yes"
subjects = ["wroker"]
[names]
update-repository = ["repository.veeam.com"]
sql-managed-instance = ["10.0.0.9", "a..b"]
[mirrors]
"archive.ubunto.com" = ["10.0.0.1"]
[conditions]
private-enviroment = true
vss = "on"
[roles]
bakup-appliance = ["10.10.1.4/24"]
worker = ["10.0.0.1", ["10.0.0.2", "10.0.0.3"], "10.0.0.1"]
console = [["10.0.0.3", "10.0.0.4"], "10.0.0.0/33"]
azure-vm = "10.0.0.0/8"
[[accept]]
from = "worker"
port = 70000
proto = "tpc"
until = 2026-02-30T10:00:00Z
[rolls]
"#;
        // The last two lines are mistakes of TOML itself: told alone.
        let matrix = Matrix::builtin();
        let problems = Site::parse(text, "site.toml", &matrix).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:#?}");
        assert!(problems[0].to_string().starts_with("site.toml:27:9: not TOML here"), "{}", problems[0]);

        let text = text.replace("2026-02-30T10:00:00Z", "2026-02-03T10:00:00Z");
        let problems = Site::parse(&text, "site.toml", &matrix).unwrap_err();
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let expected = [
            ("site.toml:2:1:", "unknown key in [site] `nam`", "(did you mean `name`?)"),
            ("site.toml:3:9:", "unknown cloud `azure`", "write one of public, usgov, china"),
            ("site.toml:4:10:", "`West Europe`", "write `westeurope`"),
            ("site.toml:5:21:", "no storage account", "write `contoso`"),
            ("site.toml:6:31:", "`10.0.0.0.1` is no address", ""),
            ("site.toml:7:19:", "`virtual_network` is a string", "write a list"),
            ("site.toml:8:11:", "`aliases` is a string", "write true or false"),
            ("site.toml:9:12:", "no role is left to audit", ""),
            ("site.toml:9:13:", "unknown role `wroker`", "(did you mean `worker`?)"),
            ("site.toml:11:1:", "unknown key in [names] `update-repository`", "veeam-update-repository"),
            ("site.toml:12:25:", "`10.0.0.9` is an address", "under [roles]"),
            ("site.toml:12:37:", "`a..b` is no domain name pattern", ""),
            ("site.toml:14:1:", "no rule names `archive.ubunto.com`", "(did you mean `archive.ubuntu.com`?)"),
            (
                "site.toml:16:1:",
                "unknown condition `private-enviroment`",
                "(did you mean `private-environment`?)",
            ),
            ("site.toml:17:7:", "a condition holds or not", "write true or false"),
            ("site.toml:19:1:", "unknown role `bakup-appliance`", "(did you mean `backup-appliance`?)"),
            (
                "site.toml:19:20:",
                "bits set beyond",
                "write `10.10.1.0/24` for the network or `10.10.1.4` for the host",
            ),
            ("site.toml:20:49:", "`10.0.0.1` stands twice in role `worker`", ""),
            ("site.toml:21:12:", "`10.0.0.3` is in another host's list", ""),
            ("site.toml:21:38:", "`10.0.0.0/33` is no prefix", ""),
            ("site.toml:22:12:", "role `azure-vm` is a string", "write a list"),
            ("site.toml:23:", "[[accept]] has no `reason`", ""),
            ("site.toml:23:", "[[accept]] has no `to`", ""),
            ("site.toml:25:8:", "`70000` is not a port", ""),
            ("site.toml:26:9:", "`tpc` is no transport", ""),
            ("site.toml:27:9:", "`until` is no day", ""),
            ("site.toml:28:2:", "unknown key in the site file `rolls`", "(did you mean `roles`?)"),
        ];
        for (place, what, remedy) in expected {
            let hit = told.iter().any(|t| t.starts_with(place) && t.contains(what) && t.contains(remedy));
            assert!(hit, "{place} {what} {remedy} is not in\n{}", told.join("\n"));
        }
        assert_eq!(told.len(), expected.len(), "\n{}", told.join("\n"));
    }

    #[test]
    fn a_site_that_would_audit_nothing_is_warned_of() {
        let matrix = Matrix::builtin();
        let site = Site::parse("[roles]\nconsole = [\"0.0.0.0/0\"]", "s", &matrix).unwrap();
        let told: Vec<String> = site.warnings().iter().map(ToString::to_string).collect();
        assert!(told.iter().any(|t| t.contains("every flow would be out of scope")), "{told:?}");
        assert!(told.iter().any(|t| t.contains("every address holds role `console`")), "{told:?}");
        assert!(Site::parse(CONTOSO, "s", &matrix).unwrap().warnings().is_empty());
    }

    #[test]
    fn service_tags_of_a_cloud_in_which_the_site_does_not_lie_are_warned_of() {
        let file = std::env::temp_dir().join(format!("portproof-tags-{}.json", std::process::id()));
        std::fs::write(&file, r#"{"changeNumber": 7, "cloud": "AzureGovernment", "values": []}"#).unwrap();
        let matrix = Matrix::load(&[], &[file.display().to_string()]);
        std::fs::remove_file(&file).unwrap();
        let matrix = matrix.unwrap();
        for (cloud, expected) in [("public", 1), ("usgov", 0), ("china", 1)] {
            let site = format!("[site]\ncloud = \"{cloud}\"\n[roles]\nworker = [\"10.1.0.4\"]");
            let site = Site::parse(&site, "s", &matrix).unwrap();
            let told = site.warnings().iter().map(ToString::to_string);
            let told: Vec<String> = told.filter(|told| told.contains("decide nothing")).collect();
            assert_eq!(told.len(), expected, "{cloud}: {told:?}");
        }
    }

    #[test]
    fn a_role_that_is_audited_and_has_a_name_alone_is_warned_of() {
        let matrix = Matrix::builtin();
        for (server, expected) in
            [(r#""vbr.example""#, 1), (r#""vbr.example", "10.20.0.10""#, 0), (r#""10.20.0.10""#, 0)]
        {
            let text = format!(
                "[roles]\nworker = [\"10.1.0.4\"]\nbackup-server = [{server}]\nconsole = [\"c.example\"]"
            );
            let site = Site::parse(&text, "s", &matrix).unwrap();
            let told = site.warnings().iter().map(ToString::to_string);
            let told: Vec<String> = told.filter(|told| told.contains("by name alone")).collect();
            assert_eq!(told.len(), expected, "{told:?}");
            assert!(
                told.iter()
                    .all(|told| told.contains("role `backup-server` is audited")
                        && told.contains("vbr.example"))
            );
        }
    }
}
