//! The data centre of the interoperation tests: a fabric switch, two Open vSwitch hosts, the
//! gateway, a server on the front end, and two tenants with the same customer addresses and MACs.
//! Host A takes FlowID 0 only (a fixed key), host B any FlowID.

use std::env;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::ovs_host::OpenVswitch;
use crate::ovs_http::{WebServer, file};
use crate::ovs_lab::{Ipv6, Lab, Namespace, Process, wait_until};

/// Programs that the topology and its checks run.
pub const PROGRAMS: [&str; 13] = [
    "ovs-vswitchd",
    "ovsdb-server",
    "ovs-vsctl",
    "ovs-ofctl",
    "tshark",
    "tcpdump",
    "iperf3",
    "ip",
    "ss",
    "ping",
    "curl",
    "ethtool",
    "sysctl",
];

/// The gateway's provider address.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The provider address of the host with fixed keys; both web VMs live there.
pub const HOST_A: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 11);
/// The provider address of the host that takes any FlowID; both database VMs live there.
pub const HOST_B: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 12);
/// The FlowID bits that host B sends.
pub const HOST_B_FLOW: u8 = 0x5a;
/// The server on the front end.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// Of every tenant: the web VM, in its first subnet.
pub const WEB: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 10);
/// Of every tenant: the database VM, in its second subnet.
pub const DATABASE: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 10);
/// A second address of the red tenant's database VM; blue has nothing there.
pub const RED_ONLY: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 20);
/// The public port that leads to port 80 of the web VM.
pub const PUBLIC_PORT: u16 = 8080;
/// Bytes of every file that is sent.
pub const FILE_BYTES: usize = 5_000_000;

/// What a tenant's frames may have: 1500 less outer IPv4 (20), GRE (8) and inner Ethernet (14).
const TENANT_MTU: u16 = 1458;
/// How long the gateway may take until it is ready.
const READY: Duration = Duration::from_secs(20);

/// What tells the two tenants apart.
#[derive(Clone, Copy, Debug)]
pub struct TenantFacts {
    /// The tenant's name.
    pub name: &'static str,
    /// The VSID of the web subnet.
    pub web_vsid: u32,
    /// The VSID of the database subnet.
    pub database_vsid: u32,
    /// The tenant's front-end address.
    pub public: Ipv4Addr,
    routing_domain: &'static str,
    gateway_vsid: u32,
    nat: &'static str,
    database_addresses: &'static str,
}

/// The tenants. Red names its front-end address, blue leases its one from a pool.
pub const TENANTS: [TenantFacts; 2] = [
    TenantFacts {
        name: "red",
        web_vsid: 5001,
        database_vsid: 5002,
        public: Ipv4Addr::new(198, 51, 100, 17),
        routing_domain: "0d5e7b1c-6c3e-4b6e-9d0a-000000000001",
        gateway_vsid: 5003,
        nat: "addresses: [198.51.100.17]",
        database_addresses: "10.1.1.10, 10.1.1.20, 'fd00:2::10'",
    },
    TenantFacts {
        name: "blue",
        web_vsid: 6001,
        database_vsid: 6002,
        public: Ipv4Addr::new(198, 51, 100, 18),
        routing_domain: "0d5e7b1c-6c3e-4b6e-9d0a-000000000002",
        gateway_vsid: 6003,
        nat: "pool: public\n  addresses: 1",
        database_addresses: "10.1.1.10, 'fd00:2::10'",
    },
];

/// One tenant's VMs, each with a web server on port 80.
pub struct Tenant {
    /// What it is.
    pub facts: TenantFacts,
    /// The web VM.
    pub web: Vm,
    /// The database VM.
    pub database: Vm,
}

/// A virtual machine: a kernel of its own behind a host's switch.
pub struct Vm {
    /// Where it runs.
    pub namespace: Namespace,
    /// Its server on port 80.
    pub server: WebServer,
    /// What the server serves.
    pub file: Vec<u8>,
}

/// The data centre. Everything in it ends with it.
pub struct Topology {
    /// Red and blue.
    pub tenants: [Tenant; 2],
    /// Where the server on the front end runs.
    pub server: Namespace,
    /// The server on the front end, on port 80.
    pub web: WebServer,
    /// What the server on the front end serves.
    pub file: Vec<u8>,
    /// The switch of the provider network; the link `gateway` leads to the gateway.
    pub fabric: Namespace,
    gateway: Namespace,
    _hosts: [OpenVswitch; 2],
    /// Its namespaces go last.
    pub lab: Lab,
}

impl Topology {
    /// Builds everything but the gateway.
    ///
    /// # Errors
    ///
    /// When the machine does not let it.
    pub fn build() -> Result<Self> {
        let mut lab = Lab::new()?;
        let fabric = lab.namespace("fabric", Ipv6::Off)?;
        fabric.run("ip link add switch type bridge")?;
        fabric.run("ip link set switch up")?;
        let gateway = lab.namespace("gateway", Ipv6::Off)?;
        let host_a = lab.namespace("host-a", Ipv6::Off)?;
        let host_b = lab.namespace("host-b", Ipv6::Off)?;
        let server = lab.namespace("server", Ipv6::Off)?;
        for (port, other, link) in
            [("gateway", &gateway, "fabric"), ("host-a", &host_a, "pa"), ("host-b", &host_b, "pa")]
        {
            fabric.link(port, other, link, 1500)?;
            fabric.run(&format!("ip link set dev {port} master switch"))?;
        }
        gateway.run(&format!("ip addr add {GATEWAY}/24 dev fabric"))?;
        gateway.link("front", &server, "eth0", 1500)?;
        gateway.run("ip addr add 198.51.100.1/24 dev front")?;
        // A host whose kernel forwards must not forward what is the gateway's.
        gateway.run("sysctl -qw net.ipv4.ip_forward=1")?;
        server.run(&format!("ip addr add {SERVER}/24 dev eth0"))?;

        let [red, blue] = TENANTS;
        let tenants =
            [attach(&mut lab, red, &host_a, &host_b)?, attach(&mut lab, blue, &host_a, &host_b)?];
        let hosts = [
            OpenVswitch::start(&lab, &host_a, "ovs-a")?,
            OpenVswitch::start(&lab, &host_b, "ovs-b")?,
        ];
        for (switch, host, address) in [(&hosts[0], &host_a, HOST_A), (&hosts[1], &host_b, HOST_B)]
        {
            host.without_offloads("pa")?;
            switch.underlay(host, "pa", address)?;
        }
        for facts in TENANTS {
            let port = format!("{}-web", facts.name);
            hosts[0].fixed_key_subnet(&port, facts.web_vsid, HOST_A, GATEWAY)?;
        }
        hosts[1].any_flow_subnets(
            &[("red-db", red.database_vsid), ("blue-db", blue.database_vsid)],
            HOST_B,
            GATEWAY,
        )?;
        let served = file(1, FILE_BYTES);
        let web = WebServer::start(&server, at(SERVER, 80), served.clone())?;
        Ok(Self { tenants, server, web, file: served, fabric, gateway, _hosts: hosts, lab })
    }

    /// Starts the gateway with so many workers and waits until it says that it is ready.
    ///
    /// # Errors
    ///
    /// When there is no binary, or it ends, or it is not ready within 20 s, with its log.
    pub fn start_gateway(&self, workers: u8) -> Result<Process> {
        let configuration = self.configure_gateway(workers)?;
        let binary = binary()?;
        let line = format!("{} run --config {}", binary.display(), configuration.display());
        let mut process = self.gateway.spawn(&line, &[])?;
        wait_until(READY, || match process.must_run() {
            Err(error) => Some(Err(error)),
            Ok(()) => self.is_ready().then_some(Ok(())),
        })
        .with_context(|| format!("waiting for the gateway: {}", process.log_end()))??;
        Ok(process)
    }

    /// The gateway's metrics that are not zero, a line each.
    ///
    /// # Errors
    ///
    /// When the health endpoint does not answer.
    pub fn counters(&self) -> Result<String> {
        let metrics = self.gateway.run("curl -sS --max-time 5 http://127.0.0.1:9470/metrics")?;
        let lines = metrics.lines().filter(|line| !line.starts_with('#') && !line.ends_with(" 0"));
        Ok(lines.collect::<Vec<_>>().join("\n"))
    }

    fn is_ready(&self) -> bool {
        let ask = "curl -s -o /dev/null -w %{http_code} --max-time 2 http://127.0.0.1:9470/readyz";
        self.gateway.output(ask).is_ok_and(|output| output.stdout == b"200")
    }

    fn configure_gateway(&self, workers: u8) -> Result<PathBuf> {
        let directory = self.lab.directory().join("config");
        let tenants = directory.join("tenants.d");
        std::fs::create_dir_all(&tenants)?;
        let state = self.lab.directory().join("state");
        std::fs::create_dir_all(&state)?;
        std::fs::write(
            directory.join("gateway.yaml"),
            format!(
                "workers: {workers}
state_directory: {state}
fabric:
  link: fabric
  provider_addresses: [{GATEWAY}]
  constant_flow:
    - {{ provider_address: {HOST_A}, flow_id: 0 }}
front_end:
  link: front
  pools:
    - name: public
      prefixes: [198.51.100.18/32]
",
                state = state.display()
            ),
        )?;
        for tenant in TENANTS {
            let path = tenants.join(format!("{}.yaml", tenant.name));
            std::fs::write(path, tenant_file(&tenant))?;
        }
        Ok(directory)
    }
}

fn tenant_file(tenant: &TenantFacts) -> String {
    format!(
        "tenant: {name}
routing_domain: {routing_domain}
subnets:
  - {{ name: web, vsid: {web_vsid}, prefixes: [10.1.0.0/24, 'fd00:1::/64'] }}
  - {{ name: db, vsid: {database_vsid}, prefixes: [10.1.1.0/24, 'fd00:2::/64'] }}
gateway_subnet: {{ vsid: {gateway_vsid}, prefixes: [10.254.254.0/29] }}
endpoints:
  - subnet: web
    customer_addresses: [{WEB}, 'fd00:1::10']
    mac: '{WEB_MAC}'
    provider_addresses: [{HOST_A}]
  - subnet: db
    customer_addresses: [{database_addresses}]
    mac: '{DATABASE_MAC}'
    provider_addresses: [{HOST_B}]
nat:
  {nat}
  inbound:
    - {{ protocol: tcp, public_port: {PUBLIC_PORT}, to: {WEB}, port: 80 }}
",
        name = tenant.name,
        routing_domain = tenant.routing_domain,
        web_vsid = tenant.web_vsid,
        database_vsid = tenant.database_vsid,
        gateway_vsid = tenant.gateway_vsid,
        database_addresses = tenant.database_addresses,
        nat = tenant.nat,
    )
}

const WEB_MAC: &str = "02:00:00:00:00:0a";
const DATABASE_MAC: &str = "02:00:00:00:01:0a";

/// Makes a tenant's VMs and plugs them into the hosts.
fn attach(lab: &mut Lab, facts: TenantFacts, a: &Namespace, b: &Namespace) -> Result<Tenant> {
    let web = lab.namespace(&format!("{}-web", facts.name), Ipv6::On)?;
    let database = lab.namespace(&format!("{}-db", facts.name), Ipv6::On)?;
    plug(&web, a, &format!("{}-web", facts.name), WEB_MAC, &["10.1.0.10/24", "fd00:1::10/64"])?;
    let mut addresses = vec!["10.1.1.10/24", "fd00:2::10/64"];
    if facts.name == "red" {
        addresses.push("10.1.1.20/24");
    }
    plug(&database, b, &format!("{}-db", facts.name), DATABASE_MAC, &addresses)?;
    Ok(Tenant {
        facts,
        web: Vm::start(web, facts.web_vsid)?,
        database: Vm::start(database, facts.database_vsid)?,
    })
}

fn plug(vm: &Namespace, host: &Namespace, port: &str, mac: &str, addresses: &[&str]) -> Result<()> {
    host.link(port, vm, "eth0", TENANT_MTU)?;
    vm.run(&format!("ip link set eth0 address {mac}"))?;
    vm.without_offloads("eth0")?;
    for address in addresses {
        vm.run(&format!("ip addr add {address} dev eth0"))?;
    }
    // The default gateway is the lowest host address of the subnet.
    vm.run(&format!("ip route add default via {}", lowest(addresses[0])))?;
    vm.run(&format!("ip -6 route add default via {}", lowest(addresses[1]))).map(drop)
}

fn lowest(address: &str) -> String {
    format!("{}1", address.split("10/").next().unwrap_or_default())
}

impl Vm {
    fn start(namespace: Namespace, seed: u32) -> Result<Self> {
        let file = file(seed.into(), FILE_BYTES);
        let everywhere = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 80);
        let server = WebServer::start(&namespace, everywhere, file.clone())?;
        Ok(Self { namespace, server, file })
    }
}

/// An address and a port.
#[must_use]
pub fn at(address: Ipv4Addr, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(address), port)
}

/// The gateway's binary: `NVGATE_BIN`, or the one beside the folder of this test's executable.
fn binary() -> Result<PathBuf> {
    let path = match env::var_os("NVGATE_BIN") {
        Some(path) => PathBuf::from(path),
        None => env::current_exe()?
            .ancestors()
            .nth(2)
            .context("a test's executable is in target/*/deps")?
            .join("nvgate"),
    };
    ensure!(path.is_file(), "no {}: build it by `cargo build --package nvgate`", path.display());
    Ok(path)
}
