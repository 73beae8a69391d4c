//! Follows the kernel's links, addresses, routes and neighbours and publishes each changed picture.
//!
//! Neighbours are followed event by event, because there are many and they change often. Links,
//! addresses and routes are read again whenever one of them changes: the kernel removes IPv4
//! routes of a link that goes down without a word, and replaces routes without naming the old one.
//! When messages were lost, everything is read again.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "netlink's enums grow with the kernel; what is unknown is ignored"
)]

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteNextHop,
    RouteNextHopFlags, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nvgate_model::{MacAddress, Prefix};
use rtnetlink::MulticastGroup;
use rtnetlink::sys::AsyncSocket;
use tokio::sync::watch;
use tokio::time::Instant;

use super::netlink::Task;
use super::{Discard, HostView, LinkFacts, Neighbour, Netlink, NetlinkError, Route};

/// Routes and discards that are kept, each; the kernel's further ones are ignored with a warning.
pub const MAX_ROUTES: usize = 65_536;

/// Neighbours that are kept; further ones are ignored with a warning.
pub const MAX_NEIGHBOURS: usize = 65_536;

/// How long changes are collected before they are read and published.
const COALESCE: Duration = Duration::from_millis(10);

/// Reading everything again may take at most this part of the time (1 in ...).
const READ_SHARE: u32 = 5;

/// How long to wait before trying again when the kernel does not answer.
const RETRY: Duration = Duration::from_secs(1);

/// The event socket's receive buffer, in bytes, as far as the host's limit allows.
const EVENT_BUFFER: usize = 1 << 20;

const GROUPS: [MulticastGroup; 6] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
];

/// Follows the kernel's network until it is dropped.
#[derive(Debug)]
pub struct Observer {
    view: watch::Receiver<Arc<HostView>>,
    network: watch::Receiver<()>,
    _task: Task,
}

impl Observer {
    /// Reads the kernel's network completely, then follows it in a task of the current runtime.
    pub async fn start() -> Result<Self, NetlinkError> {
        let events = Events::open().map_err(NetlinkError::Open)?;
        let netlink = Netlink::open()?;
        let mut picture = Picture::default();
        picture.read(&netlink, Stale::EVERYTHING).await?;
        let (publisher, view) = watch::channel(Arc::new(picture.view.clone()));
        let (noticed, network) = watch::channel(());
        let task = Task::spawn(follow(events, netlink, picture, (publisher, noticed)));
        Ok(Self { view, network, _task: task })
    }

    /// The newest picture; changes wake the receiver.
    #[must_use]
    pub fn view(&self) -> watch::Receiver<Arc<HostView>> {
        self.view.clone()
    }

    /// Woken whenever links, addresses or routes changed in any way, pictured or not.
    #[must_use]
    pub fn network(&self) -> watch::Receiver<()> {
        self.network.clone()
    }
}

type Unsolicited = Box<dyn Stream<Item = NetlinkMessage<RouteNetlinkMessage>> + Send + Unpin>;

/// The event socket.
struct Events {
    messages: Unsolicited,
    _connection: Task,
}

impl Events {
    fn open() -> io::Result<Self> {
        let (mut connection, handle, messages) = rtnetlink::new_multicast_connection(&GROUPS)?;
        if let Err(error) = connection.socket_mut().socket_mut().set_rx_buf_sz(EVENT_BUFFER as u32)
        {
            tracing::debug!(%error, "netlink events keep the default receive buffer");
        }
        // The connection ends when nobody holds its handle.
        let messages = messages.map(move |(message, _)| {
            let _ = &handle;
            message
        });
        Ok(Self { messages: Box::new(messages), _connection: Task::spawn(connection) })
    }
}

/// What has to be read again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stale {
    network: bool,
    neighbours: bool,
}

impl Stale {
    const NOTHING: Self = Self { network: false, neighbours: false };
    const EVERYTHING: Self = Self { network: true, neighbours: true };
}

async fn follow(
    mut events: Events,
    mut netlink: Netlink,
    mut picture: Picture,
    (publisher, noticed): (watch::Sender<Arc<HostView>>, watch::Sender<()>),
) {
    let mut stale = Stale::NOTHING;
    let mut not_before = Instant::now();
    loop {
        match events.messages.next().await {
            Some(message) => picture.handle(message, &mut stale),
            None => (events, netlink) = reopen(&mut stale).await,
        }
        let deadline = Instant::now() + COALESCE;
        while let Ok(Some(message)) =
            tokio::time::timeout_at(deadline, events.messages.next()).await
        {
            picture.handle(message, &mut stale);
        }
        let network = stale.network;
        while stale != Stale::NOTHING {
            tokio::time::sleep_until(not_before).await;
            let started = Instant::now();
            match picture.read(&netlink, stale).await {
                Ok(()) => stale = Stale::NOTHING,
                Err(error) => {
                    tracing::warn!(%error, "cannot read the host's network; trying again");
                    tokio::time::sleep(RETRY).await;
                    (events, netlink) = reopen(&mut stale).await;
                }
            }
            not_before = Instant::now() + started.elapsed() * (READ_SHARE - 1);
        }
        publisher.send_if_modified(|view| {
            let changed = **view != picture.view;
            if changed {
                *view = Arc::new(picture.view.clone());
            }
            changed
        });
        if network {
            noticed.send_replace(());
        }
    }
}

/// Opens both sockets anew, for as long as it takes; everything has to be read again.
async fn reopen(stale: &mut Stale) -> (Events, Netlink) {
    *stale = Stale::EVERYTHING;
    loop {
        match (Events::open(), Netlink::open()) {
            (Ok(events), Ok(netlink)) => return (events, netlink),
            (events, netlink) => {
                let events = events.err().map(|error| error.to_string());
                let netlink = netlink.err().map(|error| error.to_string());
                tracing::error!(?events, ?netlink, "cannot follow the host's network");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// The picture being put together.
#[derive(Debug, Default)]
struct Picture {
    view: HostView,
    /// Whether the bound on neighbours has been warned about.
    neighbours_cut: bool,
}

impl Picture {
    fn handle(&mut self, message: NetlinkMessage<RouteNetlinkMessage>, stale: &mut Stale) {
        use RouteNetlinkMessage as M;
        match message.payload {
            NetlinkPayload::Overrun(_) => {
                tracing::info!("netlink events were lost; reading the host's network again");
                *stale = Stale::EVERYTHING;
            }
            NetlinkPayload::InnerMessage(M::NewNeighbour(message)) => self.neighbour(&message),
            NetlinkPayload::InnerMessage(M::DelNeighbour(message)) => {
                if let Some((key, _)) = neighbour(&message) {
                    self.view.neighbours.remove(&key);
                }
            }
            NetlinkPayload::InnerMessage(M::NewLink(_) | M::DelLink(_)) => {
                *stale = Stale::EVERYTHING;
            }
            NetlinkPayload::InnerMessage(
                M::NewAddress(_) | M::DelAddress(_) | M::NewRoute(_) | M::DelRoute(_),
            ) => stale.network = true,
            _ => {}
        }
    }

    fn neighbour(&mut self, message: &NeighbourMessage) {
        let Some((key, neighbour)) = neighbour(message) else { return };
        let Some(neighbour) = neighbour else {
            self.view.neighbours.remove(&key);
            return;
        };
        let full = self.view.neighbours.len() >= MAX_NEIGHBOURS;
        if full && !self.view.neighbours.contains_key(&key) {
            if !self.neighbours_cut {
                tracing::warn!(
                    bound = MAX_NEIGHBOURS,
                    "the host has more neighbours than are kept"
                );
                self.neighbours_cut = true;
            }
            return;
        }
        self.view.neighbours.insert(key, neighbour);
    }

    /// Reads what is stale. On an error the picture keeps what it had.
    async fn read(&mut self, netlink: &Netlink, stale: Stale) -> Result<(), NetlinkError> {
        if stale.network {
            let mut links = read_links(netlink).await?;
            read_addresses(netlink, &mut links).await?;
            (self.view.routes, self.view.discards) = read_routes(netlink).await?;
            self.view.links = links;
        }
        if stale.neighbours {
            let mut messages = Vec::new();
            let request = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
            netlink
                .dump("list neighbours", request, |answer| {
                    if let RouteNetlinkMessage::NewNeighbour(message) = answer
                        && messages.len() < 2 * MAX_NEIGHBOURS
                    {
                        messages.push(message);
                    }
                })
                .await?;
            self.view.neighbours.clear();
            self.neighbours_cut = false;
            for message in &messages {
                self.neighbour(message);
            }
        }
        Ok(())
    }
}

/// Whose neighbour a message is about, and the neighbour when it is resolved. Nothing when the
/// message is not about an IP neighbour.
fn neighbour(message: &NeighbourMessage) -> Option<((u32, IpAddr), Option<Neighbour>)> {
    let mut address = None;
    let mut mac = None;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => {
                address = Some(IpAddr::V4(*v4));
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => {
                address = Some(IpAddr::V6(*v6));
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = mac_address(bytes),
            _ => {}
        }
    }
    let resolved = matches!(
        message.header.state,
        NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
            | NeighbourState::Noarp
    );
    let permanent =
        matches!(message.header.state, NeighbourState::Permanent | NeighbourState::Noarp);
    let mac = mac.filter(|mac| resolved && mac.is_station());
    Some(((message.header.ifindex, address?), mac.map(|mac| Neighbour { mac, permanent })))
}

fn mac_address(bytes: &[u8]) -> Option<MacAddress> {
    bytes.try_into().ok().map(MacAddress)
}

async fn read_links(netlink: &Netlink) -> Result<BTreeMap<String, LinkFacts>, NetlinkError> {
    let mut links = BTreeMap::new();
    let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
    netlink
        .dump("list links", request, |answer| {
            if let RouteNetlinkMessage::NewLink(message) = answer
                && let Some((name, facts)) = link(&message)
            {
                links.insert(name, facts);
            }
        })
        .await?;
    Ok(links)
}

/// A link's facts; nothing when it is not an Ethernet link.
fn link(message: &LinkMessage) -> Option<(String, LinkFacts)> {
    if message.header.link_layer_type != LinkLayerType::Ether {
        return None;
    }
    let (mut name, mut mac, mut mtu) = (None, None, None);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text.clone()),
            LinkAttribute::Address(bytes) => mac = mac_address(bytes),
            LinkAttribute::Mtu(bytes) => mtu = Some(*bytes),
            _ => {}
        }
    }
    let facts = LinkFacts {
        index: message.header.index,
        mac: mac?,
        mtu: mtu?,
        running: message.header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
        addresses: Vec::new(),
    };
    Some((name?, facts))
}

async fn read_addresses(
    netlink: &Netlink,
    links: &mut BTreeMap<String, LinkFacts>,
) -> Result<(), NetlinkError> {
    let mut by_index: BTreeMap<u32, &mut LinkFacts> =
        links.values_mut().map(|link| (link.index, link)).collect();
    let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    netlink
        .dump("list addresses", request, |answer| {
            if let RouteNetlinkMessage::NewAddress(message) = answer
                && !message.header.flags.contains(AddressHeaderFlags::Dadfailed)
                && let Some(address) = own_address(&message)
                && let Some(link) = by_index.get_mut(&message.header.index)
            {
                link.addresses.push((address, message.header.prefix_len));
            }
        })
        .await
}

/// The link's own address: on a point-to-point address the attribute `Address` is the peer's.
fn own_address(message: &AddressMessage) -> Option<IpAddr> {
    let mut own = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => return Some(*address),
            AddressAttribute::Address(address) => own = Some(*address),
            _ => {}
        }
    }
    own
}

async fn read_routes(netlink: &Netlink) -> Result<(Vec<Route>, Vec<Discard>), NetlinkError> {
    let mut routes = Vec::new();
    let mut discards = Vec::new();
    let mut cut = false;
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut request = RouteMessage::default();
        request.header.address_family = family;
        request.header.table = RouteHeader::RT_TABLE_MAIN;
        netlink
            .dump("list routes", RouteNetlinkMessage::GetRoute(request), |answer| {
                if let RouteNetlinkMessage::NewRoute(message) = answer {
                    cut |= !take_route(&message, &mut routes, &mut discards);
                }
            })
            .await?;
    }
    if cut {
        tracing::warn!(bound = MAX_ROUTES, "the host's main table has more routes than are kept");
    }
    Ok((routes, discards))
}

/// Adds what a message of the main table says; returns `false` when there is no room for it.
/// Routes that depend on more than the destination (source, TOS, encapsulation) are left out.
fn take_route(
    message: &RouteMessage,
    routes: &mut Vec<Route>,
    discards: &mut Vec<Discard>,
) -> bool {
    let header = &message.header;
    let unusable = RouteFlags::Dead | RouteFlags::Linkdown | RouteFlags::Cloned;
    if header.table != RouteHeader::RT_TABLE_MAIN
        || header.source_prefix_length != 0
        || header.tos != 0
        || header.flags.intersects(unusable)
    {
        return true;
    }
    let Some(found) = attributes(message) else { return true };
    let Ok(prefix) = Prefix::new(found.destination, header.destination_prefix_length) else {
        return true;
    };
    let metric = found.metric;
    match header.kind {
        RouteType::Unicast => {
            for (link, gateway) in found.hops {
                if routes.len() >= MAX_ROUTES {
                    return false;
                }
                routes.push(Route { prefix, metric, link, gateway, mtu: found.mtu });
            }
            true
        }
        RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit | RouteType::Throw => {
            if discards.len() >= MAX_ROUTES {
                return false;
            }
            discards.push(Discard { prefix, metric });
            true
        }
        _ => true,
    }
}

/// What the attributes of a route say.
struct RouteAttributes {
    destination: IpAddr,
    metric: u32,
    mtu: Option<u32>,
    hops: Vec<(u32, Option<IpAddr>)>,
}

fn attributes(message: &RouteMessage) -> Option<RouteAttributes> {
    let destination = match message.header.address_family {
        AddressFamily::Inet => Prefix::DEFAULT_V4.network(),
        AddressFamily::Inet6 => Prefix::DEFAULT_V6.network(),
        _ => return None,
    };
    let mut found = RouteAttributes { destination, metric: 0, mtu: None, hops: Vec::new() };
    let (mut link, mut gateway) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => found.destination = ip(address)?,
            RouteAttribute::Priority(metric) => found.metric = *metric,
            RouteAttribute::Oif(index) => link = Some(*index),
            RouteAttribute::Gateway(address) => gateway = ip(address),
            RouteAttribute::Via(RouteVia::Inet(v4)) => gateway = Some(IpAddr::V4(*v4)),
            RouteAttribute::Via(RouteVia::Inet6(v6)) => gateway = Some(IpAddr::V6(*v6)),
            RouteAttribute::Metrics(metrics) => {
                found.mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(bytes) => Some(*bytes),
                    _ => None,
                });
            }
            RouteAttribute::MultiPath(hops) => found.hops.extend(hops.iter().filter_map(next_hop)),
            RouteAttribute::Encap(_) => return None,
            _ => {}
        }
    }
    if found.hops.is_empty()
        && let Some(link) = link
    {
        found.hops.push((link, gateway));
    }
    Some(found)
}

/// One of several next hops; nothing when it is dead or encapsulates.
fn next_hop(hop: &RouteNextHop) -> Option<(u32, Option<IpAddr>)> {
    if hop.flags.intersects(RouteNextHopFlags::Dead | RouteNextHopFlags::Linkdown) {
        return None;
    }
    let mut gateway = None;
    for attribute in &hop.attributes {
        match attribute {
            RouteAttribute::Gateway(address) => gateway = ip(address),
            RouteAttribute::Via(RouteVia::Inet(v4)) => gateway = Some(IpAddr::V4(*v4)),
            RouteAttribute::Via(RouteVia::Inet6(v6)) => gateway = Some(IpAddr::V6(*v6)),
            RouteAttribute::Encap(_) => return None,
            _ => {}
        }
    }
    Some((hop.interface_index, gateway))
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
