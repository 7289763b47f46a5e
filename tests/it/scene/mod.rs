//! A language for conversations on a network: who says what to whom and when, written down as capture files.
//!
//! `s.at(1.0).tcp(APPLIANCE, "203.0.113.9", 443).handshake().tls("nginx.org").fin();` puts those packets into the
//! scene's capture, one second after its beginning. Each verb sends its packet 10 ms after the one before it, unless
//! `wait` or `later` says otherwise. Frames are written in order of time. The same scene gives the same bytes each time.
//!
//! What the audit ought to say stands beside the conversation (`expect`, `findings`, `exit` ...); [`play`] runs the
//! program over the written files and compares.

mod dns;
mod expect;
mod file;
mod payload;
mod play;
mod site;
mod talk;
mod wire;

pub use dns::{A, AAAA, Reply, a, cname, dns_answer_over_tcp};
pub use expect::{FlowExpect, finding, flow};
pub use file::{Captured, pcap, pcapng};
pub use payload::*;
pub use play::{Run, play, run, workshop};

use expect::Expectations;
use site::Site;
use std::net::IpAddr;

/// The backup appliance, a subject.
pub const APPLIANCE: &str = "10.10.1.4";
/// The same host's IPv6 address.
pub const APPLIANCE6: &str = "fd10::1:4";
/// A worker, a subject.
pub const WORKER: &str = "10.10.2.11";
/// The backup server with the plug-in, a subject.
pub const BACKUP: &str = "10.20.0.10";
/// A protected Azure VM, a peer.
pub const VM: &str = "10.30.0.5";
/// A workstation with a web browser, a peer.
pub const BROWSER: &str = "10.40.0.7";
/// The Veeam Backup & Replication console, a peer.
pub const CONSOLE: &str = "10.20.0.30";
/// The Veeam ONE server, a peer.
pub const VEEAM_ONE: &str = "10.20.0.31";
/// The mail server, a peer.
pub const MAIL: &str = "10.20.0.25";
/// Azure's resolver, which is also its wire server.
pub const RESOLVER: &str = "168.63.129.16";
/// Azure's instance metadata service.
pub const IMDS: &str = "169.254.169.254";
/// A router on the way that is nobody's peer.
pub const ROUTER: &str = "192.0.2.1";

/// Where scenes' web servers live: a documentation range, which portproof treats as public.
pub const WEB: &str = "203.0.113.9";
/// Another such address.
pub const WEB2: &str = "198.51.100.66";

/// Addresses in the bundled service tags.
pub const ENTRA: &str = "20.190.151.69";
pub const ARM: &str = "40.71.13.226";
pub const STORAGE: &str = "13.69.40.17";
pub const VAULT: &str = "4.190.147.141";
pub const SQL_HERE: &str = "13.69.104.1";
pub const SQL_EASTUS: &str = "20.42.65.65";
pub const COSMOS: &str = "4.149.114.1";

/// 2026-01-06T10:00:00Z, the scenes' zero, in nanoseconds since the Unix epoch.
const ZERO: i64 = 1_767_693_600_000_000_000;

/// Seconds as nanoseconds.
pub fn nanos(seconds: f64) -> i64 {
    (seconds * 1e9).round() as i64
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|_| panic!("`{text}` is no address"))
}

/// What makes a scene, under its name.
pub type Builder = (&'static str, fn(&mut Scene));

/// Conversations, the site that they happen at, and what the audit ought to say of them.
pub struct Scene {
    clock: i64,
    next_port: u16,
    next_ip_id: u16,
    next_isn: u32,
    frames: Vec<Captured>,
    site: Site,
    site_text: Option<String>,
    layout: Layout,
    arguments: Vec<String>,
    tolerates_damage: bool,
    expect: Expectations,
}

/// How the frames become files.
#[derive(Default)]
struct Layout {
    pcapng: bool,
    gzip: bool,
    on_stdin: bool,
    as_written: bool,
    dropped: Option<u64>,
    cuts: Vec<usize>,
    backwards: bool,
    lost_tail: usize,
    strangers: Vec<(String, Option<Vec<u8>>)>,
    no_capture: bool,
}

/// A file of a scene: its name and its bytes; one without bytes is named on the command line, but not there.
pub struct SceneFile {
    pub name: String,
    pub bytes: Option<Vec<u8>>,
}

impl Scene {
    pub fn new() -> Self {
        Scene {
            clock: ZERO,
            next_port: 49_152,
            next_ip_id: 1,
            next_isn: 1_000_000,
            frames: Vec::new(),
            site: Site::default(),
            site_text: None,
            layout: Layout::default(),
            arguments: Vec::new(),
            tolerates_damage: false,
            expect: Expectations::default(),
        }
    }

    /// Sets when the next conversation begins, in seconds from the scene's zero.
    pub fn at(&mut self, seconds: f64) -> &mut Self {
        self.clock = ZERO + nanos(seconds);
        self
    }

    fn ephemeral_port(&mut self) -> u16 {
        self.next_port += 1;
        self.next_port - 1
    }

    fn ip_id(&mut self) -> u16 {
        self.next_ip_id = self.next_ip_id.wrapping_add(1);
        self.next_ip_id
    }

    fn isn(&mut self) -> u32 {
        self.next_isn = self.next_isn.wrapping_add(1_000_003);
        self.next_isn
    }

    fn push(&mut self, time: i64, interface: u32, bytes: Vec<u8>) {
        self.frames.push(Captured { time, interface, wire_len: bytes.len() as u32, bytes });
    }

    // Conversations that need one line.

    /// `client` asks Azure's resolver for the addresses of `name` and gets `address`, with a TTL of 300 s.
    pub fn resolve(&mut self, client: &str, name: &str, address: &str) -> &mut Self {
        self.resolve_chain(client, &[name], &[address])
    }

    /// As [`Scene::resolve`], by way of CNAMEs: `chain` is the asked name and then each target.
    pub fn resolve_chain(&mut self, client: &str, chain: &[&str], addresses: &[&str]) -> &mut Self {
        let kind = if addresses[0].contains(':') { AAAA } else { A };
        let mut records: Vec<_> = chain.windows(2).map(|pair| cname(pair[0], pair[1])).collect();
        let last = chain.last().expect("a chain has a name");
        records.extend(addresses.iter().map(|address| a(last, address)));
        self.dns(client, RESOLVER).query(chain[0], kind).answer(&records);
        self
    }

    /// A whole TLS connection to port 443 with `server_name`, opened and closed in good order.
    pub fn web(&mut self, client: &str, server: &str, server_name: &str) -> &mut Self {
        self.tcp(client, server, 443).handshake().tls(server_name).fin();
        self
    }

    /// Makes the capture go on: a connection of `host` to the metadata service (platform traffic) that carries one
    /// request and one answer a second, so that the host is seen to send and to receive.
    pub fn keeps_talking(&mut self, host: &str, from: f64, to: f64) -> &mut Self {
        let mut talk = self.at(from).tcp(host, IMDS, 80).handshake();
        for _ in 0..(to - from) as u32 {
            talk = talk
                .later(0.99)
                .client(&http_get(IMDS, "/metadata/instance"))
                .server(&http_ok())
                .client_ack();
        }
        self.at(from)
    }

    // Frames that are no conversation.

    /// An ARP request.
    pub fn arp(&mut self) -> &mut Self {
        let mut frame = vec![0xff; 6];
        frame.extend([
            2, 0, 10, 10, 1, 4, 0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 10, 10, 1, 4, 10, 10, 1, 4,
        ]);
        frame.extend([0, 0, 0, 0, 0, 0, 10, 10, 0, 1]);
        self.raw_frame(frame)
    }

    /// A neighbour solicitation of `client` for fd10::1:1.
    pub fn neighbour_solicitation(&mut self, client: &str) -> &mut Self {
        let (src, dst) = (address(client), address("ff02::1:ff01:1"));
        let target = address("fd10::1:1");
        let IpAddr::V6(target) = target else { panic!("an IPv6 address") };
        let body = wire::icmp(src, dst, 135, 0, [0; 4], &target.octets());
        let id = self.ip_id();
        let packet =
            wire::Ip { src, dst, ttl: 255, id, protocol: wire::ICMP6, piece: None, length_zero: false, body };
        self.raw_frame(wire::ethernet(src, dst, None, &packet.bytes()))
    }

    /// A packet of `from` to `to` with any protocol and body.
    pub fn packet(&mut self, from: &str, to: &str, (protocol, ttl): (u8, u8), body: Vec<u8>) -> &mut Self {
        let (src, dst, id) = (address(from), address(to), self.ip_id());
        let packet = wire::Ip { src, dst, ttl, id, protocol, piece: None, length_zero: false, body };
        self.raw_frame(wire::ethernet(src, dst, None, &packet.bytes()))
    }

    /// An ICMPv6 message of `from` to `to` that claims to be of the link (135: neighbour discovery, 131: MLD), and came over
    /// routers.
    pub fn link_message_from_afar(&mut self, kind: u8, from: &str, to: &str) -> &mut Self {
        let body = wire::icmp(address(from), address(to), kind, 0, [0; 4], &[0; 16]);
        self.packet(from, to, (wire::ICMP6, 50), body)
    }

    /// A UDP datagram of `client` to `server`, within a packet of `near` to `far` (IP in IP).
    pub fn tunnelled(&mut self, near: &str, far: &str, client: &str, server: &str) -> &mut Self {
        let (src, dst) = (address(client), address(server));
        let body = wire::udp((src, 40_000), (dst, 4_000), b"hello");
        let inner =
            wire::Ip { src, dst, ttl: 64, id: 1, protocol: wire::UDP, piece: None, length_zero: false, body };
        let (src, dst, id) = (address(near), address(far), self.ip_id());
        let body = inner.bytes();
        let outer = wire::Ip { src, dst, ttl: 64, id, protocol: 4, piece: None, length_zero: false, body };
        self.raw_frame(wire::ethernet(src, dst, None, &outer.bytes()))
    }

    /// A packet of `from` to `to` that says it carries UDP, of whose header three bytes are there.
    pub fn cut_udp_header(&mut self, from: &str, to: &str) -> &mut Self {
        self.tolerates_damage = true;
        let (src, dst, id) = (address(from), address(to), self.ip_id());
        let body = vec![0x9c, 0x40, 0];
        let packet =
            wire::Ip { src, dst, ttl: 64, id, protocol: wire::UDP, piece: None, length_zero: false, body };
        self.raw_frame(wire::ethernet(src, dst, None, &packet.bytes()))
    }

    /// A frame that says it carries IPv4, and does not.
    pub fn undecodable(&mut self) -> &mut Self {
        self.tolerates_damage = true;
        let mut frame = vec![2, 0, 10, 10, 1, 9, 2, 0, 10, 10, 1, 4, 0x08, 0x00];
        frame.extend([0x13; 40]);
        self.raw_frame(frame)
    }

    /// Any bytes as a frame.
    pub fn raw_frame(&mut self, bytes: Vec<u8>) -> &mut Self {
        self.push(self.clock, 0, bytes);
        self
    }

    /// Cuts what was captured of every frame so far to its first `bytes` bytes.
    pub fn snap_at(&mut self, bytes: usize) -> &mut Self {
        self.frames.iter_mut().for_each(|frame| frame.bytes.truncate(bytes));
        self.tolerates_damage = true;
        self
    }

    /// Takes away every frame before `seconds`.
    pub fn capture_starts_at(&mut self, seconds: f64) -> &mut Self {
        self.frames.retain(|frame| frame.time >= ZERO + nanos(seconds));
        self
    }

    /// Takes away every frame from `seconds` on.
    pub fn capture_ends_at(&mut self, seconds: f64) -> &mut Self {
        self.frames.retain(|frame| frame.time < ZERO + nanos(seconds));
        self
    }

    /// Some of the frames are malformed, and meant to be.
    pub fn damaged_on_purpose(&mut self) -> &mut Self {
        self.tolerates_damage = true;
        self
    }

    // How it is written down.

    /// The frames stand in the file in the order of the scene's lines, not of time.
    pub fn in_the_order_written(&mut self) -> &mut Self {
        self.layout.as_written = true;
        self
    }

    /// One pcapng file instead of pcap.
    pub fn as_pcapng(&mut self) -> &mut Self {
        self.layout.pcapng = true;
        self
    }

    /// A pcapng file whose statistics say that the interface dropped `frames`.
    pub fn dropping(&mut self, frames: u64) -> &mut Self {
        self.layout.dropped = Some(frames);
        self.as_pcapng()
    }

    /// Each file compressed by gzip.
    pub fn gzipped(&mut self) -> &mut Self {
        self.layout.gzip = true;
        self
    }

    /// The capture comes on standard input.
    pub fn on_stdin(&mut self) -> &mut Self {
        self.layout.on_stdin = true;
        self
    }

    /// Cuts the capture into files: each begins after so many frames.
    pub fn cut_after(&mut self, frames: &[usize]) -> &mut Self {
        self.layout.cuts = frames.to_vec();
        self
    }

    /// Cuts the capture as it is now into files: one more begins at `seconds`.
    pub fn cut_at(&mut self, seconds: f64) -> &mut Self {
        let before = self.frames.iter().filter(|frame| frame.time < ZERO + nanos(seconds)).count();
        self.layout.cuts.push(before);
        self
    }

    /// Names the files on the command line last to first.
    pub fn files_backwards(&mut self) -> &mut Self {
        self.layout.backwards = true;
        self
    }

    /// The last file lost its last `bytes` bytes.
    pub fn losing_the_last(&mut self, bytes: usize) -> &mut Self {
        self.layout.lost_tail = bytes;
        self.tolerates_damage = true;
        self
    }

    /// One more file with any bytes; without bytes it is named, but does not exist.
    pub fn and_the_file(&mut self, name: &str, bytes: Option<&[u8]>) -> &mut Self {
        self.layout.strangers.push((name.to_string(), bytes.map(<[u8]>::to_vec)));
        self
    }

    /// Only the files of [`Scene::and_the_file`] are named.
    pub fn without_its_own_capture(&mut self) -> &mut Self {
        self.layout.no_capture = true;
        self
    }

    // The site and the command line.

    /// Sets a key of site.toml, `table.key`, to a TOML value.
    pub fn site(&mut self, path: &str, value: &str) -> &mut Self {
        self.site.set(path, value);
        self
    }

    /// Adds an `[[accept]]` entry.
    pub fn accept(&mut self, body: &str) -> &mut Self {
        self.site.accept(body);
        self
    }

    /// The whole of site.toml, whatever it is.
    pub fn site_text(&mut self, text: &str) -> &mut Self {
        self.site_text = Some(text.to_string());
        self
    }

    /// Whether it is audited with more arguments than the usual ones.
    pub fn is_special(&self) -> bool {
        !self.arguments.is_empty()
    }

    /// More arguments after the usual ones.
    pub fn arguments(&mut self, arguments: &[&str]) -> &mut Self {
        self.arguments.extend(arguments.iter().map(ToString::to_string));
        self
    }

    // Results.

    /// The text of site.toml.
    pub fn site_toml(&self) -> String {
        self.site_text.clone().unwrap_or_else(|| self.site.toml())
    }

    /// Whether the scene holds frames that are damaged on purpose.
    pub fn tolerates_damage(&self) -> bool {
        self.tolerates_damage
    }

    /// The frames in the order of the file.
    pub fn ordered_frames(&self) -> Vec<Captured> {
        let mut frames = self.frames.clone();
        if !self.layout.as_written {
            frames.sort_by_key(|frame| frame.time);
        }
        frames
    }

    /// The capture files, in the order of the command line.
    pub fn files(&self) -> Vec<SceneFile> {
        let frames = self.ordered_frames();
        let mut cuts = vec![0];
        cuts.extend(self.layout.cuts.iter().map(|&cut| cut.min(frames.len())));
        cuts.push(frames.len());
        let pieces: Vec<_> = cuts.windows(2).map(|pair| &frames[pair[0]..pair[1]]).collect();
        let (extension, count) = (if self.layout.pcapng { "pcapng" } else { "pcap" }, pieces.len());
        let mut files = Vec::new();
        for (index, piece) in pieces.into_iter().enumerate() {
            let mut bytes = if self.layout.pcapng { pcapng(piece, self.layout.dropped) } else { pcap(piece) };
            if index + 1 == count {
                bytes.truncate(bytes.len() - self.layout.lost_tail);
            }
            let mut name =
                if count == 1 { format!("scene.{extension}") } else { format!("part{index}.{extension}") };
            if self.layout.gzip {
                bytes = gzip(&bytes);
                name.push_str(".gz");
            }
            files.push(SceneFile { name, bytes: Some(bytes) });
        }
        if self.layout.no_capture {
            files.clear();
        }
        if self.layout.backwards {
            files.reverse();
        }
        let strangers = self.layout.strangers.iter();
        files.extend(strangers.map(|(name, bytes)| SceneFile { name: name.clone(), bytes: bytes.clone() }));
        files
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).expect("memory takes bytes");
    encoder.finish().expect("memory takes bytes")
}

/// Declares scenes: each becomes a test of that name, which plays it, and an entry of the module's `SCENES`.
macro_rules! scenes {
    ($($(#[$meta:meta])* fn $name:ident($scene:ident) $body:block)*) => {
        $($(#[$meta])* fn $name($scene: &mut $crate::scene::Scene) $body)*

        /// Every scene of this module.
        pub const SCENES: &[$crate::scene::Builder] = &[$((stringify!($name), $name)),*];

        mod plays {
            $(#[test] fn $name() { $crate::scene::play(stringify!($name), super::$name); })*
        }
    };
}
pub(crate) use scenes;
