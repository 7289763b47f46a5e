//! Is this flow documented? SEMANTICS section 4, one flow at a time.

use super::fit::{Destination, Fits, Ready, any_match, naming};
use super::row::{Differs, NameEvidence, NameEvidenceSource, Nearest, VerdictRow};
use crate::audit::{Grade, Missing, Verdict};
use crate::flow::FlowRecord;
use crate::matrix::{
    BaselineClass, BaselineLine, Contact, DestinationHere, Direction, HTTP_PROXY_ROLE, Matrix, RoleIdx,
    RoleSet, RuleState, Site,
};
use crate::model::{AppProtocol, DomainName};
use crate::names::{Ledger, Reading, app};
use std::net::IpAddr;

/// What else there is to say about a flow than its verdict. Each becomes a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Issue {
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

/// A flow with its verdict, and what it rests on.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The row.
    pub row: VerdictRow,
    /// What else there is to say.
    pub issues: Vec<Issue>,
    /// The frames in which its names were learnt.
    pub name_points: Vec<crate::model::FramePoint>,
    /// Whether a documented flow rests on a condition that nobody set.
    pub by_default: bool,
    /// Whether it rests on names that the page does not give.
    pub supplied: bool,
    /// Whether it goes through a proxy that the site lists, to what the client asked of it.
    pub proxied: bool,
    /// Whether a subject takes part.
    pub subject: bool,
    /// The rules that would fit if what is missing were known.
    pub possible: Vec<String>,
}

/// Judges flows: everything that does not change from one to the next.
pub struct Classifier<'a> {
    pub(super) matrix: &'a Matrix,
    pub(super) site: &'a Site,
    pub(super) ledger: &'a Ledger,
    rules: Vec<Ready<'a>>,
    proxy: Option<RoleIdx>,
}

/// What is known of where a flow goes.
struct Evidence {
    dest: Destination,
    readings: Vec<Reading>,
    /// The server name or HTTP host that the client wrote.
    written: Option<DomainName>,
    /// The server name inside a proxy's tunnel.
    inner: Option<DomainName>,
    corroborated: bool,
    proxied: bool,
}

impl<'a> Classifier<'a> {
    /// For these rules, this site, this evidence.
    pub fn new(matrix: &'a Matrix, site: &'a Site, ledger: &'a Ledger) -> Self {
        let rules = matrix
            .rules()
            .iter()
            .zip(site.rules())
            .enumerate()
            .map(|(order, (rule, here))| Ready { order, rule, here })
            .collect();
        Classifier { matrix, site, ledger, rules, proxy: matrix.role(HTTP_PROXY_ROLE) }
    }

    /// The rules, with what they mean at this site, in the order of the packs.
    pub(super) fn rules(&self) -> &[Ready<'a>] {
        &self.rules
    }

    /// The ids of the roles in a set, in the order of the packs.
    pub(super) fn role_words(&self, roles: RoleSet) -> Vec<String> {
        roles.iter().map(|role| self.matrix.role_def(role).id.to_string()).collect()
    }

    /// The ids of the rules of these roles that give this name.
    pub(super) fn rules_naming(&self, from: RoleSet, name: &DomainName) -> Vec<String> {
        naming(self, from, name).iter().map(|ready| ready.rule.id.to_string()).collect()
    }

    /// Whether an audited machine is among these roles.
    pub(super) fn is_subject(&self, roles: RoleSet) -> bool {
        roles.meets(self.site.subjects())
    }

    /// The verdict of one flow.
    pub fn classify(&self, mut flow: FlowRecord) -> Judged {
        let further = std::mem::take(&mut flow.further_targets);
        if further.is_empty() || !self.is_proxy(self.site.roles_of(flow.responder_ip)) {
            return self.classify_one(flow);
        }
        // Several destinations on one connection to a proxy: what is worst about one is said of the flow.
        let targets = flow.proxy_target.clone().into_iter().chain(further);
        let each = targets
            .map(|target| self.classify_one(FlowRecord { proxy_target: Some(target), ..flow.clone() }));
        let each: Vec<Judged> = each.collect();
        let badness = |one: &Judged| match one.row.verdict {
            Verdict::Undocumented => 0,
            Verdict::Undetermined => 1,
            Verdict::Documented | Verdict::Platform | Verdict::OutOfScope => 2,
        };
        let Some(mut worst) = each.iter().min_by_key(|one| badness(one)).cloned() else {
            return self.classify_one(flow);
        };
        for one in each {
            worst.by_default |= one.by_default;
            worst.supplied |= one.supplied;
            for name in one.row.names {
                if !worst.row.names.contains(&name) {
                    worst.row.names.push(name);
                }
            }
            for rule in one.row.rules {
                if worst.row.verdict == one.row.verdict && !worst.row.rules.contains(&rule) {
                    worst.row.rules.push(rule);
                }
            }
            for issue in one.issues {
                if !worst.issues.contains(&issue) {
                    worst.issues.push(issue);
                }
            }
        }
        worst
    }

    fn classify_one(&self, flow: FlowRecord) -> Judged {
        let from_roles = self.site.roles_of(flow.initiator_ip);
        let to_roles = self.site.roles_of(flow.responder_ip);
        let subject = self.is_subject(from_roles.union(to_roles));
        let evidence = self.evidence(&flow, to_roles);
        let mut judged = Judged {
            row: VerdictRow {
                initiator_roles: self.role_words(from_roles),
                responder_roles: self.role_words(to_roles),
                names: self.names_of(&flow, &evidence),
                grade: None,
                verdict: Verdict::OutOfScope,
                rules: Vec::new(),
                missing: None,
                nearest: None,
                findings: Vec::new(),
                flow,
            },
            issues: Vec::new(),
            name_points: evidence.readings.iter().map(|reading| reading.point).collect(),
            by_default: false,
            supplied: false,
            proxied: evidence.proxied,
            subject,
            possible: Vec::new(),
        };
        let flow = &judged.row.flow;
        if is_loopback(flow.initiator_ip) || is_loopback(flow.responder_ip) {
            return judged;
        }
        let fits = Fits::new(self, flow.proto, from_roles, &evidence.dest);
        let documented = self.documented(&fits, &evidence);
        judged.row.grade = grade(&evidence, to_roles, &documented);
        let mut verdict = documented.verdict;
        let mut missing = documented.missing;
        // To a proxy, and what was asked of it is not in the captures: only that would tell.
        if verdict == Verdict::Undocumented
            && self.is_proxy(to_roles)
            && flow.proxy_target.is_none()
            && flow.telling_bytes == 0
        {
            (verdict, missing) = (Verdict::Undetermined, Some(Missing::Name));
        }

        let conflict = self.conflict(flow, from_roles, to_roles, &evidence, &fits, &documented);
        if let Some(why) = conflict {
            judged.issues.push(Issue::NameConflict { why });
            if verdict != Verdict::Undocumented {
                verdict = Verdict::Undetermined;
                missing = Some(Missing::Conflict);
            }
        }
        if !evidence.proxied
            && evidence.readings.is_empty()
            && self.ledger.only_unsolicited(self.site.host_of(flow.initiator_ip), flow.responder_ip).is_some()
        {
            judged.issues.push(Issue::UnsolicitedAnswer);
        }
        if verdict == Verdict::Documented {
            match self.account(&documented, &evidence) {
                Account::Own => {}
                Account::Foreign(account) => {
                    judged.issues.push(Issue::ForeignAccount { account });
                    (verdict, missing) = (Verdict::Undetermined, Some(Missing::Account));
                }
                Account::Mixed => (verdict, missing) = (Verdict::Undetermined, Some(Missing::Ambiguous)),
            }
        }
        if verdict == Verdict::Documented {
            judged.row.rules = documented.rules.iter().map(|ready| ready.rule.id.to_string()).collect();
            judged.by_default =
                documented.rules.iter().all(|ready| matches!(ready.here.state, RuleState::AppliesUnset(_)));
            judged.supplied = documented.rules.iter().all(|ready| ready.rule.supplied_names);
            judged.issues.extend(self.mismatch(&judged.row.flow, &documented.rules, evidence.proxied));
        } else if let Some(line) = self.platform(&judged.row.flow, &evidence) {
            verdict = Verdict::Platform;
            missing = None;
            judged.row.rules = vec![line];
        } else if !subject {
            verdict = Verdict::OutOfScope;
            missing = None;
            judged.issues.clear();
        } else if verdict == Verdict::Undocumented {
            judged.row.nearest = self.nearest(&judged.row.flow, from_roles, to_roles, &evidence, &fits);
        } else {
            judged.possible = documented.rules.iter().map(|ready| ready.rule.id.to_string()).collect();
        }
        judged.row.verdict = verdict;
        judged.row.missing = missing;
        judged
    }

    fn evidence(&self, flow: &FlowRecord, to_roles: RoleSet) -> Evidence {
        // A proxy may hold other roles, too: where it was asked for nothing, it is the destination.
        if self.is_proxy(to_roles)
            && let Some(target) = &flow.proxy_target
        {
            let dest = Destination {
                ip: target.ip,
                port: target.port,
                roles: target.ip.map(|ip| self.site.roles_of(ip)).unwrap_or_default(),
                proxied: true,
            };
            let reading = target.name.clone().map(|name| Reading {
                names: vec![name],
                point: flow.named_at.or(flow.begin).unwrap_or_default(),
                expired: false,
                late: false,
                contested: false,
                salvaged: false,
            });
            let readings = reading.into_iter().collect();
            // What the client names inside its tunnel may be another account than the one it asked the proxy for.
            let inner = flow.server_name.clone().filter(|_| target.tunnel);
            return Evidence { dest, readings, written: None, inner, corroborated: false, proxied: true };
        }
        let dest = Destination {
            ip: Some(flow.responder_ip),
            port: flow.responder_port,
            roles: to_roles,
            proxied: false,
        };
        let host = self.site.host_of(flow.initiator_ip);
        let mut readings = self.ledger.readings(host, flow.responder_ip, flow.first_ts);
        let written = flow
            .server_name
            .clone()
            .or_else(|| flow.http_host.as_ref().and_then(|host| host.parse::<DomainName>().ok()))
            .filter(|name| name.as_str().parse::<IpAddr>().is_err());
        let mut corroborated = false;
        if let Some(name) = &written
            && readings.iter().any(|reading| reading.names.contains(name))
        {
            readings.retain(|reading| reading.names.contains(name));
            corroborated = true;
        }
        Evidence { dest, readings, written, inner: None, corroborated, proxied: false }
    }

    fn names_of(&self, flow: &FlowRecord, evidence: &Evidence) -> Vec<NameEvidence> {
        let mut names: Vec<NameEvidence> = evidence
            .readings
            .iter()
            .filter_map(|reading| {
                Some(NameEvidence {
                    name: reading.names.first()?.clone(),
                    chain: reading.names.clone(),
                    source: if evidence.proxied {
                        NameEvidenceSource::Proxy
                    } else {
                        NameEvidenceSource::Dns
                    },
                    age_ns: (!evidence.proxied).then(|| flow.first_ts.since(reading.point.time)),
                    scope: if evidence.proxied { "flow" } else { "host" }.to_owned(),
                    expired: reading.expired,
                    late: reading.late,
                })
            })
            .collect();
        if let Some(name) = &evidence.written {
            let tls = flow.server_name.is_some();
            names.push(NameEvidence {
                name: name.clone(),
                chain: vec![name.clone()],
                source: if tls { NameEvidenceSource::Tls } else { NameEvidenceSource::Http },
                age_ns: None,
                scope: "flow".to_owned(),
                expired: false,
                late: false,
            });
        }
        names
    }

    fn documented(&self, fits: &Fits<'a>, evidence: &Evidence) -> Documented<'a> {
        let by_address = fits.by_address(evidence.dest.ip);
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
            none.rules = fits.if_named(evidence.dest.ip);
            if !none.rules.is_empty() {
                none.verdict = Verdict::Undetermined;
                none.missing = Some(Missing::Name);
                return none;
            }
        }
        let elsewhere = fits.region_unknown(evidence.dest.ip);
        if !elsewhere.is_empty() {
            (none.verdict, none.missing, none.rules) =
                (Verdict::Undetermined, Some(Missing::Ambiguous), elsewhere);
            return none;
        }
        if evidence.readings.is_empty() {
            return none;
        }
        let per_reading: Vec<Vec<Ready<'a>>> =
            evidence.readings.iter().map(|reading| fits.by_reading(&reading.names)).collect();
        let fitting = per_reading.iter().filter(|rules| !rules.is_empty()).count();
        let mut union: Vec<Ready<'a>> = per_reading.into_iter().flatten().collect();
        union.sort_by_key(|ready| ready.order);
        union.dedup_by_key(|ready| ready.order);
        none.rules = union;
        if fitting == evidence.readings.len() {
            none.verdict = Verdict::Documented;
            none.grades = vec![Grade::Dns];
        } else if fitting > 0 {
            none.verdict = Verdict::Undetermined;
            none.missing = Some(Missing::Ambiguous);
        }
        none
    }

    /// SEMANTICS section 3, `name-conflict`, in words.
    fn conflict(
        &self,
        flow: &FlowRecord,
        from_roles: RoleSet,
        to_roles: RoleSet,
        evidence: &Evidence,
        fits: &Fits<'a>,
        documented: &Documented<'_>,
    ) -> Option<String> {
        if self.is_proxy(to_roles) {
            return None;
        }
        let (host, ip) = (self.site.host_of(flow.initiator_ip), flow.responder_ip);
        // (a) spoofed or contested: more answers than questions, and they differ.
        if Ledger::contested(&evidence.readings) {
            let name = evidence.readings.first().and_then(|reading| reading.names.first());
            let name = name.map(ToString::to_string).unwrap_or_default();
            return Some(format!(
                "the query for {name} got more answers than it was sent, with different addresses"
            ));
        }
        // (c) named by an untrusted resolver only.
        if evidence.readings.is_empty()
            && let Some(answer) = self.ledger.untrusted(host, ip, flow.first_ts)
        {
            let name = answer.names.first().map(ToString::to_string).unwrap_or_default();
            let resolver = answer.resolver;
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
        let early = evidence.readings.iter().any(|reading| !reading.late && !reading.contested);
        if let Some(name) = &evidence.written
            && !early
            && !documented.by_address
            && !naming(self, from_roles, name).is_empty()
            && !self.ledger.ever_named(host, name, ip)
            && self.ledger.told_otherwise(host, name, ip, flow.first_ts)
        {
            return Some(format!(
                "the client asks for {name}, but DNS gave this host other addresses for it"
            ));
        }
        None
    }

    fn is_proxy(&self, roles: RoleSet) -> bool {
        self.proxy.is_some_and(|proxy| roles.contains(proxy))
    }

    /// Virtual network, private, loopback, link-local or unspecified: an address that no vendor's public service has.
    pub(super) fn is_own_space(&self, ip: IpAddr) -> bool {
        self.site.in_virtual_network(ip) || is_private(ip)
    }

    /// Whose storage account it is, where only rules for accounts document the flow and the site lists its own.
    fn account(&self, documented: &Documented<'_>, evidence: &Evidence) -> Account {
        let listed = !self.site.storage_accounts().is_empty();
        if !listed || documented.rules.iter().any(|ready| !ready.is_for_accounts()) {
            return Account::Own;
        }
        let written = evidence.written.iter().map(std::slice::from_ref);
        let chains: Vec<&[DomainName]> = if evidence.readings.is_empty() {
            written.collect()
        } else {
            evidence.readings.iter().map(|reading| &*reading.names).collect()
        };
        let foreign_in = |chain: &[DomainName]| {
            if chain.iter().any(|name| self.is_platform_storage_name(name)) {
                return None;
            }
            let account = documented.rules.iter().find_map(|ready| ready.account_in(chain))?;
            (self.site.owns_account(&account) == Some(false)).then_some(account)
        };
        // One address serves many accounts: that DNS gave it for the site's own does not speak for another one that the
        // client itself names.
        if let Some(name) = evidence.written.as_ref().or(evidence.inner.as_ref())
            && !evidence.corroborated
            && let Some(account) = foreign_in(std::slice::from_ref(name))
        {
            return Account::Foreign(account);
        }
        let foreign: Vec<Option<String>> = chains.iter().map(|chain| foreign_in(chain)).collect();
        match foreign.iter().flatten().next() {
            // Further chains, too many to keep: they may hold anyone's account.
            None if chains.iter().any(|chain| chain.is_empty()) => Account::Mixed,
            None => Account::Own,
            Some(account) if foreign.iter().all(Option::is_some) => Account::Foreign(account.clone()),
            Some(_) => Account::Mixed,
        }
    }

    fn is_platform_storage_name(&self, name: &DomainName) -> bool {
        self.matrix.baseline().iter().any(|line| {
            matches!(line.class, BaselineClass::Platform | BaselineClass::PlatformOrWorkload)
                && line.names.iter().any(|pattern| pattern.matches(name))
        })
    }

    /// The application that the first bytes show, held against the rules.
    fn mismatch(&self, flow: &FlowRecord, rules: &[Ready<'_>], proxied: bool) -> Option<Issue> {
        let seen = if proxied {
            // Inside a tunnel only the ClientHello can be told; a request in absolute form is HTTP.
            match (&flow.proxy_target, &flow.server_name) {
                (Some(target), None) if target.tunnel => return None,
                (Some(target), Some(_)) if target.tunnel => Some(AppProtocol::Tls),
                _ => flow.app,
            }
        } else {
            flow.app
        };
        if seen.is_none() && flow.telling_bytes < FlowRecord::TELLING_BYTES {
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

    /// The baseline line of class `platform` that fits.
    fn platform(&self, flow: &FlowRecord, evidence: &Evidence) -> Option<String> {
        self.baseline(flow, evidence, |class| class == BaselineClass::Platform)
    }

    /// The first baseline line of a class that fits: by address, or by name if every reading fits.
    fn baseline(
        &self,
        flow: &FlowRecord,
        evidence: &Evidence,
        wanted: impl Fn(BaselineClass) -> bool,
    ) -> Option<String> {
        if evidence.proxied {
            return None;
        }
        let contact = |direction, peer| Contact {
            direction,
            peer,
            transport: flow.proto,
            port: flow.responder_port,
            names: &[],
        };
        // Anybody may register a name that a wildcard fits: it is the platform's only at an address of the service.
        let storage = self.matrix.tags().find(self.site.cloud(), "Storage");
        let at_storage = storage.is_some_and(|tag| self.matrix.tags().contains(tag, flow.responder_ip));
        let owned = |line: &BaselineLine, name: &DomainName| {
            line.class != BaselineClass::Platform
                || at_storage
                || line.names.iter().any(|pattern| pattern.is_exact() && pattern.matches(name))
        };
        let fits = |line: &&BaselineLine| {
            line.fits(self.site, contact(Direction::In, flow.initiator_ip))
                || line.fits(self.site, contact(Direction::Out, flow.responder_ip))
                || (!evidence.readings.is_empty()
                    && !Ledger::contested(&evidence.readings)
                    && evidence.readings.iter().all(|reading| {
                        let names: Vec<&DomainName> =
                            reading.names.iter().filter(|name| owned(line, name)).collect();
                        line.fits(
                            self.site,
                            Contact { names: &names, ..contact(Direction::Out, flow.responder_ip) },
                        )
                    }))
        };
        let mut lines = self.matrix.baseline().iter().filter(|line| wanted(line.class));
        lines.find(fits).map(|line| line.id.clone())
    }

    /// The closest rule, and what keeps it from fitting.
    fn nearest(
        &self,
        flow: &FlowRecord,
        from_roles: RoleSet,
        to_roles: RoleSet,
        evidence: &Evidence,
        fits: &Fits<'a>,
    ) -> Option<Nearest> {
        let near = |ready: &Ready<'_>, differs| Some(Nearest { rule: ready.rule.id.to_string(), differs });
        let reaches = |ready: &Ready<'_>| fits.destination_fits(ready, &evidence.dest, &evidence.readings);
        let port_fits = |ready: &Ready<'_>| ready.rule.carries(flow.proto, evidence.dest.port);
        let from_fits = |ready: &Ready<'_>| from_roles.contains(ready.here.from);
        let on = |ready: &Ready<'_>| ready.here.state.applies();
        let page = || self.rules.iter().filter(|ready| !ready.rule.is_alias());
        let alias_off = |ready: &&Ready<'_>| ready.here.state == RuleState::AliasOff;
        if let Some(ready) =
            self.rules.iter().filter(alias_off).find(|r| from_fits(r) && port_fits(r) && reaches(r))
        {
            return near(ready, Differs::Alias);
        }
        let off = |ready: &&Ready<'_>| matches!(ready.here.state, RuleState::Off { .. });
        if let Some(ready) = page().filter(off).find(|r| from_fits(r) && port_fits(r) && reaches(r)) {
            return near(ready, Differs::Condition);
        }
        if let Some(ready) = page().find(|r| on(r) && from_fits(r) && !port_fits(r) && reaches(r)) {
            return near(ready, Differs::Port);
        }
        // The same conversation the other way round.
        let reversed = |ready: &&Ready<'_>| match ready.here.to {
            DestinationHere::Role(role) | DestinationHere::SiteDefined { role, .. } => {
                on(ready)
                    && from_roles.contains(role)
                    && to_roles.contains(ready.here.from)
                    && (ready.rule.carries(flow.proto, flow.responder_port)
                        || ready.rule.carries(flow.proto, flow.initiator_port))
            }
            _ => false,
        };
        if let Some(ready) = page().find(reversed) {
            return near(ready, Differs::Direction);
        }
        for (class, differs) in [
            (BaselineClass::OsNoise, Differs::OsNoise),
            (BaselineClass::PlatformOrWorkload, Differs::PlatformOrWorkload),
        ] {
            if let Some(rule) = self.baseline(flow, evidence, |line| line == class) {
                return Some(Nearest { rule, differs });
            }
        }
        if let Some(ready) = page().find(|r| on(r) && !from_fits(r) && port_fits(r) && reaches(r)) {
            return near(ready, Differs::Role);
        }
        let covered = from_roles.union(to_roles);
        if let Some(page) = covered.iter().find_map(|role| self.matrix.role_def(role).also_covered_by.clone())
        {
            return Some(Nearest { rule: page, differs: Differs::Page });
        }
        if let Some(ready) = page().find(|r| on(r) && from_fits(r) && port_fits(r)) {
            return near(ready, Differs::Name);
        }
        let noise = self.baseline(flow, evidence, |line| line == BaselineClass::Noise)?;
        from_roles.is_empty().then_some(Nearest { rule: noise, differs: Differs::Noise })
    }
}

/// How well the destination is identified, whatever the verdict.
fn grade(evidence: &Evidence, to_roles: RoleSet, documented: &Documented<'_>) -> Option<Grade> {
    if evidence.proxied {
        return (!evidence.readings.is_empty()).then_some(Grade::Dns);
    }
    if !to_roles.is_empty() {
        return Some(Grade::Site);
    }
    let tagged = documented.grades.contains(&Grade::Tag);
    if !evidence.readings.is_empty() {
        // DNS and a tag agree where the chain holds a name that stands behind the tag.
        let agrees = |ready: &Ready<'_>| match &ready.here.to {
            DestinationHere::Tag { names, .. } => {
                evidence.readings.iter().any(|reading| any_match(names, &reading.names))
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

fn is_loopback(ip: IpAddr) -> bool {
    ip.is_loopback()
}

/// Private, loopback, link-local or unspecified space. Documentation and benchmarking ranges are ordinary public
/// addresses here (SEMANTICS section 3).
pub(super) fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_unspecified(),
        IpAddr::V6(ip) => {
            ip.is_unique_local() || ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unspecified()
        }
    }
}
