//! Network namespaces and the processes in them: made for one test, gone with it, also when it
//! panics. Everything is called by `ip netns exec`; every command is bounded in time.

use std::fs::{self, File};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// What all namespaces of these tests begin with; the next part is the test's process id.
const PREFIX: &str = "nvgate-ovs-";
/// Where `ip netns` keeps namespaces.
const NAMESPACES: &str = "/run/netns";
/// The longest that a command may take, in seconds, unless it is a [`Process`].
const COMMAND_SECS: u32 = 30;
/// How long a process has to leave after SIGTERM.
const LEAVE: Duration = Duration::from_secs(5);

/// Labs made by this process, so that two in one process do not share names.
static LABS: AtomicU32 = AtomicU32::new(0);

/// A set of namespaces with a folder for sockets, logs and captures.
pub struct Lab {
    prefix: String,
    names: Vec<String>,
    directory: TempDir,
}

impl Lab {
    /// An empty lab. Namespaces of test processes that were killed are removed first.
    ///
    /// # Errors
    ///
    /// When no temporary folder can be made.
    pub fn new() -> Result<Self> {
        sweep();
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        Ok(Self {
            prefix: format!("{PREFIX}{}-{number}-", std::process::id()),
            names: Vec::new(),
            directory: TempDir::with_prefix("nvgate-ovs-").context("making a temporary folder")?,
        })
    }

    /// The lab's folder.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Makes a namespace with its loopback up and IPv6 on or off for all its links.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn namespace(&mut self, name: &str, ipv6: Ipv6) -> Result<Namespace> {
        let full = format!("{}{name}", self.prefix);
        run(&mut words("ip", &format!("netns add {full}")))?;
        self.names.push(full.clone());
        let namespace = Namespace { name: full, log: self.directory().join(format!("{name}.log")) };
        namespace.run("ip link set lo up")?;
        for scope in ["all", "default"] {
            let setting = match ipv6 {
                Ipv6::Off => "disable_ipv6=1",
                Ipv6::On => "accept_dad=0",
            };
            namespace.run(&format!("sysctl -qw net.ipv6.conf.{scope}.{setting}"))?;
        }
        Ok(namespace)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in &self.names {
            remove_namespace(name);
        }
    }
}

/// Whether a namespace's links have IPv6.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ipv6 {
    /// Addresses work at once, without duplicate address detection.
    On,
    /// No IPv6 frame leaves by itself.
    Off,
}

/// One network namespace.
#[derive(Clone, Debug)]
pub struct Namespace {
    name: String,
    log: PathBuf,
}

impl Namespace {
    /// The namespace itself, for a thread that wants to enter it.
    ///
    /// # Errors
    ///
    /// When the namespace is gone.
    pub fn open(&self) -> Result<File> {
        let path = Path::new(NAMESPACES).join(&self.name);
        File::open(&path).with_context(|| format!("opening {}", path.display()))
    }

    /// Runs a command, given as words between blanks, to its end; returns what it printed.
    ///
    /// # Errors
    ///
    /// When it fails or takes longer than 30 s, with what it said.
    pub fn run(&self, line: &str) -> Result<String> {
        let output = self.output(line)?;
        ensure!(
            output.status.success(),
            "{}: `{line}`: {}: {}{}",
            self.name,
            output.status,
            String::from_utf8_lossy(&output.stderr),
            String::from_utf8_lossy(&output.stdout)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a command as [`Namespace::run`] does and returns however it ended.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn output(&self, line: &str) -> Result<Output> {
        let bounded = format!("timeout --kill-after=1 {COMMAND_SECS} {line}");
        words("ip", &format!("netns exec {} {bounded}", self.name))
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("running `{line}`"))
    }

    /// Starts a command in the background; it dies with the returned value, or with the calling
    /// thread. What it says goes to the namespace's log.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn spawn(&self, line: &str, environment: &[(&str, &Path)]) -> Result<Process> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let bound_to_us = format!("setpriv --pdeathsig KILL {line}");
        let child = words("ip", &format!("netns exec {} {bound_to_us}", self.name))
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting `{line}`"))?;
        Ok(Process { child, line: line.to_owned(), log: self.log.clone() })
    }

    /// Whether something listens on a TCP port.
    #[must_use]
    pub fn listens(&self, port: u16) -> bool {
        self.run(&format!("ss -H -l -t -n sport = :{port}"))
            .is_ok_and(|sockets| !sockets.is_empty())
    }

    /// Joins this namespace and another by a veth pair, both ends up.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn link(&self, own: &str, other: &Namespace, theirs: &str, mtu: u16) -> Result<()> {
        run(&mut words(
            "ip",
            &format!(
                "link add name {own} netns {} mtu {mtu} type veth peer name {theirs} netns {} mtu {mtu}",
                self.name, other.name
            ),
        ))?;
        self.run(&format!("ip link set dev {own} up"))?;
        other.run(&format!("ip link set dev {theirs} up"))?;
        Ok(())
    }

    /// Makes a link send complete checksums and frames of at most its MTU.
    ///
    /// # Errors
    ///
    /// When ethtool fails.
    pub fn without_offloads(&self, link: &str) -> Result<()> {
        self.run(&format!("ethtool -K {link} tx off tso off gso off gro off")).map(drop)
    }

    /// Sends `count` echo requests of `size` payload bytes that must not be fragmented; says
    /// whether all were answered.
    ///
    /// # Errors
    ///
    /// When ping cannot be started.
    pub fn pings(&self, target: IpAddr, count: u32, size: u16) -> Result<bool> {
        let line = format!("ping -n -q -i 0.2 -W 2 -M do -c {count} -s {size} {target}");
        let output = self.output(&line)?;
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(output.status.success() && text.contains(&format!(" {count} received")))
    }
}

/// A process in the background.
#[derive(Debug)]
pub struct Process {
    child: Child,
    line: String,
    log: PathBuf,
}

impl Process {
    /// Fails when the process has ended by itself.
    ///
    /// # Errors
    ///
    /// With the end of its log.
    pub fn must_run(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("`{}` ended ({status}):\n{}", self.line, self.log_end());
        }
        Ok(())
    }

    /// Asks the process to leave (SIGTERM); kills it when it does not within 5 s.
    ///
    /// # Errors
    ///
    /// When it had to be killed.
    pub fn stop(mut self) -> Result<()> {
        ensure!(self.leaves()?, "`{}` did not leave:\n{}", self.line, self.log_end());
        Ok(())
    }

    /// Waits until the process ends by itself.
    ///
    /// # Errors
    ///
    /// When it does not within `limit`, or not with success.
    pub fn finish(mut self, limit: Duration) -> Result<()> {
        let end = wait_until(limit, || self.child.try_wait().ok().flatten())
            .with_context(|| format!("`{}` takes too long", self.line))?;
        ensure!(end.success(), "`{}`: {end}:\n{}", self.line, self.log_end());
        Ok(())
    }

    /// The last lines of the log that the process writes to.
    #[must_use]
    pub fn log_end(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    fn leaves(&mut self) -> Result<bool> {
        if self.child.try_wait()?.is_some() {
            return Ok(true);
        }
        let pid = i32::try_from(self.child.id()).context("a process id beyond the kernel's")?;
        kill(Pid::from_raw(pid), Signal::SIGTERM).ok();
        Ok(wait_until(LEAVE, || self.child.try_wait().ok().flatten()).is_ok())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.leaves().unwrap_or(false) {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}

/// Asks `found` every 20 ms until it has an answer.
///
/// # Errors
///
/// When it has none within `limit`.
pub fn wait_until<T>(limit: Duration, mut found: impl FnMut() -> Option<T>) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(answer) = found() {
            return Ok(answer);
        }
        ensure!(Instant::now() < end, "nothing within {limit:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs a command to its end.
///
/// # Errors
///
/// When it fails, with what it said.
pub fn run(command: &mut Command) -> Result<String> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("running {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A command from words between blanks.
#[must_use]
pub fn words(program: &str, line: &str) -> Command {
    let mut command = Command::new(program);
    command.args(line.split_ascii_whitespace());
    command
}

fn remove_namespace(name: &str) {
    if let Err(error) = run(&mut words("ip", &format!("netns del {name}"))) {
        println!("{error:#}");
    }
}

/// Removes namespaces of test processes that no longer run.
fn sweep() {
    let Ok(entries) = fs::read_dir(NAMESPACES) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if process.is_some_and(|id| !Path::new("/proc").join(id).exists()) {
            remove_namespace(&name);
        }
    }
}
