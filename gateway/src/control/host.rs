//! What the host's network has of what the plan needs: the links of the ports and their addresses.

use nvgate_deploy::host::HostView;
use nvgate_deploy::plan::Plan;

use super::Control;
use super::threads::link_of;
use crate::admin::health::Component;
use crate::io::PortRole;
use crate::snapshot::BuildError;

impl Control {
    /// Notes what is wrong with the host's network and can be healed there.
    pub(super) fn note_host(&self, view: &HostView) {
        const NAME: &str = "host";
        let plan = self.shared.plan.load();
        let component = match link_indices(&plan, view) {
            Err(error) => Component::failed(NAME, error.to_string()),
            Ok(links) if links != self.links => Component::failed(
                NAME,
                "a link was removed and made anew: restart the gateway to open its ports there",
            ),
            Ok(_) => match missing_provider_address(&plan, view) {
                Some(sentence) => Component::failed(NAME, sentence),
                None => Component::ok(NAME),
            },
        };
        self.shared.note(component);
    }
}

/// The indices of the ports' links.
pub(super) fn link_indices(plan: &Plan, view: &HostView) -> Result<[u32; 2], BuildError> {
    let index = |role: PortRole| {
        let link = link_of(&plan.gateway, role);
        view.links
            .get(link)
            .map(|facts| facts.index)
            .ok_or_else(|| BuildError::LinkMissing { role: role.name(), link: link.to_owned() })
    };
    Ok([index(PortRole::Fabric)?, index(PortRole::FrontEnd)?])
}

/// The host answers ARP for the gateway's provider addresses, so it must have them.
fn missing_provider_address(plan: &Plan, view: &HostView) -> Option<String> {
    let fabric = &plan.gateway.fabric;
    let link = view.links.get(&fabric.link)?;
    let missing = fabric
        .provider_addresses
        .iter()
        .find(|own| link.addresses.iter().all(|(address, _)| *address != own.ip()))?;
    Some(format!(
        "the fabric link {} does not have the provider address {missing}: run `ip address add \
         {missing}/LENGTH dev {}`",
        fabric.link, fabric.link
    ))
}
