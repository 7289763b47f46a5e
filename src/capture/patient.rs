//! Streams that may have nothing to say for long: they are waited for, but not once reading is to stop.

use super::intake::{Intake, interrupted};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// What the input that is standard input gives.
pub(super) fn stdin(intake: &Arc<Intake>) -> io::Result<Box<dyn Read + Send>> {
    // Its file, without the buffer of the standard library: whether that holds bytes, nobody could tell.
    #[cfg(unix)]
    let stdin = {
        use std::os::fd::AsFd as _;
        let file = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        Patient { file, intake: Arc::clone(intake) }
    };
    #[cfg(not(unix))]
    let stdin = {
        let _ = intake;
        io::stdin()
    };
    Ok(Box::new(stdin))
}

/// What the file at `path` gives.
pub(super) fn file(path: &Path, intake: &Arc<Intake>) -> io::Result<Box<dyn Read + Send>> {
    let file = opened(path, intake)?;
    if file.metadata().is_ok_and(|file| file.is_file()) {
        return Ok(Box::new(file));
    }
    Ok(Box::new(Patient { file, intake: Arc::clone(intake) }))
}

/// Opens a file. To open a pipe with a name is to wait for somebody who writes to it: that is left to a thread of its own, which ends
/// with the program.
fn opened(path: &Path, intake: &Arc<Intake>) -> io::Result<File> {
    let kind = std::fs::metadata(path)?.file_type();
    if kind.is_file() || kind.is_dir() {
        return File::open(path);
    }
    let (tell, told) = channel();
    let own = path.to_owned();
    std::thread::Builder::new().spawn(move || tell.send(File::open(own)))?;
    loop {
        match told.recv_timeout(WAIT) {
            Ok(opened) => return opened,
            Err(RecvTimeoutError::Timeout) if intake.stopped() => return Err(interrupted()),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(io::Error::other("it could not be opened")),
        }
    }
}

/// How long is waited before it is asked whether waiting is still worth it: a signal ends waiting on the thread that it comes to only.
/// Longer, and whoever interrupts begins to wonder.
const WAIT: Duration = Duration::from_millis(100);

/// A pipe, a device, a terminal.
struct Patient {
    file: File,
    intake: Arc<Intake>,
}

impl Read for Patient {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !self.ready() {
            if self.intake.stopped() {
                return Err(interrupted());
            }
        }
        self.file.read(buffer)
    }
}

impl Patient {
    /// Waits until there is something to read, or an end; false where it was not worth waiting for any longer.
    #[cfg(unix)]
    fn ready(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        use rustix::io::Errno;
        let wait = Timespec { tv_sec: 0, tv_nsec: WAIT.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&self.file, PollFlags::IN)], Some(&wait)) {
            Ok(0) | Err(Errno::INTR) => false,
            // What cannot be waited for is read: that tells what is wrong.
            Ok(_) | Err(_) => true,
        }
    }

    #[cfg(not(unix))]
    fn ready(&self) -> bool {
        true
    }
}
