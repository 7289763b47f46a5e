//! Reading rules and site files so that every mistake is told at once, each with its place.

use serde::Serialize;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Bytes from the start of a file.
pub(super) type Span = Range<usize>;

/// Bytes of the longest line that is shown with a mistake. Files written by programs are often a single line: with each
/// of thousands of mistakes it would be kept once more, and no person reads it.
const MAX_SHOWN_LINE: usize = 500;

/// Mistakes of one weight that are told of one file. Each is looked up in the text for its line and column, and nobody
/// mends the thousandth without mending the first.
pub(super) const MOST_TOLD: usize = 1_000;

/// How much a [`Problem`] weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file can be used, yet probably means something else than its author thinks.
    Warning,
}

/// A place in a file, both counted from 1; the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Position {
    /// The line.
    pub line: u32,
    /// The character of the line.
    pub column: u32,
}

/// One mistake of a file: where it stands, what stands there, and what to write instead.
///
/// [`fmt::Display`] gives one line, `FILE:LINE:COLUMN: message`; the alternate form (`{:#}`) adds the source line with
/// the place marked. Control characters of the file are escaped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Whether the file can be used nevertheless.
    pub severity: Severity,
    /// The file, as it was named.
    pub file: String,
    /// Where in it; `None` if the whole file is meant.
    pub position: Option<Position>,
    /// What stands there: at most 80 characters of the first line.
    pub found: String,
    /// What is wrong and what to write instead.
    pub message: String,
    /// The whole source line; empty where it is too long to be shown.
    source_line: String,
}

impl Problem {
    /// A mistake of a whole file, such as one that cannot be read.
    pub fn of_file(file: &str, message: impl fmt::Display) -> Self {
        Problem {
            severity: Severity::Error,
            file: shown(file),
            position: None,
            found: String::new(),
            message: message.to_string(),
            source_line: String::new(),
        }
    }

    /// Whether it forbids to use the file.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let warning = if self.is_error() { "" } else { "warning: " };
        let Some(Position { line, column }) = self.position else {
            return write!(f, "{}: {warning}{}", self.file, self.message);
        };
        write!(f, "{}:{line}:{column}: {warning}{}", self.file, self.message)?;
        if f.alternate() && !self.source_line.is_empty() {
            let gutter = line.to_string().len();
            let indent = column.saturating_sub(1) as usize;
            let carets = "^".repeat(self.found.chars().count().max(1));
            write!(f, "\n{line} | {}\n{:gutter$} | {:indent$}{carets}", self.source_line, "", "")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}

/// `text` with what could steer a terminal escaped: control characters and those that change the direction of writing.
pub(super) fn shown(text: &str) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2028}' | '\u{2029}' | '\u{2066}'..='\u{2069}')
    };
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if steers(c) { safe.extend(c.escape_unicode()) } else { safe.push(c) }
    }
    safe
}

/// A text file and its name.
#[derive(Clone, Debug)]
pub(super) struct Doc {
    pub(super) file: String,
    pub(super) text: String,
}

impl Doc {
    pub(super) fn new(file: &str, text: &str) -> Self {
        Doc { file: file.to_owned(), text: text.to_owned() }
    }

    /// Reads a file that must be UTF-8.
    pub(super) fn read(path: &std::path::Path) -> Result<Self, Problem> {
        let file = path.display().to_string();
        let bytes =
            std::fs::read(path).map_err(|e| Problem::of_file(&file, format!("cannot be read: {e}")))?;
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Doc { file, text }),
            Err(error) => {
                let sound = error.utf8_error().valid_up_to();
                let line = 1 + error.as_bytes().iter().take(sound).filter(|&&b| b == b'\n').count();
                // pcap and pcapng by their first bytes.
                let what = match error.as_bytes() {
                    [0xa1, 0xb2, ..] | [0xd4, 0xc3, ..] | [0x4d, 0x3c, ..] | [0x0a, 0x0d, 0x0d, 0x0a, ..] => {
                        "this is a capture, and a text is wanted here".to_owned()
                    }
                    _ => format!("line {line} is not UTF-8 text: save the file as UTF-8"),
                };
                Err(Problem::of_file(&file, what))
            }
        }
    }

    pub(super) fn problem(&self, severity: Severity, span: &Span, message: impl Into<String>) -> Problem {
        let floor = |mut at: usize| {
            at = at.min(self.text.len());
            while !self.text.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let (start, end) = (floor(span.start), floor(span.end.max(span.start)));
        let (before, from) = self.text.split_at(start);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line_end = start + from.find('\n').unwrap_or(from.len());
        let found = self.text[start..end.min(line_end)].trim_end();
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Problem {
            severity,
            file: shown(&self.file),
            position: Some(Position {
                line: count(1 + before.bytes().filter(|&b| b == b'\n').count()),
                column: count(1 + self.text[line_start..start].chars().count()),
            }),
            found: shown(&found.chars().take(80).collect::<String>()),
            message: message.into(),
            // A tab is one column here, so it must be one character in the excerpt.
            source_line: match self.text[line_start..line_end].trim_end() {
                line if line.len() > MAX_SHOWN_LINE => String::new(),
                line => shown(&line.replace('\t', " ")),
            },
        }
    }
}

/// The mistakes found so far in one file.
pub(super) struct Mistakes<'d> {
    pub(super) doc: &'d Doc,
    pub(super) problems: Vec<Problem>,
}

impl<'d> Mistakes<'d> {
    pub(super) fn new(doc: &'d Doc) -> Self {
        Mistakes { doc, problems: Vec::new() }
    }

    pub(super) fn error(&mut self, span: &Span, message: impl Into<String>) {
        self.tell(Severity::Error, span, message);
    }

    pub(super) fn warning(&mut self, span: &Span, message: impl Into<String>) {
        self.tell(Severity::Warning, span, message);
    }

    fn tell(&mut self, severity: Severity, span: &Span, message: impl Into<String>) {
        let told = || self.problems.iter().filter(|problem| problem.severity == severity).count();
        if self.problems.len() < MOST_TOLD || told() < MOST_TOLD {
            self.problems.push(self.doc.problem(severity, span, message));
        }
    }

    /// `kind` and `name` are not among `known`: says which are, and which was probably meant.
    pub(super) fn unknown<'k>(
        &mut self,
        span: &Span,
        kind: &str,
        name: &str,
        known: impl IntoIterator<Item = &'k str>,
    ) {
        let known: Vec<&str> = known.into_iter().collect();
        self.error(span, unknown_message(kind, name, &known));
    }

    /// Parses the document; syntax mistakes are told, and nothing else then, for what a broken line meant is a guess.
    pub(super) fn parse(&mut self) -> Option<Spanned<DeTable<'d>>> {
        let (table, errors) = DeTable::parse_recoverable(&self.doc.text);
        for error in &errors {
            let span = error.span().unwrap_or(0..0);
            self.error(&span, format!("not TOML here: {}", shown(error.message())));
        }
        errors.is_empty().then_some(table)
    }
}

/// What to say of a word that is not among those known.
pub(super) fn unknown_message(kind: &str, name: &str, known: &[&str]) -> String {
    let guess = nearest(name, known).map(|word| format!(" (did you mean `{word}`?)")).unwrap_or_default();
    if known.is_empty() {
        return format!("unknown {kind} `{}`: none is known here", shown(name));
    }
    format!("unknown {kind} `{}`: write one of {}{guess}", shown(name), known.join(", "))
}

/// The known word that a slip of the pen most likely turned into `word`.
pub(super) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let plain = |text: &str| text.to_lowercase().replace(['_', ' '], "-");
    let word = plain(word);
    let scored = known.iter().map(|&candidate| (edits(&word, &plain(candidate)), candidate));
    let (distance, candidate) = scored.min_by_key(|&(distance, _)| distance)?;
    (distance <= (word.chars().count().max(candidate.chars().count()) / 3).max(1)).then_some(candidate)
}

/// Insertions, deletions, substitutions and swaps of neighbours that lead from `a` to `b` (optimal string alignment).
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(80).collect(), b.chars().take(80).collect());
    let mut older: Vec<usize> = Vec::new();
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let changed = usize::from(a[i - 1] != b[j - 1]);
            let mut least = (previous[j] + 1).min(row[j - 1] + 1).min(previous[j - 1] + changed);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(older[j - 2] + 1);
            }
            row.push(least);
        }
        older = std::mem::replace(&mut previous, row);
    }
    previous[b.len()]
}

/// A table that is asked for its keys one by one; [`Fields::done`] then tells those that nobody asked for.
pub(super) struct Fields<'a, 'i> {
    table: &'a DeTable<'i>,
    /// Where the table stands.
    pub(super) span: Span,
    /// What it is, for messages: "[[rule]]".
    what: &'static str,
    asked: Vec<&'static str>,
}

/// A text of the file and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Text<'a> {
    pub(super) text: &'a str,
    pub(super) span: Span,
}

impl<'a, 'i> Fields<'a, 'i> {
    pub(super) fn new(table: &'a DeTable<'i>, span: Span, what: &'static str) -> Self {
        Fields { table, span, what, asked: Vec::new() }
    }

    /// `value` as a table, or a mistake.
    pub(super) fn of(
        value: &'a Spanned<DeValue<'i>>,
        what: &'static str,
        m: &mut Mistakes<'_>,
    ) -> Option<Self> {
        let Some(table) = value.get_ref().as_table() else {
            let found = value.get_ref().type_str();
            m.error(&value.span(), format!("{what} is a table of keys, and here stands {}", article(found)));
            return None;
        };
        Some(Fields::new(table, value.span(), what))
    }

    pub(super) fn value(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'i>>> {
        if !self.asked.contains(&key) {
            self.asked.push(key);
        }
        self.table.get(key)
    }

    /// The value of a key that must be there.
    pub(super) fn need(
        &mut self,
        key: &'static str,
        m: &mut Mistakes<'_>,
    ) -> Option<&'a Spanned<DeValue<'i>>> {
        let value = self.value(key);
        if value.is_none() {
            m.error(&self.span, format!("{} has no `{key}`: add `{key} = ...`", self.what));
        }
        value
    }

    pub(super) fn text(&mut self, key: &'static str, m: &mut Mistakes<'_>) -> Option<Text<'a>> {
        text_of(self.value(key)?, key, m)
    }

    pub(super) fn need_text(&mut self, key: &'static str, m: &mut Mistakes<'_>) -> Option<Text<'a>> {
        let text = text_of(self.need(key, m)?, key, m)?;
        if text.text.trim().is_empty() {
            m.error(&text.span, format!("`{key}` is empty: write a text"));
            return None;
        }
        Some(text)
    }

    pub(super) fn flag(&mut self, key: &'static str, m: &mut Mistakes<'_>) -> Option<bool> {
        let value = self.value(key)?;
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            let found = article(value.get_ref().type_str());
            m.error(&value.span(), format!("`{key}` is {found}: write true or false"));
        }
        flag
    }

    /// The texts of a list; none if the key is absent.
    pub(super) fn texts(&mut self, key: &'static str, m: &mut Mistakes<'_>) -> Vec<Text<'a>> {
        self.value(key).map(|value| texts_of(value, key, m)).unwrap_or_default()
    }

    /// A text that some type can read.
    pub(super) fn parsed<T>(&mut self, key: &'static str, m: &mut Mistakes<'_>) -> Option<T>
    where
        T: FromStr<Err: fmt::Display>,
    {
        parsed(&self.text(key, m)?, m)
    }

    /// A text, which must be there, that some type can read.
    pub(super) fn need_parsed<T>(&mut self, key: &'static str, m: &mut Mistakes<'_>) -> Option<T>
    where
        T: FromStr<Err: fmt::Display>,
    {
        parsed(&self.need_text(key, m)?, m)
    }

    /// Texts of a list, each read by some type.
    pub(super) fn all_parsed<T>(&mut self, key: &'static str, m: &mut Mistakes<'_>) -> Vec<T>
    where
        T: FromStr<Err: fmt::Display>,
    {
        self.texts(key, m).iter().filter_map(|text| parsed(text, m)).collect()
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(
        &mut self,
        key: &'static str,
        words: &[(&str, T)],
        m: &mut Mistakes<'_>,
    ) -> Option<T> {
        let text = self.text(key, m)?;
        word(&text, key, words, m)
    }

    /// The elements of an array of tables, `[[key]]`.
    pub(super) fn tables(
        &mut self,
        key: &'static str,
        what: &'static str,
        m: &mut Mistakes<'_>,
    ) -> Vec<Fields<'a, 'i>> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let Some(array) = value.get_ref().as_array() else {
            let found = article(value.get_ref().type_str());
            m.error(&value.span(), format!("`{key}` is {found}: write {what}, once for each"));
            return Vec::new();
        };
        array.iter().filter_map(|element| Fields::of(element, what, m)).collect()
    }

    /// All keys with their values, in the order of the file: for tables whose keys are names.
    pub(super) fn entries(&self) -> Vec<(Text<'a>, &'a Spanned<DeValue<'i>>)> {
        let mut entries: Vec<_> = self
            .table
            .iter()
            .map(|(key, value)| (Text { text: key.get_ref().as_ref(), span: key.span() }, value))
            .collect();
        entries.sort_by_key(|(key, _)| key.span.start);
        entries
    }

    /// Tells every key that was never asked for.
    pub(super) fn done(self, m: &mut Mistakes<'_>) {
        for (key, _) in self.entries() {
            if !self.asked.contains(&key.text) {
                let kind = format!("key in {}", self.what);
                m.unknown(&key.span, &kind, key.text, self.asked.iter().copied());
            }
        }
    }
}

/// One of a few words, or a mistake that lists them.
pub(super) fn word<T: Copy>(
    text: &Text<'_>,
    key: &str,
    words: &[(&str, T)],
    m: &mut Mistakes<'_>,
) -> Option<T> {
    let known = words.iter().find(|(word, _)| *word == text.text);
    if known.is_none() {
        m.unknown(&text.span, key, text.text, words.iter().map(|(word, _)| *word));
    }
    known.map(|&(_, value)| value)
}

/// "a string", "an array".
pub(super) fn article(word: &str) -> String {
    let an = word.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {word}", if an { "an" } else { "a" })
}

pub(super) fn text_of<'a>(
    value: &'a Spanned<DeValue<'_>>,
    key: &str,
    m: &mut Mistakes<'_>,
) -> Option<Text<'a>> {
    let Some(text) = value.get_ref().as_str() else {
        let found = article(value.get_ref().type_str());
        m.error(&value.span(), format!("`{key}` is {found}: write it in quotes, as a string"));
        return None;
    };
    Some(Text { text, span: value.span() })
}

pub(super) fn texts_of<'a>(
    value: &'a Spanned<DeValue<'_>>,
    key: &str,
    m: &mut Mistakes<'_>,
) -> Vec<Text<'a>> {
    let Some(array) = value.get_ref().as_array() else {
        let found = article(value.get_ref().type_str());
        m.error(&value.span(), format!("`{key}` is {found}: write a list, such as [\"...\"]"));
        return Vec::new();
    };
    array.iter().filter_map(|element| text_of(element, key, m)).collect()
}

pub(super) fn parsed<T>(text: &Text<'_>, m: &mut Mistakes<'_>) -> Option<T>
where
    T: FromStr<Err: fmt::Display>,
{
    match text.text.parse() {
        Ok(value) => Some(value),
        Err(error) => {
            m.error(&text.span, error.to_string());
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[rustfmt::skip]
    fn a_slip_of_the_pen_is_answered_with_the_word_meant() {
        let known = ["backup-appliance", "worker", "backup-server", "console"];
        for (typed, meant) in [
            ("bakup-appliance",  Some("backup-appliance")),
            ("backup_appliance", Some("backup-appliance")),
            ("Worker",           Some("worker")),
            ("wroker",           Some("worker")),
            ("workers",          Some("worker")),
            ("printer",          None),
            ("",                 None),
        ] {
            assert_eq!(nearest(typed, &known), meant, "{typed}");
        }
    }

    #[test]
    fn a_problem_marks_its_place_and_cannot_steer_the_terminal() {
        let doc = Doc::new("site\u{1b}.toml", "a = 1\n[röles]\nb = \"x\u{1b}[2J\"\n");
        let at = doc.text.find("\"x").unwrap();
        let problem = doc.problem(Severity::Error, &(at..at + 7), "no such thing");
        assert_eq!(problem.to_string(), "site\\u{1b}.toml:3:5: no such thing");
        assert_eq!(
            format!("{problem:#}"),
            "site\\u{1b}.toml:3:5: no such thing\n3 | b = \"x\\u{1b}[2J\"\n  |     ^^^^^^^^^^^^"
        );
        // Columns count characters, and a place past the end does not panic.
        assert_eq!(
            doc.problem(Severity::Error, &(10..11), "").position,
            Some(Position { line: 2, column: 4 })
        );
        assert!(doc.problem(Severity::Warning, &(900..901), "late").to_string().contains("warning: late"));
    }
}
