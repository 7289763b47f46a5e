//! Which application protocol the first payload bytes of a flow speak.
//!
//! The client's first bytes decide; the server's only while the client is silent. Nothing is guessed from ports.

use super::{dns, http, quic, tls};
use crate::model::AppProtocol;
use std::borrow::Cow;
use tls::ClientHello;

const TDS_HEADER: usize = 8;
const TDS_PRELOGIN: u8 = 0x12;
const TDS_RESPONSE: u8 = 4;
const TDS_LOGIN7: u8 = 0x10;
const TDS_BATCH: u8 = 1;
const TDS_RPC: u8 = 3;
const TDS_TRANSACTION: u8 = 14;

/// Code in place of a PostgreSQL protocol version: ask for TLS.
const PG_SSL_REQUEST: u32 = 80_877_103;
/// Ask for GSSAPI encryption.
const PG_GSS_REQUEST: u32 = 80_877_104;
/// Cancel a query.
const PG_CANCEL_REQUEST: u32 = 80_877_102;

/// The protocol of a TCP connection by the contiguous first bytes of each direction. `None` if none is recognised, or
/// if too few bytes are there.
pub fn recognise(client: &[u8], server: &[u8]) -> Option<AppProtocol> {
    if client.is_empty() { by_server(server) } else { by_client(client) }
}

/// After so many first bytes of a TCP direction [`says_nothing`] decides: as many as the longest method of HTTP has, and the
/// space behind it.
pub const DECIDING_BYTES: usize = 25;

/// Whether these are the first bytes of a TCP direction of which nothing is ever told, whoever sent them and whatever follows:
/// [`recognise`] knows no protocol that begins so, and nobody who speaks one is answered so. Where it is not certain, no.
pub fn says_nothing(stream: &[u8]) -> bool {
    let Some(first) = stream.first_chunk::<DECIDING_BYTES>() else { return false };
    // Protocols of text begin with a visible character, requests of HTTP perhaps with an empty line.
    let is_text = first[0].is_ascii_graphic() || matches!(first[0], b'\r' | b'\n');
    let of_client = is_text
        && (http::may_be_client(first) || looks_like_ssh(first) || looks_like_smtp_client(first))
        || looks_like_smb(first)
        || looks_like_postgresql(first)
        || looks_like_tds(first)
        || looks_like_mongodb(first)
        // Its header alone; where it is whole, the question is looked at, too.
        || first.first_chunk::<14>().is_some_and(|header| dns::looks_like_tcp_query(header));
    let of_server = is_text
        && (http::looks_like_server(first)
            || is_reply(first)
            || server_tls(AppProtocol::Postgresql, first).is_some_and(|rest| tls::begins_record(&rest)))
        || matches!(first, [TDS_PRELOGIN | TDS_RESPONSE, ..]);
    !(tls::begins_record(first) || of_client || of_server)
}

/// The protocol of a UDP flow by the first payload of each direction. DNS is not among them: over UDP it is known by
/// port 53 and by [`dns::parse`].
pub fn recognise_udp(client: &[u8], server: &[u8]) -> Option<AppProtocol> {
    let decides = if client.is_empty() { server } else { client };
    if looks_like_quic(decides) {
        Some(AppProtocol::Quic)
    } else {
        http::looks_like_ssdp(decides).then_some(AppProtocol::Ssdp)
    }
}

/// Whether a datagram between ports of DHCP (RFC 2131) or DHCPv6 (RFC 8415) is something else, as far as it was captured: its first byte
/// is the kind of message, and behind 236 bytes of BOOTP comes a cookie.
pub fn is_no_dhcp(ports: [u16; 2], payload: &[u8]) -> bool {
    let among = |known: [u16; 2]| ports.iter().all(|port| known.contains(port));
    let Some(kind) = payload.first() else { return false };
    let cookie = || payload.get(236..240).is_none_or(|cookie| cookie == [99, 130, 83, 99]);
    among([67, 68]) && !(matches!(kind, 1 | 2) && cookie()) || among([546, 547]) && !(1..=36).contains(kind)
}

/// Whether a flow that spoke `seen` is what a rule for `rule` documents. `postgresql` and `mongodb` may be spoken inside
/// TLS from the first byte, so may `tds` (TDS 8.0); `smtp` includes STARTTLS, which begins as SMTP.
pub fn matches_rule(rule: AppProtocol, seen: AppProtocol) -> bool {
    use AppProtocol::{Mongodb, Postgresql, Tds, Tls};
    rule == seen || (seen == Tls && matches!(rule, Mongodb | Postgresql | Tds))
}

/// The ClientHello of a connection that speaks `app`, wherever it stands in the client's first bytes: at the start
/// (TLS), after an SSLRequest (PostgreSQL), wrapped in prelogin packets (TDS), after STARTTLS (SMTP), in a tunnel that
/// CONNECT asked for (HTTP).
///
/// With it, where in the client's bytes its TLS begins.
pub fn inner_client_hello(app: AppProtocol, client: &[u8]) -> Option<(usize, ClientHello)> {
    let (offset, stream) = client_tls(app, client)?;
    Some((offset, tls::client_hello(&stream)?))
}

/// The version that the server chose, wherever its hello stands in its first bytes (see [`inner_client_hello`]).
pub fn inner_server_version(app: AppProtocol, server: &[u8]) -> Option<u16> {
    tls::server_version(&server_tls(app, server)?)
}

/// The part of the client's first bytes that is TLS, if `app` is or turns into TLS, and where it begins.
fn client_tls(app: AppProtocol, client: &[u8]) -> Option<(usize, Cow<'_, [u8]>)> {
    let rest = match app {
        AppProtocol::Tls => Some(client),
        AppProtocol::Postgresql => postgresql_tls(client),
        AppProtocol::Tds => return tds_tls(client).map(|(offset, stream)| (offset, Cow::Owned(stream))),
        AppProtocol::Smtp => after_starttls(client),
        AppProtocol::Http => {
            let requests = http::requests(client);
            let tunnel = requests.last().filter(|request| request.is_connect())?;
            client.get(tunnel.head_end?..)
        }
        AppProtocol::Mongodb
        | AppProtocol::Smb
        | AppProtocol::Ssh
        | AppProtocol::Dns
        | AppProtocol::Quic
        | AppProtocol::Ssdp => None,
    }?;
    Some((client.len() - rest.len(), Cow::Borrowed(rest)))
}

/// The same of the server's.
fn server_tls(app: AppProtocol, server: &[u8]) -> Option<Cow<'_, [u8]>> {
    match app {
        AppProtocol::Tls => Some(Cow::Borrowed(server)),
        // One byte answers each request: N declines, S agrees to TLS.
        AppProtocol::Postgresql => {
            let server = server.strip_prefix(b"N").unwrap_or(server);
            server.strip_prefix(b"S").map(Cow::Borrowed)
        }
        AppProtocol::Tds => tds_tls(server).map(|(_, stream)| Cow::Owned(stream)),
        AppProtocol::Smtp => after_replies(server).map(Cow::Borrowed),
        AppProtocol::Http => http::after_success(server).map(Cow::Borrowed),
        AppProtocol::Mongodb
        | AppProtocol::Smb
        | AppProtocol::Ssh
        | AppProtocol::Dns
        | AppProtocol::Quic
        | AppProtocol::Ssdp => None,
    }
}

fn by_client(client: &[u8]) -> Option<AppProtocol> {
    type Test = fn(&[u8]) -> bool;
    // No two of these fit the same bytes, but for DNS, whose length prefix is the weakest mark and comes last.
    const TESTS: [(Test, AppProtocol); 9] = [
        (tls::looks_like_client, AppProtocol::Tls),
        (http::looks_like_client, AppProtocol::Http),
        (looks_like_ssh, AppProtocol::Ssh),
        (looks_like_smtp_client, AppProtocol::Smtp),
        (looks_like_smb, AppProtocol::Smb),
        (looks_like_postgresql, AppProtocol::Postgresql),
        (looks_like_tds, AppProtocol::Tds),
        (looks_like_mongodb, AppProtocol::Mongodb),
        (dns::looks_like_tcp_query, AppProtocol::Dns),
    ];
    TESTS.into_iter().find(|(test, _)| test(client)).map(|(_, app)| app)
}

/// Servers that speak first, and answers to a client whose bytes the capture lacks.
fn by_server(server: &[u8]) -> Option<AppProtocol> {
    if looks_like_ssh(server) {
        Some(AppProtocol::Ssh)
    } else if looks_like_smtp_greeting(server) {
        Some(AppProtocol::Smtp)
    } else if http::looks_like_server(server) {
        Some(AppProtocol::Http)
    } else if tls::server_version(server).is_some() {
        Some(AppProtocol::Tls)
    } else if looks_like_smb(server) {
        Some(AppProtocol::Smb)
    } else {
        None
    }
}

/// RFC 4253 section 4.2.
fn looks_like_ssh(bytes: &[u8]) -> bool {
    bytes.starts_with(b"SSH-")
}

/// The first command of a session, which the server's greeting came before (RFC 5321 section 4.1.1.1).
fn looks_like_smtp_client(client: &[u8]) -> bool {
    ["EHLO ", "HELO ", "EHLO\r\n", "HELO\r\n", "STARTTLS\r\n", "MAIL FROM:"]
        .iter()
        .any(|verb| client.get(..verb.len()).is_some_and(|head| head.eq_ignore_ascii_case(verb.as_bytes())))
}

/// A greeting, or the refusal in place of one (RFC 5321 sections 3.1 and 4.2; 421 where it shuts down). FTP's have the same codes and
/// usually say so.
fn looks_like_smtp_greeting(server: &[u8]) -> bool {
    let line = server.split(|&b| b == b'\n').next().unwrap_or_default().to_ascii_uppercase();
    matches!(
        *line,
        [b'2', b'2', b'0', b' ' | b'-', ..]
            | [b'5', b'5', b'4', b' ' | b'-', ..]
            | [b'4', b'2', b'1', b' ' | b'-', ..]
    ) && !line.windows(3).any(|word| word == b"FTP")
}

/// SMB after its four bytes of session header (MS-SMB2 section 2.1), or a NetBIOS session request (RFC 1002).
fn looks_like_smb(bytes: &[u8]) -> bool {
    matches!(bytes, [0, _, _, _, 0xfc..=0xff, b'S', b'M', b'B', ..] | [0x81, 0, 0, 68, 32, ..])
}

/// A startup packet (PostgreSQL documentation, "Message Formats"): its length, then version 3.x or a request code.
fn looks_like_postgresql(client: &[u8]) -> bool {
    let Some((length, code)) = pg_packet(client) else { return false };
    match code {
        PG_SSL_REQUEST | PG_GSS_REQUEST => length == 8,
        PG_CANCEL_REQUEST => (12..=268).contains(&length),
        version => version >> 16 == 3 && version & 0xffff < 100 && (9..=10_000).contains(&length),
    }
}

fn pg_packet(client: &[u8]) -> Option<(u32, u32)> {
    let (length, rest) = client.split_first_chunk()?;
    Some((u32::from_be_bytes(*length), u32::from_be_bytes(*rest.first_chunk()?)))
}

/// What follows the encryption requests: a GSS request that is declined may be followed by one for TLS.
fn postgresql_tls(mut client: &[u8]) -> Option<&[u8]> {
    for _ in 0..2 {
        match pg_packet(client)? {
            (8, PG_SSL_REQUEST) => return client.get(8..),
            (8, PG_GSS_REQUEST) => client = client.get(8..)?,
            _ => return None,
        }
    }
    None
}

/// A packet of a client (MS-TDS section 2.2.3.1): type, status, length (big endian), process id, number, window 0.
fn looks_like_tds(client: &[u8]) -> bool {
    let Some((header, body)) = client.split_first_chunk::<TDS_HEADER>() else { return false };
    let [kind, status, length_high, length_low, _, _, _, window] = *header;
    let length = usize::from(u16::from_be_bytes([length_high, length_low]));
    if status > 0x1f || window != 0 || !(TDS_HEADER + 1..=32_768).contains(&length) {
        return false;
    }
    match kind {
        // The first option is VERSION, 6 bytes long.
        TDS_PRELOGIN => matches!(body, [] | [0] | [0, _] | [0, _, _] | [0, _, _, _] | [0, _, _, 0, 6, ..]),
        // Its own length, little endian, then the TDS version, 7.x.
        TDS_LOGIN7 => match body {
            [a, b, c, d, _, _, _, version, ..] => {
                u32::from_le_bytes([*a, *b, *c, *d]) >= 36 && version >> 4 == 7
            }
            _ => false,
        },
        // Where the capture began later: requests with their ALL_HEADERS (section 2.2.5.3), total length first, then the
        // first one of type 1 to 3.
        TDS_BATCH | TDS_RPC | TDS_TRANSACTION => match body {
            [a, b, 0, 0, _, _, 0, 0, kind, 0, ..] => {
                (1..=3).contains(kind) && usize::from(u16::from_le_bytes([*a, *b])) <= length - TDS_HEADER
            }
            _ => false,
        },
        _ => false,
    }
}

/// The TLS bytes that TDS 7 wraps in prelogin packets after the prelogin itself (MS-TDS section 3.2.5.2), and where the
/// first of them stands. The server's prelogin comes as a response.
fn tds_tls(bytes: &[u8]) -> Option<(usize, Vec<u8>)> {
    let mut rest = bytes;
    let mut in_prelogin = true;
    let mut begin = 0;
    let mut out = Vec::new();
    while let Some(&[kind, status, high, low, ..]) = rest.first_chunk::<TDS_HEADER>() {
        let length = usize::from(u16::from_be_bytes([high, low]));
        if !matches!(kind, TDS_PRELOGIN | TDS_RESPONSE) || length < TDS_HEADER {
            break;
        }
        if out.is_empty() {
            begin = bytes.len() - rest.len() + TDS_HEADER;
        }
        let packet = rest.get(..length).unwrap_or(rest);
        rest = rest.get(length..).unwrap_or_default();
        if in_prelogin {
            in_prelogin = status & 1 == 0; // the last packet of the message says so
        } else {
            out.extend_from_slice(packet.get(TDS_HEADER..)?);
        }
    }
    (!out.is_empty()).then_some((begin, out))
}

/// What follows the line STARTTLS (RFC 3207) among a client's commands.
fn after_starttls(client: &[u8]) -> Option<&[u8]> {
    let mut rest = client;
    while let Some(end) = rest.iter().position(|&b| b == b'\n') {
        let (line, after) = rest.split_at_checked(end + 1)?;
        if line.trim_ascii_end().eq_ignore_ascii_case(b"STARTTLS") {
            return Some(after);
        }
        rest = after;
    }
    None
}

/// Whether a server's first bytes are a reply (RFC 5321 section 4.2): it begins with three digits.
fn is_reply(server: &[u8]) -> bool {
    server.first_chunk::<3>().is_some_and(|code| code.iter().all(u8::is_ascii_digit))
}

/// What follows a server's replies: the first bytes after a line that no reply begins with, but a TLS record does.
fn after_replies(server: &[u8]) -> Option<&[u8]> {
    let mut rest = Some(server).filter(|server| is_reply(server))?;
    while let Some(end) = rest.iter().position(|&b| b == b'\n') {
        rest = rest.get(end + 1..)?;
        if matches!(rest.first(), Some(&(tls::ALERT | tls::HANDSHAKE))) {
            return Some(rest);
        }
    }
    None
}

/// A message header (MongoDB wire protocol): length, request id, the request it answers (0 for a client), operation, all
/// little endian.
fn looks_like_mongodb(client: &[u8]) -> bool {
    let Some((header, _)) = client.split_first_chunk::<16>() else { return false };
    let (words, _) = header.as_chunks::<4>();
    let &[length, _, response_to, operation] = words else { return false };
    // 48 MB is the largest message that servers take.
    (16..=48_000_000).contains(&u32::from_le_bytes(length))
        && response_to == [0; 4]
        && matches!(u32::from_le_bytes(operation), 2001 | 2002 | 2004..=2007 | 2010 | 2012 | 2013)
}

/// A long header (RFC 8999 section 5.1) of a version in use, with the fixed bit (RFC 9000 section 17.2).
fn looks_like_quic(payload: &[u8]) -> bool {
    let [first, a, b, c, d, id_length, ..] = *payload else { return false };
    first & 0xc0 == 0xc0 && id_length <= 20 && quic::is_known_version(u32::from_be_bytes([a, b, c, d]))
}

#[cfg(test)]
mod tests {
    use super::super::tls::tests::{hello_stream, server_hello};
    use super::*;
    use proptest::prelude::*;

    fn tds(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len() + TDS_HEADER).unwrap().to_be_bytes();
        [&[kind, 1][..], &length, &[0, 0, 1, 0], body].concat()
    }

    const PRELOGIN: &[u8] = &[0, 0, 11, 0, 6, 1, 0, 17, 0, 1, 0xff, 16, 0, 0, 0, 0, 0, 1];

    #[test]
    #[rustfmt::skip]
    fn the_clients_first_bytes_decide_and_the_servers_only_while_it_is_silent() {
        let hello = hello_stream(b"a.example");
        let query = [&[0, 27, 0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], b"\x01a\x07example\x00\x00\x01\x00\x01"].concat();
        let login = tds(TDS_LOGIN7, &[94, 0, 0, 0, 4, 0, 0, 0x74, 0, 0x10, 0, 0]);
        for (what, client, server, expected) in [
            ("TLS",                 &hello[..],                                   &b""[..],              Some("tls")),
            ("TLS, six bytes of it", &hello[..6],                                 b"",                   Some("tls")),
            ("an HTTP request",     b"GET / HTTP/1.1\r\n",                        b"SSH-2.0-x",          Some("http")),
            ("a cut request line",  b"GET /long",                                 b"",                   Some("http")),
            ("HTTP/2 at once",      http::HTTP2_PREFACE,                          b"",                   Some("http")),
            ("a word that is no method", b"GETTING STARTED",                      b"",                   None),
            ("SMTP",                b"ehlo mail.example\r\n",                     b"220 mail ESMTP\r\n", Some("smtp")),
            ("SMTP, silent client", b"",                                          b"220 mail\r\n",       Some("smtp")),
            ("SMTP that refuses",   b"",                                          b"554 no service\r\n",  Some("smtp")),
            ("SMTP that is busy",   b"",                                          b"421-later\r\n",       Some("smtp")),
            ("another code",        b"",                                          b"550 no\r\n",          None),
            ("FTP that is busy",    b"",                                          b"421 FTP full\r\n",    None),
            ("FTP, silent client",  b"",                                          b"220 (vsFTPd)\r\n",   None),
            ("a client that is no SMTP", b"USER x\r\n",                           b"220 mail\r\n",       None),
            ("SSH",                 b"SSH-2.0-x\r\n",                             b"",                   Some("ssh")),
            ("SSH, silent client",  b"",                                          b"SSH-2.0-x\r\n",      Some("ssh")),
            ("TDS prelogin",        &tds(TDS_PRELOGIN, PRELOGIN),                 b"",                   Some("tds")),
            ("TDS login",           &login,                                       b"",                   Some("tds")),
            ("TDS batch, midstream", &tds(TDS_BATCH, &[22, 0, 0, 0, 18, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 32]), b"", Some("tds")),
            ("TLS data, midstream", b"\x17\x03\x03\x00\x20abc",                  b"",                   Some("tls")),
            ("TLS of no version",   b"\x17\x03\x09\x00\x20abc",                  b"",                   None),
            ("a server's hello from the client", b"\x16\x03\x03\x00\x20\x02abc",  b"",                   None),
            ("PostgreSQL plain",    &[0, 0, 0, 9, 0, 3, 0, 0, 0],                 b"",                   Some("postgresql")),
            ("PostgreSQL TLS",      &[0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f],           b"",                   Some("postgresql")),
            ("PostgreSQL GSS",      &[0, 0, 0, 8, 4, 0xd2, 0x16, 0x30],           b"",                   Some("postgresql")),
            ("PostgreSQL cancel",   &[0, 0, 0, 16, 4, 0xd2, 0x16, 0x2e, 0, 0, 0, 1, 0, 0, 0, 2], b"",    Some("postgresql")),
            ("MongoDB",             &[60, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xdd, 7, 0, 0], b"",          Some("mongodb")),
            ("a MongoDB answer",    &[60, 0, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0, 0xdd, 7, 0, 0], b"",          None),
            ("SMB 2",               b"\0\0\0\x90\xfeSMB",                         b"",                   Some("smb")),
            ("SMB 1",               b"\0\0\0\x90\xffSMB",                         b"",                   Some("smb")),
            ("DNS over TCP",        &query,                                       b"",                   Some("dns")),
            ("nothing",             b"",                                          b"",                   None),
            ("zeros",               &[0; 64],                                     b"",                   None),
        ] {
            assert_eq!(recognise(client, server).map(AppProtocol::as_str), expected, "{what}");
        }
    }

    #[test]
    #[rustfmt::skip]
    fn quic_is_known_by_its_long_header() {
        let header = |first, version: u32, id| [&[first][..], &version.to_be_bytes(), &[id], &[0; 30]].concat();
        for (what, payload, expected) in [
            ("version 1",         header(0xc3, 1, 8),            true),
            ("version 2",         header(0xd3, 0x6b33_43cf, 8),  true),
            ("draft 29",          header(0xc3, 0xff00_001d, 8),  true),
            ("no fixed bit",      header(0x83, 1, 8),            false),
            ("short header",      header(0x43, 1, 8),            false),
            ("a long id",         header(0xc3, 1, 21),           false),
            ("another version",   header(0xc3, 2, 8),            false),
        ] {
            assert_eq!(recognise_udp(&payload, b"") == Some(AppProtocol::Quic), expected, "{what}");
            assert_eq!(recognise_udp(b"", &payload) == Some(AppProtocol::Quic), expected, "{what}, silent client");
        }
        assert_eq!(recognise_udp(b"x", &header(0xc3, 1, 8)), None, "the client decides");
    }

    #[test]
    #[rustfmt::skip]
    fn service_discovery_is_known_by_its_first_line() {
        for (payload, expected) in [
            (&b"M-SEARCH * HTTP/1.1\r\nHost: 239.255.255.250:1900\r\n\r\n"[..], true),
            (b"NOTIFY * HTTP/1.1\r\n",  true),
            (b"HTTP/1.1 200 OK\r\n",    true),
            (b"GET / HTTP/1.1\r\n",     false),
            (b"NOTIFYING",              false),
        ] {
            assert_eq!(recognise_udp(payload, b"") == Some(AppProtocol::Ssdp), expected, "{}", payload.escape_ascii());
        }
    }

    #[test]
    fn a_rule_accepts_what_its_protocol_may_be_wrapped_in() {
        use AppProtocol::{Http, Mongodb, Postgresql, Smtp, Tds, Tls};
        for rule in AppProtocol::ALL {
            for seen in AppProtocol::ALL {
                let wrapped = seen == Tls && [Mongodb, Postgresql, Tds].contains(&rule);
                assert_eq!(matches_rule(rule, seen), rule == seen || wrapped, "{rule} {seen}");
            }
        }
        assert!(!matches_rule(Tls, Http) && !matches_rule(Http, Tls) && !matches_rule(Smtp, Tls));
    }

    #[test]
    #[rustfmt::skip]
    fn the_hello_is_found_inside_other_protocols() {
        let hello = hello_stream(b"db.example");
        let ssl = [0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f];
        let gss = [0, 0, 0, 8, 4, 0xd2, 0x16, 0x30];
        let (first, second) = hello.split_at(100);
        for (what, app, client) in [
            ("at the start",        "tls",        hello.clone()),
            ("after SSLRequest",    "postgresql", [&ssl[..], &hello].concat()),
            ("after both requests", "postgresql", [&gss[..], &ssl, &hello].concat()),
            ("in prelogin packets", "tds",        [tds(TDS_PRELOGIN, PRELOGIN), tds(TDS_PRELOGIN, first), tds(TDS_PRELOGIN, second)].concat()),
            ("after STARTTLS",      "smtp",       [&b"EHLO a\r\nstarttls\r\n"[..], &hello].concat()),
            ("in a tunnel",         "http",       [&b"CONNECT db.example:443 HTTP/1.1\r\n\r\nCONNECT db.example:443 HTTP/1.1\r\nX: y\r\n\r\n"[..], &hello].concat()),
        ] {
            let (offset, found) = inner_client_hello(app.parse().unwrap(), &client).expect(what);
            assert_eq!(found.server_name.map(|name| name.to_string()).as_deref(), Some("db.example"), "{what}");
            assert_eq!((&found.alpn[..], &found.versions[..]), (&["h2".to_owned(), "http/1.1".to_owned()][..], &[0x0304, 0x0303][..]), "{what}");
            assert_eq!(client[offset..offset + 3], [22, 3, 1], "{what}");
            assert_eq!(recognise(&client, b"").map(AppProtocol::as_str), Some(app), "{what}");
        }
        for app in AppProtocol::ALL {
            assert_eq!(inner_client_hello(app, b"GET / HTTP/1.1\r\n\r\n"), None, "{app}");
        }
    }

    #[test]
    #[rustfmt::skip]
    fn the_servers_choice_is_found_inside_other_protocols() {
        let hello = server_hello();
        let (first, second) = hello.split_at(20);
        for (what, app, server) in [
            ("at the start",          "tls",        hello.clone()),
            ("after S",               "postgresql", [b"S", &hello[..]].concat()),
            ("after N and S",         "postgresql", [b"NS", &hello[..]].concat()),
            ("in prelogin packets",   "tds",        [tds(TDS_RESPONSE, PRELOGIN), tds(TDS_PRELOGIN, first), tds(TDS_PRELOGIN, second)].concat()),
            ("after the last reply",  "smtp",       [&b"220 a ESMTP\r\n250-a\r\n250 STARTTLS\r\n220 go\r\n"[..], &hello].concat()),
            ("in a tunnel",           "http",       [&b"HTTP/1.1 407 X\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nVia: y\r\n\r\n"[..], &hello].concat()),
        ] {
            assert_eq!(inner_server_version(app.parse().unwrap(), &server), Some(0x0303), "{what}");
        }
        for (what, app, server) in [
            ("PostgreSQL that declines", "postgresql", &b"NR\0\0\0\x08\0\0\0\0"[..]),
            ("SMTP without TLS",         "smtp",       b"220 a\r\n250 a\r\n"),
            ("a tunnel that is denied",  "http",       b"HTTP/1.1 403 No\r\n\r\n"),
            ("TDS without encryption",   "tds",        &tds(TDS_RESPONSE, PRELOGIN)),
        ] {
            assert_eq!(inner_server_version(app.parse().unwrap(), server), None, "{what}");
        }
    }

    /// Streams that begin as what is understood does, with bytes changed here and there.
    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let beginnings: Vec<Vec<u8>> = vec![
            Vec::new(),
            hello_stream(b"a.example"),
            server_hello(),
            [b"S", &server_hello()[..]].concat(),
            [b"NS", &server_hello()[..]].concat(),
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            b"\r\nUPDATEREDIRECTREF /a HTTP/1.1\r\n\r\n".to_vec(),
            [http::HTTP2_PREFACE, b"\0\0\0\x04\0\0\0\0\0"].concat(),
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec(),
            b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n".to_vec(),
            b"ehlo mail.example\r\nSTARTTLS\r\n".to_vec(),
            b"220-mail.example ESMTP\r\n220 go\r\n\x16\x03\x03".to_vec(),
            b"\0\0\0\x90\xfeSMB0000000000000000000000000".to_vec(),
            [0x81, 0, 0, 68, 32].repeat(6),
            [0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f].repeat(4),
            [0, 0, 0, 80, 0, 3, 0, 0].repeat(4),
            tds(TDS_PRELOGIN, PRELOGIN),
            tds(TDS_RESPONSE, PRELOGIN),
            tds(TDS_LOGIN7, &[94, 0, 0, 0, 4, 0, 0, 0x74, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0]),
            tds(TDS_BATCH, &[22, 0, 0, 0, 18, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 32]),
            [&[60, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xdd, 7, 0, 0][..], &[0; 20]].concat(),
            [&[0, 27, 0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], b"\x01a\x07example\x00\x00\x01\x00\x01"]
                .concat(),
        ];
        let beginnings = proptest::sample::select(beginnings);
        let changes = proptest::collection::vec((0usize..40, any::<u8>()), 0..4);
        let rest = proptest::collection::vec(any::<u8>(), 0..60);
        (beginnings, changes, rest).prop_map(|(mut stream, changes, rest)| {
            stream.extend(rest);
            for (at, byte) in changes {
                if let Some(place) = stream.get_mut(at) {
                    *place = byte;
                }
            }
            stream
        })
    }

    /// What is ever told of a direction, whoever sent it. A client's requests and hellos are looked for only where its own
    /// bytes are known for a protocol, a server's choice by the protocol of its client.
    fn is_told(stream: &[u8]) -> bool {
        recognise(stream, b"").is_some()
            || recognise(b"", stream).is_some()
            || AppProtocol::ALL.iter().any(|&app| inner_server_version(app, stream).is_some())
            || !http::statuses(stream).is_empty()
            || tls::fatal_alert(stream).is_some()
            || tls::first_application_data(stream).is_some()
    }

    #[test]
    fn a_quarter_of_a_hundred_bytes_that_begin_nothing_say_nothing() {
        for first in 0..=u8::MAX {
            let stream = [&[first][..], &[0xab; 40]].concat();
            // Letters, digits and all else by itself begin nothing.
            let may = matches!(first, b'\r' | b'\n' | TDS_PRELOGIN | TDS_RESPONSE);
            assert_eq!(says_nothing(&stream), !may, "{first}");
            assert!(!says_nothing(&stream[..DECIDING_BYTES - 1]));
        }
        assert!(says_nothing(&b"+".repeat(40)) && says_nothing(&b"A".repeat(40)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]
        #[test]
        fn what_says_nothing_never_tells_anything(first in stream(), more in stream()) {
            if says_nothing(&first) {
                let stream = [&first[..], &more].concat();
                for stream in [&stream[..], &first, &stream[..DECIDING_BYTES], &stream[..DECIDING_BYTES / 2]] {
                    prop_assert!(!is_told(stream), "{}", stream.escape_ascii());
                }
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(client in proptest::collection::vec(any::<u8>(), 0..120), server in proptest::collection::vec(any::<u8>(), 0..60)) {
            recognise(&client, &server);
            recognise_udp(&client, &server);
            for app in AppProtocol::ALL {
                inner_client_hello(app, &client);
                inner_server_version(app, &server);
            }
        }

        #[test]
        fn no_cut_of_a_wrapped_hello_panics_or_lies(cut in 0usize..700) {
            let hello = hello_stream(b"db.example");
            let client = [tds(TDS_PRELOGIN, PRELOGIN), tds(TDS_PRELOGIN, &hello)].concat();
            let found = inner_client_hello(AppProtocol::Tds, &client[..cut.min(client.len())]).and_then(|(_, hello)| hello.server_name);
            prop_assert!(found.is_none_or(|name| name.as_str() == "db.example"));
        }
    }
}
