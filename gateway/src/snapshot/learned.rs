//! What neighbours taught, as the speaker hands it on.

use std::net::IpAddr;
use std::sync::Arc;

use nvgate_model::Prefix;

/// Next hops of one route that packets are shared among; further ones are left out.
pub const MAX_NEXT_HOPS: usize = 16;

/// What a learned route leads to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LearnedRoute {
    /// Addresses that forward further, in order of preference for [`MAX_NEXT_HOPS`].
    Via(Arc<[IpAddr]>),
    /// Dropped, as its teacher asked (RFC 7999).
    Discard,
}

/// What became of prefixes: a route now, or none.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LearnedChanges {
    /// Whether everything that was learned before goes first.
    pub anew: bool,
    /// The prefixes that changed, in the order in which they did: of the same one the last holds.
    pub routes: Vec<(Prefix, Option<LearnedRoute>)>,
}

impl LearnedChanges {
    /// Everything that was learned goes.
    #[must_use]
    pub const fn nothing() -> Self {
        Self { anew: true, routes: Vec::new() }
    }

    /// Whether nothing changes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        !self.anew && self.routes.is_empty()
    }

    /// These changes and then `later`. However often that happens, it takes no more memory than a few
    /// times the prefixes that changed.
    pub fn add(&mut self, later: Self) {
        if later.anew || self.is_empty() {
            let anew = self.anew || later.anew;
            *self = Self { anew, ..later };
            return;
        }
        if self.routes.len() + later.routes.len() > self.routes.capacity() {
            self.settle();
            if self.routes.len() > self.routes.capacity() / 2 {
                self.routes.reserve(self.routes.len() + later.routes.len());
            }
        }
        self.routes.extend(later.routes);
    }

    /// Leaves the last change of each prefix.
    fn settle(&mut self) {
        self.routes.sort_by_key(|(prefix, _)| *prefix);
        self.routes.dedup_by(|later, kept| {
            let alike = later.0 == kept.0;
            if alike {
                std::mem::swap(later, kept);
            }
            alike
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn discard(text: &str, gone: bool) -> (Prefix, Option<LearnedRoute>) {
        (text.parse().unwrap(), (!gone).then_some(LearnedRoute::Discard))
    }

    /// What holds in the end.
    fn outcome(changes: &LearnedChanges) -> BTreeMap<Prefix, Option<LearnedRoute>> {
        changes.routes.iter().cloned().collect()
    }

    #[test]
    fn of_two_changes_the_later_one_holds() {
        let mut changes = LearnedChanges::default();
        assert!(changes.is_empty());
        let first = vec![discard("10.0.0.0/8", false), discard("10.1.0.0/16", false)];
        changes.add(LearnedChanges { anew: false, routes: first });
        changes.add(LearnedChanges { anew: false, routes: vec![discard("10.0.0.0/8", true)] });
        let expected = [discard("10.0.0.0/8", true), discard("10.1.0.0/16", false)].into();
        assert_eq!(outcome(&changes), expected);
        changes.add(LearnedChanges::nothing());
        assert_eq!(changes, LearnedChanges::nothing());
        changes.add(LearnedChanges { anew: false, routes: vec![discard("10.0.0.0/8", false)] });
        assert!(changes.anew, "what was before goes all the same");
        assert_eq!(changes.routes, [discard("10.0.0.0/8", false)]);
    }

    #[test]
    fn prefixes_that_flap_while_nobody_looks_take_no_memory() {
        let mut changes = LearnedChanges::default();
        let prefixes: Vec<String> = (0..100).map(|number| format!("10.0.{number}.0/24")).collect();
        for round in 0..1000 {
            let routes = prefixes.iter().map(|text| discard(text, round % 2 == 0)).collect();
            changes.add(LearnedChanges { anew: false, routes });
        }
        assert!(changes.routes.capacity() <= 800, "{}", changes.routes.capacity());
        assert_eq!(outcome(&changes).len(), 100);
        assert!(outcome(&changes).values().all(Option::is_some), "as the last round left them");
    }
}
