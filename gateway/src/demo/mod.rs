//! `nvgate demo`: the gateway's main job shown in one command, on any Linux machine.
//!
//! [`main`] builds a small data centre of network namespaces ([`site`]), starts the real gateway in
//! it as a child process ([`gateway_process`]), sends the kernel's own TCP, UDP and ICMP every way
//! there is ([`checks`]), prints what it saw, and takes everything down again. It needs no tools:
//! [`lab`] speaks netlink, [`host_endpoint`] is the hosts' NVGRE, [`wireguard_endpoint`] the
//! WireGuard of the tenants' [`premises`] and [`bgp_router`] their BGP.

pub mod bgp_router;
pub mod checks;
pub mod gateway_process;
pub mod host_endpoint;
pub mod interrupt;
pub mod lab;
pub mod premises;
pub mod privilege;
pub mod report;
pub mod site;
mod tap;
pub mod wireguard_endpoint;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use nvgate_deploy::keys::Keyring;
use nvgate_deploy::lease::Leases;
use nvgate_deploy::plan::{Plan, prove};
use nvgate_deploy::schema;
use serde_json::Value;

use gateway_process::GatewayProcess;
use interrupt::Interrupt;
use premises::Premises;
use privilege::Privilege;
use report::{Observed, Report};
use site::Site;

/// The exit code of a demo that was interrupted, as a shell would show it (128 + SIGINT).
const INTERRUPTED: u8 = 130;
/// How often a held demo looks after its gateway.
const HOLD_INTERVAL: Duration = Duration::from_millis(500);

/// How the demo is run.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DemoOptions {
    /// After the checks, keep everything up until Ctrl-C.
    pub hold: bool,
    /// The gateway's packet workers; its own default when absent.
    pub workers: Option<usize>,
    /// Leave the configuration and the gateway's log in place afterwards.
    pub keep_files: bool,
}

/// Runs the demo and returns success only if every check held. Call it while the process has one
/// thread (before an async runtime starts): user namespaces need that.
pub fn main(options: DemoOptions) -> anyhow::Result<ExitCode> {
    let privilege = privilege::acquire()?;
    let interrupt = Interrupt::install().context("cannot handle signals")?;
    let mut directory = tempfile::Builder::new()
        .prefix("nvgate-demo-")
        .tempdir()
        .context("cannot make a temporary directory")?;
    directory.disable_cleanup(options.keep_files);
    let outcome = show(&options, directory.path(), privilege, &interrupt);
    if options.keep_files {
        println!("configuration and log: {}", directory.path().display());
    }
    outcome
}

fn show(
    options: &DemoOptions,
    directory: &Path,
    privilege: Privilege,
    interrupt: &Interrupt,
) -> anyhow::Result<ExitCode> {
    let keys = premises::draw_keys()?;
    site::write_config(directory, options.workers)
        .and_then(|()| premises::append_config(directory, &keys))
        .with_context(|| format!("cannot write {}", directory.display()))?;
    let site = Site::build(&read_plan(directory)?)?;
    let mut premises = Premises::build(&site)?;
    let program = std::env::current_exe().context("cannot find this program")?;
    let log = directory.join("gateway.log");
    let mut gateway =
        GatewayProcess::start(&site.gateway, &program, directory, (&log, None), site::ADMIN)?;
    gateway.wait_ready(&site.gateway, || interrupt.pending())?;
    if interrupt.pending() {
        return Ok(ExitCode::from(INTERRUPTED));
    }
    premises.connect(&keys, &site::state_directory(directory))?;

    let mut out = io::stdout();
    let mut report = Report::new(&out)?;
    checks::run(&site, &premises, &mut report, interrupt)?;
    if let Some(status) = gateway.exited()? {
        anyhow::bail!("the gateway ended ({status}):\n{}", gateway.log_tail());
    }
    if interrupt.pending() {
        return Ok(ExitCode::from(INTERRUPTED));
    }
    let mut account = String::new();
    report.check("the gateway gives its own account", "status 200 and JSON", || {
        account = counters(&gateway, &site)?;
        Ok(Observed::from("status 200 and JSON".to_owned()))
    })?;
    let (passed, failed) = (report.passed(), report.failed());
    writeln!(out, "\nThe gateway's own account (/v1/status, without what is zero):\n{account}\n")?;
    writeln!(out, "{passed} of {} checks held.", passed + failed)?;
    if failed > 0 {
        writeln!(out, "The end of the gateway's log:\n{}", gateway.log_tail())?;
    }
    if options.hold {
        write!(out, "\n{}", instructions(&site, &premises, &gateway, privilege, directory))?;
        while !interrupt.wait(HOLD_INTERVAL) {
            if let Some(status) = gateway.exited()? {
                anyhow::bail!("the gateway ended ({status}):\n{}", gateway.log_tail());
            }
        }
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The plan that the gateway will have of the configuration in `directory`.
pub(crate) fn read_plan(directory: &Path) -> anyhow::Result<Plan> {
    match prove(&schema::load(directory), &Leases::default(), &Keyring::default()) {
        Ok(proof) => Ok(proof.plan),
        Err(diagnostics) => {
            let errors: Vec<_> = diagnostics.iter().map(ToString::to_string).collect();
            anyhow::bail!("the demo's own configuration is invalid:\n{}", errors.join("\n"))
        }
    }
}

/// What the gateway says of itself, as indented JSON without what is zero or empty.
fn counters(gateway: &GatewayProcess, site: &Site) -> anyhow::Result<String> {
    let (status, body) = gateway.ask(&site.gateway, "/v1/status")?;
    anyhow::ensure!(status == 200, "/v1/status answers {status}: {}", body.trim());
    let account: Value = serde_json::from_str(&body).context("/v1/status is not JSON")?;
    Ok(serde_json::to_string_pretty(&without_nothing(account))?)
}

fn without_nothing(value: Value) -> Value {
    let says_something = |value: &Value| match value {
        Value::Null => false,
        Value::Bool(_) => true,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    };
    match value {
        Value::Array(items) => items.into_iter().map(without_nothing).collect(),
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .map(|(name, field)| (name, without_nothing(field)))
                .filter(|(_, field)| says_something(field))
                .collect(),
        ),
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => other,
    }
}

/// Commands to try while the demo is held.
fn instructions(
    site: &Site,
    premises: &Premises,
    gateway: &GatewayProcess,
    privilege: Privilege,
    directory: &Path,
) -> String {
    let user = match privilege {
        Privilege::Given => "",
        Privilege::UserNamespace => " -U --preserve-credentials",
    };
    let enter = |thread_id: i32| format!("nsenter -t {thread_id}{user} -n");
    let red = enter(site.vm("red-web").namespace.thread_id());
    let blue = enter(site.vm("blue-web").namespace.thread_id());
    let server = enter(site.server.thread_id());
    let [red_premises, blue_premises] =
        [0, 1].map(|tenant| enter(premises.hosts[tenant].namespace.thread_id()));
    let inside = format!("nsenter -t {}{user} -n", gateway.id());
    let program = std::env::current_exe()
        .map_or_else(|_| "nvgate".into(), |path| path.to_string_lossy().into_owned());
    let [first, second] = site::TENANTS;
    format!(
        "\
The demo is up until Ctrl-C. From another terminal of this user, try:

  red's VM reaches the front end:    {red} ping {server_address}
  blue's, with the same address:     {blue} curl http://{server_address}:{service}/
  red's database, the other subnet:  {red} curl http://10.2.0.10:{service}/
  an inbound rule, red's:            {server} curl http://{red_public}:{inbound}/
  the same rule, blue's:             {server} curl http://{blue_public}:{inbound}/
  red's VM reaches its premises:     {red} ping {host}
  blue's, with the same address:     {blue} curl http://{host}:{service}/
  red's premises reach red's VM:     {red_premises} curl http://10.1.0.10:{service}/
  and the front end, by red's NAT:   {red_premises} ping {server_address}
  blue's premises may not:           {blue_premises} ping {server_address}
  a network learned by BGP, blue's:  {blue} ping {taught}
  what BGP taught the gateway:       {inside} {program} bgp routes --tenant blue
  NVGRE on the provider network:     {inside} tcpdump -ni fabric0 ip proto 47
  the tunnels on the front end:      {inside} tcpdump -ni front0 udp port {tunnel}
  packets on the front end:          {inside} tcpdump -ni front0
  the gateway's account:             {inside} {program} status
  its health:                        {inside} curl http://{admin}/healthz
  its configuration:                 {config}
",
        server_address = site::SERVER,
        host = premises::HOST,
        taught = premises::TAUGHT_HOST,
        tunnel = premises::TUNNEL_PORT,
        service = site::SERVICE_PORT,
        red_public = first.public,
        blue_public = second.public,
        inbound = site::INBOUND_PORT,
        admin = site::ADMIN,
        config = directory.display(),
    )
}

#[cfg(test)]
mod tests;
