//! Routes that routers of the front end taught. They come as changes by prefix and are kept in a
//! table that snapshots share; where their next hops lie is decided anew for each lookup, by the
//! kernel's routes alone.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use super::learned::{LearnedChanges, LearnedRoute, MAX_NEXT_HOPS};
use super::shared_fib::SharedFib;

/// What a learned route of the front end leads to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum UpstreamRoute {
    /// Neighbours that packets are shared among, by flow.
    Via(Arc<[IpAddr]>),
    /// Nowhere, as its teacher asked (RFC 7999).
    Discard,
}

/// All of them, as control keeps them.
#[derive(Debug, Default)]
pub(super) struct Upstream {
    pub(super) routes: SharedFib<UpstreamRoute>,
    /// Each set of next hops once, and how many routes use it.
    sets: HashMap<Arc<[IpAddr]>, usize>,
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
            self.routes = SharedFib::default();
            self.sets.clear();
        }
        for (prefix, route) in changes.routes {
            let before = match route {
                None => self.routes.remove(prefix),
                Some(LearnedRoute::Discard) => self.routes.insert(prefix, UpstreamRoute::Discard),
                Some(LearnedRoute::Via(hops)) => {
                    let set = self.set(&hops);
                    self.routes.insert(prefix, UpstreamRoute::Via(set))
                }
            };
            if let Some(UpstreamRoute::Via(set)) = before {
                self.release(&set);
            }
        }
    }

    fn set(&mut self, hops: &[IpAddr]) -> Arc<[IpAddr]> {
        // Sorted, so that a flow's choice does not depend on who taught first.
        let mut hops = hops[..hops.len().min(MAX_NEXT_HOPS)].to_vec();
        hops.sort_unstable();
        hops.dedup();
        let known = self.sets.get_key_value(&hops[..]).map(|(set, _)| Arc::clone(set));
        let set = known.unwrap_or_else(|| hops.into());
        *self.sets.entry(Arc::clone(&set)).or_default() += 1;
        set
    }

    fn release(&mut self, set: &Arc<[IpAddr]>) {
        let Some(count) = self.sets.get_mut(set) else { return };
        *count -= 1;
        if *count == 0 {
            self.sets.remove(set);
        }
    }

    /// The next hops that routes use.
    pub(super) fn next_hops(&self) -> BTreeSet<IpAddr> {
        self.sets.keys().flat_map(|set| set.iter().copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn via(hops: &[&str]) -> Option<LearnedRoute> {
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
            ("0.0.0.0/0", via(&["198.51.100.3", "198.51.100.2"])),
            ("192.0.2.0/24", via(&["198.51.100.2", "198.51.100.3"])),
            ("192.88.99.0/24", Some(LearnedRoute::Discard)),
        ]));
        assert_eq!(hops(&upstream), ["198.51.100.2", "198.51.100.3"]);
        assert_eq!(upstream.sets.len(), 1, "in whichever order");
        upstream.learn(changes(&[("0.0.0.0/0", via(&["198.51.100.4"])), ("192.0.2.0/24", None)]));
        assert_eq!(hops(&upstream), ["198.51.100.4"]);
        let version = upstream.version;
        upstream.learn(LearnedChanges::default());
        assert_eq!(upstream.version, version, "nothing is no change");
        upstream.learn(LearnedChanges { anew: true, ..changes(&[]) });
        assert!(hops(&upstream).is_empty() && upstream.routes.is_empty());
    }
}
