//! Any bytes as what a BGP peer sends: what is understood is sent again and understood as the same.

use std::net::Ipv4Addr;

use nvgate_bgp::wire::{
    self, AddPathMode, Capability, ExtendedNextHop, GracefulRestart, MessageLimit, Open,
    RestartFamily, encode_notification, encode_open,
};
use nvgate_bgp::{Family, Notification, NotificationReason};
use nvgate_model::Asn;

use super::speaker;

/// Two bytes are what both ends agreed on, the others are the peer's.
///
/// # Panics
///
/// A claim does not hold.
pub fn run(data: &[u8]) {
    wire::exercise(data);
}

/// An OPEN with every capability and a NOTIFICATION with a text; the messages of [`speaker`].
///
/// # Panics
///
/// Never.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let families = Family::ALL.map(Family::afi_safi);
    let restarts = families.map(|afi_safi| RestartFamily { afi_safi, forwarding_kept: true });
    let open = Open {
        asn: Asn(65_536),
        hold_time_secs: 90,
        identifier: Ipv4Addr::new(192, 0, 2, 1),
        capabilities: vec![
            Capability::family(Family::Ipv4Unicast),
            Capability::family(Family::Ipv6Unicast),
            Capability::RouteRefresh,
            Capability::EnhancedRouteRefresh,
            Capability::ExtendedNextHop(vec![ExtendedNextHop::IPV4_VIA_IPV6]),
            Capability::ExtendedMessage,
            Capability::Role(3),
            Capability::GracefulRestart(GracefulRestart {
                restarting: true,
                notifications: true,
                restart_time_secs: 120,
                families: restarts.to_vec(),
            }),
            Capability::FourOctetAsn(Asn(65_536)),
            Capability::AddPath(families.map(|family| (family, AddPathMode::Both)).to_vec()),
            Capability::Unknown { code: 73, value: b"router".as_slice().into() },
        ],
        ignored_capabilities: 0,
    };
    let mut words = vec![0, 0];
    encode_open(&open, &mut words).expect("it is short");
    let reason = NotificationReason::AdministrativeShutdown;
    let farewell = Notification::with_text(reason, "maintenance").expect("it is short");
    encode_notification(&farewell, MessageLimit::Standard, &mut words);
    let streams = speaker::seeds().into_iter();
    let streams = streams.map(|seed| [&[agreed(seed[0]), 0][..], &seed[2..]].concat());
    [words].into_iter().chain(streams).collect()
}

/// The first byte of what both ends of [`speaker`] agree on.
const fn agreed(choice: u8) -> u8 {
    let paths = if choice & 1 == 0 { 0 } else { 3 };
    paths | (choice >> 3 & 1) << 3 | (choice >> 2 & 1) << 6 | (choice >> 5 & 1) << 7
}
