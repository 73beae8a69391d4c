//! The demo's data centre: two virtualization hosts, two tenants with the same addresses, a
//! front-end server, and the place where the gateway stands.
//!
//! ```text
//!  red-web  blue-web               red-app  red-db  blue-app  blue-db  blue-only
//!      \      /                        \       \       |        /        /
//!     host1 .11                                     host2 .12
//!         |            192.0.2.0/24 (fabric)          |
//!         +---------------------+--------------------+
//!                               | .1
//!                            gateway
//!                               | .1
//!                        198.51.100.0/24 (front end)
//!                               | .10
//!                            server
//! ```

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use nvgate_deploy::plan::Plan;
use nvgate_model::{MacAddress, Prefix, Vsid};

use super::host_endpoint::{HostConfig, HostEndpoint, Port, Record};
use super::lab::probe::{DownloadServer, Service};
use super::lab::{LabError, LinkSetup, Namespace, SuperPackets, kernel_has_ipv6};

/// The MTU of the provider network and of the front end.
pub const UNDERLAY_MTU: u32 = 1500;
/// What NVGRE over IPv4 leaves of it: 20 bytes IPv4, 8 GRE and 14 Ethernet less.
pub const TENANT_MTU: u32 = UNDERLAY_MTU - 42;
/// The gateway's provider address.
pub const GATEWAY_PROVIDER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The provider addresses of the hosts.
const HOST_PROVIDERS: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 11), Ipv4Addr::new(192, 0, 2, 12)];
/// The gateway's own address on the front end.
pub const GATEWAY_FRONT_END: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const TENANTS_DIRECTORY: &str = "tenants.d";
const PUBLIC_PREFIX: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 0);

/// The front-end server.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
/// The echo service's port, everywhere.
pub const SERVICE_PORT: u16 = 7;
/// The port of the server's download.
pub const DOWNLOAD_PORT: u16 = 80;
/// The bytes of the download.
pub const DOWNLOAD_BYTES: u64 = 50_000_000;
/// The public port that each tenant's inbound rule gives to its web VM's service.
pub const INBOUND_PORT: u16 = 8080;
/// Where the gateway's health endpoint listens, in its namespace.
pub const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9470);

/// A tenant of the demo. Both have the same subnets and the same customer addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tenant {
    /// Its name.
    pub name: &'static str,
    /// The GUID of its routing domain.
    pub routing_domain: &'static str,
    first_vsid: u32,
    /// Its public address.
    pub public: Ipv4Addr,
    /// Whether its premises may use its NAT.
    pub premises_use_nat: bool,
}

/// The tenants.
pub const TENANTS: [Tenant; 2] = [
    Tenant {
        name: "red",
        routing_domain: "6c0f2b0e-8a2f-4e3c-9b55-0a8a4f0e7d11",
        first_vsid: 5001,
        public: Ipv4Addr::new(203, 0, 113, 10),
        premises_use_nat: true,
    },
    Tenant {
        name: "blue",
        routing_domain: "b1e3a7c4-52d9-4c0b-8f6e-3d1f9a2c7e22",
        first_vsid: 6001,
        public: Ipv4Addr::new(203, 0, 113, 20),
        premises_use_nat: false,
    },
];

/// One VM of a tenant.
#[derive(Clone, Copy, Debug)]
struct VmPlan {
    name: &'static str,
    /// 0 for the subnet `web`, 1 for `data`.
    subnet: u8,
    /// The last byte of its addresses.
    last: u8,
    host: usize,
}

const WEB: VmPlan = VmPlan { name: "web", subnet: 0, last: 10, host: 0 };
const APP: VmPlan = VmPlan { name: "app", subnet: 0, last: 20, host: 1 };
const DB: VmPlan = VmPlan { name: "db", subnet: 1, last: 10, host: 1 };
const ONLY: VmPlan = VmPlan { name: "only", subnet: 0, last: 30, host: 1 };
/// The VMs of each tenant of [`TENANTS`]. The last one exists in the second tenant alone.
const VMS: [&[VmPlan]; 2] = [&[WEB, APP, DB], &[WEB, APP, DB, ONLY]];

impl VmPlan {
    fn ipv4(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 1 + self.subnet, 0, self.last)
    }

    fn addresses(self) -> Vec<(IpAddr, u8)> {
        let mut addresses = vec![(self.ipv4().into(), 24)];
        if kernel_has_ipv6() {
            let ipv6 = format!("fd00:{}::{:x}", 1 + self.subnet, self.last);
            addresses.push((ipv6.parse().expect("a ULA and two small numbers"), 64));
        }
        addresses
    }

    /// The same in every tenant, as its addresses are.
    fn mac(self) -> MacAddress {
        MacAddress([0x02, 0, 0, 0, self.subnet, self.last])
    }

    fn vsid(self, tenant: Tenant) -> Vsid {
        Vsid::new(tenant.first_vsid + u32::from(self.subnet)).expect("the demo's VSIDs are legal")
    }
}

/// A running VM: its namespace and the service in it.
#[derive(Debug)]
pub struct Vm {
    /// The service that answers on all its addresses, port [`SERVICE_PORT`].
    pub service: Service,
    /// Its IPv4 customer address.
    pub ipv4: Ipv4Addr,
    /// Its IPv6 customer address, where the kernel has IPv6.
    pub ipv6: Option<IpAddr>,
    /// Its tenant's position in [`TENANTS`].
    pub tenant: usize,
    /// Its network namespace.
    pub namespace: Namespace,
}

/// The data centre, up and running, except for the gateway.
#[derive(Debug)]
pub struct Site {
    /// The hosts' NVGRE endpoints, in the order of [`hosts`](Self::hosts).
    pub endpoints: Vec<HostEndpoint>,
    /// The tenants' VMs.
    pub vms: Vec<Vm>,
    /// The server's service.
    pub service: Service,
    _download: DownloadServer,
    /// The virtualization hosts.
    pub hosts: Vec<Namespace>,
    /// The front-end server.
    pub server: Namespace,
    /// Where the gateway is to run, with the links `fabric0` and `front0`.
    pub gateway: Namespace,
    switch: Namespace,
}

impl Site {
    /// Builds everything. The hosts take their lookup records from `plan`, the proven form of what
    /// [`write_config`] wrote.
    pub fn build(plan: &Plan) -> Result<Self, LabError> {
        let records = Record::all_of(plan);
        let switch = Namespace::new("switch")?;
        switch.add_bridge("fabric")?;
        switch.add_bridge("front-end")?;
        let gateway = Namespace::new("gateway")?;
        plug_in(&switch, "fabric", "gw-fabric", &gateway, "fabric0", GATEWAY_PROVIDER)?;
        plug_in(&switch, "front-end", "gw-front", &gateway, "front0", GATEWAY_FRONT_END)?;
        let server = Namespace::new("server")?;
        plug_into_front_end(&switch, "server", &server, SERVER)?;

        let mut hosts = Vec::new();
        for (index, provider) in HOST_PROVIDERS.into_iter().enumerate() {
            let name = format!("host{}", index + 1);
            let host = Namespace::new(&name)?;
            plug_in(&switch, "fabric", &name, &host, "fabric0", provider)?;
            hosts.push(host);
        }
        let mut vms = Vec::new();
        let mut ports = [const { Vec::new() }; HOST_PROVIDERS.len()];
        for (index, tenant) in TENANTS.into_iter().enumerate() {
            for &plan in VMS[index] {
                let name = format!("{}-{}", tenant.name, plan.name);
                vms.push(start_vm(&name, index, plan, &hosts[plan.host])?);
                let port = Port { link: name, vsid: plan.vsid(tenant), mac: plan.mac() };
                ports[plan.host].push(port);
            }
        }
        let endpoints = hosts
            .iter()
            .zip(HOST_PROVIDERS)
            .zip(ports)
            .map(|((host, provider), ports)| {
                let config = HostConfig {
                    provider,
                    gateway: GATEWAY_PROVIDER,
                    records: records.clone(),
                    ports,
                };
                HostEndpoint::start(host, config)
            })
            .collect::<Result<_, _>>()?;
        let service = Service::start(&server, "server", &[(SERVER, SERVICE_PORT).into()])?;
        let download =
            DownloadServer::start(&server, (SERVER, DOWNLOAD_PORT).into(), DOWNLOAD_BYTES)?;
        Ok(Self { endpoints, vms, service, _download: download, hosts, server, gateway, switch })
    }

    /// Wires the link `eth0` of `namespace` to the front end by `port` of the switch, with a route
    /// to the tenants' public addresses.
    pub fn plug_into_front_end(
        &self,
        port: &str,
        namespace: &Namespace,
        address: Ipv4Addr,
    ) -> Result<(), LabError> {
        plug_into_front_end(&self.switch, port, namespace, address)
    }

    /// The same without that route: for routers that learn it.
    pub fn plug_router_into_front_end(
        &self,
        port: &str,
        namespace: &Namespace,
        address: Ipv4Addr,
    ) -> Result<(), LabError> {
        plug_in(&self.switch, "front-end", port, namespace, "eth0", address)
    }

    /// Wires the link `fabric0` of another virtualization host to the fabric by `port` of the switch.
    pub fn plug_host_into_fabric(
        &self,
        port: &str,
        host: &Namespace,
        provider: Ipv4Addr,
    ) -> Result<(), LabError> {
        plug_in(&self.switch, "fabric", port, host, "fabric0", provider)
    }

    /// The VM called `name`, such as `red-web`.
    ///
    /// # Panics
    ///
    /// When there is none of that name.
    #[must_use]
    pub fn vm(&self, name: &str) -> &Vm {
        self.vms
            .iter()
            .find(|vm| vm.namespace.name() == name)
            .unwrap_or_else(|| panic!("the demo has no VM `{name}`"))
    }
}

fn plug_into_front_end(
    switch: &Namespace,
    port: &str,
    namespace: &Namespace,
    address: Ipv4Addr,
) -> Result<(), LabError> {
    plug_in(switch, "front-end", port, namespace, "eth0", address)?;
    let public = Prefix::new(PUBLIC_PREFIX.into(), 24).expect("a /24 without host bits");
    namespace.add_route(public, None, "eth0")
}

/// Wires `link` of `namespace` to a bridge of the switch and gives it its address.
fn plug_in(
    switch: &Namespace,
    bridge: &str,
    port: &str,
    namespace: &Namespace,
    link: &str,
    address: Ipv4Addr,
) -> Result<(), LabError> {
    switch.add_veth(port, namespace, link)?;
    switch.attach(port, bridge, UNDERLAY_MTU)?;
    namespace.set_up(&LinkSetup {
        name: link,
        mac: None,
        mtu: UNDERLAY_MTU,
        addresses: &[(address.into(), 24)],
        super_packets: SuperPackets::Allowed,
    })
}

fn start_vm(name: &str, tenant: usize, plan: VmPlan, host: &Namespace) -> Result<Vm, LabError> {
    let namespace = Namespace::new(name)?;
    host.add_veth(name, &namespace, "eth0")?;
    let port = LinkSetup {
        name,
        mac: None,
        mtu: TENANT_MTU,
        addresses: &[],
        super_packets: SuperPackets::Allowed,
    };
    host.set_up(&port)?;
    let addresses = plan.addresses();
    namespace.set_up(&LinkSetup {
        name: "eth0",
        mac: Some(plan.mac()),
        mtu: TENANT_MTU,
        addresses: &addresses,
        super_packets: SuperPackets::Never,
    })?;
    for &(address, length) in &addresses {
        let (default, subnet) = match address {
            IpAddr::V4(_) => (Prefix::DEFAULT_V4, Prefix::containing(address, length)),
            IpAddr::V6(_) => (Prefix::DEFAULT_V6, Prefix::containing(address, length)),
        };
        let subnet = subnet.expect("the length fits the family");
        namespace.add_route(default, Some(subnet.lowest_host()), "eth0")?;
    }
    let sockets: Vec<_> =
        addresses.iter().map(|&(address, _)| SocketAddr::new(address, SERVICE_PORT)).collect();
    Ok(Vm {
        service: Service::start(&namespace, name, &sockets)?,
        ipv4: plan.ipv4(),
        ipv6: addresses.iter().map(|&(address, _)| address).find(IpAddr::is_ipv6),
        tenant,
        namespace,
    })
}

/// Writes the gateway's configuration into `directory`: `gateway.yaml` and `tenants.d`.
pub fn write_config(directory: &Path, workers: Option<usize>) -> io::Result<()> {
    fs::create_dir_all(directory.join(TENANTS_DIRECTORY))?;
    fs::write(directory.join("gateway.yaml"), gateway_yaml(&state_directory(directory), workers))?;
    for (tenant, vms) in TENANTS.into_iter().zip(VMS) {
        fs::write(tenant_file(directory, &tenant), tenant_yaml(tenant, vms))?;
    }
    Ok(())
}

/// Where [`write_config`] puts a tenant's configuration.
#[must_use]
pub fn tenant_file(directory: &Path, tenant: &Tenant) -> PathBuf {
    directory.join(TENANTS_DIRECTORY).join(format!("{}.yaml", tenant.name))
}

/// Where the gateway keeps its state with the configuration of [`write_config`].
#[must_use]
pub fn state_directory(directory: &Path) -> PathBuf {
    directory.join("state")
}

fn gateway_yaml(state: &Path, workers: Option<usize>) -> String {
    let workers = workers.map_or_else(|| "auto".into(), |workers| workers.to_string());
    format!(
        "\
fabric:
  link: fabric0
  provider_addresses: [{GATEWAY_PROVIDER}]
front_end:
  link: front0
workers: {workers}
admin:
  listen: {ADMIN}
state_directory: {state}
",
        state = state.display()
    )
}

fn tenant_yaml(tenant: Tenant, vms: &[VmPlan]) -> String {
    let Tenant { name, routing_domain, first_vsid, public, .. } = tenant;
    let mut yaml = format!(
        "\
tenant: {name}
routing_domain: {routing_domain}
subnets:
  - {{name: web, vsid: {first_vsid}, prefixes: [10.1.0.0/24, 'fd00:1::/64']}}
  - {{name: data, vsid: {data}, prefixes: [10.2.0.0/24, 'fd00:2::/64']}}
gateway_subnet: {{vsid: {transit}, prefixes: [10.254.254.0/29]}}
nat:
  addresses: [{public}]
  inbound:
    - {{protocol: both, public_port: {INBOUND_PORT}, to: {web}, port: {SERVICE_PORT}}}
endpoints:
",
        data = first_vsid + 1,
        transit = first_vsid + 2,
        web = WEB.ipv4(),
    );
    for vm in vms {
        let addresses: Vec<_> =
            vm.addresses().iter().map(|(address, _)| format!("'{address}'")).collect();
        let subnet = ["web", "data"][usize::from(vm.subnet)];
        // Writing to a String cannot fail.
        let _ = writeln!(
            yaml,
            "  - {{subnet: {subnet}, customer_addresses: [{}], mac: '{}', \
             provider_addresses: [{}]}}",
            addresses.join(", "),
            vm.mac(),
            HOST_PROVIDERS[vm.host],
        );
    }
    yaml
}
