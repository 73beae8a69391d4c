//! What the gateway answers and announces itself, what stays within a subnet, and who may speak for
//! whom: one claim at a time, with one worker and with two.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use nvgate::io::PortRole;

use nvgate_model::{DropReason, MacAddress};

use nvgate_tests::frames::{ARP, Arp, Body, Frame, IPV6, Packet};
use nvgate_tests::rig::{Output, Rig, RigOptions, Station};
use nvgate_tests::rig_claims::{
    TENANT_MTU, dropped, each, each_of, two_tenants, udp_out, web, web_neighbour,
};
use nvgate_tests::rig_plan::{
    APP, FRONT_END_MAC, GATEWAY_MAC, REMOTE, ROUTER_MAC, WEB, customer, customer_v6, endpoint,
    endpoint_mac, plan, provider, provider_v6, public, public_v6, tenant, vsid,
};

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
