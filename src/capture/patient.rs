//! Streams that may have nothing to say for long: they are waited for, but not once reading is to stop.

use super::intake::{Intake, interrupted};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

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
    let file = File::open(path)?;
    if file.metadata().is_ok_and(|file| file.is_file()) {
        return Ok(Box::new(file));
    }
    Ok(Box::new(Patient { file, intake: Arc::clone(intake) }))
}

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
        /// A signal ends waiting on the thread that it comes to only. Longer, and whoever interrupts begins to wonder.
        const WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        match poll(&mut [PollFd::new(&self.file, PollFlags::IN)], Some(&WAIT)) {
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
