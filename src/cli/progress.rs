//! How far the work has got, on standard error: bars on a terminal, JSON for machines. Nobody below has a clock; what is
//! shown here is the work's own counts ([`Watch`]) held against this room's clock.

use super::args::ProgressWord;
use super::voice::say;
use crate::capture::Intake;
use crate::pipeline::Watch;
use crate::report::printable;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Work that takes less is not worth a word on a terminal.
const SHORT: Duration = Duration::from_secs(1);

/// How often a terminal is drawn anew: as often as people can follow numbers.
const DRAWN_EVERY: Duration = Duration::from_millis(200);

/// How often machines are told.
const TOLD_EVERY: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Bars,
    Json,
    Silent,
}

/// Shows one run of the program.
#[derive(Clone)]
pub(super) struct Progress {
    manner: Manner,
    watch: Arc<Watch>,
    begun: Instant,
}

/// CPU time of the calling thread.
#[cfg(unix)]
fn cpu_clock() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    let spent = clock_gettime(ClockId::ThreadCPUTime);
    let part = u32::try_from(spent.tv_nsec).unwrap_or_default();
    Duration::new(u64::try_from(spent.tv_sec).unwrap_or_default(), part)
}

/// Where CPU time is not to be had: time.
#[cfg(not(unix))]
fn cpu_clock() -> Duration {
    static BEGUN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    BEGUN.get_or_init(Instant::now).elapsed()
}

impl Progress {
    pub(super) fn new(word: ProgressWord) -> Self {
        let dumb = || std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
        let manner = match word {
            ProgressWord::Auto if io::stderr().is_terminal() && !dumb() => Manner::Bars,
            ProgressWord::Auto | ProgressWord::None => Manner::Silent,
            ProgressWord::Json => Manner::Json,
        };
        Progress { manner, watch: Arc::new(Watch::new(cpu_clock)), begun: Instant::now() }
    }

    /// What the work is to keep its counts in.
    pub(super) fn watch(&self) -> &Arc<Watch> {
        &self.watch
    }

    /// Does the work, and shows how far it is. Once it is done nothing of that stands on the terminal any more.
    pub(super) fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        let (first, every) = match self.manner {
            Manner::Silent => return work(),
            Manner::Bars => (SHORT.saturating_sub(self.begun.elapsed()), DRAWN_EVERY),
            Manner::Json => (TOLD_EVERY, TOLD_EVERY),
        };
        let (working, done) = channel::<()>();
        thread::scope(|scope| {
            let show = move || {
                let mut wait = first.max(every);
                let mut bars = Bars::default();
                let mut lines = Lines::default();
                while done.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                    wait = every;
                    match self.manner {
                        Manner::Bars => bars.draw(&self.watch),
                        Manner::Json => lines.tell(&self.watch),
                        Manner::Silent => {}
                    }
                }
                bars.clear();
            };
            // Without a thread the work is done unseen.
            let _ = thread::Builder::new().name("progress".to_owned()).spawn_scoped(scope, show);
            // Dropped also where the work panics: whoever shows it must not be waited for then.
            let _working = working;
            work()
        })
    }

    /// Says that reading was stopped, if it was.
    pub(super) fn say_if_stopped(&self) {
        if self.watch.stopped() {
            say("interrupted: what was read so far counts; interrupted once more, it ends at once");
        }
    }

    /// Whether people look at it.
    pub(super) fn is_on_a_terminal(&self) -> bool {
        self.manner == Manner::Bars
    }

    /// A live run is over. People were told already what each device gave.
    pub(super) fn done_watching(&self, frames: u64) {
        let elapsed = self.begun.elapsed();
        if self.manner == Manner::Json {
            line(&json!({
                "type": "done",
                "frames": frames,
                "frames_per_second": rate(frames, elapsed),
                "flows": self.watch.all_flows(),
                "seconds": seconds(elapsed),
            }));
        }
    }

    /// All is done: says what it took. Digests apart, since they are no part of an audit.
    pub(super) fn done(&self) {
        let elapsed = self.begun.elapsed();
        let captures = self.watch.captures();
        let sum = |of: fn(&Intake) -> u64| captures.iter().map(|intake| of(intake)).sum::<u64>();
        let (bytes, frames) = (sum(Intake::bytes), sum(Intake::frames));
        let digesting: Duration = captures.iter().map(|intake| intake.digesting()).sum();
        match self.manner {
            Manner::Silent => {}
            Manner::Json => line(&json!({
                "type": "done",
                "captures": captures.iter().filter(|intake| intake.ended() && intake.bytes() > 0).count(),
                "bytes": bytes,
                "frames": frames,
                "frames_per_second": rate(frames, elapsed),
                "flows": self.watch.all_flows(),
                "seconds": seconds(elapsed),
                "digest_cpu_seconds": seconds(digesting),
                "interrupted": self.watch.stopped(),
            })),
            Manner::Bars if elapsed < SHORT => {}
            Manner::Bars => {
                let digest = if digesting.is_zero() {
                    String::new()
                } else {
                    format!("; SHA-256 took {:.1} s of CPU beside that", digesting.as_secs_f64())
                };
                say(&format!(
                    "{} and {} packets in {:.1} s ({} packets/s){digest}",
                    indicatif::BinaryBytes(bytes),
                    indicatif::HumanCount(frames),
                    elapsed.as_secs_f64(),
                    indicatif::HumanCount(rate(frames, elapsed)),
                ));
            }
        }
    }
}

/// To the millisecond.
fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1_000.0).round() / 1_000.0
}

fn rate(count: u64, time: Duration) -> u64 {
    (count as f64 / time.as_secs_f64().max(1e-3)).round() as u64
}

/// Seconds until `of` is reached, if it goes on as it went in `time`; none where nothing is known.
fn left(done: u64, of: Option<u64>, time: Duration) -> Option<f64> {
    let of = of.filter(|_| done > 0)?;
    Some(((of.saturating_sub(done)) as f64 / done as f64 * time.as_secs_f64()).round())
}

fn line(value: &serde_json::Value) {
    // Nobody is left to tell if this fails. One write, so that no other message comes between.
    let _ = io::stderr().lock().write_all(format!("{value}\n").as_bytes());
}

/// When each thing began, as far as could be seen. Rates are since then: a pipe that stutters keeps one that means
/// something.
struct Since {
    looked: Instant,
    /// By number: when it began, and how far it was when last looked at.
    begun: BTreeMap<usize, (Instant, u64)>,
}

/// Numbers of what is no capture.
const ALL: usize = usize::MAX;
const FLOWS: usize = usize::MAX - 1;

impl Default for Since {
    fn default() -> Self {
        Since { looked: Instant::now(), begun: BTreeMap::new() }
    }
}

impl Since {
    /// How long it has been going on. What was not there at the last look, or is less than it was, began just after that.
    fn time(&mut self, number: usize, count: u64) -> Duration {
        let begun = self.begun.entry(number).or_insert((self.looked, 0));
        if count < begun.1 {
            begun.0 = self.looked;
        }
        begun.1 = count;
        begun.0.elapsed()
    }

    fn looked(&mut self) {
        self.looked = Instant::now();
    }
}

/// What all captures come to.
struct Total {
    ended: usize,
    bytes: u64,
    size: Option<u64>,
    frames: u64,
}

fn total(captures: &[Arc<Intake>]) -> Total {
    Total {
        ended: captures.iter().filter(|intake| intake.ended()).count(),
        bytes: captures.iter().map(|intake| intake.bytes()).sum(),
        size: captures.iter().map(|intake| intake.size()).sum(),
        frames: captures.iter().map(|intake| intake.frames()).sum(),
    }
}

/// Progress for machines: one object a line.
#[derive(Default)]
struct Lines {
    since: Since,
}

impl Lines {
    fn tell(&mut self, watch: &Watch) {
        let captures = watch.captures();
        if let Some((done, of)) = watch.flows() {
            let time = self.since.time(FLOWS, done);
            line(&json!({
                "type": "progress",
                "phase": "judging",
                "flows": done,
                "of": of,
                "flows_per_second": rate(done, time),
                "eta_s": left(done, Some(of), time),
            }));
        } else if !captures.iter().all(|intake| intake.ended()) {
            let under_way = captures.iter().enumerate().filter(|(_, intake)| intake.under_way());
            for (number, intake) in under_way {
                let (bytes, frames) = (intake.bytes(), intake.frames());
                let time = self.since.time(number, bytes);
                line(&json!({
                    "type": "progress",
                    "phase": "reading",
                    "capture": intake.name(),
                    "bytes": bytes,
                    "of": intake.size(),
                    "frames": frames,
                    "frames_per_second": rate(frames, time),
                    "eta_s": left(bytes, intake.size(), time),
                }));
            }
            if captures.len() > 1 {
                let Total { ended, bytes, size, frames } = total(&captures);
                let time = self.since.time(ALL, bytes);
                line(&json!({
                    "type": "progress",
                    "phase": "reading",
                    "captures": ended,
                    "captures_of": captures.len(),
                    "bytes": bytes,
                    "of": size,
                    "frames": frames,
                    "frames_per_second": rate(frames, time),
                    "eta_s": left(bytes, size, time),
                }));
            }
        } else if !captures.is_empty() {
            line(&json!({ "type": "progress", "phase": "joining" }));
        }
        self.since.looked();
    }
}

/// Progress for people: a bar for each capture under way, and one for all.
struct Bars {
    bars: MultiProgress,
    shown: BTreeMap<usize, ProgressBar>,
    since: Since,
}

impl Default for Bars {
    fn default() -> Self {
        let target = ProgressDrawTarget::stderr_with_hz(10);
        Bars {
            bars: MultiProgress::with_draw_target(target),
            shown: BTreeMap::new(),
            since: Since::default(),
        }
    }
}

/// [`Bars`]' number for what cannot be counted.
const JOINING: usize = usize::MAX - 2;

impl Bars {
    fn draw(&mut self, watch: &Watch) {
        let captures = watch.captures();
        if let Some((done, of)) = watch.flows() {
            self.only(|number| number == FLOWS);
            let time = self.since.time(FLOWS, done);
            let speed = format!("{} flows/s", indicatif::HumanCount(rate(done, time)));
            let what =
                if watch.stopped() { "judging (interrupted once more, it ends at once)" } else { "judging" };
            self.bar(FLOWS, what, done, Some(of), &speed, time);
        } else if !captures.iter().all(|intake| intake.ended()) {
            self.only(|number| {
                number == ALL || captures.get(number).is_some_and(|intake| intake.under_way())
            });
            for (number, intake) in captures.iter().enumerate().filter(|(_, intake)| intake.under_way()) {
                let (bytes, frames) = (intake.bytes(), intake.frames());
                let time = self.since.time(number, bytes);
                let speed = format!("{} packets/s", indicatif::HumanCount(rate(frames, time)));
                self.bar(number, &printable(intake.name()), bytes, intake.size(), &speed, time);
            }
            if captures.len() > 1 {
                let Total { ended, bytes, size, frames } = total(&captures);
                let time = self.since.time(ALL, bytes);
                let speed = format!("{} packets/s", indicatif::HumanCount(rate(frames, time)));
                self.bar(ALL, &format!("{ended} of {} captures", captures.len()), bytes, size, &speed, time);
            }
        } else if !captures.is_empty() {
            self.only(|number| number == JOINING);
            let time = self.since.time(JOINING, 0);
            self.bar(JOINING, "joining what was read", 0, None, "", time);
        }
        self.since.looked();
    }

    /// Takes away all bars but these.
    fn only(&mut self, stays: impl Fn(usize) -> bool) {
        self.shown.retain(|&number, bar| {
            if !stays(number) {
                bar.finish_and_clear();
                self.bars.remove(bar);
            }
            stays(number)
        });
    }

    fn bar(&mut self, number: usize, what: &str, done: u64, of: Option<u64>, speed: &str, time: Duration) {
        let bar = self.shown.entry(number).or_insert_with(|| {
            let bar = of.map_or_else(ProgressBar::no_length, ProgressBar::new);
            // That for all stands below the others.
            let bar = if number == ALL { self.bars.add(bar) } else { self.bars.insert(0, bar) };
            let count = match (number, of) {
                (FLOWS, _) => "{human_pos}/{human_len}",
                (JOINING, _) => "",
                (_, Some(_)) => "{binary_bytes}/{binary_total_bytes}",
                (_, None) => "{binary_bytes}",
            };
            let drawn = if of.is_some() { "{bar:20} {percent:>3} % " } else { "" };
            let template = format!("{{prefix:.bold}} {drawn}{count} {{msg}}");
            if let Ok(style) = ProgressStyle::with_template(&template) {
                bar.set_style(style);
            }
            bar
        });
        let left = left(done, of, time)
            .map(|left| format!(", {} left", indicatif::FormattedDuration(Duration::from_secs_f64(left))));
        bar.set_prefix(what.to_owned());
        bar.set_message(format!("{speed}{}", left.unwrap_or_default()));
        bar.set_position(done);
    }

    fn clear(&mut self) {
        self.only(|_| false);
        // Lines that were drawn are taken away even where no bar is left.
        let _ = self.bars.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_where_the_end_is_known() {
        let time = Duration::from_secs(10);
        for (done, of, expected) in [
            (0, Some(100), None),
            (50, None, None),
            (50, Some(100), Some(10.0)),
            (25, Some(100), Some(30.0)),
            (100, Some(100), Some(0.0)),
            // A file that grew since.
            (150, Some(100), Some(0.0)),
        ] {
            assert_eq!(left(done, of, time), expected, "{done} of {of:?}");
        }
        assert_eq!(rate(50, time), 5);
        assert_eq!(rate(50, Duration::ZERO), 50_000, "no division by nothing");
    }

    #[test]
    fn what_starts_again_is_measured_from_there() {
        let mut since = Since::default();
        since.looked -= Duration::from_secs(100);
        assert!(since.time(FLOWS, 10) >= Duration::from_secs(100));
        since.looked();
        assert!(since.time(FLOWS, 20) >= Duration::from_secs(100));
        assert!(since.time(FLOWS, 5) < Duration::from_secs(50));
    }

    #[test]
    fn work_that_panics_is_not_waited_for() {
        let progress = Progress { manner: Manner::Json, watch: Arc::default(), begun: Instant::now() };
        let work = std::panic::AssertUnwindSafe(|| progress.during(|| panic!("as it happens")));
        assert!(std::panic::catch_unwind(work).is_err());
    }
}
