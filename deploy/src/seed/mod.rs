//! A seed: the folder that makes an image a particular gateway. This module reads a seed's files
//! into memory, judges them together with the machine's NICs, decides what is to be in effect, and
//! keeps versions so that a power cut at any moment leaves a whole one in effect. It touches no
//! network and mounts nothing: who runs it brings folders, and the list of NICs.
//!
//! | file | what |
//! |---|---|
//! | `seed.yaml` | host name, roles of NICs, SSH keys |
//! | `gateway.yaml`, `tenants.d/*.yaml` | the configuration, as without an image |
//! | `keys/*` | files with secrets, called `/etc/nvgate/keys/NAME` in the configuration |

mod decide;
mod files;
mod judge;
mod nics;
mod report;
mod store;
#[cfg(test)]
mod tests;

pub use decide::{Candidate, Decision, decide};
pub use files::{Seed, from_credentials, from_folder};
pub use judge::{Description, Judgement, Wish};
pub use nics::{HostNic, NamedNic, Rename, Role, Selector, renames};
pub use report::{Problem, Report, State};
pub use store::{Disk, Kept, LocalDisk, Owner, Permissions, Store, StoreError};

/// The file system label of a seed's disk.
pub const LABEL: &str = "NVGATE";
/// The file that says what the machine is.
pub const SEED_FILE: &str = "seed.yaml";
/// The folder of a seed with files that hold secrets.
pub const KEYS_DIRECTORY: &str = "keys";
/// What names of a seed's systemd credentials begin with: `nvgate.seed.yaml`,
/// `nvgate.gateway.yaml`, `nvgate.tenants.NAME.yaml`, `nvgate.keys.NAME`.
pub const CREDENTIAL_PREFIX: &str = "nvgate.";
