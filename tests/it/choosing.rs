//! Choosing what to read: `--filter`, `--since`, `--until`, and the filter that `capture-filter` prints.

use crate::casebook;
use crate::scene::*;
use portproof::audit::{Audit, Code, Coverage, Finding};
use portproof::capture::{CaptureReader, Choice, Digest};
use portproof::matrix::{Matrix, Site, Tagging, capture_filter};
use portproof::pipeline::{ExtractOptions, Extracted, extract, judge};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

const CAPTURES: &[&str] = &["matrix.pcap", "violations.pcap", "blocked.pcap", "lab.pcap"];

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn portproof(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portproof"));
    command.current_dir(folder).args(arguments).env("NO_COLOR", "1").output().expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The tally of one capture.
fn summary(folder: &Path, arguments: &[&str]) -> Value {
    let output = portproof(folder, &[&["extract"], arguments].concat());
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one summary")
}

/// The frames that tcpdump keeps, as (time, bytes); none where tcpdump is not installed.
fn tcpdump(capture: &Path, filter: &str) -> Option<Vec<Captured>> {
    let mut command = Command::new("tcpdump");
    command.arg("--time-stamp-precision=nano").arg("-r").arg(capture).args(["-w", "-", filter]);
    let output =
        command.env("PATH", format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default())).output();
    let Ok(output) = output else {
        let required = std::env::var_os("PORTPROOF_REQUIRE_SHARED").is_some();
        assert!(!required, "tcpdump is not installed, and nothing may be skipped");
        eprintln!("skipped: tcpdump is not installed");
        return None;
    };
    assert!(output.status.success(), "{}: {}", capture.display(), text(&output.stderr));
    Some(frames(output.stdout))
}

fn frames(capture: Vec<u8>) -> Vec<Captured> {
    let mut reader =
        CaptureReader::from_read("capture", Box::new(Cursor::new(capture)), Digest::None).expect("a capture");
    let mut frames = Vec::new();
    while let Some(frame) = reader.next() {
        frames.push(Captured {
            time: frame.time.0,
            interface: frame.interface,
            wire_len: frame.wire_len,
            bytes: frame.bytes.to_vec(),
        });
    }
    frames
}

#[test]
fn a_filter_chooses_the_frames_that_tcpdump_chooses() {
    let folder = workshop("filter-as-tcpdump");
    for capture in CAPTURES {
        std::fs::copy(project().join("captures").join(capture), folder.join(capture)).expect("a copy");
        for filter in [
            "host 10.10.1.4",
            "udp port 53 or tcp port 443",
            "not (net 10.0.0.0/8 and port https)",
            "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
            "icmp or arp",
            "greater 500",
            "ip6",
            "vlan",
            "host 192.0.2.250",
        ] {
            let Some(chosen) = tcpdump(&folder.join(capture), filter) else { return };
            let summary = summary(&folder, &[capture, "-f", filter]);
            let number = |field: &Value| field.as_u64().unwrap_or_default();
            let left_out = number(&summary["skipped"]["not-chosen-by-filter"]);
            assert_eq!(number(&summary["frames"]) - left_out, chosen.len() as u64, "{capture}: {filter}");
            assert_eq!(summary["chosen"]["filter"], filter);
            let skipped: u64 =
                summary["skipped"].as_object().into_iter().flatten().map(|(_, n)| number(n)).sum();
            assert_eq!(number(&summary["frames"]), number(&summary["packets"]) + skipped);
        }
    }
}

#[test]
fn ranges_of_time_that_follow_each_other_share_no_frame_and_lose_none() {
    let folder = project().join("captures");
    let all = frames(std::fs::read(folder.join("lab.pcap")).expect("the capture"));
    // A frame of exactly that time belongs to the later range.
    let at = all[all.len() / 2].time;
    let middle = format!("{}.{:09}", at / 1_000_000_000, at % 1_000_000_000);
    let before = summary(&folder, &["lab.pcap", "--until", &middle]);
    let after = summary(&folder, &["lab.pcap", "--since", &middle]);
    let chosen = |summary: &Value| {
        summary["frames"].as_u64().unwrap() - summary["skipped"]["outside-time-range"].as_u64().unwrap()
    };
    assert_eq!(chosen(&before), all.iter().filter(|frame| frame.time < at).count() as u64);
    assert_eq!(chosen(&before) + chosen(&after), all.len() as u64);
    assert!(before["last_ts"].as_str() < after["first_ts"].as_str());
    assert_eq!(before["chosen"]["until"], after["chosen"]["since"]);
    let both =
        summary(&folder, &["lab.pcap", "--since", "2026-11-23", "--until", "2026-11-24T00:00:00+00:00"]);
    assert_eq!(both["skipped"]["outside-time-range"], Value::Null, "the whole day");
}

#[test]
#[rustfmt::skip]
fn a_choice_that_cannot_be_made_is_refused_before_a_capture_is_read() {
    for (arguments, part) in [
        (&["--filter", "tcp port"][..],                                  "syntax error"),
        (&["--filter", "port nonesuch"],                                 "nonesuch"),
        (&["--filter", "host nginx.org"],                                "asks no resolver"),
        (&["--since", "2026-11-23T06:09:06"],                            "an offset such as"),
        (&["--until", "20261123"],                                       "a date"),
        (&["--since", "2026-11-24", "--until", "2026-11-24"],            "no frame lies between"),
    ] {
        for command in [&["extract", "no/such.pcap"][..], &["audit", "no/such.pcap", "--site", "captures/site.toml"]] {
            let output = portproof(project(), &[command, arguments].concat());
            let told = text(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{arguments:?}: {told}");
            assert!(told.contains(part) && !told.contains("no/such.pcap"), "{arguments:?}: {told}");
        }
    }
}

#[test]
fn an_audit_of_a_part_says_so_first_and_is_no_damaged_one() {
    let filter = "host 10.10.1.4 and not port 123";
    let mut audit = vec!["audit", "captures/lab.pcap", "--site", "captures/site.toml"];
    audit.extend(["-f", filter, "--since", "2026-11-23T06:09:05Z", "--fail-on", "never", "--format"]);
    for format in ["human", "json", "jsonl", "markdown", "html", "sarif"] {
        let output = portproof(project(), &[&audit[..], &[format]].concat());
        // Far more than 1 % of the frames was left out; by choice, though.
        assert_eq!(output.status.code(), Some(0), "{format}: {}", text(&output.stderr));
        let report = text(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(report.contains("only a part of the captures was audited"), "{format}: {report}");
        assert!(report.contains(filter) && report.contains("2026-11-23T06:09:05.000000000Z"), "{format}");
    }
    let human = text(&portproof(project(), &[&audit[..], &["human"]].concat()).stdout);
    let place = |part: &str| human.find(part).unwrap_or_else(|| panic!("{part}: {human}"));
    assert!(place("only a part") < place("Coverage of the"));
    let first_finding = ["HIGH", "MEDIUM", "NOTE"].iter().filter_map(|word| human.find(word)).min();
    assert!(first_finding.is_none_or(|finding| place("only a part") < finding), "{human}");
    for empty in ["", "  "] {
        let whole = summary(project(), &["captures/lab.pcap", "--filter", empty]);
        assert_eq!(whole.get("chosen"), None, "an empty filter chooses everything");
    }
}

#[test]
fn judge_knows_what_extract_left_out() {
    let folder = workshop("choosing-in-two-steps");
    for file in ["lab.pcap", "blocked.pcap", "site.toml"] {
        std::fs::copy(project().join("captures").join(file), folder.join(file)).expect("a copy");
    }
    let choice = ["--filter", "host 10.10.1.4", "--until", "2026-11-23T06:09:08Z"];
    let mut judge = vec!["judge", "--site", "site.toml", "--format", "json"];
    for step in
        [["lab.pcap", "f.jsonl", "n.jsonl", "s.jsonl"], ["blocked.pcap", "f2.jsonl", "n2.jsonl", "s2.jsonl"]]
    {
        let [capture, flows, names, summary] = step;
        let rows =
            ["extract", capture, "--partial", "--flows", flows, "--names", names, "--summary", summary];
        let output = portproof(&folder, &[&rows[..], &choice].concat());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        judge.extend(["--flows", flows, "--names", names, "--summary", summary]);
    }
    let mut audit = vec!["audit", "lab.pcap", "blocked.pcap", "--site", "site.toml", "--format", "json"];
    audit.extend(choice);
    let (audited, judged) = (portproof(&folder, &audit), portproof(&folder, &judge));
    assert!(text(&judged.stdout).contains("only a part of the captures"), "{}", text(&judged.stderr));
    assert!(audited.stdout == judged.stdout && audited.status.code() == judged.status.code());
}

#[test]
fn frames_that_a_filter_cannot_judge_are_told_and_make_the_evidence_incomplete() {
    let folder = workshop("filter-and-links");
    let mut scene = Scene::new();
    scene.web(APPLIANCE, WEB, "nginx.org");
    let mut packets = scene.ordered_frames();
    let half = packets.len() / 2;
    packets[half..].iter_mut().for_each(|frame| frame.interface = 1);
    let mut capture = pcapng(&packets, None);
    // The second interface becomes a Linux cooked one (v2, link type 276), which knows no VLAN tags.
    let length = |at: usize| capture[at + 4] as usize;
    let second = length(0) + length(length(0)) + 8;
    capture[second..second + 2].copy_from_slice(&276u16.to_le_bytes());
    std::fs::write(folder.join("two.pcapng"), capture).expect("the capture");
    std::fs::write(folder.join("site.toml"), scene.site_toml()).expect("the site file");

    let extracted = portproof(&folder, &["extract", "two.pcapng", "-f", "not vlan"]);
    let told = text(&extracted.stderr);
    assert_eq!(extracted.status.code(), Some(3), "{told}");
    let first = format!("two.pcapng: frame {}, at byte", half + 1);
    assert!(told.contains(&first) && told.contains("linux-sll2") && told.contains("VLAN"), "{told}");
    let summary: Value = serde_json::from_slice(&extracted.stdout).expect("one summary");
    let unfit = packets.len() - half;
    assert_eq!(summary["skipped"]["filter-unfit-for-link-type"], unfit);
    assert_eq!(summary["frames"].as_u64(), summary["packets"].as_u64().map(|packets| packets + unfit as u64));

    for format in ["human", "html", "json", "markdown", "junit", "sarif"] {
        let arguments = ["audit", "two.pcapng", "--site", "site.toml", "-f", "not vlan", "--format", format];
        let audited = portproof(&folder, &arguments);
        assert_eq!(audited.status.code(), Some(3), "{format}");
        let report = text(&audited.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(report.contains("cannot be compiled for link type linux-sll2"), "{format}: {report}");
    }
    // What suits every link type leaves nothing in doubt.
    let suits = portproof(&folder, &["extract", "two.pcapng", "-f", "tcp"]);
    assert_eq!(suits.status.code(), Some(0), "{}", text(&suits.stderr));
}

// The filter for whoever captures.

#[test]
fn capture_filter_prints_one_line_that_an_audit_takes_as_its_filter() {
    let site = ["capture-filter", "--site", "captures/site.toml"];
    let printed = portproof(project(), &site);
    assert_eq!((printed.status.code(), text(&printed.stderr)), (Some(0), String::new()));
    let filter = text(&printed.stdout);
    assert!(filter.ends_with('\n') && filter.lines().count() == 1, "{filter}");
    summary(project(), &["captures/lab.pcap", "--filter", filter.trim()]);
    let untagged = text(&portproof(project(), &[&site[..], &["--untagged"]].concat()).stdout);
    assert!(filter.contains("vlan") && !untagged.contains("vlan") && filter.starts_with(untagged.trim()));

    let folder = workshop("capture-filter");
    std::fs::write(
        folder.join("site.toml"),
        "[site]\nname = \"x\"\n[roles]\nazure-vm = [\"10.30.0.0/16\"]\n",
    )
    .expect("a site file");
    let refused = portproof(&folder, &["capture-filter", "--site", "site.toml"]);
    let told = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{told}");
    assert!(told.contains("site.toml") && told.contains("backup-appliance"), "{told}");
}

/// An address without a role, and others.
const STRANGER: &str = "172.29.0.5";
const STRANGER2: &str = "172.29.0.6";
const STRANGER6: &str = "2001:db8:77::5";

/// What else a link carries in so many seconds: strangers among each other, with the same servers and resolver that the
/// audited machines use, and what machines do that only receive by the rules. An ARP request goes with it.
fn noise(seconds: f64) -> Vec<Captured> {
    let mut s = Scene::new();
    let step = (seconds / 30.0).max(2.0);
    for turn in 0..=(seconds / step) as usize {
        let at = turn as f64 * step;
        s.at(at).arp();
        s.at(at + 0.001);
        match turn % 7 {
            0 => drop(s.resolve(STRANGER, "intranet.example", WEB2).web(STRANGER, WEB2, "intranet.example")),
            1 => drop(s.tcp(STRANGER, WEB, 443).syn()),
            2 => drop(s.udp(STRANGER2, STRANGER, 5_000).request(b"one").reply(b"two")),
            3 => drop(s.web(MAIL, WEB2, "updates.example")),
            4 => drop(s.tcp(STRANGER6, "2001:db8:88::1", 22).handshake().fin()),
            5 => drop(
                s.dns(STRANGER, RESOLVER)
                    .query("long.example", A)
                    .answer_in_fragments(&[a("long.example", WEB)], 16),
            ),
            _ => drop(s.tcp(STRANGER2, MAIL, 25).handshake().fin()),
        }
    }
    s.ordered_frames()
}

/// The frames of a recording with noise between them, from its first to its last frame; a share of it also before and after
/// where `around` says so. The recording's own order stays.
fn mixed(own: &[Captured], around: bool) -> Vec<Captured> {
    let times = || own.iter().map(|frame| frame.time);
    let (Some(first), Some(last)) = (times().min(), times().max()) else { return Vec::new() };
    let margin = if around { nanos(30.0) } else { 0 };
    let (begin, end) = (first - margin, last + margin);
    let mut noise = noise((end - begin) as f64 / 1e9);
    let zero = noise.first().map_or(0, |frame| frame.time);
    noise.iter_mut().for_each(|frame| frame.time += begin - zero);
    let mut noise = noise.into_iter().filter(|frame| (begin..=end).contains(&frame.time)).peekable();
    let mut all = Vec::new();
    for frame in own {
        while let Some(other) = noise.next_if(|other| other.time < frame.time) {
            all.push(other);
        }
        all.push(frame.clone());
    }
    all.extend(noise);
    all
}

/// The same frames behind a VLAN tag.
fn tagged(frames: &[Captured]) -> Vec<Captured> {
    let tag = |frame: &Captured| {
        let mut frame = frame.clone();
        let at = frame.bytes.len().min(12);
        frame.bytes.splice(at..at, [0x81, 0, 0, 77]);
        frame.wire_len += 4;
        frame
    };
    frames.iter().map(tag).collect()
}

/// The built-in rules, read once.
static RULES: LazyLock<Matrix> = LazyLock::new(|| Matrix::load(&[], &[]).expect("the built-in rules"));

struct Case {
    site: Site,
    filter: String,
}

impl Case {
    /// None where the site file needs rules of its own, or lists no machine to audit.
    fn of(site: &str) -> Option<Case> {
        let site = Site::parse(site, "site.toml", &RULES).ok()?;
        let filter = capture_filter(&site, Tagging::Possible)?;
        Some(Case { site, filter })
    }

    fn audit(&self, frames: &[Captured], filter: Option<&str>) -> Audit {
        let several = frames.iter().any(|frame| frame.interface > 0);
        let bytes = if several { pcapng(frames, None) } else { pcap(frames) };
        let choice =
            Choice { filter: filter.map(|filter| filter.parse().expect("a filter")), ..Choice::default() };
        let options = ExtractOptions { choice, ..ExtractOptions::default() };
        let reader = CaptureReader::from_read("capture", Box::new(Cursor::new(bytes)), Digest::None);
        let captures = vec![extract("capture", reader.expect("a capture"), &options)];
        judge(Extracted { captures, ..Extracted::default() }, &RULES, &self.site).unwrap().audit
    }
}

/// What an audit concludes. Beside it only counts may differ: frames skipped, flows out of scope and flows of strangers with
/// the platform, the conversations and the timeline of these, ARP and DHCP of strangers among the upkeep. So may two notes
/// that are about the recording as a whole, since they are shares of all its flows or frames.
fn concluded(audit: &Audit) -> (Vec<Finding>, Vec<Coverage>) {
    let shares = [Code::OneSidedCapture, Code::CaptureLoss];
    let findings = audit.findings.iter().filter(|finding| !shares.contains(&finding.code));
    (findings.cloned().collect(), audit.coverage.clone())
}

/// Renumbers evidence in a recording of which only some frames were kept to what it is in the whole one.
fn renumbered(mut findings: Vec<Finding>, numbers: &BTreeMap<u64, u64>) -> Vec<Finding> {
    for evidence in findings.iter_mut().flat_map(|finding| &mut finding.evidence) {
        evidence.frame = numbers[&evidence.frame];
    }
    findings
}

/// By number in the part, the number in the whole.
fn numbers(part: &[Captured], whole: &[Captured]) -> BTreeMap<u64, u64> {
    let mut rest = whole.iter().zip(1u64..);
    let numbers = part.iter().zip(1u64..).map(|(frame, number)| {
        let same = |one: &Captured| one.time == frame.time && one.bytes == frame.bytes;
        let (_, found) = rest.find(|(one, _)| same(one)).expect("a part has no frame of its own");
        (number, found)
    });
    numbers.collect()
}

/// Every recording that we have, with its site: the scenes of the casebook, the captures of the demo.
fn recordings() -> Vec<(String, Vec<Captured>, Case)> {
    let mut recordings = Vec::new();
    for (module, (name, build)) in casebook::all() {
        let mut scene = Scene::new();
        build(&mut scene);
        if let Some(case) = Case::of(&scene.site_toml()) {
            recordings.push((format!("{module}-{name}"), scene.ordered_frames(), case));
        }
    }
    let site = include_str!("../../captures/site.toml");
    for capture in CAPTURES.iter().chain(&["mixed.pcapng"]) {
        let bytes = std::fs::read(project().join("captures").join(capture)).expect("the capture");
        recordings.push(((*capture).to_owned(), frames(bytes), Case::of(site).expect("a site")));
    }
    recordings
}

#[test]
fn what_capture_filter_keeps_leads_to_the_same_findings() {
    let (mut compared, mut found, mut left_out) = (0, 0, 0);
    for (name, own, case) in recordings() {
        for (kind, all) in [("plain", mixed(&own, true)), ("tagged", tagged(&mixed(&own, true)))] {
            let whole = case.audit(&all, None);
            let part = case.audit(&all, Some(&case.filter));
            assert_eq!(concluded(&whole), concluded(&part), "{name}, {kind}: {}", case.filter);
            left_out += part.totals.skipped.get("not-chosen-by-filter").copied().unwrap_or_default();
            found += whole.findings.len();
            compared += 1;
        }
    }
    assert!(compared >= 300 && found > 0 && left_out > 0, "{compared} audits, {found}, {left_out}");
}

#[test]
fn what_tcpdump_keeps_by_capture_filter_leads_to_the_same_findings() {
    let folder = workshop("capture-filter-and-tcpdump");
    let (mut compared, mut left_out) = (0, 0);
    for (name, own, case) in recordings() {
        // tcpdump writes no interfaces, by which copies of a frame are told.
        if own.iter().any(|frame| frame.interface > 0) {
            continue;
        }
        for (kind, all) in [("plain", mixed(&own, false)), ("tagged", tagged(&mixed(&own, false)))] {
            let file: PathBuf = folder.join(format!("{name}-{kind}.pcap"));
            std::fs::write(&file, pcap(&all)).expect("the recording");
            let Some(kept) = tcpdump(&file, &case.filter) else { return };
            left_out += all.len() - kept.len();
            let (findings, coverage) = concluded(&case.audit(&kept, None));
            let findings = renumbered(findings, &numbers(&kept, &all));
            assert_eq!(concluded(&case.audit(&all, None)), (findings, coverage), "{name}, {kind}");
            compared += 1;
        }
    }
    assert!(compared >= 250 && left_out > 0, "{compared} audits, {left_out} frames left out");
}

/// The one kind of finding that goes with the frames: it is about a host that the site does not know.
#[test]
fn a_stranger_whose_way_to_the_platform_is_blocked_is_not_recorded() {
    let mut scene = Scene::new();
    scene.web(STRANGER, WEB2, "intranet.example").at(2.0).tcp(STRANGER, IMDS, 80).syn().later(1.0).syn();
    scene.at(9.0).web(APPLIANCE, WEB, "nginx.org");
    let case = Case::of(&scene.site_toml()).expect("a site");
    let blocked = |audit: &Audit| audit.findings.iter().any(|finding| finding.code == Code::PlatformBlocked);
    let frames = scene.ordered_frames();
    assert!(blocked(&case.audit(&frames, None)));
    assert!(!blocked(&case.audit(&frames, Some(&case.filter))));
}
