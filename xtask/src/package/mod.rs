//! `cargo xtask package`: a Debian package for those who run a machine of their own.
//!
//! What is in it is said by the files of `deploy/package`; man pages and completions are the
//! program's own. The image has the same package in it. Two packages of one program and commit are identical.

mod control;
mod program;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::files;
use crate::origin::Origin;
use crate::peers;
use crate::tool::Tool;
pub use program::{build_program, strip};

/// Programs that a package is built with, and the Debian packages they come in.
const PROGRAMS: [(&str, &str); 5] = [
    ("dpkg-deb", "dpkg"),
    ("dpkg-shlibdeps", "dpkg-dev"),
    ("strip", "binutils"),
    ("gzip", "gzip"),
    ("find", "findutils"),
];

/// Directories that are empty in the package.
const EMPTY: [&str; 1] = ["etc/nvgate/tenants.d"];

/// Builds the package of `program`, or else of a release build made for it, into the folder `out`,
/// and returns the package's file.
///
/// # Errors
///
/// Without Debian's tools, or when a step fails.
pub fn build(out: &Path, program: Option<&Path>) -> Result<PathBuf> {
    install()?;
    files::make_directory(out)?;
    let out = out.canonicalize().context("finding the folder of the package")?;
    let origin = Origin::of_workspace()?;
    let places = Places::new(&out)?;
    let tree = places.work.join("tree");
    fill(&places, &tree, program)?;
    control::write(&places, &tree, &origin)?;
    let name = format!("nvgate_{}_{}.deb", origin.version, control::architecture()?);
    let package = out.join(name);
    Tool::new("dpkg-deb")
        // With more than one thread the bytes depend on how many.
        .args(["--root-owner-group", "-Zxz", "--threads-max=1", "--build"])
        .arg(&tree)
        .arg(&package)
        .env("SOURCE_DATE_EPOCH", origin.epoch.to_string())
        .run()?;
    fs::remove_dir_all(&places.work).context("removing what the package was made of")?;
    Ok(package)
}

/// Installs what is missing for building packages.
pub fn install() -> Result<()> {
    let missing = PROGRAMS.iter().filter(|(program, _)| !peers::on_path(program));
    let missing: Vec<_> = missing.map(|(_, package)| *package).collect();
    if missing.is_empty() { Ok(()) } else { peers::install_packages(&missing) }
}

/// The directories of a build.
struct Places {
    /// The workspace.
    workspace: PathBuf,
    /// What the package is made of: `deploy/package`.
    recipe: PathBuf,
    /// What is needed during one build only.
    work: PathBuf,
}

impl Places {
    fn new(out: &Path) -> Result<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let workspace = manifest.parent().context("xtask is in no workspace")?.to_owned();
        let work = out.join("work");
        if work.exists() {
            fs::remove_dir_all(&work).context("removing what an earlier build left")?;
        }
        files::make_directory(&work)?;
        Ok(Self { recipe: workspace.join("deploy/package"), workspace, work })
    }
}

/// Everything that is installed.
fn fill(places: &Places, tree: &Path, program: Option<&Path>) -> Result<()> {
    files::make_directory(tree)?;
    files::copy_tree(&places.recipe.join("root"), tree)?;
    for directory in EMPTY {
        files::make_directory(&tree.join(directory))?;
    }
    let shipped = places.work.join("nvgate");
    match program {
        Some(program) => strip(program, &shipped)?,
        None => strip(&build_program()?, &shipped)?,
    }
    files::make_directory(&tree.join("usr/bin"))?;
    files::install(&shipped, &tree.join("usr/bin/nvgate"), 0o755)?;

    let generated = places.work.join("share");
    files::make_directory(&generated)?;
    Tool::new(&shipped).arg("documents").arg(&generated).run()?;
    let share = tree.join("usr/share");
    files::make_directory(&share)?;
    files::copy_tree(&generated, &share)?;

    let documents = share.join("doc/nvgate");
    let examples = documents.join("examples");
    files::make_directory(&examples)?;
    files::copy_tree(&places.workspace.join("deploy/examples"), &examples)?;
    files::install(&places.workspace.join("CHANGELOG.md"), &documents.join("CHANGELOG.md"), 0o644)?;
    files::install(&places.workspace.join("README.md"), &documents.join("README.md"), 0o644)?;
    fs::write(documents.join("copyright"), COPYRIGHT)?;
    // Without the name and the time.
    let pages = "gzip -9n man/man1/*.1 doc/nvgate/CHANGELOG.md && chmod -R go=rX .";
    Tool::new("sh").args(["-c", pages]).within_directory(&share).run()
}

const COPYRIGHT: &str = "\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: nvgate

Files: *
Copyright: the nvgate project
License: Apache-2.0
 On Debian systems the text of the Apache License 2.0 is in /usr/share/common-licenses/Apache-2.0.
";
