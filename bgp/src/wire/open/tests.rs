use proptest::prelude::*;

use super::*;
use crate::family::AfiSafi;
use crate::wire::capability::RestartFamily;
use crate::wire::{Codec, Message, NeighborKind, decode, frame};

fn open(asn: u32, capabilities: Vec<Capability>) -> Open {
    Open {
        asn: Asn(asn),
        hold_time_secs: 90,
        identifier: Ipv4Addr::new(192, 0, 2, 1),
        capabilities,
        ignored_capabilities: 0,
    }
}

/// The body of an OPEN of version 4, AS 64496, hold time 90 s, identifier 192.0.2.1.
fn body(parameters: &[u8]) -> Vec<u8> {
    let head = [4, 0xFB, 0xF0, 0, 90, 192, 0, 2, 1];
    [&head[..], &[parameters.len() as u8], parameters].concat()
}

fn received(body: &[u8]) -> Result<Open, NotificationReason> {
    super::decode(body).map_err(|reset| reset.notification.reason)
}

fn received_after_encoding(open: &Open) -> Open {
    let mut bytes = vec![7];
    encode_open(open, &mut bytes).unwrap();
    let whole = frame(&bytes[1..], MessageLimit::Standard).unwrap().unwrap();
    assert_eq!(whole.bytes(), &bytes[1..]);
    match decode(whole, &Codec::initial(NeighborKind::External)) {
        Ok(Message::Open(open)) => open,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_open_with_every_capability_has_these_bytes() {
    let ipv4 = AfiSafi { afi: 1, safi: 1 };
    let ipv6 = AfiSafi { afi: 2, safi: 1 };
    let open = open(
        4_200_000_000,
        vec![
            Capability::Multiprotocol(ipv6),
            Capability::RouteRefresh,
            Capability::ExtendedNextHop(vec![ExtendedNextHop::IPV4_VIA_IPV6]),
            Capability::ExtendedMessage,
            Capability::Role(3),
            Capability::GracefulRestart(GracefulRestart {
                restarting: true,
                notifications: true,
                restart_time_secs: 0x123,
                families: vec![RestartFamily { afi_safi: ipv4, forwarding_kept: true }],
            }),
            Capability::FourOctetAsn(Asn(4_200_000_000)),
            Capability::AddPath(vec![(ipv4, AddPathMode::Both), (ipv6, AddPathMode::Send)]),
            Capability::EnhancedRouteRefresh,
            Capability::Unknown { code: 73, value: [1, b'r', 0].into() },
        ],
    );
    let mut bytes = Vec::new();
    encode_open(&open, &mut bytes).unwrap();
    let expected = [
        &[4, 0x5B, 0xA0, 0, 90, 192, 0, 2, 1, 54, 2, 52][..],
        &[1, 4, 0, 2, 0, 1],
        &[2, 0],
        &[5, 6, 0, 1, 0, 1, 0, 2],
        &[6, 0],
        &[9, 1, 3],
        &[64, 6, 0xC1, 0x23, 0, 1, 1, 0x80],
        &[65, 4, 0xFA, 0x56, 0xEA, 0],
        &[69, 8, 0, 1, 1, 3, 0, 2, 1, 2],
        &[70, 0],
        &[73, 3, 1, b'r', 0],
    ]
    .concat();
    assert_eq!(bytes[19..], expected);
    assert_eq!(received_after_encoding(&open), open);
    assert_eq!(open.families(), [false, true]);
    assert_eq!(open.add_path(Family::Ipv4Unicast), Some(AddPathMode::Both));
    assert!(open.has_four_octet_asn() && open.has_ipv6_next_hop());
    assert_eq!(open.role(), Ok(Some(3)));
    assert_eq!(open.graceful_restart().map(|restart| restart.restart_time_secs), Some(0x123));
}

#[test]
fn an_open_without_capabilities_means_ipv4_and_two_octets() {
    let received = received(&body(&[])).unwrap();
    assert_eq!(received, open(64_496, vec![]));
    assert_eq!(
        (received.families(), received.add_path(Family::Ipv4Unicast)),
        ([true, false], None)
    );
    assert!(!received.has_four_octet_asn() && !received.has_ipv6_next_hop());
    assert_eq!((received.role(), received.graceful_restart()), (Ok(None), None));
    assert_eq!(received_after_encoding(&received), received);
}

#[test]
fn each_defect_of_the_head_has_its_notification() {
    let with = |at: usize, octets: &[u8]| {
        let mut body = body(&[]);
        body[at..][..octets.len()].copy_from_slice(octets);
        super::decode(&body).map_err(|reset| reset.notification)
    };
    use NotificationReason::{BadIdentifier, BadPeerAs, UnacceptableHoldTime, UnsupportedVersion};
    for version in [0, 3, 5, 255] {
        let reset = crate::Notification::new(UnsupportedVersion, &[0, 4]);
        assert_eq!(with(0, &[version]), Err(reset));
    }
    for (at, octets, reason) in [
        (1, &[0, 0][..], BadPeerAs),
        (1, &[0x5B, 0xA0], BadPeerAs),
        (3, &[0, 1], UnacceptableHoldTime),
        (3, &[0, 2], UnacceptableHoldTime),
        (5, &[0, 0, 0, 0], BadIdentifier),
    ] {
        assert_eq!(with(at, octets), Err(crate::Notification::new(reason, &[])));
    }
    for hold_time in [0, 3, u16::MAX] {
        let received = with(3, &hold_time.to_be_bytes()).unwrap();
        assert_eq!(received, Open { hold_time_secs: hold_time, ..open(64_496, vec![]) });
    }
}

#[test]
fn the_as_and_its_capability_agree_or_the_first_is_as_trans() {
    let with = |field: u16, four: u32| {
        let mut body = body(&[&[2, 6, 65, 4][..], &four.to_be_bytes()].concat());
        body[1..3].copy_from_slice(&field.to_be_bytes());
        received(&body).map(|open| open.asn)
    };
    assert_eq!(with(64_496, 64_496), Ok(Asn(64_496)));
    assert_eq!(with(23_456, 64_496), Ok(Asn(64_496)));
    assert_eq!(with(23_456, 4_200_000_000), Ok(Asn(4_200_000_000)));
    for (field, four) in
        [(64_496, 64_497), (64_496, 4_200_000_000), (23_456, 0), (0, 0), (23_456, 23_456)]
    {
        assert_eq!(with(field, four), Err(NotificationReason::BadPeerAs), "{field} {four}");
    }
    for first in [131_073_u32, 23_456] {
        let [a, b, c, d] = first.to_be_bytes();
        let mut two = body(&[2, 12, 65, 4, a, b, c, d, 65, 4, 0, 0, 0xFB, 0xF0]);
        two[1..3].copy_from_slice(&23_456_u16.to_be_bytes());
        assert_eq!(received(&two), Err(NotificationReason::BadPeerAs), "{first}");
    }
}

#[test]
fn parameters_that_do_not_fit_are_malformed_and_foreign_ones_refused() {
    use NotificationReason::{Open, UnsupportedParameter};
    for (parameters, reason) in [
        (&[2][..], Open),
        (&[2, 1], Open),
        (&[2, 1, 2], Open),
        (&[2, 2, 1, 4], Open),
        (&[2, 3, 1, 4, 0], Open),
        (&[1, 0], UnsupportedParameter),
        (&[3, 1, 0], UnsupportedParameter),
    ] {
        assert_eq!(received(&body(parameters)), Err(reason), "{parameters:?}");
    }
    let whole = body(&[2, 2, 2, 0]);
    assert_eq!(received(&whole[..whole.len() - 1]), Err(Open));
    assert_eq!(received(&[&whole[..], &[0]].concat()), Err(Open));
}

#[test]
fn known_capabilities_with_impossible_values_are_ignored_and_counted() {
    for value in [
        &[1, 3, 0, 1, 0][..],
        &[2, 1, 0],
        &[5, 5, 0, 1, 0, 1, 0],
        &[6, 1, 0],
        &[9, 0],
        &[9, 2, 0, 0],
        &[64, 1, 0],
        &[64, 5, 0, 0, 0, 1, 1],
        &[65, 3, 0, 0, 1],
        &[69, 3, 0, 1, 1],
        &[69, 4, 0, 1, 1, 0],
        &[69, 8, 0, 1, 1, 3, 0, 1, 1, 4],
        &[70, 1, 0],
    ] {
        let parameters = [&[2, value.len() as u8][..], value].concat();
        let expected = Open { ignored_capabilities: 1, ..open(64_496, vec![]) };
        assert_eq!(received(&body(&parameters)), Ok(expected), "{value:?}");
    }
}

#[test]
fn equal_capabilities_count_once_and_too_many_are_ignored() {
    let received_twice = received(&body(&[2, 4, 2, 0, 2, 0, 2, 2, 2, 0])).unwrap();
    assert_eq!(received_twice, open(64_496, vec![Capability::RouteRefresh]));

    let parameters: Vec<u8> = (0..70).flat_map(|number| [100, 1, number]).collect();
    let received = received(&body(&[&[2, 210][..], &parameters].concat())).unwrap();
    assert_eq!((received.capabilities.len(), received.ignored_capabilities), (64, 6));
}

#[test]
fn the_last_restart_and_path_capabilities_count_and_two_roles_are_a_mismatch() {
    let capabilities = [
        &[64, 2, 0, 1, 64, 2, 0, 2][..],
        &[69, 8, 0, 1, 1, 1, 0, 1, 1, 2, 69, 4, 0, 2, 1, 3],
        &[9, 1, 0, 9, 1, 1],
    ]
    .concat();
    let parameters = [&[2, capabilities.len() as u8][..], &capabilities].concat();
    let received = received(&body(&parameters)).unwrap();
    assert_eq!(received.graceful_restart().map(|restart| restart.restart_time_secs), Some(2));
    assert_eq!(received.add_path(Family::Ipv4Unicast), Some(AddPathMode::Send));
    assert_eq!(received.add_path(Family::Ipv6Unicast), Some(AddPathMode::Both));
    assert_eq!(received.role(), Err(reset(NotificationReason::RoleMismatch, &[])));
}

#[test]
fn more_than_255_bytes_of_capabilities_have_lengths_of_two_octets() {
    let unknown = |code, length| Capability::Unknown { code, value: vec![code; length].into() };
    for length in 248..=255 {
        let open = open(64_496, vec![unknown(100, length)]);
        let mut bytes = Vec::new();
        encode_open(&open, &mut bytes).unwrap();
        // Two bytes of the capability and two of the parameter; 255 would mean the other form.
        let extended = length + 4 >= 255;
        assert_eq!(bytes[28..30] == [255, 255], extended, "{length}");
        assert_eq!(received_after_encoding(&open), open);
    }
    let many = open(64_496, (1..=15).map(|number| unknown(100 + number, 255)).collect());
    assert_eq!(received_after_encoding(&many), many);

    let mut bytes = vec![7];
    let too_many = open(64_496, (1..=16).map(|number| unknown(100 + number, 255)).collect());
    assert_eq!(encode_open(&too_many, &mut bytes), Err(OpenTooLong::Message(4147)));
    let too_long = open(64_496, vec![unknown(100, 256)]);
    let error = OpenTooLong::Capability { code: 100, length: 256 };
    assert_eq!(encode_open(&too_long, &mut bytes), Err(error));
    assert_eq!(bytes, [7]);
}

#[test]
fn the_first_length_means_nothing_with_lengths_of_two_octets() {
    for length in 1..=255 {
        let mut extended = body(&[255, 0, 5, 2, 0, 2, 2, 0]);
        extended[9] = length;
        assert_eq!(received(&extended), Ok(open(64_496, vec![Capability::RouteRefresh])));
    }
    for parameters in
        [&[255][..], &[255, 0], &[255, 0, 1], &[255, 0, 3, 2, 0, 2], &[255, 0, 2, 2, 0]]
    {
        assert_eq!(received(&body(parameters)), Err(NotificationReason::Open), "{parameters:?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_an_open_that_is_encoded_and_read_again_or_a_reset(
        head in proptest::array::uniform9(any::<u8>()),
        parameters in proptest::collection::vec(any::<u8>(), 0..64),
        whole in any::<bool>(),
    ) {
        let head = if whole { body(&[])[..9].try_into().unwrap() } else { head };
        let length = parameters.len() as u8 + 2;
        let parameters = [&[length, 2, length - 2][..], &parameters].concat();
        if let Ok(open) = super::decode(&[&head[..], &parameters].concat()) {
            let again = received_after_encoding(&open);
            prop_assert_eq!(again, Open { ignored_capabilities: 0, ..open });
        }
    }
}
