//! Proves what `gateway.yaml` says of the gateway itself: its links, provider addresses and pools.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;

use nvgate_model::{FlowId, FrontEndAddress, MacAddress, Prefix, ProviderAddress};

use super::address::{overlaps, special_address, special_part};
use super::bgp::{Ground, prove_front_end_bgp};
use super::links::{LinksGround, TENANT_MTU, prove_links};
use crate::lease::LeasePool;
use crate::plan::{DscpMode, FabricPlan, FrontEndPlan, GatewayPlan, PoolPlan};
use crate::schema::{
    At, Documents, Dscp, Fabric, Findings, FrontEnd, GatewayFile, Place, Pool, Workers, entries,
};

/// Addresses of one pool.
pub(super) const MAX_POOL_ADDRESSES: u32 = 65_536;
/// The MAC address of default gateways, unless configured: locally administered, "nvg", then 1.
const GATEWAY_MAC: MacAddress = MacAddress([0x02, 0x6e, 0x76, 0x67, 0x00, 0x01]);
/// Where the health endpoint listens, unless configured.
pub const ADMIN_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9470);
/// Where leases are kept, unless configured.
const STATE_DIRECTORY: &str = "/var/lib/nvgate";
/// Entries of a flow table, unless configured.
const FLOW_ENTRIES: u32 = 262_144;

/// What is known of the gateway when the tenants are proven.
pub(super) struct GatewayDraft {
    /// The plan, unless a part of it is missing.
    pub(super) plan: Option<GatewayPlan>,
    /// The gateway's own provider addresses.
    pub(super) provider_addresses: Vec<At<ProviderAddress>>,
    /// Every provider address that `gateway.yaml` names.
    pub(super) named_providers: Vec<At<ProviderAddress>>,
    pub(super) gateway_mac: MacAddress,
    pub(super) pools: Vec<PoolDraft>,
    /// The addresses that tenants' listeners share.
    pub(super) shared_addresses: Vec<At<FrontEndAddress>>,
    /// Whether what is missing here is truly absent.
    pub(super) intact: bool,
}

/// A pool that has a name and prefixes.
pub(super) struct PoolDraft {
    pub(super) pool: LeasePool,
    pub(super) prefixes: Vec<At<Prefix>>,
    pub(super) place: Place,
    /// Whether none of its prefixes had to be left out after an error.
    pub(super) whole: bool,
}

impl GatewayDraft {
    /// The pool of this name.
    pub(super) fn pool(&self, name: &str) -> Option<&PoolDraft> {
        self.pools.iter().find(|draft| draft.pool.name == name)
    }
}

/// Proves the gateway's part, as far as it could be read.
pub(super) fn prove_gateway(documents: &Documents, findings: &mut Findings) -> GatewayDraft {
    let file = documents.gateway.as_ref();
    let fabric = file.and_then(|file| file.fabric.as_ref());
    let front_end = file.and_then(|file| file.front_end.as_ref());
    let gateway_mac = file.and_then(|file| file.gateway_mac);
    if let Some(mac) = gateway_mac.filter(|mac| !mac.value.is_station()) {
        let message = format!("gateway MAC {} is not the address of a station", mac.value);
        findings.error(mac.place, message);
    }
    let provider_addresses = fabric.map_or_else(Vec::new, |fabric| {
        prove_own_providers(entries(&fabric.value.provider_addresses), findings)
    });
    let (fabric_plan, flow_providers) = match fabric {
        Some(fabric) => prove_fabric(&fabric.value, &provider_addresses, findings),
        None => (None, Vec::new()),
    };
    let pools =
        front_end.map_or_else(Vec::new, |front_end| prove_pools(&front_end.value, findings));
    let shared_addresses = front_end.map_or_else(Vec::new, |front_end| {
        prove_shared(entries(&front_end.value.shared_addresses), findings)
    });
    prove_ports(file, findings);
    let named_providers = provider_addresses.iter().copied().chain(flow_providers).collect();
    let intact = documents.gateway_intact && file.is_some();
    let bgp = front_end.and_then(|front_end| {
        let provider = provider_addresses.iter().find_map(|address| match address.value.ip() {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        });
        let ground = Ground::FrontEnd { pools: &pools, shared: &shared_addresses };
        let bgp = front_end.value.bgp.as_ref()?;
        prove_front_end_bgp(bgp, ground, provider, intact, &documents.sources, findings)
    });
    let front_end_plan = front_end.and_then(|front_end| {
        let link = front_end.value.link.as_ref()?.value.0.clone();
        let plan = |draft: &PoolDraft| PoolPlan {
            name: draft.pool.name.clone(),
            prefixes: draft.pool.leasable(),
        };
        Some(FrontEndPlan {
            link,
            pools: pools.iter().map(plan).collect(),
            shared_addresses: shared_addresses.iter().map(|address| address.value).collect(),
            bgp,
        })
    });
    let flow_entries = prove_flow_entries(file, findings);
    let bmp = prove_bmp(file, findings);
    let links = file.and_then(|file| {
        let provider_addresses = &provider_addresses;
        let tenant_mtu = fabric.map_or(TENANT_MTU, |fabric| tenant_mtu(&fabric.value));
        let pools = &pools;
        let ground = LinksGround { file, intact, provider_addresses, tenant_mtu, pools };
        prove_links(&ground, findings)
    });
    let gateway_mac = gateway_mac.map_or(GATEWAY_MAC, |mac| mac.value);
    let plan = fabric_plan.zip(front_end_plan).map(|(fabric, front_end)| GatewayPlan {
        workers: workers(file),
        fabric,
        front_end,
        links,
        admin_listen: admin_listen(file),
        bmp,
        state_directory: state_directory(file),
        gateway_mac,
        flow_entries,
    });
    GatewayDraft {
        plan,
        provider_addresses,
        named_providers,
        gateway_mac,
        pools,
        shared_addresses,
        intact,
    }
}

fn prove_own_providers(
    addresses: &[At<ProviderAddress>],
    findings: &mut Findings,
) -> Vec<At<ProviderAddress>> {
    for (index, address) in addresses.iter().enumerate() {
        refuse_special(address, findings);
        let same_family = |other: &&At<ProviderAddress>| {
            other.value.ip().is_ipv4() == address.value.ip().is_ipv4()
        };
        if let Some(other) = addresses[..index].iter().find(same_family) {
            let family = if address.value.ip().is_ipv4() { "IPv4" } else { "IPv6" };
            let message = format!(
                "provider address {} is a second one of {family}; the gateway has one a family",
                address.value
            );
            findings.conflict(address.place, message, other.place, "the first one");
        }
    }
    addresses.to_vec()
}

/// Refuses a provider address that is no unicast address.
pub(super) fn refuse_special(address: &At<ProviderAddress>, findings: &mut Findings) {
    if let Some(what) = special_address(address.value.ip()) {
        let message = format!("provider address {} is {what}", address.value);
        findings.error(address.place, message);
    }
}

fn prove_fabric(
    fabric: &Fabric,
    own: &[At<ProviderAddress>],
    findings: &mut Findings,
) -> (Option<FabricPlan>, Vec<At<ProviderAddress>>) {
    let mut seen: HashMap<ProviderAddress, Place> = HashMap::new();
    let mut constant_flow = Vec::new();
    let mut providers = Vec::new();
    for entry in entries(&fabric.constant_flow) {
        let Some(address) = entry.value.provider_address else { continue };
        prove_remote_provider(&address, own, findings);
        if let Some(&first) = seen.get(&address.value) {
            let message = format!("provider address {} has a constant flow twice", address.value);
            findings.conflict(address.place, message, first, "the first one");
        }
        seen.insert(address.value, address.place);
        providers.push(address);
        let flow = entry.value.flow_id.and_then(|flow| u8::try_from(flow.value.0).ok());
        constant_flow.extend(flow.map(|flow| (address.value, FlowId(flow))));
    }
    let plan = fabric.link.as_ref().map(|link| FabricPlan {
        link: link.value.0.clone(),
        provider_addresses: own.iter().map(|address| address.value).collect(),
        tenant_mtu: tenant_mtu(fabric),
        dscp: match fabric.dscp.map(|dscp| dscp.value) {
            Some(Dscp::Uniform) | None => DscpMode::Uniform,
            Some(Dscp::Pipe) => DscpMode::Pipe,
        },
        constant_flow,
    });
    (plan, providers)
}

fn tenant_mtu(fabric: &Fabric) -> u32 {
    fabric.tenant_mtu.map_or(TENANT_MTU, |mtu| mtu.value.0)
}

/// Proves that NVGRE can be sent to a host's provider address.
pub(super) fn prove_remote_provider(
    address: &At<ProviderAddress>,
    own: &[At<ProviderAddress>],
    findings: &mut Findings,
) {
    refuse_special(address, findings);
    if let Some(gateway) = own.iter().find(|own| own.value == address.value) {
        let message = format!("provider address {} is the gateway's own", address.value);
        findings.conflict(address.place, message, gateway.place, "the gateway has it here");
    }
    let same_family =
        |own: &At<ProviderAddress>| own.value.ip().is_ipv4() == address.value.ip().is_ipv4();
    if let (Some(first), false) = (own.first(), own.iter().any(same_family)) {
        let family = if address.value.ip().is_ipv4() { "IPv4" } else { "IPv6" };
        let message = format!(
            "provider address {} cannot be reached: the gateway has no {family} provider address",
            address.value
        );
        findings.conflict(address.place, message, first.place, "the gateway's are here");
    }
}

fn prove_ports(file: Option<&GatewayFile>, findings: &mut Findings) {
    let fabric = file.and_then(|file| file.fabric.as_ref()?.value.link.as_ref());
    let front_end = file.and_then(|file| file.front_end.as_ref()?.value.link.as_ref());
    if let (Some(fabric), Some(front_end)) = (fabric, front_end)
        && fabric.value == front_end.value
    {
        let message = format!("link {} is the fabric's too; each has its own", fabric.value.0);
        findings.conflict(front_end.place, message, fabric.place, "the fabric has it here");
    }
}

fn prove_pools(front_end: &FrontEnd, findings: &mut Findings) -> Vec<PoolDraft> {
    let mut drafts: Vec<PoolDraft> = Vec::new();
    for pool in entries(&front_end.pools) {
        let Some(draft) = prove_pool(pool, findings) else { continue };
        if let Some(first) = drafts.iter().find(|first| first.pool.name == draft.pool.name) {
            let message = format!("pool `{}` is defined twice", draft.pool.name);
            findings.conflict(draft.place, message, first.place, "defined here first");
        }
        drafts.push(draft);
    }
    let claims: Vec<(&str, At<Prefix>)> = drafts
        .iter()
        .flat_map(|draft| draft.prefixes.iter().map(|prefix| (draft.pool.name.as_str(), *prefix)))
        .collect();
    let places: Vec<_> = claims.iter().map(|(_, prefix)| (prefix.value, prefix.place)).collect();
    for (later, earlier) in overlaps(&places) {
        let ((name, prefix), (other_name, other)) = (claims[later], claims[earlier]);
        let message = format!(
            "{} of pool `{name}` overlaps {} of pool `{other_name}`",
            prefix.value, other.value
        );
        findings.conflict(prefix.place, message, other.place, "the other prefix");
    }
    drafts
}

fn prove_shared(
    addresses: &[At<FrontEndAddress>],
    findings: &mut Findings,
) -> Vec<At<FrontEndAddress>> {
    let mut seen = HashMap::new();
    for address in addresses {
        if let Some(what) = special_address(address.value.ip()) {
            let message = format!("shared address {} is {what}", address.value);
            findings.error(address.place, message);
        }
        if let Some(first) = seen.insert(address.value, address.place) {
            let message = format!("shared address {} is listed twice", address.value);
            findings.conflict(address.place, message, first, "listed here first");
        }
    }
    addresses.to_vec()
}

fn prove_pool(pool: &At<Pool>, findings: &mut Findings) -> Option<PoolDraft> {
    let name = pool.value.name.as_ref()?;
    let prefixes = entries(&pool.value.prefixes);
    let mut size: u128 = 0;
    let mut usable = Vec::new();
    for prefix in prefixes {
        if !prefix.value.is_ipv4() {
            let message =
                format!("{} is not IPv4; NAT translates to IPv4 addresses only", prefix.value);
            findings.error(prefix.place, message);
        } else if let Some(what) = special_part(prefix.value) {
            findings.error(prefix.place, format!("{} holds addresses of {what}", prefix.value));
        } else if size + prefix.value.size() > u128::from(MAX_POOL_ADDRESSES) {
            let message = format!(
                "{} makes pool `{}` larger than {MAX_POOL_ADDRESSES} addresses",
                prefix.value, name.value.0
            );
            findings.error(prefix.place, message);
        } else {
            size += prefix.value.size();
            usable.push(*prefix);
        }
    }
    let excepted = entries(&pool.value.except);
    for except in excepted {
        if !prefixes.iter().any(|prefix| prefix.value.covers(except.value.0)) {
            let message = format!("{} is not in pool `{}`", except.value.0, name.value.0);
            findings.error(except.place, message);
        }
    }
    let lease_pool = LeasePool {
        name: name.value.0.clone(),
        prefixes: usable.iter().map(|prefix| prefix.value).collect(),
        excepted: excepted.iter().map(|except| except.value.0).collect(),
    };
    let whole = usable.len() == prefixes.len();
    Some(PoolDraft { pool: lease_pool, prefixes: usable, place: name.place, whole })
}

fn prove_flow_entries(file: Option<&GatewayFile>, findings: &mut Findings) -> usize {
    let entries = file.and_then(|file| file.flow_entries);
    if let Some(entries) = entries.filter(|entries| !entries.value.0.is_power_of_two()) {
        let number = entries.value.0;
        let message = format!(
            "{number} flow entries are not a power of two; the nearest are {} and {}",
            (number.next_power_of_two()) / 2,
            number.next_power_of_two()
        );
        findings.error(entries.place, message);
    }
    entries.map_or(FLOW_ENTRIES, |entries| entries.value.0) as usize
}

/// The collector may be on the host itself.
fn prove_bmp(file: Option<&GatewayFile>, findings: &mut Findings) -> Option<SocketAddr> {
    let bmp = &file?.bmp.as_ref()?.value;
    let (address, port) = (bmp.address?, bmp.port?);
    let special = special_address(address.value.0).filter(|_| !address.value.0.is_loopback());
    if let Some(what) = special {
        let message = format!("{} is {what}; name the collector's own", address.value.0);
        findings.error(address.place, message);
        return None;
    }
    Some(SocketAddr::new(address.value.0, port.value.0 as u16))
}

fn workers(file: Option<&GatewayFile>) -> NonZeroUsize {
    let count = match file.and_then(|file| file.workers).map(|workers| workers.value) {
        Some(Workers::Count(count)) => count as usize,
        Some(Workers::Auto) | None => {
            let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
            (cores - 1).min(Workers::MAX as usize)
        }
    };
    NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN)
}

fn admin_listen(file: Option<&GatewayFile>) -> SocketAddr {
    file.and_then(|file| file.admin.as_ref()?.value.listen)
        .map_or(ADMIN_LISTEN, |listen| listen.value)
}

fn state_directory(file: Option<&GatewayFile>) -> PathBuf {
    file.and_then(|file| file.state_directory.as_ref())
        .map_or_else(|| PathBuf::from(STATE_DIRECTORY), |directory| directory.value.0.clone())
}
