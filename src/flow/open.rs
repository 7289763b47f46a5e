//! A stretch of a conversation while the mapper adds to it: as [`PartialFlow`], in a third of its space.

use super::head::{DNS_HEAD_BYTES, HEAD_BYTES, Head, STEP_BYTES, Told};
use super::key::{KeyWords, Side};
use super::packed::{BriefLine, BriefPacket, BriefSide, Point, SideView, Sides, SynAt, View};
use super::partial::{Acks, DnsSeen, PartialFlow, QuoteFact};
use crate::decode::{Packet, Tcp};
use crate::model::{CaptureId, Endpoint, FramePoint, Timestamp, Transport};
use crate::names::{KnownHellos, dns};
use std::net::Ipv4Addr;

/// A frame of the capture at hand: when, and its number less the table's base. Frame 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(Rust, packed(4))]
pub(super) struct At {
    pub time: i64,
    pub frame: u32,
}

impl At {
    const NONE: At = At { time: 0, frame: 0 };

    fn is_some(self) -> bool {
        self.frame != 0
    }

    fn is_before(self, other: At) -> bool {
        (self.time, self.frame) < (other.time, other.frame)
    }

    /// Takes `other` if it is the first; what is there already is certain to be earlier.
    #[inline]
    fn set_if_none(&mut self, other: At) {
        if !self.is_some() {
            *self = other;
        }
    }

    /// Takes `other` if it is the first or earlier.
    fn lower(&mut self, other: At) {
        if !self.is_some() || other.is_before(*self) {
            *self = other;
        }
    }

    /// Takes `other` if it is the first or later.
    fn raise(&mut self, other: At) {
        if !self.is_some() || self.is_before(other) {
            *self = other;
        }
    }

    fn point(self, base: u64, capture: CaptureId) -> Option<FramePoint> {
        self.is_some().then(|| FramePoint {
            time: Timestamp(self.time),
            capture,
            frame: base + u64::from(self.frame),
        })
    }
}

/// What one side sent, as far as nearly every packet changes it: one line of the cache. The fields are those of
/// [`super::SideFacts`].
#[derive(Clone, Debug)]
#[repr(C)]
struct OpenSide {
    packets: u32,
    bytes: u32,
    payload: u32,
    acks: u32,
    last: i64,
    first: At,
    beyond_syn: At,
    beyond_syn_last: At,
    /// 0 none, 1 one value, 2 several.
    acks_seen: u8,
    /// Least and greatest; the other way round where none was seen.
    ttl: (u8, u8),
    /// What is known of [`FurtherSide`], so that most packets need not touch it: bits.
    settled: u8,
}

impl OpenSide {
    const NOTHING: OpenSide = OpenSide {
        packets: 0,
        bytes: 0,
        payload: 0,
        acks: 0,
        last: 0,
        first: At::NONE,
        beyond_syn: At::NONE,
        beyond_syn_last: At::NONE,
        acks_seen: 0,
        ttl: (u8::MAX, 0),
        settled: 0,
    };

    /// There was data: only what is earlier changes which is the first.
    const DATA: u8 = 1;
    /// The same of application data in TLS.
    const TLS_DATA: u8 = 2;
    /// Whatever else this side says, nothing of it is kept.
    const SAID_ALL: u8 = 4;
}

/// All else of what one side sent.
#[derive(Clone, Debug)]
#[repr(C)]
struct FurtherSide {
    head: Option<Box<Head>>,
    data: At,
    syn_ack: At,
    /// Of TCP, the numbers of the SYN-ACK: its own, and what it acknowledges. Of UDP, how many DNS queries and responses.
    numbers: (u32, u32),
    fin: At,
    reset: At,
    tls_data: At,
    reset_ttl: u8,
}

impl FurtherSide {
    const NOTHING: FurtherSide = FurtherSide {
        head: None,
        data: At::NONE,
        syn_ack: At::NONE,
        numbers: (0, 0),
        fin: At::NONE,
        reset: At::NONE,
        tls_data: At::NONE,
        reset_ttl: 0,
    };

    /// Becomes [`FurtherSide::NOTHING`]. Each field by itself: as a whole it would be copied, by a call.
    #[inline]
    fn clear(&mut self) {
        let FurtherSide { head, data, syn_ack, numbers, fin, reset, tls_data, reset_ttl } = self;
        (*head, *numbers, *reset_ttl) = (None, (0, 0), 0);
        (*data, *syn_ack, *fin, *reset, *tls_data) = (At::NONE, At::NONE, At::NONE, At::NONE, At::NONE);
    }
}

/// How first bytes are kept, and the memory for them of stretches that are over: most conversations say something, and none
/// for long.
#[derive(Debug)]
pub(super) struct Keep {
    /// Whether TLS is read as it arrives.
    pub read_tls: bool,
    #[expect(clippy::vec_box, reason = "a stretch holds its head in a box, and that is what is kept")]
    spare: Vec<Box<Head>>,
    hellos: KnownHellos,
}

/// Heads that wait to be used again, at the most: as many as conversations end in a moment of a busy link.
const SPARE_HEADS: usize = 1024;

/// Bytes for which a head has memory that waits to be used again, at the most: what short requests and answers take. All
/// spare heads together are a megabyte then.
const SPARE_ROOM: usize = 1024;

impl Keep {
    pub fn new(read_tls: bool) -> Self {
        Keep { read_tls, spare: Vec::new(), hellos: KnownHellos::default() }
    }

    fn head(&mut self) -> Box<Head> {
        self.spare.pop().unwrap_or_default()
    }

    fn give_back(&mut self, mut head: Box<Head>) {
        if self.spare.len() < SPARE_HEADS && head.room() <= SPARE_ROOM {
            head.clear();
            self.spare.push(head);
        }
    }
}

/// What few conversations have.
#[derive(Clone, Debug, Default)]
struct Rare {
    vni: Option<u32>,
    quotes: Vec<QuoteFact>,
    quoted_last: Option<Timestamp>,
    /// Fatal TLS alerts in the clear, and their descriptions: of the lesser endpoint, and of the greater.
    alerts: [(At, u8); 2],
    /// The SYN of the stretch that was cut off for this one, if it, or one cut off for it, kept or read first bytes.
    said_before: Option<(Side, u32)>,
}

/// An open stretch, or a place for one. In lines of the cache: whose it is and when it was heard last, which is all that
/// finding it and looking whether it is over need; what nearly every packet changes of each side; all else. A packet touches two
/// of six lines, mostly.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub(super) struct Open {
    /// The latest time at which anything was seen of it, if anything was.
    latest: i64,
    pub key: KeyWords,
    /// Whether there is a stretch here.
    pub live: bool,
    /// Whether FIN, RST or an answer were seen so that no more is to be expected of it.
    pub closing: bool,
    /// For whoever follows conversations: whether it was added to since, and the frame with which it began.
    pub touched: bool,
    /// For whoever keeps a journal: whether it was added to since, and whether it stands there.
    pub unwritten: bool,
    pub written: bool,
    seen: Seen,
    pub opened: u32,
    vlan: Option<u16>,
    low: OpenSide,
    high: OpenSide,
    further_low: FurtherSide,
    further_high: FurtherSide,
    /// The SYN with which it begins, and who sent it: a SYN always begins a stretch, so there is at most one.
    syn: Option<(Side, u32)>,
    syn_at: At,
    rare: Option<Box<Rare>>,
}

/// What was seen of a conversation, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Seen {
    /// Nothing yet.
    Nothing,
    /// Only ICMP errors about it.
    Errors,
    /// Packets of its own.
    Packets,
}

impl Open {
    /// A place with nothing in it.
    pub fn nowhere() -> Self {
        let nowhere = Endpoint::new(Ipv4Addr::UNSPECIFIED.into(), 0);
        let (nowhere, _) = KeyWords::of_packet(Transport::Tcp, nowhere, nowhere);
        Open {
            latest: 0,
            key: nowhere,
            live: false,
            closing: false,
            touched: false,
            unwritten: false,
            written: false,
            seen: Seen::Nothing,
            opened: 0,
            syn: None,
            syn_at: At::NONE,
            vlan: None,
            rare: None,
            low: OpenSide::NOTHING,
            high: OpenSide::NOTHING,
            further_low: FurtherSide::NOTHING,
            further_high: FurtherSide::NOTHING,
        }
    }

    /// Becomes a stretch of which nothing was seen yet. Written where it stands: as a value it would be copied there.
    pub fn begin(&mut self, key: KeyWords) {
        (self.latest, self.key) = (0, key);
        (self.live, self.closing, self.touched, self.seen) = (true, false, false, Seen::Nothing);
        (self.unwritten, self.written) = (false, false);
        (self.opened, self.syn, self.syn_at, self.vlan, self.rare) = (0, None, At::NONE, None, None);
        self.low = OpenSide::NOTHING;
        self.high = OpenSide::NOTHING;
        self.further_low.clear();
        self.further_high.clear();
    }

    /// The SYN with which it begins, if it, or one cut off for it that began with the same, kept or read first bytes.
    pub fn said_something(&self) -> Option<(Side, u32)> {
        let says = |further: &FurtherSide| further.head.as_ref().is_some_and(|head| !head.is_empty());
        let says = says(&self.further_low) || says(&self.further_high);
        if says { self.syn } else { self.said_before() }
    }

    fn said_before(&self) -> Option<(Side, u32)> {
        self.rare.as_ref().and_then(|rare| rare.said_before)
    }

    /// Becomes a stretch for which another was cut off that said something under this SYN.
    pub fn begin_again(&mut self, said_before: Option<(Side, u32)>) {
        self.begin(self.key);
        if said_before.is_some() {
            self.rare = Some(Box::new(Rare { said_before, ..Rare::default() }));
        }
    }

    /// Begins with a SYN.
    fn begin_with(&mut self, syn: (Side, u32), at: At) {
        (self.syn, self.syn_at) = (Some(syn), at);
        // Of another connection nothing was said before.
        if self.said_before().is_some_and(|before| before != syn)
            && let Some(mut rare) = self.rare.take()
        {
            rare.said_before = None;
            self.rare = Some(rare).filter(|rare| rare.vni.is_some() || !rare.quotes.is_empty());
        }
    }

    /// Asks for the memory of what a packet of one side changes.
    #[inline]
    pub fn ask_for(&self, side: Side) {
        let own = self.side(side);
        std::hint::black_box((self.latest, self.live, own.packets));
    }

    /// Becomes an empty place.
    pub fn end(&mut self, keep: &mut Keep) {
        (self.live, self.rare) = (false, None);
        if let Some(head) = self.further_low.head.take() {
            keep.give_back(head);
        }
        if let Some(head) = self.further_high.head.take() {
            keep.give_back(head);
        }
    }

    #[inline]
    fn side(&self, side: Side) -> &OpenSide {
        side.of(&self.low, &self.high)
    }

    #[inline]
    fn side_mut(&mut self, side: Side) -> &mut OpenSide {
        side.of(&mut self.low, &mut self.high)
    }

    #[inline]
    fn further(&self, side: Side) -> &FurtherSide {
        side.of(&self.further_low, &self.further_high)
    }

    #[inline]
    fn further_mut(&mut self, side: Side) -> &mut FurtherSide {
        side.of(&mut self.further_low, &mut self.further_high)
    }

    fn quotes(&self) -> &[QuoteFact] {
        self.rare.as_ref().map(|rare| rare.quotes.as_slice()).unwrap_or_default()
    }

    /// Something of it was seen.
    #[inline]
    fn heard(&mut self, time: i64, what: Seen) {
        self.latest = if self.seen == Seen::Nothing { time } else { self.latest.max(time) };
        self.seen = self.seen.max(what);
    }

    /// Whether one more packet of this length might overflow a count: then the stretch is cut first.
    #[inline]
    pub fn is_full(&self, side: Side, wire_len: u32, payload_len: u32) -> bool {
        let own = self.side(side);
        // As long as all are below 2^31 no sum of two overflows.
        (own.packets | own.bytes | own.payload | wire_len | payload_len) > i32::MAX as u32
    }

    /// The latest time at which anything was seen of it.
    #[inline]
    pub fn latest(&self) -> Option<i64> {
        (self.seen != Seen::Nothing).then_some(self.latest)
    }

    /// The time of its first frame, or of the first ICMP error about it.
    pub fn first_time(&self) -> Option<i64> {
        let of = |side: &OpenSide| (side.packets > 0).then_some(side.first.time);
        let quoted = self.quotes().iter().map(|quote| quote.point.time.0);
        of(&self.low).into_iter().chain(of(&self.high)).chain(quoted).min()
    }

    /// Whether nothing of the conversation itself was seen yet.
    pub fn is_bare(&self) -> bool {
        self.low.packets == 0 && self.high.packets == 0 && self.quotes().is_empty()
    }

    /// Whether one packet was seen of it, and no more.
    pub fn is_lone_packet(&self) -> bool {
        matches!((self.low.packets, self.high.packets), (1, 0) | (0, 1)) && self.quotes().is_empty()
    }

    /// Whether one packet was seen of each side.
    pub fn is_one_exchange(&self) -> bool {
        (self.low.packets, self.high.packets) == (1, 1)
    }

    /// Keeps the VLAN and the VNI of its first packet.
    pub fn tag(&mut self, vlan: Option<u16>, vni: Option<u32>) {
        self.vlan = vlan;
        if vni.is_some() || self.rare.is_some() {
            self.rare.get_or_insert_default().vni = vni;
        }
    }

    /// Counts a packet. Tells whether it came later than all that was seen of the conversation before.
    #[inline(always)]
    pub fn count(&mut self, side: Side, packet: &Packet<'_>, at: At, wire_len: u32) -> bool {
        // Nearly every packet comes after all others of its conversation.
        if self.seen == Seen::Packets && at.time > self.latest {
            self.latest = at.time;
            let own = self.side_mut(side);
            own.last = at.time;
            own.packets += 1;
            own.bytes += wire_len;
            own.first.set_if_none(at);
            return true;
        }
        let earlier = |have: At| have.is_some() && !at.is_before(have);
        if !earlier(self.side(side).first) && !earlier(self.side(side.other()).first) {
            self.tag(packet.vlan, packet.vni);
        }
        self.heard(at.time, Seen::Packets);
        let own = self.side_mut(side);
        own.last = if own.packets == 0 { at.time } else { own.last.max(at.time) };
        own.packets += 1;
        own.bytes += wire_len;
        own.first.lower(at);
        false
    }

    /// Counts a UDP datagram's payload.
    pub fn count_payload(&mut self, side: Side, at: At, payload_len: u32) {
        let own = self.side_mut(side);
        own.payload += payload_len;
        if payload_len > 0 {
            self.further_mut(side).data.lower(at);
        }
    }

    /// Counts a DNS message over UDP.
    pub fn count_dns(&mut self, side: Side, response: bool) {
        let (queries, responses) = &mut self.further_mut(side).numbers;
        let count = if response { responses } else { queries };
        *count = count.saturating_add(1);
    }

    /// Keeps a UDP datagram.
    pub fn keep_datagram(&mut self, side: Side, point: FramePoint, bytes: &[u8], keep: &mut Keep) {
        let head = self.further_mut(side).head.get_or_insert_with(|| keep.head());
        head.add_datagram(point, bytes, HEAD_BYTES);
    }

    /// Keeps a UDP datagram if it is the first.
    pub fn keep_first_datagram(&mut self, side: Side, point: FramePoint, bytes: &[u8], keep: &mut Keep) {
        if self.further(side).head.is_none() {
            self.keep_datagram(side, point, bytes, keep);
        }
    }

    /// Counts an ICMP error: the first of each side and class stays.
    pub fn add_quote(&mut self, quote: QuoteFact) {
        self.heard(quote.point.time.0, Seen::Errors);
        let rare = self.rare.get_or_insert_default();
        let mut flow = PartialFlow::new(self.key.key());
        flow.quotes = std::mem::take(&mut rare.quotes);
        flow.quoted_last = rare.quoted_last;
        flow.add_quote(quote);
        (rare.quotes, rare.quoted_last) = (flow.quotes, flow.quoted_last);
    }

    /// Counts what a TCP segment says. `point` is `at` in full; `later` is what [`Open::count`] told.
    #[inline(always)]
    pub fn count_tcp(
        &mut self,
        side: Side,
        tcp: &Tcp<'_>,
        ttl: u8,
        (at, later): (At, bool),
        point: FramePoint,
        keep: &mut Keep,
    ) {
        let flags = tcp.flags;
        let own = self.side_mut(side);
        own.payload += tcp.payload_len;
        if flags.syn() && !flags.ack() {
            if self.syn.is_none() {
                self.begin_with((side, tcp.seq), at);
            }
        } else if later {
            own.beyond_syn.set_if_none(at);
            own.beyond_syn_last = at;
        } else {
            own.beyond_syn.lower(at);
            own.beyond_syn_last.raise(at);
        }
        if flags.begins_or_ends() {
            if flags.syn() && flags.ack() {
                let further = self.further_mut(side);
                if !further.syn_ack.is_some() || at.is_before(further.syn_ack) {
                    (further.numbers, further.syn_ack) = ((tcp.seq, tcp.ack), at);
                }
            }
            if flags.fin() {
                self.further_mut(side).fin.lower(at);
                self.closing |= self.further(side.other()).fin.is_some();
            }
            if flags.rst() {
                let further = self.further_mut(side);
                if !further.reset.is_some() || at.is_before(further.reset) {
                    (further.reset, further.reset_ttl) = (at, ttl);
                }
                self.closing = true;
                // What follows a reset's header explains it (RFC 9293 section 3.5.3): no payload, no acknowledgement.
                return;
            }
        }
        let own = self.side_mut(side);
        if own.ttl != (ttl, ttl) {
            own.ttl = (own.ttl.0.min(ttl), own.ttl.1.max(ttl));
        }
        if flags.ack() {
            match own.acks_seen {
                0 => (own.acks, own.acks_seen) = (tcp.ack, 1),
                1 if own.acks != tcp.ack => own.acks_seen = 2,
                _ => {}
            }
        }
        if tcp.payload_len == 0 {
            return;
        }
        if tcp.payload_len == 1 && self.keeps_alive(side, tcp.seq, flags.syn()) {
            return;
        }
        let settled = self.side(side).settled;
        if !later || settled & OpenSide::DATA == 0 {
            self.further_mut(side).data.lower(at);
            self.side_mut(side).settled |= OpenSide::DATA;
        }
        if let [kind, 3, _, high, low, rest @ ..] = tcp.payload {
            match (kind, rest) {
                // A record that is nothing but a fatal alert (RFC 8446 section 6): type 21, two bytes, level 2.
                (21, [2, description]) if (*high, *low) == (0, 2) => {
                    let [low, high] = &mut self.rare.get_or_insert_default().alerts;
                    let alert = side.of(low, high);
                    if !alert.0.is_some() || at.is_before(alert.0) {
                        *alert = (at, *description);
                    }
                }
                (23, _) if !later || settled & OpenSide::TLS_DATA == 0 => {
                    self.further_mut(side).tls_data.lower(at);
                    self.side_mut(side).settled |= OpenSide::TLS_DATA;
                }
                _ => {}
            }
        }
        if settled & OpenSide::SAID_ALL == 0 {
            let aside = *tcp;
            self.keep_segment(side, &aside, point, keep);
        }
    }

    /// Whether an octet is from before its stream: see [`PartialFlow::said`], which finds those of which that is known later.
    #[cold]
    #[inline(never)]
    fn keeps_alive(&self, side: Side, seq: u32, syn: bool) -> bool {
        let end = seq.wrapping_add(u32::from(syn)).wrapping_add(1);
        self.stream_start(side).is_some_and(|start| end.wrapping_sub(start).cast_signed() <= 0)
    }

    fn keep_segment(&mut self, side: Side, tcp: &Tcp<'_>, point: FramePoint, keep: &mut Keep) {
        let is_dns = self.key.ports().contains(&dns::PORT);
        // A SYN takes a sequence number of its own, before its payload (RFC 9293 section 3.4, TCP Fast Open).
        let seq = tcp.seq.wrapping_add(u32::from(tcp.flags.syn()));
        let start = self.stream_start(side);
        // Who began must be certain, and whose start: the SYN's sender and its answerer told their own. And what a stretch before this
        // one kept is needed beside these bytes, not beside what they say.
        let read_here = keep.read_tls
            && !is_dns
            && self.said_before().is_none()
            && match self.syn {
                Some((by, _)) if by == side => true,
                Some(_) => self.further(side).syn_ack.is_some(),
                None => false,
            };
        let own = self.further_mut(side);
        match (start, read_here) {
            (Some(start), true) => {
                let head = own.head.get_or_insert_with(|| keep.head());
                head.read(start, seq, point, tcp.payload, &mut keep.hellos);
                if head.told().is_some_and(|told| told.read_to == Told::CLOSED) {
                    self.side_mut(side).settled |= OpenSide::SAID_ALL;
                }
            }
            (start, _) => {
                let limit = if is_dns { DNS_HEAD_BYTES } else { HEAD_BYTES };
                // Far behind its told start nothing is kept: most packets of a bulk transfer end here.
                if own.head.is_none()
                    && start.is_some_and(|start| {
                        let (after, before) = (seq.wrapping_sub(start), start.wrapping_sub(seq));
                        (limit..STEP_BYTES).contains(&after) && before > limit
                    })
                {
                    return;
                }
                let head = own.head.get_or_insert_with(|| keep.head());
                head.add(start, seq, point, tcp.payload, limit);
            }
        }
    }

    /// Sequence number of a side's first payload byte, where a SYN told it.
    fn stream_start(&self, side: Side) -> Option<u32> {
        let own = self.further(side);
        let syn = self.syn.filter(|(by, _)| *by == side).map(|(_, isn)| isn);
        let told = syn.or(own.syn_ack.is_some().then_some(own.numbers.0));
        let peer = self.further(side.other());
        // A SYN-ACK tells where the other side's stream begins, too.
        told.map(|isn| isn.wrapping_add(1)).or(peer.syn_ack.is_some().then_some(peer.numbers.1))
    }

    /// The time by which rows are ordered: that of its first frame, else of the first ICMP error about it.
    pub fn order_time(&self) -> Option<Timestamp> {
        let of = |side: &OpenSide| (side.packets > 0).then_some(side.first.time);
        let own = of(&self.low).into_iter().chain(of(&self.high)).min().map(Timestamp);
        own.or_else(|| self.quotes().first().map(|quote| quote.point.time))
    }

    /// Whether the lesser and the greater endpoint sent packets.
    #[inline(always)]
    pub fn sent(&self) -> [bool; 2] {
        [self.low.packets > 0, self.high.packets > 0]
    }

    /// Writes the stretch as it is packed, if it is one of those that come by millions and are written in one go; frame numbers are
    /// above `base`. None if it is another, and then the line is of no use.
    #[inline(always)]
    pub fn brief(&self, base: u64, line: &mut BriefLine) -> Option<()> {
        if (self.low.packets | self.high.packets) != 1 || self.rare.is_some() {
            return None;
        }
        let begin = match self.sent() {
            [false, _] => self.high.first,
            [_, false] => self.low.first,
            _ if self.high.first.is_before(self.low.first) => self.high.first,
            _ => self.low.first,
        };
        let low = if self.low.packets > 0 { Some(self.brief_side(Side::Low)?) } else { None };
        let high = if self.high.packets > 0 { Some(self.brief_side(Side::High)?) } else { None };
        line.begin(&self.key, self.sent(), self.vlan, begin, base)?;
        if let Some(low) = low {
            line.add(&low)?;
        }
        if let Some(high) = high {
            line.add(&high)?;
        }
        Some(())
    }

    /// The packet of one side. None if that says more than is written in one go.
    #[inline(always)]
    fn brief_side(&self, side: Side) -> Option<BriefSide> {
        let (own, further) = (self.side(side), self.further(side));
        let packet = if self.key.transport_number() == Transport::Tcp.number() {
            let (by, isn) = self.syn?;
            let alone = by == side && !self.closing && !further.fin.is_some() && own.payload == 0;
            if !alone {
                return None;
            }
            BriefPacket::Syn(isn, own.ttl.0)
        } else if self.key.transport_number() == Transport::Udp.number() && further.head.is_none() {
            let (queries, responses) = further.numbers;
            BriefPacket::Datagram(queries as u8, responses as u8)
        } else {
            return None;
        };
        Some(BriefSide { at: own.first, bytes: own.bytes, payload: own.payload, packet })
    }

    /// The stretch as it is packed; frame numbers are above `base`.
    #[inline(always)]
    pub fn view(&self, base: u64, capture: CaptureId) -> View<'_, OpenSides<'_>> {
        let rare = self.rare.as_deref();
        let mut begin = if self.low.packets > 0 { self.low.first } else { At::NONE };
        if self.high.packets > 0 {
            begin.lower(self.high.first);
        }
        let quoted = self.quotes().iter().map(|quote| quote.point);
        View {
            key: self.key.key(),
            begin: begin.point(base, capture).into_iter().chain(quoted).min().unwrap_or_default(),
            vlan: self.vlan,
            vni: rare.and_then(|rare| rare.vni),
            quotes: self.quotes(),
            quoted_last: rare.and_then(|rare| rare.quoted_last),
            fragments: &[],
            sides: OpenSides { flow: self, base, capture },
            heads: None,
        }
    }
}

/// Both sides of an open stretch, and what is needed to tell them in full.
#[derive(Clone, Copy)]
pub(super) struct OpenSides<'a> {
    flow: &'a Open,
    base: u64,
    capture: CaptureId,
}

impl<'a> Sides<'a> for OpenSides<'a> {
    type At = At;

    #[inline(always)]
    fn is_there(self, side: Side) -> bool {
        self.sent(side)
    }

    #[inline(always)]
    fn sent(self, side: Side) -> bool {
        self.flow.side(side).packets > 0
    }

    #[inline(always)]
    fn head(self, side: Side) -> Option<&'a Head> {
        self.flow.further(side).head.as_deref()
    }

    #[inline(always)]
    fn view(self, side: Side, head: Option<&Head>, begin: FramePoint) -> SideView<At> {
        let OpenSides { flow, base, capture } = self;
        let (facts, further) = (flow.side(side), flow.further(side));
        let some = |at: At| at.is_some().then_some(at);
        let isn = flow.syn.filter(|(by, _)| *by == side).map(|(_, isn)| isn);
        let alert = flow.rare.as_ref().map(|rare| side.of(rare.alerts[0], rare.alerts[1]));
        let (first_number, second_number) = further.numbers;
        let begin_of_head = head.and_then(Head::begin);
        SideView {
            base: At { time: begin.time.0, frame: begin.frame.wrapping_sub(base) as u32 },
            counts: [facts.packets, facts.bytes, facts.payload].map(u64::from),
            first: some(facts.first),
            last: (facts.packets > 0).then_some(facts.last),
            syn: isn.map(|isn| SynAt { isn, first: flow.syn_at, last: flow.syn_at, count: 1 }),
            syn_ack: some(further.syn_ack).map(|at| (first_number, second_number, at)),
            fin: some(further.fin),
            reset: some(further.reset).map(|at| (at, further.reset_ttl)),
            beyond_syn: some(facts.beyond_syn),
            beyond_syn_last: some(facts.beyond_syn_last),
            data: some(further.data).map(|at| (at, at.point(base, capture) == begin_of_head)),
            acks: match facts.acks_seen {
                0 => Acks::None,
                1 => Acks::One(facts.acks),
                _ => Acks::Many,
            },
            ttl: (facts.ttl.0 <= facts.ttl.1).then_some(facts.ttl),
            alert: alert.filter(|(at, _)| at.is_some()),
            tls_data: some(further.tls_data),
            dns: if flow.key.transport_number() == Transport::Udp.number() {
                DnsSeen { queries: first_number, responses: second_number }
            } else {
                DnsSeen::default()
            },
        }
    }
}

impl Point for At {
    #[inline]
    fn time(self) -> i64 {
        self.time
    }

    #[inline]
    fn frame(self) -> i64 {
        self.frame.into()
    }
}

/// Six lines of the cache, of which the first three are all that most packets touch.
const _: () = assert!(size_of::<Open>() == 384);
const _: () = assert!(std::mem::offset_of!(Open, low) == 64 && std::mem::offset_of!(Open, high) == 128);
const _: () = assert!(std::mem::offset_of!(Open, further_low) == 192);
