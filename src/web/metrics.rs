//! The picture as numbers for Prometheus: text format 0.0.4. Values of labels come from lists that a capture cannot lengthen:
//! devices, rules, and the words of this program.

use super::board::Board;
use super::health::Health;
use crate::audit::{CoverageState, Severity, Verdict};
use crate::flow::Outcome;
use crate::model::Timestamp;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The content type of what [`metrics`] gives.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Reasons for skipped frames that are told one by one; they are words of this program, and fewer.
const MOST_REASONS: usize = 100;

/// How the page itself does.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Own {
    /// Connections open now.
    pub connections: usize,
    /// Of these, those that follow the run.
    pub followers: usize,
    /// Connections refused since there were too many.
    pub refused: u64,
}

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
}

struct Text(String);

impl Text {
    /// Everything of one name: help and type, then the samples.
    fn family(&mut self, kind: Kind, name: &str, help: &str, samples: &[(Vec<(&str, &str)>, f64)]) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        // Writing to a String does not fail.
        let _ = writeln!(self.0, "# HELP portproof_{name} {help}\n# TYPE portproof_{name} {kind}");
        for (labels, value) in samples {
            let labels: Vec<String> =
                labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let _ = writeln!(self.0, "portproof_{name}{labels} {value}");
        }
    }

    fn one(&mut self, kind: Kind, name: &str, help: &str, value: f64) {
        self.family(kind, name, help, &[(Vec::new(), value)]);
    }
}

/// A label's value: backslash, quote and line feed are the ones that the format escapes.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn seconds(at: Timestamp) -> f64 {
    // To the millisecond: 64 bits of floating point hold that exactly enough.
    at.0.div_euclid(1_000_000) as f64 / 1e3
}

/// Everything.
pub(super) fn metrics(board: &Board, health: &Health, own: Own) -> String {
    use Kind::{Counter, Gauge};
    let picture = board.picture();
    let stages = &picture.stages;
    let mut text = Text(String::with_capacity(32 << 10));
    let yes = |is: bool| f64::from(u8::from(is));
    let version = [(vec![("version", env!("CARGO_PKG_VERSION"))], 1.0)];
    text.family(Gauge, "build_info", "Version of the program; always 1.", &version);
    text.one(Gauge, "healthy", "1 if /healthz says ok, 0 if it says degraded.", yes(health.is_well()));
    text.one(Gauge, "run_began_timestamp_seconds", "When the run began.", seconds(picture.began));
    text.one(Gauge, "picture_timestamp_seconds", "When what is told here was so.", seconds(picture.now));
    text.one(Counter, "pictures_total", "How often what is told here was renewed.", picture.serial as f64);
    let latest = picture.latest.map_or(0.0, seconds);
    text.one(
        Gauge,
        "latest_frame_timestamp_seconds",
        "Time of the latest frame; 0 before the first.",
        latest,
    );
    text.one(
        Gauge,
        "warm_up",
        "1 while the run is so young that names may have been learnt before it began.",
        yes(picture.warm_up),
    );

    let counts = |name: &'static str, help: &'static str| (name, help);
    let interfaces = [
        (
            counts(
                "received",
                "Frames that passed the filter, by the kernel's count, dropped ones among them.",
            ),
            0,
        ),
        (counts("kernel_dropped", "Frames that the kernel dropped since the ring was full."), 1),
        (counts("device_dropped", "Frames that the device or its driver dropped."), 2),
        (counts("taken", "Frames taken from the ring."), 3),
    ];
    for ((name, help), which) in interfaces {
        let samples: Vec<_> = picture
            .interfaces
            .iter()
            .map(|interface| {
                let counts = &interface.counts;
                let value = [counts.received, counts.dropped, counts.interface_dropped, counts.taken][which];
                (vec![("interface", interface.name.as_str())], value as f64)
            })
            .collect();
        text.family(Counter, &format!("interface_{name}_frames_total"), help, &samples);
    }
    let each = |value: fn(&crate::pipeline::live::InterfacePicture) -> u64| -> Vec<_> {
        let interfaces = picture.interfaces.iter();
        interfaces.map(|one| (vec![("interface", one.name.as_str())], value(one) as f64)).collect()
    };
    let full = each(|one| one.counts.full);
    text.family(Counter, "interface_queue_full_total", "Times that frames had to wait in the ring.", &full);
    let gaps = each(|one| one.counts.gaps);
    text.family(Counter, "interface_gaps_total", "Times that the device went away.", &gaps);
    let away = each(|one| u64::from(one.counts.away));
    text.family(Gauge, "interface_away", "1 while the device is away.", &away);

    text.one(Counter, "offered_frames_total", "Frames that the devices offered.", stages.offered as f64);
    text.one(Counter, "frames_total", "Frames looked at.", stages.frames as f64);
    text.one(Counter, "captured_bytes_total", "Bytes captured of them.", stages.bytes as f64);
    text.one(Counter, "packets_total", "Frames that gave a packet.", stages.packets as f64);
    let lost: Vec<_> = [
        ("kernel", stages.kernel_dropped),
        ("interface", stages.interface_dropped),
        ("save", stages.unsaved),
    ]
    .map(|(stage, count)| (vec![("stage", stage)], count as f64))
    .into();
    text.family(Counter, "lost_frames_total", "Frames lost, by stage; those not saved were judged.", &lost);
    let refused = "What cannot be written at present: packets, segments, the journal.";
    text.one(Gauge, "refused_files", refused, stages.refused.len() as f64);
    let skipped: Vec<_> = stages
        .skipped
        .iter()
        .take(MOST_REASONS)
        .map(|(reason, count)| (vec![("reason", reason.as_str())], *count as f64))
        .collect();
    text.family(Counter, "skipped_frames_total", "Frames that gave no packet, by reason.", &skipped);
    text.one(
        Counter,
        "duplicate_frames_total",
        "Copies of packets that another device had shown.",
        stages.duplicates as f64,
    );
    text.one(Gauge, "waiting_frames", "Frames on their way from the kernel.", stages.waiting as f64);
    text.one(Gauge, "open_conversations", "Conversations open now.", stages.open as f64);
    text.one(Gauge, "most_open_conversations", "Conversations that may be open.", stages.capacity as f64);
    let unlooked = "Conversations that changed and wait to be judged.";
    text.one(Gauge, "waiting_conversations", unlooked, stages.unlooked as f64);
    let emergency = "1 while conversations stay open for a shorter time, since too many are open.";
    text.one(Gauge, "emergency", emergency, yes(stages.emergency));
    text.one(Counter, "emergencies_total", "How often that began.", stages.emergencies as f64);
    let kept = "Bytes that flows and names of the window take in memory, about.";
    text.one(Gauge, "window_bytes", kept, stages.kept_bytes as f64);
    let most = "Bytes that they may take: with more, the window ends early.";
    text.one(Gauge, "most_window_bytes", most, stages.most_kept_bytes as f64);
    let cut: Vec<_> = [
        ("evicted", stages.evicted),
        ("hurried", stages.hurried),
        ("unfollowed", stages.unfollowed),
        ("forgotten", stages.forgotten),
    ]
    .map(|(reason, count)| (vec![("reason", reason)], count as f64))
    .into();
    text.family(
        Counter,
        "unfollowed_conversations_total",
        "Conversations cut or not followed live, by reason; the audit has them.",
        &cut,
    );
    text.one(Counter, "acknowledgements_total", "Acknowledgements of data.", stages.acknowledgements as f64);
    text.one(
        Counter,
        "unseen_acknowledgements_total",
        "Acknowledgements of data that was not seen: frames that nobody counted are missing.",
        stages.unseen_acknowledged as f64,
    );
    text.one(
        Gauge,
        "frames_per_second",
        "Frames a second, over the last stretch.",
        picture.frames_per_second,
    );
    let bytes = picture.bits_per_second / 8.0;
    text.one(Gauge, "bytes_per_second", "Bytes a second, over the last stretch.", bytes);

    let totals = &picture.totals;
    text.one(Gauge, "flows", "Flows as they stand; later evidence may move them.", totals.flows as f64);
    let verdicts = words(&totals.verdicts, &Verdict::ALL, "verdict", Verdict::as_str);
    text.family(Gauge, "flows_by_verdict", "Flows by verdict.", &verdicts);
    let outcomes: Vec<Outcome> = totals.outcomes.keys().copied().collect();
    let outcomes = words(&totals.outcomes, &outcomes, "outcome", Outcome::as_str);
    text.family(Gauge, "flows_by_outcome", "Flows by outcome.", &outcomes);
    let severities = [Severity::High, Severity::Medium, Severity::Note];
    let findings = words(&totals.findings, &severities, "severity", Severity::as_str);
    text.family(Gauge, "findings", "Findings that stand, by severity.", &findings);
    text.one(
        Counter,
        "findings_folded_total",
        "Findings not told one by one.",
        picture.findings_folded as f64,
    );

    let states = STATES.iter().flat_map(|state| {
        picture.matrix.iter().map(move |row| {
            let labels = vec![("rule", row.coverage.rule.as_str()), ("state", state.as_str())];
            (labels, f64::from(u8::from(row.coverage.state == *state)))
        })
    });
    text.family(Gauge, "rule_state", "1 for the state that a rule is in.", &states.collect::<Vec<_>>());
    let row = |value: fn(&crate::pipeline::live::RulePicture) -> u64| -> Vec<_> {
        let rows = picture.matrix.iter();
        rows.map(|row| (vec![("rule", row.coverage.rule.as_str())], value(row) as f64)).collect()
    };
    let flows = row(|row| row.coverage.flows);
    text.family(Gauge, "rule_flows", "Flows that a rule documents.", &flows);
    let blocked = row(|row| row.blocked);
    text.family(Gauge, "rule_blocked_flows", "Of these, those that were blocked.", &blocked);

    let names = &picture.names.messages;
    let dns: Vec<_> = [
        ("queries", names.queries),
        ("unanswered", names.unanswered),
        ("responses", names.responses),
        ("unmatched", names.unmatched),
        ("untrusted", names.untrusted),
        ("contested", names.contested),
    ]
    .map(|(kind, count)| (vec![("kind", kind)], count as f64))
    .into();
    text.family(Gauge, "dns_messages", "DNS messages that names rest on, by kind; kinds overlap.", &dns);

    text.one(Gauge, "web_connections", "Connections to this page.", own.connections as f64);
    text.one(Gauge, "web_followers", "Of these, those that follow the run.", own.followers as f64);
    text.one(
        Counter,
        "web_refused_connections_total",
        "Connections refused since there were too many.",
        own.refused as f64,
    );
    text.0
}

const STATES: [CoverageState; 6] = [
    CoverageState::Observed,
    CoverageState::Blocked,
    CoverageState::Intermittent,
    CoverageState::NotObserved,
    CoverageState::NotObservable,
    CoverageState::NotApplicable,
];

fn words<'l, K: Ord + Copy>(
    counts: &BTreeMap<K, u64>,
    all: &[K],
    label: &'l str,
    word: fn(K) -> &'static str,
) -> Vec<(Vec<(&'l str, &'l str)>, f64)> {
    let count = |key: &K| counts.get(key).copied().unwrap_or_default() as f64;
    all.iter().map(|key| (vec![(label, word(*key))], count(key))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use std::time::Instant;

    /// Reads the text format as strictly as Prometheus documents it, and as promtool asks for on top: help and type before
    /// samples, once; a name's samples together; no sample twice; counters end in `_total`, and nothing else does.
    fn read(text: &str) -> Result<BTreeMap<String, f64>, String> {
        let name_is_fine = |name: &str| {
            let letter = |c: char| c.is_ascii_alphabetic() || c == '_' || c == ':';
            name.starts_with(letter) && name.chars().all(|c| letter(c) || c.is_ascii_digit())
        };
        if !text.ends_with('\n') {
            return Err("the last line does not end".into());
        }
        let (mut samples, mut seen, mut current) = (BTreeMap::new(), BTreeSet::new(), String::new());
        let mut helped = String::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').ok_or(format!("no help: {line}"))?;
                if !name_is_fine(name) || help.trim().is_empty() {
                    return Err(format!("help: {line}"));
                }
                helped = name.to_owned();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').ok_or(format!("no type: {line}"))?;
                if name != helped || !["counter", "gauge"].contains(&kind) {
                    return Err(format!("type without help, or of no kind: {line}"));
                }
                if (kind == "counter") != name.ends_with("_total") {
                    return Err(format!("counters end in _total, and only they: {line}"));
                }
                if !seen.insert(name.to_owned()) {
                    return Err(format!("twice: {line}"));
                }
                current = name.to_owned();
            } else {
                let end = line.find(['{', ' ']).ok_or(format!("no sample: {line}"))?;
                let (name, mut rest) = line.split_at(end);
                if name != current {
                    return Err(format!("apart from its type: {line}"));
                }
                let mut labels = BTreeSet::new();
                if let Some(inside) = rest.strip_prefix('{') {
                    let mut left = inside;
                    loop {
                        let (label, after) = left.split_once("=\"").ok_or(format!("label: {line}"))?;
                        if !name_is_fine(label) || label.contains(':') || !labels.insert(label.to_owned()) {
                            return Err(format!("label: {line}"));
                        }
                        let mut escape = false;
                        let close = after.char_indices().find(|&(_, c)| {
                            let ends = c == '"' && !escape;
                            escape = c == '\\' && !escape;
                            ends
                        });
                        let (close, _) = close.ok_or(format!("label without end: {line}"))?;
                        left = &after[close + 1..];
                        match left.split_at(1) {
                            (",", more) => left = more,
                            ("}", more) => break rest = more,
                            _ => return Err(format!("after a label: {line}")),
                        }
                    }
                }
                let value = rest.strip_prefix(' ').ok_or(format!("no value: {line}"))?;
                let value: f64 = value.parse().map_err(|_| format!("value: {line}"))?;
                let series = line.rsplit_once(' ').map_or(line, |(series, _)| series);
                if samples.insert(series.to_owned(), value).is_some() {
                    return Err(format!("twice: {line}"));
                }
            }
        }
        Ok(samples)
    }

    fn told(picture: crate::pipeline::live::Picture) -> String {
        let mut board = Board::default();
        board.take(Arc::new(picture));
        let now = Instant::now();
        metrics(&board, &Health::of(&board, now, now), Own::default())
    }

    #[test]
    fn they_are_read_by_a_strict_reader_whatever_a_device_is_called() {
        let mut picture = sample::picture(3);
        picture.interfaces[0].name = "e\"0\\\nportproof_flows 7".into();
        picture.interfaces[0].counts.received = 12;
        picture.stages.skipped = BTreeMap::from([("arp".into(), 4)]);
        let samples = read(&told(picture)).unwrap();
        let device =
            "portproof_interface_received_frames_total{interface=\"e\\\"0\\\\\\nportproof_flows 7\"}";
        assert_eq!(samples.get(device), Some(&12.0), "{samples:#?}");
        assert_eq!(samples["portproof_skipped_frames_total{reason=\"arp\"}"], 4.0);
        assert_eq!(samples["portproof_rule_state{rule=\"vbaz-02\",state=\"observed\"}"], 1.0);
        assert_eq!(samples["portproof_rule_state{rule=\"vbaz-02\",state=\"blocked\"}"], 0.0);
        assert_eq!(samples["portproof_findings{severity=\"high\"}"], 0.0);
        assert_eq!(samples["portproof_run_began_timestamp_seconds"], 1_767_695_551.004);
        assert!(read(&told(crate::pipeline::live::Picture::default())).is_ok());
    }

    #[test]
    fn their_number_does_not_depend_on_what_captures_say() {
        let few = read(&told(sample::picture(1))).unwrap().len();
        let mut picture = sample::picture(5_000);
        picture.stages.skipped = (0..5_000).map(|n| (format!("reason-{n}"), n)).collect();
        assert!(read(&told(picture)).unwrap().len() <= few + MOST_REASONS);
    }

    #[test]
    fn the_strict_reader_is_strict() {
        for (wrong, why) in [
            ("a 1\n", "apart from its type"),
            ("# TYPE a gauge\na 1\n", "type without help"),
            ("# HELP a x\n# TYPE a gauge\na 1", "does not end"),
            ("# HELP a x\n# TYPE a gauge\na{b=\"c\"d} 1\n", "after a label"),
            ("# HELP a x\n# TYPE a gauge\na{b=\"c\\\"} 1\n", "label without end"),
            ("# HELP a x\n# TYPE a gauge\na 1\na 1\n", "twice"),
            ("# HELP a x\n# TYPE a counter\na 1\n", "counters end in _total"),
            ("# HELP a x\n# TYPE a gauge\na one\n", "value"),
            ("# HELP a x\n# TYPE a gauge\na{0=\"c\"} 1\n", "label"),
        ] {
            let error = read(wrong).expect_err(wrong);
            assert!(error.contains(why), "{wrong}: {error}");
        }
    }
}
