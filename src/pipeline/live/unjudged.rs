//! Windows that a run did not audit before it ended: their rows are in the directory, and a list says which segments they are,
//! so that the next run (or whoever reads it) can. A run that ends in time writes that list (`unjudged.json`); for one that is
//! killed, another says which windows it had begun (`watching.json`).

use super::files::{Problem, sync_directory, temporary};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

/// A window that is not audited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unjudged {
    /// Its segments.
    pub segments: Vec<u64>,
}

/// A window that a run began and has not audited.
#[derive(Serialize, Deserialize)]
struct Begun {
    /// When that run began, by its clock: several may stand in the list, if the disk refused one of them.
    run: i64,
    window: u64,
    /// Its first segment.
    first: u64,
}

/// This run.
fn own() -> i64 {
    static BEGAN: OnceLock<i64> = OnceLock::new();
    *BEGAN.get_or_init(|| crate::capture::live::now().0)
}

/// Several threads change the lists.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn watching(out: &Path) -> PathBuf {
    out.join("watching.json")
}

/// Notes that a window begins.
///
/// # Errors
/// The list cannot be read, or not be written.
pub(super) fn begin(out: &Path, window: u64, first: u64) -> Result<(), Problem> {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut begun: Vec<Begun> = read(&watching(out))?;
    begun.push(Begun { run: own(), window, first });
    write(&watching(out), &begun)
}

/// Makes windows that an earlier run began, and neither audited nor listed, windows that are not audited. `segments` are those
/// of the chain. Tells whether there are any: then that run ended unexpectedly, even if it left no segment of them.
///
/// # Errors
/// A list cannot be read, or not be written.
pub(super) fn take_over(out: &Path, segments: &[u64]) -> Result<bool, Problem> {
    let begun: Vec<Begun> = read(&watching(out))?;
    let ends = begun.iter().skip(1).map(|next| next.first).chain([u64::MAX]);
    let earlier = begun.iter().zip(ends).filter(|(window, _)| window.run != own());
    let left: Vec<_> = earlier.map(|(window, end)| window.first..end).collect();
    let any = !left.is_empty();
    Unjudged::change(out, |list| {
        for range in left {
            let listed = |segment: &u64| list.iter().any(|window| window.segments.contains(segment));
            let segments = segments.iter().filter(|segment| range.contains(segment) && !listed(segment));
            let segments = segments.copied().collect();
            list.push(Unjudged { segments });
        }
    })?;
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    // Those of this run may have become fewer meanwhile.
    let mut begun: Vec<Begun> = read(&watching(out))?;
    begun.retain(|window| window.run == own());
    write(&watching(out), &begun)?;
    Ok(any)
}

fn read<T: for<'d> Deserialize<'d>>(path: &Path) -> Result<Vec<T>, Problem> {
    match fs::read(path) {
        Ok(list) => serde_json::from_slice(&list)
            .map_err(|error| Problem { path: path.display().to_string(), problem: error.to_string() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Problem::new(path, "cannot be read", &error)),
    }
}

/// An empty list is no file.
fn write<T: Serialize>(path: &Path, list: &[T]) -> Result<(), Problem> {
    let told = |error: io::Error| Problem::new(path, "cannot be written", &error);
    if list.is_empty() {
        super::files::remove(path);
        return Ok(());
    }
    let part = temporary(path);
    let text = serde_json::to_vec(list).unwrap_or_default();
    let mut file = File::create(&part).map_err(told)?;
    file.write_all(&text).and_then(|()| file.sync_all()).map_err(told)?;
    fs::rename(&part, path).and_then(|()| sync_directory(path)).map_err(told)
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
        read(&Self::path(out))
    }

    /// Changes the list of a directory; an empty one is no file.
    ///
    /// # Errors
    /// It cannot be read, or not be written.
    pub fn change(out: &Path, change: impl FnOnce(&mut Vec<Unjudged>)) -> Result<(), Problem> {
        let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let mut windows = Self::of(out)?;
        change(&mut windows);
        windows.retain(|window| !window.segments.is_empty());
        write(&Self::path(out), &windows)
    }

    /// Notes that a window of the run at hand is audited, or listed here: if this run is killed, the next need not.
    ///
    /// # Errors
    /// The list cannot be read, or not be written: then the next run audits it again.
    pub fn over(out: &Path, window: u64) -> Result<(), Problem> {
        let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let mut begun: Vec<Begun> = read(&watching(out))?;
        begun.retain(|other| (other.run, other.window) != (own(), window));
        write(&watching(out), &begun)
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
