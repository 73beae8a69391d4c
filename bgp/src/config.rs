//! What is configured of one peer: a plain value that `deploy` proves before it exists, shared by
//! its session, its table and the endpoint. A reload compares two of them by [`crate::impact::of`].

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use nvgate_model::Asn;

use crate::family::Family;
use crate::role::Role;

/// Everything configured of one peer. For a dynamic neighbour it is its range's, with the address
/// it came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerConfig {
    /// A text for humans.
    pub description: Box<str>,
    /// Administratively down, with the text that the peer is told (RFC 9003); empty tells nothing.
    pub shutdown: Option<ShutdownText>,
    /// The address to connect from; none leaves it to the endpoint.
    pub local_address: Option<IpAddr>,
    /// The peer's address.
    pub remote_address: IpAddr,
    /// The peer's TCP port, to connect to.
    pub remote_port: u16,
    /// Who opens connections.
    pub opening: Opening,
    /// Our AS.
    pub local_asn: Asn,
    /// The AS that this peer is shown instead of ours.
    pub local_as: Option<LocalAs>,
    /// The ASes that the peer may be of: one, or the range of a dynamic neighbour.
    pub remote_asns: AsnRange,
    /// Our BGP identifier, not zero (RFC 6286 section 2.1).
    pub router_id: Ipv4Addr,
    /// The hold time that we propose.
    pub hold_time: HoldTime,
    /// How long a connection is attempted or awaited before the next attempt, at least 1 s.
    pub connect_retry_secs: u16,
    /// What is configured of each family, by [`Family::index`]; none: not spoken with this peer.
    pub families: [Option<FamilyConfig>; 2],
    /// IPv4 routes with IPv6 next hops (RFC 8950).
    pub ipv6_next_hop: bool,
    /// Messages of up to 65535 bytes (RFC 8654).
    pub extended_messages: bool,
    /// Paths with an AS_SET are taken, which RFC 9774 section 3 forbids.
    pub accept_as_set: bool,
    /// Our role towards this peer (RFC 9234).
    pub role: Option<Role>,
    /// Whether a peer that tells no role is refused (RFC 9234 section 4.2).
    pub role_strict: bool,
    /// What survives the end of a session (RFC 4724).
    pub graceful_restart: GracefulRestart,
    /// Which packets the endpoint takes and sends.
    pub reach: Reach,
    /// The key of TCP-MD5 signatures (RFC 2385).
    pub md5_key: Option<Md5Key>,
    /// Whether BFD watches the peer (RFC 5882).
    pub bfd: bool,
    /// How often our own AS may stand in a path that the peer sends (allowas-in).
    pub own_as_allowed: u8,
    /// The peer's AS in a path is replaced by ours when sent to it (as-override).
    pub as_override: bool,
    /// What becomes of private AS numbers in paths sent to the peer.
    pub private_asns: PrivateAsns,
    /// The peer is sent our own address as next hop.
    pub next_hop_self: bool,
    /// The peer is a client of this route reflector (RFC 4456).
    pub reflector_client: bool,
    /// The cluster of which this is a reflector; usually the router identifier.
    pub cluster_id: Ipv4Addr,
    /// The rules for what the peer sends; none is the default of RFC 8212 or of the tenant.
    pub import: Option<PolicyReference>,
    /// The rules for what the peer is sent.
    pub export: Option<PolicyReference>,
}

/// Who opens the TCP connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Opening {
    /// Both ends.
    Active,
    /// Only the peer.
    Passive,
    /// Only the peer, and the session is forgotten with its connection.
    Dynamic,
}

/// An AS number shown to a peer instead of ours.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LocalAs {
    /// The number in OPEN and in front of paths.
    pub asn: Asn,
    /// It is not put in front of paths that the peer sends (no-prepend).
    pub no_prepend: bool,
    /// Our own AS is left out of paths sent to the peer (replace-as).
    pub replace_as: bool,
}

/// AS numbers from a first to a last, at least one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct AsnRange {
    first: Asn,
    last: Asn,
}

/// A range that ends before it begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("AS numbers from {first} to {last} are none")]
pub struct EmptyAsnRange {
    /// Where it would begin.
    pub first: Asn,
    /// Where it would end.
    pub last: Asn,
}

/// A hold time in seconds: 0 for none, or at least 3 (RFC 4271 section 4.2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HoldTime(u16);

/// A hold time that nobody may propose.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("hold time {0} s is neither 0 nor at least 3")]
pub struct InvalidHoldTime(pub u16);

/// What is configured of one family.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FamilyConfig {
    /// Several paths of a prefix are taken (RFC 7911).
    pub add_path_receive: bool,
    /// Whether several paths of a prefix are sent.
    pub add_path_send: AddPathSend,
    /// How many prefixes the peer may announce; none leaves it to the tenant's bound.
    pub max_prefixes: Option<MaxPrefixes>,
}

/// Which paths of a prefix are sent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AddPathSend {
    /// The best one, without path identifiers.
    Off,
    /// Every eligible one.
    All,
    /// So many of the best, at least 1.
    Best(u8),
}

/// The bound on a peer's prefixes of one family.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct MaxPrefixes {
    /// The most prefixes, at least 1.
    pub prefixes: u32,
    /// The part of them at which a warning is due, 1 to 100.
    pub warning_percent: u8,
    /// After how many seconds a session that ended for this is tried again; none: by hand only.
    pub restart_secs: Option<u32>,
}

/// Our part in graceful restart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum GracefulRestart {
    /// The capability is not announced: every end of a session takes the routes.
    Off,
    /// The peer's routes are kept while it restarts; ours are not.
    Helper {
        /// Whether NOTIFICATIONs keep routes too (RFC 8538).
        notifications: bool,
    },
    /// Both ends keep routes.
    Full {
        /// How long we take to come back.
        restart_time: RestartTime,
        /// Whether NOTIFICATIONs keep routes too (RFC 8538).
        notifications: bool,
    },
}

/// A restart time in seconds, 0 to 4095: there are twelve bits for it (RFC 4724 section 3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RestartTime(u16);

/// A restart time that the capability cannot hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("restart time {0} s is more than 4095")]
pub struct InvalidRestartTime(pub u16);

/// How far away the peer is: what the endpoint makes of TTLs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Reach {
    /// On a connected network; an external peer's packets are sent with TTL 1.
    Connected,
    /// So many hops away at most.
    Multihop(u8),
    /// Sent with TTL 255, and taken only from so many hops away at most (GTSM, RFC 5082).
    Security(u8),
}

/// A key of TCP-MD5 signatures, 1 to 80 bytes. It shows itself nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Md5Key(Box<[u8]>);

/// A key with an impossible length.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a TCP-MD5 key of {0} bytes is none of 1 to 80")]
pub struct InvalidMd5Key(pub usize);

/// A text for the peer's humans, 0 to 255 bytes (RFC 9003 section 2).
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct ShutdownText(Box<str>);

/// What becomes of private AS numbers in paths sent to an external peer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PrivateAsns {
    /// They stay.
    Keep,
    /// They go if the path has no other.
    RemoveIfAll,
    /// They go.
    Remove,
    /// Ours takes their places.
    Replace,
}

/// Rules by name, and what they say: a change of either is a change of policy.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PolicyReference {
    /// The name in configuration.
    pub name: Box<str>,
    /// A digest of all that the rules consist of, lists they refer to included.
    pub digest: u64,
}

impl PeerConfig {
    /// BGP's TCP port.
    pub const PORT: u16 = 179;

    /// The AS that the peer is shown.
    #[must_use]
    pub fn shown_asn(&self) -> Asn {
        self.local_as.map_or(self.local_asn, |local| local.asn)
    }

    /// What is configured of the family.
    #[must_use]
    pub fn family(&self, family: Family) -> Option<&FamilyConfig> {
        self.families[family.index()].as_ref()
    }
}

impl AddPathSend {
    /// Whether paths are sent with identifiers.
    #[must_use]
    pub const fn is_on(self) -> bool {
        match self {
            Self::Off => false,
            Self::All | Self::Best(_) => true,
        }
    }
}

impl AsnRange {
    /// The numbers from `first` to `last`.
    ///
    /// # Errors
    ///
    /// `last` is less than `first`.
    pub const fn new(first: Asn, last: Asn) -> Result<Self, EmptyAsnRange> {
        if first.0 <= last.0 {
            Ok(Self { first, last })
        } else {
            Err(EmptyAsnRange { first, last })
        }
    }

    /// This number only.
    #[must_use]
    pub const fn single(asn: Asn) -> Self {
        Self { first: asn, last: asn }
    }

    /// Whether the number is one of them.
    #[must_use]
    pub fn contains(&self, asn: Asn) -> bool {
        (self.first..=self.last).contains(&asn)
    }
}

impl HoldTime {
    /// None: neither end sends KEEPALIVEs nor expects any (RFC 4271 section 4.4).
    pub const NONE: Self = Self(0);

    /// So many seconds.
    ///
    /// # Errors
    ///
    /// 1 or 2 seconds.
    pub const fn new(seconds: u16) -> Result<Self, InvalidHoldTime> {
        if matches!(seconds, 1 | 2) { Err(InvalidHoldTime(seconds)) } else { Ok(Self(seconds)) }
    }

    /// The seconds.
    #[must_use]
    pub const fn seconds(self) -> u16 {
        self.0
    }

    /// The time, none if there is no hold timer.
    #[must_use]
    pub fn duration(self) -> Option<Duration> {
        (self != Self::NONE).then(|| Duration::from_secs(self.0.into()))
    }

    /// The time between KEEPALIVEs: a third (RFC 4271 section 4.4).
    #[must_use]
    pub fn keepalive(self) -> Option<Duration> {
        self.duration().map(|hold| hold / 3)
    }
}

impl GracefulRestart {
    /// Whether NOTIFICATIONs keep routes as far as we are concerned (RFC 8538 section 2).
    #[must_use]
    pub const fn notifications(self) -> bool {
        match self {
            Self::Off => false,
            Self::Helper { notifications } | Self::Full { notifications, .. } => notifications,
        }
    }
}

impl RestartTime {
    /// So many seconds.
    ///
    /// # Errors
    ///
    /// More than 4095.
    pub const fn new(seconds: u16) -> Result<Self, InvalidRestartTime> {
        if seconds < 1 << 12 { Ok(Self(seconds)) } else { Err(InvalidRestartTime(seconds)) }
    }

    /// The seconds.
    #[must_use]
    pub const fn seconds(self) -> u16 {
        self.0
    }
}

impl Md5Key {
    /// The longest key that Linux takes.
    pub const BYTES_MAX: usize = 80;

    /// The key with these bytes.
    ///
    /// # Errors
    ///
    /// There are none, or more than 80.
    pub fn new(bytes: &[u8]) -> Result<Self, InvalidMd5Key> {
        match bytes.len() {
            1..=Self::BYTES_MAX => Ok(Self(bytes.into())),
            length => Err(InvalidMd5Key(length)),
        }
    }

    /// The bytes, for the endpoint.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Md5Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Md5Key(..)")
    }
}

impl ShutdownText {
    /// The text.
    ///
    /// # Errors
    ///
    /// It has more than 255 bytes.
    pub fn new(text: &str) -> Result<Self, crate::InvalidShutdownText> {
        match text.len() {
            0..=255 => Ok(Self(text.into())),
            length => Err(crate::InvalidShutdownText(length)),
        }
    }

    /// The text as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An external peer of AS 64497 without any extras.
    pub(crate) fn peer_config() -> PeerConfig {
        let family = FamilyConfig {
            add_path_receive: false,
            add_path_send: AddPathSend::Off,
            max_prefixes: None,
        };
        PeerConfig {
            description: "".into(),
            shutdown: None,
            local_address: None,
            remote_address: "192.0.2.2".parse().unwrap(),
            remote_port: PeerConfig::PORT,
            opening: Opening::Active,
            local_asn: Asn(64_496),
            local_as: None,
            remote_asns: AsnRange::single(Asn(64_497)),
            router_id: Ipv4Addr::new(192, 0, 2, 1),
            hold_time: HoldTime::new(90).unwrap(),
            connect_retry_secs: 30,
            families: [Some(family), Some(family)],
            ipv6_next_hop: false,
            extended_messages: false,
            accept_as_set: false,
            role: None,
            role_strict: false,
            graceful_restart: GracefulRestart::Off,
            reach: Reach::Connected,
            md5_key: None,
            bfd: false,
            own_as_allowed: 0,
            as_override: false,
            private_asns: PrivateAsns::Keep,
            next_hop_self: false,
            reflector_client: false,
            cluster_id: Ipv4Addr::new(192, 0, 2, 1),
            import: None,
            export: None,
        }
    }

    #[test]
    fn hold_times_of_one_and_two_seconds_have_no_value() {
        for seconds in [1, 2] {
            assert_eq!(HoldTime::new(seconds), Err(InvalidHoldTime(seconds)));
        }
        let text = InvalidHoldTime(2).to_string();
        assert_eq!(text, "hold time 2 s is neither 0 nor at least 3");
        assert_eq!(HoldTime::new(0), Ok(HoldTime::NONE));
        assert_eq!((HoldTime::NONE.duration(), HoldTime::NONE.keepalive()), (None, None));
        assert_eq!(HoldTime::new(90).unwrap().keepalive(), Some(Duration::from_secs(30)));
    }

    #[test]
    fn a_range_of_as_numbers_has_at_least_one() {
        let (first, last) = (Asn(64_512), Asn(65_534));
        assert_eq!(AsnRange::new(last, first), Err(EmptyAsnRange { first: last, last: first }));
        let range = AsnRange::new(first, last).unwrap();
        assert!(range.contains(first) && range.contains(last) && !range.contains(Asn(64_511)));
        assert!(!AsnRange::single(first).contains(last));
    }

    #[test]
    fn a_restart_time_has_twelve_bits() {
        assert_eq!(RestartTime::new(4095).map(RestartTime::seconds), Ok(4095));
        assert_eq!(RestartTime::new(4096), Err(InvalidRestartTime(4096)));
    }

    #[test]
    fn a_key_is_never_shown() {
        let mut config = peer_config();
        config.md5_key = Some(Md5Key::new(b"correct horse").unwrap());
        assert!(!format!("{config:?}").contains("horse"));
        assert_eq!(Md5Key::new(b""), Err(InvalidMd5Key(0)));
        assert_eq!(Md5Key::new(&[7; 81]), Err(InvalidMd5Key(81)));
    }

    #[test]
    fn a_shutdown_text_fits_its_length_octet() {
        assert!(ShutdownText::new(&"x".repeat(255)).is_ok());
        assert_eq!(ShutdownText::new(&"x".repeat(256)), Err(crate::InvalidShutdownText(256)));
    }

    #[test]
    fn the_peer_is_shown_the_local_as() {
        let mut config = peer_config();
        assert_eq!(config.shown_asn(), Asn(64_496));
        let asn = Asn(64_500);
        config.local_as = Some(LocalAs { asn, no_prepend: false, replace_as: true });
        assert_eq!(config.shown_asn(), asn);
    }
}
