//! Broadcast and multicast within a virtual subnet, replicated by unicast (RFC 7637 section 4.2):
//! one copy for every host of the subnet, none back to the host a frame came from.
//!
//! A list is built with the lookup records and never changes; how often it may be walked is the
//! tenant's budget, which the dispatcher keeps.

use std::collections::BTreeMap;

use crate::lookup::{Endpoint, HostIndex};

/// The most copies one frame becomes.
pub const MAX_REPLICAS: usize = 256;

/// The hosts of one virtual subnet.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ReplicationList {
    /// One provider address a host.
    targets: Box<[HostIndex]>,
    /// Every provider address of those hosts with its host's place in `targets`, sorted.
    members: Box<[(HostIndex, u16)]>,
    cut: usize,
}

impl ReplicationList {
    /// The hosts of these endpoints, all of one subnet, in the order they first appear. Endpoints
    /// that share a provider address are on the same host, which gets its copy at the first
    /// address of its first endpoint. Hosts past [`MAX_REPLICAS`] get none: see
    /// [`cut`](Self::cut).
    #[must_use]
    pub fn new<'a>(endpoints: impl IntoIterator<Item = &'a Endpoint>) -> Self {
        let groups = Groups::of(endpoints);
        let roots: Vec<usize> =
            (0..groups.parents.len()).filter(|&group| groups.parents[group] == group).collect();
        let kept = &roots[..roots.len().min(MAX_REPLICAS)];
        let members = groups.group_of.iter().filter_map(|(&host, &group)| {
            let place = kept.binary_search(&groups.root(group)).ok()?;
            Some((host, place as u16))
        });
        Self {
            members: members.collect(),
            targets: kept.iter().map(|&group| groups.first_hosts[group]).collect(),
            cut: roots.len() - kept.len(),
        }
    }

    /// The provider addresses that get a copy of a frame from `from`: one a host, without the
    /// host `from` belongs to. A frame of the gateway's own (`None`) goes to all.
    pub fn others(&self, from: Option<HostIndex>) -> impl Iterator<Item = HostIndex> {
        let sender = from.and_then(|from| {
            let at = self.members.binary_search_by_key(&from, |&(host, _)| host).ok()?;
            Some(usize::from(self.members[at].1))
        });
        let targets = self.targets.iter().enumerate();
        targets.filter(move |&(place, _)| Some(place) != sender).map(|(_, &host)| host)
    }

    /// How many hosts get a copy of a frame of the gateway's own, at most [`MAX_REPLICAS`].
    #[must_use]
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    /// Whether the subnet has no host.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// How many hosts get no copy because there are more than [`MAX_REPLICAS`].
    #[must_use]
    pub const fn cut(&self) -> usize {
        self.cut
    }
}

/// Provider addresses grouped into hosts: disjoint sets in which the root of a group is its first
/// endpoint's.
#[derive(Default)]
struct Groups {
    parents: Vec<usize>,
    first_hosts: Vec<HostIndex>,
    group_of: BTreeMap<HostIndex, usize>,
}

impl Groups {
    fn of<'a>(endpoints: impl IntoIterator<Item = &'a Endpoint>) -> Self {
        let mut groups = Self::default();
        for endpoint in endpoints {
            let known = endpoint.hosts().iter().filter_map(|host| groups.group_of.get(host));
            let roots: Vec<usize> = known.map(|&group| groups.root(group)).collect();
            let root = roots.iter().copied().min().unwrap_or_else(|| {
                groups.parents.push(groups.parents.len());
                groups.first_hosts.push(endpoint.host());
                groups.parents.len() - 1
            });
            for joined in roots {
                groups.parents[joined] = root;
            }
            for &host in endpoint.hosts() {
                groups.group_of.insert(host, root);
            }
        }
        groups
    }

    /// The root of a group; parents come before their children, so the walk ends.
    fn root(&self, mut group: usize) -> usize {
        while self.parents[group] != group {
            group = self.parents[group];
        }
        group
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use nvgate_model::{MacAddress, Vsid};
    use proptest::prelude::*;

    use super::*;

    fn on(hosts: &[u16]) -> Endpoint {
        let hosts: Vec<_> = hosts.iter().copied().map(HostIndex).collect();
        let mac = MacAddress([2, 0, 0, 0, 0, 1]);
        Endpoint::new(mac, Vsid::new(5001).unwrap(), &hosts).unwrap()
    }

    fn others(list: &ReplicationList, from: Option<u16>) -> Vec<u16> {
        list.others(from.map(HostIndex)).map(|host| host.0).collect()
    }

    #[test]
    fn each_host_gets_one_copy_and_the_sender_none() {
        let list = ReplicationList::new(&[on(&[7]), on(&[3, 4]), on(&[7]), on(&[4]), on(&[9])]);
        assert_eq!(others(&list, None), [7, 3, 9]);
        assert_eq!(others(&list, Some(7)), [3, 9]);
        assert_eq!(others(&list, Some(4)), [7, 9]);
        assert_eq!(others(&list, Some(1)), [7, 3, 9], "a host outside the subnet");
        assert_eq!((list.len(), list.cut()), (3, 0));
    }

    #[test]
    fn addresses_that_a_later_endpoint_joins_are_one_host() {
        let list = ReplicationList::new(&[on(&[1]), on(&[2]), on(&[3]), on(&[2, 3]), on(&[3, 1])]);
        assert_eq!(others(&list, None), [1]);
        for host in [1, 2, 3] {
            assert!(others(&list, Some(host)).is_empty());
        }
    }

    #[test]
    fn an_empty_subnet_has_nobody() {
        let list = ReplicationList::new([]);
        assert!(list.is_empty() && others(&list, None).is_empty());
    }

    #[test]
    fn hosts_past_the_bound_are_cut_and_counted() {
        let endpoints: Vec<_> = (0..300).map(|host| on(&[host])).collect();
        let list = ReplicationList::new(&endpoints);
        assert_eq!((list.len(), list.cut()), (MAX_REPLICAS, 44));
        assert_eq!(others(&list, Some(5)).len(), MAX_REPLICAS - 1);
        assert_eq!(others(&list, Some(299)).len(), MAX_REPLICAS);
    }

    proptest! {
        #[test]
        fn no_host_gets_two_copies_and_none_is_forgotten(
            hosts in proptest::collection::vec(proptest::collection::vec(0_u16..60, 1..4), 0..40), from in 0_u16..60,
        ) {
            let endpoints: Vec<_> = hosts.iter().map(|hosts| on(hosts)).collect();
            let list = ReplicationList::new(&endpoints);
            // The naive way: grow each set until nothing is added.
            let mut sets: Vec<BTreeSet<u16>> = hosts.iter().map(|hosts| hosts.iter().copied().collect()).collect();
            for _ in 0..sets.len() {
                for left in 0..sets.len() {
                    for right in 0..sets.len() {
                        if !sets[left].is_disjoint(&sets[right]) {
                            let joined: BTreeSet<u16> = sets[left].union(&sets[right]).copied().collect();
                            sets[left] = joined.clone();
                            sets[right] = joined;
                        }
                    }
                }
            }
            let distinct: BTreeSet<_> = sets.into_iter().collect();
            let copies = others(&list, Some(from));
            for set in &distinct {
                let count = copies.iter().filter(|host| set.contains(host)).count();
                prop_assert_eq!(count, usize::from(!set.contains(&from)));
            }
            prop_assert_eq!(list.len(), distinct.len());
        }
    }
}
