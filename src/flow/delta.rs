//! What a table gained since somebody looked, as bytes for a journal: whoever reads all of them in their order knows what the
//! table knew when the last were written, whatever became of the table.

use super::head::{Head, Segment};
use super::key::Side;
use super::open::Open;
use super::packed::{Hellos, Origin, Sides, View, append_row, of_row, row_of_packed, to_row, unpack_in_full};
use super::partial::PartialFlow;
use super::pieces::Pieces;
use crate::model::{CaptureId, varint};
use foldhash::fast::FixedState;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::io;

/// What changed. An open stretch is told as it stands, in place of what was told of it before; nothing is cut. Of the first bytes of
/// its payload only those are told that came since: they are most of a row, and a conversation that goes on for hours would be told
/// with them twice a second.
#[derive(Debug)]
pub(super) struct Deltas {
    /// Everything is to be told next: nothing that was told before counts.
    all: bool,
    /// Places of stretches that were added to.
    changed: Vec<u32>,
    /// Places whose stretch was told while it was open, and was cut since.
    left: Vec<u32>,
    /// Stretches cut that were told.
    told: u32,
    /// Of each place, which first bytes were told.
    heads: Vec<Heads>,
}

/// Which pieces of first bytes were told of a stretch: so many of each side, and what tells them from others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Heads {
    pieces: [usize; 2],
    mark: u64,
}

/// How a row of an open stretch is to be taken: in place of all that was told of it,
const WHOLE: u64 = 0;
/// but for first bytes, of which those in it come behind the others,
const ADDS: u64 = 1;
/// or of which there are no more than before.
const SAME: u64 = 2;

impl Default for Deltas {
    fn default() -> Self {
        Deltas { all: true, changed: Vec::new(), left: Vec::new(), told: 0, heads: Vec::new() }
    }
}

impl Deltas {
    /// A stretch is added to.
    #[inline]
    pub(super) fn touch(&mut self, slot: u32, flow: &mut Open) {
        if !flow.unwritten && !self.all {
            flow.unwritten = true;
            self.changed.push(slot);
        }
    }

    /// A stretch ends.
    pub(super) fn end(&mut self, slot: u32, flow: &Open) {
        if flow.written && !self.all {
            self.left.push(slot);
        }
    }

    /// Next, everything is told.
    pub(super) fn again(&mut self) {
        *self = Deltas::default();
    }

    /// Appends what changed: how many places were left, and which; stretches cut since, each with its length; open ones, each
    /// with its place and how its row is to be taken.
    pub(super) fn take(
        &mut self,
        open: &mut [Open],
        done: &Pieces,
        base: u64,
        capture: CaptureId,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        let cut = done.packed_len();
        varint::put(self.left.len() as u64, out);
        self.left.drain(..).for_each(|slot| varint::put(slot.into(), out));
        varint::put((cut - self.told).into(), out);
        let (reader, mut row) = (done.reader(capture), Vec::new());
        for number in self.told..cut {
            row.clear();
            row_of_packed(&mut row, |row| reader.packed(number, |bytes| row.extend_from_slice(bytes)))?;
            varint::put_bytes(&row, out);
        }
        self.told = cut;
        let heads = &mut self.heads;
        let mut tell = |slot: u32, flow: &mut Open| {
            let known = flow.written;
            (flow.unwritten, flow.written) = (false, true);
            row.clear();
            let mut view = flow.view(base, capture);
            let place = slot as usize;
            if heads.len() <= place {
                heads.resize(place + 1, Heads::default());
            }
            let now = Heads::of(&view, [usize::MAX; 2]);
            let before = heads.get_mut(place).map(|told| std::mem::replace(told, now)).unwrap_or_default();
            // Pieces stand in the order in which they came. Where one of them is gone all are told again.
            let goes_on = known && Heads::of(&view, before.pieces) == before;
            let how = match goes_on {
                false => WHOLE,
                true if now == before => SAME,
                true => ADDS,
            };
            let since: [Head; 2] = [(Side::Low, 0), (Side::High, 1)].map(|(side, at)| {
                let mut since = Head::default();
                if how == ADDS {
                    pieces(&view, side).skip(before.pieces[at]).for_each(|piece| since.push(piece));
                }
                since
            });
            view.heads = (how != WHOLE).then_some(since.each_ref());
            append_row(&view, &mut row);
            varint::put(u64::from(slot) << 2 | how, out);
            varint::put_bytes(&row, out);
        };
        if std::mem::take(&mut self.all) {
            for (slot, flow) in open.iter_mut().enumerate() {
                (flow.unwritten, flow.written) = (false, false);
                if flow.live && flow.order_time().is_some() {
                    tell(slot as u32, flow);
                }
            }
            return Ok(());
        }
        for slot in self.changed.drain(..) {
            let Some(flow) = open.get_mut(slot as usize).filter(|flow| flow.live) else { continue };
            // The place may have been taken by another conversation since, which stands in the list by itself.
            if flow.unwritten && flow.order_time().is_some() {
                tell(slot, flow);
            }
        }
        Ok(())
    }
}

/// First bytes of a side, piece by piece.
fn pieces<'v, S: Sides<'v>>(
    view: &View<'v, S>,
    side: Side,
) -> impl Iterator<Item = Segment<'v>> + use<'v, S> {
    view.sides.head(side).into_iter().flat_map(Head::segments)
}

impl Heads {
    /// Of a stretch, of at most so many pieces of each side.
    fn of<'v>(view: &View<'v, impl Sides<'v>>, most: [usize; 2]) -> Heads {
        let mut all = FixedState::default().build_hasher();
        let counts = [(Side::Low, most[0]), (Side::High, most[1])].map(|(side, most)| {
            let mut count = 0;
            for piece in pieces(view, side).take(most) {
                (piece.seq, piece.point, piece.bytes.len()).hash(&mut all);
                count += 1;
            }
            // Where the other side begins.
            all.write_usize(count);
            count
        });
        Heads { pieces: counts, mark: all.finish() }
    }
}

/// What a journal says that a table knew.
pub struct Replica {
    cut: Pieces,
    /// By place.
    open: BTreeMap<u32, OpenRows>,
    scratch: PartialFlow,
}

/// Rows of one open stretch, in the order in which they were told.
struct OpenRows {
    /// The last with all first bytes until then.
    whole: Vec<u8>,
    /// Those with more of them.
    added: Vec<Vec<u8>>,
    /// What was told since: all but those.
    since: Option<Vec<u8>>,
}

impl OpenRows {
    /// As one row.
    fn row(&self, scratch: &mut PartialFlow) -> Result<Vec<u8>, String> {
        let Some(last) = self.since.as_ref().or(self.added.last()) else { return Ok(self.whole.clone()) };
        let mut read = |row: &[u8]| -> Result<PartialFlow, String> {
            let row = of_row(row, scratch).map_err(|problem| problem.to_string())?;
            let mut flow = PartialFlow::nothing();
            unpack_in_full(row.packed, &Hellos::default(), Origin::default(), &mut flow).ok_or_else(ends)?;
            Ok(flow)
        };
        let mut heads = read(&self.whole)?;
        for row in &self.added {
            let more = read(row)?;
            heads.low.head.append(&more.low.head, None);
            heads.high.head.append(&more.high.head, None);
        }
        let mut flow = read(last)?;
        (flow.low.head, flow.high.head) = (heads.low.head, heads.high.head);
        Ok(to_row(&flow))
    }
}

fn ends() -> String {
    "it ends too early".to_owned()
}

impl Default for Replica {
    fn default() -> Self {
        Replica { cut: Pieces::default(), open: BTreeMap::new(), scratch: PartialFlow::nothing() }
    }
}

impl Replica {
    /// Takes what [`super::FlowTable::delta`] gave next.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn apply(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        let bytes = &mut bytes;
        for _ in 0..varint::take(bytes).ok_or_else(ends)? {
            let slot = varint::take(bytes).ok_or_else(ends)?;
            self.open.remove(&u32::try_from(slot).map_err(|_| ends())?);
        }
        for _ in 0..varint::take(bytes).ok_or_else(ends)? {
            let row = varint::take_bytes(bytes).ok_or_else(ends)?;
            self.cut.push_row(row, &mut self.scratch).map_err(|problem| problem.to_string())?;
        }
        while !bytes.is_empty() {
            let told = varint::take(bytes).ok_or_else(ends)?;
            let slot = u32::try_from(told >> 2).map_err(|_| ends())?;
            let row = varint::take_bytes(bytes).ok_or_else(ends)?.to_vec();
            if told & 3 == WHOLE {
                self.open.insert(slot, OpenRows { whole: row, added: Vec::new(), since: None });
                continue;
            }
            let open = self.open.get_mut(&slot);
            let open = open.ok_or("it goes on with a stretch of which nothing was told")?;
            match told & 3 {
                ADDS => {
                    open.added.push(row);
                    open.since = None;
                }
                _ => open.since = Some(row),
            }
        }
        Ok(())
    }

    /// All stretches, as if the table had ended then.
    ///
    /// # Errors
    /// What is wrong with one of them.
    pub fn finish(mut self) -> Result<Pieces, String> {
        for told in self.open.values() {
            let row = told.row(&mut self.scratch)?;
            self.cut.push_row(&row, &mut self.scratch).map_err(|problem| problem.to_string())?;
        }
        Ok(self.cut)
    }
}
