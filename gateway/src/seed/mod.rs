//! The seed of an image on its machine: found, applied before anything uses the network, shown, and
//! waited for. What a seed is and what is to be done with one is decided in `nvgate_deploy::seed`;
//! here it is done to the machine, as root and once a boot. The gateway itself only reads the report.

mod apply;
mod console;
mod disk;
pub mod health;
mod show;
#[cfg(test)]
mod tests;
mod wait;

use std::path::{Path, PathBuf};
use std::time::Duration;

use nvgate_deploy::seed::LABEL;

pub use apply::{ApplyError, Links, apply};
pub use console::{consoles, write_to};
pub use show::{Machine, render};
pub use wait::{WaitError, wait};

/// Where a seed's report is.
pub const REPORT: &str = "/run/nvgate-seed/report.json";
/// The link of the management port, by its role.
pub const MANAGEMENT_LINK: &str = "mgmt0";
/// How long a NIC that has a role may take to appear.
const NIC_WAIT: Duration = Duration::from_secs(10);
/// How long a disk may take to appear when nothing else says what the machine is.
const DISK_WAIT: Duration = Duration::from_secs(5);

/// Where everything is that a seed is read from and written to, and how long it may take to be
/// there.
#[derive(Clone, Debug)]
pub struct Places {
    /// The device of the seed's disk.
    pub disk: PathBuf,
    /// The directory of systemd credentials.
    pub credentials: PathBuf,
    /// The versions, and the folder `seed`.
    pub store: PathBuf,
    /// What is true until the machine ends.
    pub run: PathBuf,
    /// The kernel's name of the machine.
    pub hostname: PathBuf,
    /// What tells systemd-networkd to leave the management link alone.
    pub unmanaged: PathBuf,
    /// The configuration, which is there when the gateway may start.
    pub configuration: PathBuf,
    /// How long a NIC that has a role may take to appear.
    pub nic_wait: Duration,
    /// How long a disk may take to appear when nothing else says what the machine is.
    pub disk_wait: Duration,
}

impl Places {
    /// Those of the machine whose root directory is `root`.
    #[must_use]
    pub fn below(root: &Path) -> Self {
        Self {
            disk: root.join("dev/disk/by-label").join(LABEL),
            credentials: root.join("run/credentials/@system"),
            store: root.join("var/lib/nvgate-seed"),
            run: root.join("run/nvgate-seed"),
            hostname: root.join("proc/sys/kernel/hostname"),
            unmanaged: root.join("run/systemd/network/70-nvgate-management.network"),
            configuration: root.join("etc/nvgate/gateway.yaml"),
            nic_wait: NIC_WAIT,
            disk_wait: DISK_WAIT,
        }
    }

    /// The seed that is a folder on the state partition.
    fn folder(&self) -> PathBuf {
        self.store.join("seed")
    }

    fn report(&self) -> PathBuf {
        self.run.join("report.json")
    }

    fn authorized_keys(&self) -> PathBuf {
        self.run.join("authorized_keys")
    }
}
