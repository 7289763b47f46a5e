//! `portproof rules import`: a pack drafted from a vendor's page.
//!
//! Pages of vendors are nobody's to copy, so they are read where they lie; without them these tests say so and pass, unless
//! `PORTPROOF_REQUIRE_SHARED=1`. The pages in `tests/pages/` are our own, in the same shapes.

use crate::golden::{hold, project};
use crate::seed::{csv, shared};
use portproof::matrix::{Destination, Matrix, PackDraft, Rule, ServiceTags, import, lint_text};
use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// The program's answer, run from the project's root so that paths are the same everywhere.
fn rules(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portproof"));
    command.current_dir(project()).arg("rules").args(arguments);
    command.output().expect("the program starts")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A path of this test that nothing stands at.
fn new_file(name: &str) -> PathBuf {
    let directory = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("importing");
    std::fs::create_dir_all(&directory).expect("a directory");
    let path = directory.join(name);
    let _ = std::fs::remove_file(&path);
    path
}

const PAGES: [(&str, i32, &str); 3] = [
    ("printers.md", 3, "rules import: 11 rows of 1 table: 18 rules, 16 to check, 2 rows left out"),
    ("scanners.html", 3, "rules import: 6 rows of 1 table: 7 rules, 2 to check, 1 row left out"),
    ("plotters.adoc", 0, "rules import: 5 rows of 2 tables: 8 rules, 7 to check, 0 rows left out"),
];

#[test]
fn drafts_read_as_they_did_and_say_what_became_of_the_rows() {
    for (page, code, counts) in PAGES {
        let output = rules(&["import", &format!("tests/pages/{page}")]);
        assert!(said(&output).contains(counts), "{}", said(&output));
        assert_eq!(output.status.code(), Some(code), "{page}");
        hold(&format!("{page}.toml"), &String::from_utf8(output.stdout).expect("UTF-8"));
    }
}

#[test]
fn a_draft_in_a_file_is_linted_listed_and_never_written_over() {
    let pack = new_file("printers.toml");
    let path = pack.to_str().expect("UTF-8");
    let output = rules(&["import", "tests/pages/printers.md", "-o", path]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(3), 0), "{}", said(&output));
    let linted = rules(&["lint", path]);
    assert_eq!(linted.status.code(), Some(0), "{}", String::from_utf8_lossy(&linted.stdout));
    let listed = String::from_utf8(rules(&["list", "--rules", path]).stdout).expect("UTF-8");
    assert!(listed.contains("pack print-service-ports: Ports of the print service (2026-01-13)"), "{listed}");
    assert!(listed.contains("print-service-04a  Print server -> Ink shop TCP 80 (required)"), "{listed}");
    let before = std::fs::read(&pack).expect("the pack");
    let again = rules(&["import", "tests/pages/plotters.adoc", "--out", path]);
    assert_eq!(again.status.code(), Some(2));
    assert!(said(&again).contains("is there already"), "{}", said(&again));
    assert_eq!(std::fs::read(&pack).expect("the pack"), before);
}

#[test]
fn a_page_may_come_from_standard_input() {
    let page = std::fs::read(project().join("tests/pages/plotters.adoc")).expect("a page");
    let mut child = Command::new(env!("CARGO_BIN_EXE_portproof"))
        .args(["rules", "import", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    child.stdin.take().expect("a pipe").write_all(&page).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("id = \"ports-of-plotters-ports\""));
}

#[test]
fn what_is_no_page_of_ports_is_refused_and_nothing_is_written() {
    let binary = new_file("binary.md");
    std::fs::write(&binary, b"| From | To | Port |\n\xff").expect("a file");
    let long = new_file("long.md");
    std::fs::File::create(&long).and_then(|file| file.set_len((16 << 20) + 1)).expect("a file");
    let out = new_file("never.toml");
    for (page, problem) in [
        ("README.md", "has a column of ports"),
        ("LICENSE-MIT", "no table is found in it"),
        ("no/such/page.html", "cannot be read"),
        ("tests", "cannot be read"),
        (binary.to_str().expect("UTF-8"), "line 2 is not UTF-8 text"),
        (long.to_str().expect("UTF-8"), "has more than 16 MiB"),
    ] {
        let output = rules(&["import", page, "-o", out.to_str().expect("UTF-8")]);
        assert_eq!(output.status.code(), Some(2), "{page}");
        assert!(said(&output).contains(page) && said(&output).contains(problem), "{page}: {}", said(&output));
        assert!(!out.exists(), "{page}");
    }
}

#[test]
fn what_may_tell_ports_and_is_not_read_is_told_and_the_import_is_incomplete() {
    let page = new_file("commented.md");
    let table = "| From | To | Protocol | Port |\n|---|---|---|---|\n| a | b | TCP | 443 |\n";
    std::fs::write(&page, format!("# Ports\n\n{table}\n<!-- {table} -->\n")).expect("a file");
    let output = rules(&["import", page.to_str().expect("UTF-8")]);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    let told = "1 place that may tell ports could not be read (line 7)";
    assert!(said(&output).contains(told), "{}", said(&output));
    let draft = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(draft.contains("# left out: what begins in line 7: rows that the page comments out"), "{draft}");
}

/// A draft, and its rules as whoever loads it sees them.
fn drafted(name: &str, page: &str) -> (PackDraft, Vec<Rule>) {
    let draft = import(name, page).unwrap_or_else(|error| panic!("{name}: {error}"));
    let linted = lint_text(name, &draft.text);
    assert!(!linted.iter().any(|problem| problem.is_error()), "{name}: {linted:#?}");
    let matrix = Matrix::parse(&[(name, &draft.text)], ServiceTags::bundled()).expect("a pack");
    assert_eq!(matrix.rules().len(), draft.rules, "{name}");
    let rules = matrix.rules().to_vec();
    (draft, rules)
}

/// Row, initiator, destination, transport and ports of a rule.
type Facts = (u32, String, String, String, String);

fn facts(rule: &Rule) -> Facts {
    let to = match &rule.to {
        Destination::Names(names) => names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        Destination::Tag { tag, .. } => tag.to_string(),
        Destination::VirtualNetwork => "VirtualNetwork".to_owned(),
        Destination::Role(_) | Destination::SiteNames { .. } | Destination::SiteDefined { .. } => {
            rule.to_title.clone()
        }
    };
    let (row, from) = (rule.citation.row, rule.from_title.clone());
    (row, from, to, rule.transport.to_string(), rule.ports.to_string())
}

/// Lines of the seed table that no rule of a draft says: a port that stands in the text of its row alone.
const NOT_DRAFTED: [&str; 1] = ["vbaz-09b"];

#[test]
fn the_seed_page_gives_the_lines_of_the_seed_table_in_either_form() {
    let Some(table) = shared("reference/seed-matrix.csv") else { return };
    let lines = csv(&table);
    for name in ["vbazure-ports-page.md", "seed_table_reconstructed.html"] {
        let Some(page) = shared(&format!("reference/{name}")) else { return };
        let (draft, rules) = drafted(name, &page);
        assert_eq!((draft.tables, draft.rows, draft.rules, draft.left_out), (1, 34, 40, 0), "{name}");
        let ours: BTreeSet<Facts> = rules.iter().map(facts).collect();
        let mut missing = Vec::new();
        for line in &lines {
            let named = [&line["dns_names"], &line["service_tags"], &line["to"]];
            let to = named.into_iter().find(|text| !text.is_empty()).expect("a destination");
            let row = line["source_row"].parse().expect("a row");
            let wanted = (row, line["from"].clone(), to.clone(), line["l4"].clone(), line["ports"].clone());
            if !ours.contains(&wanted) {
                missing.push(line["id"].as_str());
            }
        }
        assert_eq!(missing, NOT_DRAFTED, "{name}: {ours:#?}");
        assert!(draft.text.contains("the text speaks of port 587"), "{name}");
    }
}

#[test]
fn the_next_edition_of_the_page_differs_in_the_ports_of_one_row() {
    let (Some(old), Some(new)) =
        (shared("reference/vbazure-ports-page.md"), shared("port-docs/veeam-vbazure-ports-2026-02-13.md"))
    else {
        return;
    };
    let (_, old) = drafted("old", &old);
    let (_, new) = drafted("new", &new);
    let ids = |rules: &[Rule]| rules.iter().map(|rule| rule.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&old), ids(&new));
    let differ: Vec<_> = old.iter().zip(&new).filter(|(old, new)| facts(old) != facts(new)).collect();
    // One row, two initiators.
    assert_eq!(differ.len(), 2);
    for (old, new) in differ {
        assert_eq!((old.citation.row, new.citation.row), (34, 34));
        assert_eq!((old.ports.to_string(), new.ports.to_string()), ("20443".into(), "443".into()));
        assert_eq!((&old.from, &old.to, old.transport), (&new.from, &new.to, new.transport));
    }
}

/// Pages, and what becomes of them: tables, rows, rules, rows left out.
const VENDORS: [(&str, [usize; 4]); 11] = [
    ("ms-aks-outbound-rules-control-egress.md", [22, 103, 139, 0]),
    ("ms-arc-servers-network-requirements.md", [3, 41, 45, 0]),
    ("netapp-bluexp-connector-ports-azure.adoc", [3, 9, 10, 0]),
    ("netapp-cvo-networking-azure.adoc", [5, 77, 100, 4]),
    ("veeam-explorer-sql-used_ports.md", [2, 16, 50, 0]),
    ("veeam-kasten-plugin-used_ports.md", [1, 6, 7, 0]),
    ("veeam-vb365-used_ports.md", [1, 47, 53, 0]),
    ("veeam-vbaws-ports.md", [1, 17, 20, 0]),
    ("veeam-vbazure-ports-2026-02-13.md", [1, 34, 40, 0]),
    ("veeam-vbr-13.0.2-used_ports.md", [73, 343, 533, 8]),
    ("veeam-vro-ports.md", [1, 20, 19, 1]),
];

#[test]
fn pages_of_vendors_give_packs_that_lint() {
    for (name, counts) in VENDORS {
        let Some(page) = shared(&format!("port-docs/{name}")) else { return };
        let (draft, rules) = drafted(name, &page);
        assert_eq!([draft.tables, draft.rows, draft.rules, draft.left_out], counts, "{name}");
        // A row is cited, or told as left out.
        let cited: BTreeSet<u32> = rules.iter().map(|rule| rule.citation.row).collect();
        assert_eq!(cited.len() + draft.left_out, draft.rows, "{name}");
        if name.starts_with("veeam") {
            assert!(draft.left_out * 10 < draft.rows, "{name}: {} of {}", draft.left_out, draft.rows);
        }
    }
}
