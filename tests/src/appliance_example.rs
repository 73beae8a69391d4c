//! A machine of the image with the annotated example seed, whose ports lead nowhere.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nvgate::demo::lab::Namespace;
use serde_json::Value;
use tempfile::TempDir;

use crate::appliance::{Appliance, SeedBy, Wiring, write_seed};

/// The example seed, for the NICs of these machines; `folder` gets its files.
///
/// # Errors
///
/// When they cannot be written.
pub fn seed(folder: &Path, key: &str) -> Result<()> {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/examples/seed/.");
    let copied = Command::new("cp").args(["-r", example]).arg(folder).status()?;
    ensure!(copied.success(), "no copy of {example}");
    let links = "\nlinks:\n  - name: fabric0\n    addresses: [192.0.2.1/24]\n  - name: front0\n    addresses: [203.0.113.2/24]\n";
    let file = folder.join("gateway.yaml");
    let text = fs::read_to_string(&file)?;
    fs::write(file, text + links)?;
    write_seed(folder, "gw1.example", key)
}

/// The public address that contoso of the example leases, as the machine says.
///
/// # Errors
///
/// When it does not say.
pub fn leases(machine: &Appliance, namespace: &Namespace) -> Result<String> {
    let (_, body) = machine.ask(namespace, "/v1/status")?;
    let status: Value = serde_json::from_str(&body).with_context(|| body.clone())?;
    let tenants = status["tenants"].as_array().context("tenants")?;
    let contoso = tenants.iter().find(|tenant| tenant["name"] == "contoso");
    Ok(contoso.context("contoso is gone")?["nat"]["addresses"].to_string())
}

/// Boots a machine with the example seed until it is ready.
///
/// # Errors
///
/// When it does not become ready.
pub fn begin(image: &Path, namespace: &Namespace) -> Result<Appliance> {
    let mut machine = Appliance::new(image)?;
    let folder = TempDir::with_prefix("nvgate-seed-")?;
    seed(folder.path(), &machine.key()?)?;
    machine.power_on(namespace, Wiring::Unplugged, SeedBy::Disk(folder.path()))?;
    machine.wait_ready(namespace)?;
    Ok(machine)
}
