//! From stitched stretches to the record of a whole flow: who began, how far it got, what its first bytes say.

use super::head::{DNS_HEAD_BYTES, HEAD_BYTES, Hello, Stream, Told};
use super::key::Side;
use super::outcome::{PayloadSigns, Surroundings, conn_state, decide};
use super::partial::PartialFlow;
use super::record::{ConnectTarget, FlowRecord, InitiatorBy, Proof, ProofKind};
use super::stitch::initiator;
use crate::model::{AppProtocol, FramePoint, Spans, Transport};
use crate::names::{HostName, app, http, http2, quic, tls};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Which hosts the captures see packets to: a missing reply means something only there.
#[derive(Debug, Default)]
pub struct HostSight {
    seen: BTreeMap<IpAddr, ()>,
}

impl HostSight {
    /// From the addresses to which packets were seen.
    pub fn of_reached(reached: impl Iterator<Item = IpAddr>, host_of: &dyn Fn(IpAddr) -> IpAddr) -> Self {
        HostSight { seen: reached.map(|ip| (host_of(ip), ())).collect() }
    }

    /// Whether packets to `host` are seen. Asked only for hosts whose own flow got no packet, so that a yes comes from
    /// other flows.
    pub fn sees(&self, host: IpAddr) -> bool {
        self.seen.contains_key(&host)
    }
}

/// Everything that turning stitched stretches into records rests on.
pub struct Finisher<'a> {
    /// When the captures saw frames.
    pub spans: &'a Spans,
    /// Which hosts they see packets to.
    pub sight: &'a HostSight,
    /// The address that stands for a host.
    pub host_of: &'a dyn Fn(IpAddr) -> IpAddr,
    /// Whether a port is a service's beyond those below 1024.
    pub is_service: &'a dyn Fn(Transport, u16) -> bool,
    /// Names of the captures, by number.
    pub captures: &'a [Arc<str>],
}

/// What the first bytes of both directions say.
#[derive(Default)]
struct FirstBytes {
    app: Option<AppProtocol>,
    hello: Option<tls::ClientHello>,
    named_at: Option<FramePoint>,
    version: Option<u16>,
    host: Option<String>,
    proxy: Option<ConnectTarget>,
    further: Vec<ConnectTarget>,
    alert: Option<u8>,
    status: Option<u16>,
    signs: PayloadSigns,
    telling_bytes: usize,
}

impl Finisher<'_> {
    /// The record of a flow.
    pub fn finish(&self, flow: &PartialFlow) -> FlowRecord {
        let (side, initiator_by) = initiator(flow, self.is_service);
        let (own, peer) = (flow.side(side), flow.side(side.other()));
        let (from, to) = (flow.key.endpoint(side), flow.key.endpoint(side.other()));
        let bytes = first_bytes(flow, side);
        let around =
            Surroundings { spans: self.spans, sees_initiator: self.sight.sees((self.host_of)(from.ip)) };
        let decision = decide(flow, side, &bytes.signs, &around);
        let begin = flow.begin();
        let quoted = flow.quotes.first().map(|quote| quote.point.time);
        let first_ts = flow.first().map(|point| point.time).or(quoted).unwrap_or_default();
        let last_ts = own.last.max(peer.last).or(flow.quoted_last).unwrap_or(first_ts);

        let mut proofs: Vec<(ProofKind, FramePoint)> = Vec::new();
        let mut prove = |what, point: Option<FramePoint>| proofs.extend(point.map(|point| (what, point)));
        prove(ProofKind::Syn, own.syn.map(|syn| syn.first));
        prove(ProofKind::Syn, own.syn.filter(|syn| syn.count > 1).map(|syn| syn.last));
        prove(ProofKind::Reply, peer.syn_ack.map(|syn_ack| syn_ack.first).or(peer.first));
        prove(ProofKind::Payload, own.data.or(if own.syn.is_none() { own.first } else { None }));
        prove(ProofKind::Payload, peer.data);
        prove(ProofKind::Payload, bytes.signs.proxy_denied.or(bytes.signs.tls_refused));
        prove(ProofKind::Reset, own.reset.map(|reset| reset.first));
        prove(ProofKind::Reset, peer.reset.map(|reset| reset.first));
        let icmp = decision.icmp.or_else(|| flow.quotes.iter().min_by_key(|quote| quote.point).copied());
        prove(ProofKind::Icmp, icmp.map(|quote| quote.point));
        prove(ProofKind::Name, bytes.named_at);
        proofs.sort_by_key(|&(what, point)| (point, what));
        proofs.dedup();
        let capture = begin.map(|point| point.capture);
        let mut frames: Vec<u64> =
            proofs.iter().filter(|(_, at)| Some(at.capture) == capture).map(|(_, at)| at.frame).collect();
        frames.dedup();
        let proof = proofs
            .iter()
            .map(|&(what, at)| Proof { what, capture: self.capture_name(at), frame: at.frame })
            .collect();

        FlowRecord {
            flow_id: flow.key.flow_id(side),
            capture: begin.map_or_else(|| Arc::from(""), |point| self.capture_name(point)),
            initiator_ip: from.ip,
            initiator_port: from.port,
            responder_ip: to.ip,
            responder_port: to.port,
            proto: flow.key.transport,
            initiator_by,
            vlan: flow.vlan,
            vni: flow.vni,
            first_ts,
            last_ts,
            packets_fwd: own.packets,
            packets_rev: peer.packets,
            bytes_fwd: own.bytes,
            bytes_rev: peer.bytes,
            payload_fwd: own.payload,
            payload_rev: peer.payload,
            conn_state: conn_state(flow, side),
            outcome: decision.outcome,
            icmp_type: decision.icmp.map(|quote| quote.kind),
            icmp_code: decision.icmp.map(|quote| quote.code),
            syn_count: own.syn.map_or(0, |syn| syn.count),
            handshake_rtt_ns: handshake_rtt(flow, side),
            app: bytes.app,
            server_name: bytes.hello.as_ref().and_then(|hello| hello.server_name.clone()),
            http_host: bytes.host,
            tls_version: bytes.version.and_then(tls::version_name).map(str::to_owned),
            frames,
            proof,
            tls_offered: bytes.hello.iter().flat_map(|hello| hello.offered()).map(str::to_owned).collect(),
            alpn: bytes.hello.as_ref().map(|hello| hello.alpn.clone()).unwrap_or_default(),
            ech: bytes.hello.as_ref().is_some_and(|hello| hello.ech),
            proxy_target: bytes.proxy,
            further_targets: bytes.further,
            reset_ttl_differs: peer
                .reset
                .zip(peer.ttl)
                .is_some_and(|(reset, (low, high))| !(low..=high).contains(&reset.ttl)),
            tls_alert: bytes.alert,
            proxy_status: bytes.status,
            begin,
            named_at: bytes.named_at,
            telling_bytes: bytes.telling_bytes,
            dns_queries: own.dns.queries + peer.dns.queries,
        }
    }

    /// The name of the capture in which a frame is.
    pub fn capture_name(&self, point: FramePoint) -> Arc<str> {
        self.captures.get(point.capture.0 as usize).cloned().unwrap_or_else(|| Arc::from(""))
    }

    /// How the initiator of a flow is known, and which side it is.
    pub fn initiator(&self, flow: &PartialFlow) -> (Side, InitiatorBy) {
        initiator(flow, self.is_service)
    }
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
pub fn tcp_stream(flow: &PartialFlow, side: Side) -> Stream {
    let dns = flow.key.low.port == 53 || flow.key.high.port == 53;
    let limit = if dns { DNS_HEAD_BYTES } else { HEAD_BYTES };
    flow.side(side).head.rest(flow.stream_start(side), limit)
}

fn first_bytes(flow: &PartialFlow, initiator: Side) -> FirstBytes {
    let mut found = FirstBytes::default();
    let (own, peer) = (flow.side(initiator), flow.side(initiator.other()));
    if flow.key.transport != Transport::Tcp {
        if own.dns.queries + own.dns.responses + peer.dns.queries + peer.dns.responses > 0 {
            found.app = Some(AppProtocol::Dns);
        } else if flow.key.transport == Transport::Udp {
            let (client, server) = (own.head.datagrams(), peer.head.datagrams());
            found.app = app::recognise_udp(
                client.first().copied().unwrap_or_default(),
                server.first().copied().unwrap_or_default(),
            );
            if found.app == Some(AppProtocol::Quic)
                && let Some(hello) = quic::client_hello(&client)
            {
                found.named_at = own.head.segments().iter().map(|segment| segment.point).min();
                found.version = Some(tls::TLS_1_3);
                found.hello = Some(hello);
            }
            if found.app == Some(AppProtocol::Ssdp)
                && let Some(request) =
                    client.first().and_then(|datagram| http::requests(datagram).into_iter().next())
                && let Some(host) = request.destination()
            {
                found.named_at = own.head.segments().iter().map(|segment| segment.point).min();
                found.host = Some(host.name.in_uri());
            }
        }
        return found;
    }
    let (client, server) = (tcp_stream(flow, initiator), tcp_stream(flow, initiator.other()));
    let (own_told, peer_told) = (own.head.told(), peer.head.told());
    let silent = client.bytes.is_empty() && own_told.is_none();
    let tls_read = if silent { peer_told.is_some() } else { own_told.is_some() };
    found.app = if tls_read { Some(AppProtocol::Tls) } else { app::recognise(&client.bytes, &server.bytes) };
    if own.syn.is_some() || peer.syn_ack.is_some() {
        found.telling_bytes = match (tls_read, silent) {
            (true, _) => FlowRecord::TELLING_BYTES,
            (false, true) => server.bytes.len(),
            (false, false) => client.bytes.len(),
        };
    }
    let hello = match (found.app, own_told) {
        (Some(_), Some(Told { hello: Hello::Client(hello), begin, .. })) => {
            Some((Some(*begin), tls::ClientHello::clone(hello)))
        }
        (Some(app), _) => app::inner_client_hello(app, &client.bytes)
            .map(|(offset, hello)| (client.point_at(offset), hello)),
        (None, _) => None,
    };
    if let Some((named_at, hello)) = hello {
        found.named_at = named_at;
        let chosen = match (peer_told.map(|told| &told.hello), found.app) {
            (Some(Hello::Server(version)), _) => Some(*version),
            (_, Some(app)) => app::inner_server_version(app, &server.bytes),
            (_, None) => None,
        };
        found.version = chosen.or_else(|| hello.highest_offered());
        found.hello = Some(hello);
    }
    if found.app == Some(AppProtocol::Http) {
        let requests = http::requests(&client.bytes);
        if let Some(first) = requests.first() {
            found.host = first.destination().map(|host| host.name.in_uri());
            found.named_at = client.point_at(first.offset);
        } else if let Some((offset, host)) = http2::authority(&client.bytes) {
            found.host = Some(host.name.in_uri());
            found.named_at = client.point_at(offset);
        }
        proxy_talk(&mut found, &requests, &client, &server);
    }
    tls_alert(&mut found, own, peer, &client, &server);
    found
}

/// What a client asked a proxy, and whether the proxy refused.
fn proxy_talk(found: &mut FirstBytes, requests: &[http::Request], client: &Stream, server: &Stream) {
    let mut targets: Vec<ConnectTarget> = Vec::new();
    for request in requests.iter().filter(|request| request.is_for_proxy()) {
        let Some(target) = request.destination() else { continue };
        let tunnel = request.is_connect();
        let (name, ip) = match &target.name {
            HostName::Name(name) => (Some(name.clone()), None),
            HostName::Ip(ip) => (None, Some(*ip)),
        };
        let port = target.port.unwrap_or(if tunnel { 443 } else { 80 });
        let target = ConnectTarget { name, ip, port, tunnel };
        if !targets.contains(&target) {
            targets.push(target);
        }
    }
    if targets.is_empty() {
        return;
    }
    let tunnel = targets.iter().any(|target| target.tunnel);
    let mut targets = targets.into_iter();
    found.proxy = targets.next();
    found.further = targets.collect();
    if !tunnel {
        return;
    }
    // Inside the tunnel the client's own handshake follows its (last) request.
    let end = requests.iter().rev().find(|request| request.is_connect()).and_then(|request| request.head_end);
    let inner = end.and_then(|end| Some((end, client.bytes.get(end..)?)));
    if let Some((end, inner)) = inner
        && let Some(hello) = tls::client_hello(inner)
    {
        found.named_at = client.point_at(end);
        found.hello = Some(hello);
    }
    let statuses = http::statuses(&server.bytes);
    if statuses.iter().any(|(_, status)| (200..300).contains(status)) {
        return;
    }
    let refused = |status: u16| matches!(status, 403 | 407 | 502..=504);
    if let Some(&(offset, status)) = statuses.iter().rev().find(|&&(_, status)| refused(status)) {
        found.signs.proxy_denied = server.point_at(offset);
        found.status = Some(status);
    }
}

/// Rung 2: a fatal alert readable in the clear, level fatal, before any application data of either direction.
fn tls_alert(
    found: &mut FirstBytes,
    own: &super::partial::SideFacts,
    peer: &super::partial::SideFacts,
    client: &Stream,
    server: &Stream,
) {
    if found.app != Some(AppProtocol::Tls) && found.hello.is_none() {
        return;
    }
    let mut alerts: Vec<(FramePoint, u8)> = Vec::new();
    let mut data: Vec<FramePoint> = Vec::new();
    for (stream, side) in [(client, own), (server, peer)] {
        let in_head = tls::fatal_alert(&stream.bytes);
        alerts.extend(in_head.and_then(|(offset, what)| Some((stream.point_at(offset)?, what))));
        alerts.extend(side.alert);
        if let Some(told) = side.head.told() {
            alerts.extend(told.alert);
            data.extend(told.data);
        }
        data.extend(tls::first_application_data(&stream.bytes).and_then(|offset| stream.point_at(offset)));
        data.extend(side.tls_data);
    }
    let Some(&(at, what)) = alerts.iter().min() else { return };
    if data.iter().all(|&data| at < data) {
        found.signs.tls_refused = Some(at);
        found.alert = Some(what);
    }
}
