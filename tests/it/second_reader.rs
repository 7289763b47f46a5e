//! Our readers of captures held against another program's, frame by frame: the `pcap-file` crate, written by others from
//! the same descriptions of the formats.
//!
//! Over `captures/` and, where it lies beside the repository, the collection in `../shared/captures`.

use crate::shared_captures::collection;
use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::{Block, PcapNgReader};
use portproof::capture::*;
use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::{Path, PathBuf};

/// Captures that the other reader reads and ours does not, with what is said of them, and why that is no mistake.
#[rustfmt::skip]
const EXCEPTIONS: [(&str, &str, &str); 2] = [
    ("libpcap__pcapng-invalid-vers-1.pcapng", "0 frames, Damaged { frame: 1, offset: 0, problem: Version { major: 0, minor: 1 } }; there 1, None",
     "there is no version 0.1: libpcap, whose test this is, and Wireshark refuse it as well"),
    ("libpcap__pcapng-invalid-vers-2.pcapng", "0 frames, Damaged { frame: 1, offset: 0, problem: Version { major: 1, minor: 1 } }; there 1, None",
     "nor a version 1.1; only 1.0 and 1.2 are said to be the same"),
];

/// What both say of a frame. A time is nanoseconds since the epoch, as far as 64 bits tell; simple packet blocks have none.
#[derive(Clone, PartialEq)]
struct Told {
    time: Option<i64>,
    wire_len: u32,
    bytes: Vec<u8>,
}

fn nanos(time: std::time::Duration) -> Option<i64> {
    Some(i64::try_from(time.as_nanos()).unwrap_or(i64::MAX))
}

/// The other reader's frames, and why it stopped if not at the end.
fn theirs(file: &[u8]) -> (Vec<Told>, Option<String>) {
    let mut frames = Vec::new();
    let mut tell = |time, wire_len, bytes: &[u8]| frames.push(Told { time, wire_len, bytes: bytes.to_vec() });
    let stopped = if file.starts_with(&[0x0A, 0x0D, 0x0D, 0x0A]) {
        let mut walk = || -> Result<(), String> {
            let mut reader = PcapNgReader::new(Cursor::new(file)).map_err(|error| error.to_string())?;
            while let Some(block) = reader.next_block() {
                match block.map_err(|error| error.to_string())?.0 {
                    Block::EnhancedPacket(packet) => {
                        tell(nanos(packet.timestamp), packet.original_len, &packet.data)
                    }
                    Block::Packet(packet) => tell(nanos(packet.timestamp), packet.original_len, &packet.data),
                    Block::SimplePacket(packet) => tell(None, packet.original_len, &packet.data),
                    _ => {}
                }
            }
            Ok(())
        };
        walk().err()
    } else {
        let mut walk = || -> Result<(), String> {
            let mut reader = PcapReader::new(Cursor::new(file)).map_err(|error| error.to_string())?;
            while let Some(packet) = reader.next_packet() {
                let packet = packet.map_err(|error| error.to_string())?;
                tell(nanos(packet.timestamp()), packet.orig_len(), packet.data());
            }
            Ok(())
        };
        walk().err()
    };
    (frames, stopped)
}

fn ours(file: &[u8]) -> Option<(Vec<Told>, CaptureEnd)> {
    let mut reader =
        CaptureReader::from_read("file", Box::new(Cursor::new(file.to_vec())), Digest::None).ok()?;
    let mut frames = Vec::new();
    while let Some(frame) = reader.next() {
        frames.push(Told { time: Some(frame.time.0), wire_len: frame.wire_len, bytes: frame.bytes.to_vec() });
    }
    Some((frames, reader.end().cloned()?))
}

/// What differs, in words.
fn difference(file: &[u8]) -> Option<String> {
    let (theirs, stopped) = theirs(file);
    let Some((ours, end)) = ours(file) else {
        return (!theirs.is_empty()).then(|| format!("not read here; {} frames there", theirs.len()));
    };
    for (index, (own, other)) in ours.iter().zip(&theirs).enumerate() {
        let what = [
            ("time", other.time.is_some_and(|time| own.time != Some(time))),
            ("length on the wire", own.wire_len != other.wire_len),
            ("bytes", own.bytes != other.bytes),
        ];
        let what: Vec<&str> = what.iter().filter(|(_, differs)| *differs).map(|(what, _)| *what).collect();
        if !what.is_empty() {
            return Some(format!("frame {}: {}", index + 1, what.join(", ")));
        }
    }
    // Where it refuses to go on, ours may; where it reached the end, ours must have as well.
    let short = ours.len() < theirs.len()
        || (stopped.is_none() && (ours.len() != theirs.len() || !end.is_complete()));
    short.then(|| format!("{} frames, {end:?}; there {}, {stopped:?}", ours.len(), theirs.len()))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_file() && !path.to_string_lossy().ends_with(".oracle.jsonl"))
        .collect();
    files.sort();
    files
}

/// Holds all captures of a folder against the other reader; hands back how many frames were equal, and what differs.
fn hold(folder: &Path) -> (usize, BTreeMap<String, String>) {
    let (mut equal, mut differences) = (0, BTreeMap::new());
    for path in files(folder) {
        let bytes = std::fs::read(&path).expect("readable");
        if bytes.starts_with(&[0x1f, 0x8b]) || bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            continue; // compressed: the other reader does not unpack
        }
        match difference(&bytes) {
            None => equal += theirs(&bytes).0.len(),
            Some(difference) => {
                differences
                    .insert(path.file_name().unwrap_or_default().to_string_lossy().into_owned(), difference);
            }
        }
    }
    (equal, differences)
}

#[test]
fn another_reader_finds_the_same_frames_in_the_captures_of_the_project() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("captures");
    let mut differences = BTreeMap::new();
    let mut equal = 0;
    for path in files(&folder)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "pcap" || e == "pcapng"))
    {
        let bytes = std::fs::read(&path).expect("readable");
        differences.extend(difference(&bytes).map(|difference| (path.clone(), difference)));
        equal += theirs(&bytes).0.len();
    }
    assert!(differences.is_empty(), "{differences:#?}");
    assert!(equal > 700, "only {equal} frames were held against each other");
}

#[test]
fn another_reader_finds_the_same_frames_in_public_captures() {
    let Some(root) = collection() else { return };
    let (mut equal, mut differences) = (0, BTreeMap::new());
    for set in ["normal", "hostile"] {
        let (held, differ) = hold(&root.join(set));
        equal += held;
        differences.extend(differ);
    }
    eprintln!("{equal} frames equal");
    for (file, difference, why) in EXCEPTIONS {
        assert_eq!(differences.remove(file).as_deref(), Some(difference), "{file} ({why})");
    }
    assert!(differences.is_empty(), "{differences:#?}");
    assert!(equal > 100_000, "only {equal} frames were held against each other");
}
