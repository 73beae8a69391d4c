//! The lists that rules refer to by name: each once, each used, none but those that there are.

use std::collections::{BTreeMap, HashSet};

use nvgate_bgp::policy::{AnyCommunity, AsnRange, CommunityPattern, PrefixRange};
use nvgate_model::Prefix;

use crate::schema::bgp::{
    AsList, AsSpan, CommunityList, Either, ListedPrefix, PrefixList, PrefixReference,
};
use crate::schema::{At, Findings, Place, entries, hint};

/// Things of one kind under names.
pub(super) struct Named<T> {
    /// What messages call one, and what remedy there is for one that is not used.
    kind: &'static str,
    entries: BTreeMap<String, (Place, T)>,
    used: HashSet<String>,
}

impl<T> Named<T> {
    pub(super) fn new(kind: &'static str) -> Self {
        Self { kind, entries: BTreeMap::new(), used: HashSet::new() }
    }

    pub(super) fn insert(&mut self, name: &str, place: Place, value: T, findings: &mut Findings) {
        if let Some((first, _)) = self.entries.get(name) {
            let message = format!("{} `{name}` is defined twice", self.kind);
            findings.conflict(place, message, *first, "defined here first");
            return;
        }
        self.entries.insert(name.to_owned(), (place, value));
    }

    /// What has the name, from now on used. `intact` says whether all there are are known.
    pub(super) fn lookup(
        &mut self,
        name: &str,
        place: Place,
        intact: bool,
        findings: &mut Findings,
    ) -> Option<&T> {
        if let Some((_, value)) = self.entries.get(name) {
            self.used.insert(name.to_owned());
            return Some(value);
        }
        if intact {
            let hint = hint(name, self.entries.keys().map(String::as_str));
            findings.error(place, format!("no {} is named `{name}`{hint}", self.kind));
        }
        None
    }

    /// Refuses what nothing refers to.
    pub(super) fn prove_used(&self, users: &str, findings: &mut Findings) {
        let unused = self.entries.iter().filter(|(name, _)| !self.used.contains(*name));
        for (name, (place, _)) in unused {
            let kind = self.kind;
            let message = format!("{kind} `{name}` is used by no {users}; use it, or remove it");
            findings.error(*place, message);
        }
    }
}

/// The lists of one place.
pub(super) struct Lists {
    pub(super) prefixes: Named<Vec<PrefixRange>>,
    pub(super) communities: Named<Vec<CommunityPattern>>,
    pub(super) as_numbers: Named<Vec<AsnRange>>,
}

impl Lists {
    /// Proves the lists by themselves.
    pub(super) fn prove(
        prefix_lists: &[At<PrefixList>],
        community_lists: &[At<CommunityList>],
        as_lists: &[At<AsList>],
        findings: &mut Findings,
    ) -> Self {
        let mut lists = Self {
            prefixes: Named::new("prefix list"),
            communities: Named::new("community list"),
            as_numbers: Named::new("AS list"),
        };
        for list in prefix_lists {
            let Some(name) = &list.value.name else { continue };
            let ranges =
                entries(&list.value.prefixes).iter().filter_map(|entry| match &entry.value {
                    Either::Short(prefix) => exactly(*prefix),
                    Either::Record(listed) => prove_range(listed, findings),
                });
            let ranges = ranges.collect();
            lists.prefixes.insert(&name.value.0, name.place, ranges, findings);
        }
        for list in community_lists {
            let Some(name) = &list.value.name else { continue };
            let text = name.value.0.as_str();
            if text.parse::<AnyCommunity>().is_ok() {
                let message =
                    format!("`{text}` is a well-known community; call the list otherwise");
                findings.error(name.place, message);
                continue;
            }
            let patterns = entries(&list.value.communities).iter();
            let patterns = patterns.map(|entry| entry.value.clone()).collect();
            lists.communities.insert(text, name.place, patterns, findings);
        }
        for list in as_lists {
            let Some(name) = &list.value.name else { continue };
            let ranges = entries(&list.value.asns).iter();
            let ranges = ranges.filter_map(|entry| range_of(entry.value)).collect();
            lists.as_numbers.insert(&name.value.0, name.place, ranges, findings);
        }
        lists
    }

    /// The prefixes that an entry of a condition means.
    pub(super) fn prefixes_of(
        &mut self,
        entry: &At<Either<PrefixReference, ListedPrefix>>,
        intact: bool,
        findings: &mut Findings,
    ) -> Vec<PrefixRange> {
        match &entry.value {
            Either::Short(PrefixReference::Prefix(prefix)) => {
                exactly(*prefix).into_iter().collect()
            }
            Either::Short(PrefixReference::List(name)) => {
                let found = self.prefixes.lookup(name, entry.place, intact, findings);
                found.cloned().unwrap_or_default()
            }
            Either::Record(listed) => prove_range(listed, findings).into_iter().collect(),
        }
    }

    pub(super) fn prove_used(&self, findings: &mut Findings) {
        self.prefixes.prove_used("rule", findings);
        self.communities.prove_used("rule", findings);
        self.as_numbers.prove_used("rule", findings);
    }
}

/// The range of numbers; there always is one, for it was read as such.
pub(super) fn range_of(span: AsSpan) -> Option<AsnRange> {
    AsnRange::new(span.first, span.last).ok()
}

fn exactly(prefix: Prefix) -> Option<PrefixRange> {
    PrefixRange::new(prefix, None, None).ok()
}

fn prove_range(listed: &ListedPrefix, findings: &mut Findings) -> Option<PrefixRange> {
    use nvgate_bgp::policy::InvalidPrefixRange;
    let prefix = listed.prefix?.value;
    let length = |number: u32| u8::try_from(number).unwrap_or(u8::MAX);
    let ge = listed.ge.map(|ge| length(ge.value.0));
    let le = listed.le.map(|le| length(le.value.0));
    let refuse = |error: InvalidPrefixRange| {
        let at_ge = match error {
            InvalidPrefixRange::BelowLength { bound, .. }
            | InvalidPrefixRange::BeyondFamily { bound, .. } => bound == "ge",
            InvalidPrefixRange::Reversed { .. } => false,
        };
        let places = [listed.ge.map(|ge| ge.place), listed.le.map(|le| le.place)];
        if let Some(place) = places[usize::from(!at_ge)] {
            findings.error(place, format!("{error}; no prefix would match"));
        }
    };
    PrefixRange::new(prefix, ge, le).map_err(refuse).ok()
}
