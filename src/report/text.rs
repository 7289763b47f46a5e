//! Text that is safe to print and fits.

use std::fmt::Write;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Whether a character could steer a terminal, hide, or change the direction of what follows: control and format
/// characters (general categories Cc, Cf, Zl, Zp), variation selectors left alone.
pub(super) fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}' | '\u{891}' | '\u{8e2}'
            | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1345f}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e007f}')
}

/// Whether all of it is printable ASCII, as most of what is printed: nothing steers then, and each byte takes a column.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

/// `text` with everything escaped that could steer a terminal, as `\u{1b}`.
pub fn printable(text: &str) -> String {
    if is_plain(text) {
        return text.to_owned();
    }
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if steers(c) { safe.extend(c.escape_unicode()) } else { safe.push(c) }
    }
    safe
}

/// `text` as one word of a POSIX shell's command line; where it has characters that could steer a terminal, in the
/// `$'...'` form that bash, zsh and ksh know, so that the command still works when it is copied.
pub fn shell_word(text: &str) -> String {
    let plain = |c: char| {
        c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ':' | '=' | '@' | '%' | '+' | ',')
    };
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    if !text.chars().any(steers) {
        return format!("'{}'", text.replace('\'', r"'\''"));
    }
    let mut word = String::from("$'");
    for c in text.chars() {
        match c {
            '\'' | '\\' => word.extend(['\\', c]),
            c if !steers(c) => word.push(c),
            // Writing to a String cannot fail.
            c if c.is_ascii() => _ = write!(word, "\\x{:02x}", u32::from(c)),
            c => _ = write!(word, "\\U{:08x}", u32::from(c)),
        }
    }
    word.push('\'');
    word
}

/// Columns that `text` takes on a terminal.
pub(super) fn width(text: &str) -> usize {
    if is_plain(text) { text.len() } else { text.width() }
}

/// `text` cut to `columns`, with `...` where something is missing.
pub(super) fn fit(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut cut = head(text, columns.saturating_sub(3)).to_owned();
    cut.push_str(&"..."[..columns.min(3)]);
    cut
}

/// The longest beginning of `text` that takes at most `columns`.
fn head(text: &str, columns: usize) -> &str {
    let mut used = 0;
    for (at, c) in text.char_indices() {
        used += c.width().unwrap_or(0);
        if used > columns {
            return &text[..at];
        }
    }
    text
}

/// `text` in lines of at most `columns`, broken at spaces; a longer word is broken where it must be.
pub(super) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(8);
    let mut lines = Vec::new();
    // The line at hand, and the columns that it takes.
    let (mut line, mut used) = (String::new(), 0);
    for mut word in text.split(' ').filter(|word| !word.is_empty()) {
        let mut wide = width(word);
        if !line.is_empty() && used + 1 + wide > columns {
            lines.push(std::mem::take(&mut line));
            used = 0;
        }
        if !line.is_empty() {
            line.push(' ');
            used += 1;
        }
        while line.is_empty() && wide > columns {
            let first = head(word, columns);
            lines.push(first.to_owned());
            word = &word[first.len()..];
            wide = width(word);
        }
        line.push_str(word);
        used += wide;
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

/// `1 flow`, `2 flows`: a count and its noun.
pub(super) fn count(n: u64, noun: &str) -> String {
    match noun.strip_suffix("ry") {
        _ if n == 1 => format!("1 {noun}"),
        Some(stem) => format!("{} {stem}ries", thousands(n)),
        None => format!("{} {noun}s", thousands(n)),
    }
}

/// `1,234,567`.
pub(super) fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    #[rustfmt::skip]
    fn what_could_steer_a_terminal_is_escaped_and_nothing_else() {
        for (raw, safe) in [
            ("site-a.pcap",            "site-a.pcap"),
            ("Zürich 東京.pcap",        "Zürich 東京.pcap"),
            ("a\u{1b}[2Jb",            "a\\u{1b}[2Jb"),
            ("a\nb\r\tc",              "a\\u{a}b\\u{d}\\u{9}c"),
            ("\u{9b}31m",              "\\u{9b}31m"),
            ("fcap.\u{202e}gnp",       "fcap.\\u{202e}gnp"),
            ("a\u{200b}b\u{feff}",     "a\\u{200b}b\\u{feff}"),
        ] { assert_eq!(printable(raw), safe); }
    }

    #[test]
    #[rustfmt::skip]
    fn a_command_can_be_copied_whatever_the_file_is_called() {
        for (raw, word) in [
            ("site-a.pcap",        "site-a.pcap"),
            ("",                   "''"),
            ("two words.pcap",     "'two words.pcap'"),
            ("$(reboot).pcap",     "'$(reboot).pcap'"),
            ("it's.pcap",          r"'it'\''s.pcap'"),
            ("a\u{1b}[2J'\\.pcap", r"$'a\x1b[2J\'\\.pcap'"),
            ("\u{202e}x",          r"$'\U0000202ex'"),
        ] { assert_eq!(shell_word(raw), word); }
    }

    #[test]
    fn lines_are_as_wide_as_a_terminal_shows_them() {
        assert_eq!(wrap("one two  three", 8), ["one two", "three"]);
        assert_eq!(wrap("0123456789ab cd", 8), ["01234567", "89ab cd"]);
        assert_eq!(wrap("東京東京東京", 8), ["東京東京", "東京"]);
        assert_eq!(wrap("", 8), Vec::<String>::new());
        assert_eq!(fit("0123456789", 8), "01234...");
        assert_eq!(fit("東京東京東京", 8), "東京...");
        assert_eq!(fit("short", 8), "short");
    }

    proptest! {
        #[test]
        fn no_line_is_too_wide_and_nothing_is_lost(
            words in prop::collection::vec(prop_oneof!["[ -~]{0,12}", "\\PC{0,12}", Just("👩‍🔬".to_owned())], 0..12),
            columns in 8usize..30,
        ) {
            let text = words.join(" ");
            let lines = wrap(&text, columns);
            prop_assert!(lines.iter().all(|line| line.width() <= columns), "{lines:?}");
            let solid = |text: &str| text.replace(' ', "");
            prop_assert_eq!(solid(&lines.concat()), solid(&text));
        }

        #[test]
        fn text_takes_as_many_columns_and_is_escaped_as_if_it_were_not_plain(text in "[ -~\u{0}\u{1b}\u{7f}\u{202e}é]{0,9}") {
            prop_assert_eq!(width(&text), text.width());
            let by_character = text.chars().map(|c| if steers(c) { c.escape_unicode().to_string() } else { c.into() });
            prop_assert_eq!(printable(&text), by_character.collect::<String>());
        }
    }

    #[test]
    fn counts_read_as_people_write_them() {
        for (n, text) in [(0, "0 flows"), (1, "1 flow"), (999, "999 flows"), (1_234_567, "1,234,567 flows")] {
            assert_eq!(count(n, "flow"), text);
        }
        assert_eq!(count(2, "query"), "2 queries");
    }
}
