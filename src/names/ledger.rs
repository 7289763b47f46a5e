//! What each host was told: DNS answers matched with their queries, and the names that they give to an address at a
//! time. SEMANTICS section 3.

mod for_names;
mod growing;

use super::log::{Body, DnsLog, Entry, NONE, number};
use super::observation::DnsObservation;
use crate::model::{
    BACKWARD_NANOS, ByHash, CaptureId, DomainName, Endpoint, FramePoint, NANOS_PER_SECOND, Timestamp,
    address_bits,
};
use foldhash::fast::RandomState;
use for_names::ForNames;
pub use growing::GrowingLedger;
use hashbrown::{HashMap, HashSet};
use serde::{Deserialize, Serialize};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::ops::{Deref, Range};
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

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

/// Most readings given for one flow. Shared addresses of real hosts have a few names, those of storage stamps some hundreds;
/// without a bound each of a million flows would carry each of a million names. What is beyond is said by a reading
/// without names, which no rule fits: so that dropping evidence never documents anything.
const MOST_CHAINS: usize = 1024;

/// Most chains of one address and host that are searched for the name that a client wrote.
const MOST_SEARCHED: usize = 1 << 14;

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

/// One chain of names by which a host knew an address: the asked name first.
#[derive(Clone, Debug)]
pub struct Reading<'l> {
    /// The names; none where it stands for further chains that were too many to keep.
    pub names: Names<'l>,
    /// The number of these names in the ledger, if they have one: equal numbers are equal names.
    pub chain: Option<ChainNumber>,
    /// The newest answer that gives this chain.
    pub point: FramePoint,
    /// Whether that answer's time to live had passed when the flow began.
    pub expired: bool,
    /// Whether it came after the flow began.
    pub late: bool,
    /// Whether the query of every answer that gives this chain is contested.
    pub contested: bool,
    /// Whether its message was salvaged.
    pub salvaged: bool,
}

impl PartialEq for Reading<'_> {
    fn eq(&self, other: &Reading<'_>) -> bool {
        let Reading { names, chain: _, point, expired, late, contested, salvaged } = self;
        (names, point, expired, late) == (&other.names, &other.point, &other.expired, &other.late)
            && (contested, salvaged) == (&other.contested, &other.salvaged)
    }
}

impl Eq for Reading<'_> {}

/// The names of a chain. Of most readings nobody asks for them, so those that stand in a ledger are not so much as counted.
#[derive(Clone, Debug)]
pub enum Names<'l> {
    /// As they stand in a ledger.
    OfLedger(&'l Arc<[DomainName]>),
    /// By themselves.
    Own(Arc<[DomainName]>),
}

impl Names<'_> {
    /// The list itself, to be kept.
    pub fn shared(&self) -> Arc<[DomainName]> {
        match self {
            Names::OfLedger(names) => Arc::clone(names),
            Names::Own(names) => Arc::clone(names),
        }
    }
}

impl Deref for Names<'_> {
    type Target = [DomainName];

    fn deref(&self) -> &[DomainName] {
        match self {
            Names::OfLedger(names) => names,
            Names::Own(names) => names,
        }
    }
}

impl PartialEq for Names<'_> {
    fn eq(&self, other: &Names<'_>) -> bool {
        **self == **other
    }
}

impl FromIterator<DomainName> for Names<'_> {
    fn from_iter<I: IntoIterator<Item = DomainName>>(names: I) -> Self {
        Names::Own(names.into_iter().collect())
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

/// Where a ledger was last asked for a time, by one who asks in the order of time, nearly. No result depends on it.
#[derive(Debug, Default)]
pub struct Bookmark<'l> {
    /// How many messages came before.
    messages: Cell<u32>,
    /// By [`Known`]: where those of `near` begin; [`NONE`] where nobody asked yet. A flood of names makes millions of them, of
    /// which flows ask for few.
    near_of: RefCell<Vec<u32>>,
    /// By [`Told`], of what was asked for.
    near: RefCell<Vec<Near>>,
    /// Addresses asked about, and the numbers of those that some response gives, each in the slot of its last bits.
    given: RefCell<Vec<Option<Given>>>,
    /// Hosts and addresses asked about, each in the slot of its hash.
    asked: RefCell<Vec<Option<Asked>>>,
    /// What is asked for at a time.
    wanted: RefCell<Vec<Wanted>>,
    /// The answers at hand: the newest first.
    newest: RefCell<Vec<(u32, u32)>>,
    /// Room for readings, of somebody who needs them no more.
    rooms: RefCell<Vec<Vec<Reading<'l>>>>,
    joined: RefCell<JoinedChains>,
}

/// What aliases make of the chain of an answer: chains of names.
type Joined = Arc<[Arc<[DomainName]>]>;

/// The same of answers that were asked for, by host, chain and answer ([`NONE`] where no alias leads to the chain): flows to one
/// address ask for the same ones again and again, of which a capture that is made to be expensive has a thousand.
#[derive(Debug, Default)]
struct JoinedChains {
    known: HashMap<(u32, u32, u32), Joined, RandomState>,
    /// Each list of names once: whether two are the same is told by where they stand.
    lists: HashSet<Arc<[DomainName]>, RandomState>,
    names: usize,
}

impl JoinedChains {
    /// Forgets what takes too much memory; nobody may hold a list of before against one of after.
    fn make_room(&mut self) {
        if self.names >= MOST_JOINED_NAMES {
            *self = JoinedChains::default();
        }
    }

    /// The list of these names.
    fn list(&mut self, names: Arc<[DomainName]>) -> Arc<[DomainName]> {
        if let Some(list) = self.lists.get(&names) {
            return list.clone();
        }
        self.names += 1 + names.len();
        self.lists.insert(names.clone());
        names
    }
}

/// Names in these lists from which on all are forgotten and found again: some 4 MiB.
const MOST_JOINED_NAMES: usize = 1 << 18;

impl<'l> Bookmark<'l> {
    /// Takes readings back that nobody needs any more: others are put in their place.
    pub fn take_back(&self, mut readings: Vec<Reading<'l>>) {
        readings.clear();
        let mut rooms = self.rooms.borrow_mut();
        // Of a flow without readings there is no room to be had.
        if readings.capacity() > 0 && rooms.len() < MOST_ROOMS {
            rooms.push(readings);
        }
    }
}

/// Readings that are taken back to be used again, at the most: more flows are not judged at a time.
const MOST_ROOMS: usize = 64;

/// An address, and its number if some response gives it.
#[derive(Clone, Copy, Debug)]
struct Given {
    ip: IpAddr,
    number: Option<u32>,
}

/// What was found of an address that a host was perhaps told.
#[derive(Clone, Copy, Debug)]
struct Asked {
    host: IpAddr,
    ip: IpAddr,
    found: Option<Place>,
}

/// Chains of one address whose memory is asked for before they are read.
const MOST_ASKED_FOR: usize = 8;

/// What is to be found of an address that some response gives.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    host: IpAddr,
    ip: IpAddr,
    /// The number of the address.
    number: u32,
    /// Where in [`Bookmark::asked`] it may stand.
    slot: usize,
    /// Where the answer goes.
    at: usize,
    /// What was found, once it was.
    known: Option<Option<Place>>,
}

/// Where it is known what a host was told of an address.
#[derive(Clone, Copy, Debug)]
struct Place {
    share: u32,
    known: u32,
    /// The number of the address.
    ip: u32,
    /// Where the list of what it was told stands in the share, as [`Known::told`] has it.
    told: (u32, u32),
    /// Where those of it begin in [`Bookmark::near`]; [`NONE`] for who has no bookmark.
    near: u32,
}

/// Addresses of which it is remembered whether any response gives them: few enough for a first-level cache. A flood comes from
/// hosts that are never seen again, to few addresses of which no name is known.
const MOST_GIVEN: usize = 1 << 8;

/// Hosts and addresses of which it is remembered where it is known: 8,192, half a megabyte. With four times as
/// many W2 and W3 take as long.
const MOST_ASKED: usize = 1 << 13;

/// How a [`Told`] stood when last asked for a time, all of it side by side: of an address with many names few have a new answer
/// from one flow to the next, and to look at all that is behind each would take longer than to judge the flow.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Near {
    /// From which number of messages on, and up to which, the same answers came before.
    since: u32,
    until: u32,
    /// How many.
    count: u32,
    chain: u32,
    /// Of the newest answer: its time to live, seconds.
    ttl: u32,
    salvaged: bool,
    /// Whether aliases lead to its chain.
    joined: bool,
    /// Where the newest answer stands.
    point: FramePoint,
    /// The first answer whose query is not contested.
    uncontested: Option<Timestamp>,
}

impl Near {
    /// Before anybody asked.
    const UNASKED: Near = Near {
        since: 1,
        until: 0,
        count: 0,
        chain: NONE,
        ttl: 0,
        salvaged: false,
        joined: false,
        point: FramePoint { time: Timestamp(0), capture: CaptureId::new(0), frame: 0 },
        uncontested: None,
    };

    /// The number of its newest answer.
    fn newest(&self) -> Option<u32> {
        (self.count > 0).then(|| self.since - 1)
    }
}

/// What one host was told of one address.
#[derive(Clone, Copy)]
pub struct About<'a> {
    ledger: &'a Ledger,
    share: &'a Share,
    known: &'a Known,
    place: Place,
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

/// Messages about names that hosts asked for and that may have been blocked: some query was not answered, or an answer refused.
#[derive(Debug, Default)]
pub struct Troubled {
    queries: Vec<u32>,
    /// Those with a query.
    answers: Vec<u32>,
}

impl Troubled {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.queries.is_empty() && self.answers.is_empty()
    }
}

/// Answers that resolved a name which at other times was not, of those that are told.
pub const RESOLVED_TOLD: usize = 4;

/// What a host did not get for a name.
struct Trouble {
    number: u32,
    refused: bool,
    /// When it asked in vain, ascending.
    unanswered: Vec<Timestamp>,
}

impl Trouble {
    fn of(number: u32) -> Self {
        Trouble { number, refused: false, unanswered: Vec::new() }
    }

    /// Whether a time is within so many nanoseconds of a query that was not answered.
    fn is_near(&self, time: Timestamp, within_nanos: i64) -> bool {
        let before = self.unanswered.partition_point(|&asked| asked <= time);
        let last = self.unanswered.get(..before).and_then(<[_]>::last);
        last.is_some_and(|&asked| time.since(asked) <= within_nanos)
    }
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
    since: Timestamp,
    newer: EarlyByQuestion,
    older: EarlyByQuestion,
}

/// By what they answer: the place in [`Exchanges::of`], and the number of the message.
type EarlyByQuestion = HashMap<(u64, u64, u64), Vec<(usize, u32)>, RandomState>;

impl EarlyAnswers {
    fn add(&mut self, asked: (u64, u64, u64), place: usize, at: u32, time: Timestamp) {
        if time.since(self.since) > BACKWARD_NANOS {
            self.since = time;
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
                if asked_at.was_taken_before(point) && asked_at.is_near(point) {
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

    /// What hosts asked for and may not have got: a query for it was not answered, or a matched answer has a response code that
    /// `refuses`; 0 never does. Names that do not `matter` are left out. Of a name that is never refused the messages are those within
    /// so many nanoseconds of a query that was not answered, and the first [`RESOLVED_TOLD`] answers that give an address.
    pub fn troubled(
        &self,
        refuses: impl Fn(u16) -> bool,
        matters: impl Fn(&DomainName) -> bool,
        within_nanos: i64,
    ) -> Troubled {
        // Of a host and a name.
        let asked = |at: u32| (self.host(self.entry(at)), self.question(self.entry(at)).name);
        const REFUSED: u8 = Standing::RESPONSE | Standing::MATCHED | Standing::FAILED;
        let mut pairs: HashMap<(u32, u32), Trouble, RandomState> = HashMap::default();
        for at in self.standing(Standing::ASKS | Standing::MATCHED, Standing::ASKS) {
            let new = number(pairs.len());
            let trouble = pairs.entry(asked(at)).or_insert_with(|| Trouble::of(new));
            trouble.unanswered.push(self.entry(at).time());
        }
        for at in self.standing(REFUSED, REFUSED).filter(|&at| refuses(self.said(self.entry(at)).rcode)) {
            let new = number(pairs.len());
            if let Some(pair) = self.answered(at) {
                pairs.entry(pair).or_insert_with(|| Trouble::of(new)).refused = true;
            }
        }
        let all = pairs.len();
        let mut known: HashMap<u32, bool, RandomState> = HashMap::default();
        pairs.retain(|&(_, name), _| {
            *known.entry(name).or_insert_with(|| self.log.names().get(name).is_some_and(&matters))
        });
        let mut troubled = Troubled::default();
        if pairs.is_empty() {
            return troubled;
        }
        // Most names trouble nobody: of their messages nothing else is asked. Of eight places one is taken, so that few pairs that
        // are not there need be looked up.
        let places = (pairs.len() * 8).next_power_of_two();
        let place = |(host, name): (u32, u32)| {
            let bits = (u64::from(host) << 32) | u64::from(name);
            (bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize & (places - 1)
        };
        let mut likely = vec![false; places];
        for &pair in pairs.keys() {
            likely[place(pair)] = true;
        }
        let of_pairs = |standings: &[Standing], from: usize| -> Vec<u32> {
            const SEEN: u8 = Standing::ASKS | Standing::MATCHED;
            let seen = (number(from)..).zip(standings).filter(|(_, standing)| standing.0 & SEEN != 0);
            let mut resolved = vec![0u8; all];
            let mut is_wanted = |at: u32, standing: Standing| {
                let pair = asked(at);
                let Some(trouble) = likely[place(pair)].then(|| pairs.get(&pair)).flatten() else {
                    return false;
                };
                let entry = self.entry(at);
                if trouble.refused || trouble.is_near(entry.time(), within_nanos) {
                    return true;
                }
                let told = &mut resolved[trouble.number as usize];
                let tells = usize::from(*told) < RESOLVED_TOLD
                    && !standing.bit(Standing::ASKS)
                    && !self.reached(entry.body).is_empty();
                *told += u8::from(tells);
                tells
            };
            seen.filter(|&(at, standing)| is_wanted(at, *standing)).map(|(at, _)| at).collect()
        };
        // Whoever asks for it has nothing else to do meanwhile.
        let part = if self.log.len() < LEAST_SHARED {
            self.log.len()
        } else {
            self.log.len().div_ceil(self.jobs.max(1))
        };
        let parts = self.standing.chunks(part.max(1)).zip((0..).step_by(part.max(1)));
        let found: Vec<Vec<u32>> = std::thread::scope(|scope| {
            let mut parts = parts;
            let own = parts.next();
            let of_pairs = &of_pairs;
            let others: Vec<_> =
                parts.map(|(standings, from)| scope.spawn(move || of_pairs(standings, from))).collect();
            let own = own.map(|(standings, from)| of_pairs(standings, from));
            let joined =
                others.into_iter().map(|other| other.join().unwrap_or_else(|panic| resume_unwind(panic)));
            own.into_iter().chain(joined).collect()
        });
        let asks = |at: u32| self.standing[at as usize].bit(Standing::ASKS);
        for &at in found.iter().flatten() {
            if asks(at) {
                troubled.queries.push(at);
            } else if self.said(self.entry(at)).chain != NONE {
                troubled.answers.push(at);
            }
        }
        troubled
    }

    /// The host and the name that an answer is for.
    fn answered(&self, at: u32) -> Option<(u32, u32)> {
        let entry = self.entry(at);
        // A chain begins with the name asked for.
        (self.said(entry).chain != NONE).then(|| (self.host(entry), self.question(entry).name))
    }

    /// The queries for what troubled hosts, in order.
    pub fn queries_for(&self, troubled: &Troubled) -> impl Iterator<Item = Query<'_>> {
        troubled.queries.iter().filter_map(|&at| self.query(at))
    }

    /// The matched answers for what troubled hosts, in order.
    pub fn answers_for(&self, troubled: &Troubled) -> impl Iterator<Item = Answer<'_>> {
        troubled.answers.iter().map(|&at| self.answer(at))
    }

    /// Matched answers of resolvers that count which give nothing but addresses at which no other machine is: unspecified and loopback
    /// ones, as DNS filters give in place of a name's own.
    pub fn answers_to_nowhere(&self) -> impl Iterator<Item = Answer<'_>> {
        let addresses = 0..number(self.log.addresses().len());
        let is_nowhere = |&number: &u32| {
            let ip = self.ip(number);
            ip.is_unspecified() || ip.is_loopback()
        };
        let nowhere: Vec<u32> = addresses.filter(is_nowhere).collect();
        let is_there_any = !nowhere.is_empty();
        let leads_there = move |&at: &u32| {
            let given = self.reached(self.entry(at).body);
            !given.is_empty() && given.iter().all(|(ip, _)| nowhere.binary_search(ip).is_ok())
        };
        const COUNTS: u8 = Standing::RESPONSE | Standing::MATCHED | Standing::TRUSTED;
        let counts = self.standing(COUNTS, COUNTS).take_while(move |_| is_there_any);
        counts.filter(leads_there).map(|at| self.answer(at))
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

    /// How many matched answers a host got.
    pub fn told(&self, host: IpAddr) -> u64 {
        let host = self.log.addresses().find(host).and_then(|host| self.parties.get(host as usize));
        host.map_or(0, |host| host.told)
    }

    /// What `host` was told of `ip`, by answers of any standing; none where it was told nothing.
    pub fn about(&self, host: IpAddr, ip: IpAddr) -> Option<About<'_>> {
        self.at(self.place(host, self.given(ip)?)?)
    }

    /// The same of several hosts and addresses, one after another, for one who asks again and again. What is in no cache is asked
    /// for of all of them before any is waited for.
    pub fn abouts<'l>(
        &'l self,
        pairs: impl Iterator<Item = (IpAddr, IpAddr)>,
        last: &Bookmark<'_>,
        abouts: &mut Vec<Option<About<'l>>>,
    ) {
        let (mut given, mut asked) = (last.given.borrow_mut(), last.asked.borrow_mut());
        if asked.is_empty() {
            given.resize(MOST_GIVEN, None);
            asked.resize(MOST_ASKED, None);
        }
        let mut wanted = last.wanted.borrow_mut();
        wanted.clear();
        for (host, ip) in pairs {
            let number = match given.get_mut(address_bits(ip) as usize % MOST_GIVEN) {
                Some(Some(known)) if known.ip == ip => known.number,
                Some(slot) => slot.insert(Given { ip, number: self.given(ip) }).number,
                None => self.given(ip),
            };
            if let Some(number) = number {
                let bits = address_bits(host).rotate_left(5) ^ address_bits(ip);
                // Fibonacci hashing: who makes all of them meet in one slot makes them be looked up as if there were none.
                let hash = ((bits >> 64) as u64 ^ bits as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let slot = (hash >> 40) as usize % MOST_ASKED;
                wanted.push(Wanted { host, ip, number, slot, known: None, at: abouts.len() });
            }
            abouts.push(None);
        }
        for Wanted { host, ip, slot, known, .. } in wanted.iter_mut() {
            let asked = asked.get(*slot).copied().flatten();
            *known = asked.filter(|asked| (asked.host, asked.ip) == (*host, *ip)).map(|asked| asked.found);
        }
        for wanted in wanted.iter_mut().filter(|wanted| wanted.known.is_none()) {
            let Wanted { host, ip, number, slot, .. } = *wanted;
            let found = self.place(host, number).map(|place| self.marked(place, last));
            wanted.known = Some(found);
            if let Some(slot) = asked.get_mut(slot) {
                *slot = Some(Asked { host, ip, found });
            }
        }
        let near = last.near.borrow();
        for wanted in wanted.iter() {
            let Some(place) = wanted.known.flatten() else { continue };
            // Their memory is on the way when they are asked for.
            let begin = place.near as usize;
            for near in near.get(begin..begin + nears_of(place.told).min(MOST_ASKED_FOR)).unwrap_or_default()
            {
                std::hint::black_box((near.since, near.ttl));
            }
            if let Some(about) = abouts.get_mut(wanted.at) {
                *about = self.at(place);
            }
        }
    }

    /// The number of an address that a response gives. Every other flow is a query to a resolver, which none gives.
    fn given(&self, ip: IpAddr) -> Option<u32> {
        let ip = self.log.addresses().find(ip)?;
        self.parties.get(ip as usize).filter(|party| party.given).map(|_| ip)
    }

    /// What a host was told of an address that some response gives.
    fn place(&self, host: IpAddr, ip: u32) -> Option<Place> {
        let host = self.log.addresses().find(host)?;
        let number_of_share = self.share_of(host)?;
        let share = self.shares.get(number_of_share)?;
        let known = *share.known_at.get(&(host, ip))?;
        let told = share.known.get(known as usize)?.told;
        Some(Place { share: number(number_of_share), known, ip, told, near: NONE })
    }

    /// The same place, and where a bookmark remembers how it stood.
    fn marked(&self, place: Place, last: &Bookmark<'_>) -> Place {
        let mut places = last.near_of.borrow_mut();
        if places.is_empty() {
            places.resize(self.shares.iter().map(|share| share.known.len()).sum(), NONE);
        }
        let before = self.shares.get(place.share as usize).map_or(0, |share| share.known_before);
        let Some(begin) = places.get_mut(before + place.known as usize) else { return place };
        if *begin == NONE {
            let mut list = last.near.borrow_mut();
            *begin = number(list.len());
            let all = list.len() + nears_of(place.told);
            list.resize(all, Near::UNASKED);
        }
        Place { near: *begin, ..place }
    }

    fn at(&self, place: Place) -> Option<About<'_>> {
        let share = self.shares.get(place.share as usize)?;
        Some(About { ledger: self, share, known: share.known.get(place.known as usize)?, place })
    }

    fn readings<'l>(
        &'l self,
        about: &About<'_>,
        time: Timestamp,
        written: Option<&DomainName>,
        last: &Bookmark<'l>,
    ) -> (Vec<Reading<'l>>, bool) {
        let About { share, place, .. } = about;
        let place = if place.near == NONE { self.marked(*place, last) } else { *place };
        let Place { ip, told, near, .. } = place;
        let mut list = last.near.borrow_mut();
        let begin = near as usize;
        let of = list.get_mut(begin..begin + nears_of(told)).unwrap_or_default();
        let nears = &mut Nears { of, from: told.0 as usize };
        let told = told.0 as usize..told.1 as usize;
        let chains = told.start..told.end.min(told.start + MOST_CHAINS);
        let until = self.until(time, last);
        let late = !chains.clone().any(|place| self.near(share, place, ip, until, nears).count > 0);
        let end = if late { time.plus(LATE_ANSWER_NANOS) } else { time };
        let until = if late { self.until(end, last) } else { until };
        let moment = Moment { ip, time, end, until, late };
        if let Some(written) = written {
            let number = self.log.names().find(written);
            let may_hold = |place: &usize| {
                share.told.get(*place).is_some_and(|told| {
                    told.before != NONE
                        || number.is_some_and(|name| {
                            told.bits & bit(name) != 0 && self.chains.numbers(told.chain).contains(&name)
                        })
                })
            };
            let searched = told.clone().take(MOST_SEARCHED).filter(may_hold);
            let mut readings = self.read(share, searched, &moment, nears, last);
            readings.retain(|reading| reading.names.contains(written));
            if !readings.is_empty() {
                return (readings, true);
            }
            last.take_back(readings);
        }
        let mut readings = self.read(share, chains.clone(), &moment, nears, last);
        let more = (chains.end < told.end).then(|| self.told_until(share, chains.end, until, nears));
        let beyond = more.and_then(<[u32]>::first).map(|&at| self.entry(at).point());
        if let Some(point) = beyond.or_else(|| readings.get(MOST_CHAINS).map(|reading| reading.point)) {
            readings.truncate(MOST_CHAINS);
            let contested = readings.iter().all(|reading| reading.contested);
            let names = Names::Own([].into());
            let (expired, salvaged) = (false, false);
            readings.push(Reading { names, chain: None, point, expired, late, contested, salvaged });
        }
        (readings, false)
    }

    /// How a [`Told`] stands at a time. A host asks for a name thousands of times: the search begins where the last one ended.
    #[inline]
    fn near<'n>(
        &self,
        share: &Share,
        place: usize,
        ip: u32,
        end: Until,
        nears: &'n mut Nears<'_>,
    ) -> &'n Near {
        match nears.get_mut(place) {
            Some(near) => {
                if !(near.since..=near.until).contains(&end.0) {
                    *near = self.looked_up(share, place, ip, end, near.count);
                }
                near
            }
            None => &Near::UNASKED,
        }
    }

    fn looked_up(&self, share: &Share, place: usize, ip: u32, end: Until, hint: u32) -> Near {
        let Some(told) = share.told.get(place) else { return Near::UNASKED };
        let answers = span(&share.told_answers, told.answers);
        let count = count_near(answers, hint as usize, |&at| at < end.0);
        let near = Near {
            since: 0,
            until: answers.get(count).copied().unwrap_or(u32::MAX),
            count: number(count),
            chain: told.chain,
            joined: told.before != NONE,
            uncontested: told.uncontested,
            ..Near::UNASKED
        };
        match count.checked_sub(1).and_then(|newest| answers.get(newest)) {
            None => near,
            Some(&at) => {
                let entry = self.entry(at);
                let (ttl, salvaged) = (self.ttl(entry, ip), self.is_salvaged(at));
                Near { since: at + 1, ttl, salvaged, point: entry.point(), ..near }
            }
        }
    }

    /// The answers of a [`Told`] up to a time.
    fn told_until<'s>(&self, share: &'s Share, place: usize, end: Until, nears: &Nears<'_>) -> &'s [u32] {
        let answers = share.told.get(place).map_or(&[][..], |told| span(&share.told_answers, told.answers));
        let hint = nears.get(place).map_or(0, |near| near.count);
        let count = count_near(answers, hint as usize, |&at| at < end.0);
        answers.get(..count).unwrap_or_default()
    }

    /// The number of messages up to a time; the search begins where the last one ended.
    fn until(&self, end: Timestamp, last: &Bookmark<'_>) -> Until {
        let entries = self.log.entries();
        let count = count_near(entries, last.messages.get() as usize, |entry| entry.time() <= end);
        last.messages.set(number(count));
        Until(number(count))
    }

    /// What the chains at these places say.
    fn read<'l>(
        &'l self,
        share: &Share,
        chains: impl Iterator<Item = usize> + Clone,
        moment: &Moment,
        nears: &mut Nears<'_>,
        last: &Bookmark<'l>,
    ) -> Vec<Reading<'l>> {
        let mut newest = last.newest.borrow_mut();
        newest.clear();
        for place in chains.clone() {
            let near = self.near(share, place, moment.ip, moment.until, nears);
            if near.joined {
                return self.read_joined(share, chains, moment, nears, last);
            }
            newest.extend(near.newest().map(|at| (at, number(place))));
        }
        newest.sort_unstable_by_key(|&(at, _)| std::cmp::Reverse(at));
        let mut readings = last.rooms.borrow_mut().pop().unwrap_or_default();
        readings.reserve(newest.len());
        for near in newest.iter().filter_map(|&(_, place)| nears.get(place as usize)) {
            let kept_nanos = i64::from(near.ttl) * NANOS_PER_SECOND;
            readings.push(Reading {
                names: self.chains.texts(near.chain),
                chain: Some(ChainNumber(near.chain)),
                point: near.point,
                expired: moment.time.since(near.point.time) > kept_nanos,
                late: moment.late,
                // An uncontested answer of before is not touched by a newer contest.
                contested: near.uncontested.is_none_or(|first| first > moment.end),
                salvaged: near.salvaged,
            });
        }
        readings
    }

    /// The same, where aliases lead to some of the chains.
    fn read_joined(
        &self,
        share: &Share,
        chains: impl Iterator<Item = usize>,
        moment: &Moment,
        nears: &Nears<'_>,
        last: &Bookmark<'_>,
    ) -> Vec<Reading<'_>> {
        // Of each chain the newest answer counts, and the oldest: an alias told in between gives it further names.
        let mut answers: Vec<(u32, &Told)> = Vec::with_capacity(chains.size_hint().1.unwrap_or_default());
        for place in chains {
            let Some(told) = share.told.get(place) else { continue };
            let known = self.told_until(share, place, moment.until, nears);
            answers.extend(known.last().map(|&at| (at, told)));
            if told.before != NONE {
                answers.extend(known.split_last().and_then(|(_, rest)| rest.first()).map(|&at| (at, told)));
            }
        }
        answers.sort_unstable_by_key(|&(at, _)| std::cmp::Reverse(at));
        let mut readings: Vec<Reading<'_>> = Vec::with_capacity(answers.len());
        // By where its names stand.
        let mut seen: HashMap<usize, usize, RandomState> =
            HashMap::with_capacity_and_hasher(answers.len(), RandomState::default());
        let joined = &mut *last.joined.borrow_mut();
        joined.make_room();
        for (at, told) in answers {
            let entry = self.entry(at);
            let (point, late, salvaged) = (entry.point(), moment.late, self.is_salvaged(at));
            let kept_nanos = i64::from(self.ttl(entry, moment.ip)) * NANOS_PER_SECOND;
            let expired = moment.time.since(point.time) > kept_nanos;
            let contested = told.uncontested.is_none_or(|first| first > moment.end);
            let chain = (told.before == NONE).then_some(ChainNumber(told.chain));
            for names in self.joined(share, told, at, joined).iter() {
                let next = readings.len();
                let place = *seen.entry(names.as_ptr() as usize).or_insert(next);
                if let Some(reading) = readings.get_mut(place) {
                    reading.contested &= contested;
                    continue;
                }
                let names = Names::Own(names.clone());
                readings.push(Reading { names, chain, point, expired, late, contested, salvaged });
            }
        }
        readings
    }

    /// How long an answer's first record for an address may be kept.
    fn ttl(&self, answer: &Entry, ip: u32) -> u32 {
        let reached = self.reached(answer.body);
        let place = reached.partition_point(|&(other, _)| other < ip);
        reached.get(place).filter(|&&(other, _)| other == ip).map_or(0, |&(_, ttl)| ttl)
    }

    /// The chain of an answer, with what earlier answers to the same host put before it: an alias a -> b told before lets an
    /// answer for b name the address a.
    fn joined(&self, share: &Share, told: &Told, at: u32, joined: &mut JoinedChains) -> Joined {
        let alone = told.before == NONE;
        let key = (told.host, told.chain, if alone { NONE } else { at });
        if let Some(known) = joined.known.get(&key) {
            return known.clone();
        }
        let new: Joined = if alone {
            [joined.list(self.chains.texts(told.chain).shared())].into()
        } else {
            self.join(share, told, at).into_iter().map(|names| joined.list(names.into())).collect()
        };
        joined.names += 1;
        joined.known.insert(key, new.clone());
        new
    }

    /// The same, found anew.
    fn join(&self, share: &Share, told: &Told, at: u32) -> BTreeSet<Vec<DomainName>> {
        let mut done: BTreeSet<Vec<DomainName>> = BTreeSet::new();
        let mut open = vec![self.chains.names(told.chain).to_vec()];
        let point = self.entry(at).point();
        let (mut steps, mut more) = (0, false);
        while let Some(chain) = open.pop() {
            let Some(first) = chain.first().and_then(|first| self.log.names().find(first)) else { continue };
            let before = share.before_at.get(&(told.host, first)).map(|&list| &share.before[list as usize]);
            let mut extended = false;
            more |= before.is_some_and(|aliases| aliases.more);
            for before in before.map_or(&[][..], |aliases| aliases.ordered(&self.chains)) {
                let prefix = before.names(self.chains.names(before.chain));
                let apart = !prefix.iter().any(|name| chain.contains(name));
                if self.entry(before.since).point() >= point || !apart {
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
            // What is beyond has no names that a rule could fit: dropping evidence never documents anything.
            done.insert(Vec::new());
        }
        done
    }

    /// Whether the newest evidence for the address is contested and no uncontested answer gave it: conflict (a).
    pub fn contested(readings: &[Reading<'_>]) -> bool {
        !readings.is_empty() && readings.iter().all(|reading| reading.contested)
    }

    fn ever_named(&self, about: &About<'_>, name: &DomainName, last: &Bookmark<'_>) -> bool {
        let About { share, known, .. } = about;
        let Some(number) = self.log.names().find(name) else { return false };
        let joined = &mut *last.joined.borrow_mut();
        joined.make_room();
        span(&share.told, known.told).iter().any(|told| {
            if told.before == NONE {
                return self.chains.numbers(told.chain).contains(&number);
            }
            let answers = span(&share.told_answers, told.answers);
            let mut ends = answers.first().into_iter().chain(answers.last());
            ends.any(|&at| self.joined(share, told, at, joined).iter().any(|chain| chain.contains(name)))
        })
    }

    /// Whether, at `time`, an answer for `name` within its time to live gave `host` addresses of `ip`'s family.
    pub fn told_otherwise(&self, host: IpAddr, name: &DomainName, ip: IpAddr, time: Timestamp) -> bool {
        let addresses = self.log.addresses();
        let (Some(host), Some(name)) = (addresses.find(host), self.log.names().find(name)) else {
            return false;
        };
        let for_name = self.for_names.get_or_init(|| ForNames::of(self)).of_name(self, name);
        let ip_number = addresses.find(ip).unwrap_or(NONE);
        for_name.told_otherwise(self, host, (ip_number, ip.is_ipv4()), time)
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

impl<'a> About<'a> {
    /// The chains by which the host knew the address when a flow began at `time`, newest first, each once. Answers that
    /// came within [`LATE_ANSWER_NANOS`] afterwards count only where none came before. If some hold the name that the client
    /// wrote, they alone are given, and that it is so.
    pub fn readings(
        &self,
        time: Timestamp,
        written: Option<&DomainName>,
        last: &Bookmark<'a>,
    ) -> (Vec<Reading<'a>>, bool) {
        self.ledger.readings(self, time, written, last)
    }

    /// Whether the host was ever told the address for `name` by a trusted, matched answer.
    pub fn ever_named(&self, name: &DomainName, last: &Bookmark<'_>) -> bool {
        self.ledger.ever_named(self, name, last)
    }

    /// The first answer from an untrusted resolver that gave the address, no later than a late answer may be.
    pub fn untrusted(&self, time: Timestamp) -> Option<Answer<'a>> {
        let answer = self.ledger.answer(self.known.untrusted?);
        (answer.point.time.since(time) <= LATE_ANSWER_NANOS).then_some(answer)
    }

    /// The first unsolicited answer that gave the address, if no other answer did.
    pub fn only_unsolicited(&self) -> Option<Answer<'a>> {
        self.known.unsolicited.filter(|_| !self.known.matched).map(|at| self.ledger.answer(at))
    }
}

/// How many of a list come `before` what is looked for, all of them standing first; the search begins at `hint` and widens.
fn count_near<T>(list: &[T], hint: usize, before: impl Fn(&T) -> bool) -> usize {
    let is_before = |at: usize| list.get(at).is_some_and(&before);
    let from = hint.min(list.len());
    let (mut low, mut high, mut step) = (from, from, 1);
    if from > 0 && !is_before(from - 1) {
        // Back: `low` stays above what is looked for until it no longer is.
        while low > 0 && !is_before(low - 1) {
            high = low - 1;
            low = low.saturating_sub(step);
            step *= 2;
        }
    } else {
        while is_before(high) {
            low = high + 1;
            high = (high + step).min(list.len());
            step *= 2;
        }
    }
    low + list.get(low..high).unwrap_or_default().partition_point(before)
}

/// Of how many it is remembered how they stood.
fn nears_of((from, to): (u32, u32)) -> usize {
    ((to - from) as usize).min(MOST_SEARCHED)
}

/// How many messages came up to a time.
#[derive(Clone, Copy)]
struct Until(u32);

/// What is remembered of all that a host was told of an address.
struct Nears<'n> {
    of: &'n mut [Near],
    /// The place of the first [`Told`].
    from: usize,
}

impl Nears<'_> {
    fn get(&self, place: usize) -> Option<&Near> {
        self.of.get(place.checked_sub(self.from)?)
    }

    fn get_mut(&mut self, place: usize) -> Option<&mut Near> {
        self.of.get_mut(place.checked_sub(self.from)?)
    }
}

/// When a flow to an address began, and until when answers count for it.
struct Moment {
    ip: u32,
    time: Timestamp,
    end: Timestamp,
    until: Until,
    /// Whether no answer came before.
    late: bool,
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

#[cfg(test)]
mod tests {
    use super::super::dns::{AddressRecord, AliasRecord, DnsMessage, SectionCounts};
    use super::super::reference;
    use super::*;
    use crate::model::{CaptureId, Transport};
    use proptest::prelude::*;

    fn name(index: usize) -> DomainName {
        ["a.example", "b.example", "c.example", "d.example", "e.example"][index % 5].parse().unwrap()
    }

    /// Addresses of clients, resolvers and servers; the first two are one host.
    fn ip(index: usize) -> IpAddr {
        match index % 6 {
            4 => "2001:db8::4".parse().unwrap(),
            5 => "2001:db8::5".parse().unwrap(),
            last => IpAddr::from([10, 0, 0, last as u8]),
        }
    }

    fn host_of(address: IpAddr) -> IpAddr {
        if address == ip(1) { ip(0) } else { address }
    }

    fn trusted(address: IpAddr) -> bool {
        address != ip(3)
    }

    /// Few of everything, so that questions, answers and aliases meet by chance.
    fn observation() -> impl Strategy<Value = DnsObservation> {
        let record = || (0usize..5, 0usize..6, 0u32..4);
        let lists = (proptest::collection::vec(record(), 0..4), proptest::collection::vec(record(), 0..3));
        let ends = (0usize..3, 5000u16..5002, 2usize..4, any::<bool>());
        let head = (any::<bool>(), 0u16..2, proptest::option::weighted(0.95, 0usize..5), 0u16..2, 0u16..4);
        let odd = (prop_oneof![9 => Just(0u8), 1 => Just(5)], any::<bool>());
        ((0i64..24, 1u64..60), ends, head, lists, odd).prop_map(|(at, ends, head, lists, odd)| {
            let (client, port, resolver, tcp) = ends;
            let (response, id, asked, qtype, rcode) = head;
            let (addresses, aliases) = lists;
            let addresses = addresses.into_iter().filter(|_| response);
            let aliases = aliases.into_iter().filter(|_| response);
            DnsObservation {
                point: FramePoint {
                    time: Timestamp(at.0 * NANOS_PER_SECOND / 2),
                    capture: CaptureId::new(0),
                    frame: at.1,
                },
                client: Endpoint::new(ip(client), port),
                resolver: Endpoint::new(ip(resolver), 53),
                transport: if tcp { Transport::Tcp } else { Transport::Udp },
                message: DnsMessage {
                    id,
                    response,
                    opcode: odd.0,
                    truncated: false,
                    rcode,
                    qname: asked.map(name),
                    qtype,
                    qclass: 1,
                    addresses: addresses
                        .map(|(owner, at, ttl)| AddressRecord { owner: name(owner), ip: ip(at), ttl })
                        .collect(),
                    aliases: aliases
                        .map(|(owner, to, ttl)| AliasRecord { owner: name(owner), target: name(to), ttl })
                        .collect(),
                    ttls: vec![7],
                    svcb_hints: vec![ip(5)],
                    salvaged: odd.1,
                    counts: SectionCounts { answers: 1, ..SectionCounts::default() },
                },
            }
        })
    }

    /// At so many seconds, the question of a client for the first name, or an answer that gives an address for it.
    fn message(seconds: i64, client: IpAddr, given: Option<IpAddr>) -> DnsObservation {
        let given: Vec<AddressRecord> =
            given.into_iter().map(|ip| AddressRecord { owner: name(0), ip, ttl: 60 }).collect();
        DnsObservation {
            point: FramePoint {
                time: Timestamp(seconds * NANOS_PER_SECOND),
                capture: CaptureId::new(0),
                frame: seconds.unsigned_abs() + 1,
            },
            client: Endpoint::new(client, 5000),
            resolver: Endpoint::new(ip(2), 53),
            transport: Transport::Udp,
            message: DnsMessage {
                id: 0,
                response: !given.is_empty(),
                opcode: 0,
                truncated: false,
                rcode: 0,
                qname: Some(name(0)),
                qtype: 1,
                qclass: 1,
                addresses: given,
                aliases: Vec::new(),
                ttls: vec![60],
                svcb_hints: Vec::new(),
                salvaged: false,
                counts: SectionCounts { answers: 1, ..SectionCounts::default() },
            },
        }
    }

    #[test]
    fn what_leads_to_an_alias_is_kept_once_whatever_numbers_its_names_have() {
        let mut chains = Chains::default();
        for first in 0..300 {
            let begin = chains.numbers.len();
            chains.numbers.extend([first, 1000]);
            chains.chains.push((begin..begin + 2, [].into()));
        }
        let mut aliases = Aliases::default();
        // Three of them share a bit.
        for first in [5, 133, 261, 5, 7, 133, 7] {
            aliases.add(Before { chain: first, names: 1, first, since: 0 }, &chains);
        }
        let kept: Vec<u32> = aliases.list.iter().map(|before| before.first).collect();
        assert_eq!((&kept[..], aliases.more), (&[5, 133, 261, 7][..], false));
        let mut lead = |first: u32| {
            aliases.add(Before { chain: first, names: 1, first, since: 0 }, &chains);
            (aliases.list.len(), aliases.more)
        };
        assert_eq!((10..70).map(&mut lead).last(), Some((MOST_ALIASES, false)));
        assert_eq!(
            [lead(69), lead(70), lead(71)],
            [(MOST_ALIASES, false), (MOST_ALIASES, true), (MOST_ALIASES, true)]
        );
    }

    #[test]
    fn an_answer_becomes_unsolicited_once_its_host_is_seen_to_ask_also_where_the_ledger_grows() {
        let (begins, server) = (Arc::<[Timestamp]>::from([Timestamp(0)]), ip(5));
        let mut growing = GrowingLedger::default();
        let unsolicited = |growing: &GrowingLedger| {
            let about = growing.ledger().about(ip(0), server);
            about.and_then(|about| about.only_unsolicited()).map(|answer| answer.point.frame)
        };
        growing.add(message(10, ip(0), Some(server)));
        growing.know(&host_of, &trusted, begins.clone());
        assert_eq!(
            unsolicited(&growing),
            None,
            "nobody knows whether the host asks where the capture sees it"
        );
        growing.add(message(20, ip(0), None));
        growing.know(&host_of, &trusted, begins.clone());
        assert_eq!(unsolicited(&growing), Some(11));
    }

    /// As [`Ledger::about`], for one who asks again and again.
    fn about_near<'l>(
        ledger: &'l Ledger,
        host: IpAddr,
        ip: IpAddr,
        last: &Bookmark<'_>,
    ) -> Option<About<'l>> {
        let mut abouts = Vec::new();
        ledger.abouts([(host, ip)].into_iter(), last, &mut abouts);
        abouts.pop().flatten()
    }

    /// The first host asks for a name.
    fn question(seconds: i64, number: usize) -> DnsObservation {
        let mut question = message(seconds, ip(0), None);
        question.message.qname = Some(name(number));
        question
    }

    /// It is told that the second name leads to the first.
    fn alias(seconds: i64) -> DnsObservation {
        let mut alias = question(seconds, 1);
        alias.message.response = true;
        alias.message.aliases = vec![AliasRecord { owner: name(1), target: name(0), ttl: 60 }];
        alias
    }

    #[test]
    fn an_alias_told_before_names_the_address_too() {
        let (host, server) = (ip(0), ip(5));
        // The alias alone, then the address of what it leads to.
        let messages = vec![question(1, 1), alias(2), question(3, 0), message(4, host, Some(server))];
        let ledger =
            Ledger::new(messages.iter().cloned().collect(), &host_of, &trusted, [Timestamp(0)].into());
        let time = Timestamp(5 * NANOS_PER_SECOND);
        let about = ledger.about(host, server).unwrap();
        let (readings, _) = about.readings(time, None, &Bookmark::default());
        let names: Vec<Vec<DomainName>> = readings.iter().map(|reading| reading.names.to_vec()).collect();
        assert_eq!(names, [vec![name(1), name(0)]]);
        same_answers(&messages).unwrap();
    }

    #[test]
    fn an_alias_told_between_two_answers_names_the_address_from_the_second_on() {
        let (host, server) = (ip(0), ip(5));
        let answer = |seconds| [question(seconds - 1, 0), message(seconds, host, Some(server))];
        let messages = answer(2).into_iter().chain([question(3, 1), alias(4)]).chain(answer(6));
        let ledger = Ledger::new(messages.collect(), &host_of, &trusted, [Timestamp(0)].into());
        let about = ledger.about(host, server).unwrap();
        let bookmark = Bookmark::default();
        let (alone, both) = (vec![name(0)], vec![name(1), name(0)]);
        // Asked again, and back again: what is remembered of one answer is not that of the other.
        for (seconds, expected) in
            [(3, vec![&alone]), (7, vec![&both, &alone]), (3, vec![&alone]), (7, vec![&both, &alone])]
        {
            let time = Timestamp(seconds * NANOS_PER_SECOND);
            let (readings, _) = about.readings(time, None, &bookmark);
            let names: Vec<Vec<DomainName>> = readings.iter().map(|reading| reading.names.to_vec()).collect();
            assert_eq!(names.iter().collect::<Vec<_>>(), expected, "{seconds}");
        }
    }

    /// The names by which the first host knows the sixth address at a time, after these messages.
    fn read_at(messages: impl IntoIterator<Item = DnsObservation>, seconds: i64) -> Vec<(Vec<String>, bool)> {
        let ledger = Ledger::new(messages.into_iter().collect(), &host_of, &trusted, [Timestamp(0)].into());
        let about = ledger.about(ip(0), ip(5)).unwrap();
        let (readings, _) = about.readings(Timestamp(seconds * NANOS_PER_SECOND), None, &Bookmark::default());
        let names = |reading: &Reading<'_>| reading.names.iter().map(ToString::to_string).collect();
        readings.iter().map(|reading| (names(reading), reading.expired)).collect()
    }

    #[test]
    fn a_time_to_live_with_its_highest_bit_set_is_none() {
        for (ttl, expired) in
            [(0x7fff_ffff, false), (0x8000_0000, true), (u32::MAX, true), (0, true), (60, false)]
        {
            let mut answer = message(2, ip(0), Some(ip(5)));
            answer.message.addresses[0].ttl = ttl;
            assert_eq!(read_at([question(1, 0), answer], 3)[0].1, expired, "{ttl:#x}");
        }
    }

    #[test]
    fn an_address_at_the_end_of_a_chain_longer_than_is_followed_is_named_by_what_was_asked_for() {
        for aliases in [1, MOST_NAMES - 1, MOST_NAMES, 3 * MOST_NAMES] {
            let name = |number: usize| format!("n{number}.example").parse::<DomainName>().unwrap();
            let mut asked = question(1, 0);
            asked.message.qname = Some(name(0));
            let mut answer = message(2, ip(0), Some(ip(5)));
            answer.message.qname = Some(name(0));
            answer.message.addresses[0].owner = name(aliases);
            answer.message.aliases = (0..aliases)
                .map(|number| AliasRecord { owner: name(number), target: name(number + 1), ttl: 60 })
                .collect();
            let read = read_at([asked, answer], 3);
            assert_eq!((read.len(), read[0].0[0].as_str()), (1, "n0.example"), "{aliases}");
            assert_eq!(read[0].0.len(), (aliases + 1).min(MOST_NAMES));
        }
    }

    #[test]
    fn of_more_chains_than_are_joined_one_without_names_is_told() {
        for leading in [MOST_JOINED, MOST_JOINED + 1, MOST_ALIASES + 1] {
            let of_one = |number: usize| {
                let name = format!("n{number:03}.example").parse::<DomainName>().unwrap();
                let mut asked = question(1, 0);
                asked.message.qname = Some(name.clone());
                let mut told = asked.clone();
                told.message.response = true;
                told.message.aliases = vec![AliasRecord { owner: name, target: self::name(0), ttl: 60 }];
                told.point.frame += 1;
                [asked, told]
            };
            let address = [question(3, 0), message(4, ip(0), Some(ip(5)))];
            let read = read_at((0..leading).flat_map(of_one).chain(address), 5);
            let nameless = read.iter().filter(|(names, _)| names.is_empty()).count();
            assert_eq!(nameless, usize::from(leading > MOST_JOINED), "{leading}: {read:?}");
        }
    }

    /// More hosts than places in which answers about one address are remembered, so that some meet in one.
    #[test]
    fn what_is_remembered_of_an_address_is_of_the_host_that_asks() {
        let hosts =
            || (0..MOST_ASKED as u32 + 1_000).map(|number| (number, IpAddr::from(u32::to_be_bytes(number))));
        let server = IpAddr::from([198, 51, 100, 1]);
        let is_told = |number: u32| (number % 7).is_multiple_of(3);
        let messages = hosts().filter(|&(number, _)| is_told(number)).flat_map(|(number, host)| {
            [message(number.into(), host, None), message(number.into(), host, Some(server))]
        });
        let ledger = Ledger::new(messages.collect(), &|ip| ip, &|_| true, [Timestamp(0)].into());
        let bookmark = Bookmark::default();
        for (number, host) in hosts().chain(hosts()) {
            let about = about_near(&ledger, host, server, &bookmark);
            assert_eq!(about.is_some(), is_told(number), "{host}");
        }
    }

    /// The other way round: more addresses than places.
    #[test]
    fn whether_an_address_is_given_is_remembered_of_it_alone() {
        let host = IpAddr::from([10, 1, 1, 1]);
        let servers =
            || (0..4 * MOST_GIVEN as u32).map(|number| (number, IpAddr::from(u32::to_be_bytes(number))));
        let is_told = |number: u32| (number % 7).is_multiple_of(3);
        let told = servers().filter(|&(number, _)| is_told(number));
        let messages = told.flat_map(|(number, server)| {
            [message(number.into(), host, None), message(number.into(), host, Some(server))]
        });
        let ledger = Ledger::new(messages.collect(), &|ip| ip, &|_| true, [Timestamp(0)].into());
        let bookmark = Bookmark::default();
        // Those that meet in one place one after another.
        let mut servers: Vec<(u32, IpAddr)> = servers().chain(servers()).collect();
        servers.sort_by_key(|&(number, _)| number as usize % MOST_GIVEN);
        for (number, server) in servers {
            let about = about_near(&ledger, host, server, &bookmark);
            assert_eq!(about.is_some(), is_told(number), "{server}");
        }
    }

    type Flat = (FramePoint, [IpAddr; 3], u16, [bool; 6], (u16, u16), Vec<DomainName>);

    fn flat(a: &Answer<'_>) -> Flat {
        let standing = [a.trusted, a.matched, a.contested, a.unsolicited, a.has_addresses, a.salvaged];
        let ends = [a.host, a.client.ip, a.resolver];
        (a.point, ends, a.client.port, standing, (a.qtype, a.rcode), a.names.to_vec())
    }

    fn flat_reference(ledger: &reference::Ledger, a: &reference::Answer) -> Flat {
        let unsolicited = ledger.is_unsolicited(a);
        let gives = !a.addresses.is_empty();
        let standing = [a.trusted, a.matched, a.contested, unsolicited, gives, a.salvaged];
        let ends = [a.host, a.client.ip, a.resolver];
        (a.point, ends, a.client.port, standing, (a.qtype, a.rcode), a.names.clone())
    }

    /// Everything that can be asked of a ledger gets the answer of the plain one.
    fn same_answers(messages: &[DnsObservation]) -> Result<(), TestCaseError> {
        // The second after a pause.
        let begins: Arc<[Timestamp]> = [Timestamp(0), Timestamp(20 * NANOS_PER_SECOND)].into();
        let slow = reference::Ledger::new(messages, &host_of, &trusted, begins.clone());
        for parted in [(1, 1), (3, 2)] {
            let log = messages.iter().cloned().collect();
            let fast = Ledger::of_shares(log, (&host_of, &trusted), begins.clone(), parted);
            same_as(&fast, &slow)?;
        }
        Ok(())
    }

    fn same_as(fast: &Ledger, slow: &reference::Ledger) -> Result<(), TestCaseError> {
        let queries: Vec<_> = fast
            .queries()
            .map(|q| (q.point, [q.host, q.resolver], q.client, q.name.clone(), q.qtype, q.answered))
            .collect();
        let expected: Vec<_> = slow
            .queries()
            .iter()
            .map(|q| (q.point, [q.host, q.resolver], q.client, q.name.clone(), q.qtype, q.answered))
            .collect();
        prop_assert_eq!(queries, expected);
        let plain = |answer: &reference::Answer| flat_reference(slow, answer);
        let answers: Vec<_> = fast.answers().map(|answer| flat(&answer)).collect();
        let bookmark = Bookmark::default();
        prop_assert_eq!(answers, slow.answers().iter().map(plain).collect::<Vec<_>>());
        same_selections(fast, slow)?;
        let pairs = || (0..36).map(|pair| (ip(pair / 6), ip(pair % 6)));
        // All at once, and each again before the first is known and after.
        let mut abouts = Vec::new();
        fast.abouts(pairs().chain(pairs()), &bookmark, &mut abouts);
        fast.abouts(pairs(), &bookmark, &mut abouts);
        for (place, (host, other)) in pairs().enumerate() {
            prop_assert_eq!(fast.told(host), slow.told(host));
            for port in [5000, 5001] {
                let client = Endpoint::new(host, port);
                prop_assert_eq!(fast.only_forged(client, other), slow.only_forged(client, other));
            }
            let about = abouts[36 + place];
            for about in [abouts[place], about, abouts[72 + place]] {
                prop_assert_eq!(about.is_some(), fast.about(host, other).is_some());
            }
            let unsolicited = about.and_then(|about| about.only_unsolicited()).map(|answer| flat(&answer));
            prop_assert_eq!(unsolicited, slow.only_unsolicited(host, other).map(plain));
            for name in (0..5).map(name) {
                let ever = slow.ever_named(host, &name, other);
                prop_assert_eq!(about.is_some_and(|about| about.ever_named(&name, &bookmark)), ever);
            }
            for time in (0..26).map(|half| Timestamp(half * NANOS_PER_SECOND / 2)) {
                let readings = slow.readings(host, other, time);
                let found = about.map(|about| about.readings(time, None, &bookmark)).unwrap_or_default();
                prop_assert_eq!(found, (readings.clone(), false));
                let untrusted = about.and_then(|about| about.untrusted(time)).map(|answer| flat(&answer));
                prop_assert_eq!(untrusted, slow.untrusted(host, other, time).map(plain));
                for name in (0..5).map(name) {
                    let otherwise = slow.told_otherwise(host, &name, other, time);
                    prop_assert_eq!(fast.told_otherwise(host, &name, other, time), otherwise);
                    let holding = readings.iter().filter(|reading| reading.names.contains(&name));
                    let holding: Vec<Reading<'_>> = holding.cloned().collect();
                    let some = !holding.is_empty();
                    let expected = (if some { holding } else { readings.clone() }, some);
                    let found =
                        about.map(|about| about.readings(time, Some(&name), &bookmark)).unwrap_or_default();
                    prop_assert_eq!(found, expected);
                }
            }
        }
        Ok(())
    }

    /// What is handed over as some of all messages is those that are meant.
    fn same_selections(fast: &Ledger, slow: &reference::Ledger) -> Result<(), TestCaseError> {
        let (queries, answers) = (slow.queries(), slow.answers());
        let unsolicited = |answer: &&reference::Answer| slow.is_unsolicited(answer);
        let points: Vec<FramePoint> = fast.unsolicited_answers().map(|answer| answer.point).collect();
        let expected: Vec<FramePoint> =
            answers.iter().filter(unsolicited).map(|answer| answer.point).collect();
        prop_assert_eq!(points, expected);
        let points: Vec<FramePoint> = fast.untrusted_queries().map(|query| query.point).collect();
        let strange = queries.iter().filter(|query| !trusted(query.resolver));
        prop_assert_eq!(points, strange.map(|query| query.point).collect::<Vec<_>>());
        let count = |fits: &dyn Fn(&reference::Answer) -> bool| {
            answers.iter().filter(|answer| fits(answer)).count() as u64
        };
        let expected = Standings {
            queries: queries.len() as u64,
            unanswered: queries.iter().filter(|query| !query.answered).count() as u64,
            responses: count(&|_| true),
            unmatched: count(&|answer| !answer.matched),
            untrusted: count(&|answer| !answer.trusted),
            contested: count(&|answer| answer.contested),
            salvaged: count(&|answer| answer.salvaged),
        };
        prop_assert_eq!(fast.standings(), expected);

        let refuses = |rcode: u16| matches!(rcode, 2 | 3);
        let matters = |name: &DomainName| *name != self::name(2);
        let refused = |host: IpAddr, name: &DomainName| {
            let told =
                |answer: &&reference::Answer| answer.host == host && answer.names.first() == Some(name);
            answers.iter().filter(told).any(|answer| answer.matched && refuses(answer.rcode))
        };
        let unanswered = |host: IpAddr, name: &DomainName| -> Vec<Timestamp> {
            let asked = queries.iter().filter(|query| (query.host, &query.name) == (host, name));
            asked.filter(|query| !query.answered).map(|query| query.point.time).collect()
        };
        let in_trouble = |host: IpAddr, name: &DomainName| {
            matters(name) && (refused(host, name) || !unanswered(host, name).is_empty())
        };
        const WITHIN_NANOS: i64 = 5 * NANOS_PER_SECOND;
        let is_near = |host: IpAddr, name: &DomainName, time: Timestamp| {
            let soon = |asked: &Timestamp| (0..=WITHIN_NANOS).contains(&time.since(*asked));
            refused(host, name) || unanswered(host, name).iter().any(soon)
        };
        let troubled = fast.troubled(refuses, matters, WITHIN_NANOS);
        let found: Vec<_> = fast.queries_for(&troubled).map(|query| query.point).collect();
        let expected = queries.iter().filter(|query| {
            in_trouble(query.host, &query.name) && is_near(query.host, &query.name, query.point.time)
        });
        prop_assert_eq!(found, expected.map(|query| query.point).collect::<Vec<_>>());
        let found: Vec<_> = fast.answers_for(&troubled).map(|answer| answer.point).collect();
        let expected = answers.iter().filter(|answer| answer.matched);
        let mut resolved: HashMap<(IpAddr, &DomainName), usize, RandomState> = HashMap::default();
        let expected = expected.filter(|answer| {
            let Some(name) = answer.names.first().filter(|name| in_trouble(answer.host, name)) else {
                return false;
            };
            if is_near(answer.host, name, answer.point.time) {
                return true;
            }
            let told = resolved.entry((answer.host, name)).or_default();
            let tells = !answer.addresses.is_empty() && *told < RESOLVED_TOLD;
            *told += usize::from(tells);
            tells
        });
        prop_assert_eq!(found, expected.map(|answer| answer.point).collect::<Vec<_>>());
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn it_answers_as_the_plain_ledger_does(messages in proptest::collection::vec(observation(), 0..40)) {
            same_answers(&messages)?;
        }

        /// However messages come, in time or late, and however often it is asked meanwhile.
        #[test]
        fn a_growing_ledger_answers_as_one_that_is_made_at_once_does(
            messages in proptest::collection::vec(observation(), 0..60),
            (in_order, parts) in (any::<bool>(), proptest::collection::vec(1..12_usize, 1..8)),
        ) {
            let mut messages = messages;
            if in_order {
                messages.sort_by_key(|message| message.point);
            }
            // The second after a pause.
            let begins: Arc<[Timestamp]> = [Timestamp(0), Timestamp(20 * NANOS_PER_SECOND)].into();
            let mut growing = GrowingLedger::default();
            let mut from = 0;
            for count in parts.into_iter().chain([messages.len()]) {
                let until = messages.len().min(from + count);
                messages[from..until].iter().cloned().for_each(|message| growing.add(message));
                from = until;
                growing.know(&host_of, &trusted, begins.clone());
                let slow = reference::Ledger::new(&messages[..until], &host_of, &trusted, begins.clone());
                same_as(growing.ledger(), &slow)?;
            }
            growing.forget_half();
            growing.know(&host_of, &trusted, begins.clone());
            messages.sort_by_key(|message| message.point);
            let rest = &messages[messages.len() / 2..];
            same_as(growing.ledger(), &reference::Ledger::new(rest, &host_of, &trusted, begins.clone()))?;
        }

        /// More answers for a name than stand between two checkpoints.
        #[test]
        fn it_answers_as_the_plain_ledger_does_where_one_name_is_asked_often(
            messages in proptest::collection::vec(observation(), 60..150),
        ) {
            let one = |mut message: DnsObservation| {
                message.client = Endpoint::new(ip(0), 5000);
                (message.message.id, message.message.qtype) = (0, 1);
                message.transport = Transport::Udp;
                message.message.qname = message.message.qname.map(|_| name(0));
                message
            };
            same_answers(&messages.into_iter().map(one).collect::<Vec<_>>())?;
        }
    }
}
