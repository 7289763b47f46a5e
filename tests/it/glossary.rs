//! Each noun that GLOSSARY.md gives a room is a public type there, defined once.

use std::path::Path;

/// `(noun, room)` of each entry such as `**FlowRecord** [flow]` or `**Endpoint**, **Port** [model]`.
fn nouns(glossary: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    let mut waiting = Vec::new();
    for (at, part) in glossary.split("**").enumerate() {
        if at % 2 == 1 {
            waiting.push(part);
            continue;
        }
        if let Some((room, _)) = part.trim_start().strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            found.extend(waiting.drain(..).map(|noun| (noun, room)));
        } else if part != ", " {
            waiting.clear();
        }
    }
    found
}

fn definitions(folder: &Path, noun: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(definitions(&path, noun));
            continue;
        }
        let source = std::fs::read_to_string(&path).unwrap();
        for line in source.lines() {
            let mut words =
                line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
            let defines =
                words.next() == Some("pub") && matches!(words.next(), Some("struct" | "enum" | "type"));
            if defines && words.next() == Some(noun) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

#[test]
fn every_noun_with_a_room_is_a_type_of_that_room_defined_once() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let nouns = nouns(include_str!("../../GLOSSARY.md"));
    assert!(
        nouns.len() >= 10,
        "only {} nouns with a room: is the glossary's form still the same?",
        nouns.len()
    );
    let mut problems = Vec::new();
    for (noun, room) in nouns {
        let defined = definitions(&root.join("src"), noun);
        let inside = |path: &String| {
            path.contains(&format!("src/{room}/")) || path.ends_with(&format!("src/{room}.rs"))
        };
        match &defined[..] {
            [one] if inside(one) => {}
            others => problems.push(format!("{noun} [{room}]: defined in {others:?}")),
        }
    }
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn nouns_are_found_in_the_glossarys_form() {
    let text = "* **Frame** [capture]: bytes.\n* **A**, **B** [model]: two.\n* **Role**: no type. **Rule**\n  [matrix]: x **Not** y";
    assert_eq!(nouns(text), [("Frame", "capture"), ("A", "model"), ("B", "model"), ("Rule", "matrix")]);
}
