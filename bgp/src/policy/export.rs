//! The way of a route out: what is checked, asked and changed, in which order.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use nvgate_model::{Asn, Prefix};

use crate::as_path::AsPath;
use crate::attributes::{Attributes, RareAttributes};
use crate::community::Community;
use crate::family::Family;
use crate::neighbor_kind::NeighborKind;
use crate::role::Role;

use super::Policy;
use super::community::{self, AnyCommunity};
use super::route::{Change, NextHopChange, Outcome, Route, RouteSource, Saw, Step, Verdict};
use super::rule_id::RuleId;
use super::session::{LocalAs, PrivateAsRemoval};
use super::tenant::TenantExport;

/// Everything that decides what neighbours are told. Neighbours for which it is equal can share an
/// update group: it says nothing of a single one but what changes the outcome.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Export {
    /// The built-in policy of the place.
    pub guard: ExportGuard,
    /// The configured rules; none: on an external session of the front end nothing goes out.
    pub policy: Option<Arc<Policy>>,
    /// On which side of our AS's border the neighbours are.
    pub to: ExportTo,
    /// Which next hop they get if no rule says so.
    pub next_hop: NextHopRule,
    /// Our own addresses.
    pub own: OwnNextHops,
    /// Whether we are about to go: routes get GRACEFUL_SHUTDOWN (RFC 8326 section 4).
    pub draining: bool,
}

/// The built-in policy of a place for export.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ExportGuard {
    /// Of a tenant's routing domain.
    Tenant(Arc<TenantExport>),
    /// Of the front end.
    FrontEnd,
}

/// Whom routes go to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ExportTo {
    /// To another AS.
    External {
        /// Our AS.
        own_asn: Asn,
        /// What we are to them instead.
        local_as: Option<LocalAs>,
        /// `as-override`: the neighbours' AS, which ours takes the place of.
        overridden: Option<Asn>,
        /// `remove-private-as`.
        private_as: Option<PrivateAsRemoval>,
        /// Our role (RFC 9234).
        role: Option<Role>,
    },
    /// Within our AS.
    Internal {
        /// Our AS.
        own_asn: Asn,
        /// Whether they are our clients as route reflector (RFC 4456 section 6).
        client: bool,
        /// Our cluster as route reflector.
        cluster_id: Ipv4Addr,
    },
}

/// Which next hop a route goes out with. Routes of our own have ours in any case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NextHopRule {
    /// Ours, except for routes that we reflect (RFC 4456 section 10): what external neighbours get
    /// by default, and internal ones with `next-hop-self`.
    Own,
    /// The one that the route has: what internal neighbours get by default (RFC 4271 section 5.1.3
    /// item 1), and external ones of a route server or by `next-hop-unchanged`.
    Held,
    /// The one that the route has if it lies in a subnet that we share with the neighbour, and is
    /// not the neighbour itself; otherwise ours (RFC 4271 section 5.1.3 item 2).
    HeldIfShared {
        /// The neighbour.
        neighbor: IpAddr,
        /// What we share with it.
        subnets: Vec<Prefix>,
    },
}

/// Our own addresses on a session.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OwnNextHops {
    /// The next hop of each family, by [`Family::index`]; none: routes of that family without
    /// another next hop cannot be sent.
    pub addresses: [Option<IpAddr>; 2],
    /// Our link-local address, if we share the link with the neighbour (RFC 2545 section 3).
    pub link_local: Option<Ipv6Addr>,
    /// Whether IPv4 routes may have IPv6 next hops (RFC 8950).
    pub ipv6_for_ipv4: bool,
}

/// What is checked before the rules are asked, in this order.
#[derive(Clone, Copy)]
enum Check {
    NoPolicy,
    NoAdvertise,
    NoExport,
    NoExportSubconfed,
    NotReflected,
    Leak,
}

/// A next hop as it goes out.
type NextHop = (IpAddr, Option<Ipv6Addr>);

impl Export {
    /// Decides about a route of the table and gives it the attributes that it goes out with, in
    /// this order:
    ///
    /// 1. RFC 8212; NO_ADVERTISE, NO_EXPORT and NO_EXPORT_SUBCONFED (RFC 1997), as the route has
    ///    them, so that a rule can still add one for the neighbour; reflection (RFC 4456 section
    ///    6); leaks (RFC 9234 section 5): each can refuse.
    /// 2. The place's guard can refuse.
    /// 3. The configured rules, which see the route as the table has it.
    /// 4. The next hop, as a rule or [`NextHopRule`] says; without one the route is refused.
    /// 5. To another AS: LOCAL_PREF, ORIGINATOR_ID and CLUSTER_LIST go; MULTI_EXIT_DISC goes, unless
    ///    a rule decided about it or the route is of this AS (RFC 4271 section 5.1.4); communities
    ///    that are not transitive go (RFC 4360 section 6); from the path private numbers go, then
    ///    the neighbour's AS is overridden, then what rules prepended comes before it, our own AS
    ///    before that, and the local AS before all; ONLY_TO_CUSTOMER comes.
    ///    Within our AS: the path stays as the table has it (section 5.1.2), LOCAL_PREF comes, and
    ///    ORIGINATOR_ID and our cluster if we reflect (RFC 4456 section 8).
    /// 6. Draining: GRACEFUL_SHUTDOWN comes, within our AS with LOCAL_PREF 0.
    pub fn evaluate<'a>(
        &self,
        route: &Route,
        held: &'a Attributes,
    ) -> (Outcome, Cow<'a, Attributes>) {
        self.explain(route, held, &mut |_, _| {})
    }

    /// The same, telling `trace` what each rule did until one decided.
    pub fn explain<'a>(
        &self,
        route: &Route,
        held: &'a Attributes,
        trace: &mut impl FnMut(RuleId, Step<'_>),
    ) -> (Outcome, Cow<'a, Attributes>) {
        let mut saw = Saw::default();
        let mut change = Change::new(held, self.to.session_asn());
        let (verdict, rule) = match self.decide(route, held, &mut change, &mut saw, trace) {
            Ok(rule) => (Verdict::Accept, rule),
            Err(rule) => (Verdict::Reject, rule),
        };
        (Outcome::new(verdict, rule, saw), change.attributes)
    }

    fn decide(
        &self,
        route: &Route,
        held: &Attributes,
        change: &mut Change<'_>,
        saw: &mut Saw,
        trace: &mut impl FnMut(RuleId, Step<'_>),
    ) -> Result<RuleId, RuleId> {
        self.check(route, held, saw, trace)?;
        let mut rule = self.ask_guard(route, saw, trace)?;
        if let Some(policy) = &self.policy {
            match policy.run(route, change, saw, trace) {
                (Verdict::Accept, RuleId::DEFAULT) => {}
                (Verdict::Accept, decided) => rule = decided,
                (Verdict::Reject, decided) => return Err(decided),
            }
        }
        let Some(next_hop) = self.next_hop(route, change, saw) else {
            trace(RuleId::NEXT_HOP, Step::Decided(Verdict::Reject));
            return Err(RuleId::NEXT_HOP);
        };
        trace(RuleId::NEXT_HOP, Step::Passed);
        set_next_hop(change, next_hop);
        match &self.to {
            ExportTo::External { role, .. } => self.to.leave(*role, held, change),
            ExportTo::Internal { cluster_id, .. } => reflect(route, *cluster_id, held, change),
        }
        if self.draining {
            self.drain(change);
            trace(RuleId::GRACEFUL_SHUTDOWN, Step::Acted);
        }
        Ok(rule)
    }

    fn check(
        &self,
        route: &Route,
        held: &Attributes,
        saw: &mut Saw,
        trace: &mut impl FnMut(RuleId, Step<'_>),
    ) -> Result<(), RuleId> {
        for check in Check::ORDER {
            if self.refuses(check, route, held, saw) {
                trace(check.rule(), Step::Decided(Verdict::Reject));
                return Err(check.rule());
            }
            trace(check.rule(), Step::Passed);
        }
        Ok(())
    }

    fn refuses(&self, check: Check, route: &Route, held: &Attributes, saw: &mut Saw) -> bool {
        let external = self.to.kind() == NeighborKind::External;
        match check {
            Check::NoPolicy => {
                external && self.guard == ExportGuard::FrontEnd && self.policy.is_none()
            }
            Check::NoAdvertise => held.communities.contains(Community::NO_ADVERTISE),
            Check::NoExport => external && held.communities.contains(Community::NO_EXPORT),
            Check::NoExportSubconfed => {
                external && held.communities.contains(Community::NO_EXPORT_SUBCONFED)
            }
            Check::NotReflected => match &self.to {
                ExportTo::External { .. } => false,
                ExportTo::Internal { client, .. } => {
                    saw.source = true;
                    let from_client = route.source.teacher().is_some_and(|teacher| teacher.client);
                    route.source.is_internal() && !client && !from_client
                }
            },
            Check::Leak => match &self.to {
                ExportTo::External { role: Some(role), own_asn, .. } => {
                    role.outbound_otc(held.only_to_customer(), *own_asn).is_err()
                }
                ExportTo::External { role: None, .. } | ExportTo::Internal { .. } => false,
            },
        }
    }

    fn ask_guard(
        &self,
        route: &Route,
        saw: &mut Saw,
        trace: &mut impl FnMut(RuleId, Step<'_>),
    ) -> Result<RuleId, RuleId> {
        let answer = match &self.guard {
            ExportGuard::Tenant(tenant) => tenant.ask(route, saw),
            ExportGuard::FrontEnd => return Ok(RuleId::DEFAULT),
        };
        match answer {
            Ok(rule) => trace(rule, Step::Passed),
            Err(rule) => trace(rule, Step::Decided(Verdict::Reject)),
        }
        answer
    }

    /// The next hop that the route goes out with, if there is one of a family that may.
    fn next_hop(&self, route: &Route, change: &Change<'_>, saw: &mut Saw) -> Option<NextHop> {
        let family = Family::of(route.prefix);
        let held = || {
            let attributes = &change.attributes;
            let link_local = attributes.rare().and_then(|rare| rare.link_local_next_hop);
            Some((attributes.next_hop, link_local))
        };
        let own = || {
            let address = self.own.addresses[family.index()]?;
            Some((address, self.own.link_local.filter(|_| address.is_ipv6())))
        };
        let (address, link_local) = match change.next_hop {
            NextHopChange::Address(address) => Some((address, None)),
            NextHopChange::Own => own(),
            NextHopChange::Held if change.attributes.next_hop.is_unspecified() => own(),
            NextHopChange::Held => match &self.next_hop {
                NextHopRule::Held => held().map(|(address, _)| (address, None)),
                NextHopRule::Own if self.reflects(route, saw) => {
                    held().map(|(address, _)| (address, None))
                }
                NextHopRule::Own => own(),
                NextHopRule::HeldIfShared { neighbor, subnets } => {
                    let address = change.attributes.next_hop;
                    let shared = subnets.iter().any(|subnet| subnet.contains(address));
                    if shared && address != *neighbor { held() } else { own() }
                }
            },
        }?;
        let fits = match family {
            Family::Ipv4Unicast => address.is_ipv4() || self.own.ipv6_for_ipv4,
            Family::Ipv6Unicast => address.is_ipv6(),
        };
        fits.then_some((address, link_local))
    }

    fn reflects(&self, route: &Route, saw: &mut Saw) -> bool {
        if self.to.kind() == NeighborKind::External {
            return false;
        }
        saw.source = true;
        route.source.is_internal()
    }

    fn drain(&self, change: &mut Change<'_>) {
        community::add(change.attributes.to_mut(), &[Community::GRACEFUL_SHUTDOWN.into()]);
        if self.to.kind() == NeighborKind::Internal {
            change.set_least_preferred();
        }
    }
}

impl ExportTo {
    const fn kind(&self) -> NeighborKind {
        match self {
            Self::External { .. } => NeighborKind::External,
            Self::Internal { .. } => NeighborKind::Internal,
        }
    }

    /// Our AS as the neighbours know it.
    fn session_asn(&self) -> Asn {
        match self {
            Self::External { own_asn, local_as, .. } => {
                local_as.map_or(*own_asn, |local| local.asn)
            }
            Self::Internal { own_asn, .. } => *own_asn,
        }
    }

    /// What comes and goes where a route leaves the AS.
    fn leave(&self, role: Option<Role>, held: &Attributes, change: &mut Change<'_>) {
        let as_path = self.path(&held.as_path, change);
        let of_this_as = held.as_path.is_empty();
        let med_stays = change.med_decided || of_this_as;
        let attributes = change.attributes.to_mut();
        attributes.as_path = as_path;
        attributes.local_preference = None;
        attributes.med = attributes.med.filter(|_| med_stays);
        let transitive = |one: AnyCommunity| match one {
            AnyCommunity::Extended(extended) => extended.is_transitive(),
            AnyCommunity::Standard(_) | AnyCommunity::Large(_) => true,
        };
        if attributes.rare().is_some() {
            community::retain(attributes, transitive);
            attributes.edit_rare(|rare| {
                rare.originator_id = None;
                rare.cluster_list = Box::default();
            });
        }
        let held = attributes.only_to_customer();
        let marked = role.and_then(|role| role.outbound_otc(held, self.session_asn()).ok());
        if let Some(marked) = marked.filter(|marked| *marked != held) {
            attributes.edit_rare(|rare| rare.only_to_customer = marked);
        }
    }

    /// The path that an external neighbour sees.
    fn path(&self, held: &AsPath, change: &Change<'_>) -> AsPath {
        let Self::External { own_asn, local_as, overridden, private_as, .. } = self else {
            return held.clone();
        };
        let session_asn = self.session_asn();
        let mut path = private_as.map_or_else(|| held.clone(), |removal| removal.applied(held));
        if let Some(overridden) = overridden {
            path = path.mapped(|asn| Some(if asn == *overridden { session_asn } else { asn }));
        }
        let prepended: Vec<Asn> =
            change.attributes.as_path.numbers().take(change.prepended).collect();
        for same in prepended.chunk_by(|one, next| one == next).rev() {
            path = path.prepended(same[0], same.len() as u8);
        }
        if local_as.is_some_and(|local| local.show_own) {
            path = path.prepended(*own_asn, 1);
        }
        path.prepended(session_asn, 1)
    }
}

/// What comes and goes where a route stays within the AS.
fn reflect(route: &Route, cluster_id: Ipv4Addr, held: &Attributes, change: &mut Change<'_>) {
    if change.prepended > 0 {
        change.attributes.to_mut().as_path = held.as_path.clone();
    }
    change.default_local_preference();
    let RouteSource::Learned(teacher) = route.source else { return };
    // Import refuses routes of our own cluster: one that has it was reflected by the table already.
    let reflected = held.cluster_list().contains(&cluster_id);
    if teacher.kind == NeighborKind::Internal && !reflected {
        change.attributes.to_mut().edit_rare(|rare: &mut RareAttributes| {
            rare.originator_id.get_or_insert(teacher.router_id);
            let passed = rare.cluster_list.iter().copied();
            rare.cluster_list = std::iter::once(cluster_id).chain(passed).collect();
        });
    }
}

fn set_next_hop(change: &mut Change<'_>, (address, link_local): NextHop) {
    let held = change.attributes.rare().and_then(|rare| rare.link_local_next_hop);
    if change.attributes.next_hop != address {
        change.attributes.to_mut().next_hop = address;
    }
    if held != link_local {
        change.attributes.to_mut().edit_rare(|rare| rare.link_local_next_hop = link_local);
    }
}

impl Check {
    const ORDER: [Self; 6] = [
        Self::NoPolicy,
        Self::NoAdvertise,
        Self::NoExport,
        Self::NoExportSubconfed,
        Self::NotReflected,
        Self::Leak,
    ];

    const fn rule(self) -> RuleId {
        match self {
            Self::NoPolicy => RuleId::NO_POLICY,
            Self::NoAdvertise => RuleId::NO_ADVERTISE,
            Self::NoExport => RuleId::NO_EXPORT,
            Self::NoExportSubconfed => RuleId::NO_EXPORT_SUBCONFED,
            Self::NotReflected => RuleId::NOT_REFLECTED,
            Self::Leak => RuleId::LEAK,
        }
    }
}
