//! Many tenants with the same addresses and AS numbers, each with a BIRD in its VM, and what their
//! sessions cost one gateway at rest.

use std::fs;
use std::net::Ipv4Addr;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nvgate::demo::host_endpoint::{HostConfig, HostEndpoint, Port, Record};
use nvgate::demo::lab::{LinkSetup, Namespace, SuperPackets};
use nvgate::demo::site::{GATEWAY_PROVIDER, TENANT_MTU};
use nvgate_model::{MacAddress, Vsid};
use nvgate_tests::bgp_lab::{BIRD, Daemon};
use nvgate_tests::bgp_routers::{MEMORY, memory, speaking};
use nvgate_tests::run_lab::RunLab;
use nvgate_tests::skip::has_peers;

const TENANTS: u32 = 50;
const FIRST_VSID: u32 = 7000;
/// The host of all their VMs.
const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 13);
/// Each tenant's router, and its default gateway.
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 10);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 10]);
/// Longer than the keepalives are apart.
const REST: Duration = Duration::from_secs(35);
/// What of a core the thread that speaks BGP may use at rest.
const SHARE: f64 = 0.02;

fn yaml(number: u32) -> String {
    format!(
        "\
tenant: many-{number}
routing_domain: 00000000-0000-0000-0001-{number:012x}
subnets: [{{name: web, vsid: {vsid}, prefixes: 10.1.0.0/24}}]
endpoints:
  - {{subnet: web, customer_addresses: {ROUTER}, mac: '{MAC}', provider_addresses: {HOST}}}
bgp:
  asn: 64512
  peers: [{{name: router, address: {ROUTER}, asn: 65010, connect_retry_secs: 2}}]
",
        vsid = FIRST_VSID + number
    )
}

/// A router that teaches a prefix of its own, so that another tenant would be seen.
fn bird(number: u32) -> String {
    format!(
        "router id {ROUTER};
protocol device {{}}
protocol static taught {{ ipv4; route 172.30.{number}.0/24 unreachable; }}
protocol bgp upstream {{
  local {ROUTER} as 65010;
  neighbor {GATEWAY} as 64512;
  hold time 90;
  connect delay time 1;
  connect retry time 2;
  ipv4 {{ import all; export where source = RTS_STATIC; }};
}}
"
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

#[test]
fn fifty_birds_of_tenants_with_the_same_addresses_teach_one_gateway_which_is_idle_at_rest()
-> Result<()> {
    const TEST: &str =
        "fifty_birds_of_tenants_with_the_same_addresses_teach_one_gateway_which_is_idle_at_rest";
    if !has_peers(TEST, &BIRD) {
        return Ok(());
    }
    let Some(mut lab) = RunLab::build(TEST, 2)? else { return Ok(()) };
    let host = Namespace::new("host3")?;
    lab.site.plug_host_into_fabric("host3", &host, HOST)?;
    let (mut vms, mut ports) = (Vec::new(), Vec::new());
    for number in 0..TENANTS {
        fs::write(lab.config().join(format!("tenants.d/many-{number}.yaml")), yaml(number))?;
        let (vm, port) = start_vm(&host, number)?;
        vms.push(vm);
        ports.push(port);
    }
    let record = |port: &Port| Record { vsid: port.vsid, mac: port.mac, provider: HOST };
    let records = ports.iter().map(record).collect();
    let _endpoint = HostEndpoint::start(
        &host,
        HostConfig { provider: HOST, gateway: GATEWAY_PROVIDER, records, ports },
    )?;
    lab.start()?;
    let before = memory(&lab, MEMORY)?;
    let routers: Vec<Daemon> = (0..)
        .zip(&vms)
        .map(|(number, vm)| Daemon::bird(lab.config(), vm, &bird(number)))
        .collect::<Result<_>>()?;
    for (number, (vm, router)) in vms.iter().zip(&routers).enumerate() {
        lab.wait(&format!("the session of tenant {number}"), || {
            let tenant = lab.tenant(&format!("many-{number}"))?.context("it is served")?;
            let [peer] = &tenant.bgp[..] else { anyhow::bail!("one peer: {:?}", tenant.bgp) };
            ensure!(peer.up && peer.ipv4.accepted == 1 && peer.flaps == 0, "{peer:?}");
            let routes = router.ask(vm, "show route protocol upstream")?;
            ensure!(routes.contains("10.1.0.0/24") && !routes.contains("172."), "{routes}");
            Ok(())
        })?;
    }
    let spent = speaking(&lab)?;
    thread::sleep(REST);
    let share = (speaking(&lab)? - spent).as_secs_f64() / REST.as_secs_f64();
    let after = memory(&lab, MEMORY)?;
    println!(
        "{TENANTS} tenants' BIRDs at rest: {:.2} % of a core, {} KiB more than before their sessions, \
         {} MiB in all",
        share * 100.0,
        after.saturating_sub(before) >> 10,
        after >> 20
    );
    ensure!(share < SHARE, "{share} of a core");
    let status = lab.status()?;
    let up = status.tenants.iter().flat_map(|tenant| &tenant.bgp).filter(|peer| peer.up);
    ensure!(up.count() == TENANTS as usize, "sessions were lost at rest");
    Ok(())
}
