//! The mapper: packets to partial flows. It only cuts (at every SYN, at every idle gap, when it is full); it never
//! decides that two stretches are one connection. `stitch` does.

use super::changes::{Changes, Stretch};
use super::delta::Deltas;
use super::key::{KeyWords, Side};
use super::open::{At, Keep, Open};
use super::packed::BriefLine;
use super::partial::{QuoteClass, QuoteFact};
use super::pieces::{Budget, Pieces};
use super::stitch::UDP_IDLE_NANOS;
use crate::decode::{Icmp, Packet, Payload, Quote, icmp_ports};
use crate::model::{CaptureId, Endpoint, FramePoint, NANOS_PER_SECOND, Transport};
use crate::names::{app, http};
use hashbrown::HashTable;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

/// What the table made of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// It belongs to a flow.
    Flow,
    /// An ICMP error bound to the flow that it quotes.
    Quote,
    /// An ICMP error whose quoted packet cannot be read: it can be bound to nothing.
    UnreadableQuote,
    /// Its transport header could not be read (a later fragment, a header cut off): it is counted, in no flow.
    NoTransport,
}

/// What a table may take, and what it keeps.
#[derive(Clone, Debug)]
pub struct TableOptions {
    /// Conversations kept open at the same time, at most. Changes no audit.
    pub capacity: usize,
    /// For stretches already cut: what is beyond waits in a temporary file. Changes no audit.
    pub budget: Arc<Budget>,
    /// Whether the first payload bytes are kept whatever they say: rows for `judge` carry them. Else TLS is read as it
    /// arrives.
    pub keep_bytes: bool,
}

/// How long a conversation that seems to be over stays open, in capture time: 1 s. What comes late (the last
/// acknowledgement, a repeat) mostly comes within a round trip; what comes later still is joined by `stitch`, which
/// costs time only. Longer would keep what is over in the cache, where what goes on should be: 5 s made extraction of
/// small frames a fifth slower.
const LINGER_NANOS: i64 = NANOS_PER_SECOND;

/// Conversations that closed a while ago and are put aside together: 32. One by one, each would find that packets have taken its
/// instructions out of the first-level cache, and take theirs. What few conversations leave waits for others, which changes no audit.
const CLOSED_TOGETHER: usize = 32;

/// Conversations that the table holds before it looks for some of a single packet to put aside: 8,192, what a second-level
/// cache and a bit hold. A flood of lone SYNs stays there then; answers that come when 8,192 others have begun are joined by
/// `stitch`.
const ROOMY: usize = 1 << 13;

/// Silence after which an open TCP conversation is put aside: 5 minutes. It goes on where it was cut when it is heard
/// again.
const TCP_QUIET_NANOS: i64 = 300 * NANOS_PER_SECOND;

/// How long conversations that show nothing stay open, and how hard the table looks for those that are over.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// Silence after which an open TCP conversation is put aside; it goes on where it was cut when it is heard again.
    tcp_ns: i64,
    /// The same for all others.
    other_ns: i64,
    /// How long after FIN both ways or RST a TCP conversation stays open.
    linger_ns: i64,
    /// Open conversations looked at for each new one.
    looks: usize,
}

impl Patience {
    /// With two looks the table holds about twice those that are not over.
    const USUAL: Patience =
        Patience { tcp_ns: TCP_QUIET_NANOS, other_ns: UDP_IDLE_NANOS, linger_ns: LINGER_NANOS, looks: 2 };

    /// A tenth of the usual, as Suricata's emergency mode has it: what is cut here too early is joined again, and costs a
    /// stretch more; patience would cost other conversations their places.
    const HURRIED: Patience = Patience {
        tcp_ns: TCP_QUIET_NANOS / 10,
        other_ns: UDP_IDLE_NANOS / 10,
        linger_ns: LINGER_NANOS / 10,
        looks: 16,
    };
}

/// Open conversations of one capture, bounded, and those already cut off.
#[derive(Debug)]
pub struct FlowTable {
    index: HashTable<u32>,
    /// Places of open conversations, and empty ones.
    open: Vec<Open>,
    free: Vec<u32>,
    /// Conversations that seem to be over, in order: since when, and where they stand.
    closed: VecDeque<(i64, u32, u64)>,
    /// After this time those that are due are put aside: asked of every packet.
    due: i64,
    /// The last that began, up to [`ROOMY`] of them, in order.
    begun: VecDeque<(u32, u64)>,
    /// Where the next look goes.
    hand: usize,
    done: Pieces,
    keep: Keep,
    options: TableOptions,
    capture: CaptureId,
    /// Frame numbers in `open` are above this.
    base: u64,
    patience: Patience,
    evicted: u64,
    /// Conversations put aside that would have stayed open had there been no hurry.
    hurried: u64,
    /// For whoever follows conversations while frames come.
    changes: Option<Box<Changes>>,
    /// For whoever keeps a journal.
    deltas: Option<Box<Deltas>>,
}

/// The key of a packet's conversation, who sent the packet, and the key's hash: found once for each packet.
#[derive(Clone, Copy, Debug)]
pub struct HashedKey {
    key: KeyWords,
    side: Side,
    hash: u64,
    /// Where the conversation may stand in the table that was asked for it; [`NOWHERE`] where none was.
    likely: u32,
}

/// No place of a table.
const NOWHERE: u32 = u32::MAX;

impl HashedKey {
    /// That of a packet, for no table yet.
    #[inline(always)]
    pub fn of_packet(packet: &Packet<'_>) -> Self {
        HashedKey::of(key_of(packet))
    }

    #[inline(always)]
    fn of((key, side): (KeyWords, Side)) -> Self {
        HashedKey { key, side, hash: key.hash(), likely: NOWHERE }
    }

    /// The key's hash, another in each run of the program.
    #[inline(always)]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Who sent the packet.
    #[inline(always)]
    pub fn side(&self) -> Side {
        self.side
    }
}

impl FlowTable {
    /// A table for frames of one capture. When it is full a conversation is cut (of one packet, if there is one), which
    /// changes no audit: the cuts are joined again by `stitch`.
    pub fn new(options: TableOptions, capture: CaptureId) -> Self {
        FlowTable {
            index: HashTable::new(),
            open: Vec::new(),
            free: Vec::new(),
            closed: VecDeque::new(),
            due: i64::MAX,
            begun: VecDeque::new(),
            hand: 0,
            done: Pieces::new(options.budget.clone()),
            keep: Keep::new(!options.keep_bytes),
            options: TableOptions { capacity: options.capacity.clamp(1, u32::MAX as usize), ..options },
            capture,
            base: 0,
            patience: Patience::USUAL,
            evicted: 0,
            hurried: 0,
            changes: None,
            deltas: None,
        }
    }

    /// From now on it is kept which conversations change.
    pub fn follow(&mut self) {
        self.changes.get_or_insert_default();
    }

    /// The stretches that changed since this was asked last: all that ended (or how many of them are not told, since they
    /// were too many), and of the others as many as make it `most`, those that changed first. They are told as they are; nothing
    /// is cut.
    pub fn changes(&mut self, most: usize) -> (Vec<Stretch>, u64) {
        let Some(changes) = &mut self.changes else { return (Vec::new(), 0) };
        changes.take(&mut self.open, most, self.base, self.capture)
    }

    /// Gives up telling those that changed and waited already when this was asked last: how many. One that changes again is told.
    pub fn give_up_late(&mut self) -> u64 {
        self.changes.as_mut().map_or(0, |changes| changes.give_up_late(&mut self.open))
    }

    /// From now on it is kept what changes, for a journal. First bytes must be kept, too.
    pub fn keep_deltas(&mut self) {
        self.deltas.get_or_insert_default();
    }

    /// Appends what changed since this was asked last, or everything if `again` or asked for the first time: for
    /// [`Replica`](super::Replica).
    ///
    /// # Errors
    /// A stretch was put into a temporary file, and that cannot be read. Then everything is to be asked for again.
    pub fn delta(&mut self, again: bool, out: &mut Vec<u8>) -> io::Result<()> {
        let Some(deltas) = &mut self.deltas else { return Ok(()) };
        if again {
            deltas.again();
        }
        deltas.take(&mut self.open, &self.done, self.base, self.capture, out)
    }

    /// What changes need not be kept until everything is asked for again.
    pub fn forget_deltas(&mut self) {
        if let Some(deltas) = &mut self.deltas {
            deltas.again();
        }
    }

    /// How many conversations that go on changed and were not told yet.
    pub fn untold(&self) -> usize {
        self.changes.as_ref().map_or(0, |changes| changes.untold())
    }

    /// Conversations open now.
    pub fn open(&self) -> usize {
        self.index.len()
    }

    /// Conversations cut because the table was full.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// How many conversations may be open.
    pub fn capacity(&self) -> usize {
        self.options.capacity
    }

    /// From now on conversations stay open for a tenth of the usual time only, or again for all of it. An early cut, which
    /// changes no audit: fewer conversations lose their place to others.
    pub fn hurry(&mut self, hurried: bool) {
        self.patience = if hurried { Patience::HURRIED } else { Patience::USUAL };
        self.set_due();
    }

    /// Conversations that were cut since there was hurry, and only therefore.
    pub fn hurried(&self) -> u64 {
        self.hurried
    }

    /// Bytes that the stretches already cut take in memory.
    pub fn kept_bytes(&self) -> usize {
        self.done.kept_bytes()
    }

    /// How many stretches were cut already.
    pub fn cut(&self) -> usize {
        self.done.len()
    }

    /// Asks for the memory of the conversation of a packet that will be counted.
    #[inline(always)]
    pub fn ahead(&self, packet: &Packet<'_>) -> HashedKey {
        let mut hashed = HashedKey::of_packet(packet);
        // Mostly it is the first that looks alike.
        let likely = self.index.find(hashed.hash, |_| true).copied().unwrap_or(NOWHERE);
        if let Some(flow) = self.open.get(likely as usize) {
            flow.ask_for(hashed.side);
        }
        hashed.likely = likely;
        hashed
    }

    /// Counts a packet. `dns` tells whether it is a DNS message over UDP, and if so whether a response.
    pub fn observe(
        &mut self,
        packet: &Packet<'_>,
        point: FramePoint,
        wire_len: u32,
        dns: Option<bool>,
    ) -> Observed {
        self.observe_ahead(packet, self.ahead(packet), point, wire_len, dns)
    }

    /// The same, of the packet that was asked for last.
    #[inline(always)]
    pub fn observe_ahead(
        &mut self,
        packet: &Packet<'_>,
        hashed: HashedKey,
        point: FramePoint,
        wire_len: u32,
        dns: Option<bool>,
    ) -> Observed {
        let (starts, payload_len) = match packet.payload {
            Payload::Tcp(tcp) => (tcp.flags.syn() && !tcp.flags.ack(), tcp.payload_len),
            Payload::Udp(udp) => (false, udp.payload_len),
            Payload::Ports(..) => (false, 0),
            Payload::Icmp(icmp) => {
                let aside = *packet;
                return self.observe_icmp(&aside, &icmp, hashed, point, wire_len);
            }
            Payload::None if packet.shortfall.is_some() || packet.fragment.is_some_and(|f| f.offset > 0) => {
                return Observed::NoTransport;
            }
            Payload::None if packet.transport.has_ports() => return Observed::NoTransport,
            Payload::None => (false, 0),
        };
        let HashedKey { side, hash, .. } = hashed;
        let (slot, at) = self.flow(hashed, point, starts, (wire_len, payload_len));
        let Some(flow) = self.open.get_mut(slot as usize) else { return Observed::NoTransport };
        let later = flow.count(side, packet, at, wire_len);
        let was_closing = flow.closing;
        match packet.payload {
            Payload::Tcp(tcp) => flow.count_tcp(side, &tcp, packet.ttl, (at, later), point, &mut self.keep),
            Payload::Udp(udp) => {
                flow.count_payload(side, at, udp.payload_len);
                match dns {
                    Some(response) => {
                        flow.count_dns(side, response);
                        // Most resolvers ask each question from a port of its own, once.
                        flow.closing = response && flow.is_one_exchange();
                    }
                    // QUIC long headers (RFC 9000 section 17.2) carry the ClientHello.
                    None if udp.payload.first().is_some_and(|first| first & 0xc0 == 0xc0) => {
                        flow.keep_datagram(side, point, udp.payload, &mut self.keep);
                    }
                    // One of service discovery tells all that the next ones would; so does one that is not what its ports say.
                    None if [udp.src_port, udp.dst_port].contains(&http::SSDP_PORT)
                        && http::looks_like_ssdp(udp.payload)
                        || app::is_no_dhcp([udp.src_port, udp.dst_port], udp.payload) =>
                    {
                        flow.keep_first_datagram(side, point, udp.payload, &mut self.keep);
                    }
                    None => {}
                }
            }
            Payload::Ports(..) | Payload::Icmp(_) | Payload::None => {}
        }
        if flow.closing && !was_closing {
            self.closed.push_back((at.time, slot, hash));
            if self.closed.len() == CLOSED_TOGETHER {
                self.set_due();
            }
        }
        Observed::Flow
    }

    /// Counts a packet of a conversation, and nothing that it says.
    fn count(
        &mut self,
        hashed: HashedKey,
        packet: &Packet<'_>,
        point: FramePoint,
        wire_len: u32,
    ) -> Observed {
        let (slot, at) = self.flow(hashed, point, false, (wire_len, 0));
        if let Some(flow) = self.open.get_mut(slot as usize) {
            flow.count(hashed.side, packet, at, wire_len);
        }
        Observed::Flow
    }

    /// Counts a frame that carried an earlier part of a datagram of which `packet` was read.
    pub fn count_earlier_fragment(&mut self, packet: &Packet<'_>, point: FramePoint, wire_len: u32) {
        self.count(HashedKey::of(key_of(packet)), packet, point, wire_len);
    }

    /// Counts a datagram that came in several frames: `packet` at the last of them, the others with its flow.
    pub fn observe_datagram(
        &mut self,
        packet: &Packet<'_>,
        frames: &[(FramePoint, u32)],
        dns: Option<bool>,
    ) -> Observed {
        let Some((&(point, wire_len), earlier)) = frames.split_last() else { return Observed::NoTransport };
        let observed = self.observe(packet, point, wire_len, dns);
        if observed == Observed::Flow {
            for &(point, wire_len) in earlier {
                self.count_earlier_fragment(packet, point, wire_len);
            }
        }
        observed
    }

    fn observe_icmp(
        &mut self,
        packet: &Packet<'_>,
        icmp: &Icmp<'_>,
        hashed: HashedKey,
        point: FramePoint,
        wire_len: u32,
    ) -> Observed {
        let v6 = packet.transport == Transport::Icmp6;
        if is_error(v6, icmp.kind) {
            let Some(quote) = icmp.quote else { return Observed::UnreadableQuote };
            let src = Endpoint::new(quote.src, quote.src_port);
            let dst = Endpoint::new(quote.dst, quote.dst_port);
            let (key, quoted) = KeyWords::of_packet(quote.transport, src, dst);
            let fact = QuoteFact {
                quoted,
                class: classify_error(v6, icmp.kind, icmp.code, packet, &quote),
                point,
                kind: icmp.kind,
                code: icmp.code,
                sender: packet.src,
                tcp_seq: quote.tcp_seq,
            };
            let (slot, _) = self.flow(HashedKey::of((key, quoted)), point, false, (0, 0));
            let Some(flow) = self.open.get_mut(slot as usize) else {
                return Observed::NoTransport;
            };
            if flow.is_bare() {
                flow.tag(packet.vlan, packet.vni);
            }
            flow.add_quote(fact);
            return Observed::Quote;
        }
        self.count(hashed, packet, point, wire_len)
    }

    /// Where the open stretch of a conversation stands, cut first where the mapper has to; and the frame as it is told there.
    /// `more` is what will be counted: bytes on the wire and of payload.
    #[inline(always)]
    fn flow(
        &mut self,
        HashedKey { key, side, hash, likely }: HashedKey,
        point: FramePoint,
        starts: bool,
        more: (u32, u32),
    ) -> (u32, At) {
        self.close_until(point.time.0);
        if point.frame.wrapping_sub(self.base).wrapping_sub(1) >= u64::from(u32::MAX) {
            // The distance does not fit: everything is cut here, and told from here.
            self.cut_all();
            self.base = point.frame.saturating_sub(1);
        }
        let at = At { time: point.time.0, frame: (point.frame - self.base) as u32 };
        // Nearly every packet's stands where it is likely to stand, and goes on.
        if let Some(flow) = self.open.get(likely as usize)
            && flow.live
            && flow.key == key
            && !starts
            && !flow.is_full(side, more.0, more.1)
            && (key.transport() == Transport::Tcp || !is_idle(flow, at.time))
            && !self.is_followed()
        {
            return (likely, at);
        }
        let aside = HashedKey { key, side, hash, likely };
        (self.any_flow(&aside, at, starts, more), at)
    }

    /// The same, whatever there is of the conversation.
    #[inline(never)]
    fn any_flow(&mut self, hashed: &HashedKey, at: At, starts: bool, more: (u32, u32)) -> u32 {
        let HashedKey { key, side, hash, likely } = *hashed;
        let is = |slot: u32| self.open.get(slot as usize).is_some_and(|flow| flow.live && flow.key == key);
        let found = if is(likely) { Some(likely) } else { self.index.find(hash, |&slot| is(slot)).copied() };
        if let Some(slot) = found {
            if let Some(flow) = self.open.get(slot as usize)
                && (starts
                    || flow.is_full(side, more.0, more.1)
                    || (key.transport() != Transport::Tcp && is_idle(flow, at.time)))
            {
                self.cut_off(slot, hash);
            }
            self.touch(slot, at);
            return slot;
        }
        let slot = self.open_slot(key, hash, at.time);
        self.touch(slot, at);
        slot
    }

    /// Cuts an open stretch, whose key has this hash; another of the same key begins in its place.
    #[inline(never)]
    fn cut_off(&mut self, slot: u32, hash: u64) {
        let said_before = self.open.get(slot as usize).and_then(Open::said_something);
        self.end_stretch(slot, hash);
        if let Some(flow) = self.open.get_mut(slot as usize) {
            flow.begin_again(said_before);
        }
    }

    /// Puts an open stretch aside, whose key has this hash: nothing is left in its place.
    #[inline(never)]
    fn end_stretch(&mut self, slot: u32, hash: u64) {
        let Some(flow) = self.open.get_mut(slot as usize) else { return };
        put_aside(&mut self.done, flow, hash, self.base, self.capture, &mut self.changes);
        if let Some(deltas) = &mut self.deltas {
            deltas.end(slot, flow);
        }
        flow.end(&mut self.keep);
    }

    /// Whether it is kept which conversations change.
    #[inline(always)]
    fn is_followed(&self) -> bool {
        self.changes.is_some() || self.deltas.is_some()
    }

    #[inline]
    fn touch(&mut self, slot: u32, at: At) {
        if !self.is_followed() {
            return;
        }
        let Some(flow) = self.open.get_mut(slot as usize) else { return };
        if let Some(changes) = &mut self.changes {
            changes.touch(slot, flow, at);
        }
        if let Some(deltas) = &mut self.deltas {
            deltas.touch(slot, flow);
        }
    }

    fn open_slot(&mut self, key: KeyWords, hash: u64, now: i64) -> u32 {
        for _ in 0..self.patience.looks {
            self.look(now);
        }
        if self.free.is_empty() && self.open.len() >= ROOMY.min(self.options.capacity) {
            self.make_room();
        }
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.open.push(Open::nowhere());
                (self.open.len() - 1) as u32
            }
        };
        if let Some(place) = self.open.get_mut(slot as usize) {
            place.begin(key);
        }
        if self.begun.len() == ROOMY {
            self.begun.pop_front();
        }
        self.begun.push_back((slot, hash));
        let open = &self.open;
        self.index.insert_unique(hash, slot, |&slot| hash_at(open, slot));
        slot
    }

    /// Puts aside the conversation after which [`ROOMY`] others began, if it is of one packet; else the table grows, or cuts
    /// another. What began lately stays: its answer is on the way.
    fn make_room(&mut self) {
        let full = self.open.len() >= self.options.capacity;
        let oldest = if self.begun.len() == ROOMY { self.begun.pop_front() } else { None };
        if let Some((slot, hash)) = oldest {
            let flow = self.open.get(slot as usize);
            if flow.is_some_and(|flow| flow.live && flow.is_lone_packet() && flow.key.hash() == hash) {
                self.evicted += u64::from(full);
                return self.remove(slot, hash);
            }
        }
        if full {
            self.evict();
        }
    }

    /// Puts aside conversations that closed a while ago.
    #[inline(always)]
    fn close_until(&mut self, now: i64) {
        if now > self.due {
            self.close_due(now);
        }
    }

    /// The same, where there are some.
    #[inline(never)]
    fn close_due(&mut self, now: i64) {
        while let Some(&closed) = self.closed.front()
            && now.saturating_sub(closed.0) > self.patience.linger_ns
        {
            self.close_first(closed, now);
        }
        self.set_due();
    }

    /// Others closed, or patience changed.
    fn set_due(&mut self) {
        let after = |closed: &(i64, u32, u64)| closed.0.saturating_add(self.patience.linger_ns);
        self.due = self.closed.get(CLOSED_TOGETHER - 1).map_or(i64::MAX, after);
    }

    /// Puts aside the first of those that closed.
    fn close_first(&mut self, (time, slot, hash): (i64, u32, u64), now: i64) {
        self.closed.pop_front();
        let flow = self.open.get(slot as usize);
        // The place may have been taken by another conversation since.
        if flow.is_some_and(|flow| flow.live && flow.closing && flow.key.hash() == hash) {
            self.hurried += u64::from(now.saturating_sub(time) <= LINGER_NANOS);
            self.remove(slot, hash);
        }
    }

    /// Looks at one open conversation, and puts it aside if it is over by its silence.
    fn look(&mut self, now: i64) {
        if self.hand >= self.open.len() {
            self.hand = 0;
        }
        let slot = self.hand as u32;
        let Some(flow) = self.open.get(self.hand) else { return };
        self.hand += 1;
        if !flow.live {
            return;
        }
        let (quiet, usual) = match flow.key.transport() {
            Transport::Tcp => (self.patience.tcp_ns, TCP_QUIET_NANOS),
            _ => (self.patience.other_ns, UDP_IDLE_NANOS),
        };
        let silence = flow.latest().map_or(0, |latest| now.saturating_sub(latest));
        if silence > quiet {
            self.hurried += u64::from(silence <= usual);
            self.remove(slot, hash_at(&self.open, slot));
        }
    }

    /// Cuts the conversation at the hand, since all places are taken.
    fn evict(&mut self) {
        for _ in 0..self.open.len() {
            if self.hand >= self.open.len() {
                self.hand = 0;
            }
            let slot = self.hand as u32;
            self.hand += 1;
            if self.open.get(slot as usize).is_some_and(|flow| flow.live) {
                self.evicted += 1;
                self.remove(slot, hash_at(&self.open, slot));
                return;
            }
        }
    }

    /// Ends an open stretch, whose key has this hash; its place is free again.
    #[inline(never)]
    fn remove(&mut self, slot: u32, hash: u64) {
        if !self.open.get(slot as usize).is_some_and(|flow| flow.live) {
            return;
        }
        if let Ok(entry) = self.index.find_entry(hash, |&other| other == slot) {
            entry.remove();
        }
        self.end_stretch(slot, hash);
        self.free.push(slot);
    }

    /// Cuts all open stretches.
    fn cut_all(&mut self) {
        self.index.clear();
        self.free.clear();
        self.closed.clear();
        self.set_due();
        self.begun.clear();
        self.hand = 0;
        let open = std::mem::take(&mut self.open);
        let live = (0u32..).zip(&open).filter(|(_, flow)| flow.live);
        let mut live: Vec<_> = live.map(|(slot, flow)| (flow.order_time(), slot, flow)).collect();
        // As they began, so that what was never cut before is in the order of rows already.
        live.sort_unstable_by_key(|&(time, slot, _)| (time, slot));
        for (_, slot, flow) in live {
            let hash = flow.key.hash();
            put_aside(&mut self.done, flow, hash, self.base, self.capture, &mut self.changes);
            if let Some(deltas) = &mut self.deltas {
                deltas.end(slot, flow);
            }
        }
    }

    /// All stretches, in the order in which they were cut; it depends on the frames alone, never on a hash.
    pub fn finish(mut self) -> Pieces {
        self.cut_all();
        self.done
    }
}

#[inline(always)]
fn put_aside(
    done: &mut Pieces,
    flow: &Open,
    hash: u64,
    base: u64,
    capture: CaptureId,
    changes: &mut Option<Box<Changes>>,
) {
    if let Some(changes) = changes {
        changes.end(flow, base, capture);
    }
    let mut line = BriefLine::nothing();
    if flow.brief(base, &mut line).is_some() {
        return done.push_brief(&flow.key, &line, flow.sent(), hash);
    }
    put_aside_any(done, flow, hash, base, capture);
}

/// Whatever the stretch is.
#[inline(never)]
fn put_aside_any(done: &mut Pieces, flow: &Open, hash: u64, base: u64, capture: CaptureId) {
    if let Some(time) = flow.order_time() {
        done.push_view(&flow.view(base, capture), time, hash);
    }
}

fn hash_at(open: &[Open], slot: u32) -> u64 {
    open.get(slot as usize).map_or(0, |flow| flow.key.hash())
}

/// Times may run backwards: a packet long before the stretch is as far from it as one long after.
fn is_idle(flow: &Open, time: i64) -> bool {
    flow.latest().is_some_and(|latest| time.saturating_sub(latest) > UDP_IDLE_NANOS)
        || flow.first_time().is_some_and(|begin| begin.saturating_sub(time) > UDP_IDLE_NANOS)
}

/// The key of a packet's conversation, and who sent the packet.
#[inline(always)]
fn key_of(packet: &Packet<'_>) -> (KeyWords, Side) {
    let (src_port, dst_port) = match packet.payload {
        Payload::Tcp(tcp) => (tcp.src_port, tcp.dst_port),
        Payload::Udp(udp) => (udp.src_port, udp.dst_port),
        Payload::Ports(src, dst) => (src, dst),
        Payload::Icmp(icmp) => icmp_ports(packet.transport == Transport::Icmp6, icmp.kind, icmp.code),
        Payload::None => (0, 0),
    };
    let (src, dst) = (Endpoint::new(packet.src, src_port), Endpoint::new(packet.dst, dst_port));
    KeyWords::of_packet(packet.transport, src, dst)
}

/// ICMP messages that quote the packet they are about (RFC 792, RFC 4443 section 2.1).
fn is_error(v6: bool, kind: u8) -> bool {
    if v6 { matches!(kind, 1..=4) } else { matches!(kind, 3 | 4 | 5 | 11 | 12) }
}

/// SEMANTICS section 2, rung 6: what an error says about the flow that it quotes.
fn classify_error(v6: bool, kind: u8, code: u8, packet: &Packet<'_>, quote: &Quote) -> QuoteClass {
    let port_unreachable = || {
        if quote.transport != Transport::Tcp && packet.src == quote.dst {
            QuoteClass::Refused
        } else {
            QuoteClass::Prohibited
        }
    };
    match (v6, kind, code) {
        (false, 3, 4) => QuoteClass::Note,
        (false, 3, 9 | 10 | 13) | (true, 1, 1 | 5 | 6) => QuoteClass::Prohibited,
        (false, 3, 3) | (true, 1, 4) => port_unreachable(),
        (false, 3 | 11, _) | (true, 1 | 3, _) => QuoteClass::Unreachable,
        _ => QuoteClass::Note,
    }
}

#[cfg(test)]
mod tests {
    use super::super::packed::{Hellos, pack};
    use super::super::partial::PartialFlow;
    use super::*;
    use crate::decode::{Tcp, TcpFlags, Udp};
    use crate::model::Timestamp;
    use std::net::{IpAddr, Ipv4Addr};

    struct Scene {
        table: FlowTable,
        frames: u64,
    }

    /// A packet from one end to another, whatever ports its payload has; its transport is that of its payload.
    fn packet<'a>(
        (src, src_port): (IpAddr, u16),
        (dst, dst_port): (IpAddr, u16),
        payload: Payload<'a>,
    ) -> Packet<'a> {
        let (transport, payload) = match payload {
            Payload::Tcp(tcp) => (Transport::Tcp, Payload::Tcp(Tcp { src_port, dst_port, ..tcp })),
            Payload::Udp(udp) => (Transport::Udp, Payload::Udp(Udp { src_port, dst_port, ..udp })),
            other => (Transport::Icmp, other),
        };
        Packet {
            src,
            dst,
            ttl: 64,
            transport,
            vlan: None,
            vni: None,
            link_interface: None,
            fragment: None,
            fragment_bytes: &[],
            payload,
            ip_bytes: &[],
            outer: &[],
            shortfall: None,
        }
    }

    impl Scene {
        fn new(capacity: usize) -> Self {
            let budget = Arc::new(Budget::new(usize::MAX));
            let options = TableOptions { capacity, budget, keep_bytes: false };
            Scene { table: FlowTable::new(options, CaptureId::new(0)), frames: 0 }
        }

        fn keeping_bytes(capacity: usize) -> Self {
            let options =
                TableOptions { capacity, budget: Arc::new(Budget::new(usize::MAX)), keep_bytes: true };
            Scene { table: FlowTable::new(options, CaptureId::new(0)), frames: 0 }
        }

        /// A packet at so many milliseconds between a port of 10.0.0.1 and another address.
        fn packet(&mut self, millis: i64, from_client: bool, client: u16, server: u32, payload: Payload<'_>) {
            let (own, other) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::from(0xc633_0000 + server));
            let (src, dst) = if from_client { (own, other) } else { (other, own) };
            let (port, dns) = match payload {
                Payload::Udp(_) => (53, Some(!from_client)),
                _ => (443, None),
            };
            let (src_port, dst_port) = if from_client { (client, port) } else { (port, client) };
            let packet = packet((src.into(), src_port), (dst.into(), dst_port), payload);
            self.frames += 1;
            let time = Timestamp(1_700_000_000_000_000_000 + millis * 1_000_000);
            let point = FramePoint { time, capture: CaptureId::new(0), frame: self.frames };
            assert_eq!(self.table.observe(&packet, point, 60, dns), Observed::Flow);
        }

        fn tcp(&mut self, millis: i64, from_client: bool, client: u16, server: u32, flags: u8) {
            let flags = TcpFlags(flags);
            let tcp = Tcp { src_port: 0, dst_port: 0, seq: 1, ack: 1, flags, payload_len: 0, payload: &[] };
            self.packet(millis, from_client, client, server, Payload::Tcp(tcp));
        }

        /// A segment with payload; the streams begin at number 2.
        fn said(
            &mut self,
            millis: i64,
            from_client: bool,
            client: u16,
            server: u32,
            seq: u32,
            payload: &[u8],
        ) {
            let (flags, payload_len) = (TcpFlags(0x18), payload.len() as u32);
            let tcp = Tcp { src_port: 0, dst_port: 0, seq, ack: 2, flags, payload_len, payload };
            self.packet(millis, from_client, client, server, Payload::Tcp(tcp));
        }

        fn dns(&mut self, millis: i64, from_client: bool, client: u16) {
            let udp = Udp { src_port: 0, dst_port: 0, payload_len: 0, payload: &[] };
            self.packet(millis, from_client, client, 1, Payload::Udp(udp));
        }
    }

    #[test]
    fn what_came_first_and_last_is_told_by_time_in_whatever_order_packets_come() {
        // Records of application data, of one byte each.
        let record = [23, 3, 3, 0, 1, 0];
        for times in [[10, 20, 30], [10, 30, 20], [20, 10, 30], [20, 30, 10], [30, 10, 20], [30, 20, 10]] {
            let mut scene = Scene::new(9);
            scene.tcp(5, true, 1, 1, 0x02);
            for (time, seq) in times.into_iter().zip([2, 8, 14]) {
                scene.said(time, true, 1, 1, seq, &record);
            }
            let Scene { table, .. } = scene;
            let flow = table.finish().iter().next().unwrap().unwrap();
            let facts = flow.side(Side::Low);
            let millis = |point: Option<FramePoint>| point.map(|point| point.time.0 / 1_000_000 % 1_000);
            let told = [facts.beyond_syn, facts.data, facts.tls_data, facts.beyond_syn_last].map(millis);
            assert_eq!(told, [10, 10, 10, 30].map(Some), "{times:?}");
            assert_eq!(facts.last.map(|last| last.0 / 1_000_000 % 1_000), Some(30));
        }
    }

    #[test]
    fn a_stretch_is_cut_where_it_must_be_though_it_stands_where_it_is_likely_to() {
        let udp = Payload::Udp(Udp { src_port: 0, dst_port: 0, payload_len: 0, payload: &[] });
        let flags = TcpFlags(0x10);
        let tcp = Payload::Tcp(Tcp {
            src_port: 0,
            dst_port: 0,
            seq: 1,
            ack: 1,
            flags,
            payload_len: 0,
            payload: &[],
        });
        let half = i32::MAX as u32;
        for (payload, after, wire_len, stretches) in [
            (udp, UDP_IDLE_NANOS, 60, 1),
            (udp, UDP_IDLE_NANOS + 1, 60, 2),
            (tcp, UDP_IDLE_NANOS + 1, 60, 1),
            (tcp, 1, half, 1),
            (tcp, 1, half + 1, 2),
        ] {
            let Scene { mut table, .. } = Scene::new(9);
            let own: (IpAddr, u16) = ("10.0.0.1".parse().unwrap(), 50_000);
            let packet = Packet { ttl: 255, ..packet(own, ("198.51.100.7".parse().unwrap(), 443), payload) };
            for (time, frame) in [(0, 1), (after, 2)] {
                let point = FramePoint { time: Timestamp(time), capture: CaptureId::new(0), frame };
                assert_eq!(table.observe(&packet, point, wire_len, None), Observed::Flow);
            }
            let cut: Vec<PartialFlow> = table.finish().iter().map(Result::unwrap).collect();
            let told = cut.iter().map(|flow| flow.side(Side::Low).bytes).sum::<u64>();
            assert_eq!((cut.len(), told), (stretches, 2 * u64::from(wire_len)), "{payload:?} {after}");
            let ttl = matches!(payload, Payload::Tcp(_)).then_some((255, 255));
            assert!(cut.iter().all(|flow| flow.side(Side::Low).ttl == ttl));
        }
    }

    #[test]
    fn conversations_whose_both_sides_said_that_they_end_are_closed() {
        let mut scene = Scene::new(1 << 10);
        let clients = CLOSED_TOGETHER as u16;
        for client in 0..=clients {
            scene.tcp(0, true, client, 1, 0x02);
            scene.tcp(1, true, client, 1, 0x11);
            // One of them goes on in one direction.
            if client < clients {
                scene.tcp(2, false, client, 1, 0x11);
            }
        }
        scene.tcp(1_003, true, 7_777, 1, 0x10);
        assert_eq!((scene.table.cut(), scene.table.open()), (usize::from(clients), 2));
    }

    #[test]
    fn conversations_that_closed_are_put_aside_after_a_second_as_soon_as_there_are_enough_of_them() {
        let (enough, capacity) = (CLOSED_TOGETHER as u16, 1 << 10);
        for more in [0, 1, 2] {
            let mut scene = Scene::new(capacity);
            let close = |scene: &mut Scene, millis, clients: std::ops::Range<u16>| {
                for client in clients {
                    scene.tcp(millis, true, client, 1, 0x02);
                    scene.tcp(millis + 1, false, client, 1, 0x14);
                }
            };
            close(&mut scene, 0, 0..enough + more);
            scene.tcp(1_000, true, 7_777, 1, 0x02);
            assert_eq!((scene.table.cut(), scene.table.open()), (0, usize::from(enough + more) + 1));
            scene.tcp(1_002, true, 7_777, 1, 0x10);
            let cut = usize::from(enough + more);
            assert_eq!((scene.table.cut(), scene.table.open()), (cut, 1));
            // Fewer wait, until there are others.
            close(&mut scene, 1_003, 100..100 + enough - 1);
            scene.tcp(3_000, true, 7_777, 1, 0x10);
            assert_eq!((scene.table.cut(), scene.table.open()), (cut, usize::from(enough)));
            close(&mut scene, 3_001, 200..201);
            scene.tcp(4_002, true, 7_777, 1, 0x10);
            assert_eq!((scene.table.cut(), scene.table.open()), (cut, usize::from(enough) + 1));
            scene.tcp(4_003, true, 7_777, 1, 0x10);
            assert_eq!((scene.table.cut(), scene.table.open()), (cut + usize::from(enough), 1));
        }
    }

    /// Stretches, in an order that depends on them alone.
    fn told(pieces: &Pieces) -> Vec<String> {
        let mut all: Vec<String> =
            pieces.iter().map(|flow| format!("{:?}", flow.expect("a stretch in memory"))).collect();
        all.sort();
        all
    }

    #[test]
    fn whoever_reads_all_deltas_knows_what_the_table_knew_however_often_it_was_asked() {
        // A table of 40 places, so that stretches are cut for want of room, too; and one where nothing is.
        for (capacity, every, again) in [(40, 1, 7), (40, 13, 1000), (1000, 10, 1000), (1000, 97, 2)] {
            let mut scene = Scene::keeping_bytes(capacity);
            scene.table.keep_deltas();
            let mut replica = crate::flow::Replica::default();
            let mut asked = 0;
            let mut random = 7u32;
            for step in 0..3_000i64 {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let (client, server) = ((random >> 8) as u16 % 60, random >> 24 & 1);
                match random >> 28 {
                    0..3 => scene.tcp(step * 40, true, client, server, 0x02),
                    3..6 => scene.tcp(step * 40, false, client, server, 0x12),
                    6..8 => scene.tcp(step * 40, true, client, server, 0x10),
                    8 => scene.said(step * 40, step % 2 == 0, client, server, 2 + random % 9000, &[7; 700]),
                    9 => scene.tcp(step * 40, true, client, server, 0x04),
                    10..13 => scene.dns(step * 40, true, client),
                    _ => scene.dns(step * 40, false, client),
                }
                if step % every == 0 {
                    asked += 1;
                    let mut bytes = Vec::new();
                    let again = asked % again == 0;
                    scene.table.delta(again, &mut bytes).unwrap();
                    if again {
                        replica = crate::flow::Replica::default();
                    }
                    replica.apply(&bytes).unwrap();
                }
            }
            let mut bytes = Vec::new();
            scene.table.delta(false, &mut bytes).unwrap();
            replica.apply(&bytes).unwrap();
            let (known, pieces) = (told(&replica.finish().unwrap()), told(&scene.table.finish()));
            assert!(known.len() > 100, "{}", known.len());
            assert!(known == pieces, "{capacity} places, asked at every step {every}");
        }
    }

    #[test]
    fn a_stretch_is_packed_alike_from_a_table_and_as_a_value() {
        let mut scene = Scene::keeping_bytes(100);
        let (mut random, mut millis) = (11u32, 0);
        for step in 0..4_000u64 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (client, server) = ((random >> 8) as u16 % 40, random >> 24 & 1);
            millis += i64::from(random % 80);
            if step % 200 == 199 {
                // Farther than a word tells.
                (millis, scene.frames) = (millis + 700_000, scene.frames + (1 << 23));
            }
            match random >> 28 {
                0..3 => scene.tcp(millis, true, client, server, 0x02),
                3..6 => scene.tcp(millis, false, client, server, 0x12),
                6 => scene.tcp(millis, true, client, server, 0x10),
                7 => scene.tcp(millis, step % 2 == 0, client, server, 0x11),
                8 | 9 => scene.said(millis, step % 2 == 0, client, server, 2 + random % 9000, &[7; 700]),
                10 => scene.tcp(millis, true, client, server, 0x04),
                11..14 => scene.dns(millis, true, client),
                _ => scene.dns(millis, false, client),
            }
        }
        let pieces = scene.table.finish();
        let (reader, mut far) = (pieces.reader(CaptureId::new(0)), 0);
        for (number, flow) in pieces.iter().enumerate() {
            let flow = flow.unwrap();
            let row = flow.to_row();
            reader.packed(number as u32, |packed| assert_eq!(packed, &row[1..], "{flow:?}")).unwrap();
            let ends = [flow.low.first, flow.high.first, flow.low.beyond_syn_last, flow.high.beyond_syn_last];
            let frames = || ends.iter().flatten().map(|point| point.frame);
            far += usize::from(frames().max().unwrap() - frames().min().unwrap() >= 1 << 23);
        }
        assert!(pieces.len() > 1_000 && far > 10, "{} stretches, {far} of them far apart", pieces.len());
    }

    #[test]
    fn a_stretch_of_a_packet_or_two_is_written_in_one_go_as_it_is_field_by_field() {
        let tcp = |flags: u8, payload: &'static [u8]| {
            let (flags, payload_len) = (TcpFlags(flags), payload.len() as u32);
            Payload::Tcp(Tcp { src_port: 0, dst_port: 0, seq: 7, ack: 9, flags, payload_len, payload })
        };
        let udp = |payload: &'static [u8]| {
            Payload::Udp(Udp { src_port: 0, dst_port: 0, payload_len: payload.len() as u32, payload })
        };
        let (question, answer) = (Some(false), Some(true));
        // Who sent it, how much later than the first, what; whether it is a message of DNS.
        type Sent = (bool, i64, Payload<'static>, Option<bool>);
        // Whether they are written in one go, unless a number is too large for it.
        let kinds: Vec<(bool, Vec<Sent>)> = vec![
            (true, vec![(true, 0, tcp(0x02, b""), None)]),
            (false, vec![(true, 0, tcp(0x02, b"early"), None)]),
            (false, vec![(true, 0, tcp(0x03, b""), None)]),
            (false, vec![(true, 0, tcp(0x06, b""), None)]),
            (false, vec![(true, 0, tcp(0x12, b""), None)]),
            (false, vec![(true, 0, tcp(0x10, b""), None)]),
            (false, vec![(true, 0, tcp(0x02, b""), None), (false, 1, tcp(0x14, b""), None)]),
            (false, vec![(true, 0, tcp(0x02, b""), None), (false, 1, tcp(0x12, b""), None)]),
            (true, vec![(true, 0, udp(b""), None)]),
            (true, vec![(true, 0, udp(b"bytes"), None)]),
            (false, vec![(true, 0, udp(b"\xc0kept"), None)]),
            (true, vec![(true, 0, udp(b"asked"), question)]),
            (true, vec![(true, 0, udp(b"asked"), question), (false, 1, udp(b"told"), answer)]),
            (true, vec![(true, 0, udp(b"asked"), question), (false, 0, udp(b"told"), answer)]),
            (true, vec![(true, 0, udp(b"asked"), question), (false, -1, udp(b"told"), answer)]),
            (false, vec![(true, 0, udp(b"asked"), question), (false, 1, udp(b"\xc0kept"), None)]),
            (true, vec![(true, 0, udp(b"asked"), question), (false, 1, udp(b""), None)]),
            (false, vec![(true, 0, udp(b"asked"), question), (true, 1, udp(b"again"), question)]),
        ];
        let ends: [(IpAddr, IpAddr); 2] = [
            (Ipv4Addr::new(10, 0, 0, 1).into(), Ipv4Addr::new(198, 51, 100, 7).into()),
            ("fd00::1".parse().unwrap(), "2001:db8::7".parse().unwrap()),
        ];
        for (in_one_go, sent) in &kinds {
            for (own, other) in ends.into_iter().flat_map(|(a, b)| [(a, b), (b, a)]) {
                for (vlan, vni, wire_len, frame, apart) in [
                    (None, None, 60, 1, 1),
                    (Some(5), None, 60, 1 << 40, 1),
                    (None, Some(6), 60, 300, 1),
                    (None, None, 1 << 19, 1, 1),
                    (None, None, 60, 1, 1 << 24),
                ] {
                    let Scene { mut table, .. } = Scene::new(9);
                    for (place, &(from_client, later, payload, dns)) in sent.iter().enumerate() {
                        let (client, server) = ((own, 50_000), (other, 443));
                        let (src, dst) = if from_client { (client, server) } else { (server, client) };
                        let packet = Packet { vlan, vni, ..packet(src, dst, payload) };
                        let point = FramePoint {
                            time: Timestamp(1_700_000_000_000_000_000 + later),
                            capture: CaptureId::new(0),
                            frame: frame + place as u64 * apart,
                        };
                        table.observe(&packet, point, wire_len, dns);
                    }
                    let flow = table.open.first().filter(|flow| flow.live).expect("a conversation");
                    let mut by_field = Vec::new();
                    pack(&flow.view(table.base, CaptureId::new(0)), &mut Hellos::default(), &mut by_field);
                    let mut line = BriefLine::nothing();
                    let brief = flow.brief(table.base, &mut line).map(|()| line);
                    let fits = vni.is_none() && wire_len < 1 << 19 && (apart == 1 || sent.len() == 1);
                    assert_eq!(brief.is_some(), *in_one_go && fits, "{flow:?}");
                    if let Some(line) = brief {
                        assert_eq!(line.bytes(), by_field, "{flow:?}");
                    }
                    // What is read has all of it, too.
                    let pieces = table.finish();
                    let read = pieces.reader(CaptureId::new(0)).get(0).unwrap();
                    assert_eq!(read.to_row()[1..], by_field, "{read:?}");
                }
            }
        }
    }

    #[test]
    fn the_first_bytes_of_a_conversation_that_goes_on_are_told_once() {
        let mut scene = Scene::keeping_bytes(10);
        scene.table.keep_deltas();
        let mut replica = crate::flow::Replica::default();
        scene.tcp(0, true, 1, 1, 0x02);
        scene.tcp(1, false, 1, 1, 0x12);
        scene.said(2, true, 1, 1, 2, &[1; 1000]);
        for (step, bytes, least) in [
            (0, None, 1000),
            (1, None, 0),
            (2, Some((true, 1002)), 500),
            // Far behind what is kept.
            (3, Some((true, 50_000)), 0),
            (4, Some((false, 2)), 500),
            (5, None, 0),
        ] {
            match bytes {
                Some((from_client, seq)) => scene.said(step * 10, from_client, 1, 1, seq, &[2; 500]),
                None => scene.tcp(step * 10, false, 1, 1, 0x10),
            }
            let mut told = Vec::new();
            scene.table.delta(false, &mut told).unwrap();
            // Some hundred bytes beside them: what is told of a conversation in any case.
            assert!((least + 1..least + 200).contains(&told.len()), "{step}: {}", told.len());
            replica.apply(&told).unwrap();
        }
        assert_eq!(told(&replica.finish().unwrap()), told(&scene.table.finish()));
    }

    #[test]
    fn what_a_table_holds_at_its_end_is_put_aside_as_it_began() {
        let mut scene = Scene::new(1 << 17);
        // The first two close, and what begins later takes their places in front of others.
        for client in 1..=4 {
            scene.tcp(client.into(), true, client, 1, 0x02);
        }
        for client in [2, 1] {
            scene.tcp(10, false, client, 1, 0x14);
        }
        for client in 5..=8 {
            scene.tcp(2_000 + i64::from(client), true, client, 1, 0x02);
        }
        let pieces = scene.table.finish();
        let (cut, held) = pieces.times().split_at(2);
        assert!((cut.len(), held.len()) == (2, 6) && held.is_sorted(), "{cut:?} {held:?}");
    }

    #[test]
    fn a_flood_of_lone_packets_leaves_conversations_in_their_places() {
        let mut scene = Scene::new(1 << 17);
        for client in 1..=100 {
            scene.tcp(0, true, client, 1, 0x02);
            scene.tcp(1, false, client, 1, 0x12);
        }
        (0..50_000).for_each(|server| scene.tcp(10, true, 9, server + 1000, 0x02));
        // Those that were answered stay, and the last of the flood.
        assert_eq!((scene.table.open(), scene.table.evicted()), (100 + ROOMY, 0));
        (1..=100).for_each(|client| scene.tcp(20, true, client, 1, 0x10));
        assert_eq!(scene.table.open(), 100 + ROOMY);
        let pieces = scene.table.finish();
        // Each conversation is one stretch still.
        assert_eq!(pieces.len(), 100 + 50_000);
    }

    #[test]
    fn a_packet_alone_waits_for_its_answer_while_fewer_than_eight_thousand_others_begin() {
        let mut scene = Scene::new(1 << 17);
        for server in 0..2 * ROOMY as u32 {
            scene.tcp(0, true, 9, server, 0x02);
            scene.tcp(1, false, 9, server, 0x12);
        }
        let before = scene.table.open();
        scene.tcp(2, true, 8, 1, 0x02);
        (0..ROOMY as u32 - 1).for_each(|server| scene.tcp(3, true, 7, server, 0x02));
        scene.tcp(4, false, 8, 1, 0x12);
        assert_eq!(scene.table.open(), before + ROOMY);
        assert_eq!(scene.table.finish().len(), before + ROOMY);
    }

    #[test]
    fn conversations_take_all_places_that_there_are_and_no_more() {
        let mut scene = Scene::new(3 * ROOMY / 2);
        for server in 0..2 * ROOMY as u32 {
            scene.tcp(0, true, 9, server, 0x02);
            scene.tcp(1, false, 9, server, 0x12);
        }
        assert_eq!((scene.table.open(), scene.table.evicted()), (3 * ROOMY / 2, ROOMY as u64 / 2));
    }

    #[test]
    fn a_question_that_was_answered_leaves_its_place_and_a_port_that_asks_on_does_not() {
        let mut scene = Scene::new(1 << 17);
        // As many were answered as are put aside together.
        let others = 100..98 + CLOSED_TOGETHER as u16;
        for client in [1, 2, 3].into_iter().chain(others.clone()) {
            scene.dns(0, true, client);
        }
        for client in [1, 2].into_iter().chain(others.clone()) {
            scene.dns(10, false, client);
        }
        scene.dns(20, true, 2);
        scene.tcp(1_010, true, 9, 1, 0x02);
        assert_eq!(scene.table.open(), 4 + others.len());
        scene.tcp(1_011, true, 8, 1, 0x02);
        // The first of the three is over, and so are the others; the last has no answer.
        assert_eq!(scene.table.open(), 4);
        scene.dns(1_012, false, 2);
        assert_eq!((scene.table.open(), scene.table.finish().len()), (4, 5 + others.len()));
    }
}
