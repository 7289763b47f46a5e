//! What a table gained since somebody looked, as bytes for a journal: whoever reads all of them in their order knows what the
//! table knew when the last were written, whatever became of the table.

use super::open::Open;
use super::packed::{append_row, row_of_packed};
use super::partial::PartialFlow;
use super::pieces::Pieces;
use crate::model::{CaptureId, varint};
use std::collections::BTreeMap;
use std::io;

/// What changed. An open stretch is told as it stands, in place of what was told of it before; nothing is cut.
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
}

impl Default for Deltas {
    fn default() -> Self {
        Deltas { all: true, changed: Vec::new(), left: Vec::new(), told: 0 }
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
    /// with its place.
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
            row_of_packed(&mut row, |row| reader.packed(number, row))?;
            varint::put_bytes(&row, out);
        }
        self.told = cut;
        let mut tell = |slot: u32, flow: &mut Open| {
            (flow.unwritten, flow.written) = (false, true);
            row.clear();
            append_row(&flow.view(base, capture), &mut row);
            varint::put(slot.into(), out);
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

/// What a journal says that a table knew.
pub struct Replica {
    cut: Pieces,
    /// By place, as rows.
    open: BTreeMap<u32, Vec<u8>>,
    scratch: PartialFlow,
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
        let ends = || "it ends too early".to_owned();
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
            let slot = varint::take(bytes).ok_or_else(ends)?;
            let row = varint::take_bytes(bytes).ok_or_else(ends)?;
            self.open.insert(u32::try_from(slot).map_err(|_| ends())?, row.to_vec());
        }
        Ok(())
    }

    /// All stretches, as if the table had ended then.
    ///
    /// # Errors
    /// What is wrong with one of them.
    pub fn finish(mut self) -> Result<Pieces, String> {
        for row in self.open.values() {
            self.cut.push_row(row, &mut self.scratch).map_err(|problem| problem.to_string())?;
        }
        Ok(self.cut)
    }
}
