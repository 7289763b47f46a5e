//! Filters in the language of tcpdump (pcap-filter(7)), compiled by libpcap and run over the bytes of each frame.
//!
//! Two things differ from `tcpdump -r`. Names of hosts and networks are refused: libpcap would ask a resolver for them,
//! and the auditor adds no traffic. And `len`, `less` and `greater` see the bytes that were captured, since libpcap is
//! told of no others here: in a capture cut by a snapshot length they cannot tell long frames apart.

use super::frame::{Frame, LinkType};
use crate::model::NotChosen;
use pcap::{BpfProgram, Capture, Error, Linktype};
use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;
use std::sync::Arc;

/// An expression that libpcap compiles for Ethernet, or for another link type that is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter(Arc<str>);

/// Why an expression is no filter.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// It holds a name that would have to be resolved.
    #[error(
        "`{0}` would be looked up as the name of a host or network, and portproof asks no resolver: write its address"
    )]
    Name(String),
    /// libpcap does not compile it, for no link type that is read.
    #[error("`{expression}` is no filter: {problem}")]
    Refused {
        /// What was given.
        expression: String,
        /// What libpcap says.
        problem: String,
    },
}

/// Link types of which some know words that Ethernet does not (`ifindex`, `on`): Ethernet first, for its message is told.
const TRIED: [LinkType; 7] =
    [LinkType(1), LinkType(276), LinkType(113), LinkType(101), LinkType(9), LinkType(0), LinkType(192)];

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(name) = name_in(text) {
            return Err(FilterError::Name(name.to_owned()));
        }
        let mut problem = None;
        for link_type in TRIED {
            match Program::compile(text, link_type) {
                Ok(_) => return Ok(Filter(text.into())),
                Err(told) => problem = problem.or(Some(told)),
            }
        }
        Err(FilterError::Refused { expression: text.to_owned(), problem: problem.unwrap_or_default() })
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A link type for which a filter cannot be compiled, and the first frame that had it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// The link type.
    pub link_type: LinkType,
    /// The frame's number.
    pub frame: u64,
    /// Bytes from the start of the (decompressed) file to its header.
    pub offset: u64,
    /// What libpcap says.
    pub problem: String,
}

/// A compiled expression.
struct Program {
    bpf: BpfProgram,
    /// Bytes at a frame's beginning that the program does not see.
    skips: usize,
}

impl Program {
    fn compile(expression: &str, link_type: LinkType) -> Result<Program, String> {
        // libpcap's DLT_ values are those of files but for raw IP (12 on Linux). The four bytes before BSD loopback packets
        // stand in the byte order of the machine that captured and use its numbers, neither of which libpcap can know from
        // here: it gets the packet behind them.
        let (dlt, skips) = match link_type.0 {
            12 | 14 | 101 | 228 | 229 => (12, 0),
            0 | 108 => (12, 4),
            other => (i32::from(other), 0),
        };
        let told = |error: Error| match error {
            Error::PcapError(message) => message,
            other => other.to_string(),
        };
        let bpf =
            Capture::dead(Linktype(dlt)).and_then(|dead| dead.compile(expression, true)).map_err(told)?;
        Ok(Program { bpf, skips })
    }

    fn fits(&self, bytes: &[u8]) -> bool {
        self.bpf.filter(bytes.get(self.skips..).unwrap_or_default())
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").field("skips", &self.skips).finish_non_exhaustive()
    }
}

/// A filter at work on one capture: a program for each link type met, compiled when it is first met.
#[derive(Debug)]
pub(super) struct Programs {
    filter: Filter,
    compiled: BTreeMap<LinkType, Option<Program>>,
    unfit: Vec<Unfit>,
}

impl Programs {
    pub(super) fn new(filter: Filter) -> Self {
        Programs { filter, compiled: BTreeMap::new(), unfit: Vec::new() }
    }

    pub(super) fn keep(&mut self, frame: &Frame<'_>) -> Result<(), NotChosen> {
        let program = self.compiled.entry(frame.link_type).or_insert_with(|| {
            let compiled = Program::compile(&self.filter.0, frame.link_type);
            compiled
                .map_err(|problem| {
                    self.unfit.push(Unfit {
                        link_type: frame.link_type,
                        frame: frame.number,
                        offset: frame.offset,
                        problem,
                    });
                })
                .ok()
        });
        match program {
            None => Err(NotChosen::FilterUnfit),
            Some(program) if program.fits(frame.bytes) => Ok(()),
            Some(_) => Err(NotChosen::ByFilter),
        }
    }

    pub(super) fn unfit(self) -> Vec<Unfit> {
        self.unfit
    }
}

/// Words of the language after which names stand that are found in tables of this machine or of libpcap itself, not by
/// a resolver: services, protocols, interfaces, kinds of wireless and of firewall frames.
const NAMES_FOLLOW: &[&str] = &[
    "action",
    "dir",
    "direction",
    "ifname",
    "llc",
    "on",
    "port",
    "portrange",
    "proto",
    "protochain",
    "reason",
    "rset",
    "ruleset",
    "subtype",
    "type",
];

/// The other words of the language, as libpcap's scanner (1.8 to 1.11) has them; case matters to it.
#[rustfmt::skip]
const WORDS: &[&str] = &[
    "aarp", "addr1", "addr2", "addr3", "addr4", "address1", "address2", "address3", "address4", "ah", "and", "arp",
    "atalk", "bcc", "broadcast", "byte", "carp", "clnp", "connectmsg", "csnp", "decnet", "dpc", "dst", "es-is", "esis",
    "esp", "ether", "fddi", "fisu", "gateway", "geneve", "greater", "hdpc", "hfisu", "hlssu", "hmsu", "hopc", "host",
    "hsio", "hsls", "icmp", "icmp6", "icmp6code", "icmp6type", "icmpcode", "icmptype", "ifindex", "igmp", "igrp", "iih",
    "ilmic", "inbound", "ip", "ip6", "ipv6", "ipx", "is-is", "isis", "iso", "l1", "l2", "lane", "lat", "len", "length",
    "less", "link", "lsp", "lssu", "lsu", "mask", "metac", "metaconnect", "mopdl", "moprc", "mpls", "msu", "multicast",
    "net", "netbeui", "not", "oam", "oamf4", "oamf4ec", "oamf4sc", "opc", "or", "outbound", "pim", "ppp", "pppoed",
    "pppoes", "psnp", "ra", "radio", "rarp", "rnr", "rulenum", "sc", "sca", "sctp", "sio", "slip", "sls", "snp", "src",
    "srnr", "stp", "subrulenum", "ta", "tcp", "tcpflags", "tr", "udp", "vci", "vlan", "vpi", "vrrp", "vxlan", "wlan",
    "tcp-ack", "tcp-cwr", "tcp-ece", "tcp-fin", "tcp-push", "tcp-rst", "tcp-syn", "tcp-urg",
    "icmp-echo", "icmp-echoreply", "icmp-ireq", "icmp-ireqreply", "icmp-maskreply", "icmp-maskreq", "icmp-paramprob",
    "icmp-redirect", "icmp-routeradvert", "icmp-routersolicit", "icmp-sourcequench", "icmp-timxceed", "icmp-tstamp",
    "icmp-tstampreply", "icmp-unreach",
    "icmp6-certpathadvert", "icmp6-certpathsolicit", "icmp6-destinationunreach", "icmp6-echo", "icmp6-echoreply",
    "icmp6-homeagentdiscoveryreply", "icmp6-homeagentdiscoveryrequest", "icmp6-ineighbordiscoveryadvert",
    "icmp6-ineighbordiscoverysolicit", "icmp6-mobileprefixadvert", "icmp6-mobileprefixsolicit",
    "icmp6-multicastlistenerdone", "icmp6-multicastlistenerquery", "icmp6-multicastlistenerreportv1",
    "icmp6-multicastlistenerreportv2", "icmp6-multicastrouteradvert", "icmp6-multicastroutersolicit",
    "icmp6-multicastrouterterm", "icmp6-neighboradvert", "icmp6-neighborsolicit", "icmp6-nodeinformationquery",
    "icmp6-nodeinformationresponse", "icmp6-packettoobig", "icmp6-parameterproblem", "icmp6-redirect",
    "icmp6-routeradvert", "icmp6-routerrenum", "icmp6-routersolicit", "icmp6-timeexceeded",
];

/// The first word of an expression that libpcap could only understand by asking a resolver.
///
/// It errs on the side of refusing: a word that a newer libpcap knows and this list does not counts as a name.
fn name_in(expression: &str) -> Option<&str> {
    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ':' | '\\');
    // Between the words stand operators: brackets, comparisons, arithmetic.
    let words =
        expression.split(|c: char| !named(c)).map(|word| word.trim_start_matches(['-', '_', '.', ':']));
    // Whether a name would be one of a table: what a qualifier says holds for the names after it, until another word.
    let mut of_a_table = false;
    for word in words.filter(|word| !word.is_empty()) {
        if NAMES_FOLLOW.contains(&word) {
            of_a_table = true;
        } else if matches!(word, "and" | "or" | "not") || is_number_or_address(word) {
            // What was said still holds: `port http or 8080 or https`.
        } else if WORDS.contains(&word) {
            of_a_table = false;
        } else if !of_a_table {
            let unknown = |part: &&str| {
                let known = WORDS.contains(part) || NAMES_FOLLOW.contains(part);
                !(part.is_empty() || known || is_number_or_address(part))
            };
            // `tcp[12:2]`, `ip6[icmp6type:1]`: what stands around a colon are words of their own.
            if let Some(name) = word.split(':').find(unknown) {
                return Some(name);
            }
        }
    }
    None
}

/// What libpcap's scanner takes for a number, or an address of any kind, and for no name.
fn is_number_or_address(word: &str) -> bool {
    let hex = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = |part: &str| {
        let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        digits || part.strip_prefix("0x").or_else(|| part.strip_prefix("0X")).is_some_and(hex)
    };
    let dotted = word.split('.').count() <= 4 && word.split('.').all(number);
    let hardware = [':', '-', '.'].into_iter().any(|mark| {
        let parts = || word.split(mark);
        parts().count() == 6 && parts().all(|part| part.len() <= 2 && hex(part))
    });
    let words = word.split('.').count() == 3 && word.split('.').all(|part| part.len() == 4 && hex(part));
    let plain = word.len() == 12 && hex(word);
    dotted || hardware || words || plain || word.parse::<Ipv6Addr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[rustfmt::skip]
    fn what_would_ask_a_resolver_is_refused_before_libpcap_sees_it() {
        for (expression, name) in [
            ("host nginx.org",                              Some("nginx.org")),
            ("nginx.org",                                   Some("nginx.org")),
            ("not localhost",                               Some("localhost")),
            ("src a.example and port 53",                   Some("a.example")),
            ("port 53 and src appliance",                   Some("appliance")),
            ("port http or host web",                       Some("web")),
            ("net office",                                  Some("office")),
            ("gateway router",                              Some("router")),
            ("ether host printer",                          Some("printer")),
            ("host 1.2.3.4.5",                              Some("1.2.3.4.5")),
            ("host 10-0-0-1",                               Some("10-0-0-1")),
            ("host fe80:1",                                 Some("fe80")),
            (r"host \tcp",                                  Some(r"\tcp")),
            ("HOST 10.0.0.1",                               Some("HOST")), // case matters to libpcap: this is a name
            ("(port 53) and tcp and x.example",             Some("x.example")),
            ("port https or domain",                        None),
            ("tcp portrange 6000-6008 and not port ssh",    None),
            (r"ip proto \tcp or proto icmp",                None),
            ("net 10.10.0.0/16 or net 10 or host fd10::1:4", None),
            ("ether host aa:bb:cc:dd:ee:ff or ether src aa-bb-cc-1-2-3 or ether dst aabb.ccdd.eeff", None),
            ("tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",      None),
            ("ip[6:2] & 0x1fff != 0 and ip[2:2] - ((ip[0]&0xf)<<2) > 20", None),
            ("icmp6[icmp6type] = icmp6-echo and ip6[6:1]=58", None),
            ("vlan 100 and (host 10.0.0.1 || len > 100)",   None),
            ("!arp&&!stp",                                  None),
            ("type mgt subtype beacon",                     None),
            ("",                                            None),
        ] { assert_eq!(name_in(expression), name, "{expression}"); }
    }

    #[test]
    #[rustfmt::skip]
    fn an_expression_is_compiled_before_anything_is_read() {
        for (expression, expected) in [
            ("tcp port 443",            Ok(())),
            ("",                        Ok(())),
            ("ifindex 2",               Ok(())), // no word of Ethernet, one of Linux cooked v2
            ("tcp prot 443",            Err("prot")),
            ("tcp port",                Err("syntax error")),
            ("host 10.0.0.400",         Err("10.0.0.400")),
            ("port nonesuch",           Err("nonesuch")),
            ("net 10.10.1.4/16",        Err("non-network bits")),
            ("port 53 \0 or port 54",   Err("is no filter")),
        ] {
            match (expression.parse::<Filter>(), expected) {
                (Ok(filter), Ok(())) => assert_eq!(filter.to_string(), expression),
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{expression}: {error}"),
                (found, _) => panic!("{expression}: {found:?}"),
            }
        }
    }

    /// An IPv4 packet from 10.0.0.1 to 10.0.0.2, UDP, port 53.
    const PACKET: [u8; 28] =
        [0x45, 0, 0, 28, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0x9c, 0x40, 0, 53, 0, 8, 0, 0];

    #[test]
    #[rustfmt::skip]
    fn one_expression_chooses_the_same_packet_on_every_link() {
        let behind = |head: &[u8]| [head, &PACKET].concat();
        let cooked = [[0, 0, 0, 1, 0, 6].as_slice(), &[0; 8], &[8, 0]].concat();
        let ethernet = [[2; 12].as_slice(), &[8, 0]].concat();
        for (link_type, bytes) in [
            (1,   behind(&ethernet)),
            (113, behind(&cooked)),
            (276, behind(&[&[8, 0, 0, 0, 0, 0, 0, 2, 0, 1, 0, 6][..], &[0; 8]].concat())),
            (101, behind(&[])),
            (228, behind(&[])),
            (0,   behind(&[2, 0, 0, 0])), // loopback of a little-endian machine
            (0,   behind(&[0, 0, 0, 2])), // and of a big-endian one
            (9,   behind(&[0xff, 3, 0, 0x21])),
        ] {
            let frame = Frame {
                number: 1, offset: 24, time: crate::model::Timestamp(0), interface: 0, link_type: LinkType(link_type),
                fcs_bytes: 0, wire_len: bytes.len() as u32, bytes: &bytes,
            };
            for (expression, expected) in [
                ("host 10.0.0.1 and udp port 53", Ok(())),
                ("udp src port 53",               Err(NotChosen::ByFilter)),
            ] {
                let mut programs = Programs::new(expression.parse().unwrap());
                assert_eq!(programs.keep(&frame), expected, "link type {link_type}: {expression}");
                assert_eq!(programs.unfit(), []);
            }
        }
    }

    #[test]
    fn a_link_type_that_an_expression_does_not_suit_is_told_with_its_first_frame() {
        let mut programs = Programs::new("vlan 7".parse().unwrap());
        for (number, link_type) in [(1, 1), (2, 276), (3, 276)] {
            let frame = Frame {
                number,
                offset: 100 * number,
                time: crate::model::Timestamp(0),
                interface: 0,
                link_type: LinkType(link_type),
                fcs_bytes: 0,
                wire_len: 0,
                bytes: &[],
            };
            let expected = if number == 1 { NotChosen::ByFilter } else { NotChosen::FilterUnfit };
            assert_eq!(programs.keep(&frame), Err(expected), "frame {number}");
        }
        let unfit = programs.unfit();
        let [only] = &unfit[..] else { panic!("{unfit:?}") };
        assert_eq!((only.link_type, only.frame, only.offset), (LinkType(276), 2, 200));
        assert!(only.problem.contains("VLAN"), "{}", only.problem);
    }
}
