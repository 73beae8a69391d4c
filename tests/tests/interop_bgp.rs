//! BGP with routers of tenants: BIRD and FRR in VMs, with the same addresses and AS numbers in every
//! tenant, and the real gateway between them and the tenants' other VMs.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, ensure};
use nvgate::demo::lab::probe::{Service, ping};
use nvgate::demo::site::SERVICE_PORT;
use nvgate_tests::bgp_lab::{BIRD, Daemon, FRR};
use nvgate_tests::run_lab::RunLab;
use nvgate_tests::run_lab_host::{Change, change};
use nvgate_tests::skip::has_peers;
use nvgate_tests::wg_lab::{give_vpn, reaches};
use nvgate_tests::wg_twins::TENANTS;

/// An address behind the router VM of either tenant, in what it teaches.
const TAUGHT: Ipv4Addr = Ipv4Addr::new(172, 30, 1, 1);
/// The other VM of each tenant.
const DATABASE: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 10);

/// The gateway's side, the same for both tenants.
const GATEWAY: &str = "bgp:\n  asn: 64512\n  peers:\n    - {name: router, address: 10.1.0.10, asn: 65010, hold_secs: 9, connect_retry_secs: 2}\n";

const BIRD_CONFIG: &str = "router id 10.1.0.10;
protocol device {}
protocol static taught { ipv4; route 172.30.0.0/16 unreachable; }
protocol bgp upstream {
  local 10.1.0.10 as 65010;
  neighbor 10.1.0.1 as 64512;
  hold time 9;
  connect delay time 1;
  connect retry time 2;
  ipv4 { import all; export where source = RTS_STATIC; };
}
";

const FRR_CONFIG: &str = "log file /dev/stdout
router bgp 65010
 bgp router-id 10.1.0.10
 no bgp ebgp-requires-policy
 no bgp network import-check
 neighbor 10.1.0.1 remote-as 64512
 neighbor 10.1.0.1 timers 3 9
 neighbor 10.1.0.1 timers connect 2
 address-family ipv4 unicast
  network 172.30.0.0/16
 exit-address-family
";

/// Twins with a router in the web VM of each, and what is behind it.
struct Routed {
    _behind: Vec<Service>,
    lab: RunLab,
}

fn routed(test: &str, workers: usize) -> Result<Option<Routed>> {
    let Some(mut lab) = RunLab::build(test, workers)? else { return Ok(None) };
    let mut behind = Vec::new();
    for tenant in TENANTS {
        give_vpn(&lab, tenant, GATEWAY)?;
        let vm = lab.vm(&format!("{tenant}-web"));
        change(vm, "lo", &[Change::Up, Change::Add(TAUGHT.into(), 32)])?;
        let socket = SocketAddr::new(TAUGHT.into(), SERVICE_PORT);
        behind.push(Service::start(vm, &format!("behind-{tenant}"), &[socket])?);
    }
    lab.start()?;
    Ok(Some(Routed { _behind: behind, lab }))
}

/// From each tenant's other VM one reaches what its own router taught, and nobody else's.
fn each_reaches_what_was_taught(lab: &RunLab) -> Result<()> {
    for tenant in TENANTS {
        let database = lab.vm(&format!("{tenant}-db"));
        let label = format!("behind-{tenant}");
        lab.wait(&format!("{tenant} reaches {TAUGHT}"), || {
            reaches(database, TAUGHT.into(), &label, DATABASE.into())
        })?;
    }
    Ok(())
}

#[test]
fn routers_of_twins_teach_and_learn_with_bird() -> Result<()> {
    const TEST: &str = "routers_of_twins_teach_and_learn_with_bird";
    if !has_peers(TEST, &BIRD) {
        return Ok(());
    }
    for workers in [1, 2] {
        let Some(Routed { lab, _behind }) = routed(TEST, workers)? else { return Ok(()) };
        let routers: Vec<_> = TENANTS
            .iter()
            .map(|tenant| Daemon::bird(lab.config(), lab.vm(&format!("{tenant}-web")), BIRD_CONFIG))
            .collect::<Result<_>>()?;
        each_reaches_what_was_taught(&lab)?;
        for (tenant, router) in TENANTS.iter().zip(&routers) {
            let vm = lab.vm(&format!("{tenant}-web"));
            let routes = lab.wait("BIRD learns", || {
                let routes = router.ask(vm, "show route all")?;
                ensure!(routes.contains("10.2.0.0/24"), "{routes}");
                Ok(routes)
            })?;
            println!("{routes}");
            for part in ["via 10.1.0.1", "BGP.as_path: 64512", "BGP.origin: IGP"] {
                ensure!(routes.contains(part), "no {part} in {routes}");
            }
            router.ask(vm, "disable taught")?;
        }
        // What is withdrawn goes the way of everything else: out by NAT, where nobody has it.
        lab.wait("what was withdrawn is gone", || {
            for tenant in TENANTS {
                let database = lab.vm(&format!("{tenant}-db"));
                let still = database.run(|| ping(TAUGHT.into(), Duration::from_millis(300)))?;
                ensure!(still.is_err(), "{tenant} still reaches {TAUGHT}");
            }
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn routers_of_twins_teach_and_learn_with_frr() -> Result<()> {
    const TEST: &str = "routers_of_twins_teach_and_learn_with_frr";
    if !has_peers(TEST, &FRR) {
        return Ok(());
    }
    let Some(Routed { lab, _behind }) = routed(TEST, 2)? else { return Ok(()) };
    let routers: Vec<_> = TENANTS
        .iter()
        .map(|tenant| Daemon::frr(lab.config(), lab.vm(&format!("{tenant}-web")), FRR_CONFIG))
        .collect::<Result<_>>()?;
    each_reaches_what_was_taught(&lab)?;
    for (tenant, router) in TENANTS.iter().zip(&routers) {
        let vm = lab.vm(&format!("{tenant}-web"));
        lab.wait("FRR learns", || {
            let routes = router.ask(vm, "show bgp ipv4 unicast 10.2.0.0/24")?;
            ensure!(routes.contains("64512") && routes.contains("10.1.0.1"), "{routes}");
            Ok(())
        })?;
    }
    Ok(())
}
