//! The gateway's own TCP and UDP endpoints in routing domains with the same addresses: one claim at a
//! time, with one worker and with two.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use nvgate::counters::DomainTotals;
use nvgate::endpoint::{
    BGP_PORT, CloseReason, Datagram, Event, Md5Key, PeerOptions, RECEIVE_BUFFER, Refusal,
};
use nvgate::io::PortRole;
use nvgate_deploy::plan::Plan;
use nvgate_model::{DomainSlot, DropReason};
use nvgate_packet::buf::Offload;
use nvgate_tests::frames::{Body, Packet, flags};
use nvgate_tests::rig::{Rig, Station, outer, partial, tcp_super_packet};
use nvgate_tests::rig_claims::{accounted, app, two_tenants, web, web_neighbour};
use nvgate_tests::rig_endpoint::{HERE, Neighbourhood, Router, Seat, overlay_frame};
use nvgate_tests::rig_plan::{APP, WEB, customer, customer_v6, plan, tenant};
use nvgate_tests::rig_site::on_premises;
use nvgate_tests::rig_site_claims::{connected, tenants};

const OWN: IpAddr = IpAddr::V4(customer(WEB, 1));

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 + at / 251) as u8).collect()
}

fn on_overlay(station: &Station, address: IpAddr, options: &PeerOptions, seed: u64) -> Router {
    Router::new(Seat::Overlay(station.clone()), address, options.clone(), seed)
}

/// Two tenants with the same addresses; the routers 10.1.0.10 and 10.2.0.20 of each.
fn on_two_tenants(workers: u16, options: &PeerOptions) -> Neighbourhood {
    let mut here = Neighbourhood::new(&plan(two_tenants()), workers, options.clone());
    for number in 0..2 {
        for (station, address) in
            [(web(number), customer(WEB, 10)), (app(number), customer(APP, 20))]
        {
            let seed = here.routers.len() as u64;
            here.routers.push(on_overlay(&station, address.into(), options, seed));
        }
    }
    here
}

fn keyed(key: &[u8]) -> PeerOptions {
    PeerOptions { key: Some(Md5Key::new(key).expect("a key")), ..PeerOptions::default() }
}

fn gtsm() -> PeerOptions {
    PeerOptions { ttl: 255, minimum_ttl: 255, key: None }
}

#[test]
fn tenants_with_the_same_addresses_have_each_their_own_connections() {
    for workers in [1, 2] {
        let mut here = on_two_tenants(workers, &PeerOptions::default());
        let ids: Vec<_> = (0..4).map(|from| here.connect(from, OWN)).collect();
        for (from, &id) in ids.iter().enumerate() {
            assert_eq!(here.routers[from].events, [Event::Connected]);
            let data = pattern(100_000 + from);
            assert!(here.echoed(from, id, &data) == data, "{from}");
        }
        let incoming = |slot| {
            let events = here.driver.application.events.iter();
            let of = events.filter(|(id, _)| id.domain == DomainSlot(slot));
            of.filter(|(_, event)| matches!(event, Event::Incoming { .. })).count()
        };
        assert_eq!((incoming(0), incoming(1)), (2, 2));
        assert_eq!(here.rig.all_drops(), []);
        accounted(&here.rig);
    }
}

#[test]
fn ipv6_signatures_and_the_ttl_security_work_over_the_overlay() {
    for options in [keyed(b"between us"), gtsm(), PeerOptions::default()] {
        let mut here = on_two_tenants(2, &options);
        let v6 = on_overlay(&web_neighbour(0), customer_v6(WEB, 11).into(), &options, 9);
        here.routers.push(v6);
        for (from, own) in [(0, OWN), (1, OWN), (4, customer_v6(WEB, 1).into())] {
            let id = here.connect(from, own);
            let data = pattern(50_000);
            assert!(here.echoed(from, id, &data) == data);
        }
        let packets = here.routers.iter().flat_map(|router| &router.arrived);
        let longest = packets.map(Vec::len).max().expect("packets");
        assert!(longest <= 1458, "{longest}");
        assert!(longest > 1458 - 4, "{longest}");
        assert_eq!(here.rig.all_drops(), []);
    }
}

#[test]
fn who_comes_through_a_router_is_too_far_away_for_ttl_security() {
    let mut here = on_two_tenants(1, &gtsm());
    here.routers[0]
        .endpoints
        .set_peer(HERE, "0.0.0.0/0".parse().expect("a prefix"), PeerOptions { ttl: 254, ..gtsm() })
        .expect("a few peers");
    here.connect(0, OWN);
    assert_eq!(here.routers[0].arrived.len(), 0);
    let refusals: Vec<_> = here.driver.endpoints.refusals(DomainSlot(0)).nonzero().collect();
    assert_eq!(refusals, [(Refusal::TtlTooLow, 1)]);
}

#[test]
fn connections_go_through_tunnels_to_sites_with_the_same_addresses() {
    for (workers, port) in [(1, 7000), (2, 7000), (2, 7001)] {
        let plan = plan(tenants(|_, _| {}));
        let mut here = Neighbourhood::new(&plan, workers, gtsm());
        for number in 0..2_u8 {
            let site = connected(&mut here.rig, number, 1, port + u16::from(number));
            here.sites.push(site);
            let seat = Seat::Site(usize::from(number));
            let address = on_premises(1, 5).into();
            here.routers.push(Router::new(seat, address, gtsm(), u64::from(number)));
        }
        let drops = here.rig.all_drops();
        for from in 0..2 {
            let id = here.connect(from, OWN);
            assert_eq!(here.routers[from].events, [Event::Connected]);
            let data = pattern(60_000);
            assert!(here.echoed(from, id, &data) == data);
        }
        assert_eq!(here.rig.all_drops(), drops);
    }
}

#[test]
fn the_gateway_begins_connections_too() {
    for workers in [1, 2] {
        let mut here = on_two_tenants(workers, &PeerOptions::default());
        for (number, slot) in [(0, DomainSlot(0)), (2, DomainSlot(1))] {
            let router = &mut here.routers[number];
            let to = SocketAddr::new(router.address, BGP_PORT);
            router.endpoints.listen(HERE, to).expect("an own address");
            let id = here.driver.endpoints.connect(here.rig.now, slot, OWN, to).expect("a peer");
            here.carry();
            assert!(here.driver.application.events.contains(&(id, Event::Connected)));
            assert!(matches!(here.routers[number].events[..], [Event::Incoming { .. }]));
        }
    }
}

#[test]
fn loss_and_reordering_cost_time_only() {
    for workers in [1, 2] {
        let mut here = on_two_tenants(workers, &keyed(b"k"));
        let id = here.connect(0, OWN);
        here.one_lost_of = 12;
        let data = pattern(60_000);
        let echoed = here.echoed(0, id, &data);
        assert!(echoed == data, "{} of {}", echoed.len(), data.len());
    }
}

fn without_app(plan: &mut Plan) {
    let app = plan.tenants[0].subnets[1].vsid;
    plan.tenants[0].endpoints.retain(|endpoint| endpoint.vsid != app);
    plan.tenants[0].subnets.remove(1);
}

#[test]
fn a_reload_keeps_connections_of_addresses_that_stay() {
    for workers in [1, 2] {
        let mut here = on_two_tenants(workers, &PeerOptions::default());
        let stays = here.connect(0, OWN);
        here.connect(0, customer(APP, 1).into());
        let other = here.connect(2, customer(APP, 1).into());
        here.driver.application.events.clear();
        let mut changed = plan(two_tenants());
        without_app(&mut changed);
        here.rig.reload(&changed);
        here.carry();
        let ended: Vec<_> =
            here.driver.application.events.iter().map(|(_, event)| *event).collect();
        assert_eq!(ended, [Event::Closed(CloseReason::AddressGone)]);
        for (from, id) in [(0, stays), (2, other)] {
            assert!(here.echoed(from, id, b"still here") == b"still here");
        }
        changed.tenants.remove(0);
        here.rig.reload(&changed);
        here.driver.application.events.clear();
        here.carry();
        let gone = here
            .driver
            .application
            .events
            .iter()
            .filter(|(_, event)| *event == Event::Closed(CloseReason::AddressGone));
        assert_eq!(gone.count(), 1);
        assert!(here.echoed(2, other, b"untouched") == b"untouched");
    }
}

#[test]
fn a_domain_without_interest_resets_as_before() {
    for workers in [1, 2] {
        let mut rig = Rig::new(&plan(two_tenants()), workers);
        let syn = Packet::tcp((customer(WEB, 10), 4000), (customer(WEB, 1), 179), flags::SYN, b"");
        let answer = rig.from_tenant(&web(0), &syn).to_station(&web(0));
        assert!(
            matches!(answer.body, Body::Tcp { ports: (179, 4000), flags: 0x14, .. }),
            "{answer:?}"
        );
        // So does a registered domain at other ports.
        let mut here = on_two_tenants(workers, &PeerOptions::default());
        let syn = Packet::tcp((customer(WEB, 10), 4000), (customer(WEB, 1), 80), flags::SYN, b"");
        let answer = here.rig.from_tenant(&web(0), &syn).to_station(&web(0));
        assert!(matches!(answer.body, Body::Tcp { flags: 0x14, .. }), "{answer:?}");
        assert!(!here.driver.has_punts());
    }
}

#[test]
fn datagrams_of_bfd_go_both_ways_with_a_ttl_of_255() {
    let mut here = on_two_tenants(2, &PeerOptions::default());
    for from in 0..4 {
        let router = &mut here.routers[from];
        let local = SocketAddr::new(router.address, 3784);
        router.endpoints.bind(HERE, local).expect("an own address");
        let remote = SocketAddr::new(OWN, 3784);
        let datagram = Datagram { local, remote, ttl: 255, payload: vec![from as u8; 24] };
        router.endpoints.send_datagram(HERE, &datagram).expect("room");
        here.carry();
        let echo = here.routers[from].endpoints.poll_datagram();
        assert_eq!(echo, Some((HERE, Datagram { local, remote, ..datagram })));
    }
}

#[test]
fn fragments_are_refused_and_spoofers_get_no_further_than_before() {
    for workers in [1, 2] {
        let mut here = on_two_tenants(workers, &PeerOptions::default());
        let syn = Packet::tcp((customer(WEB, 10), 4000), (customer(WEB, 1), 179), flags::SYN, b"");
        let first = Packet { more_fragments: true, dont_fragment: false, ..syn.clone() };
        assert!(here.rig.from_tenant(&web(0), &first).is_empty());
        assert!(here.rig.from_tenant(&web_neighbour(0), &syn).is_empty());
        let expected = [(DropReason::SpoofedProvider, 1), (DropReason::EndpointFragment, 1)];
        assert_eq!(here.rig.all_drops(), expected);
        assert!(!here.driver.has_punts());
        accounted(&here.rig);
    }
}

#[test]
fn super_packets_are_cut_and_partial_checksums_completed() {
    let mut here = on_two_tenants(1, &PeerOptions::default());
    let id = here.connect(0, OWN);
    here.routers[0].endpoints.write(id, &pattern(4000));
    // The router's segments, put together into one by hand.
    here.routers[0].sent.clear();
    let mut out = vec![0; 9216];
    let mut segments = Vec::new();
    let now = here.rig.now;
    while let Some((_, length)) = here.routers[0].endpoints.poll_transmit(now, |_| true, &mut out) {
        segments.push(out[..length].to_vec());
    }
    assert!(segments.len() >= 3);
    let mut whole = segments[0].clone();
    for segment in &segments[1..] {
        whole.extend(&segment[40..]);
    }
    let mut body = Packet::new(
        customer(WEB, 10),
        customer(WEB, 1),
        Body::Raw { protocol: 6, payload: whole[20..].to_vec() },
    );
    body.ttl = 64;
    let packet = partial(&body);
    let frame = overlay_frame(&web(0), &packet).bytes();
    let offload = tcp_super_packet(outer(web(0).providers[0]), true, 1418);
    here.rig.inject(PortRole::Fabric, 0, &frame, offload);
    here.carry();
    here.pass(Duration::from_secs(1));
    assert!(here.routers[0].received == pattern(4000));
    assert_eq!(here.rig.all_drops(), []);
    accounted(&here.rig);
    let offload = Offload { gso: None, ..offload };
    let syn = Packet::tcp((customer(WEB, 10), 4000), (customer(WEB, 1), 179), flags::SYN, b"");
    let frame = overlay_frame(&web(0), &partial(&syn)).bytes();
    here.rig.inject(PortRole::Fabric, 0, &frame, offload);
    here.carry();
    assert_eq!(here.driver.endpoints.refusals(DomainSlot(0)).nonzero().count(), 0);
    // It was answered: the router has no such connection.
    let refused = here.routers[0].endpoints.refusals(HERE).of(Refusal::NoConnection);
    assert_eq!(refused, 1);
}

#[test]
fn a_flood_of_one_tenant_leaves_the_others_connection_alone() {
    for workers in [1, 2] {
        let mut here = on_two_tenants(workers, &PeerOptions::default());
        let id = here.connect(2, OWN);
        let flood: Vec<_> = (0..500_u16)
            .map(|port| {
                let syn = Packet::tcp(
                    (customer(WEB, 10), 1024 + port),
                    (customer(WEB, 1), 179),
                    flags::SYN,
                    b"",
                );
                web(0).sends(&syn).bytes()
            })
            .collect();
        let data = pattern(20_000);
        let mut received = Vec::new();
        let mut written = 0;
        for round in 0..400 {
            for (at, frame) in flood.iter().enumerate() {
                here.rig.inject(PortRole::Fabric, at + round, frame, Offload::default());
            }
            written += here.routers[2].endpoints.write(id, &data[written..]);
            here.carry();
            received.append(&mut here.routers[2].received);
            if received.len() == data.len() {
                break;
            }
            here.rig.advance(Duration::from_millis(10));
        }
        assert!(received == data, "{} of {}", received.len(), data.len());
        let drops = here.rig.all_drops();
        assert!(drops.iter().all(|(reason, _)| {
            matches!(reason, DropReason::EndpointFull | DropReason::EndpointLimited)
        }));
        assert!(here.rig.drops(DropReason::EndpointFull) > 0);
        let snapshot = here.rig.snapshot();
        let victim = snapshot.domain(DomainSlot(1)).expect("the second tenant");
        let totals: DomainTotals = victim.counters.iter().collect();
        assert_eq!(totals.drops.nonzero().count(), 0);
        accounted(&here.rig);
    }
}

#[test]
fn a_router_that_reads_nothing_holds_no_more_than_the_buffers() {
    let mut here = on_two_tenants(1, &PeerOptions::default());
    let router = &mut here.routers[0];
    let to = SocketAddr::new(router.address, BGP_PORT);
    router.endpoints.listen(HERE, to).expect("an own address");
    let id = here.driver.endpoints.connect(here.rig.now, DomainSlot(0), OWN, to).expect("a peer");
    here.carry();
    // It has no more TCP: only the gateway's side goes on.
    here.routers.clear();
    let mut written = 0;
    for _ in 0..20 {
        written += here.driver.endpoints.write(id, &[0; 9000]);
        here.carry();
    }
    assert_eq!(written, RECEIVE_BUFFER);
    here.pass(Duration::from_secs(130));
    let ended = (id, Event::Closed(CloseReason::TimedOut));
    assert!(here.driver.application.events.contains(&ended));
}

#[test]
fn what_is_routed_nowhere_inside_never_leaves_by_the_front_end() {
    for workers in [1, 2] {
        let mut here = Neighbourhood::new(&plan(vec![tenant(0)]), workers, PeerOptions::default());
        for (remote, reason) in [
            ("198.51.100.7", DropReason::NoRoute),
            ("10.1.0.99", DropReason::UnknownCustomer),
            ("10.2.0.1", DropReason::NoRoute),
            ("10.1.0.255", DropReason::Martian),
        ] {
            let before = here.rig.drops(reason);
            let datagram = Datagram {
                local: SocketAddr::new(OWN, 3784),
                remote: SocketAddr::new(remote.parse().expect("an address"), 3784),
                ttl: 255,
                payload: b"out".to_vec(),
            };
            here.driver.endpoints.send_datagram(DomainSlot(0), &datagram).expect("room");
            here.carry();
            assert_eq!(here.rig.drops(reason), before + 1, "{remote}");
            assert!(here.rig.take(PortRole::FrontEnd).is_empty());
        }
        accounted(&here.rig);
    }
}
