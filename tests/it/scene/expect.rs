//! What an audit ought to say of a scene, and how what it said differs.

use super::Scene;
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// What is expected of one field.
enum Check {
    Is(Value),
    OneOf(Vec<Value>),
    IsNot(Value),
    /// The field is a list that holds the value, or does not.
    Holds(Value),
    Lacks(Value),
    /// The field is a list of the values, in any order.
    Set(BTreeSet<String>),
    /// The field is a list of objects, one of which has this `name`; or it is empty.
    Named(String),
    Unnamed,
}

impl Check {
    fn fits(&self, came: &Value) -> bool {
        let list = || came.as_array().map(Vec::as_slice).unwrap_or_default();
        match self {
            Check::Is(value) => came == value,
            Check::OneOf(values) => values.contains(came),
            Check::IsNot(value) => came != value,
            Check::Holds(value) => list().contains(value),
            Check::Lacks(value) => !list().contains(value),
            Check::Set(values) => {
                list()
                    .iter()
                    .map(|item| item.as_str().unwrap_or_default().to_string())
                    .collect::<BTreeSet<_>>()
                    == *values
            }
            Check::Named(name) => list().iter().any(|item| item["name"] == name.as_str()),
            Check::Unnamed => list().is_empty(),
        }
    }

    fn describe(&self) -> String {
        match self {
            Check::Is(value) => value.to_string(),
            Check::OneOf(values) => format!("one of {}", Value::from(values.clone())),
            Check::IsNot(value) => format!("anything but {value}"),
            Check::Holds(value) => format!("a list with {value}"),
            Check::Lacks(value) => format!("a list without {value}"),
            Check::Set(values) => format!("{values:?}"),
            Check::Named(name) => format!("the name {name}"),
            Check::Unnamed => "no name".to_string(),
        }
    }
}

/// Expectations about the flow rows of one initiator, responder, port and transport.
pub struct FlowExpect {
    initiator: String,
    responder: String,
    port: Option<u16>,
    proto: &'static str,
    rows: usize,
    only: Option<usize>,
    checks: Vec<(String, Check)>,
}

/// The one TCP flow from `initiator` to `responder`'s `port`.
pub fn flow(initiator: &str, responder: &str, port: u16) -> FlowExpect {
    FlowExpect {
        initiator: initiator.to_string(),
        responder: responder.to_string(),
        port: Some(port),
        proto: "tcp",
        rows: 1,
        only: None,
        checks: Vec::new(),
    }
}

impl FlowExpect {
    /// UDP instead.
    pub fn udp(mut self) -> Self {
        self.proto = "udp";
        self
    }

    /// ICMP or ICMPv6 instead; the port is ignored.
    pub fn icmp(mut self) -> Self {
        self.proto = if self.initiator.contains(':') { "icmp6" } else { "icmp" };
        self.port = None;
        self
    }

    /// There are so many such rows; what follows is said of each.
    pub fn rows(mut self, rows: usize) -> Self {
        self.rows = rows;
        self
    }

    /// There are so many such rows; what follows is said of the one at `index`, in order of time.
    pub fn row(mut self, index: usize, rows: usize) -> Self {
        (self.only, self.rows) = (Some(index), rows);
        self
    }

    fn check(mut self, field: &str, check: Check) -> Self {
        self.checks.push((field.to_string(), check));
        self
    }

    /// `field` (a path with `/` between its steps) has this value.
    pub fn is(self, field: &str, value: impl Into<Value>) -> Self {
        self.check(field, Check::Is(value.into()))
    }

    /// `field` has one of these values.
    pub fn one_of(self, field: &str, values: &[&str]) -> Self {
        self.check(field, Check::OneOf(values.iter().map(|&value| value.into()).collect()))
    }

    /// `field` does not have this value.
    pub fn never(self, field: &str, value: impl Into<Value>) -> Self {
        self.check(field, Check::IsNot(value.into()))
    }

    pub fn outcome(self, outcome: &str) -> Self {
        self.is("outcome", outcome)
    }

    pub fn grade(self, grade: &str) -> Self {
        self.is("grade", grade)
    }

    pub fn initiator_by(self, how: &str) -> Self {
        self.is("initiator_by", how)
    }

    /// Documented by exactly these rules.
    pub fn documented(self, rules: &[&str]) -> Self {
        let rules = rules.iter().map(ToString::to_string).collect();
        self.is("verdict", "documented").is("missing", Value::Null).check("rules", Check::Set(rules))
    }

    pub fn platform(self) -> Self {
        self.is("verdict", "platform").is("missing", Value::Null)
    }

    pub fn undocumented(self) -> Self {
        self.is("verdict", "undocumented").is("missing", Value::Null)
    }

    pub fn out_of_scope(self) -> Self {
        self.is("verdict", "out-of-scope").is("missing", Value::Null)
    }

    /// Undetermined, for want of this.
    pub fn undetermined(self, missing: &str) -> Self {
        self.is("verdict", "undetermined").is("missing", missing)
    }

    /// The nearest rule, and what differs.
    pub fn nearest(self, rule: &str, differs: &str) -> Self {
        self.is("nearest/rule", rule).is("nearest/differs", differs)
    }

    /// What differs from the nearest rule, whichever it is.
    pub fn differs(self, differs: &str) -> Self {
        self.is("nearest/differs", differs)
    }

    /// Frames initiator to responder, and back.
    pub fn packets(self, forward: u64, back: u64) -> Self {
        self.is("packets_fwd", forward).is("packets_rev", back)
    }

    /// One of its names is this.
    pub fn named(self, name: &str) -> Self {
        self.check("names", Check::Named(name.to_string()))
    }

    /// It has no name at all.
    pub fn unnamed(self) -> Self {
        self.check("names", Check::Unnamed)
    }

    /// Its row carries the finding code.
    pub fn carries(self, code: &str) -> Self {
        self.check("findings", Check::Holds(code.into()))
    }

    /// Its row does not carry the finding code.
    pub fn lacks(self, code: &str) -> Self {
        self.check("findings", Check::Lacks(code.into()))
    }

    fn label(&self) -> String {
        let port = self.port.map(|port| format!(" port {port}")).unwrap_or_default();
        format!("flow {} -> {}{port} {}", self.initiator, self.responder, self.proto)
    }

    fn is_about(&self, row: &Value) -> bool {
        let same = |field: &str, text: &str| {
            let ip = |text: &str| text.parse::<IpAddr>().ok();
            row[field].as_str().is_some_and(|came| ip(came) == ip(text))
        };
        same("initiator_ip", &self.initiator)
            && same("responder_ip", &self.responder)
            && row["proto"] == self.proto
            && self.port.is_none_or(|port| row["responder_port"] == port)
    }

    fn compare(&self, flows: &[Value], problems: &mut Vec<String>) {
        let rows: Vec<&Value> = flows.iter().filter(|row| self.is_about(row)).collect();
        let label = self.label();
        if rows.len() != self.rows {
            problems.push(format!("{label}: expected {} row(s), came {}", self.rows, rows.len()));
        }
        for (index, row) in rows.iter().enumerate() {
            if self.only.is_some_and(|only| only != index) {
                continue;
            }
            for (field, check) in &self.checks {
                let came = row.pointer(&format!("/{field}")).unwrap_or(&Value::Null);
                if !check.fits(came) {
                    let which = if rows.len() > 1 { format!(" (row {index})") } else { String::new() };
                    problems
                        .push(format!("{label}{which}: {field}: expected {}, came {came}", check.describe()));
                }
            }
        }
    }
}

/// Expectations about the findings with one code.
pub struct FindingExpect {
    code: String,
    keys: Vec<(&'static str, Value)>,
    times: usize,
    frames: Option<usize>,
    checks: Vec<(&'static str, Value)>,
    told: Vec<(String, bool)>,
}

/// There is one finding with this code (and the keys that follow).
pub fn finding(code: &str) -> FindingExpect {
    FindingExpect {
        code: code.to_string(),
        keys: Vec::new(),
        times: 1,
        frames: None,
        checks: Vec::new(),
        told: Vec::new(),
    }
}

impl FindingExpect {
    /// Only those from this address.
    pub fn from(mut self, ip: &str) -> Self {
        self.keys.push(("from/ip", ip.into()));
        self
    }

    /// Only those about this destination name.
    pub fn about(mut self, name: &str) -> Self {
        self.keys.push(("to/name", name.into()));
        self
    }

    /// Only those with this title.
    pub fn titled(mut self, title: &str) -> Self {
        self.keys.push(("title", title.into()));
        self
    }

    /// There are so many.
    pub fn times(mut self, times: usize) -> Self {
        self.times = times;
        self
    }

    /// It stands for so many flows, queries or attempts.
    pub fn count(mut self, count: u64) -> Self {
        self.checks.push(("count", count.into()));
        self
    }

    pub fn severity(mut self, severity: &str) -> Self {
        self.checks.push(("severity", severity.into()));
        self
    }

    /// A field of it, by its path.
    pub fn is(mut self, path: &'static str, value: impl Into<Value>) -> Self {
        self.checks.push((path, value.into()));
        self
    }

    /// Its filter for Wireshark.
    pub fn filter(mut self, filter: &str) -> Self {
        self.checks.push(("display_filter", filter.into()));
        self
    }

    /// One of its details, or its remedy, contains `text`.
    pub fn tells(mut self, text: &str) -> Self {
        self.told.push((text.to_string(), true));
        self
    }

    /// None of them does.
    pub fn does_not_tell(mut self, text: &str) -> Self {
        self.told.push((text.to_string(), false));
        self
    }

    /// It cites so many frames, each once.
    pub fn evidence(mut self, frames: usize) -> Self {
        self.frames = Some(frames);
        self
    }

    fn compare(&self, findings: &[Value], problems: &mut Vec<String>) {
        let at = |item: &Value, path: &str| item.pointer(&format!("/{path}")).cloned().unwrap_or_default();
        let these: Vec<&Value> = findings
            .iter()
            .filter(|item| item["code"] == self.code.as_str())
            .filter(|item| self.keys.iter().all(|(path, value)| at(item, path) == *value))
            .collect();
        let keys: String = self.keys.iter().map(|(path, value)| format!(" {path} {value}")).collect();
        if these.len() != self.times {
            problems.push(format!(
                "finding {}{keys}: expected {}, came {}",
                self.code,
                self.times,
                these.len()
            ));
        }
        for item in these {
            let cited = item["evidence"].as_array().map(Vec::as_slice).unwrap_or_default();
            let frames: BTreeSet<String> = cited.iter().map(Value::to_string).collect();
            if self.frames.is_some_and(|frames| frames != cited.len()) || frames.len() != cited.len() {
                problems.push(format!(
                    "finding {}{keys}: evidence: expected {:?} frames, each once, came {cited:?}",
                    self.code, self.frames
                ));
            }
            for (text, wanted) in &self.told {
                let lines = item["details"].as_array().into_iter().flatten().chain([&item["remedy"]]);
                let told = lines.filter_map(Value::as_str).any(|line| line.contains(text.as_str()));
                if told != *wanted {
                    let should = if *wanted { "should tell" } else { "should not tell" };
                    problems
                        .push(format!("finding {}{keys}: {should} {text:?}: {}", self.code, item["details"]));
                }
            }
            for (path, value) in &self.checks {
                let came = at(item, path);
                if came != *value {
                    problems
                        .push(format!("finding {}{keys}: {path}: expected {value}, came {came}", self.code));
                }
            }
        }
    }
}

/// All that is expected of one scene's audit.
#[derive(Default)]
pub struct Expectations {
    flows: Vec<FlowExpect>,
    findings: Option<BTreeSet<String>>,
    optional: BTreeSet<String>,
    details: Vec<FindingExpect>,
    coverage: Vec<(String, String)>,
    coverage_why: Vec<(String, String)>,
    coverage_names: Vec<(String, Value)>,
    captures: Vec<(String, String, Check)>,
    exit: Option<Vec<i32>>,
    said: Vec<String>,
    audit: Vec<(String, Check)>,
    remarks: Vec<String>,
}

impl Scene {
    /// Expects this of the flow rows.
    pub fn expect(&mut self, flow: FlowExpect) -> &mut Self {
        self.expect.flows.push(flow);
        self
    }

    /// Expects exactly these codes among findings of severity medium and above. Unless [`Scene::exit`] says otherwise,
    /// the exit code is 1 if there are any, else 0.
    pub fn findings(&mut self, codes: &[&str]) -> &mut Self {
        self.expect.findings = Some(codes.iter().map(ToString::to_string).collect());
        self
    }

    /// These codes may come as well: SEMANTICS.md leaves it open.
    pub fn perhaps(&mut self, codes: &[&str]) -> &mut Self {
        self.expect.optional.extend(codes.iter().map(ToString::to_string));
        self
    }

    /// Expects this of findings, notes among them.
    pub fn expect_finding(&mut self, finding: FindingExpect) -> &mut Self {
        self.expect.details.push(finding);
        self
    }

    /// Expects the rule's coverage to be `state`.
    pub fn coverage(&mut self, rule: &str, state: &str) -> &mut Self {
        self.expect.coverage.push((rule.to_string(), state.to_string()));
        self
    }

    /// Expects the `why` of the rule's coverage to contain `text`.
    pub fn coverage_why(&mut self, rule: &str, text: &str) -> &mut Self {
        self.expect.coverage_why.push((rule.to_string(), text.to_string()));
        self
    }

    /// Expects these names among the destinations of a rule.
    pub fn coverage_names(&mut self, rule: &str, names: &[&str]) -> &mut Self {
        self.expect.coverage_names.push((rule.to_string(), names.into()));
        self
    }

    /// Expects a field of the summary of the capture `file`.
    pub fn capture(&mut self, file: &str, field: &str, value: impl Into<Value>) -> &mut Self {
        self.expect.captures.push((file.to_string(), field.to_string(), Check::Is(value.into())));
        self
    }

    /// Expects a field of the summary of the capture `file` to differ from `value`.
    pub fn capture_not(&mut self, file: &str, field: &str, value: impl Into<Value>) -> &mut Self {
        self.expect.captures.push((file.to_string(), field.to_string(), Check::IsNot(value.into())));
        self
    }

    /// Expects a field of the audit itself.
    pub fn audit(&mut self, field: &str, value: impl Into<Value>) -> &mut Self {
        self.expect.audit.push((field.to_string(), Check::Is(value.into())));
        self
    }

    /// Expects `text` in what the reader is told before the findings.
    pub fn remarks(&mut self, text: &str) -> &mut Self {
        self.expect.remarks.push(text.to_string());
        self
    }

    /// Expects this exit code.
    pub fn exit(&mut self, code: i32) -> &mut Self {
        self.exit_either(&[code])
    }

    /// Expects one of these exit codes.
    pub fn exit_either(&mut self, codes: &[i32]) -> &mut Self {
        self.expect.exit = Some(codes.to_vec());
        self
    }

    /// Expects the messages on standard error to contain `text`.
    pub fn says(&mut self, text: &str) -> &mut Self {
        self.expect.said.push(text.to_string());
        self
    }

    /// Compares with what came: one line for each difference.
    pub(super) fn differences(&self, lines: &[Value], code: i32, stderr: &str) -> Vec<String> {
        let expect = &self.expect;
        let mut problems = Vec::new();
        let of_type =
            |kind: &str| lines.iter().filter(|line| line["type"] == kind).cloned().collect::<Vec<_>>();
        let (flows, findings) = (of_type("flow"), of_type("finding"));
        let (captures, coverage) = (of_type("capture"), of_type("coverage"));
        expect.flows.iter().for_each(|flow| flow.compare(&flows, &mut problems));

        let came: BTreeSet<String> = findings
            .iter()
            .filter(|item| item["severity"] == "medium" || item["severity"] == "high")
            .filter_map(|item| item["code"].as_str().map(str::to_string))
            .collect();
        if let Some(expected) = &expect.findings {
            let missing: Vec<_> = expected.difference(&came).collect();
            let surplus: Vec<_> =
                came.difference(expected).filter(|code| !expect.optional.contains(*code)).collect();
            if !missing.is_empty() || !surplus.is_empty() {
                problems.push(format!(
                    "findings: expected {expected:?}, came {came:?} (missing {missing:?}, surplus {surplus:?})"
                ));
            }
        }
        expect.details.iter().for_each(|finding| finding.compare(&findings, &mut problems));

        for (rule, state) in &expect.coverage {
            let came = coverage.iter().find(|item| item["rule"] == rule.as_str());
            let came = came.and_then(|item| item["state"].as_str()).unwrap_or("no line");
            if came != state {
                problems.push(format!("coverage of {rule}: expected {state:?}, came {came:?}"));
            }
        }
        for (rule, text) in &expect.coverage_why {
            let line = coverage.iter().find(|item| item["rule"] == rule.as_str());
            let why = line.and_then(|item| item["why"].as_str()).unwrap_or("nothing");
            if !why.contains(text.as_str()) {
                problems.push(format!("coverage of {rule}: why: expected {text:?} in it, came {why:?}"));
            }
        }
        for (rule, names) in &expect.coverage_names {
            let line = coverage.iter().find(|item| item["rule"] == rule.as_str());
            let came = line.map(|item| &item["names"]);
            if came != Some(names) {
                problems.push(format!("coverage of {rule}: names: expected {names}, came {came:?}"));
            }
        }
        for (file, field, check) in &expect.captures {
            let line =
                captures.iter().find(|line| line["path"].as_str().is_some_and(|path| path.ends_with(file)));
            let came = line.and_then(|line| line.pointer(&format!("/{field}")).cloned()).unwrap_or_default();
            if !check.fits(&came) {
                problems.push(format!("capture {file}: {field}: expected {}, came {came}", check.describe()));
            }
        }

        let audit = lines.iter().find(|line| line["type"] == "audit").cloned().unwrap_or_default();
        for (field, check) in &expect.audit {
            let came = audit.pointer(&format!("/{field}")).cloned().unwrap_or_default();
            if !check.fits(&came) {
                problems.push(format!("audit: {field}: expected {}, came {came}", check.describe()));
            }
        }
        for text in &expect.remarks {
            let mut remarks = audit["remarks"].as_array().into_iter().flatten().filter_map(Value::as_str);
            if !remarks.any(|remark| remark.contains(text.as_str())) {
                problems.push(format!("remarks: expected {text:?} in one of {}", audit["remarks"]));
            }
        }

        let implied = || expect.findings.as_ref().map(|codes| vec![i32::from(!codes.is_empty())]);
        if let Some(exit) = expect.exit.clone().or_else(implied)
            && !exit.contains(&code)
        {
            problems.push(format!("exit code: expected {exit:?}, came {code}"));
        }
        for text in &expect.said {
            if !stderr.contains(text.as_str()) {
                problems.push(format!("standard error: expected {text:?} in it"));
            }
        }
        problems
    }
}
