//! Debian's stock kernel as the other side of both encapsulations: a virtualization host by gretap, which
//! matches the whole GRE key, and a tenant's site by the kernel's own WireGuard.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nvgate::demo::lab::Namespace;
use nvgate::demo::site::{
    DOWNLOAD_BYTES, GATEWAY_PROVIDER, SERVER, SERVICE_PORT, TENANTS, UNDERLAY_MTU,
};
use nvgate_tests::appliance::bridge;
use nvgate_tests::guest::{Guest, GuestPlan, Tap, can_boot};
use nvgate_tests::run_lab::RunLab;
use nvgate_tests::wg_lab::{gateway_key, give_vpn, peer_key};

const TEST: &str = "a stock kernel as host and site";
/// The guest as a virtualization host, and as a router on the front end.
const PROVIDER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 13);
const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 30);
/// Red's VM in it, in the subnet `web`, and what the gateway is for it.
const VM: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 40);
const VM_MAC: &str = "02:00:00:00:00:28";
const DEFAULT_GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
const RED_WEB_VSID: u32 = 5001;
const FLOW_ID: u32 = 7;
/// Blue's premises behind it.
const PREMISES: Ipv4Addr = Ipv4Addr::new(192, 168, 70, 1);
const TUNNEL_PORT: u16 = 51_820;
/// How long the first packet may take there and back.
const FIRST_ANSWER: Duration = Duration::from_secs(15);
/// Blue's database, in the subnet `data`.
const BLUE_DB: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 10);
const NVGRE_BYTES: u32 = 42;
const TAPS: [&str; 2] = ["tap-host", "tap-site"];
const MACS: [&str; 2] = ["52:54:00:6e:76:0d", "52:54:00:6e:76:0e"];

/// Adds the guest to both tenants' configuration.
fn configure(lab: &RunLab) -> Result<()> {
    let fabric = format!(
        "provider_addresses: [{GATEWAY_PROVIDER}]\n  constant_flow:\n    \
         - {{provider_address: {PROVIDER}, flow_id: {FLOW_ID}}}"
    );
    lab.edit("gateway", &format!("provider_addresses: [{GATEWAY_PROVIDER}]"), &fabric)?;
    let vm = format!(
        "endpoints:\n  - {{subnet: web, customer_addresses: [{VM}], mac: '{VM_MAC}', \
         provider_addresses: [{PROVIDER}]}}"
    );
    lab.edit("red", "endpoints:", &vm)?;
    give_vpn(
        lab,
        "blue",
        &format!(
            "\
routes:
  - {{prefix: 192.168.70.0/24, via: premises}}
vpn:
  listen:
    - {{address: 1, port: {TUNNEL_PORT}}}
  sites:
    - name: premises
      tunnels:
        - {{name: a, public_key: '{}', allowed: [192.168.70.0/24]}}
",
            peer_key(9).public()
        ),
    )
}

fn boot(within: &Namespace) -> Result<Guest> {
    let taps = TAPS.into_iter().zip(MACS);
    Guest::boot(&GuestPlan {
        modules: ["virtio_net", "ip_gre", "wireguard"].map(str::to_owned).to_vec(),
        programs: vec!["ip".into(), "wg".into(), "curl".into()],
        files: vec![("/etc/site.key".to_owned(), peer_key(9).to_base64().as_bytes().to_vec())],
        taps: taps.map(|(name, mac)| Tap { name: name.to_owned(), mac: mac.to_owned() }).collect(),
        within: ["nsenter", "-t", &within.thread_id().to_string(), "-n"]
            .map(str::to_owned)
            .to_vec(),
        ..GuestPlan::default()
    })
}

/// Pings until the first answer, for which neighbours have to be found or a handshake made, and then five
/// times without a loss.
fn pings(guest: &mut Guest, what: &str, from: Ipv4Addr, target: Ipv4Addr) -> Result<()> {
    let began = Instant::now();
    let once = format!("ping -c 1 -W 1 -I {from} {target}");
    guest.until(FIRST_ANSWER, &once, |said| said.status == 0)?;
    let first = began.elapsed().as_secs_f64();
    let said = guest.run(&format!("ping -c 5 -W 3 -I {from} {target}"))?;
    ensure!(said.contains(" 0% packet loss"), "{what}: {said}");
    let times = said.lines().last().unwrap_or_default();
    println!("{what}: first answer after {first:.1} s, {times}");
    Ok(())
}

#[test]
fn a_stock_kernel_is_a_virtualization_host_by_gretap_and_a_site_by_its_own_wireguard() -> Result<()>
{
    if !can_boot(TEST) {
        return Ok(());
    }
    let Some(mut lab) = RunLab::build(TEST, 2)? else { return Ok(()) };
    configure(&lab)?;
    let outside = Namespace::new("stock")?;
    lab.site.plug_host_into_fabric("stock-host", &outside, PROVIDER)?;
    lab.site.plug_into_front_end("stock-site", &outside, ROUTER)?;
    for (link, tap) in ["fabric0", "eth0"].into_iter().zip(TAPS) {
        bridge(&outside, link, tap)?;
    }
    lab.start()?;
    let mut guest = boot(&outside)?;
    let blue = TENANTS[1].public;
    let key = gateway_key(&lab, "blue")?;
    let mtu = UNDERLAY_MTU - NVGRE_BYTES;
    let nvgre_key = RED_WEB_VSID * 256 + FLOW_ID;
    guest.run(&format!(
        "set -e
        ip address add {PROVIDER}/24 dev eth0
        ip link set eth0 up
        ip address add {ROUTER}/24 dev eth1
        ip link set eth1 up
        ip route add 203.0.113.0/24 dev eth1
        ip link add nv0 type gretap local {PROVIDER} remote {GATEWAY_PROVIDER} key {nvgre_key}
        ip link set nv0 address {VM_MAC} mtu {mtu} up
        ip address add {VM}/24 dev nv0
        ip route add {SERVER}/32 via {DEFAULT_GATEWAY} dev nv0
        ip link add wg0 type wireguard
        wg set wg0 private-key /etc/site.key peer {key} endpoint {blue}:{TUNNEL_PORT} allowed-ips 10.2.0.0/24
        ip address add {PREMISES}/24 dev wg0
        ip link set wg0 up
        ip route add 10.2.0.0/24 dev wg0"
    ))?;

    for (what, target) in
        [("its default gateway", DEFAULT_GATEWAY), ("the front end by NAT", SERVER)]
    {
        pings(&mut guest, what, VM, target)?;
    }
    // The service names itself and whom it saw.
    let answer = guest.run(&format!("curl -s -m 10 http://{SERVER}:{SERVICE_PORT}/"))?;
    ensure!(answer.contains(&TENANTS[0].public.to_string()), "the server saw another: {answer}");
    let bytes = guest.run(&format!("curl -s -m 60 http://{SERVER}/ | wc -c"))?;
    ensure!(bytes.trim() == DOWNLOAD_BYTES.to_string(), "{bytes} of {DOWNLOAD_BYTES} bytes came");
    // From the other side: red's database, in the other subnet, reaches the VM in the guest.
    guest.run(&format!("ip route add 10.2.0.10/32 via {DEFAULT_GATEWAY} dev nv0"))?;
    lab.vm("red-db")
        .run(|| nvgate::demo::lab::probe::ping(VM.into(), Duration::from_secs(3)))??;

    guest.run("ip route del 10.2.0.10/32")?;

    pings(&mut guest, "blue's database by WireGuard", PREMISES, BLUE_DB)?;
    let answer = guest.run(&format!("curl -s -m 10 http://{BLUE_DB}:{SERVICE_PORT}/"))?;
    ensure!(answer.contains(&PREMISES.to_string()), "blue's database saw another: {answer}");
    ensure!(answer.contains("blue-db"), "another answered: {answer}");
    let counters = guest.run("wg show wg0 transfer; ip -s link show nv0")?;
    println!("{counters}");
    lab.wait_well()
}
