//! Names that hosts asked for and may not have got.

use super::{Answer, LEAST_SHARED, Ledger, Query, Standing};
use crate::model::{DomainName, Timestamp};
use crate::names::log::{NONE, number};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::net::IpAddr;
use std::panic::resume_unwind;

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
        let next = self.unanswered.get(before);
        last.is_some_and(|&asked| time.since(asked) <= within_nanos)
            || next.is_some_and(|&asked| asked.since(time) <= within_nanos)
    }
}

impl Ledger {
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

    /// Who asked for a name, counting answers alone, and was given nothing but addresses at which no other machine is: unspecified and
    /// loopback ones, as DNS filters give in place of a name's own. By host and name; of a host the address that asked first.
    pub fn led_nowhere(&self) -> Vec<(IpAddr, &DomainName)> {
        let addresses = 0..number(self.log.addresses().len());
        let is_nowhere = |&number: &u32| {
            let ip = self.ip(number);
            ip.is_unspecified() || ip.is_loopback()
        };
        let nowhere: Vec<u32> = addresses.filter(is_nowhere).collect();
        if nowhere.is_empty() {
            return Vec::new();
        }
        const COUNTS: u8 = Standing::RESPONSE | Standing::MATCHED | Standing::TRUSTED;
        // Of a host and a name.
        let asked = |at: u32| (self.host(self.entry(at)), self.question(self.entry(at)).name);
        let gives = |at: u32, nowhere_too: bool| {
            let given = self.reached(self.entry(at).body);
            let leads = |ip: &u32| nowhere.binary_search(ip).is_ok() == nowhere_too;
            given.iter().any(|(ip, _)| leads(ip))
        };
        let mut led: HashMap<(u32, u32), u32, RandomState> = HashMap::default();
        for at in self.standing(COUNTS, COUNTS).filter(|&at| gives(at, true)) {
            led.entry(asked(at)).or_insert(at);
        }
        for at in self.standing(COUNTS, COUNTS) {
            if led.contains_key(&asked(at)) && gives(at, false) {
                led.remove(&asked(at));
            }
        }
        let mut led: Vec<u32> = led.into_values().collect();
        led.sort_unstable();
        let told = led.into_iter().filter_map(|at| {
            let (entry, (_, name)) = (self.entry(at), asked(at));
            Some((self.ip(entry.client), self.log.names().get(name)?))
        });
        told.collect()
    }
}
