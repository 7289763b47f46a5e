//! What to record at a site, for whoever captures: a filter in the language of tcpdump.

use super::site::{RoleSet, Site};
use ipnet::IpNet;

/// Traffic of everybody that is kept for every audit, small beside the rest:
///
/// * ICMP errors. One about a flow with an audited machine may go to somebody else, and what is blocked is told by it.
/// * ARP, which shows on a quiet link that the capture went on.
const ALWAYS: &str = "arp or icmp or icmp6";

/// What may carry a packet of an audited machine inside, where a filter of this language does not look: IP in IP, IPv6 in
/// IP, GRE (with ERSPAN), MPLS in IP; VXLAN by both its ports, its generic extension, Geneve; MPLS and PPPoE on Ethernet.
/// Kept whole: a mirrored port often arrives in one of them.
const WRAPPED: &str = "proto 4 or proto 41 or proto 47 or proto 137 \
     or udp port 4789 or udp port 8472 or udp port 4790 or udp port 6081 \
     or ether proto 0x8847 or ether proto 0x8848 or ether proto 0x8864";

/// How the frames will look that the filter is to choose from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tagging {
    /// Ethernet frames, of which some may carry VLAN tags.
    Possible,
    /// No VLAN tags: interfaces without Ethernet (`-i any`, tunnels), for which libpcap refuses the word `vlan`.
    None,
}

/// A filter that keeps what an audit of this site needs, on one line; none where no audited role has an address.
///
/// It keeps all traffic of every address that holds an audited role, DNS in both directions and later fragments (which
/// have no ports) included, and all traffic of the peers that some rule lets begin something. A rule documents a flow
/// whoever takes part, so a protected machine's way to its storage counts; and only a host of which more is seen than the
/// one attempt shows by its silence that something on the way is closed. Roles that only receive need nothing of their
/// own: their flows are their partner's. A role given by name has no address to filter by.
///
/// The findings are those of an unfiltered recording, but for what is said about hosts without a role (the platform's
/// traffic blocked for a stranger).
pub fn capture_filter(site: &Site, tagging: Tagging) -> Option<String> {
    if site.subjects().iter().all(|role| site.role_prefixes(role).is_empty()) {
        return None;
    }
    let beginners: RoleSet =
        site.rules().iter().filter(|here| here.state.applies()).map(|here| here.from).collect();
    let prefixes: Vec<IpNet> = beginners
        .union(site.subjects())
        .iter()
        .flat_map(|role| site.role_prefixes(role).iter().copied())
        .collect();
    let hosts: Vec<String> = IpNet::aggregate(&prefixes).into_iter().map(primitive).collect();
    let needed = format!("{} or {ALWAYS} or {WRAPPED}", hosts.join(" or "));
    Some(match tagging {
        Tagging::None => needed,
        // `vlan` shifts where all that follows it looks, so it stands last. Behind two tags everything is kept.
        Tagging::Possible => format!("{needed} or (vlan and ({needed} or vlan))"),
    })
}

fn primitive(net: IpNet) -> String {
    match net {
        IpNet::V4(all) if all.prefix_len() == 0 => "ip".to_owned(),
        IpNet::V6(all) if all.prefix_len() == 0 => "ip6".to_owned(),
        net if net.prefix_len() == net.max_prefix_len() => format!("host {}", net.addr()),
        net => format!("net {net}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::Matrix;

    fn filter(roles: &str) -> Option<String> {
        let matrix = Matrix::load(&[], &[]).unwrap();
        let text = format!("[site]\nname = \"x\"\ncloud = \"public\"\n[roles]\n{roles}");
        let site = Site::parse(&text, "site.toml", &matrix).unwrap();
        capture_filter(&site, Tagging::None)
    }

    #[test]
    #[rustfmt::skip]
    fn audited_machines_and_those_that_rules_let_begin_are_kept() {
        for (roles, hosts) in [
            (r#"backup-appliance = [["10.10.1.4", "fd10::1:4"]]"#, "host 10.10.1.4 or host fd10::1:4"),
            // Neighbours become one prefix; who is inside another prefix needs no line.
            ("worker = [\"10.10.2.0/25\", \"10.10.2.128/25\"]\nbackup-server = [\"10.10.2.9\"]", "net 10.10.2.0/24"),
            // A protected machine and a browser begin what rules document; the mail server only receives.
            ("worker = [\"10.10.2.0/24\"]\nazure-vm = [\"10.30.0.0/16\"]\nweb-browser = [\"10.40.0.0/16\"]\nbackup-appliance = [\"10.10.1.4\"]\nsmtp-server = [\"10.20.0.25\", \"mail.example.com\"]",
             "host 10.10.1.4 or net 10.10.2.0/24 or net 10.30.0.0/16 or net 10.40.0.0/16"),
            ("worker = [\"0.0.0.0/0\", \"::/0\"]", "ip or ip6"),
        ] {
            assert_eq!(filter(roles).unwrap(), format!("{hosts} or {ALWAYS} or {WRAPPED}"), "{roles}");
        }
    }

    #[test]
    fn a_site_without_an_address_of_an_audited_machine_has_no_filter() {
        for roles in ["", r#"azure-vm = ["10.30.0.0/16"]"#, r#"backup-server = ["vbr.contoso.example"]"#] {
            assert_eq!(filter(roles), None, "{roles}");
        }
    }

    #[test]
    fn tagged_frames_are_asked_the_same_behind_their_tag() {
        let matrix = Matrix::load(&[], &[]).unwrap();
        let text = "[site]\nname = \"x\"\n[roles]\nworker = [\"10.10.2.0/24\"]";
        let site = Site::parse(text, "site.toml", &matrix).unwrap();
        let plain = capture_filter(&site, Tagging::None).unwrap();
        let tagged = capture_filter(&site, Tagging::Possible).unwrap();
        assert_eq!(tagged, format!("{plain} or (vlan and ({plain} or vlan))"));
        assert!(!tagged.contains('\n'));
    }
}
