use super::*;
use crate::NeighborKind;
use crate::notification::{Notification, NotificationReason};
use crate::wire::{Codec, Open, UpdatePacker, encode_keepalive, encode_notification, encode_open};

const TIME: Timestamp = Timestamp { secs: 0x0102_0304, micros: 5 };
const PEER: Peer = Peer {
    distinguisher: 0,
    address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9)),
    asn: Asn(64_496),
    identifier: Ipv4Addr::new(10, 0, 0, 9),
};
const TABLE: LocRib<'static> = LocRib {
    distinguisher: 7,
    asn: Asn(64_497),
    identifier: Ipv4Addr::new(10, 0, 0, 1),
    name: "blue",
};
/// Behind kind, flags and distinguisher: the peer above at the time above.
const PEER_REST: [u8; 32] = [
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 192, 0, 2, 9, 0, 0, 0xFB, 0xF0, 10, 0, 0, 9, 1, 2, 3, 4, 0,
    0, 0, 5,
];
const TABLE_REST: [u8; 32] = [
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFB, 0xF1, 10, 0, 0, 1, 1, 2, 3, 4, 0,
    0, 0, 5,
];

fn encoded(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = vec![0xAA];
    encode(&mut out);
    assert_eq!(out.remove(0), 0xAA);
    out
}

/// A message of this type with these parts.
fn expected(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let length = (body.len() as u32 + 6).to_be_bytes();
    [&[3][..], &length, &[kind], &body].concat()
}

#[test]
fn initiation_and_termination_say_who_and_why() {
    let initiation = encoded(|out| encode_initiation("nvgate 0.1", "gw1", out));
    let parts: [&[u8]; 4] = [&[0, 1, 0, 10], b"nvgate 0.1", &[0, 2, 0, 3], b"gw1"];
    assert_eq!(initiation, expected(4, &parts));
    for (reason, code) in [
        (Termination::Administrative, 0),
        (Termination::Unspecified, 1),
        (Termination::OutOfResources, 2),
        (Termination::RedundantConnection, 3),
        (Termination::PermanentlyAdministrative, 4),
    ] {
        let termination = encoded(|out| encode_termination(reason, out));
        assert_eq!(termination, [3, 0, 0, 0, 12, 5, 0, 1, 0, 2, 0, code]);
    }
    let long = "x".repeat(70_000);
    let initiation = encoded(|out| encode_initiation(&long, "", out));
    assert_eq!(initiation.len(), 6 + 4 + 65_535 + 4);
}

#[test]
fn peer_up_has_both_opens_and_both_ends() {
    let open = encoded(|out| {
        let open = Open {
            asn: Asn(64_496),
            hold_time_secs: 90,
            identifier: Ipv4Addr::new(10, 0, 0, 9),
            capabilities: vec![],
            ignored_capabilities: 0,
        };
        encode_open(&open, out).unwrap();
    });
    let transport =
        Transport { local: "192.0.2.1".parse().unwrap(), local_port: 179, remote_port: 0x1234 };
    let up = encoded(|out| encode_peer_up(&PEER, TIME, &transport, [&open, &[9, 9]], out));
    let local = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 192, 0, 2, 1, 0, 179, 0x12, 0x34];
    assert_eq!(up, expected(3, &[&[0; 10], &PEER_REST, &local, &open, &[9, 9]]));

    let up = encoded(|out| encode_loc_rib_up(&TABLE, TIME, &open, out));
    let head = [3, 0, 0, 0, 0, 0, 0, 0, 0, 7];
    let name = [0, 3, 0, 4, b'b', b'l', b'u', b'e'];
    assert_eq!(up, expected(3, &[&head, &TABLE_REST, &[0; 20], &open, &open, &name]));
}

#[test]
fn a_place_of_its_own_and_ipv6_show_in_the_header() {
    let address: std::net::Ipv6Addr = "2001:db8::9".parse().unwrap();
    let peer = Peer { distinguisher: 0x0102, address: IpAddr::V6(address), ..PEER };
    let down = encoded(|out| encode_peer_down(&peer, TIME, PeerDown::RemoteClosed, out));
    let head = [2, 0x80, 0, 0, 0, 0, 0, 0, 1, 2];
    assert_eq!(down, expected(2, &[&head, &address.octets(), &PEER_REST[16..], &[4]]));
}

#[test]
fn peer_down_has_its_reason_and_data() {
    let notification = encoded(|out| {
        let notification = Notification::new(NotificationReason::HoldTimerExpired, &[]);
        encode_notification(&notification, MessageLimit::Standard, out);
    });
    for (reason, code, data) in [
        (PeerDown::LocalNotification(&notification), 1, &notification[..]),
        (PeerDown::LocalEvent(0x0112), 2, &[1, 0x12]),
        (PeerDown::RemoteNotification(&notification), 3, &notification),
        (PeerDown::RemoteClosed, 4, &[]),
        (PeerDown::NotMonitored, 5, &[]),
    ] {
        let down = encoded(|out| encode_peer_down(&PEER, TIME, reason, out));
        assert_eq!(down, expected(2, &[&[0; 10], &PEER_REST, &[code], data]), "{code}");
    }
    let down = encoded(|out| encode_loc_rib_down(&TABLE, TIME, out));
    let head = [3, 0, 0, 0, 0, 0, 0, 0, 0, 7];
    let tail = [6, 0, 3, 0, 4, b'b', b'l', b'u', b'e'];
    assert_eq!(down, expected(2, &[&head, &TABLE_REST, &tail]));
}

#[test]
fn the_name_of_a_table_is_cut_between_letters() {
    let name = "ä".repeat(200);
    let table = LocRib { name: &name, ..TABLE };
    let down = encoded(|out| encode_loc_rib_down(&table, TIME, out));
    assert_eq!(down[6 + 42 + 1..][..4], [0, 3, 0, 254]);
    assert_eq!(down.len(), 6 + 42 + 1 + 4 + 254);
}

#[test]
fn each_update_is_monitored_by_itself_with_the_flags_of_its_table() {
    let codec = Codec::initial(NeighborKind::Internal);
    let update =
        encoded(|out| assert!(UpdatePacker::new(out, &codec).end_of_rib(Family::Ipv4Unicast)));
    let two = [&update[..], &update].concat();
    let peer = [0; 8];
    let table = [0, 0, 0, 0, 0, 0, 0, 7];
    for (rib, width, kind, flags, distinguisher, rest) in [
        (Rib::In(&PEER, Stage::PrePolicy), AsnWidth::Four, 0, 0, peer, PEER_REST),
        (Rib::In(&PEER, Stage::PostPolicy), AsnWidth::Four, 0, 0x40, peer, PEER_REST),
        (Rib::In(&PEER, Stage::PrePolicy), AsnWidth::Two, 0, 0x20, peer, PEER_REST),
        (Rib::Out(&PEER, Stage::PrePolicy), AsnWidth::Four, 0, 0x10, peer, PEER_REST),
        (Rib::Out(&PEER, Stage::PostPolicy), AsnWidth::Two, 0, 0x70, peer, PEER_REST),
        (Rib::Local(&TABLE, Extent::Whole), AsnWidth::Four, 3, 0, table, TABLE_REST),
        (Rib::Local(&TABLE, Extent::Filtered), AsnWidth::Four, 3, 0x80, table, TABLE_REST),
    ] {
        let monitored = encoded(|out| encode_route_monitoring(rib, TIME, width, &two, out));
        let one = expected(0, &[&[kind, flags], &distinguisher, &rest, &update]);
        assert_eq!(monitored, [&one[..], &one].concat(), "{rib:?}");
    }
    let cut = &update[..update.len() - 1];
    let rib = Rib::In(&PEER, Stage::PrePolicy);
    let nothing = encoded(|out| encode_route_monitoring(rib, TIME, AsnWidth::Four, cut, out));
    assert_eq!(nothing, []);
}

#[test]
fn what_is_no_update_is_not_monitored() {
    let keepalive = encoded(encode_keepalive);
    let rib = Rib::In(&PEER, Stage::PrePolicy);
    let nothing =
        encoded(|out| encode_route_monitoring(rib, TIME, AsnWidth::Four, &keepalive, out));
    assert_eq!(nothing, []);
}

#[test]
fn statistics_are_counters_and_gauges_by_their_numbers() {
    use Family::{Ipv4Unicast, Ipv6Unicast};
    let statistics = [
        (Statistic::RejectedPrefixes(1), &[0, 0, 0, 4, 0, 0, 0, 1][..]),
        (Statistic::DuplicateAnnouncements(2), &[0, 1, 0, 4, 0, 0, 0, 2]),
        (Statistic::DuplicateWithdrawals(3), &[0, 2, 0, 4, 0, 0, 0, 3]),
        (Statistic::ClusterListLoops(4), &[0, 3, 0, 4, 0, 0, 0, 4]),
        (Statistic::AsPathLoops(5), &[0, 4, 0, 4, 0, 0, 0, 5]),
        (Statistic::OriginatorLoops(6), &[0, 5, 0, 4, 0, 0, 0, 6]),
        (Statistic::AdjRibIn(1 << 32), &[0, 7, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0]),
        (Statistic::LocRib(7), &[0, 8, 0, 8, 0, 0, 0, 0, 0, 0, 0, 7]),
        (Statistic::AdjRibInOf(Ipv4Unicast, 8), &[0, 9, 0, 11, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 8]),
        (Statistic::LocRibOf(Ipv6Unicast, 9), &[0, 10, 0, 11, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 9]),
        (Statistic::WithdrawnUpdates(10), &[0, 11, 0, 4, 0, 0, 0, 10]),
        (Statistic::WithdrawnPrefixes(11), &[0, 12, 0, 4, 0, 0, 0, 11]),
        (Statistic::DuplicateUpdates(12), &[0, 13, 0, 4, 0, 0, 0, 12]),
        (Statistic::AdjRibOutPrePolicy(13), &[0, 14, 0, 8, 0, 0, 0, 0, 0, 0, 0, 13]),
        (Statistic::AdjRibOutPostPolicy(14), &[0, 15, 0, 8, 0, 0, 0, 0, 0, 0, 0, 14]),
        (
            Statistic::AdjRibOutPrePolicyOf(Ipv4Unicast, 15),
            &[0, 16, 0, 11, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 15],
        ),
        (
            Statistic::AdjRibOutPostPolicyOf(Ipv6Unicast, 16),
            &[0, 17, 0, 11, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 16],
        ),
    ];
    let all = statistics.map(|(statistic, _)| statistic);
    let bytes: Vec<u8> = statistics.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect();
    let report = encoded(|out| encode_statistics(&PEER, TIME, &all, out));
    assert_eq!(report, expected(1, &[&[0; 10], &PEER_REST, &[0, 0, 0, 17], &bytes]));
    assert_eq!(encoded(|out| encode_statistics(&PEER, TIME, &[], out)), []);
}
