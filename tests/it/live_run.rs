//! A live run over time: what is left of it if it is killed, devices that go away, disks that are full, rules that change,
//! and what it tells meanwhile.

use crate::live::{
    Cable, can_make_namespaces, ended, ip, journalled, portproof, project, scratch, signal, text, wait_for,
};
use portproof::pipeline::live::Link;
use serde_json::Value;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The lab's capture: whole, and up to its 120th frame.
fn capture() -> (Vec<u8>, Vec<u8>) {
    let file = fs::read(project().join("captures/lab.pcap")).expect("the capture");
    let mut at = 24;
    for _ in 0..120 {
        at += 16 + u32::from_le_bytes(file[at + 8..at + 12].try_into().expect("four bytes")) as usize;
    }
    let begun = file[..at].to_vec();
    (file, begun)
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn chain(out: &Path) -> Vec<Link> {
    let links: Vec<Link> = lines(&out.join("chain.jsonl"))
        .into_iter()
        .map(|line| serde_json::from_value(line).expect("a line of the chain"))
        .collect();
    let mut previous = String::new();
    for link in &links {
        assert_eq!(link.digest, link.digest(), "segment {}", link.segment);
        assert_eq!(link.previous, previous, "segment {}", link.segment);
        previous.clone_from(&link.digest);
        for file in &link.files {
            let length = fs::metadata(out.join(&file.path)).expect("a file of the chain").len();
            assert_eq!(length, file.bytes, "{}", file.path);
        }
    }
    links
}

/// Begins a run over a capture that goes on and on, and waits until its first frames are on the disk.
fn begun(out: &Path, more: &[&str], bytes: &[u8]) -> Child {
    let arguments = [
        "live",
        "-i",
        "-",
        "--site",
        "captures/site.toml",
        "--format",
        "json",
        "--out",
        out.to_str().unwrap(),
    ];
    let arguments = [&arguments[..], more].concat();
    let mut child = portproof(&arguments).stdin(Stdio::piped()).spawn().expect("the program starts");
    child.stdin.as_mut().expect("a pipe").write_all(bytes).expect("the pipe takes it");
    child
}

#[test]
fn a_run_that_is_killed_leaves_what_it_had_seen_and_the_next_goes_on_behind_a_gap() {
    let (whole, first) = capture();
    for (name, more, exit_code) in [("killed", &[][..], 3), ("killed-saved", &["--save"][..], 1)] {
        let out = scratch(name);
        let mut child = begun(&out, more, &first);
        let journal = out.join("segments/.journal-000001");
        let part = out.join("packets/.000001.pcapng.part");
        wait_for("what was seen", || {
            journalled(&out, 1) == 120
                || fs::metadata(&part).is_ok_and(|file| file.len() > first.len() as u64)
        });
        child.kill().expect("a child");
        child.wait().expect("a child");
        assert!(!out.join("segments/000001").exists() && !out.join("packets/000001.pcapng").exists());
        // As if the machine had stopped in the middle of a write.
        let torn = if part.exists() { &part } else { &journal };
        fs::OpenOptions::new().append(true).open(torn).unwrap().write_all(&[6, 0, 0, 0, 99]).unwrap();

        let next = begun(&out, more, &whole);
        let next = ended(next);
        assert!(text(&next).contains("an earlier run ended unexpectedly"), "{}", text(&next));
        let links = chain(&out);
        let told: Vec<_> =
            links.iter().map(|link| (link.segment, link.frames, link.gap_before, link.recovered)).collect();
        assert_eq!(told, [(1, 120, false, true), (2, 278, true, false)], "{name}");
        assert!(!journal.exists() && !part.exists(), "{name}");
        // What was recovered is what an audit of those frames says.
        let rows = |file: &str| {
            let segment = out.join("segments/000001");
            let found = fs::read_dir(segment).unwrap().map(|entry| entry.unwrap().path());
            let found = found.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(file));
            found.last().expect("rows").to_str().unwrap().to_owned()
        };
        let (flows, names, summary) = (rows("flows"), rows("names"), rows("summary"));
        let arguments = ["judge", "--flows", &flows, "--names", &names, "--summary", &summary];
        let arguments = [&arguments[..], &["--site", "captures/site.toml", "--format", "json"]].concat();
        let judged = portproof(&arguments).output().expect("the program runs");
        assert_eq!(judged.status.code(), Some(exit_code), "{name}: {}", text(&judged));
        // And the next run audited it, by itself.
        let late = fs::read(out.join("late-000001/audit.json")).expect("a late audit");
        assert!(late == judged.stdout, "{name}: the late audit is another");
        assert!(!out.join("unjudged.json").exists() && !out.join("watching.json").exists(), "{name}");
        let begun = out.join("begun.pcap");
        fs::write(&begun, &first).unwrap();
        let arguments =
            ["audit", begun.to_str().unwrap(), "--site", "captures/site.toml", "--format", "json"];
        let audit = portproof(&arguments).output().expect("the program runs");
        let of = |output: &[u8], field: &str| serde_json::from_slice::<Value>(output).unwrap()[field].clone();
        for field in ["conversations", "coverage", "timeline", "names_quality"] {
            assert_eq!(of(&judged.stdout, field), of(&audit.stdout, field), "{name}: {field}");
        }
        fs::remove_dir_all(out).unwrap();
    }
}

#[test]
fn a_chain_that_was_changed_is_not_gone_on_with() {
    let (whole, _) = capture();
    let out = scratch("changed");
    assert_eq!(ended(begun(&out, &[], &whole)).status.code(), Some(1));
    let path = out.join("chain.jsonl");
    let changed = fs::read_to_string(&path).unwrap().replace("\"frames\":278", "\"frames\":277");
    fs::write(&path, changed).unwrap();
    let mut child =
        portproof(&["live", "-i", "-", "--site", "captures/site.toml", "--out", out.to_str().unwrap()]);
    let refused =
        ended(child.stdin(File::open(project().join("captures/lab.pcap")).unwrap()).spawn().unwrap());
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused).contains("the chain is broken at segment 1"), "{}", text(&refused));
    fs::remove_dir_all(out).unwrap();
}

#[test]
fn rules_and_site_are_read_again_and_a_bad_file_changes_nothing() {
    let (_, first) = capture();
    let out = scratch("reload");
    let (site, events) = (out.join("site.toml"), out.join("events.jsonl"));
    let good = fs::read_to_string(project().join("captures/site.toml")).unwrap();
    fs::write(&site, &good).unwrap();
    let arguments = [
        "live",
        "-i",
        "-",
        "--site",
        site.to_str().unwrap(),
        "--events",
        events.to_str().unwrap(),
        "--format",
        "json",
    ];
    let mut child = portproof(&arguments).stdin(Stdio::piped()).spawn().expect("the program starts");
    child.stdin.as_mut().unwrap().write_all(&first).unwrap();
    let told = |count: usize| {
        let events = lines(&events);
        events.iter().filter(|event| event["event"] == "reloaded").count() >= count
    };
    wait_for("the first finding", || lines(&events).iter().any(|event| event["event"] == "appeared"));
    fs::write(&site, "[site]\nname = 7\n").unwrap();
    signal(&child, "-HUP");
    wait_for("the first reload", || told(1));
    // Whatever was unexpected before: under this name the site is another.
    fs::write(&site, good.replace("name = \"contoso-weu\"", "name = \"renamed\"")).unwrap();
    signal(&child, "-HUP");
    wait_for("the second reload", || told(2));
    let reloads: Vec<Value> =
        lines(&events).into_iter().filter(|event| event["event"] == "reloaded").collect();
    assert!(reloads[0]["refused"][0].as_str().unwrap().contains("site.toml"), "{}", reloads[0]);
    assert_eq!(reloads[1]["refused"], serde_json::json!([]));
    signal(&child, "-TERM");
    let output = ended(child);
    assert!(text(&output).contains("those from before stay in force"), "{}", text(&output));
    let audit: Value = serde_json::from_slice(&output.stdout).expect("an audit");
    assert_eq!(audit["site"]["name"], "renamed");
    fs::remove_dir_all(out).unwrap();
}

#[test]
fn events_on_standard_output_come_before_the_report_and_its_last_line_is_the_audit() {
    let (_, begun) = capture();
    for name in ["-TERM", "-INT"] {
        let arguments = ["live", "-i", "-", "--site", "captures/site.toml", "--format", "jsonl"];
        let mut child = portproof(&arguments)
            .current_dir(project())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut pipe = child.stdin.take().expect("a pipe");
        pipe.write_all(&begun).expect("it is read");
        let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut kinds: Vec<String> = Vec::new();
        loop {
            let mut line = String::new();
            if output.read_line(&mut line).expect("a line") == 0 {
                break;
            }
            let line: Value = serde_json::from_str(&line).expect("JSON");
            if line["event"] == "appeared" && !kinds.iter().any(|kind| kind == "asked to end") {
                kinds.push("asked to end".to_owned());
                signal(&child, name);
            }
            kinds.push(line["type"].as_str().unwrap_or_default().to_owned());
        }
        drop(pipe);
        child.wait().expect("its end");
        assert_eq!(kinds.last().map(String::as_str), Some("audit"), "{name}: {kinds:?}");
        let report = kinds.iter().position(|kind| kind == "capture").expect("a report");
        assert!(kinds[report..].iter().all(|kind| kind != "event"), "{name}: {kinds:?}");
    }
}

/// As when Ctrl-C reaches the recorder and this run together.
#[test]
fn an_end_that_is_asked_for_once_while_the_input_ends_costs_no_audit() {
    let (whole, _) = capture();
    let out = scratch("both-end");
    for (attempt, milliseconds) in [0, 2, 5, 10, 20, 40, 80, 160].into_iter().enumerate() {
        let events = out.join(format!("events-{attempt}.jsonl"));
        let mut arguments = vec!["live", "-i", "-", "--site", "captures/site.toml", "--format", "json"];
        arguments.extend(["--events", events.to_str().unwrap()]);
        let mut child = portproof(&arguments).stdin(Stdio::piped()).spawn().expect("the program starts");
        child.stdin.as_mut().unwrap().write_all(&whole).unwrap();
        wait_for("the first finding", || lines(&events).iter().any(|event| event["event"] == "appeared"));
        drop(child.stdin.take());
        std::thread::sleep(Duration::from_millis(milliseconds));
        signal(&child, ["-INT", "-TERM"][attempt % 2]);
        let output = ended(child);
        let audit = serde_json::from_slice::<Value>(&output.stdout);
        assert!(audit.is_ok(), "after {milliseconds} ms: {:?}, {}", output.status, text(&output));
    }
    fs::remove_dir_all(out).unwrap();
}

#[test]
fn a_service_manager_and_a_syslog_are_told() {
    let (whole, _) = capture();
    let out = scratch("manager");
    let bind = |name: &str| {
        let socket = UnixDatagram::bind(out.join(name)).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        socket
    };
    let (manager, syslog) = (bind("notify"), bind("log"));
    let receive = |socket: &UnixDatagram| {
        let mut buffer = vec![0; 1 << 16];
        let length = socket.recv(&mut buffer).expect("a message");
        String::from_utf8(buffer[..length].to_vec()).expect("text")
    };
    let arguments =
        ["live", "-i", "-", "--site", "captures/site.toml", "--syslog", out.join("log").to_str().unwrap()]
            .map(str::to_owned);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut child = portproof(&arguments)
        .env("NOTIFY_SOCKET", out.join("notify"))
        .stdin(Stdio::piped())
        .spawn()
        .expect("the program starts");
    child.stdin.as_mut().unwrap().write_all(&whole).unwrap();
    assert!(receive(&manager).starts_with("READY=1"));
    let mut told = Vec::new();
    while !told.iter().any(|message: &String| message.contains("unexpected-traffic appeared")) {
        told.push(receive(&syslog));
    }
    let began =
        told.iter().find(|message| message.contains("event=\"began\"")).expect("it tells that it began");
    assert!(began.starts_with("<30>1 2"), "{began}");
    let finding = told.last().unwrap();
    assert!(finding.starts_with("<28>1 2") && finding.contains("code=\"unexpected-traffic\""), "{finding}");
    assert!(told.iter().all(|message| !message.contains('\n')));
    signal(&child, "-TERM");
    assert_eq!(receive(&manager), "STOPPING=1\n");
    assert_eq!(ended(child).status.code(), Some(1));
    fs::remove_dir_all(out).unwrap();
}

#[test]
fn the_unit_is_one_that_systemd_takes() {
    let out = scratch("unit");
    let unit = fs::read_to_string(project().join("packaging/portproof.service")).unwrap();
    let path = out.join("portproof.service");
    fs::write(&path, unit.replace("/usr/bin/portproof", env!("CARGO_BIN_EXE_portproof"))).unwrap();
    match Command::new("systemd-analyze").arg("verify").arg(&path).output() {
        Ok(output) => {
            assert!(output.status.success(), "{}", text(&output));
            assert_eq!(text(&output), "");
        }
        Err(error) => {
            assert!(std::env::var_os("PORTPROOF_REQUIRE_SHARED").is_none(), "systemd-analyze: {error}");
            eprintln!("the_unit_is_one_that_systemd_takes: skipped: no systemd-analyze here");
        }
    }
    fs::remove_dir_all(out).unwrap();
}

#[test]
fn a_full_disk_is_told_and_the_audit_is_made_all_the_same() {
    if !can_make_namespaces("a_full_disk") {
        return;
    }
    let out = scratch("full");
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs", out.to_str().unwrap()])
        .status()
        .is_ok_and(|status| status.success());
    assert!(mounted, "a small file system can be mounted");
    let (whole, _) = capture();
    let output = ended(begun(&out, &["--save"], &whole));
    let unmounted = Command::new("umount").arg(&out).status().is_ok_and(|status| status.success());
    assert!(unmounted);
    fs::remove_dir_all(&out).unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert!(text(&output).contains("000001.pcapng: cannot be written"), "{}", text(&output));
    let audit: Value = serde_json::from_slice(&output.stdout).expect("an audit");
    assert_eq!(audit["totals"]["frames"], 278);
}

#[test]
fn a_device_that_goes_away_is_told_waited_for_and_taken_up_again() {
    if !can_make_namespaces("a_device_that_goes_away") {
        return;
    }
    let (cable, out) = (Cable::new("wait"), scratch("wait"));
    let events = out.join("events.jsonl");
    let arguments =
        ["live", "-i", "cable", "--site", "captures/site.toml", "--wait", "--format", "json", "--events"];
    let arguments = [&arguments[..], &[events.to_str().unwrap()]].concat();
    let child = cable.portproof(&arguments).spawn().expect("the program starts");
    let told = |event: &str| lines(&events).iter().filter(|line| line["event"] == event).count();
    let tried = |port: u16| {
        let found = |line: &Value| line["finding"]["to"]["port"] == port && line["event"] == "appeared";
        lines(&events).iter().any(found)
    };
    wait_for("the beginning", || told("began") == 1);
    // A finding is told while the run goes on.
    wait_for("the first finding", || {
        cable.connect(7000..7001);
        tried(7000)
    });
    ip(&["-n", &cable.near, "link", "set", "cable", "down"]);
    wait_for("the gap", || told("gone") == 1);
    ip(&["-n", &cable.near, "link", "set", "cable", "up"]);
    wait_for("its end", || told("back") == 1);
    ip(&["-n", &cable.near, "link", "del", "cable"]);
    wait_for("the second gap", || told("gone") == 2);
    cable.plug();
    wait_for("its end", || told("back") == 2);
    wait_for("the second finding", || {
        cable.connect(7001..7002);
        tried(7001)
    });
    signal(&child, "-TERM");
    let output = ended(child);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert!(text(&output).contains("cable: gone since"), "{}", text(&output));
    let audit: Value = serde_json::from_slice(&output.stdout).expect("an audit");
    assert_eq!(audit["inputs"][0]["live"]["gaps"], 2);
    assert!(audit["capture_quality"]["drops"].as_u64() >= Some(2), "a gap counts as a loss");
    fs::remove_dir_all(out).unwrap();
}

/// Started by root, it is somebody else once everything is open; what it writes belongs to whom it became.
#[test]
fn root_becomes_another_user_who_owns_what_is_written() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    const NOBODY: u32 = 65_534;
    if fs::metadata("/proc/self").map(|meta| meta.uid()).ok() != Some(0) {
        eprintln!("becoming another user is not tried: that takes root");
        return;
    }
    let parent = tempfile::tempdir().unwrap();
    fs::set_permissions(parent.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let out = parent.path().join("out");
    // Of an earlier run, by root.
    let (whole, first) = capture();
    ended(begun(&out, &[], &whole));
    assert_eq!(fs::metadata(out.join("chain.jsonl")).unwrap().uid(), 0);
    let run = begun(&out, &["--user", &NOBODY.to_string()], &first);
    wait_for("what was seen", || journalled(&out, 2) == 120);
    let status = fs::read_to_string(format!("/proc/{}/status", run.id())).unwrap();
    let of = |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
    assert_eq!(of("Uid:").split_whitespace().nth(1), Some(&*NOBODY.to_string()), "{status}");
    assert_eq!(of("CapEff:").split_whitespace().nth(1), Some("0000000000000000"), "{status}");
    let run = ended(run);
    assert!(!text(&run).contains("cannot be written"), "{}", text(&run));
    assert_eq!(chain(&out).len(), 2);
    assert_eq!(fs::metadata(out.join("audit.json")).unwrap().uid(), NOBODY);
}
