//! Domain names and the patterns that documents give for them.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A domain name in presentation form: lower case, no final dot (the root is `.`), every byte outside printable ASCII,
/// and `.` or `\` inside a label, escaped as RFC 1035 section 5.1 says (`\DDD` decimal, `\.`).
///
/// So it is safe to print, and equal names are equal texts (letter case carries no meaning, RFC 4343).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomainName(Arc<str>);

/// Why a text is no domain name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no domain name: {problem}")]
pub struct DomainNameError {
    text: String,
    problem: &'static str,
}

impl DomainName {
    /// The root.
    pub fn root() -> Self {
        DomainName(Arc::from("."))
    }

    /// From labels as they stand on the wire, without the root's empty one.
    pub fn from_labels<'a>(labels: impl IntoIterator<Item = &'a [u8]>) -> Self {
        // Bytes, all of them ASCII: characters would be looked at one by one.
        let mut text = Vec::with_capacity(64);
        for label in labels {
            if !text.is_empty() {
                text.push(b'.');
            }
            for &byte in label {
                match byte.to_ascii_lowercase() {
                    b @ (b'.' | b'\\') => text.extend([b'\\', b]),
                    b @ 0x21..=0x7e => text.push(b),
                    b => text.extend_from_slice(format!("\\{b:03}").as_bytes()),
                }
            }
        }
        if text.is_empty() { Self::root() } else { DomainName(String::from_utf8_lossy(&text).into()) }
    }

    /// From a host name as nearly all are written: one that a person may write, in small letters. It is its own text, and is taken
    /// as a whole. None if it is another.
    pub fn of_host(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let is_own_text = Self::check(text).is_ok() && !text.bytes().any(|byte| byte.is_ascii_uppercase());
        is_own_text.then(|| DomainName(text.into()))
    }

    /// From the text of a name as this program writes it; none if it is another text.
    pub fn from_presentation(text: &str) -> Option<Self> {
        // A name on the wire has 255 bytes, each of which takes up to four characters.
        let fits = (1..=4 * 255).contains(&text.len());
        let shown = |byte: u8| matches!(byte, 0x21..=0x7e) && !byte.is_ascii_uppercase();
        (fits && text.bytes().all(shown)).then(|| DomainName(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is a name that a person may write for a host or zone: labels of 1 to 63 letters, digits, `-`
    /// and `_`, at most 253 in all.
    fn check(text: &str) -> Result<(), &'static str> {
        if text.is_empty() {
            return Err("it is empty");
        }
        if text.len() > 253 {
            return Err("it has more than 253 characters");
        }
        for label in text.as_bytes().split(|&byte| byte == b'.') {
            if label.is_empty() {
                return Err("a label between two dots is empty");
            }
            if label.len() > 63 {
                return Err("a label has more than 63 characters");
            }
            if !label.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')) {
                return Err("a label has a character other than letters, digits, `-` and `_`");
            }
        }
        Ok(())
    }
}

impl FromStr for DomainName {
    type Err = DomainNameError;

    /// Reads a name as a person writes it in a rules or site file, or as a client writes it in a server name: host
    /// name characters only.
    fn from_str(text: &str) -> Result<Self, DomainNameError> {
        let body = text.strip_suffix('.').unwrap_or(text);
        match Self::check(body) {
            Ok(()) => Ok(DomainName(body.to_ascii_lowercase().into())),
            Err(problem) => Err(DomainNameError { text: text.escape_default().to_string(), problem }),
        }
    }
}

impl fmt::Display for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Serialize for DomainName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for DomainName {
    /// Takes the text as it stands: what portproof wrote is already in presentation form.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(DomainName(String::deserialize(deserializer)?.into()))
    }
}

/// A part of a name that the document leaves to the installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Placeholder {
    /// `<account>`, also written `<blob_name>`: the name of a storage account.
    Account,
}

/// What a document gives as a name: whole labels, `*` (exactly one label), globs within a label (`md-*`; `#` stands for
/// one digit, as in `z##`) and `<account>`.
///
/// A pattern matches whole names only: a parent documents no child, and `*` is never empty or two labels.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DomainPattern {
    labels: Vec<LabelPattern>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum LabelPattern {
    Exact(Box<str>),
    /// With at least one `*` or `#`.
    Glob(Box<str>),
    Placeholder(Placeholder),
}

/// Why a text is no pattern for names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no domain name pattern: {problem}")]
pub struct DomainPatternError {
    text: String,
    problem: &'static str,
}

impl DomainPattern {
    /// Whether `name` fits, label by label.
    pub fn matches(&self, name: &DomainName) -> bool {
        let mut labels = self.labels.iter();
        for label in name.0.split('.') {
            let fits = match labels.next() {
                None => false,
                Some(LabelPattern::Exact(text)) => **text == *label,
                Some(LabelPattern::Glob(glob)) => glob_matches(glob.as_bytes(), label.as_bytes()),
                Some(LabelPattern::Placeholder(Placeholder::Account)) => !label.is_empty(),
            };
            if !fits {
                return false;
            }
        }
        labels.next().is_none()
    }

    /// What stands in `name` for the placeholder, if the pattern has one and `name` fits.
    pub fn placeholder<'n>(&self, name: &'n DomainName) -> Option<&'n str> {
        let place = self.labels.iter().position(|label| matches!(label, LabelPattern::Placeholder(_)))?;
        self.matches(name).then(|| name.0.split('.').nth(place))?
    }

    /// The labels at its end that stand for themselves: every name that fits ends in them. Empty where the last one is a
    /// wildcard.
    pub fn plain_ending(&self) -> String {
        let plain = self.labels.iter().rev().map_while(|label| match label {
            LabelPattern::Exact(text) => Some(&**text),
            LabelPattern::Glob(_) | LabelPattern::Placeholder(_) => None,
        });
        let mut labels: Vec<&str> = plain.collect();
        labels.reverse();
        labels.join(".")
    }

    /// Whether it stands for exactly one name.
    pub fn is_exact(&self) -> bool {
        self.labels.iter().all(|label| matches!(label, LabelPattern::Exact(_)))
    }
}

/// `*` stands for one or more characters when it is the whole label, for any number within one; `#` for one digit.
fn glob_matches(glob: &[u8], label: &[u8]) -> bool {
    if glob == b"*" {
        return !label.is_empty();
    }
    match glob.split_first() {
        None => label.is_empty(),
        Some((b'*', rest)) => (0..=label.len()).any(|skip| glob_matches(rest, &label[skip..])),
        Some((b'#', rest)) => {
            label.split_first().is_some_and(|(b, more)| b.is_ascii_digit() && glob_matches(rest, more))
        }
        Some((byte, rest)) => {
            label.split_first().is_some_and(|(b, more)| b == byte && glob_matches(rest, more))
        }
    }
}

impl FromStr for DomainPattern {
    type Err = DomainPatternError;

    fn from_str(text: &str) -> Result<Self, DomainPatternError> {
        let error = |problem| DomainPatternError { text: text.escape_default().to_string(), problem };
        let body = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let mut labels = Vec::new();
        for label in body.split('.') {
            labels.push(match label {
                "<account>" | "<blob_name>" => LabelPattern::Placeholder(Placeholder::Account),
                "" => return Err(error("a label is empty")),
                _ if label.len() > 63 => return Err(error("a label has more than 63 characters")),
                _ if label.bytes().filter(|&b| b == b'*').count() > 2 => {
                    return Err(error("a label has more than two `*`"));
                }
                _ => {
                    let plain = label
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'*' | b'#'));
                    if !plain {
                        return Err(error(
                            "a label has a character other than letters, digits, `-`, `_`, `*`, `#`, and is no <account>",
                        ));
                    }
                    if label.contains(['*', '#']) {
                        LabelPattern::Glob(label.into())
                    } else {
                        LabelPattern::Exact(label.into())
                    }
                }
            });
        }
        if labels.iter().all(|label| matches!(label, LabelPattern::Glob(_) | LabelPattern::Placeholder(_))) {
            return Err(error("it has no literal label: it would match names of any owner"));
        }
        Ok(DomainPattern { labels })
    }
}

impl fmt::Display for DomainPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, label) in self.labels.iter().enumerate() {
            if index > 0 {
                f.write_str(".")?;
            }
            f.write_str(match label {
                LabelPattern::Exact(text) | LabelPattern::Glob(text) => text,
                LabelPattern::Placeholder(Placeholder::Account) => "<account>",
            })?;
        }
        Ok(())
    }
}

impl Serialize for DomainPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DomainPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[rustfmt::skip]
    fn a_pattern_matches_whole_labels_only() {
        for (pattern, name, expected) in [
            ("postgresql.org",             "PostgreSQL.org.",                  true),
            ("postgresql.org",             "apt.postgresql.org",               false), // a parent documents no child
            ("*.blob.core.windows.net",    "acct.blob.core.windows.net",       true),
            ("*.blob.core.windows.net",    "blob.core.windows.net",            false), // `*` is never empty
            ("*.blob.core.windows.net",    "a.b.blob.core.windows.net",        false), // nor two labels
            ("*.blob.core.windows.net",    "x.blob.core.windows.net.example",  false), // ends elsewhere
            ("security.ubuntu.com",        "insecurity.ubuntu.com",            false), // no substring match
            ("md-*.z##.blob.storage.azure.net", "md-a1.z07.blob.storage.azure.net", true),
            ("md-*.z##.blob.storage.azure.net", "md-a1.z7.blob.storage.azure.net", false),
            ("<account>.blob.core.windows.net", "acct.blob.core.windows.net", true),
        ] {
            let pattern: DomainPattern = pattern.parse().unwrap();
            assert_eq!(pattern.matches(&name.parse().unwrap()), expected, "{pattern} against {name}");
        }
        let blob: DomainPattern = "<blob_name>.blob.core.windows.net".parse().unwrap();
        assert_eq!(blob.placeholder(&"acct.blob.core.windows.net".parse().unwrap()), Some("acct"));
        for bad in ["", "*", "a..b", "<host>.example", "a b.example", "*.*"] {
            assert!(bad.parse::<DomainPattern>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_name_from_the_wire_is_safe_to_print() {
        let labels: [&[u8]; 3] = [b"Ev.il\x1b[2J", b"\xff", b"NET"];
        assert_eq!(DomainName::from_labels(labels).as_str(), "ev\\.il\\027[2j.\\255.net");
        assert_eq!(DomainName::from_labels([]).as_str(), ".");
        for bad in ["", "a..b", "a b", "x\u{1b}.net"] {
            assert!(bad.parse::<DomainName>().is_err(), "{bad:?}");
        }
    }
}
