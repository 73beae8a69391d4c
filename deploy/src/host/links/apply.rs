//! Has the kernel do one [`Step`]. All of it needs CAP_NET_ADMIN and nothing else.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{
    AddressAttribute, AddressMessage, AddressProtocol, AddressScope,
};
use netlink_packet_route::link::{
    BondLacpRate, BondMode as KernelMode, BondXmitHashPolicy, InfoBond, InfoData, InfoKind,
    InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::features::Features;
use super::observed::{Rule, RuleKind, TableRoute};
use super::step::Step;
use crate::host::{Netlink, NetlinkError};
use crate::plan::{BondHash, BondMode, BondOptions, InterfaceAddress, LacpRate};

/// The alias of links that the gateway made (`ip -d link`).
pub const ALIAS: &str = "nvgate";
/// The protocol number of addresses, routes and rules that the gateway made; nobody else's in
/// rtnetlink.h or in the tables of routing daemons.
pub const OWNER: u8 = 110;
/// The routing table of management.
pub const TABLE: u32 = 20_054;
/// The priorities of the kinds of rules, in the order of [`RuleKind`], of which the two that end a
/// port's way share one: after the kernel's local table (0), before its main one (32766).
const PRIORITIES: [u32; 7] = [20_050, 20_051, 20_052, 20_053, 20_054, 20_055, 20_056];
/// The metric of what is unreachable: any other route wins.
const LAST_METRIC: u32 = u32::MAX - 1;

const CREATE: u16 = NLM_F_CREATE | NLM_F_EXCL;

/// Asks the kernel for one step.
pub(super) async fn apply(
    netlink: &Netlink,
    features: Option<&Features>,
    step: &Step,
) -> Result<(), NetlinkError> {
    let kernel = Kernel(netlink);
    match step {
        Step::Rename { from, to } => {
            kernel.set(from, vec![LinkAttribute::IfName(to.clone())]).await
        }
        Step::CreateBond { link, options } => {
            let info = vec![
                LinkInfo::Kind(InfoKind::Bond),
                LinkInfo::Data(InfoData::Bond(bond_data(*options, true))),
            ];
            kernel.create(link, vec![LinkAttribute::LinkInfo(info)]).await
        }
        Step::CreateVlan { link, parent, id } => {
            let data = InfoData::Vlan(vec![InfoVlan::Id(*id)]);
            let info = vec![LinkInfo::Kind(InfoKind::Vlan), LinkInfo::Data(data)];
            let parent = kernel.index(parent).await?;
            let attributes = vec![LinkAttribute::Link(parent), LinkAttribute::LinkInfo(info)];
            kernel.create(link, attributes).await
        }
        Step::Remove { link } => {
            let message = kernel.message(link, Vec::new()).await?;
            netlink.change("remove a link", RouteNetlinkMessage::DelLink(message), 0).await
        }
        Step::SetBond { link, options, rebuilt } => {
            kernel.set_bond(link, bond_data(*options, *rebuilt)).await
        }
        Step::SetPrimary { link, primary } => {
            let index = match primary {
                Some(primary) => kernel.index(primary).await?,
                None => 0,
            };
            kernel.set_bond(link, vec![InfoBond::Primary(index)]).await
        }
        Step::Release { member, .. } => {
            kernel.set(member, vec![LinkAttribute::Controller(0)]).await
        }
        Step::Enslave { member, bond } => {
            let bond = kernel.index(bond).await?;
            kernel.set(member, vec![LinkAttribute::Controller(bond)]).await
        }
        Step::Up { link } => kernel.turn(link, LinkFlags::Up).await,
        Step::Down { link } => kernel.turn(link, LinkFlags::empty()).await,
        Step::SetMtu { link, mtu } => kernel.set(link, vec![LinkAttribute::Mtu(*mtu)]).await,
        Step::SetOffloads { link, offloads } => match features {
            Some(features) => features.set(link, *offloads).await,
            None => Ok(()),
        },
        Step::AddAddress { link, address } => {
            let message = address_message(kernel.index(link).await?, *address);
            let message = RouteNetlinkMessage::NewAddress(message);
            netlink.change("add an address", message, CREATE).await
        }
        Step::RemoveAddress { link, address } => {
            let message = address_message(kernel.index(link).await?, *address);
            netlink.change("remove an address", RouteNetlinkMessage::DelAddress(message), 0).await
        }
        Step::AddRoute { route } => {
            let message = RouteNetlinkMessage::NewRoute(kernel.route(route).await?);
            netlink.change("add a route", message, CREATE).await
        }
        Step::RemoveRoute { route } => {
            let message = RouteNetlinkMessage::DelRoute(kernel.route(route).await?);
            netlink.change("remove a route", message, 0).await
        }
        Step::AddRule { rule } => {
            let message = RouteNetlinkMessage::NewRule(rule_message(rule));
            netlink.change("add a routing rule", message, CREATE).await
        }
        Step::RemoveRule { rule } => {
            let message = RouteNetlinkMessage::DelRule(rule_message(rule));
            netlink.change("remove a routing rule", message, 0).await
        }
    }
}

struct Kernel<'a>(&'a Netlink);

impl Kernel<'_> {
    async fn index(&self, name: &str) -> Result<u32, NetlinkError> {
        const OPERATION: &str = "find a link";
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        match self.0.ask(OPERATION, RouteNetlinkMessage::GetLink(message)).await? {
            Some(RouteNetlinkMessage::NewLink(message)) => Ok(message.header.index),
            Some(_) | None => Err(NetlinkError::Closed { operation: OPERATION }),
        }
    }

    async fn message(
        &self,
        link: &str,
        attributes: Vec<LinkAttribute>,
    ) -> Result<LinkMessage, NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = self.index(link).await?;
        message.attributes = attributes;
        Ok(message)
    }

    async fn set(&self, link: &str, attributes: Vec<LinkAttribute>) -> Result<(), NetlinkError> {
        let message = self.message(link, attributes).await?;
        self.0.change("change a link", RouteNetlinkMessage::SetLink(message), 0).await
    }

    async fn turn(&self, link: &str, flags: LinkFlags) -> Result<(), NetlinkError> {
        let mut message = self.message(link, Vec::new()).await?;
        message.header.flags = flags;
        message.header.change_mask = LinkFlags::Up;
        self.0.change("bring a link up or down", RouteNetlinkMessage::SetLink(message), 0).await
    }

    /// What a link is marked by is taken by the kernel only once the link is there.
    async fn create(
        &self,
        link: &str,
        mut attributes: Vec<LinkAttribute>,
    ) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        attributes.push(LinkAttribute::IfName(link.to_owned()));
        message.attributes = attributes;
        self.0.change("make a link", RouteNetlinkMessage::NewLink(message), CREATE).await?;
        self.set(link, vec![LinkAttribute::IfAlias(ALIAS.to_owned())]).await
    }

    async fn set_bond(&self, link: &str, data: Vec<InfoBond>) -> Result<(), NetlinkError> {
        let info = vec![LinkInfo::Kind(InfoKind::Bond), LinkInfo::Data(InfoData::Bond(data))];
        let message = self.message(link, vec![LinkAttribute::LinkInfo(info)]).await?;
        self.0.change("set up a bond", RouteNetlinkMessage::NewLink(message), 0).await
    }

    async fn route(&self, route: &TableRoute) -> Result<RouteMessage, NetlinkError> {
        let mut message = RouteMessage::default();
        let ipv4 = route.is_ipv4();
        message.header.address_family = family(ipv4);
        message.header.table = RouteHeader::RT_TABLE_UNSPEC;
        message.header.protocol = RouteProtocol::Other(OWNER);
        message.header.kind = RouteType::Unicast;
        message.header.scope = RouteScope::Universe;
        message.attributes.push(RouteAttribute::Table(TABLE));
        match route {
            TableRoute::Unreachable { .. } => {
                message.header.kind = RouteType::Unreachable;
                message.attributes.push(RouteAttribute::Priority(LAST_METRIC));
            }
            TableRoute::Via { prefix, link, gateway } => {
                message.header.destination_prefix_length = prefix.length();
                if prefix.length() > 0 {
                    let network = route_address(prefix.network());
                    message.attributes.push(RouteAttribute::Destination(network));
                }
                message.attributes.push(RouteAttribute::Oif(self.index(link).await?));
                match gateway {
                    Some(gateway) => {
                        message.attributes.push(RouteAttribute::Gateway(route_address(*gateway)));
                    }
                    None if ipv4 => message.header.scope = RouteScope::Link,
                    None => {}
                }
            }
        }
        Ok(message)
    }
}

const fn family(ipv4: bool) -> AddressFamily {
    if ipv4 { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

const fn route_address(address: IpAddr) -> RouteAddress {
    match address {
        IpAddr::V4(v4) => RouteAddress::Inet(v4),
        IpAddr::V6(v6) => RouteAddress::Inet6(v6),
    }
}

/// How a bond is to work; its mode and LACP rate only with `whole`, since the kernel takes them
/// only from a bond that is down, even unchanged.
fn bond_data(options: BondOptions, whole: bool) -> Vec<InfoBond> {
    let BondOptions { mode, monitor_millis } = options;
    let mut data = Vec::new();
    if whole {
        data.push(InfoBond::Mode(match mode {
            BondMode::ActiveBackup => KernelMode::ActiveBackup,
            BondMode::TransmitLoadBalancing => KernelMode::BalanceTlb,
            BondMode::Static(_) => KernelMode::BalanceXor,
            BondMode::Lacp(..) => KernelMode::Ieee8023Ad,
        }));
    }
    data.push(InfoBond::MiiMon(monitor_millis));
    data.extend(mode.hash().map(|hash| {
        InfoBond::XmitHashPolicy(match hash {
            BondHash::Address => BondXmitHashPolicy::Layer23,
            BondHash::Port => BondXmitHashPolicy::Layer34,
            BondHash::Mac => BondXmitHashPolicy::Layer2,
            BondHash::Tunnel => BondXmitHashPolicy::Encap34,
        })
    }));
    if let (BondMode::Lacp(_, rate), true) = (mode, whole) {
        data.push(InfoBond::AdLacpRate(match rate {
            LacpRate::Slow => BondLacpRate::Slow,
            LacpRate::Fast => BondLacpRate::Fast,
        }));
    }
    data
}

fn address_message(link: u32, address: InterfaceAddress) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(address.address.is_ipv4());
    message.header.prefix_len = address.length;
    message.header.index = link;
    message.header.scope = AddressScope::Universe;
    message.attributes = vec![
        AddressAttribute::Local(address.address),
        AddressAttribute::Address(address.address),
        AddressAttribute::Protocol(AddressProtocol::Other(OWNER)),
    ];
    if let (IpAddr::V4(_), Some(broadcast)) =
        (address.address, address.prefix().broadcast().filter(|_| address.length < 31))
    {
        message.attributes.push(AddressAttribute::Broadcast(broadcast));
    }
    message
}

fn rule_message(rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = family(rule.ipv4);
    let [not_through, from_management, from_port, by_management, by_port, specific, default] =
        PRIORITIES;
    let mut lookup = |table: Option<u32>| {
        message.header.action =
            if table.is_some() { RuleAction::ToTable } else { RuleAction::Unreachable };
        message.attributes.extend(table.map(RuleAttribute::Table));
    };
    const MAIN: u32 = RouteHeader::RT_TABLE_MAIN as u32;
    const LOOPBACK: &str = "lo";
    let (priority, table) = match &rule.kind {
        RuleKind::NotThrough(_) => (not_through, None),
        RuleKind::FromManagement(_) => (from_management, Some(TABLE)),
        RuleKind::FromPort(_) => (from_port, Some(MAIN)),
        RuleKind::ByManagement(_) => (by_management, Some(TABLE)),
        RuleKind::ByPort(_) => (by_port, Some(MAIN)),
        RuleKind::OnlyByPort(_) => (by_port, None),
        RuleKind::OwnSpecific => (specific, Some(MAIN)),
        RuleKind::OwnDefault => (default, Some(TABLE)),
    };
    lookup(table);
    let attributes = &mut message.attributes;
    attributes.push(RuleAttribute::Priority(priority));
    attributes.push(RuleAttribute::Protocol(RouteProtocol::Other(OWNER)));
    match &rule.kind {
        RuleKind::NotThrough(link) => attributes.push(RuleAttribute::Iifname(link.clone())),
        RuleKind::FromManagement(address)
        | RuleKind::FromPort(address)
        | RuleKind::OnlyByPort(address) => {
            message.header.src_len = if address.is_ipv4() { 32 } else { 128 };
            attributes.push(RuleAttribute::Source(*address));
        }
        RuleKind::ByManagement(link) | RuleKind::ByPort(link) => {
            attributes.push(RuleAttribute::Oifname(link.clone()));
        }
        RuleKind::OwnSpecific => {
            attributes.push(RuleAttribute::Iifname(LOOPBACK.to_owned()));
            attributes.push(RuleAttribute::SuppressPrefixLen(0));
        }
        RuleKind::OwnDefault => attributes.push(RuleAttribute::Iifname(LOOPBACK.to_owned())),
    }
    message
}

/// The kind of the rule with this priority, if it is one of ours.
pub(super) fn rule_kind(
    priority: u32,
    source: Option<IpAddr>,
    link: Option<String>,
) -> Option<RuleKind> {
    let place = PRIORITIES.iter().position(|one| *one == priority)?;
    Some(match (place, source) {
        (0, _) => RuleKind::NotThrough(link?),
        (1, _) => RuleKind::FromManagement(source?),
        (2, _) => RuleKind::FromPort(source?),
        (3, _) => RuleKind::ByManagement(link?),
        (4, Some(source)) => RuleKind::OnlyByPort(source),
        (4, None) => RuleKind::ByPort(link?),
        (5, _) => RuleKind::OwnSpecific,
        (_, _) => RuleKind::OwnDefault,
    })
}
