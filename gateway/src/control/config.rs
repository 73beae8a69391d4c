//! The configuration directory: read, proven, its leases and generated keys kept; and noticed when
//! it changes.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nvgate_deploy::in_effect;
use nvgate_deploy::keys::{KeyStore, KeyStoreError, Keyring};
use nvgate_deploy::lease::{LeaseStore, LeaseStoreError, Leases};
use nvgate_deploy::plan::{self, Proof};
use nvgate_deploy::schema::{self, Diagnostic, Documents};

/// Why a configuration was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It does not hold; every error at once.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n\n"))]
    Invalid(Vec<Diagnostic>),
    /// Its leases cannot be kept.
    #[error(transparent)]
    Leases(#[from] LeaseStoreError),
    /// Its generated keys cannot be had.
    #[error(transparent)]
    Keys(#[from] KeyStoreError),
}

impl ConfigError {
    /// Each error as text.
    #[must_use]
    pub fn texts(&self) -> Vec<String> {
        match self {
            Self::Invalid(errors) => errors.iter().map(ToString::to_string).collect(),
            Self::Leases(error) => vec![error.to_string()],
            Self::Keys(error) => vec![error.to_string()],
        }
    }
}

/// A configuration that holds: its files and what they were proven to be.
#[derive(Debug)]
pub struct Loaded {
    documents: Documents,
    /// What they say.
    pub proof: Proof,
}

/// A configuration directory and the stores that its state directory holds.
#[derive(Debug)]
pub struct Configuration {
    directory: PathBuf,
    leases: LeaseStore,
    keys: KeyStore,
    /// When the next previous key of those that were read ends to be accepted.
    next_expiry: Cell<Option<SystemTime>>,
}

impl Configuration {
    /// Reads `directory` for the first time and opens its stores.
    ///
    /// # Errors
    ///
    /// The configuration does not hold, or a store cannot be used.
    pub fn open(directory: &Path) -> Result<(Self, Loaded), ConfigError> {
        // The state directory is itself part of the configuration.
        let documents = schema::load(directory);
        let proof = plan::prove(&documents, &Leases::default(), &Keyring::default())
            .map_err(ConfigError::Invalid)?;
        let state = &proof.plan.gateway.state_directory;
        let configuration = Self {
            directory: directory.to_owned(),
            leases: LeaseStore::open(state)?,
            keys: KeyStore::new(state),
            next_expiry: Cell::new(None),
        };
        let loaded = configuration.read()?;
        configuration.keep(&loaded.proof)?;
        Ok((configuration, loaded))
    }

    /// Reads the directory again; nothing is changed by it.
    ///
    /// # Errors
    ///
    /// The configuration does not hold, or a store cannot be used.
    pub fn read(&self) -> Result<Loaded, ConfigError> {
        self.next_expiry.take();
        let leases = self.leases.load()?;
        let documents = schema::load(&self.directory);
        let keys = self.keys.load(&documents.generated_keys(), SystemTime::now())?;
        self.next_expiry.set(keys.next_expiry());
        let proof = plan::prove(&documents, &leases, &keys).map_err(ConfigError::Invalid)?;
        Ok(Loaded { documents, proof })
    }

    /// Keeps what is in effect from now on, for those who compare a new configuration with it.
    pub fn note_in_effect(&self, Loaded { documents, proof }: &Loaded) {
        let directory = &proof.plan.gateway.state_directory;
        if let Err(error) = in_effect::keep(directory, documents, &proof.leases) {
            tracing::warn!("`nvgate check --against-running` compares with older files: {error}");
        }
    }

    /// Keeps the leases and new keys of a plan; they are on disk when this returns, which must be
    /// before the plan takes effect.
    ///
    /// # Errors
    ///
    /// A store cannot be written to; keys that it already has are kept for the next attempt.
    pub fn keep(&self, proof: &Proof) -> Result<(), ConfigError> {
        self.keys.keep(&proof.new_keys)?;
        Ok(self.leases.save(&proof.leases)?)
    }

    /// What the directory's files and the generated keys look like from outside: it changes when
    /// one is written, added, removed or renamed.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint {
            files: looks(&self.directory),
            keys: fs::metadata(self.keys.directory()).and_then(|keys| keys.modified()).ok(),
        }
    }

    /// Whether a previous key of the configuration as it was last read is to be accepted no longer.
    #[must_use]
    pub fn has_expired_key(&self) -> bool {
        self.next_expiry.get().is_some_and(|expiry| expiry <= SystemTime::now())
    }
}

/// The outside of one file. Two files that are put in its place within a tick of the kernel's clock
/// have the same time, but not the same inode.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Look {
    path: PathBuf,
    modified: Option<SystemTime>,
    length: u64,
    inode: u64,
}

/// The outside of a configuration directory's files and of the generated keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fingerprint {
    files: Vec<Look>,
    /// When the last key was written.
    keys: Option<SystemTime>,
}

/// The outside of every file of a configuration directory.
fn looks(directory: &Path) -> Vec<Look> {
    let mut files = vec![directory.join("gateway.yaml")];
    let tenants = fs::read_dir(directory.join("tenants.d"));
    files.extend(tenants.into_iter().flatten().flatten().map(|entry| entry.path()));
    files.sort();
    let look = |path: PathBuf| {
        let metadata = fs::metadata(&path).ok();
        let modified = metadata.as_ref().and_then(|metadata| metadata.modified().ok());
        let (length, inode) = metadata.map_or((0, 0), |metadata| (metadata.len(), metadata.ino()));
        Look { path, modified, length, inode }
    };
    files.into_iter().map(look).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_the_same_length_and_time_in_the_place_of_another_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("gateway.yaml");
        let put = |text: &str| {
            let fresh = directory.path().join("fresh");
            fs::write(&fresh, text).unwrap();
            let handle = fs::File::options().write(true).open(&fresh).unwrap();
            handle.set_modified(SystemTime::UNIX_EPOCH).unwrap();
            fs::rename(fresh, &file).unwrap();
            looks(directory.path())
        };
        let before = put("workers: 1");
        assert_eq!(looks(directory.path()), before);
        assert_ne!(put("workers: 2"), before);
    }
}
