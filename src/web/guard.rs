//! Who may ask: by the name that the page was asked by, and by a token where the page is not for this machine alone.

use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, COOKIE, HOST, TRANSFER_ENCODING};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use sha2::{Digest, Sha256};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use subtle::ConstantTimeEq;

/// Letters of a token, at the least: 16 random letters of 64 are 96 bits.
const LEAST_LETTERS: usize = 16;

/// And at the most.
const MOST_LETTERS: usize = 256;

/// What lets somebody in. Only its digest is kept.
#[derive(Clone)]
pub struct Token {
    digest: [u8; 32],
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// A token as somebody wrote it: of letters that stand in an address, a header and a cookie as they are.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn new(text: &str) -> Result<Token, String> {
        if !(LEAST_LETTERS..=MOST_LETTERS).contains(&text.len()) {
            return Err(format!(
                "a token has {LEAST_LETTERS} to {MOST_LETTERS} letters, and this has {}",
                text.len()
            ));
        }
        // RFC 3986 section 2.3.
        if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)) {
            return Err("a token consists of the letters A-Z a-z 0-9 - . _ ~".to_owned());
        }
        Ok(Token { digest: Sha256::digest(text.as_bytes()).into() })
    }

    /// Whether it is `text`. How long that takes tells nothing about the token: digests are compared, and all of them.
    fn is(&self, text: &str) -> bool {
        let digest: [u8; 32] = Sha256::digest(text.as_bytes()).into();
        digest.ct_eq(&self.digest).into()
    }
}

/// A new token: 256 random bits, as hexadecimal digits.
///
/// # Errors
/// If the kernel gives no random bytes.
pub fn new_token() -> std::io::Result<String> {
    let mut bytes = [0_u8; 32];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        filled += rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(crate::model::hex(&bytes))
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Method,
    Body,
    Host,
    Token,
}

impl Refused {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Refused::Method => StatusCode::METHOD_NOT_ALLOWED,
            Refused::Body => StatusCode::PAYLOAD_TOO_LARGE,
            Refused::Host => StatusCode::MISDIRECTED_REQUEST,
            Refused::Token => StatusCode::UNAUTHORIZED,
        }
    }

    pub(super) fn words(self) -> &'static str {
        match self {
            Refused::Method => "Only GET is answered here.\n",
            Refused::Body => "A request here has no body.\n",
            Refused::Host => {
                "This page is for this machine alone: ask for it as 127.0.0.1, [::1] or localhost. A proxy before it has to \
                 set the header Host so.\n"
            }
            Refused::Token => {
                "This page needs the token that portproof was started with: `Authorization: Bearer TOKEN`, or once \
                 `?token=TOKEN` in the address.\n"
            }
        }
    }
}

/// Who may ask.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    /// Only by names of this machine. A page that another site's name leads to (DNS rebinding) is none of ours.
    own_names: bool,
    token: Option<Token>,
    /// The cookie's name: cookies do not tell ports apart.
    cookie: String,
}

/// A request that may be answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Admitted {
    /// What is to be set as a cookie.
    pub cookie: Option<String>,
}

impl Guard {
    pub(super) fn new(bound: SocketAddr, token: Option<Token>) -> Guard {
        Guard { own_names: bound.ip().is_loopback(), token, cookie: format!("portproof-{}", bound.port()) }
    }

    pub(super) fn admit<B>(&self, request: &Request<B>) -> Result<Admitted, Refused> {
        let headers = request.headers();
        if request.method() != Method::GET {
            return Err(Refused::Method);
        }
        let empty = headers.get_all(CONTENT_LENGTH).iter().all(|length| length == "0");
        if !empty || headers.contains_key(TRANSFER_ENCODING) {
            return Err(Refused::Body);
        }
        if self.own_names && !asked_by_own_name(request) {
            return Err(Refused::Host);
        }
        let Some(token) = &self.token else { return Ok(Admitted { cookie: None }) };
        if let Some(given) = headers.get(AUTHORIZATION) {
            let given = given.to_str().ok().and_then(|given| given.split_once(' '));
            return match given {
                Some((scheme, given)) if scheme.eq_ignore_ascii_case("bearer") && token.is(given.trim()) => {
                    Ok(Admitted { cookie: None })
                }
                _ => Err(Refused::Token),
            };
        }
        if let Some(given) = in_query(request.uri().query()) {
            if !token.is(given) {
                return Err(Refused::Token);
            }
            let cookie = format!("{}={given}; Path=/; HttpOnly; SameSite=Strict", self.cookie);
            return Ok(Admitted { cookie: Some(cookie) });
        }
        if self.in_cookies(headers).any(|given| token.is(given)) {
            return Ok(Admitted { cookie: None });
        }
        Err(Refused::Token)
    }

    fn in_cookies<'h>(&'h self, headers: &'h HeaderMap) -> impl Iterator<Item = &'h str> {
        let cookies = headers.get_all(COOKIE).iter().filter_map(|cookies| cookies.to_str().ok());
        let pairs =
            cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.filter(|(name, _)| *name == self.cookie).map(|(_, value)| value)
    }
}

fn in_query(query: Option<&str>) -> Option<&str> {
    query?.split('&').find_map(|pair| pair.strip_prefix("token="))
}

/// Whether a request names this machine, in its one Host header (RFC 9112 section 3.2) and, where it has one, its target.
fn asked_by_own_name<B>(request: &Request<B>) -> bool {
    let mut hosts = request.headers().get_all(HOST).iter();
    let (host, further) = (hosts.next(), hosts.next());
    let named = host.and_then(|host| host.to_str().ok()).is_some_and(is_own_name);
    let target = request.uri().authority().is_none_or(|authority| is_own_name(authority.as_str()));
    named && further.is_none() && target
}

/// Whether `name`, or `name:port`, can only be this machine.
fn is_own_name(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => {
            let Some((name, port)) = rest.split_once(']') else { return false };
            if !(port.is_empty() || port.strip_prefix(':').is_some_and(is_port)) {
                return false;
            }
            return name.parse().is_ok_and(|ip: std::net::Ipv6Addr| ip.is_loopback());
        }
        None => match host.split_once(':') {
            Some((_, port)) if !is_port(port) => return false,
            Some((name, _)) => name,
            None => host,
        },
    };
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn guard(bound: &str, token: bool) -> Guard {
        Guard::new(bound.parse().unwrap(), token.then(|| Token::new(TOKEN).unwrap()))
    }

    fn request(target: &str, headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    #[test]
    fn on_this_machine_only_its_own_names_are_answered() {
        let guard = guard("127.0.0.1:9099", false);
        for (host, fine) in [
            ("127.0.0.1:9099", true),
            ("127.0.0.1", true),
            ("127.1.2.3:1", true),
            ("localhost:8080", true),
            ("LOCALHOST", true),
            ("[::1]:9099", true),
            ("[::1]", true),
            ("", false),
            ("evil.example:9099", false),
            ("127.0.0.1.evil.example", false),
            ("localhost.evil.example:9099", false),
            ("127.0.0.1:9099@evil.example", false),
            ("127.0.0.1:99999", false),
            ("[::1]evil.example", false),
            ("[127.0.0.1]", false),
            ("10.0.0.1:9099", false),
            ("0.0.0.0:9099", false),
        ] {
            assert_eq!(guard.admit(&request("/", &[("host", host)])).is_ok(), fine, "{host:?}");
        }
        assert_eq!(guard.admit(&request("/", &[])), Err(Refused::Host));
        let two = request("/", &[("host", "localhost"), ("host", "evil.example")]);
        assert_eq!(guard.admit(&two), Err(Refused::Host));
        let target = request("http://evil.example/", &[("host", "localhost")]);
        assert_eq!(guard.admit(&target), Err(Refused::Host));
    }

    #[test]
    fn elsewhere_only_who_has_the_token_is_answered() {
        let guard = guard("0.0.0.0:9099", true);
        let bearer = format!("Bearer {TOKEN}");
        let wrong = format!("Bearer {TOKEN}0");
        let cookie = format!("a=b; portproof-9099={TOKEN}");
        let other = format!("portproof-9098={TOKEN}");
        let asked = format!("/?a=b&token={TOKEN}");
        let answered = Ok(Admitted { cookie: None });
        let host = ("host", "any.example");
        for (target, headers, expected) in [
            ("/", vec![host], Err(Refused::Token)),
            ("/", vec![host, ("authorization", &bearer)], answered),
            ("/", vec![host, ("authorization", &wrong)], Err(Refused::Token)),
            ("/", vec![host, ("authorization", TOKEN)], Err(Refused::Token)),
            ("/", vec![host, ("cookie", &cookie)], Ok(Admitted { cookie: None })),
            ("/", vec![host, ("cookie", &other)], Err(Refused::Token)),
            ("/?token=", vec![host, ("cookie", &cookie)], Err(Refused::Token)),
            ("/?token=0123456789abcdeF", vec![host], Err(Refused::Token)),
            // What was said wrongly is not made good by a cookie.
            ("/", vec![host, ("authorization", &wrong), ("cookie", &cookie)], Err(Refused::Token)),
        ] {
            assert_eq!(guard.admit(&request(target, &headers)), expected, "{target} {headers:?}");
        }
        let admitted = guard.admit(&request(&asked, &[host])).unwrap();
        let set = format!("portproof-9099={TOKEN}; Path=/; HttpOnly; SameSite=Strict");
        assert_eq!(admitted.cookie.as_deref(), Some(set.as_str()));
    }

    #[test]
    fn nothing_but_get_without_a_body_is_answered() {
        let guard = guard("127.0.0.1:9099", false);
        for method in ["POST", "HEAD", "OPTIONS", "PUT", "DELETE", "CONNECT", "TRACE", "get"] {
            let mut request = request("/", &[("host", "localhost")]);
            *request.method_mut() = method.parse().unwrap();
            assert_eq!(guard.admit(&request), Err(Refused::Method), "{method}");
        }
        for body in [("content-length", "1"), ("transfer-encoding", "chunked")] {
            let request = request("/", &[("host", "localhost"), body]);
            assert_eq!(guard.admit(&request), Err(Refused::Body), "{body:?}");
        }
    }

    #[test]
    fn tokens_are_long_and_plain_and_not_shown() {
        for bad in ["", "short", "0123456789abcde ", "0123456789abcde;", "0123456789abcdeé", &"a".repeat(257)]
        {
            assert!(Token::new(bad).is_err(), "{bad:?}");
        }
        let (one, two) = (new_token().unwrap(), new_token().unwrap());
        assert!(one != two && one.len() == 64, "{one} {two}");
        assert!(Token::new(&one).unwrap().is(&one) && !Token::new(&one).unwrap().is(&two));
        assert_eq!(format!("{:?}", Token::new(&one).unwrap()), "Token");
    }
}
