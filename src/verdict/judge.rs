//! All flows of a site to verdict rows, findings, coverage and totals.

use super::classify::{Classifier, Judged, is_private};
use super::coverage::CoverageTally;
use super::findings::{self, Accepted, Findings, Key};
use super::row::{NameEvidenceSource, VerdictRow};
use crate::audit::{
    Audit, CaptureQuality, CaptureSummary, Code, Conversation, Coverage, CoverageState, EvidenceFrame,
    Finding, Grade, NamesQuality, PackUsed, Party, SCHEMA, SiteUsed, TagsUsed, TimeBucket, Timeline, Tool,
    Totals, Unreadable, Verdict,
};
use crate::flow::{FlowRecord, GOES_ON_NANOS};
use crate::matrix::{Accept, Matrix, PLATFORM_ADDRESS, Site};
use crate::model::{DomainName, Endpoint, NANOS_PER_SECOND, Spans, Timestamp, Transport};
use crate::names::{Answer, DNS_PATIENCE_NANOS, Ledger};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// Everything that judging rests on beside the flows.
pub struct Case<'a> {
    /// The rules.
    pub matrix: &'a Matrix,
    /// The site.
    pub site: &'a Site,
    /// The DNS evidence.
    pub ledger: &'a Ledger,
    /// The captures, in the order in which their frames were taken.
    pub inputs: Vec<CaptureSummary>,
    /// Captures that could not be opened.
    pub unreadable: Vec<Unreadable>,
    /// Names of the captures, by number.
    pub captures: &'a [Arc<str>],
    /// When frames came.
    pub spans: &'a Spans,
    /// Packets that belong to no flow of any capture, by reason.
    pub without_flow: BTreeMap<String, u64>,
}

/// DNS responses that stop a name (RFC 1035, RFC 8499): SERVFAIL, NXDOMAIN, REFUSED.
const BLOCKING_RCODES: [(u16, &str); 3] = [(2, "SERVFAIL"), (3, "NXDOMAIN"), (5, "REFUSED")];

/// DHCP and DHCPv6: link upkeep, tallied (SEMANTICS section 1). The link's and the site's own addresses only: what goes
/// to the Internet between these ports is judged.
fn is_dhcp(case: &Case<'_>, flow: &FlowRecord) -> bool {
    let pair = [flow.initiator_port, flow.responder_port];
    let own = |ip: IpAddr| {
        let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
        broadcast
            || ip.is_multicast()
            || ip == PLATFORM_ADDRESS
            || is_private(ip)
            || case.site.in_virtual_network(ip)
            || !case.site.roles_of(ip).is_empty()
    };
    flow.proto == Transport::Udp
        && (pair.iter().all(|p| matches!(p, 67 | 68)) || pair.iter().all(|p| matches!(p, 546 | 547)))
        && own(flow.initiator_ip)
        && own(flow.responder_ip)
}

/// Judges all flows.
pub fn judge(case: Case<'_>, flows: Vec<FlowRecord>) -> (Audit, Vec<VerdictRow>) {
    let classifier = Classifier::new(case.matrix, case.site, case.ledger);
    let mut totals = Totals::default();
    let mut upkeep: BTreeMap<String, u64> = BTreeMap::new();
    let mut judged: Vec<Judged> = Vec::with_capacity(flows.len());
    for flow in flows {
        if is_dhcp(&case, &flow) {
            *upkeep.entry("dhcp".into()).or_default() += flow.packets_fwd + flow.packets_rev;
        } else if is_forged_answer(&case, &flow) {
            totals.unsolicited_flows += 1;
        } else {
            judged.push(classifier.classify(flow));
        }
    }
    judged.sort_by(|a, b| row_order(&a.row).cmp(&row_order(&b.row)));
    let mut work = Work {
        case: &case,
        classifier: &classifier,
        findings: Findings::new(case.captures),
        coverage: CoverageTally::default(),
        accepts: BTreeSet::new(),
    };
    for one in &mut judged {
        work.flow(one);
    }
    work.intermittent(&judged);
    work.names();
    findings::of_captures(&mut work.findings, &case.inputs);
    let capture_quality = quality(&case, &judged);
    work.capture_findings(&capture_quality, &judged);
    work.accept_findings();
    let coverage = std::mem::take(&mut work.coverage).finish(&classifier);
    work.coverage_findings(&coverage);
    let findings = work.findings.finish();

    for input in &case.inputs {
        totals.frames += input.frames;
        totals.packets += input.packets;
        add(&mut totals.skipped, &input.skipped);
        add(&mut upkeep, &input.upkeep);
        add(&mut totals.without_flow, &input.without_flow);
    }
    add(&mut totals.without_flow, &case.without_flow);
    totals.upkeep = upkeep;
    totals.flows = judged.len() as u64;
    for one in &judged {
        *totals.verdicts.entry(one.row.verdict).or_default() += 1;
        *totals.outcomes.entry(one.row.flow.outcome).or_default() += 1;
        totals.conditional += u64::from(one.by_default && one.row.verdict == Verdict::Documented);
        totals.supplied_names += u64::from(one.supplied && one.row.verdict == Verdict::Documented);
    }
    for finding in &findings {
        *totals.findings.entry(finding.severity).or_default() += 1;
    }
    let audit = Audit {
        schema: SCHEMA,
        tool: Tool::this(),
        unreadable: case.unreadable.clone(),
        rules: packs_used(case.matrix),
        service_tags: tags_used(&case, true).into_iter().next(),
        further_service_tags: further_tags(&case),
        site: SiteUsed { name: case.site.name().to_owned(), sha256: case.site.sha256().to_owned() },
        remarks: remarks(&case, &totals),
        totals,
        coverage,
        findings,
        conversations: conversations(&case, &judged),
        timeline: timeline(&judged),
        names_quality: names_quality(&case, &judged),
        capture_quality,
        inputs: case.inputs.clone(),
    };
    (audit, judged.into_iter().map(|one| one.row).collect())
}

/// Flows by first_ts, flow_id, vlan, vni, capture, first frame: the same for any number of threads.
fn row_order(row: &VerdictRow) -> (Timestamp, &str, Option<u16>, Option<u32>, &str, Option<u64>) {
    let flow = &row.flow;
    let frame = flow.begin.map(|point| point.frame);
    (flow.first_ts, &flow.flow_id, flow.vlan, flow.vni, &flow.capture, frame)
}

fn add(to: &mut BTreeMap<String, u64>, from: &BTreeMap<String, u64>) {
    for (word, count) in from {
        *to.entry(word.clone()).or_default() += count;
    }
}

/// A flow that is nothing but answers that nobody asked for: evidence of a finding, not a flow of its own.
fn is_forged_answer(case: &Case<'_>, flow: &FlowRecord) -> bool {
    let initiator = Endpoint::new(flow.initiator_ip, flow.initiator_port);
    let responder = Endpoint::new(flow.responder_ip, flow.responder_port);
    // A host at whose closed port it arrives says so by ICMP, and the sender counts as the initiator of what is quoted.
    let sides = [(initiator, responder, flow.packets_fwd), (responder, initiator, flow.packets_rev)];
    flow.proto == Transport::Udp
        && flow.dns_queries == 0
        && sides.into_iter().any(|(client, resolver, sent)| {
            sent == 0 && resolver.port == 53 && case.ledger.only_forged(client, resolver.ip)
        })
}

struct Work<'a, 'c> {
    case: &'a Case<'c>,
    classifier: &'a Classifier<'a>,
    findings: Findings<'a>,
    coverage: CoverageTally,
    accepts: BTreeSet<usize>,
}

impl Work<'_, '_> {
    fn flow(&mut self, one: &mut Judged) {
        let host = self.case.site.host_of(one.row.flow.initiator_ip);
        let accepted = (one.row.verdict == Verdict::Undocumented).then(|| self.accepted(one)).flatten();
        one.row.findings = findings::of_flow(&mut self.findings, one, host, accepted.as_ref());
        self.coverage.count(one);
    }

    /// The site's exception for an undocumented flow, expired or not.
    fn accepted(&mut self, one: &Judged) -> Option<Accepted> {
        let flow = &one.row.flow;
        let site = self.case.site;
        let accepted = [NameEvidenceSource::Dns, NameEvidenceSource::Proxy];
        let names = one.row.names.iter().filter(|name| accepted.contains(&name.source));
        let names: Vec<&DomainName> = names.flat_map(|name| &name.chain).collect();
        // What the client asked its proxy for replaces the destination.
        let (to, port) = match &flow.proxy_target {
            Some(target) if one.proxied => (target.ip, target.port),
            _ => (Some(flow.responder_ip), flow.responder_port),
        };
        let fits = |entry: &Accept| entry.fits(site, flow.initiator_ip, to, &names, flow.proto, port);
        let expired = |entry: &Accept| entry.until.is_some_and(|until| flow.first_ts >= until.end());
        let all = || site.accepts().iter().enumerate().filter(|(_, entry)| fits(entry));
        let (index, entry) = all().find(|(_, entry)| !expired(entry)).or_else(|| all().next())?;
        self.accepts.insert(index);
        Some(Accepted {
            reason: entry.reason.clone(),
            until: entry.until.map(|date| date.to_string()),
            expired: expired(entry),
        })
    }

    /// Findings about the exceptions themselves.
    fn accept_findings(&mut self) {
        let end = self.case.spans.range().map(|(_, end)| end);
        for (index, entry) in self.case.site.accepts().iter().enumerate() {
            let used = self.accepts.contains(&index);
            let expired = entry.until.is_some_and(|until| end.is_some_and(|end| end >= until.end()));
            let until = entry.until.map(|until| format!(" until {until}")).unwrap_or_default();
            if expired {
                let title = format!("[[accept]] at line {}{until}: {}", entry.line, entry.reason);
                self.findings.add(findings::note(Code::AcceptExpired, title, Vec::new()));
            }
            if !used {
                let title =
                    format!("[[accept]] at line {}{until} matches no flow: {}", entry.line, entry.reason);
                self.findings.add(findings::note(Code::AcceptUnused, title, Vec::new()));
            }
        }
    }

    /// For one rule and host, attempts both worked and were blocked.
    fn intermittent(&mut self, judged: &[Judged]) {
        let mut by_rule: BTreeMap<(IpAddr, &str), Vec<usize>> = BTreeMap::new();
        for (index, one) in judged.iter().enumerate() {
            if one.row.verdict == Verdict::Documented {
                let host = self.case.site.host_of(one.row.flow.initiator_ip);
                for rule in &one.row.rules {
                    by_rule.entry((host, rule)).or_default().push(index);
                }
            }
        }
        // Rules that the very same flows fit are told in one finding.
        let mut groups: BTreeMap<(IpAddr, Vec<usize>), Vec<String>> = BTreeMap::new();
        for ((host, rule), flows) in by_rule {
            groups.entry((host, flows)).or_default().push(rule.to_owned());
        }
        for ((host, flows), rules) in groups {
            let flows: Vec<&Judged> = flows.into_iter().filter_map(|index| judged.get(index)).collect();
            let worked: Vec<_> = flows.iter().filter(|one| one.row.flow.outcome.worked()).collect();
            let blocked: Vec<_> = flows.iter().filter(|one| one.row.flow.outcome.is_blocked()).collect();
            let (Some(first_worked), Some(first_blocked)) = (worked.first(), blocked.first()) else {
                continue;
            };
            let row = &first_blocked.row;
            let to = rules.first().map_or("", |rule| rule_title(self.case.matrix, rule));
            let mut finding = findings::note(
                Code::Intermittent,
                format!(
                    "{} {host} -> {to}: {} attempts worked, {} were blocked",
                    row.initiator_roles.join("+"),
                    worked.len(),
                    blocked.len()
                ),
                Vec::new(),
            );
            finding.from = Party { roles: row.initiator_roles.clone(), ip: Some(host), ..Party::default() };
            finding.to = Party {
                roles: row.responder_roles.clone(),
                port: Some(row.flow.responder_port),
                proto: Some(row.flow.proto),
                ..Party::default()
            };
            finding.rules = rules;
            finding.count = blocked.len() as u64;
            finding.first_ts = flows.iter().map(|one| one.row.flow.first_ts).min();
            finding.last_ts = flows.iter().map(|one| one.row.flow.last_ts).max();
            finding.outcomes = flows.iter().map(|one| one.row.flow.outcome).collect();
            finding.outcomes.sort_unstable();
            finding.outcomes.dedup();
            finding.evidence = [first_worked, first_blocked]
                .iter()
                .flat_map(|one| &one.row.flow.proof)
                .map(|proof| EvidenceFrame { capture: proof.capture.clone(), frame: proof.frame })
                .collect();
            self.findings.add(finding);
        }
    }

    /// Findings about DNS itself: names that cannot be resolved, answers that nobody asked for, other resolvers.
    fn names(&mut self) {
        self.unexpected_resolvers();
        self.unsolicited();
        self.blocked_names();
    }

    fn unexpected_resolvers(&mut self) {
        if !self.case.site.resolvers_listed() {
            return;
        }
        let ledger = self.case.ledger;
        let site = self.case.site;
        let mut asked: BTreeMap<IpAddr, Vec<(Timestamp, IpAddr, EvidenceFrame, &DomainName)>> =
            BTreeMap::new();
        for query in ledger.queries() {
            let subject = self.classifier.is_subject(site.roles_of(query.client.ip));
            if subject && !site.is_resolver(query.resolver) {
                let frame = self.findings.frame(query.point);
                asked.entry(query.resolver).or_default().push((
                    query.point.time,
                    query.client.ip,
                    frame,
                    &query.name,
                ));
            }
        }
        for (resolver, queries) in asked {
            let Some((_, client, _, name)) = queries.first() else { continue };
            let roles = self.classifier.role_words(site.roles_of(*client));
            let mut finding = findings::note(
                Code::UnexpectedResolver,
                format!(
                    "{} {client} asks {resolver}, which the site does not list as a resolver",
                    roles.join("+")
                ),
                queries.iter().map(|(_, _, frame, _)| frame.clone()).take(Finding::MOST_EVIDENCE).collect(),
            );
            finding.from = Party { roles, ip: Some(*client), ..Party::default() };
            finding.to =
                Party { ip: Some(resolver), port: Some(53), proto: Some(Transport::Udp), ..Party::default() };
            finding.count = queries.len() as u64;
            finding.first_ts = queries.iter().map(|(time, ..)| *time).min();
            finding.last_ts = queries.iter().map(|(time, ..)| *time).max();
            finding.details.push(format!("first asked for {name}"));
            finding.display_filter = Some(format!("dns && {} == {resolver}", address_field(resolver)));
            self.findings.add(finding);
        }
    }

    fn unsolicited(&mut self) {
        let ledger = self.case.ledger;
        let site = self.case.site;
        for answer in ledger.answers().iter().filter(|answer| ledger.is_unsolicited(answer)) {
            let roles = site.roles_of(answer.client.ip);
            if !self.classifier.is_subject(roles) {
                continue;
            }
            let roles = self.classifier.role_words(roles);
            let name = answer.names.first().cloned();
            let key = Key {
                code: Code::UnsolicitedAnswer,
                severity: Code::UnsolicitedAnswer.severity(),
                host: Some(answer.host),
                to: name.as_ref().map_or_else(|| answer.resolver.to_string(), ToString::to_string),
                port: Some(53),
                proto: Some(Transport::Udp),
                rules: Vec::new(),
            };
            let frame = self.findings.frame(answer.point);
            let title = format!(
                "{} answers {} for {}, which sent no such query",
                answer.resolver,
                roles.join("+"),
                name.as_ref().map_or(".", DomainName::as_str)
            );
            let draft = self.findings.draft(key, || {
                let mut finding = findings::note(Code::UnsolicitedAnswer, title, Vec::new());
                finding.count = 0;
                finding.from = Party { roles, ip: Some(answer.client.ip), ..Party::default() };
                finding.to = Party {
                    ip: Some(answer.resolver),
                    name,
                    port: Some(53),
                    proto: Some(Transport::Udp),
                    ..Party::default()
                };
                finding.display_filter = Some(format!(
                    "dns.flags.response == 1 && {} == {}",
                    address_field(answer.client.ip),
                    answer.client.ip
                ));
                finding
            });
            draft.count(answer.point.time, answer.point.time, vec![frame]);
        }
    }

    /// A name documented for the asking role (or inferred for its tag) that is refused, fails, or stays without answer.
    fn blocked_names(&mut self) {
        let ledger = self.case.ledger;
        let site = self.case.site;
        let spans = self.case.spans;
        let mut lookups: BTreeMap<(IpAddr, &DomainName), Lookup<'_>> = BTreeMap::new();
        for query in ledger.queries() {
            let lookup = lookups.entry((query.host, &query.name)).or_default();
            lookup.queries.push((query.point.time, query.client.ip, self.findings.frame(query.point)));
            lookup.any_answered |= query.answered;
        }
        for answer in ledger.answers().iter().filter(|answer| answer.matched) {
            let Some(name) = answer.names.first() else { continue };
            if let Some(lookup) = lookups.get_mut(&(answer.host, name)) {
                match BLOCKING_RCODES.iter().find(|(code, _)| *code == answer.rcode) {
                    Some((_, word)) => {
                        lookup.refusals.push((word, answer));
                    }
                    None => lookup.resolved |= !answer.addresses.is_empty(),
                }
            }
        }
        for ((host, name), lookup) in lookups {
            let Some((first, client, _)) = lookup.queries.first() else { continue };
            let roles = site.roles_of(*client);
            let rules = self.classifier.rules_naming(roles, name);
            if rules.is_empty() {
                continue;
            }
            let silent = !lookup.any_answered
                && ledger.told(host) > 0
                && spans.any_within(first.plus(DNS_PATIENCE_NANOS), first.plus(GOES_ON_NANOS));
            let why = match lookup.refusals.first() {
                Some((word, _)) => (*word).to_owned(),
                None if silent => "no answer".to_owned(),
                None => continue,
            };
            for rule in &rules {
                self.coverage.unresolved(rule, format!("its name {name} cannot be resolved: {why}"));
            }
            let roles = self.classifier.role_words(roles);
            let mut frames: Vec<EvidenceFrame> =
                lookup.queries.iter().take(10).map(|(_, _, frame)| frame.clone()).collect();
            frames
                .extend(lookup.refusals.iter().take(10).map(|(_, answer)| self.findings.frame(answer.point)));
            let last = lookup.queries.iter().map(|(time, ..)| *time).max().unwrap_or(*first);
            let mut finding = findings::note(
                Code::NameBlocked,
                format!("{} {client} asks for {name}: {why}", roles.join("+")),
                frames.clone(),
            );
            finding.from = Party { roles: roles.clone(), ip: Some(*client), ..Party::default() };
            finding.to = Party { name: Some(name.clone()), port: Some(53), ..Party::default() };
            finding.rules.clone_from(&rules);
            finding.count = lookup.refusals.len().max(if silent { lookup.queries.len() } else { 0 }) as u64;
            (finding.first_ts, finding.last_ts) = (Some(*first), Some(last));
            finding.display_filter = Some(format!("dns.qry.name == \"{}\"", filter_text(name)));
            let resolvers: BTreeSet<String> =
                lookup.refusals.iter().map(|(_, answer)| answer.resolver.to_string()).collect();
            if !resolvers.is_empty() {
                let resolvers: Vec<String> = resolvers.into_iter().collect();
                finding.details.push(format!("answered by {}", resolvers.join(", ")));
            }
            self.findings.add(finding.clone());
            if lookup.resolved {
                finding.code = Code::Intermittent;
                finding.severity = Code::Intermittent.severity();
                finding.title = format!(
                    "{} {client} asks for {name}: resolved at times, {why} at others",
                    roles.join("+")
                );
                finding.remedy = Code::Intermittent.advice().into();
                self.findings.add(finding);
            }
        }
    }

    fn capture_findings(&mut self, quality: &CaptureQuality, judged: &[Judged]) {
        if quality.undecodable_ppm > Audit::UNDECODABLE_LIMIT_PPM {
            let title = format!(
                "{:.1} % of the frames could not be decoded",
                quality.undecodable_ppm as f64 / 10_000.0
            );
            self.findings.add(findings::note(Code::CaptureLoss, title, Vec::new()));
        }
        let tcp = judged.iter().filter(|one| one.row.flow.proto == Transport::Tcp).count() as u64;
        if tcp >= 2 && quality.one_sided * 2 > tcp {
            let title = format!("{} of {tcp} TCP connections show only one direction", quality.one_sided);
            self.findings.add(findings::note(Code::OneSidedCapture, title, Vec::new()));
        }
    }

    fn coverage_findings(&mut self, coverage: &[Coverage]) {
        for line in coverage {
            let code = match line.state {
                CoverageState::NotObserved => Code::RuleNotObserved,
                CoverageState::NotObservable => Code::RuleNotObservable,
                CoverageState::Observed
                | CoverageState::Blocked
                | CoverageState::Intermittent
                | CoverageState::NotApplicable => continue,
            };
            let why = line.why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
            let title = format!(
                "{} row {}: {} -> {} {} {}{why}",
                line.rule,
                line.row,
                line.from,
                line.to,
                line.proto.to_uppercase(),
                line.ports
            );
            let mut finding = findings::note(code, title, Vec::new());
            finding.rules = vec![line.rule.clone()];
            self.findings.add(finding);
        }
    }
}

#[derive(Default)]
struct Lookup<'a> {
    queries: Vec<(Timestamp, IpAddr, EvidenceFrame)>,
    any_answered: bool,
    resolved: bool,
    refusals: Vec<(&'static str, &'a Answer)>,
}

/// The page's name for a rule's destination.
fn rule_title<'m>(matrix: &'m Matrix, rule: &'m str) -> &'m str {
    matrix.rule(rule).map_or(rule, |rule| &rule.to_title)
}

fn address_field(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "ip.addr" } else { "ipv6.addr" }
}

/// A name inside a quoted display filter: quotes and backslashes escaped.
fn filter_text(name: &DomainName) -> String {
    name.as_str().replace('\\', "\\\\").replace('"', "\\\"")
}

fn quality(case: &Case<'_>, judged: &[Judged]) -> CaptureQuality {
    use crate::audit::End;
    let sum = |of: fn(&CaptureSummary) -> u64| case.inputs.iter().map(of).sum::<u64>();
    let tcp = || judged.iter().map(|one| &one.row.flow).filter(|flow| flow.proto == Transport::Tcp);
    let range = case.spans.range();
    CaptureQuality {
        complete: case.unreadable.is_empty() && case.inputs.iter().all(|input| input.end == End::Complete),
        drops: sum(|input| input.drops.unwrap_or_default()),
        snaplen_cut: sum(|input| input.snaplen_cut),
        duplicates: sum(|input| input.duplicates),
        undecodable_ppm: CaptureSummary::undecodable_ppm(&case.inputs),
        one_sided: tcp().filter(|flow| flow.outcome == crate::flow::Outcome::OneSided).count() as u64,
        midstream: tcp().filter(|flow| flow.outcome == crate::flow::Outcome::Midstream).count() as u64,
        intervals: case.spans.len() as u64,
        first_ts: range.map(|(first, _)| first),
        last_ts: range.map(|(_, last)| last),
        unreadable_quotes: sum(|input| input.unreadable_quotes),
    }
}

fn names_quality(case: &Case<'_>, judged: &[Judged]) -> NamesQuality {
    let ledger = case.ledger;
    let count =
        |of: &dyn Fn(&Answer) -> bool| ledger.answers().iter().filter(|answer| of(answer)).count() as u64;
    let mut quality = NamesQuality {
        queries: ledger.queries().len() as u64,
        unanswered: ledger.queries().iter().filter(|query| !query.answered).count() as u64,
        responses: ledger.answers().len() as u64,
        unmatched: count(&|answer| !answer.matched),
        untrusted: count(&|answer| !answer.trusted),
        contested: count(&|answer| answer.contested),
        salvaged: count(&|answer| answer.salvaged),
        resolvers_listed: case.site.resolvers_listed(),
        ..NamesQuality::default()
    };
    for one in judged {
        let grade = one.row.grade.map_or("none", Grade::as_str);
        *quality.grades.entry(grade.to_owned()).or_default() += 1;
        let dns = || one.row.names.iter().filter(|name| name.source == NameEvidenceSource::Dns);
        quality.shared_addresses += u64::from(dns().count() > 1);
        quality.expired += u64::from(dns().next().is_some_and(|name| name.expired));
        quality.late += u64::from(dns().next().is_some_and(|name| name.late));
        quality.encrypted_hellos += u64::from(one.row.flow.ech);
    }
    quality
}

fn packs_used(matrix: &Matrix) -> Vec<PackUsed> {
    matrix
        .packs()
        .iter()
        .map(|pack| PackUsed {
            id: pack.id.to_string(),
            page: pack.page.to_string(),
            page_date: pack.page_date.to_string(),
            product_version: pack.product_version.to_string(),
            sha256: pack.sha256.clone(),
        })
        .collect()
}

/// The service tag files of the site's cloud (or of the others), as loaded.
fn tags_used(case: &Case<'_>, own_cloud: bool) -> Vec<TagsUsed> {
    let sources = case.matrix.tags().sources().iter();
    sources
        .filter(|source| (source.cloud == case.site.cloud()) == own_cloud)
        .map(|source| TagsUsed {
            change_number: source.change_number,
            cloud: source.cloud.as_str().to_owned(),
            date: source.date.map(|date| date.to_string()),
            sha256: source.sha256.clone(),
        })
        .collect()
}

fn further_tags(case: &Case<'_>) -> Vec<TagsUsed> {
    let mut further: Vec<TagsUsed> = tags_used(case, true).into_iter().skip(1).collect();
    further.extend(tags_used(case, false));
    further
}

/// What the reader must know before the findings.
fn remarks(case: &Case<'_>, totals: &Totals) -> Vec<String> {
    let mut remarks = Vec::new();
    if !case.site.resolvers_listed() {
        remarks.push(
            "the site lists no resolvers: answers of every resolver count as names, and forged ones are not told apart"
                .to_owned(),
        );
    }
    if case.site.storage_accounts().is_empty() {
        remarks.push(
            "the site lists no storage accounts: a Storage tag or name proves the service, not whose account it is"
                .to_owned(),
        );
    }
    let undated = case.matrix.tags().sources().iter().filter(|source| source.date.is_none());
    for source in undated {
        remarks.push(format!(
            "service tags (change number {}, {}) carry no date: their age is unknown",
            source.change_number,
            source.cloud.as_str()
        ));
    }
    if totals.conditional > 0 {
        remarks.push(format!(
            "{} documented flows rest on conditions that the site file does not set",
            totals.conditional
        ));
    }
    if totals.supplied_names > 0 {
        remarks.push(format!(
            "{} documented flows rest on names that the page does not give (see the pack's overlay)",
            totals.supplied_names
        ));
    }
    remarks
}

/// Most lines of the From x To table; what is beyond goes into one line `(others)`.
const MOST_CONVERSATIONS: usize = 500;

fn conversations(case: &Case<'_>, judged: &[Judged]) -> Vec<Conversation> {
    let mut table: BTreeMap<(String, String), Conversation> = BTreeMap::new();
    for one in judged {
        let row = &one.row;
        let from = if row.initiator_roles.is_empty() {
            "(no role)".to_owned()
        } else {
            row.initiator_roles.join("+")
        };
        let to = match (row.verdict, row.rules.first()) {
            (Verdict::Documented, Some(rule)) => rule_title(case.matrix, rule).to_owned(),
            (Verdict::Platform, Some(line)) => line.clone(),
            _ if !row.responder_roles.is_empty() => row.responder_roles.join("+"),
            (Verdict::OutOfScope, _) => "(out of scope)".to_owned(),
            _ => row
                .names
                .first()
                .map_or_else(|| row.flow.responder_ip.to_string(), |name| name.name.to_string()),
        };
        let full = table.len() >= MOST_CONVERSATIONS && !table.contains_key(&(from.clone(), to.clone()));
        let to = if full { "(others)".to_owned() } else { to };
        let line = table.entry((from.clone(), to.clone())).or_insert_with(|| Conversation {
            from,
            to,
            flows: 0,
            verdicts: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            bytes: 0,
        });
        line.flows += 1;
        line.bytes += row.flow.bytes_fwd + row.flow.bytes_rev;
        *line.verdicts.entry(row.verdict).or_default() += 1;
        *line.outcomes.entry(row.flow.outcome).or_default() += 1;
    }
    table.into_values().collect()
}

fn timeline(judged: &[Judged]) -> Timeline {
    const STEPS_S: [i64; 6] = [1, 10, 60, 600, 3_600, 86_400];
    const MOST: i64 = 120;
    let times = || judged.iter().map(|one| one.row.flow.first_ts);
    let (Some(first), Some(last)) = (times().min(), times().max()) else { return Timeline::default() };
    let fits = |step: &&i64| last.since(first) / (**step * NANOS_PER_SECOND) < MOST;
    let bucket_ns = STEPS_S.iter().find(fits).unwrap_or(&86_400) * NANOS_PER_SECOND;
    let mut buckets: BTreeMap<Timestamp, TimeBucket> = BTreeMap::new();
    for one in judged {
        let time = one.row.flow.first_ts;
        let ts = Timestamp(time.0 - time.0.rem_euclid(bucket_ns));
        let bucket =
            buckets.entry(ts).or_insert_with(|| TimeBucket { ts, verdicts: BTreeMap::new(), blocked: 0 });
        *bucket.verdicts.entry(one.row.verdict).or_default() += 1;
        bucket.blocked += u64::from(one.row.flow.outcome.is_blocked());
    }
    Timeline { bucket_ns, buckets: buckets.into_values().collect() }
}
