//! What NVGRE leaves of the fabric's MTU to a tenant (RFC 7637 section 4.4).

use nvgate_packet::headers::{ETHERNET_LENGTH, Family, IPV4_LENGTH, IPV6_LENGTH};

use crate::wire::GRE_LENGTH;

/// Bytes between the start of the outer IP packet and that of the inner one: outer IP, GRE, inner
/// Ethernet. 42 over IPv4, 62 over IPv6.
#[must_use]
pub const fn overhead(outer: Family) -> u32 {
    let network = match outer {
        Family::V4 => IPV4_LENGTH,
        Family::V6 => IPV6_LENGTH,
    };
    (network + GRE_LENGTH + ETHERNET_LENGTH) as u32
}

/// The longest inner IP packet, in bytes, on a fabric whose links carry IP packets of
/// `fabric_mtu` bytes; 0 when not even the headers fit.
#[must_use]
pub const fn tenant_mtu(fabric_mtu: u32, outer: Family) -> u32 {
    fabric_mtu.saturating_sub(overhead(outer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_1500_byte_fabric_leaves_1458_or_1438_bytes() {
        assert_eq!(tenant_mtu(1500, Family::V4), 1458);
        assert_eq!(tenant_mtu(1500, Family::V6), 1438);
        assert_eq!(tenant_mtu(1542, Family::V4), 1500);
    }

    #[test]
    fn a_fabric_too_small_for_the_headers_leaves_nothing() {
        assert_eq!(tenant_mtu(41, Family::V4), 0);
        assert_eq!(tenant_mtu(63, Family::V6), 1);
    }
}
