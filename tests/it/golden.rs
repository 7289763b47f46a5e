//! Whole audits of the captures in `captures/`, held against files: what a person reads and what a machine reads.
//!
//! `PORTPROOF_BLESS=1` writes the files anew; look at the difference before you commit it.

use std::path::{Path, PathBuf};
use std::process::Command;

const CAPTURES: [&str; 5] = ["matrix.pcap", "violations.pcap", "blocked.pcap", "mixed.pcapng", "lab.pcap"];

pub fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What the program prints for a capture, run from the project's root so that paths are the same everywhere.
fn audit(capture: &str, format: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_portproof"))
        .current_dir(project())
        .args(["audit", &format!("captures/{capture}"), "--site", "captures/site.toml", "--format", format])
        .env("NO_COLOR", "1")
        .env_remove("COLUMNS")
        .output()
        .expect("the program starts");
    assert!(output.stderr.is_empty(), "{capture}: {}", String::from_utf8_lossy(&output.stderr));
    let code = output.status.code();
    assert!(matches!(code, Some(0 | 1)), "{capture}: exit code {code:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

pub fn hold(file: &str, came: &str) {
    let path: PathBuf = project().join("tests/golden").join(file);
    if std::env::var_os("PORTPROOF_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder can be made");
        std::fs::write(&path, came).expect("the file can be written");
        return;
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    let line = golden.lines().zip(came.lines()).position(|(golden, came)| golden != came);
    let line = line.unwrap_or_else(|| golden.lines().count().min(came.lines().count()));
    assert!(
        golden == came,
        "tests/golden/{file}, line {}:\n  golden: {:?}\n  came:   {:?}\n(PORTPROOF_BLESS=1 writes it anew)",
        line + 1,
        golden.lines().nth(line),
        came.lines().nth(line),
    );
}

#[test]
fn audits_read_as_they_did() {
    for capture in CAPTURES {
        hold(&format!("{capture}.txt"), &audit(capture, "human"));
    }
}

/// Whatever a report cites by its id: rules, and lines of the platform.
#[test]
fn what_an_audit_cites_can_be_looked_up() {
    let audit: serde_json::Value = serde_json::from_str(&audit("lab.pcap", "json")).expect("JSON");
    let findings = audit["findings"].as_array().expect("findings");
    let rules = findings.iter().flat_map(|finding| finding["rules"].as_array().expect("rules"));
    let mut cited: Vec<&str> = rules.filter_map(|rule| rule.as_str()).collect();
    cited.extend(["plat-dns", "plat-imds"]);
    assert!(cited.len() > 10, "{cited:?}");
    let portproof = |arguments: &[&str]| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_portproof")).args(arguments).output().expect("it starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let list = portproof(&["rules", "list"]);
    for id in cited {
        let shown = portproof(&["rules", "show", id]);
        assert!(shown.starts_with(&format!("{id}\n")), "{shown}");
        assert!(list.lines().any(|line| line.split(' ').next() == Some(id)), "{id}");
    }
    let both = portproof(&["rules", "show", "plat-imds", "vbaz-04"]);
    let (rule, line) = both.split_once("\n\n").expect("an empty line between");
    assert!(rule.contains("https://helpcenter.veeam.com/docs/vbazure/guide/ports.html"), "{rule}");
    assert!(
        line.starts_with("plat-imds\n") && line.contains("169.254.169.254") && !line.ends_with("\n\n"),
        "{line}"
    );
}

/// What the README shows of a report stands in it, piece by piece, in its order.
#[test]
fn what_the_readme_shows_is_what_is_printed() {
    let readme = std::fs::read_to_string(project().join("README.md")).expect("the README");
    let (_, shown) = readme.split_once("    $ portproof audit captures/lab.pcap").expect("the command");
    let shown = shown.lines().skip(1).take_while(|line| line.is_empty() || line.starts_with("    "));
    let shown: String =
        shown.map(|line| format!("{}\n", line.strip_prefix("    ").unwrap_or(line))).collect();
    let printed = audit("lab.pcap", "human");
    let mut rest = printed.as_str();
    let pieces: Vec<&str> = shown.split("\n...\n").map(|piece| piece.trim_matches('\n')).collect();
    assert!(pieces.len() > 3, "{pieces:?}");
    for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
        let at = rest.find(piece).unwrap_or_else(|| panic!("not printed, or not in this order:\n{piece}"));
        rest = &rest[at + piece.len()..];
    }
}

#[test]
fn audits_say_what_they_said() {
    for capture in CAPTURES {
        hold(&format!("{capture}.json"), &audit(capture, "json"));
    }
}

#[test]
fn a_report_fits_eighty_columns_but_for_commands_to_copy() {
    for capture in CAPTURES {
        for line in audit(capture, "human").lines() {
            let command = ["look ", "filter "].iter().any(|word| line.trim_start().starts_with(word));
            assert!(command || line.chars().count() <= 80, "{capture}: {line:?}");
        }
    }
}

/// What the recording's own makers know: clients, firewall and servers of `tests/lab/record.sh`.
#[test]
fn the_lab_recording_is_judged_as_its_firewall_and_clients_know() {
    let truth = std::fs::read_to_string(project().join("captures/lab-truth.csv")).expect("lab-truth.csv");
    let rows: Vec<serde_json::Value> = audit("lab.pcap", "jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .filter(|row: &serde_json::Value| row["type"] == "flow")
        .collect();
    let mut lines = truth.lines();
    let columns: Vec<&str> = lines.next().expect("a header").split(',').collect();
    let column = |name: &str| columns.iter().position(|column| *column == name).expect("the column");
    let mut held = 0;
    for line in lines {
        let fields: Vec<&str> = line.split(',').collect();
        let field = |name: &str| fields[column(name)];
        if field("initiator_port").is_empty() {
            continue;
        }
        let port: u64 = field("initiator_port").parse().expect("a port");
        let row = rows
            .iter()
            .find(|row| row["initiator_ip"] == field("initiator_ip") && row["initiator_port"] == port)
            .unwrap_or_else(|| panic!("{}: no row", field("attempt")));
        assert_eq!(row["responder_ip"], field("responder_ip"), "{}", field("attempt"));
        assert_eq!(row["outcome"], field("outcome"), "{}", field("attempt"));
        let rules: Vec<&str> =
            row["rules"].as_array().expect("a list").iter().filter_map(|r| r.as_str()).collect();
        let page: Vec<&str> = field("page").split_whitespace().collect();
        assert_eq!(rules, page, "{}", field("attempt"));
        held += 1;
    }
    assert!(held >= 19, "{held} attempts");
}
