//! What a worker asks of the gateway's own addresses at once: one domain's stack without
//! connections. It answers echo requests and refuses everything else the way a host does.

use std::net::IpAddr;

use nvgate_model::Instant;
use smoltcp::iface::{Interface, SocketSet};
use smoltcp::wire::IpCidr;

use super::MAX_PACKET;
use super::wire::{OnePacket, interface, stack_time};
use crate::snapshot::Domain;

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

impl Endpoint {
    /// A stack without connections for `domain`.
    #[must_use]
    pub fn new(domain: &Domain, seed: u64, now: Instant) -> Self {
        let interface = interface(seed ^ u64::from(domain.slot.0), now);
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
        let mut device = OnePacket::arriving(packet, out);
        self.interface.poll(stack_time(now), &mut device, &mut self.sockets);
        device.length
    }
}
