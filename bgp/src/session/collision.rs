//! Which of two connections to one peer stays (RFC 4271 section 6.8, RFC 6286 section 2.3).

use std::net::Ipv4Addr;

use nvgate_model::Asn;

use super::Direction;

/// What decides for one end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Rank {
    pub identifier: Ipv4Addr,
    pub asn: Asn,
}

/// The connection that stays is the one that the end with the greater identifier opened; with equal
/// identifiers, the one in the greater AS. Both ends come to the same connection.
pub(super) fn survivor(local: Rank, remote: Rank) -> Direction {
    if (local.identifier, local.asn) > (remote.identifier, remote.asn) {
        Direction::Outgoing
    } else {
        Direction::Incoming
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_keep_the_same_connection() {
        let rank = |last, asn| Rank { identifier: Ipv4Addr::new(10, 0, 0, last), asn: Asn(asn) };
        for (one, other) in
            [(rank(9, 1), rank(10, 1)), (rank(200, 1), rank(9, 2)), (rank(9, 1), rank(9, 2))]
        {
            assert_ne!(survivor(one, other), survivor(other, one));
        }
        assert_eq!(survivor(rank(10, 1), rank(9, 2)), Direction::Outgoing);
        assert_eq!(survivor(rank(9, 2), rank(9, 1)), Direction::Outgoing);
        // As unsigned numbers, not as text or signed.
        let high = Rank { identifier: Ipv4Addr::new(200, 0, 0, 1), asn: Asn(1) };
        assert_eq!(survivor(high, rank(9, 1)), Direction::Outgoing);
    }
}
