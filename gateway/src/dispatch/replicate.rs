//! Frames that stay within their subnet: relayed to one endpoint, or replicated to its hosts.

use nvgate_model::{DropReason, FlowId, MacAddress};
use nvgate_nvgre::lookup::{EndpointIndex, HostIndex};
use nvgate_packet::buf::PacketBuf;
use nvgate_packet::flow_key::flow_hash;
use nvgate_packet::headers::Headers;

use super::egress::send;
use super::forward::{choose_host, overlay_link};
use super::sender::Sender;
use super::{Dispatcher, Io, Verdict};
use crate::snapshot::{Domain, Snapshot, Subnet};

/// The inner MACs of a frame, destination and source.
pub(super) type Macs = (MacAddress, MacAddress);

impl Dispatcher {
    /// Sends a broadcast or multicast frame to every other host of the subnet, within the tenant's
    /// budget. The view begins at the IP header.
    #[expect(clippy::too_many_arguments, reason = "one packet's whole context")]
    pub(super) fn replicate(
        &mut self,
        snapshot: &Snapshot,
        domain: &Domain,
        subnet: &Subnet,
        sender: &Sender,
        packet: &mut PacketBuf<'_>,
        headers: &Headers,
        macs: Macs,
        io: &mut Io<'_>,
    ) -> Result<Verdict, DropReason> {
        let now = self.now;
        // A super-packet costs what it stands for.
        let frames = super::wire_packets(packet);
        let allowed =
            self.state(domain).is_some_and(|state| state.replications.take_many(now, frames));
        if !allowed {
            return Err(DropReason::ReplicationLimited);
        }
        let hash = flow_hash(packet.bytes(), headers, self.config.seed);
        let from = snapshot.fabric.index_of(sender.provider);
        let mut outcome = Err(DropReason::ReplicationEmpty);
        for host in subnet.replicas.others(from) {
            match self.send_to_host(snapshot, subnet, host, packet, headers, (macs, hash), io) {
                Ok(()) => {
                    self.counters_of(domain).inbound.count(1, u64::from(headers.length));
                    outcome = Ok(Verdict::Transmit);
                }
                Err(reason) => outcome = outcome.or(Err(reason)),
            }
        }
        outcome
    }

    #[expect(clippy::too_many_arguments, reason = "one packet's whole context")]
    fn send_to_host(
        &mut self,
        snapshot: &Snapshot,
        subnet: &Subnet,
        host: HostIndex,
        packet: &mut PacketBuf<'_>,
        headers: &Headers,
        (macs, hash): (Macs, u64),
        io: &mut Io<'_>,
    ) -> Result<(), DropReason> {
        let provider = snapshot.fabric.host(host).ok_or(DropReason::FabricNoRoute)?;
        let flow = provider.constant_flow.unwrap_or(FlowId((hash >> 16) as u8));
        let link = overlay_link(snapshot, host, subnet.vsid, flow, macs)?;
        let length = packet.len();
        let mtu = usize::from(provider.mtu);
        let sent = send(&mut self.scratch, io.fabric, &link, packet, headers, mtu);
        // The next host's header takes the place of this one's.
        packet.strip(packet.len() - length);
        sent
    }

    /// Sends a frame to a known endpoint of its subnet; MACs and TTL stay.
    #[expect(clippy::too_many_arguments, reason = "one packet's whole context")]
    pub(super) fn relay(
        &mut self,
        snapshot: &Snapshot,
        domain: &Domain,
        subnet: &Subnet,
        index: EndpointIndex,
        packet: &mut PacketBuf<'_>,
        headers: &Headers,
        macs: Macs,
        io: &mut Io<'_>,
    ) -> Result<Verdict, DropReason> {
        let endpoint = domain.lookup.endpoint(index).ok_or(DropReason::UnknownUnicast)?;
        let hash = flow_hash(packet.bytes(), headers, self.config.seed);
        let host = choose_host(snapshot, endpoint, hash).ok_or(DropReason::UnknownUnicast)?;
        let packets = super::wire_packets(packet);
        self.send_to_host(snapshot, subnet, host, packet, headers, (macs, hash), io)?;
        self.counters_of(domain).inbound.count(packets, u64::from(headers.length));
        Ok(Verdict::Transmit)
    }
}
