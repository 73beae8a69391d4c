//! The way of a packet through NAT and between subnets, one claim at a time, with one worker and
//! with two.
//!
//! Expected packets are made from the packet sent by the test's own frame code, and compared whole.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use nvgate::io::PortRole;
use nvgate_deploy::plan::{RoutePlan, RouteTarget};
use nvgate_model::{CustomerAddress, DropReason, MacAddress, Protocol};

use nvgate_tests::frames::{Body, Packet, flags};
use nvgate_tests::rig::{Rig, Station};
use nvgate_tests::rig_claims::{
    TENANT_MTU, app, app_on_ipv6, dropped, each, each_of, two_tenants, udp_out, web, web_neighbour,
};
use nvgate_tests::rig_plan::{
    APP, FRONT_END_LINK, REMOTE, REMOTE_V6, TRANSIT, WEB, customer, customer_v6, endpoint, plan,
    provider, public, public_v6, rule, tenant, vsid,
};

#[test]
fn udp_leaves_from_a_public_address_and_its_reply_comes_back() {
    each(|rig| {
        for number in [0, 1] {
            let sent = udp_out(1234);
            let left = rig.from_tenant(&web(number), &sent).to_router();
            let (port, _) = left.ports();
            let address = if left.source == public(number, 0) { 0 } else { 1 };
            let source = public(number, address);
            assert_eq!(left, sent.hop().with_source(source, port));
            assert!(port >= 1024);

            let reply = left.reply();
            let arrived = rig.from_front_end(&reply).to_station(&web(number));
            assert_eq!(arrived, reply.hop().with_destination(customer(WEB, 10), 1234));
        }
        assert_eq!(rig.all_drops(), []);
    });
}

#[test]
fn one_customer_socket_has_one_public_socket_for_all_remotes() {
    each(|rig| {
        for port in 1000..1040 {
            let sent = udp_out(port);
            let first = rig.from_tenant(&web(0), &sent).to_router();
            let elsewhere = sent.clone().with_destination(Ipv4Addr::new(8, 8, 8, 8), 53);
            let second = rig.from_tenant(&web(0), &elsewhere).to_router();
            assert_eq!((first.source, first.ports().0), (second.source, second.ports().0));
        }
    });
}

#[test]
fn tcp_opens_carries_data_and_closes_through_nat() {
    each(|rig| {
        let socket = (customer(WEB, 10), 40_000);
        let remote = (REMOTE, 443);
        let mut syn = Packet::tcp(socket, remote, flags::SYN, b"");
        if let Body::Tcp { mss, .. } = &mut syn.body {
            *mss = Some(1460);
        }
        let left = rig.from_tenant(&web(0), &syn).to_router();
        let Body::Tcp { mss, ports, .. } = left.body else { panic!("{left:?}") };
        assert_eq!(mss, Some(TENANT_MTU - 40), "what comes back has to fit the overlay");
        let public = (left.source, ports.0);
        let inbound = |flags, data: &[u8]| Packet::tcp(remote, public, flags, data);
        let mut syn_ack = inbound(flags::SYN | flags::ACK, b"");
        if let Body::Tcp { mss, .. } = &mut syn_ack.body {
            *mss = Some(1460);
        }
        let arrived = rig.from_front_end(&syn_ack).to_station(&web(0));
        let Body::Tcp { mss, .. } = arrived.body else { panic!("{arrived:?}") };
        assert_eq!(mss, Some(TENANT_MTU - 40));

        for (flags, data) in [
            (flags::ACK, &b""[..]),
            (flags::ACK | flags::PSH, b"GET / HTTP/1.1"),
            (flags::ACK | flags::PSH, b"more"),
            (flags::ACK | flags::FIN, b""),
            (flags::ACK, b""),
        ] {
            let sent = Packet::tcp(socket, remote, flags, data);
            let left = rig.from_tenant(&web(0), &sent).to_router();
            assert_eq!(left, sent.hop().with_source(public.0, public.1));
            let reply = inbound(flags, data);
            let arrived = rig.from_front_end(&reply).to_station(&web(0));
            assert_eq!(arrived, reply.hop().with_destination(socket.0, socket.1));
        }
        assert_eq!(rig.all_drops(), []);
    });
}

#[test]
fn tcp_without_a_session_is_dropped() {
    each(|rig| {
        let stray = Packet::tcp((customer(WEB, 10), 5), (REMOTE, 443), flags::ACK, b"stray");
        let output = rig.from_tenant(&web(0), &stray);
        dropped(rig, &output, DropReason::NatNoSession);
    });
}

#[test]
fn echo_requests_leave_and_replies_come_back() {
    each(|rig| {
        let sent = Packet::echo(customer(WEB, 10), REMOTE, 77, b"ping");
        let left = rig.from_tenant(&web(0), &sent).to_router();
        let (identifier, _) = left.ports();
        assert_eq!(left, sent.hop().with_source(left.source, identifier));
        let reply = left.reply();
        let arrived = rig.from_front_end(&reply).to_station(&web(0));
        assert_eq!(arrived, reply.hop().with_destination(customer(WEB, 10), 77));
    });
}

#[test]
fn an_inbound_rule_lets_any_remote_in_and_answers_from_its_address() {
    each(|rig| {
        for number in [0, 1] {
            let syn = Packet::tcp((REMOTE, 5000), (public(number, 0), 80), flags::SYN, b"");
            let arrived = rig.from_front_end(&syn).to_station(&web(number));
            assert_eq!(arrived, syn.clone().hop().with_destination(customer(WEB, 10), 8080));
            let mut answer = arrived.reply();
            if let Body::Tcp { flags, .. } = &mut answer.body {
                *flags = flags::SYN | flags::ACK;
            }
            let left = rig.from_tenant(&web(number), &answer).to_router();
            assert_eq!(left, answer.hop().with_source(public(number, 0), 80));

            let query = Packet::udp((REMOTE, 5353), (public(number, 0), 53), b"query");
            let arrived = rig.from_front_end(&query).to_station(&app(number));
            assert_eq!(arrived, query.clone().hop().with_destination(customer(APP, 20), 53));
            let left = rig.from_tenant(&app(number), &arrived.reply()).to_router();
            assert_eq!(left, query.reply().hop());

            let ranged = Packet::tcp((REMOTE, 5000), (public(number, 1), 9004), flags::SYN, b"");
            let arrived = rig.from_front_end(&ranged).to_station(&web_neighbour(number));
            assert_eq!(arrived, ranged.hop().with_destination(customer(WEB, 11), 9004));
        }
        assert_eq!(rig.all_drops(), []);
    });
}

#[test]
fn what_no_mapping_admits_stays_outside() {
    each(|rig| {
        let stray = Packet::udp((REMOTE, 1), (public(0, 0), 6000), b"stray");
        let output = rig.from_front_end(&stray);
        dropped(rig, &output, DropReason::NatNoMapping);
    });
    each(|rig| {
        let left = rig.from_tenant(&web(0), &udp_out(1)).to_router();
        let stranger = left.reply().with_source(Ipv4Addr::new(8, 8, 8, 8), 4000);
        let output = rig.from_front_end(&stranger);
        dropped(rig, &output, DropReason::NatFiltered);
        let same_remote = left.reply().with_source(REMOTE, 4001);
        let arrived = rig.from_front_end(&same_remote).to_station(&web(0));
        assert_eq!(arrived.source, IpAddr::V4(REMOTE));
    });
    each(|rig| {
        let unleased = Packet::udp((REMOTE, 1), (public(9, 0), 6000), b"stray");
        let output = rig.from_front_end(&unleased);
        dropped(rig, &output, DropReason::FrontEndUnleased);
    });
}

#[test]
fn a_tenant_reaches_its_own_rule_by_its_public_address() {
    each(|rig| {
        let sent = Packet::tcp((customer(APP, 21), 700), (public(0, 0), 80), flags::SYN, b"");
        let client = Station::new(0, APP, 21, &[provider(11).into()]);
        let arrived = rig.from_tenant(&client, &sent).to_station(&web(0));
        let (port, _) = arrived.ports();
        assert!([public(0, 0), public(0, 1)].map(IpAddr::V4).contains(&arrived.source));
        let expected = sent.clone().with_source(arrived.source, port);
        let expected = expected.with_destination(customer(WEB, 10), 8080).hop().hop();
        assert_eq!(arrived, expected);
        let mut answer = arrived.reply();
        if let Body::Tcp { flags, .. } = &mut answer.body {
            *flags = flags::SYN | flags::ACK;
        }
        let back = rig.from_tenant(&web(0), &answer).to_station(&client);
        assert_eq!(back.source, IpAddr::V4(public(0, 0)));
        assert_eq!(back.ports(), (80, 700));
        assert_eq!(rig.all_drops(), []);
    });
}

#[test]
fn a_tenant_reaches_another_tenants_rule_as_any_remote_does() {
    each(|rig| {
        let sent = Packet::tcp((customer(WEB, 10), 700), (public(1, 0), 80), flags::SYN, b"");
        let arrived = rig.from_tenant(&web(0), &sent).to_station(&web(1));
        assert!([public(0, 0), public(0, 1)].map(IpAddr::V4).contains(&arrived.source));
        assert_eq!(arrived.ports().1, 8080);
        assert_eq!(rig.all_drops(), []);
    });
}

#[test]
fn subnets_route_to_each_other_with_ttl_mac_and_vsid_of_the_destination() {
    each(|rig| {
        for number in [0, 1] {
            for destination in [app(number), app_on_ipv6(number)] {
                let to = (customer(APP, destination.last), 9);
                let sent = Packet::udp((customer(WEB, 10), 9), to, b"across");
                let arrived = rig.from_tenant(&web(number), &sent).to_station(&destination);
                assert_eq!(arrived, sent.hop());
                let to = (customer_v6(APP, destination.last), 9);
                let sent = Packet::udp((customer_v6(WEB, 10), 9), to, b"across");
                let arrived = rig.from_tenant(&web(number), &sent).to_station(&destination);
                assert_eq!(arrived, sent.hop());
                let back = Packet::udp(to, (customer_v6(WEB, 10), 9), b"back");
                let arrived = rig.from_tenant(&destination, &back).to_station(&web(number));
                assert_eq!(arrived, back.hop());
            }
        }
        assert_eq!(rig.all_drops(), []);
    });
}

#[test]
fn a_host_reaches_the_gateway_under_the_transit_vsid() {
    each(|rig| {
        let mut frame = web(1).sends(&udp_out(99));
        frame.vsid = vsid(1, TRANSIT);
        frame.inner.source = MacAddress([2, 9, 9, 9, 9, 9]);
        let left = rig.exchange(PortRole::Fabric, &frame.bytes()).to_router();
        let reply = rig.from_front_end(&left.reply()).to_station(&web(1));
        assert_eq!(reply.ports(), (4000, 99));
    });
}

#[test]
fn ipv6_of_a_front_end_prefix_is_routed_untranslated_both_ways() {
    each(|rig| {
        for number in [0, 1] {
            for _ in 0..2 {
                let sent = Packet::udp((public_v6(number, 10), 1), (REMOTE_V6, 2), b"out");
                let left = rig.from_tenant(&web(number), &sent).to_router();
                assert_eq!(left, sent.clone().hop());
                let reply = sent.reply();
                let arrived = rig.from_front_end(&reply).to_station(&web(number));
                assert_eq!(arrived, reply.hop());
            }
        }
        let foreign = Packet::udp((public_v6(1, 10), 1), (REMOTE_V6, 2), b"as the other tenant");
        let output = rig.from_tenant(&web(0), &foreign);
        dropped(rig, &output, DropReason::SpoofedSource);
    });
}

#[test]
fn customer_routes_lead_to_router_vms_and_black_holes() {
    let mut routed = tenant(0);
    let via = RouteTarget::Via(CustomerAddress(customer(WEB, 11).into()));
    routed.routes = vec![
        RoutePlan {
            prefix: "10.50.0.0/16".parse().unwrap(),
            metric: 10,
            target: via,
            announce: false,
        },
        RoutePlan {
            prefix: "10.50.9.0/24".parse().unwrap(),
            metric: 10,
            target: RouteTarget::Blackhole,
            announce: false,
        },
        RoutePlan {
            prefix: "10.50.0.0/16".parse().unwrap(),
            metric: 20,
            target: RouteTarget::Blackhole,
            announce: false,
        },
    ];
    each_of(vec![routed, tenant(1)], |rig| {
        let site = Ipv4Addr::new(10, 50, 1, 1);
        let sent = Packet::udp((customer(APP, 20), 1), (site, 1), b"to the site");
        assert_eq!(rig.from_tenant(&app(0), &sent).to_station(&web_neighbour(0)), sent.hop());
        let back = Packet::udp((site, 1), (customer(APP, 20), 1), b"from the site");
        assert_eq!(rig.from_tenant(&web_neighbour(0), &back).to_station(&app(0)), back.hop());
        let out = Packet::udp((site, 1), (REMOTE, 1), b"from the site through NAT");
        let left = rig.from_tenant(&web_neighbour(0), &out).to_router();
        let arrived = rig.from_front_end(&left.reply()).to_station(&web_neighbour(0));
        assert_eq!(arrived.destination, IpAddr::V4(site));
        let hole = Packet::udp((customer(APP, 20), 1), (Ipv4Addr::new(10, 50, 9, 1), 1), b"x");
        let output = rig.from_tenant(&app(0), &hole);
        dropped(rig, &output, DropReason::Blackhole);
    });
}

#[test]
fn an_idle_session_ends_and_its_port_is_closed() {
    each(|rig| {
        let left = rig.from_tenant(&web(0), &udp_out(1)).to_router();
        rig.advance(Duration::from_secs(100));
        let _ = rig.from_tenant(&web(0), &udp_out(1)).to_router();
        rig.advance(Duration::from_secs(100));
        let _ = rig.from_front_end(&left.reply()).to_station(&web(0));
        rig.advance(Duration::from_secs(22));
        let output = rig.from_front_end(&left.reply());
        dropped(rig, &output, DropReason::NatNoMapping);
    });
}

#[test]
fn a_reload_keeps_sessions_of_untouched_tenants_and_follows_a_moved_endpoint() {
    each(|rig| {
        let kept = rig.from_tenant(&web(0), &udp_out(1)).to_router();
        let moved = rig.from_tenant(&web(1), &udp_out(1)).to_router();
        let mut tenants = two_tenants();
        tenants[1].endpoints[0] = endpoint(1, WEB, 10, &[provider(19).into()]);
        tenants[1].nat.as_mut().unwrap().inbound.push(rule(
            Protocol::Tcp,
            (public(1, 0), 22),
            1,
            (customer(WEB, 10), 22),
        ));
        rig.reload(&plan(tenants));
        let _ = rig.from_front_end(&kept.reply()).to_station(&web(0));
        let there = Station::new(1, WEB, 10, &[provider(19).into()]);
        let _ = rig.from_front_end(&moved.reply()).to_station(&there);
        let output = rig.from_tenant(&web(1), &udp_out(1));
        dropped(rig, &output, DropReason::SpoofedProvider);
        assert_eq!(rig.from_tenant(&there, &udp_out(1)).to_router(), moved);
    });
}

#[test]
fn an_unresolved_next_hop_is_asked_for() {
    for workers in [1, 2] {
        let plan = plan(two_tenants());
        let mut rig = Rig::new(&plan, workers);
        let neighbour = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 77));
        let sent = Packet::udp((customer(WEB, 10), 1), (Ipv4Addr::new(192, 0, 2, 77), 1), b"x");
        let output = rig.from_tenant(&web(0), &sent);
        dropped(&rig, &output, DropReason::FrontEndUnresolved);
        assert_eq!(rig.resolve.len(), 1);
        assert_eq!((rig.resolve[0].port, rig.resolve[0].address), (PortRole::FrontEnd, neighbour));
        let mac = MacAddress([2, 0, 0, 0, 7, 7]);
        rig.host.neighbours.insert(
            (FRONT_END_LINK, neighbour),
            nvgate_deploy::host::Neighbour { mac, permanent: false },
        );
        rig.reload(&plan);
        let frames = rig.from_tenant(&web(0), &sent).frames();
        assert_eq!(frames[0].destination, mac);
    }
}

#[test]
fn a_flow_under_two_vsids_has_one_session_that_either_keeps_alive_and_both_lose() {
    each(|rig| {
        let sent = udp_out(99);
        let direct = web(1).sends(&sent).bytes();
        let mut routed = web(1).sends(&sent);
        routed.vsid = vsid(1, TRANSIT);
        let routed = routed.bytes();
        let left = rig.exchange(PortRole::Fabric, &direct).to_router();
        assert_eq!(rig.exchange(PortRole::Fabric, &routed).to_router(), left);
        for _ in 0..3 {
            rig.advance(Duration::from_secs(100));
            assert_eq!(rig.exchange(PortRole::Fabric, &direct).to_router(), left);
        }
        assert_eq!(rig.exchange(PortRole::Fabric, &routed).to_router(), left);
        rig.advance(Duration::from_secs(122));
        for frame in [&direct, &routed] {
            let left = rig.exchange(PortRole::Fabric, frame).to_router();
            let _ = rig.from_front_end(&left.reply()).to_station(&web(1));
            rig.advance(Duration::from_secs(122));
        }
    });
}
