//! A gateway that is killed at any moment: what it leased and what it keeps from the kernel outlive
//! it, and a gateway that is stopped leaves nothing behind.

use std::fs;
use std::net::Ipv4Addr;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use nvgate::demo::lab::Namespace;
use nvgate::demo::lab::probe::ask_tcp;
use nvgate::demo::site::{SERVER, SERVICE_PORT};
use nvgate_deploy::host::{Guard, Netlink};
use nvgate_model::{Prefix, ProviderAddress};
use nvgate_tests::run_lab::{PATIENCE, PUBLIC, RunLab};
use nvgate_tests::run_lab_host::kernel_refuses_gre;

const GATEWAY_PROVIDER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const POOL: &str = "203.0.113.64/28";
/// Milliseconds between a reload's signal and the kill, a round each.
const KILLED_AFTER_MS: [u64; 5] = [0, 3, 10, 40, 300];

/// Makes both tenants lease their addresses from a pool.
fn use_pool(lab: &RunLab) -> Result<()> {
    let pool = format!("link: front0\n  pools: [{{name: public, prefixes: [{POOL}]}}]");
    lab.edit("gateway", "link: front0", &pool)?;
    lab.edit("red", "addresses: [203.0.113.10]", "pool: public\n  addresses: 2")?;
    lab.edit("blue", "addresses: [203.0.113.20]", "pool: public\n  addresses: 1")
}

fn leased(lab: &RunLab, tenant: &str) -> Result<Vec<String>> {
    let tenant = lab.tenant(tenant)?.with_context(|| format!("no {tenant}"))?;
    Ok(tenant.nat.context("it has NAT")?.addresses)
}

/// Whether exactly the filters of the fabric's guard are in place, and those of the front end's.
fn guards(gateway: &Namespace, front_end: &[Prefix]) -> Result<(bool, bool)> {
    let [fabric, front] = [gateway.link_index("fabric0")?, gateway.link_index("front0")?];
    gateway.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let netlink = Netlink::open()?;
            let providers = [ProviderAddress(GATEWAY_PROVIDER.into())];
            let fabric = Guard::fabric(netlink.clone(), fabric, &providers)?;
            let front = Guard::front_end(netlink, front, front_end)?;
            Ok((fabric.check().await?, front.check().await?))
        })
    })?
}

fn guarded(lab: &RunLab, front_end: &[Prefix]) -> Result<bool> {
    Ok(guards(&lab.site.gateway, front_end)? == (true, true))
}

fn red_answer(lab: &RunLab) -> Result<String> {
    let target = (SERVER, SERVICE_PORT).into();
    let answer = lab.vm("red-web").run(|| ask_tcp(target, "who", PATIENCE))??;
    Ok(answer.seen_as.ip().to_string())
}

#[test]
fn a_killed_gateway_comes_back_with_the_same_addresses() -> Result<()> {
    const TEST: &str = "a_killed_gateway_comes_back_with_the_same_addresses";
    let Some(mut lab) = RunLab::build(TEST, 2)? else { return Ok(()) };
    use_pool(&lab)?;
    let blue = fs::read_to_string(lab.file("blue"))?;
    fs::remove_file(lab.file("blue"))?;
    lab.start()?;
    let red = leased(&lab, "red")?;
    ensure!(red.len() == 2, "{red:?}");
    let mut blue_had: Option<Vec<String>> = None;
    let front_end = [POOL.parse().context("the pool is a prefix")?];
    for (round, after) in (0..).zip(KILLED_AFTER_MS) {
        if round % 2 == 0 {
            lab.write("blue", &blue)?;
        } else {
            fs::remove_file(lab.file("blue"))?;
        }
        lab.signal(Signal::SIGHUP)?;
        thread::sleep(Duration::from_millis(after));
        let ended = lab.end(Signal::SIGKILL)?;
        ensure!(ended.code().is_none(), "round {round}: {ended} before it was killed");
        ensure!(guarded(&lab, &front_end)?, "round {round}: killed with its guards");
        let refused = kernel_refuses_gre(&lab.site.hosts[0], GATEWAY_PROVIDER)?;
        ensure!(!refused, "round {round}: the kernel answers GRE while the gateway is away");
        lab.start().with_context(|| format!("round {round}"))?;
        ensure!(leased(&lab, "red")? == red, "round {round}: {:?}", leased(&lab, "red")?);
        ensure!(red.contains(&red_answer(&lab)?), "round {round}");
        if round % 2 == 0 {
            let has = leased(&lab, "blue")?;
            ensure!(*blue_had.get_or_insert_with(|| has.clone()) == has, "round {round}: {has:?}");
            ensure!(!red.contains(&has[0]), "round {round}: both have {has:?}");
        }
        lab.wait_well().with_context(|| format!("round {round}"))?;
    }
    Ok(())
}

#[test]
fn a_stopped_gateway_leaves_the_kernel_as_it_was() -> Result<()> {
    const TEST: &str = "a_stopped_gateway_leaves_the_kernel_as_it_was";
    let Some(mut lab) = RunLab::build(TEST, 1)? else { return Ok(()) };
    let refuses = |lab: &RunLab| kernel_refuses_gre(&lab.site.hosts[0], GATEWAY_PROVIDER);
    ensure!(refuses(&lab)?, "without a gateway the kernel refuses");
    let [red, blue] = PUBLIC.map(|address| Prefix::host(address.into()));
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        lab.start()?;
        ensure!(guarded(&lab, &[red, blue])?, "guards are in place");
        ensure!(!refuses(&lab)?, "and they work");
        let ended = lab.end(signal)?;
        ensure!(ended.code() == Some(0), "{signal}: {ended}");
        ensure!(guards(&lab.site.gateway, &[])? == (false, true), "guards are gone");
        // The kernel sends few such answers a second.
        thread::sleep(Duration::from_millis(1100));
        ensure!(refuses(&lab)?, "the kernel refuses again");
    }
    Ok(())
}

/// A reload that drops an address stops keeping it from the kernel, one that adds an address
/// starts to.
#[test]
fn the_guards_follow_the_configuration() -> Result<()> {
    const TEST: &str = "the_guards_follow_the_configuration";
    let Some(mut lab) = RunLab::build(TEST, 1)? else { return Ok(()) };
    lab.start()?;
    let [red, blue, other] = [PUBLIC[0], PUBLIC[1], Ipv4Addr::new(203, 0, 113, 99)]
        .map(|address| Prefix::host(address.into()));
    ensure!(guarded(&lab, &[red, blue])?);
    let before = lab.generation()?;
    lab.edit("blue", "203.0.113.20", "203.0.113.99")?;
    lab.signal(Signal::SIGHUP)?;
    lab.wait_loaded(before)?;
    ensure!(guarded(&lab, &[red, other])?, "the new address instead of the old");
    let before = lab.generation()?;
    fs::remove_file(lab.file("blue"))?;
    lab.signal(Signal::SIGHUP)?;
    lab.wait_loaded(before)?;
    ensure!(guarded(&lab, &[red])?, "red's alone");
    Ok(())
}
