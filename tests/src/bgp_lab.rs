//! BGP daemons of others in the namespaces of a lab, as tenants' routers: BIRD, FRR, GoBGP, OpenBGPD
//! and ExaBGP.

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nvgate::admin::bgp::{PeerReport, PeersReport, RouteReport, RoutesReport};
use nvgate::demo::lab::Namespace;
use nvgate::demo::lab::probe::ping;

use crate::run_lab::{RunLab, binary};
use crate::run_lab_host::{Ended, run};

/// The programs that tests with BIRD need.
pub const BIRD: [&str; 2] = ["bird", "birdc"];
/// The program that tests with FRR need, beside its daemon.
pub const FRR: [&str; 1] = ["vtysh"];
/// The programs that tests with GoBGP need.
pub const GOBGP: [&str; 2] = ["gobgpd", "gobgp"];
/// The programs that tests with OpenBGPD need.
pub const OPENBGPD: [&str; 2] = ["bgpctl", "unshare"];
/// The program that tests with ExaBGP need.
pub const EXABGP: [&str; 1] = ["exabgp"];
/// FRR's BGP daemon, which is on no search path.
const BGPD: &str = "/usr/lib/frr/bgpd";

/// An address behind the router VM of either tenant, in what it teaches.
pub const TAUGHT: Ipv4Addr = Ipv4Addr::new(172, 30, 1, 1);
/// The gateway's side, the same for both tenants.
pub const GATEWAY: &str = "bgp:\n  asn: 64512\n  peers:\n    - {name: router, address: 10.1.0.10, asn: 65010, hold_secs: 9, connect_retry_secs: 2}\n";
/// The address of each tenant's VM `web`, and of the gateway in its subnet.
pub const WEB: [&str; 2] = ["10.1.0.10", "10.1.0.1"];
/// The same of the VM `app`.
pub const APP: [&str; 2] = ["10.1.0.20", "10.1.0.1"];
/// The same of the VM `db`.
pub const DB: [&str; 2] = ["10.2.0.10", "10.2.0.1"];
/// What the premises of these tests send into their tunnels: the gateway's own address among it.
pub const THROUGH: [&str; 3] = ["10.1.0.0/24", "10.254.254.0/29", "172.30.0.0/16"];

/// A running daemon. It ends when dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    kind: Kind,
    directory: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Bird,
    Frr,
    GoBgp,
    OpenBgpd,
    ExaBgp,
}

impl Kind {
    /// Where what it writes goes: two of different kinds may share a namespace.
    fn log(self) -> String {
        format!("{self:?}.log")
    }
}

impl Daemon {
    /// Starts BIRD in a namespace, with its files in a directory of its own under `root`.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn bird(root: &Path, namespace: &Namespace, config: &str) -> Result<Self> {
        Self::start_bird(root, namespace, config, &["-f"])
    }

    /// The same, after one that was killed and whose forwarding went on: it restarts gracefully.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn bird_again(root: &Path, namespace: &Namespace, config: &str) -> Result<Self> {
        Self::start_bird(root, namespace, config, &["-f", "-R"])
    }

    fn start_bird(
        root: &Path,
        namespace: &Namespace,
        config: &str,
        options: &[&str],
    ) -> Result<Self> {
        let directory = own_directory(root, namespace)?;
        let file = directory.join("bird.conf");
        fs::write(&file, config)?;
        let mut command = Command::new("bird");
        command.args(options).arg("-c").arg(&file);
        command.arg("-s").arg(directory.join("control")).arg("-P").arg(directory.join("pid"));
        Self::start(namespace, command, Kind::Bird, directory)
    }

    /// Starts FRR's bgpd alone, without a kernel's routes, in a namespace.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn frr(root: &Path, namespace: &Namespace, config: &str) -> Result<Self> {
        let directory = own_directory(root, namespace)?;
        let file = directory.join("bgpd.conf");
        fs::write(&file, config)?;
        let mut command = Command::new(BGPD);
        // Without zebra, and as root, which owns the directory.
        command.args(["-Z", "-S", "-A", "127.0.0.1", "-f"]).arg(&file);
        command.arg("-i").arg(directory.join("pid")).arg("--vty_socket").arg(&directory);
        command.arg("-z").arg(directory.join("zebra")).args(["-u", "root", "-g", "root"]);
        Self::start(namespace, command, Kind::Frr, directory)
    }

    /// Starts GoBGP in a namespace. Routes are given to it by [`ask`](Self::ask).
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn gobgp(root: &Path, namespace: &Namespace, config: &str) -> Result<Self> {
        let directory = own_directory(root, namespace)?;
        let file = directory.join("gobgpd.toml");
        fs::write(&file, config)?;
        let mut command = Command::new("gobgpd");
        command.arg("-f").arg(&file).args(["-l", "info", "--api-hosts", "127.0.0.1:50051"]);
        Self::start(namespace, command, Kind::GoBgp, directory)
    }

    /// Starts OpenBGPD in a namespace. Elsewhere than on OpenBSD it touches no kernel's routes.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn openbgpd(root: &Path, namespace: &Namespace, config: &str) -> Result<Self> {
        let directory = own_directory(root, namespace)?;
        let file = directory.join("bgpd.conf");
        let socket = directory.join("bgpctl");
        fs::write(&file, format!("socket \"{}\"\n{config}", socket.display()))?;
        // It refuses a file that others may read.
        fs::set_permissions(&file, Permissions::from_mode(0o600))?;
        // The directory that its processes are confined to need not be the machine's.
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c"]);
        command.arg("mount -t tmpfs none /run && mkdir /run/openbgpd && exec bgpd -d -f \"$0\"");
        command.arg(&file);
        Self::start(namespace, command, Kind::OpenBgpd, directory)
    }

    /// Starts ExaBGP in a namespace, with a process `api` for its neighbours' configuration.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn exabgp(root: &Path, namespace: &Namespace, config: &str) -> Result<Self> {
        let directory = own_directory(root, namespace)?;
        let [file, process] = ["exabgp.conf", "api"].map(|name| directory.join(name));
        fs::write(directory.join("commands"), "")?;
        let shown = directory.display();
        // A shell takes the standard input away from what it runs in the background.
        let script = format!(
            "#!/bin/sh\nexec 3<&0\ncat <&3 >{shown}/received &\n\
             exec tail -n +1 -f {shown}/commands\n"
        );
        fs::write(&process, script)?;
        fs::set_permissions(&process, Permissions::from_mode(0o700))?;
        let api = process.display();
        fs::write(&file, format!("process api {{ run {api}; encoder json; }}\n{config}"))?;
        let mut command = Command::new("exabgp");
        command.arg(&file).env("exabgp.log.destination", "stdout");
        command.env("exabgp.daemon.user", "root").env("exabgp.daemon.drop", "false");
        command.env("exabgp.api.cli", "false");
        Self::start(namespace, command, Kind::ExaBgp, directory)
    }

    fn start(
        namespace: &Namespace,
        mut command: Command,
        kind: Kind,
        directory: PathBuf,
    ) -> Result<Self> {
        let log = fs::File::create(directory.join(kind.log()))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = namespace.command(command)?;
        Ok(Self { child, kind, directory })
    }

    /// What the daemon answers to a command. ExaBGP answers none: it gets the command, and what it
    /// has received until now is returned, as JSON a line.
    ///
    /// # Errors
    ///
    /// When it does not.
    pub fn ask(&self, namespace: &Namespace, words: &str) -> Result<String> {
        let mut command = match self.kind {
            Kind::Bird => {
                let mut command = Command::new("birdc");
                command.arg("-s").arg(self.directory.join("control")).args(words.split(' '));
                command
            }
            Kind::Frr => {
                let mut command = Command::new("vtysh");
                command.arg("--vty_socket").arg(&self.directory).args(["-d", "bgpd", "-c", words]);
                command
            }
            Kind::GoBgp => {
                let mut command = Command::new("gobgp");
                command.args(words.split(' '));
                command
            }
            Kind::OpenBgpd => {
                let mut command = Command::new("bgpctl");
                command.arg("-s").arg(self.directory.join("bgpctl")).args(words.split(' '));
                command
            }
            Kind::ExaBgp => {
                let file = self.directory.join("commands");
                let mut commands = fs::OpenOptions::new().append(true).open(file)?;
                if !words.is_empty() {
                    writeln!(commands, "{words}")?;
                }
                let received = fs::read_to_string(self.directory.join("received"));
                return received.with_context(|| format!("{words}\n{}", self.log()));
            }
        };
        command.stdin(Stdio::null());
        let ended = run(namespace, command)?;
        ensure!(ended.code == Some(0), "{words}: {ended:?}\n{}", self.log());
        Ok(ended.output)
    }

    /// What it wrote to its output.
    fn log(&self) -> String {
        fs::read_to_string(self.directory.join(self.kind.log())).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn own_directory(root: &Path, namespace: &Namespace) -> Result<PathBuf> {
    let directory = root.join(format!("bgp-{}", namespace.name()));
    fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    Ok(directory)
}

/// A BIRD that speaks from `local` to the gateway at `gateway`, and teaches `taught`.
#[must_use]
pub fn bird(local: Ipv4Addr, gateway: Ipv4Addr, taught: &str, more: &str) -> String {
    format!(
        "router id {local};
protocol device {{}}
protocol bfd {{
  neighbor {gateway} local {local} multihop on;
  multihop {{ min rx interval 100 ms; min tx interval 100 ms; multiplier 3; }};
  interface \"*\" {{ min rx interval 100 ms; min tx interval 100 ms; multiplier 3; }};
}}
protocol static taught {{ ipv4; route {taught} unreachable; }}
protocol bgp upstream {{
  local {local} as 65010;
  neighbor {gateway} as 64512;
  hold time 90;
  connect delay time 1;
  connect retry time 2;
  ipv4 {{ import all; export where source = RTS_STATIC; }};
{more}}}
"
    )
}

/// Whether the session of a [`bird`] is established.
///
/// # Errors
///
/// It is not.
pub fn established(router: &Daemon, namespace: &Namespace) -> Result<()> {
    let answer = router.ask(namespace, "show protocols upstream")?;
    ensure!(answer.contains("Established"), "{answer}");
    Ok(())
}

/// Waits until `client` reaches what was [`TAUGHT`].
///
/// # Errors
///
/// It does not.
pub fn reaches_what_was_taught(lab: &RunLab, client: &Namespace) -> Result<()> {
    lab.wait("what was taught is reached", || {
        client.run(|| ping(TAUGHT.into(), Duration::from_millis(300)))??;
        Ok(())
    })
}

/// What `nvgate bgp` does with these words, in the gateway's namespace.
///
/// # Errors
///
/// When it cannot be started.
pub fn nvgate_bgp(lab: &RunLab, words: &str) -> Result<Ended> {
    let mut command = Command::new(binary()?);
    command.arg("bgp").args(words.split(' ')).arg("--config").arg(lab.config());
    run(&lab.site.gateway, command)
}

/// What it prints.
///
/// # Errors
///
/// When it fails.
pub fn said(lab: &RunLab, words: &str) -> Result<String> {
    let ended = nvgate_bgp(lab, words)?;
    ensure!(ended.code == Some(0), "nvgate bgp {words}: {ended:?}");
    Ok(ended.output)
}

/// A peer of a tenant as the gateway has it.
///
/// # Errors
///
/// When it cannot be had.
pub fn peer(lab: &RunLab, tenant: &str, name: &str) -> Result<PeerReport> {
    let (code, body) = lab.ask(&format!("/v1/bgp/peers?tenant={tenant}"))?;
    ensure!(code == 200, "{body}");
    let report: PeersReport = serde_json::from_str(&body)?;
    let found = report.peers.into_iter().find(|peer| peer.name == name);
    found.with_context(|| format!("no peer {tenant}/{name}"))
}

/// Waits until these peers of a tenant are up.
///
/// # Errors
///
/// They are not.
pub fn are_up(lab: &RunLab, tenant: &str, names: &[&str]) -> Result<()> {
    lab.wait(&format!("{tenant}'s peers are up"), || {
        for name in names {
            let peer = peer(lab, tenant, name)?;
            ensure!(peer.up, "{peer:?}");
        }
        Ok(())
    })
}

/// The routes to a prefix that a tenant has, the best first.
///
/// # Errors
///
/// When they cannot be had.
pub fn routes(lab: &RunLab, tenant: &str, prefix: &str) -> Result<Vec<RouteReport>> {
    let (code, body) = lab.ask(&format!("/v1/bgp/routes?tenant={tenant}&prefix={prefix}"))?;
    ensure!(code == 200, "{body}");
    let report: RoutesReport = serde_json::from_str(&body)?;
    Ok(report.routes)
}

/// A BIRD of one session at `local` to `gateway`: `[local AS, the gateway's]`, static routes that it
/// teaches (`route ...;`), and what else stands in its protocol, its channels among it.
#[must_use]
pub fn bird_with(
    local: &str,
    gateway: &str,
    [own, theirs]: [u32; 2],
    taught: &str,
    more: &str,
) -> String {
    format!(
        "router id {local};
protocol device {{}}
protocol static taught {{ ipv4; {taught} }}
protocol bgp upstream {{
  local {local} as {own};
  neighbor {gateway} as {theirs};
  hold time 90;
  connect delay time 1;
  connect retry time 2;
  {more}
}}
"
    )
}

/// An FRR of one session to `gateway`: `[its own AS, the gateway's]`, its identifier, prefixes that it
/// teaches, and more lines of the router and of its IPv4 family, in which `PEER` is the gateway.
#[must_use]
pub fn frr_with(
    identifier: &str,
    gateway: &str,
    [own, theirs]: [u32; 2],
    taught: &[&str],
    [router, family]: [&str; 2],
) -> String {
    let networks: String = taught.iter().map(|prefix| format!("  network {prefix}\n")).collect();
    format!(
        "log file /dev/stdout
router bgp {own}
 bgp router-id {identifier}
 no bgp ebgp-requires-policy
 no bgp network import-check
 neighbor PEER remote-as {theirs}
 neighbor PEER timers 30 90
 neighbor PEER timers connect 2
{router}
 address-family ipv4 unicast
{networks}{family}
 exit-address-family
"
    )
    .replace("PEER", gateway)
}

/// `bgp` of a tenant with these peers, each as `{name: ..., ...` without the end that all have.
#[must_use]
pub fn gateway(peers: &[&str], more: &str) -> String {
    let peers: String =
        peers.iter().map(|peer| format!("    - {peer}, connect_retry_secs: 2}}\n")).collect();
    format!("bgp:\n  asn: 64512\n{more}  peers:\n{peers}")
}

/// Waits until a router's answer to `words` holds each of `parts`, and none of `absent`.
///
/// # Errors
///
/// It does not.
pub fn shows(
    lab: &RunLab,
    (router, vm): (&Daemon, &Namespace),
    words: &str,
    parts: &[&str],
    absent: &[&str],
) -> Result<String> {
    lab.wait(&format!("{}: {words}", vm.name()), || {
        let answer = router.ask(vm, words)?;
        for part in parts {
            ensure!(answer.contains(part), "no {part} in {answer}");
        }
        for part in absent {
            ensure!(!answer.contains(part), "{part} in {answer}");
        }
        Ok(answer)
    })
}
