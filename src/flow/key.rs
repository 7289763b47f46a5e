//! What makes two packets belong to one conversation.

use super::community_id::community_id;
use crate::model::{Endpoint, Transport};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// The two endpoints of a conversation in a fixed order, and its transport. VLAN, VNI and interface are no part of it:
/// mirror ports tag each direction their own way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FlowKey {
    /// The transport.
    pub transport: Transport,
    /// The lesser endpoint, by address then port.
    pub low: Endpoint,
    /// The greater endpoint.
    pub high: Endpoint,
}

/// Which endpoint of a [`FlowKey`] sends. Says nothing about who began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The lesser endpoint.
    Low,
    /// The greater endpoint.
    High,
}

impl Side {
    /// The other side.
    pub fn other(self) -> Side {
        self.of(Side::High, Side::Low)
    }

    /// Of what both sides have, its own.
    #[inline]
    pub(super) fn of<T>(self, low: T, high: T) -> T {
        match self {
            Side::Low => low,
            Side::High => high,
        }
    }
}

/// `a <= b`, told of whole addresses at once: this is asked for every packet.
#[inline]
fn lies_below(a: &Endpoint, b: &Endpoint) -> bool {
    match (a.ip, b.ip) {
        (IpAddr::V4(x), IpAddr::V4(y)) => (u32::from(x), a.port) <= (u32::from(y), b.port),
        (IpAddr::V6(x), IpAddr::V6(y)) => (u128::from(x), a.port) <= (u128::from(y), b.port),
        (x, _) => x.is_ipv4(),
    }
}

impl FlowKey {
    /// The key of a packet from `src` to `dst`, and the side that sent it.
    #[inline(always)]
    pub fn of(transport: Transport, src: Endpoint, dst: Endpoint) -> (FlowKey, Side) {
        if lies_below(&src, &dst) {
            (FlowKey { transport, low: src, high: dst }, Side::Low)
        } else {
            (FlowKey { transport, low: dst, high: src }, Side::High)
        }
    }

    /// The endpoint of a side.
    pub fn endpoint(&self, side: Side) -> Endpoint {
        side.of(self.low, self.high)
    }

    /// The Community ID (v1, seed 0) of the flow that `initiator` began.
    pub fn flow_id(&self, initiator: Side) -> String {
        community_id(self.transport, self.endpoint(initiator), self.endpoint(initiator.other()))
    }
}
