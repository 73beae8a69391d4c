//! Which neighbours of the host the kernel is asked to resolve.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use nvgate_model::DropReason;

use super::{Control, LOOKS_A_ROUND, MAX_RESOLUTIONS};
use crate::dispatch::ResolveRequest;
use crate::io::PortRole;
use crate::snapshot::Snapshot;

impl Control {
    /// Has the kernel resolve a neighbour.
    pub(super) async fn resolve(&self, request: ResolveRequest) {
        let link = self.links[request.port.index()];
        let known = self.observer.view().borrow().neighbours.get(&(link, request.address)).copied();
        if known.is_some_and(|neighbour| neighbour.permanent) {
            return;
        }
        if let Err(error) = self.netlink.resolve(link, request.address).await {
            tracing::debug!(%error, address = %request.address, "cannot resolve a neighbour");
        }
    }

    /// Asks the kernel for the neighbours that are not resolved yet, and with `confirm` for those
    /// that are, since it does not see the traffic that would confirm them.
    pub(super) async fn resolve_neighbours(&self, confirm: bool) {
        let snapshot = self.shared.published.load_full();
        let round = (self.looks / LOOKS_A_ROUND) as usize;
        for request in wanted_neighbours(&snapshot, confirm, round) {
            self.resolve(request).await;
        }
    }
}

/// The front end's routers first, for all tenants need them; of more than fit others every `round`.
fn wanted_neighbours(snapshot: &Snapshot, confirm: bool, round: usize) -> Vec<ResolveRequest> {
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
