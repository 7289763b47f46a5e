//! Does what was planned. Gives the exit code.

use super::plan::{self, ExtractFiles, Output, PartialRows, Plan, Policy, output_files};
use super::progress::Progress;
use super::stop;
use super::voice::{coloured, results, say};
use super::{REFUSED, Refusal, evidence, rules};
use crate::audit::{Audit, CaptureSummary, Code, End, Untold};
use crate::matrix::{Matrix, lint};
use crate::pipeline::{Extract, ExtractOptions, Extracted, Judging, Reduction, Watch, extract_all};
use crate::report::{self, Human, HumanDiff};
use crate::store::{self, Effort, Format, StoreError};
use crate::verdict::{Survey, VerdictRow};
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::{Arc, MutexGuard};

use super::args::{DiffFormat, ReportFormat};

/// The evidence is incomplete.
pub(super) const INCOMPLETE: u8 = 3;

pub(super) fn run(plan: Plan, progress: &Progress) -> Result<u8, Refusal> {
    match plan {
        Plan::Audit { captures, options, policy, output } => {
            let extracted = read(&captures, options, progress)?;
            plan::spare(extracted.paths(), output.files())?;
            let code = audit(extracted, &policy, &output, progress)?;
            progress.done();
            // The program ends here, and what was read of rules takes as long to take apart as to make.
            std::mem::forget(policy);
            Ok(code)
        }
        Plan::Extract { captures, options, files } => {
            let extracted = read(&captures, options, progress)?;
            let code = extract(extracted, &files, progress)?;
            progress.done();
            Ok(code)
        }
        Plan::Live(plan) => super::live::run(*plan, progress),
        Plan::Interfaces => super::live::interfaces().map(|()| 0),
        Plan::Judge { rows, policy, output } => {
            let extracted = partial(rows)?;
            told_unreadable(&extracted)?;
            let code = audit(extracted, &policy, &output, progress)?;
            progress.done();
            std::mem::forget(policy);
            Ok(code)
        }
        Plan::Report { audit, rows, output } => {
            match rows {
                Some(rows) => stored_rows(&audit, &rows, &output)?,
                None => render(&audit, &output)?,
            }
            Ok(audit.exit_code(output.fail_on))
        }
        Plan::Diff { difference, format, fail_on, color } => {
            let (colour, code) = (coloured(color), difference.exit_code(fail_on));
            results(|out| match format {
                DiffFormat::Human => write!(out, "{}", HumanDiff { difference: &difference, colour }),
                DiffFormat::Json => report::diff_json(out, &difference, code),
                DiffFormat::Markdown => out.write_all(report::diff_markdown(&difference).as_bytes()),
            })?;
            Ok(code)
        }
        Plan::Pack { from, audit, bundle } => evidence::pack(&from, &audit, &bundle),
        Plan::Verify { bundle, captures } => evidence::verify(&bundle, &captures),
        Plan::Slice { audit, code, out } => evidence::slice(&audit, code, &out),
        Plan::RulesList(matrix) => results(|out| rules::list(out, &matrix)).map(|()| 0),
        Plan::RulesShow { matrix, ids } => results(|out| rules::show(out, &matrix, &ids)).map(|()| 0),
        Plan::RulesDiff { old, new } => {
            let mut changed = false;
            results(|out| {
                changed = rules::diff(out, &old, &new)?;
                Ok(())
            })?;
            Ok(u8::from(changed))
        }
        Plan::RulesExport(rules) => {
            results(|out| out.write_all(rules.text.as_bytes()))?;
            rules.remarks.iter().chain(&rules.gaps()).for_each(|line| say(line));
            Ok(if rules.unexpressed.is_empty() { 0 } else { INCOMPLETE })
        }
        Plan::RulesImport { page, text, out } => rules::import(&page, &text, out.as_deref()),
        Plan::RulesLint(files) => {
            let problems = lint(&files);
            results(|out| problems.iter().try_for_each(|problem| writeln!(out, "{problem:#}")))?;
            if problems.is_empty() {
                results(|out| writeln!(out, "No mistakes in {} rules file(s).", files.len()))?;
            }
            Ok(if problems.iter().any(|problem| problem.is_error()) { REFUSED } else { 0 })
        }
        Plan::SiteSuggest { captures, options, matrix } => {
            let extracted = read(&captures, options, progress)?;
            let code = suggest(extracted, &matrix, progress)?;
            progress.done();
            Ok(code)
        }
        Plan::SiteCheck(checked) => {
            let (matrix, site) = &*checked;
            let problems = site.as_ref().map_or_else(Vec::as_slice, |site| site.warnings());
            results(|out| problems.iter().try_for_each(|problem| writeln!(out, "{problem:#}")))?;
            let Ok(site) = site else { return Ok(REFUSED) };
            results(|out| rules::site(out, matrix, site)).map(|()| 0)
        }
        Plan::CaptureFilter { filter, site } => {
            results(|out| writeln!(out, "{filter}"))?;
            if io::stderr().is_terminal() {
                let site = site.display();
                say(&format!(
                    "use it as: tcpdump -i INTERFACE -s 0 -w FILE.pcap \"$(portproof capture-filter --site {site})\"\n\
                     (for `-i any` and interfaces without Ethernet: --untagged)"
                ));
            }
            Ok(0)
        }
        Plan::Explain(Some(code)) => {
            results(|out| out.write_all(report::explain(code).as_bytes())).map(|()| 0)
        }
        Plan::Explain(None) => results(|out| {
            Code::ALL.iter().try_for_each(|code| {
                writeln!(out, "{:<20} {:<7} {}", code.as_str(), code.severity().as_str(), code.sentence())
            })
        })
        .map(|()| 0),
    }
}

/// Reads captures, until a signal comes.
fn read(captures: &[String], options: ExtractOptions, progress: &Progress) -> Result<Extracted, Refusal> {
    let options = ExtractOptions { watch: Arc::clone(progress.watch()), ..options };
    stop::on_signals(progress.watch().stop());
    let extracted = progress.during(|| extract_all(captures, &options));
    progress.say_if_stopped();
    told_unreadable(&extracted)?;
    Ok(extracted)
}

/// Reads what `extract --partial` wrote.
pub(super) fn partial(rows: PartialRows) -> Result<Extracted, Refusal> {
    let PartialRows { flows, names, summary, budget, jobs } = rows;
    let rows = store::read_partial(&flows, &names, &summary, &budget)?;
    let captures: Vec<Extract> = rows
        .captures
        .into_iter()
        .map(|capture| Extract {
            summary: capture.summary,
            pieces: capture.pieces,
            dns: capture.dns,
            further: Vec::new(),
        })
        .collect();
    if captures.is_empty() && rows.unreadable.is_empty() {
        return Err(Refusal::new("the summaries name no capture: there is nothing to judge"));
    }
    Ok(Extracted { captures, unreadable: rows.unreadable, jobs })
}

/// Says which captures could not be read; without any that could, nothing was done.
fn told_unreadable(extracted: &Extracted) -> Result<(), Refusal> {
    let tell = |path: &str, problem: &str| {
        // Most problems name their file already.
        if problem.contains(path) { problem.to_owned() } else { format!("{path}: {problem}") }
    };
    let (not_begun, unreadable): (Vec<_>, Vec<_>) =
        extracted.unreadable.iter().partition(|u| u.problem == Watch::NOT_BEGUN);
    let mut lines: Vec<String> = unreadable.iter().map(|u| tell(&u.path, &u.problem)).collect();
    if let Some(first) = not_begun.first() {
        let more = not_begun.len() - 1;
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        lines.push(format!("{}{more}: not read: {}", first.path, first.problem));
    }
    if extracted.captures.is_empty() {
        let none = "no capture could be read".to_owned();
        return Err(Refusal::of(lines.into_iter().chain([none]).collect()));
    }
    lines.iter().for_each(|line| say(line));
    let mut problems = extracted.captures.iter().flat_map(|capture| {
        let further = capture.further.iter().map(|further| &further.pieces);
        std::iter::once(&capture.pieces).chain(further).filter_map(|pieces| pieces.spill_problem())
    });
    let problem = problems.next();
    if let Some(problem) = problem {
        say(&format!("no temporary file can be written ({problem}): what should wait there stays in memory"));
    }
    Ok(())
}

/// Holds what was extracted against the rules, writes what was asked for, and gives the exit code.
pub(super) fn audit(
    extracted: Extracted,
    policy: &Policy,
    output: &Output,
    progress: &Progress,
) -> Result<u8, Refusal> {
    judged(extracted, policy, output, progress, None)
}

/// Whether a report may still be printed, and what is held until that is done; none if nobody waits for it any more.
pub(super) type MayPrint<'g> = &'g dyn Fn() -> Option<MutexGuard<'g, bool>>;

/// The same, but files that cannot be written are told, and the report is made all the same: what was seen live cannot be
/// seen again.
pub(super) fn audit_at_any_rate(
    extracted: Extracted,
    policy: &Policy,
    output: &Output,
    progress: &Progress,
    may_print: MayPrint<'_>,
) -> Result<u8, Refusal> {
    judged(extracted, policy, output, progress, Some(may_print))
}

fn judged(
    extracted: Extracted,
    policy: &Policy,
    output: &Output,
    progress: &Progress,
    may_print: Option<MayPrint<'_>>,
) -> Result<u8, Refusal> {
    let at_any_rate = may_print.is_some();
    let judging = progress.during(|| Judging::new(extracted, &policy.matrix, &policy.site));
    let mut judging = judging.map_err(put_aside)?.watched(Arc::clone(progress.watch()));
    let (mut unwritten, mut filed) = (false, None);
    let mut output = output.clone();
    if at_any_rate && let Some(out) = output.out.take() {
        // By itself, so that what cannot be written keeps nothing from standard output.
        match progress.during(|| files(&judging, &out, Effort::Sparing, &mut |_| Ok(()))) {
            Ok(audit) => filed = Some(audit),
            Err(refusal) => {
                refusal.lines.iter().for_each(|line| say(line));
                unwritten = true;
            }
        }
    }
    let output = &output;
    let mut untold = Untold::default();
    let audit = match (output.format, &output.out) {
        // Where rows stand on a terminal, they are progress enough.
        (ReportFormat::Jsonl | ReportFormat::Csv, _) if io::stdout().is_terminal() => rows(&judging, output)?,
        (ReportFormat::Jsonl | ReportFormat::Csv, _) => progress.during(|| rows(&judging, output))?,
        (_, Some(out)) => progress.during(|| files(&judging, out, Effort::Fast, &mut |_| Ok(())))?,
        (_, None) => match filed {
            Some(audit) => audit,
            None => progress
                .during(|| match output.format {
                    // Of a hundred thousand findings it shows the first ones.
                    ReportFormat::Human => {
                        judging.summary_alone(report::TOLD_PER_CODE).map(|(audit, more)| {
                            untold = more;
                            audit
                        })
                    }
                    _ => judging.audit_alone(),
                })
                .map_err(|error| Refusal::new(error.to_string()))?,
        },
    };
    if !matches!(output.format, ReportFormat::Jsonl | ReportFormat::Csv) {
        let printing = may_print.map(|may| may());
        if !matches!(printing, Some(None)) {
            render_summary(&audit, &untold, output)?;
        }
    }
    let code = if unwritten { INCOMPLETE } else { audit.exit_code(output.fail_on) };
    if !at_any_rate {
        // The program ends here, and what a million flows left takes a while to take apart.
        std::mem::forget((audit, judging));
    }
    Ok(code)
}

/// Writes the files of `--out`; hands each row to `also` before.
pub(super) fn files(
    judging: &Judging<'_>,
    out: &str,
    effort: Effort,
    also: &mut dyn FnMut(&VerdictRow) -> io::Result<()>,
) -> Result<Audit, Refusal> {
    let mut audit: Option<Audit> = None;
    let path = |name: &str| Path::new(out).join(name).to_string_lossy().into_owned();
    let rows = Format::best_extension();
    // What an earlier audit left there: parts of two would be taken for one.
    for path in output_files(out) {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Refusal::new(format!("{path}: cannot be replaced: {error}")));
            }
            _ => {}
        }
    }
    store::stream_verdict_rows(&path(&format!("flows.{rows}")), effort, |sink| {
        let done = judging.audit(Some(&mut |row| {
            also(&row)?;
            sink(row)
        }))?;
        audit = Some(done);
        Ok(())
    })?;
    store::stream_names(&path(&format!("names.{rows}")), effort, |sink| judging.reduction().name_rows(sink))?;
    let audit = audit.ok_or_else(|| Refusal::new(format!("{out}: no rows were asked for")))?;
    store::write_text(&path("report.html"), &report::html(&audit))?;
    // Last, so that an audit.json always stands beside its rows.
    store::write_json(&path("audit.json"), &audit)?;
    Ok(audit)
}

/// Writes rows to standard output while they are judged, and those of `--out`, if there is one. Where the reader of
/// standard output goes away, the files are whole all the same.
fn rows(judging: &Judging<'_>, output: &Output) -> Result<Audit, Refusal> {
    let mut done: Option<Result<Audit, Refusal>> = None;
    results(|out| {
        let mut gone: io::Result<()> = match output.format {
            ReportFormat::Csv => report::csv_head(out),
            _ => report::json_lines_head(out, judging.reduction().inputs()?),
        };
        let mut tell = |row: &VerdictRow| match output.format {
            ReportFormat::Csv => report::csv_row(out, row),
            _ => report::json_lines_row(out, row),
        };
        let audit = match &output.out {
            Some(directory) => {
                let mut also = |row: &VerdictRow| {
                    if gone.is_ok() {
                        gone = tell(row);
                    }
                    Ok(())
                };
                files(judging, directory, Effort::Fast, &mut also)
            }
            None => {
                gone?;
                gone = Ok(());
                Ok(judging.audit(Some(&mut |row| tell(&row)))?)
            }
        };
        let audit = done.insert(audit);
        gone?;
        match (audit, output.format) {
            (Ok(audit), ReportFormat::Jsonl) => report::json_lines_tail(out, audit, output.fail_on),
            _ => Ok(()),
        }
    })?;
    match done {
        Some(audit) => audit,
        // The reader went away before the last row: what is left to tell is the exit code.
        None => judging.audit(None).map_err(|error| Refusal::new(error.to_string())),
    }
}

/// Writes rows of a file to standard output, one by one.
fn stored_rows(audit: &Audit, rows: &str, output: &Output) -> Result<(), Refusal> {
    let mut read: Result<(), StoreError> = Ok(());
    let mut count = 0;
    let captures: BTreeSet<&Arc<str>> = audit.inputs.iter().map(|input| &input.path).collect();
    results(|out| {
        let head = |out: &mut dyn Write| match output.format {
            ReportFormat::Csv => report::csv_head(out),
            _ => report::json_lines_head(out, &audit.inputs),
        };
        let mut written: io::Result<()> = Ok(());
        read = store::each_verdict_row(rows, |row| {
            count += 1;
            if !captures.contains(&row.flow.capture) {
                let capture = row.flow.capture.escape_debug();
                return Err(StoreError::new(
                    rows,
                    format!("has a row of `{capture}`, which the audit beside it does not know"),
                ));
            }
            // Rows that cannot be read at all leave nothing on standard output.
            let headed = if count == 1 { head(out) } else { Ok(()) };
            written = headed.and_then(|()| match output.format {
                ReportFormat::Csv => report::csv_row(out, &row),
                _ => report::json_lines_row(out, &row),
            });
            // Stops the reading; what is told is `written`.
            if written.is_ok() { Ok(()) } else { Err(StoreError::stopped(rows)) }
        });
        if written.is_err() {
            read = Ok(());
        } else if read.is_ok() && count != audit.totals.flows {
            let flows = audit.totals.flows;
            read = Err(StoreError::new(
                rows,
                format!("has {count} rows, and the audit beside it is of {flows} flows"),
            ));
        }
        written?;
        if read.is_ok() && count == 0 {
            head(out)?;
        }
        match (&read, output.format) {
            (Ok(()), ReportFormat::Jsonl) => report::json_lines_tail(out, audit, output.fail_on),
            _ => Ok(()),
        }
    })?;
    Ok(read?)
}

/// Prints the report of an audit without rows.
pub(super) fn render(audit: &Audit, output: &Output) -> Result<(), Refusal> {
    render_summary(audit, &Untold::default(), output)
}

/// The same, for the terminal also where findings are `untold`.
fn render_summary(audit: &Audit, untold: &Untold, output: &Output) -> Result<(), Refusal> {
    let colour = coloured(output.color);
    results(|out| match output.format {
        ReportFormat::Human => write!(out, "{}", Human { audit, untold, colour }),
        ReportFormat::Json => report::json(out, audit),
        ReportFormat::Markdown => out.write_all(report::markdown(audit).as_bytes()),
        ReportFormat::Html => out.write_all(report::html(audit).as_bytes()),
        ReportFormat::Sarif => report::sarif(out, audit),
        ReportFormat::Junit => out.write_all(report::junit(audit).as_bytes()),
        // Formats of rows are written while rows come ([`rows`], [`stored_rows`]).
        ReportFormat::Jsonl | ReportFormat::Csv => Ok(()),
    })
}

fn extract(extracted: Extracted, files: &ExtractFiles, progress: &Progress) -> Result<u8, Refusal> {
    plan::spare(extracted.paths(), files.paths())?;
    let all_read = extracted.unreadable.is_empty();
    let (summaries, without_flow) = progress.during(|| write_rows(extracted, files, progress))?;
    say_ends(&summaries);
    Ok(if all_read && complete(&summaries, without_flow) { 0 } else { INCOMPLETE })
}

/// Drafts a site file from what was extracted.
fn suggest(extracted: Extracted, matrix: &Matrix, progress: &Progress) -> Result<u8, Refusal> {
    let unread = extracted.unreadable.iter();
    let unread: Vec<CaptureSummary> =
        unread.map(|unread| CaptureSummary::of_unreadable(&unread.path, &unread.problem)).collect();
    let survey = progress.during(|| {
        let reduction = Reduction::new(extracted)?.watched(Arc::clone(progress.watch()));
        let mut survey = Survey::new(matrix);
        reduction.name_rows(&mut |row| {
            survey.name(&row);
            Ok(())
        })?;
        reduction.flow_rows(&mut |flow| {
            survey.flow(&flow);
            Ok(())
        })?;
        Ok((survey.draft(), reduction.inputs()?.to_vec(), reduction.without_flow()))
    });
    let (draft, summaries, without_flow) = survey.map_err(put_aside)?;
    let all: Vec<CaptureSummary> = summaries.iter().chain(&unread).cloned().collect();
    results(|out| out.write_all(report::site_draft(&draft, matrix, &all).as_bytes()))?;
    say_ends(&summaries);
    let placed = draft.roles.iter().flat_map(|role| &role.machines).filter(|machine| machine.firm).count();
    if placed == 0 {
        say("no machine does enough of what a role does: give the roles yourself");
    }
    if draft.machines_not_kept > 0 {
        say(&format!(
            "{} flows are of machines beyond those that a draft keeps, and were not looked at: choose a part with --filter",
            draft.machines_not_kept
        ));
    }
    let whole = unread.is_empty() && draft.machines_not_kept == 0;
    Ok(if whole && complete(&summaries, without_flow) { 0 } else { INCOMPLETE })
}

/// Says which captures were not read to their end, and which could not be filtered.
fn say_ends(summaries: &[CaptureSummary]) {
    for summary in summaries {
        for unfit in summary.chosen.iter().flat_map(|chosen| &chosen.unfit) {
            say(&format!("{}: {unfit}", summary.path));
        }
        match &summary.end {
            End::Complete => {}
            End::Damaged { frame, offset, problem } => {
                say(&format!("{}: damaged at frame {frame}, byte {offset}: {problem}", summary.path));
            }
            End::Interrupted { frame, offset } => {
                let path = &summary.path;
                say(&format!("{path}: reading was interrupted at frame {frame}, byte {offset}"));
            }
        }
    }
}

/// Writes what was extracted; hands back the tally of each capture that was read, and how many packets belong to no flow of any
/// of them beside those that these count.
fn write_rows(
    extracted: Extracted,
    files: &ExtractFiles,
    progress: &Progress,
) -> Result<(Vec<CaptureSummary>, u64), Refusal> {
    let unread = extracted.unreadable.iter();
    let unread: Vec<CaptureSummary> =
        unread.map(|unread| CaptureSummary::of_unreadable(&unread.path, &unread.problem)).collect();
    let mut without_flow = 0;
    let summaries: Vec<CaptureSummary> = if files.partial {
        let captures = || extracted.captures.iter().map(|capture| (&capture.summary.path, capture));
        if let Some(path) = &files.flows {
            store::write_partial_flows(
                path,
                Effort::Fast,
                captures().map(|(name, capture)| (name, &capture.pieces)),
            )?;
        }
        if let Some(path) = &files.names {
            store::write_partial_names(
                path,
                Effort::Fast,
                captures().map(|(name, capture)| (name, &capture.dns)),
            )?;
        }
        extracted.captures.into_iter().map(|capture| capture.summary).collect()
    } else {
        let reduction = Reduction::new(extracted).map_err(put_aside)?.watched(Arc::clone(progress.watch()));
        if let Some(path) = &files.flows {
            store::stream_flows(path, |sink| reduction.flow_rows(sink))?;
        }
        if let Some(path) = &files.names {
            store::stream_names(path, Effort::Fast, |sink| reduction.name_rows(sink))?;
        }
        without_flow = reduction.without_flow();
        reduction.inputs().map_err(put_aside)?.to_vec()
    };
    if let Some(path) = &files.summary {
        store::write_summary(path, summaries.iter().chain(&unread))?;
    }
    Ok((summaries, without_flow))
}

/// What was put aside on disk is needed, and cannot be had back.
fn put_aside(error: std::io::Error) -> Refusal {
    Refusal::new(format!("what was put aside in a temporary file cannot be read again: {error}"))
}

/// As an audit of the same captures would say (see [`Audit::incomplete`]); of partial rows only `judge` can tell which packets belong
/// to no flow.
fn complete(summaries: &[CaptureSummary], without_flow: u64) -> bool {
    CaptureSummary::undecodable_ppm(summaries, without_flow) <= Audit::UNDECODABLE_LIMIT_PPM
        && summaries.iter().all(|summary| summary.whole() && summary.drops.unwrap_or_default() == 0)
}
