//! What files of a live run have in common: names until they are whole, digests, problems.

use serde::Serialize;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Something that cannot be written. The run goes on; its exit code says that not all is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct Problem {
    /// Which file.
    pub path: String,
    /// What is wrong.
    pub problem: String,
}

impl Problem {
    pub(super) fn new(path: &Path, what: &str, error: &io::Error) -> Self {
        Problem { path: path.display().to_string(), problem: format!("{what}: {error}") }
    }
}

/// A file that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Digested {
    pub path: PathBuf,
    pub bytes: u64,
    pub sha256: [u8; 32],
}

/// SHA-256 of bytes as they are written.
#[derive(Clone, Default)]
pub(super) struct Digesting {
    sha256: Sha256,
    bytes: u64,
}

impl Digesting {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    pub(super) fn finish(self, path: &Path) -> Digested {
        Digested { path: path.to_owned(), bytes: self.bytes, sha256: self.sha256.finalize().into() }
    }
}

/// The digest of a file as it stands.
pub(super) fn digest_of(path: &Path) -> io::Result<Digested> {
    let mut file = File::open(path)?;
    let (mut digest, mut buffer) = (Digesting::default(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(digest.finish(path)),
            got => digest.update(buffer.get(..got).unwrap_or_default()),
        }
    }
}

/// The name of a file that is not whole yet: beside it, hidden, and none that a directory of captures would show.
pub(super) fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!(".{name}.part"))
}

/// Sees to it that the name of a file is on the disk, not only its bytes.
pub(super) fn sync_directory(of: &Path) -> io::Result<()> {
    let directory = of.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

/// Removes what is left of an unfinished file or directory.
pub(super) fn remove(path: &Path) {
    // What is not there need not be removed.
    let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
}
