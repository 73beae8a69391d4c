//! The kernel that tests boot in a guest, when this machine's own lacks what they are about (bonds,
//! VLANs, WireGuard): Debian's cloud kernel, unpacked into the target directory and never installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::peers::apt;
use crate::stages::target_directory;

/// The package that depends on the newest kernel of its kind.
const KERNEL: &str = "linux-image-cloud-amd64";

/// Fetches the kernel unless it is there, and says what it did.
pub fn install() -> Result<String> {
    let kept = target_directory()?.join("guest");
    if kept.join("kernel").is_file() {
        return Ok("a guest's kernel is there".to_owned());
    }
    let work = kept.with_extension("new");
    fs::remove_dir_all(&work).ok();
    fs::create_dir_all(&work)?;
    let package = newest().or_else(|_| {
        apt(&["update"])?;
        newest()
    })?;
    let unpacked = work.join("unpacked");
    let download = || run(Command::new("apt-get").args(["-qq", "download", &package]), &work);
    download().or_else(|_| {
        apt(&["update"])?;
        download()
    })?;
    let archive = only_entry(&work)?;
    run(Command::new("dpkg-deb").arg("-x").args([&archive, &unpacked]), &work)?;
    fs::remove_file(archive)?;
    let places = ["lib/modules", "usr/lib/modules"].map(|place| unpacked.join(place));
    let modules = places.iter().find(|place| place.is_dir()).context("a kernel has modules")?;
    let modules = only_entry(modules)?;
    let version = modules.file_name().context("a version")?.to_string_lossy().into_owned();
    // A guest without kmod takes only plain modules.
    run(
        Command::new("find").arg(&modules).args(["-name", "*.xz", "-exec", "xz", "-d", "{}", "+"]),
        &work,
    )?;
    let base = modules.ancestors().nth(3).context("a base")?;
    run(Command::new("depmod").arg("-b").arg(base).arg(&version), &work)?;
    fs::rename(unpacked.join(format!("boot/vmlinuz-{version}")), work.join("kernel"))?;
    fs::rename(&modules, work.join("modules"))?;
    fs::remove_dir_all(&unpacked)?;
    fs::remove_dir_all(&kept).ok();
    fs::rename(&work, &kept)?;
    Ok(format!("fetched the kernel {version} for guests"))
}

/// The package of the newest kernel.
fn newest() -> Result<String> {
    let output = Command::new("apt-cache")
        .args(["depends", "--important", KERNEL])
        .output()
        .context("running apt-cache")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let image = |line: &str| Some(line.trim().strip_prefix("Depends: ")?.to_owned());
    text.lines()
        .filter_map(image)
        .find(|package| package.starts_with("linux-image-"))
        .with_context(|| format!("apt-cache names no kernel that {KERNEL} depends on"))
}

fn run(command: &mut Command, directory: &Path) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status =
        command.current_dir(directory).status().with_context(|| format!("running {program}"))?;
    ensure!(status.success(), "{program} failed: {status}");
    Ok(())
}

fn only_entry(directory: &Path) -> Result<PathBuf> {
    let entries: Vec<_> = fs::read_dir(directory)?.collect::<std::io::Result<_>>()?;
    match &entries[..] {
        [only] => Ok(only.path()),
        several => bail!("{} has {} entries, not one", directory.display(), several.len()),
    }
}
