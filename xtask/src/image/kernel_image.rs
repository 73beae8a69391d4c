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
    let mut objcopy = Tool::new("objcopy");
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
    let mut image = fs::read(&path)?;
    date(&mut image, origin.epoch).context("the boot stub is no PE program")?;
    fs::write(&path, image)?;
    Ok(KernelImage { path, name: "nvgate_1+3.efi".to_owned() })
}

/// Gives a PE program this time (Unix, in seconds) in place of that of its making, and no checksum,
/// which UEFI does not look at.
fn date(image: &mut [u8], epoch: u64) -> Option<()> {
    let at: [u8; 4] = image.get(0x3c..0x40)?.try_into().ok()?;
    let header = image.get_mut(u32::from_le_bytes(at) as usize..)?;
    if !header.starts_with(b"PE\0\0") {
        return None;
    }
    header.get_mut(8..12)?.copy_from_slice(&u32::try_from(epoch).ok()?.to_le_bytes());
    header.get_mut(88..92)?.fill(0);
    Some(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_that_differ_in_the_time_of_their_making_become_the_same() {
        let made = |time: u8, checksum: u8| {
            let mut image = vec![0; 0x100];
            image[0x3c] = 0x80;
            image[0x80..0x84].copy_from_slice(b"PE\0\0");
            image[0x88] = time;
            image[0xd8] = checksum;
            date(&mut image, 0x0102_0304).unwrap();
            image
        };
        assert_eq!(made(1, 2), made(3, 4));
        assert_eq!(made(1, 2)[0x88..0x8c], [4, 3, 2, 1]);
        assert_eq!(date(&mut [0; 0x100], 1), None);
        assert_eq!(date(&mut [], 1), None);
    }
}
