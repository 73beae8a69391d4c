//! A virtualization host's NVGRE endpoint in software: what a Hyper-V host does for its VMs, small.
//!
//! It writes and reads the GRE header by itself and shares no code with the gateway's forwarding,
//! so that the two check each other. One raw GRE socket carries a host's tunnels (the kernel routes
//! and resolves the provider addresses); one packet socket a VM stands at the
//! host's end of the VM's veth. The lookup records decide where a frame goes: a known MAC of the
//! same virtual subnet to its host, everything else to the gateway.

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nvgate_deploy::plan::Plan;
use nvgate_model::{MacAddress, Vsid};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::lab::probe::Worker;
use super::lab::{LabError, Namespace};
use super::tap;

const GRE: i32 = 47;
/// Key present, nothing else, version 0, then Transparent Ethernet Bridging (RFC 7637 section 3.2).
const GRE_START: [u8; 4] = [0x20, 0x00, 0x65, 0x58];
const GRE_LENGTH: usize = 8;
const IPV4_LENGTH: usize = 20;
const HEADROOM: usize = IPV4_LENGTH + GRE_LENGTH;
const TTL: u8 = 64;
/// The largest packet that the kernel hands over.
const BUFFER: usize = 64 * 1024;
/// Frames taken from one socket before the others have their turn.
const BURST: usize = 64;
/// How often the endpoint looks whether it is to stop.
const STOP_INTERVAL_MS: u16 = 50;

/// Where a VM of the data centre lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record {
    /// The virtual subnet.
    pub vsid: Vsid,
    /// The VM's MAC address in it.
    pub mac: MacAddress,
    /// The provider address of its host.
    pub provider: Ipv4Addr,
}

impl Record {
    /// The records of every endpoint of `plan` that has an IPv4 provider address: the first such.
    #[must_use]
    pub fn all_of(plan: &Plan) -> Vec<Self> {
        let endpoints = plan.tenants.iter().flat_map(|tenant| &tenant.endpoints);
        endpoints
            .filter_map(|endpoint| {
                let provider = endpoint.provider_addresses.iter().find_map(|pa| match pa.ip() {
                    IpAddr::V4(address) => Some(address),
                    IpAddr::V6(_) => None,
                })?;
                Some(Self { vsid: endpoint.vsid, mac: endpoint.mac, provider })
            })
            .collect()
    }
}

/// A VM of this host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Port {
    /// The host's end of the VM's veth, in the host's namespace. Frames on it must fit its MTU
    /// ([`SuperPackets::Never`](super::lab::SuperPackets::Never) at the VM's end).
    pub link: String,
    /// The VM's virtual subnet.
    pub vsid: Vsid,
    /// The VM's MAC address; frames from any other are dropped.
    pub mac: MacAddress,
}

/// What a host knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostConfig {
    /// The host's own provider address.
    pub provider: Ipv4Addr,
    /// The gateway's provider address.
    pub gateway: Ipv4Addr,
    /// The lookup records of all hosts.
    pub records: Vec<Record>,
    /// The VMs of this host.
    pub ports: Vec<Port>,
}

/// What an endpoint has carried, in frames.
#[derive(Debug, Default)]
pub struct HostCounters {
    /// From VMs into tunnels.
    pub sent: AtomicU64,
    /// From tunnels to VMs.
    pub received: AtomicU64,
    /// Neither: malformed, of no VM here, or refused by a full socket.
    pub dropped: AtomicU64,
}

/// A running endpoint. Ends when dropped.
#[derive(Debug)]
pub struct HostEndpoint {
    counters: Arc<HostCounters>,
    _worker: Worker,
}

impl HostEndpoint {
    /// Starts the endpoint of the host `namespace`; the links and addresses that `config` names
    /// are there already.
    pub fn start(namespace: &Namespace, config: HostConfig) -> Result<Self, LabError> {
        let counters = Arc::new(HostCounters::default());
        let shared = Arc::clone(&counters);
        let mut carrier = namespace
            .run(|| Carrier::open(config, shared))?
            .map_err(|source| namespace.fail("open the NVGRE endpoint's sockets", source))?;
        let worker = Worker::start(namespace, "nvgre-host", move |stop| carrier.carry(stop))?;
        Ok(Self { counters, _worker: worker })
    }

    /// What it has carried so far.
    #[must_use]
    pub fn counters(&self) -> &HostCounters {
        &self.counters
    }
}

struct Carrier {
    config: HostConfig,
    tunnel: Socket,
    /// One a port of `config`, in its order.
    taps: Vec<Socket>,
    counters: Arc<HostCounters>,
}

impl Carrier {
    fn open(config: HostConfig, counters: Arc<HostCounters>) -> io::Result<Self> {
        let tunnel = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(GRE)))?;
        tunnel.bind(&SockAddr::from(SocketAddr::from((config.provider, 0))))?;
        tunnel.set_header_included_v4(true)?;
        tap::prepare(&tunnel)?;
        let taps =
            config.ports.iter().map(|port| tap::open(&port.link)).collect::<io::Result<_>>()?;
        Ok(Self { config, tunnel, taps, counters })
    }

    fn carry(&mut self, stop: &AtomicBool) {
        let mut buffer = vec![0; BUFFER];
        while !stop.load(Ordering::Relaxed) {
            let mut polled: Vec<_> = std::iter::once(&self.tunnel)
                .chain(&self.taps)
                .map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN))
                .collect();
            // An interrupted or failed poll only costs one more round.
            let _ = poll(&mut polled, PollTimeout::from(STOP_INTERVAL_MS));
            for _ in 0..BURST {
                let Ok(length) = (&self.tunnel).read(&mut buffer) else { break };
                self.handle_tunnel(&buffer[..length]);
            }
            for index in 0..self.taps.len() {
                for _ in 0..BURST {
                    // The outer headers are written into the room before the frame.
                    let Ok(length) = (&self.taps[index]).read(&mut buffer[HEADROOM..]) else {
                        break;
                    };
                    self.handle_vm(index, &mut buffer[..HEADROOM + length]);
                }
            }
        }
    }

    /// A frame from the VM of port `index`, behind room for the outer headers.
    fn handle_vm(&self, index: usize, packet: &mut [u8]) {
        let Port { vsid, mac, .. } = self.config.ports[index];
        let (header, frame) = packet.split_at_mut(HEADROOM);
        let Some((destination, source)) = tap::macs(frame) else { return self.count_drop() };
        // Also what the kernel itself sends on the link comes by here; it is no VM's.
        if source != mac {
            return self.count_drop();
        }
        tap::complete_checksum(frame);
        let local =
            (self.config.ports.iter().zip(&self.taps).enumerate()).filter(|(at, (port, _))| {
                *at != index
                    && port.vsid == vsid
                    && (destination.is_group() || port.mac == destination)
            });
        let mut delivered = false;
        for (_, (_, tap)) in local {
            self.count(tap.send(frame), &self.counters.received);
            delivered = true;
        }
        if delivered && !destination.is_group() {
            return;
        }
        let record = self
            .config
            .records
            .iter()
            .find(|record| record.vsid == vsid && record.mac == destination);
        let provider = record.map_or(self.config.gateway, |record| record.provider);
        header[..IPV4_LENGTH].copy_from_slice(&self.outer_ipv4(provider));
        header[IPV4_LENGTH..][..4].copy_from_slice(&GRE_START);
        let key = vsid.number() << 8 | u32::from(flow(frame));
        header[IPV4_LENGTH + 4..].copy_from_slice(&key.to_be_bytes());
        let target = SockAddr::from(SocketAddr::from((provider, 0)));
        self.count(self.tunnel.send_to(packet, &target), &self.counters.sent);
    }

    /// The outer header towards `provider`. The kernel fills in length, identification and checksum;
    /// DF is set because NVGRE is never fragmented (RFC 7637 section 4.4).
    fn outer_ipv4(&self, provider: Ipv4Addr) -> [u8; IPV4_LENGTH] {
        let mut header = [0; IPV4_LENGTH];
        header[0] = 0x45;
        header[6] = 0x40;
        header[8] = TTL;
        header[9] = GRE as u8;
        header[12..16].copy_from_slice(&self.config.provider.octets());
        header[16..].copy_from_slice(&provider.octets());
        header
    }

    /// An IPv4 packet from the underlay.
    fn handle_tunnel(&self, packet: &[u8]) {
        let header = packet.first().map_or(0, |first| usize::from(first & 0xf) * 4);
        let Some((gre, frame)) =
            packet.get(header..).and_then(|gre| gre.split_at_checked(GRE_LENGTH))
        else {
            return self.count_drop();
        };
        let vsid = u32::from_be_bytes([0, gre[4], gre[5], gre[6]]);
        let Some((destination, _)) = tap::macs(frame).filter(|_| gre[..4] == GRE_START) else {
            return self.count_drop();
        };
        let mut delivered = false;
        for (port, tap) in self.config.ports.iter().zip(&self.taps) {
            if port.vsid.number() == vsid && (destination.is_group() || port.mac == destination) {
                self.count(tap.send(frame), &self.counters.received);
                delivered = true;
            }
        }
        if !delivered {
            self.count_drop();
        }
    }

    fn count(&self, sent: io::Result<usize>, counter: &AtomicU64) {
        match sent {
            Ok(_) => counter.fetch_add(1, Ordering::Relaxed),
            Err(_) => self.counters.dropped.fetch_add(1, Ordering::Relaxed),
        };
    }

    fn count_drop(&self) {
        self.counters.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

/// A FlowID of the frame: the addresses and the first words of the payload folded to a byte.
fn flow(frame: &[u8]) -> u8 {
    frame.iter().skip(26).take(12).fold(0, |folded, byte| folded.rotate_left(1) ^ byte)
}
