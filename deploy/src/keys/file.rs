//! Files that hold secrets: read only if nobody but their owner may read them, and written so.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use zeroize::Zeroizing;

/// Bytes of a file with a secret: a key in base64 takes 44.
pub(crate) const MAX_SECRET_BYTES: u64 = 256;
/// The permissions of a file that only its owner reads.
pub(crate) const OWNER_ONLY: u32 = 0o600;
/// The permissions that group and others must not have.
const OTHERS: u32 = 0o077;

/// Why a file with a secret cannot be used; each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// It cannot be read.
    #[error("cannot be read: {0}; see that it exists and this process may read it")]
    Unreadable(#[from] io::Error),
    /// It is a directory or something else that is no file.
    #[error("is not a regular file; name the file that holds the secret")]
    NotAFile,
    /// Others may read or write it.
    #[error("is open to others than its owner (mode {mode:03o}); run `chmod 600` on it")]
    Open {
        /// Its permissions.
        mode: u32,
    },
    /// It holds something else.
    #[error(
        "holds more than {MAX_SECRET_BYTES} bytes, or no text; write the secret there and nothing else"
    )]
    NoSecret,
}

/// The text of the secret in `path`, without white space around it.
///
/// # Errors
///
/// When it cannot be read, is open to others, or holds more than a secret.
pub(crate) fn read_secret(path: &Path) -> Result<Zeroizing<String>, SecretFileError> {
    // Opening a FIFO would wait for its writer, so its kind comes first.
    if !fs::metadata(path)?.is_file() {
        return Err(SecretFileError::NotAFile);
    }
    let file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode() & 0o777;
    if mode & OTHERS != 0 {
        return Err(SecretFileError::Open { mode });
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_SECRET_BYTES as usize + 1));
    file.take(MAX_SECRET_BYTES + 1).read_to_end(&mut bytes)?;
    secret_text(&bytes)
}

/// The text of the secret that a file holds, without white space around it.
///
/// # Errors
///
/// When it is more than a secret, or no text.
pub(crate) fn secret_text(bytes: &[u8]) -> Result<Zeroizing<String>, SecretFileError> {
    if bytes.len() as u64 > MAX_SECRET_BYTES {
        return Err(SecretFileError::NoSecret);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| SecretFileError::NoSecret)?;
    Ok(Zeroizing::new(text.trim().to_owned()))
}

/// Puts a file that only its owner reads in the place of `file`: written as `new`, which is to be in a directory of the same disk, and on disk when
/// this returns. A kill at any moment leaves the old file or the whole new one.
pub(crate) fn replace(new: &Path, file: &Path, parts: &[&[u8]]) -> io::Result<()> {
    match fs::remove_file(new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut opened = OpenOptions::new().write(true).create_new(true).mode(OWNER_ONLY).open(new)?;
    for part in parts {
        opened.write_all(part)?;
    }
    opened.sync_all()?;
    fs::rename(new, file)?;
    file.parent().map_or(Ok(()), sync_directory)
}

/// Writes a directory's entries to disk.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
