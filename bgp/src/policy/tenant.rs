//! The built-in policy of a tenant's neighbours, made from what is known of the routing domain.
//!
//! On import it is asked after the tenant's own rules and on export before them, so that no rule
//! can let through what it forbids.

use nvgate_model::Prefix;

use super::martians::{MartianList, Martians};
use super::prefix_list::PrefixList;
use super::route::{Route, RouteSource, Saw, Site};
use super::rule_id::RuleId;

/// What is known of a routing domain.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TenantFacts {
    /// The domain's subnets.
    pub subnets: Vec<Prefix>,
    /// The space that provider addresses are of.
    pub provider_space: Vec<Prefix>,
    /// The space that front-end addresses are of.
    pub front_end_space: Vec<Prefix>,
    /// The translations of the tenant's sites.
    pub translations: Vec<Translation>,
}

/// A prefix that one side of a tunnel sees as another one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Translation {
    /// The site behind the tunnel.
    pub site: Site,
    /// Whose prefix it is.
    pub side: TranslationSide,
    /// What it really is.
    pub from: Prefix,
    /// What the other side sees, of the same family and length.
    pub seen_as: Prefix,
}

/// The side of a tunnel whose prefix is translated.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TranslationSide {
    /// The domain's; the site sees another.
    Local,
    /// The site's; the domain sees another.
    Remote,
}

/// What is particular to one neighbour of a tenant.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TenantPeer {
    /// The site that the neighbour is behind; none: it is reached over the overlay.
    pub site: Option<Site>,
    /// Whether it may teach a default route.
    pub accept_default: bool,
    /// Whether it is told what other neighbours taught.
    pub announce_learned: bool,
}

/// What a tenant's neighbour must not teach, compiled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TenantImport {
    accept_default: bool,
    martians: MartianList,
    own: PrefixList,
    provider: PrefixList,
    front_end: PrefixList,
    untranslated: PrefixList,
}

/// What a tenant's neighbour is told, compiled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TenantExport {
    site: Option<Site>,
    announce_learned: bool,
    /// The domain's prefixes that the neighbour sees as others.
    hidden: PrefixList,
}

impl TenantFacts {
    /// What `peer` must not teach: the domain's subnets or parts of them, also as its site sees
    /// them; parts of the provider and front-end space; what cannot be forwarded to; a default
    /// route, unless it may; and what the domain sees as something else.
    ///
    /// A prefix around one of these is let through, because the one inside it is more specific.
    #[must_use]
    pub fn import(&self, peer: TenantPeer) -> TenantImport {
        let local_images = self.of_site(peer.site, TranslationSide::Local).map(|one| one.seen_as);
        let untranslated = self.of_site(peer.site, TranslationSide::Remote).map(|one| one.from);
        TenantImport {
            accept_default: peer.accept_default,
            martians: MartianList::new(Martians::Unforwardable),
            own: PrefixList::within(self.subnets.iter().copied().chain(local_images)),
            provider: PrefixList::within(self.provider_space.iter().copied()),
            front_end: PrefixList::within(self.front_end_space.iter().copied()),
            untranslated: PrefixList::within(untranslated),
        }
    }

    /// What `peer` is told: the domain's subnets, static routes that are marked so, what its site
    /// sees, and what others taught if it is told that; nothing that its site sees as something
    /// else.
    #[must_use]
    pub fn export(&self, peer: TenantPeer) -> TenantExport {
        let hidden = self.of_site(peer.site, TranslationSide::Local).map(|one| one.from);
        TenantExport {
            site: peer.site,
            announce_learned: peer.announce_learned,
            hidden: PrefixList::within(hidden),
        }
    }

    /// What is to be originated as [`RouteSource::Translated`] for `site`: what it sees instead of
    /// translated prefixes, and what is left of subnets that are translated in part, ascending.
    #[must_use]
    pub fn seen_by(&self, site: Site) -> Vec<Prefix> {
        let local = || self.of_site(Some(site), TranslationSide::Local);
        let cut = |subnet: &Prefix| {
            let holes = local().map(|one| one.from).filter(|from| subnet.covers(*from));
            let holes: Vec<Prefix> = holes.collect();
            if holes.is_empty() { Vec::new() } else { without(*subnet, &holes) }
        };
        let left = self.subnets.iter().flat_map(cut);
        let mut seen: Vec<Prefix> = local().map(|one| one.seen_as).chain(left).collect();
        seen.sort_unstable();
        seen.dedup();
        seen
    }

    fn of_site(
        &self,
        site: Option<Site>,
        side: TranslationSide,
    ) -> impl Iterator<Item = &Translation> {
        let of_site = move |one: &&Translation| Some(one.site) == site && one.side == side;
        self.translations.iter().filter(of_site)
    }
}

/// What is left of a prefix without the holes.
fn without(prefix: Prefix, holes: &[Prefix]) -> Vec<Prefix> {
    holes.iter().fold(vec![prefix], |left, hole| {
        left.into_iter().flat_map(|one| one.without(*hole)).collect()
    })
}

impl TenantImport {
    /// The rule that refuses the route, asked in the order of the numbers.
    pub(super) fn refusal(&self, route: &Route, saw: &mut Saw) -> Option<RuleId> {
        saw.prefix = true;
        let prefix = route.prefix;
        let refused = [
            (RuleId::TENANT_IMPORT_SUBNET, self.own.holds(prefix)),
            (RuleId::TENANT_IMPORT_PROVIDER, self.provider.holds(prefix)),
            (RuleId::TENANT_IMPORT_FRONT_END, self.front_end.holds(prefix)),
            (RuleId::TENANT_IMPORT_MARTIAN, self.martians.holds(prefix)),
            (RuleId::TENANT_IMPORT_DEFAULT, !self.accept_default && prefix.length() == 0),
            (RuleId::TENANT_IMPORT_UNTRANSLATED, self.untranslated.holds(prefix)),
        ];
        refused.into_iter().find(|(_, refused)| *refused).map(|(rule, _)| rule)
    }
}

impl TenantExport {
    /// The rule by which the neighbour is told of the route, or by which it is not.
    pub(super) fn ask(&self, route: &Route, saw: &mut Saw) -> Result<RuleId, RuleId> {
        saw.source = true;
        let (told, rule) = match route.source {
            RouteSource::Local => (true, RuleId::TENANT_EXPORT_SUBNET),
            RouteSource::Static { announce } => (announce, RuleId::TENANT_EXPORT_STATIC),
            RouteSource::Translated(site) => {
                (self.site == Some(site), RuleId::TENANT_EXPORT_TRANSLATED)
            }
            RouteSource::Learned(_) => (self.announce_learned, RuleId::TENANT_EXPORT_LEARNED),
        };
        if !told {
            return Err(rule);
        }
        if !self.hidden.is_empty() && self.hides(route, saw) {
            return Err(RuleId::TENANT_EXPORT_UNTRANSLATED);
        }
        Ok(rule)
    }

    /// Whether the site sees the route's prefix as something else. A subnet that is translated in
    /// part is hidden whole, because its pieces are originated for the site; wider routes of other
    /// sources say nothing of what they cover.
    fn hides(&self, route: &Route, saw: &mut Saw) -> bool {
        saw.prefix = true;
        match route.source {
            RouteSource::Local => self.hidden.overlaps(route.prefix),
            RouteSource::Static { .. } | RouteSource::Learned(_) => self.hidden.holds(route.prefix),
            RouteSource::Translated(_) => false,
        }
    }
}
