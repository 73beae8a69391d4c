//! Generated keys on disk: `keys/ROUTING_DOMAIN/LISTENER.key` in the state directory, and beside a
//! key that was rotated `LISTENER.previous` with the time until which it is accepted. Every file is
//! written beside the others, synced and renamed into place, so a process killed at any moment
//! leaves either no key or the whole key, and never one without the other.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nvgate_vpn::PrivateKey;
use zeroize::Zeroizing;

use super::file::{OWNER_ONLY, SecretFileError, read_secret, replace, sync_directory};
use super::{KeyName, Keyring, ListenerKeys, NewKey, PreviousKey, draw};

const DIRECTORY: &str = "keys";
/// A file on its way; only who has the lock makes one. It is made in [`DIRECTORY`] itself, so that
/// directory's time of change tells of every new key.
const NEW_FILE: &str = "new";
const LOCK_FILE: &str = "lock";
const KEY_ENDING: &str = "key";
const PREVIOUS_ENDING: &str = "previous";
/// The permissions of directories with keys.
const OWNER_DIRECTORY: u32 = 0o700;

/// Why generated keys could not be had; each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum KeyStoreError {
    /// A file cannot be used.
    #[error("generated key {file} {reason}")]
    File {
        /// The file with the key.
        file: PathBuf,
        /// What is wrong with it, and what to do.
        reason: SecretFileError,
    },
    /// A file is not what this program writes.
    #[error(
        "generated key {file} is damaged; put back a copy of it, or remove it to have a new key \
         made, which every site then has to be told"
    )]
    Damaged {
        /// The file with the key.
        file: PathBuf,
    },
    /// Writing failed.
    #[error(
        "generated key {file} cannot be written: {source}; see that its disk has room and works"
    )]
    Failed {
        /// The file with the key.
        file: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another process made the key in the meantime.
    #[error("generated key {file} was made by another process in this moment; reload to use it")]
    Raced {
        /// The file with the key.
        file: PathBuf,
    },
    /// The operating system gives no randomness.
    #[error("no key can be generated: {0}")]
    Randomness(#[from] getrandom::Error),
}

/// The generated keys of one gateway on disk.
#[derive(Clone, Debug)]
pub struct KeyStore {
    directory: PathBuf,
}

impl KeyStore {
    /// The store in this state directory; nothing is read or made yet.
    #[must_use]
    pub fn new(state_directory: &Path) -> Self {
        Self { directory: state_directory.join(DIRECTORY) }
    }

    /// The directory, whose time of change tells of every new key.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The keys that these listeners have so far. A previous key that expired by `now` is left out.
    ///
    /// # Errors
    ///
    /// When a key is there and cannot be read, is open to others, or is damaged.
    pub fn load(&self, names: &[KeyName], now: SystemTime) -> Result<Keyring, KeyStoreError> {
        let mut keyring = Keyring::default();
        for name in names {
            if let Some(current) = self.current(name)? {
                let previous = self.previous(name)?;
                let previous = previous.filter(|one| one.expires > now && one.key != current);
                keyring.insert(name.clone(), ListenerKeys { current, previous });
            }
        }
        Ok(keyring)
    }

    /// Keeps new keys; they are on disk when this returns, which must be before they are used.
    ///
    /// # Errors
    ///
    /// When a key cannot be written, or the listener has got another one in the meantime.
    pub fn keep(&self, keys: &[NewKey]) -> Result<(), KeyStoreError> {
        if keys.is_empty() {
            return Ok(());
        }
        let _lock = self.lock()?;
        for NewKey { name, key } in keys {
            match self.current(name)? {
                None => self.write(&self.key_file(name), &key.to_base64())?,
                Some(held) if held == *key => {}
                Some(_) => return Err(KeyStoreError::Raced { file: self.key_file(name) }),
            }
        }
        Ok(())
    }

    /// Gives a listener a new key. The one it had is accepted until `expires`, in place of an older
    /// one that still was.
    ///
    /// # Errors
    ///
    /// When a key cannot be read or written; the listener has its old key or the new one then.
    pub fn rotate(
        &self,
        name: &KeyName,
        expires: SystemTime,
    ) -> Result<ListenerKeys, KeyStoreError> {
        let current = draw()?;
        let _lock = self.lock()?;
        let previous = self.current(name)?.map(|key| PreviousKey { key, expires });
        if let Some(PreviousKey { key, expires }) = &previous {
            let text = Zeroizing::new(format!("{}\n{}", *key.to_base64(), seconds(*expires)));
            self.write(&self.previous_file(name), &text)?;
        }
        self.write(&self.key_file(name), &current.to_base64())?;
        Ok(ListenerKeys { current, previous })
    }

    fn current(&self, name: &KeyName) -> Result<Option<PrivateKey>, KeyStoreError> {
        let file = self.key_file(name);
        let Some(text) = self.read(&file)? else { return Ok(None) };
        text.parse().map(Some).map_err(|_| KeyStoreError::Damaged { file })
    }

    fn previous(&self, name: &KeyName) -> Result<Option<PreviousKey>, KeyStoreError> {
        let file = self.previous_file(name);
        let Some(text) = self.read(&file)? else { return Ok(None) };
        let previous = text.split_once('\n').and_then(|(key, seconds)| {
            let expires = UNIX_EPOCH.checked_add(Duration::from_secs(seconds.parse().ok()?))?;
            Some(PreviousKey { key: key.parse().ok()?, expires })
        });
        previous.map(Some).ok_or(KeyStoreError::Damaged { file })
    }

    fn read(&self, file: &Path) -> Result<Option<Zeroizing<String>>, KeyStoreError> {
        match read_secret(file) {
            Ok(text) => Ok(Some(text)),
            Err(SecretFileError::Unreadable(error)) if error.kind() == io::ErrorKind::NotFound => {
                Ok(None)
            }
            Err(reason) => Err(KeyStoreError::File { file: file.to_owned(), reason }),
        }
    }

    fn key_file(&self, name: &KeyName) -> PathBuf {
        self.file(name, KEY_ENDING)
    }

    fn previous_file(&self, name: &KeyName) -> PathBuf {
        self.file(name, PREVIOUS_ENDING)
    }

    /// A listener's name has neither `/` nor a `.` at its beginning.
    fn file(&self, name: &KeyName, ending: &str) -> PathBuf {
        let directory = self.directory.join(name.routing_domain.to_string());
        directory.join(format!("{}.{ending}", name.listener))
    }

    /// Waits until no other process writes keys, which takes it the time of a few files.
    fn lock(&self) -> Result<File, KeyStoreError> {
        let path = self.directory.join(LOCK_FILE);
        let lock = || {
            make_directory(&self.directory)?;
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(false).mode(OWNER_ONLY);
            let file = options.open(&path)?;
            file.lock()?;
            Ok(file)
        };
        lock().map_err(|source| KeyStoreError::Failed { file: path.clone(), source })
    }

    fn write(&self, file: &Path, text: &str) -> Result<(), KeyStoreError> {
        let write = || -> io::Result<()> {
            let directory = file.parent().unwrap_or(&self.directory);
            make_directory(directory)?;
            replace(&self.directory.join(NEW_FILE), file, &[text.as_bytes(), b"\n"])?;
            sync_directory(&self.directory)
        };
        write().map_err(|source| KeyStoreError::Failed { file: file.to_owned(), source })
    }
}

/// Makes a directory that only its owner may enter, and whatever is missing above it.
fn make_directory(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let parent = directory.parent();
    if let Some(parent) = parent {
        fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(OWNER_DIRECTORY).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    parent.map_or(Ok(()), sync_directory)
}

/// Whole seconds since 1970.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::os::unix::fs::PermissionsExt;
    use std::process::{Command, Stdio};

    use super::*;

    fn name(listener: &str) -> KeyName {
        let routing_domain = "00000000-0000-0000-0000-00000000000a".parse().unwrap();
        KeyName { routing_domain, listener: listener.to_owned() }
    }

    fn new_key(listener: &str) -> NewKey {
        NewKey { name: name(listener), key: draw().unwrap() }
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn keys_come_back_as_they_were_kept_and_only_their_owner_reads_them() {
        let state = tempfile::tempdir().unwrap();
        let store = KeyStore::new(&state.path().join("made/on/demand"));
        let names = [name("main"), name("backup")];
        assert_eq!(store.load(&names, at(0)).unwrap(), Keyring::default());
        assert!(!store.directory().exists(), "looking makes nothing");
        let key = new_key("main");
        store.keep(std::slice::from_ref(&key)).unwrap();
        store.keep(std::slice::from_ref(&key)).unwrap();
        let keyring = store.load(&names, at(0)).unwrap();
        let expected = ListenerKeys { current: key.key, previous: None };
        assert_eq!((keyring.of(&names[0]), keyring.of(&names[1])), (Some(&expected), None));
        let file = store.key_file(&names[0]);
        assert_eq!(file.file_name().unwrap(), "main.key");
        let modes = [store.directory(), file.parent().unwrap(), &file].map(mode);
        assert_eq!(modes, [0o700, 0o700, 0o600]);
        assert!(!store.directory().join(NEW_FILE).exists());
    }

    #[test]
    fn a_key_that_another_process_made_is_not_overwritten() {
        let state = tempfile::tempdir().unwrap();
        let store = KeyStore::new(state.path());
        let first = new_key("main");
        store.keep(std::slice::from_ref(&first)).unwrap();
        let error = store.keep(&[new_key("main")]).unwrap_err();
        assert!(matches!(error, KeyStoreError::Raced { .. }), "{error}");
        assert_eq!(store.current(&first.name).unwrap(), Some(first.key));
    }

    #[test]
    fn a_rotated_key_is_accepted_until_it_expires() {
        let state = tempfile::tempdir().unwrap();
        let store = KeyStore::new(state.path());
        let first = new_key("main");
        store.keep(std::slice::from_ref(&first)).unwrap();
        let rotated = store.rotate(&first.name, at(100)).unwrap();
        let names = [first.name];
        let previous = PreviousKey { key: first.key, expires: at(100) };
        assert_eq!(rotated.previous, Some(previous));
        let keyring = store.load(&names, at(99)).unwrap();
        assert_eq!(keyring.of(&names[0]), Some(&rotated));
        assert_eq!(keyring.next_expiry(), Some(at(100)));
        let keyring = store.load(&names, at(100)).unwrap();
        assert_eq!(keyring.of(&names[0]).unwrap().previous, None);
        assert_eq!(keyring.next_expiry(), None);
        let again = store.rotate(&names[0], at(200)).unwrap();
        assert_eq!(again.previous.unwrap().key, rotated.current);
    }

    #[test]
    fn a_rotation_that_was_cut_short_leaves_the_key_in_use() {
        let state = tempfile::tempdir().unwrap();
        let store = KeyStore::new(state.path());
        let key = new_key("main");
        store.keep(std::slice::from_ref(&key)).unwrap();
        let text = format!("{}\n100", *key.key.to_base64());
        store.write(&store.previous_file(&key.name), &text).unwrap();
        fs::write(store.directory().join(NEW_FILE), "half a k").unwrap();
        let names = [key.name];
        let expected = ListenerKeys { current: key.key, previous: None };
        assert_eq!(store.load(&names, at(0)).unwrap().of(&names[0]), Some(&expected));
        store.rotate(&names[0], at(1)).unwrap();
    }

    #[test]
    fn keys_that_cannot_be_used_are_errors_with_their_remedy_and_without_their_text() {
        let state = tempfile::tempdir().unwrap();
        let store = KeyStore::new(state.path());
        let key = new_key("main");
        store.keep(std::slice::from_ref(&key)).unwrap();
        let file = store.key_file(&key.name);
        let secret = key.key.to_base64();
        let refused = |remedy: &str| {
            let error = store.load(std::slice::from_ref(&key.name), at(0)).unwrap_err();
            let text = format!("{error} {error:?}");
            assert!(text.contains(remedy) && !text.contains(&secret[..20]), "{text}");
        };
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        refused("(mode 640); run `chmod 600` on it");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        for text in ["", "no key", &secret[..40], &format!("{}x", *secret)] {
            fs::write(&file, text).unwrap();
            refused("is damaged; put back a copy of it");
        }
        fs::write(&file, "x".repeat(1000)).unwrap();
        refused("holds more than 256 bytes");
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        refused("is not a regular file");
    }

    #[test]
    fn a_kill_at_any_moment_leaves_no_key_or_a_whole_key() {
        const DIRECTORY_VARIABLE: &str = "NVGATE_TEST_KEY_DIRECTORY";
        const ROUNDS: u32 = 20;
        const KEYS: u32 = 100_000;
        if let Ok(directory) = std::env::var(DIRECTORY_VARIABLE) {
            let store = KeyStore::new(Path::new(&directory));
            for number in 0..KEYS {
                let listener = format!("l{}", number % 50);
                store.rotate(&name(&listener), at(u64::from(u32::MAX))).unwrap();
                println!("rotated {listener}");
            }
            return;
        }
        let state = tempfile::tempdir().unwrap();
        let store = KeyStore::new(state.path());
        let names: Vec<_> = (0..50).map(|number| name(&format!("l{number}"))).collect();
        let test = "keys::store::tests::a_kill_at_any_moment_leaves_no_key_or_a_whole_key";
        for round in 0..ROUNDS {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "--nocapture", test])
                .env(DIRECTORY_VARIABLE, state.path())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let rotated = |line: &io::Result<String>| {
                line.as_ref().is_ok_and(|line| line.contains("rotated "))
            };
            let count = lines.by_ref().filter(rotated).take(1 + round as usize % 3).count();
            assert!(count > 0);
            std::thread::sleep(Duration::from_micros(u64::from(round * 397 % 3000)));
            child.kill().unwrap();
            child.wait().unwrap();
            drop(lines);
            let keyring = store.load(&names, at(0)).unwrap();
            assert!(keyring.of(&names[0]).is_some(), "round {round}");
        }
    }
}
