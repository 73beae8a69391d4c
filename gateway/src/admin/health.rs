//! How well the gateway is: components, each with a state and a reason, derived from its
//! [`Status`].
//!
//! A gateway with a failed component is not ready; one that is merely degraded forwards packets but
//! wants an operator's attention, as after a configuration that was refused.

use std::time::Duration;

use nvgate_deploy::host::links::LinkReport;
use serde::{Deserialize, Serialize};

use super::bgp::PeerReport;
use super::status::{ConfigStatus, PortStatus, Status, WorkerStatus};

/// A worker whose loop has not turned for this long is stuck; an idle worker turns its loop many
/// times a second.
pub const HEARTBEAT_STUCK: Duration = Duration::from_secs(2);

/// How well something is, from best to worst.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthState {
    /// As it should be.
    Ok,
    /// Works, but wants attention.
    Degraded,
    /// Does not work: the gateway is not ready.
    Failed,
}

impl HealthState {
    /// The state in lower case, as it is printed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Failed => "failed",
        }
    }
}

/// One part of the gateway's health.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Component {
    /// What it is, such as `config`, `port fabric` or `worker 0`.
    pub name: String,
    /// How well it is.
    pub status: HealthState,
    /// Why it is not ok, in one sentence that says what to do.
    pub reason: Option<String>,
}

impl Component {
    /// A component that is as it should be.
    #[must_use]
    pub fn ok(name: impl Into<String>) -> Self {
        Self { name: name.into(), status: HealthState::Ok, reason: None }
    }

    /// A component that works but wants attention because of `reason`.
    #[must_use]
    pub fn degraded(name: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { name: name.into(), status: HealthState::Degraded, reason: Some(reason.into()) }
    }

    /// A component that does not work because of `reason`.
    #[must_use]
    pub fn failed(name: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { name: name.into(), status: HealthState::Failed, reason: Some(reason.into()) }
    }
}

impl Status {
    /// The worst state of any component.
    #[must_use]
    pub fn health(&self) -> HealthState {
        self.components.iter().map(|component| component.status).max().unwrap_or(HealthState::Ok)
    }
}

/// The components that follow from the rest of `status`: the configuration, every port, every
/// link that gateway.yaml describes, every worker, every site and every BGP peer. Whoever assembles
/// the status appends what only it knows.
#[must_use]
pub fn assess(status: &Status) -> Vec<Component> {
    std::iter::once(config(&status.config))
        .chain(status.ports.iter().map(port))
        .chain(status.links.iter().map(link))
        .chain(status.workers.iter().map(worker))
        .chain(
            status
                .tenants
                .iter()
                .flat_map(|tenant| tenant.sites.iter().map(|site| site.health(&tenant.name))),
        )
        .chain(
            status
                .tenants
                .iter()
                .flat_map(|tenant| tenant.bgp.iter().filter_map(PeerReport::health)),
        )
        .chain(status.bgp.iter().filter_map(PeerReport::health))
        .collect()
}

fn config(config: &ConfigStatus) -> Component {
    const NAME: &str = "config";
    match (&config.last_error, config.generation) {
        (None, Some(_)) => Component::ok(NAME),
        (None, None) => Component::failed(NAME, "no configuration is applied yet"),
        (Some(errors), Some(_)) => Component::degraded(
            NAME,
            format!("the newest configuration is not in effect: {}", summary(errors)),
        ),
        (Some(errors), None) => {
            Component::failed(NAME, format!("the configuration is invalid: {}", summary(errors)))
        }
    }
}

/// The first line of the first diagnostic, and how many more there are.
#[must_use]
pub fn summary(errors: &[String]) -> String {
    let first = errors.first().and_then(|error| error.lines().next()).unwrap_or("unknown error");
    match errors.len() {
        0 | 1 => first.to_owned(),
        all => format!("{first} (and {} more)", all - 1),
    }
}

fn port(port: &PortStatus) -> Component {
    let name = format!("port {}", port.role);
    let link = &port.link;
    match (port.mtu, port.running) {
        (Some(_), true) => Component::ok(name),
        (Some(_), false) => Component::failed(
            name,
            format!("link {link} is down: run `ip link set {link} up` and check its carrier"),
        ),
        (None, _) => Component::failed(
            name,
            format!("link {link} does not exist: create it or correct gateway.yaml"),
        ),
    }
}

/// A link that the gateway cannot make as described; whether it stops packets its port says.
fn link(link: &LinkReport) -> Component {
    let name = format!("link {}", link.name);
    if link.problems.is_empty() {
        Component::ok(name)
    } else {
        Component::degraded(name, link.problems.join("; "))
    }
}

fn worker(worker: &WorkerStatus) -> Component {
    let name = format!("worker {}", worker.index);
    match worker.heartbeat_age_ms {
        None => Component::failed(name, "has not started yet"),
        Some(age) if u128::from(age) > HEARTBEAT_STUCK.as_millis() => Component::failed(
            name,
            format!(
                "has not turned its loop for {}.{} s: restart the gateway",
                age / 1000,
                age % 1000 / 100
            ),
        ),
        Some(_) => Component::ok(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::samples;

    #[test]
    fn a_running_gateway_is_ok_in_every_component() {
        let mut status = samples::busy();
        status.components = assess(&status);
        let names: Vec<_> = status.components.iter().map(|part| part.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "config",
                "port fabric",
                "port front_end",
                "link uplink0",
                "link eth1",
                "worker 0",
                "worker 1",
                "site contoso/hq",
                "bgp contoso/router",
                "front_end bgp transit",
            ]
        );
        assert_eq!(status.health(), HealthState::Ok);
    }

    #[test]
    fn nothing_applied_is_failed_and_a_refused_reload_only_degraded() {
        let starting = ConfigStatus::default();
        assert_eq!(config(&starting).status, HealthState::Failed);
        let errors = vec!["a.yaml:1:2: error: bad\n  1 | x".to_owned(), "b".to_owned()];
        let refused = ConfigStatus { last_error: Some(errors), ..samples::busy().config };
        let reason = "the newest configuration is not in effect: \
                      a.yaml:1:2: error: bad (and 1 more)";
        assert_eq!(config(&refused), Component::degraded("config", reason));
        let never = ConfigStatus { generation: None, ..refused };
        assert_eq!(config(&never).status, HealthState::Failed);
    }

    #[test]
    fn a_port_fails_without_its_link_and_without_a_carrier() {
        let up = samples::busy().ports.remove(0);
        assert_eq!(port(&up), Component::ok("port fabric"));
        let down = PortStatus { running: false, ..up.clone() };
        assert!(port(&down).reason.unwrap().starts_with("link eth1 is down"));
        let missing = PortStatus { running: false, mtu: None, mac: None, ..up };
        assert!(port(&missing).reason.unwrap().starts_with("link eth1 does not exist"));
    }

    #[test]
    fn a_link_is_degraded_by_all_that_is_wrong_with_it() {
        let mut eth1 = samples::busy().links.remove(1);
        assert_eq!(link(&eth1), Component::ok("link eth1"));
        eth1.problems = vec!["it is down".to_owned(), "its MTU is 1500".to_owned()];
        assert_eq!(link(&eth1), Component::degraded("link eth1", "it is down; its MTU is 1500"));
    }

    #[test]
    fn a_site_is_degraded_by_any_tunnel_that_is_down_and_never_failed() {
        let mut site = samples::busy().tenants.remove(0).sites.remove(0);
        assert_eq!(site.health("contoso"), Component::ok("site contoso/hq"));
        site.tunnels[1].up = false;
        site.tunnels[1].reason = Some("198.51.100.8:51820 does not answer handshakes".to_owned());
        let reason = "tunnel b is down: 198.51.100.8:51820 does not answer handshakes";
        assert_eq!(site.health("contoso"), Component::degraded("site contoso/hq", reason));
    }

    #[test]
    fn a_bgp_peer_is_degraded_with_the_reason_unless_it_is_shut_down_or_of_a_range() {
        const NAME: &str = "bgp contoso/router";
        let [mut peer, mut spoke] = <[_; 2]>::try_from(samples::peers()).unwrap();
        assert_eq!(peer.health(), Some(Component::ok(NAME)));
        (peer.up, peer.state) = (false, "Connect".to_owned());
        let reason = "no session with 10.0.1.9: the gateway ended it: hold timer expired";
        assert_eq!(peer.health(), Some(Component::degraded(NAME, reason)));
        peer.last_error = Some("the peer does not answer".to_owned());
        let reason = "no session with 10.0.1.9: the peer does not answer; the last one ended: the \
                      gateway ended it: hold timer expired";
        assert_eq!(peer.health(), Some(Component::degraded(NAME, reason)));
        (peer.last_error, peer.last_down) = (None, None);
        let reason = "no session with 10.0.1.9 yet: Connect";
        assert_eq!(peer.health(), Some(Component::degraded(NAME, reason)));
        peer.passive = true;
        let reason = "no session: waits for 10.0.1.9 to connect";
        assert_eq!(peer.health(), Some(Component::degraded(NAME, reason)));
        peer.shutdown = true;
        assert_eq!(peer.health(), Some(Component::ok(NAME)));
        spoke.up = false;
        assert_eq!(spoke.health(), None);
    }

    #[test]
    fn a_worker_is_stuck_past_the_limit_and_not_before() {
        let aged = |heartbeat_age_ms| {
            worker(&WorkerStatus { heartbeat_age_ms, ..WorkerStatus::default() })
        };
        assert_eq!(aged(Some(2000)), Component::ok("worker 0"));
        let reason = "has not turned its loop for 2.0 s: restart the gateway";
        assert_eq!(aged(Some(2001)), Component::failed("worker 0", reason));
        assert_eq!(aged(None), Component::failed("worker 0", "has not started yet"));
    }
}
