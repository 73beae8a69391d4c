//! What dpkg is told of the package.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context, Result};

use super::Places;
use crate::files;
use crate::origin::Origin;
use crate::tool::Tool;

/// What dpkg runs.
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// Writes DEBIAN/ into a tree that is otherwise complete.
pub fn write(places: &Places, tree: &Path, origin: &Origin) -> Result<()> {
    let folder = tree.join("DEBIAN");
    let kib = kib(tree)?;
    let sums = sums(tree)?;
    let libraries = libraries(places, &tree.join("usr/bin/nvgate"))?;
    files::make_directory(&folder)?;
    let architecture = architecture()?;
    let version = &origin.version;
    let mut control = String::new();
    writeln!(control, "Package: nvgate\nVersion: {version}\nArchitecture: {architecture}")?;
    // systemd: the unit and its maintainer scripts, and users and folders by sysusers and tmpfiles.
    writeln!(control, "Depends: {libraries}, systemd (>= 252)\nRecommends: udev")?;
    writeln!(control, "Maintainer: the nvgate project <nvgate@invalid>")?;
    writeln!(control, "Section: net\nPriority: optional\nInstalled-Size: {kib}")?;
    writeln!(control, "Nvgate-Commit: {}", origin.commit)?;
    control.push_str(
        "Description: multi-tenant virtualization gateway\n \
         Joins tenants' virtual networks (NVGRE) to the rest of the world: routing\n \
         between their subnets, NAT, WireGuard tunnels to their premises, and BGP, for\n \
         tenants whose addresses overlap. It serves what /etc/nvgate describes; examples\n \
         are in /usr/share/doc/nvgate/examples.\n",
    );
    let mut texts = vec![("control", control, 0o644), ("md5sums", sums, 0o644)];
    for script in SCRIPTS {
        let text = fs::read_to_string(places.recipe.join("debian").join(script))
            .with_context(|| format!("reading {script}"))?;
        texts.push((script, text, 0o755));
    }
    for (name, text, mode) in texts {
        let path = folder.join(name);
        fs::write(&path, text)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode)))
            .with_context(|| format!("writing {name}"))?;
    }
    Ok(())
}

/// Debian's name of what this machine runs.
pub fn architecture() -> Result<String> {
    Ok(Tool::new("dpkg").arg("--print-architecture").output()?.trim().to_owned())
}

/// The packages of the libraries that a program needs.
fn libraries(places: &Places, program: &Path) -> Result<String> {
    // It insists on a source package to be in.
    let source = places.work.join("source");
    files::make_directory(&source.join("debian"))?;
    fs::write(
        source.join("debian/control"),
        "Source: nvgate\n\nPackage: nvgate\nArchitecture: any\n",
    )?;
    let said = Tool::new("dpkg-shlibdeps")
        .arg("-O")
        .arg(format!("-e{}", program.display()))
        .within_directory(&source)
        .output()?;
    let depends = said.trim().strip_prefix("shlibs:Depends=");
    depends.map(str::to_owned).with_context(|| format!("dpkg-shlibdeps said {said}"))
}

/// The files' sizes in KiB, each rounded up, as dpkg counts them.
fn kib(tree: &Path) -> Result<u64> {
    let sizes = Tool::new("find").arg(tree).args(["-type", "f", "-printf", "%s\\n"]).output()?;
    let sizes = sizes.lines().map(|size| Ok(size.parse::<u64>()?.div_ceil(1024)));
    sizes.sum::<Result<u64>>().context("a file's size")
}

fn sums(tree: &Path) -> Result<String> {
    let list = "find . -type f -printf '%P\\0' | sort -z | xargs -0 md5sum";
    Tool::new("sh").args(["-c", list]).within_directory(tree).output()
}
