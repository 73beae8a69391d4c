//! Builders that the tests of policies share.

use std::net::{IpAddr, Ipv4Addr};

use nvgate_model::{Asn, Prefix};

use crate::attributes::Attributes;
use crate::neighbor_kind::NeighborKind;
use crate::origin::Origin;

use super::*;

mod actions;
mod export;
mod import;
mod lists;
mod oracle;
mod rules;
mod tenant;

const OWN: Asn = Asn(64_500);
const REMOTE: Asn = Asn(64_501);
const PEER: &str = "192.0.2.2";

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn prefixes(texts: &[&str]) -> Vec<Prefix> {
    texts.iter().map(|text| prefix(text)).collect()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn rule_id(index: usize) -> RuleId {
    RuleId::configured(index).unwrap()
}

fn teacher(kind: NeighborKind) -> Teacher {
    Teacher { address: address(PEER), router_id: Ipv4Addr::new(192, 0, 2, 2), kind, client: false }
}

fn learned(text: &str) -> Route {
    Route { prefix: prefix(text), source: RouteSource::Learned(teacher(NeighborKind::External)) }
}

/// Attributes as an external neighbour sends them.
fn attributes(path: &str) -> Attributes {
    let mut attributes = Attributes::originated(address(PEER), Origin::Igp);
    attributes.as_path = path.parse().unwrap();
    attributes
}

fn edited(held: &Attributes, edit: impl FnOnce(&mut Attributes)) -> Attributes {
    let mut held = held.clone();
    edit(&mut held);
    held
}

fn with_communities(texts: &[&str]) -> Attributes {
    let mut attributes = attributes("64501");
    let communities: Vec<AnyCommunity> = texts.iter().map(|text| text.parse().unwrap()).collect();
    community::add(&mut attributes, &communities);
    attributes
}

fn patterns(texts: &[&str]) -> Vec<CommunityPattern> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn asns(numbers: &[(u32, u32)]) -> AsnSet {
    let range = |&(first, last)| AsnRange::new(Asn(first), Asn(last)).unwrap();
    AsnSet::new(&numbers.iter().map(range).collect::<Vec<_>>()).unwrap()
}

fn rule(index: usize, conditions: Vec<Condition>, actions: Vec<Action>, then: Then) -> Rule {
    Rule { id: rule_id(index), conditions, actions, then }
}

const ACCEPT: Then = Then::Decide(Verdict::Accept);
const REJECT: Then = Then::Decide(Verdict::Reject);

/// Whether a policy of one rule with this condition lets the route through.
fn meets(condition: Condition, route: &Route, attributes: &Attributes) -> bool {
    let rules = vec![rule(0, vec![condition], vec![], ACCEPT)];
    let policy = Policy::compile(Direction::Import, rules, Verdict::Reject).unwrap();
    let mut change = Change::new(attributes, OWN);
    let outcome = policy.evaluate(route, &mut change);
    assert_eq!(*change.attributes, *attributes);
    outcome.verdict == Verdict::Accept
}
