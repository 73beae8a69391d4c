//! Updates of the appliance: a release is written into the slot that does not run, and the boot
//! loader tries it once.
//!
//! A power cut between any two steps leaves a disk that boots: the entry of the other slot goes
//! before its content does, and comes back when the content is verified. Nothing of the running
//! slot, of its entry, of the partition table or of the state is written. See
//! `docs/decisions/022-update.md`.

mod archive;
mod entries;
mod slot;

#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

pub use archive::{Archive, Part};
pub use entries::{Entries, Entry, Tries};
pub use slot::{Slot, Slots};

/// The root of a hash tree: what a root file system's content must be.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RootHash(String);

impl RootHash {
    /// Digits of a root hash: SHA-256 in hexadecimal.
    pub const DIGITS: usize = 64;

    /// The hash that the words of a kernel's command line name.
    #[must_use]
    pub fn of_command_line(words: &str) -> Option<Self> {
        words.split_whitespace().find_map(|word| word.strip_prefix("roothash=")?.parse().ok())
    }
}

impl FromStr for RootHash {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let valid = text.len() == Self::DIGITS && text.bytes().all(digit);
        valid.then(|| Self(text.to_owned())).ok_or(())
    }
}

impl fmt::Display for RootHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Why there is no update. Each says what to do; the running slot is as it was.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// The machine does not run the appliance's image.
    #[error("this machine does not run the nvgate image: {0}; update the package instead")]
    NotAnImage(String),
    /// What runs is not known to be ready, so there would be no way back.
    #[error("this boot is not known to be good yet: wait until `nvgate image status` says `runs`")]
    NotGoodYet,
    /// The archive is not one of an update.
    #[error("{}: {problem}; fetch the .update file again", path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A part is larger than its place.
    #[error(
        "{what} of the update has {bytes} bytes, and its partition room for {room}: write a new image"
    )]
    TooLarge {
        /// The part.
        what: &'static str,
        /// Its size in bytes.
        bytes: u64,
        /// The room in bytes.
        room: u64,
    },
    /// What was written does not read as it should.
    #[error("the slot does not verify after it was written: {0}; is the disk damaged?")]
    NotVerified(String),
    /// The machine does not allow it.
    #[error("{}: {error}", path.display())]
    Io {
        /// What was read or written.
        path: PathBuf,
        /// Why it cannot be.
        error: io::Error,
    },
}

/// Names the file in an input or output error.
fn at(path: &Path) -> impl FnOnce(io::Error) -> UpdateError {
    let path = path.to_owned();
    |error| UpdateError::Io { path, error }
}

/// Makes what happened in a directory last.
fn sync_directory(path: &Path) -> Result<(), UpdateError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(at(path))
}

/// One of the steps of an update, each of which leaves a disk that boots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// The entry of the other slot is taken off the ESP.
    Retire,
    /// The mark of the other slot is taken away.
    Unmark,
    /// The root file system is written.
    WriteRoot,
    /// The hash tree is written.
    WriteHashes,
    /// The slot is read back through the hash tree.
    Verify,
    /// The slot is marked with its root hash.
    Mark,
    /// The kernel comes onto the ESP, to be tried once.
    Enter,
}

impl Step {
    /// In the order in which they are done.
    pub const ALL: [Self; 7] = [
        Self::Retire,
        Self::Unmark,
        Self::WriteRoot,
        Self::WriteHashes,
        Self::Verify,
        Self::Mark,
        Self::Enter,
    ];

    /// What it does, for whoever waits.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Retire => "taking the other slot's entry off the boot menu",
            Self::Unmark => "opening the other slot",
            Self::WriteRoot => "writing the root file system",
            Self::WriteHashes => "writing its hash tree",
            Self::Verify => "reading all of it back",
            Self::Mark => "closing the slot",
            Self::Enter => "entering the new kernel, to be tried once",
        }
    }
}

/// Reads a slot through its hash tree and says why it is not what the hash vouches for.
pub type Verify = fn(&Slot, &RootHash) -> Result<(), UpdateError>;

/// An update that is about to be made.
#[derive(Debug)]
pub struct Update {
    archive: Archive,
    running: RootHash,
    slot: Slot,
    entries: PathBuf,
    verify: Verify,
}

impl Update {
    /// An update by `archive` of the machine that runs `running`, into `slot`, with the boot entries
    /// in the folder `entries`.
    ///
    /// # Errors
    ///
    /// If a part is larger than its partition, the update is what runs, or the folder has no entry
    /// of what runs that is known to be good.
    pub fn new(
        archive: Archive,
        running: RootHash,
        slot: Slot,
        entries: PathBuf,
        verify: Verify,
    ) -> Result<Self, UpdateError> {
        if archive.root_hash == running {
            let problem = format!("{} is what runs already", archive.version);
            return Err(UpdateError::Archive { path: archive.path, problem });
        }
        slot.check_room(&archive)?;
        let found = Entries::read(&entries)?;
        let mut own = found.list.iter().filter(|entry| entry.hash.as_ref() == Some(&running));
        let Some(newest) = own.next() else {
            let problem = format!("{} has no entry of what runs", entries.display());
            return Err(UpdateError::NotAnImage(problem));
        };
        // Of two entries without tries the boot loader would take the newer one again and again.
        if newest.tries.is_some() && own.all(|entry| entry.tries.is_some()) {
            return Err(UpdateError::NotGoodYet);
        }
        Ok(Self { archive, running, slot, entries, verify })
    }

    /// Does one step. They must be done in their order; after an error the next update starts anew.
    ///
    /// # Errors
    ///
    /// If the disk or the ESP cannot be written, or does not read as it was written.
    pub fn perform(&self, step: Step) -> Result<(), UpdateError> {
        let Self { archive, running, slot, entries, verify } = self;
        match step {
            Step::Retire => Entries::read(entries)?.keep_only(running),
            Step::Unmark => slot.mark(None),
            Step::WriteRoot => archive.copy(&archive.root, &slot.root),
            Step::WriteHashes => archive.copy(&archive.hashes, &slot.hashes),
            Step::Verify => verify(slot, &archive.root_hash),
            Step::Mark => slot.mark(Some(&archive.root_hash)),
            Step::Enter => Entries::read(entries)?.enter(archive),
        }
    }
}

/// Verifies by cryptsetup's `veritysetup`, past the page cache.
///
/// # Errors
///
/// If it cannot be run, or does not find what the hash vouches for.
pub fn verify_by_veritysetup(slot: &Slot, hash: &RootHash) -> Result<(), UpdateError> {
    slot.drop_cache()?;
    let mut command = Command::new("veritysetup");
    command.arg("verify").arg(&slot.root).arg(&slot.hashes).arg(hash.to_string());
    let output = command.output().map_err(at(Path::new("veritysetup")))?;
    if output.status.success() {
        return Ok(());
    }
    Err(UpdateError::NotVerified(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}
