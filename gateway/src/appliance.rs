//! What a machine of the image tells health of its updates. Only root sees the boot loader's entries,
//! so root writes a report once a boot, and after an update: a line for each version that was given up.

use std::fs;
use std::io;
use std::path::Path;

use nvgate_deploy::update::{Entries, RootHash};

use crate::admin::health::Component;

/// Where the report is, in a directory that the image's unit makes.
pub const REPORT: &str = "/run/nvgate-image/given-up";

const NAME: &str = "image";

/// Writes the report of `entries` on a machine that runs `running`.
///
/// # Errors
///
/// When it cannot be written.
pub fn write_report(file: &Path, entries: &Entries, running: &RootHash) -> io::Result<()> {
    let lines: Vec<_> = entries.given_up(running).collect();
    fs::write(file, lines.join("\n"))
}

/// The component of the report in `file`; none on a machine that is not made from the image.
#[must_use]
pub fn component(file: &Path) -> Option<Component> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            let reason = format!(
                "{} cannot be read: {error}; run `nvgate image report` as root",
                file.display()
            );
            return Some(Component::degraded(NAME, reason));
        }
    };
    let Some(version) = text.lines().next() else { return Some(Component::ok(NAME)) };
    let reason = format!(
        "version {version} was tried and was not ready, so the one before it runs; `journalctl -u \
         nvgate` says why; try it again, or another one, by `nvgate image update`"
    );
    Some(Component::degraded(NAME, reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::health::HealthState;

    /// The root of the version of this number.
    fn root(number: usize) -> String {
        number.to_string().repeat(RootHash::DIGITS)
    }

    /// What is told when the machine runs the first of these entries.
    fn seen(names: &[&str]) -> Component {
        let folder = tempfile::tempdir().unwrap();
        for (number, name) in names.iter().enumerate() {
            let head = format!("PRETTY_NAME=\"nvgate {name}\" roothash={}", root(number));
            fs::write(folder.path().join(name), head).unwrap();
        }
        let file = folder.path().join("given-up");
        assert_eq!(component(&file), None);
        let running = root(0).parse().unwrap();
        write_report(&file, &Entries::read(folder.path()).unwrap(), &running).unwrap();
        component(&file).unwrap()
    }

    #[test]
    fn a_version_that_was_given_up_is_told_until_another_one_takes_its_place() {
        assert_eq!(seen(&["nvgate_1.efi"]), Component::ok(NAME));
        assert_eq!(seen(&["nvgate_1.efi", "nvgate_2+1.efi"]), Component::ok(NAME));
        assert_eq!(seen(&["nvgate_2+0-1.efi", "nvgate_1.efi"]), Component::ok(NAME));
        let failed = seen(&["nvgate_1.efi", "nvgate_2+0-1.efi"]);
        assert_eq!(failed.status, HealthState::Degraded);
        let reason = failed.reason.unwrap();
        assert!(reason.starts_with("version nvgate_2+0-1.efi was tried"), "{reason}");
    }
}
