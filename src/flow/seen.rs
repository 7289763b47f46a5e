//! What finding out who began a flow, and how far it got, asks of a stretch: of one in full, or of a short one, which answers
//! without being put in full.

use super::key::{FlowKey, Side};
use super::partial::{
    Acks, DnsSeen, PartialFlow, QuoteClass, QuoteFact, Reset, SideFacts, Syn, SynAck, earlier, earlier_by,
};
use crate::model::{FramePoint, Timestamp};

/// A stretch, as far as anything is decided by it. What is told is that of [`PartialFlow`].
pub(super) trait Seen {
    /// Between whom.
    fn key(&self) -> &FlowKey;
    /// What a side sent.
    fn side(&self, side: Side) -> impl SideSeen;
    /// ICMP errors about it.
    fn quotes(&self) -> &[QuoteFact];
    /// The latest of them.
    fn quoted_last(&self) -> Option<Timestamp>;

    /// The first packet of a side with something to say; see [`PartialFlow::said`].
    #[inline]
    fn said(&self, side: Side) -> Option<FramePoint> {
        self.side(side).data()
    }

    /// The side that sent a SYN without ACK, and that SYN.
    #[inline]
    fn syn(&self) -> Option<(Side, Syn)> {
        let of = |side: Side| self.side(side).syn().map(|syn| (side, syn));
        earlier_by(of(Side::Low), of(Side::High), |(_, syn)| syn.first)
    }

    /// The time by which rows are ordered: that of its first frame, else of the first ICMP error about it.
    #[inline]
    fn order_time(&self) -> Option<Timestamp> {
        let first = earlier(self.side(Side::Low).first(), self.side(Side::High).first());
        first.or_else(|| self.quotes().first().map(|quote| quote.point)).map(|point| point.time)
    }

    /// The first ICMP error of a class about packets that `quoted` sent.
    #[inline]
    fn quote(&self, quoted: Side, class: QuoteClass) -> Option<&QuoteFact> {
        self.quotes().iter().find(|quote| quote.quoted == quoted && quote.class == class)
    }

    /// Whether there are DNS messages over UDP in it.
    #[inline]
    fn is_dns(&self) -> bool {
        [Side::Low, Side::High].into_iter().any(|side| {
            let DnsSeen { queries, responses } = self.side(side).dns();
            queries | responses != 0
        })
    }
}

/// What one side sent, as far as anything is decided by it. What is told is that of [`SideFacts`].
pub(super) trait SideSeen: Copy {
    /// Frames.
    fn packets(self) -> u64;
    /// Their length on the wire, bytes.
    fn bytes(self) -> u64;
    /// The first frame.
    fn first(self) -> Option<FramePoint>;
    /// The latest time.
    fn last(self) -> Option<Timestamp>;
    /// SYN without ACK.
    fn syn(self) -> Option<Syn>;
    /// SYN with ACK.
    fn syn_ack(self) -> Option<SynAck>;
    /// First RST.
    fn reset(self) -> Option<Reset>;
    /// The latest TCP packet that is no SYN without ACK.
    fn beyond_syn_last(self) -> Option<FramePoint>;
    /// First packet with payload.
    fn data(self) -> Option<FramePoint>;
    /// Acknowledgement numbers.
    fn acks(self) -> Acks;
    /// DNS messages over UDP.
    fn dns(self) -> DnsSeen;
}

impl Seen for PartialFlow {
    #[inline]
    fn key(&self) -> &FlowKey {
        &self.key
    }

    #[inline]
    fn side(&self, side: Side) -> impl SideSeen {
        PartialFlow::side(self, side)
    }

    #[inline]
    fn said(&self, side: Side) -> Option<FramePoint> {
        PartialFlow::said(self, side)
    }

    #[inline]
    fn quotes(&self) -> &[QuoteFact] {
        &self.quotes
    }

    #[inline]
    fn quoted_last(&self) -> Option<Timestamp> {
        self.quoted_last
    }
}

impl SideSeen for &SideFacts {
    #[inline]
    fn packets(self) -> u64 {
        self.packets
    }

    #[inline]
    fn bytes(self) -> u64 {
        self.bytes
    }

    #[inline]
    fn first(self) -> Option<FramePoint> {
        self.first
    }

    #[inline]
    fn last(self) -> Option<Timestamp> {
        self.last
    }

    #[inline]
    fn syn(self) -> Option<Syn> {
        self.syn
    }

    #[inline]
    fn syn_ack(self) -> Option<SynAck> {
        self.syn_ack
    }

    #[inline]
    fn reset(self) -> Option<Reset> {
        self.reset
    }

    #[inline]
    fn beyond_syn_last(self) -> Option<FramePoint> {
        self.beyond_syn_last
    }

    #[inline]
    fn data(self) -> Option<FramePoint> {
        self.data
    }

    #[inline]
    fn acks(self) -> Acks {
        self.acks
    }

    #[inline]
    fn dns(self) -> DnsSeen {
        self.dns
    }
}
