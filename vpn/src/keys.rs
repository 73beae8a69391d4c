//! The keys of tunnels, in the base64 that `wg` reads and prints.
//!
//! Owns parsing and printing; refuses what cannot be a key. Secret keys print themselves as
//! `(secret)`, compare in constant time and are overwritten when dropped.

use std::fmt;
use std::str::FromStr;

use base64ct::{Base64, Encoding};
use subtle::ConstantTimeEq;
use x25519_dalek::StaticSecret;
use zeroize::Zeroizing;

/// Characters of a key in base64: 32 bytes with padding (RFC 4648 section 4).
const TEXT_LENGTH: usize = 44;

/// A text or byte string that is not a key. Never holds any of the text, which may be secret.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidKey {
    /// The text is too short or too long.
    #[error("a key has 44 characters of base64, not {0}")]
    Length(usize),
    /// A character is not of the base64 alphabet, or the padding is missing or misplaced.
    #[error("character {0} of the key does not fit base64: 43 of `A-Z a-z 0-9 + /`, then one `=`")]
    Character(usize),
    /// The last character before the padding says more than 32 bytes.
    #[error("character 43 of the key has bits set behind the 32nd byte")]
    TrailingBits,
    /// Every byte is zero, which `wg` takes for no key at all.
    #[error("the key is all zero, which stands for no key")]
    AllZero,
    /// A public key of a small subgroup: whatever is agreed with it is zero (RFC 7748 section 6.1).
    #[error("the public key is a point of low order, with which no secret can be agreed")]
    LowOrder,
}

/// An X25519 private key (RFC 7748), clamped.
#[derive(Clone)]
pub struct PrivateKey(Zeroizing<[u8; 32]>);

impl PrivateKey {
    /// The key made of 32 random bytes, clamped (RFC 7748 section 5).
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        let mut bytes = Zeroizing::new(bytes);
        bytes[0] &= 248;
        bytes[31] = bytes[31] & 127 | 64;
        Self(bytes)
    }

    /// The public key that belongs to this one.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(x25519_dalek::PublicKey::from(&self.secret()).to_bytes())
    }

    /// The 44 characters that `wg` reads.
    #[must_use]
    pub fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(Base64::encode_string(&*self.0))
    }

    /// The key as the primitive takes it; overwrites itself when dropped.
    pub(crate) fn secret(&self) -> StaticSecret {
        StaticSecret::from(*self.0)
    }
}

impl FromStr for PrivateKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        Ok(Self::from_bytes(*non_zero(decode(text)?)?))
    }
}

/// A symmetric key mixed into the handshake (WireGuard whitepaper section 5.2).
#[derive(Clone)]
pub struct PresharedKey(Zeroizing<[u8; 32]>);

impl PresharedKey {
    /// The key of these bytes; all zero is refused, since it stands for no preshared key.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, InvalidKey> {
        non_zero(Zeroizing::new(bytes)).map(Self)
    }

    /// The 44 characters that `wg` reads.
    #[must_use]
    pub fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(Base64::encode_string(&*self.0))
    }

    /// A copy for the engine.
    pub(crate) fn bytes(&self) -> [u8; 32] {
        *self.0
    }
}

impl FromStr for PresharedKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        non_zero(decode(text)?).map(Self)
    }
}

macro_rules! secret {
    ($name:ident) => {
        impl PartialEq for $name {
            /// Takes the same time wherever the keys differ.
            fn eq(&self, other: &Self) -> bool {
                self.0.ct_eq(&*other.0).into()
            }
        }

        impl Eq for $name {}

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(concat!(stringify!($name), "(secret)"))
            }
        }
    };
}

secret!(PrivateKey);
secret!(PresharedKey);

/// An X25519 public key (RFC 7748), which names a peer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// The key of these bytes; all zero and points of low order are refused.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, InvalidKey> {
        if bytes == [0; 32] {
            return Err(InvalidKey::AllZero);
        }
        // Low order shows in the product with any clamped scalar: it is the neutral element.
        let agreed = StaticSecret::from([1; 32]).diffie_hellman(&bytes.into());
        if agreed.was_contributory() { Ok(Self(bytes)) } else { Err(InvalidKey::LowOrder) }
    }

    /// The bytes as they travel in a handshake.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for PublicKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        Self::from_bytes(*decode(text)?)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&Base64::encode_string(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// Reads 32 bytes of base64 in time that does not depend on what a valid text says.
fn decode(text: &str) -> Result<Zeroizing<[u8; 32]>, InvalidKey> {
    let characters = text.chars().count();
    if characters != TEXT_LENGTH {
        return Err(InvalidKey::Length(characters));
    }
    let is_digit = |character: char| character.is_ascii_alphanumeric() || "+/".contains(character);
    let defect = text.chars().enumerate().position(|(position, character)| {
        if position + 1 == TEXT_LENGTH { character != '=' } else { !is_digit(character) }
    });
    if let Some(position) = defect {
        return Err(InvalidKey::Character(position + 1));
    }
    let mut bytes = Zeroizing::new([0; 32]);
    match Base64::decode(text, &mut *bytes) {
        Ok(decoded) if decoded.len() == 32 => Ok(bytes),
        Ok(_) | Err(_) => Err(InvalidKey::TrailingBits),
    }
}

fn non_zero(bytes: Zeroizing<[u8; 32]>) -> Result<Zeroizing<[u8; 32]>, InvalidKey> {
    if bytes.ct_eq(&[0; 32]).into() { Err(InvalidKey::AllZero) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Alice's keys of RFC 7748 section 6.1, the private one clamped.
    const ALICE: (&str, &str) = (
        "cAdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LGo=",
        "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=",
    );

    const ZERO: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

    #[test]
    fn a_private_key_is_clamped_and_has_the_public_key_of_rfc_7748() {
        let private: PrivateKey = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=".parse().unwrap();
        assert_eq!(private.to_base64().as_str(), ALICE.0);
        assert_eq!(private.public().to_string(), ALICE.1);
        assert_eq!(private.public(), ALICE.1.parse().unwrap());
    }

    #[test]
    fn each_defect_has_its_error_and_none_shows_the_text() {
        let valid = ALICE.0;
        for (text, error) in [
            (String::new(), InvalidKey::Length(0)),
            (valid[..43].to_owned(), InvalidKey::Length(43)),
            (format!("{valid}="), InvalidKey::Length(45)),
            (format!(" {}", &valid[..43]), InvalidKey::Character(1)),
            (valid.replace('=', "A"), InvalidKey::Character(44)),
            (format!("{}==", &valid[..42]), InvalidKey::Character(43)),
            (format!("{}_{}", &valid[..9], &valid[10..]), InvalidKey::Character(10)),
            (format!("{}é{}", &valid[..9], &valid[10..]), InvalidKey::Character(10)),
            (valid.replace("Go=", "Gp="), InvalidKey::TrailingBits),
            (ZERO.to_owned(), InvalidKey::AllZero),
        ] {
            assert_eq!(text.parse::<PrivateKey>().unwrap_err(), error, "{text}");
            assert_eq!(text.parse::<PresharedKey>().unwrap_err(), error, "{text}");
            assert_eq!(text.parse::<PublicKey>().unwrap_err(), error, "{text}");
            assert!(text.len() < 9 || !error.to_string().contains(&text[..9]));
        }
    }

    #[test]
    fn public_keys_with_which_nothing_can_be_agreed_are_refused() {
        let mut one = [0; 32];
        one[0] = 1;
        let mut minus_one = [0xff; 32];
        (minus_one[0], minus_one[31]) = (0xec, 0x7f);
        let mut prime = minus_one;
        prime[0] = 0xed;
        for bytes in [one, minus_one, prime] {
            assert_eq!(PublicKey::from_bytes(bytes), Err(InvalidKey::LowOrder));
        }
    }

    #[test]
    fn secrets_do_not_show_in_debug_output() {
        let private = PrivateKey::from_bytes([0xa7; 32]);
        let preshared = PresharedKey::from_bytes([0xa7; 32]).unwrap();
        assert_eq!(format!("{private:?} {preshared:?}"), "PrivateKey(secret) PresharedKey(secret)");
    }

    proptest! {
        #[test]
        fn keys_survive_base64(bytes in any::<[u8; 32]>()) {
            let private = PrivateKey::from_bytes(bytes);
            prop_assert_eq!(&private.to_base64().parse::<PrivateKey>().unwrap(), &private);
            let preshared = PresharedKey::from_bytes(bytes).unwrap();
            prop_assert_eq!(&preshared.to_base64().parse::<PresharedKey>().unwrap(), &preshared);
            let public = private.public();
            prop_assert_eq!(public.to_string().parse::<PublicKey>().unwrap(), public);
        }

        #[test]
        fn any_text_returns(text in ".{0,50}") {
            let _ = text.parse::<PrivateKey>();
            let _ = text.parse::<PublicKey>();
        }
    }
}
