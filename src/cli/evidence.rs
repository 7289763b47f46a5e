//! `portproof evidence`: bundles made, checked, and frames cut out.

use super::Refusal;
use super::run::INCOMPLETE;
use super::voice::{new_file, results, say};
use crate::audit::{Audit, Code};
use crate::capture::discover;
use crate::pipeline::evidence::{self, Checked};
use crate::report;
use std::fs;
use std::io;
use std::path::Path;

/// Makes a bundle, and tells what it holds.
pub(super) fn pack(from: &Path, audit: &Audit, bundle: &Path) -> Result<u8, Refusal> {
    let manifest = evidence::pack(from, audit, bundle).map_err(|error| Refusal::new(error.to_string()))?;
    let missing = manifest.captures.iter().filter_map(|of| Some((of, of.missing.as_ref()?)));
    let missing: Vec<String> =
        missing.map(|(of, why)| format!("{}: none of its frames is in the bundle: {why}", of.path)).collect();
    missing.iter().for_each(|line| say(&report::printable(line)));
    let frames: usize =
        manifest.captures.iter().filter(|of| of.slice.is_some()).map(|of| of.frames.len()).sum();
    results(|out| {
        writeln!(
            out,
            "{}: {} files; cited frames: {frames}, captures that they are of: {}.\nTo check it: portproof evidence verify {}; or, there, sha256sum -c {}",
            report::printable(&bundle.display().to_string()),
            manifest.files.len() + 2,
            manifest.captures.len() - missing.len(),
            report::shell_word(&bundle.display().to_string()),
            evidence::SUMS
        )
    })?;
    Ok(if missing.is_empty() { 0 } else { INCOMPLETE })
}

/// Checks a bundle, and tells what came of it, what does not hold first.
pub(super) fn verify(bundle: &Path, captures: &[String]) -> Result<u8, Refusal> {
    let found = discover(captures);
    let mut checked = evidence::verify(bundle, &found.inputs).map_err(|error| {
        Refusal::new(format!("{error}: a bundle is wanted, as `evidence pack` writes it"))
    })?;
    checked.extend(found.problems.iter().map(|problem| Checked { what: problem.to_string(), holds: None }));
    let count = |holds| checked.iter().filter(|of| of.holds == holds).count();
    let (wrong, open) = (count(Some(false)), count(None));
    results(|out| {
        let answer = match (wrong, open) {
            (0, 0) => "The bundle holds what it says.".to_owned(),
            (0, open) => format!("Nothing is wrong with what could be checked; {open} could not."),
            (wrong, _) => {
                format!("The bundle does not hold what it says: {wrong} of {} are wrong.", checked.len())
            }
        };
        writeln!(out, "{answer}")?;
        for (holds, word) in [(Some(false), "WRONG"), (None, "open"), (Some(true), "ok")] {
            for of in checked.iter().filter(|of| of.holds == holds) {
                writeln!(out, "{word:<6}{}", report::printable(&of.what))?;
            }
        }
        Ok(())
    })?;
    Ok(match (wrong, open) {
        (0, 0) => 0,
        (0, _) => INCOMPLETE,
        _ => 1,
    })
}

/// Writes cited frames.
pub(super) fn slice(audit: &Audit, code: Option<Code>, to: &Path) -> Result<u8, Refusal> {
    let named = |error: io::Error| Refusal::new(format!("{}: {error}", to.display()));
    let (count, problems) = if to.as_os_str() == "-" {
        let mut told = None;
        results(|out| {
            told = Some(evidence::slice(audit, code, out)?);
            Ok(())
        })?;
        told.unwrap_or_default()
    } else {
        let mut file = io::BufWriter::new(new_file(to).map_err(named)?);
        evidence::slice(audit, code, &mut file).map_err(|error| {
            // Half a slice is none.
            let _ = fs::remove_file(to);
            named(error)
        })?
    };
    problems.iter().for_each(|problem| say(&report::printable(problem)));
    say(&format!("{count} frames written"));
    Ok(if problems.is_empty() { 0 } else { INCOMPLETE })
}
