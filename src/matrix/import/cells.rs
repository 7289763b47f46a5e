//! What a cell says: who, over what, to which ports, how firmly.

use super::cut;
use crate::matrix::rule::TagName;
use crate::model::{AppProtocol, DomainPattern, Transport};
use std::collections::BTreeSet;

/// Words behind which stands what is not meant.
const EXCLUDING: [&str; 12] = [
    "but",
    "except",
    "excepting",
    "excluding",
    "excludes",
    "formerly",
    "instead",
    "not",
    "previously",
    "was",
    "were",
    "without",
];

/// Endings of files that no name in the DNS of two labels has.
const FILES: [&str; 12] =
    ["bat", "cfg", "conf", "config", "dll", "exe", "ini", "js", "json", "log", "txt", "xml"];

/// Machines or destinations that one cell may name.
const MAX_PARTIES: usize = 64;

/// Bytes of a cell that names them.
const MAX_PARTIES_BYTES: usize = 4_000;

/// Ports that one cell may name.
const MAX_PORTS: usize = 256;

/// Whom a cell names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Party {
    /// What the page calls it.
    pub(super) title: String,
    pub(super) who: Who,
    /// The port that stands with its address, or that its scheme means.
    pub(super) port: Option<u16>,
    /// What was guessed of it.
    pub(super) checks: Vec<String>,
}

/// How it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// By names, patterns that a pack may have.
    Names(Vec<String>),
    /// By a service tag.
    Tag(String),
    /// By the tag that Microsoft does not publish.
    VirtualNetwork,
    /// By what only the site knows.
    SiteRole,
    /// By what the page calls it.
    Role,
}

/// Everybody that a cell names, and what was guessed in taking it apart.
///
/// # Errors
/// It names nobody whom a rule could name.
pub(super) fn parties(cell: &str, footnotes: &BTreeSet<char>) -> Result<(Vec<Party>, Vec<String>), String> {
    if cell.len() > MAX_PARTIES_BYTES {
        return Err(format!("a cell of {} bytes names no machines", cell.len()));
    }
    let (pieces, split, unclosed) = pieces(cell);
    if pieces.len() > MAX_PARTIES {
        return Err(format!(
            "a cell names {} machines: no more than {MAX_PARTIES} are told apart",
            pieces.len()
        ));
    }
    let mut checks = Vec::new();
    if unclosed {
        checks.push(format!("a parenthesis never ends: is this one party? {}", quoted(cell)));
    }
    let mut found: Vec<Party> = Vec::new();
    for piece in &pieces {
        if is_anybody(piece) {
            checks.push(format!(
                "{} (any address) is no destination that a rule can name: left out",
                quoted(piece)
            ));
            continue;
        }
        found.push(party(piece, footnotes));
    }
    let told = |party: &Party| matches!(party.who, Who::Names(_) | Who::Tag(_) | Who::VirtualNetwork);
    let (named, all) = (found.iter().filter(|party| told(party)).count(), found.len());
    // "A and B (a.example, b.example)": the names are of both.
    if named == 1
        && all > 1
        && let Some(Who::Names(names)) = found.last().map(|last| last.who.clone())
        && names.len() > 1
        && let Some(last) = found.last()
        && last.title != *names.first().map_or("", String::as_str)
    {
        let mut whole = last.clone();
        whole.title = found.iter().map(|party| party.title.as_str()).collect::<Vec<_>>().join(" and ");
        whole.checks.push("the names of the cell are taken to be of all that it names".into());
        found = vec![whole];
    } else if all > named && all > 1 && split {
        checks.push(format!("the cell is taken to name {all}, one rule for each: {}", quoted(cell)));
    }
    match found.is_empty() {
        true if pieces.is_empty() => Err("a cell names nobody".into()),
        true => Err("it is about any address, which no rule can name".into()),
        false => Ok((found, checks)),
    }
}

/// A cell's text on one line, cut where it is long.
pub(super) fn quoted(cell: &str) -> String {
    let line = cell.replace('\n', " / ");
    let mut short: String = line.chars().take(200).collect();
    if short.len() < line.len() {
        short.push_str("...");
    }
    format!("\"{short}\"")
}

fn is_anybody(piece: &str) -> bool {
    let word = piece.trim().trim_matches(['`', '"']);
    let word = word.split_once(':').map_or(word, |(word, _)| word);
    matches!(word, "*" | "0.0.0.0/0" | "::/0")
}

/// A cell cut at line feeds, commas, "and", "or", outside of parentheses. Also whether it was cut at words or commas, which
/// may be part of a name, and whether a parenthesis never ends.
fn pieces(cell: &str) -> (Vec<String>, bool, bool) {
    let mut pieces: Vec<String> = Vec::new();
    let mut piece = String::new();
    let (mut depth, mut split, mut clause) = (0_usize, false, false);
    let mut cut = |piece: &mut String, glued: bool| {
        let text = std::mem::take(piece);
        let mut text = text.trim();
        for word in ["and", "or", "Or", "And"] {
            text = text
                .strip_prefix(word)
                .filter(|rest| rest.is_empty() || rest.starts_with(' '))
                .unwrap_or(text)
                .trim();
            text = text
                .strip_suffix(word)
                .filter(|rest| rest.is_empty() || rest.ends_with(' '))
                .unwrap_or(text)
                .trim();
        }
        if text.is_empty() {
            return;
        }
        // "(a.example)" on a line of its own belongs to what stands before it.
        let belongs = text.starts_with('(') || (glued && is_address(text));
        match pieces.last_mut().filter(|last| belongs && !is_address(last)) {
            Some(last) => {
                last.push(' ');
                last.push_str(text);
            }
            None => pieces.push(text.to_owned()),
        }
    };
    let mut rest = cell;
    while let Some(c) = rest.chars().next() {
        let word = |word: &str| rest.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
        let cut_here = depth == 0 && c == ' ' && (word(" and ") || word(" or "));
        // "Server that hosts A and B" is one server.
        if cut_here && !clause {
            let words = [" that ", " which ", " where ", " between ", " with ", " for "];
            clause = words.iter().any(|word| piece.contains(word));
        }
        let skip = match c {
            '(' | '[' | '<' => {
                depth += 1;
                0
            }
            ')' | ']' | '>' => {
                depth = depth.saturating_sub(1);
                0
            }
            '\n' if depth == 0 => {
                cut(&mut piece, true);
                1
            }
            ',' | ';' if depth == 0 => {
                split = true;
                cut(&mut piece, false);
                1
            }
            ' ' if cut_here && !clause => {
                split = true;
                cut(&mut piece, false);
                if word(" and ") { 5 } else { 4 }
            }
            '/' if depth == 0 && (word("/ ") || word("/\n")) => {
                split = true;
                cut(&mut piece, false);
                2
            }
            _ => 0,
        };
        if skip == 0 {
            piece.push(c);
            rest = rest.get(c.len_utf8()..).unwrap_or_default();
        } else {
            clause = false;
            rest = rest.get(skip..).unwrap_or_default();
        }
    }
    cut(&mut piece, true);
    (pieces, split, depth > 0)
}

/// One of them.
fn party(piece: &str, footnotes: &BTreeSet<char>) -> Party {
    let lower = piece.to_ascii_lowercase();
    let excluded = excluded(&lower);
    let meant = excluded.and_then(|at| piece.get(..at)).unwrap_or(piece);
    let tag = service_tag(meant).or_else(|| (piece == "VirtualNetwork").then(|| piece.to_owned()));
    let names: Vec<Name> = if tag.is_some() { Vec::new() } else { words(meant).filter_map(name).collect() };
    let mut checks: Vec<String> = names.iter().filter_map(|name| name.guess.clone()).collect();
    if excluded.is_some() {
        checks.push(format!("{} leaves something out, which a rule cannot say", quoted(piece)));
    }
    let of_site = ["dns name or ip", "ip address", "ip or dns", "publicip", "dnsip"]
        .iter()
        .any(|word| lower.contains(word));
    let mut title = title(piece);
    if let Some(last) = title.chars().last().filter(|last| footnotes.contains(last))
        && title.chars().rev().nth(1).is_some_and(char::is_lowercase)
    {
        title.pop();
        checks.push(format!("the `{last}` behind \"{title}\" is taken for a footnote's"));
    }
    let mut patterns: Vec<String> = Vec::new();
    names.iter().for_each(|name| {
        if !patterns.contains(&name.pattern) {
            patterns.push(name.pattern.clone());
        }
    });
    let who = match tag {
        Some(tag) if tag == "VirtualNetwork" => {
            checks.push(
                "documents every address of the virtual network: should it depend on a condition?".into(),
            );
            Who::VirtualNetwork
        }
        Some(tag) => Who::Tag(tag),
        None if !patterns.is_empty() => Who::Names(patterns),
        None if of_site => Who::SiteRole,
        None => Who::Role,
    };
    if excluded.is_some() && who == Who::Role {
        title = piece.to_owned();
    }
    if title.is_empty() || title.starts_with('(') {
        let first = match &who {
            Who::Names(names) => names.join(", "),
            Who::Tag(tag) => tag.clone(),
            Who::VirtualNetwork => "VirtualNetwork".into(),
            Who::SiteRole | Who::Role => String::new(),
        };
        title = format!("{first} {title}").trim().to_owned();
    }
    if title.is_empty() {
        title = piece.to_owned();
    }
    if who == Who::Role && matches!(lower.as_str(), "any" | "all" | "anywhere" | "internet") {
        checks.push(format!("a role stands for {}: whom does the page mean?", quoted(piece)));
    }
    if who == Who::Role && piece.contains("://") {
        checks.push("its address cannot be read as a name: a role stands for it".into());
    }
    if who == Who::Role && piece.split(['.', '/']).take(4).all(|part| part.parse::<u8>().is_ok()) {
        checks.push("a rule names no addresses: the site file has to give this one to the role".into());
    }
    let port = names.iter().find_map(|name| name.port);
    Party { title: title.chars().take(120).collect(), who, port, checks }
}

/// Where a text begins to say what it does not mean: "all but a.example", "a.example (formerly b.example)".
fn excluded(lower: &str) -> Option<usize> {
    let mut start = 0;
    lower.split_inclusive(|c: char| !c.is_alphanumeric()).find_map(|part| {
        let at = start;
        start += part.len();
        EXCLUDING.contains(&part.trim_end_matches(|c: char| !c.is_alphanumeric())).then_some(at)
    })
}

/// What is left of a piece without its addresses and without the parentheses that hold them.
fn title(piece: &str) -> String {
    let mut out = String::new();
    let mut group = String::new();
    let mut depth = 0_usize;
    for c in piece.chars() {
        match c {
            '(' => {
                depth += 1;
                group.push(c);
            }
            ')' if depth > 0 => {
                depth -= 1;
                group.push(c);
                if depth == 0 {
                    let lower = group.to_ascii_lowercase();
                    let tells = ["dns name", "ip address", "service tag", "servicetag"];
                    if !words(&group).any(|word| name(word).is_some())
                        && !tells.iter().any(|word| lower.contains(word))
                    {
                        out.push_str(&group);
                    }
                    group.clear();
                }
            }
            c if depth > 0 => group.push(c),
            c => out.push(c),
        }
    }
    // A parenthesis that never ends.
    out.push_str(&group);
    let tagged = service_tag(&out).is_some();
    let lower = out.to_ascii_lowercase();
    if let Some(at) =
        ["service tag", "servicetag"].iter().find_map(|word| lower.find(word)).filter(|_| tagged)
    {
        out.truncate(at);
    }
    let kept: Vec<String> = out
        .split_whitespace()
        .filter(|word| name(word.trim_matches(',')).is_none())
        .map(|word| match word.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => host.to_owned(),
            _ => word.to_owned(),
        })
        .collect();
    let ends = |c: char| {
        c.is_whitespace()
            || matches!(c, ',' | ':' | ';' | '-' | '\u{2013}' | '*' | '`' | '"' | '/' | '[' | ']')
    };
    kept.join(" ").trim_matches(ends).to_owned()
}

/// The tag in "(service tag: Sql.<region>, where ...)" or "ServiceTag - AzureMonitor:443".
fn service_tag(piece: &str) -> Option<String> {
    let lower = piece.to_ascii_lowercase();
    let (at, mark) = ["service tag", "servicetag"].iter().find_map(|mark| Some((lower.find(mark)?, mark)))?;
    let rest = piece.get(at + mark.len()..)?.trim_start_matches(|c: char| {
        c.is_whitespace() || matches!(c, 's' | ':' | '-' | '\u{2013}' | '`' | '*' | '"')
    });
    let word = rest
        .split(|c: char| c.is_whitespace() || matches!(c, ',' | ')' | '(' | ';' | '`' | '*' | '"'))
        .next()?;
    let word = word.split_once(':').map_or(word, |(tag, _)| tag).trim_end_matches('.');
    // The last part may be left to the site; pages write it as they like.
    let text = match word.split_once(".<") {
        Some((base, rest))
            if rest.to_ascii_lowercase().contains("region")
                || rest.to_ascii_lowercase().contains("location") =>
        {
            format!("{base}.<region>")
        }
        _ => word.to_owned(),
    };
    let begins = text.starts_with(|c: char| c.is_ascii_uppercase());
    text.parse::<TagName>().ok().filter(|_| begins).map(|tag| tag.to_string())
}

/// A name as a cell gives it.
struct Name {
    pattern: String,
    port: Option<u16>,
    guess: Option<String>,
}

/// The words of a text, addresses kept whole.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c.is_whitespace() || matches!(c, ',' | ';' | '(' | ')' | '|' | '"' | '\'' | '`'))
}

/// Whether a cell is nothing but addresses.
pub(super) fn is_address(cell: &str) -> bool {
    let mut all =
        words(cell).filter(|word| !word.is_empty() && !matches!(*word, "or" | "and" | "Or")).peekable();
    all.peek().is_some() && all.all(|word| name(word).is_some())
}

/// The names that a text speaks of, each once; the first few.
pub(super) fn names_of(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for name in words(text).filter(|word| word.contains('.')).filter_map(name) {
        if found.len() < 10 && !found.contains(&name.pattern) {
            found.push(name.pattern);
        }
    }
    found
}

/// Whether a cell says that traffic is blocked, and nothing else.
pub(super) fn is_denial(cell: &str) -> bool {
    let words: Vec<String> = protocol_words(cell).take(4).collect();
    let denial = |word: &String| {
        [
            "block",
            "blocked",
            "denied",
            "deny",
            "disallow",
            "disallowed",
            "drop",
            "dropped",
            "forbidden",
            "prohibited",
            "reject",
            "rejected",
        ]
        .contains(&word.as_str())
    };
    let beside =
        |word: &String| ["all", "by", "default", "explicit", "implicit", "traffic"].contains(&word.as_str());
    words.len() < 4
        && (words.iter().any(denial) && words.iter().all(|word| denial(word) || beside(word))
            || matches!(words.join(" ").as_str(), "not allowed" | "not permitted" | "do not allow"))
}

/// Whether a cell says that traffic is allowed, and nothing else.
pub(super) fn is_permission(cell: &str) -> bool {
    let mut known = false;
    let plain = cell.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).all(|word| {
        known = true;
        let word = word.to_ascii_lowercase();
        ["accept", "allow", "allowed", "allows", "open", "pass", "permit", "permitted", "true", "y", "yes"]
            .contains(&word.as_str())
    });
    let mark = |c: char| matches!(c, '\u{2713}' | '\u{2714}' | '\u{2705}' | '\u{fe0f}');
    let others = cell.chars().filter(|&c| !c.is_alphanumeric() && !c.is_whitespace());
    let marked = others.clone().any(mark);
    plain && (known || marked) && others.into_iter().all(|c| mark(c) || matches!(c, '.' | ',' | '/'))
}

/// Whether a description is of a rule that blocks.
pub(super) fn denies(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    ["block ", "blocks ", "deny ", "denies ", "denied."].iter().any(|word| lower.starts_with(word))
}

/// What in a description or a title may mean that the traffic is not to be allowed.
pub(super) fn forbidding(text: &str) -> Option<&'static str> {
    const WORDS: [&str; 31] = [
        "blocked",
        "blocking",
        "to block",
        "block all",
        "block the",
        "block this",
        "block traffic",
        "blocks traffic",
        "block inbound",
        "block outbound",
        "denied",
        "denies",
        "deny",
        "disallow",
        "disallowed",
        "forbid",
        "forbidden",
        "prohibit",
        "prohibited",
        "reject",
        "rejected",
        "close",
        "closed",
        "drop",
        "dropped",
        "do not",
        "must not",
        "should not",
        "not allowed",
        "never",
        "not used",
    ];
    const MORE: [&str; 6] =
        ["not permitted", "deprecated", "disabled", "no longer", "not be open", "not required any more"];
    let spaced = format!(" {} ", protocol_words(cut(text, MAX_PARTIES_BYTES)).collect::<Vec<_>>().join(" "));
    WORDS.into_iter().chain(MORE).find(|phrase| spaced.contains(&format!(" {phrase} ")))
}

/// Whether a heading is of what is to be blocked.
pub(super) fn heading_denies(heading: &str) -> bool {
    protocol_words(heading).any(|word| word == "block" || word == "blocks")
}

/// What in a text may mean that not everybody needs this.
pub(super) fn loosening(text: &str) -> Option<&'static str> {
    const WORDS: [&str; 14] = [
        "optional",
        "optionally",
        "not required",
        "not needed",
        "not mandatory",
        "not necessary",
        "unless",
        "recommended",
        "no longer",
        "legacy",
        "in case of",
        "when using",
        "only for",
        "only if",
    ];
    let spaced = format!(" {} ", protocol_words(cut(text, MAX_PARTIES_BYTES)).collect::<Vec<_>>().join(" "));
    WORDS.into_iter().find(|phrase| spaced.contains(&format!(" {phrase} ")))
}

/// The cell of a column that tells whether a row is required.
pub(super) fn need_cell(cell: &str) -> Option<Need> {
    match protocol_words(cell).take(4).collect::<Vec<_>>().join(" ").as_str() {
        "always" | "mandatory" | "required" | "true" | "y" | "yes" | "must" => Some(Need::Required),
        "false" | "n" | "no" | "optional" | "recommended" | "not required" | "not mandatory"
        | "not needed" => Some(Need::Optional),
        _ => None,
    }
}

/// Where traffic goes, as a column of directions has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Inbound,
    Outbound,
    Both,
}

/// Reads the cell of a column of directions.
pub(super) fn direction(cell: &str) -> Option<Direction> {
    let words: Vec<String> = protocol_words(cell).take(5).collect();
    let any = |known: &[&str]| words.iter().any(|word| known.contains(&word.as_str()));
    let inward = any(&["in", "inbound", "ingress", "incoming"]);
    let outward = any(&["out", "outbound", "egress", "outgoing"]);
    let both = any(&["both", "bidirectional", "bi", "two"]) || (inward && outward);
    match (both && words.len() < 5, inward && words.len() < 3, outward && words.len() < 3) {
        (true, ..) => Some(Direction::Both),
        (_, true, _) => Some(Direction::Inbound),
        (_, _, true) => Some(Direction::Outbound),
        _ => None,
    }
}

/// A word as a pattern for names, if it is one: with or without scheme, path and port.
fn name(word: &str) -> Option<Name> {
    let word = word.trim_end_matches(['.', ':', '!', '?', ']', '/']).trim_start_matches('[');
    let mut guess = None;
    let mut told = |text: String| {
        guess.get_or_insert(text);
    };
    let (scheme, rest) = match word.split_once("://") {
        Some((scheme, rest)) => (Some(scheme.to_ascii_lowercase()), rest),
        None => (None, word),
    };
    if scheme.as_deref().is_some_and(|scheme| !matches!(scheme, "http" | "https" | "wss" | "ws")) {
        return None;
    }
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    if !path.is_empty() && !matches!(path, "*") {
        told(format!("the path of {} is no part of a rule", quoted(word)));
    }
    let (host, port) = match host.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse::<u16>().ok()?)),
        None => (host, None),
    };
    let mut labels = Vec::new();
    // ".a.example" is whatever ends so.
    let suffix = host.starts_with('.');
    if suffix {
        told(format!("{} is taken for names of one label more", quoted(host)));
        labels.push("*".to_owned());
    }
    for label in host.split('.').skip(usize::from(suffix)) {
        labels.push(match label.contains(['<', '{']) {
            true => {
                let placed = placeholder(label)?;
                if placed != "<account>" || !matches!(label, "<account>" | "<blob_name>") {
                    told(format!(
                        "`{label}` is taken for {}",
                        if placed == "<account>" { "a storage account" } else { "any label" }
                    ));
                }
                placed
            }
            false => label.to_ascii_lowercase(),
        });
    }
    let top = labels.last()?;
    // "Login.Example.com" is a name, "Node.JS" is none.
    let upper = host.bytes().any(|byte| byte.is_ascii_uppercase());
    let short = labels.len() < 3 || suffix;
    let file = FILES.contains(&top.as_str());
    if scheme.is_none() && short && (upper && !host.ends_with(".com") || file) {
        return None;
    }
    if labels.len() < 2 + usize::from(suffix)
        || top.len() < 2
        || !top.bytes().all(|byte| byte.is_ascii_lowercase())
    {
        return None;
    }
    let pattern = labels.join(".");
    // A rule's name has no more characters than one in the DNS.
    pattern.parse::<DomainPattern>().ok().filter(|_| pattern.len() <= 253)?;
    let port = port.or(match scheme.as_deref() {
        Some("https" | "wss") => Some(443),
        Some("http" | "ws") => Some(80),
        _ => None,
    });
    Some(Name { pattern, port: port.filter(|&port| port > 0), guess })
}

/// A label with placeholders: `<account>` for what is a storage account's name, else `*`.
fn placeholder(label: &str) -> Option<String> {
    let whole = label.strip_prefix(['<', '{']).and_then(|rest| rest.strip_suffix(['>', '}']));
    if let Some(whole) = whole.filter(|whole| !whole.contains(['<', '{'])) {
        let lower = whole.to_ascii_lowercase();
        let account = lower.contains("account") || lower.contains("blob");
        return Some(if account { "<account>" } else { "*" }.to_owned());
    }
    let (mut out, mut depth) = (String::new(), 0_usize);
    for c in label.chars() {
        match c {
            '<' | '{' => {
                depth += 1;
                if !out.ends_with('*') {
                    out.push('*');
                }
            }
            '>' | '}' => depth = depth.checked_sub(1)?,
            c if depth == 0 => out.push(c.to_ascii_lowercase()),
            _ => {}
        }
    }
    (depth == 0).then_some(out)
}

/// A word of a protocol cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Transport(Transport),
    /// An application that the program knows, and what carries it.
    App(AppProtocol, Transport),
    /// One that it does not know, and what usually carries it.
    Usually(Transport),
}

fn protocol_word(word: &str) -> Option<Word> {
    use AppProtocol::{Dns, Http, Mongodb, Postgresql, Quic, Smb, Smtp, Ssdp, Ssh, Tds, Tls};
    use Transport::{Icmp, Icmp6, Sctp, Tcp, Udp};
    Some(match word {
        "tcp" => Word::Transport(Tcp),
        "udp" => Word::Transport(Udp),
        "icmp" | "icmpv4" | "ping" => Word::Transport(Icmp),
        "icmpv6" | "icmp6" => Word::Transport(Icmp6),
        "sctp" => Word::Transport(Sctp),
        "https" | "tls" | "ssl" => Word::App(Tls, Tcp),
        "http" => Word::App(Http, Tcp),
        "smtp" => Word::App(Smtp, Tcp),
        "ssh" | "sftp" | "scp" => Word::App(Ssh, Tcp),
        "smb" | "cifs" => Word::App(Smb, Tcp),
        "tds" => Word::App(Tds, Tcp),
        "postgresql" => Word::App(Postgresql, Tcp),
        "mongodb" => Word::App(Mongodb, Tcp),
        "dns" => Word::App(Dns, Udp),
        "quic" => Word::App(Quic, Udp),
        "ssdp" => Word::App(Ssdp, Udp),
        "amqp" | "amqps" | "ftp" | "ftps" | "grpc" | "iscsi" | "ldap" | "ldaps" | "mssql" | "mysql"
        | "ndmp" | "nfs" | "rdp" | "rpc" | "smtps" | "websocket" | "winrm" | "ws" | "wss" | "kerberos"
        | "nvme" | "sql" => Word::Usually(Tcp),
        "dhcp" | "dtls" | "ntp" | "snmp" | "syslog" | "tftp" => Word::Usually(Udp),
        _ => return None,
    })
}

/// Words that may stand between protocols.
const BETWEEN: [&str; 9] = ["and", "or", "over", "all", "any", "protocol", "protocols", "only", "via"];

/// Whether a cell names protocols and nothing else.
pub(super) fn is_protocol(cell: &str) -> bool {
    let mut known = false;
    let all = protocol_words(cell).all(|word| {
        let told = protocol_word(&word).is_some();
        known |= told || word == "any" || word == "all";
        told || BETWEEN.contains(&word.as_str())
    });
    all && known && cell.len() <= 80
}

fn protocol_words(cell: &str) -> impl Iterator<Item = String> {
    let mut parts = cell
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .peekable();
    std::iter::from_fn(move || {
        let word = parts.next()?;
        // HTTP/3 is what QUIC carries.
        let third = word == "http3" || (word == "http" && parts.peek().is_some_and(|next| next == "3"));
        if third && word == "http" {
            parts.next();
        }
        Some(if third { "quic".to_owned() } else { word })
    })
}

/// What carries the protocol of a word: none of one that is no protocol.
fn carriers(word: &str) -> Vec<Transport> {
    match protocol_word(word) {
        Some(Word::App(AppProtocol::Dns, _)) => vec![Transport::Udp, Transport::Tcp],
        Some(Word::Transport(transport) | Word::App(_, transport) | Word::Usually(transport)) => {
            vec![transport]
        }
        None => Vec::new(),
    }
}

/// The port that an application has by itself.
pub(super) fn own_port(app: AppProtocol) -> Option<u16> {
    Some(match app {
        AppProtocol::Dns => 53,
        AppProtocol::Http => 80,
        AppProtocol::Quic | AppProtocol::Tls => 443,
        AppProtocol::Smb => 445,
        AppProtocol::Smtp => 25,
        AppProtocol::Ssh => 22,
        _ => return None,
    })
}

/// What a row is carried over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Protocols {
    pub(super) transports: Vec<Transport>,
    /// The applications named, in the order of the cell.
    pub(super) apps: Vec<AppProtocol>,
    /// "HTTP (HTTPS)": the second has a port of its own.
    pub(super) paired: bool,
    pub(super) checks: Vec<String>,
}

impl Protocols {
    /// The application of all its rules over this transport, if there is one.
    pub(super) fn app(&self, transport: Transport) -> Option<AppProtocol> {
        let [app] = self.apps[..] else { return None };
        carried(app, transport).then_some(app)
    }
}

/// Whether an application is carried over a transport.
pub(super) fn carried(app: AppProtocol, transport: Transport) -> bool {
    match app {
        AppProtocol::Dns => matches!(transport, Transport::Tcp | Transport::Udp),
        AppProtocol::Quic | AppProtocol::Ssdp => transport == Transport::Udp,
        _ => transport == Transport::Tcp,
    }
}

/// Reads a protocol cell, or the words of a port cell.
///
/// # Errors
/// It names no protocol.
pub(super) fn protocols(cell: &str) -> Result<Protocols, String> {
    let mut found = Protocols::default();
    let (mut usually, mut any, mut unknown) = (Vec::new(), false, Vec::new());
    for word in protocol_words(cell) {
        match protocol_word(&word) {
            Some(Word::Transport(transport)) if !found.transports.contains(&transport) => {
                found.transports.push(transport)
            }
            Some(Word::Transport(_)) => {}
            Some(Word::App(app, transport)) => {
                if !found.apps.contains(&app) {
                    found.apps.push(app);
                }
                usually.push((transport, false));
            }
            Some(Word::Usually(transport)) => usually.push((transport, true)),
            None if word == "any" || word == "all" => any = true,
            None if BETWEEN.contains(&word.as_str()) || word.bytes().all(|byte| byte.is_ascii_digit()) => {}
            None => unknown.push(word),
        }
    }
    found.paired = found.apps.len() == 2 && found.transports.is_empty() && cell.contains('(');
    if found.transports.is_empty() {
        for (transport, guessed) in usually {
            if guessed {
                found.checks.push(format!(
                    "the transport: {} is taken to be {}",
                    quoted(cell),
                    transport.to_string().to_uppercase()
                ));
            }
            if !found.transports.contains(&transport) {
                found.transports.push(transport);
            }
        }
        if found.apps == [AppProtocol::Dns] {
            found.transports = vec![Transport::Udp, Transport::Tcp];
            found.checks.push("the transport: DNS is taken to go over UDP and TCP".into());
        }
    }
    if found.transports.is_empty() && any {
        found.transports = vec![Transport::Tcp, Transport::Udp];
        found.checks.push("any protocol: rules for TCP and UDP were made".into());
    }
    if found.transports.is_empty() {
        return Err(format!("no protocol that is known in {}", quoted(cell)));
    }
    if !unknown.is_empty() {
        found.checks.push(format!("the protocol cell says more: {}", quoted(cell)));
    }
    Ok(found)
}

/// The ports of a cell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PortItems {
    /// Ports and ranges, both ends included, in the order of the cell.
    pub(super) items: Vec<(u16, u16)>,
    /// Which transports stand beside which port: none if the cell does not say so.
    pub(super) beside: Vec<((u16, u16), Vec<Transport>)>,
    /// Words of protocols that stand with them.
    pub(super) words: String,
    pub(super) checks: Vec<String>,
}

impl PortItems {
    /// Whether these ports are reached over this transport.
    pub(super) fn over(&self, item: (u16, u16), transport: Transport) -> bool {
        let mut told = self.beside.iter().filter(|(known, _)| *known == item).peekable();
        told.peek().is_none() || told.any(|(_, transports)| transports.contains(&transport))
    }

    /// The transports that stand beside ports.
    pub(super) fn transports(&self) -> Vec<Transport> {
        let mut found = Vec::new();
        for &transport in self.beside.iter().flat_map(|(_, transports)| transports) {
            if !found.contains(&transport) {
                found.push(transport);
            }
        }
        found
    }
}

/// Whether a cell names ports and hardly anything else.
pub(super) fn is_ports(cell: &str) -> bool {
    let lower = cell.trim().to_ascii_lowercase();
    if matches!(lower.as_str(), "all" | "any" | "all ports" | "any port") {
        return true;
    }
    let begins = lower.trim_start_matches(|c: char| !c.is_alphanumeric());
    let digits = begins.starts_with(|c: char| c.is_ascii_digit());
    let letters = lower.chars().filter(|c| c.is_alphabetic()).count();
    lower.len() <= 80
        && (digits || protocol_words(begins).next().is_some_and(|word| protocol_word(&word).is_some()))
        && lower.bytes().any(|byte| byte.is_ascii_digit())
        && letters <= 40
        && ports(cell).is_ok()
}

/// Reads a port cell: `6162, 2500 to 3300`, `135 445`, `443 (HTTPS)`, `TCP 443, UDP 53`, `5985 (5986 — used by default)`.
/// Whatever of it is not understood is told: a number that may be a footnote's or a version's is left where it stands.
///
/// # Errors
/// It names no port.
pub(super) fn ports(cell: &str) -> Result<PortItems, String> {
    let mut found = PortItems::default();
    let (lower, mut odd) = bare(cell);
    odd |= has_thousands(&lower);
    let everything = ["all", "any", "port", "ports", "protocol", "protocols"];
    let mut rest = protocol_words(&lower).filter(|word| protocol_word(word).is_none()).peekable();
    if rest.peek().is_some_and(|word| word == "all" || word == "any")
        && rest.all(|word| everything.contains(&word.as_str()))
    {
        found.items.push((1, u16::MAX));
        found.words.clone_from(&lower);
        found.checks.push("all ports: the rule documents every one of them".into());
        return Ok(found);
    }
    let tokens = tokens(&lower);
    // Small numbers are ports only where nothing else stands that they could belong to.
    let plain = !odd
        && tokens.iter().all(|token| match token {
            Token::Word(word) => matches!(protocol_word(word), Some(Word::Transport(_))) || is_harmless(word),
            Token::Number(_) | Token::Range(_) | Token::Between => true,
            _ => false,
        });
    let mut runs: Vec<Run> = Vec::new();
    let mut at = 0;
    let (mut upwards, mut excluded) = (false, false);
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token {
            Token::Number(digits) => {
                let mut ends = vec![digits.as_str()];
                while let (Some(Token::Range(rare)), Some(Token::Number(end))) =
                    (tokens.get(at), tokens.get(at + 1))
                {
                    odd |= rare;
                    ends.push(end);
                    at += 2;
                }
                let range = match ends[..] {
                    [one] => {
                        let port = number(one, &mut found.checks)?;
                        (port, port)
                    }
                    [low, high] => {
                        let low = if low == "0" {
                            odd = true;
                            1
                        } else {
                            whole(low)?
                        };
                        let high =
                            if high.len() == 6 { number(high, &mut found.checks)? } else { whole(high)? };
                        (low, high)
                    }
                    _ => return Err(format!("no range of ports can be read in {}", quoted(cell))),
                };
                if range.0 > range.1 || (ends.len() == 2 && range.0 == range.1) {
                    return Err(format!("no range of ports can be read in {}", quoted(cell)));
                }
                odd |= ends.iter().any(|end| end.len() > 1 && end.starts_with('0'));
                let small = !plain && range.1 < 20;
                odd |= excluded || small;
                if excluded || (small && !are_small(&tokens)) {
                    continue;
                }
                if found.items.len() >= MAX_PORTS {
                    return Err(format!("a cell names more than {MAX_PORTS} ports"));
                }
                found.items.push(range);
                runs.push(Run::Port(range));
            }
            Token::Word(word) if protocol_word(word).is_some() => {
                found.words.push_str(word);
                found.words.push(' ');
                runs.push(Run::Protocol(word.clone()));
            }
            Token::Word(word) => {
                excluded |= EXCLUDING.contains(&word.as_str());
                odd |= !is_harmless(word);
            }
            Token::Upwards => upwards = true,
            // A dash in front of a word parts; at the end, a range has no end.
            Token::Range(rare) => odd |= *rare || tokens.get(at).is_none() || at == 1,
            Token::Skipped => odd = true,
            Token::Below => {
                // "> 1023", "< 1024": what is meant is not this port.
                odd = true;
                if matches!(tokens.get(at), Some(Token::Number(_))) {
                    at += 1;
                }
            }
            Token::Odd => odd = true,
            Token::Between => {}
        }
    }
    if found.items.is_empty() {
        return Err(format!("no port in {}", quoted(cell)));
    }
    if upwards {
        found
            .checks
            .push(format!("the page says \"and up\"; only the first port was taken: {}", quoted(cell)));
    }
    found.items.dedup();
    if odd {
        found.checks.push(format!("of {} {} were taken", quoted(cell), listed(&found.items)));
    }
    beside(&runs, &mut found);
    Ok(found)
}

/// Reads a port cell beside the cell of its protocol: lines of the one go with lines of the other, and ports that stand in the
/// protocol's cell, too, are paired there.
///
/// # Errors
/// It names no port.
pub(super) fn paired_ports(protocol: Option<&str>, cell: &str) -> Result<PortItems, String> {
    let mut found = ports(cell)?;
    let Some(protocol) = protocol.filter(|protocol| *protocol != cell) else { return Ok(found) };
    // "TCP" over "53 (DNS)": an application says nothing against its column.
    let exact = |word: &str| matches!(protocol_word(word), Some(Word::Transport(_)));
    if !found.words.split_whitespace().any(exact) {
        found.beside.clear();
    }
    let (above, below): (Vec<&str>, Vec<&str>) = (protocol.lines().collect(), cell.lines().collect());
    if above.len() > 1 && above.len() == below.len() && found.beside.is_empty() {
        let lines = above.iter().zip(&below).map(|(protocol, cell)| {
            let transports = protocols(protocol).ok()?.transports;
            Some(
                ports(cell)
                    .ok()?
                    .items
                    .into_iter()
                    .map(move |item| (item, transports.clone()))
                    .collect::<Vec<_>>(),
            )
        });
        if let Some(lines) = lines.collect::<Option<Vec<_>>>() {
            found.beside = lines.concat();
            return Ok(found);
        }
    }
    if protocol.contains(|c: char| c.is_ascii_digit())
        && let Ok(theirs) = ports(protocol)
        && theirs.transports().len() > 1
    {
        let same = theirs.items.iter().all(|item| found.items.contains(item))
            && found.items.iter().all(|item| theirs.items.contains(item));
        if same && found.beside.is_empty() && theirs.checks.is_empty() {
            found.beside = theirs.beside;
        } else {
            found.checks.push(format!("the protocol cell has ports, too: {}", quoted(protocol)));
        }
    }
    Ok(found)
}

/// Whether no number of a cell could be more than a footnote's.
fn are_small(tokens: &[Token]) -> bool {
    tokens.iter().all(|token| match token {
        Token::Number(digits) => digits.len() < 3 && digits.parse::<u16>().is_ok_and(|number| number < 20),
        _ => true,
    })
}

/// Ports as packs have them: `80, 443, 2500-3300`.
pub(super) fn listed(items: &[(u16, u16)]) -> String {
    let item =
        |&(low, high): &(u16, u16)| if low == high { low.to_string() } else { format!("{low}-{high}") };
    items.iter().map(item).collect::<Vec<_>>().join(", ")
}

/// A port or a protocol, in the order of a cell.
#[derive(Clone, Debug)]
enum Run {
    Port((u16, u16)),
    Protocol(String),
}

/// Gives each port the transports that stand beside it: before it, if the cell begins with one, else behind it.
fn beside(runs: &[Run], found: &mut PortItems) {
    let exact = |word: &str| matches!(protocol_word(word), Some(Word::Transport(_)));
    let transports = runs.iter().any(|run| matches!(run, Run::Protocol(word) if exact(word)));
    let told = |word: &str| if transports && !exact(word) { Vec::new() } else { carriers(word) };
    let runs: Vec<Result<(u16, u16), Vec<Transport>>> = runs
        .iter()
        .map(|run| match run {
            Run::Port(item) => Ok(*item),
            Run::Protocol(word) => Err(told(word)),
        })
        .filter(|run| !matches!(run, Err(transports) if transports.is_empty()))
        .collect();
    let mut all: Vec<Transport> =
        runs.iter().filter_map(|run| run.as_ref().err()).flatten().copied().collect();
    all.dedup();
    let first = runs.first().is_some_and(Result::is_err);
    let last = runs.last().is_some_and(Result::is_err);
    if all.is_empty() {
        return;
    }
    if all.len() > 1 && first == last && found.items.len() > 1 {
        found.checks.push("each port with each protocol of its cell: is it so?".into());
        found.beside = found.items.iter().map(|&item| (item, all.clone())).collect();
        return;
    }
    let in_order: Vec<_> = if first { runs } else { runs.into_iter().rev().collect() };
    let (mut current, mut fresh) = (Vec::new(), false);
    for run in in_order {
        match run {
            Ok(item) => {
                found.beside.push((item, current.clone()));
                fresh = true;
            }
            Err(transports) => {
                if std::mem::take(&mut fresh) {
                    current.clear();
                }
                current.extend(transports);
            }
        }
    }
    // A port without a protocol on its side goes with all that are told.
    found.beside.iter_mut().filter(|(_, of)| of.is_empty()).for_each(|(_, of)| of.clone_from(&all));
}

fn is_harmless(word: &str) -> bool {
    [
        "or",
        "and",
        "by",
        "default",
        "used",
        "port",
        "ports",
        "range",
        "the",
        "from",
        "only",
        "inclusive",
        "both",
    ]
    .contains(&word)
}

/// A port cell in small letters, without what is written to be seen by nobody; whether there was such a thing.
fn bare(cell: &str) -> (String, bool) {
    let lower = cell.trim().to_lowercase();
    let (mut out, mut rest, mut odd) = (String::with_capacity(lower.len()), lower.as_str(), false);
    // Characters that steer a terminal stand there escaped.
    while let Some((ahead, behind)) = rest.split_once("\\u{") {
        out.push_str(ahead);
        odd = true;
        rest = behind.split_once('}').map_or("", |(_, rest)| rest);
    }
    out.push_str(rest);
    (out, odd)
}

/// What a port cell is made of.
#[derive(Clone, Debug)]
enum Token {
    Number(String),
    Word(String),
    /// A sign or a word between the ends of a range; whether it is one that may mean something else.
    Range(bool),
    Upwards,
    /// `>`, `<`.
    Below,
    /// Numbers that are none of ports: a version, a footnote, a thing with a unit.
    Skipped,
    /// What only parts.
    Between,
    Odd,
}

fn tokens(cell: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut rest = cell;
    while let Some(c) = rest.chars().next() {
        let run = |of: fn(char) -> bool| rest.find(|c| !of(c)).unwrap_or(rest.len());
        let next = rest.chars().nth(1);
        let (token, length) = if c.is_ascii_digit() {
            numeral(rest, matches!(found.last(), Some(Token::Range(_))))
        } else if let Some(length) = parenthesised(rest) {
            (Some(Token::Skipped), length)
        } else if c == '[' {
            // A footnote's mark.
            (Some(Token::Skipped), rest.find(']').map_or(rest.len(), |end| end + 1))
        } else if c.is_alphanumeric() {
            let length = run(char::is_alphanumeric);
            let word = rest.get(..length).unwrap_or_default();
            let behind = rest.get(length..).unwrap_or_default();
            let third =
                behind.strip_prefix("/3").filter(|more| !more.starts_with(|c: char| c.is_ascii_digit()));
            let token = match word {
                "http" if third.is_some() => Token::Word("quic".into()),
                "to" | "through" | "thru" => Token::Range(false),
                "until" | "till" => Token::Range(true),
                "up" | "upwards" | "above" | "higher" | "greater" | "over" | "later" => Token::Upwards,
                word => Token::Word(word.to_owned()),
            };
            let taken = if word == "http" && third.is_some() { 2 } else { 0 };
            (Some(token), length + taken)
        } else {
            let digit = next.is_some_and(|next| next.is_ascii_digit());
            match c {
                // A long dash before words parts.
                '-' | '\u{2010}'..='\u{2013}' => (Some(Token::Range(false)), c.len_utf8()),
                '\u{2014}' | '\u{2015}' | '\u{2212}' => {
                    let number = rest.get(c.len_utf8()..).unwrap_or_default().trim_start();
                    let range = number.starts_with(|c: char| c.is_ascii_digit());
                    (Some(if range { Token::Range(!digit) } else { Token::Between }), c.len_utf8())
                }
                '~' | '\u{223c}' | '\u{301c}' | '\u{ff5e}' | '\u{2026}' => {
                    (Some(Token::Range(true)), c.len_utf8())
                }
                '.' if rest.starts_with("..") => (Some(Token::Range(true)), run(|c| c == '.')),
                ':' if digit && matches!(found.last(), Some(Token::Number(_))) => {
                    (Some(Token::Range(true)), 1)
                }
                '+' => (Some(Token::Upwards), 1),
                '>' | '<' | '\u{2264}' | '\u{2265}' => {
                    (Some(Token::Below), c.len_utf8() + usize::from(next == Some('=')))
                }
                '*' if digit => (
                    Some(Token::Skipped),
                    1 + rest
                        .get(1..)
                        .unwrap_or_default()
                        .find(|c: char| !c.is_ascii_digit())
                        .unwrap_or(rest.len() - 1),
                ),
                c if c.is_whitespace() => (None, c.len_utf8()),
                ',' | ';' | ':' | '/' | '&' | '|' | '(' | ')' | '.' | '`' | '"' | '\'' => {
                    (Some(Token::Between), 1)
                }
                _ => (Some(Token::Odd), c.len_utf8()),
            }
        };
        found.extend(token);
        rest = rest.get(length..).unwrap_or_default();
    }
    found
}

/// The length of "(1)", with which a footnote is told.
fn parenthesised(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('(')?;
    let end = inside.bytes().take(8).position(|byte| byte == b')')?;
    let digits = inside.get(..end)?.trim();
    let mark = !digits.is_empty() && digits.len() < 3 && digits.bytes().all(|byte| byte.is_ascii_digit());
    (mark && digits.parse::<u8>().is_ok_and(|number| number < 20)).then_some(end + 2)
}

/// The number with which a text begins: `443`, `1,024`; or what is none, as `1.2`, `24h`, `1st`.
fn numeral(text: &str, ends: bool) -> (Option<Token>, usize) {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let length = digits(text);
    let whole = text.get(..length).unwrap_or_default();
    let behind = text.get(length..).unwrap_or_default();
    let fraction = behind.strip_prefix('.').map_or(0, digits);
    let group = behind.strip_prefix(',').map_or(0, digits);
    let glued = behind.bytes().take_while(u8::is_ascii_alphanumeric).count();
    if fraction > 0 {
        let more = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '.').unwrap_or(text.len());
        return (Some(Token::Skipped), more);
    }
    if glued > 0 {
        let word = behind.get(..glued).unwrap_or_default();
        let known = protocol_word(word).is_some() || matches!(word, "to" | "and" | "or");
        return (
            Some(if known { Token::Number(whole.to_owned()) } else { Token::Skipped }),
            if known { length } else { length + glued },
        );
    }
    if group == 3 && length <= 2 {
        let last = behind.get(1..4).unwrap_or_default();
        let range = behind.get(4..).unwrap_or_default().trim_start();
        let ranged =
            ends || range.starts_with(['-', ':', '~', '\u{2013}', '\u{2014}', '\u{2011}', '\u{2212}']);
        if last.starts_with('0') || length == 1 || (ranged && is_thousands(whole, last)) {
            // The nought in front of it says that it was guessed.
            return (Some(Token::Number(format!("0{whole}{last}"))), length + 4);
        }
    }
    (Some(Token::Number(whole.to_owned())), length)
}

/// Whether two numbers with a comma between them could be one.
fn is_thousands(head: &str, tail: &str) -> bool {
    format!("{head}{tail}").parse::<u16>().is_ok()
}

/// Whether a cell has `22,443`, which could be one number.
fn has_thousands(cell: &str) -> bool {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    cell.match_indices(',').any(|(at, _)| {
        let (ahead, behind) = (cell.get(..at).unwrap_or_default(), cell.get(at + 1..).unwrap_or_default());
        let length = ahead.bytes().rev().take_while(u8::is_ascii_digit).count();
        let head = ahead.get(ahead.len() - length..).unwrap_or_default();
        (1..=2).contains(&length)
            && digits(behind) == 3
            && is_thousands(head, behind.get(..3).unwrap_or_default())
    })
}

/// A port that is nothing else.
fn whole(digits: &str) -> Result<u16, String> {
    let port = digits.parse::<u16>().ok().filter(|&port| port > 0);
    port.ok_or_else(|| format!("`{}` is no port", digits.chars().take(20).collect::<String>()))
}

/// A port; of a number that is none, without the last digit, which may be a footnote's.
fn number(digits: &str, checks: &mut Vec<String>) -> Result<u16, String> {
    let sound = |digits: &str| digits.parse::<u16>().ok().filter(|&port| port > 0);
    if let Some(port) = sound(digits) {
        return Ok(port);
    }
    let shorter = digits.get(..digits.len().saturating_sub(1)).unwrap_or_default();
    match sound(shorter).filter(|_| digits.len() == 5 || digits.len() == 6) {
        Some(port) => {
            checks.push(format!("`{digits}` is no port: read as {port} with a footnote"));
            Ok(port)
        }
        None => Err(format!("`{}` is no port", digits.chars().take(20).collect::<String>())),
    }
}

/// The last port that a text names with its transport: "over TCP port 443".
pub(super) fn told_port(text: &str) -> Option<(Transport, u16)> {
    let lower = text.to_ascii_lowercase();
    let of = |mark: &str, transport: Transport| {
        let at = lower.rfind(mark)?;
        let digits: String = lower.get(at + mark.len()..)?.chars().take_while(char::is_ascii_digit).collect();
        let port = digits.parse().ok().filter(|&port| port > 0)?;
        Some((at, transport, port))
    };
    let found = [of("tcp port ", Transport::Tcp), of("udp port ", Transport::Udp)];
    found.into_iter().flatten().max_by_key(|(at, ..)| *at).map(|(_, transport, port)| (transport, port))
}

/// Whether a cell is a sentence, as descriptions are, and no name of a machine.
pub(super) fn is_sentence(cell: &str) -> bool {
    let text = cell.trim();
    let words = text.split_whitespace().count();
    let begins = [
        "Required", "Used ", "Port ", "Ports ", "Default ", "[", "This ", "These ", "Needed", "Allows ",
        "Note",
    ];
    (text.ends_with('.') && words > 2 && !is_address(text))
        || words > 14
        || (begins.iter().any(|word| text.starts_with(word)) && words > 2)
}

/// How firmly a row is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Need {
    Required,
    Optional,
    /// The condition as the page words it, and whether it stands at the beginning.
    Conditional(String, bool),
}

/// Sentences of a text.
pub(super) fn sentences(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut start = 0;
    for (at, c) in text.char_indices() {
        let next = text.get(at + c.len_utf8()..).unwrap_or_default();
        let ends = (matches!(c, '.' | '!' | '?')
            && next.starts_with([' ', '\n'])
            && next.trim_start().starts_with(|c: char| c.is_uppercase() || matches!(c, '[' | '*' | '"')))
            || c == '\n';
        if ends {
            found.push(text.get(start..at + c.len_utf8()).unwrap_or_default().trim());
            start = at + c.len_utf8();
        }
    }
    found.push(text.get(start..).unwrap_or_default().trim());
    found.retain(|sentence| !sentence.is_empty());
    found
}

/// What sentences say of how firmly a row is needed: "[Optional] ...", "[Applies to ...] ...", "If ...", "only if ...".
pub(super) fn need(sentences: &[&str]) -> Need {
    let first = sentences.first().copied().unwrap_or_default();
    let bracket = first.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let begins = |text: &str, words: &[&str]| {
        let lower = text.to_ascii_lowercase();
        words.iter().any(|word| lower.starts_with(word))
    };
    let optional = ["optional", "(optional"];
    if begins(first, &optional) || bracket.is_some_and(|(inside, _)| begins(inside, &optional)) {
        return Need::Optional;
    }
    if let Some((inside, _)) =
        bracket.filter(|(inside, rest)| !inside.trim().is_empty() && !rest.starts_with('('))
    {
        return Need::Conditional(inside.trim().to_owned(), true);
    }
    if begins(
        first,
        &["if ", "only ", "required if ", "required when ", "needed if ", "needed when ", "required only "],
    ) {
        let clause = first.split_once(", ").map_or(first, |(clause, _)| clause);
        let whole = if begins(first, &["if "]) { clause } else { first };
        return Need::Conditional(whole.trim_end_matches('.').to_owned(), true);
    }
    let marks = [" only if ", " only when ", " only in case ", " only during "];
    let limits = |sentence: &&&str| {
        marks.iter().any(|mark| sentence.contains(mark)) || sentence.trim_end_matches('.').ends_with(" only")
    };
    let found = sentences.iter().find(limits);
    found.map_or(Need::Required, |sentence| {
        Need::Conditional(sentence.trim_end_matches('.').to_owned(), false)
    })
}

/// The numbers of a sentence that could be ports.
pub(super) fn numbers(sentence: &str) -> BTreeSet<u16> {
    let words = sentence.split(|c: char| !c.is_ascii_alphanumeric());
    words.filter_map(|word| word.parse().ok()).filter(|&port| port > 0).collect()
}

/// Ports that a sentence names as such: "use port 587".
pub(super) fn ports_of_prose(sentence: &str) -> BTreeSet<u16> {
    let lower = sentence.to_ascii_lowercase();
    let mut found = BTreeSet::new();
    for (at, mark) in lower.match_indices("port ") {
        let digits: String = lower
            .get(at + mark.len()..)
            .unwrap_or_default()
            .chars()
            .take_while(char::is_ascii_digit)
            .collect();
        found.extend(digits.parse::<u16>().ok().filter(|&port| port > 0));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(cell: &str) -> Vec<String> {
        let (parties, _) = parties(cell, &BTreeSet::from(['1'])).unwrap_or_default();
        let told = parties.into_iter().map(|party| {
            let who = match party.who {
                Who::Names(names) => names.join(" "),
                Who::Tag(tag) => format!("tag {tag}"),
                Who::VirtualNetwork => "network".into(),
                Who::SiteRole => "site".into(),
                Who::Role => "role".into(),
            };
            format!("{}: {who}", party.title)
        });
        told.collect()
    }

    #[test]
    #[rustfmt::skip]
    fn a_cell_names_machines_names_and_tags() {
        for (cell, expected) in [
            ("Print server", &["Print server: role"][..]),
            ("Browser (local machine)", &["Browser (local machine): role"]),
            ("Console and Monitor server", &["Console: role", "Monitor server: role"]),
            ("Print server,\nSpooler or\nGateway", &["Print server: role", "Spooler: role", "Gateway: role"]),
            ("Proxy (direct)/ Gateway/ Helper", &["Proxy (direct): role", "Gateway: role", "Helper: role"]),
            ("Windows/Linux-based server", &["Windows/Linux-based server: role"]),
            ("Server that hosts A and B", &["Server that hosts A and B: role"]),
            ("Ink shop (DNS name: ink.example.net)", &["Ink shop: ink.example.net"]),
            ("Ink shop (DNS name: ink.example.net) and Toner shop (DNS name: toner.example.net)", &["Ink shop: ink.example.net", "Toner shop: toner.example.net"]),
            ("Ink and Toner shop (ink.example.net, toner.example.net)", &["Ink and Toner shop: ink.example.net toner.example.net"]),
            ("Mail server (DNS name or IP address of the mail server)", &["Mail server: site"]),
            ("SQL (service tag: Sql.<Region>, where <Region> is a [name](https://x.example))", &["SQL: tag Sql.<region>"]),
            ("ServiceTag - AzureMonitor:443", &["AzureMonitor: tag AzureMonitor"]),
            ("Network (service tag: VirtualNetwork)", &["Network: network"]),
            ("Store (DNS name: <blob_name>.blob.core.windows.net, where <blob_name> is yours)", &["Store: <account>.blob.core.windows.net"]),
            ("<storage-account>.blob.core.windows.net", &["<account>.blob.core.windows.net: <account>.blob.core.windows.net"]),
            ("<tenant>-my.example.com", &["*-my.example.com: *-my.example.com"]),
            ("https://a.example/path, http://b.example", &["a.example: a.example", "b.example: b.example"]),
            ("*.a.example:443 or ntp.b.example:123", &["*.a.example: *.a.example", "ntp.b.example: ntp.b.example"]),
            ("Any shop\nshop.example.net", &["Any shop: shop.example.net"]),
            ("Proxy server1", &["Proxy server: role"]),
            ("*:1194", &[]),
            ("CustomDNSIP:53 (if using custom servers)", &["CustomDNSIP (if using custom servers): site"]),
            ("login.example.us (Government)", &["login.example.us (Government): login.example.us"]),
            ("168.63.129.16", &["168.63.129.16: role"]),
            (".NET and Node.JS", &[".NET: role", "Node.JS: role"]),
            (".ink.example.net", &["*.ink.example.net: *.ink.example.net"]),
            (".net", &[".net: role"]),
            ("<a.b>.example", &["<a.b>.example: role"]),
        ] { assert_eq!(told(cell), expected, "{cell}"); }
    }

    #[test]
    #[rustfmt::skip]
    fn ports_are_read_as_pages_write_them() {
        let all = |cell: &str| match ports(cell) {
            Ok(found) => {
                let items: Vec<String> = found.items.iter().map(|(a, b)| if a == b { a.to_string() } else { format!("{a}-{b}") }).collect();
                format!("{}{}", items.join(","), if found.checks.is_empty() { "" } else { " check" })
            }
            Err(_) => "none".into(),
        };
        for (cell, expected) in [
            ("443", "443"), ("1433, 11000-11999", "1433,11000-11999"), ("6162, 2500 to 3300", "6162,2500-3300"),
            ("135 445", "135,445"), ("135; 445", "135,445"), ("6162 2500 to 3300", "6162,2500-3300"),
            ("18600\u{2013}18699", "18600-18699"), ("5985 (5986 \u{2014} used by default)", "5985,5986"),
            ("443 (HTTPS)", "443"), ("HTTPS:443", "443"), ("8400 (TCP)", "8400"), ("80 or 443", "80,443"),
            ("9193 (used by default)", "9193"), ("1433, 1434 and other", "1433,1434 check"), ("All", "1-65535 check"),
            ("1058+ or 1063+", "1058,1063 check"), ("9082 and up", "9082 check"), ("90812", "9081 check"), ("22\nTCP", "22"),
            ("Depends on the device", "none"), ("", "none"), ("0", "none"), ("3300-2500", "none"), ("99999999999", "none"),
            ("2500 - 3300", "2500-3300"), ("All TCP", "1-65535 check"),
            ("1,024-65,535", "1024-65535 check"), ("8,080", "8080 check"), ("49,152 - 49,999", "49152-49999 check"),
            ("22,443", "22,443 check"), ("80,443", "80,443"), ("5000:5010", "5000-5010 check"), ("5000..5010", "5000-5010 check"),
            ("5000~5010", "5000-5010 check"), ("5000\u{2212}5010", "5000-5010"), ("5000 \u{2014} 5010", "5000-5010 check"),
            ("5000\u{2026}5010", "5000-5010 check"), ("443 [1]", "443 check"), ("443 (1)", "443 check"), ("443 *1", "443 check"),
            ("443 (TLS 1.2)", "443 check"), ("443 (HTTP/2)", "443 check"), ("445 SMB 3", "445 check"), ("443 / 24h", "443 check"),
            ("\\u{202e}443", "443 check"), ("443 (formerly 8443)", "443 check"), ("5000-5010-5020", "none"), (">1023", "none"),
            (">= 1024", "none"), ("5000\u{2013}", "5000 check"), ("1024 - any", "1024 check"), ("1-65536", "none"),
            ("0-65535", "1-65535 check"), ("All except 22", "none"), ("any high port", "none"), ("443\u{2020}", "443 check"),
        ] { assert_eq!(all(cell), expected, "{cell}"); }
        assert!(is_ports("5985 (5986)") && is_ports("HTTPS:443") && !is_ports("Port 443 is used") && !is_ports("TCP"));
    }

    #[test]
    #[rustfmt::skip]
    fn protocols_are_transports_and_applications() {
        use AppProtocol::{Http, Smtp, Ssh, Tls};
        use Transport::{Icmp, Tcp, Udp};
        for (cell, transports, apps) in [
            ("TCP/HTTPS", &[Tcp][..], &[Tls][..]), ("HTTPS", &[Tcp], &[Tls]), ("TCP & UDP", &[Tcp, Udp], &[]),
            ("UDP, TCP", &[Udp, Tcp], &[]), ("TCP UDP", &[Tcp, Udp], &[]), ("HTTP (HTTPS)", &[Tcp], &[Http, Tls]),
            ("ICMP", &[Icmp], &[]), ("TCP/SMTP", &[Tcp], &[Smtp]), ("SSH", &[Tcp], &[Ssh]), ("All TCP", &[Tcp], &[]),
            ("NDMP", &[Tcp], &[]), ("Any", &[Tcp, Udp], &[]),
        ] {
            let found = protocols(cell).unwrap();
            assert_eq!((&found.transports[..], &found.apps[..]), (transports, apps), "{cell}");
            assert!(is_protocol(cell), "{cell}");
        }
        assert!(protocols("Carrier pigeon").is_err() && !is_protocol("Backup server") && !is_protocol("443"));
        assert!(!is_protocol("SMTP server"));
    }

    #[test]
    fn how_firmly_a_row_is_needed_stands_in_its_text() {
        let of = |text: &str| match need(&sentences(text)) {
            Need::Required => "required".to_owned(),
            Need::Optional => "optional".to_owned(),
            Need::Conditional(when, _) => when,
        };
        for (text, expected) in [
            ("Required to print.", "required"),
            ("[Optional] Port of the interface.", "optional"),
            ("Optional. Not used any more.", "optional"),
            ("[Applies to colour printers only] Ink is ordered.", "Applies to colour printers only"),
            ("If you use colour, ink is ordered.", "If you use colour"),
            ("Ink is ordered. Needed only if you print in colour.", "Needed only if you print in colour"),
            ("Only at installation time.", "Only at installation time"),
            ("Ink is ordered. This is so in private networks only.", "This is so in private networks only"),
            ("[Printers](x) are reached.", "required"),
        ] {
            assert_eq!(of(text), expected, "{text}");
        }
    }
}
