//! The way of a packet through a whole gateway, one claim at a time, with one worker and with two.
//!
//! Expected packets are made from the packet sent by the test's own frame code, and compared whole.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use nvgate::io::PortRole;
use nvgate_deploy::plan::{DscpMode, RoutePlan, RouteTarget, TenantPlan};
use nvgate_model::{CustomerAddress, DropReason, MacAddress, Protocol};
use nvgate_packet::buf::{Checksum, Offload};
use nvgate_tests::frames::{ARP, Arp, Body, Frame, IPV6, Packet, flags};
use nvgate_tests::rig::{Output, Rig, RigOptions, Station, partial, tcp_super_packet};
use nvgate_tests::rig_plan::{
    APP, FRONT_END_LINK, FRONT_END_MAC, GATEWAY_MAC, REMOTE, REMOTE_V6, ROUTER_MAC, TRANSIT, WEB,
    customer, customer_v6, endpoint, endpoint_mac, plan, provider, provider_v6, public, public_v6,
    rule, tenant, vsid,
};

/// The MTU of a tenant behind NVGRE over IPv4.
const TENANT_MTU: u16 = 1458;

fn web(tenant: u8) -> Station {
    Station::new(tenant, WEB, 10, &[provider(11).into()])
}

fn web_neighbour(tenant: u8) -> Station {
    Station::new(tenant, WEB, 11, &[provider(12).into()])
}

fn app(tenant: u8) -> Station {
    Station::new(tenant, APP, 20, &[provider(13).into(), provider(14).into()])
}

fn app_on_ipv6(tenant: u8) -> Station {
    Station::new(tenant, APP, 22, &[provider_v6(15).into()])
}

fn two_tenants() -> Vec<TenantPlan> {
    vec![tenant(0), tenant(1)]
}

/// Runs a claim with one worker and with two.
fn each(claim: impl Fn(&mut Rig)) {
    each_of(two_tenants(), claim);
}

fn each_of(tenants: Vec<TenantPlan>, claim: impl Fn(&mut Rig)) {
    for workers in [1, 2] {
        claim(&mut Rig::new(&plan(tenants.clone()), workers));
    }
}

fn dropped(rig: &Rig, output: &Output, reason: DropReason) {
    assert!(output.is_empty(), "{output:?}");
    assert_eq!(rig.all_drops(), [(reason, 1)]);
}

/// Dropped for a reason that the sender is told.
fn refused(rig: &Rig, reason: DropReason) {
    assert_eq!(rig.all_drops(), [(reason, 1)]);
}

fn udp_out(port: u16) -> Packet {
    Packet::udp((customer(WEB, 10), port), (REMOTE, 4000), b"out")
}

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
fn the_default_gateways_answer_echo() {
    each(|rig| {
        for (from, to) in [
            (IpAddr::V4(customer(WEB, 10)), IpAddr::V4(customer(WEB, 1))),
            (customer(WEB, 10).into(), customer(APP, 1).into()),
            (customer(WEB, 10).into(), Ipv4Addr::new(10, 254, 254, 1).into()),
            (customer_v6(WEB, 10).into(), customer_v6(WEB, 1).into()),
            (customer_v6(WEB, 10).into(), customer_v6(APP, 1).into()),
        ] {
            let sent = Packet::echo(from, to, 3, b"are you there");
            let answer = rig.from_tenant(&web(1), &sent).to_station(&web(1));
            assert_eq!(
                Packet { ttl: 64, ..answer.clone() },
                Packet {
                    identification: answer.identification,
                    dont_fragment: answer.dont_fragment,
                    ..sent.reply()
                }
            );
        }
        assert_eq!(rig.all_drops(), []);
    });
}

fn link_local(mac: MacAddress) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0.map(u16::from);
    Ipv6Addr::new(0xfe80, 0, 0, 0, (a ^ 2) << 8 | b, c << 8 | 0xff, 0xfe00 | d, e << 8 | f)
}

#[test]
fn the_gateways_link_local_address_answers_echo() {
    each(|rig| {
        let from = link_local(web(0).mac());
        let sent = Packet::echo(from, link_local(GATEWAY_MAC), 3, b"local");
        let answer = rig.from_tenant(&web(0), &sent).to_station(&web(0));
        assert_eq!(answer.destination, IpAddr::V6(from));
    });
}

fn ask_arp(rig: &mut Rig, from: &Station, target: Ipv4Addr) -> Output {
    let request = Arp::request((from.mac(), customer(from.subnet, from.last)), target);
    let frame = Frame {
        destination: MacAddress::BROADCAST,
        source: from.mac(),
        ethertype: ARP,
        payload: request.bytes(),
    };
    rig.exchange(PortRole::Fabric, &from.sends_frame(frame).bytes())
}

#[test]
fn arp_in_a_subnet_is_answered_for_gateway_and_endpoints_and_nobody_else() {
    each(|rig| {
        for (last, mac) in [(1, GATEWAY_MAC), (11, endpoint_mac(WEB, 11))] {
            let output = ask_arp(rig, &web(1), customer(WEB, last));
            let frames = output.overlay();
            assert_eq!(frames.len(), 1);
            assert_eq!(frames[0].vsid, vsid(1, WEB));
            assert_eq!(frames[0].destination, IpAddr::V4(provider(11)));
            assert_eq!(frames[0].inner.destination, web(1).mac());
            let answer = Arp::read(&frames[0].inner.payload).unwrap();
            let sides = ((mac, customer(WEB, last)), (web(1).mac(), customer(WEB, 10)));
            assert_eq!((answer.operation, (answer.sender, answer.target)), (2, sides));
        }
        assert_eq!(rig.all_drops(), []);
        let output = ask_arp(rig, &web(1), customer(WEB, 77));
        dropped(rig, &output, DropReason::NeighbourUnanswered);
    });
}

fn solicitation(source: Ipv6Addr, destination: Ipv6Addr, kind: u8, rest: &[u8]) -> Packet {
    let body = Body::Icmp { kind, code: 0, word: 0, rest: rest.to_vec() };
    Packet { ttl: 255, ..Packet::new(source, destination, body) }
}

#[test]
fn neighbour_and_router_solicitations_are_answered() {
    each(|rig| {
        let solicited: Ipv6Addr = "ff02::1:ff00:1".parse().unwrap();
        for (target, mac) in [
            (customer_v6(WEB, 1), GATEWAY_MAC),
            (customer_v6(WEB, 11), endpoint_mac(WEB, 11)),
            (link_local(GATEWAY_MAC), GATEWAY_MAC),
        ] {
            let ask = solicitation(customer_v6(WEB, 10), solicited, 135, &target.octets());
            let frame = Frame::of(MacAddress([0x33, 0x33, 0xff, 0, 0, 1]), web(0).mac(), &ask);
            let frame = web(0).sends_frame(frame).bytes();
            let answer = rig.exchange(PortRole::Fabric, &frame).to_station(&web(0));
            let Body::Icmp { kind: 136, rest, .. } = &answer.body else { panic!("{answer:?}") };
            assert_eq!((answer.source, answer.ttl), (IpAddr::V6(target), 255));
            assert_eq!(rest[..16], target.octets());
            assert_eq!(rest[16..18], [2, 1]);
            assert_eq!(rest[18..24], mac.0);
        }
        let routers: Ipv6Addr = "ff02::2".parse().unwrap();
        let ask = solicitation(link_local(web(0).mac()), routers, 133, &[]);
        let frame = Frame::of(MacAddress([0x33, 0x33, 0, 0, 0, 2]), web(0).mac(), &ask);
        let frame = web(0).sends_frame(frame).bytes();
        let answer = rig.exchange(PortRole::Fabric, &frame).to_station(&web(0));
        let Body::Icmp { kind: 134, rest, .. } = &answer.body else { panic!("{answer:?}") };
        assert_eq!(answer.source, IpAddr::V6(link_local(GATEWAY_MAC)));
        let mtu = [5, 1, 0, 0, 0, 0, (TENANT_MTU >> 8) as u8, TENANT_MTU as u8];
        assert!(rest.windows(8).any(|option| option == mtu), "{rest:02x?}");
        assert_eq!(rig.all_drops(), []);
    });
}

/// The error that `packet` got, which quotes what was sent.
fn error_about(answer: &Packet, sent: &Packet) -> (u8, u8, u32) {
    let Body::Icmp { kind, code, word, rest } = &answer.body else { panic!("{answer:?}") };
    let bytes = sent.bytes();
    assert_eq!(rest[..], bytes[..bytes.len().min(rest.len())]);
    assert!(rest.len() >= bytes.len().min(500));
    assert_eq!(answer.destination, sent.source);
    (*kind, *code, *word)
}

#[test]
fn senders_inside_are_told_why() {
    each(|rig| {
        let sent = Packet { ttl: 1, ..udp_out(1) };
        let answer = rig.from_tenant(&web(0), &sent).to_station(&web(0));
        assert_eq!(error_about(&answer, &sent), (11, 0, 0));
        assert_eq!(answer.source, IpAddr::V4(customer(WEB, 1)));
        refused(rig, DropReason::TtlExpired);
    });
    each(|rig| {
        let to = (customer_v6(APP, 20), 1);
        let sent = Packet { ttl: 1, ..Packet::udp((customer_v6(WEB, 10), 1), to, b"x") };
        let answer = rig.from_tenant(&web(0), &sent).to_station(&web(0));
        assert_eq!(error_about(&answer, &sent), (3, 0, 0));
    });
    each(|rig| {
        let sent = Packet::udp((customer(WEB, 10), 1), (customer(APP, 99), 1), b"x");
        let answer = rig.from_tenant(&web(0), &sent).to_station(&web(0));
        assert_eq!(error_about(&answer, &sent), (3, 1, 0));
        refused(rig, DropReason::UnknownCustomer);
    });
    each(|rig| {
        let sent = Packet::udp((customer_v6(WEB, 10), 1), (customer_v6(APP, 99), 1), b"x");
        let answer = rig.from_tenant(&web(0), &sent).to_station(&web(0));
        assert_eq!(error_about(&answer, &sent), (1, 3, 0));
    });
    each(|rig| {
        let sent = Packet::udp((customer(WEB, 10), 1), (customer(APP, 20), 1), &[1; 1450]);
        let answer = rig.from_tenant(&web(0), &sent).to_station(&web(0));
        assert_eq!(error_about(&answer, &sent), (3, 4, u32::from(TENANT_MTU)));
        refused(rig, DropReason::TooBig);
    });
    each(|rig| {
        let to = (customer_v6(APP, 22), 1);
        let sent = Packet::udp((customer_v6(WEB, 10), 1), to, &[1; 1400]);
        let answer = rig.from_tenant(&web(0), &sent).to_station(&web(0));
        assert_eq!(error_about(&answer, &sent), (2, 0, 1438));
    });
    each(|rig| {
        let sent = Packet::udp((customer_v6(WEB, 10), 1), (REMOTE_V6, 1), b"no public source");
        let answer = rig.from_tenant(&web(0), &sent).to_station(&web(0));
        assert_eq!(error_about(&answer, &sent), (1, 1, 0));
    });
}

#[test]
fn senders_inside_are_told_that_the_front_end_has_no_route_or_a_smaller_mtu() {
    for workers in [1, 2] {
        let plan = plan(two_tenants());
        let mut rig = Rig::new(&plan, workers);
        rig.host.routes.retain(|route| route.prefix.length() > 0);
        rig.reload(&plan);
        rig.run();
        let sent = udp_out(1);
        let answer = rig.from_tenant(&web(0), &sent).to_station(&web(0));
        assert_eq!(error_about(&answer, &sent), (3, 0, 0));
        refused(&rig, DropReason::FrontEndNoRoute);

        let mut rig = Rig::new(&plan, workers);
        for route in &mut rig.host.routes {
            route.mtu = (route.link == FRONT_END_LINK).then_some(1280);
        }
        rig.reload(&plan);
        rig.run();
        let sent = Packet::udp((customer(WEB, 10), 1), (REMOTE, 1), &[1; 1300]);
        let answer = rig.from_tenant(&web(0), &sent).to_station(&web(0));
        assert_eq!(error_about(&answer, &sent), (3, 4, 1280));
    }
}

#[test]
fn remotes_are_told_that_the_overlay_is_narrower() {
    each(|rig| {
        let left = rig.from_tenant(&web(0), &udp_out(1)).to_router();
        let Packet { source, .. } = left;
        let sent = Packet::udp((REMOTE, 4000), (source, left.ports().0), &[1; 1440]);
        let answer = rig.from_front_end(&sent).to_router();
        assert_eq!(error_about(&answer, &sent), (3, 4, u32::from(TENANT_MTU)));
        assert_eq!(answer.source, source);
        refused(rig, DropReason::TooBig);
    });
    each(|rig| {
        let sent = Packet::udp((REMOTE_V6, 1), (public_v6(0, 10), 1), &[1; 1440]);
        let answer = rig.from_front_end(&sent).to_router();
        assert_eq!(error_about(&answer, &sent), (2, 0, u32::from(TENANT_MTU)));
    });
}

#[test]
fn what_does_not_fit_and_may_be_fragmented_is() {
    each(|rig| {
        let left = rig.from_tenant(&web(0), &udp_out(7)).to_router();
        let sent =
            Packet::udp((REMOTE, 4000), (left.source, left.ports().0), &[9; 1470]).fragmentable(77);
        let fragments = rig.from_front_end(&sent).all_to_station(&web(0));
        assert_eq!(fragments.len(), 2);
        let joined = Packet::reassemble(&fragments).unwrap();
        assert_eq!(joined, sent.hop().with_destination(customer(WEB, 10), 7));
    });
}

#[test]
fn fragments_cross_nat_both_ways() {
    each(|rig| {
        for identification in 0..8 {
            let sent = Packet::udp((customer(WEB, 10), 7), (REMOTE, 4000), &[5; 2000])
                .fragmentable(identification);
            let mut left = Vec::new();
            for fragment in sent.fragments(800) {
                left.push(rig.from_tenant(&web(0), &fragment).to_router());
            }
            let joined = Packet::reassemble(&left).unwrap();
            let socket = (joined.source, joined.ports().0);
            assert_eq!(joined, sent.hop().with_source(socket.0, socket.1));
            let reply = joined.reply();
            let mut arrived = Vec::new();
            for fragment in reply.fragments(800) {
                arrived.push(rig.from_front_end(&fragment).to_station(&web(0)));
            }
            let joined = Packet::reassemble(&arrived).unwrap();
            assert_eq!(joined, reply.hop().with_destination(customer(WEB, 10), 7));
        }
        assert_eq!(rig.all_drops(), []);
        let orphan = Packet::udp((customer(WEB, 10), 7), (REMOTE, 4000), &[5; 2000])
            .fragmentable(500)
            .fragments(800)
            .remove(1);
        let output = rig.from_tenant(&web(0), &orphan);
        dropped(rig, &output, DropReason::FragmentOrphan);
    });
}

#[test]
fn icmp_errors_are_translated_both_ways_with_what_they_quote() {
    each(|rig| {
        for sent in [
            udp_out(70),
            Packet::echo(customer(WEB, 10), REMOTE, 70, b"ping"),
            Packet::tcp((customer(WEB, 10), 70), (REMOTE, 443), flags::SYN, b""),
        ] {
            let left = rig.from_tenant(&web(0), &sent).to_router();
            let router = Ipv4Addr::new(9, 9, 9, 9);
            let error = Packet::error(router, public(0, 0), (11, 0, 0), &left);
            let error = Packet { destination: left.source, ..error };
            let arrived = rig.from_front_end(&error).to_station(&web(0));
            let quoted = sent.clone().hop();
            let about = quoted.with_source(customer(WEB, 10), sent.ports().0);
            let expected = Packet::error(router, customer(WEB, 10), (11, 0, 0), &about).hop();
            assert_eq!(arrived, expected);
        }
        let left = rig.from_tenant(&web(0), &udp_out(70)).to_router();
        let arrived = rig.from_front_end(&left.reply()).to_station(&web(0));
        let error = Packet::error(customer(WEB, 10), REMOTE, (3, 3, 0), &arrived);
        let out = rig.from_tenant(&web(0), &error).to_router();
        let about = left.reply().hop();
        assert_eq!(out, Packet::error(left.source, REMOTE, (3, 3, 0), &about).hop());
        assert_eq!(rig.all_drops(), []);
        let stray = Packet::error(REMOTE, public(0, 0), (3, 3, 0), &udp_out(5));
        let output = rig.from_front_end(&stray);
        dropped(rig, &output, DropReason::NatIcmpUnrelated);
    });
}

/// Opens a TCP connection from the web station and returns its public socket.
fn connect(rig: &mut Rig, port: u16) -> (IpAddr, u16) {
    let syn = Packet::tcp((customer(WEB, 10), port), (REMOTE, 443), flags::SYN, b"");
    let left = rig.from_tenant(&web(0), &syn).to_router();
    let mut answer = left.reply();
    if let Body::Tcp { flags, .. } = &mut answer.body {
        *flags = flags::SYN | flags::ACK;
    }
    let _ = rig.from_front_end(&answer).to_station(&web(0));
    (left.source, left.ports().0)
}

fn numbered(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

fn tcp_payload(packet: &Packet) -> (u32, &[u8]) {
    let Body::Tcp { sequence, payload, .. } = &packet.body else { panic!("{packet:?}") };
    (*sequence, payload)
}

#[test]
fn a_super_packet_from_the_front_end_arrives_as_right_segments() {
    each(|rig| {
        let public = connect(rig, 600);
        for _ in 0..2 {
            let data = numbered(10_000);
            let packet = Packet::tcp((REMOTE, 443), public, flags::ACK | flags::PSH, &data);
            let mut frame = Frame::of(FRONT_END_MAC, ROUTER_MAC, &packet);
            frame.payload = partial(&packet);
            let offload = tcp_super_packet(14, true, 1400);
            let output = rig.exchange_offloaded(PortRole::FrontEnd, &frame.bytes(), offload);
            let segments = output.all_to_station(&web(0));
            assert_eq!(segments.len(), 8);
            let mut joined: Vec<u8> = Vec::new();
            for (index, segment) in segments.iter().enumerate() {
                let (sequence, payload) = tcp_payload(segment);
                assert_eq!(sequence as usize, 1000 + joined.len());
                let Body::Tcp { flags, .. } = segment.body else { unreachable!() };
                assert_eq!(flags & flags::PSH != 0, index == 7);
                assert_eq!(segment.ports(), (443, 600));
                assert_eq!(segment.ttl, 63);
                joined.extend(payload);
            }
            assert_eq!(joined, data);
        }
        assert_eq!(rig.all_drops(), []);
    });
}

#[test]
fn a_super_packet_that_fits_no_path_is_refused_with_the_mtu() {
    each(|rig| {
        let public = connect(rig, 600);
        let packet = Packet::tcp((REMOTE, 443), public, flags::ACK, &numbered(6000));
        let mut frame = Frame::of(FRONT_END_MAC, ROUTER_MAC, &packet);
        frame.payload = partial(&packet);
        let offload = tcp_super_packet(14, true, 1460);
        let output = rig.exchange_offloaded(PortRole::FrontEnd, &frame.bytes(), offload);
        let answer = output.to_router();
        let Body::Icmp { kind, code, word, .. } = answer.body else { panic!("{answer:?}") };
        assert_eq!((kind, code, word), (3, 4, u32::from(TENANT_MTU)));
    });
}

#[test]
fn a_super_packet_from_a_host_leaves_as_segments_or_whole_as_the_port_can() {
    for workers in [1, 2] {
        for able in [false, true] {
            let mut options = RigOptions { workers, ..RigOptions::default() };
            options.front_end.checksum = able;
            options.front_end.gso = able;
            let mut rig = Rig::with(&plan(two_tenants()), &options);
            rig.run();
            rig.take(PortRole::FrontEnd);
            let public = connect(&mut rig, 600);
            let data = numbered(5000);
            let packet = Packet::tcp((customer(WEB, 10), 600), (REMOTE, 443), flags::ACK, &data);
            let mut frame = web(0).sends(&packet);
            frame.inner.payload = partial(&packet);
            let offload = tcp_super_packet(14 + 20 + 8 + 14, true, 1400);
            let output = rig.exchange_offloaded(PortRole::Fabric, &frame.bytes(), offload);
            if able {
                let [sent] = &output.front_end[..] else { panic!("{output:?}") };
                assert_eq!(sent.offload, tcp_super_packet(14, true, 1400));
                let expected = packet.hop().with_source(public.0, public.1);
                assert_eq!(sent.bytes[14..], partial(&expected));
                continue;
            }
            let mut joined: Vec<u8> = Vec::new();
            for frame in output.frames() {
                let segment = frame.packet().unwrap();
                assert_eq!((segment.source, segment.ports()), (public.0, (public.1, 443)));
                joined.extend(tcp_payload(&segment).1);
            }
            assert_eq!(joined, data);
        }
    }
}

#[test]
fn partial_checksums_are_completed_on_every_way() {
    each(|rig| {
        let public = connect(rig, 600);
        let offload =
            |start| Offload { checksum: Checksum::Partial { start, field: 16 }, gso: None };
        for _ in 0..2 {
            let sent = Packet::tcp((customer(WEB, 10), 600), (REMOTE, 443), flags::ACK, b"half");
            let mut frame = web(0).sends(&sent);
            frame.inner.payload = partial(&sent);
            let output = rig.exchange_offloaded(
                PortRole::Fabric,
                &frame.bytes(),
                offload(14 + 28 + 14 + 20),
            );
            assert_eq!(output.to_router(), sent.hop().with_source(public.0, public.1));

            let sent = Packet::tcp((REMOTE, 443), public, flags::ACK, b"half");
            let mut frame = Frame::of(FRONT_END_MAC, ROUTER_MAC, &sent);
            frame.payload = partial(&sent);
            let output = rig.exchange_offloaded(PortRole::FrontEnd, &frame.bytes(), offload(34));
            let arrived = output.to_station(&web(0));
            assert_eq!(arrived, sent.hop().with_destination(customer(WEB, 10), 600));
        }
        let udp = Packet::udp((customer_v6(WEB, 10), 1), (customer_v6(APP, 20), 2), b"half");
        let mut frame = web(0).sends(&udp);
        frame.inner.payload = partial(&udp);
        let facts = Offload { checksum: Checksum::Partial { start: 56 + 40, field: 6 }, gso: None };
        let output = rig.exchange_offloaded(PortRole::Fabric, &frame.bytes(), facts);
        assert_eq!(output.to_station(&app(0)), udp.hop());
        let echo = Packet::udp((customer(WEB, 10), 1), (customer(WEB, 1), 2), b"refused");
        let mut frame = web(0).sends(&echo);
        frame.inner.payload = partial(&echo);
        let facts = Offload { checksum: Checksum::Partial { start: 56 + 20, field: 6 }, gso: None };
        let answer = rig.exchange_offloaded(PortRole::Fabric, &frame.bytes(), facts);
        let answer = answer.to_station(&web(0));
        assert!(matches!(answer.body, Body::Icmp { kind: 3, code: 3, .. }), "{answer:?}");
    });
}

#[test]
fn congestion_marks_cross_the_tunnels_ends() {
    each(|rig| {
        // Inner ECT(0) under outer CE goes on as CE; DSCP is the outer's.
        let sent = Packet { class: 0x02, ..udp_out(1) };
        let mut frame = web(0).sends(&sent);
        frame.class = 0xb8 | 3;
        let left = rig.exchange(PortRole::Fabric, &frame.bytes()).to_router();
        assert_eq!(left.class, 0xb8 | 3);
        // The same on the hit path.
        let left = rig.exchange(PortRole::Fabric, &frame.bytes()).to_router();
        assert_eq!(left.class, 0xb8 | 3);
        let reply = Packet { class: 0x28 | 1, ..left.reply() };
        let output = rig.from_front_end(&reply);
        assert_eq!(output.overlay()[0].class, 0x28 | 1);
        assert_eq!(output.to_station(&web(0)).class, 0x28 | 1);
        let mut frame = web(0).sends(&udp_out(1));
        frame.class = 3;
        let output = rig.exchange(PortRole::Fabric, &frame.bytes());
        dropped(rig, &output, DropReason::EcnInvalid);
    });
    for workers in [1, 2] {
        let mut pipe = plan(two_tenants());
        pipe.gateway.fabric.dscp = DscpMode::Pipe;
        let mut rig = Rig::new(&pipe, workers);
        let mut frame = web(0).sends(&Packet { class: 0x2a, ..udp_out(1) });
        frame.class = 0xb8 | 3;
        let left = rig.exchange(PortRole::Fabric, &frame.bytes()).to_router();
        assert_eq!(left.class, 0x2b);
        let output = rig.from_front_end(&Packet { class: 0x29, ..left.reply() });
        assert_eq!(output.overlay()[0].class, 0x01);
    }
}

#[test]
fn broadcast_reaches_the_other_hosts_of_the_subnet_and_only_those() {
    let mut first = tenant(0);
    first.endpoints.push(endpoint(0, WEB, 12, &[provider(16).into(), provider(17).into()]));
    first.endpoints.push(endpoint(0, WEB, 13, &[provider_v6(18).into()]));
    first.endpoints.push(endpoint(0, WEB, 14, &[provider(11).into()]));
    each_of(vec![first, tenant(1)], |rig| {
        let hello = Packet::udp((customer(WEB, 10), 67), (Ipv4Addr::BROADCAST, 68), b"hello");
        let inner = Frame::of(MacAddress::BROADCAST, web(0).mac(), &hello);
        let output = rig.exchange(PortRole::Fabric, &web(0).sends_frame(inner.clone()).bytes());
        assert!(output.front_end.is_empty());
        let mut hosts = Vec::new();
        for frame in output.overlay() {
            assert_eq!(frame.vsid, vsid(0, WEB));
            assert_eq!(frame.inner, inner);
            hosts.push(frame.destination);
        }
        let expected: [IpAddr; 3] =
            [provider(12).into(), provider(16).into(), provider_v6(18).into()];
        assert_eq!(hosts, expected);
    });
}

#[test]
fn frames_between_endpoints_of_a_subnet_are_relayed_and_never_flooded() {
    each(|rig| {
        let packet = Packet::udp((customer(WEB, 10), 1), (customer(WEB, 11), 1), b"direct");
        let inner = Frame::of(web_neighbour(0).mac(), web(0).mac(), &packet);
        let output = rig.exchange(PortRole::Fabric, &web(0).sends_frame(inner.clone()).bytes());
        let frames = output.overlay();
        assert_eq!(frames.len(), 1);
        assert_eq!((&frames[0].inner, frames[0].vsid), (&inner, vsid(0, WEB)));
        assert_eq!(frames[0].destination, IpAddr::V4(provider(12)));
        let inner = Frame::of(endpoint_mac(WEB, 99), web(0).mac(), &packet);
        let output = rig.exchange(PortRole::Fabric, &web(0).sends_frame(inner).bytes());
        dropped(rig, &output, DropReason::UnknownUnicast);
    });
}

#[test]
fn whoever_speaks_for_another_is_dropped_with_the_reason() {
    type Spoof = fn(&mut nvgate_tests::frames::Nvgre);
    let spoofs: [(Spoof, DropReason); 9] = [
        (|frame| frame.source = provider(12).into(), DropReason::SpoofedProvider),
        (|frame| frame.vsid = 0x6fff, DropReason::VsidUnknown),
        (|frame| frame.vsid = 0xfff, DropReason::VsidReserved),
        (|frame| frame.inner.source = endpoint_mac(WEB, 11), DropReason::InnerSourceMac),
        (|frame| frame.inner.source = MacAddress::BROADCAST, DropReason::InnerSourceMac),
        (|frame| frame.inner.ethertype = 0x8100, DropReason::InnerTagged),
        (|frame| frame.inner.ethertype = 0x88cc, DropReason::InnerEtherType),
        (
            |frame| {
                frame.inner.payload =
                    Packet::udp((customer(WEB, 50), 1), (REMOTE, 1), b"spoofed").bytes();
            },
            DropReason::SpoofedSource,
        ),
        (
            |frame| {
                frame.inner.payload =
                    Packet::udp((customer(WEB, 1), 1), (REMOTE, 1), b"as the gateway").bytes();
            },
            DropReason::SpoofedSource,
        ),
    ];
    for (change, reason) in spoofs {
        each(|rig| {
            let mut frame = web(0).sends(&udp_out(1));
            change(&mut frame);
            let output = rig.exchange(PortRole::Fabric, &frame.bytes());
            dropped(rig, &output, reason);
        });
        // Behind a flow that was compiled for the right sender.
        each(|rig| {
            let _ = rig.from_tenant(&web(0), &udp_out(1)).to_router();
            let mut frame = web(0).sends(&udp_out(1));
            change(&mut frame);
            let output = rig.exchange(PortRole::Fabric, &frame.bytes());
            dropped(rig, &output, reason);
        });
    }
}

#[test]
fn front_end_arp_and_neighbour_discovery_are_answered_for_leases_only() {
    each(|rig| {
        let asker = (ROUTER_MAC, Ipv4Addr::new(192, 0, 2, 254));
        let ask = |rig: &mut Rig, target| {
            let frame = Frame {
                destination: MacAddress::BROADCAST,
                source: ROUTER_MAC,
                ethertype: ARP,
                payload: Arp::request(asker, target).bytes(),
            };
            rig.exchange(PortRole::FrontEnd, &frame.bytes())
        };
        let frames = ask(rig, public(1, 1)).frames();
        assert_eq!(frames.len(), 1);
        let answer = Arp::read(&frames[0].payload).unwrap();
        let expected = Arp { operation: 2, sender: (FRONT_END_MAC, public(1, 1)), target: asker };
        assert_eq!(answer, expected);
        assert!(ask(rig, public(5, 0)).is_empty());

        let router = "fe80::fe".parse().unwrap();
        let solicited = "ff02::1:ff00:10".parse().unwrap();
        let packet = solicitation(router, solicited, 135, &public_v6(1, 0x10).octets());
        let frame = Frame::of(MacAddress([0x33, 0x33, 0xff, 0, 0, 0x10]), ROUTER_MAC, &packet);
        let frames = rig.exchange(PortRole::FrontEnd, &frame.bytes()).frames();
        let answer = frames[0].packet().unwrap();
        assert_eq!(answer.source, IpAddr::V6(public_v6(1, 0x10)));
        assert_eq!((frames[0].destination, frames[0].ethertype), (ROUTER_MAC, IPV6));
        let packet = solicitation(router, solicited, 135, &public_v6(5, 0x10).octets());
        let frame = Frame::of(MacAddress([0x33, 0x33, 0xff, 0, 0, 0x10]), ROUTER_MAC, &packet);
        assert!(rig.exchange(PortRole::FrontEnd, &frame.bytes()).is_empty());
    });
}

#[test]
fn leased_addresses_are_announced_at_start_twice_and_after_a_move_again() {
    for workers in [1, 2] {
        let options = RigOptions { workers, ..RigOptions::default() };
        let mut rig = Rig::with(&plan(two_tenants()), &options);
        let announced = |rig: &mut Rig| {
            let sent = rig.take(PortRole::FrontEnd);
            let read = |sent: &nvgate_tests::rig::Sent| {
                let frame = Frame::read(&sent.bytes).unwrap();
                assert_eq!(frame.destination, MacAddress::BROADCAST);
                let arp = Arp::read(&frame.payload).unwrap();
                assert_eq!(arp.sender, (FRONT_END_MAC, arp.target.1));
                arp.target.1
            };
            sent.iter().map(read).collect::<Vec<_>>()
        };
        let all = [public(0, 0), public(0, 1), public(1, 0), public(1, 1)];
        rig.run();
        assert_eq!(announced(&mut rig), all);
        rig.advance(Duration::from_secs(3));
        assert_eq!(announced(&mut rig), all);
        rig.advance(Duration::from_secs(10));
        assert!(announced(&mut rig).is_empty());
        let mut moved = two_tenants();
        let address = moved[0].nat.as_mut().unwrap().addresses.pop().unwrap();
        moved[0].nat.as_mut().unwrap().inbound.clear();
        moved[1].nat.as_mut().unwrap().addresses.push(address);
        rig.reload(&plan(moved));
        rig.run();
        assert_eq!(announced(&mut rig), [public(0, 1)]);
    }
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
        RoutePlan { prefix: "10.50.0.0/16".parse().unwrap(), metric: 10, target: via },
        RoutePlan {
            prefix: "10.50.9.0/24".parse().unwrap(),
            metric: 10,
            target: RouteTarget::Blackhole,
        },
        RoutePlan {
            prefix: "10.50.0.0/16".parse().unwrap(),
            metric: 20,
            target: RouteTarget::Blackhole,
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
        rig.host
            .neighbours
            .insert((FRONT_END_LINK, neighbour), nvgate_deploy::host::Neighbour { mac });
        rig.reload(&plan);
        let frames = rig.from_tenant(&web(0), &sent).frames();
        assert_eq!(frames[0].destination, mac);
    }
}
