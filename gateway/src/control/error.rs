//! Why the gateway does not run, in one sentence each.

use std::io;

use nix::errno::Errno;
use nvgate_deploy::host::{GuardError, NetlinkError};

use super::config::ConfigError;
use super::threads::StartError;
use crate::admin::BindError;
use crate::snapshot::BuildError;

/// Why the gateway does not run, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration does not hold.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A link is missing.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The ports or threads could not be had.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The health endpoint's address could not be had.
    #[error(transparent)]
    Admin(#[from] BindError),
    /// The host's network cannot be followed.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The host's kernel cannot be kept away from the gateway's traffic.
    #[error("cannot keep the host's kernel away from the gateway's traffic: {0}{hint}", hint = remedy(.0))]
    Guard(#[from] GuardError),
    /// The process cannot do what every process can.
    #[error("cannot start: {0}")]
    Process(#[from] io::Error),
    /// A worker is gone.
    #[error("a worker ended unexpectedly; its last words are in the log above")]
    WorkerEnded,
}

/// What to do about a guard that cannot be had, to go behind why.
fn remedy(error: &GuardError) -> &'static str {
    match error {
        GuardError::Netlink(error) if error.errno() == Some(Errno::EPERM as i32) => {
            ": run as root or with the capabilities CAP_NET_ADMIN and CAP_NET_RAW in the network \
             namespace"
        }
        GuardError::Netlink(_) | GuardError::TooManyRanges { .. } => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_that_is_not_permitted_names_the_capabilities() {
        let refused = |errno: Errno| {
            let source = io::Error::from_raw_os_error(errno as i32);
            let error = NetlinkError::Refused { operation: "add a tc filter", source };
            RunError::from(GuardError::from(error)).to_string()
        };
        assert!(refused(Errno::EPERM).ends_with(
            "Operation not permitted (os error 1): run as root or with the capabilities \
             CAP_NET_ADMIN and CAP_NET_RAW in the network namespace"
        ));
        assert!(refused(Errno::ENOMEM).ends_with("(os error 12)"));
    }
}
