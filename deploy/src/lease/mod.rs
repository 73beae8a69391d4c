//! Which tenant holds which front-end address of which pool. A lease is remembered under the
//! routing domain, the pool and a number that counts the tenant's addresses of that pool, never
//! under a file's name or place, so it survives restarts and every change that is not its own.

mod store;

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};

use nvgate_model::{Prefix, RoutingDomainId};

pub use store::{LeaseStore, LeaseStoreError, in_use};

/// What a lease is remembered under.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LeaseKey {
    /// The routing domain that holds it.
    pub routing_domain: RoutingDomainId,
    /// The pool it is from.
    pub pool: String,
    /// Which of the domain's addresses of that pool, from 0.
    pub ordinal: u32,
}

/// All leases, and the addresses that were given back, least recently first.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Leases {
    held: BTreeMap<LeaseKey, Ipv4Addr>,
    released: VecDeque<(LeaseKey, Ipv4Addr)>,
}

/// A pool, as leasing sees it.
#[derive(Clone, Debug)]
pub(crate) struct LeasePool {
    pub(crate) name: String,
    pub(crate) prefixes: Vec<Prefix>,
    pub(crate) excepted: Vec<Prefix>,
}

/// What a routing domain asks of a pool.
#[derive(Clone, Debug)]
pub(crate) struct LeaseRequest {
    pub(crate) routing_domain: RoutingDomainId,
    pub(crate) pool: String,
    pub(crate) count: u32,
}

impl Leases {
    /// The leases with these entries, the released ones least recently first.
    #[must_use]
    pub fn new(
        held: impl IntoIterator<Item = (LeaseKey, Ipv4Addr)>,
        released: impl IntoIterator<Item = (LeaseKey, Ipv4Addr)>,
    ) -> Self {
        Self { held: held.into_iter().collect(), released: released.into_iter().collect() }
    }

    /// The leases that are held, ordered by key.
    pub fn held(&self) -> impl Iterator<Item = (&LeaseKey, Ipv4Addr)> {
        self.held.iter().map(|(key, &address)| (key, address))
    }

    /// The addresses that were given back and by whom, least recently first.
    pub fn released(&self) -> impl Iterator<Item = (&LeaseKey, Ipv4Addr)> {
        self.released.iter().map(|(key, address)| (key, *address))
    }

    /// The address held under `key`.
    #[must_use]
    pub fn address(&self, key: &LeaseKey) -> Option<Ipv4Addr> {
        self.held.get(key).copied()
    }

    /// The leases after `requests` are met from `pools`, without the addresses in `reserved`.
    ///
    /// What is held and still asked for stays. A new lease is, in this order: the address its key
    /// gave back, the lowest address that was never leased, the address given back longest ago. A
    /// request that a pool has no address for stays unmet: its key is not among the held ones.
    #[must_use]
    pub(crate) fn renewed(
        &self,
        pools: &[LeasePool],
        requests: &[LeaseRequest],
        reserved: &HashSet<Ipv4Addr>,
    ) -> Self {
        let usable = |pool: &str, address: Ipv4Addr| {
            !reserved.contains(&address)
                && pools.iter().any(|candidate| candidate.name == pool && candidate.leases(address))
        };
        let wanted: BTreeSet<LeaseKey> = requests.iter().flat_map(LeaseRequest::keys).collect();
        let mut next = Self::default();
        let mut seen: HashSet<Ipv4Addr> = HashSet::new();
        for (key, &address) in &self.held {
            if usable(&key.pool, address) && wanted.contains(key) && seen.insert(address) {
                next.held.insert(key.clone(), address);
            }
        }
        let given_back = self.held.iter().filter(|(key, _)| !wanted.contains(*key));
        let given_back = given_back.map(|(key, &address)| (key.clone(), address));
        for (key, address) in self.released.iter().cloned().chain(given_back) {
            if usable(&key.pool, address) && seen.insert(address) {
                next.released.push_back((key, address));
            }
        }
        for pool in pools {
            next.grant(pool, requests, reserved, &mut seen);
        }
        next
    }

    /// Meets what is unmet of one pool; `seen` are the addresses held or given back.
    fn grant(
        &mut self,
        pool: &LeasePool,
        requests: &[LeaseRequest],
        reserved: &HashSet<Ipv4Addr>,
        seen: &mut HashSet<Ipv4Addr>,
    ) {
        let mut unmet: Vec<LeaseKey> = requests
            .iter()
            .filter(|request| request.pool == pool.name)
            .flat_map(LeaseRequest::keys)
            .filter(|key| !self.held.contains_key(key))
            .collect();
        if unmet.is_empty() {
            return;
        }
        let returning: HashSet<LeaseKey> = unmet.iter().cloned().collect();
        let held = &mut self.held;
        self.released.retain(|(key, address)| {
            let returns = returning.contains(key) && !held.contains_key(key);
            if returns {
                held.insert(key.clone(), *address);
            }
            !returns
        });
        unmet.retain(|key| !self.held.contains_key(key));
        let oldest: Vec<Ipv4Addr> = self
            .released
            .iter()
            .filter_map(|(key, address)| (key.pool == pool.name).then_some(*address))
            .collect();
        let fresh =
            pool.addresses().filter(|address| !reserved.contains(address) && seen.insert(*address));
        let mut reused = HashSet::new();
        for (key, address) in unmet.into_iter().zip(fresh.chain(oldest)) {
            reused.insert(address);
            self.held.insert(key, address);
        }
        self.released.retain(|(_, address)| !reused.contains(address));
    }
}

impl LeaseRequest {
    /// The keys of the addresses asked for.
    pub(crate) fn keys(&self) -> impl Iterator<Item = LeaseKey> + '_ {
        (0..self.count).map(|ordinal| LeaseKey {
            routing_domain: self.routing_domain,
            pool: self.pool.clone(),
            ordinal,
        })
    }
}

impl LeasePool {
    /// The prefixes without what is excepted.
    pub(crate) fn leasable(&self) -> Vec<Prefix> {
        self.excepted.iter().fold(self.prefixes.clone(), |prefixes, &hole| {
            prefixes.into_iter().flat_map(|prefix| prefix.without(hole)).collect()
        })
    }

    /// Whether the pool leases `address`.
    pub(crate) fn leases(&self, address: Ipv4Addr) -> bool {
        let within =
            |prefixes: &[Prefix]| prefixes.iter().any(|prefix| prefix.contains(address.into()));
        within(&self.prefixes) && !within(&self.excepted)
    }

    /// The addresses the pool leases, lowest first within each prefix.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> + '_ {
        let range = |prefix: &Prefix| match prefix.network() {
            IpAddr::V4(first) => {
                let first = first.to_bits();
                Some(first..=first.saturating_add(u32::try_from(prefix.size() - 1).ok()?))
            }
            IpAddr::V6(_) => None,
        };
        self.prefixes
            .iter()
            .filter_map(range)
            .flatten()
            .map(Ipv4Addr::from_bits)
            .filter(|address| self.leases(*address))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn domain(number: u8) -> RoutingDomainId {
        RoutingDomainId::from_bytes([number; 16])
    }

    fn pool(prefix: &str, excepted: &[&str]) -> LeasePool {
        LeasePool {
            name: "public".to_owned(),
            prefixes: vec![prefix.parse().unwrap()],
            excepted: excepted.iter().map(|text| text.parse().unwrap()).collect(),
        }
    }

    fn request(number: u8, count: u32) -> LeaseRequest {
        LeaseRequest { routing_domain: domain(number), pool: "public".to_owned(), count }
    }

    fn held(leases: &Leases, number: u8) -> Vec<u8> {
        leases
            .held()
            .filter(|(key, _)| key.routing_domain == domain(number))
            .map(|(_, address)| address.octets()[3])
            .collect()
    }

    fn renew(leases: &Leases, requests: &[LeaseRequest]) -> Leases {
        leases.renewed(&[pool("203.0.113.16/29", &["203.0.113.17/32"])], requests, &HashSet::new())
    }

    #[test]
    fn leases_outlive_reordering_and_other_tenants_coming_and_going() {
        let first = renew(&Leases::default(), &[request(1, 2), request(2, 1)]);
        assert_eq!((held(&first, 1), held(&first, 2)), (vec![16, 18], vec![19]));
        let reordered = renew(&first, &[request(3, 1), request(2, 1), request(1, 2)]);
        assert_eq!(held(&reordered, 1), [16, 18]);
        assert_eq!(held(&reordered, 2), [19]);
        assert_eq!(held(&reordered, 3), [20]);
        let alone = renew(&reordered, &[request(2, 1)]);
        assert_eq!(held(&alone, 2), [19]);
    }

    #[test]
    fn a_released_address_is_reused_last_and_least_recently_released_first() {
        let leases = renew(&Leases::default(), &[request(1, 1), request(2, 1)]);
        let leases = renew(&leases, &[request(1, 1)]);
        let leases = renew(&leases, &[]);
        let leases = renew(&leases, &[request(3, 6)]);
        assert_eq!(held(&leases, 3), [19, 20, 21, 22, 23, 18]);
        assert_eq!(leases.released().map(|(_, at)| at.octets()[3]).collect::<Vec<_>>(), [16]);
    }

    #[test]
    fn who_comes_back_gets_the_same_address() {
        let leases = renew(&Leases::default(), &[request(1, 1), request(2, 2)]);
        let gone = renew(&leases, &[request(1, 1)]);
        let back = renew(&gone, &[request(9, 3), request(2, 2), request(1, 1)]);
        assert_eq!(held(&back, 2), held(&leases, 2));
        assert_eq!(back.released().count(), 0);
    }

    #[test]
    fn asking_for_fewer_gives_back_the_highest_ordinals() {
        let leases = renew(&Leases::default(), &[request(1, 3)]);
        let fewer = renew(&leases, &[request(1, 1)]);
        assert_eq!(held(&fewer, 1), [16]);
        assert_eq!(fewer.released().map(|(key, _)| key.ordinal).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn a_reserved_address_is_never_leased() {
        let reserved = HashSet::from(["203.0.113.16".parse().unwrap()]);
        let pools = [pool("203.0.113.16/30", &[])];
        let leases = Leases::default().renewed(&pools, &[request(1, 9)], &reserved);
        assert_eq!(held(&leases, 1), [17, 18, 19]);
    }

    #[test]
    fn an_address_that_left_its_pool_is_forgotten() {
        let leases = renew(&Leases::default(), &[request(1, 2)]);
        let moved =
            leases.renewed(&[pool("198.51.100.0/30", &[])], &[request(1, 1)], &HashSet::new());
        assert_eq!(held(&moved, 1), [0]);
        assert_eq!(moved.released().count(), 0);
    }

    proptest! {
        #[test]
        fn no_address_is_leased_twice_and_what_stays_asked_for_stays(
            rounds in prop::collection::vec(prop::collection::vec((0_u8..5, 1_u32..4), 0..5), 1..12),
        ) {
            let mut leases = Leases::default();
            for round in rounds {
                let by_domain: BTreeMap<u8, u32> = round.into_iter().collect();
                let requests: Vec<_> =
                    by_domain.iter().map(|(&number, &count)| request(number, count)).collect();
                let next = renew(&leases, &requests);
                let addresses: Vec<_> = next.held().chain(next.released()).map(|(_, at)| at).collect();
                let distinct: HashSet<_> = addresses.iter().collect();
                prop_assert_eq!(distinct.len(), addresses.len());
                prop_assert!(addresses.len() <= 7);
                for key in requests.iter().flat_map(LeaseRequest::keys) {
                    if let Some(before) = leases.address(&key) {
                        prop_assert_eq!(next.address(&key), Some(before));
                    }
                }
                let asked: u32 = by_domain.values().sum();
                prop_assert_eq!(next.held().count(), usize::min(asked as usize, 7));
                prop_assert_eq!(&renew(&next, &requests), &next);
                leases = next;
            }
        }
    }
}
