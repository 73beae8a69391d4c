//! BGP daemons of others in the namespaces of a lab, as tenants' routers and as upstream routers on the
//! front end: BIRD, FRR, GoBGP, OpenBGPD and ExaBGP.

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nvgate::demo::lab::Namespace;
use nvgate::demo::lab::probe::{Answer, Service, ask_tcp, ping};
use nvgate::demo::site::{GATEWAY_FRONT_END, SERVICE_PORT};

use crate::run_lab::RunLab;
use crate::run_lab_host::{Change, change, run};
use crate::wg_lab::exec;

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

/// What is behind the upstream routers: an address that each of them has.
pub const INTERNET: Ipv4Addr = Ipv4Addr::new(198, 18, 7, 1);
/// The prefix that they teach.
pub const INTERNET_PREFIX: &str = "198.18.7.0/24";

/// A router of the front end: its network namespace, and what answers at [`INTERNET`] in it.
#[derive(Debug)]
pub struct Upstream {
    /// Its network namespace, with the link `eth0` on the front end.
    pub namespace: Namespace,
    /// Its address there.
    pub address: Ipv4Addr,
    /// Its AS.
    pub asn: u32,
    _service: Service,
}

impl Upstream {
    /// Router `number` of the lab: 198.51.100.20 + `number`, AS 65020 + `number`, `upNUMBER` as label
    /// of the service behind it. It has no route to public addresses.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn build(lab: &RunLab, number: u8) -> Result<Self> {
        let label = format!("up{number}");
        let namespace = Namespace::new(&label)?;
        let address = Ipv4Addr::new(198, 51, 100, 20 + number);
        lab.site.plug_router_into_front_end(&label, &namespace, address)?;
        change(&namespace, "lo", &[Change::Up, Change::Add(INTERNET.into(), 32)])?;
        let socket = SocketAddr::new(INTERNET.into(), SERVICE_PORT);
        let service = Service::start(&namespace, &label, &[socket])?;
        Ok(Self { namespace, address, asn: 65_020 + u32::from(number), _service: service })
    }

    /// The gateway's peer for it, with `more` keys.
    #[must_use]
    pub fn peer(&self, more: &str) -> String {
        let (name, address, asn) = (self.namespace.name(), self.address, self.asn);
        format!(
            "      - {{name: {name}, address: {address}, asn: {asn}, hold_secs: 9, \
             connect_retry_secs: 2, import: all, export: ours{more}}}\n"
        )
    }

    /// A BIRD in it that speaks with the gateway by the options `session`, teaches
    /// [`INTERNET_PREFIX`], and gives its kernel what it learns.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn bird(&self, lab: &RunLab, session: &str) -> Result<Daemon> {
        Daemon::bird(lab.config(), &self.namespace, &self.bird_config(session))
    }

    /// The configuration of that BIRD.
    #[must_use]
    pub fn bird_config(&self, session: &str) -> String {
        let Self { address, asn, .. } = self;
        format!(
            "router id {address};
protocol device {{}}
protocol bfd {{
  interface \"*\" {{ min rx interval 100 ms; min tx interval 100 ms; multiplier 3; }};
}}
protocol kernel {{ ipv4 {{ export where source = RTS_BGP; }}; }}
protocol static taught {{ ipv4; route {INTERNET_PREFIX} unreachable; }}
protocol bgp upstream {{
  local {address} as {asn};
  neighbor {GATEWAY_FRONT_END} as 64512;
  hold time 90;
  connect delay time 1;
  connect retry time 2;
  ipv4 {{ import all; export where source = RTS_STATIC; }};
{session}}}
"
        )
    }

    /// An FRR in it that does the same, but for its kernel.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn frr(&self, lab: &RunLab, session: &str) -> Result<Daemon> {
        let Self { address, asn, .. } = self;
        let config = format!(
            "log file /dev/stdout
router bgp {asn}
 bgp router-id {address}
 no bgp ebgp-requires-policy
 no bgp network import-check
 neighbor {GATEWAY_FRONT_END} remote-as 64512
 neighbor {GATEWAY_FRONT_END} timers 3 9
 neighbor {GATEWAY_FRONT_END} timers connect 2
{session} address-family ipv4 unicast
  network {INTERNET_PREFIX}
 exit-address-family
"
        );
        Daemon::frr(lab.config(), &self.namespace, &config)
    }
}

/// Gives the gateway of a lab these peers on its front end, and what is `announced` beside addresses.
///
/// # Errors
///
/// When its configuration cannot be written.
pub fn speak_on_front_end(lab: &RunLab, peers: &[String], more: &str) -> Result<()> {
    let peers = peers.concat();
    let bgp = format!(
        "  link: front0
  bgp:
    asn: 64512
    martians: unforwardable
    decision: {{multipath: 2, multipath_path: length}}
    peers:
{peers}    policies:
      - {{name: all, rules: [{{then: accept}}]}}
      - {{name: ours, rules: [{{match: {{source: local}}, then: accept}}]}}
{more}"
    );
    lab.edit("gateway", "  link: front0\n", &bgp)
}

/// What the routers' service says to a VM, with the label of the router that the flow took.
///
/// # Errors
///
/// Nobody answers.
pub fn ask_internet(vm: &Namespace) -> Result<Answer> {
    let target = SocketAddr::new(INTERNET.into(), SERVICE_PORT);
    Ok(vm.run(|| ask_tcp(target, "hello", Duration::from_millis(700)))??)
}

/// Packets that the link `eth0` of a namespace has received.
///
/// # Errors
///
/// When the kernel does not say.
pub fn received(namespace: &Namespace) -> Result<u64> {
    let text = exec(namespace, "ip -s -j link show dev eth0")?;
    let links: serde_json::Value = serde_json::from_str(&text)?;
    links[0]["stats64"]["rx"]["packets"].as_u64().context("a count")
}
