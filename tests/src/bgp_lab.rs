//! BGP daemons of others in the namespaces of a lab: BIRD and FRR, as tenants' routers.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use nvgate::demo::lab::Namespace;

use crate::run_lab_host::run;

/// The programs that tests with BIRD need.
pub const BIRD: [&str; 2] = ["bird", "birdc"];
/// The program that tests with FRR need, beside its daemon.
pub const FRR: [&str; 1] = ["vtysh"];
/// FRR's BGP daemon, which is on no search path.
const BGPD: &str = "/usr/lib/frr/bgpd";

/// A running daemon. It ends when dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    kind: Kind,
    directory: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Bird,
    Frr,
}

impl Daemon {
    /// Starts BIRD in a namespace, with its files in a directory of its own under `root`.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn bird(root: &Path, namespace: &Namespace, config: &str) -> Result<Self> {
        let directory = own_directory(root, namespace)?;
        let file = directory.join("bird.conf");
        fs::write(&file, config)?;
        let mut command = Command::new("bird");
        command.arg("-f").arg("-c").arg(&file);
        command.arg("-s").arg(directory.join("control")).arg("-P").arg(directory.join("pid"));
        Self::start(namespace, command, Kind::Bird, directory)
    }

    /// Starts FRR's bgpd alone, without a kernel's routes, in a namespace.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn frr(root: &Path, namespace: &Namespace, config: &str) -> Result<Self> {
        let directory = own_directory(root, namespace)?;
        let file = directory.join("bgpd.conf");
        fs::write(&file, config)?;
        let mut command = Command::new(BGPD);
        // Without zebra, and as root, which owns the directory.
        command.args(["-Z", "-S", "-A", "127.0.0.1", "-f"]).arg(&file);
        command.arg("-i").arg(directory.join("pid")).arg("--vty_socket").arg(&directory);
        command.arg("-z").arg(directory.join("zebra")).args(["-u", "root", "-g", "root"]);
        Self::start(namespace, command, Kind::Frr, directory)
    }

    fn start(
        namespace: &Namespace,
        mut command: Command,
        kind: Kind,
        directory: PathBuf,
    ) -> Result<Self> {
        let log = fs::File::create(directory.join("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = namespace.command(command)?;
        Ok(Self { child, kind, directory })
    }

    /// What the daemon answers to a command.
    ///
    /// # Errors
    ///
    /// When it does not.
    pub fn ask(&self, namespace: &Namespace, words: &str) -> Result<String> {
        let mut command = match self.kind {
            Kind::Bird => {
                let mut command = Command::new("birdc");
                command.arg("-s").arg(self.directory.join("control")).args(words.split(' '));
                command
            }
            Kind::Frr => {
                let mut command = Command::new("vtysh");
                command.arg("--vty_socket").arg(&self.directory).args(["-d", "bgpd", "-c", words]);
                command
            }
        };
        command.stdin(Stdio::null());
        let ended = run(namespace, command)?;
        let log = || fs::read_to_string(self.directory.join("log")).unwrap_or_default();
        ensure!(ended.code == Some(0), "{words}: {ended:?}\n{}", log());
        Ok(ended.output)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn own_directory(root: &Path, namespace: &Namespace) -> Result<PathBuf> {
    let directory = root.join(format!("bgp-{}", namespace.name()));
    fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    Ok(directory)
}
