//! Whether the run is well, and if not, why.

use super::board::Board;
use crate::pipeline::live::Notice;
use serde::Serialize;
use std::time::{Duration, Instant};

/// A run that shows nothing new for so long hangs: pictures come about once a second, and one takes some seconds at the
/// most under the heaviest load.
const STALE: Duration = Duration::from_secs(15);

/// For so long a loss of frames is news.
const LOSS_IS_NEWS: Duration = Duration::from_secs(300);

/// How the run is.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Health {
    state: &'static str,
    reasons: Vec<String>,
}

impl Health {
    /// Of a run that is shown since `began`.
    pub(super) fn of(board: &Board, began: Instant, now: Instant) -> Health {
        let (picture, mut reasons) = (board.picture(), Vec::new());
        let silent = now.saturating_duration_since(board.arrived().unwrap_or(began));
        if silent >= STALE && !picture.ended {
            reasons.push(format!("nothing new was shown for {} s: the run may hang", silent.as_secs()));
        }
        for interface in picture.interfaces.iter().filter(|interface| interface.counts.away) {
            reasons.push(format!("{}: away, and waited for", interface.name));
        }
        if let Some(at) = board.lost_at() {
            let since = now.saturating_duration_since(at);
            if since < LOSS_IS_NEWS {
                reasons.push(format!(
                    "frames were lost {} s ago: the machine does not keep up",
                    since.as_secs()
                ));
            }
        }
        if picture.stages.unsaved > 0 {
            reasons.push(format!("{} frames were seen, and could not be saved", picture.stages.unsaved));
        }
        for notice in &picture.notices {
            match notice {
                Notice::Unwritten { path, problem } => reasons.push(format!("{path}: {problem}")),
                Notice::Ended { interface, problem } => {
                    reasons.push(format!("{interface}: gives no frames any more: {problem}"));
                }
                _ => {}
            }
        }
        reasons.dedup();
        Health { state: if reasons.is_empty() { "ok" } else { "degraded" }, reasons }
    }

    pub(super) fn is_well(&self) -> bool {
        self.reasons.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_run_is_unwell_for_reasons_that_are_told() {
        let began = Instant::now();
        let health = |change: fn(&mut crate::pipeline::live::Picture), later: u64| {
            let mut board = Board::default();
            let mut picture = sample::picture(1);
            board.take(Arc::new(picture.clone()));
            picture.serial += 1;
            change(&mut picture);
            board.take(Arc::new(picture));
            Health::of(&board, began, Instant::now() + Duration::from_secs(later)).reasons.join("; ")
        };
        assert_eq!(health(|_| {}, 0), "");
        assert!(health(|_| {}, 20).starts_with("nothing new was shown for "), "{}", health(|_| {}, 20));
        assert_eq!(health(|picture| picture.ended = true, 20), "", "a run that has ended is silent");
        assert!(
            health(|picture| picture.interfaces[0].counts.away = true, 0).ends_with(": away, and waited for")
        );
        assert!(health(|picture| picture.stages.kernel_dropped = 5, 0).contains("frames were lost"));
        assert!(!health(|picture| picture.stages.kernel_dropped = 5, 301).contains("frames were lost"));
        assert!(health(|picture| picture.stages.unsaved = 5, 0).contains("5 frames were seen"));
        let unwritten = |picture: &mut crate::pipeline::live::Picture| {
            let notice = Notice::Unwritten { path: "/out/x".into(), problem: "full".into() };
            picture.notices.push(notice);
        };
        assert_eq!(health(unwritten, 0), "/out/x: full");
    }

    #[test]
    fn a_run_that_never_shows_anything_is_unwell() {
        let began = Instant::now();
        assert!(Health::of(&Board::default(), began, began).is_well());
        assert!(!Health::of(&Board::default(), began, began + STALE).is_well());
    }
}
