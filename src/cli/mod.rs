//! What was typed (`args`), opened, parsed and checked (`plan`), then done (`run`), to an exit code.
//!
//! Results go to standard output, messages to standard error. Exit codes are API: 0 nothing to report and everything read;
//! 1 findings; 2 could not do what was asked; 3 done, but the evidence is incomplete.

mod args;
mod evidence;
mod live;
mod notify;
mod plan;
mod progress;
mod rules;
mod run;
mod sandbox;
mod stop;
mod thrift;
mod voice;

use args::Command;
use plan::plan;
use progress::Progress;
use std::ffi::OsString;

/// Could not do what was asked.
const REFUSED: u8 = 2;

/// Runs the program. Gives its exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let args = match args::typed(&arguments) {
        Ok(args) => args,
        Err(told) => {
            // Help and version are no errors; a reader that went away has seen enough of them.
            let code = u8::try_from(told.exit_code()).unwrap_or(REFUSED);
            return match told.print() {
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => REFUSED,
                _ => code,
            };
        }
    };
    if matches!(args.command, Command::Live(_)) {
        thrift::begin_anew(&arguments);
    }
    let progress = Progress::new(args.progress);
    let (verbose, no_sandbox) = (args.verbose, args.no_sandbox);
    let result = plan(args).and_then(|plan| {
        // No thread runs yet, and nothing was read that strangers wrote.
        let _confined = sandbox::enter(&plan, no_sandbox, verbose);
        run::run(plan, &progress)
    });
    result.unwrap_or_else(|refusal| {
        refusal.lines.iter().for_each(|line| voice::say(line));
        refusal.exit_code
    })
}

/// Why something was not done.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    /// What to say, one message each.
    lines: Vec<String>,
    exit_code: u8,
}

impl Refusal {
    fn new(line: impl Into<String>) -> Self {
        Refusal { lines: vec![line.into()], exit_code: REFUSED }
    }

    fn of(lines: Vec<String>) -> Self {
        Refusal { lines, exit_code: REFUSED }
    }
}

impl From<crate::store::StoreError> for Refusal {
    fn from(error: crate::store::StoreError) -> Self {
        if error.broken_pipe {
            // Whoever read standard output has seen enough.
            return Refusal { lines: Vec::new(), exit_code: 0 };
        }
        Refusal::new(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit_code(arguments: &[&str]) -> u8 {
        // Confinement is for good, and other tests run in this process.
        let all = ["portproof", "--no-sandbox"].into_iter().chain(arguments.iter().copied());
        main(all.map(OsString::from))
    }

    #[test]
    #[rustfmt::skip]
    fn what_cannot_be_done_is_exit_code_2() {
        for arguments in [
            &[][..],
            &["frobnicate"],
            &["audit", "x.pcap"],                                              // no site
            &["audit", "--site", "no/such/site.toml", "x.pcap"],
            &["audit", "--site", "s.toml"],                                    // no capture
            &["audit", "x.pcap", "--site", "s.toml", "--format", "yaml"],
            &["audit", "x.pcap", "--site", "s.toml", "--fail-on", "low"],
            &["audit", "x.pcap", "--site", "s.toml", "--jobs", "0"],
            &["extract", "no/such/capture.pcap"],
            &["extract", "x.pcap", "--flows", "rows.xlsx"],
            &["extract", "x.pcap", "--flows", "-", "--names", "-"],
            &["judge", "--site", "s.toml"],
            &["explain", "no-such-code"],
            &["report", "no/such/directory"],
            &["rules", "show", "no-such-rule"],
            &["rules", "lint", "no/such/pack.toml"],
            &["rules", "import", "no/such/page.html"],
            &["rules", "import", "captures/lab.pcap"],
            &["site", "check", "no/such/site.toml"],
            &["rules", "export", "--site", "captures/site.toml"],              // no firewall
            &["rules", "export", "--for", "pf", "--site", "captures/site.toml"],
            &["rules", "export", "--for", "nsg", "--site", "no/such/site.toml"],
            &["rules", "export", "--for", "nsg", "--site", "captures/site.toml", "--role", "azure-vm"],
            &["capture-filter"],
            &["capture-filter", "--site", "no/such/site.toml"],
            &["extract", "captures/lab.pcap", "--filter", "tcp prot 443"],
            &["extract", "captures/lab.pcap", "--since", "yesterday"],
        ] { assert_eq!(exit_code(arguments), 2, "{arguments:?}"); }
    }

    #[test]
    fn help_and_version_are_no_errors() {
        for arguments in [&["--help"][..], &["-V"], &["audit", "--help"], &["help", "extract"]] {
            assert_eq!(exit_code(arguments), 0, "{arguments:?}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        args::Args::command().debug_assert();
    }
}
