//! What one capture gave: the line of a summary file, and the input of an audit.

use crate::model::{NotChosen, Spans, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// How reading a capture ended. `"complete"` in JSON, or where and why it stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// At its end.
    Complete,
    /// Everything before `frame` was read and counts; nothing after it did.
    Damaged {
        /// The number that the damaged frame would have had.
        frame: u64,
        /// Bytes from the start of the (decompressed) file to its header.
        offset: u64,
        /// What is wrong there.
        problem: String,
    },
    /// Nobody waited for its end. Everything before `frame` was read and counts; nothing after it did.
    Interrupted {
        /// The number of the first frame that was not read.
        frame: u64,
        /// Bytes from the start of the (decompressed) file to its header.
        offset: u64,
    },
}

#[derive(Serialize, Deserialize)]
struct Damage {
    frame: u64,
    offset: u64,
    problem: String,
    /// Tells it from a damage.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    interrupted: bool,
}

impl Serialize for End {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            End::Complete => serializer.serialize_str("complete"),
            End::Damaged { frame, offset, problem } => {
                let (frame, offset, problem) = (*frame, *offset, problem.clone());
                Damage { frame, offset, problem, interrupted: false }.serialize(serializer)
            }
            End::Interrupted { frame, offset } => {
                let (frame, offset, problem) = (*frame, *offset, "reading was interrupted".to_owned());
                Damage { frame, offset, problem, interrupted: true }.serialize(serializer)
            }
        }
    }
}

impl<'de> Deserialize<'de> for End {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Word(String),
            Damage(Damage),
        }
        match Either::deserialize(deserializer)? {
            Either::Word(word) if word == "complete" => Ok(End::Complete),
            Either::Word(word) => Err(serde::de::Error::custom(format!("`{word}` is no end of a capture"))),
            Either::Damage(Damage { frame, offset, interrupted: true, .. }) => {
                Ok(End::Interrupted { frame, offset })
            }
            Either::Damage(Damage { frame, offset, problem, .. }) => {
                Ok(End::Damaged { frame, offset, problem })
            }
        }
    }
}

/// Packets within others, by the ends of the outermost: in JSON a count for each "10.1.0.4 > 203.0.113.66". Of more than
/// [`Tunnels::MOST_ENDS`] pairs the first by address are told, and of the rest together the packets (`others`): so it does not matter
/// in which order they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tunnels {
    ends: BTreeMap<(IpAddr, IpAddr), u64>,
    others: u64,
}

impl Tunnels {
    /// Pairs of ends that are told.
    pub const MOST_ENDS: usize = 1 << 10;

    const OTHERS: &'static str = "others";

    /// Packets that were sent within others between these.
    pub fn add(&mut self, ends: (IpAddr, IpAddr), packets: u64) {
        *self.ends.entry(ends).or_default() += packets;
        if self.ends.len() > Self::MOST_ENDS {
            self.others += self.ends.pop_last().map_or(0, |(_, packets)| packets);
        }
    }

    /// Adds those of another part of the capture.
    pub fn merge(&mut self, part: &Tunnels) {
        part.ends().for_each(|(ends, packets)| self.add(ends, packets));
        self.others += part.others;
    }

    /// Between whom how many packets were sent within others; those of further pairs left out.
    pub fn ends(&self) -> impl Iterator<Item = ((IpAddr, IpAddr), u64)> {
        self.ends.iter().map(|(&ends, &packets)| (ends, packets))
    }

    /// Whether there was none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty() && self.others == 0
    }
}

impl Serialize for Tunnels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let others = (self.others > 0).then(|| (Self::OTHERS.to_owned(), self.others));
        let told = self.ends().map(|((from, to), packets)| (format!("{from} > {to}"), packets));
        serializer.collect_map(told.chain(others))
    }
}

impl<'de> Deserialize<'de> for Tunnels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut tunnels = Tunnels::default();
        for (told, packets) in BTreeMap::<String, u64>::deserialize(deserializer)? {
            let ends =
                told.split_once(" > ").and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
            match ends {
                Some(ends) => tunnels.add(ends, packets),
                None if told == Self::OTHERS => tunnels.others += packets,
                None => return Err(serde::de::Error::custom(format!("`{told}` is no pair of addresses"))),
            }
        }
        Ok(tunnels)
    }
}

/// Which part of a capture was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chosen {
    /// The frames that this filter chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// The frames of this time and later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// The frames before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Link types for which the filter cannot be compiled: none of their frames was chosen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unfit: Vec<UnfitLink>,
}

/// A link type for which a filter cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnfitLink {
    /// The link type.
    pub link_type: String,
    /// The first frame that has it.
    pub frame: u64,
    /// Bytes from the start of the (decompressed) file to that frame's header.
    pub offset: u64,
    /// What the compiler says.
    pub problem: String,
}

impl std::fmt::Display for UnfitLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "frame {}, at byte {}: the filter cannot be compiled for link type {} ({}): frames of that type were left out",
            self.frame, self.offset, self.link_type, self.problem
        )
    }
}

/// Where frames of a live run were lost: offered = frames of the capture + the others here but estimates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveCounts {
    /// Frames that the devices offered.
    pub offered: u64,
    /// Frames that the kernel dropped since its ring was full.
    pub kernel_dropped: u64,
    /// Frames that devices or their drivers dropped.
    pub interface_dropped: u64,
    /// Frames that were still in the ring when the run ended; none where that is not known (a device whose frames the kernel
    /// counts twice).
    pub unread: Option<u64>,
    /// Times that a device went away: each counts as one lost frame among the drops.
    pub gaps: u64,
    /// Conversations cut early since the table was full: no loss, they are joined again.
    pub evicted: u64,
    /// Times that the table of open conversations was so full that they stayed open for a shorter time.
    #[serde(default)]
    pub emergencies: u64,
    /// Conversations cut early only since it was so: no loss, they are joined again.
    #[serde(default)]
    pub hurried: u64,
    /// Frames that were seen and judged, and could not be written to the file that should hold them.
    #[serde(default)]
    pub unsaved: u64,
    /// Acknowledgements of TCP data.
    pub acknowledgements: u64,
    /// Those of data that were not seen: an estimate of what is missing and nobody counted.
    pub unseen_acknowledged: u64,
}

/// What one capture gave. frames = packets + duplicates counted among them + sum of skipped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureSummary {
    /// Its name as given.
    pub path: Arc<str>,
    /// SHA-256 of the file as stored; none where nobody asked for it.
    pub sha256: Option<String>,
    /// Size of the file as stored, bytes; what was read of it, if reading was interrupted.
    pub bytes: u64,
    /// Format, byte order, resolution, compression.
    pub format: String,
    /// Link types met.
    pub link_types: Vec<String>,
    /// Frames read.
    pub frames: u64,
    /// Frames that gave a packet.
    pub packets: u64,
    /// Frames that gave none, by reason.
    pub skipped: BTreeMap<String, u64>,
    /// Earliest time.
    pub first_ts: Option<Timestamp>,
    /// Latest time.
    pub last_ts: Option<Timestamp>,
    /// Frames cut by the snapshot length.
    pub snaplen_cut: u64,
    /// Frames that the capturing machine dropped, by the file's own statistics; none where it has no statistics.
    pub drops: Option<u64>,
    /// Frames seen within 5 ms on another interface of this capture (included in `packets`).
    pub duplicates: u64,
    /// Frames seen within 5 ms on the same interface.
    pub same_interface_copies: u64,
    /// Frames of link upkeep, by kind.
    pub upkeep: BTreeMap<String, u64>,
    /// Packets that belong to no flow, by reason.
    pub without_flow: BTreeMap<String, u64>,
    /// Packets within others: what is inside is what was judged.
    #[serde(default, skip_serializing_if = "Tunnels::is_empty")]
    pub tunnels: Tunnels,
    /// ICMP errors whose quoted packet cannot be read.
    pub unreadable_quotes: u64,
    /// Frames without a time of their own, or with one that nobody can tell (after the year 2262).
    pub without_time: u64,
    /// Blocks of unknown kind, skipped.
    pub unknown_blocks: u64,
    /// Intervals in which frames came with gaps of at most 3 s.
    pub spans: Spans,
    /// The part of it that was asked for; none where all of it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen: Option<Chosen>,
    /// Of a live run: where frames were lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<LiveCounts>,
    /// Why nothing of it could be read at all: then the rest is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
    /// How reading it ended.
    pub end: End,
    /// Rows of flows that begin in it: whole ones, or stretches with `--partial`.
    pub flows: u64,
    /// Rows of names from it: with `--partial` one a DNS message over UDP.
    pub names: u64,
}

/// How the name of a capture begins that is no file: a segment of a live run that kept no frames.
pub const NOT_KEPT: &str = "live:";

impl CaptureSummary {
    /// Of a capture that could not be read at all.
    pub fn of_unreadable(path: &str, problem: &str) -> Self {
        CaptureSummary {
            unreadable: Some(problem.to_owned()),
            end: End::Damaged { frame: 1, offset: 0, problem: problem.to_owned() },
            ..CaptureSummary::of_nothing(path, "")
        }
    }

    /// Of a capture that is whole and in which nothing is.
    pub(crate) fn of_nothing(path: &str, format: &str) -> Self {
        CaptureSummary {
            path: path.into(),
            sha256: None,
            bytes: 0,
            format: format.to_owned(),
            link_types: Vec::new(),
            frames: 0,
            packets: 0,
            skipped: BTreeMap::new(),
            first_ts: None,
            last_ts: None,
            snaplen_cut: 0,
            drops: None,
            duplicates: 0,
            same_interface_copies: 0,
            upkeep: BTreeMap::new(),
            without_flow: BTreeMap::new(),
            tunnels: Tunnels::default(),
            unreadable_quotes: 0,
            without_time: 0,
            unknown_blocks: 0,
            spans: Spans::default(),
            chosen: None,
            live: None,
            unreadable: None,
            end: End::Complete,
            flows: 0,
            names: 0,
        }
    }

    /// Frames skipped for other reasons than being known not to be IP, and other than by choice: neither says anything about
    /// the evidence. A packet that belongs to no flow is as good as skipped: nobody knows what it was part of.
    pub fn undecodable(&self) -> u64 {
        let known = |reason: &str| {
            matches!(reason, "arp" | "not-ip") || NotChosen::ALL.iter().any(|not| not.as_str() == reason)
        };
        let skipped = self.skipped.iter().filter(|(reason, _)| !known(reason)).map(|(_, count)| count);
        skipped.chain(self.without_flow.values()).sum()
    }

    /// Frames that were looked at: all but those left out by choice.
    pub fn looked_at(&self) -> u64 {
        let left_out = NotChosen::ALL.iter().filter_map(|not| self.skipped.get(not.as_str()));
        self.frames.saturating_sub(left_out.sum())
    }

    /// Whether it was read to its end, and of every frame it is known whether it was asked for.
    pub fn whole(&self) -> bool {
        self.end == End::Complete && self.chosen.as_ref().is_none_or(|chosen| chosen.unfit.is_empty())
    }

    /// Share of undecodable frames over several captures, in millionths; `further` are some that only all captures together show.
    pub fn undecodable_ppm(captures: &[CaptureSummary], further: u64) -> u64 {
        let frames: u64 = captures.iter().map(CaptureSummary::looked_at).sum();
        let undecodable: u64 = captures.iter().map(CaptureSummary::undecodable).sum();
        ((undecodable + further) * 1_000_000).checked_div(frames).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_too_many_tunnels_the_first_by_address_are_told_however_they_come_and_are_parted() {
        let most = Tunnels::MOST_ENDS as u32;
        let ends = |number: u32| (IpAddr::from(number.to_be_bytes()), IpAddr::from([10, 0, 0, 1]));
        let all: Vec<u32> = (0..most + 100).map(|number| number * 7_919 % (most + 100)).collect();
        let of = |numbers: &[u32]| {
            let mut tunnels = Tunnels::default();
            numbers.iter().for_each(|&number| tunnels.add(ends(number), 2));
            tunnels
        };
        let told = of(&all);
        assert!(told.ends().map(|(ends, _)| ends).eq((0..most).map(ends)));
        assert!(told.ends().all(|(_, packets)| packets == 2));
        assert_eq!(told.others, 200);
        for cut in [0, 1, 500, all.len()] {
            let (mut first, second) = (of(&all[..cut]), of(&all[cut..]));
            first.merge(&second);
            assert_eq!(first, told, "{cut}");
        }
        let json = serde_json::to_string(&told).unwrap();
        assert!(json.contains("\"0.0.0.7 > 10.0.0.1\":2") && json.contains("\"others\":200"), "{json}");
        assert_eq!(serde_json::from_str::<Tunnels>(&json).unwrap(), told);
        assert!(serde_json::from_str::<Tunnels>(r#"{"here > there": 1}"#).is_err());
        assert!(Tunnels::default().is_empty() && !told.is_empty());
    }
}
