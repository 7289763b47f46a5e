//! One capture, whatever its format and compression, frame by frame.

use super::end::{CaptureEnd, FrameProblem};
use super::frame::{Frame, LinkType};
use super::input::{Input, InputSource};
use super::intake::Intake;
use super::patient;
use super::pcap::{Pcap, Record, Stop};
use super::pcapng::Pcapng;
use super::source::{Handle, Source};
use super::split::{Cut, Extent, From};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, BufReader, Cursor, ErrorKind, Read};
use std::sync::Arc;

/// Bytes that a decompressor reads at a time: large enough that system calls do not show.
const COMPRESSED_BUFFER_BYTES: usize = 128 * 1024;

/// Frames after which whoever watches is told: an atomic addition every 256 frames is not to be measured, and 256 frames of
/// a slow pipe are not long to wait for.
const FRAMES_TOLD_AT_ONCE: u64 = 256;

/// The file format of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileFormat {
    /// The classic format, draft-ietf-opsawg-pcap.
    Pcap,
    /// The block format, draft-ietf-opsawg-pcapng.
    Pcapng,
}

impl fmt::Display for FileFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            FileFormat::Pcap => "pcap",
            FileFormat::Pcapng => "pcapng",
        })
    }
}

/// The order in which the bytes of a number stand in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ByteOrder {
    /// The most significant byte first.
    Big,
    /// The least significant byte first.
    Little,
}

/// How a stored file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952, one or several members.
    Gzip,
    /// RFC 8878, one or several frames.
    Zstd,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        })
    }
}

/// Whether the bytes as stored are digested while they are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Digest {
    /// No digest: reading costs nothing more.
    #[default]
    None,
    /// SHA-256 (FIPS 180-4), in the same pass, on a thread of its own. It costs more than reading and decoding together.
    Sha256,
}

/// The file as stored, read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its length, bytes.
    pub bytes: u64,
    /// Its SHA-256, if [`Digest::Sha256`] was asked for.
    pub sha256: Option<[u8; 32]>,
}

/// What is known of a capture beside its frames. Grows while frames are read; final after the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureFacts {
    /// Its format.
    pub format: FileFormat,
    /// The byte order of its header, or of its latest section.
    pub byte_order: ByteOrder,
    /// Whether its times tell less than a microsecond (pcapng: those of some interface).
    pub nanoseconds: bool,
    /// How the file is compressed.
    pub compression: Compression,
    /// Link types of its interfaces.
    pub link_types: BTreeSet<LinkType>,
    /// Interfaces that it describes, over all sections; 1 in a pcap file.
    pub interfaces: u32,
    /// Sections; 1 in a pcap file.
    pub sections: u32,
    /// Bytes read so far of the file as stored.
    pub stored_bytes: u64,
    /// Bytes read so far after decompression, up to the end of the last whole record.
    pub bytes: u64,
    /// Frames read.
    pub frames: u64,
    /// Frames of which fewer bytes were captured than they had on the wire.
    pub snaplen_cut: u64,
    /// Frames whose record gives no time (pcapng simple packets).
    pub frames_without_time: u64,
    /// pcapng blocks that were skipped: block type to count (`u32::MAX`: all further types of a file with more than 256).
    pub skipped_blocks: BTreeMap<u32, u64>,
    /// Packets that the capture lost by its own statistics; `None` if it has none (a pcap file never has).
    ///
    /// Of each interface the last statistics block (isb_ifdrop + isb_osdrop), or the sum of the packets' own drop
    /// counts where that is larger; summed over the interfaces.
    pub drops: Option<u64>,
}

/// A capture that could not be opened. Says which, why, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {problem}")]
pub struct OpenError {
    /// The name of the input.
    pub name: String,
    /// Why.
    pub problem: OpenProblem,
}

/// Why a capture could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenProblem {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It has no byte, or none after decompression.
    #[error("the file is empty")]
    Empty,
    /// It begins like no capture.
    #[error("not a pcap or pcapng capture (it begins with {0})")]
    NotACapture(String),
    /// A Microsoft Network Monitor capture.
    #[error(
        "a Microsoft Network Monitor capture, which is not read; convert it first, for instance: \
         editcap -F pcapng IN.cap OUT.pcapng"
    )]
    NetMon,
    /// An event trace of Windows (`netsh trace`, `pktmon`).
    #[error(
        "a Windows event trace (ETL), which is not read; convert it first: pktmon etl2pcap IN.etl --out OUT.pcapng \
         (for traces of netsh: etl2pcapng IN.etl OUT.pcapng)"
    )]
    Etl,
    /// An LZ4, xz, bzip2 or zip file: only gzip and zstd are decompressed.
    #[error(
        "compressed with {0}, which is not read; decompress it first (gzip and zstd are read as they are)"
    )]
    Compression(&'static str),
}

#[derive(Debug)]
enum Format {
    Pcap(Pcap),
    Pcapng(Pcapng),
    /// The file header is damaged: there are no frames.
    Broken(FileFormat),
}

/// Reads frames from one capture, in file order. Memory is bounded by the largest frame, whatever the file's size.
pub struct CaptureReader {
    name: String,
    intake: Arc<Intake>,
    stored: Handle,
    source: Source,
    format: Format,
    compression: Compression,
    /// The number of the last frame (or numbered block).
    number: u64,
    frames: u64,
    snaplen_cut: u64,
    end: Option<CaptureEnd>,
    /// What it is to read.
    extent: Arc<Extent>,
    /// Where that ended when it last asked for more.
    until: u64,
    /// Bytes of the file before what it reads.
    before: u64,
}

impl fmt::Debug for CaptureReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CaptureReader")
            .field("name", &self.name)
            .field("frames", &self.frames)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

impl CaptureReader {
    /// Opens an input.
    ///
    /// # Errors
    /// It cannot be read, is empty, or is no pcap or pcapng capture. A capture that is damaged opens; see
    /// [`CaptureReader::end`].
    pub fn open(input: &Input, digest: Digest) -> Result<Self, OpenError> {
        Self::open_watched(input, digest, Arc::default())
    }

    /// Opens an input that somebody watches being read, and may stop. A capture whose reading was stopped ends with
    /// [`FrameProblem::Interrupted`], and has no digest.
    ///
    /// # Errors
    /// As for [`CaptureReader::open`].
    pub fn open_watched(input: &Input, digest: Digest, intake: Arc<Intake>) -> Result<Self, OpenError> {
        let file = match &input.source {
            InputSource::Stdin => patient::stdin(&intake),
            InputSource::File(path) => patient::file(path, &intake),
        };
        let built =
            file.map_err(OpenProblem::Io).and_then(|file| Self::build(&input.name, file, digest, intake));
        built.map_err(|problem| OpenError { name: input.name.clone(), problem })
    }

    /// Reads a capture from any byte stream: a file, a pipe, memory. `name` is what messages call it.
    ///
    /// # Errors
    /// As for [`CaptureReader::open`].
    pub fn from_read(name: &str, reader: Box<dyn Read + Send>, digest: Digest) -> Result<Self, OpenError> {
        Self::build(name, reader, digest, Arc::default())
            .map_err(|problem| OpenError { name: name.to_owned(), problem })
    }

    fn build(
        name: &str,
        reader: Box<dyn Read + Send>,
        digest: Digest,
        intake: Arc<Intake>,
    ) -> Result<Self, OpenProblem> {
        let mut stored = Handle::new(reader, digest == Digest::Sha256, Arc::clone(&intake));
        let first = first_bytes(&mut stored)?;
        let (compression, mut source) = decompressed(&stored, first)?;
        if !source.have(4) {
            if let Some(why) = source.failure() {
                return Err(OpenProblem::Io(io::Error::new(ErrorKind::InvalidData, why.to_owned())));
            }
            if source.window().is_empty() {
                return Err(OpenProblem::Empty);
            }
        }
        source.have(16);
        let magic = source.window().first_chunk().copied().unwrap_or_default();
        let mut end = None;
        let format = if Pcapng::begins(magic) {
            Format::Pcapng(Pcapng::new())
        } else if Pcap::begins(magic) {
            match Pcap::open(&mut source) {
                Ok(pcap) => Format::Pcap(pcap),
                Err(stop) => {
                    end = Some(ended(stop, 1, stored.interrupted()));
                    Format::Broken(FileFormat::Pcap)
                }
            }
        } else {
            return Err(no_capture(source.window()));
        };
        Ok(CaptureReader {
            name: name.to_owned(),
            intake,
            stored,
            source,
            format,
            compression,
            number: 0,
            frames: 0,
            snaplen_cut: 0,
            end,
            extent: Arc::new(Extent::whole()),
            until: u64::MAX,
            before: 0,
        })
    }

    /// Opens a plain pcap file to read it from a [`Cut`](super::Cut) on. What comes before is read already; hand it to
    /// `warm_up`. Frames are counted from 1 at the cut.
    ///
    /// # Errors
    /// As for [`CaptureReader::open`], or the file is no plain pcap file.
    pub fn open_at(
        input: &Input,
        intake: Arc<Intake>,
        cut: Cut,
        mut warm_up: impl FnMut(&Frame<'_>),
    ) -> Result<Self, OpenError> {
        let named = |problem| OpenError { name: input.name.clone(), problem };
        let whole = Self::open(input, Digest::None)?;
        let InputSource::File(path) = &input.source else { return Ok(whole) };
        let file = std::fs::File::open(path).map_err(|error| named(error.into()))?;
        let stored = Handle::new(Box::new(From { file, at: cut.warm_up }), false, Arc::clone(&intake));
        let source = Source::beginning_at(cut.warm_up, Box::new(stored.clone()));
        let mut reader = CaptureReader { stored, source, before: cut.warm_up, ..whole };
        reader.reads(Arc::new(Extent::new(cut.warm_up, cut.begin)));
        while let Some(frame) = reader.next() {
            warm_up(&frame);
        }
        (reader.number, reader.frames, reader.snaplen_cut) = (0, 0, 0);
        reader.intake = intake;
        reader.read_on();
        Ok(reader)
    }

    /// From here on it reads no more than this, of which others may take over what is ahead of it.
    pub fn reads(&mut self, extent: Arc<Extent>) {
        self.until = extent.until();
        self.extent = extent;
    }

    /// Whether the next record begins at `offset`, as far as this reader can tell.
    pub fn stands_at(&self, offset: u64) -> bool {
        self.source.offset() == offset && self.end == Some(CaptureEnd::Complete)
    }

    /// Goes on where its part ended, to the end of the file.
    pub fn read_on(&mut self) {
        if self.extent.until() <= self.source.offset() {
            self.end = None;
        }
        self.reads(Arc::new(Extent::whole()));
    }

    /// What messages call this capture.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The next frame, borrowed until the one after it is asked for; `None` at the end, of whichever kind.
    ///
    /// Not an `Iterator`: a frame borrows the buffer.
    #[allow(clippy::should_implement_trait)]
    #[inline(always)]
    pub fn next(&mut self) -> Option<Frame<'_>> {
        if self.end.is_some() {
            return None;
        }
        if let Format::Pcap(pcap) = &self.format
            && self.source.offset() < self.until
            && let Some(record) = pcap.usual(&mut self.source)
        {
            return Some(self.frame(record));
        }
        let record = self.record()?;
        Some(self.frame(record))
    }

    /// The next record, whatever it is.
    #[inline(never)]
    fn record(&mut self) -> Option<Record> {
        self.extent.reached(self.source.offset());
        self.until = self.extent.until();
        if self.source.offset() >= self.until {
            self.intake.add_frames(self.frames % FRAMES_TOLD_AT_ONCE);
            self.end = Some(CaptureEnd::Complete);
            return None;
        }
        let step = match &mut self.format {
            Format::Pcap(pcap) => pcap.next(&mut self.source),
            Format::Pcapng(pcapng) => {
                let step = pcapng.next(&mut self.source);
                self.number += std::mem::take(&mut pcapng.numbered_blocks);
                step
            }
            Format::Broken(_) => Err(Stop::Complete),
        };
        match step {
            Ok(record) => Some(record),
            Err(stop) => {
                self.intake.add_frames(self.frames % FRAMES_TOLD_AT_ONCE);
                self.end = Some(ended(stop, self.number + 1, self.stored.interrupted()));
                None
            }
        }
    }

    #[inline(always)]
    fn frame(&mut self, record: Record) -> Frame<'_> {
        self.number += 1;
        self.frames += 1;
        if self.frames.is_multiple_of(FRAMES_TOLD_AT_ONCE) {
            self.intake.add_frames(FRAMES_TOLD_AT_ONCE);
        }
        self.snaplen_cut += u64::from(record.captured < record.wire_len);
        Frame {
            number: self.number,
            offset: record.offset,
            time: record.time,
            interface: record.interface,
            link_type: record.link_type,
            fcs_bytes: record.fcs_bytes,
            wire_len: record.wire_len,
            bytes: self.source.slice(record.place, record.captured as usize),
        }
    }

    /// Bytes of further records that were read already: with few of them, the next frame may have to be waited for.
    pub fn bytes_at_hand(&self) -> usize {
        self.source.window().len()
    }

    /// How reading ended; `None` while there may be more frames, that is until [`CaptureReader::next`] gave `None`.
    pub fn end(&self) -> Option<&CaptureEnd> {
        self.end.as_ref()
    }

    /// What is known of the capture so far.
    pub fn facts(&self) -> CaptureFacts {
        let mut facts = CaptureFacts {
            format: FileFormat::Pcap,
            byte_order: ByteOrder::Little,
            nanoseconds: false,
            compression: self.compression,
            link_types: BTreeSet::new(),
            interfaces: 0,
            sections: 0,
            stored_bytes: self.before + self.stored.byte_count(),
            bytes: self.source.offset(),
            frames: self.frames,
            snaplen_cut: self.snaplen_cut,
            frames_without_time: 0,
            skipped_blocks: BTreeMap::new(),
            drops: None,
        };
        let order = |big| if big { ByteOrder::Big } else { ByteOrder::Little };
        match &self.format {
            Format::Pcap(pcap) => {
                facts.byte_order = order(pcap.big);
                facts.nanoseconds = pcap.nanos;
                facts.link_types.insert(pcap.link_type);
                facts.interfaces = 1;
                facts.sections = 1;
            }
            Format::Pcapng(pcapng) => {
                facts.format = FileFormat::Pcapng;
                facts.byte_order = order(pcapng.big);
                facts.nanoseconds = pcapng.facts.nanos;
                facts.link_types.clone_from(&pcapng.facts.link_types);
                facts.interfaces = pcapng.facts.interfaces;
                facts.sections = pcapng.facts.sections;
                facts.frames_without_time = pcapng.frames_without_time;
                facts.skipped_blocks.clone_from(&pcapng.facts.skipped_blocks);
                let mut drops = pcapng.facts.statistics_drops.clone();
                for (&interface, &count) in &pcapng.facts.packet_drops {
                    let sum = drops.entry(interface).or_default();
                    *sum = count.max(*sum);
                }
                facts.drops = drops.into_values().reduce(u64::saturating_add);
            }
            Format::Broken(format) => facts.format = *format,
        }
        facts
    }

    /// Reads the rest of the file as stored, also behind a damage, and tells its length and digest.
    ///
    /// # Errors
    /// The rest cannot be read: then there is no digest of the file.
    pub fn finish(mut self) -> io::Result<Stored> {
        if self.until != u64::MAX {
            // The rest is another reader's.
            return Ok(Stored { bytes: self.source.offset(), sha256: None });
        }
        let (bytes, sha256) = self.stored.drain()?;
        Ok(Stored { bytes: self.before + bytes, sha256 })
    }
}

fn ended(stop: Stop, frame: u64, interrupted: bool) -> CaptureEnd {
    match stop {
        Stop::Complete => CaptureEnd::Complete,
        // What was read ends anywhere, mostly within a record.
        Stop::Damaged(offset, _) if interrupted => {
            CaptureEnd::Damaged { frame, offset, problem: FrameProblem::Interrupted }
        }
        Stop::Damaged(offset, problem) => CaptureEnd::Damaged { frame, offset, problem },
    }
}

/// The first bytes of a stream, enough to tell a compression: fewer only where the stream is shorter.
fn first_bytes(stored: &mut Handle) -> Result<Vec<u8>, OpenProblem> {
    let mut first = vec![0; 16];
    let mut have = 0;
    while let Some(room) = first.get_mut(have..).filter(|room| !room.is_empty()) {
        match stored.read(room) {
            Ok(0) => break,
            Ok(got) => have += got,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    first.truncate(have);
    if first.is_empty() { Err(OpenProblem::Empty) } else { Ok(first) }
}

fn decompressed(stored: &Handle, first: Vec<u8>) -> Result<(Compression, Source), OpenProblem> {
    let compression = match first.as_slice() {
        [0x1F, 0x8B, 8, ..] => Compression::Gzip,
        // A frame, or a skippable frame before it.
        [0x28, 0xB5, 0x2F, 0xFD, ..] | [0x50..=0x5F, 0x2A, 0x4D, 0x18, ..] => Compression::Zstd,
        _ => return Ok((Compression::None, Source::new(&first, Box::new(stored.clone())))),
    };
    let whole = BufReader::with_capacity(COMPRESSED_BUFFER_BYTES, Cursor::new(first).chain(stored.clone()));
    let reader: Box<dyn Read + Send> = match compression {
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(whole)?),
        Compression::Gzip | Compression::None => Box::new(flate2::bufread::MultiGzDecoder::new(whole)),
    };
    Ok((compression, Source::new(&[], reader)))
}

/// The start of an ETL file's WMI_BUFFER_HEADER is a buffer size, a multiple of 1 KiB; its WNODE header has, 0x30 bytes
/// on, the buffer's flags. Nothing in it is a magic, so this asks for the size and the zeros that follow the used length.
fn looks_like_etl(first: &[u8]) -> bool {
    let word = |at: usize| super::pcap::u32_at(first, at, false);
    let (size, saved, current) = (word(0), word(4), word(8));
    first.len() >= 16
        && size.is_multiple_of(1024)
        && (1024..=16 * 1024 * 1024).contains(&size)
        && saved <= size
        && (72..=size).contains(&current)
}

fn no_capture(first: &[u8]) -> OpenProblem {
    match first {
        [b'G', b'M', b'B', b'U', ..] | [b'R', b'T', b'S', b'S', ..] => OpenProblem::NetMon,
        [0x04, 0x22, 0x4D, 0x18, ..] => OpenProblem::Compression("LZ4"),
        [0xFD, b'7', b'z', b'X', b'Z', ..] => OpenProblem::Compression("xz"),
        [b'B', b'Z', b'h', ..] => OpenProblem::Compression("bzip2"),
        [b'P', b'K', 3, 4, ..] => OpenProblem::Compression("zip"),
        _ if looks_like_etl(first) => OpenProblem::Etl,
        _ => {
            let shown: Vec<String> = first.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
            OpenProblem::NotACapture(shown.join(" "))
        }
    }
}
