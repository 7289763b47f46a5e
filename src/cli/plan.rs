//! What was typed, opened, parsed and checked: after this, only the captures can disappoint.

use super::Refusal;
use super::args::{
    Args, AuditArgs, CaptureFilterArgs, ChoiceArgs, Color, Command, DiffArgs, DiffFormat, EvidenceCommand,
    ExportArgs, ExtractArgs, JudgeArgs, LiveArgs, OutputArgs, PolicyArgs, ReportArgs, ReportFormat,
    RulesArgs, RulesCommand, SiteCommand,
};
use super::voice::say;
use crate::audit::{Audit, Code, Difference, FailOn};
use crate::capture::live::{self, TapOptions};
use crate::capture::{Choice, FilterError};
use crate::confine::User;
use crate::decode::DecodeOptions;
use crate::flow::Budget;
use crate::matrix::{
    FirewallRules, MAX_PAGE_BYTES, Matrix, Problem, RoleSet, ServiceTags, Site, Tagging, capture_filter,
    firewall_rules,
};
use crate::pipeline::live::{EventOptions, LiveOptions, Rotation, Shares};
use crate::pipeline::{ExtractOptions, evidence};
use crate::store::{self, Format};
use crate::web::{Token, new_token};
use std::fs;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What to do.
pub(super) enum Plan {
    Audit { captures: Vec<String>, options: ExtractOptions, policy: Box<Policy>, output: Output },
    Live(Box<LivePlan>),
    Interfaces,
    Extract { captures: Vec<String>, options: ExtractOptions, files: ExtractFiles },
    Judge { rows: PartialRows, policy: Box<Policy>, output: Output },
    Report { audit: Box<Audit>, rows: Option<String>, output: Output },
    Diff { difference: Box<Difference>, format: DiffFormat, fail_on: FailOn, color: Color },
    Pack { from: PathBuf, audit: Box<Audit>, bundle: PathBuf },
    Verify { bundle: PathBuf, captures: Vec<String> },
    Slice { audit: Box<Audit>, code: Option<Code>, out: PathBuf },
    RulesList(Matrix),
    RulesShow { matrix: Matrix, ids: Vec<String> },
    RulesDiff { old: Matrix, new: Matrix },
    RulesExport(FirewallRules),
    RulesImport { page: String, text: String, out: Option<PathBuf> },
    RulesLint(Vec<PathBuf>),
    SiteCheck(Box<(Matrix, Result<Site, Vec<Problem>>)>),
    SiteSuggest { captures: Vec<String>, options: ExtractOptions, matrix: Box<Matrix> },
    CaptureFilter { filter: String, site: PathBuf },
    Explain(Option<Code>),
}

/// Rules and site, loaded and sound.
pub(super) use crate::pipeline::live::Policy;

/// What becomes of an audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Output {
    /// Where audit.json and rows go.
    pub(super) out: Option<String>,
    pub(super) format: ReportFormat,
    pub(super) fail_on: FailOn,
    pub(super) color: Color,
}

/// A live run.
pub(super) struct LivePlan {
    pub(super) options: LiveOptions,
    pub(super) policy: Policy,
    /// Where the policy came from, to be read again.
    pub(super) policy_args: PolicyArgs,
    pub(super) output: Output,
    pub(super) duration: Option<Duration>,
    pub(super) no_sandbox: bool,
    pub(super) verbose: bool,
    /// Whom the program becomes.
    pub(super) user: Option<User>,
    pub(super) web: Option<WebPlan>,
}

/// The page of a live run.
pub(super) struct WebPlan {
    pub(super) address: SocketAddr,
    pub(super) token: Option<Token>,
    /// The token in words, if it was made and nobody knows it yet.
    pub(super) made: Option<String>,
}

/// Files of rows that `extract --partial` wrote, and of its tallies.
pub(super) struct PartialRows {
    pub(super) flows: Vec<String>,
    pub(super) names: Vec<String>,
    pub(super) summary: Vec<String>,
    /// For what waits.
    pub(super) budget: Arc<Budget>,
    pub(super) jobs: usize,
}

/// Where extracted rows go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ExtractFiles {
    pub(super) flows: Option<String>,
    pub(super) names: Option<String>,
    pub(super) summary: Option<String>,
    pub(super) partial: bool,
}

/// Opens, parses and checks what was typed.
pub(super) fn plan(args: Args) -> Result<Plan, Refusal> {
    let color = args.color;
    let (no_sandbox, verbose) = (args.no_sandbox, args.verbose);
    match args.command {
        Command::Audit(audit) => plan_audit(audit, color),
        Command::Live(live) => plan_live(live, color, no_sandbox, verbose),
        Command::Interfaces => Ok(Plan::Interfaces),
        Command::Extract(extract) => plan_extract(extract),
        Command::Judge(judge) => plan_judge(judge, color),
        Command::Rules(RulesCommand::List(rules)) => Ok(Plan::RulesList(matrix(&rules)?)),
        Command::Rules(RulesCommand::Show { ids, rules }) => plan_show(ids, &rules),
        Command::Rules(RulesCommand::Diff { old, new }) => {
            let of = |pack| matrix(&RulesArgs { rules: vec![pack], service_tags: Vec::new() });
            Ok(Plan::RulesDiff { old: of(old)?, new: of(new)? })
        }
        Command::Rules(RulesCommand::Export(args)) => plan_export(&args),
        Command::Rules(RulesCommand::Import { page, out }) => plan_import(&page, out),
        Command::Rules(RulesCommand::Lint { files }) => Ok(Plan::RulesLint(files)),
        Command::Site(SiteCommand::Check { site, rules }) => {
            let matrix = matrix(&rules)?;
            let site = Site::load(&site, &matrix);
            Ok(Plan::SiteCheck(Box::new((matrix, site))))
        }
        Command::Site(SiteCommand::Suggest(args)) => {
            let matrix = Box::new(matrix(&args.rules)?);
            let choice = choice(args.choice)?;
            let options = ExtractOptions { jobs: jobs(args.jobs), choice, ..ExtractOptions::default() };
            let options = options.within(quarter_of_the_machine());
            Ok(Plan::SiteSuggest { captures: args.captures, options, matrix })
        }
        Command::CaptureFilter(args) => plan_capture_filter(args),
        Command::Report(report) => plan_report(report, color),
        Command::Diff(diff) => plan_diff(diff, color),
        Command::Evidence(command) => plan_evidence(command),
        Command::Explain { code } => plan_explain(code),
    }
}

fn plan_audit(args: AuditArgs, color: Color) -> Result<Plan, Refusal> {
    let output = output(args.output, color);
    let choice = choice(args.choice)?;
    let policy = Box::new(policy(&args.policy)?);
    // Digests cost a pass over every byte: only where they are written down.
    let written_down = output.out.is_some()
        || matches!(
            output.format,
            ReportFormat::Json | ReportFormat::Jsonl | ReportFormat::Html | ReportFormat::Sarif
        );
    let options =
        ExtractOptions { digest: written_down, jobs: jobs(args.jobs), choice, ..ExtractOptions::default() };
    let part_bytes = Some(ExtractOptions::PART_BYTES);
    let options = ExtractOptions { decode: tunnels(&args.vxlan_port), part_bytes, ..options }
        .within(args.memory_limit.unwrap_or_else(quarter_of_the_machine));
    spare(args.captures.iter().map(String::as_str).chain(of_policy(&args.policy)), output.files())?;
    make_directory(&output)?;
    Ok(Plan::Audit { captures: args.captures, options, policy, output })
}

fn plan_live(args: LiveArgs, color: Color, no_sandbox: bool, verbose: bool) -> Result<Plan, Refusal> {
    let mut output = output(args.output, color);
    let interfaces = args.interface;
    let mut events = EventOptions { lines: args.events, syslog: args.syslog };
    if output.format == ReportFormat::Jsonl && events.lines.is_none() {
        events.lines = Some("-".to_owned());
    }
    if events.lines.as_deref() == Some("-") {
        match output.format {
            // Events and report stand on one output: lines of one kind.
            ReportFormat::Human | ReportFormat::Jsonl => output.format = ReportFormat::Jsonl,
            _ => {
                return Err(Refusal::new(
                    "--events -: stands on standard output with the report, which must be --format jsonl then; or give events \
                     a file",
                ));
            }
        }
    }
    let repeated = interfaces.iter().enumerate().find(|(place, name)| interfaces[..*place].contains(name));
    if let Some((_, name)) = repeated {
        return Err(Refusal::new(format!("-i {name}: named twice; each device is watched once")));
    }
    let alone =
        [live::STDIN, live::ANY].into_iter().find(|alone| interfaces.iter().any(|name| name == alone));
    if let Some(alone) = alone.filter(|_| interfaces.len() > 1) {
        return Err(Refusal::new(format!("-i {alone}: stands alone, without other devices")));
    }
    let filter = args.filter.filter(|expression| !expression.trim().is_empty());
    if filter.is_some() && alone == Some(live::STDIN) {
        return Err(Refusal::new("-f: filters devices; filter a stream where it is made"));
    }
    let filter = filter.map(|expression| expression.parse()).transpose();
    let filter = filter.map_err(|error: FilterError| Refusal::new(format!("--filter: {error}")))?;
    let loaded = policy(&args.policy)?;
    let memory_limit = args.memory_limit.unwrap_or_else(|| quarter_of_the_machine().max(Shares::LEAST));
    if memory_limit < Shares::LEAST {
        let least = Shares::LEAST >> 20;
        return Err(Refusal::new(format!("--memory-limit: a live run takes at least {least}MiB")));
    }
    let extract = ExtractOptions { decode: tunnels(&args.vxlan_port), ..ExtractOptions::default() };
    let extract = Shares::extract(memory_limit, extract);
    let nanos = |time: Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
    let options = LiveOptions {
        interfaces,
        tap: TapOptions {
            ring_mib: args.buffer_mib,
            snaplen_bytes: args.snaplen,
            filter,
            promiscuous: !args.no_promiscuous,
            wait: args.wait,
        },
        extract,
        out: output.out.as_ref().map(PathBuf::from),
        save: args.save,
        rotation: Rotation {
            after_ns: nanos(args.rotate),
            bytes: args.rotate_size as u64,
            rows: Rotation::ROWS,
        },
        window_ns: nanos(args.window),
        shares: Shares::of(memory_limit),
        first_segment: 1,
        follow: events.lines.is_some() || events.syslog.is_some() || args.web.is_some(),
        events,
    };
    let user = args.user.map(|name| User::named(&name)).transpose();
    let user = user.map_err(|error| Refusal::new(format!("--user: {error}")))?;
    if user.is_some() && no_sandbox {
        return Err(Refusal::new("--user and --no-sandbox: becoming another user is part of the sandbox"));
    }
    let web = args.web.map(|address| plan_web(address, args.web_token_file.as_deref())).transpose()?;
    spare(of_policy(&args.policy), output.files())?;
    make_directory(&output)?;
    Ok(Plan::Live(Box::new(LivePlan {
        options,
        policy: loaded,
        policy_args: args.policy,
        output,
        duration: args.duration,
        no_sandbox,
        user,
        verbose,
        web,
    })))
}

fn plan_web(address: SocketAddr, file: Option<&Path>) -> Result<WebPlan, Refusal> {
    if let Some(file) = file {
        let told = |problem: String| {
            let file = file.display();
            let advice = "one line with a secret, such as `openssl rand -hex 32` prints";
            Refusal::new(format!("--web-token-file {file}: {problem}: it should hold {advice}"))
        };
        let text = fs::read_to_string(file).map_err(|error| told(format!("cannot be read: {error}")))?;
        let token = Token::new(text.trim()).map_err(told)?;
        if fs::metadata(file).is_ok_and(|file| file.permissions().mode() & 0o077 != 0) {
            say(&format!(
                "--web-token-file {}: others than its owner can read it (chmod 600)",
                file.display()
            ));
        }
        return Ok(WebPlan { address, token: Some(token), made: None });
    }
    if address.ip().is_loopback() {
        return Ok(WebPlan { address, token: None, made: None });
    }
    let made = new_token().map_err(|error| {
        Refusal::new(format!("--web: no token can be made ({error}): give one by --web-token-file"))
    })?;
    let token = Token::new(&made).map_err(Refusal::new)?;
    Ok(WebPlan { address, token: Some(token), made: Some(made) })
}

fn plan_extract(args: ExtractArgs) -> Result<Plan, Refusal> {
    let mut files =
        ExtractFiles { flows: args.flows, names: args.names, summary: args.summary, partial: args.partial };
    if files.flows.is_none() && files.names.is_none() && files.summary.is_none() {
        files.summary = Some("-".into());
    }
    let mut wrong: Vec<String> = [&files.flows, &files.names]
        .into_iter()
        .flatten()
        .filter_map(|path| Format::of(path).err())
        .map(|error| error.to_string())
        .collect();
    let paths: Vec<&String> = [&files.flows, &files.names, &files.summary].into_iter().flatten().collect();
    let repeated = paths.iter().enumerate().find(|(index, path)| paths[..*index].contains(path));
    if let Some((_, path)) = repeated {
        let path = if *path == "-" { "standard output" } else { path };
        wrong.push(format!("{path}: only one of --flows, --names and --summary can go there"));
    }
    if !wrong.is_empty() {
        return Err(Refusal::of(wrong));
    }
    spare(args.captures.iter().map(String::as_str), files.paths())?;
    let choice = choice(args.choice)?;
    let options = ExtractOptions {
        keep_duplicates: args.keep_duplicates,
        digest: files.summary.is_some(),
        jobs: jobs(args.jobs),
        keep_bytes: files.partial,
        choice,
        decode: tunnels(&args.vxlan_port),
        ..ExtractOptions::default()
    };
    let options = options.within(args.memory_limit.unwrap_or_else(quarter_of_the_machine));
    Ok(Plan::Extract { captures: args.captures, options, files })
}

fn plan_judge(args: JudgeArgs, color: Color) -> Result<Plan, Refusal> {
    let output = output(args.output, color);
    let policy = Box::new(policy(&args.policy)?);
    let rows = [&args.flows, &args.names, &args.summary].into_iter().flatten().map(String::as_str);
    spare(rows.chain(of_policy(&args.policy)), output.files())?;
    make_directory(&output)?;
    let options = ExtractOptions::default().within(args.memory_limit.unwrap_or_else(quarter_of_the_machine));
    let rows = PartialRows {
        flows: args.flows,
        names: args.names,
        summary: args.summary,
        budget: options.budget,
        jobs: jobs(None),
    };
    Ok(Plan::Judge { rows, policy, output })
}

fn plan_show(ids: Vec<String>, rules: &RulesArgs) -> Result<Plan, Refusal> {
    let matrix = matrix(rules)?;
    let unknown: Vec<String> = ids
        .iter()
        .filter(|id| !matrix.knows(id))
        .map(|id| format!("no rule is called `{id}`: `portproof rules list` lists them"))
        .collect();
    if unknown.is_empty() { Ok(Plan::RulesShow { matrix, ids }) } else { Err(Refusal::of(unknown)) }
}

fn plan_export(args: &ExportArgs) -> Result<Plan, Refusal> {
    let Policy { matrix, site } = policy(&args.policy)?;
    let mut roles = RoleSet::default();
    for word in &args.role {
        let audited = site.subjects().words(&matrix).join(", ");
        let role = matrix.role(word).filter(|role| site.subject(*role)).ok_or_else(|| {
            let role = word.escape_debug();
            let why = if matrix.role(word).is_some() {
                format!("{role} is not audited here: what its machines do besides nobody documents, and all of it would be refused")
            } else {
                format!("there is no role `{role}`")
            };
            Refusal::new(format!("--role: {why}; write one of {audited}"))
        })?;
        roles = roles.union(RoleSet::of(role));
    }
    let roles = if args.role.is_empty() { site.subjects() } else { roles };
    let rules = firewall_rules(args.firewall.into(), &matrix, &site, roles).map_err(Refusal::new)?;
    Ok(Plan::RulesExport(rules))
}

/// Reads the page, as far as a page goes. What it says is looked at once rights are given up.
fn plan_import(page: &Path, out: Option<PathBuf>) -> Result<Plan, Refusal> {
    let out = out.filter(|out| out.as_os_str() != "-");
    if let Some(refusal) = out.as_deref().and_then(is_there) {
        return Err(refusal);
    }
    let named =
        if page.as_os_str() == "-" { "standard input".to_owned() } else { page.display().to_string() };
    let told = |problem: String| Refusal::new(format!("{named}: {problem}"));
    let mut bytes = Vec::new();
    // One byte more tells that there is more.
    let read = match page.as_os_str() == "-" {
        true => io::stdin().lock().take(MAX_PAGE_BYTES + 1).read_to_end(&mut bytes),
        false => fs::File::open(page).and_then(|file| file.take(MAX_PAGE_BYTES + 1).read_to_end(&mut bytes)),
    };
    read.map_err(|error| told(format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > MAX_PAGE_BYTES {
        return Err(told(format!("has more than {} MiB: this is no page of ports", MAX_PAGE_BYTES >> 20)));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let sound = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes().iter().take(sound).filter(|&&byte| byte == b'\n').count();
        told(format!("line {line} is not UTF-8 text: save the page as HTML, Markdown or AsciiDoc in UTF-8"))
    })?;
    Ok(Plan::RulesImport { page: named, text, out })
}

fn plan_capture_filter(args: CaptureFilterArgs) -> Result<Plan, Refusal> {
    let file = args.policy.site.clone();
    let policy = policy(&args.policy)?;
    let tagging = if args.untagged { Tagging::None } else { Tagging::Possible };
    match capture_filter(&policy.site, tagging) {
        Some(filter) => Ok(Plan::CaptureFilter { filter, site: file }),
        None => {
            let audited =
                policy.site.subjects().iter().map(|role| policy.matrix.role_def(role).id.to_string());
            Err(Refusal::new(format!(
                "{}: no machine to audit has an address: under [roles], give addresses or prefixes to at least one of {}",
                file.display(),
                audited.collect::<Vec<_>>().join(", ")
            )))
        }
    }
}

/// The audit that a directory of `audit --out` holds, or its file; and that file.
fn read_audit(path: PathBuf) -> Result<(Audit, PathBuf), Refusal> {
    let file = if path.is_dir() { path.join("audit.json") } else { path };
    let audit: Audit = store::read_json(&file.to_string_lossy()).map_err(|error| {
        Refusal::new(format!("{error}: an audit.json is wanted, as `audit --out DIR` writes it"))
    })?;
    if audit.schema != crate::audit::SCHEMA {
        return Err(Refusal::new(format!(
            "{}: schema {}, and this version reads {}",
            file.display(),
            audit.schema,
            crate::audit::SCHEMA
        )));
    }
    Ok((audit, file))
}

fn plan_diff(args: DiffArgs, color: Color) -> Result<Plan, Refusal> {
    let ((old, old_file), (new, new_file)) = (read_audit(args.old)?, read_audit(args.new)?);
    for (audit, file) in [(&old, &old_file), (&new, &new_file)] {
        if audit.inputs.is_empty() && audit.unaudited.is_none() {
            return Err(Refusal::new(format!(
                "{}: no capture could be read for this audit: there is nothing to compare",
                file.display()
            )));
        }
    }
    let (old_path, new_path) = (old_file.to_string_lossy(), new_file.to_string_lossy());
    let difference = Box::new(Difference::of((&old_path, &old), (&new_path, &new)));
    Ok(Plan::Diff { difference, format: args.format, fail_on: args.fail_on.into(), color })
}

/// Refuses a path at which something is: nothing is written over.
fn is_there(path: &Path) -> Option<Refusal> {
    path.symlink_metadata().is_ok().then(|| {
        Refusal::new(format!(
            "{}: is there already, and nothing is written over: name another",
            path.display()
        ))
    })
}

fn plan_evidence(command: EvidenceCommand) -> Result<Plan, Refusal> {
    match command {
        EvidenceCommand::Pack { audit, out } => {
            if !audit.is_dir() {
                return Err(Refusal::new(format!(
                    "{}: a directory is wanted, as `audit --out DIR` writes it",
                    audit.display()
                )));
            }
            // Of `.` and `..`, what they are called.
            let named = || {
                let last = audit.components().next_back();
                let plain = matches!(last, Some(std::path::Component::Normal(_)));
                let whole = if plain { None } else { fs::canonicalize(&audit).ok() };
                let mut name =
                    whole.as_deref().unwrap_or(&audit).components().as_path().as_os_str().to_owned();
                name.push("-evidence");
                PathBuf::from(name)
            };
            let bundle = out.unwrap_or_else(named);
            let (read, _) = read_audit(audit.clone())?;
            match is_there(&bundle) {
                Some(refusal) => Err(refusal),
                None => Ok(Plan::Pack { from: audit, audit: Box::new(read), bundle }),
            }
        }
        EvidenceCommand::Verify { bundle, captures } => {
            Ok(Plan::Verify { bundle: evidence::bundle_of(&bundle), captures })
        }
        EvidenceCommand::Slice { audit, code, out } => {
            let code = code
                .map(|word| word.parse::<Code>().map_err(|error| Refusal::new(format!("--code: {error}"))));
            let (code, (audit, _)) = (code.transpose()?, read_audit(audit)?);
            match is_there(&out).filter(|_| out.as_os_str() != "-") {
                Some(refusal) => Err(refusal),
                None => Ok(Plan::Slice { audit: Box::new(audit), code, out }),
            }
        }
    }
}

fn plan_report(args: ReportArgs, color: Color) -> Result<Plan, Refusal> {
    let format = args.format;
    let (audit, file) = read_audit(args.audit)?;
    let rows = match format {
        ReportFormat::Jsonl | ReportFormat::Csv => Some(rows_beside(&file)?),
        _ => None,
    };
    let output = Output { out: None, format, fail_on: args.fail_on.into(), color };
    Ok(Plan::Report { audit: Box::new(audit), rows, output })
}

/// The rows of flows beside an audit.json.
fn rows_beside(audit: &Path) -> Result<String, Refusal> {
    let directory = audit.parent().unwrap_or(Path::new(""));
    let found =
        ["flows.parquet", "flows.jsonl"].map(|name| directory.join(name)).into_iter().find(|p| p.exists());
    let found = found.ok_or_else(|| {
        Refusal::new(format!(
            "{}: no flows.parquet or flows.jsonl beside it, and this format tells flows: use the directory that \
             `audit --out` wrote",
            audit.display()
        ))
    })?;
    let path = found.to_string_lossy().into_owned();
    Format::of(&path)?;
    Ok(path)
}

fn plan_explain(code: Option<String>) -> Result<Plan, Refusal> {
    let Some(word) = code else { return Ok(Plan::Explain(None)) };
    let code = word.parse::<Code>();
    let known = || Code::ALL.iter().map(|code| code.as_str()).collect::<Vec<_>>().join(", ");
    code.map(|code| Plan::Explain(Some(code))).map_err(|error| {
        if Matrix::builtin().knows(&word) {
            return Refusal::new(format!("`{word}` is a rule: `portproof rules show {word}` tells it"));
        }
        Refusal::new(format!("{error}: write one of {}", known()))
    })
}

/// A filter without words chooses everything, as it does for tcpdump: then nothing was chosen.
fn choice(args: ChoiceArgs) -> Result<Choice, Refusal> {
    let filter = args.filter.filter(|expression| !expression.trim().is_empty());
    let filter = filter.map(|expression| expression.parse()).transpose();
    let filter = filter.map_err(|error: FilterError| Refusal::new(format!("--filter: {error}")))?;
    if let (Some(since), Some(until)) = (args.since, args.until)
        && since >= until
    {
        return Err(Refusal::new(format!(
            "--since {since} is not before --until {until}: no frame lies between"
        )));
    }
    Ok(Choice { filter, since: args.since, until: args.until })
}

fn output(args: OutputArgs, color: Color) -> Output {
    Output { out: args.out, format: args.format, fail_on: args.fail_on.into(), color }
}

/// Refuses to write a file over one that is read: evidence that was written over cannot be had back.
pub(super) fn spare<'i>(
    inputs: impl IntoIterator<Item = &'i str>,
    outputs: Vec<String>,
) -> Result<(), Refusal> {
    let which =
        |path: &str| fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|m| (m.dev(), m.ino()));
    let there: Vec<_> = outputs.iter().filter_map(|path| Some((which(path)?, path))).collect();
    if there.is_empty() {
        return Ok(());
    }
    for input in inputs {
        let Some(read) = which(input) else { continue };
        if let Some((_, output)) = there.iter().find(|(written, _)| *written == read) {
            return Err(Refusal::new(format!(
                "{output}: would be written over, and is read ({input}): write somewhere else"
            )));
        }
    }
    Ok(())
}

/// The files that rules and site are read from.
fn of_policy(policy: &PolicyArgs) -> impl Iterator<Item = &str> {
    let packs = policy.rules.rules.iter().chain([&policy.site]).filter_map(|path| path.to_str());
    let tags = policy.rules.service_tags.iter().map(|given| ServiceTags::path_of(given));
    packs.chain(tags)
}

/// What an audit may write into a directory, in whatever format: its answer first.
pub(super) fn output_files(out: &str) -> Vec<String> {
    let of_rows = |what: &str| Format::EXTENSIONS.map(|extension| format!("{what}.{extension}"));
    let texts = ["audit.json", "report.html"].map(str::to_owned);
    let names = texts.into_iter().chain(of_rows("flows")).chain(of_rows("names"));
    names.map(|name| Path::new(out).join(name).to_string_lossy().into_owned()).collect()
}

impl Output {
    /// What `--out` writes.
    pub(super) fn files(&self) -> Vec<String> {
        self.out.as_deref().map(output_files).unwrap_or_default()
    }
}

impl ExtractFiles {
    /// What is written, standard output aside.
    pub(super) fn paths(&self) -> Vec<String> {
        let paths = [&self.flows, &self.names, &self.summary].into_iter().flatten();
        paths.filter(|path| *path != "-").cloned().collect()
    }
}

fn make_directory(output: &Output) -> Result<(), Refusal> {
    let Some(out) = &output.out else { return Ok(()) };
    if out.is_empty() {
        return Err(Refusal::new("--out is empty: name a directory"));
    }
    if out == "-" {
        return Err(Refusal::new(
            "--out takes a directory; what goes to standard output is said by --format",
        ));
    }
    fs::create_dir_all(out).map_err(|error| Refusal::new(format!("{out}: cannot be made: {error}")))
}

/// The ports of tunnels: those that IANA and Linux give, and what else was told.
fn tunnels(vxlan: &[u16]) -> DecodeOptions {
    let mut options = DecodeOptions::DEFAULT;
    options.vxlan_ports.to_mut().extend(vxlan);
    options
}

/// A quarter of the machine's memory, bytes; where that cannot be told, of 4 GiB.
fn quarter_of_the_machine() -> usize {
    let told = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = told.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<usize>().ok());
    kibibytes.map_or(1 << 30, |kibibytes| kibibytes * 1024 / 4)
}

pub(super) fn jobs(told: Option<NonZeroUsize>) -> usize {
    let processors = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    told.unwrap_or_else(processors).get()
}

fn matrix(args: &RulesArgs) -> Result<Matrix, Refusal> {
    let matrix = Matrix::load(&args.rules, &args.service_tags).map_err(|problems| told(&problems))?;
    matrix.warnings().iter().for_each(|warning| say(&format!("{warning:#}")));
    Ok(matrix)
}

/// Loads rules and site, and says what is odd about them.
pub(super) fn policy(args: &PolicyArgs) -> Result<Policy, Refusal> {
    let matrix = matrix(&args.rules)?;
    let site = Site::load(&args.site, &matrix).map_err(|problems| told(&problems))?;
    site.warnings().iter().for_each(|warning| say(&format!("{warning:#}")));
    Ok(Policy { matrix, site })
}

fn told(problems: &[Problem]) -> Refusal {
    Refusal::of(problems.iter().map(|problem| format!("{problem:#}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn planned(arguments: &[&str]) -> Result<Plan, Refusal> {
        plan(Args::try_parse_from(std::iter::once(&"portproof").chain(arguments)).unwrap())
    }

    fn refused(arguments: &[&str]) -> String {
        planned(arguments).err().map(|refusal| refusal.lines.join("\n")).unwrap_or_default()
    }

    #[test]
    fn a_directory_without_a_name_and_a_port_without_a_number_are_refused() {
        let site = concat!(env!("CARGO_MANIFEST_DIR"), "/captures/site.toml");
        assert!(refused(&["audit", "x.pcap", "--site", site, "--out", ""]).contains("--out is empty"));
        let port = ["portproof", "audit", "x.pcap", "--site", site, "--vxlan-port"];
        assert!(Args::try_parse_from(port.iter().chain(&["0"])).is_err());
        assert!(Args::try_parse_from(port.iter().chain(&["1"])).is_ok());
    }

    #[test]
    fn tunnels_have_the_ports_that_are_told_beside_the_usual_ones() {
        let site = concat!(env!("CARGO_MANIFEST_DIR"), "/captures/site.toml");
        for (more, ports) in [(&[][..], &[4789, 8472][..]), (&["--vxlan-port", "4700"], &[4789, 8472, 4700])]
        {
            let arguments = [&["audit", "x.pcap", "--site", site][..], more].concat();
            match planned(&arguments) {
                Ok(Plan::Audit { options, .. }) => assert_eq!(&*options.decode.vxlan_ports, ports),
                other => panic!("{:?}", other.err().map(|refusal| refusal.lines)),
            }
        }
    }

    #[test]
    fn a_memory_limit_bounds_open_conversations_and_is_written_as_people_do() {
        let site = concat!(env!("CARGO_MANIFEST_DIR"), "/captures/site.toml");
        let capacity = |limit: &str, jobs: &str| {
            let told = ["audit", "x.pcap", "--site", site, "--memory-limit", limit, "--jobs", jobs];
            match planned(&told) {
                Ok(Plan::Audit { options, .. }) => options.table_capacity,
                other => panic!("{:?}", other.err().map(|refusal| refusal.lines)),
            }
        };
        assert_eq!(capacity("4GiB", "1"), ExtractOptions::TABLE_CAPACITY);
        assert_eq!(capacity("128MiB", "1"), capacity("134217728", "1"));
        // Each of two threads may read two parts.
        assert_eq!(capacity("128m", "1") / 4, capacity("128MiB", "2"));
        for wrong in ["1MiB", "much", "5parsec", "99999999999GiB", ""] {
            let told = ["portproof", "audit", "x.pcap", "--site", site, "--memory-limit", wrong];
            assert!(Args::try_parse_from(told).is_err(), "{wrong}");
        }
    }

    #[test]
    fn digests_are_computed_only_where_they_are_written_down() {
        let digest = |arguments: &[&str]| match planned(arguments) {
            Ok(Plan::Extract { options, .. }) => options.digest,
            _ => panic!("no extract"),
        };
        assert!(!digest(&["extract", "x.pcap", "--flows", "f.jsonl"]));
        assert!(digest(&["extract", "x.pcap", "--flows", "f.jsonl", "--summary", "s.jsonl"]));
        assert!(digest(&["extract", "x.pcap"]), "the summary goes to standard output");
    }

    const SITE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/captures/site.toml");
    const PACK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/rules/veeam/vbazure-ports.toml");
    const CAPTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/captures/lab.pcap");

    #[test]
    fn a_refusal_says_what_to_do() {
        for (arguments, part) in [
            (&["extract", "x", "--flows", "-", "--summary", "-"][..], "only one of"),
            (&["extract", "x", "--flows", "rows.csv"], ".jsonl, .parquet or .arrow"),
            (&["explain", "nonsense"], "write one of unexpected-traffic"),
            (&["explain", "vbaz-17"], "portproof rules show vbaz-17"),
            (&["explain", "plat-imds"], "portproof rules show plat-imds"),
            (&["rules", "show", "nonsense"], "rules list"),
            (&["report", "no/such.json"], "no/such.json: cannot be opened"),
            (&["audit", "x", "--site", "no/such.toml"], "no/such.toml"),
            (&["audit", "x", "--site", SITE, "--out", "-"], "--format"),
            (&["audit", "x", "--site", PACK], "this is a rules pack"),
            (&["audit", "x", "--site", SITE, "--rules", SITE], "this is a site file"),
            (&["audit", "x", "--site", CAPTURE], "this is a capture"),
            (&["report", SITE], "an audit.json is wanted"),
        ] {
            let text = refused(arguments);
            // A build without columns refuses `-` for its own reason, which is told beside.
            assert!(text.contains(part), "{arguments:?}: {text}");
        }
    }

    #[test]
    fn formats_of_flow_rows_need_the_rows_beside_the_audit() {
        let directory = std::env::temp_dir().join(format!("portproof-plan-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        assert!(rows_beside(&directory.join("audit.json")).unwrap_err().lines[0].contains("audit --out"));
        fs::write(directory.join("flows.jsonl"), "").unwrap();
        assert!(rows_beside(&directory.join("audit.json")).unwrap().ends_with("flows.jsonl"));
        fs::remove_dir_all(directory).unwrap();
    }
}
