//! A live run gives the audit that an offline one of the same frames gives.

use crate::casebook;
use crate::scene::{Scene, run, workshop};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

pub(crate) fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn scratch(name: &str) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("portproof-live-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).expect("a temporary directory");
    directory
}

pub(crate) fn portproof(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portproof"));
    command.current_dir(project()).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Waits for its end; one that does not come is a failure. What it writes is read meanwhile.
pub(crate) fn ended(child: Child) -> Output {
    let id = child.id().to_string();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || tell.send(child.wait_with_output()));
    match told.recv_timeout(Duration::from_secs(240)) {
        Ok(output) => output.expect("its output"),
        Err(_) => {
            let _ = Command::new("kill").args(["-KILL", &id]).status();
            panic!("it does not end");
        }
    }
}

pub(crate) fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([name, &child.id().to_string()]).status().expect("kill");
    assert!(sent.success());
}

/// Replays a capture as if it were live; hands back what it wrote on standard output.
fn replayed(capture: &str, more: &[&str]) -> Output {
    let arguments = [&["live", "-i", "-", "--format", "json"], more].concat();
    let file = File::open(project().join(capture)).expect("the capture");
    ended(portproof(&arguments).stdin(file).spawn().expect("the program starts"))
}

pub(crate) fn audited(arguments: &[&str]) -> Output {
    portproof(&[&["audit", "--format", "json"], arguments].concat()).output().expect("the program runs")
}

/// An audit without what only the run itself knew of its captures.
fn without_live_counts(audit: &[u8]) -> Value {
    let mut value: Value = serde_json::from_slice(audit).expect("an audit");
    for input in value["inputs"].as_array_mut().expect("inputs") {
        input.as_object_mut().expect("an input").remove("live");
    }
    value
}

/// An audit without what tells where its frames stand.
pub(crate) fn without_inputs(audit: &[u8]) -> Value {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for inputs in ["inputs", "evidence"] {
                    fields.remove(inputs);
                }
                fields.values_mut().for_each(strip);
            }
            Value::Array(values) => values.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let mut value = serde_json::from_slice(audit).expect("an audit");
    strip(&mut value);
    value
}

pub(crate) fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn frames_seen_live_and_saved_give_the_same_audit_however_they_were_cut() {
    let site = ["--site", "captures/site.toml"];
    for capture in ["captures/lab.pcap"] {
        let original = audited(&[&[capture], &site[..]].concat());
        for (name, rotation) in [
            ("whole", &[][..]),
            ("by-size", &["--rotate-size", "4KiB"][..]),
            ("by-time", &["--rotate", "2s"][..]),
        ] {
            let out = scratch(name);
            let (out_text, packets) = (out.to_str().unwrap(), out.join("packets"));
            let arguments = [&site[..], &["--out", out_text, "--save"], rotation].concat();
            let live = replayed(capture, &arguments);
            assert_eq!(live.status.code(), original.status.code(), "{name}: {}", text(&live));
            assert_eq!(without_inputs(&live.stdout), without_inputs(&original.stdout), "{name}");
            let files = fs::read_dir(&packets).expect("the packets").count();
            assert_eq!(files > 1, name != "whole", "{name}: {files} files");
            // What was saved, audited offline, gives the very same: inputs, digests and evidence too.
            let offline = audited(&[&[packets.to_str().unwrap()], &site[..]].concat());
            assert_eq!(without_live_counts(&offline.stdout), without_live_counts(&live.stdout), "{name}");
            let written = fs::read(out.join("audit.json")).expect("an audit");
            assert_eq!(written, live.stdout, "{name}: --out holds what was printed");
            fs::remove_dir_all(out).unwrap();
        }
    }
}

#[test]
fn a_run_longer_than_its_window_is_audited_window_by_window_and_no_frame_is_missing() {
    let out = scratch("window");
    let arguments =
        ["--site", "captures/site.toml", "--out", out.to_str().unwrap(), "--save", "--window", "3s"];
    let live = replayed("captures/lab.pcap", &arguments);
    let original = audited(&["captures/lab.pcap", "--site", "captures/site.toml"]);
    let frames = |audit: &[u8]| -> u64 {
        serde_json::from_slice::<Value>(audit).expect("an audit")["totals"]["frames"].as_u64().unwrap()
    };
    let mut windows: Vec<PathBuf> = fs::read_dir(&out)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("window-"))
        .collect();
    windows.sort();
    assert!(windows.len() > 1, "{windows:?}: {}", text(&live));
    let earlier: u64 =
        windows.iter().map(|path| frames(&fs::read(path.join("audit.json")).expect("an audit"))).sum();
    let last = frames(&fs::read(out.join("audit.json")).expect("an audit"));
    assert_eq!(earlier + last, frames(&original.stdout));
    fs::remove_dir_all(out).unwrap();
}

#[test]
fn what_cannot_be_watched_is_refused_with_what_could_be() {
    for (arguments, part) in [
        (&["-i", "no-such-device0"][..], "no-such-device0: no such network device; there are: "),
        (&["-i", "lo", "-i", "lo"], "named twice"),
        (&["-i", "lo", "-i", "any"], "stands alone"),
        (&["-i", "-", "-f", "tcp"], "filter a stream where it is made"),
        (&["-i", "lo", "-f", "host example.org"], "example.org"),
        (&["-i", "-"], "empty"),
    ] {
        let arguments = [&["live", "--site", "captures/site.toml"], arguments].concat();
        let refused = portproof(&arguments).stdin(Stdio::null()).output().expect("the program runs");
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}");
        assert!(text(&refused).contains(part), "{arguments:?}: {}", text(&refused));
        assert!(refused.stdout.is_empty(), "{arguments:?}");
    }
}

/// Whether network namespaces can be made; if not, says so.
pub(crate) fn can_make_namespaces(test: &str) -> bool {
    let name = format!("pp-probe-{}", std::process::id());
    let made = Command::new("ip").args(["netns", "add", &name]).stderr(Stdio::null()).status();
    let made = made.is_ok_and(|status| status.success());
    if made {
        let _ = Command::new("ip").args(["netns", "del", &name]).status();
    } else {
        assert!(
            std::env::var_os("PORTPROOF_REQUIRE_SHARED").is_none(),
            "{test}: network namespaces cannot be made here (they need root and iproute2)"
        );
        eprintln!("{test}: skipped: network namespaces need root and iproute2");
    }
    made
}

/// Two namespaces and a cable between them; gone when it is dropped.
pub(crate) struct Cable {
    pub(crate) near: String,
    pub(crate) far: String,
}

impl Cable {
    pub(crate) const NEAR: &str = "10.10.1.4";
    pub(crate) const FAR: &str = "10.20.0.10";

    pub(crate) fn new(name: &str) -> Cable {
        let own = std::process::id();
        let cable = Cable { near: format!("pp-{name}-n-{own}"), far: format!("pp-{name}-f-{own}") };
        let (near, far) = (&cable.near, &cable.far);
        ip(&["netns", "add", near]);
        ip(&["netns", "add", far]);
        cable.plug();
        cable
    }

    /// Puts it in place.
    pub(crate) fn plug(&self) {
        let (near, far) = (&self.near, &self.far);
        ip(&["-n", near, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", far]);
        for (space, own, other) in [(near, Self::NEAR, Self::FAR), (far, Self::FAR, Self::NEAR)] {
            ip(&["-n", space, "addr", "add", &format!("{own}/32"), "dev", "cable"]);
            ip(&["-n", space, "link", "set", "cable", "up"]);
            ip(&["-n", space, "link", "set", "lo", "up"]);
            ip(&["-n", space, "route", "add", other, "dev", "cable"]);
        }
    }

    /// Runs portproof at the near end.
    pub(crate) fn portproof(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.current_dir(project()).args(["netns", "exec", &self.near, env!("CARGO_BIN_EXE_portproof")]);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Tries to connect from the near end to ports of the far one: it refuses.
    pub(crate) fn connect(&self, ports: std::ops::Range<u16>) {
        let script = format!(
            "for p in $(seq {} {}); do (exec 3<>/dev/tcp/{}/$p) 2>/dev/null; done; true",
            ports.start,
            ports.end - 1,
            Self::FAR
        );
        ip(&["netns", "exec", &self.near, "bash", "-c", &script]);
    }
}

pub(crate) fn ip(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status().expect("ip runs");
    assert!(status.success(), "ip {}", arguments.join(" "));
}

impl Drop for Cable {
    fn drop(&mut self) {
        for space in [&self.near, &self.far] {
            let _ = Command::new("ip").args(["netns", "del", space]).status();
        }
    }
}

/// How many frames the journal of a segment tells of.
pub(crate) fn journalled(out: &Path, segment: u64) -> u64 {
    let bytes = fs::read(out.join(format!("segments/.journal-{segment:06}"))).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let Some((_, last)) = text.rsplit_once("\"frames\":") else { return 0 };
    last.split(',').next().and_then(|digits| digits.parse().ok()).unwrap_or_default()
}

/// Waits until a file is there and holds something.
pub(crate) fn wait_for(what: &str, mut there: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(120);
    while !there() {
        assert!(Instant::now() < until, "{what} does not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn frames_of_a_device_give_the_same_audit_live_and_offline_and_all_are_accounted_for() {
    if !can_make_namespaces("frames_of_a_device") {
        return;
    }
    let (cable, out) = (Cable::new("audit"), scratch("device"));
    let out_text = out.to_str().unwrap();
    let arguments = [
        "live",
        "-i",
        "cable",
        "--site",
        "captures/site.toml",
        "--format",
        "json",
        "--out",
        out_text,
        "--save",
        "-B",
        "8",
    ];
    let child = cable.portproof(&arguments).spawn().expect("the program starts");
    let part = out.join("packets/.000001.pcapng.part");
    wait_for("the first file", || part.exists());
    cable.connect(7000..7020);
    // It is on the disk within a second: more than a file's beginning.
    wait_for("the frames", || fs::metadata(&part).is_ok_and(|file| file.len() > 2_000));
    signal(&child, "-TERM");
    let live = ended(child);
    let audit: Value = serde_json::from_slice(&live.stdout).unwrap_or_else(|_| panic!("{}", text(&live)));
    let of_host =
        |finding: &&Value| finding["from"]["ip"] == Cable::NEAR && finding["to"]["ip"] == Cable::FAR;
    let tried: Vec<&Value> = audit["findings"].as_array().expect("findings").iter().filter(of_host).collect();
    let ports: Vec<u64> = tried.iter().filter_map(|finding| finding["to"]["port"].as_u64()).collect();
    assert!((7000..7020).all(|port| ports.contains(&port)), "{ports:?}");
    assert_eq!(audit["capture_quality"]["drops"], 0);
    let counts = &audit["inputs"][0]["live"];
    let frames = audit["totals"]["frames"].as_u64().expect("frames");
    let of = |field: &str| counts[field].as_u64().unwrap_or_else(|| panic!("{field} in {counts}"));
    let elsewhere = of("kernel_dropped") + of("interface_dropped") + of("unread");
    assert_eq!(of("offered"), frames + elsewhere, "{counts}");
    let offline = audited(&[out.join("packets").to_str().unwrap(), "--site", "captures/site.toml"]);
    assert_eq!(without_live_counts(&offline.stdout), without_live_counts(&live.stdout));
    assert_eq!(offline.status.code(), live.status.code());
    fs::remove_dir_all(out).unwrap();
}

/// The last that was told of each finding: by code and title, its count.
fn told_last(lines: &[Value]) -> BTreeMap<Told, u64> {
    let mut last: BTreeMap<u64, &Value> = BTreeMap::new();
    let events = lines.iter().filter(|line| line["type"] == "event" && line["finding"].is_object());
    for event in events {
        last.insert(event["number"].as_u64().expect("a number"), event);
    }
    let counted = last.values().filter(|event| event["event"] != "withdrawn");
    counted.map(|event| &event["finding"]).filter(|f| f["severity"] != "note").map(counted_finding).collect()
}

/// Code, title and filter of a finding.
type Told = [String; 3];

fn counted_finding(finding: &Value) -> (Told, u64) {
    let word = |field: &str| finding[field].as_str().unwrap_or_default().to_owned();
    (["code", "title", "display_filter"].map(word), finding["count"].as_u64().unwrap_or_default())
}

/// Plays a scene live: its capture comes in so many parts, with pauses of so many milliseconds between them.
fn played(bytes: &[u8], directory: &Path, (parts, pause): (usize, u64)) -> Vec<Value> {
    let site = directory.join("site.toml");
    let arguments = ["live", "-i", "-", "--site", site.to_str().unwrap(), "--format", "jsonl"];
    let mut child = portproof(&arguments).stdin(Stdio::piped()).spawn().expect("the program starts");
    let mut pipe = child.stdin.take().expect("a pipe");
    for (number, part) in bytes.chunks(bytes.len().div_ceil(parts).max(1)).enumerate() {
        if number > 0 {
            std::thread::sleep(Duration::from_millis(pause));
        }
        // A capture that is refused is not read to its end.
        let _ = pipe.write_all(part);
    }
    drop(pipe);
    let output = ended(child);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// A line of a report without what says in which capture a frame stands.
fn without_capture(line: &Value) -> Value {
    let mut line = line.clone();
    fn strip(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                ["capture", "path"].iter().for_each(|field| {
                    fields.remove(*field);
                });
                fields.values_mut().for_each(strip);
            }
            Value::Array(values) => values.iter_mut().for_each(strip),
            _ => {}
        }
    }
    strip(&mut line);
    line
}

/// Whoever sits at the terminal is told that it watches, and at the end no speed of captures that nobody read.
#[test]
fn on_a_terminal_a_run_says_that_it_watches_and_what_each_device_gave() {
    // Of work of less than a second nothing would be said anyway.
    let run = format!(
        "{{ cat captures/lab.pcap; sleep 1.2; }} | {} live -i - --site captures/site.toml --duration 60s",
        env!("CARGO_BIN_EXE_portproof")
    );
    let output = Command::new("script")
        .args(["-q", "-e", "-c", &run, "/dev/null"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .output()
        .expect("script(1)");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("watching -; the duration or Ctrl-C ends it"), "{said}");
    assert!(said.contains("278 frames taken"), "{said}");
    assert!(!said.contains("packets/s"), "{said}");
}

/// Scenes of the casebook that are one sound capture.
fn scenes() -> Vec<(String, Scene, Vec<u8>)> {
    let all = casebook::all().into_iter().map(|(module, (name, build))| {
        let mut scene = Scene::new();
        build(&mut scene);
        (format!("live-{module}-{name}"), scene)
    });
    all.filter_map(|(name, scene)| {
        let mut files = scene.files();
        let one = if files.len() == 1 { files.pop()?.bytes? } else { return None };
        Some((name, scene, one))
    })
    .collect()
}

/// Findings that stand for many addresses, titled as they are live.
fn crowds_uncounted(findings: BTreeMap<Told, u64>) -> BTreeMap<Told, u64> {
    let title = |title: String| match title
        .strip_prefix("and ")
        .and_then(|rest| rest.split_once(" more addresses -> "))
    {
        Some((_, to)) => format!("further addresses that hold no role -> {to}"),
        None => title,
    };
    findings.into_iter().map(|([code, told, filter], count)| ([code, title(told), filter], count)).collect()
}

/// Differences between what was told of a scene live and what its audit says.
fn differences(name: &str, scene: &Scene, bytes: &[u8], parts: usize) -> Vec<String> {
    let directory = workshop(name);
    let offline = run(scene, &directory, &[]);
    if offline.code == 2 || scene.is_special() {
        return Vec::new();
    }
    let live = played(bytes, &directory, (parts, 700));
    let mut problems = Vec::new();
    let report = |lines: &[Value]| -> Vec<Value> {
        let judged = lines.iter().filter(|line| line["type"] != "event" && line["type"] != "capture");
        judged.map(without_capture).collect()
    };
    for (one, other) in report(&live).iter().zip(&report(&offline.lines)) {
        // Damage is told with the name of the capture.
        if one != other && one["code"] != "capture-damaged" && one["code"] != "capture-loss" {
            problems.push(format!("{name}: live {one}\n  offline {other}"));
        }
    }
    let findings = offline.lines.iter().filter(|line| line["type"] == "finding");
    let audited: BTreeMap<_, _> =
        findings.filter(|finding| finding["severity"] != "note").map(counted_finding).collect();
    let told = told_last(&live);
    // Of strangers who share a finding the audit says how many they are; live, only their flows are counted. All else is the
    // same: who shares it, what is told of each of the others, how many flows there are.
    let audited = crowds_uncounted(audited);
    if audited != told {
        problems.push(format!("{name}: audited {audited:?}\n  told {told:?}"));
    }
    problems
}

#[test]
fn every_scene_is_audited_live_as_offline_and_what_was_told_last_is_what_the_audit_says() {
    let scenes = scenes();
    assert!(scenes.len() > 100, "{} scenes", scenes.len());
    let next = AtomicUsize::new(0);
    let work = || {
        let mut problems = Vec::new();
        while let Some((name, scene, bytes)) = scenes.get(next.fetch_add(1, Ordering::Relaxed)) {
            problems.extend(differences(name, scene, bytes, 1));
        }
        problems
    };
    // A live run waits more than it works.
    let problems: Vec<String> = std::thread::scope(|scope| {
        let several: Vec<_> = (0..6).map(|_| scope.spawn(work)).collect();
        several.into_iter().flat_map(|thread| thread.join().expect("a thread")).collect()
    });
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn what_was_told_last_is_what_the_audit_says_when_frames_come_bit_by_bit() {
    let scenes: Vec<_> = scenes().into_iter().step_by(17).collect();
    let problems: Vec<String> = std::thread::scope(|scope| {
        let played: Vec<_> = scenes
            .iter()
            .map(|(name, scene, bytes)| {
                scope.spawn(move || differences(&format!("{name}-slowly"), scene, bytes, 4))
            })
            .collect();
        played.into_iter().flat_map(|thread| thread.join().expect("a thread")).collect()
    });
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn a_finding_of_one_host_names_none_once_it_is_of_several() {
    let name = "undetermined_flows_fold_by_role_and_server_name";
    let (_, scene, bytes) = scenes().into_iter().find(|(of, ..)| of.ends_with(name)).expect("the scene");
    let directory = workshop("live-of-several-hosts");
    run(&scene, &directory, &[]);
    // Growing counts are told every ten seconds.
    let lines = played(&bytes, &directory, (4, 10_500));
    let told = |count: u64| -> BTreeSet<Told> {
        let events = lines.iter().filter(|line| line["type"] == "event" && line["number"] == 1);
        let told = events.map(|event| counted_finding(&event["finding"]));
        told.filter(|&(_, of)| of == count).map(|(told, _)| told).collect()
    };
    let of = |who: &str, from: &str| {
        let filter = format!("{from} && ip.addr == 203.0.113.9 && tcp.port == 443");
        ["undetermined".into(), format!("{who} -> postgresql.org (203.0.113.9) TCP 443"), filter]
    };
    assert_eq!(told(1), [of("worker 10.10.2.11", "ip.addr == 10.10.2.11")].into());
    assert_eq!(told(2), [of("worker", "(ip.addr == 10.10.2.11 || ip.addr == 10.10.2.12)")].into());
}
