//! The virtual machine image in a virtual machine: UEFI, the boot loader, a disk of its own over the
//! built one, and three NICs, under qemu's emulation (no /dev/kvm). Management is qemu's user network, whose
//! two ports lead to SSH and to the health endpoint.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nvgate::admin::Status;
use nvgate::demo::lab::Namespace;
use nvgate::demo::lab::probe::http_get;
use serde_json::Value;
use tempfile::TempDir;

use crate::run_lab_host::run;
use crate::skip::{has_peers, skip_unless_required};

/// Names the directory that `cargo xtask image` wrote.
const IMAGE: &str = "NVGATE_IMAGE";
/// How long a boot may take, from power on to what is waited for.
pub const BOOT: Duration = Duration::from_secs(300);
/// How long a machine may take to power off.
const LEAVE: Duration = Duration::from_secs(60);
/// How long one request to the health endpoint may take.
const ANSWER: Duration = Duration::from_secs(10);
const ANSWER_LIMIT: u64 = 1 << 20;
const LOOK: Duration = Duration::from_millis(200);
/// Lines of the console that an error shows.
const CONSOLE_TAIL: usize = 40;

/// Where the health endpoint and SSH are in the namespace that the machine runs in.
pub const HEALTH: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9470);
const SSH_PORT: u16 = 2222;

/// The MAC addresses of the NICs: management, fabric, front end.
pub const MACS: [&str; 3] = ["52:54:00:6e:76:01", "52:54:00:6e:76:02", "52:54:00:6e:76:03"];

/// What the firmware says when it starts the boot loader.
const FIRMWARE: &str = "BdsDxe: starting";

const UEFI: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const UEFI_VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

/// The programs that a test of the image runs.
const PROGRAMS: [&str; 7] =
    ["qemu-system-x86_64", "qemu-img", "genisoimage", "ssh", "ssh-keygen", "setpriv", "curl"];

/// The directory with the built image.
///
/// # Panics
///
/// When there is none and `NVGATE_REQUIRE_PEERS` is 1.
#[must_use]
pub fn built(test: &str) -> Option<PathBuf> {
    if !has_peers(test, &PROGRAMS) {
        return None;
    }
    let directory = std::env::var_os(IMAGE).map(PathBuf::from);
    if directory.is_none() {
        skip_unless_required(
            test,
            "needs an image: `cargo xtask image`, and NVGATE_IMAGE set to its directory",
        );
    }
    directory
}

/// The built file with this ending.
///
/// # Errors
///
/// When there is none, or several.
pub fn product(directory: &Path, ending: &str) -> Result<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == ending) {
            found.push(path);
        }
    }
    ensure!(found.len() == 1, "{} files .{ending} in {}", found.len(), directory.display());
    Ok(found.remove(0))
}

/// How the machine is wired.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wiring {
    /// Fabric and front end lead nowhere. Such machines run side by side: each has one processor.
    Unplugged,
    /// They are taps of these names in the namespace, on bridges that a test makes.
    Taps([&'static str; 2]),
}

impl Wiring {
    const fn processors(self) -> &'static str {
        match self {
            Self::Unplugged => "1",
            Self::Taps(_) => "2",
        }
    }
}

/// How the machine gets its seed, a folder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SeedBy<'a> {
    /// It gets none.
    Nothing,
    /// As an ISO image.
    Disk(&'a Path),
    /// As systemd credentials, by qemu's fw_cfg.
    Credentials(&'a Path),
}

/// The credentials of a seed: their names behind the prefix, and their files.
fn credentials(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut found =
        ["seed.yaml", "gateway.yaml"].map(|name| (name.to_owned(), folder.join(name))).to_vec();
    for (directory, kind) in [("tenants.d", "tenants"), ("keys", "keys")] {
        for entry in fs::read_dir(folder.join(directory))? {
            let path = entry?.path();
            let name = path.file_name().context("a file has a name")?.to_string_lossy();
            found.push((format!("{kind}.{name}"), path.clone()));
        }
    }
    Ok(found)
}

/// A machine: its disk and what UEFI remembers, over power cuts.
#[derive(Debug)]
pub struct Appliance {
    directory: TempDir,
    boots: u32,
    running: Option<Child>,
}

impl Appliance {
    /// A machine that was never booted, with a key of its operator's.
    ///
    /// # Errors
    ///
    /// When its disk cannot be made.
    pub fn new(image: &Path) -> Result<Self> {
        let directory = TempDir::with_prefix("nvgate-appliance-")?;
        let machine = Self { directory, boots: 0, running: None };
        let disk = product(image, "qcow2")?;
        let made = Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"])
            .arg(&disk)
            .arg(machine.disk())
            .status()?;
        ensure!(made.success(), "no disk over {}", disk.display());
        fs::copy(UEFI_VARIABLES, machine.path("variables.fd")).context("the package ovmf")?;
        let key = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "operator", "-f"])
            .arg(machine.path("key"))
            .status()?;
        ensure!(key.success(), "no key");
        Ok(machine)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The disk.
    #[must_use]
    pub fn disk(&self) -> PathBuf {
        self.path("disk.qcow2")
    }

    /// The line of the operator's key for a seed.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn key(&self) -> Result<String> {
        Ok(fs::read_to_string(self.path("key.pub"))?.trim().to_owned())
    }

    /// Powers the machine on in a namespace.
    ///
    /// # Errors
    ///
    /// When qemu cannot be started.
    pub fn power_on(
        &mut self,
        namespace: &Namespace,
        wiring: Wiring,
        seed: SeedBy<'_>,
    ) -> Result<()> {
        ensure!(self.running.is_none(), "it runs");
        self.boots += 1;
        let mut qemu = Command::new("setpriv");
        qemu.args(["--pdeathsig", "KILL", "qemu-system-x86_64", "-accel", "tcg,thread=multi"])
            .args(["-machine", "q35", "-cpu", "max", "-smp", wiring.processors(), "-m", "768"])
            .args(["-nodefaults", "-display", "none", "-device", "virtio-rng-pci"])
            .arg("-drive")
            .arg(format!("if=pflash,format=raw,readonly=on,file={UEFI}"))
            .arg("-drive")
            .arg(format!("if=pflash,format=raw,file={}", self.path("variables.fd").display()))
            .arg("-drive")
            .arg(format!("if=virtio,format=qcow2,file={}", self.disk().display()))
            .arg("-serial")
            .arg(format!("file:{}", self.console_file().display()))
            .arg("-monitor")
            .arg(format!("unix:{},server=on,wait=off", self.monitor().display()));
        match seed {
            SeedBy::Nothing => {}
            SeedBy::Disk(folder) => {
                let iso = self.path("seed.iso");
                let made = Command::new("genisoimage")
                    .args(["-quiet", "-V", "NVGATE", "-r", "-J", "-o"])
                    .arg(&iso)
                    .arg(folder)
                    .status()?;
                ensure!(made.success(), "no ISO image of {}", folder.display());
                qemu.arg("-drive")
                    .arg(format!("if=virtio,format=raw,readonly=on,file={}", iso.display()));
            }
            SeedBy::Credentials(folder) => {
                for (name, file) in credentials(folder)? {
                    let name = format!("opt/io.systemd.credentials/nvgate.{name}");
                    qemu.arg("-fw_cfg").arg(format!("name={name},file={}", file.display()));
                }
            }
        }
        let management = format!(
            "user,id=n0,restrict=on,hostfwd=tcp:{HEALTH}-:9470,hostfwd=tcp:127.0.0.1:{SSH_PORT}-:22"
        );
        let others = match wiring {
            Wiring::Unplugged => {
                ["hubport,id=n1,hubid=1".to_owned(), "hubport,id=n2,hubid=2".to_owned()]
            }
            Wiring::Taps([fabric, front]) => [("n1", fabric), ("n2", front)]
                .map(|(id, tap)| format!("tap,id={id},ifname={tap},script=no,downscript=no")),
        };
        for ((index, end), mac) in [management].iter().chain(&others).enumerate().zip(MACS) {
            let card = format!("virtio-net-pci,netdev=n{index},mac={mac},romfile=");
            qemu.args(["-netdev", end, "-device", &card]);
        }
        let complaints = File::create(self.path("qemu.log"))?;
        qemu.stdin(Stdio::null()).stdout(Stdio::null()).stderr(complaints);
        self.running = Some(namespace.command(qemu)?);
        Ok(())
    }

    /// Where qemu takes commands.
    fn monitor(&self) -> PathBuf {
        self.path("monitor")
    }

    fn console_file(&self) -> PathBuf {
        self.path(&format!("console-{}", self.boots))
    }

    /// What the console of this boot shows, without what moves its cursor and colours it.
    #[must_use]
    pub fn console(&self) -> String {
        let text = fs::read(self.console_file()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let mut plain = String::with_capacity(text.len());
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            match character {
                '\u{1b}' => {
                    let ends = |c: &char| c.is_ascii_alphabetic() || *c == '\\';
                    characters.by_ref().find(ends);
                }
                '\r' => {}
                other => plain.push(other),
            }
        }
        plain
    }

    /// Waits until `condition` holds, at most [`BOOT`].
    ///
    /// # Errors
    ///
    /// When the machine ends or it does not come; with the end of the console.
    pub fn wait<T>(
        &mut self,
        what: &str,
        mut condition: impl FnMut(&Self) -> Result<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + BOOT;
        loop {
            let ended = match &mut self.running {
                Some(child) => child.try_wait()?,
                None => bail!("the machine is off"),
            };
            match condition(self) {
                Ok(value) => return Ok(value),
                Err(error) if ended.is_some() || Instant::now() > deadline => {
                    let complaints = fs::read_to_string(self.path("qemu.log")).unwrap_or_default();
                    bail!("{what}: {error:#}; {ended:?} {complaints}\n{}", self.console_tail());
                }
                Err(_) => thread::sleep(LOOK),
            }
        }
    }

    fn console_tail(&self) -> String {
        let console = self.console();
        let lines: Vec<_> = console.lines().collect();
        lines[lines.len().saturating_sub(CONSOLE_TAIL)..].join("\n")
    }

    /// Waits until the console shows `words`.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn wait_console(&mut self, words: &str) -> Result<()> {
        self.wait(words, |machine| {
            ensure!(machine.console().contains(words), "the console does not show it");
            Ok(())
        })
    }

    /// What the health endpoint answers: status code and body.
    ///
    /// # Errors
    ///
    /// When nobody answers.
    pub fn ask(&self, namespace: &Namespace, path: &str) -> Result<(u16, String)> {
        Ok(namespace.run(|| http_get(HEALTH, path, ANSWER, ANSWER_LIMIT))??)
    }

    /// Waits until the gateway in it is ready, and returns how long that took.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn wait_ready(&mut self, namespace: &Namespace) -> Result<Duration> {
        let began = Instant::now();
        self.wait("it is ready", |machine| {
            let (code, body) = machine.ask(namespace, "/readyz")?;
            ensure!(code == 200, "/readyz answers {code}: {body}");
            Ok(())
        })?;
        Ok(began.elapsed())
    }

    /// The health of its components, by name: state and reason.
    ///
    /// # Errors
    ///
    /// When it cannot be had.
    pub fn component(&self, namespace: &Namespace, name: &str) -> Result<(String, String)> {
        let (_, body) = self.ask(namespace, "/healthz")?;
        let health: Value = serde_json::from_str(&body).with_context(|| body.clone())?;
        let all = health["components"].as_array().context("components")?;
        let component = all.iter().find(|component| component["name"] == name);
        let component = component.with_context(|| format!("no {name} in {body}"))?;
        let word = |key: &str| component[key].as_str().unwrap_or_default().to_owned();
        Ok((word("status"), word("reason")))
    }

    /// Its status document.
    ///
    /// # Errors
    ///
    /// When it cannot be had.
    pub fn status(&self, namespace: &Namespace) -> Result<Status> {
        let (code, body) = self.ask(namespace, "/v1/status")?;
        ensure!(code == 200, "/v1/status answers {code}: {body}");
        serde_json::from_str(&body).context("/v1/status")
    }

    fn ssh(&self) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.args(["-q", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"])
            .args(["-o", "BatchMode=yes", "-o", "ConnectTimeout=20", "-o", "ConnectionAttempts=3"])
            .args(["-p", &SSH_PORT.to_string(), "-i"])
            .arg(self.path("key"))
            .arg("root@127.0.0.1");
        ssh
    }

    /// Runs a shell command in the machine, which its operator's key opens; at most [`BOOT`].
    ///
    /// # Errors
    ///
    /// When it fails, with what it said.
    pub fn command(&self, namespace: &Namespace, words: &str) -> Result<String> {
        let mut command = Command::new("timeout");
        command.arg(BOOT.as_secs().to_string());
        let ssh = self.ssh();
        command.arg(ssh.get_program()).args(ssh.get_args()).arg(words);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = namespace.command(command)?.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`{words}` ended with {}: {said}{errors}", output.status);
        Ok(said)
    }

    /// Starts a shell command in the machine whose outcome nobody waits for.
    ///
    /// # Errors
    ///
    /// When there is no process.
    pub fn start(&self, namespace: &Namespace, words: &str) -> Result<Child> {
        let mut ssh = self.ssh();
        ssh.arg(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(namespace.command(ssh)?)
    }

    /// Copies a file into the machine.
    ///
    /// # Errors
    ///
    /// When it does not arrive.
    pub fn copy_in(&self, namespace: &Namespace, from: &Path, to: &str) -> Result<()> {
        let mut ssh = self.ssh();
        ssh.arg(format!("cat >{to} && sync {to}")).stdin(File::open(from)?);
        let status = namespace.command(ssh)?.wait()?;
        ensure!(status.success(), "{} did not arrive", from.display());
        Ok(())
    }

    /// Copies a directory out of the machine.
    ///
    /// # Errors
    ///
    /// When it does not arrive.
    pub fn copy_out(&self, namespace: &Namespace, from: &str, to: &Path) -> Result<()> {
        let archive = self.path("out.tar");
        let mut ssh = self.ssh();
        ssh.arg(format!("tar -C {from} -c .")).stdin(Stdio::null()).stdout(File::create(&archive)?);
        let status = namespace.command(ssh)?.wait()?;
        ensure!(status.success(), "{from} did not arrive");
        let unpacked = Command::new("tar").arg("-C").arg(to).arg("-xf").arg(&archive).status()?;
        ensure!(unpacked.success(), "{from} did not arrive whole");
        Ok(())
    }

    /// Cuts the power.
    ///
    /// # Errors
    ///
    /// When the process does not end.
    pub fn cut_power(&mut self) -> Result<()> {
        if let Some(mut qemu) = self.running.take() {
            qemu.kill()?;
            qemu.wait()?;
        }
        Ok(())
    }

    /// Has the machine start again, as its operator would, and waits until it has gone down.
    ///
    /// # Errors
    ///
    /// When it does not in time.
    pub fn restart(&mut self, namespace: &Namespace) -> Result<()> {
        let boots = self.console().matches(FIRMWARE).count();
        self.start(namespace, "systemctl reboot")?.wait()?;
        self.wait("it starts again", |machine| {
            ensure!(machine.console().matches(FIRMWARE).count() > boots, "it has not gone down");
            Ok(())
        })
    }

    /// Presses its power button, as `virsh shutdown` does, and waits until it is off.
    ///
    /// # Errors
    ///
    /// When it is not in time.
    pub fn power_off(&mut self) -> Result<()> {
        let mut monitor = UnixStream::connect(self.monitor()).context("qemu's monitor")?;
        monitor.write_all(b"system_powerdown\n")?;
        let mut qemu = self.running.take().context("it runs")?;
        let deadline = Instant::now() + LEAVE;
        while qemu.try_wait()?.is_none() {
            if Instant::now() > deadline {
                qemu.kill()?;
                qemu.wait()?;
                bail!("it does not power off:\n{}", self.console_tail());
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        if let Some(qemu) = &mut self.running {
            // It may have ended by itself.
            let _ = qemu.kill();
            let _ = qemu.wait();
        }
    }
}

/// Makes a bridge between a link of the namespace, which loses its addresses to the machine behind it, and a
/// new tap.
///
/// # Errors
///
/// What the kernel refused.
pub fn bridge(namespace: &Namespace, link: &str, tap: &str) -> Result<()> {
    for line in [
        format!("addr flush dev {link}"),
        format!("tuntap add {tap} mode tap"),
        format!("link add br-{tap} type bridge"),
        format!("link set {link} master br-{tap}"),
        format!("link set {tap} master br-{tap} up"),
        format!("link set br-{tap} up"),
    ] {
        let mut command = Command::new("ip");
        command.args(line.split(' '));
        let ended = run(namespace, command)?;
        ensure!(ended.code == Some(0), "ip {line}: {ended:?}");
    }
    Ok(())
}

/// Writes a seed's `seed.yaml` into a folder that has its other files.
///
/// # Errors
///
/// When it cannot be written.
pub fn write_seed(folder: &Path, hostname: &str, key: &str) -> Result<()> {
    let [management, fabric, front_end] = MACS;
    let seed = format!(
        "\
hostname: {hostname}
nics:
  management: {{mac: '{management}'}}
  fabric: {{mac: '{fabric}'}}
  front_end: {{mac: '{front_end}'}}
ssh_authorized_keys:
  - {key}
"
    );
    fs::write(folder.join("seed.yaml"), seed)?;
    fs::set_permissions(folder.join("seed.yaml"), fs::Permissions::from_mode(0o644))?;
    Ok(())
}
