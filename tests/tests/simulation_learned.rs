//! Routes that neighbours taught, one claim at a time, with one worker and with two.

use std::net::IpAddr;

use nvgate::io::PortRole;
use nvgate_deploy::plan::{RoutePlan, RouteTarget};
use nvgate_model::{CustomerAddress, DropReason, MacAddress};
use nvgate_tests::frames::{ARP, Arp, Frame, Packet};
use nvgate_tests::rig::{Rig, Station};
use nvgate_tests::rig_claims::{
    app, dropped, each, each_of, refused, two_tenants, web, web_neighbour,
};
use nvgate_tests::rig_plan::{APP, GATEWAY_MAC, WEB, customer, customer_v6};
use nvgate_tests::rig_site::{on_premises, pass};
use nvgate_tests::rig_site_claims::{
    both_connected, counted, each_place, from_site, from_vm, tenants,
};

/// Behind the neighbour.
const TAUGHT: &str = "172.30.0.0/16";
const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(172, 30, 9, 9));

fn neighbour() -> IpAddr {
    customer(WEB, 11).into()
}

fn question(port: u16) -> Packet {
    Packet::udp((customer(WEB, 10), port), (THERE, 53), b"which way?")
}

/// Whether a packet of tenant `number` arrives at the station.
fn reaches(rig: &mut Rig, number: u8, packet: &Packet, station: &Station) {
    let arrived = rig.from_tenant(&web(number), packet).to_station(station);
    assert_eq!(arrived, packet.clone().hop());
}

#[test]
fn a_learned_route_leads_to_its_next_hop_in_its_own_domain_and_back() {
    each(|rig| {
        rig.learn(0, &[(TAUGHT, &[neighbour()])]);
        let sent = question(1234);
        reaches(rig, 0, &sent, &web_neighbour(0));
        let reply = sent.reply();
        let back = rig.from_tenant(&web_neighbour(0), &reply).to_station(&web(0));
        assert_eq!(back, reply.hop());
        // The other tenant's neighbours taught nothing: it is the Internet's address there.
        let left = rig.from_tenant(&web(1), &sent).to_router();
        assert_eq!(left.destination, THERE);
        assert_eq!(rig.all_drops(), []);
    });
}

#[test]
fn an_ipv4_route_may_lead_to_an_ipv6_next_hop() {
    each(|rig| {
        rig.learn(0, &[(TAUGHT, &[customer_v6(WEB, 11).into()])]);
        let sent = question(1234);
        reaches(rig, 0, &sent, &web_neighbour(0));
        let reply = sent.reply();
        let back = rig.from_tenant(&web_neighbour(0), &reply).to_station(&web(0));
        assert_eq!(back, reply.hop());
        assert_eq!(rig.all_drops(), []);
    });
}

#[test]
fn a_router_asks_for_neighbours_from_what_lies_behind_it() {
    each(|rig| {
        rig.learn(0, &[(TAUGHT, &[neighbour()])]);
        let IpAddr::V4(behind) = THERE else { panic!("it is one of IPv4") };
        let ask = |station: &Station| {
            let mac = station.mac();
            let payload = Arp::request((mac, behind), customer(WEB, 1)).bytes();
            let destination = MacAddress::BROADCAST;
            let frame = Frame { destination, source: mac, ethertype: ARP, payload };
            station.sends_frame(frame).bytes()
        };
        let answer = rig.exchange(PortRole::Fabric, &ask(&web_neighbour(0))).overlay();
        let [nvgre] = &answer[..] else { panic!("{answer:?}") };
        let answer = Arp::read(&nvgre.inner.payload).unwrap();
        assert_eq!((answer.operation, answer.sender), (2, (GATEWAY_MAC, customer(WEB, 1))));
        let output = rig.exchange(PortRole::Fabric, &ask(&web(0)));
        dropped(rig, &output, DropReason::SpoofedSource);
    });
}

#[test]
fn nobody_but_the_next_hop_speaks_for_what_was_learned() {
    each(|rig| {
        rig.learn(0, &[(TAUGHT, &[neighbour()])]);
        let output = rig.from_tenant(&app(0), &question(1).reply());
        assert_eq!(output.overlay(), []);
        refused(rig, DropReason::SpoofedProvider);
    });
}

#[test]
fn several_next_hops_share_by_flow_and_each_may_answer() {
    each(|rig| {
        let hops = [neighbour(), customer(APP, 20).into()];
        rig.learn(0, &[(TAUGHT, &hops), ("172.31.0.0/16", &hops)]);
        let mut share = [0; 2];
        for port in 100..164 {
            let sent = question(port);
            let mut chosen = Vec::new();
            for _ in 0..2 {
                let overlay = rig.from_tenant(&web(0), &sent).overlay();
                let [nvgre] = &overlay[..] else { panic!("{overlay:?}") };
                let at = [web_neighbour(0), app(0)]
                    .iter()
                    .position(|station| station.mac() == nvgre.inner.destination)
                    .expect("one of the two");
                chosen.push(at);
            }
            assert_eq!(chosen[0], chosen[1], "a flow keeps its way");
            share[chosen[0]] += 1;
        }
        assert!(share.iter().all(|&flows| flows > 16), "{share:?}");
        for station in [web_neighbour(0), app(0)] {
            let reply = question(7).reply();
            let back = rig.from_tenant(&station, &reply).to_station(&web(0));
            assert_eq!(back, reply.hop());
        }
        assert_eq!(rig.all_drops(), []);
    });
}

#[test]
fn a_configured_route_is_stronger_and_a_longer_prefix_longer() {
    let mut tenants = two_tenants();
    let to_app = RouteTarget::Via(CustomerAddress(customer(APP, 20).into()));
    let prefix = TAUGHT.parse().unwrap();
    tenants[0].routes.push(RoutePlan { prefix, target: to_app, metric: 0, announce: false });
    each_of(tenants, |rig| {
        rig.learn(0, &[(TAUGHT, &[neighbour()])]);
        reaches(rig, 0, &question(1), &app(0));
        rig.learn(0, &[("172.30.9.0/24", &[neighbour()]), ("10.1.0.0/24", &[neighbour()])]);
        reaches(rig, 0, &question(1), &web_neighbour(0));
        // Nobody teaches a subnet away.
        let inside = Packet::udp((customer(WEB, 10), 1), (customer(WEB, 11), 2), b"near");
        reaches(rig, 0, &inside, &web_neighbour(0));
    });
}

#[test]
fn what_is_withdrawn_or_has_no_next_hop_is_no_route() {
    each(|rig| {
        rig.learn(0, &[(TAUGHT, &[neighbour()])]);
        reaches(rig, 0, &question(1), &web_neighbour(0));
        let gone: [IpAddr; 3] =
            [customer(WEB, 1).into(), customer(WEB, 99).into(), "8.8.8.8".parse().unwrap()];
        for routes in [&[][..], &[(TAUGHT, &gone[..])]] {
            rig.learn(0, routes);
            let left = rig.from_tenant(&web(0), &question(1)).to_router();
            assert_eq!(left.destination, THERE);
        }
    });
}

#[test]
fn a_next_hop_behind_a_site_leads_into_its_tunnel_while_it_is_up() {
    let all = "0.0.0.0/0".parse().unwrap();
    let tenants = tenants(|_, site| site.tunnels[0].allowed = vec![all]);
    each_place(&tenants, |rig, port| {
        let mut peers = both_connected(rig, port);
        rig.learn(0, &[(TAUGHT, &[on_premises(1, 5).into()])]);
        let sent = question(1);
        assert_eq!(from_vm(rig, &mut peers, &web(0), &sent), []);
        assert_eq!(peers[0].take(), [sent.clone().hop()]);
        let reply = sent.reply();
        let output = from_site(rig, &mut peers, 0, &reply);
        assert_eq!(output.to_station(&web(0)), reply.clone().hop());
        counted(rig, &[]);
        // The other tenant's site does not speak for it.
        let output = from_site(rig, &mut peers, 1, &reply);
        assert_eq!((output.fabric.len(), output.front_end.len()), (0, 0));
        counted(rig, &[(DropReason::TunnelSource, 1)]);
        // Without a session the site has no route, and what it taught leads nowhere.
        pass(rig, &mut [], 200);
        let left = rig.from_tenant(&web(0), &sent).to_router();
        assert_eq!(left.destination, THERE);
    });
}
