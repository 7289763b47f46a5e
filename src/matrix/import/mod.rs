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
use std::collections::BTreeSet;
use std::sync::Arc;

/// Bytes of the longest page that is read. The longest that is known, of a whole product, has 120 kB.
pub const MAX_PAGE_BYTES: u64 = 16 << 20;

/// Rows of all tables that are read. The page with the most that is known has 379.
const MAX_ROWS: usize = 20_000;

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
}

/// A table, cells that span several rows repeated in each of them.
#[derive(Clone, Debug)]
struct Table {
    /// What stands above it: its caption, or the heading of its section.
    section: String,
    /// The last port that the text before it names ("over TCP port 443").
    told_port: Option<u16>,
    /// The line of the page, from 1, on which its heading stands.
    line: u32,
    head: Vec<Cell>,
    rows: Vec<Row>,
}

#[derive(Clone, Debug)]
struct Row {
    line: u32,
    cells: Vec<Cell>,
    /// One cell over all columns.
    spanning: bool,
}

/// The text around tables, as it goes by.
#[derive(Clone, Debug, Default)]
struct Around {
    heading: String,
    /// The line before, if it could be a table's caption.
    caption: Option<String>,
    told_port: Option<u16>,
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
    /// Takes the rows of one table, of which the first is its heading.
    fn add(&mut self, around: &mut Around, rows: Vec<Row>) -> Result<(), ImportError> {
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
            });
        }
        around.caption = None;
        Ok(())
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
        let visible = line.replace(['\u{200b}', '\u{2060}', '\u{feff}', '\u{ad}'], "");
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
    /// When the row is needed.
    Need,
    Text,
    Other,
}

/// The columns of a table by the words of its heading; each kind once, the first of it counts.
fn columns(head: &[Cell]) -> Vec<Column> {
    let mut found: Vec<Column> = Vec::new();
    for cell in head {
        let words: Vec<String> = cell
            .split(|c: char| !c.is_alphanumeric())
            .map(str::to_lowercase)
            .filter(|word| !word.is_empty())
            .collect();
        let any = |known: &[&str]| words.iter().any(|word| known.contains(&word.as_str()));
        let ports = any(&["port", "ports"]);
        let protocol = any(&["protocol", "protocols", "transport"]);
        let from = any(&["from", "source", "sources", "initiator", "initiators", "origin"]);
        let to = any(&[
            "to",
            "destination",
            "destinations",
            "target",
            "targets",
            "endpoint",
            "endpoints",
            "fqdn",
            "fqdns",
            "url",
            "urls",
            "domain",
            "hostname",
            "address",
        ]);
        let column = match (ports, protocol, from, to) {
            (true, true, ..) => Column::PortProtocol,
            // The initiator's port says nothing.
            (true, false, true, _) => Column::Other,
            (true, false, false, _) => Column::Port,
            (false, true, ..) => Column::Protocol,
            (false, false, true, true) => Column::FromTo,
            (false, false, true, false) => Column::From,
            _ if any(&["when", "required", "requirement", "mandatory"]) => Column::Need,
            _ if any(&[
                "description",
                "descriptions",
                "notes",
                "note",
                "use",
                "usage",
                "purpose",
                "comment",
                "comments",
                "details",
            ]) =>
            {
                Column::Text
            }
            (false, false, false, true) => Column::To,
            _ => Column::Other,
        };
        let twice = column != Column::Other && found.contains(&column);
        found.push(if twice { Column::Other } else { column });
    }
    found
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
    told_port: Option<Option<u16>>,
    lines: Vec<Line>,
}

/// Reads a page and drafts a pack from it. `file` is what the page is called in the draft.
///
/// # Errors
/// No table, no table of ports, no row that could be a rule: see [`ImportError`].
pub fn import(file: &str, text: &str) -> Result<PackDraft, ImportError> {
    let page = read(text)?;
    let mut counted = 0;
    let mut tables = Vec::new();
    let mut other_tables = Vec::new();
    for table in &page.tables {
        match port_table(table, &mut counted) {
            Some(ports) if !ports.lines.is_empty() => tables.push(ports),
            _ if table.head.iter().filter(|cell| !cell.is_empty()).count() > 1 => {
                other_tables.push(table.line)
            }
            _ => {}
        }
    }
    match (page.tables.is_empty(), tables.is_empty()) {
        (true, _) => Err(ImportError::NoTable),
        (false, true) => Err(ImportError::NoPorts(page.tables.len())),
        (false, false) => draft::write(file, &page, &tables, other_tables),
    }
}

/// The page in whichever form it is.
fn read(text: &str) -> Result<Page, ImportError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let has_html = || text.as_bytes().windows(6).any(|bytes| bytes.eq_ignore_ascii_case(b"<table"));
    if text.trim_start().starts_with('<') && has_html() {
        return html::read(text);
    }
    if text.lines().any(|line| line.trim_end() == "|===") {
        return asciidoc::read(text);
    }
    let mut page = markdown::read(text)?;
    // Markdown may hold tables of HTML.
    if page.tables.iter().all(|table| port_columns(table).is_none()) && has_html() {
        page.tables.extend(html::read(text)?.tables);
    }
    Ok(page)
}

/// The columns of a table that tells ports; none if it does not.
fn port_columns(table: &Table) -> Option<Vec<Column>> {
    let mut columns = columns(&table.head);
    if columns.iter().any(|column| matches!(column, Column::Port | Column::PortProtocol)) {
        let more =
            [Column::From, Column::To, Column::FromTo, Column::Protocol, Column::PortProtocol, Column::Text];
        return columns.iter().any(|column| more.contains(column)).then_some(columns);
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
    let has_ports = has(&[Column::Port, Column::PortProtocol]);
    let mut lines: Vec<Line> = Vec::new();
    // After a heading within the table nothing is carried over.
    let mut above: Option<Line> = None;
    for row in &table.rows {
        if is_heading(row, &columns) || row.cells == table.head {
            above = None;
            continue;
        }
        *counted += 1;
        let line = Line { row: *counted, line: row.line, cells: row.cells.clone(), ..Line::default() };
        let line = fill(line, &columns, above.as_ref());
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
    filled == 0
        || (alone && over_all)
        || (alone && words.iter().any(|word| lower.starts_with(word)) && !cells::is_sentence(first))
}

/// Which cell stands in which column, and what the row carries over from the one above.
fn fill(mut line: Line, columns: &[Column], above: Option<&Line>) -> Line {
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
                let parts = cell.split_once(" to ").or_else(|| cell.split_once('\n'));
                if let Some((from, to)) = parts {
                    line.from = Some(from.trim().into());
                    line.to = Some(to.trim().into());
                }
                continue;
            }
            Column::PortProtocol => {
                line.ports = Some(cell.clone());
                line.protocol = Some(cell.clone());
                continue;
            }
            Column::Other => continue,
        };
        *place = Some(cell.clone());
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
    if line.from.is_none() {
        line.from.clone_from(&above.from);
    }
    if line.to.is_none() {
        line.to.clone_from(&above.to);
    }
    if short {
        let alone = own.len() == 1;
        if alone && had(Column::Text) {
            line.checks.push("a row of one cell: taken for a further purpose of the row above".into());
        } else if alone && had(Column::To) {
            line.checks.push("a row of one cell: taken for a further destination of the row above".into());
        }
        let paired = had(Column::PortProtocol);
        if line.protocol.is_none() && !paired {
            line.protocol.clone_from(&above.protocol);
        }
        if line.ports.is_none() && !paired {
            line.ports.clone_from(&above.ports);
        }
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
    line
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
            Some(Column::Port) => {
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
            Some(Column::Other) | None => 0,
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
