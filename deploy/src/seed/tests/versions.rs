//! Versions outlive whatever happens between two steps.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::Folder;
use crate::seed::{Disk, LocalDisk, Owner, Permissions, Seed, Store};

/// A disk of a machine whose power is cut after so many steps, halfway through the next one.
struct Failing(Cell<u32>);

impl Failing {
    fn after(steps: u32) -> Self {
        Self(Cell::new(steps))
    }

    /// Whether this step is still done as a whole.
    fn is_on(&self) -> bool {
        let left = self.0.get();
        self.0.set(left.saturating_sub(1));
        left > 0
    }
}

fn cut() -> io::Result<()> {
    Err(io::Error::other("power cut"))
}

impl Disk for Failing {
    fn create_folder(&self, path: &Path, permissions: Permissions) -> io::Result<()> {
        if self.is_on() { LocalDisk.create_folder(path, permissions) } else { cut() }
    }

    fn write_file(&self, path: &Path, bytes: &[u8], permissions: Permissions) -> io::Result<()> {
        if self.is_on() {
            return LocalDisk.write_file(path, bytes, permissions);
        }
        let (half, _) = bytes.split_at(bytes.len() / 2);
        // The steps after the cut are not tried.
        let _ = LocalDisk.write_file(path, half, permissions);
        cut()
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        if self.is_on() { LocalDisk.sync_folder(path) } else { cut() }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if self.is_on() { LocalDisk.rename(from, to) } else { cut() }
    }

    fn link(&self, to: &Path, path: &Path) -> io::Result<()> {
        if self.is_on() { LocalDisk.link(to, path) } else { cut() }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if self.is_on() {
            return LocalDisk.remove(path);
        }
        let entries = fs::read_dir(path).into_iter().flatten();
        entries.take(2).for_each(|entry| LocalDisk.remove(&entry.unwrap().path()).unwrap());
        cut()
    }
}

fn seed(number: u32) -> Seed {
    Folder::example().replace("seed.yaml", "gw1", &format!("gw{number}")).seed()
}

fn store() -> (TempDir, Store) {
    let base = tempfile::tempdir().unwrap();
    let store = Store::new(base.path().to_owned(), None);
    (base, store)
}

fn entries(base: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(base.path()).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_power_cut_at_any_step_leaves_the_version_before_or_the_new_one_and_nothing_for_long() {
    let (base, store) = store();
    let mut before = 0;
    for _ in 0..4 {
        before += 1;
        store.put(&LocalDisk, &seed(before), "disk").unwrap();
    }
    for steps in 0.. {
        let (new, after) = (before + 1, before + 2);
        let result = store.put(&Failing::after(steps), &seed(new), "disk");
        let kept = store.current().unwrap().unwrap();
        if result.is_ok() {
            assert_eq!(kept.seed, seed(new));
            break;
        }
        assert!(kept.seed == seed(before) || kept.seed == seed(new), "after {steps} steps");
        store.put(&LocalDisk, &seed(after), "credentials").unwrap();
        let kept = store.current().unwrap().unwrap();
        assert_eq!((kept.seed, kept.source.as_str()), (seed(after), "credentials"));
        let left = entries(&base);
        assert_eq!(left.len(), 5, "after {steps} steps: {left:?}");
        assert!(left[1..].iter().all(|name| name.starts_with("version-")), "{left:?}");
        before = after;
    }
    assert!(before > 40, "{before} versions in all");
}

#[test]
fn a_power_cut_at_any_step_of_the_first_version_leaves_none_or_the_whole() {
    for steps in 0.. {
        let (_base, store) = store();
        let result = store.put(&Failing::after(steps), &seed(1), "disk");
        let kept = store.current().unwrap();
        assert!(kept.is_none_or(|kept| kept.seed == seed(1)), "after {steps} steps");
        if result.is_ok() {
            break;
        }
        store.put(&LocalDisk, &seed(2), "disk").unwrap();
        assert_eq!(store.current().unwrap().unwrap().seed, seed(2));
    }
}

/// A disk that forgets at a power cut whatever entries of a folder were not synced, and so refuses
/// to let a name lead to them.
#[derive(Default)]
struct Forgetful {
    unsynced: RefCell<BTreeSet<PathBuf>>,
    written: RefCell<BTreeMap<String, Permissions>>,
}

impl Forgetful {
    fn changed(&self, path: &Path) {
        self.unsynced.borrow_mut().insert(path.parent().unwrap().to_owned());
    }
}

impl Disk for Forgetful {
    fn create_folder(&self, path: &Path, permissions: Permissions) -> io::Result<()> {
        self.changed(path);
        LocalDisk.create_folder(path, Permissions { owner: None, ..permissions })
    }

    fn write_file(&self, path: &Path, bytes: &[u8], permissions: Permissions) -> io::Result<()> {
        self.changed(path);
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        self.written.borrow_mut().insert(name, permissions);
        LocalDisk.write_file(path, bytes, Permissions { owner: None, ..permissions })
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.unsynced.borrow_mut().remove(path);
        LocalDisk.sync_folder(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let target = fs::read_link(from).map(|target| from.parent().unwrap().join(target));
        let target = target.unwrap_or_else(|_| from.to_owned());
        let unsynced = self.unsynced.borrow();
        let lost: Vec<_> = unsynced.iter().filter(|folder| folder.starts_with(&target)).collect();
        assert_eq!(lost, [] as [&PathBuf; 0], "{} becomes {}", from.display(), to.display());
        drop(unsynced);
        LocalDisk.rename(from, to)?;
        self.changed(to);
        Ok(())
    }

    fn link(&self, to: &Path, path: &Path) -> io::Result<()> {
        let folder = path.parent().unwrap();
        assert!(!self.unsynced.borrow().contains(folder), "a link to what may be forgotten");
        self.changed(path);
        LocalDisk.link(to, path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.unsynced.borrow_mut().retain(|folder| !folder.starts_with(path));
        LocalDisk.remove(path)
    }
}

#[test]
fn a_version_is_on_disk_before_anything_leads_to_it_and_in_effect_when_put_returns() {
    let (base, store) = store();
    let disk = Forgetful::default();
    assert_eq!(store.put(&disk, &seed(1), "disk").unwrap(), 1);
    assert_eq!(store.put(&disk, &seed(2), "disk").unwrap(), 2);
    assert_eq!(disk.unsynced.into_inner(), BTreeSet::new());
    assert_eq!(fs::read_link(base.path().join("current")).unwrap(), Path::new("version-2"));
}

#[test]
fn only_the_gateways_user_reads_secrets_and_only_its_group_the_rest() {
    let base = tempfile::tempdir().unwrap();
    let owner = Owner { user: 990, group: 991 };
    let store = Store::new(base.path().to_owned(), Some(owner));
    let disk = Forgetful::default();
    store.put(&disk, &seed(1), "disk").unwrap();
    let written = disk.written.into_inner();
    let secret = Permissions { mode: 0o400, owner: Some((990, 991)) };
    let plain = Permissions { mode: 0o640, owner: Some((0, 991)) };
    let expected = [
        ("contoso-main.key", secret),
        ("contoso.yaml", plain),
        ("fabrikam.yaml", plain),
        ("gateway.yaml", plain),
        ("origin", plain),
        ("seed.yaml", plain),
    ];
    assert_eq!(written, expected.map(|(name, mode)| (name.to_owned(), mode)).into());
}

#[test]
fn a_few_versions_are_kept_and_numbers_are_never_used_again() {
    let (base, store) = store();
    for number in 1..=9 {
        assert_eq!(store.put(&LocalDisk, &seed(number), "disk").unwrap(), u64::from(number));
    }
    let expected = ["current", "version-6", "version-7", "version-8", "version-9"];
    assert_eq!(entries(&base), expected);
    fs::create_dir(base.path().join("seed")).unwrap();
    store.put(&LocalDisk, &seed(10), "disk").unwrap();
    assert!(base.path().join("seed").exists(), "the folder for seeds is not the store's");
}
