//! How the program speaks: results to standard output, messages to standard error.

use super::Refusal;
use super::args::Color;
use crate::report::printable;
use anstream::{AutoStream, ColorChoice};
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Says something on standard error. Line feeds part lines; nothing else of the text can steer the terminal.
pub(super) fn say(message: &str) {
    let mut err = io::stderr().lock();
    let lines: Vec<String> = message.lines().map(printable).collect();
    // Nobody is left to tell if this fails.
    let _ = writeln!(err, "portproof: {}", lines.join("\n"));
}

/// Lets `fill` write results to standard output. A reader that went away has seen enough: no fault.
pub(super) fn results(fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Refusal> {
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    match fill(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Refusal::new(format!("standard output: cannot be written: {error}")))
        }
        _ => Ok(()),
    }
}

/// A file that was not there, to be written. Not `File::create_new`, which opens it to be read, too: that is not allowed to a
/// confined program.
pub(super) fn new_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

/// Whether the report on standard output may have colours: a terminal, no NO_COLOR, TERM other than dumb; CLICOLOR_FORCE
/// counts, too.
pub(super) fn coloured(color: Color) -> bool {
    match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => AutoStream::choice(&io::stdout()) != ColorChoice::Never,
    }
}
