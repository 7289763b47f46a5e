//! From stitched stretches to the record of a whole flow: who began, how far it got, what its first bytes say.

use super::head::{DNS_HEAD_BYTES, HEAD_BYTES, Opening, Stream, Told};
use super::key::Side;
use super::outcome::{ConnState, Outcome, PayloadSigns, Surroundings, conn_state, decide};
use super::partial::{Acks, PartialFlow};
use super::record::{ConnectTarget, FlowRecord, InitiatorBy, Proof, ProofKind};
use super::seen::{Seen, SideSeen};
use super::short::{Form, Unpacked};
use super::stitch::began_by;
use crate::model::{AppProtocol, CaptureId, DomainName, Endpoint, FramePoint, Spans, Timestamp, Transport};
use crate::names::{HostName, app, http, http2, quic, tls};
use foldhash::fast::RandomState;
use hashbrown::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

/// Which hosts the captures see packets to: a missing reply means something only there.
#[derive(Clone, Debug, Default)]
pub struct HostSight {
    seen: HashSet<IpAddr, RandomState>,
}

impl HostSight {
    /// From the addresses to which packets were seen; `host_of` gives the one address that stands for a host of several.
    pub fn of_reached(reached: impl Iterator<Item = IpAddr>, host_of: &dyn Fn(IpAddr) -> IpAddr) -> Self {
        HostSight { seen: reached.map(host_of).collect() }
    }

    /// Packets to `host` are seen, too.
    pub fn add(&mut self, host: IpAddr) {
        self.seen.insert(host);
    }

    /// How many hosts there are.
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// Whether packets to `host` are seen. Asked only for hosts whose own flow got no packet, so that a yes comes from
    /// other flows.
    pub fn sees(&self, host: IpAddr) -> bool {
        self.seen.contains(&host)
    }
}

/// Everything that turning stitched stretches into whole flows rests on.
pub struct Finisher<'a> {
    /// When the captures saw frames.
    pub spans: &'a Spans,
    /// Which hosts they see packets to.
    pub sight: &'a HostSight,
    /// The address that stands for a host.
    pub host_of: &'a dyn Fn(IpAddr) -> IpAddr,
    /// Whether a port is a service's beyond those below 1024.
    pub is_service: &'a dyn Fn(Transport, u16) -> bool,
}

/// A whole flow, decided, without a text that nobody asked for: millions of them are judged and dropped one by one. Its
/// row is made on demand ([`Flow::record`]), from here and from the stretch that it is of.
#[derive(Clone, Debug)]
pub struct Flow<'p> {
    /// The stretch that it is.
    stretch: Form<'p>,
    side: Side,
    /// How the initiator is known.
    pub initiator_by: InitiatorBy,
    /// Who began.
    pub from: Endpoint,
    /// With whom.
    pub to: Endpoint,
    /// The transport.
    pub proto: Transport,
    /// Earliest time.
    pub first_ts: Timestamp,
    /// Latest time.
    pub last_ts: Timestamp,
    /// Frames from the initiator.
    pub packets_fwd: u64,
    /// Frames to the initiator.
    pub packets_rev: u64,
    /// Wire length of all frames, bytes.
    pub bytes: u64,
    /// How far it got.
    pub outcome: Outcome,
    /// Type and code of the ICMP error that decided the outcome.
    pub icmp: Option<(u8, u8)>,
    /// Application protocol seen in the first payload bytes.
    pub app: Option<AppProtocol>,
    /// How many first payload bytes the application was to be told from: the client's, or the server's while the client
    /// is silent; 0 where the start of the stream is not seen.
    pub telling_bytes: usize,
    /// Whether it goes between ports of DHCP and is something else.
    pub no_dhcp: bool,
    /// Where that error is.
    quoted_at: Option<FramePoint>,
    talk: Option<Box<Talk>>,
}

/// What the first bytes of both directions say, of the flows in which they say anything.
#[derive(Clone, Debug, Default)]
struct Talk {
    hello: Option<Arc<tls::ClientHello>>,
    named_at: Option<FramePoint>,
    version: Option<u16>,
    host: Option<String>,
    /// Whether requests on the connection name different hosts.
    hosts_differ: bool,
    /// What the client asked its proxy for, each destination once; one that was refused last comes first.
    asked: Vec<Asked>,
    /// Whether the flow is about one of several of them.
    is_part: bool,
    alert: Option<u8>,
    status: Option<u16>,
    signs: PayloadSigns,
}

/// A destination that a client asked its proxy for.
#[derive(Clone, Debug)]
struct Asked {
    target: ConnectTarget,
    /// The last request for it that tells something: which of all, where it is, and the answer to it.
    place: usize,
    request: Option<FramePoint>,
    answer: Option<(Option<FramePoint>, u16)>,
    fate: Fate,
    /// Whether what follows in the stream went through its tunnel.
    holds_tunnel: bool,
}

/// What became of a request to a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It was answered, or the client went on as if it had been.
    Through,
    /// The proxy refused.
    Denied,
    /// Its answer is not there, or tells neither.
    Unknown,
}

#[derive(Default)]
struct FirstBytes {
    app: Option<AppProtocol>,
    telling_bytes: usize,
    no_dhcp: bool,
    talk: Option<Box<Talk>>,
}

impl FirstBytes {
    /// Those of a stretch of which none are kept.
    #[inline]
    fn none<S: Seen>(stretch: &S) -> Self {
        let app = match stretch.key().transport {
            Transport::Tcp => None,
            _ if stretch.is_dns() => Some(AppProtocol::Dns),
            Transport::Udp => app::recognise_udp(&[], &[]),
            _ => None,
        };
        FirstBytes { app, ..FirstBytes::default() }
    }

    fn talk(&mut self) -> &mut Talk {
        self.talk.get_or_insert_default()
    }
}

impl Finisher<'_> {
    /// The flow that a stitched stretch is.
    pub fn finish<'p>(&self, stretch: &'p PartialFlow) -> Flow<'p> {
        let began = began_by(stretch, self.is_service);
        self.decided(stretch, Form::Full(stretch), began, first_bytes(stretch, began.0))
    }

    /// The same of one that was read.
    #[inline]
    pub fn finish_read<'p>(&self, stretch: &'p Unpacked) -> Flow<'p> {
        match stretch.form() {
            Form::Full(stretch) => self.finish(stretch),
            Form::Short(short) => {
                let began = began_by(short, self.is_service);
                self.decided(short, Form::Short(short), began, FirstBytes::none(short))
            }
        }
    }

    #[inline(always)]
    fn decided<'p, S: Seen>(
        &self,
        seen: &'p S,
        stretch: Form<'p>,
        (side, initiator_by): (Side, InitiatorBy),
        bytes: FirstBytes,
    ) -> Flow<'p> {
        let (own, peer) = (seen.side(side), seen.side(side.other()));
        let (from, to) = (seen.key().endpoint(side), seen.key().endpoint(side.other()));
        let signs = bytes.talk.as_ref().map(|talk| talk.signs).unwrap_or_default();
        let sees_initiator = || self.sight.sees((self.host_of)(from.ip));
        let around = Surroundings { spans: self.spans, sees_initiator: &sees_initiator };
        let decision = decide(seen, side, &signs, &around);
        let first_ts = seen.order_time().unwrap_or_default();
        Flow {
            stretch,
            side,
            initiator_by,
            from,
            to,
            proto: seen.key().transport,
            first_ts,
            last_ts: own.last().max(peer.last()).or(seen.quoted_last()).unwrap_or(first_ts),
            packets_fwd: own.packets(),
            packets_rev: peer.packets(),
            bytes: own.bytes() + peer.bytes(),
            outcome: decision.outcome,
            icmp: decision.icmp.map(|quote| (quote.kind, quote.code)),
            app: bytes.app,
            telling_bytes: bytes.telling_bytes,
            no_dhcp: bytes.no_dhcp,
            quoted_at: decision.icmp.map(|quote| quote.point),
            talk: bytes.talk,
        }
    }
}

impl Flow<'_> {
    /// First payload bytes with which every application protocol that portproof knows can be told: a TLS record header and
    /// a handshake type need 6, TDS and PostgreSQL start with 8.
    pub const TELLING_BYTES: usize = 8;

    /// Community ID v1.
    pub fn flow_id(&self) -> String {
        let key = match self.stretch {
            Form::Full(stretch) => &stretch.key,
            Form::Short(short) => &short.key,
        };
        key.flow_id(self.side)
    }

    /// The very first frame, or the first error about it.
    pub fn begin(&self) -> Option<FramePoint> {
        self.stretch.begin()
    }

    /// Whether the connection demonstrably worked: what coverage counts as observed. A responder of whom nothing but resets is seen
    /// refused, if anything.
    pub fn worked(&self) -> bool {
        let of_a_part = matches!(self.outcome, Outcome::OneSided | Outcome::Midstream);
        self.outcome.worked() && !(of_a_part && self.only_reset())
    }

    #[inline(never)]
    fn only_reset(&self) -> bool {
        let stretch = &*self.stretch.in_full();
        let peer = stretch.side(self.side.other());
        // Acknowledgements of resets are not among these; every other packet of a conversation has one, but for a first SYN.
        peer.reset.is_some() && peer.acks == Acks::None && peer.payload == 0
    }

    /// Whether its first bytes say something: a name, a host, what a proxy was asked for. Of most flows they do not, or are not kept.
    #[inline]
    pub fn says_something(&self) -> bool {
        self.talk.is_some()
    }

    /// Name in the ClientHello.
    pub fn server_name(&self) -> Option<&DomainName> {
        self.talk.as_ref()?.hello.as_ref()?.server_name.as_ref()
    }

    /// Whether the ClientHello is encrypted (ECH), so that its readable name may be a cover.
    pub fn ech(&self) -> bool {
        self.talk.as_ref().and_then(|talk| talk.hello.as_ref()).is_some_and(|hello| hello.ech)
    }

    /// Host of the first HTTP request.
    pub fn http_host(&self) -> Option<&str> {
        self.talk.as_ref()?.host.as_deref()
    }

    /// TCP or UDP payload from the initiator, and to it, bytes.
    pub fn payload(&self) -> (u64, u64) {
        let stretch = &*self.stretch.in_full();
        (stretch.side(self.side).payload, stretch.side(self.side.other()).payload)
    }

    /// Whether requests on the connection name different hosts: then none of them tells whose it is.
    pub fn hosts_differ(&self) -> bool {
        self.talk.as_ref().is_some_and(|talk| talk.hosts_differ)
    }

    /// Where the server name was read.
    pub fn named_at(&self) -> Option<FramePoint> {
        self.talk.as_ref()?.named_at
    }

    /// Application protocols that the client offered inside TLS.
    pub fn alpn(&self) -> &[String] {
        let hello = self.talk.as_ref().and_then(|talk| talk.hello.as_ref());
        hello.map(|hello| hello.alpn.as_slice()).unwrap_or_default()
    }

    /// Where the client asked a proxy to connect it to.
    pub fn proxy_target(&self) -> Option<&ConnectTarget> {
        self.talk.as_ref()?.asked.first().map(|asked| &asked.target)
    }

    /// Status with which the proxy refused.
    pub fn proxy_status(&self) -> Option<u16> {
        self.talk.as_ref()?.status
    }

    /// What else the client asked on the same connection, in order, each once.
    pub fn further_targets(&self) -> impl Iterator<Item = &ConnectTarget> {
        self.talk.iter().flat_map(|talk| talk.asked.iter().skip(1)).map(|asked| &asked.target)
    }

    /// The flow as far as it is about one of the destinations that it asked its proxy for: with the outcome and the frames of that
    /// one.
    #[must_use]
    pub fn of_target(&self, target: &ConnectTarget) -> Self {
        let mut flow = self.clone();
        let Some(talk) = &mut flow.talk else { return flow };
        let Some(asked) = talk.asked.iter().find(|asked| asked.target == *target).cloned() else {
            return flow;
        };
        let is_denied = asked.fate == Fate::Denied;
        talk.status = asked.answer.map(|(_, status)| status).filter(|_| is_denied);
        talk.signs.proxy_denied = asked.answer.and_then(|(point, _)| point).filter(|_| is_denied);
        if !asked.holds_tunnel {
            (talk.hello, talk.version) = (None, None);
            (talk.alert, talk.signs.tls_refused) = (None, None);
        }
        let fate = asked.fate;
        (talk.asked, talk.is_part) = (vec![asked], true);
        if talk.hello.is_none() {
            // What was announced first was for another destination.
            talk.named_at = None;
        }
        let tls_refused = talk.signs.tls_refused.is_some();
        let of_talk = matches!(self.outcome, Outcome::ProxyDenied | Outcome::TlsRefused);
        flow.outcome = match fate {
            Fate::Denied => Outcome::ProxyDenied,
            Fate::Through if of_talk && tls_refused => Outcome::TlsRefused,
            Fate::Through if of_talk => Outcome::Established,
            Fate::Unknown if of_talk || self.outcome.worked() => Outcome::Undetermined,
            Fate::Through | Fate::Unknown => self.outcome,
        };
        flow
    }

    /// DNS queries over UDP in it.
    pub fn dns_queries(&self) -> u32 {
        fn queries<S: Seen>(stretch: &S) -> u32 {
            let [low, high] = [Side::Low, Side::High].map(|side| stretch.side(side).dns().queries);
            low.saturating_add(high)
        }
        match self.stretch {
            Form::Full(stretch) => queries(stretch),
            Form::Short(short) => queries(short),
        }
    }

    /// Zeek's state.
    pub fn conn_state(&self) -> ConnState {
        conn_state(&self.stretch.in_full(), self.side)
    }

    /// Whether a reset came with another time to live than the responder's other packets: a hint at a device on the way.
    pub fn reset_ttl_differs(&self) -> bool {
        // In a short one there is no reset.
        let Form::Full(stretch) = self.stretch else { return false };
        let peer = stretch.side(self.side.other());
        let ends = peer.reset.zip(peer.ttl);
        ends.is_some_and(|(reset, (low, high))| !(low..=high).contains(&reset.ttl))
    }

    /// The frames that prove something about it, in the order in which they were taken.
    pub fn proofs(&self) -> Vec<(ProofKind, FramePoint)> {
        // As many as there may be.
        let mut proofs = Vec::with_capacity(10);
        self.proofs_into(&mut proofs);
        proofs
    }

    /// The same, in place of what stands there.
    pub fn proofs_into(&self, proofs: &mut Vec<(ProofKind, FramePoint)>) {
        proofs.clear();
        match self.stretch {
            Form::Full(stretch) => self.add_proofs(stretch, proofs),
            Form::Short(short) => self.add_proofs(short, proofs),
        }
        proofs.sort_by_key(|&(what, point)| (point, what));
        proofs.dedup();
    }

    fn add_proofs<S: Seen>(&self, stretch: &S, proofs: &mut Vec<(ProofKind, FramePoint)>) {
        let (own, peer) = (stretch.side(self.side), stretch.side(self.side.other()));
        let mut prove = |what, point: Option<FramePoint>| proofs.extend(point.map(|point| (what, point)));
        let signs = self.talk.as_ref().map(|talk| talk.signs).unwrap_or_default();
        prove(ProofKind::Syn, own.syn().map(|syn| syn.first));
        prove(ProofKind::Syn, own.syn().filter(|syn| syn.count > 1).map(|syn| syn.last));
        prove(ProofKind::Reply, peer.syn_ack().map(|syn_ack| syn_ack.first).or(peer.first()));
        let part = self.talk.as_ref().filter(|talk| talk.is_part).and_then(|talk| talk.asked.first());
        match part {
            Some(asked) => {
                prove(ProofKind::Payload, asked.request);
                prove(ProofKind::Payload, asked.answer.and_then(|(point, _)| point));
            }
            None => {
                prove(
                    ProofKind::Payload,
                    stretch.said(self.side).or(if own.syn().is_none() { own.first() } else { None }),
                );
                prove(ProofKind::Payload, stretch.said(self.side.other()));
            }
        }
        prove(ProofKind::Payload, signs.proxy_denied.or(signs.tls_refused));
        prove(ProofKind::Reset, own.reset().map(|reset| reset.first));
        prove(ProofKind::Reset, peer.reset().map(|reset| reset.first));
        let quoted = stretch.quotes().iter().map(|quote| quote.point).min();
        prove(ProofKind::Icmp, self.quoted_at.or(quoted));
        prove(ProofKind::Name, self.named_at());
    }

    /// The row of a flow; `captures` are the names of the captures, by number.
    pub fn record(&self, captures: &[Arc<str>]) -> FlowRecord {
        let name = |id: CaptureId| capture_name(captures, id);
        let stretch = &*self.stretch.in_full();
        let (own, peer) = (stretch.side(self.side), stretch.side(self.side.other()));
        let proofs = self.proofs();
        let capture = self.begin().map(|point| point.capture);
        let mut frames: Vec<u64> =
            proofs.iter().filter(|(_, at)| Some(at.capture) == capture).map(|(_, at)| at.frame).collect();
        frames.dedup();
        let proof = |&(what, at): &(ProofKind, FramePoint)| Proof {
            what,
            capture: name(at.capture),
            frame: at.frame,
        };
        let talk = self.talk.as_deref();
        let hello = talk.and_then(|talk| talk.hello.as_ref());
        FlowRecord {
            flow_id: self.flow_id(),
            capture: capture.map_or_else(|| Arc::from(""), name),
            initiator_ip: self.from.ip,
            initiator_port: self.from.port,
            responder_ip: self.to.ip,
            responder_port: self.to.port,
            proto: self.proto,
            initiator_by: self.initiator_by,
            vlan: stretch.vlan,
            vni: stretch.vni,
            first_ts: self.first_ts,
            last_ts: self.last_ts,
            packets_fwd: own.packets,
            packets_rev: peer.packets,
            bytes_fwd: own.bytes,
            bytes_rev: peer.bytes,
            payload_fwd: own.payload,
            payload_rev: peer.payload,
            conn_state: conn_state(stretch, self.side),
            outcome: self.outcome,
            icmp_type: self.icmp.map(|(kind, _)| kind),
            icmp_code: self.icmp.map(|(_, code)| code),
            syn_count: own.syn.map_or(0, |syn| syn.count),
            handshake_rtt_ns: handshake_rtt(stretch, self.side),
            app: self.app,
            server_name: self.server_name().cloned(),
            http_host: self.http_host().map(str::to_owned),
            tls_version: talk.and_then(|talk| talk.version).and_then(tls::version_name).map(str::to_owned),
            frames,
            proof: proofs.iter().map(proof).collect(),
            tls_offered: hello.iter().flat_map(|hello| hello.offered()).map(str::to_owned).collect(),
            alpn: hello.map(|hello| hello.alpn.clone()).unwrap_or_default(),
            ech: self.ech(),
            proxy_target: self.proxy_target().cloned(),
            reset_ttl_differs: self.reset_ttl_differs(),
            tls_alert: talk.and_then(|talk| talk.alert),
            proxy_status: talk.and_then(|talk| talk.status),
        }
    }
}

/// The name of a capture; empty for a number that no capture has.
pub fn capture_name(captures: &[Arc<str>], id: CaptureId) -> Arc<str> {
    captures.get(id.index()).cloned().unwrap_or_else(|| Arc::from(""))
}

/// From the SYN to the initiator's first packet after the SYN-ACK; none where the SYN was repeated, since then nobody
/// knows which of them was answered.
fn handshake_rtt(flow: &PartialFlow, initiator: Side) -> Option<i64> {
    let (own, peer) = (flow.side(initiator), flow.side(initiator.other()));
    let (syn, answer, ack) = (own.syn?, peer.syn_ack?, own.beyond_syn?);
    let ordered = syn.first.time <= answer.first.time && answer.first.time <= ack.time;
    (syn.count == 1 && ordered).then(|| ack.time.since(syn.first.time))
}

/// The contiguous first bytes that a side sent; of a TLS stream that was read as it arrived, those that were not.
pub fn tcp_stream(flow: &PartialFlow, side: Side) -> Stream<'_> {
    if !flow.side(side).head.has_segments() {
        return Stream::default();
    }
    let dns = flow.key.low.port == 53 || flow.key.high.port == 53;
    let limit = if dns { DNS_HEAD_BYTES } else { HEAD_BYTES };
    flow.side(side).head.rest(flow.stream_start(side), limit)
}

fn first_bytes(flow: &PartialFlow, initiator: Side) -> FirstBytes {
    let mut found = FirstBytes::default();
    let (own, peer) = (flow.side(initiator), flow.side(initiator.other()));
    if flow.key.transport != Transport::Tcp {
        if flow.is_dns() {
            found.app = Some(AppProtocol::Dns);
        } else if flow.key.transport == Transport::Udp {
            let (client, server) = (own.head.datagrams(), peer.head.datagrams());
            let ports = [flow.key.low.port, flow.key.high.port];
            found.no_dhcp = client.iter().chain(&server).any(|datagram| app::is_no_dhcp(ports, datagram));
            found.app = app::recognise_udp(
                client.first().copied().unwrap_or_default(),
                server.first().copied().unwrap_or_default(),
            );
            if found.app == Some(AppProtocol::Quic)
                && let Some(hello) = quic::client_hello(&client)
            {
                let talk = found.talk();
                talk.named_at = own.head.segments().map(|segment| segment.point).min();
                talk.version = Some(tls::TLS_1_3);
                talk.hello = Some(Arc::new(hello));
            }
            if found.app == Some(AppProtocol::Ssdp)
                && let Some(request) =
                    client.first().and_then(|datagram| http::requests(datagram).into_iter().next())
                && let Some(host) = request.destination()
            {
                let talk = found.talk();
                talk.named_at = own.head.segments().map(|segment| segment.point).min();
                talk.host = Some(host.name.in_uri());
            }
        }
        return found;
    }
    // Most connections that are only tried carry nothing.
    if own.head.is_empty() && peer.head.is_empty() {
        return found;
    }
    let (client, server) = (tcp_stream(flow, initiator), tcp_stream(flow, initiator.other()));
    let (own_told, peer_told) = (own.head.told(), peer.head.told());
    let silent = client.bytes.is_empty() && own_told.is_none();
    if silent && server.bytes.is_empty() && peer_told.is_none() {
        return found;
    }
    let decides = if silent { peer_told } else { own_told };
    found.app = match decides.map(|told| &told.opening) {
        Some(Opening::ClientHello(_)) if !silent => Some(AppProtocol::Tls),
        Some(Opening::ServerHello(_)) if silent => Some(AppProtocol::Tls),
        // Nothing, or the hello of the other role, which its bytes would not be taken for either.
        Some(_) => None,
        None => app::recognise(&client.bytes, &server.bytes),
    };
    if own.syn.is_some() || peer.syn_ack.is_some() {
        found.telling_bytes = match (decides.is_some(), silent) {
            (true, _) => Flow::TELLING_BYTES,
            (false, true) => server.bytes.len(),
            (false, false) => client.bytes.len(),
        };
    }
    let app = found.app;
    let hello = match (app, own_told) {
        (Some(_), Some(Told { opening: Opening::ClientHello(hello), begin, .. })) => {
            Some((Some(*begin), hello.clone()))
        }
        (Some(app), _) => app::inner_client_hello(app, &client.bytes)
            .map(|(offset, hello)| (client.point_at(offset), Arc::new(hello))),
        (None, _) => None,
    };
    if let Some((named_at, hello)) = hello {
        let talk = found.talk();
        talk.named_at = named_at;
        let chosen = match (peer_told.map(|told| &told.opening), app) {
            (Some(Opening::ServerHello(version)), _) => Some(*version),
            (_, Some(app)) => app::inner_server_version(app, &server.bytes),
            (_, None) => None,
        };
        talk.version = chosen.or_else(|| hello.highest_offered());
        talk.hello = Some(hello);
    }
    if found.app == Some(AppProtocol::Http) {
        let requests = http::requests(&client.bytes);
        if let Some(first) = requests.first() {
            let talk = found.talk();
            talk.host = first.destination().map(|host| host.name.in_uri());
            let mut names = requests.iter().filter_map(|request| Some(&request.destination()?.name));
            talk.hosts_differ = names.next().is_some_and(|first| names.any(|name| name != first))
                || requests.iter().any(|request| request.hosts_differ && !request.is_for_proxy());
            talk.named_at = client.point_at(first.offset);
            proxy_talk(talk, &requests, &client, &server);
        } else if let Some((offset, host)) = http2::authority(&client.bytes) {
            let talk = found.talk();
            talk.host = Some(host.name.in_uri());
            talk.named_at = client.point_at(offset);
        }
    }
    let hello = found.talk.as_ref().is_some_and(|talk| talk.hello.is_some());
    if (found.app == Some(AppProtocol::Tls) || hello)
        && let Some((at, what)) = tls_alert(own, peer, &client, &server)
    {
        let talk = found.talk();
        talk.signs.tls_refused = Some(at);
        talk.alert = Some(what);
    }
    found
}

/// What a request asks a proxy for. Before a tunnel proxies go by the Host field of a request in origin form, too, where the client
/// takes them for a proxy.
fn asked_for(request: &http::Request) -> Option<ConnectTarget> {
    let target = request.destination()?;
    let tunnel = request.is_connect();
    let (name, ip) = match &target.name {
        HostName::Name(name) => (Some(name.clone()), None),
        HostName::Ip(ip) => (None, Some(*ip)),
    };
    Some(ConnectTarget { name, ip, port: target.port.unwrap_or(if tunnel { 443 } else { 80 }), tunnel })
}

/// What a client asked a proxy, and whether the proxy refused.
fn proxy_talk(found: &mut Talk, requests: &[http::Request], client: &Stream<'_>, server: &Stream<'_>) {
    if !requests.iter().any(http::Request::is_for_proxy) {
        return;
    }
    let first_tunnel = requests.iter().position(http::Request::is_connect).unwrap_or(requests.len());
    // Behind a tunnel's beginning it is what goes through it.
    let asks = |(place, request): &(usize, &http::Request)| request.is_for_proxy() || *place < first_tunnel;
    let went_on = first_tunnel < requests.len() && inner_hello(found, requests, client);
    // Answers come in the order of requests (RFC 9112 section 9.3.2); what more looks like answers is text of theirs.
    let statuses = http::statuses_to(&server.bytes, requests);
    let answers: Vec<(usize, u16)> = statuses.into_iter().filter(|(_, status)| *status >= 200).collect();
    let mut all: Vec<Asked> = Vec::new();
    for (place, request) in requests.iter().enumerate().filter(asks) {
        let Some(target) = asked_for(request) else { continue };
        let answer = answers.get(place).copied();
        let fate = match answer {
            Some((_, 200..=299)) => Fate::Through,
            Some((_, 403 | 407 | 502..=504)) if request.is_connect() => Fate::Denied,
            Some(_) if request.is_connect() => Fate::Unknown,
            Some(_) => Fate::Through,
            // A page of a few kilobytes with a refusal hides the answer to the next try. The client saw it, and began its handshake.
            None if went_on && server.bytes.len() >= HEAD_BYTES as usize => Fate::Through,
            None => Fate::Unknown,
        };
        if fate == Fate::Through && answer.is_none_or(|(_, status)| status < 300) {
            // Who is asked for credentials and gives them is not denied (SEMANTICS section 2), and who is let through at last is not.
            let forgiven = |asked: &Asked| asked.answer.is_some_and(|(_, status)| status == 407);
            for asked in all.iter_mut().filter(|asked| asked.fate == Fate::Denied && forgiven(asked)) {
                asked.fate = Fate::Unknown;
            }
        }
        if fate == Fate::Through && request.is_connect() {
            all.iter_mut().for_each(|asked| asked.holds_tunnel = false);
        }
        let now = Asked {
            place,
            request: client.point_at(request.offset),
            answer: answer.map(|(offset, status)| (server.point_at(offset), status)),
            fate,
            holds_tunnel: fate == Fate::Through && request.is_connect(),
            target,
        };
        match all.iter_mut().find(|asked| asked.target == now.target) {
            // A try of which nothing is known takes nothing back.
            Some(before) if fate == Fate::Unknown && before.fate != Fate::Unknown => {}
            Some(before) => *before = now,
            None => all.push(now),
        }
    }
    let denied = all.iter().enumerate().filter(|(_, asked)| asked.fate == Fate::Denied);
    if let Some((last, _)) = denied.max_by_key(|(_, asked)| asked.place) {
        // What was refused is what there is to tell of.
        all.get_mut(..=last).into_iter().for_each(|until| until.rotate_right(1));
        if let Some((point, status)) = all.first().and_then(|denied| denied.answer) {
            (found.signs.proxy_denied, found.status) = (point, Some(status));
        }
    }
    found.asked = all;
}

/// Reads the client's own handshake inside the tunnel, behind its (last) request; whether it is there.
fn inner_hello(found: &mut Talk, requests: &[http::Request], client: &Stream<'_>) -> bool {
    let end = requests.iter().rev().find(|request| request.is_connect()).and_then(|request| request.head_end);
    let inner = end.and_then(|end| Some((end, client.bytes.get(end..)?)));
    let Some((end, hello)) = inner.and_then(|(end, inner)| Some((end, tls::client_hello(inner)?))) else {
        return false;
    };
    found.named_at = client.point_at(end);
    found.hello = Some(Arc::new(hello));
    true
}

/// Rung 2: a fatal alert readable in the clear, level fatal, before any application data of either direction.
fn tls_alert(
    own: &super::partial::SideFacts,
    peer: &super::partial::SideFacts,
    client: &Stream<'_>,
    server: &Stream<'_>,
) -> Option<(FramePoint, u8)> {
    let mut alert: Option<(FramePoint, u8)> = None;
    let mut data: Option<FramePoint> = None;
    for (stream, side) in [(client, own), (server, peer)] {
        let in_head = tls::fatal_alert(&stream.bytes);
        let in_head = in_head.and_then(|(offset, what)| Some((stream.point_at(offset)?, what)));
        let told = side.head.told();
        let read = told.and_then(|told| told.alert);
        alert = alert.into_iter().chain(in_head).chain(side.alert).chain(read).min();
        // An alert that is read in a stream comes before all application data of that stream, though one frame may carry both.
        let in_head = match in_head {
            None => tls::first_application_data(&stream.bytes).and_then(|offset| stream.point_at(offset)),
            Some(_) => None,
        };
        let read = told.and_then(|told| told.data);
        data = data.into_iter().chain(in_head).chain(side.tls_data).chain(read).min();
    }
    alert.filter(|&(at, _)| data.is_none_or(|data| at < data))
}

#[cfg(test)]
mod tests {
    use super::super::head::Head;
    use super::super::key::FlowKey;
    use super::super::partial::{DnsSeen, SideFacts, Syn, SynAck};
    use super::super::pieces::Pieces;
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn an_application_is_told_by_whoever_speaks_and_by_nobody_where_both_are_silent() {
        let point = |frame: u64| FramePoint { time: Timestamp(frame as i64), frame, ..FramePoint::default() };
        let said = |seq: u32, bytes: &[u8]| {
            let mut head = Head::default();
            if !bytes.is_empty() {
                head.add(Some(seq), seq, point(4), bytes, HEAD_BYTES);
            }
            head
        };
        let finisher = Finisher {
            spans: &Spans::default(),
            sight: &HostSight::default(),
            host_of: &|ip| ip,
            is_service: &|_, _| false,
        };
        for (client, server, expected, telling) in [
            (&b""[..], &b""[..], None, 0),
            (b"", b"SSH-2.0-server\r\n", Some(AppProtocol::Ssh), 16),
            (b"SSH-2.0-client\r\n", b"", Some(AppProtocol::Ssh), 16),
        ] {
            let ends = [([10, 0, 0, 1], 50_000), ([198, 51, 100, 7], 22)]
                .map(|(ip, port)| Endpoint::new(ip.into(), port));
            let (key, _) = FlowKey::of(Transport::Tcp, ends[0], ends[1]);
            let low = SideFacts {
                packets: 2,
                first: Some(point(1)),
                last: Some(point(3).time),
                syn: Some(Syn { isn: 6, first: point(1), last: point(1), count: 1 }),
                beyond_syn: Some(point(3)),
                head: said(7, client),
                ..SideFacts::default()
            };
            let high = SideFacts {
                packets: 1,
                first: Some(point(2)),
                last: Some(point(2).time),
                syn_ack: Some(SynAck { isn: 8, ack: 7, first: point(2) }),
                head: said(9, server),
                ..SideFacts::default()
            };
            let stretch = PartialFlow { low, high, ..PartialFlow::new(key) };
            let flow = finisher.finish(&stretch);
            assert_eq!((flow.app, flow.telling_bytes), (expected, telling), "{client:?} {server:?}");
        }
    }

    #[test]
    fn dns_messages_beyond_all_count_are_as_many_as_can_be_told() {
        // Rows for `judge` may say anything.
        let low = Endpoint::new([10, 0, 0, 1].into(), 5_000);
        let (key, _) = FlowKey::of(Transport::Udp, low, Endpoint::new([198, 51, 100, 7].into(), 53));
        let dns = DnsSeen { queries: u32::MAX, responses: u32::MAX };
        let side = SideFacts { packets: 1, first: Some(FramePoint::default()), dns, ..SideFacts::default() };
        let stretch = PartialFlow { low: side.clone(), high: side, ..PartialFlow::new(key) };
        let finisher = Finisher {
            spans: &Spans::default(),
            sight: &HostSight::default(),
            host_of: &|ip| ip,
            is_service: &|_, _| false,
        };
        let flow = finisher.finish(&stretch);
        assert_eq!((flow.app, flow.dns_queries()), (Some(AppProtocol::Dns), u32::MAX));
    }

    #[test]
    fn a_flow_of_a_short_stretch_is_that_of_the_stretch_in_full() {
        let point = |frame: u64| FramePoint { time: Timestamp(frame as i64), frame, ..FramePoint::default() };
        let sent = |packets: u64, frame: u64| SideFacts {
            packets,
            bytes: 60 * packets,
            first: Some(point(frame)),
            last: Some(point(frame).time),
            ..SideFacts::default()
        };
        let nothing = SideFacts::default;
        let syn = Some(Syn { isn: 6, first: point(1), last: point(1), count: 1 });
        let asks =
            SideFacts { dns: DnsSeen { queries: 1, responses: 0 }, data: Some(point(1)), ..sent(1, 1) };
        let answers =
            SideFacts { dns: DnsSeen { queries: 0, responses: 1 }, data: Some(point(2)), ..sent(1, 2) };
        let sides = [
            (Transport::Tcp, SideFacts { syn, ttl: Some((64, 64)), ..sent(1, 1) }, nothing()),
            (Transport::Udp, SideFacts { last: Some(Timestamp(9)), ..sent(3, 1) }, nothing()),
            (Transport::Icmp, SideFacts { ttl: Some((1, 9)), ..sent(2, 1) }, nothing()),
            (Transport::Udp, asks.clone(), answers.clone()),
            (Transport::Udp, answers, asks),
            (Transport::Udp, sent(1, 2), sent(2, 1)),
        ];
        let mut seen = HostSight::default();
        seen.add([10, 0, 0, 1].into());
        let (mut spans, mut stretches) = (Spans::default(), Vec::new());
        for time in [1, 2, 4_000_000_000] {
            spans.insert(Timestamp(time));
        }
        for (transport, one, other) in sides {
            for (ports, vlan) in [((50_000, 53), None), ((53, 50_000), Some(5)), ((9_999, 50_000), None)] {
                let (low, high) = (Endpoint::new([10, 0, 0, 1].into(), ports.0), [198, 51, 100, 7].into());
                let (key, _) = FlowKey::of(transport, low, Endpoint::new(high, ports.1));
                let stretch = |low: &SideFacts, high: &SideFacts| PartialFlow {
                    low: low.clone(),
                    high: high.clone(),
                    vlan,
                    ..PartialFlow::new(key)
                };
                stretches.extend([stretch(&one, &other), stretch(&other, &one)]);
            }
        }
        let pieces: Pieces = stretches.iter().cloned().collect();
        let (reader, mut place) = (pieces.reader(CaptureId::new(0)), Unpacked::default());
        let mut outcomes = BTreeSet::new();
        for sight in [HostSight::default(), seen] {
            let finisher = Finisher {
                spans: &spans,
                sight: &sight,
                host_of: &|ip| ip,
                is_service: &|_, port| port == 9_999,
            };
            for (number, stretch) in (0..).zip(&stretches) {
                reader.read_into(number, &mut place).unwrap();
                assert!(matches!(place.form(), Form::Short(_)), "{stretch:?}");
                assert_eq!((place.begin(), place.may_say_something()), (stretch.begin(), false));
                let (short, whole) = (finisher.finish_read(&place), finisher.finish(stretch));
                assert_eq!(short.record(&["one".into()]), whole.record(&["one".into()]));
                let rest = |flow: &Flow<'_>| {
                    let (quoted, sum) = (flow.quoted_at, flow.packets_fwd + flow.packets_rev);
                    (flow.begin(), flow.telling_bytes, flow.bytes, flow.dns_queries(), quoted, sum)
                };
                assert_eq!(rest(&short), rest(&whole));
                assert_eq!(short.flow_id(), whole.flow_id());
                assert_eq!(short.reset_ttl_differs(), whole.reset_ttl_differs());
                outcomes.insert(whole.outcome);
                assert_eq!(place.in_full(), stretch);
            }
        }
        let expected = [Outcome::Answered, Outcome::Filtered, Outcome::Unanswered, Outcome::Undetermined];
        assert!(outcomes.into_iter().eq(expected));
    }
}
