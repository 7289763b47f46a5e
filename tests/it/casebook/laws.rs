//! Laws that hold for every scene, or for every way of writing one down.

use crate::scene::*;
use serde_json::Value;
use std::process::Command;

#[test]
fn the_casebook_is_large_and_its_names_are_unique() {
    let mut names: Vec<_> = super::all().iter().map(|(_, scene)| scene.0).collect();
    let scenes = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), scenes);
    assert!(scenes >= 80, "{scenes}");
}

#[test]
fn a_scene_gives_the_same_bytes_each_time() {
    for (module, (name, build)) in super::all() {
        let bytes = || {
            let mut scene = Scene::new();
            build(&mut scene);
            let files: Vec<_> = scene.files().into_iter().map(|file| (file.name, file.bytes)).collect();
            (scene.site_toml(), files)
        };
        assert!(bytes() == bytes(), "{module}::{name}");
    }
}

/// Many outcomes and verdicts in one capture whose frames all have times of their own.
fn a_bit_of_everything() -> Scene {
    let mut scene = Scene::new();
    let s = &mut scene;
    s.at(0.0).resolve(APPLIANCE, "nginx.org", WEB).at(0.1).resolve(APPLIANCE, "exfil.example", WEB2);
    s.at(1.0).web(APPLIANCE, WEB, "nginx.org");
    s.at(2.0).tcp(APPLIANCE, WEB, 443).client_port(50_001).handshake().tls("nginx.org");
    s.at(2.5).tcp(APPLIANCE, WEB, 443).client_port(50_001).handshake().tls("nginx.org").fin();
    s.at(3.0).web(APPLIANCE, WEB2, "exfil.example");
    let hello = client_hello(Some("nginx.org"));
    s.at(4.0).tcp(APPLIANCE, WEB, 443).handshake().client(&hello[..80]).client(&hello[80..]).server_rst();
    s.at(5.0).tcp(APPLIANCE, WEB, 443).syn().later(1.001).syn().later(2.001).syn();
    s.at(5.5).tcp(APPLIANCE, MAIL, 25).handshake().server(SMTP_BANNER).exchange(SMTP_EHLO, SMTP_OFFER).fin();
    s.at(9.5).tcp(BROWSER, APPLIANCE, 443).missed(|t| t.handshake()).more_tls();
    s.at(10.0).tcp(APPLIANCE, WEB, 8443).syn().icmp(ROUTER, 3, 13);
    s.at(10.5).dns_over_tcp(WORKER, RESOLVER, "postgresql.org", &[a("postgresql.org", WEB)]);
    s.at(11.0).tcp(WORKER, WEB, 443).handshake().tls_without_name().fin();
    let ask = s.at(12.0).dns(APPLIANCE, RESOLVER).query("packages.microsoft.com", A);
    ask.answer_in_fragments(
        &[a("packages.microsoft.com", "203.0.113.8"), a("packages.microsoft.com", WEB)],
        48,
    );
    s.at(13.0).udp(APPLIANCE, "203.0.113.30", 9999).request(b"hello").later(150.0).request(b"hello");
    s.at(14.0).dns(APPLIANCE, RESOLVER).query("apt.postgresql.org", A).rcode(3);
    s.at(15.0).ping(APPLIANCE, "203.0.113.31").request().reply();
    scene
}

/// The lines of an audit without what may differ when the same frames lie in other files: the summaries, and where
/// each frame stands.
fn but_for_its_inputs(came: &Run) -> Vec<Value> {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.retain(|key, _| {
                    !matches!(
                        key.as_str(),
                        "capture" | "frame" | "frames" | "evidence" | "proof" | "inputs" | "display_filter"
                    )
                });
                fields.values_mut().for_each(strip);
            }
            Value::Array(items) => items.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let mut lines: Vec<Value> = came
        .lines
        .iter()
        .filter(|line| line["type"] == "flow" || line["type"] == "finding")
        .cloned()
        .collect();
    lines.iter_mut().for_each(strip);
    lines
}

#[test]
fn cutting_a_capture_at_any_frame_changes_no_row_and_no_finding() {
    let whole = a_bit_of_everything();
    let frames = whole.ordered_frames();
    assert!(
        frames.windows(2).all(|pair| pair[0].time < pair[1].time),
        "the law is exact for increasing times"
    );
    let dir = workshop("scissors");
    let expected = run(&whole, &dir, &[]);
    let rows = but_for_its_inputs(&expected);
    assert!(rows.len() > 20, "{}\n{}", expected.stdout, expected.stderr);
    for cut in 1..frames.len() {
        for cuts in [vec![cut], vec![cut / 2, cut]] {
            let mut scene = a_bit_of_everything();
            scene.cut_after(&cuts);
            if cut % 2 == 0 {
                scene.files_backwards();
            }
            let came = run(&scene, &dir, &[]);
            let cut_rows = but_for_its_inputs(&came);
            for (before, after) in rows.iter().zip(&cut_rows) {
                assert_eq!(before, after, "cut after frames {cuts:?}");
            }
            assert_eq!((rows.len(), expected.code), (cut_rows.len(), came.code), "cut after frames {cuts:?}");
        }
    }
}

#[test]
fn the_same_inputs_give_the_same_bytes_with_any_number_of_threads() {
    let mut scene = a_bit_of_everything();
    scene.cut_after(&[7, 20, 41, 60]);
    let dir = workshop("threads");
    let expected = run(&scene, &dir, &["--jobs", "1"]);
    assert!(expected.code == 1 && !expected.stdout.is_empty(), "{}", expected.stderr);
    for jobs in ["1", "2", "5"] {
        assert_eq!(run(&scene, &dir, &["--jobs", jobs]).stdout, expected.stdout, "--jobs {jobs}");
    }
}

#[test]
fn out_writes_an_audit_that_says_the_same() {
    let dir = workshop("out");
    let came = run(&a_bit_of_everything(), &dir, &["--out", "report"]);
    let text = std::fs::read_to_string(dir.join("report/audit.json")).expect("--out wrote audit.json");
    let audit: Value = serde_json::from_str(&text).expect("audit.json is JSON");
    let codes = |findings: Vec<&Value>| -> Vec<String> {
        findings.iter().map(|finding| format!("{} {}", finding["code"], finding["count"])).collect()
    };
    let said = codes(came.lines.iter().filter(|line| line["type"] == "finding").collect());
    assert_eq!(codes(audit["findings"].as_array().expect("a list").iter().collect()), said);
    assert!(
        audit["inputs"][0]["sha256"].as_str().is_some_and(|digest| digest.len() == 64),
        "{}",
        audit["inputs"]
    );
    for field in ["schema", "tool", "rules", "service_tags", "site", "totals", "coverage", "conversations"] {
        assert!(!audit[field].is_null(), "audit.json has no {field}");
    }
}

#[test]
fn a_summary_counts_the_rows_that_are_written() {
    let mut scene = a_bit_of_everything();
    scene.cut_after(&[20, 41]);
    let dir = workshop("counts");
    let came = run(&scene, &dir, &["--out", "report"]);
    for (file, field) in [("flows.jsonl", "flows"), ("names.jsonl", "names")] {
        let Ok(rows) = std::fs::read_to_string(dir.join("report").join(file)) else { continue };
        for capture in came.lines.iter().filter(|line| line["type"] == "capture") {
            let of_it = |row: &&str| {
                serde_json::from_str::<Value>(row).unwrap_or_default()["capture"] == capture["path"]
            };
            assert_eq!(capture[field], rows.lines().filter(of_it).count(), "{field} of {}", capture["path"]);
        }
    }
}

#[test]
fn a_directory_is_read_with_all_captures_below_it() {
    let mut scene = a_bit_of_everything();
    let dir = workshop("directory");
    std::fs::create_dir_all(dir.join("captures/deeper")).expect("a directory can be made");
    let frames = scene.ordered_frames();
    std::fs::write(dir.join("captures/a.pcap"), pcap(&frames[..30])).expect("a file can be written");
    std::fs::write(dir.join("captures/deeper/b.pcapng"), pcapng(&frames[30..], None))
        .expect("a file can be written");
    std::fs::write(dir.join("captures/notes.txt"), "no capture").expect("a file can be written");
    let expected = run(&a_bit_of_everything(), &dir, &[]);
    scene.without_its_own_capture().and_the_file("captures", None);
    let came = run(&scene, &dir, &[]);
    assert_eq!(came.code, expected.code, "{}", came.stderr);
    assert_eq!(but_for_its_inputs(&came), but_for_its_inputs(&expected));
}

/// Whether tshark can be started. Where it cannot, the tests that need it say so and pass, unless they must not
/// (PORTPROOF_REQUIRE_SHARED=1, as in CI).
pub fn tshark_is_there() -> bool {
    let there = std::process::Command::new("tshark").arg("--version").output().is_ok();
    if !there {
        let required = std::env::var_os("PORTPROOF_REQUIRE_SHARED").is_some_and(|value| value == "1");
        assert!(!required, "tshark is not installed");
        eprintln!("skipped: tshark is not installed");
    }
    there
}

/// An independent reader agrees with the packet builder: right checksums, nothing malformed but what is meant to be.
#[test]
fn every_scene_reads_well_in_tshark() {
    if !tshark_is_there() {
        return;
    }
    let keep = std::env::var_os("PORTPROOF_SCENES").map(std::path::PathBuf::from);
    let dir = keep.unwrap_or_else(|| workshop("tshark"));
    let mut complaints = String::new();
    for (module, (name, build)) in super::all() {
        let mut scene = Scene::new();
        build(&mut scene);
        if scene.tolerates_damage() {
            continue;
        }
        let folder = dir.join(module).join(name);
        std::fs::create_dir_all(&folder).expect("a directory can be made");
        std::fs::write(folder.join("site.toml"), scene.site_toml()).expect("a file can be written");
        for file in scene.files() {
            let Some(bytes) = file.bytes else { continue };
            let path = folder.join(&file.name);
            std::fs::write(&path, bytes).expect("a file can be written");
            if file.name == "notes.pcap" || file.name == "long.pcap" {
                continue;
            }
            complaints.push_str(&tshark_complains(&path));
        }
    }
    assert!(complaints.is_empty(), "{complaints}");
}

/// What tshark finds wrong in a capture, a line a frame.
pub fn tshark_complains(path: &std::path::Path) -> String {
    let mut command = Command::new("tshark");
    command.arg("-r").arg(path).args(["-n", "-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE"]);
    command.args(["-o", "udp.check_checksum:TRUE", "-Y"]);
    // An ICMPv6 error quotes a TCP checksum over payload that it cuts off: tshark takes that for a wrong one.
    command.arg(
        "_ws.malformed || _ws.short || ip.checksum.status == 0 || (tcp.checksum.status == 0 && !icmpv6) || \
         udp.checksum.status == 0 || icmp.checksum.status == 0 || icmpv6.checksum.status == 0",
    );
    let output = command.output().expect("tshark starts");
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut out: String = lines.lines().map(|line| format!("{}: {line}\n", path.display())).collect();
    if !output.status.success() {
        out.push_str(&format!("{}: {}\n", path.display(), String::from_utf8_lossy(&output.stderr)));
    }
    out
}
