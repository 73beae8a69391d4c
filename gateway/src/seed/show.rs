//! What people see of a seed, on the console and by `nvgate seed show`: the machine's name, its
//! NICs with their addresses, what became of the seed, and where health is.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use nix::ifaddrs::getifaddrs;
use nvgate_deploy::seed::{Report, Role, State};

use super::MANAGEMENT_LINK;
use super::health::missing_sentence;

/// What the machine itself adds to a report.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Machine {
    /// Its name.
    pub hostname: String,
    /// The addresses of its links.
    pub addresses: BTreeMap<String, Vec<IpAddr>>,
}

impl Machine {
    /// This machine, now. What cannot be learnt is left out.
    #[must_use]
    pub fn observe() -> Self {
        let mut addresses: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
        for interface in getifaddrs().into_iter().flatten() {
            let Some(address) = interface.address else { continue };
            let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
            let v6 = address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip()));
            let found = v4.or(v6);
            addresses.entry(interface.interface_name).or_default().extend(found);
        }
        let name = nix::sys::utsname::uname();
        let hostname = name.map(|name| name.nodename().to_string_lossy().into_owned());
        Self { hostname: hostname.unwrap_or_default(), addresses }
    }

    /// The addresses of a link, but for link-local ones.
    fn reachable(&self, link: &str) -> impl Iterator<Item = IpAddr> {
        let local = |address: &IpAddr| match address {
            IpAddr::V4(v4) => v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        let addresses = self.addresses.get(link).into_iter().flatten();
        addresses.filter(move |address| !local(address)).copied()
    }

    /// Whether the management link has an address by which it can be reached.
    #[must_use]
    pub fn is_reachable(&self) -> bool {
        self.reachable(MANAGEMENT_LINK).next().is_some()
    }
}

/// A report with the machine around it, in lines.
#[must_use]
pub fn render(report: &Report, machine: &Machine) -> String {
    let mut text = format!("nvgate {} on {}\n", env!("CARGO_PKG_VERSION"), machine.hostname);
    for nic in &report.nics {
        let addresses: Vec<_> = machine.reachable(&nic.name).map(|one| one.to_string()).collect();
        let addresses = match (addresses.is_empty(), nic.role) {
            (false, _) => addresses.join(" "),
            (true, Role::Management) => "no address yet".to_owned(),
            (true, Role::Fabric | Role::FrontEnd) => String::new(),
        };
        let role = nic.role.key();
        let line = format!("  {:<8} {role:<10} {} {:<12} {addresses}", nic.name, nic.mac, nic.path);
        text.push_str(line.trim_end());
        text.push('\n');
    }
    if report.nics.is_empty() {
        text.push_str("  no NIC: give this machine some\n");
    }
    // Writing to a string does not fail.
    let _ = write!(text, "seed: {}", report.state.describe());
    if let Some(version) = report.version {
        let _ = write!(text, "; version {version} is in effect");
    }
    if let Some(source) = &report.source {
        let _ = write!(text, "; from {source}");
    }
    let _ = writeln!(text, "\nhealth: {}", health(report.health, report.state, machine));
    if report.state == State::Waiting && report.problems.is_empty() {
        let _ = writeln!(text, "{}", missing_sentence());
    }
    for problem in &report.problems {
        let _ = writeln!(text, "{problem}");
    }
    text
}

/// Where the health endpoint is for whoever stands before the console.
fn health(listen: SocketAddr, state: State, machine: &Machine) -> String {
    let url = |address| format!("http://{}/healthz", SocketAddr::new(address, listen.port()));
    // While nothing is configured it is on the management link, whatever its addresses.
    let on_all = listen.ip().is_unspecified() || state == State::Waiting;
    if on_all {
        return match machine.reachable(MANAGEMENT_LINK).next() {
            Some(address) => url(address),
            None => format!("port {}, once {MANAGEMENT_LINK} has an address", listen.port()),
        };
    }
    if listen.ip().is_loopback() {
        return format!(
            "{}, from this machine only; admin.listen in gateway.yaml opens it",
            url(listen.ip())
        );
    }
    url(listen.ip())
}
