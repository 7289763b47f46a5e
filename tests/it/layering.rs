//! Who may import whom, and by which door each crate enters. ARCHITECTURE.md draws what this file enforces.
//!
//! The checker reads tokens, not text: comments and strings say nothing, grouped imports count item by item, paths
//! written out in code count as imports do. Unit tests inside a room obey the same table as the room.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A room, and the rooms whose names it may use. A room lists only rooms above it, so no import can go round in a
/// circle. A longer path (`capture::live`) is a room of its own inside another.
#[rustfmt::skip]
const ROOMS: &[(&str, &[&str])] = &[
    ("confine",        &[]),
    ("model",          &[]),
    ("capture",        &["model"]),
    ("capture::live",  &["model", "capture"]),
    ("decode",         &["model", "capture"]),
    ("names",          &["model", "decode"]),
    ("flow",           &["model", "decode", "names"]),
    ("matrix",         &["model"]),
    ("audit",          &["model", "flow", "names", "matrix"]),
    ("verdict",        &["model", "flow", "names", "matrix", "audit"]),
    ("store",          &["model", "capture", "decode", "names", "flow", "audit", "verdict"]),
    ("report",         &["model", "capture", "decode", "names", "flow", "matrix", "audit", "verdict", "store"]),
    ("pipeline",       &["model", "capture", "decode", "names", "flow", "matrix", "audit", "verdict", "store"]),
    ("pipeline::live", &["model", "capture", "capture::live", "decode", "names", "flow", "matrix", "audit", "verdict", "store", "pipeline"]),
    ("web",            &["model", "flow", "matrix", "audit", "verdict", "report", "pipeline", "pipeline::live"]),
    ("cli",            &["confine", "model", "capture", "capture::live", "decode", "names", "flow", "matrix", "audit", "verdict", "store", "report", "pipeline", "pipeline::live", "web"]),
    (MAIN,             &["cli"]),
];

/// The room that `src/main.rs` is: the program, which reaches the library as `portproof::`.
const MAIN: &str = "main";

/// A crate, or a part of the standard library, and the modules (with all below them) by which it may enter.
/// Crates of rooms that are still to be built stand here already: their doors are shut before anyone needs them.
#[rustfmt::skip]
const DOORS: &[(&str, &[&str])] = &[
    ("flate2",                   &["capture"]),
    ("zstd",                     &["capture"]),
    ("glob",                     &["capture"]),
    ("pcap",                     &["capture"]),
    ("sha2",                     &["capture", "names", "matrix", "pipeline", "report", "web"]),
    ("etherparse",               &["decode"]),
    ("hickory_proto",            &["names"]),
    ("hkdf",                     &["names"]),
    ("aes",                      &["names"]),
    ("aes_gcm",                  &["names"]),
    ("sha1",                     &["flow"]),
    ("hashbrown",                &["model", "names", "flow", "verdict", "pipeline"]),
    ("foldhash",                 &["model", "names", "flow", "verdict", "pipeline"]),
    ("tempfile",                 &["flow", "cli"]),
    ("ipnet",                    &["model", "matrix", "verdict"]),
    ("prefix_trie",              &["matrix"]),
    ("toml",                     &["matrix"]),
    ("pulldown_cmark",           &["matrix"]),
    ("html5gum",                 &["matrix"]),
    ("polars",                   &["store"]),
    ("polars_arrow",             &["store"]),
    ("polars_parquet",           &["store"]),
    ("data_encoding",            &["flow", "store", "report"]),
    ("serde_json",               &["matrix", "audit", "store", "report", "pipeline", "web", "cli"]),
    ("askama",                   &["report"]),
    ("csv",                      &["report"]),
    ("unicode_width",            &["report"]),
    ("anstream",                 &["report", "cli"]),
    ("tokio",                    &["pipeline::live", "web", "cli"]),
    // Those who ask are answered; nobody is asked.
    ("axum",                     &["web"]),
    ("hyper",                    &["web"]),
    ("hyper_util",               &["web"]),
    ("futures_util",             &["web"]),
    ("subtle",                   &["web"]),
    ("clap",                     &["cli"]),
    ("indicatif",                &["cli"]),
    ("signal_hook",              &["cli"]),
    // Waiting for a pipe; the CPU clock.
    ("rustix",                   &["confine", "capture", "web", "cli"]),
    ("rustix::rand",             &["web"]),
    ("rustix::time",             &["cli"]),
    // Giving up rights.
    ("rustix::thread",           &["confine"]),
    ("landlock",                 &["confine"]),
    ("seccompiler",              &["confine"]),
    ("libc",                     &["confine"]),
    // A stopped clock, and no traffic of our own.
    ("std::time::Instant",       &["capture::live", "pipeline::live", "web", "cli"]),
    ("std::time::SystemTime",    &["capture::live", "pipeline::live", "web", "cli"]),
    ("std::net::TcpListener",    &["web"]),
    ("std::net::TcpStream",      &["web"]),
    ("std::net::UdpSocket",      &["web"]),
    ("std::net::ToSocketAddrs",  &[]),
    // A local syslog; the service manager.
    ("std::os::unix::net",       &["pipeline::live", "cli"]),
    ("std::os::linux::net",      &["cli"]),
];

/// Crates that say nothing about what a room does: any room may use them.
const EVERYWHERE: &[&str] = &["serde", "thiserror"];

/// An import against the flow, or a crate by another door.
#[derive(Debug, PartialEq, Eq)]
struct Offence {
    file: PathBuf,
    line: usize,
    problem: String,
}

impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.problem)
    }
}

/// One path as the source writes it, groups taken apart.
struct Written {
    line: usize,
    segments: Vec<String>,
    /// Written with `::` in front: the first segment is a crate whatever modules are about.
    leading_colons: bool,
    /// From a `use`: a path that stops at a module brings the whole module.
    import: bool,
}

/// Offences of one source file, in order of line. `file` is its path below `src`.
fn check(file: &Path, source: &str) -> Vec<Offence> {
    let stream: TokenStream = match source.parse() {
        Ok(stream) => stream,
        Err(error) => {
            let problem = format!("not Rust: {error}");
            return vec![Offence { file: file.to_path_buf(), line: error.span().start().line, problem }];
        }
    };
    let mut module: Vec<String> =
        file.with_extension("").iter().map(|part| part.to_string_lossy().into()).collect();
    if module.last().is_some_and(|last| last == "mod" || last == "lib") {
        module.pop();
    }
    let mut checker = Checker { file, offences: Vec::new() };
    checker.walk(&stream.into_iter().collect::<Vec<_>>(), &module, &[]);
    checker.offences.sort_by_key(|offence| offence.line);
    checker.offences.dedup(); // two items of one group, one line
    checker.offences
}

struct Checker<'a> {
    file: &'a Path,
    offences: Vec<Offence>,
}

impl Checker<'_> {
    /// Judges every path in `tokens`. `module` is where they stand; `inner` are the modules declared there.
    fn walk(&mut self, tokens: &[TokenTree], module: &[String], inner: &[String]) {
        let declared = declared_modules(tokens);
        // A block inside a function sees the modules of the module that the function stands in.
        let inner = [inner, &declared[..]].concat();
        let mut at = 0;
        while at < tokens.len() {
            let line = tokens[at].span().start().line;
            match word(tokens, at).as_deref() {
                Some("mod") if word(tokens, at + 1).is_some() => {
                    if let Some(TokenTree::Group(body)) = tokens.get(at + 2) {
                        let mut below = module.to_vec();
                        below.extend(word(tokens, at + 1));
                        self.walk(&body.stream().into_iter().collect::<Vec<_>>(), &below, &[]);
                    }
                    at += 3;
                }
                Some("extern") if word(tokens, at + 1).as_deref() == Some("crate") => {
                    let segments = word(tokens, at + 2).into_iter().collect();
                    let written = Written { line, segments, leading_colons: true, import: true };
                    self.judge(&written, module, &inner);
                    at += 3;
                }
                // Not `+ use<'a>`, which lists what a returned type borrows.
                Some("use") if !is_punct(tokens, at + 1, '<') => {
                    let end = (at..tokens.len()).find(|&i| is_punct(tokens, i, ';')).unwrap_or(tokens.len());
                    let mut paths = Vec::new();
                    use_tree(&tokens[at + 1..end], &[], false, &mut paths);
                    for written in &paths {
                        self.judge(written, module, &inner);
                    }
                    at = end + 1;
                }
                Some("include") if is_punct(tokens, at + 1, '!') => {
                    self.offence(line, "`include!` brings code that this test cannot read".into());
                    at += 2;
                }
                Some(first) if is_colons(tokens, at + 1) && !is_punct(tokens, at.wrapping_sub(1), '.') => {
                    let (mut segments, mut next) = (vec![first.to_owned()], at + 1);
                    while is_colons(tokens, next)
                        && let Some(segment) = word(tokens, next + 2)
                    {
                        segments.push(segment);
                        next += 3;
                    }
                    let leading_colons = at >= 2
                        && is_colons(tokens, at - 2)
                        && !(at >= 3 && (word(tokens, at - 3).is_some() || is_punct(tokens, at - 3, '>')));
                    self.judge(&Written { line, segments, leading_colons, import: false }, module, &inner);
                    at = next;
                }
                _ => {
                    if let TokenTree::Group(group) = &tokens[at] {
                        self.walk(&group.stream().into_iter().collect::<Vec<_>>(), module, &inner);
                    }
                    at += 1;
                }
            }
        }
    }

    fn judge(&mut self, written: &Written, module: &[String], inner: &[String]) {
        let segments = &written.segments;
        let Some(first) = segments.first() else { return };
        let inside = match first.as_str() {
            _ if written.leading_colons => None,
            "crate" => Some(segments[1..].to_vec()),
            "portproof" => Some(segments[1..].to_vec()),
            "self" | "super" => {
                let up = segments.iter().take_while(|segment| *segment == "super").count();
                let rest = segments.iter().skip(up.max(1));
                Some(module.iter().take(module.len().saturating_sub(up)).chain(rest).cloned().collect())
            }
            name if inner.iter().any(|module| module == name) => Some([module, &segments[..]].concat()),
            _ => None,
        };
        match inside {
            Some(target) => self.judge_room(written, module, &target),
            None => self.judge_crate(written, module),
        }
    }

    fn judge_room(&mut self, written: &Written, module: &[String], target: &[String]) {
        if target.is_empty() || target[0] == "*" {
            if written.import {
                self.offence(written.line, "imports the whole crate: name the room".into());
            }
            return;
        }
        // `main.rs` may have modules of its own; everything in lib.rs is a declaration.
        let from = room_of(module);
        match (from, room_of(target)) {
            (_, None) => {
                let name = &target[0];
                self.offence(written.line, format!("`{name}` has no row in the table of rooms"));
            }
            (Some((from, allowed)), Some((to, _))) if from != to && !allowed.contains(&to) => {
                self.offence(written.line, format!("`{from}` imports `{to}`, against the flow"));
            }
            (Some(_) | None, Some(_)) => {}
        }
    }

    fn judge_crate(&mut self, written: &Written, module: &[String]) {
        for (door, modules) in DOORS {
            let door_path: Vec<&str> = door.split("::").collect();
            let shared = written.segments.iter().zip(&door_path).take_while(|(a, b)| a == b).count();
            let reaches_in = shared == door_path.len();
            // `use std::time;` or `use std::net::*;` brings what stands behind the door with it.
            let rest = &written.segments[shared..];
            let takes_all = written.import
                && shared > 0
                && shared < door_path.len()
                && (rest.is_empty() || rest[0] == "*" || rest[0] == "self");
            if (reaches_in || takes_all) && !modules.iter().any(|allowed| starts_with(module, allowed)) {
                let room = if module.is_empty() { "lib.rs".to_owned() } else { module.join("::") };
                let doors = if modules.is_empty() { "nowhere".to_owned() } else { modules.join(", ") };
                self.offence(written.line, format!("`{door}` enters `{room}`; its door is: {doors}"));
                return;
            }
        }
    }

    fn offence(&mut self, line: usize, problem: String) {
        self.offences.push(Offence { file: Path::new("src").join(self.file), line, problem });
    }
}

/// Takes a `use` apart: `a::{b, c::d}` is `a::b` and `a::c::d`, each with the line it stands on.
fn use_tree(tokens: &[TokenTree], prefix: &[String], leading_colons: bool, out: &mut Vec<Written>) {
    let mut segments = prefix.to_vec();
    let (mut line, mut at, mut leading_colons) = (None, 0, leading_colons);
    if prefix.is_empty() && is_colons(tokens, 0) {
        leading_colons = true;
        at = 2;
    }
    while at < tokens.len() {
        match &tokens[at] {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                let items = group.stream().into_iter().collect::<Vec<_>>();
                for item in items.split(|token| matches!(token, TokenTree::Punct(p) if p.as_char() == ',')) {
                    use_tree(item, &segments, leading_colons, out);
                }
                return;
            }
            TokenTree::Ident(name) if *name == "as" => break,
            TokenTree::Ident(name) => {
                line = Some(name.span().start().line);
                segments.push(name.to_string());
            }
            TokenTree::Punct(star) if star.as_char() == '*' => {
                line = Some(star.span().start().line);
                segments.push("*".into());
            }
            _ => {}
        }
        at += 1;
    }
    if let Some(line) = line {
        // `a::{self, b}` names `a` itself.
        if segments.len() > 1 && segments.last().is_some_and(|last| last == "self") {
            segments.pop();
        }
        out.push(Written { line, segments, leading_colons, import: true });
    }
}

fn declared_modules(tokens: &[TokenTree]) -> Vec<String> {
    let mods = (0..tokens.len()).filter(|&at| word(tokens, at).as_deref() == Some("mod"));
    mods.filter_map(|at| word(tokens, at + 1)).collect()
}

/// The innermost room that `module` (or an item below it) belongs to, with what that room may import.
fn room_of(module: &[String]) -> Option<(&'static str, &'static [&'static str])> {
    let rooms = ROOMS.iter().filter(|(room, _)| starts_with(module, room));
    rooms.max_by_key(|(room, _)| room.len()).copied()
}

fn starts_with(module: &[String], room: &str) -> bool {
    let mut module = module.iter();
    room.split("::").all(|part| module.next().is_some_and(|segment| segment == part))
}

fn word(tokens: &[TokenTree], at: usize) -> Option<String> {
    match tokens.get(at) {
        Some(TokenTree::Ident(ident)) => Some(ident.to_string()),
        _ => None,
    }
}

fn is_punct(tokens: &[TokenTree], at: usize, c: char) -> bool {
    matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == c)
}

fn is_colons(tokens: &[TokenTree], at: usize) -> bool {
    is_punct(tokens, at, ':') && is_punct(tokens, at + 1, ':')
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn source_files() -> Vec<(PathBuf, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    files.sort();
    let read = |path: PathBuf| {
        let source = std::fs::read_to_string(&path).unwrap();
        (path.strip_prefix(&src).unwrap().to_path_buf(), source)
    };
    files.into_iter().map(read).collect()
}

#[test]
fn no_room_imports_against_the_flow_and_no_crate_enters_by_another_door() {
    let files = source_files();
    assert!(
        files.len() > 15,
        "only {} source files found: is the checker looking in the right place?",
        files.len()
    );
    let offences: Vec<String> = files
        .iter()
        .flat_map(|(file, source)| check(file, source))
        .map(|offence| offence.to_string())
        .collect();
    assert!(offences.is_empty(), "\n{}\nThe tables stand at the top of {}.\n", offences.join("\n"), file!());
}

#[test]
fn every_room_has_a_row() {
    for (file, _) in source_files() {
        let module: Vec<String> =
            file.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
        assert!(module == ["lib"] || room_of(&module).is_some(), "src/{} belongs to no room", file.display());
    }
}

#[test]
fn the_table_of_rooms_has_no_way_back() {
    let above = |at: usize, name: &str| ROOMS[..at].iter().any(|(room, _)| *room == name);
    for (at, (room, allowed)) in ROOMS.iter().enumerate() {
        for name in *allowed {
            assert!(above(at, name), "`{room}` may import `{name}`, which does not stand above it");
        }
    }
}

#[test]
fn every_dependency_has_a_door() {
    let manifest = include_str!("../../Cargo.toml").parse::<toml::Table>().unwrap();
    let of_targets = manifest["target"].as_table().unwrap().values().map(|target| &target["dependencies"]);
    let tables = of_targets.chain([&manifest["dependencies"]]);
    for name in tables.flat_map(|table| table.as_table().unwrap().keys()) {
        let name = name.replace('-', "_");
        let known = EVERYWHERE.contains(&&*name) || DOORS.iter().any(|(door, _)| *door == name);
        assert!(known, "Cargo.toml has `{name}`, but no door says where it may enter");
    }
    for (door, modules) in DOORS {
        for module in *modules {
            assert!(
                ROOMS.iter().any(|(room, _)| room == module),
                "the door of `{door}` is `{module}`: no such room"
            );
        }
    }
}

#[test]
#[rustfmt::skip]
fn a_planted_offender_is_named_with_file_and_line() {
    for (file, source, expected) in [
        ("flow/mod.rs",      "use crate::verdict::Verdict;",                         "src/flow/mod.rs:1: `flow` imports `verdict`, against the flow"),
        ("flow/table.rs",    "\n\nuse crate::report;",                               "src/flow/table.rs:3: `flow` imports `report`, against the flow"),
        // Grouped, over several lines: the line is the item's, not the statement's.
        ("names/dns.rs",     "use crate::{\n    decode::Packet,\n    flow::{FlowKey, FlowRecord as F},\n};", "src/names/dns.rs:3: `names` imports `flow`, against the flow"),
        ("names/dns.rs",     "use {std::fmt, crate::{model, matrix as m}};",         "src/names/dns.rs:1: `names` imports `matrix`, against the flow"),
        ("model/time.rs",    "pub use super::super::capture::{Frame};",              "src/model/time.rs:1: `model` imports `capture`, against the flow"),
        ("audit.rs",         "use super::verdict::{self, Finding};",                 "src/audit.rs:1: `audit` imports `verdict`, against the flow"),
        // Written out in code, in a type, in a macro, in a test, in a function of a nested module.
        ("matrix/mod.rs",    "fn f() {\n let x = crate::names::g();\n}",             "src/matrix/mod.rs:2: `matrix` imports `names`, against the flow"),
        ("matrix/mod.rs",    "struct S(Vec<crate::flow::FlowKey>);",                 "src/matrix/mod.rs:1: `matrix` imports `flow`, against the flow"),
        ("store/mod.rs",     "fn f() { assert_eq!(1, crate::report::one()); }",      "src/store/mod.rs:1: `store` imports `report`, against the flow"),
        ("decode/mod.rs",    "#[cfg(test)]\nmod tests {\n  use super::super::flow::X;\n}", "src/decode/mod.rs:3: `decode` imports `flow`, against the flow"),
        ("decode/udp.rs",    "mod a { mod b { fn f() { super::super::super::super::flow::x() } } }", "src/decode/udp.rs:1: `decode` imports `flow`, against the flow"),
        ("verdict/mod.rs",   "macro_rules! m { () => { $crate::report::x() } }",     "src/verdict/mod.rs:1: `verdict` imports `report`, against the flow"),
        // The audit's path stays clear of live capture, re-exports by the parent included.
        ("pipeline/mod.rs",  "use crate::capture::live::Device;",                    "src/pipeline/mod.rs:1: `pipeline` imports `capture::live`, against the flow"),
        ("capture/mod.rs",   "pub mod live;\npub use live::Device;",                 "src/capture/mod.rs:2: `capture` imports `capture::live`, against the flow"),
        ("main.rs",          "use portproof::{cli, verdict::classify};",             "src/main.rs:1: `main` imports `verdict`, against the flow"),
        // What could hide an import.
        ("model/mod.rs",     "use crate::*;",                                        "src/model/mod.rs:1: imports the whole crate: name the room"),
        ("model/mod.rs",     "use super::*;",                                        "src/model/mod.rs:1: imports the whole crate: name the room"),
        ("model/mod.rs",     "use crate as c;",                                      "src/model/mod.rs:1: imports the whole crate: name the room"),
        ("model/mod.rs",     "use crate::{self as c};",                              "src/model/mod.rs:1: imports the whole crate: name the room"),
        ("model/mod.rs",     "use crate::helpers::trim;",                            "src/model/mod.rs:1: `helpers` has no row in the table of rooms"),
        ("model/mod.rs",     "include!(\"../flow/key.rs\");",                        "src/model/mod.rs:1: `include!` brings code that this test cannot read"),
        // Crates.
        ("flow/mod.rs",      "use etherparse::TcpHeader;",                           "src/flow/mod.rs:1: `etherparse` enters `flow`; its door is: decode"),
        ("flow/mod.rs",      "use {\n std::fmt,\n ::etherparse::{TcpHeader}\n};",    "src/flow/mod.rs:3: `etherparse` enters `flow`; its door is: decode"),
        ("flow/key.rs",      "fn f() { etherparse::parse() }",                       "src/flow/key.rs:1: `etherparse` enters `flow::key`; its door is: decode"),
        ("flow/key.rs",      "fn f() { ::etherparse::parse() }",                     "src/flow/key.rs:1: `etherparse` enters `flow::key`; its door is: decode"),
        ("flow/key.rs",      "extern crate etherparse as e;",                        "src/flow/key.rs:1: `etherparse` enters `flow::key`; its door is: decode"),
        ("lib.rs",           "pub use polars::frame::DataFrame;",                    "src/lib.rs:1: `polars` enters `lib.rs`; its door is: store"),
        ("decode/link.rs",   "#[derive(Debug)]\nstruct D { inner: pcap::Capture }",  "src/decode/link.rs:2: `pcap` enters `decode::link`; its door is: capture"),
        ("pipeline/offline.rs", "#[tokio::main]\nasync fn f() {}",                   "src/pipeline/offline.rs:1: `tokio` enters `pipeline::offline`; its door is: pipeline::live, web, cli"),
        // The clock and the network.
        ("verdict/mod.rs",   "use std::time::{Duration, SystemTime};",               "src/verdict/mod.rs:1: `std::time::SystemTime` enters `verdict`; its door is: capture::live, pipeline::live, web, cli"),
        ("flow/mod.rs",      "fn f() { std::time::Instant::now(); }",                "src/flow/mod.rs:1: `std::time::Instant` enters `flow`; its door is: capture::live, pipeline::live, web, cli"),
        ("flow/mod.rs",      "use std::time;",                                       "src/flow/mod.rs:1: `std::time::Instant` enters `flow`; its door is: capture::live, pipeline::live, web, cli"),
        ("names/mod.rs",     "use std::net::*;",                                     "src/names/mod.rs:1: `std::net::TcpListener` enters `names`; its door is: web"),
        ("cli/run.rs",       "use std::net::ToSocketAddrs;",                         "src/cli/run.rs:1: `std::net::ToSocketAddrs` enters `cli::run`; its door is: nowhere"),
    ] {
        let offences: Vec<String> = check(Path::new(file), source).iter().map(Offence::to_string).collect();
        assert_eq!(offences, [expected], "{source}");
    }
}

#[test]
#[rustfmt::skip]
fn what_only_looks_like_an_import_is_left_alone() {
    for (file, source) in [
        ("model/mod.rs",    "//! See crate::verdict and [`crate::flow::FlowKey`].\n/* use etherparse::X; /* nested */ use pcap::Y; */"),
        ("model/mod.rs",    "const A: &str = \"use crate::flow;\"; const B: &str = r#\"etherparse::\"x\"\"#; const C: char = '\"';"),
        ("model/mod.rs",    "fn f<'crate_>(x: &'crate_ str) -> impl Iterator<Item = u8> + use<'crate_> { x.bytes() }"),
        ("model/mod.rs",    "pub(crate) mod ports; mod time; pub use ports::PortSet; use self::time::Timestamp; pub(in crate::model) fn f() {}"),
        ("flow/mod.rs",     "mod table; use crate::{decode::{self, Packet}, model::*, names}; use crate::flow::table::X; use super::decode::Y;"),
        ("flow/mod.rs",     "#[cfg(test)] mod tests { use super::*; use super::super::model::Timestamp; }"),
        ("flow/mod.rs",     "use std::{net::{IpAddr, Ipv4Addr}, time::Duration}; fn f(d: std::time::Duration) {}"),
        ("report/mod.rs",   "mod toml; fn f() { toml::render() } fn g() { let toml = 1; x.toml::<u8>(); self.csv::<u8>() }"),
        ("decode/mod.rs",   "use etherparse::{Ipv4Slice, ether_type}; fn f() { ::etherparse::x() }"),
        ("pipeline/live/mod.rs", "use tokio::sync::mpsc; use crate::{capture::live::Device, pipeline::judge}; use std::time::Instant;"),
        ("main.rs",         "mod banner; fn main() { banner::print(); portproof::cli::run() }"),
        ("lib.rs",          "pub mod model; pub mod flow;"),
    ] {
        let offences: Vec<String> = check(Path::new(file), source).iter().map(Offence::to_string).collect();
        assert!(offences.is_empty(), "{source}\n{offences:?}");
    }
}

#[test]
fn no_resolver_and_no_http_client_is_in_the_build() {
    let deny = include_str!("../../deny.toml").parse::<toml::Table>().unwrap();
    let denied =
        deny["bans"]["deny"].as_array().unwrap().iter().map(|entry| entry["crate"].as_str().unwrap());
    // The features of this very build: its crates lie on the disk, so that cargo needs no network to answer.
    let features = if cfg!(feature = "columnar") { "--all-features" } else { "--no-default-features" };
    let tree = std::process::Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", features, "--edges", "normal,build"])
        .args(["--prefix", "none", "--format", "{p} features {f}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).unwrap();
    let built: Vec<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(built.contains(&"etherparse"), "this is not the build's tree:\n{tree}");
    for name in denied {
        assert!(!built.contains(&name), "`{name}` is in the build; deny.toml says why it may not be");
    }
    // Of a crate that serves, the part that asks.
    for entry in deny["bans"]["features"].as_array().unwrap() {
        let name = entry["crate"].as_str().unwrap();
        let denied: Vec<&str> =
            entry["deny"].as_array().unwrap().iter().map(|feature| feature.as_str().unwrap()).collect();
        let lines = tree.lines().filter(|line| line.split(' ').next() == Some(name));
        let features: Vec<&str> = lines
            .filter_map(|line| line.split_once(" features "))
            .flat_map(|(_, list)| list.split(','))
            .collect();
        assert!(!features.is_empty(), "`{name}` is not in the build: why does deny.toml speak of it?");
        for feature in denied {
            assert!(!features.contains(&feature), "`{name}` is built with `{feature}`: {features:?}");
        }
    }
}
