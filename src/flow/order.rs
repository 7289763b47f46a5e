//! The order of rows, found without rows.

use super::finish::{capture_name, first_ts};
use super::partial::PartialFlow;
use super::stitch::initiator;
use crate::model::{FramePoint, Timestamp, Transport};
use std::borrow::Borrow;
use std::sync::Arc;

/// Puts flows into the order of rows: first_ts, flow_id, vlan, vni, capture, first frame. What is sorted is a handle of
/// 16 bytes a flow; everything beyond the time is computed only of flows that begin at the very same time.
#[derive(Debug, Default)]
pub struct RowOrder {
    handles: Vec<(Timestamp, usize)>,
}

/// What parts two flows that begin at the same time.
type Tie = (String, Option<u16>, Option<u32>, Arc<str>, Option<u64>, Option<FramePoint>);

impl RowOrder {
    /// Adds the next flow: its place among those added is what [`RowOrder::sort`] hands back.
    pub fn add(&mut self, flow: &PartialFlow) {
        self.handles.push((first_ts(flow), self.handles.len()));
    }

    /// The places of the flows, in the order of rows. `is_service` tells initiators as [`Finisher`](super::Finisher) does,
    /// `captures` are the names of the captures, by number, `flow` gives the flow of a place.
    pub fn sort<P: Borrow<PartialFlow>>(
        self,
        is_service: &dyn Fn(Transport, u16) -> bool,
        captures: &[Arc<str>],
        flow: impl Fn(usize) -> Option<P>,
    ) -> Vec<usize> {
        let mut handles = self.handles;
        // Stable, and quick where the flows come nearly in order.
        handles.sort_by_key(|&(time, _)| time);
        let tie = |place: usize| -> Option<Tie> {
            let flow = flow(place)?;
            let flow: &PartialFlow = flow.borrow();
            let (side, _) = initiator(flow, is_service);
            let begin = flow.begin();
            let capture = begin.map_or_else(|| Arc::from(""), |point| capture_name(captures, point.capture));
            let frame = begin.map(|point| point.frame);
            Some((flow.key.flow_id(side), flow.vlan, flow.vni, capture, frame, begin))
        };
        for same in handles.chunk_by_mut(|a, b| a.0 == b.0) {
            if same.len() > 1 {
                same.sort_by_cached_key(|&(_, place)| tie(place));
            }
        }
        handles.into_iter().map(|(_, place)| place).collect()
    }
}
