//! Who may have connections, and what a listener for all of them must be.

use std::net::IpAddr;

use nvgate_model::Prefix;

use crate::endpoint::PeerOptions;

/// A neighbour, or a range that neighbours come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Neighbour {
    /// Its address, or the range.
    pub remote: Prefix,
    /// The address of the host that it speaks with; none: any of the link.
    pub local: Option<IpAddr>,
    /// What holds for its connections.
    pub options: PeerOptions,
    /// Whether BFD watches it.
    pub bfd: bool,
}

/// All neighbours.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Neighbours(Vec<Neighbour>);

impl FromIterator<Neighbour> for Neighbours {
    fn from_iter<T: IntoIterator<Item = Neighbour>>(all: T) -> Self {
        Self(all.into_iter().collect())
    }
}

impl Neighbours {
    /// Whether there are any of this family.
    pub(super) fn any(&self, ipv4: bool) -> bool {
        self.of(ipv4).next().is_some()
    }

    pub(super) fn of(&self, ipv4: bool) -> impl Iterator<Item = &Neighbour> {
        self.0.iter().filter(move |one| one.remote.is_ipv4() == ipv4)
    }

    /// Who speaks from `remote` with `local`: an address of its own goes before a range.
    pub(super) fn find(&self, local: IpAddr, remote: IpAddr) -> Option<&Neighbour> {
        self.towards(Some(local), remote)
    }

    /// Who is at `remote` for a connection from `local`, or from whichever address the kernel has.
    pub(super) fn towards(&self, local: Option<IpAddr>, remote: IpAddr) -> Option<&Neighbour> {
        let fits = |one: &&Neighbour| {
            one.remote.contains(remote) && (one.local.is_none() || one.local == local)
        };
        self.0.iter().filter(fits).max_by_key(|one| one.remote.length())
    }

    /// Whether BFD watches any of this family.
    pub(super) fn any_bfd(&self, ipv4: bool) -> bool {
        self.of(ipv4).any(|one| one.bfd)
    }

    /// The TTL that answers every neighbour of a family: what the farthest one needs.
    pub(super) fn ttl(&self, ipv4: bool) -> u8 {
        self.of(ipv4).map(|one| one.options.ttl).max().unwrap_or(u8::MAX)
    }

    /// The least TTL that any neighbour of a family may have.
    pub(super) fn least_ttl(&self, ipv4: bool) -> u8 {
        self.of(ipv4).map(|one| one.options.minimum_ttl).min().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn neighbour(remote: &str, local: Option<&str>, (ttl, minimum_ttl): (u8, u8)) -> Neighbour {
        Neighbour {
            remote: remote.parse().unwrap(),
            local: local.map(|local| local.parse().unwrap()),
            options: PeerOptions { ttl, minimum_ttl, key: None },
            bfd: false,
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_neighbour_is_known_by_its_address_before_its_range_and_by_ours() {
        let all: Neighbours = [
            neighbour("198.51.100.0/24", None, (1, 0)),
            neighbour("198.51.100.9/32", Some("198.51.100.1"), (255, 254)),
        ]
        .into_iter()
        .collect();
        let ttl = |local, remote| all.find(ip(local), ip(remote)).map(|found| found.options.ttl);
        assert_eq!(ttl("198.51.100.1", "198.51.100.9"), Some(255));
        assert_eq!(ttl("198.51.100.2", "198.51.100.9"), Some(1));
        assert_eq!(ttl("198.51.100.1", "198.51.100.8"), Some(1));
        assert_eq!(ttl("198.51.100.1", "192.0.2.1"), None);
    }

    #[test]
    fn a_listener_suits_the_nearest_and_the_farthest_of_its_family() {
        let all: Neighbours = [
            ("198.51.100.8/32", (1, 0)),
            ("198.51.100.9/32", (255, 255)),
            ("fd00::1/128", (64, 0)),
        ]
        .into_iter()
        .map(|(remote, ttls)| neighbour(remote, None, ttls))
        .collect();
        assert_eq!((all.ttl(true), all.least_ttl(true)), (255, 0));
        assert_eq!((all.ttl(false), all.any(false)), (64, true));
        let secured: Neighbours =
            [neighbour("198.51.100.9/32", None, (255, 254))].into_iter().collect();
        assert_eq!((secured.least_ttl(true), secured.any(false)), (254, false));
    }
}
