//! What is wrong with the host's links that no step heals, in sentences that say what to do.

use super::observed::{BondFacts, Observed, ObservedKind, ObservedLink};
use crate::plan::{Addressing, BondMode, BondPlan, LinkKind, LinkPlan, LinksPlan, Selection};
use nvgate_model::MacAddress;

/// What is wrong with one link of the plan, the gravest first.
#[must_use]
pub fn judge(desired: &LinksPlan, link: &LinkPlan, observed: &Observed) -> Vec<String> {
    if let Some(absent) = absent(link, observed) {
        return vec![absent];
    }
    let Some(found) = observed.links.get(&link.name) else { return Vec::new() };
    let mut wrong = Vec::new();
    match (&link.kind, &found.kind) {
        (LinkKind::Bond(bond), ObservedKind::Bond(facts)) => {
            bond_faults((&link.name, bond), (found, facts), observed, &mut wrong);
        }
        (LinkKind::Uplink(_), _) => uplink_faults(desired, (link, found), observed, &mut wrong),
        (LinkKind::Bond(_) | LinkKind::Vlan { .. }, _) => {}
    }
    if !found.up {
        wrong.push(format!("it is down: `ip link set {} up`", link.name));
    }
    mtu_faults(link, found, &mut wrong);
    address_faults(link, found, &mut wrong);
    for (offload, on) in link.offloads.unlike(found.offloads).iter() {
        let state = if on { "on" } else { "off" };
        wrong.push(format!(
            "its driver does not turn {0} {state}: take `offloads.{0}` out of gateway.yaml",
            offload.name()
        ));
    }
    wrong
}

/// Why there is no such link, or another one of its name.
fn absent(link: &LinkPlan, observed: &Observed) -> Option<String> {
    if observed.has(link) {
        return None;
    }
    let name = &link.name;
    let present = observed.links.get(name);
    Some(match (&link.kind, present) {
        (LinkKind::Uplink(selection), _) => {
            let cards = observed.selected(name, selection);
            match (&cards[..], selection) {
                ([], Selection::Name) if present.is_some() => {
                    format!("{name} is a bond or VLAN, no network card: correct gateway.yaml")
                }
                ([], Selection::Name) => format!(
                    "there is no network card {name}: see that it is attached and has a driver, or \
                     correct gateway.yaml"
                ),
                ([], Selection::Mac(mac)) => format!(
                    "no network card has MAC {mac}: see that it is attached and has a driver, or \
                     correct `select`"
                ),
                ([], Selection::Path(device)) => format!(
                    "no network card is attached at {device}: see that it has a driver, or correct \
                     `select`"
                ),
                ([found], _) => format!(
                    "the selected network card is {found}, since another link is called {name}: \
                     rename that one"
                ),
                (several, _) => format!(
                    "`select` fits several network cards ({}): select one by its own path or MAC",
                    several.join(", ")
                ),
            }
        }
        (LinkKind::Bond(_), Some(_)) => {
            format!("there is a link {name} that is no bond: rename or remove it")
        }
        (LinkKind::Bond(_), None) => {
            format!("there is no bond {name}, and the kernel makes none: see its module bonding")
        }
        (LinkKind::Vlan { parent, id }, Some(_)) => {
            format!("there is a link {name} that is not VLAN {id} of {parent}: remove it")
        }
        (LinkKind::Vlan { parent, id }, None) if observed.vlan(parent, *id).is_some() => {
            let other = observed.vlan(parent, *id).unwrap_or_default();
            format!("VLAN {id} of {parent} is called {other} already: rename or remove that")
        }
        (LinkKind::Vlan { parent, id }, None) if observed.links.contains_key(parent) => format!(
            "VLAN {id} of {parent} is not there, and the kernel makes none: see its module 8021q"
        ),
        (LinkKind::Vlan { parent, .. }, None) => {
            format!("the link that carries it, {parent}, is not there")
        }
    })
}

fn uplink_faults(
    desired: &LinksPlan,
    (link, found): (&LinkPlan, &ObservedLink),
    observed: &Observed,
    wrong: &mut Vec<String>,
) {
    let bond = desired.bond_of(&link.name).map(|(bond, _)| bond);
    let controller = found.controller.as_deref();
    match (bond, controller) {
        (Some(bond), controller) if controller != Some(&bond.name) => {
            if let Some(other) = controller {
                wrong.push(format!(
                    "it is in {other}, not in {}: `ip link set {} nomaster`",
                    bond.name, link.name
                ));
            }
        }
        (None, Some(other)) => wrong.push(format!(
            "it is a member of {other}, which gateway.yaml does not say: `ip link set {} nomaster`, \
             or describe that bond",
            link.name
        )),
        (Some(bond), _) => {
            let above = observed.links.get(&bond.name).map(|bond| bond.mtu);
            if let Some(mtu) = above.filter(|mtu| *mtu != found.mtu && bond.mtu.is_some()) {
                wrong.push(format!("its MTU is {}, that of its bond {mtu}", found.mtu));
            }
        }
        (None, None) => {}
    }
    if found.up && !found.carrier {
        wrong.push(
            "it has no carrier: check its cable, and that the other end is switched on".to_owned(),
        );
    }
}

fn bond_faults(
    (name, bond): (&str, &BondPlan),
    (found, facts): (&ObservedLink, &BondFacts),
    observed: &Observed,
    wrong: &mut Vec<String>,
) {
    let member = |name: &String| observed.links.get(name);
    let carries = |one: &&String| {
        member(one)
            .is_some_and(|link| link.controller.as_deref() == Some(name) && link.up && link.carrier)
    };
    let (working, idle): (Vec<&String>, Vec<&String>) = bond.members.iter().partition(carries);
    if facts.options != Some(bond.options) {
        wrong
            .push(format!("it does not work as {}: see why the kernel refuses", bond.options.mode));
    }
    if working.is_empty() {
        wrong.push(format!(
            "no member carries anything ({}): check their cables and the switch",
            bond.members.join(", ")
        ));
        return;
    }
    for one in idle {
        let why = match member(one) {
            None => "is not there",
            Some(link) if link.controller.as_deref() != Some(name) => "is not in the bond",
            Some(link) if !link.up => "is down",
            Some(_) => "has no carrier",
        };
        wrong.push(format!("member {one} {why}: the others carry its share"));
    }
    if !found.carrier {
        wrong.push("it has no carrier although members have: see the switch's ports".to_owned());
    }
    if let BondMode::Lacp(..) = bond.options.mode {
        lacp_faults(facts, &working, observed, wrong);
    }
}

/// Whether one partner has agreed to all members that work.
fn lacp_faults(
    facts: &BondFacts,
    working: &[&String],
    observed: &Observed,
    wrong: &mut Vec<String>,
) {
    const NOBODY: MacAddress = MacAddress([0; 6]);
    let Some((active, partner)) = facts.partner else { return };
    if partner == NOBODY {
        wrong.push(
            "no LACP partner answers: set the switch's ports up as one channel with LACP, of which \
             one side is active"
                .to_owned(),
        );
        return;
    }
    for one in working {
        let aggregator = observed.links.get(*one).and_then(|link| link.aggregator);
        if aggregator.is_some_and(|aggregator| aggregator != active) {
            wrong.push(format!(
                "member {one} does not have the LACP partner {partner} of the others: its port on \
                 the switch is in another channel, or in none"
            ));
        }
    }
}

fn mtu_faults(link: &LinkPlan, found: &ObservedLink, wrong: &mut Vec<String>) {
    if let Some(mtu) = link.mtu.filter(|mtu| *mtu != found.mtu) {
        wrong.push(format!(
            "its MTU is {}, not {mtu}: see that the card and what carries it allow so much",
            found.mtu
        ));
    } else if let Some(needed) = link.needed_mtu.filter(|needed| found.mtu < *needed) {
        wrong.push(format!(
            "its MTU is {}, and tenants' packets in NVGRE need {needed}: raise it here by `mtu`, and \
             in the network behind it, or lower `fabric.tenant_mtu`",
            found.mtu
        ));
    }
}

fn address_faults(link: &LinkPlan, found: &ObservedLink, wrong: &mut Vec<String>) {
    let Addressing::Static(addresses) = &link.addressing else { return };
    for address in addresses {
        match found.addresses.get(address) {
            None => wrong.push(format!("it lacks {address}: see why the kernel refuses")),
            Some(facts) if facts.duplicate => wrong.push(format!(
                "another machine has {}: take it away from one of the two",
                address.address
            )),
            Some(_) => {}
        }
    }
}
