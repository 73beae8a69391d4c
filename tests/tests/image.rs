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
use nvgate_tests::appliance::{self, Appliance, MACS, SeedBy, Wiring, bridge, write_seed};
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
            || line.ends_with("%mgmt0:546");
        ensure!(known, "`{line}` is open, which no configuration says:\n{listening}");
    }
    let root = machine.command(namespace, "touch /usr/bin/changed 2>&1; id -un")?;
    ensure!(root.contains("Read-only file system") && root.contains("root"), "{root}");
    Ok(())
}

/// A text of the seed, what a careless operator makes of it, and what the machine says at its line.
type Mistake = (&'static str, &'static str, &'static str, &'static str);

const MISTAKES: [Mistake; 5] = [
    ("seed.yaml", MACS[1], MACS[0], "is given to `mgmt0` and to `fabric0`"),
    (
        "seed.yaml",
        MACS[2],
        "52:54:00:6e:76:99",
        "this machine has no NIC with mac 52:54:00:6e:76:99",
    ),
    ("seed.yaml", "ssh-ed25519 AAAA", "ssh-ed25519 AABA", "not a public SSH key"),
    ("tenants.d/red.yaml", "vsid: 5001", "vsid: 16777216", "VSID 16777216 is not between"),
    (
        "tenants.d/red.yaml",
        "{address: 1, port",
        "{private_key_file: /etc/nvgate/keys/red.key, address: 1, port",
        "does not hold a private key in base64",
    ),
];

/// The machine keeps what it had, says everything that is wrong, and its management answers.
fn a_broken_seed(machine: &mut Appliance, site: &Site, folder: &Path) -> Result<()> {
    let before = addresses(machine, &site.gateway)?;
    fs::create_dir(folder.join("keys"))?;
    fs::write(folder.join("keys/red.key"), "what somebody took for a key")?;
    for (file, good, bad, _) in MISTAKES {
        let file = folder.join(file);
        let text = fs::read_to_string(&file)?;
        ensure!(text.contains(good), "no {good} in {}", file.display());
        fs::write(&file, text.replacen(good, bad, 1))?;
    }
    machine.power_off()?;
    machine.power_on(&site.gateway, Wiring::Taps(TAPS), SeedBy::Disk(folder))?;
    machine.wait_ready(&site.gateway)?;
    let (state, reason) = machine.component(&site.gateway, "seed")?;
    println!("a broken seed: {state}: {reason}");
    ensure!(state == "degraded" && reason.ends_with("(and 4 more)"), "{state}: {reason}");
    for (index, (name, _, bad, says)) in MISTAKES.into_iter().enumerate() {
        let text = fs::read_to_string(folder.join(name))?;
        let mistaken = text.lines().zip(1..).filter(|(line, _)| line.contains(bad));
        let (_, line) = mistaken.last().context("the mistake")?;
        let place = format!("{name}:{line}:");
        machine.wait_console(&place)?;
        machine.wait_console(says)?;
        ensure!(index > 0 || reason.contains(&place), "{reason} does not name {place}");
    }
    let shown = machine.command(&site.gateway, "nvgate seed show")?;
    ensure!(shown.contains("broken, the last good configuration is kept"), "{shown}");
    ensure!(addresses(machine, &site.gateway)? == before, "the addresses are others");
    curl(site)
}
