//! The built-in policy of the front end's neighbours: default deny is [`RuleId::NO_POLICY`], and
//! this is what no policy can let in.

use nvgate_model::Prefix;

use super::martians::{MartianList, Martians};
use super::prefix_list::PrefixList;
use super::route::{Route, Saw};
use super::rule_id::RuleId;

/// What a front end's neighbour must not teach, compiled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FrontEndImport {
    martians: MartianList,
    own: PrefixList,
}

impl FrontEndImport {
    /// Refuses `martians`, and our own `pools` of public addresses or parts of them.
    #[must_use]
    pub fn new(pools: &[Prefix], martians: Martians) -> Self {
        let own = PrefixList::within(pools.iter().copied());
        Self { martians: MartianList::new(martians), own }
    }

    /// The rule that refuses the route, asked in the order of the numbers.
    pub(super) fn refusal(&self, route: &Route, saw: &mut Saw) -> Option<RuleId> {
        saw.prefix = true;
        let refused = [
            (RuleId::FRONT_END_IMPORT_MARTIAN, self.martians.holds(route.prefix)),
            (RuleId::FRONT_END_IMPORT_OWN, self.own.holds(route.prefix)),
        ];
        refused.into_iter().find(|(_, refused)| *refused).map(|(rule, _)| rule)
    }
}
