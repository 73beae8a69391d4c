//! Any text as one of the configuration's files, beside the examples: a plan, or errors with their
//! places.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use nvgate_deploy::keys::Keyring;
use nvgate_deploy::lease::Leases;
use nvgate_deploy::plan::prove;
use nvgate_deploy::schema::load;
use tempfile::TempDir;

const GATEWAY: &str = include_str!("../../../deploy/examples/gateway.yaml");
const CONTOSO: &str = include_str!("../../../deploy/examples/tenants.d/contoso.yaml");
const FABRIKAM: &str = include_str!("../../../deploy/examples/tenants.d/fabrikam.yaml");

/// Where the files are written; one a process, so that inputs do not pay for making it.
static DIRECTORY: LazyLock<TempDir> = LazyLock::new(|| {
    let directory = tempfile::tempdir().expect("a directory");
    fs::create_dir(directory.path().join("tenants.d")).expect("a directory in it");
    directory
});

/// The first byte says which file the others are.
///
/// # Panics
///
/// A claim does not hold.
pub fn run(data: &[u8]) {
    let Some((which, text)) = data.split_first() else { return };
    let (gateway, tenant) = match which & 1 {
        0 => (GATEWAY.as_bytes(), text),
        _ => (text, CONTOSO.as_bytes()),
    };
    let directory = DIRECTORY.path();
    write(&directory.join("gateway.yaml"), gateway);
    write(&directory.join("tenants.d/a.yaml"), tenant);
    write(&directory.join("tenants.d/b.yaml"), FABRIKAM.as_bytes());
    let Err(diagnostics) = prove(&load(directory), &Leases::default(), &Keyring::default()) else {
        return;
    };
    assert!(!diagnostics.is_empty());
    for diagnostic in diagnostics {
        assert!(diagnostic.line > 0 && diagnostic.column > 0);
        assert!(!diagnostic.message.is_empty() && !diagnostic.to_string().is_empty());
    }
}

fn write(path: &Path, text: &[u8]) {
    fs::write(path, text).expect("a file is written");
}

/// The examples.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let seed = |which: u8, text: &str| [&[which], text.as_bytes()].concat();
    vec![seed(1, GATEWAY), seed(0, CONTOSO), seed(0, FABRIKAM)]
}
