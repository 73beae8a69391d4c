//! The private keys that the gateway makes for itself: one for each listener that is given none,
//! remembered under the routing domain and the listener's name, so that it survives restarts and
//! every change that is not its own. New keys are on disk before a plan that has them is used.

mod file;
mod store;

use std::collections::BTreeMap;
use std::time::SystemTime;

use nvgate_model::RoutingDomainId;
use nvgate_vpn::PrivateKey;

pub(crate) use file::{MAX_SECRET_BYTES, read_secret, replace, secret_text};
pub use store::{KeyStore, KeyStoreError};

/// What a listener's key is remembered under.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct KeyName {
    /// The routing domain it is for.
    pub routing_domain: RoutingDomainId,
    /// The listener's name in that domain.
    pub listener: String,
}

/// The keys of one listener.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListenerKeys {
    /// The one in use.
    pub current: PrivateKey,
    /// The one before it, while it is still accepted.
    pub previous: Option<PreviousKey>,
}

/// A key that was replaced and is accepted for some more time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PreviousKey {
    /// The key.
    pub key: PrivateKey,
    /// When it ends to be accepted; whole seconds.
    pub expires: SystemTime,
}

/// The keys that listeners have so far.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Keyring(BTreeMap<KeyName, ListenerKeys>);

impl Keyring {
    /// The keys of a listener, if it has any.
    #[must_use]
    pub fn of(&self, name: &KeyName) -> Option<&ListenerKeys> {
        self.0.get(name)
    }

    /// Adds a listener's keys, in place of those it had.
    pub fn insert(&mut self, name: KeyName, keys: ListenerKeys) {
        self.0.insert(name, keys);
    }

    /// When the next previous key ends to be accepted.
    #[must_use]
    pub fn next_expiry(&self) -> Option<SystemTime> {
        self.0.values().filter_map(|keys| Some(keys.previous.as_ref()?.expires)).min()
    }
}

/// A key drawn for a listener that had none; it belongs into the store before it is used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewKey {
    /// The listener it is for.
    pub name: KeyName,
    /// The key.
    pub key: PrivateKey,
}

/// A private key from the operating system's randomness.
///
/// # Errors
///
/// When the operating system has none, which a kernel that has started always has.
pub fn draw() -> Result<PrivateKey, getrandom::Error> {
    let mut bytes = zeroize::Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut_slice())?;
    Ok(PrivateKey::from_bytes(*bytes))
}
