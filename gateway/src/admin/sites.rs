//! What the gateway says about sites and their tunnels. Keys have no field to be in, but for the
//! peer's public one.

use std::sync::PoisonError;

use nvgate_model::Instant;
use nvgate_vpn::{DownReason, OwnKey, TunnelState, TunnelStatus};
use serde::{Deserialize, Serialize};

use super::health::Component;
use crate::counters::TrafficTotal;
use crate::snapshot::{Site, SiteTunnel};

/// A site of a tenant.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SiteStatus {
    /// What the tenant calls it.
    pub name: String,
    /// Whether a tunnel to it is up.
    pub up: bool,
    /// Whether it may use the tenant's NAT.
    pub internet: bool,
    /// Its tunnels.
    pub tunnels: Vec<TunnelReport>,
}

/// One tunnel of a site.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct TunnelReport {
    /// What the tenant calls it.
    pub name: String,
    /// Whether packets may be sent into it.
    pub up: bool,
    /// Why not, when it is not.
    pub reason: Option<String>,
    /// The site's public key.
    pub peer: String,
    /// The gateway's socket.
    pub local: String,
    /// Where the site is now.
    pub endpoint: Option<String>,
    /// The worker that has it.
    pub worker: u16,
    /// The longest inner packet it carries, in bytes; 0 while that is unknown.
    pub mtu: u16,
    /// Lower wins among the site's tunnels.
    pub metric: u32,
    /// Whether the site still speaks to the gateway's previous key.
    pub previous_key: bool,
    /// Seconds since the last handshake was completed.
    pub handshake_age_secs: Option<u64>,
    /// Inner packets from the site.
    pub inbound: TrafficTotal,
    /// Inner packets to the site.
    pub outbound: TrafficTotal,
    /// Handshakes by what became of them.
    pub handshakes: Handshakes,
    /// Datagrams that had been received before.
    pub replays: u64,
    /// Datagrams that the keys do not open.
    pub authentication_failures: u64,
}

/// Handshakes of a tunnel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Handshakes {
    /// Initiations sent.
    pub tried: u64,
    /// Sessions that came of a handshake, whoever began.
    pub completed: u64,
    /// Handshakes that were refused or never answered.
    pub failed: u64,
}

impl SiteStatus {
    /// The site at `now`, on a gateway with this many workers.
    #[must_use]
    pub fn new(site: &Site, workers: u16, now: Instant) -> Self {
        Self {
            name: site.name.clone(),
            up: site.is_up(),
            internet: site.internet,
            tunnels: site
                .tunnels
                .iter()
                .map(|tunnel| TunnelReport::new(tunnel, workers, now))
                .collect(),
        }
    }

    /// Whether something is wrong with it that an operator wants to know.
    #[must_use]
    pub fn health(&self, tenant: &str) -> Component {
        let name = format!("site {tenant}/{}", self.name);
        let down: Vec<String> = self
            .tunnels
            .iter()
            .filter(|tunnel| !tunnel.up)
            .map(|tunnel| {
                let reason = tunnel.reason.as_deref().unwrap_or("it is not known yet why");
                format!("tunnel {} is down: {reason}", tunnel.name)
            })
            .collect();
        if down.is_empty() {
            Component::ok(name)
        } else {
            Component::degraded(name, down.join("; "))
        }
    }
}

impl TunnelReport {
    fn new(tunnel: &SiteTunnel, workers: u16, now: Instant) -> Self {
        let shared = &tunnel.shared;
        let up = shared.is_up();
        let status = *shared.status.lock().unwrap_or_else(PoisonError::into_inner);
        let counters = status.map(|status| status.counters).unwrap_or_default();
        let total = |traffic: nvgate_vpn::Traffic| TrafficTotal {
            packets: traffic.packets,
            bytes: traffic.bytes,
        };
        Self {
            name: tunnel.plan.name.clone(),
            up,
            reason: (!up).then(|| why_down(tunnel, status.as_ref())),
            peer: tunnel.plan.peer.to_string(),
            local: tunnel.local.to_string(),
            endpoint: status
                .and_then(|status| status.endpoint)
                .map(|endpoint| endpoint.to_string()),
            worker: tunnel.index.owner(workers),
            mtu: shared.mtu(),
            metric: tunnel.plan.metric,
            previous_key: status.and_then(|status| status.own_key) == Some(OwnKey::Previous),
            handshake_age_secs: status
                .and_then(|status| status.last_handshake)
                .map(|at| now.since(at).as_secs()),
            inbound: total(counters.inbound),
            outbound: total(counters.outbound),
            handshakes: Handshakes {
                tried: counters.handshakes_tried,
                completed: counters.handshakes_completed,
                failed: counters.handshakes_failed,
            },
            replays: counters.replays,
            authentication_failures: counters.auth_failures,
        }
    }
}

/// Why a tunnel is down and what to look at.
fn why_down(tunnel: &SiteTunnel, status: Option<&TunnelStatus>) -> String {
    let peer = tunnel.plan.peer;
    let local = tunnel.local;
    let state = status.map(|status| status.state);
    match (state, status.and_then(|status| status.endpoint)) {
        (None, _) => "its worker has not looked at it yet".to_owned(),
        (Some(TunnelState::Up), _) if tunnel.plan.probe.is_some() => format!(
            "the probe to {} is not answered, though there is a session: look behind the site's \
             router",
            tunnel.plan.probe.map_or_else(String::new, |probe| probe.address.to_string())
        ),
        (Some(TunnelState::Up), _) => {
            "the host has no route to its endpoint by the front-end link".to_owned()
        }
        (Some(TunnelState::Down(DownReason::NoEndpoint)), _) | (Some(_), None) => {
            format!("it waits for the peer {peer} to come to {local}")
        }
        (Some(TunnelState::Down(DownReason::NeverHandshaken)), Some(endpoint)) => format!(
            "no handshake with {endpoint} yet: check that it is reached, and that both sides have \
             each other's public key and the same preshared key"
        ),
        (Some(TunnelState::Down(DownReason::NoResponse)), Some(endpoint)) => {
            format!("{endpoint} does not answer handshakes")
        }
        (Some(TunnelState::Down(DownReason::Expired)), Some(endpoint)) => {
            format!("the last session with {endpoint} has ended and none came after it")
        }
    }
}
