//! Segments on the disk: each under its number once it is whole, each in one line of a chain that no one can change
//! unnoticed; and what a run that ended unexpectedly left behind.
//!
//! `DIR/segments/NNNNNN/` holds the rows of a segment as `extract --partial` writes them, `DIR/packets/NNNNNN.pcapng` its
//! frames, `DIR/chain.jsonl` a line for each: what it holds, the digests of its files, the digest of the line before, its
//! own. While a segment is being made its rows are in `DIR/segments/.journal-NNNNNN`.

use super::events::Notice;
use super::files::{Digested, Problem, digest_of, remove, sync_directory, temporary};
use super::{journal, unjudged};
use crate::audit::End;
use crate::capture::{CaptureEnd, CaptureReader, Digest, Input};
use crate::model::{Timestamp, hex};
use crate::pipeline::{Extract, ExtractOptions, extract};
use crate::store::{self, Effort, Format};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

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
    /// Its segments when it was taken up.
    segments: Vec<u64>,
    /// What an earlier run left and cannot be read.
    unread: Vec<Problem>,
    /// Segments that an earlier run left unfinished, ascending. No segment of this run is written before they are: the chain
    /// takes none but in order.
    left: BTreeSet<u64>,
    /// How they are made of its frames.
    options: ExtractOptions,
    /// Why they wait.
    waits: Option<Problem>,
    /// Bytes of whole lines, where half a line still stands behind them.
    torn: Option<u64>,
}

fn journal_path(out: &Path, number: u64) -> PathBuf {
    out.join("segments").join(format!(".journal-{number:06}"))
}

impl Chain {
    /// Takes up the chain of a directory, or begins it. What an earlier run left unfinished becomes a segment, and it is told
    /// that nothing was seen since. Where the disk does not take that now it waits ([`Chain::recover_left`]): watching is worth
    /// more. Only what is no chain, or a broken one, is refused.
    pub(super) fn open(
        out: &Path,
        save: bool,
        options: &ExtractOptions,
    ) -> Result<(Chain, Vec<Notice>), Problem> {
        let path = out.join("chain.jsonl");
        let mut chain = Chain {
            out: out.to_owned(),
            last: String::new(),
            next: 1,
            gap: false,
            save,
            segments: Vec::new(),
            unread: Vec::new(),
            left: BTreeSet::new(),
            options: options.clone(),
            waits: None,
            torn: None,
        };
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
                chain.segments.push(link.segment);
                latest = link.last_ts.or(latest);
                whole += length as u64;
            }
            // A line that was being written when the machine stopped.
            let length = fs::metadata(&path).map_err(|error| told(&error))?.len();
            chain.torn = (length > whole).then_some(whole);
        }
        let earlier = chain.next > 1;
        chain.left = chain.left_behind();
        let unfinished = chain.left.last().copied();
        let recovered = match chain.recover_all() {
            Ok(recovered) => recovered,
            Err(problem) => {
                chain.next = unfinished.map_or(chain.next, |last| last + 1);
                let told = format!("{}: what an earlier run left waits until it can", problem.problem);
                chain.waits = Some(Problem { problem: told, ..problem });
                None
            }
        };
        latest = recovered.flatten().or(latest);
        let recovered = recovered.is_some();
        let until = crate::capture::live::now();
        // Watching is worth more than what was not audited. While something waits the lists stay as they are, too: what it
        // belongs to is in them.
        let taken_over = match &chain.waits {
            Some(_) => Ok(true),
            None => unjudged::take_over(out, &chain.segments),
        };
        let (left, refused) = match taken_over {
            Ok(left) if chain.waits.is_some() => (left, None),
            Ok(left) => (left, chain.begin_window(1, chain.next).err()),
            Err(problem) => (false, Some(problem)),
        };
        chain.unread.extend(refused);
        let unexpected = left || recovered;
        chain.gap = earlier || unexpected;
        let gap = chain.gap.then_some(Notice::Gap { since: latest, until, unexpected, recovered });
        let unread = std::mem::take(&mut chain.unread).into_iter().map(Notice::from);
        let notices = gap.into_iter().chain(unread).collect();
        Ok((chain, notices))
    }

    /// Notes that a window begins with a segment: if this run is killed, the next one audits it.
    pub(super) fn begin_window(&self, number: u64, first: u64) -> Result<(), Problem> {
        unjudged::begin(&self.out, number, first)
    }

    /// The number of the next segment.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Why what an earlier run left is not recovered yet; none if nothing waits.
    pub(super) fn waits(&self) -> Option<&Problem> {
        self.waits.as_ref()
    }

    /// Tries again to recover what an earlier run left; `window` and `first` are what this run is at. The windows that it
    /// belongs to are listed then: the next run audits them.
    ///
    /// # Errors
    /// The disk still does not take it.
    pub(super) fn recover_left(&mut self, window: u64, first: u64) -> Result<(), Problem> {
        if self.waits.is_none() {
            return Ok(());
        }
        self.recover_all()?;
        self.gap = true;
        unjudged::take_over(&self.out, &self.segments)?;
        self.begin_window(window, first)?;
        self.waits = None;
        Ok(())
    }

    /// Makes segments of all that an earlier run left unfinished. Hands back the latest frame of the last of them.
    fn recover_all(&mut self) -> Result<Option<Option<Timestamp>>, Problem> {
        let mut recovered = None;
        while let Some(number) = self.left.first().copied() {
            if let Some(last) = self.recover(number)? {
                recovered = Some(last.or(recovered.flatten()));
            }
            self.left.remove(&number);
        }
        Ok(recovered)
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
    fn recover(&mut self, number: u64) -> Result<Option<Option<Timestamp>>, Problem> {
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
                let options = ExtractOptions { digest: true, keep_bytes: true, ..self.options.clone() };
                let reader = CaptureReader::open(&Input::file(&packets), Digest::Sha256);
                let reader =
                    reader.map_err(|error| Problem { path: name.clone(), problem: error.to_string() })?;
                extract = Some(extract_of(&name, reader, &options));
            } else {
                remove(file);
            }
        }
        remove(&temporary(&journal));
        if extract.is_none() && journal.exists() {
            match journal::read(&journal) {
                Ok(read) => extract = read,
                Err(problem) => {
                    // It is not ours to throw away, and watching is worth more than what stands in it.
                    let kept = self.out.join("segments").join(format!("unread-{number:06}"));
                    let told = |error: io::Error| Problem::new(&journal, "cannot be put aside", &error);
                    fs::rename(&journal, &kept).map_err(told)?;
                    let path = kept.display().to_string();
                    self.unread
                        .push(Problem { path, problem: format!("a journal that cannot be read: {problem}") });
                }
            }
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
        self.segments.push(number);
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
        store::write_partial_flows(&text(&flows), Effort::Sparing, [(name, &extract.pieces)].into_iter())
            .map_err(refused)?;
        store::write_partial_names(&text(&names), Effort::Sparing, [(name, &extract.dns)].into_iter())
            .map_err(refused)?;
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
            gap_before: self.gap,
            recovered,
            digest: String::new(),
        };
        link.digest = link.digest();
        self.append(&link)?;
        self.gap = false;
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

    fn append(&mut self, link: &Link) -> Result<(), Problem> {
        let path = self.path();
        let told = |error: io::Error| Problem::new(&path, "cannot be written", &error);
        let mut line = serde_json::to_vec(link).unwrap_or_default();
        line.push(b'\n');
        let mut file = OpenOptions::new().create(true).append(true).open(&path).map_err(told)?;
        if let Some(whole) = self.torn {
            file.set_len(whole).map_err(told)?;
            self.torn = None;
        }
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
    /// Where the journal of a segment stands. None where its frames are saved: they are all that is needed.
    pub(super) fn of(&self, number: u64) -> Option<PathBuf> {
        (!self.save).then(|| journal_path(&self.out, number))
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
