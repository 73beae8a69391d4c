//! What claims about single packets begin with: well-known endpoints, and gateways with one worker
//! and with two.

use nvgate_deploy::plan::TenantPlan;
use nvgate_model::DropReason;

use crate::frames::Packet;
use crate::rig::{Output, Rig, Station};
use crate::rig_plan::{APP, REMOTE, WEB, customer, plan, provider, provider_v6, tenant};

/// The MTU of a tenant behind NVGRE over IPv4.
pub const TENANT_MTU: u16 = 1458;

/// The endpoint 10.1.0.10.
#[must_use]
pub fn web(tenant: u8) -> Station {
    Station::new(tenant, WEB, 10, &[provider(11).into()])
}

/// The endpoint 10.1.0.11.
#[must_use]
pub fn web_neighbour(tenant: u8) -> Station {
    Station::new(tenant, WEB, 11, &[provider(12).into()])
}

/// The endpoint 10.2.0.20, on a host with two provider addresses.
#[must_use]
pub fn app(tenant: u8) -> Station {
    Station::new(tenant, APP, 20, &[provider(13).into(), provider(14).into()])
}

/// The endpoint 10.2.0.22, on a host that is reached over IPv6.
#[must_use]
pub fn app_on_ipv6(tenant: u8) -> Station {
    Station::new(tenant, APP, 22, &[provider_v6(15).into()])
}

/// Two tenants with the same inner addresses.
#[must_use]
pub fn two_tenants() -> Vec<TenantPlan> {
    vec![tenant(0), tenant(1)]
}

/// Runs a claim with one worker and with two.
pub fn each(claim: impl Fn(&mut Rig)) {
    each_of(two_tenants(), claim);
}

/// Runs a claim about a gateway of these tenants with one worker and with two.
pub fn each_of(tenants: Vec<TenantPlan>, claim: impl Fn(&mut Rig)) {
    for workers in [1, 2] {
        claim(&mut Rig::new(&plan(tenants.clone()), workers));
    }
}

/// One packet was dropped for this reason, and nothing left.
///
/// # Panics
///
/// That is not so.
pub fn dropped(rig: &Rig, output: &Output, reason: DropReason) {
    assert!(output.is_empty(), "{output:?}");
    assert_eq!(rig.all_drops(), [(reason, 1)]);
}

/// One packet was dropped for this reason, of which the sender is told.
///
/// # Panics
///
/// That is not so.
pub fn refused(rig: &Rig, reason: DropReason) {
    assert_eq!(rig.all_drops(), [(reason, 1)]);
}

/// Every packet that a worker took has ended in one way.
///
/// # Panics
///
/// That is not so.
pub fn accounted(rig: &Rig) {
    for worker in &rig.counters {
        let taken =
            worker.packets.read() + worker.handoffs_received.read() + worker.injected.read();
        let ended = worker.transmitted.read()
            + worker.handoffs_sent.read()
            + worker.punted.read()
            + worker.ignored.read()
            + worker.dropped.read();
        assert_eq!(taken, ended, "{worker:?}");
    }
}

/// A datagram from 10.1.0.10 to the internet.
#[must_use]
pub fn udp_out(port: u16) -> Packet {
    Packet::udp((customer(WEB, 10), port), (REMOTE, 4000), b"out")
}
