//! Rules and sites as lists for people.

use super::Refusal;
use super::run::INCOMPLETE;
use super::voice::{new_file, results, say};
use crate::matrix::{
    self, BaselineLine, Destination, Direction, Matrix, PackInfo, Rule, RuleState, Site, SwitchedBy,
};
use crate::report::printable;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// Packs, then each rule on a line.
pub(super) fn list(out: &mut dyn Write, matrix: &Matrix) -> io::Result<()> {
    for pack in matrix.packs() {
        let built_in = if pack.built_in { ", built in" } else { "" };
        let adds = pack.overlay_of.as_ref().map(|base| format!(", adds to {base}")).unwrap_or_default();
        let dated = pack.date.map(|date| format!(" ({date})")).unwrap_or_default();
        writeln!(out, "pack {}: {}{dated}{adds}{built_in}", pack.id, printable(&pack.page))?;
        if let Some(url) = &pack.url {
            writeln!(out, "     {}", printable(url))?;
        }
    }
    for source in matrix.tags().sources() {
        let date = source.date.map_or_else(|| "of unknown date".to_owned(), |date| date.to_string());
        let bundled = if source.bundled { ", bundled excerpt" } else { "" };
        writeln!(
            out,
            "service tags {}: change {}, {date}, {} tags{bundled}",
            source.cloud, source.change_number, source.tags
        )?;
    }
    writeln!(out)?;
    let width = matrix.rules().iter().map(|rule| rule.id.as_str().len()).max().unwrap_or(0);
    for rule in matrix.rules() {
        let mut marks = vec![rule.requirement.to_string()];
        marks.extend(rule.condition.as_ref().map(|condition| format!("if {condition}")));
        if rule.is_alias() {
            marks.push("alias".into());
        }
        writeln!(
            out,
            "{:width$}  {} -> {} {} {} ({})",
            rule.id,
            printable(&rule.from_title),
            printable(&rule.to_title),
            rule.transport.to_string().to_uppercase(),
            rule.ports,
            marks.join(", ")
        )?;
    }
    let lines = matrix.baseline();
    if !lines.is_empty() {
        writeln!(
            out,
            "\nTraffic that is the platform's, or is told for what it is (`portproof rules show ID` says more)"
        )?;
    }
    let width = lines.iter().map(|line| line.id.len()).max().unwrap_or(0);
    for line in lines {
        let ends = match line.direction {
            Direction::Out => "to",
            Direction::In => "from",
            Direction::Both => "with",
        };
        let with = printable(&peers(line, 3));
        writeln!(out, "{:width$}  {ends} {with} {} ({})", printable(&line.id), ports(line), line.class)?;
    }
    Ok(())
}

/// With whom traffic of a baseline line is, the first of them.
fn peers(line: &BaselineLine, most: usize) -> String {
    let addresses = line.peers.iter().map(ToString::to_string);
    let all: Vec<String> = addresses.chain(line.names.iter().map(ToString::to_string)).collect();
    let more = if all.len() > most { ", ..." } else { "" };
    format!("{}{more}", all.get(..most).unwrap_or(&all).join(", "))
}

/// Over what, and to which ports.
fn ports(line: &BaselineLine) -> String {
    let transports: Vec<String> =
        line.transports.iter().map(|transport| transport.to_string().to_uppercase()).collect();
    let transports =
        if transports.is_empty() { "without transport".to_owned() } else { transports.join("/") };
    line.ports.as_ref().map_or(transports.clone(), |ports| format!("{transports} {ports}"))
}

/// Rules and lines of the platform in full; all of them if none is named.
pub(super) fn show(out: &mut dyn Write, matrix: &Matrix, ids: &[String]) -> io::Result<()> {
    let wanted = |id: &str| ids.is_empty() || ids.iter().any(|wanted| wanted == id);
    let mut between = "";
    for rule in matrix.rules().iter().filter(|rule| wanted(rule.id.as_str())) {
        write!(out, "{between}")?;
        show_rule(out, rule, matrix)?;
        between = "\n";
    }
    for line in matrix.baseline().iter().filter(|line| wanted(&line.id)) {
        write!(out, "{between}")?;
        show_baseline(out, line)?;
        between = "\n";
    }
    Ok(())
}

fn show_baseline(out: &mut dyn Write, line: &BaselineLine) -> io::Result<()> {
    writeln!(out, "{}", printable(&line.id))?;
    for (label, fact) in baseline_facts(line) {
        writeln!(out, "  {label:<12}{}", printable(&fact))?;
    }
    Ok(())
}

/// What a line of the platform says, by labels.
fn baseline_facts(line: &BaselineLine) -> Facts {
    let who = match line.direction {
        Direction::Out => "a machine of the site",
        Direction::In => "the other side",
        Direction::Both => "either side",
    };
    let clouds: Vec<String> = line.clouds.iter().map(ToString::to_string).collect();
    let mut facts = vec![
        ("class", line.class.to_string()),
        ("initiator", who.to_owned()),
        ("with", peers(line, usize::MAX)),
        ("port", ports(line)),
        ("clouds", clouds.join(", ")),
        ("tallied", if line.tallied { "counted, not judged one by one".to_owned() } else { String::new() }),
        ("what", line.what.clone()),
        ("source", line.source.clone()),
    ];
    facts.retain(|(_, fact)| !fact.is_empty());
    facts
}

fn show_rule(out: &mut dyn Write, rule: &Rule, matrix: &Matrix) -> io::Result<()> {
    writeln!(out, "{}", rule.id)?;
    let citation = &rule.citation;
    let dated = if citation.date.is_empty() { String::new() } else { format!(" ({})", citation.date) };
    let mut cited = vec![("page", format!("{}, row {}{dated}", citation.page, citation.row))];
    let pack = matrix.packs().iter().find(|pack| pack.page == citation.page && pack.url.is_some());
    cited.extend(pack.and_then(|pack| pack.url.clone()).map(|url| ("address", url)));
    for (label, fact) in cited.into_iter().chain(facts(rule)) {
        writeln!(out, "  {label:<12}{}", printable(&fact))?;
    }
    Ok(())
}

/// Labels, and what stands behind each.
type Facts = Vec<(&'static str, String)>;

/// What a rule says, by labels; not where it stands.
fn facts(rule: &Rule) -> Facts {
    let mut facts = vec![
        ("from", format!("{} (role {})", rule.from_title, rule.from)),
        ("to", format!("{} ({})", rule.to_title, destination(&rule.to))),
        ("port", format!("{} {}", rule.transport.to_string().to_uppercase(), rule.ports)),
        ("requirement", rule.requirement.to_string()),
    ];
    if let Some(app) = &rule.app {
        let inferred = if app.inferred { " (inferred: the page does not name it)" } else { "" };
        facts.push(("application", format!("{}{inferred}", app.app)));
    }
    if let Some(condition) = &rule.condition {
        facts.push(("condition", condition.to_string()));
    }
    if rule.is_alias() {
        facts.push(("alias", "known to us, not on the page; off unless the site says aliases = true".into()));
    }
    if rule.supplied_names {
        facts.push(("names", "supplied by us, because the page gives none".into()));
    }
    if let Some(cloud) = rule.cloud {
        facts.push(("cloud", cloud.to_string()));
    }
    facts.push(("purpose", rule.purpose.clone()));
    facts.extend(rule.note.iter().map(|note| ("note", note.clone())));
    facts.extend(rule.source.iter().map(|source| ("source", source.clone())));
    facts.retain(|(_, fact)| !fact.is_empty());
    facts
}

/// Lines of a page that are told of each kind.
const LINES_TOLD: usize = 10;

/// Drafts a pack from a page, and says what became of its rows.
pub(super) fn import(page: &str, text: &str, to: Option<&Path>) -> Result<u8, Refusal> {
    let draft = matrix::import(page, text).map_err(|error| Refusal::new(format!("{page}: {error}")))?;
    match to {
        None => results(|out| out.write_all(draft.text.as_bytes()))?,
        Some(path) => {
            let named =
                |error: io::Error| Refusal::new(format!("{}: cannot be written: {error}", path.display()));
            let mut file = new_file(path).map_err(named)?;
            file.write_all(draft.text.as_bytes()).map_err(|error| {
                // Half a pack is none.
                let _ = fs::remove_file(path);
                named(error)
            })?;
        }
    }
    let counted = |count: usize, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
    say(&format!(
        "rules import: {} of {}: {}, {} to check, {} left out",
        counted(draft.rows, "row"),
        counted(draft.tables, "table"),
        counted(draft.rules, "rule"),
        draft.to_check,
        counted(draft.left_out, "row"),
    ));
    let places = |lines: &[u32], one: &str, what: &str| {
        let first: Vec<String> = lines.iter().take(LINES_TOLD).map(ToString::to_string).collect();
        let more = if lines.len() > LINES_TOLD { ", ..." } else { "" };
        if !lines.is_empty() {
            say(&format!("{} {what} (line {}{more})", counted(lines.len(), one), first.join(", ")));
        }
    };
    places(&draft.other_tables, "table", "without ports gave nothing");
    places(&draft.unread, "place", "that may tell ports could not be read");
    Ok(if draft.left_out == 0 && draft.unread.is_empty() { 0 } else { INCOMPLETE })
}

/// What changed from one edition of a page to another, rule by rule; false where nothing did.
pub(super) fn diff(out: &mut dyn Write, old: &Matrix, new: &Matrix) -> io::Result<bool> {
    let mut changes = changed_things(&pages(old), &pages(new));
    let heads = changes.len();
    changes.extend(changed_things(&things(old), &things(new)));
    let beside = changes.len();
    let brief = |rule: &Rule| {
        format!(
            "{}: {} -> {} {} {} ({})",
            rule.id,
            rule.from_title,
            rule.to_title,
            rule.transport.to_string().to_uppercase(),
            rule.ports,
            rule.requirement
        )
    };
    let (mut moved, mut counts) = (0, [0; 3]);
    for rule in new.rules() {
        let Some(before) = old.rule(rule.id.as_str()) else {
            counts[0] += 1;
            changes.push(format!("+ {}", brief(rule)));
            continue;
        };
        let lines = changed_facts(&facts(before), &facts(rule));
        if lines.is_empty() {
            moved += usize::from(before.citation.row != rule.citation.row);
            continue;
        }
        counts[1] += 1;
        changes.push(format!("~ {}", brief(rule)));
        changes.extend(lines);
    }
    for rule in old.rules().iter().filter(|rule| new.rule(rule.id.as_str()).is_none()) {
        counts[2] += 1;
        changes.push(format!("- {}", brief(rule)));
    }
    if moved > 0 {
        changes.push(format!("{moved} rules say the same and stand in other rows."));
    }
    let [appeared, changed, vanished] = counts;
    if changes.is_empty() {
        writeln!(out, "The rules are the same.")?;
    } else if heads == changes.len() {
        writeln!(out, "The rules are the same; what is told of the page is not.")?;
    } else if beside == changes.len() {
        writeln!(out, "The rules are the same; what they rest on is not.")?;
    } else {
        writeln!(out, "Rules: {appeared} appeared (+), {changed} changed (~), {vanished} vanished (-).")?;
    }
    changes.iter().try_for_each(|line| writeln!(out, "{}", printable(line)))?;
    Ok(!changes.is_empty())
}

/// What rules rest on, and what is judged without rules: roles, conditions, services behind tags, lines of the platform.
fn things(matrix: &Matrix) -> BTreeMap<String, Facts> {
    let mut things = BTreeMap::new();
    for role in matrix.roles() {
        let facts = vec![
            ("title", role.title.clone()),
            ("audited", role.subject.to_string()),
            ("also", role.also_covered_by.clone().unwrap_or_default()),
        ];
        things.insert(format!("role {}", role.id), facts);
    }
    for condition in matrix.conditions() {
        let facts = vec![
            ("title", condition.title.clone()),
            ("unset", if condition.applies_unset { "applies" } else { "off" }.to_owned()),
            ("needs", condition.needs.as_ref().map(ToString::to_string).unwrap_or_default()),
        ];
        things.insert(format!("condition {}", condition.id), facts);
    }
    for service in matrix.services() {
        let ports = service.ports.as_ref().map_or("any".to_owned(), ToString::to_string);
        let mut facts = vec![("ports", ports), ("accounts", service.accounts.to_string())];
        for (cloud, names) in &service.clouds {
            let zones = names.private_zones.iter().map(ToString::to_string);
            let all: Vec<String> = names.names.iter().map(ToString::to_string).chain(zones).collect();
            facts.push((cloud.as_str(), all.join(", ")));
        }
        things.insert(format!("service {} ({})", service.title, service.tag), facts);
    }
    things.extend(matrix.baseline().iter().map(|line| (format!("line {}", line.id), baseline_facts(line))));
    things
}

/// What packs tell of their pages.
fn pages(matrix: &Matrix) -> BTreeMap<String, Facts> {
    let told = |pack: &PackInfo| {
        let mut facts = vec![
            ("page", pack.page.clone()),
            ("date", pack.date.map_or_else(|| pack.page_date.clone(), |date| date.to_string())),
            ("version", pack.product_version.clone()),
            ("address", pack.url.clone().unwrap_or_default()),
        ];
        facts.retain(|(_, fact)| !fact.is_empty());
        facts
    };
    matrix.packs().iter().map(|pack| (format!("pack {}", pack.id), told(pack))).collect()
}

/// What only one side has, and what both have and tell otherwise, with the facts that differ.
fn changed_things(old: &BTreeMap<String, Facts>, new: &BTreeMap<String, Facts>) -> Vec<String> {
    let mut changes = Vec::new();
    for thing in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
        match (old.get(thing), new.get(thing)) {
            (Some(was), Some(is)) if was == is => {}
            (Some(was), Some(is)) => {
                changes.push(format!("~ {thing}"));
                changes.extend(changed_facts(was, is));
            }
            (None, _) => changes.push(format!("+ {thing}")),
            (_, None) => changes.push(format!("- {thing}")),
        }
    }
    changes
}

/// Facts that differ, a line each.
fn changed_facts(old: &Facts, new: &Facts) -> Vec<String> {
    let mut labels: Vec<&str> = new.iter().chain(old).map(|(label, _)| *label).collect();
    let mut seen = BTreeSet::new();
    labels.retain(|label| seen.insert(*label));
    let of = |facts: &Facts, label: &str| {
        facts.iter().find(|(of, _)| *of == label).map_or("(none)".to_owned(), |(_, fact)| fact.clone())
    };
    let both = labels.into_iter().map(|label| (label, of(old, label), of(new, label)));
    both.filter(|(_, was, is)| was != is)
        .map(|(label, was, is)| format!("    {label}: {was} -> {is}"))
        .collect()
}

fn destination(to: &Destination) -> String {
    let listed = |names: &[crate::model::DomainPattern]| {
        names.iter().map(|name| name.to_string()).collect::<Vec<_>>().join(", ")
    };
    match to {
        Destination::Role(role) => format!("role {role}"),
        Destination::Names(names) => listed(names),
        Destination::SiteNames { key, default } if default.is_empty() => {
            format!("what the site gives as [names] {key}")
        }
        Destination::SiteNames { key, default } => {
            format!("what the site gives as [names] {key}, else {}", listed(default))
        }
        Destination::Tag { tag, .. } => format!("service tag {tag}"),
        Destination::VirtualNetwork => "the site's virtual_network".into(),
        Destination::SiteDefined { role, key } => format!("role {role}, or [names] {key}"),
    }
}

/// What a site file means, as far as a check should tell.
pub(super) fn site(out: &mut dyn Write, matrix: &Matrix, site: &Site) -> io::Result<()> {
    writeln!(out, "Site {}: no mistakes.", printable(site.name()))?;
    for role in matrix.roles() {
        let Some(index) = matrix.role(role.id.as_str()) else { continue };
        let (prefixes, names) = (site.role_prefixes(index).len(), site.role_names(index).len());
        let audited = if site.subject(index) { ", audited" } else { "" };
        if prefixes + names > 0 {
            writeln!(out, "  {:<22} {prefixes} addresses or prefixes, {names} names{audited}", role.id)?;
        }
    }
    let state =
        |wanted: fn(&RuleState) -> bool| site.rules().iter().filter(|rule| wanted(&rule.state)).count();
    writeln!(out, "  {} of {} rules apply here", state(RuleState::applies), matrix.rules().len())?;
    // Rules of one reason together, in the order of their first.
    let mut reasons: Vec<(String, Vec<&str>)> = Vec::new();
    for (rule, here) in matrix.rules().iter().zip(site.rules()) {
        let why = match &here.state {
            RuleState::Applies => continue,
            RuleState::AppliesUnset(condition) => {
                format!("applies, counted apart: the site does not set {condition}")
            }
            RuleState::Off { condition, by: SwitchedBy::Site } => {
                format!("off: the site says {condition} = false")
            }
            RuleState::Off { condition, by: SwitchedBy::Pack } => {
                format!("off unless the site says {condition} = true")
            }
            state => match state.why_not() {
                Some(why) => why,
                None => continue,
            },
        };
        match reasons.iter_mut().find(|(of, _)| *of == why) {
            Some((_, rules)) => rules.push(rule.id.as_str()),
            None => reasons.push((why, vec![rule.id.as_str()])),
        }
    }
    for (why, rules) in reasons {
        writeln!(out, "  {}: {}", printable(&why), rules.join(", "))?;
    }
    Ok(())
}
