//! Two tunnels, a wire with faults, and a clock.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use nvgate_model::{DropReason, Instant};

use super::*;
use crate::index::TunnelIndex;
use crate::wireguard::limits::Limits;
use crate::{WireGuardConfig, inner_mtu};

/// The side that has the peer's endpoint.
pub(super) const A: usize = 0;
/// The other one.
pub(super) const B: usize = 1;

/// Steps of one [`Net::run_for`]; more are a livelock.
const STEPS: usize = 200_000;
/// One way from side to side.
const DELAY: Duration = Duration::from_millis(20);

/// What the wire does to a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    None,
    Lose,
    Duplicate,
    /// Arrives so many milliseconds later.
    Delay(u64),
}

pub(super) struct Side {
    pub(super) tunnel: Tunnel,
    pub(super) address: SocketAddr,
    /// Inner packets that arrived.
    pub(super) received: Vec<Vec<u8>>,
    pub(super) drops: Vec<DropReason>,
    pub(super) events: Vec<(Instant, TunnelEvent)>,
    /// Datagrams sent.
    pub(super) sent: Vec<(Instant, Vec<u8>)>,
}

/// Decides what becomes of a datagram that a side sent.
type Wire = Box<dyn FnMut(usize, &[u8]) -> Fault>;

struct Flying {
    at: Instant,
    order: usize,
    from: SocketAddr,
    to: usize,
    datagram: Vec<u8>,
}

pub(super) struct Net {
    pub(super) now: Instant,
    pub(super) sides: [Side; 2],
    wire: Vec<Flying>,
    order: usize,
    pub(super) fault: Wire,
}

pub(super) fn own(seed: u8) -> OwnKeys {
    OwnKeys { current: PrivateKey::from_bytes([seed; 32]), previous: None }
}

pub(super) fn preshared() -> PresharedKey {
    PresharedKey::from_bytes([0x5a; 32]).unwrap()
}

pub(super) fn address(side: usize) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, side as u8 + 1], 51820))
}

/// Side A knows where B is; B waits. A allows 10.2/16 and fd02::/16, B 10.1/16 and fd01::/16.
pub(super) fn wireguard(side: usize) -> WireGuardConfig {
    WireGuardConfig {
        own: own(side as u8 + 1),
        peer: own(2 - side as u8).current.public(),
        preshared: Some(preshared()),
        endpoint: (side == A).then(|| address(B)),
        persistent_keepalive_secs: None,
    }
}

pub(super) fn config(side: usize, wireguard: WireGuardConfig) -> TunnelConfig {
    let other = 2 - side;
    let prefixes: Vec<Prefix> = [format!("10.{other}.0.0/16"), format!("fd0{other}::/16")]
        .iter()
        .map(|text| text.parse().unwrap())
        .collect();
    TunnelConfig {
        allowed: AllowedPrefixes::new(&prefixes),
        kind: KindConfig::WireGuard(wireguard),
    }
}

pub(super) fn keepalive(secs: u16) -> Option<NonZeroU16> {
    NonZeroU16::new(secs)
}

/// An IPv4 packet from one side's site to the other's, of `length` bytes, with a number.
pub(super) fn packet(from: usize, number: u32, length: usize) -> Vec<u8> {
    let mut bytes = vec![0xee; length];
    bytes[..20].fill(0);
    bytes[0] = 0x45;
    bytes[2..4].copy_from_slice(&(length as u16).to_be_bytes());
    bytes[12..16].copy_from_slice(&[10, from as u8 + 1, 0, 1]);
    bytes[16..20].copy_from_slice(&[10, 2 - from as u8, 0, 1]);
    bytes[4..8].copy_from_slice(&number.to_be_bytes());
    bytes
}

pub(super) fn packet_v6(from: usize, length: usize) -> Vec<u8> {
    let mut bytes = vec![0xee; length];
    bytes[..40].fill(0);
    bytes[0] = 0x60;
    bytes[4..6].copy_from_slice(&(length as u16 - 40).to_be_bytes());
    (bytes[8], bytes[9]) = (0xfd, from as u8 + 1);
    (bytes[24], bytes[25]) = (0xfd, 2 - from as u8);
    bytes
}

impl Net {
    pub(super) fn new() -> Self {
        Self::with(|_, _| {}, Limits::WHITEPAPER)
    }

    pub(super) fn with(
        mut change: impl FnMut(usize, &mut WireGuardConfig),
        limits: Limits,
    ) -> Self {
        let now = Instant(1_000_000_000);
        let sides = [A, B].map(|side| {
            let mut wireguard = wireguard(side);
            change(side, &mut wireguard);
            let index = TunnelIndex::new(side as u32 + 70_000).unwrap();
            let tunnel =
                Tunnel::with_limits(index, config(side, wireguard), limits, now, side as u64);
            Side {
                tunnel,
                address: address(side),
                received: Vec::new(),
                drops: Vec::new(),
                events: Vec::new(),
                sent: Vec::new(),
            }
        });
        Self { now, sides, wire: Vec::new(), order: 0, fault: Box::new(|_, _| Fault::None) }
    }

    /// Two tunnels with a session that both have confirmed and nothing left on the wire.
    pub(super) fn connected() -> Self {
        let mut net = Self::new();
        net.send(A, &packet(A, 0, 84));
        net.run_for(Duration::from_secs(1));
        assert_eq!(net.sides[B].received.len(), 1);
        net.clear();
        net
    }

    pub(super) fn clear(&mut self) {
        for side in &mut self.sides {
            side.received.clear();
            side.drops.clear();
            side.events.clear();
            side.sent.clear();
        }
    }

    pub(super) fn up(&self, side: usize) -> bool {
        self.sides[side].tunnel.status(self.now).state == TunnelState::Up
    }

    /// Seals a packet and puts it on the wire, or into the tunnel's queue.
    pub(super) fn send(&mut self, side: usize, packet: &[u8]) {
        let mut out = [0; 2048];
        let (head, tail) = packet.split_at(packet.len().min(48));
        let mtu = inner_mtu(1500, nvgate_packet::headers::Family::V4);
        let sealed = self.sides[side].tunnel.seal(self.now, head, tail, mtu, &mut out).unwrap();
        match sealed {
            Sealed::Datagram(length) => {
                let to = self.sides[side].tunnel.endpoint().unwrap();
                self.transmit(side, to, &out[..length]);
            }
            Sealed::Queued => {}
        }
        self.drain(side);
    }

    /// Seals a packet that is then nobody's but the test's.
    pub(super) fn seal(&mut self, side: usize, packet: &[u8]) -> Vec<u8> {
        let mut out = vec![0; 2048];
        let sealed = self.sides[side].tunnel.seal(self.now, packet, &[], 1420, &mut out).unwrap();
        let Sealed::Datagram(length) = sealed else { panic!("there is no session") };
        out.truncate(length);
        out
    }

    /// Gives a datagram to a side, and what comes of it to the wire.
    pub(super) fn inject(
        &mut self,
        side: usize,
        from: SocketAddr,
        datagram: &[u8],
    ) -> Result<Received, DropReason> {
        let mut out = [0; 2048];
        let result = self.sides[side].tunnel.handle_datagram(self.now, from, datagram, &mut out);
        match &result {
            Ok(Received::Packet(range)) => {
                self.sides[side].received.push(out[range.clone()].to_vec());
            }
            Ok(Received::Reply(length)) => self.transmit(side, from, &out[..*length]),
            Ok(Received::Keepalive | Received::Nothing) => {}
            Err(reason) => self.sides[side].drops.push(*reason),
        }
        self.drain(side);
        result
    }

    fn transmit(&mut self, side: usize, to: SocketAddr, datagram: &[u8]) {
        self.sides[side].sent.push((self.now, datagram.to_vec()));
        let Some(to) = self.sides.iter().position(|side| side.address == to) else { return };
        let (copies, delay) = match (self.fault)(side, datagram) {
            Fault::None => (1, 0),
            Fault::Lose => (0, 0),
            Fault::Duplicate => (2, 0),
            Fault::Delay(millis) => (1, millis),
        };
        for _ in 0..copies {
            self.order += 1;
            self.wire.push(Flying {
                at: self.now + DELAY + Duration::from_millis(delay),
                order: self.order,
                from: self.sides[side].address,
                to,
                datagram: datagram.to_vec(),
            });
        }
    }

    /// Everything a side has to say now.
    pub(super) fn drain(&mut self, side: usize) {
        let mut out = [0; 2048];
        for step in 0.. {
            assert!(step < 100, "poll_transmit does not come to an end");
            let tunnel = &mut self.sides[side].tunnel;
            let Some((length, to)) = tunnel.poll_transmit(self.now, &mut out) else { break };
            self.transmit(side, to, &out[..length]);
        }
        for step in 0.. {
            assert!(step < 10, "poll_event does not come to an end");
            let Some(event) = self.sides[side].tunnel.poll_event() else { break };
            self.sides[side].events.push((self.now, event));
        }
    }

    /// Lets time pass, in jumps to whatever is next.
    pub(super) fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        for _ in 0..STEPS {
            let arrival = self.wire.iter().map(|flying| flying.at).min();
            let timeouts = self.sides.iter().filter_map(|side| side.tunnel.poll_timeout());
            let next = timeouts.chain(arrival).min().filter(|next| *next <= end);
            let Some(next) = next else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            if arrival == Some(next) {
                let first = (0..self.wire.len())
                    .min_by_key(|&place| (self.wire[place].at, self.wire[place].order))
                    .unwrap();
                let flying = self.wire.swap_remove(first);
                let _ = self.inject(flying.to, flying.from, &flying.datagram);
                continue;
            }
            for side in [A, B] {
                self.sides[side].tunnel.handle_timeout(self.now);
                self.drain(side);
                assert!(
                    self.sides[side].tunnel.poll_timeout().is_none_or(|next| next > self.now),
                    "a timeout stays due"
                );
            }
        }
        panic!("{STEPS} steps and no end");
    }

    pub(super) fn run_secs(&mut self, secs: u64) {
        self.run_for(Duration::from_secs(secs));
    }

    /// How many datagrams of a type a side has sent.
    pub(super) fn sent(&self, side: usize, kind: u8) -> usize {
        self.sides[side].sent.iter().filter(|(_, datagram)| datagram[0] == kind).count()
    }

    /// The last datagram of a type that a side has sent.
    pub(super) fn last(&self, side: usize, kind: u8) -> Vec<u8> {
        let sent = self.sides[side].sent.iter().rev();
        sent.map(|(_, datagram)| datagram).find(|datagram| datagram[0] == kind).unwrap().clone()
    }
}
