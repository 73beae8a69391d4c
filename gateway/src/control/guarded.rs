//! What the host's kernel is kept from: the gateway's own traffic on both ports.

use nvgate_deploy::host::{Guard, GuardError, Netlink};
use nvgate_deploy::plan::Plan;
use nvgate_model::Prefix;

use super::Control;
use crate::admin::health::Component;

/// What the guards keep from the kernel.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct GuardedTraffic {
    pub(super) front_end: Vec<Prefix>,
}

impl GuardedTraffic {
    /// All that is the gateway's.
    pub(super) fn of(plan: &Plan) -> Self {
        Self { front_end: plan.front_end_space() }
    }

    /// This and `other` together.
    pub(super) fn with(&self, other: &Self) -> Self {
        let added = other.front_end.iter().filter(|prefix| !self.front_end.contains(prefix));
        Self { front_end: self.front_end.iter().chain(added).copied().collect() }
    }
}

impl Control {
    /// Puts back what somebody else removed of the guards.
    pub(super) async fn check_guards(&self) {
        const NAME: &str = "kernel guard";
        let mut component = Component::ok(NAME);
        for guard in &self.guards {
            if matches!(guard.check().await, Ok(true)) {
                continue;
            }
            tracing::warn!("a guard was removed by somebody else; it is installed again");
            if let Err(error) = guard.install().await {
                component = Component::degraded(
                    NAME,
                    format!("the host's kernel answers the gateway's traffic too: {error}"),
                );
            }
        }
        self.shared.note(component);
    }
}

/// Installs both guards.
pub(super) async fn guard(
    netlink: &Netlink,
    plan: &Plan,
    [fabric, front_end]: [u32; 2],
    guarded: &GuardedTraffic,
) -> Result<Vec<Guard>, GuardError> {
    let providers = &plan.gateway.fabric.provider_addresses;
    let guards = vec![
        Guard::fabric(netlink.clone(), fabric, providers)?,
        Guard::front_end(netlink.clone(), front_end, &guarded.front_end)?,
    ];
    for guard in &guards {
        guard.install().await?;
    }
    Ok(guards)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guarded_traffic_together_holds_each_prefix_once() {
        let of = |prefixes: &[&str]| GuardedTraffic {
            front_end: prefixes.iter().map(|text| text.parse().unwrap()).collect(),
        };
        let [before, after] =
            [&["203.0.113.10/32", "198.51.100.0/28"][..], &["203.0.113.11/32", "198.51.100.0/28"]]
                .map(of);
        let both = of(&["203.0.113.10/32", "198.51.100.0/28", "203.0.113.11/32"]);
        assert_eq!(before.with(&after), both);
        assert_eq!(before.with(&before), before);
    }
}
