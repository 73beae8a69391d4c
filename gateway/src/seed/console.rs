//! The consoles of the machine: all of them, since whoever runs it may see only one, and
//! /dev/console is just the last.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::libc::{O_NOCTTY, O_NONBLOCK};

/// The kernel's list of its consoles.
const ACTIVE: &str = "/sys/class/tty/console/active";
/// How long a console may take to take a text; a serial line whose other end has stopped it takes
/// nothing.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often is looked whether it takes more.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// The devices of this machine's consoles; none where there is no such list.
#[must_use]
pub fn consoles() -> Vec<PathBuf> {
    let active = fs::read_to_string(ACTIVE).unwrap_or_default();
    active.split_whitespace().map(|name| Path::new("/dev").join(name)).collect()
}

/// Writes `text` to each console. One that takes nothing misses it, and the log says so.
pub fn write_to(consoles: &[PathBuf], text: &str) {
    for console in consoles {
        if let Err(error) = write(console, text.as_bytes()) {
            tracing::warn!(console = %console.display(), %error, "console not written");
        }
    }
}

fn write(console: &Path, mut bytes: &[u8]) -> io::Result<()> {
    let mut file =
        OpenOptions::new().write(true).custom_flags(O_NOCTTY | O_NONBLOCK).open(console)?;
    let deadline = Instant::now() + PATIENCE;
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if Instant::now() >= deadline {
                    return Err(error);
                }
                sleep(LOOK_INTERVAL);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
