//! Stretches of a packet or two, which most are where there are many: written and read in fewer steps than others, as the same
//! bytes.

use super::super::key::{FlowKey, KeyWords, Side};
use super::super::open::At;
use super::super::partial::DnsSeen;
use super::super::short::{Sent, Short};
use super::{
    COUNT_BYTES, DATA, DATA_IS_FIRST, DNS, FIRST, FIRST_IS_BASE, FRAGMENTS, HIGH, LAST_IS_FIRST, LOW,
    NO_HELLOS, Origin, QUOTED, QUOTES, Reader, SYN, TTL, V6, VLAN, VNI, count_word, counts_of_bytes, near,
};
use crate::model::{Endpoint, FramePoint, Timestamp, Transport, varint};
use std::net::IpAddr;

/// A stretch of one packet of a side or of each, what millions of conversations are, while it is written as [`pack`](super::pack)
/// writes it: two bytes, addresses, ports, time, frame, tag; of each side a mask, counts and what its packet is, and of the later
/// one a distance.
pub(in crate::flow) struct BriefLine {
    bytes: [u8; Self::ROOM],
    used: usize,
    /// The frame that it begins with.
    begin: At,
}

/// The packet of one side.
pub(in crate::flow) struct BriefSide {
    pub at: At,
    pub bytes: u32,
    pub payload: u32,
    pub packet: BriefPacket,
}

/// Packets whose stretches are written in one go.
#[derive(Clone, Copy)]
pub(in crate::flow) enum BriefPacket {
    /// A SYN without payload: its number, and its time to live.
    Syn(u32, u8),
    /// A datagram of which no bytes are kept: how many questions and answers of DNS it is.
    Datagram(u8, u8),
}

impl BriefLine {
    const ROOM: usize = (2 + 32 + 4 + 8 + 8 + 2) + 2 * (4 + COUNT_BYTES + 6) + 8;

    /// A place for one.
    #[inline(always)]
    pub fn nothing() -> Self {
        BriefLine { bytes: [0; Self::ROOM], used: 0, begin: At::default() }
    }

    /// Begins one of these ends, of which the lesser sent something and the greater did, with a frame, whose number is above `base`.
    /// None if a number of it needs more room than is usual.
    #[inline(always)]
    pub fn begin(
        &mut self,
        key: &KeyWords,
        [low, high]: [bool; 2],
        vlan: Option<u16>,
        begin: At,
        base: u64,
    ) -> Option<()> {
        let line = self;
        line.begin = begin;
        let some = |there: bool, bit: u8| if there { bit } else { 0 };
        let flags = some(low, LOW) | some(high, HIGH) | some(vlan.is_some(), VLAN);
        let number = key.transport_number();
        match key.addresses() {
            [IpAddr::V4(low), IpAddr::V4(high)] => {
                line.put([flags, number], 2);
                line.put(low.octets(), 4);
                line.put(high.octets(), 4);
            }
            [IpAddr::V6(low), IpAddr::V6(high)] => {
                line.put([flags | V6, number], 2);
                line.put(low.octets(), 16);
                line.put(high.octets(), 16);
            }
            _ => return None,
        }
        let [low_port, high_port] = key.ports();
        line.put((u32::from(high_port) << 16 | u32::from(low_port)).to_le_bytes(), 4);
        line.put(begin.time.to_le_bytes(), 8);
        let (frame, frame_bytes) = varint::word(base + u64::from(begin.frame))?;
        line.put(frame.to_le_bytes(), frame_bytes);
        if let Some(vlan) = vlan {
            line.put(vlan.to_le_bytes(), 2);
        }
        Some(())
    }

    /// Adds what a side sent, the lesser first. None if a number of it needs more room than is usual.
    #[inline(always)]
    pub fn add(&mut self, side: &BriefSide) -> Option<()> {
        let counts = count_word([1, side.bytes.into(), side.payload.into()])?;
        let is_first = side.at == self.begin;
        // Nothing came after it.
        let mask = FIRST | LAST_IS_FIRST | if is_first { FIRST_IS_BASE } else { 0 };
        let (mask, packet, packet_bytes) = match side.packet {
            BriefPacket::Syn(isn, ttl) => {
                let ttl = u64::from(ttl);
                (mask | SYN | TTL, u64::from(isn) | ttl << 32 | ttl << 40, 6)
            }
            BriefPacket::Datagram(queries, responses) => {
                let data = if side.payload > 0 { DATA | DATA_IS_FIRST } else { 0 };
                let (dns, bytes) = if queries | responses != 0 { (DNS, 2) } else { (0, 0) };
                (mask | data | dns, u64::from(queries) | u64::from(responses) << 8, bytes)
            }
        };
        self.put(mask.to_le_bytes(), 4);
        self.put(counts.to_le_bytes(), COUNT_BYTES);
        if !is_first {
            let nanos = side.at.time.wrapping_sub(self.begin.time);
            let frames = i64::from(side.at.frame) - i64::from(self.begin.frame);
            let word = near(nanos, frames);
            if word == 0 {
                return None;
            }
            self.put(word.to_le_bytes(), 8);
        }
        self.put(packet.to_le_bytes(), packet_bytes);
        Some(())
    }

    /// The first `some` of these bytes. Room is for all of them, wherever in a line they stand.
    #[inline(always)]
    fn put<const N: usize>(&mut self, bytes: [u8; N], some: usize) {
        if let Some(place) = self.bytes.get_mut(self.used..).and_then(<[u8]>::first_chunk_mut) {
            *place = bytes;
            self.used += some;
        } else {
            debug_assert!(false, "no line is longer than {} bytes", Self::ROOM);
        }
    }

    /// Appends it where there is room for more than it: copied as a whole, so that how much is known beforehand.
    #[inline(always)]
    pub fn append_to(&self, out: &mut Vec<u8>) {
        let end = out.len() + self.used;
        out.extend_from_slice(&self.bytes);
        out.truncate(end);
    }

    /// What was written.
    #[inline(always)]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.used).unwrap_or_default()
    }

    /// When it begins.
    #[inline(always)]
    pub fn time(&self) -> Timestamp {
        Timestamp(self.begin.time)
    }
}

/// A stretch of which one side alone sent frames, and those show no more than where they are, times to live and a SYN that
/// was sent once: what a flood is made of, read at one go.
pub(super) struct Lone {
    pub key: FlowKey,
    pub vlan: Option<u16>,
    pub vni: Option<u32>,
    pub side: Side,
    pub sent: Sent,
}

/// A lone stretch and the bytes after it; none if it is another, or no stretch at all.
///
/// Inlined wherever it is called, so that what it finds stays in registers: handed over in memory, written field by field and read
/// back in longer words, it cost more than to read it.
#[inline(always)]
pub(super) fn lone(bytes: &[u8], origin: Origin) -> Option<(Lone, &[u8])> {
    lone_syn(bytes, origin, |lone, rest| (lone, rest)).or_else(|| any_lone(bytes, origin))
}

/// One SYN, read in fewer steps: apart from how many bytes the number of its frame takes, all of it stands where it stands in all
/// such stretches. `take` takes it, and the bytes after it. None if it is another, or ends sooner than one does.
#[inline(always)]
pub(super) fn lone_syn<'b, T>(
    bytes: &'b [u8],
    origin: Origin,
    take: impl FnOnce(Lone, &'b [u8]) -> T,
) -> Option<T> {
    let v4 = |octets: [u8; 4]| IpAddr::from(octets);
    let v6 = |octets: [u8; 16]| IpAddr::from(octets);
    // What is taken is taken in each case, so that it is never put together in memory.
    match *bytes.first()? & !(LOW | HIGH) {
        0 => syn_between(bytes, origin, v4, no_vlan).map(|(lone, rest)| take(lone, rest)),
        VLAN => syn_between(bytes, origin, v4, vlan_of).map(|(lone, rest)| take(lone, rest)),
        V6 => syn_between(bytes, origin, v6, no_vlan).map(|(lone, rest)| take(lone, rest)),
        V6_VLAN => syn_between(bytes, origin, v6, vlan_of).map(|(lone, rest)| take(lone, rest)),
        _ => None,
    }
}

const V6_VLAN: u8 = V6 | VLAN;

#[inline(always)]
fn no_vlan(bytes: &[u8]) -> Option<(Option<u16>, &[u8])> {
    Some((None, bytes))
}

#[inline(always)]
fn vlan_of(bytes: &[u8]) -> Option<(Option<u16>, &[u8])> {
    let (&vlan, rest) = bytes.split_first_chunk()?;
    Some((Some(u16::from_le_bytes(vlan)), rest))
}

/// As [`lone_syn`], between addresses of so many octets; `vlan` takes that off, if there is one.
#[inline(always)]
fn syn_between<'b, const OCTETS: usize>(
    bytes: &'b [u8],
    origin: Origin,
    address: impl Fn([u8; OCTETS]) -> IpAddr,
    vlan: impl Fn(&'b [u8]) -> Option<(Option<u16>, &'b [u8])>,
) -> Option<(Lone, &'b [u8])> {
    const MASK: u32 = FIRST | FIRST_IS_BASE | LAST_IS_FIRST | SYN | TTL;
    let (&[flags, transport], rest) = bytes.split_first_chunk()?;
    let side = match flags & (LOW | HIGH) {
        LOW => Side::Low,
        HIGH => Side::High,
        _ => return None,
    };
    let (&low, rest) = rest.split_first_chunk::<OCTETS>()?;
    let (&high, rest) = rest.split_first_chunk::<OCTETS>()?;
    let (&[a, b, c, d, time @ ..], mut rest) = rest.split_first_chunk::<12>()?;
    let frame = varint::take_short(&mut rest)?.checked_add(origin.frames_before)?;
    let (vlan, rest) = vlan(rest)?;
    let (&[e, f, g, h, counts @ .., i, j, k, l, least, most], rest) = rest.split_first_chunk::<16>()?;
    if u32::from_le_bytes([e, f, g, h]) != MASK || transport != Transport::Tcp.number() {
        return None;
    }
    let [packets, bytes, payload] = counts_of_bytes(counts);
    let low = Endpoint::new(address(low), u16::from_le_bytes([a, b]));
    let high = Endpoint::new(address(high), u16::from_le_bytes([c, d]));
    let time = Timestamp(i64::from_le_bytes(time));
    let sent = Sent {
        any: true,
        data: false,
        packets,
        bytes,
        payload,
        first: FramePoint { time, capture: origin.capture, frame },
        last: time,
        isn: Some(u32::from_le_bytes([i, j, k, l])),
        ttl: Some((least, most)),
        dns: DnsSeen::default(),
    };
    let key = FlowKey { transport: Transport::Tcp, low, high };
    Some((Lone { key, vlan, vni: None, side, sent }, rest))
}

/// As [`lone`], whatever it is.
#[inline]
fn any_lone(bytes: &[u8], origin: Origin) -> Option<(Lone, &[u8])> {
    let &flags = bytes.first()?;
    let side = match flags & (QUOTES | QUOTED | FRAGMENTS | LOW | HIGH) {
        LOW => Side::Low,
        HIGH => Side::High,
        _ => return None,
    };
    let mut r = Reader::new(bytes, &NO_HELLOS, origin.capture);
    let (_, key) = r.begin(origin.frames_before)?;
    let vlan = if flags & VLAN != 0 { Some(r.u16()?) } else { None };
    let vni = if flags & VNI != 0 { Some(r.u32()?) } else { None };
    let mask = r.u32()?;
    if mask & (FIRST | FIRST_IS_BASE) != FIRST | FIRST_IS_BASE
        || mask & !(FIRST | FIRST_IS_BASE | LAST_IS_FIRST | SYN | TTL) != 0
    {
        return None;
    }
    let [packets, bytes, payload] = r.counts(mask)?;
    let first = r.base;
    let last = if mask & LAST_IS_FIRST != 0 { first.time } else { r.time()? };
    let isn = if mask & SYN != 0 { Some(r.u32()?) } else { None };
    let ttl = if mask & TTL != 0 { Some(r.fixed().map(|[low, high]| (low, high))?) } else { None };
    let (any, data, dns) = (true, false, DnsSeen::default());
    let sent = Sent { any, data, packets, bytes, payload, first, last, isn, ttl, dns };
    Some((Lone { key, vlan, vni, side, sent }, r.bytes))
}

impl Lone {
    #[inline(always)]
    pub fn put_into(self, short: &mut Short) {
        (short.key, short.vlan, short.vni) = (self.key, self.vlan, self.vni);
        let [own, other] = [self.side, self.side.other()];
        other.of(&mut short.low, &mut short.high).any = false;
        *own.of(&mut short.low, &mut short.high) = self.sent;
    }
}

/// Reads a stretch that is a short one: lone, or an exchange. Hands back the bytes after it; none if it is another, and then `short`
/// is of no use.
#[inline(always)]
pub(super) fn unpack_in_short<'b>(bytes: &'b [u8], origin: Origin, short: &mut Short) -> Option<&'b [u8]> {
    if let Some((lone, rest)) = any_lone(bytes, origin) {
        lone.put_into(short);
        return Some(rest);
    }
    exchange(bytes, origin, short)
}

/// A stretch of which both sides sent datagrams, of which no bytes are kept, each side at one time: what a question of DNS and its
/// answer are, read in fewer steps. Hands back the bytes after it; none if it is another, and then `short` is of no use.
#[inline(always)]
fn exchange<'b>(bytes: &'b [u8], origin: Origin, short: &mut Short) -> Option<&'b [u8]> {
    const FLAGS: u8 = LOW | HIGH;
    const MASK: u32 = FIRST | LAST_IS_FIRST;
    let &[flags, transport] = bytes.first_chunk()?;
    if flags & !(V6 | VLAN) != FLAGS || transport != Transport::Udp.number() {
        return None;
    }
    let mut r = Reader::new(bytes, &NO_HELLOS, origin.capture);
    let (_, key) = r.begin(origin.frames_before)?;
    let vlan = if flags & VLAN != 0 { Some(r.u16()?) } else { None };
    let is_brief = |mask: u32| mask & !(FIRST_IS_BASE | DNS | DATA | DATA_IS_FIRST) == MASK;
    if !is_brief(u32::from_le_bytes(*r.bytes.first_chunk()?)) {
        return None;
    }
    (short.key, short.vlan, short.vni) = (key, vlan, None);
    for side in [&mut short.low, &mut short.high] {
        let [a, b, c, d, counts @ ..] = r.fixed::<10>()?;
        let mask = u32::from_le_bytes([a, b, c, d]);
        // First bytes are told where a first payload is not. Large counts are another mask.
        if !is_brief(mask) || mask & (DATA | DATA_IS_FIRST) == DATA {
            return None;
        }
        let [packets, bytes, payload] = counts_of_bytes(counts);
        let first = if mask & FIRST_IS_BASE != 0 { r.base } else { r.point()? };
        let dns = if mask & DNS != 0 {
            DnsSeen { queries: r.small()?, responses: r.small()? }
        } else {
            DnsSeen::default()
        };
        let (data, last, isn, ttl) = (mask & DATA != 0, first.time, None, None);
        *side = Sent { any: true, data, packets, bytes, payload, first, last, isn, ttl, dns };
    }
    Some(r.bytes)
}
