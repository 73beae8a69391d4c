//! The right to make network namespaces: root's, or this user's own inside a user namespace.

use std::fs;
use std::io;

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

/// `CAP_NET_ADMIN`, `CAP_NET_RAW` and `CAP_SYS_ADMIN` (capabilities(7)).
const NEEDED_CAPABILITIES: u64 = 1 << 12 | 1 << 13 | 1 << 21;

/// Where the right comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Privilege {
    /// The process has the capabilities where it is.
    Given,
    /// The process is now in a user namespace of its own, where it has all of them.
    UserNamespace,
}

/// Makes sure that this process may make network namespaces. Call it while the process has one
/// thread: the kernel moves nothing else into a user namespace. The error says what to run.
pub fn acquire() -> anyhow::Result<Privilege> {
    if capabilities()? & NEEDED_CAPABILITIES == NEEDED_CAPABILITIES {
        return Ok(Privilege::Given);
    }
    let (user, group) = (geteuid(), getegid());
    match unshare(CloneFlags::CLONE_NEWUSER) {
        Ok(()) => {}
        Err(Errno::ENOSPC) => bail!(
            "no user namespace can be made here (user.max_user_namespaces is used up): run `sudo \
             {0}`, or `sudo sysctl user.max_user_namespaces=10000` first",
            own_command()
        ),
        Err(Errno::EPERM) => bail!(
            "this user may not make network namespaces here: run `sudo {0}`, or `sudo sysctl \
             kernel.unprivileged_userns_clone=1` first; in a container, start it with \
             `--privileged`",
            own_command()
        ),
        Err(error) => {
            bail!("no user namespace can be made here ({error}): run `sudo {}`", own_command())
        }
    }
    map_ids(user.as_raw(), group.as_raw()).with_context(|| {
        format!(
            "this user may not use a user namespace here: run `sudo {0}`, or `sudo sysctl \
             kernel.apparmor_restrict_unprivileged_userns=0` first",
            own_command()
        )
    })?;
    Ok(Privilege::UserNamespace)
}

fn map_ids(user: u32, group: u32) -> io::Result<()> {
    fs::write("/proc/self/uid_map", format!("0 {user} 1\n"))?;
    // A group map may only be written once setgroups(2) is given up (user_namespaces(7)).
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/gid_map", format!("0 {group} 1\n"))
}

/// The effective capabilities of this process as a bit set.
fn capabilities() -> anyhow::Result<u64> {
    let status =
        fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
        .context("/proc/self/status names no capabilities")
}

fn own_command() -> String {
    let program = std::env::current_exe()
        .map_or_else(|_| "nvgate".into(), |path| path.to_string_lossy().into_owned());
    format!("{program} demo")
}
