//! The third-party programs that the interoperation tests speak to, from Debian's packages and one
//! from crates.io. This installs what is missing without letting a package start its daemon on the
//! host, and refuses anything but root on Debian.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::guest;
use crate::stages::target_directory;

/// A program that tests run, and the Debian package it comes in.
const PEERS: [(&str, &str); 25] = [
    ("ovs-vswitchd", "openvswitch-switch"),
    ("tshark", "tshark"),
    ("iperf3", "iperf3"),
    ("tcpdump", "tcpdump"),
    ("ip", "iproute2"),
    ("ping", "iputils-ping"),
    ("curl", "curl"),
    ("ethtool", "ethtool"),
    ("sysctl", "procps"),
    ("setpriv", "util-linux"),
    ("wg", "wireguard-tools"),
    ("wireguard-go", "wireguard-go"),
    ("bird", "bird2"),
    ("vtysh", "frr"),
    ("gobgpd", "gobgpd"),
    ("bgpctl", "openbgpd"),
    ("exabgp", "exabgp"),
    ("unshare", "util-linux"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("depmod", "kmod"),
    ("xz", "xz-utils"),
    ("systemd-analyze", "systemd"),
    ("dpkg-shlibdeps", "dpkg-dev"),
    ("strip", "binutils"),
];

/// A WireGuard program that no distribution has, and its version on crates.io. It is built once,
/// into the target directory.
const CRATE: (&str, &str) = ("boringtun-cli", "0.7.1");

/// Where Debian asks whether a package may start its daemon (`invoke-rc.d`).
const DAEMON_POLICY: &str = "/usr/sbin/policy-rc.d";

/// Whether [`install`] may be tried here; the reason when not.
pub fn installable() -> Result<(), String> {
    if !is_root() {
        return Err("not root".to_owned());
    }
    if !Path::new("/etc/debian_version").exists() || !on_path("apt-get") {
        return Err("not Debian".to_owned());
    }
    Ok(())
}

/// The packages of the programs that are not on this machine.
pub fn missing() -> Vec<&'static str> {
    PEERS.iter().filter(|(program, _)| !on_path(program)).map(|(_, package)| *package).collect()
}

/// Installs what is missing and says what it did.
pub fn install() -> Result<String> {
    let packages = install_missing()?;
    let packages = format!("{packages}; {}", guest::install()?);
    let (program, version) = CRATE;
    if on_path(program) || crate_root()?.join("bin").join(program).is_file() {
        return Ok(packages);
    }
    let status = Command::new(env!("CARGO"))
        .args(["install", "--quiet", "--locked", "--no-track", "--version", version, "--root"])
        .arg(crate_root()?)
        .arg(program)
        .status()
        .context("running cargo install")?;
    ensure!(status.success(), "cargo install {program} failed: {status}");
    Ok(format!("{packages}; built {program} {version}"))
}

/// The search path with what [`install`] built.
pub fn search_path() -> Result<std::ffi::OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain([crate_root()?.join("bin")]);
    Ok(std::env::join_paths(directories)?)
}

fn crate_root() -> Result<PathBuf> {
    Ok(target_directory()?.join("peers"))
}

fn install_missing() -> Result<String> {
    let packages = missing();
    if packages.is_empty() {
        return Ok("all packages are installed".to_owned());
    }
    install_packages(&packages)?;
    let absent = missing();
    ensure!(absent.is_empty(), "installed, but still without {}", absent.join(" "));
    Ok(format!("installed {}", packages.join(" ")))
}

/// Installs packages without letting one start its daemon.
pub fn install_packages(packages: &[&str]) -> Result<()> {
    if let Err(reason) = installable() {
        bail!("cannot install {}: {reason}", packages.join(" "));
    }
    let policy = DaemonPolicy::forbid()?;
    let installed = apt_install(packages).or_else(|_| {
        apt(&["update"])?;
        apt_install(packages)
    });
    policy.restore()?;
    installed
}

fn apt_install(packages: &[&str]) -> Result<()> {
    let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
    arguments.extend(packages);
    apt(&arguments)
}

/// Runs apt-get without questions.
pub fn apt(arguments: &[&str]) -> Result<()> {
    let status = Command::new("apt-get")
        .args(["-qq", "-o", "DPkg::Lock::Timeout=120", "-o", "Dpkg::Options::=--force-confold"])
        .args(["-o", "Dpkg::Use-Pty=0"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .status()
        .context("running apt-get")?;
    ensure!(status.success(), "apt-get {} failed: {status}", arguments.join(" "));
    Ok(())
}

/// Forbids packages to start daemons while it lives; puts back what was there before.
struct DaemonPolicy {
    path: PathBuf,
    before: Option<(Vec<u8>, fs::Permissions)>,
    restored: bool,
}

impl DaemonPolicy {
    fn forbid() -> Result<Self> {
        Self::forbid_at(Path::new(DAEMON_POLICY))
    }

    fn forbid_at(path: &Path) -> Result<Self> {
        let before = match fs::read(path) {
            Ok(content) => Some((content, fs::metadata(path)?.permissions())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).context(format!("reading {}", path.display())),
        };
        let policy = Self { path: path.to_owned(), before, restored: false };
        fs::write(path, "#!/bin/sh\nexit 101\n")
            .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)))
            .with_context(|| format!("writing {}", path.display()))?;
        Ok(policy)
    }

    fn restore(mut self) -> Result<()> {
        self.put_back().with_context(|| format!("restoring {}", self.path.display()))
    }

    fn put_back(&mut self) -> std::io::Result<()> {
        self.restored = true;
        match self.before.take() {
            Some((content, permissions)) => {
                fs::write(&self.path, content)?;
                fs::set_permissions(&self.path, permissions)
            }
            None => fs::remove_file(&self.path),
        }
    }
}

impl Drop for DaemonPolicy {
    fn drop(&mut self) {
        if !self.restored
            && let Err(error) = self.put_back()
        {
            eprintln!("cannot restore {}: {error}", self.path.display());
        }
    }
}

/// Whether this process is root.
pub fn is_root() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        status
            .lines()
            .find_map(|line| line.strip_prefix("Uid:"))
            .and_then(|ids| ids.split_whitespace().nth(1))
            == Some("0")
    })
}

/// Whether a program is in one of the directories of `PATH`, or in a system directory that an
/// ordinary user's `PATH` leaves out.
pub fn on_path(program: impl AsRef<OsStr>) -> bool {
    let program = Path::new(program.as_ref());
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|directory| directory.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn temporary(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("nvgate-xtask-{}-{name}", std::process::id()))
    }

    #[test]
    fn a_daemon_policy_that_was_there_comes_back_with_its_mode() {
        let path = temporary("policy-kept");
        fs::write(&path, "#!/bin/sh\nexit 0\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        let policy = DaemonPolicy::forbid_at(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "#!/bin/sh\nexit 101\n");
        policy.restore().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "#!/bin/sh\nexit 0\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_daemon_policy_of_our_own_leaves_with_us_even_unasked() {
        let path = temporary("policy-new");
        drop(DaemonPolicy::forbid_at(&path).unwrap());
        assert!(!path.exists());
    }
}
