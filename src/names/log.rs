//! All DNS messages of one or several captures, each as small as can be: names, addresses and what messages say are kept
//! once; of a message that says what another said before, 40 bytes remain.

use super::dns::{self, AddressRecord, AliasRecord, DnsMessage, SectionCounts};
use super::observation::DnsObservation;
use super::plain::{self, Plain, Taker};
use crate::model::{
    ByHash, CaptureId, Distinct, DomainName, Endpoint, FramePoint, Timestamp, Transport, address_bits,
};
use foldhash::fast::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::net::IpAddr;

/// The number of nothing: no log holds so many messages (160 GiB).
pub(super) const NONE: u32 = u32::MAX;

/// A number of one of many. They are stored as 32 bits: what they number takes more than 16 bytes each, so memory ends
/// before they do.
#[inline]
pub(super) fn number(index: usize) -> u32 {
    index as u32
}

/// Domain names by number.
#[derive(Clone, Default)]
pub(super) struct Names(Distinct<DomainName>);

impl Names {
    pub(super) fn get(&self, number: u32) -> Option<&DomainName> {
        self.0.get(number)
    }

    pub(super) fn len(&self) -> usize {
        self.0.values().len()
    }

    pub(super) fn find(&self, name: &DomainName) -> Option<u32> {
        let text = name.as_str().as_bytes();
        self.0.find(self.0.hash(text), |other| other.as_str().as_bytes() == text)
    }

    #[inline]
    fn intern_text(&mut self, text: &[u8], make: impl FnOnce() -> DomainName) -> u32 {
        let hash = self.0.hash(text);
        let found = self.0.find(hash, |other| other.as_str().as_bytes() == text);
        found.unwrap_or_else(|| self.0.insert(hash, make()))
    }

    fn intern(&mut self, name: &DomainName) -> u32 {
        self.intern_text(name.as_str().as_bytes(), || name.clone())
    }
}

/// Addresses by number.
#[derive(Clone, Default)]
pub(super) struct Addresses(Distinct<IpAddr>);

impl Addresses {
    #[inline]
    pub(super) fn get(&self, number: u32) -> Option<IpAddr> {
        self.0.get(number).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.0.values().len()
    }

    #[inline]
    pub(super) fn find(&self, ip: IpAddr) -> Option<u32> {
        self.0.find(self.0.hash(&address_bits(ip)), |other| *other == ip)
    }

    #[inline]
    pub(super) fn intern(&mut self, ip: IpAddr) -> u32 {
        let hash = self.0.hash(&address_bits(ip));
        let found = self.0.find(hash, |other| *other == ip);
        found.unwrap_or_else(|| self.0.insert(hash, ip))
    }
}

/// What messages say, by number: everything but their identifiers, in words of four bytes (see [`Body`]).
#[derive(Clone, Default)]
struct Bodies {
    bytes: Vec<u8>,
    /// Where each begins, and how many bytes it has.
    places: Vec<(usize, u32)>,
    table: ByHash,
    seed: RandomState,
}

impl Bodies {
    #[inline]
    fn get(&self, number: u32) -> &[u8] {
        let place = self.places.get(number as usize);
        place.and_then(|&(start, length)| self.bytes.get(start..start + length as usize)).unwrap_or_default()
    }

    #[inline]
    fn intern(&mut self, body: &[u8]) -> u32 {
        let hash = self.seed.hash_one(body);
        if let Some(found) = self.table.find(hash, |at| self.get(at) == body) {
            return found;
        }
        let new = number(self.places.len());
        self.places.push((self.bytes.len(), number(body.len())));
        self.bytes.extend_from_slice(body);
        self.table.insert(hash, new);
        new
    }
}

/// Most bytes of messages remembered as they came, so that they need not be read again; beyond, remembering begins anew.
/// A hundred thousand messages: fewer would make a busy resolver's repeats new ones, more only cost memory.
const MOST_REMEMBERED: usize = 1 << (PLACE_BITS + 2);

/// Remembered messages begin at every fourth byte, so that so many bits tell where.
const PLACE_BITS: u32 = 22;

/// Bytes before a remembered message: the number of what it says, its length, and whether it is a response.
const REMEMBERED_HEAD: usize = 7;

/// Plain messages as they came, but for their identifiers: what they say is known. Of a plain message nothing else
/// depends on the identifier, since no name in it may point into the header.
///
/// Nearly every message is looked for here, and to wait for memory is all that this costs: so a slot of the table is four bytes,
/// and what is known of a message stands before it.
#[derive(Clone, Default)]
struct Remembered {
    /// One message after another.
    bytes: Vec<u8>,
    /// Where a message begins and, above that, some bits of its hash; each in the first free slot from the one of its hash on. At
    /// least half of the slots are free.
    slots: Vec<u32>,
    count: usize,
    seed: RandomState,
}

impl Remembered {
    /// No message.
    const FREE: u32 = u32::MAX;

    /// Slots of the first table: 16 KiB.
    const LEAST_SLOTS: usize = 1 << 12;

    /// What stands in the slot of a message of this hash, but for where it begins.
    fn tag(hash: u64) -> u32 {
        (hash >> 32) as u32 & (u32::MAX << PLACE_BITS)
    }

    /// The slots where a message of this hash may be, as many as there are.
    fn walk(&self, hash: u64) -> impl Iterator<Item = usize> + use<> {
        let count = self.slots.len();
        (0..count).map(move |step| (hash as usize).wrapping_add(step) & (count - 1))
    }

    /// What is known of the message that begins there, and the message.
    fn message(&self, begin: usize) -> Option<(u32, bool, &[u8])> {
        let (head, rest) = self.bytes.get(begin..)?.split_first_chunk::<REMEMBERED_HEAD>()?;
        let &[b0, b1, b2, b3, l0, l1, response] = head;
        let message = rest.get(..usize::from(u16::from_le_bytes([l0, l1])))?;
        Some((u32::from_le_bytes([b0, b1, b2, b3]), response != 0, message))
    }

    /// Where the first message begins that has this hash in all that the table holds of it, and what it says.
    #[inline]
    fn likely(&self, hash: u64) -> Option<Likely> {
        for slot in self.walk(hash) {
            let found = *self.slots.get(slot)?;
            if found == Self::FREE {
                return None;
            }
            if found & (u32::MAX << PLACE_BITS) == Self::tag(hash) {
                let begin = begin_of(found);
                let body = *self.bytes.get(begin..)?.first_chunk()?;
                return Some(Likely { begin, body: u32::from_le_bytes(body) });
            }
        }
        None
    }

    #[inline]
    fn find(&self, ahead: &Ahead, rest: &[u8]) -> Option<(u32, bool)> {
        let Likely { begin, body } = ahead.likely?;
        match self.message(begin) {
            Some((_, response, message)) if message == rest => Some((body, response)),
            _ => self.search(ahead.hash, rest),
        }
    }

    #[cold]
    fn search(&self, hash: u64, rest: &[u8]) -> Option<(u32, bool)> {
        for slot in self.walk(hash) {
            let found = *self.slots.get(slot)?;
            if found == Self::FREE {
                return None;
            }
            if found & (u32::MAX << PLACE_BITS) == Self::tag(hash)
                && let Some((body, response, message)) = self.message(begin_of(found))
                && message == rest
            {
                return Some((body, response));
            }
        }
        None
    }

    fn insert(&mut self, hash: u64, rest: &[u8], body: u32, response: bool) {
        let Ok(length) = u16::try_from(rest.len()) else { return };
        let begin = self.bytes.len().next_multiple_of(4);
        // The last place of all is none: with a tag of ones it would be a free slot.
        if begin + REMEMBERED_HEAD + rest.len() + 4 > MOST_REMEMBERED {
            self.bytes.clear();
            self.slots.fill(Self::FREE);
            self.count = 0;
            return;
        }
        if (self.count + 1) * 2 > self.slots.len() {
            self.grow();
        }
        self.bytes.resize(begin, 0);
        self.bytes.extend_from_slice(&body.to_le_bytes());
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.push(u8::from(response));
        self.bytes.extend_from_slice(rest);
        self.put(hash, begin);
        self.count += 1;
    }

    fn put(&mut self, hash: u64, begin: usize) {
        let mut walk = self.walk(hash);
        let free = walk.find(|&slot| self.slots.get(slot) == Some(&Self::FREE));
        if let Some(slot) = free.and_then(|slot| self.slots.get_mut(slot)) {
            *slot = Self::tag(hash) | number(begin / 4);
        }
    }

    fn grow(&mut self) {
        let slots = (self.slots.len() * 2).max(Self::LEAST_SLOTS);
        self.slots = vec![Self::FREE; slots];
        let mut begin = 0;
        while let Some((_, _, message)) = self.message(begin) {
            let (hash, end) = (self.seed.hash_one(message), begin + REMEMBERED_HEAD + message.len());
            self.put(hash, begin);
            begin = end.next_multiple_of(4);
        }
    }
}

/// A remembered message that is perhaps the one looked for.
#[derive(Clone, Copy, Debug)]
struct Likely {
    begin: usize,
    body: u32,
}

/// What was asked for about a message before it is read, so that memory has come until then: for [`DnsLog::read_ahead`].
#[derive(Clone, Copy, Debug)]
pub struct Ahead {
    hash: u64,
    likely: Option<Likely>,
}

/// Where the message begins that a slot tells.
fn begin_of(slot: u32) -> usize {
    (slot & !(u32::MAX << PLACE_BITS)) as usize * 4
}

/// A message without its identifier, names and addresses by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Body {
    pub response: bool,
    pub truncated: bool,
    pub salvaged: bool,
    pub opcode: u8,
    pub rcode: u16,
    /// [`NONE`] without question.
    pub qname: u32,
    pub qtype: u16,
    pub qclass: u16,
    pub counts: SectionCounts,
    /// Owner, address, time to live.
    pub addresses: Vec<[u32; 3]>,
    /// Owner, target, time to live.
    pub aliases: Vec<[u32; 3]>,
    pub ttls: Vec<u32>,
    pub hints: Vec<u32>,
}

/// Words of a body before its lists.
const HEAD_WORDS: usize = 8;

fn pair(high: u16, low: u16) -> u32 {
    (u32::from(high) << 16) | u32::from(low)
}

fn halves(word: u32) -> (u16, u16) {
    ((word >> 16) as u16, word as u16)
}

impl Body {
    fn clear(&mut self) {
        self.addresses.clear();
        self.aliases.clear();
        self.ttls.clear();
        self.hints.clear();
    }

    /// Writes the words.
    fn write(&self, out: &mut Vec<u8>) {
        let flags = u16::from(self.response)
            | (u16::from(self.truncated) << 1)
            | (u16::from(self.salvaged) << 2)
            | (u16::from(self.opcode) << 3);
        let counts = &self.counts;
        let head: [u32; HEAD_WORDS] = [
            pair(flags, self.rcode),
            self.qname,
            pair(self.qtype, self.qclass),
            pair(counts.questions, counts.answers),
            pair(counts.authorities, counts.additionals),
            number(self.addresses.len()),
            number(self.aliases.len()),
            number(self.ttls.len()),
        ];
        out.clear();
        let mut put =
            |words: &[u32]| words.iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
        put(&head);
        put(self.addresses.as_flattened());
        put(self.aliases.as_flattened());
        put(&self.ttls);
        put(&self.hints);
    }

    /// Reads what [`Body::write`] wrote; `self` is overwritten.
    fn read(&mut self, bytes: &[u8]) {
        self.clear();
        let mut words = bytes.as_chunks::<4>().0.iter().map(|&word| u32::from_le_bytes(word));
        let mut next = || words.next().unwrap_or_default();
        let (flags, rcode) = halves(next());
        self.response = flags & 1 != 0;
        self.truncated = flags & 2 != 0;
        self.salvaged = flags & 4 != 0;
        self.opcode = (flags >> 3) as u8;
        self.rcode = rcode;
        self.qname = next();
        (self.qtype, self.qclass) = halves(next());
        (self.counts.questions, self.counts.answers) = halves(next());
        (self.counts.authorities, self.counts.additionals) = halves(next());
        let (addresses, aliases, ttls) = (next(), next(), next());
        for (list, count) in [(&mut self.addresses, addresses), (&mut self.aliases, aliases)] {
            for _ in 0..count {
                list.push([next(), next(), next()]);
            }
        }
        for _ in 0..ttls {
            self.ttls.push(next());
        }
        self.hints.extend(words);
    }
}

/// One message: where it stands, between whom, and the number of what it says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    time: Timestamp,
    frame: u64,
    capture: CaptureId,
    pub client: u32,
    pub resolver: u32,
    pub body: u32,
    pub client_port: u16,
    pub resolver_port: u16,
    pub id: u16,
    /// The IANA number.
    pub transport: u8,
}

impl Entry {
    pub(super) fn time(&self) -> Timestamp {
        self.time
    }

    pub(super) fn point(&self) -> FramePoint {
        FramePoint { time: self.time, capture: self.capture, frame: self.frame }
    }
}

/// DNS messages in the order in which they were kept.
#[derive(Clone, Default)]
pub struct DnsLog {
    names: Names,
    addresses: Addresses,
    bodies: Bodies,
    entries: Vec<Entry>,
    remembered: Remembered,
    /// The resolver of the last message, and its number: of the next it is mostly the same.
    last_resolver: Option<(IpAddr, u32)>,
    /// The message at hand, and its words: reused.
    body: Body,
    words: Vec<u8>,
}

impl DnsLog {
    /// Asks for what is remembered of a message that will be read.
    #[inline]
    pub fn ahead(&self, bytes: &[u8]) -> Ahead {
        let rest = bytes.get(2..).unwrap_or_default();
        let hash = self.remembered.seed.hash_one(rest);
        Ahead { hash, likely: self.remembered.likely(hash) }
    }

    /// Reads one message (without TCP's length prefix) and keeps it: whether it is a response. `None` if it is no plausible
    /// message, or its server's port is not 53.
    pub fn read(
        &mut self,
        bytes: &[u8],
        point: FramePoint,
        src: Endpoint,
        dst: Endpoint,
        transport: Transport,
    ) -> Option<bool> {
        let ahead = self.ahead(bytes);
        self.read_ahead(bytes, &ahead, point, (src, dst), transport)
    }

    /// The same, of the message that was asked for last.
    pub fn read_ahead(
        &mut self,
        bytes: &[u8],
        ahead: &Ahead,
        point: FramePoint,
        (src, dst): (Endpoint, Endpoint),
        transport: Transport,
    ) -> Option<bool> {
        let ends = |response| if response { (dst, src) } else { (src, dst) };
        let (id, rest) = bytes.split_first_chunk()?;
        if let Some((body, response)) = self.remembered.find(ahead, rest) {
            let (client, resolver) = ends(response);
            if !dns::is_dns_port(resolver.port) {
                return None;
            }
            self.enter(point, client, resolver, transport, u16::from_be_bytes(*id), body);
            return Some(response);
        }
        self.body.clear();
        if let Some(plain) = plain::read(bytes, &mut Keeper { log: self }) {
            let (client, resolver) = ends(plain.response);
            if !dns::is_dns_port(resolver.port) {
                return None;
            }
            self.take_plain(&plain);
            let body = self.keep_body();
            self.remembered.insert(ahead.hash, rest, body, plain.response);
            self.enter(point, client, resolver, transport, plain.id, body);
            return Some(plain.response);
        }
        let message = dns::parse_any(bytes)?;
        let (client, resolver) = ends(message.response);
        if !dns::is_dns_port(resolver.port) {
            return None;
        }
        let response = message.response;
        self.push(DnsObservation { point, client, resolver, transport, message });
        Some(response)
    }

    fn take_plain(&mut self, plain: &Plain<u32>) {
        let body = &mut self.body;
        (body.response, body.truncated, body.salvaged) = (plain.response, plain.truncated, false);
        (body.opcode, body.rcode) = (0, plain.rcode);
        (body.qname, body.qtype, body.qclass) = (plain.qname, plain.qtype, dns::CLASS_IN);
        body.counts = plain.counts;
    }

    /// Keeps a message.
    pub fn push(&mut self, observation: DnsObservation) {
        let message = &observation.message;
        let DnsLog { names, addresses, body, .. } = self;
        body.clear();
        (body.response, body.truncated) = (message.response, message.truncated);
        (body.salvaged, body.opcode, body.rcode) = (message.salvaged, message.opcode, message.rcode);
        body.qname = message.qname.as_ref().map_or(NONE, |name| names.intern(name));
        (body.qtype, body.qclass, body.counts) = (message.qtype, message.qclass, message.counts);
        for AddressRecord { owner, ip, ttl } in &message.addresses {
            body.addresses.push([names.intern(owner), addresses.intern(*ip), *ttl]);
        }
        for AliasRecord { owner, target, ttl } in &message.aliases {
            body.aliases.push([names.intern(owner), names.intern(target), *ttl]);
        }
        body.ttls.extend_from_slice(&message.ttls);
        body.hints.extend(message.svcb_hints.iter().map(|ip| addresses.intern(*ip)));
        let body = self.keep_body();
        let DnsObservation { point, client, resolver, transport, .. } = observation;
        self.enter(point, client, resolver, transport, observation.message.id, body);
    }

    /// Keeps what the message at hand says.
    fn keep_body(&mut self) -> u32 {
        self.body.write(&mut self.words);
        self.bodies.intern(&self.words)
    }

    fn enter(
        &mut self,
        point: FramePoint,
        client: Endpoint,
        resolver: Endpoint,
        transport: Transport,
        id: u16,
        body: u32,
    ) {
        let client_number = self.addresses.intern(client.ip);
        let (_, resolver_number) = match self.last_resolver {
            Some(last) if last.0 == resolver.ip => last,
            _ => *self.last_resolver.insert((resolver.ip, self.addresses.intern(resolver.ip))),
        };
        self.entries.push(Entry {
            time: point.time,
            frame: point.frame,
            capture: point.capture,
            client: client_number,
            resolver: resolver_number,
            body,
            client_port: client.port,
            resolver_port: resolver.port,
            id,
            transport: transport.number(),
        });
    }

    /// Bytes that it takes in memory, about.
    pub fn kept_bytes(&self) -> usize {
        // A place of a hash table is a number, 32 bits of its hash and a tag, and an eighth of them is free.
        const PLACE: usize = 10;
        // The text of a name, which stands apart; most are shorter.
        const NAME: usize = 48;
        let Bodies { bytes, places, .. } = &self.bodies;
        let Remembered { bytes: remembered, slots, .. } = &self.remembered;
        self.entries.capacity() * size_of::<Entry>()
            + self.names.0.capacity() * (size_of::<DomainName>() + PLACE)
            + self.names.0.values().len() * NAME
            + self.addresses.0.capacity() * (size_of::<IpAddr>() + PLACE)
            + bytes.capacity()
            + places.capacity() * (size_of::<(usize, u32)>() + PLACE)
            + remembered.capacity()
            + slots.capacity() * size_of::<u32>()
    }

    /// Bytes of memory that its messages take as long as they are asked for, about: its own, and what the ledger has of each
    /// (what became of it, where it stands among the answers about an address, with room to grow).
    pub fn lasting_bytes(&self) -> usize {
        const IN_LEDGER: usize = 20;
        self.entries.len() * (size_of::<Entry>() + IN_LEDGER) + self.bodies.bytes.len()
    }

    /// No message comes any more: what only makes reading faster is forgotten.
    pub fn settle(&mut self) {
        self.remembered = Remembered::default();
        self.entries.shrink_to_fit();
        self.bodies.bytes.shrink_to_fit();
    }

    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The messages.
    pub fn iter(&self) -> impl Iterator<Item = DnsObservation> {
        self.entries.iter().map(|entry| self.observation(entry))
    }

    /// The messages that were kept after the first `count`.
    pub fn since(&self, count: usize) -> impl Iterator<Item = DnsObservation> {
        self.entries.get(count..).unwrap_or_default().iter().map(|entry| self.observation(entry))
    }

    /// Says of which capture all messages are.
    pub fn set_capture(&mut self, capture: CaptureId) {
        self.entries.iter_mut().for_each(|entry| entry.capture = capture);
    }

    /// Counts the frames of all messages from an earlier one.
    pub fn set_frames_before(&mut self, frames: u64) {
        self.entries.iter_mut().for_each(|entry| entry.frame += frames);
    }

    /// Adds all messages of another log behind those of this one.
    pub fn append(&mut self, other: DnsLog) {
        if self.is_empty() {
            *self = other;
            return;
        }
        let names: Vec<u32> = other.names.0.values().iter().map(|name| self.names.intern(name)).collect();
        let addresses: Vec<u32> =
            other.addresses.0.values().iter().map(|&ip| self.addresses.intern(ip)).collect();
        let here = |numbers: &[u32], there: u32| numbers.get(there as usize).copied().unwrap_or(NONE);
        let body = &mut self.body;
        let mut bodies = Vec::with_capacity(other.bodies.places.len());
        for place in 0..other.bodies.places.len() {
            body.read(other.bodies.get(number(place)));
            body.qname = here(&names, body.qname);
            for [owner, ip, _] in &mut body.addresses {
                (*owner, *ip) = (here(&names, *owner), here(&addresses, *ip));
            }
            for [owner, target, _] in &mut body.aliases {
                (*owner, *target) = (here(&names, *owner), here(&names, *target));
            }
            body.hints.iter_mut().for_each(|ip| *ip = here(&addresses, *ip));
            body.write(&mut self.words);
            bodies.push(self.bodies.intern(&self.words));
        }
        self.entries.extend(other.entries.into_iter().map(|entry| Entry {
            client: here(&addresses, entry.client),
            resolver: here(&addresses, entry.resolver),
            body: here(&bodies, entry.body),
            ..entry
        }));
    }

    /// Puts the messages in the order of their frames; messages of one frame stay in the order in which they were kept.
    pub fn sort(&mut self) {
        // Where messages are put in order, no more are to be read.
        self.remembered = Remembered::default();
        self.entries.sort_by_key(Entry::point);
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(super) fn names(&self) -> &Names {
        &self.names
    }

    pub(super) fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    pub(super) fn addresses_mut(&mut self) -> &mut Addresses {
        &mut self.addresses
    }

    /// Hands over what messages say, by number, but for the first `count`.
    pub(super) fn each_body_since(&self, count: usize, mut take: impl FnMut(&Body)) {
        let mut body = Body::default();
        for place in count..self.bodies.places.len() {
            body.read(self.bodies.get(number(place)));
            take(&body);
        }
    }

    pub(super) fn observation(&self, entry: &Entry) -> DnsObservation {
        let mut body = Body::default();
        body.read(self.bodies.get(entry.body));
        let name = |number: u32| self.names.get(number).cloned().unwrap_or_else(DomainName::root);
        let ip = |number: u32| self.addresses.get(number).unwrap_or(IpAddr::V4([0; 4].into()));
        DnsObservation {
            point: entry.point(),
            client: Endpoint::new(ip(entry.client), entry.client_port),
            resolver: Endpoint::new(ip(entry.resolver), entry.resolver_port),
            transport: Transport::from_number(entry.transport),
            message: DnsMessage {
                id: entry.id,
                response: body.response,
                opcode: body.opcode,
                truncated: body.truncated,
                rcode: body.rcode,
                qname: (body.qname != NONE).then(|| name(body.qname)),
                qtype: body.qtype,
                qclass: body.qclass,
                addresses: body
                    .addresses
                    .iter()
                    .map(|&[owner, address, ttl]| AddressRecord { owner: name(owner), ip: ip(address), ttl })
                    .collect(),
                aliases: body
                    .aliases
                    .iter()
                    .map(|&[owner, target, ttl]| AliasRecord {
                        owner: name(owner),
                        target: name(target),
                        ttl,
                    })
                    .collect(),
                ttls: body.ttls,
                svcb_hints: body.hints.iter().map(|&hint| ip(hint)).collect(),
                salvaged: body.salvaged,
                counts: body.counts,
            },
        }
    }
}

/// Takes a plain message into the body at hand.
struct Keeper<'l> {
    log: &'l mut DnsLog,
}

impl Taker for Keeper<'_> {
    type Name = u32;

    #[inline]
    fn name(&mut self, name: &[u8]) -> u32 {
        self.log.names.intern_text(name, || plain::domain_name(name))
    }

    #[inline]
    fn address(&mut self, owner: u32, ip: IpAddr, ttl: u32) {
        let ip = self.log.addresses.intern(ip);
        self.log.body.addresses.push([owner, ip, ttl]);
        self.log.body.ttls.push(ttl);
    }

    #[inline]
    fn alias(&mut self, owner: u32, target: u32, ttl: u32) {
        self.log.body.aliases.push([owner, target, ttl]);
        self.log.body.ttls.push(ttl);
    }
}

impl Extend<DnsObservation> for DnsLog {
    fn extend<I: IntoIterator<Item = DnsObservation>>(&mut self, messages: I) {
        messages.into_iter().for_each(|message| self.push(message));
    }
}

impl FromIterator<DnsObservation> for DnsLog {
    fn from_iter<I: IntoIterator<Item = DnsObservation>>(messages: I) -> Self {
        let mut log = DnsLog::default();
        log.extend(messages);
        log
    }
}

/// The same messages in the same order, however they are numbered inside.
impl PartialEq for DnsLog {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl fmt::Debug for DnsLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Read = (Vec<u8>, FramePoint, Endpoint, Endpoint, Transport);

    /// A question, or an answer of A, AAAA, CNAME, TXT and HTTPS records; some are cut.
    fn wire() -> impl Strategy<Value = Vec<u8>> {
        let record = prop_oneof![
            any::<u8>().prop_map(|last| [&[0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2][..], &[last]].concat()),
            (0u8..4).prop_map(|last| [&[0, 28, 0, 1, 0, 0, 0, 9, 0, 16][..], &[last; 16]].concat()),
            Just([0, 5, 0, 1, 0, 0, 0, 9, 0, 2, 0xc0, 14].to_vec()),
            Just([0, 16, 0, 1, 0, 0, 0, 9, 0, 2, 1, b't'].to_vec()),
            Just([0, 65, 0, 1, 0, 0, 0, 9, 0, 11, 0, 1, 0, 0, 4, 0, 4, 192, 0, 2, 9].to_vec()),
        ];
        let records = proptest::collection::vec(record, 0..4);
        let letter = prop_oneof![Just(b'a'), Just(b'B'), Just(b' ')];
        (any::<bool>(), any::<bool>(), letter, records, 0usize..3).prop_map(
            |(response, id, letter, records, cut)| {
                let records = if response { records } else { Vec::new() };
                let flags = if response { 0x81 } else { 1 };
                let mut wire = vec![0, u8::from(id), flags, 0, 0, 1, 0, records.len() as u8, 0, 0, 0, 0];
                wire.extend([1, letter, 3, b'o', b'r', b'g', 0, 0, 1, 0, 1]);
                for record in records {
                    wire.extend([0xc0, 12]);
                    wire.extend(record);
                }
                wire.truncate(wire.len() - if cut == 1 { 3 } else { 0 });
                wire
            },
        )
    }

    fn message() -> impl Strategy<Value = Read> {
        let end = || (0u8..3, prop_oneof![Just(53), 5000u16..5002]);
        (wire(), -2i64..3, 0u64..3, end(), end(), any::<bool>()).prop_map(|(wire, time, frame, a, b, tcp)| {
            let end = |(last, port)| Endpoint::new(IpAddr::from([10, 0, 0, last]), port);
            let point = FramePoint { time: Timestamp(time), capture: CaptureId::new(0), frame };
            (wire, point, end(a), end(b), if tcp { Transport::Tcp } else { Transport::Udp })
        })
    }

    fn whole((wire, point, src, dst, transport): &Read) -> Option<DnsObservation> {
        let message = dns::parse(wire)?;
        let (client, resolver) = if message.response { (*dst, *src) } else { (*src, *dst) };
        let (point, transport) = (*point, *transport);
        (resolver.port == 53).then_some(DnsObservation { point, client, resolver, transport, message })
    }

    proptest! {
        #[test]
        fn what_was_read_comes_back_as_whole_messages(messages in proptest::collection::vec(message(), 0..30)) {
            let mut log = DnsLog::default();
            let mut expected = Vec::new();
            for message in &messages {
                let (wire, point, src, dst, transport) = message;
                let response = log.read(wire, *point, *src, *dst, *transport);
                let observation = whole(message);
                prop_assert_eq!(response, observation.as_ref().map(|o| o.message.response));
                expected.extend(observation);
            }
            prop_assert_eq!(log.len(), expected.len());
            prop_assert_eq!(log.iter().collect::<Vec<_>>(), expected.clone());
            prop_assert_eq!(&log, &expected.iter().cloned().collect::<DnsLog>());
            log.sort();
            log.set_capture(CaptureId::new(3));
            expected.sort_by_key(|observation| observation.point);
            expected.iter_mut().for_each(|observation| observation.point.capture = CaptureId::new(3));
            prop_assert_eq!(log.iter().collect::<Vec<_>>(), expected);
        }

        #[test]
        fn logs_put_together_hold_the_messages_of_both(
            one in proptest::collection::vec(message(), 0..20),
            other in proptest::collection::vec(message(), 0..20),
        ) {
            let log = |messages: &[Read]| messages.iter().filter_map(whole).collect::<DnsLog>();
            let mut both = log(&one);
            both.append(log(&other));
            prop_assert_eq!(both, log(&[one, other].concat()));
        }
    }

    fn known(remembered: &Remembered, hash: u64, message: &[u8]) -> Option<(u32, bool)> {
        remembered.find(&Ahead { hash, likely: remembered.likely(hash) }, message)
    }

    #[test]
    fn a_remembered_message_is_found_until_remembering_begins_anew() {
        let mut remembered = Remembered::default();
        let message = |number: u32, length: usize| -> Vec<u8> {
            number.to_be_bytes().into_iter().cycle().take(length).collect()
        };
        let small = |number: u32| message(number, 40 + number as usize % 7);
        let hash = |remembered: &Remembered, message: &[u8]| remembered.seed.hash_one(message);
        for number in 0..20_000 {
            let message = small(number);
            let hash = hash(&remembered, &message);
            assert_eq!(known(&remembered, hash, &message), None, "{number}");
            remembered.insert(hash, &message, number, number % 3 == 0);
        }
        for number in 0..20_000 {
            let message = small(number);
            let found = known(&remembered, hash(&remembered, &message), &message);
            assert_eq!(found, Some((number, number % 3 == 0)));
        }
        let large = |number: u32| message(number, 60_000);
        for number in 0..300 {
            let message = large(number);
            remembered.insert(hash(&remembered, &message), &message, number, true);
            assert!(remembered.bytes.len() <= MOST_REMEMBERED);
        }
        assert_eq!(known(&remembered, hash(&remembered, &small(0)), &small(0)), None);
        let found: Vec<_> = (0..300)
            .map(|number| (number, known(&remembered, hash(&remembered, &large(number)), &large(number))))
            .collect();
        assert!(found.iter().all(|&(number, found)| found.is_none_or(|found| found == (number, true))));
        assert!(found.last().is_some_and(|(_, found)| found.is_some()));
    }

    #[test]
    fn remembered_messages_of_one_hash_are_told_apart() {
        let mut remembered = Remembered::default();
        remembered.insert(7, b"one", 1, false);
        remembered.insert(7, b"two", 2, true);
        let found = [&b"one"[..], b"two", b"six"].map(|message| known(&remembered, 7, message));
        assert_eq!(found, [Some((1, false)), Some((2, true)), None]);
    }

    #[test]
    fn what_was_said_before_is_kept_once_and_takes_forty_bytes_more() {
        let mut log = DnsLog::default();
        let mut wire = vec![0, 1, 0x81, 0, 0, 1, 0, 1, 0, 0, 0, 0, 1, b'a', 0, 0, 1, 0, 1];
        wire.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 1]);
        let src = Endpoint::new(IpAddr::from([10, 0, 0, 2]), 53);
        let dst = Endpoint::new(IpAddr::from([10, 0, 0, 1]), 5000);
        for turn in 0..100u8 {
            wire[1] = turn; // the identifier
            wire[13] = if turn % 2 == 0 { b'a' } else { b'A' };
            assert_eq!(log.read(&wire, FramePoint::default(), src, dst, Transport::Udp), Some(true));
        }
        assert_eq!((log.len(), log.bodies.places.len(), log.addresses.len()), (100, 1, 3));
        assert_eq!(size_of::<Entry>(), 40);
    }
}
