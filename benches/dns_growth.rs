//! What DNS costs as it grows: twice the input, at most 2.2 times the time. Figures need an idle machine.
//!
//!     cargo bench --no-default-features --bench dns_growth

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use portproof::model::{DomainName, Endpoint, FramePoint, Timestamp, Transport};
use portproof::names::{Bookmark, DnsLog, Ledger};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const RESOLVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

fn address(number: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(0x2800_0000 | number))
}

fn label(number: u32) -> String {
    format!("host{number:07}")
}

fn name(number: u32) -> DomainName {
    format!("{}.example", label(number)).parse().expect("a name")
}

/// What an answer tells.
#[derive(Clone, Copy)]
enum Told {
    /// One alias and one address.
    Address(IpAddr),
    /// That the name leads to another, and no more.
    Alias(u32),
}

/// A query, or an answer.
fn message(id: u16, name: u32, answer: Option<Told>) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    let flags = match answer {
        Some(Told::Address(_)) => [0x81, 0x80, 0, 1, 0, 2],
        Some(Told::Alias(_)) => [0x81, 0x80, 0, 1, 0, 1],
        None => [1, 0, 0, 1, 0, 0],
    };
    let mut wire = [&[high, low][..], &flags, &[0; 4]].concat();
    wire.push(11);
    wire.extend(label(name).bytes());
    wire.extend(b"\x07example\0\0\x01\0\x01");
    if let Some(Told::Alias(target)) = answer {
        wire.extend(b"\xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x0e\x0b");
        wire.extend(label(target).bytes());
        wire.extend(b"\xc0\x18");
    }
    if let Some(Told::Address(IpAddr::V4(ip))) = answer {
        wire.extend(b"\xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x05\x02cd\xc0\x18");
        let alias = u8::try_from(wire.len() - 5).expect("short");
        wire.extend([0xc0, alias, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        wire.extend(ip.octets());
    }
    wire
}

/// Messages of one client: identifier, name, and what is told if it is an answer.
fn cost(
    messages: impl Iterator<Item = (u16, u32, Option<Told>)>,
    ask: impl Fn(&Ledger),
) -> (usize, [Duration; 3]) {
    let wires: Vec<_> = messages.map(|(id, name, told)| (message(id, name, told), told.is_some())).collect();
    let start = Instant::now();
    let mut log = DnsLog::default();
    for (at, (wire, response)) in wires.iter().enumerate() {
        let time = Timestamp(10_000_000_000 + at as i64 * 1_000);
        let point = FramePoint { time, frame: at as u64 + 1, ..FramePoint::default() };
        let (client, resolver) = (Endpoint::new(CLIENT, 5000), Endpoint::new(RESOLVER, 53));
        let (src, dst) = if *response { (resolver, client) } else { (client, resolver) };
        assert_eq!(log.read(wire, point, src, dst, Transport::Udp), Some(*response));
    }
    let read = start.elapsed();
    let ledger = Ledger::new(log, &|ip| ip, &|_| true, [Timestamp(0)].into());
    let built = start.elapsed();
    ask(&ledger);
    (wires.len(), [read, built - read, start.elapsed() - built])
}

fn pair(id: u32, name: u32, told: u32) -> [(u16, u32, Option<Told>); 2] {
    asked(id, name, Told::Address(address(told)))
}

fn asked(id: u32, name: u32, told: Told) -> [(u16, u32, Option<Told>); 2] {
    [(id as u16, name, None), (id as u16, name, Some(told))]
}

fn main() {
    type Case<'a> = (&'a str, &'a dyn Fn(u32) -> (usize, [Duration; 3]));
    let late = Timestamp(1 << 50);
    let nothing = |_: &Ledger| {};
    let cases: [Case<'_>; 7] = [
        ("lookups of 1000 names", &|n| {
            cost((0..n).flat_map(|i| pair(i, i % 1000, i % 1000)), |ledger| {
                let last = Bookmark::default();
                for i in 0..n {
                    ledger.about(CLIENT, address(i % 1000)).map(|about| about.readings(late, None, &last));
                }
            })
        }),
        ("lookups of ever new names", &|n| {
            cost((0..n).flat_map(|i| pair(i, i, i)), |ledger| {
                let last = Bookmark::default();
                for i in 0..n {
                    ledger.about(CLIENT, address(i)).map(|about| about.readings(late, None, &last));
                }
            })
        }),
        ("ever new addresses for one name", &|n| {
            cost((0..n).flat_map(|i| pair(i, 0, i)), |ledger| {
                let last = Bookmark::default();
                for i in 0..n {
                    let time = Timestamp(10_000_000_000 + i64::from(i) * 2_000);
                    ledger.told_otherwise(CLIENT, &name(0), address(n), time);
                    ledger.about(CLIENT, address(i)).map(|about| about.ever_named(&name(0), &last));
                }
            })
        }),
        ("one query, ever new answers", &|n| {
            let answers = (0..n).map(|i| (0, 0, Some(Told::Address(address(i)))));
            cost(std::iter::once((0, 0, None)).chain(answers), nothing)
        }),
        ("one question asked and answered", &|n| cost((0..n).flat_map(|_| pair(0, 0, 0)), nothing)),
        ("many names of one address, each looked for", &|n| {
            let names = 1 + n / 1000;
            cost((0..n).flat_map(|i| pair(i, i % names, 0)), |ledger| {
                let last = Bookmark::default();
                for i in 0..names {
                    ledger.about(CLIENT, address(0)).map(|about| about.readings(late, Some(&name(i)), &last));
                }
            })
        }),
        ("two hundred names of one address, each led to by another, asked for by many flows", &|n| {
            let lookups = (0..n / 2).flat_map(|i| {
                let name = i % 200;
                let alias = asked(2 * i, 1000 + name, Told::Alias(name));
                alias.into_iter().chain(pair(2 * i + 1, name, 0))
            });
            cost(lookups, |ledger| {
                let last = Bookmark::default();
                for _ in 0..n / 100 {
                    ledger.about(CLIENT, address(0)).map(|about| about.readings(late, None, &last));
                }
            })
        }),
    ];
    let mut too_much = Vec::new();
    for (what, case) in cases {
        let mut best: [[f64; 3]; 3] = [[f64::MAX; 3]; 3];
        for _ in 0..5 {
            for (size, best) in [100_000, 200_000, 400_000].into_iter().zip(&mut best) {
                let (messages, times) = case(size);
                for (best, time) in best.iter_mut().zip(times) {
                    *best = best.min(time.as_secs_f64() * 1e9 / messages as f64);
                }
            }
        }
        println!("{what}: ns a message to read, build, ask: {best:.0?}");
        let total = |times: &[f64; 3]| times.iter().sum::<f64>();
        // Per message; the total doubles besides.
        if total(&best[2]) * 2.0 > total(&best[1]) * 2.2 {
            too_much.push(what);
        }
    }
    if too_much.is_empty() {
        println!("twice the input costs at most 2.2 times as much everywhere");
    } else {
        println!("MORE than 2.2 times for twice the input: {}", too_much.join("; "));
    }
}
