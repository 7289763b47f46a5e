//! The first bytes of one direction of a flow, kept as the pieces in which they came.

use crate::model::FramePoint;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

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

/// How far below the lowest byte seen a segment may lie and still be taken for the start of the stream, when no SYN told
/// where that is: 1 MiB, more than any reordering and far less than half the sequence space, so that a long
/// transfer that wraps is not taken for its own beginning.
const REORDERING_BYTES: u32 = 1 << 20;

/// Payload of one TCP segment (or UDP datagram).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Sequence number of the first byte; for UDP always 0.
    pub seq: u32,
    /// Which frame carried it.
    pub point: FramePoint,
    /// The bytes; hexadecimal in JSON.
    #[serde(serialize_with = "hex", deserialize_with = "unhex")]
    pub bytes: Box<[u8]>,
}

pub(super) fn hex<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    let digits = b"0123456789abcdef";
    let text: Vec<u8> =
        bytes.iter().flat_map(|b| [digits[usize::from(b >> 4)], digits[usize::from(b & 15)]]).collect();
    serializer.serialize_str(&String::from_utf8_lossy(&text))
}

pub(super) fn unhex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Box<[u8]>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let digit = |b: u8| char::from(b).to_digit(16).map(|d| d as u8);
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect::<Option<Box<[u8]>>>()
        .ok_or_else(|| serde::de::Error::custom("payload bytes are not pairs of hexadecimal digits"))
}

/// The kept pieces of one direction, in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Head {
    segments: Vec<Segment>,
}

impl Head {
    /// Keeps what of a TCP segment lies within `limit` bytes of the stream's start. `start` is the sequence number
    /// of its first byte where a SYN told it; else the lowest sequence number seen counts.
    pub fn add(&mut self, start: Option<u32>, seq: u32, point: FramePoint, bytes: &[u8], limit: u32) {
        if bytes.is_empty() {
            return;
        }
        let base = match start.or_else(|| lowest(self.segments.iter())) {
            None => seq,
            Some(base) if start.is_none() && base.wrapping_sub(seq) <= REORDERING_BYTES => seq,
            Some(base) => base,
        };
        // What lies a little before a told start is kept as well: another stretch of the flow may tell another start.
        let (offset, before) = (seq.wrapping_sub(base), base.wrapping_sub(seq));
        let room = match offset {
            _ if start.is_some() && (1..=limit).contains(&before) => before + limit,
            offset if offset < limit => limit - offset,
            _ => return,
        };
        if self.segments.len() >= MOST_SEGMENTS {
            return;
        }
        if self.covers(seq, bytes.len()) || self.stored() > 2 * limit as usize {
            return;
        }
        let take = bytes.len().min(room as usize);
        self.segments.push(Segment { seq, point, bytes: bytes[..take].into() });
        if start.is_none() && base == seq {
            // The start moved down: what is now too far from it goes.
            self.segments.retain(|segment| segment.seq.wrapping_sub(base) < limit);
        }
    }

    /// Keeps a UDP datagram's bytes, up to `limit` in all.
    pub fn add_datagram(&mut self, point: FramePoint, bytes: &[u8], limit: u32) {
        if self.stored() + bytes.len() <= limit as usize {
            self.segments.push(Segment { seq: 0, point, bytes: bytes.into() });
        }
    }

    /// Whether a piece already kept holds these bytes (the usual retransmission).
    fn covers(&self, seq: u32, len: usize) -> bool {
        self.segments.iter().any(|have| {
            let offset = seq.wrapping_sub(have.seq) as usize;
            offset < have.bytes.len() && offset + len <= have.bytes.len()
        })
    }

    fn stored(&self) -> usize {
        self.segments.iter().map(|segment| segment.bytes.len()).sum()
    }

    /// Adds the pieces of a later part of the same direction.
    pub fn append(&mut self, later: Head) {
        self.segments.extend(later.segments);
    }

    /// The pieces.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Where its points stand, for translation of capture numbers.
    pub(super) fn points_mut(&mut self) -> impl Iterator<Item = &mut FramePoint> {
        self.segments.iter_mut().map(|segment| &mut segment.point)
    }

    /// The contiguous bytes from the start of the stream, at most `limit`. Where two pieces overlap, the one that
    /// came first counts.
    pub fn assemble(&self, start: Option<u32>, limit: u32) -> Stream {
        let mut ordered: Vec<&Segment> = self.segments.iter().collect();
        ordered.sort_by_key(|segment| segment.point);
        let Some(mut base) = start.or_else(|| lowest(ordered.iter().copied())) else {
            return Stream::default();
        };
        if start.is_none() && begins_with_probe(&ordered, base) {
            base = base.wrapping_add(1);
        }
        let mut by_offset: Vec<(u32, usize, &[u8])> = ordered
            .iter()
            .enumerate()
            .filter_map(|(order, segment)| {
                let (seq, bytes) = from_base(base, segment.seq, &segment.bytes)?;
                Some((seq.wrapping_sub(base), order, bytes))
            })
            .filter(|&(offset, ..)| offset < limit)
            .collect();
        by_offset.sort_unstable_by_key(|&(offset, order, _)| (offset, order));
        let mut stream = Stream::default();
        for (offset, order, bytes) in by_offset {
            let (offset, segment) = (offset as usize, ordered[order]);
            let have = stream.bytes.len();
            if offset > have {
                break;
            }
            let end = (offset + bytes.len()).min(limit as usize);
            if end > have {
                stream.bytes.extend_from_slice(&bytes[have - offset..end - offset]);
                stream.ends.push((end, segment.point));
            }
        }
        stream
    }

    /// The datagrams, earliest first.
    pub fn datagrams(&self) -> Vec<&[u8]> {
        let mut ordered: Vec<&Segment> = self.segments.iter().collect();
        ordered.sort_by_key(|segment| segment.point);
        ordered.into_iter().map(|segment| &*segment.bytes).collect()
    }
}

/// Whether the first byte of a stream is a keep-alive's: a byte of zero, alone in its segment, just before what is said
/// next (RFC 9293 section 3.8.4). Where no SYN was seen, nothing else tells that it is none of the stream's.
fn begins_with_probe(pieces: &[&Segment], base: u32) -> bool {
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
fn lowest<'s>(mut segments: impl Iterator<Item = &'s Segment>) -> Option<u32> {
    let first = segments.next()?.seq;
    Some(segments.fold(first, |base, segment| {
        if base.wrapping_sub(segment.seq) <= REORDERING_BYTES { segment.seq } else { base }
    }))
}

/// Contiguous bytes from the start of one direction, and which frames they came in.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// (end offset, frame) of each piece, ascending.
    ends: Vec<(usize, FramePoint)>,
}

impl Stream {
    /// The frame that carried the byte at `offset`.
    pub fn point_at(&self, offset: usize) -> Option<FramePoint> {
        let index = self.ends.partition_point(|&(end, _)| end <= offset);
        self.ends.get(index).map(|&(_, point)| point)
    }

    /// The latest of the frames that carried the first `end` bytes: when they were all there.
    pub fn complete_at(&self, end: usize) -> Option<FramePoint> {
        let last = self.ends.partition_point(|&(piece_end, _)| piece_end < end);
        self.ends.get(..=last)?.iter().map(|&(_, point)| point).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CaptureId, Timestamp};

    fn point(frame: u64) -> FramePoint {
        FramePoint { time: Timestamp(frame as i64), capture: CaptureId(0), frame }
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
            assert_eq!(head.assemble(Some(start), HEAD_BYTES).bytes, stream);
            let mut unknown = Head::default();
            for (index, &(from, to)) in pieces.iter().enumerate() {
                let seq = start.wrapping_add(from as u32);
                unknown.add(None, seq, point(index as u64 + 1), &stream[from..to], HEAD_BYTES);
            }
            let whole = unknown.assemble(None, HEAD_BYTES);
            assert_eq!(whole.bytes, stream);
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
            cut.append(alone);
        }
        for head in [late, early, cut] {
            assert_eq!(head.assemble(Some(5001), HEAD_BYTES).bytes, [1; 49]);
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
        cut.append(rest);
        assert_eq!(whole.assemble(None, HEAD_BYTES).bytes, [1; 10]);
        assert_eq!(cut.assemble(None, HEAD_BYTES).bytes, [1; 10]);
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
            assert_eq!(head.assemble(start, HEAD_BYTES).bytes, expected, "{what}");
        }
    }

    #[test]
    fn a_hole_ends_the_stream_and_the_limit_holds() {
        let mut head = Head::default();
        head.add(Some(0), 0, point(1), &[1; 10], HEAD_BYTES);
        head.add(Some(0), 20, point(2), &[2; 10], HEAD_BYTES);
        assert_eq!(head.assemble(Some(0), HEAD_BYTES).bytes, [1; 10]);
        head.add(Some(0), 10, point(3), &[3; 5000], HEAD_BYTES);
        head.add(Some(0), 9000, point(4), &[4; 10], HEAD_BYTES);
        let bytes = head.assemble(Some(0), HEAD_BYTES).bytes;
        assert_eq!(bytes.len(), HEAD_BYTES as usize);
        assert_eq!(&bytes[10..20], &[3; 10]);
    }
}
