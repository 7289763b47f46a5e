//! What was typed.

use crate::audit::FailOn;
use crate::capture::live::TapOptions;
use crate::matrix::Firewall;
use crate::model::Timestamp;
use clap::{Args as Group, ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

/// Proves, from packets, that a backup appliance talks only to what its vendor documents, and that what is documented is
/// not blocked.
#[derive(Debug, Parser)]
#[command(name = "portproof", version, max_term_width = 100, after_help = EXIT_CODES)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) command: Command,
    /// Colours in the report for people, in help and in mistakes of the command line
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t = Color::Auto)]
    pub(super) color: Color,
    /// How far the work has got, on standard error: on a terminal, as JSON (one object a line), or not
    #[arg(long, global = true, value_name = "MANNER", value_enum, default_value_t = ProgressWord::Auto)]
    pub(super) progress: ProgressWord,
    /// Say more on standard error: how the program is confined
    #[arg(long, short, global = true)]
    pub(super) verbose: bool,
    /// Keep all rights while captures are read; by default the program gives up whatever it does not need first
    #[arg(long, global = true)]
    pub(super) no_sandbox: bool,
}

/// Reads what was typed.
///
/// # Errors
/// Help or the version was asked for, or it cannot be read: what is to be printed then, with or without colours as `--color` says.
pub(super) fn typed(arguments: &[OsString]) -> Result<Args, clap::Error> {
    let mut command = Args::command().color(colours(arguments));
    let mut matches = command.try_get_matches_from_mut(arguments)?;
    Args::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
}

/// What `--color` says, as far as that can be told before all is read: help and mistakes are printed in its colours, too.
fn colours(arguments: &[OsString]) -> ColorChoice {
    let words = || arguments.iter().take_while(|word| *word != "--").filter_map(|word| word.to_str());
    let behind = words().zip(words().skip(1)).filter(|(word, _)| *word == "--color").map(|(_, when)| when);
    let within = words().filter_map(|word| word.strip_prefix("--color="));
    match behind.chain(within).last() {
        Some("always") => ColorChoice::Always,
        Some("never") => ColorChoice::Never,
        _ => ColorChoice::Auto,
    }
}

const EXIT_CODES: &str = "\
Exit codes:
  0  nothing to report, and everything was read
  1  findings (see --fail-on)
  2  could not do what was asked: usage, no capture readable, bad rules or site
  3  done, but the evidence is incomplete: damaged capture, drops, too much undecodable, interrupted

Results go to standard output, messages to standard error. SIGINT (Ctrl-C) and SIGTERM end the reading of `audit`, \
`extract` and `site suggest`: what was read so far counts, marked as incomplete. A second one ends the program at once.";

const CAPTURES: &str = "\
CAPTURE is a file (pcap or pcapng, also compressed), a directory (searched recursively), a glob, or `-` (a capture on standard input).";

const CAPTURE_FILTER: &str = "\
The filter keeps all traffic of the audited machines and of the peers that rules let begin something, behind a VLAN tag too; ICMP and \
ARP of everybody; tunnels, whole. It stays one line:

  tcpdump -i eth0 -s 0 -w site.pcap \"$(portproof capture-filter --site site.toml)\"

Terms of your own go before it (`not port 22 and (...)`): behind the word `vlan` they would look in the wrong place.";

const LIVE: &str = "\
It ends with SIGINT (Ctrl-C), SIGTERM, --duration, or the end of standard input; what was seen is then audited as `audit` \
would have done it: the same report, files and exit code. SIGTERM ends it within two seconds; what is not audited by then is \
counted, and with --out left to the next run. What --save writes gives the same audit again. A run longer than \
--window is audited window by window. It needs root, or the capability CAP_NET_RAW.

--web shows what is known so far; who asks is answered without encryption. From another machine, rather than to open an \
address to the network: `ssh -L 9099:127.0.0.1:9099 HOST`, and http://127.0.0.1:9099/ there. A token goes into the header \
`Authorization: Bearer TOKEN`, or once into the address (`?token=TOKEN`): a cookie has it from then on.";

const DIFF: &str = "\
A finding is the same in both where its code, initiator, name or address, port and transport are. Counts and times are no \
difference. What vanished is not known to be mended: beside it stands what the new audit says of its rules.

Exit codes: 0 nothing got worse, 1 findings appeared, are graver, or of another code as grave (--fail-on), 2 could not compare, 3 the evidence of one of \
the audits is incomplete.";

const EXPORT: &str = "\
Rules that apply at the site are permitted, and lines of the platform's own; what else the guarded machines begin or are asked for is \
refused. What the firewall has no words for (DNS names in a network security group) is refused, too, and told: in the output, and on \
standard error.

Exit codes: 0 all that is documented is permitted, 2 could not do what was asked, 3 done, but some of it is not.";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Hold captures against the rules of a site
    #[command(after_help = CAPTURES)]
    Audit(AuditArgs),
    /// Watch network devices, and audit what is seen when that ends
    #[command(after_help = LIVE)]
    Live(LiveArgs),
    /// List the network devices that `live -i` takes
    Interfaces,
    /// Turn captures into rows of flows and names (needs no site, no rules)
    ///
    /// Without --flows, --names and --summary the summary goes to standard output.
    #[command(after_help = CAPTURES)]
    Extract(ExtractArgs),
    /// Hold rows that `extract --partial` wrote against the rules of a site (needs no capture)
    Judge(JudgeArgs),
    /// Look at rules packs
    #[command(subcommand)]
    Rules(RulesCommand),
    /// Look at site files
    #[command(subcommand)]
    Site(SiteCommand),
    /// Print a filter for tcpdump that keeps what an audit of a site needs, DNS included
    #[command(after_help = CAPTURE_FILTER)]
    CaptureFilter(CaptureFilterArgs),
    /// Render an audit again (needs no capture)
    Report(ReportArgs),
    /// Tell what changed from one audit to another: what appeared, vanished and flipped (needs no capture)
    #[command(after_help = DIFF)]
    Diff(DiffArgs),
    /// Hand over evidence that a stranger can check, or check it
    #[command(subcommand)]
    Evidence(EvidenceCommand),
    /// Say what a finding code means, with an example and what to do
    Explain {
        /// The code, such as `unexpected-traffic`; without one, all are listed
        code: Option<String>,
    },
}

/// Rules and site.
#[derive(Debug, Group)]
pub(super) struct PolicyArgs {
    /// The site file: which address plays which role here
    #[arg(long, value_name = "SITE.toml")]
    pub(super) site: PathBuf,
    #[command(flatten)]
    pub(super) rules: RulesArgs,
}

/// Rules packs and service tags.
#[derive(Debug, Group)]
pub(super) struct RulesArgs {
    /// A rules pack; may be given several times [default: the Veeam Plug-in for Microsoft Azure page, built in]
    #[arg(long, value_name = "PACK.toml")]
    pub(super) rules: Vec<PathBuf>,
    /// A service tag file as Microsoft publishes it, dated by its name (ServiceTags_Public_YYYYMMDD.json) or as
    /// FILE@DATE; may be given several times [default: a bundled excerpt]
    #[arg(long, value_name = "FILE.json")]
    pub(super) service_tags: Vec<String>,
}

/// What becomes of an audit.
#[derive(Debug, Group)]
pub(super) struct OutputArgs {
    /// Directory for audit.json, report.html and the rows of flows and names; made if it is missing
    #[arg(long, value_name = "DIR")]
    pub(super) out: Option<String>,
    /// Format of the report on standard output
    #[arg(long, value_enum, default_value_t = ReportFormat::Human)]
    pub(super) format: ReportFormat,
    /// Severity from which on findings make the exit code 1
    #[arg(long, value_name = "SEVERITY", value_enum, default_value_t = FailOnWord::Medium)]
    pub(super) fail_on: FailOnWord,
}

/// Which frames of the captures count.
#[derive(Debug, Group)]
pub(super) struct ChoiceArgs {
    /// Look only at frames that fit a filter of tcpdump, such as `net 10.10.0.0/16`; names of hosts are refused, since
    /// they would have to be resolved
    #[arg(long, short, value_name = "EXPR", allow_hyphen_values = true)]
    pub(super) filter: Option<String>,
    /// Look only at frames of this time and later: 2026-01-06T10:22:31Z, a date (its beginning in UTC), or seconds since
    /// 1970
    #[arg(long, value_name = "TIME", value_parser = Timestamp::typed)]
    pub(super) since: Option<Timestamp>,
    /// Look only at frames before this time; a frame of exactly this time is out
    #[arg(long, value_name = "TIME", value_parser = Timestamp::typed)]
    pub(super) until: Option<Timestamp>,
}

#[derive(Debug, Group)]
pub(super) struct AuditArgs {
    /// Captures
    #[arg(required = true, value_name = "CAPTURE")]
    pub(super) captures: Vec<String>,
    #[command(flatten)]
    pub(super) policy: PolicyArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
    #[command(flatten)]
    pub(super) choice: ChoiceArgs,
    /// Captures read at the same time [default: one for each processor]
    #[arg(long, short, value_name = "N", value_parser = threads)]
    pub(super) jobs: Option<NonZeroUsize>,
    /// Further UDP port of VXLAN, beside 4789 and 8472; may be given several times
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) vxlan_port: Vec<u16>,
    /// Memory to stay within, such as 512MiB or 2GiB: conversations beyond it wait in a temporary file [default: a quarter
    /// of the machine's]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(super) memory_limit: Option<usize>,
}

#[derive(Debug, Group)]
pub(super) struct LiveArgs {
    /// Network device to watch, `any` for all of them, or `-` for a capture on standard input; may be given several times
    #[arg(long, short, required = true, value_name = "IFACE")]
    pub(super) interface: Vec<String>,
    #[command(flatten)]
    pub(super) policy: PolicyArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
    /// Write the frames that were seen, too: pcapng files in DIR/packets
    #[arg(long, requires = "out")]
    pub(super) save: bool,
    /// End after this time, such as 60s, 15m or 8h
    #[arg(long, value_name = "TIME", value_parser = length)]
    pub(super) duration: Option<Duration>,
    /// Let the kernel hand over only frames that fit a filter of tcpdump, such as the one that `capture-filter` prints
    #[arg(long, short, value_name = "EXPR", allow_hyphen_values = true)]
    pub(super) filter: Option<String>,
    /// Size of the kernel's ring of each device, MiB: what waits there while the machine is busy elsewhere
    #[arg(long = "buffer", short = 'B', value_name = "MIB", default_value_t = TapOptions::RING_MIB,
          value_parser = clap::value_parser!(u32).range(1..=2047))]
    pub(super) buffer_mib: u32,
    /// Bytes kept of each frame, at the most
    #[arg(long, short, value_name = "BYTES", default_value_t = TapOptions::SNAPLEN_BYTES,
          value_parser = clap::value_parser!(u32).range(64..=262_144))]
    pub(super) snaplen: u32,
    /// Only frames that are for this machine (no promiscuous mode)
    #[arg(long, short = 'p')]
    pub(super) no_promiscuous: bool,
    /// Tell findings and what else happens as it happens, JSON lines: to a file, or `-` for standard output (which is the
    /// default with --format jsonl)
    #[arg(long, value_name = "PATH")]
    pub(super) events: Option<String>,
    /// Tell them to the socket of a local syslog, such as /dev/log (RFC 5424)
    #[arg(long, value_name = "SOCKET")]
    pub(super) syslog: Option<PathBuf>,
    /// Show the run in a browser, as it goes on: http://ADDRESS:PORT/, with /events, /audit.json, /metrics and /healthz
    /// beside it. Port 0 is any that is free. Other addresses than this machine's own (127.0.0.1, ::1) take a token
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = web_address)]
    pub(super) web: Option<SocketAddr>,
    /// File with the token that the page asks for; without it a token is made, where one is needed, and told once on standard
    /// error
    #[arg(long, value_name = "FILE", requires = "web")]
    pub(super) web_token_file: Option<PathBuf>,
    /// Wait for a device that is not there yet, or goes away
    #[arg(long)]
    pub(super) wait: bool,
    /// Become this user (NAME, UID or UID:GID) once the devices are open; --out is handed over to it. For root only
    #[arg(long, value_name = "USER")]
    pub(super) user: Option<String>,
    /// Begin a new segment of what --out and --save write after this time
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = length)]
    pub(super) rotate: Duration,
    /// Begin a new segment after so many captured bytes, such as 512MiB
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = bytes)]
    pub(super) rotate_size: usize,
    /// Audit what was seen, and begin anew, after this time
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = length)]
    pub(super) window: Duration,
    /// Further UDP port of VXLAN, beside 4789 and 8472; may be given several times
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) vxlan_port: Vec<u16>,
    /// Memory to stay within, such as 512MiB or 2GiB: conversations beyond it wait in a temporary file [default: a quarter
    /// of the machine's]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(super) memory_limit: Option<usize>,
}

#[derive(Debug, Group)]
pub(super) struct ExtractArgs {
    /// Captures
    #[arg(required = true, value_name = "CAPTURE")]
    pub(super) captures: Vec<String>,
    /// File for rows of flows: .parquet, .arrow or .jsonl; `-` is an Arrow stream on standard output
    #[arg(long, value_name = "PATH")]
    pub(super) flows: Option<String>,
    /// File for rows of names: .parquet, .arrow or .jsonl; `-` is an Arrow stream on standard output
    #[arg(long, value_name = "PATH")]
    pub(super) names: Option<String>,
    /// File for the tally of each capture, JSON lines; `-` is standard output
    #[arg(long, value_name = "PATH")]
    pub(super) summary: Option<String>,
    /// Write the partial rows that `judge` joins, instead of whole flows
    #[arg(long)]
    pub(super) partial: bool,
    /// Count frames that another interface showed within 5 ms, for comparison with other tools
    #[arg(long)]
    pub(super) keep_duplicates: bool,
    #[command(flatten)]
    pub(super) choice: ChoiceArgs,
    /// Captures read at the same time [default: one for each processor]
    #[arg(long, short, value_name = "N", value_parser = threads)]
    pub(super) jobs: Option<NonZeroUsize>,
    /// Further UDP port of VXLAN, beside 4789 and 8472; may be given several times
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) vxlan_port: Vec<u16>,
    /// Memory to stay within, such as 512MiB or 2GiB: conversations beyond it wait in a temporary file [default: a quarter
    /// of the machine's]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(super) memory_limit: Option<usize>,
}

#[derive(Debug, Group)]
pub(super) struct JudgeArgs {
    /// Rows of flows that `extract --partial --flows` wrote
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    pub(super) flows: Vec<String>,
    /// Rows of names that `extract --partial --names` wrote
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    pub(super) names: Vec<String>,
    /// Tallies that `extract --summary` wrote
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    pub(super) summary: Vec<String>,
    #[command(flatten)]
    pub(super) policy: PolicyArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
    /// Memory to stay within, such as 512MiB or 2GiB: rows beyond it wait in a temporary file [default: a quarter of the
    /// machine's]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(super) memory_limit: Option<usize>,
}

#[derive(Debug, Subcommand)]
pub(super) enum RulesCommand {
    /// List the packs and their rules
    List(RulesArgs),
    /// Show rules in full, by id
    Show {
        /// Ids of rules, such as `vbaz-12`; without one, all
        ids: Vec<String>,
        #[command(flatten)]
        rules: RulesArgs,
    },
    /// Tell what changed from one rules pack to another, rule by rule and fact by fact
    ///
    /// A rule is the same in both where its id is. Exit codes: 0 nothing changed, 1 something did, 2 a pack cannot be read.
    Diff {
        /// A rules file, or the id of a pack that is built in
        #[arg(value_name = "OLD")]
        old: PathBuf,
        /// Another one
        #[arg(value_name = "NEW")]
        new: PathBuf,
    },
    /// Print firewall rules that permit what is documented for a site, and refuse the rest
    #[command(after_help = EXPORT)]
    Export(ExportArgs),
    /// Draft a rules pack from a vendor's port page: saved HTML, Markdown, or AsciiDoc
    ///
    /// What was guessed stands in the draft as `# check: ...`, a row that gave no rule as `# left out: ...`. Read the draft against
    /// the page before it is used.
    ///
    /// Exit codes: 0 every row of its port tables gave rules, 2 no pack can be made of the page, 3 rows were left out.
    Import {
        /// The page; `-` is standard input
        #[arg(value_name = "PAGE")]
        page: PathBuf,
        /// The file to write, which must not be there yet [default: standard output]
        #[arg(short, long, value_name = "PACK.toml")]
        out: Option<PathBuf>,
    },
    /// Check rules files; mistakes make the exit code 2, warnings do not
    Lint {
        /// Rules files
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum SiteCommand {
    /// Draft a site file from what captures show, on standard output
    ///
    /// Machines of private space are given the role of which they do most; beside each stands why. What rests on little, or would
    /// be somebody else's, is a comment. Check every line before an audit rests on it.
    #[command(after_help = CAPTURES)]
    Suggest(SuggestArgs),
    /// Check a site file; mistakes make the exit code 2, warnings do not
    Check {
        /// The site file
        #[arg(value_name = "SITE.toml")]
        site: PathBuf,
        #[command(flatten)]
        rules: RulesArgs,
    },
}

#[derive(Debug, Group)]
pub(super) struct SuggestArgs {
    /// Captures
    #[arg(required = true, value_name = "CAPTURE")]
    pub(super) captures: Vec<String>,
    #[command(flatten)]
    pub(super) rules: RulesArgs,
    #[command(flatten)]
    pub(super) choice: ChoiceArgs,
    /// Captures read at the same time [default: one for each processor]
    #[arg(long, short, value_name = "N", value_parser = threads)]
    pub(super) jobs: Option<NonZeroUsize>,
}

#[derive(Debug, Group)]
pub(super) struct ExportArgs {
    /// The firewall
    #[arg(long = "for", value_name = "FIREWALL", value_enum)]
    pub(super) firewall: FirewallWord,
    #[command(flatten)]
    pub(super) policy: PolicyArgs,
    /// A role whose machines are guarded; may be given several times [default: the roles that are audited]
    #[arg(long, value_name = "ROLE")]
    pub(super) role: Vec<String>,
}

/// `rules export --for`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum FirewallWord {
    /// Network security groups of Azure, one for each role: a template for its resource manager
    Nsg,
    /// A Linux gateway between the machines and the world: a table for `nft -f`, and lines for dnsmasq
    Nftables,
}

impl From<FirewallWord> for Firewall {
    fn from(word: FirewallWord) -> Self {
        match word {
            FirewallWord::Nsg => Firewall::Nsg,
            FirewallWord::Nftables => Firewall::Nftables,
        }
    }
}

#[derive(Debug, Group)]
pub(super) struct CaptureFilterArgs {
    #[command(flatten)]
    pub(super) policy: PolicyArgs,
    /// Leave VLAN tags out of it: for `-i any`, tunnels and other interfaces without Ethernet, where libpcap does not know
    /// the word
    #[arg(long)]
    pub(super) untagged: bool,
}

#[derive(Debug, Group)]
pub(super) struct ReportArgs {
    /// What `audit --out` wrote: the directory, or its audit.json
    #[arg(value_name = "DIR|AUDIT.json")]
    pub(super) audit: PathBuf,
    /// Format of the report on standard output; formats of flow rows read the rows beside audit.json
    #[arg(long, value_enum, default_value_t = ReportFormat::Human)]
    pub(super) format: ReportFormat,
    /// Severity from which on findings make the exit code 1
    #[arg(long, value_name = "SEVERITY", value_enum, default_value_t = FailOnWord::Medium)]
    pub(super) fail_on: FailOnWord,
}

#[derive(Debug, Subcommand)]
pub(super) enum EvidenceCommand {
    /// Put what `audit --out` wrote into a bundle, with the frames that its findings cite and a digest of each file
    ///
    /// Captures are looked for where the audit names them: run it where the audit was run. A capture that is not the one that was
    /// audited gives no frames. The exit code is 3 where frames of some capture could not be had.
    Pack {
        /// The directory that `audit --out` wrote
        #[arg(value_name = "DIR")]
        audit: PathBuf,
        /// The directory of the bundle, which must not be there yet [default: DIR-evidence]
        #[arg(short, long, value_name = "BUNDLE")]
        out: Option<PathBuf>,
    },
    /// Check that a bundle holds what it says: nothing changed, missing or added, and each cited frame there
    ///
    /// That tells of changes since it was made, and not who made it: for that, let its SHA256SUMS be signed (SHA256SUMS.asc, .sig
    /// and .minisig may stand beside it).
    ///
    /// Exit codes: 0 it does, 1 it does not, 2 it is no bundle, 3 something of it could not be checked.
    Verify {
        /// The bundle, or its MANIFEST.json
        #[arg(value_name = "DIR|FILE")]
        bundle: PathBuf,
        /// The captures, to compare its frames with them byte by byte: found by their digests, whatever they are called
        #[arg(value_name = "CAPTURE")]
        captures: Vec<String>,
    },
    /// Write the frames that findings cite as a pcapng file, each with its number and capture as a comment
    Slice {
        /// What `audit --out` wrote: the directory, or its audit.json
        #[arg(value_name = "DIR|AUDIT.json")]
        audit: PathBuf,
        /// Only frames of findings of this code
        #[arg(long, value_name = "CODE")]
        code: Option<String>,
        /// The file to write, which must not be there yet; `-` is standard output
        #[arg(short, long, value_name = "FILE.pcapng")]
        out: PathBuf,
    },
}

#[derive(Debug, Group)]
pub(super) struct DiffArgs {
    /// What `audit --out` wrote before: the directory, or its audit.json
    #[arg(value_name = "OLD")]
    pub(super) old: PathBuf,
    /// What it wrote after
    #[arg(value_name = "NEW")]
    pub(super) new: PathBuf,
    /// Format of what is told on standard output
    #[arg(long, value_enum, default_value_t = DiffFormat::Human)]
    pub(super) format: DiffFormat,
    /// Severity from which on findings that appeared, or are graver than they were, make the exit code 1
    #[arg(long, value_name = "SEVERITY", value_enum, default_value_t = FailOnWord::Medium)]
    pub(super) fail_on: FailOnWord,
}

/// Formats of differences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum DiffFormat {
    /// For people, on a terminal
    Human,
    /// One JSON value
    Json,
    /// For tickets and wikis
    Markdown,
}

/// Formats of reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ReportFormat {
    /// For people, on a terminal
    Human,
    /// The audit as one JSON value
    Json,
    /// Captures, flows, findings, coverage and totals, one JSON object a line
    Jsonl,
    /// For tickets and wikis
    Markdown,
    /// Rows of flows for spreadsheets
    Csv,
    /// One self-contained page for people
    Html,
    /// SARIF 2.1.0: findings, for code hosts and security tools
    Sarif,
    /// JUnit: a test case for each row of the matrix, for build servers
    Junit,
}

/// `--fail-on`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum FailOnWord {
    /// Findings never do
    Never,
    /// High ones do
    High,
    /// Medium and high ones do
    Medium,
}

impl From<FailOnWord> for FailOn {
    fn from(word: FailOnWord) -> Self {
        match word {
            FailOnWord::Never => FailOn::Never,
            FailOnWord::High => FailOn::High,
            FailOnWord::Medium => FailOn::Medium,
        }
    }
}

/// `--color`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// A number of threads.
fn threads(text: &str) -> Result<NonZeroUsize, String> {
    let number = text.parse::<usize>().map_err(|_| "a number of threads is wanted, such as 2".to_owned())?;
    NonZeroUsize::new(number).ok_or_else(|| "at least 1".to_owned())
}

/// Bytes, as people write them.
fn bytes(text: &str) -> Result<usize, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text.get(digits.len()..).unwrap_or_default().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        _ => 0,
    };
    let bytes = digits.parse::<usize>().ok().and_then(|number| number.checked_mul(unit));
    let bytes = bytes.filter(|_| unit > 0);
    bytes.ok_or_else(|| "a size is a number with KiB, MiB or GiB behind it, such as 512MiB".to_owned())
}

/// Memory to stay within.
fn size(text: &str) -> Result<usize, String> {
    match bytes(text)? {
        bytes if bytes >= LEAST_MEMORY => Ok(bytes),
        bytes => Err(format!("{bytes} bytes are too few: at least 64MiB are needed")),
    }
}

/// An address and a port; names are not looked up, but for the one that every machine has.
fn web_address(text: &str) -> Result<SocketAddr, String> {
    let text =
        text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}")).unwrap_or(text.to_owned());
    text.parse().map_err(|_| "an address and a port, such as 127.0.0.1:9099 or [::1]:9099".to_owned())
}

/// A length of time, as people write it.
fn length(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit_s = match text.get(digits.len()..).unwrap_or_default() {
        "s" | "" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => 0,
    };
    let seconds = digits.parse::<u32>().ok().map(|number| u64::from(number) * unit_s);
    let seconds = seconds.filter(|&seconds| seconds > 0).map(Duration::from_secs);
    seconds.ok_or_else(|| "a time is a number with s, m, h or d behind it, such as 90s or 8h".to_owned())
}

/// The program with its rules and service tags takes a third of this before it reads a frame.
const LEAST_MEMORY: usize = 64 << 20;
/// `--progress`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ProgressWord {
    /// Bars, if standard error is a terminal and the work takes longer than a second
    Auto,
    /// One object a line: `progress` twice a second, `done` at the end
    Json,
    /// Nothing
    None,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_and_mistakes_have_the_colours_that_were_asked_for() {
        for (arguments, expected) in [
            ("audit", ColorChoice::Auto),
            ("audit --color always", ColorChoice::Always),
            ("--color=always audit", ColorChoice::Always),
            ("--color never audit", ColorChoice::Never),
            ("audit --color=always --color=never", ColorChoice::Never),
            ("audit --color auto", ColorChoice::Auto),
            ("audit --color", ColorChoice::Auto),
            // What follows is no option.
            ("audit --color=never -- --color=always", ColorChoice::Never),
        ] {
            let arguments: Vec<OsString> = arguments.split(' ').map(OsString::from).collect();
            assert_eq!(colours(&arguments), expected, "{arguments:?}");
        }
    }
}
