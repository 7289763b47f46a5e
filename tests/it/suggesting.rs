//! `portproof site`: a draft of a site file from captures, and what a check tells of one.

use crate::casebook;
use crate::golden::{hold, project};
use crate::scene::*;
use crate::shared_captures::collection;
use portproof::matrix::{Matrix, Site};
use portproof::pipeline::{ExtractOptions, Reduction, extract_all};
use portproof::report::site_draft;
use portproof::verdict::Survey;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The program's answer, run from the project's root so that paths are the same everywhere.
fn suggest(captures: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portproof"));
    command.current_dir(project()).args(["site", "suggest"]).args(captures).env("NO_COLOR", "1");
    command.output().expect("the program starts")
}

fn draft(captures: &[&str]) -> String {
    let output = suggest(captures);
    assert_eq!(output.status.code(), Some(0));
    let (text, said) = (String::from_utf8(output.stdout), String::from_utf8_lossy(&output.stderr));
    let text = text.expect("UTF-8");
    // Nothing else is said but that nobody was given a role.
    assert_eq!(said.contains("no machine does enough"), roles(&text).is_empty(), "{said}");
    assert_eq!(said.lines().count(), usize::from(roles(&text).is_empty()), "{said}");
    text
}

fn site_of(text: &str) -> Site {
    let site = Site::parse(text, "draft.toml", &Matrix::builtin());
    site.unwrap_or_else(|problems| panic!("{problems:#?}\n{text}"))
}

/// Who plays what, by role; roles that nobody plays left out.
fn roles(text: &str) -> BTreeMap<String, Vec<String>> {
    let (matrix, site) = (Matrix::builtin(), site_of(text));
    let of = |id: &str| matrix.role(id).map(|role| site.role_prefixes(role)).unwrap_or_default().to_vec();
    let words = |id: &str| of(id).iter().map(|net| net.addr().to_string()).collect::<Vec<_>>();
    let all = matrix.roles().iter().map(|role| (role.id.to_string(), words(role.id.as_str())));
    all.filter(|(_, machines)| !machines.is_empty()).collect()
}

/// A scene's capture, in a directory of this test.
fn written(name: &str, scene: &Scene) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("suggesting").join(name);
    fs::create_dir_all(&directory).expect("a directory");
    let files = scene.files().into_iter().filter_map(|file| Some((file.name, file.bytes?)));
    let write = |(name, bytes): (String, Vec<u8>)| {
        let path = directory.join(name);
        fs::write(&path, bytes).expect("a file");
        path
    };
    files.map(write).collect()
}

/// What is drafted of a scene.
fn draft_of(name: &str, build: impl FnOnce(&mut Scene)) -> String {
    let mut scene = Scene::new();
    build(&mut scene);
    let files = written(name, &scene);
    let files: Vec<&str> = files.iter().filter_map(|file| file.to_str()).collect();
    draft(&files)
}

/// The line of a draft on which this stands.
fn line<'t>(text: &'t str, part: &str) -> &'t str {
    text.lines().find(|line| line.contains(part)).unwrap_or_else(|| panic!("no `{part}`:\n{text}"))
}

#[test]
fn who_does_what_all_rows_say_is_given_the_role_that_does_it() {
    let text = draft(&["captures/matrix.pcap"]);
    hold("matrix-site-draft.toml", &text);
    let expected = [
        ("backup-appliance", "10.10.1.4"),
        ("backup-server", "10.20.0.10"),
        ("smtp-server", "10.20.0.25"),
        ("sql-managed-instance", "10.10.8.5"),
        ("web-browser", "10.40.0.7"),
        ("worker", "10.10.2.11"),
    ];
    let expected = expected.map(|(role, ip)| (role.to_owned(), vec![ip.to_owned()]));
    assert_eq!(roles(&text), BTreeMap::from(expected));
    let site = site_of(&text);
    assert_eq!((site.region(), site.resolvers().len()), (Some("westeurope"), 1));
    // Whose an account is captures do not tell.
    assert!(site.storage_accounts().is_empty());
    assert!(line(&text, "\"contosobackup01\"").contains("times, most by 10."), "{text}");
    // None of them is given a role that it does not have there.
    let told = fs::read_to_string(project().join("captures/site.toml")).expect("the site");
    let (matrix, true_site) = (Matrix::builtin(), site_of(&told));
    for (role, machines) in roles(&text) {
        for machine in machines {
            let ip = machine.parse().expect("an address");
            let index = matrix.role(&role).expect("a role");
            assert!(true_site.roles_of(ip).contains(index), "{machine} is no {role}");
        }
    }
}

#[test]
fn what_a_machine_does_alone_is_told_and_gives_it_no_role() {
    let text = draft_of("alone", |s| {
        s.at(0.0).resolve(VM, "acct.blob.core.windows.net", STORAGE);
        s.at(1.0).web(VM, STORAGE, "acct.blob.core.windows.net");
    });
    assert_eq!(roles(&text), BTreeMap::new());
    let told = line(&text, &format!("\"{VM}\""));
    assert!(
        told.trim_start().starts_with('#') && told.contains("perhaps") && told.contains("vbaz-18"),
        "{told}"
    );
}

#[test]
fn ports_that_the_site_alone_gives_a_meaning_make_nobody_a_worker() {
    let text = draft_of("scan", |s| {
        for (number, port) in [1433, 3342, 11_000, 11_999].into_iter().enumerate() {
            s.at(number as f64).tcp("10.99.0.1", "10.99.0.2", port).handshake().fin();
        }
    });
    assert_eq!(roles(&text), BTreeMap::new(), "{text}");
    assert!(line(&text, "10.99.0.1").contains("4 flows"), "{text}");
}

#[test]
fn the_same_things_through_a_proxy_give_the_same_role() {
    let targets = [
        "apt.postgresql.org:443",
        "packages.microsoft.com:443",
        "vbr.butler.veeam.com:443",
        "nginx.org:443",
        "repository.veeam.com:443",
    ];
    let text = draft_of("proxied", |s| {
        for (number, target) in targets.iter().enumerate() {
            let talk = s.at(number as f64).tcp(APPLIANCE, "10.50.0.3", 3128).handshake();
            talk.exchange(&http_connect(target), &http_status(200)).tls("any.example").fin();
        }
    });
    let expected = [("backup-appliance", APPLIANCE), ("http-proxy", "10.50.0.3")];
    let expected = BTreeMap::from(expected.map(|(role, ip)| (role.to_owned(), vec![ip.to_owned()])));
    assert_eq!(roles(&text), expected);
    assert!(line(&text, "\"10.50.0.3\"").trim_start().starts_with('"'), "{text}");
}

#[test]
fn who_is_asked_by_a_probe_to_be_a_proxy_keeps_its_role() {
    let own = [
        "apt.postgresql.org",
        "packages.microsoft.com",
        "nginx.org",
        "vbr.butler.veeam.com",
        "repository.veeam.com",
    ];
    let text = draft_of("probe", |s| {
        for (number, name) in own.iter().enumerate() {
            s.at(number as f64)
                .resolve(APPLIANCE, name, WEB)
                .at(number as f64 + 0.5)
                .web(APPLIANCE, WEB, name);
        }
        let talk = s.at(9.0).tcp("10.66.6.6", APPLIANCE, 443).handshake();
        talk.exchange(&http_connect("www.example:443"), &http_status(405)).fin();
        // It answers a query, too, as a domain controller would.
        s.at(10.0).dns(BROWSER, APPLIANCE).query("x.example", 1).answer(&[a("x.example", "10.1.1.1")]);
    });
    assert_eq!(roles(&text), [("backup-appliance".to_owned(), vec![APPLIANCE.to_owned()])].into(), "{text}");
}

#[test]
fn what_many_machines_of_azure_do_makes_nobody_an_appliance() {
    let text = draft_of("usual", |s| {
        for (number, name) in ["security.ubuntu.com", "packages.microsoft.com"].iter().enumerate() {
            s.at(number as f64).resolve("10.77.0.11", name, WEB);
            let port = if number == 0 { 80 } else { 443 };
            s.at(number as f64 + 0.5).tcp("10.77.0.11", WEB, port).handshake().exchange(b"x", b"y").fin();
        }
        s.at(5.0).web("10.77.0.11", ENTRA, "login.microsoftonline.com").at(6.0).web(
            "10.77.0.11",
            ARM,
            "management.azure.com",
        );
        // A scan of the machines of a role, which nobody answers.
        s.at(7.0).tcp("10.66.6.6", "10.77.0.11", 443).syn().syn();
    });
    assert_eq!(roles(&text), BTreeMap::new(), "{text}");
    assert!(line(&text, "\"10.77.0.11\"").contains("perhaps"), "{text}");
}

#[test]
fn servers_of_others_wait_for_somebody_to_agree() {
    let text = draft_of("servers", |s| {
        s.at(0.0).dns(APPLIANCE, "8.8.8.8").query("nginx.org", 1).answer(&[a("nginx.org", "203.0.113.7")]);
        s.at(1.0)
            .dns(APPLIANCE, "198.51.100.53")
            .query("nginx.org", 1)
            .answer(&[a("nginx.org", "203.0.113.7")]);
        for time in 0..12 {
            let ask = s.at(2.0 + f64::from(time) / 100.0).dns(APPLIANCE, "10.0.0.53").query("nginx.org", 1);
            ask.answer(&[a("nginx.org", "203.0.113.7")]);
        }
        s.at(2.5)
            .dns(APPLIANCE, "10.66.6.53")
            .query("nginx.org", 1)
            .answer(&[a("nginx.org", "203.0.113.66")]);
        s.at(3.0).udp(APPLIANCE, "203.0.113.123", 123).request(&ntp(3)).reply(&ntp(4));
    });
    for (server, accepted) in
        [("8.8.8.8", false), ("198.51.100.53", false), ("10.0.0.53", true), ("10.66.6.53", false)]
    {
        let ip = server.parse().expect("an address");
        assert_eq!(site_of(&text).is_resolver(ip), accepted, "{server}: {text}");
        assert_eq!(line(&text, server).trim_start().starts_with('#'), !accepted, "{server}");
    }
    assert!(line(&text, "8.8.8.8").contains("Google"), "{text}");
    assert!(line(&text, "203.0.113.123").trim_start().starts_with("# "), "{text}");
}

#[test]
fn a_machine_without_a_role_is_told_with_what_it_does() {
    let text = draft_of("unplaced", |s| {
        s.at(0.0).web("10.99.0.1", "203.0.113.200", "elsewhere.example");
        s.at(1.0).web("198.51.100.9", "203.0.113.200", "elsewhere.example");
    });
    assert!(line(&text, "10.99.0.1").contains("1 to elsewhere.example TCP 443"), "{text}");
    assert!(text.contains("From public addresses begun: 1 flow;"), "{text}");
}

#[test]
fn an_incomplete_capture_is_said_in_the_draft_and_by_the_exit_code() {
    let whole = fs::read(project().join("captures/matrix.pcap")).expect("a capture");
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("suggesting");
    fs::create_dir_all(&directory).expect("a directory");
    let cut = directory.join("cut\u{1b}[31m.pcap");
    fs::write(&cut, &whole[..whole.len() - 7]).expect("a file");
    let output = suggest(&[&cut.to_string_lossy()]);
    assert_eq!(output.status.code(), Some(3));
    let (said, text) = (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    assert!(said.contains("damaged at frame") && text.contains("NOT READ TO ITS END"), "{said}{text}");
    // So is one that cannot be read, and one of which a part was asked for.
    let output = suggest(&["captures/matrix.pcap", "no-such-file", "--filter", "host 10.10.1.4"]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(3));
    assert!(told.contains("#   no-such-file: NOT READ: ") && told.contains("; only a part of it"), "{told}");
    assert!(!said.contains('\u{1b}') && !text.contains('\u{1b}'), "{said}{text}");
    assert!(roles(&text).contains_key("backup-appliance"));
    assert_eq!(suggest(&["no-such-file"]).status.code(), Some(2));
}

#[test]
fn every_draft_is_a_site_file() {
    let mut captures: Vec<PathBuf> = Vec::new();
    for (module, (name, build)) in casebook::all() {
        let mut scene = Scene::new();
        build(&mut scene);
        captures.extend(written(&format!("{module}-{name}"), &scene));
    }
    for folder in collection().iter().flat_map(|root| ["normal", "hostile"].map(|kind| root.join(kind))) {
        let files = fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("a file").path());
        let is_capture = |path: &PathBuf| path.extension().is_none_or(|extension| extension != "jsonl");
        captures.extend(files.filter(is_capture));
    }
    captures.sort();
    let (mut read, matrix) = (0, Matrix::builtin());
    for capture in &captures {
        let extracted = extract_all(&[capture.to_string_lossy().into_owned()], &ExtractOptions::default());
        if extracted.captures.is_empty() {
            continue;
        }
        read += 1;
        let reduction = Reduction::new(extracted).expect("rows");
        let mut survey = Survey::new(&matrix);
        let mut named = |row| {
            survey.name(&row);
            Ok(())
        };
        reduction.name_rows(&mut named).expect("names");
        let mut seen = |flow| {
            survey.flow(&flow);
            Ok(())
        };
        reduction.flow_rows(&mut seen).expect("flows");
        let text = site_draft(&survey.draft(), &matrix, reduction.inputs().expect("captures"));
        let problems = Site::parse(&text, "draft.toml", &matrix).err();
        assert!(problems.is_none(), "{}: {problems:#?}\n{text}", capture.display());
    }
    assert!(read > 400, "{read} of {}", captures.len());
}

/// What a check of a site file prints, and its exit code.
fn check(name: &str, text: &str) -> (String, Option<i32>) {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("suggesting");
    fs::create_dir_all(&directory).expect("a directory");
    let file = directory.join(name);
    fs::write(&file, text).expect("a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_portproof"));
    let output = command.args(["site", "check"]).arg(&file).output().expect("the program starts");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (String::from_utf8(output.stdout).expect("UTF-8"), output.status.code())
}

#[test]
fn what_a_check_finds_is_its_result() {
    let site = "[site]\nname = \"x\"\nregion = \"westeurope\"\n";
    let (text, code) = check("wrong.toml", &format!("{site}clod = \"public\"\n"));
    assert_eq!(code, Some(2));
    assert!(text.contains("wrong.toml:4:1: unknown key in [site] `clod`"), "{text}");
    let roles = "[roles]\nbackup-appliance = [\"10.0.0.4\"]\n";
    let (text, code) = check("right.toml", &format!("{site}[conditions]\nkey-vault = false\n{roles}"));
    assert_eq!(code, Some(0));
    for told in [
        "  off: the site says key-vault = false: vbaz-13\n",
        "  off unless the site says private-environment = true: vbaz-14\n",
        "  applies, counted apart: the site does not set vault: vbaz-17\n",
        "  aliases are off: vbaz-05b-azure-archive, ",
        "  the site lists no address of worker: vbaz-19a, ",
    ] {
        assert!(text.contains(told), "no `{told}`:\n{text}");
    }
    // What is odd, and no mistake, is told there, too.
    let (text, code) = check("odd.toml", site);
    assert_eq!(code, Some(0));
    assert!(text.contains("warning: no address holds a role that is audited"), "{text}");
}
