//! From records of rules to compiled policies: what a rule asks and does, in the direction that
//! peers use it in.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Write};
use std::net::IpAddr;
use std::sync::Arc;

use nvgate_bgp::config::PolicyReference;
use nvgate_bgp::policy::{
    Action, AddressSet, AsPathTest, AsnRange, AsnSet, CommunityChange, CommunityPattern,
    CommunityTest, Condition, Direction, HopRange, InvalidPolicy, NextHopAddress, Policy,
    PrefixList, PrefixRange, Prepend, Quantifier, Rule, RuleId, SourceSet, Then, Verdict,
};

use super::lists::{Lists, Named, range_of};
use crate::plan::bgp::RulePlace;
use crate::schema::bgp::{
    self as schema, AsEntry, CommunityEntry, Either, NextHopSetting, PolicyName, ThenWord,
    VerdictWord,
};
use crate::schema::{At, Findings, Place, Source, entries, hint};

/// Where a peer by a name is; none of a range.
pub(super) type PeerAddresses = BTreeMap<String, Option<IpAddr>>;

/// Prefixes, communities and AS numbers that the rules of one place hold, those of lists counted in
/// each rule that refers to them: every rule has a copy.
const MAX_HELD: usize = 262_144;

/// The policies of one place.
pub(super) struct Policies {
    named: Named<usize>,
    drafts: Vec<PolicyDraft>,
    compiled: HashMap<(usize, bool), Option<Compiled>>,
    pub(super) places: Vec<RulePlace>,
}

type Compiled = (PolicyReference, Arc<Policy>);

/// A policy before it is known which direction it is for.
struct PolicyDraft {
    name: String,
    rules: Vec<RuleDraft>,
    default: Verdict,
    /// Whether none of its rules had to be left out after an error.
    whole: bool,
    /// Whether it was refused for what is so in both directions.
    refused: bool,
}

struct RuleDraft {
    rule: Rule,
    place: Place,
    /// Where it says what only one direction can do.
    weight: Option<Place>,
    next_hop_self: Option<Place>,
}

/// The proof of a place's policies, and what it has to look at.
pub(super) struct RuleProof<'a> {
    pub(super) lists: &'a mut Lists,
    pub(super) peers: &'a PeerAddresses,
    pub(super) intact: bool,
    pub(super) sources: &'a [Source],
    /// What becomes of routes that no rule decides about, unless a policy says so.
    pub(super) default: Verdict,
    /// What the rules hold so far.
    pub(super) held: usize,
    pub(super) findings: &'a mut Findings,
}

impl RuleProof<'_> {
    pub(super) fn prove(mut self, policies: &[At<schema::Policy>]) -> Policies {
        let mut proven = Policies {
            named: Named::new("policy"),
            drafts: Vec::new(),
            compiled: HashMap::new(),
            places: Vec::new(),
        };
        for policy in policies {
            let Some(name) = &policy.value.name else { continue };
            if name.value.0 == PolicyName::NONE {
                let message = "`none` stands for no policy; call this one otherwise";
                self.findings.error(name.place, message);
                continue;
            }
            let draft = self.policy(&policy.value, &name.value.0, &mut proven.places);
            if entries(&policy.value.rules).is_empty()
                && policy.value.default.is_none()
                && self.intact
            {
                let message = format!(
                    "policy `{}` has neither `rules` nor `default`, and so says nothing",
                    draft.name
                );
                self.findings.error(name.place, message);
            }
            let number = proven.drafts.len();
            proven.named.insert(&name.value.0, name.place, number, self.findings);
            proven.drafts.push(draft);
        }
        proven
    }

    fn policy(
        &mut self,
        policy: &schema::Policy,
        name: &str,
        places: &mut Vec<RulePlace>,
    ) -> PolicyDraft {
        let default = match policy.default.map(|default| default.value) {
            Some(VerdictWord::Accept) => Verdict::Accept,
            Some(VerdictWord::Reject) => Verdict::Reject,
            None => self.default,
        };
        let given = entries(&policy.rules);
        let mut rules = Vec::with_capacity(given.len());
        let mut decided: Option<Place> = None;
        let file = given.first().and_then(|rule| self.sources.get(rule.place.file as usize));
        let file: Arc<str> = file.map_or("", |file| file.name.as_str()).into();
        for (number, rule) in (1..).zip(given) {
            if let Some(first) = decided {
                let message = "this rule is never asked; put it before the one that every route \
                               matches";
                self.findings.conflict(rule.place, message, first, "every route matches this one");
                break;
            }
            let Some(id) = RuleId::configured(places.len()) else {
                let message = format!(
                    "the rules of all policies are more than {}; use lists",
                    RuleId::CONFIGURED_MAX
                );
                self.findings.error(rule.place, message);
                break;
            };
            places.push(RulePlace {
                policy: name.into(),
                rule: number,
                file: Arc::clone(&file),
                line: rule.place.line,
            });
            let draft = self.rule(rule, id);
            let always = self.intact
                && draft.as_ref().is_some_and(|draft| {
                    draft.rule.conditions.is_empty() && draft.rule.then != Then::Next
                });
            decided = always.then_some(rule.place);
            rules.extend(draft);
        }
        let whole = rules.len() == given.len();
        PolicyDraft { name: name.to_owned(), rules, default, whole, refused: false }
    }

    /// The rule, unless a part of it could not be proven.
    fn rule(&mut self, rule: &At<schema::Rule>, id: RuleId) -> Option<RuleDraft> {
        let At { value: given, place } = rule;
        let before = self.findings.count();
        let conditions =
            given.r#match.as_ref().map_or_else(Vec::new, |asked| self.conditions(&asked.value));
        let set = given.set.as_ref();
        let actions = set.map_or_else(Vec::new, |set| self.actions(&set.value));
        let then = match given.then?.value {
            ThenWord::Accept => Then::Decide(Verdict::Accept),
            ThenWord::Reject => Then::Decide(Verdict::Reject),
            ThenWord::Next => Then::Next,
        };
        if let (Some(set), Then::Decide(Verdict::Reject)) = (set, then)
            && !actions.is_empty()
        {
            let message = "the rule rejects the route that it changes; nobody would see it";
            self.findings.error(set.place, message);
        }
        let set = set.map(|set| &set.value);
        let own = |set: &schema::Set| {
            set.next_hop.filter(|hop| hop.value == NextHopSetting::Own).map(|hop| hop.place)
        };
        (self.findings.count() == before).then_some(RuleDraft {
            rule: Rule { id, conditions, actions, then },
            place: *place,
            weight: set.and_then(|set| Some(set.weight?.place)),
            next_hop_self: set.and_then(own),
        })
    }

    fn conditions(&mut self, given: &schema::Match) -> Vec<Condition> {
        let mut conditions = Vec::new();
        let mut ranges: Vec<PrefixRange> = Vec::new();
        for entry in entries(&given.prefix) {
            let prefixes = self.lists.prefixes_of(entry, self.intact, self.findings);
            ranges.extend(self.hold(prefixes, entry.place));
        }
        conditions.extend(PrefixList::new(&ranges).ok().map(Condition::Prefix));
        if let Some(path) = &given.as_path {
            conditions.extend(self.paths(&path.value).into_iter().map(Condition::AsPath));
        }
        for (entries, quantifier) in [
            (entries(&given.communities), Quantifier::Any),
            (entries(&given.all_communities), Quantifier::All),
        ] {
            let test = CommunityTest::new(quantifier, self.patterns(entries));
            conditions.extend(test.ok().map(Condition::Communities));
        }
        let hops: Vec<PrefixRange> = entries(&given.next_hop)
            .iter()
            .map(|entry| PrefixRange::or_longer(entry.value.0))
            .collect();
        conditions.extend(PrefixList::new(&hops).ok().map(Condition::NextHop));
        conditions.extend(self.peers(entries(&given.peer)));
        conditions.extend(given.origin.map(|origin| Condition::Origin(origin.value)));
        conditions.extend(given.med.map(|med| Condition::Med(med.value.0)));
        let preference = given.local_preference;
        conditions.extend(preference.map(|one| Condition::LocalPreference(one.value.0)));
        let kinds: Vec<_> = entries(&given.source).iter().map(|one| one.value.kind()).collect();
        conditions.extend(SourceSet::new(&kinds).ok().map(Condition::Source));
        conditions
    }

    fn paths(&mut self, given: &schema::AsPath) -> Vec<AsPathTest> {
        let mut tests = Vec::new();
        let mut add = |entries: &[At<AsEntry>], form: fn(AsnSet) -> AsPathTest| {
            let ranges: Vec<AsnRange> =
                entries.iter().flat_map(|entry| self.as_numbers(entry)).collect();
            tests.extend(AsnSet::new(&ranges).ok().map(form));
        };
        add(entries(&given.contains), AsPathTest::Contains);
        add(entries(&given.only), AsPathTest::Only);
        add(entries(&given.originates), AsPathTest::Originates);
        add(entries(&given.neighbor), AsPathTest::Neighbor);
        let length = given.length.map(|length| match (length.value.least, length.value.greatest) {
            (0, 0) => Ok(AsPathTest::Empty),
            (least, greatest) => HopRange::new(least, greatest).map(AsPathTest::Length),
        });
        tests.extend(length.and_then(Result::ok));
        tests
    }

    fn as_numbers(&mut self, entry: &At<AsEntry>) -> Vec<AsnRange> {
        let numbers = match &entry.value {
            AsEntry::Span(span) => range_of(*span).into_iter().collect(),
            AsEntry::List(name) => {
                let lists = &mut self.lists.as_numbers;
                let found = lists.lookup(name, entry.place, self.intact, self.findings);
                found.cloned().unwrap_or_default()
            }
        };
        self.hold(numbers, entry.place)
    }

    /// What one more entry adds to a rule, as long as there is room for it.
    fn hold<T>(&mut self, added: Vec<T>, place: Place) -> Vec<T> {
        let before = self.held;
        self.held += added.len();
        if self.held <= MAX_HELD {
            return added;
        }
        if before <= MAX_HELD {
            let message = format!(
                "with this the rules hold more than {MAX_HELD} prefixes, communities and AS numbers, \
                 those of lists counted in each rule; refer to long lists in fewer rules"
            );
            self.findings.error(place, message);
        }
        Vec::new()
    }

    fn patterns(&mut self, entries: &[At<CommunityEntry>]) -> Vec<CommunityPattern> {
        let mut patterns = Vec::new();
        for entry in entries {
            match &entry.value {
                CommunityEntry::Pattern(pattern) => {
                    patterns.extend(self.hold(vec![pattern.clone()], entry.place));
                }
                CommunityEntry::List(name) => {
                    let lists = &mut self.lists.communities;
                    let found = lists.lookup(name, entry.place, self.intact, self.findings);
                    let found = found.cloned().unwrap_or_default();
                    patterns.extend(self.hold(found, entry.place));
                }
            }
        }
        patterns
    }

    fn peers(&mut self, names: &[At<crate::schema::Name>]) -> Option<Condition> {
        let mut addresses = Vec::new();
        for name in names {
            let text = name.value.0.as_str();
            match self.peers.get(text) {
                Some(Some(address)) => addresses.push(*address),
                Some(None) => {
                    let message = format!(
                        "peer `{text}` is a range, whose neighbours' addresses nobody knows yet; \
                         give them an `import` policy of their own"
                    );
                    self.findings.error(name.place, message);
                }
                None if self.intact => {
                    let hint = hint(text, self.peers.keys().map(String::as_str));
                    self.findings.error(name.place, format!("no peer is named `{text}`{hint}"));
                }
                None => {}
            }
        }
        AddressSet::new(&addresses).ok().map(Condition::Peer)
    }

    fn actions(&mut self, given: &schema::Set) -> Vec<Action> {
        let mut actions = Vec::new();
        actions.extend(given.local_preference.map(|one| Action::LocalPreference(one.value.0)));
        actions.extend(given.med.map(|med| Action::Med(med.value.0)));
        actions.extend(given.origin.map(|origin| Action::Origin(origin.value)));
        let weight = given.weight.and_then(|weight| u16::try_from(weight.value.0).ok());
        actions.extend(weight.map(Action::Weight));
        let removed = self.patterns(entries(&given.remove_communities));
        let removed = CommunityChange::remove(removed).ok();
        let replaced = given.replace_communities.as_ref().and_then(|replace| {
            let from = self.patterns(entries(&replace.value.from));
            let to = entries(&replace.value.to).iter().map(|one| one.value.0).collect();
            CommunityChange::replace(from, to).ok()
        });
        let added = entries(&given.add_communities).iter().map(|one| one.value.0).collect();
        let added = CommunityChange::add(added).ok();
        actions.extend([removed, replaced, added].into_iter().flatten().map(Action::Communities));
        if let Some(prepend) = &given.prepend {
            actions.extend(prepended(&prepend.value).map(Action::Prepend));
        }
        if let Some(hop) = given.next_hop {
            actions.extend(self.next_hop(hop));
        }
        actions
    }

    fn next_hop(&mut self, hop: At<NextHopSetting>) -> Option<Action> {
        match hop.value {
            NextHopSetting::Own => Some(Action::NextHopSelf),
            NextHopSetting::Address(address) => {
                let refuse = |error| self.findings.error(hop.place, error);
                NextHopAddress::new(address).map(Action::NextHop).map_err(refuse).ok()
            }
        }
    }
}

/// What is put in front of a path; the bounds are those of the schema.
fn prepended(given: &Either<crate::schema::Number<1, 10>, schema::Prepend>) -> Option<Prepend> {
    let (asn, times) = match given {
        Either::Short(times) => (None, times.0),
        Either::Record(record) => (record.asn, record.times?.value.0),
    };
    let times = u8::try_from(times).ok()?;
    match asn {
        Some(asn) => Prepend::of(asn.value, times).ok(),
        None => Prepend::own(times).ok(),
    }
}

impl Policies {
    /// The policy of this name for one direction, and what the peer refers to it by.
    pub(super) fn compile(
        &mut self,
        name: At<&str>,
        direction: Direction,
        intact: bool,
        findings: &mut Findings,
    ) -> Option<Compiled> {
        let number = *self.named.lookup(name.value, name.place, intact, findings)?;
        let key = (number, direction == Direction::Import);
        if let Some(compiled) = self.compiled.get(&key) {
            return compiled.clone();
        }
        let compiled = self.drafts[number].compile(name.place, direction, findings);
        self.compiled.insert(key, compiled.clone());
        compiled
    }

    pub(super) fn prove_used(&self, findings: &mut Findings) {
        self.named.prove_used("peer", findings);
    }
}

impl PolicyDraft {
    fn compile(
        &mut self,
        user: Place,
        direction: Direction,
        findings: &mut Findings,
    ) -> Option<Compiled> {
        let before = findings.count();
        for draft in &self.rules {
            let (place, key, only) = match direction {
                Direction::Import => (draft.next_hop_self, "next_hop: self", "sent"),
                Direction::Export => (draft.weight, "weight", "received"),
            };
            if let Some(place) = place {
                let message = format!(
                    "`{key}` is for routes that are {only}, but policy `{}` is used for others, too",
                    self.name
                );
                findings.conflict(place, message, user, "used here");
            }
        }
        if !self.whole || findings.count() != before {
            return None;
        }
        let rules = self.rules.iter().map(|draft| draft.rule.clone()).collect();
        match Policy::compile(direction, rules, self.default) {
            Ok(policy) => {
                let reference =
                    PolicyReference { name: self.name.as_str().into(), digest: digest(&policy) };
                Some((reference, Arc::new(policy)))
            }
            Err(error) => {
                if !self.refused {
                    findings.error(self.place_of(error).unwrap_or(user), error);
                }
                self.refused = true;
                None
            }
        }
    }

    fn place_of(&self, error: InvalidPolicy) -> Option<Place> {
        let rule = match error {
            InvalidPolicy::Rules(_) => return None,
            InvalidPolicy::BuiltIn(rule)
            | InvalidPolicy::ChangesRejected(rule)
            | InvalidPolicy::Direction { rule, .. }
            | InvalidPolicy::Prepends { rule, .. } => rule,
        };
        self.rules.iter().find(|draft| draft.rule.id == rule).map(|draft| draft.place)
    }
}

/// A digest of everything that a policy says. The numbers of its rules are part of it, because
/// routes remember which rule decided about them.
fn digest(policy: &Policy) -> u64 {
    let mut fnv = Fnv(0xcbf2_9ce4_8422_2325);
    // It takes whatever is written.
    let _ = write!(fnv, "{policy:?}");
    fnv.0
}

/// FNV-1a of 64 bits: the same in every build, so that a running gateway and a check agree.
struct Fnv(u64);

impl Write for Fnv {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Ok(())
    }
}
