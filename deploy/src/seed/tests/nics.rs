//! Which NIC is which, and how they get their names.

use std::collections::BTreeMap;

use super::{machine, nic};
use crate::seed::nics::{
    HostNic, NamedNic, Role, name_management, named_by_order, ordered, renames,
};

#[test]
fn pci_devices_come_by_address_and_others_after_them_as_they_were_found() {
    let vmbus = "7ad35d50-c05b-47ab-b3a0-56a9a845852b";
    let mut nics = vec![
        nic(2, 1, "f8615163-df3e-46c5-913f-f2d2f965ed0e"),
        nic(3, 2, "0000:00:0a.0"),
        nic(4, 3, "0000:00:03.0"),
        nic(5, 4, vmbus),
    ];
    let order = |nics: &[HostNic]| ordered(nics).iter().map(|nic| nic.index).collect::<Vec<_>>();
    assert_eq!(order(&nics), [4, 3, 2, 5]);
    // A virtual function with the MAC address of the NIC that it speeds up.
    nics.push(nic(6, 4, "0002:00:02.0"));
    assert_eq!(order(&nics), [4, 3, 2, 5]);
}

/// What links are called after the changes; none may want a name that is taken.
fn after(nics: &[HostNic], named: &[NamedNic]) -> BTreeMap<String, u32> {
    let mut links: BTreeMap<_, _> = nics.iter().map(|nic| (nic.name.clone(), nic.index)).collect();
    for rename in renames(nics, named) {
        assert_eq!(links.remove(&rename.from), Some(rename.index), "{rename:?}");
        assert_eq!(links.insert(rename.to.clone(), rename.index), None, "{rename:?}");
    }
    links
}

#[test]
fn names_are_changed_without_two_links_wanting_one_whatever_they_are_called_before() {
    let roles = [Role::Management, Role::Fabric, Role::FrontEnd];
    let names = ["mgmt0", "fabric0", "front0", "eth0"];
    let places = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    let mut ways = 0;
    for (first, second, third) in (0..64).map(|number| (number & 3, number >> 2 & 3, number >> 4)) {
        if first == second || second == third || first == third {
            continue;
        }
        let mut nics = machine();
        for (nic, name) in nics.iter_mut().zip([first, second, third]) {
            nic.name = names[name].to_owned();
        }
        for place in places {
            let named: Vec<_> = roles
                .iter()
                .zip(place)
                .map(|(&role, place)| NamedNic::new(role, role.link_name(0), &nics[place]))
                .collect();
            let links = after(&nics, &named);
            assert!(named.iter().all(|nic| links.get(&nic.name) == Some(&nic.index)), "{links:?}");
            ways += 1;
        }
    }
    assert_eq!(ways, 24 * 6);
}

#[test]
fn links_that_have_their_names_are_left_alone() {
    let mut nics = machine();
    let named = named_by_order(&nics);
    for (nic, named) in nics.iter_mut().zip(&named) {
        nic.name.clone_from(&named.name);
    }
    assert_eq!(renames(&nics, &named), []);
}

#[test]
fn management_is_the_first_nic_without_a_role() {
    let nics = machine();
    let mut named = vec![NamedNic::new(Role::Fabric, "fabric0".into(), &nics[0])];
    name_management(&mut named, &nics);
    assert_eq!(named[1], NamedNic::new(Role::Management, "mgmt0".into(), &nics[1]));
    let before = named.clone();
    name_management(&mut named, &nics);
    assert_eq!(named, before);
    assert_eq!(named_by_order(&nics[..2]).len(), 2);
}
