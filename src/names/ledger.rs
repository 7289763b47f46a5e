//! What each host was told: DNS answers matched with their queries, and the names that they give to an address at a
//! time. SEMANTICS section 3.

mod for_names;
mod growing;
mod readings;
#[cfg(test)]
mod tests;
mod troubled;

use super::log::{Body, DnsLog, Entry, NONE, number};
use super::observation::DnsObservation;
use crate::model::{
    BACKWARD_NANOS, ByHash, DomainName, Endpoint, FramePoint, NANOS_PER_SECOND, Timestamp, Transport,
};
use foldhash::fast::RandomState;
use for_names::ForNames;
pub use growing::GrowingLedger;
use hashbrown::{HashMap, HashSet};
pub use readings::{About, Bookmark, Names, Reading};
use serde::{Deserialize, Serialize};
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
pub use troubled::{RESOLVED_TOLD, Troubled};

/// How long after a flow began an answer may still name it: 5 s (SEMANTICS section 3), the time after which stub resolvers
/// repeat a question; a later answer was caused by something else.
pub const LATE_ANSWER_NANOS: i64 = 5 * NANOS_PER_SECOND;

/// How long a query may stay without answer before silence is one, and how long after its start a capture may still show
/// answers whose queries it missed: 5 s.
pub const DNS_PATIENCE_NANOS: i64 = 5 * NANOS_PER_SECOND;

/// Most aliases remembered for one name and host: beyond, a capture is made to be expensive.
pub(super) const MOST_ALIASES: usize = 64;

/// Most chains that are joined for one answer. Resolver caches give one or two; the bound keeps hostile captures linear.
pub(super) const MOST_JOINED: usize = 16;

/// Names that one message gives to its addresses: real chains have fewer than ten.
const MOST_NAMES: usize = 64;

/// One response, and what it may say.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// Where it stands in the evidence.
    pub point: FramePoint,
    /// The host that was told, by the address that stands for it.
    pub host: IpAddr,
    /// The very address that asked.
    pub client: Endpoint,
    /// Who told.
    pub resolver: IpAddr,
    /// Over UDP or TCP.
    pub transport: Transport,
    /// Whether the resolver is one that the site trusts.
    pub trusted: bool,
    /// Whether it matches a query of that host.
    pub matched: bool,
    /// Whether its query got more answers than it had transmissions, with different addresses.
    pub contested: bool,
    /// Whether it matches no query, though the captures show this host's queries, and they had begun 5 s before.
    pub unsolicited: bool,
    /// Response code.
    pub rcode: u16,
    /// Type asked for.
    pub qtype: u16,
    /// The name asked for and the aliases reached from it, in order.
    pub names: &'a [DomainName],
    /// Whether it gives one of these names an address.
    pub has_addresses: bool,
    /// Whether only part of the message could be read.
    pub salvaged: bool,
}

/// One query.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// Where it stands in the evidence.
    pub point: FramePoint,
    /// The host that asked.
    pub host: IpAddr,
    /// The very address that asked.
    pub client: Endpoint,
    /// Who was asked.
    pub resolver: IpAddr,
    /// Over UDP or TCP.
    pub transport: Transport,
    /// The name asked for.
    pub name: &'a DomainName,
    /// The type asked for.
    pub qtype: u16,
    /// Whether an answer to it was seen.
    pub answered: bool,
}

/// A message that is a row of the names table.
#[derive(Clone, Copy)]
pub struct DnsRow<'a> {
    /// Where it stands in the evidence.
    pub point: FramePoint,
    /// Whether it is a response; if not, a query that nobody answered.
    pub response: bool,
    /// Whether it is a response to a query that was seen.
    pub matched: bool,
    log: &'a DnsLog,
    entry: &'a Entry,
}

impl DnsRow<'_> {
    /// The whole message.
    pub fn observation(&self) -> DnsObservation {
        self.log.observation(self.entry)
    }
}

/// A chain of names of one ledger, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChainNumber(u32);

impl ChainNumber {
    /// Its place among the chains of the ledger, counted from 0.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// All DNS evidence, by host. Messages, addresses and names go by their numbers in the log; each hash map is seeded, and
/// none is walked.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Ascending by point.
    log: DnsLog,
    begins: Arc<[Timestamp]>,
    /// By message.
    standing: Vec<Standing>,
    /// By body.
    questions: Vec<Question>,
    /// By body.
    said: Vec<Said>,
    /// Address and time to live, of one body after another: ascending by address, of one address in message order.
    reached: Vec<(u32, u32)>,
    chains: Chains,
    /// By address: what is known of it as a host, or as a resolver.
    parties: Vec<Party>,
    /// What hosts were told, by [`Ledger::share_of`].
    shares: Vec<Share>,
    /// Clients and resolvers between which no answer is matched, and some are unsolicited.
    forged: HashSet<(u32, u16, u32), RandomState>,
    /// Threads that may work for it.
    jobs: usize,
    for_names: OnceLock<ForNames>,
}

/// What some of the hosts were told. All that names rest on is of one host: so hosts are shared out, and each share is found by
/// itself, on any thread.
#[derive(Debug, Default)]
struct Share {
    /// By host and address.
    known_at: HashMap<(u32, u32), u32, RandomState>,
    known: Vec<Known>,
    /// Those of one [`Known`] stand together.
    told: Vec<Told>,
    /// How many the shares before have: where these begin in a [`Bookmark`].
    known_before: usize,
    /// Answers, ascending; those of one [`Told`] stand together.
    told_answers: Vec<u32>,
    /// By host and alias: the names before it in chains that reach it, ascending by names.
    before_at: HashMap<(u32, u32), u32, RandomState>,
    before: Vec<Aliases>,
    /// By name: whether some chain reaches it as an alias. Most names that are asked for never are.
    is_alias: Vec<bool>,
}

/// Shares of hosts for each thread: one host often asks as much as all others together, and whoever has it takes no other. One
/// thread alone has one share: messages are read in their order then, which is faster than small tables are.
const SHARES_A_THREAD: usize = 4;

/// Shares at the most: each thread keeps a list of what messages say, and clears it for each share.
const MOST_SHARES: usize = 64;

/// Messages that are worth being shared out.
const LEAST_SHARED: usize = 1 << 14;

/// Messages by the share of their hosts.
struct Shared {
    /// By share: its part of the list.
    parts: Vec<(u32, u32)>,
    /// Ascending within each part.
    messages: Vec<u32>,
}

impl Shared {
    fn of(&self, share: usize) -> &[u32] {
        self.parts.get(share).map_or(&[], |&part| span(&self.messages, part))
    }

    /// Does some work for each share, the largest first, on several threads; what it came to, in the order of shares.
    fn each<T: Send>(&self, jobs: usize, work: impl Fn(&[u32]) -> T + Sync) -> Vec<T> {
        let mut shares: Vec<usize> = (0..self.parts.len()).collect();
        shares.sort_by_key(|&share| std::cmp::Reverse(self.of(share).len()));
        let next = AtomicUsize::new(0);
        let some = || {
            let mut done = Vec::new();
            while let Some(&share) = shares.get(next.fetch_add(1, Ordering::Relaxed)) {
                done.push((share, work(self.of(share))));
            }
            done
        };
        let mut done = std::thread::scope(|scope| {
            let others: Vec<_> = (1..jobs.min(shares.len())).map(|_| scope.spawn(some)).collect();
            let mut done = some();
            for other in others {
                done.extend(other.join().unwrap_or_else(|panic| resume_unwind(panic)));
            }
            done
        });
        done.sort_by_key(|&(share, _)| share);
        done.into_iter().map(|(_, result)| result).collect()
    }
}

/// What became of a message, and what is asked of all messages again and again: a bit each.
#[derive(Clone, Copy, Debug, Default)]
struct Standing(u8);

impl Standing {
    const RESPONSE: u8 = 1;
    /// It is a query for a name.
    const ASKS: u8 = 1 << 1;
    /// Of a response: it has a query. Of a query: it has an answer.
    const MATCHED: u8 = 1 << 2;
    const CONTESTED: u8 = 1 << 3;
    /// Its resolver counts.
    const TRUSTED: u8 = 1 << 4;
    /// It is a response without query, though the captures show this host's queries, and they had begun 5 s before.
    const UNSOLICITED: u8 = 1 << 5;
    /// Its response code is another than 0.
    const FAILED: u8 = 1 << 6;
    const SALVAGED: u8 = 1 << 7;

    /// Of `bits`, those in `mask` are `all`.
    fn has(self, mask: u8, all: u8) -> bool {
        self.0 & mask == all
    }

    fn bit(self, bit: u8) -> bool {
        self.0 & bit != 0
    }
}

fn bit_if(there: bool, bit: u8) -> u8 {
    if there { bit } else { 0 }
}

/// How many DNS messages there are, and how many of each standing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standings {
    /// Queries for a name.
    pub queries: u64,
    /// Queries without answer.
    pub unanswered: u64,
    /// Responses.
    pub responses: u64,
    /// Responses without a matching query.
    pub unmatched: u64,
    /// Responses from resolvers that do not count: the site does not list them.
    pub untrusted: u64,
    /// Responses whose query got more answers than it had transmissions, with different addresses.
    pub contested: u64,
    /// Responses of which only part could be read.
    pub salvaged: u64,
}

/// What a body asks, or answers: what is looked at for every message stands in eight bytes, so that a processor's cache holds
/// those of a hundred thousand bodies.
#[derive(Clone, Copy, Debug)]
struct Question {
    /// [`NONE`] without question.
    name: u32,
    kind: u16,
    /// What it is by itself.
    standing: Standing,
}

impl Question {
    fn of(body: &Body) -> Self {
        let standing = bit_if(body.response, Standing::RESPONSE)
            | bit_if(!body.response && body.qname != NONE, Standing::ASKS)
            | bit_if(body.rcode != 0, Standing::FAILED)
            | bit_if(body.salvaged, Standing::SALVAGED);
        Question { name: body.qname, kind: body.qtype, standing: Standing(standing) }
    }

    fn is_response(self) -> bool {
        self.standing.bit(Standing::RESPONSE)
    }

    fn asks(self) -> bool {
        self.standing.bit(Standing::ASKS)
    }
}

/// What a body says, as far as it counts.
#[derive(Clone, Copy, Debug)]
struct Said {
    rcode: u16,
    /// Of a response: the names asked for and reached; [`NONE`] if it says none.
    chain: u32,
    /// Where its part of `reached` begins and ends.
    reached: (u32, u32),
}

#[derive(Clone, Copy, Debug)]
struct Party {
    /// The address that stands for the host; [`NONE`] while nobody asked.
    host: u32,
    /// Of a host: whether its queries are seen.
    asking: bool,
    /// Of a host: how many matched answers it got.
    told: u64,
    /// Of a resolver.
    trusted: Option<bool>,
    /// Whether a response gives it to somebody.
    given: bool,
}

/// What a host was told of an address, by answers of any standing.
#[derive(Clone, Debug, Default)]
struct Known {
    matched: bool,
    /// The first matched answer of a resolver that does not count.
    untrusted: Option<u32>,
    unsolicited: Option<u32>,
    /// Where its part of `told` begins and ends.
    told: (u32, u32),
}

/// The answers that gave one host one address under one chain: a host asks the same thing thousands of times.
#[derive(Clone, Copy, Debug)]
struct Told {
    host: u32,
    known: u32,
    chain: u32,
    /// Where its part of `told_answers` begins and ends.
    answers: (u32, u32),
    /// The first whose query is not contested.
    uncontested: Option<Timestamp>,
    /// The list in `before` of the chain's first name; [`NONE`] if no alias leads to it.
    before: u32,
    /// A bit for each name of the chain, see [`bit`].
    bits: u64,
}

/// Of 64 bits one that stands for a name: an address may have hundreds of chains, of which one or two hold a given name.
fn bit(name: u32) -> u64 {
    1 << (name % 64)
}

/// The first names of a chain, and the answer that told them first.
#[derive(Clone, Copy, Debug)]
struct Before {
    chain: u32,
    /// How many names it is, and the first of them: most differ in these already.
    names: u32,
    first: u32,
    since: u32,
}

/// What is put before one name, as one host was told.
#[derive(Debug, Default)]
struct Aliases {
    /// As they came.
    list: Vec<Before>,
    /// A bit for the first name of each: of a new one mostly none is set, and the list need not be looked through.
    firsts: u128,
    /// Whether there were more than are kept.
    more: bool,
    ordered: OnceLock<Box<[Before]>>,
}

impl Aliases {
    /// Ascending by names: they are tried in this order, which matters only where there are too many. Few are ever asked for.
    fn ordered(&self, chains: &Chains) -> &[Before] {
        self.ordered.get_or_init(|| {
            let mut ordered: Box<[Before]> = self.list.clone().into();
            ordered.sort_by_key(|before| before.names(chains.names(before.chain)));
            ordered
        })
    }

    fn add(&mut self, new: Before, chains: &Chains) {
        let first = 1u128 << (new.first % u128::BITS);
        let is_known = || self.firsts & first != 0 && self.list.iter().any(|known| known.is(&new, chains));
        if self.more || is_known() {
            return;
        }
        self.more = self.list.len() >= MOST_ALIASES;
        if !self.more {
            self.list.push(new);
            self.firsts |= first;
            self.ordered.take();
        }
    }
}

impl Before {
    fn names<'n, T>(&self, chain: &'n [T]) -> &'n [T] {
        chain.get(..self.names as usize).unwrap_or_default()
    }

    fn is(&self, other: &Before, chains: &Chains) -> bool {
        (self.names, self.first) == (other.names, other.first)
            && self.names(chains.numbers(self.chain)) == other.names(chains.numbers(other.chain))
    }
}

/// Chains of names by number, each once.
#[derive(Debug, Default)]
struct Chains {
    /// The numbers of all chains' names, one after another.
    numbers: Vec<u32>,
    /// The first of each.
    firsts: Vec<u32>,
    chains: Vec<(Range<usize>, Arc<[DomainName]>)>,
    table: ByHash,
    seed: RandomState,
}

/// Messages that are looked up at once: what is waited for is memory, and a processor waits for that of several at the same time
/// where none waits for another. More than these are not in flight.
const AT_ONCE: usize = 32;

/// Questions and their answers, as far as messages were taken.
#[derive(Debug, Default)]
struct Exchanges {
    list: Vec<Exchange>,
    table: ByHash,
    seed: RandomState,
    /// By message: its exchange, or [`NONE`].
    of: Vec<u32>,
    /// The exchanges that began last, each at the place of its hash. An answer mostly follows its question at once, and what was just
    /// put into the table is not there to be read before memory has come.
    latest: Vec<u32>,
    early: EarlyAnswers,
}

/// Answers whose question did not come before them: one that is dated a little later may have been taken before. Those of the last
/// moments, in two generations of which the older one is dropped as a whole.
#[derive(Debug, Default)]
struct EarlyAnswers {
    /// When the newer one began.
    since: Option<Timestamp>,
    newer: EarlyByQuestion,
    older: EarlyByQuestion,
}

/// By what they answer: the place in [`Exchanges::of`], and the number of the message.
type EarlyByQuestion = HashMap<(u64, u64, u64), Vec<(usize, u32)>, RandomState>;

impl EarlyAnswers {
    fn add(&mut self, asked: (u64, u64, u64), place: usize, at: u32, time: Timestamp) {
        if self.since.is_none_or(|since| time.since(since) > BACKWARD_NANOS) {
            self.since = Some(time);
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.entry(asked).or_default().push((place, at));
    }

    /// Takes those to a question out, in their order.
    fn take(&mut self, asked: (u64, u64, u64)) -> Vec<(usize, u32)> {
        // Hardly ever is there any.
        if self.newer.is_empty() && self.older.is_empty() {
            return Vec::new();
        }
        let mut found = self.older.remove(&asked).unwrap_or_default();
        found.extend(self.newer.remove(&asked).into_iter().flatten());
        found
    }
}

/// How many exchanges that began last are looked at first: those of a busy resolver within the time that it takes to answer.
const LATEST: usize = 1 << 9;

/// What hosts are told, as far as it was heard.
#[derive(Debug, Default)]
struct Hearing {
    teller: Teller,
    /// Answers that count, and what they tell.
    telling_of: Vec<(u32, u32)>,
}

impl Exchange {
    fn asked_by(query: u32) -> Self {
        let (queries, answers) = (0, 0);
        let (mixed, contested) = (false, false);
        Exchange { query, queries, answers, first_body: NONE, last_answer: 0, mixed, contested }
    }

    /// Counts an answer.
    #[inline]
    fn answer(&mut self, ledger: &Ledger, at: u32) {
        let body = ledger.entry(at).body;
        self.answers += 1;
        self.last_answer = at;
        if self.answers == 1 {
            self.first_body = body;
        } else if !self.mixed && self.first_body != body {
            let first = distinct(ledger.reached(self.first_body));
            self.mixed = !first.eq(distinct(ledger.reached(body)));
        }
        self.contested |= self.mixed && self.answers > self.queries;
    }
}

impl Chains {
    fn intern(&mut self, names: &[u32], log: &DnsLog) -> u32 {
        let Chains { numbers, firsts, chains, table, seed } = self;
        let hash = seed.hash_one(names);
        let same = |at: u32| {
            let place = chains.get(at as usize).map(|(place, _)| place.clone());
            place.and_then(|place| numbers.get(place)).is_some_and(|found| found == names)
        };
        if let Some(found) = table.find(hash, same) {
            return found;
        }
        let new = number(chains.len());
        let start = numbers.len();
        numbers.extend_from_slice(names);
        firsts.push(names.first().copied().unwrap_or(NONE));
        let texts = names.iter().filter_map(|&name| log.names().get(name)).cloned().collect();
        chains.push((start..numbers.len(), texts));
        table.insert(hash, new);
        new
    }

    fn numbers(&self, chain: u32) -> &[u32] {
        let place = self.chains.get(chain as usize);
        place.and_then(|(place, _)| self.numbers.get(place.clone())).unwrap_or_default()
    }

    /// The first name of a chain.
    fn first(&self, chain: u32) -> u32 {
        self.firsts.get(chain as usize).copied().unwrap_or(NONE)
    }

    fn names(&self, chain: u32) -> &[DomainName] {
        self.chains.get(chain as usize).map_or(&[], |(_, names)| names)
    }

    fn texts(&self, chain: u32) -> Names<'_> {
        self.chains
            .get(chain as usize)
            .map_or_else(|| Names::Own([].into()), |(_, names)| Names::OfLedger(names))
    }
}

/// The names and addresses that a response's answer section gives for the asked name, as [`super::DnsMessage::reached`]
/// finds them.
fn reached(body: &Body, names: &mut Vec<u32>, addresses: &mut Vec<(u32, u32)>) {
    names.clear();
    if body.qname == NONE || body.opcode != 0 {
        return;
    }
    names.push(body.qname);
    let (mut next, mut more) = (0, false);
    while let Some(&name) = names.get(next) {
        next += 1;
        for &[_, target, _] in body.aliases.iter().filter(|[owner, ..]| *owner == name) {
            if names.contains(&target) {
                continue;
            }
            more |= names.len() >= MOST_NAMES;
            if names.len() < MOST_NAMES {
                names.push(target);
            }
        }
    }
    let from = addresses.len();
    // Where the chain is longer than it is followed, each address may stand at its end.
    let owned = body.addresses.iter().filter(|[owner, ..]| more || names.contains(owner));
    // RFC 2181 section 8: with the highest bit set it is zero.
    let kept = |ttl: u32| if ttl > i32::MAX as u32 { 0 } else { ttl };
    addresses.extend(owned.map(|&[_, ip, ttl]| (ip, kept(ttl))));
    if let Some(own) = addresses.get_mut(from..) {
        own.sort_by_key(|&(ip, _)| ip);
    }
}

/// Whether the capture in which a time lies had begun [`DNS_PATIENCE_NANOS`] before it.
pub(super) fn had_begun(begins: &[Timestamp], time: Timestamp) -> bool {
    let before = begins.partition_point(|&begin| begin <= time);
    begins.get(..before).and_then(<[_]>::last).is_some_and(|&begin| time.since(begin) >= DNS_PATIENCE_NANOS)
}

/// The queries that are one question (same ports, identifier, name, type), and their answers.
#[derive(Debug)]
struct Exchange {
    /// Its first query: what the others are held against.
    query: u32,
    queries: u32,
    answers: u32,
    /// What the first answer says.
    first_body: u32,
    /// What comes before it is answered: a message's number.
    last_answer: u32,
    /// Whether its answers give different addresses.
    mixed: bool,
    contested: bool,
}

/// Values of which neighbours differ.
fn distinct(reached: &[(u32, u32)]) -> impl Iterator<Item = u32> {
    let before = std::iter::once(None).chain(reached.iter().map(|&(ip, _)| Some(ip)));
    reached.iter().zip(before).filter(|((ip, _), before)| *before != Some(*ip)).map(|(&(ip, _), _)| ip)
}

fn span<T>(list: &[T], (from, to): (u32, u32)) -> &[T] {
    list.get(from as usize..to as usize).unwrap_or_default()
}

impl Share {
    /// What hosts were told by messages, which are all of theirs.
    fn of(ledger: &Ledger, messages: &[u32]) -> Self {
        let mut share = Share::default();
        let mut hearing = Hearing::default();
        share.hear(ledger, &mut hearing, messages);
        share.lay_out(ledger, &hearing);
        share
    }

    /// Goes on to take messages, in their order.
    fn hear(&mut self, ledger: &Ledger, hearing: &mut Hearing, messages: &[u32]) {
        let Hearing { teller, telling_of } = hearing;
        // Host, body, hash.
        let mut heard = [(NONE, NONE, 0); AT_ONCE];
        let mut known = [NONE; AT_ONCE];
        let says = |&&at: &&u32| {
            let body = ledger.entry(at).body;
            ledger.standing[at as usize].bit(Standing::RESPONSE) && ledger.said[body as usize].chain != NONE
        };
        let mut telling = messages.iter().filter(says).copied();
        loop {
            let mut some = [NONE; AT_ONCE];
            let mut count = 0;
            for (slot, at) in some.iter_mut().zip(&mut telling) {
                *slot = at;
                count += 1;
            }
            let some = some.get(..count).unwrap_or_default();
            if some.is_empty() {
                return;
            }
            for (&at, heard) in some.iter().zip(&mut heard) {
                let entry = ledger.entry(at);
                let (host, body) = (ledger.host(entry), entry.body);
                *heard = (host, body, teller.seed.hash_one((host, body)));
            }
            for (known, &(.., hash)) in known.iter_mut().zip(&heard).take(count) {
                *known = teller.table.find(hash, |_| true).unwrap_or(NONE);
            }
            for (known, &(host, body, _)) in known.iter_mut().zip(&heard).take(count) {
                let same = |telling: &Telling| (telling.host, telling.body) == (host, body);
                if !teller.tellings.get(*known as usize).is_some_and(same) {
                    *known = NONE;
                }
            }
            for ((&at, &heard), &known) in some.iter().zip(&heard).zip(&known) {
                let telling = if known == NONE { teller.telling(ledger, self, heard) } else { known };
                teller.note(ledger, self, at, telling);
                if ledger.counts(at) {
                    telling_of.push((at, telling));
                }
            }
        }
    }

    /// Puts everything that was taken where it is asked for.
    fn lay_out(&mut self, ledger: &Ledger, hearing: &Hearing) {
        self.gather(ledger, &hearing.teller, &hearing.telling_of);
        for told in &mut self.told {
            let first = ledger.chains.first(told.chain);
            let reached = self.is_alias.get(first as usize).is_some_and(|&is| is);
            let list = if reached { self.before_at.get(&(told.host, first)) } else { None };
            told.before = list.copied().unwrap_or(NONE);
        }
    }

    /// Lays out what was told: of one host and address side by side, and the answers of each side by side.
    fn gather(&mut self, ledger: &Ledger, teller: &Teller, telling_of: &[(u32, u32)]) {
        let Teller { tellings, parts_of, parts, told, .. } = teller;
        let (by_known, order) = grouped(self.known.len(), told.iter().map(|told| told.known).zip(0..));
        for (known, told) in self.known.iter_mut().zip(by_known) {
            known.told = told;
        }
        let mut place_of: Vec<u32> = vec![NONE; told.len()];
        for (&from, place) in order.iter().zip(0..) {
            place_of[from as usize] = place;
        }
        let places: Vec<u32> =
            parts.iter().map(|&(_, told)| place_of.get(told as usize).copied().unwrap_or(NONE)).collect();
        // How many answers each has, then where the next one belongs.
        let mut next: Vec<u32> = vec![0; told.len()];
        for (telling, &part) in tellings.iter().zip(parts_of).filter(|(telling, _)| telling.count > 0) {
            span(&places, part).iter().for_each(|&place| next[place as usize] += telling.count);
        }
        self.told.clear();
        let mut end = 0;
        for (&from, next) in order.iter().zip(&mut next) {
            let begin = end;
            end += std::mem::replace(next, begin);
            self.told.push(Told { answers: (begin, end), ..told[from as usize] });
        }
        let mut list: Vec<u32> = vec![NONE; end as usize];
        let mut found = vec![false; told.len()];
        for &(at, telling) in telling_of {
            let contested = ledger.standing[at as usize].bit(Standing::CONTESTED);
            for &place in span(&places, parts_of[telling as usize]) {
                let next = &mut next[place as usize];
                list[*next as usize] = at;
                *next += 1;
                if !contested && !std::mem::replace(&mut found[place as usize], true) {
                    self.told[place as usize].uncontested = Some(ledger.entry(at).time());
                }
            }
        }
        self.told_answers = list;
    }

    /// Adds to the names that lead to an alias what a chain says, told first by an answer.
    fn add_aliases(&mut self, ledger: &Ledger, host: u32, chain: u32, at: u32) {
        let numbers = ledger.chains.numbers(chain);
        let Some(&first) = numbers.first() else { return };
        for (names, &alias) in numbers.iter().enumerate().skip(1) {
            let place = *self.before_at.entry((host, alias)).or_insert_with(|| {
                let place = alias as usize;
                self.is_alias.resize(self.is_alias.len().max(place + 1), false);
                self.is_alias[place] = true;
                self.before.push(Aliases::default());
                number(self.before.len() - 1)
            });
            let new = Before { chain, names: number(names), first, since: at };
            self.before[place as usize].add(new, &ledger.chains);
        }
    }
}

impl Exchanges {
    /// Goes on to take messages, in their order: all of some hosts.
    fn take(&mut self, ledger: &Ledger, messages: &[u32]) {
        if self.list.is_empty() {
            let queries = messages.iter().filter(|&&at| ledger.question(ledger.entry(at)).asks()).count();
            (self.list, self.table) = (Vec::with_capacity(queries), ByHash::with_capacity(queries));
        }
        self.latest.resize(LATEST, NONE);
        self.of.reserve(messages.len());
        let mut asked = [((0, 0, 0), 0); AT_ONCE];
        let mut known = [NONE; AT_ONCE];
        for messages in messages.chunks(AT_ONCE) {
            for (&at, (asked, hash)) in messages.iter().zip(&mut asked) {
                *asked = ledger.asked(ledger.entry(at));
                *hash = self.seed.hash_one(*asked);
            }
            for (known, &(_, hash)) in known.iter_mut().zip(&asked).take(messages.len()) {
                *known = self.table.find(hash, |_| true).unwrap_or(NONE);
            }
            for (known, &(asked, _)) in known.iter_mut().zip(&asked).take(messages.len()) {
                let same = |exchange: &Exchange| ledger.asked(ledger.entry(exchange.query)) == asked;
                if !self.list.get(*known as usize).is_some_and(same) {
                    *known = NONE;
                }
            }
            for ((&at, &asked), &known) in messages.iter().zip(&asked).zip(&known) {
                let place = self.one(ledger, at, asked, known);
                self.of.push(place);
            }
        }
    }

    /// Takes one message; `known` is its exchange, if that was found already. What it came to.
    #[inline]
    fn one(&mut self, ledger: &Ledger, at: u32, (asked, hash): ((u64, u64, u64), u64), known: u32) -> u32 {
        let Exchanges { list, table, latest, early, of, .. } = self;
        let entry = ledger.entry(at);
        let question = ledger.question(entry);
        let response = question.is_response();
        if !response && !question.asks() {
            return NONE;
        }
        let same = |place: u32| {
            list.get(place as usize)
                .is_some_and(|exchange| ledger.asked(ledger.entry(exchange.query)) == asked)
        };
        let late = &mut latest[hash as usize % LATEST];
        let found = if known != NONE {
            Some(known)
        } else if same(*late) {
            Some(*late)
        } else {
            table.find(hash, same)
        };
        let place = match found {
            Some(place) => place,
            None if response => {
                early.add(asked, of.len(), at, entry.time());
                return NONE;
            }
            None => {
                let new = number(list.len());
                list.push(Exchange::asked_by(at));
                table.insert(hash, new);
                *late = new;
                new
            }
        };
        let exchange = &mut list[place as usize];
        if response {
            exchange.answer(ledger, at);
            return place;
        }
        exchange.queries += 1;
        if exchange.queries == 1 {
            let asked_at = entry.point();
            for (before, answer) in early.take(asked) {
                let point = ledger.entry(answer).point();
                if point.is_behind(asked_at) {
                    exchange.answer(ledger, answer);
                    exchange.last_answer = at + 1;
                    of[before] = place;
                }
            }
        }
        place
    }

    /// The standing of all messages that were taken.
    fn standings(&self, ledger: &Ledger, messages: impl Iterator<Item = u32>) -> Vec<Standing> {
        let standings = messages.zip(&self.of).map(|(at, &place)| {
            let entry = ledger.entry(at);
            let Standing(bits) = ledger.question(entry).standing;
            let response = bits & Standing::RESPONSE != 0;
            let exchange = self.list.get(place as usize);
            let matched = exchange
                .is_some_and(|exchange| response || (exchange.answers > 0 && at < exchange.last_answer));
            let unsolicited = response
                && !matched
                && ledger.parties[ledger.host(entry) as usize].asking
                && had_begun(&ledger.begins, entry.time());
            Standing(
                bits | bit_if(matched, Standing::MATCHED)
                    | bit_if(response && exchange.is_some_and(|e| e.contested), Standing::CONTESTED)
                    | bit_if(ledger.trusts(entry), Standing::TRUSTED)
                    | bit_if(unsolicited, Standing::UNSOLICITED),
            )
        });
        standings.collect()
    }
}

impl Ledger {
    /// From all DNS messages. `host_of` gives the address that stands for a host, `trusted` tells the resolvers that count,
    /// `begins` are the times at which the captures begin, ascending ([`Spans::begins`](crate::model::Spans::begins)).
    pub fn new(
        log: DnsLog,
        host_of: &dyn Fn(IpAddr) -> IpAddr,
        trusted: &dyn Fn(IpAddr) -> bool,
        begins: Arc<[Timestamp]>,
    ) -> Self {
        Ledger::on_threads(log, host_of, trusted, begins, 1)
    }

    /// The same, made by so many threads.
    pub fn on_threads(
        log: DnsLog,
        host_of: &dyn Fn(IpAddr) -> IpAddr,
        trusted: &dyn Fn(IpAddr) -> bool,
        begins: Arc<[Timestamp]>,
        jobs: usize,
    ) -> Self {
        let shares =
            if jobs < 2 || log.len() < LEAST_SHARED { 1 } else { (jobs * SHARES_A_THREAD).min(MOST_SHARES) };
        Ledger::of_shares(log, (host_of, trusted), begins, (shares, jobs))
    }

    fn of_shares(
        mut log: DnsLog,
        (host_of, trusted): (&dyn Fn(IpAddr) -> IpAddr, &dyn Fn(IpAddr) -> bool),
        begins: Arc<[Timestamp]>,
        (shares, jobs): (usize, usize),
    ) -> Self {
        log.sort();
        let mut ledger = Ledger { log, begins, jobs, ..Ledger::default() };
        ledger.read_bodies();
        ledger.meet_parties(0, host_of, trusted);
        let shared = ledger.shared(shares);
        ledger.stand(&shared, jobs);
        ledger.find_forged();
        ledger.tell(&shared, jobs);
        ledger
    }

    fn shared(&self, shares: usize) -> Shared {
        let all = 0..number(self.log.len());
        if shares == 1 {
            return Shared { parts: vec![(all.start, all.end)], messages: all.collect() };
        }
        let share = |entry: &Entry| number(self.host(entry) as usize % shares);
        let (parts, messages) = grouped(shares, self.log.entries().iter().map(share).zip(all));
        Shared { parts, messages }
    }

    /// The number of the share that knows what a host was told.
    fn share_of(&self, host: u32) -> Option<usize> {
        (host as usize).checked_rem(self.shares.len())
    }

    /// Reads what messages say, as far as that was not read yet.
    fn read_bodies(&mut self) {
        let Ledger { log, questions, said, reached: addresses, chains, .. } = self;
        let mut names = Vec::new();
        log.each_body_since(said.len(), |body| {
            let from = addresses.len();
            let mut chain = NONE;
            if body.response {
                reached(body, &mut names, addresses);
                if !names.is_empty() {
                    chain = chains.intern(&names, log);
                }
            }
            questions.push(Question::of(body));
            said.push(Said { rcode: body.rcode, chain, reached: (number(from), number(addresses.len())) });
        });
    }

    /// Asks once per address which host it is, and whether it counts as a resolver: of the messages behind the first `count`.
    fn meet_parties(
        &mut self,
        count: usize,
        host_of: &dyn Fn(IpAddr) -> IpAddr,
        trusted: &dyn Fn(IpAddr) -> bool,
    ) {
        let stranger = Party { host: NONE, asking: false, told: 0, trusted: None, given: false };
        self.parties.resize(self.log.addresses().len(), stranger);
        for at in count..self.log.len() {
            let entry = self.log.entries()[at];
            let ip = |number: u32| self.log.addresses().get(number).unwrap_or(IpAddr::V4([0; 4].into()));
            let resolver = &mut self.parties[entry.resolver as usize];
            if resolver.trusted.is_none() {
                resolver.trusted = Some(trusted(ip(entry.resolver)));
            }
            let mut host = self.parties[entry.client as usize].host;
            if host == NONE {
                host = {
                    let ip = host_of(ip(entry.client));
                    self.log.addresses_mut().intern(ip)
                };
                self.parties.resize(self.log.addresses().len(), stranger);
                self.parties[entry.client as usize].host = host;
            }
            self.parties[host as usize].asking |= self.question(&entry).asks();
        }
        self.reached.iter().for_each(|&(ip, _)| self.parties[ip as usize].given = true);
    }

    fn question(&self, entry: &Entry) -> Question {
        self.questions[entry.body as usize]
    }

    fn said(&self, entry: &Entry) -> &Said {
        &self.said[entry.body as usize]
    }

    fn reached(&self, body: u32) -> &[(u32, u32)] {
        span(&self.reached, self.said[body as usize].reached)
    }

    /// The addresses that an answer gives, and until when each may be kept.
    fn kept_until(&self, at: u32) -> impl Iterator<Item = (u32, Timestamp)> {
        let entry = self.entry(at);
        let end = |ttl: u32| entry.time().plus(i64::from(ttl) * NANOS_PER_SECOND);
        self.reached(entry.body).iter().map(move |&(ip, ttl)| (ip, end(ttl)))
    }

    fn entry(&self, at: u32) -> &Entry {
        &self.log.entries()[at as usize]
    }

    fn host(&self, entry: &Entry) -> u32 {
        self.parties[entry.client as usize].host
    }

    fn trusts(&self, entry: &Entry) -> bool {
        self.parties[entry.resolver as usize].trusted == Some(true)
    }

    /// Whether an answer may name an address: matched, and from a trusted resolver.
    fn counts(&self, at: u32) -> bool {
        const COUNTS: u8 = Standing::RESPONSE | Standing::MATCHED | Standing::TRUSTED;
        self.standing[at as usize].has(COUNTS, COUNTS)
    }

    fn is_salvaged(&self, at: u32) -> bool {
        self.standing[at as usize].bit(Standing::SALVAGED)
    }

    /// What makes queries one question, and an answer theirs.
    fn asked(&self, entry: &Entry) -> (u64, u64, u64) {
        let question = self.question(entry);
        let ports = (u64::from(entry.client_port) << 48)
            | (u64::from(entry.resolver_port) << 32)
            | (u64::from(entry.id) << 16)
            | u64::from(question.kind);
        let ends = (u64::from(entry.client) << 32) | u64::from(entry.resolver);
        (ports, ends, (u64::from(question.name) << 8) | u64::from(entry.transport))
    }

    /// Which answers have a query, which queries an answer, and which answers contradict one another.
    fn stand(&mut self, shared: &Shared, jobs: usize) {
        let standings = shared.each(jobs, |messages| {
            let mut exchanges = Exchanges::default();
            exchanges.take(self, messages);
            exchanges.standings(self, messages.iter().copied())
        });
        self.standing = vec![Standing::default(); self.log.len()];
        for (share, standings) in standings.into_iter().enumerate() {
            for (&at, standing) in shared.of(share).iter().zip(standings) {
                self.standing[at as usize] = standing;
            }
        }
        self.count_told();
    }

    /// Counts how many matched answers each host got.
    fn count_told(&mut self) {
        self.parties.iter_mut().for_each(|party| party.told = 0);
        const MATCHED: u8 = Standing::RESPONSE | Standing::MATCHED;
        for (entry, standing) in self.log.entries().iter().zip(&self.standing) {
            let host = self.parties[entry.client as usize].host;
            self.parties[host as usize].told += u64::from(standing.has(MATCHED, MATCHED));
        }
    }

    /// The messages whose bits in `mask` are these, in order.
    fn standing(&self, mask: u8, bits: u8) -> impl Iterator<Item = u32> {
        let all = self.standing.iter().zip(0..);
        all.filter(move |(standing, _)| standing.has(mask, bits)).map(|(_, at)| at)
    }

    fn find_forged(&mut self) {
        let pair = |entry: &Entry| (entry.client, entry.client_port, entry.resolver);
        const UNSOLICITED: u8 = Standing::UNSOLICITED;
        const MATCHED: u8 = Standing::RESPONSE | Standing::MATCHED;
        let unsolicited = self.standing(UNSOLICITED, UNSOLICITED);
        let mut forged: HashSet<_, RandomState> = unsolicited.map(|at| pair(self.entry(at))).collect();
        if !forged.is_empty() {
            for at in self.standing(MATCHED, MATCHED) {
                forged.remove(&pair(self.entry(at)));
            }
        }
        self.forged = forged;
    }

    /// Puts every answer where it will be asked for.
    fn tell(&mut self, shared: &Shared, jobs: usize) {
        let mut shares = shared.each(jobs, |messages| Share::of(self, messages));
        let mut known = 0;
        for share in &mut shares {
            share.known_before = known;
            known += share.known.len();
        }
        self.shares = shares;
    }

    fn answer(&self, at: u32) -> Answer<'_> {
        let entry = self.entry(at);
        let (question, said) = (self.question(entry), self.said(entry));
        let standing = self.standing[at as usize];
        Answer {
            point: entry.point(),
            host: self.ip(self.host(entry)),
            client: Endpoint::new(self.ip(entry.client), entry.client_port),
            resolver: self.ip(entry.resolver),
            transport: Transport::from_number(entry.transport),
            trusted: standing.bit(Standing::TRUSTED),
            matched: standing.bit(Standing::MATCHED),
            contested: standing.bit(Standing::CONTESTED),
            unsolicited: standing.bit(Standing::UNSOLICITED),
            rcode: said.rcode,
            qtype: question.kind,
            names: self.chains.names(said.chain),
            has_addresses: said.reached.0 < said.reached.1,
            salvaged: standing.bit(Standing::SALVAGED),
        }
    }

    fn ip(&self, number: u32) -> IpAddr {
        self.log.addresses().get(number).unwrap_or(IpAddr::V4([0; 4].into()))
    }

    fn query(&self, at: u32) -> Option<Query<'_>> {
        let entry = self.entry(at);
        let question = self.question(entry);
        Some(Query {
            point: entry.point(),
            host: self.ip(self.host(entry)),
            client: Endpoint::new(self.ip(entry.client), entry.client_port),
            resolver: self.ip(entry.resolver),
            transport: Transport::from_number(entry.transport),
            name: self.log.names().get(question.name)?,
            qtype: question.kind,
            answered: self.standing[at as usize].bit(Standing::MATCHED),
        })
    }

    /// All answers, in order.
    pub fn answers(&self) -> impl Iterator<Item = Answer<'_>> {
        self.standing(Standing::RESPONSE, Standing::RESPONSE).map(|at| self.answer(at))
    }

    /// Those of them that nobody asked for.
    pub fn unsolicited_answers(&self) -> impl Iterator<Item = Answer<'_>> {
        self.standing(Standing::UNSOLICITED, Standing::UNSOLICITED).map(|at| self.answer(at))
    }

    /// All queries, in order.
    pub fn queries(&self) -> impl Iterator<Item = Query<'_>> {
        self.standing(Standing::ASKS, Standing::ASKS).filter_map(|at| self.query(at))
    }

    /// Those of them that ask a resolver that does not count.
    pub fn untrusted_queries(&self) -> impl Iterator<Item = Query<'_>> {
        let untrusted = self.standing(Standing::ASKS | Standing::TRUSTED, Standing::ASKS);
        untrusted.filter_map(|at| self.query(at))
    }

    /// How many messages there are.
    pub fn standings(&self) -> Standings {
        let mut sums = Standings::default();
        for standing in &self.standing {
            let count = |mask: u8, bits: u8| u64::from(standing.has(mask, bits));
            const OF_RESPONSE: u8 = Standing::RESPONSE;
            sums.queries += count(Standing::ASKS, Standing::ASKS);
            sums.unanswered += count(Standing::ASKS | Standing::MATCHED, Standing::ASKS);
            sums.responses += count(OF_RESPONSE, OF_RESPONSE);
            sums.unmatched += count(OF_RESPONSE | Standing::MATCHED, OF_RESPONSE);
            sums.untrusted += count(OF_RESPONSE | Standing::TRUSTED, OF_RESPONSE);
            let both = |bit: u8| count(OF_RESPONSE | bit, OF_RESPONSE | bit);
            sums.contested += both(Standing::CONTESTED);
            sums.salvaged += both(Standing::SALVAGED);
        }
        sums
    }

    /// Those that are rows of the names table: responses, and queries that nobody answered.
    fn in_rows(&self) -> impl Iterator<Item = (u32, Standing)> {
        self.standing.iter().zip(0..).filter_map(|(&standing, at)| {
            let unanswered = standing.has(Standing::ASKS | Standing::MATCHED, Standing::ASKS);
            (standing.bit(Standing::RESPONSE) || unanswered).then_some((at, standing))
        })
    }

    /// The messages that are rows of the names table, in order: responses, and queries that nobody answered.
    pub fn rows(&self) -> impl Iterator<Item = DnsRow<'_>> {
        self.in_rows().map(|(at, standing)| {
            let entry = self.entry(at);
            DnsRow {
                point: entry.point(),
                response: standing.bit(Standing::RESPONSE),
                matched: standing.bit(Standing::MATCHED),
                log: &self.log,
                entry,
            }
        })
    }

    /// Where the messages of [`Ledger::rows`] stand.
    pub fn row_points(&self) -> impl Iterator<Item = FramePoint> {
        self.in_rows().map(|(at, _)| self.entry(at).point())
    }

    /// Whether everything that `resolver` sent to `client` are answers to nothing, though the captures show the queries of
    /// this host.
    pub fn only_forged(&self, client: Endpoint, resolver: IpAddr) -> bool {
        if self.forged.is_empty() {
            return false;
        }
        let find = |ip| self.log.addresses().find(ip);
        let pair = find(client.ip).zip(find(resolver));
        pair.is_some_and(|(ip, resolver)| self.forged.contains(&(ip, client.port, resolver)))
    }
}

/// Where the members of each group begin and end once they stand side by side.
fn ranges(groups: usize, members: impl Iterator<Item = u32>) -> Vec<(u32, u32)> {
    let mut ranges = vec![(0, 0); groups];
    members.for_each(|group| ranges[group as usize].1 += 1);
    let mut end = 0;
    for range in &mut ranges {
        *range = (end, end + range.1);
        end = range.1;
    }
    ranges
}

/// One body as told to one host.
#[derive(Debug)]
struct Telling {
    host: u32,
    body: u32,
    /// How many answers count that said it.
    count: u32,
    /// A bit each: some answer counted, was matched without counting, was unsolicited.
    noted: u8,
}

/// Collects what hosts are told.
#[derive(Debug, Default)]
struct Teller {
    tellings: Vec<Telling>,
    /// By host and body.
    table: ByHash,
    /// By telling: its part of `parts`.
    parts_of: Vec<(u32, u32)>,
    /// What each telling makes known, and as what it is told; [`NONE`] as long as no answer that counts said it.
    parts: Vec<(u32, u32)>,
    told: Vec<Told>,
    /// By what is known, and chain.
    told_table: ByHash,
    seed: RandomState,
}

impl Teller {
    /// The telling of a body to a host: `heard` are these, and their hash.
    fn telling(&mut self, ledger: &Ledger, share: &mut Share, (host, body, hash): (u32, u32, u64)) -> u32 {
        let Teller { tellings, table, parts_of, parts, .. } = self;
        let same = |place: u32| {
            let telling = &tellings[place as usize];
            (telling.host, telling.body) == (host, body)
        };
        if let Some(found) = table.find(hash, same) {
            return found;
        }
        let Share { known_at, known, .. } = share;
        let from = parts.len();
        for ip in distinct(ledger.reached(body)) {
            let place = *known_at.entry((host, ip)).or_insert_with(|| {
                known.push(Known::default());
                number(known.len() - 1)
            });
            parts.push((place, NONE));
        }
        let new = number(tellings.len());
        tellings.push(Telling { host, body, count: 0, noted: 0 });
        parts_of.push((number(from), number(parts.len())));
        table.insert(hash, new);
        new
    }

    /// Notes an answer that says what another said before only where it stands otherwise.
    fn note(&mut self, ledger: &Ledger, share: &mut Share, at: u32, telling: u32) {
        let (standing, counts) = (ledger.standing[at as usize], ledger.counts(at));
        let (matched, unsolicited) = (standing.bit(Standing::MATCHED), standing.bit(Standing::UNSOLICITED));
        let place = telling as usize;
        let telling = &mut self.tellings[place];
        telling.count += u32::from(counts);
        let kind = match (counts, matched, unsolicited) {
            (true, ..) => 1,
            (false, true, _) => 1 << 1,
            (false, false, true) => 1 << 2,
            (false, false, false) => return,
        };
        if telling.noted & kind != 0 {
            return;
        }
        telling.noted |= kind;
        let &mut Telling { host, body, .. } = telling;
        let Teller { parts_of, parts, told, told_table, seed, .. } = self;
        let chain = ledger.said[body as usize].chain;
        let (from, to) = parts_of[place];
        for (place, as_told) in &mut parts[from as usize..to as usize] {
            let known = &mut share.known[*place as usize];
            known.matched |= matched;
            if matched && !counts {
                known.untrusted.get_or_insert(at);
            }
            if unsolicited {
                known.unsolicited.get_or_insert(at);
            }
            if counts {
                let hash = seed.hash_one((*place, chain));
                let same = |at: u32| {
                    let told = &told[at as usize];
                    (told.known, told.chain) == (*place, chain)
                };
                *as_told = told_table.find(hash, same).unwrap_or_else(|| {
                    let new = number(told.len());
                    told.push(Told {
                        host,
                        known: *place,
                        chain,
                        answers: (0, 0),
                        uncontested: None,
                        before: NONE,
                        bits: ledger.chains.numbers(chain).iter().fold(0, |bits, &name| bits | bit(name)),
                    });
                    told_table.insert(hash, new);
                    new
                });
            }
        }
        if counts {
            share.add_aliases(ledger, host, chain, at);
        }
    }
}

/// Puts the members of each group side by side, in the order in which they come.
fn grouped(groups: usize, members: impl Iterator<Item = (u32, u32)>) -> (Vec<(u32, u32)>, Vec<u32>) {
    let members: Vec<(u32, u32)> = members.collect();
    let ranges = ranges(groups, members.iter().map(|&(group, _)| group));
    let mut next: Vec<u32> = ranges.iter().map(|&(from, _)| from).collect();
    let mut list = vec![NONE; members.len()];
    for (group, member) in members {
        let next = &mut next[group as usize];
        list[*next as usize] = member;
        *next += 1;
    }
    (ranges, list)
}
