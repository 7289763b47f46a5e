//! Frames to bytes: the classic format, for tests and for slices of evidence.

use super::frame::LinkType;
use super::reader::ByteOrder;
use crate::model::{NANOS_PER_SECOND, Timestamp};
use std::io::{self, Write};

/// The style of a pcap file to write.
#[derive(Clone, Copy, Debug)]
pub struct PcapStyle {
    /// Byte order of all headers.
    pub byte_order: ByteOrder,
    /// Whether times are in nanoseconds; else in microseconds, the rest cut off.
    pub nanoseconds: bool,
    /// What frames begin with.
    pub link_type: LinkType,
    /// The snapshot length that the header announces, bytes; longer frames are cut to it.
    pub snaplen_bytes: u32,
}

impl PcapStyle {
    /// Ethernet, little-endian, nanoseconds, nothing cut.
    pub const ETHERNET: PcapStyle = PcapStyle {
        byte_order: ByteOrder::Little,
        nanoseconds: true,
        link_type: LinkType(1),
        snaplen_bytes: 262_144,
    };
}

/// Writes a pcap file (version 2.4).
#[derive(Debug)]
pub struct PcapWriter<W> {
    writer: W,
    style: PcapStyle,
}

impl<W: Write> PcapWriter<W> {
    /// Writes the file header.
    ///
    /// # Errors
    /// Those of `writer`.
    pub fn new(writer: W, style: PcapStyle) -> io::Result<Self> {
        let mut this = PcapWriter { writer, style };
        let magic: u32 = if style.nanoseconds { 0xA1B2_3C4D } else { 0xA1B2_C3D4 };
        let version: u32 = match style.byte_order {
            ByteOrder::Big => 2 << 16 | 4,
            ByteOrder::Little => 4 << 16 | 2,
        };
        this.words([magic, version, 0, 0, style.snaplen_bytes, style.link_type.0.into()])?;
        Ok(this)
    }

    fn words<const N: usize>(&mut self, words: [u32; N]) -> io::Result<()> {
        for word in words {
            self.writer.write_all(&match self.style.byte_order {
                ByteOrder::Big => word.to_be_bytes(),
                ByteOrder::Little => word.to_le_bytes(),
            })?;
        }
        Ok(())
    }

    /// Writes one frame, seen at `time`, of `wire_len` bytes on the wire. Times before 1970 or after 2106 do not fit the
    /// format and are moved to its ends.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn frame(&mut self, time: Timestamp, bytes: &[u8], wire_len: u32) -> io::Result<()> {
        let seconds = time.0.div_euclid(NANOS_PER_SECOND).clamp(0, u32::MAX.into()) as u32;
        let nanos = time.0.rem_euclid(NANOS_PER_SECOND) as u32;
        let fraction = if self.style.nanoseconds { nanos } else { nanos / 1_000 };
        let captured = u32::try_from(bytes.len()).unwrap_or(u32::MAX).min(self.style.snaplen_bytes);
        self.words([seconds, fraction, captured, wire_len.max(captured)])?;
        self.writer.write_all(bytes.get(..captured as usize).unwrap_or(bytes))
    }

    /// Hands back the writer.
    pub fn into_inner(self) -> W {
        self.writer
    }
}
