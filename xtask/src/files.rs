//! Trees of files that end up in packages and images: copied with modes that do not depend on who
//! checked them out.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use anyhow::{Context, Result};

/// Copies a tree: programs get 0755, other files 0644, links stay links.
pub fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let entry = entry?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            make_directory(&target)?;
            copy_tree(&path, &target)?;
        } else if entry.file_type()?.is_symlink() {
            symlink(fs::read_link(&path)?, &target)?;
        } else {
            let executable = entry.metadata()?.permissions().mode() & 0o100 != 0;
            install(&path, &target, if executable { 0o755 } else { 0o644 })?;
        }
    }
    Ok(())
}

/// Copies one file and gives it a mode.
pub fn install(from: &Path, to: &Path, mode: u32) -> Result<()> {
    fs::copy(from, to)
        .and_then(|_| fs::set_permissions(to, fs::Permissions::from_mode(mode)))
        .with_context(|| format!("copying {} to {}", from.display(), to.display()))
}

/// Makes a directory and those above it, each new one with the mode 0755 whatever the umask is.
pub fn make_directory(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_directory(parent)?;
    }
    fs::create_dir(path)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("making {}", path.display()))
}
