//! Captures shared out among threads: each takes the next one that nobody has begun, and where none is left, some of what another
//! has before it (work stealing). So how captures are cut hangs on the moment; no audit hangs on how they are cut.

use super::copies::Copies;
use super::extract::{Extract, ExtractOptions, Extracted, Mapper, Source, extract, interface_of};
use super::watch::Watch;
use crate::audit::Unreadable;
use crate::capture::{CaptureReader, Cut, Digest, Divisible, Extent, Input, InputProblem, Intake, discover};
use crate::decode::{Decoded, decode_with};
use crate::flow::HashedKey;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::ScopedJoinHandle;

/// So many times as large as others a part is beyond one for each thread: what it makes anew, and what is joined again, costs
/// some milliseconds (W2 with two threads, of which one took over 25 MB: 1.04 and 1.08 of the wall time without).
const LARGER_BEYOND: u64 = 4;

/// Extracts all captures that the arguments name: files, directories, globs, `-`. What cannot be read is listed; the rest
/// still counts.
pub fn extract_all(captures: &[String], options: &ExtractOptions) -> Extracted {
    let discovered = discover(captures);
    let mut extracted = Extracted { jobs: options.jobs, ..Extracted::default() };
    for problem in &discovered.problems {
        let path = match problem {
            InputProblem::NotFound(path)
            | InputProblem::NoMatch(path)
            | InputProblem::EmptyDirectory(path) => path,
            InputProblem::BadGlob { argument, .. } => argument,
            InputProblem::Io { path, .. } => path,
        };
        extracted.unreadable.push(Unreadable { path: path.clone(), problem: problem.to_string() });
    }
    let intakes = options.watch.expect(&discovered.inputs);
    for result in Crew::of(&discovered.inputs, &intakes, options).extract() {
        match result {
            Ok(extract) => extracted.captures.push(extract),
            Err(unreadable) => extracted.unreadable.push(unreadable),
        }
    }
    extracted
}

/// Threads that read captures, and what each of them is at.
struct Crew<'a> {
    inputs: &'a [Input],
    intakes: &'a [Arc<Intake>],
    options: &'a ExtractOptions,
    /// Least bytes of a part; none if captures are not parted.
    least: Option<u64>,
    /// Threads that look for something to read.
    seeking: AtomicUsize,
    state: Mutex<State>,
    /// Something may be there to be taken over, or will not be.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The first capture that nobody has begun.
    next: usize,
    /// Captures that were begun of which it is not known yet whether they can be read in parts.
    opening: usize,
    /// Those that can, by their numbers, while they are read.
    parted: BTreeMap<usize, Parted>,
    /// What captures gave.
    done: BTreeMap<usize, Result<Extract, Unreadable>>,
}

/// A capture that is read in parts.
struct Parted {
    file: Divisible,
    /// In the order of the file.
    parts: Vec<Part>,
}

struct Part {
    /// Where it begins; none: with the file.
    cut: Option<Cut>,
    extent: Arc<Extent>,
    state: PartState,
    /// It is not cut any further: no place was found.
    whole: bool,
}

enum PartState {
    UnderWay,
    Failed,
    Read(Box<ReadPart>),
}

/// A part that was read, and the copies that its reader knew of when it began.
struct ReadPart {
    reader: CaptureReader,
    mapper: Mapper,
    begun_with: Copies,
}

/// What a thread is to do next.
enum Task {
    Begin(usize),
    TakeOver { input: usize, cut: Cut, extent: Arc<Extent> },
}

/// A capture is being opened. When this is dropped it is known whether it can be read in parts, whatever happened.
struct Opening<'c, 'a>(&'c Crew<'a>);

impl Drop for Opening<'_, '_> {
    fn drop(&mut self) {
        self.0.state().opening -= 1;
        self.0.changed.notify_all();
    }
}

impl Part {
    /// Bytes of it that are yet to be read, about; none of what is not under way.
    fn left(&self, size: u64) -> u64 {
        match self.state {
            PartState::UnderWay => self.end(size).saturating_sub(self.extent.at()),
            PartState::Failed | PartState::Read(_) => 0,
        }
    }

    /// Where it ends, as far as is known.
    fn end(&self, size: u64) -> u64 {
        self.extent.until().min(size)
    }
}

impl Parted {
    fn new(file: Divisible) -> (Self, Arc<Extent>) {
        let extent = Arc::new(Extent::whole());
        let part = Part { cut: None, extent: Arc::clone(&extent), state: PartState::UnderWay, whole: false };
        (Parted { file, parts: vec![part] }, extent)
    }

    /// Has what follows a cut, of the part that reaches beyond it, read by somebody else.
    fn cut(&mut self, part: usize, cut: Cut) -> Option<Arc<Extent>> {
        let before = &self.parts.get(part)?.extent;
        let extent = Arc::new(Extent::new(cut.begin, before.until()));
        before.end_at(cut.begin);
        let later =
            Part { cut: Some(cut), extent: Arc::clone(&extent), state: PartState::UnderWay, whole: false };
        self.parts.insert(part + 1, later);
        Some(extent)
    }

    /// A part was read, or could not be. Whether this was the last.
    fn hand_in(&mut self, extent: &Arc<Extent>, read: Option<ReadPart>) -> bool {
        if let Some(part) = self.parts.iter_mut().find(|part| Arc::ptr_eq(&part.extent, extent)) {
            part.state = read.map_or(PartState::Failed, |read| PartState::Read(Box::new(read)));
        }
        !self.parts.iter().any(|part| matches!(part.state, PartState::UnderWay))
    }

    /// What the whole capture gave. A part counts if whoever read the part before ended exactly at its beginning, and had seen no
    /// packet that one of it could be a copy of and that the part's reader did not know. Else all from there on is read again, in
    /// turn.
    fn joined(self, name: &str, options: &ExtractOptions) -> Option<Extract> {
        let mut parts = self.parts.into_iter().map(|part| match part.state {
            PartState::Read(read) => (part.cut, Some(read)),
            PartState::UnderWay | PartState::Failed => (part.cut, None),
        });
        let (_, first) = parts.next()?;
        let ReadPart { mut reader, mut mapper, .. } = *first?;
        let mut before: Vec<(CaptureReader, Mapper)> = Vec::new();
        for (cut, read) in parts {
            let Some(begin) = cut.map(|cut| cut.begin) else { continue };
            if let Some(later) = read
                && reader.stands_at(begin)
                && later
                    .mapper
                    .spans
                    .range()
                    .is_none_or(|(first, last)| later.begun_with.serve_as(&mapper.copies, first, last))
            {
                before.push((
                    std::mem::replace(&mut reader, later.reader),
                    std::mem::replace(&mut mapper, later.mapper),
                ));
                continue;
            }
            // What comes next is read by whoever stands before it, and what others have read of it is dropped.
            reader.read_on();
            mapper.read(&mut reader, &mut None, options);
            break;
        }
        let finish =
            |(reader, mapper): (CaptureReader, Mapper)| mapper.finish(name, Source::of(reader)).making_room();
        let (last, before) = std::thread::scope(|scope| {
            let threads: Vec<_> = before.into_iter().map(|part| scope.spawn(move || finish(part))).collect();
            let last = finish((reader, mapper));
            let joined = |thread: ScopedJoinHandle<'_, Extract>| {
                thread.join().unwrap_or_else(|panic| resume_unwind(panic))
            };
            (last, threads.into_iter().map(joined).collect::<Vec<_>>())
        });
        Some(before.into_iter().rev().fold(last, |later, earlier| earlier.followed_by(later)))
    }
}

/// Reads what is left of a part.
fn read(mut reader: CaptureReader, mut mapper: Mapper, options: &ExtractOptions) -> ReadPart {
    let begun_with = mapper.copies.clone();
    mapper.read(&mut reader, &mut None, options);
    ReadPart { reader, mapper, begun_with }
}

/// Reads a part that begins at a cut; none if it cannot be opened.
fn read_from(
    input: &Input,
    intake: &Arc<Intake>,
    cut: Cut,
    extent: &Arc<Extent>,
    options: &ExtractOptions,
) -> Option<ReadPart> {
    let mut mapper = Mapper::new(options);
    let reader = CaptureReader::open_at(input, Arc::clone(intake), cut, |frame| {
        if let Decoded::Packet(packet) = decode_with(frame, &options.decode) {
            let key = HashedKey::of_packet(&packet);
            mapper.copies.look(&packet, key, interface_of(&packet, frame.interface), frame.time);
        }
    });
    let mut reader = reader.ok()?;
    if reader.facts().interfaces > 1 {
        mapper.copies.expect_several();
    }
    reader.reads(Arc::clone(extent));
    Some(read(reader, mapper, options))
}

impl<'a> Crew<'a> {
    fn of(inputs: &'a [Input], intakes: &'a [Arc<Intake>], options: &'a ExtractOptions) -> Self {
        // A digest is of all bytes in their order, and takes longer than all else; a choice counts what it left out.
        let whole = options.jobs < 2 || options.digest || options.choice.chooser().is_some();
        Crew {
            inputs,
            intakes,
            options,
            least: options.part_bytes.filter(|_| !whole),
            seeking: AtomicUsize::new(0),
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere ends the program, once all threads have ended.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads all captures; hands back what each gave, in their order.
    fn extract(self) -> impl Iterator<Item = Result<Extract, Unreadable>> {
        let bytes: u64 = self.intakes.iter().filter_map(|intake| intake.size()).sum();
        let parts = self.least.map_or(0, |least| bytes / least.max(1));
        let busy = self.inputs.len().max(usize::try_from(parts).unwrap_or(usize::MAX));
        std::thread::scope(|scope| {
            for _ in 1..self.options.jobs.clamp(1, busy.max(1)) {
                scope.spawn(|| self.work());
            }
            self.work();
        });
        self.state.into_inner().unwrap_or_else(PoisonError::into_inner).done.into_values()
    }

    fn work(&self) {
        while let Some(task) = self.task() {
            match task {
                Task::Begin(input) => self.begin(input),
                Task::TakeOver { input: number, cut, extent } => {
                    let (Some(input), Some(intake)) = (self.inputs.get(number), self.intakes.get(number))
                    else {
                        return;
                    };
                    // Whoever panics has read nothing: it is read again, by whoever read what comes before.
                    let part = catch_unwind(AssertUnwindSafe(|| {
                        read_from(input, intake, cut, &extent, self.options)
                    }));
                    self.hand_in(number, &extent, part.ok().flatten());
                }
            }
        }
    }

    /// What a thread that has nothing to do may do; none if there is nothing, and will not be.
    fn task(&self) -> Option<Task> {
        self.seeking.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state();
        let task = loop {
            if state.next < self.inputs.len() {
                state.next += 1;
                state.opening += 1;
                break Some(Task::Begin(state.next - 1));
            }
            let task = self.take_over(&mut state);
            if task.is_some() || state.opening == 0 {
                break task;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        self.seeking.fetch_sub(1, Ordering::Relaxed);
        task
    }

    /// Of the part of which most is left so much that all have the same before them; none if that is not worth it anywhere.
    fn take_over(&self, state: &mut State) -> Option<Task> {
        let least = self.least?;
        while !self.options.watch.stopped() {
            let under_way = || {
                state.parted.iter().flat_map(|(&input, parted)| {
                    let size = parted.file.size();
                    let parts = parted.parts.iter().enumerate();
                    let may_be_cut =
                        parted.parts.len() < ExtractOptions::PARTS_FOR_EACH_JOB * self.options.jobs;
                    parts.map(move |(number, part)| {
                        let left = part.left(size);
                        (if part.whole || !may_be_cut { 0 } else { left }, left, input, number)
                    })
                })
            };
            let (left, _, input, number) = under_way().max()?;
            let (all, readers) =
                under_way().filter(|part| part.1 > 0).fold((0, 0), |(all, n), part| (all + part.1, n + 1));
            let readers = readers + self.seeking.load(Ordering::Relaxed) as u64;
            let taken = left.saturating_sub((all / readers.max(1)).max(least));
            let parted = state.parted.get_mut(&input)?;
            let is_further = parted.parts.len() >= self.options.jobs;
            if taken < if is_further { LARGER_BEYOND * least } else { least } {
                return None;
            }
            let part = parted.parts.get_mut(number)?;
            let end = part.end(parted.file.size());
            match parted.file.cut_behind(end - taken) {
                Some(cut) if cut.begin < end && cut.begin > part.extent.at() + Extent::AHEAD => {
                    let extent = parted.cut(number, cut)?;
                    return Some(Task::TakeOver { input, cut, extent });
                }
                // No place was found, or only when its reader was there.
                _ => part.whole = true,
            }
        }
        None
    }

    fn begin(&self, number: usize) {
        let opening = Opening(self);
        let (Some(input), Some(intake)) = (self.inputs.get(number), self.intakes.get(number)) else { return };
        let failed = |problem: String| {
            intake.end();
            self.state().done.insert(number, Err(Unreadable { path: input.name.clone(), problem }));
        };
        if self.options.watch.stopped() {
            return failed(Watch::NOT_BEGUN.to_owned());
        }
        intake.begin();
        let digest = if self.options.digest { Digest::Sha256 } else { Digest::None };
        let mut reader = match CaptureReader::open_watched(input, digest, Arc::clone(intake)) {
            Ok(reader) => reader,
            Err(error) => return failed(error.to_string()),
        };
        let worth_it = self.least.is_some_and(|least| intake.size().is_some_and(|size| size >= 2 * least));
        match Divisible::of(input).filter(|_| worth_it) {
            Some(file) => {
                let (parted, extent) = Parted::new(file);
                self.state().parted.insert(number, parted);
                drop(opening);
                reader.reads(Arc::clone(&extent));
                let part = read(reader, Mapper::new(self.options), self.options);
                self.hand_in(number, &extent, Some(part));
            }
            None => {
                drop(opening);
                let extract = extract(&input.name, reader, self.options);
                intake.end();
                self.state().done.insert(number, Ok(extract));
            }
        }
    }

    /// A part of a capture was read, or could not be. After the last of them the capture is done.
    fn hand_in(&self, number: usize, extent: &Arc<Extent>, part: Option<ReadPart>) {
        let mut state = self.state();
        let is_last = state.parted.get_mut(&number).is_some_and(|parted| parted.hand_in(extent, part));
        let parted = if is_last { state.parted.remove(&number) } else { None };
        drop(state);
        let (Some(parted), Some(input), Some(intake)) =
            (parted, self.inputs.get(number), self.intakes.get(number))
        else {
            return;
        };
        if let Some(extract) = parted.joined(&input.name, self.options) {
            intake.end();
            self.state().done.insert(number, Ok(extract));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::write::{PcapStyle, PcapWriter};
    use crate::matrix::{Matrix, Site};
    use crate::model::Timestamp;
    use crate::pipeline::judge;
    use proptest::prelude::*;

    const SITE: &str = "[site]\nname = \"s\"\n[roles]\nbackup-appliance = [\"10.1.0.4\"]\n";

    /// A packet as a cooked capture of any interface holds it (LINKTYPE_LINUX_SLL2).
    fn cooked(interface: u32, port: u16, kind: u8) -> Vec<u8> {
        let mut frame = vec![8, 0, 0, 0];
        frame.extend(interface.to_be_bytes());
        frame.extend([0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0]);
        let (own, other) = ([10u8, 1, 0, 4], [198, 51, 100, 7]);
        let client = kind.is_multiple_of(2);
        let (from, to) = if client { (own, other) } else { (other, own) };
        let (from_port, to_port) = if client { (port, 443) } else { (443, port) };
        let ports = [from_port.to_be_bytes(), to_port.to_be_bytes()].concat();
        let tcp = |seq: u32, ack: u32, flags: u8, payload: &[u8]| {
            let fixed = [0x50, flags, 4, 0, 0, 0, 0, 0];
            (6u8, [&ports[..], &seq.to_be_bytes(), &ack.to_be_bytes(), &fixed, payload].concat())
        };
        let (protocol, payload) = match kind {
            0 => tcp(100, 0, 0x02, &[]),
            1 => tcp(500, 101, 0x12, &[]),
            2 => tcp(101, 501, 0x10, b"GET / HTTP/1.1\r\n\r\n"),
            3 => tcp(501, 119, 0x11, &[]),
            _ => (17, [&ports[..], &[0, 13, 0, 0], b"hello"].concat()),
        };
        let length = (20 + payload.len() as u16).to_be_bytes();
        frame.extend([0x45, 0, length[0], length[1], 0, 0, 0, 0, 60, protocol, 0, 0]);
        frame.extend(from.into_iter().chain(to).chain(payload));
        frame
    }

    /// A file that is gone when this is.
    struct Scratch(std::path::PathBuf);

    impl Scratch {
        fn of(bytes: &[u8]) -> Scratch {
            static NEXT: AtomicUsize = AtomicUsize::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("portproof-parts-{}-{number}", std::process::id()));
            std::fs::write(&path, bytes).unwrap();
            Scratch(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            std::fs::remove_file(&self.0).unwrap();
        }
    }

    /// The JSON of an audit of what a capture gave, rows and all, and into how many further parts it was parted.
    fn audit_of(extract: Extract) -> (String, usize) {
        let further = extract.further.len();
        let matrix = Matrix::builtin();
        let site = Site::parse(SITE, "site.toml", &matrix).unwrap();
        let extracted = Extracted { captures: vec![extract], ..Extracted::default() };
        let judged = judge(extracted, &matrix, &site).unwrap();
        let rows = serde_json::to_string(&(judged.rows, judged.names)).unwrap();
        (format!("{}{rows}", serde_json::to_string_pretty(&judged.audit).unwrap()), further)
    }

    /// The same of a file that is read with these cuts.
    fn audit(bytes: &[u8], cuts: &[Cut]) -> (String, usize) {
        let (file, options, intake) = (Scratch::of(bytes), ExtractOptions::default(), Arc::default());
        let input = Input { name: "x.pcap".into(), ..Input::file(&file.0) };
        let (mut parted, first) = Parted::new(Divisible::of(&input).unwrap());
        let later: Vec<(Cut, Arc<Extent>)> =
            cuts.iter().enumerate().map(|(part, &cut)| (cut, parted.cut(part, cut).unwrap())).collect();
        let mut reader = CaptureReader::open(&input, Digest::None).unwrap();
        reader.reads(Arc::clone(&first));
        let mut is_last = parted.hand_in(&first, Some(read(reader, Mapper::new(&options), &options)));
        for (cut, extent) in later {
            assert!(!is_last);
            is_last = parted.hand_in(&extent, read_from(&input, &intake, cut, &extent, &options));
        }
        assert!(is_last);
        audit_of(parted.joined(&input.name, &options).unwrap())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever is guessed, and whatever stands where parts meet.
        #[test]
        fn no_cut_changes_an_audit(
            story in proptest::collection::vec((0i64..4_000, 0u16..5, 0u8..6, proptest::bool::weighted(0.3)), 1..80),
            places in proptest::collection::vec((any::<prop::sample::Index>(), 0usize..6, 0u64..3), 1..4),
            damage in proptest::option::weighted(0.3, any::<prop::sample::Index>()),
        ) {
            let style = PcapStyle { link_type: crate::capture::LinkType(276), ..PcapStyle::ETHERNET };
            let mut writer = PcapWriter::new(Vec::new(), style).unwrap();
            let (mut time, mut offsets, mut at) = (1_700_000_000_000_000_000, Vec::new(), 24);
            for (gap, port, kind, copied) in story {
                time += gap * 1_000;
                for interface in 0..=u32::from(copied) {
                    let frame = cooked(interface, 40_000 + port, kind);
                    writer.frame(Timestamp(time + i64::from(interface) * 1_000_000), &frame, frame.len() as u32).unwrap();
                    offsets.push(at);
                    at += 16 + frame.len() as u64;
                }
            }
            let mut bytes = writer.into_inner();
            if let Some(place) = damage {
                // The captured length of some record.
                let record = offsets[place.index(offsets.len())] as usize;
                bytes[record + 8..record + 12].fill(0xff);
            }
            let mut cuts: Vec<Cut> = places.iter().map(|(place, back, off)| {
                let record = place.index(offsets.len());
                // Two of three do not begin at a record.
                Cut { warm_up: offsets[record.saturating_sub(*back)], begin: offsets[record] + off * 3 }
            }).collect();
            cuts.sort_by_key(|cut| cut.begin);
            cuts.dedup_by_key(|cut| cut.begin);
            prop_assert_eq!(audit(&bytes, &cuts).0, audit(&bytes, &[]).0);
        }
    }

    #[test]
    fn a_large_file_is_cut_where_records_begin() {
        let mut writer = PcapWriter::new(
            Vec::new(),
            PcapStyle { link_type: crate::capture::LinkType(276), ..PcapStyle::ETHERNET },
        )
        .unwrap();
        for n in 0..20_000u16 {
            let frame = cooked(0, n, 4);
            let time = Timestamp(1_700_000_000_000_000_000 + i64::from(n) * 50_000);
            writer.frame(time, &frame, frame.len() as u32).unwrap();
        }
        let bytes = writer.into_inner();
        let file = Scratch::of(&bytes);
        let divisible = Divisible::of(&Input::file(&file.0)).unwrap();
        assert_eq!(divisible.size(), bytes.len() as u64);
        let record = 16 + cooked(0, 0, 4).len() as u64;
        let cuts = [1, 2, 3].map(|part| divisible.cut_behind(bytes.len() as u64 / 4 * part).unwrap());
        for (cut, part) in cuts.iter().zip(1..) {
            assert!(
                (cut.begin - 24).is_multiple_of(record) && (cut.warm_up - 24).is_multiple_of(record),
                "{cut:?}"
            );
            // 20 ms are 400 frames.
            assert_eq!((cut.begin - cut.warm_up) / record, 401);
            assert!(cut.warm_up.abs_diff(bytes.len() as u64 / 4 * part) < record);
        }
        let (parts, further) = audit(&bytes, &cuts);
        assert_eq!((parts == audit(&bytes, &[]).0, further), (true, 3));
    }

    /// Connections, one after another, of so many frames in all, 50 us apart.
    fn connections(frames: u32) -> Vec<u8> {
        let style = PcapStyle { link_type: crate::capture::LinkType(276), ..PcapStyle::ETHERNET };
        let mut writer = PcapWriter::new(Vec::new(), style).unwrap();
        for n in 0..frames {
            let frame = cooked(0, 40_000 + (n / 4 % 20_000) as u16, (n % 4) as u8);
            let time = Timestamp(1_700_000_000_000_000_000 + i64::from(n) * 50_000);
            writer.frame(time, &frame, frame.len() as u32).unwrap();
        }
        writer.into_inner()
    }

    #[test]
    fn whoever_has_nothing_to_do_takes_over_half_of_what_a_reader_has_before_it() {
        let bytes = connections(40_000);
        let file = Scratch::of(&bytes);
        let inputs = [Input { name: "x.pcap".into(), ..Input::file(&file.0) }];
        let options = ExtractOptions { jobs: 2, part_bytes: Some(1 << 20), ..ExtractOptions::default() };
        let intakes = options.watch.expect(&inputs);
        let crew = Crew::of(&inputs, &intakes, &options);
        crew.seeking.store(1, Ordering::Relaxed);
        let (parted, extent) = Parted::new(Divisible::of(&inputs[0]).unwrap());
        crew.state().parted.insert(0, parted);
        let mut reader = CaptureReader::open(&inputs[0], Digest::None).unwrap();
        reader.reads(Arc::clone(&extent));
        let mut mapper = Mapper::new(&options);
        for _ in 0..4_000 {
            mapper.frame(&reader.next().unwrap(), Ok(()), &options.decode);
        }
        let at = extent.at();
        assert!(at > 100_000, "{at}");
        let Some(Task::TakeOver { input: 0, cut, extent: later }) = crew.take_over(&mut crew.state()) else {
            panic!("nothing was taken over");
        };
        let half = at + (bytes.len() as u64 - at) / 2;
        assert!((half..half + (64 << 10)).contains(&cut.begin), "{cut:?} of {half}");
        assert_eq!((extent.until(), later.at(), later.until()), (cut.begin, cut.begin, u64::MAX));
        // What is left of each would be too little now.
        assert!(crew.take_over(&mut crew.state()).is_none());
        crew.hand_in(0, &later, read_from(&inputs[0], &intakes[0], cut, &later, &options));
        assert!(crew.state().done.is_empty());
        crew.hand_in(0, &extent, Some(read(reader, mapper, &options)));
        let done = crew.extract().next().unwrap().unwrap();
        let (audited, further) = audit_of(done);
        assert_eq!((audited == audit(&bytes, &[]).0, further), (true, 1));
    }

    #[test]
    fn a_part_beyond_one_for_each_thread_is_larger_and_beyond_two_there_is_none() {
        let bytes = connections(60_000);
        let file = Scratch::of(&bytes);
        let inputs = [Input { name: "x.pcap".into(), ..Input::file(&file.0) }];
        let size = bytes.len() as u64;
        // Of what is left a half is taken, each time.
        for (share, parts) in [(3, 2), (9, 2), (40, 4), (400, 4)] {
            let options =
                ExtractOptions { jobs: 2, part_bytes: Some(size / share), ..ExtractOptions::default() };
            let intakes = options.watch.expect(&inputs);
            let crew = Crew::of(&inputs, &intakes, &options);
            crew.seeking.store(1, Ordering::Relaxed);
            let (parted, _) = Parted::new(Divisible::of(&inputs[0]).unwrap());
            crew.state().parted.insert(0, parted);
            while crew.take_over(&mut crew.state()).is_some() {}
            assert_eq!(crew.state().parted[&0].parts.len(), parts, "{share}");
        }
    }

    #[test]
    fn a_part_that_nobody_could_read_is_read_by_whoever_read_what_comes_before() {
        let bytes = connections(20_000);
        let file = Scratch::of(&bytes);
        let input = Input { name: "x.pcap".into(), ..Input::file(&file.0) };
        let options = ExtractOptions::default();
        let (mut parted, first) = Parted::new(Divisible::of(&input).unwrap());
        let cut = parted.file.cut_behind(bytes.len() as u64 / 2).unwrap();
        let later = parted.cut(0, cut).unwrap();
        assert!(!parted.hand_in(&later, None));
        let mut reader = CaptureReader::open(&input, Digest::None).unwrap();
        reader.reads(Arc::clone(&first));
        assert!(parted.hand_in(&first, Some(read(reader, Mapper::new(&options), &options))));
        let (audited, further) = audit_of(parted.joined(&input.name, &options).unwrap());
        assert_eq!((audited == audit(&bytes, &[]).0, further), (true, 0));
    }

    #[test]
    fn captures_come_in_their_order_however_many_threads_read_them() {
        let files = [30_000, 5, 70_000, 400].map(|frames| Scratch::of(&connections(frames)));
        let names: Vec<String> = files.iter().map(|file| file.0.display().to_string()).collect();
        let extracted = |jobs, part_bytes| {
            extract_all(&names, &ExtractOptions { jobs, part_bytes, ..ExtractOptions::default() })
        };
        let told = |extracted: Extracted| -> Vec<_> {
            let summary = |extract: &Extract| {
                let summary = &extract.summary;
                (summary.path.clone(), summary.frames, summary.bytes, summary.first_ts, summary.last_ts)
            };
            extracted.captures.iter().map(summary).collect()
        };
        let expected = told(extracted(1, None));
        assert_eq!(expected.iter().map(|capture| capture.1).collect::<Vec<_>>(), [30_000, 5, 70_000, 400]);
        for jobs in 1..6 {
            for least in [1 << 19, 1 << 20, 16 << 20] {
                assert_eq!(told(extracted(jobs, Some(least))), expected, "{jobs} threads, {least} bytes");
            }
        }
    }
}
