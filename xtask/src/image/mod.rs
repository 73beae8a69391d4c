//! `cargo xtask image`: the virtual machine image, from Debian's packages and the workspace.
//!
//! What is in the image is said by the files of `deploy/image`; here is how they become a disk. It
//! runs as root on Debian, needs no loop device, and touches nothing outside `target/image` but the
//! packages that it installs. Who wants to know why a step is as it is: `docs/decisions/018-image.md`.

mod disk;
mod initramfs;
mod kernel_image;
mod manifest;
mod root;
mod tree;
mod update;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::origin::Origin;
use crate::package;
use crate::peers;
use crate::stages::target_directory;
use crate::tool::Tool;
use manifest::Manifest;

/// Programs that an image is built with, and the Debian packages they come in.
const PROGRAMS: [(&str, &str); 16] = [
    ("mmdebstrap", "mmdebstrap"),
    ("arch-test", "arch-test"),
    ("mksquashfs", "squashfs-tools"),
    ("veritysetup", "cryptsetup-bin"),
    ("mcopy", "mtools"),
    ("mkfs.vfat", "dosfstools"),
    ("mke2fs", "e2fsprogs"),
    ("sfdisk", "fdisk"),
    ("qemu-img", "qemu-utils"),
    ("objcopy", "binutils"),
    ("cpio", "cpio"),
    ("zstd", "zstd"),
    ("xz", "xz-utils"),
    ("depmod", "kmod"),
    ("unshare", "util-linux"),
    ("tar", "tar"),
];

/// Programs that tests boot the image with.
const BOOT_PROGRAMS: [(&str, &str); 5] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("genisoimage", "genisoimage"),
    ("ssh", "openssh-client"),
    ("unsquashfs", "squashfs-tools"),
    ("curl", "curl"),
];

/// Packages without a program, by a file of theirs.
const FILES: [(&str, &str); 2] = [
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "ovmf"),
    ("/usr/share/keyrings/debian-archive-keyring.gpg", "debian-archive-keyring"),
];

/// How the image is to be built.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Packages {
    /// Today's packages, from the cache if they were fetched today.
    Cached,
    /// Fetched anew.
    Fresh,
}

/// Builds the image and returns the directory that it is in.
///
/// # Errors
///
/// Without root on Debian, without a package, or when a step fails.
pub fn build(packages: Packages) -> Result<PathBuf> {
    println!("{}", install()?);
    let origin = Origin::of_workspace()?;
    let places = Places::new()?;
    let package = step("nvgate", || package::build(&places.work.join("package"), None))?;
    let tarball = step("packages", || tree::packages(&places, packages))?;
    let tree = step("tree", || tree::assemble(&places, &tarball, &package, &origin))?;
    let root = step("root", || root::build(&places, &tree, &origin))?;
    let initramfs = step("initramfs", || initramfs::build(&places, &tree, &origin))?;
    let kernel =
        step("kernel image", || kernel_image::build(&places, &tree, &initramfs, &root, &origin))?;
    let raw = step("disk", || disk::assemble(&places, &tree, &root, &kernel, &origin))?;
    let mut products = step("formats", || disk::convert(&places, &raw, &origin))?;
    let manifest = Manifest { origin: &origin, tree: &tree, root: &root, kernel: &kernel };
    products.push(step("update", || update::pack(&places, &manifest))?);
    step("manifest", || manifest.write(&places, &products))?;
    fs::remove_dir_all(&places.work).context("removing what the image was made of")?;
    println!("\nthe image is in {}", places.output.display());
    Ok(places.output)
}

/// Installs what is missing for building and booting images and says what it did.
pub fn install() -> Result<String> {
    let programs = PROGRAMS.iter().chain(&BOOT_PROGRAMS);
    let mut missing: Vec<_> =
        programs.filter(|(program, _)| !peers::on_path(program)).map(|(_, name)| *name).collect();
    let files = FILES.iter().filter(|(file, _)| !Path::new(file).exists());
    missing.extend(files.map(|(_, name)| *name));
    if missing.is_empty() {
        return Ok("all packages for images are installed".to_owned());
    }
    peers::install_packages(&missing)?;
    Ok(format!("installed {}", missing.join(" ")))
}

/// The directories of a build.
struct Places {
    /// What the image is made of: `deploy/image`.
    recipe: PathBuf,
    /// The images and their manifest.
    output: PathBuf,
    /// What may be kept from one build to the next.
    cache: PathBuf,
    /// What is needed during one build only.
    work: PathBuf,
}

impl Places {
    fn new() -> Result<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let workspace = manifest.parent().context("xtask is in no workspace")?;
        let output = target_directory()?.join("image");
        let cache = output.join("cache");
        let work = output.join("work");
        if work.exists() {
            fs::remove_dir_all(&work).context("removing what an earlier build left")?;
        }
        for directory in [&cache, &work] {
            fs::create_dir_all(directory)
                .with_context(|| format!("making {}", directory.display()))?;
        }
        Ok(Self { recipe: workspace.join("deploy/image"), output, cache, work })
    }

    /// The file that is made, with this ending.
    fn product(&self, origin: &Origin, ending: &str) -> PathBuf {
        self.output.join(format!("nvgate-{}.{ending}", origin.version))
    }
}

/// Does a step and prints what it took.
fn step<T>(name: &'static str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let began = Instant::now();
    let result = work().with_context(|| format!("image: {name}"))?;
    println!("image: {name:<14} {:>6.1} s", began.elapsed().as_secs_f64());
    Ok(result)
}

/// The SHA-256 of a file, in hexadecimal.
fn sha256(path: &Path) -> Result<String> {
    let text = Tool::new("sha256sum").arg(path).output()?;
    Ok(text.split_whitespace().next().unwrap_or_default().to_owned())
}

/// Writes `text` to a file of this build's and returns it opened, for a program's input.
fn input_of(places: &Places, name: &str, text: &str) -> Result<fs::File> {
    let path = places.work.join(name);
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    fs::File::open(&path).with_context(|| format!("opening {}", path.display()))
}

/// The lines of a list: without comments and empty ones.
fn lines_of(path: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let lines = text.lines().map(str::trim);
    Ok(lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect())
}
