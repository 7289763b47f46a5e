//! A ledger that is asked again and again while messages come.

use super::{Exchanges, Hearing, Ledger, Share, Standing, number};
use crate::model::Timestamp;
use crate::names::{DnsLog, DnsObservation};
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

/// A ledger to which messages are added: each is matched and told once, and only put in its place anew. It answers as one that is
/// made of all of them at once.
#[derive(Default)]
pub struct GrowingLedger {
    ledger: Ledger,
    exchanges: Exchanges,
    hearing: Hearing,
    /// Messages that are not taken in yet.
    fresh: DnsLog,
}

impl GrowingLedger {
    /// Adds a message, which is known once [`GrowingLedger::know`] is called.
    pub fn add(&mut self, message: DnsObservation) {
        self.fresh.push(message);
    }

    /// Whether there are messages that are not known yet.
    pub fn has_news(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.ledger.log.len() + self.fresh.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that the messages take, about.
    pub fn kept_bytes(&self) -> usize {
        self.ledger.log.kept_bytes() + self.fresh.kept_bytes()
    }

    /// Forgets the older half of what is known.
    pub fn forget_half(&mut self) {
        let mut rest = DnsLog::default();
        let log = &self.ledger.log;
        log.since(log.len() / 2).for_each(|message| rest.push(message));
        self.ledger.log = rest;
        self.start_over();
    }

    /// Everything is made anew the next time: another site says who is who.
    pub fn start_over(&mut self) {
        let log = std::mem::take(&mut self.ledger.log);
        (self.exchanges, self.hearing) = Default::default();
        self.ledger = Ledger { log, begins: self.ledger.begins.clone(), ..Ledger::default() };
    }

    /// Takes in what was added; for the arguments see [`Ledger::new`].
    pub fn know(
        &mut self,
        host_of: &dyn Fn(IpAddr) -> IpAddr,
        trusted: &dyn Fn(IpAddr) -> bool,
        begins: Arc<[Timestamp]>,
    ) {
        let mut fresh = std::mem::take(&mut self.fresh);
        fresh.sort();
        let point = |entry: Option<&super::Entry>| entry.map(super::Entry::point);
        let (last, first) = (point(self.ledger.log.entries().last()), point(fresh.entries().first()));
        self.ledger.log.append(fresh);
        if first.is_some_and(|first| last > Some(first)) {
            // One that came late: of a connection that was read late, or of another device.
            self.ledger.log.sort();
            self.start_over();
        }
        self.ledger.begins = begins;
        if !self.grow(host_of, trusted) {
            self.start_over();
            self.grow(host_of, trusted);
        }
    }

    /// Adds the messages behind those that are known; false where these have another standing now, so that what was made of them
    /// does not hold.
    fn grow(&mut self, host_of: &dyn Fn(IpAddr) -> IpAddr, trusted: &dyn Fn(IpAddr) -> bool) -> bool {
        let GrowingLedger { ledger, exchanges, hearing, .. } = self;
        let known = ledger.standing.len();
        ledger.read_bodies();
        ledger.meet_parties(known, host_of, trusted);
        let end = number(ledger.log.len());
        let new: Vec<u32> = (number(known)..end).collect();
        exchanges.take(ledger, &new);
        let standings = exchanges.standings(ledger, 0..end);
        // What hosts were told rests on these. An answer may turn out to be contested: that is looked up where it is laid out.
        const TOLD: u8 = Standing::RESPONSE | Standing::MATCHED | Standing::TRUSTED | Standing::UNSOLICITED;
        let as_before =
            |(old, new): (&Standing, &Standing)| !new.bit(Standing::RESPONSE) || new.has(TOLD, old.0 & TOLD);
        if !ledger.standing.iter().zip(&standings).all(as_before) {
            return false;
        }
        ledger.standing = standings;
        ledger.count_told();
        ledger.find_forged();
        let mut share = ledger.shares.pop().unwrap_or_else(Share::default);
        share.hear(ledger, hearing, &new);
        share.lay_out(ledger, hearing);
        ledger.shares.push(share);
        ledger.for_names = OnceLock::new();
        true
    }

    /// What is known.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }
}
