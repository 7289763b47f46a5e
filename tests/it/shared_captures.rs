//! The reader against a collection of public captures, each with what tshark 4.0 says of it.
//!
//! The collection lies beside the repository, in `../shared/captures`; without it the test says so and passes, unless
//! PORTPROOF_REQUIRE_SHARED=1.

use portproof::capture::*;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the collection lies: beside the repository, or where PORTPROOF_SHARED says.
pub fn collection() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let root = std::env::var_os("PORTPROOF_SHARED").map_or(beside, PathBuf::from).join("captures");
    if root.is_dir() {
        return Some(root);
    }
    assert!(
        std::env::var_os("PORTPROOF_REQUIRE_SHARED").is_none_or(|value| value != "1"),
        "{} is absent",
        root.display()
    );
    eprintln!("skipped: {} is absent", root.display());
    None
}

fn skipped(unreliable: &Value, file: &str, what: &str) -> bool {
    let Some(Value::Array(skip)) = unreliable.get(file).and_then(|entry| entry.get("skip")) else {
        return false;
    };
    skip.iter().any(|word| word == what || word == "all")
}

/// tshark's `seconds.nanoseconds` in nanoseconds, as far as 64 bits tell.
fn nanos(text: &str) -> i64 {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let seconds: i128 = seconds.parse().expect("seconds");
    let nanos = seconds * 1_000_000_000 + format!("{fraction:0<9}").parse::<i128>().expect("fraction");
    i64::try_from(nanos).unwrap_or(i64::MAX)
}

#[test]
fn frames_and_times_of_public_captures_are_those_of_tshark() {
    let Some(root) = collection() else { return };
    let unreliable = fs::read_to_string(root.join("unreliable.json")).expect("unreliable.json");
    let unreliable: Value = serde_json::from_str(&unreliable).expect("JSON");
    let mut differences = BTreeMap::new();
    let mut held = 0;
    for set in ["normal", "hostile"] {
        for entry in fs::read_dir(root.join(set)).expect("directory") {
            let path = entry.expect("entry").path();
            let Some(file) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".oracle.jsonl"))
            else {
                continue;
            };
            let oracle = fs::read_to_string(&path).expect("oracle");
            let oracle: Value = serde_json::from_str(oracle.lines().next().expect("line")).expect("JSON");
            let mut reader =
                match CaptureReader::open(&Input::file(path.with_file_name(file)), Digest::Sha256) {
                    Ok(reader) => reader,
                    Err(error) => {
                        if !skipped(&unreliable, file, "all") {
                            differences.insert(file.to_owned(), error.to_string());
                        }
                        continue;
                    }
                };
            let (mut first, mut last, mut frames) = (None, None, 0u64);
            while let Some(frame) = reader.next() {
                frames += 1;
                first.get_or_insert(frame.time);
                last = Some(frame.time);
            }
            let facts = reader.facts();
            assert_eq!(facts.frames, frames);
            let end = reader.end().cloned();
            let stored = reader.finish().expect("readable");
            let hex: String = stored.sha256.iter().flatten().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(oracle["sha256"], hex, "{file}");
            assert_eq!(oracle["size"], stored.bytes, "{file}");
            let mut difference = Vec::new();
            if !skipped(&unreliable, file, "frames") && oracle["frames"] != frames {
                difference.push(format!("frames {frames}, tshark {}; ended: {end:?}", oracle["frames"]));
            }
            if !skipped(&unreliable, file, "ts") {
                for (name, ours) in [("first_ts", first), ("last_ts", last)] {
                    // Custom blocks, which tshark numbers, have an empty time.
                    let theirs = oracle[name].as_str().filter(|text| !text.is_empty()).map(nanos);
                    // Beyond what 64 bits tell in nanoseconds: then the frame has no time of its own.
                    let untold = theirs == Some(i64::MAX) && facts.frames_without_time > 0;
                    if theirs != ours.map(|time| time.0) && !untold {
                        difference.push(format!("{name} {ours:?}, tshark {}", oracle[name]));
                    }
                }
            }
            if !difference.is_empty() {
                differences.insert(file.to_owned(), difference.join("; "));
            }
            held += 1;
        }
    }
    assert!(held > 200, "only {held} captures were held against tshark");
    assert!(differences.is_empty(), "{differences:#?}");
}

/// A text as one line, however it was wrapped.
fn unwrapped(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn no_hostile_capture_ends_otherwise_than_documented_and_damage_is_located() {
    let Some(root) = collection() else { return };
    let site = Path::new(env!("CARGO_MANIFEST_DIR")).join("captures/site.toml");
    let hostile = root.join("hostile");
    let (mut held, mut damaged, mut problems) = (0, 0, Vec::new());
    for entry in fs::read_dir(&hostile).expect("directory") {
        let name = entry.expect("entry").file_name().to_string_lossy().into_owned();
        if name.ends_with(".oracle.jsonl") {
            continue;
        }
        held += 1;
        let ended = Command::new(env!("CARGO_BIN_EXE_portproof"))
            .current_dir(&hostile)
            .args(["audit", &name, "--fail-on", "never", "--site"])
            .arg(&site)
            .output()
            .expect("portproof starts");
        let (said, erred) =
            (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr).into_owned());
        let code = ended.status.code();
        // What the reader says of the file decides what has to be told.
        let reader = CaptureReader::open(&Input::file(hostile.join(&name)), Digest::None);
        let (expected, told) = match reader {
            Err(_) => (Some(2), erred.contains(&name)),
            Ok(mut reader) => {
                while reader.next().is_some() {}
                match reader.end() {
                    Some(CaptureEnd::Damaged { frame, offset, problem }) => {
                        damaged += 1;
                        let line = format!("{name}: damaged at frame {frame}, byte {offset}: {problem}");
                        // Long names are broken where the line ends, at no blank.
                        let solid = |text: &str| text.replace(char::is_whitespace, "");
                        (Some(3), solid(&unwrapped(&said)).contains(&solid(&line)))
                    }
                    // Frames that cannot be decoded make the evidence incomplete as well, and their share is told.
                    Some(CaptureEnd::Complete) if code == Some(3) => {
                        (Some(3), unwrapped(&said).contains("of all frames could not be decoded"))
                    }
                    _ => (Some(0), true),
                }
            }
        };
        if code != expected || !told {
            problems.push(format!(
                "{name}: exit code {code:?}, expected {expected:?}; told: {told}\n{said}{erred}"
            ));
        }
    }
    assert!(held > 80 && damaged > 10, "{held} hostile captures, {damaged} of them damaged");
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
}
