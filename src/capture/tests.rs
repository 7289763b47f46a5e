//! Formats, as tables.

use super::write::{PcapStyle, PcapWriter};
use super::*;
use crate::model::Timestamp;
use std::io::Cursor;

fn open(bytes: &[u8]) -> Result<CaptureReader, OpenError> {
    CaptureReader::from_read("x.pcap", Box::new(Cursor::new(bytes.to_vec())), Digest::None)
}

/// All frames as (number, offset, time, interface, link type, wire length, captured length, FCS), the facts and the end.
#[allow(clippy::type_complexity)]
fn read(bytes: &[u8]) -> (Vec<(u64, u64, i64, u32, u16, u32, usize, u8)>, CaptureFacts, CaptureEnd) {
    let mut reader = open(bytes).expect("a capture");
    let mut frames = Vec::new();
    while let Some(f) = reader.next() {
        frames.push((
            f.number,
            f.offset,
            f.time.0,
            f.interface,
            f.link_type.0,
            f.wire_len,
            f.bytes.len(),
            f.fcs_bytes,
        ));
    }
    (frames, reader.facts(), reader.end().cloned().expect("an end"))
}

#[test]
fn a_written_pcap_is_read_back_in_every_style() {
    for byte_order in [ByteOrder::Big, ByteOrder::Little] {
        for nanoseconds in [false, true] {
            let style = PcapStyle { byte_order, nanoseconds, link_type: LinkType(113), snaplen_bytes: 64 };
            let mut writer = PcapWriter::new(Vec::new(), style).expect("memory");
            writer.frame(Timestamp(1_767_694_951_004_512_789), &[7; 60], 60).expect("memory");
            writer.frame(Timestamp(1_767_694_952_000_000_000), &[8; 100], 1500).expect("memory");
            let (frames, facts, end) = read(&writer.into_inner());
            let time = if nanoseconds { 1_767_694_951_004_512_789 } else { 1_767_694_951_004_512_000 };
            let expected =
                [(1, 24, time, 0, 113, 60, 60, 0), (2, 100, 1_767_694_952_000_000_000, 0, 113, 1500, 64, 0)];
            assert_eq!(frames, expected, "{style:?}");
            assert_eq!(
                (facts.byte_order, facts.nanoseconds, facts.snaplen_cut, facts.frames, facts.drops),
                (byte_order, nanoseconds, 1, 2, None)
            );
            assert_eq!((facts.bytes, facts.stored_bytes, end), (180, 180, CaptureEnd::Complete));
        }
    }
}

/// A little-endian pcap header of version 2.`minor` with snapshot length and network field, and words after it.
fn pcap(minor: u16, snaplen: u32, network: u32, words: &[u32]) -> Vec<u8> {
    let mut bytes = 0xA1B2_C3D4u32.to_le_bytes().to_vec();
    bytes.extend([2, 0]);
    bytes.extend(minor.to_le_bytes());
    for word in [&[0, 0, snaplen, network], words].concat() {
        bytes.extend(word.to_le_bytes());
    }
    bytes
}

#[test]
#[rustfmt::skip]
fn pcap_headers_are_read_as_the_registry_and_old_tools_have_them() {
    let one = [1, 2, 4, 9, 0xFFFF_FFFF];
    for (case, bytes, expected) in [
        ("link type in the low 16 bits",       pcap(4, 96, 0x0003_0071, &one),          (1_000_002_000, 113, 9, 4, 0)),
        ("frame check sequence of 4 bytes",    pcap(4, 96, 0x2400_0001, &one),          (1_000_002_000, 1, 9, 4, 4)),
        ("its length without its flag",        pcap(4, 96, 0x2000_0001, &one),          (1_000_002_000, 1, 9, 4, 0)),
        ("a fraction of a second or more",     pcap(4, 96, 1, &[1, 3_000_000, 4, 4, 0]), (4_000_000_000, 1, 4, 4, 0)),
        ("a negative fraction, as libpcap reads it", pcap(4, 96, 1, &[2, 0xffff_ffff, 4, 4, 0]), (1_999_999_000, 1, 4, 4, 0)),
        ("captured more than on the wire",     pcap(4, 96, 1, &[1, 2, 4, 3, 0]),        (1_000_002_000, 1, 4, 4, 0)),
        ("lengths swapped before version 2.3", pcap(2, 96, 1, &[1, 2, 9, 4, 0]),        (1_000_002_000, 1, 9, 4, 0)),
        ("lengths of 2.3 either way",          pcap(3, 96, 1, &[1, 2, 9, 4, 0]),        (1_000_002_000, 1, 9, 4, 0)),
    ] {
        let (frames, _, end) = read(&bytes);
        let frames: Vec<_> = frames.iter().map(|f| (f.2, f.4, f.5, f.6, f.7)).collect();
        assert_eq!((frames, end), (vec![expected], CaptureEnd::Complete), "{case}");
    }
    let mut kuznetsov = pcap(4, 96, 1, &[1, 2, 4, 9, 77, 88, 0xFFFF_FFFF]);
    kuznetsov[..4].copy_from_slice(&0xA1B2_CD34u32.to_le_bytes());
    let (frames, _, end) = read(&kuznetsov);
    assert_eq!((frames, end), (vec![(1, 24, 1_000_002_000, 0, 1, 9, 4, 0)], CaptureEnd::Complete));
}

#[test]
fn damage_in_a_pcap_is_located_and_named() {
    let damaged = |offset, problem| CaptureEnd::Damaged { frame: 2, offset, problem };
    for (more, expected) in [
        (&[0u32, 0][..], damaged(44, FrameProblem::HeaderTruncated { have: 8, need: 16 })),
        (&[0, 0, 66, 66, 0, 0, 0], damaged(44, FrameProblem::Truncated { have: 12, need: 66 })),
        (
            &[0, 0, 262_145, 66],
            damaged(44, FrameProblem::ImplausibleLength { captured: 262_145, limit: 262_144 }),
        ),
    ] {
        let (frames, _, end) = read(&pcap(4, 96, 1, &[&[1, 2, 4, 4, 0], more].concat()));
        assert_eq!((frames.len(), end), (1, expected));
    }
    // A larger snapshot length in the header, within reason, is believed.
    let (_, _, end) = read(&pcap(4, 1_000_000, 1, &[0, 0, 262_145, 262_145]));
    let problem = FrameProblem::Truncated { have: 0, need: 262_145 };
    assert_eq!(end, CaptureEnd::Damaged { frame: 1, offset: 24, problem });
    let (_, _, end) = read(&pcap(4, 96, 1, &[])[..20]);
    let problem = FrameProblem::HeaderTruncated { have: 20, need: 24 };
    assert_eq!(end, CaptureEnd::Damaged { frame: 1, offset: 0, problem });
}

#[test]
fn what_is_no_capture_is_refused_with_what_to_do() {
    let etl = [0, 0, 1, 0, 0x48, 0, 0, 0, 0x48, 2, 0, 0, 0, 0, 0, 0];
    for (bytes, expected) in [
        (&b""[..], "x.pcap: the file is empty"),
        (&[0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0], "x.pcap: the file is empty"),
        (b"GMBU\0\x02\0\0", "x.pcap: a Microsoft Network Monitor capture"),
        (b"RTSS\0\x02\0\0", "x.pcap: a Microsoft Network Monitor capture"),
        (&etl, "x.pcap: a Windows event trace (ETL)"),
        (b"BZh9....", "x.pcap: compressed with bzip2"),
        (b"PK\x03\x04....", "x.pcap: compressed with zip"),
        (b"#!/bin/sh\n", "x.pcap: not a pcap or pcapng capture (it begins with 23 21 2f 62)"),
        (b"\xd4", "x.pcap: not a pcap or pcapng capture (it begins with d4)"),
    ] {
        let message = open(bytes).expect_err("no capture").to_string();
        assert!(message.starts_with(expected), "{message}");
    }
    let missing = CaptureReader::open(&Input::file("no/such.pcap"), Digest::None).expect_err("missing");
    assert!(missing.to_string().starts_with("no/such.pcap: cannot be read: "), "{missing}");
}

/// Builds pcapng blocks in one byte order.
struct Blocks {
    big: bool,
    bytes: Vec<u8>,
}

impl Blocks {
    fn new(big: bool) -> Self {
        let mut this = Blocks { big, bytes: Vec::new() };
        this.section();
        this
    }

    fn word(&self, value: u32) -> Vec<u8> {
        if self.big { value.to_be_bytes().to_vec() } else { value.to_le_bytes().to_vec() }
    }

    fn half(&self, value: u16) -> Vec<u8> {
        if self.big { value.to_be_bytes().to_vec() } else { value.to_le_bytes().to_vec() }
    }

    fn option(&self, code: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = [self.half(code), self.half(value.len() as u16), value.to_vec()].concat();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn block(&mut self, kind: u32, body: &[u8]) -> &mut Self {
        let mut body = body.to_vec();
        body.resize(body.len().next_multiple_of(4), 0);
        let length = self.word(body.len() as u32 + 12);
        self.bytes.extend([self.word(kind), length.clone(), body, length].concat());
        self
    }

    fn section(&mut self) -> &mut Self {
        let body = [self.word(0x1A2B_3C4D), self.half(1), self.half(0), vec![0xFF; 8]].concat();
        self.block(0x0A0D_0D0A, &body)
    }

    fn interface(&mut self, link_type: u16, snaplen: u32, options: &[u8]) -> &mut Self {
        let body = [self.half(link_type), self.half(0), self.word(snaplen), options.to_vec()].concat();
        self.block(1, &body)
    }

    fn enhanced(&mut self, interface: u32, units: u64, bytes: &[u8], wire: u32, options: &[u8]) -> &mut Self {
        let mut data = bytes.to_vec();
        data.resize(bytes.len().next_multiple_of(4), 0);
        let body = [
            self.word(interface),
            self.word((units >> 32) as u32),
            self.word(units as u32),
            self.word(bytes.len() as u32),
            self.word(wire),
            data,
            options.to_vec(),
        ]
        .concat();
        self.block(6, &body)
    }
}

#[test]
fn sections_have_their_own_byte_order_and_interfaces_are_numbered_over_all() {
    let mut blocks = Blocks::new(false);
    blocks.interface(1, 0, &[]).interface(113, 0, &[]).enhanced(1, 5, b"abcde", 7, &[]);
    blocks.big = true;
    blocks.section().interface(101, 0, &[]).enhanced(0, 6, b"abc", 3, &[]);
    let (frames, facts, end) = read(&blocks.bytes);
    assert_eq!(end, CaptureEnd::Complete);
    assert_eq!(frames, [(1, 68, 5_000, 1, 113, 7, 5, 0), (2, 156, 6_000, 2, 101, 3, 3, 0)]);
    assert_eq!((facts.sections, facts.interfaces, facts.snaplen_cut, facts.nanoseconds), (2, 3, 1, false));
    assert_eq!(facts.link_types, [1, 101, 113].map(LinkType).into());
}

#[test]
#[rustfmt::skip]
fn times_follow_the_resolution_and_offset_of_their_interface() {
    let second = 1i64.to_le_bytes();
    let before = (-2i64).to_le_bytes();
    for (case, resolution, offset, units, expected) in [
        ("microseconds unless told",  None,       None,          7,           7_000),
        ("seconds",                   Some(0),    None,          7,           7_000_000_000),
        ("nanoseconds",               Some(9),    None,          7,           7),
        ("tenths of nanoseconds",     Some(10),   None,          79,          7),
        ("picoseconds",               Some(12),   None,          7_999,       7),
        ("finer than 64 bits tell",   Some(90),   None,          7_999,       0),
        ("powers of 2: 2^-10 s",      Some(0x8A), None,          512,         500_000_000),
        ("powers of 2: 2^-32 s",      Some(0xA0), None,          3 << 31,     1_500_000_000),
        ("powers of 2: absurdly fine", Some(0xFF), None,         u64::MAX,    0),
        ("an offset",                 None,       Some(&second), 7,           1_000_007_000),
        ("an offset back",            None,       Some(&before), 7,           -1_999_993_000),
        ("beyond 64 bits",            Some(0),    None,          u64::MAX,    0),
    ] {
        let mut blocks = Blocks::new(false);
        let mut options = Vec::new();
        if let Some(resolution) = resolution { options.extend(blocks.option(9, &[resolution])); }
        if let Some(offset) = offset { options.extend(blocks.option(14, offset)); }
        blocks.interface(1, 0, &options).enhanced(0, units, b"x", 1, &[]);
        let (frames, facts, _) = read(&blocks.bytes);
        assert_eq!(frames.first().map(|f| f.2), Some(expected), "{case}");
        // What no time can tell is none, and counted.
        assert_eq!(facts.frames_without_time, u64::from(case.starts_with("beyond")), "{case}");
    }
}

#[test]
fn simple_and_obsolete_packets_are_frames_and_custom_blocks_take_a_number() {
    let mut blocks = Blocks::new(true);
    blocks.interface(1, 4, &[]);
    let simple = [blocks.word(9), b"abcd".to_vec()].concat();
    let obsolete = [
        blocks.half(0),
        blocks.half(3),
        blocks.word(0),
        blocks.word(8),
        blocks.word(4),
        blocks.word(4),
        b"abcd".to_vec(),
    ]
    .concat();
    blocks.block(3, &simple).block(0x0BAD, b"pen!").block(2, &obsolete).block(3, &simple).block(4, b"names");
    let (frames, facts, end) = read(&blocks.bytes);
    let short: Vec<_> = frames.iter().map(|f| (f.0, f.2, f.5, f.6)).collect();
    assert_eq!((short, end), (vec![(1, 0, 9, 4), (3, 8_000, 4, 4), (4, 8_000, 9, 4)], CaptureEnd::Complete));
    assert_eq!((facts.frames, facts.frames_without_time, facts.drops), (3, 2, Some(3)));
    assert_eq!(facts.skipped_blocks, [(4, 1), (0x0BAD, 1)].into());
}

#[test]
fn drops_are_the_last_statistics_of_each_interface_or_the_packets_own_counts() {
    let mut blocks = Blocks::new(false);
    blocks.interface(1, 0, &[]).interface(1, 0, &[]);
    let count = |blocks: &Blocks, code, count: u64| blocks.option(code, &count.to_le_bytes());
    let statistics = |blocks: &Blocks, interface, ifdrop, osdrop| {
        let options = [count(blocks, 4, 1_000), count(blocks, 5, ifdrop), count(blocks, 7, osdrop)].concat();
        [blocks.word(interface), blocks.word(0), blocks.word(0), options].concat()
    };
    let (first, last) = (statistics(&blocks, 0, 5, 1), statistics(&blocks, 0, 7, 2));
    let own = count(&blocks, 4, 3);
    blocks.block(5, &first).block(5, &last);
    assert_eq!(read(&blocks.bytes).1.drops, Some(9));
    blocks.enhanced(1, 0, b"x", 1, &own).enhanced(1, 0, b"x", 1, &own).enhanced(0, 0, b"x", 1, &own);
    assert_eq!(read(&blocks.bytes).1.drops, Some(9 + 6));
}

#[test]
fn the_frame_check_sequence_is_told_by_the_interface_or_by_the_packet() {
    let mut blocks = Blocks::new(false);
    let (four, flags) = (blocks.option(13, &[4]), blocks.option(2, &(2u32 << 5).to_le_bytes()));
    blocks.interface(1, 0, &four).enhanced(0, 0, b"x", 1, &[]).enhanced(0, 0, b"x", 1, &flags);
    let fcs: Vec<u8> = read(&blocks.bytes).0.iter().map(|f| f.7).collect();
    assert_eq!(fcs, [4, 2]);
}

#[test]
fn damage_in_a_pcapng_is_located_and_named() {
    let sound = || {
        let mut blocks = Blocks::new(false);
        blocks.interface(1, 0, &[]).enhanced(0, 0, b"abcd", 4, &[]);
        blocks
    };
    let at = sound().bytes.len() as u64;
    let body = |blocks: &Blocks, captured: u32| {
        [
            blocks.word(0),
            blocks.word(0),
            blocks.word(0),
            blocks.word(captured),
            blocks.word(captured),
            vec![0; 4],
        ]
        .concat()
    };
    type Break = fn(&mut Blocks, &dyn Fn(&Blocks, u32) -> Vec<u8>);
    let cases: [(Break, FrameProblem); 7] = [
        (
            |blocks, _| blocks.bytes.extend([6, 0, 0, 0, 33, 0, 0, 0, 0, 0, 0, 0]),
            FrameProblem::BlockLength { length: 33, least: 32 },
        ),
        (
            |blocks, _| blocks.bytes.extend([9, 9, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0]),
            FrameProblem::BlockLength { length: 8, least: 12 },
        ),
        (
            |blocks, _| {
                blocks.block(99, b"abcd");
                blocks.bytes.truncate(blocks.bytes.len() - 4);
                blocks.bytes.extend([20, 0, 0, 0]);
            },
            FrameProblem::BlockLengthsDiffer { first: 16, last: 20 },
        ),
        (
            |blocks, body| {
                let body = body(blocks, 5);
                blocks.block(6, &body);
            },
            FrameProblem::Overrun { captured: 5, room: 4 },
        ),
        (
            |blocks, _| {
                blocks.enhanced(1, 0, b"x", 1, &[]);
            },
            FrameProblem::UnknownInterface { interface: 1, known: 1 },
        ),
        (
            |blocks, _| blocks.bytes.extend([10, 13, 13, 10, 28, 0, 0, 0, 1, 2, 3, 4]),
            FrameProblem::ByteOrder { magic: 0x0102_0304 },
        ),
        (
            |blocks, _| {
                let body = [blocks.word(0x1A2B_3C4D), blocks.half(2), blocks.half(0), vec![0; 8]].concat();
                blocks.block(0x0A0D_0D0A, &body);
            },
            FrameProblem::Version { major: 2, minor: 0 },
        ),
    ];
    for (break_it, problem) in cases {
        let mut blocks = sound();
        break_it(&mut blocks, &body);
        blocks.enhanced(0, 0, b"never read", 10, &[]);
        let (frames, _, end) = read(&blocks.bytes);
        assert_eq!((frames.len(), end), (1, CaptureEnd::Damaged { frame: 2, offset: at, problem }));
    }
    // A block that announces more than there is takes no memory for it.
    let mut blocks = sound();
    blocks.bytes.extend([10, 13, 13, 10, 0, 0, 0xFF, 0, 0x4D, 0x3C, 0x2B, 0x1A]);
    let problem = FrameProblem::Truncated { have: 12, need: 0xFF_0000 };
    assert_eq!(read(&blocks.bytes).2, CaptureEnd::Damaged { frame: 2, offset: at, problem });
}
