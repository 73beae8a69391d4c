//! Capabilities: what an OPEN announces that a speaker can do (RFC 5492).

use nvgate_model::Asn;

use crate::family::{AfiSafi, Family};

/// One capability of an OPEN.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Capability {
    /// 1: routes of this family (RFC 4760 section 8).
    Multiprotocol(AfiSafi),
    /// 2: ROUTE-REFRESH (RFC 2918 section 2).
    RouteRefresh,
    /// 5: next hops of another family than the routes (RFC 8950 section 4).
    ExtendedNextHop(Vec<ExtendedNextHop>),
    /// 6: messages of 65535 bytes (RFC 8654 section 3).
    ExtendedMessage,
    /// 9: a [`Role`](crate::Role) by its number, assigned or not (RFC 9234 section 4.1).
    Role(u8),
    /// 64: graceful restart (RFC 4724 section 3).
    GracefulRestart(GracefulRestart),
    /// 65: AS numbers of four octets, and the sender's own (RFC 6793 section 3).
    FourOctetAsn(Asn),
    /// 69: path identifiers, by family (RFC 7911 section 4).
    AddPath(Vec<(AfiSafi, AddPathMode)>),
    /// 70: marks of beginning and end of a refresh (RFC 7313 section 3.1).
    EnhancedRouteRefresh,
    /// One that this speaker does not implement.
    Unknown {
        /// The capability code.
        code: u8,
        /// The value as it came.
        value: Box<[u8]>,
    },
}

/// Routes of one family may have next hops of another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ExtendedNextHop {
    /// The AFI of the routes.
    pub afi: u16,
    /// The SAFI of the routes; two octets here.
    pub safi: u16,
    /// The AFI of the next hops.
    pub next_hop_afi: u16,
}

/// How its sender restarts (RFC 4724 section 3, RFC 8538 section 2).
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct GracefulRestart {
    /// R: it has just restarted; do not wait for its End-of-RIB.
    pub restarting: bool,
    /// N: NOTIFICATIONs keep routes too (RFC 8538).
    pub notifications: bool,
    /// How long it may take to come back, 0 to 4095 s.
    pub restart_time_secs: u16,
    /// The families whose routes are to be kept.
    pub families: Vec<RestartFamily>,
}

/// A family of which routes are kept over a restart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RestartFamily {
    /// The family.
    pub afi_safi: AfiSafi,
    /// F: its forwarding went on during the restart.
    pub forwarding_kept: bool,
}

/// What a speaker can do with path identifiers (RFC 7911 section 4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum AddPathMode {
    /// It can receive several paths.
    Receive = 1,
    /// It wants to send several paths.
    Send = 2,
    /// Both.
    Both = 3,
}

impl AddPathMode {
    /// Whether its announcer can receive several paths.
    #[must_use]
    pub const fn receives(self) -> bool {
        matches!(self, Self::Receive | Self::Both)
    }

    /// Whether its announcer wants to send several paths.
    #[must_use]
    pub const fn sends(self) -> bool {
        matches!(self, Self::Send | Self::Both)
    }

    const fn from_wire(value: u8) -> Option<Self> {
        match value {
            1 => Some(Self::Receive),
            2 => Some(Self::Send),
            3 => Some(Self::Both),
            _ => None,
        }
    }
}

impl ExtendedNextHop {
    /// IPv4 unicast routes with IPv6 next hops: the only one that this speaker implements.
    pub const IPV4_VIA_IPV6: Self = Self { afi: 1, safi: 1, next_hop_afi: 2 };
}

impl GracefulRestart {
    /// The greatest restart time, in seconds: what 12 bits hold.
    pub const RESTART_TIME_MAX_SECS: u16 = 0x0FFF;

    const RESTARTING: u8 = 0x80;
    const NOTIFICATIONS: u8 = 0x40;
    const FORWARDING_KEPT: u8 = 0x80;

    fn from_wire(value: &[u8]) -> Option<Self> {
        let (&[high, low], rest) = value.split_first_chunk()?;
        let (families, []) = rest.as_chunks() else { return None };
        Some(Self {
            restarting: high & Self::RESTARTING != 0,
            notifications: high & Self::NOTIFICATIONS != 0,
            restart_time_secs: u16::from_be_bytes([high, low]) & Self::RESTART_TIME_MAX_SECS,
            families: families
                .iter()
                .map(|[afi @ .., safi, flags]: &[u8; 4]| RestartFamily {
                    afi_safi: AfiSafi { afi: u16::from_be_bytes(*afi), safi: *safi },
                    forwarding_kept: flags & Self::FORWARDING_KEPT != 0,
                })
                .collect(),
        })
    }

    fn put(&self, out: &mut Vec<u8>) {
        let [high, low] = self.restart_time_secs.min(Self::RESTART_TIME_MAX_SECS).to_be_bytes();
        let restarting = if self.restarting { Self::RESTARTING } else { 0 };
        let notifications = if self.notifications { Self::NOTIFICATIONS } else { 0 };
        out.extend_from_slice(&[high | restarting | notifications, low]);
        for family in &self.families {
            out.extend_from_slice(&family.afi_safi.afi.to_be_bytes());
            let flags = if family.forwarding_kept { Self::FORWARDING_KEPT } else { 0 };
            out.extend_from_slice(&[family.afi_safi.safi, flags]);
        }
    }
}

impl Capability {
    /// The capability for routes of a family.
    #[must_use]
    pub const fn family(family: Family) -> Self {
        Self::Multiprotocol(family.afi_safi())
    }

    /// The capability code.
    #[must_use]
    pub const fn code(&self) -> u8 {
        match self {
            Self::Multiprotocol(_) => 1,
            Self::RouteRefresh => 2,
            Self::ExtendedNextHop(_) => 5,
            Self::ExtendedMessage => 6,
            Self::Role(_) => 9,
            Self::GracefulRestart(_) => 64,
            Self::FourOctetAsn(_) => 65,
            Self::AddPath(_) => 69,
            Self::EnhancedRouteRefresh => 70,
            Self::Unknown { code, .. } => *code,
        }
    }

    /// The capability with this code and value; none if a known one has a value that it cannot
    /// have.
    pub(super) fn from_wire(code: u8, value: &[u8]) -> Option<Self> {
        let empty = |capability| value.is_empty().then_some(capability);
        match code {
            1 => {
                let [afi @ .., _reserved, safi] = <[u8; 4]>::try_from(value).ok()?;
                Some(Self::Multiprotocol(AfiSafi { afi: u16::from_be_bytes(afi), safi }))
            }
            2 => empty(Self::RouteRefresh),
            5 => extended_next_hops(value).map(Self::ExtendedNextHop),
            6 => empty(Self::ExtendedMessage),
            9 => <[u8; 1]>::try_from(value).ok().map(|[role]| Self::Role(role)),
            64 => GracefulRestart::from_wire(value).map(Self::GracefulRestart),
            65 => {
                let octets = value.try_into().ok()?;
                Some(Self::FourOctetAsn(Asn(u32::from_be_bytes(octets))))
            }
            69 => add_path(value).map(Self::AddPath),
            70 => empty(Self::EnhancedRouteRefresh),
            code => Some(Self::Unknown { code, value: value.into() }),
        }
    }

    /// Appends the value.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Multiprotocol(AfiSafi { afi, safi }) => {
                out.extend_from_slice(&afi.to_be_bytes());
                out.extend_from_slice(&[0, *safi]);
            }
            Self::RouteRefresh | Self::ExtendedMessage | Self::EnhancedRouteRefresh => {}
            Self::ExtendedNextHop(entries) => {
                for entry in entries {
                    for number in [entry.afi, entry.safi, entry.next_hop_afi] {
                        out.extend_from_slice(&number.to_be_bytes());
                    }
                }
            }
            Self::Role(role) => out.push(*role),
            Self::GracefulRestart(restart) => restart.put(out),
            Self::FourOctetAsn(asn) => out.extend_from_slice(&asn.0.to_be_bytes()),
            Self::AddPath(entries) => {
                for (AfiSafi { afi, safi }, mode) in entries {
                    out.extend_from_slice(&afi.to_be_bytes());
                    out.extend_from_slice(&[*safi, *mode as u8]);
                }
            }
            Self::Unknown { value, .. } => out.extend_from_slice(value),
        }
    }
}

fn extended_next_hops(value: &[u8]) -> Option<Vec<ExtendedNextHop>> {
    let (entries, []) = value.as_chunks() else { return None };
    let entry = |&[a, b, c, d, e, f]: &[u8; 6]| ExtendedNextHop {
        afi: u16::from_be_bytes([a, b]),
        safi: u16::from_be_bytes([c, d]),
        next_hop_afi: u16::from_be_bytes([e, f]),
    };
    Some(entries.iter().map(entry).collect())
}

/// Any value but 1 to 3 makes the capability one that is not understood (RFC 7911 section 4).
fn add_path(value: &[u8]) -> Option<Vec<(AfiSafi, AddPathMode)>> {
    let (entries, []) = value.as_chunks() else { return None };
    let entry = |&[high, low, safi, mode]: &[u8; 4]| {
        let afi = u16::from_be_bytes([high, low]);
        Some((AfiSafi { afi, safi }, AddPathMode::from_wire(mode)?))
    };
    entries.iter().map(entry).collect()
}
