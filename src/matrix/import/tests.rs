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
