//! The way of a tunnel's packets over the front end: next hop and MTU towards its endpoint.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::SocketAddr;
use std::time::Duration;

use nvgate_model::{DropReason, Generation, Instant, MacAddress};
use nvgate_packet::headers::Family;
use nvgate_vpn::inner_mtu;

use crate::snapshot::{HopIndex, Path, Snapshot};

/// The least MTU that a router's report may set: what every IPv4 or IPv6 path carries (RFC 791,
/// RFC 8200 section 5).
const LEAST_MTU: [u16; 2] = [576, 1280];
/// How long a report holds (RFC 8201 section 4, RFC 1191 section 6.3).
const REPORT_HOLDS: Duration = Duration::from_secs(600);

/// What is known of the way to one endpoint.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OuterPath {
    known: Option<Known>,
    /// An MTU that a router on the way reported, and until when it is believed.
    reported: Option<(u16, Instant)>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    endpoint: SocketAddr,
    epoch: Generation,
    hop: HopIndex,
    mtu: u16,
}

/// Why a packet cannot leave now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NoWay {
    /// There is none.
    Drop(DropReason),
    /// This neighbour has to be resolved first.
    Unresolved(std::net::IpAddr),
}

pub(super) const fn family(endpoint: SocketAddr) -> Family {
    match endpoint {
        SocketAddr::V4(_) => Family::V4,
        SocketAddr::V6(_) => Family::V6,
    }
}

/// How a tunnel's endpoint is reached, by one of several next hops always the same.
pub(super) fn path_to(snapshot: &Snapshot, endpoint: SocketAddr) -> Result<Path, DropReason> {
    let mut hasher = DefaultHasher::new();
    endpoint.hash(&mut hasher);
    snapshot.front_end.path(endpoint.ip(), hasher.finish())
}

impl OuterPath {
    /// The MAC of the next hop towards `endpoint`.
    pub(super) fn next(
        &mut self,
        snapshot: &Snapshot,
        endpoint: SocketAddr,
    ) -> Result<MacAddress, NoWay> {
        let known = self.find(snapshot, endpoint)?;
        let hop =
            snapshot.front_end.hop(known.hop).ok_or(NoWay::Drop(DropReason::FrontEndNoRoute))?;
        hop.mac.ok_or(NoWay::Unresolved(hop.address))
    }

    fn find(&mut self, snapshot: &Snapshot, endpoint: SocketAddr) -> Result<Known, NoWay> {
        if let Some(known) = self.known
            && (known.endpoint, known.epoch) == (endpoint, snapshot.epoch)
        {
            return Ok(known);
        }
        if self.known.is_some_and(|known| known.endpoint.ip() != endpoint.ip()) {
            self.reported = None;
        }
        let path = path_to(snapshot, endpoint).map_err(NoWay::Drop)?;
        let hop = path.hop.ok_or(NoWay::Unresolved(path.next))?;
        let known = Known { endpoint, epoch: snapshot.epoch, hop, mtu: path.mtu };
        self.known = Some(known);
        Ok(known)
    }

    /// The longest inner packet that fits the path to `endpoint`, in bytes.
    pub(super) fn inner_mtu(
        &mut self,
        snapshot: &Snapshot,
        endpoint: SocketAddr,
        now: Instant,
    ) -> Option<u16> {
        if self.reported.is_some_and(|(_, until)| until <= now) {
            self.reported = None;
        }
        let path = match self.find(snapshot, endpoint) {
            Ok(known) => known.mtu,
            // The hop is asked for by the next packet.
            Err(_) => path_to(snapshot, endpoint).ok()?.mtu,
        };
        let outer = self.reported.map_or(path, |(mtu, _)| mtu.min(path));
        Some(inner_mtu(outer.into(), family(endpoint)) as u16)
    }

    /// Believes a router that says what its link towards `endpoint` carries, within limits.
    pub(super) fn report(&mut self, endpoint: SocketAddr, mtu: u32, now: Instant) {
        let least = match family(endpoint) {
            Family::V4 => LEAST_MTU[0],
            Family::V6 => LEAST_MTU[1],
        };
        let mtu = u16::try_from(mtu).unwrap_or(u16::MAX).max(least);
        let lower = self.reported.is_none_or(|(known, _)| mtu < known);
        if lower {
            self.reported = Some((mtu, now + REPORT_HOLDS));
        }
    }
}
