//! The file that `nvgate image update` takes: a tar archive of what goes into a slot and onto the
//! ESP, behind a manifest that says what each part is.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::json;

use super::Places;
use super::manifest::{Manifest, described};
use crate::tool::Tool;

/// The form of the archive; a gateway refuses one that it does not know.
const FORM: u32 = 1;

/// Packs the parts of an image.
pub fn pack(places: &Places, image: &Manifest<'_>) -> Result<PathBuf> {
    let Manifest { origin, root, kernel, .. } = image;
    let parts = [&root.image, &root.hashes, &kernel.path];
    let described = parts.map(|path| described(path)).into_iter().collect::<Result<Vec<_>>>()?;
    let manifest = json!({
        "form": FORM,
        "version": origin.version,
        "root_hash": root.hash,
        "parts": described,
    });
    let path = places.work.join("manifest.json");
    fs::write(&path, format!("{manifest:#}\n"))?;
    let archive = places.product(origin, "update");
    let mut tar = Tool::new("tar")
        .args(["--format=ustar", "--owner=0", "--group=0", "--numeric-owner", "--mode=0644"])
        .arg(format!("--mtime=@{}", origin.epoch))
        .arg("-cf")
        .arg(&archive)
        .arg("-C")
        .arg(&places.work);
    for part in [&path].into_iter().chain(parts) {
        tar = tar.arg(part.file_name().context("a part is a file")?);
    }
    tar.run()?;
    Ok(archive)
}
