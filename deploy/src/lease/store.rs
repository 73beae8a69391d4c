//! Leases on disk: one redb file in the state directory. A save is one transaction that is on disk
//! when it returns, so a process killed at any moment leaves either the old leases or the new
//! ones; a lock beside the file keeps a second process out for as long as the store is open.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nvgate_model::RoutingDomainId;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::{LeaseKey, Leases};

const STORE_FILE: &str = "leases.redb";
const NEW_FILE: &str = "leases.redb.new";
const LOCK_FILE: &str = "lock";

/// How long a process that is just ending may still hold the lock.
const LOCK_WAIT: Duration = Duration::from_millis(500);
/// How often the lock is tried.
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// Memory redb may use to cache the file.
const CACHE_BYTES: usize = 4 << 20;

/// (routing domain, pool, ordinal) to the address.
type KeyOnDisk = ([u8; 16], &'static str, u32);
const HELD: TableDefinition<'_, KeyOnDisk, u32> = TableDefinition::new("held_v1");
/// Release order to what was released.
const RELEASED: TableDefinition<'_, u64, ([u8; 16], &'static str, u32, u32)> =
    TableDefinition::new("released_v1");

/// Why leases could not be kept; each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum LeaseStoreError {
    /// The state directory cannot be used.
    #[error("state directory {directory}: {source}; make it a directory this process can write to")]
    Directory {
        /// The state directory.
        directory: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another process has the store open.
    #[error(
        "state directory {directory} is in use by another nvgate; stop that one, or give this \
         one a `state_directory` of its own"
    )]
    Locked {
        /// The state directory.
        directory: PathBuf,
    },
    /// The file is damaged.
    #[error(
        "lease store {file} is damaged ({reason}); put back a copy of it, or move it away to \
         lease anew, which may give tenants other public addresses"
    )]
    Damaged {
        /// The lease store.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Reading or writing failed.
    #[error("lease store {file}: {reason}; see that its disk has room and works")]
    Failed {
        /// The lease store.
        file: PathBuf,
        /// What failed.
        reason: String,
    },
}

/// The leases of one gateway on disk.
#[derive(Debug)]
pub struct LeaseStore {
    database: Database,
    file: PathBuf,
    /// Locked for as long as it is open.
    _lock: File,
}

impl LeaseStore {
    /// Opens the store in `directory`, making both if they do not exist.
    ///
    /// # Errors
    ///
    /// When the directory cannot be written to, another process has the store open (this waits half
    /// a second for one that is ending), or its file is damaged.
    pub fn open(directory: &Path) -> Result<Self, LeaseStoreError> {
        let refuse = |source| LeaseStoreError::Directory { directory: directory.into(), source };
        fs::create_dir_all(directory).map_err(refuse)?;
        let lock = lock(directory)?;
        let file = directory.join(STORE_FILE);
        if !fs::exists(&file).map_err(refuse)? {
            let new = directory.join(NEW_FILE);
            create(&new)?;
            fs::rename(&new, &file).map_err(refuse)?;
            File::open(directory).and_then(|opened| opened.sync_all()).map_err(refuse)?;
        }
        // A truncated file would be taken for a new one.
        if fs::metadata(&file).map_err(refuse)?.len() == 0 {
            return Err(LeaseStoreError::Damaged { file, reason: "it is empty".to_owned() });
        }
        let database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .set_check_integrity_on_open(true)
            .open(&file)
            .map_err(|error| classify(&file, error.into()))?;
        let store = Self { database, file, _lock: lock };
        store.load()?;
        Ok(store)
    }

    /// The leases as they were last saved.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or is damaged.
    pub fn load(&self) -> Result<Leases, LeaseStoreError> {
        self.read().map_err(|error| classify(&self.file, error))
    }

    /// Replaces the leases; they are on disk when this returns. Writes nothing if nothing changed.
    ///
    /// # Errors
    ///
    /// When the file cannot be written; the old leases are still there then.
    pub fn save(&self, leases: &Leases) -> Result<(), LeaseStoreError> {
        if self.load()? == *leases {
            return Ok(());
        }
        write(&self.database, leases).map_err(|error| classify(&self.file, error))
    }

    fn read(&self) -> Result<Leases, redb::Error> {
        let transaction = self.database.begin_read()?;
        let mut leases = Leases::default();
        for entry in transaction.open_table(HELD)?.iter()? {
            let (key, address) = entry?;
            let (domain, pool, ordinal) = key.value();
            leases.held.insert(key_of(domain, pool, ordinal), Ipv4Addr::from_bits(address.value()));
        }
        for entry in transaction.open_table(RELEASED)?.iter()? {
            let (_, value) = entry?;
            let (domain, pool, ordinal, address) = value.value();
            let address = Ipv4Addr::from_bits(address);
            leases.released.push_back((key_of(domain, pool, ordinal), address));
        }
        Ok(leases)
    }
}

/// Whether a gateway has the store in this directory open.
#[must_use]
pub fn in_use(directory: &Path) -> bool {
    let lock = File::open(directory.join(LOCK_FILE));
    lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

fn key_of(domain: [u8; 16], pool: &str, ordinal: u32) -> LeaseKey {
    let routing_domain = RoutingDomainId::from_bytes(domain);
    LeaseKey { routing_domain, pool: pool.to_owned(), ordinal }
}

fn lock(directory: &Path) -> Result<File, LeaseStoreError> {
    let refuse = |source| LeaseStoreError::Directory { directory: directory.into(), source };
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(directory.join(LOCK_FILE))
        .map_err(refuse)?;
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                std::thread::sleep(LOCK_RETRY);
            }
            Err(TryLockError::WouldBlock) => {
                return Err(LeaseStoreError::Locked { directory: directory.into() });
            }
            Err(TryLockError::Error(source)) => return Err(refuse(source)),
        }
    }
}

/// Makes an empty store at `file`, in place of what an interrupted attempt may have left there.
fn create(file: &Path) -> Result<(), LeaseStoreError> {
    let failed = |error: redb::Error| classify(file, error);
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error.into())),
        Ok(()) | Err(_) => {}
    }
    let database = Database::create(file).map_err(|error| failed(error.into()))?;
    write(&database, &Leases::default()).map_err(failed)?;
    database.close().map_err(|error| failed(error.into()))
}

fn write(database: &Database, leases: &Leases) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut held = transaction.open_table(HELD)?;
        held.retain(|_, _| false)?;
        for (key, address) in leases.held() {
            let LeaseKey { routing_domain, pool, ordinal } = key;
            let key = (*routing_domain.as_bytes(), pool.as_str(), *ordinal);
            held.insert(key, address.to_bits())?;
        }
        let mut released = transaction.open_table(RELEASED)?;
        released.retain(|_, _| false)?;
        for (order, (key, address)) in (0_u64..).zip(leases.released()) {
            let LeaseKey { routing_domain, pool, ordinal } = key;
            let value = (*routing_domain.as_bytes(), pool.as_str(), *ordinal, address.to_bits());
            released.insert(order, value)?;
        }
    }
    transaction.commit()?;
    Ok(())
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "redb's error is non-exhaustive; only damage has another remedy"
)]
fn classify(file: &Path, error: redb::Error) -> LeaseStoreError {
    let file = file.to_owned();
    let reason = error.to_string();
    match error {
        redb::Error::Corrupted(_)
        | redb::Error::UpgradeRequired(_)
        | redb::Error::RepairAborted
        | redb::Error::TableTypeMismatch { .. }
        | redb::Error::TableIsMultimap(_)
        | redb::Error::TableDoesNotExist(_)
        | redb::Error::TypeDefinitionChanged { .. } => LeaseStoreError::Damaged { file, reason },
        redb::Error::Io(error)
            if matches!(
                error.kind(),
                io::ErrorKind::InvalidData
                    | io::ErrorKind::UnexpectedEof
                    | io::ErrorKind::InvalidInput
            ) =>
        {
            LeaseStoreError::Damaged { file, reason }
        }
        redb::Error::DatabaseAlreadyOpen => {
            LeaseStoreError::Locked { directory: file.parent().unwrap_or(&file).to_owned() }
        }
        _ => LeaseStoreError::Failed { file, reason },
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use super::*;

    /// The leases that the `generation`th save writes.
    fn generation(generation: u32) -> Leases {
        let key = |number: u32, ordinal| LeaseKey {
            routing_domain: RoutingDomainId::from_bytes(
                [u8::try_from(number % 7).unwrap() + 1; 16],
            ),
            pool: "public".to_owned(),
            ordinal,
        };
        let address = |ordinal| Ipv4Addr::from_bits(0xCB00_7100 + ordinal * 1000 + generation);
        Leases::new(
            (0..200).map(|ordinal| (key(generation, ordinal), address(ordinal))),
            (0..50).map(|ordinal| (key(generation + 1, ordinal), address(ordinal + 300))),
        )
    }

    #[test]
    fn leases_come_back_as_they_were_saved() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("made/on/demand");
        let store = LeaseStore::open(&path).unwrap();
        assert_eq!(store.load().unwrap(), Leases::default());
        store.save(&generation(1)).unwrap();
        store.save(&generation(2)).unwrap();
        drop(store);
        let store = LeaseStore::open(&path).unwrap();
        assert_eq!(store.load().unwrap(), generation(2));
    }

    #[test]
    fn a_second_opener_is_told_that_the_store_is_in_use() {
        let directory = tempfile::tempdir().unwrap();
        let _store = LeaseStore::open(directory.path()).unwrap();
        let error = LeaseStore::open(directory.path()).unwrap_err();
        assert!(matches!(error, LeaseStoreError::Locked { .. }), "{error}");
        assert!(error.to_string().contains("in use by another nvgate"), "{error}");
    }

    #[test]
    fn a_damaged_store_is_an_error_with_its_remedy() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(STORE_FILE);
        LeaseStore::open(directory.path()).unwrap().save(&generation(1)).unwrap();
        let whole = fs::read(&file).unwrap();
        let half = whole[..whole.len() / 2].to_vec();
        for bytes in [Vec::new(), vec![7], b"no database".repeat(1000), half] {
            fs::write(&file, &bytes).unwrap();
            let error = LeaseStore::open(directory.path()).unwrap_err();
            assert!(matches!(error, LeaseStoreError::Damaged { .. }), "{error}");
            assert!(error.to_string().contains("move it away"), "{error}");
        }
    }

    #[test]
    fn a_flipped_byte_anywhere_is_an_error_or_harmless() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(STORE_FILE);
        LeaseStore::open(directory.path()).unwrap().save(&generation(1)).unwrap();
        let whole = fs::read(&file).unwrap();
        let (mut damaged, mut harmless) = (0, 0);
        let dense = (0..320).chain((320..whole.len()).step_by(2003));
        for at in dense {
            let mut bytes = whole.clone();
            bytes[at] ^= 0xff;
            fs::write(&file, &bytes).unwrap();
            match LeaseStore::open(directory.path()) {
                Ok(store) => {
                    let leases = store.load().unwrap();
                    assert!([Leases::default(), generation(1)].contains(&leases), "byte {at}");
                    harmless += 1;
                }
                Err(LeaseStoreError::Damaged { .. }) => damaged += 1,
                Err(other) => panic!("byte {at}: {other}"),
            }
        }
        assert!(damaged > 0 && harmless > 0, "{damaged} damaged, {harmless} harmless");
    }

    #[test]
    fn a_directory_that_is_none_is_an_error_that_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "x").unwrap();
        let error = LeaseStore::open(&path).unwrap_err();
        assert!(matches!(error, LeaseStoreError::Directory { .. }), "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }

    #[test]
    fn leases_that_were_saved_survive_a_kill_at_any_moment() {
        const DIRECTORY_VARIABLE: &str = "NVGATE_TEST_LEASE_DIRECTORY";
        const ROUNDS: u32 = 20;
        const SAVES: u32 = 100_000;
        if let Ok(directory) = std::env::var(DIRECTORY_VARIABLE) {
            save_until_killed(Path::new(&directory), SAVES);
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let mut reported = 0;
        for round in 0..ROUNDS {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "--nocapture",
                    "lease::store::tests::leases_that_were_saved_survive_a_kill_at_any_moment",
                ])
                .env(DIRECTORY_VARIABLE, directory.path())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let mut saves = 0;
            while saves < 1 + round % 3 {
                let line = lines.next().unwrap().unwrap();
                saves += u32::from(line.starts_with("saved "));
                reported = saved(&line).unwrap_or(reported);
            }
            std::thread::sleep(Duration::from_micros(u64::from(round * 397 % 3000)));
            child.kill().unwrap();
            child.wait().unwrap();
            reported = lines.filter_map(|line| saved(&line.ok()?)).last().unwrap_or(reported);
            let leases = LeaseStore::open(directory.path()).unwrap().load().unwrap();
            assert!(
                leases == generation(reported) || leases == generation(reported + 1),
                "round {round}: neither generation {reported} nor the next"
            );
            reported += u32::from(leases == generation(reported + 1));
        }
    }

    fn saved(line: &str) -> Option<u32> {
        line.strip_prefix("saved ")?.parse().ok()
    }

    fn save_until_killed(directory: &Path, saves: u32) {
        let store = LeaseStore::open(directory).unwrap();
        let found = store.load().unwrap();
        let first = (0..).find(|&number| found == Leases::default() || found == generation(number));
        for number in first.unwrap() + 1..first.unwrap() + saves {
            store.save(&generation(number)).unwrap();
            println!("saved {number}");
        }
    }
}
