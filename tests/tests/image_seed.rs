//! A machine of the image that gets no seed, and then one without a disk.

use anyhow::{Result, ensure};
use nvgate::demo::lab::Namespace;
use nvgate_tests::appliance::{self, Appliance, SeedBy, Wiring};
use nvgate_tests::appliance_example::seed;
use tempfile::TempDir;

#[test]
fn a_machine_waits_and_says_what_is_missing_until_credentials_make_a_gateway_of_it() -> Result<()> {
    let Some(image) = appliance::built("a machine without a seed") else { return Ok(()) };
    let namespace = Namespace::new("appliance")?;
    let mut machine = Appliance::new(&image)?;
    machine.power_on(&namespace, Wiring::Unplugged, SeedBy::Nothing)?;
    let missing = "no seed: attach a disk or ISO image with the label NVGATE";
    let (state, reason) = machine
        .wait("health says what is missing", |machine| machine.component(&namespace, "seed"))?;
    ensure!(state == "failed" && reason.starts_with(missing), "{state}: {reason}");
    ensure!(machine.ask(&namespace, "/readyz")?.0 == 503, "it is ready for nothing");
    machine.wait_console(missing)?;
    // It counts as a boot that is good: there is nothing to go back to, and somebody to wait for.
    machine.wait_console("Finished systemd-bless-boot")?;
    ensure!(machine.command(&namespace, "true").is_err(), "somebody may log in");
    machine.cut_power()?;

    let folder = TempDir::with_prefix("nvgate-seed-")?;
    seed(folder.path(), &machine.key()?)?;
    machine.power_on(&namespace, Wiring::Unplugged, SeedBy::Credentials(folder.path()))?;
    machine.wait_ready(&namespace)?;
    let (state, reason) = machine.component(&namespace, "seed")?;
    ensure!(state == "ok", "{state}: {reason}");
    let is = machine.command(&namespace, "cat /proc/sys/kernel/hostname; nvgate seed show")?;
    println!("{is}");
    ensure!(is.starts_with("gw1.example\n") && is.contains("from systemd credentials"), "{is}");
    let keys = machine.command(&namespace, "stat -c '%U %a' /etc/nvgate/keys/*")?;
    ensure!(keys == "nvgate 400\n", "the key belongs to {keys}");
    let capabilities = machine.command(
        &namespace,
        "for task in /proc/$(systemctl show -P MainPID nvgate)/task/*; do \
         echo $(cat $task/comm) $(grep CapEff $task/status); done",
    )?;
    println!("{capabilities}");
    let mut workers = capabilities.lines().filter(|line| line.starts_with("nvgate-worker"));
    let none = |line: &str| line.ends_with(" CapEff: 0000000000000000");
    ensure!(workers.next().is_some_and(none) && workers.all(none), "{capabilities}");
    Ok(())
}
