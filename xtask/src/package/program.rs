//! The program as it is shipped: a release build that does not say where it was built, without its
//! debugging symbols.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::stages;
use crate::tool::Tool;

/// Builds nvgate and returns the program, which still has its debugging symbols.
///
/// # Errors
///
/// When cargo fails.
pub fn build_program() -> Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = manifest.parent().context("xtask is in no workspace")?;
    // A folder of its own: with these flags nothing that cargo has built otherwise is of use.
    let target = stages::target_directory()?.join("shipped");
    let cargo_home = std::env::var_os("CARGO_HOME").map_or_else(
        || Path::new(&std::env::var_os("HOME").unwrap_or_default()).join(".cargo"),
        PathBuf::from,
    );
    // Where sources lie is written into panic messages: not where they lie on this machine.
    let flags = format!(
        "--remap-path-prefix={}=/cargo --remap-path-prefix={}=/nvgate",
        cargo_home.display(),
        workspace.display()
    );
    let mut cargo =
        stages::cargo(&["build", "--quiet", "--release", "--locked", "--bin", "nvgate"]);
    cargo.arg("--target-dir").arg(&target).env("RUSTFLAGS", flags).current_dir(workspace);
    stages::run(cargo)?;
    Ok(target.join("release/nvgate"))
}

/// Writes a program without its debugging symbols to `to`.
pub fn strip(program: &Path, to: &Path) -> Result<()> {
    Tool::new("strip").arg("-o").arg(to).arg(program).run()
}
