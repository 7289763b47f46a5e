//! A table for a Linux gateway that forwards for the machines: what `nft -f` reads.

use super::dns::{ACCOUNT, Watched, watched};
use super::permitted::{Among, Named, Permit, Permitted, Side};
use super::{Distinct, Family, FirewallRules, NO_FAMILY, Unexpressed, cut};
use crate::matrix::baseline::shown_prefix;
use crate::matrix::source::shown;
use crate::model::{DomainName, DomainPattern, Transport};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;
use std::ops::RangeInclusive;

/// The table, which is loaded and taken away as a whole.
const TABLE: &str = "portproof";

/// Bytes of a set's name: kernels before 4.14 take no more (NFT_SET_MAXNAMELEN, with the zero at its end).
const SET_NAME_BYTES: usize = 31;

/// Bytes of a rule's comment, which nft stores with a zero at its end (NFTNL_UDATA_COMMENT_MAXLEN: 128).
const COMMENT_BYTES: usize = 127;

/// What the lines for the resolver begin with, and no other line: all other comments have a blank, or nothing, behind their `#`.
const FOR_DNSMASQ: &str = "#dnsmasq nftset=";

/// Bytes of a line for dnsmasq, which takes no more than 1024 of a line of its file (2.90, `MAXDNAME`), and of two lines for a
/// domain only one.
const DNSMASQ_BYTES: usize = 1000;

/// Lists of names that a name may stand in before it gets a set of its own: each list is a set on the name's line for dnsmasq.
const MOST_LISTS: usize = 4;

/// Columns of what a person reads.
const COLUMNS: usize = 100;

/// Addresses that are written out where they are used. More become a set.
const WRITTEN_OUT: usize = 4;

/// Logs what is refused, but no flood of it.
const LOG: &str = "limit rate 10/second burst 20 packets log prefix \"portproof: \"";

/// Labels of sets; those of service tags begin so.
const TAG: &str = "tag_";
const OWN: &str = "own";
const ANY_ROLE: &str = "any_role";
const GUARDED: &str = "guarded";

/// Writes the table.
///
/// # Errors
/// A line for dnsmasq would be longer than it takes.
pub(super) fn write(permitted: Permitted<'_>) -> Result<FirewallRules, String> {
    let mut writer = Writer {
        sets: Sets::default(),
        chains: Vec::new(),
        chain_names: Distinct::default(),
        wider: BTreeMap::new(),
        by_name: [0; 2],
        crowded: crowded(&permitted.permits),
        at_endpoints: false,
        at_others: false,
        permitted,
    };
    let permits = std::mem::take(&mut writer.permitted.permits);
    let silent: Vec<&Permit<'_>> = permits.iter().filter(|permit| !writer.permit(permit, &permits)).collect();
    let told = |permit: &Permit<'_>| !silent.iter().any(|silent| std::ptr::eq(*silent, permit));
    for permit in &silent {
        if !permits.iter().any(|other| told(other) && other.first() == permit.first()) {
            writer.permitted.without_permit(permit, NO_FAMILY);
        }
    }
    writer.finish()
}

struct Writer<'a> {
    permitted: Permitted<'a>,
    sets: Sets,
    /// Rules by who begins; those of the platform towards the machines stand for themselves.
    chains: Vec<Chain>,
    chain_names: Distinct,
    /// Patterns of which more is watched for than they mean, and what.
    wider: BTreeMap<String, String>,
    /// How many permits lead to names, alone and beside addresses.
    by_name: [usize; 2],
    /// Names that have a set of their own.
    crowded: HashSet<DomainPattern>,
    /// Whether rules let names by within the virtual network, and at addresses of others alone.
    at_endpoints: bool,
    at_others: bool,
}

/// The rules of whoever begins: a role, or all guarded machines.
struct Chain {
    from: Side,
    name: String,
    heading: String,
    lines: Vec<String>,
}

impl<'a> Writer<'a> {
    /// Writes the rules of a permit. No: there is nothing to write of it, nor anything missing.
    fn permit(&mut self, permit: &Permit<'a>, permits: &[Permit<'a>]) -> bool {
        let comment = format!("{}: {}", permit.citation(), permit.title);
        let mut lines = Vec::new();
        let mut gaps = Vec::new();
        let (mut by_name, mut by_address) = (false, false);
        for way in &permit.ways {
            let before = lines.len();
            let ways = match way {
                Side::Names(named) => self.watchable(named, permit, permits, &mut gaps),
                Side::Tag { nets: Err(why), .. } => {
                    gaps.push((Vec::new(), why.clone()));
                    continue;
                }
                way => vec![way.clone()],
            };
            for way in &ways {
                for &transport in &permit.transports {
                    self.lines(permit, way, transport, &comment, &mut lines);
                }
            }
            let told = if matches!(way, Side::Names(_)) { &mut by_name } else { &mut by_address };
            *told |= lines.len() > before;
        }
        let [alone, in_part] = &mut self.by_name;
        *alone += usize::from(by_name && !by_address);
        *in_part += usize::from(by_name && by_address);
        let some = !lines.is_empty() || !gaps.is_empty();
        for (names, why) in gaps {
            self.permitted.unexpressed.push(Unexpressed { rule: permit.ids(), names, why });
        }
        if lines.is_empty() {
            return some;
        }
        let chain = self.chain(&permit.from);
        if let Some(chain) = self.chains.get_mut(chain) {
            chain.lines.append(&mut lines);
        }
        true
    }

    /// The rules for one way over one transport: one for each version of IP.
    fn lines(
        &mut self,
        permit: &Permit<'a>,
        way: &Side,
        transport: Transport,
        comment: &str,
        lines: &mut Vec<String>,
    ) {
        let goes_out = matches!(permit.from, Side::Role(_) | Side::Guarded);
        let from = self.permitted.nets(&permit.from);
        for family in Family::BOTH {
            if goes_out && family.of(&from).is_empty() {
                continue;
            }
            let Some(carried) = carried(transport, permit.ports.as_deref(), family) else { continue };
            let begins =
                if goes_out { Some(String::new()) } else { self.ends(&permit.from, family, "saddr") };
            let (Some(begins), Some(ends)) = (begins, self.ends(way, family, "daddr")) else { continue };
            let tests = [begins, ends, carried];
            let tests: Vec<&str> = tests.iter().map(String::as_str).filter(|test| !test.is_empty()).collect();
            let rule = accept(&tests.join(" "), comment);
            // To anyone is one rule, whatever the version.
            if lines.last() != Some(&rule) {
                lines.push(rule);
            }
        }
    }

    /// What tells a side by its addresses of one version; none if it has no such address.
    fn ends(&mut self, side: &Side, family: Family, end: &str) -> Option<String> {
        let field = format!("{} {end}", keyword(family));
        let nets = |writer: &Self| writer.permitted.nets(side);
        let label = match side {
            Side::Anyone => return Some(String::new()),
            Side::Internet => {
                let outside = self.permitted.not_internet();
                let set = self.sets.fixed("not_internet", &outside, family)?;
                return Some(format!("{field} != @{set}"));
            }
            Side::Listed(_) => {
                let own = family.of(&nets(self));
                let shown: Vec<String> = own.iter().map(shown_prefix).collect();
                match &shown[..] {
                    [] => return None,
                    [one] => return Some(format!("{field} {one}")),
                    few if few.len() <= WRITTEN_OUT => {
                        return Some(format!("{field} {{ {} }}", few.join(", ")));
                    }
                    _ => "listed".to_owned(),
                }
            }
            Side::Role(_) | Side::Guarded => self.label(side),
            Side::VirtualNetwork => "virtual_network".to_owned(),
            Side::Tag { name, .. } => format!("{TAG}{name}"),
            Side::Names(named) => return self.names(named, family, &field),
        };
        let nets = nets(self);
        self.sets.fixed(&label, &nets, family).map(|set| format!("{field} @{set}"))
    }

    /// What tells a side by its names: the set that a resolver fills, at the addresses where names count.
    fn names(&mut self, named: &Named, family: Family, field: &str) -> Option<String> {
        let mut tests = String::new();
        if named.among == Among::VirtualNetwork {
            let nets = self.permitted.nets(&Side::VirtualNetwork);
            let set = self.sets.fixed("virtual_network", &nets, family)?;
            let _ = write!(tests, "{field} @{set} ");
        }
        let (label, besides) = match named.among {
            Among::All => ("", Vec::new()),
            Among::NotOwn => (OWN, self.permitted.own()),
            Among::Unidentified | Among::VirtualNetwork => (ANY_ROLE, self.permitted.identified()),
        };
        self.at_endpoints |= named.among == Among::VirtualNetwork;
        self.at_others |= named.among == Among::NotOwn;
        if let Some(set) = self.sets.fixed(label, &besides, family) {
            let _ = write!(tests, "{field} != @{set} ");
        }
        let set = self.sets.named(named, family);
        Some(format!("{tests}{field} @{set}"))
    }

    /// The names that a resolver can watch for, those that have a set of their own apart; what it cannot is a gap.
    fn watchable(
        &mut self,
        named: &Named,
        permit: &Permit<'a>,
        permits: &[Permit<'a>],
        gaps: &mut Vec<(Vec<String>, String)>,
    ) -> Vec<Side> {
        let accounts = self.permitted.site.storage_accounts();
        let (mut patterns, mut unfit) = (Vec::new(), Vec::new());
        for pattern in &named.patterns {
            let watched = watched(pattern, accounts);
            let wider = watched.iter().flatten().find(|watched| watched.is_wider);
            match (&watched, wider) {
                (None, _) => unfit.push(pattern.clone()),
                (Some(_), Some(_)) if !named.may_widen => unfit.push(pattern.clone()),
                (Some(_), Some(wider)) => {
                    self.wider.insert(pattern.to_string(), wider.domain.clone());
                    patterns.push(pattern.clone());
                }
                (Some(_), None) => patterns.push(pattern.clone()),
            }
        }
        if let Some(tag) = self.permitted.tag_around(permits, permit, &unfit) {
            let why = format!("all its addresses lie in the service tag {tag}, which is permitted");
            self.permitted.without_permit(permit, &why);
        } else if !unfit.is_empty() {
            let why = if permit.cited.iter().any(|cited| cited.row.is_some()) {
                "dnsmasq knows no such pattern"
            } else {
                "dnsmasq knows no such pattern, and all names below its domain are other people's, too"
            };
            gaps.push((unfit.iter().map(ToString::to_string).collect(), why.to_owned()));
        }
        let is_alone = |pattern: &DomainPattern| patterns.len() > 1 && self.crowded.contains(pattern);
        let (alone, together): (Vec<DomainPattern>, Vec<DomainPattern>) =
            patterns.iter().cloned().partition(is_alone);
        let mut ways = Vec::new();
        if let Some(first) = together.first() {
            let label = if alone.is_empty() { named.label.clone() } else { first.plain_ending() };
            ways.push(Side::Names(Named { label, patterns: together, ..named.clone() }));
        }
        ways.extend(alone.into_iter().map(|pattern| {
            let label = pattern.plain_ending();
            Side::Names(Named { label, patterns: vec![pattern], ..named.clone() })
        }));
        ways
    }

    /// The place of the chain for whoever begins.
    fn chain(&mut self, from: &Side) -> usize {
        let names_itself = |from: &Side| !matches!(from, Side::Role(_) | Side::Guarded);
        let same = |chain: &Chain| chain.from == *from || (names_itself(&chain.from) && names_itself(from));
        if let Some(place) = self.chains.iter().position(same) {
            return place;
        }
        let (name, heading) = match from {
            Side::Role(role) => {
                let role = self.permitted.matrix.role_def(*role);
                (format!("from_{}", role.id), format!("Begun by role {}.", role.id))
            }
            Side::Guarded => (
                "from_guarded".to_owned(),
                "The platform's own, begun by any machine that is guarded.".to_owned(),
            ),
            Side::Listed(_)
            | Side::VirtualNetwork
            | Side::Tag { .. }
            | Side::Internet
            | Side::Anyone
            | Side::Names(_) => (
                "to_guarded".to_owned(),
                "The platform's own, asked of any machine that is guarded.".to_owned(),
            ),
        };
        let name = stem(&mut self.chain_names, &name);
        self.chains.push(Chain { from: from.clone(), name, heading, lines: Vec::new() });
        self.chains.len() - 1
    }

    /// Puts it together.
    ///
    /// # Errors
    /// A line for dnsmasq would be longer than it takes.
    fn finish(mut self) -> Result<FirewallRules, String> {
        let for_dnsmasq = self.dnsmasq_lines()?;
        let mut jumps = Vec::new();
        for chain in &self.chains {
            if !matches!(chain.from, Side::Role(_) | Side::Guarded) {
                jumps.push(format!("jump {}", chain.name));
                continue;
            }
            let (label, nets) = (self.label(&chain.from), self.permitted.nets(&chain.from));
            for family in Family::BOTH {
                if let Some(set) = self.sets.fixed(&label, &nets, family) {
                    jumps.push(format!("{} saddr @{set} jump {}", keyword(family), chain.name));
                }
            }
        }
        let refusals = self.refusals();
        let mut remarks = self.remarks();
        remarks.append(&mut self.permitted.remarks);
        let mut rules = FirewallRules {
            text: String::new(),
            unexpressed: std::mem::take(&mut self.permitted.unexpressed),
            remarks,
        };
        rules.text = self.text(&rules, &jumps, &refusals, &for_dnsmasq);
        Ok(rules)
    }

    /// What the set of a role is called, or of all guarded machines.
    fn label(&self, from: &Side) -> String {
        match from {
            Side::Role(role) => format!("role_{}", self.permitted.matrix.role_def(*role).id),
            _ => GUARDED.to_owned(),
        }
    }

    /// What ends what is not let by.
    fn refusals(&mut self) -> Vec<String> {
        let mut refusals = Vec::new();
        for role in self.permitted.guarded.clone() {
            let id = &self.permitted.matrix.role_def(role).id;
            let (label, nets) = (self.label(&Side::Role(role)), self.permitted.nets(&Side::Role(role)));
            for family in Family::BOTH {
                let Some(set) = self.sets.fixed(&label, &nets, family) else { continue };
                for (end, what) in [("saddr", "begun by"), ("daddr", "asked of")] {
                    let test = format!("{} {end} @{set}", keyword(family));
                    let comment = commented(&format!("undocumented, {what} {id}"));
                    // What is refused does not depend on how much may be logged.
                    refusals.push(format!("        {test} {LOG}\n"));
                    refusals.push(broken(
                        &format!("{test} counter reject with icmpx admin-prohibited"),
                        &comment,
                    ));
                }
            }
        }
        refusals
    }

    /// What is to be said of these rules as rules of nftables.
    fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        let [alone, in_part] = self.by_name;
        if alone + in_part > 0 {
            remarks.push(format!(
                "{alone} rules go by DNS name, and {in_part} go by it beside addresses: by name nothing is permitted until dnsmasq \
                 fills the sets (see the end)"
            ));
            let wide =
                "dnsmasq takes a name with all names below it, so exact names let more by than is documented";
            remarks.push(wide.to_owned());
        }
        if self.at_endpoints {
            let endpoints = "for private endpoints any address of the virtual network passes that holds no role and that the resolver gives \
                 for a service's name, private zone or not (an audit calls it name-conflict without one)";
            remarks.push(endpoints.to_owned());
        }
        if self.at_others {
            let own = "names at addresses of one's own are not let by; list them under [mirrors]";
            remarks.push(own.to_owned());
        }
        for family in Family::BOTH {
            let lacking = self.permitted.lacking(family);
            if !lacking.is_empty() {
                let version = family.word();
                remarks.push(format!(
                    "the site lists no {version} address for machines of {}: what these begin or are asked for over {version} is not \
                     refused",
                    lacking.join(", ")
                ));
            }
        }
        if !self.wider.is_empty() {
            let wider = self.wider.iter().map(|(pattern, domain)| format!("{pattern} as all below {domain}"));
            remarks.push(format!("wider than documented, too: {}", wider.collect::<Vec<_>>().join("; ")));
        }
        let accounts = |set: &NamedSet| set.patterns.iter().any(|name| name.to_string().contains(ACCOUNT));
        if self.permitted.site.storage_accounts().is_empty() && self.sets.named.iter().any(accounts) {
            let any = "the site lists no storage_accounts, so names of any account are let by";
            remarks.push(any.to_owned());
        }
        if self.sets.fixed.iter().any(FixedSet::is_tag) {
            for source in self.permitted.matrix.tags().sources() {
                if source.cloud != self.permitted.site.cloud() {
                    continue;
                }
                let date = source.date.map_or("of unknown date".to_owned(), |date| format!("of {date}"));
                let bundled = if source.bundled {
                    " (a bundled excerpt: give the current file with --service-tags)"
                } else {
                    ""
                };
                remarks.push(format!(
                    "prefixes of service tags are those of change {} {date}{bundled}; Microsoft changes them every week",
                    source.change_number
                ));
            }
        }
        remarks
    }

    fn text(
        &self,
        rules: &FirewallRules,
        jumps: &[String],
        refusals: &[String],
        for_dnsmasq: &[String],
    ) -> String {
        let mut out = String::new();
        let site = self.permitted.site.name();
        note(
            &mut out,
            "# ",
            &format!("Firewall rules for site {site}, by `portproof rules export --for nftables`."),
        );
        note(&mut out, "# ", &format!("Documented in: {}.", self.permitted.pages().join("; ")));
        note(
            &mut out,
            "# ",
            &format!(
                "For a gateway that forwards for {}: what is documented for them passes, and what is the platform's own; all else \
                 that they begin or are asked for is refused (ICMP: administratively prohibited) and logged, ten packets a second \
                 at most for each role and direction. Other traffic is left alone. What passes here another table may still drop.",
                self.permitted.guarded_words().join(", ")
            ),
        );
        note(
            &mut out,
            "# ",
            "Load it, and load it again: nft -f FILE. Take it away: nft delete table inet portproof",
        );
        out.push_str("#\n# Know before you load it\n");
        rules.remarks.iter().chain(&rules.gaps()).for_each(|said| item(&mut out, said));
        if !self.permitted.without.is_empty() {
            let count: usize = self.permitted.without.iter().map(|(_, ids)| ids.len()).sum();
            let _ = write!(out, "#\n# Without effect here ({count})\n");
            for (why, ids) in &self.permitted.without {
                item(&mut out, &format!("{}: {why}", ids.join(", ")));
            }
        }
        let _ = write!(out, "\ntable inet {TABLE}\ndelete table inet {TABLE}\n\ntable inet {TABLE} {{\n");
        self.sets.write(&mut out);
        for chain in &self.chains {
            let _ = writeln!(out, "    chain {} {{", chain.name);
            note(&mut out, "        # ", &chain.heading);
            chain.lines.iter().for_each(|line| out.push_str(line));
            out.push_str("    }\n\n");
        }
        out.push_str("    chain documented {\n");
        jumps.iter().for_each(|jump| {
            let _ = writeln!(out, "        {jump}");
        });
        out.push_str("    }\n\n    chain forward {\n        type filter hook forward priority filter; policy accept;\n");
        out.push_str("        ct state established,related accept\n        jump documented\n");
        refusals.iter().for_each(|refusal| out.push_str(refusal));
        out.push_str("    }\n");
        if self.sets.fixed.iter().any(FixedSet::is_tag) {
            out.push('\n');
            note(&mut out, "    # ", "Service tags.");
            self.sets.fixed.iter().filter(|set| set.is_tag()).for_each(|set| set.write(&mut out));
        }
        out.push_str("}\n");
        self.dnsmasq(&mut out, for_dnsmasq);
        out
    }

    /// What is for the resolver.
    fn dnsmasq(&self, out: &mut String, lines: &[String]) {
        if lines.is_empty() {
            return;
        }
        out.push('\n');
        note(
            out,
            "# ",
            "For dnsmasq (2.87 or newer, built with nftset, on this gateway), which the machines must ask for names: \
             sed -n 's/^#dnsmasq nftset=/nftset=/p' FILE > /etc/dnsmasq.d/portproof.conf. Whenever the table is loaded its sets are empty: \
             let dnsmasq forget what it knows (SIGHUP), so that it asks anew and fills them. Addresses stay until then.",
        );
        for line in lines {
            let _ = writeln!(out, "{line}");
        }
    }

    /// The lines for the resolver.
    ///
    /// # Errors
    /// One would be longer than dnsmasq takes.
    fn dnsmasq_lines(&self) -> Result<Vec<String>, String> {
        let mut lines = Vec::new();
        let accounts = self.permitted.site.storage_accounts();
        let mut wanted: Vec<(Watched, usize)> = Vec::new();
        for (place, set) in self.sets.named.iter().enumerate() {
            let all = set.patterns.iter().filter_map(|pattern| watched(pattern, accounts)).flatten();
            wanted.extend(all.map(|one| (one, place)));
        }
        // Of all lines that fit a name dnsmasq takes the one with the longest domain alone: a set that is to hold it by a pattern
        // of a shorter one stands on that line, too.
        let domains: BTreeSet<&str> = wanted.iter().map(|(watched, _)| watched.domain.as_str()).collect();
        for domain in domains {
            let own = |watched: &Watched| watched.domain == domain;
            let itself = domain.parse::<DomainName>().ok();
            // Where names below are meant, patterns that have more labels may mean them, too.
            let below = wanted.iter().any(|(watched, _)| own(watched) && watched.below);
            let means = |watched: &Watched| {
                let lies_in =
                    domain.strip_suffix(watched.domain.as_str()).is_some_and(|front| front.ends_with('.'));
                watched.below
                    && lies_in
                    && (below || itself.as_ref().is_some_and(|name| watched.pattern.matches(name)))
            };
            let here = |watched: &Watched| own(watched) || means(watched);
            let places: BTreeSet<usize> =
                wanted.iter().filter(|(watched, _)| here(watched)).map(|(_, place)| *place).collect();
            let sets = places.iter().filter_map(|&place| self.sets.named.get(place)).flat_map(|set| {
                set.used
                    .iter()
                    .map(|&family| format!("{}#inet#{TABLE}#{}", digit(family), set_name(&set.stem, family)))
            });
            let line = format!("{FOR_DNSMASQ}/{domain}/{}", sets.collect::<Vec<_>>().join(","));
            if line.len() > DNSMASQ_BYTES {
                return Err(format!(
                    "{domain}: its line for dnsmasq would name {} sets in {} bytes, and dnsmasq reads 1024: guard fewer machines at once \
                     (--role), or name it in fewer rules together with other names",
                    places.len(),
                    line.len()
                ));
            }
            lines.push(line);
        }
        Ok(lines)
    }
}

/// The names that stand in many lists of names.
fn crowded(permits: &[Permit<'_>]) -> HashSet<DomainPattern> {
    let ways = permits.iter().flat_map(|permit| &permit.ways);
    let lists: HashSet<&[DomainPattern]> = ways
        .filter_map(|way| match way {
            Side::Names(named) => Some(named.patterns.as_slice()),
            _ => None,
        })
        .collect();
    let mut times: HashMap<&DomainPattern, usize> = HashMap::new();
    for name in lists.into_iter().flatten() {
        *times.entry(name).or_default() += 1;
    }
    let many = times.into_iter().filter(|(_, times)| *times > MOST_LISTS);
    many.map(|(name, _)| name.clone()).collect()
}

/// The sets that rules speak of, in the order in which they first did.
#[derive(Default)]
struct Sets {
    stems: Distinct,
    fixed: Vec<FixedSet>,
    named: Vec<NamedSet>,
}

/// Addresses that are known.
struct FixedSet {
    label: String,
    stem: String,
    nets: Vec<IpNet>,
    used: BTreeSet<Family>,
}

/// Addresses that a resolver puts in.
struct NamedSet {
    patterns: Vec<DomainPattern>,
    stem: String,
    used: BTreeSet<Family>,
}

impl Sets {
    /// The name of a set of these addresses; none where there is none of the version.
    fn fixed(&mut self, label: &str, nets: &[IpNet], family: Family) -> Option<String> {
        if family.of(nets).is_empty() {
            return None;
        }
        let known = self.fixed.iter().position(|set| set.label == label && set.nets == nets);
        let place = known.unwrap_or_else(|| {
            let stem = stem(&mut self.stems, label);
            self.fixed.push(FixedSet {
                label: label.to_owned(),
                stem,
                nets: nets.to_vec(),
                used: BTreeSet::new(),
            });
            self.fixed.len() - 1
        });
        let set = self.fixed.get_mut(place)?;
        set.used.insert(family);
        Some(set_name(&set.stem, family))
    }

    /// The name of the set for these names.
    fn named(&mut self, named: &Named, family: Family) -> String {
        let known = self.named.iter_mut().find(|set| set.patterns == named.patterns);
        if let Some(set) = known {
            set.used.insert(family);
            return set_name(&set.stem, family);
        }
        let stem = stem(&mut self.stems, &format!("names_{}", named.label));
        let name = set_name(&stem, family);
        self.named.push(NamedSet { patterns: named.patterns.clone(), stem, used: BTreeSet::from([family]) });
        name
    }

    /// The sets that are to be read: all but those of service tags, which are long.
    fn write(&self, out: &mut String) {
        for set in self.fixed.iter().filter(|set| !set.is_tag()) {
            set.write(out);
        }
        for set in &self.named {
            let patterns: Vec<String> = set.patterns.iter().map(ToString::to_string).collect();
            note(out, "    # ", &patterns.join(", "));
            for &family in &set.used {
                let (name, kind) = (set_name(&set.stem, family), kind(family));
                let _ = writeln!(out, "    set {name} {{ type {kind}; flags timeout; }}");
            }
        }
        out.push('\n');
    }
}

impl FixedSet {
    fn is_tag(&self) -> bool {
        self.label.starts_with(TAG)
    }

    fn write(&self, out: &mut String) {
        match self.label.as_str() {
            OWN => note(out, "    # ", "Addresses of one's own: the vendor's names do not count there."),
            ANY_ROLE => note(out, "    # ", "Machines that hold a role: names do not count there."),
            GUARDED => note(out, "    # ", "All machines that are guarded."),
            _ => {}
        }
        for &family in &self.used {
            let nets: Vec<String> = family.of(&self.nets).iter().map(shown_prefix).collect();
            let (name, kind) = (set_name(&self.stem, family), kind(family));
            let _ = write!(out, "    set {name} {{ type {kind}; flags interval; auto-merge; elements = {{");
            if let [one] = &nets[..] {
                let _ = writeln!(out, " {one} }}; }}");
                continue;
            }
            let mut column = COLUMNS;
            for net in nets {
                if column + net.len() + 2 > COLUMNS {
                    out.push_str("\n       ");
                    column = 7;
                }
                let _ = write!(out, " {net},");
                column += net.len() + 2;
            }
            out.push_str("\n    }; }\n");
        }
    }
}

/// The beginning of a set's name: what may stand there, as much as fits before the version.
fn stem(taken: &mut Distinct, label: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let text: String = label.chars().map(plain).collect();
    taken.name(&text, SET_NAME_BYTES - 2)
}

fn set_name(stem: &str, family: Family) -> String {
    format!("{stem}_{}", digit(family))
}

fn digit(family: Family) -> char {
    match family {
        Family::V4 => '4',
        Family::V6 => '6',
    }
}

fn keyword(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

fn kind(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4_addr",
        Family::V6 => "ipv6_addr",
    }
}

/// What tells the transport and its ports; none where that version of IP does not carry it.
fn carried(transport: Transport, ports: Option<&[RangeInclusive<u16>]>, family: Family) -> Option<String> {
    let protocol = match (transport, family) {
        (Transport::Icmp, Family::V6) | (Transport::Icmp6, Family::V4) => return None,
        (Transport::Icmp6, Family::V6) => "ipv6-icmp".to_owned(),
        _ => transport.to_string(),
    };
    let Some(ports) = ports.filter(|_| transport.has_ports()) else {
        return Some(format!("meta l4proto {protocol}"));
    };
    let ranges = ports.iter().map(|range| match range.start() == range.end() {
        true => range.start().to_string(),
        false => format!("{}-{}", range.start(), range.end()),
    });
    let ranges: Vec<String> = ranges.collect();
    Some(match &ranges[..] {
        [one] => format!("{protocol} dport {one}"),
        many => format!("{protocol} dport {{ {} }}", many.join(", ")),
    })
}

/// A rule that lets by.
fn accept(tests: &str, comment: &str) -> String {
    broken(&format!("{tests} counter accept"), &commented(comment))
}

/// A rule of a chain, on two lines where it has to be.
fn broken(rule: &str, comment: &str) -> String {
    let one = format!("        {rule} {comment}\n");
    if one.chars().count() <= COLUMNS { one } else { format!("        {rule} \\\n            {comment}\n") }
}

/// The comment of a rule. nft knows no escapes in it: a quotation mark would end it.
fn commented(text: &str) -> String {
    format!("comment \"{}\"", cut(&shown(text).replace('"', "'"), COMMENT_BYTES))
}

/// One of several comments for the reader.
fn item(out: &mut String, text: &str) {
    let begin = out.len();
    note(out, "#   ", text);
    out.replace_range(begin..begin + 4, "# - ");
}

/// A comment for the reader, wrapped; each line begins with `before`.
fn note(out: &mut String, before: &str, text: &str) {
    let mut line = before.to_owned();
    for word in shown(text).split_whitespace() {
        let gap = usize::from(line.len() > before.len());
        if gap > 0 && line.chars().count() + gap + word.chars().count() > COLUMNS {
            let _ = writeln!(out, "{line}");
            line.truncate(before.len());
        } else if gap > 0 {
            line.push(' ');
        }
        line.push_str(word);
    }
    let _ = writeln!(out, "{line}");
}
