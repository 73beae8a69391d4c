//! Setting up links: the pure part against a model of the kernel that refuses what the kernel
//! refuses, and the whole against the kernel itself.

mod model;

use std::collections::BTreeMap;
use std::net::IpAddr;

use nvgate_model::MacAddress;
use proptest::prelude::*;

use super::*;
use crate::plan::{
    Addressing, BondHash, BondMode, BondOptions, BondPlan, InterfaceAddress, LacpRate, LinkKind,
    ManagementPlan, Selection,
};
use model::apply_as_the_kernel;

pub(super) fn address(text: &str) -> InterfaceAddress {
    let (address, length) = text.split_once('/').unwrap();
    InterfaceAddress { address: address.parse().unwrap(), length: length.parse().unwrap() }
}

pub(super) fn link(name: &str, kind: LinkKind) -> LinkPlan {
    LinkPlan {
        name: name.to_owned(),
        kind,
        mtu: None,
        addressing: Addressing::Static(Vec::new()),
        offloads: Offloads::default(),
        needed_mtu: None,
    }
}

pub(super) fn card(name: &str) -> LinkPlan {
    link(name, LinkKind::Uplink(Selection::Name))
}

pub(super) fn bond(name: &str, mode: BondMode, members: &[&str]) -> LinkPlan {
    let options = BondOptions { mode, monitor_millis: 100 };
    let members = members.iter().map(|&name| name.to_owned()).collect();
    link(name, LinkKind::Bond(BondPlan { options, members, primary: None }))
}

pub(super) fn vlan(name: &str, parent: &str, id: u16) -> LinkPlan {
    link(name, LinkKind::Vlan { parent: parent.to_owned(), id })
}

pub(super) fn plan(links: Vec<LinkPlan>) -> LinksPlan {
    LinksPlan { links, management: None, ports: ["fabric".to_owned(), "front".to_owned()] }
}

fn found(kind: ObservedKind, ours: bool) -> ObservedLink {
    ObservedLink {
        mac: MacAddress([2, 0, 0, 0, 0, 1]),
        path: Vec::new(),
        kind,
        ours,
        up: true,
        carrier: true,
        mtu: 1500,
        controller: None,
        aggregator: None,
        addresses: BTreeMap::new(),
        offloads: Offloads::default(),
        changeable: Offloads::default(),
    }
}

const CARDS: [&str; 5] = ["eth0", "eth1", "eth2", "eth3", "eth4"];
const MODES: [BondMode; 6] = [
    BondMode::ActiveBackup,
    BondMode::TransmitLoadBalancing,
    BondMode::Static(BondHash::Address),
    BondMode::Lacp(BondHash::Port, LacpRate::Slow),
    BondMode::Lacp(BondHash::Port, LacpRate::Fast),
    BondMode::Lacp(BondHash::Tunnel, LacpRate::Fast),
];

fn addresses() -> impl Strategy<Value = Vec<InterfaceAddress>> {
    let all =
        ["192.0.2.1/24", "198.51.100.1/24", "2001:db8::1/64", "2001:db8:1::1/64"].map(address);
    proptest::sample::subsequence(all.to_vec(), 0..=4)
}

fn options() -> impl Strategy<Value = BondOptions> {
    (proptest::sample::select(&MODES[..]), prop_oneof![Just(50), Just(100)])
        .prop_map(|(mode, monitor_millis)| BondOptions { mode, monitor_millis })
}

prop_compose! {
    /// Plans as `prove` lets them through: two bonds of five cards, VLANs on both and on a card.
    fn plans()(
        places in proptest::array::uniform5(0..3_usize),
        options in proptest::array::uniform2(options()),
        prefer in any::<bool>(),
        mtus in proptest::array::uniform4(proptest::option::of(1300..9000_u32)),
        vlans in proptest::collection::vec((0..5_usize, 1..4_u16, any::<bool>()), 0..5),
        given in proptest::collection::vec(addresses(), 5),
        managed in any::<bool>(),
        reversed in any::<bool>(),
    ) -> LinksPlan {
        let members = |bond: usize| -> Vec<&str> {
            (0..CARDS.len()).filter(|&card| places[card] == bond).map(|card| CARDS[card]).collect()
        };
        let mut links: Vec<LinkPlan> = CARDS.iter().map(|name| card(name)).collect();
        let mut parents: Vec<&str> = members(2);
        for (index, name) in ["bond0", "bond1"].into_iter().enumerate() {
            let members = members(index);
            if members.is_empty() {
                continue;
            }
            let mut one = bond(name, options[index].mode, &members);
            if let LinkKind::Bond(bond) = &mut one.kind {
                bond.options = options[index];
                if prefer && matches!(options[index].mode, BondMode::ActiveBackup | BondMode::TransmitLoadBalancing) {
                    bond.primary = Some(members[0].to_owned());
                }
            }
            one.mtu = mtus[index];
            parents.push(name);
            links.push(one);
        }
        for free in links.iter_mut().filter(|link| parents.contains(&link.name.as_str())) {
            if free.mtu.is_none() {
                free.mtu = mtus[2];
            }
        }
        for (index, (parent, id, small)) in vlans.into_iter().enumerate() {
            let parent = parents[parent % parents.len()];
            let taken = |link: &LinkPlan| link.kind == LinkKind::Vlan { parent: parent.to_owned(), id };
            if links.iter().any(taken) {
                continue;
            }
            let room = links.iter().find(|link| link.name == parent).and_then(|link| link.mtu);
            let mut one = vlan(&format!("vlan{index}"), parent, id);
            one.mtu = room.map(|room| if small { 1280 } else { room });
            links.push(one);
        }
        let mut ends = Vec::new();
        for (index, link) in links.iter_mut().enumerate() {
            let member = CARDS.iter().position(|name| *name == link.name).is_some_and(|card| places[card] < 2);
            if !member {
                link.addressing = Addressing::Static(given[index % given.len()].clone());
                ends.push(link.name.clone());
            }
        }
        let management = managed.then(|| {
            let link = links.iter().find(|link| link.name == ends[0]).unwrap();
            let Addressing::Static(own) = &link.addressing else { unreachable!() };
            let gateways = own.iter().map(|one| match one.address {
                IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() + 8).into()),
                IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() + 8).into()),
            });
            let mut gateways: Vec<IpAddr> = gateways.collect();
            gateways.dedup_by_key(|one| one.is_ipv4());
            ManagementPlan { link: link.name.clone(), gateways }
        });
        let port = |at: usize| ends.get(at).unwrap_or(&ends[0]).clone();
        let ports = [port(1), port(2)];
        if reversed {
            links.reverse();
            links.sort_by_key(|link| match link.kind {
                LinkKind::Uplink(_) => 0,
                LinkKind::Bond(_) => 1,
                LinkKind::Vlan { .. } => 2,
            });
        }
        LinksPlan { links, management, ports }
    }
}

prop_compose! {
    /// What a kernel may have: cards, bonds and VLANs of the gateway in any state, and others' VLANs.
    fn kernels()(
        cards in proptest::array::uniform5((0..3_usize, any::<bool>(), 1300..9000_u32)),
        bonds in proptest::array::uniform2(proptest::option::of((options(), any::<bool>(), any::<bool>()))),
        vlans in proptest::collection::vec((0..7_usize, 1..4_u16, any::<bool>()), 0..6),
        given in proptest::collection::vec(addresses(), 6),
        foreign in any::<bool>(),
        odd_mode in any::<bool>(),
    ) -> Observed {
        let mut links = BTreeMap::new();
        for (name, bond) in ["bond0", "bond1"].into_iter().zip(bonds) {
            if let Some((options, up, ours)) = bond {
                let options = Some(options).filter(|_| !odd_mode);
                let facts = BondFacts { options, ..BondFacts::default() };
                let mut link = found(ObservedKind::Bond(facts), ours);
                link.up = up;
                links.insert(name.to_owned(), link);
            }
        }
        for (name, (place, up, mtu)) in CARDS.into_iter().zip(cards) {
            let mut link = found(ObservedKind::Card, false);
            (link.up, link.mtu) = (up, mtu);
            let bond = ["bond0", "bond1", "none"][place];
            link.controller = links.contains_key(bond).then(|| bond.to_owned());
            links.insert(name.to_owned(), link);
        }
        let parents = [&CARDS[..], &["bond0", "bond1"]].concat();
        for (index, (parent, id, up)) in vlans.into_iter().enumerate() {
            let parent = parents[parent];
            let Some(carrier) = links.get(parent) else { continue };
            if links.values().any(|link| link.kind == ObservedKind::Vlan { parent: Some(parent.to_owned()), id }) {
                continue;
            }
            let (up, mtu) = (up && carrier.up, carrier.mtu);
            let kind = ObservedKind::Vlan { parent: Some(parent.to_owned()), id };
            let mut link = found(kind, true);
            (link.up, link.mtu) = (up, mtu);
            links.insert(format!("vlan{index}"), link);
        }
        for (link, given) in links.values_mut().zip(given.iter().cycle()) {
            for address in given.iter().filter(|one| link.up || one.address.is_ipv4()) {
                let facts = AddressFacts { ours: !foreign, duplicate: false };
                link.addresses.insert(*address, facts);
            }
        }
        Observed { links, ..Observed::default() }
    }
}

/// Applies all steps as the kernel would, which must refuse none.
fn carried_out(desired: &LinksPlan, mut kernel: Observed) -> Observed {
    for step in reconcile(desired, &kernel) {
        if let Err(refused) = apply_as_the_kernel(&mut kernel, &step) {
            panic!("the kernel refuses to {step}: {refused}\n{desired:#?}");
        }
    }
    kernel
}

/// Whether everything that the plan says holds, by the plan's words alone.
fn holds(desired: &LinksPlan, kernel: &Observed) -> Result<(), String> {
    for link in &desired.links {
        let name = &link.name;
        let found = kernel.links.get(name).ok_or(format!("{name} is missing"))?;
        match (&link.kind, &found.kind) {
            (LinkKind::Bond(bond), ObservedKind::Bond(facts)) => {
                let mut members: Vec<&str> = kernel.members(name).map(|(name, _)| name).collect();
                members.sort_unstable();
                let mut wanted: Vec<&str> = bond.members.iter().map(String::as_str).collect();
                wanted.sort_unstable();
                if members != wanted || facts.options != Some(bond.options) {
                    return Err(format!("{name} has {members:?}, {facts:?}"));
                }
                if facts.primary != bond.primary {
                    return Err(format!("{name} prefers {:?}", facts.primary));
                }
            }
            (LinkKind::Vlan { parent, id }, kind) => {
                if *kind != (ObservedKind::Vlan { parent: Some(parent.clone()), id: *id }) {
                    return Err(format!("{name} is {kind:?}"));
                }
            }
            (LinkKind::Uplink(_), ObservedKind::Card) => {
                let bond = desired.bond_of(name).map(|(bond, _)| &bond.name);
                if bond.is_some() && found.controller.as_ref() != bond {
                    return Err(format!("{name} is in {:?}", found.controller));
                }
            }
            (kind, found) => return Err(format!("{name} is {found:?}, not {kind:?}")),
        }
        let mtu = desired.bond_of(name).map_or(link.mtu, |(bond, _)| bond.mtu);
        if !found.up || mtu.is_some_and(|mtu| mtu != found.mtu) {
            return Err(format!("{name} is up {}, MTU {}", found.up, found.mtu));
        }
        let Addressing::Static(wanted) = &link.addressing else { continue };
        if wanted.iter().any(|one| !found.addresses.contains_key(one)) {
            return Err(format!("{name} has {:?}", found.addresses));
        }
        let left =
            found.addresses.iter().filter(|(one, facts)| facts.ours && !wanted.contains(one));
        if left.count() > 0 {
            return Err(format!("{name} still has {:?}", found.addresses));
        }
    }
    let mut former = kernel.links.iter().filter(|(name, link)| {
        link.ours && !desired.ports.contains(name) && desired.link(name).is_none()
    });
    let carries = |name: &str| {
        desired.ports.iter().any(|port| {
            matches!(kernel.links.get(port).map(|link| &link.kind),
                Some(ObservedKind::Vlan { parent: Some(parent), .. }) if parent == name)
        })
    };
    if let Some((name, _)) = former.find(|(name, _)| !carries(name)) {
        return Err(format!("{name} is still there"));
    }
    if kernel.rules.len() < 10 && desired.management.is_some()
        || !kernel.rules.is_empty() && desired.management.is_none()
    {
        return Err(format!("{:?}", kernel.rules));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn the_steps_lead_from_any_state_to_the_desired_one_and_then_there_are_none(
        desired in plans(), kernel in kernels(),
    ) {
        let reached = carried_out(&desired, kernel);
        prop_assert_eq!(holds(&desired, &reached), Ok(()), "{:#?}", reached);
        prop_assert_eq!(reconcile(&desired, &reached), []);
    }

    #[test]
    fn from_one_plan_to_another_nothing_of_the_first_is_left(
        first in plans(), second in plans(), kernel in kernels(),
    ) {
        let reached = carried_out(&second, carried_out(&first, kernel));
        prop_assert_eq!(holds(&second, &reached), Ok(()));
        prop_assert_eq!(reconcile(&second, &reached), []);
    }

    #[test]
    fn the_order_in_which_links_are_written_changes_nothing(desired in plans(), kernel in kernels()) {
        let mut other = desired.clone();
        other.links.reverse();
        other.links.sort_by_key(|link| match link.kind {
            LinkKind::Uplink(_) => 0,
            LinkKind::Bond(_) => 1,
            LinkKind::Vlan { .. } => 2,
        });
        prop_assert_eq!(carried_out(&desired, kernel.clone()), carried_out(&other, kernel));
    }

    #[test]
    fn links_that_are_not_described_are_left_as_they_are(desired in plans(), kernel in kernels()) {
        let mut kernel = kernel;
        kernel.links.insert("br0".to_owned(), found(ObservedKind::Card, false));
        let mut theirs = found(ObservedKind::Bond(BondFacts::default()), false);
        theirs.up = false;
        kernel.links.insert("bond9".to_owned(), theirs);
        let before = ["br0", "bond9"].map(|name| kernel.links[name].clone());
        let reached = carried_out(&desired, kernel);
        prop_assert_eq!(before, ["br0", "bond9"].map(|name| reached.links[name].clone()));
    }
}

#[test]
fn cards_are_told_apart_by_mac_and_path_and_swap_their_names() {
    let mac = |last| MacAddress([2, 0, 0, 0, 0, last]);
    let mut kernel = Observed::default();
    for (name, last, path) in
        [("eth0", 1, "0000:00:03.0"), ("eth1", 2, "0000:00:04.0"), ("eth2", 3, "x")]
    {
        let mut one = found(ObservedKind::Card, false);
        (one.mac, one.path) = (mac(last), vec![path.to_owned()]);
        kernel.links.insert(name.to_owned(), one);
    }
    let desired = plan(vec![
        link("eth0", LinkKind::Uplink(Selection::Mac(mac(2)))),
        link("eth1", LinkKind::Uplink(Selection::Path("0000:00:03.0".to_owned()))),
        link("fabric0", LinkKind::Uplink(Selection::Mac(mac(3)))),
    ]);
    let reached = carried_out(&desired, kernel.clone());
    let macs: Vec<_> = reached.links.iter().map(|(name, link)| (name.as_str(), link.mac)).collect();
    assert_eq!(macs, [("eth0", mac(2)), ("eth1", mac(1)), ("fabric0", mac(3))]);
    assert!(reached.links.values().all(|link| link.up));
    assert_eq!(reconcile(&desired, &reached), []);

    // A name that a stranger has stays the stranger's, and a MAC that two have selects neither.
    let taken = plan(vec![link("eth2", LinkKind::Uplink(Selection::Mac(mac(1))))]);
    assert_eq!(reconcile(&taken, &kernel), []);
    let [complaint] = &judge(&taken, &taken.links[0], &kernel)[..] else { panic!("one") };
    assert!(
        complaint.starts_with("the selected network card is eth0, since another"),
        "{complaint}"
    );
    kernel.links.get_mut("eth1").unwrap().mac = mac(1);
    assert_eq!(reconcile(&taken, &kernel), []);
    let [complaint] = &judge(&taken, &taken.links[0], &kernel)[..] else { panic!("one") };
    assert!(complaint.contains("several network cards (eth0, eth1)"), "{complaint}");
}

#[test]
fn each_fault_has_its_sentence() {
    let mut lacp = bond("bond0", BondMode::Lacp(BondHash::Port, LacpRate::Fast), &["eth0", "eth1"]);
    (lacp.mtu, lacp.needed_mtu) = (Some(1600), Some(1542));
    lacp.addressing = Addressing::Static(vec![address("192.0.2.1/24")]);
    let desired = plan(vec![card("eth0"), card("eth1"), lacp.clone(), vlan("vlan0", "bond0", 5)]);
    let partner = MacAddress([2, 0, 0, 0, 0, 9]);
    let member = |aggregator| {
        let mut one = found(ObservedKind::Card, false);
        (one.controller, one.aggregator) = (Some("bond0".to_owned()), Some(aggregator));
        one.mtu = 1600;
        one
    };
    let LinkKind::Bond(bond) = &lacp.kind else { unreachable!() };
    let facts =
        BondFacts { options: Some(bond.options), primary: None, partner: Some((1, partner)) };
    let mut whole = found(ObservedKind::Bond(facts.clone()), true);
    whole.mtu = 1600;
    whole.addresses.insert(address("192.0.2.1/24"), AddressFacts { ours: true, duplicate: false });
    let mut well = Observed::default();
    well.links.insert("eth0".to_owned(), member(1));
    well.links.insert("eth1".to_owned(), member(1));
    well.links.insert("bond0".to_owned(), whole);
    let complaints = |kernel: &Observed| judge(&desired, &lacp, kernel);
    assert_eq!(complaints(&well), [] as [&str; 0]);
    type Break = fn(&mut Observed);
    let breaks: [(Break, &str); 10] = [
        (
            |kernel| kernel.links.get_mut("eth1").unwrap().carrier = false,
            "member eth1 has no carrier",
        ),
        (
            |kernel| kernel.links.get_mut("eth1").unwrap().controller = None,
            "member eth1 is not in the bond",
        ),
        (|kernel| drop(kernel.links.remove("eth1")), "member eth1 is not there"),
        (
            |kernel| kernel.links.values_mut().for_each(|link| link.carrier = false),
            "no member carries anything (eth0, eth1)",
        ),
        (
            |kernel| kernel.links.get_mut("eth1").unwrap().aggregator = Some(2),
            "member eth1 does not have the LACP partner 02:00:00:00:00:09 of the others",
        ),
        (
            |kernel| {
                let bond = kernel.links.get_mut("bond0").unwrap();
                let ObservedKind::Bond(facts) = &mut bond.kind else { unreachable!() };
                facts.partner = Some((1, MacAddress([0; 6])));
            },
            "no LACP partner answers",
        ),
        (|kernel| kernel.links.get_mut("bond0").unwrap().mtu = 1500, "its MTU is 1500, not 1600"),
        (
            |kernel| kernel.links.get_mut("bond0").unwrap().addresses.clear(),
            "it lacks 192.0.2.1/24",
        ),
        (|kernel| drop(kernel.links.remove("bond0")), "there is no bond bond0"),
        (
            |kernel| kernel.links.get_mut("bond0").unwrap().kind = ObservedKind::Card,
            "there is a link bond0 that is no bond",
        ),
    ];
    for (spoil, sentence) in breaks {
        let mut kernel = well.clone();
        spoil(&mut kernel);
        let complaints = complaints(&kernel);
        assert!(complaints[0].starts_with(sentence), "{sentence}: {complaints:?}");
    }
    let mut small = lacp.clone();
    small.mtu = None;
    let mut kernel = well.clone();
    kernel.links.get_mut("bond0").unwrap().mtu = 1500;
    let [complaint] = &judge(&desired, &small, &kernel)[..] else { panic!("one") };
    assert!(complaint.starts_with("its MTU is 1500, and tenants' packets in NVGRE need 1542"));
}

#[test]
fn an_address_that_another_machine_has_is_told() {
    let taken = address("2001:db8::1/64");
    let mut mgmt = card("mgmt0");
    mgmt.addressing = Addressing::Static(vec![taken]);
    let desired = plan(vec![mgmt.clone()]);
    let mut kernel = Observed::default();
    let mut one = found(ObservedKind::Card, false);
    one.addresses.insert(taken, AddressFacts { ours: true, duplicate: true });
    kernel.links.insert("mgmt0".to_owned(), one);
    assert_eq!(
        judge(&desired, &mgmt, &kernel),
        ["another machine has 2001:db8::1: take it away from one of the two"]
    );
}

#[test]
fn a_card_is_told_from_its_bridge_and_from_its_fast_half() {
    let mac = MacAddress([2, 0, 0, 0, 0, 1]);
    let mut kernel = Observed::default();
    for (name, path, controller) in [
        ("eth0", &["vmbus_1"][..], None),
        ("enP1", &["0001:00:02.0"][..], Some("eth0")),
        ("br0", &[][..], None),
    ] {
        let mut one = found(ObservedKind::Card, false);
        one.path = path.iter().map(|&part| part.to_owned()).collect();
        one.controller = controller.map(str::to_owned);
        kernel.links.insert(name.to_owned(), one);
    }
    assert_eq!(kernel.selected("fabric0", &Selection::Mac(mac)), ["eth0"]);
    // In a bridge it is still the card, and the bridge is none.
    kernel.links.get_mut("eth0").unwrap().controller = Some("br0".to_owned());
    assert_eq!(kernel.selected("fabric0", &Selection::Mac(mac)), ["eth0"]);
    // Two cards of one address stay ambiguous.
    kernel.links.get_mut("enP1").unwrap().controller = None;
    assert_eq!(kernel.selected("fabric0", &Selection::Mac(mac)), ["enP1", "eth0"]);
}

#[test]
fn a_link_that_is_repaired_too_often_rests_and_says_so() {
    let mut history = History::default();
    let start = Instant::now();
    for second in 0..MAX_REPAIRS as u64 {
        let now = start + Duration::from_secs(second);
        assert!(!history.rests(now));
        history.note_repair("set the MTU".to_owned(), now);
    }
    let last = start + Duration::from_secs(MAX_REPAIRS as u64);
    assert!(history.rests(last));
    assert!(!history.rests(last + REST));
    // Slower changes are repaired for ever.
    let mut history = History::default();
    for minute in 0..100 {
        let now = start + Duration::from_secs(20 * minute);
        history.note_repair("set the MTU".to_owned(), now);
        assert!(!history.rests(now));
    }
    assert_eq!(history.repairs, 100);
}
