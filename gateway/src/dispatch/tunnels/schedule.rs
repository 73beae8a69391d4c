//! What tunnels do without a packet: handshakes, keepalives, probes; and what is said of them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use nvgate_model::Instant;
use nvgate_packet::headers::{self, Headers, Transport};
use nvgate_packet::icmp;
use nvgate_vpn::{Reachability, Sealed, TunnelEvent, TunnelIndex, TunnelState};

use super::enter::{Wire, note};
use super::{Held, Tunnels};
use crate::dispatch::{Dispatcher, Io};
use crate::snapshot::{Domain, Site, SiteTunnel, Snapshot};

/// Tunnels looked at in one turn of the worker's loop.
const TUNNELS_A_TURN: usize = 32;
/// Datagrams that one look sends of a tunnel's own: what waited for a session, and handshakes.
const DATAGRAMS_A_LOOK: usize = 32;
/// When a tunnel that asks for nothing is looked at again: its path may have changed.
const IDLE_LOOK: Duration = Duration::from_secs(1);
/// An echo request with its IP header.
const MAX_PROBE: usize = 64;

impl Dispatcher {
    /// Does what is due for this worker's tunnels.
    pub fn maintain_tunnels(&mut self, snapshot: &Snapshot, now: Instant, io: &mut Io<'_>) {
        self.now = now;
        self.tunnels.maintain(snapshot, now, io);
        self.resolve_for_tunnels(snapshot);
    }
}

impl Tunnels {
    fn maintain(&mut self, snapshot: &Snapshot, now: Instant, io: &mut Io<'_>) {
        for _ in 0..TUNNELS_A_TURN {
            let Some(&(due, index)) = self.schedule.first() else { break };
            if due > now {
                break;
            }
            self.look(snapshot, index, now, io);
        }
        if self.published != now.tick() {
            self.published = now.tick();
            for (&index, held) in &self.tunnels {
                let Some((_, _, spec)) = snapshot.tunnel(index) else { continue };
                // Who reads it now will read it again.
                if let Ok(mut status) = spec.shared.status.try_lock() {
                    *status = Some(held.tunnel.status(now));
                }
            }
        }
    }

    /// After a datagram of its: looks at a tunnel if that changed something.
    pub(super) fn after(
        &mut self,
        snapshot: &Snapshot,
        index: TunnelIndex,
        now: Instant,
        io: &mut Io<'_>,
    ) {
        let Some(held) = self.tunnels.get_mut(&index) else { return };
        let Some((domain, _, spec)) = snapshot.tunnel(index) else { return };
        if held.drain_events(spec, domain, self.worker) {
            self.look(snapshot, index, now, io);
        } else {
            held.reschedule(index, &mut self.schedule);
        }
    }

    /// Does what a tunnel wants done now, says what it is, and schedules the next look.
    pub(super) fn look(
        &mut self,
        snapshot: &Snapshot,
        index: TunnelIndex,
        now: Instant,
        io: &mut Io<'_>,
    ) {
        let Self { worker, tunnels, schedule, wire, unresolved, .. } = self;
        let Some(held) = tunnels.get_mut(&index) else { return };
        schedule.remove(&(held.due, index));
        held.due = now + IDLE_LOOK;
        if let Some((domain, site, spec)) = snapshot.tunnel(index)
            && let Some(site) = domain.site(site)
        {
            let mut wire = Wire { snapshot, local: spec.local, storage: wire };
            held.tunnel.handle_timeout(now);
            held.tunnel.keep_up(now);
            held.drain_events(spec, domain, *worker);
            held.transmit(&mut wire, now, io)
                .and_then(|()| held.probe(domain, site, spec, &mut wire, now, io))
                // What is not sent now is sent by the timer behind it.
                .unwrap_or_else(|no_way| {
                    note(no_way, unresolved, domain.slot);
                });
            held.publish(snapshot, spec, now);
        }
        held.due = held.wanted().map_or(held.due, |at| at.min(held.due)).max(now + STEP);
        schedule.insert((held.due, index));
    }
}

/// The least time between two looks at one tunnel.
const STEP: Duration = Duration::from_millis(1);

impl Held {
    /// Logs and counts what happened to the tunnel; whether anything did.
    fn drain_events(&mut self, spec: &SiteTunnel, domain: &Domain, worker: u16) -> bool {
        let mut any = false;
        while let Some(event) = self.tunnel.poll_event() {
            any = true;
            let (tenant, tunnel) = (&domain.tenant, &spec.plan.name);
            match event {
                TunnelEvent::Up => tracing::info!(%tenant, tunnel, "tunnel is up"),
                TunnelEvent::Down(reason) => {
                    tracing::info!(%tenant, tunnel, ?reason, "tunnel is down");
                }
                TunnelEvent::EndpointMoved(endpoint) => {
                    tracing::debug!(%tenant, tunnel, %endpoint, "the site is at another address");
                }
                TunnelEvent::Discarded { packets, reason } => {
                    domain.counters[usize::from(worker)].drops.count(reason, packets.into());
                }
            }
        }
        any
    }

    /// Sends what the tunnel itself has to say.
    fn transmit(
        &mut self,
        wire: &mut Wire<'_>,
        now: Instant,
        io: &mut Io<'_>,
    ) -> Result<(), super::path::NoWay> {
        for _ in 0..DATAGRAMS_A_LOOK {
            let endpoint = self.tunnel.endpoint();
            let Ok(room) = wire.room(endpoint) else { return Ok(()) };
            let Some((length, _)) = self.tunnel.poll_transmit(now, room) else { return Ok(()) };
            wire.send(self, length, 0, io.front_end)?;
        }
        Ok(())
    }

    /// Sends the echo request that is due.
    fn probe(
        &mut self,
        domain: &Domain,
        site: &Site,
        spec: &SiteTunnel,
        wire: &mut Wire<'_>,
        now: Instant,
        io: &mut Io<'_>,
    ) -> Result<(), super::path::NoWay> {
        let (Some(liveness), Some(probe)) = (&mut self.liveness, spec.plan.probe) else {
            return Ok(());
        };
        let Some(sequence) = liveness.poll(now) else { return Ok(()) };
        if self.tunnel.status(now).own_key.is_none() {
            // Without a session it would wait for one, and be late.
            return Ok(());
        }
        let to = probe.address.ip();
        let Some(from) = probing_address(domain, site, to) else { return Ok(()) };
        let mut request = [0; MAX_PROBE];
        let Some(length) =
            icmp::write_echo_request(&mut request, from, to, self.identifier, sequence)
        else {
            return Ok(());
        };
        let Ok(room) = wire.room(self.tunnel.endpoint()) else { return Ok(()) };
        let mtu = usize::from(spec.shared.mtu());
        match self.tunnel.seal(now, &request[..length], &[], mtu, room) {
            Ok(Sealed::Datagram(length)) => wire.send(self, length, 0, io.front_end),
            Ok(Sealed::Queued) => Ok(()),
            Err(reason) => Err(super::path::NoWay::Drop(reason)),
        }
    }

    /// Whether an opened packet is the answer to a probe of this tunnel.
    pub(super) fn is_probe_reply(
        &mut self,
        domain: &Domain,
        site: &Site,
        (bytes, headers): (&[u8], &Headers),
        now: Instant,
    ) -> bool {
        let (Some(liveness), Some(probe)) = (&mut self.liveness, &self.probe) else {
            return false;
        };
        let address = probe.address.ip();
        let destination = headers::destination(bytes, headers.family);
        if headers.transport != Transport::EchoReply
            || headers.destination_port != self.identifier
            || headers::source(bytes, headers.family) != address
            || probing_address(domain, site, address) != Some(destination)
        {
            return false;
        }
        let sequence = headers::read_u16(bytes, usize::from(headers.transport_at) + 6);
        liveness.handle_reply(sequence, now);
        true
    }

    /// Says whether packets may be sent, and how long.
    fn publish(&mut self, snapshot: &Snapshot, spec: &SiteTunnel, now: Instant) {
        let endpoint = self.tunnel.endpoint();
        let mtu = endpoint.and_then(|endpoint| self.path.inner_mtu(snapshot, endpoint, now));
        let alive = self.liveness.as_ref().is_none_or(|liveness| match liveness.state() {
            Reachability::Up => true,
            Reachability::Untested | Reachability::Down | Reachability::Holding(_) => false,
        });
        let session = self.tunnel.status(now).state == TunnelState::Up;
        let up = session && alive && mtu.is_some();
        spec.shared.publish(up, mtu.unwrap_or(0));
    }

    /// When something is due.
    fn wanted(&self) -> Option<Instant> {
        let probe = self.liveness.as_ref().map(nvgate_vpn::Liveness::poll_timeout);
        self.tunnel.poll_timeout().into_iter().chain(probe).min()
    }

    /// Moves the next look forward when something is due before; what is due later is found then.
    pub(super) fn reschedule(
        &mut self,
        index: TunnelIndex,
        schedule: &mut BTreeSet<(Instant, TunnelIndex)>,
    ) {
        if let Some(at) = self.wanted()
            && at < self.due
        {
            schedule.remove(&(self.due, index));
            self.due = at;
            schedule.insert((at, index));
        }
    }
}

/// The gateway's own address, as the site sees it, that an address there is probed from.
fn probing_address(domain: &Domain, site: &Site, probed: IpAddr) -> Option<IpAddr> {
    domain.gateway_towards(probed).map(|address| site.local.forward(address))
}
