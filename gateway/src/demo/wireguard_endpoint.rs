//! A site's WireGuard endpoint in software: what a router on a tenant's premises does, small.
//!
//! It shares the protocol engine with the gateway, and nothing of its forwarding. A UDP socket
//! carries the tunnel; a packet socket stands at the router's end of the veth of the premises' one
//! host. It needs no TUN device, which users without root seldom may have.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant as Clock};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nvgate_model::{Instant, MacAddress, Prefix};
use nvgate_vpn::{
    AllowedPrefixes, KindConfig, OwnKeys, PrivateKey, PublicKey, Received, Sealed, Tunnel,
    TunnelConfig, TunnelIndex, WireGuardConfig,
};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::lab::probe::Worker;
use super::lab::{LabError, Namespace};
use super::tap;

const ETHERNET_LENGTH: usize = 14;
const ETHER_TYPE_IPV4: [u8; 2] = [0x08, 0x00];
/// The largest packet that the kernel hands over.
const BUFFER: usize = 64 * 1024;
/// Packets taken from one socket before the other has its turn.
const BURST: usize = 64;
/// The longest the endpoint waits before it looks whether it is to stop.
const STOP_INTERVAL: Duration = Duration::from_millis(50);
/// With it the tunnel begins by itself, and stays open in whatever translates addresses between.
const KEEPALIVE_SECS: NonZeroU16 = NonZeroU16::new(25).expect("not zero");

/// What an endpoint knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndpointConfig {
    /// The router's end of the host's veth, in the router's namespace. Frames on it must fit `mtu`
    /// ([`SuperPackets::Never`](super::lab::SuperPackets::Never) at the host's end).
    pub link: String,
    /// The host's MAC address; frames from any other are dropped.
    pub host: MacAddress,
    /// The MAC address that the host sends to.
    pub router: MacAddress,
    /// The most bytes of a packet in the tunnel.
    pub mtu: usize,
    /// The endpoint's own socket.
    pub local: SocketAddr,
    /// The gateway's.
    pub gateway: SocketAddr,
    /// The endpoint's own key.
    pub key: PrivateKey,
    /// The gateway's.
    pub gateway_key: PublicKey,
}

/// A running endpoint. Ends when dropped.
#[derive(Debug)]
pub struct WireGuardEndpoint {
    _worker: Worker,
}

impl WireGuardEndpoint {
    /// Starts the endpoint in the router's `namespace`, where the link and address that `config`
    /// names are there already. It begins a handshake at once.
    pub fn start(namespace: &Namespace, config: EndpointConfig) -> Result<Self, LabError> {
        let mut carrier = namespace
            .run(|| Carrier::open(&config))?
            .map_err(|source| namespace.fail("open the WireGuard endpoint's sockets", source))?;
        let worker = Worker::start(namespace, "wireguard-site", move |stop| carrier.carry(stop))?;
        Ok(Self { _worker: worker })
    }
}

struct Carrier {
    tunnel: Tunnel,
    gateway: SocketAddr,
    socket: Socket,
    tap: Socket,
    mtu: usize,
    /// The Ethernet header of every frame to the host.
    header: [u8; ETHERNET_LENGTH],
    host: MacAddress,
    started: Clock,
}

impl Carrier {
    fn open(config: &EndpointConfig) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.bind(&SockAddr::from(config.local))?;
        socket.connect(&SockAddr::from(config.gateway))?;
        tap::prepare(&socket)?;
        let mut header = [0; ETHERNET_LENGTH];
        header[..6].copy_from_slice(&config.host.0);
        header[6..12].copy_from_slice(&config.router.0);
        header[12..].copy_from_slice(&ETHER_TYPE_IPV4);
        Ok(Self {
            tunnel: open_tunnel(config),
            gateway: config.gateway,
            socket,
            tap: tap::open(&config.link)?,
            mtu: config.mtu,
            header,
            host: config.host,
            started: Clock::now(),
        })
    }

    fn carry(&mut self, stop: &AtomicBool) {
        let (mut input, mut output) = (vec![0; BUFFER], vec![0; BUFFER]);
        while !stop.load(Ordering::Relaxed) {
            self.tunnel.handle_timeout(self.now());
            self.transmit_due(&mut output);
            self.wait();
            for _ in 0..BURST {
                let Ok(length) = (&self.socket).read(&mut input) else { break };
                self.handle_datagram(&input[..length], &mut output);
                self.transmit_due(&mut output);
            }
            for _ in 0..BURST {
                let Ok(length) = (&self.tap).read(&mut input) else { break };
                self.handle_frame(&mut input[..length], &mut output);
            }
            // Nobody here asks what happened; what is told is not told again.
            while self.tunnel.poll_event().is_some() {}
        }
    }

    /// Until something arrives or is due.
    fn wait(&self) {
        let due = self.tunnel.poll_timeout().map_or(STOP_INTERVAL, |due| {
            Duration::from_nanos(due.0.saturating_sub(self.now().0)).min(STOP_INTERVAL)
        });
        let mut polled =
            [&self.socket, &self.tap].map(|one| PollFd::new(one.as_fd(), PollFlags::POLLIN));
        // An interrupted or failed poll only costs one more round.
        let _ = poll(&mut polled, PollTimeout::try_from(due).unwrap_or(PollTimeout::ZERO));
    }

    fn transmit_due(&mut self, output: &mut [u8]) {
        while let Some((length, _)) = self.tunnel.poll_transmit(self.now(), output) {
            self.send(&output[..length]);
        }
    }

    /// A datagram from the gateway.
    fn handle_datagram(&mut self, datagram: &[u8], output: &mut [u8]) {
        let (header, packet) = output.split_at_mut(ETHERNET_LENGTH);
        match self.tunnel.handle_datagram(self.now(), self.gateway, datagram, packet) {
            Ok(Received::Packet(range)) => {
                header.copy_from_slice(&self.header);
                // What the host has no room for is lost, as on any wire.
                let _ = self.tap.send(&output[..ETHERNET_LENGTH + range.end]);
            }
            Ok(Received::Reply(length)) => self.send(&packet[..length]),
            Ok(Received::Keepalive | Received::Nothing) | Err(_) => {}
        }
    }

    /// A frame from the host's link.
    fn handle_frame(&mut self, frame: &mut [u8], output: &mut [u8]) {
        // Also what the kernel itself sends on the link comes by here; it is not the host's.
        if tap::macs(frame).is_none_or(|(_, source)| source != self.host) {
            return;
        }
        tap::complete_checksum(frame);
        let Some((_, packet)) = frame.split_at_checked(ETHERNET_LENGTH) else { return };
        match self.tunnel.seal(self.now(), packet, &[], self.mtu, output) {
            Ok(Sealed::Datagram(length)) => self.send(&output[..length]),
            Ok(Sealed::Queued) => self.transmit_due(output),
            // Such as ARP, which is no IP packet.
            Err(_) => {}
        }
    }

    fn send(&self, datagram: &[u8]) {
        // What is lost here the peers of the tunnel make up for, as on any wire.
        let _ = self.socket.send(datagram);
    }

    /// The time on the tunnel's clock, which starts at zero.
    fn now(&self) -> Instant {
        Instant(u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}

fn open_tunnel(config: &EndpointConfig) -> Tunnel {
    let tunnel = TunnelConfig {
        allowed: AllowedPrefixes::new(&[Prefix::DEFAULT_V4]),
        kind: KindConfig::WireGuard(WireGuardConfig {
            own: OwnKeys { current: config.key.clone(), previous: None },
            peer: config.gateway_key,
            preshared: None,
            endpoint: Some(config.gateway),
            persistent_keepalive_secs: Some(KEEPALIVE_SECS),
        }),
    };
    let index = TunnelIndex::new(1).expect("a legal number");
    Tunnel::new(index, tunnel, Instant(0), config.local.port().into())
}
