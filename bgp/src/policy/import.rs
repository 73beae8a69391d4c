//! The way of a route in: what is checked, changed and asked, in which order.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use nvgate_model::{Asn, Prefix};

use crate::attributes::Attributes;
use crate::community::Community;
use crate::neighbor_kind::NeighborKind;
use crate::role::Role;

use super::action::is_next_hop;
use super::front_end::FrontEndImport;
use super::route::{Change, Outcome, Route, Saw, Step, Verdict};
use super::rule_id::RuleId;
use super::session::LocalAs;
use super::tenant::TenantImport;
use super::{Policy, community};

/// Everything that decides about the routes of one neighbour.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Import {
    /// The built-in policy of the place.
    pub guard: ImportGuard,
    /// The configured rules; none: on an external session of the front end nothing comes in.
    pub policy: Option<Arc<Policy>>,
    /// Of our AS or another.
    pub kind: NeighborKind,
    /// Our AS.
    pub own_asn: Asn,
    /// What we are to this neighbour instead; external ones only.
    pub local_as: Option<LocalAs>,
    /// The neighbour's AS.
    pub remote_asn: Asn,
    /// Our identifier.
    pub router_id: Ipv4Addr,
    /// Our cluster as route reflector, by default the identifier.
    pub cluster_id: Ipv4Addr,
    /// Our role towards an external neighbour (RFC 9234).
    pub role: Option<Role>,
    /// How often our AS may be in a path: `allowas-in`.
    pub own_as_allowed: u8,
    /// The most AS numbers in a path, members of sets one by one.
    pub path_numbers_max: usize,
    /// Whether an external neighbour's paths must begin with its AS; not with a route server.
    pub enforce_first_as: bool,
    /// Which next hops are believed.
    pub next_hops: NextHopCheck,
    /// Whether GRACEFUL_SHUTDOWN of external neighbours is honoured (RFC 8326).
    pub graceful_shutdown: bool,
    /// Whether BLACKHOLE is honoured (RFC 7999). Then the rules must see to it that a neighbour
    /// only blackholes what is its own (section 3.3).
    pub blackhole: bool,
}

/// The built-in policy of a place for import.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ImportGuard {
    /// Of a tenant's routing domain.
    Tenant(Arc<TenantImport>),
    /// Of the front end.
    FrontEnd(Arc<FrontEndImport>),
}

/// Which next hops of a neighbour are believed (RFC 4271 section 6.3).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NextHopCheck {
    /// Our own addresses in the place: nobody can send us to ourselves.
    pub own: Vec<IpAddr>,
    /// For an external neighbour that is one hop away, the address of its session and the subnets
    /// that we share with it: its next hops are that address or lie in these.
    pub shared: Option<(IpAddr, Vec<Prefix>)>,
}

/// What is checked before the rules are asked, in this order.
#[derive(Clone, Copy)]
enum Check {
    NoPolicy,
    PathTooLong,
    FirstAs,
    OwnAs,
    OwnRouter,
    NextHop,
}

impl Import {
    /// Decides about a received route, in this order:
    ///
    /// 1. RFC 8212; the path's length; the neighbour's AS first (RFC 4271 section 6.3); our AS in
    ///    the path (section 9.1.2); ourselves as originator or our cluster (RFC 4456 section 8);
    ///    the next hop (RFC 4271 section 6.3); leaks (RFC 9234 section 5): each can refuse.
    /// 2. LOCAL_PREF of an external neighbour goes (RFC 4271 section 5.1.5), ONLY_TO_CUSTOMER and
    ///    the local AS come (RFC 7705 section 3).
    /// 3. The configured rules, which see the route so.
    /// 4. The place's guard can refuse what they let in.
    /// 5. GRACEFUL_SHUTDOWN, as received, makes the route the least preferred one, whatever the
    ///    rules said; BLACKHOLE, as received, discards, and the route gets NO_EXPORT (RFC 7999
    ///    section 3.2).
    ///
    /// With the outcome come the attributes to keep, borrowed if nothing changed.
    pub fn evaluate<'a>(
        &self,
        route: &Route,
        received: &'a Attributes,
    ) -> (Outcome, Cow<'a, Attributes>) {
        self.explain(route, received, &mut |_, _| {})
    }

    /// The same, telling `trace` what each rule did until one decided.
    pub fn explain<'a>(
        &self,
        route: &Route,
        received: &'a Attributes,
        trace: &mut impl FnMut(RuleId, Step<'_>),
    ) -> (Outcome, Cow<'a, Attributes>) {
        let mut saw = Saw::default();
        let mut change = Change::new(received, self.session_asn());
        let decided = self.decide(route, received, &mut change, &mut saw, trace);
        let (verdict, rule) = match decided {
            Ok(rule) => (Verdict::Accept, rule),
            Err(rule) => (Verdict::Reject, rule),
        };
        let discard = verdict == Verdict::Accept && self.discards(received, &mut change, trace);
        let outcome =
            Outcome { weight: change.weight, discard, ..Outcome::new(verdict, rule, saw) };
        (outcome, change.attributes)
    }

    fn decide(
        &self,
        route: &Route,
        received: &Attributes,
        change: &mut Change<'_>,
        saw: &mut Saw,
        trace: &mut impl FnMut(RuleId, Step<'_>),
    ) -> Result<RuleId, RuleId> {
        self.check(received, trace)?;
        if self.kind == NeighborKind::External {
            self.receive_external(received, change, trace)?;
        }
        let rule = match &self.policy {
            Some(policy) => match policy.run(route, change, saw, trace) {
                (Verdict::Accept, rule) => rule,
                (Verdict::Reject, rule) => return Err(rule),
            },
            None => RuleId::DEFAULT,
        };
        let refusal = match &self.guard {
            ImportGuard::Tenant(tenant) => tenant.refusal(route, saw),
            ImportGuard::FrontEnd(front_end) => front_end.refusal(route, saw),
        };
        if let Some(refusal) = refusal {
            trace(refusal, Step::Decided(Verdict::Reject));
            return Err(refusal);
        }
        let shutting_down = received.communities.contains(Community::GRACEFUL_SHUTDOWN);
        if self.graceful_shutdown && self.kind == NeighborKind::External && shutting_down {
            change.set_least_preferred();
            trace(RuleId::GRACEFUL_SHUTDOWN, Step::Acted);
        }
        Ok(rule)
    }

    fn check(
        &self,
        received: &Attributes,
        trace: &mut impl FnMut(RuleId, Step<'_>),
    ) -> Result<(), RuleId> {
        for check in Check::ORDER {
            if self.refuses(check, received) {
                trace(check.rule(), Step::Decided(Verdict::Reject));
                return Err(check.rule());
            }
            trace(check.rule(), Step::Passed);
        }
        Ok(())
    }

    fn refuses(&self, check: Check, received: &Attributes) -> bool {
        let external = self.kind == NeighborKind::External;
        let path = &received.as_path;
        match check {
            Check::NoPolicy => {
                let front_end = matches!(self.guard, ImportGuard::FrontEnd(_));
                external && front_end && self.policy.is_none()
            }
            Check::PathTooLong => path.numbers().count() > self.path_numbers_max,
            Check::FirstAs => {
                external && self.enforce_first_as && path.neighbor() != Some(self.remote_asn)
            }
            Check::OwnAs => {
                let too_often = |asn| path.count(asn) > usize::from(self.own_as_allowed);
                too_often(self.own_asn) || self.local_as.is_some_and(|local| too_often(local.asn))
            }
            Check::OwnRouter => {
                received.originator_id() == Some(self.router_id)
                    || received.cluster_list().contains(&self.cluster_id)
            }
            Check::NextHop => !self.next_hops.believes(received.next_hop),
        }
    }

    /// What comes and goes where a route enters the AS.
    fn receive_external(
        &self,
        received: &Attributes,
        change: &mut Change<'_>,
        trace: &mut impl FnMut(RuleId, Step<'_>),
    ) -> Result<(), RuleId> {
        if let Some(role) = self.role {
            let held = received.only_to_customer();
            let Ok(marked) = role.inbound_otc(held, self.remote_asn) else {
                trace(RuleId::LEAK, Step::Decided(Verdict::Reject));
                return Err(RuleId::LEAK);
            };
            trace(RuleId::LEAK, if marked == held { Step::Passed } else { Step::Acted });
            if marked != held {
                change.attributes.to_mut().edit_rare(|rare| rare.only_to_customer = marked);
            }
        }
        if received.local_preference.is_some() {
            change.attributes.to_mut().local_preference = None;
        }
        if let Some(local) = self.local_as.filter(|local| local.prepend_inbound) {
            change.attributes.to_mut().as_path = received.as_path.prepended(local.asn, 1);
        }
        Ok(())
    }

    fn discards(
        &self,
        received: &Attributes,
        change: &mut Change<'_>,
        trace: &mut impl FnMut(RuleId, Step<'_>),
    ) -> bool {
        let discards = self.blackhole && received.communities.contains(Community::BLACKHOLE);
        if discards {
            trace(RuleId::BLACKHOLE, Step::Acted);
            if !change.attributes.communities.contains(Community::NO_EXPORT) {
                community::add(change.attributes.to_mut(), &[Community::NO_EXPORT.into()]);
            }
        }
        discards
    }

    fn session_asn(&self) -> Asn {
        self.local_as.map_or(self.own_asn, |local| local.asn)
    }
}

impl Check {
    const ORDER: [Self; 6] = [
        Self::NoPolicy,
        Self::PathTooLong,
        Self::FirstAs,
        Self::OwnAs,
        Self::OwnRouter,
        Self::NextHop,
    ];

    const fn rule(self) -> RuleId {
        match self {
            Self::NoPolicy => RuleId::NO_POLICY,
            Self::PathTooLong => RuleId::PATH_TOO_LONG,
            Self::FirstAs => RuleId::FIRST_AS,
            Self::OwnAs => RuleId::OWN_AS,
            Self::OwnRouter => RuleId::OWN_ROUTER,
            Self::NextHop => RuleId::NEXT_HOP,
        }
    }
}

impl NextHopCheck {
    fn believes(&self, next_hop: IpAddr) -> bool {
        if !is_next_hop(next_hop) || self.own.contains(&next_hop) {
            return false;
        }
        self.shared.as_ref().is_none_or(|(neighbor, subnets)| {
            next_hop == *neighbor || subnets.iter().any(|subnet| subnet.contains(next_hop))
        })
    }
}
