//! A naive model of what the kernel does with links, and of what it refuses, written from its
//! sources and apart from [`Observed::follow`].

use super::super::*;

/// The MTU that a card has after it was in a bond, whatever it had.
const FORMER_MTU: u32 = 1499;

/// Changes `kernel` by `step`, or says why the kernel does not do it.
pub fn apply_as_the_kernel(kernel: &mut Observed, step: &Step) -> Result<(), String> {
    let has = |kernel: &Observed, name: &str| kernel.links.contains_key(name);
    let need = |holds: bool, refusal: &str| if holds { Ok(()) } else { Err(refusal.to_owned()) };
    match step {
        Step::Rename { from, to } => {
            need(has(kernel, from) && !has(kernel, to), "no such link, or the name is taken")?;
            need(!kernel.links[from].up, "busy: the link is up")?;
            let link = kernel.links.remove(from).unwrap();
            kernel.links.insert(to.clone(), link);
            for link in kernel.links.values_mut() {
                if link.controller.as_ref() == Some(from) {
                    link.controller = Some(to.clone());
                }
                if let ObservedKind::Vlan { parent: Some(parent), .. } = &mut link.kind
                    && parent == from
                {
                    parent.clone_from(to);
                }
            }
        }
        Step::CreateBond { link, options } => {
            need(!has(kernel, link), "the name is taken")?;
            let facts = BondFacts { options: Some(*options), ..BondFacts::default() };
            make(kernel, link, ObservedKind::Bond(facts), 1500);
        }
        Step::CreateVlan { link, parent, id } => {
            need(has(kernel, parent) && !has(kernel, link), "no parent, or the name is taken")?;
            let kind = ObservedKind::Vlan { parent: Some(parent.clone()), id: *id };
            need(kernel.links.values().all(|link| link.kind != kind), "the VLAN exists")?;
            let mtu = kernel.links[parent].mtu;
            make(kernel, link, kind, mtu);
        }
        Step::Remove { link } => {
            need(has(kernel, link), "no such link")?;
            need(kernel.links[link].kind != ObservedKind::Card, "a card cannot be removed")?;
            remove(kernel, link);
        }
        Step::SetBond { link, options, rebuilt } => {
            let members = kernel.members(link).count();
            let found = kernel.links.get_mut(link).ok_or("no such link")?;
            let ObservedKind::Bond(facts) = &mut found.kind else { return Err("no bond".into()) };
            if *rebuilt {
                need(!found.up && members == 0, "the bond is up or has members")?;
            } else {
                let kept = facts.options.map(|found| std::mem::discriminant(&found.mode));
                let asked = std::mem::discriminant(&options.mode);
                need(kept == Some(asked), "another mode")?;
            }
            facts.options = Some(*options);
        }
        Step::SetPrimary { link, primary } => {
            let member = primary.as_ref().is_none_or(|primary| {
                kernel.links.get(primary).is_some_and(|one| one.controller.as_ref() == Some(link))
            });
            need(member, "the primary is no member")?;
            let found = kernel.links.get_mut(link).ok_or("no such link")?;
            let ObservedKind::Bond(facts) = &mut found.kind else { return Err("no bond".into()) };
            facts.primary.clone_from(primary);
        }
        Step::Release { member, bond } => {
            let found = kernel.links.get(member).ok_or("no such link")?;
            need(found.controller.as_ref() == Some(bond), "no member of it")?;
            release(kernel, member);
        }
        Step::Enslave { member, bond } => {
            let mtu = kernel.links.get(bond).ok_or("no such bond")?.mtu;
            let found = kernel.links.get_mut(member).ok_or("no such link")?;
            need(!found.up, "the card is up")?;
            need(found.controller.is_none(), "the card is in a bond")?;
            (found.up, found.mtu, found.controller) = (true, mtu, Some(bond.clone()));
        }
        Step::Up { link } => {
            let below = match &kernel.links.get(link).ok_or("no such link")?.kind {
                ObservedKind::Vlan { parent, .. } => {
                    parent.as_ref().is_some_and(|parent| kernel.links[parent].up)
                }
                ObservedKind::Card | ObservedKind::Bond(_) => true,
            };
            need(below, "the network below is down")?;
            for name in with_vlans(kernel, link) {
                kernel.links.get_mut(&name).unwrap().up = true;
            }
        }
        Step::Down { link } => {
            need(has(kernel, link), "no such link")?;
            for name in with_vlans(kernel, link) {
                let one = kernel.links.get_mut(&name).unwrap();
                one.up = false;
                one.addresses.retain(|address, _| address.address.is_ipv4());
                forget_routes(kernel, &name, |_| true);
            }
        }
        Step::SetMtu { link, mtu } => {
            let found = kernel.links.get(link).ok_or("no such link")?;
            if let ObservedKind::Vlan { parent: Some(parent), .. } = &found.kind {
                need(kernel.links[parent].mtu >= *mtu, "larger than what carries it")?;
            }
            let names: Vec<String> =
                kernel.members(link).map(|(name, _)| name.to_owned()).collect();
            for name in names.iter().chain([link]) {
                kernel.links.get_mut(name).unwrap().mtu = *mtu;
            }
            for name in with_vlans(kernel, link) {
                let one = kernel.links.get_mut(&name).unwrap();
                one.mtu = one.mtu.min(*mtu);
            }
        }
        Step::SetOffloads { link, offloads } => {
            let found = kernel.links.get_mut(link).ok_or("no such link")?;
            for (offload, on) in offloads.iter() {
                found.offloads = found.offloads.with(offload, on);
            }
        }
        Step::AddAddress { link, address } => {
            let found = kernel.links.get_mut(link).ok_or("no such link")?;
            let facts = AddressFacts { ours: true, duplicate: false };
            need(found.addresses.insert(*address, facts).is_none(), "the address exists")?;
        }
        Step::RemoveAddress { link, address } => {
            let found = kernel.links.get_mut(link).ok_or("no such link")?;
            need(found.addresses.remove(address).is_some(), "no such address")?;
            if found.addresses.keys().all(|one| one.address.is_ipv6()) {
                forget_routes(kernel, link, nvgate_model::Prefix::is_ipv4);
            }
        }
        Step::AddRoute { route } => {
            if let TableRoute::Via { link, gateway, .. } = route {
                let found = kernel.links.get(link).ok_or("no such link")?;
                need(found.up, "the network is down")?;
                let near = gateway.is_none_or(|gateway| {
                    found.addresses.keys().any(|one| one.prefix().contains(gateway))
                });
                need(near, "the gateway is not on the link")?;
            }
            need(kernel.routes.insert(route.clone()), "the route exists")?;
        }
        Step::RemoveRoute { route } => need(kernel.routes.remove(route), "no such route")?,
        Step::AddRule { rule } => need(kernel.rules.insert(rule.clone()), "the rule exists")?,
        Step::RemoveRule { rule } => need(kernel.rules.remove(rule), "no such rule")?,
    }
    Ok(())
}

fn make(kernel: &mut Observed, name: &str, kind: ObservedKind, mtu: u32) {
    let link = ObservedLink { up: false, mtu, ..super::found(kind, true) };
    kernel.links.insert(name.to_owned(), link);
}

fn with_vlans(kernel: &Observed, name: &str) -> Vec<String> {
    let on_it = |link: &ObservedLink| matches!(&link.kind, ObservedKind::Vlan { parent: Some(parent), .. } if parent == name);
    let vlans = kernel.links.iter().filter(|(_, link)| on_it(link)).map(|(name, _)| name.clone());
    std::iter::once(name.to_owned()).chain(vlans).collect()
}

fn remove(kernel: &mut Observed, name: &str) {
    let members: Vec<String> = kernel.members(name).map(|(name, _)| name.to_owned()).collect();
    for member in members {
        release(kernel, &member);
    }
    for gone in with_vlans(kernel, name) {
        kernel.links.remove(&gone);
        forget_routes(kernel, &gone, |_| true);
    }
}

fn release(kernel: &mut Observed, member: &str) {
    let link = kernel.links.get_mut(member).unwrap();
    let bond = link.controller.take();
    (link.up, link.mtu) = (false, FORMER_MTU);
    if let Some(bond) = bond.and_then(|bond| kernel.links.get_mut(&bond))
        && let ObservedKind::Bond(facts) = &mut bond.kind
        && facts.primary.as_deref() == Some(member)
    {
        facts.primary = None;
    }
}

fn forget_routes(kernel: &mut Observed, name: &str, which: impl Fn(nvgate_model::Prefix) -> bool) {
    kernel.routes.retain(|route| match route {
        TableRoute::Via { link, prefix, .. } => link != name || !which(*prefix),
        TableRoute::Unreachable { .. } => true,
    });
}
