//! The gateway's own addresses inside a routing domain: an IP stack of their own for each domain,
//! so that every domain can use the same ones.
//!
//! ARP and neighbour discovery are the dispatcher's; the stack sees IP packets only. Today it
//! answers echo requests and refuses everything else the way a host does.

use std::net::IpAddr;

use nvgate_model::Instant;
use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::wire::{HardwareAddress, IpCidr};

use crate::snapshot::Domain;

/// The longest packet the endpoint takes or makes, in bytes.
pub const MAX_PACKET: usize = 9216;

/// One domain's stack on one worker.
pub struct Endpoint {
    interface: Interface,
    sockets: SocketSet<'static>,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Endpoint").finish_non_exhaustive()
    }
}

const fn stack_time(now: Instant) -> smoltcp::time::Instant {
    smoltcp::time::Instant::from_micros_const((now.0 / 1000) as i64)
}

impl Endpoint {
    /// A stack without connections for `domain`.
    #[must_use]
    pub fn new(domain: &Domain, seed: u64, now: Instant) -> Self {
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed ^ u64::from(domain.slot.0);
        let (mut wire, mut length) = (Wire { inbound: None, outbound: None }, None);
        let mut idle = Port { wire: &mut wire, length: &mut length };
        let interface = Interface::new(config, &mut idle, stack_time(now));
        Self { interface, sockets: SocketSet::new(Vec::new()) }
    }

    /// Handles the IP packet `packet` to the gateway's address `own`; the answer is written to the
    /// front of `out` and its length returned, if there is one.
    pub fn answer(
        &mut self,
        now: Instant,
        own: IpAddr,
        packet: &[u8],
        out: &mut [u8],
    ) -> Option<usize> {
        if packet.len() > MAX_PACKET {
            return None;
        }
        // The domain's gateways are many, the stack's table of addresses is small: it gets the
        // address the packet was sent to.
        self.interface.update_ip_addrs(|addresses| {
            addresses.clear();
            let bits = if own.is_ipv4() { 32 } else { 128 };
            // The table has at least one place.
            let _ = addresses.push(IpCidr::new(own.into(), bits));
        });
        let routes = self.interface.routes_mut();
        match own {
            IpAddr::V4(v4) => {
                // One default route fits an empty table.
                let _ = routes.add_default_ipv4_route(v4);
            }
            IpAddr::V6(v6) => {
                // One default route fits an empty table.
                let _ = routes.add_default_ipv6_route(v6);
            }
        }
        let mut wire = Wire { inbound: Some(packet), outbound: Some(out) };
        let mut length = None;
        let mut device = Port { wire: &mut wire, length: &mut length };
        self.interface.poll(stack_time(now), &mut device, &mut self.sockets);
        length
    }
}

/// The packet that goes in, and where the one that comes out is written.
struct Wire<'w> {
    inbound: Option<&'w [u8]>,
    outbound: Option<&'w mut [u8]>,
}

/// A device of one packet each way.
struct Port<'p, 'w> {
    wire: &'p mut Wire<'w>,
    length: &'p mut Option<usize>,
}

struct Arriving<'w>(&'w [u8]);

impl RxToken for Arriving<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, handle: F) -> R {
        handle(self.0)
    }
}

struct Leaving<'w, 'l> {
    out: &'w mut [u8],
    length: &'l mut Option<usize>,
}

impl TxToken for Leaving<'_, '_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        match self.out.get_mut(..length) {
            Some(out) => {
                *self.length = Some(length);
                fill(out)
            }
            // Longer than the stack was told a packet may be; it is dropped.
            None => fill(&mut vec![0; length]),
        }
    }
}

fn capabilities() -> DeviceCapabilities {
    let mut capabilities = DeviceCapabilities::default();
    capabilities.medium = Medium::Ip;
    capabilities.max_transmission_unit = MAX_PACKET;
    capabilities
}

impl<'w> Device for Port<'_, 'w> {
    type RxToken<'a>
        = Arriving<'w>
    where
        Self: 'a;
    type TxToken<'a>
        = Leaving<'w, 'a>
    where
        Self: 'a;

    fn receive(
        &mut self,
        _: smoltcp::time::Instant,
    ) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        let out = self.wire.outbound.take()?;
        let packet = self.wire.inbound.take()?;
        Some((Arriving(packet), Leaving { out, length: self.length }))
    }

    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<Self::TxToken<'_>> {
        let out = self.wire.outbound.take()?;
        Some(Leaving { out, length: self.length })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        capabilities()
    }
}
