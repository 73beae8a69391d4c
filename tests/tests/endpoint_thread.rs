//! The thread of the gateway's own endpoints, with its wake-ups, and no worker but the test.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use nvgate::control::speaker::Speaker;
use nvgate::control::threads::GatewayClock;
use nvgate::endpoint::{BGP_PORT, Event, PeerOptions};
use nvgate::io::packet::{self, Waker};
use nvgate::snapshot::{Service, SnapshotBuilder};
use nvgate::worker::Published;
use nvgate::worker::endpoint_ring::pair;
use nvgate_model::DomainSlot;
use nvgate_tests::rig_claims::{two_tenants, web};
use nvgate_tests::rig_endpoint::{Echo, HERE, Neighbour, Router, Seat};
use nvgate_tests::rig_plan::{WEB, customer, host, plan};

const LIMIT: Duration = Duration::from_secs(10);
const BRIEF: Duration = Duration::from_millis(50);

#[test]
fn the_thread_is_woken_wakes_workers_and_ends_when_told() {
    let snapshot = SnapshotBuilder::new(1, 7).build(&plan(two_tenants()), &host());
    let published: Published = Arc::new(ArcSwap::from_pointee(snapshot.expect("it builds")));
    let (mut worker, endpoint) = pair();
    let [own_waker, speaker_waker] = [(); 2].map(|()| Waker::new().expect("an event"));
    let clock = GatewayClock::start();
    let mut speaker = Speaker::start(
        Echo::new(PeerOptions::default()),
        Arc::clone(&published),
        vec![endpoint],
        vec![own_waker.clone()],
        (clock, 5),
        speaker_waker.clone(),
    )
    .expect("a thread");
    let begun = Instant::now();
    let interested = || {
        let snapshot = published.load();
        snapshot.domains().all(|domain| domain.interest.wants(Service::Tcp))
    };
    while !interested() {
        assert!(begun.elapsed() < LIMIT, "no domain registers");
        std::thread::sleep(Duration::from_millis(1));
    }

    let address = customer(WEB, 10).into();
    let mut router = Router::new(Seat::Overlay(web(1)), address, PeerOptions::default(), 3);
    let to = SocketAddr::new(customer(WEB, 1).into(), BGP_PORT);
    let id = router.endpoints.connect(clock.now(), HERE, address, to).expect("a connection");
    let mut written = 0;
    while router.received != b"echo" {
        assert!(begun.elapsed() < LIMIT, "no echo: {:?}", router.events);
        for packet in router.poll(clock.now()) {
            worker.punts.send(DomainSlot(1), &packet, &[]).expect("room");
        }
        if router.events.contains(&Event::Connected) && written == 0 {
            written = router.endpoints.write(id, b"echo");
        }
        if worker.punts.take_touched() {
            speaker_waker.wake();
            // A SYN is answered; an acknowledgement is not.
            let limit = if router.events.is_empty() { LIMIT } else { BRIEF };
            packet::wait(&mut [], &own_waker, limit).expect("an event");
        }
        worker.injected.drain(64, |domain, packet| {
            assert_eq!(domain, DomainSlot(1));
            router.handle(clock.now(), packet.bytes());
        });
    }
    assert!(!speaker.has_ended());
    speaker.stop();
    assert!(speaker.has_ended());
}
