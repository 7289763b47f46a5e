//! How reading a capture ended.

use std::fmt;

/// How reading a capture ended. Part of every result, so that no report can leave it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaptureEnd {
    /// The file ended where a record ended.
    Complete,
    /// Everything before `frame` was read and counts; nothing after it did.
    Damaged {
        /// The number that the damaged frame would have: Wireshark's `frame.number`, counted from 1.
        frame: u64,
        /// Bytes from the start of the (decompressed) file to the damaged record or block.
        offset: u64,
        /// What is wrong there.
        problem: FrameProblem,
    },
}

impl CaptureEnd {
    /// Whether the whole capture was read.
    pub fn is_complete(&self) -> bool {
        matches!(self, CaptureEnd::Complete)
    }
}

impl fmt::Display for CaptureEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CaptureEnd::Complete => f.pad("complete"),
            CaptureEnd::Damaged { frame, offset, problem } => {
                write!(f, "frame {frame}, at byte {offset}: {problem}")
            }
        }
    }
}

/// What is wrong with a record of a capture file. Lengths are bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameProblem {
    /// The file ends inside a record whose header is whole (a full disk, a capture tool that was killed).
    #[error("the file ends after {have} of the {need} bytes its header announces")]
    Truncated {
        /// Bytes that are there: of the packet in pcap, of the block in pcapng.
        have: u64,
        /// Bytes that the header announces.
        need: u64,
    },
    /// The file ends inside a file, record or block header.
    #[error("the file ends after {have} of the {need} bytes of a header")]
    HeaderTruncated {
        /// Bytes that are there.
        have: u64,
        /// Bytes of such a header.
        need: u64,
    },
    /// A length that no capture tool writes: what stands here is no record header.
    #[error("its header announces {captured} bytes; no capture tool writes more than {limit}")]
    ImplausibleLength {
        /// The captured length by the header.
        captured: u32,
        /// The most that is believed.
        limit: u32,
    },
    /// A pcapng block length is no multiple of 4, or too short for a block of its type.
    #[error(
        "its block length {length} is impossible (a multiple of 4, and at least {least} for this type of block)"
    )]
    BlockLength {
        /// The length that the block gives itself.
        length: u32,
        /// The least that a block of this type has.
        least: u32,
    },
    /// The two copies of a pcapng block's length contradict each other.
    #[error("its block length is {first} at its start and {last} at its end")]
    BlockLengthsDiffer {
        /// The length at the start of the block.
        first: u32,
        /// The length at its end.
        last: u32,
    },
    /// A pcapng packet announces more bytes than its block has room for.
    #[error("its header announces {captured} bytes; its block has room for {room}")]
    Overrun {
        /// The captured length by the header.
        captured: u32,
        /// Bytes that the block has for it.
        room: u32,
    },
    /// A pcapng packet of an interface that its section did not describe.
    #[error("it names interface {interface}; its section describes {known} so far")]
    UnknownInterface {
        /// The interface by the packet's block.
        interface: u32,
        /// Interfaces that the section described before it.
        known: u32,
    },
    /// A pcapng section header whose byte-order magic is neither 1A2B3C4D nor its reverse.
    #[error("its section header has the byte-order magic {magic:08X}, which tells no byte order")]
    ByteOrder {
        /// The magic, read big-endian.
        magic: u32,
    },
    /// A version of the file format that is not known (pcapng: neither 1.0 nor 1.2; pcap: not 2.x).
    #[error("version {major}.{minor} of the file format is unknown")]
    Version {
        /// Major version.
        major: u16,
        /// Minor version.
        minor: u16,
    },
    /// Nothing is wrong with it: reading was told to stop here.
    #[error("reading was interrupted")]
    Interrupted,
    /// The bytes could not be had: the compressed data are damaged, or the medium failed.
    #[error("reading failed: {0}")]
    Unreadable(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_capture_is_located_in_one_line() {
        let problem = FrameProblem::Truncated { have: 12, need: 66 };
        let end = CaptureEnd::Damaged { frame: 4212, offset: 611_040, problem };
        assert_eq!(
            end.to_string(),
            "frame 4212, at byte 611040: the file ends after 12 of the 66 bytes its header announces"
        );
        assert_eq!(CaptureEnd::Complete.to_string(), "complete");
    }
}
