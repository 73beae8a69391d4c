//! Keys and passwords as values of a configuration. A secret's text never leaves this module: messages say what
//! is expected and not what was found, and the place of each secret is remembered so that the
//! line it stands on is shown without it.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::Path;

use nvgate_bgp::config::Md5Key;
use nvgate_vpn::{InvalidKey, PresharedKey, PrivateKey, PublicKey};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::decode::{Decode, Decoder, Scalar};
use super::node::{Node, NodeValue};
use crate::keys::{read_secret, secret_text};

/// The directory that a configuration's own files are in, by the paths that name them.
const CONFIGURATION: &str = "/etc/nvgate/";

/// Where the files with secrets are that a configuration names.
#[derive(Clone, Debug, Default)]
pub(crate) enum SecretFiles {
    /// On this host, at their paths.
    #[default]
    OfHost,
    /// Beside the configuration, which is not where it will be: by what follows `/etc/nvgate/` in
    /// their paths.
    Carried(BTreeMap<String, Zeroizing<Vec<u8>>>),
}

impl SecretFiles {
    /// The text of the secret in the file that is called `path`.
    fn read(&self, path: &str) -> Result<Zeroizing<String>, String> {
        let shown = path.escape_debug();
        let Self::Carried(files) = self else {
            return read_secret(Path::new(path)).map_err(|error| format!("{shown} {error}"));
        };
        let name = path.strip_prefix(CONFIGURATION).ok_or_else(|| {
            format!(
                "{shown} is not below {CONFIGURATION}: put the file into the seed's folder keys \
                 and call it {CONFIGURATION}keys/NAME here"
            )
        })?;
        let bytes = files
            .get(name)
            .ok_or_else(|| format!("{shown} is not in the seed: put the file there as {name}"))?;
        secret_text(bytes).map_err(|error| format!("{shown} {error}"))
    }
}

/// A kind of secret that a configuration may hold.
pub(crate) trait Secret: Sized {
    /// What messages call it, and the command that makes one.
    const EXPECTED: &'static str;

    /// Reads its text; the error does not repeat it.
    fn read(text: &str) -> Result<Self, String>;

    /// The JSON Schema of its text.
    fn schema() -> Value;
}

impl Secret for PrivateKey {
    const EXPECTED: &'static str = "a private key in base64, as `wg genkey` prints it";

    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|error: InvalidKey| error.to_string())
    }

    fn schema() -> Value {
        key_schema()
    }
}

impl Secret for PresharedKey {
    const EXPECTED: &'static str = "a preshared key in base64, as `wg genpsk` prints it";

    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|error: InvalidKey| error.to_string())
    }

    fn schema() -> Value {
        key_schema()
    }
}

impl Secret for Md5Key {
    const EXPECTED: &'static str = "a password of 1 to 80 bytes, as the other side has it";

    fn read(text: &str) -> Result<Self, String> {
        Self::new(text.as_bytes()).map_err(|error| error.to_string())
    }

    fn schema() -> Value {
        json!({ "anyOf": [{ "type": "string" }, { "type": "integer" }] })
    }
}

/// A secret that stands in the configuration itself.
#[derive(Clone, Debug)]
pub(crate) struct SecretKey<K>(pub(crate) K);

impl<K: Secret> Decode for SecretKey<K> {
    const SCALAR: bool = true;

    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        decoder.findings.secret(node.place);
        let NodeValue::Scalar(text) = &node.value else {
            decoder.refuse(node.place, format!("expected {}, found {}", K::EXPECTED, node.kind()));
            return None;
        };
        let refuse = |error| decoder.refuse(node.place, refused(K::EXPECTED, error));
        K::read(text).map(Self).map_err(refuse).ok()
    }

    fn schema() -> Value {
        K::schema()
    }
}

/// A secret in a file of its own, which was read together with the configuration.
#[derive(Clone, Debug)]
pub(crate) struct KeyFile<K>(pub(crate) K);

impl<K: Secret> Decode for KeyFile<K> {
    const SCALAR: bool = true;

    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        const EXPECTED: &str = "the absolute path of a file with a secret";
        let NodeValue::Scalar(text) = &node.value else {
            decoder.refuse(node.place, format!("expected {EXPECTED}, found {}", node.kind()));
            return None;
        };
        // What is no path may be the secret itself, put under the wrong name.
        if !text.starts_with('/') || text.contains('\0') {
            decoder.findings.secret(node.place);
            decoder.refuse(node.place, format!("the value (not shown) is not {EXPECTED}"));
            return None;
        }
        let secret = decoder.secret_files.read(text).and_then(|secret| Self::of(text, &secret));
        secret.map_err(|message| decoder.refuse(node.place, message)).ok()
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^/" })
    }
}

impl<K: Secret> KeyFile<K> {
    fn of(path: &str, secret: &str) -> Result<Self, String> {
        let shown = path.escape_debug();
        let refuse = |error| format!("{shown} does not hold {}: {error}", K::EXPECTED);
        K::read(secret).map(Self).map_err(refuse)
    }
}

fn refused(expected: &str, error: impl Display) -> String {
    format!("the value (not shown) is not {expected}: {error}")
}

impl Scalar for PublicKey {
    const EXPECTED: &'static str = "a public key in base64, as `wg pubkey` prints it";

    fn read(text: &str) -> Result<Self, String> {
        // What is no public key may be a private one with a slip.
        text.parse().map_err(|error: InvalidKey| refused(Self::EXPECTED, error))
    }

    fn schema() -> Value {
        key_schema()
    }
}

/// Keys are 32 bytes: 43 characters of base64, the last of which holds 4 bits, and `=`.
fn key_schema() -> Value {
    json!({ "type": "string", "pattern": "^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$" })
}

/// The address and port at which a site listens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TunnelEndpoint(pub(crate) SocketAddr);

impl Scalar for TunnelEndpoint {
    const EXPECTED: &'static str =
        "an address and port such as 198.51.100.7:51820 or [2001:db8::7]:51820";

    fn read(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| {
            format!(
                "`{}` is not {}; host names are not resolved",
                text.escape_debug(),
                Self::EXPECTED
            )
        })
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^([0-9.]+|\\[[0-9A-Fa-f:.]+\\]):[0-9]{1,5}$" })
    }
}
