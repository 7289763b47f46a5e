//! What the layers hand to each other: bytes with their length on the wire, and what was learnt on the way.

use super::DecodeOptions;
use super::packet::{Decoded, SkipReason};

/// Tunnels, and other layers that hold a whole frame or packet, within one frame.
///
/// Real stacks have two or three; sixteen keeps the walk short on frames made to be deep.
const MAX_DEPTH: u8 = 16;

/// A layer: what was captured of it, and its length on the wire. `bytes` is never longer than `wire`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Region<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) wire: usize,
}

impl<'a> Region<'a> {
    #[inline]
    pub(super) fn new(bytes: &'a [u8], wire: usize) -> Self {
        Region { bytes, wire }
    }

    /// What follows a header of `count` bytes.
    #[inline]
    pub(super) fn after(self, count: usize) -> Self {
        Region { bytes: self.bytes.get(count..).unwrap_or_default(), wire: self.wire.saturating_sub(count) }
    }

    /// The layer that has, by its own header, `wire` bytes: what follows is padding or a trailer. A header that tells
    /// more than the frame has is believed: tools that cut frames do not always keep the original length.
    #[inline]
    pub(super) fn limit(self, wire: usize) -> Self {
        Region { bytes: self.bytes.get(..wire).unwrap_or(self.bytes), wire }
    }

    /// Sixteen bits in network order at `at`.
    #[inline]
    pub(super) fn u16_at(self, at: usize) -> Option<u16> {
        self.bytes.get(at..)?.first_chunk().map(|&word| u16::from_be_bytes(word))
    }

    /// Thirty-two bits in network order at `at`.
    #[inline]
    pub(super) fn u32_at(self, at: usize) -> Option<u32> {
        self.bytes.get(at..)?.first_chunk().map(|&word| u32::from_be_bytes(word))
    }

    /// Why a header of `need` bytes could not be read: cut, or never there.
    #[cold]
    pub(super) fn short<'b>(self, need: usize) -> Decoded<'b> {
        Decoded::Skipped(if self.wire < need { SkipReason::Malformed } else { SkipReason::HeaderCut })
    }
}

/// The VLAN identifier of a tag: 0 marks a priority, not a VLAN (802.1Q).
#[inline]
pub(super) fn vlan_of(tag: u16) -> Option<u16> {
    Some(tag & 0x0FFF).filter(|&identifier| identifier != 0)
}

/// What was learnt of the layers walked so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk<'o> {
    pub(super) options: &'o DecodeOptions,
    pub(super) vlan: Option<u16>,
    pub(super) vni: Option<u32>,
    pub(super) link_interface: Option<u32>,
    /// Whether the layers are a guess (by a UDP port, or a pseudowire): then lengths must agree.
    pub(super) strict: bool,
    pub(super) depth: u8,
}

impl<'o> Walk<'o> {
    #[inline]
    pub(super) fn new(options: &'o DecodeOptions) -> Self {
        Walk { options, vlan: None, vni: None, link_interface: None, strict: false, depth: 0 }
    }

    /// The walk one layer of encapsulation further in, unless it is deep enough.
    #[inline]
    pub(super) fn deeper(self) -> Option<Self> {
        (self.depth < MAX_DEPTH).then_some(Walk { depth: self.depth + 1, ..self })
    }
}
