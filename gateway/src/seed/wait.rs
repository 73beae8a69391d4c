//! `nvgate wait`: the gateway's place while nothing is configured. Its health endpoint says what is
//! missing, on the management link and for the machine itself, and so do its consoles.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use nvgate_deploy::plan::ADMIN_LISTEN;
use nvgate_deploy::seed::{Report, State};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::console::write_to;
use super::health;
use super::show::{Machine, render};
use super::{MANAGEMENT_LINK, Places};
use crate::admin::health::Component;
use crate::admin::{AdminState, Status, serve};

/// How often is looked whether something changed.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// By which the boot's own check asks.
const LOOPBACK: &str = "lo";
/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;

/// Why nothing can be served.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// The port cannot be listened on.
    #[error(
        "port {port} of {link} cannot be listened on: {source}; see that no gateway runs on this \
         machine, and that this process has CAP_NET_RAW"
    )]
    Listen {
        /// The port.
        port: u16,
        /// Whose.
        link: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// What is to be seen cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

/// Serves health until there is a configuration, and writes what is to be seen to `output` and to
/// `consoles` whenever it changes.
///
/// # Errors
///
/// The port is in use, or the output cannot be written.
pub async fn wait(
    places: &Places,
    output: &mut impl Write,
    consoles: Vec<PathBuf>,
) -> Result<(), WaitError> {
    let consoles = Arc::new(consoles);
    let listeners = listen()?;
    let component = Arc::new(ArcSwap::from_pointee(health::judge(&report(places))));
    let shown = Arc::clone(&component);
    let state = AdminState::new(move || Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        components: vec![Component::clone(&shown.load())],
        ..Status::default()
    });
    let (stop, stopped) = watch::channel(());
    let servers = listeners.into_iter().map(|listener| {
        let mut stopped = stopped.clone();
        serve(listener, state.clone(), async move {
            // An error is that whoever could stop it has gone, which is how it is stopped.
            let _ = stopped.changed().await;
        })
    });
    let servers: Vec<_> = servers.map(tokio::spawn).collect();
    let mut seen = String::new();
    while !places.configuration.exists() {
        let report = report(places);
        component.store(Arc::new(health::judge(&report)));
        let text = render(&report, &Machine::observe());
        if text != seen {
            output.write_all(text.as_bytes())?;
            output.flush()?;
            let (consoles, shown) = (Arc::clone(&consoles), text.clone());
            // A console may be slow; health is not to wait for it.
            let written = tokio::task::spawn_blocking(move || write_to(&consoles, &shown)).await;
            written.map_err(io::Error::other)?;
            seen = text;
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    drop(stop);
    for server in servers {
        // It ends with its last answer; a panic of its own has been written.
        let _ = server.await;
    }
    Ok(())
}

/// The report, or what stands for one that nobody could write.
fn report(places: &Places) -> Report {
    let report = Report::read(&places.report()).ok().flatten();
    report.unwrap_or(Report {
        state: State::Waiting,
        source: None,
        version: None,
        hostname: None,
        nics: Vec::new(),
        ssh_keys: 0,
        health: ADMIN_LISTEN,
        at_unix_secs: 0,
        problems: Vec::new(),
    })
}

/// Listens on the default port of the management link, and for this machine itself. Each by its
/// link: who comes in by another one finds nobody.
fn listen() -> Result<Vec<TcpListener>, WaitError> {
    let links = [LOOPBACK, MANAGEMENT_LINK];
    let there = links.into_iter().filter(|&link| nix::net::if_::if_nametoindex(link).is_ok());
    there.map(listen_on).collect()
}

fn listen_on(link: &str) -> Result<TcpListener, WaitError> {
    let port = ADMIN_LISTEN.port();
    let open = || -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_only_v6(false)?;
        socket.bind_device(Some(link.as_bytes()))?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port).into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    open().map_err(|source| WaitError::Listen { port, link: link.to_owned(), source })
}
