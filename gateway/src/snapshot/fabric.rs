//! The fabric side of a snapshot: provider addresses and how each is reached.

use std::net::IpAddr;

use nvgate_model::{DropReason, FlowId, MacAddress, ProviderAddress};
use nvgate_nvgre::decap::OwnAddresses;
use nvgate_nvgre::ecn::DscpMode;
use nvgate_nvgre::encap::OuterTemplate;
use nvgate_nvgre::lookup::HostIndex;

/// The fabric port and the hosts behind it.
#[derive(Debug)]
pub struct Fabric {
    /// The port's MAC address.
    pub mac: MacAddress,
    /// The gateway's provider addresses.
    pub own: OwnAddresses,
    /// How DSCP crosses the tunnel's ends.
    pub dscp: DscpMode,
    pub(super) hosts: Vec<ProviderHost>,
}

/// A provider address of a virtualization host.
#[derive(Clone, Debug)]
pub struct ProviderHost {
    /// The address.
    pub address: ProviderAddress,
    /// The outer header towards it, or why there is none.
    pub template: Result<OuterTemplate, DropReason>,
    /// The underlay neighbour that leads to it: itself on the same network, else a router.
    pub next: IpAddr,
    /// A FlowID that never changes, for hosts that match the whole GRE key.
    pub constant_flow: Option<FlowId>,
    /// The longest inner IP packet the path carries, in bytes.
    pub mtu: u16,
}

impl Fabric {
    /// The host with this index.
    #[inline]
    #[must_use]
    pub fn host(&self, index: HostIndex) -> Option<&ProviderHost> {
        self.hosts.get(usize::from(index.0))
    }

    /// Every provider address that endpoints live behind.
    #[must_use]
    pub fn hosts(&self) -> &[ProviderHost] {
        &self.hosts
    }

    /// The index of a provider address, when it is a host's.
    #[must_use]
    pub fn index_of(&self, address: ProviderAddress) -> Option<HostIndex> {
        let at = self.hosts.iter().position(|host| host.address == address)?;
        Some(HostIndex(at as u16))
    }

    /// The smallest inner MTU over all hosts; `None` when there is no host.
    #[must_use]
    pub fn smallest_mtu(&self) -> Option<u16> {
        self.hosts.iter().map(|host| host.mtu).min()
    }
}
