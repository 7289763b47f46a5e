//! `portproof evidence`: bundles that a stranger can check, and that tell what was done to them.

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn portproof(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portproof"));
    command.current_dir(project()).args(arguments).output().expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The audit of two captures, and a bundle of it.
struct Room {
    room: tempfile::TempDir,
}

impl Room {
    fn new() -> Room {
        let room = tempfile::tempdir().expect("a directory");
        let audit = room.path().join("audit");
        let captures = ["captures/lab.pcap", "captures/mixed.pcapng"];
        let out = ["--site", "captures/site.toml", "--out", audit.to_str().expect("UTF-8")];
        let output = portproof(&[&["audit"][..], &captures, &out].concat());
        assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
        Room { room }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.room.path().join(name)
    }

    fn named(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }

    fn packed() -> Room {
        let room = Room::new();
        let output = portproof(&["evidence", "pack", &room.named("audit"), "-o", &room.named("bundle")]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        room
    }

    /// The exit code for its bundle, and what is said of it.
    fn verified(&self, captures: &[&str]) -> (Option<i32>, String) {
        let bundle = self.named("bundle");
        let output = portproof(&[&["evidence", "verify", &bundle][..], captures].concat());
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    }

    /// Files of the bundle, by their paths within it.
    fn files(&self) -> Vec<String> {
        let of = |below: &str| -> Vec<String> {
            let entries = fs::read_dir(self.path("bundle").join(below)).expect("a directory");
            let names =
                entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"));
            names.map(|name| format!("{below}{name}")).collect()
        };
        let all = [of(""), of("frames/")].concat();
        all.into_iter().filter(|name| name != "frames").collect()
    }
}

/// Frames of a file by tshark: number, time, comment, bytes on the wire.
fn in_tshark(path: &Path) -> Vec<Vec<String>> {
    let fields = ["frame.time_epoch", "frame.comment", "frame.len", "ip.src", "ip.dst"];
    let fields = fields.into_iter().flat_map(|field| ["-e", field]);
    let output = Command::new("tshark")
        .arg("-r")
        .arg(path)
        .args(["-n", "-T", "fields"])
        .args(fields)
        .output()
        .expect("tshark starts");
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

#[test]
fn a_bundle_has_the_very_frames_that_findings_cite_and_checks_with_the_usual_tools() {
    if !crate::casebook::tshark_is_there() {
        return;
    }
    let room = Room::packed();
    let (code, said) = room.verified(&[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with("The bundle holds what it says.") && said.contains("not at hand"), "{said}");
    let sums = Command::new("sha256sum").args(["-c", "SHA256SUMS"]).current_dir(room.path("bundle")).output();
    assert!(sums.expect("sha256sum starts").status.success());
    let audit = fs::read_to_string(room.path("audit/audit.json")).expect("the audit");
    let audit: Value = serde_json::from_str(&audit).expect("JSON");
    let findings = audit["findings"].as_array().expect("findings");
    let cited = findings.iter().flat_map(|finding| finding["evidence"].as_array().expect("frames"));
    let of_lab = cited.filter(|frame| frame["capture"] == "captures/lab.pcap");
    let mut numbers: Vec<u64> = of_lab.filter_map(|frame| frame["frame"].as_u64()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let slice = in_tshark(&room.path("bundle/frames/001.pcapng"));
    let whole = in_tshark(&project().join("captures/lab.pcap"));
    assert!(numbers.len() > 20 && slice.len() == numbers.len(), "{} {}", slice.len(), numbers.len());
    for (frame, number) in slice.iter().zip(numbers) {
        let mut expected = whole[number as usize - 1].clone();
        expected[1] = format!("frame {number} of captures/lab.pcap");
        assert_eq!(*frame, expected);
    }
}

#[test]
fn frames_are_compared_with_captures_whatever_these_are_called_now() {
    let room = Room::packed();
    fs::copy(project().join("captures/lab.pcap"), room.path("renamed.cap")).expect("a copy");
    let (code, said) = room.verified(&[&room.named("renamed.cap"), "captures/mixed.pcapng"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("byte for byte those of captures/mixed.pcapng"), "{said}");
    // Who gives some wants all compared.
    let (code, said) = room.verified(&[&room.named("renamed.cap")]);
    assert!(code == Some(3) && said.contains("open  frames/002.pcapng"), "{said}");
    assert!(said.contains("byte for byte those of") && said.contains("renamed.cap"), "{said}");
    let (code, said) = room.verified(&[&room.named("no-such.pcap")]);
    assert_eq!(code, Some(3), "{said}");
    let (code, said) = room.verified(&["captures/matrix.pcap"]);
    assert!(
        code == Some(1) && said.contains("captures/matrix.pcap: is none of the captures of this bundle"),
        "{said}"
    );
}

#[test]
fn whatever_is_done_to_a_bundle_is_told() {
    let room = Room::packed();
    let files = room.files();
    assert_eq!(files.len(), 8, "{files:?}");
    for name in &files {
        let path = room.path("bundle").join(name);
        let whole = fs::read(&path).expect("the file");
        let mut changed = whole.clone();
        let middle = changed.len() / 2;
        changed[middle] ^= 1;
        let refused = |what: &str| {
            let (code, said) = room.verified(&[]);
            assert!(matches!(code, Some(1 | 2)), "{name} {what}: {code:?} {said}");
            assert!(!said.contains("holds what it says."), "{name} {what}: {said}");
        };
        fs::write(&path, changed).expect("a change");
        refused("changed");
        fs::write(&path, &whole[..whole.len() - 1]).expect("a change");
        refused("cut");
        fs::remove_file(&path).expect("a change");
        refused("removed");
        let elsewhere = room.path("elsewhere");
        fs::write(&elsewhere, &whole).expect("a file");
        std::os::unix::fs::symlink(&elsewhere, &path).expect("a link");
        if !["MANIFEST.json", "SHA256SUMS"].contains(&name.as_str()) {
            refused("a link");
        }
        fs::remove_file(&path).expect("a change");
        fs::write(&path, &whole).expect("as it was");
        assert_eq!(room.verified(&[]).0, Some(0));
    }
    fs::write(room.path("bundle/frames/more.pcapng"), "").expect("a file");
    let (code, said) = room.verified(&[]);
    assert!(code == Some(1) && said.contains("frames/more.pcapng: is there and not listed"), "{said}");
    fs::remove_file(room.path("bundle/frames/more.pcapng")).expect("as it was");
    fs::create_dir(room.path("bundle/empty")).expect("a directory");
    let (code, said) = room.verified(&[]);
    assert!(code == Some(1) && said.contains("empty: is there and not listed"), "{said}");
    fs::remove_dir(room.path("bundle/empty")).expect("as it was");
    std::os::unix::fs::symlink("/etc/passwd", room.path("bundle/SHA256SUMS.asc")).expect("a link");
    assert_eq!(room.verified(&[]).0, Some(1));
    fs::remove_file(room.path("bundle/SHA256SUMS.asc")).expect("as it was");
    // Nobody waits for a pipe.
    for name in ["audit.json", "MANIFEST.json", "frames/001.pcapng"] {
        let (path, aside) = (room.path("bundle").join(name), room.path("aside"));
        fs::rename(&path, &aside).expect("a change");
        assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo starts").success());
        assert!(matches!(room.verified(&[]).0, Some(1 | 2)), "{name}");
        fs::rename(&aside, &path).expect("as it was");
    }
    // From within, too.
    let mut within = Command::new(env!("CARGO_BIN_EXE_portproof"));
    within.current_dir(room.path("bundle")).args(["evidence", "verify", "MANIFEST.json"]);
    assert_eq!(within.output().expect("the program starts").status.code(), Some(0));
    // Who signs a bundle signs its sums.
    fs::write(room.path("bundle/SHA256SUMS.asc"), "a signature").expect("a file");
    assert_eq!(room.verified(&[]).0, Some(0));
}

/// Makes the sums fit again, as somebody would who changes a bundle on purpose.
fn sealed_again(bundle: &Path, change: impl FnOnce(&mut Value)) {
    let path = bundle.join("MANIFEST.json");
    let mut manifest: Value = serde_json::from_slice(&fs::read(&path).expect("the manifest")).expect("JSON");
    change(&mut manifest);
    fs::write(&path, manifest.to_string()).expect("a change");
    let files = manifest["files"].as_array().expect("files").iter();
    let names: Vec<String> = files.map(|file| file["path"].as_str().expect("a path").to_owned()).collect();
    let names = names.iter().map(String::as_str).chain(["MANIFEST.json"]);
    let output =
        Command::new("sha256sum").args(names).current_dir(bundle).output().expect("sha256sum starts");
    fs::write(bundle.join("SHA256SUMS"), output.stdout).expect("a change");
}

#[test]
fn a_bundle_sealed_again_is_held_against_its_audit_and_the_captures() {
    let room = Room::packed();
    let bundle = room.path("bundle");
    sealed_again(&bundle, |_| {});
    assert_eq!(room.verified(&[]).0, Some(0));
    let manifest = fs::read(bundle.join("MANIFEST.json")).expect("the manifest");
    type Change = fn(&mut Value);
    let changes: [(&str, Change, &str); 6] = [
        (
            "a capture that nothing cites",
            |of| {
                let mut more = of["captures"][0].clone();
                more["path"] = "captures/evil.pcap".into();
                of["captures"].as_array_mut().unwrap().push(more);
            },
            "cites nothing of captures/evil.pcap",
        ),
        (
            "frames that no digest stands for",
            |of| {
                of["captures"][0]["slice"] = "SHA256SUMS".into();
            },
            "is not listed",
        ),
        (
            "a frame less is said to be cited",
            |of| drop(of["captures"][0]["frames"].as_array_mut().unwrap().pop()),
            "cites other frames",
        ),
        (
            "a capture is left out",
            |of| drop(of["captures"].as_array_mut().unwrap().remove(0)),
            "which is not listed",
        ),
        ("another capture's digest", |of| of["captures"][0]["sha256"] = "00".into(), "cites other frames"),
        (
            "the slices are exchanged",
            |of| {
                let (one, other) = (of["captures"][0]["slice"].take(), of["captures"][1]["slice"].take());
                (of["captures"][0]["slice"], of["captures"][1]["slice"]) = (other, one);
            },
            "are cited of",
        ),
    ];
    for (what, change, told) in changes {
        sealed_again(&bundle, change);
        let (code, said) = room.verified(&[]);
        assert!(code == Some(1) && said.contains(told), "{what}: {code:?} {said}");
        fs::write(bundle.join("MANIFEST.json"), &manifest).expect("as it was");
    }
    // What leads out of the bundle is not read.
    sealed_again(&bundle, |of| of["files"][0]["path"] = "../audit/audit.json".into());
    let (code, said) = room.verified(&[]);
    assert!(code == Some(1) && said.contains("leads out of the bundle"), "{said}");
    fs::write(bundle.join("MANIFEST.json"), &manifest).expect("as it was");
    // Frames that are none of the capture's: only the capture tells.
    let slice = bundle.join("frames/001.pcapng");
    let mut frames = fs::read(&slice).expect("the slice");
    let at = frames.windows(9).position(|bytes| bytes == b"microsoft").expect("a name in the slice");
    frames[at] = b'M';
    fs::write(&slice, &frames).expect("a change");
    let sum = Command::new("sha256sum").arg(&slice).output().expect("sha256sum starts");
    let sum = text(&sum.stdout).split(' ').next().expect("a digest").to_owned();
    sealed_again(&bundle, |of| {
        let files = of["files"].as_array_mut().expect("files");
        let file = files.iter_mut().find(|file| file["path"] == "frames/001.pcapng").expect("the slice");
        file["sha256"] = sum.into();
    });
    assert_eq!(room.verified(&[]).0, Some(0));
    let (code, said) = room.verified(&["captures/lab.pcap", "captures/mixed.pcapng"]);
    assert!(code == Some(1) && said.contains("other frames than those of captures/lab.pcap"), "{said}");
}

#[test]
fn a_capture_that_is_not_the_audited_one_gives_no_frames_and_nothing_is_written_over() {
    let room = tempfile::tempdir().expect("a directory");
    let path = |name: &str| room.path().join(name).to_string_lossy().into_owned();
    fs::copy(project().join("captures/lab.pcap"), path("lab.pcap")).expect("a copy");
    let audited =
        portproof(&["audit", &path("lab.pcap"), "--site", "captures/site.toml", "--out", &path("audit")]);
    assert_eq!(audited.status.code(), Some(1));
    fs::copy(project().join("captures/matrix.pcap"), path("lab.pcap")).expect("another capture");
    let output = portproof(&["evidence", "pack", &path("audit")]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("it is not the file that was audited"), "{said}");
    let output = portproof(&["evidence", "verify", &path("audit-evidence")]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stdout));
    assert!(text(&output.stdout).contains("its frames are not in the bundle"));
    for again in [
        &["evidence", "pack", &path("audit")][..],
        &["evidence", "slice", &path("audit"), "-o", &path("lab.pcap")],
    ] {
        let output = portproof(again);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains("is there already, and nothing is written over"));
    }
    for refused in [path("lab.pcap"), path("nowhere"), project().display().to_string()] {
        assert_eq!(
            portproof(&["evidence", "pack", &refused, "-o", &path("new")]).status.code(),
            Some(2),
            "{refused}"
        );
        assert!(!Path::new(&path("new")).exists());
        assert_eq!(portproof(&["evidence", "verify", &refused]).status.code(), Some(2), "{refused}");
    }
}

#[test]
fn a_slice_has_the_frames_of_one_code_or_of_all() {
    if !crate::casebook::tshark_is_there() {
        return;
    }
    let room = Room::new();
    let frames = |more: &[&str], name: &str| {
        let (audit, out) = (room.named("audit"), room.named(name));
        let output = portproof(&[&["evidence", "slice", &audit, "-o", &out][..], more].concat());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        in_tshark(&room.path(name))
    };
    let (all, some) = (frames(&[], "all.pcapng"), frames(&["--code", "name-blocked"], "some.pcapng"));
    assert!(!some.is_empty() && some.len() < all.len() && some.iter().all(|frame| all.contains(frame)));
    // Those of both captures, each by its own name.
    for capture in ["captures/lab.pcap", "captures/mixed.pcapng"] {
        assert!(all.iter().any(|frame| frame[1].ends_with(capture)), "{capture}");
    }
    let piped = portproof(&["evidence", "slice", &room.named("audit"), "-o", "-"]);
    assert_eq!(piped.stdout, fs::read(room.path("all.pcapng")).expect("the file"));
    let output = portproof(&["evidence", "slice", &room.named("audit"), "-o", "-", "--code", "no-such"]);
    assert!(output.status.code() == Some(2) && output.stdout.is_empty());
}

#[test]
fn a_frame_may_be_of_any_length_and_the_default_name_is_the_directorys() {
    use portproof::capture::write::{PcapStyle, PcapWriter};
    let room = tempfile::tempdir().expect("a directory");
    let path = |name: &str| room.path().join(name).to_string_lossy().into_owned();
    // A datagram to a port that no rule names, and 300,000 bytes of whatever behind it.
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    frame.extend([0x45, 0, 0, 36, 0, 1, 0, 0, 64, 17, 0, 0, 10, 10, 1, 4, 203, 0, 113, 9]);
    frame.extend([0x30, 0x39, 0x27, 0x0f, 0, 16, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
    frame.resize(300_000, 7);
    let style = PcapStyle { snaplen_bytes: 1 << 20, ..PcapStyle::ETHERNET };
    let mut writer = PcapWriter::new(Vec::new(), style).expect("memory");
    for seconds in 1..4 {
        writer.frame(portproof::model::Timestamp(seconds * 1_000_000_000), &frame, 300_000).expect("memory");
    }
    fs::write(path("long.pcap"), writer.into_inner()).expect("a file");
    let audited =
        portproof(&["audit", &path("long.pcap"), "--site", "captures/site.toml", "--out", &path("audit")]);
    assert_eq!(audited.status.code(), Some(1), "{}", text(&audited.stderr));
    let mut pack = Command::new(env!("CARGO_BIN_EXE_portproof"));
    pack.current_dir(room.path().join("audit")).args(["evidence", "pack", "."]);
    assert_eq!(pack.output().expect("the program starts").status.code(), Some(0));
    let output = portproof(&["evidence", "verify", &path("audit-evidence"), &path("long.pcap")]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
}
