//! The initial RAM disk: busybox, a handful of programs with their libraries, kernel modules, and
//! one script.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::input_of;
use super::tree::Tree;
use super::{Places, lines_of};
use crate::files::install;
use crate::origin::Origin;
use crate::tool::Tool;

/// Makes the initial RAM disk of a tree's programs and modules.
pub fn build(places: &Places, tree: &Tree, origin: &Origin) -> Result<PathBuf> {
    let recipe = places.recipe.join("initramfs");
    let disk = places.work.join("initramfs");
    for directory in ["dev", "proc", "run", "sys", "sysroot", "usr/bin", "usr/sbin", "usr/lib"] {
        fs::create_dir_all(disk.join(directory))?;
    }
    for name in ["bin", "sbin", "lib", "lib64"] {
        let target = if name == "lib64" { "usr/lib64".to_owned() } else { format!("usr/{name}") };
        symlink(target, disk.join(name))?;
    }
    fs::create_dir_all(disk.join("usr/lib64"))?;
    install(&recipe.join("init"), &disk.join("init"), 0o755)?;
    busybox(tree, &disk)?;
    programs(tree, &disk, &lines_of(&recipe.join("programs"))?)?;
    modules(tree, &disk, &lines_of(&recipe.join("modules"))?)?;
    pack(places, &disk, origin)
}

fn busybox(tree: &Tree, disk: &Path) -> Result<()> {
    let names = Tool::within(&tree.path, "busybox").arg("--list").output()?;
    install(&tree.path.join("usr/bin/busybox"), &disk.join("usr/bin/busybox"), 0o755)?;
    for name in names.lines().filter(|&name| name != "busybox") {
        symlink("busybox", disk.join("usr/bin").join(name))?;
    }
    Ok(())
}

fn programs(tree: &Tree, disk: &Path, programs: &[String]) -> Result<()> {
    let mut files = BTreeSet::new();
    for program in programs {
        files.insert(program.clone());
        let said = Tool::within(&tree.path, "ldd").arg(program).output()?;
        let libraries = said.split_whitespace().filter(|word| word.starts_with('/'));
        files.extend(libraries.map(str::to_owned));
    }
    // Loaded by name when threads end.
    files.insert("/usr/lib/x86_64-linux-gnu/libgcc_s.so.1".to_owned());
    for file in files {
        let from = tree.path.join(file.trim_start_matches('/'));
        let to = disk.join(file.trim_start_matches('/'));
        fs::create_dir_all(to.parent().context("a file is in a directory")?)?;
        // A program of busybox gives way to the real one.
        fs::remove_file(&to).ok();
        install(&from, &to, 0o755)?;
    }
    Ok(())
}

fn modules(tree: &Tree, disk: &Path, names: &[String]) -> Result<()> {
    let folder = PathBuf::from("usr/lib/modules").join(&tree.release);
    let mut files = BTreeSet::new();
    for name in names {
        let said = Tool::within(&tree.path, "modprobe")
            .args(["--show-depends", "--set-version", &tree.release, name])
            .output()?;
        let paths = said.lines().filter_map(|line| line.strip_prefix("insmod "));
        files.extend(paths.map(|path| path.trim().trim_start_matches('/').to_owned()));
    }
    for file in files {
        // Debian's /lib is /usr/lib.
        let file = file.strip_prefix("usr/").unwrap_or(&file);
        let to = disk.join("usr").join(file);
        fs::create_dir_all(to.parent().context("a file is in a directory")?)?;
        install(&tree.path.join(file), &to, 0o644)?;
    }
    for name in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
        install(&tree.path.join(&folder).join(name), &disk.join(&folder).join(name), 0o644)?;
    }
    Tool::new("depmod").arg("-b").arg(disk).arg(&tree.release).run()?;
    fs::write(disk.join("modules"), names.join("\n") + "\n")?;
    Ok(())
}

/// One archive with one time and one order.
fn pack(places: &Places, disk: &Path, origin: &Origin) -> Result<PathBuf> {
    let files = Tool::new("find").args([".", "-print"]).within_directory(disk).output()?;
    let mut files: Vec<_> = files.lines().collect();
    files.sort_unstable();
    let list = files.join("\n") + "\n";
    let time = format!("--date=@{}", origin.epoch);
    let touched = input_of(places, "initramfs.touch", &files.join("\0"))?;
    Tool::new("xargs")
        .args(["-0", "touch", "--no-dereference", &time])
        .input(touched)
        .within_directory(disk)
        .run()?;
    let archive = places.work.join("initramfs.cpio");
    Tool::new("cpio")
        .args(["--quiet", "--create", "--format=newc", "--reproducible", "--owner=0:0", "-F"])
        .arg(&archive)
        .input(input_of(places, "initramfs.list", &list)?)
        .within_directory(disk)
        .run()?;
    let packed = places.work.join("initramfs.zst");
    Tool::new("zstd").args(["-q", "-19", "-T0", "-f", "-o"]).arg(&packed).arg(archive).run()?;
    Ok(packed)
}
