//! Files that are either as they were or complete, and what can go wrong with them.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// A file could not be read or written.
#[derive(Debug, PartialEq, Eq)]
pub struct StoreError {
    /// The file, as it was named.
    pub path: String,
    /// What is wrong, and what to do.
    pub problem: String,
    /// Whether the reader of standard output went away: no fault, and nobody is there to be told.
    pub broken_pipe: bool,
}

impl StoreError {
    /// About a file.
    pub fn new(path: &str, problem: impl Into<String>) -> Self {
        StoreError { path: path.to_owned(), problem: problem.into(), broken_pipe: false }
    }

    /// Whoever takes what is read wants no more of it.
    pub fn stopped(path: &str) -> Self {
        StoreError::new(path, "nobody wants more of it")
    }

    pub(super) fn io(path: &str, what: &str, error: io::Error) -> Self {
        let broken_pipe = error.kind() == io::ErrorKind::BrokenPipe;
        StoreError { path: path.to_owned(), problem: format!("{what}: {error}"), broken_pipe }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path == "-" { "standard output" } else { &self.path };
        write!(f, "{}: {}", path.escape_debug(), self.problem)
    }
}

impl std::error::Error for StoreError {}

/// Lets `fill` write to the file: into a temporary one beside it, which takes its name only when it is complete.
/// `-` and what is no regular file (a pipe, a device) are written directly.
pub(super) fn write_file(
    path: &str,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), StoreError> {
    let filled =
        |result: io::Result<()>| result.map_err(|error| StoreError::io(path, "cannot be written", error));
    if path == "-" {
        let mut out = BufWriter::new(io::stdout().lock());
        return filled(fill(&mut out).and_then(|()| out.flush()));
    }
    // A link stays a link: what it points to is replaced.
    let target = fs::canonicalize(path).unwrap_or_else(|_| PathBuf::from(path));
    if fs::metadata(&target).is_ok_and(|meta| !meta.is_file()) {
        let file = OpenOptions::new().write(true).open(&target);
        let mut out = BufWriter::new(filled_open(path, file)?);
        return filled(fill(&mut out).and_then(|()| out.flush()));
    }
    let temporary = temporary_beside(&target);
    let file = filled_open(path, OpenOptions::new().write(true).create_new(true).open(&temporary))?;
    let mut out = BufWriter::with_capacity(1 << 16, file);
    let result = fill(&mut out)
        .and_then(|()| out.flush())
        .and_then(|()| out.get_ref().sync_all())
        .and_then(|()| fs::rename(&temporary, &target));
    if result.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&temporary);
    }
    filled(result)
}

fn filled_open(path: &str, file: io::Result<File>) -> Result<File, StoreError> {
    file.map_err(|error| StoreError::io(path, "cannot be created", error))
}

/// A name in the same directory (so that renaming is one step) that no other run of the program uses.
fn temporary_beside(target: &Path) -> PathBuf {
    let name = target.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    target.with_file_name(format!(".{name}.{}.tmp", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("portproof-sink-{}-{name}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        directory
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_other() {
        let directory = scratch("failed");
        let path = directory.join("rows.jsonl");
        let path = path.to_str().unwrap();
        write_file(path, |out| out.write_all(b"old")).unwrap();
        let error = write_file(path, |out| {
            out.write_all(b"half of the new")?;
            Err(io::Error::other("no space left"))
        });
        assert_eq!(error.unwrap_err().problem, "cannot be written: no space left");
        assert_eq!(fs::read(path).unwrap(), b"old");
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
        write_file(path, |out| out.write_all(b"new")).unwrap();
        assert_eq!(fs::read(path).unwrap(), b"new");
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn an_error_names_the_file_and_cannot_steer_the_terminal() {
        let error = write_file("no/such\u{1b}[2J/directory.jsonl", |_| Ok(())).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("no/such\\u{1b}[2J/directory.jsonl: cannot be created: "), "{text}");
        assert!(!error.broken_pipe);
        assert!(StoreError::io("-", "", io::ErrorKind::BrokenPipe.into()).broken_pipe);
    }

    #[cfg(unix)]
    #[test]
    fn a_device_is_written_and_never_replaced() {
        write_file("/dev/null", |out| out.write_all(b"rows")).unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }
}
