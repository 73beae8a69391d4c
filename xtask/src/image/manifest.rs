//! What an image says of itself: a manifest with checksums, and a list of all that is in it as
//! CycloneDX 1.5.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::disk::uuid_of;
use super::kernel_image::KernelImage;
use super::root::Root;
use super::tree::{SUITE, Tree};
use super::{Places, sha256};
use crate::origin::Origin;
use crate::stages::cargo;

/// What differs between two builds of one commit from the same packages, and why.
const DIFFERS: [(&str, &str); 1] = [(
    "vhdx",
    "the format has random identifiers and the time of its making; the disk in it is the same",
)];

/// What a manifest tells of.
pub struct Manifest<'a> {
    /// Where the sources are from.
    pub origin: &'a Origin,
    /// The tree.
    pub tree: &'a Tree,
    /// The root file system.
    pub root: &'a Root,
    /// The kernel image.
    pub kernel: &'a KernelImage,
}

impl Manifest<'_> {
    /// Writes the manifest and the list of packages beside the images.
    pub fn write(&self, places: &Places, products: &[PathBuf]) -> Result<()> {
        let Self { origin, tree, root, kernel } = self;
        let parts = places.product(origin, "cdx.json");
        fs::write(&parts, format!("{:#}\n", self.parts()?))?;
        let mut files = Vec::new();
        for path in products.iter().chain([&parts]) {
            files.push(described(path)?);
        }
        let differs = DIFFERS.map(|(what, why)| json!({"what": what, "why": why}));
        let manifest = json!({
            "name": "nvgate",
            "version": origin.version,
            "commit": origin.commit,
            "changed_since_commit": origin.changed,
            "source_date_epoch": origin.epoch,
            "debian": SUITE,
            "kernel": tree.release,
            "root_hash": root.hash,
            "parts": {
                "root": described(&root.image)?,
                "verity": described(&root.hashes)?,
                "kernel_image": described(&kernel.path)?,
            },
            "files": files,
            "not_reproducible": differs,
        });
        let path = places.output.join("manifest.json");
        fs::write(&path, format!("{manifest:#}\n")).with_context(|| path.display().to_string())
    }

    fn parts(&self) -> Result<Value> {
        let Self { origin, tree, root, .. } = self;
        let mut components: Vec<_> = tree
            .packages
            .iter()
            // That one is told by its crates.
            .filter(|(name, _)| name != "nvgate")
            .map(|(name, version)| {
                let purl = format!("pkg:deb/debian/{name}@{version}?arch=amd64&distro={SUITE}");
                json!({"type": "library", "name": name, "version": version, "purl": purl})
            })
            .collect();
        components.extend(crates()?);
        Ok(json!({
            "bomFormat": "CycloneDX",
            "specVersion": "1.5",
            "serialNumber": format!("urn:uuid:{}", uuid_of(&root.image)?),
            "version": 1,
            "metadata": {
                "component": {
                    "type": "operating-system",
                    "name": "nvgate",
                    "version": origin.version,
                },
            },
            "components": components,
        }))
    }
}

/// The crates that nvgate is built from.
fn crates() -> Result<Vec<Value>> {
    let output = cargo(&["tree", "--locked", "--package", "nvgate", "--edges", "normal"])
        .args(["--prefix", "none", "--format", "{p}"])
        .output()
        .context("running cargo tree")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut crates: Vec<_> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?.to_owned(), words.next()?.trim_start_matches('v').to_owned()))
        })
        .collect();
    crates.sort();
    crates.dedup();
    let described = |(name, version): (String, String)| {
        let purl = format!("pkg:cargo/{name}@{version}");
        json!({"type": "library", "name": name, "version": version, "purl": purl})
    };
    Ok(crates.into_iter().map(described).collect())
}

/// A file's name, size and checksum.
pub fn described(path: &Path) -> Result<Value> {
    let name = path.file_name().context("a file has a name")?.to_string_lossy();
    let bytes = fs::metadata(path)?.len();
    Ok(json!({"name": name, "bytes": bytes, "sha256": sha256(path)?}))
}
