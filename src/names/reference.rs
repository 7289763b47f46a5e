//! The ledger as plainly as its rules can be written: every message kept whole, every list walked. Tests hold the ledger
//! against it.

use super::ledger::{LATE_ANSWER_NANOS, MOST_ALIASES, MOST_JOINED, Reading, had_begun};
use super::observation::DnsObservation;
use crate::model::{DomainName, Endpoint, FramePoint, NANOS_PER_SECOND, Timestamp, Transport};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// One response, and what it may say.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// Where it stands in the evidence.
    pub(super) point: FramePoint,
    /// The host that was told, by the address that stands for it.
    pub(super) host: IpAddr,
    /// The very address that asked.
    pub(super) client: Endpoint,
    /// Who told.
    pub(super) resolver: IpAddr,
    /// Whether the resolver is one that the site trusts.
    pub(super) trusted: bool,
    /// Whether it matches a query of that host.
    pub(super) matched: bool,
    /// Whether its query got more answers than it had transmissions, with different addresses.
    pub(super) contested: bool,
    /// Response code.
    pub(super) rcode: u16,
    /// Type asked for.
    pub(super) qtype: u16,
    /// The name asked for and the aliases reached from it, in order.
    pub(super) names: Vec<DomainName>,
    /// The addresses reached, with their time to live in seconds.
    pub(super) addresses: Vec<(IpAddr, u32)>,
    /// Whether only part of the message could be read.
    pub(super) salvaged: bool,
}

impl Answer {
    /// Whether it may name an address: matched, and from a trusted resolver.
    fn names_something(&self) -> bool {
        self.matched && self.trusted
    }
}

/// One query.
#[derive(Clone, Debug)]
pub(super) struct Query {
    /// Where it stands in the evidence.
    pub(super) point: FramePoint,
    /// The host that asked.
    pub(super) host: IpAddr,
    /// The very address that asked.
    pub(super) client: Endpoint,
    /// Who was asked.
    pub(super) resolver: IpAddr,
    /// The name asked for.
    pub(super) name: DomainName,
    /// The type asked for.
    pub(super) qtype: u16,
    /// Whether an answer to it was seen.
    pub(super) answered: bool,
}

/// All DNS evidence, by host.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    answers: Vec<Answer>,
    queries: Vec<Query>,
    /// (host, address) to answers that hold it, ascending by point; of any standing.
    by_address: BTreeMap<(IpAddr, IpAddr), Vec<usize>>,
    /// (host, address) to the chains that answers which may name something gave it.
    by_chain: BTreeMap<(IpAddr, IpAddr), BTreeMap<Vec<DomainName>, Told>>,
    /// (host, target) to the names before the target in chains that reach it as an alias, and since when.
    by_alias: BTreeMap<(IpAddr, DomainName), BTreeMap<Vec<DomainName>, FramePoint>>,
    /// Those to which more names lead than are kept.
    more_aliases: BTreeSet<(IpAddr, DomainName)>,
    /// (host, name) to answers that asked for the name or reached it.
    by_name: BTreeMap<(IpAddr, DomainName), Vec<usize>>,
    /// Hosts of which queries are seen.
    asking: BTreeSet<IpAddr>,
    /// Hosts that got matched answers.
    told: BTreeMap<IpAddr, u64>,
    /// Clients and resolvers between which no answer is matched, and some are unsolicited.
    forged: BTreeSet<(Endpoint, IpAddr)>,
    begins: Arc<[Timestamp]>,
}

/// The answers that gave one address under one chain: a host asks the same thing thousands of times.
#[derive(Debug, Default)]
struct Told {
    /// Ascending by point.
    answers: Vec<usize>,
    /// The first whose query is not contested.
    uncontested: Option<Timestamp>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Question {
    client: Endpoint,
    resolver: Endpoint,
    transport: Transport,
    id: u16,
    name: Option<DomainName>,
    qtype: u16,
}

#[derive(Default)]
struct Exchange {
    queries: Vec<usize>,
    answers: Vec<usize>,
    /// Answers that came before any query.
    early: Vec<usize>,
    contested: bool,
}

impl Ledger {
    /// From all DNS messages. `host_of` gives the address that stands for a host, `trusted` tells the resolvers that count,
    /// `begins` are the times at which the captures begin.
    pub(super) fn new(
        observations: &[DnsObservation],
        host_of: &dyn Fn(IpAddr) -> IpAddr,
        trusted: &dyn Fn(IpAddr) -> bool,
        begins: Arc<[Timestamp]>,
    ) -> Self {
        let mut ordered: Vec<&DnsObservation> = observations.iter().collect();
        ordered.sort_by_key(|observation| observation.point);
        let mut ledger = Ledger { begins, ..Ledger::default() };
        let mut exchanges: BTreeMap<Question, Exchange> = BTreeMap::new();
        for observation in ordered {
            let message = &observation.message;
            let question = Question {
                client: observation.client,
                resolver: observation.resolver,
                transport: observation.transport,
                id: message.id,
                name: message.qname.clone(),
                qtype: message.qtype,
            };
            let host = host_of(observation.client.ip);
            if message.response {
                let exchange = exchanges.entry(question).or_default();
                if exchange.queries.is_empty() {
                    exchange.early.push(ledger.answers.len());
                }
                let exchange = Some(exchange).filter(|exchange| !exchange.queries.is_empty());
                let reached = message.reached();
                let index = ledger.answers.len();
                ledger.answers.push(Answer {
                    point: observation.point,
                    host,
                    client: observation.client,
                    resolver: observation.resolver.ip,
                    trusted: trusted(observation.resolver.ip),
                    matched: exchange.is_some(),
                    contested: false,
                    rcode: message.rcode,
                    qtype: message.qtype,
                    names: reached.names,
                    addresses: reached.addresses.iter().map(|record| (record.ip, record.ttl)).collect(),
                    salvaged: message.salvaged,
                });
                if let Some(exchange) = exchange {
                    ledger.answer(exchange, index);
                }
            } else if let Some(name) = message.qname.clone() {
                ledger.asking.insert(host);
                let exchange = exchanges.entry(question).or_default();
                exchange.queries.push(ledger.queries.len());
                ledger.queries.push(Query {
                    point: observation.point,
                    host,
                    client: observation.client,
                    resolver: observation.resolver.ip,
                    name,
                    qtype: message.qtype,
                    answered: false,
                });
                // Answers that are dated before the first query, and were taken after it.
                for index in std::mem::take(&mut exchange.early) {
                    let point = ledger.answers[index].point;
                    if exchange.queries.len() == 1 && point.is_behind(observation.point) {
                        ledger.answers[index].matched = true;
                        ledger.answer(exchange, index);
                    }
                }
            }
        }
        for exchange in exchanges.values().filter(|exchange| exchange.contested) {
            for &index in &exchange.answers {
                ledger.answers[index].contested = true;
            }
        }
        ledger.index();
        ledger
    }

    fn index(&mut self) {
        let pair = |answer: &Answer| (answer.client, answer.resolver);
        let matched: BTreeSet<_> = self.answers.iter().filter(|answer| answer.matched).map(pair).collect();
        let forged = self.answers.iter().filter(|answer| self.is_unsolicited(answer)).map(pair);
        self.forged = forged.filter(|pair| !matched.contains(pair)).collect();
        for (index, answer) in self.answers.iter().enumerate() {
            for &(ip, _) in &answer.addresses {
                let list = self.by_address.entry((answer.host, ip)).or_default();
                if list.last() == Some(&index) {
                    continue;
                }
                list.push(index);
                if answer.names_something() && !answer.names.is_empty() {
                    let chains = self.by_chain.entry((answer.host, ip)).or_default();
                    let told = chains.entry(answer.names.clone()).or_default();
                    told.answers.push(index);
                    if !answer.contested {
                        told.uncontested.get_or_insert(answer.point.time);
                    }
                }
            }
            if answer.matched {
                *self.told.entry(answer.host).or_default() += 1;
            }
            for (place, name) in answer.names.iter().enumerate() {
                self.by_name.entry((answer.host, name.clone())).or_default().push(index);
                if place > 0 && answer.names_something() {
                    let before = self.by_alias.entry((answer.host, name.clone())).or_default();
                    let prefix = answer.names[..place].to_vec();
                    if before.len() < MOST_ALIASES || before.contains_key(&prefix) {
                        before.entry(prefix).or_insert(answer.point);
                    } else {
                        self.more_aliases.insert((answer.host, name.clone()));
                    }
                }
            }
        }
    }

    /// Counts an answer to what was asked.
    fn answer(&mut self, exchange: &mut Exchange, index: usize) {
        exchange.answers.push(index);
        if exchange.answers.len() > exchange.queries.len() && !exchange.contested {
            let set = |index: &usize| -> BTreeSet<IpAddr> {
                self.answers[*index].addresses.iter().map(|(ip, _)| *ip).collect()
            };
            let newest = set(&index);
            exchange.contested = exchange.answers.iter().any(|other| set(other) != newest);
        }
        for &query in &exchange.queries {
            self.queries[query].answered = true;
        }
    }

    /// All answers, in order.
    pub(super) fn answers(&self) -> &[Answer] {
        &self.answers
    }

    /// All queries, in order.
    pub(super) fn queries(&self) -> &[Query] {
        &self.queries
    }

    /// How many matched answers a host got.
    pub(super) fn told(&self, host: IpAddr) -> u64 {
        self.told.get(&host).copied().unwrap_or_default()
    }

    fn at(&self, host: IpAddr, ip: IpAddr) -> impl DoubleEndedIterator<Item = &Answer> {
        self.by_address.get(&(host, ip)).into_iter().flatten().map(|&index| &self.answers[index])
    }

    /// The chains by which `host` knew `ip` when a flow began at `time`, newest first, each once. Answers that came
    /// within [`LATE_ANSWER_NANOS`] afterwards count only where none came before.
    pub(super) fn readings(&self, host: IpAddr, ip: IpAddr, time: Timestamp) -> Vec<Reading<'_>> {
        let Some(chains) = self.by_chain.get(&(host, ip)) else { return Vec::new() };
        let until = |told: &Told, end: Timestamp| {
            told.answers.partition_point(|&index| self.answers[index].point.time <= end)
        };
        let late = chains.values().all(|told| until(told, time) == 0);
        let end = if late { time.plus(LATE_ANSWER_NANOS) } else { time };
        // Of each chain the newest answer counts, and the oldest: an alias told in between gives it further names.
        let mut answers: Vec<(usize, &Told)> = Vec::new();
        for told in chains.values() {
            let count = until(told, end);
            answers.extend(told.answers[..count].last().map(|&index| (index, told)));
            answers.extend(
                told.answers[..count.min(1)].first().filter(|_| count > 1).map(|&index| (index, told)),
            );
        }
        answers.sort_unstable_by_key(|&(index, _)| std::cmp::Reverse(index));
        let mut readings: Vec<Reading<'_>> = Vec::new();
        let mut known: BTreeMap<Vec<DomainName>, usize> = BTreeMap::new();
        for (index, told) in answers {
            let answer = &self.answers[index];
            let ttl = answer.addresses.iter().find(|(address, _)| *address == ip).map_or(0, |(_, ttl)| *ttl);
            let expired = time.since(answer.point.time) > i64::from(ttl) * NANOS_PER_SECOND;
            // An uncontested answer of before is not touched by a newer contest.
            let contested = told.uncontested.is_none_or(|first| first > end);
            for names in self.joined(answer) {
                if let Some(&index) = known.get(&names) {
                    readings[index].contested &= contested;
                } else {
                    known.insert(names.clone(), readings.len());
                    let salvaged = answer.salvaged;
                    let names = names.into_iter().collect();
                    let point = answer.point;
                    readings.push(Reading { names, chain: None, point, expired, late, contested, salvaged });
                }
            }
        }
        readings
    }

    /// The chain of an answer, with what earlier answers to the same host put before it: an alias a -> b told before lets an
    /// answer for b name the address a.
    fn joined(&self, answer: &Answer) -> Vec<Vec<DomainName>> {
        let mut done: BTreeSet<Vec<DomainName>> = BTreeSet::new();
        let mut open = vec![answer.names.clone()];
        let (mut steps, mut more) = (0, false);
        while let Some(chain) = open.pop() {
            let Some(first) = chain.first() else { continue };
            more |= self.more_aliases.contains(&(answer.host, first.clone()));
            let before = self.by_alias.get(&(answer.host, first.clone()));
            let mut extended = false;
            for (prefix, since) in before.into_iter().flatten() {
                let apart = !prefix.iter().any(|name| chain.contains(name));
                if *since >= answer.point || !apart {
                    continue;
                }
                if steps >= MOST_JOINED {
                    more = true;
                    continue;
                }
                let longer: Vec<DomainName> = prefix.iter().chain(&chain).cloned().collect();
                extended = true;
                if !open.contains(&longer) && !done.contains(&longer) {
                    steps += 1;
                    open.push(longer);
                }
            }
            if !extended {
                done.insert(chain);
            }
        }
        if more {
            done.insert(Vec::new());
        }
        done.into_iter().collect()
    }

    /// Whether `host` was ever told `ip` for `name` by a trusted, matched answer.
    pub(super) fn ever_named(&self, host: IpAddr, name: &DomainName, ip: IpAddr) -> bool {
        let chains = self.by_chain.get(&(host, ip)).into_iter().flat_map(BTreeMap::values);
        let ends = chains.flat_map(|told| told.answers.first().into_iter().chain(told.answers.last()));
        let mut joined = ends.flat_map(|&index| self.joined(&self.answers[index]));
        joined.any(|chain| chain.contains(name))
    }

    /// Whether, at `time`, an answer for `name` within its time to live gave `host` addresses of `ip`'s family.
    pub(super) fn told_otherwise(
        &self,
        host: IpAddr,
        name: &DomainName,
        ip: IpAddr,
        time: Timestamp,
    ) -> bool {
        let answers = self.by_name.get(&(host, name.clone()));
        answers.into_iter().flatten().map(|&index| &self.answers[index]).any(|answer| {
            answer.names_something()
                && answer.point.time <= time
                && answer.addresses.iter().any(|(other, ttl)| {
                    other.is_ipv4() == ip.is_ipv4()
                        && *other != ip
                        && time.since(answer.point.time) <= i64::from(*ttl) * NANOS_PER_SECOND
                })
        })
    }

    /// The first answer from an untrusted resolver that gave `host` this address, no later than a late answer may be.
    pub(super) fn untrusted(&self, host: IpAddr, ip: IpAddr, time: Timestamp) -> Option<&Answer> {
        self.at(host, ip).find(|answer| {
            answer.matched && !answer.trusted && answer.point.time.since(time) <= LATE_ANSWER_NANOS
        })
    }

    /// Whether an answer is unsolicited: it matches no query, though the captures show this host's queries, and they had
    /// begun 5 s before.
    pub(super) fn is_unsolicited(&self, answer: &Answer) -> bool {
        !answer.matched && self.asking.contains(&answer.host) && had_begun(&self.begins, answer.point.time)
    }

    /// Whether everything that `resolver` sent to `client` are answers to nothing, though the captures show the queries of
    /// this host.
    pub(super) fn only_forged(&self, client: Endpoint, resolver: IpAddr) -> bool {
        self.forged.contains(&(client, resolver))
    }

    /// The first unsolicited answer that gave `host` this address, if no other answer did.
    pub(super) fn only_unsolicited(&self, host: IpAddr, ip: IpAddr) -> Option<&Answer> {
        if self.at(host, ip).any(|answer| answer.matched) {
            return None;
        }
        self.at(host, ip).find(|answer| self.is_unsolicited(answer))
    }
}
