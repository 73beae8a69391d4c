//! Tests that cannot run here say so: on their output, and in the file that `cargo xtask test` lists
//! at its end. Where peers are required, a missing one is a failure instead.

use std::env;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

/// Names the file that reasons are appended to, one line a test.
pub const SKIPPED_FILE: &str = "NVGATE_SKIPPED";

/// Set to 1 where a test must fail instead of being skipped.
pub const REQUIRE_PEERS: &str = "NVGATE_REQUIRE_PEERS";

/// Records that `test` did not run, and why.
pub fn skip(test: &str, reason: &str) {
    println!("SKIPPED: {test}: {reason}");
    let Some(file) = env::var_os(SKIPPED_FILE) else { return };
    let line = format!("{test}: {reason}\n");
    let written = OpenOptions::new()
        .append(true)
        .create(true)
        .open(&file)
        .and_then(|mut file| file.write_all(line.as_bytes()));
    if let Err(error) = written {
        println!("cannot write {}: {error}", file.display());
    }
}

/// Whether `test` can run as root with all of `programs`; when not, it is recorded as skipped.
///
/// # Panics
///
/// When it cannot run and `NVGATE_REQUIRE_PEERS` is 1.
#[must_use]
pub fn has_peers(test: &str, programs: &[&str]) -> bool {
    let obstacle = obstacle(programs);
    if let Some(reason) = &obstacle {
        skip_unless_required(test, reason);
    }
    obstacle.is_none()
}

/// Records that `test` cannot run here, and why.
///
/// # Panics
///
/// When `NVGATE_REQUIRE_PEERS` is 1.
pub fn skip_unless_required(test: &str, reason: &str) {
    assert!(
        env::var_os(REQUIRE_PEERS).is_none_or(|value| value != "1"),
        "{test} is required here but {reason}"
    );
    skip(test, reason);
}

fn obstacle(programs: &[&str]) -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("needs root (network namespaces)".to_owned());
    }
    let absent: Vec<_> = programs.iter().copied().filter(|program| !on_path(program)).collect();
    if absent.is_empty() { None } else { Some(format!("needs {}", absent.join(", "))) }
}

fn on_path(program: &str) -> bool {
    env::split_paths(&env::var_os("PATH").unwrap_or_default())
        .any(|directory| Path::new(&directory).join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named() {
        if !nix::unistd::geteuid().is_root() {
            assert_eq!(obstacle(&[]).unwrap(), "needs root (network namespaces)");
            return;
        }
        assert_eq!(obstacle(&["sh"]), None);
        assert_eq!(obstacle(&["sh", "no-such-peer"]).unwrap(), "needs no-such-peer");
    }
}
