//! Confines the program between planning and doing: what was planned says what is still needed.

use super::Refusal;
use super::args::PolicyArgs;
use super::plan::Plan;
use super::voice::say;
use crate::capture::{InputSource, discover};
use crate::confine::{Level, Live, Needs, State, User, confine};
use crate::pipeline::live::Opened;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// What lasts as long as the work.
pub(super) struct Confined {
    /// Where pieces of conversations wait that memory has no room for: of this run alone, so that nobody else's temporary
    /// files have to be opened to it. Removed with this value.
    _scratch: Option<TempDir>,
}

/// Gives up what the plan does not need, and says how that went where it is not all as it should be.
pub(super) fn enter(plan: &Plan, no_sandbox: bool, verbose: bool) -> Confined {
    let Some(mut needs) = needs(plan) else { return Confined { _scratch: None } };
    if no_sandbox {
        told(&State::unconfined("--no-sandbox was given"), verbose);
        return Confined { _scratch: None };
    }
    // Without one, a conversation that has to wait says that it cannot.
    let scratch = may_spill(plan).then(|| TempDir::with_prefix("portproof-").ok()).flatten();
    needs.scratch = scratch.as_ref().map(|directory| directory.path().to_owned());
    if let Some(directory) = &needs.scratch {
        // Refused only to who asks twice.
        let _ = tempfile::env::override_temp_dir(directory);
    }
    told(&confine(&needs), verbose);
    Confined { _scratch: scratch }
}

/// The same for a live run whose devices and sockets are open, and which watches for weeks: rules and site can be read again
/// from where they stood, the directory of the run is its own.
///
/// # Errors
/// What the user is to write cannot be handed over.
pub(super) fn enter_live(
    opened: &Opened,
    policy: &PolicyArgs,
    user: Option<User>,
    no_sandbox: bool,
    verbose: bool,
) -> Result<Confined, Refusal> {
    if no_sandbox {
        told(&State::unconfined("--no-sandbox was given"), verbose);
        return Ok(Confined { _scratch: None });
    }
    let options = opened.options();
    let files = policy.rules.rules.iter().cloned().chain([policy.site.clone()]);
    // FILE@DATE.
    let tags = policy.rules.service_tags.iter().map(|tags| {
        let path = Path::new(tags);
        let named = tags.rsplit_once('@').map(|(file, _)| PathBuf::from(file));
        named.filter(|_| !path.exists()).unwrap_or_else(|| path.to_owned())
    });
    let scratch = TempDir::with_prefix("portproof-").ok();
    if let Some(user) = &user {
        let paths = options.out.iter().map(PathBuf::as_path).chain(scratch.as_ref().map(TempDir::path));
        for path in paths {
            hand_over(user, path).map_err(|error| {
                Refusal::new(format!(
                    "--user: {} cannot be handed over to {}: {error}",
                    path.display(),
                    user.name
                ))
            })?;
        }
    }
    // Sockets that are opened again have other numbers, and files may get those that were given back.
    let packet_sockets = if options.tap.wait { Vec::new() } else { opened.packet_sockets() };
    let needs = Needs {
        // An editor puts another file in the place of the one that was read: so it is the directory that stays readable.
        read: files.chain(tags).map(|file| place_of(&file)).collect(),
        own: options.out.iter().cloned().collect(),
        scratch: scratch.as_ref().map(|directory| directory.path().to_owned()),
        live: Some(Live { packet_sockets, reopen: options.tap.wait, syslog: opened.syslog() }),
        user,
        ..Needs::default()
    };
    if let Some(directory) = &needs.scratch {
        // Refused only to who asks twice.
        let _ = tempfile::env::override_temp_dir(directory);
    }
    told(&confine(&needs), verbose);
    Ok(Confined { _scratch: scratch })
}

/// A directory, and what earlier runs left in it.
fn hand_over(user: &User, path: &Path) -> io::Result<()> {
    user.hand_over(path)?;
    for entry in fs::read_dir(path)? {
        let (path, kind) = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)))?;
        match kind {
            kind if kind.is_dir() => hand_over(user, &path)?,
            kind if kind.is_file() => user.hand_over(&path)?,
            // Links lead elsewhere.
            _ => {}
        }
    }
    Ok(())
}

fn told(state: &State, verbose: bool) {
    if verbose || state.level != Level::Full {
        say(&state.to_string());
    }
}

/// What a plan needs; nothing where it reads nothing any more but what the program brought.
fn needs(plan: &Plan) -> Option<Needs> {
    let mut needs = Needs::default();
    match plan {
        Plan::Audit { captures, output, .. } => {
            reads_captures(&mut needs, captures);
            output.out.iter().for_each(|out| writes_into(&mut needs, Path::new(out)));
        }
        Plan::Extract { captures, files, .. } => {
            reads_captures(&mut needs, captures);
            let files = [&files.flows, &files.names, &files.summary].into_iter().flatten();
            needs.write.extend(files.filter(|file| *file != "-").map(|file| place_of(Path::new(file))));
        }
        Plan::SiteSuggest { captures, .. } => reads_captures(&mut needs, captures),
        Plan::Judge { rows, output, .. } => {
            let files = rows.flows.iter().chain(&rows.names).chain(&rows.summary);
            needs.read.extend(files.map(PathBuf::from));
            output.out.iter().for_each(|out| writes_into(&mut needs, Path::new(out)));
        }
        Plan::Report { rows, .. } => needs.read.extend(rows.iter().map(PathBuf::from)),
        // Both audits are read.
        Plan::Diff { .. } => {}
        Plan::Pack { from, audit, bundle } => {
            needs.read.push(from.clone());
            needs.read.extend(audit.inputs.iter().map(|input| PathBuf::from(&*input.path)));
            needs.own.push(place_of(bundle));
        }
        Plan::Verify { bundle, captures } => {
            needs.read.push(bundle.clone());
            reads_captures(&mut needs, captures);
        }
        Plan::Slice { audit, out, .. } => {
            needs.read.extend(audit.inputs.iter().map(|input| PathBuf::from(&*input.path)));
            if out.as_os_str() != "-" {
                needs.write.push(place_of(out));
            }
        }
        Plan::RulesImport { out, .. } => needs.write.extend(out.iter().map(|out| place_of(out))),
        // Live runs are confined once their devices are open.
        Plan::Live(_) | Plan::Interfaces => return None,
        Plan::RulesList(_)
        | Plan::RulesShow { .. }
        | Plan::RulesDiff { .. }
        | Plan::RulesExport(_)
        | Plan::RulesLint(_)
        | Plan::SiteCheck(_)
        | Plan::CaptureFilter { .. }
        | Plan::Explain(_) => return None,
    }
    Some(needs)
}

fn may_spill(plan: &Plan) -> bool {
    matches!(plan, Plan::Audit { .. } | Plan::Extract { .. } | Plan::SiteSuggest { .. } | Plan::Judge { .. })
}

/// The captures are looked for twice, here and where they are read: a directory stays readable as a whole, since a capture
/// may have come into it in between.
fn reads_captures(needs: &mut Needs, captures: &[String]) {
    let found = discover(captures);
    let files = found.inputs.into_iter().filter_map(|input| match input.source {
        InputSource::File(path) => Some(path),
        InputSource::Stdin => None,
    });
    needs.read.extend(files.chain(found.searched));
    needs.list.extend(found.listed);
}

/// A directory of files, some of which may be links that lead elsewhere: what they point to is replaced.
fn writes_into(needs: &mut Needs, directory: &Path) {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let links = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_symlink()));
    needs.write.extend(links.map(|link| place_of(&link.path())));
    needs.write.push(directory.to_owned());
}

/// What has to be writable for a file to be written: its directory, since a temporary file there takes its name when it is
/// whole; of what is no regular file, itself.
fn place_of(file: &Path) -> PathBuf {
    let target = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    if fs::metadata(&target).is_ok_and(|meta| !meta.is_file()) {
        return target;
    }
    match target.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_needs_its_directory_and_a_device_itself() {
        for (file, place) in [
            ("rows.jsonl", "."),
            ("no/such/rows.jsonl", "no/such"),
            ("/dev/null", "/dev/null"),
            (concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"), env!("CARGO_MANIFEST_DIR")),
        ] {
            assert_eq!(place_of(Path::new(file)), Path::new(place), "{file}");
        }
    }
}
