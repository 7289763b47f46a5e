//! Runs the program over a scene and compares.

use super::Scene;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the program said and did.
pub struct Run {
    /// The lines of `--format jsonl`, parsed.
    pub lines: Vec<Value>,
    pub stdout: String,
    pub stderr: String,
    pub code: i32,
}

/// An empty directory for one scene's files.
pub fn workshop(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("scenes").join(name);
    if dir.exists() {
        std::fs::remove_dir_all(&dir).expect("the scene's old directory can be removed");
    }
    std::fs::create_dir_all(&dir).expect("the scene's directory can be made");
    dir
}

/// Writes the scene's files into `dir` and audits them there, with `more` arguments at the end.
pub fn run(scene: &Scene, dir: &Path, more: &[&str]) -> Run {
    let write =
        |name: &str, bytes: &[u8]| std::fs::write(dir.join(name), bytes).expect("a file can be written");
    write("site.toml", scene.site_toml().as_bytes());
    let mut command = Command::new(env!("CARGO_BIN_EXE_portproof"));
    command.current_dir(dir).arg("audit").stdin(Stdio::null());
    for file in scene.files() {
        if let Some(bytes) = &file.bytes {
            write(&file.name, bytes);
        }
        if scene.layout.on_stdin {
            let input = std::fs::File::open(dir.join(&file.name)).expect("the capture was written");
            command.arg("-").stdin(input);
        } else {
            command.arg(&file.name);
        }
    }
    command.args(["--site", "site.toml", "--format", "jsonl"]).args(&scene.arguments).args(more);
    let output = command.output().expect("portproof starts");
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    Run {
        lines: stdout.lines().map(|line| serde_json::from_str(line).unwrap_or(Value::Null)).collect(),
        stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        code: output.status.code().unwrap_or(-1),
    }
}

/// Plays one scene; panics with all that differs from what it expects.
pub fn play(name: &str, build: fn(&mut Scene)) {
    let mut scene = Scene::new();
    build(&mut scene);
    let dir = workshop(name);
    let came = run(&scene, &dir, &[]);
    let mut problems = scene.differences(&came.lines, came.code, &came.stderr);
    if came.code != 2 {
        broken_promises(&came, &mut problems);
    }
    if problems.is_empty() {
        return;
    }
    let mut report = format!("\nscene   {}\nfiles   {}\n", name.replace('_', " "), dir.display());
    problems.iter().for_each(|problem| report.push_str(&format!("  *     {problem}\n")));
    report.push_str(&digest(&came));
    panic!("{report}");
}

/// What every audit promises, whatever the scene (CONTRACT.md, laws 4 and 7).
fn broken_promises(came: &Run, problems: &mut Vec<String>) {
    const ORDER: [&str; 5] = ["capture", "flow", "finding", "coverage", "audit"];
    let mut furthest = 0;
    for (index, line) in came.lines.iter().enumerate() {
        match ORDER.iter().position(|kind| line["type"] == *kind) {
            None => {
                let text = came.stdout.lines().nth(index).unwrap_or_default();
                problems.push(format!("line {}: no object of a known type: {:.80}", index + 1, text));
            }
            Some(place) if place < furthest => {
                problems.push(format!("line {}: {} after {}", index + 1, ORDER[place], ORDER[furthest]));
            }
            Some(place) => furthest = place,
        }
    }
    match came.lines.last().filter(|line| line["type"] == "audit") {
        None => problems.push("the last line is no audit".to_string()),
        Some(audit) if audit["exit_code"] != came.code => {
            problems
                .push(format!("the audit says exit code {}, the process {}", audit["exit_code"], came.code));
        }
        Some(_) => {}
    }
    let mut frames = BTreeMap::new();
    for capture in came.lines.iter().filter(|line| line["type"] == "capture") {
        let count = capture["frames"].as_u64().unwrap_or(0);
        let skipped: u64 =
            capture["skipped"].as_object().into_iter().flatten().filter_map(|(_, n)| n.as_u64()).sum();
        let packets = capture["packets"].as_u64().unwrap_or(0);
        if count != packets + skipped {
            problems.push(format!(
                "capture {}: {count} frames are not {packets} packets and {skipped} skipped",
                capture["path"]
            ));
        }
        frames.insert(capture["path"].as_str().unwrap_or_default().to_string(), count);
    }
    for finding in came.lines.iter().filter(|line| line["type"] == "finding") {
        let evidence = finding["evidence"].as_array().map(Vec::as_slice).unwrap_or_default();
        if evidence.len() > 20 {
            problems.push(format!("finding {}: {} evidence frames", finding["code"], evidence.len()));
        }
        for item in evidence {
            let frame = item["frame"].as_u64().unwrap_or(0);
            let count =
                item["capture"].as_str().and_then(|capture| frames.get(capture)).copied().unwrap_or(0);
            if frame == 0 || frame > count {
                problems.push(format!("finding {}: there is no frame {item}", finding["code"]));
            }
        }
    }
    let times: Vec<&str> = came
        .lines
        .iter()
        .filter(|line| line["type"] == "flow")
        .map(|line| line["first_ts"].as_str().unwrap_or_default())
        .collect();
    if !times.is_sorted() {
        problems.push("flows do not come in order of first_ts".to_string());
    }
}

/// What came, a line a row.
fn digest(came: &Run) -> String {
    let text = |value: &Value| match value {
        Value::Null => "-".to_string(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            let items: Vec<_> = items.iter().filter_map(Value::as_str).collect();
            if items.is_empty() { "-".to_string() } else { items.join("+") }
        }
        other => other.to_string(),
    };
    let mut out = String::new();
    for line in &came.lines {
        match line["type"].as_str() {
            Some("capture") => out.push_str(&format!(
                "capture {} frames {} packets {} skipped {} duplicates {} end {}\n",
                text(&line["path"]),
                line["frames"],
                line["packets"],
                line["skipped"],
                line["duplicates"],
                line["end"]
            )),
            Some("flow") => {
                let names = line["names"].as_array().map(Vec::as_slice).unwrap_or_default();
                let names: Vec<_> = names
                    .iter()
                    .map(|name| format!("{}({})", text(&name["name"]), text(&name["source"])))
                    .collect();
                out.push_str(&format!(
                    "flow    {} {}:{} -> {}:{} by {} [{}/{}] {} | {} {} rules {} grade {} nearest {}/{} sni {} names {} | {}\n",
                    text(&line["proto"]),
                    text(&line["initiator_ip"]),
                    line["initiator_port"],
                    text(&line["responder_ip"]),
                    line["responder_port"],
                    text(&line["initiator_by"]),
                    line["packets_fwd"],
                    line["packets_rev"],
                    text(&line["outcome"]),
                    text(&line["verdict"]),
                    text(&line["missing"]),
                    text(&line["rules"]),
                    text(&line["grade"]),
                    text(&line["nearest"]["rule"]),
                    text(&line["nearest"]["differs"]),
                    text(&line["server_name"]),
                    if names.is_empty() { "-".to_string() } else { names.join("+") },
                    text(&line["findings"]),
                ));
            }
            Some("finding") if line["severity"] == "medium" || line["severity"] == "high" => {
                out.push_str(&format!(
                    "finding {} {} x{} {} -> {} {} port {}\n",
                    text(&line["severity"]),
                    text(&line["code"]),
                    line["count"],
                    text(&line["from"]["ip"]),
                    text(&line["to"]["ip"]),
                    text(&line["to"]["name"]),
                    text(&line["to"]["port"])
                ));
            }
            _ => {}
        }
    }
    out.push_str(&format!("exit    {}\n", came.code));
    came.stderr.lines().take(12).for_each(|line| out.push_str(&format!("stderr  {line}\n")));
    out
}
