//! The front end of a snapshot: the kernel's routes and neighbours, and the learned routes.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use nvgate_deploy::host::{HostView, LinkFacts};

use super::{MAX_HOPS, SnapshotBuilder, clamp_mtu};
use crate::snapshot::front_end::FrontEndRoute;
use crate::snapshot::{Fib, FrontEnd, FrontEndLink, HopIndex, NextHop};

impl SnapshotBuilder {
    pub(super) fn build_front_end(&mut self, link: &LinkFacts, host: &HostView) -> FrontEnd {
        let mut routes = Fib::default();
        let mut ordered: Vec<_> = host.routes.iter().collect();
        // The last inserted wins: worst metric first, and of equal ones the lowest next hop last.
        ordered.sort_by_key(|route| std::cmp::Reverse((route.metric, route.gateway, route.link)));
        for route in ordered {
            let entry = if route.link == link.index {
                let mtu = clamp_mtu(route.mtu.unwrap_or(link.mtu).min(link.mtu));
                FrontEndRoute::Port { gateway: route.gateway, mtu }
            } else if route.prefix.length() == 0 && routes.exact(route.prefix).is_some() {
                // Two default routes: the front end's serves tenants, whatever its metric.
                continue;
            } else {
                FrontEndRoute::Elsewhere
            };
            routes.insert(route.prefix, entry);
        }
        for discard in &host.discards {
            if host
                .routes
                .iter()
                .all(|route| route.prefix != discard.prefix || route.metric > discard.metric)
            {
                routes.insert(discard.prefix, FrontEndRoute::Elsewhere);
            }
        }
        let gateways: BTreeSet<IpAddr> = host
            .routes
            .iter()
            .filter(|route| route.link == link.index)
            .filter_map(|route| route.gateway)
            .collect();
        let link_now =
            FrontEndLink { running: link.running, addresses: link.addresses.clone(), routes };
        let learned = self.upstream.next_hops();
        let learned = learned.into_iter().filter_map(|hop| Some(link_now.towards(hop)?.0));
        let gateways: BTreeSet<IpAddr> = gateways.into_iter().chain(learned).collect();
        let neighbours =
            host.neighbours.keys().filter(|(index, _)| *index == link.index).map(|&(_, ip)| ip);
        let current: BTreeSet<IpAddr> = gateways.iter().copied().chain(neighbours).collect();
        let fresh = current.iter().filter(|address| !self.hop_index.contains_key(address)).count();
        if self.hops.len() + fresh > MAX_HOPS {
            // Those that came and went must not keep new ones out; every index changes its meaning.
            self.hops.clear();
            self.hop_index.clear();
            self.epoch = self.epoch.next();
        }
        for address in current {
            if self.hops.len() < MAX_HOPS && !self.hop_index.contains_key(&address) {
                self.hop_index.insert(address, HopIndex(self.hops.len() as u32));
                self.hops.push(address);
            }
        }
        let hops = self.hops.iter().map(|&address| NextHop {
            address,
            mac: host.neighbours.get(&(link.index, address)).map(|neighbour| neighbour.mac),
        });
        FrontEnd {
            mac: link.mac,
            link: Arc::new(link_now),
            learned: self.upstream.shared(),
            hops: hops.collect(),
            gateways: gateways.iter().filter_map(|hop| self.hop_index.get(hop).copied()).collect(),
            hop_index: self.hop_index.clone(),
        }
    }
}
