//! CAPTURE arguments to inputs: files, directories, globs, standard input.

use super::pcap::Pcap;
use super::pcapng::Pcapng;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where a capture's bytes come from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum InputSource {
    /// Standard input, read once, as a stream.
    Stdin,
    /// A file (or a named pipe).
    File(PathBuf),
}

/// One capture to read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Input {
    /// As it was given, or found below what was given; `-` for standard input.
    pub name: String,
    /// Where its bytes come from.
    pub source: InputSource,
}

/// What a file is called. Where its name is no UTF-8, bytes that are none stand as `\xff`: so no two files are called the same.
fn name_of(path: &Path) -> String {
    let chunks = path.as_os_str().as_encoded_bytes().utf8_chunks();
    let told = chunks.flat_map(|chunk| {
        let strange: String = chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")).collect();
        [chunk.valid().to_owned(), strange]
    });
    told.collect()
}

impl Input {
    /// The input that is the file at `path`.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Input { name: name_of(&path), source: InputSource::File(path) }
    }

    /// The input that is standard input.
    pub fn stdin() -> Self {
        Input { name: "-".to_owned(), source: InputSource::Stdin }
    }
}

/// A CAPTURE argument, or something below it, that gives no input.
#[derive(Debug, thiserror::Error)]
pub enum InputProblem {
    /// Neither a path nor a glob that matches.
    #[error("{0}: no such file or directory")]
    NotFound(String),
    /// A glob that matches nothing.
    #[error("{0}: matches no file")]
    NoMatch(String),
    /// A glob that cannot be understood.
    #[error("{argument}: not a glob: {why}")]
    BadGlob {
        /// As given.
        argument: String,
        /// What the glob reader says.
        why: String,
    },
    /// A directory without captures.
    #[error(
        "{0}: the directory holds no capture (*.pcap, *.pcapng, *.cap, *.dmp, rotated like x.pcap1, and those with .gz or .zst)"
    )]
    EmptyDirectory(String),
    /// Something that cannot be looked into.
    #[error("{path}: {error}")]
    Io {
        /// What.
        path: String,
        /// Why.
        error: io::Error,
    },
}

/// What CAPTURE arguments lead to. The inputs count even where there are problems.
#[derive(Debug, Default)]
pub struct Discovered {
    /// Sorted by name, none twice: the order of the arguments carries no meaning.
    pub inputs: Vec<Input>,
    /// In the order of the sorted arguments.
    pub problems: Vec<InputProblem>,
    /// Directories that were searched for captures, by their true paths, sorted.
    pub searched: Vec<PathBuf>,
    /// Directories whose names globs were held against, by their true paths, sorted; those beneath one of them left out.
    pub listed: Vec<PathBuf>,
}

/// Whether a directory's file is a capture by its name: `.pcap`, `.pcapng`, `.cap` or `.dmp`, a rotation number after
/// it (`x.pcap1`, `x.pcap.1`) and `.gz` or `.zst` at the end allowed; letter case carries no meaning.
fn is_capture_name(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let name = lower.strip_suffix(".gz").or_else(|| lower.strip_suffix(".zst")).unwrap_or(&lower);
    let name = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let name = name.strip_suffix('.').unwrap_or(name);
    [".pcap", ".pcapng", ".cap", ".dmp"]
        .iter()
        .any(|extension| name.len() > extension.len() && name.ends_with(extension))
}

/// Whether a file of a directory is a capture whatever it is called: `tcpdump -w trace` gives it no extension. Compressed ones are
/// not looked into.
fn begins_like_a_capture(path: &Path) -> bool {
    let mut magic = [0; 4];
    let read = fs::File::open(path).and_then(|mut file| io::Read::read_exact(&mut file, &mut magic));
    read.is_ok() && (Pcap::begins(magic) || Pcapng::begins(magic))
}

#[derive(Default)]
struct Finder {
    /// By the file's one true path, so that no file is taken twice; the name that sorts first is kept.
    found: BTreeMap<PathBuf, Input>,
    stdin: bool,
    /// Directories walked, and whether they gave any capture.
    visited: BTreeMap<PathBuf, bool>,
    /// Directories that globs looked into.
    listed: BTreeSet<PathBuf>,
    problems: Vec<InputProblem>,
}

impl Finder {
    fn problem(&mut self, path: &Path, error: io::Error) {
        self.problems.push(InputProblem::Io { path: name_of(path), error });
    }

    fn take(&mut self, path: &Path) {
        let identity = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let input = Input::file(path);
        let kept = self.found.entry(identity).or_insert_with(|| input.clone());
        if input < *kept {
            *kept = input;
        }
    }

    /// Takes what a path names: a file whatever it is called, of a directory the captures below it. Hands back whether
    /// it gave any.
    fn path(&mut self, path: &Path) -> bool {
        match fs::metadata(path) {
            Ok(kind) if kind.is_dir() => self.directory(path),
            Ok(_) => {
                self.take(path);
                true
            }
            Err(error) => {
                self.problem(path, error);
                false
            }
        }
    }

    fn directory(&mut self, directory: &Path) -> bool {
        // A directory reached twice, by a loop of symbolic links or by two arguments, is walked once.
        let identity = fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned());
        if let Some(&any) = self.visited.get(&identity) {
            return any;
        }
        self.visited.insert(identity.clone(), false);
        let entries = match fs::read_dir(directory).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
            Ok(entries) => entries,
            Err(error) => {
                self.problem(directory, error);
                return false;
            }
        };
        let mut paths: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
        paths.sort();
        let mut any = false;
        for path in paths {
            let named = path.file_name().is_some_and(|name| is_capture_name(&name.to_string_lossy()));
            match fs::metadata(&path) {
                Ok(kind) if kind.is_dir() => any |= self.directory(&path),
                Ok(kind) if kind.is_file() && (named || begins_like_a_capture(&path)) => {
                    self.take(&path);
                    any = true;
                }
                // Sockets, pipes, devices; other files.
                Ok(_) => {}
                // A dangling link is of interest only where a capture should stand.
                Err(error) if named => self.problem(&path, error),
                Err(_) => {}
            }
        }
        self.visited.insert(identity, any);
        any
    }

    fn argument(&mut self, argument: &str) {
        if argument == "-" {
            self.stdin = true;
            return;
        }
        let path = Path::new(argument);
        let problems = self.problems.len();
        if path.exists() {
            let any = self.path(path);
            if !any && self.problems.len() == problems {
                self.problems.push(InputProblem::EmptyDirectory(argument.to_owned()));
            }
            return;
        }
        if !argument.contains(['*', '?', '[']) {
            self.problems.push(InputProblem::NotFound(argument.to_owned()));
            return;
        }
        let matches = match glob::glob(argument) {
            Ok(matches) => matches,
            Err(error) => {
                let why = error.to_string();
                self.problems.push(InputProblem::BadGlob { argument: argument.to_owned(), why });
                return;
            }
        };
        self.listed_by(path);
        let mut any = false;
        for found in matches {
            match found {
                Ok(path) => any |= self.path(&path),
                Err(error) => {
                    let path = error.path().to_owned();
                    self.problem(&path, error.into());
                }
            }
        }
        if !any && self.problems.len() == problems {
            self.problems.push(InputProblem::NoMatch(argument.to_owned()));
        }
    }
}

impl Finder {
    /// Notes the directories that a glob looks into: the one that it begins at, and those elsewhere that links lead to.
    fn listed_by(&mut self, glob: &Path) {
        let meta = |path: &Path| path.to_string_lossy().contains(['*', '?', '[']);
        let here =
            |path: &Path| if path.as_os_str().is_empty() { PathBuf::from(".") } else { path.to_owned() };
        let (above, begin): (Vec<&Path>, Vec<&Path>) = glob.ancestors().skip(1).partition(|path| meta(path));
        let begin = begin.first().and_then(|path| fs::canonicalize(here(path)).ok());
        let matched =
            above.into_iter().filter_map(|path| glob::glob(&path.to_string_lossy()).ok()).flatten().flatten();
        let elsewhere = matched.filter_map(|path| fs::canonicalize(path).ok()).filter(|path| path.is_dir());
        let elsewhere = elsewhere.filter(|path| !begin.as_ref().is_some_and(|begin| path.starts_with(begin)));
        self.listed.extend(elsewhere.collect::<Vec<_>>().into_iter().chain(begin));
    }
}

/// Finds the captures that CAPTURE arguments mean: a file is taken whatever its name, of a directory the files below it that are
/// captures by their names or by how they begin, `-` is standard input, anything else is a glob.
pub fn discover(arguments: &[String]) -> Discovered {
    let mut finder = Finder::default();
    let mut arguments: Vec<&String> = arguments.iter().collect();
    arguments.sort();
    for argument in arguments {
        finder.argument(argument);
    }
    let mut inputs: Vec<Input> = finder.found.into_values().collect();
    if finder.stdin {
        inputs.push(Input::stdin());
    }
    inputs.sort();
    let searched = finder.visited.into_keys().collect();
    Discovered { inputs, problems: finder.problems, searched, listed: finder.listed.into_iter().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn files_whose_names_are_no_utf_8_are_told_apart() {
        use std::os::unix::ffi::OsStrExt;
        let named = |name: &[u8]| Input::file(std::ffi::OsStr::from_bytes(name)).name;
        assert_eq!(named(b"d/bad\xff\xc3.pcap"), "d/bad\\xff\\xc3.pcap");
        assert_ne!(named(b"d/bad\xff.pcap"), named(b"d/bad\xfe.pcap"));
        assert_eq!(named("Zürich 東京.pcap".as_bytes()), "Zürich 東京.pcap");
    }

    #[test]
    fn a_directory_gives_the_files_whose_names_say_capture() {
        for (name, expected) in [
            ("a.pcap", true),
            ("a.PCAPNG", true),
            ("a.cap", true),
            ("a.dmp", true),
            ("a.pcap1", true),
            ("a.pcap.12", true),
            ("a.pcapng.gz", true),
            ("a.pcap3.zst", true),
            ("a.2026.pcap", true),
            ("pcap", false),
            (".pcap", false),
            ("a.pcap.txt", false),
            ("a.pcap.oracle.jsonl", false),
            ("a.pcapx", false),
            ("notes.1", false),
            ("a.gz", false),
        ] {
            assert_eq!(is_capture_name(name), expected, "{name}");
        }
    }

    #[test]
    fn each_file_is_found_once_in_the_order_of_names_and_what_is_missing_is_named() {
        let root = std::env::temp_dir().join(format!("portproof-discover-{}", std::process::id()));
        let inner = root.join("inner");
        fs::create_dir_all(&inner).expect("temporary directory");
        fs::create_dir_all(root.join("empty")).expect("temporary directory");
        for name in ["b.pcap", "a.pcapng", "inner/c.cap.gz", "inner/readme.txt", "inner/notes.txt"] {
            fs::write(root.join(name), b"").expect("temporary file");
        }
        fs::write(root.join("inner/trace"), b"\xd4\xc3\xb2\xa1\x02").expect("temporary file");
        fs::write(root.join("trace.out"), b"\x0a\x0d\x0d\x0a").expect("temporary file");
        let at = |name: &str| root.join(name).display().to_string();
        let arguments = [
            at("inner/readme.txt"),
            at(""),
            at("b.pcap"),
            at("*.pcap*"),
            "-".to_owned(),
            at("nothing.pcap"),
            at("*.dmp"),
            at("empty"),
            at("[a"),
        ];
        let Discovered { inputs, problems, searched, listed } = discover(&arguments);
        let names: Vec<String> = inputs.iter().map(|input| input.name.clone()).collect();
        let expected: Vec<String> = std::iter::once("-".to_owned())
            .chain(
                ["a.pcapng", "b.pcap", "inner/c.cap.gz", "inner/readme.txt", "inner/trace", "trace.out"]
                    .map(at),
            )
            .collect();
        assert_eq!(names, expected);
        let true_path = |name: &str| fs::canonicalize(root.join(name)).expect("temporary directory");
        assert_eq!(searched, ["", "empty", "inner"].map(true_path));
        assert_eq!(listed, [true_path("")], "globs look into the directory that they stand in");
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let starts = [
            format!("{}: matches no file", at("*.dmp")),
            format!("{}: not a glob", at("[a")),
            format!("{}: the directory holds no capture", at("empty")),
            format!("{}: no such file", at("nothing.pcap")),
        ];
        assert_eq!(problems.len(), starts.len(), "{problems:?}");
        for (problem, start) in problems.iter().zip(&starts) {
            assert!(problem.starts_with(start), "{problem}");
        }
        let backwards: Vec<String> = arguments.iter().rev().cloned().collect();
        assert_eq!(discover(&backwards).inputs, inputs, "the order of arguments carries no meaning");
        fs::remove_dir_all(&root).expect("temporary directory");
    }
}
