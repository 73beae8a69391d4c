//! The control socket: what changes something, which the health endpoint never does.
//!
//! It is a Unix socket in a directory of its own that belongs to the gateway's user and that nobody
//! else can enter: whoever may use it could end the process as well. It answers POST only.

use std::fs::{self, DirBuilder};
use std::future::Future;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use axum::Router;
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::post;
use nix::unistd::geteuid;
use serde::Deserialize;
use tokio::net::UnixListener;

use super::bgp::answers::answered;
use super::listener::{Bounded, Patience};
use crate::peering::{ClearCommand, DrainCommand, Questions};

/// Only the owner enters.
const MODE: u32 = 0o700;
/// Seconds from the beginning of a drain to the end of sessions, unless the command says otherwise:
/// peers' peers have to find other ways meanwhile (RFC 8326 section 4.3).
pub const DRAIN_SECS: u32 = 60;

/// Where the socket of a gateway with this state directory is.
#[must_use]
pub fn socket_path(state_directory: &Path) -> PathBuf {
    state_directory.join("control").join("socket")
}

/// Waits for commands.
///
/// # Errors
///
/// One sentence that says what to do.
pub fn bind(state_directory: &Path) -> Result<UnixListener, String> {
    let path = socket_path(state_directory);
    let refused = |error: &dyn std::fmt::Display| {
        format!("`nvgate drain` and `nvgate bgp clear` do not work: {}: {error}", path.display())
    };
    let directory = path.parent().unwrap_or(state_directory);
    own(directory).map_err(|error| refused(&error))?;
    if UnixStream::connect(&path).is_ok() {
        return Err(refused(&"another gateway with this state directory runs"));
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(refused(&error)),
        Ok(()) | Err(_) => {}
    }
    UnixListener::bind(&path).map_err(|error| refused(&error))
}

/// Makes a directory that only its owner can enter, or proves that it is one.
fn own(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(MODE).create(directory)?;
    let found = fs::symlink_metadata(directory)?;
    if !found.is_dir() || found.uid() != geteuid().as_raw() || found.mode() & 0o077 != 0 {
        let directory = directory.display();
        return Err(io::Error::other(format!(
            "others could use it: remove {directory}, which the gateway makes anew"
        )));
    }
    Ok(())
}

/// Does what is commanded on `listener` until `stop` is done.
pub async fn serve(
    listener: UnixListener,
    questions: Questions,
    stop: impl Future<Output = ()> + Send + 'static,
) {
    let _removed = Removed(
        listener.local_addr().ok().and_then(|address| address.as_pathname().map(Path::to_path_buf)),
    );
    let router = Router::new()
        .route("/v1/bgp/clear", post(clear))
        .route("/v1/drain", post(drain))
        .with_state(questions);
    let server = axum::serve(Bounded::new(listener, Patience::default()), router);
    if let Err(error) = server.with_graceful_shutdown(stop).await {
        tracing::error!(%error, "the control socket ended");
    }
}

/// A socket's file, which goes with who listens on it.
struct Removed(Option<PathBuf>);

impl Drop for Removed {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // A file that is left is taken for what it is at the next start.
            let _ = fs::remove_file(path);
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClearQuery {
    tenant: Option<String>,
    peer: String,
    #[serde(default)]
    hard: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DrainQuery {
    after_secs: Option<u32>,
    #[serde(default)]
    cancel: bool,
}

async fn clear(State(questions): State<Questions>, Query(query): Query<ClearQuery>) -> Response {
    let ClearQuery { tenant, peer, hard } = query;
    answered(questions.clear(ClearCommand { tenant, peer, hard }).await)
}

async fn drain(State(questions): State<Questions>, Query(query): Query<DrainQuery>) -> Response {
    let command = if query.cancel {
        DrainCommand::Cancel
    } else {
        DrainCommand::Begin { after_secs: query.after_secs.unwrap_or(DRAIN_SECS) }
    };
    answered(questions.drain(command).await)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn the_socket_is_its_owners_alone_and_comes_back_after_a_crash() {
        let state = tempfile::tempdir().unwrap();
        let listener = bind(state.path()).unwrap();
        let directory = state.path().join("control");
        assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o777, 0o700);
        let error = bind(state.path()).unwrap_err();
        assert!(error.ends_with("another gateway with this state directory runs"), "{error}");
        drop(listener);
        assert!(socket_path(state.path()).exists(), "as a crash leaves it");
        drop(bind(state.path()).unwrap());
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o750)).unwrap();
        let error = bind(state.path()).unwrap_err();
        assert!(error.contains("others could use it"), "{error}");
    }
}
