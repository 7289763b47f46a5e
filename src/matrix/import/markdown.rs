//! Tables of `|` in Markdown, also those that lost their line of `---` or cells that spanned rows.

use super::{Around, Cell, ImportError, MAX_CELLS, MAX_ROWS, MAX_WRITTEN_BYTES, Page, Row, cell, cut};
use pulldown_cmark::{Event, Parser, Tag, TagEnd};

/// Tags of HTML that pages have within cells. What else stands in `<>` is a placeholder of theirs.
const TAGS: [&str; 22] = [
    "a", "abbr", "b", "br", "code", "div", "em", "font", "i", "img", "li", "nobr", "ol", "p", "small",
    "span", "strong", "sub", "sup", "u", "ul", "wbr",
];

/// Reads a page.
pub(super) fn read(text: &str) -> Result<Page, ImportError> {
    let mut page = Page::default();
    let mut around = Around::default();
    let mut lines = (1_u32..).zip(text.lines()).peekable();
    if lines.peek().is_some_and(|(_, line)| line.trim_end() == "---") {
        lines.next();
        for (_, line) in lines.by_ref() {
            if line.trim_end() == "---" {
                break;
            }
            if let Some((key, value)) = line.split_once(':') {
                page.told(key, value);
            }
        }
    }
    let mut fence: Option<&str> = None;
    let mut table: Vec<Row> = Vec::new();
    // A line that may be the heading of a table without `|` at its beginning.
    let mut before: Option<(u32, &str)> = None;
    for (number, line) in lines {
        let trimmed = line.trim();
        if let Some(mark) = fence {
            fence = Some(mark).filter(|mark| !trimmed.starts_with(mark));
            continue;
        }
        let fenced = ["```", "~~~"].into_iter().find(|mark| trimmed.starts_with(mark));
        let continues = !table.is_empty() && trimmed.contains('|');
        if fenced.is_none() && (trimmed.starts_with('|') || continues) {
            if table.len() > MAX_ROWS {
                return Err(ImportError::TooManyRows);
            }
            if !is_delimiter(trimmed) {
                table.push(Row { line: number, cells: row(trimmed), spanning: false });
            }
            continue;
        }
        if let Some((head, above)) = before.take()
            && is_delimiter(trimmed)
            && trimmed.contains('|')
        {
            table.push(Row { line: head, cells: row(above), spanning: false });
            continue;
        }
        if !table.is_empty() {
            page.add(&mut around, std::mem::take(&mut table))?;
        }
        fence = fenced;
        if trimmed.contains('|') {
            before = Some((number, trimmed));
        }
        match trimmed.strip_prefix('#') {
            Some(heading) => {
                let heading = plain(heading.trim_start_matches('#').trim());
                if page.title.is_none() && !trimmed.starts_with("##") {
                    page.title = Some(heading.to_string()).filter(|title| !title.is_empty());
                }
                around.heading(&heading);
            }
            None => around.line(&plain(trimmed), &mut page),
        }
    }
    if !table.is_empty() {
        page.add(&mut around, table)?;
    }
    Ok(page)
}

/// Whether a line parts heading and body: `| --- | :-: |`.
fn is_delimiter(line: &str) -> bool {
    line.contains('-') && line.chars().all(|c| matches!(c, '|' | '-' | ':' | ' ' | '\t'))
}

/// The cells of a line: what stands between `|`, except for those behind a `\`. The last one that is read holds the rest.
fn row(line: &str) -> Vec<Cell> {
    let line = line.strip_prefix('|').unwrap_or(line);
    let mut cells = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (at, byte) in line.bytes().enumerate() {
        if byte == b'|' && !escaped && cells.len() + 1 < MAX_CELLS {
            cells.push(line.get(start..at).unwrap_or_default());
            start = at + 1;
        }
        escaped = byte == b'\\' && !escaped;
    }
    let rest = line.get(start..).unwrap_or_default();
    if !rest.trim().is_empty() || cells.is_empty() {
        cells.push(rest);
    }
    cells.into_iter().map(|cell| plain(&cell.replace("\\|", "|"))).collect()
}

/// Marks taken off, links flattened to their texts, `<br>` turned into a line feed, superscripts left out.
fn plain(written: &str) -> Cell {
    // In front of it, nothing is the beginning of a list, a heading or a quotation.
    let source = format!(". {}", cut(written.trim(), MAX_WRITTEN_BYTES));
    let mut text = String::with_capacity(written.len());
    let mut above = 0_usize;
    for event in Parser::new(&source) {
        match event {
            Event::Text(part) | Event::Code(part) if above == 0 => text.push_str(&part),
            Event::InlineHtml(part) | Event::Html(part) => markup(&part, &mut text, &mut above),
            Event::SoftBreak => text.push(' '),
            Event::HardBreak | Event::End(TagEnd::Paragraph | TagEnd::Item) => text.push('\n'),
            Event::Start(Tag::Item) => text.push('\n'),
            _ => {}
        }
    }
    let text = text.strip_prefix('.').unwrap_or(&text);
    cell(text)
}

/// A piece of HTML within a cell.
fn markup(html: &str, text: &mut String, above: &mut usize) {
    let inner = html.trim_start_matches('<').trim_end_matches('>');
    let ends = inner.starts_with('/');
    let name: String = inner
        .trim_start_matches('/')
        .chars()
        .take_while(char::is_ascii_alphanumeric)
        .collect::<String>()
        .to_lowercase();
    match name.as_str() {
        "sup" if ends => *above = above.saturating_sub(1),
        "sup" => *above += 1,
        "br" | "p" | "li" | "div" => text.push('\n'),
        known if TAGS.contains(&known) || inner.starts_with('!') => {}
        _ if *above == 0 => text.push_str(html),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[rustfmt::skip]
    fn cells_are_plain_text() {
        for (source, expected) in [
            ("a [link](https://x.example/y) here", "a link here"),
            ("**`*.a.example`**, **`b.example`**", "*.a.example, b.example"),
            ("one <br/> *Or* <br> two", "one\nOr\ntwo"),
            ("\\*.a.example and <account>.b.example", "*.a.example and <account>.b.example"),
            ("<blob\\_name>.c.example", "<blob_name>.c.example"),
            ("Only once.<sup>1</sup>", "Only once."),
            ("- no list", "- no list"),
            ("# no heading", "# no heading"),
            ("`*:1194`", "*:1194"),
            ("A &amp; B\u{a0}C", "A & B C"),
            ("up\u{1b}[2J\u{202e}", "up\\u{1b}[2J\\u{202e}"),
            ("", ""),
        ] { assert_eq!(&*plain(source), expected, "{source}"); }
    }

    #[test]
    fn rows_are_cut_at_bars_that_are_not_escaped() {
        let cells = |line: &str| row(line).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(cells("| a | b \\| c | |"), ["a", "b | c", ""]);
        assert_eq!(cells("a|b"), ["a", "b"]);
        assert_eq!(cells("|"), [""]);
        assert!(is_delimiter("|:--|---|") && !is_delimiter("| a |") && !is_delimiter("| |"));
    }
}
