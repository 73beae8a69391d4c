//! Gratuitous ARP for leased addresses: at start, after a lease moved to another tenant, and when
//! the front-end port's MAC changed; twice, since nobody confirms it (RFC 5227 section 2.3).

use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::time::Duration;

use nvgate_model::{DomainSlot, Instant, MacAddress};

use crate::dispatch::{Dispatcher, Io};
use crate::snapshot::Snapshot;

/// Announcements a turn of the worker's loop.
const PER_TURN: usize = 16;
/// When an announcement is repeated.
const REPEAT_AFTER: Duration = Duration::from_secs(2);

/// Knows what was announced and what is due.
#[derive(Debug, Default)]
pub(super) struct Announcer {
    mac: MacAddress,
    known: HashMap<Ipv4Addr, DomainSlot>,
    due: VecDeque<Ipv4Addr>,
    repeat: VecDeque<(Instant, Ipv4Addr)>,
}

impl Announcer {
    /// Takes note of what a new snapshot changes. The queues never hold more than every leased
    /// address twice.
    pub(super) fn follow(&mut self, snapshot: &Snapshot, now: Instant) {
        let leased: HashMap<Ipv4Addr, DomainSlot> = snapshot.announced_v4().collect();
        let mut fresh: Vec<Ipv4Addr> = leased
            .iter()
            .filter(|&(address, slot)| {
                self.mac != snapshot.front_end.mac || self.known.get(address) != Some(slot)
            })
            .map(|(&address, _)| address)
            .collect();
        fresh.sort_unstable();
        self.due.retain(|address| leased.contains_key(address) && !fresh.contains(address));
        self.repeat.retain(|(_, address)| leased.contains_key(address) && !fresh.contains(address));
        self.due.extend(&fresh);
        self.repeat.extend(fresh.into_iter().map(|address| (now + REPEAT_AFTER, address)));
        self.known = leased;
        self.mac = snapshot.front_end.mac;
    }

    /// Sends what is due, a few at a time.
    pub(super) fn announce(
        &mut self,
        dispatcher: &mut Dispatcher,
        snapshot: &Snapshot,
        now: Instant,
        io: &mut Io<'_>,
    ) {
        while self.repeat.front().is_some_and(|&(at, _)| at <= now) {
            self.due.extend(self.repeat.pop_front().map(|(_, address)| address));
        }
        for _ in 0..PER_TURN {
            let Some(address) = self.due.pop_front() else { return };
            if dispatcher.announce(snapshot, address, io).is_err() {
                self.due.push_front(address);
                return;
            }
        }
    }
}
