//! The pack as a text: what rows say as rules, with what was guessed beside them and what was left out in its place.

use super::cells::{self, Direction, Need, Party, PortItems, Protocols, Who};
use super::{Cell, ImportError, Line, PackDraft, Page, Ports};
use crate::matrix::date::CalendarDate;
use crate::matrix::load::check_text;
use crate::matrix::source::shown;
use crate::model::{AppProtocol, Transport};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Rules that a draft has. The page with the most that is known gives some 700; nobody reads thousands against a page.
const MAX_RULES: usize = 5_000;

/// Rules that one row may give: initiators times destinations times transports.
const MAX_RULES_OF_A_ROW: usize = 500;

/// Roles that a draft defines: some fewer than a matrix has room for, since packs are used together.
const MAX_DRAFTED_ROLES: usize = crate::matrix::MAX_ROLES - 8;

/// Rows left out that are told one by one.
const MAX_TOLD: usize = 1_000;

/// Bytes of a purpose.
const MAX_PURPOSE: usize = 600;

/// Characters of an identifier.
const MAX_ID: usize = 64;

/// A rule to be.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Drafted {
    from: String,
    to: String,
    who: Who,
    transport: Transport,
    app: Option<AppProtocol>,
    /// Empty for a transport without ports.
    ports: String,
    need: Need,
    purpose: String,
    checks: Vec<String>,
}

impl Drafted {
    /// Whether it says the same as another of its row.
    fn is(&self, other: &Drafted) -> bool {
        (&self.from, &self.to, &self.who, self.transport, &self.ports)
            == (&other.from, &other.to, &other.who, other.transport, &other.ports)
    }
}

/// What became of a row.
enum Outcome {
    Rules(Vec<Drafted>),
    /// Why it gave none.
    Left(String),
}

/// A role to be.
#[derive(Clone, Debug)]
struct Role {
    id: String,
    title: String,
    /// Rows that it begins, and how many of these go to names or tags.
    begins: usize,
    to_names: usize,
    /// Rules that go to it.
    reached: usize,
    /// Whether it is defined; what is not is a key of `[names]`, or cannot be told.
    defined: bool,
}

/// Roles by what the page calls them, in the order of the page.
#[derive(Default)]
struct Roles {
    all: Vec<Role>,
    by_title: BTreeMap<String, usize>,
    ids: BTreeSet<String>,
}

impl Roles {
    fn add(&mut self, title: &str) -> Option<&mut Role> {
        let key = title.to_lowercase();
        let at = match self.by_title.get(&key) {
            Some(&at) => at,
            None => {
                let id = unique(&slug(title, MAX_ID), "role", &mut self.ids);
                self.all.push(Role {
                    id,
                    title: title.to_owned(),
                    begins: 0,
                    to_names: 0,
                    reached: 0,
                    defined: true,
                });
                self.by_title.insert(key, self.all.len() - 1);
                self.all.len() - 1
            }
        };
        self.all.get_mut(at)
    }

    fn get(&self, title: &str) -> Option<&Role> {
        self.by_title.get(&title.to_lowercase()).and_then(|&at| self.all.get(at))
    }

    /// Where there are more than a pack may have: initiators first, then those that most rules go to.
    fn define(&mut self) {
        let mut order: Vec<usize> = (0..self.all.len()).collect();
        order.sort_by_key(|&at| {
            self.all
                .get(at)
                .map(|role| (role.begins == 0, std::cmp::Reverse(role.reached)))
                .unwrap_or((true, std::cmp::Reverse(0)))
        });
        for at in order.into_iter().skip(MAX_DRAFTED_ROLES) {
            self.all.get_mut(at).into_iter().for_each(|role| role.defined = false);
        }
    }
}

/// Drafts the pack.
pub(super) fn write(
    file: &str,
    page: &Page,
    tables: &[Ports],
    other_tables: Vec<u32>,
) -> Result<PackDraft, ImportError> {
    let head = Head::of(file, page);
    let mut outcomes: Vec<Vec<Outcome>> = Vec::new();
    let (mut drafted, mut full) = (0, false);
    let too_many = || {
        Outcome::Left(format!(
            "the draft has no room for more than {MAX_RULES} rules: import the page in parts"
        ))
    };
    for table in tables {
        let outcome = |line: &Line| {
            if full {
                return too_many();
            }
            match rules(table, line, page, &head) {
                Ok(rules) if drafted + rules.len() > MAX_RULES => {
                    full = true;
                    too_many()
                }
                Ok(rules) => {
                    drafted += rules.len();
                    Outcome::Rules(rules)
                }
                Err(why) => Outcome::Left(why),
            }
        };
        outcomes.push(table.lines.iter().map(outcome).collect());
    }
    let roles = roles(&outcomes);
    for rows in &mut outcomes {
        for outcome in rows {
            // An initiator without a role cannot be told.
            if let Outcome::Rules(rules) = outcome
                && let Some(rule) =
                    rules.iter().find(|rule| roles.get(&rule.from).is_none_or(|role| !role.defined))
            {
                let from = cells::quoted(&rule.from);
                *outcome = Outcome::Left(format!(
                    "{from} would be one role too many: a pack has room for {MAX_DRAFTED_ROLES}"
                ));
            }
        }
    }
    let mut pack = Pack::default();
    pack.rules(&head, tables, &outcomes, &roles);
    if pack.count == 0 {
        let lines = tables.iter().flat_map(|table| &table.lines);
        let mut left = lines.zip(outcomes.iter().flatten());
        let (line, why) = left
            .find_map(|(line, outcome)| match outcome {
                Outcome::Left(why) => Some((line.line, why.clone())),
                Outcome::Rules(_) => None,
            })
            .unwrap_or_default();
        return Err(ImportError::NoRule { rows: outcomes.iter().map(Vec::len).sum(), line, why });
    }
    let rows: usize = tables.iter().map(|table| table.lines.len()).sum();
    let text = format!(
        "{}{}{}{}{}",
        head.text(file, rows, tables.len()),
        roles_text(&roles),
        pack.conditions_text(),
        pack.text,
        unread_text(page)
    );
    // Whatever was guessed, what is handed over can be read.
    check_text("draft", &text).map_err(|problems| {
        ImportError::Unsound(problems.first().map(ToString::to_string).unwrap_or_default())
    })?;
    Ok(PackDraft {
        text,
        tables: tables.len(),
        rows,
        rules: pack.count,
        to_check: pack.to_check,
        left_out: pack.left_out,
        other_tables,
        unread: page.unread.iter().map(|(line, _)| *line).collect(),
    })
}

/// What may tell ports, and was not read.
fn unread_text(page: &Page) -> String {
    let mut out = String::new();
    for (line, why) in &page.unread {
        out.push('\n');
        comment(&mut out, "left out", &format!("what begins in line {line}: {why}"));
    }
    out
}

/// The roles that rules speak of.
fn roles(outcomes: &[Vec<Outcome>]) -> Roles {
    let mut roles = Roles::default();
    for outcome in outcomes.iter().flatten() {
        let Outcome::Rules(rules) = outcome else { continue };
        let mut begun: BTreeSet<&str> = BTreeSet::new();
        for rule in rules {
            let outside = matches!(rule.who, Who::Names(_) | Who::Tag(_) | Who::VirtualNetwork);
            let first = begun.insert(&rule.from);
            if let Some(role) = roles.add(&rule.from).filter(|_| first) {
                role.begins += 1;
                role.to_names += usize::from(outside);
            }
            if !outside && let Some(role) = roles.add(&rule.to) {
                role.reached += 1;
            }
        }
    }
    roles.define();
    roles
}

/// What a row says as rules.
fn rules(table: &Ports, line: &Line, page: &Page, head: &Head) -> Result<Vec<Drafted>, String> {
    if let Some(misfit) = &line.misfit {
        return Err(misfit.clone());
    }
    let text = line.text.as_deref().unwrap_or_default().replace('\n', " ");
    if line.cells.iter().any(|cell| cells::is_denial(cell)) || cells::denies(&text) {
        return Err("it blocks traffic, and a rule documents what is needed".into());
    }
    if let Some(action) = line.action.as_ref().filter(|action| !cells::is_permission(action)) {
        return Err(format!("that it is allowed is not plain: {}", cells::quoted(action)));
    }
    let mut checks = line.checks.clone();
    let section = if table.section.is_empty() { &head.page } else { &table.section };
    let named = |column: &str| format!("the page may forbid this: its {column} says");
    let said = line.cells.iter().find_map(|cell| cells::forbidding(cell));
    checks.extend(said.map(|word| format!("{} \"{word}\"", named("row"))));
    let above = cells::forbidding(&table.section)
        .or_else(|| cells::heading_denies(&table.section).then_some("block"));
    checks.extend(above.map(|word| format!("{} \"{word}\"", named("heading"))));
    let direction = line.direction.as_deref().and_then(cells::direction);
    if let Some(direction) = direction
        .filter(|direction| *direction == Direction::Both || line.from.is_none() || line.to.is_none())
    {
        checks.push(match direction {
            Direction::Inbound => "the page says inbound: who is the initiator?".into(),
            Direction::Outbound => "the page says outbound: who is the initiator?".into(),
            Direction::Both => "the page says both directions: the rule has one".into(),
        });
    }
    let end = |cell: Option<&Cell>, has: bool, what: &str, checks: &mut Vec<String>| match cell {
        Some(cell) => cells::parties(cell, &page.footnotes).map(|(parties, more)| {
            checks.extend(more);
            parties
        }),
        None if has => Err(format!("its {what} is empty")),
        None => {
            checks.push(format!(
                "the table has no column for the {what}: a role made of its heading stands for it"
            ));
            let suffix = if table.has_from || table.has_to { String::new() } else { format!(" ({what})") };
            let title: String = section.chars().take(100).collect();
            Ok(vec![Party { title: title + &suffix, who: Who::Role, port: None, checks: Vec::new() }])
        }
    };
    let froms = end(line.from.as_ref(), table.has_from, "initiator", &mut checks)?;
    let tos = end(line.to.as_ref(), table.has_to, "destination", &mut checks)?;
    if froms.len() > 1 && tos.len() > 1 {
        checks.push("each initiator with each destination of its cells: is it so?".into());
    }
    let ports = match (table.told_port, &line.ports) {
        (Some(told), _) => Ok(told_ports(told, &tos, &mut checks)?),
        (None, Some(cell)) => cells::paired_ports(line.protocol.as_deref(), cell),
        (None, None) => Err("its port is empty".into()),
    };
    let words = ports.as_ref().map(|ports| ports.words.clone()).unwrap_or_default();
    let told = table.told_port.flatten().map(|(transport, _)| transport);
    let mut protocols = match (&line.protocol, told) {
        // "Port (TCP/UDP)" over a cell without a protocol.
        (Some(cell), _) if line.ports.as_ref() == Some(cell) && words.is_empty() && ports.is_ok() => {
            let guess = "no protocol stands with the ports: rules for TCP and UDP were made".to_owned();
            Protocols {
                transports: vec![Transport::Tcp, Transport::Udp],
                checks: vec![guess],
                ..Protocols::default()
            }
        }
        (Some(cell), _) => cells::protocols(cell)?,
        (None, _) if !words.is_empty() => cells::protocols(&words)?,
        (None, Some(transport)) => Protocols { transports: vec![transport], ..Protocols::default() },
        (None, None) => {
            let guess = "no protocol is told: TCP is taken".to_owned();
            Protocols { transports: vec![Transport::Tcp], checks: vec![guess], ..Protocols::default() }
        }
    };
    if protocols.apps.is_empty() && !words.is_empty() {
        protocols.apps = cells::protocols(&words).map(|told| told.apps).unwrap_or_default();
    }
    checks.append(&mut protocols.checks);
    if let Ok(ports) = &ports {
        agree(ports, &mut protocols, &mut checks);
    }
    let with_ports = protocols.transports.iter().any(|transport| transport.has_ports());
    let ports = match ports {
        Ok(ports) => ports,
        Err(_) if !with_ports => PortItems::default(),
        Err(why) => return Err(why),
    };
    checks.extend(ports.checks.iter().cloned());
    if !with_ports && !ports.items.is_empty() {
        checks.push(format!("it has no ports, and the page gives it some: {}", cells::listed(&ports.items)));
    }
    let at_addresses: BTreeSet<u16> = tos.iter().filter_map(|to| to.port).collect();
    for port in at_addresses {
        if !ports.items.iter().any(|&(low, high)| (low..=high).contains(&port)) {
            checks.push(format!("the address means port {port}, which its row does not give"));
        }
    }
    let groups = groups(&ports, &protocols, &text, &mut checks);
    let needs: Vec<(Need, Option<String>)> =
        groups.iter().map(|group| need(line, &text, group, &ports.items, &table.section)).collect();
    let several = froms
        .len()
        .saturating_mul(tos.len())
        .saturating_mul(protocols.transports.len())
        .saturating_mul(groups.len());
    if several > MAX_RULES_OF_A_ROW {
        return Err(format!(
            "it would give {several} rules: no more than {MAX_RULES_OF_A_ROW} are made of a row"
        ));
    }
    let purpose = purpose(&text);
    if purpose.len() < text.len() && !text.is_empty() {
        checks.push("the text is longer than the purpose here".into());
    }
    let mut rules: Vec<Drafted> = Vec::new();
    for from in &froms {
        for to in &tos {
            for &transport in &protocols.transports {
                for (group, (need, doubt)) in groups.iter().zip(&needs) {
                    let over = |item: &&(u16, u16)| !transport.has_ports() || ports.over(**item, transport);
                    let items: Vec<(u16, u16)> = group.items.iter().filter(over).copied().collect();
                    if items.is_empty() && transport.has_ports() {
                        continue;
                    }
                    let mut checks = checks.clone();
                    checks.extend(doubt.clone());
                    // Of an initiator only what it is called counts.
                    if !matches!(from.who, Who::Role | Who::SiteRole) {
                        checks.push("the initiator is told by a name: a role stands for it".into());
                    }
                    checks.extend(from.checks.iter().chain(&to.checks).cloned());
                    if let Need::Conditional(_, false) = need {
                        checks.push("the condition was read from the middle of the text".into());
                    }
                    let app =
                        group.app.filter(|&app| cells::carried(app, transport)).or(protocols.app(transport));
                    let rule = Drafted {
                        from: from.title.clone(),
                        to: to.title.clone(),
                        who: to.who.clone(),
                        transport,
                        app,
                        ports: if transport.has_ports() { cells::listed(&items) } else { String::new() },
                        need: need.clone(),
                        purpose: purpose.clone(),
                        checks,
                    };
                    if !rules.iter().any(|other| other.is(&rule)) {
                        rules.push(rule);
                    }
                }
            }
        }
    }
    let in_prose: BTreeSet<u16> = cells::ports_of_prose(&text);
    let told = |port: u16| ports.items.iter().any(|&(low, high)| (low..=high).contains(&port));
    let untold: Vec<String> = in_prose.iter().filter(|&&port| !told(port)).map(ToString::to_string).collect();
    if let Some(last) = rules.last_mut().filter(|_| !untold.is_empty() && with_ports) {
        last.checks
            .push(format!("the text speaks of port {}, which no rule of this row has", untold.join(", ")));
    }
    let names = cells::names_of(&text);
    if !names.is_empty() {
        let speaks = format!("the text speaks of {}: are these names of the destination?", names.join(", "));
        for rule in rules.iter_mut().filter(|rule| matches!(rule.who, Who::Role | Who::SiteRole)) {
            rule.checks.push(speaks.clone());
        }
    }
    Ok(rules)
}

/// What stands beside the ports and what the protocol's column says become one.
fn agree(ports: &PortItems, protocols: &mut Protocols, checks: &mut Vec<String>) {
    let beside = ports.transports();
    let known = |transport: &Transport| protocols.transports.contains(transport);
    if !beside.is_empty() && !beside.iter().all(known) {
        checks.push("another protocol stands beside the port than in its column: that one was taken".into());
        protocols.transports.retain(|transport| !transport.has_ports());
        protocols.transports.extend(beside);
        return;
    }
    let with_ports = protocols.transports.iter().filter(|transport| transport.has_ports()).count();
    if with_ports > 1 && ports.items.len() > 1 && beside.is_empty() {
        checks.push("each port with each protocol: is it so?".into());
    }
    // Of a protocol that stands beside no port there is no rule.
    if !beside.is_empty() {
        let lost: Vec<String> = protocols
            .transports
            .iter()
            .filter(|transport| transport.has_ports() && !beside.contains(transport))
            .map(|transport| transport.to_string().to_uppercase())
            .collect();
        if !lost.is_empty() {
            checks.push(format!("no port stands with {}", lost.join(", ")));
        }
    }
}

/// Ports of a row whose table has no column for them.
fn told_ports(
    told: Option<(Transport, u16)>,
    tos: &[Party],
    checks: &mut Vec<String>,
) -> Result<PortItems, String> {
    let of_addresses: BTreeSet<u16> = tos.iter().filter_map(|to| to.port).collect();
    let (port, whence) = match (of_addresses.first(), told) {
        (Some(&port), _) if of_addresses.len() == 1 => (port, "the address means port"),
        (Some(_), _) => return Err("its addresses are of different ports".into()),
        (None, Some((_, port))) => (port, "the text before the table speaks of port"),
        (None, None) => return Err("the table has no column of ports, and the address has none".into()),
    };
    checks.push(format!("the table has no column of ports; {whence} {port}"));
    Ok(PortItems { items: vec![(port, port)], ..PortItems::default() })
}

/// Ports of a row that serve one purpose.
struct Group {
    items: Vec<(u16, u16)>,
    app: Option<AppProtocol>,
}

/// Ports that belong together: those of which the text speaks apart ("port 445 is required only if ...") are rules of their
/// own.
fn groups(ports: &PortItems, protocols: &Protocols, text: &str, checks: &mut Vec<String>) -> Vec<Group> {
    let apps = cells::protocols(&ports.words).map(|told| told.apps).unwrap_or_default();
    let pairs = if protocols.paired { &protocols.apps } else { &apps };
    // "HTTPS, SSH" over "22, 443" pairs nothing.
    let own = |app: AppProtocol| cells::own_port(app).map(|port| (port, port));
    let crossed = ports
        .items
        .iter()
        .zip(pairs)
        .any(|(item, &app)| own(app).is_some_and(|own| own != *item && ports.items.contains(&own)));
    if pairs.len() == ports.items.len() && pairs.len() > 1 && crossed {
        checks.push("which port is of which application cannot be told".into());
    } else if pairs.len() == ports.items.len() && pairs.len() > 1 {
        let pair = |(&item, &app)| Group { items: vec![item], app: Some(app) };
        return ports.items.iter().zip(pairs).map(pair).collect();
    }
    let sentences: Vec<BTreeSet<u16>> = cells::sentences(text).into_iter().map(cells::numbers).collect();
    let mut groups: Vec<(Vec<usize>, Group)> = Vec::new();
    for &(low, high) in &ports.items {
        let speaks = |numbers: &BTreeSet<u16>| numbers.contains(&low) && numbers.contains(&high);
        let key: Vec<usize> =
            (0..).zip(&sentences).filter(|(_, numbers)| speaks(numbers)).map(|(at, _)| at).collect();
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, group)) => group.items.push((low, high)),
            None => groups.push((key, Group { items: vec![(low, high)], app: None })),
        }
    }
    if groups.is_empty() {
        return vec![Group { items: Vec::new(), app: None }];
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

/// How firmly ports of a row are needed: what its text says of all of them, or of these; and what speaks against that.
fn need(line: &Line, text: &str, group: &Group, all: &[(u16, u16)], section: &str) -> (Need, Option<String>) {
    let doubt = |text: &str, what: &str| {
        cells::loosening(text).map(|word| format!("it may not be required: its {what} says \"{word}\""))
    };
    let speaks = |items: &[(u16, u16)], numbers: &BTreeSet<u16>| {
        items.iter().any(|(low, high)| numbers.contains(low) && numbers.contains(high))
    };
    let mut sentences = cells::sentences(text);
    sentences.retain(|sentence| {
        let numbers = cells::numbers(sentence);
        speaks(&group.items, &numbers) || !speaks(all, &numbers)
    });
    let (need, told) = match &line.need {
        Some(cell) => {
            let of_text = || cells::need(&cells::sentences(&cell.replace('\n', " ")));
            let known = cells::need_cell(cell);
            let plain = known.is_some();
            let need = known.unwrap_or_else(of_text);
            let doubt = (!plain && need == Need::Required)
                .then(|| format!("how firmly is it needed? {}", cells::quoted(cell)));
            (need, doubt)
        }
        None => (cells::need(&sentences), None),
    };
    if need != Need::Required {
        return (need, None);
    }
    let others =
        line.cells.iter().find_map(|cell| doubt(cell, "row").filter(|_| Some(cell) != line.text.as_ref()));
    let told = told
        .or_else(|| sentences.iter().find_map(|sentence| doubt(sentence, "row")))
        .or(others)
        .or_else(|| doubt(section, "heading"));
    (need, told)
}

/// Whole sentences of a text, as many as a purpose has room for.
fn purpose(text: &str) -> String {
    let mut purpose = String::new();
    for sentence in cells::sentences(text) {
        if !purpose.is_empty() && purpose.len() + sentence.len() > MAX_PURPOSE {
            break;
        }
        if !purpose.is_empty() {
            purpose.push(' ');
        }
        purpose.push_str(sentence);
    }
    if purpose.is_empty() {
        return "The page does not say what for.".into();
    }
    purpose.chars().take(MAX_PURPOSE).collect()
}

/// What a pack says of its page.
struct Head {
    id: String,
    prefix: String,
    page: String,
    product: String,
    version: Option<String>,
    url: Option<String>,
    page_date: Option<String>,
    date: Option<CalendarDate>,
    checks: Vec<String>,
}

impl Head {
    fn of(file: &str, page: &Page) -> Head {
        let mut checks = Vec::new();
        let name = file.rsplit(['/', '\\']).next().unwrap_or(file);
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        let stem = if stem.is_empty() || stem == "-" { "page" } else { stem };
        let title = page.title.clone().unwrap_or_else(|| {
            checks.push("the page has no title: this is the file's name".to_owned());
            shown(stem)
        });
        let product = page.product.clone().unwrap_or_else(|| {
            checks.push("the page names no product: which one is it?".to_owned());
            title.clone()
        });
        let named = slug(&product, MAX_ID - "-ports".len());
        let named = if named.is_empty() { slug(stem, MAX_ID - "-ports".len()) } else { named };
        let named = if named.is_empty() { "page".to_owned() } else { named };
        let id = if named.ends_with("ports") { named.clone() } else { format!("{named}-ports") };
        let prefix = slug(named.strip_suffix("-ports").unwrap_or(&named), 16);
        let url = page.url.clone().filter(|url| url.starts_with("https://") || url.starts_with("http://"));
        let date = page.date.as_deref().and_then(|date| day(date, &mut checks));
        for (there, what) in [
            (url.is_some(), "`url`: the page does not say where it is published"),
            (page.date.is_some(), "`page_date` and `date`: the page has no date"),
            (page.date.is_none() || date.is_some(), "`date`: the page's date cannot be read as a day"),
            (page.version.is_some(), "`product_version`: the page names no version"),
        ] {
            if !there {
                checks.push(what.to_owned());
            }
        }
        let cut = |text: &str| text.chars().take(200).collect::<String>();
        Head {
            id,
            prefix: if prefix.is_empty() { "page".into() } else { prefix },
            page: cut(&title),
            product: cut(&product),
            version: page.version.as_deref().map(cut),
            url: url.filter(|url| url.len() <= 2_000),
            page_date: page.date.as_deref().map(cut),
            date,
            checks,
        }
    }

    fn text(&self, file: &str, rows: usize, tables: usize) -> String {
        let mut out = format!(
            "# A draft of a rules pack, made by `portproof rules import` of {}: {rows} rows of {tables} table(s).\n\
             # Rows are counted from 1 over all port tables of the page; headings within tables are not counted.\n\
             # Read it against the page. What was guessed says `# check:`; what gave no rule says `# left out:`.\n\n[pack]\n",
            cells::quoted(&shown(file))
        );
        for check in &self.checks {
            comment(&mut out, "check", check);
        }
        let mut key = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                let _ = writeln!(out, "{name} = {value}");
            }
        };
        key("id", Some(string(&self.id)));
        key("page", Some(string(&self.page)));
        key("product", Some(string(&self.product)));
        key("product_version", self.version.as_deref().map(string));
        key("url", self.url.as_deref().map(string));
        key("page_date", self.page_date.as_deref().map(string));
        key("date", self.date.map(|date| date.to_string()));
        out
    }
}

/// A page's date as a day: `2026-01-06`, `1/6/2026`, `6 January 2026`, `January 6, 2026`.
fn day(text: &str, checks: &mut Vec<String>) -> Option<CalendarDate> {
    if let Some(day) = text.get(..10).and_then(|text| text.parse().ok()) {
        return Some(day);
    }
    let parts: Vec<&str> =
        text.split(|c: char| !c.is_alphanumeric()).filter(|part| !part.is_empty()).collect();
    let [first, second, year] = parts[..] else { return None };
    let year: u16 = year.parse().ok()?;
    if let (Ok(first), Ok(second)) = (first.parse::<u8>(), second.parse::<u8>()) {
        if first <= 12 && second <= 12 && first != second {
            checks.push("`date`: the page's date is taken to begin with the month".to_owned());
        }
        return CalendarDate::new(year, first, second).or_else(|| CalendarDate::new(year, second, first));
    }
    let months = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let month = |word: &str| {
        let word = word.to_ascii_lowercase();
        (1_u8..).zip(months).find(|(_, month)| word.starts_with(month)).map(|(at, _)| at)
    };
    match (month(first), second.parse(), first.parse(), month(second)) {
        (Some(month), Ok(day), ..) => CalendarDate::new(year, month, day),
        (_, _, Ok(day), Some(month)) => CalendarDate::new(year, month, day),
        _ => None,
    }
}

fn roles_text(roles: &Roles) -> String {
    let most = roles.all.iter().map(|role| role.begins).max().unwrap_or(0);
    let mut out = "\n# Roles. `subject`: the page's own machines, which an audit is about. Proposed are those that begin most rows,\n\
                   # or rows to names and tags.\n"
        .to_owned();
    for role in roles.all.iter().filter(|role| role.defined && (role.begins > 0 || role.reached > 0)) {
        let subject = role.begins > 0 && (role.begins == most || role.to_names > 0);
        out.push('\n');
        if role.begins > 0 {
            let rows = format!(
                "`subject`: it begins {} row(s), and {} of them go to names or tags",
                role.begins, role.to_names
            );
            comment(&mut out, "check", &rows);
        }
        let (id, title) = (string(&role.id), string(&role.title));
        let _ = writeln!(out, "[[role]]\nid = {id}\ntitle = {title}\nsubject = {subject}");
    }
    out
}

/// The rules of the pack, and the conditions that they depend on.
#[derive(Default)]
struct Pack {
    text: String,
    /// By what they say.
    conditions: BTreeMap<String, String>,
    /// Titles in the order of the page.
    in_order: Vec<String>,
    ids: BTreeSet<String>,
    count: usize,
    to_check: usize,
    left_out: usize,
}

impl Pack {
    fn rules(&mut self, head: &Head, tables: &[Ports], outcomes: &[Vec<Outcome>], roles: &Roles) {
        let rows: usize = tables.iter().map(|table| table.lines.len()).sum();
        let width = rows.to_string().len().max(2);
        for (table, outcomes) in tables.iter().zip(outcomes) {
            let section: String = table.section.chars().take(120).collect();
            let _ = writeln!(self.text, "\n# Line {}: {section}", table.line);
            if table.short > 0 {
                let _ = writeln!(
                    self.text,
                    "# check: {} of its {} rows have fewer cells than the heading: what is missing was taken from the row above",
                    table.short,
                    table.lines.len()
                );
            }
            for (line, outcome) in table.lines.iter().zip(outcomes) {
                match outcome {
                    Outcome::Rules(rules) => {
                        for (at, rule) in rules.iter().enumerate() {
                            let letters = if rules.len() > 1 { letters(at) } else { String::new() };
                            let id = format!("{}-{:0width$}{letters}", head.prefix, line.row);
                            self.rule(&id, line, rule, roles);
                        }
                    }
                    Outcome::Left(why) => self.left(line, why),
                }
            }
        }
        if self.left_out > MAX_TOLD {
            let _ = writeln!(self.text, "\n# ... and {} more rows were left out", self.left_out - MAX_TOLD);
        }
    }

    fn left(&mut self, line: &Line, why: &str) {
        self.left_out += 1;
        if self.left_out <= MAX_TOLD {
            let cells: Vec<String> = line.cells.iter().map(|cell| cells::quoted(cell)).collect();
            self.text.push('\n');
            let told = format!("row {} in line {}: {why}: {}", line.row, line.line, cells.join(" | "));
            comment(&mut self.text, "left out", &told);
        }
    }

    fn rule(&mut self, id: &str, line: &Line, rule: &Drafted, roles: &Roles) {
        let Some(from) = roles.get(&rule.from) else { return };
        let mut checks = rule.checks.clone();
        let to = match (&rule.who, roles.get(&rule.to)) {
            (Who::Names(names), _) => {
                format!("names = [{}]", names.iter().map(|name| string(name)).collect::<Vec<_>>().join(", "))
            }
            (Who::Tag(tag), _) => format!("tag = {}", string(tag)),
            (Who::VirtualNetwork, _) => "virtual_network = true".to_owned(),
            (Who::Role | Who::SiteRole, None) => return,
            (Who::Role | Who::SiteRole, Some(role)) if !role.defined => {
                let why = format!(
                    "a pack has room for {MAX_DRAFTED_ROLES} roles: the site gives the names of this one under [names]"
                );
                checks.push(why);
                format!("site_names = {}", string(&role.id))
            }
            (Who::SiteRole, Some(role)) => format!("site_role = {}", string(&role.id)),
            (Who::Role, Some(role)) => format!("role = {}", string(&role.id)),
        };
        let (requirement, condition) = match &rule.need {
            Need::Required => ("required", None),
            Need::Optional => ("optional", None),
            Need::Conditional(when, _) => ("conditional", Some(self.condition(when))),
        };
        self.count += 1;
        self.to_check += usize::from(!checks.is_empty());
        let out = &mut self.text;
        out.push('\n');
        let mut said: Vec<&String> = Vec::new();
        for check in &checks {
            if !said.contains(&check) {
                comment(out, "check", check);
                said.push(check);
            }
        }
        let _ =
            writeln!(out, "[[rule]]\nid = {}\nrow = {}\nfrom = {}", string(id), line.row, string(&from.id));
        if from.title != rule.from {
            let _ = writeln!(out, "from_title = {}", string(&rule.from));
        }
        let _ = writeln!(
            out,
            "to = {{ {to} }}\nto_title = {}\ntransport = {}",
            string(&rule.to),
            string(&rule.transport.to_string())
        );
        if let Some(app) = rule.app {
            let _ = writeln!(out, "app = {}", string(app.as_str()));
        }
        if !rule.ports.is_empty() {
            let _ = writeln!(out, "ports = {}", string(&rule.ports));
        }
        let _ = writeln!(out, "requirement = {}", string(requirement));
        if let Some(condition) = condition {
            let _ = writeln!(out, "condition = {}", string(&condition));
        }
        let _ = writeln!(out, "purpose = {}", string(&rule.purpose));
    }

    /// The id of a condition.
    fn condition(&mut self, when: &str) -> String {
        let when = when.strip_prefix("Note: ").unwrap_or(when);
        let mut title: String = when.chars().take(200).collect();
        if title.len() < when.len() {
            title.truncate(title.rfind(' ').unwrap_or(title.len()));
            title.push_str(" ...");
        }
        if let Some(id) = self.conditions.get(&title) {
            return id.clone();
        }
        let id = unique(&slug(&title, 40), "condition", &mut self.ids);
        self.in_order.push(title.clone());
        self.conditions.insert(title, id.clone());
        id
    }

    fn conditions_text(&self) -> String {
        let mut out = String::new();
        if !self.in_order.is_empty() {
            out.push_str("\n# Conditions, as the page words them. `unset`: what a silent site file means.\n");
        }
        for title in &self.in_order {
            let Some(id) = self.conditions.get(title) else { continue };
            let (id, title) = (string(id), string(title));
            let _ = writeln!(out, "\n[[condition]]\nid = {id}\ntitle = {title}\nunset = \"applies\"");
        }
        out
    }
}

/// A line of comment. What it says has no line feeds and nothing that could steer a terminal.
fn comment(out: &mut String, what: &str, text: &str) {
    let _ = writeln!(out, "# {what}: {}", shown(&text.replace('\n', " / ")));
}

/// A string of TOML, on one line.
fn string(text: &str) -> String {
    toml::Value::String(shown(&text.replace('\n', " "))).to_string()
}

/// `a`, `b`, ... `z`, `aa`, ...
fn letters(at: usize) -> String {
    let mut letters = Vec::new();
    let mut left = at + 1;
    while left > 0 {
        left -= 1;
        letters.push(char::from(b'a' + u8::try_from(left % 26).unwrap_or(0)));
        left /= 26;
    }
    letters.iter().rev().collect()
}

/// Small letters and digits with `-` between them; at most so many, and then whole words if there are any.
fn slug(text: &str, most: usize) -> String {
    let mut slug = String::new();
    for c in text.chars() {
        match c.to_ascii_lowercase() {
            c if c.is_ascii_lowercase() || c.is_ascii_digit() => slug.push(c),
            _ if slug.is_empty() || slug.ends_with('-') => {}
            _ => slug.push('-'),
        }
        if slug.len() > most {
            let words = slug.rfind('-').filter(|&at| at >= most / 2).unwrap_or(most);
            slug.truncate(words);
            break;
        }
    }
    slug.trim_end_matches('-').to_owned()
}

/// An identifier that is not taken yet.
fn unique(slug: &str, otherwise: &str, taken: &mut BTreeSet<String>) -> String {
    let base = if slug.is_empty() { otherwise } else { slug };
    let mut id = base.to_owned();
    let mut number = 1_u32;
    while !taken.insert(id.clone()) {
        number += 1;
        let suffix = format!("-{number}");
        let kept = base.get(..base.len().min(MAX_ID - suffix.len())).unwrap_or(otherwise);
        id = format!("{}{suffix}", kept.trim_end_matches('-'));
    }
    id
}
