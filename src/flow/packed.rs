//! Stretches as bytes: some forty for a SYN that nobody answered, some hundred for a whole connection. What a table has
//! cut waits in this form, in memory or on disk, until the reducer takes it.
//!
//! The form is private to one run of the program: nothing but [`unpack`] reads it. Behind a version byte and without
//! numbers of hellos it is also what a row for `judge` carries ([`to_row`], [`of_row`]): those bytes are strangers'.

use super::fragments::FragmentPiece;
use super::head::{Head, Opening, Segment, Told};
use super::key::{FlowKey, Side};
use super::open::OpenSideAt;
use super::partial::{Acks, DnsSeen, PartialFlow, QuoteClass, QuoteFact, Reset, SideFacts, Syn, SynAck};
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
}

impl Hellos {
    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    fn number(&mut self, hello: &Arc<ClientHello>) -> u32 {
        if let Some(&number) = self.known.get(hello) {
            return number;
        }
        let number = self.all.len() as u32;
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

// What a direction begins with, where that was read.
const CLIENT_HELLO: u8 = 0;
const SERVER_HELLO: u8 = 1;
const NOTHING: u8 = 2;

/// Numbers are put together before they are written, as many bytes of them as a byte counts: a whole side without first bytes
/// is shorter.
const ROOM: usize = u8::MAX as usize;

/// Bytes that are written at once, at the most. There is so much more room, so that no place needs to be checked.
const AT_ONCE: usize = 16;

struct Writer<'a> {
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

    /// A number that is mostly small.
    #[inline]
    fn count(&mut self, value: u64) {
        match varint::short_word(value) {
            Some((word, bytes)) => self.some_of(word.to_le_bytes(), bytes),
            None => self.number(value),
        }
    }

    #[inline]
    fn signed(&mut self, value: i64) {
        self.number(((value << 1) ^ (value >> 63)) as u64);
    }

    #[inline]
    fn time(&mut self, time: Timestamp) {
        self.signed(time.0.wrapping_sub(self.base.time.0));
    }

    #[inline]
    fn point(&mut self, point: FramePoint) {
        self.time(point.time);
        self.signed((point.frame as i64).wrapping_sub(self.base.frame as i64));
        // Points of other captures: only in what was merged before it was packed.
        debug_assert_eq!(point.capture, self.base.capture);
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
pub(super) struct View<'a> {
    pub key: &'a FlowKey,
    pub begin: FramePoint,
    pub vlan: Option<u16>,
    pub vni: Option<u32>,
    pub quotes: &'a [QuoteFact],
    pub quoted_last: Option<Timestamp>,
    pub fragments: &'a [FragmentPiece],
    /// None where nothing was seen of the side.
    pub low: Option<SideOf<'a>>,
    /// None where nothing was seen of the side.
    pub high: Option<SideOf<'a>>,
    /// First bytes that are written in place of those of the lesser and the greater endpoint.
    pub heads: Option<[&'a Head; 2]>,
}

/// Where one side of it stands.
pub(super) enum SideOf<'a> {
    Facts(&'a SideFacts),
    Open(OpenSideAt<'a>),
}

impl<'a> SideOf<'a> {
    /// Whether it sent packets.
    pub fn sent(&self) -> bool {
        match self {
            SideOf::Facts(side) => side.packets > 0,
            SideOf::Open(side) => side.sent(),
        }
    }

    /// Its first bytes.
    pub fn head(&self) -> Option<&'a Head> {
        match self {
            SideOf::Facts(side) => Some(&side.head),
            SideOf::Open(side) => side.head(),
        }
    }

    #[inline]
    fn view(&self) -> SideView<'a> {
        match self {
            SideOf::Facts(side) => SideView::of(side),
            SideOf::Open(side) => side.view(),
        }
    }
}

/// One side of it: the fields of [`SideFacts`].
pub(super) struct SideView<'a> {
    pub packets: u64,
    pub bytes: u64,
    pub payload: u64,
    pub first: Option<FramePoint>,
    pub last: Option<Timestamp>,
    pub syn: Option<Syn>,
    pub syn_ack: Option<SynAck>,
    pub fin: Option<FramePoint>,
    pub reset: Option<Reset>,
    pub beyond_syn: Option<FramePoint>,
    pub beyond_syn_last: Option<FramePoint>,
    pub data: Option<FramePoint>,
    pub acks: Acks,
    pub ttl: Option<(u8, u8)>,
    pub alert: Option<(FramePoint, u8)>,
    pub tls_data: Option<FramePoint>,
    pub dns: DnsSeen,
    pub head: Option<&'a Head>,
}

impl<'a> SideView<'a> {
    fn of(side: &'a SideFacts) -> Self {
        SideView {
            packets: side.packets,
            bytes: side.bytes,
            payload: side.payload,
            first: side.first,
            last: side.last,
            syn: side.syn,
            syn_ack: side.syn_ack,
            fin: side.fin,
            reset: side.reset,
            beyond_syn: side.beyond_syn,
            beyond_syn_last: side.beyond_syn_last,
            data: side.data,
            acks: side.acks,
            ttl: side.ttl,
            alert: side.alert,
            tls_data: side.tls_data,
            dns: side.dns,
            head: Some(&side.head),
        }
    }
}

impl<'a> View<'a> {
    /// Of a stretch as a value.
    pub fn of(flow: &'a PartialFlow) -> Self {
        let side = |side: &'a SideFacts| (!side.is_nothing()).then_some(SideOf::Facts(side));
        View {
            key: &flow.key,
            begin: flow.begin().unwrap_or_default(),
            vlan: flow.vlan,
            vni: flow.vni,
            quotes: &flow.quotes,
            quoted_last: flow.quoted_last,
            fragments: &flow.fragments,
            low: side(&flow.low),
            high: side(&flow.high),
            heads: None,
        }
    }
}

/// Appends a stretch of one capture. All its points must be of the same capture: which one is told when it is read.
pub(super) fn pack(flow: &View<'_>, hellos: &mut Hellos, out: &mut Vec<u8>) {
    let base = flow.begin;
    let mut w = Writer::new(out, base);
    let key = flow.key;
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
            | some(flow.low.is_some(), LOW)
            | some(flow.high.is_some(), HIGH),
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
    for (place, side) in [&flow.low, &flow.high].into_iter().enumerate() {
        let Some(side) = side else { continue };
        let mut side = side.view();
        if let Some(heads) = flow.heads {
            side.head = Some(heads[place]);
        }
        w.side(&side, hellos);
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

    fn side(&mut self, side: &SideView<'_>, hellos: &mut Hellos) {
        let told = side.head.and_then(Head::told);
        let segments = side.head.filter(|head| head.has_segments()).map(Head::segments);
        let mut mask = 0;
        let mut mark = |there: bool, bit: u32| {
            mask |= if there { bit } else { 0 };
            there
        };
        let SideView { first, last, beyond_syn, beyond_syn_last, .. } = *side;
        let beyond_syn_last = beyond_syn_last.or(beyond_syn);
        mark(first.is_some(), FIRST);
        mark(side.syn.is_some(), SYN);
        // The usual SYN is the side's first frame and was sent once.
        let again =
            side.syn.is_some_and(|syn| syn.count != 1 || syn.last != syn.first || Some(syn.first) != first);
        mark(again, SYN_AGAIN);
        mark(side.fin.is_some(), FIN);
        mark(side.reset.is_some(), RESET);
        mark(side.data.is_some(), DATA);
        mark(matches!(side.acks, Acks::One(_)), ACK_ONE);
        mark(side.acks == Acks::Many, ACK_MANY);
        mark(side.ttl.is_some(), TTL);
        mark(side.alert.is_some(), ALERT);
        mark(side.tls_data.is_some(), TLS_DATA);
        let dns = mark(side.dns != DnsSeen::default(), DNS);
        mark(told.is_some(), TOLD);
        mark(segments.is_some(), SEGMENTS);
        let answer_is_first = side.syn_ack.is_some_and(|answer| {
            mark(true, SYN_ACK);
            mark(Some(answer.first) == first, ANSWER_IS_FIRST)
        });
        let (mut beyond_is_first, mut beyond_once, mut last_is_beyond) = (false, false, false);
        if let (Some(begin), Some(end)) = (beyond_syn, beyond_syn_last) {
            mark(true, BEYOND);
            beyond_is_first = mark(Some(begin) == first, BEYOND_IS_FIRST);
            beyond_once = mark(end == begin, BEYOND_ONCE);
            last_is_beyond = mark(first.is_some() && last == Some(end.time), LAST_IS_BEYOND);
        }
        let is_last = |point: FramePoint| beyond_syn_last == Some(point);
        let fin_is_last = mark(side.fin.is_some_and(is_last), FIN_IS_LAST);
        let reset_is_last = mark(side.reset.is_some_and(|reset| is_last(reset.first)), RESET_IS_LAST);
        let begin_of_head = side.head.and_then(Head::begin);
        let data_is_head = mark(side.data.is_some() && side.data == begin_of_head, DATA_IS_HEAD);
        let data_is_first = mark(!data_is_head && side.data.is_some() && side.data == first, DATA_IS_FIRST);
        let [low, middle, high, _] = u32::to_le_bytes(mask);
        self.fixed([low, middle, high]);
        self.count(side.packets);
        self.count(side.bytes);
        self.count(side.payload);
        if let Some(first) = first {
            self.point(first);
            if !last_is_beyond {
                self.time(last.unwrap_or(first.time));
            }
        }
        if let Some(syn) = side.syn {
            self.fixed(syn.isn.to_le_bytes());
            if again {
                self.number(syn.count.into());
                self.point(syn.first);
                self.point(syn.last);
            }
        }
        if let Some(answer) = side.syn_ack {
            self.fixed(answer.isn.to_le_bytes());
            self.fixed(answer.ack.to_le_bytes());
            if !answer_is_first {
                self.point(answer.first);
            }
        }
        if let (Some(begin), Some(end)) = (beyond_syn, beyond_syn_last) {
            if !beyond_is_first {
                self.point(begin);
            }
            if !beyond_once {
                self.point(end);
            }
        }
        if let Some(fin) = side.fin
            && !fin_is_last
        {
            self.point(fin);
        }
        if let Some(reset) = side.reset {
            if !reset_is_last {
                self.point(reset.first);
            }
            self.byte(reset.ttl);
        }
        if let Acks::One(ack) = side.acks {
            self.fixed(ack.to_le_bytes());
        }
        if let Some((low, high)) = side.ttl {
            self.fixed([low, high]);
        }
        if let Some((point, description)) = side.alert {
            self.point(point);
            self.byte(description);
        }
        side.tls_data.into_iter().for_each(|point| self.point(point));
        if dns {
            self.count(side.dns.queries.into());
            self.count(side.dns.responses.into());
        }
        if let Some(told) = told {
            self.told(told, hellos);
        }
        if let Some(segments) = segments {
            self.number(segments.len() as u64);
            let mut next = beginning(side.syn, side.syn_ack);
            for Segment { seq, point, bytes } in segments {
                self.signed(seq.wrapping_sub(next).cast_signed().into());
                self.point(point);
                self.bytes(bytes);
                next = seq.wrapping_add(bytes.len() as u32);
            }
        }
        if let Some(data) = side.data
            && !data_is_head
            && !data_is_first
        {
            self.point(data);
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

/// The sequence number that a side's first piece mostly has; 0 where nothing tells.
fn beginning(syn: Option<Syn>, syn_ack: Option<SynAck>) -> u32 {
    let isn = syn.map(|syn| syn.isn).or(syn_ack.map(|answer| answer.isn));
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

impl Reader<'_> {
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

    fn small(&mut self) -> Option<u32> {
        u32::try_from(self.number()?).ok()
    }

    #[inline]
    fn signed(&mut self) -> Option<i64> {
        self.number().map(unfolded)
    }

    fn time(&mut self) -> Option<Timestamp> {
        Some(Timestamp(self.base.time.0.wrapping_add(self.signed()?)))
    }

    fn point(&mut self) -> Option<FramePoint> {
        let time = self.time()?;
        let frame = (self.base.frame as i64).wrapping_add(self.signed()?) as u64;
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

/// Reads what [`pack`] wrote into `flow`, whatever that was. On `None` it is of no use.
pub(super) fn unpack(bytes: &[u8], hellos: &Hellos, origin: Origin, flow: &mut PartialFlow) -> Option<()> {
    unpacked(bytes, hellos, origin, flow).map(|_| ())
}

/// As [`unpack`]; hands back the bytes after the stretch.
fn unpacked<'b>(
    bytes: &'b [u8],
    hellos: &'b Hellos,
    origin: Origin,
    flow: &mut PartialFlow,
) -> Option<&'b [u8]> {
    if let Some((lone, rest)) = lone(bytes, origin) {
        lone.put_into(flow);
        return Some(rest);
    }
    unpacked_by_field(bytes, hellos, origin, flow)
}

/// The same, whatever the stretch is.
#[inline(never)]
fn unpacked_by_field<'b>(
    bytes: &'b [u8],
    hellos: &'b Hellos,
    origin: Origin,
    flow: &mut PartialFlow,
) -> Option<&'b [u8]> {
    let capture = origin.capture;
    let mut r = Reader { bytes, base: FramePoint { capture, ..FramePoint::default() }, hellos };
    let (flags, key) = r.key()?;
    r.base.time = Timestamp(r.fixed().map(i64::from_le_bytes)?);
    r.base.frame = r.number()?.checked_add(origin.frames_before)?;
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
    if flags & LOW != 0 {
        r.side(&mut flow.low)?;
    }
    if flags & HIGH != 0 {
        r.side(&mut flow.high)?;
    }
    Some(r.bytes)
}

/// A stretch of which one side alone sent frames, and those show no more than where they are, times to live and a SYN that
/// was sent once: what a flood is made of, read at one go.
struct Lone {
    key: FlowKey,
    vlan: Option<u16>,
    vni: Option<u32>,
    side: Side,
    packets: u64,
    bytes: u64,
    payload: u64,
    first: FramePoint,
    last: Timestamp,
    isn: Option<u32>,
    ttl: Option<(u8, u8)>,
}

/// A lone stretch and the bytes after it; none if it is another, or no stretch at all.
///
/// Inlined wherever it is called, so that what it finds stays in registers: handed over in memory, written field by field and read
/// back in longer words, it cost more than to read it.
#[inline(always)]
fn lone(bytes: &[u8], origin: Origin) -> Option<(Lone, &[u8])> {
    let &flags = bytes.first()?;
    let side = match flags & (QUOTES | QUOTED | FRAGMENTS | LOW | HIGH) {
        LOW => Side::Low,
        HIGH => Side::High,
        _ => return None,
    };
    let base = FramePoint { capture: origin.capture, ..FramePoint::default() };
    let mut r = Reader { bytes, base, hellos: &NO_HELLOS };
    let (_, key) = r.key()?;
    r.base.time = Timestamp(r.fixed().map(i64::from_le_bytes)?);
    r.base.frame = r.number()?.checked_add(origin.frames_before)?;
    let vlan = if flags & VLAN != 0 { Some(r.u16()?) } else { None };
    let vni = if flags & VNI != 0 { Some(r.u32()?) } else { None };
    let mask = r.mask()?;
    if mask & FIRST == 0 || mask & !(FIRST | SYN | TTL) != 0 {
        return None;
    }
    let numbers = match r.bytes.split_first_chunk() {
        // Nearly always each is of one byte.
        Some((bytes, rest)) if bytes.iter().fold(0, |all, byte| all | byte) < 0x80 => {
            r.bytes = rest;
            bytes.map(u64::from)
        }
        _ => {
            let (numbers, rest) = six_numbers(r.bytes)?;
            r.bytes = rest;
            numbers
        }
    };
    let [packets, bytes, payload, time, frame, last] = numbers;
    // Times and frames count from the first frame, which is mostly this one.
    let [time, frame, last] = [time, frame, last].map(unfolded);
    let at = |nanos: i64| Timestamp(r.base.time.0.wrapping_add(nanos));
    let (first, last) = (at(time), at(last));
    let frame = (r.base.frame as i64).wrapping_add(frame) as u64;
    let first = FramePoint { time: first, capture: origin.capture, frame };
    let isn = if mask & SYN != 0 { Some(r.u32()?) } else { None };
    let ttl = if mask & TTL != 0 { Some(r.fixed().map(|[low, high]| (low, high))?) } else { None };
    Some((Lone { key, vlan, vni, side, packets, bytes, payload, first, last, isn, ttl }, r.bytes))
}

/// Six numbers of any length, and the bytes after them.
#[inline(never)]
fn six_numbers(mut bytes: &[u8]) -> Option<([u64; 6], &[u8])> {
    let mut numbers = [0; 6];
    for number in &mut numbers {
        *number = varint::take(&mut bytes)?;
    }
    Some((numbers, bytes))
}

impl Lone {
    #[inline(always)]
    fn put_into(self, flow: &mut PartialFlow) {
        flow.clear(self.key);
        (flow.vlan, flow.vni) = (self.vlan, self.vni);
        let side = match self.side {
            Side::Low => &mut flow.low,
            Side::High => &mut flow.high,
        };
        (side.packets, side.bytes, side.payload) = (self.packets, self.bytes, self.payload);
        (side.first, side.last, side.ttl) = (Some(self.first), Some(self.last), self.ttl);
        side.syn = self.isn.map(|isn| Syn { isn, first: self.first, last: self.first, count: 1 });
    }
}

/// Version of what a row carries: its first byte.
const ROW_VERSION: u8 = 2;

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
pub(super) fn append_row(flow: &View<'_>, row: &mut Vec<u8>) {
    let sides = [&flow.low, &flow.high].into_iter().flatten();
    let told = sides.filter_map(SideOf::head).any(|head| head.told().is_some());
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
        && lone.packets.max(lone.bytes).max(lone.payload) <= MOST_COUNTED
    {
        let sent = [Side::Low, Side::High].map(|side| side == lone.side && lone.packets > 0);
        let time = Some(lone.first.time);
        return Ok(Row { packed: bytes, key: lone.key, sent, time, carries_bytes: false });
    }
    of_any_row(bytes, flow)
}

/// As [`of_row`], whatever the stretch is: `bytes` are those behind the version.
#[inline(never)]
fn of_any_row<'b>(bytes: &'b [u8], flow: &mut PartialFlow) -> Result<Row<'b>, RowProblem> {
    let rest = unpacked(bytes, &NO_HELLOS, Origin::default(), flow);
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

    /// What of one side is there.
    fn mask(&mut self) -> Option<u32> {
        let [low, middle, high] = self.fixed()?;
        Some(u32::from_le_bytes([low, middle, high, 0]))
    }

    fn side(&mut self, side: &mut SideFacts) -> Option<()> {
        let mask = self.mask()?;
        let has = |bit: u32| mask & bit != 0;
        side.packets = varint::take_short(&mut self.bytes)?;
        (side.bytes, side.payload) = (self.number()?, self.number()?);
        if has(FIRST) {
            side.first = Some(self.point()?);
            if !has(LAST_IS_BEYOND) {
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
        if has(TOLD) {
            side.head.tell(self.told()?);
        }
        if has(SEGMENTS) {
            let mut next = beginning(side.syn, side.syn_ack);
            for _ in 0..self.number()? {
                let seq = next.wrapping_add(self.signed()? as u32);
                let (point, bytes) = (self.point()?, varint::take_bytes(&mut self.bytes)?);
                side.head.push(Segment { seq, point, bytes });
                next = seq.wrapping_add(bytes.len() as u32);
            }
        }
        if has(DATA) {
            side.data = Some(if has(DATA_IS_HEAD) {
                side.head.begin()?
            } else if has(DATA_IS_FIRST) {
                side.first?
            } else {
                self.point()?
            });
        }
        Some(())
    }

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

    /// Stretches of one side with more and less in them.
    fn of_one_side() -> Vec<PartialFlow> {
        let ends = [("10.0.0.4", "192.0.2.9"), ("fd00::4", "2001:db8::9")];
        let mut flows = Vec::new();
        for case in 0..64u64 {
            let has = |bit: u64| case & bit != 0;
            let (low, high) = ends[usize::from(has(1))];
            let [low, high] = [low, high].map(|ip| Endpoint::new(ip.parse().unwrap(), 443));
            let first = FramePoint { time: Timestamp(-7), capture: CaptureId(0), frame: 1 << (case % 40) };
            let side = SideFacts {
                packets: if has(2) { 300 } else { 1 },
                bytes: 60 << (case % 7),
                first: Some(first),
                last: Some(Timestamp(if has(2) { 1 << 40 } else { -7 })),
                syn: has(4).then_some(Syn {
                    isn: 9,
                    first,
                    last: first,
                    count: 1 + u32::from(has(8) && has(16)),
                }),
                ttl: has(8).then_some((63, 64)),
                data: (has(16) && has(32)).then_some(first),
                ..SideFacts::default()
            };
            let mut flow = PartialFlow::new(FlowKey { transport: Transport::Tcp, low, high });
            (flow.vlan, flow.vni) = (has(16).then_some(5), has(32).then_some(7));
            *(if has(2) { &mut flow.low } else { &mut flow.high }) = side;
            flows.push(flow);
        }
        flows
    }

    #[test]
    fn what_is_read_at_one_go_is_what_is_read_field_by_field() {
        let origin = Origin { capture: CaptureId(3), frames_before: 1000 };
        let (mut at_one_go, mut by_field) = (PartialFlow::nothing(), PartialFlow::nothing());
        let mut lone_ones = 0;
        for flow in of_one_side() {
            let mut packed = Vec::new();
            pack(&View::of(&flow), &mut Hellos::default(), &mut packed);
            lone_ones += usize::from(lone(&packed, origin).is_some());
            let places = (0..packed.len()).flat_map(|place| (0..8).map(move |bit| (place, 1u8 << bit)));
            let changed = places.map(|(place, bit)| {
                let mut changed = packed.clone();
                changed[place] ^= bit;
                changed
            });
            let cut = (0..=packed.len()).map(|length| packed[..length].to_vec());
            let longer = [packed.as_slice(), &[0]].concat();
            for bytes in changed.chain(cut).chain([longer]) {
                let Some((lone, rest)) = lone(&bytes, origin) else { continue };
                lone.put_into(&mut at_one_go);
                let slowly = unpacked_by_field(&bytes, &NO_HELLOS, origin, &mut by_field);
                assert_eq!((Some(rest), &at_one_go), (slowly, &by_field));
            }
        }
        assert!((16..48).contains(&lone_ones), "{lone_ones}");
    }
}
