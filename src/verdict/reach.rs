//! How far a finding reaches: all addresses and ports of its flows, and the display filter that selects them.

use crate::audit::Finding;
use crate::model::Transport;
use std::collections::BTreeSet;
use std::fmt::{self, Write};
use std::net::IpAddr;

/// Addresses or ports that a filter names one by one, at the most: beyond them it goes by what else it says.
const MOST_IN_A_FILTER: usize = 20;

/// Addresses or ports that a line of details names: 8.
const MOST_IN_A_LINE: usize = 8;

/// Of initiators' addresses so many are known, the least: one more than a filter names, so that it is known that there are more. A
/// role may be that of a whole network.
const MOST_KEPT: usize = MOST_IN_A_FILTER + 1;

/// From where to where the flows of a finding went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// The initiators' addresses, where the finding is one's own.
    from: BTreeSet<IpAddr>,
    to: BTreeSet<IpAddr>,
    /// Of the responders, or of proxies.
    ports: BTreeSet<u16>,
}

impl Reach {
    /// Notes a flow.
    pub fn note(&mut self, from: Option<IpAddr>, to: IpAddr, port: u16) {
        self.from.extend(from);
        keep_least(&mut self.from);
        self.to.insert(to);
        self.ports.insert(port);
    }

    /// Whether a flow would change nothing.
    pub fn has(&self, from: Option<IpAddr>, to: IpAddr, port: u16) -> bool {
        from.is_none_or(|ip| self.from.contains(&ip)) && self.to.contains(&to) && self.ports.contains(&port)
    }

    /// Notes what another one has noted.
    pub(super) fn add(&mut self, other: Reach) {
        self.from.extend(other.from);
        keep_least(&mut self.from);
        self.to.extend(other.to);
        self.ports.extend(other.ports);
    }

    /// Forgets what no filter would name: there are too many.
    pub fn trim(&mut self) {
        keep_least(&mut self.to);
        keep_least(&mut self.ports);
    }

    /// Leaves out who began: it stands for all of them.
    pub(super) fn forget_initiators(&mut self) {
        self.from.clear();
    }

    /// Where a finding stands for all hosts of a role and all ports of a rule, and there are several, it names none of them as the
    /// one. It was worded after its first flow.
    pub fn unname(&self, finding: &mut Finding) {
        if !finding.code.is_per_role() {
            return;
        }
        if self.from.len() > 1
            && let Some(ip) = finding.from.ip.take()
        {
            finding.title = finding.title.replacen(&format!(" {ip} -> "), " -> ", 1);
        }
        if self.ports.len() > 1
            && let Some(port) = finding.to.port.take_if(|port| self.ports.contains(port))
            && let Some(title) = finding.title.strip_suffix(&format!(" {port}"))
        {
            finding.title.truncate(title.len());
        }
    }

    /// What there is to know of a finding beside its first flow, a line each.
    pub(super) fn details(&self) -> Vec<String> {
        let initiators = listed(&self.from, MOST_KEPT);
        let addresses = listed(&self.to, usize::MAX);
        let ports = listed(&self.ports, usize::MAX);
        let lines = [("initiators", initiators), ("addresses", addresses), ("ports", ports)];
        lines.into_iter().filter_map(|(what, listed)| Some(format!("{what}: {}", listed?))).collect()
    }

    /// A filter for Wireshark and tshark that selects the flows, and the ICMP errors that quote them.
    pub fn filter(&self, proto: Transport) -> String {
        let mut filter = String::new();
        self.push_filter(&mut filter, proto);
        filter
    }

    /// Adds that filter.
    pub(super) fn push_filter(&self, filter: &mut String, proto: Transport) {
        let [from, to] = [&self.from, &self.to].map(|all| Vec::from_iter(all.iter().copied()));
        let ports = Vec::from_iter(self.ports.iter().copied());
        push_filter(filter, (&from, &to, &ports), proto);
    }
}

/// Adds a filter that selects flows from, to, and of these ports.
pub(super) fn push_filter(
    filter: &mut String,
    (from, to, ports): (&[IpAddr], &[IpAddr], &[u16]),
    proto: Transport,
) {
    for hosts in [from, to] {
        push_any(filter, hosts, |filter, ip| {
            write!(filter, "{} == {ip}", if ip.is_ipv4() { "ip.addr" } else { "ipv6.addr" })
        });
    }
    match proto {
        Transport::Tcp | Transport::Udp | Transport::Sctp if ports.len() <= MOST_IN_A_FILTER => {
            push_any(filter, ports, |filter, port| write!(filter, "{proto}.port == {port}"));
        }
        Transport::Tcp | Transport::Udp | Transport::Sctp => {
            push_any(filter, &[proto], |filter, proto| write!(filter, "{proto}"));
        }
        Transport::Icmp => push_any(filter, &["icmp"], |filter, proto| filter.write_str(proto)),
        Transport::Icmp6 => push_any(filter, &["icmpv6"], |filter, proto| filter.write_str(proto)),
        Transport::Other(number) => {
            // Where extension headers stand before it, the last of them names it.
            const FIELDS: [&str; 6] = [
                "ip.proto",
                "ipv6.nxt",
                "ipv6.hopopts.nxt",
                "ipv6.dstopts.nxt",
                "ipv6.routing.nxt",
                "ipv6.fraghdr.nxt",
            ];
            let is_of = |ipv4: bool| from.iter().chain(to).any(|ip| ip.is_ipv4() == ipv4);
            let fields = &FIELDS[usize::from(!is_of(true))..if is_of(false) { FIELDS.len() } else { 1 }];
            push_any(filter, fields, |filter, field| write!(filter, "{field} == {number}"));
        }
    }
}

/// Adds that one of these has to hold, and nothing where they are none or too many. Texts never fail.
fn push_any<T>(filter: &mut String, all: &[T], test: impl Fn(&mut String, &T) -> fmt::Result) {
    if all.len() > MOST_IN_A_FILTER {
        return;
    }
    let several = all.len() > 1;
    for (place, one) in all.iter().enumerate() {
        filter.push_str(match place {
            0 if filter.is_empty() => "",
            0 => " && ",
            _ => " || ",
        });
        filter.push_str(if several && place == 0 { "(" } else { "" });
        let _ = test(filter, one);
    }
    filter.push_str(if several { ")" } else { "" });
}

/// Whichever come first, the least stay.
fn keep_least<T: Ord>(all: &mut BTreeSet<T>) {
    while all.len() > MOST_KEPT {
        all.pop_last();
    }
}

/// The first of several, and how many more there are: not known where they are as many as are kept.
pub(super) fn listed<T: ToString>(all: &BTreeSet<T>, most: usize) -> Option<String> {
    let shown: Vec<String> = all.iter().take(MOST_IN_A_LINE).map(T::to_string).collect();
    let more = match all.len() - shown.len() {
        0 => String::new(),
        _ if all.len() >= most => " and more".to_owned(),
        more => format!(" and {more} more"),
    };
    (all.len() > 1).then(|| format!("{}{more}", shown.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Code, Party};

    fn reach(from: u8, to: u8, ports: u16) -> Reach {
        let mut reach = Reach::default();
        for ip in 0..from {
            reach.note(Some([10, 0, 0, ip].into()), [203, 0, 113, 0].into(), 1);
        }
        (0..to).for_each(|ip| reach.note(None, [203, 0, 113, ip].into(), 1));
        (1..=ports).for_each(|port| reach.note(None, [203, 0, 113, 0].into(), port));
        reach
    }

    #[test]
    fn a_filter_names_all_or_none() {
        let told = |from, to, ports| reach(from, to, ports).filter(Transport::Tcp);
        assert_eq!(
            told(1, 2, 1),
            "ip.addr == 10.0.0.0 && (ip.addr == 203.0.113.0 || ip.addr == 203.0.113.1) && tcp.port == 1"
        );
        assert_eq!(told(0, 1, 2), "ip.addr == 203.0.113.0 && (tcp.port == 1 || tcp.port == 2)");
        let counts = |filter: String| {
            ["ip.addr == 10.", "ip.addr == 203.", "port =="].map(|of| filter.matches(of).count())
        };
        assert_eq!(counts(told(20, 20, 20)), [20; 3]);
        assert_eq!(counts(told(21, 20, 20)), [0, 20, 20]);
        assert_eq!(counts(told(20, 21, 20)), [20, 0, 20]);
        assert_eq!(counts(told(20, 20, 21)), [20, 20, 0]);
        assert!(told(20, 20, 21).ends_with(" && tcp"));
        assert_eq!(told(21, 21, 21), "tcp");
    }

    #[test]
    fn a_protocol_without_ports_is_selected_in_each_family_that_it_goes_by() {
        let mut reach = Reach::default();
        reach.note(Some([10, 0, 0, 1].into()), [203, 0, 113, 9].into(), 0);
        let four = "ip.addr == 10.0.0.1 && ip.addr == 203.0.113.9 && ";
        for (proto, end) in [
            (Transport::Icmp, "icmp"),
            (Transport::Icmp6, "icmpv6"),
            (Transport::Other(47), "ip.proto == 47"),
        ] {
            assert_eq!(reach.filter(proto), format!("{four}{end}"));
        }
        reach.note(Some("fd00::1".parse().unwrap()), "2001:db8::9".parse().unwrap(), 0);
        let both = reach.filter(Transport::Other(47));
        assert!(
            both.contains("&& (ip.proto == 47 || ipv6.nxt == 47 || ") && both.ends_with("fraghdr.nxt == 47)")
        );
    }

    #[test]
    fn the_least_initiators_are_known_in_whatever_order_they_come() {
        let host = |n: u32| IpAddr::V4(n.into());
        let least: BTreeSet<IpAddr> = (0..MOST_KEPT as u32).map(host).collect();
        for step in [1, 7, 19] {
            let (mut whole, mut parts) = (Reach::default(), [Reach::default(), Reach::default()]);
            for n in (0..60).map(|n| n * step % 60) {
                for reach in [&mut whole, &mut parts[usize::from(n % 3 == 0)]] {
                    reach.note(Some(host(n)), host(0), 1);
                }
            }
            let [mut first, second] = parts;
            first.add(second);
            assert_eq!((&whole.from, &first), (&least, &whole));
        }
        assert_eq!(
            reach(9, 1, 1).details(),
            [
                "initiators: 10.0.0.0, 10.0.0.1, 10.0.0.2, 10.0.0.3, 10.0.0.4, 10.0.0.5, 10.0.0.6, 10.0.0.7 and 1 more"
            ]
        );
        assert!(reach(99, 1, 1).details()[0].ends_with("10.0.0.7 and more"));
        assert!(reach(1, 1, 1).details().is_empty());
    }

    #[test]
    fn what_stands_for_several_names_none_of_them() {
        let worded = |code| Finding {
            from: Party { ip: Some([10, 0, 0, 0].into()), ..Party::default() },
            to: Party { port: Some(1), ..Party::default() },
            ..Finding::of(code, "worker 10.0.0.0 -> a.example (203.0.113.0) TCP 1".to_owned())
        };
        let unnamed = |code, reach: Reach| {
            let mut finding = worded(code);
            reach.unname(&mut finding);
            (finding.title, finding.from.ip.is_some(), finding.to.port.is_some())
        };
        let told = |title: &str, ip, port| (title.to_owned(), ip, port);
        let whole = told("worker 10.0.0.0 -> a.example (203.0.113.0) TCP 1", true, true);
        assert_eq!(unnamed(Code::Undetermined, reach(1, 2, 1)), whole);
        assert_eq!(unnamed(Code::UnexpectedTraffic, reach(2, 2, 2)), whole);
        let hosts = told("worker -> a.example (203.0.113.0) TCP 1", false, true);
        assert_eq!(unnamed(Code::Undetermined, reach(2, 1, 1)), hosts);
        let ports = told("worker 10.0.0.0 -> a.example (203.0.113.0) TCP", true, false);
        assert_eq!(unnamed(Code::Undetermined, reach(1, 1, 2)), ports);
    }
}
