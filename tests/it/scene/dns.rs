//! DNS messages and the exchanges that carry them.

use super::talk::Udp;
use super::{Scene, address, nanos};
use std::net::IpAddr;

/// IANA numbers of record types.
pub const A: u16 = 1;
pub const AAAA: u16 = 28;
const CNAME: u16 = 5;

/// One resource record, class IN.
#[derive(Clone)]
pub struct Record {
    owner: String,
    kind: u16,
    ttl: u32,
    data: Vec<u8>,
    /// The length field, where it is to lie.
    claimed: Option<u16>,
}

impl Record {
    /// With this TTL instead of 300 s.
    pub fn ttl(mut self, seconds: u32) -> Self {
        self.ttl = seconds;
        self
    }

    /// With a length field that lies about the data.
    pub fn claiming(mut self, length: u16) -> Self {
        self.claimed = Some(length);
        self
    }
}

/// An A or AAAA record, by the family of `ip`.
pub fn a(owner: &str, ip: &str) -> Record {
    let (kind, data) = match address(ip) {
        IpAddr::V4(ip) => (A, ip.octets().to_vec()),
        IpAddr::V6(ip) => (AAAA, ip.octets().to_vec()),
    };
    Record { owner: owner.to_string(), kind, ttl: 300, data, claimed: None }
}

/// A CNAME record.
pub fn cname(owner: &str, target: &str) -> Record {
    Record { owner: owner.to_string(), kind: CNAME, ttl: 300, data: name(target), claimed: None }
}

fn name(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in text.split('.').filter(|label| !label.is_empty()) {
        out.push(label.len() as u8);
        out.extend(label.as_bytes());
    }
    out.push(0);
    out
}

/// A response in all its parts.
#[derive(Clone, Default)]
pub struct Reply {
    /// The id, where it is not that of the query.
    pub id: Option<u16>,
    /// The question echoed, where it is not that of the query.
    pub question: Option<String>,
    pub rcode: u8,
    pub answers: Vec<Record>,
    pub additional: Vec<Record>,
}

fn message(id: u16, flags: u16, question: (&str, u16), answers: &[Record], additional: &[Record]) -> Vec<u8> {
    let mut out = Vec::new();
    for word in [id, flags, 1, answers.len() as u16, 0, additional.len() as u16] {
        out.extend(word.to_be_bytes());
    }
    let asked = name(question.0);
    out.extend(&asked);
    out.extend(question.1.to_be_bytes());
    out.extend([0, 1]);
    for record in answers.iter().chain(additional) {
        match name(&record.owner) {
            // Owners equal to the question are a pointer to it, as servers write them (RFC 1035 section 4.1.4).
            owner if owner == asked => out.extend([0xc0, 12]),
            owner => out.extend(owner),
        }
        out.extend(record.kind.to_be_bytes());
        out.extend([0, 1]);
        out.extend(record.ttl.to_be_bytes());
        out.extend(record.claimed.unwrap_or(record.data.len() as u16).to_be_bytes());
        out.extend(&record.data);
    }
    out
}

const QUERY: u16 = 0x0100; // recursion desired
const RESPONSE: u16 = 0x8180; // recursion desired and available

/// A query over UDP from one client port, and what comes back.
pub struct Dns<'s> {
    scene: &'s mut Scene,
    client: String,
    resolver: String,
    port: u16,
    server_port: u16,
    id: u16,
    at: i64,
    question: (String, u16),
}

impl Scene {
    /// Begins a DNS exchange over UDP at the scene's clock.
    pub fn dns(&mut self, client: &str, resolver: &str) -> Dns<'_> {
        let port = self.ephemeral_port();
        let at = self.clock;
        let question = (String::new(), A);
        let (client, resolver) = (client.to_string(), resolver.to_string());
        Dns { scene: self, client, resolver, port, server_port: 53, id: port ^ 0x5a5a, at, question }
    }

    /// A query and its answer over one TCP connection.
    pub fn dns_over_tcp(
        &mut self,
        client: &str,
        resolver: &str,
        asked: &str,
        answers: &[Record],
    ) -> &mut Self {
        let question = over_tcp(message(ID_OVER_TCP, QUERY, (asked, A), &[], &[]));
        let answer = dns_answer_over_tcp(asked, answers);
        let talk = self.tcp(client, resolver, 53);
        talk.handshake().client(&question).server(&answer).client_ack().fin();
        self
    }
}

const ID_OVER_TCP: u16 = 0x0777;

/// A message behind its length (RFC 1035 section 4.2.2).
fn over_tcp(message: Vec<u8>) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes()[..], &message].concat()
}

/// An answer as it goes over TCP.
pub fn dns_answer_over_tcp(asked: &str, answers: &[Record]) -> Vec<u8> {
    over_tcp(message(ID_OVER_TCP, RESPONSE, (asked, A), answers, &[]))
}

impl Dns<'_> {
    /// Instead of 53; 5353 makes it multicast DNS.
    pub fn on_port(mut self, port: u16) -> Self {
        (self.server_port, self.port) = (port, port);
        self
    }

    /// So many seconds more pass before the next packet.
    pub fn wait(mut self, seconds: f64) -> Self {
        self.at += nanos(seconds);
        self
    }

    /// Sends one packet of the exchange at its time, and moves the scene's clock on.
    fn send(&mut self, packet: impl FnOnce(Udp<'_>)) {
        self.scene.clock = self.at;
        let port = self.port;
        packet(self.scene.udp(&self.client, &self.resolver, self.server_port).client_port(port));
        self.at += nanos(0.005);
        self.scene.clock = self.at;
    }

    /// The client asks; asked again, the same query is retransmitted.
    pub fn query(mut self, asked: &str, kind: u16) -> Self {
        self.question = (asked.to_string(), kind);
        let payload = message(self.id, QUERY, (asked, kind), &[], &[]);
        self.send(|udp| drop(udp.request(&payload)));
        self
    }

    /// The question is known to both, but the capture has no query.
    pub fn unseen_query(mut self, asked: &str, kind: u16) -> Self {
        self.question = (asked.to_string(), kind);
        self
    }

    /// The resolver answers with records.
    pub fn answer(self, answers: &[Record]) -> Self {
        self.reply(Reply { answers: answers.to_vec(), ..Reply::default() })
    }

    /// The resolver answers with nothing but a response code: 0 is NODATA, 2 SERVFAIL, 3 NXDOMAIN, 5 REFUSED.
    pub fn rcode(self, rcode: u8) -> Self {
        self.reply(Reply { rcode, ..Reply::default() })
    }

    fn response(&self, reply: &Reply) -> Vec<u8> {
        let asked = reply.question.as_deref().unwrap_or(&self.question.0);
        let flags = RESPONSE | u16::from(reply.rcode);
        let question = (asked, self.question.1);
        message(reply.id.unwrap_or(self.id), flags, question, &reply.answers, &reply.additional)
    }

    /// The resolver answers with any message.
    pub fn reply(mut self, reply: Reply) -> Self {
        let payload = self.response(&reply);
        self.send(|udp| drop(udp.reply(&payload)));
        self
    }

    /// Any message comes to a port on which nobody listens: the client's host says so (ICMP 3/3).
    pub fn closed_port(mut self, reply: Reply) -> Self {
        let payload = self.response(&reply);
        let (client, resolver, port) = (self.client.clone(), self.resolver.clone(), self.port);
        let talk = self.scene.udp(&resolver, &client, port).client_port(53);
        talk.request(&payload).icmp(&client, 3, 3);
        self.at += nanos(0.02);
        self.scene.clock = self.at;
        self
    }

    /// The answer comes in two IP fragments, cut after `cut` bytes of the datagram.
    pub fn answer_in_fragments(mut self, answers: &[Record], cut: usize) -> Self {
        let payload = self.response(&Reply { answers: answers.to_vec(), ..Reply::default() });
        self.send(|udp| drop(udp.reply_in_fragments(&payload, cut)));
        self
    }
}
