//! What a place announces of its own, and why. One prefix can be announced for several reasons, each
//! of which lets other peers see it; the table has one route of it, whose number stands for all its
//! reasons.

use std::collections::BTreeMap;

use nvgate_model::Prefix;

use crate::attributes::Attributes;
use crate::policy::{RouteSource, Site};
use crate::rib::Origination;

/// Why a place announces a prefix of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum OwnRoute {
    /// It is the place's: a domain's subnet, a leased address or pool of the front end.
    Local,
    /// A static route.
    Static {
        /// Whether it is marked to be announced.
        announce: bool,
    },
    /// What one site sees, see [`TenantFacts::seen_by`](crate::policy::TenantFacts::seen_by).
    Translated(Site),
}

/// The own routes of a place.
#[derive(Debug, Default)]
pub(super) struct Origins {
    routes: BTreeMap<Prefix, Own>,
    /// Sets of reasons by their numbers, and how many prefixes have each.
    sets: Vec<(Box<[OwnRoute]>, u32)>,
    numbers: BTreeMap<Box<[OwnRoute]>, u32>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Own {
    /// Ascending; what the first has as attributes the prefix is announced with.
    reasons: BTreeMap<OwnRoute, Attributes>,
    number: u32,
}

/// What the table is to hold of a prefix now.
pub(super) enum Held<'a> {
    Route(&'a Attributes, Origination),
    Nothing,
}

impl OwnRoute {
    pub(super) const fn source(self) -> RouteSource {
        match self {
            Self::Local => RouteSource::Local,
            Self::Static { announce } => RouteSource::Static { announce },
            Self::Translated(site) => RouteSource::Translated(site),
        }
    }
}

impl Origins {
    /// The reasons that a number stands for.
    pub(super) fn reasons(&self, number: Origination) -> &[OwnRoute] {
        self.sets.get(number.0 as usize).map_or(&[], |(reasons, _)| reasons)
    }

    /// Adds a reason, or replaces its attributes.
    pub(super) fn insert(
        &mut self,
        prefix: Prefix,
        reason: OwnRoute,
        attributes: Attributes,
    ) -> Held<'_> {
        let old = self.routes.remove(&prefix);
        let (mut reasons, number) =
            old.map_or((BTreeMap::new(), None), |own| (own.reasons, Some(own.number)));
        reasons.insert(reason, attributes);
        self.put(prefix, reasons, number)
    }

    /// Takes a reason away; none if there was no such one.
    pub(super) fn remove(&mut self, prefix: Prefix, reason: OwnRoute) -> Option<Held<'_>> {
        self.routes.get_mut(&prefix)?.reasons.remove(&reason)?;
        let own = self.routes.remove(&prefix)?;
        Some(self.put(prefix, own.reasons, Some(own.number)))
    }

    /// Forgets the prefix: the table could not hold it.
    pub(super) fn remove_all(&mut self, prefix: Prefix) {
        if let Some(own) = self.routes.remove(&prefix) {
            self.release(own.number);
        }
    }

    fn put(
        &mut self,
        prefix: Prefix,
        reasons: BTreeMap<OwnRoute, Attributes>,
        old: Option<u32>,
    ) -> Held<'_> {
        // The old number goes after the new one was taken, so that another set has another number.
        let number = (!reasons.is_empty()).then(|| self.acquire(reasons.keys().copied().collect()));
        old.into_iter().for_each(|old| self.release(old));
        let Some(number) = number else { return Held::Nothing };
        let own = self.routes.entry(prefix).or_insert(Own { reasons, number });
        match own.reasons.values().next() {
            Some(attributes) => Held::Route(attributes, Origination(number)),
            None => Held::Nothing,
        }
    }

    fn acquire(&mut self, reasons: Box<[OwnRoute]>) -> u32 {
        if let Some(number) = self.numbers.get(&reasons) {
            self.sets[*number as usize].1 += 1;
            return *number;
        }
        let number = self.free.pop().unwrap_or(self.sets.len() as u32);
        self.numbers.insert(reasons.clone(), number);
        match self.sets.get_mut(number as usize) {
            Some(set) => *set = (reasons, 1),
            None => self.sets.push((reasons, 1)),
        }
        number
    }

    fn release(&mut self, number: u32) {
        let (reasons, count) = &mut self.sets[number as usize];
        *count -= 1;
        if *count == 0 {
            self.numbers.remove(reasons);
            *reasons = Box::default();
            self.free.push(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::Origin;

    fn number(held: Held<'_>) -> Option<(u32, u32)> {
        match held {
            Held::Route(attributes, Origination(number)) => Some((attributes.med.unwrap(), number)),
            Held::Nothing => None,
        }
    }

    #[test]
    fn a_prefix_has_a_number_for_its_reasons_which_changes_with_them() {
        let mut origins = Origins::default();
        let attributes = |med| {
            let next_hop = std::net::Ipv4Addr::UNSPECIFIED.into();
            let mut attributes = Attributes::originated(next_hop, Origin::Igp);
            attributes.med = Some(med);
            attributes
        };
        let prefix: Prefix = "10.0.0.0/24".parse().unwrap();
        let (one, two) = (OwnRoute::Translated(Site(1)), OwnRoute::Translated(Site(2)));
        assert_eq!(number(origins.insert(prefix, one, attributes(1))), Some((1, 0)));
        assert_eq!(number(origins.insert(prefix, two, attributes(2))), Some((1, 1)));
        assert_eq!(origins.reasons(Origination(1)), [one, two]);
        assert_eq!(origins.remove(prefix, one).map(number), Some(Some((2, 0))));
        assert_eq!(
            (origins.reasons(Origination(0)), origins.reasons(Origination(1))),
            (&[two][..], &[][..])
        );
        assert!(origins.remove(prefix, one).is_none());
        assert_eq!(origins.remove(prefix, two).map(number), Some(None));
        assert_eq!((origins.free.len(), origins.numbers.len()), (2, 0));
    }
}
