//! The root file system and the hash tree that dm-verity reads it through.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use super::tree::Tree;
use super::{Places, sha256};
use crate::origin::Origin;
use crate::tool::Tool;

/// A root file system.
pub struct Root {
    /// Squashfs.
    pub image: PathBuf,
    /// Its hash tree.
    pub hashes: PathBuf,
    /// The root of the hash tree, 64 hexadecimal digits.
    pub hash: String,
}

/// Makes the root file system of a tree.
pub fn build(places: &Places, tree: &Tree, origin: &Origin) -> Result<Root> {
    let image = places.work.join("root.squashfs");
    let hashes = places.work.join("root.verity");
    let epoch = origin.epoch.to_string();
    Tool::new("mksquashfs")
        .arg(&tree.path)
        .arg(&image)
        .args(["-quiet", "-no-progress", "-noappend", "-comp", "zstd"])
        .args(["-b", "256K", "-no-xattrs", "-mkfs-time", &epoch, "-all-time", &epoch])
        .run()?;
    // What is random in other images follows from the content, so that equal content is equal.
    let content = sha256(&image)?;
    let said = Tool::new("veritysetup")
        .arg("format")
        .args(["--hash=sha256", "--data-block-size=4096", "--hash-block-size=4096"])
        .arg(format!("--salt={content}"))
        .arg(format!("--uuid={}", uuid(&content[..32])))
        .arg(&image)
        .arg(&hashes)
        .output()?;
    let hash = said.lines().find_map(|line| line.strip_prefix("Root hash:"));
    let hash = hash.context("veritysetup names no root hash")?.trim().to_owned();
    ensure!(hash.len() == 64, "the root hash {hash} is not SHA-256");
    Ok(Root { image, hashes, hash })
}

/// 32 hexadecimal digits as a UUID.
pub fn uuid(digits: &str) -> String {
    let part = |from, to| digits.get(from..to).unwrap_or_default();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}
