//! Our OPEN, the judgement of the peer's, and what both agree on.

use std::net::Ipv4Addr;

use nvgate_model::Asn;

use super::Endpoints;
use crate::as_path::AsnWidth;
use crate::config::{AsnRange, GracefulRestart, HoldTime, PeerConfig};
use crate::family::Family;
use crate::neighbor_kind::NeighborKind;
use crate::notification::{Notification, NotificationReason};
use crate::reaction::SessionReset;
use crate::role::Role;
use crate::wire::{self, AddPathMode, Capability, Codec, ExtendedNextHop, Open, RestartFamily};

/// What an established session agreed on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Negotiated {
    /// What changes bytes.
    pub codec: Codec,
    /// The peer's AS.
    pub remote_asn: Asn,
    /// The peer's BGP identifier.
    pub remote_identifier: Ipv4Addr,
    /// The lesser of both proposals (RFC 4271 section 4.2).
    pub hold_time: HoldTime,
    /// Whether the peer takes ROUTE-REFRESH (RFC 2918).
    pub route_refresh: bool,
    /// Whether both mark beginning and end of a refresh (RFC 7313).
    pub enhanced_refresh: bool,
    /// How the peer restarts, if both take part in graceful restart.
    pub restart: Option<PeerRestart>,
    /// The role that the peer told (RFC 9234).
    pub remote_role: Option<Role>,
    /// Capabilities of the peer's OPEN that were ignored as impossible or too many.
    pub ignored_capabilities: u16,
    /// The two ends of the connection.
    pub endpoints: Endpoints,
    /// Our OPEN with its header, for monitoring (RFC 7854 section 4.10).
    pub local_open: Box<[u8]>,
    /// The peer's OPEN with its header.
    pub remote_open: Box<[u8]>,
}

/// How a peer restarts (RFC 4724 section 3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PeerRestart {
    /// It has just restarted and waits for nobody's End-of-RIB but ours.
    pub restarting: bool,
    /// How long it may take to come back, 0 to 4095 s.
    pub restart_time_secs: u16,
    /// Whether both ends keep routes over NOTIFICATIONs (RFC 8538).
    pub notifications: bool,
    /// By [`Family::index`], for families whose routes are to be kept: whether the peer's
    /// forwarding of them went on.
    pub forwarding_kept: [Option<bool>; 2],
}

/// Whether this speaker has restarted and not yet all routes back: what the R and F bits of an OPEN
/// say (RFC 4724 section 4.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Restarting {
    /// R: the speaker waits for the End-of-RIB of its peers.
    pub waiting: bool,
    /// F: forwarding by the routes of the peer's last session goes on, by [`Family::index`].
    pub forwarding_kept: [bool; 2],
}

/// The OPEN that we send.
pub(super) fn local_open(config: &PeerConfig, restarting: Restarting) -> Open {
    let asn = config.shown_asn();
    let families = Family::ALL.into_iter().filter(|family| config.family(*family).is_some());
    let mut capabilities: Vec<Capability> = families.clone().map(Capability::family).collect();
    capabilities.extend([
        Capability::RouteRefresh,
        Capability::EnhancedRouteRefresh,
        Capability::FourOctetAsn(asn),
    ]);
    if config.ipv6_next_hop && config.family(Family::Ipv4Unicast).is_some() {
        capabilities.push(Capability::ExtendedNextHop(vec![ExtendedNextHop::IPV4_VIA_IPV6]));
    }
    if config.extended_messages {
        capabilities.push(Capability::ExtendedMessage);
    }
    if let Some(role) = config.role
        && config.remote_asns != AsnRange::single(asn)
    {
        capabilities.push(Capability::Role(role.to_wire()));
    }
    let add_path: Vec<_> = families
        .filter_map(|family| Some((family.afi_safi(), add_path(config, family)?)))
        .collect();
    if !add_path.is_empty() {
        capabilities.push(Capability::AddPath(add_path));
    }
    capabilities.extend(local_restart(config, restarting).map(Capability::GracefulRestart));
    Open {
        asn,
        hold_time_secs: config.hold_time.seconds(),
        identifier: config.router_id,
        capabilities,
        ignored_capabilities: 0,
    }
}

fn add_path(config: &PeerConfig, family: Family) -> Option<AddPathMode> {
    let family = config.family(family)?;
    match (family.add_path_receive, family.add_path_send.is_on()) {
        (false, false) => None,
        (true, false) => Some(AddPathMode::Receive),
        (false, true) => Some(AddPathMode::Send),
        (true, true) => Some(AddPathMode::Both),
    }
}

fn local_restart(config: &PeerConfig, restarting: Restarting) -> Option<wire::GracefulRestart> {
    let notifications = config.graceful_restart.notifications();
    match config.graceful_restart {
        GracefulRestart::Off => None,
        // Without families it says that End-of-RIB is sent and that restarts are borne.
        GracefulRestart::Helper { .. } => {
            Some(wire::GracefulRestart { notifications, ..Default::default() })
        }
        GracefulRestart::Full { restart_time, .. } => Some(wire::GracefulRestart {
            restarting: restarting.waiting,
            notifications,
            restart_time_secs: restart_time.seconds(),
            families: Family::ALL
                .into_iter()
                .filter(|family| config.family(*family).is_some())
                .map(|family| RestartFamily {
                    afi_safi: family.afi_safi(),
                    forwarding_kept: restarting.forwarding_kept[family.index()],
                })
                .collect(),
        }),
    }
}

/// What follows from both OPENs: `local` and `remote`, each with its bytes.
///
/// # Errors
///
/// The peer is not who is configured, has an impossible identifier, or nothing in common with us
/// (RFC 4271 section 6.2, RFC 5492 section 5, RFC 9234 section 4.2).
pub(super) fn negotiate(
    config: &PeerConfig,
    endpoints: Endpoints,
    local: (&Open, &[u8]),
    remote: (&Open, &[u8]),
) -> Result<Negotiated, SessionReset> {
    let ((local, local_bytes), (remote, remote_bytes)) = (local, remote);
    if !config.remote_asns.contains(remote.asn) {
        return refuse(NotificationReason::BadPeerAs, &[]);
    }
    let neighbor = kind(local, remote);
    if neighbor == NeighborKind::Internal && remote.identifier == local.identifier {
        return refuse(NotificationReason::BadIdentifier, &[]);
    }
    let Ok(proposed) = HoldTime::new(remote.hold_time_secs) else {
        return refuse(NotificationReason::UnacceptableHoldTime, &[]);
    };
    let codec = codec(config, local, remote, neighbor);
    if codec.families == [false; 2] {
        return refuse(NotificationReason::UnsupportedCapability, &wanted_families(config));
    }
    let remote_role = judge_role(config, remote, neighbor)?;
    let both = |capability| local.announces(&capability) && remote.announces(&capability);
    Ok(Negotiated {
        codec,
        remote_asn: remote.asn,
        remote_identifier: remote.identifier,
        hold_time: config.hold_time.min(proposed),
        route_refresh: both(Capability::RouteRefresh),
        enhanced_refresh: both(Capability::EnhancedRouteRefresh),
        restart: peer_restart(local, remote, codec.families),
        remote_role,
        ignored_capabilities: remote.ignored_capabilities,
        endpoints,
        local_open: local_bytes.into(),
        remote_open: remote_bytes.into(),
    })
}

fn refuse<T>(reason: NotificationReason, data: &[u8]) -> Result<T, SessionReset> {
    Err(SessionReset { notification: Notification::new(reason, data) })
}

fn kind(local: &Open, remote: &Open) -> NeighborKind {
    if local.asn == remote.asn { NeighborKind::Internal } else { NeighborKind::External }
}

fn codec(config: &PeerConfig, local: &Open, remote: &Open, neighbor: NeighborKind) -> Codec {
    let (ours, theirs) = (local.families(), remote.families());
    let families = [ours[0] && theirs[0], ours[1] && theirs[1]];
    let paths = |receiver: &Open, sender: &Open| {
        Family::ALL.map(|family| {
            families[family.index()]
                && receiver.add_path(family).is_some_and(AddPathMode::receives)
                && sender.add_path(family).is_some_and(AddPathMode::sends)
        })
    };
    let four = local.has_four_octet_asn() && remote.has_four_octet_asn();
    Codec {
        asn_width: if four { AsnWidth::Four } else { AsnWidth::Two },
        max_message: local.longest_message().min(remote.longest_message()),
        add_path_in: paths(local, remote),
        add_path_out: paths(remote, local),
        families,
        ipv6_next_hop: local.has_ipv6_next_hop() && remote.has_ipv6_next_hop(),
        neighbor,
        accept_as_set: config.accept_as_set,
    }
}

/// The capabilities that the peer lacks, as the NOTIFICATION's data has them (RFC 5492 section 5).
fn wanted_families(config: &PeerConfig) -> Vec<u8> {
    let families = Family::ALL.into_iter().filter(|family| config.family(*family).is_some());
    families
        .flat_map(|family| {
            let afi_safi = family.afi_safi();
            let [high, low] = afi_safi.afi.to_be_bytes();
            [Capability::family(family).code(), 4, high, low, 0, afi_safi.safi]
        })
        .collect()
}

/// The peer's role, which must be the counterpart of ours (RFC 9234 section 4.2).
fn judge_role(
    config: &PeerConfig,
    remote: &Open,
    neighbor: NeighborKind,
) -> Result<Option<Role>, SessionReset> {
    if neighbor == NeighborKind::Internal {
        return Ok(None);
    }
    let told = remote.role()?;
    let remote_role = told.and_then(Role::from_wire);
    match (config.role, told) {
        (None, _) => Ok(remote_role),
        (Some(_), None) if !config.role_strict => Ok(None),
        (Some(role), Some(_)) if remote_role == Some(role.counterpart()) => Ok(remote_role),
        (Some(_), _) => refuse(NotificationReason::RoleMismatch, &[]),
    }
}

fn peer_restart(local: &Open, remote: &Open, families: [bool; 2]) -> Option<PeerRestart> {
    let (ours, theirs) = (local.graceful_restart()?, remote.graceful_restart()?);
    let kept = |family: Family| {
        let listed = theirs.families.iter().find(|listed| listed.afi_safi == family.afi_safi());
        listed.filter(|_| families[family.index()]).map(|listed| listed.forwarding_kept)
    };
    Some(PeerRestart {
        restarting: theirs.restarting,
        restart_time_secs: theirs.restart_time_secs,
        notifications: ours.notifications && theirs.notifications,
        forwarding_kept: Family::ALL.map(kept),
    })
}

#[cfg(test)]
mod tests;
