//! The unified kernel image: kernel, initial RAM disk and command line in one program for UEFI, so
//! that what one root hash vouches for is booted as one file.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Places;
use super::root::Root;
use super::tree::Tree;
use crate::origin::Origin;
use crate::tool::Tool;

/// The program that starts the kernel, of systemd.
const STUB: &str = "usr/lib/systemd/boot/efi/linuxx64.efi.stub";

/// The sections, in the order of their addresses.
const SECTIONS: [&str; 5] = [".osrel", ".cmdline", ".uname", ".linux", ".initrd"];

/// What sections are aligned to, in bytes: a page.
const ALIGNMENT: u64 = 4096;

/// A unified kernel image.
pub struct KernelImage {
    /// The program.
    pub path: PathBuf,
    /// Its name on the ESP: with three tries to boot well.
    pub name: String,
}

/// Makes the kernel image that boots `root`.
pub fn build(
    places: &Places,
    tree: &Tree,
    initramfs: &Path,
    root: &Root,
    origin: &Origin,
) -> Result<KernelImage> {
    let path = places.work.join("nvgate.efi");
    let words = super::lines_of(&places.recipe.join("cmdline"))?.join(" ");
    let cmdline = places.work.join("cmdline");
    fs::write(&cmdline, format!("roothash={} {words}\0", root.hash))?;
    let uname = places.work.join("uname");
    fs::write(&uname, format!("{}\0", tree.release))?;
    // Without a version: the boot loader takes the entry whose file has the highest number.
    let osrel = places.work.join("osrel");
    fs::write(&osrel, format!("ID=nvgate\nPRETTY_NAME=\"nvgate {}\"\n", origin.version))?;
    let stub = tree.path.join(STUB);
    let mut address = end_of(&stub)?;
    let mut objcopy = Tool::new("objcopy").env("SOURCE_DATE_EPOCH", origin.epoch.to_string());
    let contents = [osrel.as_path(), &cmdline, &uname, &tree.kernel, initramfs];
    for (section, content) in SECTIONS.into_iter().zip(contents) {
        address = address.next_multiple_of(ALIGNMENT);
        objcopy = objcopy
            .arg("--add-section")
            .arg(format!("{section}={}", content.display()))
            .arg("--change-section-vma")
            .arg(format!("{section}={address:#x}"));
        address += fs::metadata(content)?.len();
    }
    objcopy.arg(stub).arg(&path).run()?;
    Ok(KernelImage { path, name: "nvgate_1+3.efi".to_owned() })
}

/// The address behind the last section of a program.
fn end_of(program: &Path) -> Result<u64> {
    let said = Tool::new("objdump").arg("-h").arg(program).output()?;
    let end = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let [number, _, size, address, ..] = words[..] else { return None };
        number.parse::<u32>().ok()?;
        let hexadecimal = |word| u64::from_str_radix(word, 16).ok();
        Some(hexadecimal(size)? + hexadecimal(address)?)
    };
    said.lines().filter_map(end).max().context("the program has no sections")
}
