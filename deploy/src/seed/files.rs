//! The files of a seed in memory, from a folder or from systemd credentials. What cannot be read
//! is remembered with its reason, so that it is an error at its place like any other.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use zeroize::Zeroizing;

use super::{CREDENTIAL_PREFIX, KEYS_DIRECTORY, SEED_FILE};
use crate::keys::MAX_SECRET_BYTES;
use crate::schema::{
    GATEWAY_FILE, MAX_TENANTS, MAX_TOTAL_BYTES, MISTAKEN_ENDING, TENANT_ENDING, TENANTS_DIRECTORY,
    bytes_of,
};

/// Files with secrets of one seed.
pub const MAX_KEY_FILES: usize = 4 * MAX_TENANTS;

/// What a file holds, or why that is not known.
pub(super) type Held = Result<Zeroizing<Vec<u8>>, String>;

/// The files of a seed by their names in it, with `/` between folder and file.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Seed {
    pub(super) files: BTreeMap<String, Held>,
}

impl fmt::Debug for Seed {
    /// Names only: files hold secrets.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.files.keys()).finish()
    }
}

impl Seed {
    /// Whether there is nothing that could be meant as a seed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The names of its files.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// The file called `name`; one that is not there says so.
    pub(super) fn file(&self, name: &str) -> Held {
        self.files.get(name).cloned().unwrap_or_else(|| Err("is missing in the seed".to_owned()))
    }

    fn put(&mut self, name: String, held: Held) {
        let bytes: usize = self.files.values().flatten().map(|bytes| bytes.len()).sum();
        let more = held.as_ref().map_or(0, |bytes| bytes.len());
        let held = if (bytes + more) as u64 > MAX_TOTAL_BYTES {
            Err(format!("all files together are larger than {MAX_TOTAL_BYTES} bytes"))
        } else {
            held
        };
        self.files.insert(name, held);
    }
}

/// Reads the seed in `folder`; other files in it are nobody's business. Symbolic links are refused:
/// they could lead out of the seed.
///
/// # Errors
///
/// The folder itself cannot be read.
pub fn from_folder(folder: &Path) -> io::Result<Seed> {
    let mut seed = Seed::default();
    fs::read_dir(folder)?;
    for name in [SEED_FILE, GATEWAY_FILE] {
        let path = folder.join(name);
        if fs::symlink_metadata(&path).is_ok() {
            seed.put(name.to_owned(), plain_file(&path));
        }
    }
    let tenants = |path: &Path| {
        matches!(path.extension().and_then(OsStr::to_str), Some(TENANT_ENDING | MISTAKEN_ENDING))
    };
    read_directory(&mut seed, folder, TENANTS_DIRECTORY, MAX_TENANTS, tenants);
    read_directory(&mut seed, folder, KEYS_DIRECTORY, MAX_KEY_FILES, |_| true);
    Ok(seed)
}

/// Reads the files of a folder of the seed that `wanted` wants, but no hidden ones.
fn read_directory(
    seed: &mut Seed,
    folder: &Path,
    directory: &str,
    most: usize,
    wanted: impl Fn(&Path) -> bool,
) {
    let path = folder.join(directory);
    let Ok(metadata) = fs::symlink_metadata(&path) else { return };
    if !metadata.is_dir() {
        return seed.put(directory.to_owned(), Err("is not a folder".to_owned()));
    }
    let entries = match fs::read_dir(&path).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
        Ok(entries) => entries,
        Err(error) => {
            return seed.put(directory.to_owned(), Err(format!("cannot be read: {error}")));
        }
    };
    let mut paths: Vec<_> = entries.iter().map(fs::DirEntry::path).collect();
    paths.retain(|path| {
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        !hidden && wanted(path)
    });
    paths.sort();
    if paths.len() > most {
        let message = format!("{} files are more than {most}", paths.len());
        return seed.put(directory.to_owned(), Err(message));
    }
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let held = if name.contains(char::REPLACEMENT_CHARACTER) {
            Err("its name is not UTF-8".to_owned())
        } else {
            plain_file(&path)
        };
        seed.put(format!("{directory}/{name}"), held);
    }
}

fn plain_file(path: &Path) -> Held {
    let is_link = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink());
    if is_link {
        return Err("is a symbolic link; put the file itself there".to_owned());
    }
    bytes_of(path).map(Zeroizing::new)
}

/// Reads the seed among the systemd credentials in `directory`: those whose names begin with
/// [`CREDENTIAL_PREFIX`]. One whose name means nothing is an error of the seed.
///
/// # Errors
///
/// The directory is there and cannot be read.
pub fn from_credentials(directory: &Path) -> io::Result<Seed> {
    let mut seed = Seed::default();
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(seed),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(OsStr::to_str) else { continue };
        let Some(name) = name.strip_prefix(CREDENTIAL_PREFIX) else { continue };
        match credential_file(name) {
            Some(file) => seed.put(file, plain_file(&path)),
            None => seed.put(
                format!("credential {CREDENTIAL_PREFIX}{name}"),
                Err("is no file of a seed; the names are nvgate.seed.yaml, nvgate.gateway.yaml, \
                     nvgate.tenants.NAME.yaml and nvgate.keys.NAME"
                    .to_owned()),
            ),
        }
    }
    Ok(seed)
}

/// The file of a seed that the credential called `nvgate.` and `name` is.
fn credential_file(name: &str) -> Option<String> {
    if name == SEED_FILE || name == GATEWAY_FILE {
        return Some(name.to_owned());
    }
    if let Some(tenant) = name.strip_prefix("tenants.") {
        let plain = tenant.strip_suffix(".yaml").is_some_and(|stem| !stem.is_empty());
        return plain.then(|| format!("{TENANTS_DIRECTORY}/{tenant}"));
    }
    let key = name.strip_prefix("keys.").filter(|key| !key.is_empty() && !key.starts_with('.'))?;
    Some(format!("{KEYS_DIRECTORY}/{key}"))
}

/// Why a file with a secret cannot be carried: it holds more than one.
pub(super) fn too_large_for_a_secret(bytes: &[u8]) -> bool {
    bytes.len() as u64 > MAX_SECRET_BYTES
}
