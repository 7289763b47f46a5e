//! A live run where something is scarce: memory, time to end in, room on the disk.

use crate::live::{
    Cable, audited, can_make_namespaces, ended, journalled, portproof, project, scratch, signal, text,
    wait_for, without_inputs,
};
use crate::web::raw;
use portproof::capture::write::{PcapStyle, PcapWriter};
use portproof::model::Timestamp;
use portproof::pipeline::live::Link;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::fs::{self, File};
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

const APPLIANCE: Ipv4Addr = Ipv4Addr::new(10, 10, 1, 4);
const MILLISECOND: i64 = 1_000_000;

/// Bytes that are taken while more are written.
#[derive(Clone, Default)]
struct Shared(Rc<RefCell<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A capture that is made frame by frame, and can be fed in parts.
struct Made {
    writer: PcapWriter<Shared>,
    bytes: Shared,
    frames: u64,
    /// Time of the next frame, milliseconds.
    at: i64,
}

impl Made {
    fn new() -> Made {
        let bytes = Shared::default();
        let writer = PcapWriter::new(bytes.clone(), PcapStyle::ETHERNET).expect("memory");
        Made { writer, bytes, frames: 0, at: 0 }
    }

    fn packet(&mut self, from: Ipv4Addr, to: Ipv4Addr, protocol: u8, payload: &[u8]) {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        let length = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
        frame.extend([0x45, 0, length[0], length[1], 0, 0, 0, 0, 64, protocol, 0, 0]);
        frame.extend(from.octets().into_iter().chain(to.octets()).chain(payload.iter().copied()));
        frame.resize(frame.len().max(60), 0);
        let time = Timestamp(1_790_000_000_000 * MILLISECOND + self.at * MILLISECOND);
        self.writer.frame(time, &frame, frame.len() as u32).expect("memory");
        self.frames += 1;
    }

    /// One segment of the conversation of this number: the appliance begins it.
    fn tcp(&mut self, number: u32, answer: bool, flags: u8) {
        let other = Ipv4Addr::from(0xc612_0000 + number / 16_384);
        let port = (20_000 + number % 16_384) as u16;
        let (from, to, ports) = if answer {
            (other, APPLIANCE, [8_443u16.to_be_bytes(), port.to_be_bytes()])
        } else {
            (APPLIANCE, other, [port.to_be_bytes(), 8_443u16.to_be_bytes()])
        };
        let (seq, ack) = if answer { (700u32, 101u32) } else { (100, 0) };
        let fixed = [0x50, flags, 4, 0, 0, 0, 0, 0];
        let segment = [&ports.concat()[..], &seq.to_be_bytes(), &ack.to_be_bytes(), &fixed].concat();
        self.packet(from, to, 6, &segment);
    }

    /// The question for a name of this number, or its answer: an address of its own.
    fn dns(&mut self, number: u32, answer: bool) {
        let name = format!("host-{number:07}-of-a-name-that-is-not-short");
        let (flags, answers) = if answer { ([0x81, 0x80], 1) } else { ([1, 0], 0) };
        let mut message =
            vec![(number >> 8) as u8, number as u8, flags[0], flags[1], 0, 1, 0, answers, 0, 0, 0, 0];
        message.push(name.len() as u8);
        message.extend(name.as_bytes());
        message.extend(b"\x07example\0\0\x01\0\x01");
        if answer {
            message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
            message.extend((0xc612_0000 + number).to_be_bytes());
        }
        let length = (8 + message.len() as u16).to_be_bytes();
        let (own, other) = (0x8000u16.to_be_bytes(), 53u16.to_be_bytes());
        let resolver = Ipv4Addr::new(10, 10, 1, 1);
        let (from, to, ports) =
            if answer { (resolver, APPLIANCE, [other, own]) } else { (APPLIANCE, resolver, [own, other]) };
        let datagram = [&ports.concat()[..], &length, &[0, 0], &message].concat();
        self.packet(from, to, 17, &datagram);
    }

    fn syn(&mut self, number: u32) {
        self.tcp(number, false, 0x02);
    }

    /// The beginnings of conversations of these numbers, a millisecond apart, and what else there is to be taken.
    fn syns(&mut self, numbers: std::ops::Range<u32>) -> Vec<u8> {
        for number in numbers {
            self.syn(number);
            self.at += 1;
        }
        self.take()
    }

    /// What there is since this was asked last.
    fn take(&mut self) -> Vec<u8> {
        self.bytes.0.take()
    }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn links(out: &Path) -> Vec<Link> {
    lines(&out.join("chain.jsonl")).into_iter().map(|line| serde_json::from_value(line).unwrap()).collect()
}

fn chained(out: &Path) -> u64 {
    links(out).iter().map(|link| link.frames).sum()
}

/// A run that reads a pipe, in a directory of its own, with a file of events outside of what it writes.
struct Run {
    child: Child,
    events: PathBuf,
}

impl Run {
    fn begin(out: Option<&Path>, events: &Path, more: &[&str]) -> Run {
        let mut arguments = vec!["live", "-i", "-", "--site", "captures/site.toml", "--format", "json"];
        arguments.extend(["--events", events.to_str().unwrap()]);
        arguments.extend(out.iter().flat_map(|out| ["--out", out.to_str().unwrap()]));
        arguments.extend(more);
        let child = portproof(&arguments).stdin(Stdio::piped()).spawn().expect("the program starts");
        Run { child, events: events.to_owned() }
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.child.stdin.as_mut().expect("a pipe").write_all(bytes).expect("the pipe takes it");
    }

    fn told(&self, event: &str) -> Vec<Value> {
        lines(&self.events).into_iter().filter(|line| line["event"] == event).collect()
    }
}

fn live_counts(audit: &Value, field: &str) -> u64 {
    let inputs = audit["inputs"].as_array().expect("inputs").iter();
    inputs.map(|input| input["live"][field].as_u64().unwrap_or_else(|| panic!("{field}: {input}"))).sum()
}

#[test]
fn where_too_many_conversations_are_open_they_wait_for_less_and_the_audit_is_the_same() {
    let directory = scratch("emergency");
    let mut made = Made::new();
    // Of 192 MiB the program takes 32; an eighth of the others is for open conversations: 40,960.
    // Those of a single packet would make room for others before the table is full.
    let answered = |made: &mut Made, number: u32| {
        made.syn(number);
        made.tcp(number, true, 0x12);
        made.at += 1;
    };
    (0..36_000).for_each(|number| answered(&mut made, number));
    // A minute later: so long nobody waits in an emergency, and everybody else does.
    made.at += 60_000;
    (50_000..54_000).for_each(|number| answered(&mut made, number));
    // Conversations that were cut go on.
    (0..50).for_each(|number| made.tcp(number, false, 0x10));
    let capture = directory.join("capture.pcap");
    fs::write(&capture, made.take()).unwrap();
    let mut run = Run::begin(None, &directory.join("events.jsonl"), &["--memory-limit", "192MiB"]);
    run.feed(&fs::read(&capture).unwrap());
    drop(run.child.stdin.take());
    let (began, over) = (directory.join("events.jsonl"), "emergency-over");
    let live = ended(run.child);
    let events = lines(&began);
    let of = |word: &str| -> Vec<&Value> { events.iter().filter(|line| line["event"] == word).collect() };
    assert_eq!((of("emergency").len(), of(over).len()), (1, 1), "{}", text(&live));
    assert_eq!(of("emergency")[0]["capacity"], 40_960);
    let hurried = of(over)[0]["hurried"].as_u64().unwrap();
    assert!(hurried > 4_000, "{hurried}");
    assert!(text(&live).contains("conversations stay open as long as usual again"), "{}", text(&live));
    let audit: Value = serde_json::from_slice(&live.stdout).expect("an audit");
    assert_eq!(live_counts(&audit, "emergencies"), 1);
    assert_eq!(live_counts(&audit, "hurried"), hurried);
    let offline = audited(&[capture.to_str().unwrap(), "--site", "captures/site.toml"]);
    assert_eq!(without_inputs(&live.stdout), without_inputs(&offline.stdout));
    let joined = audit["totals"]["outcomes"]["established"].as_u64();
    assert_eq!(joined, Some(50), "{}", audit["totals"]);
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn conversations_that_come_all_at_once_are_all_told_of_or_counted_as_not_followed() {
    let directory = scratch("at-once");
    let mut made = Made::new();
    let many = 12_000;
    for number in 0..many {
        made.syn(number);
        // Refused, so that nothing more is expected of it.
        made.tcp(number, true, 0x14);
    }
    let events = directory.join("events.jsonl");
    let mut run = Run::begin(None, &events, &[]);
    run.feed(&made.take());
    drop(run.child.stdin.take());
    let live = ended(run.child);
    let audit: Value = serde_json::from_slice(&live.stdout).expect("an audit");
    let found = |finding: &Value| finding["code"] == "unexpected-attempt";
    let audited = audit["findings"].as_array().unwrap().iter().find(|finding| found(finding)).unwrap();
    assert_eq!(audited["count"], many);
    let events = lines(&events);
    let told: Vec<&Value> = events.iter().filter(|event| found(&event["finding"])).collect();
    assert!(told.iter().all(|event| event["number"] == told[0]["number"]), "one finding: {told:?}");
    assert_eq!(told[0]["event"], "appeared");
    let last = told.last().expect("told of").pointer("/finding/count").and_then(Value::as_u64);
    let unfollowed = events.iter().filter(|event| event["event"] == "unfollowed");
    let unfollowed: u64 = unfollowed.map(|event| event["conversations"].as_u64().unwrap()).sum();
    assert_eq!(last.unwrap() + unfollowed, u64::from(many));
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_window_whose_names_take_too_much_memory_ends_early_and_no_frame_is_missing() {
    let directory = scratch("window-full");
    let mut made = Made::new();
    // Questions for names that are all different, in one conversation: of 192 MiB an eighth is for what a window keeps.
    for number in 0..110_000u32 {
        made.dns(number, false);
        made.at += 1;
    }
    let out = directory.join("out");
    let mut run = Run::begin(Some(&out), &directory.join("events.jsonl"), &["--memory-limit", "192MiB"]);
    run.feed(&made.take());
    drop(run.child.stdin.take());
    let events = run.events.clone();
    let live = ended(run.child);
    let full = lines(&events).into_iter().filter(|line| line["event"] == "window-full").count();
    assert!(full >= 1, "{}", text(&live));
    assert!(text(&live).contains("it ends here, and is audited"), "{}", text(&live));
    let frames = |path: PathBuf| -> u64 {
        let audit: Value = serde_json::from_slice(&fs::read(&path).expect("an audit")).expect("an audit");
        audit["totals"]["frames"].as_u64().unwrap()
    };
    let earlier: u64 =
        (1..=full).map(|number| frames(out.join(format!("window-{number:04}/audit.json")))).sum();
    assert_eq!(earlier + frames(out.join("audit.json")), made.frames);
    fs::remove_dir_all(directory).unwrap();
}

/// So many conversations that they are not audited within two seconds.
const MANY: u32 = if cfg!(debug_assertions) { 60_000 } else { 500_000 };

#[test]
fn sigterm_ends_a_run_with_a_large_window_soon_and_the_next_run_audits_what_is_left() {
    let directory = scratch("sigterm");
    let (out, events) = (directory.join("out"), directory.join("events.jsonl"));
    let mut made = Made::new();
    for number in 0..MANY {
        made.syn(number);
        made.at += 1;
    }
    let capture = directory.join("capture.pcap");
    fs::write(&capture, made.take()).unwrap();
    let mut run = Run::begin(Some(&out), &events, &[]);
    run.feed(&fs::read(&capture).unwrap());
    // All but the segment at hand is written while the run goes on.
    wait_for("the rows", || chained(&out) + 32_768 > made.frames);
    std::thread::sleep(Duration::from_millis(1500));
    let began = Instant::now();
    signal(&run.child, "-TERM");
    let output = ended(run.child);
    let took = began.elapsed();
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert!(text(&output).contains("there was no time"), "{}", text(&output));
    // Less than two seconds by itself; here others want the machine, too.
    assert!(took < Duration::from_secs(10), "{took:?}");
    eprintln!("SIGTERM with {MANY} conversations: {took:?}");
    assert!(!out.join("audit.json").exists());
    let all_written = chained(&out) == made.frames;
    if all_written && out.join("unjudged.json").exists() {
        let left: Value = serde_json::from_slice(&fs::read(out.join("unjudged.json")).unwrap()).unwrap();
        let segments: Vec<u64> = links(&out).iter().map(|link| link.segment).collect();
        assert_eq!(left, json!([{ "segments": segments }]));
    } else if all_written {
        // The last segment was written, and there was no time to say that the window is whole: the next run sees it.
        assert!(
            text(&output).contains("frames since then are not audited: there was no time"),
            "{}",
            text(&output)
        );
    } else {
        // The next run takes up the journals.
        assert!(
            text(&output).contains("are in no segment: there was no time to write them"),
            "{}",
            text(&output)
        );
    }
    let unfinished = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name());
    let unfinished: Vec<_> = unfinished.filter(|name| name.to_string_lossy().ends_with(".tmp")).collect();
    assert!(unfinished.is_empty(), "{unfinished:?}");

    let mut next = Run::begin(Some(&out), &events, &[]);
    next.feed(&fs::read(project().join("captures/lab.pcap")).unwrap());
    let late = out.join("late-000001/audit.json");
    wait_for("the audit", || !next.told("late").is_empty());
    assert!(!out.join("unjudged.json").exists());
    drop(next.child.stdin.take());
    assert_eq!(ended(next.child).status.code(), Some(1));
    let last: Value = serde_json::from_slice(&fs::read(out.join("audit.json")).unwrap()).unwrap();
    assert_eq!(last["totals"]["frames"], 278);
    // Late, but no other.
    let offline = audited(&[capture.to_str().unwrap(), "--site", "captures/site.toml"]);
    let late = fs::read(late).unwrap();
    if all_written {
        assert!(without_inputs(&late) == without_inputs(&offline.stdout), "the late audit differs");
    }
    let of = |bytes: &[u8], field: &str| serde_json::from_slice::<Value>(bytes).unwrap()[field].clone();
    for field in ["conversations", "coverage", "timeline", "names_quality"] {
        assert!(of(&late, field) == of(&offline.stdout, field), "{field}");
    }
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn sigterm_without_a_directory_ends_soon_and_counts_what_is_not_audited() {
    /// So many that they are not audited within the time, on this machine or a faster one.
    const MANY: u32 = if cfg!(debug_assertions) { 150_000 } else { 3_000_000 };
    for (what, events, settled) in
        [("alone", true, false), ("seen", true, true), ("unfollowed", false, false)]
    {
        let directory = scratch(&format!("sigterm-{what}"));
        let told = directory.join("events.jsonl");
        let mut made = Made::new();
        (0..MANY).for_each(|number| made.syn(number));
        let mut arguments = vec!["live", "-i", "-", "--site", "captures/site.toml", "--format", "json"];
        if events {
            arguments.extend(["--events", told.to_str().unwrap()]);
        }
        let mut child = portproof(&arguments).stdin(Stdio::piped()).spawn().expect("the program starts");
        // The pipe stays open: the run does not end by itself. What was not read of it is in nobody's count.
        let mut pipe = child.stdin.take().expect("a pipe");
        let capture = made.take();
        pipe.write_all(&capture).expect("the pipe takes it");
        if settled {
            // All is looked at: the window ends at once, and only its audit takes longer than there is time.
            std::thread::sleep(Duration::from_secs(5));
        }
        let began = Instant::now();
        signal(&child, "-TERM");
        let output = ended(child);
        let took = began.elapsed();
        drop(pipe);
        assert_eq!(output.status.code(), Some(3), "{}", text(&output));
        // Built for speed it takes less than two seconds; what is shown here is that it does not wait for the audit.
        assert!(took < Duration::from_secs(15), "{took:?}");
        eprintln!("SIGTERM without a directory, {MANY} conversations: {took:?}");
        let audit: Value = serde_json::from_slice(&output.stdout).expect("an audit");
        let frames = audit["unaudited"]["frames"].as_u64().expect("a count");
        assert!(frames > u64::from(MANY) / 2 && frames <= made.frames, "{frames}");
        assert_eq!(
            audit["unaudited"]["stretches"].as_u64(),
            Some(frames),
            "each is a conversation of its own"
        );
        assert_eq!(audit["capture_quality"]["complete"], false);
        assert!(audit["remarks"][0].as_str().unwrap().starts_with("Not audited"), "{}", audit["remarks"]);
        let said = format!("{frames} frames ({frames} stretches of conversations) are not audited");
        assert!(text(&output).contains(&said), "{}", text(&output));
        if events {
            let of = |line: &Value| line["event"] == "unaudited" && line["frames"] == frames;
            assert!(lines(&told).iter().any(of));
            assert!(
                audit["findings"].as_array().is_some_and(|findings| !findings.is_empty()),
                "what was told"
            );
        }
        fs::remove_dir_all(directory).unwrap();
    }
}

/// The memory that a process takes now, MiB, as long as it is there: without the program itself, of which a build for tests
/// has a hundred megabytes and more.
fn resident(child: &Child) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib >> 10)
}

#[test]
fn a_run_stays_within_its_memory_limit_in_a_flood_of_conversations_and_of_names() {
    const MANY: u32 = if cfg!(debug_assertions) { 150_000 } else { 3_000_000 };
    for (limit, what, written) in [
        (192, "conversations", false),
        (192, "names", false),
        (192, "conversations", true),
        (192, "names", true),
    ] {
        let directory = scratch(&format!("within-{limit}-{what}-{written}"));
        let (out, events) = (directory.join("out"), directory.join("events.jsonl"));
        let told = format!("{limit}MiB");
        let mut run = Run::begin(written.then_some(out.as_path()), &events, &["--memory-limit", &told]);
        let mut pipe = run.child.stdin.take().expect("a pipe");
        let feeding = std::thread::spawn({
            let names = what == "names";
            move || {
                let mut made = Made::new();
                for number in 0..MANY {
                    if names {
                        made.dns(number, false);
                        made.dns(number, true);
                    } else {
                        made.syn(number);
                    }
                    made.at += i64::from(number % 100 == 0);
                    if number % 10_000 == 0 {
                        pipe.write_all(&made.take()).expect("the pipe takes it");
                    }
                }
                pipe.write_all(&made.take()).expect("the pipe takes it");
                made.frames
            }
        });
        // What is printed at the end is read by a thread of its own.
        let mut stdout = run.child.stdout.take().expect("its output");
        let printed = std::thread::spawn(move || {
            let mut text = Vec::new();
            std::io::Read::read_to_end(&mut stdout, &mut text).map(|_| text)
        });
        let mut most = 0;
        while run.child.try_wait().expect("a child").is_none() {
            most = most.max(resident(&run.child).unwrap_or_default());
            std::thread::sleep(Duration::from_millis(2));
        }
        let frames = feeding.join().expect("all is fed");
        let audit: Value = serde_json::from_slice(&printed.join().unwrap().unwrap()).unwrap_or_default();
        eprintln!("{MANY} {what}, {limit} MiB, written: {written}: {most} MiB");
        // What Parquet takes while it is written is within it.
        assert!(most > 0 && most <= limit, "{what}, written: {written}: {most} of {limit} MiB");
        // Of a run that was audited window by window, the last stands there.
        let counted = audit["totals"]["frames"].as_u64();
        assert!(counted.is_none_or(|counted| counted <= frames), "{counted:?}");
        fs::remove_dir_all(directory).unwrap();
    }
}

#[cfg(target_env = "gnu")]
#[test]
fn a_live_run_begins_anew_as_the_same_process_and_leaves_the_allocator_what_it_was_told() {
    let arguments = ["live", "-i", "-", "--site", "captures/site.toml", "--format", "json"];
    let mut run = portproof(&arguments);
    run.env("MALLOC_ARENA_MAX", "7").stdin(Stdio::piped());
    let mut child = run.spawn().expect("the program starts");
    let of_process = |file: &str| fs::read(format!("/proc/{}/{file}", child.id())).unwrap_or_default();
    let told = || {
        let all = of_process("environ");
        let all = String::from_utf8_lossy(&all);
        all.split('\0').filter(|one| one.starts_with("MALLOC_")).map(str::to_owned).collect::<Vec<_>>()
    };
    wait_for("its beginning", || told().len() == 2);
    let mut told = told();
    told.sort();
    assert_eq!(told, ["MALLOC_ARENA_MAX=7", "MALLOC_MMAP_THRESHOLD_=131072"]);
    assert_eq!(of_process("comm"), b"portproof\n");
    let capture = fs::read(project().join("captures/lab.pcap")).unwrap();
    child.stdin.take().expect("a pipe").write_all(&capture).expect("the pipe takes it");
    let output = ended(child);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
}

#[test]
fn a_memory_limit_that_no_live_run_can_do_with_is_refused() {
    let arguments = ["live", "-i", "-", "--site", "captures/site.toml", "--memory-limit", "191MiB"];
    let refused = ended(portproof(&arguments).stdin(Stdio::null()).spawn().expect("the program starts"));
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        text(&refused).contains("--memory-limit: a live run takes at least 192MiB"),
        "{}",
        text(&refused)
    );
}

/// A small file system, gone when it is dropped.
struct Small(PathBuf);

impl Small {
    fn mounted(at: PathBuf, size: &str) -> Small {
        fs::create_dir_all(&at).unwrap();
        let size = format!("size={size}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs", at.to_str().unwrap()])
            .status()
            .is_ok_and(|status| status.success());
        assert!(mounted, "a small file system can be mounted");
        Small(at)
    }

    /// Takes all room that is left.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = File::create(&path).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
        path
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_disk_that_was_full_for_a_while_costs_only_what_came_meanwhile() {
    if !can_make_namespaces("a_disk_that_was_full") {
        return;
    }
    for save in [true, false] {
        let directory = scratch(if save { "full-while-saved" } else { "full-while" });
        let disk = Small::mounted(directory.join("disk"), "12m");
        let (out, events) = (disk.0.join("out"), directory.join("events.jsonl"));
        let mut made = Made::new();
        let more: &[&str] = if save { &["--save", "--rotate", "2s"] } else { &["--rotate", "2s"] };
        let mut run = Run::begin(Some(&out), &events, more);
        run.feed(&made.syns(0..500));
        let begun = || {
            let part = fs::metadata(out.join("packets/.000001.pcapng.part"));
            part.is_ok_and(|file| file.len() > 30_000) || journalled(&out, 1) == 500
        };
        wait_for("the first frames", begun);
        let filler = disk.fill();
        run.feed(&made.syns(500..1_000));
        wait_for("that it is told", || !run.told("unwritten").is_empty());
        fs::remove_file(filler).unwrap();
        if save {
            // Frames that come now go into a file of their own.
            wait_for("that it is over", || {
                run.feed(&made.syns(1_000..1_001));
                std::thread::sleep(Duration::from_millis(200));
                !run.told("unsaved").is_empty()
            });
        }
        made.at += 3_000;
        run.feed(&made.syns(2_000..2_300));
        drop(run.child.stdin.take());
        let output = ended(run.child);
        assert_eq!(output.status.code(), Some(3), "save {save}: {}", text(&output));
        let audit: Value = serde_json::from_slice(&output.stdout).expect("an audit");
        assert_eq!(audit["totals"]["frames"], made.frames, "save {save}: all were judged");
        let unsaved = live_counts(&audit, "unsaved");
        if save {
            let told: u64 = lines(&events)
                .iter()
                .filter(|line| line["event"] == "unsaved")
                .map(|line| line["frames"].as_u64().unwrap())
                .sum();
            assert!((1..=1_000).contains(&unsaved), "{unsaved}: {}", text(&output));
            assert_eq!(told, unsaved);
            // What the files hold and what they do not is all there was; and each file can be read to its end.
            let offline = audited(&[out.join("packets").to_str().unwrap(), "--site", "captures/site.toml"]);
            let offline: Value = serde_json::from_slice(&offline.stdout).expect("an audit");
            assert_eq!(offline["totals"]["frames"].as_u64().unwrap() + unsaved, made.frames);
            let ends = offline["inputs"].as_array().unwrap().iter().map(|input| &input["end"]);
            assert!(ends.clone().all(|end| end == "complete"), "{:?}", ends.collect::<Vec<_>>());
        } else {
            // Rows waited in memory until there was room.
            assert_eq!((unsaved, chained(&out)), (0, made.frames));
        }
        drop(disk);
        fs::remove_dir_all(directory).unwrap();
    }
}

#[test]
fn what_a_killed_run_left_waits_for_a_disk_that_takes_nothing_and_watching_goes_on() {
    if !can_make_namespaces("what_a_killed_run_left_waits") {
        return;
    }
    for (save, how, again) in [
        (false, "full", true),
        (false, "full", false),
        (true, "full", true),
        (false, "read-only", true),
        (true, "read-only", false),
    ] {
        let what = format!("left-{how}-{save}-{again}");
        let directory = scratch(&what);
        let disk = Small::mounted(directory.join("disk"), "12m");
        let (out, events) = (disk.0.join("out"), directory.join("events.jsonl"));
        let more: &[&str] = if save { &["--save"] } else { &[] };
        let mut made = Made::new();
        let mut killed = Run::begin(Some(&out), &events, more);
        killed.feed(&made.syns(0..500));
        let part = out.join("packets/.000001.pcapng.part");
        wait_for("the first frames", || {
            fs::metadata(&part).is_ok_and(|file| file.len() > 30_000) || journalled(&out, 1) == 500
        });
        killed.child.kill().unwrap();
        killed.child.wait().unwrap();
        let left = || fs::read(out.join("segments/.journal-000001")).ok();
        let before = left();
        let filler = (how == "full").then(|| disk.fill());
        let remount = |as_: &str| {
            let ran = Command::new("mount").args(["-o", as_, disk.0.to_str().unwrap()]).status();
            assert!(ran.is_ok_and(|status| status.success()), "{as_}");
        };
        if how == "read-only" {
            remount("remount,ro");
        }

        let events = directory.join("events-2.jsonl");
        let mut run = Run::begin(Some(&out), &events, more);
        run.feed(&Made::new().syns(1_000..1_300));
        let segments =
            |line: &Value| line["path"].as_str().is_some_and(|path| !path.contains(".journal-00000"));
        wait_for("that it is told", || run.told("unwritten").iter().any(segments));
        assert_eq!(run.told("gap")[0]["recovered"], false, "{what}");
        assert_eq!(left(), before, "{what}: it is touched");
        let makes_room = || {
            filler.iter().for_each(|filler| fs::remove_file(filler).unwrap());
            if how == "read-only" {
                remount("remount,rw");
            }
        };
        if again {
            makes_room();
            wait_for("that it is recovered", || chained(&out) == 500);
            assert!(links(&out)[0].recovered);
        }
        drop(run.child.stdin.take());
        let output = ended(run.child);
        assert_eq!(output.status.code(), Some(3), "{what}: {}", text(&output));
        assert!(text(&output).contains("waits until it can"), "{what}: {}", text(&output));
        let audit: Value = serde_json::from_slice(&output.stdout).expect("an audit");
        assert_eq!(audit["totals"]["frames"], 300, "{what}: all were judged");
        if again {
            let recovered: Vec<(bool, bool)> =
                links(&out).iter().map(|link| (link.recovered, link.gap_before)).collect();
            assert_eq!(recovered[..2], [(true, false), (false, true)], "{what}");
        } else {
            assert_eq!((left(), chained(&out)), (before, 0), "{what}");
            makes_room();
        }

        let mut next = Run::begin(Some(&out), &directory.join("events-3.jsonl"), more);
        next.feed(&Made::new().syns(2_000..2_001));
        wait_for("the late audit", || !next.told("late").is_empty());
        drop(next.child.stdin.take());
        let output = ended(next.child);
        assert_eq!(output.status.code(), Some(1), "{what}: {}", text(&output));
        let late: Value =
            serde_json::from_slice(&fs::read(out.join("late-000001/audit.json")).unwrap()).unwrap();
        let frames = late["totals"]["frames"].as_u64().unwrap();
        assert!(frames >= 500, "{what}: {frames}");
        assert!(!out.join("unjudged.json").exists() && !out.join("watching.json").exists(), "{what}");
        drop(disk);
        fs::remove_dir_all(directory).unwrap();
    }
}

#[test]
fn a_run_is_unwell_while_its_disk_is_full_and_well_again_when_it_is_not() {
    if !can_make_namespaces("a_run_is_unwell") {
        return;
    }
    for save in [true, false] {
        let directory = scratch(&format!("well-again-{save}"));
        let disk = Small::mounted(directory.join("disk"), "12m");
        let (out, events) = (disk.0.join("out"), directory.join("events.jsonl"));
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let more = ["--web", &free, "--rotate", "2s", "--save"];
        let mut made = Made::new();
        let mut run = Run::begin(Some(&out), &events, &more[..if save { 5 } else { 4 }]);
        run.feed(&made.syns(0..500));
        let asked = |path: &str| raw(&free, &format!("GET {path} HTTP/1.1"), &[&format!("Host: {free}")]);
        let health = || {
            let (head, body) = asked("/healthz");
            (head.contains(" 200 "), serde_json::from_str::<Value>(&body).unwrap_or_default())
        };
        let measured = |name: &str| {
            let (_, text) = asked("/metrics");
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}"));
            line.rsplit(' ').next().unwrap().to_owned()
        };
        wait_for("the first frames", || {
            let part = fs::metadata(out.join("packets/.000001.pcapng.part"));
            part.is_ok_and(|file| file.len() > 30_000) || journalled(&out, 1) == 500
        });
        wait_for("that it is well", || health().0);
        let filler = disk.fill();
        run.feed(&made.syns(500..1_000));
        wait_for("that it is unwell", || !health().0);
        let (_, told) = health();
        assert_eq!(told["state"], "degraded");
        let reason = told["reasons"][0].as_str().unwrap_or_default();
        assert!(reason.contains("cannot be written: No space left on device"), "{told}");
        assert_eq!((&*measured("portproof_healthy "), &*measured("portproof_refused_files ")), ("0", "1"));
        fs::remove_file(filler).unwrap();
        let mut number = 1_000;
        wait_for("that it is well again", || {
            run.feed(&made.syns(number..number + 1));
            number += 1;
            std::thread::sleep(Duration::from_millis(200));
            health().0
        });
        let (_, told) = health();
        assert_eq!((&told["state"], &told["reasons"]), (&json!("ok"), &json!([])));
        assert_eq!(told["past"]["unsaved_frames"].as_u64() > Some(0), save, "{told}");
        assert_eq!((&*measured("portproof_healthy "), &*measured("portproof_refused_files ")), ("1", "0"));
        assert!(!run.told("written").is_empty());
        drop(run.child.stdin.take());
        assert_eq!(ended(run.child).status.code(), Some(3));
        drop(disk);
        fs::remove_dir_all(directory).unwrap();
    }
}

#[test]
fn events_go_on_when_their_disk_has_room_again_and_say_how_many_are_missing() {
    if !can_make_namespaces("events_go_on") {
        return;
    }
    let directory = scratch("events-full");
    let disk = Small::mounted(directory.join("disk"), "2m");
    let events = disk.0.join("events.jsonl");
    let mut made = Made::new();
    let mut run = Run::begin(None, &events, &[]);
    // Conversations between the same two addresses and port are one finding.
    run.feed(&made.syns(0..50));
    wait_for("the first finding", || !run.told("appeared").is_empty());
    let filler = disk.fill();
    for host in 1..60 {
        run.feed(&made.syns(host * 16_384..host * 16_384 + 1));
    }
    std::thread::sleep(Duration::from_millis(2_500));
    fs::remove_file(filler).unwrap();
    wait_for("that it is told how many are missing", || !run.told("untold").is_empty());
    assert!(run.told("untold")[0]["events"].as_u64() > Some(0));
    run.feed(&made.syns(80 * 16_384..80 * 16_384 + 1));
    let last = |line: &Value| line["finding"]["to"]["ip"] == "198.18.0.80";
    wait_for("the next finding", || run.told("appeared").iter().any(last));
    drop(run.child.stdin.take());
    let output = ended(run.child);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert!(
        text(&output).contains("events.jsonl: what could not be written can be again"),
        "{}",
        text(&output)
    );
    drop(disk);
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_directory_that_is_gone_or_may_not_be_written_is_told_counted_and_the_audit_is_made() {
    let root =
        fs::metadata("/proc/self").map(|meta| std::os::unix::fs::MetadataExt::uid(&meta)).ok() == Some(0);
    for (how, save) in [("gone", true), ("gone", false), ("refused", true), ("refused", false)] {
        if how == "refused" && !root {
            eprintln!("a directory that may not be written is not tried: that takes root");
            continue;
        }
        let directory = scratch(&format!("{how}-{save}"));
        let (out, events) = (directory.join("out"), directory.join("events.jsonl"));
        let mut more = if save { vec!["--save", "--rotate", "2s"] } else { vec!["--rotate", "2s"] };
        if how == "refused" {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
            more.extend(["--user", "65534"]);
        }
        let mut made = Made::new();
        let mut run = Run::begin(Some(&out), &events, &more);
        run.feed(&made.syns(0..500));
        wait_for("the first frames", || {
            let part = fs::metadata(out.join("packets/.000001.pcapng.part"));
            part.is_ok_and(|file| file.len() > 30_000) || journalled(&out, 1) == 500
        });
        let (moved, inside) = (directory.join("moved"), ["packets", "segments", "."]);
        let permit = |mode: u32| {
            use std::os::unix::fs::PermissionsExt;
            for directory in inside.iter().map(|name| out.join(name)).filter(|path| path.exists()) {
                fs::set_permissions(directory, fs::Permissions::from_mode(mode)).unwrap();
            }
        };
        match how {
            "gone" => fs::rename(&out, &moved).unwrap(),
            _ => permit(0o555),
        }
        // The next segments.
        made.at += 3_000;
        run.feed(&made.syns(500..900));
        made.at += 3_000;
        run.feed(&made.syns(900..1_000));
        wait_for("that it is told", || !run.told("unwritten").is_empty());
        drop(run.child.stdin.take());
        let output = ended(run.child);
        assert_eq!(output.status.code(), Some(3), "{how}, save {save}: {}", text(&output));
        let audit: Value = serde_json::from_slice(&output.stdout).expect("an audit");
        assert_eq!(audit["totals"]["frames"], made.frames, "{how}, save {save}");
        let unsaved = live_counts(&audit, "unsaved");
        assert!(unsaved > 0, "{how}, save {save}: {}", text(&output));
        assert!(text(&output).contains("could not be written; they were judged"), "{}", text(&output));
        if how == "refused" {
            permit(0o755);
        }
        fs::remove_dir_all(directory).unwrap();
    }
}

/// A file system of its own that can fail, gone when it is dropped.
struct Failing {
    at: PathBuf,
    image: PathBuf,
}

impl Failing {
    /// None where there are no loop devices.
    fn mounted(directory: &Path) -> Option<Failing> {
        let (at, image) = (directory.join("disk"), directory.join("image"));
        fs::create_dir_all(&at).unwrap();
        File::create(&image).unwrap().set_len(24 << 20).unwrap();
        let run = |program: &str, arguments: &[&str]| {
            let ran = Command::new(program).args(arguments).stderr(Stdio::null()).status();
            ran.is_ok_and(|status| status.success())
        };
        let (on, file) = (at.to_str().unwrap(), image.to_str().unwrap());
        let made = run("mkfs.ext4", &["-q", "-O", "^has_journal", file])
            && run("mount", &["-o", "loop,errors=remount-ro", file, on]);
        made.then_some(Failing { at, image })
    }

    /// As after an error of the device: from now on nothing can be written, to open files neither.
    fn becomes_read_only(&self) {
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let line = mounts.lines().find(|line| line.split(' ').nth(1) == self.at.to_str()).expect("a mount");
        let device =
            line.split(' ').next().and_then(|device| device.strip_prefix("/dev/")).expect("a device");
        fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "1").expect("an error");
        assert!(File::create(self.at.join("probe")).is_err(), "it can be written still");
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
        let _ = fs::remove_file(&self.image);
    }
}

#[test]
fn a_disk_that_becomes_read_only_is_told_counted_and_the_audit_is_made() {
    for save in [true, false] {
        let directory = scratch(&format!("read-only-{save}"));
        let Some(disk) = Failing::mounted(&directory) else {
            let required = std::env::var_os("PORTPROOF_REQUIRE_SHARED").is_some();
            assert!(!required, "a file system cannot be mounted from a file");
            eprintln!("a disk that becomes read-only is not tried: that takes root and loop devices");
            fs::remove_dir_all(directory).unwrap();
            return;
        };
        let (out, events) = (disk.at.join("out"), directory.join("events.jsonl"));
        let more: &[&str] = if save { &["--save", "--rotate", "2s"] } else { &["--rotate", "2s"] };
        let mut made = Made::new();
        let mut run = Run::begin(Some(&out), &events, more);
        run.feed(&made.syns(0..500));
        wait_for("the first frames", || {
            let part = fs::metadata(out.join("packets/.000001.pcapng.part"));
            part.is_ok_and(|file| file.len() > 30_000) || journalled(&out, 1) == 500
        });
        disk.becomes_read_only();
        run.feed(&made.syns(500..900));
        wait_for("that it is told", || !run.told("unwritten").is_empty());
        // It goes on: what comes now is judged, and told.
        made.at += 3_000;
        made.tcp(100_000, false, 0x02);
        run.feed(&made.take());
        let seen = |line: &Value| line["finding"]["to"]["ip"] == "198.18.0.6";
        wait_for("that watching goes on", || run.told("appeared").iter().any(seen));
        drop(run.child.stdin.take());
        let output = ended(run.child);
        assert_eq!(output.status.code(), Some(3), "save {save}: {}", text(&output));
        assert!(text(&output).contains("Read-only file system"), "{}", text(&output));
        assert!(text(&output).contains("could not be written; they were judged"), "{}", text(&output));
        let audit: Value = serde_json::from_slice(&output.stdout).expect("an audit");
        assert_eq!(audit["totals"]["frames"], made.frames, "save {save}: all were judged");
        let unsaved = live_counts(&audit, "unsaved");
        assert!((1..=made.frames).contains(&unsaved), "save {save}: {unsaved}");
        let told: u64 = lines(&events)
            .iter()
            .filter(|line| line["event"] == "unsaved")
            .map(|line| line["frames"].as_u64().unwrap())
            .sum();
        assert_eq!(told, unsaved, "save {save}");
        drop(disk);
        fs::remove_dir_all(directory).unwrap();
    }
}

#[test]
fn a_run_that_is_killed_while_a_segment_is_written_leaves_that_one_and_the_next() {
    let directory = scratch("killed-between");
    let (out, events) = (directory.join("out"), directory.join("events.jsonl"));
    let lab = fs::read(project().join("captures/lab.pcap")).unwrap();
    let mut run = Run::begin(Some(&out), &events, &[]);
    run.feed(&lab);
    let journal = |number: u64| out.join(format!("segments/.journal-{number:06}"));
    wait_for("what was seen", || journalled(&out, 1) == 278);
    run.child.kill().unwrap();
    run.child.wait().unwrap();
    // As it stands while the first is being written and the second has begun: half of its rows under another name.
    fs::copy(journal(1), journal(2)).unwrap();
    fs::create_dir_all(out.join("segments/.000001.part")).unwrap();
    let mut next = Run::begin(Some(&out), &events, &[]);
    next.feed(&lab);
    drop(next.child.stdin.take());
    let output = ended(next.child);
    assert!(text(&output).contains("an earlier run ended unexpectedly"), "{}", text(&output));
    let told: Vec<_> = links(&out).iter().map(|link| (link.segment, link.frames, link.recovered)).collect();
    assert_eq!(told, [(1, 278, true), (2, 278, true), (3, 278, false)]);
    assert!(!journal(1).exists() && !journal(2).exists() && !journal(3).exists());
    fs::remove_dir_all(directory).unwrap();
}

/// What a run says that it did not read any more, and whether all that was offered is accounted for.
fn watched(cable: &Cable, device: &str, traffic: impl Fn()) -> Value {
    let directory = scratch(&format!("unread-{device}"));
    let events = directory.join("events.jsonl");
    let arguments = ["live", "-i", device, "--site", "captures/site.toml", "--format", "json", "--events"];
    let child =
        cable.portproof(&[&arguments[..], &[events.to_str().unwrap()]].concat()).spawn().expect("it starts");
    wait_for("the beginning", || lines(&events).iter().any(|line| line["event"] == "began"));
    traffic();
    std::thread::sleep(Duration::from_millis(500));
    // No wish that leaves something undone.
    signal(&child, "-INT");
    let output = ended(child);
    let unread = if device == "lo" { "an unknown number" } else { "0" };
    let said = format!(", {unread} left unread at the end");
    assert!(text(&output).contains(&said), "{device}: {}", text(&output));
    fs::remove_dir_all(directory).unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output)))
}

#[test]
fn of_frames_that_the_kernel_counts_twice_none_is_said_to_be_unread() {
    if !can_make_namespaces("of_frames_that_the_kernel_counts_twice") {
        return;
    }
    let cable = Cable::new("lo");
    let talk = || {
        let script = "import socket\nfor host, port in (('127.0.0.1', 4000), ('10.20.0.10', 4001)):\n    \
                      s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n    \
                      for n in range(100): s.sendto(b'x' * 100, (host, port)) if n % 10 else None";
        let mut python = Command::new("ip");
        python.args(["netns", "exec", &cable.near, "python3", "-c", script]);
        // Whoever does not listen says so, and that is an error of the second datagram.
        let _ = python.stderr(Stdio::null()).status();
    };
    for device in ["lo", "any"] {
        let audit = watched(&cable, device, talk);
        let frames = audit["totals"]["frames"].as_u64().unwrap();
        assert!(frames >= 2, "{device}: {frames}");
        let unread = &audit["inputs"][0]["live"]["unread"];
        assert_eq!(*unread, if device == "lo" { Value::Null } else { Value::from(0) }, "{device}");
        assert_eq!(live_counts(&audit, "offered"), frames, "{device}");
    }
}

#[test]
fn a_syslog_that_was_restarted_is_told_again_by_a_confined_run() {
    let directory = scratch("syslog");
    let socket = directory.join("log");
    let bind = || {
        let _ = fs::remove_file(&socket);
        let bound = UnixDatagram::bind(&socket).expect("a socket");
        bound.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        bound
    };
    let receive = |socket: &UnixDatagram| {
        let mut buffer = vec![0; 1 << 16];
        let length = socket.recv(&mut buffer).expect("a message");
        String::from_utf8(buffer[..length].to_vec()).expect("text")
    };
    let first = bind();
    let more = ["--syslog", socket.to_str().unwrap(), "--verbose"];
    let mut run = Run::begin(None, &directory.join("events.jsonl"), &more);
    let mut made = Made::new();
    made.syn(1);
    run.feed(&made.take());
    while !receive(&first).contains("appeared") {}
    drop(first);
    fs::remove_file(&socket).unwrap();
    // Nobody is there to be told of this one.
    made.at += 1_000;
    made.tcp(20_000, false, 0x02);
    run.feed(&made.take());
    wait_for("the second", || run.told("appeared").len() >= 2);
    let second = bind();
    made.at += 1_000;
    made.tcp(40_000, false, 0x02);
    run.feed(&made.take());
    let mut told = vec![receive(&second)];
    while !told.iter().any(|message| message.contains("could not be sent")) {
        told.push(receive(&second));
    }
    drop(run.child.stdin.take());
    let output = ended(run.child);
    let confined = !text(&output).contains("system calls are not filtered");
    assert!(confined || std::env::var_os("PORTPROOF_REQUIRE_SHARED").is_none(), "{}", text(&output));
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn what_worked_and_what_was_blocked_at_another_time_is_told_as_intermittent_while_the_run_goes_on() {
    let events = scratch("intermittent").join("events.jsonl");
    let mut made = Made::new();
    let browser = Ipv4Addr::new(10, 40, 0, 9);
    let mut segment = |port: u16, answer: bool, flags: u8, seq: u32| {
        let (from, to) = if answer { (APPLIANCE, browser) } else { (browser, APPLIANCE) };
        let [own, other] = [port, 443].map(u16::to_be_bytes);
        let ports = if answer { [other, own] } else { [own, other] };
        let fixed = [0x50, flags, 4, 0, 0, 0, 0, 0];
        let ack = if flags & 0x10 == 0 { 0u32 } else { 101 };
        made.packet(
            from,
            to,
            6,
            &[&ports.concat()[..], &seq.to_be_bytes(), &ack.to_be_bytes(), &fixed].concat(),
        );
        made.at += 1;
        made.take()
    };
    let blocked = [segment(50_001, false, 0x02, 100), segment(50_001, true, 0x14, 0)].concat();
    let worked = [
        segment(50_002, false, 0x02, 100),
        segment(50_002, true, 0x12, 100),
        segment(50_002, false, 0x10, 101),
    ];
    let mut run = Run::begin(None, &events, &[]);
    let told =
        |run: &Run, code: &str| run.told("appeared").iter().any(|line| line["finding"]["code"] == code);
    run.feed(&blocked);
    wait_for("that it is blocked", || told(&run, "documented-blocked"));
    assert!(!told(&run, "intermittent"), "nothing worked yet");
    run.feed(&worked.concat());
    wait_for("that it worked, too", || told(&run, "intermittent"));
    let ended = run.child.wait_with_output().unwrap();
    let audit: Value = serde_json::from_slice(&ended.stdout).unwrap();
    let codes: Vec<&Value> =
        audit["findings"].as_array().unwrap().iter().map(|finding| &finding["code"]).collect();
    assert!(codes.contains(&&json!("intermittent")), "{codes:?}");
}
