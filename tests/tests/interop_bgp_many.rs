//! A thousand tenants with the same addresses and AS numbers, each with an established session, at one
//! gateway process: fifty routers are BIRDs in VMs, the other ones the domains of a second gateway
//! process. What they cost is measured at rest.

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nvgate::admin::bgp::{PeersReport, RoutesReport};
use nvgate::demo::gateway_process::GatewayProcess;
use nvgate::demo::host_endpoint::{HostConfig, HostEndpoint, Port, Record};
use nvgate::demo::lab::{LinkSetup, Namespace, SuperPackets};
use nvgate::demo::site::{ADMIN, GATEWAY_PROVIDER, TENANT_MTU};
use nvgate_model::{MacAddress, Vsid};
use nvgate_tests::bgp_lab::{BIRD, Daemon};
use nvgate_tests::bgp_routers::{CHANNEL, bird_with};
use nvgate_tests::process_costs::{MEMORY, memory, speaking, working};
use nvgate_tests::run_lab::{RunLab, binary};
use nvgate_tests::skip::has_peers;
use tempfile::TempDir;

const TENANTS: u32 = 1000;
/// The first ones of them have a BIRD.
const BIRDS: u32 = 50;
/// How many are waited for together.
const BATCH: u32 = 10;
const FIRST_VSID: u32 = 7000;
/// Where the VMs with BIRDs are, and where the second gateway is, on the fabric and on the front end.
const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 13);
const SECOND: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 14), Ipv4Addr::new(198, 51, 100, 14)];
/// Each tenant's router, and its default gateway. A gateway is the first host of its prefixes, which this
/// router is of 10.1.0.8/30.
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 9);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
/// What both gateways know each other by; the first one's is what a gateway has unless told otherwise.
const MAC: MacAddress = MacAddress([2, 0x6e, 0x76, 0x67, 0, 2]);
const GATEWAY_MAC: MacAddress = MacAddress([2, 0x6e, 0x76, 0x67, 0, 1]);
/// Longer than the keepalives are apart.
const REST: Duration = Duration::from_secs(35);
/// What of a core the thread that speaks BGP and all of the process may use at rest.
const SHARES: [f64; 2] = [0.05, 0.5];
/// Bytes of memory that a tenant's session may cost.
const SESSION: u64 = 256 << 10;

/// The prefix that a tenant's router teaches: another one in each, so that a mix-up would be seen.
fn taught(number: u32) -> String {
    format!("172.{}.{}.0/24", 20 + number / 256, number % 256)
}

fn domain(number: u32) -> String {
    format!(
        "tenant: many-{number}\nrouting_domain: 00000000-0000-0000-0001-{number:012x}\nsubnets: \
         [{{name: web, vsid: {}, prefixes: ",
        FIRST_VSID + number
    )
}

fn yaml(number: u32) -> String {
    let provider = if number < BIRDS { HOST } else { SECOND[0] };
    format!(
        "\
{}10.1.0.0/24}}]
endpoints:
  - {{subnet: web, customer_addresses: {ROUTER}, mac: '{MAC}', provider_addresses: {provider}}}
bgp:
  asn: 64512
  peers: [{{name: router, address: {ROUTER}, asn: 65010, connect_retry_secs: 2}}]
",
        domain(number)
    )
}

/// The other side of it: the second gateway finds the first one behind an endpoint.
fn second_yaml(number: u32) -> String {
    format!(
        "\
{}10.1.0.8/30}}]
endpoints:
  - {{subnet: web, customer_addresses: 10.1.0.10, mac: '{GATEWAY_MAC}', provider_addresses: \
         {GATEWAY_PROVIDER}}}
routes:
  - {{prefix: {GATEWAY}/32, via: 10.1.0.10}}
  - {{prefix: {}, blackhole: true, announce: true}}
bgp:
  asn: 65010
  peers: [{{name: gateway, address: {GATEWAY}, asn: 64512, multihop: 2, connect_retry_secs: 2}}]
",
        domain(number),
        taught(number)
    )
}

/// A tenant's VM behind `host`.
fn start_vm(host: &Namespace, number: u32) -> Result<(Namespace, Port)> {
    let name = format!("many-{number}");
    let vm = Namespace::new(&name)?;
    host.add_veth(&name, &vm, "eth0")?;
    let link = LinkSetup {
        name: &name,
        mac: None,
        mtu: TENANT_MTU,
        addresses: &[],
        super_packets: SuperPackets::Allowed,
    };
    host.set_up(&link)?;
    vm.set_up(&LinkSetup {
        name: "eth0",
        mac: Some(MAC),
        addresses: &[(ROUTER.into(), 24)],
        super_packets: SuperPackets::Never,
        ..link
    })?;
    let vsid = Vsid::new(FIRST_VSID + number).context("a VSID")?;
    Ok((vm, Port { link: name, vsid, mac: MAC }))
}

/// The second gateway. It ends, then its configuration and its namespace go.
struct Second {
    process: GatewayProcess,
    _directory: TempDir,
    namespace: Namespace,
}

impl Second {
    /// Starts it on the lab's networks.
    fn start(lab: &RunLab) -> Result<Self> {
        let namespace = Namespace::new("second")?;
        lab.site.plug_host_into_fabric("second", &namespace, SECOND[0])?;
        lab.site.plug_router_into_front_end("second-front", &namespace, SECOND[1])?;
        let directory = TempDir::with_prefix("nvgate-second-")?;
        let config = directory.path();
        fs::create_dir(config.join("tenants.d"))?;
        let state = config.join("state");
        let yaml = format!(
            "fabric: {{link: fabric0, provider_addresses: [{}]}}\nfront_end: {{link: eth0}}\nworkers: \
             1\ngateway_mac: '{MAC}'\nadmin: {{listen: {ADMIN}}}\nstate_directory: {}\n",
            SECOND[0],
            state.display()
        );
        fs::write(config.join("gateway.yaml"), yaml)?;
        write_tenants(config, BIRDS..TENANTS, second_yaml)?;
        let log = config.join("log");
        let mut process =
            GatewayProcess::start(&namespace, &binary()?, config, (&log, None), ADMIN)?;
        process.wait_ready(&namespace, || false)?;
        Ok(Self { process, _directory: directory, namespace })
    }

    /// Checks that each of its domains has what the first gateway tells its tenant, and no more.
    fn knows_each_its_own(&self) -> Result<()> {
        for number in BIRDS..TENANTS {
            let path = format!("/v1/bgp/routes?tenant=many-{number}");
            let (code, body) = self.process.ask(&self.namespace, &path)?;
            ensure!(code == 200, "{body}");
            ensure!(learned(&body)? == ["10.1.0.0/24"], "tenant {number}: {body}");
        }
        Ok(())
    }
}

fn write_tenants(
    config: &Path,
    numbers: std::ops::Range<u32>,
    yaml: impl Fn(u32) -> String,
) -> Result<()> {
    for number in numbers {
        fs::write(config.join(format!("tenants.d/many-{number}.yaml")), yaml(number))?;
    }
    Ok(())
}

/// The prefixes of a report that a peer taught and import let in.
fn learned(body: &str) -> Result<Vec<String>> {
    let report: RoutesReport = serde_json::from_str(body)?;
    let learned = report.routes.into_iter().filter(|route| route.peer.is_some() && route.accepted);
    Ok(learned.map(|route| route.prefix).collect())
}

/// Checks that so many of these tenants' sessions are up; says how often any was down.
fn are_up(lab: &RunLab, wanted: u32) -> Result<u64> {
    let (code, body) = lab.ask("/v1/bgp/peers")?;
    ensure!(code == 200, "{body}");
    let report: PeersReport = serde_json::from_str(&body)?;
    let (up, missing): (Vec<_>, Vec<_>) = report.peers.into_iter().partition(|peer| peer.up);
    ensure!(up.len() >= wanted as usize, "{} sessions; not {:?}", up.len(), missing.first());
    Ok(up.iter().map(|peer| peer.flaps).sum())
}

#[test]
fn a_thousand_tenants_with_the_same_addresses_have_each_its_own_session_and_cost_little_at_rest()
-> Result<()> {
    const TEST: &str = "a_thousand_tenants_with_the_same_addresses_have_each_its_own_session_and_cost_little_at_rest";
    if !has_peers(TEST, &BIRD) {
        return Ok(());
    }
    let Some(mut lab) = RunLab::build(TEST, 2)? else { return Ok(()) };
    let host = Namespace::new("host3")?;
    lab.site.plug_host_into_fabric("host3", &host, HOST)?;
    write_tenants(lab.config(), 0..TENANTS, yaml)?;
    let machines: Vec<_> =
        (0..BIRDS).map(|number| start_vm(&host, number)).collect::<Result<_>>()?;
    let (vms, ports): (Vec<_>, Vec<_>) = machines.into_iter().unzip();
    let record = |port: &Port| Record { vsid: port.vsid, mac: port.mac, provider: HOST };
    let records = ports.iter().map(record).collect();
    let _endpoint = HostEndpoint::start(
        &host,
        HostConfig { provider: HOST, gateway: GATEWAY_PROVIDER, records, ports },
    )?;
    lab.start()?;
    let gateway = lab.id()?;
    let before = memory(gateway, MEMORY)?;

    let began = Instant::now();
    let routers: Vec<Daemon> = (0..)
        .zip(&vms)
        .map(|(number, vm)| {
            let route = format!("route {} unreachable;", taught(number));
            let [router, gateway] = [ROUTER, GATEWAY].map(|address| address.to_string());
            let config = bird_with(&router, &gateway, [65010, 64512], &route, CHANNEL);
            Daemon::bird(lab.config(), vm, &config)
        })
        .collect::<Result<_>>()?;
    let second = Second::start(&lab)?;
    for wanted in (BATCH..=TENANTS).step_by(BATCH as usize) {
        lab.wait(&format!("{wanted} sessions"), || are_up(&lab, wanted))?;
    }
    let began = began.elapsed();
    each_has_its_own(&lab)?;
    second.knows_each_its_own()?;
    for (router, vm) in routers.iter().zip(&vms) {
        let routes = router.ask(vm, "show route protocol upstream")?;
        ensure!(routes.contains("10.1.0.0/24") && !routes.contains("172."), "{routes}");
    }

    let flaps = are_up(&lab, TENANTS)?;
    let spent = [speaking(gateway)?, working(gateway)?];
    let rested = Instant::now();
    thread::sleep(REST);
    let rested = rested.elapsed().as_secs_f64();
    let spent = [speaking(gateway)? - spent[0], working(gateway)? - spent[1]];
    let shares = spent.map(|spent| spent.as_secs_f64() / rested);
    let after = memory(gateway, MEMORY)?;
    let mut said = String::new();
    write!(
        said,
        "{TENANTS} tenants' sessions, {BIRDS} of them with BIRDs, after {:.1} s, {flaps} of them not at \
         the first go. At rest {:.2} % of a core in the thread that speaks BGP and {:.2} % in all; {} MiB before the sessions, {} MiB \
         with them, {} of them for {} KiB a session",
        began.as_secs_f64(),
        shares[0] * 100.0,
        shares[1] * 100.0,
        before >> 20,
        after >> 20,
        after.saturating_sub(before) >> 20,
        (after.saturating_sub(before) / u64::from(TENANTS)) >> 10,
    )?;
    println!("{said}");
    ensure!(are_up(&lab, TENANTS)? == flaps, "a session was down at rest");
    ensure!(shares[0] < SHARES[0] && shares[1] < SHARES[1], "{said}");
    ensure!(after.saturating_sub(before) < SESSION * u64::from(TENANTS), "{said}");
    Ok(())
}

/// Checks that each tenant learned what its own router teaches, and no more.
fn each_has_its_own(lab: &RunLab) -> Result<()> {
    for number in 0..TENANTS {
        lab.wait(&format!("tenant {number} has what its router teaches"), || {
            let (code, body) = lab.ask(&format!("/v1/bgp/routes?tenant=many-{number}"))?;
            ensure!(code == 200, "{body}");
            ensure!(learned(&body)? == [taught(number)], "{body}");
            Ok(())
        })?;
    }
    Ok(())
}
