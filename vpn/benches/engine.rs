//! What a tunnel costs beside the cipher it cannot do without: packets sealed and opened, against
//! ring's ChaCha20-Poly1305 in place on as many bytes, in turns within one run.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::Instant as Clock;

use nvgate_model::{Instant, Prefix};
use nvgate_vpn::{
    AllowedPrefixes, Identified, KindConfig, Listener, ListenerLimits, OwnKeys, PrivateKey,
    Received, Sealed, Tunnel, TunnelConfig, TunnelIndex, WireGuardConfig,
};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

/// Packets of a round: fewer than the replay window holds, so that each side does all of them.
const PACKETS: usize = 1_000;
const ROUNDS: usize = 201;
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
    let index = TunnelIndex::new(own.into()).expect("a number above 0");
    Tunnel::new(index, config, NOW, 1)
}

/// Two tunnels with a session.
fn pair() -> (Tunnel, Tunnel) {
    let address = SocketAddr::from(([192, 0, 2, 1], 51820));
    let (mut left, mut right) = (tunnel(1, 2, Some(address)), tunnel(2, 1, None));
    let (mut there, mut back) = ([0; 2048], [0; 2048]);
    let queued = left.seal(NOW, &packet(64), &[], 1420, &mut there);
    assert_eq!(queued, Ok(Sealed::Queued));
    let (length, _) = left.poll_transmit(NOW, &mut there).expect("an initiation is due");
    let response = right.handle_datagram(NOW, address, &there[..length], &mut back);
    let Ok(Received::Reply(length)) = response else { panic!("{response:?}") };
    let keepalive = left.handle_datagram(NOW, address, &back[..length], &mut there);
    let Ok(Received::Reply(length)) = keepalive else { panic!("{keepalive:?}") };
    let confirmed = right.handle_datagram(NOW, address, &there[..length], &mut back);
    assert_eq!(confirmed, Ok(Received::Keepalive));
    while left.poll_transmit(NOW, &mut there).is_some() {}
    (left, right)
}

fn packet(length: usize) -> Vec<u8> {
    let mut bytes = vec![0xee; length];
    bytes[0] = 0x45;
    bytes[2..4].copy_from_slice(&(length as u16).to_be_bytes());
    bytes
}

fn nonce(counter: usize) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&(counter as u64).to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

fn median(mut nanos: Vec<f64>) -> f64 {
    nanos.sort_by(f64::total_cmp);
    nanos[nanos.len() / 2]
}

/// The cost of a door's look at an initiation, and of the tunnel's answer to it.
fn handshakes() {
    let own = OwnKeys { current: PrivateKey::from_bytes([2; 32]), previous: None };
    let peer = PrivateKey::from_bytes([1; 32]).public();
    let index = TunnelIndex::new(2).expect("a number above 0");
    let limits = ListenerLimits { calm_per_second: u32::MAX, most_per_second: u32::MAX };
    let address = SocketAddr::from(([192, 0, 2, 1], 51820));
    let mut listener = Listener::new(&own, [(peer, index)].into(), limits, NOW, 1);
    let (mut left, mut right) = (tunnel(1, 2, Some(address)), tunnel(2, 1, None));
    let (mut there, mut back) = ([0; 2048], [0; 2048]);
    let (mut looks, mut answers) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        // Two minutes each: the attempt before has been given up.
        let now = Instant(round as u64 * 120_000_000_000);
        left.handle_timeout(now);
        let queued = left.seal(now, &packet(64), &[], 1420, &mut there);
        assert_eq!(queued, Ok(Sealed::Queued));
        let (length, _) = left.poll_transmit(now, &mut there).expect("an initiation is due");
        let begin = Clock::now();
        let identified = listener.identify(now, address, &there[..length], &mut back);
        looks.push(begin.elapsed().as_nanos() as f64);
        assert_eq!(identified, Ok(Identified::Tunnel(index)));
        let begin = Clock::now();
        let answer = right.handle_datagram(now, address, &there[..length], &mut back);
        answers.push(begin.elapsed().as_nanos() as f64);
        assert!(matches!(answer, Ok(Received::Reply(_))), "{answer:?}");
    }
    let micros = |nanos| median(nanos) / 1000.0;
    println!("handshake: identify {:.0} us, respond {:.0} us", micros(looks), micros(answers));
}

fn main() {
    handshakes();
    let key = UnboundKey::new(&CHACHA20_POLY1305, &[7; 32]).expect("32 bytes are a key");
    let key = LessSafeKey::new(key);
    for length in [64, 1420] {
        let (mut left, mut right) = pair();
        let packet = packet(length);
        let (head, tail) = packet.split_at(40);
        let stride = length + 16 + 32;
        let mut datagrams = vec![0; PACKETS * stride];
        let mut lengths = vec![0; PACKETS];
        let mut raw = vec![0; PACKETS * stride];
        let mut out = [0; 2048];
        let mut times: [Vec<f64>; 5] = std::array::from_fn(|_| Vec::new());
        for _ in 0..ROUNDS {
            let mut lap = |case: usize, work: &mut dyn FnMut()| {
                let begin = Clock::now();
                work();
                times[case].push(begin.elapsed().as_nanos() as f64 / PACKETS as f64);
            };
            lap(0, &mut || {
                for (counter, buffer) in raw.chunks_exact_mut(stride).enumerate() {
                    let tag = key
                        .seal_in_place_separate_tag(
                            nonce(counter),
                            Aad::empty(),
                            &mut buffer[..length],
                        )
                        .expect("the buffer is short enough");
                    buffer[length..length + 16].copy_from_slice(tag.as_ref());
                }
            });
            // In two pieces, as the segmenter gives them.
            lap(1, &mut || {
                for (buffer, written) in datagrams.chunks_exact_mut(stride).zip(&mut lengths) {
                    let sealed = left.seal(NOW, head, tail, 1420, buffer);
                    let Ok(Sealed::Datagram(length)) = sealed else { panic!("{sealed:?}") };
                    *written = length;
                }
            });
            lap(2, &mut || {
                for (counter, buffer) in raw.chunks_exact_mut(stride).enumerate() {
                    let opened =
                        key.open_in_place(nonce(counter), Aad::empty(), &mut buffer[..length + 16]);
                    black_box(opened.expect("it was sealed with this key"));
                }
            });
            let from = SocketAddr::from(([192, 0, 2, 1], 51820));
            lap(3, &mut || {
                for (datagram, length) in datagrams.chunks_exact(stride).zip(&lengths) {
                    let opened = right.handle_datagram(NOW, from, &datagram[..*length], &mut out);
                    assert!(matches!(opened, Ok(Received::Packet(_))), "{opened:?}");
                }
            });
            // In one piece, last, so that what it seals is overwritten and never missed.
            lap(4, &mut || {
                for buffer in datagrams.chunks_exact_mut(stride) {
                    let sealed = left.seal(NOW, &packet, &[], 1420, buffer);
                    assert!(matches!(sealed, Ok(Sealed::Datagram(_))), "{sealed:?}");
                }
            });
        }
        let [raw_seal, seal, raw_open, open, whole] = times.map(median);
        println!(
            "{length:>5} bytes: seal {seal:>5.0} ns in two pieces ({:.0} % of raw {raw_seal:.0}), \
             {whole:>5.0} ns in one ({:.0} %); open {open:>5.0} ns ({:.0} % of raw {raw_open:.0})",
            raw_seal / seal * 100.0,
            raw_seal / whole * 100.0,
            raw_open / open * 100.0,
        );
    }
}
