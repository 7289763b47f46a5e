//! What clients and servers say first: TLS, HTTP, SMTP, TDS, PostgreSQL, MongoDB, SMB2, SSH, NTP.

/// Bytes that look random and are the same each time.
fn noise(seed: u8, length: usize) -> Vec<u8> {
    (0..length).map(|index| (index as u8).wrapping_mul(167).wrapping_add(seed).rotate_left(3)).collect()
}

fn with_u8_length(bytes: &[u8]) -> Vec<u8> {
    [&[bytes.len() as u8], bytes].concat()
}

fn with_u16_length(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    [kind.to_be_bytes().to_vec(), with_u16_length(body)].concat()
}

fn handshake(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32).to_be_bytes();
    [&[kind, length[1], length[2], length[3]], body].concat()
}

/// One TLS record (RFC 8446 section 5.1).
pub fn tls_record(kind: u8, version: u16, body: &[u8]) -> Vec<u8> {
    [[kind].to_vec(), version.to_be_bytes().to_vec(), with_u16_length(body)].concat()
}

/// A TLS 1.3 ClientHello as browsers and OpenSSL send it; `None` leaves the server name out.
pub fn client_hello(server_name: Option<&str>) -> Vec<u8> {
    client_hello_offering(server_name, &["http/1.1"])
}

/// The same with these application protocols (ALPN).
pub fn client_hello_offering(server_name: Option<&str>, alpn: &[&str]) -> Vec<u8> {
    let mut extensions = Vec::new();
    if let Some(name) = server_name {
        let entry = [&[0u8][..], &with_u16_length(name.as_bytes())].concat();
        extensions.extend(extension(0, &with_u16_length(&entry)));
    }
    extensions.extend(extension(10, &with_u16_length(&[0x00, 0x1d, 0x00, 0x17])));
    extensions.extend(extension(13, &with_u16_length(&[0x04, 0x03, 0x08, 0x04, 0x04, 0x01])));
    let alpn: Vec<u8> = alpn.iter().flat_map(|protocol| with_u8_length(protocol.as_bytes())).collect();
    extensions.extend(extension(16, &with_u16_length(&alpn)));
    extensions.extend(extension(43, &with_u8_length(&[0x03, 0x04, 0x03, 0x03])));
    let share = [&[0x00, 0x1d][..], &with_u16_length(&noise(9, 32))].concat();
    extensions.extend(extension(51, &with_u16_length(&share)));
    let body = [
        vec![0x03, 0x03],
        noise(1, 32),
        with_u8_length(&noise(2, 32)),
        with_u16_length(&[0x13, 0x01, 0x13, 0x02, 0xc0, 0x2f]),
        vec![1, 0],
        with_u16_length(&extensions),
    ]
    .concat();
    tls_record(0x16, 0x0301, &handshake(1, &body))
}

/// A QUIC Initial packet of version 1 with a ClientHello for this server, as its datagram (RFC 9001 section 5.2).
pub fn quic_initial(server_name: &str) -> Vec<u8> {
    use aes_gcm::aead::{Aead, Payload};
    use aes_gcm::aes::{Aes128, cipher::BlockCipherEncrypt};
    use aes_gcm::{Aes128Gcm, KeyInit};
    use hkdf::Hkdf;
    use sha2::Sha256;

    // The whole hello without the header of its TLS record, in one CRYPTO frame; padding to the datagram's 1200 bytes.
    let hello = client_hello_offering(Some(server_name), &["h3"]).split_off(5);
    let id = [0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08];
    let mut header = [&[0xc3, 0, 0, 0, 1, id.len() as u8][..], &id, &[0, 0]].concat();
    let length = 1200 - header.len() - 2;
    header.extend((0x4000 | length as u16).to_be_bytes());
    let number_at = header.len();
    header.extend([0; 4]);
    let mut frames = [&[6, 0][..], &(0x4000 | hello.len() as u16).to_be_bytes(), &hello].concat();
    frames.resize(length - 4 - 16, 0);

    let salt = *b"\x38\x76\x2c\xf7\xf5\x59\x34\xb3\x4d\x17\x9a\xe6\xa4\xc8\x0c\xad\xcc\xbb\x7f\x0a";
    let expand = |secret: &Hkdf<Sha256>, label: &str, out: &mut [u8]| {
        let name = format!("tls13 {label}");
        let info = [&[0, out.len() as u8, name.len() as u8][..], name.as_bytes(), &[0]].concat();
        secret.expand(&info, out).expect("keys are short");
    };
    let (mut secret, mut key, mut iv, mut mask_key) = ([0; 32], [0; 16], [0; 12], [0; 16]);
    expand(&Hkdf::new(Some(&salt), &id), "client in", &mut secret);
    let secret = Hkdf::from_prk(&secret).expect("a secret has 32 bytes");
    expand(&secret, "quic key", &mut key);
    expand(&secret, "quic iv", &mut iv);
    expand(&secret, "quic hp", &mut mask_key);

    // Of packet number 0 the nonce is the IV itself.
    let sealed = Aes128Gcm::new(&key.into()).encrypt(&iv.into(), Payload { msg: &frames, aad: &header });
    let sealed = sealed.expect("a packet can be sealed");
    let mut mask = <[u8; 16]>::try_from(&sealed[..16]).expect("a sample has 16 bytes").into();
    Aes128::new(&mask_key.into()).encrypt_block(&mut mask);
    header[0] ^= mask[0] & 0x0f;
    (0..4).for_each(|at| header[number_at + at] ^= mask[1 + at]);
    [header, sealed].concat()
}

/// A TLS 1.3 ServerHello, the compatibility ChangeCipherSpec and an encrypted record.
pub fn server_hello() -> Vec<u8> {
    let share = [&[0x00, 0x1d][..], &with_u16_length(&noise(8, 32))].concat();
    let extensions = [extension(43, &[0x03, 0x04]), extension(51, &share)].concat();
    let body = [
        vec![0x03, 0x03],
        noise(3, 32),
        with_u8_length(&noise(2, 32)),
        vec![0x13, 0x01, 0],
        with_u16_length(&extensions),
    ]
    .concat();
    [tls_record(0x16, 0x0303, &handshake(2, &body)), tls_record(0x14, 0x0303, &[1]), app_data(96)].concat()
}

/// A TLS 1.2 ServerHello with an empty certificate list and ServerHelloDone: all of it in the clear.
pub fn server_hello_in_the_clear() -> Vec<u8> {
    let body = [vec![0x03, 0x03], noise(3, 32), vec![0, 0xc0, 0x2f, 0]].concat();
    let messages = [handshake(2, &body), handshake(11, &[0, 0, 0]), handshake(14, &[])].concat();
    tls_record(0x16, 0x0303, &messages)
}

/// A TLS alert in the clear: level 1 warning, 2 fatal (RFC 8446 section 6).
pub fn alert(level: u8, description: u8) -> Vec<u8> {
    tls_record(0x15, 0x0303, &[level, description])
}

/// A record of encrypted application data.
pub fn app_data(length: usize) -> Vec<u8> {
    tls_record(0x17, 0x0303, &noise(5, length))
}

/// An HTTP/1.1 request in origin form.
pub fn http_get(host: &str, path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: scene\r\n\r\n").into_bytes()
}

/// An HTTP/1.1 request in absolute form, as sent to a proxy.
pub fn http_get_by_proxy(host: &str, path: &str) -> Vec<u8> {
    format!("GET http://{host}{path} HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes()
}

/// HTTP/2 at once, in the clear: preface, settings, and a GET of `/` whose `:authority` is a plain literal.
pub fn http2_get(authority: &str) -> Vec<u8> {
    let block = [&[0x82, 0x86, 0x84, 0x41, authority.len() as u8], authority.as_bytes()].concat();
    let frame = |kind: u8, flags: u8, stream: u8, body: &[u8]| {
        [&[0, 0, body.len() as u8, kind, flags, 0, 0, 0, stream], body].concat()
    };
    [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(4, 0, 0, &[]), &frame(1, 5, 1, &block)].concat()
}

/// What a server says to that: settings, their acknowledgement, and 204 without a body.
pub fn http2_no_content() -> Vec<u8> {
    [&[0, 0, 0, 4, 0, 0, 0, 0, 0][..], &[0, 0, 0, 4, 1, 0, 0, 0, 0], &[0, 0, 1, 1, 5, 0, 0, 0, 1, 0x89]]
        .concat()
}

/// A search for devices (SSDP).
pub fn ssdp_search() -> Vec<u8> {
    b"M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: ssdp:all\r\n\r\n".to_vec()
}

/// An HTTP/1.1 200 with a short body.
pub fn http_ok() -> Vec<u8> {
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()
}

/// CONNECT to `target`, a host and port (RFC 9110 section 9.3.6).
pub fn http_connect(target: &str) -> Vec<u8> {
    format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").into_bytes()
}

/// A proxy's answer to CONNECT.
pub fn http_status(code: u16) -> Vec<u8> {
    let reason = match code {
        200 => "Connection Established",
        403 => "Forbidden",
        405 => "Method Not Allowed",
        407 => "Proxy Authentication Required",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        other => panic!("no scene needs status {other}"),
    };
    let body = if code == 200 { "" } else { "Content-Length: 0\r\n" };
    format!("HTTP/1.1 {code} {reason}\r\n{body}\r\n").into_bytes()
}

/// A mail server's greeting.
pub const SMTP_BANNER: &[u8] = b"220 mail.contoso.example ESMTP\r\n";
/// A mail client's first words.
pub const SMTP_EHLO: &[u8] = b"EHLO appliance.contoso.example\r\n";
/// What the server offers then.
pub const SMTP_OFFER: &[u8] = b"250-mail.contoso.example\r\n250 STARTTLS\r\n";
/// Both sides of SSH begin like this.
pub const SSH_BANNER: &[u8] = b"SSH-2.0-OpenSSH_9.6\r\n";

/// TDS prelogin, request (type 0x12) or response (0x04): version and "encryption on" ([MS-TDS] 2.2.6.5).
pub fn tds_prelogin(kind: u8) -> Vec<u8> {
    let body = [0u8, 0, 11, 0, 6, 1, 0, 17, 0, 1, 0xff, 16, 0, 0, 1, 0, 0, 1];
    [&[kind, 1], &(8 + body.len() as u16).to_be_bytes()[..], &[0, 0, 1, 0], &body].concat()
}

/// PostgreSQL's SSLRequest.
pub const PG_SSL_REQUEST: &[u8] = &[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// A PostgreSQL startup message in the clear, protocol 3.0.
pub fn pg_startup() -> Vec<u8> {
    let parameters = b"user\0veeam\0database\0citus\0\0";
    [&(8 + parameters.len() as u32).to_be_bytes()[..], &[0, 3, 0, 0], parameters].concat()
}

/// PostgreSQL's AuthenticationCleartextPassword.
pub const PG_AUTHENTICATION: &[u8] = &[b'R', 0, 0, 0, 8, 0, 0, 0, 3];

/// A MongoDB OP_MSG with the document `{hello: 1}` (request) or `{ok: 1}` (reply to `answers`).
pub fn mongo(request: u32, answers: u32) -> Vec<u8> {
    let field: &[u8] = if answers == 0 { b"\x10hello\0\x01\0\0\0" } else { b"\x10ok\0\x01\0\0\0" };
    let database: &[u8] = b"\x02$db\0\x06\0\0\0admin\0";
    let document =
        [&((4 + field.len() + database.len() + 1) as u32).to_le_bytes(), field, database, &[0]].concat();
    let length = 16 + 4 + 1 + document.len() as u32;
    let header = [length, request, answers, 2013, 0].map(u32::to_le_bytes).concat();
    [&header[..], &[0], &document].concat()
}

fn smb2(flags: u32, body: &[u8]) -> Vec<u8> {
    let mut header = b"\xfeSMB\x40\0\0\0\0\0\0\0\0\0\x01\0".to_vec();
    header.extend(flags.to_le_bytes());
    header.resize(64, 0);
    let message = [&header, body].concat();
    [&(message.len() as u32).to_be_bytes()[..], &message].concat()
}

/// SMB2 NEGOTIATE with dialects 2.0.2 to 3.0.2 ([MS-SMB2] 2.2.3).
pub fn smb_negotiate() -> Vec<u8> {
    let mut body = vec![36, 0, 4, 0, 1, 0, 0, 0, 0, 0, 0, 0];
    body.extend(noise(7, 16));
    body.extend([0; 8]);
    body.extend([0x02, 0x02, 0x10, 0x02, 0x00, 0x03, 0x02, 0x03]);
    smb2(0, &body)
}

/// The server's answer to it, choosing 3.0.2.
pub fn smb_negotiated() -> Vec<u8> {
    let mut body = vec![65, 0, 1, 0, 0x02, 0x03, 0, 0];
    body.extend(noise(6, 16));
    body.extend([0; 4]);
    body.extend([0x00, 0x00, 0x10, 0x00].repeat(3));
    body.extend([0; 16]);
    body.extend([128, 0, 0, 0, 0, 0, 0, 0]);
    smb2(1, &body)
}

/// An NTP packet: mode 3 is a client's, 4 a server's (RFC 5905).
pub fn ntp(mode: u8) -> Vec<u8> {
    let mut packet = vec![0; 48];
    packet[0] = 0x20 | mode;
    packet[1] = if mode == 4 { 2 } else { 0 };
    packet
}

/// A DHCPDISCOVER (RFC 2131).
pub fn dhcp_discover() -> Vec<u8> {
    let mut message = vec![1, 1, 6, 0, 0x39, 0x03, 0xf3, 0x26];
    message.resize(28, 0);
    message.extend([2, 0, 10, 10, 1, 4]);
    message.resize(236, 0);
    message.extend([0x63, 0x82, 0x53, 0x63, 53, 1, 1, 255]);
    message
}
