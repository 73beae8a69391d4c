//! The configuration directory: read, proven, its leases kept; and noticed when it changes.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nvgate_deploy::lease::{LeaseStore, LeaseStoreError, Leases};
use nvgate_deploy::plan::{self, Plan, Proof};
use nvgate_deploy::schema::{self, Diagnostic};

/// Why a configuration was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It does not hold; every error at once.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n\n"))]
    Invalid(Vec<Diagnostic>),
    /// Its leases cannot be kept.
    #[error(transparent)]
    Leases(#[from] LeaseStoreError),
}

impl ConfigError {
    /// Each error as text.
    #[must_use]
    pub fn texts(&self) -> Vec<String> {
        match self {
            Self::Invalid(errors) => errors.iter().map(ToString::to_string).collect(),
            Self::Leases(error) => vec![error.to_string()],
        }
    }
}

/// A configuration directory and the lease store that its state directory holds.
#[derive(Debug)]
pub struct Configuration {
    directory: PathBuf,
    store: LeaseStore,
}

impl Configuration {
    /// Reads `directory` for the first time and opens its lease store.
    ///
    /// # Errors
    ///
    /// The configuration does not hold, or the store cannot be used.
    pub fn open(directory: &Path) -> Result<(Self, Plan), ConfigError> {
        // The state directory is itself part of the configuration.
        let documents = schema::load(directory);
        let proof = plan::prove(&documents, &Leases::default()).map_err(ConfigError::Invalid)?;
        let store = LeaseStore::open(&proof.plan.gateway.state_directory)?;
        let configuration = Self { directory: directory.to_owned(), store };
        let proof = configuration.read()?;
        configuration.keep(&proof.leases)?;
        Ok((configuration, proof.plan))
    }

    /// Reads the directory again; nothing is changed by it.
    ///
    /// # Errors
    ///
    /// The configuration does not hold, or the store cannot be used.
    pub fn read(&self) -> Result<Proof, ConfigError> {
        let leases = self.store.load()?;
        plan::prove(&schema::load(&self.directory), &leases).map_err(ConfigError::Invalid)
    }

    /// Keeps the leases of a plan; they are on disk when this returns, which must be before the
    /// plan takes effect.
    ///
    /// # Errors
    ///
    /// The store cannot be written to; it holds what it held.
    pub fn keep(&self, leases: &Leases) -> Result<(), ConfigError> {
        Ok(self.store.save(leases)?)
    }

    /// What the directory's files look like from outside: it changes when one is written, added,
    /// removed or renamed.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let mut files = vec![self.directory.join("gateway.yaml")];
        let tenants = fs::read_dir(self.directory.join("tenants.d"));
        files.extend(tenants.into_iter().flatten().flatten().map(|entry| entry.path()));
        files.sort();
        let look = |path: PathBuf| {
            let metadata = fs::metadata(&path).ok();
            let modified = metadata.as_ref().and_then(|metadata| metadata.modified().ok());
            let length = metadata.map_or(0, |metadata| metadata.len());
            (path, modified, length)
        };
        Fingerprint(files.into_iter().map(look).collect())
    }
}

/// The outside of a configuration directory's files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fingerprint(Vec<(PathBuf, Option<SystemTime>, u64)>);
