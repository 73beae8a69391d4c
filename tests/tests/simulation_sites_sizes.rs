//! How long packets may be that go through a tunnel, and who is told: one claim at a time, with one
//! worker and with two.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use nvgate::io::PortRole;
use nvgate_deploy::plan::TenantPlan;
use nvgate_model::DropReason;
use nvgate_packet::buf::Offload;
use nvgate_tests::frames::{Body, Frame, Nvgre, Packet, flags};
use nvgate_tests::rig::{Rig, Station, outer, partial, tcp_super_packet};
use nvgate_tests::rig_claims::web;
use nvgate_tests::rig_plan::{
    FRONT_END_MAC, GATEWAY_MAC, ROUTER, ROUTER_MAC, WEB, customer, customer_v6, tenant,
};
use nvgate_tests::rig_site::{
    SitePeer, carry, gateway_socket, gateway_socket_v6, give_sites_at, on_premises, on_premises_v6,
    peer_config, site,
};
use nvgate_tests::rig_site_claims::{
    ROUTES, connect, counted, each_place, from_site, from_vm, open_tunnel, taken,
};

/// A tenant whose tunnels end at IPv6, or at IPv4.
fn tenant_over(v6: bool) -> Vec<TenantPlan> {
    let mut tenant = tenant(0);
    let socket = if v6 { gateway_socket_v6(0) } else { gateway_socket(0) };
    give_sites_at(&mut tenant, 0, socket, vec![site("hq", vec![open_tunnel(0, 1)])], &ROUTES);
    vec![tenant]
}

/// Runs a claim over IPv4 and over IPv6 outside; it gets the connected peer and the tunnel's MTU.
fn over_both(claim: impl Fn(&mut Rig, &mut Vec<SitePeer>, u16)) {
    for (v6, mtu) in [(false, 1440), (true, 1420)] {
        each_place(&tenant_over(v6), |rig, port| {
            let mut config = peer_config(0, 1);
            config.endpoint = Some(if v6 { gateway_socket_v6(0) } else { gateway_socket(0) });
            let host = if v6 { "[2001:db8:ffff::9]" } else { "198.51.100.9" };
            let address = format!("{host}:{port}").parse().expect("a socket");
            let mut peers = vec![SitePeer::with(config, 1, address, rig.now)];
            connect(rig, &mut peers[0]);
            claim(rig, &mut peers, mtu);
        });
    }
}

/// A datagram of `length` bytes with its headers from the VM 10.1.0.10 to the site.
fn of_length(v6: bool, length: u16) -> Packet {
    let data = vec![9; usize::from(length) - if v6 { 48 } else { 28 }];
    if v6 {
        Packet::udp((customer_v6(WEB, 10), 53), (on_premises_v6(1, 5), 4000), &data)
    } else {
        Packet::udp((customer(WEB, 10), 53), (on_premises(1, 5), 4000), &data)
    }
}

/// The VM is told that its packet was too long, and by how much.
fn told_of(rig: &mut Rig, packet: &Packet) -> u32 {
    let told = taken(rig).to_station(&web(0));
    let words = if packet.source.is_ipv4() { (3, 4) } else { (2, 0) };
    assert_eq!(told.destination, packet.source);
    let Body::Icmp { kind, code, word, rest } = &told.body else { panic!("{told:?}") };
    assert_eq!((*kind, *code), words);
    assert_eq!(rest[..], packet.bytes()[..rest.len()]);
    *word
}

#[test]
fn a_packet_too_long_for_the_tunnel_is_told_its_mtu() {
    over_both(|rig, peers, mtu| {
        for v6 in [false, true] {
            // The second one finds a compiled entry.
            for _ in 0..2 {
                let fits = of_length(v6, mtu);
                assert_eq!(from_vm(rig, peers, &web(0), &fits), []);
                let longest = peers[0].datagrams.last().expect("a datagram").bytes().len();
                assert_eq!((longest, peers[0].take()), (1500, vec![fits.hop()]));
            }
            let long = of_length(v6, mtu + 1);
            assert_eq!(from_vm(rig, peers, &web(0), &long), []);
            assert_eq!(told_of(rig, &long), u32::from(mtu));
            assert!(peers[0].received.is_empty());
        }
        counted(rig, &[(DropReason::TooBig, 2)]);
    });
}

#[test]
fn a_packet_that_may_be_fragmented_is() {
    over_both(|rig, peers, mtu| {
        for length in [mtu + 1, 1458] {
            let long = of_length(false, length).fragmentable(7);
            assert_eq!(from_vm(rig, peers, &web(0), &long), []);
            let pieces = peers[0].take();
            assert!(
                pieces.len() == 2 && pieces.iter().all(|it| it.bytes().len() <= usize::from(mtu))
            );
            assert_eq!(Packet::reassemble(&pieces), Ok(long.hop()));
        }
        counted(rig, &[]);
    });
}

#[test]
fn fragments_of_both_sides_pass_as_they_are() {
    over_both(|rig, peers, _| {
        let long = of_length(false, 1300).fragmentable(8);
        for fragment in long.fragments(400) {
            from_vm(rig, peers, &web(0), &fragment);
        }
        assert_eq!(Packet::reassemble(&peers[0].take()), Ok(long.clone().hop()));
        let back = long.reply().fragmentable(9);
        let mut arrived = Vec::new();
        for fragment in back.fragments(400) {
            arrived.push(from_site(rig, peers, 0, &fragment).to_station(&web(0)));
        }
        assert_eq!(Packet::reassemble(&arrived), Ok(back.hop()));
        counted(rig, &[]);
    });
}

fn with_mss(packet: &Packet, size: u16) -> Packet {
    let mut packet = packet.clone();
    let Body::Tcp { mss, .. } = &mut packet.body else { panic!("no TCP: {packet:?}") };
    *mss = Some(size);
    packet
}

#[test]
fn the_segment_size_of_both_directions_is_clamped_to_the_tunnel() {
    over_both(|rig, peers, mtu| {
        let ends: [(IpAddr, IpAddr, u16); 2] = [
            (customer(WEB, 10).into(), on_premises(1, 5).into(), mtu - 40),
            (customer_v6(WEB, 10).into(), on_premises_v6(1, 5).into(), mtu - 60),
        ];
        for (here, there, clamped) in ends {
            let syn = Packet::tcp((here, 1000), (there, 443), flags::SYN, b"");
            let answer = Packet::tcp((there, 443), (here, 1000), flags::SYN | flags::ACK, b"");
            for (size, seen) in [(1460, clamped), (9000, clamped), (500, 500)] {
                from_vm(rig, peers, &web(0), &with_mss(&syn, size));
                assert_eq!(peers[0].take(), [with_mss(&syn, seen).hop()]);
                let output = from_site(rig, peers, 0, &with_mss(&answer, size));
                assert_eq!(output.to_station(&web(0)), with_mss(&answer, seen).hop());
            }
        }
        counted(rig, &[]);
    });
}

/// The frame in which a host passes a packet on with its checksum, and its segments, left to do.
fn super_frame(station: &Station, packet: &Packet, size: u16) -> (Vec<u8>, Offload) {
    let (source, v4) = (station.mac(), packet.source.is_ipv4());
    let payload = partial(packet);
    let inner = Frame { destination: GATEWAY_MAC, source, ethertype: packet.ethertype(), payload };
    let frame: Nvgre = station.sends_frame(inner);
    (frame.bytes(), tcp_super_packet(outer(station.providers[0]), v4, size))
}

#[test]
fn a_super_packet_is_cut_into_datagrams_that_fit() {
    over_both(|rig, peers, mtu| {
        let ends: [(IpAddr, IpAddr, u16); 2] = [
            (customer(WEB, 10).into(), on_premises(1, 5).into(), mtu - 40),
            (customer_v6(WEB, 10).into(), on_premises_v6(1, 5).into(), mtu - 60),
        ];
        for (here, there, size) in ends {
            let data: Vec<u8> = (0..9000_u32).map(|at| at as u8).collect();
            let packet = Packet::tcp((here, 1000), (there, 443), flags::ACK, &data);
            // Whatever goes first and whatever goes by a compiled entry.
            for _ in 0..2 {
                let (frame, offload) = super_frame(&web(0), &packet, size);
                rig.inject(PortRole::Fabric, 0, &frame, offload);
                assert_eq!(carry(rig, peers), []);
                let mut joined = Vec::new();
                for segment in peers[0].take() {
                    assert!(segment.bytes().len() <= usize::from(mtu));
                    let Body::Tcp { sequence, payload, .. } = segment.body else { panic!("TCP") };
                    assert_eq!(sequence as usize, 1000 + joined.len());
                    joined.extend(payload);
                }
                assert_eq!(joined, data);
            }
            let (frame, offload) = super_frame(&web(0), &packet, size + 1);
            rig.inject(PortRole::Fabric, 0, &frame, offload);
            carry(rig, peers);
            assert!(peers[0].received.is_empty());
            let told = taken(rig).to_station(&web(0));
            let Body::Icmp { word, .. } = told.body else { panic!("{told:?}") };
            assert_eq!(word, u32::from(mtu));
        }
        assert_eq!(rig.all_drops().len(), 1, "{:?}", rig.all_drops());
    });
}

/// A router on the way tells the gateway that its link carries `mtu` bytes, about a datagram.
fn router_says(rig: &mut Rig, worker: usize, about: &Packet, mtu: u32) {
    let (from, words): (IpAddr, _) = match about.source {
        IpAddr::V4(_) => (ROUTER.into(), (3, 4, mtu)),
        IpAddr::V6(_) => ("2001:db8:bbbb::1".parse().expect("an address"), (2, 0, mtu)),
    };
    let error = Packet::error(from, about.source, words, about);
    let frame = Frame::of(FRONT_END_MAC, ROUTER_MAC, &error).bytes();
    rig.inject(PortRole::FrontEnd, worker, &frame, Offload::default());
    rig.run();
    assert!(rig.take(PortRole::FrontEnd).is_empty(), "nothing answers an error");
}

#[test]
fn a_router_on_the_way_lowers_the_mtu_within_limits_and_for_a_while() {
    over_both(|rig, peers, mtu| {
        let outside = 1500 - mtu;
        let v6 = peers[0].address.is_ipv6();
        let least = if v6 { 1280 } else { 576 };
        for (number, (says, believed)) in
            [(1400, 1400), (1450, 1400), (1300, 1300), (0, least)].into_iter().enumerate()
        {
            from_vm(rig, peers, &web(0), &of_length(false, 300));
            rig.advance(Duration::from_millis(200));
            let about = peers[0].datagrams.last().expect("a datagram").clone();
            peers[0].take();
            router_says(rig, number, &about, says);
            rig.advance(Duration::from_millis(200));
            let long = of_length(false, believed - outside + 1);
            from_vm(rig, peers, &web(0), &long);
            assert_eq!(told_of(rig, &long), u32::from(believed - outside), "said {says}");
            let fits = of_length(false, believed - outside);
            from_vm(rig, peers, &web(0), &fits);
            assert_eq!(peers[0].take(), [fits.hop()]);
        }
        peers[0].pass(rig, 602);
        let fits = of_length(false, mtu);
        from_vm(rig, peers, &web(0), &fits);
        assert_eq!(peers[0].take(), [fits.hop()]);
    });
}

#[test]
fn a_report_about_something_else_changes_nothing() {
    over_both(|rig, peers, mtu| {
        rig.advance(Duration::from_millis(200));
        from_vm(rig, peers, &web(0), &of_length(false, 300));
        let about = peers[0].datagrams.last().expect("a datagram").clone();
        peers[0].take();
        let other: IpAddr = match about.destination {
            IpAddr::V4(_) => Ipv4Addr::new(198, 51, 100, 10).into(),
            IpAddr::V6(_) => "2001:db8:ffff::10".parse().expect("an address"),
        };
        let Body::Udp { ports, .. } = about.body else { panic!("a datagram") };
        let elsewhere = [
            about.clone().with_destination(other, ports.1),
            about.clone().with_destination(about.destination, ports.1 + 1),
            about.clone().with_source(about.source, ports.0 - 1),
        ];
        for (worker, quoted) in elsewhere.iter().enumerate() {
            router_says(rig, worker, quoted, 1000);
        }
        // Neither is one that says something else than a size.
        let error = Packet::error(other, about.source, (3, 1, 1000), &about);
        if about.source.is_ipv4() {
            rig.exchange(PortRole::FrontEnd, &Frame::of(FRONT_END_MAC, ROUTER_MAC, &error).bytes());
        }
        let fits = of_length(false, mtu);
        from_vm(rig, peers, &web(0), &fits);
        assert_eq!(peers[0].take(), [fits.hop()]);
    });
}
