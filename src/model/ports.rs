//! Sets of transport ports as vendors write them.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Ports that one documented row permits, as the vendor writes them: `1433, 11000-11999`.
///
/// Never empty, and every range ascends: [`FromStr`] is the only way in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSet(Vec<RangeInclusive<u16>>);

/// One item of the text is no port and no ascending range of ports.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{item}` is not a port or an ascending range of ports, such as `443` or `11000-11999`")]
pub struct PortSetError {
    item: String,
}

impl PortSet {
    /// Whether `port` is in the set.
    pub fn contains(&self, port: u16) -> bool {
        self.0.iter().any(|range| range.contains(&port))
    }

    /// The ranges, in the order written; a single port is a range of one.
    pub fn ranges(&self) -> &[RangeInclusive<u16>] {
        &self.0
    }
}

impl FromStr for PortSet {
    type Err = PortSetError;

    fn from_str(text: &str) -> Result<Self, PortSetError> {
        let range = |item: &str| {
            let (low, high) = item.split_once('-').unwrap_or((item, item));
            let (low, high) = (low.trim().parse().ok()?, high.trim().parse().ok()?);
            (1 <= low && low <= high).then_some(low..=high)
        };
        let parse = |item: &str| range(item).ok_or_else(|| PortSetError { item: item.trim().into() });
        Ok(PortSet(text.split(',').map(parse).collect::<Result<_, _>>()?))
    }
}

impl fmt::Display for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            if range.start() == range.end() {
                write!(f, "{comma}{}", range.start())?;
            } else {
                write!(f, "{comma}{}-{}", range.start(), range.end())?;
            }
        }
        Ok(())
    }
}

impl Serialize for PortSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PortSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_set_reads_what_vendors_write() {
        let sql: PortSet = "1433, 11000-11999".parse().unwrap();
        assert!(sql.contains(1433) && sql.contains(11_999) && !sql.contains(12_000));
        assert_eq!(sql.to_string(), "1433, 11000-11999");
        for bad in ["", "443,", "11999-11000", "0", "70000", "https"] {
            assert!(bad.parse::<PortSet>().is_err(), "{bad:?}");
        }
    }
}
