//! Policy: which routes come in and go out, and how they change on the way.
//!
//! A [`Policy`] is the ordered rules of one neighbour and direction, compiled; it knows neither YAML
//! nor tables. Around it stand rules that no configuration can do away with: [`Import`] and
//! [`Export`] join both in one fixed order, which [`Import::evaluate`] and [`Export::evaluate`]
//! document, and turn a route that goes out into what RFC 4271 section 5.1 lets a neighbour see.
//! Everything is a pure function of a route, its attributes and the configuration.

use crate::attributes::Attributes;

mod action;
mod community;
mod condition;
mod export;
mod front_end;
mod import;
mod martians;
mod prefix_list;
mod route;
mod rule_id;
mod session;
mod tenant;
#[cfg(test)]
mod tests;

pub use action::{Action, InvalidNextHop, InvalidPrepend, MedChange, NextHopAddress, Prepend};
pub use community::{
    AnyCommunity, CommunityChange, CommunityPattern, CommunityTest, InvalidAnyCommunity, Quantifier,
};
pub use condition::{
    AddressSet, AsPathTest, AsnRange, AsnSet, Comparison, Condition, DEFAULT_LOCAL_PREFERENCE,
    EmptyList, HopRange, InvalidRange, SourceSet,
};
pub use export::{Export, ExportGuard, ExportTo, NextHopRule, OwnNextHops};
pub use front_end::FrontEndImport;
pub use import::{Import, ImportGuard, NextHopCheck};
pub use martians::Martians;
pub use prefix_list::{InvalidPrefixRange, PrefixList, PrefixRange};
pub use route::{Change, Outcome, Route, RouteSource, Site, SourceKind, Step, Teacher, Verdict};
pub use rule_id::RuleId;
pub use session::{LocalAs, PrivateAsRemoval, PrivateAsScope};
pub use tenant::{
    TenantExport, TenantFacts, TenantImport, TenantPeer, Translation, TranslationSide,
};

use route::Saw;

/// Rules in order, of which the first that matches and does not pass on decides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    rules: Box<[Rule]>,
    default: Verdict,
}

/// Which way routes go.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Direction {
    /// From the neighbour.
    Import,
    /// To the neighbour.
    Export,
}

/// One rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// What status and `explain` call it.
    pub id: RuleId,
    /// What a route must meet, all of it; nothing: every route matches.
    pub conditions: Vec<Condition>,
    /// What is done to a route that matches, in this order.
    pub actions: Vec<Action>,
    /// What becomes of a route that matches.
    pub then: Then,
}

/// What a rule makes of a route that it matches.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Then {
    /// No later rule is asked.
    Decide(Verdict),
    /// The next rule sees the route as it is now.
    Next,
}

/// Rules that cannot mean what they say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidPolicy {
    /// Too many rules.
    #[error("{0} rules are more than {max}, the most of a policy", max = Policy::RULES_MAX)]
    Rules(usize),
    /// A rule of the configuration has a built-in rule's number.
    #[error("rule {0} has the number of a built-in rule")]
    BuiltIn(RuleId),
    /// A rule rejects, and nobody would see what it changes.
    #[error("rule {0} rejects the route that it changes")]
    ChangesRejected(RuleId),
    /// The action only makes sense in the other direction.
    #[error("rule {rule} has action `{action}`, which means nothing in this direction")]
    Direction {
        /// The rule.
        rule: RuleId,
        /// The action's name.
        action: &'static str,
    },
    /// One route could meet rules that prepend too many numbers together.
    #[error(
        "up to rule {rule}, {total} AS numbers can be prepended to one route, which are more than \
         {max}", max = Policy::PREPENDS_MAX
    )]
    Prepends {
        /// The rule that is one too many.
        rule: RuleId,
        /// What is prepended up to there.
        total: usize,
    },
}

impl Policy {
    /// The most rules of a policy.
    pub const RULES_MAX: usize = 4096;
    /// The most AS numbers that the rules of a policy may prepend to one route.
    pub const PREPENDS_MAX: usize = 100;

    /// The policy of these rules. `default` is for routes that no rule decides about: deny for
    /// external sessions of the front end, accept for tenants, whose built-in policy stands around
    /// the rules.
    ///
    /// # Errors
    ///
    /// The first rule, in order, that cannot mean what it says.
    pub fn compile(
        direction: Direction,
        rules: Vec<Rule>,
        default: Verdict,
    ) -> Result<Self, InvalidPolicy> {
        if rules.len() > Self::RULES_MAX {
            return Err(InvalidPolicy::Rules(rules.len()));
        }
        let mut passed_on = 0;
        for rule in &rules {
            rule.check(direction)?;
            let total = passed_on + rule.prepends();
            if total > Self::PREPENDS_MAX {
                return Err(InvalidPolicy::Prepends { rule: rule.id, total });
            }
            if rule.then == Then::Next {
                passed_on = total;
            }
        }
        Ok(Self { rules: rules.into(), default })
    }

    /// What the rules make of a route, whose changed attributes are then in `change`. Built-in
    /// rules are not asked: [`Import`] and [`Export`] do that.
    pub fn evaluate(&self, route: &Route, change: &mut Change<'_>) -> Outcome {
        self.explain(route, change, &mut |_, _| {})
    }

    /// The same, telling `trace` what each rule did until one decided.
    pub fn explain(
        &self,
        route: &Route,
        change: &mut Change<'_>,
        trace: &mut impl FnMut(RuleId, Step<'_>),
    ) -> Outcome {
        let mut saw = Saw::default();
        let (verdict, rule) = self.run(route, change, &mut saw, trace);
        Outcome { weight: change.weight, ..Outcome::new(verdict, rule, saw) }
    }

    fn run(
        &self,
        route: &Route,
        change: &mut Change<'_>,
        saw: &mut Saw,
        trace: &mut impl FnMut(RuleId, Step<'_>),
    ) -> (Verdict, RuleId) {
        for rule in &self.rules {
            if let Some(unmet) = rule.unmet(route, &change.attributes, saw) {
                trace(rule.id, Step::Unmatched(unmet));
                continue;
            }
            trace(rule.id, Step::Matched);
            for action in &rule.actions {
                action.apply(change);
                trace(rule.id, Step::Changed(action));
            }
            if let Then::Decide(verdict) = rule.then {
                trace(rule.id, Step::Decided(verdict));
                return (verdict, rule.id);
            }
        }
        trace(RuleId::DEFAULT, Step::Decided(self.default));
        (self.default, RuleId::DEFAULT)
    }
}

impl Rule {
    /// The first condition that the route does not meet.
    fn unmet(&self, route: &Route, attributes: &Attributes, saw: &mut Saw) -> Option<&Condition> {
        self.conditions.iter().find(|condition| !condition.holds(route, attributes, saw))
    }

    fn check(&self, direction: Direction) -> Result<(), InvalidPolicy> {
        if self.id.index().is_none() {
            return Err(InvalidPolicy::BuiltIn(self.id));
        }
        if self.then == Then::Decide(Verdict::Reject) && !self.actions.is_empty() {
            return Err(InvalidPolicy::ChangesRejected(self.id));
        }
        let elsewhere = |action: &&Action| match direction {
            Direction::Import => matches!(action, Action::NextHopSelf),
            Direction::Export => matches!(action, Action::Weight(_)),
        };
        match self.actions.iter().find(elsewhere) {
            Some(action) => Err(InvalidPolicy::Direction { rule: self.id, action: action.name() }),
            None => Ok(()),
        }
    }

    fn prepends(&self) -> usize {
        self.actions.iter().map(|action| usize::from(action.prepends())).sum()
    }
}
