//! OPEN, NOTIFICATION, KEEPALIVE and ROUTE-REFRESH.

use std::net::Ipv4Addr;

use netgauze_bgp_pkt::BgpMessage;
use netgauze_bgp_pkt::capabilities::BgpCapability;
use netgauze_iana::address_family::AddressFamily;
use nvgate_model::Asn;
use proptest::prelude::*;
use proptest::sample::subsequence;

use super::{address_type, afi_safi, theirs, written};
use crate::family::Family;
use crate::neighbor_kind::NeighborKind;
use crate::notification::{Notification, NotificationReason};
use crate::wire::{
    AddPathMode, Capability, Codec, ExtendedNextHop, GracefulRestart, Message, MessageLimit, Open,
    RefreshKind, RestartFamily, RouteRefresh, decode, encode_keepalive, encode_notification,
    encode_open, encode_refresh, frame,
};

fn codec() -> Codec {
    Codec::initial(NeighborKind::External)
}

fn ours(bytes: &[u8]) -> Message<'_> {
    let whole = frame(bytes, MessageLimit::Standard).unwrap().unwrap();
    assert_eq!(whole.bytes(), bytes);
    decode(whole, &codec()).unwrap()
}

/// What the other codec says of a capability, in our words.
fn translated(capability: &BgpCapability) -> Capability {
    match capability {
        BgpCapability::MultiProtocolExtensions(family) => {
            Capability::Multiprotocol(afi_safi(family.address_type()))
        }
        BgpCapability::RouteRefresh => Capability::RouteRefresh,
        BgpCapability::EnhancedRouteRefresh => Capability::EnhancedRouteRefresh,
        BgpCapability::ExtendedMessage => Capability::ExtendedMessage,
        BgpCapability::FourOctetAs(number) => Capability::FourOctetAsn(Asn(number.asn4())),
        BgpCapability::BgpRole(role) => Capability::Role(role.role().into()),
        BgpCapability::ExtendedNextHopEncoding(encodings) => {
            let entry = |one: &netgauze_bgp_pkt::capabilities::ExtendedNextHopEncoding| {
                let routes = afi_safi(one.address_type());
                let safi = routes.safi.into();
                let next_hop_afi = u16::from(one.next_hop_afi());
                ExtendedNextHop { afi: routes.afi, safi, next_hop_afi }
            };
            Capability::ExtendedNextHop(encodings.encodings().iter().map(entry).collect())
        }
        BgpCapability::GracefulRestartCapability(restart) => {
            let family = |one: &netgauze_bgp_pkt::capabilities::GracefulRestartAddressFamily| {
                let forwarding_kept = one.forwarding_state();
                RestartFamily { afi_safi: afi_safi(one.address_type()), forwarding_kept }
            };
            Capability::GracefulRestart(GracefulRestart {
                restarting: restart.restart(),
                notifications: restart.graceful_notification(),
                restart_time_secs: restart.time(),
                families: restart.address_families().iter().map(family).collect(),
            })
        }
        BgpCapability::AddPath(paths) => {
            let entry = |one: &netgauze_bgp_pkt::capabilities::AddPathAddressFamily| {
                let mode = match (one.send(), one.receive()) {
                    (true, true) => AddPathMode::Both,
                    (true, false) => AddPathMode::Send,
                    (false, true) => AddPathMode::Receive,
                    (false, false) => panic!("{one:?} means nothing"),
                };
                (afi_safi(one.address_type()), mode)
            };
            Capability::AddPath(paths.address_families().iter().map(entry).collect())
        }
        BgpCapability::Unrecognized(unknown) => {
            Capability::Unknown { code: *unknown.code(), value: unknown.value().into() }
        }
        BgpCapability::CiscoRouteRefresh
        | BgpCapability::LongLivedGracefulRestart(_)
        | BgpCapability::Fqdn(_)
        | BgpCapability::MultipleLabels(_)
        | BgpCapability::Experimental(_) => panic!("{capability:?} was not sent"),
    }
}

prop_compose! {
    fn restart()(
        [restarting, notifications] in any::<[bool; 2]>(),
        restart_time_secs in 0_u16..4096,
        kept in any::<[bool; 2]>(),
        families in subsequence(Family::ALL.to_vec(), 0..=2),
    ) -> Capability {
        let family = |family: Family| RestartFamily {
            afi_safi: family.afi_safi(),
            forwarding_kept: kept[family.index()],
        };
        let families = families.into_iter().map(family).collect();
        Capability::GracefulRestart(
            GracefulRestart { restarting, notifications, restart_time_secs, families },
        )
    }
}

prop_compose! {
    fn open()(
        asn in prop_oneof![1..=65_535_u32, 1..=u32::MAX],
        hold_time_secs in prop_oneof![Just(0_u16), 3..=u16::MAX],
        identifier in (0x0100_0000..0xe000_0000_u32).prop_map(Ipv4Addr::from_bits),
        role in 0_u8..5,
        restart in restart(),
        modes in any::<[(bool, bool); 2]>(),
        value in prop::collection::vec(any::<u8>(), 0..40),
        chosen in subsequence((0..9_usize).collect::<Vec<_>>(), 0..=9),
    ) -> Open {
        let paths = Family::ALL.into_iter().zip(modes).map(|(family, mode)| {
            let mode = match mode {
                (true, true) => AddPathMode::Both,
                (true, false) => AddPathMode::Send,
                (false, _) => AddPathMode::Receive,
            };
            (family.afi_safi(), mode)
        });
        let all = [
            Capability::family(Family::Ipv4Unicast),
            Capability::family(Family::Ipv6Unicast),
            Capability::RouteRefresh,
            Capability::ExtendedNextHop(vec![ExtendedNextHop::IPV4_VIA_IPV6]),
            Capability::ExtendedMessage,
            Capability::Role(role),
            restart,
            Capability::AddPath(paths.collect()),
            Capability::EnhancedRouteRefresh,
        ];
        let mut capabilities: Vec<Capability> =
            chosen.into_iter().map(|index| all[index].clone()).collect();
        capabilities.push(Capability::FourOctetAsn(Asn(asn)));
        capabilities.push(Capability::Unknown { code: 199, value: value.into() });
        Open {
            asn: Asn(asn),
            hold_time_secs,
            identifier,
            capabilities,
            ignored_capabilities: 0,
        }
    }
}

proptest! {
    #[test]
    fn an_open_means_the_same_to_both(open in open()) {
        let mut bytes = Vec::new();
        encode_open(&open, &mut bytes).unwrap();
        let message = theirs(&bytes, &codec());
        let BgpMessage::Open(there) = &message else { panic!("{message:?}") };
        prop_assert_eq!((there.version(), there.my_as()), (4, open.asn.in_two_octets()));
        prop_assert_eq!((there.my_asn4(), there.hold_time()), (open.asn.0, open.hold_time_secs));
        prop_assert_eq!(there.bgp_id(), open.identifier);
        let capabilities: Vec<Capability> =
            there.capabilities().into_iter().map(translated).collect();
        prop_assert_eq!(capabilities, &open.capabilities[..]);
        let again = written(&message);
        prop_assert_eq!(ours(&again), Message::Open(open));
    }

    #[test]
    fn a_notification_means_the_same_to_both(
        which in 0..NAMES.len(),
        data in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let (reason, name) = NAMES[which];
        let notification = Notification::new(reason, &data);
        let mut bytes = Vec::new();
        encode_notification(&notification, MessageLimit::Standard, &mut bytes);
        let message = theirs(&bytes, &codec());
        let there = format!("{message:?}");
        prop_assert!(there.starts_with(&format!("Notification({name} {{")), "{}", there);
        prop_assert!(there.contains(&format!("value: {data:?}")), "{}", there);
        let again = written(&message);
        prop_assert_eq!(ours(&again), Message::Notification(notification));
    }
}

/// The reasons, and what the other codec calls them.
const NAMES: [(NotificationReason, &str); 38] = {
    use NotificationReason::*;
    [
        (MessageHeader, "MessageHeaderError(Unspecific"),
        (ConnectionNotSynchronized, "MessageHeaderError(ConnectionNotSynchronized"),
        (BadMessageLength, "MessageHeaderError(BadMessageLength"),
        (BadMessageType, "MessageHeaderError(BadMessageType"),
        (Open, "OpenMessageError(Unspecific"),
        (UnsupportedVersion, "OpenMessageError(UnsupportedVersionNumber"),
        (BadPeerAs, "OpenMessageError(BadPeerAs"),
        (BadIdentifier, "OpenMessageError(BadBgpIdentifier"),
        (UnsupportedParameter, "OpenMessageError(UnsupportedOptionalParameter"),
        (UnacceptableHoldTime, "OpenMessageError(UnacceptableHoldTime"),
        (UnsupportedCapability, "OpenMessageError(UnsupportedCapability"),
        (RoleMismatch, "OpenMessageError(RoleMismatch"),
        (Update, "UpdateMessageError(Unspecific"),
        (MalformedAttributeList, "UpdateMessageError(MalformedAttributeList"),
        (UnrecognizedWellKnownAttribute, "UpdateMessageError(UnrecognizedWellKnownAttribute"),
        (MissingWellKnownAttribute, "UpdateMessageError(MissingWellKnownAttribute"),
        (AttributeFlags, "UpdateMessageError(AttributeFlagsError"),
        (AttributeLength, "UpdateMessageError(AttributeLengthError"),
        (InvalidOrigin, "UpdateMessageError(InvalidOriginAttribute"),
        (InvalidNextHop, "UpdateMessageError(InvalidNextHopAttribute"),
        (OptionalAttribute, "UpdateMessageError(OptionalAttributeError"),
        (InvalidNetworkField, "UpdateMessageError(InvalidNetworkField"),
        (MalformedAsPath, "UpdateMessageError(MalformedAsPath"),
        (FiniteStateMachine, "FiniteStateMachineError(Unspecific"),
        (UnexpectedInOpenSent, "FiniteStateMachineError(ReceiveUnexpectedMessageInOpenSentState"),
        (
            UnexpectedInOpenConfirm,
            "FiniteStateMachineError(ReceiveUnexpectedMessageInOpenConfirmState",
        ),
        (
            UnexpectedInEstablished,
            "FiniteStateMachineError(ReceiveUnexpectedMessageInEstablishedState",
        ),
        (MaximumPrefixes, "CeaseError(MaximumNumberOfPrefixesReached"),
        (AdministrativeShutdown, "CeaseError(AdministrativeShutdown"),
        (PeerDeconfigured, "CeaseError(PeerDeConfigured"),
        (AdministrativeReset, "CeaseError(AdministrativeReset"),
        (ConnectionRejected, "CeaseError(ConnectionRejected"),
        (OtherConfigurationChange, "CeaseError(OtherConfigurationChange"),
        (ConnectionCollision, "CeaseError(ConnectionCollisionResolution"),
        (OutOfResources, "CeaseError(OutOfResources"),
        (HardReset, "CeaseError(HardReset"),
        (BfdDown, "CeaseError(BfdDown"),
        (BadRefreshLength, "RouteRefreshError(InvalidMessageLength"),
    ]
};

#[test]
fn an_expired_hold_timer_means_the_same_to_both() {
    let notification = Notification::new(NotificationReason::HoldTimerExpired, &[]);
    let mut bytes = Vec::new();
    encode_notification(&notification, MessageLimit::Standard, &mut bytes);
    let message = theirs(&bytes, &codec());
    let expected = "Notification(HoldTimerExpiredError(Unspecific { sub_code: 0, value: [] }))";
    assert_eq!(format!("{message:?}"), expected);
    assert_eq!(ours(&written(&message)), Message::Notification(notification));
}

#[test]
fn a_keepalive_means_the_same_to_both() {
    let mut bytes = Vec::new();
    encode_keepalive(&mut bytes);
    assert_eq!(theirs(&bytes, &codec()), BgpMessage::KeepAlive);
    assert_eq!(written(&BgpMessage::KeepAlive), bytes);
}

#[test]
fn a_route_refresh_means_the_same_to_both() {
    let kinds = [RefreshKind::Request, RefreshKind::Begin, RefreshKind::End];
    for family in Family::ALL {
        for (kind, number) in kinds.into_iter().zip(0_u8..) {
            let refresh = RouteRefresh { afi_safi: family.afi_safi(), kind };
            let mut bytes = Vec::new();
            encode_refresh(refresh, &mut bytes);
            let message = theirs(&bytes, &codec());
            let BgpMessage::RouteRefresh(there) = &message else { panic!("{message:?}") };
            assert_eq!(there.address_type(), address_type(family.afi_safi()));
            assert_eq!(u8::from(there.operation_type()), number);
            assert_eq!(ours(&written(&message)), Message::Refresh(refresh));
        }
    }
}

#[test]
fn families_have_the_same_numbers() {
    assert_eq!(u16::from(AddressFamily::IPv4), Family::Ipv4Unicast.afi_safi().afi);
    assert_eq!(u16::from(AddressFamily::IPv6), Family::Ipv6Unicast.afi_safi().afi);
}
