//! Commands that root gives and that write where a service of another user reads: what they make
//! there must be that user's.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::unistd::{Gid, Uid, geteuid, setgid, setgroups, setuid};

/// Has this process, if it is root's, go on as the owner of `directory`, for good. Nothing happens
/// where there is no such directory yet.
///
/// # Errors
///
/// The directory cannot be looked at, or the kernel refuses.
pub(super) fn become_owner_of(directory: &Path) -> io::Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let found = match fs::metadata(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    let (user, group) = (Uid::from_raw(found.uid()), Gid::from_raw(found.gid()));
    if user.is_root() {
        return Ok(());
    }
    setgroups(&[group])?;
    setgid(group)?;
    setuid(user)?;
    Ok(())
}
