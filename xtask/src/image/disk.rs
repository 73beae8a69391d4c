//! The disk: a GPT with the ESP, two slots for roots and the state, and the formats it comes in.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::input_of;
use super::kernel_image::KernelImage;
use super::root::{Root, uuid};
use super::tree::Tree;
use super::{Places, sha256};
use crate::origin::Origin;
use crate::tool::Tool;

const MIB: u64 = 1 << 20;

/// Sizes of the partitions, in MiB.
const ESP: u64 = 128;
const ROOT: u64 = 256;
const VERITY: u64 = 8;
const STATE: u64 = 1024;

/// The size of the block at the end of a slot that has its mark, in bytes.
const MARK: u64 = 4096;

/// The largest qcow2, in bytes.
const MAX_QCOW2: u64 = 150_000_000;

/// The boot loader, of systemd.
const LOADER: &str = "usr/lib/systemd/boot/efi/systemd-bootx64.efi";

/// Types of partitions: systemd's Discoverable Partitions Specification.
const TYPE_ESP: &str = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
const TYPE_ROOT: &str = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709";
const TYPE_VERITY: &str = "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5";
const TYPE_STATE: &str = "4d21b016-b534-45c2-a9fb-5c16e091fd2d";

/// Identities of the disk and its partitions, the same in every image and after every update.
const DISK: &str = "6e766761-7465-4000-8000-000000000000";
const ESP_ID: &str = "6e766761-7465-4000-8000-000000000001";
const ROOT_A: &str = "6e766761-7465-4000-8000-000000000002";
const VERITY_A: &str = "6e766761-7465-4000-8000-000000000003";
const ROOT_B: &str = "6e766761-7465-4000-8000-000000000004";
const VERITY_B: &str = "6e766761-7465-4000-8000-000000000005";
const STATE_ID: &str = "6e766761-7465-4000-8000-000000000006";

/// One partition of the disk.
struct Partition {
    kind: &'static str,
    uuid: &'static str,
    label: &'static str,
    mib: u64,
    content: Option<PathBuf>,
}

/// Puts the disk together.
pub fn assemble(
    places: &Places,
    tree: &Tree,
    root: &Root,
    kernel: &KernelImage,
    origin: &Origin,
) -> Result<PathBuf> {
    let esp = esp(places, tree, kernel, origin)?;
    let state = state(places, origin)?;
    let partition = |kind, uuid, label, mib, content: Option<&PathBuf>| Partition {
        kind,
        uuid,
        label,
        mib,
        content: content.cloned(),
    };
    let partitions = [
        partition(TYPE_ESP, ESP_ID, "esp", ESP, Some(&esp)),
        partition(TYPE_ROOT, ROOT_A, "root-a", ROOT, Some(&root.image)),
        partition(TYPE_VERITY, VERITY_A, "verity-a", VERITY, Some(&root.hashes)),
        partition(TYPE_ROOT, ROOT_B, "root-b", ROOT, None),
        partition(TYPE_VERITY, VERITY_B, "verity-b", VERITY, None),
        partition(TYPE_STATE, STATE_ID, "state", STATE, Some(&state)),
    ];
    // GPTs at both ends.
    let total = 2 + partitions.iter().map(|partition| partition.mib).sum::<u64>();
    let raw = places.work.join("disk.raw");
    let disk = File::create(&raw)?;
    disk.set_len(total * MIB)?;
    let mut script = format!("label: gpt\nlabel-id: {DISK}\nfirst-lba: 2048\n");
    let mut start = 1;
    for Partition { kind, uuid, label, mib, content } in &partitions {
        script += &format!(
            "start={start}MiB, size={mib}MiB, type={kind}, uuid={uuid}, name=\"{label}\"\n"
        );
        if let Some(content) = content {
            put(&disk, start * MIB, mib * MIB, content)?;
        }
        if *uuid == VERITY_A {
            disk.write_all_at(mark(root).as_bytes(), (start + mib) * MIB - MARK)?;
        }
        start += mib;
    }
    Tool::new("sfdisk").arg("-q").arg(&raw).input(input_of(places, "gpt", &script)?).run()?;
    Ok(raw)
}

/// What says in a slot's last block whose hashes are in it; the initial RAM disk looks for it.
fn mark(root: &Root) -> String {
    format!("nvgate root {}", root.hash)
}

/// Writes a file into the disk, without what is zero in it.
fn put(disk: &File, at: u64, room: u64, content: &Path) -> Result<()> {
    let mut file = File::open(content)?;
    let length = file.metadata()?.len();
    ensure!(length <= room, "{} has {length} bytes, more than {room}", content.display());
    let mut block = vec![0; MIB as usize];
    let mut offset = at;
    loop {
        let read = file.read(&mut block)?;
        let Some(bytes) = block.get(..read).filter(|bytes| !bytes.is_empty()) else {
            return Ok(());
        };
        if bytes.iter().any(|&byte| byte != 0) {
            disk.write_all_at(bytes, offset)?;
        }
        offset += read as u64;
    }
}

/// The ESP with the boot loader and one kernel.
fn esp(places: &Places, tree: &Tree, kernel: &KernelImage, origin: &Origin) -> Result<PathBuf> {
    let image = places.work.join("esp.img");
    File::create(&image)?.set_len(ESP * MIB)?;
    let id = origin.commit.get(..8).context("a commit has eight digits")?;
    Tool::new("mkfs.vfat")
        .args(["-F", "32", "-n", "ESP", "--invariant", "-i", id])
        .arg(&image)
        .run()?;
    let folder = places.work.join("esp");
    for directory in ["EFI/BOOT", "EFI/systemd", "EFI/Linux", "loader"] {
        fs::create_dir_all(folder.join(directory))?;
    }
    let loader = tree.path.join(LOADER);
    fs::copy(&loader, folder.join("EFI/BOOT/BOOTX64.EFI"))?;
    fs::copy(&loader, folder.join("EFI/systemd/systemd-bootx64.efi"))?;
    fs::copy(places.recipe.join("loader.conf"), folder.join("loader/loader.conf"))?;
    fs::copy(&kernel.path, folder.join("EFI/Linux").join(&kernel.name))?;
    let epoch = origin.epoch.to_string();
    let time = format!("--date=@{epoch}");
    Tool::new("find").arg(&folder).args(["-exec", "touch", &time, "{}", "+"]).run()?;
    // Directories keep the order in which they are filled.
    Tool::new("mcopy")
        .args(["-s", "-m", "-i"])
        .arg(&image)
        .args([folder.join("EFI"), folder.join("loader")])
        .arg("::/")
        .env("SOURCE_DATE_EPOCH", epoch)
        .run()?;
    Ok(image)
}

/// The state partition: an empty ext4.
fn state(places: &Places, origin: &Origin) -> Result<PathBuf> {
    let image = places.work.join("state.img");
    File::create(&image)?.set_len(STATE * MIB)?;
    Tool::new("mke2fs")
        .args(["-q", "-t", "ext4", "-L", "state", "-m", "0", "-U", STATE_ID])
        .args(["-E", &format!("hash_seed={STATE_ID},root_owner=0:0"), "-F"])
        .arg(&image)
        .env("E2FSPROGS_FAKE_TIME", origin.epoch.to_string())
        .run()?;
    Ok(image)
}

/// The disk in the formats of hypervisors, each compared with it.
pub fn convert(places: &Places, raw: &Path, origin: &Origin) -> Result<Vec<PathBuf>> {
    for entry in fs::read_dir(&places.output)? {
        let path = entry?.path();
        if path.is_file() {
            fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
        }
    }
    let name = |ending| places.product(origin, ending);
    let qcow2 = name("qcow2");
    let vhdx = name("vhdx");
    let packed = name("raw.zst");
    let image = |format, options: &[&str], path: &Path| {
        Tool::new("qemu-img")
            .args(["convert", "-f", "raw", "-O", format])
            .args(options)
            .arg(raw)
            .arg(path)
            .run()?;
        Tool::new("qemu-img")
            .args(["compare", "-f", "raw", "-F", format])
            .arg(raw)
            .arg(path)
            .run()
            .with_context(|| format!("{} is not the raw image", path.display()))
    };
    image("qcow2", &["-c", "-o", "compression_type=zstd"], &qcow2)?;
    image("vhdx", &["-o", "subformat=dynamic"], &vhdx)?;
    Tool::new("zstd").args(["-q", "-9", "-T0", "-f", "-o"]).arg(&packed).arg(raw).run()?;
    let size = fs::metadata(&qcow2)?.len();
    ensure!(size <= MAX_QCOW2, "the qcow2 has {size} bytes, more than {MAX_QCOW2}");
    Ok(vec![qcow2, vhdx, packed])
}

/// An identity that follows from a file's content.
pub fn uuid_of(path: &Path) -> Result<String> {
    Ok(uuid(&sha256(path)?[..32]))
}
