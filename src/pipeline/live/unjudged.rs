//! Windows that a run had no time to audit before it had to end: their rows are in the directory, and a list says which
//! segments they are, so that the next run (or whoever reads it) can.

use super::files::{Problem, sync_directory, temporary};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// A window that is not audited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unjudged {
    /// Its segments.
    pub segments: Vec<u64>,
}

impl Unjudged {
    fn path(out: &Path) -> PathBuf {
        out.join("unjudged.json")
    }

    /// Those of a directory; none where there is no list.
    ///
    /// # Errors
    /// The list cannot be read.
    pub fn of(out: &Path) -> Result<Vec<Unjudged>, Problem> {
        let path = Self::path(out);
        match fs::read(&path) {
            Ok(list) => serde_json::from_slice(&list)
                .map_err(|error| Problem { path: path.display().to_string(), problem: error.to_string() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(Problem::new(&path, "cannot be read", &error)),
        }
    }

    /// Changes the list of a directory; an empty one is no file.
    ///
    /// # Errors
    /// It cannot be read, or not be written.
    pub fn change(out: &Path, change: impl FnOnce(&mut Vec<Unjudged>)) -> Result<(), Problem> {
        /// Several threads change it.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let mut windows = Self::of(out)?;
        change(&mut windows);
        windows.retain(|window| !window.segments.is_empty());
        Self::list(out, &windows)
    }

    fn list(out: &Path, windows: &[Unjudged]) -> Result<(), Problem> {
        let path = Self::path(out);
        let told = |error: io::Error| Problem::new(&path, "cannot be written", &error);
        if windows.is_empty() {
            super::files::remove(&path);
            return Ok(());
        }
        let part = temporary(&path);
        let text = serde_json::to_vec(windows).unwrap_or_default();
        let mut file = File::create(&part).map_err(told)?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(told)?;
        fs::rename(&part, &path).and_then(|()| sync_directory(&path)).map_err(told)
    }

    /// Those of its segments that are in the directory: what a run that had to end at once had not written, and nobody could take
    /// up, is not.
    #[must_use]
    pub fn present(&self, out: &Path) -> Unjudged {
        let there = |number: &&u64| out.join("segments").join(format!("{number:06}")).is_dir();
        Unjudged { segments: self.segments.iter().filter(there).copied().collect() }
    }

    /// The directory for its audit.
    pub fn directory(&self, out: &Path) -> PathBuf {
        out.join(format!("late-{:06}", self.segments.first().copied().unwrap_or_default()))
    }

    /// The files of one kind (`flows`, `names`, `summary`) of its segments.
    ///
    /// # Errors
    /// A segment has none.
    pub fn files(&self, out: &Path, kind: &str) -> Result<Vec<String>, Problem> {
        let file = |number: &u64| {
            let segment = out.join("segments").join(format!("{number:06}"));
            let told = |error: io::Error| Problem::new(&segment, "cannot be read", &error);
            for entry in fs::read_dir(&segment).map_err(told)? {
                let path = entry.map_err(told)?.path();
                if path.file_stem().is_some_and(|stem| stem == kind) {
                    return Ok(path.to_string_lossy().into_owned());
                }
            }
            Err(Problem { path: segment.display().to_string(), problem: format!("holds no {kind}") })
        };
        self.segments.iter().map(file).collect()
    }
}
