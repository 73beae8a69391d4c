//! The disk or ISO image that a seed comes on: mounted read-only for as long as it is read.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nvgate_deploy::seed::{Seed, from_folder};

/// The file systems that a seed may be on.
const FILE_SYSTEMS: [&str; 2] = ["vfat", "iso9660"];

/// Reads the seed on the disk `device`.
///
/// # Errors
///
/// It has none of the file systems, or cannot be read.
pub(super) fn read(device: &Path, run: &Path) -> io::Result<Seed> {
    // A folder stands for a disk whose file system is mounted there already.
    if device.is_dir() {
        return from_folder(device);
    }
    let mounted = Mounted::new(device, run.join("disk"))?;
    from_folder(&mounted.0)
}

/// A mounted disk; unmounted when dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn new(device: &Path, at: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&at)?;
        let flags =
            MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        let mut refused = Vec::new();
        for kind in FILE_SYSTEMS {
            match mount(Some(device), &at, Some(kind), flags, None::<&str>) {
                Ok(()) => return Ok(Self(at)),
                Err(error) => refused.push(format!("as {kind}: {}", error.desc())),
            }
        }
        Err(io::Error::other(format!("it cannot be mounted {}", refused.join(", "))))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = umount2(&self.0, MntFlags::MNT_DETACH) {
            tracing::warn!(disk = %self.0.display(), %error, "the seed's disk stays mounted");
        }
    }
}
