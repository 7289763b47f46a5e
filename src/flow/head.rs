//! The first bytes of one direction of a flow, kept as the pieces in which they came.

use crate::model::{DomainName, FramePoint};
use crate::names::{KnownHellos, app, tls};
use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

/// How many bytes from the start of a TCP direction are kept: enough for a ClientHello with post-quantum key shares
/// (about 1.8 KiB), a CONNECT exchange with its refusal, a server's first flight up to its alert.
///
/// Less would lose server names; more costs memory for each open flow. What is kept ends here whatever the cut.
pub const HEAD_BYTES: u32 = 4096;

/// The same for TCP port 53, whose messages are names: 64 KiB holds hundreds of answers on one connection.
pub const DNS_HEAD_BYTES: u32 = 65_538;

/// Pieces kept of one direction, at most: 4096 bytes in pieces of one byte each. A stream cut finer than its head is long
/// is made to be expensive.
const MOST_SEGMENTS: usize = 4096;

/// Pieces of a direction that are put together to see whether they make a hello: one of 4 KiB comes in three.
const MOST_PIECES_OF_A_HELLO: usize = 8;

/// How far below the lowest byte seen a segment may lie and still be taken for the start of the stream, when no SYN told
/// where that is: 1 MiB, more than any reordering and far less than half the sequence space, so that a long
/// transfer that wraps is not taken for its own beginning.
const REORDERING_BYTES: u32 = 1 << 20;

/// How far a segment may lie behind all that came before and still go on with the same stream: 64 KiB, what a burst may lose. What
/// lies farther off, or before the start, may belong to a stream of which another stretch tells that it is this one: both halves of a
/// connection through a proxy that answers for a server, or one segment that nobody would accept before the true ones. It is kept
/// as well. More would leave such a stream out if its numbers are near; less only costs memory.
pub(super) const STEP_BYTES: u32 = 1 << 16;

/// Bytes kept of segments that lie so far off, at the most.
const STRAY_BYTES: u32 = HEAD_BYTES;

/// Payload of one TCP segment (or UDP datagram).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'h> {
    /// Sequence number of the first byte; for UDP always 0.
    pub seq: u32,
    /// Which frame carried it.
    pub point: FramePoint,
    /// The bytes.
    pub bytes: &'h [u8],
}

/// Where a kept piece ends in the bytes kept; it begins where the one before ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    point: FramePoint,
    end: usize,
    seq: u32,
}

/// The kept pieces of one direction, in the order in which they came; of a TLS stream what its records said, in their
/// place.
///
/// All bytes stand one behind another: of a direction that came in order, as nearly all do, they are its stream as they are.
#[derive(Clone, Debug, Default)]
pub struct Head {
    pieces: Vec<Piece>,
    bytes: Vec<u8>,
    /// What the bytes before the pieces said. Rows for `judge` never have it: they carry the bytes.
    told: Option<Told>,
    /// Where the stream began when this was noted, and the sequence number up to which segments came that go on with it.
    reach: Option<(u32, u32)>,
    /// Bytes kept of segments that do not.
    stray_bytes: u32,
}

/// How far it came is no part of what was said.
impl PartialEq for Head {
    fn eq(&self, other: &Head) -> bool {
        let Head { pieces, bytes, told, reach: _, stray_bytes: _ } = self;
        (pieces, bytes, told) == (&other.pieces, &other.bytes, &other.told)
    }
}

impl Eq for Head {}

/// What a direction begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// A whole ClientHello.
    ClientHello(Arc<tls::ClientHello>),
    /// A whole ServerHello: the version that it chose.
    ServerHello(u16),
    /// Bytes with which nothing begins of which anything is ever told ([`app::says_nothing`]).
    Nothing,
}

/// What a direction said, from the start of the stream that a SYN told up to `read_to`. It stands in place of its bytes, of
/// which nothing else is asked: of TLS the hellos, the first fatal alert, the first application data; of what begins nothing
/// that is understood, nothing.
///
/// Kilobytes of certificates and random numbers become a hundred bytes, so that an audit of many connections fits in
/// memory; whether they are read where they arrive or from kept bytes changes no audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Offset in the stream of the first record that was not read; [`Told::CLOSED`] when nothing further matters.
    pub read_to: u32,
    /// The frame that carried the first byte.
    pub begin: FramePoint,
    /// What it began with.
    pub opening: Opening,
    /// The first fatal alert in the clear, and its description.
    pub alert: Option<(FramePoint, u8)>,
    /// The first application-data record.
    pub data: Option<FramePoint>,
}

impl Opening {
    /// Whether more bytes after these, which are none of which anything can be told yet, may make it.
    fn may_begin_with(&self, bytes: &[u8]) -> bool {
        let hello = |kind| {
            let is = |at, byte| bytes.get(at).is_none_or(|&have| have == byte);
            is(0, tls::HANDSHAKE) && is(5, kind)
        };
        match self {
            Opening::ClientHello(whole) => hello(1) && may_name(bytes, whole.server_name.as_ref()),
            Opening::ServerHello(_) => hello(2),
            Opening::Nothing => {
                let more = std::iter::repeat_n(b'x', app::DECIDING_BYTES.saturating_sub(bytes.len()));
                let begun: Vec<u8> = bytes.iter().copied().chain(more).collect();
                bytes.len() < app::DECIDING_BYTES && app::says_nothing(&begun)
            }
        }
    }
}

/// Whether a ClientHello that begins with these bytes may name this server, or none: as far as the name is there, it is the same.
fn may_name(begun: &[u8], server: Option<&DomainName>) -> bool {
    let filled_up = |filler: u8| {
        let mut bytes = begun.to_vec();
        bytes.resize(HEAD_BYTES as usize, filler);
        tls::client_hello(&bytes).and_then(|hello| hello.server_name)
    };
    // What two fillers have in common was there.
    let (Some(one), Some(other)) = (filled_up(b'a'), filled_up(b'b')) else { return true };
    let Some(server) = server else { return false };
    let mut bytes = one.as_str().bytes().zip(other.as_str().bytes()).zip(server.as_str().bytes());
    one.as_str().len() == server.as_str().len()
        && bytes.all(|((one, other), server)| one != other || one == server)
}

impl Told {
    /// Nothing after this matters: application data or a fatal alert came, the kept part is full, or what follows is no
    /// TLS record.
    pub const CLOSED: u32 = u32::MAX;

    /// What contiguous bytes from the start of a stream say, if they begin with a whole hello or with what begins nothing.
    fn of(stream: &[u8], begin: FramePoint, hellos: &mut KnownHellos) -> Option<Told> {
        let (opening, read_to) = match stream {
            [tls::HANDSHAKE, _, _, _, _, 1, ..] => {
                let (hello, end) = hellos.whole(stream)?;
                (Opening::ClientHello(hello), u32::try_from(end).ok()?)
            }
            [tls::HANDSHAKE, _, _, _, _, 2, ..] => {
                let (version, end) = tls::whole_server_hello(stream)?;
                (Opening::ServerHello(version), u32::try_from(end).ok()?)
            }
            _ if app::says_nothing(stream) => (Opening::Nothing, Self::CLOSED),
            _ => return None,
        };
        Some(Told { read_to, begin, opening, alert: None, data: None })
    }

    /// What two parts of one stream said: of each word the first copy. Where one part says something that the other, which came
    /// first, does not say up to where it was read, they are no copies, and the first counts.
    fn or_earlier(self, other: Told) -> Told {
        let (first, second) = if other.begin < self.begin { (other, self) } else { (self, other) };
        let is_open = first.read_to != Self::CLOSED;
        let alert = second.alert.filter(|_| is_open || first.alert.is_some());
        let data = second.data.filter(|_| is_open || first.data.is_some());
        Told {
            read_to: first.read_to.max(second.read_to),
            begin: first.begin,
            opening: first.opening,
            alert: first.alert.into_iter().chain(alert).min(),
            data: first.data.into_iter().chain(data).min(),
        }
    }

    /// Reads on: `bytes` begin at offset `at` of the stream, at or before `read_to`. Hands back how many bytes at their
    /// end are the beginning of a record header that the next piece completes.
    fn read(&mut self, at: u32, bytes: &[u8], point: impl Fn(u32) -> Option<FramePoint>) -> usize {
        loop {
            if self.read_to >= HEAD_BYTES {
                self.read_to = Self::CLOSED;
                return 0;
            }
            let Some(rest) = bytes.get((self.read_to - at) as usize..) else { return 0 };
            let [kind, version, _, high, low, body @ ..] = rest else { return rest.len() };
            let length = u16::from_be_bytes([*high, *low]);
            if !tls::is_record(*kind, *version, length) {
                self.read_to = Self::CLOSED;
                return 0;
            }
            match (*kind, length, body) {
                (tls::APPLICATION_DATA, ..) => {
                    self.data = point(self.read_to);
                    self.read_to = Self::CLOSED;
                    return 0;
                }
                (tls::ALERT, 2, [] | [_]) => return rest.len(),
                (tls::ALERT, 2, [2, description, ..]) => {
                    self.alert = point(self.read_to).map(|point| (point, *description));
                    self.read_to = Self::CLOSED;
                    return 0;
                }
                _ => self.read_to += 5 + u32::from(length),
            }
        }
    }
}

impl Head {
    /// What the first bytes said, where they are not kept.
    pub fn told(&self) -> Option<&Told> {
        self.told.as_ref()
    }

    /// Sets what the first bytes said.
    pub(super) fn tell(&mut self, told: Told) {
        self.told = Some(told);
    }

    /// Where what was read begins; if nothing was, the first piece kept.
    pub(super) fn begin(&self) -> Option<FramePoint> {
        self.told.as_ref().map(|told| told.begin).or(self.pieces.first().map(|piece| piece.point))
    }

    /// Adds a piece, whatever is there already.
    pub(super) fn push(&mut self, Segment { seq, point, bytes }: Segment<'_>) {
        self.bytes.extend_from_slice(bytes);
        self.pieces.push(Piece { seq, point, end: self.bytes.len() });
    }

    /// Becomes one of which nothing was kept; its memory stays.
    pub(super) fn clear(&mut self) {
        self.pieces.clear();
        self.bytes.clear();
        (self.told, self.reach, self.stray_bytes) = (None, None, 0);
    }

    /// Bytes for which it has memory.
    pub(super) fn room(&self) -> usize {
        self.bytes.capacity() + self.pieces.capacity() * size_of::<Piece>()
    }

    /// Whether nothing was kept.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.told.is_none()
    }

    /// As [`Head::add`] for a direction whose start a SYN told, but what it begins with is read as soon as it is there, and
    /// its bytes are dropped.
    pub(super) fn read(
        &mut self,
        start: u32,
        seq: u32,
        point: FramePoint,
        bytes: &[u8],
        hellos: &mut KnownHellos,
    ) {
        if let Some(told) = &mut self.told {
            if told.read_to == Told::CLOSED {
                return;
            }
            let at = seq.wrapping_sub(start);
            if self.pieces.is_empty() && at <= told.read_to {
                let over = told.read(at, bytes, |_| Some(point));
                if over == 0 {
                    return;
                }
            }
            let read_to = told.read_to;
            if at < HEAD_BYTES && at.saturating_add(bytes.len() as u32) > read_to {
                self.keep(start, at.max(read_to), at, point, bytes);
                self.read_kept(start);
            }
            return;
        }
        if self.pieces.is_empty() && seq == start {
            self.told = Told::of(bytes, point, hellos);
            if let Some(told) = &mut self.told {
                if told.read(0, bytes, |_| Some(point)) > 0 {
                    let read_to = told.read_to;
                    self.keep(start, read_to, 0, point, bytes);
                }
                return;
            }
        }
        self.add(Some(start), seq, point, bytes, HEAD_BYTES);
        // A hello in several pieces is read when its last one came, and what begins with too few bytes to tell once there are
        // more; streams that are something else are not looked at again.
        let may_tell = self.pieces.len() <= MOST_PIECES_OF_A_HELLO
            && self.segments().filter(|segment| segment.seq == start).any(|segment| {
                segment.bytes.len() < app::DECIDING_BYTES || segment.bytes.first() == Some(&tls::HANDSHAKE)
            });
        if may_tell {
            let stream = self.assemble(Some(start), HEAD_BYTES);
            let begin = stream.point_at(0);
            if let Some(mut told) = begin.and_then(|begin| Told::of(&stream.bytes, begin, hellos)) {
                told.read(0, &stream.bytes, |offset| stream.point_at(offset as usize));
                self.told = Some(told);
                self.forget(start);
            }
        }
    }

    /// Keeps what of a segment at offset `at` lies from offset `from` on.
    fn keep(&mut self, start: u32, from: u32, at: u32, point: FramePoint, bytes: &[u8]) {
        let Some(rest) = bytes.get((from - at) as usize..) else { return };
        self.add(Some(start), start.wrapping_add(from), point, rest, HEAD_BYTES);
    }

    /// Reads on in what was kept since it came out of order or broke a record header in two.
    fn read_kept(&mut self, start: u32) {
        let Some(mut told) = self.told.take() else { return };
        let read_to = told.read_to;
        if read_to < HEAD_BYTES {
            let from = start.wrapping_add(read_to);
            let stream = self.assemble_from(from, HEAD_BYTES - read_to);
            told.read(read_to, &stream.bytes, |offset| stream.point_at((offset - read_to) as usize));
        }
        self.told = Some(told);
        self.forget(start);
    }

    /// Drops the pieces that were read.
    fn forget(&mut self, start: u32) {
        let Some(told) = &self.told else { return };
        let read_to = told.read_to;
        if read_to == Told::CLOSED {
            (self.pieces, self.bytes) = (Vec::new(), Vec::new());
        } else {
            self.retain(|piece| {
                piece.seq.wrapping_sub(start).wrapping_add(piece.bytes.len() as u32) > read_to
            });
        }
    }

    /// Drops the pieces that are not to be kept.
    fn retain(&mut self, keep: impl Fn(&Segment<'_>) -> bool) {
        if self.segments().all(|piece| keep(&piece)) {
            return;
        }
        let mut kept = Head::default();
        self.segments().filter(keep).for_each(|piece| kept.push(piece));
        (self.pieces, self.bytes) = (kept.pieces, kept.bytes);
    }

    /// The contiguous bytes after those that [`Head::told`] stands for: none where nothing further matters.
    pub fn rest(&self, start: Option<u32>, limit: u32) -> Stream<'_> {
        match (&self.told, start) {
            (None, _) => self.assemble(start, limit),
            (Some(told), Some(start)) if told.read_to < limit => {
                self.assemble_from(start.wrapping_add(told.read_to), limit - told.read_to)
            }
            (Some(_), _) => Stream::default(),
        }
    }

    /// Keeps what of a TCP segment lies within `limit` bytes of the stream's start. `start` is the sequence number
    /// of its first byte where a SYN told it; else the lowest sequence number seen counts.
    pub fn add(&mut self, start: Option<u32>, seq: u32, point: FramePoint, bytes: &[u8], limit: u32) {
        if bytes.is_empty() {
            return;
        }
        let base = match start.or_else(|| lowest(self.pieces.iter().map(|piece| piece.seq))) {
            None => seq,
            Some(base) if start.is_none() && base.wrapping_sub(seq) <= REORDERING_BYTES => seq,
            Some(base) => base,
        };
        // What lies a little before a told start is kept as well: another stretch of the flow may tell another start.
        let (offset, before) = (seq.wrapping_sub(base), base.wrapping_sub(seq));
        let goes_on = self.goes_on(base, seq, bytes.len() as u32);
        let (room, is_stray) = match offset {
            _ if start.is_some() && (1..=limit).contains(&before) => (before + limit, false),
            offset if offset < limit => (limit - offset, false),
            _ if !goes_on => (STRAY_BYTES.saturating_sub(self.stray_bytes), true),
            _ => return,
        };
        if room == 0 || self.pieces.len() >= MOST_SEGMENTS {
            return;
        }
        if self.covers(seq, bytes.len())
            || self.stored().saturating_sub(self.stray_bytes as usize) > 2 * limit as usize
        {
            return;
        }
        let take = bytes.len().min(room as usize);
        self.push(Segment { seq, point, bytes: &bytes[..take] });
        if is_stray {
            self.stray_bytes += take as u32;
        }
        if start.is_none() && base == seq && self.stray_bytes == 0 {
            // The start moved down: what is now too far from it goes, unless that is so far that it may be another stream. Beside strays
            // it tells that they are none of this one.
            self.retain(|segment| !(limit..limit + STEP_BYTES).contains(&segment.seq.wrapping_sub(base)));
        }
    }

    /// Whether a segment goes on with the stream that begins at `base`, as far as that came.
    fn goes_on(&mut self, base: u32, seq: u32, len: u32) -> bool {
        // As far behind as a number may be is half of all numbers.
        let further = |from: u32, to: u32| to.wrapping_sub(from).cast_signed();
        // What a beginning far from this one came to is of another stream.
        let of_base = |&(begin, _): &(u32, u32)| further(begin, base).unsigned_abs() <= STEP_BYTES;
        let reach = self.reach.filter(of_base).map_or(base, |(_, reach)| reach);
        let end = seq.wrapping_add(len);
        let goes_on = further(base, seq) >= 0 && further(reach, seq) <= STEP_BYTES.cast_signed();
        if goes_on {
            self.reach = Some((base, if further(reach, end) > 0 { end } else { reach }));
        }
        goes_on
    }

    /// Keeps a UDP datagram's bytes, up to `limit` in all.
    pub fn add_datagram(&mut self, point: FramePoint, bytes: &[u8], limit: u32) {
        if self.stored() + bytes.len() <= limit as usize {
            self.push(Segment { seq: 0, point, bytes });
        }
    }

    /// Whether a piece already kept holds these bytes (the usual retransmission).
    fn covers(&self, seq: u32, len: usize) -> bool {
        self.segments().any(|have| {
            let offset = seq.wrapping_sub(have.seq) as usize;
            offset < have.bytes.len() && offset + len <= have.bytes.len()
        })
    }

    fn stored(&self) -> usize {
        self.bytes.len()
    }

    /// Adds the pieces of another part of the same direction, which begins at `start` where a SYN told it. Where parts say the
    /// same, as copies do, the one that was taken first counts, whether it was read or kept.
    pub fn append(&mut self, other: &Head, start: Option<u32>) {
        other.segments().for_each(|piece| self.push(piece));
        let told = other.told.clone();
        self.told = match (self.told.take(), told) {
            (Some(own), Some(others)) => Some(own.or_earlier(others)),
            (own, others) => own.or(others),
        };
        if let (Some(start), Some(_), false) = (start, &self.told, self.pieces.is_empty()) {
            self.retell(start);
        }
    }

    /// What was read may have been kept before, by a part that did not know where the stream begins.
    fn retell(&mut self, start: u32) {
        let Some(mut told) = self.told.take() else { return };
        let stream = self.assemble_from(start, HEAD_BYTES);
        if let Some(begin) = stream.point_at(0) {
            match Told::of(&stream.bytes, begin, &mut KnownHellos::default()) {
                // What was told came first: of what is kept counts what lies behind it.
                Some(_) if told.begin <= begin && told.read_to < HEAD_BYTES => {
                    let from = told.read_to;
                    let stream = self.assemble_from(start.wrapping_add(from), HEAD_BYTES - from);
                    told.read(from, &stream.bytes, |offset| stream.point_at((offset - from) as usize));
                }
                Some(mut kept) => {
                    kept.read(0, &stream.bytes, |offset| stream.point_at(offset as usize));
                    told = told.or_earlier(kept);
                }
                // The first copy says something else.
                None if begin < told.begin && !told.opening.may_begin_with(&stream.bytes) => return,
                None => told.begin = told.begin.min(begin),
            }
        }
        self.told = Some(told);
    }

    /// The pieces.
    pub fn segments(&self) -> impl ExactSizeIterator<Item = Segment<'_>> + Clone {
        let mut from = 0;
        self.pieces.iter().map(move |&Piece { seq, point, end }| {
            let bytes = self.bytes.get(from..end).unwrap_or_default();
            from = end;
            Segment { seq, point, bytes }
        })
    }

    /// Whether any pieces were kept.
    pub fn has_segments(&self) -> bool {
        !self.pieces.is_empty()
    }

    /// Where its points stand, for translation of capture numbers.
    pub(super) fn points_mut(&mut self) -> impl Iterator<Item = &mut FramePoint> {
        let told = self.told.iter_mut().flat_map(|told| {
            [Some(&mut told.begin), told.alert.as_mut().map(|alert| &mut alert.0), told.data.as_mut()]
        });
        self.pieces.iter_mut().map(|piece| &mut piece.point).chain(told.flatten())
    }

    /// The contiguous bytes from the start of the stream, at most `limit`. Where two pieces overlap, the one that
    /// came first counts.
    pub fn assemble(&self, start: Option<u32>, limit: u32) -> Stream<'_> {
        if let Some(base) = start {
            return self.assemble_from(base, limit);
        }
        let ordered = self.ordered();
        match lowest(ordered.iter().map(|piece| piece.seq)) {
            None => Stream::default(),
            Some(base) if begins_with_probe(&ordered, base) => {
                self.assemble_from(base.wrapping_add(1), limit)
            }
            Some(base) => self.assemble_from(base, limit),
        }
    }

    /// The pieces, earliest first.
    fn ordered(&self) -> Vec<Segment<'_>> {
        let mut ordered: Vec<Segment<'_>> = self.segments().collect();
        ordered.sort_by_key(|segment| segment.point);
        ordered
    }

    fn assemble_from(&self, base: u32, limit: u32) -> Stream<'_> {
        self.in_order_from(base, limit).unwrap_or_else(|| self.put_together_from(base, limit))
    }

    /// All that is kept, if it is a stream from there as it stands: each piece begins where the one before ends, and came
    /// after it.
    fn in_order_from(&self, base: u32, limit: u32) -> Option<Stream<'_>> {
        let whole = self.bytes.len() <= limit as usize;
        let mut next = base;
        let mut last: Option<FramePoint> = None;
        let in_order = self.segments().all(|Segment { seq, point, bytes }| {
            let follows = seq == next && !bytes.is_empty() && last.is_none_or(|last| last <= point);
            (next, last) = (next.wrapping_add(bytes.len() as u32), Some(point));
            follows
        });
        (whole && in_order)
            .then(|| Stream { bytes: Cow::Borrowed(&self.bytes), ends: Cow::Borrowed(&self.pieces) })
    }

    fn put_together_from(&self, base: u32, limit: u32) -> Stream<'_> {
        let ordered = self.ordered();
        let mut by_offset: Vec<(u32, usize, &[u8])> = ordered
            .iter()
            .enumerate()
            .filter_map(|(order, segment)| {
                let (seq, bytes) = from_base(base, segment.seq, segment.bytes)?;
                Some((seq.wrapping_sub(base), order, bytes))
            })
            .filter(|&(offset, ..)| offset < limit)
            .collect();
        by_offset.sort_unstable_by_key(|&(offset, order, _)| (offset, order));
        let (mut stream, mut ends): (Vec<u8>, Vec<Piece>) = (Vec::new(), Vec::new());
        let mut further = by_offset.into_iter().map(|(offset, order, bytes)| (offset as usize, order, bytes));
        let mut next = further.next();
        // Those that begin before the end of the stream so far, and reach beyond it: the earliest says what follows, until it
        // ends or another begins, which may be an earlier one.
        let mut open: BinaryHeap<Reverse<(usize, usize, &[u8])>> = BinaryHeap::new();
        while stream.len() < limit as usize {
            while let Some((offset, order, bytes)) = next.filter(|&(offset, ..)| offset <= stream.len()) {
                open.push(Reverse((order, offset, bytes)));
                next = further.next();
            }
            let Some(&Reverse((order, offset, bytes))) = open.peek() else { break };
            let have = stream.len();
            let begin_of_next = next.map_or(usize::MAX, |(offset, ..)| offset);
            let end = (offset + bytes.len()).min(begin_of_next).min(limit as usize);
            if end <= have {
                open.pop();
                continue;
            }
            stream.extend_from_slice(&bytes[have - offset..end - offset]);
            let Segment { seq, point, .. } = ordered[order];
            match ends.last_mut() {
                Some(last) if (last.seq, last.point) == (seq, point) => last.end = end,
                _ => ends.push(Piece { seq, point, end }),
            }
        }
        Stream { bytes: Cow::Owned(stream), ends: Cow::Owned(ends) }
    }

    /// The datagrams, earliest first.
    pub fn datagrams(&self) -> Vec<&[u8]> {
        self.ordered().into_iter().map(|segment| segment.bytes).collect()
    }
}

/// Whether the first byte of a stream is a keep-alive's: a byte of zero, alone in its segment, just before what is said
/// next (RFC 9293 section 3.8.4). Where no SYN was seen, nothing else tells that it is none of the stream's.
fn begins_with_probe(pieces: &[Segment<'_>], base: u32) -> bool {
    let mut at_base = pieces.iter().filter(|piece| piece.seq == base);
    at_base.all(|piece| *piece.bytes == [0]) && pieces.iter().any(|piece| piece.seq == base.wrapping_add(1))
}

/// What of a piece does not lie before `base`, and its sequence number: none where all of it does.
fn from_base(base: u32, seq: u32, bytes: &[u8]) -> Option<(u32, &[u8])> {
    let before = base.wrapping_sub(seq);
    if before > REORDERING_BYTES {
        return Some((seq, bytes));
    }
    bytes.get(before as usize..).filter(|rest| !rest.is_empty()).map(|rest| (base, rest))
}

/// Where a stream begins that no SYN told: at the first piece taken, or below it by no more than reordering explains. What
/// a long transfer carries after two gigabytes lies below it, too, and is not its beginning.
fn lowest(mut seqs: impl Iterator<Item = u32>) -> Option<u32> {
    let first = seqs.next()?;
    Some(seqs.fold(first, |base, seq| if base.wrapping_sub(seq) <= REORDERING_BYTES { seq } else { base }))
}

/// Contiguous bytes from the start of one direction, and which frames they came in.
#[derive(Clone, Debug, Default)]
pub struct Stream<'h> {
    /// The bytes.
    pub bytes: Cow<'h, [u8]>,
    /// Where each piece of them ends, ascending.
    ends: Cow<'h, [Piece]>,
}

impl Stream<'_> {
    /// The frame that carried the byte at `offset`.
    pub fn point_at(&self, offset: usize) -> Option<FramePoint> {
        let index = self.ends.partition_point(|piece| piece.end <= offset);
        self.ends.get(index).map(|piece| piece.point)
    }

    /// The latest of the frames that carried the first `end` bytes: when they were all there.
    pub fn complete_at(&self, end: usize) -> Option<FramePoint> {
        let last = self.ends.partition_point(|piece| piece.end < end);
        self.ends.get(..=last)?.iter().map(|piece| piece.point).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CaptureId, Timestamp};
    use proptest::prelude::*;

    fn point(frame: u64) -> FramePoint {
        FramePoint { time: Timestamp(frame as i64), capture: CaptureId::new(0), frame }
    }

    #[test]
    fn pieces_in_any_order_make_the_same_stream() {
        let stream: Vec<u8> = (0..200u8).collect();
        for start in [0u32, u32::MAX - 50] {
            let pieces = [(120usize, 200usize), (0, 50), (40, 120), (0, 50)];
            let mut head = Head::default();
            for (index, &(from, to)) in pieces.iter().enumerate() {
                let seq = start.wrapping_add(from as u32);
                head.add(Some(start), seq, point(index as u64 + 1), &stream[from..to], HEAD_BYTES);
            }
            assert_eq!(*head.assemble(Some(start), HEAD_BYTES).bytes, stream);
            let mut unknown = Head::default();
            for (index, &(from, to)) in pieces.iter().enumerate() {
                let seq = start.wrapping_add(from as u32);
                unknown.add(None, seq, point(index as u64 + 1), &stream[from..to], HEAD_BYTES);
            }
            let whole = unknown.assemble(None, HEAD_BYTES);
            assert_eq!(*whole.bytes, stream);
            assert_eq!(whole.point_at(10).map(|p| p.frame), Some(2));
            assert_eq!(whole.complete_at(130).map(|p| p.frame), Some(3));
        }
    }

    #[test]
    fn a_start_told_late_gives_the_same_stream_as_one_told_early() {
        // One piece begins before the start and reaches over it, another lies within the first.
        let pieces: [(u32, &[u8]); 2] = [(5000, &[1; 50]), (5001, &[2; 40])];
        let (mut late, mut early, mut cut) = (Head::default(), Head::default(), Head::default());
        for (frame, (seq, bytes)) in pieces.into_iter().enumerate() {
            let point = point(frame as u64 + 1);
            late.add(None, seq, point, bytes, HEAD_BYTES);
            early.add(Some(5001), seq, point, bytes, HEAD_BYTES);
            let mut alone = Head::default();
            alone.add(None, seq, point, bytes, HEAD_BYTES);
            cut.append(&alone, None);
        }
        for head in [late, early, cut] {
            assert_eq!(head.assemble(Some(5001), HEAD_BYTES).bytes[..], [1; 49]);
        }
    }

    #[test]
    fn what_was_said_first_counts_whether_it_was_read_or_kept() {
        let request = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
        let mut read = Head::default();
        read.read(1000, 1000, point(5), &[b'x'; 50], &mut KnownHellos::default());
        assert!(read.told().is_some_and(|told| told.opening == Opening::Nothing) && !read.has_segments());
        for (frame, expected) in [(4, &request[..]), (6, b"")] {
            let mut kept = Head::default();
            kept.add(None, 1000, point(frame), request, HEAD_BYTES);
            let (mut one, mut other) = (read.clone(), kept.clone());
            one.append(&kept, Some(1000));
            other.append(&read, Some(1000));
            for head in [one, other] {
                assert_eq!(head.told().is_none(), frame == 4, "{frame}");
                assert_eq!(*head.rest(Some(1000), HEAD_BYTES).bytes, *expected, "{frame}");
            }
        }
    }

    #[test]
    fn a_hello_begun_before_with_another_name_is_not_the_one_that_was_read() {
        let hello = tls::tests::hello_stream(b"nginx.example");
        let name = hello.windows(13).position(|bytes| bytes == b"nginx.example").unwrap();
        let mut read = Head::default();
        read.read(1000, 1000, point(5), &hello, &mut KnownHellos::default());
        assert!(read.told().is_some());
        let mut other = hello.clone();
        other[name + 4] = b'y';
        // From the changed letter on they differ.
        for end in 6..hello.len() {
            for (bytes, expected) in [(&hello, true), (&other, end <= name + 4)] {
                let mut kept = Head::default();
                kept.add(None, 1000, point(4), &bytes[..end], HEAD_BYTES);
                let (mut one, mut turned) = (read.clone(), kept.clone());
                one.append(&kept, Some(1000));
                turned.append(&read, Some(1000));
                assert_eq!([one.told().is_some(), turned.told().is_some()], [expected; 2], "{end}");
            }
        }
    }

    #[test]
    fn of_two_parts_that_were_read_and_are_no_copies_the_first_counts() {
        let told = |frame, read_to, alert: Option<u64>, data: Option<u64>| Told {
            read_to,
            begin: point(frame),
            opening: Opening::ServerHello(0x0303),
            alert: alert.map(|frame| (point(frame), 40)),
            data: data.map(point),
        };
        let closed = Told::CLOSED;
        for (first, second, expected) in [
            // Read to its end, it says neither; both say it; it was read up to somewhere only.
            (told(1, closed, None, None), told(2, closed, Some(3), None), (None, None)),
            (told(1, closed, None, None), told(2, closed, None, Some(3)), (None, None)),
            (told(1, closed, None, Some(5)), told(2, closed, None, Some(3)), (None, Some(3))),
            (told(1, closed, Some(5), None), told(2, closed, Some(3), None), (Some(3), None)),
            (told(1, 100, None, None), told(2, closed, Some(3), None), (Some(3), None)),
        ] {
            for (one, other) in [(&first, &second), (&second, &first)] {
                let both = one.clone().or_earlier(other.clone());
                let said = (both.alert.map(|(at, _)| at.frame), both.data.map(|at| at.frame));
                assert_eq!((both.begin, said), (point(1), expected));
            }
        }
    }

    #[test]
    fn few_bytes_that_say_something_are_no_beginning_of_what_says_nothing() {
        for (begun, expected) in [(&b"EHLO x\r\n"[..], None), (b"xx", Some(4))] {
            let (mut read, mut kept) = (Head::default(), Head::default());
            read.read(1000, 1000, point(5), &[b'x'; 50], &mut KnownHellos::default());
            kept.add(None, 1000, point(4), begun, HEAD_BYTES);
            read.append(&kept, Some(1000));
            assert_eq!(read.told().map(|told| told.begin.frame), expected);
        }
    }

    #[test]
    fn what_follows_a_hello_that_was_read_counts_from_where_that_was_read_to() {
        let alert = [tls::ALERT, 3, 3, 0, 2, 2, 40];
        let long = [tls::HANDSHAKE, 3, 3, 0, 4, 11, 0, 0, 0];
        let hello = tls::tests::server_hello();
        for (read_on, expected) in [(&long[..], false), (&b""[..], true)] {
            let mut first = Head::default();
            first.read(1000, 1000, point(5), &[&hello[..], read_on].concat(), &mut KnownHellos::default());
            let mut later = Head::default();
            later.add(Some(1000), 1000, point(6), &[&hello[..], &alert].concat(), HEAD_BYTES);
            first.append(&later, Some(1000));
            assert_eq!(first.told().unwrap().alert, expected.then_some((point(6), 40)));
        }
    }

    #[test]
    fn what_lies_far_off_is_kept_as_well_until_it_is_told_where_the_stream_begins() {
        let said = |seq: u32, frame: u64| (seq, point(frame), vec![frame as u8; 20]);
        let far = [said(5001, 1), said(900_001, 2), said(1_531_948_803, 3), said(4_000_000_000, 4)];
        for first in 0..far.len() {
            for start in [None, Some(5001), Some(900_001)] {
                let mut head = Head::default();
                for (seq, point, bytes) in far.iter().cycle().skip(first).take(far.len()) {
                    head.add(start, *seq, *point, bytes, HEAD_BYTES);
                }
                for (seq, _, bytes) in &far {
                    assert_eq!(
                        head.assemble(Some(*seq), HEAD_BYTES).bytes[..],
                        bytes[..],
                        "{start:?} {first}"
                    );
                }
            }
        }
        // A long transfer goes on with itself: nothing is kept behind its beginning, but as much as of strays where it is so long that
        // its numbers come round.
        let mut transfer = Head::default();
        for segment in 0..3_000_000u32 {
            transfer.add(
                Some(7),
                7u32.wrapping_add(segment.wrapping_mul(1460)),
                point(1),
                &[1; 1460],
                HEAD_BYTES,
            );
        }
        assert!(transfer.stored() <= 3 * HEAD_BYTES as usize + 1460, "{}", transfer.stored());
        // Junk takes no more than its own room.
        let mut junk = Head::default();
        for segment in 1..1000u32 {
            junk.add(Some(7), segment.wrapping_mul(4_000_037), point(1), &[1; 1460], HEAD_BYTES);
        }
        assert_eq!(junk.stored(), STRAY_BYTES as usize);
        junk.add(Some(7), 7, point(2), &[2; 1460], HEAD_BYTES);
        assert_eq!(junk.assemble(Some(7), HEAD_BYTES).bytes[..], [2; 1460]);
    }

    #[test]
    fn a_hello_that_was_read_stands_unless_an_earlier_copy_says_something_else() {
        let hello = Told {
            read_to: 100,
            begin: point(5),
            opening: Opening::ServerHello(0x0303),
            alert: None,
            data: None,
        };
        let prefix = [tls::HANDSHAKE, 3, 3, 0, 90, 2, 0, 0, 86];
        let other = [tls::HANDSHAKE, 3, 3, 0, 90, 1, 0, 0, 86];
        for (what, bytes, frame, expected) in [
            ("its own beginning, before", &prefix[..], 4, Some((true, 4))),
            ("its own beginning, after", &prefix[..], 6, Some((true, 5))),
            ("another's beginning, before", &other[..], 4, None),
            ("another's beginning, after", &other[..], 6, Some((true, 5))),
            ("too few bytes of something else, before", &b"x"[..], 4, None),
            ("something else, before", &[b'x'; 50][..], 4, Some((false, 4))),
            ("something else, after", &[b'x'; 50][..], 6, Some((true, 5))),
        ] {
            let (mut read, mut kept) = (Head::default(), Head::default());
            read.tell(hello.clone());
            kept.add(None, 1000, point(frame), bytes, HEAD_BYTES);
            let (mut one, mut turned) = (read.clone(), kept.clone());
            one.append(&kept, Some(1000));
            turned.append(&read, Some(1000));
            for head in [one, turned] {
                let told = head.told().map(|told| (told.opening == hello.opening, told.begin.frame));
                assert_eq!(told, expected, "{what}");
            }
        }
    }

    #[test]
    fn a_transfer_cut_after_three_gigabytes_begins_where_it_began() {
        let (mut whole, mut rest) = (Head::default(), Head::default());
        whole.add(None, 1000, point(1), &[1; 10], HEAD_BYTES);
        let mut cut = whole.clone();
        for head in [&mut whole, &mut rest] {
            head.add(None, 3_000_001_000, point(2), &[2; 10], HEAD_BYTES);
        }
        cut.append(&rest, None);
        assert_eq!(whole.assemble(None, HEAD_BYTES).bytes[..], [1; 10]);
        assert_eq!(cut.assemble(None, HEAD_BYTES).bytes[..], [1; 10]);
    }

    #[test]
    #[rustfmt::skip]
    fn a_keep_alive_before_the_first_words_is_none_of_them() {
        for (what, start, pieces, expected) in [
            ("before the first words",  None,     &[(9u32, &b"\0"[..]), (10, b"GET /")][..],  &b"GET /"[..]),
            ("after them, too",         None,     &[(10, b"GET /"), (9, b"\0"), (14, b"\0")], b"GET /"),
            ("a zero that was said",    Some(9),  &[(9, b"\0"), (10, b"GET /")],              b"\0GET /"),
            ("more than a probe",       None,     &[(9, b"\0\x1b"), (11, b"GET /")],          b"\0\x1bGET /"),
            ("a byte that says something", None,  &[(9, b"G"), (10, b"ET /")],                b"GET /"),
            ("nothing after it",        None,     &[(9, b"\0")],                              b"\0"),
        ] {
            let mut head = Head::default();
            for (index, (seq, bytes)) in pieces.iter().enumerate() {
                head.add(start, *seq, point(index as u64 + 1), bytes, HEAD_BYTES);
            }
            assert_eq!(*head.assemble(start, HEAD_BYTES).bytes, *expected, "{what}");
        }
    }

    #[test]
    fn a_hole_ends_the_stream_and_the_limit_holds() {
        let mut head = Head::default();
        head.add(Some(0), 0, point(1), &[1; 10], HEAD_BYTES);
        head.add(Some(0), 20, point(2), &[2; 10], HEAD_BYTES);
        assert_eq!(head.assemble(Some(0), HEAD_BYTES).bytes[..], [1; 10]);
        head.add(Some(0), 10, point(3), &[3; 5000], HEAD_BYTES);
        head.add(Some(0), 9000, point(4), &[4; 10], HEAD_BYTES);
        let bytes = head.assemble(Some(0), HEAD_BYTES).bytes;
        assert_eq!(bytes.len(), HEAD_BYTES as usize);
        assert_eq!(
            (&bytes[10..20], &bytes[20..30], &bytes[30..40]),
            (&[3; 10][..], &[2; 10][..], &[3; 10][..])
        );
    }

    proptest! {
        /// Of each byte the copy that was taken first counts, whatever overlaps; what is in no piece ends the stream.
        #[test]
        fn the_first_copy_of_each_byte_counts(
            pieces in prop::collection::vec((0u32..120, 1usize..60, any::<u8>()), 0..12),
            limit in 1u32..150,
        ) {
            let mut head = Head::default();
            let mut expected: Vec<Option<(u8, u64)>> = vec![None; 200];
            for (&(from, len, byte), frame) in pieces.iter().zip(1..) {
                head.push(Segment { seq: 4001u32.wrapping_add(from), point: point(frame), bytes: &vec![byte; len] });
                for place in &mut expected[from as usize..from as usize + len] {
                    place.get_or_insert((byte, frame));
                }
            }
            let expected: Vec<(u8, u64)> = expected.into_iter().take(limit as usize).map_while(|byte| byte).collect();
            let stream = head.assemble(Some(4001), limit);
            let told: Vec<(u8, u64)> = stream
                .bytes
                .iter()
                .enumerate()
                .map(|(at, &byte)| (byte, stream.point_at(at).unwrap().frame))
                .collect();
            prop_assert_eq!(told, expected);
        }
    }
}
