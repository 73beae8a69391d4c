//! Bad surroundings: each ends the start with one clear sentence and exit code 3, or, where it can
//! heal, keeps the gateway from being ready with a reason that says what to do.

use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use nvgate::admin::health::HealthState;
use nvgate::demo::lab::probe::{ask_tcp, download, ping};
use nvgate::demo::site::{ADMIN, DOWNLOAD_BYTES, DOWNLOAD_PORT, SERVER, SERVICE_PORT};
use nvgate_tests::run_lab::{PATIENCE, RunLab, binary};
use nvgate_tests::run_lab_host::{Change, Ended, change, is_settled, kernel_refuses_gre, run};
use nvgate_tests::run_lab_traffic::Stream;
use nvgate_tests::skip::skip;

const GATEWAY_PROVIDER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// Where red's VMs live.
const HOST_PROVIDER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 11);
/// How often the gateway has resolved neighbours confirmed, and a little.
const CONFIRMED: Duration = Duration::from_secs(17);
/// The user and group without any right.
const NOBODY: u32 = 65534;

/// Runs `nvgate run` to its end.
fn start_in_vain(lab: &RunLab, prepare: impl FnOnce(&mut Command)) -> Result<Ended> {
    let mut command = Command::new(binary()?);
    command.arg("run").arg("--config").arg(lab.config());
    prepare(&mut command);
    run(&lab.site.gateway, command)
}

/// Exit code 3 and exactly one sentence, which has all of `parts`.
fn refused(ended: &Ended, parts: &[&str]) -> Result<()> {
    let sentence = ended.sentence();
    ensure!(ended.code == Some(3), "{ended:?}");
    ensure!(parts.iter().all(|part| sentence.contains(part)), "{parts:?} in {ended:?}");
    let lines = ended.errors.lines().filter(|line| !line.contains(" INFO "));
    ensure!(lines.clone().count() == 1, "more than a sentence: {ended:?}");
    Ok(())
}

/// Waits until the gateway is not ready for a reason that has all of `parts`.
fn not_ready(lab: &RunLab, parts: &[&str]) -> Result<()> {
    lab.wait(&format!("not ready: {parts:?}"), || {
        let (code, body) = lab.ask("/readyz")?;
        ensure!(code == 503 && parts.iter().all(|part| body.contains(part)), "{code}: {body}");
        Ok(())
    })
}

fn red_reaches_the_server(lab: &RunLab) -> Result<()> {
    let target = (SERVER, SERVICE_PORT).into();
    lab.vm("red-web").run(|| ask_tcp(target, "there", PATIENCE))??;
    Ok(())
}

#[test]
fn a_start_without_privileges_names_the_capability() -> Result<()> {
    const TEST: &str = "a_start_without_privileges_names_the_capability";
    let Some(lab) = RunLab::build(TEST, 1)? else { return Ok(()) };
    // What nobody must reach: the binary, the configuration and the state directory.
    let program = lab.config().join("nvgate");
    fs::copy(binary()?, &program)?;
    for (path, mode) in [("", 0o755), ("state", 0o777)] {
        let path = lab.config().join(path);
        fs::create_dir_all(&path)?;
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    let mut command = Command::new(&program);
    command.arg("run").arg("--config").arg(lab.config()).uid(NOBODY).gid(NOBODY);
    match run(&lab.site.gateway, command) {
        Ok(ended) => refused(&ended, &["run as root", "CAP_NET_ADMIN and CAP_NET_RAW"])?,
        // In a user namespace there is no such user.
        Err(error) => skip(TEST, &format!("cannot become another user: {error:#}")),
    }
    Ok(())
}

#[test]
fn a_start_without_one_capability_names_it_and_leaves_no_guard() -> Result<()> {
    const TEST: &str = "a_start_without_one_capability_names_it_and_leaves_no_guard";
    let Some(lab) = RunLab::build(TEST, 1)? else { return Ok(()) };
    for (dropped, named) in [("net_admin", "CAP_NET_ADMIN"), ("net_raw", "CAP_NET_RAW")] {
        let mut command = Command::new("setpriv");
        command.arg(format!("--bounding-set=-{dropped}")).arg(binary()?).arg("run");
        command.arg("--config").arg(lab.config());
        match run(&lab.site.gateway, command) {
            Ok(ended) => refused(&ended, &["run as root", named])?,
            Err(error) => {
                skip(TEST, &format!("needs setpriv: {error:#}"));
                return Ok(());
            }
        }
        let refuses = kernel_refuses_gre(&lab.site.hosts[0], GATEWAY_PROVIDER)?;
        ensure!(refuses, "without {named}: a guard was left");
        thread::sleep(Duration::from_millis(1100));
    }
    Ok(())
}

#[test]
fn a_start_names_the_link_that_is_missing() -> Result<()> {
    const TEST: &str = "a_start_names_the_link_that_is_missing";
    let Some(lab) = RunLab::build(TEST, 1)? else { return Ok(()) };
    for (role, link) in [("fabric", "fabric0"), ("front_end", "front0")] {
        lab.edit("gateway", &format!("link: {link}"), "link: absent0")?;
        refused(
            &start_in_vain(&lab, |_| {})?,
            &[role, "`absent0` does not exist", "gateway.yaml"],
        )?;
        lab.edit("gateway", "link: absent0", &format!("link: {link}"))?;
    }
    // A loopback is no Ethernet link.
    lab.edit("gateway", "link: front0", "link: lo")?;
    let ended = start_in_vain(&lab, |_| {})?;
    ensure!(ended.code == Some(3) && ended.sentence().contains("lo"), "{ended:?}");
    Ok(())
}

#[test]
fn a_start_names_the_admin_address_that_is_in_use_or_not_ours() -> Result<()> {
    const TEST: &str = "a_start_names_the_admin_address_that_is_in_use_or_not_ours";
    let Some(lab) = RunLab::build(TEST, 1)? else { return Ok(()) };
    let taken = lab.site.gateway.run(|| TcpListener::bind(ADMIN))??;
    let address = ADMIN.to_string();
    refused(&start_in_vain(&lab, |_| {})?, &[&address, "in use", "admin.listen"])?;
    drop(taken);
    lab.edit("gateway", &address, "192.0.2.77:9470")?;
    refused(&start_in_vain(&lab, |_| {})?, &["192.0.2.77:9470", "admin.listen"])
}

#[test]
fn a_second_gateway_is_told_who_has_the_state_directory() -> Result<()> {
    const TEST: &str = "a_second_gateway_is_told_who_has_the_state_directory";
    let Some(mut lab) = RunLab::build(TEST, 1)? else { return Ok(()) };
    lab.start()?;
    let state = lab.config().join("state");
    let ended = start_in_vain(&lab, |_| {})?;
    refused(&ended, &[&state.display().to_string()])?;
    println!("{}", ended.sentence());
    red_reaches_the_server(&lab)?;
    lab.wait_well()
}

#[test]
fn an_invalid_configuration_at_the_start_exits_with_1_and_every_error() -> Result<()> {
    const TEST: &str = "an_invalid_configuration_at_the_start_exits_with_1_and_every_error";
    let Some(lab) = RunLab::build(TEST, 1)? else { return Ok(()) };
    lab.edit("red", "vsid: 5001", "vsid: 1")?;
    lab.edit("blue", "endpoints:", "endponts:")?;
    let ended = start_in_vain(&lab, |_| {})?;
    ensure!(ended.code == Some(1), "{ended:?}");
    for part in ["red.yaml:", "blue.yaml:", "endponts"] {
        ensure!(ended.errors.contains(part), "{part} in {ended:?}");
    }
    Ok(())
}

#[test]
fn a_link_that_is_down_at_the_start_is_waited_for() -> Result<()> {
    const TEST: &str = "a_link_that_is_down_at_the_start_is_waited_for";
    let Some(mut lab) = RunLab::build(TEST, 2)? else { return Ok(()) };
    for link in ["fabric0", "front0"] {
        change(&lab.site.gateway, link, &[Change::Down])?;
        lab.spawn()?;
        not_ready(&lab, &[&format!("link {link} is down"), "`ip link set", "up`"])?;
        // It can be told to reload and to stop meanwhile.
        let before = lab.generation()?;
        lab.signal(Signal::SIGHUP)?;
        lab.wait_loaded(before)?;
        let ended = lab.end(Signal::SIGTERM)?;
        ensure!(ended.code() == Some(0), "{ended}");

        lab.spawn()?;
        not_ready(&lab, &[&format!("link {link} is down")])?;
        change(&lab.site.gateway, link, &[Change::Up])?;
        lab.wait_well()?;
        red_reaches_the_server(&lab)?;
        ensure!(lab.end(Signal::SIGTERM)?.code() == Some(0));
    }
    Ok(())
}

#[test]
fn a_provider_address_that_is_missing_is_named_and_waited_for() -> Result<()> {
    const TEST: &str = "a_provider_address_that_is_missing_is_named_and_waited_for";
    let Some(mut lab) = RunLab::build(TEST, 1)? else { return Ok(()) };
    let own = GATEWAY_PROVIDER.into();
    change(&lab.site.gateway, "fabric0", &[Change::Remove(own)])?;
    lab.spawn()?;
    not_ready(&lab, &["fabric0", "192.0.2.1", "`ip address add 192.0.2.1/"])?;
    change(&lab.site.gateway, "fabric0", &[Change::Add(own, 24)])?;
    lab.wait_well()?;
    red_reaches_the_server(&lab)?;
    // And while it runs.
    change(&lab.site.gateway, "fabric0", &[Change::Remove(own)])?;
    not_ready(&lab, &["`ip address add 192.0.2.1/"])?;
    change(&lab.site.gateway, "fabric0", &[Change::Add(own, 24)])?;
    lab.wait_well()?;
    red_reaches_the_server(&lab)
}

#[test]
fn an_underlay_too_small_for_ipv6_is_said_and_ipv4_goes_on() -> Result<()> {
    const TEST: &str = "an_underlay_too_small_for_ipv6_is_said_and_ipv4_goes_on";
    let Some(mut lab) = RunLab::build(TEST, 2)? else { return Ok(()) };
    change(&lab.site.gateway, "fabric0", &[Change::Mtu(1280)])?;
    lab.start()?;
    let complaints = lab.complaints()?;
    let [complaint] = &complaints[..] else { bail!("{complaints:?}") };
    let reason = complaint.reason.as_deref().unwrap_or_default();
    ensure!(complaint.status == HealthState::Degraded, "{complaint:?}");
    ensure!(reason.contains("1238 bytes") && reason.contains("1280"), "{reason}");
    ensure!(lab.tenant("red")?.context("red")?.mtu == 1238);
    // Both ends of TCP believe in 1458 and 1500; the gateway tells each what fits.
    let (bytes, _) = lab
        .vm("red-web")
        .run(|| download((SERVER, DOWNLOAD_PORT).into(), Duration::from_secs(15), || false))??;
    ensure!(bytes == DOWNLOAD_BYTES, "{bytes} bytes");
    let target = (SERVER, 9000).into();
    let stream = Stream::start(lab.vm("red-web"), target, &lab.site.server, target)?;
    stream.end_after(10)?;
    change(&lab.site.gateway, "fabric0", &[Change::Mtu(1500)])?;
    lab.wait_well()?;
    ensure!(lab.tenant("red")?.context("red")?.mtu == 1458);
    Ok(())
}

#[test]
fn a_link_that_flaps_takes_readiness_and_brings_it_back_with_the_traffic() -> Result<()> {
    const TEST: &str = "a_link_that_flaps_takes_readiness_and_brings_it_back_with_the_traffic";
    let Some(mut lab) = RunLab::build(TEST, 2)? else { return Ok(()) };
    lab.start()?;
    let target = (SERVER, 9000).into();
    let stream = Stream::start(lab.vm("red-web"), target, &lab.site.server, target)?;
    for link in ["fabric0", "front0"] {
        change(&lab.site.gateway, link, &[Change::Down])?;
        not_ready(&lab, &[&format!("link {link} is down")])?;
        ensure!(lab.ask("/livez")?.0 == 200);
        change(&lab.site.gateway, link, &[Change::Up])?;
        lab.wait_well()?;
        red_reaches_the_server(&lab)?;
        lab.vm("red-web").run(|| ping(lab.site.vm("red-db").ipv4.into(), PATIENCE))??;
        lab.site
            .server
            .run(|| ask_tcp((nvgate_tests::run_lab::PUBLIC[0], 8080).into(), "in", PATIENCE))??;
    }
    let carried = stream.end_after(10).context("the stream outlives both")?;
    println!("{carried:?}");
    Ok(())
}

#[test]
fn a_neighbour_that_was_set_by_hand_stays_as_it_is() -> Result<()> {
    const TEST: &str = "a_neighbour_that_was_set_by_hand_stays_as_it_is";
    let Some(mut lab) = RunLab::build(TEST, 1)? else { return Ok(()) };
    lab.start()?;
    let host = HOST_PROVIDER.into();
    red_reaches_the_server(&lab)?;
    ensure!(!is_settled(&lab.site.gateway, host)?, "the kernel resolved it");
    change(&lab.site.gateway, "fabric0", &[Change::Settle(host)])?;
    thread::sleep(CONFIRMED);
    ensure!(is_settled(&lab.site.gateway, host)?, "it was made one that the kernel resolves");
    red_reaches_the_server(&lab)?;
    lab.wait_well()
}
