//! Reads the host's links, and what the gateway made of management's routing, from the kernel.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "netlink's enums grow with the kernel; what is unknown is ignored"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::Component;

use netlink_packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, AddressProtocol, AddressScope,
};
use netlink_packet_route::link::{
    BondAdInfo, BondLacpRate, BondMode as KernelMode, BondXmitHashPolicy, InfoBond, InfoBondPort,
    InfoData, InfoKind, InfoPortData, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType,
    LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteType,
};
use netlink_packet_route::rule::{RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nvgate_model::{MacAddress, Prefix};

use super::apply::{ALIAS, OWNER, TABLE, rule_kind};
use super::features::Features;
use super::observed::{
    AddressFacts, BondFacts, Observed, ObservedKind, ObservedLink, Rule, TableRoute,
};
use crate::host::{Netlink, NetlinkError};
use crate::plan::{
    BondHash, BondMode, BondOptions, InterfaceAddress, LacpRate, LinksPlan, Offloads,
};

/// Reads everything that `desired` needs to know.
pub(super) async fn observe(
    netlink: &Netlink,
    features: Option<&Features>,
    desired: &LinksPlan,
) -> Result<Observed, NetlinkError> {
    let mut messages = Vec::new();
    let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
    netlink
        .dump("list links", request, |answer| {
            if let RouteNetlinkMessage::NewLink(message) = answer {
                messages.push(message);
            }
        })
        .await?;
    let names = messages.iter().filter_map(|message| Some((message.header.index, name(message)?)));
    let names: BTreeMap<u32, String> = names.collect();
    let links = messages.iter().filter_map(|message| {
        Some((names.get(&message.header.index)?.clone(), link(message, &names)?))
    });
    let mut links: BTreeMap<String, ObservedLink> = links.collect();
    read_addresses(netlink, &names, &mut links).await?;
    for (name, link) in &mut links {
        link.path = device_path(name);
    }
    if let Some(features) = features {
        for plan in desired.links.iter().filter(|link| link.offloads != Offloads::default()) {
            if let Some(link) = links.get_mut(&plan.name) {
                match features.read(&plan.name).await {
                    Ok(found) => (link.offloads, link.changeable) = found,
                    // It went or was renamed since it was listed, of which an event follows.
                    Err(NetlinkError::Refused { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }
    let routes = read_routes(netlink, &names).await?;
    let rules = read_rules(netlink).await?;
    Ok(Observed { links, routes, rules })
}

fn name(message: &LinkMessage) -> Option<String> {
    message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })
}

fn mac(bytes: &[u8]) -> Option<MacAddress> {
    bytes.try_into().ok().map(MacAddress)
}

fn link(message: &LinkMessage, names: &BTreeMap<u32, String>) -> Option<ObservedLink> {
    if message.header.link_layer_type != LinkLayerType::Ether {
        return None;
    }
    let named = |index: u32| names.get(&index).cloned();
    let (mut present, mut permanent, mut mtu) = (None, None, None);
    let (mut controller, mut below, mut elsewhere) = (None, None, false);
    let mut ours = false;
    let mut info = &[][..];
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Address(bytes) => present = mac(bytes),
            LinkAttribute::PermAddress(bytes) => permanent = mac(bytes),
            LinkAttribute::Mtu(bytes) => mtu = Some(*bytes),
            LinkAttribute::Controller(index) => controller = named(*index),
            LinkAttribute::Link(index) => below = named(*index),
            LinkAttribute::LinkNetNsId(_) => elsewhere = true,
            LinkAttribute::IfAlias(alias) => ours = alias == ALIAS,
            LinkAttribute::LinkInfo(infos) => info = infos,
            _ => {}
        }
    }
    let (kind, aggregator, member_mac) = kind(info, below.filter(|_| !elsewhere), names);
    let flags = message.header.flags;
    Some(ObservedLink {
        mac: member_mac.or(permanent).or(present)?,
        path: Vec::new(),
        kind,
        ours,
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::LowerUp),
        mtu: mtu?,
        controller,
        aggregator,
        addresses: BTreeMap::new(),
        offloads: Offloads::default(),
        changeable: Offloads::default(),
    })
}

/// What a link is, the aggregator of a bond's member, and the member's own MAC address.
fn kind(
    info: &[LinkInfo],
    below: Option<String>,
    names: &BTreeMap<u32, String>,
) -> (ObservedKind, Option<u16>, Option<MacAddress>) {
    let mut kind = ObservedKind::Card;
    let (mut aggregator, mut own) = (None, None);
    for one in info {
        match one {
            LinkInfo::Kind(InfoKind::Bond) => kind = ObservedKind::Bond(BondFacts::default()),
            LinkInfo::Kind(InfoKind::Vlan) => {
                kind = ObservedKind::Vlan { parent: below.clone(), id: 0 };
            }
            LinkInfo::Data(InfoData::Bond(data)) => kind = ObservedKind::Bond(bond(data, names)),
            LinkInfo::Data(InfoData::Vlan(data)) => {
                let id = data.iter().find_map(|one| match one {
                    InfoVlan::Id(id) => Some(*id),
                    _ => None,
                });
                kind = ObservedKind::Vlan { parent: below.clone(), id: id.unwrap_or(0) };
            }
            LinkInfo::PortData(InfoPortData::BondPort(data)) => {
                for one in data {
                    match one {
                        InfoBondPort::AdAggregatorId(id) => aggregator = Some(*id),
                        InfoBondPort::PermHwaddr(bytes) => own = mac(bytes),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    (kind, aggregator, own)
}

fn bond(data: &[InfoBond], names: &BTreeMap<u32, String>) -> BondFacts {
    let (mut mode, mut hash, mut rate, mut monitor_millis) = (None, None, LacpRate::Slow, 0);
    let (mut primary, mut partner) = (None, None);
    for one in data {
        match one {
            InfoBond::Mode(found) => mode = Some(*found),
            InfoBond::MiiMon(millis) => monitor_millis = *millis,
            InfoBond::XmitHashPolicy(policy) => {
                hash = match policy {
                    BondXmitHashPolicy::Layer2 => Some(BondHash::Mac),
                    BondXmitHashPolicy::Layer23 => Some(BondHash::Address),
                    BondXmitHashPolicy::Layer34 => Some(BondHash::Port),
                    BondXmitHashPolicy::Encap34 => Some(BondHash::Tunnel),
                    _ => None,
                }
            }
            InfoBond::AdLacpRate(BondLacpRate::Fast) => rate = LacpRate::Fast,
            InfoBond::Primary(index) => primary = names.get(index).cloned(),
            InfoBond::AdInfo(info) => partner = lacp_partner(info),
            _ => {}
        }
    }
    let mode = match (mode, hash) {
        (Some(KernelMode::ActiveBackup), _) => Some(BondMode::ActiveBackup),
        (Some(KernelMode::BalanceTlb), _) => Some(BondMode::TransmitLoadBalancing),
        (Some(KernelMode::BalanceXor), Some(hash)) => Some(BondMode::Static(hash)),
        (Some(KernelMode::Ieee8023Ad), Some(hash)) => Some(BondMode::Lacp(hash, rate)),
        _ => None,
    };
    BondFacts { options: mode.map(|mode| BondOptions { mode, monitor_millis }), primary, partner }
}

fn lacp_partner(info: &[BondAdInfo]) -> Option<(u16, MacAddress)> {
    let (mut aggregator, mut partner) = (None, None);
    for one in info {
        match one {
            BondAdInfo::Aggregator(id) => aggregator = Some(*id),
            BondAdInfo::PartnerMac(bytes) => partner = Some(MacAddress(*bytes)),
            _ => {}
        }
    }
    aggregator.zip(partner)
}

async fn read_addresses(
    netlink: &Netlink,
    names: &BTreeMap<u32, String>,
    links: &mut BTreeMap<String, ObservedLink>,
) -> Result<(), NetlinkError> {
    let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    netlink
        .dump("list addresses", request, |answer| {
            if let RouteNetlinkMessage::NewAddress(message) = answer
                && let Some((address, facts)) = address(&message)
                && let Some(name) = names.get(&message.header.index)
                && let Some(link) = links.get_mut(name)
            {
                link.addresses.insert(address, facts);
            }
        })
        .await
}

fn address(message: &AddressMessage) -> Option<(InterfaceAddress, AddressFacts)> {
    if message.header.scope == AddressScope::Link {
        return None;
    }
    let (mut local, mut far, mut ours) = (None, None, false);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => local = Some(*address),
            AddressAttribute::Address(address) => far = Some(*address),
            AddressAttribute::Protocol(AddressProtocol::Other(owner)) => ours = *owner == OWNER,
            _ => {}
        }
    }
    let duplicate = message.header.flags.contains(AddressHeaderFlags::Dadfailed);
    let address = InterfaceAddress { address: local.or(far)?, length: message.header.prefix_len };
    Some((address, AddressFacts { ours, duplicate }))
}

/// The devices that a network card is attached to, as /sys tells; none of links without a device.
fn device_path(name: &str) -> Vec<String> {
    let Ok(path) = fs::canonicalize(format!("/sys/class/net/{name}/device")) else {
        return Vec::new();
    };
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir | Component::ParentDir => {
            None
        }
    });
    names.collect()
}

async fn read_routes(
    netlink: &Netlink,
    names: &BTreeMap<u32, String>,
) -> Result<BTreeSet<TableRoute>, NetlinkError> {
    let mut routes = BTreeSet::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut request = RouteMessage::default();
        request.header.address_family = family;
        // Only these are sent, not a full table of the main one.
        request.attributes.push(RouteAttribute::Table(TABLE));
        netlink
            .dump("list routes", RouteNetlinkMessage::GetRoute(request), |answer| {
                if let RouteNetlinkMessage::NewRoute(message) = answer {
                    routes.extend(route(&message, names));
                }
            })
            .await?;
    }
    Ok(routes)
}

/// A route of the management table that the gateway made.
fn route(message: &RouteMessage, names: &BTreeMap<u32, String>) -> Option<TableRoute> {
    let ipv4 = message.header.address_family == AddressFamily::Inet;
    let unset = if ipv4 { Prefix::DEFAULT_V4 } else { Prefix::DEFAULT_V6 };
    let (mut destination, mut gateway) = (unset.network(), None);
    let (mut link, mut table) = (None, u32::from(message.header.table));
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Oif(index) => link = names.get(index).cloned(),
            RouteAttribute::Destination(address) => destination = ip(address)?,
            RouteAttribute::Gateway(address) => gateway = ip(address),
            _ => {}
        }
    }
    if table != TABLE || message.header.protocol != RouteProtocol::Other(OWNER) {
        return None;
    }
    if message.header.kind == RouteType::Unreachable {
        return Some(TableRoute::Unreachable { ipv4 });
    }
    let prefix = Prefix::new(destination, message.header.destination_prefix_length).ok()?;
    Some(TableRoute::Via { prefix, link: link?, gateway })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

async fn read_rules(netlink: &Netlink) -> Result<BTreeSet<Rule>, NetlinkError> {
    let mut rules = BTreeSet::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut request = RuleMessage::default();
        request.header.family = family;
        netlink
            .dump("list routing rules", RouteNetlinkMessage::GetRule(request), |answer| {
                if let RouteNetlinkMessage::NewRule(message) = answer {
                    rules.extend(rule(&message));
                }
            })
            .await?;
    }
    Ok(rules)
}

/// A rule that the gateway made.
fn rule(message: &RuleMessage) -> Option<Rule> {
    let (mut priority, mut source, mut link, mut ours) = (None, None, None, false);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(number) => priority = Some(*number),
            RuleAttribute::Source(address) => source = Some(*address),
            RuleAttribute::Iifname(name) | RuleAttribute::Oifname(name) => {
                link = Some(name.clone());
            }
            RuleAttribute::Protocol(owner) => ours = *owner == RouteProtocol::Other(OWNER),
            _ => {}
        }
    }
    let kind = rule_kind(priority.filter(|_| ours)?, source, link)?;
    Some(Rule { ipv4: message.header.family == AddressFamily::Inet, kind })
}
