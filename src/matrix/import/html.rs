//! Tables of a saved HTML page, with `rowspan` and `colspan`.

use super::{Around, Cell, ImportError, MAX_CELLS, MAX_ROWS, Page, Row};
use html5gum::emitters::default::DefaultEmitter;
use html5gum::{StartTag, Token, Tokenizer};

/// Rows that a cell may span: as many as browsers allow (HTML, section 4.9.11, allows 65534).
const MAX_SPAN: usize = 1_000;

/// Columns that a table may have; what stands behind is left out.
const MAX_WIDTH: usize = 4 * MAX_CELLS;

/// Tables within tables that are followed; deeper ones are text of the cell that they stand in.
const MAX_DEPTH: usize = 8;

/// Tags that end a line of text.
const BLOCKS: [&str; 29] = [
    "address",
    "article",
    "aside",
    "blockquote",
    "br",
    "caption",
    "center",
    "dd",
    "details",
    "div",
    "dl",
    "dt",
    "fieldset",
    "figcaption",
    "figure",
    "footer",
    "form",
    "header",
    "hr",
    "li",
    "main",
    "nav",
    "ol",
    "option",
    "p",
    "pre",
    "section",
    "summary",
    "ul",
];

/// Reads a page.
pub(super) fn read(text: &str) -> Result<Page, ImportError> {
    let mut emitter = DefaultEmitter::<usize>::new_with_span();
    emitter.naively_switch_states(true);
    let mut reader = Reader::default();
    let (mut line, mut counted) = (1_u32, 0_usize);
    for token in Tokenizer::new_with_emitter(text, emitter) {
        let Ok(token) = token;
        match token {
            Token::StartTag(tag) => {
                let start = tag.span.start.min(text.len());
                if let Some(passed) = text.as_bytes().get(counted..start) {
                    let feeds = passed.iter().filter(|&&byte| byte == b'\n').count();
                    line = line.saturating_add(u32::try_from(feeds).unwrap_or(u32::MAX));
                    counted = start;
                }
                reader.start(&tag, line);
            }
            Token::EndTag(tag) => reader.end(&String::from_utf8_lossy(&tag.name))?,
            Token::String(part) => reader.text(&String::from_utf8_lossy(&part)),
            Token::Comment(comment) => {
                let text = String::from_utf8_lossy(&comment.value).to_ascii_lowercase();
                if text.contains("<tr") || text.contains("<table") {
                    reader.page.unread(line, "rows of a table that the page comments out");
                }
            }
            Token::Doctype(_) | Token::Error(_) => {}
        }
    }
    while !reader.open.is_empty() {
        reader.end("table")?;
    }
    Ok(reader.page)
}

/// A table that is being read.
#[derive(Default)]
struct Open {
    line: u32,
    rows: Vec<Row>,
    /// Whether the page hides it all, or its row; whether something of the row is struck out.
    hidden: bool,
    row_hidden: bool,
    row_struck: bool,
    row: Option<(u32, Vec<Placed>)>,
    cell: Option<(Placed, String)>,
    /// By column, what a cell above still spans: how many rows, and its text.
    spans: Vec<(usize, Cell)>,
}

/// A cell and what it spans.
#[derive(Clone, Default)]
struct Placed {
    text: Cell,
    columns: usize,
    rows: usize,
}

#[derive(Default)]
struct Reader {
    page: Page,
    around: Around,
    open: Vec<Open>,
    /// Text outside tables, up to the end of its block.
    outside: String,
    /// Inside `<sup>`, whose texts are footnotes; inside what is no text.
    above: usize,
    hidden: usize,
    /// Inside what is struck out.
    struck: usize,
    /// The text of a link within the page: a footnote's mark, or words.
    link: Option<String>,
    heading: bool,
    title: bool,
    /// Tables that are not followed.
    deeper: usize,
}

impl Reader {
    fn start(&mut self, tag: &StartTag<usize>, line: u32) {
        let name = String::from_utf8_lossy(&tag.name).into_owned();
        let attribute = |key: &str| {
            tag.attributes.get(key.as_bytes()).map(|value| String::from_utf8_lossy(&value.value).into_owned())
        };
        let span = |key: &str, most: usize| {
            let told = attribute(key).and_then(|value| value.trim().parse::<usize>().ok());
            // Nought is what is left of the table.
            told.map_or(1, |told| if told == 0 { most } else { told.min(most) })
        };
        let style = || attribute("style").map(|style| style.to_ascii_lowercase().replace(' ', ""));
        let unseen =
            || attribute("hidden").is_some() || style().is_some_and(|style| style.contains("display:none"));
        match name.as_str() {
            "script" | "style" | "noscript" | "svg" | "template" if !tag.self_closing => self.hidden += 1,
            "title" => self.title = true,
            "meta" => {
                let key = attribute("name").or_else(|| attribute("property"));
                if let (Some(key), Some(value)) = (key, attribute("content")) {
                    self.page.told(&key, &value);
                }
            }
            "link" if attribute("rel").is_some_and(|rel| rel.eq_ignore_ascii_case("canonical")) => {
                if let Some(url) = attribute("href") {
                    self.page.told("canonical", &url);
                }
            }
            "table" if self.open.len() < MAX_DEPTH => {
                self.block();
                self.open.push(Open { line, hidden: unseen(), ..Open::default() });
            }
            "table" => {
                self.deeper += 1;
                self.page.unread(line, "a table within so many tables is not read");
            }
            "tr" => {
                self.end_cell();
                if let Some(open) = self.open.last_mut() {
                    open.end_row();
                    open.row = Some((line, Vec::new()));
                    open.row_hidden = unseen();
                }
            }
            "tbody" | "thead" | "tfoot" => self.end_cell(),
            "td" | "th" => {
                self.end_cell();
                if let Some(open) = self.open.last_mut() {
                    open.row.get_or_insert((line, Vec::new()));
                    let placed = Placed {
                        text: "".into(),
                        columns: span("colspan", MAX_CELLS),
                        rows: span("rowspan", MAX_SPAN),
                    };
                    open.cell = Some((placed, String::new()));
                }
            }
            "sup" if !tag.self_closing => self.above += 1,
            "del" | "s" | "strike" if !tag.self_closing => self.struck += 1,
            "a" if attribute("href").is_some_and(|href| href.starts_with('#')) => {
                self.end_link();
                self.link = Some(String::new());
            }
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => {
                self.block();
                self.heading = self.open.is_empty();
            }
            block if BLOCKS.contains(&block) => self.block(),
            _ if style().is_some_and(|style| style.contains("display:block")) => self.block(),
            _ => {}
        }
    }

    /// What a cell did not close ends with it.
    fn end_cell(&mut self) {
        self.end_link();
        if let Some(open) = self.open.last_mut() {
            (self.above, self.struck) = (0, 0);
            open.end_cell();
        }
    }

    /// A link within the page whose text is a number of a footnote or a sign is no text.
    fn end_link(&mut self) {
        let Some(text) = self.link.take() else { return };
        let mark = text.trim().trim_matches(['[', ']', '(', ')']);
        if mark.chars().count() > 2 || mark.chars().any(char::is_alphabetic) {
            self.text(&text);
        }
    }

    fn end(&mut self, name: &str) -> Result<(), ImportError> {
        match name {
            "script" | "style" | "noscript" | "svg" | "template" => {
                self.hidden = self.hidden.saturating_sub(1)
            }
            "title" if self.title => {
                self.title = false;
                let title = std::mem::take(&mut self.outside);
                self.page.told("title", &title);
            }
            "table" if self.deeper > 0 && !self.open.is_empty() => self.deeper -= 1,
            "table" => {
                self.end_cell();
                if let Some(mut open) = self.open.pop() {
                    open.end_row();
                    self.close(open)?;
                }
            }
            "tr" => {
                self.end_cell();
                self.open.last_mut().into_iter().for_each(Open::end_row);
            }
            "td" | "th" => self.end_cell(),
            "del" | "s" | "strike" => self.struck = self.struck.saturating_sub(1),
            "a" => self.end_link(),
            "sup" => self.above = self.above.saturating_sub(1),
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => {
                if self.open.is_empty() {
                    self.around.heading(&std::mem::take(&mut self.outside));
                } else {
                    self.block();
                }
                self.heading = false;
            }
            block if BLOCKS.contains(&block) && block != "br" => self.block(),
            _ => {}
        }
        Ok(())
    }

    /// A table has ended. One of a single row or column within a cell only arranges that cell's text.
    fn close(&mut self, open: Open) -> Result<(), ImportError> {
        if open.hidden {
            self.page.unread(open.line, "a table that the page hides");
            return Ok(());
        }
        let arranges = open.rows.len() == 1 || open.rows.iter().all(|row| row.cells.len() == 1);
        if arranges
            && open.rows.iter().all(|row| row.gone.is_none())
            && let Some(Open { cell: Some((_, cell)), .. }) = self.open.last_mut()
        {
            for text in open.rows.iter().flat_map(|row| &row.cells) {
                cell.push('\n');
                cell.push_str(text);
            }
            cell.push('\n');
            return Ok(());
        }
        self.page.add(&mut self.around, open.rows, true)
    }

    fn text(&mut self, text: &str) {
        if self.above > 0 || self.hidden > 0 {
            return;
        }
        if self.struck > 0 {
            if let Some(open) = self.open.last_mut().filter(|_| !text.trim().is_empty()) {
                open.row_struck = true;
            }
            return;
        }
        if let Some(link) = self.link.as_mut() {
            link.push_str(text);
            return;
        }
        match self.open.last_mut() {
            None => self.outside.push_str(text),
            // Between cells stands a caption, or nothing.
            Some(Open { cell: None, .. }) => {}
            Some(Open { cell: Some((_, cell)), .. }) => {
                cell.extend(text.chars().map(|c| if c == '\n' { ' ' } else { c }))
            }
        }
    }

    /// A block ends: a line of a cell, a paragraph of the page.
    fn block(&mut self) {
        match self.open.last_mut() {
            Some(open) => open.cell.iter_mut().for_each(|(_, cell)| cell.push('\n')),
            None if self.title => {}
            None => {
                let text = std::mem::take(&mut self.outside).replace('\n', " ");
                self.around.line(&text, &mut self.page);
            }
        }
    }
}

impl Open {
    fn end_cell(&mut self) {
        if let (Some((mut placed, text)), Some((_, cells))) = (self.cell.take(), self.row.as_mut()) {
            placed.text = super::cell(&text);
            if cells.len() < MAX_WIDTH {
                cells.push(placed);
            }
        }
    }

    /// Puts the cells of the row in their columns, beside those that span it from above.
    fn end_row(&mut self) {
        self.end_cell();
        let Some((line, placed)) = self.row.take() else { return };
        let spanning = placed.len() == 1 && placed.iter().any(|cell| cell.columns > 1 && cell.rows == 1);
        let row = spread(&mut self.spans, placed);
        let hidden = std::mem::take(&mut self.row_hidden);
        let struck = std::mem::take(&mut self.row_struck);
        let (gone, check) = super::taken_out(&row, hidden, struck);
        // One more than may be is enough to say so.
        if !row.is_empty() && self.rows.len() <= MAX_ROWS {
            self.rows.push(Row { line, cells: row, spanning, gone, check });
        }
    }
}

/// The cells of a row in their columns: those that span it from above, and its own. What its own span is kept in `spans`.
fn spread(spans: &mut Vec<(usize, Cell)>, placed: Vec<Placed>) -> Vec<Cell> {
    let mut row: Vec<Cell> = Vec::new();
    let mut own = placed.into_iter();
    loop {
        let at = row.len();
        if let Some((left, text)) = spans.get_mut(at).filter(|(left, _)| *left > 0) {
            *left -= 1;
            row.push(text.clone());
            continue;
        }
        let Some(cell) = own.next() else {
            if spans.iter().skip(at).any(|(left, _)| *left > 0) {
                row.push("".into());
                continue;
            }
            return row;
        };
        for column in at..at + cell.columns.max(1) {
            if column >= MAX_WIDTH {
                return row;
            }
            if spans.len() <= column {
                spans.resize(column + 1, (0, "".into()));
            }
            // Its text once: the columns beside it are empty.
            let text: Cell = if column == at { cell.text.clone() } else { "".into() };
            if let Some(span) = spans.get_mut(column) {
                *span = (cell.rows.saturating_sub(1), text.clone());
            }
            row.push(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(html: &str) -> Vec<String> {
        let page = read(html).unwrap();
        let all = page.tables.iter().flat_map(|table| {
            let rows = table.rows.iter().map(|row| row.cells.join("|").replace('\n', "/"));
            std::iter::once(table.head.join("|")).chain(rows)
        });
        all.collect()
    }

    #[test]
    #[rustfmt::skip]
    fn spans_are_spread_over_the_rows_and_columns_that_they_cover() {
        for (html, expected) in [
            ("<table><tr><th>A<th>B</tr><tr><td rowspan=2>a<td>b<tr><td>c</table>", &["A|B", "a|b", "a|c"][..]),
            ("<table><tr><td>A</td><td>B</td></tr><tr><td>a</td><td rowspan='2'>b</td></tr><tr><td>c</td></tr></table>", &["A|B", "a|b", "c|b"]),
            ("<table><tr><td colspan=2>A<tr><td>a<td>b</table>", &["A|", "a|b"]),
            ("<table><tr><td>A<td>B<tr><td rowspan=0>a<td>b<tr><td>c<tr><td>d</table>", &["A|B", "a|b", "a|c", "a|d"]),
            ("<table><tr><td rowspan=99999999999999999999>A<td>B</table>", &["A|B"]),
            ("<TABLE><TR><TD>x &amp; <b>y</b><sup>1</sup><br>z<p>w</TD></TABLE><script><table><tr><td>no</script>", &["x & y/z/w"]),
            ("<table><tr><td>never ended", &["never ended"]),
            ("<td>stray</td></tr></table>", &[]),
        ] {
            let told: Vec<String> = rows(html).iter().map(|row| row.replace('\n', "/")).collect();
            assert_eq!(told, expected, "{html}");
        }
    }

    #[test]
    fn a_page_says_what_it_is() {
        let page = read(
            "<!doctype html>\n<title>Ports of printers</title><meta name=date content=2026-01-06>\
             <link rel=canonical href='https://p.example/ports'>\n<h2>Colour</h2>\n<table><tr><td>From</table>",
        );
        let page = page.unwrap();
        assert_eq!(page.title.as_deref(), Some("Ports of printers"));
        assert_eq!(
            (page.date.as_deref(), page.url.as_deref()),
            (Some("2026-01-06"), Some("https://p.example/ports"))
        );
        let table = page.tables.first().unwrap();
        assert_eq!((table.section.as_str(), table.line), ("Colour", 4));
    }
}
