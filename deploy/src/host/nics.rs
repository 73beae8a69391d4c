//! The machine's NICs, and their names: what an image does before anything uses them.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "netlink's enums grow with the kernel; what is unknown is ignored"
)]

use std::fs;
use std::path::Path;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage};
use nvgate_model::MacAddress;

use super::{Netlink, NetlinkError};
use crate::seed::{HostNic, Rename};

/// Where the kernel shows devices by their buses. Its view of links is that of one network
/// namespace, which need not be this thread's.
const BUSES: &str = "/sys/bus";

impl Netlink {
    /// The NICs of this machine: Ethernet links that have a device of their own.
    ///
    /// # Errors
    ///
    /// The kernel does not list its links.
    pub async fn nics(&self) -> Result<Vec<HostNic>, NetlinkError> {
        let mut nics = Vec::new();
        let message = RouteNetlinkMessage::GetLink(LinkMessage::default());
        self.dump("list links", message, |answer| {
            if let RouteNetlinkMessage::NewLink(link) = answer {
                nics.extend(nic_of(&link));
            }
        })
        .await?;
        Ok(nics)
    }

    /// Changes the name of a link.
    ///
    /// # Errors
    ///
    /// The kernel refuses: the link is gone, or another has the name.
    pub async fn rename_link(&self, rename: &Rename) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = rename.index;
        message.attributes.push(LinkAttribute::IfName(rename.to.clone()));
        self.change("rename a link", RouteNetlinkMessage::SetLink(message), 0).await
    }
}

fn nic_of(link: &LinkMessage) -> Option<HostNic> {
    if link.header.link_layer_type != LinkLayerType::Ether {
        return None;
    }
    let (mut name, mut address, mut permanent) = (None, None, None);
    let (mut bus, mut device) = (None, None);
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text.clone()),
            LinkAttribute::Address(bytes) => address = mac(bytes),
            // The one that a link in a bond keeps.
            LinkAttribute::PermAddress(bytes) => permanent = mac(bytes),
            LinkAttribute::ParentDevBusName(text) => bus = Some(text),
            LinkAttribute::ParentDevName(text) => device = Some(text),
            _ => {}
        }
    }
    let device = Path::new(BUSES).join(bus?).join("devices").join(device?);
    let device = fs::canonicalize(device).ok()?;
    Some(HostNic {
        index: link.header.index,
        up: link.header.flags.contains(LinkFlags::Up),
        mac: permanent.or(address)?,
        path: slot_of(&device)?,
        name: name?,
    })
}

fn mac(bytes: &[u8]) -> Option<MacAddress> {
    let mac = bytes.try_into().ok().map(MacAddress)?;
    (mac.0 != [0; 6]).then_some(mac)
}

/// The part of a device's path that names its slot: a virtio device is one of the PCI device above.
fn slot_of(device: &Path) -> Option<String> {
    let mut parts = device.components().rev().filter_map(|part| part.as_os_str().to_str());
    parts.find(|part| !part.starts_with("virtio")).map(str::to_ascii_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::lab::{connect, in_namespace, veth};

    #[test]
    fn a_nic_is_in_the_slot_of_the_device_above_virtio() {
        let slot = |path: &str| slot_of(Path::new(path));
        let virtio = "/sys/devices/pci0000:00/0000:00:03.0/virtio1";
        assert_eq!(slot(virtio).as_deref(), Some("0000:00:03.0"));
        let vmbus = "/sys/devices/LNXSYSTM:00/VMBUS:00/7AD35D50-C05B-47AB-B3A0-56A9A845852B";
        assert_eq!(slot(vmbus).as_deref(), Some("7ad35d50-c05b-47ab-b3a0-56a9a845852b"));
    }

    #[test]
    fn a_link_is_renamed_and_one_without_a_device_is_no_nic() {
        in_namespace(|| async {
            let (left, _) = veth(&connect(), "eth0", "eth1").await;
            let netlink = Netlink::open().unwrap();
            assert_eq!(netlink.nics().await.unwrap(), []);
            crate::host::lab::down(&connect(), left).await;
            let rename =
                |to: &str| Rename { index: left, from: "eth0".into(), to: to.into(), up: false };
            netlink.rename_link(&rename("mgmt0")).await.unwrap();
            assert_eq!(nix::net::if_::if_nametoindex("mgmt0").unwrap(), left);
            let refused = netlink.rename_link(&rename("eth1")).await.unwrap_err();
            assert_eq!(refused.errno().map(i32::abs), Some(nix::libc::EEXIST));
        });
    }
}
