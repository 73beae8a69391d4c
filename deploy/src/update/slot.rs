//! Slots: the two pairs of partitions that roots and their hash trees are in.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use super::{Archive, RootHash, UpdateError, at};

/// The size in bytes of the block at a slot's end that says whose it is.
const MARK: u64 = 4096;

/// What a mark begins with; the root hash follows.
const MARK_PREFIX: &str = "nvgate root ";

/// The numbers of the partitions with hash trees; the one before each is its root.
const HASH_PARTITIONS: [u32; 2] = [3, 5];

/// A slot, by its devices.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Slot {
    /// The root file system.
    pub root: PathBuf,
    /// Its hash tree, with the mark behind it.
    pub hashes: PathBuf,
}

/// The root hash that a partition with a hash tree is marked with; none where it cannot be read, as on
/// other disks.
fn marked(hashes: &Path) -> Option<RootHash> {
    let mut device = File::open(hashes).ok()?;
    device.seek(SeekFrom::End(-(MARK as i64))).ok()?;
    let mut block = [0; MARK_PREFIX.len() + RootHash::DIGITS];
    device.read_exact(&mut block).ok()?;
    std::str::from_utf8(&block).ok()?.strip_prefix(MARK_PREFIX)?.parse().ok()
}

impl Slot {
    /// Marks the slot as the one of `hash`, or as nobody's.
    pub(super) fn mark(&self, hash: Option<&RootHash>) -> Result<(), UpdateError> {
        let mut block = hash.map(|hash| format!("{MARK_PREFIX}{hash}")).unwrap_or_default();
        block.extend(std::iter::repeat_n('\0', MARK as usize - block.len()));
        let write = || {
            let mut device = OpenOptions::new().write(true).open(&self.hashes)?;
            device.seek(SeekFrom::End(-(MARK as i64)))?;
            device.write_all(block.as_bytes())?;
            device.sync_all()
        };
        write().map_err(at(&self.hashes))
    }

    pub(super) fn check_room(&self, archive: &Archive) -> Result<(), UpdateError> {
        let parts = [
            ("the root", &archive.root, &self.root, 0),
            ("the hash tree", &archive.hashes, &self.hashes, MARK),
        ];
        for (what, part, device, taken) in parts {
            let end = |path| File::open(path)?.seek(SeekFrom::End(0));
            let room = end(device).map_err(at(device))?.saturating_sub(taken);
            if part.bytes > room {
                return Err(UpdateError::TooLarge { what, bytes: part.bytes, room });
            }
        }
        Ok(())
    }

    /// Has the kernel forget what it wrote, so that the next reader reads the disk.
    pub(super) fn drop_cache(&self) -> Result<(), UpdateError> {
        for device in [&self.root, &self.hashes] {
            let file = File::open(device).map_err(at(device))?;
            posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)
                .map_err(|error| at(device)(error.into()))?;
        }
        Ok(())
    }
}

/// The slots of the disk that the machine runs from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Slots {
    /// The one that runs.
    pub running: Slot,
    /// The one that updates are written to.
    pub other: Slot,
}

impl Slots {
    /// Finds the slots of the machine that runs `hash`, by its kernel's `sys` and `dev`.
    ///
    /// # Errors
    ///
    /// If no disk has a slot of this hash, or one of its partitions is missing.
    pub fn find(sys: &Path, dev: &Path, hash: &RootHash) -> Result<Self, UpdateError> {
        let class = sys.join("class/block");
        let entries = fs::read_dir(&class).map_err(at(&class))?;
        for entry in entries {
            let entry = entry.map_err(at(&class))?;
            let Some(number) = partition_number(&entry.path()) else { continue };
            if !HASH_PARTITIONS.contains(&number) {
                continue;
            }
            if marked(&dev.join(entry.file_name())).as_ref() != Some(hash) {
                continue;
            }
            let disk = entry.path().canonicalize().map_err(at(&entry.path()))?;
            let disk = disk.parent().unwrap_or(&disk);
            let slot = |hashes| {
                Ok(Slot {
                    root: device(disk, dev, hashes - 1)?,
                    hashes: device(disk, dev, hashes)?,
                })
            };
            let [a, b] = HASH_PARTITIONS;
            let other = if number == a { b } else { a };
            return Ok(Self { running: slot(number)?, other: slot(other)? });
        }
        Err(UpdateError::NotAnImage(format!("no disk has the root {hash}")))
    }
}

fn partition_number(path: &Path) -> Option<u32> {
    fs::read_to_string(path.join("partition")).ok()?.trim().parse().ok()
}

/// The device of a disk's partition, by its number.
fn device(disk: &Path, dev: &Path, number: u32) -> Result<PathBuf, UpdateError> {
    for entry in fs::read_dir(disk).map_err(at(disk))? {
        let entry = entry.map_err(at(disk))?;
        if partition_number(&entry.path()) == Some(number) {
            return Ok(dev.join(entry.file_name()));
        }
    }
    Err(UpdateError::NotAnImage(format!("{} has no partition {number}", disk.display())))
}
