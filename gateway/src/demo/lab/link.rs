//! Links, addresses, routes and neighbours inside a [`Namespace`], through rtnetlink.

use std::net::IpAddr;
use std::os::fd::AsRawFd;

use futures_util::TryStreamExt;
use netlink_packet_route::address::AddressHeaderFlags;
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoVeth, LinkAttribute, LinkMessage,
};
use nvgate_model::{MacAddress, Prefix};
use rtnetlink::{LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::{LabError, Namespace};

/// Whether the kernel may hand frames larger than the MTU to a link, trusting it to cut them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SuperPackets {
    /// As the link's driver offers: a veth takes TCP super-packets of up to 64 KiB.
    Allowed,
    /// Every frame fits the MTU, as on a link without segmentation offload. Checksums may still
    /// be left partial.
    Never,
}

/// What a link is to become by [`Namespace::set_up`].
#[derive(Clone, Debug)]
pub struct LinkSetup<'a> {
    /// The link's name.
    pub name: &'a str,
    /// Its MAC address; the kernel's choice when absent.
    pub mac: Option<MacAddress>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Its addresses with their prefix lengths; IPv6 ones are usable at once (no duplicate address
    /// detection).
    pub addresses: &'a [(IpAddr, u8)],
    /// Whether it takes super-packets.
    pub super_packets: SuperPackets,
}

/// Whether this kernel speaks IPv6 at all.
#[must_use]
pub fn kernel_has_ipv6() -> bool {
    std::path::Path::new("/proc/net/if_inet6").exists()
}

impl Namespace {
    /// Adds a bridge without spanning tree, up.
    pub fn add_bridge(&self, name: &str) -> Result<(), LabError> {
        self.netlink(&format!("add the bridge {name}"), async |handle| {
            handle.link().add(LinkBridge::new(name).build()).execute().await
        })?;
        self.silence(name)?;
        self.bring_up(name)
    }

    /// Adds a veth pair: `name` here, `peer_name` in `peer`, both down.
    pub fn add_veth(&self, name: &str, peer: &Self, peer_name: &str) -> Result<(), LabError> {
        let file = peer.file().as_raw_fd();
        self.netlink(&format!("add the veth pair {name} and {peer_name}"), async |handle| {
            let other =
                LinkMessageBuilder::<LinkUnspec>::new().name(peer_name).setns_by_fd(file).build();
            let pair = LinkVeth::new(name, peer_name)
                .set_info_data(InfoData::Veth(InfoVeth::Peer(other)))
                .build();
            handle.link().add(pair).execute().await
        })
    }

    /// Makes `port` a port of `bridge` and brings it up with `mtu`.
    pub fn attach(&self, port: &str, bridge: &str, mtu: u32) -> Result<(), LabError> {
        let controller = self.link_index(bridge)?;
        self.silence(port)?;
        self.netlink(&format!("attach {port} to {bridge}"), async |handle| {
            let message =
                LinkUnspec::new_with_name(port).controller(controller).mtu(mtu).up().build();
            handle.link().set(message).execute().await
        })
    }

    /// Gives a link what `setup` says and brings it up.
    pub fn set_up(&self, setup: &LinkSetup<'_>) -> Result<(), LabError> {
        let index = self.link_index(setup.name)?;
        self.silence(setup.name)?;
        self.netlink(&format!("set up {}", setup.name), async |handle| {
            let mut link = LinkUnspec::new_with_index(index).mtu(setup.mtu);
            if let Some(mac) = setup.mac {
                link = link.address(mac.0.to_vec());
            }
            if setup.super_packets == SuperPackets::Never {
                link = link.append_extra_attribute(LinkAttribute::GsoMaxSegs(1));
            }
            handle.link().set(link.up().build()).execute().await?;
            for &(address, length) in setup.addresses {
                let mut request = handle.address().add(index, address, length);
                request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
                request.execute().await?;
            }
            Ok(())
        })
    }

    /// Adds a route to `prefix` over `link`, through `next_hop` when there is one.
    pub fn add_route(
        &self,
        prefix: Prefix,
        next_hop: Option<IpAddr>,
        link: &str,
    ) -> Result<(), LabError> {
        let index = self.link_index(link)?;
        let action = format!("add a route to {prefix} over {link}");
        let impossible =
            |_| self.fail(&action, std::io::Error::other("the address families do not match"));
        let mut route = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(prefix.network(), prefix.length())
            .map_err(impossible)?
            .output_interface(index);
        if let Some(next_hop) = next_hop {
            route = route.gateway(next_hop).map_err(impossible)?;
        }
        let route = route.build();
        self.netlink(&action, async |handle| handle.route().add(route).execute().await)
    }

    /// Adds a permanent neighbour on `link`.
    pub fn add_neighbour(
        &self,
        link: &str,
        address: IpAddr,
        mac: MacAddress,
    ) -> Result<(), LabError> {
        let index = self.link_index(link)?;
        self.netlink(&format!("add the neighbour {address} on {link}"), async |handle| {
            handle
                .neighbours()
                .add(index, address)
                .link_layer_address(&mac.0)
                .replace()
                .execute()
                .await
        })
    }

    /// The kernel's index of a link of this namespace.
    pub fn link_index(&self, name: &str) -> Result<u32, LabError> {
        Ok(self.link(name)?.header.index)
    }

    pub(super) fn bring_up(&self, name: &str) -> Result<(), LabError> {
        self.netlink(&format!("bring up {name}"), async |handle| {
            handle.link().set(LinkUnspec::new_with_name(name).up().build()).execute().await
        })
    }

    /// Keeps the kernel from giving the link an IPv6 link-local address, and so from sending
    /// router solicitations nobody asked for.
    fn silence(&self, name: &str) -> Result<(), LabError> {
        if !kernel_has_ipv6() {
            return Ok(());
        }
        self.netlink(&format!("silence {name}"), async |handle| {
            let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
            let message = LinkUnspec::new_with_name(name)
                .append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(
                    vec![mode],
                )]))
                .build();
            handle.link().set(message).execute().await
        })
    }

    fn link(&self, name: &str) -> Result<LinkMessage, LabError> {
        self.netlink(&format!("find the link {name}"), async |handle| {
            handle.link().get().match_name(name).execute().try_next().await
        })?
        .ok_or_else(|| {
            self.fail(&format!("find the link {name}"), std::io::ErrorKind::NotFound.into())
        })
    }
}
