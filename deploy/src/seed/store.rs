//! Versions of a seed on the state partition: a folder each, and the symbolic link `current` to the
//! one in effect. A version is written whole and synced under another name before the link is
//! swapped by rename, so that a power cut at any moment leaves the version before or the new one in
//! effect, and whatever else it leaves is removed the next time.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use super::KEYS_DIRECTORY;
use super::files::{Seed, from_folder};
use crate::schema::TENANTS_DIRECTORY;

/// The link to the version in effect.
const CURRENT: &str = "current";
const NEW_CURRENT: &str = "current.new";
/// A version on its way in, and one on its way out.
const NEW: &str = "new";
const OLD: &str = "old";
const VERSION: &str = "version-";
/// The file of a version that says where its seed came from.
const ORIGIN: &str = "origin";
/// Versions before the one in effect that are kept, to look at.
const KEPT_VERSIONS: usize = 3;

/// Why versions cannot be kept; it says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}; see that the disk it is on has room and works")]
pub struct StoreError {
    path: PathBuf,
    source: io::Error,
}

/// Who reads a version: the user and group that the gateway runs as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owner {
    /// The user, who owns files with secrets.
    pub user: u32,
    /// The group, which may read the others, too.
    pub group: u32,
}

/// What a file or folder is allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Permissions {
    /// The mode bits.
    pub mode: u32,
    /// Its user and group; absent to leave them as they are.
    pub owner: Option<(u32, u32)>,
}

/// What the store does to its disk, one step at a time; each is done when it returns, and on disk
/// once its folder is synced.
pub trait Disk {
    /// Makes a folder that was not there.
    fn create_folder(&self, path: &Path, permissions: Permissions) -> io::Result<()>;
    /// Writes a file that was not there and syncs what it holds.
    fn write_file(&self, path: &Path, bytes: &[u8], permissions: Permissions) -> io::Result<()>;
    /// Syncs the entries of a folder.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// Gives something another name, in the place of whatever has that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes a symbolic link that was not there.
    fn link(&self, to: &Path, path: &Path) -> io::Result<()>;
    /// Removes whatever is there, if anything.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// A disk of this machine.
#[derive(Clone, Copy, Debug)]
pub struct LocalDisk;

impl Disk for LocalDisk {
    fn create_folder(&self, path: &Path, permissions: Permissions) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(path)?;
        permit(path, permissions)
    }

    fn write_file(&self, path: &Path, bytes: &[u8], permissions: Permissions) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        permit(path, permissions)?;
        file.sync_all()
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn link(&self, to: &Path, path: &Path) -> io::Result<()> {
        symlink(to, path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let removed = match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
            Ok(_) => fs::remove_file(path),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

fn permit(path: &Path, Permissions { mode, owner }: Permissions) -> io::Result<()> {
    if let Some((user, group)) = owner {
        chown(path, Some(user), Some(group))?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// The version in effect.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kept {
    /// Its number.
    pub version: u64,
    /// Where its seed came from.
    pub source: String,
    /// Its files.
    pub seed: Seed,
}

/// The versions in one folder.
#[derive(Clone, Debug)]
pub struct Store {
    base: PathBuf,
    owner: Option<Owner>,
}

impl Store {
    /// The versions in `base`, for `owner` to read.
    #[must_use]
    pub const fn new(base: PathBuf, owner: Option<Owner>) -> Self {
        Self { base, owner }
    }

    /// The version in effect, if there is one.
    ///
    /// # Errors
    ///
    /// There is one and it cannot be read.
    pub fn current(&self) -> Result<Option<Kept>, StoreError> {
        let link = self.base.join(CURRENT);
        let target = match fs::read_link(&link) {
            Ok(target) => target,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StoreError { path: link, source }),
        };
        let folder = self.base.join(&target);
        let seed = match from_folder(&folder) {
            Ok(seed) => seed,
            Err(source) => return Err(StoreError { path: folder, source }),
        };
        let version = target.to_str().and_then(version_of).unwrap_or(0);
        let source = fs::read_to_string(folder.join(ORIGIN)).unwrap_or_default();
        Ok(Some(Kept { version, source: source.trim().to_owned(), seed }))
    }

    /// Puts a seed that holds in effect and returns its version; it is on disk then.
    ///
    /// # Errors
    ///
    /// A step failed: the version before is in effect, or already the new one.
    pub fn put(&self, disk: &dyn Disk, seed: &Seed, source: &str) -> Result<u64, StoreError> {
        self.tidy(disk)?;
        let newest = self.versions()?.pop().unwrap_or(0);
        let version = newest + 1;
        let new = self.base.join(NEW);
        self.write(disk, &new, seed, source)?;
        let name = format!("{VERSION}{version}");
        step(&new, |path| disk.rename(path, &self.base.join(&name)))?;
        // The version is on disk before anything leads to it.
        step(&self.base, |path| disk.sync_folder(path))?;
        let link = self.base.join(NEW_CURRENT);
        step(&link, |path| disk.link(Path::new(&name), path))?;
        step(&link, |path| disk.rename(path, &self.base.join(CURRENT)))?;
        step(&self.base, |path| disk.sync_folder(path))?;
        self.tidy(disk)?;
        Ok(version)
    }

    fn write(
        &self,
        disk: &dyn Disk,
        folder: &Path,
        seed: &Seed,
        source: &str,
    ) -> Result<(), StoreError> {
        let group = self.owner.map(|owner| (0, owner.group));
        let user = self.owner.map(|owner| (owner.user, owner.group));
        let for_group = |mode| Permissions { mode, owner: group };
        let mut folders = vec![folder.to_owned()];
        folders.extend([TENANTS_DIRECTORY, KEYS_DIRECTORY].map(|name| folder.join(name)));
        for path in &folders {
            step(path, |path| disk.create_folder(path, for_group(0o750)))?;
        }
        for (name, held) in &seed.files {
            let path = folder.join(name);
            let bytes = held.as_ref().map_err(|error| StoreError {
                path: path.clone(),
                source: io::Error::other(error.clone()),
            })?;
            // The gateway takes secrets only from files that nobody but itself may read.
            let permissions = if name.starts_with(KEYS_DIRECTORY) {
                Permissions { mode: 0o400, owner: user }
            } else {
                for_group(0o640)
            };
            step(&path, |path| disk.write_file(path, bytes, permissions))?;
        }
        let origin = folder.join(ORIGIN);
        step(&origin, |path| disk.write_file(path, source.as_bytes(), for_group(0o640)))?;
        for path in folders.iter().rev() {
            step(path, |path| disk.sync_folder(path))?;
        }
        Ok(())
    }

    /// Removes what interrupted changes left, versions that never came into effect among it, and
    /// the oldest versions.
    fn tidy(&self, disk: &dyn Disk) -> Result<(), StoreError> {
        for name in [NEW, NEW_CURRENT, OLD] {
            step(&self.base.join(name), |path| disk.remove(path))?;
        }
        let link = fs::read_link(self.base.join(CURRENT)).ok();
        let current = link.as_deref().and_then(Path::to_str).and_then(version_of);
        let Some(current) = current else { return Ok(()) };
        let versions = self.versions()?;
        let before = versions.iter().filter(|&&version| version < current).count();
        let oldest = versions.iter().take(before.saturating_sub(KEPT_VERSIONS));
        let never = versions.iter().filter(|&&version| version > current);
        let old = self.base.join(OLD);
        for version in oldest.chain(never) {
            let path = self.base.join(format!("{VERSION}{version}"));
            // So that nobody takes a half removed one for a version.
            step(&path, |path| disk.rename(path, &old))?;
            step(&old, |path| disk.remove(path))?;
        }
        Ok(())
    }

    /// The numbers of all versions, in order.
    fn versions(&self) -> Result<Vec<u64>, StoreError> {
        let failed = |source| StoreError { path: self.base.clone(), source };
        let mut versions = Vec::new();
        for entry in fs::read_dir(&self.base).map_err(failed)? {
            versions.extend(entry.map_err(failed)?.file_name().to_str().and_then(version_of));
        }
        versions.sort_unstable();
        Ok(versions)
    }
}

fn version_of(name: &str) -> Option<u64> {
    name.strip_prefix(VERSION)?.parse().ok()
}

fn step<'a>(
    path: &'a Path,
    action: impl FnOnce(&'a Path) -> io::Result<()>,
) -> Result<(), StoreError> {
    action(path).map_err(|source| StoreError { path: path.to_owned(), source })
}
