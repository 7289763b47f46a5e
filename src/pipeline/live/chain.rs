//! Segments on the disk: each under its number once it is whole, each in one line of a chain that no one can change
//! unnoticed; and what a run that ended unexpectedly left behind.
//!
//! `DIR/segments/NNNNNN/` holds the rows of a segment as `extract --partial` writes them, `DIR/packets/NNNNNN.pcapng` its
//! frames, `DIR/chain.jsonl` a line for each: what it holds, the digests of its files, the digest of the line before, its
//! own. While a segment is being made its rows are in `DIR/segments/.journal-NNNNNN.jsonl`.

use super::events::Notice;
use super::files::{Digested, Problem, digest_of, hex, remove, sync_directory, temporary};
use crate::audit::{CaptureSummary, End};
use crate::capture::{CaptureEnd, CaptureReader, Digest, Input};
use crate::flow::{PartialFlow, Stretch};
use crate::model::Timestamp;
use crate::names::{DnsLog, DnsObservation};
use crate::pipeline::{Extract, ExtractOptions, extract};
use crate::store::{self, Format};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file of a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentFile {
    /// Below the directory of the run.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: String,
}

/// One line of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Counted from 1 over all runs.
    pub segment: u64,
    /// The digest of the line before; empty in the first.
    pub previous: String,
    /// Its files.
    pub files: Vec<SegmentFile>,
    /// Its frames.
    pub frames: u64,
    /// Those that gave a packet.
    pub packets: u64,
    /// Those lost while capturing.
    pub drops: Option<u64>,
    /// Stretches of conversations.
    pub flows: u64,
    /// DNS messages.
    pub names: u64,
    /// Its first frame.
    pub first_ts: Option<Timestamp>,
    /// Its last frame.
    pub last_ts: Option<Timestamp>,
    /// Whether another run made the one before, so that nothing is known of the time between.
    pub gap_before: bool,
    /// Whether the run that made it ended unexpectedly, so that up to a second of it is missing.
    pub recovered: bool,
    /// SHA-256 of this line as it is with an empty digest.
    pub digest: String,
}

impl Link {
    /// The digest that its line should have.
    ///
    /// # Errors
    /// None that a line of texts and numbers could give.
    pub fn digest(&self) -> String {
        let bare = Link { digest: String::new(), ..self.clone() };
        hex(&Sha256::digest(serde_json::to_vec(&bare).unwrap_or_default()))
    }
}

/// The chain of a directory.
pub(super) struct Chain {
    out: PathBuf,
    /// The digest of the last line.
    last: String,
    next: u64,
    gap: bool,
    save: bool,
}

/// The journal of the segment at hand.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Entry {
    Segment { number: u64, name: Arc<str> },
    Stretch { serial: u64, flow: Box<PartialFlow> },
    Message(DnsObservation),
    Summary(Box<CaptureSummary>),
}

fn journal_path(out: &Path, number: u64) -> PathBuf {
    out.join("segments").join(format!(".journal-{number:06}.jsonl"))
}

impl Chain {
    /// Takes up the chain of a directory, or begins it. What an earlier run left unfinished becomes a segment, and it is told
    /// that nothing was seen since.
    pub(super) fn open(
        out: &Path,
        save: bool,
        options: &ExtractOptions,
    ) -> Result<(Chain, Option<Notice>), Problem> {
        let path = out.join("chain.jsonl");
        let mut chain = Chain { out: out.to_owned(), last: String::new(), next: 1, gap: false, save };
        let told = |error: &io::Error| Problem::new(&path, "cannot be read", error);
        let mut latest = None;
        let mut whole = 0;
        if path.exists() {
            let mut reader = BufReader::new(File::open(&path).map_err(|error| told(&error))?);
            let mut line = Vec::new();
            loop {
                line.clear();
                let length = reader.read_until(b'\n', &mut line).map_err(|error| told(&error))?;
                if length == 0 || line.last() != Some(&b'\n') {
                    break;
                }
                let problem = |what: String| Problem { path: path.display().to_string(), problem: what };
                let link: Link = serde_json::from_slice(&line).map_err(|error| {
                    problem(format!("the line of segment {} cannot be read: {error}", chain.next))
                })?;
                if link.digest != link.digest() || link.previous != chain.last {
                    return Err(problem(format!(
                        "the chain is broken at segment {}: its digest is not that of the line, or of the line before; \
                         begin a new directory",
                        link.segment
                    )));
                }
                chain.last = link.digest;
                chain.next = link.segment + 1;
                latest = link.last_ts.or(latest);
                whole += length as u64;
            }
            // A line that was being written when the machine stopped.
            let file = OpenOptions::new().write(true).open(&path).map_err(|error| told(&error))?;
            file.set_len(whole).map_err(|error| told(&error))?;
        }
        let earlier = chain.next > 1;
        let mut recovered = false;
        for number in chain.left_behind() {
            chain.next = number;
            if let Some(last) = chain.recover(options)? {
                latest = last.or(latest);
                recovered = true;
            }
        }
        chain.gap = earlier || recovered;
        let until = crate::capture::live::now();
        let notice = chain.gap.then_some(Notice::Gap { since: latest, until, recovered });
        Ok((chain, notice))
    }

    /// The number of the next segment.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Where journals stand.
    pub(super) fn journals(&self) -> Journals {
        Journals { out: self.out.clone(), save: self.save }
    }

    /// The numbers of segments that an earlier run began and did not enter into the chain, ascending: the one that it was
    /// writing, and the one that it had begun meanwhile.
    fn left_behind(&self) -> BTreeSet<u64> {
        let number = |name: &str| {
            let name = name.trim_start_matches('.').trim_start_matches("journal-");
            name.get(..6).and_then(|digits| digits.parse::<u64>().ok())
        };
        let mut numbers = BTreeSet::new();
        for directory in ["packets", "segments"] {
            let entries = fs::read_dir(self.out.join(directory)).into_iter().flatten().flatten();
            for entry in entries {
                let name = entry.file_name();
                let Some(number) = name.to_str().and_then(number) else { continue };
                if number >= self.next {
                    numbers.insert(number);
                } else if name.to_string_lossy().starts_with(".journal") {
                    // Of a segment that was written since.
                    remove(&entry.path());
                }
            }
        }
        numbers
    }

    fn packets(&self, number: u64) -> PathBuf {
        self.out.join("packets").join(format!("{number:06}.pcapng"))
    }

    /// Makes a segment of what an earlier run left unfinished: of its frames where they were saved, else of its journal.
    /// Hands back its latest frame.
    fn recover(&mut self, options: &ExtractOptions) -> Result<Option<Option<Timestamp>>, Problem> {
        let number = self.next;
        let (packets, journal) = (self.packets(number), journal_path(&self.out, number));
        let part = temporary(&packets);
        remove(&temporary(&self.rows(number)));
        let mut extract = None;
        let mut saved = None;
        if part.exists() || packets.exists() {
            let file = if packets.exists() { &packets } else { &part };
            let told = |error: io::Error| Problem::new(file, "cannot be recovered", &error);
            let whole = whole_bytes(file).map_err(told)?;
            if whole > 0 {
                let open = OpenOptions::new().write(true).open(file).map_err(told)?;
                open.set_len(whole).and_then(|()| open.sync_all()).map_err(told)?;
                if file == &part {
                    fs::rename(&part, &packets).map_err(told)?;
                }
                saved = Some(digest_of(&packets).map_err(told)?);
                let name = packets.display().to_string();
                let options = ExtractOptions { digest: true, keep_bytes: true, ..options.clone() };
                let reader = CaptureReader::open(&Input::file(&packets), Digest::Sha256);
                let reader =
                    reader.map_err(|error| Problem { path: name.clone(), problem: error.to_string() })?;
                extract = Some(extract_of(&name, reader, &options));
            } else {
                remove(file);
            }
        }
        if extract.is_none() && journal.exists() {
            extract = read_journal(&journal, number);
        }
        let Some(mut extract) = extract else {
            remove(&journal);
            return Ok(None);
        };
        let frames = extract.summary.frames;
        if saved.is_none() {
            extract.summary.end = End::Interrupted { frame: frames + 1, offset: 0 };
        }
        let last = extract.summary.last_ts;
        // What came before it was another run, if there was any.
        self.gap = false;
        self.write(number, &extract, saved.as_ref(), true)?;
        remove(&journal);
        Ok(Some(last))
    }

    /// The directory for the rows of a segment.
    pub(super) fn rows(&self, number: u64) -> PathBuf {
        self.out.join("segments").join(format!("{number:06}"))
    }

    /// Writes the rows of a segment, and its line of the chain.
    pub(super) fn write(
        &mut self,
        number: u64,
        extract: &Extract,
        saved: Option<&Digested>,
        recovered: bool,
    ) -> Result<Link, Problem> {
        let rows = self.rows(number);
        if !self.last.is_empty() && !self.path().exists() {
            // In a directory that was made anew a line would hang on one that nobody has.
            return Err(Problem::new(&self.path(), "cannot be written", &io::Error::other("it is gone")));
        }
        let part = temporary(&rows);
        let told = |error: io::Error| Problem::new(&rows, "cannot be written", &error);
        remove(&part);
        fs::create_dir_all(&part).map_err(told)?;
        let extension = Format::best_extension();
        let file = |name: &str| part.join(name);
        let (flows, names) = (file(&format!("flows.{extension}")), file(&format!("names.{extension}")));
        let summary = file("summary.jsonl");
        let refused = |error: store::StoreError| Problem { path: error.path, problem: error.problem };
        let name = &extract.summary.path;
        store::write_partial_flows(&text(&flows), [(name, &extract.pieces)].into_iter()).map_err(refused)?;
        store::write_partial_names(&text(&names), [(name, &extract.dns)].into_iter()).map_err(refused)?;
        store::write_summary(&text(&summary), std::slice::from_ref(&extract.summary)).map_err(refused)?;
        File::open(&part).and_then(|part| part.sync_all()).map_err(told)?;
        if rows.exists() {
            remove(&rows);
        }
        fs::rename(&part, &rows).and_then(|()| sync_directory(&rows)).map_err(told)?;
        let mut files = Vec::new();
        for path in [flows, names, summary] {
            let path = rows.join(path.file_name().unwrap_or_default());
            files.push(self.file(&digest_of(&path).map_err(told)?));
        }
        files.extend(saved.map(|saved| self.file(saved)));
        let summary = &extract.summary;
        let mut link = Link {
            segment: number,
            previous: self.last.clone(),
            files,
            frames: summary.frames,
            packets: summary.packets,
            drops: summary.drops,
            flows: summary.flows,
            names: summary.names,
            first_ts: summary.first_ts,
            last_ts: summary.last_ts,
            gap_before: std::mem::take(&mut self.gap),
            recovered,
            digest: String::new(),
        };
        link.digest = link.digest();
        self.append(&link)?;
        self.last.clone_from(&link.digest);
        self.next = number + 1;
        Ok(link)
    }

    fn file(&self, file: &Digested) -> SegmentFile {
        let below = file.path.strip_prefix(&self.out).unwrap_or(&file.path);
        SegmentFile { path: text(below), bytes: file.bytes, sha256: hex(&file.sha256) }
    }

    fn path(&self) -> PathBuf {
        self.out.join("chain.jsonl")
    }

    fn append(&self, link: &Link) -> Result<(), Problem> {
        let path = self.path();
        let told = |error: io::Error| Problem::new(&path, "cannot be written", &error);
        let mut line = serde_json::to_vec(link).unwrap_or_default();
        line.push(b'\n');
        let mut file = OpenOptions::new().create(true).append(true).open(&path).map_err(told)?;
        let before = file.metadata().map_err(told)?.len();
        let written = file.write_all(&line).and_then(|()| file.sync_all());
        if written.is_err() {
            // Half a line would part the next from the one before.
            let _ = file.set_len(before);
        }
        written.and_then(|()| sync_directory(&path)).map_err(told)
    }
}

/// Where the journals of a directory stand.
pub(super) struct Journals {
    out: PathBuf,
    save: bool,
}

impl Journals {
    /// Begins the journal of a segment. None where its frames are saved: they are all that is needed.
    pub(super) fn begin(&self, number: u64, name: &Arc<str>) -> Option<Journal> {
        if self.save {
            return None;
        }
        let path = journal_path(&self.out, number);
        let mut journal = Journal { path, file: None, bytes: 0, buffer: Vec::new(), told: false };
        journal.entry(&Entry::Segment { number, name: Arc::clone(name) });
        Some(journal)
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn extract_of(name: &str, reader: CaptureReader, options: &ExtractOptions) -> Extract {
    extract(name, reader, options)
}

/// Bytes of whole blocks at the beginning of a pcapng file.
fn whole_bytes(path: &Path) -> io::Result<u64> {
    let Ok(mut reader) = CaptureReader::open(&Input::file(path), Digest::None) else { return Ok(0) };
    while reader.next().is_some() {}
    Ok(match reader.end() {
        Some(CaptureEnd::Damaged { offset, .. }) => *offset,
        _ => fs::metadata(path)?.len(),
    })
}

/// What a journal holds, up to where it was cut off.
fn read_journal(path: &Path, number: u64) -> Option<Extract> {
    let mut reader = BufReader::new(File::open(path).ok()?);
    let (mut stretches, mut dns, mut summary) = (BTreeMap::new(), DnsLog::default(), None);
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line).ok()? == 0 {
            break;
        }
        let Ok(entry) = serde_json::from_slice::<Entry>(&line) else { break };
        match entry {
            // Of a segment that was finished since.
            Entry::Segment { number: of, .. } if of != number => return None,
            Entry::Segment { .. } => {}
            Entry::Stretch { serial, flow } => {
                stretches.insert(serial, *flow);
            }
            Entry::Message(message) => dns.push(message),
            Entry::Summary(told) => summary = Some(told),
        }
    }
    let mut summary = *summary?;
    let pieces: crate::flow::Pieces = stretches.into_values().collect();
    (summary.flows, summary.names) = (pieces.len() as u64, dns.len() as u64);
    Some(Extract { summary, pieces, dns, further: Vec::new() })
}

/// Bytes that wait for a disk that takes nothing: beyond, a crash costs more than a second.
const MOST_WAITING: usize = 32 << 20;

/// Rows of the segment at hand, as far as they are known: what is left of it if the machine stops.
pub(super) struct Journal {
    path: PathBuf,
    /// None before it is written for the first time.
    file: Option<File>,
    /// What of it is written.
    bytes: u64,
    buffer: Vec<u8>,
    /// Whether it is told that it cannot be written.
    told: bool,
}

impl Journal {
    fn entry(&mut self, entry: &Entry) {
        // Memory takes everything.
        let _ = serde_json::to_writer(&mut self.buffer, entry);
        self.buffer.push(b'\n');
    }

    /// Writes what changed, and sees to it that it is on the disk. What cannot be written waits for the next time; that is
    /// told once.
    pub(super) fn write(
        &mut self,
        stretches: &[Stretch],
        messages: &[DnsObservation],
        summary: CaptureSummary,
    ) -> Result<(), Problem> {
        for stretch in stretches {
            self.entry(&Entry::Stretch { serial: stretch.serial, flow: Box::new(stretch.flow.clone()) });
        }
        for message in messages {
            self.entry(&Entry::Message(message.clone()));
        }
        self.entry(&Entry::Summary(Box::new(summary)));
        match self.sync() {
            Ok(()) => {
                self.told = false;
                Ok(())
            }
            Err(error) => {
                if self.buffer.len() > MOST_WAITING {
                    self.buffer = Vec::new();
                }
                let told = std::mem::replace(&mut self.told, true);
                if told { Ok(()) } else { Err(Problem::new(&self.path, "cannot be written", &error)) }
            }
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                fs::create_dir_all(self.path.parent().unwrap_or(Path::new(".")))?;
                let file = File::create(&self.path)?;
                sync_directory(&self.path)?;
                self.file.insert(file)
            }
        };
        if let Err(error) = file.write_all(&self.buffer) {
            // Half an entry would end it for whoever reads it.
            let _ = file.set_len(self.bytes).and_then(|()| file.seek(SeekFrom::Start(self.bytes)));
            return Err(error);
        }
        self.bytes += self.buffer.len() as u64;
        self.buffer.clear();
        file.sync_data()?;
        if self.path.exists() { Ok(()) } else { Err(io::Error::other("its directory is gone")) }
    }

    /// The segment is written: it is needed no more.
    pub(super) fn end(self) {
        remove(&self.path);
    }
}
