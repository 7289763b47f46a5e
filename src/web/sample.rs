//! A picture for tests.

use crate::audit::{Code, Conversation, Coverage, CoverageState, EvidenceFrame, Finding, Party, Verdict};
use crate::flow::Outcome;
use crate::model::Timestamp;
use crate::pipeline::live::{Event, InterfacePicture, LiveFinding, Picture, RulePicture};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a capture may try to smuggle into a page.
pub(super) const HOSTILE: &str = "</script><img src=x onerror=alert(1)>\"'&\u{202e}\n";

const AT: Timestamp = Timestamp(1_767_695_551_004_512_345);

fn row(number: u32, state: CoverageState) -> RulePicture {
    let coverage = Coverage {
        rule: format!("vbaz-{number:02}"),
        page: "Ports".into(),
        row: number,
        from: "Worker".into(),
        to: "Somewhere".into(),
        proto: "tcp".into(),
        ports: "443".into(),
        requirement: crate::matrix::Requirement::Required,
        state,
        why: None,
        flows: 0,
        names: Vec::new(),
        first_ts: None,
        last_ts: None,
        indistinguishable_from: Vec::new(),
    };
    let evidence = vec![EvidenceFrame { capture: "live:eth0/000001".into(), frame: 7 }];
    RulePicture { coverage, worked: 0, blocked: 0, evidence }
}

fn finding(number: u64) -> Arc<LiveFinding> {
    let code = Code::ALL[number as usize % Code::ALL.len()];
    Arc::new(LiveFinding {
        number,
        event: Event::Appeared,
        at: AT,
        warm_up: false,
        open: 1,
        finding: Finding {
            code,
            severity: code.severity(),
            title: HOSTILE.into(),
            from: Party::default(),
            to: Party::default(),
            rules: vec!["vbaz-01".into()],
            count: 1,
            first_ts: Some(AT),
            last_ts: Some(AT),
            outcomes: vec![Outcome::Established],
            details: vec![HOSTILE.into()],
            evidence: vec![EvidenceFrame { capture: HOSTILE.into(), frame: 9 }],
            display_filter: Some("tcp.port == 443".into()),
            remedy: "Look.".into(),
        },
    })
}

/// One with so many findings.
pub(super) fn picture(findings: u64) -> Picture {
    Picture {
        serial: 1,
        began: AT,
        now: AT,
        interfaces: vec![InterfacePicture { name: HOSTILE.into(), ..InterfacePicture::default() }],
        matrix: vec![row(1, CoverageState::NotObserved), row(2, CoverageState::Observed)],
        findings: (1..=findings).rev().map(finding).collect(),
        conversations: vec![Conversation {
            from: "worker".into(),
            to: "nginx.org".into(),
            flows: 1,
            verdicts: BTreeMap::from([(Verdict::Documented, 1)]),
            outcomes: BTreeMap::from([(Outcome::Established, 1)]),
            bytes: 100,
        }],
        ..Picture::default()
    }
}

/// Counts one more for a finding.
pub(super) fn grow(picture: &mut Picture, number: u64) {
    for told in picture.findings.iter_mut().filter(|told| told.number == number) {
        let mut more = (**told).clone();
        more.finding.count += 1;
        *told = Arc::new(more);
    }
}
