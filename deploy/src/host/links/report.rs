//! How a link is, beside how it is to be: what health, `nvgate links` and metrics are made of.

use serde::{Deserialize, Serialize};

use super::observed::{BondFacts, Observed, ObservedKind, ObservedLink};
use crate::plan::{Addressing, LinkKind, LinkPlan, LinksPlan};

/// One link of the plan.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct LinkReport {
    /// Its name.
    pub name: String,
    /// How it is to be, in words.
    pub desired: String,
    /// How it is, in the same words; absent when it is not there.
    pub observed: Option<String>,
    /// What is wrong with it and what to do, the gravest first; none when it is as it should be.
    pub problems: Vec<String>,
    /// How often somebody else's change was put right since the process started.
    pub repairs: u64,
    /// What the last of these did.
    pub last_repair: Option<String>,
    /// Seconds since then.
    pub last_repair_secs: Option<u64>,
}

impl LinkReport {
    pub(super) fn new(
        desired: &LinksPlan,
        link: &LinkPlan,
        observed: &Observed,
        problems: Vec<String>,
        repairs: u64,
        last_repair: Option<(String, u64)>,
    ) -> Self {
        let found = observed.links.get(&link.name).filter(|_| observed.has(link));
        let (last_repair, last_repair_secs) = last_repair.unzip();
        Self {
            name: link.name.clone(),
            desired: desired_words(desired, link),
            observed: found.map(|found| observed_words(link, found, observed)),
            problems,
            repairs,
            last_repair,
            last_repair_secs,
        }
    }
}

fn desired_words(desired: &LinksPlan, link: &LinkPlan) -> String {
    let mut words = vec![match &link.kind {
        LinkKind::Uplink(_) => match desired.bond_of(&link.name) {
            Some((bond, _)) => format!("member of {}", bond.name),
            None => "uplink".to_owned(),
        },
        LinkKind::Bond(bond) => {
            format!("bond of {}, {}", bond.members.join(" and "), bond.options.mode)
        }
        LinkKind::Vlan { parent, id } => format!("VLAN {id} of {parent}"),
    }];
    words.extend(link.mtu.map(|mtu| format!("MTU {mtu}")));
    match &link.addressing {
        Addressing::Static(addresses) => words.extend(addresses.iter().map(ToString::to_string)),
        Addressing::Foreign => words.push("addresses by somebody else".to_owned()),
    }
    words.join(", ")
}

fn observed_words(link: &LinkPlan, found: &ObservedLink, observed: &Observed) -> String {
    let mut words = vec![match &found.kind {
        ObservedKind::Card => match &found.controller {
            Some(controller) => format!("member of {controller}"),
            None => "uplink".to_owned(),
        },
        ObservedKind::Bond(BondFacts { options, .. }) => {
            let members: Vec<&str> = observed.members(&link.name).map(|(name, _)| name).collect();
            let mode =
                options.map_or("another mode".to_owned(), |options| options.mode.to_string());
            let members =
                if members.is_empty() { "nothing".to_owned() } else { members.join(" and ") };
            format!("bond of {members}, {mode}")
        }
        ObservedKind::Vlan { parent, id } => {
            format!("VLAN {id} of {}", parent.as_deref().unwrap_or("another namespace's link"))
        }
    }];
    words.push(format!("MTU {}", found.mtu));
    words.extend(found.addresses.keys().map(ToString::to_string));
    words.push(
        match (found.up, found.carrier) {
            (false, _) => "down",
            (true, false) => "no carrier",
            (true, true) => "up",
        }
        .to_owned(),
    );
    words.join(", ")
}
