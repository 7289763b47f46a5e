//! What a cell says: who, over what, to which ports, how firmly.

use crate::matrix::rule::TagName;
use crate::model::{AppProtocol, DomainPattern, Transport};
use std::collections::BTreeSet;

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
    let (pieces, split) = pieces(cell);
    if pieces.len() > MAX_PARTIES {
        return Err(format!(
            "a cell names {} machines: no more than {MAX_PARTIES} are told apart",
            pieces.len()
        ));
    }
    let mut checks = Vec::new();
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
/// may be part of a name.
fn pieces(cell: &str) -> (Vec<String>, bool) {
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
    (pieces, split)
}

/// One of them.
fn party(piece: &str, footnotes: &BTreeSet<char>) -> Party {
    let tag = service_tag(piece).or_else(|| (piece == "VirtualNetwork").then(|| piece.to_owned()));
    let names: Vec<Name> = if tag.is_some() { Vec::new() } else { words(piece).filter_map(name).collect() };
    let mut checks: Vec<String> = names.iter().filter_map(|name| name.guess.clone()).collect();
    let lower = piece.to_ascii_lowercase();
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
    ["block", "deny", "drop", "reject", "blocked", "denied"]
        .iter()
        .any(|word| cell.eq_ignore_ascii_case(word))
}

/// Whether a description is of a rule that blocks.
pub(super) fn denies(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    ["block ", "blocks ", "deny ", "denies "].iter().any(|word| lower.starts_with(word))
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
            false if scheme.is_none() && label.bytes().any(|byte| byte.is_ascii_uppercase()) => return None,
            false => label.to_ascii_lowercase(),
        });
    }
    let top = labels.last()?;
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
        "dhcp" | "ntp" | "snmp" | "syslog" | "tftp" => Word::Usually(Udp),
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
    cell.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_ascii_lowercase)
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
    found.paired = found.apps.len() == 2 && cell.contains('(');
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
    /// Words of protocols that stand with them.
    pub(super) words: String,
    pub(super) checks: Vec<String>,
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

/// Reads a port cell: `6162, 2500 to 3300`, `135 445`, `443 (HTTPS)`, `5985 (5986 — used by default)`.
///
/// # Errors
/// It names no port.
pub(super) fn ports(cell: &str) -> Result<PortItems, String> {
    let mut found = PortItems::default();
    let lower = cell.trim().to_lowercase();
    let all = lower
        .split(|c: char| !c.is_alphanumeric())
        .find(|word| !word.is_empty() && protocol_word(word).is_none());
    if matches!(all, Some("all" | "any")) && !lower.bytes().any(|byte| byte.is_ascii_digit()) {
        found.items.push((1, u16::MAX));
        found.words = lower;
        found.checks.push("all ports: the rule documents every one of them".into());
        return Ok(found);
    }
    let mut more = false;
    // Numbers, words, and what stands between: a dash or "to" makes two numbers a range.
    let mut open: Option<bool> = None;
    for token in tokens(&lower) {
        match token {
            Token::Number(digits) => {
                let port = number(digits, &mut found.checks)?;
                let room = found.items.len() < MAX_PORTS;
                match (found.items.last_mut(), open.take()) {
                    (Some(last), Some(true)) if last.0 == last.1 && last.0 < port => last.1 = port,
                    (_, Some(true)) => {
                        return Err(format!("no range of ports can be read in {}", quoted(cell)));
                    }
                    _ if !room => {
                        return Err(format!("a cell names more than {MAX_PORTS} ports"));
                    }
                    _ => found.items.push((port, port)),
                }
                open = Some(false);
            }
            Token::Range => open = open.map(|_| true),
            Token::Upwards => {
                found.checks.push(format!(
                    "the page says \"and up\"; only the first port was taken: {}",
                    quoted(cell)
                ));
                open = None;
            }
            Token::Word(word) => {
                let harmless = [
                    "or", "and", "by", "default", "used", "port", "ports", "range", "the", "from", "only",
                    "optional",
                ];
                if protocol_word(word).is_some() {
                    found.words.push_str(word);
                    found.words.push(' ');
                } else if !harmless.contains(&word) {
                    more = true;
                }
                open = None;
            }
            Token::Other => open = None,
        }
    }
    if found.items.is_empty() {
        return Err(format!("no port in {}", quoted(cell)));
    }
    found.items.dedup();
    if more {
        found.checks.push(format!("the port cell says more: {}", quoted(cell)));
    }
    Ok(found)
}

/// What a port cell is made of.
enum Token<'c> {
    Number(&'c str),
    Word(&'c str),
    Range,
    Upwards,
    Other,
}

fn tokens(cell: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let mut rest = cell;
    while let Some(c) = rest.chars().next() {
        let run = |of: fn(char) -> bool| rest.find(|c| !of(c)).unwrap_or(rest.len());
        let (token, length) = if c.is_ascii_digit() {
            let length = run(|c| c.is_ascii_digit());
            (Some(Token::Number(rest.get(..length).unwrap_or_default())), length)
        } else if c.is_alphabetic() {
            let length = run(char::is_alphanumeric);
            let word = rest.get(..length).unwrap_or_default();
            let token = match word {
                "to" | "through" | "thru" => Token::Range,
                "up" | "upwards" | "above" | "higher" => Token::Upwards,
                word => Token::Word(word),
            };
            (Some(token), length)
        } else {
            let token = match c {
                // A long dash with spaces parts; without, it means a range.
                '-' | '\u{2010}'..='\u{2013}' => Some(Token::Range),
                '\u{2014}' if rest.chars().nth(1).is_some_and(|next| next.is_ascii_digit()) => {
                    Some(Token::Range)
                }
                '+' => Some(Token::Upwards),
                c if c.is_whitespace() => None,
                _ => Some(Token::Other),
            };
            (token, c.len_utf8())
        };
        found.extend(token);
        rest = rest.get(length..).unwrap_or_default();
    }
    found
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

/// The port that a text names: "over TCP port 443".
pub(super) fn told_port(text: &str) -> Option<u16> {
    let lower = text.to_ascii_lowercase();
    let at = lower.find("tcp port ")? + "tcp port ".len();
    let digits: String = lower.get(at..)?.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok().filter(|&port| port > 0)
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
