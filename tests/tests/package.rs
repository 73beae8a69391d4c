//! The Debian package: what is in it, that it is the same twice, what its unit may do, and that dpkg
//! installs, removes and purges it where no systemd runs, as in a chroot or the image's builder.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nvgate_tests::run_lab::binary;
use nvgate_tests::skip::has_peers;

/// The unit's exposure, in tenths, that `systemd-analyze security` may find at most.
const EXPOSURE: &str = "--threshold=20";

fn overlay() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/package/root")
}

/// What a command printed; it has to succeed.
fn said(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output().context(program.to_owned())?;
    let errors = String::from_utf8_lossy(&output.stderr);
    let out = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{program} {arguments:?}: {}\n{out}{errors}", output.status);
    Ok(out.into_owned())
}

/// Builds the package of the gateway under test into a folder.
fn build(out: &Path) -> Result<PathBuf> {
    let program = binary()?;
    let xtask = program.with_file_name("xtask");
    ensure!(xtask.is_file(), "no {}: build it by `cargo build -p xtask`", xtask.display());
    let (xtask, program) = (xtask.display().to_string(), program.display().to_string());
    let out = out.display().to_string();
    let printed = said(&xtask, &["package", "--program", &program, "--out", &out])?;
    Ok(PathBuf::from(printed.lines().last().context("the package's name")?))
}

#[test]
fn the_units_exposure_is_at_most_two() -> Result<()> {
    const TEST: &str = "the_units_exposure_is_at_most_two";
    if !has_peers(TEST, &["systemd-analyze"]) {
        return Ok(());
    }
    let unit = overlay().join("usr/lib/systemd/system/nvgate.service");
    let unit = unit.display().to_string();
    said("systemd-analyze", &["security", "--offline=true", EXPOSURE, &unit])?;
    let strict = said("systemd-analyze", &["security", "--offline=true", "--threshold=1", &unit]);
    ensure!(strict.is_err(), "a threshold is a threshold");
    Ok(())
}

#[test]
fn receiving_is_spread_only_where_queues_are_fewer_than_processors() -> Result<()> {
    let script = overlay().join("usr/lib/nvgate/spread-receiving").display().to_string();
    for (queues, processors, mask) in [
        (1, 1, "0"),
        (1, 2, "3"),
        (3, 4, "f"),
        (4, 4, "0"),
        (1, 32, "ffffffff"),
        (2, 40, "ff,ffffffff"),
        (0, 2, ""),
    ] {
        let sys = tempfile::tempdir()?;
        let directory = sys.path().join("class/net/eth9/queues");
        for queue in 0..queues {
            let queue = directory.join(format!("rx-{queue}"));
            fs::create_dir_all(&queue)?;
            fs::write(queue.join("rps_cpus"), "0\n")?;
        }
        for processor in 0..processors {
            fs::create_dir_all(sys.path().join(format!("devices/system/cpu/cpu{processor}")))?;
        }
        fs::create_dir_all(sys.path().join("devices/system/cpu/cpufreq"))?;
        said("sh", &[&script, "eth9", &sys.path().display().to_string()])?;
        for queue in 0..queues {
            let path = directory.join(format!("rx-{queue}/rps_cpus"));
            let found = fs::read_to_string(path)?;
            ensure!(found.trim() == mask, "{queues} queues, {processors} processors: {found}");
        }
    }
    Ok(())
}

#[test]
fn two_packages_of_one_program_are_the_same_and_have_everything() -> Result<()> {
    const TEST: &str = "two_packages_of_one_program_are_the_same_and_have_everything";
    if !has_peers(TEST, &["dpkg-deb", "dpkg-shlibdeps"]) {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let [first, second] = [build(&folder.path().join("a"))?, build(&folder.path().join("b"))?];
    ensure!(first.file_name() == second.file_name(), "{first:?} {second:?}");
    ensure!(fs::read(&first)? == fs::read(&second)?, "two builds differ");

    let file = first.display().to_string();
    let content = said("dpkg-deb", &["--contents", &file])?;
    for (line, place) in content.lines().map(|line| (line, line.split(" ./").nth(1))) {
        ensure!(line.split_whitespace().nth(1) == Some("root/root"), "{line}");
        let right = ["drwxr-xr-x", "-rwxr-xr-x", "-rw-r--r--", "lrwxrwxrwx"];
        ensure!(right.iter().any(|mode| line.starts_with(mode)), "{line}");
        let place = place.unwrap_or_default();
        let ours = ["usr/", "etc/nvgate/"].iter().any(|top| place.starts_with(top));
        ensure!(ours || ["", "etc/"].contains(&place), "{line}");
    }
    for wanted in [
        "-rwxr-xr-x root/root FILE ./usr/bin/nvgate",
        "-rwxr-xr-x root/root FILE ./usr/lib/nvgate/spread-receiving",
        "-rw-r--r-- root/root FILE ./usr/lib/systemd/system/nvgate.service",
        "-rw-r--r-- root/root FILE ./usr/lib/sysusers.d/nvgate.conf",
        "-rw-r--r-- root/root FILE ./usr/lib/tmpfiles.d/nvgate.conf",
        "-rw-r--r-- root/root FILE ./usr/lib/sysctl.d/50-nvgate.conf",
        "-rw-r--r-- root/root FILE ./usr/lib/udev/rules.d/80-nvgate-receive.rules",
        "-rw-r--r-- root/root FILE ./usr/share/man/man1/nvgate.1.gz",
        "-rw-r--r-- root/root FILE ./usr/share/man/man1/nvgate-image-deploy.1.gz",
        "-rw-r--r-- root/root FILE ./usr/share/bash-completion/completions/nvgate",
        "-rw-r--r-- root/root FILE ./usr/share/zsh/vendor-completions/_nvgate",
        "-rw-r--r-- root/root FILE ./usr/share/fish/vendor_completions.d/nvgate.fish",
        "-rw-r--r-- root/root FILE ./usr/share/doc/nvgate/copyright",
        "-rw-r--r-- root/root FILE ./usr/share/doc/nvgate/examples/gateway.yaml",
        "drwxr-xr-x root/root FILE ./etc/nvgate/tenants.d/",
    ] {
        let (mode, place) = wanted.split_once(" root/root FILE ").context("a row")?;
        let found = content.lines().any(|line| line.starts_with(mode) && line.ends_with(place));
        ensure!(found, "no {wanted} in\n{content}");
    }
    let control = said("dpkg-deb", &["--field", &file])?;
    for field in ["Package: nvgate", "Depends: libc6 (>= ", "systemd (>= 252)"] {
        ensure!(control.contains(field), "no {field} in\n{control}");
    }
    Ok(())
}

/// A script's beginning: the host's root with everything that is written to it forgotten, in `$root`.
const FORGETFUL_ROOT: &str = "set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs \"$1\"
mkdir \"$1/new\" \"$1/work\" \"$1/root\"
mount -t overlay overlay -o \"lowerdir=/,upperdir=$1/new,workdir=$1/work\" \"$1/root\"
mount --bind /dev \"$1/root/dev\"
mount -t proc proc \"$1/root/proc\"
cp \"$2\" \"$1/root/nvgate.deb\"
root=$1/root
in_root() { env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive chroot \"$root\" \"$@\"; }
";

#[test]
fn the_package_is_installed_removed_and_purged_where_no_systemd_runs() -> Result<()> {
    const TEST: &str = "the_package_is_installed_removed_and_purged_where_no_systemd_runs";
    // Each line has to succeed.
    const STORY: &str = r#"
in_root dpkg --install /nvgate.deb
in_root dpkg --verify nvgate
test "$(in_root stat -c '%U:%G %a' /etc/nvgate/tenants.d)" = 'root:nvgate 750'
test "$(in_root stat -c '%U:%G %a' /var/lib/nvgate)" = 'nvgate:nvgate 700'
test "$(in_root getent passwd nvgate | cut -d: -f6-)" = '/var/lib/nvgate:/usr/sbin/nologin'
test "$(SYSTEMD_OFFLINE=1 in_root systemctl is-enabled nvgate.service)" = enabled
in_root systemd-analyze verify --man=no nvgate.service
in_root nvgate --version
touch "$root/etc/nvgate/gateway.yaml"
in_root systemctl disable nvgate.service
in_root dpkg --install /nvgate.deb
test "$(in_root systemctl is-enabled nvgate.service || true)" = disabled
in_root systemctl enable nvgate.service
in_root dpkg --remove nvgate
test ! -e "$root/usr/bin/nvgate"
test -d "$root/var/lib/nvgate"
in_root dpkg --install /nvgate.deb
test "$(in_root systemctl is-enabled nvgate.service)" = enabled
in_root dpkg --purge nvgate
test ! -L "$root/etc/systemd/system/multi-user.target.wants/nvgate.service"
test ! -e "$root/var/lib/nvgate"
test -f "$root/etc/nvgate/gateway.yaml"
"#;
    if !has_peers(TEST, &["dpkg-deb", "dpkg-shlibdeps", "systemctl", "unshare"]) {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let package = build(&folder.path().join("package"))?;
    let mounts = folder.path().join("mounts");
    fs::create_dir(&mounts)?;
    fs::set_permissions(&mounts, fs::Permissions::from_mode(0o700))?;
    let script = format!("{FORGETFUL_ROOT}set -x\n{STORY}");
    let (mounts, package) = (mounts.display().to_string(), package.display().to_string());
    said("unshare", &["--mount", "sh", "-c", &script, "sh", &mounts, &package])?;
    Ok(())
}
