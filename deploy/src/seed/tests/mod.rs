//! Seeds are copies of the example, spoiled.

mod decisions;
mod mistakes;
mod nics;
mod versions;

use std::fs;
use std::path::{Path, PathBuf};

use nvgate_model::MacAddress;
use tempfile::TempDir;

use super::nics::HostNic;
use super::{Seed, from_folder};
use crate::schema::Diagnostic;

/// A copy of the example, to be spoiled.
struct Folder(TempDir);

impl Folder {
    fn example() -> Self {
        let copy = Self(tempfile::tempdir().unwrap());
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/seed");
        for folder in ["tenants.d", "keys"] {
            fs::create_dir(copy.path(folder)).unwrap();
            for entry in fs::read_dir(example.join(folder)).unwrap() {
                let entry = entry.unwrap();
                fs::copy(entry.path(), copy.path(folder).join(entry.file_name())).unwrap();
            }
        }
        for file in ["seed.yaml", "gateway.yaml"] {
            fs::copy(example.join(file), copy.path(file)).unwrap();
        }
        copy
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(self, name: &str, text: impl AsRef<[u8]>) -> Self {
        fs::write(self.path(name), text).unwrap();
        self
    }

    fn remove(self, name: &str) -> Self {
        fs::remove_file(self.path(name)).unwrap();
        self
    }

    fn replace(self, name: &str, good: &str, bad: &str) -> Self {
        let text = fs::read_to_string(self.path(name)).unwrap();
        assert!(text.contains(good), "{name} has no `{good}`");
        self.write(name, text.replacen(good, bad, 1))
    }

    fn seed(&self) -> Seed {
        from_folder(self.0.path()).unwrap()
    }

    /// The errors on the machine that the example is for.
    fn errors(&self) -> Vec<Diagnostic> {
        self.seed().judge(Some(&machine())).plan.err().unwrap_or_default()
    }
}

fn nic(index: u32, last_octet: u8, path: &str) -> HostNic {
    HostNic {
        index,
        name: format!("eth{}", index - 2),
        up: false,
        mac: MacAddress([0x52, 0x54, 0x00, 0x6e, 0x76, last_octet]),
        path: path.to_owned(),
    }
}

/// The NICs of the machine that the example is for.
fn machine() -> [HostNic; 3] {
    [nic(2, 1, "0000:00:03.0"), nic(3, 2, "0000:00:04.0"), nic(4, 3, "0000:00:05.0")]
}
