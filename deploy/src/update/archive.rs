//! The file of an update: a tar archive with a manifest, a root file system, its hash tree, and a
//! kernel image, in this order.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use ring::digest::{Context, SHA256};
use serde::Deserialize;

use super::entries::{HEAD, hash_of};
use super::{RootHash, UpdateError, at};

/// The form of archives that this version knows.
const FORM: u32 = 1;

/// The largest manifest, in bytes.
const MAX_MANIFEST: u64 = 64 << 10;

/// The largest part, in bytes; more than a partition has room for.
const MAX_PART: u64 = 1 << 30;

/// What is in the archive, in its order.
const NAMES: [&str; 4] = ["manifest.json", "root.squashfs", "root.verity", "nvgate.efi"];

/// What is read and written at once, in bytes.
const BLOCK: usize = 1 << 20;

/// The manifest as it is written. Fields that this version does not know are for later ones.
#[derive(Deserialize)]
struct Manifest {
    form: u32,
    version: String,
    root_hash: String,
    parts: Vec<Described>,
}

#[derive(Deserialize)]
struct Described {
    name: String,
    bytes: u64,
    sha256: String,
}

/// One part, by its place in the archive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// Where it begins, in bytes.
    offset: u64,
    /// Its size in bytes.
    pub bytes: u64,
}

/// An archive whose parts are as its manifest says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Archive {
    /// The file.
    pub path: PathBuf,
    /// The version that it brings.
    pub version: String,
    /// The root hash of that version.
    pub root_hash: RootHash,
    /// The root file system.
    pub root: Part,
    /// Its hash tree.
    pub hashes: Part,
    /// The kernel image.
    pub kernel: Part,
}

impl Archive {
    /// Opens an archive and reads all of it against its manifest.
    ///
    /// # Errors
    ///
    /// If it cannot be read, is of a form that this version does not know, or a part is not what
    /// the manifest says.
    pub fn open(path: &Path) -> Result<Self, UpdateError> {
        let refuse = |problem: String| UpdateError::Archive { path: path.to_owned(), problem };
        let file = File::open(path).map_err(at(path))?;
        let places = places(&file).map_err(|problem| refuse(problem.to_string()))?;
        let [manifest, root, hashes, kernel] = <[Part; 4]>::try_from(places)
            .map_err(|_| refuse(format!("it does not hold {}", NAMES.join(", "))))?;
        if manifest.bytes > MAX_MANIFEST {
            return Err(refuse(format!("its manifest has {} bytes", manifest.bytes)));
        }
        let mut text = Vec::new();
        read(&file, &manifest, |block| text.extend_from_slice(block)).map_err(at(path))?;
        let manifest: Manifest = serde_json::from_slice(&text)
            .map_err(|error| refuse(format!("its manifest cannot be read: {error}")))?;
        if manifest.form != FORM {
            let form = manifest.form;
            return Err(refuse(format!("its form is {form}, and this version knows {FORM} only")));
        }
        let root_hash: RootHash = manifest
            .root_hash
            .parse()
            .map_err(|()| refuse("its root hash is not one of SHA-256".to_owned()))?;
        let [_, names @ ..] = NAMES;
        if manifest.parts.len() != names.len() {
            return Err(refuse(format!("its manifest does not tell of {}", names.join(", "))));
        }
        let mut head = Vec::new();
        for ((part, said), name) in
            [&root, &hashes, &kernel].into_iter().zip(&manifest.parts).zip(names)
        {
            if said.name != name || said.bytes != part.bytes {
                return Err(refuse(format!("{name} is not what the manifest says")));
            }
            let mut digest = Context::new(&SHA256);
            head.clear();
            read(&file, part, |block| {
                digest.update(block);
                head.extend_from_slice(block.get(..HEAD - head.len().min(HEAD)).unwrap_or(block));
            })
            .map_err(at(path))?;
            if hexadecimal(digest.finish().as_ref()) != said.sha256 {
                return Err(refuse(format!("{name} is damaged: its SHA-256 is another")));
            }
        }
        if hash_of(&head).as_ref() != Some(&root_hash) {
            return Err(refuse("its kernel starts another root than it brings".to_owned()));
        }
        let version = manifest.version;
        Ok(Self { path: path.to_owned(), version, root_hash, root, hashes, kernel })
    }

    /// Writes a part into a file or device that exists, from its beginning, and makes it last.
    pub(super) fn copy(&self, part: &Part, to: &Path) -> Result<(), UpdateError> {
        let archive = File::open(&self.path).map_err(at(&self.path))?;
        let mut target = OpenOptions::new().write(true).open(to).map_err(at(to))?;
        let mut written = Ok(());
        let read = read(&archive, part, |block| {
            if written.is_ok() {
                written = target.write_all(block);
            }
        });
        read.map_err(at(&self.path))?;
        written.and_then(|()| target.sync_all()).map_err(at(to))
    }
}

/// The parts of an archive whose names are as they should be; fewer otherwise.
fn places(file: &File) -> io::Result<Vec<Part>> {
    let mut archive = tar::Archive::new(file);
    let mut places = Vec::new();
    for (entry, name) in archive.entries_with_seek()?.zip(NAMES.into_iter().map(Some).chain([None]))
    {
        let entry = entry?;
        let path = entry.path()?;
        if !entry.header().entry_type().is_file()
            || name.is_none_or(|name| path.as_os_str() != name)
            || entry.size() > MAX_PART
        {
            return Ok(Vec::new());
        }
        places.push(Part { offset: entry.raw_file_position(), bytes: entry.size() });
    }
    Ok(places)
}

/// Hands a part over in blocks.
fn read(mut file: &File, part: &Part, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    file.seek(SeekFrom::Start(part.offset))?;
    let mut rest = file.take(part.bytes);
    let mut block = vec![0; BLOCK];
    while rest.limit() > 0 {
        let read = rest.read(&mut block)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        take(block.get(..read).unwrap_or_default());
    }
    Ok(())
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
