//! What one capture gave: the line of a summary file, and the input of an audit.

use crate::model::{Spans, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How reading a capture ended. `"complete"` in JSON, or where and why it stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// At its end.
    Complete,
    /// Everything before `frame` was read and counts; nothing after it did.
    Damaged {
        /// The number that the damaged frame would have had.
        frame: u64,
        /// Bytes from the start of the (decompressed) file to its header.
        offset: u64,
        /// What is wrong there.
        problem: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Damage {
    frame: u64,
    offset: u64,
    problem: String,
}

impl Serialize for End {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            End::Complete => serializer.serialize_str("complete"),
            End::Damaged { frame, offset, problem } => {
                Damage { frame: *frame, offset: *offset, problem: problem.clone() }.serialize(serializer)
            }
        }
    }
}

impl<'de> Deserialize<'de> for End {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Word(String),
            Damage(Damage),
        }
        match Either::deserialize(deserializer)? {
            Either::Word(word) if word == "complete" => Ok(End::Complete),
            Either::Word(word) => Err(serde::de::Error::custom(format!("`{word}` is no end of a capture"))),
            Either::Damage(Damage { frame, offset, problem }) => Ok(End::Damaged { frame, offset, problem }),
        }
    }
}

/// What one capture gave. frames = packets + duplicates counted among them + sum of skipped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureSummary {
    /// Its name as given.
    pub path: Arc<str>,
    /// SHA-256 of the file as stored; none where nobody asked for it.
    pub sha256: Option<String>,
    /// Size of the file as stored, bytes.
    pub bytes: u64,
    /// Format, byte order, resolution, compression.
    pub format: String,
    /// Link types met.
    pub link_types: Vec<String>,
    /// Frames read.
    pub frames: u64,
    /// Frames that gave a packet.
    pub packets: u64,
    /// Frames that gave none, by reason.
    pub skipped: BTreeMap<String, u64>,
    /// Earliest time.
    pub first_ts: Option<Timestamp>,
    /// Latest time.
    pub last_ts: Option<Timestamp>,
    /// Frames cut by the snapshot length.
    pub snaplen_cut: u64,
    /// Frames that the capturing machine dropped, by the file's own statistics; none where it has no statistics.
    pub drops: Option<u64>,
    /// Frames seen within 5 ms on another interface of this capture (included in `packets`).
    pub duplicates: u64,
    /// Frames seen within 5 ms on the same interface.
    pub same_interface_copies: u64,
    /// Frames of link upkeep, by kind.
    pub upkeep: BTreeMap<String, u64>,
    /// Packets that belong to no flow, by reason.
    pub without_flow: BTreeMap<String, u64>,
    /// ICMP errors whose quoted packet cannot be read.
    pub unreadable_quotes: u64,
    /// Frames without a time of their own.
    pub without_time: u64,
    /// Blocks of unknown kind, skipped.
    pub unknown_blocks: u64,
    /// Intervals in which frames came with gaps of at most 3 s.
    pub spans: Spans,
    /// How reading it ended.
    pub end: End,
    /// Rows of flows that begin in it: whole ones, or stretches with `--partial`.
    pub flows: u64,
    /// Rows of names from it: with `--partial` one a DNS message over UDP.
    pub names: u64,
}

impl CaptureSummary {
    /// Frames skipped for other reasons than being known not to be IP: what is not IP says nothing about the evidence.
    pub fn undecodable(&self) -> u64 {
        let skipped = self.skipped.iter().filter(|(reason, _)| !matches!(reason.as_str(), "arp" | "not-ip"));
        skipped.map(|(_, count)| count).sum()
    }

    /// Share of undecodable frames over several captures, in millionths.
    pub fn undecodable_ppm(captures: &[CaptureSummary]) -> u64 {
        let frames: u64 = captures.iter().map(|capture| capture.frames).sum();
        let undecodable: u64 = captures.iter().map(CaptureSummary::undecodable).sum();
        (undecodable * 1_000_000).checked_div(frames).unwrap_or_default()
    }
}
