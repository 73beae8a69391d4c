//! A gateway's listener and tunnel and the peer's end of it, in virtual time, with a stranger on
//! the wire who sees, holds back, damages and repeats whatever passes. Whatever he did, nothing of
//! his opens or moves the endpoint, and the two go on talking.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use nvgate_model::Instant;
use nvgate_vpn::{
    AllowedPrefixes, Identified, KindConfig, Listener, ListenerLimits, OwnKeys, PresharedKey,
    PrivateKey, Received, Sealed, Tunnel, TunnelConfig, TunnelCounters, TunnelIndex, TunnelStatus,
    WireGuardConfig,
};

use super::{Input, block};
use crate::frames::Packet;
use crate::rig_plan::{REMOTE, WEB, customer};

/// The side with the listener, which learns where its peer is.
const GATEWAY: usize = 0;
/// The side that has an endpoint.
const SITE: usize = 1;

/// Steps of one input, and jumps of the clock in one step.
const STEPS: usize = 64;
const JUMPS: usize = 10_000;
/// Datagrams that the stranger remembers.
const REMEMBERED: usize = 32;
/// The second MAC of a handshake message, which means something under load only.
const MAC2: usize = 16;
const DATA: u8 = 4;
const COOKIE_REPLY: u8 = 3;
const MTU: usize = 1420;
/// Packets, ten seconds apart, of which one has to arrive.
const PATIENCE: usize = 4;

/// A datagram that one side has sent.
struct Datagram {
    to: usize,
    bytes: Vec<u8>,
    /// Its receiver has accepted it, so that it never will again.
    spent: bool,
}

struct Pair {
    now: Instant,
    listener: Listener,
    tunnels: [Tunnel; 2],
    addresses: [SocketAddr; 2],
    /// Inner packets that came out on each side.
    received: [usize; 2],
    /// What passed the stranger, the last of it.
    seen: Vec<Datagram>,
    /// The stranger lets nothing pass.
    holding: bool,
}

/// What must stay as it is when a datagram is refused: everything but what counts refusals.
type Essence = (TunnelStatus, Option<Instant>);

impl Pair {
    fn new(with_keepalive: bool) -> Self {
        let now = Instant(1_000_000_000);
        let addresses = [
            SocketAddr::from(([203, 0, 113, 4], 51_820)),
            SocketAddr::from(([198, 51, 100, 9], 7000)),
        ];
        let keys = [GATEWAY, SITE].map(|side| PrivateKey::from_bytes([side as u8 + 1; 32]));
        let index = |side: usize| TunnelIndex::new(side as u32 + 7).expect("a small number");
        let tunnels = [GATEWAY, SITE].map(|side| {
            let everything = "0.0.0.0/0".parse().expect("a prefix");
            let wireguard = WireGuardConfig {
                own: OwnKeys { current: keys[side].clone(), previous: None },
                peer: keys[1 - side].public(),
                preshared: PresharedKey::from_bytes([9; 32]).ok(),
                endpoint: (side == SITE).then_some(addresses[GATEWAY]),
                persistent_keepalive_secs: NonZeroU16::new(if with_keepalive { 25 } else { 0 }),
            };
            let config = TunnelConfig {
                allowed: AllowedPrefixes::new(&[everything]),
                kind: KindConfig::WireGuard(wireguard),
            };
            Tunnel::new(index(side), config, now, side as u64)
        });
        let listener = Listener::new(
            &OwnKeys { current: keys[GATEWAY].clone(), previous: None },
            BTreeMap::from([(keys[SITE].public(), index(GATEWAY))]),
            ListenerLimits { calm_per_second: 4, most_per_second: 1000 },
            now,
            1,
        );
        let mut pair = Self {
            now,
            listener,
            tunnels,
            addresses,
            received: [0; 2],
            seen: Vec::new(),
            holding: false,
        };
        pair.talk();
        pair
    }

    fn essence(&self, side: usize) -> Essence {
        let mut status = self.tunnels[side].status(self.now);
        status.counters = TunnelCounters { replays: 0, auth_failures: 0, ..status.counters };
        (status, self.tunnels[side].poll_timeout())
    }

    /// One side sends a packet of its own.
    fn send(&mut self, side: usize, packet: &[u8]) {
        let mut out = [0; 2048];
        match self.tunnels[side].seal(self.now, packet, &[], MTU, &mut out) {
            Ok(Sealed::Datagram(length)) => {
                assert!(length <= packet.len() + 32 + 15);
                self.pass(side, &out[..length]);
            }
            Ok(Sealed::Queued) | Err(_) => {}
        }
        self.drain(side);
    }

    /// What is due by itself.
    fn drain(&mut self, side: usize) {
        let mut out = [0; 2048];
        for _ in 0..100 {
            let Some((length, _)) = self.tunnels[side].poll_transmit(self.now, &mut out) else {
                while self.tunnels[side].poll_event().is_some() {}
                return;
            };
            self.pass(side, &out[..length]);
        }
        panic!("poll_transmit does not come to an end");
    }

    /// A datagram of one side passes the stranger.
    fn pass(&mut self, from: usize, bytes: &[u8]) {
        if self.seen.len() == REMEMBERED {
            self.seen.remove(0);
        }
        self.seen.push(Datagram { to: 1 - from, bytes: bytes.to_vec(), spent: false });
        if !self.holding {
            self.arrive(self.seen.len() - 1, self.addresses[from]);
        }
    }

    /// A genuine datagram arrives.
    fn arrive(&mut self, number: usize, from: SocketAddr) {
        let Datagram { to, bytes, .. } = &self.seen[number];
        let (to, bytes) = (*to, bytes.clone());
        let mut out = [0; 2048];
        let received = self.deliver(to, from, &bytes, &mut out);
        self.seen[number].spent = received.is_some();
        match received {
            Some(Received::Packet(_)) => self.received[to] += 1,
            Some(Received::Reply(length)) => self.pass(to, &out[..length]),
            Some(Received::Keepalive | Received::Nothing) | None => {}
        }
        self.drain(to);
    }

    /// A datagram reaches a side; what it says if its tunnel accepts it. A cookie goes back to
    /// where it came from, which is the site if that sent it.
    fn deliver(
        &mut self,
        to: usize,
        from: SocketAddr,
        bytes: &[u8],
        out: &mut [u8],
    ) -> Option<Received> {
        if to == GATEWAY {
            match self.listener.identify(self.now, from, bytes, out) {
                Ok(Identified::Tunnel(index)) if index == self.tunnels[GATEWAY].index() => {}
                Ok(Identified::Reply(length)) => {
                    if from == self.addresses[SITE] {
                        let cookie = out[..length].to_vec();
                        let _ = self.tunnels[SITE].handle_datagram(
                            self.now,
                            self.addresses[GATEWAY],
                            &cookie,
                            out,
                        );
                    }
                    return None;
                }
                Ok(Identified::Tunnel(_)) | Err(_) => return None,
            }
        }
        self.tunnels[to].handle_datagram(self.now, from, bytes, out).ok()
    }

    /// The stranger sends a datagram of his own making.
    fn attack(&mut self, to: usize, bytes: &[u8]) {
        let stranger = SocketAddr::from(([203, 0, 113, 66], 4444));
        let before = self.essence(to);
        let received = self.deliver(to, stranger, bytes, &mut [0; 2048]);
        // A cookie that comes again is worth nothing, but not refused.
        let cookie = bytes.first() == Some(&COOKIE_REPLY);
        assert!(
            received.is_none() || cookie && received == Some(Received::Nothing),
            "{received:?}"
        );
        assert_eq!(self.essence(to), before);
        assert_eq!(self.tunnels[to].poll_transmit(self.now, &mut [0; 2048]), None);
    }

    /// Time passes, in jumps to whatever is next.
    fn pass_time(&mut self, duration: Duration) {
        let end = self.now + duration;
        for _ in 0..JUMPS {
            let due = self.tunnels.iter().filter_map(Tunnel::poll_timeout).min();
            let Some(due) = due.filter(|due| *due <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(due);
            for side in [GATEWAY, SITE] {
                self.tunnels[side].handle_timeout(self.now);
                self.drain(side);
                let next = self.tunnels[side].poll_timeout();
                assert!(next.is_none_or(|next| next > self.now), "a timeout stays due");
            }
        }
        panic!("{JUMPS} jumps and no end");
    }

    /// Both sides talk: a packet that was sealed for a session the other side has given up, or a
    /// handshake that was refused under load, may be lost, but not for long.
    fn talk(&mut self) {
        self.holding = false;
        let packet = Packet::udp((REMOTE, 1), (customer(WEB, 10), 2), b"genuine").bytes();
        for side in [SITE, GATEWAY] {
            let before = self.received[1 - side];
            for _ in 0..PATIENCE {
                if self.received[1 - side] == before {
                    self.send(side, &packet);
                    self.pass_time(Duration::from_secs(10));
                }
            }
            assert!(self.received[1 - side] > before, "side {} hears nothing", 1 - side);
        }
        assert_eq!(self.tunnels[GATEWAY].endpoint(), Some(self.addresses[SITE]));
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let kind = input.byte();
        let side = usize::from(kind >> 7);
        match kind & 7 {
            0 => self.attack_unless_genuine(side, input.block()),
            1 => self.change_and_attack(input),
            2 => self.pass_time(Duration::from_millis(u64::from(input.word()) * 10)),
            3 => {
                let length = usize::from(input.byte()) * 6;
                let packet = Packet::udp((REMOTE, 1), (customer(WEB, 10), 2), &vec![0; length]);
                self.send(side, &packet.bytes());
            }
            4 => self.send(side, input.block()),
            5 => self.holding = !self.holding,
            6 => {
                let held = (0..self.seen.len()).filter(|&at| !self.seen[at].spent);
                let held: Vec<_> = held.collect();
                if let Some(&at) = held.get(usize::from(input.byte()) % held.len().max(1)) {
                    self.arrive(at, self.addresses[1 - self.seen[at].to]);
                }
            }
            _ => {
                self.addresses[SITE].set_port(7000 + u16::from(input.byte()));
                self.tunnels[GATEWAY].keep_up(self.now);
                self.drain(GATEWAY);
            }
        }
    }

    /// Something seen is changed, cut, made longer or left as it is, and sent to either side.
    fn change_and_attack(&mut self, input: &mut Input<'_>) {
        let number = usize::from(input.byte()) % self.seen.len().max(1);
        let Some(datagram) = self.seen.get(number) else { return };
        let mut bytes = datagram.bytes.clone();
        let to = if input.byte() & 1 == 0 { datagram.to } else { 1 - datagram.to };
        let at = usize::from(input.word()) % (bytes.len() + 1);
        let change = input.block();
        for (place, byte) in bytes[at..].iter_mut().zip(change) {
            *place ^= byte;
        }
        match input.byte() {
            1 => bytes.truncate(at),
            2 => bytes.extend(change),
            _ => {}
        }
        self.attack_unless_genuine(to, &bytes);
    }

    /// What is still genuine in all that is proven may be accepted, from wherever it comes.
    fn attack_unless_genuine(&mut self, to: usize, bytes: &[u8]) {
        let proven = |bytes: &[u8]| match bytes.first() {
            Some(&DATA) => bytes.len(),
            Some(_) | None => bytes.len().saturating_sub(MAC2),
        };
        let genuine = |seen: &Datagram| {
            let proven = proven(&seen.bytes);
            !seen.spent && seen.to == to && bytes.get(..proven) == seen.bytes.get(..proven)
        };
        if !self.seen.iter().any(genuine) {
            self.attack(to, bytes);
        }
    }
}

/// A sequence of steps, then a conversation.
///
/// # Panics
///
/// A claim does not hold.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let mut pair = Pair::new(input.byte() & 1 == 1);
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        pair.step(&mut input);
    }
    pair.talk();
}

/// Each kind of step, and some that belong together.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let change = |number: u8, at: u16, by: &[u8]| {
        [&[1, number, 0], &at.to_be_bytes()[..], &block(by), &[0]].concat()
    };
    let later = |hundredths: u16| [&[2], &hundredths.to_be_bytes()[..]].concat();
    let own = [&[0][..], &block(&[[4, 0, 0, 0, 0, 0x1c, 0, 0], [0; 8]].concat())].concat();
    let ip = Packet::udp((REMOTE, 1), (customer(WEB, 10), 2), b"own").bytes();
    let bodies = [
        [change(0, 0, &[]), change(1, 8, &[1]), change(2, 40, &[0x80]), own].concat(),
        [later(12_500), vec![0x83, 9, 3, 9], change(3, 0, &[])].concat(),
        [vec![5], later(20_000), vec![0x83, 9], change(4, 70, &[1]), vec![6, 0]].concat(),
        [vec![5, 3, 1, 3, 2, 3, 3], vec![6, 2, 6, 1, 6, 0], vec![7, 5, 0x83, 1]].concat(),
        [vec![4], block(&ip), later(60_000), vec![0x84], block(&ip)].concat(),
        [later(60_000), vec![0x83, 1], change(0, 0, &[]).repeat(30), later(100)].concat(),
    ];
    bodies.iter().zip(0..).map(|(body, number)| [&[number], &body[..]].concat()).collect()
}
