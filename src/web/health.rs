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
    past: Past,
}

/// What was lost since the run began. That alone makes no run unwell: it cannot be mended.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Past {
    /// Frames that the kernel or a device dropped.
    lost_frames: u64,
    /// Frames that were judged, and stand in no file.
    unsaved_frames: u64,
    /// How often a device went away.
    gaps: u64,
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
        reasons.extend(picture.stages.refused.iter().map(ToString::to_string));
        for notice in &picture.notices {
            if let Notice::Ended { interface, problem } = notice {
                reasons.push(format!("{interface}: gives no frames any more: {problem}"));
            }
        }
        reasons.dedup();
        let stages = &picture.stages;
        let past = Past {
            lost_frames: stages.kernel_dropped + stages.interface_dropped,
            unsaved_frames: stages.unsaved,
            gaps: picture.interfaces.iter().map(|interface| interface.counts.gaps).sum(),
        };
        Health { state: if reasons.is_empty() { "ok" } else { "degraded" }, reasons, past }
    }

    pub(super) fn is_well(&self) -> bool {
        self.reasons.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use crate::pipeline::live::Problem;
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
        let refused = |picture: &mut crate::pipeline::live::Picture| {
            picture.stages.refused = vec![Problem { path: "/out/x".into(), problem: "full".into() }];
        };
        assert_eq!(health(refused, 0), "/out/x: full");
    }

    #[test]
    fn what_was_lost_in_the_past_is_told_by_a_run_that_is_well() {
        let mut picture = sample::picture(1);
        (picture.stages.kernel_dropped, picture.stages.interface_dropped) = (5, 2);
        (picture.stages.unsaved, picture.interfaces[0].counts.gaps) = (3, 1);
        picture.notices.push(Notice::Unwritten { path: "/out/x".into(), problem: "full".into() });
        picture.notices.push(Notice::Written { at: picture.now, path: "/out/x".into() });
        picture.ended = true;
        let mut board = Board::default();
        board.take(Arc::new(picture));
        let now = Instant::now();
        let health = Health::of(&board, now, now + LOSS_IS_NEWS);
        let told = serde_json::to_value(&health).unwrap();
        let past = serde_json::json!({ "lost_frames": 7, "unsaved_frames": 3, "gaps": 1 });
        assert_eq!((&told["state"], &told["past"]), (&"ok".into(), &past), "{told}");
    }

    #[test]
    fn a_run_that_never_shows_anything_is_unwell() {
        let began = Instant::now();
        assert!(Health::of(&Board::default(), began, began).is_well());
        assert!(!Health::of(&Board::default(), began, began + STALE).is_well());
    }
}
