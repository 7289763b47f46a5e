//! The classic file format: one header, then records (draft-ietf-opsawg-pcap).

use super::end::FrameProblem;
use super::frame::LinkType;
use super::source::Source;
use crate::model::{NANOS_PER_SECOND, Timestamp};

/// The most bytes of one packet that are believed where nothing else is said: libpcap's MAXIMUM_SNAPLEN and Wireshark's
/// WTAP_MAX_PACKET_SIZE_STANDARD.
///
/// Smaller would refuse packets that tools do write; larger would swallow many good packets after a damaged length.
pub(super) const STANDARD_LIMIT_BYTES: u32 = 262_144;

/// The largest snapshot length of a file header that raises the limit. Above it the header itself is not believed.
const SNAPLEN_LIMIT_BYTES: u32 = 64 * 1024 * 1024;

/// Link types whose packets are larger than others' by nature (D-Bus messages, USB transfers, EBHSCR), as in Wireshark.
pub(super) fn length_limit(link_type: LinkType, snaplen: u32) -> u32 {
    let by_type = match link_type.0 {
        231 | 249 => 128 * 1024 * 1024,
        279 => 32 * 1024 * 1024,
        _ => STANDARD_LIMIT_BYTES,
    };
    let by_snaplen = if snaplen <= SNAPLEN_LIMIT_BYTES { snaplen } else { 0 };
    by_type.max(by_snaplen)
}

/// What a record gave: where the frame stands in the source's buffer, and what its header says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub(super) offset: u64,
    pub(super) time: Timestamp,
    pub(super) interface: u32,
    pub(super) link_type: LinkType,
    pub(super) fcs_bytes: u8,
    pub(super) wire_len: u32,
    pub(super) place: usize,
    pub(super) captured: u32,
}

/// Why no record came: the file ended where it should, or it is damaged at an offset.
#[derive(Debug)]
pub(super) enum Stop {
    Complete,
    Damaged(u64, FrameProblem),
}

/// Four bytes of a header at `at`, in the file's order. The caller has seen to it that they are there.
#[inline]
pub(super) fn u32_at(bytes: &[u8], at: usize, big: bool) -> u32 {
    let Some(&word) = bytes.get(at..).and_then(|rest| rest.first_chunk()) else { return 0 };
    if big { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
}

/// As [`u32_at`], two bytes.
#[inline]
pub(super) fn u16_at(bytes: &[u8], at: usize, big: bool) -> u16 {
    let Some(&word) = bytes.get(at..).and_then(|rest| rest.first_chunk()) else { return 0 };
    if big { u16::from_be_bytes(word) } else { u16::from_le_bytes(word) }
}

/// A stream that ended `have` bytes into something of `need` bytes: a failed stream says so, a short one is cut.
pub(super) fn cut(source: &Source, problem: FrameProblem) -> FrameProblem {
    source.failure().map_or(problem, |why| FrameProblem::Unreadable(why.to_owned()))
}

/// The order in which a record gives its two lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lengths {
    /// Captured, then original: version 2.4.
    CapturedFirst,
    /// Original, then captured: versions before 2.3, and 543.0 of DG/UX.
    OriginalFirst,
    /// Version 2.3 was written both ways: the smaller is the captured length.
    Either,
}

/// A pcap file whose header was read.
#[derive(Debug)]
pub(super) struct Pcap {
    pub(super) big: bool,
    pub(super) nanos: bool,
    pub(super) link_type: LinkType,
    fcs_bytes: u8,
    header_bytes: usize,
    nanos_per_fraction: i64,
    limit: u32,
    /// The same where records are as [`Pcap::usual`] reads them.
    usual_limit: Option<u32>,
    lengths: Lengths,
}

impl Pcap {
    /// Byte order and header style by the first four bytes; `None` if this is no pcap file.
    fn style(magic: [u8; 4]) -> Option<(bool, bool, usize)> {
        Some(match magic {
            [0xA1, 0xB2, 0xC3, 0xD4] => (true, false, 16),
            [0xD4, 0xC3, 0xB2, 0xA1] => (false, false, 16),
            [0xA1, 0xB2, 0x3C, 0x4D] => (true, true, 16),
            [0x4D, 0x3C, 0xB2, 0xA1] => (false, true, 16),
            // Alexey Kuznetsov's Linux variant: interface index, protocol and packet type follow each record header.
            [0xA1, 0xB2, 0xCD, 0x34] => (true, false, 24),
            [0x34, 0xCD, 0xB2, 0xA1] => (false, false, 24),
            _ => return None,
        })
    }

    /// Whether a file that begins so is a pcap file.
    pub(super) fn begins(magic: [u8; 4]) -> bool {
        Self::style(magic).is_some()
    }

    /// Reads the file header.
    pub(super) fn open(source: &mut Source) -> Result<Self, Stop> {
        if !source.have(24) {
            let have = source.window().len() as u64;
            let problem = FrameProblem::HeaderTruncated { have, need: 24 };
            return Err(Stop::Damaged(0, cut(source, problem)));
        }
        let header = source.window();
        let magic = header.first_chunk().copied().unwrap_or_default();
        let (big, nanos, header_bytes) = Self::style(magic).unwrap_or((false, false, 16));
        let (major, minor) = (u16_at(header, 4, big), u16_at(header, 6, big));
        let lengths = match (major, minor) {
            (543, 0) | (2, 0..=2) => Lengths::OriginalFirst,
            (2, 3) => Lengths::Either,
            (2, _) => Lengths::CapturedFirst,
            _ => return Err(Stop::Damaged(0, FrameProblem::Version { major, minor })),
        };
        let (snaplen, network) = (u32_at(header, 16, big), u32_at(header, 20, big));
        let link_type = LinkType(network as u16);
        // Bit 26: the length of the frame check sequence is known; bits 28-31: that length in units of 16 bits.
        let fcs_bytes = if network & 0x0400_0000 == 0 { 0 } else { (network >> 28) as u8 * 2 };
        source.take(24);
        let limit = length_limit(link_type, snaplen);
        let is_usual = (big, header_bytes, lengths) == (false, 16, Lengths::CapturedFirst);
        Ok(Pcap {
            big,
            nanos,
            link_type,
            fcs_bytes,
            header_bytes,
            nanos_per_fraction: if nanos { 1 } else { 1_000 },
            limit,
            usual_limit: is_usual.then_some(limit),
            lengths,
        })
    }

    /// The next record if it is as nearly all are, and the window shows it already: of a little-endian file of version 2.4, and no
    /// longer than it may be. All others are left to [`Pcap::next`], which reads this one in more steps.
    #[inline(always)]
    pub(super) fn usual(&self, source: &mut Source) -> Option<Record> {
        let (offset, window) = (source.offset(), source.window());
        let header = u128::from_le_bytes(*window.first_chunk()?);
        let word = |at: u32| (header >> at) as u32;
        let (captured, original) = (word(64), word(96));
        let total = 16 + captured as usize;
        if captured > self.usual_limit? || total > window.len() {
            return None;
        }
        let place = source.take(total) + 16;
        Some(self.record(offset, (word(0), word(32)), place, (captured, original)))
    }

    /// The next record.
    pub(super) fn next(&self, source: &mut Source) -> Result<Record, Stop> {
        if !source.have(self.header_bytes) {
            return Err(self.stop_in_header(source));
        }
        let offset = source.offset();
        let Some(header) = source.window().first_chunk::<16>() else {
            return Err(self.stop_in_header(source));
        };
        let header = u128::from_le_bytes(*header);
        let word = |at: u32| {
            let word = (header >> at) as u32;
            if self.big { word.swap_bytes() } else { word }
        };
        let (seconds, fraction, first, second) = (word(0), word(32), word(64), word(96));
        let (captured, original) = match self.lengths {
            Lengths::CapturedFirst => (first, second),
            Lengths::OriginalFirst => (second, first),
            Lengths::Either => (first.min(second), first.max(second)),
        };
        if captured > self.limit {
            let problem = FrameProblem::ImplausibleLength { captured, limit: self.limit };
            return Err(Stop::Damaged(offset, problem));
        }
        let total = self.header_bytes + captured as usize;
        if !source.have(total) {
            let have = (source.window().len() - self.header_bytes) as u64;
            let problem = FrameProblem::Truncated { have, need: captured.into() };
            return Err(Stop::Damaged(offset, cut(source, problem)));
        }
        let place = source.take(total) + self.header_bytes;
        Ok(self.record(offset, (seconds, fraction), place, (captured, original)))
    }

    #[inline(always)]
    fn record(
        &self,
        offset: u64,
        (seconds, fraction): (u32, u32),
        place: usize,
        (captured, original): (u32, u32),
    ) -> Record {
        // Both products fit: 2^32 s are 4.3e18 ns, and 2^31 us another 2.1e12. A fraction of a second or more carries; one
        // with its first bit set is negative, as libpcap reads it: programs that subtract times have written such.
        let time =
            i64::from(seconds) * 1_000_000_000 + i64::from(fraction.cast_signed()) * self.nanos_per_fraction;
        Record {
            offset,
            time: Timestamp(time),
            interface: 0,
            link_type: self.link_type,
            fcs_bytes: self.fcs_bytes,
            wire_len: original.max(captured),
            place,
            captured,
        }
    }

    /// The time of the record that bytes from anywhere in the file begin with, and its length, header and all; `None` if they
    /// hardly begin with one. Stricter than [`Pcap::next`]: odd records are rare, and other bytes are not.
    pub(super) fn likely(&self, bytes: &[u8]) -> Option<(Timestamp, usize)> {
        let header = bytes.get(..self.header_bytes)?;
        let word = |at: usize| u32_at(header, at, self.big);
        let (captured, original) = match self.lengths {
            Lengths::CapturedFirst => (word(8), word(12)),
            Lengths::OriginalFirst => (word(12), word(8)),
            Lengths::Either => (word(8).min(word(12)), word(8).max(word(12))),
        };
        let fraction = i64::from(word(4)) * self.nanos_per_fraction;
        let likely = (1..=original).contains(&captured)
            && original <= self.limit
            && fraction < NANOS_PER_SECOND
            && word(0) > 0;
        let time = Timestamp(i64::from(word(0)) * NANOS_PER_SECOND + fraction);
        likely.then_some((time, self.header_bytes + captured as usize))
    }

    #[cold]
    fn stop_in_header(&self, source: &Source) -> Stop {
        let have = source.window().len() as u64;
        if have == 0 && source.failure().is_none() {
            return Stop::Complete;
        }
        let problem = FrameProblem::HeaderTruncated { have, need: self.header_bytes as u64 };
        Stop::Damaged(source.offset(), cut(source, problem))
    }
}
