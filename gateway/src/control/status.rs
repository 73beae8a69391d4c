//! Assembling the status from the published snapshot, the plan, the host's links and the workers'
//! counters.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use nvgate_deploy::host::HostView;
use nvgate_deploy::host::links::LinkReport;
use nvgate_deploy::plan::Plan;
use nvgate_model::RoutingDomainId;
use tokio::sync::watch;

use super::threads::{GatewayClock, link_of};
use crate::admin::Status;
use crate::admin::bgp::PeerReport;
use crate::admin::health::{self, Component};
use crate::admin::sites::SiteStatus;
use crate::admin::status::{ConfigStatus, Drops, PortStatus, TenantStatus, WorkerStatus};
use crate::appliance;
use crate::counters::{DomainTotals, DropTotals, PortTotals, WorkerCounters};
use crate::io::PortRole;
use crate::peering::{PublishedBgp, PublishedPlan};
use crate::seed;
use crate::snapshot::{Domain, Snapshot};
use crate::worker::Published;

/// What IPv6 asks of a link, in bytes (RFC 8200 section 5).
const MIN_TENANT_MTU: u32 = 1280;

/// What the health endpoint shows, shared by control and the endpoint.
#[derive(Debug)]
pub struct Shared {
    /// The plan in effect.
    pub plan: PublishedPlan,
    /// The snapshot in effect.
    pub published: Published,
    /// The workers' counters.
    pub counters: Vec<Arc<WorkerCounters>>,
    /// The host's network.
    pub host: watch::Receiver<Arc<HostView>>,
    /// The gateway's clock.
    pub clock: GatewayClock,
    /// How loading the configuration went.
    pub config: Mutex<ConfigStatus>,
    /// Components that only control knows about, by name.
    pub components: Mutex<BTreeMap<String, Component>>,
    /// The links that gateway.yaml describes, as they were when control looked last.
    pub links: Mutex<Vec<LinkReport>>,
    /// BGP, as its thread saw it last.
    pub bgp: PublishedBgp,
}

impl Shared {
    /// Notes that the configuration in effect was loaded now.
    pub fn note_loaded(&self, generation: u32) {
        let mut config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        let loaded_at =
            SystemTime::now().duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs());
        *config = ConfigStatus { generation: Some(generation), loaded_at, last_error: None };
    }

    /// Notes that the newest configuration was refused.
    pub fn note_refused(&self, errors: Vec<String>) {
        let mut config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        config.last_error = Some(errors);
    }

    /// Notes a component's health; an `ok` one is shown too.
    pub fn note(&self, component: Component) {
        let mut components = self.components.lock().unwrap_or_else(PoisonError::into_inner);
        components.insert(component.name.clone(), component);
    }

    /// Notes how the links are that gateway.yaml describes.
    pub fn note_links(&self, reports: &[LinkReport]) {
        reports.clone_into(&mut self.links.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// How the gateway is, in one line for people.
    pub fn summary(&self, running: bool) -> String {
        let config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = config.last_error.as_deref().map(health::summary);
        let refused =
            refused.map(|error| format!("; the newest configuration is refused: {error}"));
        let tenants = self.plan.load().tenants.len();
        let doing = if running { "serving" } else { "waiting for a link to come up to serve" };
        format!("{doing} {tenants} tenants{}", refused.unwrap_or_default())
    }

    /// The status as it is now.
    #[must_use]
    pub fn status(&self) -> Status {
        let plan = self.plan.load();
        let snapshot = self.published.load();
        let host = self.host.borrow().clone();
        let now = self.clock.now();
        let domains: BTreeMap<RoutingDomainId, &Arc<Domain>> =
            snapshot.domains().map(|domain| (domain.id, domain)).collect();
        let mut peers: BTreeMap<Option<String>, Vec<PeerReport>> = BTreeMap::new();
        let bgp = self.bgp.load();
        for peer in &bgp.peers {
            peers.entry(peer.tenant.clone()).or_default().push(peer.clone());
        }
        let tenants = plan.tenants.iter().filter_map(|tenant| {
            let domain = domains.get(&tenant.routing_domain)?;
            let totals: DomainTotals = domain.counters.iter().collect();
            let sites = domain.sites.iter();
            let sites = sites.map(|site| SiteStatus::new(site, snapshot.workers, now)).collect();
            let mtu = u32::from(tenant_mtu(&snapshot, domain));
            let mut status = TenantStatus::new(tenant, mtu, &totals, sites);
            status.bgp = peers.remove(&Some(status.name.clone())).unwrap_or_default();
            status.refused = bgp.refused.get(&status.name).map(Drops::from).unwrap_or_default();
            Some(status)
        });
        let drops: DropTotals = self.counters.iter().map(|worker| &worker.drops).collect();
        let mut status = Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_secs: now.0 / 1_000_000_000,
            config: self.config.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            components: Vec::new(),
            ports: PortRole::ALL.iter().map(|&role| self.port(&plan, &host, role)).collect(),
            workers: (0..)
                .zip(&self.counters)
                .map(|(index, counters)| WorkerStatus::new(index, counters, now))
                .collect(),
            links: self.links.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            tenants: tenants.collect(),
            bgp: Vec::new(),
            drops: Drops::from(&drops),
        };
        status.bgp = peers.remove(&None).unwrap_or_default();
        status.components = health::assess(&status);
        status.components.push(underlay(&snapshot, plan.gateway.fabric.tenant_mtu));
        status
            .components
            .extend(bgp.fault.clone().map(|fault| Component::degraded("front_end bgp", fault)));
        status.components.extend(bgp.bmp.clone().map(|told| match told {
            Ok(()) => Component::ok("bmp"),
            Err(fault) => Component::degraded("bmp", fault),
        }));
        status.components.extend(bgp.drain.health());
        status.components.extend(seed::health::component(Path::new(seed::REPORT)));
        status.components.extend(appliance::component(Path::new(appliance::REPORT)));
        let noted = self.components.lock().unwrap_or_else(PoisonError::into_inner);
        status.components.extend(noted.values().cloned());
        status
    }

    fn port(&self, plan: &Plan, host: &HostView, role: PortRole) -> PortStatus {
        let totals: PortTotals = self.counters.iter().map(|worker| worker.port(role)).collect();
        let link = link_of(&plan.gateway, role);
        PortStatus::new(role.name(), link, host.links.get(link), totals)
    }
}

/// The smallest MTU towards any host of the tenant's endpoints.
fn tenant_mtu(snapshot: &Snapshot, domain: &Domain) -> u16 {
    let hosts = domain.lookup.endpoints().iter().flat_map(|endpoint| endpoint.hosts());
    let mtus = hosts.filter_map(|&host| snapshot.fabric.host(host).map(|host| host.mtu));
    mtus.min().unwrap_or(0)
}

/// Whether the underlay carries what tenants' VMs send, or at least what IPv6 needs.
fn underlay(snapshot: &Snapshot, tenant_mtu: u32) -> Component {
    const NAME: &str = "underlay mtu";
    match snapshot.fabric.smallest_mtu().map(u32::from) {
        Some(mtu) if mtu < tenant_mtu => {
            let whose = if tenant_mtu == MIN_TENANT_MTU {
                "that IPv6 needs"
            } else {
                "of their VMs (`fabric.tenant_mtu`)"
            };
            Component::degraded(
                NAME,
                format!(
                    "the fabric leaves tenants {mtu} bytes, less than the {tenant_mtu} {whose}: raise \
                     the MTU of the fabric link and of the network behind it"
                ),
            )
        }
        Some(_) | None => Component::ok(NAME),
    }
}
