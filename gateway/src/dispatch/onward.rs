//! The second half of the slow path of packets from inside a routing domain, whoever sent them: an
//! endpoint over the overlay, or a site through a tunnel.

use std::net::IpAddr;

use nvgate_model::DropReason;
use nvgate_packet::buf::PacketBuf;
use nvgate_packet::headers::{self, Headers};
use nvgate_packet::rewrite::clamp_mss;

use super::forward::{Flow, check, largest_segment};
use super::route::Decision;
use super::{Dispatcher, Io, Verdict};
use crate::snapshot::{Domain, Snapshot, Speaker};

impl Dispatcher {
    /// Sends a packet where `decision` says, or tells `speaker` why not. The view begins at the IP
    /// header; this worker owns what NAT needs.
    pub(super) fn send_onward(
        &mut self,
        snapshot: &Snapshot,
        domain: &Domain,
        packet: &mut PacketBuf<'_>,
        (headers, flow): (&Headers, &Flow),
        (decision, speaker): (Decision, Speaker),
        io: &mut Io<'_>,
    ) -> Result<Verdict, DropReason> {
        match decision {
            Decision::Gateway => return self.punt(snapshot, domain, speaker, packet, headers, io),
            Decision::Discard(reason) => return Err(reason),
            Decision::Unreachable(reason) => {
                self.tell_sender(snapshot, domain, speaker, packet, headers, (reason, 0), io);
                return Err(reason);
            }
            Decision::Overlay(_)
            | Decision::Site(_)
            | Decision::Translate
            | Decision::Untranslated => {}
        }
        let planned =
            match self.plan_outbound(snapshot, domain, packet, headers, (decision, speaker)) {
                Ok(planned) => planned,
                Err(reason) => {
                    self.tell_sender(snapshot, domain, speaker, packet, headers, (reason, 0), io);
                    return Err(reason);
                }
            };
        if let Err(reason) = check(packet.bytes(), packet.offload(), headers, &planned.compiled) {
            let mtu = planned.compiled.mtu;
            self.tell_sender(snapshot, domain, speaker, packet, headers, (reason, mtu), io);
            return Err(reason);
        }
        let source = headers::source(packet.bytes(), headers.family);
        let back = mtu_towards(snapshot, domain, speaker, source).unwrap_or(u16::MAX);
        let carried = planned.compiled.mtu.min(back);
        clamp_mss(packet, headers, largest_segment(carried, headers.family));
        self.execute(snapshot, domain, packet, headers, flow, &planned, io)
    }
}

/// The longest IP packet that reaches who sent one from `source`, in bytes.
pub(super) fn mtu_towards(
    snapshot: &Snapshot,
    domain: &Domain,
    speaker: Speaker,
    source: IpAddr,
) -> Option<u16> {
    match speaker {
        Speaker::Endpoint(endpoint) => {
            let host = *domain.lookup.endpoint(endpoint)?.hosts().first()?;
            snapshot.fabric.host(host).map(|host| host.mtu)
        }
        Speaker::Site(site) => domain.site(site)?.mtu(source),
    }
}
