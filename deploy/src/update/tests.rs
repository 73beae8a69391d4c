//! An update on files in place of devices: what the disk holds after every step, and what is
//! refused before the first.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use super::*;

const ROOM: u64 = 64 << 10;

/// A hash tree in miniature: the digest of a root.
fn hash_of(root: &[u8]) -> RootHash {
    let digits: String =
        digest(&SHA256, root).as_ref().iter().map(|b| format!("{b:02x}")).collect();
    digits.parse().expect("a digest has 64 digits")
}

/// Whether a slot's root begins with what the hash vouches for; its hash tree has the length.
fn verify(slot: &Slot, hash: &RootHash) -> Result<(), UpdateError> {
    let root = fs::read(&slot.root).map_err(at(&slot.root))?;
    let tree = fs::read(&slot.hashes).map_err(at(&slot.hashes))?;
    let length = u64::from_le_bytes(tree[..8].try_into().expect("eight bytes"));
    let vouched = root.get(..length as usize).is_some_and(|root| hash_of(root) == *hash);
    vouched.then_some(()).ok_or_else(|| UpdateError::NotVerified("it is another".to_owned()))
}

fn kernel(version: &str, hash: &RootHash) -> Vec<u8> {
    format!("MZ PRETTY_NAME=\"nvgate {version}\"\0 roothash={hash} quiet\0 kernel").into_bytes()
}

type Spoil = fn(&mut Made);

/// What an archive is made of; a test spoils a part of it.
struct Made {
    manifest: Value,
    parts: Vec<(String, Vec<u8>)>,
}

impl Made {
    fn new(version: &str, root: &[u8]) -> Self {
        let hash = hash_of(root);
        let tree = (root.len() as u64).to_le_bytes().to_vec();
        let parts = vec![
            ("root.squashfs".to_owned(), root.to_vec()),
            ("root.verity".to_owned(), tree),
            ("nvgate.efi".to_owned(), kernel(version, &hash)),
        ];
        let described: Vec<_> = parts
            .iter()
            .map(|(name, content)| {
                json!({"name": name, "bytes": content.len(), "sha256": hash_of(content).to_string()})
            })
            .collect();
        let manifest = json!({
            "form": 1, "version": version, "root_hash": hash.to_string(), "parts": described,
            "of a later version": true,
        });
        Self { manifest, parts }
    }

    fn write(&self, path: &Path) {
        let mut archive = tar::Builder::new(File::create(path).expect("a file"));
        let manifest = ("manifest.json".to_owned(), self.manifest.to_string().into_bytes());
        for (name, content) in [&manifest].into_iter().chain(&self.parts) {
            let mut header = tar::Header::new_ustar();
            header.set_size(content.len() as u64);
            header.set_cksum();
            archive.append_data(&mut header, name, content.as_slice()).expect("it is written");
        }
        archive.finish().expect("it is written");
    }
}

/// A machine that runs version 1 from slot A.
struct Machine {
    folder: tempfile::TempDir,
    running: RootHash,
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let machine = Self { folder, running: hash_of(b"root 1") };
        let disk = machine.path("sys/devices/disk/vda");
        for number in 1..=6 {
            let partition = disk.join(format!("vda{number}"));
            fs::create_dir_all(&partition).expect("a folder");
            fs::write(partition.join("partition"), format!("{number}\n")).expect("a file");
            fs::create_dir_all(machine.path("sys/class/block")).expect("a folder");
            let link = machine.path(&format!("sys/class/block/vda{number}"));
            std::os::unix::fs::symlink(partition, link).expect("a link");
            fs::create_dir_all(machine.path("dev")).expect("a folder");
            let device = machine.path(&format!("dev/vda{number}"));
            File::create(device).and_then(|file| file.set_len(ROOM)).expect("a device");
        }
        fs::create_dir_all(machine.entries()).expect("a folder");
        fs::write(machine.entries().join("nvgate_1.efi"), kernel("1", &machine.running))
            .expect("a kernel");
        let a = machine.slot(2);
        overwrite(&a.root, b"root 1");
        overwrite(&a.hashes, &6u64.to_le_bytes());
        a.mark(Some(&machine.running)).expect("a mark");
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn entries(&self) -> PathBuf {
        self.path("efi/EFI/Linux")
    }

    fn slot(&self, root: u32) -> Slot {
        Slot {
            root: self.path(&format!("dev/vda{root}")),
            hashes: self.path(&format!("dev/vda{}", root + 1)),
        }
    }

    fn slots(&self) -> Slots {
        Slots::find(&self.path("sys"), &self.path("dev"), &self.running).expect("the slots")
    }

    fn update(&self, made: &Made) -> Result<Update, UpdateError> {
        let path = self.path("nvgate.update");
        made.write(&path);
        let archive = Archive::open(&path)?;
        Update::new(archive, self.running.clone(), self.slots().other, self.entries(), verify)
    }

    fn done(&self, made: &Made) {
        let update = self.update(made).expect("it is an update");
        for step in Step::ALL {
            update.perform(step).expect("the disk is well");
        }
    }

    /// Every root that an entry starts must be found by its mark and verify; the names of entries.
    fn bootable(&self) -> Vec<String> {
        let entries = Entries::read(&self.entries()).expect("a folder");
        for entry in &entries.list {
            let hash = entry.hash.as_ref().expect("a kernel names its root");
            let found = Slots::find(&self.path("sys"), &self.path("dev"), hash).expect("a slot");
            verify(&found.running, hash).expect("the slot of an entry verifies");
        }
        let name = |entry: &Entry| {
            entry.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
        };
        entries.list.iter().map(name).collect()
    }
}

fn overwrite(path: &Path, content: &[u8]) {
    let mut file = File::options().write(true).open(path).expect("a device");
    file.write_all(content).expect("it is written");
}

#[test]
fn an_update_is_booted_next_and_once_and_the_old_version_stays() {
    let machine = Machine::new();
    machine.done(&Made::new("2", b"root 2 is longer"));
    assert_eq!(machine.bootable(), ["nvgate_2+1.efi", "nvgate_1.efi"]);
    let entries = Entries::read(&machine.entries()).expect("a folder");
    assert_eq!(entries.list[0].version.as_deref(), Some("2"));
    assert_eq!(entries.list[0].tries, Some(Tries { left: 1, done: 0 }));
    assert!(entries.has_other_than(&machine.running));
}

#[test]
fn whatever_step_a_power_cut_comes_after_every_entry_starts_a_slot_that_verifies() {
    for steps in 0..=Step::ALL.len() {
        let machine = Machine::new();
        machine.done(&Made::new("2", b"root 2"));
        let update = machine.update(&Made::new("3", b"root 3")).expect("it is an update");
        for step in Step::ALL.into_iter().take(steps) {
            update.perform(step).expect("the disk is well");
        }
        let names = machine.bootable();
        assert!(names.contains(&"nvgate_1.efi".to_owned()), "after {steps} steps: {names:?}");
        machine.done(&Made::new("4", b"root 4"));
        assert!(
            machine.bootable()[0].ends_with("+1.efi"),
            "an update after {steps} steps of another"
        );
    }
}

#[test]
fn a_slot_that_does_not_read_as_it_was_written_gets_no_entry() {
    let machine = Machine::new();
    let update = machine.update(&Made::new("2", b"root 2")).expect("it is an update");
    for step in [Step::Retire, Step::Unmark, Step::WriteRoot, Step::WriteHashes] {
        update.perform(step).expect("the disk is well");
    }
    overwrite(&machine.slots().other.root, b"rOOt 2");
    let refused = update.perform(Step::Verify).expect_err("the disk is damaged");
    assert!(refused.to_string().contains("does not verify"), "{refused}");
    assert_eq!(machine.bootable(), ["nvgate_1.efi"]);
}

#[test]
fn an_entry_that_used_up_its_tries_is_no_way_back() {
    let machine = Machine::new();
    machine.done(&Made::new("2", b"root 2"));
    let tried = machine.entries().join("nvgate_2+0-1.efi");
    fs::rename(machine.entries().join("nvgate_2+1.efi"), tried).expect("as the boot loader does");
    let entries = Entries::read(&machine.entries()).expect("a folder");
    assert!(entries.list[0].has_failed() && !entries.has_other_than(&machine.running));
}

#[test]
fn what_is_not_as_the_manifest_says_is_refused_before_anything_is_written() {
    let spoilt: [(&str, Spoil); 9] = [
        ("SHA-256", |made| made.parts[0].1[3] ^= 1),
        ("is not what the manifest says", |made| made.parts[2].1.push(0)),
        ("does not hold", |made| made.parts.swap(0, 1)),
        ("does not hold", |made| drop(made.parts.pop())),
        ("does not hold", |made| made.parts.push(("more".to_owned(), Vec::new()))),
        ("its form is 2", |made| made.manifest["form"] = json!(2)),
        ("root hash", |made| made.manifest["root_hash"] = json!("../../etc/passwd")),
        ("manifest cannot be read", |made| made.manifest = json!({"form": 1})),
        ("another root", |made| made.manifest["root_hash"] = json!(hash_of(b"x").to_string())),
    ];
    for (expected, spoil) in spoilt {
        let machine = Machine::new();
        let mut made = Made::new("2", b"root 2");
        spoil(&mut made);
        let refused = machine.update(&made).expect_err("it is no update").to_string();
        assert!(refused.contains(expected), "{refused}");
        assert_eq!(machine.bootable(), ["nvgate_1.efi"]);
    }
}

#[test]
fn a_file_that_is_cut_short_or_no_archive_is_refused() {
    let machine = Machine::new();
    let path = machine.path("nvgate.update");
    Made::new("2", &[7; 40 << 10]).write(&path);
    let mut whole = Vec::new();
    File::open(&path).and_then(|mut file| file.read_to_end(&mut whole)).expect("the archive");
    for length in [0, 1, 511, 512, 1024, 5000, whole.len() / 2] {
        fs::write(&path, &whole[..length]).expect("a file");
        Archive::open(&path).expect_err("it is cut short");
    }
    fs::write(&path, vec![0xa5; 4096]).expect("a file");
    Archive::open(&path).expect_err("it is no archive");
}

#[test]
fn the_running_version_and_a_root_without_room_are_refused() {
    let machine = Machine::new();
    let same = machine.update(&Made::new("1", b"root 1")).expect_err("it runs already");
    assert!(same.to_string().contains("is what runs already"), "{same}");
    let large = Made::new("2", &vec![1; ROOM as usize + 1]);
    let refused = machine.update(&large).expect_err("there is no room");
    assert!(matches!(refused, UpdateError::TooLarge { room: ROOM, .. }), "{refused}");
}

#[test]
fn there_is_no_update_while_what_runs_is_being_tried() {
    let machine = Machine::new();
    let good = machine.entries().join("nvgate_1.efi");
    fs::rename(&good, machine.entries().join("nvgate_1+0-1.efi")).expect("as the boot loader does");
    let refused = machine.update(&Made::new("2", b"root 2")).expect_err("it is being tried");
    assert!(matches!(refused, UpdateError::NotGoodYet), "{refused}");
    fs::write(&good, kernel("1", &machine.running)).expect("another entry of the same root");
    machine.update(&Made::new("2", b"root 2")).expect("one of its entries is good");
}

#[test]
fn a_machine_without_slots_or_entries_is_not_the_image() {
    let machine = Machine::new();
    let other = hash_of(b"somebody else's root");
    let refused = Slots::find(&machine.path("sys"), &machine.path("dev"), &other);
    assert!(matches!(refused, Err(UpdateError::NotAnImage(_))), "{refused:?}");
    fs::remove_file(machine.entries().join("nvgate_1.efi")).expect("the entry");
    let refused = machine.update(&Made::new("2", b"root 2")).expect_err("there is no entry");
    assert!(matches!(refused, UpdateError::NotAnImage(_)), "{refused}");
}

#[test]
fn a_command_line_names_one_root_or_none() {
    let hash = hash_of(b"root");
    let named = RootHash::of_command_line(&format!("roothash={hash} quiet"));
    assert_eq!(named, Some(hash));
    for words in ["", "quiet", "roothash=", "roothash=12", &format!("roothash={}", "G".repeat(64))]
    {
        assert_eq!(RootHash::of_command_line(words), None, "{words}");
    }
}
