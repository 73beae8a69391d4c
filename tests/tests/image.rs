//! The virtual machine image as its operator meets it: a seed, traffic of two tenants through the
//! booted machine, and a broken seed.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nvgate::demo::checks;
use nvgate::demo::interrupt::Interrupt;
use nvgate::demo::lab::Namespace;
use nvgate::demo::premises::{self, Premises};
use nvgate::demo::report::Report;
use nvgate::demo::site::{self, DOWNLOAD_BYTES, SERVER, Site};
use nvgate_deploy::keys::Keyring;
use nvgate_deploy::lease::Leases;
use nvgate_deploy::plan::prove;
use nvgate_deploy::schema;
use nvgate_tests::appliance::{self, Appliance, SeedBy, Wiring, bridge, write_seed};
use nvgate_tests::run_lab_host::run;
use tempfile::TempDir;

const TAPS: [&str; 2] = ["tap-fabric", "tap-front"];
const STATE: &str = "/var/lib/nvgate";

/// The demo's configuration as a seed: the machine gives itself the addresses of its ports.
fn seed(folder: &Path, key: &str) -> Result<premises::Keys> {
    let keys = premises::draw_keys()?;
    site::write_config(folder, None)?;
    premises::append_config(folder, &keys)?;
    let file = folder.join("gateway.yaml");
    let own = site::state_directory(folder).display().to_string();
    let text = fs::read_to_string(&file)?
        .replace(&own, STATE)
        .replace(&site::ADMIN.to_string(), "'[::]:9470'");
    let links = format!(
        "\
links:
  - name: fabric0
    addresses: [{}/24]
  - name: front0
    addresses: [{}/24]
",
        site::GATEWAY_PROVIDER,
        site::GATEWAY_FRONT_END
    );
    fs::write(file, text + &links)?;
    write_seed(folder, "gw1.example", key)?;
    Ok(keys)
}

fn plan_of(folder: &Path) -> Result<nvgate_deploy::plan::Plan> {
    let documents = schema::load(folder);
    let proof = prove(&documents, &Leases::default(), &Keyring::default());
    Ok(proof.map_err(|errors| anyhow::anyhow!("the seed: {errors:?}"))?.plan)
}

/// The public addresses of tenants, as the machine says.
fn addresses(machine: &Appliance, namespace: &Namespace) -> Result<Vec<String>> {
    let (_, body) = machine.ask(namespace, "/v1/status")?;
    let status: serde_json::Value = serde_json::from_str(&body)?;
    let tenants = status["tenants"].as_array().context("tenants")?;
    Ok(tenants
        .iter()
        .map(|tenant| format!("{} {}", tenant["name"], tenant["nat"]["addresses"]))
        .collect())
}

#[test]
fn the_image_carries_two_tenants_and_keeps_its_last_good_seed() -> Result<()> {
    let Some(image) = appliance::built("the image") else { return Ok(()) };
    let folder = TempDir::with_prefix("nvgate-seed-")?;
    let mut machine = Appliance::new(&image)?;
    let keys = seed(folder.path(), &machine.key()?)?;
    let site = Site::build(&plan_of(folder.path())?)?;
    let [fabric, front] = TAPS;
    bridge(&site.gateway, "fabric0", fabric)?;
    bridge(&site.gateway, "front0", front)?;

    machine.power_on(&site.gateway, Wiring::Taps(TAPS), SeedBy::Disk(folder.path()))?;
    let took = machine.wait_ready(&site.gateway)?;
    println!("from power on to /readyz: {:.1} s", took.as_secs_f64());
    traffic(&machine, &site, &keys)?;
    security(&machine, &site.gateway)?;
    a_broken_seed(&mut machine, &site, folder.path())
}

/// All that the demo shows, and a download by curl.
fn traffic(machine: &Appliance, site: &Site, keys: &premises::Keys) -> Result<()> {
    let mut premises = Premises::build(site)?;
    let state = TempDir::with_prefix("nvgate-state-")?;
    machine.copy_out(&site.gateway, STATE, state.path())?;
    premises.connect(keys, state.path())?;
    let mut report = Report::new(std::io::stdout())?;
    checks::run(site, &premises, &mut report, &Interrupt::install()?)?;
    ensure!(report.failed() == 0, "{} checks did not hold", report.failed());
    ensure!(report.passed() > 40, "only {} checks were made", report.passed());
    curl(site)
}

fn curl(site: &Site) -> Result<()> {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "60", "--output", "/dev/null"]);
    command.args(["--write-out", "%{http_code} %{size_download}"]).arg(format!("http://{SERVER}/"));
    let ended = run(&site.vm("red-web").namespace, command)?;
    let expected = format!("200 {DOWNLOAD_BYTES}");
    ensure!(ended.output == expected, "{ended:?}");
    Ok(())
}

/// What listens, and who may log in.
fn security(machine: &Appliance, namespace: &Namespace) -> Result<()> {
    let passwords = machine.command(namespace, "cut -d: -f2 /etc/shadow | sort -u")?;
    ensure!(
        passwords.split_whitespace().all(|hash| ["*", "!", "!*", "!!"].contains(&hash)),
        "{passwords}"
    );
    let listening = machine.command(namespace, "ss -Hltun | awk '{print $1, $5}' | sort -u")?;
    println!("listening:\n{listening}");
    for line in listening.lines() {
        let known = ["tcp *:9470", "tcp *%mgmt0:22"].contains(&line)
            || line.ends_with("%mgmt0:68")
            || line.ends_with("%mgmt0]:546");
        ensure!(known, "`{line}` is open, which no configuration says:\n{listening}");
    }
    let root = machine.command(namespace, "touch /usr/bin/changed 2>&1; id -un")?;
    ensure!(root.contains("Read-only file system") && root.contains("root"), "{root}");
    Ok(())
}

/// The machine keeps what it had, says what is wrong, and its management answers.
fn a_broken_seed(machine: &mut Appliance, site: &Site, folder: &Path) -> Result<()> {
    let before = addresses(machine, &site.gateway)?;
    let file = folder.join("tenants.d/red.yaml");
    let good = fs::read_to_string(&file)?;
    let line = good.lines().position(|line| line.contains("vsid")).context("a vsid")? + 1;
    fs::write(&file, good.replacen("vsid: 5001", "vsid: 16777216", 1))?;
    machine.power_off(&site.gateway)?;
    machine.power_on(&site.gateway, Wiring::Taps(TAPS), SeedBy::Disk(folder))?;
    machine.wait_ready(&site.gateway)?;
    let (state, reason) = machine.component(&site.gateway, "seed")?;
    println!("a broken seed: {state}: {reason}");
    ensure!(state == "degraded", "{state}: {reason}");
    let place = format!("red.yaml:{line}");
    ensure!(reason.contains(&place), "{reason} does not name {place}");
    ensure!(machine.console().contains(&place), "the console does not name {place}");
    ensure!(addresses(machine, &site.gateway)? == before, "the addresses are others");
    curl(site)?;
    Ok(fs::write(&file, good)?)
}
