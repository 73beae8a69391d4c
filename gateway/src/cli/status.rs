//! `nvgate status`: asks a running gateway and prints what it says.

use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use nvgate_model::DropReason;

use super::client::{FetchError, fetch};
use super::table::{Side, Table, bytes, span};
use super::{Exit, StatusArguments, check, complain, default_config};
use crate::admin::Status;
use crate::admin::health::HealthState;
use crate::admin::status::{Drops, Headroom, NatStatus};
use crate::endpoint::Refusal;

/// Where the health endpoint is when nothing says otherwise.
const DEFAULT_ADMIN: &str = "127.0.0.1:9470";
const UNKNOWN_REASON: &str = "a reason that this version does not know";

/// Prints the status of the gateway that `arguments` mean to `output`.
pub(super) fn status(arguments: &StatusArguments, output: &mut dyn io::Write) -> io::Result<Exit> {
    let status = match ask(arguments) {
        Ok(status) => status,
        Err(exit) => return Ok(exit),
    };
    if arguments.json {
        serde_json::to_writer_pretty(&mut *output, &status)?;
        writeln!(output)?;
    } else {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        output.write_all(render(&status, now).as_bytes())?;
    }
    Ok(Exit::Done)
}

/// The status of the gateway that `arguments` mean; without one it is said on standard error why.
pub(super) fn ask(arguments: &StatusArguments) -> Result<Status, Exit> {
    let authority = authority(arguments.admin.as_deref(), arguments.config.as_deref());
    let body = fetch(&authority, "/v1/status").map_err(|error| {
        let usage = matches!(error, FetchError::Address(..));
        complain(if usage { Exit::Usage } else { Exit::CannotRun }, &error.to_string())
    })?;
    serde_json::from_slice(&body).map_err(|error| {
        let sentence = format!(
            "the status from {authority} cannot be read: {error}; \
             is the gateway of another version than this command?"
        );
        complain(Exit::CannotRun, &sentence)
    })
}

/// The HOST:PORT to ask: what the command line says, else what the configuration says, else the
/// default.
pub(super) fn authority(admin: Option<&str>, config: Option<&Path>) -> String {
    if let Some(admin) = admin {
        return admin.to_owned();
    }
    let directory = config.unwrap_or(default_config());
    match check::prove(directory) {
        Ok(plan) => plan.gateway.admin_listen.to_string(),
        Err(_) => {
            if config.is_some() {
                tracing::warn!(
                    directory = %directory.display(),
                    "the configuration is invalid and does not say where the health endpoint is; \
                     asking at {DEFAULT_ADMIN}"
                );
            }
            DEFAULT_ADMIN.to_owned()
        }
    }
}

/// The status as text; `now` in seconds since 1970.
fn render(status: &Status, now: u64) -> String {
    let mut text = String::new();
    write_summary(&mut text, status, now);
    for (title, table) in [
        ("HEALTH", health(status)),
        ("PORTS", ports(status)),
        ("WORKERS", workers(status)),
        ("TENANTS", tenants(status)),
        ("SUBNETS", subnets(status)),
        ("NAT", nat(status)),
        ("SITES", sites(status)),
        ("DROPS", drops(status)),
        ("REFUSED BY THE GATEWAY'S ENDPOINTS", refused(status)),
    ] {
        let mut body = String::new();
        table.write(&mut body);
        if !body.is_empty() {
            // Writing to a string does not fail.
            let _ = write!(text, "\n{title}\n{body}");
        }
    }
    text
}

fn write_summary(text: &mut String, status: &Status, now: u64) {
    let health = status.health().name();
    let up = span(status.uptime_secs);
    let _ = writeln!(text, "nvgate {}, {health}, up {up}", status.version);
    let _ = match (status.config.generation, status.config.loaded_at) {
        (None, _) => writeln!(text, "no configuration is in effect"),
        (Some(generation), None) => writeln!(text, "configuration {generation} is in effect"),
        (Some(generation), Some(loaded_at)) => writeln!(
            text,
            "configuration {generation} is in effect since {}",
            span(now.saturating_sub(loaded_at))
        ),
    };
    for error in status.config.last_error.iter().flatten() {
        let _ = writeln!(text, "{error}");
    }
}

/// The components that are not ok.
fn health(status: &Status) -> Table {
    let mut table =
        Table::new(&[("component", Side::Left), ("state", Side::Left), ("reason", Side::Left)]);
    for component in &status.components {
        match component.status {
            HealthState::Ok => {}
            HealthState::Degraded | HealthState::Failed => table.row([
                &component.name,
                component.status.name(),
                component.reason.as_deref().unwrap_or(""),
            ]),
        }
    }
    table
}

fn ports(status: &Status) -> Table {
    let mut table = Table::new(&[
        ("port", Side::Left),
        ("link", Side::Left),
        ("state", Side::Left),
        ("mtu", Side::Right),
        ("mac", Side::Left),
        ("received", Side::Right),
        ("bytes", Side::Right),
        ("sent", Side::Right),
        ("bytes", Side::Right),
        ("kernel drops", Side::Right),
    ]);
    for port in &status.ports {
        let state = match (port.mtu, port.running) {
            (None, _) => "missing",
            (Some(_), true) => "up",
            (Some(_), false) => "down",
        };
        table.row([
            &port.role,
            &port.link,
            state,
            &port.mtu.map_or_else(String::new, |mtu| mtu.to_string()),
            port.mac.as_deref().unwrap_or(""),
            &port.received.packets.to_string(),
            &bytes(port.received.bytes),
            &port.transmitted.packets.to_string(),
            &bytes(port.transmitted.bytes),
            &port.kernel_drops.to_string(),
        ]);
    }
    table
}

fn workers(status: &Status) -> Table {
    let mut table = Table::new(&[
        ("worker", Side::Left),
        ("packets", Side::Right),
        ("packets/batch", Side::Right),
        ("hits", Side::Right),
        ("misses", Side::Right),
        ("evictions", Side::Right),
        ("handed on", Side::Right),
        ("taken over", Side::Right),
        ("dropped", Side::Right),
    ]);
    for worker in &status.workers {
        let tenths = worker.packets.saturating_mul(10).checked_div(worker.batches).unwrap_or(0);
        table.row([
            &worker.index.to_string(),
            &worker.packets.to_string(),
            &format!("{}.{}", tenths / 10, tenths % 10),
            &worker.flow_hits.to_string(),
            &worker.flow_misses.to_string(),
            &worker.flow_evictions.to_string(),
            &worker.handoffs_sent.to_string(),
            &worker.handoffs_received.to_string(),
            &worker.dropped.to_string(),
        ]);
    }
    table
}

fn tenants(status: &Status) -> Table {
    let mut table = Table::new(&[
        ("tenant", Side::Left),
        ("routing domain", Side::Left),
        ("endpoints", Side::Right),
        ("mtu", Side::Right),
        ("outbound", Side::Right),
        ("bytes", Side::Right),
        ("inbound", Side::Right),
        ("bytes", Side::Right),
        ("answered", Side::Right),
        ("dropped", Side::Right),
    ]);
    for tenant in &status.tenants {
        let traffic = tenant.traffic;
        table.row([
            &tenant.name,
            &tenant.routing_domain,
            &tenant.endpoints.to_string(),
            &tenant.mtu.to_string(),
            &traffic.outbound.packets.to_string(),
            &bytes(traffic.outbound.bytes),
            &traffic.inbound.packets.to_string(),
            &bytes(traffic.inbound.bytes),
            &traffic.answered.to_string(),
            &tenant.drops.0.values().fold(0, |sum: u64, &n| sum.saturating_add(n)).to_string(),
        ]);
    }
    table
}

fn subnets(status: &Status) -> Table {
    let mut table = Table::new(&[
        ("tenant", Side::Left),
        ("subnet", Side::Left),
        ("vsid", Side::Right),
        ("prefix", Side::Left),
        ("gateway", Side::Left),
    ]);
    for tenant in &status.tenants {
        for subnet in &tenant.subnets {
            let vsid = subnet.vsid.to_string();
            for (prefix, gateway) in subnet.prefixes.iter().zip(&subnet.gateways) {
                table.row([&tenant.name, &subnet.name, &vsid, prefix, gateway]);
            }
        }
    }
    table
}

fn nat(status: &Status) -> Table {
    let mut table = Table::new(&[
        ("tenant", Side::Left),
        ("addresses", Side::Left),
        ("sessions", Side::Right),
        ("mappings", Side::Right),
        ("tcp ports", Side::Right),
        ("udp ports", Side::Right),
        ("icmp ids", Side::Right),
    ]);
    for tenant in &status.tenants {
        let Some(nat) = &tenant.nat else { continue };
        let NatStatus { addresses, sessions, session_limit, mappings, blocks: _, ports } = nat;
        table.row([
            &tenant.name,
            &addresses.join(" "),
            &headroom(Headroom { used: *sessions, total: *session_limit }),
            &mappings.to_string(),
            &headroom(ports.tcp),
            &headroom(ports.udp),
            &headroom(ports.icmp),
        ]);
    }
    table
}

fn sites(status: &Status) -> Table {
    let mut table = Table::new(&[
        ("tenant", Side::Left),
        ("site", Side::Left),
        ("tunnel", Side::Left),
        ("state", Side::Left),
        ("endpoint", Side::Left),
        ("handshake", Side::Right),
        ("mtu", Side::Right),
        ("outbound", Side::Right),
        ("bytes", Side::Right),
        ("inbound", Side::Right),
        ("bytes", Side::Right),
    ]);
    for tenant in &status.tenants {
        for site in &tenant.sites {
            for tunnel in &site.tunnels {
                table.row([
                    &tenant.name,
                    &site.name,
                    &tunnel.name,
                    if tunnel.up { "up" } else { "down" },
                    tunnel.endpoint.as_deref().unwrap_or("-"),
                    &tunnel.handshake_age_secs.map_or_else(|| "never".to_owned(), span),
                    &tunnel.mtu.to_string(),
                    &tunnel.outbound.packets.to_string(),
                    &bytes(tunnel.outbound.bytes),
                    &tunnel.inbound.packets.to_string(),
                    &bytes(tunnel.inbound.bytes),
                ]);
            }
        }
    }
    table
}

/// Such as `250/64512 (0%)`.
fn headroom(Headroom { used, total }: Headroom) -> String {
    let percent = (u128::from(used) * 100).checked_div(u128::from(total)).unwrap_or(100);
    format!("{used}/{total} ({percent}%)")
}

fn reasons() -> Table {
    Table::new(&[
        ("tenant", Side::Left),
        ("packets", Side::Right),
        ("reason", Side::Left),
        ("what it means", Side::Left),
    ])
}

fn drops(status: &Status) -> Table {
    let mut table = reasons();
    let mut add = |tenant: &str, drops: &Drops| {
        for (reason, packets) in &drops.0 {
            table.row([tenant, &packets.to_string(), reason, meaning(reason)]);
        }
    };
    add("-", &status.drops);
    for tenant in &status.tenants {
        add(&tenant.name, &tenant.drops);
    }
    table
}

/// What a drop reason of that name means.
fn meaning(name: &str) -> &'static str {
    let reason = DropReason::ALL.iter().find(|reason| reason.name() == name);
    reason.map_or(UNKNOWN_REASON, |reason| reason.meaning().trim())
}

fn refused(status: &Status) -> Table {
    let mut table = reasons();
    for tenant in &status.tenants {
        for (name, packets) in &tenant.refused.0 {
            let refusal = Refusal::ALL.iter().find(|refusal| refusal.name() == name);
            let meaning = refusal.map_or(UNKNOWN_REASON, |refusal| refusal.meaning());
            table.row([&*tenant.name, &packets.to_string(), name, meaning]);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::admin::health::assess;
    use crate::admin::{AdminState, bind, samples, serve};

    /// A health endpoint of a busy gateway; it ends with the test's process.
    fn serve_busy() -> SocketAddr {
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
                tell.send(listener.local_addr().unwrap()).unwrap();
                let state = AdminState::new(samples::busy);
                serve(listener, state, std::future::pending()).await;
            });
        });
        told.recv().unwrap()
    }

    fn ask(admin: String, json: bool) -> (Exit, String) {
        let arguments = StatusArguments { json, admin: Some(admin), config: None };
        let mut output = Vec::new();
        let exit = status(&arguments, &mut output).unwrap();
        (exit, String::from_utf8(output).unwrap())
    }

    #[test]
    fn a_running_gateway_is_asked_over_http_and_printed() {
        let admin = serve_busy().to_string();
        let (exit, text) = ask(admin.clone(), false);
        assert_eq!(exit, Exit::Done);
        assert!(text.starts_with("nvgate 0.1.0, ok, up 1 d 2 h\n"), "{text}");
        let (exit, json) = ask(admin, true);
        assert_eq!(exit, Exit::Done);
        assert_eq!(serde_json::from_str::<Status>(&json).unwrap(), samples::busy());
    }

    #[test]
    fn no_gateway_is_cannot_run_and_a_wrong_address_is_usage() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert_eq!(ask(free.to_string(), false), (Exit::CannotRun, String::new()));
        assert_eq!(ask("here".to_owned(), false), (Exit::Usage, String::new()));
    }

    #[test]
    fn the_status_of_a_busy_gateway_reads_like_this() {
        let text = render(&samples::busy(), 1_760_000_000 + 7260);
        assert_eq!(text, include_str!("status.golden.txt"));
    }

    #[test]
    fn what_is_wrong_comes_first() {
        let mut status = samples::busy();
        status.config.last_error = Some(vec!["b.yaml:3:5: error: no such pool".to_owned()]);
        status.ports[1].running = false;
        status.components = assess(&status);
        let text = render(&status, 1_760_000_000);
        let lines: Vec<_> = text.lines().take(7).collect();
        assert_eq!(lines[0], "nvgate 0.1.0, failed, up 1 d 2 h");
        assert_eq!(lines[2], "b.yaml:3:5: error: no such pool");
        assert_eq!(lines[4], "HEALTH");
        assert!(lines[6].starts_with("config          degraded"), "{text}");
    }

    #[test]
    fn a_gateway_that_has_just_started_has_a_status_too() {
        let status = Status { version: "0.1.0".to_owned(), ..Status::default() };
        let expected = "nvgate 0.1.0, ok, up 0 s\nno configuration is in effect\n";
        assert_eq!(render(&status, 0), expected);
    }

    #[test]
    fn every_reason_has_a_meaning_and_an_unknown_one_does_not_fail() {
        for reason in DropReason::ALL {
            assert_eq!(meaning(reason.name()), reason.meaning().trim());
        }
        assert_eq!(meaning("from_the_future"), "a reason that this version does not know");
    }

    #[test]
    fn headroom_of_nothing_is_used_up() {
        assert_eq!(headroom(Headroom { used: 1, total: 4 }), "1/4 (25%)");
        assert_eq!(headroom(Headroom { used: 0, total: 0 }), "0/0 (100%)");
    }
}
