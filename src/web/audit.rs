//! The picture in the shape of an audit, for programs that read audits.

use super::About;
use crate::audit::{
    Audit, CaptureQuality, CaptureSummary, Finding, SCHEMA, Timeline, Tool, Totals, Unaudited,
};
use crate::model::Timestamp;
use crate::pipeline::live::Picture;
use serde::Serialize;

/// An audit's fields, and that they are a picture.
#[derive(Serialize)]
pub(super) struct Provisional {
    /// Always true: the audit itself is made when the window ends.
    provisional: bool,
    /// The picture's.
    serial: u64,
    /// When this was so.
    at: Timestamp,
    #[serde(flatten)]
    audit: Audit,
}

const REMARKS: [&str; 2] = [
    "Provisional: this is the picture of a live run at one moment, in the shape of an audit. The audit itself is made from \
     all frames when the window ends (--out).",
    "While a run goes on these are not kept, and stand here empty or 0: inputs, timeline, service_tags; of totals conditional, \
     supplied_names, upkeep, unsolicited_flows, without_flow; of capture_quality all but drops, duplicates and last_ts. \
     Findings that only the end can tell (rules not observed, quality of captures, accepted traffic) are missing.",
];

/// What is known so far. It counts as incomplete, whatever it says: a run that goes on has not seen everything.
pub(super) fn audit(about: &About, picture: &Picture) -> Provisional {
    let remarks = REMARKS.map(str::to_owned).to_vec();
    Provisional {
        provisional: true,
        serial: picture.serial,
        at: picture.now,
        audit: shaped(about, picture, remarks),
    }
}

/// What a run that had no time to audit what it saw knows of it: what it told while it went on.
pub fn unaudited(
    about: &About,
    picture: &Picture,
    inputs: Vec<CaptureSummary>,
    unaudited: Unaudited,
) -> Audit {
    let Unaudited { frames, stretches } = unaudited;
    let mut remarks = vec![format!(
        "Not audited: {frames} frames, {stretches} stretches of conversations. The run had to end at once and had no directory to \
         leave them in (--out). What stands here is what was told while it went on: it may be wrong where later evidence explains \
         it, and what is missing here may have happened."
    )];
    if picture.serial == 0 {
        remarks.push(
            "Nothing was told while it went on (--events, --syslog and --web ask for that), so rules and findings are missing."
                .to_owned(),
        );
    }
    let mut audit = shaped(about, picture, remarks);
    if !inputs.is_empty() {
        let sum = |of: fn(&CaptureSummary) -> u64| inputs.iter().map(of).sum();
        (audit.totals.frames, audit.totals.packets) = (sum(|input| input.frames), sum(|input| input.packets));
        audit.totals.skipped.clear();
        for (reason, count) in inputs.iter().flat_map(|input| &input.skipped) {
            *audit.totals.skipped.entry(reason.clone()).or_default() += count;
        }
    }
    audit.inputs = inputs;
    audit.unaudited = Some(unaudited);
    audit
}

fn shaped(about: &About, picture: &Picture, mut remarks: Vec<String>) -> Audit {
    let standing = picture.findings.iter().filter(|told| told.finding.count > 0);
    let mut findings: Vec<Finding> = standing.map(|told| told.finding.clone()).collect();
    findings.sort_by_key(|finding| (finding.severity, finding.code, finding.first_ts));
    if picture.findings_folded > 0 {
        remarks.push(format!("{} further findings are not told one by one.", picture.findings_folded));
    }
    let stages = &picture.stages;
    Audit {
        schema: SCHEMA,
        tool: Tool::this(),
        inputs: Vec::new(),
        unreadable: Vec::new(),
        rules: about.rules.clone(),
        service_tags: None,
        further_service_tags: Vec::new(),
        site: about.site.clone(),
        remarks,
        totals: Totals {
            frames: stages.frames,
            packets: stages.packets,
            skipped: stages.skipped.clone(),
            flows: picture.totals.flows,
            verdicts: picture.totals.verdicts.clone(),
            outcomes: picture.totals.outcomes.clone(),
            findings: picture.totals.findings.clone(),
            ..Totals::default()
        },
        coverage: picture.matrix.iter().map(|row| row.coverage.clone()).collect(),
        findings,
        conversations: picture.conversations.clone(),
        timeline: Timeline::default(),
        names_quality: picture.names.clone(),
        capture_quality: CaptureQuality {
            complete: false,
            drops: super::board::lost(picture),
            duplicates: stages.duplicates,
            last_ts: picture.latest,
            ..CaptureQuality::default()
        },
        unaudited: None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn it_reads_as_an_audit_that_is_incomplete_and_leaves_out_what_was_withdrawn() {
        let mut picture = sample::picture(30);
        let mut gone = (*picture.findings[0]).clone();
        gone.finding.count = 0;
        picture.findings[0] = std::sync::Arc::new(gone);
        let text = serde_json::to_string(&audit(&About::default(), &picture)).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["provisional"], true);
        let read: Audit = serde_json::from_str(&text).unwrap();
        assert_eq!((read.findings.len(), read.incomplete()), (29, true));
        assert!(read.findings.is_sorted_by_key(|finding| finding.severity));
        assert!(read.remarks[0].starts_with("Provisional"));
        assert_eq!(read.coverage.len(), picture.matrix.len());
    }

    #[test]
    fn what_was_not_audited_is_counted_and_never_well() {
        let not = Unaudited { frames: 70_000, stretches: 60_000 };
        let nothing = unaudited(&About::default(), &Picture::default(), Vec::new(), not);
        let told = unaudited(&About::default(), &sample::picture(3), Vec::new(), not);
        for audit in [nothing, told] {
            assert!(audit.incomplete());
            let text = crate::report::markdown(&audit);
            assert!(
                text.contains("Not audited: 70,000 frames (60,000 stretches of conversations)"),
                "{text}"
            );
            assert!(!text.contains("Nothing to report"), "{text}");
            assert!(crate::report::html(&audit).contains("Not audited"));
            assert!(crate::report::junit(&audit).contains("not-audited"));
            let read: Audit = serde_json::from_str(&serde_json::to_string(&audit).unwrap()).unwrap();
            assert_eq!(read.unaudited, Some(not));
        }
    }
}
