//! Is this flow documented? SEMANTICS section 4, one flow at a time.

use super::fit::{Destination, Fits};
use super::row::{Differs, NameEvidence, NameEvidenceSource, Nearest, VerdictRow};
use crate::audit::{Grade, Missing, Verdict};
use crate::flow::FlowRecord;
use crate::matrix::{BaselineClass, Matrix, Rule, Site};
use crate::model::{AppProtocol, DomainName, Transport};
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
}

/// What is known of where a flow goes.
struct Evidence {
    dest: Destination,
    readings: Vec<Reading>,
    /// The server name or HTTP host that the client wrote.
    written: Option<DomainName>,
    corroborated: bool,
    proxied: bool,
}

impl<'a> Classifier<'a> {
    /// For these rules, this site, this evidence.
    pub fn new(matrix: &'a Matrix, site: &'a Site, ledger: &'a Ledger) -> Self {
        Classifier { matrix, site, ledger }
    }

    /// The verdict of one flow.
    pub fn classify(&self, flow: FlowRecord) -> Judged {
        let from_roles = self.site.roles_of(flow.initiator_ip);
        let to_roles = self.site.roles_of(flow.responder_ip);
        let subject = from_roles.iter().chain(&to_roles).any(|role| self.site.is_subject(role));
        let evidence = self.evidence(&flow, &to_roles);
        let mut judged = Judged {
            row: VerdictRow {
                initiator_roles: from_roles.iter().map(ToString::to_string).collect(),
                responder_roles: to_roles.iter().map(ToString::to_string).collect(),
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
            subject,
            possible: Vec::new(),
        };
        let flow = &judged.row.flow;
        if is_loopback(flow.initiator_ip) || is_loopback(flow.responder_ip) {
            return judged;
        }
        let fits = Fits::new(self, flow.proto, &from_roles, &evidence.dest);
        let documented = self.documented(&fits, &evidence);
        judged.row.grade = self.grade(&evidence, &to_roles, &documented);
        let mut verdict = documented.verdict;
        let mut missing = documented.missing;

        let conflict = self.conflict(flow, &from_roles, &to_roles, &evidence, &fits, &documented);
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
            judged.row.rules = documented.rules.iter().map(|rule| rule.id.to_string()).collect();
            judged.by_default =
                documented.rules.iter().all(|rule| self.site.condition(rule).is_some_and(|c| c.by_default));
            judged.supplied = documented.rules.iter().all(|rule| rule.supplied_names);
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
            judged.row.nearest = self.nearest(&judged.row.flow, &from_roles, &to_roles, &evidence, &fits);
        } else {
            judged.possible = documented.rules.iter().map(|rule| rule.id.to_string()).collect();
        }
        judged.row.verdict = verdict;
        judged.row.missing = missing;
        judged
    }

    fn evidence(&self, flow: &FlowRecord, to_roles: &[crate::matrix::RoleId]) -> Evidence {
        let is_proxy = to_roles.iter().any(|role| role.as_str() == "http-proxy");
        if is_proxy {
            let mut dest = Destination { ip: None, port: flow.responder_port, roles: Vec::new(), proxied: true };
            let mut readings = Vec::new();
            if let Some(target) = &flow.proxy_target {
                dest.port = target.port;
                dest.ip = target.ip;
                dest.roles = target.ip.map(|ip| self.site.roles_of(ip)).unwrap_or_default();
                readings.extend(target.name.clone().map(|name| Reading {
                    names: vec![name],
                    point: flow.named_at.or(flow.begin).unwrap_or_default(),
                    expired: false,
                    late: false,
                    contested: false,
                    salvaged: false,
                }));
            }
            return Evidence { dest, readings, written: None, corroborated: false, proxied: true };
        }
        let dest = Destination {
            ip: Some(flow.responder_ip),
            port: flow.responder_port,
            roles: to_roles.to_vec(),
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
        Evidence { dest, readings, written, corroborated, proxied: false }
    }

    fn names_of(&self, flow: &FlowRecord, evidence: &Evidence) -> Vec<NameEvidence> {
        let mut names: Vec<NameEvidence> = evidence
            .readings
            .iter()
            .filter_map(|reading| {
                Some(NameEvidence {
                    name: reading.names.first()?.clone(),
                    chain: reading.names.clone(),
                    source: if evidence.proxied { NameEvidenceSource::Proxy } else { NameEvidenceSource::Dns },
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
        let mut rules: Vec<&Rule> = by_address.iter().map(|(rule, _)| *rule).collect();
        let mut grades: Vec<Grade> = by_address.iter().map(|(_, grade)| *grade).collect();
        if !rules.is_empty() {
            // What names say besides: a rule by name that every reading fits is exercised, too.
            let by_name = fits.by_every_reading(&evidence.readings);
            for rule in by_name.iter().filter(|rule| !by_address.iter().any(|(have, _)| have.id == rule.id)) {
                rules.push(rule);
                grades.push(Grade::Dns);
            }
            rules.sort_by_key(|rule| rule.order);
            return Documented { verdict: Verdict::Documented, missing: None, rules, grades, by_address: true };
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
            }
            return none;
        }
        let per_reading: Vec<Vec<&Rule>> =
            evidence.readings.iter().map(|reading| fits.by_reading(&reading.names)).collect();
        let fitting = per_reading.iter().filter(|rules| !rules.is_empty()).count();
        let mut union: Vec<&Rule> = per_reading.into_iter().flatten().collect();
        union.sort_by_key(|rule| rule.order);
        union.dedup_by_key(|rule| rule.order);
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

    /// How well the destination is identified, whatever the verdict.
    fn grade(
        &self,
        evidence: &Evidence,
        to_roles: &[crate::matrix::RoleId],
        documented: &Documented<'_>,
    ) -> Option<Grade> {
        if evidence.proxied {
            return (!evidence.readings.is_empty()).then_some(Grade::Dns);
        }
        if !to_roles.is_empty() {
            return Some(Grade::Site);
        }
        let tagged = documented.grades.contains(&Grade::Tag);
        if !evidence.readings.is_empty() {
            let agree = tagged
                && documented.rules.iter().any(|rule| {
                    evidence.readings.iter().any(|reading| Fits::tag_names_fit(self.site, rule, &reading.names))
                });
            return Some(if evidence.corroborated || agree { Grade::Corroborated } else { Grade::Dns });
        }
        if tagged {
            return Some(Grade::Tag);
        }
        evidence.written.as_ref().map(|_| Grade::ServerName)
    }

    /// SEMANTICS section 3, `name-conflict`, in words.
    fn conflict(
        &self,
        flow: &FlowRecord,
        from_roles: &[crate::matrix::RoleId],
        to_roles: &[crate::matrix::RoleId],
        evidence: &Evidence,
        fits: &Fits<'a>,
        documented: &Documented<'_>,
    ) -> Option<String> {
        if evidence.proxied {
            return None;
        }
        let (host, ip) = (self.site.host_of(flow.initiator_ip), flow.responder_ip);
        // (a) spoofed or contested: more answers than questions, and they differ.
        if Ledger::contested(&evidence.readings) {
            let name = evidence.readings.first().and_then(|reading| reading.names.first());
            let name = name.map(ToString::to_string).unwrap_or_default();
            return Some(format!("the query for {name} got more answers than it was sent, with different addresses"));
        }
        // (c) named by an untrusted resolver only.
        if evidence.readings.is_empty()
            && let Some(answer) = self.ledger.untrusted(host, ip, flow.first_ts)
        {
            let name = answer.names.first().map(ToString::to_string).unwrap_or_default();
            let resolver = answer.resolver;
            return Some(format!("only {resolver}, which the site does not list as a resolver, gives it as {name}"));
        }
        // (d) a name of the pack at an address of one's own.
        if let Some(name) = evidence.readings.iter().find_map(|reading| {
            let own = self.is_own_space(ip) || !to_roles.is_empty();
            let proxy = to_roles.iter().any(|role| role.as_str() == "http-proxy");
            (own && !proxy).then(|| fits.pack_name_at_own_address(&reading.names, ip)).flatten()
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
            && fits.documents_name(from_roles, name)
            && !self.ledger.ever_named(host, name, ip)
            && self.ledger.told_otherwise(host, name, ip, flow.first_ts)
        {
            return Some(format!("the client asks for {name}, but DNS gave this host other addresses for it"));
        }
        None
    }

    /// Virtual network, private, loopback, link-local or unspecified: an address that no vendor's public service has.
    pub(super) fn is_own_space(&self, ip: IpAddr) -> bool {
        self.site.in_virtual_network(ip) || is_private(ip)
    }

    /// Whose storage account it is, where only rules for accounts document the flow and the site lists its own.
    fn account(&self, documented: &Documented<'_>, evidence: &Evidence) -> Account {
        let own = self.site.storage_accounts();
        if own.is_empty() || documented.rules.iter().any(|rule| !rule.is_for_accounts()) {
            return Account::Own;
        }
        let written = evidence.written.iter().map(|name| std::slice::from_ref(name));
        let chains: Vec<&[DomainName]> = if evidence.readings.is_empty() {
            written.collect()
        } else {
            evidence.readings.iter().map(|reading| &*reading.names).collect()
        };
        let foreign: Vec<Option<String>> = chains
            .iter()
            .map(|chain| {
                if chain.iter().any(|name| self.is_platform_storage_name(name)) {
                    return None;
                }
                let account = documented.rules.iter().find_map(|rule| rule.account_in(chain))?;
                (!own.iter().any(|listed| listed.eq_ignore_ascii_case(&account))).then_some(account)
            })
            .collect();
        match foreign.iter().flatten().next() {
            None => Account::Own,
            Some(account) if foreign.iter().all(Option::is_some) => Account::Foreign(account.clone()),
            Some(_) => Account::Mixed,
        }
    }

    fn is_platform_storage_name(&self, name: &DomainName) -> bool {
        self.matrix.baseline.iter().any(|line| {
            matches!(line.class, BaselineClass::Platform | BaselineClass::PlatformOrWorkload)
                && line.names.iter().any(|pattern| pattern.matches(name))
        })
    }

    /// The application that the first bytes show, held against the rules.
    fn mismatch(&self, flow: &FlowRecord, rules: &[&Rule], proxied: bool) -> Option<Issue> {
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
        for rule in rules {
            let wanted = rule.app.as_ref()?.app;
            if seen.is_some_and(|seen| app::matches_rule(wanted, seen)) {
                return None;
            }
            expected.get_or_insert(wanted);
        }
        expected.map(|expected| Issue::ProtocolMismatch { expected, seen })
    }

    /// The baseline line of class `platform` that fits, or what the site itself says of resolvers and time servers.
    fn platform(&self, flow: &FlowRecord, evidence: &Evidence) -> Option<String> {
        let (proto, port) = (flow.proto, flow.responder_port);
        if port == 53 && matches!(proto, Transport::Udp | Transport::Tcp) {
            return self.site.is_listed_or_platform_resolver(flow.responder_ip).then(|| "plat-dns".to_owned());
        }
        if port == 123 && proto == Transport::Udp && self.site.is_time_server(flow.responder_ip) {
            return Some("plat-ntp".to_owned());
        }
        self.baseline(flow, evidence, |class| class == BaselineClass::Platform)
    }

    fn baseline(
        &self,
        flow: &FlowRecord,
        evidence: &Evidence,
        wanted: impl Fn(BaselineClass) -> bool,
    ) -> Option<String> {
        if evidence.proxied {
            return None;
        }
        let lines = self.matrix.baseline.iter().filter(|line| wanted(line.class));
        let mut lines = lines.filter(|line| line.fits_transport(flow.proto, flow.responder_port));
        lines
            .find(|line| {
                let by_name = !evidence.readings.is_empty()
                    && evidence.readings.iter().all(|reading| {
                        reading.names.iter().any(|name| line.names.iter().any(|pattern| pattern.matches(name)))
                    });
                line.fits_address(flow.initiator_ip, flow.responder_ip) || (line.is_outbound() && by_name)
            })
            .map(|line| line.id.to_string())
    }

    /// The closest rule, and what keeps it from fitting.
    fn nearest(
        &self,
        flow: &FlowRecord,
        from_roles: &[crate::matrix::RoleId],
        to_roles: &[crate::matrix::RoleId],
        evidence: &Evidence,
        fits: &Fits<'a>,
    ) -> Option<Nearest> {
        let near = |rule: &Rule, differs| Some(Nearest { rule: rule.id.to_string(), differs });
        let reaches = |rule: &Rule| fits.destination_fits(rule, &evidence.dest, &evidence.readings);
        let port_fits = |rule: &Rule| rule.transport == flow.proto && rule.ports.contains(evidence.dest.port);
        let from_fits = |rule: &Rule| from_roles.contains(&rule.from);
        let all = || self.matrix.rules.iter();
        let page = || all().filter(|rule| !rule.is_alias());
        if let Some(rule) = all().find(|rule| rule.is_alias() && from_fits(rule) && port_fits(rule) && reaches(rule)) {
            return near(rule, Differs::Alias);
        }
        let off = |rule: &Rule| self.site.condition(rule).is_some_and(|condition| !condition.on);
        if let Some(rule) = page().find(|rule| off(rule) && from_fits(rule) && port_fits(rule) && reaches(rule)) {
            return near(rule, Differs::Condition);
        }
        if let Some(rule) = page().find(|rule| !off(rule) && from_fits(rule) && !port_fits(rule) && reaches(rule)) {
            return near(rule, Differs::Port);
        }
        // The same conversation the other way round.
        if let Some(rule) = page().find(|rule| {
            to_roles.contains(&rule.from)
                && fits.role_of(rule).is_some_and(|to| from_roles.contains(&to))
                && rule.transport == flow.proto
                && (rule.ports.contains(flow.responder_port) || rule.ports.contains(flow.initiator_port))
        }) {
            return near(rule, Differs::Direction);
        }
        for (class, differs) in [
            (BaselineClass::OsNoise, Differs::OsNoise),
            (BaselineClass::PlatformOrWorkload, Differs::PlatformOrWorkload),
        ] {
            if let Some(rule) = self.baseline(flow, evidence, |line| line == class) {
                return Some(Nearest { rule, differs });
            }
        }
        if let Some(rule) = page().find(|rule| !off(rule) && !from_fits(rule) && port_fits(rule) && reaches(rule)) {
            return near(rule, Differs::Role);
        }
        if let Some(page) = from_roles.iter().chain(to_roles).find_map(|role| self.matrix.also_covered_by(role)) {
            return Some(Nearest { rule: page.to_owned(), differs: Differs::Page });
        }
        if let Some(rule) = page().find(|rule| !off(rule) && from_fits(rule) && port_fits(rule)) {
            return near(rule, Differs::Name);
        }
        let noise = self.baseline(flow, evidence, |line| line == BaselineClass::Noise)?;
        from_roles.is_empty().then_some(Nearest { rule: noise, differs: Differs::Noise })
    }
}

/// What rules say of a flow before conflicts, accounts and the platform.
struct Documented<'a> {
    verdict: Verdict,
    missing: Option<Missing>,
    /// The rules that fit; for undetermined flows those that would.
    rules: Vec<&'a Rule>,
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
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_unspecified(),
        IpAddr::V6(ip) => {
            ip.is_unique_local() || ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unspecified()
        }
    }
}
