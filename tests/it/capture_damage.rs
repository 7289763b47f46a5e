//! Damage at every byte: never a panic, never an endless walk, what was good before it counts.

use portproof::capture::write::{PcapStyle, PcapWriter};
use portproof::capture::*;
use portproof::decode::decode;
use portproof::model::Timestamp;
use std::io::{Cursor, Read, Write};

const FRAMES: u32 = 4;

fn frame_bytes(number: u32) -> Vec<u8> {
    let length = 60 + number as usize * 3;
    let mut bytes = vec![0u8; length];
    bytes[12..14].copy_from_slice(&[8, 0]);
    bytes[14..24].copy_from_slice(&[0x45, 0, 0, 46, 0, number as u8, 0, 0, 64, 17]);
    bytes[26..34].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
    bytes[34..42].copy_from_slice(&[0, 53, 0, 54, 0, 26, 0, 0]);
    bytes
}

fn pcap(byte_order: ByteOrder, nanoseconds: bool) -> Vec<u8> {
    let style = PcapStyle { byte_order, nanoseconds, ..PcapStyle::ETHERNET };
    let mut writer = PcapWriter::new(Vec::new(), style).expect("memory");
    for number in 0..FRAMES {
        let bytes = frame_bytes(number);
        writer.frame(Timestamp(i64::from(number) * 1_000), &bytes, bytes.len() as u32).expect("memory");
    }
    writer.into_inner()
}

/// A section header, an interface with options, a frame in each kind of packet block, statistics, an unknown block.
fn pcapng(big: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let word = |value: u32| if big { value.to_be_bytes() } else { value.to_le_bytes() };
    let half = |value: u16| if big { value.to_be_bytes() } else { value.to_le_bytes() };
    let mut block = |kind: u32, body: &[&[u8]]| {
        let mut body = body.concat();
        body.resize(body.len().next_multiple_of(4), 0);
        let length = word(body.len() as u32 + 12);
        out.extend([&word(kind), &length, body.as_slice(), &length].concat());
    };
    block(0x0A0D_0D0A, &[&word(0x1A2B_3C4D), &half(1), &half(0), &[0xFF; 8]]);
    let resolution = [&half(9)[..], &half(1), &[9, 0, 0, 0]].concat();
    block(1, &[&half(1), &half(0), &word(0), &resolution, &[0; 4]]);
    block(0x1234, &[b"unknown block"]);
    for number in 0..FRAMES {
        let bytes = frame_bytes(number);
        let length = word(bytes.len() as u32);
        let time = [word(0), word(number * 1_000)].concat();
        let mut padded = bytes.clone();
        padded.resize(bytes.len().next_multiple_of(4), 0);
        match number {
            0 => block(3, &[&length, &bytes]),
            1 => block(2, &[&half(0), &half(0), &time, &length, &length, &bytes]),
            _ => {
                let flags = [&half(2)[..], &half(4), &word(0), &[0; 4]].concat();
                block(6, &[&word(0), &time, &length, &length, &padded, &flags]);
            }
        }
    }
    let drops = [&half(5)[..], &half(8), &[0; 8], &[0; 4]].concat();
    block(5, &[&word(0), &word(0), &word(0), &drops]);
    out
}

/// A frame's offset and bytes.
type Seen = (u64, Vec<u8>);

/// Reads a capture through, decoding each frame; hands back the frames and how it ended.
fn read(bytes: &[u8]) -> Option<(Vec<Seen>, CaptureEnd)> {
    let mut reader =
        CaptureReader::from_read("memory", Box::new(Cursor::new(bytes.to_vec())), Digest::None).ok()?;
    let mut frames = Vec::new();
    let mut number = 0;
    while let Some(frame) = reader.next() {
        assert!(frame.number > number && frame.offset < bytes.len() as u64 * 1_100);
        assert!(frame.bytes.len() <= frame.wire_len as usize);
        number = frame.number;
        let _ = decode(&frame);
        frames.push((frame.offset, frame.bytes.to_vec()));
        assert!(frames.len() <= bytes.len(), "more frames than bytes");
    }
    assert!(reader.next().is_none(), "the end is final");
    let end = reader.end().cloned()?;
    if let CaptureEnd::Damaged { frame, offset, .. } = end {
        assert!(frame > number && frames.last().is_none_or(|last| last.0 < offset));
    }
    Some((frames, end))
}

fn samples() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("pcap little us", pcap(ByteOrder::Little, false)),
        ("pcap big ns", pcap(ByteOrder::Big, true)),
        ("pcapng little", pcapng(false)),
        ("pcapng big", pcapng(true)),
    ]
}

#[test]
fn every_sample_is_read_whole() {
    let expected: Vec<Vec<u8>> = (0..FRAMES).map(frame_bytes).collect();
    for (name, bytes) in samples() {
        let (frames, end) = read(&bytes).expect(name);
        assert_eq!(end, CaptureEnd::Complete, "{name}");
        assert!(frames.iter().map(|frame| &frame.1).eq(&expected), "{name}");
    }
}

/// Where a pcap file may end: behind its header and behind each record.
fn record_ends(whole: &[Seen]) -> Vec<usize> {
    std::iter::once(24)
        .chain(whole.iter().map(|(offset, bytes)| *offset as usize + 16 + bytes.len()))
        .collect()
}

/// Where a pcapng file may end: behind each block.
fn block_ends(bytes: &[u8], name: &str) -> Vec<usize> {
    let mut ends = vec![0];
    while let Some(&length) = bytes[ends[ends.len() - 1]..].get(4..).and_then(|rest| rest.first_chunk::<4>())
    {
        let length =
            if name.ends_with("big") { u32::from_be_bytes(length) } else { u32::from_le_bytes(length) };
        ends.push(ends[ends.len() - 1] + length as usize);
    }
    ends
}

#[test]
fn a_file_cut_at_any_byte_gives_its_whole_frames_and_the_place_of_the_cut() {
    for (name, bytes) in samples() {
        let (whole, _) = read(&bytes).expect(name);
        let ends = if name.starts_with("pcapng") { block_ends(&bytes, name) } else { record_ends(&whole) };
        for cut in 0..bytes.len() {
            let Some((frames, end)) = read(&bytes[..cut]) else {
                assert!(cut < 4, "{name} cut at {cut} is no capture");
                continue;
            };
            assert_eq!(frames, whole[..frames.len()], "{name} cut at {cut}");
            match end {
                // Only where a record or block ends is a cut file whole.
                CaptureEnd::Complete => assert!(ends.contains(&cut), "{name} cut at {cut}"),
                CaptureEnd::Damaged { frame, offset, problem } => {
                    assert_eq!(frame, frames.len() as u64 + 1, "{name} cut at {cut}");
                    assert!(offset as usize <= cut, "{name} cut at {cut}: {offset}");
                    let cut_short = matches!(
                        problem,
                        FrameProblem::Truncated { .. } | FrameProblem::HeaderTruncated { .. }
                    );
                    assert!(cut_short, "{name} cut at {cut}: {problem}");
                }
            }
        }
    }
}

#[test]
fn any_byte_may_be_wrong_and_what_stands_before_it_counts() {
    for (name, bytes) in samples() {
        let (whole, _) = read(&bytes).expect(name);
        for at in 0..bytes.len() {
            for wrong in [0x00, 0x01, 0x7F, 0x80, 0xFF, bytes[at] ^ 0x10] {
                let mut damaged = bytes.clone();
                damaged[at] = wrong;
                let Some((frames, _)) = read(&damaged) else { continue };
                let before = whole.iter().filter(|frame| frame.0 as usize + 16 + frame.1.len() + 16 < at);
                if at >= 64 {
                    for (good, read) in before.zip(&frames) {
                        assert_eq!(good, read, "{name} with {wrong:#x} at {at}");
                    }
                }
            }
        }
    }
}

/// A small generator (SplitMix64): the same bytes each time, on each machine.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

#[test]
fn no_bytes_make_decoding_panic() {
    let mut noise = Noise(7);
    let link_types = [0, 1, 9, 12, 50, 51, 101, 104, 105, 108, 113, 204, 228, 229, 239, 276];
    for round in 0..60_000u64 {
        let mut bytes: Vec<u8> = (0..noise.next() % 160).map(|_| noise.next() as u8).collect();
        // Most noise ends at once: give it the starts of layers that lead on.
        for _ in 0..noise.next() % 6 {
            let layers: [&[u8]; 9] = [
                &[8, 0, 0x45, 0, 0, 60, 0, 0, 0, 0, 64, 4, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8],
                &[0x86, 0xDD, 0x60, 0, 0, 0, 0, 40, 41, 64],
                &[0x60, 0, 0, 0, 0, 40, 0, 64],
                &[0x65, 0x58],
                &[0x88, 0x47, 0, 0, 1, 0, 0, 0, 0, 0],
                &[0xAA, 0xAA, 3, 0, 0, 0, 0x88, 0x70],
                &[0x45, 0, 0, 60, 0, 0, 0, 0, 64, 47, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0x65, 0x58],
                &[0x18, 0xC7, 0x12, 0xB5, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 1, 0],
                &[0x88, 0x64, 0x11, 0, 0, 1, 0, 0, 0, 0x21],
            ];
            let layer = layers[noise.next() as usize % layers.len()];
            let at = noise.next() as usize % (bytes.len() + 1);
            bytes.splice(at..at, layer.iter().copied());
        }
        let frame = Frame {
            number: round,
            offset: 0,
            time: Timestamp(0),
            interface: 0,
            link_type: LinkType(link_types[noise.next() as usize % link_types.len()]),
            fcs_bytes: (noise.next() % 5) as u8,
            wire_len: bytes.len() as u32 + (noise.next() % 3) as u32 * 40,
            bytes: &bytes,
        };
        let _ = decode(&frame);
    }
}

#[test]
fn layers_without_end_are_walked_to_a_depth_and_no_further() {
    let layers: [(&str, &[u8], &[u8]); 5] = [
        ("SNAP in SNAP", &[0; 12], &[0x88, 0x70, 0xAA, 0xAA, 3, 0, 0, 0]),
        ("VLAN in VLAN", &[0; 12], &[0x81, 0, 0, 1]),
        ("IPv4 in IPv4", &[0; 12], &[]),
        ("MPLS labels", &[0; 12], &[]),
        ("pseudowires", &[0; 12], &[]),
    ];
    let ipv4 = |bytes: &mut Vec<u8>| {
        for _ in 0..10_000 {
            bytes.extend([0x45, 0, 0, 0, 0, 0, 0, 0, 64, 4, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
        }
    };
    for (name, start, layer) in layers {
        let mut bytes = start.to_vec();
        match name {
            "IPv4 in IPv4" => {
                bytes.extend([8, 0]);
                ipv4(&mut bytes);
            }
            "MPLS labels" => {
                bytes.extend([0x88, 0x47]);
                bytes.resize(200_000, 0);
            }
            "pseudowires" => {
                bytes.extend([0x88, 0x47]);
                for _ in 0..10_000 {
                    bytes.extend([
                        0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x88, 0x47, 0x88, 0x47, 0x88, 0x47,
                    ]);
                }
            }
            _ => bytes.extend(layer.repeat(30_000)),
        }
        let frame = Frame {
            number: 1,
            offset: 0,
            time: Timestamp(0),
            interface: 0,
            link_type: LinkType(1),
            fcs_bytes: 0,
            wire_len: bytes.len() as u32,
            bytes: &bytes,
        };
        // It returns: that is the test.
        let _ = decode(&frame);
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

#[test]
fn compressed_captures_are_read_and_a_cut_in_them_is_damage() {
    let plain = pcap(ByteOrder::Little, true);
    let (whole, _) = read(&plain).expect("plain");
    let half = plain.len() / 2;
    let members = [gzip(&plain[..half]), gzip(&plain[half..])].concat();
    let zstd = zstd::encode_all(plain.as_slice(), 3).expect("memory");
    for (name, bytes, compression) in [
        ("gzip", gzip(&plain), Compression::Gzip),
        ("members", members, Compression::Gzip),
        ("zstd", zstd, Compression::Zstd),
    ] {
        let (frames, end) = read(&bytes).expect(name);
        assert_eq!((frames.len(), end), (whole.len(), CaptureEnd::Complete), "{name}");
        let reader = CaptureReader::from_read(name, Box::new(Cursor::new(bytes.clone())), Digest::None);
        assert_eq!(reader.expect(name).facts().compression, compression, "{name}");
        for cut in 1..bytes.len() {
            if let Some((frames, end)) = read(&bytes[..cut]) {
                assert!(frames.len() <= whole.len(), "{name} cut at {cut}");
                // The first of two members alone is a sound file of half a capture.
                assert!(!end.is_complete(), "{name} cut at {cut}");
            }
        }
    }
}

/// Gives zeros behind a header, without end.
struct Endless(u64);

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let got = buffer.len().min(usize::try_from(self.0).unwrap_or(usize::MAX));
        buffer[..got].fill(0);
        self.0 -= got as u64;
        Ok(got)
    }
}

#[test]
fn the_digest_is_that_of_the_whole_file_whatever_is_damaged() {
    use sha2::Digest as _;
    let mut bytes = pcap(ByteOrder::Big, false);
    let damaged_at = bytes.len();
    bytes.resize(damaged_at + 3_000_000, 0xEE);
    let mut reader = CaptureReader::from_read("x", Box::new(Cursor::new(bytes.clone())), Digest::Sha256)
        .expect("a capture");
    while reader.next().is_some() {}
    let Some(&CaptureEnd::Damaged { frame, offset, .. }) = reader.end() else { panic!("{:?}", reader.end()) };
    assert_eq!((frame, offset), (u64::from(FRAMES) + 1, damaged_at as u64));
    let expected: [u8; 32] = sha2::Sha256::digest(&bytes).into();
    let stored = reader.finish().expect("memory");
    assert_eq!(stored, Stored { bytes: bytes.len() as u64, sha256: Some(expected) });
}

#[test]
fn records_without_end_are_counted_not_kept() {
    let header = pcap(ByteOrder::Little, false)[..24].to_vec();
    let stream = Cursor::new(header).chain(Endless(16 * 1_000_000));
    let mut reader = CaptureReader::from_read("zeros", Box::new(stream), Digest::None).expect("a capture");
    let mut frames = 0;
    while reader.next().is_some() {
        frames += 1;
    }
    assert_eq!((frames, reader.end()), (1_000_000, Some(&CaptureEnd::Complete)));
}
