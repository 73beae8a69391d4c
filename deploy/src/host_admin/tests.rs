use std::collections::BTreeSet;

use super::*;

fn machine() -> Machine {
    Machine {
        name: "gw-a".parse().unwrap(),
        other: None,
        folder: "/var/lib/libvirt/images/".parse().unwrap(),
        cpus: 4,
        memory_mib: 4096,
        attachments: Attachments {
            management: "br-mgmt".parse().unwrap(),
            fabric: "br-fabric:trunk=100,200-202".parse().unwrap(),
            front_end: "br-front:300".parse().unwrap(),
        },
    }
}

fn for_hyperv(machine: Machine) -> Machine {
    Machine { folder: r"C:\Gateways (new)\".parse().unwrap(), ..machine }
}

#[test]
fn one_gateways_domain_is_this() {
    assert_eq!(domain(&machine()), include_str!("golden/one.xml"));
}

#[test]
fn a_pairs_script_is_this() {
    let [_, second] = for_hyperv(machine()).pair();
    assert_eq!(script(&second), include_str!("golden/second_of_two.ps1"));
}

#[test]
fn every_domain_is_well_formed_and_has_its_three_nics_and_two_disks() {
    let [first, second] = machine().pair();
    let mut addresses = BTreeSet::new();
    for machine in [machine(), first, second] {
        let text = domain(&machine);
        let document = roxmltree::Document::parse(&text).unwrap();
        let all = |name: &str| {
            let named = |node: &roxmltree::Node<'_, '_>| node.has_tag_name(name);
            document.descendants().filter(named).collect::<Vec<_>>()
        };
        assert_eq!(all("name")[0].text(), Some(machine.name.0.as_str()));
        let bridges: Vec<_> =
            all("source").iter().filter_map(|source| source.attribute("bridge")).collect();
        assert_eq!(bridges, ["br-mgmt", "br-fabric", "br-front"]);
        let queues: Vec<_> =
            all("driver").iter().filter_map(|driver| driver.attribute("queues")).collect();
        assert_eq!(queues, ["1", "4", "4"]);
        let tags: Vec<_> = all("tag").iter().filter_map(|tag| tag.attribute("id")).collect();
        assert_eq!(tags, ["100", "200", "201", "202", "300"]);
        assert_eq!(all("disk").len(), 2);
        assert_eq!(
            all("feature").iter().map(|it| it.attribute("enabled")).collect::<Vec<_>>(),
            [Some("no"), Some("no")]
        );
        for mac in all("mac") {
            let mac = mac.attribute("address").unwrap().to_owned();
            assert!(text.contains(&format!("mac: {mac}\n")), "seed.yaml names {mac}");
            addresses.insert(mac);
        }
    }
    assert_eq!(addresses.len(), 9, "no NIC has another one's address: {addresses:?}");
}

#[test]
fn each_of_a_pair_names_the_other_and_a_single_one_names_nobody() {
    let [first, second] = machine().pair();
    for (own, other) in [(&first, "gw-a-2"), (&second, "gw-a-1")] {
        assert!(domain(own).contains(&format!("{} and {other} must never share", own.name)));
        let own = for_hyperv(own.clone());
        assert!(script(&own).contains(&format!("{} and {other} must never share", own.name)));
        assert!(script(&own).contains("Add('gw-a-1+gw-a-2')"));
    }
    assert!(!domain(&machine()).contains("never share"));
    assert!(!script(&for_hyperv(machine())).contains("AntiAffinity"));
}

#[test]
fn what_would_need_quoting_is_refused() {
    for name in ["", "1a", "a b", "a'b", "a--b", "a-", "ä", &"a".repeat(LONGEST_NAME + 1)] {
        assert_eq!(name.parse::<MachineName>(), Err(HostAdminError::Name(name.to_owned())));
    }
    for text in ["", " ", "a'b", "a\u{2019}b", "a\"b", "a<b", "a&b", "a\nb", "a--b", "$(a)", "`a"] {
        assert_eq!(text.parse::<Folder>(), Err(HostAdminError::Text(text.to_owned())));
        assert_eq!(text.parse::<Attachment>(), Err(HostAdminError::Text(text.to_owned())));
    }
    for vlan in ["0", "4095", "x", "", "-1"] {
        let refused = format!("br:{vlan}").parse::<Attachment>();
        assert_eq!(refused, Err(HostAdminError::Vlan(vlan.to_owned())));
    }
    for trunk in ["9-8".to_owned(), vec!["1"; MOST_RANGES + 1].join(",")] {
        let refused = format!("br:trunk={trunk}").parse::<Attachment>();
        assert_eq!(refused, Err(HostAdminError::Trunk(trunk)));
    }
}
