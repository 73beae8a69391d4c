//! The contenders as processes: how each is configured and started, and what it used.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use nvgate::demo::lab::Namespace;
use nvgate_tests::run_lab::binary;

/// FRR's BGP daemon, and OpenBGPD's, which has the same name.
const FRR: &str = "/usr/lib/frr/bgpd";
const OPENBGPD: &str = "/usr/sbin/bgpd";
/// Where OpenBGPD wants to run.
const OPENBGPD_RUN: &str = "/run/openbgpd";
/// /proc/PID/stat counts hundredths of a second.
const TICKS: f64 = 100.0;

/// The gateway's other port.
pub const FABRIC: &str = "fabric0";
/// Its address there.
pub const PROVIDER: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 100);

/// How long it may take to end.
const GRACE: Duration = Duration::from_secs(5);

/// One end of a session: its address and AS.
pub type End = (Ipv4Addr, u32);

/// Who is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Contender {
    /// The gateway, all of it.
    Nvgate,
    Bird,
    Frr,
    GoBgp,
    OpenBgpd,
}

impl Contender {
    /// All, in the order of a round.
    pub const ALL: [Self; 5] = [Self::Nvgate, Self::Bird, Self::Frr, Self::GoBgp, Self::OpenBgpd];

    /// Its name in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nvgate => "nvgate",
            Self::Bird => "BIRD 2",
            Self::Frr => "FRR bgpd",
            Self::GoBgp => "GoBGP",
            Self::OpenBgpd => "OpenBGPD",
        }
    }

    /// One route in so many: who needs minutes for the whole table gets a part of it.
    pub const fn divisor(self) -> usize {
        match self {
            Self::GoBgp => 10,
            Self::Nvgate | Self::Bird | Self::Frr | Self::OpenBgpd => 1,
        }
    }

    fn command(self, directory: &Path, own: End, others: [End; 2]) -> Result<Command> {
        let file = directory.join("config");
        let command = match self {
            Self::Nvgate => {
                fs::create_dir_all(directory.join("tenants.d"))?;
                fs::write(directory.join("gateway.yaml"), nvgate(directory, own, others))?;
                let mut command = Command::new(binary()?);
                command.args(["--log", "warn", "run", "--config"]).arg(directory);
                command
            }
            Self::Bird => {
                fs::write(&file, bird(own, others))?;
                let mut command = Command::new("bird");
                command.arg("-f").arg("-c").arg(&file).arg("-s").arg(directory.join("control"));
                command.arg("-P").arg(directory.join("pid"));
                command
            }
            Self::Frr => {
                fs::write(&file, frr(own, others))?;
                let mut command = Command::new(FRR);
                command.args(["-Z", "-S", "-A", "127.0.0.1", "-u", "root", "-g", "root", "-f"]);
                command.arg(&file).arg("-i").arg(directory.join("pid"));
                command.arg("--vty_socket").arg(directory).arg("-z").arg(directory.join("zebra"));
                command
            }
            Self::GoBgp => {
                let file = file.with_extension("toml");
                fs::write(&file, gobgp(own, others))?;
                let mut command = Command::new("gobgpd");
                command.arg("-f").arg(&file).args(["-l", "error"]);
                command.args(["--api-hosts", "127.0.0.1:50051"]);
                command
            }
            Self::OpenBgpd => {
                fs::create_dir_all(OPENBGPD_RUN)?;
                fs::write(&file, openbgpd(directory, own, others))?;
                // It refuses a file that others may read.
                let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
                fs::set_permissions(&file, mode)?;
                let mut command = Command::new(OPENBGPD);
                command.arg("-d").arg("-f").arg(&file);
                command
            }
        };
        Ok(command)
    }
}

fn nvgate(directory: &Path, own: End, others: [End; 2]) -> String {
    let peers = others.map(|(address, asn)| {
        format!(
            "      - {{name: as{asn}, address: {address}, asn: {asn}, passive: true, import: all, \
             export: all}}\n"
        )
    });
    format!(
        "fabric: {{link: {FABRIC}, provider_addresses: {PROVIDER}}}\nfront_end:\n  link: eth0\n  bgp:\n    \
         asn: {}\n    router_id: {}\n    martians: unforwardable\n    peers:\n{}    policies:\n      \
         - {{name: all, rules: [{{then: accept}}]}}\nworkers: 1\nstate_directory: {}\n",
        own.1,
        own.0,
        peers.concat(),
        directory.join("state").display()
    )
}

fn bird(own: End, others: [End; 2]) -> String {
    let peers = others.map(|(address, asn)| {
        format!(
            "protocol bgp b{asn} {{ local {} as {}; neighbor {address} as {asn}; direct; passive on; \
             ipv4 {{ import all; export all; }}; }}\n",
            own.0, own.1
        )
    });
    format!("router id {};\nprotocol device {{}}\n{}", own.0, peers.concat())
}

fn frr(own: End, others: [End; 2]) -> String {
    let peers = others.map(|(address, asn)| {
        format!(
            " neighbor {address} remote-as {asn}\n neighbor {address} passive\n \
             neighbor {address} advertisement-interval 0\n"
        )
    });
    let active = others.map(|(address, _)| format!("  neighbor {address} activate\n"));
    format!(
        "log file /dev/null\nrouter bgp {}\n bgp router-id {}\n no bgp ebgp-requires-policy\n \
         no bgp default ipv4-unicast\n{} address-family ipv4 unicast\n{} exit-address-family\n",
        own.1,
        own.0,
        peers.concat(),
        active.concat()
    )
}

fn gobgp(own: End, others: [End; 2]) -> String {
    let peers = others.map(|(address, asn)| {
        format!(
            "[[neighbors]]\n[neighbors.config]\nneighbor-address = \"{address}\"\npeer-as = {asn}\n\
             [neighbors.transport.config]\npassive-mode = true\n"
        )
    });
    format!(
        "[global.config]\nas = {}\nrouter-id = \"{}\"\nlocal-address-list = [\"{}\"]\n{}",
        own.1,
        own.0,
        own.0,
        peers.concat()
    )
}

fn openbgpd(directory: &Path, own: End, others: [End; 2]) -> String {
    let peers = others.map(|(address, asn)| {
        format!(
            "neighbor {address} {{\n remote-as {asn}\n passive\n enforce neighbor-as no\n \
             announce IPv4 unicast\n}}\n"
        )
    });
    format!(
        "AS {}\nrouter-id {}\nlisten on {}\nfib-update no\nsocket \"{}\"\n\
         nexthop qualify via default\n{}allow from any\nallow to any\n",
        own.1,
        own.0,
        own.0,
        directory.join("control").display(),
        peers.concat()
    )
}

/// A running contender, on one core; it is killed when dropped.
pub struct Process(Child);

impl Process {
    /// Starts it in a namespace on this core, with its files in `directory`.
    pub fn start(
        contender: Contender,
        namespace: &Namespace,
        core: usize,
        directory: &Path,
        (own, others): (End, [End; 2]),
    ) -> Result<Self> {
        let program = contender.command(directory, own, others)?;
        let mut command = Command::new("taskset");
        command.arg("-c").arg(core.to_string()).arg(program.get_program());
        command.args(program.get_args());
        let log = fs::File::create(directory.join("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(Self(namespace.command(command).context(contender.name())?))
    }

    /// The process and its children.
    fn all(&self) -> Result<Vec<u32>> {
        let own = self.0.id();
        let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children"))?;
        let children = children.split_ascii_whitespace().map(str::parse::<u32>);
        Ok([Ok(own)].into_iter().chain(children).collect::<Result<_, _>>()?)
    }

    /// User and system seconds of all its threads and children.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let ticks = |process| -> Result<u64> {
            let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
            let (_, fields) = stat.rsplit_once(") ").context("/proc/PID/stat")?;
            let times = fields.split(' ').skip(11).take(2).map(str::parse::<u64>);
            Ok(times.sum::<Result<u64, _>>()?)
        };
        let all = self.all()?.into_iter().map(ticks);
        Ok(all.sum::<Result<u64>>()? as f64 / TICKS)
    }

    /// Mebibytes resident now, and at most so far.
    pub fn memory(&self) -> Result<[f64; 2]> {
        let mut sums = [0.0; 2];
        for process in self.all()? {
            let status = fs::read_to_string(format!("/proc/{process}/status"))?;
            for (sum, name) in sums.iter_mut().zip(["VmRSS:", "VmHWM:"]) {
                let line = status.lines().find_map(|line| line.strip_prefix(name));
                let kibibytes = line.and_then(|line| line.split_ascii_whitespace().next());
                *sum += kibibytes.context(name)?.parse::<f64>()? / 1024.0;
            }
        }
        Ok(sums)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let children = self.all().unwrap_or_default();
        let end = |process: &u32, signal| {
            // It may have ended by itself, or with the first of them.
            let _ = kill(Pid::from_raw(*process as i32), signal);
        };
        end(&self.0.id(), Signal::SIGTERM);
        let began = Instant::now();
        while began.elapsed() < GRACE && matches!(self.0.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        children.iter().for_each(|process| end(process, Signal::SIGKILL));
        let _ = self.0.wait();
    }
}
