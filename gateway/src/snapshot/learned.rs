//! What neighbours taught, as the speaker hands it on.

use std::collections::BTreeMap;
use std::net::IpAddr;

use nvgate_model::Prefix;

/// Next hops of one route that packets are shared among; further ones are left out.
pub const MAX_NEXT_HOPS: usize = 16;

/// What a learned route leads to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LearnedRoute {
    /// Addresses that forward further, in order of preference for [`MAX_NEXT_HOPS`].
    Via(Box<[IpAddr]>),
    /// Dropped, as its teacher asked (RFC 7999).
    Discard,
}

/// What became of prefixes: a route now, or none.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LearnedChanges {
    /// Whether everything that was learned before goes first.
    pub anew: bool,
    /// The prefixes that changed.
    pub routes: BTreeMap<Prefix, Option<LearnedRoute>>,
}

impl LearnedChanges {
    /// Everything that was learned goes.
    #[must_use]
    pub const fn nothing() -> Self {
        Self { anew: true, routes: BTreeMap::new() }
    }

    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.anew && self.routes.is_empty()
    }

    /// These changes and then `later`.
    pub fn add(&mut self, later: Self) {
        if later.anew {
            *self = later;
        } else {
            self.routes.extend(later.routes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_changes_the_later_one_holds() {
        let prefix = |text: &str| text.parse::<Prefix>().unwrap();
        let discard = |text, gone: bool| (prefix(text), (!gone).then_some(LearnedRoute::Discard));
        let mut changes = LearnedChanges::default();
        assert!(changes.is_empty());
        changes.add(LearnedChanges {
            anew: false,
            routes: [discard("10.0.0.0/8", false), discard("10.1.0.0/16", false)].into(),
        });
        changes.add(LearnedChanges { anew: false, routes: [discard("10.0.0.0/8", true)].into() });
        let expected = [discard("10.0.0.0/8", true), discard("10.1.0.0/16", false)].into();
        assert_eq!(changes, LearnedChanges { anew: false, routes: expected });
        changes.add(LearnedChanges::nothing());
        assert_eq!(changes, LearnedChanges::nothing());
        assert!(!changes.is_empty());
    }
}
