//! `portproof diff`: what changed from one audit to another.

use crate::golden::{hold, project};
use serde_json::Value;
use std::process::{Command, Output};

/// The program's answer, run from the project's root so that paths are the same everywhere.
fn diff(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portproof"));
    command.current_dir(project()).arg("diff").args(arguments).env("NO_COLOR", "1");
    command.output().expect("the program starts")
}

fn printed(arguments: &[&str]) -> String {
    let output = diff(arguments);
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

const MATRIX: &str = "tests/golden/matrix.pcap.json";
const LAB: &str = "tests/golden/lab.pcap.json";

#[test]
fn differences_read_as_they_did() {
    let human = printed(&[MATRIX, LAB]);
    for line in human.lines() {
        let command = ["look ", "filter "].iter().any(|word| line.trim_start().starts_with(word));
        assert!(command || line.chars().count() <= 80, "{line:?}");
    }
    hold("matrix-to-lab.txt", &human);
    hold("lab-to-matrix.txt", &printed(&[LAB, MATRIX]));
    hold("matrix-to-lab.md", &printed(&[MATRIX, LAB, "--format", "markdown"]));
}

#[test]
fn a_difference_is_one_json_value_that_says_all() {
    let value: Value = serde_json::from_str(&printed(&[MATRIX, LAB, "--format", "json"])).expect("JSON");
    assert_eq!((&value["schema"], &value["exit_code"]), (&1.into(), &1.into()));
    let counts =
        |kind: &str| ["appeared", "vanished", "flipped"].map(|of| value[kind][of].as_array().unwrap().len());
    assert_eq!(counts("findings"), [11, 0, 0]);
    assert_eq!(counts("conversations"), [5, 27, 0]);
    let blocked = value["coverage"].as_array().expect("rows").iter().find(|row| row["rule"] == "vbaz-07");
    let blocked = blocked.expect("a row whose state changed");
    assert_eq!((&blocked["old"], &blocked["new"]), (&"observed".into(), &"blocked".into()));
    for of in ["old", "new"] {
        assert_eq!((&value[of]["site"], &value[of]["incomplete"]), (&"contoso-weu".into(), &false.into()));
    }
}

#[test]
fn exit_codes_tell_what_got_worse() {
    let code = |arguments: &[&str]| diff(arguments).status.code();
    assert_eq!(code(&[MATRIX, MATRIX]), Some(0));
    assert_eq!(printed(&[MATRIX, MATRIX]).lines().next(), Some("Nothing changed."));
    assert_eq!(code(&[MATRIX, LAB]), Some(1));
    assert_eq!(code(&[MATRIX, LAB, "--fail-on", "never"]), Some(0));
    // What vanishes is told, and is no reason to fail.
    assert_eq!(code(&[LAB, MATRIX]), Some(0));
    for refused in ["Cargo.toml", "tests/golden", "no-such-file"] {
        let output = diff(&[MATRIX, refused]);
        assert_eq!(output.status.code(), Some(2), "{refused}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(refused) && output.stdout.is_empty(), "{said}");
    }
}

/// An audit of the lab's recording with something changed, as a file beside others of this test.
fn changed(name: &str, change: impl FnOnce(&mut Value)) -> String {
    let text = std::fs::read_to_string(project().join(LAB)).expect("the audit");
    let mut audit: Value = serde_json::from_str(&text).expect("JSON");
    change(&mut audit);
    let directory = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("comparing");
    std::fs::create_dir_all(&directory).expect("a directory");
    let path = directory.join(name);
    std::fs::write(&path, audit.to_string()).expect("a file");
    path.to_string_lossy().into_owned()
}

#[test]
fn where_evidence_is_incomplete_that_is_said_and_the_exit_code() {
    let lossy = changed("lossy.json", |audit| audit["capture_quality"]["drops"] = 7.into());
    for arguments in [[&*lossy, LAB], [LAB, &*lossy]] {
        assert_eq!(diff(&arguments).status.code(), Some(3));
        assert!(printed(&arguments).contains("its evidence is incomplete"));
    }
    let unread = changed("unread.json", |audit| audit["inputs"] = Value::Array(Vec::new()));
    assert_eq!(diff(&[LAB, &unread]).status.code(), Some(2));
    let later = changed("later.json", |audit| audit["schema"] = 99.into());
    let output = diff(&[&later, LAB]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("schema 99, and this version reads 1"));
}

#[test]
fn a_hostile_text_stays_text() {
    let hostile = "\u{1b}[2J\u{202e}<script>|x|`";
    let path = changed("hostile.json", |audit| {
        audit["findings"][0]["title"] = hostile.into();
        audit["findings"][0]["to"]["name"] = Value::Null;
        audit["findings"][0]["to"]["ip"] = "192.0.2.99".into();
        audit["site"]["name"] = hostile.into();
        audit["conversations"][0]["to"] = hostile.into();
    });
    for (old, new) in [(&*path, LAB), (LAB, &*path)] {
        let human = printed(&[old, new]);
        assert!(human.contains("\\u{1b}[2J\\u{202e}<script>"), "{human}");
        let markdown = printed(&[old, new, "--format", "markdown"]);
        assert!(markdown.contains("\\<script\\>\\|x\\|\\`") && !markdown.contains("<script>"), "{markdown}");
        for text in [human, markdown] {
            assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'));
        }
    }
}

#[test]
fn directories_of_audits_are_compared_by_what_they_hold() {
    let out = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("comparing-out");
    let run = |capture: &str| {
        let directory = out.join(capture);
        let output = Command::new(env!("CARGO_BIN_EXE_portproof"))
            .current_dir(project())
            .args(["audit", &format!("captures/{capture}"), "--site", "captures/site.toml", "--out"])
            .arg(&directory)
            .output()
            .expect("the program starts");
        assert!(matches!(output.status.code(), Some(0 | 1)));
        directory.to_string_lossy().into_owned()
    };
    let (old, new) = (run("matrix.pcap"), run("blocked.pcap"));
    let told = printed(&[&old, &new]);
    assert!(
        told.contains(&format!("{old}/audit.json")) || told.contains("audit.json: site contoso-weu"),
        "{told}"
    );
    assert_eq!(diff(&[&old, &new]).status.code(), Some(1));
    // Digests tell that the captures are the same.
    let again = printed(&[&old, &run("matrix.pcap")]);
    assert!(
        again.contains("both are of the same captures") && again.starts_with("Nothing changed."),
        "{again}"
    );
}

#[test]
fn rules_are_compared_rule_by_rule_and_fact_by_fact() {
    let directory = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("comparing");
    std::fs::create_dir_all(&directory).expect("a directory");
    let page = std::fs::read_to_string(project().join("rules/veeam/vbazure-ports.toml")).expect("the page");
    let named = |name: &str, text: &str| {
        let path = directory.join(name);
        std::fs::write(&path, text).expect("a file");
        path.to_string_lossy().into_owned()
    };
    let compared = |old: &str, new: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_portproof"))
            .args(["rules", "diff", old, new])
            .output()
            .expect("the program starts");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    const BUILT_IN: &str = "veeam-vbazure-ports";
    assert_eq!(compared(BUILT_IN, BUILT_IN), (Some(0), "The rules are the same.\n".to_owned()));
    assert_eq!(compared(BUILT_IN, &named("same.toml", &page)).0, Some(0));
    let changed = page.replace(r#"ports = "587""#, r#"ports = "465""#).replace("8.0.1.202", "8.0.2.1");
    let (code, told) = compared(BUILT_IN, &named("changed.toml", &changed));
    assert_eq!(code, Some(1));
    for line in [
        "Rules: 0 appeared (+), 1 changed (~), 0 vanished (-).",
        "~ pack veeam-vbazure-ports",
        "    version: 8.0.1.202 -> 8.0.2.1",
        "~ vbaz-09b: Backup appliance -> SMTP server TCP 465 (conditional)",
        "    port: TCP 587 -> TCP 465",
    ] {
        assert!(told.lines().any(|told| told == line), "{line}\n{told}");
    }
    let mut rules: Vec<&str> = page.split("[[rule]]").collect();
    let gone = rules.remove(5);
    let id = gone.lines().find_map(|line| line.strip_prefix("id = \"")).expect("an id").trim_end_matches('"');
    let without = named("without.toml", &rules.join("[[rule]]"));
    assert!(compared(BUILT_IN, &without).1.contains(&format!("\n- {id}: ")));
    let (code, told) = compared(&without, BUILT_IN);
    assert!(
        code == Some(1) && told.contains(&format!("\n+ {id}: ")) && told.contains("1 appeared (+)"),
        "{told}"
    );
    assert_eq!(compared(BUILT_IN, "no-such.toml").0, Some(2));
    // What rules rest on: who is audited, and what is the platform's.
    let (code, told) =
        compared(BUILT_IN, &named("peer.toml", &page.replacen("subject = true", "subject = false", 1)));
    assert!(
        code == Some(1) && told.starts_with("The rules are the same; what they rest on is not.\n~ role "),
        "{told}"
    );
    assert!(told.contains("    audited: true -> false\n"), "{told}");
    let azure = std::fs::read_to_string(project().join("rules/platform/azure.toml")).expect("the platform");
    let wider = named("wider.toml", &azure.replacen(r#"ports = "32526""#, r#"ports = "1-65535""#, 1));
    let (code, told) = compared("azure-platform", &wider);
    assert!(code == Some(1) && told.contains("~ line plat-wire-32526"), "{told}");
}
