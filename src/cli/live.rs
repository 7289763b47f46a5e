//! A live run: opens everything, watches until it is to end, then audits what was seen.

use super::manager::Manager;
use super::plan::{LivePlan, Output, Policy, WebPlan, jobs, policy};
use super::progress::Progress;
use super::run::{INCOMPLETE, audit_at_any_rate};
use super::voice::{results, say};
use super::{Refusal, sandbox, stop};
use crate::audit::SiteUsed;
use crate::capture::live::{self, now};
use crate::pipeline::Extracted;
use crate::pipeline::live::{Notice, Opened, Running, Window};
use crate::verdict::packs_used;
use crate::web::{About, Listening, Serving};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

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
    let manager = Manager::of_environment();
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
    let mut watching = Watching {
        running,
        manager,
        policy: loaded,
        reload: &|| policy(&policy_args),
        output,
        progress,
        code: 0,
        incomplete: false,
        serving,
    };
    runtime.block_on(watching.until_the_end(duration))?;
    if let Some(serving) = watching.serving.take() {
        serving.finish();
    }
    let code = if watching.incomplete { worse(watching.code, INCOMPLETE) } else { watching.code };
    progress.done();
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
    manager: Manager,
    policy: Arc<Policy>,
    reload: &'a dyn Fn() -> Result<Policy, Refusal>,
    output: Output,
    progress: &'a Progress,
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
                        // What happened is told before what it comes to.
                        self.running.join();
                        while let Ok(notice) = self.running.notices.try_recv() {
                            self.notice(&notice);
                        }
                        self.say_what_was_lost();
                        // From here on a signal does what it does to a program that takes no notice of it.
                        self.running.end();
                        stop::on_signals(self.running.stop());
                        return self.window(window);
                    }
                    self.window(window)?;
                }
                Some(notice) = self.running.notices.recv() => self.notice(&notice),
                _ = interrupt.recv() => self.stopped(),
                _ = terminate.recv() => self.stopped(),
                _ = hang_up.recv() => self.read_policy_again(),
                _ = watchdog.tick(), if patience.is_some() => self.manager.tell("WATCHDOG=1\n"),
                () = &mut end, if !over => {
                    over = true;
                    self.running.end();
                }
            }
        }
    }

    fn stopped(&mut self) {
        self.manager.tell("STOPPING=1\n");
        self.running.notice(Notice::Ending { at: now() });
        if self.running.stop().swap(true, Ordering::Relaxed) {
            // A second one is obeyed at once, as by a program that takes no notice of signals.
            let _ = signal_hook::low_level::emulate_default_handler(signal_hook::consts::SIGTERM);
        }
        // While what was seen is audited, too.
        stop::on_signals(self.running.stop());
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
                say(&format!("{path}: {problem}: what should be there is lost; the run goes on"));
            }
            Notice::Loss { interface, kernel_dropped, interface_dropped, .. } => {
                let lost = kernel_dropped + interface_dropped;
                say(&format!("{interface}: {lost} frames were lost: the machine does not keep up (see -B)"));
            }
            Notice::Gap { since, until, recovered } => {
                let since = since.map(|since| format!(" since {since}")).unwrap_or_default();
                let how =
                    if *recovered { "ended unexpectedly, and what it left was recovered" } else { "ended" };
                say(&format!("an earlier run {how}: nothing was seen{since} until {until}"));
            }
            Notice::Began { .. }
            | Notice::Segment { .. }
            | Notice::Reloaded { .. }
            | Notice::Window { .. }
            | Notice::Ending { .. } => {}
        }
    }

    /// Of each device: what it offered, and where that went.
    fn say_what_was_lost(&self) {
        for meter in &self.running.meters {
            let counts = meter.read();
            let unread = counts.received.saturating_sub(counts.dropped + counts.taken);
            say(&format!(
                "{}: {} frames taken, {} dropped by the kernel, {} by the device, {unread} not read any more",
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

    /// Audits a window.
    fn window(&mut self, window: Window) -> Result<(), Refusal> {
        let mut output = self.output.clone();
        if let Some(out) = output.out.as_mut().filter(|_| !window.last) {
            let directory = Path::new(out).join(format!("window-{:04}", window.number));
            *out = directory.to_string_lossy().into_owned();
            if let Err(error) = std::fs::create_dir_all(&directory) {
                self.incomplete = true;
                say(&format!("{out}: cannot be made: {error}"));
                output.out = None;
            }
        }
        let extracted = Extracted { captures: window.captures, unreadable: Vec::new(), jobs: jobs(None) };
        match audit_at_any_rate(extracted, &self.policy, &output, self.progress) {
            Ok(code) => {
                self.code = worse(self.code, code);
                self.running.notice(Notice::Window { number: window.number, exit_code: code });
            }
            // The last audit is what was asked for; one before it may fail, and the run goes on.
            Err(refusal) if window.last => return Err(refusal),
            Err(refusal) => {
                self.incomplete = true;
                refusal.lines.iter().for_each(|line| say(line));
            }
        }
        Ok(())
    }
}
