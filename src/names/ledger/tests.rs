use super::super::dns::{AddressRecord, AliasRecord, DnsMessage, SectionCounts};
use super::super::reference;
use super::readings::{MOST_ASKED, MOST_GIVEN};
use super::*;
use crate::model::{CaptureId, Transport};
use proptest::prelude::*;

fn name(index: usize) -> DomainName {
    ["a.example", "b.example", "c.example", "d.example", "e.example"][index % 5].parse().unwrap()
}

/// Addresses of clients, resolvers and servers; the first two are one host.
fn ip(index: usize) -> IpAddr {
    match index % 6 {
        4 => "2001:db8::4".parse().unwrap(),
        5 => "2001:db8::5".parse().unwrap(),
        last => IpAddr::from([10, 0, 0, last as u8]),
    }
}

fn host_of(address: IpAddr) -> IpAddr {
    if address == ip(1) { ip(0) } else { address }
}

fn trusted(address: IpAddr) -> bool {
    address != ip(3)
}

/// Few of everything, so that questions, answers and aliases meet by chance.
fn observation() -> impl Strategy<Value = DnsObservation> {
    let record = || (0usize..5, 0usize..6, 0u32..4);
    let lists = (proptest::collection::vec(record(), 0..4), proptest::collection::vec(record(), 0..3));
    let ends = (0usize..3, 5000u16..5002, 2usize..4, any::<bool>());
    let head = (any::<bool>(), 0u16..2, proptest::option::weighted(0.95, 0usize..5), 0u16..2, 0u16..4);
    let odd = (prop_oneof![9 => Just(0u8), 1 => Just(5)], any::<bool>());
    ((0i64..24, 1u64..60), ends, head, lists, odd).prop_map(|(at, ends, head, lists, odd)| {
        let (client, port, resolver, tcp) = ends;
        let (response, id, asked, qtype, rcode) = head;
        let (addresses, aliases) = lists;
        let addresses = addresses.into_iter().filter(|_| response);
        let aliases = aliases.into_iter().filter(|_| response);
        DnsObservation {
            point: FramePoint {
                time: Timestamp(at.0 * NANOS_PER_SECOND / 2),
                capture: CaptureId::new(0),
                frame: at.1,
            },
            client: Endpoint::new(ip(client), port),
            resolver: Endpoint::new(ip(resolver), 53),
            transport: if tcp { Transport::Tcp } else { Transport::Udp },
            message: DnsMessage {
                id,
                response,
                opcode: odd.0,
                truncated: false,
                rcode,
                qname: asked.map(name),
                qtype,
                qclass: 1,
                addresses: addresses
                    .map(|(owner, at, ttl)| AddressRecord { owner: name(owner), ip: ip(at), ttl })
                    .collect(),
                aliases: aliases
                    .map(|(owner, to, ttl)| AliasRecord { owner: name(owner), target: name(to), ttl })
                    .collect(),
                ttls: vec![7],
                svcb_hints: vec![ip(5)],
                salvaged: odd.1,
                counts: SectionCounts { answers: 1, ..SectionCounts::default() },
            },
        }
    })
}

/// At so many seconds, the question of a client for the first name, or an answer that gives an address for it.
fn message(seconds: i64, client: IpAddr, given: Option<IpAddr>) -> DnsObservation {
    let given: Vec<AddressRecord> =
        given.into_iter().map(|ip| AddressRecord { owner: name(0), ip, ttl: 60 }).collect();
    DnsObservation {
        point: FramePoint {
            time: Timestamp(seconds * NANOS_PER_SECOND),
            capture: CaptureId::new(0),
            frame: seconds.unsigned_abs() + 1,
        },
        client: Endpoint::new(client, 5000),
        resolver: Endpoint::new(ip(2), 53),
        transport: Transport::Udp,
        message: DnsMessage {
            id: 0,
            response: !given.is_empty(),
            opcode: 0,
            truncated: false,
            rcode: 0,
            qname: Some(name(0)),
            qtype: 1,
            qclass: 1,
            addresses: given,
            aliases: Vec::new(),
            ttls: vec![60],
            svcb_hints: Vec::new(),
            salvaged: false,
            counts: SectionCounts { answers: 1, ..SectionCounts::default() },
        },
    }
}

#[test]
fn what_leads_to_an_alias_is_kept_once_whatever_numbers_its_names_have() {
    let mut chains = Chains::default();
    for first in 0..300 {
        let begin = chains.numbers.len();
        chains.numbers.extend([first, 1000]);
        chains.chains.push((begin..begin + 2, [].into()));
    }
    let mut aliases = Aliases::default();
    // Three of them share a bit.
    for first in [5, 133, 261, 5, 7, 133, 7] {
        aliases.add(Before { chain: first, names: 1, first, since: 0 }, &chains);
    }
    let kept: Vec<u32> = aliases.list.iter().map(|before| before.first).collect();
    assert_eq!((&kept[..], aliases.more), (&[5, 133, 261, 7][..], false));
    let mut lead = |first: u32| {
        aliases.add(Before { chain: first, names: 1, first, since: 0 }, &chains);
        (aliases.list.len(), aliases.more)
    };
    assert_eq!((10..70).map(&mut lead).last(), Some((MOST_ALIASES, false)));
    assert_eq!(
        [lead(69), lead(70), lead(71)],
        [(MOST_ALIASES, false), (MOST_ALIASES, true), (MOST_ALIASES, true)]
    );
}

#[test]
fn an_answer_becomes_unsolicited_once_its_host_is_seen_to_ask_also_where_the_ledger_grows() {
    let (begins, server) = (Arc::<[Timestamp]>::from([Timestamp(0)]), ip(5));
    let mut growing = GrowingLedger::default();
    let unsolicited = |growing: &GrowingLedger| {
        let about = growing.ledger().about(ip(0), server);
        about.and_then(|about| about.only_unsolicited()).map(|answer| answer.point.frame)
    };
    growing.add(message(10, ip(0), Some(server)));
    growing.know(&host_of, &trusted, begins.clone());
    assert_eq!(unsolicited(&growing), None, "nobody knows whether the host asks where the capture sees it");
    growing.add(message(20, ip(0), None));
    growing.know(&host_of, &trusted, begins.clone());
    assert_eq!(unsolicited(&growing), Some(11));
}

/// As [`Ledger::about`], for one who asks again and again.
fn about_near<'l>(ledger: &'l Ledger, host: IpAddr, ip: IpAddr, last: &Bookmark<'_>) -> Option<About<'l>> {
    let mut abouts = Vec::new();
    ledger.abouts([(host, ip)].into_iter(), last, &mut abouts);
    abouts.pop().flatten()
}

/// The first host asks for a name.
fn question(seconds: i64, number: usize) -> DnsObservation {
    let mut question = message(seconds, ip(0), None);
    question.message.qname = Some(name(number));
    question
}

/// It is told that the second name leads to the first.
fn alias(seconds: i64) -> DnsObservation {
    let mut alias = question(seconds, 1);
    alias.message.response = true;
    alias.message.aliases = vec![AliasRecord { owner: name(1), target: name(0), ttl: 60 }];
    alias
}

#[test]
fn an_alias_told_before_names_the_address_too() {
    let (host, server) = (ip(0), ip(5));
    // The alias alone, then the address of what it leads to.
    let messages = vec![question(1, 1), alias(2), question(3, 0), message(4, host, Some(server))];
    let ledger = Ledger::new(messages.iter().cloned().collect(), &host_of, &trusted, [Timestamp(0)].into());
    let time = Timestamp(5 * NANOS_PER_SECOND);
    let about = ledger.about(host, server).unwrap();
    let (readings, _) = about.readings(time, None, &Bookmark::default());
    let names: Vec<Vec<DomainName>> = readings.iter().map(|reading| reading.names.to_vec()).collect();
    assert_eq!(names, [vec![name(1), name(0)]]);
    same_answers(&messages).unwrap();
}

#[test]
fn an_alias_told_between_two_answers_names_the_address_from_the_second_on() {
    let (host, server) = (ip(0), ip(5));
    let answer = |seconds| [question(seconds - 1, 0), message(seconds, host, Some(server))];
    let messages = answer(2).into_iter().chain([question(3, 1), alias(4)]).chain(answer(6));
    let ledger = Ledger::new(messages.collect(), &host_of, &trusted, [Timestamp(0)].into());
    let about = ledger.about(host, server).unwrap();
    let bookmark = Bookmark::default();
    let (alone, both) = (vec![name(0)], vec![name(1), name(0)]);
    // Asked again, and back again: what is remembered of one answer is not that of the other.
    for (seconds, expected) in
        [(3, vec![&alone]), (7, vec![&both, &alone]), (3, vec![&alone]), (7, vec![&both, &alone])]
    {
        let time = Timestamp(seconds * NANOS_PER_SECOND);
        let (readings, _) = about.readings(time, None, &bookmark);
        let names: Vec<Vec<DomainName>> = readings.iter().map(|reading| reading.names.to_vec()).collect();
        assert_eq!(names.iter().collect::<Vec<_>>(), expected, "{seconds}");
    }
}

/// The names by which the first host knows the sixth address at a time, after these messages.
fn read_at(messages: impl IntoIterator<Item = DnsObservation>, seconds: i64) -> Vec<(Vec<String>, bool)> {
    let ledger = Ledger::new(messages.into_iter().collect(), &host_of, &trusted, [Timestamp(0)].into());
    let about = ledger.about(ip(0), ip(5)).unwrap();
    let (readings, _) = about.readings(Timestamp(seconds * NANOS_PER_SECOND), None, &Bookmark::default());
    let names = |reading: &Reading<'_>| reading.names.iter().map(ToString::to_string).collect();
    readings.iter().map(|reading| (names(reading), reading.expired)).collect()
}

#[test]
fn a_time_to_live_with_its_highest_bit_set_is_none() {
    for (ttl, expired) in
        [(0x7fff_ffff, false), (0x8000_0000, true), (u32::MAX, true), (0, true), (60, false)]
    {
        let mut answer = message(2, ip(0), Some(ip(5)));
        answer.message.addresses[0].ttl = ttl;
        assert_eq!(read_at([question(1, 0), answer], 3)[0].1, expired, "{ttl:#x}");
    }
}

#[test]
fn an_address_at_the_end_of_a_chain_longer_than_is_followed_is_named_by_what_was_asked_for() {
    for aliases in [1, MOST_NAMES - 1, MOST_NAMES, 3 * MOST_NAMES] {
        let name = |number: usize| format!("n{number}.example").parse::<DomainName>().unwrap();
        let mut asked = question(1, 0);
        asked.message.qname = Some(name(0));
        let mut answer = message(2, ip(0), Some(ip(5)));
        answer.message.qname = Some(name(0));
        answer.message.addresses[0].owner = name(aliases);
        answer.message.aliases = (0..aliases)
            .map(|number| AliasRecord { owner: name(number), target: name(number + 1), ttl: 60 })
            .collect();
        let read = read_at([asked, answer], 3);
        assert_eq!((read.len(), read[0].0[0].as_str()), (1, "n0.example"), "{aliases}");
        assert_eq!(read[0].0.len(), (aliases + 1).min(MOST_NAMES));
    }
}

#[test]
fn of_more_chains_than_are_joined_one_without_names_is_told() {
    for leading in [MOST_JOINED, MOST_JOINED + 1, MOST_ALIASES + 1] {
        let of_one = |number: usize| {
            let name = format!("n{number:03}.example").parse::<DomainName>().unwrap();
            let mut asked = question(1, 0);
            asked.message.qname = Some(name.clone());
            let mut told = asked.clone();
            told.message.response = true;
            told.message.aliases = vec![AliasRecord { owner: name, target: self::name(0), ttl: 60 }];
            told.point.frame += 1;
            [asked, told]
        };
        let address = [question(3, 0), message(4, ip(0), Some(ip(5)))];
        let read = read_at((0..leading).flat_map(of_one).chain(address), 5);
        let nameless = read.iter().filter(|(names, _)| names.is_empty()).count();
        assert_eq!(nameless, usize::from(leading > MOST_JOINED), "{leading}: {read:?}");
    }
}

/// More hosts than places in which answers about one address are remembered, so that some meet in one.
#[test]
fn what_is_remembered_of_an_address_is_of_the_host_that_asks() {
    let hosts =
        || (0..MOST_ASKED as u32 + 1_000).map(|number| (number, IpAddr::from(u32::to_be_bytes(number))));
    let server = IpAddr::from([198, 51, 100, 1]);
    let is_told = |number: u32| (number % 7).is_multiple_of(3);
    let messages = hosts().filter(|&(number, _)| is_told(number)).flat_map(|(number, host)| {
        [message(number.into(), host, None), message(number.into(), host, Some(server))]
    });
    let ledger = Ledger::new(messages.collect(), &|ip| ip, &|_| true, [Timestamp(0)].into());
    let bookmark = Bookmark::default();
    for (number, host) in hosts().chain(hosts()) {
        let about = about_near(&ledger, host, server, &bookmark);
        assert_eq!(about.is_some(), is_told(number), "{host}");
    }
}

/// The other way round: more addresses than places.
#[test]
fn whether_an_address_is_given_is_remembered_of_it_alone() {
    let host = IpAddr::from([10, 1, 1, 1]);
    let servers =
        || (0..4 * MOST_GIVEN as u32).map(|number| (number, IpAddr::from(u32::to_be_bytes(number))));
    let is_told = |number: u32| (number % 7).is_multiple_of(3);
    let told = servers().filter(|&(number, _)| is_told(number));
    let messages = told.flat_map(|(number, server)| {
        [message(number.into(), host, None), message(number.into(), host, Some(server))]
    });
    let ledger = Ledger::new(messages.collect(), &|ip| ip, &|_| true, [Timestamp(0)].into());
    let bookmark = Bookmark::default();
    // Those that meet in one place one after another.
    let mut servers: Vec<(u32, IpAddr)> = servers().chain(servers()).collect();
    servers.sort_by_key(|&(number, _)| number as usize % MOST_GIVEN);
    for (number, server) in servers {
        let about = about_near(&ledger, host, server, &bookmark);
        assert_eq!(about.is_some(), is_told(number), "{server}");
    }
}

type Flat = (FramePoint, [IpAddr; 3], u16, [bool; 6], (u16, u16), Vec<DomainName>);

fn flat(a: &Answer<'_>) -> Flat {
    let standing = [a.trusted, a.matched, a.contested, a.unsolicited, a.has_addresses, a.salvaged];
    let ends = [a.host, a.client.ip, a.resolver];
    (a.point, ends, a.client.port, standing, (a.qtype, a.rcode), a.names.to_vec())
}

fn flat_reference(ledger: &reference::Ledger, a: &reference::Answer) -> Flat {
    let unsolicited = ledger.is_unsolicited(a);
    let gives = !a.addresses.is_empty();
    let standing = [a.trusted, a.matched, a.contested, unsolicited, gives, a.salvaged];
    let ends = [a.host, a.client.ip, a.resolver];
    (a.point, ends, a.client.port, standing, (a.qtype, a.rcode), a.names.clone())
}

/// Everything that can be asked of a ledger gets the answer of the plain one.
fn same_answers(messages: &[DnsObservation]) -> Result<(), TestCaseError> {
    // The second after a pause.
    let begins: Arc<[Timestamp]> = [Timestamp(0), Timestamp(20 * NANOS_PER_SECOND)].into();
    let slow = reference::Ledger::new(messages, &host_of, &trusted, begins.clone());
    for parted in [(1, 1), (3, 2)] {
        let log = messages.iter().cloned().collect();
        let fast = Ledger::of_shares(log, (&host_of, &trusted), begins.clone(), parted);
        same_as(&fast, &slow)?;
    }
    Ok(())
}

fn same_as(fast: &Ledger, slow: &reference::Ledger) -> Result<(), TestCaseError> {
    let queries: Vec<_> = fast
        .queries()
        .map(|q| (q.point, [q.host, q.resolver], q.client, q.name.clone(), q.qtype, q.answered))
        .collect();
    let expected: Vec<_> = slow
        .queries()
        .iter()
        .map(|q| (q.point, [q.host, q.resolver], q.client, q.name.clone(), q.qtype, q.answered))
        .collect();
    prop_assert_eq!(queries, expected);
    let plain = |answer: &reference::Answer| flat_reference(slow, answer);
    let answers: Vec<_> = fast.answers().map(|answer| flat(&answer)).collect();
    let bookmark = Bookmark::default();
    prop_assert_eq!(answers, slow.answers().iter().map(plain).collect::<Vec<_>>());
    same_selections(fast, slow)?;
    let pairs = || (0..36).map(|pair| (ip(pair / 6), ip(pair % 6)));
    // All at once, and each again before the first is known and after.
    let mut abouts = Vec::new();
    fast.abouts(pairs().chain(pairs()), &bookmark, &mut abouts);
    fast.abouts(pairs(), &bookmark, &mut abouts);
    for (place, (host, other)) in pairs().enumerate() {
        prop_assert_eq!(fast.told(host), slow.told(host));
        for port in [5000, 5001] {
            let client = Endpoint::new(host, port);
            prop_assert_eq!(fast.only_forged(client, other), slow.only_forged(client, other));
        }
        let about = abouts[36 + place];
        for about in [abouts[place], about, abouts[72 + place]] {
            prop_assert_eq!(about.is_some(), fast.about(host, other).is_some());
        }
        let unsolicited = about.and_then(|about| about.only_unsolicited()).map(|answer| flat(&answer));
        prop_assert_eq!(unsolicited, slow.only_unsolicited(host, other).map(plain));
        for name in (0..5).map(name) {
            let ever = slow.ever_named(host, &name, other);
            prop_assert_eq!(about.is_some_and(|about| about.ever_named(&name, &bookmark)), ever);
        }
        for time in (0..26).map(|half| Timestamp(half * NANOS_PER_SECOND / 2)) {
            let readings = slow.readings(host, other, time);
            let found = about.map(|about| about.readings(time, None, &bookmark)).unwrap_or_default();
            prop_assert_eq!(found, (readings.clone(), false));
            let untrusted = about.and_then(|about| about.untrusted(time)).map(|answer| flat(&answer));
            prop_assert_eq!(untrusted, slow.untrusted(host, other, time).map(plain));
            for name in (0..5).map(name) {
                let otherwise = slow.told_otherwise(host, &name, other, time);
                prop_assert_eq!(fast.told_otherwise(host, &name, other, time), otherwise);
                let holding = readings.iter().filter(|reading| reading.names.contains(&name));
                let holding: Vec<Reading<'_>> = holding.cloned().collect();
                let some = !holding.is_empty();
                let expected = (if some { holding } else { readings.clone() }, some);
                let found =
                    about.map(|about| about.readings(time, Some(&name), &bookmark)).unwrap_or_default();
                prop_assert_eq!(found, expected);
            }
        }
    }
    Ok(())
}

/// What is handed over as some of all messages is those that are meant.
fn same_selections(fast: &Ledger, slow: &reference::Ledger) -> Result<(), TestCaseError> {
    let (queries, answers) = (slow.queries(), slow.answers());
    let unsolicited = |answer: &&reference::Answer| slow.is_unsolicited(answer);
    let points: Vec<FramePoint> = fast.unsolicited_answers().map(|answer| answer.point).collect();
    let expected: Vec<FramePoint> = answers.iter().filter(unsolicited).map(|answer| answer.point).collect();
    prop_assert_eq!(points, expected);
    let points: Vec<FramePoint> = fast.untrusted_queries().map(|query| query.point).collect();
    let strange = queries.iter().filter(|query| !trusted(query.resolver));
    prop_assert_eq!(points, strange.map(|query| query.point).collect::<Vec<_>>());
    let count = |fits: &dyn Fn(&reference::Answer) -> bool| {
        answers.iter().filter(|answer| fits(answer)).count() as u64
    };
    let expected = Standings {
        queries: queries.len() as u64,
        unanswered: queries.iter().filter(|query| !query.answered).count() as u64,
        responses: count(&|_| true),
        unmatched: count(&|answer| !answer.matched),
        untrusted: count(&|answer| !answer.trusted),
        contested: count(&|answer| answer.contested),
        salvaged: count(&|answer| answer.salvaged),
    };
    prop_assert_eq!(fast.standings(), expected);

    let refuses = |rcode: u16| matches!(rcode, 2 | 3);
    let matters = |name: &DomainName| *name != self::name(2);
    let refused = |host: IpAddr, name: &DomainName| {
        let told = |answer: &&reference::Answer| answer.host == host && answer.names.first() == Some(name);
        answers.iter().filter(told).any(|answer| answer.matched && refuses(answer.rcode))
    };
    let unanswered = |host: IpAddr, name: &DomainName| -> Vec<Timestamp> {
        let asked = queries.iter().filter(|query| (query.host, &query.name) == (host, name));
        asked.filter(|query| !query.answered).map(|query| query.point.time).collect()
    };
    let in_trouble = |host: IpAddr, name: &DomainName| {
        matters(name) && (refused(host, name) || !unanswered(host, name).is_empty())
    };
    const WITHIN_NANOS: i64 = 5 * NANOS_PER_SECOND;
    let is_near = |host: IpAddr, name: &DomainName, time: Timestamp| {
        let near = |asked: &Timestamp| (-WITHIN_NANOS..=WITHIN_NANOS).contains(&time.since(*asked));
        refused(host, name) || unanswered(host, name).iter().any(near)
    };
    let troubled = fast.troubled(refuses, matters, WITHIN_NANOS);
    let found: Vec<_> = fast.queries_for(&troubled).map(|query| query.point).collect();
    let expected = queries.iter().filter(|query| {
        in_trouble(query.host, &query.name) && is_near(query.host, &query.name, query.point.time)
    });
    prop_assert_eq!(found, expected.map(|query| query.point).collect::<Vec<_>>());
    let found: Vec<_> = fast.answers_for(&troubled).map(|answer| answer.point).collect();
    let expected = answers.iter().filter(|answer| answer.matched);
    let mut resolved: HashMap<(IpAddr, &DomainName), usize, RandomState> = HashMap::default();
    let expected = expected.filter(|answer| {
        let Some(name) = answer.names.first().filter(|name| in_trouble(answer.host, name)) else {
            return false;
        };
        if is_near(answer.host, name, answer.point.time) {
            return true;
        }
        let told = resolved.entry((answer.host, name)).or_default();
        let tells = !answer.addresses.is_empty() && *told < RESOLVED_TOLD;
        *told += usize::from(tells);
        tells
    });
    prop_assert_eq!(found, expected.map(|answer| answer.point).collect::<Vec<_>>());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn it_answers_as_the_plain_ledger_does(messages in proptest::collection::vec(observation(), 0..40)) {
        same_answers(&messages)?;
    }

    /// However messages come, in time or late, and however often it is asked meanwhile.
    #[test]
    fn a_growing_ledger_answers_as_one_that_is_made_at_once_does(
        messages in proptest::collection::vec(observation(), 0..60),
        (in_order, parts) in (any::<bool>(), proptest::collection::vec(1..12_usize, 1..8)),
    ) {
        let mut messages = messages;
        if in_order {
            messages.sort_by_key(|message| message.point);
        }
        // The second after a pause.
        let begins: Arc<[Timestamp]> = [Timestamp(0), Timestamp(20 * NANOS_PER_SECOND)].into();
        let mut growing = GrowingLedger::default();
        let mut from = 0;
        for count in parts.into_iter().chain([messages.len()]) {
            let until = messages.len().min(from + count);
            messages[from..until].iter().cloned().for_each(|message| growing.add(message));
            from = until;
            growing.know(&host_of, &trusted, begins.clone());
            let slow = reference::Ledger::new(&messages[..until], &host_of, &trusted, begins.clone());
            same_as(growing.ledger(), &slow)?;
        }
        growing.forget_half();
        growing.know(&host_of, &trusted, begins.clone());
        messages.sort_by_key(|message| message.point);
        let rest = &messages[messages.len() / 2..];
        same_as(growing.ledger(), &reference::Ledger::new(rest, &host_of, &trusted, begins.clone()))?;
    }

    /// More answers for a name than stand between two checkpoints.
    #[test]
    fn it_answers_as_the_plain_ledger_does_where_one_name_is_asked_often(
        messages in proptest::collection::vec(observation(), 60..150),
    ) {
        let one = |mut message: DnsObservation| {
            message.client = Endpoint::new(ip(0), 5000);
            (message.message.id, message.message.qtype) = (0, 1);
            message.transport = Transport::Udp;
            message.message.qname = message.message.qname.map(|_| name(0));
            message
        };
        same_answers(&messages.into_iter().map(one).collect::<Vec<_>>())?;
    }
}
