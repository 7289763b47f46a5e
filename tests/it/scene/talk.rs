//! Conversations over TCP, UDP and ICMP.

use super::wire::{self, ACK, FIN, Ip, PSH, Piece, RST, SYN, Segment};
use super::{Scene, address, app_data, client_hello, nanos, server_hello};
use std::marker::PhantomData;
use std::net::IpAddr;

/// The time from one packet to the next, unless a verb says otherwise.
const STEP: i64 = 10_000_000;

/// One side of a conversation.
struct Side {
    ip: IpAddr,
    port: u16,
    ttl: u8,
    vlan: Option<u16>,
    /// Whether the capture sees what this side sends.
    seen: bool,
    /// TCP: the sequence number it sends next, and the one it expects next.
    next: u32,
    expected: u32,
    /// TCP: its initial sequence number, and its last segment with payload.
    isn: u32,
    said: (u32, Vec<u8>),
}

impl Side {
    fn new(ip: &str, port: u16, isn: u32, ttl: u8) -> Self {
        let ip = address(ip);
        Side { ip, port, ttl, vlan: None, seen: true, next: isn, expected: 0, isn, said: (0, Vec::new()) }
    }

    fn endpoint(&self) -> (IpAddr, u16) {
        (self.ip, self.port)
    }
}

/// Which side speaks.
#[derive(Clone, Copy, PartialEq)]
enum Speaker {
    Client,
    Server,
}
use Speaker::{Client, Server};

/// A conversation over TCP, UDP or ICMP: two sides, a clock, and how the capture sees them.
pub struct Talk<'s, Over> {
    over: PhantomData<Over>,
    scene: &'s mut Scene,
    client: Side,
    server: Side,
    at: i64,
    /// When the last packet was sent.
    last: i64,
    /// Set while the capture misses packets that the network does carry.
    missing: bool,
    /// Copies of each packet on other interfaces: interface, nanoseconds later.
    copies: Vec<(u32, i64)>,
    length_zero: bool,
    /// The client's last packet, as ICMP errors quote it.
    quotable: Vec<u8>,
}

impl<'s, Over> Talk<'s, Over> {
    fn new(scene: &'s mut Scene, client: Side, server: Side) -> Self {
        let at = scene.clock;
        Talk {
            over: PhantomData,
            scene,
            client,
            server,
            at,
            last: at,
            missing: false,
            copies: Vec::new(),
            length_zero: false,
            quotable: Vec::new(),
        }
    }

    fn send(&mut self, speaker: Speaker, protocol: u8, body: Vec<u8>, piece: Option<Piece>) {
        let id = self.scene.ip_id();
        self.send_as(speaker, protocol, body, piece, id);
    }

    fn send_as(&mut self, speaker: Speaker, protocol: u8, body: Vec<u8>, piece: Option<Piece>, id: u16) {
        let (from, to) =
            if speaker == Client { (&self.client, &self.server) } else { (&self.server, &self.client) };
        let length_zero = self.length_zero && body.len() > 1480;
        let packet = Ip { src: from.ip, dst: to.ip, ttl: from.ttl, id, protocol, piece, length_zero, body };
        let bytes = packet.bytes();
        let frame = wire::ethernet(from.ip, to.ip, from.vlan, &bytes);
        if from.seen && !self.missing {
            for (interface, delay) in [(0, 0)].iter().chain(&self.copies) {
                self.scene.push(self.at + delay, *interface, frame.clone());
            }
        }
        if speaker == Client {
            self.quotable = bytes;
        }
        self.tick();
    }

    fn tick(&mut self) {
        self.last = self.at;
        self.at += STEP;
    }

    /// An ICMP or ICMPv6 error from `from` to the client about the client's last packet.
    fn icmp_error(&mut self, from: &str, kind: u8, code: u8) {
        let (from, to) = (address(from), self.client.ip);
        let (protocol, four) = match (from, kind, code) {
            (IpAddr::V4(_), 3, 4) => (wire::ICMP, [0, 0, 0x05, 0x14]), // next-hop MTU 1300
            (IpAddr::V4(_), 5, _) => (wire::ICMP, [192, 0, 2, 254]),   // a better gateway
            (IpAddr::V4(_), ..) => (wire::ICMP, [0; 4]),
            (IpAddr::V6(_), 2, _) => (wire::ICMP6, [0, 0, 0x05, 0x14]),
            (IpAddr::V6(_), ..) => (wire::ICMP6, [0; 4]),
        };
        // IPv4: the header and 8 bytes (RFC 792). IPv6 quotes more (RFC 4443): here, all of the TCP header.
        let most = match from {
            IpAddr::V4(_) => 28,
            IpAddr::V6(_) if self.quotable[6] == wire::TCP => 40 + usize::from(self.quotable[52] >> 4) * 4,
            IpAddr::V6(_) => 1232,
        };
        let quote = &self.quotable[..self.quotable.len().min(most)];
        let body = wire::icmp(from, to, kind, code, four, quote);
        let id = self.scene.ip_id();
        let packet =
            Ip { src: from, dst: to, ttl: 61, id, protocol, piece: None, length_zero: false, body }.bytes();
        self.scene.push(self.at, 0, wire::ethernet(from, to, self.server.vlan, &packet));
        self.tick();
    }
}

/// Verbs that every conversation has.
impl<Over> Talk<'_, Over> {
    /// The next packet comes so many seconds after the last one.
    pub fn later(mut self, seconds: f64) -> Self {
        self.at = self.last + nanos(seconds);
        self
    }

    /// The client uses this port.
    pub fn client_port(mut self, port: u16) -> Self {
        self.client.port = port;
        self
    }

    /// The network carries these packets, but the capture does not have them.
    pub fn missed(mut self, part: impl FnOnce(Self) -> Self) -> Self {
        self.missing = true;
        let mut me = part(self);
        me.missing = false;
        me
    }

    /// The capture sees nothing that the server sends.
    pub fn server_unseen(mut self) -> Self {
        self.server.seen = false;
        self
    }

    /// The capture sees nothing that the client sends.
    pub fn client_unseen(mut self) -> Self {
        self.client.seen = false;
        self
    }

    /// From now on each packet is captured once more on `interface`, so many seconds later.
    pub fn copied_to(mut self, interface: u32, seconds: f64) -> Self {
        self.copies = vec![(interface, nanos(seconds))];
        self
    }

    /// VLAN tags of the two directions.
    pub fn vlans(mut self, client: u16, server: u16) -> Self {
        self.client.vlan = Some(client);
        self.server.vlan = Some(server);
        self
    }

    /// `from` answers the client's last packet with an ICMP error (ICMPv6 between IPv6 addresses).
    pub fn icmp(mut self, from: &str, kind: u8, code: u8) -> Self {
        self.icmp_error(from, kind, code);
        self
    }
}

/// Marks conversations over TCP.
pub struct OverTcp;
/// Marks conversations over UDP.
pub struct OverUdp;
/// Marks exchanges of echoes.
pub struct OverIcmp;
/// A TCP conversation.
pub type Tcp<'s> = Talk<'s, OverTcp>;
/// A UDP conversation.
pub type Udp<'s> = Talk<'s, OverUdp>;
/// Echo requests and replies.
pub type Ping<'s> = Talk<'s, OverIcmp>;

impl Scene {
    /// Begins a TCP conversation at the scene's clock; nothing is sent yet.
    pub fn tcp(&mut self, client: &str, server: &str, port: u16) -> Tcp<'_> {
        let client = Side::new(client, self.ephemeral_port(), self.isn(), 64);
        let server = Side::new(server, port, self.isn(), 57);
        Talk::new(self, client, server)
    }

    /// Begins a UDP conversation.
    pub fn udp(&mut self, client: &str, server: &str, port: u16) -> Udp<'_> {
        let client = Side::new(client, self.ephemeral_port(), 0, 64);
        let server = Side::new(server, port, 0, 57);
        Talk::new(self, client, server)
    }

    /// Begins an exchange of echoes.
    pub fn ping(&mut self, client: &str, server: &str) -> Ping<'_> {
        let client = Side::new(client, 0, 0, 64);
        let server = Side::new(server, 0, 0, 57);
        Talk::new(self, client, server)
    }
}

/// Each verb sends one segment, unless its name says more.
impl Tcp<'_> {
    fn segment(mut self, speaker: Speaker, flags: u8, seq: u32, ack: u32, payload: &[u8]) -> Self {
        let (from, to) =
            if speaker == Client { (&self.client, &self.server) } else { (&self.server, &self.client) };
        let body = wire::tcp(from.endpoint(), to.endpoint(), Segment { flags, seq, ack }, payload);
        self.send(speaker, wire::TCP, body, None);
        self
    }

    fn sides(&mut self, speaker: Speaker) -> (&mut Side, &mut Side) {
        if speaker == Client {
            (&mut self.client, &mut self.server)
        } else {
            (&mut self.server, &mut self.client)
        }
    }

    fn say(mut self, speaker: Speaker, payload: &[u8], arrives: bool) -> Self {
        let (from, to) = self.sides(speaker);
        let (seq, ack) = (from.next, from.expected);
        from.next = seq.wrapping_add(payload.len() as u32);
        from.said = (seq, payload.to_vec());
        if arrives {
            to.expected = from.next;
        }
        self.segment(speaker, PSH | ACK, seq, ack, payload)
    }

    /// The initial sequence number of the client.
    pub fn isn(mut self, isn: u32) -> Self {
        self.client.isn = isn;
        self.client.next = isn;
        self
    }

    /// From now on the server's packets arrive with this time to live (57 before).
    pub fn server_ttl(mut self, ttl: u8) -> Self {
        self.server.ttl = ttl;
        self
    }

    /// Large segments are captured before segmentation offload, with an IP length of 0.
    pub fn offloaded(mut self) -> Self {
        self.length_zero = true;
        self
    }

    /// The client's SYN; said again, the same SYN.
    pub fn syn(mut self) -> Self {
        let isn = self.client.isn;
        self.client.next = isn.wrapping_add(1);
        self.segment(Client, SYN, isn, 0, &[])
    }

    /// The client's SYN with its first payload (TCP Fast Open, RFC 7413).
    pub fn syn_with(mut self, payload: &[u8]) -> Self {
        let isn = self.client.isn;
        self.client.next = isn.wrapping_add(1 + payload.len() as u32);
        self.segment(Client, SYN, isn, 0, payload)
    }

    /// The server's SYN-ACK; said again, the same.
    pub fn synack(mut self) -> Self {
        let (isn, ack) = (self.server.isn, self.client.isn.wrapping_add(1));
        self.server.next = isn.wrapping_add(1);
        self.server.expected = ack;
        self.client.expected = isn.wrapping_add(1);
        self.segment(Server, SYN | ACK, isn, ack, &[])
    }

    /// The server's SYN-ACK, which acknowledges the payload of the SYN, too.
    pub fn synack_of_payload(mut self) -> Self {
        let (isn, ack) = (self.server.isn, self.client.next);
        self.server.next = isn.wrapping_add(1);
        self.server.expected = ack;
        self.client.expected = isn.wrapping_add(1);
        self.segment(Server, SYN | ACK, isn, ack, &[])
    }

    /// The client asks whether the server is there, with an octet that was there before (RFC 9293 section 3.8.4).
    pub fn client_keep_alive(self) -> Self {
        let (seq, ack) = (self.client.next.wrapping_sub(1), self.client.expected);
        self.segment(Client, ACK, seq, ack, &[0])
    }

    /// The same of the server.
    pub fn server_keep_alive(self) -> Self {
        let (seq, ack) = (self.server.next.wrapping_sub(1), self.server.expected);
        self.segment(Server, ACK, seq, ack, &[0])
    }

    /// The client acknowledges what it has heard.
    pub fn client_ack(self) -> Self {
        let (seq, ack) = (self.client.next, self.client.expected);
        self.segment(Client, ACK, seq, ack, &[])
    }

    /// The server acknowledges what it has heard.
    pub fn server_ack(self) -> Self {
        let (seq, ack) = (self.server.next, self.server.expected);
        self.segment(Server, ACK, seq, ack, &[])
    }

    /// The server answers the SYN with an ACK of something else, as for a connection it still remembers
    /// (RFC 5961 section 4).
    pub fn challenge_ack(self) -> Self {
        self.segment(Server, ACK, 7_777_777, 3_333_333, &[])
    }

    /// SYN, SYN-ACK, ACK.
    pub fn handshake(self) -> Self {
        self.syn().synack().client_ack()
    }

    /// A segment with payload from the client.
    pub fn client(self, payload: &[u8]) -> Self {
        self.say(Client, payload, true)
    }

    /// The same, but it never arrives: the server does not acknowledge it.
    pub fn client_in_vain(self, payload: &[u8]) -> Self {
        self.say(Client, payload, false)
    }

    /// A segment with payload from the server.
    pub fn server(self, payload: &[u8]) -> Self {
        self.say(Server, payload, true)
    }

    /// The client's last segment with payload, again, and in vain again.
    pub fn client_again_in_vain(self) -> Self {
        let ((seq, payload), ack) = (self.client.said.clone(), self.client.expected);
        self.segment(Client, PSH | ACK, seq, ack, &payload)
    }

    /// The client's last segment with payload, again: now it arrives.
    pub fn client_again(mut self) -> Self {
        self.server.expected = self.client.next;
        self.client_again_in_vain()
    }

    /// Two segments of the client's payload, cut at `cut`, the second captured first.
    pub fn client_out_of_order(mut self, payload: &[u8], cut: usize) -> Self {
        let (seq, ack) = (self.client.next, self.client.expected);
        self.client.next = seq.wrapping_add(payload.len() as u32);
        self.server.expected = self.client.next;
        self.segment(Client, PSH | ACK, seq.wrapping_add(cut as u32), ack, &payload[cut..]).segment(
            Client,
            ACK,
            seq,
            ack,
            &payload[..cut],
        )
    }

    /// The server's RST: to a SYN as RFC 9293 wants it, later with its sequence number.
    pub fn server_rst(self) -> Self {
        let (server, client) = (&self.server, &self.client);
        let (seq, ack) =
            if server.next == server.isn { (0, client.next) } else { (server.next, client.next) };
        self.segment(Server, RST | ACK, seq, ack, &[])
    }

    /// An RST from the server that acknowledges nothing the client sent: no client believes it (RFC 9293 3.10.7.3).
    pub fn blind_rst(self) -> Self {
        self.segment(Server, RST | ACK, 0, 4_444_444, &[])
    }

    /// The client's RST.
    pub fn client_rst(self) -> Self {
        let seq = self.client.next;
        self.segment(Client, RST, seq, 0, &[])
    }

    /// FIN, FIN, ACK: both sides close.
    pub fn fin(mut self) -> Self {
        let (seq, ack) = (self.client.next, self.client.expected);
        self.client.next = seq.wrapping_add(1);
        self.server.expected = self.client.next;
        let me = self.segment(Client, FIN | ACK, seq, ack, &[]);
        me.server_fin().client_ack()
    }

    fn server_fin(mut self) -> Self {
        let (seq, ack) = (self.server.next, self.server.expected);
        self.server.next = seq.wrapping_add(1);
        self.client.expected = self.server.next;
        self.segment(Server, FIN | ACK, seq, ack, &[])
    }

    /// A TLS session: hellos and one record of data each way.
    pub fn tls(self, server_name: &str) -> Self {
        self.tls_with(Some(server_name))
    }

    /// A TLS session whose ClientHello has no server name.
    pub fn tls_without_name(self) -> Self {
        self.tls_with(None)
    }

    fn tls_with(self, server_name: Option<&str>) -> Self {
        self.client(&client_hello(server_name)).server(&server_hello()).more_tls()
    }

    /// One record of data each way.
    pub fn more_tls(self) -> Self {
        self.client(&app_data(120)).server(&app_data(480)).client_ack()
    }

    /// A request and its answer.
    pub fn exchange(self, request: &[u8], answer: &[u8]) -> Self {
        self.client(request).server(answer).client_ack()
    }
}

impl Udp<'_> {
    /// A datagram from the client.
    pub fn request(mut self, payload: &[u8]) -> Self {
        let body = wire::udp(self.client.endpoint(), self.server.endpoint(), payload);
        self.send(Client, wire::UDP, body, None);
        self
    }

    /// A datagram from the server.
    pub fn reply(mut self, payload: &[u8]) -> Self {
        let body = wire::udp(self.server.endpoint(), self.client.endpoint(), payload);
        self.send(Server, wire::UDP, body, None);
        self
    }

    /// A datagram from the server in two IPv4 fragments, cut after `cut` bytes (a multiple of 8).
    pub fn reply_in_fragments(mut self, payload: &[u8], cut: usize) -> Self {
        let body = wire::udp(self.server.endpoint(), self.client.endpoint(), payload);
        let id = self.scene.ip_id();
        let (first, second) = body.split_at(cut);
        let piece = |offset, more| Some(Piece { offset, more });
        self.send_as(Server, wire::UDP, first.to_vec(), piece(0, true), id);
        self.send_as(Server, wire::UDP, second.to_vec(), piece(cut as u16, false), id);
        self
    }
}

impl Ping<'_> {
    /// An echo request.
    pub fn request(mut self) -> Self {
        self.echo(Client);
        self
    }

    /// Its reply.
    pub fn reply(mut self) -> Self {
        self.echo(Server);
        self
    }

    fn echo(&mut self, speaker: Speaker) {
        let (client, server) = (self.client.ip, self.server.ip);
        let (src, dst) = if speaker == Client { (client, server) } else { (server, client) };
        let (protocol, kinds) = if src.is_ipv4() { (wire::ICMP, [8, 0]) } else { (wire::ICMP6, [128, 129]) };
        let kind = kinds[usize::from(speaker == Server)];
        let body = wire::icmp(src, dst, kind, 0, [0x12, 0x34, 0, 1], b"abcdefghijklmnopqrstuvwxyz");
        self.send(speaker, protocol, body, None);
    }
}
