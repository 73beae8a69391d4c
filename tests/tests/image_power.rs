//! What a machine of the image does with damage: a flipped byte, and power cuts while it writes.

use std::collections::BTreeSet;
use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nvgate::demo::lab::Namespace;
use nvgate_tests::appliance::{self, Appliance, SeedBy, Wiring, product};
use nvgate_tests::appliance_example::{begin, leases};
use nvgate_tests::appliance_update::{Flaw, variant};
use tempfile::TempDir;

/// Power cuts of each kind.
const CUTS: u32 = 10;

/// Where the root of the first slot is on the disk, and some way into it, in bytes.
const IN_THE_ROOT: u64 = (129 << 20) + (20 << 20) + 77;

/// A number below `bound` that nobody chose.
fn chance(bound: u64) -> u64 {
    RandomState::new().hash_one(0) % bound
}

fn qemu_io(disk: &Path, command: &str) -> Result<bool> {
    let output = Command::new("qemu-io").args(["-f", "qcow2", "-c", command]).arg(disk).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(said.contains("bytes at offset") || said.contains("verification failed"), "{said}");
    Ok(!said.contains("verification failed"))
}

#[test]
fn a_flipped_byte_of_the_root_is_refused_at_boot() -> Result<()> {
    let Some(image) = appliance::built("a flipped byte") else { return Ok(()) };
    let mut machine = Appliance::new(&image)?;
    let is = qemu_io(&machine.disk(), &format!("read -P 0x5a {IN_THE_ROOT} 1"))?;
    let other = if is { "0xa5" } else { "0x5a" };
    ensure!(qemu_io(&machine.disk(), &format!("write -P {other} {IN_THE_ROOT} 1"))?, "not written");
    let namespace = Namespace::new("appliance")?;
    machine.power_on(&namespace, Wiring::Unplugged, SeedBy::Nothing)?;
    machine.wait_console("not booted: the root is damaged")?;
    ensure!(!machine.console().contains("Welcome to nvgate"), "it was started all the same");
    Ok(())
}

/// Cuts the power [`CUTS`] times while the machine does `work` over and over, within one and a half
/// times what that takes in peace, login and all, and has `judge` say what it is after each.
fn cut(
    machine: &mut Appliance,
    namespace: &Namespace,
    work: &str,
    mut judge: impl FnMut(&mut Appliance) -> Result<String>,
) -> Result<()> {
    // The first login waits for the host key.
    machine.command(namespace, "true")?;
    let began = Instant::now();
    let said = machine.command(namespace, work).context("the work, once and in peace")?;
    let took = began.elapsed();
    println!("{said}in peace: {:.1} s", took.as_secs_f64());
    for number in 1..=CUTS {
        let mut busy = machine.start(namespace, &format!("while :; do {work}; done"))?;
        let after = Duration::from_millis(chance(took.as_millis() as u64 * 3 / 2));
        thread::sleep(after);
        machine.cut_power()?;
        busy.wait()?;
        machine.power_on(namespace, Wiring::Unplugged, SeedBy::Nothing)?;
        machine
            .wait_ready(namespace)
            .with_context(|| format!("power cut {number} after {after:?}"))?;
        let is = judge(machine)?;
        println!("power cut {number} after {:.1} s: {is}", after.as_secs_f64());
    }
    Ok(())
}

#[test]
fn power_cuts_while_seeds_are_applied_leave_the_last_good_configuration_and_leases() -> Result<()> {
    let Some(image) = appliance::built("power cuts while seeds are applied") else { return Ok(()) };
    let namespace = Namespace::new("appliance")?;
    let mut machine = begin(&image, &namespace)?;
    let before = leases(&machine, &namespace)?;
    // The disk comes before the folder: from now on there is no disk.
    machine.cut_power()?;
    machine.power_on(&namespace, Wiring::Unplugged, SeedBy::Nothing)?;
    machine.wait_ready(&namespace)?;
    // A seed with one tenant and one with two, each by a name of its own.
    let work = "\
        set -e; cd /var/lib/nvgate-seed; n=$(date +%s%N); mkdir -p seed; cp -rL current/. seed; \
        cp -n seed/tenants.d/fabrikam.yaml /var/tmp/ || :; \
        sed -i \"s/^hostname: .*/hostname: gw$n.example/\" seed/seed.yaml; \
        if [ $((n % 2)) = 0 ]; then rm -f seed/tenants.d/fabrikam.yaml; \
        else cp /var/tmp/fabrikam.yaml seed/tenants.d/; fi; \
        nvgate seed apply";
    let mut versions = BTreeSet::new();
    cut(&mut machine, &namespace, work, |machine| {
        let now = leases(machine, &namespace)?;
        ensure!(now == before, "contoso had {before}, and has {now}");
        let (state, reason) = machine.component(&namespace, "seed")?;
        let version = machine.command(&namespace, "readlink /var/lib/nvgate-seed/current")?;
        versions.insert(version.trim().to_owned());
        Ok(format!("{} {state} {reason}", version.trim()))
    })?;
    ensure!(versions.len() > 2, "no seed was applied between the cuts: {versions:?}");
    Ok(())
}

#[test]
fn power_cuts_while_an_update_is_written_leave_a_machine_that_boots_as_it_was() -> Result<()> {
    let Some(image) = appliance::built("power cuts while an update is written") else {
        return Ok(());
    };
    let namespace = Namespace::new("appliance")?;
    let mut machine = begin(&image, &namespace)?;
    let before = leases(&machine, &namespace)?;
    let work = TempDir::with_prefix("nvgate-update-")?;
    let update = product(&image, "update")?;
    for name in ["a", "b"] {
        let file = variant(&update, work.path(), name, Flaw::None)?;
        machine.copy_in(&namespace, &file, &format!("/var/tmp/{name}"))?;
        fs::remove_file(file)?;
    }
    // One of the two runs, perhaps; and the cut may come when the other is entered already.
    let work = "nvgate image update /var/tmp/a || nvgate image update /var/tmp/b; sleep 2";
    let mut versions = BTreeSet::new();
    cut(&mut machine, &namespace, work, |machine| {
        let now = leases(machine, &namespace)?;
        ensure!(now == before, "contoso had {before}, and has {now}");
        let table = machine.command(&namespace, "nvgate image status")?;
        let row = table.lines().find(|row| row.contains("runs")).context("nothing runs")?;
        let version = row.split_whitespace().next().unwrap_or_default().to_owned();
        versions.insert(version.clone());
        Ok(version)
    })?;
    println!("versions that ran: {versions:?}");
    Ok(())
}
