//! One-to-one translation of prefixes: a network is seen under other numbers by the other side
//! (RFC 6296's idea for both families, without its checksum-neutral mapping: every checksum is
//! mended instead). It keeps no state, so that any packet of a flow may come first.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nvgate_model::Prefix;

use crate::checksum;
use crate::headers::{Family, Fragment, Headers, TCP, Transport, UDP, read_u16};
use crate::icmp;

/// Pairs of prefixes of equal family and length; an address in one half keeps its host bits and
/// gets the network of the other.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Renumbering(Vec<(Prefix, Prefix)>);

impl Renumbering {
    /// The translation of each pair's first prefix to its second; pairs of different family or
    /// length are left out.
    #[must_use]
    pub fn new(pairs: impl IntoIterator<Item = (Prefix, Prefix)>) -> Self {
        let fits = |(from, to): &(Prefix, Prefix)| {
            from.is_ipv4() == to.is_ipv4() && from.length() == to.length()
        };
        Self(pairs.into_iter().filter(fits).collect())
    }

    /// Whether nothing changes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number that `address` is given; itself outside every pair's first prefix.
    #[must_use]
    pub fn forward(&self, address: IpAddr) -> IpAddr {
        let pair = self.0.iter().find(|(from, _)| from.contains(address));
        pair.map_or(address, |&(_, to)| moved(address, to))
    }

    /// The address that was given the number `address`; itself outside every pair's second prefix.
    #[must_use]
    pub fn back(&self, address: IpAddr) -> IpAddr {
        let pair = self.0.iter().find(|(_, to)| to.contains(address));
        pair.map_or(address, |&(from, _)| moved(address, from))
    }
}

/// `address` with the network bits of `prefix`.
fn moved(address: IpAddr, prefix: Prefix) -> IpAddr {
    let length = u32::from(prefix.length());
    match (address, prefix.network()) {
        (IpAddr::V4(v4), IpAddr::V4(network)) => {
            let host = u32::MAX.checked_shr(length).unwrap_or(0);
            Ipv4Addr::from_bits(network.to_bits() | v4.to_bits() & host).into()
        }
        (IpAddr::V6(v6), IpAddr::V6(network)) => {
            let host = u128::MAX.checked_shr(length).unwrap_or(0);
            Ipv6Addr::from_bits(network.to_bits() | v6.to_bits() & host).into()
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => address,
    }
}

/// Gives a packet other addresses and mends its checksums; of an ICMP error also the packet it
/// quotes, which went the other way. `partial` says that the transport checksum is only the
/// pseudo-header's sum as yet.
pub fn renumber(
    packet: &mut [u8],
    headers: &Headers,
    partial: bool,
    source: impl Fn(IpAddr) -> IpAddr,
    destination: impl Fn(IpAddr) -> IpAddr,
) {
    if let Some((range, quoted)) = icmp::quoted(packet, headers) {
        let checksum_at = usize::from(headers.transport_at) + 2;
        if let Some(bytes) = packet.get_mut(range) {
            let delta = rewrite(bytes, &quoted, false, &destination, &source);
            mend(packet, checksum_at, |sum| checksum::update(sum, delta));
        }
    }
    rewrite(packet, headers, partial, &source, &destination);
}

/// Gives one packet other addresses; says what that adds to a sum over all its bytes.
fn rewrite(
    bytes: &mut [u8],
    headers: &Headers,
    partial: bool,
    source: impl Fn(IpAddr) -> IpAddr,
    destination: impl Fn(IpAddr) -> IpAddr,
) -> u16 {
    let (source_at, destination_at) = match headers.family {
        Family::V4 => (12, 16),
        Family::V6 => (8, 24),
    };
    let addresses = checksum::add(
        replace(bytes, headers.family, source_at, source),
        replace(bytes, headers.family, destination_at, destination),
    );
    let mut whole = addresses;
    if headers.family == Family::V4 {
        let header = mend(bytes, 10, |sum| checksum::update(sum, addresses));
        whole = checksum::add(whole, header);
    }
    if !matches!(headers.fragment, Fragment::Later { .. }) {
        let field = match (headers.protocol, headers.transport) {
            (TCP, _) => Some(16),
            (UDP, _) => Some(6),
            // ICMP for IPv4 has no pseudo-header.
            (
                _,
                Transport::EchoRequest
                | Transport::EchoReply
                | Transport::IcmpError
                | Transport::IcmpOther { .. },
            ) if headers.family == Family::V6 => Some(2),
            (_, _) => None,
        };
        if let Some(field) = field {
            let optional = headers.protocol == UDP && headers.family == Family::V4;
            let at = usize::from(headers.transport_at) + field;
            let transport = mend(bytes, at, |sum| match (partial, sum) {
                (true, _) => checksum::add(sum, addresses),
                // No checksum was sent (RFC 768).
                (false, 0) if optional => 0,
                (false, _) => match checksum::update(sum, addresses) {
                    0 if headers.protocol == UDP => 0xffff,
                    sum => sum,
                },
            });
            whole = checksum::add(whole, transport);
        }
    }
    whole
}

/// Replaces an address; says what that adds to a sum over it.
fn replace(bytes: &mut [u8], family: Family, at: usize, change: impl Fn(IpAddr) -> IpAddr) -> u16 {
    match family {
        Family::V4 => {
            let Some(field) = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<4>())
            else {
                return 0;
            };
            let IpAddr::V4(new) = change(Ipv4Addr::from_octets(*field).into()) else { return 0 };
            let old = checksum::sum(field);
            *field = new.octets();
            checksum::delta(old, checksum::sum(field))
        }
        Family::V6 => {
            let Some(field) = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<16>())
            else {
                return 0;
            };
            let IpAddr::V6(new) = change(Ipv6Addr::from_octets(*field).into()) else { return 0 };
            let old = checksum::sum(field);
            *field = new.octets();
            checksum::delta(old, checksum::sum(field))
        }
    }
}

/// Changes a checksum field that is there; says what that adds to a sum over it.
fn mend(bytes: &mut [u8], at: usize, change: impl Fn(u16) -> u16) -> u16 {
    let old = read_u16(bytes, at);
    let Some(field) = bytes.get_mut(at..at + 2) else { return 0 };
    let new = change(old);
    field.copy_from_slice(&new.to_be_bytes());
    checksum::delta(old, new)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::headers::{ICMP, ICMPV6};
    use crate::samples::{checksum_field, half_sealed, ipv4, ipv6, is_sound, sealed, tcp, udp};

    fn renumbering() -> Renumbering {
        let prefix = |text: &str| text.parse().unwrap();
        Renumbering::new([
            (prefix("10.0.0.0/24"), prefix("172.20.7.0/24")),
            (prefix("fd00::/64"), prefix("2001:db8:7:9::/64")),
        ])
    }

    fn there(packet: &[u8], partial: bool) -> Vec<u8> {
        let (numbers, mut packet) = (renumbering(), packet.to_vec());
        let headers = Headers::parse(&packet).unwrap();
        renumber(&mut packet, &headers, partial, |ip| numbers.forward(ip), |ip| ip);
        packet
    }

    fn error_about(quoted: &[u8], v4: bool) -> Vec<u8> {
        let message = [&[if v4 { 3 } else { 1 }, 0, 0, 0, 0, 0, 0, 0], quoted].concat();
        sealed(if v4 { ipv4(ICMP, 0, &[], &message) } else { ipv6(ICMPV6, &message) })
    }

    #[test]
    fn host_bits_stay_and_what_is_outside_stays() {
        let numbers = renumbering();
        for (address, number) in [
            ("10.0.0.77", "172.20.7.77"),
            ("10.0.1.77", "10.0.1.77"),
            ("fd00::5:6", "2001:db8:7:9::5:6"),
            ("fd00:0:0:1::5", "fd00:0:0:1::5"),
        ] {
            let (address, number): (IpAddr, IpAddr) =
                (address.parse().unwrap(), number.parse().unwrap());
            assert_eq!((numbers.forward(address), numbers.back(number)), (number, address));
        }
    }

    #[test]
    fn pairs_that_do_not_fit_are_left_out() {
        let prefix = |text: &str| text.parse().unwrap();
        let numbers = Renumbering::new([
            (prefix("10.0.0.0/24"), prefix("10.1.0.0/25")),
            (prefix("10.0.0.0/24"), prefix("fd00::/24")),
        ]);
        assert!(numbers.is_empty());
    }

    #[test]
    fn every_transport_keeps_a_right_checksum() {
        for packet in [
            ipv4(TCP, 0, &[1; 4], &tcp(0x10, &[], &[1, 2, 3])),
            ipv4(UDP, 0, &[], &udp(&[4, 5])),
            ipv4(ICMP, 0, &[], &[8, 0, 0, 0, 0, 7, 0, 1, 9]),
            ipv6(TCP, &tcp(0x10, &[], &[1, 2, 3])),
            ipv6(UDP, &udp(&[4, 5])),
            ipv6(ICMPV6, &[128, 0, 0, 0, 0, 7, 0, 1, 9]),
        ] {
            let before = sealed(packet);
            let after = there(&before, false);
            assert!(is_sound(&after));
            assert_ne!(after, before);
        }
        let partial = half_sealed(ipv4(TCP, 0, &[], &tcp(0x10, &[], &[1])));
        let after = there(&partial, true);
        assert_eq!(half_sealed(after.clone()), after);
    }

    #[test]
    fn an_absent_checksum_stays_absent_and_a_later_fragment_keeps_its_bytes() {
        assert_eq!(checksum_field(&there(&ipv4(UDP, 0, &[], &udp(&[4, 5])), false)), 0);
        let fragment = ipv4(UDP, 0x0010, &[], &[1, 2, 3, 4, 5, 6, 7, 8]);
        let after = there(&fragment, false);
        assert!(Headers::parse(&after).is_ok());
        assert_eq!(after[20..], fragment[20..]);
    }

    #[test]
    fn an_error_tells_of_the_packet_as_its_sender_sent_it() {
        for (v4, quoted) in [
            (true, sealed(ipv4(UDP, 0, &[], &udp(&[4, 5])))),
            (true, sealed(ipv4(TCP, 0, &[], &tcp(0x10, &[], &[1])))),
            (false, sealed(ipv6(UDP, &udp(&[4, 5])))),
        ] {
            let numbers = renumbering();
            let mut packet = error_about(&there(&quoted, false), v4);
            let headers = Headers::parse(&packet).unwrap();
            renumber(&mut packet, &headers, false, |ip| ip, |ip| numbers.back(ip));
            assert!(is_sound(&packet));
            let at = usize::from(headers.transport_at) + 8;
            assert_eq!(packet[at..], quoted);
        }
    }

    proptest! {
        #[test]
        fn there_and_back_is_no_change(
            payload in proptest::collection::vec(any::<u8>(), 0..60), v4 in any::<bool>(), is_tcp in any::<bool>(),
        ) {
            let (protocol, body) = if is_tcp { (TCP, tcp(0x10, &[], &payload)) } else { (UDP, udp(&payload)) };
            let packet = sealed(if v4 { ipv4(protocol, 0, &[], &body) } else { ipv6(protocol, &body) });
            let numbers = renumbering();
            let mut after = there(&packet, false);
            prop_assert!(is_sound(&after));
            let headers = Headers::parse(&after).unwrap();
            renumber(&mut after, &headers, false, |ip| numbers.back(ip), |ip| ip);
            prop_assert!(is_sound(&after));
            prop_assert_eq!(&after[..20], &packet[..20]);
        }

        #[test]
        fn any_bytes_return(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            if let Ok(headers) = Headers::parse(&bytes) {
                let mut bytes = bytes;
                let numbers = renumbering();
                renumber(&mut bytes, &headers, false, |ip| numbers.forward(ip), |ip| numbers.back(ip));
            }
        }
    }
}
