//! By which names a host knew an address at a time: what flows ask for, one after another, nearly in the order of time.

use super::for_names::ForNames;
use super::{Answer, ChainNumber, Known, LATE_ANSWER_NANOS, Ledger, MOST_JOINED, Share, Told, bit, span};
use crate::model::{CaptureId, DomainName, FramePoint, NANOS_PER_SECOND, Timestamp, address_bits};
use crate::names::log::{Entry, NONE, number};
use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

/// Most readings given for one flow. Shared addresses of real hosts have a few names, those of storage stamps some hundreds;
/// without a bound each of a million flows would carry each of a million names. What is beyond is said by a reading
/// without names, which no rule fits: so that dropping evidence never documents anything.
const MOST_CHAINS: usize = 1024;

/// Most chains of one address and host that are searched for the name that a client wrote.
const MOST_SEARCHED: usize = 1 << 14;

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
pub(super) const MOST_GIVEN: usize = 1 << 8;

/// Hosts and addresses of which it is remembered where it is known: 8,192, half a megabyte. With four times as
/// many W2 and W3 take as long.
pub(super) const MOST_ASKED: usize = 1 << 13;

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

impl Ledger {
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
