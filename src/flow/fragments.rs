//! Fragments put together again: bounded, and timed by the capture's clock.

use crate::decode::{DatagramHead, Packet};
use crate::model::{FramePoint, NANOS_PER_SECOND};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// How long fragments wait for the rest of their datagram: 60 s (RFC 8200 section 4.5; Linux waits 30 s for IPv4). Shorter
/// would lose datagrams whose fragments a slow path spread; longer could join fragments of two datagrams whose 16-bit
/// identification came round.
pub const FRAGMENT_WAIT_NANOS: i64 = 60 * NANOS_PER_SECOND;

/// Bytes of fragments kept waiting in one capture, at most: 64 MiB is a thousand datagrams of the greatest length. What
/// waits when they are used up is given up, counted, in its order.
pub const FRAGMENT_MEMORY_BYTES: usize = 64 << 20;

/// The greatest length of a datagram, bytes (RFC 791).
const DATAGRAM_BYTES: usize = 65_535;

/// One fragment, as it waits for the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FragmentPiece {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// What the datagram carries, by protocol number.
    pub protocol: u8,
    /// Identification, common to all fragments of a datagram.
    pub id: u32,
    /// Bytes before it in the datagram.
    pub offset: u32,
    /// Whether more fragments follow.
    pub more: bool,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// VLAN identifier.
    pub vlan: Option<u16>,
    /// Virtual network identifier.
    pub vni: Option<u32>,
    /// Its frame.
    pub point: FramePoint,
    /// Length of the frame on the wire, bytes.
    pub wire_len: u32,
    /// Its part of the datagram.
    pub bytes: Box<[u8]>,
}

impl FragmentPiece {
    /// The piece that a packet is, if it is a fragment.
    pub fn of(packet: &Packet<'_>, point: FramePoint, wire_len: u32) -> Option<Self> {
        let fragment = packet.fragment?;
        Some(FragmentPiece {
            src: packet.src,
            dst: packet.dst,
            protocol: fragment.protocol,
            id: fragment.id,
            offset: fragment.offset,
            more: fragment.more,
            ttl: packet.ttl,
            vlan: packet.vlan,
            vni: packet.vni,
            point,
            wire_len,
            bytes: packet.fragment_bytes.into(),
        })
    }

    fn key(&self) -> Key {
        (self.src, self.dst, self.protocol, self.id)
    }
}

type Key = (IpAddr, IpAddr, u8, u32);

/// A datagram, whole or as far as its fragments are there.
#[derive(Clone, Debug)]
pub struct Datagram {
    /// What its fragments have in common.
    pub head: DatagramHead,
    /// Its bytes from the start, contiguous.
    pub bytes: Vec<u8>,
    /// Whether these are all.
    pub whole: bool,
    /// Its frames, with their length on the wire, in the order in which they came.
    pub frames: Vec<(FramePoint, u32)>,
}

#[derive(Default)]
struct Waiting {
    pieces: Vec<FragmentPiece>,
    bytes: usize,
    total: Option<usize>,
}

/// Fragments that wait for the rest of their datagram.
#[derive(Default)]
pub struct Reassembly {
    waiting: BTreeMap<Key, Waiting>,
    given_up: Vec<FragmentPiece>,
    bytes: usize,
}

impl Reassembly {
    /// Adds a fragment; hands back the datagram that it completes.
    pub fn add(&mut self, piece: FragmentPiece) -> Option<Datagram> {
        let key = piece.key();
        let late = |waiting: &Waiting| {
            waiting
                .pieces
                .first()
                .is_some_and(|first| piece.point.time.since(first.point.time) > FRAGMENT_WAIT_NANOS)
        };
        if self.waiting.get(&key).is_some_and(late) {
            self.give_up(&key);
        }
        if self.bytes > FRAGMENT_MEMORY_BYTES {
            let keys: Vec<Key> = self.waiting.keys().copied().collect();
            keys.iter().for_each(|key| self.give_up(key));
        }
        self.bytes += piece.bytes.len();
        let waiting = self.waiting.entry(key).or_default();
        waiting.bytes += piece.bytes.len();
        if !piece.more {
            waiting.total = Some(piece.offset as usize + piece.bytes.len());
        }
        waiting.pieces.push(piece);
        let total = waiting.total.filter(|total| waiting.bytes >= *total && *total <= DATAGRAM_BYTES)?;
        let (bytes, _) = assemble(&waiting.pieces);
        if bytes.len() < total {
            return None;
        }
        let waiting = self.waiting.remove(&key)?;
        self.bytes -= waiting.bytes;
        datagram(&waiting.pieces)
    }

    fn give_up(&mut self, key: &Key) {
        if let Some(waiting) = self.waiting.remove(key) {
            self.bytes -= waiting.bytes;
            self.given_up.extend(waiting.pieces);
        }
    }

    /// What found no rest, in the order in which it came.
    pub fn finish(mut self) -> Vec<FragmentPiece> {
        let keys: Vec<Key> = self.waiting.keys().copied().collect();
        keys.iter().for_each(|key| self.give_up(key));
        self.given_up.sort_by_key(|piece| piece.point);
        self.given_up
    }
}

/// The contiguous bytes from the start; where two fragments overlap, the one that came first counts. Tells too whether
/// they reach the last fragment's end.
fn assemble(pieces: &[FragmentPiece]) -> (Vec<u8>, bool) {
    let mut order: Vec<usize> = (0..pieces.len()).collect();
    order.sort_by_key(|&index| (pieces[index].offset, index));
    let mut bytes = Vec::new();
    let mut ends = false;
    for piece in order.into_iter().map(|index| &pieces[index]) {
        let offset = piece.offset as usize;
        let Some(known) = bytes.len().checked_sub(offset) else { break };
        bytes.extend_from_slice(piece.bytes.get(known..).unwrap_or_default());
        ends |= !piece.more;
    }
    (bytes, ends)
}

/// What fragments of one datagram make. None where the first is not among them.
pub fn datagram(pieces: &[FragmentPiece]) -> Option<Datagram> {
    let first = pieces.iter().find(|piece| piece.offset == 0)?;
    let (bytes, whole) = assemble(pieces);
    let head = DatagramHead {
        src: first.src,
        dst: first.dst,
        ttl: first.ttl,
        protocol: first.protocol,
        vlan: first.vlan,
        vni: first.vni,
    };
    let frames = pieces.iter().map(|piece| (piece.point, piece.wire_len)).collect();
    Some(Datagram { head, bytes, whole, frames })
}

/// Fragments of the same datagram beside each other, in the order in which each datagram began.
pub fn by_datagram(pieces: Vec<FragmentPiece>) -> Vec<Vec<FragmentPiece>> {
    let mut groups: Vec<Vec<FragmentPiece>> = Vec::new();
    let mut open: BTreeMap<Key, usize> = BTreeMap::new();
    for piece in pieces {
        let near = |group: &Vec<FragmentPiece>| {
            group.first().is_some_and(|first| piece.point.time.since(first.point.time) <= FRAGMENT_WAIT_NANOS)
        };
        match open.get(&piece.key()).filter(|&&index| near(&groups[index])) {
            Some(&index) => groups[index].push(piece),
            None => {
                open.insert(piece.key(), groups.len());
                groups.push(vec![piece]);
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CaptureId, Timestamp};

    fn piece(frame: u64, seconds: i64, offset: u32, more: bool, bytes: &[u8]) -> FragmentPiece {
        FragmentPiece {
            src: [10, 0, 0, 1].into(),
            dst: [10, 0, 0, 2].into(),
            protocol: 17,
            id: 7,
            offset,
            more,
            ttl: 64,
            vlan: None,
            vni: None,
            point: FramePoint {
                time: Timestamp(seconds * NANOS_PER_SECOND),
                capture: CaptureId::new(0),
                frame,
            },
            wire_len: 100,
            bytes: bytes.into(),
        }
    }

    #[test]
    fn fragments_in_any_order_make_the_datagram_once() {
        let pieces = [
            piece(1, 0, 0, true, b"abcdefgh"),
            piece(2, 0, 8, true, b"ijklmnop"),
            piece(3, 1, 16, false, b"qr"),
        ];
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [2, 0, 1]] {
            let mut reassembly = Reassembly::default();
            let made: Vec<Datagram> =
                order.iter().filter_map(|&index| reassembly.add(pieces[index].clone())).collect();
            assert_eq!(made.len(), 1, "{order:?}");
            assert_eq!(made[0].bytes, b"abcdefghijklmnopqr");
            assert_eq!(made[0].frames.len(), 3);
            assert!(reassembly.finish().is_empty());
        }
    }

    #[test]
    fn a_hole_or_a_long_wait_leaves_the_fragments_over() {
        let mut reassembly = Reassembly::default();
        assert!(reassembly.add(piece(1, 0, 0, true, b"abcdefgh")).is_none());
        assert!(reassembly.add(piece(2, 61, 8, false, b"ij")).is_none());
        let over = reassembly.finish();
        assert_eq!(over.iter().map(|piece| piece.point.frame).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(by_datagram(over).len(), 2);
        let first = datagram(&[piece(1, 0, 0, true, b"abcdefgh"), piece(3, 0, 16, false, b"q")]).unwrap();
        assert_eq!((first.bytes.as_slice(), first.whole), (&b"abcdefgh"[..], false));
        assert!(datagram(&[piece(2, 0, 8, false, b"ij")]).is_none());
    }
}
