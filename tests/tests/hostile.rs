//! What an attacker on the front end, a tenant's VM or a careless operator must not reach: one claim
//! at a time, with one worker and with two.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use nvgate::counters::DomainTotals;
use nvgate::io::PortRole;
use nvgate_deploy::host::Neighbour;
use nvgate_deploy::plan::TenantPlan;
use nvgate_model::{DropReason, FlowId, MacAddress, ProviderAddress};
use nvgate_tests::frames::{ARP, Arp, Frame, Nvgre, Packet};
use nvgate_tests::rig::{Output, Rig, Station};
use nvgate_tests::rig_plan::{
    APP, FRONT_END_LINK, FRONT_END_MAC, REMOTE, ROUTER, ROUTER_MAC, TRANSIT, WEB, customer, plan,
    provider, public, tenant, vsid,
};

fn web(tenant: u8) -> Station {
    Station::new(tenant, WEB, 10, &[provider(11).into()])
}

fn app(tenant: u8) -> Station {
    Station::new(tenant, APP, 20, &[provider(13).into(), provider(14).into()])
}

fn two_tenants() -> Vec<TenantPlan> {
    vec![tenant(0), tenant(1)]
}

fn each(claim: impl Fn(&mut Rig)) {
    for workers in [1, 2] {
        claim(&mut Rig::new(&plan(two_tenants()), workers));
    }
}

fn totals(rig: &Rig, tenant: u8) -> DomainTotals {
    let name = format!("tenant-{tenant}");
    let snapshot = rig.snapshot();
    let domain = snapshot.domains().find(|domain| domain.tenant.to_string() == name);
    domain.expect("the tenant is there").counters.iter().collect()
}

fn udp_out(port: u16) -> Packet {
    Packet::udp((customer(WEB, 10), port), (REMOTE, 4000), b"out")
}

#[test]
fn nobody_outside_speaks_with_an_address_from_inside() {
    let link_local = Ipv4Addr::new(169, 254, 1, 1);
    for source in [customer(WEB, 11), customer(APP, 99), link_local, public(1, 0), public(0, 0)] {
        each(|rig| {
            // The same port on both sides: an echo service would talk to itself for ever.
            let packet = Packet::udp((source, 53), (public(0, 0), 53), b"spoofed");
            assert!(rig.from_front_end(&packet).is_empty());
            assert_eq!(rig.all_drops(), [(DropReason::Martian, 1)], "{source}");
        });
    }
}

#[test]
fn an_echo_with_identifier_0_opens_the_way_for_no_other_icmp() {
    each(|rig| {
        let ping = Packet::echo(customer(WEB, 10), REMOTE, 0, b"ping");
        let _ = rig.from_tenant(&web(0), &ping).to_router();
        let _ = rig.from_tenant(&web(0), &ping).to_router();
        let inside = Packet::udp((REMOTE, 1), (customer(WEB, 10), 2), b"never sent");
        let error = Packet::error(customer(WEB, 10), REMOTE, (3, 3, 0), &inside);
        assert!(rig.from_tenant(&web(0), &error).is_empty());
        assert_eq!(rig.all_drops(), [(DropReason::NatIcmpUnrelated, 1)]);
    });
}

fn arp_for(rig: &mut Rig, target: Ipv4Addr) -> Output {
    let request = Arp::request((ROUTER_MAC, ROUTER), target);
    let frame = Frame {
        destination: MacAddress::BROADCAST,
        source: ROUTER_MAC,
        ethertype: ARP,
        payload: request.bytes(),
    };
    rig.exchange(PortRole::FrontEnd, &frame.bytes())
}

#[test]
fn who_provokes_errors_does_not_silence_arp_for_the_address() {
    let mut tenants = two_tenants();
    tenants[0].limits.punts_per_sec = 2;
    for workers in [1, 2] {
        let mut rig = Rig::new(&plan(tenants.clone()), workers);
        for port in 0..40 {
            let packet = Packet::udp((REMOTE, 1000 + port), (public(0, 0), 53), b"late");
            let _ = rig.from_front_end(&Packet { ttl: 1, ..packet });
            let to_gateway = Packet::echo(customer(WEB, 10), customer(WEB, 1), port, b"ping");
            let _ = rig.from_tenant(&web(0), &to_gateway);
        }
        assert_eq!(arp_for(&mut rig, public(0, 0)).frames().len(), 1);
    }
}

#[test]
fn a_scan_of_the_front_end_fills_no_neighbour_table() {
    each(|rig| {
        for last in 1..=200 {
            let packet =
                Packet::udp((customer(WEB, 10), 9), (Ipv4Addr::new(192, 0, 2, last), 9), b"scan");
            assert!(rig.from_tenant(&web(0), &packet).is_empty());
        }
        assert!((1..=16).contains(&rig.resolve.len()), "{}", rig.resolve.len());
        rig.resolve.clear();
        let target = Ipv4Addr::new(192, 0, 2, 99);
        let packet = Packet::udp((customer(WEB, 10), 9), (target, 9), b"other tenant");
        let _ = rig.from_tenant(&web(1), &packet);
        assert_eq!(rig.resolve.len(), 1);
    });
}

#[test]
fn sessions_end_as_fast_as_they_come() {
    each(|rig| {
        for port in 1000..3000 {
            let _ = rig.from_tenant(&web(0), &udp_out(port)).to_router();
        }
        rig.advance(Duration::from_millis(200));
        assert_eq!(totals(rig, 0).nat.sessions, 2000);
        rig.now = rig.now + Duration::from_secs(130);
        for _ in 0..20 {
            rig.turn();
        }
        assert_eq!(totals(rig, 0).nat.sessions, 0);
    });
}

#[test]
fn a_changed_constant_flow_reaches_running_flows() {
    each(|rig| {
        let sent = Packet::udp((customer(WEB, 10), 5), (customer(APP, 20), 6), b"between");
        let read = |output: Output| -> Nvgre { output.overlay()[0].clone() };
        let before = read(rig.from_tenant(&web(0), &sent)).flow;
        let wanted = before ^ 0x55;
        let mut next = plan(two_tenants());
        for last in [13, 14] {
            let host = ProviderAddress(provider(last).into());
            next.gateway.fabric.constant_flow.push((host, FlowId(wanted)));
        }
        rig.reload(&next);
        assert_eq!(read(rig.from_tenant(&web(0), &sent)).flow, wanted);
    });
}

#[test]
fn remotes_cannot_use_up_the_tenants_own_fragments() {
    each(|rig| {
        for identification in 0..2200 {
            let packet = Packet::udp((REMOTE, 7), (public(0, 0), 53), &[1; 900]);
            let first = packet.fragmentable(identification).fragments(800).remove(0);
            let _ = rig.from_front_end(&first);
        }
        let sent = Packet::udp((customer(WEB, 10), 7), (REMOTE, 4000), &[5; 900]).fragmentable(1);
        for fragment in sent.fragments(800) {
            let _ = rig.from_tenant(&web(0), &fragment).to_router();
        }
    });
}

#[test]
fn neighbours_that_came_and_went_keep_no_new_ones_out() {
    let mut rig = Rig::new(&plan(two_tenants()), 1);
    let before = rig.host.neighbours.clone();
    for round in 0..2_u32 {
        rig.host.neighbours = before.clone();
        for number in 0..40_000 {
            let address = Ipv4Addr::from_bits(0x0a00_0000 + round * 0x10_0000 + number);
            let mac = MacAddress([2, 1, 0, 0, 0, 1]);
            rig.host
                .neighbours
                .insert((FRONT_END_LINK, address.into()), Neighbour { mac, permanent: false });
        }
        rig.reload(&plan(two_tenants()));
    }
    let target = Ipv4Addr::new(192, 0, 2, 77);
    let mac = MacAddress([2, 1, 0, 0, 0, 77]);
    rig.host
        .neighbours
        .insert((FRONT_END_LINK, target.into()), Neighbour { mac, permanent: false });
    rig.reload(&plan(two_tenants()));
    let packet = Packet::udp((customer(WEB, 10), 9), (target, 9), b"on the link");
    let frames = rig.from_tenant(&web(0), &packet).frames();
    assert_eq!((frames[0].destination, frames[0].source), (mac, FRONT_END_MAC));
    let _ = rig.from_tenant(&web(0), &udp_out(1)).to_router();
}

#[test]
fn what_a_tenant_refuses_of_another_is_counted_for_the_one_that_refuses() {
    let mut rig = Rig::new(&plan(two_tenants()), 1);
    let packet = Packet::udp((customer(WEB, 10), 700), (public(1, 0), 81), b"closed");
    assert!(rig.from_tenant(&web(0), &packet).is_empty());
    assert_eq!(totals(&rig, 0).drops.of(DropReason::NatNoMapping), 0);
    assert_eq!(totals(&rig, 1).drops.of(DropReason::NatNoMapping), 1);
}

#[test]
fn a_flow_under_two_vsids_leaves_nothing_behind_when_its_session_ends() {
    each(|rig| {
        let under = |number: u8| {
            let mut frame = web(0).sends(&udp_out(77));
            frame.vsid = vsid(0, number);
            frame.bytes()
        };
        for number in [TRANSIT, TRANSIT, WEB, WEB] {
            let _ = rig.exchange(PortRole::Fabric, &under(number)).to_router();
        }
        rig.advance(Duration::from_secs(130));
        rig.advance(Duration::from_secs(1));
        assert_eq!(totals(rig, 0).nat.sessions, 0);
        let left = rig.exchange(PortRole::Fabric, &under(TRANSIT)).to_router();
        rig.advance(Duration::from_millis(200));
        assert_eq!(totals(rig, 0).nat.sessions, 1);
        let back = rig.from_front_end(&left.reply()).to_station(&web(0));
        assert_eq!(back.destination, IpAddr::V4(customer(WEB, 10)));
    });
}

#[test]
fn endpoints_still_reach_each_other_after_icmp_that_is_not_compiled() {
    each(|rig| {
        let about = Packet::udp((customer(APP, 20), 1), (customer(WEB, 10), 2), b"about");
        let error = Packet::error(customer(WEB, 10), customer(APP, 20), (3, 3, 0), &about);
        for _ in 0..2 {
            let arrived = rig.from_tenant(&web(0), &error).to_station(&app(0));
            assert_eq!(arrived, error.clone().hop());
        }
    });
}
