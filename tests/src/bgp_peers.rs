//! What tests configure BGP with: sessions with nothing out of the ordinary, changed by who needs it.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;

use nvgate_bgp::config::{
    AddPathSend, AsnRange, FamilyConfig, GracefulRestart, HoldTime, Opening, PeerConfig,
    PrivateAsns, Reach,
};
use nvgate_model::Asn;

/// One end of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct End {
    /// Its address.
    pub address: IpAddr,
    /// Its AS.
    pub asn: u32,
    /// Its BGP identifier.
    pub router_id: Ipv4Addr,
}

/// A family without ADD-PATH and bounds.
pub const PLAIN: FamilyConfig =
    FamilyConfig { add_path_receive: false, add_path_send: AddPathSend::Off, max_prefixes: None };

/// The session of `own` with `other`, both families, opened by the other; nothing is kept when it
/// ends.
///
/// # Panics
///
/// Never.
#[must_use]
pub fn session(own: End, other: End) -> PeerConfig {
    PeerConfig {
        description: "".into(),
        shutdown: None,
        local_address: Some(own.address),
        remote_address: other.address,
        remote_port: PeerConfig::PORT,
        opening: Opening::Passive,
        local_asn: Asn(own.asn),
        local_as: None,
        remote_asns: AsnRange::single(Asn(other.asn)),
        router_id: own.router_id,
        hold_time: HoldTime::new(90).expect("90 s is a hold time"),
        connect_retry_secs: NonZeroU16::MIN,
        families: [Some(PLAIN); 2],
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
        cluster_id: own.router_id,
        import: None,
        export: None,
    }
}
