//! What must hold of every packet that comes out, of the counters, and of tunnels once the network
//! has healed.

use std::fmt::Write;
use std::net::IpAddr;
use std::time::Duration;

use nvgate::io::PortRole;
use nvgate_deploy::plan::{Bandwidth, RouteTarget};
use nvgate_model::DropReason;

use super::{Flight, HEALING_SECS, Place, SiteScenario, own_numbers};
use crate::frames::{Body, Packet};
use crate::oracle::{ended, foreign_mark};
use crate::rig_claims::web;
use crate::rig_plan::{WEB, customer};
use crate::rig_site::on_premises;

impl SiteScenario {
    /// Whether a packet may come out there, for this tenant.
    pub(super) fn judge(&mut self, tenant: u8, place: Place, packet: Packet) -> Result<(), String> {
        let Some(data) = payload(&packet) else {
            // What an error quotes is the tenant's own.
            return match foreign_mark(&packet.bytes(), tenant) {
                Some(of) => Err(format!("tenant {tenant} is told of {of}'s packet: {packet:?}")),
                None => Ok(()),
            };
        };
        let serial = serial_of(data).ok_or_else(|| format!("no mark in {packet:?}"))?;
        let sent = self.sent.get_mut(&serial).ok_or_else(|| format!("unsent: {packet:?}"))?;
        if sent.tenant != tenant {
            return Err(format!("{packet:?} of tenant {} came out at {tenant}'s", sent.tenant));
        }
        if std::mem::replace(&mut sent.arrived, true) {
            return Err(format!("{packet:?} came out twice"));
        }
        let seen = own_numbers(packet);
        let (expected, fits) = match (place, seen.destination) {
            (Place::Internet, to) => {
                let expected = sent.packet.clone().with_source(seen.source, seen.ports().0);
                let inside =
                    to.to_string().starts_with("192.168") && self.present_route(tenant, to);
                (expected, !inside)
            }
            (Place::Vm, IpAddr::V4(to)) => (sent.packet.clone(), to.octets()[0] == 10),
            (Place::Site(site), IpAddr::V4(to)) => {
                (sent.packet.clone(), to.octets()[..3] == [192, 168, site + 1])
            }
            (Place::Vm | Place::Site(_), IpAddr::V6(_)) => (sent.packet.clone(), false),
        };
        let hops = expected.ttl.wrapping_sub(seen.ttl);
        if !fits || hops != 1 || (Packet { ttl: seen.ttl, ..expected }) != seen {
            return Err(format!(
                "{seen:?} at {place:?} was sent as {:?}",
                self.sent[&serial].packet
            ));
        }
        self.arrived += 1;
        Ok(())
    }

    /// Whether a route of the tenant leads an address to one of its sites.
    fn present_route(&self, tenant: u8, address: IpAddr) -> bool {
        let IpAddr::V4(v4) = address else { return false };
        let seen = self.as_seen(tenant, v4);
        self.plans[usize::from(tenant)].routes.iter().any(|route| {
            matches!(route.target, RouteTarget::Site(_)) && route.prefix.contains(seen)
        })
    }

    /// Every packet that workers took has one end, and every drop a reason.
    pub(super) fn audit(&self) -> Result<(), String> {
        let dropped = ended(&self.rig)?;
        let drops = self.books.drops_of(&self.rig);
        // Packets that waited for a session in vain had left the worker's hands before.
        let waited = [DropReason::TunnelDown, DropReason::TunnelQueueFull];
        let waited: u64 = waited.iter().filter_map(|reason| drops.get(reason)).sum();
        let counted: u64 = drops.values().sum();
        if (dropped..=dropped + waited).contains(&counted) {
            Ok(())
        } else {
            Err(format!("{dropped} drops, but by reason {drops:?}"))
        }
    }

    /// The network heals, and every tunnel with it: both directions of each site work.
    pub(super) fn heal(&mut self) -> Result<(), String> {
        let _ = writeln!(self.steps, "the network heals");
        self.present.fill(true);
        for tenant in &mut self.plans {
            for tunnel in tenant
                .vpn
                .iter_mut()
                .flat_map(|vpn| &mut vpn.sites)
                .flat_map(|site| &mut site.tunnels)
            {
                tunnel.bandwidth = Bandwidth::default();
            }
        }
        self.far.iter_mut().for_each(|far| far.peer.reachable = true);
        self.publish();
        self.settle()?;
        let mut outbound = vec![false; self.far.len()];
        let mut inbound = vec![false; self.far.len()];
        for _ in 0..HEALING_SECS {
            self.rig.now = self.rig.now + Duration::from_secs(1);
            self.drain()?;
            for at in 0..self.far.len() {
                let (tenant, site) = (self.far[at].tenant, self.far[at].site);
                if !inbound[at] {
                    let to = customer(WEB, 10);
                    let from = (on_premises(site + 1, 5), 2000);
                    let packet = self.mark(tenant, |data| Packet::udp(from, (to, 53), data));
                    inbound[at] = self.goes_through_tunnel(at, &packet)?;
                }
                if !outbound[at] {
                    let to = self.as_seen(tenant, on_premises(site + 1, 5));
                    let from = (customer(WEB, 10), 53);
                    let packet = self.mark(tenant, |data| Packet::udp(from, (to, 2000), data));
                    let frame = web(tenant).sends(&packet).bytes();
                    let serial = self.serial;
                    self.arrive(Flight::Gateway(PortRole::Fabric, frame))?;
                    self.drain()?;
                    outbound[at] = self.sent[&serial].arrived;
                }
            }
            if inbound.iter().chain(&outbound).all(|works| *works) {
                return Ok(());
            }
        }
        Err(format!("no recovery: from sites {inbound:?}, to sites {outbound:?}"))
    }

    fn goes_through_tunnel(&mut self, at: usize, packet: &Packet) -> Result<bool, String> {
        let serial = self.serial;
        let far = &mut self.far[at];
        if let Some(sealed) = far.peer.seal(self.rig.now, packet) {
            let frame = far.peer.frame(&sealed, 0);
            self.arrive(Flight::Gateway(PortRole::FrontEnd, frame))?;
        }
        self.drain()?;
        Ok(self.sent[&serial].arrived)
    }

    /// Delivers everything until nothing is under way.
    fn drain(&mut self) -> Result<(), String> {
        for _ in 0..100 {
            self.poll_peers();
            self.settle()?;
            if self.pending.is_empty() {
                return Ok(());
            }
            for flight in std::mem::take(&mut self.pending) {
                self.arrive(flight)?;
            }
        }
        Err("datagrams go round for ever".to_owned())
    }
}

fn payload(packet: &Packet) -> Option<&[u8]> {
    match &packet.body {
        Body::Udp { payload, .. } | Body::Tcp { payload, .. } | Body::Echo { payload, .. } => {
            Some(payload)
        }
        Body::Icmp { .. } | Body::Raw { .. } => None,
    }
}

fn serial_of(data: &[u8]) -> Option<u32> {
    let mark = data.first_chunk::<8>()?;
    (mark[..2] == *b"nv").then(|| u32::from_be_bytes([mark[4], mark[5], mark[6], mark[7]]))
}
