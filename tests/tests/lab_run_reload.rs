//! A running gateway whose configuration changes: packets of tenants that did not change never
//! notice, and a configuration that does not hold changes nothing.

use std::fs;
use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use nvgate::admin::health::HealthState;
use nvgate::demo::lab::probe::{ask_tcp, ask_udp, ping};
use nvgate::demo::site::{INBOUND_PORT, SERVER, SERVICE_PORT};
use nvgate_tests::run_lab::{PATIENCE, PUBLIC, RunLab};
use nvgate_tests::run_lab_traffic::Stream;

/// Longer than any round of a stream may take, reload or not.
const STALL: Duration = Duration::from_secs(1);
/// How long something is tried that must not work.
const REFUSAL: Duration = Duration::from_millis(700);
/// A free port of the server, for streams.
const STREAM_PORT: u16 = 9000;
/// A public port that blue has only after it was changed.
const LATER_PORT: u16 = 8081;

fn red_stream(lab: &RunLab) -> Result<Stream> {
    let target = (SERVER, STREAM_PORT).into();
    Stream::start(lab.vm("red-web"), target, &lab.site.server, target)
}

fn red_sessions(lab: &RunLab) -> Result<u64> {
    let red = lab.tenant("red")?.context("the status knows red")?;
    Ok(red.nat.context("red has NAT")?.sessions)
}

#[test]
fn a_stream_of_one_tenant_flows_while_another_comes_changes_and_goes() -> Result<()> {
    const TEST: &str = "a_stream_of_one_tenant_flows_while_another_comes_changes_and_goes";
    let Some(mut lab) = RunLab::build(TEST, 2)? else { return Ok(()) };
    let blue = fs::read_to_string(lab.file("blue"))?;
    fs::remove_file(lab.file("blue"))?;
    lab.start()?;
    let stream = red_stream(&lab)?;
    ensure!(stream.seen_as.ip() == IpAddr::from(PUBLIC[0]), "seen as {}", stream.seen_as);
    lab.wait("the session is counted", || {
        ensure!(red_sessions(&lab)? == 1, "{} sessions", red_sessions(&lab)?);
        Ok(())
    })?;
    ensure!(lab.tenant("blue")?.is_none());

    let before = lab.generation()?;
    lab.write("blue", &blue)?;
    lab.signal(Signal::SIGHUP)?;
    lab.wait_loaded(before)?;
    lab.vm("blue-web").run(|| ping(SERVER.into(), PATIENCE))?.context("blue is there")?;

    // Without a signal: the changed file is noticed.
    let before = lab.generation()?;
    lab.edit(
        "blue",
        &format!("public_port: {INBOUND_PORT}"),
        &format!("public_port: {LATER_PORT}"),
    )?;
    lab.wait_loaded(before)?;
    let server = &lab.site.server;
    let later = (PUBLIC[1], LATER_PORT).into();
    let answer = server.run(|| ask_tcp(later, "later", PATIENCE))??;
    ensure!(answer.label == "blue-web", "{answer:?}");
    let former = (PUBLIC[1], INBOUND_PORT).into();
    ensure!(server.run(|| ask_udp(former, "former", REFUSAL))?.is_err());

    let before = lab.generation()?;
    fs::remove_file(lab.file("blue"))?;
    lab.signal(Signal::SIGHUP)?;
    lab.wait_loaded(before)?;
    ensure!(lab.vm("blue-web").run(|| ping(SERVER.into(), REFUSAL))?.is_err(), "blue is gone");
    ensure!(lab.tenant("blue")?.is_none());

    ensure!(red_sessions(&lab)? == 1, "{} sessions", red_sessions(&lab)?);
    let carried = stream.end_after(20)?;
    println!("{carried:?}");
    ensure!(carried.longest < STALL, "{carried:?}");
    ensure!(lab.complaints()?.is_empty());
    Ok(())
}

#[test]
fn a_stream_flows_while_its_own_tenant_gets_more() -> Result<()> {
    const TEST: &str = "a_stream_flows_while_its_own_tenant_gets_more";
    let Some(mut lab) = RunLab::build(TEST, 2)? else { return Ok(()) };
    lab.start()?;
    let stream = red_stream(&lab)?;
    let rule = "  inbound:\n";
    for port in 8100..8105 {
        let before = lab.generation()?;
        let more =
            format!("    - {{protocol: tcp, public_port: {port}, to: 10.1.0.10, port: 7}}\n");
        lab.edit("red", rule, &format!("{rule}{more}"))?;
        lab.signal(Signal::SIGHUP)?;
        lab.wait_loaded(before)?;
        let target = (PUBLIC[0], port).into();
        let answer = lab.site.server.run(|| ask_tcp(target, "more", PATIENCE))??;
        ensure!(answer.label == "red-web", "{answer:?}");
        thread::sleep(Duration::from_millis(100));
    }
    let carried = stream.end_after(20)?;
    println!("{carried:?}");
    ensure!(carried.longest < STALL, "{carried:?}");
    Ok(())
}

#[test]
fn a_configuration_that_does_not_hold_changes_nothing_and_says_where() -> Result<()> {
    const TEST: &str = "a_configuration_that_does_not_hold_changes_nothing_and_says_where";
    let Some(mut lab) = RunLab::build(TEST, 2)? else { return Ok(()) };
    lab.start()?;
    let stream = red_stream(&lab)?;
    let good = fs::read_to_string(lab.file("blue"))?;
    let line_of = |text: &str, part: &str| {
        let line = text.lines().position(|line| line.contains(part));
        line.map(|line| line + 1).context("the line is there")
    };
    let syntax = good.replace("gateway_subnet: {", "gateway_subnet: [{");
    let conflict = fs::read_to_string(lab.file("red"))?.replace("vsid: 5001", "vsid: 6001");
    let typing_error = good.replace("endpoints:", "endponts:");
    let restart = fs::read_to_string(lab.file("gateway"))?;
    for (name, text, place, signalled) in [
        ("blue", &syntax, "blue.yaml:".to_owned(), true),
        ("red", &conflict, format!("red.yaml:{}:", line_of(&conflict, "vsid: 6001")?), true),
        (
            "blue",
            &typing_error,
            format!("blue.yaml:{}:1: ", line_of(&typing_error, "endponts:")?),
            false,
        ),
        (
            "gateway",
            &restart.replace("workers: 2", "workers: 1"),
            "needs a restart of the gateway".to_owned(),
            true,
        ),
    ] {
        let former = fs::read_to_string(lab.file(name))?;
        let generation = lab.generation()?;
        lab.write(name, text)?;
        if signalled {
            lab.signal(Signal::SIGHUP)?;
        }
        let errors = lab.wait("the configuration is refused", || {
            lab.status()?.config.last_error.context("no error")
        })?;
        ensure!(errors[0].contains(&place), "{place} is not in {errors:?}");
        ensure!(lab.generation()? == generation, "a refused configuration is in effect");
        let (code, health) = lab.ask("/healthz")?;
        ensure!(code == 200 && health.contains("\"status\":\"degraded\""), "{code}: {health}");
        let [complaint] = &lab.complaints()?[..] else { anyhow::bail!("{health}") };
        let reason = complaint.reason.as_deref().unwrap_or_default();
        ensure!(complaint.status == HealthState::Degraded && reason.contains(&place), "{reason}");
        ensure!(lab.ask("/readyz")?.0 == 200, "it still forwards");
        let answer =
            lab.vm("blue-web").run(|| ask_tcp((SERVER, SERVICE_PORT).into(), "x", PATIENCE))??;
        ensure!(answer.seen_as.ip() == IpAddr::from(PUBLIC[1]), "{answer:?}");

        lab.write(name, &former)?;
        if signalled {
            lab.signal(Signal::SIGHUP)?;
        }
        lab.wait_well()?;
    }
    let carried = stream.end_after(20)?;
    println!("{carried:?}");
    ensure!(carried.longest < STALL, "{carried:?}");
    Ok(())
}

/// Many reloads at once end with the newest configuration, whatever was read in between.
#[test]
fn a_storm_of_reloads_ends_with_the_newest_configuration() -> Result<()> {
    const TEST: &str = "a_storm_of_reloads_ends_with_the_newest_configuration";
    let Some(mut lab) = RunLab::build(TEST, 1)? else { return Ok(()) };
    lab.start()?;
    let stream = red_stream(&lab)?;
    let blue = fs::read_to_string(lab.file("blue"))?;
    for round in 0..40 {
        if round % 2 == 0 {
            fs::remove_file(lab.file("blue"))?;
        } else {
            lab.write("blue", &blue)?;
        }
        lab.signal(Signal::SIGHUP)?;
        thread::sleep(Duration::from_millis(round % 5 * 3));
    }
    lab.wait("blue is back", || lab.tenant("blue")?.context("no blue").map(|_| ()))?;
    lab.vm("blue-web").run(|| ping(SERVER.into(), PATIENCE))?.context("blue is there")?;
    let carried = stream.end_after(20)?;
    println!("{carried:?}");
    ensure!(carried.longest < STALL, "{carried:?}");
    lab.wait_well()
}
