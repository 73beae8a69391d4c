//! The hit path allocates nothing: a counting allocator watches a worker forward warm flows.

use std::cell::Cell;

use nvgate::io::PortRole;
use nvgate_packet::buf::Offload;
use nvgate_tests::frames::{Body, Frame, Packet, flags};
use nvgate_tests::rig::{Rig, Station};
use nvgate_tests::rig_plan::{
    APP, FRONT_END_MAC, REMOTE, REMOTE_V6, ROUTER_MAC, WEB, customer, customer_v6, plan, provider,
    public_v6, tenant,
};
use nvgate_tests::rig_site::{SitePeer, carry, on_premises, on_premises_v6};
use nvgate_tests::rig_site_claims::{connected, each_place, tenants};

#[expect(unsafe_code, reason = "a global allocator is unsafe by its trait")]
mod counting {
    use std::alloc::{GlobalAlloc, Layout, System};

    /// Counts what its thread asks of the system's allocator.
    pub struct Counting;

    // SAFETY: every call goes to the system's allocator with the arguments it came with.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            super::note();
            // SAFETY: the caller's obligations are the system allocator's.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            super::note();
            // SAFETY: the caller's obligations are the system allocator's.
            unsafe { System.dealloc(pointer, layout) }
        }
    }
}

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

thread_local! {
    /// Calls of this thread; needs no destructor, so that the allocator may use it at any time.
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

fn note() {
    CALLS.with(|calls| calls.set(calls.get() + 1));
}

fn calls() -> u64 {
    CALLS.with(Cell::get)
}

/// Packets of each claim.
const PACKETS: u64 = 10_000;
/// Frames injected between two runs.
const BURST: u64 = 50;

/// Frames that are forwarded by compiled entries once each was seen, with the ports they come from.
fn warm_flows(rig: &mut Rig) -> Vec<(PortRole, Vec<u8>)> {
    let web = Station::new(0, WEB, 10, &[provider(11).into()]);
    let app = Station::new(0, APP, 20, &[provider(13).into(), provider(14).into()]);
    let fabric = |from: &Station, packet: &Packet| (PortRole::Fabric, from.sends(packet).bytes());
    let front = |packet: &Packet| {
        (PortRole::FrontEnd, Frame::of(FRONT_END_MAC, ROUTER_MAC, packet).bytes())
    };
    let mut flows = Vec::new();

    let udp = Packet::udp((customer(WEB, 10), 1000), (REMOTE, 53), b"question");
    let left = rig.from_tenant(&web, &udp).to_router();
    flows.extend([fabric(&web, &udp), front(&left.reply())]);

    let from = (customer(WEB, 10), 1000);
    let syn = Packet::tcp(from, (REMOTE, 443), flags::SYN, b"");
    let left = rig.from_tenant(&web, &syn).to_router();
    let mut answer = left.reply();
    let Body::Tcp { flags, .. } = &mut answer.body else { unreachable!("it is TCP") };
    *flags = flags::SYN | flags::ACK;
    let _ = rig.from_front_end(&answer).to_station(&web);
    let data = Packet::tcp(from, (REMOTE, 443), flags::ACK, &[7; 1000]);
    let back = Packet::tcp((REMOTE, 443), (left.source, left.ports().0), flags::ACK, &[8; 1000]);
    flows.extend([fabric(&web, &data), front(&back)]);

    let echo = Packet::echo(customer(WEB, 10), REMOTE, 9, b"ping");
    let left = rig.from_tenant(&web, &echo).to_router();
    flows.extend([fabric(&web, &echo), front(&left.reply())]);

    let across = Packet::udp((customer(WEB, 10), 1), (customer(APP, 20), 2), b"across");
    flows.extend([fabric(&web, &across), fabric(&app, &across.reply())]);
    let across =
        Packet::tcp((customer_v6(WEB, 10), 1), (customer_v6(APP, 20), 2), flags::ACK, b"6");
    flows.extend([fabric(&web, &across), fabric(&app, &across.reply())]);
    let out = Packet::udp((public_v6(0, 10), 1), (REMOTE_V6, 2), b"untranslated");
    flows.extend([fabric(&web, &out), front(&out.reply())]);
    flows
}

/// Forwards so many packets; returns how many left, and what the gateway asked of the allocator.
fn forward(rig: &mut Rig, flows: &[(PortRole, Vec<u8>)], packets: u64) -> (usize, u64) {
    let (mut left, mut asked) = (0, 0);
    for (index, (role, frame)) in (1..=packets).zip(flows.iter().cycle()) {
        rig.inject(*role, 0, frame, Offload::default());
        if index % BURST == 0 {
            let before = calls();
            rig.run();
            asked += calls() - before;
            left += rig.discard(PortRole::Fabric) + rig.discard(PortRole::FrontEnd);
        }
    }
    (left, asked)
}

#[test]
fn forwarding_ten_thousand_packets_of_warm_flows_allocates_nothing() {
    let mut rig = Rig::new(&plan(vec![tenant(0), tenant(1)]), 1);
    let flows = warm_flows(&mut rig);
    // The slots of the transmit queues take their memory at first use.
    for longest in [2, 3] {
        forward(&mut rig, &flows[longest..=longest], 2 * BURST);
    }
    forward(&mut rig, &flows, PACKETS);
    let hits = rig.counters[0].flow_hits.read();

    let (left, asked) = forward(&mut rig, &flows, PACKETS);

    assert_eq!(left as u64, PACKETS);
    assert_eq!(rig.counters[0].flow_hits.read() - hits, PACKETS);
    assert_eq!(asked, 0, "calls of the allocator");
}

/// Frames of a tenant's VM and of the internet that go into a tunnel, and packets of the site.
fn site_flows(rig: &mut Rig, peers: &mut [SitePeer]) -> (Vec<(PortRole, Vec<u8>)>, Vec<Packet>) {
    let web = Station::new(0, WEB, 10, &[provider(11).into()]);
    let (here, there) = ((customer(WEB, 10), 53), (on_premises(1, 5), 4000));
    let (here_v6, there_v6) = ((customer_v6(WEB, 10), 53), (on_premises_v6(1, 5), 4000));
    let from_site = vec![
        Packet::udp(there, here, b"a question"),
        Packet::tcp(there_v6, here_v6, flags::ACK, &[7; 1000]),
        Packet::udp(there, (REMOTE, 53), b"to the internet"),
    ];
    peers[0].send(rig, &from_site[2]);
    peers[0].dispatch(rig, &from_site[2]);
    let left = carry(rig, peers).remove(0);
    let left = Frame::read(&left.bytes).and_then(|frame| frame.packet()).expect("a packet");
    let back = Frame::of(FRONT_END_MAC, ROUTER_MAC, &left.reply()).bytes();
    let into_site = vec![
        (PortRole::Fabric, web.sends(&from_site[0].reply()).bytes()),
        (PortRole::Fabric, web.sends(&from_site[1].reply()).bytes()),
        (PortRole::FrontEnd, back),
    ];
    (into_site, from_site)
}

/// Carries bursts both ways through a tunnel; returns how many packets left, and what the gateway
/// asked of the allocator.
fn through_tunnel(
    rig: &mut Rig,
    peer: &mut SitePeer,
    (into_site, from_site): (&[(PortRole, Vec<u8>)], &[Packet]),
    bursts: u64,
) -> (usize, u64) {
    let (mut left, mut asked) = (0, 0);
    for _ in 0..bursts {
        for (index, (role, frame)) in (0..BURST as usize).zip(into_site.iter().cycle()) {
            rig.inject(*role, index, frame, Offload::default());
        }
        for (_, packet) in (0..BURST).zip(from_site.iter().cycle()) {
            peer.dispatch(rig, packet);
        }
        let before = calls();
        while rig.turn() > 0 {}
        asked += calls() - before;
        left += rig.discard(PortRole::Fabric) + rig.discard(PortRole::FrontEnd);
    }
    (left, asked)
}

#[test]
fn packets_through_a_warm_tunnel_allocate_nothing_in_either_direction() {
    let tenants = tenants(|_, site| site.internet = true);
    each_place(&tenants, |rig, port| {
        let mut peers = vec![connected(rig, 0, 1, port)];
        let (into_site, from_site) = site_flows(rig, &mut peers);
        let peer = &mut peers[0];
        // The slots of the transmit queues take their memory at first use.
        through_tunnel(rig, peer, (&into_site[1..2], &from_site[1..2]), 4);
        through_tunnel(rig, peer, (&into_site, &from_site), 4);
        let misses = |rig: &Rig| -> u64 {
            rig.counters.iter().map(|worker| worker.flow_misses.read()).sum()
        };
        let before = misses(rig);
        let (left, asked) = through_tunnel(rig, peer, (&into_site, &from_site), 50);
        assert_eq!(misses(rig), before);
        assert_eq!(left as u64, 50 * 2 * BURST);
        assert_eq!(asked, 0, "calls of the allocator");
        assert_eq!(rig.all_drops(), []);
    });
}

#[test]
fn the_counting_allocator_counts() {
    let before = calls();
    drop(std::hint::black_box(vec![1_u8; 100]));
    assert_eq!(calls() - before, 2);
}
