//! Everything that a report may say, self-contained and serialisable. Reports add words, never facts.

mod diff;
mod finding;
mod summary;

pub use diff::{
    Changes, Compared, ConversationChange, CoverageChange, DIFF_SCHEMA, Difference, Flipped, Vanished,
};
pub use finding::{Code, EvidenceFrame, Finding, Party, Severity};
pub use summary::{CaptureSummary, Chosen, End, LiveCounts, NOT_KEPT, Tunnels, UnfitLink};

use crate::flow::Outcome;
use crate::matrix::Requirement;
use crate::model::{DomainName, Timestamp};
use crate::names::Standings;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Version of the JSON audit's shape. Raised when a field changes its meaning or goes; new fields do not raise it.
pub const SCHEMA: u32 = 1;

/// Does the matrix document this flow?
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// A rule of a pack fits.
    Documented,
    /// A line of the platform's baseline fits.
    Platform,
    /// Evidence is missing; never rounded up, never down.
    Undetermined,
    /// No rule fits, and an audited machine takes part.
    Undocumented,
    /// No rule fits, and no audited machine takes part.
    OutOfScope,
}

impl Verdict {
    /// All verdicts, in the order in which they are decided.
    pub const ALL: [Verdict; 5] = [
        Verdict::Documented,
        Verdict::Platform,
        Verdict::Undetermined,
        Verdict::Undocumented,
        Verdict::OutOfScope,
    ];

    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Documented => "documented",
            Verdict::Platform => "platform",
            Verdict::Undetermined => "undetermined",
            Verdict::Undocumented => "undocumented",
            Verdict::OutOfScope => "out-of-scope",
        }
    }
}

/// What would have to be seen to decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Missing {
    /// No DNS answer with this address to this host.
    Name,
    /// Several names share the address, and they disagree.
    Ambiguous,
    /// Another storage account's name than the site's.
    Account,
    /// The evidence contradicts itself.
    Conflict,
}

impl Missing {
    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Missing::Name => "name",
            Missing::Ambiguous => "ambiguous",
            Missing::Account => "account",
            Missing::Conflict => "conflict",
        }
    }
}

/// How well the destination is identified, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grade {
    /// The address holds a role of the site.
    Site,
    /// DNS and a server name, or DNS and a tag, agree.
    Corroborated,
    /// A DNS answer to this host.
    Dns,
    /// The address lies in a tag's or the site's prefixes.
    Tag,
    /// Only what the client itself wrote.
    ServerName,
}

impl Grade {
    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Grade::Site => "site",
            Grade::Corroborated => "corroborated",
            Grade::Dns => "dns",
            Grade::Tag => "tag",
            Grade::ServerName => "server-name",
        }
    }
}

/// State of one matrix row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CoverageState {
    /// A flow that it documents worked.
    Observed,
    /// Flows that it documents were blocked, none worked.
    Blocked,
    /// Some worked, some were blocked.
    Intermittent,
    /// No flow, or none that tells.
    NotObserved,
    /// The captures show no packet of any host that could initiate it.
    NotObservable,
    /// The site has no such destination, or a condition is off.
    NotApplicable,
}

impl CoverageState {
    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            CoverageState::Observed => "observed",
            CoverageState::Blocked => "blocked",
            CoverageState::Intermittent => "intermittent",
            CoverageState::NotObserved => "not-observed",
            CoverageState::NotObservable => "not-observable",
            CoverageState::NotApplicable => "not-applicable",
        }
    }
}

/// What the captures show of one rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// The rule's id.
    pub rule: String,
    /// Its page and row.
    pub page: String,
    /// The row of the page, counted from 1.
    pub row: u32,
    /// Who initiates, in words.
    pub from: String,
    /// To whom, in words.
    pub to: String,
    /// Transport.
    pub proto: String,
    /// Ports.
    pub ports: String,
    /// What the page asks.
    pub requirement: Requirement,
    /// Its state.
    pub state: CoverageState,
    /// Why it has this state, where that is not plain.
    pub why: Option<String>,
    /// Flows that it documents.
    pub flows: u64,
    /// Names by which its destination was known.
    pub names: Vec<DomainName>,
    /// Earliest time of such a flow.
    pub first_ts: Option<Timestamp>,
    /// Latest time of such a flow.
    pub last_ts: Option<Timestamp>,
    /// Rules that the same flows fit: nothing in a packet tells them apart.
    pub indistinguishable_from: Vec<String>,
}

/// Flows between two parties, in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversation {
    /// Who initiates: roles, or `(no role)`.
    pub from: String,
    /// To whom: the documented destination, the baseline line, roles, or what is known.
    pub to: String,
    /// Flows.
    pub flows: u64,
    /// Flows by verdict.
    pub verdicts: BTreeMap<Verdict, u64>,
    /// Flows by outcome.
    pub outcomes: BTreeMap<Outcome, u64>,
    /// Bytes both ways.
    pub bytes: u64,
}

/// Flows that began in one stretch of time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeBucket {
    /// Begin of the stretch.
    pub ts: Timestamp,
    /// Flows by verdict.
    pub verdicts: BTreeMap<Verdict, u64>,
    /// Flows that were blocked.
    pub blocked: u64,
}

/// Flows over time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    /// Length of a stretch, nanoseconds: the least of 1 s, 10 s, 1 min, 10 min, 1 h, 1 d that gives at most 120.
    pub bucket_ns: i64,
    /// Stretches with flows.
    pub buckets: Vec<TimeBucket>,
}

/// The program that made the audit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The commit it was built from, if the build was told.
    pub commit: Option<String>,
}

impl Tool {
    /// This program.
    pub fn this() -> Self {
        Tool {
            name: "portproof".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            commit: option_env!("PORTPROOF_COMMIT").map(str::to_owned),
        }
    }
}

/// A rules pack that the audit used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackUsed {
    /// Its id.
    pub id: String,
    /// The page's title.
    pub page: String,
    /// Where the page stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The product.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub product: String,
    /// The page's date, as printed; none where it tells none.
    pub page_date: Option<String>,
    /// The same day, year first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
    /// The product version the page is for; none where it tells none.
    pub product_version: Option<String>,
    /// SHA-256 of the file.
    pub sha256: String,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl PackUsed {
    /// The page's date where it is told, year first if that is known.
    pub fn day(&self) -> Option<&str> {
        self.date.as_deref().or(self.page_date.as_deref()).filter(|date| !date.is_empty())
    }

    /// The page's title, and the product's where it does not say that itself.
    pub fn title(&self) -> String {
        if self.product.is_empty() || self.page.contains(&self.product) {
            self.page.clone()
        } else {
            format!("{}, {}", self.page, self.product)
        }
    }

    /// The page, its version and its day, in words.
    pub fn in_words(&self) -> String {
        let mut words = self.title();
        if let Some(version) = self.product_version.as_ref().filter(|version| !version.is_empty()) {
            words.push_str(&format!(", version {version}"));
        }
        if let Some(day) = self.day() {
            words.push_str(&format!(" ({day})"));
        }
        words
    }

    /// Where the page stands, if that is an address that may be followed.
    pub fn link(&self) -> Option<&str> {
        self.url.as_deref().filter(|url| url.starts_with("https://") || url.starts_with("http://"))
    }
}

/// A service tag file that the audit used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagsUsed {
    /// The file's own change number.
    pub change_number: u64,
    /// The cloud it is for.
    pub cloud: String,
    /// Its date, where it is known.
    pub date: Option<String>,
    /// SHA-256 of the file.
    pub sha256: String,
}

/// The site file that the audit used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteUsed {
    /// The site's name.
    pub name: String,
    /// SHA-256 of the file.
    pub sha256: String,
}

/// Counts over all captures. frames = packets + sum of skipped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Frames read.
    pub frames: u64,
    /// Frames that gave a packet.
    pub packets: u64,
    /// Frames that gave none, by reason.
    pub skipped: BTreeMap<String, u64>,
    /// Flows judged.
    pub flows: u64,
    /// Flows by verdict.
    pub verdicts: BTreeMap<Verdict, u64>,
    /// Flows by outcome.
    pub outcomes: BTreeMap<Outcome, u64>,
    /// Documented flows whose rule is conditional and applies only because nobody switched it off.
    pub conditional: u64,
    /// Flows documented by a name that the page does not give (update repository, behind tags).
    pub supplied_names: u64,
    /// Frames of link upkeep (ARP, neighbour discovery, MLD, IGMP, DHCP): platform, not judged row by row.
    pub upkeep: BTreeMap<String, u64>,
    /// Flows in which an audited machine takes part; none in audits that did not count them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audited_flows: Option<u64>,
    /// Connections that asked a proxy, without a tunnel, for more than their first 4 KiB: what for is not known of the rest.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub requests_beyond: u64,
    /// TCP connections to port 53 with more than 64 KiB one way: messages beyond are not read.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dns_beyond: u64,
    /// Flows that are nothing but unsolicited DNS answers: evidence of findings, not flows of their own.
    pub unsolicited_flows: u64,
    /// Packets that belong to no flow, by reason.
    pub without_flow: BTreeMap<String, u64>,
    /// Findings by severity.
    pub findings: BTreeMap<Severity, u64>,
}

/// What the name evidence is worth.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamesQuality {
    /// How many DNS messages there are.
    #[serde(flatten)]
    pub messages: Standings,
    /// Whether the site lists resolvers; if not, every resolver counts.
    pub resolvers_listed: bool,
    /// Judged flows by grade of their destination; `none` where it is not identified.
    pub grades: BTreeMap<String, u64>,
    /// Flows whose address had several chains of names.
    pub shared_addresses: u64,
    /// Flows named by an answer past its time to live.
    pub expired: u64,
    /// Flows named by an answer that came after they began.
    pub late: u64,
    /// Flows whose ClientHello is encrypted (ECH).
    pub encrypted_hellos: u64,
    /// Audited hosts that resolve names where no capture shows them.
    #[serde(default)]
    pub encrypted_dns: Vec<EncryptedDns>,
}

/// How DNS hides from a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EncryptedDnsKind {
    /// RFC 7858: port 853, or ALPN `dot`.
    DnsOverTls,
    /// RFC 9250: UDP port 853, or ALPN `doq`.
    DnsOverQuic,
    /// RFC 8484: known by who answers, since it looks like any other HTTPS.
    DnsOverHttps,
}

impl EncryptedDnsKind {
    /// As RFCs write it.
    pub fn title(self) -> &'static str {
        match self {
            EncryptedDnsKind::DnsOverTls => "DNS over TLS",
            EncryptedDnsKind::DnsOverQuic => "DNS over QUIC",
            EncryptedDnsKind::DnsOverHttps => "DNS over HTTPS",
        }
    }
}

/// What one audited host asks one resolver over an encrypted transport.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncryptedDns {
    /// Who asks.
    pub host: IpAddr,
    /// Its roles.
    pub roles: Vec<String>,
    /// How.
    pub kind: EncryptedDnsKind,
    /// Whom: the name by which it is known, else its address.
    pub resolver: String,
    /// In how many flows that got through.
    pub flows: u64,
    /// Since when.
    pub first_ts: Timestamp,
    /// Until when.
    pub last_ts: Timestamp,
    /// Frames of the first of these flows.
    pub evidence: Vec<EvidenceFrame>,
}

impl EncryptedDns {
    /// "DNS over HTTPS to dns.google".
    pub fn title(&self) -> String {
        format!("{} to {}", self.kind.title(), self.resolver)
    }
}

/// What the captures are worth.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureQuality {
    /// Whether everything named was read to its end, and the filter, if there was one, suits every link type.
    pub complete: bool,
    /// Frames that the capturing machine dropped, by the files' own statistics.
    pub drops: u64,
    /// Frames cut by the snapshot length.
    pub snaplen_cut: u64,
    /// Frames dropped here because another interface of the same capture had shown them within 5 ms.
    pub duplicates: u64,
    /// Share of frames skipped for other reasons than not being IP, in millionths.
    pub undecodable_ppm: u64,
    /// TCP flows of which only one direction is seen.
    pub one_sided: u64,
    /// TCP flows of which the beginning is not seen.
    pub midstream: u64,
    /// Intervals in which frames came.
    pub intervals: u64,
    /// Earliest frame.
    pub first_ts: Option<Timestamp>,
    /// Latest frame.
    pub last_ts: Option<Timestamp>,
    /// ICMP errors whose quoted packet cannot be read.
    pub unreadable_quotes: u64,
}

/// What one audit found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// Version of this shape.
    pub schema: u32,
    /// What made it.
    pub tool: Tool,
    /// The captures, in the order in which their frames were taken.
    pub inputs: Vec<CaptureSummary>,
    /// Captures that could not be opened at all, with why.
    pub unreadable: Vec<Unreadable>,
    /// The rules packs.
    pub rules: Vec<PackUsed>,
    /// The service tags of the site's cloud.
    pub service_tags: Option<TagsUsed>,
    /// Further service tag files.
    pub further_service_tags: Vec<TagsUsed>,
    /// The site.
    pub site: SiteUsed,
    /// What the reader must know before the findings.
    pub remarks: Vec<String>,
    /// Counts.
    pub totals: Totals,
    /// Each rule.
    pub coverage: Vec<Coverage>,
    /// The findings, most severe first.
    pub findings: Vec<Finding>,
    /// Who talks to whom.
    pub conversations: Vec<Conversation>,
    /// When.
    pub timeline: Timeline,
    /// What the name evidence is worth.
    pub names_quality: NamesQuality,
    /// What the captures are worth.
    pub capture_quality: CaptureQuality,
    /// Of a live run that had to end at once: what of it is not audited. All else is then what was known while it went on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unaudited: Option<Unaudited>,
}

/// What was seen, and not audited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unaudited {
    /// Frames.
    pub frames: u64,
    /// Stretches of conversations that they gave.
    pub stretches: u64,
}

/// Findings that are counted and not put into words, since nobody asks for more than the first of each kind: what is known of
/// them. An audit beside which they stand lacks them, and is for a summary alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Untold {
    /// How many of each kind.
    pub counts: BTreeMap<(Severity, Code), u64>,
    /// By rule, how those of them ended that say a documented connection is blocked.
    pub blocks: BTreeMap<String, BTreeSet<Outcome>>,
}

impl Untold {
    /// How many of a severity.
    pub fn of(&self, severity: Severity) -> u64 {
        self.counts.iter().filter(|((of, _), _)| *of == severity).map(|(_, count)| count).sum()
    }

    /// Counts one more.
    pub fn add(
        &mut self,
        kind: (Severity, Code),
        rules: &[String],
        outcomes: impl Iterator<Item = Outcome> + Clone,
    ) {
        *self.counts.entry(kind).or_default() += 1;
        if kind.1.tells_of_a_block() {
            for rule in rules {
                let blocks = match self.blocks.get_mut(rule) {
                    Some(blocks) => blocks,
                    None => self.blocks.entry(rule.clone()).or_default(),
                };
                blocks.extend(outcomes.clone().filter(|outcome| outcome.is_blocked()));
            }
        }
    }
}

/// A capture that could not be opened at all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unreadable {
    /// As named.
    pub path: String,
    /// Why, and what to do.
    pub problem: String,
}

/// From which severity on findings count for the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailOn {
    /// Findings never do.
    Never,
    /// High ones.
    High,
    /// Medium and high ones.
    Medium,
}

impl FailOn {
    /// Whether findings of this severity count.
    pub fn counts(self, severity: Severity) -> bool {
        match self {
            FailOn::Never => false,
            FailOn::High => severity == Severity::High,
            FailOn::Medium => severity != Severity::Note,
        }
    }
}

impl Audit {
    /// Whether there was nothing to judge: no flow, or none in which an audited machine takes part.
    pub fn is_of_nobody(&self) -> bool {
        self.totals.flows == 0 || self.totals.audited_flows == Some(0)
    }

    /// Frames that may be skipped for other reasons than not being IP before the evidence counts as incomplete: 1 %,
    /// in millionths (SEMANTICS section 5).
    pub const UNDECODABLE_LIMIT_PPM: u64 = 10_000;

    /// Whether the evidence is incomplete: damage, drops, too much that could not be decoded, captures not read,
    /// or no time to audit what was seen.
    pub fn incomplete(&self) -> bool {
        !self.capture_quality.complete
            || self.unaudited.is_some()
            || self.capture_quality.drops > 0
            || self.capture_quality.undecodable_ppm > Self::UNDECODABLE_LIMIT_PPM
    }

    /// 0 nothing to report and everything read, 1 findings, 2 no capture readable, 3 the evidence is incomplete.
    pub fn exit_code(&self, fail_on: FailOn) -> u8 {
        if self.inputs.is_empty() {
            2
        } else if self.incomplete() {
            3
        } else {
            u8::from(self.findings.iter().any(|finding| fail_on.counts(finding.severity)))
        }
    }
}
