//! Findings about DNS itself: names that cannot be resolved, answers that nobody asked for, other resolvers.

use super::classify::Classifier;
use super::coverage::CoverageTally;
use super::findings::{self, Findings, Stem};
use super::judge::Case;
use super::reach;
use crate::audit::{Code, EvidenceFrame, Finding, Party};
use crate::flow::GOES_ON_NANOS;
use crate::matrix::RoleSet;
use crate::model::{DomainName, Endpoint, FramePoint, Timestamp, Transport};
use crate::names::{Answer, DNS_PATIENCE_NANOS, Query, RESOLVED_TOLD};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

/// DNS responses that stop a name (RFC 1035, RFC 8499): SERVFAIL, NXDOMAIN, REFUSED.
const BLOCKING_RCODES: [(u16, &str); 3] = [(2, "SERVFAIL"), (3, "NXDOMAIN"), (5, "REFUSED")];

/// Types of which an answer gives an address: A, AAAA, SVCB, HTTPS (RFC 1035, RFC 3596, RFC 9460).
const ADDRESS_TYPES: [u16; 4] = [1, 28, 64, 65];

/// Frames of queries, and of refusals, that a finding about a name cites.
const MOST_LOOKUP_FRAMES: usize = 10;

/// Queries of a host for one name that wait for their answers at the same time; of more the first are not cited.
const MOST_WAITING: usize = 16;

/// So long a query waits until it counts as silence, nanoseconds: 5 s, and half a second for the answer to the next try, which
/// resolvers send when those 5 s are over (resolv.conf(5), `timeout`). What is answered then was lost, not blocked.
const SILENCE_NANOS: i64 = DNS_PATIENCE_NANOS + 500_000_000;

/// The DNS findings of a case.
pub(super) struct Resolving<'j, 'a> {
    pub case: &'a Case<'a>,
    pub classifier: &'j Classifier<'a>,
    pub findings: &'j mut Findings,
    pub coverage: &'j mut CoverageTally,
}

fn blocking(rcode: u16) -> Option<&'static str> {
    BLOCKING_RCODES.iter().find(|(code, _)| *code == rcode).map(|(_, word)| *word)
}

/// What became of one name that a host asked for.
struct Lookup {
    client: IpAddr,
    rules: Arc<[String]>,
    /// Queries by address, port and type, until they are answered: the latest [`MOST_WAITING`].
    waiting: VecDeque<(Endpoint, u16, FramePoint)>,
    /// Queries that nobody answered.
    unanswered: Vec<FramePoint>,
    /// When something was answered, whatever it was, or a query was sent that was answered.
    heard: Vec<Timestamp>,
    resolved_in: Vec<FramePoint>,
    /// When an address came last, by the type that was asked for.
    resolved_at: BTreeMap<u16, Timestamp>,
    /// What came in place of an address, at first.
    why: Option<&'static str>,
    refused_by: BTreeSet<String>,
    failed: Failed,
}

/// The queries that came to nothing, and what refused them.
#[derive(Default)]
struct Failed {
    count: u64,
    range: Option<(Timestamp, Timestamp)>,
    asked: Vec<FramePoint>,
    refused_in: Vec<FramePoint>,
}

impl Failed {
    /// A query that was refused, or that nobody answered; of a refusal without its query, the refusal.
    fn add(&mut self, asked: Option<FramePoint>, refused_in: Option<FramePoint>) {
        self.count += 1;
        if let Some(point) = asked.or(refused_in) {
            let (first, last) = self.range.unwrap_or((point.time, point.time));
            self.range = Some((first.min(point.time), last.max(point.time)));
        }
        let cite = |points: &mut Vec<FramePoint>, point: Option<FramePoint>| {
            points.extend(point.filter(|_| points.len() < MOST_LOOKUP_FRAMES));
        };
        cite(&mut self.asked, asked);
        cite(&mut self.refused_in, refused_in);
    }
}

/// The rules that give a name, if any do, by the roles that ask for it and the name's place in memory.
type Documented = HashMap<(RoleSet, usize), Option<Arc<[String]>>, RandomState>;

/// Where the lookups of a host and a name stand; none where no rule gives the name.
type Places = HashMap<(IpAddr, usize), Option<usize>, RandomState>;

/// Queries to one resolver that the site does not list.
struct Asked<'a> {
    clients: BTreeSet<IpAddr>,
    over: BTreeSet<Transport>,
    name: &'a DomainName,
    count: u64,
    first: Timestamp,
    last: Timestamp,
    points: Vec<FramePoint>,
}

impl Resolving<'_, '_> {
    pub(super) fn find(&mut self) {
        self.unexpected_resolvers();
        self.unsolicited();
        self.blocked_names();
    }

    /// That names which rules give lead to no machine, as a DNS filter has it: no flow shows it, and no response code.
    pub(super) fn led_nowhere(&mut self) -> Option<String> {
        const MOST: usize = 3;
        let mut led = self.case.ledger.led_nowhere();
        led.sort_unstable();
        led.retain(|&(client, name)| {
            let rules = self.classifier.rules_naming(self.case.site.roles_of(client), name);
            for rule in &rules {
                self.coverage.unresolved(rule, format!("its name {name} leads to no machine"));
            }
            !rules.is_empty()
        });
        let told: Vec<String> =
            led.iter().take(MOST).map(|(client, name)| format!("{name} (asked by {client})")).collect();
        let more = if led.len() > MOST { ", ..." } else { "" };
        (!told.is_empty()).then(|| {
            format!(
                "documented names lead to no machine (0.0.0.0, ::, loopback), as a DNS filter has it: {}{more}. What they are for does \
                 not work, and no flow shows it",
                told.join(", ")
            )
        })
    }

    fn unexpected_resolvers(&mut self) {
        let site = self.case.site;
        if !site.resolvers_listed() {
            return;
        }
        let mut asked: BTreeMap<IpAddr, Asked<'_>> = BTreeMap::new();
        for query in self.case.ledger.untrusted_queries() {
            if site.is_resolver(query.resolver) || !self.classifier.is_subject(site.roles_of(query.client.ip))
            {
                continue;
            }
            let time = query.point.time;
            let asked = asked.entry(query.resolver).or_insert_with(|| Asked {
                clients: BTreeSet::new(),
                over: BTreeSet::new(),
                name: query.name,
                count: 0,
                first: time,
                last: time,
                points: Vec::new(),
            });
            asked.clients.insert(query.client.ip);
            asked.over.insert(query.transport);
            asked.count += 1;
            (asked.first, asked.last) = (asked.first.min(time), asked.last.max(time));
            if asked.points.len() < Finding::MOST_EVIDENCE {
                asked.points.push(query.point);
            }
        }
        for (resolver, asked) in asked {
            let roles = asked.clients.iter().map(|&client| site.roles_of(client));
            let roles = roles.fold(RoleSet::default(), RoleSet::union).words(self.case.matrix);
            let number = asked.clients.len();
            let client = asked.clients.first().filter(|_| number == 1).copied();
            let who = match client {
                Some(client) => format!("{} {client} asks", roles.join("+")),
                None => format!("{number} addresses of {} ask", roles.join("+")),
            };
            let mut finding = findings::note(
                Code::UnexpectedResolver,
                format!("{who} {resolver}, which the site does not list as a resolver"),
                self.frames(&asked.points),
            );
            finding.from = Party { roles, ip: client, ..Party::default() };
            let proto = asked.over.first().filter(|_| asked.over.len() == 1).copied();
            finding.to = Party { ip: Some(resolver), port: Some(53), proto, ..Party::default() };
            finding.count = asked.count;
            (finding.first_ts, finding.last_ts) = (Some(asked.first), Some(asked.last));
            finding.details.push(format!("first asked for {}", asked.name));
            if let Some(clients) = reach::listed(&asked.clients, usize::MAX) {
                finding.details.push(format!("asked by: {clients}"));
            }
            if proto.is_none() {
                finding.details.push("over UDP and TCP".to_owned());
            }
            finding.display_filter = Some(format!("dns && {} == {resolver}", address_field(resolver)));
            self.findings.add(finding);
        }
    }

    fn frames(&self, points: &[FramePoint]) -> Vec<EvidenceFrame> {
        points.iter().map(|point| self.findings.frame(*point)).collect()
    }

    fn unsolicited(&mut self) {
        let ledger = self.case.ledger;
        let site = self.case.site;
        for answer in ledger.unsolicited_answers() {
            let roles = site.roles_of(answer.client.ip);
            if !self.classifier.is_subject(roles) {
                continue;
            }
            let roles = roles.words(self.case.matrix);
            let name = answer.names.first().cloned();
            let stem = Stem {
                code: Code::UnsolicitedAnswer,
                severity: Code::UnsolicitedAnswer.severity(),
                to: name.as_ref().map_or_else(|| answer.resolver.to_string(), ToString::to_string),
                port: Some(53),
                proto: Some(answer.transport),
                rules: Vec::new(),
            };
            let title = format!(
                "{} answers {} for {}, which sent no such query",
                answer.resolver,
                roles.join("+"),
                name.as_ref().map_or(".", DomainName::as_str)
            );
            let stem = self.findings.stem(stem);
            let draft = self.findings.draft(stem, Some(answer.host), || {
                let mut finding = findings::note(Code::UnsolicitedAnswer, title, Vec::new());
                finding.count = 0;
                finding.from = Party { roles, ip: Some(answer.client.ip), ..Party::default() };
                finding.to = Party {
                    ip: Some(answer.resolver),
                    name,
                    port: Some(53),
                    proto: Some(answer.transport),
                    ..Party::default()
                };
                finding.display_filter = Some(format!(
                    "dns.flags.response == 1 && {} == {}",
                    address_field(answer.client.ip),
                    answer.client.ip
                ));
                finding
            });
            draft.count(answer.point.time, answer.point.time);
            draft.cite([answer.point]);
        }
    }

    /// A name documented for the asking role (or inferred for its tag) that is refused, fails, or stays without answer.
    fn blocked_names(&mut self) {
        let (ledger, site) = (self.case.ledger, self.case.site);
        // Which names matter is found once for each name and set of roles; of all others nothing is kept. The ledger has
        // each name once, so that its place in memory stands for it.
        let at = |name: &DomainName| name.as_str().as_ptr().addr();
        let mut documented: Documented = HashMap::default();
        // Nearly all names are answered and never refused, or no rule gives them: they are told apart first, and nothing else is
        // asked of them.
        let is_documented =
            |name: &DomainName| !self.classifier.rules_naming(RoleSet::EVERY, name).is_empty();
        let troubled = ledger.troubled(|rcode| blocking(rcode).is_some(), is_documented, SILENCE_NANOS);
        if troubled.is_empty() {
            return;
        }
        let mut places = Places::default();
        let mut lookups: Vec<(IpAddr, &DomainName, Lookup)> = Vec::new();
        for query in ledger.queries_for(&troubled) {
            places.entry((query.host, at(query.name))).or_insert_with(|| {
                let roles = site.roles_of(query.client.ip);
                let rules = documented.entry((roles, at(query.name))).or_insert_with(|| {
                    let rules = self.classifier.rules_naming(roles, query.name);
                    (!rules.is_empty()).then(|| rules.into())
                });
                let rules = rules.clone()?;
                lookups.push((query.host, query.name, Lookup::new(query.client.ip, rules)));
                Some(lookups.len() - 1)
            });
        }
        if lookups.is_empty() {
            return;
        }
        let place_of = |host: IpAddr, name: &DomainName| places.get(&(host, at(name))).copied().flatten();
        let take = |answer: Answer<'_>, lookups: &mut [(IpAddr, &DomainName, Lookup)]| {
            let place = answer.names.first().and_then(|name| place_of(answer.host, name));
            if let Some((.., lookup)) = place.and_then(|place| lookups.get_mut(place)) {
                lookup.answer(&answer);
            }
        };
        let mut answers = ledger.answers_for(&troubled).peekable();
        for query in ledger.queries_for(&troubled) {
            while let Some(earlier) = answers.next_if(|answer| answer.point < query.point) {
                take(earlier, &mut lookups);
            }
            let place = place_of(query.host, query.name);
            if let Some((.., lookup)) = place.and_then(|place| lookups.get_mut(place)) {
                lookup.query(&query);
            }
        }
        answers.for_each(|later| take(later, &mut lookups));
        lookups.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
        for (host, name, lookup) in lookups {
            self.blocked_name(host, name, lookup);
        }
    }

    fn blocked_name(&mut self, host: IpAddr, name: &DomainName, mut lookup: Lookup) {
        if self.case.ledger.told(host) > 0 {
            lookup.heard.sort_unstable();
            for &query in &lookup.unanswered {
                let until = query.time.plus(SILENCE_NANOS);
                let next = lookup.heard.partition_point(|&time| time < query.time);
                let silent = lookup.heard.get(next).is_none_or(|&time| time > until);
                if silent && self.case.spans.any_within(until, query.time.plus(GOES_ON_NANOS)) {
                    lookup.failed.add(Some(query), None);
                    lookup.why.get_or_insert("no answer");
                }
            }
        }
        let Lookup { client, rules, resolved_in, why, refused_by, failed, .. } = lookup;
        let Some(why) = why else { return };
        for rule in rules.iter() {
            self.coverage.unresolved(rule, format!("its name {name} cannot be resolved: {why}"));
        }
        let roles = self.case.site.roles_of(client).words(self.case.matrix);
        let title = format!("{} {client} asks for {name}: {why}", roles.join("+"));
        let frames = [self.frames(&failed.asked), self.frames(&failed.refused_in)].concat();
        let mut finding = findings::note(Code::NameBlocked, title, frames);
        finding.from = Party { roles: roles.clone(), ip: Some(client), ..Party::default() };
        finding.to = Party { name: Some(name.clone()), port: Some(53), ..Party::default() };
        finding.rules = rules.to_vec();
        finding.count = failed.count;
        (finding.first_ts, finding.last_ts) = failed.range.unzip();
        // Resolvers may spell a name in letters of either case to tell forged answers (draft-vixie-dnsext-dns0x20).
        finding.display_filter = Some(format!("lower(dns.qry.name) == \"{}\"", filter_text(name)));
        if !refused_by.is_empty() {
            let resolvers: Vec<&str> = refused_by.iter().map(String::as_str).collect();
            finding.details.push(format!("answered by {}", resolvers.join(", ")));
        }
        self.findings.add(finding.clone());
        if !resolved_in.is_empty() {
            finding.code = Code::Intermittent;
            finding.severity = Code::Intermittent.severity();
            finding.title =
                format!("{} {client} asks for {name}: resolved at times, {why} at others", roles.join("+"));
            finding.remedy = Code::Intermittent.advice().into();
            let few = |points: &[FramePoint]| {
                self.frames(points.get(..MOST_LOOKUP_FRAMES - RESOLVED_TOLD / 2).unwrap_or(points))
            };
            finding.evidence =
                [few(&failed.asked), few(&failed.refused_in), self.frames(&resolved_in)].concat();
            self.findings.add(finding);
        }
    }
}

impl Lookup {
    fn new(client: IpAddr, rules: Arc<[String]>) -> Self {
        Lookup {
            client,
            rules,
            waiting: VecDeque::new(),
            unanswered: Vec::new(),
            heard: Vec::new(),
            resolved_in: Vec::new(),
            resolved_at: BTreeMap::new(),
            why: None,
            refused_by: BTreeSet::new(),
            failed: Failed::default(),
        }
    }

    fn query(&mut self, query: &Query<'_>) {
        if query.answered {
            self.heard.push(query.point.time);
            if self.waiting.len() >= MOST_WAITING {
                self.waiting.pop_front();
            }
            self.waiting.push_back((query.client, query.qtype, query.point));
        } else if !self.lives(query) {
            self.unanswered.push(query.point);
        }
    }

    /// Whether an answer to another type gave the name an address just before: then what stays without answer is the type (of AAAA and
    /// HTTPS, at many resolvers), and not the name.
    fn lives(&self, query: &Query<'_>) -> bool {
        let since = |&at: &Timestamp| query.point.time.since(at);
        let others = self.resolved_at.iter().filter(|&(&qtype, _)| qtype != query.qtype);
        others.map(|(_, at)| since(at)).any(|nanos| (0..=SILENCE_NANOS).contains(&nanos))
    }

    fn answer(&mut self, answer: &Answer<'_>) {
        self.heard.push(answer.point.time);
        let is_asked = |&(client, qtype, _): &_| (client, qtype) == (answer.client, answer.qtype);
        let asked = self.waiting.iter().rposition(is_asked).and_then(|place| self.waiting.remove(place));
        let asked = asked.map(|(.., point)| point);
        match blocking(answer.rcode) {
            Some(word) => {
                self.why.get_or_insert(word);
                self.refused_by.insert(answer.resolver.to_string());
                self.failed.add(asked, Some(answer.point));
            }
            None if answer.has_addresses => {
                if ADDRESS_TYPES.contains(&answer.qtype) {
                    self.resolved_at.insert(answer.qtype, answer.point.time);
                }
                if self.resolved_in.len() < RESOLVED_TOLD {
                    self.resolved_in.push(answer.point);
                }
            }
            None => {}
        }
    }
}

fn address_field(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "ip.addr" } else { "ipv6.addr" }
}

/// A name inside a quoted display filter: quotes and backslashes escaped.
fn filter_text(name: &DomainName) -> String {
    name.as_str().replace('\\', "\\\\").replace('"', "\\\"")
}
