//! Capture files: pcap with nanoseconds, pcapng with several interfaces.

/// One frame as a capture file holds it.
#[derive(Clone)]
pub struct Captured {
    /// Nanoseconds since the Unix epoch.
    pub time: i64,
    /// Which interface saw it (pcapng only).
    pub interface: u32,
    /// Length on the wire; `bytes` is shorter where a snapshot length cut it.
    pub wire_len: u32,
    pub bytes: Vec<u8>,
}

/// A little-endian pcap file of link type Ethernet with nanosecond times.
pub fn pcap(frames: &[Captured]) -> Vec<u8> {
    let mut out = Vec::new();
    for word in [0xa1b2_3c4du32, 0x0004_0002, 0, 0, 262_144, 1] {
        out.extend(word.to_le_bytes());
    }
    for frame in frames {
        let (seconds, nanos) = (frame.time.div_euclid(1_000_000_000), frame.time.rem_euclid(1_000_000_000));
        for word in [seconds as u32, nanos as u32, frame.bytes.len() as u32, frame.wire_len] {
            out.extend(word.to_le_bytes());
        }
        out.extend(&frame.bytes);
    }
    out
}

fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let padding = vec![0; body.len().next_multiple_of(4) - body.len()];
    let length = (12 + body.len() + padding.len()) as u32;
    [&kind.to_le_bytes(), &length.to_le_bytes(), body, &padding, &length.to_le_bytes()].concat()
}

fn option(code: u16, value: &[u8]) -> Vec<u8> {
    let padding = vec![0; value.len().next_multiple_of(4) - value.len()];
    [&code.to_le_bytes(), &(value.len() as u16).to_le_bytes(), value, &padding].concat()
}

/// A little-endian pcapng file: Ethernet interfaces eth0, eth1 ... with nanosecond times, and at the end one
/// statistics block that counts `dropped` frames for interface 0, if that is given.
pub fn pcapng(frames: &[Captured], dropped: Option<u64>) -> Vec<u8> {
    let section = [0x1a2b_3c4du32.to_le_bytes(), 1u32.to_le_bytes(), [0xff; 4], [0xff; 4]].concat();
    let mut out = block(0x0a0d_0d0a, &section);
    let interfaces = frames.iter().map(|frame| frame.interface).max().unwrap_or(0) + 1;
    for interface in 0..interfaces {
        let name = format!("eth{interface}");
        let body = [
            vec![1, 0, 0, 0],
            262_144u32.to_le_bytes().to_vec(),
            option(2, name.as_bytes()),
            option(9, &[9]),
            option(0, &[]),
        ]
        .concat();
        out.extend(block(1, &body));
    }
    let stamp = |time: i64| [((time >> 32) as u32).to_le_bytes(), (time as u32).to_le_bytes()].concat();
    for frame in frames {
        let body = [
            frame.interface.to_le_bytes().to_vec(),
            stamp(frame.time),
            (frame.bytes.len() as u32).to_le_bytes().to_vec(),
            frame.wire_len.to_le_bytes().to_vec(),
            frame.bytes.clone(),
        ]
        .concat();
        out.extend(block(6, &body));
    }
    if let Some(dropped) = dropped {
        let last = frames.last().map_or(0, |frame| frame.time);
        let body = [
            vec![0; 4],
            stamp(last),
            option(4, &(frames.len() as u64 + dropped).to_le_bytes()),
            option(5, &dropped.to_le_bytes()),
            option(0, &[]),
        ]
        .concat();
        out.extend(block(5, &body));
    }
    out
}
