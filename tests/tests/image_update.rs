//! Updates of a machine of the image: one that is good, and one that does not become ready.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use nvgate::demo::lab::Namespace;
use nvgate_tests::appliance::{self, Appliance, product};
use nvgate_tests::appliance_example::{begin, leases};
use nvgate_tests::appliance_update::{Flaw, variant};
use tempfile::TempDir;

#[test]
fn an_update_keeps_what_there_was_and_one_that_is_not_ready_is_left_by_itself() -> Result<()> {
    let Some(image) = appliance::built("updates") else { return Ok(()) };
    let namespace = Namespace::new("appliance")?;
    let mut machine = begin(&image, &namespace)?;
    updates(&mut machine, &namespace, &image)
}

fn running_version(machine: &Appliance, namespace: &Namespace) -> Result<String> {
    let table = machine.command(namespace, "nvgate image status")?;
    println!("{table}");
    let row = table.lines().find(|row| row.contains(" runs")).with_context(|| table.clone())?;
    Ok(row.split_whitespace().next().unwrap_or_default().to_owned())
}

/// A good update runs with what there was; one that does not become ready is left by itself.
fn updates(machine: &mut Appliance, namespace: &Namespace, image: &Path) -> Result<()> {
    let update = product(image, "update")?;
    let before = leases(machine, namespace)?;
    let first = running_version(machine, namespace)?;
    let work = TempDir::with_prefix("nvgate-update-")?;

    let good = variant(&update, work.path(), "next", Flaw::None)?;
    install(machine, namespace, &good)?;
    machine.wait_ready(namespace)?;
    let second = running_version(machine, namespace)?;
    ensure!(second == "next" && first != "next", "{first} -> {second}");
    machine.wait("health has no complaint", |machine| {
        let (state, reason) = machine.component(namespace, "image")?;
        ensure!(state == "ok", "{state}: {reason}");
        Ok(())
    })?;
    ensure!(leases(machine, namespace)? == before, "the addresses are others after an update");

    let bad = variant(&update, work.path(), "broken", Flaw::NeverReady)?;
    install(machine, namespace, &bad)?;
    machine.wait_console("going back to the version before this one")?;
    machine.wait_ready(namespace)?;
    let third = running_version(machine, namespace)?;
    ensure!(third == "next", "after an update that failed, {third} runs");
    let table = machine.command(namespace, "nvgate image status")?;
    ensure!(table.contains("was not ready, given up"), "{table}");
    let told = machine.wait("health tells of it", |machine| {
        let (state, reason) = machine.component(namespace, "image")?;
        ensure!(state == "degraded", "{state}");
        Ok(reason)
    })?;
    ensure!(told.starts_with("version broken was tried and was not ready"), "{told}");
    ensure!(leases(machine, namespace)? == before, "the addresses are others after a fall-back");
    Ok(())
}

fn install(machine: &mut Appliance, namespace: &Namespace, update: &Path) -> Result<()> {
    let began = Instant::now();
    machine.copy_in(namespace, update, "/var/tmp/update")?;
    let copied = began.elapsed();
    let said =
        machine.command(namespace, "nvgate image update /var/tmp/update && rm /var/tmp/update")?;
    println!(
        "{said}copied in {:.1} s, written in {:.1} s",
        copied.as_secs_f64(),
        (began.elapsed() - copied).as_secs_f64()
    );
    machine.restart(namespace)
}
