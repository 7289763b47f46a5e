//! What changed of open conversations since somebody looked: for whoever follows them while frames come.

use super::open::{At, Open};
use super::packed::{Hellos, View, pack, unpack};
use super::partial::PartialFlow;
use crate::model::CaptureId;

/// Stretches that ended since somebody looked, at the most: 8,192, some 2 MiB. A flood ends more in a second, and who
/// follows it sees a part of it; the audit sees all.
const MOST_OVER: usize = 1 << 13;

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
        unpack(&self.packed, hellos, capture.into(), &mut flow)?;
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
    /// Places of stretches that were added to.
    touched: Vec<u32>,
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

    /// Hands over what changed: all that ended, and of the others up to `most`, each once; and how many ended unseen.
    pub(super) fn take(
        &mut self,
        open: &mut [Open],
        most: usize,
        base: u64,
        capture: CaptureId,
    ) -> (Vec<Stretch>, u64) {
        let mut stretches = std::mem::take(&mut self.over);
        let left = self.touched.len().saturating_sub(most);
        for slot in self.touched.drain(left..) {
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
    let view: View<'_> = flow.view(base, capture);
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
