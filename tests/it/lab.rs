//! The lab (`tests/lab/lab.py`): real programs and a real firewall in namespaces, and what portproof says of them. What is
//! true there is known from the firewall's counters and from what the clients saw, not from packets.

use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

const PROGRAMS: [&str; 8] = ["ip", "nft", "sysctl", "unshare", "tcpdump", "dnsmasq", "openssl", "python3"];

/// Why there can be no lab here.
fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("not root".to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> =
        std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(Into::into)).collect();
    let there = |program: &&str| folders.iter().any(|folder| folder.join(program).is_file());
    let absent: Vec<&str> = PROGRAMS.iter().filter(|program| !there(program)).copied().collect();
    if !absent.is_empty() {
        return Some(format!("without {}", absent.join(", ")));
    }
    // A container may be root and yet be denied this.
    let made = Command::new("unshare").args(["--net", "--mount", "--pid", "--fork", "true"]).output();
    (!made.is_ok_and(|output| output.status.success())).then(|| "no namespaces can be made here".to_owned())
}

fn said(program: &mut Command) -> String {
    let output = program.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code().is_some_and(|code| code < 2), "{program:?}: {}\n{errors}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// The rows of one kind that an audit of the lab's capture gives.
fn rows<'a>(audit: &'a [Value], kind: &str) -> Vec<&'a Value> {
    audit.iter().filter(|row| row["type"] == kind).collect()
}

#[test]
fn what_firewall_and_clients_know_is_what_the_audit_says() {
    if let Some(why) = missing() {
        let required = std::env::var_os("PORTPROOF_REQUIRE_SHARED").is_some_and(|value| value == "1");
        assert!(!required, "the lab is required, and there is none: {why}");
        eprintln!("the lab is skipped: {why}");
        return;
    }
    let out = tempfile::tempdir().unwrap();
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut lab = Command::new("python3");
    lab.arg(project.join("tests/lab/lab.py")).arg(out.path());
    let program = || Command::new(env!("CARGO_BIN_EXE_portproof"));
    // A program that can watch does so beside tcpdump.
    let live = program().args(["live", "--help"]).output().unwrap().status.success();
    if live {
        let at = |name: &str| out.path().join(name);
        lab.arg("--beside")
            .arg(env!("CARGO_BIN_EXE_portproof"))
            .args(["live", "-i", "eth0", "--format", "json"]);
        lab.arg("--site").arg(at("site.toml")).arg("--out").arg(at("live"));
    }
    let lab = lab.output().unwrap();
    assert!(lab.status.success(), "{}", String::from_utf8_lossy(&lab.stderr));
    let truth: Value =
        serde_json::from_slice(&std::fs::read(out.path().join("truth.json")).unwrap()).unwrap();
    let audit = said(Command::new(env!("CARGO_BIN_EXE_portproof")).current_dir(out.path()).args([
        "audit",
        "lab.pcap",
        "--site",
        "site.toml",
        "--format",
        "jsonl",
    ]));
    agrees(&truth, &audit);
    if live {
        assert_eq!(truth["beside"], 1, "findings make the exit code of a live run 1");
        agrees(
            &truth,
            &said(program().current_dir(out.path()).args(["report", "live", "--format", "jsonl"])),
        );
    }
}

/// Connection by connection, in both directions: what was tried is there, and what is there was tried.
fn agrees(truth: &Value, audit: &str) {
    let audit: Vec<Value> = audit.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let flows = rows(&audit, "flow");
    let attempts: Vec<&Value> = truth["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|attempt| !attempt["outcome"].is_null())
        .collect();
    assert!(attempts.len() > 20, "{} attempts", attempts.len());
    let mut accounted = BTreeSet::new();
    for attempt in &attempts {
        let name = attempt["name"].as_str().unwrap();
        let same = |row: &&Value| {
            ["initiator_ip", "initiator_port", "proto"].iter().all(|field| row[field] == attempt[field])
        };
        let found: Vec<&Value> = flows.iter().copied().filter(same).collect();
        let [row] = found[..] else { panic!("{name}: {} rows", found.len()) };
        for field in ["responder_ip", "responder_port", "outcome", "verdict", "packets_fwd", "packets_rev"] {
            assert_eq!(row[field], attempt[field], "{name}: {field}\n{attempt}\n{row}");
        }
        // What nobody documents has no rule.
        assert_eq!(row["rules"], attempt["rules"], "{name}: rules\n{row}");
        let blocked = attempt["firewall"] != "accept";
        let code = match (attempt["verdict"].as_str().unwrap(), blocked) {
            ("undocumented", true) => "unexpected-attempt",
            ("undocumented", false) if attempt["outcome"] == "established" => "unexpected-traffic",
            ("documented", true) => "documented-blocked",
            _ => "",
        };
        let findings = row["findings"].as_array().unwrap();
        let named = |code: &str| findings.iter().any(|finding| finding == code);
        assert!(code.is_empty() || named(code), "{name}: no {code} in {findings:?}");
        accounted.insert(row["flow_id"].as_str().unwrap());
    }
    // What is no attempt is a question to the resolver; and the firewall has counted those.
    let others: Vec<&&Value> =
        flows.iter().filter(|row| !accounted.contains(row["flow_id"].as_str().unwrap())).collect();
    let packets = |field: &str| others.iter().map(|row| row[field].as_u64().unwrap()).sum::<u64>();
    for row in &others {
        assert_eq!(
            (row["responder_port"].as_u64(), row["outcome"].as_str()),
            (Some(53), Some("answered")),
            "{row}"
        );
    }
    assert_eq!(packets("packets_fwd"), truth["counters"]["questions"].as_u64().unwrap());
    assert_eq!(packets("packets_rev"), truth["counters"]["answers"].as_u64().unwrap());
}
