//! Reloads under running tunnels: what is changed follows, and nothing else notices; one claim at a
//! time, with one worker and with two.

use nvgate::io::PortRole;
use nvgate_deploy::plan::{Plan, SitePlan, TenantPlan};
use nvgate_model::DropReason;
use nvgate_packet::buf::Offload;
use nvgate_tests::frames::Packet;
use nvgate_tests::rig::Rig;
use nvgate_tests::rig_claims::web;
use nvgate_tests::rig_plan::{REMOTE, WEB, customer, plan, tenant};
use nvgate_tests::rig_site::{
    SitePeer, carry, give_sites, key, on_premises, pass, peer_config, peer_socket, route_to, site,
    tunnel,
};
use nvgate_tests::rig_site_claims::{
    connect, connected, counted, each_place, from_site, from_vm, open_tunnel, taken, to_gateway,
    with_site,
};
use nvgate_vpn::{PresharedKey, TunnelCounters};

/// Tenant 0 with two sites of a tunnel each, 192.168.1.0/24 and 192.168.2.0/24, and tenant 1 with
/// one.
fn tenants() -> Vec<TenantPlan> {
    let mut first = tenant(0);
    let sites = vec![
        site("north", vec![tunnel(0, 1, "a", &["192.168.1.0/24"])]),
        site("south", vec![tunnel(0, 2, "a", &["192.168.2.0/24"])]),
    ];
    give_sites(&mut first, 0, sites, &[("192.168.1.0/24", 0), ("192.168.2.0/24", 1)]);
    first.vpn.as_mut().expect("sites").sites[1].internet = true;
    vec![first, with_site(1, 1, |_, _| {})]
}

/// The peers of tenant 0's two sites and of tenant 1's, with a session each.
fn peers(rig: &mut Rig, port: u16) -> Vec<SitePeer> {
    let mut peers: Vec<_> = [(0, 1), (0, 2), (1, 1)]
        .into_iter()
        .zip(port..)
        .map(|((tenant, number), port)| {
            SitePeer::new(tenant, number, peer_socket(9, port), rig.now)
        })
        .collect();
    for (peer, net) in peers.iter_mut().zip([1, 2, 1]) {
        peer.send(rig, &question(net));
        assert!(peer.status(rig.now).own_key.is_some());
    }
    taken(rig);
    peers
}

/// A packet of a machine in 192.168.`net`.0/24.
fn question(net: u8) -> Packet {
    Packet::udp((on_premises(net, 5), 4000), (customer(WEB, 10), 53), b"a question")
}

/// Both directions of a tunnel work.
fn talks(rig: &mut Rig, peers: &mut [SitePeer], at: usize) {
    let (tenant, question) = (u8::from(at == 2), question(if at == 1 { 2 } else { 1 }));
    let output = from_site(rig, peers, at, &question);
    assert_eq!(output.to_station(&web(tenant)), question.clone().hop());
    assert_eq!(from_vm(rig, peers, &web(tenant), &question.reply()), []);
    assert_eq!(peers[at].take(), [question.reply().hop()]);
}

/// What the gateway counts of each tunnel, by the name of its tenant and site.
fn counters(rig: &Rig) -> Vec<(String, TunnelCounters)> {
    let snapshot = rig.snapshot();
    let mut counters = Vec::new();
    for domain in snapshot.domains() {
        for site in domain.sites.iter() {
            let status = site.tunnels[0].shared.status.lock().expect("nobody panicked");
            let counted = status.map(|status| status.counters).unwrap_or_default();
            counters.push((format!("{} {}", domain.tenant, site.name), counted));
        }
    }
    counters.sort_by(|one, other| one.0.cmp(&other.0));
    counters
}

/// A change of the configuration by its name.
type Change = (&'static str, fn(&mut Plan));

fn first(plan: &mut Plan) -> &mut SitePlan {
    &mut plan.tenants[0].vpn.as_mut().expect("sites").sites[0]
}

/// Changes of tenant 0's first tunnel.
const CHANGES: [Change; 8] = [
    ("allowed", |plan| {
        first(plan).tunnels[0].allowed.push("192.168.3.0/24".parse().expect("a prefix"));
        plan.tenants[0].routes.push(route_to("192.168.3.0/24", 0));
    }),
    ("bandwidth", |plan| {
        first(plan).tunnels[0].bandwidth.inbound_kbps = std::num::NonZeroU32::new(1000);
    }),
    ("endpoint", |plan| first(plan).tunnels[0].endpoint = Some(peer_socket(77, 7))),
    ("peer", |plan| first(plan).tunnels[0].peer = key(0, 3).public()),
    ("preshared", |plan| {
        first(plan).tunnels[0].preshared = PresharedKey::from_bytes([5; 32]).ok();
    }),
    ("another tunnel", |plan| first(plan).tunnels.push(tunnel(0, 9, "b", &["192.168.1.0/24"]))),
    ("another site", |plan| {
        let sites = &mut plan.tenants[0].vpn.as_mut().expect("sites").sites;
        sites.push(site("west", vec![tunnel(0, 8, "a", &["192.168.9.0/24"])]));
        plan.tenants[0].routes.push(route_to("192.168.9.0/24", 2));
    }),
    ("no first site", |plan| {
        let tenant = &mut plan.tenants[0];
        tenant.vpn.as_mut().expect("sites").sites.remove(0);
        tenant.routes = vec![route_to("192.168.2.0/24", 0)];
    }),
];

#[test]
fn a_change_of_one_tunnel_leaves_every_other_and_nat_alone() {
    for (name, change) in CHANGES {
        each_place(&tenants(), |rig, port| {
            let mut peers = peers(rig, port);
            // A NAT session of a VM, and one of the other site.
            let out = Packet::udp((customer(WEB, 10), 1000), (REMOTE, 53), b"out");
            let frame = web(0).sends(&out).bytes();
            let vm = rig.exchange(PortRole::Fabric, &frame).to_router();
            let away = Packet::udp((on_premises(2, 5), 1000), (REMOTE, 53), b"out");
            let from_there = from_site(rig, &mut peers, 1, &away).to_router();
            pass(rig, &mut peers, 2);
            let before = counters(rig);

            let mut next = plan(tenants());
            change(&mut next);
            rig.reload(&next);
            pass(rig, &mut peers, 2);
            let after = counters(rig);
            for (tunnel, counted) in &before {
                let kept = after.iter().find(|(name, _)| name == tunnel).map(|(_, now)| now);
                if tunnel != "tenant-0 north" {
                    assert_eq!(kept, Some(counted), "{tunnel} after {name}");
                }
            }
            talks(rig, &mut peers, 1);
            talks(rig, &mut peers, 2);
            assert_eq!(peers[1].status(rig.now).counters.handshakes_tried, 1, "{name}");
            assert_eq!(peers[2].status(rig.now).counters.handshakes_tried, 1, "{name}");
            let output = to_gateway(rig, &mut peers, &vm.reply());
            assert_eq!(output.to_station(&web(0)), out.reply().hop(), "{name}");
            to_gateway(rig, &mut peers, &from_there.reply());
            assert_eq!(peers[1].take(), [away.reply().hop()], "{name}");
        });
    }
}

#[test]
fn a_changed_peer_or_secret_ends_the_session_and_the_new_one_begins() {
    for (name, change) in &CHANGES[3..5] {
        each_place(&tenants(), |rig, port| {
            let mut peers = peers(rig, port);
            let mut next = plan(tenants());
            change(&mut next);
            rig.reload(&next);
            rig.run();
            peers[0].dispatch(rig, &question(1));
            carry(rig, &mut peers[..1]);
            assert!(rig.take(PortRole::Fabric).is_empty(), "{name}: the old keys open nothing");
            let mut config = peer_config(0, if *name == "peer" { 3 } else { 1 });
            config.preshared = first(&mut next).tunnels[0].preshared.clone();
            peers[0] = SitePeer::with(config, 3, peers[0].address, rig.now);
            connect_first(rig, &mut peers[0]);
            talks(rig, &mut peers, 0);
        });
    }
}

/// Has the peer of 192.168.1.0/24 make a session.
fn connect_first(rig: &mut Rig, peer: &mut SitePeer) {
    peer.send(rig, &question(1));
    assert!(peer.status(rig.now).own_key.is_some(), "no session");
    taken(rig);
    peer.take();
}

#[test]
fn packets_that_wait_for_a_session_in_vain_are_counted() {
    for removed in [false, true] {
        each_place(&tenants(), |rig, port| {
            let mut peers = peers(rig, port);
            let mut next = plan(tenants());
            CHANGES[4].1(&mut next);
            rig.reload(&next);
            // They are on their way when the session ends.
            let frame = web(0).sends(&question(1).reply()).bytes();
            for _ in 0..20 {
                rig.inject(PortRole::Fabric, 0, &frame, Offload::default());
            }
            carry(rig, &mut peers[1..]);
            pass(rig, &mut peers[1..], 2);
            assert_eq!(rig.drops(DropReason::TunnelQueueFull), 4);
            assert_eq!(rig.drops(DropReason::TunnelDown), 0);
            if removed {
                CHANGES[7].1(&mut next);
                rig.reload(&next);
                rig.run();
            } else {
                pass(rig, &mut peers[1..], 100);
            }
            counted(rig, &[(DropReason::TunnelDown, 16), (DropReason::TunnelQueueFull, 4)]);
        });
    }
}

#[test]
fn an_allowed_prefix_that_is_taken_away_stops_at_once() {
    each_place(&tenants(), |rig, port| {
        let mut peers = peers(rig, port);
        talks(rig, &mut peers, 0);
        let mut next = plan(tenants());
        first(&mut next).tunnels[0].allowed = vec!["192.168.1.128/25".parse().expect("a prefix")];
        next.tenants[0].routes[0] = route_to("192.168.1.128/25", 0);
        rig.reload(&next);
        assert!(from_site(rig, &mut peers, 0, &question(1)).is_empty());
        counted(rig, &[(DropReason::TunnelSource, 1)]);
        // What is routed to no site any more is the internet's.
        let output = from_vm(rig, &mut peers, &web(0), &question(1).reply());
        assert_eq!(output.len(), 1);
        assert!(peers[0].received.is_empty());
    });
}

#[test]
fn a_removed_site_is_gone_with_all_its_packets() {
    each_place(&tenants(), |rig, port| {
        let mut peers = peers(rig, port);
        talks(rig, &mut peers, 0);
        let mut next = plan(tenants());
        CHANGES[7].1(&mut next);
        rig.reload(&next);
        assert!(from_site(rig, &mut peers, 0, &question(1)).is_empty());
        counted(rig, &[(DropReason::TunnelUnknownPeer, 1)]);
        // A site under the same name is another one: the old session is not its.
        rig.reload(&plan(tenants()));
        assert!(from_site(rig, &mut peers, 0, &question(1)).is_empty());
        counted(rig, &[(DropReason::TunnelUnknownPeer, 2)]);
        talks(rig, &mut peers, 1);
        peers[0] = SitePeer::new(0, 1, peers[0].address, rig.now);
        connect_first(rig, &mut peers[0]);
        talks(rig, &mut peers, 0);
    });
}

#[test]
fn the_number_of_a_site_that_went_says_nothing_of_the_next_one() {
    let with = |owner: u8| {
        let without = tenant(1 - owner);
        let mut tenants = vec![with_site(owner, 1, |_, site| site.internet = true), without];
        tenants.sort_by_key(|tenant| tenant.name.to_string());
        tenants
    };
    each_place(&with(0), |rig, port| {
        let mut peers = vec![connected(rig, 0, 1, port)];
        let packets = [question(1), Packet::udp((on_premises(1, 5), 9), (REMOTE, 9), b"out")];
        for _ in 0..3 {
            let output = from_site(rig, &mut peers, 0, &packets[0]);
            assert_eq!(output.to_station(&web(0)), packets[0].clone().hop());
            let _ = from_site(rig, &mut peers, 0, &packets[1]).to_router();
        }
        for owner in [1, 0, 1] {
            rig.reload(&plan(with(owner)));
            rig.run();
            // Its very first packet is of a flow that was compiled for the other tenant.
            let address = peer_socket(9, port + u16::from(owner));
            let mut peers = vec![SitePeer::new(owner, 1, address, rig.now)];
            for _ in 0..3 {
                let out = from_site(rig, &mut peers, 0, &packets[1]).to_router();
                let snapshot = rig.snapshot();
                let leased = snapshot.by_front_end(out.source).map(|it| it.tenant.to_string());
                assert_eq!(leased, Some(format!("tenant-{owner}")));
                let output = from_site(rig, &mut peers, 0, &packets[0]);
                assert_eq!(output.to_station(&web(owner)), packets[0].clone().hop());
            }
        }
        counted(rig, &[]);
    });
}

#[test]
fn a_site_in_the_place_of_another_of_its_tenant_inherits_nothing() {
    each_place(&tenants(), |rig, port| {
        let mut peers = peers(rig, port);
        talks(rig, &mut peers, 0);
        let mut next = plan(tenants());
        *first(&mut next) = site("east", vec![open_tunnel(0, 4)]);
        rig.reload(&next);
        assert!(from_site(rig, &mut peers, 0, &question(1)).is_empty());
        counted(rig, &[(DropReason::TunnelUnknownPeer, 1)]);
        let mut east = vec![SitePeer::new(0, 4, peer_socket(9, port + 4), rig.now)];
        connect(rig, &mut east[0]);
        let output = from_site(rig, &mut east, 0, &question(1));
        assert_eq!(output.to_station(&web(0)), question(1).hop());
        // East may say nothing for what is routed to south.
        assert!(from_site(rig, &mut east, 0, &question(2)).is_empty());
        counted(rig, &[(DropReason::TunnelUnknownPeer, 1), (DropReason::TunnelSource, 1)]);
    });
}

#[test]
fn a_rotated_key_is_used_while_the_one_before_still_works() {
    each_place(&tenants(), |rig, port| {
        let mut peers = peers(rig, port);
        let mut next = plan(tenants());
        let listener = &mut next.tenants[0].vpn.as_mut().expect("a listener").listeners[0];
        listener.previous = Some(std::mem::replace(&mut listener.key, key(0, 99)));
        rig.reload(&next);
        // Sessions go on.
        talks(rig, &mut peers, 0);
        talks(rig, &mut peers, 1);
        // A peer that knows only the old key renews its session, and both sides may begin.
        for _ in 0..300 {
            pass(rig, &mut peers, 1);
            talks(rig, &mut peers, 0);
            // South only listens: the gateway has to begin.
            assert_eq!(from_vm(rig, &mut peers, &web(0), &question(2).reply()), []);
            assert_eq!(peers[1].take(), [question(2).reply().hop()]);
        }
        // One that has learned the new key comes by that.
        let mut config = peer_config(0, 1);
        config.peer = key(0, 99).public();
        peers[0] = SitePeer::with(config, 1, peers[0].address, rig.now);
        connect_first(rig, &mut peers[0]);
        talks(rig, &mut peers, 0);
        talks(rig, &mut peers, 1);
        talks(rig, &mut peers, 2);
        counted(rig, &[]);

        // Without the old key who knows only that is out.
        let listener = &mut next.tenants[0].vpn.as_mut().expect("a listener").listeners[0];
        listener.previous = None;
        rig.reload(&next);
        talks(rig, &mut peers, 0);
        assert!(from_site(rig, &mut peers, 1, &question(2)).is_empty());
        assert_eq!(rig.all_drops().len(), 1, "{:?}", rig.all_drops());
    });
}
