//! Tunnels to sites, one claim at a time, with one worker and with two; the site is the other end
//! of a tunnel without a gateway around it. Here: what goes through, and where it goes.

use std::net::IpAddr;

use nvgate::io::PortRole;
use nvgate_deploy::plan::{SitePlan, TenantPlan};
use nvgate_model::{DropReason, Prefix, Protocol};
use nvgate_tests::frames::{Body, Packet, flags};
use nvgate_tests::rig_claims::{app, web};
use nvgate_tests::rig_plan::{APP, REMOTE, WEB, customer, customer_v6, public, rule, tenant};
use nvgate_tests::rig_site::{
    SitePeer, carry, gateway_socket_v6, give_sites, give_sites_at, on_premises, on_premises_v6,
    peer_config, peer_socket, route_to, site, tunnel,
};
use nvgate_tests::rig_site_claims::{
    ROUTES, both_connected, connect, connected, counted, each_place, from_site, from_vm,
    open_tunnel, taken, tenants, to_gateway, with_site,
};

/// Packets of every protocol and family from a site to the VM 10 of `subnet`, under these classes.
fn questions(subnet: u8, last: u8) -> Vec<Packet> {
    let mut packets = Vec::new();
    let ends: [(IpAddr, IpAddr); 2] = [
        (on_premises(1, 5).into(), customer(subnet, last).into()),
        (on_premises_v6(1, 5).into(), customer_v6(subnet, last).into()),
    ];
    for (from, to) in ends {
        packets.push(Packet::udp((from, 4000), (to, 53), b"a question"));
        packets.push(Packet::tcp((from, 4000), (to, 443), flags::ACK, &[7; 333]));
        packets.push(Packet::echo(from, to, 9, b"ping"));
    }
    packets
}

#[test]
fn a_site_and_a_vm_of_its_tenant_talk_both_ways_and_with_nobody_elses() {
    each_place(&tenants(|_, _| {}), |rig, port| {
        let mut peers = both_connected(rig, port);
        // The second round goes by compiled entries.
        for question in [questions(WEB, 10), questions(WEB, 10)].concat() {
            for number in 0..2_u8 {
                let output = from_site(rig, &mut peers, usize::from(number), &question);
                assert_eq!(output.to_station(&web(number)), question.clone().hop());
                let answer = question.reply();
                assert_eq!(from_vm(rig, &mut peers, &web(number), &answer), []);
                assert_eq!(peers[usize::from(number)].take(), [answer.hop()]);
                assert!(peers[1 - usize::from(number)].received.is_empty());
            }
        }
        counted(rig, &[]);
    });
}

#[test]
fn a_tunnel_over_ipv6_carries_both_families() {
    let tenants: Vec<TenantPlan> = (0..2)
        .map(|number| {
            let mut tenant = tenant(number);
            let sites = vec![site("hq", vec![open_tunnel(number, 1)])];
            give_sites_at(&mut tenant, number, gateway_socket_v6(number), sites, &ROUTES);
            tenant
        })
        .collect();
    each_place(&tenants, |rig, port| {
        let mut peers: Vec<_> = (0..2_u8)
            .map(|number| {
                let mut config = peer_config(number, 1);
                config.endpoint = Some(gateway_socket_v6(number));
                let address = format!("[2001:db8:ffff::9]:{}", port + u16::from(number));
                SitePeer::with(config, 1, address.parse().expect("a socket"), rig.now)
            })
            .collect();
        peers.iter_mut().for_each(|peer| connect(rig, peer));
        for question in questions(WEB, 10) {
            for number in 0..2_u8 {
                let output = from_site(rig, &mut peers, usize::from(number), &question);
                assert_eq!(output.to_station(&web(number)), question.clone().hop());
                let answer = question.reply();
                assert_eq!(from_vm(rig, &mut peers, &web(number), &answer), []);
                assert_eq!(peers[usize::from(number)].take(), [answer.hop()]);
            }
        }
        counted(rig, &[]);
    });
}

#[test]
fn a_packet_at_the_end_of_its_hops_is_answered_on_both_sides() {
    each_place(&tenants(|_, _| {}), |rig, port| {
        let mut peers = both_connected(rig, port);
        let mut question = Packet::udp((on_premises(1, 5), 4000), (customer(WEB, 10), 53), b"hops");
        question.ttl = 1;
        assert!(from_site(rig, &mut peers, 0, &question).is_empty());
        let told = Packet::error(customer(WEB, 1), on_premises(1, 5), (11, 0, 0), &question);
        assert_alike(&peers[0].take(), &told);

        let answer = Packet { ttl: 1, ..question.reply() };
        from_vm(rig, &mut peers, &web(0), &answer);
        let output = taken(rig);
        let told = Packet::error(customer(WEB, 1), customer(WEB, 10), (11, 0, 0), &answer);
        assert_alike(&[output.to_station(&web(0))], &told);
        counted(rig, &[(DropReason::TtlExpired, 2)]);
    });
}

/// One ICMP error is the expected one, whatever its traffic class and hop limit.
fn assert_alike(seen: &[Packet], expected: &Packet) {
    let [seen] = seen else { panic!("not one packet: {seen:?}") };
    assert_eq!((seen.source, seen.destination), (expected.source, expected.destination));
    let (Body::Icmp { kind, code, word, rest }, Body::Icmp { rest: about, .. }) =
        (&seen.body, &expected.body)
    else {
        panic!("no ICMP error: {seen:?}")
    };
    let Body::Icmp { kind: wanted, code: with, word: value, .. } = &expected.body else {
        unreachable!()
    };
    assert_eq!((kind, code, word), (wanted, with, value));
    assert_eq!(rest[..], about[..rest.len()], "the quoted packet");
    assert!(rest.len() >= about.len().min(500));
}

#[test]
fn dscp_and_ecn_are_copied_out_and_merged_back() {
    each_place(&tenants(|_, _| {}), |rig, port| {
        let mut peers = both_connected(rig, port);
        let question = Packet::udp((on_premises(1, 5), 4000), (customer(WEB, 10), 53), b"class");
        let answer = Packet { class: 0xba, ..question.reply() };
        from_vm(rig, &mut peers, &web(0), &answer);
        let outer = peers[0].datagrams.pop().expect("a datagram");
        assert_eq!((outer.class, outer.dont_fragment), (0xba, true));
        assert_eq!(peers[0].take(), [answer.hop()]);

        // Inside, outside, and what comes of them by RFC 6040 figure 4, with the outer DSCP.
        let ends = [
            (0x00, 0x00, Some(0x00)),
            (0x02, 0x03, Some(0x03)),
            (0x01, 0x03, Some(0x03)),
            (0x02, 0x01, Some(0x01)),
            (0x00, 0x2a, Some(0x28)),
            (0xb8, 0x03, None),
        ];
        for (inner, outer, merged) in ends {
            let question = Packet { class: inner, ..question.clone() };
            let datagram = peers[0].seal(rig.now, &question).expect("a session");
            peers[0].inject_with(rig, &datagram, outer);
            carry(rig, &mut peers);
            let seen = taken(rig).all_to_station(&web(0));
            let expected = merged.map(|class| Packet { class, ..question.clone() }.hop());
            assert_eq!(seen, Vec::from_iter(expected));
        }
        counted(rig, &[(DropReason::EcnInvalid, 1)]);
    });
}

/// A tenant with two sites, 192.168.0.0/17 and 192.168.128.0/17, each behind one tunnel.
fn hub(number: u8) -> TenantPlan {
    let mut tenant = tenant(number);
    let halves = ["192.168.0.0/17", "192.168.128.0/17"];
    let sites = ["north", "south"].iter().zip(1_u8..).zip(halves);
    let sites = sites
        .map(|((name, key), half)| site(name, vec![tunnel(number, key, "a", &[half])]))
        .collect();
    give_sites(&mut tenant, number, sites, &[(halves[0], 0), (halves[1], 1)]);
    tenant
}

#[test]
fn two_sites_of_a_tenant_reach_each_other() {
    each_place(&[hub(0), hub(1)], |rig, port| {
        let mut peers: Vec<_> = (0..2)
            .flat_map(|tenant| [(tenant, 1), (tenant, 2)])
            .zip(port..)
            .map(|((tenant, number), port)| {
                SitePeer::new(tenant, number, peer_socket(9, port), rig.now)
            })
            .collect();
        for (index, peer) in peers.iter_mut().enumerate() {
            let source = on_premises(if index % 2 == 0 { 1 } else { 200 }, 5);
            peer.send(rig, &Packet::udp((source, 1), (customer(WEB, 10), 1), b"knock"));
        }
        rig.take(PortRole::Fabric);
        for round in 0..3_u8 {
            for from in [0, 2] {
                let there =
                    Packet::udp((on_premises(1, 5), 4000), (on_premises(200, 6), 53), &[round; 99]);
                assert!(from_site(rig, &mut peers, from, &there).is_empty());
                assert_eq!(peers[from + 1].take(), [there.clone().hop()]);
                let back = there.reply();
                assert!(from_site(rig, &mut peers, from + 1, &back).is_empty());
                assert_eq!(peers[from].take(), [back.hop()]);
            }
        }
        // What a site has itself does not come back to it.
        let own = Packet::udp((on_premises(1, 5), 1), (on_premises(2, 5), 1), b"own");
        assert!(from_site(rig, &mut peers, 0, &own).is_empty());
        assert!(peers.iter().all(|peer| peer.received.is_empty()));
        counted(rig, &[(DropReason::NoRoute, 1)]);
    });
}

#[test]
fn the_default_gateways_answer_a_site() {
    each_place(&tenants(|_, _| {}), |rig, port| {
        let mut peers = both_connected(rig, port);
        let pings = [
            Packet::echo(on_premises(1, 5), customer(WEB, 1), 7, b"there?"),
            Packet::echo(on_premises_v6(1, 5), customer_v6(APP, 1), 7, b"there?"),
        ];
        for ping in pings {
            assert!(from_site(rig, &mut peers, 1, &ping).is_empty());
            let pongs = peers[1].take();
            let [pong] = &pongs[..] else { panic!("not one packet: {pongs:?}") };
            assert_eq!((pong.source, &pong.body), (ping.destination, &ping.reply().body));
        }
        counted(rig, &[]);
    });
}

/// Both tenants' sites may use NAT, and a public port of each leads to a machine of the site's.
fn with_internet() -> Vec<TenantPlan> {
    let mut tenants = tenants(|_, site| site.internet = true);
    for (number, tenant) in (0..2).zip(&mut tenants) {
        let to = (on_premises(1, 80), 8080);
        let rules = &mut tenant.nat.as_mut().expect("NAT").inbound;
        rules.push(rule(Protocol::Tcp, (public(number, 1), 443), 1, to));
        rules.push(rule(Protocol::Udp, (public(number, 1), 443), 1, to));
    }
    tenants
}

#[test]
fn a_site_with_internet_goes_through_its_tenants_nat_both_ways() {
    each_place(&with_internet(), |rig, port| {
        let mut peers = both_connected(rig, port);
        for number in [0, 1] {
            // Many sockets, so that some are another worker's than the tunnel.
            for source in 2000..2016 {
                let from = (on_premises(1, 5), source);
                let packets = [
                    Packet::udp(from, (REMOTE, 53), b"question"),
                    Packet::tcp(from, (REMOTE, 443), flags::SYN, b""),
                    Packet::echo(from.0, REMOTE, source, b"ping"),
                ];
                for packet in packets.into_iter().flat_map(|packet| [packet.clone(), packet]) {
                    let output = from_site(rig, &mut peers, usize::from(number), &packet);
                    let left = output.to_router();
                    let addresses = [public(number, 0), public(number, 1)];
                    assert!(addresses.iter().any(|address| IpAddr::V4(*address) == left.source));
                    assert_eq!(left, packet.clone().hop().with_source(left.source, left.ports().0));
                    to_gateway(rig, &mut peers, &left.reply());
                    assert_eq!(peers[usize::from(number)].take(), [packet.reply().hop()]);
                }
            }
        }
        counted(rig, &[]);
    });
}

#[test]
fn a_site_without_internet_is_told_so() {
    each_place(&tenants(|_, _| {}), |rig, port| {
        let mut peers = both_connected(rig, port);
        let packet = Packet::udp((on_premises(1, 5), 4000), (REMOTE, 53), b"question");
        assert!(from_site(rig, &mut peers, 0, &packet).is_empty());
        let told = Packet::error(customer(WEB, 1), on_premises(1, 5), (3, 13, 0), &packet);
        assert_alike(&peers[0].take(), &told);
        counted(rig, &[(DropReason::TunnelInternet, 1)]);
    });
}

#[test]
fn an_inbound_rule_leads_into_a_site() {
    each_place(&with_internet(), |rig, port| {
        let mut peers = both_connected(rig, port);
        for (number, from) in [(0, 5000), (1, 5001), (0, 5002), (1, 5003)] {
            for data in [b"one", b"two"] {
                let packet = Packet::udp((REMOTE, from), (public(number, 1), 443), data);
                assert!(to_gateway(rig, &mut peers, &packet).is_empty());
                let inside = packet.clone().with_destination(on_premises(1, 80), 8080);
                assert_eq!(peers[usize::from(number)].take(), [inside.clone().hop()]);
                let output = from_site(rig, &mut peers, usize::from(number), &inside.reply());
                assert_eq!(output.to_router(), packet.reply().hop());
            }
        }
        counted(rig, &[]);
    });
}

#[test]
fn icmp_errors_pass_between_a_site_its_tenant_and_the_internet() {
    each_place(&with_internet(), |rig, port| {
        let mut peers = both_connected(rig, port);
        let ends: [(IpAddr, IpAddr, (u8, u8, u32)); 2] = [
            (on_premises(1, 5).into(), customer(WEB, 10).into(), (3, 3, 0)),
            (on_premises_v6(1, 5).into(), customer_v6(WEB, 10).into(), (1, 4, 0)),
        ];
        for (there, here, words) in ends {
            let question = Packet::udp((there, 4000), (here, 53), b"question");
            let seen = from_site(rig, &mut peers, 0, &question).to_station(&web(0));
            let error = Packet::error(here, there, words, &seen);
            from_vm(rig, &mut peers, &web(0), &error);
            assert_eq!(peers[0].take(), [error.hop()]);

            let answer = question.reply();
            from_vm(rig, &mut peers, &web(0), &answer);
            let seen = peers[0].take().remove(0);
            let error = Packet::error(there, here, words, &seen);
            let output = from_site(rig, &mut peers, 0, &error);
            assert_eq!(output.to_station(&web(0)), error.hop());
        }
        for source in 3000..3008 {
            let packet = Packet::udp((on_premises(1, 5), source), (REMOTE, 53), b"question");
            let left = from_site(rig, &mut peers, 0, &packet).to_router();
            let error = Packet::error(REMOTE, left.source, (3, 3, 0), &left);
            assert!(to_gateway(rig, &mut peers, &error).is_empty());
            let told = Packet::error(REMOTE, on_premises(1, 5), (3, 3, 0), &packet.hop());
            assert_alike(&peers[0].take(), &told);
        }
        for from in 5000..5008 {
            let packet = Packet::udp((REMOTE, from), (public(0, 1), 443), b"in");
            assert!(to_gateway(rig, &mut peers, &packet).is_empty());
            let seen = peers[0].take().remove(0);
            let error = Packet::error(on_premises(1, 80), REMOTE, (3, 3, 0), &seen);
            let output = from_site(rig, &mut peers, 0, &error);
            let told = Packet::error(public(0, 1), REMOTE, (3, 3, 0), &packet.hop());
            assert_alike(&[output.to_router()], &told);
        }
        counted(rig, &[]);
    });
}

#[test]
fn tunnels_with_different_prefixes_carry_each_its_own() {
    let tenants = vec![with_site(0, 2, |_, site| {
        let halves = ["192.168.0.0/17", "192.168.128.0/17"];
        for (tunnel, half) in site.tunnels.iter_mut().zip(halves) {
            tunnel.allowed = vec![half.parse::<Prefix>().expect("a prefix")];
        }
    })];
    each_place(&tenants, |rig, port| {
        let mut peers = vec![connected(rig, 0, 1, port)];
        let to = |net| Packet::udp((customer(APP, 20), 1), (on_premises(net, 5), 1), b"which");
        from_vm(rig, &mut peers, &app(0), &to(1));
        assert_eq!(peers[0].take(), [to(1).hop()]);
        assert!(taken(rig).is_empty());
        // The other half has no tunnel that is up, and the site's other tunnel must not carry it.
        from_vm(rig, &mut peers, &app(0), &to(200));
        assert!(peers[0].received.is_empty());
        let told = Packet::error(customer(APP, 1), customer(APP, 20), (3, 0, 0), &to(200));
        assert_alike(&[taken(rig).to_station(&app(0))], &told);
        counted(rig, &[(DropReason::TunnelDown, 1)]);
    });
}

#[test]
fn a_route_may_be_narrower_than_what_its_tunnel_allows() {
    let mut tenant = with_site(0, 1, |_, _| {});
    tenant.routes = vec![route_to("192.168.5.0/24", 0)];
    each_place(&[tenant], |rig, port| {
        let mut peers = vec![SitePeer::new(0, 1, peer_socket(9, port), rig.now)];
        let question = Packet::udp((on_premises(5, 5), 4000), (customer(WEB, 10), 53), b"narrow");
        for _ in 0..2 {
            let output = from_site(rig, &mut peers, 0, &question);
            assert_eq!(output.to_station(&web(0)), question.clone().hop());
            from_vm(rig, &mut peers, &web(0), &question.reply());
            assert_eq!(peers[0].take(), [question.reply().hop()]);
        }
        let beside = Packet::udp((on_premises(6, 5), 4000), (customer(WEB, 10), 53), b"beside");
        assert!(from_site(rig, &mut peers, 0, &beside).is_empty());
        counted(rig, &[(DropReason::TunnelSource, 1)]);
    });
}

#[test]
fn a_site_speaks_only_for_what_is_routed_to_it() {
    let tenants = tenants(|_, site| {
        site.internet = true;
        for tunnel in &mut site.tunnels {
            tunnel.allowed = ["0.0.0.0/0", "::/0"].map(|all| all.parse().expect("a prefix")).into();
        }
    });
    each_place(&tenants, |rig, port| {
        let mut peers = both_connected(rig, port);
        let sources: [IpAddr; 8] = [
            customer(WEB, 11).into(),
            customer(WEB, 99).into(),
            customer(APP, 1).into(),
            REMOTE.into(),
            public(0, 0).into(),
            "224.0.0.1".parse().expect("an address"),
            customer_v6(WEB, 10).into(),
            "fe80::1".parse().expect("an address"),
        ];
        for source in sources {
            let to: IpAddr = if source.is_ipv4() {
                customer(WEB, 10).into()
            } else {
                customer_v6(APP, 20).into()
            };
            let forged = Packet::udp((source, 1), (to, 1), b"forged");
            assert!(from_site(rig, &mut peers, 0, &forged).is_empty(), "{source}");
        }
        assert!(peers.iter().all(|peer| peer.received.is_empty()));
        counted(rig, &[(DropReason::TunnelSource, sources.len() as u64)]);
    });
}

#[test]
fn a_tunnel_lets_in_and_out_only_what_it_allows() {
    let narrow = |_: u8, site: &mut SitePlan| {
        site.tunnels[0].allowed = vec!["192.168.1.0/24".parse().expect("a prefix")];
    };
    each_place(&tenants(narrow), |rig, port| {
        let mut peers = both_connected(rig, port);
        let beyond = Packet::udp((on_premises(2, 5), 1), (customer(WEB, 10), 1), b"beyond");
        assert!(from_site(rig, &mut peers, 0, &beyond).is_empty());
        counted(rig, &[(DropReason::TunnelSource, 1)]);
        from_vm(rig, &mut peers, &web(0), &beyond.reply());
        assert!(peers.iter().all(|peer| peer.received.is_empty()));
        let told = Packet::error(customer(WEB, 1), customer(WEB, 10), (3, 0, 0), &beyond.reply());
        assert_alike(&[taken(rig).to_station(&web(0))], &told);
        counted(rig, &[(DropReason::TunnelSource, 1), (DropReason::TunnelDown, 1)]);
    });
}
