//! The commands beside `run`: `check` on the annotated example and on spoiled copies of it, and
//! `status` against a running gateway.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use nvgate::admin::Status;
use nvgate::demo::lab::probe::ask_tcp;
use nvgate::demo::site::{SERVER, SERVICE_PORT};
use nvgate_tests::run_lab::{PATIENCE, RunLab, binary};
use nvgate_tests::run_lab_host::{Ended, run};
use nvgate_tests::skip::has_peers;

fn example() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/examples"))
}

fn check(directory: &Path, format: &str) -> Result<(Option<i32>, String)> {
    let mut command = Command::new(binary()?);
    let Output { status, stdout, .. } =
        command.arg("check").arg(directory).args(["--format", format]).output()?;
    Ok((status.code(), String::from_utf8(stdout)?))
}

#[test]
fn the_annotated_example_is_valid() -> Result<()> {
    let (code, text) = check(example(), "text")?;
    ensure!(code == Some(0), "{code:?}: {text}");
    ensure!(text.contains("valid; 2 tenants, 5 subnets"), "{text}");
    Ok(())
}

#[test]
fn a_spoiled_example_is_invalid_with_every_error_at_its_place() -> Result<()> {
    let copy = tempfile::tempdir()?;
    fs::create_dir(copy.path().join("tenants.d"))?;
    let mut places = Vec::new();
    for (file, spoils) in [
        (
            "gateway.yaml",
            &[("link: eth2", "link: eth1"), ("flow_entries: 262144", "flow_entries: 1000")][..],
        ),
        (
            "tenants.d/contoso.yaml",
            &[
                ("vsid: 5001", "vsid: 5002"),
                ("10.1.1.0/24", "10.1.1.0/33"),
                ("metric: 100", "metrik: 100"),
            ],
        ),
        (
            "tenants.d/fabrikam.yaml",
            &[("203.0.113.30", "192.0.2.1 # spoiled"), ("vsid: 6001", "vsid: 9")],
        ),
    ] {
        let mut text = fs::read_to_string(example().join(file))?;
        for (good, bad) in spoils {
            ensure!(text.contains(good), "{file} has no `{good}`");
            text = text.replacen(good, bad, 1);
        }
        let name = file.rsplit('/').next().context("a name")?;
        for (_, bad) in spoils {
            let line = text.lines().position(|line| line.contains(bad)).context("spoiled")?;
            places.push(format!("{name}:{}:", line + 1));
        }
        fs::write(copy.path().join(file), text)?;
    }
    let (code, text) = check(copy.path(), "text")?;
    println!("{text}");
    ensure!(code == Some(1), "{code:?}: {text}");
    for place in &places {
        ensure!(text.contains(place), "{place} is missing");
    }
    let (code, json) = check(copy.path(), "json")?;
    ensure!(code == Some(1) && json.contains("\"valid\": false"), "{code:?}: {json}");
    Ok(())
}

fn status(lab: &RunLab, arguments: &[&str]) -> Result<Ended> {
    let mut command = Command::new(binary()?);
    command.arg("status").args(arguments);
    run(&lab.site.gateway, command)
}

#[test]
fn status_shows_a_running_gateway_and_says_when_there_is_none() -> Result<()> {
    const TEST: &str = "status_shows_a_running_gateway_and_says_when_there_is_none";
    let Some(mut lab) = RunLab::build(TEST, 2)? else { return Ok(()) };
    let none = status(&lab, &[])?;
    ensure!(none.code == Some(3) && none.sentence().starts_with("no gateway answers"), "{none:?}");

    lab.start()?;
    let target = (SERVER, SERVICE_PORT).into();
    lab.vm("red-web").run(|| ask_tcp(target, "one", PATIENCE))??;
    lab.wait("the session is counted", || {
        let red = lab.tenant("red")?.and_then(|red| red.nat).context("red has NAT")?;
        ensure!(red.sessions == 1, "{red:?}");
        Ok(())
    })?;
    let table = status(&lab, &[])?;
    println!("{}", table.output);
    ensure!(table.code == Some(0), "{table:?}");
    for part in [
        ", ok, up ",
        "PORTS",
        "fabric0",
        "front0",
        "WORKERS",
        "TENANTS",
        "red",
        "blue",
        "1458",
        "SUBNETS",
        "10.1.0.0/24",
        "fd00:1::/64",
        "NAT",
        "203.0.113.10",
        "203.0.113.20",
    ] {
        ensure!(table.output.contains(part), "{part} is missing in\n{}", table.output);
    }
    let config = lab.config().display().to_string();
    for arguments in [&["--json"][..], &["--json", "--config", &config]] {
        let document = status(&lab, arguments)?;
        ensure!(document.code == Some(0), "{document:?}");
        let read: Status = serde_json::from_str(&document.output)?;
        let tenants: Vec<_> = read.tenants.iter().map(|tenant| tenant.name.as_str()).collect();
        ensure!(tenants == ["blue", "red"], "{tenants:?}");
        let red = read.tenants[1].nat.as_ref().context("red has NAT")?;
        ensure!(red.ports.tcp.used >= 1 && red.addresses == ["203.0.113.10"], "{red:?}");
    }

    // A refused configuration is part of what it says.
    lab.edit("blue", "endpoints:", "endponts:")?;
    lab.wait("it is refused", || lab.status()?.config.last_error.context("not yet").map(|_| ()))?;
    let table = status(&lab, &[])?;
    ensure!(table.code == Some(0) && table.output.contains(", degraded, up "), "{table:?}");
    ensure!(table.output.contains("blue.yaml:"), "{}", table.output);
    Ok(())
}

#[test]
fn what_root_has_made_of_keys_belongs_to_the_owner_of_the_state_directory() -> Result<()> {
    const TEST: &str = "what_root_has_made_of_keys_belongs_to_the_owner_of_the_state_directory";
    // `nobody` and `nogroup`.
    const OWNER: u32 = 65534;
    if !has_peers(TEST, &[]) {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711))?;
    let (config, state) = (folder.path().join("config"), folder.path().join("state"));
    fs::create_dir_all(config.join("tenants.d"))?;
    fs::create_dir(&state)?;
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700))?;
    chown(&state, Some(OWNER), Some(OWNER))?;
    let gateway = fs::read_to_string(example().join("gateway.yaml"))?;
    let here = format!("state_directory: {}", state.display());
    fs::write(
        config.join("gateway.yaml"),
        gateway.replace("state_directory: /var/lib/nvgate", &here),
    )?;
    for tenant in ["tenants.d/contoso.yaml", "tenants.d/fabrikam.yaml"] {
        fs::copy(example().join(tenant), config.join(tenant))?;
    }
    for command in
        [&["keys", "--generate"][..], &["rotate", "--tenant", "contoso", "--listen", "v6"]]
    {
        let output = Command::new(binary()?)
            .arg("vpn")
            .args(command)
            .arg("--config")
            .arg(&config)
            .output()?;
        ensure!(output.status.success(), "{command:?}: {output:?}");
    }
    let mut open = vec![state];
    let mut files = Vec::new();
    while let Some(path) = open.pop() {
        let found = fs::metadata(&path)?;
        ensure!((found.uid(), found.gid()) == (OWNER, OWNER), "{} is root's", path.display());
        if found.is_dir() {
            let inside = fs::read_dir(&path)?.map(|entry| Ok(entry?.path()));
            open.extend(inside.collect::<Result<Vec<_>>>()?);
        } else {
            files.push(path);
        }
    }
    ensure!(files.iter().any(|path| path.ends_with("v6.key")), "{files:?}");
    Ok(())
}
