//! Tables of `|===` in AsciiDoc, with spans such as `.18+|` and cells on lines of their own.

use super::{
    Around, Cell, ImportError, MAX_CELLS, MAX_ROWS, MAX_WRITTEN_BYTES, Page, Row, clean, cut, taken_out,
};

/// Rows that a cell may span.
const MAX_SPAN: usize = 1_000;

/// Bytes of a link's text.
const MAX_LABEL: usize = 1_000;

/// Reads a page.
pub(super) fn read(text: &str) -> Result<Page, ImportError> {
    let mut page = Page::default();
    let mut around = Around::default();
    let mut lines = (1_u32..).zip(text.lines()).peekable();
    page.front_matter(&mut lines);
    // A line feed is a space, unless the page says otherwise.
    let mut hard = false;
    let mut attributes = String::new();
    while let Some((number, line)) = lines.next() {
        let line = line.trim();
        if line == "|===" {
            let mut body: Vec<(u32, &str)> = Vec::new();
            // Lines that only some editions have.
            let (mut conditions, mut some) = (0_usize, Vec::new());
            for (number, line) in lines.by_ref() {
                if line.trim_end() == "|===" {
                    break;
                }
                if ["ifdef::", "ifndef::", "ifeval::"].iter().any(|mark| line.starts_with(mark)) {
                    // With a text in brackets it ends there.
                    conditions += usize::from(line.ends_with("[]") || line.starts_with("ifeval"));
                    if !line.ends_with("[]") && !line.starts_with("ifeval") {
                        page.unread(number, "a line that only some editions of the page have");
                    }
                } else if line.starts_with("endif::") {
                    conditions = conditions.saturating_sub(1);
                } else if line.starts_with("//") {
                    if line.contains('|') {
                        page.unread(number, "a row that the page comments out");
                    }
                } else {
                    if conditions > 0 {
                        some.push(number);
                    }
                    body.push((number, line));
                }
            }
            let other = ["format=", "separator="].iter().any(|mark| attributes.contains(mark));
            if other {
                page.unread(number, "a table of another form than cells with `|`");
            } else {
                let mut rows = table(&attributes, &body, number, hard)?;
                for row in rows.iter_mut().filter(|row| some.contains(&row.line)) {
                    row.check = Some("only some editions of the page have this row".to_owned());
                }
                page.add(&mut around, rows, true)?;
            }
            attributes.clear();
        } else if let Some(mark) = block(line) {
            let why = match mark {
                "////" => "a table that the page comments out",
                _ => "a table in a listing, or of another form than cells with `|`",
            };
            let mut told = mark.ends_with('=');
            if told {
                page.unread(number, why);
            }
            for (inner, line) in lines.by_ref() {
                if line.trim_end() == mark {
                    break;
                }
                if line.trim_end().ends_with("|===") && !std::mem::replace(&mut told, true) {
                    page.unread(inner, why);
                }
            }
            attributes.clear();
        } else if line.starts_with('[') && line.ends_with(']') {
            attributes = line.to_owned();
        } else if let Some(heading) = line.strip_prefix('=') {
            let heading = plain(heading.trim_start_matches('=').trim());
            if page.title.is_none() && !line.starts_with("==") {
                page.title = Some(heading.clone()).filter(|title| !title.is_empty());
            }
            around.heading(&heading);
        } else if let Some((key, value)) = line.strip_prefix(':').and_then(|rest| rest.split_once(':')) {
            hard |= key == "hardbreaks";
            page.told(key, value);
        } else if let Some(title) =
            line.strip_prefix('.').filter(|title| title.starts_with(char::is_alphanumeric))
        {
            // A block's title.
            around.line(&plain(title), &mut page);
        } else if !line.is_empty() && !line.starts_with("//") {
            around.line(&plain(line), &mut page);
        }
    }
    Ok(page)
}

/// The mark with which a block begins and ends whose text is no text of the page, or a table that is not read.
fn block(line: &str) -> Option<&'static str> {
    ["////", "----", "....", ",===", ":===", "!===", "|===="].into_iter().find(|mark| line == *mark)
}

/// A cell as it is written: how many columns and rows it spans, how often it is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Spec {
    columns: usize,
    rows: usize,
    copies: usize,
}

impl Spec {
    const PLAIN: Spec = Spec { columns: 1, rows: 1, copies: 1 };

    /// `2+`, `.18+`, `2.3+`, `3*`, with alignment (`^.>`) and a letter of style behind; none if it is other text.
    fn of(text: &str) -> Option<Spec> {
        let text = text
            .strip_suffix(|c: char| matches!(c, 'a' | 'd' | 'e' | 'h' | 'l' | 'm' | 's' | 'v'))
            .unwrap_or(text);
        let (head, tail) = match text.find(['+', '*']) {
            Some(at) => (text.get(..=at)?, text.get(at + 1..)?),
            None => ("", text),
        };
        if !tail.chars().all(|c| matches!(c, '<' | '^' | '>' | '.')) {
            return None;
        }
        let count = |text: &str| match text {
            "" => Some(1),
            digits if digits.bytes().all(|b| b.is_ascii_digit()) => Some(digits.parse().unwrap_or(MAX_SPAN)),
            _ => None,
        };
        if let Some(copies) = head.strip_suffix('*') {
            return Some(Spec { copies: count(copies)?.clamp(1, MAX_CELLS), ..Spec::PLAIN });
        }
        let Some(spans) = head.strip_suffix('+') else { return Some(Spec::PLAIN) };
        let (columns, rows) = spans.split_once('.').unwrap_or((spans, ""));
        Some(Spec {
            columns: count(columns)?.clamp(1, MAX_CELLS),
            rows: count(rows)?.clamp(1, MAX_SPAN),
            copies: 1,
        })
    }
}

/// The rows of a table, of which the first is its heading. `line` is where the table begins.
fn table(attributes: &str, body: &[(u32, &str)], line: u32, hard: bool) -> Result<Vec<Row>, ImportError> {
    let mut cells: Vec<(u32, Spec, String)> = Vec::new();
    // Cells of the first line that has any: as many columns as there are, if nothing else says so.
    let mut first_line = None;
    for &(number, text) in body {
        let mut rest = text;
        let before = cells.len();
        while let Some(at) = bar(rest) {
            let ahead = rest.get(..at).unwrap_or_default();
            let word = ahead.rsplit([' ', '\t']).next().unwrap_or_default();
            let (own, spec) = match Spec::of(word) {
                Some(spec) => (ahead.get(..ahead.len() - word.len()).unwrap_or_default(), spec),
                None => (ahead, Spec::PLAIN),
            };
            if let Some((_, _, cell)) = cells.last_mut() {
                cell.push_str(own);
            }
            cells.push((number, spec, String::new()));
            rest = rest.get(at + 1..).unwrap_or_default();
        }
        if cells.len() > MAX_ROWS * MAX_CELLS {
            return Err(ImportError::TooManyRows);
        }
        if let Some((_, _, cell)) = cells.last_mut() {
            cell.push_str(rest);
            let address = text.trim_start_matches('\\').starts_with("http");
            cell.push(if hard || text.trim_end().ends_with(" +") || text.trim().is_empty() || address {
                '\n'
            } else {
                ' '
            });
        }
        if first_line.is_none() && cells.len() > before {
            first_line = Some(cells.len() - before);
        }
    }
    let width = width(attributes).or(first_line).unwrap_or(1).clamp(1, MAX_CELLS);
    let mut rows: Vec<Row> = Vec::new();
    // By column, what a cell above still spans: how many rows, and its text.
    let mut spans: Vec<(usize, Cell)> = vec![(0, "".into()); width];
    let mut row: Vec<Cell> = Vec::new();
    let (mut begun, mut spanning, mut struck) = (line, false, false);
    for (number, spec, text) in cells {
        let crossed = text.contains("line-through]");
        let text = super::cell(&plain(&text));
        for _ in 0..spec.copies {
            carry(&mut spans, &mut row, width);
            if row.len() >= width {
                rows.push(finished(begun, std::mem::take(&mut row), spanning, std::mem::take(&mut struck)));
                carry(&mut spans, &mut row, width);
            }
            if row.iter().all(|cell| cell.is_empty()) {
                begun = number;
            }
            struck |= crossed;
            spanning = spec.columns > 1 && spec.columns >= width;
            for column in 0..spec.columns.min(width.saturating_sub(row.len())) {
                let own: Cell = if column == 0 { text.clone() } else { "".into() };
                if let Some(span) = spans.get_mut(row.len()) {
                    *span = (spec.rows - 1, own.clone());
                }
                row.push(own);
            }
        }
    }
    carry(&mut spans, &mut row, width);
    if !row.is_empty() {
        rows.push(finished(begun, row, spanning, struck));
    }
    Ok(rows)
}

/// A row with all its cells, and what of it is struck out.
fn finished(line: u32, cells: Vec<Cell>, spanning: bool, struck: bool) -> Row {
    let (gone, check) = taken_out(&cells, false, struck);
    Row { line, cells, spanning, gone, check }
}

/// Fills in the cells that span the row from above, up to the next column that is free.
fn carry(spans: &mut [(usize, Cell)], row: &mut Vec<Cell>, width: usize) {
    while row.len() < width
        && let Some((left, text)) = spans.get_mut(row.len()).filter(|(left, _)| *left > 0)
    {
        *left -= 1;
        row.push(text.clone());
    }
}

/// Where the next cell of a line begins.
fn bar(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        if byte == b'|' && !escaped {
            return Some(at);
        }
        escaped = byte == b'\\';
    }
    None
}

/// How many columns `[cols=3*]`, `[cols="10,10,6"]` or `[cols="1,2*"]` has.
fn width(attributes: &str) -> Option<usize> {
    let (_, rest) = attributes.split_once("cols=")?;
    let told = match rest.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next()?,
        None => rest.split([',', ']']).next()?,
    };
    let columns = told.split([',', ';']).map(|column| {
        let copies = column.trim().split_once('*').map(|(copies, _)| copies.trim().parse().unwrap_or(1));
        copies.unwrap_or(1_usize).min(MAX_CELLS)
    });
    Some(columns.fold(0_usize, usize::saturating_add)).filter(|&width| width > 0)
}

/// Marks taken off, and links flattened to their texts.
fn plain(text: &str) -> String {
    let text = without_struck(cut(text, MAX_WRITTEN_BYTES));
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let line = line.trim_end().strip_suffix(" +").unwrap_or(line);
        for word in line.split_inclusive(' ') {
            let bare = word.trim_start_matches('\\');
            out.push_str(bare.strip_prefix("link:").unwrap_or(bare));
        }
        out.push('\n');
    }
    clean(&links(&out).replace("\\|", "|").replace(['`', '*'], "").replace("^]", "]"))
}

/// A text without `[.line-through]#what is struck out#`.
fn without_struck(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((ahead, behind)) = rest.split_once("line-through]") {
        out.push_str(ahead.rsplit_once('[').map_or(ahead, |(kept, _)| kept));
        let marked = behind.trim_start_matches('#');
        rest = marked.split_once('#').map_or(marked, |(_, kept)| kept.trim_start_matches('#'));
    }
    out.push_str(rest);
    out
}

/// `https://a.example/b[text^]` and what was `link:b.html[text]` become `text`; an address without a text stays.
fn links(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('[') {
        let (ahead, behind) = rest.split_at(at);
        let word = ahead.rsplit([' ', '\n', '\t']).next().unwrap_or_default();
        let address = word.contains("://") || word.ends_with(".html") || word.contains(".html#");
        // A link's text ends in its line.
        let line = behind.bytes().take(MAX_LABEL).take_while(|&byte| byte != b'\n');
        let ends = line.zip(0..).find(|&(byte, _)| byte == b']').map(|(_, end): (u8, usize)| end);
        match ends.filter(|_| address) {
            Some(end) => {
                out.push_str(ahead.get(..ahead.len() - word.len()).unwrap_or_default());
                let label = behind.get(1..end).unwrap_or_default().trim_end_matches('^');
                out.push_str(if label.is_empty() { word } else { label });
                rest = behind.get(end + 1..).unwrap_or_default();
            }
            None => {
                out.push_str(ahead);
                out.push('[');
                rest = behind.get(1..).unwrap_or_default();
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Vec<String> {
        let page = read(text).unwrap();
        let all = page.tables.iter().flat_map(|table| {
            let rows = table.rows.iter().map(|row| row.cells.join("|"));
            std::iter::once(table.head.join("|")).chain(rows)
        });
        all.map(|row| row.replace('\n', "/")).collect()
    }

    #[test]
    #[rustfmt::skip]
    fn cells_stand_in_the_rows_that_they_span() {
        for (text, expected) in [
            ("|===\n| A | B\n\n| a | b\n| c | d\n|===", &["A|B", "a|b", "c|d"][..]),
            ("[cols=3*,options=\"header\"]\n|===\n| A\n| B\n| C\n\n.2+| a | b | c\n| d | e\n|===", &["A|B|C", "a|b|c", "a|d|e"]),
            ("[cols=\"1,2\"]\n|===\n| A | B\n2+| over both\n| a\na| b\nc\n|===", &["A|B", "over both|", "a|b c"]),
            (":hardbreaks:\n|===\n| A | B\n| 22\nTCP | x\\|y\n|===", &["A|B", "22/TCP|x|y"]),
            ("|===\n| A | B\n2*| same\n|===", &["A|B", "same|same"]),
            ("|===\n| A | B\n.999999999999+| a | b\n|===", &["A|B", "a|b"]),
            ("|===\nno bar\n|===\n|===", &[]),
        ] { assert_eq!(rows(text), expected, "{text}"); }
    }

    #[test]
    fn marks_are_taken_off() {
        for (source, expected) in [
            ("https://a.example/b[the page^].", "the page."),
            ("link:b.html[the page]", "the page"),
            ("\\https://a.example", "https://a.example"),
            ("*All* of `it` [once]", "All of it [once]"),
        ] {
            assert_eq!(plain(source), expected, "{source}");
        }
    }
}
