//! Stretches as bytes: some forty for a SYN that nobody answered, some hundred for a whole connection. What a table has
//! cut waits in this form, in memory or on disk, until the reducer takes it.
//!
//! The form is private to one run of the program: nothing but [`unpack`] reads it. Behind a version byte and without
//! numbers of hellos it is also what a row for `judge` carries ([`to_row`], [`of_row`]): those bytes are strangers'.

mod brief;

pub(super) use brief::{BriefLine, BriefPacket, BriefSide};
use brief::{lone, lone_syn, unpack_in_short};

use super::fragments::FragmentPiece;
use super::head::{Head, Opening, Segment, Told};
use super::key::{FlowKey, Side};
use super::partial::{Acks, DnsSeen, PartialFlow, QuoteClass, QuoteFact, Reset, SideFacts, Syn, SynAck};
use super::short::{Short, Unpacked};
use crate::model::{CaptureId, Endpoint, FramePoint, Timestamp, Transport, varint};
use crate::names::tls::ClientHello;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, LazyLock};

/// ClientHellos, each once: an appliance says the same few thousands of times.
#[derive(Clone, Debug, Default)]
pub(super) struct Hellos {
    all: Vec<Arc<ClientHello>>,
    known: HashMap<Arc<ClientHello>, u32, RandomState>,
    /// By where they stand in memory, which is theirs as long as they are here: mostly the next is one of these very ones.
    at: HashMap<usize, u32, RandomState>,
}

impl Hellos {
    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    fn number(&mut self, hello: &Arc<ClientHello>) -> u32 {
        let place = Arc::as_ptr(hello).addr();
        if let Some(&number) = self.at.get(&place) {
            return number;
        }
        if let Some(&number) = self.known.get(hello) {
            return number;
        }
        let number = self.all.len() as u32;
        self.at.insert(place, number);
        self.all.push(hello.clone());
        self.known.insert(hello.clone(), number);
        number
    }
}

// What is there, by bits: of a stretch,
const V6: u8 = 1;
const VLAN: u8 = 2;
const VNI: u8 = 4;
const QUOTES: u8 = 8;
const QUOTED: u8 = 16;
const FRAGMENTS: u8 = 32;
const LOW: u8 = 64;
const HIGH: u8 = 128;
// of one side,
const SYN: u32 = 1;
const SYN_AGAIN: u32 = 1 << 1;
const SYN_ACK: u32 = 1 << 2;
const FIN: u32 = 1 << 3;
const RESET: u32 = 1 << 4;
const BEYOND: u32 = 1 << 5;
const DATA: u32 = 1 << 6;
const ACK_ONE: u32 = 1 << 7;
const ACK_MANY: u32 = 1 << 8;
const TTL: u32 = 1 << 9;
const ALERT: u32 = 1 << 10;
const TLS_DATA: u32 = 1 << 11;
const DNS: u32 = 1 << 12;
const TOLD: u32 = 1 << 13;
const SEGMENTS: u32 = 1 << 14;
const FIRST: u32 = 1 << 15;
// and where it is not told since it is told already: of most connections, half of all frames. The SYN-ACK is the first frame;
const ANSWER_IS_FIRST: u32 = 1 << 16;
// so is the first that is no SYN;
const BEYOND_IS_FIRST: u32 = 1 << 17;
// there is one such frame only;
const BEYOND_ONCE: u32 = 1 << 18;
// the last one was taken at the latest time;
const LAST_IS_BEYOND: u32 = 1 << 19;
// it is the FIN,
const FIN_IS_LAST: u32 = 1 << 20;
// or the reset;
const RESET_IS_LAST: u32 = 1 << 21;
// the first payload is where the first bytes kept begin,
const DATA_IS_HEAD: u32 = 1 << 22;
// or in the first frame.
const DATA_IS_FIRST: u32 = 1 << 23;
// The first frame is the one that the stretch begins with;
const FIRST_IS_BASE: u32 = 1 << 24;
// it was taken at the latest time.
const LAST_IS_FIRST: u32 = 1 << 25;
// Its counts take eight bytes each, for they are large.
const LARGE: u32 = 1 << 26;

// What a direction begins with, where that was read.
const CLIENT_HELLO: u8 = 0;
const SERVER_HELLO: u8 = 1;
const NOTHING: u8 = 2;

/// Numbers are put together before they are written, as many bytes of them as a byte counts: a whole side without first bytes
/// is shorter.
const ROOM: usize = u8::MAX as usize;

/// Bytes that are written at once, at the most. There is so much more room, so that no place needs to be checked.
const AT_ONCE: usize = 16;

/// Bits of a frame's distance from the one that a stretch begins with, and of that of its time in nanoseconds: eight million
/// frames and nine minutes both ways. Nearly all stretches are shorter. In as much room as numbers of as many bytes as they
/// need, words and what came with them (only what is there is looked at) take 157 instead of 257 million instructions to pack and
/// unpack the first 400,000 frames of W2 (callgrind).
const NEAR_FRAME_BITS: u32 = 24;
const NEAR_TIME_BITS: u32 = u64::BITS - NEAR_FRAME_BITS;
const NEAR_FRAMES: i64 = 1 << (NEAR_FRAME_BITS - 1);
const NEAR_NANOS: i64 = 1 << (NEAR_TIME_BITS - 1);

/// Distances of a frame from the one that a stretch begins with, in nanoseconds and in frames, as one word: 0 if they are too
/// large.
#[inline]
fn near(nanos: i64, frames: i64) -> u64 {
    let nanos = nanos.wrapping_add(NEAR_NANOS) as u64;
    let frames = frames.wrapping_add(NEAR_FRAMES) as u64;
    let far = nanos >> NEAR_TIME_BITS | frames >> NEAR_FRAME_BITS != 0;
    if far { 0 } else { nanos << NEAR_FRAME_BITS | frames }
}

/// The reverse of [`near`].
#[inline]
fn distances(word: u64) -> Option<(i64, i64)> {
    let nanos = (word >> NEAR_FRAME_BITS) as i64 - NEAR_NANOS;
    let frames = (word & ((1 << NEAR_FRAME_BITS) - 1)) as i64 - NEAR_FRAMES;
    (word != 0).then_some((nanos, frames))
}

/// When a frame came and which it is: as it is told elsewhere, or as it stands in a table.
pub(super) trait Point: Copy + PartialEq {
    fn time(self) -> i64;
    /// Frames before it: of the capture, or since the table's own beginning.
    fn frame(self) -> i64;
}

impl Point for FramePoint {
    #[inline]
    fn time(self) -> i64 {
        self.time.0
    }

    #[inline]
    fn frame(self) -> i64 {
        self.frame as i64
    }
}

/// Bits of packets, bytes and payload where they stand in one word: a thousand packets and half a megabyte.
const COUNT_BITS: [u32; 3] = [10, 19, 19];

/// Bytes of that word.
const COUNT_BYTES: usize = 6;

const _: () = assert!(COUNT_BITS[0] + COUNT_BITS[1] + COUNT_BITS[2] == 8 * COUNT_BYTES as u32);

#[inline]
fn count_word([packets, bytes, payload]: [u64; 3]) -> Option<u64> {
    let [a, b, c] = COUNT_BITS;
    let small = packets >> a | bytes >> b | payload >> c == 0;
    small.then_some(packets | bytes << a | payload << (a + b))
}

/// The counts in the bytes of such a word.
#[inline(always)]
fn counts_of_bytes(bytes: [u8; COUNT_BYTES]) -> [u64; 3] {
    let [a, b, c, d, e, f] = bytes;
    counts_of(u64::from_le_bytes([a, b, c, d, e, f, 0, 0]))
}

#[inline]
fn counts_of(word: u64) -> [u64; 3] {
    let [a, b, c] = COUNT_BITS;
    [word & ((1 << a) - 1), word >> a & ((1 << b) - 1), word >> (a + b) & ((1 << c) - 1)]
}

pub(super) struct Writer<'a> {
    out: &'a mut Vec<u8>,
    room: [u8; ROOM + AT_ONCE],
    used: u8,
    /// Times and frames are told as distances from this.
    base: FramePoint,
}

impl<'a> Writer<'a> {
    fn new(out: &'a mut Vec<u8>, base: FramePoint) -> Self {
        Writer { out, room: [0; ROOM + AT_ONCE], used: 0, base }
    }

    #[inline(never)]
    fn flush(&mut self) {
        self.out.extend_from_slice(&self.room[..usize::from(self.used)]);
        self.used = 0;
    }

    /// Writes the first `used` bytes.
    #[inline]
    fn some_of<const N: usize>(&mut self, bytes: [u8; N], used: usize) {
        const { assert!(N <= AT_ONCE) }
        if usize::from(self.used) > ROOM - N {
            self.flush();
        }
        let from = usize::from(self.used);
        self.room[from..from + N].copy_from_slice(&bytes);
        self.used += used as u8;
    }

    #[inline]
    fn byte(&mut self, byte: u8) {
        self.some_of([byte], 1);
    }

    #[inline]
    fn fixed<const N: usize>(&mut self, bytes: [u8; N]) {
        self.some_of(bytes, N);
    }

    #[inline]
    fn number(&mut self, value: u64) {
        match varint::word(value) {
            Some((word, bytes)) => self.some_of(word.to_le_bytes(), bytes),
            None => {
                self.flush();
                varint::put(value, self.out);
            }
        }
    }

    #[inline]
    fn signed(&mut self, value: i64) {
        self.number(((value << 1) ^ (value >> 63)) as u64);
    }

    fn point(&mut self, point: FramePoint) {
        // Points of other captures: only in what was merged before it was packed.
        debug_assert_eq!(point.capture, self.base.capture);
        self.distance(point, self.base);
    }

    /// A time, as that of the first frame.
    fn time(&mut self, time: Timestamp) {
        self.distance(FramePoint { time, ..self.base }, self.base);
    }

    #[inline]
    fn distance<P: Point>(&mut self, point: P, base: P) {
        let nanos = point.time().wrapping_sub(base.time());
        let frames = point.frame().wrapping_sub(base.frame());
        let word = near(nanos, frames);
        self.fixed(word.to_le_bytes());
        if word == 0 {
            self.far(nanos, frames);
        }
    }

    #[cold]
    fn far(&mut self, nanos: i64, frames: i64) {
        self.fixed(nanos.to_le_bytes());
        self.fixed(frames.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.flush();
        self.out.extend_from_slice(bytes);
    }

    fn address(&mut self, ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) => self.fixed(ip.octets()),
            IpAddr::V6(ip) => self.fixed(ip.octets()),
        }
    }
}

fn is_v6(key: &FlowKey) -> bool {
    key.low.ip.is_ipv6() || key.high.ip.is_ipv6()
}

/// What [`pack`] writes of a stretch, wherever it stands.
pub(super) struct View<'a, S> {
    pub key: FlowKey,
    pub begin: FramePoint,
    pub vlan: Option<u16>,
    pub vni: Option<u32>,
    pub quotes: &'a [QuoteFact],
    pub quoted_last: Option<Timestamp>,
    pub fragments: &'a [FragmentPiece],
    /// Where its sides stand.
    pub sides: S,
    /// First bytes that are written in place of those of the lesser and the greater endpoint.
    pub heads: Option<[&'a Head; 2]>,
}

/// Both sides of a stretch, wherever it stands: each is looked at when it is written, since both at once are more than registers
/// hold.
pub(super) trait Sides<'a>: Copy {
    /// How it tells where frames are.
    type At: Point;
    /// Whether anything was seen of a side.
    fn is_there(self, side: Side) -> bool;
    /// Whether it sent packets.
    fn sent(self, side: Side) -> bool;
    /// Its first bytes.
    fn head(self, side: Side) -> Option<&'a Head>;
    /// As it is packed: `head` are its first bytes, and with `begin` the stretch begins.
    fn view(self, side: Side, head: Option<&Head>, begin: FramePoint) -> SideView<Self::At>;
}

impl<'a> Sides<'a> for &'a PartialFlow {
    type At = FramePoint;

    fn is_there(self, side: Side) -> bool {
        !self.side(side).is_nothing()
    }

    fn sent(self, side: Side) -> bool {
        self.side(side).packets > 0
    }

    fn head(self, side: Side) -> Option<&'a Head> {
        Some(&self.side(side).head)
    }

    fn view(self, side: Side, head: Option<&Head>, begin: FramePoint) -> SideView<FramePoint> {
        SideView::of(self.side(side), head, begin)
    }
}

/// One side of it: the fields of [`SideFacts`].
pub(super) struct SideView<P> {
    /// The frame that the stretch begins with.
    pub base: P,
    /// Packets, bytes, payload.
    pub counts: [u64; 3],
    pub first: Option<P>,
    /// The latest time.
    pub last: Option<i64>,
    pub syn: Option<SynAt<P>>,
    pub syn_ack: Option<(u32, u32, P)>,
    pub fin: Option<P>,
    pub reset: Option<(P, u8)>,
    pub beyond_syn: Option<P>,
    pub beyond_syn_last: Option<P>,
    /// The first payload, and whether the first bytes kept begin there.
    pub data: Option<(P, bool)>,
    pub acks: Acks,
    pub ttl: Option<(u8, u8)>,
    pub alert: Option<(P, u8)>,
    pub tls_data: Option<P>,
    pub dns: DnsSeen,
}

/// A [`Syn`].
pub(super) struct SynAt<P> {
    pub isn: u32,
    pub first: P,
    pub last: P,
    pub count: u32,
}

impl SideView<FramePoint> {
    fn of(side: &SideFacts, head: Option<&Head>, base: FramePoint) -> Self {
        let begin_of_head = head.and_then(Head::begin);
        SideView {
            base,
            counts: [side.packets, side.bytes, side.payload],
            first: side.first,
            last: side.last.map(|time| time.0),
            syn: side.syn.map(|Syn { isn, first, last, count }| SynAt { isn, first, last, count }),
            syn_ack: side.syn_ack.map(|answer| (answer.isn, answer.ack, answer.first)),
            fin: side.fin,
            reset: side.reset.map(|reset| (reset.first, reset.ttl)),
            beyond_syn: side.beyond_syn,
            beyond_syn_last: side.beyond_syn_last,
            data: side.data.map(|data| (data, Some(data) == begin_of_head)),
            acks: side.acks,
            ttl: side.ttl,
            alert: side.alert,
            tls_data: side.tls_data,
            dns: side.dns,
        }
    }
}

impl<'a> View<'a, &'a PartialFlow> {
    /// Of a stretch as a value.
    pub fn of(flow: &'a PartialFlow) -> Self {
        View {
            key: flow.key,
            begin: flow.begin().unwrap_or_default(),
            vlan: flow.vlan,
            vni: flow.vni,
            quotes: &flow.quotes,
            quoted_last: flow.quoted_last,
            fragments: &flow.fragments,
            sides: flow,
            heads: None,
        }
    }
}

/// Appends a stretch of one capture. All its points must be of the same capture: which one is told when it is read.
///
/// Inlined where a table puts stretches aside, as what it is made of is here, and what reading is made of in
/// [`unpack_in_full`]: each conversation goes through both.
#[inline(always)]
pub(super) fn pack<'a>(flow: &View<'a, impl Sides<'a>>, hellos: &mut Hellos, out: &mut Vec<u8>) {
    let base = flow.begin;
    let mut w = Writer::new(out, base);
    let key = &flow.key;
    let some = |there: bool, bit: u8| if there { bit } else { 0 };
    // Both ends of one packet have addresses of one family.
    let v6 = is_v6(key);
    w.byte(
        some(v6, V6)
            | some(flow.vlan.is_some(), VLAN)
            | some(flow.vni.is_some(), VNI)
            | some(!flow.quotes.is_empty(), QUOTES)
            | some(flow.quoted_last.is_some(), QUOTED)
            | some(!flow.fragments.is_empty(), FRAGMENTS)
            | some(flow.sides.is_there(Side::Low), LOW)
            | some(flow.sides.is_there(Side::High), HIGH),
    );
    w.byte(key.transport.number());
    w.address(key.low.ip);
    w.address(key.high.ip);
    w.fixed(key.low.port.to_le_bytes());
    w.fixed(key.high.port.to_le_bytes());
    w.fixed(base.time.0.to_le_bytes());
    w.number(base.frame);
    if let Some(vlan) = flow.vlan {
        w.fixed(vlan.to_le_bytes());
    }
    if let Some(vni) = flow.vni {
        w.fixed(vni.to_le_bytes());
    }
    if !flow.quotes.is_empty() {
        w.number(flow.quotes.len() as u64);
        flow.quotes.iter().for_each(|quote| w.quote(quote));
    }
    if let Some(time) = flow.quoted_last {
        w.time(time);
    }
    if !flow.fragments.is_empty() {
        w.number(flow.fragments.len() as u64);
        flow.fragments.iter().for_each(|piece| w.fragment(piece));
    }
    for side in [Side::Low, Side::High] {
        if flow.sides.is_there(side) {
            let head = flow.heads.map(|[low, high]| side.of(low, high)).or(flow.sides.head(side));
            w.side(&flow.sides.view(side, head, base), head, hellos);
        }
    }
    w.flush();
}

impl Writer<'_> {
    fn quote(&mut self, quote: &QuoteFact) {
        let class = match quote.class {
            QuoteClass::Refused => 0,
            QuoteClass::Prohibited => 1,
            QuoteClass::Unreachable => 2,
            QuoteClass::Note => 3,
        };
        let by_high = u8::from(quote.quoted == Side::High) << 2;
        let v6 = u8::from(quote.sender.is_ipv6()) << 3;
        let seq = u8::from(quote.tcp_seq.is_some()) << 4;
        self.fixed([class | by_high | v6 | seq, quote.kind, quote.code]);
        self.point(quote.point);
        self.address(quote.sender);
        if let Some(seq) = quote.tcp_seq {
            self.fixed(seq.to_le_bytes());
        }
    }

    fn fragment(&mut self, piece: &FragmentPiece) {
        let v6 = piece.src.is_ipv6() || piece.dst.is_ipv6();
        let flags = u8::from(v6)
            | u8::from(piece.more) << 1
            | u8::from(piece.vlan.is_some()) << 2
            | u8::from(piece.vni.is_some()) << 3;
        self.fixed([flags, piece.protocol, piece.ttl]);
        self.address(piece.src);
        self.address(piece.dst);
        self.number(piece.id.into());
        self.number(piece.offset.into());
        if let Some(vlan) = piece.vlan {
            self.fixed(vlan.to_le_bytes());
        }
        if let Some(vni) = piece.vni {
            self.fixed(vni.to_le_bytes());
        }
        self.point(piece.point);
        self.number(piece.wire_len.into());
        self.bytes(&piece.bytes);
    }

    /// `head` are its first bytes.
    #[inline(always)]
    fn side<P: Point>(&mut self, side: &SideView<P>, head: Option<&Head>, hellos: &mut Hellos) {
        let SideView { base, first, beyond_syn, .. } = *side;
        let beyond_syn_last = side.beyond_syn_last.or(beyond_syn);
        let (is_first, is_last) =
            (|point: P| Some(point) == first, |point: P| Some(point) == beyond_syn_last);
        // What is there is written first, and known in the end.
        let mask_at = self.out.len() + usize::from(self.used);
        let mut mask = 0u32;
        self.fixed([0; 4]);
        match count_word(side.counts) {
            Some(word) => self.some_of(word.to_le_bytes(), COUNT_BYTES),
            None => {
                mask |= LARGE;
                side.counts.iter().for_each(|count| self.fixed(count.to_le_bytes()));
            }
        }
        if let Some(first) = first {
            mask |= FIRST;
            if first == base {
                mask |= FIRST_IS_BASE;
            } else {
                self.distance(first, base);
            }
            let last = side.last.unwrap_or(first.time());
            if beyond_syn_last.is_some_and(|point| point.time() == last) && beyond_syn.is_some() {
                mask |= LAST_IS_BEYOND;
            } else if first.time() == last {
                mask |= LAST_IS_FIRST;
            } else {
                self.time(Timestamp(last));
            }
        }
        if let Some(syn) = &side.syn {
            mask |= SYN;
            self.fixed(syn.isn.to_le_bytes());
            // The usual SYN is the side's first frame and was sent once.
            if syn.count != 1 || syn.last != syn.first || !is_first(syn.first) {
                mask |= SYN_AGAIN;
                self.number(syn.count.into());
                self.distance(syn.first, base);
                self.distance(syn.last, base);
            }
        }
        if let Some((isn, ack, point)) = side.syn_ack {
            mask |= SYN_ACK;
            self.fixed((u64::from(ack) << 32 | u64::from(isn)).to_le_bytes());
            if is_first(point) {
                mask |= ANSWER_IS_FIRST;
            } else {
                self.distance(point, base);
            }
        }
        if let (Some(begin), Some(end)) = (beyond_syn, beyond_syn_last) {
            mask |= BEYOND;
            if is_first(begin) {
                mask |= BEYOND_IS_FIRST;
            } else {
                self.distance(begin, base);
            }
            if end == begin {
                mask |= BEYOND_ONCE;
            } else {
                self.distance(end, base);
            }
        }
        if let Some(fin) = side.fin {
            mask |= FIN;
            if is_last(fin) {
                mask |= FIN_IS_LAST;
            } else {
                self.distance(fin, base);
            }
        }
        if let Some((point, ttl)) = side.reset {
            mask |= RESET;
            if is_last(point) {
                mask |= RESET_IS_LAST;
            } else {
                self.distance(point, base);
            }
            self.byte(ttl);
        }
        match side.acks {
            Acks::None => {}
            Acks::One(ack) => {
                mask |= ACK_ONE;
                self.fixed(ack.to_le_bytes());
            }
            Acks::Many => mask |= ACK_MANY,
        }
        if let Some((low, high)) = side.ttl {
            mask |= TTL;
            self.fixed([low, high]);
        }
        if let Some((point, description)) = side.alert {
            mask |= ALERT;
            self.distance(point, base);
            self.byte(description);
        }
        if let Some(point) = side.tls_data {
            mask |= TLS_DATA;
            self.distance(point, base);
        }
        if (side.dns.queries | side.dns.responses) != 0 {
            mask |= DNS;
            self.number(side.dns.queries.into());
            self.number(side.dns.responses.into());
        }
        if let Some((data, is_head)) = side.data {
            mask |= DATA;
            if is_head {
                mask |= DATA_IS_HEAD;
            } else if is_first(data) {
                mask |= DATA_IS_FIRST;
            } else {
                self.distance(data, base);
            }
        }
        let told = head.and_then(Head::told);
        let segments = head.filter(|head| head.has_segments()).map(Head::segments);
        mask |= if told.is_some() { TOLD } else { 0 } | if segments.is_some() { SEGMENTS } else { 0 };
        self.put_at(mask_at, mask.to_le_bytes());
        if let Some(told) = told {
            self.told(told, hellos);
        }
        if let Some(segments) = segments {
            self.number(segments.len() as u64);
            let answered = side.syn_ack.map(|(isn, ..)| isn);
            let mut next = beginning(side.syn.as_ref().map(|syn| syn.isn).or(answered));
            for Segment { seq, point, bytes } in segments {
                self.signed(seq.wrapping_sub(next).cast_signed().into());
                self.point(point);
                self.bytes(bytes);
                next = seq.wrapping_add(bytes.len() as u32);
            }
        }
    }

    /// Writes over bytes that were written before, wherever they are by now.
    #[inline]
    fn put_at<const N: usize>(&mut self, at: usize, bytes: [u8; N]) {
        let place = match at.checked_sub(self.out.len()) {
            Some(at) => self.room.get_mut(at..at + N),
            None => self.out.get_mut(at..at + N),
        };
        if let Some(place) = place {
            place.copy_from_slice(&bytes);
        }
    }

    fn told(&mut self, told: &Told, hellos: &mut Hellos) {
        let opening = match told.opening {
            Opening::ClientHello(_) => CLIENT_HELLO,
            Opening::ServerHello(_) => SERVER_HELLO,
            Opening::Nothing => NOTHING,
        };
        self.byte(opening | u8::from(told.alert.is_some()) << 2 | u8::from(told.data.is_some()) << 3);
        match &told.opening {
            Opening::ClientHello(hello) => {
                let number = hellos.number(hello);
                self.number(number.into());
            }
            Opening::ServerHello(version) => self.fixed(version.to_le_bytes()),
            Opening::Nothing => {}
        }
        self.number(u64::from(told.read_to.wrapping_add(1)));
        self.point(told.begin);
        if let Some((point, description)) = told.alert {
            self.point(point);
            self.byte(description);
        }
        told.data.into_iter().for_each(|point| self.point(point));
    }
}

/// The sequence number that a side's first piece mostly has, by that of its SYN; 0 where nothing tells.
fn beginning(isn: Option<u32>) -> u32 {
    isn.map_or(0, |isn| isn.wrapping_add(1))
}

/// A number with a sign of one without: as [`Writer::signed`] folds it.
#[inline]
fn unfolded(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

struct Reader<'a> {
    bytes: &'a [u8],
    base: FramePoint,
    hellos: &'a Hellos,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8], hellos: &'a Hellos, capture: CaptureId) -> Self {
        Reader { bytes, base: FramePoint { capture, ..FramePoint::default() }, hellos }
    }

    /// Reads what each stretch begins with: what is there of it, whose it is, and where its points are told from.
    #[inline(always)]
    fn begin(&mut self, frames_before: u64) -> Option<(u8, FlowKey)> {
        let begun = self.key()?;
        self.base.time = Timestamp(self.fixed().map(i64::from_le_bytes)?);
        self.base.frame = self.number()?.checked_add(frames_before)?;
        Some(begun)
    }

    #[inline]
    fn fixed<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (&head, rest) = self.bytes.split_first_chunk()?;
        self.bytes = rest;
        Some(head)
    }

    fn byte(&mut self) -> Option<u8> {
        self.fixed().map(|[byte]| byte)
    }

    #[inline]
    fn number(&mut self) -> Option<u64> {
        varint::take(&mut self.bytes)
    }

    #[inline]
    fn small(&mut self) -> Option<u32> {
        // Nearly all are of one byte.
        if let [byte @ ..0x80, rest @ ..] = self.bytes {
            self.bytes = rest;
            return Some(u32::from(*byte));
        }
        u32::try_from(self.number()?).ok()
    }

    #[inline]
    fn signed(&mut self) -> Option<i64> {
        self.number().map(unfolded)
    }

    fn time(&mut self) -> Option<Timestamp> {
        self.point().map(|point| point.time)
    }

    #[inline(always)]
    fn point(&mut self) -> Option<FramePoint> {
        let word = self.fixed().map(u64::from_le_bytes)?;
        let (nanos, frames) = match distances(word) {
            Some(near) => near,
            None => (self.fixed().map(i64::from_le_bytes)?, self.fixed().map(i64::from_le_bytes)?),
        };
        let time = Timestamp(self.base.time.0.wrapping_add(nanos));
        let frame = (self.base.frame as i64).wrapping_add(frames) as u64;
        Some(FramePoint { time, capture: self.base.capture, frame })
    }

    fn bytes(&mut self) -> Option<Box<[u8]>> {
        varint::take_bytes(&mut self.bytes).map(Box::from)
    }

    fn address(&mut self, v6: bool) -> Option<IpAddr> {
        Some(if v6 {
            Ipv6Addr::from(self.fixed::<16>()?).into()
        } else {
            Ipv4Addr::from(self.fixed::<4>()?).into()
        })
    }

    fn u32(&mut self) -> Option<u32> {
        self.fixed().map(u32::from_le_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.fixed().map(u16::from_le_bytes)
    }

    #[inline]
    fn key(&mut self) -> Option<(u8, FlowKey)> {
        let [flags, transport] = self.fixed()?;
        let (low, high) = if flags & V6 != 0 {
            (self.address(true)?, self.address(true)?)
        } else {
            let [a, b, c, d, e, f, g, h] = self.fixed()?;
            (Ipv4Addr::new(a, b, c, d).into(), Ipv4Addr::new(e, f, g, h).into())
        };
        let [a, b, c, d] = self.fixed()?;
        let (low, high) =
            (Endpoint::new(low, u16::from_le_bytes([a, b])), Endpoint::new(high, u16::from_le_bytes([c, d])));
        Some((flags, FlowKey { transport: Transport::from_number(transport), low, high }))
    }
}

/// Where packed stretches come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The capture of their points.
    pub capture: CaptureId,
    /// Frames of it before the one that they count from.
    pub frames_before: u64,
}

impl From<CaptureId> for Origin {
    fn from(capture: CaptureId) -> Self {
        Origin { capture, frames_before: 0 }
    }
}

/// Reads what [`pack`] wrote, a short stretch in short, any other in full. On `None` what stands in `place` is of no use.
pub(super) fn unpack(bytes: &[u8], hellos: &Hellos, origin: Origin, place: &mut Unpacked) -> Option<()> {
    let syn = lone_syn(bytes, origin, |lone, _| lone.put_into(place.short_mut()));
    syn.or_else(|| unpack_other(bytes, hellos, origin, place))
}

/// As [`unpack`], whatever it is.
#[inline(never)]
fn unpack_other(bytes: &[u8], hellos: &Hellos, origin: Origin, place: &mut Unpacked) -> Option<()> {
    if unpack_in_short(bytes, origin, place.short_mut()).is_some() {
        return Some(());
    }
    unpack_in_full(bytes, hellos, origin, place.full_mut()).map(|_| ())
}

/// Reads what [`pack`] wrote into `flow`, whatever that was; hands back the bytes after it. On `None` it is of no use.
#[inline(never)]
pub(super) fn unpack_in_full<'b>(
    bytes: &'b [u8],
    hellos: &'b Hellos,
    origin: Origin,
    flow: &mut PartialFlow,
) -> Option<&'b [u8]> {
    let mut r = Reader::new(bytes, hellos, origin.capture);
    let (flags, key) = r.begin(origin.frames_before)?;
    flow.clear(key);
    if flags & VLAN != 0 {
        flow.vlan = Some(r.u16()?);
    }
    if flags & VNI != 0 {
        flow.vni = Some(r.u32()?);
    }
    if flags & QUOTES != 0 {
        for _ in 0..r.number()? {
            flow.quotes.push(r.quote()?);
        }
    }
    if flags & QUOTED != 0 {
        flow.quoted_last = Some(r.time()?);
    }
    if flags & FRAGMENTS != 0 {
        for _ in 0..r.number()? {
            flow.fragments.push(r.fragment()?);
        }
    }
    for (bit, side) in [(LOW, &mut flow.low), (HIGH, &mut flow.high)] {
        if flags & bit != 0 {
            r.side(side)?;
        }
    }
    Some(r.bytes)
}

/// Version of what a row carries: its first byte.
const ROW_VERSION: u8 = 3;

/// Bytes, packets or transmissions that one stretch cannot have: 2^48 bytes fill a link of 100 Gbit/s for six hours, and
/// sums of as many stretches as one run takes stay far from the end of 64 bits.
const MOST_COUNTED: u64 = 1 << 48;

/// A row refers to no hello: one that does is refused by the lack of it.
static NO_HELLOS: LazyLock<Hellos> = LazyLock::new(Hellos::default);

/// What a row carries is none of what this version writes. Nothing of it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowProblem {
    /// There are no bytes.
    #[error("it is empty")]
    Empty,
    /// Another version wrote it.
    #[error("it is of version {0}, and this portproof reads {ROW_VERSION}: extract the captures again")]
    Version(u8),
    /// It ends too early, goes on too long, or says what no packets can.
    #[error("{0}")]
    Broken(&'static str),
}

/// A stretch as a row for `judge` carries it. What hellos said stands in no row: rows carry their bytes.
pub(super) fn to_row(flow: &PartialFlow) -> Vec<u8> {
    let mut row = Vec::new();
    append_row(&View::of(flow), &mut row);
    row
}

/// Appends what [`to_row`] gives.
pub(super) fn append_row<'a>(flow: &View<'a, impl Sides<'a>>, row: &mut Vec<u8>) {
    let mut heads = [Side::Low, Side::High].into_iter().filter_map(|side| flow.sides.head(side));
    let told = heads.any(|head| head.told().is_some());
    debug_assert!(!told, "a row of a stretch whose bytes were not kept");
    row.push(ROW_VERSION);
    pack(flow, &mut Hellos::default(), row);
}

/// Appends the row of a stretch that is packed already, and whose bytes were kept.
pub(super) fn row_of_packed<E>(
    row: &mut Vec<u8>,
    packed: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    row.push(ROW_VERSION);
    packed(row)
}

/// A row that holds a stretch as a table cuts them.
pub(super) struct Row<'b> {
    /// The stretch as [`unpack`] reads it.
    pub packed: &'b [u8],
    pub key: FlowKey,
    /// Whether the lesser and the greater endpoint sent packets.
    pub sent: [bool; 2],
    /// Its [`PartialFlow::order_time`]; none if it is fragments.
    pub time: Option<Timestamp>,
    /// Whether any first bytes of its payload are in it.
    pub carries_bytes: bool,
}

#[inline]
fn in_order(key: &FlowKey) -> bool {
    FlowKey::of(key.transport, key.low, key.high).0 == *key
}

/// Checks that what a row carries is a stretch as a table cuts them; its points are of capture 0. `flow` is overwritten; if
/// the stretch is fragments, with those.
#[inline]
pub(super) fn of_row<'b>(row: &'b [u8], flow: &mut PartialFlow) -> Result<Row<'b>, RowProblem> {
    let (version, bytes) = row.split_first().ok_or(RowProblem::Empty)?;
    if *version != ROW_VERSION {
        return Err(RowProblem::Version(*version));
    }
    // What is wrong with one that is refused here is found out below.
    if let Some((lone, [])) = lone(bytes, Origin::default())
        && in_order(&lone.key)
        && lone.sent.packets.max(lone.sent.bytes).max(lone.sent.payload) <= MOST_COUNTED
    {
        let sent = [Side::Low, Side::High].map(|side| side == lone.side && lone.sent.packets > 0);
        let time = Some(lone.sent.first.time);
        return Ok(Row { packed: bytes, key: lone.key, sent, time, carries_bytes: false });
    }
    of_any_row(bytes, flow)
}

/// As [`of_row`], whatever the stretch is: `bytes` are those behind the version.
#[inline(never)]
fn of_any_row<'b>(bytes: &'b [u8], flow: &mut PartialFlow) -> Result<Row<'b>, RowProblem> {
    let mut in_short = Short::nothing();
    let rest = match unpack_in_short(bytes, Origin::default(), &mut in_short) {
        Some(rest) => {
            in_short.put_into(flow);
            Some(rest)
        }
        None => unpack_in_full(bytes, &NO_HELLOS, Origin::default(), flow),
    };
    let broken = |why| Err(RowProblem::Broken(why));
    match rest {
        None => return broken("it ends too early, or names what is not in it"),
        Some([_, ..]) => return broken("bytes follow its end"),
        Some([]) => {}
    }
    if !in_order(&flow.key) {
        return broken("its ends are not in order");
    }
    if !flow.quotes.is_sorted_by(|a, b| (a.quoted, a.class) < (b.quoted, b.class)) {
        return broken("its ICMP errors are not in order");
    }
    let sides = [&flow.low, &flow.high];
    if sides.iter().any(|side| side.head.told().is_some()) {
        return broken("it lacks the first bytes of a TLS stream");
    }
    if sides.iter().any(|side| side.packets.max(side.bytes).max(side.payload) > MOST_COUNTED) {
        return broken("it counts more than a capture can hold");
    }
    if sides.iter().any(|side| side.syn.is_some_and(|syn| syn.count == 0)) {
        return broken("a SYN was sent no time");
    }
    let (time, fragments) = (flow.order_time(), !flow.fragments.is_empty());
    match time {
        Some(_) if fragments => broken("it is fragments and frames at once"),
        None if !fragments => broken("no frame is in it"),
        Some(_) | None => {
            let sent = [flow.low.packets > 0, flow.high.packets > 0];
            let carries_bytes = [&flow.low, &flow.high].into_iter().any(|side| side.head.has_segments());
            Ok(Row { packed: bytes, key: flow.key, sent, time, carries_bytes })
        }
    }
}

impl Reader<'_> {
    fn quote(&mut self) -> Option<QuoteFact> {
        let [flags, kind, code] = self.fixed()?;
        let point = self.point()?;
        let sender = self.address(flags & 8 != 0)?;
        let tcp_seq = if flags & 16 != 0 { Some(self.u32()?) } else { None };
        let class = match flags & 3 {
            0 => QuoteClass::Refused,
            1 => QuoteClass::Prohibited,
            2 => QuoteClass::Unreachable,
            _ => QuoteClass::Note,
        };
        let quoted = if flags & 4 != 0 { Side::High } else { Side::Low };
        Some(QuoteFact { quoted, class, point, kind, code, sender, tcp_seq })
    }

    fn fragment(&mut self) -> Option<FragmentPiece> {
        let [flags, protocol, ttl] = self.fixed()?;
        let v6 = flags & 1 != 0;
        Some(FragmentPiece {
            src: self.address(v6)?,
            dst: self.address(v6)?,
            protocol,
            id: self.small()?,
            offset: self.small()?,
            more: flags & 2 != 0,
            ttl,
            vlan: if flags & 4 != 0 { Some(self.u16()?) } else { None },
            vni: if flags & 8 != 0 { Some(self.u32()?) } else { None },
            point: self.point()?,
            wire_len: self.small()?,
            bytes: self.bytes()?,
        })
    }

    #[inline]
    fn counts(&mut self, mask: u32) -> Option<[u64; 3]> {
        if mask & LARGE != 0 {
            let mut count = || self.fixed().map(u64::from_le_bytes);
            return Some([count()?, count()?, count()?]);
        }
        self.fixed().map(counts_of_bytes)
    }

    #[inline(always)]
    fn side(&mut self, side: &mut SideFacts) -> Option<()> {
        let mask = self.u32()?;
        let has = |bit: u32| mask & bit != 0;
        [side.packets, side.bytes, side.payload] = self.counts(mask)?;
        if has(FIRST) {
            let first = if has(FIRST_IS_BASE) { self.base } else { self.point()? };
            side.first = Some(first);
            if has(LAST_IS_FIRST) {
                side.last = Some(first.time);
            } else if !has(LAST_IS_BEYOND) {
                side.last = Some(self.time()?);
            }
        }
        if has(SYN) {
            let isn = self.u32()?;
            let (count, first, last) = if has(SYN_AGAIN) {
                (self.small()?, self.point()?, self.point()?)
            } else {
                (1, side.first?, side.first?)
            };
            side.syn = Some(Syn { isn, first, last, count });
        }
        if has(SYN_ACK) {
            let (isn, ack) = (self.u32()?, self.u32()?);
            let first = if has(ANSWER_IS_FIRST) { side.first? } else { self.point()? };
            side.syn_ack = Some(SynAck { isn, ack, first });
        }
        if has(BEYOND) {
            let first = if has(BEYOND_IS_FIRST) { side.first? } else { self.point()? };
            let last = if has(BEYOND_ONCE) { first } else { self.point()? };
            (side.beyond_syn, side.beyond_syn_last) = (Some(first), Some(last));
        }
        if has(FIRST) && has(LAST_IS_BEYOND) {
            side.last = Some(side.beyond_syn_last?.time);
        }
        if has(FIN) {
            side.fin = Some(if has(FIN_IS_LAST) { side.beyond_syn_last? } else { self.point()? });
        }
        if has(RESET) {
            let first = if has(RESET_IS_LAST) { side.beyond_syn_last? } else { self.point()? };
            side.reset = Some(Reset { first, ttl: self.byte()? });
        }
        if has(ACK_ONE) {
            side.acks = Acks::One(self.u32()?);
        } else if has(ACK_MANY) {
            side.acks = Acks::Many;
        }
        if has(TTL) {
            side.ttl = self.fixed().map(|[low, high]| (low, high));
        }
        if has(ALERT) {
            side.alert = Some((self.point()?, self.byte()?));
        }
        if has(TLS_DATA) {
            side.tls_data = Some(self.point()?);
        }
        if has(DNS) {
            side.dns = DnsSeen { queries: self.small()?, responses: self.small()? };
        }
        if has(DATA) && !has(DATA_IS_HEAD) {
            side.data = Some(if has(DATA_IS_FIRST) { side.first? } else { self.point()? });
        }
        if has(TOLD) {
            side.head.tell(self.told()?);
        }
        if has(SEGMENTS) {
            let answered = side.syn_ack.map(|answer| answer.isn);
            let mut next = beginning(side.syn.map(|syn| syn.isn).or(answered));
            for _ in 0..self.number()? {
                let seq = next.wrapping_add(self.signed()? as u32);
                let (point, bytes) = (self.point()?, varint::take_bytes(&mut self.bytes)?);
                side.head.push(Segment { seq, point, bytes });
                next = seq.wrapping_add(bytes.len() as u32);
            }
        }
        if has(DATA) && has(DATA_IS_HEAD) {
            side.data = Some(side.head.begin()?);
        }
        Some(())
    }

    #[inline(always)]
    fn told(&mut self) -> Option<Told> {
        let flags = self.byte()?;
        let opening = match flags & 3 {
            CLIENT_HELLO => {
                let number = self.number()? as usize;
                Opening::ClientHello(self.hellos.all.get(number)?.clone())
            }
            SERVER_HELLO => Opening::ServerHello(self.u16()?),
            NOTHING => Opening::Nothing,
            _ => return None,
        };
        Some(Told {
            opening,
            read_to: self.small()?.wrapping_sub(1),
            begin: self.point()?,
            alert: if flags & 4 != 0 { Some((self.point()?, self.byte()?)) } else { None },
            data: if flags & 8 != 0 { Some(self.point()?) } else { None },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_hellos_have_one_number_wherever_they_stand() {
        let hello = |version| Arc::new(ClientHello { legacy_version: version, ..ClientHello::default() });
        let (first, second) = (hello(1), hello(2));
        let mut hellos = Hellos::default();
        let numbers = [&first, &second, &first, &hello(2), &hello(1), &second, &hello(3), &hello(3)];
        assert_eq!(numbers.map(|hello| hellos.number(hello)), [0, 1, 0, 1, 0, 1, 2, 2]);
        assert_eq!(hellos.all.len(), 3);
    }

    /// Stretches of one side with more and less in them.
    fn of_one_side() -> Vec<PartialFlow> {
        let ends = [("10.0.0.4", "192.0.2.9"), ("fd00::4", "2001:db8::9")];
        let mut flows = Vec::new();
        for case in 0..64u64 {
            let has = |bit: u64| case & bit != 0;
            let (low, high) = ends[usize::from(has(1))];
            let [low, high] = [low, high].map(|ip| Endpoint::new(ip.parse().unwrap(), 443));
            let first =
                FramePoint { time: Timestamp(-7), capture: CaptureId::new(0), frame: 1 << (case % 40) };
            let side = SideFacts {
                packets: if has(2) { 300 } else { 1 },
                bytes: 60 << (case % 7),
                first: Some(first),
                last: Some(Timestamp(if has(2) { 1 << 40 } else { -7 })),
                syn: has(4).then_some(Syn {
                    isn: 9,
                    first,
                    last: first,
                    count: 1 + u32::from(has(16) && has(32)),
                }),
                ttl: has(8).then_some((63, 64)),
                data: (has(16) && has(32)).then_some(first),
                ..SideFacts::default()
            };
            let mut flow = PartialFlow::new(FlowKey { transport: Transport::Tcp, low, high });
            (flow.vlan, flow.vni) = (has(16).then_some(5), has(32).then_some(7));
            *(if case % 3 == 0 { &mut flow.low } else { &mut flow.high }) = side;
            flows.push(flow);
        }
        flows
    }

    #[test]
    fn what_is_near_is_told_in_one_word_and_what_is_not_in_full() {
        let edges = |half: i64| [i64::MIN, -half - 1, -half, 1 - half, -1, 0, 1, half - 1, half, i64::MAX];
        let base = FramePoint { time: Timestamp(5), capture: CaptureId::new(1), frame: 1 << 40 };
        for nanos in edges(NEAR_NANOS) {
            for frames in edges(NEAR_FRAMES) {
                let is_near = (-NEAR_NANOS..NEAR_NANOS).contains(&nanos)
                    && (-NEAR_FRAMES..NEAR_FRAMES).contains(&frames)
                    && (nanos, frames) != (-NEAR_NANOS, -NEAR_FRAMES);
                let point = FramePoint {
                    time: Timestamp(base.time.0.wrapping_add(nanos)),
                    frame: base.frame.wrapping_add_signed(frames),
                    ..base
                };
                let mut out = Vec::new();
                let mut writer = Writer::new(&mut out, base);
                writer.point(point);
                writer.flush();
                assert_eq!(out.len(), if is_near { 8 } else { 24 }, "{nanos} ns, {frames} frames");
                let mut reader = Reader { bytes: &out, base, hellos: &NO_HELLOS };
                assert_eq!((reader.point(), reader.bytes.len()), (Some(point), 0));
            }
        }
    }

    #[test]
    fn counts_stand_in_one_word_if_all_are_small() {
        let most = COUNT_BITS.map(|bits| (1u64 << bits) - 1);
        for counts in [[0; 3], most, [most[0], 0, most[2]], [1, 2, 3]] {
            assert_eq!(count_word(counts).map(counts_of), Some(counts));
        }
        for place in 0..3 {
            let mut counts = most;
            counts[place] += 1;
            assert_eq!(count_word(counts), None);
        }
    }

    #[test]
    fn what_is_read_at_one_go_is_what_is_read_field_by_field() {
        let origin = Origin { capture: CaptureId::new(3), frames_before: 1000 };
        let (mut at_one_go, mut by_field) = (PartialFlow::nothing(), PartialFlow::nothing());
        let (mut in_short, mut lone_ones, mut syns) = (Short::nothing(), 0, [0; 2]);
        for flow in of_one_side() {
            let mut packed = Vec::new();
            pack(&View::of(&flow), &mut Hellos::default(), &mut packed);
            lone_ones += usize::from(lone(&packed, origin).is_some());
            for bytes in damaged(&packed) {
                let slowly = unpack_in_full(&bytes, &NO_HELLOS, origin, &mut by_field);
                if let Some(rest) = unpack_in_short(&bytes, origin, &mut in_short) {
                    in_short.put_into(&mut at_one_go);
                    assert_eq!((Some(rest), &at_one_go), (slowly, &by_field));
                }
                let syn = lone_syn(&bytes, origin, |syn, rest| {
                    syn.put_into(&mut in_short);
                    rest
                });
                if let Some(rest) = syn {
                    in_short.put_into(&mut at_one_go);
                    assert_eq!((Some(rest), &at_one_go), (slowly, &by_field));
                    syns[usize::from(in_short.vlan.is_some())] += 1;
                }
            }
        }
        assert!(syns.into_iter().all(|syns| syns > 500), "{syns:?}");
        assert!((16..64).contains(&lone_ones), "{lone_ones}");
    }

    /// The same bytes with any bit turned, cut anywhere, and with one more behind.
    fn damaged(packed: &[u8]) -> impl Iterator<Item = Vec<u8>> {
        let places = (0..packed.len()).flat_map(|place| (0..8).map(move |bit| (place, 1u8 << bit)));
        let changed = places.map(|(place, bit)| {
            let mut changed = packed.to_vec();
            changed[place] ^= bit;
            changed
        });
        let cut = (0..=packed.len()).map(|length| packed[..length].to_vec());
        changed.chain(cut).chain([[packed, &[0]].concat()])
    }

    #[test]
    fn an_exchange_is_read_in_few_steps_as_it_is_field_by_field() {
        let origin = Origin { capture: CaptureId::new(3), frames_before: 1000 };
        let (mut in_few_steps, mut by_field) = (PartialFlow::nothing(), PartialFlow::nothing());
        let (mut in_short, mut exchanges) = (Short::nothing(), 0);
        for mut flow in of_one_side() {
            flow.key.transport = Transport::Udp;
            let asked = if flow.low.packets > 0 { flow.low.clone() } else { flow.high.clone() };
            let first = asked.first.map(|first| FramePoint {
                time: first.time.plus(5),
                frame: first.frame + 1,
                ..first
            });
            (flow.low, flow.high) = (asked, SideFacts::default());
            flow.low.dns.queries = u32::from(flow.low.ttl.is_none());
            flow.high = SideFacts {
                packets: 1,
                bytes: 90,
                payload: 48,
                first,
                last: first.map(|first| first.time),
                data: first,
                dns: DnsSeen { queries: 0, responses: flow.low.dns.queries },
                ..SideFacts::default()
            };
            let mut packed = Vec::new();
            pack(&View::of(&flow), &mut Hellos::default(), &mut packed);
            exchanges += usize::from(unpack_in_short(&packed, origin, &mut in_short).is_some());
            for bytes in damaged(&packed) {
                let Some(rest) = unpack_in_short(&bytes, origin, &mut in_short) else { continue };
                in_short.put_into(&mut in_few_steps);
                let slowly = unpack_in_full(&bytes, &NO_HELLOS, origin, &mut by_field);
                assert_eq!((Some(rest), &in_few_steps), (slowly, &by_field));
            }
        }
        assert!((4..48).contains(&exchanges), "{exchanges}");
    }
}
