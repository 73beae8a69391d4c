//! Sites whose numbers are translated one to one, in both directions, with all that quotes them: one
//! claim at a time, with one worker and with two.

use std::net::IpAddr;

use nvgate_deploy::plan::{SitePlan, TenantPlan, TranslatePlan, TranslateSide};
use nvgate_model::DropReason;
use nvgate_tests::frames::{Body, Packet, flags};
use nvgate_tests::rig_claims::web;
use nvgate_tests::rig_plan::{REMOTE, WEB, customer, customer_v6, tenant};
use nvgate_tests::rig_site::{SitePeer, give_sites, peer_socket, site, tunnel};
use nvgate_tests::rig_site_claims::{counted, each_place, from_site, from_vm, taken, to_gateway};

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn translate(side: TranslateSide, from: &str, to: &str) -> TranslatePlan {
    let prefix = |text: &str| text.parse().expect("a prefix");
    TranslatePlan { side, from: prefix(from), to: prefix(to) }
}

/// A site that has 192.168.1.0/24 and fd19:1::/64, which the tenant sees as 172.20.`seen`.0/24 and
/// fd20:`seen`::/64; it sees the tenant's web subnet as 172.21.0.0/24 and fd21::/64.
fn translated(number: u8, key: u8, seen: u8) -> SitePlan {
    let name = format!("site-{key}");
    let mut site = site(&name, vec![tunnel(number, key, "a", &["192.168.1.0/24", "fd19:1::/64"])]);
    site.internet = true;
    site.translate = vec![
        translate(TranslateSide::Remote, "192.168.1.0/24", &format!("172.20.{seen}.0/24")),
        translate(TranslateSide::Remote, "fd19:1::/64", &format!("fd20:{seen}::/64")),
        translate(TranslateSide::Local, "10.1.0.0/24", "172.21.0.0/24"),
        translate(TranslateSide::Local, "fd00:1::/64", "fd21::/64"),
    ];
    site
}

/// Two tenants with two sites each, all four of which have the same numbers.
fn tenants() -> Vec<TenantPlan> {
    let of = |number| {
        let mut tenant = tenant(number);
        let sites = vec![translated(number, 1, 1), translated(number, 2, 2)];
        let routes =
            [("172.20.1.0/24", 0), ("fd20:1::/64", 0), ("172.20.2.0/24", 1), ("fd20:2::/64", 1)];
        give_sites(&mut tenant, number, sites, &routes);
        tenant
    };
    vec![of(0), of(1)]
}

/// The peers of both tenants' sites, tenant by tenant, with a session each.
fn connected(rig: &mut nvgate_tests::rig::Rig, port: u16) -> Vec<SitePeer> {
    let mut peers: Vec<_> = [(0, 1), (0, 2), (1, 1), (1, 2)]
        .into_iter()
        .zip(port..)
        .map(|((tenant, key), port)| SitePeer::new(tenant, key, peer_socket(9, port), rig.now))
        .collect();
    for peer in &mut peers {
        let knock = Packet::udp((address("192.168.1.5"), 1), (address("172.21.0.10"), 1), b"knock");
        peer.send(rig, &knock);
    }
    taken(rig);
    peers
}

/// A site's packet to the VM 10, as the site sends it and as the VM sees it, in both families.
fn pairs() -> [((IpAddr, IpAddr), (IpAddr, IpAddr)); 2] {
    [
        (
            (address("192.168.1.5"), address("172.21.0.10")),
            (address("172.20.1.5"), customer(WEB, 10).into()),
        ),
        (
            (address("fd19:1::5"), address("fd21::a")),
            (address("fd20:1::5"), customer_v6(WEB, 10).into()),
        ),
    ]
}

fn bodies((from, to): (IpAddr, IpAddr)) -> [Packet; 3] {
    [
        Packet::udp((from, 4000), (to, 53), b"question"),
        Packet::tcp((from, 4000), (to, 443), flags::ACK, &[7; 333]),
        Packet::echo(from, to, 9, b"ping"),
    ]
}

#[test]
fn both_sides_see_each_other_under_other_numbers() {
    each_place(&tenants(), |rig, port| {
        let mut peers = connected(rig, port);
        for (at, tenant) in [(0, 0), (2, 1)] {
            for (outside, inside) in pairs() {
                let twice = |ends| bodies(ends).into_iter().flat_map(|one| [one.clone(), one]);
                for (sent, seen) in twice(outside).zip(twice(inside)) {
                    let output = from_site(rig, &mut peers, at, &sent);
                    assert_eq!(output.to_station(&web(tenant)), seen.clone().hop());
                    from_vm(rig, &mut peers, &web(tenant), &seen.reply());
                    assert_eq!(peers[at].take(), [sent.reply().hop()]);
                }
            }
        }
        counted(rig, &[]);
    });
}

#[test]
fn two_sites_with_the_same_numbers_reach_each_other() {
    each_place(&tenants(), |rig, port| {
        let mut peers = connected(rig, port);
        let ends = [
            ("192.168.1.5", "172.20.2.6", "172.20.1.5", "192.168.1.6"),
            ("fd19:1::5", "fd20:2::6", "fd20:1::5", "fd19:1::6"),
        ];
        for ends in ends {
            let (from, to, seen_from, seen_to) =
                (address(ends.0), address(ends.1), address(ends.2), address(ends.3));
            for (sent, seen) in bodies((from, to)).into_iter().zip(bodies((seen_from, seen_to))) {
                assert!(from_site(rig, &mut peers, 0, &sent).is_empty());
                assert_eq!(peers[1].take(), [seen.clone().hop()]);
                assert!(from_site(rig, &mut peers, 1, &seen.reply()).is_empty());
                assert_eq!(peers[0].take(), [sent.reply().hop()]);
            }
        }
        assert!(peers[2..].iter().all(|peer| peer.received.is_empty()));
        counted(rig, &[]);
    });
}

#[test]
fn errors_quote_packets_as_their_sender_sent_them() {
    each_place(&tenants(), |rig, port| {
        let mut peers = connected(rig, port);
        for (outside, inside) in pairs() {
            let words = if outside.0.is_ipv4() { (3, 3, 0) } else { (1, 4, 0) };
            for (sent, seen) in bodies(outside).into_iter().zip(bodies(inside)) {
                // The VM's, about the site's packet.
                let arrived = from_site(rig, &mut peers, 0, &sent).to_station(&web(0));
                let error = Packet::error(inside.1, inside.0, words, &arrived);
                from_vm(rig, &mut peers, &web(0), &error);
                let told = Packet::error(outside.1, outside.0, words, &sent.clone().hop());
                assert_eq!(peers[0].take(), [told.hop()]);

                // The site's, about the VM's packet.
                from_vm(rig, &mut peers, &web(0), &seen.reply());
                let arrived = peers[0].take().remove(0);
                let error = Packet::error(outside.0, outside.1, words, &arrived);
                let output = from_site(rig, &mut peers, 0, &error);
                let told = Packet::error(inside.0, inside.1, words, &seen.reply().hop());
                assert_eq!(output.to_station(&web(0)), told.hop());
            }
        }
        counted(rig, &[]);
    });
}

#[test]
fn the_gateways_own_errors_are_translated_too() {
    each_place(&tenants(), |rig, port| {
        let mut peers = connected(rig, port);
        let ends = address("192.168.1.5");
        for source in [4000, 4001, 4002] {
            let mut sent = Packet::udp((ends, source), (address("172.21.0.10"), 53), b"hops");
            sent.ttl = 1;
            assert!(from_site(rig, &mut peers, 0, &sent).is_empty());
            let told = peers[0].take();
            let [told] = &told[..] else { panic!("not one packet: {told:?}") };
            assert_eq!((told.source, told.destination), (address("172.21.0.1"), ends));
            let Body::Icmp { kind: 11, code: 0, rest, .. } = &told.body else { panic!("{told:?}") };
            assert_eq!(*rest, sent.bytes());
        }
        counted(rig, &[(DropReason::TtlExpired, 3)]);
    });
}

#[test]
fn nat_and_renumbering_go_together() {
    each_place(&tenants(), |rig, port| {
        let mut peers = connected(rig, port);
        for at in 0..4 {
            for source in 2000..2008 {
                let from = (address("192.168.1.5"), source);
                for packet in [
                    Packet::udp(from, (REMOTE, 53), b"question"),
                    Packet::tcp(from, (REMOTE, 443), flags::SYN, b""),
                    Packet::echo(from.0, REMOTE, source, b"ping"),
                ] {
                    let left = from_site(rig, &mut peers, at, &packet).to_router();
                    to_gateway(rig, &mut peers, &left.reply());
                    assert_eq!(peers[at].take(), [packet.reply().hop()]);

                    let error = Packet::error(REMOTE, left.source, (3, 1, 0), &left);
                    to_gateway(rig, &mut peers, &error);
                    let told = Packet::error(REMOTE, from.0, (3, 1, 0), &packet.clone().hop());
                    assert_eq!(peers[at].take(), [told.hop()]);
                }
            }
        }
        counted(rig, &[]);
    });
}
