//! The map step: one capture to partial flows, DNS messages and a tally. Knows no site, no rules, no other capture.

use super::chosen::chosen;
use super::copies::{Copies, Copy};
use super::gaps::Gaps;
use super::watch::Watch;
use crate::audit::{CaptureSummary, End, Tunnels, Unreadable};
use crate::capture::{
    ByteOrder, CaptureEnd, CaptureFacts, CaptureReader, Choice, Chooser, Compression, FileFormat, Frame,
    FrameProblem,
};
use crate::decode::{
    DecodeOptions, Decoded, Packet, Payload, Plain, Shortfall, SkipReason, decode_datagram, decode_with,
};
use crate::flow::{
    Budget, Datagram, FlowTable, FragmentPiece, Observed, PartialFlow, Pieces, Reassembly, TableOptions,
};
use crate::model::{CaptureId, Endpoint, FramePoint, NotChosen, Spans, Transport, hex};
use crate::names::{Ahead, DnsLog, dns};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How captures are extracted.
#[derive(Clone, Debug)]
pub struct ExtractOptions {
    /// Count frames that another interface of the same capture showed within 5 ms (for comparison with other tools).
    pub keep_duplicates: bool,
    /// Compute SHA-256 of each capture.
    pub digest: bool,
    /// Captures read at the same time.
    pub jobs: usize,
    /// Conversations kept open at the same time, for each capture or part of one. Changes no audit.
    pub table_capacity: usize,
    /// For stretches already cut, over all captures: what is beyond waits in a temporary file. Changes no audit.
    pub budget: Arc<Budget>,
    /// Keep the first payload bytes of every conversation, as rows for `judge` carry them.
    pub keep_bytes: bool,
    /// Which frames count.
    pub choice: Choice,
    /// The ports of tunnels.
    pub decode: DecodeOptions,
    /// Who watches. Changes nothing unless reading is stopped.
    pub watch: Arc<Watch>,
    /// Least bytes of a part of a plain pcap file that a thread of its own reads, where there are more `jobs` than captures;
    /// none: a capture is read by one thread. What several read stands in [`Extract::further`]. Changes no audit.
    pub part_bytes: Option<u64>,
}

impl ExtractOptions {
    /// Conversations kept open unless told otherwise: 131,072, some 50 MiB. Fewer would cut long conversations more
    /// often, which costs time only; more would keep a flood of lone SYNs in memory that no cache holds.
    pub const TABLE_CAPACITY: usize = 1 << 17;

    /// Bytes of packed stretches that stay in memory unless told otherwise: 16 MiB, some 100,000 whole connections. More
    /// would make memory grow with the captures' length; what is beyond is written to a temporary file and read back, which
    /// costs a few percent of an audit.
    pub const PIECES_BYTES: usize = 16 << 20;

    /// Options that keep memory within `bytes`, as far as conversations are concerned: an eighth of it is for open ones, an
    /// eighth for those that wait. What remains is for the index of all of them, names and findings.
    #[must_use]
    pub fn within(self, bytes: usize) -> Self {
        let parts = if self.jobs < 2 { 1 } else { Self::PARTS_FOR_EACH_JOB * self.jobs };
        let for_each_part = bytes / 8 / Self::OPEN_BYTES / parts;
        ExtractOptions {
            table_capacity: Self::TABLE_CAPACITY.min(for_each_part.max(1 << 10)),
            budget: Arc::new(Budget::new(Self::PIECES_BYTES.min(bytes / 8))),
            ..self
        }
    }

    /// Bytes of a part that are worth a thread of its own: 16 MiB, read in some ten milliseconds.
    pub const PART_BYTES: u64 = 16 << 20;

    /// Parts of one capture at the most, for each thread. One each would do if all parts took the same time; what is over is for
    /// threads that are done before others, and each part has a table of its own until all are read.
    pub(super) const PARTS_FOR_EACH_JOB: usize = 2;

    /// Bytes of one open conversation: 384, its place in the table's index and in its queues, some first bytes.
    const OPEN_BYTES: usize = 512;
}

impl Default for ExtractOptions {
    fn default() -> Self {
        ExtractOptions {
            keep_duplicates: false,
            digest: false,
            jobs: 1,
            table_capacity: Self::TABLE_CAPACITY,
            budget: Arc::new(Budget::new(Self::PIECES_BYTES)),
            keep_bytes: false,
            choice: Choice::default(),
            decode: DecodeOptions::DEFAULT,
            watch: Arc::default(),
            part_bytes: None,
        }
    }
}

impl Extract {
    /// Messages cannot wait in a file, and there are more of them the longer the capture: stretches make room for them.
    pub(super) fn making_room(mut self) -> Extract {
        self.pieces.make_room(self.dns.lasting_bytes());
        self
    }

    /// This, and what was read of the same capture behind it.
    pub(super) fn followed_by(mut self, later: Extract) -> Extract {
        let mut summary = later.summary;
        summary.tunnels.merge(&self.summary.tunnels);
        let CaptureSummary { frames: frames_before, skipped, upkeep, without_flow, spans, .. } = self.summary;
        let Extract { pieces, dns, .. } = later;
        summary.frames += frames_before;
        summary.packets += self.summary.packets;
        summary.snaplen_cut += self.summary.snaplen_cut;
        summary.duplicates += self.summary.duplicates;
        summary.same_interface_copies += self.summary.same_interface_copies;
        summary.unreadable_quotes += self.summary.unreadable_quotes;
        summary.without_time += self.summary.without_time;
        summary.unknown_blocks += self.summary.unknown_blocks;
        summary.flows += self.summary.flows;
        summary.names += self.summary.names;
        for (into, from) in [
            (&mut summary.skipped, skipped),
            (&mut summary.upkeep, upkeep),
            (&mut summary.without_flow, without_flow),
        ] {
            from.into_iter().for_each(|(word, count)| *into.entry(word).or_default() += count);
        }
        summary.spans.merge(&spans);
        (summary.first_ts, summary.last_ts) = summary.spans.range().unzip();
        if let End::Damaged { frame, .. } | End::Interrupted { frame, .. } = &mut summary.end {
            *frame += frames_before;
        }
        self.further.push(Further { frames_before, pieces, dns });
        self.further.extend(
            later
                .further
                .into_iter()
                .map(|further| Further { frames_before: further.frames_before + frames_before, ..further }),
        );
        Extract { summary, ..self }
    }
}

impl ExtractOptions {
    pub(super) fn table(&self) -> TableOptions {
        TableOptions {
            capacity: self.table_capacity,
            budget: self.budget.clone(),
            keep_bytes: self.keep_bytes,
        }
    }
}

/// What one capture gave. All its points carry capture number 0 until captures are ranked.
#[derive(Debug, PartialEq)]
pub struct Extract {
    /// The tally.
    pub summary: CaptureSummary,
    /// Stretches of conversations.
    pub pieces: Pieces,
    /// DNS messages over UDP.
    pub dns: DnsLog,
    /// What other threads read of the same capture, in its order; the summary is of the whole.
    pub further: Vec<Further>,
}

/// What a later part of a capture gave.
#[derive(Debug, PartialEq)]
pub struct Further {
    /// Frames before it: all its points count from its own beginning.
    pub frames_before: u64,
    /// Stretches of conversations.
    pub pieces: Pieces,
    /// DNS messages over UDP.
    pub dns: DnsLog,
}

/// What all captures gave.
#[derive(Debug, Default, PartialEq)]
pub struct Extracted {
    /// Each capture that could be opened.
    pub captures: Vec<Extract>,
    /// Each that could not.
    pub unreadable: Vec<Unreadable>,
    /// How many threads may go on with it; 0 is one.
    pub jobs: usize,
}

impl Extracted {
    /// The captures, as they were named: what could not be opened, too.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        let unreadable = self.unreadable.iter().map(|unreadable| &*unreadable.path);
        self.captures.iter().map(|capture| &*capture.summary.path).chain(unreadable)
    }
}

/// Where a packet was seen: cooked captures tell the interface in the frame.
pub(super) fn interface_of(packet: &Packet<'_>, interface: u32) -> (u8, u32) {
    packet.link_interface.map_or((0, interface), |index| (1, index))
}

/// Extracts one capture.
pub fn extract(name: &str, mut reader: CaptureReader, options: &ExtractOptions) -> Extract {
    let mut mapper = Mapper::new(options);
    let mut chooser = options.choice.chooser();
    mapper.read(&mut reader, &mut chooser, options);
    let mut extract = mapper.finish(name, Source::of(reader)).making_room();
    extract.summary.chosen = chooser.map(|chooser| chosen(&options.choice, chooser));
    extract
}

/// What is known of a capture beside what the mapper made of its frames.
pub(super) struct Source {
    /// Size of the file as stored, bytes.
    pub bytes: u64,
    /// Its digest.
    pub sha256: Option<[u8; 32]>,
    /// Its format, in words.
    pub format: String,
    /// Link types met.
    pub link_types: Vec<String>,
    /// Frames cut by the snapshot length.
    pub snaplen_cut: u64,
    /// Frames lost while capturing; none where nobody counted.
    pub drops: Option<u64>,
    /// Frames without a time of their own.
    pub without_time: u64,
    /// Blocks of unknown kind.
    pub unknown_blocks: u64,
    /// How it ended.
    pub end: End,
}

impl Source {
    /// A file that was read.
    pub(super) fn of(reader: CaptureReader) -> Self {
        let facts = reader.facts();
        let end = match reader.end() {
            None | Some(CaptureEnd::Complete) => End::Complete,
            Some(CaptureEnd::Damaged { frame, offset, problem: FrameProblem::Interrupted }) => {
                End::Interrupted { frame: *frame, offset: *offset }
            }
            Some(CaptureEnd::Damaged { frame, offset, problem }) => {
                End::Damaged { frame: *frame, offset: *offset, problem: problem.to_string() }
            }
        };
        let (bytes, sha256, end) = match reader.finish() {
            Ok(stored) => (stored.bytes, stored.sha256, end),
            Err(error) => {
                let problem = format!("the rest of the file cannot be read: {error}");
                let damage = End::Damaged { frame: facts.frames + 1, offset: facts.bytes, problem };
                (facts.stored_bytes, None, if end == End::Complete { damage } else { end })
            }
        };
        Source {
            bytes,
            sha256,
            format: format_words(&facts),
            link_types: facts.link_types.iter().map(ToString::to_string).collect(),
            snaplen_cut: facts.snaplen_cut,
            drops: facts.drops,
            without_time: facts.frames_without_time,
            unknown_blocks: facts.skipped_blocks.values().sum(),
            end,
        }
    }
}

/// What can be seen of a mapper while it works.
pub(super) struct Look<'m> {
    pub frames: u64,
    pub packets: u64,
    pub duplicates: u64,
    pub skipped: &'m BTreeMap<String, u64>,
    pub spans: &'m Spans,
    pub dns: &'m DnsLog,
    /// Acknowledgements of data, and those of data that were not seen.
    pub acknowledged: (u64, u64),
}

/// Takes the frames of one capture, one by one.
pub(super) struct Mapper {
    table: FlowTable,
    pub(super) copies: Copies,
    keep_duplicates: bool,
    frames: u64,
    packets: u64,
    duplicates: u64,
    same_interface_copies: u64,
    unreadable_quotes: u64,
    skipped: BTreeMap<String, u64>,
    upkeep: BTreeMap<String, u64>,
    without_flow: BTreeMap<String, u64>,
    tunnels: Tunnels,
    pub(super) spans: Spans,
    dns: DnsLog,
    reassembly: Reassembly,
    /// For whoever follows: what is missing that nobody counted.
    gaps: Option<Gaps>,
}

fn count(map: &mut BTreeMap<String, u64>, word: &str) {
    match map.get_mut(word) {
        Some(count) => *count += 1,
        None => {
            map.insert(word.to_owned(), 1);
        }
    }
}

impl Mapper {
    /// None seen yet.
    pub(super) fn new(options: &ExtractOptions) -> Self {
        Mapper {
            table: FlowTable::new(options.table(), CaptureId::new(0)),
            copies: Copies::default(),
            keep_duplicates: options.keep_duplicates,
            frames: 0,
            packets: 0,
            duplicates: 0,
            same_interface_copies: 0,
            unreadable_quotes: 0,
            skipped: BTreeMap::new(),
            upkeep: BTreeMap::new(),
            without_flow: BTreeMap::new(),
            tunnels: Tunnels::default(),
            spans: Spans::default(),
            dns: DnsLog::default(),
            reassembly: Reassembly::default(),
            gaps: None,
        }
    }

    /// Takes the next frame, kept or left out by choice.
    ///
    /// All that each frame goes through, from its record to the flow that counts it, is inlined here, and what few frames need is
    /// not: first 400,000 frames of W2, 0.92 of the instructions (callgrind). Called one by one, each step reads from memory what
    /// the one before has just written there. For the same reason what is not inlined is given a packet of its own (`aside`): as
    /// long as nobody is told where the one at hand stands, it need not stand in memory.
    #[inline(always)]
    pub(super) fn frame(&mut self, frame: &Frame<'_>, kept: Result<(), NotChosen>, decode: &DecodeOptions) {
        let point = FramePoint { time: frame.time, capture: CaptureId::new(0), frame: frame.number };
        self.frames += 1;
        // A frame that the filter leaves out still shows that the capture went on; one outside the range of time does not:
        // what would have answered beyond the range is not looked at.
        if kept != Err(NotChosen::OutsideTimeRange) {
            self.spans.insert(frame.time);
        }
        if let Err(reason) = kept {
            return count(&mut self.skipped, reason.as_str());
        }
        // What follows is inlined for each of both: it knows what it goes on with.
        if let Some(plain) = Plain::v4(frame) {
            if let Some(packet) = plain.tcp() {
                return self.packet(packet, frame.interface, point, frame.wire_len);
            }
            if let Some(packet) = plain.udp(decode) {
                return self.packet(packet, frame.interface, point, frame.wire_len);
            }
        }
        self.other_frame(frame, point, decode);
    }

    /// The same of a frame that holds something else than a usual packet of IPv4.
    #[inline(never)]
    fn other_frame(&mut self, frame: &Frame<'_>, point: FramePoint, decode: &DecodeOptions) {
        let plain = Plain::v6(frame);
        if let Some(packet) = plain.and_then(Plain::tcp) {
            return self.packet(packet, frame.interface, point, frame.wire_len);
        }
        if let Some(packet) = plain.and_then(|plain| plain.udp(decode)) {
            return self.packet(packet, frame.interface, point, frame.wire_len);
        }
        // By reference: taken out, it would be copied.
        match &decode_with(frame, decode) {
            Decoded::Skipped(reason) => self.skip(*reason),
            Decoded::Packet(packet) => {
                if let Some(ends) = packet.tunnel_ends() {
                    self.tunnels.add(ends, 1);
                }
                self.packet(*packet, frame.interface, point, frame.wire_len);
            }
        }
    }

    /// For whoever follows the work while it goes on: what changed from one look to the next.
    pub(super) fn follow(&mut self) {
        self.table.follow();
    }

    /// For whoever keeps a journal of the work: what changed from one entry to the next.
    pub(super) fn keep_deltas(&mut self) {
        self.table.keep_deltas();
    }

    /// Bytes that what it keeps of flows and names takes, about.
    pub(super) fn kept_bytes(&self) -> usize {
        self.table.kept_bytes() + self.dns.kept_bytes()
    }

    /// How many stretches it would give now.
    pub(super) fn rows(&self) -> usize {
        self.table.cut() + self.table.open()
    }

    /// From now on acknowledgements are held against what was seen.
    pub(super) fn look_for_gaps(&mut self) {
        self.gaps.get_or_insert_default();
    }

    /// The table of open conversations, and what else can be seen of the work so far.
    pub(super) fn look(&mut self) -> (&mut FlowTable, Look<'_>) {
        let look = Look {
            frames: self.frames,
            packets: self.packets,
            duplicates: self.duplicates,
            skipped: &self.skipped,
            spans: &self.spans,
            dns: &self.dns,
            acknowledged: self.gaps.as_ref().map_or((0, 0), |gaps| (gaps.acknowledged, gaps.unseen)),
        };
        (&mut self.table, look)
    }

    /// Reads all frames that there are.
    pub(super) fn read(
        &mut self,
        reader: &mut CaptureReader,
        chooser: &mut Option<Chooser>,
        options: &ExtractOptions,
    ) {
        while let Some(frame) = reader.next() {
            let kept = chooser.as_mut().map_or(Ok(()), |chooser| chooser.keeps(&frame));
            self.frame(&frame, kept, &options.decode);
            // Interfaces are described before the first packet: only then is it known how many there are.
            if self.frames == 1 && reader.facts().interfaces > 1 {
                self.copies.expect_several();
            }
        }
    }

    fn skip(&mut self, reason: SkipReason) {
        if reason == SkipReason::Arp {
            count(&mut self.upkeep, "arp");
        }
        count(&mut self.skipped, reason.as_str());
    }

    #[inline(always)]
    fn packet(&mut self, packet: Packet<'_>, interface: u32, point: FramePoint, wire_len: u32) {
        self.packets += 1;
        // Memory is asked for here and waited for below.
        let ahead = dns_payload(&packet).map(|message| self.dns.ahead(message));
        let hashed = self.table.ahead(&packet);
        match self.copies.look(&packet, hashed, interface_of(&packet, interface), point.time) {
            Some(Copy::OtherInterface) => {
                self.duplicates += 1;
                if !self.keep_duplicates {
                    return;
                }
            }
            Some(Copy::SameInterface) => self.same_interface_copies += 1,
            None => {}
        }
        if let Some(gaps) = &mut self.gaps {
            let aside = packet;
            gaps.look(&aside);
        }
        if let Some(kind) = upkeep(&packet) {
            return count(&mut self.upkeep, kind);
        }
        if packet.fragment.is_some() {
            let aside = packet;
            return self.fragment(&aside, point, wire_len);
        }
        let message = ahead.and_then(|ahead| {
            let aside = packet;
            read_dns_ahead(&aside, &ahead, point, &mut self.dns)
        });
        let observed = self.table.observe_ahead(&packet, hashed, point, wire_len, message);
        self.tally(packet.shortfall, observed);
    }

    /// A fragment of a datagram.
    #[inline(never)]
    fn fragment(&mut self, packet: &Packet<'_>, point: FramePoint, wire_len: u32) {
        let piece = FragmentPiece::of(packet, point, wire_len);
        if let Some(datagram) = piece.and_then(|piece| self.reassembly.add(piece)) {
            self.datagram(&datagram);
        }
    }

    /// A datagram that was put together again.
    fn datagram(&mut self, datagram: &Datagram) {
        let Decoded::Packet(packet) = decode_datagram(&datagram.head, &datagram.bytes) else {
            return count(&mut self.without_flow, "transport-header-malformed");
        };
        let Some(&(point, _)) = datagram.frames.last() else { return };
        let message = read_dns(&packet, point, &mut self.dns);
        let observed = self.table.observe_datagram(&packet, &datagram.frames, message);
        self.tally(packet.shortfall, observed);
    }

    #[inline(always)]
    fn tally(&mut self, shortfall: Option<Shortfall>, observed: Observed) {
        match observed {
            Observed::Flow | Observed::Quote => {}
            Observed::UnreadableQuote => {
                self.unreadable_quotes += 1;
                count(&mut self.without_flow, "unreadable-icmp-quote");
            }
            Observed::NoTransport => count(
                &mut self.without_flow,
                match shortfall {
                    Some(Shortfall::TransportCut) => "transport-header-cut",
                    Some(Shortfall::TransportMalformed) => "transport-header-malformed",
                    Some(Shortfall::LaterFragment) | None => "later-fragment",
                },
            ),
        }
    }

    /// The tally so far; how many flows there are is not known before the end.
    pub(super) fn summary(&self, name: &str, source: Source) -> CaptureSummary {
        let range = self.spans.range();
        CaptureSummary {
            path: name.into(),
            sha256: source.sha256.map(|digest| hex(&digest)),
            bytes: source.bytes,
            format: source.format,
            link_types: source.link_types,
            frames: self.frames,
            packets: self.packets,
            skipped: self.skipped.clone(),
            first_ts: range.map(|(first, _)| first),
            last_ts: range.map(|(_, last)| last),
            snaplen_cut: source.snaplen_cut,
            drops: source.drops,
            duplicates: self.duplicates,
            same_interface_copies: self.same_interface_copies,
            upkeep: self.upkeep.clone(),
            without_flow: self.without_flow.clone(),
            tunnels: self.tunnels.clone(),
            unreadable_quotes: self.unreadable_quotes,
            without_time: source.without_time,
            unknown_blocks: source.unknown_blocks,
            spans: self.spans.clone(),
            chosen: None,
            live: None,
            unreadable: None,
            end: source.end,
            flows: 0,
            names: self.dns.len() as u64,
        }
    }

    /// All frames are in.
    pub(super) fn finish(self, name: &str, source: Source) -> Extract {
        let mut summary = self.summary(name, source);
        let mut pieces = self.table.finish();
        for piece in self.reassembly.finish() {
            if let Some(waiting) = PartialFlow::of_fragments(vec![piece]) {
                pieces.push(waiting);
            }
        }
        summary.flows = pieces.len() as u64;
        Extract { summary, pieces, dns: self.dns, further: Vec::new() }
    }
}

/// Keeps the DNS message that a UDP packet is: whether it is a response.
pub(super) fn read_dns(packet: &Packet<'_>, point: FramePoint, log: &mut DnsLog) -> Option<bool> {
    let ahead = log.ahead(dns_payload(packet)?);
    read_dns_ahead(packet, &ahead, point, log)
}

/// The same, once the log was asked for it.
fn read_dns_ahead(packet: &Packet<'_>, ahead: &Ahead, point: FramePoint, log: &mut DnsLog) -> Option<bool> {
    let Payload::Udp(udp) = packet.payload else { return None };
    let ends = (Endpoint::new(packet.src, udp.src_port), Endpoint::new(packet.dst, udp.dst_port));
    log.read_ahead(udp.payload, ahead, point, ends, Transport::Udp)
}

/// What a packet carries between a port of DNS and another.
#[inline(always)]
fn dns_payload<'p>(packet: &Packet<'p>) -> Option<&'p [u8]> {
    let Payload::Udp(udp) = packet.payload else { return None };
    (udp.src_port == dns::PORT || udp.dst_port == dns::PORT).then_some(udp.payload)
}

/// Format, resolution, byte order, compression, in words.
fn format_words(facts: &CaptureFacts) -> String {
    let mut words = facts.format.to_string();
    if facts.format == FileFormat::Pcap && facts.nanoseconds {
        words.push_str(" (ns)");
    }
    if facts.byte_order == ByteOrder::Big {
        words.push_str(", big-endian");
    }
    if facts.compression != Compression::None {
        words.push_str(&format!(", {}", facts.compression));
    }
    words
}

/// Link upkeep over IP: tallied as platform, in no flow (SEMANTICS section 1). DHCP has flows of its own here, which
/// `judge` tallies.
#[inline(always)]
fn upkeep(packet: &Packet<'_>) -> Option<&'static str> {
    match (packet.transport, packet.payload) {
        (Transport::Other(2), _) if packet.dst.is_multicast() => Some("igmp"),
        (Transport::Icmp6, Payload::Icmp(icmp)) => match (icmp.kind, packet.ttl) {
            (130..=132 | 143, 1) => Some("mld"),
            (133..=137, 255) => Some("neighbour-discovery"),
            _ => None,
        },
        _ => None,
    }
}
