//! Proves `links` and `management` of gateway.yaml: that every link can be made of what it names,
//! that MTUs fit into each other, and that what ports need of their links is there.

use std::collections::HashMap;
use std::net::IpAddr;

use nvgate_model::ProviderAddress;
use nvgate_nvgre::mtu::overhead;
use nvgate_packet::headers::Family;

use super::address::special_address;
use super::gateway::PoolDraft;
use crate::plan::{
    Addressing, BondHash, BondMode, BondOptions, BondPlan, InterfaceAddress, LacpRate, LinkKind,
    LinkPlan, LinksPlan, ManagementPlan, Offload, Offloads, Selection,
};
use crate::schema::{
    self, At, Findings, GatewayFile, Link, LinkName, Place, Select, Switch, entries,
};

/// The MTU of tenants' VMs unless configured: what IPv6 needs (RFC 8200 section 5).
pub(super) const TENANT_MTU: u32 = 1280;
/// The MTU that a link is taken to have where nothing says it.
const USUAL_MTU: u32 = 1500;
/// Milliseconds between two looks at a member's carrier, unless configured.
const MONITOR_MILLIS: u32 = 100;
/// The kernel's own link.
const LOOPBACK: &str = "lo";

/// What links are proven against.
pub(super) struct LinksGround<'a> {
    pub(super) file: &'a GatewayFile,
    /// Whether the file's form is right: else what is absent may be what could not be read.
    pub(super) intact: bool,
    pub(super) provider_addresses: &'a [At<ProviderAddress>],
    pub(super) tenant_mtu: u32,
    pub(super) pools: &'a [PoolDraft],
}

/// A link that has a name.
struct Draft<'a> {
    name: &'a str,
    place: Place,
    link: &'a Link,
}

impl Draft<'_> {
    fn mtu(&self) -> Option<At<u32>> {
        self.link.mtu.map(|mtu| At { value: mtu.value.0, place: mtu.place })
    }

    fn is_uplink(&self) -> bool {
        self.link.bond.is_none() && self.link.vlan.is_none()
    }
}

/// All links that have a name, by name.
struct Drafts<'a>(Vec<Draft<'a>>);

impl<'a> Drafts<'a> {
    fn find(&self, name: &str) -> Option<&Draft<'a>> {
        self.0.iter().find(|draft| draft.name == name)
    }

    /// Each membership: the bond and where it names its member.
    fn memberships(&self) -> impl Iterator<Item = (&Draft<'a>, &At<LinkName>)> {
        self.0.iter().flat_map(|draft| {
            let bond = draft.link.bond.as_ref();
            let members = bond.map_or(&[][..], |bond| entries(&bond.value.members));
            members.iter().map(move |member| (draft, member))
        })
    }

    fn bond_of(&self, member: &str) -> Option<(&Draft<'a>, &At<LinkName>)> {
        self.memberships().find(|(_, name)| name.value.0 == member)
    }
}

/// Proves the links, if there are any to prove.
pub(super) fn prove_links(ground: &LinksGround<'_>, findings: &mut Findings) -> Option<LinksPlan> {
    let file = ground.file;
    let Some(list) = &file.links else {
        if let Some(management) = &file.management {
            let message = "`management` needs `links`, one of which it names";
            findings.error(management.place, message);
        }
        return None;
    };
    let drafts = prove_names(&list.value.0, findings);
    prove_kinds(&drafts, findings);
    prove_selections(&drafts, ground.intact, findings);
    prove_members(&drafts, findings);
    prove_vlans(&drafts, findings);
    prove_addresses(&drafts, findings);
    prove_offloads(&drafts, findings);
    prove_fabric(ground, &drafts, findings);
    prove_front_end(ground, &drafts, findings);
    let management = prove_management(file, &drafts, findings);
    let ports =
        [file.fabric.as_ref()?.value.link.as_ref()?, file.front_end.as_ref()?.value.link.as_ref()?];
    let fabric = &ports[0].value.0;
    let needed = needed_mtu(ground);
    let mut links: Vec<LinkPlan> = drafts
        .0
        .iter()
        .filter_map(|draft| planned(draft, (draft.name == fabric).then_some(needed)))
        .collect();
    links.sort_by_key(|link| match link.kind {
        LinkKind::Uplink(_) => 0,
        LinkKind::Bond(_) => 1,
        LinkKind::Vlan { .. } => 2,
    });
    Some(LinksPlan { links, management, ports: ports.map(|port| port.value.0.clone()) })
}

fn prove_names<'a>(links: &'a [At<Link>], findings: &mut Findings) -> Drafts<'a> {
    let mut drafts = Drafts(Vec::new());
    for link in links {
        let Some(name) = &link.value.name else { continue };
        if let Some(first) = drafts.find(&name.value.0) {
            let message = format!("link `{}` is described twice", name.value.0);
            findings.conflict(name.place, message, first.place, "described here first");
            continue;
        }
        if name.value.0 == LOOPBACK {
            findings.error(name.place, "link `lo` is the kernel's own");
        }
        drafts.0.push(Draft { name: &name.value.0, place: name.place, link: &link.value });
    }
    drafts
}

fn prove_kinds(drafts: &Drafts<'_>, findings: &mut Findings) {
    for Draft { name, link, .. } in &drafts.0 {
        if let (Some(bond), Some(vlan)) = (&link.bond, &link.vlan) {
            let message = format!("link `{name}` is a bond or a VLAN, not both");
            findings.conflict(vlan.place, message, bond.place, "the bond");
        }
        if let (Some(select), false) = (&link.select, link.bond.is_none() && link.vlan.is_none()) {
            let message = format!("link `{name}` is no network card, so none is selected for it");
            findings.error(select.place, message);
        }
        if let (Some(dhcp), Some(addresses)) = (link.dhcp.filter(is_on), &link.addresses)
            && !addresses.value.0.is_empty()
        {
            let message =
                format!("link `{name}` has addresses here, or by somebody else: not both");
            findings.conflict(addresses.place, message, dhcp.place, "by somebody else");
        }
    }
}

fn is_on(switch: &At<Switch>) -> bool {
    switch.value == Switch::On
}

fn prove_selections(drafts: &Drafts<'_>, intact: bool, findings: &mut Findings) {
    let mut seen: HashMap<String, Place> = HashMap::new();
    for draft in &drafts.0 {
        let Some(At { value: Select { mac, path }, place }) = &draft.link.select else { continue };
        let (what, at) = match (mac, path) {
            (Some(mac), None) => (mac.value.to_string(), mac.place),
            (None, Some(path)) => (path.value.0.clone(), path.place),
            (None, None) if !intact => continue,
            (Some(_), Some(_)) | (None, None) => {
                findings.error(*place, "a network card is selected by `mac` or by `path`");
                continue;
            }
        };
        if let Some(mac) = mac.as_ref().filter(|mac| !mac.value.is_station()) {
            let message = format!("MAC {} is not the address of a network card", mac.value);
            findings.error(mac.place, message);
        }
        if let Some(&first) = seen.get(&what) {
            let message = format!("network card {what} is selected twice");
            findings.conflict(at, message, first, "selected here first");
        }
        seen.insert(what, at);
    }
}

fn prove_members(drafts: &Drafts<'_>, findings: &mut Findings) {
    let mut taken: HashMap<&str, Place> = HashMap::new();
    for (bond, member) in drafts.memberships() {
        let name = member.value.0.as_str();
        match drafts.find(name) {
            None => {
                let message = format!("member `{name}` of bond `{}` is not described", bond.name);
                findings.error(member.place, format!("{message}: add it to `links`"));
            }
            Some(uplink) if !uplink.is_uplink() => {
                let message = format!("member `{name}` of bond `{}` is no uplink", bond.name);
                findings.conflict(member.place, message, uplink.place, "described here");
            }
            Some(uplink) => prove_member(uplink, member.place, findings),
        }
        if let Some(&first) = taken.get(name) {
            let message = format!("link `{name}` is a member twice");
            findings.conflict(member.place, message, first, "a member here already");
        }
        taken.insert(name, member.place);
    }
    for draft in &drafts.0 {
        if let Some(bond) = &draft.link.bond {
            prove_mode(&bond.value, findings);
        }
    }
}

/// A member carries the bond's frames and has nothing of its own but offloads.
fn prove_member(uplink: &Draft<'_>, membership: Place, findings: &mut Findings) {
    let Link { mtu, addresses, dhcp, .. } = uplink.link;
    let own = [
        ("MTU", mtu.as_ref().map(|mtu| mtu.place)),
        (
            "addresses",
            addresses.as_ref().filter(|list| !list.value.0.is_empty()).map(|list| list.place),
        ),
        ("addresses by somebody else", dhcp.filter(is_on).map(|dhcp| dhcp.place)),
    ];
    for (what, place) in own {
        if let Some(place) = place {
            let message =
                format!("link `{}` is a member of a bond, which has the {what}", uplink.name);
            findings.conflict(place, message, membership, "a member here");
        }
    }
}

fn prove_mode(bond: &schema::Bond, findings: &mut Findings) {
    let Some(mode) = bond.mode else { return };
    let (hashes, lacp, prefers) = match mode.value {
        schema::BondMode::ActiveBackup | schema::BondMode::TransmitLoadBalancing => {
            (false, false, true)
        }
        schema::BondMode::Static => (true, false, false),
        schema::BondMode::Lacp => (true, true, false),
    };
    let misplaced = [
        ("hash", "`static` and `lacp`", bond.hash.map(|hash| hash.place), hashes),
        ("lacp_rate", "`lacp`", bond.lacp_rate.map(|rate| rate.place), lacp),
        (
            "primary",
            "`active-backup` and `transmit-load-balancing`",
            bond.primary.as_ref().map(|primary| primary.place),
            prefers,
        ),
    ];
    for (key, modes, place, fits) in misplaced {
        if let (Some(place), false) = (place, fits) {
            let message = format!("`{key}` is for {modes}");
            findings.conflict(place, message, mode.place, "the mode");
        }
    }
    if let Some(primary) = &bond.primary
        && !entries(&bond.members).iter().any(|member| member.value == primary.value)
    {
        let message = format!("`{}` is no member of the bond", primary.value.0);
        findings.error(primary.place, message);
    }
}

fn prove_vlans(drafts: &Drafts<'_>, findings: &mut Findings) {
    let mut seen: HashMap<(&str, u32), Place> = HashMap::new();
    for draft in &drafts.0 {
        let Some(vlan) = &draft.link.vlan else { continue };
        let (Some(parent), Some(id)) = (&vlan.value.parent, vlan.value.id) else { continue };
        let name = parent.value.0.as_str();
        if let Some(&first) = seen.get(&(name, id.value.0)) {
            let message = format!("VLAN {} of `{name}` is described twice", id.value.0);
            findings.conflict(id.place, message, first, "described here first");
        }
        seen.insert((name, id.value.0), id.place);
        let Some(carrier) = drafts.find(name) else {
            let message = format!("`{name}`, which VLAN `{}` is on, is not described", draft.name);
            findings.error(parent.place, format!("{message}: add it to `links`"));
            continue;
        };
        if carrier.link.vlan.is_some() {
            let message = format!("`{name}` is a VLAN itself; name the uplink or bond below");
            findings.conflict(parent.place, message, carrier.place, "described here");
        } else if let Some((bond, member)) = drafts.bond_of(name) {
            let message = format!("`{name}` is a member of `{0}`; name `{0}`", bond.name);
            findings.conflict(parent.place, message, member.place, "a member here");
        }
        let below = carrier.mtu();
        let (room, place) = below.map_or((USUAL_MTU, carrier.place), |mtu| (mtu.value, mtu.place));
        if let Some(mtu) = draft.mtu().filter(|mtu| mtu.value > room) {
            let assumed = if below.is_none() { ", unless set," } else { "" };
            let message = format!(
                "MTU {} of VLAN `{}` is larger than that of `{name}`{assumed} {room}",
                mtu.value, draft.name
            );
            findings.conflict(mtu.place, message, place, "the link that carries it");
        }
    }
}

fn prove_addresses(drafts: &Drafts<'_>, findings: &mut Findings) {
    let mut seen: HashMap<IpAddr, Place> = HashMap::new();
    for draft in &drafts.0 {
        for At { value, place } in entries(&draft.link.addresses) {
            let InterfaceAddress { address, length } = *value;
            if let Some(what) = special_address(address) {
                findings.error(*place, format!("address {address} is {what}"));
            }
            let prefix = value.prefix();
            let inside = u32::from(length) + 1 < if address.is_ipv4() { 32 } else { 128 };
            if inside
                && (address == prefix.network()
                    || prefix.broadcast().map(IpAddr::V4) == Some(address))
            {
                let message =
                    format!("address {address} stands for all of {prefix}; name a host's");
                findings.error(*place, message);
            }
            if let Some(&first) = seen.get(&address) {
                findings.conflict(
                    *place,
                    format!("address {address} is given twice"),
                    first,
                    "given here first",
                );
            }
            seen.insert(address, *place);
        }
    }
}

/// A card that cuts TCP super-packets computes their checksums; the kernel turns the first off with
/// the second.
fn prove_offloads(drafts: &Drafts<'_>, findings: &mut Findings) {
    for draft in &drafts.0 {
        let Some(offloads) = &draft.link.offloads else { continue };
        let schema::Offloads { tso, tx_checksums, .. } = &offloads.value;
        if let (Some(tso), Some(checksums)) = (tso.filter(is_on), tx_checksums)
            && checksums.value == Switch::Off
        {
            let message = format!("`tso` of link `{}` needs `tx_checksums`", draft.name);
            findings.conflict(tso.place, message, checksums.place, "turned off here");
        }
    }
}

/// The MTU of the fabric that tenants' packets need inside of NVGRE.
fn needed_mtu(ground: &LinksGround<'_>) -> u32 {
    let families = ground.provider_addresses.iter().map(|address| match address.value.ip() {
        IpAddr::V4(_) => Family::V4,
        IpAddr::V6(_) => Family::V6,
    });
    ground.tenant_mtu + families.map(overhead).max().unwrap_or(0)
}

fn prove_fabric(ground: &LinksGround<'_>, drafts: &Drafts<'_>, findings: &mut Findings) {
    let Some(port) = ground.file.fabric.as_ref().and_then(|fabric| fabric.value.link.as_ref())
    else {
        return;
    };
    prove_port(port, drafts, findings);
    let Some(draft) = drafts.find(&port.value.0) else { return };
    let below = draft.link.vlan.as_ref().and_then(|vlan| vlan.value.parent.as_ref());
    let below = below.and_then(|parent| drafts.find(&parent.value.0));
    let said = draft.mtu().or_else(|| below.and_then(Draft::mtu));
    let (mtu, place) = said.map_or((USUAL_MTU, draft.place), |mtu| (mtu.value, mtu.place));
    let needed = needed_mtu(ground);
    if mtu < needed {
        let assumed = if said.is_none() { "unless set, " } else { "" };
        let message = format!(
            "the fabric's link `{}` carries {assumed}{mtu} bytes; packets of {} bytes in NVGRE need \
             {needed}",
            draft.name, ground.tenant_mtu
        );
        findings.error(place, message);
    }
    if draft.link.dhcp.filter(is_on).is_some() || !ground.intact {
        return;
    }
    let own = entries(&draft.link.addresses);
    for provider in ground.provider_addresses {
        if !own.iter().any(|address| address.value.address == provider.value.ip()) {
            let message = format!(
                "provider address {} is none of the addresses of link `{}`",
                provider.value, draft.name
            );
            findings.conflict(provider.place, message, draft.place, "the fabric's link");
        }
    }
}

fn prove_front_end(ground: &LinksGround<'_>, drafts: &Drafts<'_>, findings: &mut Findings) {
    let front_end = ground.file.front_end.as_ref();
    let Some(port) = front_end.and_then(|front_end| front_end.value.link.as_ref()) else { return };
    prove_port(port, drafts, findings);
    for draft in &drafts.0 {
        for address in entries(&draft.link.addresses) {
            let ip = address.value.address;
            for PoolDraft { pool, prefixes, .. } in ground.pools {
                let excepted = pool.excepted.iter().any(|prefix| prefix.contains(ip));
                let prefix = prefixes.iter().find(|prefix| prefix.value.contains(ip));
                if let (Some(prefix), false) = (prefix, excepted) {
                    let message = format!(
                        "address {ip} of link `{}` lies in pool `{}`: name it under `except` there",
                        draft.name, pool.name
                    );
                    findings.conflict(address.place, message, prefix.place, "the pool's prefix");
                }
            }
        }
    }
}

/// A port's own link is no member of a bond.
fn prove_port(port: &At<LinkName>, drafts: &Drafts<'_>, findings: &mut Findings) {
    if let Some((bond, member)) = drafts.bond_of(&port.value.0) {
        let message = format!(
            "link `{}` is a member of `{2}`; name `{2}` or a VLAN{1}",
            port.value.0, " on it", bond.name
        );
        findings.conflict(port.place, message, member.place, "a member here");
    }
}

fn prove_management(
    file: &GatewayFile,
    drafts: &Drafts<'_>,
    findings: &mut Findings,
) -> Option<ManagementPlan> {
    let management = &file.management.as_ref()?.value;
    let link = management.link.as_ref()?;
    prove_port(link, drafts, findings);
    let ports = [
        ("fabric", file.fabric.as_ref().and_then(|fabric| fabric.value.link.as_ref())),
        ("front end", file.front_end.as_ref().and_then(|front_end| front_end.value.link.as_ref())),
    ];
    for (role, port) in ports {
        if let Some(port) = port.filter(|port| port.value == link.value) {
            let message =
                format!("link `{}` is the {role}'s; management has its own", port.value.0);
            findings.conflict(link.place, message, port.place, "named here");
        }
    }
    let Some(draft) = drafts.find(&link.value.0) else {
        let message = format!("link `{}` is not described: add it to `links`", link.value.0);
        findings.error(link.place, message);
        return None;
    };
    let gateways = entries(&management.gateways);
    let foreign = draft.link.dhcp.filter(is_on);
    for (index, gateway) in gateways.iter().enumerate() {
        let address = gateway.value.0;
        let own = entries(&draft.link.addresses);
        if let Some(dhcp) = foreign {
            let message =
                format!("gateway {address}: link `{}` has its routes by somebody else", draft.name);
            findings.conflict(gateway.place, message, dhcp.place, "by somebody else");
        } else if own.iter().any(|one| one.value.address == address) {
            findings.error(gateway.place, format!("gateway {address} is the link's own address"));
        } else if !own.iter().any(|one| one.value.prefix().contains(address)) {
            let message = format!("gateway {address} is in no prefix of link `{}`", draft.name);
            findings.conflict(gateway.place, message, draft.place, "the link");
        }
        let same = |other: &&At<_>| {
            let other: &At<schema::HostAddress> = other;
            other.value.0.is_ipv4() == address.is_ipv4()
        };
        if let Some(first) = gateways[..index].iter().find(same) {
            let message = format!("gateway {address} is a second one of its family");
            findings.conflict(gateway.place, message, first.place, "the first one");
        }
    }
    Some(ManagementPlan {
        link: link.value.0.clone(),
        gateways: gateways.iter().map(|gateway| gateway.value.0).collect(),
    })
}

fn planned(draft: &Draft<'_>, needed_mtu: Option<u32>) -> Option<LinkPlan> {
    let Link { select, bond, vlan, addresses, dhcp, offloads, .. } = draft.link;
    let kind = match (bond, vlan) {
        (Some(bond), _) => LinkKind::Bond(planned_bond(&bond.value)?),
        (None, Some(vlan)) => LinkKind::Vlan {
            parent: vlan.value.parent.as_ref()?.value.0.clone(),
            id: u16::try_from(vlan.value.id?.value.0).ok()?,
        },
        (None, None) => LinkKind::Uplink(match select.as_ref().map(|select| &select.value) {
            None => Selection::Name,
            Some(Select { mac: Some(mac), .. }) => Selection::Mac(mac.value),
            Some(Select { path, .. }) => Selection::Path(path.as_ref()?.value.0.clone()),
        }),
    };
    let addressing = if dhcp.filter(is_on).is_some() {
        Addressing::Foreign
    } else {
        Addressing::Static(entries(addresses).iter().map(|address| address.value).collect())
    };
    Some(LinkPlan {
        name: draft.name.to_owned(),
        kind,
        mtu: draft.mtu().map(|mtu| mtu.value),
        addressing,
        offloads: offloads
            .as_ref()
            .map_or_else(Offloads::default, |one| planned_offloads(&one.value)),
        needed_mtu,
    })
}

fn planned_bond(bond: &schema::Bond) -> Option<BondPlan> {
    let hash = match bond.hash.map(|hash| hash.value) {
        Some(schema::BondHash::Address) | None => BondHash::Address,
        Some(schema::BondHash::Port) => BondHash::Port,
        Some(schema::BondHash::Mac) => BondHash::Mac,
        Some(schema::BondHash::Tunnel) => BondHash::Tunnel,
    };
    let rate = match bond.lacp_rate.map(|rate| rate.value) {
        Some(schema::LacpRate::Slow) | None => LacpRate::Slow,
        Some(schema::LacpRate::Fast) => LacpRate::Fast,
    };
    let mode = match bond.mode?.value {
        schema::BondMode::ActiveBackup => BondMode::ActiveBackup,
        schema::BondMode::TransmitLoadBalancing => BondMode::TransmitLoadBalancing,
        schema::BondMode::Static => BondMode::Static(hash),
        schema::BondMode::Lacp => BondMode::Lacp(hash, rate),
    };
    let monitor_millis = bond.monitor_millis.map_or(MONITOR_MILLIS, |millis| millis.value.0);
    Some(BondPlan {
        options: BondOptions { mode, monitor_millis },
        members: entries(&bond.members).iter().map(|member| member.value.0.clone()).collect(),
        primary: bond.primary.as_ref().map(|primary| primary.value.0.clone()),
    })
}

fn planned_offloads(offloads: &schema::Offloads) -> Offloads {
    let schema::Offloads { gro, gso, tso, rx_checksums, tx_checksums } = offloads;
    let asked = [
        (Offload::Gro, gro),
        (Offload::Gso, gso),
        (Offload::Tso, tso),
        (Offload::RxChecksums, rx_checksums),
        (Offload::TxChecksums, tx_checksums),
    ];
    asked.into_iter().fold(Offloads::default(), |offloads, (offload, switch)| match switch {
        Some(switch) => offloads.with(offload, switch.value == Switch::On),
        None => offloads,
    })
}
