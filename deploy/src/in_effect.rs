//! What a running gateway goes by, kept in its state directory: the text of its configuration files and
//! its leases. `nvgate check --against-running` proves it again beside a new configuration.
//!
//! It holds whatever secrets the files do, so only their owner reads it.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nvgate_model::RoutingDomainId;
use serde::{Deserialize, Serialize};

use crate::keys::{Keyring, replace};
use crate::lease::{LeaseKey, Leases};
use crate::plan::{self, Plan};
use crate::schema::{self, Diagnostic, Documents};

const FILE: &str = "in-effect.json";
const NEW_FILE: &str = "in-effect.json.new";

/// Why what is in effect cannot be had or kept; each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum InEffectError {
    /// No gateway left it there.
    #[error(
        "state directory {directory} does not say what a gateway goes by: none runs with it, or not this version"
    )]
    Missing {
        /// The state directory.
        directory: PathBuf,
    },
    /// It cannot be read or written.
    #[error("{file}: {source}; see that this process may use it and its disk has room and works")]
    Failed {
        /// The file.
        file: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It is not what this program writes.
    #[error("{file} is damaged; reload the gateway to have it written anew")]
    Damaged {
        /// The file.
        file: PathBuf,
    },
    /// A file with a secret that it names is gone or changed its form since.
    #[error(
        "the configuration in effect does not hold any more, which it did when it was taken over: {}",
        .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n\n")
    )]
    Invalid(Vec<Diagnostic>),
}

/// A configuration as a gateway took it over.
#[derive(Debug)]
pub struct InEffect {
    documents: Documents,
    /// The leases that it led to.
    pub leases: Leases,
    /// When it was taken over.
    pub since: SystemTime,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    files: Vec<KeptFile>,
    held: Vec<KeptLease>,
    released: Vec<KeptLease>,
}

#[derive(Serialize, Deserialize)]
struct KeptFile {
    name: String,
    text: String,
}

#[derive(Serialize, Deserialize)]
struct KeptLease {
    routing_domain: String,
    pool: String,
    ordinal: u32,
    address: Ipv4Addr,
}

/// Keeps what is in effect from now on; it is on disk when this returns.
///
/// # Errors
///
/// It cannot be written; what was kept before is still there then.
pub fn keep(
    state_directory: &Path,
    documents: &Documents,
    leases: &Leases,
) -> Result<(), InEffectError> {
    let file = state_directory.join(FILE);
    let lease = |(key, address): (&LeaseKey, Ipv4Addr)| KeptLease {
        routing_domain: key.routing_domain.to_string(),
        pool: key.pool.clone(),
        ordinal: key.ordinal,
        address,
    };
    let kept = Kept {
        files: documents
            .sources
            .iter()
            .map(|source| KeptFile { name: source.name.clone(), text: source.text.clone() })
            .collect(),
        held: leases.held().map(lease).collect(),
        released: leases.released().map(lease).collect(),
    };
    let failed = |source| InEffectError::Failed { file: file.clone(), source };
    let text = serde_json::to_vec(&kept).map_err(|error| failed(error.into()))?;
    replace(&state_directory.join(NEW_FILE), &file, &[&text]).map_err(failed)
}

/// Reads what the gateway with this state directory goes by.
///
/// # Errors
///
/// There is nothing, or it cannot be read.
pub fn read(state_directory: &Path) -> Result<InEffect, InEffectError> {
    let file = state_directory.join(FILE);
    let failed = |source: io::Error| {
        if source.kind() == io::ErrorKind::NotFound {
            InEffectError::Missing { directory: state_directory.to_owned() }
        } else {
            InEffectError::Failed { file: file.clone(), source }
        }
    };
    let text = fs::read(&file).map_err(failed)?;
    let since = fs::metadata(&file).and_then(|metadata| metadata.modified()).map_err(failed)?;
    let damaged = || InEffectError::Damaged { file: file.clone() };
    let kept: Kept = serde_json::from_slice(&text).map_err(|_| damaged())?;
    let leases = |leases: Vec<KeptLease>| {
        let lease = |lease: KeptLease| {
            let KeptLease { routing_domain, pool, ordinal, address } = lease;
            let routing_domain = routing_domain.parse::<RoutingDomainId>().ok()?;
            Some((LeaseKey { routing_domain, pool, ordinal }, address))
        };
        leases.into_iter().map(lease).collect::<Option<Vec<_>>>()
    };
    let held = leases(kept.held).ok_or_else(damaged)?;
    let released = leases(kept.released).ok_or_else(damaged)?;
    let sources = kept.files.into_iter();
    let sources = sources.map(|file| schema::Source { name: file.name, text: file.text }).collect();
    Ok(InEffect {
        documents: schema::of_sources(sources),
        leases: Leases::new(held, released),
        since,
    })
}

impl InEffect {
    /// The plan that is in effect, but for secrets in files of their own, which are as they are now.
    ///
    /// # Errors
    ///
    /// It does not hold any more.
    pub fn plan(&self, keys: &Keyring) -> Result<Plan, InEffectError> {
        plan::prove(&self.documents, &self.leases, keys)
            .map(|proof| proof.plan)
            .map_err(InEffectError::Invalid)
    }

    /// Its files.
    #[must_use]
    pub const fn documents(&self) -> &Documents {
        &self.documents
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::schema::documents_of;

    const GATEWAY: &str = "fabric: {link: a, provider_addresses: 192.0.2.1}\n\
                           front_end: {link: b, pools: [{name: p, prefixes: 203.0.113.0/28}]}\n";
    const TENANT: &str = "tenant: a\nrouting_domain: 00000000-0000-0000-0000-000000000001\n\
                          subnets: [{name: web, vsid: 5001, prefixes: 10.1.0.0/24}]\n\
                          nat: {pool: p}\n";

    #[test]
    fn what_is_kept_comes_back_as_the_same_plan_and_only_its_owner_reads_it() {
        let state = tempfile::tempdir().unwrap();
        let documents = documents_of(GATEWAY, &[("a.yaml", TENANT)]);
        // Not the address that would be leased first.
        let key = LeaseKey {
            routing_domain: "00000000-0000-0000-0000-000000000001".parse().unwrap(),
            pool: "p".to_owned(),
            ordinal: 0,
        };
        let leases = Leases::new([(key, Ipv4Addr::new(203, 0, 113, 9))], []);
        let proof = plan::prove(&documents, &leases, &Keyring::default()).unwrap();
        keep(state.path(), &documents, &proof.leases).unwrap();
        let read = read(state.path()).unwrap();
        assert_eq!(read.leases, leases);
        assert_eq!(read.plan(&Keyring::default()).unwrap(), proof.plan);
        let mode = fs::metadata(state.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn what_is_not_there_or_damaged_is_an_error_with_its_remedy() {
        let state = tempfile::tempdir().unwrap();
        let missing = read(state.path()).unwrap_err().to_string();
        assert!(missing.contains("none runs with it"), "{missing}");
        fs::write(state.path().join(FILE), "{").unwrap();
        let damaged = read(state.path()).unwrap_err().to_string();
        assert!(damaged.ends_with("reload the gateway to have it written anew"), "{damaged}");
    }
}
