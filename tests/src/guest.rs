//! A Linux guest under qemu's emulation, for what this machine's kernel lacks: Debian's cloud kernel
//! (from `cargo xtask peers`), an initramfs made here of busybox, the modules and programs that are
//! named, and a shell that runs what the test sends over a serial line. It needs no /dev/kvm, boots in
//! about ten seconds, and is gone with its [`Guest`].

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

use crate::skip::{has_peers, skip_unless_required};

/// How long a guest may take to boot.
const BOOT: Duration = Duration::from_secs(90);
/// How long a script may take in the guest.
const SCRIPT: Duration = Duration::from_secs(60);
/// What one script may print, in bytes.
const MAX_OUTPUT: usize = 1 << 20;
/// Reads of the serial line that wait for the test.
const UNREAD: usize = 1024;
/// Lines of the console that an error shows.
const CONSOLE_TAIL: usize = 30;
/// Precedes the exit status of a script (the ASCII record separator).
const END: u8 = 0x1e;

/// What is in a guest.
#[derive(Clone, Debug, Default)]
pub struct GuestPlan {
    /// Kernel modules, loaded at boot in this order, each after what it needs.
    pub modules: Vec<String>,
    /// Programs of this machine, by path or by a name on `PATH`, with their shared libraries and
    /// without debug information.
    pub programs: Vec<PathBuf>,
    /// Files by absolute path.
    pub files: Vec<(String, Vec<u8>)>,
    /// Network cards, in the guest eth0 and so on.
    pub taps: Vec<Tap>,
    /// What starts qemu, such as `ip netns exec NAME`: where the taps are.
    pub within: Vec<String>,
    /// Memory in MiB; 512 unless said.
    pub memory: Option<u32>,
}

/// A network card of a guest, whose other end is a tap device that lives as long as the guest.
#[derive(Clone, Debug)]
pub struct Tap {
    /// The tap device's name; it is made down and without addresses.
    pub name: String,
    /// The card's MAC address.
    pub mac: String,
}

/// A running guest.
#[derive(Debug)]
pub struct Guest {
    qemu: Child,
    input: ChildStdin,
    output: Receiver<Vec<u8>>,
    /// What came after the last status.
    rest: Vec<u8>,
    directory: TempDir,
}

/// What a script printed on both of its outputs, and its exit status.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Said {
    /// 0 of a script that succeeded.
    pub status: i32,
    /// Bytes that are no UTF-8 are replaced.
    pub text: String,
}

/// The programs that a guest needs on this machine.
const PROGRAMS: [&str; 5] = ["qemu-system-x86_64", "busybox", "setpriv", "ldd", "strip"];

/// Whether `test` can boot guests here; when not, it is recorded as skipped.
///
/// # Panics
///
/// When it cannot and `NVGATE_REQUIRE_PEERS` is 1.
#[must_use]
pub fn can_boot(test: &str) -> bool {
    if !has_peers(test, &PROGRAMS) {
        return false;
    }
    let kernel = kept();
    if let Err(error) = &kernel {
        skip_unless_required(test, &error.to_string());
    }
    kernel.is_ok()
}

impl Guest {
    /// Boots a guest and waits for its shell.
    ///
    /// # Errors
    ///
    /// Something is missing, or it does not boot in 90 s; with the end of its console.
    pub fn boot(plan: &GuestPlan) -> Result<Self> {
        let kernel = kept()?;
        let directory = TempDir::with_prefix("nvgate-guest-")?;
        let root = directory.path().join("root");
        lay_out(plan, &kernel, &root)?;
        let initramfs = directory.path().join("initramfs");
        pack(&root, &initramfs)?;
        fs::remove_dir_all(&root)?;
        let mut words = plan.within.clone();
        words.extend(["setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64"].map(str::to_owned));
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .args(["-accel", "tcg,thread=multi", "-machine", "q35", "-cpu", "max", "-smp", "2"])
            .args(["-m", &plan.memory.unwrap_or(512).to_string(), "-no-reboot", "-nodefaults"])
            .args(["-display", "none", "-kernel"])
            .arg(kernel.join("kernel"))
            .arg("-initrd")
            .arg(&initramfs)
            .args(["-append", "console=ttyS0 panic=-1 loglevel=4 random.trust_cpu=on"])
            .arg("-serial")
            .arg(format!("file:{}", console(directory.path()).display()))
            .args(["-serial", "stdio"]);
        for (index, Tap { name, mac }) in plan.taps.iter().enumerate() {
            let end = format!("tap,id=n{index},ifname={name},script=no,downscript=no");
            let card = format!("virtio-net-pci,netdev=n{index},mac={mac},romfile=");
            command.args(["-netdev", &end, "-device", &card]);
        }
        let complaints = File::create(directory.path().join("qemu.log"))?;
        let mut qemu = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(complaints)
            .spawn()
            .context("starting qemu")?;
        let input = qemu.stdin.take().context("qemu has an input")?;
        let mut from = qemu.stdout.take().context("qemu has an output")?;
        let (sender, output) = sync_channel(UNREAD);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        let mut guest = Self { qemu, input, output, rest: Vec::new(), directory };
        let said = guest.hear(BOOT).context("booting a guest")?;
        ensure!(said.status == 0, "the guest's start failed: {}\n{}", said.text, guest.console());
        Ok(guest)
    }

    /// Runs a shell script and returns what it printed. What it leaves running must print elsewhere.
    ///
    /// # Errors
    ///
    /// Its status is not 0, or it takes longer than 60 s.
    pub fn run(&mut self, script: &str) -> Result<String> {
        let said = self.ask(script)?;
        ensure!(said.status == 0, "`{script}` in the guest: {}: {}", said.status, said.text);
        Ok(said.text)
    }

    /// As [`run`](Self::run), however it ends.
    ///
    /// # Errors
    ///
    /// It takes longer than 60 s, or the guest has ended.
    pub fn ask(&mut self, script: &str) -> Result<Said> {
        let mut line = base64(script.as_bytes());
        line.push('\n');
        self.input.write_all(line.as_bytes()).context("the guest has ended")?;
        self.input.flush()?;
        self.hear(SCRIPT).with_context(|| format!("running `{script}` in the guest"))
    }

    /// Runs a script again and again until `holds` of what it printed.
    ///
    /// # Errors
    ///
    /// It does not within `patience`; with what was printed last.
    pub fn until(
        &mut self,
        patience: Duration,
        script: &str,
        holds: impl Fn(&Said) -> bool,
    ) -> Result<String> {
        let deadline = Instant::now() + patience;
        loop {
            let said = self.ask(script)?;
            if holds(&said) {
                return Ok(said.text);
            }
            ensure!(
                Instant::now() < deadline,
                "`{script}` in the guest, after {} s: {}: {}",
                patience.as_secs(),
                said.status,
                said.text
            );
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// The end of what the kernel and the start said.
    #[must_use]
    pub fn console(&self) -> String {
        let text = fs::read(console(self.directory.path())).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let said = fs::read_to_string(self.directory.path().join("qemu.log")).unwrap_or_default();
        format!("{}\n{said}", lines[lines.len().saturating_sub(CONSOLE_TAIL)..].join("\n"))
    }

    /// What is printed up to the next status, and that.
    fn hear(&mut self, patience: Duration) -> Result<Said> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(said) = take(&mut self.rest)? {
                return Ok(said);
            }
            ensure!(self.rest.len() <= MAX_OUTPUT, "more than {MAX_OUTPUT} bytes were printed");
            match self.output.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.rest.extend(bytes),
                Err(RecvTimeoutError::Timeout) => bail!(
                    "no answer in {} s; printed: {}\nconsole: {}",
                    patience.as_secs(),
                    String::from_utf8_lossy(&self.rest),
                    self.console()
                ),
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("the guest has ended; console: {}", self.console())
                }
            }
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// Takes a script's output and its status from what was heard, when both are complete.
fn take(heard: &mut Vec<u8>) -> Result<Option<Said>> {
    let Some(end) = heard.iter().position(|byte| *byte == END) else { return Ok(None) };
    let Some(length) = heard[end..].iter().position(|byte| *byte == b'\n') else { return Ok(None) };
    let status = std::str::from_utf8(&heard[end + 1..end + length])?;
    let status = status.parse().with_context(|| format!("`{status}` is no exit status"))?;
    let text = String::from_utf8_lossy(&heard[..end]).into_owned();
    heard.drain(..=end + length);
    Ok(Some(Said { status, text }))
}

fn console(directory: &Path) -> PathBuf {
    directory.join("console")
}

/// Where `cargo xtask peers` keeps the kernel: beside the folder of this test's profile.
fn kept() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let target = own.ancestors().nth(3).context("a test's executable is in target/*/deps")?;
    let kept = target.join("guest");
    ensure!(
        kept.join("kernel").is_file(),
        "no kernel for guests in {}: run `cargo xtask peers`",
        kept.display()
    );
    Ok(kept)
}

/// Lays out the guest's file system.
fn lay_out(plan: &GuestPlan, kernel: &Path, root: &Path) -> Result<()> {
    for folder in
        ["bin", "dev", "etc", "modules", "proc", "run", "sys", "tmp", "var", "usr/local/bin"]
    {
        fs::create_dir_all(root.join(folder))?;
    }
    symlink("/run", root.join("var/run"))?;
    let busybox = on_path(Path::new("busybox"))?;
    copy_with_libraries(&busybox, &root.join("bin/busybox"), root)?;
    // Busybox's own shell would run its applets instead of these programs.
    let shell = PathBuf::from("sh");
    for program in plan.programs.iter().chain([&shell]) {
        let program = on_path(program)?;
        let name = program.file_name().context("a program has a name")?;
        let copy = root.join("usr/local/bin").join(name);
        copy_with_libraries(&program, &copy, root)?;
        // Scripts and what is stripped already stay as they are.
        let _ =
            Command::new("strip").arg("--strip-debug").arg(&copy).stderr(Stdio::null()).status();
    }
    let mut named = plan.modules.clone();
    if !plan.taps.is_empty() {
        named.splice(0..0, ["virtio_pci", "virtio_net"].map(str::to_owned));
    }
    let modules = load_order(&kernel.join("modules"), &named)?;
    for (index, module) in modules.iter().enumerate() {
        fs::copy(module, root.join(format!("modules/{index:03}.ko")))?;
    }
    for (path, content) in &plan.files {
        let path = root.join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().context("a file is in a folder")?)?;
        fs::write(path, content)?;
    }
    let init = root.join("init");
    fs::write(&init, include_str!("guest_init.sh"))?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// Packs the file system as the kernel unpacks it.
fn pack(root: &Path, initramfs: &Path) -> Result<()> {
    let packed = Command::new("sh")
        .args(["-c", "find . | busybox cpio -o -H newc 2>/dev/null"])
        .current_dir(root)
        .stdout(File::create(initramfs)?)
        .status()?;
    ensure!(packed.success(), "packing the initramfs: {packed}");
    Ok(())
}

fn on_path(program: &Path) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    // An absolute path replaces what it is joined to.
    let found = folders.map(|folder| folder.join(program)).find(|path| path.is_file());
    found.with_context(|| format!("there is no program {}", program.display()))
}

/// Copies a program, and the shared libraries that it names to where it looks for them.
fn copy_with_libraries(program: &Path, copy: &Path, root: &Path) -> Result<()> {
    fs::copy(program, copy).with_context(|| format!("copying {}", program.display()))?;
    let output = Command::new("ldd").arg(program).output().context("running ldd")?;
    let text = String::from_utf8_lossy(&output.stdout);
    for library in text.split_ascii_whitespace().filter(|word| word.starts_with('/')) {
        let to = root.join(library.trim_start_matches('/'));
        if !to.exists() {
            fs::create_dir_all(to.parent().context("a library is in a folder")?)?;
            fs::copy(library, to).with_context(|| format!("copying {library}"))?;
        }
    }
    Ok(())
}

/// The files of the modules and of all that they need, each after what it needs.
fn load_order(modules: &Path, named: &[String]) -> Result<Vec<PathBuf>> {
    let known = fs::read_to_string(modules.join("modules.dep"))?;
    let built_in = fs::read_to_string(modules.join("modules.builtin"))?;
    let is = |path: &str, name: &str| {
        let file = path.rsplit('/').next().and_then(|file| file.split_once(".ko"));
        file.is_some_and(|(found, _)| found.replace('-', "_") == name.replace('-', "_"))
    };
    let mut order: Vec<PathBuf> = Vec::new();
    for name in named {
        let line = known.lines().filter_map(|line| line.split_once(':'));
        let Some((module, needs)) = line.clone().find(|(path, _)| is(path, name)) else {
            ensure!(built_in.lines().any(|path| is(path, name)), "the kernel has no module {name}");
            continue;
        };
        // modules.dep names what is to be loaded first last.
        for path in needs.split_ascii_whitespace().rev().chain([module]) {
            let path = modules.join(path);
            if !order.contains(&path) {
                order.push(path);
            }
        }
    }
    Ok(order)
}

/// RFC 4648 section 4: a script becomes one line.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - three.len()));
        for place in 0..4 {
            let sextet = (bits >> (18 - 6 * place)) as usize & 63;
            text.push(if place <= three.len() { char::from(ALPHABET[sextet]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_sent_as_one_line() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob\n", "Zm9vYgo=")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn output_and_status_are_told_apart_wherever_reads_end() {
        let mut heard = Vec::new();
        let mut said = Vec::new();
        for byte in b"one\ntwo\n\x1e3\n\x1e0\nthr" {
            heard.push(*byte);
            said.extend(take(&mut heard).unwrap());
        }
        let all = [("one\ntwo\n", 3), ("", 0)];
        assert_eq!(said, all.map(|(text, status)| Said { status, text: text.to_owned() }));
        assert_eq!(heard, b"thr");
    }
}
