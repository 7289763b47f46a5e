//! What happens, told as it happens: JSON lines, and messages to a local syslog. Whoever reads slowly makes nobody wait;
//! what is then not told is counted.

use super::files::Problem;
use super::picture::{LiveFinding, Picture};
use crate::audit::Severity;
use crate::model::Timestamp;
use serde::Serialize;
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;

/// Events that wait to be told, at the most.
const WAITING: usize = 4096;

/// Something that whoever runs it should know while it goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Notice {
    /// The run began.
    Began {
        /// When.
        at: Timestamp,
        /// The devices.
        interfaces: Vec<String>,
    },
    /// A device went away, and is waited for.
    Gone {
        /// Its name.
        interface: String,
        /// Since when.
        since: Timestamp,
        /// What libpcap says.
        problem: String,
    },
    /// It is back.
    Back {
        /// Its name.
        interface: String,
        /// Since when.
        since: Timestamp,
    },
    /// A device gives no frames any more.
    Ended {
        /// Its name.
        interface: String,
        /// Why.
        problem: String,
    },
    /// Frames were lost.
    Loss {
        /// When that was noticed.
        at: Timestamp,
        /// Where.
        interface: String,
        /// Frames that the kernel dropped since the last such notice.
        kernel_dropped: u64,
        /// Frames that the device dropped since the last such notice.
        interface_dropped: u64,
    },
    /// A segment is written.
    Segment {
        /// Its number.
        number: u64,
        /// Its frames.
        frames: u64,
        /// The digest of its line in the chain.
        digest: String,
    },
    /// Segments of an earlier run stand in the directory: nothing was seen since.
    Gap {
        /// The latest frame before.
        since: Option<Timestamp>,
        /// When this run began.
        until: Timestamp,
        /// Whether the earlier run ended unexpectedly.
        unexpected: bool,
        /// Whether what it had not finished was recovered.
        recovered: bool,
    },
    /// The table of open conversations is so full that they stay open for a shorter time from now on. No frame is lost by
    /// that, and the audit says the same.
    Emergency {
        /// When.
        at: Timestamp,
        /// Conversations open then.
        open: u64,
        /// Conversations that may be open.
        capacity: u64,
    },
    /// That is over.
    EmergencyOver {
        /// When.
        at: Timestamp,
        /// Conversations cut early only since it was so.
        hurried: u64,
        /// Conversations cut all the same, since the table was full.
        evicted: u64,
    },
    /// Conversations came faster than they can be looked at in time: what is found in them, the audit tells.
    Unfollowed {
        /// When.
        at: Timestamp,
        /// How many, since the last such notice.
        conversations: u64,
    },
    /// A window ends early, since its flows and names take too much memory.
    WindowFull {
        /// When.
        at: Timestamp,
        /// Its number.
        number: u64,
        /// What they take, bytes.
        bytes: u64,
        /// What they may take, bytes.
        most: u64,
    },
    /// Something cannot be written.
    Unwritten {
        /// Which file.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// What could not be written can be again.
    Written {
        /// When.
        at: Timestamp,
        /// Which file could not be.
        path: String,
    },
    /// Frames were seen and judged, and stand in no file: told when something can be written again, or at the end.
    Unsaved {
        /// When.
        at: Timestamp,
        /// Which file could not be written first.
        path: String,
        /// How many.
        frames: u64,
    },
    /// What an earlier run did not audit is audited.
    Late {
        /// When.
        at: Timestamp,
        /// The segments.
        segments: Vec<u64>,
        /// Where the audit is.
        directory: String,
    },
    /// Rules and site were read again.
    Reloaded {
        /// When.
        at: Timestamp,
        /// What is wrong with them, so that those from before stay in force.
        refused: Vec<String>,
    },
    /// A window was audited.
    Window {
        /// Its number.
        number: u64,
        /// The exit code that it would have given.
        exit_code: u8,
    },
    /// The run ends.
    Ending {
        /// When.
        at: Timestamp,
    },
    /// The run had to end before all that was seen was audited.
    Unaudited {
        /// When.
        at: Timestamp,
        /// Frames that were seen and not audited.
        frames: u64,
        /// Stretches of conversations that they gave.
        stretches: u64,
        /// Those of the frames whose rows are in no segment of the directory.
        unwritten: u64,
    },
}

impl From<Problem> for Notice {
    fn from(problem: Problem) -> Self {
        Notice::Unwritten { path: problem.path, problem: problem.problem }
    }
}

/// Where events are told.
#[derive(Clone, Debug, Default)]
pub struct EventOptions {
    /// A file for JSON lines; `-` for standard output.
    pub lines: Option<String>,
    /// The socket of a local syslog.
    pub syslog: Option<PathBuf>,
}

enum Told {
    Finding(Arc<LiveFinding>),
    Notice(Notice),
    /// Somebody waits until everything before is where it is told.
    Flush(SyncSender<()>),
}

/// What is written while a run goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// Frames.
    Packets,
    /// Rows of segments, and the chain.
    Segments,
    /// The journal of the segment at hand.
    Journal,
    /// Lines of events.
    Events,
}

/// Where threads hand in what happens.
#[derive(Clone)]
pub(super) struct Outlet {
    events: Option<SyncSender<Told>>,
    notices: UnboundedSender<Notice>,
    recent: Arc<Mutex<VecDeque<Notice>>>,
    untold: Arc<AtomicU64>,
    /// What cannot be written at present, and why.
    refused: Arc<Mutex<BTreeMap<Part, Problem>>>,
}

impl Outlet {
    pub(super) fn notice(&self, notice: Notice) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() >= Picture::MOST_NOTICES {
            recent.pop_front();
        }
        recent.push_back(notice.clone());
        drop(recent);
        self.tell(Told::Notice(notice.clone()));
        // Whoever is told may be gone already: then the run is ending.
        let _ = self.notices.send(notice);
    }

    /// Tells of a finding: where many are told at once, waits for room until then.
    pub(super) fn finding(&self, finding: &Arc<LiveFinding>, until: Instant) {
        if !self.tell_by(Told::Finding(Arc::clone(finding)), until) {
            self.untold.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until everything that was told before is where it is told, for so long.
    pub(super) fn flush(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let (tell, told) = sync_channel(1);
        if self.tell_by(Told::Flush(tell), until) {
            // Who does not read by then is not waited for.
            let _ = told.recv_timeout(until.saturating_duration_since(Instant::now()));
        }
    }

    /// As [`Outlet::notice`] for what must not be lost behind a flood of findings: waits for room, for so long.
    pub(super) fn notice_within(&self, notice: Notice, patience: Duration) {
        if !self.tell_by(Told::Notice(notice), Instant::now() + patience) {
            self.untold.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether there was room by then.
    fn tell_by(&self, mut told: Told, until: Instant) -> bool {
        let Some(events) = &self.events else { return true };
        loop {
            match events.try_send(told) {
                Ok(()) => return true,
                Err(TrySendError::Full(back)) if Instant::now() < until => told = back,
                Err(_) => return false,
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub(super) fn recent(&self) -> Vec<Notice> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// A part cannot be written. Told once, until it can be again.
    pub(super) fn refuses(&self, part: Part, problem: Problem) {
        let before =
            self.refused.lock().unwrap_or_else(PoisonError::into_inner).insert(part, problem.clone());
        if before.is_none() {
            self.notice(problem.into());
        }
    }

    /// A part is written.
    pub(super) fn takes(&self, part: Part) {
        let before = self.refused.lock().unwrap_or_else(PoisonError::into_inner).remove(&part);
        if let Some(Problem { path, .. }) = before {
            self.notice(Notice::Written { at: crate::capture::live::now(), path });
        }
    }

    /// What cannot be written at present.
    pub(super) fn refused(&self) -> Vec<Problem> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn tell(&self, told: Told) {
        let Some(events) = &self.events else { return };
        if events.try_send(told).is_err() {
            self.untold.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Where events go, open.
pub(super) struct Sinks {
    lines: Option<Lines>,
    syslog: Option<Syslog>,
}

/// How long after a refusal lines are tried again.
const TRIED_AFTER: Duration = Duration::from_secs(2);

/// Events as JSON lines.
struct Lines {
    path: String,
    out: Box<dyn Write + Send>,
    /// Since when, if the last was refused; and how many are not written since.
    refused: Option<Instant>,
    unwritten: u64,
}

impl Sinks {
    pub(super) fn open(options: &EventOptions) -> Result<Sinks, Problem> {
        let lines = match &options.lines {
            None => None,
            Some(path) if path == "-" => {
                let out: Box<dyn Write + Send> = Box::new(io::stdout());
                Some(Lines { path: "standard output".to_owned(), out, refused: None, unwritten: 0 })
            }
            Some(path) => {
                let file = OpenOptions::new().create(true).append(true).open(path);
                let file = file.map_err(|error| Problem::new(Path::new(path), "cannot be opened", &error))?;
                let out: Box<dyn Write + Send> = Box::new(file);
                Some(Lines { path: path.clone(), out, refused: None, unwritten: 0 })
            }
        };
        let syslog = options.syslog.as_deref().map(Syslog::open).transpose()?;
        Ok(Sinks { lines, syslog })
    }

    /// The file descriptor of the syslog's socket.
    pub(super) fn syslog(&self) -> Option<i32> {
        self.syslog.as_ref().map(|syslog| syslog.socket.as_raw_fd())
    }

    /// Starts the thread that tells, if there is anybody to tell.
    pub(super) fn start(
        self,
        notices: UnboundedSender<Notice>,
    ) -> io::Result<(Outlet, Option<JoinHandle<()>>)> {
        let (recent, untold, refused) = (Arc::default(), Arc::default(), Arc::default());
        // Of what befalls the lines themselves, all others are told.
        let own = Outlet { events: None, notices, recent, untold, refused };
        if self.lines.is_none() && self.syslog.is_none() {
            return Ok((own, None));
        }
        let (events, told) = sync_channel(WAITING);
        let outlet = Outlet { events: Some(events), ..own.clone() };
        let thread = thread::Builder::new().name("events".to_owned()).spawn(move || self.run(&told, &own))?;
        Ok((outlet, Some(thread)))
    }

    fn run(mut self, told: &Receiver<Told>, own: &Outlet) {
        loop {
            match told.recv_timeout(Duration::from_millis(200)) {
                Ok(event) => {
                    self.tell(&event, own);
                    for event in told.try_iter().take(WAITING) {
                        self.tell(&event, own);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.try_again(own);
            let missing = own.untold.swap(0, Ordering::Relaxed);
            if missing > 0 {
                self.line(&untold(missing), own);
            }
            self.flush(own);
        }
    }

    fn tell(&mut self, event: &Told, own: &Outlet) {
        if self.lines.is_some() {
            #[derive(Serialize)]
            struct Line<'e, T> {
                r#type: &'static str,
                #[serde(flatten)]
                event: &'e T,
            }
            match event {
                Told::Finding(finding) => {
                    self.line(&Line { r#type: "event", event: &**finding }, own);
                }
                Told::Notice(notice) => self.line(&Line { r#type: "event", event: notice }, own),
                Told::Flush(_) => {}
            }
        }
        if let Some(syslog) = &mut self.syslog {
            match event {
                Told::Finding(finding) => syslog.finding(finding),
                Told::Notice(notice) => syslog.notice(notice),
                Told::Flush(_) => {}
            }
        }
        if let Told::Flush(done) = event {
            self.flush(own);
            // Who asked may have given up.
            let _ = done.try_send(());
        }
    }

    fn line(&mut self, value: &impl Serialize, own: &Outlet) {
        let Some(lines) = &mut self.lines else { return };
        if lines.refused.is_some() {
            lines.unwritten += 1;
            return;
        }
        let mut text = serde_json::to_vec(value).unwrap_or_default();
        text.push(b'\n');
        let written = lines.out.write_all(&text);
        self.check(written, 1, own);
    }

    /// After a while without, whether lines can be written again: then the first says how many are missing.
    fn try_again(&mut self, own: &Outlet) {
        let Some(lines) = &mut self.lines else { return };
        if lines.refused.is_some_and(|since| since.elapsed() >= TRIED_AFTER) {
            // The last that was tried may have been cut off.
            let written = lines.out.write_all(format!("\n{}\n", untold(lines.unwritten)).as_bytes());
            self.check(written, 0, own);
        }
    }

    fn flush(&mut self, own: &Outlet) {
        let Some(lines) = self.lines.as_mut().filter(|lines| lines.refused.is_none()) else { return };
        let flushed = lines.out.flush();
        self.check(flushed, 0, own);
    }

    /// What became of so many lines. Those of a sink that fails are counted, and it is tried again.
    fn check(&mut self, written: io::Result<()>, count: u64, own: &Outlet) {
        let Some(lines) = &mut self.lines else { return };
        match written {
            Ok(()) => {
                if lines.refused.take().is_some() {
                    lines.unwritten = 0;
                    own.takes(Part::Events);
                }
            }
            // A reader of standard output that went away has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.lines = None,
            Err(error) => {
                lines.refused = Some(Instant::now());
                lines.unwritten += count;
                own.refuses(Part::Events, Problem::new(Path::new(&lines.path), "cannot be written", &error));
            }
        }
    }
}

/// So many events were told nobody.
fn untold(events: u64) -> serde_json::Value {
    json!({"type": "event", "event": "untold", "events": events})
}

/// Messages as RFC 5424 has them, to a local socket.
struct Syslog {
    path: PathBuf,
    socket: UnixDatagram,
    host: String,
    /// Messages that could not be sent since the last that could.
    unsent: u64,
}

/// Facility 3, system daemons (RFC 5424 section 6.2.1).
const FACILITY: u8 = 3;

/// Bytes of a message, at the most: what every syslog should take is 2,048 (RFC 5424 section 6.1).
const MOST_BYTES: usize = 2048;

/// The private enterprise number of examples (RFC 5612): portproof has none of its own.
const STRUCTURE: &str = "portproof@32473";

impl Syslog {
    fn open(path: &Path) -> Result<Syslog, Problem> {
        let told = |error| Problem::new(path, "no syslog socket that can be written to", &error);
        let socket = UnixDatagram::unbound().map_err(told)?;
        socket.connect(path).map_err(told)?;
        // Its queue is short (ten messages, unless told otherwise), so a moment of patience is due; more, and all others wait.
        socket.set_write_timeout(Some(Duration::from_millis(200))).map_err(told)?;
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host: String = host.trim().chars().filter(char::is_ascii_graphic).take(255).collect();
        let host = if host.is_empty() { "-".to_owned() } else { host };
        Ok(Syslog { path: path.to_owned(), socket, host, unsent: 0 })
    }

    fn finding(&mut self, told: &LiveFinding) {
        let finding = &told.finding;
        let severity = match finding.severity {
            Severity::High => 4,
            Severity::Medium => 5,
            Severity::Note => 6,
        };
        let from = finding.from.ip.map(|ip| ip.to_string()).unwrap_or_default();
        let to = finding.to.name.as_ref().map(ToString::to_string);
        let to = to.or(finding.to.ip.map(|ip| ip.to_string())).unwrap_or_default();
        let count = finding.count.to_string();
        let fields = [
            ("event", told.event.as_str()),
            ("code", finding.code.as_str()),
            ("from", &from),
            ("to", &to),
            ("count", &count),
        ];
        let text = format!(
            "{} {}: {}{}",
            finding.code,
            told.event.as_str(),
            finding.title,
            if told.warm_up { " (warm-up)" } else { "" }
        );
        self.send(severity, told.at, "finding", &fields, &text);
    }

    fn notice(&mut self, notice: &Notice) {
        let value = serde_json::to_value(notice).unwrap_or_default();
        let event = value["event"].as_str().unwrap_or_default().to_owned();
        let severity = match notice {
            Notice::Gone { .. } | Notice::Ended { .. } | Notice::Loss { .. } | Notice::Unwritten { .. } => 4,
            Notice::Unsaved { .. } | Notice::Unaudited { .. } => 4,
            Notice::Gap { .. }
            | Notice::Emergency { .. }
            | Notice::Unfollowed { .. }
            | Notice::WindowFull { .. } => 5,
            Notice::Began { .. }
            | Notice::Back { .. }
            | Notice::Segment { .. }
            | Notice::Written { .. }
            | Notice::Reloaded { .. }
            | Notice::Window { .. }
            | Notice::EmergencyOver { .. }
            | Notice::Late { .. }
            | Notice::Ending { .. } => 6,
        };
        let at = crate::capture::live::now();
        self.send(severity, at, "run", &[("event", &event)], &value.to_string());
    }

    fn send(&mut self, severity: u8, at: Timestamp, kind: &str, fields: &[(&str, &str)], text: &str) {
        let message = message(&self.host, severity, at, kind, fields, text);
        let sent = self.socket.send(message.as_bytes()).or_else(|error| {
            if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) {
                return Err(error);
            }
            // A syslog that was restarted has another socket under the same name.
            self.socket.connect(&self.path).and_then(|()| self.socket.send(message.as_bytes()))
        });
        if sent.is_err() {
            self.unsent += 1;
        } else if self.unsent > 0 {
            let count = std::mem::take(&mut self.unsent).to_string();
            let text = format!("{count} messages could not be sent");
            self.send(4, at, "run", &[("event", "unsent"), ("count", &count)], &text);
        }
    }
}

/// One message of RFC 5424. Nothing of what it says can end it or begin another.
fn message(
    host: &str,
    severity: u8,
    at: Timestamp,
    kind: &str,
    fields: &[(&str, &str)],
    text: &str,
) -> String {
    let priority = FACILITY * 8 + severity;
    let process = std::process::id();
    let time = micros(at);
    let mut line = format!("<{priority}>1 {time} {host} portproof {process} {kind} [{STRUCTURE}");
    for (name, value) in fields {
        let value: String = value.chars().filter(|c| !c.is_control()).take(200).collect();
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace(']', "\\]");
        line.push_str(&format!(" {name}=\"{value}\""));
    }
    // The mark says that what follows is UTF-8.
    line.push_str("] \u{feff}");
    let room = MOST_BYTES.saturating_sub(line.len());
    let mut text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    while text.len() > room {
        text.pop();
    }
    line + &text
}

/// A time as RFC 5424 section 6.2.3 has it: no more than microseconds.
fn micros(at: Timestamp) -> String {
    let text = at.to_string();
    match text.split_once('.') {
        Some((seconds, fraction)) if fraction.len() > 7 => {
            format!("{seconds}.{}Z", fraction.get(..6).unwrap_or_default())
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_syslog_message_is_one_line_whatever_it_says() {
        let at = Timestamp(1_767_695_551_004_512_345);
        let line = message("host", 4, at, "finding", &[("to", "a\"b]c\\d\n")], "x\n<1>1 forged \u{1b}[2J");
        let process = std::process::id();
        let expected = format!(
            "<28>1 2026-01-06T10:32:31.004512Z host portproof {process} finding \
             [portproof@32473 to=\"a\\\"b\\]c\\\\d\"] \u{feff}x <1>1 forged  [2J"
        );
        assert_eq!(line, expected);
        assert!(message("h", 4, at, "run", &[], &"ä".repeat(5_000)).len() <= MOST_BYTES);
    }
}
