//! The observer against a real kernel, in network namespaces.

use std::net::Ipv4Addr;

use netlink_packet_route::route::RouteType;
use rtnetlink::RouteNextHopBuilder;

use super::*;
use crate::host::lab::{Peer, address, connect, down, in_namespace, route_v4, up, veth};

/// Waits until the published picture is as `expected` says.
async fn until(
    view: &mut watch::Receiver<Arc<HostView>>,
    expected: impl FnMut(&Arc<HostView>) -> bool,
) {
    view.wait_for(expected).await.expect("the observer lives");
}

fn text(address: &str) -> IpAddr {
    address.parse().unwrap()
}

fn gateways(view: &HostView, prefix: &str) -> Vec<Option<IpAddr>> {
    let prefix: Prefix = prefix.parse().unwrap();
    let mut found: Vec<_> =
        view.routes.iter().filter(|route| route.prefix == prefix).map(|r| r.gateway).collect();
    found.sort();
    found
}

#[test]
fn what_is_there_at_the_start_is_in_the_first_picture() {
    in_namespace(|| async {
        let handle = connect();
        let (left, _) = veth(&handle, "a", "b").await;
        address(&handle, left, "192.0.2.1", 24).await;
        address(&handle, left, "2001:db8::1", 64).await;
        let mut route = route_v4("0.0.0.0", 0).gateway(Ipv4Addr::new(192, 0, 2, 254)).build();
        route.attributes.push(RouteAttribute::Metrics(vec![RouteMetric::Mtu(1400)]));
        route.attributes.push(RouteAttribute::Priority(7));
        handle.route().add(route).execute().await.unwrap();

        let observer = Observer::start().await.unwrap();
        let view = observer.view().borrow().clone();
        let link = &view.links["a"];
        assert_eq!((link.index, link.mtu), (left, 1500));
        assert!(link.mac.is_station());
        assert!(link.addresses.contains(&(text("192.0.2.1"), 24)));
        assert!(link.addresses.contains(&(text("2001:db8::1"), 64)));
        assert!(!view.links.contains_key("lo"));
        let found = view.route(left, text("203.0.113.1")).unwrap();
        let expected = Route {
            prefix: Prefix::DEFAULT_V4,
            metric: 7,
            link: left,
            gateway: Some(text("192.0.2.254")),
            mtu: Some(1400),
        };
        assert_eq!(*found, expected);
        assert_eq!(view.route(left, text("192.0.2.77")).unwrap().gateway, None);
        assert!(view.route(left, text("2001:db8::5")).is_some());
    });
}

#[test]
fn changes_arrive_and_the_routes_of_a_link_that_goes_down_go_away() {
    in_namespace(|| async {
        let observer = Observer::start().await.unwrap();
        let mut view = observer.view();
        let handle = connect();
        let (left, right) = veth(&handle, "a", "b").await;
        until(&mut view, |view| view.links.get("a").is_some_and(|link| link.running)).await;
        address(&handle, left, "192.0.2.1", 24).await;
        let via =
            |last| route_v4("198.51.100.0", 24).gateway(Ipv4Addr::new(192, 0, 2, last)).build();
        handle.route().add(via(8)).execute().await.unwrap();
        until(&mut view, |view| gateways(view, "198.51.100.0/24") == [Some(text("192.0.2.8"))])
            .await;
        handle.route().add(via(9)).replace().execute().await.unwrap();
        until(&mut view, |view| gateways(view, "198.51.100.0/24") == [Some(text("192.0.2.9"))])
            .await;
        down(&handle, left).await;
        until(&mut view, |view| gateways(view, "198.51.100.0/24").is_empty()).await;
        assert!(!view.borrow().links["a"].running);
        up(&handle, left).await;
        down(&handle, right).await;
        until(&mut view, |view| !view.links["a"].running).await;
        handle.link().del(left).execute().await.unwrap();
        until(&mut view, |view| view.links.is_empty()).await;
    });
}

#[test]
fn every_next_hop_of_a_multipath_route_is_listed_and_discards_hide_routes() {
    in_namespace(|| async {
        let handle = connect();
        let (left, _) = veth(&handle, "a", "b").await;
        address(&handle, left, "192.0.2.1", 24).await;
        let hops = [7, 8].map(|last| {
            let hop = RouteNextHopBuilder::new_ipv4().interface(left);
            hop.via(text(&format!("192.0.2.{last}"))).unwrap().build()
        });
        let route = route_v4("198.51.100.0", 24).multipath(hops.to_vec()).build();
        handle.route().add(route).execute().await.unwrap();
        let discard = route_v4("198.51.100.64", 26).kind(RouteType::BlackHole).build();
        handle.route().add(discard).execute().await.unwrap();

        let observer = Observer::start().await.unwrap();
        let view = observer.view().borrow().clone();
        let both = [Some(text("192.0.2.7")), Some(text("192.0.2.8"))];
        assert_eq!(gateways(&view, "198.51.100.0/24"), both);
        assert_eq!(view.route(left, text("198.51.100.1")).unwrap().gateway, both[0]);
        assert_eq!(view.route(left, text("198.51.100.65")), None);
        assert_eq!(view.discards.len(), 1);
    });
}

#[test]
fn the_kernel_resolves_a_neighbour_when_asked_and_forgets_one_that_is_silent() {
    in_namespace(|| async {
        let handle = connect();
        let (left, right) = veth(&handle, "a", "b").await;
        let peer = Peer::new();
        peer.adopt(&handle, right).await;
        address(&handle, left, "192.0.2.1", 24).await;
        address(&handle, left, "2001:db8::1", 64).await;
        peer.run(move || async move {
            address(&connect(), right, "192.0.2.9", 24).await;
            address(&connect(), right, "2001:db8::9", 64).await;
        });
        let observer = Observer::start().await.unwrap();
        let mut view = observer.view();
        let netlink = Netlink::open().unwrap();
        netlink.resolve(left, text("192.0.2.9")).await.unwrap();
        let v4 = (left, text("192.0.2.9"));
        until(&mut view, |view| view.neighbours.contains_key(&v4)).await;
        // Neighbour discovery waits for duplicate address detection on both sides.
        let v6 = (left, text("2001:db8::9"));
        while !view.borrow_and_update().neighbours.contains_key(&v6) {
            netlink.resolve(left, v6.1).await.unwrap();
            let _ = tokio::time::timeout(Duration::from_millis(500), view.changed()).await;
        }
        netlink.resolve(left, text("192.0.2.200")).await.unwrap();
        let mac = view.borrow().neighbours[&v4].mac;
        assert!(mac.is_station());
        assert_eq!(view.borrow().neighbours[&v6].mac, mac);
        assert!(!view.borrow().neighbours.contains_key(&(left, text("192.0.2.200"))));

        handle.link().del(left).execute().await.unwrap();
        until(&mut view, |view| view.neighbours.is_empty()).await;
        let refused = netlink.resolve(left, text("192.0.2.9")).await;
        assert!(matches!(refused, Err(NetlinkError::Refused { .. })), "{refused:?}");
    });
}

#[test]
fn lost_events_lead_to_the_same_picture() {
    const COUNT: u32 = 10_000;
    in_namespace(|| async {
        let handle = connect();
        let (left, _) = veth(&handle, "a", "b").await;
        let observer = Observer::start().await.unwrap();
        let mut view = observer.view();
        // Past the link's own late events, which have everything read again.
        tokio::time::sleep(Duration::from_millis(2500)).await;
        // This thread is the observer's too: while it is blocked, the socket overflows.
        let flood = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let handle = connect();
                for host in 0..COUNT {
                    let address = IpAddr::V4((0x0a00_0001 + host).into());
                    let request = handle.neighbours().add(left, address);
                    request.link_layer_address(&[2, 0, 0, 0, 0, 1]).execute().await.unwrap();
                }
            });
        });
        flood.join().unwrap();
        until(&mut view, |view| view.neighbours.len() == COUNT as usize).await;
    });
}
