//! Is this flow documented? SEMANTICS section 4, one flow at a time.

use super::circumstances::{Circumstances, Evidence, Surveyor, Telling};
use super::exceptions::exception;
use super::fit::{Destination, Fits, Ready, naming};
use super::index::RuleIndex;
use super::matches::{Class, Matches, NamedAccount};
use super::ports::{Carriers, Ports, PortsAlike};
use super::row::{Differs, Nearest};
use crate::audit::{Grade, Missing, Verdict};
use crate::flow::{ConnectTarget, Flow};
use crate::matrix::{
    BaselineClass, BaselineLine, BaselinePeer, DestinationHere, Direction, HTTP_PROXY_ROLE, Matrix, RoleSet,
    RuleState, Site,
};
use crate::model::{AppProtocol, DomainName, Transport};
use crate::names::{About, Ledger, app};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;

/// Ports whose lines of the baseline are remembered: beyond, all are forgotten and found again. Ports come from captures.
const MOST_PORTS: usize = 1 << 12;

/// What else there is to say about a flow than its verdict. Each becomes a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Issue {
    /// The first payload bytes are not those of the protocol that the rule names.
    ProtocolMismatch {
        /// What the rules expect.
        expected: AppProtocol,
        /// What was seen; none where nothing known was.
        seen: Option<AppProtocol>,
    },
    /// The evidence for the destination's name contradicts itself.
    NameConflict {
        /// In words.
        why: String,
    },
    /// Only an unsolicited answer gave the address.
    UnsolicitedAnswer,
    /// Another storage account's name.
    ForeignAccount {
        /// The account.
        account: String,
    },
}

/// The verdict of all flows of the same circumstances, and what it rests on.
#[derive(Clone, Debug)]
pub(super) struct Ruling {
    /// Roles of the initiator.
    pub from_roles: RoleSet,
    /// Roles of the responder.
    pub to_roles: RoleSet,
    /// Whether an audited machine takes part.
    pub is_audited: bool,
    /// How well the destination is identified; none where it is not.
    pub grade: Option<Grade>,
    /// Whether the matrix documents it.
    pub verdict: Verdict,
    /// The ids of the rules (or the baseline line) that fit.
    pub rules: Vec<String>,
    /// The places of the rules that document it, in the order of the packs.
    pub documented_by: Vec<usize>,
    /// What is missing, where undetermined.
    pub missing: Option<Missing>,
    /// The closest rule, where undocumented.
    pub nearest: Option<Nearest>,
    /// What else there is to say.
    pub issues: Vec<Issue>,
    /// Whether a documented flow rests on a condition that nobody set.
    pub by_default: bool,
    /// Whether it rests on names that the page does not give.
    pub supplied: bool,
    /// What the client asked a proxy that the site lists to connect it to: it stands for the destination.
    pub target: Option<Box<ConnectTarget>>,
    /// The rules that would fit if what is missing were known.
    pub possible: Vec<String>,
}

/// The verdicts of a flow that asked its proxy for several destinations on one connection.
pub(super) struct Several<'a> {
    /// What is said of the flow as one: what is worst about one of them.
    pub ruling: Ruling,
    /// What that rests on, with the names of all.
    pub evidence: Evidence<'a>,
    /// Each of them, in the order in which they were asked for, the refused one first.
    pub each: Vec<(Ruling, Evidence<'a>)>,
}

/// Judges flows: everything that does not change from one to the next.
pub(super) struct Classifier<'a> {
    pub(super) matrix: &'a Matrix,
    pub(super) site: &'a Site,
    pub(super) surveyor: Surveyor<'a>,
    pub(super) index: RuleIndex<'a>,
    pub(super) matches: Matches<'a>,
    lines: BaselineIndex,
    ports: RefCell<Ports>,
}

impl<'a> Classifier<'a> {
    /// For these rules, this site, this evidence.
    pub(super) fn new(matrix: &'a Matrix, site: &'a Site, ledger: &'a Ledger) -> Self {
        let surveyor = Surveyor::new(matrix, site, ledger, matrix.role(HTTP_PROXY_ROLE));
        let index = RuleIndex::new(matrix, site);
        let matches = Matches::new(&index, matrix, site);
        let (lines, ports) = (BaselineIndex::default(), RefCell::default());
        Classifier { matrix, site, surveyor, index, matches, lines, ports }
    }

    /// What a port is to the rules and to the baseline: a verdict knows no more of it.
    pub(super) fn alike(&self, transport: Transport, port: u16) -> PortsAlike {
        self.ports.borrow_mut().alike(transport, port, || {
            let rules = self.rules().iter().filter(|ready| ready.rule.carries(transport, port));
            Carriers {
                rules: rules.map(|ready| ready.order).collect(),
                lines: BaselineIndex::carrying(self.matrix, self.site, transport, port).collect(),
            }
        })
    }

    /// The rules, with what they mean at this site, in the order of the packs.
    pub(super) fn rules(&self) -> &[Ready<'a>] {
        self.index.all()
    }

    /// The ids of the rules of these roles that give this name.
    pub(super) fn rules_naming(&self, from: RoleSet, name: &DomainName) -> Vec<String> {
        naming(self, from, name).iter().map(|ready| ready.rule.id.to_string()).collect()
    }

    /// The page's name for a rule's destination.
    pub(super) fn rule_title<'m>(&'m self, rule: &'m str) -> &'m str {
        self.matrix.rule(rule).map_or(rule, |rule| &rule.to_title)
    }

    /// Whether an audited machine is among these roles.
    pub(super) fn is_subject(&self, roles: RoleSet) -> bool {
        roles.meets(self.site.subjects())
    }

    /// The verdicts of a flow that asked a proxy for several destinations on one connection. None where it did not.
    pub(super) fn rule_on_several(
        &self,
        flow: &Flow<'_>,
        host: IpAddr,
        around: &Circumstances,
        about: Option<About<'a>>,
    ) -> Option<Several<'a>> {
        if flow.further_targets().next().is_none() || !self.surveyor.is_proxy(self.site.roles_of(flow.to.ip))
        {
            return None;
        }
        let each: Vec<(Ruling, Evidence<'a>)> = flow
            .proxy_target()
            .into_iter()
            .chain(flow.further_targets())
            .map(|target| {
                let evidence = self.surveyor.evidence(&flow.of_target(target), host, Some(target), about);
                (self.rule_on(around, &evidence), evidence)
            })
            .collect();
        // What the site accepts of one is no word on the others.
        let is_accepted = |one: &Ruling, evidence: &Evidence<'_>| {
            exception(self.site, flow, one.target.as_deref(), evidence).is_some_and(|of| !of.expired)
        };
        let badness = |(one, evidence): &&(Ruling, Evidence<'_>)| match one.verdict {
            Verdict::Undocumented if is_accepted(one, evidence) => 2,
            Verdict::Undocumented => 0,
            Verdict::Undetermined => 1,
            Verdict::Documented | Verdict::Platform | Verdict::OutOfScope => 3,
        };
        let (mut worst, mut evidence) = each.iter().min_by_key(badness).cloned()?;
        // Which rules are exercised is counted of each.
        worst.documented_by.clear();
        let mut names = evidence.names(None);
        let own = names.len();
        for (one, of_one) in &each {
            worst.by_default |= one.by_default;
            worst.supplied |= one.supplied;
            add_new(&mut names, of_one.names(None));
            if worst.verdict == one.verdict {
                add_new(&mut worst.rules, one.rules.clone());
            }
        }
        let further = names.split_off(own);
        if !further.is_empty() {
            evidence.rare.get_or_insert_default().further_names = further;
        }
        Some(Several { ruling: worst, evidence, each })
    }

    /// The verdict of all flows of these circumstances.
    pub(super) fn rule_on(&self, around: &Circumstances, evidence: &Evidence<'_>) -> Ruling {
        let (from_roles, to_roles) = (self.surveyor.roles(around.from), self.site.roles_of(around.to));
        // As by an address, an audited machine takes part where a name that the site gives for one leads there.
        let named = || evidence.readings.iter().any(|reading| self.matches.of(reading).of_subject);
        let subject = self.is_subject(from_roles.union(to_roles)) || named();
        let mut ruling = Ruling {
            from_roles,
            to_roles,
            is_audited: subject,
            grade: None,
            verdict: Verdict::OutOfScope,
            rules: Vec::new(),
            documented_by: Vec::new(),
            missing: None,
            nearest: None,
            issues: Vec::new(),
            by_default: false,
            supplied: false,
            target: evidence.target().cloned().map(Box::new),
            possible: Vec::new(),
        };
        if self.surveyor.is_loopback(around.from) || around.to.is_loopback() {
            return ruling;
        }
        let dest = self.destination(around, to_roles, evidence);
        let fits = Fits::new(self, around.proto, from_roles, &dest);
        let documented = self.documented(&fits, &dest, evidence);
        ruling.grade = grade(self, evidence, to_roles, &documented);
        let mut verdict = documented.verdict;
        let mut missing = documented.missing;
        // To a proxy, and what was asked of it is not in the captures: only that would tell.
        if verdict == Verdict::Undocumented
            && self.surveyor.is_proxy(to_roles)
            && !evidence.proxied()
            && around.telling == Telling::Nothing
        {
            (verdict, missing) = (Verdict::Undetermined, Some(Missing::Name));
        }

        if let Some(why) = self.conflict(around, to_roles, evidence, &fits, &documented) {
            ruling.issues.push(Issue::NameConflict { why });
            if verdict != Verdict::Undocumented {
                verdict = Verdict::Undetermined;
                missing = Some(Missing::Conflict);
            }
        }
        if evidence.unsolicited {
            ruling.issues.push(Issue::UnsolicitedAnswer);
        }
        if verdict == Verdict::Documented {
            match self.account(&documented, evidence) {
                Account::Own => {}
                Account::Foreign(account) => {
                    ruling.issues.push(Issue::ForeignAccount { account });
                    (verdict, missing) = (Verdict::Undetermined, Some(Missing::Account));
                }
                Account::Mixed => (verdict, missing) = (Verdict::Undetermined, Some(Missing::Ambiguous)),
            }
        }
        if verdict == Verdict::Documented {
            ruling.rules = documented.rules.iter().map(|ready| ready.rule.id.to_string()).collect();
            ruling.documented_by = documented.rules.iter().map(|ready| ready.order).collect();
            ruling.by_default =
                documented.rules.iter().all(|ready| matches!(ready.here.state, RuleState::AppliesUnset(_)));
            ruling.supplied = documented.rules.iter().all(|ready| ready.rule.supplied_names);
            ruling.issues.extend(mismatch(around, &documented.rules, evidence));
        } else if let Some(line) = self.platform(around, evidence) {
            verdict = Verdict::Platform;
            missing = None;
            ruling.rules = vec![line];
        } else if !subject {
            verdict = Verdict::OutOfScope;
            missing = None;
            ruling.issues.clear();
        } else if verdict == Verdict::Undocumented {
            ruling.nearest = self.nearest(around, to_roles, &dest, evidence, &fits);
        } else {
            ruling.possible = documented.rules.iter().map(|ready| ready.rule.id.to_string()).collect();
        }
        ruling.verdict = verdict;
        ruling.missing = missing;
        ruling
    }

    /// Where a flow goes: its responder, or what the client asked its proxy for.
    fn destination(&self, around: &Circumstances, to_roles: RoleSet, evidence: &Evidence<'_>) -> Destination {
        match evidence.target() {
            Some(target) => Destination {
                ip: target.ip,
                port: target.port,
                roles: target.ip.map(|ip| self.site.roles_of(ip)).unwrap_or_default(),
                proxied: true,
            },
            None => Destination { ip: Some(around.to), port: around.port, roles: to_roles, proxied: false },
        }
    }

    fn documented(&self, fits: &Fits<'_, 'a>, dest: &Destination, evidence: &Evidence<'_>) -> Documented<'a> {
        let by_address = fits.by_address(dest.ip);
        let mut rules: Vec<Ready<'a>> = by_address.iter().map(|(ready, _)| *ready).collect();
        let mut grades: Vec<Grade> = by_address.iter().map(|(_, grade)| *grade).collect();
        if !rules.is_empty() {
            // What names say besides: a rule by name that every reading fits is exercised, too.
            let by_name = fits.by_every_reading(&evidence.readings);
            for ready in
                by_name.iter().filter(|ready| by_address.iter().all(|(have, _)| have.order != ready.order))
            {
                rules.push(*ready);
                grades.push(Grade::Dns);
            }
            rules.sort_by_key(|ready| ready.order);
            return Documented {
                verdict: Verdict::Documented,
                missing: None,
                rules,
                grades,
                by_address: true,
            };
        }
        let mut none = Documented {
            verdict: Verdict::Undocumented,
            missing: None,
            rules: Vec::new(),
            grades: Vec::new(),
            by_address: false,
        };
        if evidence.readings.is_empty() {
            none.rules = fits.if_named(dest.ip);
            if !none.rules.is_empty() {
                none.verdict = Verdict::Undetermined;
                none.missing = Some(Missing::Name);
                return none;
            }
        }
        let elsewhere = fits.region_unknown(dest.ip);
        if !elsewhere.is_empty() {
            (none.verdict, none.missing, none.rules) =
                (Verdict::Undetermined, Some(Missing::Ambiguous), elsewhere);
            return none;
        }
        if evidence.readings.is_empty() {
            return none;
        }
        let (union, fitting) = fits.by_readings(&evidence.readings);
        none.rules = union;
        if fitting == evidence.readings.len() {
            none.verdict = Verdict::Documented;
            none.grades = vec![Grade::Dns];
        } else if fitting > 0 {
            none.verdict = Verdict::Undetermined;
            none.missing = Some(Missing::Ambiguous);
        } else {
            none.rules = fits.tag_unknown(dest.ip, &evidence.readings);
            if none.rules.is_empty() && evidence.has_nameless() {
                // Whether one fits that is not told one by one, nobody knows.
                none.rules = fits.if_named(dest.ip);
            }
            if !none.rules.is_empty() {
                (none.verdict, none.missing) = (Verdict::Undetermined, Some(Missing::Ambiguous));
            }
        }
        none
    }

    /// SEMANTICS section 3, `name-conflict`, in words.
    fn conflict(
        &self,
        around: &Circumstances,
        to_roles: RoleSet,
        evidence: &Evidence<'_>,
        fits: &Fits<'_, 'a>,
        documented: &Documented<'_>,
    ) -> Option<String> {
        if self.surveyor.is_proxy(to_roles) {
            return None;
        }
        let ip = around.to;
        // (a) spoofed or contested: more answers than questions, and they differ.
        if Ledger::contested(&evidence.readings) {
            let name = evidence.readings.first().and_then(|reading| reading.names.first());
            let name = name.map(ToString::to_string).unwrap_or_default();
            return Some(format!(
                "the query for {name} got more answers than it was sent, with different addresses"
            ));
        }
        // (c) named by an untrusted resolver only.
        if let Some((resolver, name)) = evidence.untrusted() {
            let name = name.as_ref().map(ToString::to_string).unwrap_or_default();
            return Some(format!(
                "only {resolver}, which the site does not list as a resolver, gives it as {name}"
            ));
        }
        // (d) a name of the pack at an address of one's own.
        if let Some(name) = evidence.readings.iter().find_map(|reading| {
            let own = self.is_own_space(ip) || !to_roles.is_empty();
            own.then(|| fits.pack_name_at_own_address(&reading.names, ip)).flatten()
        }) {
            return Some(format!(
                "{name} is the vendor's name, but {ip} is an address of one's own, and no [mirrors] entry says so"
            ));
        }
        // (b) the client names a documented server at an address that was never given for it.
        if let Some(name) = &evidence.written
            && evidence.elsewhere
            && !documented.by_address
            && !naming(self, self.surveyor.roles(around.from), name).is_empty()
        {
            return Some(format!(
                "the client asks for {name}, but DNS gave this host other addresses for it"
            ));
        }
        None
    }

    /// Virtual network, private, loopback, link-local or unspecified: an address that no vendor's public service has.
    pub(super) fn is_own_space(&self, ip: IpAddr) -> bool {
        self.site.in_virtual_network(ip) || is_private(ip)
    }

    /// Whether a ruling may rest on the very names of the chains, and not only on which patterns they fit: it does where
    /// they are contested, or stand for an address of one's own.
    pub(super) fn rests_on_names(evidence: &Evidence<'_>, address_is_ours: bool) -> bool {
        address_is_ours || evidence.proxied() || Ledger::contested(&evidence.readings)
    }

    /// Whether an address is one of one's own, for [`Classifier::rests_on_names`].
    pub(super) fn is_ours(&self, ip: IpAddr) -> bool {
        self.is_own_space(ip) || self.site.is_mirror(ip) || !self.site.roles_of(ip).is_empty()
    }

    /// Whose storage account it is, where only rules for accounts document the flow and the site lists its own.
    fn account(&self, documented: &Documented<'_>, evidence: &Evidence<'_>) -> Account {
        let listed = !self.site.storage_accounts().is_empty();
        if !listed || documented.rules.iter().any(|ready| !ready.is_for_accounts()) {
            return Account::Own;
        }
        let of_name = |name: &DomainName| Rc::new(self.matches.classify(std::slice::from_ref(name)));
        let chains: Vec<Rc<Class>> = if evidence.readings.is_empty() {
            evidence.written.iter().map(of_name).collect()
        } else {
            evidence.readings.iter().map(|reading| self.matches.of(reading)).collect()
        };
        let foreign_in = |chain: &Class| {
            if chain.of_platform {
                return None;
            }
            match documented.rules.iter().find_map(|ready| chain.account(ready.place))? {
                NamedAccount::Own => None,
                NamedAccount::Foreign(account) => Some(account.clone()),
            }
        };
        // One address serves many accounts: that DNS gave it for the site's own does not speak for another one that the
        // client itself names.
        if let Some(name) = evidence.written.as_ref().or(evidence.inner())
            && !evidence.corroborated
            && let Some(account) = foreign_in(&of_name(name))
        {
            return Account::Foreign(account);
        }
        let foreign: Vec<Option<String>> = chains.iter().map(|chain| foreign_in(chain)).collect();
        match foreign.iter().flatten().next() {
            // Further chains, too many to keep: they may hold anyone's account.
            None if chains.iter().any(|chain| chain.is_empty) => Account::Mixed,
            None => Account::Own,
            Some(account) if foreign.iter().all(Option::is_some) => Account::Foreign(account.clone()),
            Some(_) => Account::Mixed,
        }
    }

    /// The baseline line of class `platform` that fits.
    fn platform(&self, around: &Circumstances, evidence: &Evidence<'_>) -> Option<String> {
        self.baseline(around, evidence, |class| class == BaselineClass::Platform)
    }

    /// The first baseline line of a class that fits: by address, or by name if every reading fits.
    fn baseline(
        &self,
        around: &Circumstances,
        evidence: &Evidence<'_>,
        wanted: impl Fn(BaselineClass) -> bool,
    ) -> Option<String> {
        if evidence.proxied() {
            return None;
        }
        // Anybody may register a name that a wildcard fits: it is the platform's only at an address of the service.
        let storage = self.matrix.tags().find(self.site.cloud(), "Storage");
        let at_storage = storage.is_some_and(|tag| self.matrix.tags().contains(tag, around.to));
        let exactly = |line: &BaselineLine| line.class == BaselineClass::Platform && !at_storage;
        let named = |place: usize, line: &BaselineLine, chain: &Class| chain.fits_line(place, exactly(line));
        // Time servers may be listed by name: the only peers that names make a difference to.
        let serves_time = |line: &BaselineLine, chain: &Class| {
            let asks = |peer: &BaselinePeer| matches!(peer, BaselinePeer::SiteTimeServers);
            chain.serves_time && line.peers.iter().any(asks)
        };
        let by_names = !evidence.readings.is_empty() && !Ledger::contested(&evidence.readings);
        let lines = self.lines.of(self.matrix, self.site, around.proto, around.port);
        lines.iter().find_map(|&Carried { place, comes_in, goes_out }| {
            let line = self.matrix.baseline().get(place)?;
            let fits = wanted(line.class)
                && (comes_in && self.surveyor.is_peer(around.from, line)
                    || goes_out
                        && (line.peers.iter().any(|peer| peer.fits(self.site, around.to, &[]))
                            || by_names
                                && evidence.readings.iter().all(|reading| {
                                    let chain = self.matches.of(reading);
                                    named(place, line, &chain) || serves_time(line, &chain)
                                })));
            fits.then(|| line.id.clone())
        })
    }

    /// The closest rule, and what keeps it from fitting.
    fn nearest(
        &self,
        around: &Circumstances,
        to_roles: RoleSet,
        dest: &Destination,
        evidence: &Evidence<'_>,
        fits: &Fits<'_, 'a>,
    ) -> Option<Nearest> {
        let from_roles = self.surveyor.roles(around.from);
        let near = |ready: &Ready<'_>, differs| Some(Nearest { rule: ready.rule.id.to_string(), differs });
        // Found once for each destination.
        let known: RefCell<HashMap<usize, bool, RandomState>> = RefCell::default();
        let reaches = |ready: &Ready<'_>| {
            let find = || fits.destination_fits(ready, dest, &evidence.readings);
            *known.borrow_mut().entry(ready.place).or_insert_with(find)
        };
        let port_fits = |ready: &Ready<'_>| ready.rule.carries(around.proto, dest.port);
        let on = |ready: &Ready<'_>| ready.here.state.applies();
        let is_page = |ready: &Ready<'_>| !ready.rule.is_alias();
        let of_role = self.index.of(from_roles);
        let alias_off = |ready: &Ready<'_>| ready.here.state == RuleState::AliasOff;
        if let Some(ready) = of_role.first(reaches, |r| alias_off(r) && port_fits(r)) {
            return near(ready, Differs::Alias);
        }
        let off = |ready: &Ready<'_>| matches!(ready.here.state, RuleState::Off { .. });
        if let Some(ready) = of_role.first(reaches, |r| off(r) && is_page(r) && port_fits(r)) {
            return near(ready, Differs::Condition);
        }
        if let Some(ready) = of_role.first(reaches, |r| on(r) && is_page(r) && !port_fits(r)) {
            return near(ready, Differs::Port);
        }
        // The same conversation the other way round.
        let back = |ready: &Ready<'_>| {
            let by_initiator = around.reversed_by == Some(ready.order as u32);
            ready.leads_to(from_roles) && (by_initiator || ready.rule.carries(around.proto, around.port))
        };
        if let Some(ready) = self.index.of(to_roles).first(|r| r.is_at(from_roles), back) {
            return near(ready, Differs::Direction);
        }
        for (class, differs) in [
            (BaselineClass::OsNoise, Differs::OsNoise),
            (BaselineClass::PlatformOrWorkload, Differs::PlatformOrWorkload),
        ] {
            if let Some(rule) = self.baseline(around, evidence, |line| line == class) {
                return Some(Nearest { rule, differs });
            }
        }
        let of_others = |ready: &Ready<'_>| !from_roles.contains(ready.here.from);
        let on_port = self.index.on(around.proto, dest.port);
        if let Some(ready) = on_port.first(reaches, |r| is_page(r) && of_others(r) && on(r)) {
            return near(ready, Differs::Role);
        }
        let covered = from_roles.union(to_roles);
        if let Some(page) = covered.iter().find_map(|role| self.matrix.role_def(role).also_covered_by.clone())
        {
            return Some(Nearest { rule: page, differs: Differs::Page });
        }
        if let Some(ready) = fits.rules().iter().find(|ready| is_page(ready)) {
            return near(ready, Differs::Name);
        }
        let noise = self.baseline(around, evidence, |line| line == BaselineClass::Noise)?;
        from_roles.is_empty().then_some(Nearest { rule: noise, differs: Differs::Noise })
    }
}

/// The lines of the baseline that carry a transport and port, found once for each.
#[derive(Default)]
struct BaselineIndex(RefCell<ByPort>);

type ByPort = HashMap<(Transport, u16), Rc<[Carried]>, RandomState>;

/// Where a line stands, and whether it speaks of what comes in, and of what goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Carried {
    place: usize,
    comes_in: bool,
    goes_out: bool,
}

impl BaselineIndex {
    fn of(&self, matrix: &Matrix, site: &Site, transport: Transport, port: u16) -> Rc<[Carried]> {
        let mut known = self.0.borrow_mut();
        if known.len() >= MOST_PORTS {
            known.clear();
        }
        let find = || BaselineIndex::carrying(matrix, site, transport, port).collect();
        let carried = known.entry((transport, port)).or_insert_with(find);
        Rc::clone(carried)
    }

    /// The lines that carry a port, found anew.
    fn carrying(
        matrix: &Matrix,
        site: &Site,
        transport: Transport,
        port: u16,
    ) -> impl Iterator<Item = Carried> {
        let carried = matrix.baseline().iter().enumerate().map(move |(place, line)| {
            let carries = |direction| line.carries(site, direction, transport, port);
            Carried { place, comes_in: carries(Direction::In), goes_out: carries(Direction::Out) }
        });
        carried.filter(|carried| carried.comes_in || carried.goes_out)
    }
}

fn add_new<T: PartialEq>(to: &mut Vec<T>, from: Vec<T>) {
    for one in from {
        if !to.contains(&one) {
            to.push(one);
        }
    }
}

/// The application that the first bytes show, held against the rules.
fn mismatch(around: &Circumstances, rules: &[Ready<'_>], evidence: &Evidence<'_>) -> Option<Issue> {
    // Inside a tunnel only the ClientHello can be told; a request in absolute form is HTTP.
    let seen = match evidence.target() {
        Some(target) if target.tunnel && !evidence.announced => return None,
        Some(target) if target.tunnel => Some(AppProtocol::Tls),
        // The proxy was asked for an `https` address: the TLS is between it and the server.
        Some(target) if target.port == 443 => return None,
        _ => around.app,
    };
    if seen.is_none() && around.telling != Telling::Enough {
        return None;
    }
    let mut expected = None;
    for ready in rules {
        let wanted = ready.rule.app.as_ref()?.app;
        if seen.is_some_and(|seen| app::matches_rule(wanted, seen)) {
            return None;
        }
        expected.get_or_insert(wanted);
    }
    expected.map(|expected| Issue::ProtocolMismatch { expected, seen })
}

/// How well the destination is identified, whatever the verdict.
fn grade(
    judge: &Classifier<'_>,
    evidence: &Evidence<'_>,
    to_roles: RoleSet,
    documented: &Documented<'_>,
) -> Option<Grade> {
    if evidence.proxied() {
        return (!evidence.readings.is_empty()).then_some(Grade::Dns);
    }
    if !to_roles.is_empty() {
        return Some(Grade::Site);
    }
    let tagged = documented.grades.contains(&Grade::Tag);
    if !evidence.readings.is_empty() {
        // DNS and a tag agree where the chain holds a name that stands behind the tag.
        let agrees = |ready: &Ready<'_>| match &ready.here.to {
            DestinationHere::Tag { .. } => {
                evidence.readings.iter().any(|reading| judge.names_in(ready, reading))
            }
            _ => false,
        };
        let agree = tagged && documented.rules.iter().any(agrees);
        return Some(if evidence.corroborated || agree { Grade::Corroborated } else { Grade::Dns });
    }
    if tagged {
        return Some(Grade::Tag);
    }
    evidence.written.as_ref().map(|_| Grade::ServerName)
}

/// What rules say of a flow before conflicts, accounts and the platform.
struct Documented<'a> {
    verdict: Verdict,
    missing: Option<Missing>,
    /// The rules that fit; for undetermined flows those that would.
    rules: Vec<Ready<'a>>,
    grades: Vec<Grade>,
    by_address: bool,
}

enum Account {
    Own,
    Foreign(String),
    Mixed,
}

/// Private, loopback, link-local or unspecified space. Documentation and benchmarking ranges are ordinary public
/// addresses here (SEMANTICS section 3).
pub(super) fn is_private(ip: IpAddr) -> bool {
    match ip {
        // RFC 6890: all of 0.0.0.0/8 is no address to go to.
        IpAddr::V4(ip) => ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.octets()[0] == 0,
        IpAddr::V6(ip) => {
            ip.is_unique_local() || ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unspecified()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_space_is_what_no_packet_from_the_internet_comes_from() {
        for (text, expected) in [
            ("10.1.2.3", true),
            ("172.16.0.1", true),
            ("172.32.0.1", false),
            ("192.168.1.1", true),
            ("127.0.0.1", true),
            ("169.254.1.1", true),
            ("0.0.0.0", true),
            ("0.1.2.3", true),
            ("1.0.0.1", false),
            ("192.0.2.1", false),
            ("198.18.0.1", false),
            ("::", true),
            ("::1", true),
            ("::2", false),
            ("fe80::1", true),
            ("fec0::1", false),
            ("fd10::1", true),
            ("fe00::1", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(is_private(text.parse().unwrap()), expected, "{text}");
        }
    }
}
