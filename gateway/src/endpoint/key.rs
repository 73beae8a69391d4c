//! Keys of TCP-MD5 and what is computed with them (RFC 2385).

use std::fmt;
use std::net::IpAddr;

use md5::{Digest, Md5};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The longest key, in bytes (RFC 2385 section 4.5 asks for 80).
pub const MAX_KEY: usize = 80;

/// Bytes that cannot be a key. Never holds any of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a key of TCP-MD5 has 1 to {MAX_KEY} bytes, not {0}")]
pub struct InvalidKey(pub usize);

/// A shared secret of TCP-MD5. Prints as `(secret)`, compares in constant time and is overwritten
/// when dropped.
#[derive(Clone)]
pub struct Md5Key(Zeroizing<Vec<u8>>);

impl Md5Key {
    /// The key of these bytes.
    ///
    /// # Errors
    ///
    /// [`InvalidKey`] when there are none or more than [`MAX_KEY`].
    pub fn new(bytes: &[u8]) -> Result<Self, InvalidKey> {
        if bytes.is_empty() || bytes.len() > MAX_KEY {
            return Err(InvalidKey(bytes.len()));
        }
        Ok(Self(Zeroizing::new(bytes.to_vec())))
    }

    /// The bytes, for the kernel.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The signature of a segment: of the pseudo-header, the TCP header without options and with a
    /// checksum of zero, the data, and the key (RFC 2385 section 2.0). `segment` begins at the TCP
    /// header, whose length counts its options.
    pub(super) fn sign(&self, source: IpAddr, destination: IpAddr, segment: &[u8]) -> [u8; 16] {
        let mut digest = Md5::new();
        let length = segment.len() as u32;
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                digest.update(source.octets());
                digest.update(destination.octets());
                digest.update([0, TCP]);
                digest.update((length as u16).to_be_bytes());
            }
            (source, destination) => {
                for address in [source, destination] {
                    match address {
                        IpAddr::V4(v4) => digest.update(v4.to_ipv6_mapped().octets()),
                        IpAddr::V6(v6) => digest.update(v6.octets()),
                    }
                }
                digest.update(length.to_be_bytes());
                digest.update([0, 0, 0, TCP]);
            }
        }
        let header_length = segment.get(12).map_or(20, |byte| usize::from(byte >> 4) * 4);
        let mut fixed = [0; 20];
        if let Some(header) = segment.first_chunk::<20>() {
            fixed = *header;
        }
        fixed[16..18].fill(0);
        digest.update(fixed);
        digest.update(segment.get(header_length..).unwrap_or(&[]));
        digest.update(&*self.0);
        digest.finalize().into()
    }

    /// Whether `signature` is that of the segment; takes the same time wherever it differs.
    pub(super) fn verifies(
        &self,
        source: IpAddr,
        destination: IpAddr,
        segment: &[u8],
        signature: &[u8],
    ) -> bool {
        self.sign(source, destination, segment)[..].ct_eq(signature).into()
    }
}

const TCP: u8 = nvgate_packet::headers::TCP;

impl PartialEq for Md5Key {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Md5Key {}

impl fmt::Debug for Md5Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Md5Key(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_debug_output_shows_a_secret() {
        let key = Md5Key::new(b"hush-hush").unwrap();
        assert_eq!(format!("{key:?}"), "Md5Key(secret)");
    }

    #[test]
    fn a_key_has_1_to_80_bytes() {
        assert_eq!(Md5Key::new(b""), Err(InvalidKey(0)));
        assert_eq!(Md5Key::new(&[7; 81]), Err(InvalidKey(81)));
        assert!(Md5Key::new(&[7; 80]).is_ok());
    }

    #[test]
    fn the_signature_is_the_digest_of_the_concatenation_of_rfc_2385() {
        let key = Md5Key::new(b"key").unwrap();
        let mut segment = vec![0x11; 20 + 20];
        segment[12] = 0xa0;
        segment.extend(b"data");
        let mut header = segment[..20].to_vec();
        header[16..18].fill(0);
        let v4 = [&[10, 0, 0, 1, 10, 0, 0, 2, 0, 6, 0, 44][..], &header, b"data", b"key"].concat();
        let [from, to] = ["10.0.0.1", "10.0.0.2"].map(|text| text.parse().unwrap());
        assert_eq!(key.sign(from, to, &segment), <[u8; 16]>::from(Md5::digest(v4)));
        let [from, to] = ["fd00::1", "fd00::2"].map(|text| text.parse::<IpAddr>().unwrap());
        let octets = |address: IpAddr| match address {
            IpAddr::V6(v6) => v6.octets(),
            IpAddr::V4(_) => unreachable!(),
        };
        let pseudo = [&octets(from)[..], &octets(to), &[0, 0, 0, 44, 0, 0, 0, 6]].concat();
        let v6 = [&pseudo[..], &header, b"data", b"key"].concat();
        assert_eq!(key.sign(from, to, &segment), <[u8; 16]>::from(Md5::digest(v6)));
        assert!(!key.verifies(from, to, &segment, &[0; 16]));
    }
}
