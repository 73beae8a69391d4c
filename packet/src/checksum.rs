//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).
//!
//! Sums are one's complement sums of big-endian 16-bit words, kept folded to 16 bits between
//! calls; the *checksum* on the wire is the complement of such a sum.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The folded one's complement sum of `bytes`; an odd last byte counts as its word's upper half.
#[inline]
#[must_use]
pub fn sum(bytes: &[u8]) -> u16 {
    // The sum of byte-swapped words is the byte-swapped sum (RFC 1071 section 2 (B)), so words are
    // read the way the processor likes them.
    let (words, rest) = bytes.as_chunks::<8>();
    let mut total = 0_u64;
    for word in words {
        let word = u64::from_le_bytes(*word);
        total += (word & 0xffff_ffff) + (word >> 32);
    }
    let (words, rest) = rest.as_chunks::<4>();
    for word in words {
        total += u64::from(u32::from_le_bytes(*word));
    }
    let mut tail = [0; 4];
    for (to, from) in tail.iter_mut().zip(rest) {
        *to = *from;
    }
    fold(total + u64::from(u32::from_le_bytes(tail))).swap_bytes()
}

/// Folds a wide sum to 16 bits with end-around carry.
#[inline]
#[must_use]
pub const fn fold(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    ((sum >> 16) + (sum & 0xffff)) as u16
}

/// The one's complement sum of two folded sums.
#[inline]
#[must_use]
pub const fn add(left: u16, right: u16) -> u16 {
    let (total, carry) = left.overflowing_add(right);
    total + carry as u16
}

/// The checksum on the wire for a folded sum.
#[inline]
#[must_use]
pub const fn finish(sum: u16) -> u16 {
    !sum
}

/// What to add to a sum when `old` becomes `new` (RFC 1624, equation 3).
#[inline]
#[must_use]
pub const fn delta(old: u16, new: u16) -> u16 {
    add(!old, new)
}

/// What to add to a sum when the 32-bit word `old` becomes `new`.
#[inline]
#[must_use]
pub const fn delta_u32(old: u32, new: u32) -> u16 {
    add(delta((old >> 16) as u16, (new >> 16) as u16), delta(old as u16, new as u16))
}

/// The checksum on the wire after the summed bytes changed by `delta`.
#[inline]
#[must_use]
pub const fn update(checksum: u16, delta: u16) -> u16 {
    !add(!checksum, delta)
}

/// The folded sum of the IPv4 pseudo-header (RFC 9293 section 3.1, RFC 768).
#[must_use]
pub fn pseudo_v4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, length: usize) -> u16 {
    let length = length as u64;
    fold(
        u64::from(source.to_bits())
            + u64::from(destination.to_bits())
            + u64::from(protocol)
            + length,
    )
}

/// The folded sum of the IPv6 pseudo-header (RFC 8200 section 8.1).
#[must_use]
pub fn pseudo_v6(source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, length: usize) -> u16 {
    let addresses = add(sum(&source.octets()), sum(&destination.octets()));
    fold(u64::from(addresses) + u64::from(protocol) + length as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn naive(bytes: &[u8]) -> u16 {
        let mut total = 0_u32;
        for pair in bytes.chunks(2) {
            total += u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |&byte| u32::from(byte));
            total = (total & 0xffff) + (total >> 16);
        }
        total as u16
    }

    /// The example of RFC 1071 section 3.
    #[test]
    fn rfc_1071_example() {
        assert_eq!(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
    }

    proptest! {
        #[test]
        fn the_fast_sum_is_the_naive_sum(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            prop_assert_eq!(sum(&bytes), naive(&bytes));
        }

        #[test]
        fn an_update_is_a_recount(mut bytes in proptest::collection::vec(any::<u8>(), 40), new in any::<[u8; 4]>()) {
            let before = finish(sum(&bytes));
            let old = u32::from_be_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]);
            bytes[12..16].copy_from_slice(&new);
            let updated = update(before, delta_u32(old, u32::from_be_bytes(new)));
            let recounted = finish(sum(&bytes));
            // 0 and 0xffff are the same number in one's complement.
            prop_assert!(updated == recounted || (updated ^ recounted) == 0xffff && (updated == 0 || recounted == 0));
        }
    }
}
