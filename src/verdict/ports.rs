//! Ports that no rule and no line of the baseline tells apart: a verdict on one of them is that on the others. A database
//! behind a thousand ports, or a scan of all of them, makes a few verdicts.

use super::classify::Carried;
use crate::model::{Distinct, Transport};
use foldhash::fast::RandomState;
use hashbrown::HashMap;

/// The number of a set of ports of one transport that are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct PortsAlike(u32);

impl PortsAlike {
    /// Another one for each set.
    pub(super) fn number(self) -> u32 {
        self.0
    }
}

/// Who carries a port: places of rules, and lines of the baseline.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Carriers {
    pub rules: Box<[usize]>,
    pub lines: Box<[Carried]>,
}

/// Ports met so far, each held against the rules once.
#[derive(Default)]
pub(super) struct Ports {
    carriers: Distinct<Carriers>,
    /// By transport, as far as there were any; by port one more than its number, 0 where it was not met.
    met: HashMap<Transport, Vec<u32>, RandomState>,
    /// Most flows have the transport and port of a flow shortly before.
    last: [Option<(Transport, u16, PortsAlike)>; LAST],
}

/// Ports that are remembered by themselves.
const LAST: usize = 16;

impl Ports {
    /// What a port is like; `find` is asked of each port once.
    pub(super) fn alike(
        &mut self,
        transport: Transport,
        port: u16,
        find: impl FnOnce() -> Carriers,
    ) -> PortsAlike {
        let Ports { carriers, met, last } = self;
        let slot = last.get_mut(usize::from(port) % LAST);
        if let Some(Some((of, known, alike))) = slot
            && (*of, *known) == (transport, port)
        {
            return *alike;
        }
        let met = met.entry(transport).or_default();
        let place = usize::from(port);
        if met.len() <= place {
            met.resize(place + 1, 0);
        }
        let known = met.get_mut(place);
        let number = match known.as_ref().and_then(|known| known.checked_sub(1)) {
            Some(number) => number,
            None => {
                let found = find();
                let hash = carriers.hash(&found);
                let known = carriers.find(hash, |other| *other == found);
                known.unwrap_or_else(|| carriers.insert(hash, found))
            }
        };
        known.into_iter().for_each(|known| *known = number + 1);
        let alike = PortsAlike(number);
        slot.into_iter().for_each(|slot| *slot = Some((transport, port, alike)));
        alike
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_the_same_carriers_are_alike_and_are_asked_about_once() {
        let mut ports = Ports::default();
        let of = |port: u16| Carriers {
            rules: if (100..200).contains(&port) { [7].into() } else { [].into() },
            lines: [].into(),
        };
        let mut asked = 0;
        let mut alike = |transport, port| {
            ports.alike(transport, port, || {
                asked += 1;
                of(port)
            })
        };
        let (within, beside) = (alike(Transport::Tcp, 100), alike(Transport::Tcp, 99));
        assert_ne!(within, beside);
        for round in 0..2 {
            for port in [0, 1, 99, 100, 101, 116, 199, 200, 65_535] {
                let expected = if (100..200).contains(&port) { within } else { beside };
                assert_eq!(alike(Transport::Tcp, port), expected, "{round}: {port}");
                assert_eq!(alike(Transport::Udp, port), expected, "{round}: {port}");
            }
        }
        assert_eq!(asked, 2 * 9);
    }
}
