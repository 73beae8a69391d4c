//! The tenants' premises: a network of each beyond the front end, with the same addresses in both,
//! behind a WireGuard tunnel. Both stand behind one router, and so behind one public address.
//!
//! ```text
//!               198.51.100.0/24 (front end)
//!                      | .20
//!                    router
//!         port 51820 /      \ port 51821
//!         red-premises      blue-premises
//!        192.168.50.10      192.168.50.10
//! ```
//!
//! Each host is a router as well: behind it is 192.168.60.0/24, of which the gateway knows by BGP alone.

use std::fs::File;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use nvgate_deploy::keys::{self, KeyName, KeyStore};
use nvgate_model::{Asn, MacAddress, Prefix};
use nvgate_packet::headers::Family;
use nvgate_vpn::{PrivateKey, PublicKey, inner_mtu};

use super::bgp_router::{BgpRouter, RouterConfig};
use super::lab::probe::{DownloadServer, Service, ping};
use super::lab::{LabError, LinkSetup, Namespace, SuperPackets};
use super::site::{self, DOWNLOAD_PORT, SERVICE_PORT, Site, TENANTS, Tenant};
use super::wireguard_endpoint::{EndpointConfig, WireGuardEndpoint};

/// The address of the one host on each tenant's premises.
pub const HOST: Ipv4Addr = Ipv4Addr::new(192, 168, 50, 10);
/// Its address in the network that it teaches by BGP.
pub const TAUGHT_HOST: Ipv4Addr = Ipv4Addr::new(192, 168, 60, 10);
/// That network, the same in both tenants.
pub const TAUGHT: &str = "192.168.60.0/24";
/// The AS of each tenant's premises, and of its domain at the gateway.
const ASNS: [u32; 2] = [65_010, 64_512];
/// Where the gateway speaks BGP with premises: its own address in the gateway subnet.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 254, 254, 1);
const BGP_PORT: u16 = 179;
/// The bytes of the download from a host.
pub const DOWNLOAD_BYTES: u64 = 20_000_000;
/// Where the gateway answers WireGuard, on each tenant's public address.
pub const TUNNEL_PORT: u16 = 51_820;
/// The router's public address, in the front end's prefix.
const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 20);
/// The hosts' default gateway.
const INNER_ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 50, 1);
const INNER_PREFIX: &str = "192.168.50.0/24";
const INNER_PREFIX_LENGTH: u8 = 24;
const HOST_MAC: MacAddress = MacAddress([2, 0, 0, 50, 0, 10]);
const ROUTER_MAC: MacAddress = MacAddress([2, 0, 0, 50, 0, 1]);
const MTU: usize = inner_mtu(site::UNDERLAY_MTU as usize, Family::V4);
/// The name that a listener has unless the configuration gives it another.
const LISTENER: &str = "main";
/// How long the kernels may take to find each other on the front end.
const NEIGHBOUR_PATIENCE: Duration = Duration::from_secs(3);

/// The premises' own private keys, in the order of [`TENANTS`].
pub type Keys = [PrivateKey; TENANTS.len()];

/// Draws the keys, which no one but the demo ever has.
pub fn draw_keys() -> anyhow::Result<Keys> {
    let draw = || keys::draw().context("cannot draw a key");
    Ok([draw()?, draw()?])
}

/// Adds the premises to the configuration that [`site::write_config`] wrote into `directory`.
pub fn append_config(directory: &Path, keys: &Keys) -> io::Result<()> {
    for (tenant, key) in TENANTS.iter().zip(keys) {
        let mut file = File::options().append(true).open(site::tenant_file(directory, tenant))?;
        write!(
            file,
            "\
routes:
  - {{prefix: {INNER_PREFIX}, via: premises}}
vpn:
  listen:
    - {{address: 1, port: {TUNNEL_PORT}}}
  sites:
    - name: premises
      internet: {internet}
      tunnels:
        - {{name: a, public_key: '{public}', allowed: [{INNER_PREFIX}, {TAUGHT}]}}
bgp:
  asn: {gateway_as}
  peers:
    - {{name: premises, address: {HOST}, asn: {premises_as}, passive: true}}
",
            internet = tenant.premises_use_nat,
            public = key.public(),
            premises_as = ASNS[0],
            gateway_as = ASNS[1],
        )?;
    }
    Ok(())
}

/// The host on a tenant's premises.
#[derive(Debug)]
pub struct Host {
    /// The service at [`HOST`] and [`TAUGHT_HOST`], port [`SERVICE_PORT`].
    pub service: Service,
    /// The host's BGP.
    pub router: BgpRouter,
    _download: DownloadServer,
    /// Its network namespace.
    pub namespace: Namespace,
}

/// Both premises.
#[derive(Debug)]
pub struct Premises {
    endpoints: Vec<WireGuardEndpoint>,
    /// The hosts, in the order of [`TENANTS`].
    pub hosts: Vec<Host>,
    router: Namespace,
}

impl Premises {
    /// Builds the premises beside the front end of `site`, not yet connected. To be called before
    /// the gateway starts, which then finds the router among its kernel's neighbours.
    pub fn build(site: &Site) -> Result<Self, LabError> {
        let router = Namespace::new("router")?;
        site.plug_into_front_end("router", &router, ROUTER)?;
        let gateway = site::GATEWAY_FRONT_END.into();
        router
            .run(|| ping(gateway, NEIGHBOUR_PATIENCE))?
            .map_err(|source| router.fail(&format!("ping {gateway}"), source))?;
        let hosts =
            TENANTS.iter().map(|tenant| start_host(tenant, &router)).collect::<Result<_, _>>()?;
        Ok(Self { endpoints: Vec::new(), hosts, router })
    }

    /// Connects the premises by tunnels to the gateway, which runs and keeps the keys it made in
    /// `state_directory`.
    pub fn connect(&mut self, keys: &Keys, state_directory: &Path) -> anyhow::Result<()> {
        for ((tenant, key), port) in TENANTS.iter().zip(keys).zip(TUNNEL_PORT..) {
            let config = EndpointConfig {
                link: tenant.name.to_owned(),
                host: HOST_MAC,
                router: ROUTER_MAC,
                mtu: MTU,
                local: (ROUTER, port).into(),
                gateway: (tenant.public, TUNNEL_PORT).into(),
                key: key.clone(),
                gateway_key: gateway_key(tenant, state_directory)?,
            };
            self.endpoints.push(WireGuardEndpoint::start(&self.router, config)?);
        }
        Ok(())
    }
}

/// The public half of the key that the gateway has made for the tenant's listener.
fn gateway_key(tenant: &Tenant, state_directory: &Path) -> anyhow::Result<PublicKey> {
    let name =
        KeyName { routing_domain: tenant.routing_domain.parse()?, listener: LISTENER.to_owned() };
    let keyring =
        KeyStore::new(state_directory).load(std::slice::from_ref(&name), SystemTime::now())?;
    let keys = keyring.of(&name).with_context(|| {
        format!("the gateway has made no key for the tunnels of {}", tenant.name)
    })?;
    Ok(keys.current.public())
}

fn start_host(tenant: &Tenant, router: &Namespace) -> Result<Host, LabError> {
    let name = format!("{}-premises", tenant.name);
    let namespace = Namespace::new(&name)?;
    router.add_veth(tenant.name, &namespace, "eth0")?;
    let link = LinkSetup {
        name: tenant.name,
        mac: None,
        mtu: MTU as u32,
        addresses: &[],
        super_packets: SuperPackets::Allowed,
    };
    router.set_up(&link)?;
    namespace.set_up(&LinkSetup {
        name: "eth0",
        mac: Some(HOST_MAC),
        addresses: &[HOST, TAUGHT_HOST].map(|address| (address.into(), INNER_PREFIX_LENGTH)),
        super_packets: SuperPackets::Never,
        ..link
    })?;
    let inner_router = IpAddr::from(INNER_ROUTER);
    // The router's end of the link is a socket, which answers no ARP.
    namespace.add_neighbour("eth0", inner_router, ROUTER_MAC)?;
    namespace.add_route(Prefix::DEFAULT_V4, Some(inner_router), "eth0")?;
    Ok(Host {
        service: Service::start(
            &namespace,
            &name,
            &[HOST, TAUGHT_HOST].map(|address| (address, SERVICE_PORT).into()),
        )?,
        router: BgpRouter::start(
            &namespace,
            RouterConfig {
                asn: Asn(ASNS[0]),
                address: HOST,
                gateway: (GATEWAY, BGP_PORT).into(),
                teaches: TAUGHT.parse().expect("a prefix"),
            },
        )?,
        _download: DownloadServer::start(&namespace, (HOST, DOWNLOAD_PORT).into(), DOWNLOAD_BYTES)?,
        namespace,
    })
}
