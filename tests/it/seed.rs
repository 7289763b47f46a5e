//! The built-in rules against the vendor's page, the seed table and the service tags as published.
//!
//! The page is nobody's to copy, so it is read where it lies; without it these tests say so and pass, unless
//! `PORTPROOF_REQUIRE_SHARED=1`.

use portproof::matrix::{
    Cloud, Destination, Matrix, Requirement, Rule, RuleKind, RuleState, ServiceTags, Site,
};
use portproof::model::AppProtocol;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Text of a reference file, or `None` (and a printed line) where the shared folder is absent.
fn reference(name: &str) -> Option<String> {
    shared(&format!("reference/{name}"))
}

/// The same of any file of the shared folder.
pub fn shared(name: &str) -> Option<String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared").join(name);
    let elsewhere = std::env::var_os("PORTPROOF_SHARED");
    let shared = elsewhere.map(|dir| PathBuf::from(dir).join(name));
    let path = shared.unwrap_or(path);
    match std::fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(error) => {
            let required = std::env::var_os("PORTPROOF_REQUIRE_SHARED").is_some_and(|value| value == "1");
            assert!(!required, "{}: {error}", path.display());
            eprintln!("skipped: {} is not here ({error})", path.display());
            None
        }
    }
}

/// A row of the page with the cells that it carries over from rows above filled in.
#[derive(Debug)]
struct PageRow {
    from: String,
    to: String,
    protocol: String,
    ports: String,
    text: String,
}

/// Reads the page's table. A row shorter than five cells carries cells over from the row above: all but its text if it
/// has one cell, else as many of the first as are missing; a row that ends in a port lacks its text instead.
fn page_rows(page: &str) -> Vec<PageRow> {
    // The page sets some names with no-break spaces.
    let page = page.replace('\u{a0}', " ");
    let mut rows: Vec<PageRow> = Vec::new();
    let table = page.lines().skip_while(|line| !line.starts_with("| From | To |")).skip(2);
    for line in table.take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.trim().trim_matches('|').split(" | ").map(str::trim).collect();
        let above = rows.last();
        let from = |row: Option<&PageRow>| row.map(|r| r.from.clone()).unwrap_or_default();
        let to = |row: Option<&PageRow>| row.map(|r| r.to.clone()).unwrap_or_default();
        let own = |at: usize| cells[at].to_owned();
        rows.push(match cells.len() {
            5 => PageRow { from: own(0), to: own(1), protocol: own(2), ports: own(3), text: own(4) },
            4 => PageRow { from: from(above), to: own(0), protocol: own(1), ports: own(2), text: own(3) },
            3 if cells[0].starts_with("TCP") => {
                PageRow { from: from(above), to: to(above), protocol: own(0), ports: own(1), text: own(2) }
            }
            3 => PageRow {
                from: from(above),
                to: own(0),
                protocol: own(1),
                ports: own(2),
                text: above.map(|r| r.text.clone()).unwrap_or_default(),
            },
            1 => PageRow {
                from: from(above),
                to: to(above),
                protocol: above.map(|r| r.protocol.clone()).unwrap_or_default(),
                ports: above.map(|r| r.ports.clone()).unwrap_or_default(),
                text: own(0),
            },
            other => panic!("a row of {other} cells: {line}"),
        });
    }
    rows
}

/// Every "DNS name: x" or "service tag: x" of a cell.
fn marked(cell: &str, mark: &str) -> BTreeSet<String> {
    let parts = cell.split(mark).skip(1);
    let word = |part: &str| {
        let end = part.find([')', ',', ' ']).unwrap_or(part.len());
        part[..end].replace("<blob\\_name>", "<account>")
    };
    parts.map(word).collect()
}

fn page_rules(matrix: &Matrix) -> Vec<&Rule> {
    matrix.rules().iter().filter(|rule| rule.kind == RuleKind::Page).collect()
}

fn documented_names(rule: &Rule) -> BTreeSet<String> {
    match &rule.to {
        Destination::Names(names) => names.iter().map(ToString::to_string).collect(),
        _ => BTreeSet::new(),
    }
}

fn documented_tag(rule: &Rule) -> Option<String> {
    match &rule.to {
        Destination::Tag { tag, .. } => Some(tag.to_string()),
        Destination::VirtualNetwork => Some("VirtualNetwork".into()),
        _ => None,
    }
}

/// Ports of a row that stand in its text, not in its port cell: row 9 has 587 there.
const PORTS_IN_TEXT: [(u32, &str); 1] = [(9, "587")];

#[test]
fn every_row_of_the_page_is_cited_and_says_what_its_rules_say() {
    let Some(page) = reference("vbazure-ports-page.md") else { return };
    let matrix = Matrix::builtin();
    let rows = page_rows(&page);
    assert_eq!(rows.len(), 34);
    let mut by_row: BTreeMap<u32, Vec<&Rule>> = BTreeMap::new();
    for rule in page_rules(&matrix) {
        by_row.entry(rule.citation.row).or_default().push(rule);
    }
    let expected: Vec<u32> = (1..=34).collect();
    assert_eq!(by_row.keys().copied().collect::<Vec<_>>(), expected, "rows cited");
    for (number, row) in (1..).zip(&rows) {
        let rules = &by_row[&number];
        let context = format!("row {number}: {row:?}");
        // Ports: those of the rules, joined, are those of the cell.
        let mut ports: BTreeSet<String> = row.ports.split(", ").map(str::to_owned).collect();
        for (_, extra) in PORTS_IN_TEXT.iter().filter(|(at, _)| *at == number) {
            assert!(row.text.contains(extra), "{context}");
            ports.insert((*extra).to_owned());
        }
        let of_rules: BTreeSet<String> = rules.iter().map(|rule| rule.ports.to_string()).collect();
        assert_eq!(of_rules, ports, "{context}");
        // Protocol: the transport, and the application where the cell names one.
        let (transport, app) = row.protocol.split_once('/').unwrap_or((row.protocol.as_str(), ""));
        for rule in rules {
            assert_eq!(rule.transport.to_string(), transport.to_lowercase(), "{context}");
            let stated = rule.app.filter(|app| !app.inferred).map(|app| app.app);
            let named = match app {
                "" => None,
                "HTTPS" => Some(AppProtocol::Tls),
                "HTTP" => Some(AppProtocol::Http),
                "SMTP" => Some(AppProtocol::Smtp),
                other => panic!("{other} in {context}"),
            };
            assert_eq!(stated, named, "{}: {context}", rule.id);
            let from = [rule.from_title.as_str(), "Veeam ONE server"];
            assert!(from.iter().any(|title| row.from.contains(title)), "{}: {context}", rule.id);
            assert!(row.to.contains(rule.to_title.as_str()), "{}: {context}", rule.id);
        }
        let names: BTreeSet<String> = rules.iter().flat_map(|rule| documented_names(rule)).collect();
        let mut on_page = marked(&row.to, "DNS name: ");
        on_page.retain(|name| name.contains('.'));
        assert_eq!(names, on_page, "{context}");
        let tags: BTreeSet<String> = rules.iter().filter_map(|rule| documented_tag(rule)).collect();
        assert_eq!(tags, marked(&row.to, "service tag: "), "{context}");
        if row.text.starts_with("[Optional]") {
            assert!(rules.iter().all(|rule| rule.requirement == Requirement::Optional), "{context}");
        }
    }
}

#[test]
fn rules_cite_the_edition_of_the_page_that_they_were_read_from() {
    let matrix = Matrix::builtin();
    for rule in page_rules(&matrix) {
        let cited = &rule.citation;
        let edition = (cited.page.as_str(), cited.date.as_str(), cited.version.as_str());
        assert_eq!(edition, ("Ports", "1/6/2026", "8.0.1.202"), "{}", rule.id);
        assert!((1..=34).contains(&cited.row), "{}", rule.id);
    }
    let pack = &matrix.packs()[0];
    assert_eq!(pack.date.map(|date| date.to_string()).as_deref(), Some("2026-01-06"));
    let Some(page) = reference("vbazure-ports-page.md") else { return };
    assert!(page.contains("last_updated: \"1/6/2026\"") && page.contains("product_version: \"8.0.1.202\""));
    assert!(page.contains(pack.url.as_deref().unwrap()));
}

/// Records of a CSV file (RFC 4180: quoted fields, doubled quotes), by column name.
pub fn csv(text: &str) -> Vec<BTreeMap<String, String>> {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty()).map(|line| {
        let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
        let mut chars = line.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '"' if quoted && chars.peek() == Some(&'"') => field.extend(chars.next()),
                '"' => quoted = !quoted,
                ',' if !quoted => fields.push(std::mem::take(&mut field)),
                c => field.push(c),
            }
        }
        fields.push(field);
        fields
    });
    let head = lines.next().unwrap();
    lines
        .map(|fields| {
            assert_eq!(fields.len(), head.len(), "{fields:?}");
            head.iter().cloned().zip(fields).collect()
        })
        .collect()
}

#[test]
fn every_line_of_the_seed_table_is_a_rule_and_every_rule_a_line() {
    let Some(text) = reference("seed-matrix.csv") else { return };
    let matrix = Matrix::builtin();
    let lines = csv(&text);
    assert_eq!(lines.len(), 41);
    let ids: Vec<&str> = lines.iter().map(|line| line["id"].as_str()).collect();
    let ours: Vec<&str> = page_rules(&matrix).iter().map(|rule| rule.id.as_str()).collect();
    assert_eq!(ours, ids, "the same rules in the same order");
    for line in &lines {
        let rule = matrix.rule(&line["id"]).unwrap();
        let id = rule.id.as_str();
        assert_eq!(rule.citation.row.to_string(), line["source_row"], "{id}");
        assert_eq!(rule.from.as_str(), line["from_role"], "{id}");
        assert_eq!(rule.transport.to_string(), line["l4"], "{id}");
        assert_eq!(rule.ports.to_string(), line["ports"], "{id}");
        assert_eq!(rule.requirement.to_string(), line["level"], "{id}");
        let app = match line["app_proto"].as_str() {
            "" => None,
            "https" => Some(AppProtocol::Tls),
            word => Some(word.parse().unwrap()),
        };
        assert_eq!(rule.app.map(|app| app.app), app, "{id}");
        let kind = match &rule.to {
            Destination::Role(role) => {
                assert_eq!(role.as_str(), line["to_role"], "{id}");
                "role"
            }
            Destination::SiteDefined { role, .. } => {
                assert_eq!(role.as_str(), line["to_role"], "{id}");
                "user-defined"
            }
            Destination::SiteNames { default, .. } => {
                assert!(rule.supplied_names && !default.is_empty(), "{id}");
                "product-name"
            }
            Destination::Names(names) if names.iter().any(|name| !name.is_exact()) => "dns-pattern",
            Destination::Names(_) => "dns",
            Destination::Tag { services, .. } => {
                assert!(!services.is_empty(), "{id}: names behind its tag");
                "service-tag"
            }
            Destination::VirtualNetwork => "virtual-tag",
        };
        assert_eq!(kind, line["to_kind"], "{id}");
        let names: Vec<String> = documented_names(rule).into_iter().collect();
        assert_eq!(names.join(" "), line["dns_names"], "{id}");
        assert_eq!(documented_tag(rule).unwrap_or_default(), line["service_tags"], "{id}");
        if rule.requirement == Requirement::Conditional {
            assert!(rule.condition.is_some() && !line["condition"].is_empty(), "{id}");
        }
        assert!(!rule.purpose.is_empty() && rule.purpose != line["purpose"], "{id}: in our own words");
    }
}

/// Baseline lines of ours that the reference table has not: time servers are the site's to list.
const OURS_ALONE: [&str; 1] = ["plat-time"];

#[test]
fn the_platform_baseline_has_every_line_of_the_reference_table() {
    let Some(text) = reference("platform_baseline.csv") else { return };
    let matrix = Matrix::builtin();
    let lines = csv(&text);
    let mut ours: BTreeSet<&str> = matrix.baseline().iter().map(|line| line.id.as_str()).collect();
    for id in OURS_ALONE {
        assert!(ours.remove(id), "{id}");
    }
    assert_eq!(ours, lines.iter().map(|line| line["id"].as_str()).collect::<BTreeSet<_>>());
    for line in &lines {
        let own = matrix.baseline().iter().find(|own| own.id == line["id"]).unwrap();
        assert_eq!(own.class.as_str(), line["evidence_class"], "{}", own.id);
        let ports = own.ports.as_ref().map(|ports| ports.to_string().replace(", ", "/").replace('-', "/"));
        let expected = match line["ports"].as_str() {
            "-" | "any" | "probe port" => None,
            ports => Some(ports.to_owned()),
        };
        assert_eq!(ports, expected, "{}", own.id);
        // Every address and name of the reference's peer cell is ours too.
        let mut words: Vec<String> = own.peers.iter().map(ToString::to_string).collect();
        words.extend(own.names.iter().map(ToString::to_string));
        for word in line["peer"].split(|c: char| !(c.is_ascii_alphanumeric() || ".-*#".contains(c))) {
            if word.contains('.') {
                assert!(words.iter().any(|own| own == word), "{}: {word} is not among {words:?}", own.id);
            }
        }
        for transport in line["l4"].split(|c: char| !c.is_ascii_alphanumeric()) {
            if let Ok(transport @ ("tcp" | "udp")) = Ok::<_, ()>(transport) {
                assert!(own.transports.iter().any(|t| t.to_string() == transport), "{}: {transport}", own.id);
            }
        }
    }
}

/// The tags that the file at hand knows, of those expected.
fn check_known_cases(tags: &ServiceTags, whole: bool) {
    let Some(text) = reference("known_name_ip_tag.csv") else { return };
    let cases = csv(&text);
    assert_eq!(cases.len(), 10);
    for case in &cases {
        let ip = case["ip"].parse().unwrap();
        let found: BTreeSet<&str> =
            tags.tags_of(Cloud::Public, ip).into_iter().map(|id| tags.name(id)).collect();
        let expected: BTreeSet<&str> = match case["expected_tags_cn363"].as_str() {
            "(no tag in the file)" => BTreeSet::new(),
            list => list.split('|').collect(),
        };
        let expected: BTreeSet<&str> = match whole {
            true => expected,
            false => expected.into_iter().filter(|tag| tags.find(Cloud::Public, tag).is_some()).collect(),
        };
        assert_eq!(found, expected, "{} {ip}", case["name"]);
        for tag in expected {
            assert!(tags.contains(tags.find(Cloud::Public, tag).unwrap(), ip), "{tag} holds {ip}");
        }
    }
}

#[test]
fn known_addresses_have_the_tags_that_microsoft_publishes() {
    check_known_cases(&ServiceTags::bundled(), false);
    let Some(text) = reference("ServiceTags_Public_cn363.json") else { return };
    let whole = ServiceTags::parse("ServiceTags_Public_cn363.json", &text).unwrap();
    check_known_cases(&whole, true);
    let regional = |base: &str, region: &str| {
        whole.regional(Cloud::Public, base, region).map(|id| whole.name(id).to_owned())
    };
    for (base, region, expected) in [
        ("Sql", "westeurope", Some("Sql.WestEurope")),
        ("Sql", "francecentral", Some("Sql.FranceCentral")),
        ("Sql", "centralfrance", Some("Sql.FranceCentral")),
        ("Sql", "eastus2", Some("Sql.EastUS2")),
        ("Sql", "brazilse", Some("Sql.BrazilSoutheast")),
        ("AzureCloud", "francecentral", Some("AzureCloud.centralfrance")),
        ("AzureCloud", "switzerlandnorth", Some("AzureCloud.switzerlandn")),
        ("Sql", "atlantis", None),
    ] {
        assert_eq!(regional(base, region).as_deref(), expected, "{base} in {region}");
    }
}

#[test]
fn tags_of_azure_government_serve_sites_there_and_the_bundled_ones_stay() {
    let Some(_) = reference("ServiceTags_AzureGovernment_cn401.json") else { return };
    let dir = std::env::var_os("PORTPROOF_SHARED").map(PathBuf::from);
    let dir = dir.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"));
    let file = dir.join("reference/ServiceTags_AzureGovernment_cn401.json");
    let tags = ServiceTags::load(&[format!("{}@2026-07-19", file.display())]).unwrap();
    let sources: Vec<(u64, Cloud, bool)> =
        tags.sources().iter().map(|s| (s.change_number, s.cloud, s.bundled)).collect();
    assert_eq!(sources, [(401, Cloud::UsGov, false), (363, Cloud::Public, true)]);
    assert_eq!(tags.sources()[0].date.map(|d| d.to_string()).as_deref(), Some("2026-07-19"));
    let id = tags.regional(Cloud::UsGov, "Sql", "usgovvirginia").unwrap();
    assert_eq!(tags.name(id), "Sql.USGovVirginia");
    let action_group = tags.find(Cloud::UsGov, "ActionGroup").unwrap();
    assert!(tags.contains(action_group, "13.72.19.232".parse().unwrap()));
    assert!(tags.tags_of(Cloud::Public, "13.72.19.232".parse().unwrap()).is_empty());
}

#[test]
fn the_site_file_of_the_contract_is_sound() {
    let Some(text) = shared("CONTRACT.md") else { return };
    let (_, example) = text.split_once("## site.toml").unwrap();
    let example: String = example
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .map(|line| format!("{line}\n"))
        .collect();
    let matrix = Matrix::builtin();
    let site = Site::parse(&example, "site.toml", &matrix).unwrap_or_else(|problems| panic!("{problems:#?}"));
    assert!(site.warnings().is_empty(), "{:#?}", site.warnings());
    assert_eq!(
        (site.name(), site.region(), site.cloud()),
        ("contoso-weu", Some("westeurope"), Cloud::Public)
    );
    // Every rule of the page has its machines there; the private environment is switched off, aliases are.
    for (rule, here) in matrix.rules().iter().zip(site.rules()) {
        let applies = here.state.applies();
        match &here.state {
            RuleState::Off { condition, .. } => assert_eq!(condition.as_str(), "private-environment"),
            RuleState::AliasOff | RuleState::OtherCloud(_) => assert!(rule.is_alias(), "{}", rule.id),
            state => assert!(applies, "{}: {state:?}", rule.id),
        }
    }
}
