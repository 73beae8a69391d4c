//! Updates for tests, made of the built one: another version with another root hash, as good as it
//! or with a flaw.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::json;

/// What is wrong with an update.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// Nothing.
    None,
    /// Its gateway does not start.
    NeverReady,
}

const PARTS: [&str; 3] = ["root.squashfs", "root.verity", "nvgate.efi"];

/// Makes an update of the built one in `folder`, called `version`, and returns its file.
///
/// # Errors
///
/// When a tool fails or the built one is not as it should be.
pub fn variant(built: &Path, folder: &Path, version: &str, flaw: Flaw) -> Result<PathBuf> {
    let work = folder.join(version);
    fs::create_dir(&work)?;
    run(Command::new("tar").arg("-C").arg(&work).arg("-xf").arg(built))?;
    let text = fs::read_to_string(work.join("manifest.json"))?;
    let manifest: serde_json::Value = serde_json::from_str(&text)?;
    let (old_hash, old_version) = (&manifest["root_hash"], &manifest["version"]);
    let old_hash = old_hash.as_str().context("a root hash")?;
    let old_version = old_version.as_str().context("a version")?;

    let root = work.join(PARTS[0]);
    match flaw {
        // Behind the file system, where nobody looks: another hash, and the same files.
        Flaw::None => {
            let mut content = fs::read(&root)?;
            content.extend([0x5a; 4096]);
            fs::write(&root, content)?;
        }
        Flaw::NeverReady => {
            let tree = work.join("tree");
            run(Command::new("unsquashfs").args(["-q", "-n", "-d"]).arg(&tree).arg(&root))?;
            let program = tree.join("usr/bin/nvgate");
            // The command that judges the boot stays; the gateway itself ends at once.
            fs::rename(&program, tree.join("usr/bin/nvgate.real"))?;
            fs::write(
                &program,
                "#!/bin/sh\n[ \"$1\" = run ] && exit 1\nexec /usr/bin/nvgate.real \"$@\"\n",
            )?;
            run(Command::new("chmod").arg("755").arg(&program))?;
            fs::remove_file(&root)?;
            run(Command::new("mksquashfs").arg(&tree).arg(&root).args([
                "-quiet",
                "-no-progress",
                "-comp",
                "zstd",
                "-Xcompression-level",
                "1",
            ]))?;
            fs::remove_dir_all(&tree)?;
        }
    }
    let hashes = work.join(PARTS[1]);
    fs::remove_file(&hashes)?;
    let formatted = Command::new("veritysetup").arg("format").arg(&root).arg(&hashes).output()?;
    let said = String::from_utf8_lossy(&formatted.stdout).into_owned();
    let hash = said.lines().find_map(|line| line.strip_prefix("Root hash:"));
    let hash = hash.with_context(|| format!("no root hash in {said}"))?.trim();

    let kernel = work.join(PARTS[2]);
    let mut content = fs::read(&kernel)?;
    replace(&mut content, old_hash, hash)?;
    let shown = format!("{version}\"");
    let padded = format!("{shown:\n<width$}", width = old_version.len() + 1);
    replace(&mut content, &format!("{old_version}\""), &padded)?;
    fs::write(&kernel, content)?;

    let mut parts = Vec::new();
    for name in PARTS {
        let path = work.join(name);
        let said = run(Command::new("sha256sum").arg(&path))?;
        let sha256 = said.split_whitespace().next().context("a checksum")?;
        parts.push(json!({"name": name, "bytes": fs::metadata(&path)?.len(), "sha256": sha256}));
    }
    let manifest = json!({"form": 1, "version": version, "root_hash": hash, "parts": parts});
    fs::write(work.join("manifest.json"), manifest.to_string())?;
    let archive = folder.join(format!("{version}.update"));
    run(Command::new("tar")
        .arg("--format=ustar")
        .arg("-C")
        .arg(&work)
        .arg("-cf")
        .arg(&archive)
        .arg("manifest.json")
        .args(PARTS))?;
    fs::remove_dir_all(&work)?;
    Ok(archive)
}

/// Replaces the one place with `old` by `new`, which is as long.
fn replace(content: &mut [u8], old: &str, new: &str) -> Result<()> {
    ensure!(old.len() == new.len(), "`{old}` and `{new}` differ in length");
    let mut places =
        content.windows(old.len()).enumerate().filter(|(_, window)| *window == old.as_bytes());
    let (at, _) = places.next().with_context(|| format!("no `{old}`"))?;
    ensure!(places.next().is_none(), "`{old}` is there twice");
    content[at..at + new.len()].copy_from_slice(new.as_bytes());
    Ok(())
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
