//! Long work says how far it is, and a signal ends it with what was read so far.

use serde_json::Value;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Frames of the lab's capture that are handed over whole.
const FRAMES: usize = 120;

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn start(arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_portproof"))
        .current_dir(project())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts")
}

/// The lab's capture up to within a frame: its header, whole frames, a half one.
fn begun_capture() -> Vec<u8> {
    let file = fs::read(project().join("captures/lab.pcap")).expect("the capture");
    let mut at = 24;
    for _ in 0..FRAMES {
        let length = u32::from_le_bytes(file[at + 8..at + 12].try_into().expect("four bytes"));
        at += 16 + length as usize;
    }
    file[..at + 20].to_vec()
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([name, &child.id().to_string()]).status().expect("kill");
    assert!(sent.success());
}

/// Waits for its end, whether or not its input ever ends.
fn ended(mut child: Child) -> Output {
    let until = Instant::now() + Duration::from_secs(60);
    let input = child.stdin.take();
    while child.try_wait().expect("a child").is_none() {
        if Instant::now() > until {
            child.kill().expect("a child");
            panic!("it does not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(input);
    child.wait_with_output().expect("its output")
}

/// Reads messages until it says that it has read so many bytes.
fn wait_for_bytes(child: &mut Child, bytes: usize) -> Vec<Value> {
    let mut messages = BufReader::new(child.stderr.take().expect("a pipe"));
    let mut told = Vec::new();
    loop {
        let mut line = String::new();
        assert!(messages.read_line(&mut line).expect("a message") > 0, "it ended: {told:?}");
        let Ok(message) = serde_json::from_str::<Value>(&line) else { continue };
        let enough = message["bytes"] == bytes;
        told.push(message);
        if enough {
            // What stands in the buffer of this reader is nothing yet: twice a second one line comes.
            child.stderr = Some(messages.into_inner());
            return told;
        }
    }
}

#[test]
fn an_interrupted_audit_tells_what_was_read_and_that_it_is_not_all() {
    let capture = begun_capture();
    let arguments = ["audit", "-", "--site", "captures/site.toml", "--progress", "json", "--format", "json"];
    let mut child = start(&arguments);
    child.stdin.as_mut().expect("a pipe").write_all(&capture).expect("the pipe takes it");
    let told = wait_for_bytes(&mut child, capture.len());
    let told = told.last().expect("it told something");
    for (field, expected) in [("type", "progress"), ("phase", "reading"), ("capture", "-")] {
        assert_eq!(told[field], expected, "{told}");
    }
    assert!(told["of"].is_null() && told["eta_s"].is_null(), "nobody knows how long a pipe is: {told}");
    // Its input is still open, and never goes on.
    signal(&child, "-INT");
    let output = ended(child);
    let messages = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(3), "{messages}");
    assert!(messages.contains("portproof: interrupted: what was read so far counts"), "{messages}");
    let done: Value = serde_json::from_str(messages.lines().last().expect("a message")).expect("JSON");
    assert_eq!((&done["type"], &done["interrupted"]), (&"done".into(), &true.into()), "{done}");
    assert_eq!((&done["bytes"], &done["frames"]), (&capture.len().into(), &FRAMES.into()), "{done}");
    assert!(done["digest_cpu_seconds"].is_f64() && done["seconds"].as_f64() > Some(0.0), "{done}");

    let audit: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let input = &audit["inputs"][0];
    assert_eq!(input["frames"], FRAMES);
    assert_eq!(input["end"]["frame"], FRAMES + 1);
    assert_eq!(input["end"]["offset"], capture.len() - 20);
    assert_eq!(input["end"]["problem"], "reading was interrupted");
    assert!(input["sha256"].is_null(), "no digest of a part passes for that of the file");
    assert_eq!(audit["capture_quality"]["complete"], false);
    assert!(audit["findings"].as_array().is_some_and(|findings| !findings.is_empty()));

    // Whoever reads the audit again is told the same.
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("interrupted-audit.json");
    fs::write(&file, &output.stdout).expect("a file");
    let again = ended_while_read(start(&["report", file.to_str().expect("text")]));
    let report = String::from_utf8(again.stdout).expect("text");
    assert_eq!(again.status.code(), Some(3));
    assert!(report.contains(&format!("reading was interrupted at frame {}", FRAMES + 1)), "{report}");
}

#[test]
fn captures_that_were_not_begun_are_listed_and_without_a_terminal_nothing_is_drawn() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("interrupting");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder");
    let [first, second, site] = ["a.pcap", "b.pcap", "site.toml"].map(|name| folder.join(name));
    assert!(Command::new("mkfifo").arg(&first).status().expect("mkfifo").success());
    fs::copy(project().join("captures/lab.pcap"), &second).expect("a capture");
    fs::copy(project().join("captures/site.toml"), &site).expect("the site file");
    let [first, second, site] = [&first, &second, &site].map(|path| path.to_str().expect("text"));
    let child = start(&["audit", first, second, "--site", site, "--jobs", "1"]);
    let mut pipe: File = OpenOptions::new().write(true).open(first).expect("a pipe");
    pipe.write_all(&begun_capture()).expect("the pipe takes it");
    // Longer than what a terminal would be told nothing about.
    std::thread::sleep(Duration::from_millis(1_500));
    signal(&child, "-TERM");
    let output = ended(child);
    drop(pipe);
    let messages = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(3), "{messages}");
    assert!(messages.lines().all(|line| line.starts_with("portproof: ")), "{messages:?}");
    assert!(messages.contains("b.pcap: not read: reading was interrupted before it"), "{messages}");
    let report = String::from_utf8(output.stdout).expect("text").replace("\n    ", " ").replace("\n  ", " ");
    let place = |text: &str| report.find(text).unwrap_or_else(|| panic!("no `{text}` in {report}"));
    let summary = place("the evidence is incomplete");
    let begun = place(&format!("reading was interrupted at frame {}", FRAMES + 1));
    let other = place("not read: reading was interrupted before it");
    let findings = place("HIGH documented-blocked");
    assert!(summary < begun.min(other) && begun.max(other) < findings, "first what is missing: {report}");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    // It waits for whoever reads its results, who never does.
    let mut child =
        start(&["audit", "captures/lab.pcap", "--site", "captures/site.toml", "--format", "html"]);
    let mut output = child.stdout.take().expect("a pipe");
    let mut first = [0; 1];
    output.read_exact(&mut first).expect("results");
    signal(&child, "-INT");
    std::thread::sleep(Duration::from_millis(200));
    assert!(child.try_wait().expect("a child").is_none(), "the first is a wish");
    signal(&child, "-INT");
    let status = ended(child).status;
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(2), "{status}");
}

#[test]
fn progress_changes_no_result() {
    let audit = |progress: &str| {
        let arguments = ["audit", "captures", "--site", "captures/site.toml", "--format", "json"];
        let child = start(&[&arguments[..], &["--progress", progress]].concat());
        let output = ended_while_read(child);
        (output.status.code(), output.stdout)
    };
    let silent = audit("none");
    assert!(!silent.1.is_empty());
    assert_eq!(audit("json"), silent);
}

fn ended_while_read(mut child: Child) -> Output {
    drop(child.stdin.take());
    child.wait_with_output().expect("its output")
}

#[test]
fn a_pipe_that_nobody_writes_to_is_waited_for_until_a_signal_comes() {
    let pipe = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("nobody-writes.pcap");
    let _ = fs::remove_file(&pipe);
    let made = Command::new("mkfifo").arg(&pipe).status().expect("mkfifo");
    assert!(made.success());
    let path = pipe.display().to_string();
    let run = start(&["audit", &path, "--site", "captures/site.toml"]);
    std::thread::sleep(Duration::from_millis(700));
    signal(&run, "-INT");
    let output = ended(run);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains(&path), "{told}");
    // Where somebody comes to write, all is read.
    let run = start(&["audit", &path, "--site", "captures/site.toml"]);
    std::thread::sleep(Duration::from_millis(300));
    let mut writer = OpenOptions::new().write(true).open(&pipe).expect("somebody reads");
    writer
        .write_all(&fs::read(project().join("captures/lab.pcap")).expect("the capture"))
        .expect("it is read");
    drop(writer);
    assert_eq!(ended(run).status.code(), Some(1));
    fs::remove_file(&pipe).expect("the pipe");
}

#[test]
fn the_last_line_of_progress_counts_all_flows_also_where_rows_are_written() {
    let room = tempfile::tempdir().expect("a directory");
    let out = room.path().join("out").to_string_lossy().into_owned();
    for more in [&[][..], &["--out", &out]] {
        let arguments = ["audit", "captures/lab.pcap", "--site", "captures/site.toml", "--progress", "json"];
        let child = start(&[&arguments[..], &["--format", "json"], more].concat());
        let output = child.wait_with_output().expect("it ends");
        let audit: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let done: Value = serde_json::from_str(said.lines().last().expect("a line")).expect("JSON");
        assert_eq!((&done["type"], &done["flows"]), (&"done".into(), &audit["totals"]["flows"]), "{said}");
    }
}
