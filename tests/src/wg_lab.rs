//! Tenants' premises for the run lab: real WireGuard peers on the other side of the front end's
//! router, with kernel clients behind them. The UDP socket of a peer stays in the namespace that
//! the world sees, its link moves into the premises' router, so that several peers share one public
//! address while their premises all look the same.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use nvgate::demo::lab::probe::{Answer, Service, ask_tcp, ask_udp, ping};
use nvgate::demo::lab::{LinkSetup, Namespace, SuperPackets};
use nvgate::demo::site::{SERVER, SERVICE_PORT};
use nvgate_model::Prefix;
use nvgate_vpn::PrivateKey;

use crate::ovs_lab::wait_until;
use crate::run_lab::{PATIENCE, RunLab, binary};
use crate::run_lab_host::{Change, change, run};
use crate::skip::has_peers;

/// Programs that every one of these labs runs.
pub const PROGRAMS: [&str; 5] = ["wireguard-go", "wg", "ip", "ping", "setpriv"];
/// The port that tenants' tunnels end at.
pub const TUNNEL_PORT: u16 = 51_820;
/// The MTU of a peer's link, as `wg-quick` chooses it over 1500 bytes.
const PEER_MTU: u32 = 1420;
/// Where the programs keep their configuration sockets, for all namespaces.
const SOCKETS: &str = "/var/run/wireguard";

/// Links made by this process: their names must be the machine's own.
static LINKS: AtomicU32 = AtomicU32::new(0);

/// The link-local address of a machine: without one a kernel solicits no neighbours for what it
/// forwards.
fn link_local(last: u8) -> IpAddr {
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, last.into()).into()
}

/// The run lab for tenants with sites; `None`, recorded as skipped, where it cannot be.
///
/// # Errors
///
/// When it cannot be built.
pub fn build(test: &str, workers: usize) -> Result<Option<RunLab>> {
    if !has_peers(test, &PROGRAMS) {
        return Ok(None);
    }
    let Some(lab) = RunLab::build(test, workers)? else { return Ok(None) };
    lab.site.server.set_sysctl("ipv4/ip_forward", "1")?;
    lab.site.gateway.add_route(Prefix::DEFAULT_V4, Some(SERVER.into()), "front0")?;
    Ok(Some(lab))
}

/// An address of the front end where it has IPv6: 1 is the gateway's link, 10 the router.
#[must_use]
pub fn front_end_ipv6(last: u8) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, last.into()).into()
}

/// Gives the front end and the world behind it IPv6.
///
/// # Errors
///
/// When the kernel refuses.
pub fn give_ipv6(lab: &RunLab) -> Result<()> {
    let site = &lab.site;
    for (namespace, link, last) in [(&site.gateway, "front0", 1), (&site.server, "eth0", 10)] {
        namespace.set_sysctl(&format!("ipv6/conf/{link}/accept_dad"), "0")?;
        let addresses = [front_end_ipv6(last), link_local(last)];
        change(namespace, link, &addresses.map(|address| Change::Add(address, 64)))?;
    }
    site.server.set_sysctl("ipv6/conf/all/forwarding", "1")?;
    Ok(site.gateway.add_route(Prefix::DEFAULT_V6, Some(front_end_ipv6(10)), "front0")?)
}

/// Adds a tenant's VPN and routes to its file.
///
/// # Errors
///
/// When the file cannot be written.
pub fn give_vpn(lab: &RunLab, tenant: &str, yaml: &str) -> Result<()> {
    let file = fs::read_to_string(lab.file(tenant))?;
    lab.write(tenant, &format!("{file}{yaml}"))
}

/// The public key of the only listener of a tenant.
///
/// # Errors
///
/// When the gateway has not made it.
pub fn gateway_key(lab: &RunLab, tenant: &str) -> Result<String> {
    let output = Command::new(binary()?)
        .args(["vpn", "keys", "--json", "--tenant", tenant, "--config"])
        .arg(lab.config())
        .output()?;
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    let key = rows[0]["public_key"].as_str();
    Ok(key.with_context(|| format!("no key in {rows}"))?.to_owned())
}

/// The private key of the peer with this number.
#[must_use]
pub fn peer_key(number: u8) -> PrivateKey {
    PrivateKey::from_bytes([number; 32])
}

/// Runs a command, given as words between blanks, inside a namespace; returns what it printed.
///
/// # Errors
///
/// When it fails, with what it said.
pub fn exec(namespace: &Namespace, line: &str) -> Result<String> {
    let mut words = line.split_ascii_whitespace();
    let mut command = Command::new(words.next().context("a command")?);
    command.args(words);
    let ended = run(namespace, command)?;
    ensure!(ended.code == Some(0), "{}: `{line}`: {ended:?}", namespace.name());
    Ok(ended.output)
}

/// A place in the world that peers speak from: 198.18.`number`.2 and 2001:db8:`number`::2.
///
/// # Errors
///
/// When the kernel refuses.
pub fn place(lab: &RunLab, number: u8) -> Result<Namespace> {
    let namespace = Namespace::new(&format!("place{number}"))?;
    let port = format!("place{number}");
    let router = &lab.site.server;
    router.add_veth(&port, &namespace, "eth0")?;
    let addresses = |last: u8| -> [(IpAddr, u8); 2] {
        let ipv6 = [0x2001, 0xdb8, u16::from(number), 0, 0, 0, 0, u16::from(last)];
        [(Ipv4Addr::new(198, 18, number, last).into(), 24), (ipv6.into(), 64)]
    };
    for (namespace, name, last) in [(router, port.as_str(), 1), (&namespace, "eth0", 2)] {
        let [ipv4, ipv6] = addresses(last);
        namespace.set_up(&LinkSetup {
            name,
            mac: None,
            mtu: 1500,
            addresses: &[ipv4, ipv6, (link_local(last), 64)],
            super_packets: SuperPackets::Allowed,
        })?;
    }
    for ((address, _), default) in
        addresses(1).into_iter().zip([Prefix::DEFAULT_V4, Prefix::DEFAULT_V6])
    {
        namespace.add_route(default, Some(address), "eth0")?;
    }
    Ok(namespace)
}

/// A tenant's premises: a router that peers' links are in, and a client behind it.
#[derive(Debug)]
pub struct Premises {
    /// The client's service, on port 7 of both addresses.
    pub service: Service,
    /// The client.
    pub client: Namespace,
    /// The router.
    pub router: Namespace,
    /// The client's IPv4 address.
    pub ipv4: Ipv4Addr,
    /// The client's IPv6 address.
    pub ipv6: IpAddr,
}

impl Premises {
    /// Premises with the IPv4 network `network`/24 and fd00:1nn::/64, where nn is the last byte of
    /// `network`: the router is .1, the client .2, whose service says `label`.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn build(label: &str, network: [u8; 3]) -> Result<Self> {
        let router = Namespace::new(&format!("{label}-router"))?;
        let client = Namespace::new(label)?;
        router.add_veth("lan", &client, "eth0")?;
        let [a, b, c] = network;
        let ipv4 = |last| Ipv4Addr::new(a, b, c, last);
        let ipv6 = |last| IpAddr::from([0xfd00, u16::from(c) + 0x100, 0, 0, 0, 0, 0, last]);
        for (namespace, name, last) in [(&router, "lan", 1), (&client, "eth0", 2)] {
            namespace.set_up(&LinkSetup {
                name,
                mac: None,
                mtu: 1500,
                addresses: &[
                    (ipv4(last).into(), 24),
                    (ipv6(last.into()), 64),
                    (link_local(last), 64),
                ],
                super_packets: SuperPackets::Allowed,
            })?;
        }
        for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            router.set_sysctl(setting, "1")?;
        }
        client.add_route(Prefix::DEFAULT_V4, Some(ipv4(1).into()), "eth0")?;
        client.add_route(Prefix::DEFAULT_V6, Some(ipv6(1)), "eth0")?;
        let sockets = [IpAddr::from(ipv4(2)), ipv6(2)].map(|at| SocketAddr::new(at, SERVICE_PORT));
        let service = Service::start(&client, label, &sockets)?;
        Ok(Self { service, client, router, ipv4: ipv4(2), ipv6: ipv6(2) })
    }
}

/// What a peer is started with.
#[derive(Clone, Copy, Debug)]
pub struct PeerPlan<'a> {
    /// The program that speaks WireGuard.
    pub program: Program,
    /// The number of its key.
    pub key: u8,
    /// The UDP port it speaks from.
    pub port: u16,
    /// The gateway's public key.
    pub gateway_key: &'a str,
    /// Where the gateway is.
    pub gateway: SocketAddr,
    /// The link's own addresses.
    pub addresses: &'a [&'a str],
    /// What leads into the tunnel.
    pub networks: &'a [&'a str],
    /// The lower of two routes wins.
    pub metric: u32,
    /// Seconds between keepalives; 0 for none.
    pub keepalive_secs: u16,
}

/// A program that speaks WireGuard in user space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Program {
    /// The one of the WireGuard project.
    WireGuardGo,
    /// Cloudflare's.
    Boringtun,
}

/// A running peer. Ends when dropped.
#[derive(Debug)]
pub struct Peer {
    link: String,
    process: Child,
}

impl Peer {
    /// Starts a peer that speaks from `place`, and puts its link into `router`. Its key is written
    /// into `directory`.
    ///
    /// # Errors
    ///
    /// When the program does not come up.
    pub fn start(
        directory: &Path,
        place: &Namespace,
        router: &Namespace,
        plan: &PeerPlan<'_>,
    ) -> Result<Self> {
        let number = LINKS.fetch_add(1, Ordering::Relaxed);
        let link = format!("nvg{}x{number}", std::process::id());
        let socket = Path::new(SOCKETS).join(format!("{link}.sock"));
        // Without a shell in between: the process ends with this one.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        match plan.program {
            Program::WireGuardGo => command.args(["wireguard-go", "-f", &link]),
            Program::Boringtun => {
                command.args(["boringtun-cli", "-f", "--disable-drop-privileges", &link])
            }
        };
        command.env("LOG_LEVEL", "error").env("WG_LOG_LEVEL", "error");
        command.env("WG_PROCESS_FOREGROUND", "1");
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let peer = Self { process: place.command(command)?, link };
        wait_until(PATIENCE, || socket.exists().then(|| place.link_index(&peer.link).ok())?)
            .with_context(|| format!("{:?} and its link", plan.program))?;
        let key = directory.join(format!("{}.key", peer.link));
        fs::write(&key, peer_key(plan.key).to_base64().as_str())?;
        peer.set(&format!(
            "listen-port {} private-key {} peer {} endpoint {} persistent-keepalive {} \
             allowed-ips {}",
            plan.port,
            key.display(),
            plan.gateway_key,
            plan.gateway,
            plan.keepalive_secs,
            plan.networks.join(","),
        ))?;
        let link = &peer.link;
        exec(place, &format!("ip link set dev {link} netns {}", router.thread_id()))?;
        exec(router, &format!("ip link set dev {link} mtu {PEER_MTU} up"))?;
        for address in plan.addresses {
            exec(router, &format!("ip address add {address} dev {link} nodad"))?;
        }
        for network in plan.networks {
            let family = if network.contains(':') { "-6" } else { "-4" };
            let metric = plan.metric;
            exec(router, &format!("ip {family} route add {network} dev {link} metric {metric}"))?;
        }
        Ok(peer)
    }

    /// Changes the peer's configuration, in the words of `wg set`.
    ///
    /// # Errors
    ///
    /// When `wg` refuses.
    pub fn set(&self, words: &str) -> Result<()> {
        wg(&format!("set {} {words}", self.link)).map(drop)
    }

    /// The program's process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Bytes that came through the tunnel from the gateway.
    ///
    /// # Errors
    ///
    /// When `wg` does not say.
    pub fn received(&self) -> Result<u64> {
        let text = wg(&format!("show {} transfer", self.link))?;
        let received = text.split_ascii_whitespace().nth(1);
        Ok(received.with_context(|| format!("`{text}`"))?.parse()?)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Killed: what it leaves behind is its socket.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_file(Path::new(SOCKETS).join(format!("{}.sock", self.link)));
    }
}

fn wg(line: &str) -> Result<String> {
    let output = Command::new("wg").args(line.split_ascii_whitespace()).output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`wg {line}`: {errors}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Asks the service at `target` over echo, TCP and UDP, from `namespace`: the right one must answer
/// and see the right address.
///
/// # Errors
///
/// What did not.
pub fn reaches(namespace: &Namespace, target: IpAddr, label: &str, seen_as: IpAddr) -> Result<()> {
    let what = || format!("{} to {target}", namespace.name());
    namespace.run(|| ping(target, PATIENCE))?.with_context(what)?;
    answers(namespace, SocketAddr::new(target, SERVICE_PORT), label, seen_as).with_context(what)
}

/// As [`reaches`], over TCP and UDP to the service at a socket.
///
/// # Errors
///
/// What did not.
pub fn answers(
    namespace: &Namespace,
    target: SocketAddr,
    label: &str,
    seen_as: IpAddr,
) -> Result<()> {
    let right = |answer: Answer| {
        ensure!((answer.label.as_str(), answer.seen_as.ip()) == (label, seen_as), "{answer:?}");
        Ok(())
    };
    right(namespace.run(|| ask_udp(target, label, PATIENCE))?.context("UDP")?)?;
    right(namespace.run(|| ask_tcp(target, label, PATIENCE))?.context("TCP")?)
}
