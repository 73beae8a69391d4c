//! Entries of the boot loader: unified kernel images on the ESP, named `nvgate_SERIAL.efi`, with
//! `+LEFT-DONE` behind the serial while they are being tried (systemd's Automatic Boot Assessment).
//! The boot loader starts the one with the highest serial that has tries left.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::{Archive, RootHash, UpdateError, at, sync_directory};

/// How an update's kernel comes onto the ESP: a boot loader lists `.efi` only.
const UNFINISHED: &str = "nvgate.new";

/// How much of a kernel image its names are in, in bytes: the kernel itself is behind them.
pub(super) const HEAD: usize = 1 << 20;

/// Boots that an entry was given to show that it is good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tries {
    /// That are left; with none, the boot loader takes another entry.
    pub left: u32,
    /// That were used up.
    pub done: u32,
}

/// A kernel image on the ESP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The file.
    pub path: PathBuf,
    /// Entries with greater serials are booted first.
    pub serial: u32,
    /// None for an entry that is known to be good.
    pub tries: Option<Tries>,
    /// The root that it starts.
    pub hash: Option<RootHash>,
    /// The version that it says to have.
    pub version: Option<String>,
}

impl Entry {
    /// Whether it was tried and did not become ready.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.tries.is_some_and(|tries| tries.left == 0)
    }

    fn read(path: PathBuf) -> Result<Option<Self>, UpdateError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some((serial, tries)) = parse(&name) else { return Ok(None) };
        let mut head = Vec::new();
        File::open(&path)
            .and_then(|file| file.take(HEAD as u64).read_to_end(&mut head))
            .map_err(at(&path))?;
        let hash = hash_of(&head);
        let version = named(&head, b"PRETTY_NAME=\"nvgate ", |byte| byte != b'"');
        Ok(Some(Self { path, serial, tries, hash, version }))
    }
}

/// The root that a kernel image starts, by how the image begins.
pub(super) fn hash_of(head: &[u8]) -> Option<RootHash> {
    named(head, b"roothash=", |byte| byte.is_ascii_hexdigit())?.parse().ok()
}

/// What follows `label` in `head`, as long as it is of `allowed` bytes.
fn named(head: &[u8], label: &[u8], allowed: impl Fn(u8) -> bool) -> Option<String> {
    let at = head.windows(label.len()).position(|window| window == label)?;
    let value = head.get(at + label.len()..)?.iter().copied().take_while(|&byte| allowed(byte));
    String::from_utf8(value.take(RootHash::DIGITS).collect()).ok()
}

/// The serial and the tries of an entry's name.
fn parse(name: &str) -> Option<(u32, Option<Tries>)> {
    let stem = name.strip_prefix("nvgate_")?.strip_suffix(".efi")?;
    let Some((serial, tries)) = stem.split_once('+') else {
        return Some((stem.parse().ok()?, None));
    };
    let (left, done) = tries.split_once('-').unwrap_or((tries, "0"));
    let tries = Tries { left: left.parse().ok()?, done: done.parse().ok()? };
    Some((serial.parse().ok()?, Some(tries)))
}

/// The entries of a boot loader.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entries {
    folder: PathBuf,
    /// The one that is booted first comes first, were none of them tried.
    pub list: Vec<Entry>,
}

impl Entries {
    /// Reads the folder they are in: `EFI/Linux` of the ESP.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn read(folder: &Path) -> Result<Self, UpdateError> {
        let mut list = Vec::new();
        for entry in fs::read_dir(folder).map_err(at(folder))? {
            list.extend(Entry::read(entry.map_err(at(folder))?.path())?);
        }
        list.sort_by_key(|entry| std::cmp::Reverse(entry.serial));
        Ok(Self { folder: folder.to_owned(), list })
    }

    /// The versions that were tried and did not become ready, the newest first; not what is being
    /// tried now, whose last try is used up while it runs.
    pub fn given_up(&self, running: &RootHash) -> impl Iterator<Item = &str> {
        let left = |entry: &&Entry| entry.has_failed() && entry.hash.as_ref() != Some(running);
        let failed = self.list.iter().filter(left);
        failed.map(|entry| entry.version.as_deref().unwrap_or("?"))
    }

    /// Whether the boot loader could start another root than `running`.
    #[must_use]
    pub fn has_other_than(&self, running: &RootHash) -> bool {
        self.list.iter().any(|entry| !entry.has_failed() && entry.hash.as_ref() != Some(running))
    }

    /// Removes every entry but those of `running`.
    pub(super) fn keep_only(&self, running: &RootHash) -> Result<(), UpdateError> {
        for entry in self.list.iter().filter(|entry| entry.hash.as_ref() != Some(running)) {
            fs::remove_file(&entry.path).map_err(at(&entry.path))?;
        }
        sync_directory(&self.folder)
    }

    /// Adds the kernel of an update, to be booted next and once.
    pub(super) fn enter(&self, archive: &Archive) -> Result<(), UpdateError> {
        let serial = self.list.first().map_or(0, |entry| entry.serial).saturating_add(1);
        let unfinished = self.folder.join(UNFINISHED);
        File::create(&unfinished).map_err(at(&unfinished))?;
        archive.copy(&archive.kernel, &unfinished)?;
        let finished = self.folder.join(format!("nvgate_{serial}+1.efi"));
        fs::rename(&unfinished, &finished).map_err(at(&finished))?;
        sync_directory(&self.folder)
    }
}
