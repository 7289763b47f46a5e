//! A synthetic audit with hostile texts, for the tests of this room.

use crate::audit::*;
use crate::flow::{ConnState, FlowRecord, InitiatorBy, Outcome, Proof, ProofKind};
use crate::matrix::Requirement;
use crate::model::{Timestamp, Transport};
use crate::names::Standings;
use crate::verdict::{Differs, NameEvidence, NameEvidenceSource, Nearest, VerdictRow};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// 2026-01-06T10:22:31.004512Z.
pub(super) const BEGIN: Timestamp = Timestamp(1_767_694_951_004_512_000);

/// A capture whose name tries to steer the terminal.
pub(super) const HOSTILE: &str = "captures/it's\u{1b}[2J\u{202e}gnp and a very long name that no table has room for \
                                  whatever its width may be, at least not at eighty columns.pcap";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn party(role: &str, address: &str, port: Option<u16>) -> Party {
    Party {
        roles: vec![role.into()],
        ip: Some(ip(address)),
        name: None,
        port,
        proto: port.map(|_| Transport::Tcp),
    }
}

pub(super) fn finding(code: Code, title: &str) -> Finding {
    Finding {
        code,
        severity: code.severity(),
        title: title.into(),
        from: party("backup-appliance", "10.1.0.4", None),
        to: party("", "203.0.113.7", Some(8443)),
        rules: Vec::new(),
        count: 3,
        first_ts: Some(BEGIN),
        last_ts: Some(BEGIN.plus(60_000_000_000)),
        outcomes: vec![Outcome::Established],
        details: vec![
            "name: none: 10.1.0.4 received no DNS answer with this address in this capture".into(),
            "nearest: none: no rule from Backup appliance covers this address, and no rule at all has TCP 8443"
                .into(),
        ],
        evidence: [1182, 2210, 9034]
            .map(|frame| EvidenceFrame { capture: "site-a.pcapng".into(), frame })
            .into_iter()
            .chain([EvidenceFrame { capture: HOSTILE.into(), frame: 7 }])
            .collect(),
        display_filter: Some("ip.addr == 203.0.113.7 && tcp.port == 8443".into()),
        remedy: code.advice().into(),
    }
}

fn summary(path: &str, end: End) -> CaptureSummary {
    CaptureSummary {
        bytes: 611_040,
        link_types: vec!["ETHERNET".into()],
        frames: 9_100,
        packets: 9_000,
        skipped: BTreeMap::from([("not-ip".into(), 90), ("header-cut".into(), 10)]),
        first_ts: Some(BEGIN),
        last_ts: Some(BEGIN.plus(3_600_000_000_000)),
        drops: Some(12),
        upkeep: BTreeMap::from([("arp".into(), 90)]),
        end,
        flows: 40,
        names: 10,
        ..CaptureSummary::of_nothing(path, "pcapng, little-endian")
    }
}

fn coverage(rule: &str, state: CoverageState, why: Option<&str>) -> Coverage {
    Coverage {
        rule: rule.into(),
        page: "Veeam Plug-in for Microsoft Azure: used ports".into(),
        row: 12,
        from: "Backup appliance".into(),
        to: "Azure Resource Manager, and some more words that make this destination longer than a line"
            .into(),
        proto: "TCP".into(),
        ports: "443".into(),
        requirement: Requirement::Required,
        state,
        why: why.map(str::to_owned),
        flows: 12,
        names: vec!["management.azure.com".parse().unwrap()],
        first_ts: Some(BEGIN),
        last_ts: Some(BEGIN),
        indistinguishable_from: Vec::new(),
    }
}

pub(super) fn audit() -> Audit {
    let damage = End::Damaged {
        frame: 4212,
        offset: 611_040,
        problem: "the file ends after 12 of the 66 bytes its header announces".into(),
    };
    let mut blocked =
        finding(Code::DocumentedBlocked, "backup-appliance 10.1.0.4 -> nginx.org TCP 443 is blocked");
    blocked.rules = vec!["vbaz-12".into()];
    blocked.outcomes = vec![Outcome::Refused, Outcome::Filtered];
    blocked.to.name = Some("nginx.org".parse().unwrap());
    Audit {
        schema: SCHEMA,
        tool: Tool::this(),
        inputs: vec![summary("site-a.pcapng", End::Complete), summary(HOSTILE, damage)],
        unreadable: vec![Unreadable { path: "gone\n.pcap".into(), problem: "no such file".into() }],
        rules: vec![PackUsed {
            id: "vbazure".into(),
            page: "Veeam Plug-in for Microsoft Azure: used ports".into(),
            url: Some("https://vendor.example/ports?a=1&b=2".into()),
            product: "Veeam Plug-in for Microsoft Azure".into(),
            page_date: Some("1/6/2026".into()),
            date: Some("2026-01-06".into()),
            product_version: Some("9".into()),
            sha256: "ab".repeat(32),
        }],
        service_tags: Some(TagsUsed {
            change_number: 363,
            cloud: "Public".into(),
            date: None,
            sha256: "cd".repeat(32),
        }),
        unaudited: None,
        further_service_tags: Vec::new(),
        site: SiteUsed { name: "contoso\u{7}-weu".into(), sha256: "ef".repeat(32) },
        remarks: vec!["The site lists no resolvers: every resolver's answers count as name evidence.".into()],
        totals: Totals {
            frames: 18_200,
            packets: 18_000,
            skipped: BTreeMap::from([("not-ip".into(), 180), ("header-cut".into(), 20)]),
            flows: 80,
            verdicts: BTreeMap::from([(Verdict::Documented, 70), (Verdict::Undocumented, 10)]),
            outcomes: BTreeMap::from([(Outcome::Established, 75), (Outcome::Filtered, 5)]),
            upkeep: BTreeMap::from([("arp".into(), 180)]),
            findings: BTreeMap::from([(Severity::High, 2), (Severity::Medium, 1), (Severity::Note, 3)]),
            ..Totals::default()
        },
        coverage: vec![
            coverage("vbaz-01", CoverageState::Observed, None),
            coverage("vbaz-12", CoverageState::Blocked, Some("refused, filtered")),
            coverage(
                "vbaz-14",
                CoverageState::NotApplicable,
                Some("the condition private-environment is off"),
            ),
            coverage("vbaz-15", CoverageState::NotObserved, None),
            coverage("vbaz-16", CoverageState::NotObserved, Some("met only unanswered")),
        ],
        findings: vec![
            finding(
                Code::UnexpectedTraffic,
                "an unknown service\u{1b}]0;x\u{7} is reached, 3 connections established",
            ),
            blocked,
            finding(Code::UnexpectedResolver, "backup-appliance 10.1.0.4 asks 8.8.8.8"),
            finding(Code::RuleNotObserved, "vbaz-15 was not observed"),
            finding(Code::RuleNotObserved, "vbaz-16 was not observed"),
            finding(Code::Accepted, "backup-appliance 10.1.0.4 -> 10.20.0.99 TCP 9100: change 4711"),
        ],
        conversations: vec![Conversation {
            from: "Backup appliance".into(),
            to: "Azure Resource Manager and a long text after it that does not fit".into(),
            flows: 70,
            verdicts: BTreeMap::from([(Verdict::Documented, 70)]),
            outcomes: BTreeMap::from([(Outcome::Established, 70)]),
            bytes: 1_234_567,
        }],
        timeline: Timeline {
            bucket_ns: 60_000_000_000,
            buckets: vec![TimeBucket { ts: BEGIN, verdicts: BTreeMap::new(), blocked: 1 }],
        },
        names_quality: NamesQuality {
            messages: Standings { queries: 40, responses: 38, unanswered: 2, ..Standings::default() },
            grades: BTreeMap::from([("dns".into(), 60), ("none".into(), 20)]),
            ..NamesQuality::default()
        },
        capture_quality: CaptureQuality {
            complete: false,
            drops: 24,
            undecodable_ppm: 1_098,
            intervals: 3,
            first_ts: Some(BEGIN),
            last_ts: Some(BEGIN.plus(3_600_000_000_000)),
            ..CaptureQuality::default()
        },
    }
}

/// An audit in which all is well.
pub(super) fn quiet() -> Audit {
    let mut audit = audit();
    audit.inputs.truncate(1);
    audit.inputs[0].drops = None;
    audit.unreadable.clear();
    audit.findings.clear();
    audit.capture_quality.complete = true;
    audit.capture_quality.drops = 0;
    audit.totals.findings.clear();
    audit
}

pub(super) fn row() -> VerdictRow {
    VerdictRow {
        flow: FlowRecord {
            flow_id: "1:wCb3OG7yAFWelaUydu0D+125CLM=".into(),
            capture: "site-a.pcapng".into(),
            initiator_ip: ip("10.1.0.4"),
            initiator_port: 51_000,
            responder_ip: ip("203.0.113.7"),
            responder_port: 8443,
            proto: Transport::Tcp,
            initiator_by: InitiatorBy::Syn,
            vlan: None,
            vni: Some(7),
            first_ts: BEGIN,
            last_ts: BEGIN.plus(1),
            packets_fwd: 4,
            packets_rev: 3,
            bytes_fwd: 400,
            bytes_rev: 300,
            payload_fwd: 100,
            payload_rev: 50,
            conn_state: ConnState::S1,
            outcome: Outcome::Established,
            icmp_type: None,
            icmp_code: None,
            syn_count: 1,
            handshake_rtt_ns: Some(1_000_000),
            app: None,
            server_name: Some("example.org".parse().unwrap()),
            http_host: None,
            tls_version: None,
            frames: vec![1182, 2210],
            proof: vec![Proof { what: ProofKind::Syn, capture: "site-a.pcapng".into(), frame: 1182 }],
            tls_offered: vec!["TLSv1.3".into(), "TLSv1.2".into()],
            alpn: vec!["h2".into()],
            ech: false,
            proxy_target: None,
            reset_ttl_differs: false,
            tls_alert: None,
            proxy_status: None,
        },
        initiator_roles: ["backup-appliance".into()].into(),
        responder_roles: [].into(),
        names: vec![NameEvidence {
            name: "example.org".parse().unwrap(),
            chain: ["example.org".parse().unwrap(), "example.net".parse().unwrap()].into(),
            source: NameEvidenceSource::Tls,
            age_ns: None,
            scope: "flow".into(),
            expired: false,
            late: false,
        }],
        grade: Some(Grade::ServerName),
        verdict: Verdict::Undocumented,
        rules: [].into(),
        missing: None,
        nearest: Some(Nearest { rule: "vbaz-12".into(), differs: Differs::Port }.into()),
        findings: vec![Code::UnexpectedTraffic],
    }
}
