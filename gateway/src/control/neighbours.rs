//! Which neighbours of the host the kernel is asked to resolve.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use nvgate_model::DropReason;

use super::MAX_RESOLUTIONS;
use crate::dispatch::ResolveRequest;
use crate::io::PortRole;
use crate::snapshot::Snapshot;

/// The front end's routers first, for all tenants need them; of more than fit others every `round`.
pub(super) fn wanted_neighbours(
    snapshot: &Snapshot,
    confirm: bool,
    round: usize,
) -> Vec<ResolveRequest> {
    let hosts = snapshot.fabric.hosts().iter().filter(|host| match host.template {
        Ok(_) => confirm,
        Err(reason) => reason == DropReason::FabricUnresolved,
    });
    let fabric = hosts.map(|host| (PortRole::Fabric, host.next));
    let hops = snapshot.front_end.gateways().filter(|hop| confirm || hop.mac.is_none());
    let front_end = hops.map(|hop| (PortRole::FrontEnd, hop.address));
    let unique: BTreeSet<_> =
        fabric.chain(front_end).map(|(port, address)| (Reverse(port), address)).collect();
    let mut wanted: Vec<_> = unique
        .into_iter()
        .map(|(Reverse(port), address)| ResolveRequest { port, address })
        .collect();
    let routers = wanted.partition_point(|request| request.port == PortRole::FrontEnd);
    let hosts = &mut wanted[routers..];
    if !hosts.is_empty() {
        hosts.rotate_left(round.wrapping_mul(MAX_RESOLUTIONS / 2) % hosts.len());
    }
    wanted.truncate(MAX_RESOLUTIONS);
    wanted
}
