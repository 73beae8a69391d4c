//! What a service manager sees of the gateway: what it is told and when, that it hears nothing more
//! of a gateway one thread of which stands still, and which capabilities threads keep.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use nvgate_tests::run_lab::{PATIENCE, RunLab, binary};

/// The time of about four keepalives.
const QUIET: Duration = Duration::from_secs(4);

const UNIT: &str = include_str!("../../deploy/package/root/usr/lib/systemd/system/nvgate.service");
/// `RestartSec` of the unit.
const RESTART_AFTER: Duration = Duration::from_millis(250);

/// A gateway whose service manager is the test.
struct Managed {
    child: Child,
    socket: UnixDatagram,
}

impl Managed {
    fn start(lab: &RunLab) -> Result<Self> {
        let path = lab.config().join("notify");
        let socket = UnixDatagram::bind(&path)?;
        let mut command = Command::new(binary()?);
        command.arg("run").arg("--config").arg(lab.config());
        command.env("NOTIFY_SOCKET", path).stdin(Stdio::null());
        let child = lab.site.gateway.command(command)?;
        Ok(Self { child, socket })
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// The next message, if there is one within this time.
    fn hear(&self, patience: Duration) -> Result<Option<String>> {
        let mut bytes = [0; 1024];
        self.socket.set_read_timeout(Some(patience.max(Duration::from_millis(1))))?;
        match self.socket.recv(&mut bytes) {
            Ok(length) => Ok(Some(String::from_utf8(bytes[..length].to_vec())?)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for a message that begins so, and returns those that came until then, and it.
    fn hear_until(&self, beginning: &str) -> Result<Vec<String>> {
        let deadline = Instant::now() + PATIENCE;
        let mut heard = Vec::new();
        while let Some(message) = self.hear(deadline.duration_since(Instant::now()))? {
            let found = message.starts_with(beginning);
            heard.push(message);
            if found {
                return Ok(heard);
            }
        }
        bail!("no {beginning} in {heard:?}")
    }

    /// The threads by name, each with its id.
    fn threads(&self) -> Result<BTreeMap<String, (Pid, PathBuf)>> {
        let mut threads = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{}/task", self.pid()))? {
            let path = entry?.path();
            let id = path.file_name().and_then(|name| name.to_str()).context("an id")?.parse()?;
            let name = fs::read_to_string(path.join("comm"))?.trim().to_owned();
            threads.insert(name, (Pid::from_raw(id), path));
        }
        Ok(threads)
    }
}

impl Drop for Managed {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A line of a thread's status that is a set of capabilities.
fn capabilities(path: &std::path::Path, set: &str) -> Result<u64> {
    let status = fs::read_to_string(path.join("status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(set)).context("no such set")?;
    Ok(u64::from_str_radix(line.trim_start_matches(':').trim(), 16)?)
}

#[test]
fn a_service_manager_is_told_of_the_start_every_reload_and_the_end() -> Result<()> {
    const TEST: &str = "a_service_manager_is_told_of_the_start_every_reload_and_the_end";
    let Some(lab) = RunLab::build(TEST, 2)? else { return Ok(()) };
    let mut gateway = Managed::start(&lab)?;
    let heard = gateway.hear_until("STATUS=")?;
    ensure!(heard == ["READY=1", "STATUS=serving 2 tenants"], "{heard:?}");

    lab.edit("red", "10.1.0.0/24", "10.1.0.0/33")?;
    kill(gateway.pid(), Signal::SIGHUP)?;
    let heard = gateway.hear_until("READY=1")?;
    let heard: Vec<_> = heard.iter().filter(|message| *message != "WATCHDOG=1").collect();
    ensure!(heard.len() == 3 && heard[0].starts_with("RELOADING=1\nMONOTONIC_USEC="), "{heard:?}");
    let refused = "STATUS=serving 2 tenants; the newest configuration is refused: ";
    ensure!(heard[1].starts_with(refused) && heard[1].contains("red.yaml:"), "{heard:?}");

    lab.edit("red", "10.1.0.0/33", "10.1.0.0/24")?;
    kill(gateway.pid(), Signal::SIGHUP)?;
    gateway.hear_until("RELOADING=1")?;
    gateway.hear_until("STATUS=serving 2 tenants")?;
    gateway.hear_until("READY=1")?;

    kill(gateway.pid(), Signal::SIGTERM)?;
    gateway.hear_until("STOPPING=1")?;
    ensure!(gateway.child.wait()?.success(), "it ends in good order");
    Ok(())
}

#[test]
fn a_gateway_that_was_killed_serves_again_within_a_second() -> Result<()> {
    const TEST: &str = "a_gateway_that_was_killed_serves_again_within_a_second";
    let Some(lab) = RunLab::build(TEST, 2)? else { return Ok(()) };
    let mut gateway = Managed::start(&lab)?;
    gateway.hear_until("READY=1")?;
    ensure!(UNIT.contains(&format!("RestartSec={}ms\n", RESTART_AFTER.as_millis())), "{UNIT}");
    let mut took = Vec::new();
    for _ in 0..3 {
        kill(gateway.pid(), Signal::SIGKILL)?;
        let began = Instant::now();
        gateway.child.wait()?;
        fs::remove_file(lab.config().join("notify"))?;
        std::thread::sleep(RESTART_AFTER);
        gateway = Managed::start(&lab)?;
        gateway.hear_until("READY=1")?;
        took.push(began.elapsed());
    }
    took.sort_unstable();
    println!("from kill to READY=1: {took:?}");
    ensure!(took[1] < Duration::from_secs(1), "{took:?}");
    Ok(())
}

#[test]
fn no_keepalive_is_sent_while_any_one_thread_stands_still() -> Result<()> {
    const TEST: &str = "no_keepalive_is_sent_while_any_one_thread_stands_still";
    let Some(lab) = RunLab::build(TEST, 2)? else { return Ok(()) };
    let gateway = Managed::start(&lab)?;
    gateway.hear_until("READY=1")?;
    gateway.hear_until("WATCHDOG=1")?;
    let threads = gateway.threads()?;
    for name in ["nvgate-worker-0", "nvgate-worker-1", "nvgate-speaker", "nvgate"] {
        let (thread, _) = *threads.get(name).as_ref().with_context(|| format!("{threads:?}"))?;
        ptrace::seize(*thread, ptrace::Options::empty())?;
        ptrace::interrupt(*thread)?;
        waitpid(*thread, Some(WaitPidFlag::__WALL))?;
        while gateway.hear(Duration::ZERO)?.is_some() {}
        let deadline = Instant::now() + QUIET;
        let mut heard = Vec::new();
        while let Some(message) = gateway.hear(deadline.duration_since(Instant::now()))? {
            heard.push(message);
        }
        // One is due if the thread had moved since the last.
        let keepalives = heard.iter().filter(|message| *message == "WATCHDOG=1").count();
        ensure!(keepalives <= 1, "{name} stands still, and yet {heard:?}");
        ptrace::detach(*thread, None)?;
        gateway.hear_until("WATCHDOG=1").with_context(|| format!("{name} goes on"))?;
    }
    Ok(())
}

#[test]
fn threads_keep_only_the_capabilities_that_they_go_on_needing() -> Result<()> {
    const TEST: &str = "threads_keep_only_the_capabilities_that_they_go_on_needing";
    // capability.h
    const BIND_SERVICE: u64 = 1 << 10;
    const ADMIN: u64 = 1 << 12;
    // What root has over the files of others.
    const FILES: u64 = 0b1111;
    let Some(lab) = RunLab::build(TEST, 2)? else { return Ok(()) };
    let gateway = Managed::start(&lab)?;
    gateway.hear_until("WATCHDOG=1")?;
    let threads = gateway.threads()?;
    ensure!(threads.len() == 4, "{threads:?}");
    for (name, (_, path)) in &threads {
        let most = match name.as_str() {
            "nvgate" => ADMIN | FILES,
            "nvgate-speaker" => BIND_SERVICE,
            _ => 0,
        };
        for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
            let held = capabilities(path, set)?;
            ensure!(held & !most == 0, "{name} has {held:#x} in {set}");
        }
    }
    let (_, control) = &threads["nvgate"];
    ensure!(capabilities(control, "CapEff")? & ADMIN != 0, "control configures the network");
    Ok(())
}
