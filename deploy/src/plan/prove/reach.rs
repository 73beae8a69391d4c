//! Proves which site an address means: what sites are seen as by the tenant's network, beside its
//! subnets, beside each other and beside the routes; and what they see of it.

use nvgate_model::Prefix;

use super::address::overlaps;
use super::site::SiteDraft;
use super::tenant::TenantDraft;
use super::vpn::VpnDraft;
use crate::plan::vpn::{common, moved, without};
use crate::plan::{RouteTarget, TranslateSide};
use crate::schema::{At, Findings, Place};

/// A prefix that the tenant's network sees of a site.
#[derive(Clone, Copy)]
pub(super) struct Seen {
    pub(super) prefix: Prefix,
    /// Where it is written: under `allowed`, or under `seen_as` if it is translated.
    place: Place,
    translated: bool,
    /// Whether it is what a default route allows, which every other prefix goes before.
    by_default: bool,
}

/// What the tenant's network sees of a site.
pub(super) fn seen(site: &SiteDraft) -> Vec<Seen> {
    let translations: Vec<_> = site.translations_of(TranslateSide::Remote).collect();
    let hidden: Vec<Prefix> = translations.iter().map(|(from, _)| from.value).collect();
    let mut seen = Vec::new();
    for allowed in &site.allowed {
        let by_default = allowed.value.length() == 0;
        let untranslated = without(allowed.value, &hidden).into_iter().map(|prefix| Seen {
            prefix,
            place: allowed.place,
            translated: false,
            by_default,
        });
        seen.extend(untranslated);
        let images = translations.iter().filter_map(|(from, to)| {
            let part = common(allowed.value, from.value)?;
            let prefix = moved(part, from.value, to.value);
            Some(Seen { prefix, place: to.place, translated: true, by_default: false })
        });
        seen.extend(images);
    }
    seen.sort_by_key(|one| (one.prefix, one.place));
    seen.dedup_by_key(|one| (one.prefix, one.translated));
    seen
}

/// Proves that a route's prefix is one that the site it leads to is seen as.
pub(super) fn prove_routed(prefix: At<Prefix>, site: &SiteDraft, findings: &mut Findings) {
    let seen: Vec<Prefix> = seen(site).iter().map(|one| one.prefix).collect();
    // A wide route may cover what is hidden by a translation, as long as it leads to something.
    let hidden = site.translations_of(TranslateSide::Remote).map(|(from, _)| from.value);
    let hidden: Vec<_> = hidden.filter(|hidden| *hidden != prefix.value).collect();
    let left = without(prefix.value, &[seen.as_slice(), &hidden].concat());
    let leads = seen.iter().any(|seen| seen.overlaps(prefix.value));
    if left.is_empty() && leads {
        return;
    }
    let what = match left.first() {
        Some(left) if leads => format!("{left} of {} is", prefix.value),
        Some(_) | None => format!("{} is", prefix.value),
    };
    let message = format!(
        "{what} not allowed by the tunnels of site `{}` (as it is seen after translation); add it \
         to `allowed`, or route less",
        site.name
    );
    findings.conflict(prefix.place, message, site.place, "the site");
}

/// Proves the sites of a tenant whose routes are known beside each other and its subnets.
pub(super) fn prove_reach(tenant: &TenantDraft, findings: &mut Findings) {
    let known = |vpn: &&VpnDraft| tenant.intact && vpn.sites.iter().all(|site| site.whole);
    let Some(vpn) = tenant.vpn.as_ref().filter(known) else { return };
    let sites = vpn.sites.iter().enumerate();
    let seen: Vec<(usize, Seen)> = sites
        .flat_map(|(index, site)| seen(site).into_iter().map(move |one| (index, one)))
        .collect();
    for (index, site) in vpn.sites.iter().enumerate() {
        let own: Vec<Seen> =
            seen.iter().filter(|(of, _)| *of == index).map(|(_, one)| *one).collect();
        prove_beside_subnets(site, &own, tenant, findings);
        prove_local(site, index, &seen, tenant, findings);
        prove_remote(site, tenant, findings);
        prove_endpoints(site, &vpn.sites, findings);
    }
    prove_distinct(tenant, &vpn.sites, &seen, findings);
}

fn subnet_prefixes(tenant: &TenantDraft) -> impl Iterator<Item = (&str, At<Prefix>)> {
    tenant
        .subnets
        .iter()
        .flat_map(|subnet| subnet.prefixes.iter().map(|prefix| (subnet.name.as_str(), *prefix)))
}

/// Proves that what a site is seen as is none of the tenant's subnets.
fn prove_beside_subnets(
    site: &SiteDraft,
    seen: &[Seen],
    tenant: &TenantDraft,
    findings: &mut Findings,
) {
    for one in seen.iter().filter(|one| !one.by_default) {
        let mut subnets = subnet_prefixes(tenant);
        let Some((name, subnet)) = subnets.find(|(_, subnet)| subnet.value.overlaps(one.prefix))
        else {
            continue;
        };
        let remedy = if one.translated {
            "let it be seen as another prefix"
        } else {
            "let the tenant see it as another one (`translate`: `remote` and `seen_as`), or allow \
             less"
        };
        let message = format!(
            "{} of site `{}` overlaps {} of subnet `{name}`; {remedy}",
            one.prefix, site.name, subnet.value
        );
        findings.conflict(one.place, message, subnet.place, "the subnet's prefix");
    }
}

/// Proves what the site sees of the tenant's network: something that is there, and nothing twice.
fn prove_local(
    site: &SiteDraft,
    index: usize,
    seen: &[(usize, Seen)],
    tenant: &TenantDraft,
    findings: &mut Findings,
) {
    let translated: Vec<Prefix> =
        site.translations_of(TranslateSide::Local).map(|(from, _)| from.value).collect();
    for (from, to) in site.translations_of(TranslateSide::Local) {
        let of_subnet =
            subnet_prefixes(tenant).any(|(_, subnet)| subnet.value.overlaps(from.value));
        let routed = tenant.routes.iter().any(|route| {
            route.target != RouteTarget::Blackhole && route.prefix.overlaps(from.value)
        });
        let of_site = seen.iter().any(|(of, one)| *of != index && one.prefix.overlaps(from.value));
        if tenant.routes_known && !(of_subnet || of_site || routed) {
            let message = format!(
                "`local` {} is in no subnet, behind no route and in no other site of this tenant",
                from.value
            );
            findings.error(from.place, message);
        }
        let beside = subnet_prefixes(tenant)
            .flat_map(|(name, subnet)| {
                without(subnet.value, &translated).into_iter().map(move |left| (name, subnet, left))
            })
            .find(|(.., left)| left.overlaps(to.value));
        if let Some((name, subnet, left)) = beside {
            let message = format!(
                "`seen_as` {} overlaps {left} of subnet `{name}`, which the site sees as it is; \
                 choose another",
                to.value
            );
            findings.conflict(to.place, message, subnet.place, "the subnet's prefix");
        }
        let has =
            |allowed: &&At<Prefix>| allowed.value.length() > 0 && allowed.value.overlaps(to.value);
        if let Some(own) = site.allowed.iter().find(has) {
            let message = format!(
                "`seen_as` {} overlaps {}, which site `{}` has itself; choose another",
                to.value, own.value, site.name
            );
            findings.conflict(to.place, message, own.place, "the site's prefix");
        }
    }
}

/// Proves that what is translated of the site is there, and that the site can answer.
fn prove_remote(site: &SiteDraft, tenant: &TenantDraft, findings: &mut Findings) {
    let translated: Vec<Prefix> =
        site.translations_of(TranslateSide::Local).map(|(from, _)| from.value).collect();
    for (from, _) in site.translations_of(TranslateSide::Remote) {
        if !site.allowed.iter().any(|allowed| allowed.value.overlaps(from.value)) {
            let message = format!(
                "`remote` {} is not allowed by any tunnel of site `{}`; add it to `allowed`",
                from.value, site.name
            );
            findings.error(from.place, message);
        }
        let same = subnet_prefixes(tenant).find(|(_, subnet)| {
            without(subnet.value, &translated).iter().any(|left| left.overlaps(from.value))
        });
        if let Some((name, subnet)) = same {
            let message = format!(
                "site `{}` has {} itself and could not answer subnet `{name}`; let the site see {} \
                 as another prefix (`translate`: `local` and `seen_as`)",
                site.name, from.value, subnet.value
            );
            findings.conflict(from.place, message, subnet.place, "the subnet's prefix");
        }
    }
}

/// Proves that no tunnel leads to an address that is itself behind a tunnel.
fn prove_endpoints(site: &SiteDraft, sites: &[SiteDraft], findings: &mut Findings) {
    for endpoint in &site.endpoints {
        let behind = sites.iter().find_map(|site| {
            let contains = |allowed: &&At<Prefix>| {
                allowed.value.length() > 0 && allowed.value.contains(endpoint.value)
            };
            Some((site, site.allowed.iter().find(contains)?))
        });
        if let Some((other, allowed)) = behind {
            let message = format!(
                "endpoint {} lies in {} of site `{}`, behind a tunnel; name the site's public \
                 address",
                endpoint.value, allowed.value, other.name
            );
            findings.conflict(endpoint.place, message, allowed.place, "the site's prefix");
        }
    }
}

/// Proves that where prefixes of two sites overlap, the routes tell which one is meant.
fn prove_distinct(
    tenant: &TenantDraft,
    sites: &[SiteDraft],
    seen: &[(usize, Seen)],
    findings: &mut Findings,
) {
    let claims: Vec<_> = seen.iter().map(|(_, one)| (one.prefix, one.place)).collect();
    for (later, earlier) in overlaps(&claims) {
        let ((of, one), (other_of, other)) = (seen[later], seen[earlier]);
        let Some(shared) = common(one.prefix, other.prefix) else { continue };
        if of == other_of {
            if one.translated != other.translated && !one.by_default && !other.by_default {
                let (image, plain) = if one.translated { (one, other) } else { (other, one) };
                let message = format!(
                    "`seen_as` {} overlaps {}, which site `{}` has itself; choose another",
                    image.prefix, plain.prefix, sites[of].name
                );
                findings.conflict(image.place, message, plain.place, "the site's prefix");
            }
            continue;
        }
        let told = tenant.routes.iter().any(|route| match route.target {
            RouteTarget::Site(site) => {
                [of, other_of].contains(&usize::from(site)) && route.prefix.overlaps(shared)
            }
            RouteTarget::Via(_) | RouteTarget::Blackhole => false,
        });
        let by_default = one.by_default || other.by_default;
        let collides = (one.translated || other.translated) && !by_default;
        if told && !collides || !tenant.routes_known {
            continue;
        }
        let remedy = if collides {
            "; a translation is one to one, so let one of them be seen as another prefix"
        } else {
            " and no route tells which of them is meant; route it to one of them, or translate one"
        };
        let message = format!(
            "{} of site `{}` overlaps {} of site `{}`{remedy}",
            one.prefix, sites[of].name, other.prefix, sites[other_of].name
        );
        findings.conflict(one.place, message, other.place, "the other prefix");
    }
}
