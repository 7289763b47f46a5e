//! Tables of `|` in Markdown, also those that lost their line of `---` or cells that spanned rows.

use super::{
    Around, Cell, ImportError, MAX_CELLS, MAX_ROWS, MAX_WRITTEN_BYTES, Page, Row, cell, cut, taken_out,
};
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
    page.front_matter(&mut lines);
    let mut aside = Aside::default();
    let mut table: Vec<Row> = Vec::new();
    // Whether it has its line of `---`.
    let mut whole = false;
    // A line that may be the heading of a table without `|` at its beginning.
    let mut before: Option<(u32, &str)> = None;
    for (number, line) in lines {
        let Some(line) = aside.line(number, line, &mut page) else { continue };
        // A table in a quotation is one.
        let trimmed = line.trim().trim_start_matches(['>', ' ']);
        let continues = !table.is_empty() && trimmed.contains('|');
        if !aside.is_listing && (trimmed.starts_with('|') || continues) {
            if table.len() > MAX_ROWS {
                return Err(ImportError::TooManyRows);
            }
            if is_delimiter(trimmed) {
                whole |= table.len() == 1;
            } else {
                table.push(row_of(number, trimmed));
            }
            continue;
        }
        if let Some((head, above)) = before.take()
            && is_delimiter(trimmed)
            && trimmed.contains('|')
        {
            table.push(row_of(head, above));
            whole = true;
            continue;
        }
        if !table.is_empty() {
            page.add(&mut around, std::mem::take(&mut table), std::mem::take(&mut whole))?;
        }
        if aside.is_listing {
            continue;
        }
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
        page.add(&mut around, table, whole)?;
    }
    Ok(page)
}

/// What a page has beside its text: comments, and listings of code.
#[derive(Default)]
struct Aside {
    comment: bool,
    fence: Option<&'static str>,
    /// Whether the line is the beginning of a listing, or an indented one.
    is_listing: bool,
    /// Whether lines that are set in belong to a list.
    list: bool,
    /// Whether rows of the comment or listing have been told.
    told: bool,
}

impl Aside {
    /// What of a line is text: none of it, if it is in a comment or within a listing.
    fn line<'l>(&mut self, number: u32, line: &'l str, page: &mut Page) -> Option<&'l str> {
        self.is_listing = false;
        let trimmed = line.trim();
        if let Some(mark) = self.fence {
            self.fence = Some(mark).filter(|mark| !trimmed.starts_with(mark));
            self.tell(number, trimmed, "rows in a listing of code", page);
            return None;
        }
        let mut rest = line;
        loop {
            if self.comment {
                let end = rest.find("-->");
                let inside = end.and_then(|end| rest.get(..end)).unwrap_or(rest);
                self.tell(number, inside, "rows that the page comments out", page);
                rest = rest.get(end? + "-->".len()..)?;
                self.comment = false;
                self.told = false;
                if rest.trim().is_empty() {
                    return None;
                }
            }
            let Some(inside) = rest.trim_start().strip_prefix("<!--") else { break };
            (self.comment, self.told, rest) = (true, false, inside);
        }
        self.fence = ["```", "~~~"].into_iter().find(|mark| trimmed.starts_with(mark));
        if self.fence.is_some() {
            (self.told, self.is_listing) = (false, true);
            return Some(rest);
        }
        let set_in = rest.starts_with("    ") || rest.starts_with('\t');
        if trimmed.is_empty() {
            return Some(rest);
        }
        if !set_in {
            let digits = trimmed.trim_start_matches(|c: char| c.is_ascii_digit());
            let item = trimmed.starts_with(['-', '*', '+'])
                || (digits.len() < trimmed.len() && digits.starts_with(['.', ')']));
            self.list = item || (self.list && rest.starts_with(' '));
            self.told = false;
        } else if !self.list {
            self.is_listing = true;
            self.tell(number, trimmed, "rows in a listing of code", page);
        }
        Some(rest)
    }

    fn tell(&mut self, number: u32, text: &str, why: &str, page: &mut Page) {
        let row = text.matches('|').count() > 2 || text.contains("<tr") || text.contains("<table");
        if row && !std::mem::replace(&mut self.told, true) {
            page.unread(number, why);
        }
    }
}

/// A page of which only headings and tables of HTML are left, each on its line, as a page of HTML.
pub(super) fn html_of(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut aside = Aside::default();
    let mut nothing = Page::default();
    let mut open = 0_usize;
    for (number, line) in (1_u32..).zip(text.lines()) {
        let line = aside.line(number, line, &mut nothing).filter(|_| !aside.is_listing).unwrap_or_default();
        let lower = line.to_ascii_lowercase();
        let begins = lower.matches("<table").count();
        if open > 0 || begins > 0 {
            out.push_str(line);
            open = (open + begins).saturating_sub(lower.matches("</table").count());
        } else if let Some(heading) = line.strip_prefix('#') {
            let heading = heading.trim_start_matches('#').replace('<', "&lt;");
            out.push_str(&format!("<h2>{heading}</h2>"));
        } else if !line.trim_start().starts_with('|') && !line.contains('<') {
            out.push_str("<p>");
            out.push_str(line);
        }
        out.push('\n');
    }
    out
}

/// Whether a line parts heading and body: `| --- | :-: |`.
pub(super) fn is_delimiter(line: &str) -> bool {
    line.contains('-') && line.chars().all(|c| matches!(c, '|' | '-' | ':' | ' ' | '\t'))
}

/// A row, and what of it is struck out.
fn row_of(line: u32, written: &str) -> Row {
    let lower = written.to_ascii_lowercase();
    let struck = ["~~", "<del>", "<s>", "<strike>"].iter().any(|mark| lower.contains(mark));
    let cells = row(written);
    let (gone, check) = taken_out(&cells, false, struck);
    Row { line, cells, gone, check, ..Row::default() }
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

/// Marks taken off, links flattened to their texts, `<br>` turned into a line feed, superscripts and what is struck out left
/// out.
fn plain(written: &str) -> Cell {
    // In front of it, nothing is the beginning of a list, a heading or a quotation.
    let source = format!(". {}", without_struck(cut(written.trim(), MAX_WRITTEN_BYTES)));
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

/// A text without `~~what is struck out~~`.
fn without_struck(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((ahead, behind)) = rest.split_once("~~")
        && let Some((_, kept)) = behind.split_once("~~")
    {
        out.push_str(ahead);
        rest = kept;
    }
    out.push_str(rest);
    out
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
        "sup" | "del" | "s" | "strike" if ends => *above = above.saturating_sub(1),
        "sup" | "del" | "s" | "strike" => *above += 1,
        "br" | "p" | "li" | "div" | "hr" | "dt" | "dd" => text.push('\n'),
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
