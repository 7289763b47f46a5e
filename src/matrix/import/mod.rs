//! A draft of a rules pack from a vendor's port page, as it was saved: page -> tables -> rows -> draft.
//!
//! The page is read in one of three forms ([`markdown`], [`html`], [`asciidoc`]), each of which gives [`Table`]s of plain
//! cells. Here columns are told by their headings, and rows that a dump left shorter than the heading are filled from those
//! above. [`cells`] reads what a cell says, [`draft`] writes the pack. What is guessed says so in the draft, and every row
//! that is no rule stands there with the reason.

mod asciidoc;
mod cells;
mod draft;
mod html;
mod markdown;

use super::source::shown;
use crate::model::Transport;
use std::collections::BTreeSet;
use std::iter::Peekable;
use std::sync::Arc;

/// Bytes of the longest page that is read. The longest that is known, of a whole product, has 120 kB.
pub const MAX_PAGE_BYTES: u64 = 16 << 20;

/// Rows of all tables that are read. The page with the most that is known has 379.
const MAX_ROWS: usize = 20_000;

/// Things that are not read, and told one by one.
const MAX_UNREAD: usize = 200;

/// Cells of a row that are told apart; what stands behind is part of the last one.
const MAX_CELLS: usize = 32;

/// Bytes of a cell that are read: what spans many rows is looked at in each of them. The longest that is known has 2 kB.
const MAX_CELL_BYTES: usize = 16 << 10;

/// Bytes of a cell or a line as it is written, marks and all.
const MAX_WRITTEN_BYTES: usize = 4 * MAX_CELL_BYTES;

/// The text of a cell: plain, lines parted by line feeds, nothing in it that could steer a terminal.
type Cell = Arc<str>;

/// A pack as it was drafted, and what became of the page's rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackDraft {
    /// The pack, TOML. `rules lint` finds no mistake in it.
    pub text: String,
    /// Tables that tell ports.
    pub tables: usize,
    /// Rows of these tables; headings within them are not counted.
    pub rows: usize,
    /// Rules drafted.
    pub rules: usize,
    /// Of these, how many say that something was guessed.
    pub to_check: usize,
    /// Rows that gave no rule.
    pub left_out: usize,
    /// Lines of the page on which tables begin that tell no ports, and so gave nothing. Boxes without a heading are not told.
    pub other_tables: Vec<u32>,
    /// Lines on which something stands that may tell ports and was not read: a table whose columns are not known, or
    /// one that the page comments out. The draft says why of each.
    pub unread: Vec<u32>,
}

/// Why a page gives no pack.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// Nothing in it is a table.
    #[error(
        "no table is found in it: a page saved as HTML, as Markdown with tables of `|`, or as AsciiDoc with `|===` is wanted"
    )]
    NoTable,
    /// No table has a column of ports.
    #[error(
        "none of its {0} table(s) has a column of ports and a row below it, so no rule can be made of it"
    )]
    NoPorts(usize),
    /// The tables of ports gave nothing.
    #[error(
        "none of the {rows} rows of its port tables could become a rule; the first, in line {line}: {why}"
    )]
    NoRule {
        /// How many rows there are.
        rows: usize,
        /// Where the first one stands.
        line: u32,
        /// Why it gives no rule.
        why: String,
    },
    /// A page with its pictures in one file.
    #[error(
        "it is a web archive (MHTML), in which the page is encoded: save the page as HTML only, and import that"
    )]
    WebArchive,
    /// More than any page has.
    #[error("more than {MAX_ROWS} rows of tables: this is no page of ports")]
    TooManyRows,
    /// The pack would not be read again.
    #[error("the pack that was drafted has a mistake ({0}): no pack can be made of this page")]
    Unsound(String),
}

/// A page in whatever form: what it says of itself, and its tables.
#[derive(Clone, Debug, Default)]
struct Page {
    title: Option<String>,
    product: Option<String>,
    version: Option<String>,
    date: Option<String>,
    url: Option<String>,
    tables: Vec<Table>,
    /// Digits with which a line of the text begins as a footnote does: glued to a title, they are no part of it.
    footnotes: BTreeSet<char>,
    rows: usize,
    /// What may tell ports and was not read: its line, and why.
    unread: Vec<(u32, String)>,
}

/// A table, cells that span several rows repeated in each of them.
#[derive(Clone, Debug)]
struct Table {
    /// What stands above it: its caption, or the heading of its section.
    section: String,
    /// The last port that the text before it names ("over TCP port 443").
    told_port: Option<(Transport, u16)>,
    /// The line of the page, from 1, on which its heading stands.
    line: u32,
    head: Vec<Cell>,
    rows: Vec<Row>,
    /// Whether an empty cell is empty: the page has its spans, or a line of `---` as Markdown wants it.
    whole: bool,
}

#[derive(Clone, Debug, Default)]
struct Row {
    line: u32,
    cells: Vec<Cell>,
    /// One cell over all columns.
    spanning: bool,
    /// Why the page does not mean it: it is struck out, or hidden.
    gone: Option<&'static str>,
    /// What is to be checked of it.
    check: Option<String>,
}

/// The text around tables, as it goes by.
#[derive(Clone, Debug, Default)]
struct Around {
    heading: String,
    /// The line before, if it could be a table's caption.
    caption: Option<String>,
    told_port: Option<(Transport, u16)>,
}

impl Around {
    fn heading(&mut self, text: &str) {
        let text = clean(text).replace('\n', " ");
        if !text.is_empty() {
            self.heading = text;
        }
        self.caption = None;
    }

    fn line(&mut self, text: &str, page: &mut Page) {
        let text = clean(text).replace('\n', " ");
        if text.is_empty() {
            return;
        }
        self.told_port = cells::told_port(&text).or(self.told_port);
        let mut chars = text.chars();
        if let (Some(digit), Some(next)) = (chars.next().filter(char::is_ascii_digit), chars.next())
            && (next.is_alphabetic() || (next == ' ' && chars.next().is_some_and(char::is_alphabetic)))
        {
            page.footnotes.insert(digit);
        }
        let names = text.chars().count() <= 120
            && !text.ends_with(['.', ':', ';', ','])
            && text.starts_with(char::is_alphanumeric);
        self.caption = names.then_some(text);
    }

    fn section(&self) -> String {
        self.caption.clone().unwrap_or_else(|| self.heading.clone())
    }
}

impl Page {
    /// Takes what stands between two lines of `---` where the page begins with one: `key: value`, line by line.
    fn front_matter<'t>(&mut self, lines: &mut Peekable<impl Iterator<Item = (u32, &'t str)>>) {
        if lines.next_if(|(_, line)| line.trim_end() == "---").is_none() {
            return;
        }
        for (_, line) in lines.take_while(|(_, line)| line.trim_end() != "---") {
            if let Some((key, value)) = line.split_once(':') {
                self.told(key, value);
            }
        }
    }

    /// Takes the rows of one table, of which the first is its heading. `whole`: see [`Table`].
    fn add(&mut self, around: &mut Around, rows: Vec<Row>, whole: bool) -> Result<(), ImportError> {
        self.rows += rows.len();
        if self.rows > MAX_ROWS {
            return Err(ImportError::TooManyRows);
        }
        let mut rows = rows.into_iter().map(|row| Row { cells: bounded(row.cells), ..row });
        if let Some(head) = rows.next() {
            self.tables.push(Table {
                section: around.section(),
                told_port: around.told_port,
                line: head.line,
                head: head.cells,
                rows: rows.collect(),
                whole,
            });
        }
        around.caption = None;
        Ok(())
    }

    /// What may tell ports, and is not read.
    fn unread(&mut self, line: u32, why: &str) {
        if self.unread.len() < MAX_UNREAD {
            self.unread.push((line, why.to_owned()));
        }
    }

    /// What a line of front matter, or an attribute of a document, says of the page.
    fn told(&mut self, key: &str, value: &str) {
        let value = clean(value.trim().trim_matches(['"', '\''])).replace('\n', " ");
        let place = match key.trim().to_ascii_lowercase().as_str() {
            "title" => &mut self.title,
            "product" => &mut self.product,
            "product_version" | "version" | "revnumber" => &mut self.version,
            "last_updated" | "ms.date" | "date" | "last-modified" | "revdate" => &mut self.date,
            "source_url" | "url" | "canonical" | "og:url" => &mut self.url,
            _ => return,
        };
        if place.is_none() && !value.is_empty() {
            *place = Some(value);
        }
    }
}

/// What the page takes out of a row: why the row is none, or what is to be checked of what is left.
fn taken_out(cells: &[Cell], hidden: bool, struck: bool) -> (Option<&'static str>, Option<String>) {
    let empty = cells.iter().all(|cell| cell.is_empty());
    match (hidden, struck, empty) {
        (true, ..) => (Some("the page hides it"), None),
        (_, true, true) => (Some("the page strikes it out"), None),
        (_, true, false) => (None, Some("something of the row is struck out".to_owned())),
        _ => (None, None),
    }
}

/// No more cells than [`MAX_CELLS`]: the last one holds what is left.
fn bounded(mut cells: Vec<Cell>) -> Vec<Cell> {
    if cells.len() > MAX_CELLS {
        let rest = cells.split_off(MAX_CELLS - 1);
        cells.push(cell(&rest.join(" ")));
    }
    cells
}

/// Plain text: spaces made one, lines trimmed, empty ones left out, and what could steer a terminal escaped.
fn clean(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let visible = line.replace(
            [
                '\u{200b}', '\u{200e}', '\u{200f}', '\u{2060}', '\u{2061}', '\u{2062}', '\u{2063}',
                '\u{2064}', '\u{feff}', '\u{ad}',
            ],
            "",
        );
        let line = visible.split_whitespace().collect::<Vec<_>>().join(" ");
        if !line.is_empty() {
            lines.push(shown(&line));
        }
    }
    lines.join("\n")
}

/// A cell of this text, cut where it is longer than any is.
fn cell(text: &str) -> Cell {
    let mut text = clean(text);
    let short = cut(&text, MAX_CELL_BYTES).len();
    if short < text.len() {
        text.truncate(short);
        text.push_str(" ...");
    }
    text.into()
}

/// The beginning of a text, at most so many bytes.
fn cut(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

/// What a column tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    From,
    To,
    /// "Any to Any".
    FromTo,
    Protocol,
    Port,
    /// "22 TCP", "8400 (TCP)".
    PortProtocol,
    /// Ports of one transport: "UDP port".
    PortOf(Transport),
    /// The ends of a range.
    PortStart,
    PortEnd,
    /// A further column of ports, of which it is not known what they are.
    MorePorts,
    /// Inbound or outbound.
    Direction,
    /// Whether traffic is allowed.
    Action,
    /// When the row is needed.
    Need,
    Text,
    Other,
}

impl Column {
    fn is_ports(self) -> bool {
        matches!(self, Column::Port | Column::PortProtocol | Column::PortOf(_) | Column::PortStart)
    }
}

/// The words of a heading, in small letters.
fn heading_words(cell: &str) -> Vec<String> {
    cell.split(|c: char| !c.is_alphanumeric())
        .map(str::to_lowercase)
        .filter(|word| !word.is_empty())
        .collect()
}

/// The columns of a table by the words of its heading; each kind once, the first of it counts.
fn columns(head: &[Cell]) -> Vec<Column> {
    let words: Vec<Vec<String>> = head.iter().map(|cell| heading_words(cell)).collect();
    let ports = words.iter().filter(|words| is_any(words, &["port", "ports"])).count();
    let ends =
        |mark: &[&str]| words.iter().any(|words| is_any(words, &["port", "ports"]) && is_any(words, mark));
    let range = ends(&STARTS) && ends(&ENDS);
    let ends_at = ends(&SERVERS);
    let mut found: Vec<Column> = Vec::new();
    for words in &words {
        let mut column = column(words);
        if column == Column::Port {
            column = match () {
                () if range && is_any(words, &STARTS) => Column::PortStart,
                () if range && is_any(words, &ENDS) => Column::PortEnd,
                // The initiator's port says nothing.
                () if is_any(words, &["source", "client", "ephemeral", "initiator", "from"]) => Column::Other,
                () if ports > 1 && ends_at && is_any(words, &["local"]) => Column::Other,
                () => Column::Port,
            };
        }
        let twice = column != Column::Other && found.contains(&column);
        let more = column.is_ports() && found.iter().any(|known| known.is_ports());
        let apart = matches!(column, Column::PortOf(_))
            && found.iter().all(|known| !known.is_ports() || matches!(known, Column::PortOf(_)));
        found.push(match (twice, more && !apart) {
            (true, false) => Column::Other,
            (_, true) => Column::MorePorts,
            (false, false) => column,
        });
    }
    found
}

/// Words of headings of ports at which a range begins, at which it ends, and that the destination listens on.
const STARTS: [&str; 6] = ["start", "from", "first", "begin", "low", "lower"];
const ENDS: [&str; 6] = ["end", "to", "last", "high", "upper", "until"];
const SERVERS: [&str; 5] = ["destination", "server", "remote", "listening", "target"];

fn is_any(words: &[String], known: &[&str]) -> bool {
    words.iter().any(|word| known.contains(&word.as_str()))
}

/// What a column tells, by its heading alone.
fn column(words: &[String]) -> Column {
    let any = |known: &[&str]| is_any(words, known);
    let all = |known: &[&str]| !words.is_empty() && words.iter().all(|word| known.contains(&word.as_str()));
    let ports = any(&["port", "ports"]);
    let protocol = any(&["protocol", "protocols", "transport"]);
    let (tcp, udp) = (any(&["tcp"]), any(&["udp"]));
    // "From version" and "Reason to open" are about nobody.
    let side = [
        "from",
        "to",
        "the",
        "and",
        "or",
        "of",
        "component",
        "components",
        "server",
        "servers",
        "host",
        "hosts",
        "machine",
        "machines",
        "address",
        "addresses",
        "ip",
        "system",
        "systems",
        "service",
        "name",
        "names",
        "role",
        "client",
        "node",
        "nodes",
        "side",
        "source",
        "destination",
        "connection",
        "connections",
        "connects",
        "connecting",
        "connect",
        "connected",
        "accessed",
        "initiated",
        "traffic",
        "target",
        "fqdn",
        "hostname",
        "dns",
        "url",
    ];
    let from = any(&["source", "sources", "initiator", "initiators", "origin"])
        || (any(&["from"]) && all(&side))
        || all(&["client", "clients"]);
    let to = any(&["destination", "destinations", "target", "targets"])
        || (any(&["to"]) && all(&side))
        || all(&["server", "servers"]);
    let address =
        any(&["endpoint", "endpoints", "fqdn", "fqdns", "url", "urls", "domain", "hostname", "address"]);
    let need =
        ["when", "required", "requirement", "mandatory", "optional", "is", "it", "needed", "by", "default"];
    match (ports, protocol, from, to) {
        (true, true, ..) => Column::PortProtocol,
        (true, ..) if tcp && udp => Column::PortProtocol,
        (true, ..) if tcp => Column::PortOf(Transport::Tcp),
        (true, ..) if udp => Column::PortOf(Transport::Udp),
        (true, ..) => Column::Port,
        (false, true, ..) => Column::Protocol,
        _ if any(&[
            "action",
            "allow",
            "allowed",
            "permission",
            "permissions",
            "permit",
            "permitted",
            "access",
        ]) && all(&[
            "action",
            "allow",
            "allowed",
            "deny",
            "denied",
            "block",
            "access",
            "permission",
            "permissions",
            "permit",
            "permitted",
            "by",
            "default",
            "firewall",
            "traffic",
            "rule",
            "type",
            "or",
        ]) =>
        {
            Column::Action
        }
        (false, false, true, true) => Column::FromTo,
        (false, false, true, false) => Column::From,
        (false, false, false, true) => Column::To,
        _ if any(&["when", "required", "requirement", "mandatory"]) && all(&need) => Column::Need,
        _ if any(&["direction"]) => Column::Direction,
        _ if any(&[
            "description",
            "descriptions",
            "notes",
            "note",
            "use",
            "usage",
            "purpose",
            "reason",
            "comment",
            "comments",
            "details",
        ]) =>
        {
            Column::Text
        }
        _ if address => Column::To,
        _ if any(&["when", "required", "requirement", "mandatory"]) => Column::Need,
        _ => Column::Other,
    }
}

/// Columns that are told by what stands in them: a "Type" may be the protocol, or the direction.
fn by_cells(columns: &mut [Column], table: &Table) {
    for place in 0..columns.len() {
        let Some(column) = columns.get(place).copied() else { continue };
        if !matches!(column, Column::Other | Column::Direction) {
            continue;
        }
        let filled: Vec<&Cell> = table
            .rows
            .iter()
            .filter(|row| row.cells.len() == columns.len())
            .filter_map(|row| row.cells.get(place))
            .filter(|cell| !cell.is_empty())
            .collect();
        let all = |of: &dyn Fn(&str) -> bool| !filled.is_empty() && filled.iter().all(|cell| of(cell));
        let told = if !columns.contains(&Column::Protocol) && all(&cells::is_protocol) {
            Column::Protocol
        } else if !columns.contains(&Column::Direction) && all(&|cell| cells::direction(cell).is_some()) {
            Column::Direction
        } else {
            continue;
        };
        if let Some(column) = columns.get_mut(place) {
            *column = told;
        }
    }
}

/// A row of a port table, its lost cells filled in.
#[derive(Clone, Debug, Default)]
struct Line {
    /// Which row of the page, from 1 over all port tables.
    row: u32,
    /// Its line in the page, from 1.
    line: u32,
    /// The row as the page has it.
    cells: Vec<Cell>,
    from: Option<Cell>,
    to: Option<Cell>,
    protocol: Option<Cell>,
    ports: Option<Cell>,
    need: Option<Cell>,
    text: Option<Cell>,
    /// Whether the table has a column that tells what is allowed, and its cell.
    action: Option<Cell>,
    direction: Option<Cell>,
    /// What was guessed of it.
    checks: Vec<String>,
    /// Why it cannot be a rule, if its cells do not fit the columns.
    misfit: Option<String>,
}

/// A port table: what stands above it, and its rows.
#[derive(Clone, Debug)]
struct Ports {
    section: String,
    line: u32,
    /// Whether there is a column for the initiator, and for the destination.
    has_from: bool,
    has_to: bool,
    /// Where there is no column of ports: the port of the text before the table, if it names one.
    told_port: Option<Option<(Transport, u16)>>,
    /// Rows with fewer cells than the heading, where these are most of them.
    short: usize,
    lines: Vec<Line>,
}

/// Reads a page and drafts a pack from it. `file` is what the page is called in the draft.
///
/// # Errors
/// No table, no table of ports, no row that could be a rule: see [`ImportError`].
pub fn import(file: &str, text: &str) -> Result<PackDraft, ImportError> {
    let mut page = read(text)?;
    let all = std::mem::take(&mut page.tables);
    let count = all.len();
    let mut counted = 0;
    let mut tables = Vec::new();
    let mut other_tables = Vec::new();
    for table in all {
        let line = table.line;
        let table = headed(table);
        match port_table(&table, &mut counted) {
            Some(ports) if !ports.lines.is_empty() => tables.push(ports),
            _ if tells_ports(&table) => {
                page.unread(line, "a table that may tell ports, but not in columns that are known")
            }
            _ if table.head.iter().filter(|cell| !cell.is_empty()).count() > 1 => other_tables.push(line),
            _ => {}
        }
    }
    page.unread.sort_by_key(|(line, _)| *line);
    match (count == 0, tables.is_empty()) {
        (true, _) => Err(ImportError::NoTable),
        (false, true) => Err(ImportError::NoPorts(count)),
        (false, false) => draft::write(file, &page, &tables, other_tables),
    }
}

/// A table whose heading may stand below a title of its own, or on two lines.
fn headed(mut table: Table) -> Table {
    let few = |cells: &[Cell]| cells.iter().filter(|cell| !cell.is_empty()).count() <= 1;
    let tells = |head: &[Cell]| columns(head).iter().any(|column| column.is_ports());
    // Titles of one cell, and lines of none.
    let titles = std::iter::once(&table.head[..])
        .chain(table.rows.iter().map(|row| &row.cells[..]))
        .take_while(|cells| few(cells))
        .take(3)
        .count();
    if titles > 0
        && few(&table.head)
        && let Some(row) = table.rows.get(titles - 1).filter(|row| tells(&row.cells))
    {
        table.head.clone_from(&row.cells);
        table.rows.drain(..titles);
    }
    // "Ports" over "TCP" and "UDP".
    let spanned = table.head.iter().skip(1).any(|cell| cell.is_empty());
    if let Some(row) = table.rows.first().filter(|_| spanned)
        && row.cells.len() == table.head.len()
        && !row.cells.iter().any(|cell| cell.contains(|c: char| c.is_ascii_digit()))
    {
        let mut left = Cell::default();
        let mut merged: Vec<Cell> = Vec::new();
        for (head, below) in table.head.iter().zip(&row.cells) {
            if !head.is_empty() {
                left = head.clone();
            }
            merged.push(match (below.is_empty() || *below == left, head.is_empty()) {
                (true, _) => head.clone(),
                (false, _) => format!("{left} {below}").into(),
            });
        }
        let known = |head: &[Cell]| columns(head).iter().filter(|column| **column != Column::Other).count();
        if known(&merged) > known(&table.head) {
            table.head = merged;
            table.rows.remove(0);
        }
    }
    table
}

/// Whether a table has something in it that could be ports.
fn tells_ports(table: &Table) -> bool {
    let rows = || std::iter::once(&table.head[..]).chain(table.rows.iter().map(|row| &row.cells[..]));
    let heading = |cell: &Cell| {
        let words = heading_words(cell);
        words.len() <= 6 && is_any(&words, &["port", "ports"])
    };
    let told = |cells: &[Cell]| {
        let transport = |cell: &Cell| is_any(&heading_words(cell), &["tcp", "udp", "icmp"]);
        let number = |cell: &Cell| cell.len() <= 200 && cells::ports(cell).is_ok();
        cells.iter().any(heading) || (cells.iter().any(transport) && cells.iter().any(number))
    };
    rows().any(told)
}

/// The page in whichever form it is.
fn read(text: &str) -> Result<Page, ImportError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let has_html = || text.as_bytes().windows(6).any(|bytes| bytes.eq_ignore_ascii_case(b"<table"));
    let archive = |line: &str| {
        let lower = line.to_ascii_lowercase();
        lower.starts_with("mime-version:") || lower.starts_with("content-type: multipart/related")
    };
    if text.lines().take(60).take_while(|line| !line.starts_with('<')).any(archive) {
        return Err(ImportError::WebArchive);
    }
    let has_bars = || text.lines().any(|line| line.starts_with('|') && markdown::is_delimiter(line.trim()));
    if text.trim_start().starts_with('<') && has_html() && !has_bars() {
        return html::read(text);
    }
    if text.lines().any(|line| line.trim_end() == "|===") {
        return asciidoc::read(text);
    }
    let mut page = markdown::read(text)?;
    // Markdown may hold tables of HTML.
    if has_html() {
        let more = html::read(&markdown::html_of(text))?;
        page.rows += more.rows;
        if page.rows > MAX_ROWS {
            return Err(ImportError::TooManyRows);
        }
        page.tables.extend(more.tables);
        page.unread.extend(more.unread);
        page.tables.sort_by_key(|table| table.line);
    }
    Ok(page)
}

/// The columns of a table that tells ports; none if it does not.
fn port_columns(table: &Table) -> Option<Vec<Column>> {
    let mut columns = columns(&table.head);
    by_cells(&mut columns, table);
    if columns.iter().any(|column| column.is_ports()) {
        let more =
            [Column::From, Column::To, Column::FromTo, Column::Protocol, Column::PortProtocol, Column::Text];
        let told = |column: &Column| more.contains(column) || matches!(column, Column::PortOf(_));
        return columns.iter().any(told).then_some(columns);
    }
    // A table of addresses without ports: those are in their schemes, or in the text before it.
    let width = columns.len();
    let addresses = |at: usize| {
        let filled = table.rows.iter().filter_map(|row| row.cells.get(at)).filter(|cell| !cell.is_empty());
        let (mut all, mut named) = (0_usize, 0_usize);
        for cell in filled {
            all += 1;
            named += usize::from(cells::is_address(cell));
        }
        all > 0 && named * 10 >= all * 8
    };
    let at = (0..width).find(|&at| addresses(at))?;
    for (place, column) in columns.iter_mut().enumerate() {
        match (place == at, *column) {
            (true, _) => *column = Column::To,
            (false, Column::To | Column::FromTo | Column::Protocol) => *column = Column::Other,
            (false, _) => {}
        }
    }
    let ports_told = table.told_port.is_some()
        || table.rows.iter().filter_map(|row| row.cells.get(at)).any(|cell| cell.contains("://"));
    ports_told.then_some(columns)
}

fn port_table(table: &Table, counted: &mut u32) -> Option<Ports> {
    let columns = port_columns(table)?;
    let has = |kinds: &[Column]| columns.iter().any(|column| kinds.contains(column));
    let has_ports = columns.iter().any(|column| column.is_ports());
    // Where most rows are short their spans were lost, and that is told once.
    let rows = table.rows.iter().filter(|row| row.gone.is_none() && !is_heading(row, &columns));
    let (short, all) = rows
        .fold((0, 0), |(short, all), row| (short + usize::from(row.cells.len() < columns.len()), all + 1));
    let lost_spans = short * 2 > all;
    let mut lines: Vec<Line> = Vec::new();
    // After a heading within the table nothing is carried over.
    let mut above: Option<Line> = None;
    for row in &table.rows {
        if row.gone.is_none() && (is_heading(row, &columns) || row.cells == table.head) {
            above = None;
            continue;
        }
        *counted += 1;
        let line = Line { row: *counted, line: row.line, cells: row.cells.clone(), ..Line::default() };
        let mut line = fill(line, &columns, above.as_ref(), table.whole && !lost_spans);
        line.checks.extend(row.check.clone());
        if let Some(why) = row.gone {
            line.misfit = Some(why.to_owned());
        }
        if line.misfit.is_none() {
            above = Some(line.clone());
        }
        lines.push(line);
    }
    Some(Ports {
        section: table.section.clone(),
        line: table.line,
        has_from: has(&[Column::From, Column::FromTo]),
        has_to: has(&[Column::To, Column::FromTo]),
        told_port: (!has_ports).then_some(table.told_port),
        short: if lost_spans { short } else { 0 },
        lines,
    })
}

/// Whether a row is a heading within the table: "Communication with Mail Servers".
fn is_heading(row: &Row, columns: &[Column]) -> bool {
    let filled = row.cells.iter().filter(|cell| !cell.is_empty()).count();
    let [first, rest @ ..] = &row.cells[..] else { return true };
    let alone = filled == 1 && !first.is_empty();
    let over_all = row.spanning || (alone && !rest.is_empty() && row.cells.len() >= columns.len());
    let words = ["communication ", "connection ", "connections "];
    let lower = first.to_ascii_lowercase();
    let told = heading_words(first);
    // Ports over all columns are no heading.
    if cells::is_ports(first)
        || (is_any(&told, &["tcp", "udp", "icmp", "port", "ports"])
            && first.contains(|c: char| c.is_ascii_digit()))
    {
        return false;
    }
    filled == 0
        || (alone && over_all)
        || (alone && words.iter().any(|word| lower.starts_with(word)) && !cells::is_sentence(first))
}

/// Which cell stands in which column, and what the row carries over from the one above.
fn fill(mut line: Line, columns: &[Column], above: Option<&Line>, whole: bool) -> Line {
    let placed = match line.cells.len() {
        all if all >= columns.len() => (0..columns.len()).collect(),
        _ => places(&line.cells, columns),
    };
    let mut own: Vec<(Column, Cell)> = placed
        .iter()
        .zip(&line.cells)
        .filter_map(|(&at, cell)| Some((*columns.get(at)?, cell.clone())))
        .filter(|(_, cell)| !cell.is_empty())
        .collect();
    if line.cells.len() > columns.len()
        && let Some((_, last)) = own.last_mut()
    {
        let rest = line.cells.get(columns.len()..).unwrap_or_default();
        *last =
            std::iter::once(last.clone()).chain(rest.iter().cloned()).collect::<Vec<_>>().join(" | ").into();
        line.checks.push("the row has more cells than the heading: the last ones were taken for one".into());
    }
    let short = line.cells.len() < columns.len();
    if short
        && above.is_none()
        && !own.iter().any(|(column, _)| matches!(column, Column::From | Column::FromTo))
        && columns.iter().any(|column| matches!(column, Column::From | Column::FromTo))
    {
        line.misfit =
            Some("it has fewer cells than the heading, and no row above to carry them over from".into());
        return line;
    }
    for (column, cell) in &own {
        let place = match column {
            Column::From => &mut line.from,
            Column::To => &mut line.to,
            Column::Protocol => &mut line.protocol,
            Column::Port => &mut line.ports,
            Column::Need => &mut line.need,
            Column::Text => &mut line.text,
            Column::FromTo => {
                let Some((from, to)) = from_to(cell) else {
                    line.misfit = Some("which of its cell is the initiator cannot be told".into());
                    return line;
                };
                (line.from, line.to) = (Some(from), Some(to));
                continue;
            }
            Column::PortOf(_) | Column::PortStart | Column::PortEnd => continue,
            Column::MorePorts => {
                line.checks.push(format!("a second column of ports: {} was not taken", cells::quoted(cell)));
                continue;
            }
            Column::Action => &mut line.action,
            Column::Direction => &mut line.direction,
            Column::PortProtocol => {
                line.ports = Some(cell.clone());
                line.protocol = Some(cell.clone());
                continue;
            }
            Column::Other => continue,
        };
        *place = Some(cell.clone());
    }
    several_columns(&mut line, &own);
    if columns.contains(&Column::Action) && line.action.is_none() && line.cells.len() >= columns.len() {
        line.action = Some("".into());
    }
    // Two columns whose cells were swapped.
    if let (Some(protocol), Some(ports)) = (&line.protocol, &line.ports)
        && protocol != ports
        && cells::is_ports(protocol)
        && cells::is_protocol(ports)
    {
        std::mem::swap(&mut line.protocol, &mut line.ports);
        line.checks.push("port and protocol stand in each other's column".into());
    }
    let Some(above) = above else { return line };
    let had = |column: Column| own.iter().any(|(own, _)| *own == column);
    let mut carried: Vec<&str> = Vec::new();
    let mut carry = |own: &mut Option<Cell>, above: &Option<Cell>, what: &'static str| {
        if own.is_none() && above.is_some() {
            own.clone_from(above);
            carried.push(what);
        }
    };
    carry(&mut line.from, &above.from, "initiator");
    carry(&mut line.to, &above.to, "destination");
    if short {
        let alone = own.len() == 1;
        if alone && had(Column::Text) {
            line.checks.push("a row of one cell: taken for a further purpose of the row above".into());
        } else if alone && had(Column::To) {
            line.checks.push("a row of one cell: taken for a further destination of the row above".into());
        }
        let paired = own.iter().any(|(column, _)| column.is_ports() && *column != Column::Port);
        if !paired {
            carry(&mut line.protocol, &above.protocol, "protocol");
            carry(&mut line.ports, &above.ports, "ports");
        }
        carry(&mut line.action, &above.action, "action");
        if line.text.is_none() && above.text.is_some() {
            line.text.clone_from(&above.text);
            if !alone {
                line.checks.push("the row has no description: that of the row above is taken".into());
            }
        }
        if line.need.is_none() {
            line.need.clone_from(&above.need);
        }
    }
    // Where nothing was lost, an empty cell may mean that there is none.
    if !carried.is_empty() && (whole || !short) {
        line.checks.push(format!("empty, and so taken from the row above: {}", carried.join(", ")));
    }
    line
}

/// The two ends of "A to B", "A -> B"; none where it cannot be told which is which.
fn from_to(cell: &str) -> Option<(Cell, Cell)> {
    if cell.contains(['\u{2194}', '\u{21d4}']) || cell.contains("<-") || cell.contains("<=") {
        return None;
    }
    let marks = [" to ", "->", "=>", "\u{2192}", "\u{21d2}", "\n"];
    let mark = marks.into_iter().find(|mark| cell.contains(mark))?;
    let mut parts = cell.split(mark).map(str::trim);
    let (from, to) = (parts.next()?, parts.next()?);
    let two = parts.next().is_none() && !from.is_empty() && !to.is_empty();
    (two && !to.contains('\n') && !from.contains('\n')).then(|| (from.into(), to.into()))
}

/// Ports of a row that stand in several columns: one for each transport, or the two ends of a range.
fn several_columns(line: &mut Line, own: &[(Column, Cell)]) {
    let of = |wanted: Column| own.iter().find(|(column, _)| *column == wanted).map(|(_, cell)| cell);
    let nothing = |cell: &str| {
        !cell.contains(|c: char| c.is_alphanumeric())
            || ["n/a", "none"].contains(&cell.to_ascii_lowercase().as_str())
    };
    let apart: Vec<String> = own
        .iter()
        .filter(|(_, cell)| !nothing(cell))
        .filter_map(|(column, cell)| match column {
            Column::PortOf(transport) => Some(format!("{} {cell}", transport.to_string().to_uppercase())),
            _ => None,
        })
        .collect();
    if !apart.is_empty() {
        let ports: Cell = apart.join("; ").into();
        if line.protocol.is_none() {
            line.protocol = Some(ports.clone());
        }
        line.ports = Some(ports);
    }
    if let Some(start) = of(Column::PortStart) {
        line.ports = Some(match of(Column::PortEnd).filter(|end| *end != start) {
            Some(end) if !nothing(end) => format!("{start}-{end}").into(),
            _ => start.clone(),
        });
    }
}

/// The columns in which the cells of a short row stand best, in their order: what looks like ports belongs to ports, a
/// sentence to the description. Of equal ways the rightmost counts, since what is lost are cells of rows above.
fn places(cells: &[Cell], columns: &[Column]) -> Vec<usize> {
    let fits: Vec<[bool; 3]> = cells
        .iter()
        .map(|cell| [cells::is_protocol(cell), cells::is_ports(cell), cells::is_sentence(cell)])
        .collect();
    let score = |cell: usize, column: usize| {
        let [protocol, ports, sentence] = fits.get(cell).copied().unwrap_or_default();
        match columns.get(column) {
            Some(Column::Protocol) => {
                if protocol {
                    10
                } else {
                    -10
                }
            }
            Some(
                Column::Port | Column::PortOf(_) | Column::PortStart | Column::PortEnd | Column::MorePorts,
            ) => {
                if ports {
                    10
                } else {
                    -10
                }
            }
            Some(Column::PortProtocol) => {
                if ports || protocol {
                    10
                } else {
                    -10
                }
            }
            _ if protocol || ports => -10,
            Some(Column::Text | Column::Need) => {
                if sentence {
                    5
                } else {
                    -4
                }
            }
            Some(Column::From | Column::To | Column::FromTo) => {
                if sentence {
                    -5
                } else {
                    3
                }
            }
            Some(Column::Other | Column::Direction | Column::Action) | None => 0,
        }
    };
    let width = columns.len();
    // best[i][j]: of the first i cells in the first j columns.
    let mut best = vec![vec![i64::MIN / 2; width + 1]; cells.len() + 1];
    if let Some(first) = best.first_mut() {
        first.fill(0);
    }
    let at = |best: &[Vec<i64>], i: usize, j: usize| {
        best.get(i).and_then(|row| row.get(j)).copied().unwrap_or(i64::MIN / 2)
    };
    for i in 1..=cells.len() {
        for j in i..=width {
            let used = at(&best, i - 1, j - 1) + score(i - 1, j - 1);
            let left = at(&best, i, j - 1);
            if let Some(place) = best.get_mut(i).and_then(|row| row.get_mut(j)) {
                *place = used.max(left);
            }
        }
    }
    let (mut i, mut j) = (cells.len(), width);
    let mut placed = Vec::new();
    while i > 0 && j > 0 {
        if at(&best, i - 1, j - 1) + score(i - 1, j - 1) >= at(&best, i, j - 1) {
            placed.push(j - 1);
            i -= 1;
        }
        j -= 1;
    }
    placed.reverse();
    placed
}

#[cfg(test)]
mod tests;
