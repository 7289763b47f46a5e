//! Findings about DNS itself: names that cannot be resolved, answers that nobody asked for, other resolvers.

use super::classify::Classifier;
use super::coverage::CoverageTally;
use super::findings::{self, Findings, Stem};
use super::judge::Case;
use crate::audit::{Code, EvidenceFrame, Finding, Party};
use crate::flow::GOES_ON_NANOS;
use crate::matrix::RoleSet;
use crate::model::{DomainName, FramePoint, Timestamp, Transport};
use crate::names::{Answer, DNS_PATIENCE_NANOS};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// DNS responses that stop a name (RFC 1035, RFC 8499): SERVFAIL, NXDOMAIN, REFUSED.
const BLOCKING_RCODES: [(u16, &str); 3] = [(2, "SERVFAIL"), (3, "NXDOMAIN"), (5, "REFUSED")];

/// Frames of queries, and of refusals, that a finding about a name cites.
const MOST_LOOKUP_FRAMES: usize = 10;

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
    queries: u64,
    first: Timestamp,
    last: Timestamp,
    asked: Vec<FramePoint>,
    any_answered: bool,
    resolved: bool,
    refused: Option<&'static str>,
    refusals: u64,
    refused_in: Vec<FramePoint>,
    refused_by: BTreeSet<String>,
    rules: Arc<[String]>,
}

/// The rules that give a name, if any do, by the roles that ask for it and the name's place in memory.
type Documented = HashMap<(RoleSet, usize), Option<Arc<[String]>>, RandomState>;

/// Queries to one resolver that the site does not list.
struct Asked<'a> {
    client: IpAddr,
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
                client: query.client.ip,
                name: query.name,
                count: 0,
                first: time,
                last: time,
                points: Vec::new(),
            });
            asked.count += 1;
            (asked.first, asked.last) = (asked.first.min(time), asked.last.max(time));
            if asked.points.len() < Finding::MOST_EVIDENCE {
                asked.points.push(query.point);
            }
        }
        for (resolver, asked) in asked {
            let roles = site.roles_of(asked.client).words(self.case.matrix);
            let mut finding = findings::note(
                Code::UnexpectedResolver,
                format!(
                    "{} {} asks {resolver}, which the site does not list as a resolver",
                    roles.join("+"),
                    asked.client
                ),
                self.frames(&asked.points),
            );
            finding.from = Party { roles, ip: Some(asked.client), ..Party::default() };
            finding.to =
                Party { ip: Some(resolver), port: Some(53), proto: Some(Transport::Udp), ..Party::default() };
            finding.count = asked.count;
            (finding.first_ts, finding.last_ts) = (Some(asked.first), Some(asked.last));
            finding.details.push(format!("first asked for {}", asked.name));
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
                proto: Some(Transport::Udp),
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
        // Nearly all names are answered and never refused: they are told apart first, and nothing else is asked of them.
        let troubled = ledger.troubled(|rcode| blocking(rcode).is_some());
        if troubled.is_empty() {
            return;
        }
        let mut places: HashMap<(IpAddr, usize), Option<usize>, RandomState> = HashMap::default();
        let mut lookups: Vec<(IpAddr, &DomainName, Lookup)> = Vec::new();
        for query in ledger.queries_for(&troubled) {
            let time = query.point.time;
            let place = *places.entry((query.host, at(query.name))).or_insert_with(|| {
                let roles = site.roles_of(query.client.ip);
                let rules = documented.entry((roles, at(query.name))).or_insert_with(|| {
                    let rules = self.classifier.rules_naming(roles, query.name);
                    (!rules.is_empty()).then(|| rules.into())
                });
                let rules = rules.clone()?;
                lookups.push((query.host, query.name, Lookup::new(query.client.ip, time, rules)));
                Some(lookups.len() - 1)
            });
            let Some((_, _, lookup)) = place.and_then(|place| lookups.get_mut(place)) else { continue };
            lookup.queries += 1;
            lookup.last = lookup.last.max(time);
            lookup.any_answered |= query.answered;
            if lookup.asked.len() < MOST_LOOKUP_FRAMES {
                lookup.asked.push(query.point);
            }
        }
        if lookups.is_empty() {
            return;
        }
        for answer in ledger.answers_for(&troubled) {
            let Some(name) = answer.names.first() else { continue };
            let place = places.get(&(answer.host, at(name))).copied().flatten();
            if let Some((_, _, lookup)) = place.and_then(|place| lookups.get_mut(place)) {
                lookup.answer(&answer);
            }
        }
        lookups.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
        for (host, name, lookup) in lookups {
            self.blocked_name(host, name, &lookup);
        }
    }

    fn blocked_name(&mut self, host: IpAddr, name: &DomainName, lookup: &Lookup) {
        let (first, client, rules) = (lookup.first, lookup.client, &lookup.rules);
        let silent = !lookup.any_answered
            && self.case.ledger.told(host) > 0
            && self.case.spans.any_within(first.plus(DNS_PATIENCE_NANOS), first.plus(GOES_ON_NANOS));
        let why = match lookup.refused {
            Some(word) => word,
            None if silent => "no answer",
            None => return,
        };
        for rule in rules.iter() {
            self.coverage.unresolved(rule, format!("its name {name} cannot be resolved: {why}"));
        }
        let roles = self.case.site.roles_of(client).words(self.case.matrix);
        let frames = [self.frames(&lookup.asked), self.frames(&lookup.refused_in)].concat();
        let mut finding = findings::note(
            Code::NameBlocked,
            format!("{} {client} asks for {name}: {why}", roles.join("+")),
            frames,
        );
        finding.from = Party { roles: roles.clone(), ip: Some(client), ..Party::default() };
        finding.to = Party { name: Some(name.clone()), port: Some(53), ..Party::default() };
        finding.rules = rules.to_vec();
        finding.count = lookup.refusals.max(if silent { lookup.queries } else { 0 });
        (finding.first_ts, finding.last_ts) = (Some(first), Some(lookup.last));
        finding.display_filter = Some(format!("dns.qry.name == \"{}\"", filter_text(name)));
        if !lookup.refused_by.is_empty() {
            let resolvers: Vec<&str> = lookup.refused_by.iter().map(String::as_str).collect();
            finding.details.push(format!("answered by {}", resolvers.join(", ")));
        }
        self.findings.add(finding.clone());
        if lookup.resolved {
            finding.code = Code::Intermittent;
            finding.severity = Code::Intermittent.severity();
            finding.title =
                format!("{} {client} asks for {name}: resolved at times, {why} at others", roles.join("+"));
            finding.remedy = Code::Intermittent.advice().into();
            self.findings.add(finding);
        }
    }
}

impl Lookup {
    fn new(client: IpAddr, time: Timestamp, rules: Arc<[String]>) -> Self {
        Lookup {
            client,
            queries: 0,
            first: time,
            last: time,
            asked: Vec::new(),
            any_answered: false,
            resolved: false,
            refused: None,
            refusals: 0,
            refused_in: Vec::new(),
            refused_by: BTreeSet::new(),
            rules,
        }
    }

    fn answer(&mut self, answer: &Answer<'_>) {
        match blocking(answer.rcode) {
            Some(word) => {
                self.refused.get_or_insert(word);
                self.refusals += 1;
                self.refused_by.insert(answer.resolver.to_string());
                if self.refused_in.len() < MOST_LOOKUP_FRAMES {
                    self.refused_in.push(answer.point);
                }
            }
            None => self.resolved |= answer.has_addresses,
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
