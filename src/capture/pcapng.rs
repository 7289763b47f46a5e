//! The block format (draft-ietf-opsawg-pcapng).

use super::end::FrameProblem;
use super::frame::LinkType;
use super::pcap::{Record, STANDARD_LIMIT_BYTES, Stop, cut, length_limit, u16_at, u32_at};
use super::source::Source;
use crate::model::{NANOS_PER_SECOND, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

const SECTION_HEADER: u32 = 0x0A0D_0D0A;
const INTERFACE_DESCRIPTION: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const INTERFACE_STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;

/// The largest block of a kind that is read as a whole (packets apart, whose limit is their packet's). Tools write
/// section headers of up to a few hundred KiB; a larger length is no length.
const BLOCK_LIMIT_BYTES: u32 = 16 * 1024 * 1024;

/// Room that a packet block may have beside its packet: header, padding, options.
const PACKET_BLOCK_EXTRA_BYTES: u32 = 1024 * 1024;

/// Blocks that are no packets, yet Wireshark numbers them as frames: custom blocks, systemd journal entries, and
/// Sysdig events. They take a number, so that later numbers stay Wireshark's.
fn takes_a_number(kind: u32) -> bool {
    matches!(kind, 0x0000_0BAD | 0x4000_0BAD | 0x0000_0009 | 0x0000_0204 | 0x0000_0216 | 0x0000_0221)
}

/// How an interface's time units become nanoseconds.
#[derive(Clone, Copy, Debug)]
enum Resolution {
    /// Units of 10^-9 s or more: nanoseconds per unit.
    Multiply(u64),
    /// Units of less than a nanosecond: units per nanosecond; 0 where there are more than 64 bits can tell.
    Divide(u64),
    /// Units of 2^-n s.
    Binary(u8),
}

impl Resolution {
    /// Of the option if_tsresol; its default is 6 (microseconds).
    fn from_option(value: u8) -> Self {
        let exponent = value & 0x7F;
        match value & 0x80 {
            0 if exponent <= 9 => Resolution::Multiply(10u64.pow(u32::from(9 - exponent))),
            0 => Resolution::Divide(10u64.checked_pow(u32::from(exponent - 9)).unwrap_or(0)),
            _ => Resolution::Binary(exponent),
        }
    }

    /// None beyond what a [`Timestamp`] can tell, in the year 2262.
    #[inline]
    fn nanos(self, units: u64) -> Option<i64> {
        let nanos: u128 = match self {
            Resolution::Multiply(nanos) => match units.checked_mul(nanos) {
                Some(nanos) => nanos.into(),
                None => u128::MAX,
            },
            Resolution::Divide(units_per_nano) => units.checked_div(units_per_nano).unwrap_or(0).into(),
            // 2^64 units times 10^9 stay below 2^94.
            Resolution::Binary(exponent) => {
                (u128::from(units) * 1_000_000_000) >> u32::from(exponent).min(127)
            }
        };
        i64::try_from(nanos).ok()
    }
}

#[derive(Clone, Copy, Debug)]
struct Interface {
    link_type: LinkType,
    snaplen: u32,
    limit: u32,
    resolution: Resolution,
    /// What is added to each time (if_tsoffset), nanoseconds.
    time_offset: i64,
    fcs_bytes: u8,
    /// Its number over all sections.
    number: u32,
}

/// What a pcapng file says about itself, apart from its packets.
#[derive(Debug, Default)]
pub(super) struct PcapngFacts {
    pub(super) sections: u32,
    pub(super) interfaces: u32,
    pub(super) link_types: BTreeSet<LinkType>,
    /// By block type; neither packets nor section headers, interfaces or statistics.
    pub(super) skipped_blocks: BTreeMap<u32, u64>,
    /// Packets that the capture lost, by interface over all sections, by its last statistics block.
    pub(super) statistics_drops: BTreeMap<u32, u64>,
    /// Packets lost between two packets, by the packets' own drop counts.
    pub(super) packet_drops: BTreeMap<u32, u64>,
    pub(super) nanos: bool,
}

/// A pcapng file.
#[derive(Debug)]
pub(super) struct Pcapng {
    pub(super) big: bool,
    /// Interfaces of the present section.
    interfaces: Vec<Interface>,
    last_time: Timestamp,
    /// Blocks since the last record that took a frame number without being a frame.
    pub(super) numbered_blocks: u64,
    pub(super) frames_without_time: u64,
    pub(super) facts: PcapngFacts,
}

/// A packet block's header fields.
struct PacketHead {
    interface: u32,
    units: u64,
    captured: u32,
    original: u32,
    header_bytes: u32,
}

/// Bytes up to the next multiple of 4.
#[inline]
fn padded(length: u32) -> u32 {
    length.saturating_add(3) & !3
}

/// Walks a block's options: code, value. Ends quietly at an option that does not fit: the packet before it is sound.
fn options(bytes: &[u8], big: bool) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.len() < 4 {
            return None;
        }
        let (code, length) = (u16_at(rest, 0, big), u16_at(rest, 2, big));
        if code == 0 {
            return None;
        }
        let value = rest.get(4..4 + usize::from(length))?;
        rest = rest.get(4 + padded(length.into()) as usize..).unwrap_or_default();
        Some((code, value))
    })
}

fn u64_of(value: &[u8], big: bool) -> Option<u64> {
    let word: [u8; 8] = value.try_into().ok()?;
    Some(if big { u64::from_be_bytes(word) } else { u64::from_le_bytes(word) })
}

impl Pcapng {
    /// Whether a file that begins so is a pcapng file.
    pub(super) fn begins(magic: [u8; 4]) -> bool {
        magic == SECTION_HEADER.to_be_bytes()
    }

    pub(super) fn new() -> Self {
        Pcapng {
            big: false,
            interfaces: Vec::new(),
            last_time: Timestamp::default(),
            numbered_blocks: 0,
            frames_without_time: 0,
            facts: PcapngFacts::default(),
        }
    }

    /// The next packet; other blocks on the way are read or skipped.
    #[inline(always)]
    pub(super) fn next(&mut self, source: &mut Source) -> Result<Record, Stop> {
        loop {
            if !source.have(12) {
                return Err(Self::stop_in_header(source));
            }
            let header = source.window();
            let kind = u32_at(header, 0, self.big);
            // A section header reads the same in both byte orders, and tells the order of what follows.
            if kind == SECTION_HEADER {
                self.section(source)?;
                continue;
            }
            let length = u32_at(header, 4, self.big);
            match kind {
                ENHANCED_PACKET => return self.enhanced(source, length),
                SIMPLE_PACKET => return self.simple(source, length),
                OBSOLETE_PACKET => return self.obsolete(source, length),
                INTERFACE_DESCRIPTION => self.interface(source, length)?,
                INTERFACE_STATISTICS => self.statistics(source, length)?,
                _ => self.other(source, kind, length)?,
            }
        }
    }

    #[cold]
    fn stop_in_header(source: &Source) -> Stop {
        let have = source.window().len() as u64;
        if have == 0 && source.failure().is_none() {
            return Stop::Complete;
        }
        Stop::Damaged(source.offset(), cut(source, FrameProblem::HeaderTruncated { have, need: 12 }))
    }

    /// Sees to it that the window shows a whole block of at least `least` and at most `limit` bytes, whose lengths agree.
    #[inline(always)]
    fn whole(&self, source: &mut Source, length: u32, least: u32, limit: u32) -> Result<(), Stop> {
        if !length.is_multiple_of(4) || length < least {
            return Err(Stop::Damaged(source.offset(), FrameProblem::BlockLength { length, least }));
        }
        if length > limit {
            return Err(Stop::Damaged(
                source.offset(),
                FrameProblem::ImplausibleLength { captured: length, limit },
            ));
        }
        if !source.have(length as usize) {
            let have = source.window().len() as u64;
            let problem = FrameProblem::Truncated { have, need: length.into() };
            return Err(Stop::Damaged(source.offset(), cut(source, problem)));
        }
        let last = u32_at(source.window(), length as usize - 4, self.big);
        if last != length {
            return Err(Stop::Damaged(
                source.offset(),
                FrameProblem::BlockLengthsDiffer { first: length, last },
            ));
        }
        Ok(())
    }

    #[inline(never)]
    fn section(&mut self, source: &mut Source) -> Result<(), Stop> {
        let offset = source.offset();
        let magic = u32_at(source.window(), 8, true);
        self.big = match magic {
            0x1A2B_3C4D => true,
            0x4D3C_2B1A => false,
            _ => return Err(Stop::Damaged(offset, FrameProblem::ByteOrder { magic })),
        };
        let length = u32_at(source.window(), 4, self.big);
        self.whole(source, length, 28, BLOCK_LIMIT_BYTES)?;
        let (major, minor) = (u16_at(source.window(), 12, self.big), u16_at(source.window(), 14, self.big));
        // 1.2 was written by some tools and is read the same, as libpcap and Wireshark do.
        if !matches!((major, minor), (1, 0 | 2)) {
            return Err(Stop::Damaged(offset, FrameProblem::Version { major, minor }));
        }
        source.take(length as usize);
        self.interfaces.clear();
        self.facts.sections = self.facts.sections.saturating_add(1);
        Ok(())
    }

    #[inline(never)]
    fn interface(&mut self, source: &mut Source, length: u32) -> Result<(), Stop> {
        self.whole(source, length, 20, BLOCK_LIMIT_BYTES)?;
        let block = source.window();
        let link_type = LinkType(u16_at(block, 8, self.big));
        let snaplen = u32_at(block, 12, self.big);
        let mut interface = Interface {
            link_type,
            snaplen,
            limit: length_limit(link_type, snaplen),
            resolution: Resolution::from_option(6),
            time_offset: 0,
            fcs_bytes: 0,
            number: self.facts.interfaces,
        };
        for (code, value) in options(block.get(16..length as usize - 4).unwrap_or_default(), self.big) {
            match (code, value) {
                (9, &[resolution]) => {
                    interface.resolution = Resolution::from_option(resolution);
                    self.facts.nanos |= !matches!(interface.resolution, Resolution::Multiply(1_000..));
                }
                (13, &[bytes]) => interface.fcs_bytes = bytes,
                (14, seconds) => {
                    let seconds = u64_of(seconds, self.big).unwrap_or(0).cast_signed();
                    interface.time_offset = seconds.saturating_mul(NANOS_PER_SECOND);
                }
                _ => {}
            }
        }
        source.take(length as usize);
        self.interfaces.push(interface);
        self.facts.interfaces = self.facts.interfaces.saturating_add(1);
        self.facts.link_types.insert(link_type);
        Ok(())
    }

    #[inline(never)]
    fn statistics(&mut self, source: &mut Source, length: u32) -> Result<(), Stop> {
        self.whole(source, length, 24, BLOCK_LIMIT_BYTES)?;
        let block = source.window();
        let interface = u32_at(block, 8, self.big);
        // isb_ifdrop: lost for want of room in the capture buffer; isb_osdrop: lost in the operating system.
        let mut drops = None;
        for (code, value) in options(block.get(20..length as usize - 4).unwrap_or_default(), self.big) {
            if let (5 | 7, Some(count)) = (code, u64_of(value, self.big)) {
                drops = Some(count.saturating_add(drops.unwrap_or(0)));
            }
        }
        // Statistics of an interface that the section does not describe tell nothing about its packets.
        if let (Some(drops), Some(known)) = (drops, self.interfaces.get(interface as usize)) {
            self.facts.statistics_drops.insert(known.number, drops);
        }
        source.take(length as usize);
        Ok(())
    }

    /// Skips a block without holding it in memory; its lengths must agree all the same.
    #[inline(never)]
    fn other(&mut self, source: &mut Source, kind: u32, length: u32) -> Result<(), Stop> {
        let offset = source.offset();
        if !length.is_multiple_of(4) || length < 12 {
            return Err(Stop::Damaged(offset, FrameProblem::BlockLength { length, least: 12 }));
        }
        let skipped = source.skip(u64::from(length) - 4);
        if skipped < u64::from(length) - 4 || !source.have(4) {
            let have = skipped + source.window().len() as u64;
            let problem = FrameProblem::Truncated { have, need: length.into() };
            return Err(Stop::Damaged(offset, cut(source, problem)));
        }
        let last = u32_at(source.window(), 0, self.big);
        if last != length {
            return Err(Stop::Damaged(offset, FrameProblem::BlockLengthsDiffer { first: length, last }));
        }
        source.take(4);
        // A file may be made of thousands of made-up types: those beyond the first are counted as one.
        let known = self.facts.skipped_blocks.len() < 256 || self.facts.skipped_blocks.contains_key(&kind);
        *self.facts.skipped_blocks.entry(if known { kind } else { u32::MAX }).or_default() += 1;
        self.numbered_blocks += u64::from(takes_a_number(kind));
        Ok(())
    }

    /// The most bytes of a packet's block, before its interface is known.
    fn packet_block_limit(&self) -> u32 {
        let limit = self.interfaces.iter().map(|interface| interface.limit).max();
        limit.unwrap_or(STANDARD_LIMIT_BYTES).saturating_add(PACKET_BLOCK_EXTRA_BYTES)
    }

    #[inline(always)]
    fn enhanced(&mut self, source: &mut Source, length: u32) -> Result<Record, Stop> {
        self.packet_whole(source, length, 32)?;
        let block = source.window().get(..28).unwrap_or_default();
        let head = PacketHead {
            interface: u32_at(block, 8, self.big),
            units: u64::from(u32_at(block, 12, self.big)) << 32 | u64::from(u32_at(block, 16, self.big)),
            captured: u32_at(block, 20, self.big),
            original: u32_at(block, 24, self.big),
            header_bytes: 28,
        };
        self.packet(source, length, head, 4)
    }

    #[inline(never)]
    fn obsolete(&mut self, source: &mut Source, length: u32) -> Result<Record, Stop> {
        self.packet_whole(source, length, 32)?;
        let block = source.window();
        let drops = u16_at(block, 10, self.big);
        let head = PacketHead {
            interface: u16_at(block, 8, self.big).into(),
            units: u64::from(u32_at(block, 12, self.big)) << 32 | u64::from(u32_at(block, 16, self.big)),
            captured: u32_at(block, 20, self.big),
            original: u32_at(block, 24, self.big),
            header_bytes: 28,
        };
        let record = self.packet(source, length, head, 0)?;
        // 0xFFFF: the writer did not know.
        if drops != 0 && drops != u16::MAX {
            self.count_packet_drops(record.interface, drops.into());
        }
        Ok(record)
    }

    #[inline(never)]
    fn simple(&mut self, source: &mut Source, length: u32) -> Result<Record, Stop> {
        self.packet_whole(source, length, 16)?;
        let offset = source.offset();
        let original = u32_at(source.window(), 8, self.big);
        let Some(&interface) = self.interfaces.first() else {
            let problem = FrameProblem::UnknownInterface { interface: 0, known: 0 };
            return Err(Stop::Damaged(offset, problem));
        };
        // The captured length is not written: the lesser of the original and the interface's snapshot length (0: none).
        let room = length - 16;
        let snaplen = if interface.snaplen == 0 { u32::MAX } else { interface.snaplen };
        let captured = original.min(snaplen);
        if captured > room {
            return Err(Stop::Damaged(offset, FrameProblem::Overrun { captured, room }));
        }
        if captured > interface.limit {
            let problem = FrameProblem::ImplausibleLength { captured, limit: interface.limit };
            return Err(Stop::Damaged(offset, problem));
        }
        self.frames_without_time += 1;
        let place = source.take(length as usize) + 12;
        Ok(Record {
            offset,
            time: self.last_time,
            interface: interface.number,
            link_type: interface.link_type,
            fcs_bytes: interface.fcs_bytes,
            wire_len: original,
            place,
            captured,
        })
    }

    #[inline]
    fn packet_whole(&self, source: &mut Source, length: u32, least: u32) -> Result<(), Stop> {
        // The usual block is within any interface's limit: that of all interfaces is only then looked for.
        let limit =
            if length <= STANDARD_LIMIT_BYTES { STANDARD_LIMIT_BYTES } else { self.packet_block_limit() };
        self.whole(source, length, least, limit)
    }

    #[inline(always)]
    fn packet(
        &mut self,
        source: &mut Source,
        length: u32,
        head: PacketHead,
        drop_count_option: u16,
    ) -> Result<Record, Stop> {
        let offset = source.offset();
        let PacketHead { interface, units, captured, original, header_bytes } = head;
        let Some(&interface) = self.interfaces.get(interface as usize) else {
            let known = u32::try_from(self.interfaces.len()).unwrap_or(u32::MAX);
            return Err(Stop::Damaged(offset, FrameProblem::UnknownInterface { interface, known }));
        };
        if captured > interface.limit {
            let problem = FrameProblem::ImplausibleLength { captured, limit: interface.limit };
            return Err(Stop::Damaged(offset, problem));
        }
        let room = length - header_bytes - 4;
        if captured > room {
            return Err(Stop::Damaged(offset, FrameProblem::Overrun { captured, room }));
        }
        let mut fcs_bytes = interface.fcs_bytes;
        let after = header_bytes + padded(captured);
        // Most packets have no options.
        if after + 4 < length {
            let block = source.window().get(after as usize..length as usize - 4).unwrap_or_default();
            let mut drops = None;
            for (code, value) in options(block, self.big) {
                match code {
                    // Both packet blocks have flags under code 2; bits 5-8 are the length of the frame check sequence.
                    2 if value.len() == 4 => {
                        let bytes = (u32_at(value, 0, self.big) >> 5 & 0xF) as u8;
                        if bytes != 0 {
                            fcs_bytes = bytes;
                        }
                    }
                    code if code == drop_count_option => drops = u64_of(value, self.big),
                    _ => {}
                }
            }
            if let Some(drops) = drops {
                self.count_packet_drops(interface.number, drops);
            }
        }
        let told = interface.resolution.nanos(units).and_then(|time| time.checked_add(interface.time_offset));
        let time = told.map_or(self.last_time, Timestamp);
        self.frames_without_time += u64::from(told.is_none());
        self.last_time = time;
        let place = source.take(length as usize) + header_bytes as usize;
        Ok(Record {
            offset,
            time,
            interface: interface.number,
            link_type: interface.link_type,
            fcs_bytes,
            wire_len: original.max(captured),
            place,
            captured,
        })
    }

    #[cold]
    fn count_packet_drops(&mut self, interface: u32, drops: u64) {
        let sum = self.facts.packet_drops.entry(interface).or_default();
        *sum = sum.saturating_add(drops);
    }
}
