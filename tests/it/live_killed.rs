//! A live run that is killed, at any moment: what is on the disk then, and what the next run makes of it.

use crate::live::{ended, portproof, scratch, text, wait_for};
use portproof::pipeline::live::{Link, SegmentFile};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What a run may lose that is killed. Built without optimisation, and beside other tests, a frame takes longer to be taken.
const MAY_LOSE: Duration = Duration::from_millis(if cfg!(debug_assertions) { 1_500 } else { 1_000 });

/// How often a run is killed, when at the latest, and what it sees until then.
struct Plan {
    kills: usize,
    most_ms: u64,
    /// Conversations that begin every five milliseconds.
    burst: u32,
}

const CALM: Plan = Plan { kills: 20, most_ms: 3_000, burst: 10 };

/// Some 30,000 conversations a second.
const FLOOD: Plan = Plan { kills: 4, most_ms: 2_000, burst: 150 };

/// One packet of TCP from or to the appliance, as a record of a capture with microseconds.
fn packet(number: u32, answer: bool, flags: u8, payload: &[u8]) -> Vec<u8> {
    let (appliance, other) = ([10, 10, 1, 4], (0xc612_0000 + number / 16_384).to_be_bytes());
    let (own, server) = ((20_000 + number % 16_384) as u16, 8_443u16);
    let (from, to, from_port, to_port) =
        if answer { (other, appliance, server, own) } else { (appliance, other, own, server) };
    let (seq, ack) = if answer { (700u32, 101u32) } else { (100, 0) };
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    let length = (40 + payload.len() as u16).to_be_bytes();
    frame.extend([0x45, 0, length[0], length[1], 0, 0, 0, 0, 64, 6, 0, 0]);
    frame.extend(from.into_iter().chain(to));
    frame.extend(from_port.to_be_bytes().into_iter().chain(to_port.to_be_bytes()));
    frame.extend(seq.to_be_bytes().into_iter().chain(ack.to_be_bytes()));
    frame.extend([0x50, flags, 4, 0, 0, 0, 0, 0]);
    frame.extend(payload);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970");
    let length = (frame.len() as u32).to_le_bytes();
    let seconds = (now.as_secs() as u32).to_le_bytes();
    [&seconds[..], &now.subsec_micros().to_le_bytes(), &length, &length, &frame].concat()
}

/// The beginning of a capture of Ethernet.
const BEGINNING: [u8; 24] =
    [0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0];

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn begun(out: &Path, events: &Path, more: &[&str]) -> Child {
    let began = || lines(events).iter().filter(|line| line["event"] == "began").count();
    let before = began();
    let (out, told) = (out.to_str().unwrap(), events.to_str().unwrap());
    let arguments = ["live", "-i", "-", "--site", "captures/site.toml", "--out", out, "--events", told];
    let arguments = [&arguments[..], &["--format", "json"], more].concat();
    let mut child = portproof(&arguments).stdin(Stdio::piped()).spawn().expect("the program starts");
    child.stdin.as_mut().expect("a pipe").write_all(&BEGINNING).expect("the pipe takes it");
    wait_for("its beginning", || began() > before);
    child
}

/// Verifies a chain and each file in it; hands back its lines.
fn verified(out: &Path) -> Vec<Link> {
    let mut previous = String::new();
    let mut links = Vec::new();
    for line in fs::read_to_string(out.join("chain.jsonl")).expect("a chain").lines() {
        let link: Link = serde_json::from_str(line).expect("a line of the chain");
        assert_eq!((&link.digest, &link.previous), (&link.digest(), &previous), "segment {}", link.segment);
        for SegmentFile { path, bytes, sha256 } in &link.files {
            let content = fs::read(out.join(path)).expect("a file of the chain");
            let digest: String = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!((content.len() as u64, &digest), (*bytes, sha256), "{path}");
        }
        previous.clone_from(&link.digest);
        links.push(link);
    }
    links
}

/// The conversations that all rows of a directory hold, by server and port of the appliance: what can be read of them, by the
/// program itself.
fn conversations(out: &Path, links: &[Link]) -> BTreeSet<(String, u64)> {
    let mut files: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for file in links.iter().flat_map(|link| &link.files) {
        for kind in ["flows", "names", "summary"] {
            if Path::new(&file.path).file_stem().is_some_and(|stem| stem == kind) {
                files.entry(kind).or_default().push(out.join(&file.path).display().to_string());
            }
        }
    }
    let mut arguments = vec!["judge", "--site", "captures/site.toml", "--format", "jsonl"];
    for (kind, option) in [("flows", "--flows"), ("names", "--names"), ("summary", "--summary")] {
        arguments.push(option);
        arguments.extend(files[kind].iter().map(String::as_str));
    }
    let judged = portproof(&arguments).output().expect("the program runs");
    assert!(judged.status.code().is_some_and(|code| code != 2), "{}", text(&judged));
    assert!(!text(&judged).contains("cannot be read"), "{}", text(&judged));
    let rows = String::from_utf8(judged.stdout).expect("text");
    let flows = rows.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    flows
        .filter(|row| row["type"] == "flow")
        .map(|row| {
            (row["responder_ip"].as_str().unwrap().to_owned(), row["initiator_port"].as_u64().unwrap())
        })
        .collect()
}

fn survives(name: &str, plan: &Plan, more: &[&str]) {
    let directory = scratch(name);
    let (out, events) = (directory.join("out"), directory.join("events.jsonl"));
    let seed = u64::from(std::process::id());
    eprintln!("{name}: seed {seed}");
    let mut random = seed;
    let mut next = move |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    // Each conversation, with its age when its run was killed.
    let (mut number, mut ages) = (0u32, Vec::new());
    for _ in 0..plan.kills {
        let mut child = begun(&out, &events, more);
        let pipe = child.stdin.as_mut().expect("a pipe");
        let until = Instant::now() + Duration::from_millis(100 + next(plan.most_ms));
        let mut written = Vec::new();
        while Instant::now() < until {
            let mut burst = Vec::new();
            for _ in 0..plan.burst {
                burst.extend(packet(number, false, 0x02, &[]));
                // Some go on, in the same segment and in later ones.
                if number.is_multiple_of(3) {
                    burst.extend(packet(number, true, 0x12, &[]));
                    burst.extend(packet(number, false, 0x18, b"\x16\x03\x01\0\x05hello"));
                }
                if let Some(&(earlier, _)) = written.get(next(1 + written.len() as u64) as usize) {
                    burst.extend(packet(earlier, true, 0x10, &[]));
                }
                written.push((number, Instant::now()));
                number += 1;
            }
            pipe.write_all(&burst).expect("the pipe takes it");
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().expect("a child");
        let killed = Instant::now();
        child.wait().expect("a child");
        ages.extend(written.into_iter().map(|(number, at)| (number, killed.saturating_duration_since(at))));
    }
    // One that is not killed takes up what is left, and audits it.
    let child = begun(&out, &events, more);
    let output = ended(child);
    assert!(text(&output).contains("an earlier run ended unexpectedly"), "{}", text(&output));
    let links = verified(&out);
    let seen = conversations(&out, &links);
    let name_of = |number: u32| {
        let ip = std::net::Ipv4Addr::from(0xc612_0000 + number / 16_384);
        (ip.to_string(), u64::from(20_000 + number % 16_384))
    };
    let lost: Vec<&(u32, Duration)> =
        ages.iter().filter(|(number, _)| !seen.contains(&name_of(*number))).collect();
    let oldest = lost.iter().map(|(_, age)| *age).max().unwrap_or_default();
    eprintln!(
        "{name}: of {} conversations {} were lost, the oldest {} ms before a kill; {} segments",
        ages.len(),
        lost.len(),
        oldest.as_millis(),
        links.len(),
    );
    assert!(oldest <= MAY_LOSE, "one of {oldest:?} before a kill is lost");
    // Whatever is in the chain is audited.
    assert!(!out.join("unjudged.json").exists() && !out.join("watching.json").exists());
    let mut audited = 0;
    for entry in fs::read_dir(&out).expect("the directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("late-") || name.starts_with("window-") {
            let audit = fs::read(path.join("audit.json")).expect("an audit");
            let audit: Value = serde_json::from_slice(&audit).expect("an audit");
            audited += audit["totals"]["frames"].as_u64().unwrap();
        }
    }
    let last: Value = serde_json::from_slice(&output.stdout).expect("an audit");
    audited += last["totals"]["frames"].as_u64().unwrap();
    assert_eq!(audited, links.iter().map(|link| link.frames).sum::<u64>(), "every frame is audited once");
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_run_killed_at_any_moment_loses_no_conversation_older_than_a_second() {
    std::thread::scope(|scope| {
        scope.spawn(|| survives("killed-rows", &CALM, &[]));
        scope.spawn(|| survives("killed-often", &CALM, &["--rotate", "1s", "--window", "4s"]));
        scope.spawn(|| survives("killed-frames", &CALM, &["--save", "--rotate", "1s"]));
    });
}

#[test]
fn a_run_killed_in_a_flood_loses_no_conversation_older_than_a_second() {
    survives("killed-flood", &FLOOD, &[]);
}

#[test]
fn a_run_killed_before_it_saw_anything_is_said_to_have_ended_unexpectedly() {
    let directory = scratch("killed-at-once");
    let (out, events) = (directory.join("out"), directory.join("events.jsonl"));
    let mut child = begun(&out, &events, &[]);
    child.kill().expect("a child");
    child.wait().expect("a child");
    let output = ended(begun(&out, &events, &[]));
    assert!(
        text(&output).contains("an earlier run ended unexpectedly: nothing was seen"),
        "{}",
        text(&output)
    );
    // That one ended as it should.
    let output = ended(begun(&out, &events, &[]));
    assert!(!text(&output).contains("unexpectedly"), "{}", text(&output));
    fs::remove_dir_all(directory).unwrap();
}
