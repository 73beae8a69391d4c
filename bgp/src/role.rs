//! Roles of the two ends of an eBGP session, and the ONLY_TO_CUSTOMER attribute (RFC 9234).

use std::fmt;
use std::str::FromStr;

use nvgate_model::Asn;

/// What the speaker that announces it is to the other (RFC 9234 section 4.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Role {
    /// Sells transit to the other.
    Provider = 0,
    /// A route server.
    RouteServer = 1,
    /// A client of the other, which is a route server.
    RouteServerClient = 2,
    /// Buys transit from the other.
    Customer = 3,
    /// Exchanges its own and its customers' routes.
    Peer = 4,
}

/// A text that names no role.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is none of provider, route-server, route-server-client, customer and peer")]
pub struct InvalidRole(pub String);

/// A route that goes where its ONLY_TO_CUSTOMER attribute forbids: received, it is kept but not
/// eligible; it is not sent (RFC 9234 section 5).
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("only-to-customer by AS {0} forbids this way")]
pub struct RouteLeak(pub Asn);

impl Role {
    const ALL: [Self; 5] =
        [Self::Provider, Self::RouteServer, Self::RouteServerClient, Self::Customer, Self::Peer];

    /// The role with this number in the capability; there are five.
    #[must_use]
    pub fn from_wire(value: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.to_wire() == value)
    }

    /// The number in the capability.
    #[must_use]
    pub const fn to_wire(self) -> u8 {
        self as u8
    }

    /// The only role that the other end may have; any other is a Role Mismatch (section 4.2).
    #[must_use]
    pub const fn counterpart(self) -> Self {
        match self {
            Self::Provider => Self::Customer,
            Self::RouteServer => Self::RouteServerClient,
            Self::RouteServerClient => Self::RouteServer,
            Self::Customer => Self::Provider,
            Self::Peer => Self::Peer,
        }
    }

    /// The ONLY_TO_CUSTOMER that a route received from AS `remote` has from now on, where `self` is
    /// our own role and `received` what the route came with (section 5, ingress).
    ///
    /// # Errors
    ///
    /// The route is a leak: it came from a customer or route server client with the attribute, or
    /// from a peer with another AS in it.
    pub fn inbound_otc(self, received: Option<Asn>, remote: Asn) -> Result<Option<Asn>, RouteLeak> {
        match (self, received) {
            (Self::Provider | Self::RouteServer, Some(otc)) => Err(RouteLeak(otc)),
            (Self::Provider | Self::RouteServer, None) => Ok(None),
            (Self::Peer, Some(otc)) if otc != remote => Err(RouteLeak(otc)),
            (Self::Peer | Self::Customer | Self::RouteServerClient, otc) => {
                Ok(Some(otc.unwrap_or(remote)))
            }
        }
    }

    /// The ONLY_TO_CUSTOMER that a route is sent with, where `self` is our own role, `held` what
    /// the route has and `local` our AS (section 5, egress).
    ///
    /// # Errors
    ///
    /// The route has the attribute and the other end is a provider, a peer or a route server: it
    /// must not be sent.
    pub fn outbound_otc(self, held: Option<Asn>, local: Asn) -> Result<Option<Asn>, RouteLeak> {
        match (self, held) {
            (Self::Customer | Self::Peer | Self::RouteServerClient, Some(otc)) => {
                Err(RouteLeak(otc))
            }
            (Self::Customer | Self::RouteServerClient, None) => Ok(None),
            (Self::Provider | Self::RouteServer | Self::Peer, otc) => {
                Ok(Some(otc.unwrap_or(local)))
            }
        }
    }

    /// The name in configuration and status.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::RouteServer => "route-server",
            Self::RouteServerClient => "route-server-client",
            Self::Customer => "customer",
            Self::Peer => "peer",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = InvalidRole;

    fn from_str(text: &str) -> Result<Self, InvalidRole> {
        Self::ALL
            .into_iter()
            .find(|role| role.name() == text)
            .ok_or_else(|| InvalidRole(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: Asn = Asn(64_496);
    const REMOTE: Asn = Asn(64_497);
    const OTHER: Asn = Asn(64_498);

    #[test]
    fn roles_go_in_pairs() {
        for role in Role::ALL {
            assert_eq!(role.counterpart().counterpart(), role);
            assert_eq!(Role::from_wire(role.to_wire()), Some(role));
            assert_eq!(role.to_string().parse(), Ok(role));
        }
        assert_eq!(Role::from_wire(5), None);
    }

    #[test]
    fn received_routes_are_marked_or_found_to_be_leaks() {
        for (role, received, expected) in [
            (Role::Provider, None, Ok(None)),
            (Role::Provider, Some(REMOTE), Err(RouteLeak(REMOTE))),
            (Role::RouteServer, Some(OTHER), Err(RouteLeak(OTHER))),
            (Role::Peer, None, Ok(Some(REMOTE))),
            (Role::Peer, Some(REMOTE), Ok(Some(REMOTE))),
            (Role::Peer, Some(OTHER), Err(RouteLeak(OTHER))),
            (Role::Customer, None, Ok(Some(REMOTE))),
            (Role::Customer, Some(OTHER), Ok(Some(OTHER))),
            (Role::RouteServerClient, None, Ok(Some(REMOTE))),
        ] {
            assert_eq!(role.inbound_otc(received, REMOTE), expected, "{role} {received:?}");
        }
    }

    #[test]
    fn marked_routes_go_down_only_and_going_down_or_across_marks() {
        for (role, held, expected) in [
            (Role::Provider, None, Ok(Some(LOCAL))),
            (Role::Provider, Some(OTHER), Ok(Some(OTHER))),
            (Role::RouteServer, None, Ok(Some(LOCAL))),
            (Role::Peer, None, Ok(Some(LOCAL))),
            (Role::Peer, Some(OTHER), Err(RouteLeak(OTHER))),
            (Role::Customer, None, Ok(None)),
            (Role::Customer, Some(OTHER), Err(RouteLeak(OTHER))),
            (Role::RouteServerClient, Some(OTHER), Err(RouteLeak(OTHER))),
        ] {
            assert_eq!(role.outbound_otc(held, LOCAL), expected, "{role} {held:?}");
        }
    }
}
