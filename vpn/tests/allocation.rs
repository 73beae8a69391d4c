//! Sealing and opening allocate nothing: a counting allocator watches a session.

use std::cell::Cell;
use std::net::SocketAddr;

use nvgate_model::{Instant, Prefix};
use nvgate_vpn::{
    AllowedPrefixes, KindConfig, Listener, OwnKeys, PrivateKey, Received, Sealed, Tunnel,
    TunnelConfig, TunnelIndex, WireGuardConfig,
};

#[expect(unsafe_code, reason = "a global allocator is unsafe by its trait")]
mod counting {
    use std::alloc::{GlobalAlloc, Layout, System};

    /// Counts what its thread asks of the system's allocator.
    pub struct Counting;

    // SAFETY: every call goes to the system's allocator with the arguments it came with.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            super::CALLS.set(super::CALLS.get() + 1);
            // SAFETY: the caller's obligations are the system allocator's.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            super::CALLS.set(super::CALLS.get() + 1);
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

const NOW: Instant = Instant(0);

fn tunnel(own: u8, peer: u8, endpoint: Option<SocketAddr>) -> Tunnel {
    let private = |seed: u8| PrivateKey::from_bytes([seed; 32]);
    let wireguard = WireGuardConfig {
        own: OwnKeys { current: private(own), previous: None },
        peer: private(peer).public(),
        preshared: None,
        endpoint,
        persistent_keepalive_secs: None,
    };
    let allowed = AllowedPrefixes::new(&[Prefix::DEFAULT_V4]);
    let config = TunnelConfig { allowed, kind: KindConfig::WireGuard(wireguard) };
    Tunnel::new(TunnelIndex::new(own.into()).expect("a number above 0"), config, NOW, 1)
}

#[test]
fn ten_thousand_packets_of_a_session_sealed_and_opened_allocate_nothing() {
    let address = SocketAddr::from(([192, 0, 2, 1], 51820));
    let (mut left, mut right) = (tunnel(1, 2, Some(address)), tunnel(2, 1, None));
    let (mut there, mut back) = ([0; 2048], [0; 2048]);
    let mut packet = [0xee; 1420];
    packet[..4].copy_from_slice(&[0x45, 0, 5, 140]);

    left.seal(NOW, &packet, &[], 1420, &mut there).unwrap();
    let (length, _) = left.poll_transmit(NOW, &mut there).unwrap();
    let response = right.handle_datagram(NOW, address, &there[..length], &mut back);
    let Ok(Received::Reply(length)) = response else { panic!("{response:?}") };
    left.handle_datagram(NOW, address, &back[..length], &mut there).unwrap();
    let mut pass = |now| {
        let sealed = left.seal(now, &packet[..40], &packet[40..], 1420, &mut there);
        let Ok(Sealed::Datagram(length)) = sealed else { panic!("{sealed:?}") };
        let opened = right.handle_datagram(now, address, &there[..length], &mut back);
        assert_eq!(opened, Ok(Received::Packet(0..1420)));
    };
    pass(NOW);

    let before = CALLS.get();
    for number in 0..10_000 {
        pass(Instant(number * 1_000_000));
    }
    assert_eq!(CALLS.get() - before, 0);
}

#[test]
fn tunnels_and_listeners_may_move_to_another_thread() {
    fn is_send<T: Send>() {}
    is_send::<Tunnel>();
    is_send::<Listener>();
}
