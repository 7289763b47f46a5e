//! The corpora of the fuzz targets, held against the same laws without a fuzzer. `fuzz/README.md` tells how they grow.

mod runaway;
mod seeds;
mod targets;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use targets::TARGETS;

/// Files of one corpus at most, and bytes of all corpora: they stand in every clone and are replayed by every test run.
const MAX_FILES: usize = 200;
const MAX_BYTES: u64 = 1 << 20;

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The inputs of a target, in the order of their names.
fn corpus(target: &str) -> Vec<PathBuf> {
    let folder = project().join("tests/corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

/// Replays the corpus of a target. A test for each, so that they share the processors and a failure tells where.
fn replay(target: &str) {
    let law = TARGETS.iter().find(|(name, _)| *name == target).expect("a target").1;
    for file in corpus(target) {
        let bytes = fs::read(&file).expect("an input");
        let held = std::panic::catch_unwind(|| law(&bytes));
        assert!(held.is_ok(), "{} breaks a law of `{target}` (see above)", file.display());
    }
}

/// A test for each target that replays its corpus, and the list of them.
macro_rules! replayed {
    ($($sentence:ident: $target:literal,)*) => {
        $(#[test] fn $sentence() { replay($target); })*
        const REPLAYED: &[&str] = &[$($target),*];
    };
}

replayed! {
    a_capture_file_gives_its_frames_in_order_and_tells_its_end_whatever_its_bytes: "readers",
    a_frame_gives_a_packet_within_its_bytes_or_a_reason: "decode",
    a_dns_message_says_what_hickory_says_and_a_cut_one_no_more: "dns",
    a_cut_hello_says_nothing_that_the_whole_does_not: "client_hello",
    a_quic_hello_is_pieced_together_from_any_frames: "quic",
    http_messages_stand_one_behind_the_other: "http",
    a_policy_file_is_read_or_its_mistakes_are_told_and_lint_agrees: "rules",
    a_page_gives_a_pack_that_lints_or_a_reason_why_there_is_none: "pages",
    a_row_for_judge_is_refused_or_comes_back_as_it_was: "rows",
    an_audit_of_any_bytes_keeps_the_laws_of_counts_scissors_and_reports: "audit",
}

/// The fuzzer's binaries by their manifest.
fn binaries() -> BTreeSet<String> {
    let manifest = fs::read_to_string(project().join("fuzz/Cargo.toml")).expect("the fuzzer's manifest");
    let manifest: toml::Table = manifest.parse().expect("TOML");
    let binaries = manifest["bin"].as_array().expect("targets").iter();
    binaries.map(|binary| binary["name"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn every_target_has_a_binary_a_replay_and_a_small_corpus() {
    let names: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names.len(), TARGETS.len(), "two targets of one name");
    assert_eq!(binaries(), names, "the binaries of fuzz/Cargo.toml");
    assert_eq!(REPLAYED.iter().copied().map(str::to_owned).collect::<BTreeSet<_>>(), names, "replays");
    let folders = fs::read_dir(project().join("tests/corpus")).expect("the corpora");
    let folders: BTreeSet<String> =
        folders.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    assert_eq!(folders, names, "the folders of tests/corpus");
    let mut bytes = 0;
    for target in &names {
        let files = corpus(target);
        assert!((1..=MAX_FILES).contains(&files.len()), "{target}: {} files", files.len());
        bytes += files.iter().map(|file| fs::metadata(file).expect("an input").len()).sum::<u64>();
    }
    assert!(bytes <= MAX_BYTES, "{bytes} bytes of corpora are too many for a repository");
}
