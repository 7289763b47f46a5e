//! What one stretch of a capture shows of one conversation: a value that merges with the stretches before and after.
//!
//! Every fact is a sum, a minimum, a maximum or a set, so that it carries no trace of where the capture was cut.
//! What the facts mean is decided after stitching (`outcome`), never here.

use super::fragments::FragmentPiece;
use super::head::{Head, Opening, Segment, Told};
use super::key::{FlowKey, Side};
use super::seen::Seen;
use crate::model::{CaptureId, Endpoint, FramePoint, Timestamp, Transport};
use std::net::IpAddr;

/// A SYN without ACK, and its repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Syn {
    /// Initial sequence number.
    pub isn: u32,
    /// The first of them.
    pub first: FramePoint,
    /// The last that counted as a transmission.
    pub last: FramePoint,
    /// Transmissions: a repeat less than 200 ms after the one before is a duplicate and not counted.
    pub count: u32,
}

/// A SYN with ACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SynAck {
    /// Initial sequence number of its sender.
    pub isn: u32,
    /// What it acknowledges: the other side's initial sequence number and 1.
    pub ack: u32,
    /// The first of them.
    pub first: FramePoint,
}

/// A reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reset {
    /// The first of them.
    pub first: FramePoint,
    /// Its time to live.
    pub ttl: u8,
}

/// Acknowledgement numbers that one side sent (resets left out): only whether there were none, one value or several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acks {
    /// No packet with ACK.
    #[default]
    None,
    /// Always this value.
    One(u32),
    /// Several values: what the other side sent arrived.
    Many,
}

impl Acks {
    fn merge(self, other: Acks) -> Acks {
        match (self, other) {
            (Acks::None, acks) | (acks, Acks::None) => acks,
            (Acks::One(a), Acks::One(b)) if a == b => Acks::One(a),
            _ => Acks::Many,
        }
    }
}

/// Which DNS messages one side sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DnsSeen {
    /// Queries.
    pub queries: u32,
    /// Responses.
    pub responses: u32,
}

/// What one side of a conversation sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SideFacts {
    /// Frames.
    pub packets: u64,
    /// Their length on the wire, bytes.
    pub bytes: u64,
    /// Their TCP or UDP payload, bytes.
    pub payload: u64,
    /// The first frame.
    pub first: Option<FramePoint>,
    /// The latest time.
    pub last: Option<Timestamp>,
    /// SYN without ACK.
    pub syn: Option<Syn>,
    /// SYN with ACK.
    pub syn_ack: Option<SynAck>,
    /// First FIN.
    pub fin: Option<FramePoint>,
    /// First RST.
    pub reset: Option<Reset>,
    /// First TCP packet that is no SYN without ACK.
    pub beyond_syn: Option<FramePoint>,
    /// The latest such packet.
    pub beyond_syn_last: Option<FramePoint>,
    /// First packet with payload.
    pub data: Option<FramePoint>,
    /// Acknowledgement numbers.
    pub acks: Acks,
    /// Least and greatest time to live of packets other than resets.
    pub ttl: Option<(u8, u8)>,
    /// A segment that is nothing but a fatal TLS alert in the clear: where, and the alert's description.
    pub alert: Option<(FramePoint, u8)>,
    /// The first segment that begins with a TLS application-data record.
    pub tls_data: Option<FramePoint>,
    /// DNS messages over UDP.
    pub dns: DnsSeen,
    /// First payload bytes.
    pub head: Head,
}

/// What an ICMP error says about the packet that it quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum QuoteClass {
    /// Port unreachable for UDP, from the target itself.
    Refused,
    /// Administratively prohibited, or port unreachable as only a firewall sends it.
    Prohibited,
    /// Any other unreachable, and time exceeded.
    Unreachable,
    /// An error that blocks nothing: fragmentation needed, packet too big, redirect, source quench, parameter problem.
    Note,
}

/// The first ICMP error of a class about packets of one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuoteFact {
    /// Who sent the quoted packet.
    pub quoted: Side,
    /// What the error means.
    pub class: QuoteClass,
    /// The error's frame.
    pub point: FramePoint,
    /// ICMP type.
    pub kind: u8,
    /// ICMP code.
    pub code: u8,
    /// Who sent the error.
    pub sender: IpAddr,
    /// Sequence number of the quoted TCP segment.
    pub tcp_seq: Option<u32>,
}

/// What one stretch of a capture shows of one conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartialFlow {
    /// Between whom.
    pub key: FlowKey,
    /// VLAN of the first frame.
    pub vlan: Option<u16>,
    /// Virtual network identifier of the first frame.
    pub vni: Option<u32>,
    /// What the lesser endpoint sent.
    pub low: SideFacts,
    /// What the greater endpoint sent.
    pub high: SideFacts,
    /// ICMP errors about it, at most one a side and class.
    pub quotes: Vec<QuoteFact>,
    /// The latest ICMP error about it.
    pub quoted_last: Option<Timestamp>,
    /// Fragments whose rest is in no frame of this stretch. Such a stretch has nothing else: its ports are not known.
    pub fragments: Vec<FragmentPiece>,
}

pub(super) fn earlier<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

pub(super) fn earlier_by<T, K: Ord>(a: Option<T>, b: Option<T>, key: impl Fn(&T) -> K) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if key(&b) < key(&a) { b } else { a }),
        (a, b) => a.or(b),
    }
}

impl SideFacts {
    /// Whether nothing was seen of it.
    pub(super) fn is_nothing(&self) -> bool {
        // Every field is taken apart here, so that a new one cannot be forgotten.
        let SideFacts {
            packets,
            bytes,
            payload,
            first,
            last,
            syn,
            syn_ack,
            fin,
            reset,
            beyond_syn,
            beyond_syn_last,
            data,
            acks,
            ttl,
            alert,
            tls_data,
            dns,
            head,
        } = self;
        (*packets | *bytes | *payload) == 0
            && first.is_none()
            && last.is_none()
            && syn.is_none()
            && syn_ack.is_none()
            && fin.is_none()
            && reset.is_none()
            && beyond_syn.is_none()
            && beyond_syn_last.is_none()
            && data.is_none()
            && matches!(acks, Acks::None)
            && ttl.is_none()
            && alert.is_none()
            && tls_data.is_none()
            && (dns.queries | dns.responses) == 0
            && head.is_empty()
    }

    fn clear(&mut self) {
        // Each by itself: as a whole some hundreds of bytes would be copied.
        let SideFacts {
            packets,
            bytes,
            payload,
            first,
            last,
            syn,
            syn_ack,
            fin,
            reset,
            beyond_syn,
            beyond_syn_last,
            data,
            acks,
            ttl,
            alert,
            tls_data,
            dns,
            head,
        } = self;
        (*packets, *bytes, *payload) = (0, 0, 0);
        (*first, *last, *syn, *syn_ack, *fin, *reset) = (None, None, None, None, None, None);
        (*beyond_syn, *beyond_syn_last, *data) = (None, None, None);
        (*ttl, *alert, *tls_data) = (None, None, None);
        (*acks, *dns) = (Acks::None, DnsSeen::default());
        head.clear();
    }

    /// Adds what the same side sent in another stretch. SYN repeats are counted by `stitch`, which sees them in order:
    /// here the count is the sum less duplicates of `other`'s first after this one's last. Hands back its first bytes, which
    /// are joined once both sides say where their streams begin.
    fn merge<'o>(&mut self, other: &'o SideFacts, duplicate_nanos: i64) -> &'o Head {
        // Rows for `judge` may say anything: sums end at their end.
        self.packets = self.packets.saturating_add(other.packets);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.payload = self.payload.saturating_add(other.payload);
        self.first = earlier(self.first, other.first);
        self.last = self.last.max(other.last);
        self.syn = match (self.syn, other.syn) {
            (Some(a), Some(b)) => {
                let (a, b) = if b.first < a.first { (b, a) } else { (a, b) };
                if b.first.time.since(a.last.time) < duplicate_nanos {
                    Some(Syn {
                        count: (a.count - 1).saturating_add(b.count),
                        last: if b.count > 1 { b.last } else { a.last },
                        ..a
                    })
                } else {
                    Some(Syn { count: a.count.saturating_add(b.count), last: b.last, ..a })
                }
            }
            (a, b) => a.or(b),
        };
        self.syn_ack = earlier_by(self.syn_ack, other.syn_ack, |syn_ack| syn_ack.first);
        self.fin = earlier(self.fin, other.fin);
        self.reset = earlier_by(self.reset, other.reset, |reset| reset.first);
        self.beyond_syn = earlier(self.beyond_syn, other.beyond_syn);
        self.beyond_syn_last = self.beyond_syn_last.max(other.beyond_syn_last);
        self.data = earlier(self.data, other.data);
        self.acks = self.acks.merge(other.acks);
        self.ttl = match (self.ttl, other.ttl) {
            (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
            (a, b) => a.or(b),
        };
        self.alert = earlier_by(self.alert, other.alert, |alert| alert.0);
        self.tls_data = earlier(self.tls_data, other.tls_data);
        self.dns.queries = self.dns.queries.saturating_add(other.dns.queries);
        self.dns.responses = self.dns.responses.saturating_add(other.dns.responses);
        &other.head
    }

    fn points_mut(&mut self) -> impl Iterator<Item = &mut FramePoint> {
        let syn = self.syn.iter_mut().flat_map(|syn| [&mut syn.first, &mut syn.last]);
        let fixed = [
            self.first.as_mut(),
            self.syn_ack.as_mut().map(|syn_ack| &mut syn_ack.first),
            self.fin.as_mut(),
            self.reset.as_mut().map(|reset| &mut reset.first),
            self.beyond_syn.as_mut(),
            self.beyond_syn_last.as_mut(),
            self.data.as_mut(),
            self.alert.as_mut().map(|alert| &mut alert.0),
            self.tls_data.as_mut(),
        ];
        syn.chain(fixed.into_iter().flatten()).chain(self.head.points_mut())
    }
}

impl PartialFlow {
    /// A conversation of which nothing was seen yet.
    pub fn new(key: FlowKey) -> Self {
        PartialFlow {
            key,
            vlan: None,
            vni: None,
            low: SideFacts::default(),
            high: SideFacts::default(),
            quotes: Vec::new(),
            quoted_last: None,
            fragments: Vec::new(),
        }
    }

    /// A place for what [`super::PiecesReader::get_into`] reads.
    pub fn nothing() -> Self {
        let nowhere = Endpoint::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);
        PartialFlow::new(FlowKey { transport: Transport::Tcp, low: nowhere, high: nowhere })
    }

    /// Becomes a conversation of which nothing was seen yet; its memory stays.
    pub(super) fn clear(&mut self, key: FlowKey) {
        self.key = key;
        (self.vlan, self.vni, self.quoted_last) = (None, None, None);
        self.low.clear();
        self.high.clear();
        self.quotes.clear();
        self.fragments.clear();
    }

    /// Fragments between two addresses that wait for their rest.
    pub fn of_fragments(pieces: Vec<FragmentPiece>) -> Option<Self> {
        let first = pieces.first()?;
        let ends = [Endpoint::new(first.src, 0), Endpoint::new(first.dst, 0)];
        let (key, _) = FlowKey::of(Transport::from_number(first.protocol), ends[0], ends[1]);
        Some(PartialFlow { vlan: first.vlan, vni: first.vni, fragments: pieces, ..PartialFlow::new(key) })
    }

    /// As a row for `judge` carries it; [`super::Pieces::push_row`] reads it. The capture of its points is not told.
    pub fn to_row(&self) -> Vec<u8> {
        super::packed::to_row(self)
    }

    /// What a side sent.
    pub fn side(&self, side: Side) -> &SideFacts {
        side.of(&self.low, &self.high)
    }

    /// The side that sent a SYN without ACK, and that SYN.
    pub fn syn(&self) -> Option<(Side, Syn)> {
        Seen::syn(self)
    }

    /// The first frame of the conversation itself (ICMP errors about it left out).
    pub fn first(&self) -> Option<FramePoint> {
        earlier(self.low.first, self.high.first)
    }

    /// Where it begins in the evidence: its first frame, or the first ICMP error about it.
    pub fn begin(&self) -> Option<FramePoint> {
        if self.quotes.is_empty() && self.fragments.is_empty() {
            return self.first();
        }
        let quoted = self.quotes.iter().map(|quote| quote.point).min();
        let fragment = self.fragments.iter().map(|piece| piece.point).min();
        earlier(earlier(self.first(), quoted), fragment)
    }

    /// The time by which rows are ordered: that of its first frame, else of the first ICMP error about it.
    pub fn order_time(&self) -> Option<Timestamp> {
        Seen::order_time(self)
    }

    /// Whether its first bytes may say anything; where they do not, nobody can have said a name in it.
    pub fn may_say_something(&self) -> bool {
        let told = |told: &Told| told.opening != Opening::Nothing;
        [&self.low, &self.high]
            .into_iter()
            .any(|side| side.head.has_segments() || side.head.told().is_some_and(told))
    }

    /// The latest time at which anything was seen of it.
    pub fn latest(&self) -> Option<Timestamp> {
        self.low.last.max(self.high.last).max(self.quoted_last)
    }

    /// Whether FIN or RST was seen before `point`.
    pub fn closed_before(&self, point: FramePoint) -> bool {
        [&self.low, &self.high].into_iter().any(|side| {
            side.fin.is_some_and(|fin| fin < point) || side.reset.is_some_and(|reset| reset.first < point)
        })
    }

    /// Sequence number of a side's first payload byte, where a SYN told it.
    pub fn stream_start(&self, side: Side) -> Option<u32> {
        let own = self.side(side);
        let told = own.syn.map(|syn| syn.isn).or(own.syn_ack.map(|syn_ack| syn_ack.isn));
        // A SYN-ACK tells where the other side's stream begins, too.
        told.map(|isn| isn.wrapping_add(1)).or(self.side(side.other()).syn_ack.map(|syn_ack| syn_ack.ack))
    }

    /// The first packet of a side with something to say. Some systems put an octet into what keeps a connection alive, with the number
    /// before the next one (RFC 9293 section 3.8.4): where that lies before the stream, it says nothing.
    pub fn said(&self, side: Side) -> Option<FramePoint> {
        let facts = self.side(side);
        let data = facts.data?;
        let first = facts.head.segments().find(|segment| segment.point == data);
        // Of nearly all it has more than one octet, or was read and is not kept.
        if first.is_none_or(|segment| segment.bytes.len() != 1) {
            Some(data)
        } else {
            self.said_beyond(side, data)
        }
    }

    /// The same where the first packet with payload has one octet.
    #[cold]
    #[inline(never)]
    fn said_beyond(&self, side: Side, data: FramePoint) -> Option<FramePoint> {
        let (head, start) = (&self.side(side).head, self.stream_start(side));
        let is_before = |segment: &Segment<'_>| {
            let end = segment.seq.wrapping_add(segment.bytes.len() as u32);
            start.is_some_and(|start| end.wrapping_sub(start).cast_signed() <= 0)
        };
        if !head.segments().any(|segment| segment.point == data && is_before(&segment)) {
            return Some(data);
        }
        let others = head.segments().filter(|segment| !is_before(segment)).map(|segment| segment.point);
        others.chain(head.told().map(|told| told.begin)).min()
    }

    /// Counts an ICMP error: the first of each side and class stays.
    pub(super) fn add_quote(&mut self, quote: QuoteFact) {
        self.quoted_last = self.quoted_last.max(Some(quote.point.time));
        match self.quotes.iter_mut().find(|have| (have.quoted, have.class) == (quote.quoted, quote.class)) {
            Some(have) if quote.point < have.point => *have = quote,
            Some(_) => {}
            None => {
                self.quotes.push(quote);
                self.quotes.sort_by_key(|quote| (quote.quoted, quote.class));
            }
        }
    }

    /// The first ICMP error of a class about packets that `quoted` sent.
    pub fn quote(&self, quoted: Side, class: QuoteClass) -> Option<&QuoteFact> {
        Seen::quote(self, quoted, class)
    }

    /// Joins another stretch of the same conversation.
    pub fn merge(&mut self, other: &PartialFlow, duplicate_nanos: i64) {
        debug_assert_eq!(self.key, other.key);
        let tags_of_other = match (self.first(), other.first()) {
            (Some(own), Some(others)) => others < own,
            (None, Some(_)) => true,
            (_, None) => false,
        };
        if tags_of_other {
            (self.vlan, self.vni) = (other.vlan, other.vni);
        }
        let quoted_last = self.quoted_last.max(other.quoted_last);
        for &quote in &other.quotes {
            self.add_quote(quote);
        }
        self.quoted_last = quoted_last;
        let low = self.low.merge(&other.low, duplicate_nanos);
        let high = self.high.merge(&other.high, duplicate_nanos);
        let [low_start, high_start] = [Side::Low, Side::High].map(|side| self.stream_start(side));
        self.low.head.append(low, low_start);
        self.high.head.append(high, high_start);
        self.fragments.extend_from_slice(&other.fragments);
    }

    /// Translates the capture numbers of all points.
    pub fn renumber(&mut self, number: impl Fn(CaptureId) -> CaptureId) {
        let quotes = self.quotes.iter_mut().map(|quote| &mut quote.point);
        let fragments = self.fragments.iter_mut().map(|piece| &mut piece.point);
        for point in self.low.points_mut().chain(self.high.points_mut()).chain(quotes).chain(fragments) {
            point.capture = number(point.capture);
        }
    }
}
