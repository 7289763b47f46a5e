//! A frame as captured.

use crate::model::Timestamp;
use std::fmt;

/// What the bytes of a frame begin with: a LINKTYPE_ value of the tcpdump group's registry, its low 16 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkType(pub u16);

impl fmt::Display for LinkType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.pad("null"),
            1 => f.pad("ethernet"),
            9 => f.pad("ppp"),
            101 => f.pad("raw"),
            108 => f.pad("loop"),
            113 => f.pad("linux-sll"),
            228 => f.pad("ipv4"),
            229 => f.pad("ipv6"),
            276 => f.pad("linux-sll2"),
            other => f.pad(&format!("linktype-{other}")),
        }
    }
}

/// One frame, borrowed from the reader's buffer until the next is read.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Counted from 1 in its capture, so that it equals Wireshark's `frame.number`.
    pub number: u64,
    /// Bytes from the start of the (decompressed) file to this frame's record or block header.
    pub offset: u64,
    /// When it was captured. A pcapng simple packet has no time: it takes that of the frame before it (0 at first).
    pub time: Timestamp,
    /// Which interface of the capture saw it: counted from 0 over all sections; always 0 in a pcap file.
    pub interface: u32,
    /// What `bytes` begins with.
    pub link_type: LinkType,
    /// Bytes of frame check sequence at the end of a whole frame; they count in `wire_len`.
    pub fcs_bytes: u8,
    /// The frame's length on the wire, bytes; `bytes` is shorter where the snapshot length cut it.
    pub wire_len: u32,
    /// What was captured of it.
    pub bytes: &'a [u8],
}
