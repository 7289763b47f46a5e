//! Reports read back by readers that are not ours, whatever the captures tried to smuggle into them.

use portproof::audit::{Audit, CoverageState, End, FailOn, Severity};
use portproof::matrix::{Matrix, Site};
use portproof::pipeline::{ExtractOptions, Judged, extract_all, judge};
use portproof::report;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};

const CAPTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/captures/lab.pcap");

const SITE: &str = r#"
[site]
name = "lab"
region = "westeurope"
resolvers = ["168.63.129.16"]
[conditions]
private-environment = false
[roles]
backup-appliance = ["10.10.1.4"]
worker = ["10.10.2.0/24"]
backup-server = ["10.20.0.10"]
web-browser = ["10.40.0.0/16"]
console = ["10.20.0.30"]
smtp-server = ["mail.contoso.example"]
"#;

/// What a capture, a name or a site file may try: markup, ends of every kind of quotation, terminal and text direction.
const HOSTILE: &str = "</script><script>alert(1)</script>\"'>&amp;<!--]]>{{7*7}}\u{0}\u{1b}[2J\u{202e}\u{202a}\u{2066}\u{2069}\u{fffe}\r\n=cmd|x";

fn judged() -> Judged {
    let matrix = Matrix::builtin();
    let site = Site::parse(SITE, "site.toml", &matrix).unwrap();
    judge(extract_all(&[CAPTURE.to_owned()], &ExtractOptions::default()), &matrix, &site).unwrap()
}

/// The audit with `text` wherever a free text may stand.
fn with(text: &str) -> Audit {
    let mut audit = judged().audit;
    let put = |place: &mut String| *place = text.to_owned();
    put(&mut audit.site.name);
    audit.remarks = vec![text.to_owned()];
    audit.unreadable = vec![portproof::audit::Unreadable { path: text.into(), problem: text.into() }];
    audit.rules.iter_mut().for_each(|pack| {
        (pack.id, pack.page) = (text.into(), text.into());
        (pack.page_date, pack.product_version, pack.sha256) =
            (Some(text.into()), Some(text.into()), text.into());
    });
    let mut second = audit.inputs[0].clone();
    second.path = text.into();
    second.format = text.into();
    second.link_types = vec![text.into()];
    second.skipped = BTreeMap::from([(text.to_owned(), 1)]);
    second.end = End::Damaged { frame: 1, offset: 2, problem: text.into() };
    audit.inputs.push(second);
    for row in &mut audit.coverage {
        row.why = Some(text.into());
        (row.from, row.to, row.ports, row.page) = (text.into(), text.into(), text.into(), text.into());
        row.rule = format!("{}{text}", row.rule);
        row.indistinguishable_from = vec![text.into()];
    }
    for finding in &mut audit.findings {
        (finding.title, finding.remedy) = (text.into(), text.to_owned().into());
        finding.details = vec![text.into()];
        finding.display_filter = Some(text.into());
        finding.rules = finding.rules.iter().map(|rule| format!("{rule}{text}")).collect();
        finding.from.roles = vec![text.into()];
        finding.evidence.iter_mut().for_each(|frame| frame.capture = text.into());
    }
    for pair in &mut audit.conversations {
        (pair.from, pair.to) = (format!("{}{text}", pair.from), format!("{}{text}", pair.to));
    }
    audit.names_quality.grades = BTreeMap::from([(text.to_owned(), 1)]);
    audit
}

/// Start and end tags with the names of their attributes, as an HTML parser would see them; style and script are text.
fn tags(page: &str) -> Vec<String> {
    let mut tags = Vec::new();
    let mut rest = page;
    while let Some((_, after)) = rest.split_once('<') {
        // A quoted value may hold `>`.
        let mut quote = None;
        let end = after
            .char_indices()
            .find(|&(_, c)| match (quote, c) {
                (None, '>') => true,
                (None, '"' | '\'') => {
                    quote = Some(c);
                    false
                }
                (Some(open), c) if open == c => {
                    quote = None;
                    false
                }
                _ => false,
            })
            .map_or(after.len(), |(at, _)| at);
        let tag = &after[..end];
        let shape: String = tag.split('"').step_by(2).collect::<Vec<_>>().join("\"\"");
        rest = &after[end..];
        for raw in ["style", "script"] {
            if tag == raw {
                rest = &rest[rest.find(&format!("</{raw}>")).expect("it ends")..];
            }
        }
        tags.push(shape);
    }
    tags
}

fn attributes<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let start = format!(" {name}=\"");
    page.split(&start).skip(1).map(|rest| rest.split('"').next().unwrap_or_default()).collect()
}

#[test]
fn hostile_texts_change_no_tag_of_the_page() {
    let (hostile, tame) = (report::html(&with(HOSTILE)), report::html(&with("tame")));
    assert_eq!(tags(&hostile), tags(&tame));
    assert!(tags(&hostile).len() > 500);
    let bad: BTreeSet<char> = hostile
        .chars()
        .filter(|&c| {
            c != '\n'
                && (c.is_control()
                    || ('\u{202a}'..='\u{202e}').contains(&c)
                    || ('\u{2066}'..='\u{2069}').contains(&c))
        })
        .collect();
    assert!(bad.is_empty(), "{bad:?}");
    assert!(hostile.contains("&lt;/script&gt;&lt;script&gt;alert(1)") && hostile.contains("\\u{202e}"));
}

#[test]
fn the_page_asks_nobody_for_anything_and_its_links_lead_somewhere() {
    for audit in [judged().audit, with(HOSTILE)] {
        let page = report::html(&audit);
        let ids = attributes(&page, "id");
        let known: BTreeSet<&str> = ids.iter().copied().collect();
        assert_eq!(ids.len(), known.len(), "an id stands twice");
        for link in attributes(&page, "href") {
            assert!(link.strip_prefix('#').is_some_and(|id| known.contains(id)), "{link}");
        }
        for shape in tags(&page) {
            let words: Vec<&str> = shape.split([' ', '=']).collect();
            let bad = ["link", "iframe", "img", "object", "embed", "base", "src", "srcset", "style"];
            assert!(
                !words.iter().skip(1).any(|word| bad.contains(word) || word.starts_with("on")),
                "{shape}"
            );
            assert!(words[0] == "style" || !bad.contains(&words[0]), "{shape}");
        }
        // Where the rules' page stands is told, as a text.
        let page = audit.rules.iter().filter_map(|pack| pack.link()).fold(page, |page, link| {
            let told = format!("<span class=\"small\">{link}</span>");
            assert!(page.contains(&told), "{link}");
            page.replace(&told, "")
        });
        for word in ["url(", "@import", "http://", "https://", "fetch(", "import("] {
            assert!(!page.contains(word), "{word}");
        }
        assert!(page.contains("default-src &#39;none&#39;; style-src &#39;sha256-"));
    }
}

#[test]
fn the_page_has_every_row_every_finding_and_every_capture() {
    let audit = judged().audit;
    let page = report::html(&audit);
    assert!(audit.coverage.len() > 30 && audit.findings.len() > 10);
    assert_eq!(page.matches(" id=\"r-").count(), audit.coverage.len());
    assert_eq!(page.matches(" id=\"f-").count(), audit.findings.len());
    for row in &audit.coverage {
        assert!(
            page.contains(&format!(">{} <span class=\"small\">row {}</span>", row.rule, row.row)),
            "{}",
            row.rule
        );
    }
    for finding in audit.findings.iter().filter(|finding| finding.severity != Severity::Note) {
        assert!(page.contains(&finding.title.replace(" -> ", " → ")), "{}", finding.title);
        let filter = finding
            .display_filter
            .as_deref()
            .unwrap_or_default()
            .replace('&', "&amp;")
            .replace('"', "&quot;");
        assert!(page.contains(&filter), "{filter}");
    }
    assert!(page.contains("tshark -r ") && page.contains(" -Y &#39;frame.number in {"));
    assert_eq!(report::html(&judged().audit), page, "the same audit gives the same bytes");
}

#[test]
fn sarif_has_what_the_standard_requires() {
    for audit in [judged().audit, with(HOSTILE)] {
        let mut out = Vec::new();
        report::sarif(&mut out, &audit).unwrap();
        let log: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(log["version"], "2.1.0");
        let run = &log["runs"][0];
        let driver = &run["tool"]["driver"];
        assert_eq!(driver["name"], "portproof");
        let rules = driver["rules"].as_array().unwrap();
        let ids: BTreeSet<&str> = rules.iter().map(|rule| rule["id"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), portproof::audit::Code::ALL.len());
        for rule in rules {
            for text in ["shortDescription", "fullDescription", "help"] {
                assert!(rule[text]["text"].as_str().is_some_and(|text| text.ends_with('.')), "{rule}");
            }
        }
        let results = run["results"].as_array().unwrap();
        assert_eq!(results.len(), audit.findings.len());
        let artifacts = run["artifacts"].as_array().unwrap();
        for (result, finding) in results.iter().zip(&audit.findings) {
            assert!(ids.contains(result["ruleId"].as_str().unwrap()));
            assert_eq!(
                rules[usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap()]["id"],
                result["ruleId"]
            );
            let expected = match finding.severity {
                Severity::High => "error",
                Severity::Medium => "warning",
                Severity::Note => "note",
            };
            assert_eq!(result["level"], expected);
            assert!(!result["message"]["text"].as_str().unwrap().is_empty());
            assert_eq!(result["partialFingerprints"]["portproof/v1"].as_str().unwrap().len(), 64);
            for location in result["locations"].as_array().unwrap() {
                let Some(place) = location.get("physicalLocation") else {
                    assert!(location["logicalLocations"][0]["name"].is_string());
                    continue;
                };
                let uri = place["artifactLocation"]["uri"].as_str().unwrap();
                let allowed = |c: char| c.is_ascii_alphanumeric() || "-._~/%:".contains(c);
                assert!(uri.chars().all(allowed), "{uri}");
                if let Some(index) = place["artifactLocation"]["index"].as_u64() {
                    assert_eq!(artifacts[usize::try_from(index).unwrap()]["location"]["uri"], uri);
                }
                let frames = location["properties"]["frames"].as_array().unwrap();
                assert!(!frames.is_empty() && frames.iter().all(Value::is_u64));
            }
        }
    }
    let fingerprints: BTreeSet<String> = {
        let mut out = Vec::new();
        let audit = judged().audit;
        report::sarif(&mut out, &audit).unwrap();
        let log: Value = serde_json::from_slice(&out).unwrap();
        let results = log["runs"][0]["results"].as_array().unwrap().clone();
        results.iter().map(|result| result["partialFingerprints"].to_string()).collect()
    };
    assert_eq!(
        fingerprints.len(),
        judged().audit.findings.len(),
        "findings of one audit differ in their fingerprints"
    );
}

#[test]
fn junit_has_a_case_for_each_row_and_says_what_became_of_it() {
    for audit in [judged().audit, with(HOSTILE)] {
        let text = report::junit(&audit);
        let document = roxmltree::Document::parse(&text).unwrap();
        let root = document.root_element();
        assert_eq!(root.tag_name().name(), "testsuites");
        let suites: Vec<_> = root.children().filter(|node| node.is_element()).collect();
        let names: Vec<_> = suites.iter().map(|suite| suite.attribute("name").unwrap()).collect();
        assert_eq!(names, ["matrix", "findings", "captures"]);
        for node in suites.iter().chain([&root]) {
            let cases = || node.descendants().filter(|node| node.has_tag_name("testcase"));
            let with = |name: &str| {
                cases().filter(|case| case.children().any(|child| child.has_tag_name(name))).count()
            };
            let told = |name: &str| node.attribute(name).unwrap().parse::<usize>().unwrap();
            assert_eq!(told("tests"), cases().count());
            for (count, element) in [("failures", "failure"), ("errors", "error"), ("skipped", "skipped")] {
                assert_eq!(told(count), with(element), "{count}");
            }
        }
        let cases: Vec<_> = suites[0].children().filter(|node| node.has_tag_name("testcase")).collect();
        assert_eq!(cases.len(), audit.coverage.len());
        for (case, row) in cases.iter().zip(&audit.coverage) {
            let fate = case.children().find(|child| child.is_element()).map(|child| child.tag_name().name());
            let expected = match row.state {
                CoverageState::Observed => None,
                CoverageState::Blocked | CoverageState::Intermittent => Some("failure"),
                _ => Some("skipped"),
            };
            assert_eq!(fate, expected, "{}", row.rule);
            assert!(case.attribute("name").unwrap().starts_with(&row.rule[..7]), "{}", row.rule);
            assert!(
                case.children()
                    .filter(|c| c.is_element())
                    .all(|c| !c.attribute("message").unwrap().is_empty())
            );
        }
        let counted = audit.findings.iter().filter(|finding| finding.severity != Severity::Note).count();
        assert_eq!(suites[1].attribute("failures"), Some(counted.to_string().as_str()));
        let incomplete = suites[2].attribute("errors") != Some("0");
        assert_eq!(incomplete, !audit.unreadable.is_empty());
    }
}

/// A reader of RFC 4180, written from its grammar.
fn read_csv(text: &str) -> Vec<Vec<String>> {
    let mut rows = vec![vec![String::new()]];
    let mut letters = text.chars().peekable();
    let mut quoted = false;
    while let Some(letter) = letters.next() {
        let row = rows.last_mut().unwrap();
        let cell = row.last_mut().unwrap();
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                cell.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if cell.is_empty() => quoted = true,
            c if quoted => cell.push(c),
            ',' => row.push(String::new()),
            '\r' if letters.peek() == Some(&'\n') => {
                letters.next();
                rows.push(vec![String::new()]);
            }
            '"' | '\r' | '\n' => panic!("{letter:?} outside quotes in {cell:?}"),
            c => cell.push(c),
        }
    }
    assert!(!quoted);
    assert_eq!(rows.pop(), Some(vec![String::new()]), "the last line is ended, too");
    rows
}

#[test]
fn csv_reads_back_row_by_row_and_holds_no_formula() {
    let mut rows = judged().rows;
    rows[0].initiator_roles = [HOSTILE.into()].into();
    rows[1].initiator_roles = ["=1+1,\"2\"".into()].into();
    let mut out = Vec::new();
    report::csv(&mut out, &rows).unwrap();
    let read = read_csv(std::str::from_utf8(&out).unwrap());
    assert_eq!(read.len(), rows.len() + 1);
    let column = |name: &str| read[0].iter().position(|head| head == name).unwrap();
    for (cells, row) in read[1..].iter().zip(&rows) {
        assert_eq!(cells.len(), read[0].len());
        assert_eq!(cells[column("flow_id")], row.flow.flow_id);
        assert_eq!(cells[column("responder_ip")], row.flow.responder_ip.to_string());
        assert_eq!(cells[column("responder_port")], row.flow.responder_port.to_string());
        assert_eq!(cells[column("verdict")], row.verdict.as_str());
        assert_eq!(cells[column("rules")], row.rules.join(" "));
        assert!(
            !cells.iter().any(|cell| cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\0'])),
            "{cells:?}"
        );
    }
    // As on a terminal: whoever prints the file is told of control characters, and shown none.
    assert_eq!(read[1][column("initiator_roles")], report::printable(HOSTILE));
    assert!(!out.contains(&0x1b));
    assert_eq!(read[2][column("initiator_roles")], "'=1+1,\"2\"");
}

#[test]
fn json_lines_read_back_and_end_with_the_audit() {
    let judged = judged();
    let mut out = Vec::new();
    report::json_lines(&mut out, &judged.audit, &judged.rows, FailOn::Medium).unwrap();
    let text = String::from_utf8(out).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |kind: &str| lines.iter().filter(|line| line["type"] == kind).count();
    assert_eq!(of("flow"), judged.rows.len());
    assert_eq!(of("finding"), judged.audit.findings.len());
    assert_eq!(of("coverage"), judged.audit.coverage.len());
    assert_eq!(lines.last().unwrap()["exit_code"], 1);
}

#[test]
fn a_hostile_text_is_text_in_markdown() {
    let page = report::markdown(&with(HOSTILE));
    assert!(!page.chars().any(|c| c != '\n' && c.is_control()) && !page.contains('\u{202e}'));
    // Outside code, every angle bracket is escaped.
    let mut fence: Option<&str> = None;
    for line in page.lines() {
        let mark = line.split(|c| c != '`').next().unwrap_or_default();
        match fence {
            None if mark.len() >= 3 => fence = Some(mark),
            Some(open) if mark.len() >= open.len() && line.trim_end() == mark => fence = None,
            Some(_) => {}
            None if line.starts_with("    ") => {}
            None => assert!(!line.replace("\\<", "").contains('<'), "{line}"),
        }
    }
}

/// The files of a folder, by name.
fn files_in(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let entry = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        (name, std::fs::read(path).expect("a file"))
    };
    entries.map(entry).collect()
}

#[test]
fn rows_on_standard_output_and_files_of_out_are_those_of_one_judgement_each() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("captures");
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR")).join("rows-and-files");
    // A build with other features wrote files of other names.
    let _ = std::fs::remove_dir_all(&scratch);
    let audit = |format: &str, out: Option<&Path>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portproof"));
        command.current_dir(&project).args(["audit", "violations.pcap", "--site", "site.toml"]);
        command.args(["--format", format]).stdout(Stdio::piped());
        if let Some(out) = out {
            command.arg("--out").arg(out);
        }
        command
    };
    let printed = |format: &str, out: Option<&Path>| {
        let output = audit(format, out).output().expect("the program starts");
        assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let [alone, both, gone] = ["alone", "both", "gone"].map(|name| scratch.join(name));
    printed("human", Some(&alone));
    let files = files_in(&alone);
    assert_eq!(files.len(), 4, "{:?}", files.keys());
    for format in ["csv", "jsonl"] {
        assert_eq!(printed(format, Some(&both)), printed(format, None), "{format}");
        assert!(files_in(&both) == files, "{format}");
        // A reader that sees enough at once takes nothing from the files.
        let mut child = audit(format, Some(&gone)).spawn().expect("the program starts");
        drop(child.stdout.take());
        assert_eq!(child.wait().expect("it ends").code(), Some(1), "{format}");
        assert!(files_in(&gone) == files, "{format}");
        // The rows beside the audit give the same lines again.
        let again = Command::new(env!("CARGO_BIN_EXE_portproof"))
            .arg("report")
            .arg(&both)
            .args(["--format", format])
            .output()
            .expect("the program starts");
        assert!(again.stdout == printed(format, None), "{format}");
    }
    // Rows of which none can be read leave nothing on standard output that would pass for a table of none.
    let rows = files_in(&both).into_keys().find(|name| name.starts_with("flows")).expect("rows of flows");
    std::fs::write(both.join(rows), "no rows\n").expect("a file");
    for format in ["csv", "jsonl"] {
        let mut report = Command::new(env!("CARGO_BIN_EXE_portproof"));
        let output = report.arg("report").arg(&both).args(["--format", format]).output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{format}: {said}");
        assert!(said.contains("flows") && !said.contains("line 1 column"), "{said}");
    }
}
