//! Frames to bytes: the classic format, for tests and for slices of evidence; the block format, for what was seen live.

use super::frame::{Frame, LinkType};
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

/// Writes a pcapng file (draft-ietf-opsawg-pcapng, version 1.0): little-endian, one section, times in nanoseconds.
#[derive(Debug)]
pub struct PcapngWriter<W> {
    writer: W,
    block: Vec<u8>,
}

/// What a statistics block says of one interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterfaceCounts {
    /// Frames that the interface gave (isb_ifrecv).
    pub received: u64,
    /// Frames lost at the interface (isb_ifdrop).
    pub interface_dropped: u64,
    /// Frames lost in the operating system (isb_osdrop).
    pub system_dropped: u64,
}

impl<W: Write> PcapngWriter<W> {
    /// Writes the section's header; `application` is what wrote it.
    ///
    /// # Errors
    /// Those of `writer`.
    pub fn new(writer: W, application: &str) -> io::Result<Self> {
        let mut this = PcapngWriter { writer, block: Vec::new() };
        this.begin(0x0A0D_0D0A);
        this.u32(0x1A2B_3C4D);
        this.block.extend([1, 0, 0, 0]);
        // The section's length is not known yet.
        this.u64(u64::MAX);
        this.option(4, application.as_bytes());
        this.option(0, &[]);
        this.write_block()?;
        Ok(this)
    }

    /// Describes the next interface: they are numbered from 0.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn interface(&mut self, name: &str, link_type: LinkType, snaplen_bytes: u32) -> io::Result<()> {
        self.begin(1);
        self.block.extend(link_type.0.to_le_bytes());
        self.block.extend([0, 0]);
        self.u32(snaplen_bytes);
        self.option(2, name.as_bytes());
        // 10^-9 s.
        self.option(9, &[9]);
        self.option(0, &[]);
        self.write_block()
    }

    /// Writes one frame; its interface must have been described. A time before 1970 becomes 1970.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn frame(&mut self, frame: &Frame<'_>) -> io::Result<()> {
        self.commented_frame(frame, "")
    }

    /// The same, with a comment (opt_comment), which is what Wireshark shows of the packet first.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn commented_frame(&mut self, frame: &Frame<'_>, comment: &str) -> io::Result<()> {
        let nanos = u64::try_from(frame.time.0).unwrap_or(0);
        let captured = u32::try_from(frame.bytes.len()).unwrap_or(u32::MAX);
        self.begin(6);
        self.u32(frame.interface);
        self.u32((nanos >> 32) as u32);
        self.u32(nanos as u32);
        self.u32(captured);
        self.u32(frame.wire_len.max(captured));
        self.block.extend_from_slice(frame.bytes);
        self.pad();
        if !comment.is_empty() {
            self.option(1, comment.as_bytes());
        }
        if frame.fcs_bytes > 0 {
            // Bits 5 to 8 of the flags are the length of the frame check sequence.
            self.option(2, &(u32::from(frame.fcs_bytes & 0xF) << 5).to_le_bytes());
        }
        if frame.fcs_bytes > 0 || !comment.is_empty() {
            self.option(0, &[]);
        }
        self.write_block()
    }

    /// Writes what was lost of an interface, by its number.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn statistics(
        &mut self,
        interface: u32,
        time: Timestamp,
        counts: &InterfaceCounts,
    ) -> io::Result<()> {
        let nanos = u64::try_from(time.0).unwrap_or(0);
        self.begin(5);
        self.u32(interface);
        self.u32((nanos >> 32) as u32);
        self.u32(nanos as u32);
        self.option(4, &counts.received.to_le_bytes());
        self.option(5, &counts.interface_dropped.to_le_bytes());
        self.option(7, &counts.system_dropped.to_le_bytes());
        self.option(0, &[]);
        self.write_block()
    }

    /// Hands back the writer.
    pub fn into_inner(self) -> W {
        self.writer
    }

    /// The writer.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.writer
    }

    fn begin(&mut self, kind: u32) {
        self.block.clear();
        self.u32(kind);
        // The block's length comes here.
        self.u32(0);
    }

    fn u32(&mut self, value: u32) {
        self.block.extend(value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.block.extend(value.to_le_bytes());
    }

    fn pad(&mut self) {
        self.block.resize(self.block.len().next_multiple_of(4), 0);
    }

    /// Longer values than an option can hold are cut.
    fn option(&mut self, code: u16, value: &[u8]) {
        let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
        self.block.extend(code.to_le_bytes());
        self.block.extend(length.to_le_bytes());
        self.block.extend_from_slice(value.get(..length.into()).unwrap_or(value));
        self.pad();
    }

    fn write_block(&mut self) -> io::Result<()> {
        let length = u32::try_from(self.block.len() + 4)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a block of more than 4 GiB"))?;
        if let Some(place) = self.block.get_mut(4..8) {
            place.copy_from_slice(&length.to_le_bytes());
        }
        self.u32(length);
        self.writer.write_all(&self.block)
    }
}
