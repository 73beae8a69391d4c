//! Routes that routers of the front end taught. They come as changes by prefix and are kept in a
//! table that snapshots share; where their next hops lie is decided anew for each lookup, by the
//! kernel's routes alone.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use nvgate_model::Prefix;

use super::learned::{LearnedChanges, LearnedRoute, MAX_NEXT_HOPS};
use super::shared_fib::SharedFib;

/// What a learned route of the front end leads to.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum UpstreamRoute {
    /// Neighbours that packets are shared among, by flow.
    Via(Arc<[IpAddr]>),
    /// Nowhere, as its teacher asked (RFC 7999).
    Discard,
}

/// The position of an [`UpstreamRoute`] among all that are in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct RouteIndex(u32);

/// The learned routes as a snapshot has them, cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct UpstreamFib {
    prefixes: SharedFib<RouteIndex>,
    routes: Arc<[UpstreamRoute]>,
}

impl UpstreamFib {
    /// What the longest prefix that contains `address` leads to.
    pub(super) fn lookup(&self, address: IpAddr) -> Option<(Prefix, &UpstreamRoute)> {
        let (prefix, index) = self.prefixes.lookup(address)?;
        Some((prefix, self.routes.get(index.0 as usize)?))
    }

    /// How many prefixes there are.
    pub(super) const fn len(&self) -> usize {
        self.prefixes.len()
    }
}

/// All of them, as control keeps them.
#[derive(Debug, Default)]
pub(super) struct Upstream {
    fib: UpstreamFib,
    used: Used,
    /// Grows with every change.
    pub(super) version: u64,
}

impl Upstream {
    pub(super) fn learn(&mut self, changes: LearnedChanges) {
        if changes.is_empty() {
            return;
        }
        self.version += 1;
        if changes.anew {
            self.fib = UpstreamFib::default();
            self.used = Used::default();
        }
        // Neighbouring changes mostly have the same next hops.
        let mut last: Option<(Arc<[IpAddr]>, RouteIndex)> = None;
        let mut indices = Vec::with_capacity(changes.routes.len());
        for (prefix, route) in changes.routes {
            let index = match (route, &last) {
                (None, _) => None,
                (Some(LearnedRoute::Via(hops)), Some((known, index)))
                    if Arc::ptr_eq(&hops, known) =>
                {
                    self.used.again(*index);
                    Some(*index)
                }
                (Some(LearnedRoute::Via(hops)), _) => {
                    let index = self.used.intern(via(&hops));
                    last = Some((hops, index));
                    Some(index)
                }
                (Some(LearnedRoute::Discard), _) => Some(self.used.intern(UpstreamRoute::Discard)),
            };
            indices.push((prefix, index));
        }
        self.fib.prefixes.apply(indices, |index| self.used.release(*index));
        if std::mem::take(&mut self.used.changed) {
            self.fib.routes = self.used.routes.clone().into();
        }
    }

    /// The table for a snapshot.
    pub(super) fn shared(&self) -> UpstreamFib {
        self.fib.clone()
    }

    /// The next hops that routes use.
    pub(super) fn next_hops(&self) -> BTreeSet<IpAddr> {
        let hops = self.used.indices.keys().filter_map(|route| match route {
            UpstreamRoute::Via(hops) => Some(hops.iter().copied()),
            UpstreamRoute::Discard => None,
        });
        hops.flatten().collect()
    }
}

/// Sorted, so that a flow's choice does not depend on who taught first.
fn via(hops: &[IpAddr]) -> UpstreamRoute {
    let mut hops = hops[..hops.len().min(MAX_NEXT_HOPS)].to_vec();
    hops.sort_unstable();
    hops.dedup();
    UpstreamRoute::Via(hops.into())
}

/// Each route that a prefix leads to once, and how many do.
#[derive(Debug, Default)]
struct Used {
    routes: Vec<UpstreamRoute>,
    counts: Vec<usize>,
    indices: HashMap<UpstreamRoute, RouteIndex>,
    free: Vec<RouteIndex>,
    /// Whether `routes` is another than a snapshot has.
    changed: bool,
}

impl Used {
    fn intern(&mut self, route: UpstreamRoute) -> RouteIndex {
        if let Some(&index) = self.indices.get(&route) {
            self.again(index);
            return index;
        }
        self.changed = true;
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.routes.push(UpstreamRoute::Discard);
                self.counts.push(0);
                RouteIndex(self.routes.len() as u32 - 1)
            }
        };
        self.routes[index.0 as usize] = route.clone();
        self.indices.insert(route, index);
        self.again(index);
        index
    }

    fn again(&mut self, index: RouteIndex) {
        self.counts[index.0 as usize] += 1;
    }

    fn release(&mut self, index: RouteIndex) {
        let count = &mut self.counts[index.0 as usize];
        *count -= 1;
        if *count == 0 {
            self.indices.remove(&self.routes[index.0 as usize]);
            self.free.push(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(hops: &[&str]) -> Option<LearnedRoute> {
        Some(LearnedRoute::Via(hops.iter().map(|hop| hop.parse().unwrap()).collect()))
    }

    fn changes(routes: &[(&str, Option<LearnedRoute>)]) -> LearnedChanges {
        let routes = routes.iter().map(|(prefix, route)| (prefix.parse().unwrap(), route.clone()));
        LearnedChanges { anew: false, routes: routes.collect() }
    }

    #[test]
    fn next_hops_are_those_of_the_routes_that_are_there() {
        let mut upstream = Upstream::default();
        let hops = |upstream: &Upstream| {
            upstream.next_hops().iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        upstream.learn(changes(&[
            ("0.0.0.0/0", route(&["198.51.100.3", "198.51.100.2"])),
            ("192.0.2.0/24", route(&["198.51.100.2", "198.51.100.3"])),
            ("192.88.99.0/24", Some(LearnedRoute::Discard)),
        ]));
        assert_eq!(hops(&upstream), ["198.51.100.2", "198.51.100.3"]);
        assert_eq!(upstream.used.routes.len(), 2, "in whichever order");
        let last = [("0.0.0.0/0", route(&["198.51.100.4"])), ("192.0.2.0/24", None)];
        upstream.learn(changes(&last));
        assert_eq!(hops(&upstream), ["198.51.100.4"]);
        let version = upstream.version;
        upstream.learn(LearnedChanges::default());
        assert_eq!(upstream.version, version, "nothing is no change");
        upstream.learn(LearnedChanges { anew: true, ..changes(&[]) });
        assert!(hops(&upstream).is_empty() && upstream.shared().len() == 0);
    }

    #[test]
    fn a_place_that_another_route_takes_leaves_older_tables_as_they_were() {
        let mut upstream = Upstream::default();
        let next = |fib: &UpstreamFib, address: &str| match fib.lookup(address.parse().unwrap()) {
            Some((_, UpstreamRoute::Via(hops))) => hops[0].to_string(),
            other => format!("{other:?}"),
        };
        upstream.learn(changes(&[("192.0.2.0/24", route(&["198.51.100.2"]))]));
        let before = upstream.shared();
        upstream.learn(changes(&[("192.0.2.0/24", None)]));
        upstream.learn(changes(&[("203.0.113.0/24", route(&["198.51.100.9"]))]));
        let after = upstream.shared();
        assert_eq!(upstream.used.routes.len(), 1, "the place is taken again");
        assert_eq!(next(&before, "192.0.2.1"), "198.51.100.2");
        assert_eq!(next(&after, "192.0.2.1"), "None");
        assert_eq!(next(&after, "203.0.113.1"), "198.51.100.9");
    }
}
