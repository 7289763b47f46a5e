//! HTTP/1 request and status lines in the first bytes of a stream (RFC 9112), as far as names and refusals need them.
//!
//! Messages are followed by their framing (Content-Length, chunked), so that text in a body is not taken for a message.
//! The streams come from untrusted peers and may be cut anywhere: an unfinished line says nothing.

use super::host::Host;
use crate::model::DomainName;

/// The first bytes of HTTP/2 without upgrade (RFC 9113 section 3.4); what follows is read by [`http2`](super::http2).
pub const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Messages followed in one stream.
const MAX_MESSAGES: usize = 256;
/// Header lines read of one message.
const MAX_LINES: usize = 256;
/// Bytes of a target that are kept.
const MAX_TARGET: usize = 2048;

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Where it begins in the stream.
    pub offset: usize,
    /// The method, upper case letters, `-` and `_` only.
    pub method: String,
    /// The target, escaped, at most 2048 bytes of it.
    pub target: String,
    /// The (first) Host header.
    pub host: Option<Host>,
    /// Whether further `Host` fields say otherwise.
    pub hosts_differ: bool,
    /// Host and port of a CONNECT target or of an absolute-form target: what the client asks a proxy for.
    pub authority: Option<Host>,
    /// Where the header section ends in the stream; `None` if it is cut.
    pub head_end: Option<usize>,
}

impl Request {
    /// Whether it asks a proxy: CONNECT or an absolute-form target.
    pub fn is_for_proxy(&self) -> bool {
        self.authority.is_some()
    }

    /// Whether it asks for a tunnel.
    pub fn is_connect(&self) -> bool {
        self.method == "CONNECT"
    }

    /// The host that it is meant for: the target's, which overrides the header's (RFC 9112 section 3.2.2).
    pub fn destination(&self) -> Option<&Host> {
        self.authority.as_ref().or(self.host.as_ref())
    }

    /// The destination, if it is a name.
    pub fn name(&self) -> Option<&DomainName> {
        self.destination()?.name.as_name()
    }
}

/// The requests of a client's direction from its start, as far as message framing leads: pipelined and keep-alive
/// requests too, at most 256. Ends at the first bytes that are no request, and after what turns into a tunnel.
///
/// It works on the payload of a datagram as well (SSDP).
pub fn requests(stream: &[u8]) -> Vec<Request> {
    let mut out = Vec::new();
    let mut at = 0;
    while out.len() < MAX_MESSAGES {
        at = skip_empty_lines(stream, at);
        let Some(line) = line_at(stream, at) else { break };
        let Some((method, target)) = request_line(line.text) else { break };
        let head = Head::read(stream, line.next);
        let authority = match method {
            "CONNECT" => Host::from_wire(target),
            _ => absolute_authority(target).and_then(|(scheme, authority)| {
                let mut host = Host::from_wire(authority)?;
                host.port.get_or_insert(default_port(scheme));
                Some(host)
            }),
        };
        let kept = target.get(..MAX_TARGET).unwrap_or(target);
        out.push(Request {
            offset: at,
            method: method.to_owned(),
            target: kept.escape_ascii().to_string(),
            host: head.host.as_deref().and_then(Host::from_wire),
            hosts_differ: head.hosts_differ,
            authority,
            head_end: head.end,
        });
        let body = if method == "CONNECT" { Some(Body::Length(0)) } else { head.body };
        // A CONNECT that was denied may be followed by another one; a tunnel's bytes are no request and end the loop.
        let Some(end) = head.end.and_then(|end| body.unwrap_or(Body::Length(0)).skip(stream, end)) else {
            break;
        };
        at = end;
    }
    out
}

/// The port of a scheme whose target names none: of one that is not known, a port that no rule documents.
fn default_port(scheme: &[u8]) -> u16 {
    let known: [(&[u8], u16); 5] = [(b"http", 80), (b"https", 443), (b"ws", 80), (b"wss", 443), (b"ftp", 21)];
    known.iter().find(|(of, _)| scheme.eq_ignore_ascii_case(of)).map_or(0, |(_, port)| *port)
}

/// The status lines of a server's direction from its start: offset and code, interim (1xx) ones included, at most 256.
///
/// A body of known length is skipped; after an error whose body has no known length, lines that look like a status line
/// count. After a success without known length (a tunnel, or a body until the end) nothing more does.
pub fn statuses(stream: &[u8]) -> Vec<(usize, u16)> {
    statuses_to(stream, &[])
}

/// The same of the answers to these requests, in their order: what answers HEAD has no body, whatever its length says (RFC 9112
/// section 6.3).
pub fn statuses_to(stream: &[u8], requests: &[Request]) -> Vec<(usize, u16)> {
    let mut requests = requests.iter();
    let mut out = Vec::new();
    let mut at = 0;
    while out.len() < MAX_MESSAGES {
        at = skip_empty_lines(stream, at);
        let Some(line) = line_at(stream, at) else { break };
        let Some(status) = status_line(line.text) else { break };
        out.push((at, status));
        let head = Head::read(stream, line.next);
        let Some(end) = head.end else { break };
        let body = match status {
            101 => break,
            100..=199 => Some(Body::Length(0)),
            _ if requests.next().is_some_and(|request| request.method == "HEAD") => Some(Body::Length(0)),
            204 | 304 => Some(Body::Length(0)),
            _ => head.body,
        };
        let next = match body {
            Some(body) => body.skip(stream, end),
            None if status >= 300 => next_status_line(stream, end),
            None => None,
        };
        match next {
            Some(next) => at = next,
            None => break,
        }
    }
    out
}

/// What follows the head of the last answer, if that is a success: a tunnel's bytes, where one was asked for.
pub(super) fn after_success(stream: &[u8]) -> Option<&[u8]> {
    let &(offset, status) = statuses(stream).last()?;
    let head = (200..300).contains(&status).then(|| line_at(stream, offset))??;
    stream.get(Head::read(stream, head.next).end?..)
}

/// Whether a client's first bytes are an HTTP request or HTTP/2's preface, as far as they go.
pub(super) fn looks_like_client(stream: &[u8]) -> bool {
    const METHODS: [&str; 24] = [
        "GET",
        "HEAD",
        "POST",
        "PUT",
        "DELETE",
        "OPTIONS",
        "TRACE",
        "CONNECT",
        "PATCH",
        "MERGE",
        "PROPFIND",
        "PROPPATCH",
        "MKCOL",
        "COPY",
        "MOVE",
        "LOCK",
        "UNLOCK",
        "SEARCH",
        "REPORT",
        "MKCALENDAR",
        "PURGE",
        "LINK",
        "UNLINK",
        "QUERY",
    ];
    let start = skip_empty_lines(stream, 0);
    let Some(stream) = stream.get(start..) else { return false };
    // What begins with no method is not searched for the end of its line.
    if !begins_with_method(stream) {
        return false;
    }
    if let Some(line) = line_at(stream, 0) {
        return request_line(line.text).is_some() || line.text == b"PRI * HTTP/2.0";
    }
    // An unfinished line: a known method and a target that can be one.
    let Some(space) = stream.iter().position(|&b| b == b' ') else { return false };
    let (method, target) = stream.split_at(space);
    METHODS.iter().any(|known| known.as_bytes() == method)
        && target.iter().skip(1).all(|b| (0x20..=0x7e).contains(b))
        && target.get(1).is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'*' | b'['))
}

/// Whether a request may begin so, by its first bytes: one more than the longest method has, or all there are.
pub(super) fn may_be_client(stream: &[u8]) -> bool {
    matches!(stream.first(), Some(b'\r' | b'\n')) || begins_with_method(stream)
}

/// Whether a word that may be a method stands there, and a space behind it.
fn begins_with_method(stream: &[u8]) -> bool {
    let method = stream.iter().take(MOST_OF_METHOD + 1).take_while(|&&b| is_of_method(b)).count();
    (1..=MOST_OF_METHOD).contains(&method) && stream.get(method) == Some(&b' ')
}

/// Port of service discovery (UPnP Device Architecture 2.0, section 1).
pub const SSDP_PORT: u16 = 1900;

/// Whether a datagram is one of service discovery: an announcement, a search, or the answer to one.
pub fn looks_like_ssdp(payload: &[u8]) -> bool {
    payload.starts_with(b"NOTIFY ") || payload.starts_with(b"M-SEARCH ") || payload.starts_with(b"HTTP/1.1 ")
}

/// Whether a server's first bytes are a status line.
pub(super) fn looks_like_server(stream: &[u8]) -> bool {
    stream.starts_with(b"HTTP/1.")
}

struct Line<'a> {
    text: &'a [u8],
    next: usize,
}

/// The finished line at `at`, without its end.
fn line_at(stream: &[u8], at: usize) -> Option<Line<'_>> {
    let rest = stream.get(at..)?;
    let length = rest.iter().position(|&b| b == b'\n')?;
    let text = rest.get(..length)?;
    Some(Line { text: text.strip_suffix(b"\r").unwrap_or(text), next: at + length + 1 })
}

/// Some clients send empty lines after a body (RFC 9112 section 2.2).
fn skip_empty_lines(stream: &[u8], mut at: usize) -> usize {
    while let Some(b'\r' | b'\n') = stream.get(at) {
        at += 1;
    }
    at
}

/// Bytes of the longest word that is taken for a method: those in use have up to 17 (UPDATEREDIRECTREF).
const MOST_OF_METHOD: usize = 24;

fn is_of_method(byte: u8) -> bool {
    byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_')
}

/// Method and target of `METHOD target HTTP/1.x`.
fn request_line(line: &[u8]) -> Option<(&str, &[u8])> {
    let first = line.iter().position(|&b| b == b' ')?;
    let last = line.iter().rposition(|&b| b == b' ')?;
    let method = std::str::from_utf8(line.get(..first)?).ok()?;
    let target = line.get(first + 1..last)?;
    let version = line.get(last + 1..)?;
    let is_token = (1..=MOST_OF_METHOD).contains(&method.len()) && method.bytes().all(is_of_method);
    (is_token
        && !target.is_empty()
        && matches!(version, [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0'..=b'9']))
    .then_some((method, target))
}

/// The code of `HTTP/1.x NNN reason`.
fn status_line(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/1.")?;
    let (code, after) = match rest {
        [b'0'..=b'9', b' ', code @ ..] => code.split_at_checked(3)?,
        _ => return None,
    };
    if !matches!(after.first(), None | Some(b' ')) || !code.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(code).ok()?.parse().ok().filter(|code| (100..=599).contains(code))
}

/// The next line from `at` on that is a status line.
fn next_status_line(stream: &[u8], mut at: usize) -> Option<usize> {
    while let Some(line) = line_at(stream, at) {
        if status_line(line.text).is_some() {
            return Some(at);
        }
        at = line.next;
    }
    None
}

/// The scheme and the authority of `scheme://[user@]authority/path`.
fn absolute_authority(target: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = target.iter().position(|&b| b == b':')?;
    let (scheme, rest) = target.split_at_checked(colon)?;
    if scheme.is_empty() || !scheme.iter().all(u8::is_ascii_alphabetic) {
        return None;
    }
    let rest = rest.strip_prefix(b"://")?;
    let authority = rest.split(|b| matches!(b, b'/' | b'?' | b'#')).next()?;
    let user = authority.iter().rposition(|&b| b == b'@');
    Some((scheme, user.map_or(authority, |at| &authority[at + 1..])))
}

/// How long a body is.
#[derive(Clone, Copy)]
enum Body {
    Length(usize),
    Chunked,
}

impl Body {
    /// Where the next message begins if the body begins at `at`; `None` beyond the stream.
    fn skip(self, stream: &[u8], at: usize) -> Option<usize> {
        match self {
            Body::Length(length) => at.checked_add(length).filter(|&end| end <= stream.len()),
            Body::Chunked => skip_chunks(stream, at),
        }
    }
}

/// RFC 9112 section 7.1: size line, data, empty line; size 0 and a trailer section end the body.
fn skip_chunks(stream: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let line = line_at(stream, at)?;
        let digits = line.text.split(|b| matches!(b, b';' | b' ' | b'\t')).next()?;
        let size = usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        if size == 0 {
            return Head::read(stream, line.next).end;
        }
        at = line_at(stream, line.next.checked_add(size)?)?.next;
    }
}

/// A header section.
#[derive(Default)]
struct Head {
    host: Option<Vec<u8>>,
    hosts_differ: bool,
    /// `None` if neither field is there, or their values make no sense.
    body: Option<Body>,
    end: Option<usize>,
}

impl Head {
    fn read(stream: &[u8], mut at: usize) -> Head {
        let mut head = Head::default();
        // A field may go on in the next line if that begins with a blank (obs-fold).
        let mut field: Option<(&[u8], Vec<u8>)> = None;
        for _ in 0..MAX_LINES {
            let Some(line) = line_at(stream, at) else { break };
            at = line.next;
            match (line.text.first(), &mut field) {
                (Some(b' ' | b'\t'), Some((_, value))) => {
                    value.push(b' ');
                    value.extend_from_slice(line.text.trim_ascii());
                    continue;
                }
                _ => {
                    if let Some((name, value)) = field.take() {
                        head.take_field(name, value);
                    }
                }
            }
            if line.text.is_empty() {
                head.end = Some(at);
                return head;
            }
            if let Some(colon) = line.text.iter().position(|&b| b == b':') {
                let (name, value) = line.text.split_at(colon);
                let value = value.get(1..).unwrap_or_default().trim_ascii();
                field = Some((name.trim_ascii(), value.to_vec()));
            }
        }
        if let Some((name, value)) = field {
            head.take_field(name, value);
        }
        head
    }

    fn take_field(&mut self, name: &[u8], value: Vec<u8>) {
        if name.eq_ignore_ascii_case(b"host") {
            let first = self.host.get_or_insert_with(|| value.clone());
            // RFC 9112 section 3.2: a server refuses such a request; which host a lax one takes nobody knows.
            self.hosts_differ |= !first.eq_ignore_ascii_case(&value);
        } else if name.eq_ignore_ascii_case(b"content-length") {
            let length = std::str::from_utf8(value.trim_ascii()).ok().and_then(|text| text.parse().ok());
            if self.body.is_none() {
                self.body = length.map(Body::Length);
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding")
            && value.to_ascii_lowercase().ends_with(b"chunked")
        {
            self.body = Some(Body::Chunked); // overrides a length (RFC 9112 section 6.3)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(request: &Request) -> String {
        let host = |host: &Option<Host>| host.as_ref().map_or("-".to_owned(), Host::to_string);
        format!(
            "{} {} {} {} {}",
            request.offset,
            request.method,
            request.target,
            host(&request.host),
            host(&request.authority)
        )
    }

    #[test]
    #[rustfmt::skip]
    fn requests_are_found_by_their_framing_and_bodies_are_not_read_as_requests() {
        for (what, stream, expected) in [
            ("a plain request", "GET /a HTTP/1.1\r\nHost: Archive.Ubuntu.COM:80\r\n\r\n", vec!["0 GET /a archive.ubuntu.com:80 -"]),
            ("a proxy's tunnel", "CONNECT login.example:443 HTTP/1.1\r\nHost: login.example:443\r\n\r\n\x16\x03\x01", vec!["0 CONNECT login.example:443 login.example:443 login.example:443"]),
            ("a scheme has a port", "GET https://a.example/ HTTP/1.1\r\n\r\n", vec!["0 GET https://a.example/ - a.example:443"]),
            ("an absolute target overrides", "GET http://u:p@a.example:8080/x?y HTTP/1.1\r\nHost: b.example\r\n\r\n", vec!["0 GET http://u:p@a.example:8080/x?y b.example a.example:8080"]),
            ("pipelined", "GET / HTTP/1.1\r\nhost: a\r\n\r\nHEAD /b HTTP/1.0\r\nHOST:b\r\n\r\n", vec!["0 GET / a -", "27 HEAD /b b -"]),
            ("a length is skipped", "POST / HTTP/1.1\r\nContent-Length: 16\r\n\r\nGET / HTTP/1.1\r\nPUT /c HTTP/1.1\r\n\r\n", vec!["0 POST / - -", "55 PUT /c - -"]),
            ("chunks are skipped", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\n\r\nGET /d HTTP/1.1\r\n\r\n", vec!["0 POST / - -", "62 GET /d - -"]),
            ("a folded header", "GET / HTTP/1.1\r\nHost:\r\n a.example\r\n\r\n", vec!["0 GET / a.example -"]),
            ("bare newlines", "GET / HTTP/1.1\nHost: a\n\n", vec!["0 GET / a -"]),
            ("a cut header line says nothing", "GET / HTTP/1.1\r\nHost: micros", vec!["0 GET / - -"]),
            ("a cut head keeps its finished lines", "GET / HTTP/1.1\r\nHost: a\r\nX:", vec!["0 GET / a -"]),
            ("garbage is escaped", "GET /\x1b HTTP/1.1\r\nHost: a\x1bb\r\n\r\n", vec!["0 GET /\\x1b a\\027b -"]),
            ("no request", "SSH-2.0-x\r\n", vec![]),
            ("a cut request line", "GET / HT", vec![]),
        ] {
            let got: Vec<String> = requests(stream.as_bytes()).iter().map(line).collect();
            assert_eq!(got, expected, "{what}");
        }
    }

    #[test]
    fn the_bytes_after_a_connect_are_found() {
        let stream = b"CONNECT a:443 HTTP/1.1\r\n\r\n\x16\x03\x01";
        let request = &requests(stream)[0];
        assert!(request.is_connect() && request.is_for_proxy());
        assert_eq!(&stream[request.head_end.unwrap()..], b"\x16\x03\x01");
    }

    #[test]
    #[rustfmt::skip]
    fn statuses_are_found_by_their_framing() {
        for (what, stream, expected) in [
            ("denied",                     "HTTP/1.1 403 Forbidden\r\n\r\n",                                            vec![403]),
            ("denied, then let through",   "HTTP/1.1 407 X\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\n\r\n\x16",  vec![407, 200]),
            ("a body is no answer",        "HTTP/1.1 407 X\r\nContent-Length: 19\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",       vec![407]),
            ("a denial of unknown length", "HTTP/1.0 407 X\r\n\r\nsorry\r\nHTTP/1.0 200 OK\r\n\r\n",                    vec![407, 200]),
            ("a tunnel's bytes are not read", "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 403 No\r\n\r\n",                         vec![200]),
            ("interim",                    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204\r\n\r\n",                         vec![100, 204]),
            ("chunked",                    "HTTP/1.1 502 X\r\nTransfer-Encoding: Chunked\r\n\r\n1\r\nx\r\n0\r\n\r\nHTTP/1.1 504 Y\r\n\r\n", vec![502, 504]),
            ("a body beyond the bytes kept", "HTTP/1.1 407 X\r\nContent-Length: 9999\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",   vec![407]),
            ("no status",                  "HTTP/1.1 abc\r\n\r\n",                                                      vec![]),
            ("a cut line",                 "HTTP/1.1 40",                                                               vec![]),
        ] {
            let got: Vec<u16> = statuses(stream.as_bytes()).into_iter().map(|(_, code)| code).collect();
            assert_eq!(got, expected, "{what}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(head in "(GET|CONNECT|POST) [a:/]{1,9} HTTP/1.1\r\n(Host|Content-Length|Transfer-Encoding): (chunked|a|9|99999999999999999999|18446744073709551615)\r\n", tail in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..300) {
            let stream = [head.as_bytes(), &tail].concat();
            let stream = &stream[..cut.min(stream.len())];
            requests(stream);
            statuses(stream);
            statuses(&[b"HTTP/1.1 407 X\r\n", stream].concat());
            looks_like_client(stream);
            Host::from_wire(stream);
        }

        #[test]
        fn chunk_sizes_of_any_magnitude_are_safe(size in any::<u64>(), tail in "[0-9a-f\r\n]{0,40}") {
            requests(format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{size:x}\r\n{tail}").as_bytes());
        }
    }
}
