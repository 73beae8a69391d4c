//! Several tunnels of a site, and what happens when they go down and come up: one claim at a time,
//! with one worker and with two.

use std::net::IpAddr;
use std::time::Duration;

use nvgate_deploy::plan::{ProbePlan, RoutePlan, RouteTarget, SitePlan, TenantPlan};
use nvgate_model::{CustomerAddress, DropReason, Protocol};
use nvgate_tests::frames::{Body, Packet, flags};
use nvgate_tests::rig::Rig;
use nvgate_tests::rig_claims::{app, web};
use nvgate_tests::rig_plan::{APP, REMOTE, WEB, customer, public, rule};
use nvgate_tests::rig_site::{SitePeer, carry, on_premises, pass};
use nvgate_tests::rig_site_claims::{
    connected, counted, each_place, from_site, from_vm, taken, to_gateway, with_site,
};

/// What every tunnel is probed by.
fn probed() -> IpAddr {
    on_premises(1, 1).into()
}

/// Probes a site's tunnels every second, three times in vain, and holds for five seconds; the first
/// tunnel is the better one.
fn probe(site: &mut SitePlan) {
    for (tunnel, metric) in site.tunnels.iter_mut().zip([10, 20]) {
        tunnel.metric = metric;
        tunnel.probe = Some(ProbePlan {
            address: CustomerAddress(probed()),
            interval_millis: 1000,
            failures: 3,
            hold_secs: 5,
        });
    }
}

fn tenants(tunnels: u8) -> Vec<TenantPlan> {
    (0..2).map(|number| with_site(number, tunnels, |_, site| probe(site))).collect()
}

/// The peers of tenant 0's tunnels, which answer probes, and that of tenant 1's first.
fn peers(rig: &mut Rig, tunnels: u8, port: u16) -> Vec<SitePeer> {
    let of = |tenant| (1..=tunnels).map(move |number| (tenant, number));
    let mut peers: Vec<_> = of(0)
        .chain([(1, 1)])
        .zip(port..)
        .map(|((tenant, number), port)| {
            let mut peer = connected(rig, tenant, number, port);
            peer.answers = Some(probed());
            peer
        })
        .collect();
    pass(rig, &mut peers, 3);
    peers
}

fn question(port: u16) -> Packet {
    Packet::udp((customer(WEB, 10), port), (on_premises(1, 5), 53), b"which way?")
}

/// Which of the peers a packet of tenant 0's VM comes out of.
fn carrier(rig: &mut Rig, peers: &mut [SitePeer], packet: &Packet) -> Option<usize> {
    assert_eq!(from_vm(rig, peers, &web(0), packet), []);
    let mut came: Vec<_> = peers.iter_mut().map(SitePeer::take).collect();
    // Where probes are not answered they arrive like packets.
    came.iter_mut().for_each(|packets| packets.retain(|packet| packet.destination != probed()));
    let at = came.iter().position(|packets| !packets.is_empty())?;
    assert_eq!(came.concat(), [packet.clone().hop()]);
    Some(at)
}

#[test]
fn the_better_tunnel_carries_until_its_probe_fails_and_again_after_the_hold_time() {
    each_place(&tenants(2), |rig, port| {
        let mut peers = peers(rig, 2, port);
        for port in 100..110 {
            assert_eq!(carrier(rig, &mut peers, &question(port)), Some(0));
        }
        peers[0].answers = None;
        pass(rig, &mut peers, 2);
        assert_eq!(carrier(rig, &mut peers, &question(100)), Some(0));
        pass(rig, &mut peers, 3);
        peers.iter_mut().for_each(|peer| drop(peer.take()));
        for port in 100..110 {
            assert_eq!(carrier(rig, &mut peers, &question(port)), Some(1));
        }
        // What comes out of either is the site's, whichever carries.
        for at in [0, 1] {
            let packet = question(77).reply();
            let output = from_site(rig, &mut peers, at, &packet);
            assert_eq!(output.to_station(&web(0)), packet.hop());
        }
        peers[0].answers = Some(probed());
        pass(rig, &mut peers, 4);
        assert_eq!(carrier(rig, &mut peers, &question(100)), Some(1));
        pass(rig, &mut peers, 4);
        assert_eq!(carrier(rig, &mut peers, &question(100)), Some(0));
        counted(rig, &[]);
    });
}

#[test]
fn equal_tunnels_share_by_flow_and_keep_each_flow_in_order() {
    let equal = with_site(0, 2, |_, site| {
        site.tunnels.iter_mut().for_each(|tunnel| tunnel.metric = 7);
    });
    each_place(&[equal], |rig, port| {
        let mut peers = vec![connected(rig, 0, 1, port), connected(rig, 0, 2, port + 1)];
        let mut share = [0; 2];
        for port in 100..164 {
            let from = (customer(WEB, 10), port);
            let to = (on_premises(1, 5), 443);
            // The first packets of a flow, and those by its compiled entry.
            let flow = [flags::SYN, flags::ACK, flags::ACK, flags::ACK, flags::FIN]
                .map(|flags| Packet::tcp(from, to, flags, b"in order"));
            let carriers = flow.map(|packet| carrier(rig, &mut peers, &packet).expect("it comes"));
            assert!(carriers.iter().all(|at| *at == carriers[0]), "{carriers:?}");
            share[carriers[0]] += 1;
        }
        assert!(share.iter().all(|flows| *flows > 16), "{share:?}");
        counted(rig, &[]);
    });
}

/// The VM is told that there is no way, and nothing leaves.
fn unreachable(rig: &mut Rig, peers: &mut [SitePeer], packet: &Packet) {
    assert_eq!(from_vm(rig, peers, &web(0), packet), [], "never by NAT");
    let told = taken(rig).to_station(&web(0));
    let Body::Icmp { kind: 3, code: 0, rest, .. } = &told.body else { panic!("{told:?}") };
    assert_eq!((told.source, rest), (customer(WEB, 1).into(), &packet.bytes()));
}

#[test]
fn without_a_tunnel_a_sites_addresses_are_unreachable_and_never_leave_by_nat() {
    each_place(&tenants(2), |rig, port| {
        // Before any session, too.
        unreachable(rig, &mut [], &question(100));
        let mut peers = peers(rig, 2, port);
        assert_eq!(carrier(rig, &mut peers, &question(100)), Some(0));
        let generation = rig.snapshot().generation;
        peers[..2].iter_mut().for_each(|peer| peer.answers = None);
        pass(rig, &mut peers, 6);
        for peer in &mut peers {
            peer.take();
        }
        assert_ne!(rig.snapshot().generation, generation);
        for port in [100, 100, 101] {
            unreachable(rig, &mut peers, &question(port));
        }
        // The internet is still there, and the other tenant's site too.
        let out = Packet::udp((customer(WEB, 10), 100), (REMOTE, 53), b"out");
        assert_eq!(from_vm(rig, &mut peers, &web(0), &out).len(), 1);
        from_vm(rig, &mut peers, &web(1), &question(100));
        assert_eq!(peers[2].take(), [question(100).hop()]);
        peers[..2].iter_mut().for_each(|peer| peer.answers = Some(probed()));
        pass(rig, &mut peers, 8);
        assert_eq!(carrier(rig, &mut peers, &question(100)), Some(0));
        counted(rig, &[(DropReason::TunnelDown, 4)]);
    });
}

#[test]
fn a_less_specific_route_takes_over_and_gives_back() {
    let mut tenant = with_site(0, 1, |_, site| probe(site));
    tenant.routes.push(RoutePlan {
        prefix: "192.0.0.0/8".parse().expect("a prefix"),
        metric: 100,
        target: RouteTarget::Via(CustomerAddress(customer(APP, 20).into())),
        announce: false,
    });
    each_place(&[tenant, with_site(1, 1, |_, _| {})], |rig, port| {
        let mut peers = peers(rig, 1, port);
        assert_eq!(carrier(rig, &mut peers, &question(100)), Some(0));
        peers[0].answers = None;
        pass(rig, &mut peers, 6);
        peers[0].take();
        for _ in 0..2 {
            from_vm(rig, &mut peers, &web(0), &question(100));
            let packets = taken(rig).all_to_station(&app(0));
            assert_eq!(packets, [question(100).hop()]);
        }
        peers[0].answers = Some(probed());
        pass(rig, &mut peers, 8);
        assert_eq!(carrier(rig, &mut peers, &question(100)), Some(0));
        counted(rig, &[]);
    });
}

#[test]
fn nobody_outside_speaks_with_an_address_of_a_site_that_is_down() {
    let mut tenant = with_site(0, 1, |_, _| {});
    tenant.routes.push(RoutePlan {
        prefix: "0.0.0.0/0".parse().expect("a prefix"),
        metric: 100,
        target: RouteTarget::Via(CustomerAddress(customer(APP, 20).into())),
        announce: false,
    });
    each_place(&[tenant], |rig, _| {
        let syn = Packet::tcp((on_premises(1, 5), 7), (public(0, 0), 80), flags::SYN, b"");
        assert!(to_gateway(rig, &mut [], &syn).is_empty());
        counted(rig, &[(DropReason::Martian, 1)]);
    });
}

#[test]
fn an_inbound_rule_to_a_site_that_is_down_opens_nothing() {
    let mut tenants = tenants(1);
    for (number, tenant) in (0..2).zip(&mut tenants) {
        let to = (on_premises(1, 80), 8080);
        let rule = rule(Protocol::Udp, (public(number, 1), 443), 1, to);
        tenant.nat.as_mut().expect("NAT").inbound.push(rule);
    }
    each_place(&tenants, |rig, port| {
        let mut peers = peers(rig, 1, port);
        peers[0].answers = None;
        pass(rig, &mut peers, 6);
        peers[0].take();
        for from in 5000..5004 {
            let packet = Packet::udp((REMOTE, from), (public(0, 1), 443), b"in");
            let told = to_gateway(rig, &mut peers, &packet).to_router();
            let Body::Icmp { kind: 3, code: 0, rest, .. } = &told.body else { panic!("{told:?}") };
            assert_eq!((told.destination, rest), (REMOTE.into(), &packet.bytes()));
        }
        assert!(peers[0].received.is_empty());
        counted(rig, &[(DropReason::TunnelDown, 4)]);
        let snapshot = rig.snapshot();
        assert!(snapshot.domains().all(|domain| domain.sessions.used() == 0));
    });
}

#[test]
fn a_probe_is_no_packet_of_the_tenants_and_takes_none_from_it() {
    each_place(&tenants(1), |rig, port| {
        let mut peers = peers(rig, 1, port);
        // The VM pings the probed address under every identifier near the probe's own.
        peers[0].answers = None;
        rig.advance(Duration::from_secs(1));
        carry(rig, &mut peers);
        let probes = peers[0].take();
        let [probe] = &probes[..] else { panic!("not one probe: {probes:?}") };
        assert_eq!((probe.source, probe.destination), (customer(WEB, 1).into(), probed()));
        let identifier = probe.ports().0;
        let ping = Packet::echo(customer(WEB, 10), probed(), identifier, b"a VM's own");
        from_vm(rig, &mut peers, &web(0), &ping);
        let arrived = peers[0].take();
        assert_eq!(arrived, [ping.hop()]);
        let pong = arrived[0].reply();
        let output = from_site(rig, &mut peers, 0, &pong);
        assert_eq!(output.to_station(&web(0)), pong.hop());
        counted(rig, &[]);
        // Nothing of a tunnel that never comes up is counted as the tenant's.
        peers[0].reachable = false;
        pass(rig, &mut peers, 400);
        counted(rig, &[]);
    });
}
