use super::*;
use crate::matrix::{Destination, Matrix, Rule, ServiceTags, lint_text};
use proptest::prelude::*;

const PRINTERS: &str = include_str!("../../../tests/pages/printers.md");
const SCANNERS: &str = include_str!("../../../tests/pages/scanners.html");
const PLOTTERS: &str = include_str!("../../../tests/pages/plotters.adoc");

/// A pack that can be read, or a reason why there is none: whatever the page.
fn held(text: &str) -> Result<PackDraft, ImportError> {
    let draft = import("page", text);
    match &draft {
        Ok(draft) => {
            let wrong: Vec<String> = lint_text("page", &draft.text)
                .iter()
                .filter(|p| p.is_error())
                .map(ToString::to_string)
                .collect();
            assert!(wrong.is_empty(), "{wrong:#?}\n{text}\n{}", draft.text);
            let headed = |mark: &str| draft.text.lines().filter(|line| line.starts_with(mark)).count();
            assert_eq!(headed("[[rule]]"), draft.rules);
            assert!(headed("# left out: row") == draft.left_out.min(1_000), "{}", draft.text);
            assert!(draft.rules > 0 && draft.to_check <= draft.rules && draft.left_out < draft.rows);
            assert!(!draft.text.contains(|c: char| c != '\n' && c.is_control()));
        }
        Err(ImportError::Unsound(problem)) => panic!("{problem}\n{text}"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    draft
}

/// The rules of a page: row, initiator, destination, transport, ports, requirement.
fn rules(text: &str) -> Vec<String> {
    let draft = held(text).unwrap();
    let matrix = Matrix::parse(&[("page", &draft.text)], ServiceTags::bundled()).unwrap();
    let to = |rule: &Rule| match &rule.to {
        Destination::Names(names) => names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        Destination::Tag { tag, .. } => format!("tag {tag}"),
        Destination::VirtualNetwork => "network".into(),
        Destination::SiteDefined { .. } => format!("site's {}", rule.to_title),
        Destination::Role(_) | Destination::SiteNames { .. } => rule.to_title.clone(),
    };
    let told = matrix.rules().iter().map(|rule| {
        let app = rule.app.map(|app| format!("/{}", app.app)).unwrap_or_default();
        let (from, row) = (&rule.from_title, rule.citation.row);
        format!("{row} {from} > {} {}{app} {} {}", to(rule), rule.transport, rule.ports, rule.requirement)
    });
    told.collect()
}

#[test]
#[rustfmt::skip]
fn a_page_that_lost_its_spans_is_read_as_it_was_meant() {
    assert_eq!(rules(PRINTERS), [
        "1 Desk computers > Print server tcp/tls 443 required",
        "2 Desk computers > Print server tcp/tls 443 optional",
        "3 Desk computers > Spooler tcp 9100 conditional",
        "3 Desk computers > Spooler tcp 9102-9110 required",
        "4 Print server > ink.example.net tcp/http 80 required",
        "4 Print server > toner.example.net tcp/http 80 required",
        "5 Print server > *.paper.example.net tcp/tls 443 required",
        "6 Print server > site's Mail server tcp/smtp 25 required",
        "7 Print server > tag Storage.<region> tcp/tls 443 conditional",
        "8 Monitor > Print server udp 161 required",
        "8 Monitor > Print server tcp 161 required",
        "8 Desk computers > Print server udp 161 required",
        "8 Desk computers > Print server tcp 161 required",
        "8 Reporter > Print server udp 161 required",
        "8 Reporter > Print server tcp 161 required",
        "9 Monitor > Print server tcp 135, 445 required",
        "9 Desk computers > Print server tcp 135, 445 required",
        "9 Reporter > Print server tcp 135, 445 required",
    ]);
    let draft = held(PRINTERS).unwrap();
    assert_eq!((draft.tables, draft.rows, draft.left_out), (1, 11, 2));
    assert_eq!(draft.other_tables, [34]);
    for told in [
        "# check: the text speaks of port 587, which no rule of this row has",
        "# check: the `1` behind \"Print server\" is taken for a footnote's",
        "# check: `<shop>` is taken for any label",
        "# left out: row 10 in line 29: no port in \"Depends on the model\"",
        "title = \"Applies to cloud printing only\"",
        "date = 2026-01-13",
    ] {
        assert!(draft.text.contains(told), "{told}\n{}", draft.text);
    }
}

#[test]
#[rustfmt::skip]
fn a_saved_page_is_read_with_its_spans() {
    assert_eq!(rules(SCANNERS), [
        "1 Scan server > Scanners tcp 8400 required",
        "1 Scan server > Copiers tcp 8400 required",
        "2 Scan server > Scanners udp 5353 required",
        "2 Scan server > Copiers udp 5353 required",
        "3 Scan server > archive.example.net tcp/tls 443 required",
        "4 Copiers > archive.example.net tcp 9081 required",
        "5 Scanners > Scan server icmp 1-65535 required",
    ]);
    let draft = held(SCANNERS).unwrap();
    assert!(draft.text.contains("it blocks traffic") && draft.left_out == 1, "{}", draft.text);
}

#[test]
#[rustfmt::skip]
fn a_page_in_asciidoc_is_read_with_its_spans() {
    assert_eq!(rules(PLOTTERS), [
        "1 Inbound rules (initiator) > Inbound rules (destination) tcp/ssh 22 required",
        "2 Inbound rules (initiator) > Inbound rules (destination) udp 1-65535 required",
        "3 Plotter > Resolver tcp 53 required",
        "3 Plotter > Resolver udp 53 required",
        "3 paper feed > Resolver tcp 53 required",
        "3 paper feed > Resolver udp 53 required",
        "4 Plotter > plots.example.net tcp/tls 443 required",
        "5 Plotter > Copy servers tcp 18600-18699 required",
    ]);
    let draft = held(PLOTTERS).unwrap();
    assert!(draft.text.contains("# check: port and protocol stand in each other's column"));
    assert!(draft.text.contains("# check: the table has no column for the initiator"));
}

#[test]
fn a_table_of_addresses_has_the_ports_of_its_text_or_of_their_schemes() {
    let page = |before: &str, shop: &str| {
        format!(
            "# Shops\n\nSee {before}.\n\n| Resource | When required |\n|---|---|\n| `{shop}` | Always. |\n"
        )
    };
    assert_eq!(
        rules(&page("over TCP port 8443", "*.ink.example.net")),
        ["1 Shops > *.ink.example.net tcp 8443 required"]
    );
    assert_eq!(
        rules(&page("below", "https://ink.example.net/x")),
        ["1 Shops > ink.example.net tcp 443 required"]
    );
    assert_eq!(held(&page("below", "ink.example.net")), Err(ImportError::NoPorts(1)));
}

#[test]
fn a_page_in_markdown_may_have_its_tables_in_html() {
    let page = "---\ntitle: Inks\n---\n# Ports\n\n<table>\n<tr><th>From</th><th>To</th><th>Port</th></tr>\n\
                <tr><td>a</td><td>b</td><td>443</td></tr>\n<tr><th>From</th><th>To</th><th>Port</th></tr>\n\
                <tr><td>c</td><td>d</td><td>80</td></tr></table>\n";
    assert_eq!(rules(page), ["1 a > b tcp 443 required", "2 c > d tcp 80 required"]);
    assert!(held(page).unwrap().text.contains("page = \"Inks\""));
}

/// What becomes of a page: each rule with a `?` if something of it is to be checked, and what was left out, in order.
fn outcome(text: &str) -> Vec<String> {
    let Ok(draft) = held(text) else { return vec!["no pack".into()] };
    let (mut told, mut asked, mut rule) = (Vec::new(), false, Vec::new());
    for line in draft.text.lines() {
        let (key, value) = line.split_once(" = ").unwrap_or((line, ""));
        match key {
            "[[rule]]" => rule.clear(),
            "from" | "to_title" | "transport" | "ports" | "requirement" => {
                rule.push(value.trim_matches('"').to_owned());
            }
            "purpose" => {
                let mark = if std::mem::take(&mut asked) { " ?" } else { "" };
                told.push(format!("{}{mark}", rule.join(" ")));
            }
            _ if line.starts_with("# check: ") => asked = true,
            _ if line.starts_with("# left out: ") => told.push("left".into()),
            _ if line.starts_with("[[") || line.starts_with("# Line") => asked = false,
            _ => {}
        }
    }
    told
}

/// A table with all columns, of these rows.
fn table(rows: &str) -> String {
    format!("# P\n\n| From | To | Protocol | Port | Notes |\n|---|---|---|---|---|\n{rows}\n")
}

#[test]
#[rustfmt::skip]
fn ports_go_with_the_protocols_beside_them_or_say_so() {
    for (protocol, ports, expected) in [
        ("TCP, UDP", "TCP: 443, UDP: 4500", &["a b tcp 443 required", "a b udp 4500 required"][..]),
        ("TCP<br>UDP", "443<br>4500", &["a b tcp 443 required", "a b udp 4500 required"]),
        ("TCP 443, UDP 53", "443, 53", &["a b tcp 443 required", "a b udp 53 required"]),
        ("TCP, UDP", "80,443 (TCP); 123,161-162 (UDP)", &["a b tcp 80, 443 required", "a b udp 123, 161-162 required"]),
        ("TCP, UDP", "443/TCP, 53/UDP, 88/TCP/UDP", &["a b tcp 443, 88 required", "a b udp 53, 88 required"]),
        ("TCP, UDP", "TCP 443 53 UDP 80 TCP", &["a b tcp 443, 53, 80 required ?", "a b udp 443, 53, 80 required ?"]),
        ("TCP, UDP", "443, 53", &["a b tcp 443, 53 required ?", "a b udp 443, 53 required ?"]),
        ("TCP, UDP", "161", &["a b tcp 161 required", "a b udp 161 required"]),
        ("TCP", "53 (UDP)", &["a b udp 53 required ?"]),
        ("TCP", "53 (DNS)", &["a b tcp 53 required"]),
        ("TCP (HTTPS, SSH)", "22, 443", &["a b tcp 22, 443 required"]),
        ("HTTPS (SSH)", "22, 443", &["a b tcp 22, 443 required ?"]),
        ("HTTP/3", "443", &["a b udp 443 required"]),
        ("DTLS", "443", &["a b udp 443 required ?"]),
        ("ICMP", "443", &["a b icmp required ?"]),
    ] { assert_eq!(outcome(&table(&format!("| A | b | {protocol} | {ports} | x |"))), expected, "{protocol} {ports}"); }
    let ends = outcome(&table("| A<br>C | B<br>D | TCP | 22 | x |"));
    assert!(ends.len() == 4 && ends.iter().all(|rule| rule.ends_with('?')), "{ends:?}");
}

#[test]
#[rustfmt::skip]
fn what_denies_is_no_rule_and_what_may_deny_says_so() {
    for action in ["Deny", "Deny all", "Denied by default", "Not allowed", "Blocked.", "No", "\u{274c}", "Drop packets", "Closed", "", "Disabled"] {
        let page = format!("| From | To | Protocol | Port | Action |\n|---|---|---|---|---|\n| A | b | TCP | 23 | {action} |\n| A | b | TCP | 443 | Allow |\n");
        assert_eq!(outcome(&page), ["left", "a b tcp 443 required"], "{action}");
    }
    for text in ["Must be blocked at the edge.", "Do not open this port.", "Not used since 12.", "This traffic is denied.", "Must never leave the site."] {
        assert_eq!(outcome(&table(&format!("| A | b | TCP | 23 | {text} |"))), ["a b tcp 23 required ?"], "{text}");
    }
    assert_eq!(outcome(&table("| A | b | TCP | 23 | x |").replace("# P", "# Ports to block")), ["a b tcp 23 required ?"]);
}

#[test]
#[rustfmt::skip]
fn headings_tell_whose_port_it_is_and_no_column_of_ports_is_dropped_in_silence() {
    for (head, row, expected) in [
        ("Source|Destination|Protocol|Client Port|Server Port", "A|B|TCP|1024-65535|135", &["a b tcp 135 required"][..]),
        ("Source|Destination|Protocol|Local Port|Remote Port", "A|B|TCP|1024-65535|135", &["a b tcp 135 required"]),
        ("Source|Destination|Protocol|Start Port|End Port", "A|B|TCP|5000|5010", &["a b tcp 5000-5010 required"]),
        ("Source|Destination|Protocol|From Port|To Port", "A|B|TCP|5000|5010", &["a b tcp 5000-5010 required"]),
        ("Source|Destination|Protocol|Inbound Port|Outbound Port", "A|B|TCP|443|8443", &["a b tcp 443 required ?"]),
        ("Source|Destination|TCP Port|UDP Port", "A|B|443|500, 4500", &["a b tcp 443 required", "a b udp 500, 4500 required"]),
        ("Source|Destination|TCP Port|UDP Port", "A|B|-|123", &["a b udp 123 required"]),
        ("Source|Destination|UDP Port", "A|B|123", &["a b udp 123 required"]),
        ("Source|Destination|Port|Type", "A|B|123|UDP", &["a b udp 123 required"]),
        ("Source|Destination|Port|TCP/UDP", "A|B|123|UDP", &["a b udp 123 required"]),
        ("Source Address|Destination Address|Protocol|Port", "A|B|TCP|443", &["a b tcp 443 required"]),
        ("Source hostname|Destination|Protocol|Port", "A<br>C|B|TCP|443", &["a b tcp 443 required", "c b tcp 443 required"]),
        ("From version|From|To|Protocol|Port", "12.1|A|B|TCP|443", &["a b tcp 443 required"]),
        ("Source|Protocol|Port|Reason to open|Destination", "A|TCP|443|x|B", &["a b tcp 443 required"]),
        ("Source|Required URL|Protocol|Port", "A|https://b.example|TCP|443", &["a b.example tcp 443 required"]),
        ("Direction|Protocol|Port|Remote endpoint", "Inbound|TCP|443|B", &["page b tcp 443 required ?"]),
        ("From / To|Protocol|Port", "A to B|TCP|443", &["a b tcp 443 required"]),
        ("From / To|Protocol|Port", "A to B<br>B to A|TCP|443", &["no pack"]),
    ] {
        let bars = head.matches('|').count() + 1;
        let page = format!("|{head}|\n{}|\n|{row}|\n", "|---".repeat(bars));
        assert_eq!(outcome(&page).join("; ").to_lowercase(), expected.join("; "), "{head}");
    }
}

#[test]
#[rustfmt::skip]
fn nothing_of_a_table_of_ports_is_lost_in_silence() {
    let html = |rows: &str| format!("<table><tr><th>Source<th>Destination<th>Protocol<th>Port<th>Notes</tr>{rows}</table>");
    let first = "a b tcp 443 required";
    let row = "<tr><td>A<td>B<td>TCP<td>443<td>x</tr>";
    for (page, expected) in [
        (html("<tr><td>A<td>B<td>TCP<td>443<td>x<sup>1<sup></td></tr><tr><td>A<td>C<td>TCP<td>444<td>x</tr>"), &[first, "a c tcp 444 required"][..]),
        (html(row).replace("<table>", "<table><tr><th colspan=5>Ports of B</th></tr>"), &[first]),
        (html("<tr><td>A<td>B<td>TCP<td>22<hr>53<td>x</tr>"), &["a b tcp 22, 53 required"]),
        (html("<tr><td>A<td>B<td>TCP<td>22<a href='#f'>1</a><td>x</tr>"), &["a b tcp 22 required"]),
        (html("<tr><td>A<td>B<td>TCP<td>443<table><tr><td>8443</table><td>x</tr>"), &["a b tcp 443, 8443 required"]),
        (html(&format!("{row}<tr><td colspan=5>TCP 445 to D</tr>")), &[first, "left"]),
        (html(&format!("{row}<tr hidden><td>A<td>B<td>TCP<td>69<td>x</tr><tr><td><s>A</s><td><s>B</s><td><td><s>23</s><td></tr>")), &[first, "left", "left"]),
        (html(&format!("{row}<!-- <tr><td>A<td>B<td>TCP<td>23<td>x</tr> -->")), &[first, "left"]),
        (html(row) + "<table><tr><td></td><td>Ports</td></tr><tr><td>A</td><td>443</td></tr></table>", &[first, "left"]),
        (html("<tr><td>A<td>C<td>500<td>x</tr>").replace("<th>Protocol<th>Port<th>Notes", "<th colspan=2>Ports").replace("</tr><tr>", "</tr><tr><td>Source<td>Destination<td>TCP<td>UDP</tr><tr>").replace("<td>x", "<td>501"), &["a c tcp 500 required", "a c udp 501 required"]),
        (table("| A | B | TCP | 443 | x |\n\n> | From | To | Protocol | Port |\n> |---|---|---|---|\n> | A | Q | TCP | 23 |"), &[first, "a q tcp 23 required"]),
        (table("| A | B | TCP | 443 | x |\n\n<table><tr><th>From<th>To<th>Protocol<th>Port</tr><tr><td>C<td>D<td>UDP<td>514</tr></table>"), &[first, "c d udp 514 required"]),
        (table("| A | B | TCP | 443 | x |\n\n| | | | |\n|---|---|---|---|\n| From | To | Protocol | Port |\n| C | D | TCP | 22 |"), &[first, "c d tcp 22 required"]),
        (table("| A | B | TCP | 443 | x |\n<!-- | A | B | TCP | 23 | x | -->"), &[first, "left"]),
        (table("| A | B | TCP | 443 | x |\n\n    | From | To | Protocol | Port |\n    | A | B | TCP | 23 |"), &[first, "left"]),
        (table("| A | B | TCP | 443 | x |\n| ~~A~~ | ~~B~~ | ~~TCP~~ | ~~23~~ | ~~x~~ |\n| A | C | TCP | ~~8443~~ 443 | x |"), &[first, "left", "a c tcp 443 required ?"]),
        ("| Port | Protocol | From | To |\n|---|---|---|---|\n| 443 | TCP | A | B |\n| 8443 | | | |\n".to_owned(), &[first, "a b tcp 8443 required ?"]),
    ] {
        let told: Vec<String> = outcome(&page).iter().map(|rule| rule.to_lowercase()).collect();
        assert_eq!(told, expected, "{page}");
    }
    let doc = |more: &str, rows: &str| format!("= P\n\n{more}\n[cols=4*]\n|===\n| From | To | Protocol | Port\n\n| A | B | TCP | 443\n{rows}\n|===\n");
    for (page, expected) in [
        (doc("", "// | A | B | TCP | 23"), &[first, "left"][..]),
        (doc("////\n|===\n| Port\n|===\n////", ""), &[first, "left"]),
        (doc("----\n|===\n| Port\n|===\n----", ""), &[first, "left"]),
        (doc(",===\nFrom,Port\n,===", ""), &[first, "left"]),
        (doc("[separator=;]\n|===\n; Port\n|===", ""), &[first, "left"]),
        (doc("", "ifdef::x[]\n| A | C | TCP | 23\nendif::[]\n| A | D | TCP | [.line-through]#1# 22"), &[first, "a c tcp 23 required ?", "a d tcp 22 required ?"]),
    ] {
        let told: Vec<String> = outcome(&page).iter().map(|rule| rule.to_lowercase()).collect();
        assert_eq!(told, expected, "{page}");
    }
    assert_eq!(held("From: <Saved>\nMIME-Version: 1.0\n\n<table><tr><td>Port</table>"), Err(ImportError::WebArchive));
}

#[test]
#[rustfmt::skip]
fn what_is_filled_in_left_out_or_loosened_says_so() {
    for (row, expected) in [
        ("| A | B | TCP | 443 | x |\n| | C | TCP | 444 | x |", &["a b tcp 443 required", "a c tcp 444 required ?"][..]),
        ("| A | B | TCP | 443 | x |\n| D | C |", &["a b tcp 443 required", "d c tcp 443 required ?"]),
        ("| A | b.example (formerly c.example) | TCP | 443 | x |", &["a b.example tcp 443 required ?"]),
        ("| A | anything but b.example | TCP | 443 | x |", &["a anything but b.example tcp 443 required ?"]),
        ("| A | https://b.example:8443 | TCP | 443 | x |", &["a b.example tcp 443 required ?"]),
        ("| A (of, C<br>D | B | TCP | 443 | x |", &["a-of-c-d b tcp 443 required ?"]),
        ("| A | B | TCP | 443, 80 | Port 80 is optional. Port 443 is required. |", &["a b tcp 443 required", "a b tcp 80 required ?"]),
        ("| A | B | TCP | 443 | Not required if you print. |", &["a b tcp 443 required ?"]),
        ("| A | B | TCP | 443 | (Optional) x |", &["a b tcp 443 optional"]),
        ("| A | Login.Example.com | TCP | 443 | x |", &["a login.example.com tcp 443 required"]),
        ("| 备份 (VM) | 域 (VM) | TCP | 443 | x |", &["vm 域 (vm) tcp 443 required"]),
    ] {
        let told: Vec<String> = outcome(&table(row)).iter().map(|rule| rule.to_lowercase()).collect();
        assert_eq!(told, expected, "{row}");
    }
    for (required, expected) in [("No", "optional"), ("N", "optional"), ("Optional", "optional"), ("Recommended", "optional"), ("Yes", "required"), ("Not required", "optional"), ("Never", "required ?")] {
        let page = format!("| From | To | Protocol | Port | Required? |\n|---|---|---|---|---|\n| A | B | TCP | 443 | {required} |\n");
        assert_eq!(outcome(&page), [format!("a B tcp 443 {expected}")], "{required}");
    }
    // Two titles are two roles, whatever is left of them in an identifier.
    let draft = held(&table("| 备份 (VM) | 域 (VM) | TCP | 443 | x |")).unwrap();
    assert!(draft.text.contains("id = \"vm\"") && draft.text.contains("to = { role = \"vm-2\" }"), "{}", draft.text);
    let optional = outcome(&table("| A | B | TCP | 443 | x |").replace("# P", "# Optional ports"));
    assert_eq!(optional, ["a B tcp 443 required ?"]);
    let told = "# P\n\nOver TCP port 443.\n\nTime uses UDP port 123.\n\n| Source | URL |\n|---|---|\n| A | ntp.example.com |\n";
    assert_eq!(outcome(told), ["a ntp.example.com udp 123 required ?"]);
}

#[test]
fn a_page_without_ports_gives_no_pack_and_says_why() {
    for (text, expected) in [
        ("", "no table is found"),
        ("Port 443 is used.", "no table is found"),
        ("| Name | Price |\n|---|---|\n| Ink | 12 |\n", "none of its 1 table(s) has a column of ports"),
        (
            "| From | To | Port |\n|---|---|---|\n| a | b | none |\n",
            "none of the 1 rows of its port tables could become a rule; the first, in line 3: no port in \"none\"",
        ),
    ] {
        let told = held(text).unwrap_err().to_string();
        assert!(told.starts_with(expected), "{text:?}: {told}");
    }
    let endless = format!("| From | To | Port |\n{}", "| a | b | 1 |\n".repeat(MAX_ROWS + 1));
    assert_eq!(held(&endless), Err(ImportError::TooManyRows));
}

#[test]
fn more_roles_than_a_pack_may_have_are_told_and_the_rest_is_read() {
    let rows: String =
        (0..300).map(|at| format!("| Client {} | Server {at} | TCP | 443 | x |\n", at % 150)).collect();
    let draft =
        held(&format!("| From | To | Protocol | Port | Use |\n|---|---|---|---|---|\n{rows}")).unwrap();
    assert!(draft.left_out > 0 && draft.rules + draft.left_out == 300, "{draft:?}");
    assert!(draft.text.contains("would be one role too many") && draft.text.contains("site_names = "));
}

#[test]
fn a_hostile_page_steers_nothing() {
    let page = "---\ntitle: \"\u{1b}[2J\"\n---\n| From | To | Port | Use |\n|---|---|---|---|\n\
                | a\u{202e}b\" | c\\d | 443 | x\"\"\" ''' \u{7}<script> |\n| a | b | \u{1b}[31m | \u{2028} |\n";
    let draft = held(page).unwrap();
    for steering in ['\u{1b}', '\u{202e}', '\u{7}', '\u{2028}'] {
        assert!(!draft.text.contains(steering), "{:?}", draft.text);
    }
    assert!(draft.text.contains("\\u{202e}"), "{}", draft.text);
}

/// Pieces of which pages are made.
const PIECES: [&str; 44] = [
    "\n",
    "\n",
    "\n",
    "|",
    "|",
    "|",
    " | ",
    "|\n|",
    "|===\n",
    "| From | To | Protocol | Port | Notes |\n",
    "|---|---|\n",
    "Port",
    "From",
    "Destination",
    "Protocol",
    "Port (Protocol)",
    "443",
    "1-65536",
    "TCP",
    "HTTPS:443",
    "UDP, TCP",
    "<table>",
    "</table>",
    "<tr>",
    "<td>",
    "<td rowspan=3 colspan=2>",
    "<th>",
    "<sup>1</sup>",
    "&amp;",
    "2.3+|",
    ".9+a|",
    "[cols=3*]\n",
    "# Heading\n",
    "---\n",
    "a.example.net",
    "*.<region>.example",
    "<account>",
    "service tag: Sql.<region>",
    "(DNS name or IP address",
    "[Optional] ",
    "only if ",
    " and ",
    "\\",
    "\u{202e}\u{e9}\u{1f600}",
];

/// A page of ours with pieces put in, taken out and repeated.
fn mangled() -> impl Strategy<Value = String> {
    let change = (any::<prop::sample::Index>(), 0_usize..40, prop::sample::select(&PIECES[..]), 0_u8..3);
    (prop::sample::select(vec![PRINTERS, SCANNERS, PLOTTERS]), prop::collection::vec(change, 1..12)).prop_map(
        |(page, changes)| {
            let mut chars: Vec<char> = page.chars().collect();
            for (at, length, piece, kind) in changes {
                let at = at.index(chars.len() + 1);
                let end = (at + length).min(chars.len());
                let put: Vec<char> = match kind {
                    0 => piece.chars().collect(),
                    1 => Vec::new(),
                    _ => chars[at..end].iter().chain(&chars[at..end]).copied().collect(),
                };
                let taken = if kind == 0 { at } else { end };
                chars.splice(at..taken, put);
            }
            chars.into_iter().collect()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_text_gives_a_pack_that_lints_or_a_reason(text in "(?s).{0,300}", cell in ".{0,80}") {
        let _ = held(&text);
        let _ = held(&format!("| From | To | Port | Use |\n| a {cell} | b {cell} | 443 {cell} | {cell} |\n| {text} |"));
    }

    #[test]
    fn any_page_of_pieces_gives_a_pack_that_lints_or_a_reason(
        pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..120)
    ) {
        let _ = held(&pieces.concat());
    }

    #[test]
    fn a_mangled_page_gives_a_pack_that_lints_or_a_reason(text in mangled()) {
        let _ = held(&text);
    }
}
