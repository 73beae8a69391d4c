//! The root's tree: Debian's packages, unpacked as they are and kept for a day; then without what
//! nothing in the image uses, with the files of `deploy/image/root`, and with nvgate.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::{Packages, Places, lines_of, sha256};
use crate::files;
use crate::origin::Origin;
use crate::tool::Tool;

/// The release of Debian that packages are from.
pub const SUITE: &str = "trixie";

/// Makes a /dev of its own, since maintainer scripts change the modes of what they find there, and
/// then runs its arguments.
const OWN_DEV: &str = r#"set -e
new=$1; shift
mount -t tmpfs -o mode=755 dev "$new"
for name in null zero full random urandom tty; do cp -a "/dev/$name" "$new"; done
ln -s /proc/self/fd "$new/fd"
ln -s pts/ptmx "$new/ptmx"
mkdir "$new/pts" "$new/shm"
mount --move "$new" /dev
mount -t devpts -o newinstance,ptmxmode=666 devpts /dev/pts
exec "$@"
"#;

/// Where the package of nvgate is while it is installed.
const PACKAGE: &str = "nvgate.deb";

/// What no program of the image reads.
const UNUSED: [&str; 24] = [
    PACKAGE,
    "boot",
    "etc/apt",
    "etc/initramfs-tools",
    "etc/kernel",
    "etc/ssh/ssh_host_ecdsa_key",
    "etc/ssh/ssh_host_ecdsa_key.pub",
    "etc/ssh/ssh_host_ed25519_key",
    "etc/ssh/ssh_host_ed25519_key.pub",
    "etc/ssh/ssh_host_rsa_key",
    "etc/ssh/ssh_host_rsa_key.pub",
    "usr/lib/udev/hwdb.bin",
    "usr/lib/udev/hwdb.d",
    "usr/share/bash-completion",
    "usr/share/bug",
    "usr/share/debconf",
    "usr/share/i18n",
    "usr/share/initramfs-tools",
    "usr/share/lintian",
    "usr/share/perl5",
    "usr/share/zsh",
    "usr/src",
    "vmlinuz",
    "vmlinuz.old",
];

/// Kernel modules for what no gateway has, below `kernel/`.
const UNUSED_MODULES: [&str; 29] = [
    "arch/x86/kvm",
    "drivers/char/pcmcia",
    "drivers/comedi",
    "drivers/cpufreq",
    "drivers/gpu",
    "drivers/infiniband",
    "drivers/media",
    "drivers/mtd",
    "drivers/nvdimm",
    "drivers/soundwire",
    "drivers/target",
    "drivers/usb",
    "fs/9p",
    "fs/btrfs",
    "fs/ceph",
    "fs/cifs",
    "fs/f2fs",
    "fs/gfs2",
    "fs/jfs",
    "fs/nfs",
    "fs/nfsd",
    "fs/ntfs3",
    "fs/ocfs2",
    "fs/reiserfs",
    "fs/smb",
    "fs/xfs",
    "net/ceph",
    "net/sunrpc",
    "virt",
];

/// A tree that is complete, and what it was made of.
pub struct Tree {
    /// Its directory.
    pub path: PathBuf,
    /// The kernel, taken out of it.
    pub kernel: PathBuf,
    /// The kernel's release, as in `/lib/modules`.
    pub release: String,
    /// Debian's packages in it with their versions, by name.
    pub packages: Vec<(String, String)>,
}

/// The packages unpacked and configured, as a tar archive: the one of today if there is one.
pub fn packages(places: &Places, packages: Packages) -> Result<PathBuf> {
    let list = places.recipe.join("packages");
    let today = Tool::new("date").args(["-u", "+%Y%m%d"]).output()?;
    let key = format!("packages-{SUITE}-{}-{}", today.trim(), &sha256(&list)?[..16]);
    let tarball = places.cache.join(format!("{key}.tar"));
    if packages == Packages::Cached && tarball.exists() {
        return Ok(tarball);
    }
    fs::remove_dir_all(&places.cache).context("removing older packages")?;
    fs::create_dir_all(&places.cache)?;
    let (removed, wanted): (Vec<_>, Vec<_>) =
        lines_of(&list)?.into_iter().partition(|line| line.starts_with('-'));
    let removed: Vec<_> = removed.iter().map(|line| line.trim_start_matches('-')).collect();
    let purge = format!(
        "chroot \"$1\" dpkg --purge --force-depends --force-remove-essential {}",
        removed.join(" ")
    );
    let own_dev = places.work.join("dev");
    fs::create_dir(&own_dev)?;
    let unfinished = places.cache.join("unfinished.tar");
    let exclude = |path: &str| format!("--dpkgopt=path-exclude=/usr/share/{path}");
    Tool::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", OWN_DEV, "sh"])
        .arg(&own_dev)
        .args(["mmdebstrap", "--mode=root", "--variant=essential", "--architectures=amd64"])
        .arg(format!("--include={}", wanted.join(",")))
        .arg("--aptopt=APT::Install-Recommends \"false\"")
        .args(["doc/*", "man/*", "locale/*", "info/*"].map(exclude))
        // Licences stay.
        .arg("--dpkgopt=path-include=/usr/share/doc/*/copyright")
        .arg(format!("--customize-hook={purge}"))
        .arg(SUITE)
        .arg(&unfinished)
        // The initial RAM disk is our own.
        .env("INITRD", "No")
        // The day: what maintainer scripts write has this time.
        .env("SOURCE_DATE_EPOCH", midnight()?)
        .run()?;
    fs::rename(&unfinished, &tarball)?;
    Ok(tarball)
}

fn midnight() -> Result<String> {
    let seconds = Tool::new("date").args(["-u", "+%s", "-d", "00:00"]).output()?;
    Ok(seconds.trim().to_owned())
}

/// The tree of an image.
pub fn assemble(places: &Places, tarball: &Path, package: &Path, origin: &Origin) -> Result<Tree> {
    let path = places.work.join("tree");
    fs::create_dir(&path)?;
    Tool::new("tar").arg("-C").arg(&path).arg("-xpf").arg(tarball).run()?;
    fs::copy(package, path.join(PACKAGE)).context("the package nvgate")?;
    Tool::within(&path, "dpkg").args(["--install", PACKAGE]).run()?;
    let packages = package_list(&path)?;
    let release = kernel_release(&path)?;
    let kernel = places.work.join("vmlinuz");
    fs::copy(path.join(format!("boot/vmlinuz-{release}")), &kernel).context("the kernel")?;

    for unused in UNUSED {
        remove(&path.join(unused))?;
    }
    for unused in UNUSED_MODULES {
        remove(&path.join(format!("usr/lib/modules/{release}/kernel/{unused}")))?;
    }
    unpack_modules(&path.join("usr/lib/modules").join(&release))?;
    Tool::new("depmod").arg("-b").arg(&path).arg(&release).run()?;
    files::copy_tree(&places.recipe.join("root"), &path)?;
    fs::write(path.join("usr/lib/os-release"), os_release(origin))?;
    let epoch = origin.epoch.to_string();
    Tool::within(&path, "systemd-sysusers").env("SOURCE_DATE_EPOCH", &epoch).run()?;
    Tool::within(&path, "systemctl").args(["preset-all", "--preset-mode=full"]).run()?;
    finish(&path)?;
    Ok(Tree { path, kernel, release, packages })
}

/// The root is packed as a whole, by what unpacks faster.
fn unpack_modules(directory: &Path) -> Result<()> {
    let unpack = "find . -name '*.ko.xz' -print0 | xargs -0 xz -q --decompress --";
    Tool::new("sh").args(["-c", unpack]).within_directory(directory).run()
}

/// What is the same in every image: nothing that a machine has of its own, nothing in /var, which is
/// the state partition, and no package manager.
fn finish(tree: &Path) -> Result<()> {
    for name in ["dpkg", "dpkg-deb", "dpkg-divert", "dpkg-query", "dpkg-realpath", "dpkg-split"] {
        remove(&tree.join("usr/bin").join(name))?;
    }
    for directory in ["var", "run", "tmp", "dev"] {
        remove(&tree.join(directory))?;
        fs::create_dir(tree.join(directory))?;
    }
    fs::set_permissions(tree.join("tmp"), fs::Permissions::from_mode(0o1777))?;
    fs::create_dir_all(tree.join("efi"))?;
    fs::write(tree.join("etc/machine-id"), "")?;
    for (link, to) in
        [("etc/nvgate", "/var/lib/nvgate-seed/current"), ("etc/mtab", "../proc/self/mounts")]
    {
        remove(&tree.join(link))?;
        symlink(to, tree.join(link)).with_context(|| format!("linking {link}"))?;
    }
    Ok(())
}

fn os_release(origin: &Origin) -> String {
    let Origin { commit, version, .. } = origin;
    format!(
        "PRETTY_NAME=\"nvgate {version}\"\nNAME=\"nvgate\"\nID=nvgate\nID_LIKE=debian\n\
         VERSION_ID=\"{version}\"\nVERSION_CODENAME={SUITE}\nIMAGE_ID=nvgate\n\
         IMAGE_VERSION={version}\nBUILD_ID={commit}\n"
    )
}

fn kernel_release(tree: &Path) -> Result<String> {
    let mut releases = fs::read_dir(tree.join("usr/lib/modules"))?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<_>>>()?;
    ensure!(releases.len() == 1, "{} kernels instead of one", releases.len());
    Ok(releases.remove(0))
}

fn package_list(tree: &Path) -> Result<Vec<(String, String)>> {
    let format = "${db:Status-Abbrev} ${Package} ${Version}\\n";
    let text = Tool::within(tree, "dpkg-query").args(["-W", "-f", format]).output()?;
    let mut packages: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("ii")?.trim().split_once(' '))
        .map(|(name, version)| (name.to_owned(), version.to_owned()))
        .collect();
    packages.sort();
    ensure!(!packages.is_empty(), "the tree has no packages");
    Ok(packages)
}

fn remove(path: &Path) -> Result<()> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    if metadata.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
        .with_context(|| format!("removing {}", path.display()))
}
