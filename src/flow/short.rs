//! Stretches as they are read: those of a packet or two in short, which are most where there are many, all others in full.

use super::key::{FlowKey, Side};
use super::partial::{Acks, DnsSeen, PartialFlow, QuoteFact, Reset, Syn, SynAck};
use super::seen::{Seen, SideSeen};
use crate::model::{Endpoint, FramePoint, Timestamp, Transport};
use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};

/// A stretch whose sides show no more than where their frames are, times to live, a SYN that was sent once, datagrams of which
/// no bytes are kept: in less than a fifth of the room of a [`PartialFlow`], of which a first-level cache holds no more than some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Short {
    pub key: FlowKey,
    pub vlan: Option<u16>,
    pub vni: Option<u32>,
    pub low: Sent,
    pub high: Sent,
}

const _: () = assert!(5 * size_of::<Short>() < size_of::<PartialFlow>());

/// What one side of it sent, if it sent anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sent {
    /// Whether it did: else all else means nothing.
    pub any: bool,
    /// Whether the first frame has payload.
    pub data: bool,
    pub packets: u64,
    pub bytes: u64,
    pub payload: u64,
    pub first: FramePoint,
    pub last: Timestamp,
    /// Initial sequence number of the SYN that the first frame is.
    pub isn: Option<u32>,
    pub ttl: Option<(u8, u8)>,
    pub dns: DnsSeen,
}

impl Short {
    /// A place for one.
    pub fn nothing() -> Self {
        let nowhere = Endpoint::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        Short {
            key: FlowKey { transport: Transport::Tcp, low: nowhere, high: nowhere },
            vlan: None,
            vni: None,
            low: Sent::default(),
            high: Sent::default(),
        }
    }

    /// The very first frame.
    pub fn begin(&self) -> Option<FramePoint> {
        let of = |sent: &Sent| sent.any.then_some(sent.first);
        of(&self.low).into_iter().chain(of(&self.high)).min()
    }

    /// The same in full, in place of what stands there.
    pub fn put_into(&self, flow: &mut PartialFlow) {
        flow.clear(self.key);
        (flow.vlan, flow.vni) = (self.vlan, self.vni);
        for (sent, side) in [(&self.low, &mut flow.low), (&self.high, &mut flow.high)] {
            if sent.any {
                (side.packets, side.bytes, side.payload) = (sent.packets, sent.bytes, sent.payload);
                (side.first, side.last) = (Some(sent.first), Some(sent.last));
                (side.syn, side.data) = (sent.syn(), sent.data());
                (side.ttl, side.dns) = (sent.ttl, sent.dns);
            }
        }
    }
}

impl Seen for Short {
    #[inline]
    fn key(&self) -> &FlowKey {
        &self.key
    }

    #[inline]
    fn side(&self, side: Side) -> impl SideSeen {
        side.of(&self.low, &self.high)
    }

    #[inline]
    fn quotes(&self) -> &[QuoteFact] {
        &[]
    }

    #[inline]
    fn quoted_last(&self) -> Option<Timestamp> {
        None
    }
}

impl SideSeen for &Sent {
    #[inline]
    fn packets(self) -> u64 {
        if self.any { self.packets } else { 0 }
    }

    #[inline]
    fn bytes(self) -> u64 {
        if self.any { self.bytes } else { 0 }
    }

    #[inline]
    fn first(self) -> Option<FramePoint> {
        self.any.then_some(self.first)
    }

    #[inline]
    fn last(self) -> Option<Timestamp> {
        self.any.then_some(self.last)
    }

    #[inline]
    fn syn(self) -> Option<Syn> {
        let isn = self.isn.filter(|_| self.any)?;
        Some(Syn { isn, first: self.first, last: self.first, count: 1 })
    }

    #[inline]
    fn syn_ack(self) -> Option<SynAck> {
        None
    }

    #[inline]
    fn reset(self) -> Option<Reset> {
        None
    }

    #[inline]
    fn beyond_syn_last(self) -> Option<FramePoint> {
        None
    }

    #[inline]
    fn data(self) -> Option<FramePoint> {
        (self.any && self.data).then_some(self.first)
    }

    #[inline]
    fn acks(self) -> Acks {
        Acks::None
    }

    #[inline]
    fn dns(self) -> DnsSeen {
        if self.any { self.dns } else { DnsSeen::default() }
    }
}

/// A stretch in either form.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form<'p> {
    Short(&'p Short),
    Full(&'p PartialFlow),
}

impl<'p> Form<'p> {
    /// Its very first frame, or the first error about it.
    pub fn begin(self) -> Option<FramePoint> {
        match self {
            Form::Short(short) => short.begin(),
            Form::Full(stretch) => stretch.begin(),
        }
    }

    /// The stretch in full.
    pub fn in_full(self) -> Cow<'p, PartialFlow> {
        match self {
            Form::Short(short) => {
                let mut stretch = PartialFlow::nothing();
                short.put_into(&mut stretch);
                Cow::Owned(stretch)
            }
            Form::Full(stretch) => Cow::Borrowed(stretch),
        }
    }
}

/// A place for stretches that are read, and the one that was read last: [`super::PiecesReader::read_into`] and
/// [`super::Finisher::finish_read`].
#[derive(Debug)]
pub struct Unpacked {
    is_short: bool,
    short: Short,
    full: PartialFlow,
}

impl Default for Unpacked {
    fn default() -> Self {
        Unpacked { is_short: false, short: Short::nothing(), full: PartialFlow::nothing() }
    }
}

impl Unpacked {
    /// The stretch, as it was read.
    #[inline]
    pub(super) fn form(&self) -> Form<'_> {
        if self.is_short { Form::Short(&self.short) } else { Form::Full(&self.full) }
    }

    /// Room for a short one: what is put there is the stretch, from now on.
    #[inline]
    pub(super) fn short_mut(&mut self) -> &mut Short {
        self.is_short = true;
        &mut self.short
    }

    /// Room for one in full: what is put there is the stretch, from now on.
    #[inline]
    pub fn full_mut(&mut self) -> &mut PartialFlow {
        self.is_short = false;
        &mut self.full
    }

    /// The stretch in full, whatever it is.
    pub fn in_full(&mut self) -> &mut PartialFlow {
        if self.is_short {
            self.short.put_into(&mut self.full);
        }
        self.full_mut()
    }

    /// Its very first frame, or the first error about it.
    pub fn begin(&self) -> Option<FramePoint> {
        self.form().begin()
    }

    /// Whether its first bytes may say anything; where they do not, nobody can have said a name in it.
    pub fn may_say_something(&self) -> bool {
        matches!(self.form(), Form::Full(stretch) if stretch.may_say_something())
    }
}
