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
