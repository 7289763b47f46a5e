//! Addresses, prefixes and names as a person writes them in a site file.

use super::source::shown;
use crate::model::DomainName;
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

/// What an entry of a role may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Prefix(IpNet),
    Name(DomainName),
}

/// Reads an address (as prefix of one), a prefix or a name; the error says what to write.
pub(super) fn parse_place(text: &str) -> Result<Place, String> {
    if looks_like_address(text) {
        return parse_prefix(text).map(Place::Prefix);
    }
    match text.parse() {
        Ok(name) => Ok(Place::Name(name)),
        Err(error) => Err(format!("{error}; write an address, a prefix or a whole name")),
    }
}

/// Whether it can only be meant as address or prefix: a name's last label is never a number (RFC 3696, section 2), nor has
/// it `/` or `:`.
fn looks_like_address(text: &str) -> bool {
    let last = text.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    let range = last.contains('-') && text.starts_with(|c: char| c.is_ascii_digit());
    let numeric = !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit());
    text.contains(['/', ':'])
        || numeric
        || (range && text.split('-').any(|part| part.parse::<IpAddr>().is_ok()))
}

/// Reads an address or a prefix without bits beyond its length.
pub(super) fn parse_prefix(text: &str) -> Result<IpNet, String> {
    let text_shown = shown(text);
    if let Ok(ip) = text.parse::<IpAddr>() {
        return single(ip, &text_shown);
    }
    if let Ok(net) = text.parse::<IpNet>() {
        if let IpNet::V6(v6) = net
            && v6.addr().to_ipv4_mapped().is_some()
            && v6.prefix_len() >= 96
        {
            return Err(format!("`{text_shown}` is IPv4 written as IPv6: write the IPv4 prefix"));
        }
        let clean = net.trunc();
        if clean != net {
            let (address, length) = (net.addr(), net.prefix_len());
            return Err(format!(
                "`{text_shown}` has bits set beyond its first {length}: write `{clean}` for the network or `{address}` for the host"
            ));
        }
        return Ok(net);
    }
    if let Ok(socket) = text.parse::<SocketAddr>() {
        return Err(format!("`{text_shown}` has a port: write `{}`", socket.ip()));
    }
    if let Some((address, _)) = text.split_once('%')
        && address.parse::<IpAddr>().is_ok()
    {
        return Err(format!("`{text_shown}` has a zone: write `{address}`"));
    }
    if let Some((low, high)) = text.split_once('-')
        && low.trim().parse::<IpAddr>().is_ok()
    {
        let (low, high) = (shown(low.trim()), shown(high.trim()));
        return Err(format!("`{text_shown}` is a range: write prefixes that cover {low} to {high}"));
    }
    let kind =
        if text.contains('/') { "prefix such as `10.10.2.0/24`" } else { "address such as `10.10.1.4`" };
    Err(format!("`{text_shown}` is no {kind}"))
}

fn single(ip: IpAddr, text: &str) -> Result<IpNet, String> {
    if let IpAddr::V6(v6) = ip
        && let Some(v4) = v6.to_ipv4_mapped()
    {
        return Err(format!("`{text}` is IPv4 written as IPv6: write `{v4}`"));
    }
    Ok(IpNet::from(ip))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[rustfmt::skip]
    fn a_place_is_an_address_a_prefix_or_a_name_and_else_told_what_to_write() {
        for (text, expected) in [
            ("10.10.1.4",               Ok("10.10.1.4/32")),
            ("10.10.0.0/16",            Ok("10.10.0.0/16")),
            ("fd10::1:4",               Ok("fd10::1:4/128")),
            ("0.0.0.0/0",               Ok("0.0.0.0/0")),
            ("Mail.contoso.example.",   Ok("mail.contoso.example")),
            ("10-0-0-1.contoso.example", Ok("10-0-0-1.contoso.example")),
            ("10.10.1.4/16",            Err("write `10.10.0.0/16` for the network or `10.10.1.4` for the host")),
            ("10.10.1",                 Err("no address")),
            ("10.10.1.400",             Err("no address")),
            ("10.10.1.0/33",            Err("no prefix")),
            ("10.0.0.1-10.0.0.9",       Err("range: write prefixes")),
            ("10.0.0.1-9",              Err("range: write prefixes")),
            ("10.0.0.1:443",            Err("has a port: write `10.0.0.1`")),
            ("fe80::1%eth0",            Err("zone: write `fe80::1`")),
            ("::ffff:10.0.0.1",         Err("write `10.0.0.1`")),
            ("::ffff:10.0.0.0/104",     Err("write the IPv4 prefix")),
            ("https://mail.example/",   Err("no prefix")),
            ("a b",                     Err("write an address, a prefix or a whole name")),
            ("",                        Err("write an address, a prefix or a whole name")),
        ] {
            let found = parse_place(text).map(|place| match place {
                Place::Prefix(net) => net.to_string(),
                Place::Name(name) => name.to_string(),
            });
            match (&found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{text}"),
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{text}: {found}"),
                _ => panic!("{text}: {found:?}, not {expected:?}"),
            }
        }
    }
}
