//! What changed of open conversations since somebody looked: for whoever follows them while frames come.

use super::open::{At, Open};
use super::packed::{Hellos, pack, unpack_in_full};
use super::partial::PartialFlow;
use crate::model::CaptureId;

/// Stretches that ended since somebody looked, at the most: 16,384, some 4 MiB. A flood ends more in a second, and who
/// follows it sees a part of it; the audit sees all.
const MOST_OVER: usize = 1 << 14;

/// A stretch of a conversation as it stands, packed: many wait to be followed, and are followed.
#[derive(Clone, Debug)]
pub struct Stretch {
    /// The frame with which it began: no other stretch of the capture has the same.
    pub serial: u64,
    /// Whether nothing is added to it any more.
    pub over: bool,
    packed: Box<[u8]>,
    /// What its hellos say; most have none.
    hellos: Option<Box<Hellos>>,
}

impl Stretch {
    /// What it shows, as one of this capture; none if that is nothing.
    pub fn flow(&self, capture: CaptureId) -> Option<PartialFlow> {
        let nothing = Hellos::default();
        let hellos = self.hellos.as_deref().unwrap_or(&nothing);
        let mut flow = PartialFlow::nothing();
        unpack_in_full(&self.packed, hellos, capture.into(), &mut flow)?;
        Some(flow)
    }

    /// Bytes that it takes in memory, about.
    pub fn bytes(&self) -> usize {
        // A hello, its name and its lists; and what an allocator adds.
        const HELLO: usize = 512;
        const ADDED: usize = 16;
        size_of::<Stretch>() + self.packed.len() + ADDED + if self.hellos.is_some() { HELLO } else { 0 }
    }
}

/// What changed.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Places of stretches that were added to, in the order in which that began.
    touched: Vec<u32>,
    /// How many of the first of them have waited since before somebody asked for late ones.
    old: usize,
    over: Vec<Stretch>,
    missed: u64,
    scratch: Vec<u8>,
}

impl Changes {
    /// A stretch is added to.
    #[inline]
    pub(super) fn touch(&mut self, slot: u32, flow: &mut Open, at: At) {
        if flow.opened == 0 {
            flow.opened = at.frame;
        }
        if !flow.touched {
            flow.touched = true;
            self.touched.push(slot);
        }
    }

    /// A stretch ends.
    pub(super) fn end(&mut self, flow: &Open, base: u64, capture: CaptureId) {
        if !flow.touched {
            return;
        }
        if self.over.len() >= MOST_OVER {
            self.missed += 1;
            return;
        }
        let stretch = value(flow, base, capture, true, &mut self.scratch);
        self.over.push(stretch);
    }

    /// How many that go on are yet to be told.
    pub(super) fn untold(&self) -> usize {
        self.touched.len()
    }

    /// Gives up those that waited already when this was asked last: how many. One that is added to later is told again.
    pub(super) fn give_up_late(&mut self, open: &mut [Open]) -> u64 {
        let late = self.touched.drain(..self.old.min(self.touched.len())).filter(|&slot| {
            let flow = open.get_mut(slot as usize).filter(|flow| flow.live);
            flow.is_some_and(|flow| std::mem::take(&mut flow.touched))
        });
        let late = late.count() as u64;
        self.old = self.touched.len();
        late
    }

    /// Hands over what changed: all that ended, and of the others as many as make it `most`, each once and those that changed first
    /// before all others; and how many ended unseen.
    pub(super) fn take(
        &mut self,
        open: &mut [Open],
        most: usize,
        base: u64,
        capture: CaptureId,
    ) -> (Vec<Stretch>, u64) {
        let mut stretches = std::mem::take(&mut self.over);
        let others = most.saturating_sub(stretches.len()).min(self.touched.len());
        self.old = self.old.saturating_sub(others);
        for slot in self.touched.drain(..others) {
            let Some(flow) = open.get_mut(slot as usize).filter(|flow| flow.live) else { continue };
            // The place may have been taken by another conversation since, which stands in the list by itself.
            if std::mem::take(&mut flow.touched) {
                stretches.push(value(flow, base, capture, false, &mut self.scratch));
            }
        }
        (stretches, std::mem::take(&mut self.missed))
    }
}

fn value(flow: &Open, base: u64, capture: CaptureId, over: bool, scratch: &mut Vec<u8>) -> Stretch {
    let view = flow.view(base, capture);
    let mut hellos = Hellos::default();
    scratch.clear();
    pack(&view, &mut hellos, scratch);
    Stretch {
        serial: base + u64::from(flow.opened),
        over,
        packed: scratch.as_slice().into(),
        hellos: (!hellos.is_empty()).then(|| Box::new(hellos)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_first_is_told_first_and_what_waited_too_long_is_given_up() {
        let mut open = vec![Open::nowhere(); 6];
        open.iter_mut().for_each(|flow| flow.live = true);
        let mut changes = Changes::default();
        let capture = CaptureId::new(0);
        let touch = |changes: &mut Changes, open: &mut [Open], slot: u32| {
            let at = At { frame: slot + 1, ..At::default() };
            changes.touch(slot, &mut open[slot as usize], at);
        };
        let serials = |taken: &[Stretch]| taken.iter().map(|stretch| stretch.serial).collect::<Vec<_>>();
        for slot in [3, 1, 4, 3, 0] {
            touch(&mut changes, &mut open, slot);
        }
        let (taken, _) = changes.take(&mut open, 2, 0, capture);
        assert_eq!((serials(&taken), changes.untold()), (vec![4, 2], 2));
        assert_eq!(changes.give_up_late(&mut open), 0, "nobody waited yet");
        touch(&mut changes, &mut open, 2);
        let (taken, _) = changes.take(&mut open, 1, 0, capture);
        assert_eq!(serials(&taken), [5]);
        assert_eq!(changes.give_up_late(&mut open), 1, "the place 0 waited");
        // It comes again with its next frame.
        touch(&mut changes, &mut open, 0);
        let (taken, _) = changes.take(&mut open, 9, 0, capture);
        assert_eq!(serials(&taken), [3, 1]);
        assert_eq!((changes.give_up_late(&mut open), changes.untold()), (0, 0));
    }
}
