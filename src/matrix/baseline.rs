//! Traffic that the platform itself causes on every machine, whatever product runs there.

use super::rule::Cloud;
use super::site::Site;
use crate::model::{DomainName, DomainPattern, PortSet, Transport};
use ipnet::IpNet;
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where Azure's host answers: its resolver, its wire server and the source of its health probes.
pub const PLATFORM_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16));

/// What traffic of a baseline line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BaselineClass {
    /// The platform's own: the only class that gives the verdict `platform`.
    Platform,
    /// The platform's or the product's (managed disks); names of it are no storage account's.
    PlatformOrWorkload,
    /// The operating system's: undocumented, but `nearest` says so.
    OsNoise,
    /// What any machine on the Internet receives.
    Noise,
}

impl BaselineClass {
    pub(super) const WORDS: [(&'static str, BaselineClass); 4] = [
        ("platform", BaselineClass::Platform),
        ("platform-or-workload", BaselineClass::PlatformOrWorkload),
        ("os-noise", BaselineClass::OsNoise),
        ("noise", BaselineClass::Noise),
    ];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        Self::WORDS.iter().find(|(_, class)| *class == self).map_or("", |(word, _)| word)
    }
}

impl fmt::Display for BaselineClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Who initiates, seen from the machine of the site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// The site's machine.
    Out,
    /// The other side.
    In,
    /// Either.
    Both,
}

/// Whom a baseline line speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BaselinePeer {
    /// Addresses.
    Prefix(IpNet),
    /// The resolvers of the site and the platform's; with none listed, every resolver.
    SiteResolvers,
    /// The time servers that the site lists.
    SiteTimeServers,
    /// Any address of the Internet: none of the virtual network, private, loopback or link-local.
    Internet,
    /// Any address.
    Anyone,
}

/// A prefix, or the address that it is.
pub fn shown_prefix(net: &IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() }
}

impl fmt::Display for BaselinePeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BaselinePeer::Prefix(net) => f.pad(&shown_prefix(net)),
            BaselinePeer::SiteResolvers => f.pad("site-resolvers"),
            BaselinePeer::SiteTimeServers => f.pad("site-time-servers"),
            BaselinePeer::Internet => f.pad("internet"),
            BaselinePeer::Anyone => f.pad("anyone"),
        }
    }
}

impl Serialize for BaselinePeer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One kind of platform traffic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BaselineLine {
    /// Its name: `plat-imds`.
    pub id: String,
    /// What it is.
    pub class: BaselineClass,
    /// Who initiates.
    pub direction: Direction,
    /// With whom, by address.
    pub peers: Vec<BaselinePeer>,
    /// With whom, by name.
    pub names: Vec<DomainPattern>,
    /// Over which transports. Empty for link traffic without one.
    pub transports: Vec<Transport>,
    /// The responder's ports; `None`: any.
    pub ports: Option<PortSet>,
    /// Link upkeep (ARP, DHCP): counted, not judged row by row.
    pub tallied: bool,
    /// The clouds in which it is meant; empty: all.
    pub clouds: Vec<Cloud>,
    /// What it is, in our words.
    pub what: String,
    /// Where it is documented.
    pub source: String,
}

/// A flow as the machine of the site sees it.
#[derive(Clone, Copy, Debug)]
pub struct Contact<'a> {
    /// [`Direction::Out`] if the site's machine initiates.
    pub direction: Direction,
    /// The other side.
    pub peer: IpAddr,
    /// Over what.
    pub transport: Transport,
    /// The responder's port.
    pub port: u16,
    /// Names of the other side, by evidence that the caller accepts.
    pub names: &'a [&'a DomainName],
}

impl BaselineLine {
    /// Whether the flow is of this line.
    pub fn fits(&self, site: &Site, contact: Contact<'_>) -> bool {
        self.carries(site, contact.direction, contact.transport, contact.port)
            && (self.peers.iter().any(|peer| peer.fits(site, contact.peer, contact.names))
                || contact.names.iter().any(|name| self.names.iter().any(|pattern| pattern.matches(name))))
    }

    /// Whether the flow may be of this line, as far as its other side is left out.
    pub fn carries(&self, site: &Site, direction: Direction, transport: Transport, port: u16) -> bool {
        let cloud = self.clouds.is_empty() || self.clouds.contains(&site.cloud());
        let ports = !transport.has_ports() || self.ports.as_ref().is_none_or(|ports| ports.contains(port));
        (self.direction == Direction::Both || self.direction == direction)
            && cloud
            && ports
            && self.transports.contains(&transport)
    }
}

impl BaselinePeer {
    /// Whether the address, or one of the names that stand for it, is meant.
    pub fn fits(&self, site: &Site, ip: IpAddr, names: &[&DomainName]) -> bool {
        match self {
            BaselinePeer::Prefix(net) => net.contains(&ip),
            BaselinePeer::SiteResolvers => site.is_resolver(ip),
            BaselinePeer::SiteTimeServers => site.is_time_server(ip, names),
            BaselinePeer::Internet => is_internet(ip) && !site.in_virtual_network(ip),
            BaselinePeer::Anyone => true,
        }
    }
}

impl BaselinePeer {
    /// The prefixes by which it tells addresses apart, beside those of the site ([`Site::prefixes`]).
    pub fn prefixes(&self) -> Vec<IpNet> {
        match self {
            BaselinePeer::Prefix(net) => vec![*net],
            BaselinePeer::SiteResolvers => vec![PLATFORM_ADDRESS.into()],
            BaselinePeer::Internet => {
                let none_of_it = NOT_INTERNET.into_iter();
                let nets = none_of_it.filter_map(|(ip, length)| IpNet::new(ip, length).ok());
                nets.chain([PLATFORM_ADDRESS.into()]).collect()
            }
            BaselinePeer::SiteTimeServers | BaselinePeer::Anyone => Vec::new(),
        }
    }
}

/// What [`is_internet`] leaves out, as prefixes.
const NOT_INTERNET: [(IpAddr, u8); 13] = [
    (IpAddr::V4(Ipv4Addr::new(10, 0, 0, 0)), 8),
    (IpAddr::V4(Ipv4Addr::new(172, 16, 0, 0)), 12),
    (IpAddr::V4(Ipv4Addr::new(192, 168, 0, 0)), 16),
    (IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8),
    (IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)), 16),
    (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 32),
    (IpAddr::V4(Ipv4Addr::BROADCAST), 32),
    (IpAddr::V4(Ipv4Addr::new(224, 0, 0, 0)), 4),
    (IpAddr::V6(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0)), 7),
    (IpAddr::V6(Ipv6Addr::LOCALHOST), 128),
    (IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10),
    (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 128),
    (IpAddr::V6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0)), 8),
];

fn is_internet(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            !(v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_unspecified()
                || v4.is_broadcast()
                || v4.is_multicast()
                || ip == PLATFORM_ADDRESS)
        }
        IpAddr::V6(v6) => {
            !(v6.is_unique_local()
                || v6.is_loopback()
                || v6.is_unicast_link_local()
                || v6.is_unspecified()
                || v6.is_multicast())
        }
    }
}
