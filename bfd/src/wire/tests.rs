//! Byte vectors of Control packets, and every rule that needs no session.

use proptest::prelude::*;

use super::*;

/// A packet of a session that is Down: multiplier 3, one second.
const DOWN: [u8; PACKET_LENGTH] = [
    0x20, 0x40, 0x03, 0x18, //
    0x0d, 0xe6, 0x08, 0x37, //
    0x00, 0x00, 0x00, 0x00, //
    0x00, 0x0f, 0x42, 0x40, //
    0x00, 0x04, 0x93, 0xe0, //
    0x00, 0x00, 0xc3, 0x50,
];

fn down() -> ControlPacket {
    ControlPacket {
        diagnostic: Diagnostic::NONE,
        state: State::Down,
        poll: false,
        is_final: false,
        control_plane_independent: false,
        demand: false,
        detect_multiplier: NonZeroU8::new(3).unwrap(),
        my_discriminator: NonZeroU32::new(0x0de6_0837).unwrap(),
        your_discriminator: None,
        desired_min_tx_micros: 1_000_000,
        required_min_rx_micros: 300_000,
        required_min_echo_rx_micros: 50_000,
        authentication: None,
    }
}

/// `DOWN` with bytes replaced.
fn with(changes: &[(usize, u8)]) -> [u8; PACKET_LENGTH] {
    let mut packet = DOWN;
    changes.iter().for_each(|(place, byte)| packet[*place] = *byte);
    packet
}

#[test]
fn every_field_is_where_section_4_1_has_it() {
    assert_eq!(ControlPacket::decode(&DOWN), Ok(down()));
    assert_eq!(down().encode(), DOWN);
    let up = ControlPacket {
        diagnostic: Diagnostic::NEIGHBOR_SIGNALED_DOWN,
        state: State::Up,
        poll: true,
        control_plane_independent: true,
        your_discriminator: NonZeroU32::new(0xcafe_0001),
        desired_min_tx_micros: 100_000,
        required_min_echo_rx_micros: 0,
        ..down()
    };
    let bytes = [
        0x23, 0xe8, 0x03, 0x18, //
        0x0d, 0xe6, 0x08, 0x37, //
        0xca, 0xfe, 0x00, 0x01, //
        0x00, 0x01, 0x86, 0xa0, //
        0x00, 0x04, 0x93, 0xe0, //
        0x00, 0x00, 0x00, 0x00,
    ];
    assert_eq!(up.encode(), bytes);
    assert_eq!(ControlPacket::decode(&bytes), Ok(up));
}

#[test]
fn each_flag_is_a_bit_of_its_own() {
    let flags = |byte: u8| {
        let packet = ControlPacket::decode(&with(&[(1, 0x40 | byte)])).unwrap();
        (packet.poll, packet.is_final, packet.control_plane_independent, packet.demand)
    };
    assert_eq!(flags(0b10_0000), (true, false, false, false));
    assert_eq!(flags(0b01_0000), (false, true, false, false));
    assert_eq!(flags(0b00_1000), (false, false, true, false));
    assert_eq!(flags(0b00_0010), (false, false, false, true));
}

#[test]
fn each_broken_rule_has_its_reason() {
    let cases: [(&[(usize, u8)], Discard); 10] = [
        (&[(0, 0x00)], Discard::Version),
        (&[(0, 0x40)], Discard::Version),
        (&[(3, 23)], Discard::LengthTooSmall),
        (&[(1, 0x44), (3, 24)], Discard::LengthTooSmall),
        (&[(1, 0x44), (3, 25)], Discard::LengthTooSmall),
        (&[(3, 25)], Discard::LengthBeyondPayload),
        (&[(2, 0)], Discard::MultiplierZero),
        (&[(1, 0x41)], Discard::Multipoint),
        (&[(4, 0), (5, 0), (6, 0), (7, 0)], Discard::MyDiscriminatorZero),
        (&[(1, 0x80)], Discard::YourDiscriminatorZero),
    ];
    for (changes, reason) in cases {
        assert_eq!(ControlPacket::decode(&with(changes)), Err(reason), "{changes:?}");
    }
    assert_eq!(ControlPacket::decode(&with(&[(1, 0xc0)])), Err(Discard::YourDiscriminatorZero));
    assert_eq!(ControlPacket::decode(&DOWN[..23]), Err(Discard::Truncated));
    assert_eq!(ControlPacket::decode(&[]), Err(Discard::Truncated));
}

#[test]
fn the_first_broken_rule_is_the_reason() {
    let everything = with(&[(0, 0), (1, 0x41), (2, 0), (3, 0), (4, 0), (5, 0), (6, 0), (7, 0)]);
    let mut packet = everything;
    let mut reasons = Vec::new();
    let repairs: [&[(usize, u8)]; 5] =
        [&[(0, 0x20)], &[(3, 24)], &[(2, 1)], &[(1, 0x80)], &[(7, 1)]];
    for repair in repairs {
        reasons.extend(ControlPacket::decode(&packet).err());
        repair.iter().for_each(|(place, byte)| packet[*place] = *byte);
    }
    reasons.extend(ControlPacket::decode(&packet).err());
    assert_eq!(
        reasons,
        [
            Discard::Version,
            Discard::LengthTooSmall,
            Discard::MultiplierZero,
            Discard::Multipoint,
            Discard::MyDiscriminatorZero,
            Discard::YourDiscriminatorZero,
        ]
    );
}

#[test]
fn admin_down_and_down_need_no_your_discriminator() {
    for (bits, state) in [(0x00, State::AdminDown), (0x40, State::Down)] {
        assert_eq!(
            ControlPacket::decode(&with(&[(1, bits)])).map(|packet| packet.state),
            Ok(state)
        );
    }
}

#[test]
fn bytes_behind_the_length_and_unassigned_diagnostics_are_no_reason_to_refuse() {
    let longer = [with(&[(0, 0x3f)]).as_slice(), &[0xff; 40]].concat();
    let packet = ControlPacket::decode(&longer).unwrap();
    assert_eq!((packet.diagnostic.bits(), packet.diagnostic.name()), (31, "unassigned"));
    assert_eq!(packet.authentication, None);
    let mut claimed = longer;
    claimed[3] = 64;
    assert_eq!(ControlPacket::decode(&claimed).unwrap().authentication, None);
}

#[test]
fn the_head_of_an_authentication_section_is_read() {
    let meticulous_sha1 =
        [with(&[(1, 0x44), (3, 52)]).as_slice(), &[5, 28, 2, 0], &[0; 24]].concat();
    let packet = ControlPacket::decode(&meticulous_sha1).unwrap();
    assert_eq!(packet.authentication, Some(Authentication { kind: 5, length: 28 }));
    let cut = &meticulous_sha1[..51];
    assert_eq!(ControlPacket::decode(cut), Err(Discard::LengthBeyondPayload));
}

proptest! {
    #[test]
    fn any_bytes_return_and_what_is_read_is_written_again(
        mut bytes in prop::collection::vec(any::<u8>(), 0..80),
        repaired in any::<bool>(),
    ) {
        if let Some([first, flags, _, length]) = bytes.first_chunk_mut() && repaired {
            (*first, *flags, *length) = (*first & 0x1f | 0x20, *flags & 0xfe, *length % 32);
        }
        if let Ok(packet) = ControlPacket::decode(&bytes) {
            let plain = ControlPacket { authentication: None, ..packet };
            prop_assert_eq!(ControlPacket::decode(&packet.encode()), Ok(plain));
        }
    }
}
