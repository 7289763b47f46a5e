//! Which findings of a kind come first, as far as the first flow of each tells.

use crate::audit::{Code, Severity};
use std::collections::BinaryHeap;
use std::net::IpAddr;

/// Of each kind of findings the least initiators of as many as are told: what findings of one kind are ordered by begins with the
/// initiator, so that one whose initiator is greater than all of these stands behind as many as are told.
pub(super) struct Foremost {
    /// How many of each kind are told.
    most: usize,
    of_kind: Vec<((Severity, Code), BinaryHeap<IpAddr>)>,
}

impl Foremost {
    pub(super) fn new(most: usize) -> Foremost {
        Foremost { most, of_kind: Vec::new() }
    }

    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// Whether all are told, of every kind.
    pub(super) fn are_all(&self) -> bool {
        self.most == usize::MAX
    }

    /// Takes the initiator of one more finding, unless it stands behind as many others as are told: whatever comes later, it
    /// will not be told.
    pub(super) fn admit(&mut self, kind: (Severity, Code), initiator: IpAddr) -> bool {
        let place = self.of_kind.iter().position(|(of, _)| *of == kind).unwrap_or_else(|| {
            self.of_kind.push((kind, BinaryHeap::new()));
            self.of_kind.len() - 1
        });
        let Some((_, least)) = self.of_kind.get_mut(place) else { return true };
        if least.len() < self.most {
            least.push(initiator);
            return true;
        }
        let Some(mut greatest) = least.peek_mut() else { return false };
        let admitted = initiator <= *greatest;
        if initiator < *greatest {
            *greatest = initiator;
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: (Severity, Code) = (Severity::High, Code::UnexpectedTraffic);

    fn admitted(foremost: &mut Foremost, kind: (Severity, Code), hosts: &[u8]) -> Vec<bool> {
        hosts.iter().map(|&host| foremost.admit(kind, [10, 0, 0, host].into())).collect()
    }

    #[test]
    fn whoever_stands_behind_as_many_as_are_told_is_not_admitted() {
        let mut three = Foremost::new(3);
        assert_eq!(admitted(&mut three, KIND, &[50, 60, 40]), [true; 3]);
        // As great as the last of them may stand before it by what is compared next.
        assert_eq!(admitted(&mut three, KIND, &[61, 60, 255]), [false, true, false]);
        // Each lesser one moves the end forward: of 10, 20 and 40 the last is 40.
        assert_eq!(
            admitted(&mut three, KIND, &[20, 10, 50, 40, 30, 40]),
            [true, true, false, true, true, false]
        );
        // Other kinds have ends of their own.
        let other = (Severity::Medium, Code::UnexpectedTraffic);
        assert_eq!(admitted(&mut three, other, &[255, 254, 253, 252, 255]), [true, true, true, true, false]);
    }

    #[test]
    fn of_none_that_are_told_none_is_admitted_and_of_all_each() {
        assert_eq!(admitted(&mut Foremost::new(0), KIND, &[1, 2]), [false; 2]);
        let mut all = Foremost::new(usize::MAX);
        assert!(all.are_all());
        assert_eq!(admitted(&mut all, KIND, &[1, 2, 1, 255]), [true; 4]);
    }
}
