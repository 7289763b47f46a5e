//! `extract --partial` on each capture and `judge` on the rows say what `audit` says of the captures, byte for byte.

use std::path::{Path, PathBuf};
use std::process::Command;

fn run(folder: &Path, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(env!("CARGO_BIN_EXE_portproof"))
        .current_dir(folder)
        .args(arguments)
        .output()
        .expect("the program starts");
    let code = output.status.code();
    assert!(
        matches!(code, Some(0 | 1)),
        "{arguments:?}: exit code {code:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// The frames of a little-endian pcap file, after its header.
fn records(file: &[u8]) -> Vec<&[u8]> {
    let mut records = Vec::new();
    let mut rest = &file[24..];
    while rest.len() >= 16 {
        let length = u32::from_le_bytes([rest[8], rest[9], rest[10], rest[11]]) as usize;
        let (record, more) = rest.split_at(16 + length);
        records.push(record);
        rest = more;
    }
    records
}

/// A capture of the demo, cut into `parts` files in a folder of its own, beside the site file.
fn cut(capture: &str, parts: usize, folder: &Path) -> Vec<String> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("captures");
    let file = std::fs::read(project.join(capture)).expect("the capture");
    std::fs::create_dir_all(folder).expect("a folder");
    std::fs::copy(project.join("site.toml"), folder.join("site.toml")).expect("the site file");
    let records = records(&file);
    let size = records.len().div_ceil(parts);
    let mut names = Vec::new();
    for (number, part) in records.chunks(size).enumerate() {
        let name = format!("part-{number}.pcap");
        std::fs::write(folder.join(&name), [&file[..24], &part.concat()].concat()).expect("a part");
        names.push(name);
    }
    names
}

#[test]
fn extract_and_judge_say_what_audit_says() {
    let extensions: &[&str] =
        if cfg!(feature = "columnar") { &["jsonl", "parquet", "arrow"] } else { &["jsonl"] };
    for capture in ["lab.pcap", "violations.pcap", "blocked.pcap"] {
        for extension in extensions {
            let folder =
                PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("two-steps-{capture}-{extension}"));
            let parts = cut(capture, 3, &folder);
            let mut audit = vec!["audit", "--site", "site.toml"];
            audit.extend(parts.iter().map(String::as_str));
            let mut files = Vec::new();
            for (number, part) in parts.iter().enumerate() {
                let [flows, names, summary] = [
                    format!("flows-{number}.{extension}"),
                    format!("names-{number}.{extension}"),
                    format!("summary-{number}.jsonl"),
                ];
                run(
                    &folder,
                    &[
                        "extract",
                        part,
                        "--partial",
                        "--flows",
                        &flows,
                        "--names",
                        &names,
                        "--summary",
                        &summary,
                    ],
                );
                files.push([flows, names, summary]);
            }
            let mut judge = vec!["judge", "--site", "site.toml"];
            for [flows, names, summary] in &files {
                judge.extend(["--flows", flows, "--names", names, "--summary", summary]);
            }
            for format in ["json", "jsonl", "csv"] {
                let audited = run(&folder, &[&audit[..], &["--format", format]].concat());
                let judged = run(&folder, &[&judge[..], &["--format", format]].concat());
                assert!(!audited.is_empty() && audited == judged, "{capture}, {extension} rows, {format}");
            }
        }
    }
}

#[test]
fn rows_without_what_stitching_needs_are_refused() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("two-steps-whole");
    let parts = cut("lab.pcap", 1, &folder);
    run(&folder, &["extract", &parts[0], "--flows", "f.jsonl", "--names", "n.jsonl", "--summary", "s.jsonl"]);
    let output = Command::new(env!("CARGO_BIN_EXE_portproof"))
        .current_dir(&folder)
        .args([
            "judge",
            "--flows",
            "f.jsonl",
            "--names",
            "n.jsonl",
            "--summary",
            "s.jsonl",
            "--site",
            "site.toml",
        ])
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("--partial"), "{told}");
}

/// Exit code, standard output, standard error.
fn told(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_portproof"))
        .current_dir(folder)
        .args(arguments)
        .output()
        .expect("the program starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Two captures of the demo and their partial rows, in a folder of their own.
fn two_extracts(folder: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(folder);
    // What an earlier run of the test left would be found here.
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder");
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("captures");
    for name in ["site.toml", "lab.pcap", "matrix.pcap"] {
        std::fs::copy(project.join(name), folder.join(name)).expect("a copy");
    }
    for name in ["lab", "matrix"] {
        let [flows, names, summary] = ["f", "n", "s"].map(|what| format!("{name}.{what}.jsonl"));
        let files = ["--flows", &flows, "--names", &names, "--summary", &summary];
        run(&folder, &[&["extract", &format!("{name}.pcap"), "--partial"], &files[..]].concat());
    }
    folder
}

#[test]
fn rows_that_a_summary_counts_and_nobody_gave_make_the_evidence_incomplete() {
    let folder = two_extracts("two-steps-missing");
    let judge = |flows: &[&str], names: &[&str]| {
        let mut arguments =
            vec!["judge", "--site", "site.toml", "--summary", "lab.s.jsonl", "matrix.s.jsonl"];
        arguments.extend(["--flows"].iter().chain(flows).chain(&["--names"]).chain(names));
        told(&folder, &arguments)
    };
    let (flows, names) = (["lab.f.jsonl", "matrix.f.jsonl"], ["lab.n.jsonl", "matrix.n.jsonl"]);
    let (whole, _, _) = judge(&flows, &names);
    assert_eq!(whole, Some(1));
    let text = std::fs::read_to_string(folder.join("lab.f.jsonl")).expect("rows");
    let half: Vec<&str> = text.lines().take(20).collect();
    std::fs::write(folder.join("half.jsonl"), half.join("\n") + "\n").expect("fewer rows");
    for (flows, names, what) in [
        (&flows[1..], &names[..], "rows of flows, and 0 were given"),
        (&["half.jsonl", "matrix.f.jsonl"], &names, "rows of flows, and 20 were given"),
        (&flows, &names[1..], "rows of names, and 0 were given"),
    ] {
        let (code, out, err) = judge(flows, names);
        assert_eq!(code, Some(3), "{what}: {out}{err}");
        let out = out.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(out.contains("its summary counts") && out.contains(what), "{what}: {out}");
    }
}

#[test]
fn what_could_not_be_read_is_remembered_from_one_step_to_the_next() {
    let folder = two_extracts("two-steps-unreadable");
    let captures = ["matrix.pcap", "nosuch.pcap"];
    let files = ["--flows", "f.jsonl", "--names", "n.jsonl", "--summary", "s.jsonl"];
    let (code, ..) = told(&folder, &[&["extract", "--partial"], &captures[..], &files].concat());
    assert_eq!(code, Some(3));
    let judged = told(&folder, &[&["judge", "--site", "site.toml", "--format", "json"], &files[..]].concat());
    let audited =
        told(&folder, &[&["audit", "--site", "site.toml", "--format", "json"], &captures[..]].concat());
    assert_eq!(judged.0, Some(3));
    assert!(judged.1.contains("nosuch.pcap"));
    assert_eq!(judged, audited);
}

#[test]
fn no_file_that_is_read_is_written_over() {
    let folder = two_extracts("two-steps-spared");
    std::fs::create_dir_all(folder.join("caps")).expect("a folder");
    std::fs::create_dir_all(folder.join("out")).expect("a folder");
    std::fs::copy(folder.join("lab.pcap"), folder.join("caps/a.pcap")).expect("a copy");
    std::fs::copy(folder.join("lab.pcap"), folder.join("out/audit.json")).expect("a copy");
    std::fs::copy(folder.join("site.toml"), folder.join("out/report.html")).expect("a copy");
    std::fs::copy(folder.join("lab.f.jsonl"), folder.join("out/flows.jsonl")).expect("a copy");
    std::os::unix::fs::symlink("lab.pcap", folder.join("link.pcap")).expect("a link");
    let rows = ["--names", "lab.n.jsonl", "--summary", "lab.s.jsonl", "--site", "site.toml", "--out", "out"];
    for arguments in [
        &["extract", "lab.pcap", "--summary", "lab.pcap"][..],
        &["extract", "link.pcap", "--summary", "lab.pcap"],
        &["extract", "caps", "--summary", "caps/a.pcap"],
        &["audit", "out/audit.json", "--site", "site.toml", "--out", "out"],
        &["audit", "lab.pcap", "--site", "out/report.html", "--out", "out"],
        &[&["judge", "--flows", "out/flows.jsonl"][..], &rows].concat(),
    ] {
        let (code, out, err) = told(&folder, arguments);
        assert_eq!((code, &*out), (Some(2), ""), "{arguments:?}: {err}");
        assert!(err.contains("would be written over"), "{arguments:?}: {err}");
    }
    let same = |one: &str, other: &str| {
        let read = |name: &str| std::fs::read(folder.join(name)).expect("it is there");
        assert!(read(one) == read(other), "{other} is as it was");
    };
    same("lab.pcap", "caps/a.pcap");
    same("lab.pcap", "out/audit.json");
    same("site.toml", "out/report.html");
    same("lab.f.jsonl", "out/flows.jsonl");
}

#[test]
fn rows_and_audits_of_different_captures_are_not_taken_for_one() {
    let folder = two_extracts("two-steps-mixed");
    let extension = if cfg!(feature = "columnar") { "parquet" } else { "jsonl" };
    for (capture, out) in [("lab.pcap", "lab"), ("matrix.pcap", "matrix")] {
        run(&folder, &["audit", capture, "--site", "site.toml", "--out", out]);
    }
    let rows = |folder: &str| format!("{folder}/flows.{extension}");
    // Fewer frames under the same name.
    let (short, file) = (folder.join("short"), std::fs::read(folder.join("lab.pcap")).expect("the capture"));
    std::fs::create_dir(&short).expect("a folder");
    let frames: Vec<&[u8]> = records(&file).into_iter().take(100).collect();
    std::fs::write(short.join("lab.pcap"), [&file[..24], &frames.concat()].concat()).expect("a capture");
    run(&short, &["audit", "lab.pcap", "--site", "../site.toml", "--out", "lab"]);
    for (other, why) in [("short/lab", "the audit beside it is of"), ("matrix", "does not know")] {
        std::fs::copy(folder.join(rows(other)), folder.join(rows("lab"))).expect("a copy");
        let (code, _, err) = told(&folder, &["report", "lab", "--format", "jsonl"]);
        assert!(code == Some(2) && err.contains(why), "{err}");
    }
    // Rows of a format that this build does not write are of an audit before.
    std::fs::write(folder.join("lab/flows.arrow"), "rows of long ago").expect("a file");
    let (code, ..) = told(&folder, &["audit", "lab.pcap", "--site", "site.toml", "--out", "lab"]);
    assert_eq!((code, folder.join("lab/flows.arrow").exists()), (Some(1), false));
    assert_eq!(told(&folder, &["report", "lab", "--format", "jsonl"]).0, Some(1));
    // An audit that comes to nothing leaves no other one's answer behind.
    std::fs::remove_file(folder.join("lab/report.html")).expect("it is there");
    std::fs::create_dir(folder.join("lab/report.html")).expect("a folder in its place");
    let (code, ..) = told(&folder, &["audit", "matrix.pcap", "--site", "site.toml", "--out", "lab"]);
    assert_eq!((code, folder.join("lab/audit.json").exists()), (Some(2), false));
}

#[test]
fn extract_counts_what_belongs_to_no_flow_as_an_audit_does() {
    let folder = two_extracts("two-steps-orphans");
    let file = std::fs::read(folder.join("lab.pcap")).expect("the capture");
    // The second fragment of a datagram whose first is nowhere, between ten usual frames.
    let mut frames: Vec<Vec<u8>> = records(&file).iter().take(10).map(|record| record.to_vec()).collect();
    let mut packet = vec![0x45, 0, 0, 28, 0, 7, 0, 4, 64, 17, 0, 0, 10, 10, 1, 4, 203, 0, 113, 9];
    packet.extend([0x55; 8]);
    let ethernet = [&[2; 12][..], &[8, 0], &packet].concat();
    let length = (ethernet.len() as u32).to_le_bytes();
    let time = frames[9][..8].to_vec();
    frames.push([&time[..], &length, &length, &ethernet].concat());
    std::fs::write(folder.join("orphan.pcap"), [&file[..24], &frames.concat()].concat()).expect("a capture");
    let (extracted, ..) = told(&folder, &["extract", "orphan.pcap", "--flows", "of.jsonl"]);
    let (audited, ..) = told(&folder, &["audit", "orphan.pcap", "--site", "site.toml"]);
    assert_eq!((extracted, audited), (Some(3), Some(3)));
}
