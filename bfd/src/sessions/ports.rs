//! Source ports of sessions (RFC 5881 section 4): 49152 to 65535, the same for all packets of a
//! session, shared only when there are more sessions than ports.

use crate::chance::Secrets;

const FIRST: u16 = 49_152;
const COUNT: usize = 16_384;

/// How many sessions use each port.
#[derive(Clone, Debug)]
pub(super) struct Ports {
    users: Box<[u16]>,
    /// No port has fewer users.
    least: u16,
}

impl Ports {
    pub(super) fn new() -> Self {
        Self { users: vec![0; COUNT].into_boxed_slice(), least: 0 }
    }

    /// A port that no other has fewer users than, at random.
    pub(super) fn lend(&mut self, secrets: &mut Secrets) -> u16 {
        let start = (secrets.draw() % COUNT as u64) as usize;
        let (before, after) = self.users.split_at(start);
        let index = match after.iter().position(|users| *users == self.least) {
            Some(offset) => start + offset,
            None => before.iter().position(|users| *users == self.least).unwrap_or(start),
        };
        self.users[index] = self.users[index].saturating_add(1);
        self.least = self.users.iter().copied().min().unwrap_or(0);
        FIRST + index as u16
    }

    pub(super) fn give_back(&mut self, port: u16) {
        if let Some(users) = self.users.get_mut(usize::from(port.saturating_sub(FIRST))) {
            *users = users.saturating_sub(1);
            self.least = self.least.min(*users);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ports_are_of_the_range_and_shared_only_when_all_are_used() {
        let (mut ports, mut secrets) = (Ports::new(), Secrets::new(5));
        let lent: BTreeSet<u16> = (0..COUNT).map(|_| ports.lend(&mut secrets)).collect();
        assert_eq!(lent.len(), COUNT);
        assert_eq!((lent.first(), lent.last()), (Some(&49_152), Some(&65_535)));
        let shared: BTreeSet<u16> = (0..100).map(|_| ports.lend(&mut secrets)).collect();
        assert_eq!(shared.len(), 100);
    }

    #[test]
    fn a_port_given_back_is_lent_before_any_is_shared() {
        let (mut ports, mut secrets) = (Ports::new(), Secrets::new(5));
        for _ in 0..COUNT {
            ports.lend(&mut secrets);
        }
        ports.give_back(50_000);
        assert_eq!(ports.lend(&mut secrets), 50_000);
    }
}
