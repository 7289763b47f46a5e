//! A live run: opens everything, watches until it is to end, then audits what was seen.
//!
//! A thread of its own audits windows, so that watching goes on meanwhile, and so that SIGTERM ends the run in time: what is not
//! audited by then, the next run in that directory audits from the rows that were written.

use super::args::ReportFormat;
use super::notify::ServiceManager;
use super::plan::{LivePlan, Output, PartialRows, Policy, WebPlan, jobs, policy};
use super::progress::Progress;
use super::run::{INCOMPLETE, audit_at_any_rate, files, partial, render};
use super::voice::{results, say};
use super::{Refusal, sandbox, stop};
use crate::audit::{CaptureSummary, SiteUsed, Unaudited};
use crate::capture::live::{self, now};
use crate::flow::Budget;
use crate::pipeline::live::{Held, Notice, Opened, Running, Unjudged, Window};
use crate::pipeline::{ExtractOptions, Extracted, Judging};
use crate::store::Effort;
use crate::verdict::packs_used;
use crate::web::{About, Listening, Serving, unaudited};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

/// How long after SIGTERM windows are still written and audited: whoever stops a service waits for it, and a machine that goes
/// down does not wait long. The rest of two seconds is for saying what is not, and for ending: a gigabyte takes a quarter of a
/// second to be given back.
const JUDGED_WITHIN: Duration = Duration::from_millis(1300);

/// How long a report that is being printed is waited for after that.
const PRINTED_WITHIN: Duration = Duration::from_millis(150);

/// And whoever writes events.
const TOLD_WITHIN: Duration = Duration::from_millis(150);

/// Lists the network devices.
pub(super) fn interfaces() -> Result<(), Refusal> {
    let devices = live::interfaces().map_err(|error| Refusal::new(error.to_string()))?;
    if devices.is_empty() {
        return Err(Refusal::new(
            "no network device can be captured from: run as root, or with the capability CAP_NET_RAW",
        ));
    }
    let width = devices.iter().map(|device| device.name.chars().count()).max().unwrap_or_default();
    results(|out| {
        for device in &devices {
            let state = match (device.up, device.running, device.connected) {
                (false, ..) => "down",
                (true, _, Some(false)) => "not connected",
                (true, false, _) => "not running",
                (true, true, _) => "up",
            };
            let mut line = format!("{:width$}  {state:<13}", device.name);
            let addresses: Vec<String> = device.addresses.iter().map(ToString::to_string).collect();
            if !addresses.is_empty() {
                line.push_str(&format!("  {}", addresses.join(", ")));
            }
            if let Some(description) = &device.description {
                line.push_str(&format!("  ({description})"));
            }
            writeln!(out, "{}", crate::report::printable(line.trim_end()))?;
        }
        Ok(())
    })
}

pub(super) fn run(plan: LivePlan, progress: &Progress) -> Result<u8, Refusal> {
    let LivePlan { options, policy: loaded, policy_args, output, duration, no_sandbox, verbose, user, web } =
        plan;
    let (most_waiting_bytes, judges) = (options.shares.window_bytes, options.shares.judges);
    let manager = ServiceManager::of_environment();
    open_more_files();
    let loaded = Arc::new(loaded);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Refusal::new(format!("signals cannot be waited for: {error}")))?;
    // Before the devices: a stream is waited for when it is opened.
    let listening = web.map(listen).transpose()?;
    let opened = Opened::open(options).map_err(|error| Refusal::new(error.to_string()))?;
    // Every handle is open, and no thread runs yet: what is not needed any more is given up here.
    let _confined = sandbox::enter_live(&opened, &policy_args, user, no_sandbox, verbose)?;
    let running = opened
        .start(Arc::clone(&loaded))
        .map_err(|error| Refusal::new(format!("a thread that is needed cannot be started: {error}")))?;
    let serving = listening.map(|listening| listening.start(running.pictures.clone(), about(&loaded)));
    let serving =
        serving.transpose().map_err(|error| Refusal::new(format!("--web: cannot answer: {error}")))?;
    if progress.is_on_a_terminal() {
        let names: Vec<&str> = running.meters.iter().map(|meter| &*meter.name).collect();
        let end = if duration.is_some() { "the duration or Ctrl-C ends it" } else { "Ctrl-C ends it" };
        say(&format!(
            "watching {}; {end}, and the report comes then (--web shows it meanwhile, --events - tells findings as they come)",
            names.join(", ")
        ));
    }
    let gate = Arc::new(Mutex::new(false));
    let (windows, told) = channel();
    let (tell, judged) = unbounded_channel();
    let work = Judge { output: output.clone(), progress: progress.clone(), gate: Arc::clone(&gate), tell };
    let named = thread::Builder::new().name("judge".to_owned());
    named
        .spawn(move || work.run(&told))
        .map_err(|error| Refusal::new(format!("a thread that is needed cannot be started: {error}")))?;
    let late = match &output.out {
        Some(out) => judge_what_was_left(out, &loaded, &running)?,
        None => None,
    };
    let mut watching = Watching {
        running,
        manager,
        policy: loaded,
        reload: &|| policy(&policy_args),
        output,
        windows,
        judged,
        judging: Vec::new(),
        late,
        most_waiting_bytes,
        judges,
        gate,
        deadline: None,
        asked: false,
        audited: (0, 0),
        received: (0, 0),
        code: 0,
        incomplete: false,
        serving,
    };
    runtime.block_on(watching.until_the_end(duration))?;
    if let Some(serving) = watching.serving.take().filter(|_| !watching.is_late()) {
        serving.finish();
    }
    let code = if watching.incomplete { worse(watching.code, INCOMPLETE) } else { watching.code };
    progress.done_watching(watching.running.seen().frames);
    Ok(code)
}

/// Of two exit codes the one that says more: could not, incomplete, findings, nothing.
fn worse(a: u8, b: u8) -> u8 {
    let rank = |code: u8| match code {
        0 => 0,
        1 => 1,
        INCOMPLETE => 2,
        _ => 3,
    };
    if rank(b) > rank(a) { b } else { a }
}

struct Watching<'a> {
    running: Running,
    manager: ServiceManager,
    policy: Arc<Policy>,
    reload: &'a dyn Fn() -> Result<Policy, Refusal>,
    output: Output,
    windows: Sender<Job>,
    judged: UnboundedReceiver<Done>,
    /// Windows that are being audited, or wait for it.
    judging: Vec<Waiting>,
    /// Ends when what an earlier run left is audited.
    late: Option<oneshot::Receiver<()>>,
    /// Held while a report is printed; true once nobody waits for it any more.
    gate: Arc<Mutex<bool>>,
    /// What they may take in memory, bytes.
    most_waiting_bytes: usize,
    /// Threads that may audit one.
    judges: usize,
    /// When windows are no longer waited for.
    deadline: Option<Instant>,
    /// Whether somebody asked for the end already.
    asked: bool,
    /// Frames and stretches of conversations of windows that were audited; and of all windows that ended.
    audited: (u64, u64),
    received: (u64, u64),
    code: u8,
    incomplete: bool,
    serving: Option<Serving>,
}

/// Begins to listen, and says where.
fn listen(plan: WebPlan) -> Result<Listening, Refusal> {
    let listening =
        Listening::bind(plan.address, plan.token).map_err(|error| Refusal::new(error.to_string()))?;
    let address = listening.address();
    match plan.made {
        Some(token) => say(&format!("the run is shown at http://{address}/?token={token}")),
        None => say(&format!("the run is shown at http://{address}/")),
    }
    if !address.ip().is_loopback() {
        say("other machines can reach that address, and what is said there is not encrypted");
    }
    Ok(listening)
}

/// What the page says that the run is held against.
fn about(policy: &Policy) -> About {
    let site = SiteUsed { name: policy.site.name().to_owned(), sha256: policy.site.sha256().to_owned() };
    About { site, rules: packs_used(&policy.matrix), ..About::default() }
}

impl Watching<'_> {
    /// Waits for signals, windows and what else is to be said, until the last window is audited.
    async fn until_the_end(&mut self, duration: Option<Duration>) -> Result<(), Refusal> {
        let refused = |error| Refusal::new(format!("signals cannot be waited for: {error}"));
        let mut interrupt = signal(SignalKind::interrupt()).map_err(refused)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(refused)?;
        let mut hang_up = signal(SignalKind::hangup()).map_err(refused)?;
        let end = async {
            match duration {
                Some(duration) => tokio::time::sleep(duration).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(end);
        let mut over = false;
        // Twice in the time that systemd waits, as sd_watchdog_enabled(3) advises.
        let patience = self.manager.patience.map(|patience| patience / 2);
        let mut watchdog = tokio::time::interval(patience.unwrap_or(Duration::from_secs(3600)));
        self.manager.tell("READY=1\nSTATUS=watching\n");
        loop {
            tokio::select! {
                window = self.running.windows.recv() => {
                    let Some(window) = window else {
                        return Err(Refusal::new("the run ended before its last window: nothing can be audited"));
                    };
                    if window.last {
                        // Where events stand on standard output with the report, they come before it.
                        let before = self.output.format == ReportFormat::Jsonl;
                        if self.deadline.is_some() && !before {
                            // It is audited meanwhile.
                            self.window(window);
                            self.running.join(self.deadline);
                            self.say_what_happened();
                            let ended = self.wait_for_the_last(&mut interrupt, &mut terminate).await;
                            self.running.flush(TOLD_WITHIN);
                            return ended;
                        }
                        // What happened is told before what it comes to.
                        self.running.join(self.deadline);
                        self.say_what_happened();
                        self.running.flush(TOLD_WITHIN);
                        self.window(window);
                        return self.wait_for_the_last(&mut interrupt, &mut terminate).await;
                    }
                    self.window(window);
                }
                Some(done) = self.judged.recv() => self.done(done)?,
                Some(notice) = self.running.notices.recv() => self.notice(&notice),
                _ = interrupt.recv() => self.stopped(),
                _ = terminate.recv() => {
                    self.hurry();
                    self.stopped();
                }
                () = until(self.deadline) => {
                    self.say_what_happened();
                    return self.leave_the_rest();
                }
                _ = hang_up.recv() => self.read_policy_again(),
                _ = watchdog.tick(), if patience.is_some() => self.manager.tell("WATCHDOG=1\n"),
                () = &mut end, if !over => {
                    over = true;
                    self.running.end();
                }
            }
        }
    }

    /// From now on there is little time.
    fn hurry(&mut self) {
        let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + JUDGED_WITHIN);
        self.running.end_by(deadline);
    }

    fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    fn stopped(&mut self) {
        self.manager.tell("STOPPING=1\n");
        self.running.notice(Notice::Ending { at: now() });
        if self.is_told_again() {
            obey(signal_hook::consts::SIGTERM);
        }
        self.running.end();
        // While what was seen is audited, too.
        stop::on_signals(self.running.stop());
    }

    /// Notes that an end was asked for; whether it was before.
    fn is_told_again(&mut self) -> bool {
        std::mem::replace(&mut self.asked, true)
    }

    fn read_policy_again(&mut self) {
        self.manager.tell("RELOADING=1\n");
        match (self.reload)() {
            Ok(policy) => {
                self.policy = Arc::new(policy);
                self.running.set_policy(Arc::clone(&self.policy));
                if let Some(serving) = &self.serving {
                    serving.set_about(about(&self.policy));
                }
                self.running.notice(Notice::Reloaded { at: now(), refused: Vec::new() });
                say("rules and site were read again, and hold from now on");
            }
            Err(refusal) => {
                refusal.lines.iter().for_each(|line| say(line));
                self.running.notice(Notice::Reloaded { at: now(), refused: refusal.lines });
                say("rules and site cannot be read again: those from before stay in force");
            }
        }
        self.manager.tell("READY=1\n");
    }

    fn notice(&mut self, notice: &Notice) {
        match notice {
            Notice::Gone { interface, since, problem } => {
                self.incomplete = true;
                say(&format!("{interface}: gone since {since}, and waited for: {problem}"));
            }
            Notice::Back { interface, since } => say(&format!("{interface}: back since {since}")),
            Notice::Ended { interface, problem } => {
                self.incomplete = true;
                say(&format!("{interface}: gives no frames any more: {problem}"));
            }
            Notice::Unwritten { path, problem } => {
                self.incomplete = true;
                say(&format!(
                    "{path}: {problem}: the run goes on; what is not written in the end is counted"
                ));
            }
            Notice::Loss { interface, kernel_dropped, interface_dropped, .. } => {
                let lost = kernel_dropped + interface_dropped;
                say(&format!("{interface}: {lost} frames were lost: the machine does not keep up (see -B)"));
            }
            Notice::Gap { since, until, unexpected, recovered } => {
                let since = since.map(|since| format!(" since {since}")).unwrap_or_default();
                let how = if *unexpected { "ended unexpectedly" } else { "ended" };
                let left = if *recovered { ", and what it left was recovered" } else { "" };
                say(&format!("an earlier run {how}{left}: nothing was seen{since} until {until}"));
            }
            Notice::Emergency { open, capacity, .. } => say(&format!(
                "{open} of {capacity} conversations are open: they stay open for a shorter time now (see --memory-limit); \
                 nothing is lost"
            )),
            Notice::EmergencyOver { hurried, evicted, .. } => say(&format!(
                "conversations stay open as long as usual again; {hurried} were cut early meanwhile, and {evicted} since \
                 all places were taken"
            )),
            Notice::Unfollowed { conversations, .. } => say(&format!(
                "{conversations} conversations came too fast to be followed: what is found in them, the audit tells"
            )),
            Notice::WindowFull { number, bytes, most, .. } => say(&format!(
                "flows and names of window {number} take {} MiB of {}: it ends here, and is audited (see --memory-limit)",
                bytes >> 20,
                most >> 20
            )),
            Notice::Unsaved { path, frames, .. } => {
                self.incomplete = true;
                say(&format!("{path}: {frames} frames could not be written; they were judged all the same"));
            }
            Notice::Written { path, .. } => say(&format!("{path}: what could not be written can be again")),
            Notice::Unaudited { .. }
            | Notice::Late { .. }
            | Notice::Began { .. }
            | Notice::Segment { .. }
            | Notice::Reloaded { .. }
            | Notice::Window { .. }
            | Notice::Ending { .. } => {}
        }
    }

    /// What is to be said at the end, before what it comes to.
    fn say_what_happened(&mut self) {
        while let Ok(notice) = self.running.notices.try_recv() {
            self.notice(&notice);
        }
        self.say_what_was_lost();
    }

    /// Of each device: what it offered, and where that went.
    fn say_what_was_lost(&self) {
        for meter in &self.running.meters {
            let counts = meter.read();
            let unread = match counts.unread() {
                Some(unread) => unread.to_string(),
                None => "an unknown number".to_owned(),
            };
            say(&format!(
                "{}: {} frames taken, {} dropped by the kernel, {} by the device, {unread} left unread at the end",
                meter.name, counts.taken, counts.dropped, counts.interface_dropped
            ));
        }
        let stages = &self.running.pictures.borrow().stages;
        if stages.unseen_acknowledged > 0 {
            say(&format!(
                "{} of {} acknowledgements are of data that were not seen: frames are missing that nobody counted",
                stages.unseen_acknowledged, stages.acknowledgements
            ));
        }
    }

    /// Has a window audited.
    fn window(&mut self, window: Window) {
        let Window { number, last, captures, written, held } = window;
        let whole = captures.len() == written.len();
        let kept = captures.iter().map(|capture| capture.pieces.kept_bytes() + capture.dns.kept_bytes());
        let bytes: usize = kept.sum();
        let summaries: Vec<CaptureSummary> = captures.iter().map(|capture| capture.summary.clone()).collect();
        let stretches = captures.iter().map(|capture| capture.pieces.len() as u64).sum();
        let seen = (summaries.iter().map(|summary| summary.frames).sum(), stretches);
        self.received = sum(self.received, seen);
        let waiting: usize = self.judging.iter().map(|waiting| waiting.bytes).sum();
        if !last && whole && waiting > self.most_waiting_bytes && self.leave(&written) {
            // They take memory, and more of them come than can be audited.
            self.over(number);
            say(&format!("window {number} is left to the next run: too many wait to be audited"));
            self.incomplete = true;
            return;
        }
        let extracted = Extracted { captures, unreadable: Vec::new(), jobs: jobs(None).min(self.judges) };
        self.judging.push(Waiting { number, segments: written, whole, bytes, seen, summaries });
        // A thread that failed tells nothing more, which is noticed.
        let _ = self.windows.send(Job { number, last, extracted, policy: Arc::clone(&self.policy), held });
    }

    /// Leaves a window to the next run; whether that could be written down.
    fn leave(&self, segments: &[u64]) -> bool {
        let Some(out) = self.output.out.as_ref().map(Path::new) else { return false };
        let listed = Unjudged::change(out, |left| left.push(Unjudged { segments: segments.to_vec() }));
        listed.is_ok()
    }

    /// Nobody need audit a window any more, or another list says that somebody should.
    fn over(&self, number: u64) {
        if let Some(out) = &self.output.out {
            // What cannot be noted costs the next run an audit that is there already.
            let _ = Unjudged::over(Path::new(out), number);
        }
    }

    fn done(&mut self, done: Done) -> Result<(), Refusal> {
        let Done { number, last, result, lines } = done;
        for waiting in self.judging.extract_if(.., |waiting| waiting.number == number) {
            self.audited = sum(self.audited, waiting.seen);
        }
        self.incomplete |= !lines.is_empty();
        lines.iter().for_each(|line| say(line));
        match result {
            Ok(code) => {
                self.code = worse(self.code, code);
                self.over(number);
                // The report of the last window ends with its exit code, and nothing stands behind it.
                if !(last && self.output.format == ReportFormat::Jsonl) {
                    self.running.notice(Notice::Window { number, exit_code: code });
                }
            }
            // The last audit is what was asked for; one before it may fail, and the run goes on.
            Err(refusal) if last => return Err(refusal),
            Err(refusal) => {
                self.incomplete = true;
                refusal.lines.iter().for_each(|line| say(line));
            }
        }
        Ok(())
    }

    /// Waits until all windows are audited, those of an earlier run too, as long as there is time.
    async fn wait_for_the_last(
        &mut self,
        interrupt: &mut Signal,
        terminate: &mut Signal,
    ) -> Result<(), Refusal> {
        while !self.judging.is_empty() || self.late.is_some() {
            let late = async {
                match &mut self.late {
                    // Whether it is told or dropped, it is over.
                    Some(late) => drop(late.await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = late => self.late = None,
                done = self.judged.recv() => {
                    let Some(done) = done else {
                        return Err(Refusal::new("the thread that audits failed: nothing can be audited"));
                    };
                    self.done(done)?;
                }
                () = until(self.deadline) => return self.leave_the_rest(),
                // The first of them asks for the end that has just come by itself: a recorder that is interrupted together
                // with this run ends its input, too. Whoever asks again does not want the audit.
                _ = terminate.recv() => self.hurry(),
                _ = interrupt.recv() => {
                    if self.is_told_again() {
                        obey(signal_hook::consts::SIGINT);
                    }
                }
            }
        }
        Ok(())
    }

    /// From now on the thread that audits prints nothing. A report that is being printed is printed to its end, unless whoever
    /// reads it lets it wait.
    fn close_the_gate(&self) {
        let until = Instant::now() + PRINTED_WITHIN;
        loop {
            match self.gate.try_lock() {
                Ok(mut gate) => {
                    *gate = true;
                    return;
                }
                Err(TryLockError::Poisoned(gate)) => {
                    *gate.into_inner() = true;
                    return;
                }
                Err(TryLockError::WouldBlock) if Instant::now() >= until => return,
                Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    /// The time is over: what is not audited is left to the next run, and said. Without a directory there is nowhere to leave it.
    fn leave_the_rest(&mut self) -> Result<(), Refusal> {
        self.close_the_gate();
        let mut last = false;
        while let Ok(window) = self.running.windows.try_recv() {
            last |= window.last;
            self.window(window);
        }
        while let Ok(done) = self.judged.try_recv() {
            self.done(done)?;
        }
        let seen = self.running.seen();
        let (frames, stretches) =
            (seen.frames.saturating_sub(self.audited.0), seen.stretches.saturating_sub(self.audited.1));
        if self.judging.is_empty() && frames == 0 {
            return Ok(());
        }
        self.incomplete = true;
        let unwritten = self.output.out.as_ref().map_or(frames, |_| seen.frames.saturating_sub(seen.written));
        self.running.last_notice(Notice::Unaudited { at: now(), frames, stretches, unwritten }, TOLD_WITHIN);
        let Some(out) = self.output.out.clone() else {
            say(&format!(
                "{frames} frames ({stretches} stretches of conversations) are not audited: there was no time, and no directory to \
                 leave them in (--out)"
            ));
            self.running.flush(TOLD_WITHIN);
            let inputs = self.judging.drain(..).flat_map(|waiting| waiting.summaries).collect();
            let audit = unaudited(
                &about(&self.policy),
                &self.running.pictures.borrow(),
                inputs,
                Unaudited { frames, stretches },
            );
            // Rows may be standing there already.
            let printed = match self.output.format {
                ReportFormat::Jsonl | ReportFormat::Csv => Ok(()),
                _ => render(&audit, &self.output),
            };
            // Whoever writes events may have had no turn before.
            self.running.flush(TOLD_WITHIN);
            return printed;
        };
        let out = Path::new(&out);
        // What the thread was writing is nothing by itself, and nobody else takes it away.
        remove_unfinished(out);
        let (mut left, mut numbers) = (Vec::new(), Vec::new());
        for Waiting { number, segments, whole, .. } in std::mem::take(&mut self.judging) {
            let (first, last) = segments.first().zip(segments.last()).unwrap_or((&0, &0));
            let missing = if whole { "" } else { ", but for segments that could not be written" };
            say(&format!(
                "window {number} is not audited: there was no time. Its rows are in {}, segments {first} to {last}{missing}; \
                 the next run in that directory audits them, as `portproof judge` does",
                out.join("segments").display(),
            ));
            left.push(Unjudged { segments });
            numbers.push(number);
        }
        let seen_then = seen.frames.saturating_sub(self.received.0);
        if !last && seen_then > 0 {
            say(&format!(
                "{seen_then} frames since then are not audited: there was no time. The next run in {} audits them",
                out.display(),
            ));
        }
        if unwritten > 0 {
            say(&format!(
                "the rows of {unwritten} frames are in no segment: there was no time to write them; the next run takes them from {}",
                if self.running.saves() { "packets" } else { "the journals" }
            ));
        }
        self.running.flush(TOLD_WITHIN);
        Unjudged::change(out, |list| list.extend(left))
            .map_err(|problem| Refusal::new(problem.to_string()))?;
        numbers.into_iter().for_each(|number| self.over(number));
        Ok(())
    }
}

/// Waits until then; for ever, if there is no such time.
async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

fn sum(a: (u64, u64), b: (u64, u64)) -> (u64, u64) {
    (a.0 + b.0, a.1 + b.1)
}

/// Each segment of a window may have a temporary file; a long window has more of them than the 1,024 files that a program may
/// have open unless it asks for more.
#[cfg(target_os = "linux")]
fn open_more_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // With fewer, pieces stay in memory, and the window ends earlier.
    let _ = setrlimit(Resource::Nofile, limit);
}

#[cfg(not(target_os = "linux"))]
fn open_more_files() {}

/// Removes the temporary files of this process in a directory and in those of its windows.
fn remove_unfinished(out: &Path) {
    let own = format!(".{}.tmp", std::process::id());
    let entries = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten();
    let windows = entries(out).filter(|entry| entry.file_name().to_string_lossy().starts_with("window-"));
    for directory in [out.to_owned()].into_iter().chain(windows.map(|entry| entry.path())) {
        for entry in entries(&directory).filter(|entry| entry.file_name().to_string_lossy().ends_with(&own)) {
            // What cannot be removed stays, and is in nobody's way.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Does what a program does that takes no notice of a signal.
fn obey(signal: i32) {
    // What cannot be obeyed is as if it had not come.
    let _ = signal_hook::low_level::emulate_default_handler(signal);
}

/// A window that is being audited.
struct Waiting {
    number: u64,
    /// Its segments in the directory.
    segments: Vec<u64>,
    /// Whether these are all.
    whole: bool,
    /// What they take in memory.
    bytes: usize,
    /// Its frames and stretches of conversations.
    seen: (u64, u64),
    /// What its segments gave.
    summaries: Vec<CaptureSummary>,
}

/// A window to be audited.
struct Job {
    number: u64,
    last: bool,
    extracted: Extracted,
    policy: Arc<Policy>,
    held: Held,
}

/// What came of it.
struct Done {
    number: u64,
    last: bool,
    result: Result<u8, Refusal>,
    /// What could not be done beside that.
    lines: Vec<String>,
}

/// The thread that audits windows.
struct Judge {
    output: Output,
    progress: Progress,
    gate: Arc<Mutex<bool>>,
    tell: UnboundedSender<Done>,
}

impl Judge {
    fn run(self, jobs: &Receiver<Job>) {
        for Job { number, last, extracted, policy, held } in jobs {
            let (mut output, mut lines) = (self.output.clone(), Vec::new());
            if let Some(out) = output.out.as_mut().filter(|_| !last) {
                let directory = Path::new(out).join(format!("window-{number:04}"));
                *out = directory.to_string_lossy().into_owned();
                if let Err(error) = std::fs::create_dir_all(&directory) {
                    lines.push(format!("{out}: cannot be made: {error}"));
                    output.out = None;
                }
            }
            let may_print = || {
                let gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
                (!*gate).then_some(gate)
            };
            let result = audit_at_any_rate(extracted, &policy, &output, &self.progress, &may_print);
            drop(held);
            // Whoever waits for it may have ended.
            let _ = self.tell.send(Done { number, last, result, lines });
        }
    }
}

/// Audits what an earlier run left, while this one watches.
fn judge_what_was_left(
    out: &str,
    policy: &Arc<Policy>,
    running: &Running,
) -> Result<Option<oneshot::Receiver<()>>, Refusal> {
    let left = Unjudged::of(Path::new(out)).unwrap_or_else(|problem| {
        // Watching is worth more than what was not audited.
        say(&problem.to_string());
        Vec::new()
    });
    if left.is_empty() {
        return Ok(None);
    }
    let (over, late) = oneshot::channel();
    let (out, policy) = (out.to_owned(), Arc::clone(policy));
    let teller = running.teller();
    let work = move || {
        // Told by its end.
        let _over: oneshot::Sender<()> = over;
        let out = Path::new(&out);
        for window in left {
            match judge_late(out, &window, &policy) {
                Ok(directory) => {
                    let done = Unjudged::change(out, |left| left.retain(|other| *other != window));
                    if let Err(problem) = done {
                        say(&problem.to_string());
                    }
                    say(&format!("{directory}: what an earlier run did not audit is audited"));
                    teller.notice(Notice::Late { at: now(), segments: window.segments, directory });
                }
                Err(refusal) => refusal.lines.iter().for_each(|line| say(line)),
            }
        }
    };
    thread::Builder::new()
        .name("late".to_owned())
        .spawn(work)
        .map(|_| Some(late))
        .map_err(|error| Refusal::new(format!("a thread that is needed cannot be started: {error}")))
}

fn judge_late(out: &Path, window: &Unjudged, policy: &Policy) -> Result<String, Refusal> {
    let refused = |problem: crate::pipeline::live::Problem| Refusal::new(problem.to_string());
    let of = |kind| window.files(out, kind).map_err(refused);
    let rows = PartialRows {
        flows: of("flows")?,
        names: of("names")?,
        summary: of("summary")?,
        budget: Arc::new(Budget::new(ExtractOptions::PIECES_BYTES)),
        jobs: 1,
    };
    let directory = window.directory(out);
    let told = |error| Refusal::new(format!("{}: cannot be made: {error}", directory.display()));
    std::fs::create_dir_all(&directory).map_err(told)?;
    let judging = Judging::new(partial(rows)?, &policy.matrix, &policy.site)
        .map_err(|error| Refusal::new(error.to_string()))?;
    let directory = directory.to_string_lossy().into_owned();
    files(&judging, &directory, Effort::Sparing, &mut |_| Ok(()))?;
    Ok(directory)
}
