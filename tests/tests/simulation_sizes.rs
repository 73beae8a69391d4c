//! What does not fit, what is told to whom, and what ports leave to be done: ICMP errors, fragments,
//! super-packets, partial checksums, congestion marks. With one worker and with two.

use std::net::{IpAddr, Ipv4Addr};

use nvgate::io::PortRole;
use nvgate_deploy::plan::DscpMode;
use nvgate_model::DropReason;
use nvgate_packet::buf::{Checksum, Offload};
use nvgate_tests::frames::{Body, Frame, Packet, flags};
use nvgate_tests::rig::{Rig, RigOptions, partial, tcp_super_packet};
use nvgate_tests::rig_claims::{
    TENANT_MTU, app, dropped, each, refused, two_tenants, udp_out, web,
};
use nvgate_tests::rig_plan::{
    APP, FRONT_END_LINK, FRONT_END_MAC, REMOTE, REMOTE_V6, ROUTER_MAC, WEB, customer, customer_v6,
    plan, public, public_v6,
};

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
fn fragments_find_the_owner_of_a_flow_that_is_compiled_already() {
    each(|rig| {
        for port in 0..16 {
            let whole = Packet::udp((customer(WEB, 10), port), (REMOTE, 4000), b"whole");
            let data = Packet::udp((customer(WEB, 10), port), (REMOTE, 4000), &[5; 400]);
            let frame = web(0).sends(&whole).bytes();
            let mut left = Vec::new();
            for worker in [0, 1, 0, 1] {
                rig.inject(PortRole::Fabric, worker, &frame, Offload::default());
                rig.run();
                rig.take(PortRole::FrontEnd);
            }
            for (worker, fragment) in data.fragmentable(port).fragments(160).iter().enumerate() {
                let frame = web(0).sends(fragment).bytes();
                rig.inject(PortRole::Fabric, worker, &frame, Offload::default());
                rig.run();
                left.extend(rig.take(PortRole::FrontEnd));
            }
            let read = |sent: &nvgate_tests::rig::Sent| {
                Frame::read(&sent.bytes).unwrap().packet().unwrap()
            };
            let left: Vec<Packet> = left.iter().map(read).collect();
            let joined = Packet::reassemble(&left).unwrap();
            assert_eq!(joined.ports().1, 4000);
        }
        assert_eq!(rig.all_drops(), []);
    });
}
