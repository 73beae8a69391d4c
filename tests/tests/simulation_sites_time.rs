//! What tunnels do over time: new sessions, silence, absence, roaming, and the rate they may have;
//! one claim at a time, with one worker and with two.

use std::time::Duration;

use nvgate_deploy::plan::TenantPlan;
use nvgate_model::DropReason;
use nvgate_tests::frames::Packet;
use nvgate_tests::rig::Rig;
use nvgate_tests::rig_claims::web;
use nvgate_tests::rig_plan::{WEB, customer};
use nvgate_tests::rig_site::{SitePeer, carry, on_premises, pass, peer_socket};
use nvgate_tests::rig_site_claims::{
    both_connected, connected, counted, each_place, each_place_of, from_site, from_vm, taken,
    tenants, with_site,
};
use nvgate_vpn::{TunnelState, TunnelStatus};

fn question(data: &[u8]) -> Packet {
    Packet::udp((on_premises(1, 5), 4000), (customer(WEB, 10), 53), data)
}

/// Both directions of a tunnel work.
fn talks(rig: &mut Rig, peers: &mut [SitePeer], at: usize) {
    let question = question(b"still there?");
    let output = from_site(rig, peers, at, &question);
    assert_eq!(output.to_station(&web(at as u8)), question.clone().hop());
    assert_eq!(from_vm(rig, peers, &web(at as u8), &question.reply()), []);
    assert_eq!(peers[at].take(), [question.reply().hop()]);
}

/// What the gateway says of a tenant's first tunnel.
fn status(rig: &Rig, tenant: usize) -> TunnelStatus {
    let snapshot = rig.snapshot();
    let domain = snapshot
        .domains()
        .find(|domain| domain.tenant.to_string() == format!("tenant-{tenant}"))
        .expect("the tenant is there");
    let status = domain.sites[0].tunnels[0].shared.status.lock().expect("nobody panicked");
    status.expect("its worker has said something")
}

/// Two tenants whose gateway knows where their sites are.
fn with_endpoints(port: u16) -> Vec<TenantPlan> {
    tenants(|number, site| {
        site.tunnels[0].endpoint = Some(peer_socket(9, port + u16::from(number)));
    })
}

#[test]
fn sessions_are_renewed_without_losing_a_packet() {
    each_place(&tenants(|_, _| {}), |rig, port| {
        let mut peers = both_connected(rig, port);
        for _ in 0..500 {
            rig.advance(Duration::from_secs(1));
            carry(rig, &mut peers);
            talks(rig, &mut peers, 0);
            talks(rig, &mut peers, 1);
        }
        let made = peers[0].status(rig.now).counters.handshakes_completed;
        assert!((4..=6).contains(&made), "{made} sessions in 500 seconds");
        counted(rig, &[]);
    });
}

#[test]
fn only_the_gateway_speaks_and_nothing_is_lost_at_a_renewal() {
    each_place(&tenants(|_, _| {}), |rig, port| {
        let mut peers = both_connected(rig, port);
        for second in 0..500_u32 {
            rig.advance(Duration::from_secs(1));
            let answer = question(&second.to_be_bytes()).reply();
            assert_eq!(from_vm(rig, &mut peers, &web(0), &answer), []);
            assert_eq!(peers[0].take(), [answer.hop()]);
        }
        counted(rig, &[]);
    });
}

#[test]
fn an_idle_tunnel_stays_up_and_its_routes_are_still() {
    each_place_of(with_endpoints, |rig, port| {
        let mut peers = both_connected(rig, port);
        let generation = rig.snapshot().generation;
        pass(rig, &mut peers, 1000);
        assert_eq!(rig.snapshot().generation, generation, "no route has changed");
        for tenant in [0, 1] {
            assert_eq!(status(rig, tenant).state, TunnelState::Up);
            let tried = status(rig, tenant).counters.handshakes_tried;
            assert!((5..=10).contains(&tried), "{tried} initiations in 1000 seconds");
            talks(rig, &mut peers, tenant);
        }
        counted(rig, &[]);
    });
}

#[test]
fn a_peer_that_was_away_for_ten_minutes_is_found_again() {
    each_place_of(with_endpoints, |rig, port| {
        let mut peers = both_connected(rig, port);
        peers[0].reachable = false;
        pass(rig, &mut peers, 600);
        assert_ne!(status(rig, 0).state, TunnelState::Up);
        let answer = question(b"anybody?").reply();
        assert_eq!(from_vm(rig, &mut peers, &web(0), &answer), [], "never by NAT");
        assert_eq!(taken(rig).all_to_station(&web(0)).len(), 1, "it is told");
        let tried = status(rig, 0).counters.handshakes_tried;
        assert!((50..=130).contains(&tried), "{tried} initiations");
        assert_eq!(status(rig, 1).state, TunnelState::Up);

        peers[0].reachable = true;
        // Silent itself: the gateway knows where it is, and begins.
        pass(rig, &mut peers, 10);
        assert_eq!(status(rig, 0).state, TunnelState::Up);
        talks(rig, &mut peers, 0);
        talks(rig, &mut peers, 1);
        counted(rig, &[(DropReason::TunnelDown, 1)]);
    });
}

#[test]
fn a_peer_without_an_endpoint_comes_back_when_it_speaks() {
    each_place(&tenants(|_, _| {}), |rig, port| {
        let mut peers = both_connected(rig, port);
        peers[0].reachable = false;
        pass(rig, &mut peers, 600);
        assert_ne!(status(rig, 0).state, TunnelState::Up);
        peers[0].reachable = true;
        peers[0].send(rig, &question(b"back"));
        pass(rig, &mut peers, 10);
        taken(rig);
        talks(rig, &mut peers, 0);
        counted(rig, &[]);
    });
}

#[test]
fn a_tunnel_follows_its_peer_to_another_address_with_its_first_packet() {
    each_place(&tenants(|_, _| {}), |rig, port| {
        let mut peers = both_connected(rig, port);
        for (last, moved) in [(20, port + 1), (21, port), (22, port + 500)] {
            let before = peers[0].address;
            peers[0].address = peer_socket(last, moved);
            talks(rig, &mut peers, 0);
            rig.advance(Duration::from_millis(200));
            assert_eq!(status(rig, 0).endpoint, Some(peers[0].address));
            // What is said from the old place without the keys moves nothing.
            let stay = peers[0].address;
            peers[0].address = before;
            peers[0].inject(rig, &[4; 64]);
            rig.run();
            peers[0].address = stay;
            talks(rig, &mut peers, 0);
            talks(rig, &mut peers, 1);
        }
        assert_eq!(peers[0].status(rig.now).counters.handshakes_tried, 1);
    });
}

#[test]
fn beyond_its_rate_a_tunnel_drops_and_others_do_not() {
    let limited = vec![
        with_site(0, 2, |_, site| {
            let kbps = std::num::NonZeroU32::new(800);
            for (tunnel, prefix) in
                site.tunnels.iter_mut().zip(["192.168.1.0/24", "192.168.2.0/24"])
            {
                tunnel.allowed = vec![prefix.parse().expect("a prefix")];
            }
            site.tunnels[0].bandwidth.inbound_kbps = kbps;
            site.tunnels[0].bandwidth.outbound_kbps = kbps;
        }),
        with_site(1, 1, |_, _| {}),
    ];
    each_place(&limited, |rig, port| {
        let mut peers = vec![
            connected(rig, 0, 1, port),
            SitePeer::new(0, 2, peer_socket(9, port + 1), rig.now),
            connected(rig, 1, 1, port + 2),
        ];
        let of = |net: u8| {
            let data = [net; 972];
            Packet::udp((on_premises(net, 5), 4000), (customer(WEB, 10), 53), &data)
        };
        peers[1].send(rig, &of(2));
        taken(rig);
        pass(rig, &mut peers, 2);
        // A burst of 65,535 bytes at once, and 100,000 bytes a second; a packet has 1000 bytes.
        let mut passed = [[0; 3]; 2];
        for second in 0..3 {
            for _ in 0..200 {
                for (at, (tenant, net)) in [(0, 1), (0, 2), (1, 1)].into_iter().enumerate() {
                    let output = from_site(rig, &mut peers, at, &of(net));
                    passed[0][at] += output.all_to_station(&web(tenant)).len();
                    from_vm(rig, &mut peers, &web(tenant), &of(net).reply());
                    passed[1][at] += peers[at].take().len();
                }
            }
            if second < 2 {
                rig.advance(Duration::from_secs(1));
            }
        }
        let expected = 65 + 65 + 65;
        for direction in passed {
            assert!((expected - 3..=expected + 3).contains(&direction[0]), "{direction:?}");
            assert_eq!(direction[1..], [600, 600]);
        }
        let dropped = |direction: usize| (600 - passed[direction][0]) as u64;
        counted(
            rig,
            &[
                (DropReason::TunnelPolicedInbound, dropped(0)),
                (DropReason::TunnelPolicedOutbound, dropped(1)),
            ],
        );
    });
}
