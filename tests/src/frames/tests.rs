use super::*;

#[test]
fn what_is_written_is_read() {
    let (from, to) = (Ipv4Addr::new(10, 1, 0, 10), Ipv4Addr::new(198, 51, 100, 7));
    let (from_v6, to_v6) = (Ipv6Addr::LOCALHOST, Ipv6Addr::UNSPECIFIED);
    let udp = Packet::udp((from, 1), (to, 2), b"odd");
    for packet in [
        udp.clone(),
        Packet::udp((from_v6, 1), (to_v6, 2), b"even"),
        Packet::tcp((from, 1), (to, 2), flags::SYN, b""),
        Packet::tcp((from_v6, 1), (to_v6, 2), flags::ACK, b"x"),
        Packet::echo(from, to, 7, b"ping"),
        Packet::echo(from_v6, to_v6, 7, b"ping"),
        Packet::error(to, from, (3, 4, 1400), &udp),
    ] {
        assert_eq!(Packet::read(&packet.bytes()), Ok(packet.clone()));
        let mut wrong = packet.bytes();
        *wrong.last_mut().unwrap() ^= 1;
        assert!(Packet::read(&wrong).is_err());
    }
}

#[test]
fn the_checksum_is_rfc_1071s() {
    // The example of RFC 1071 section 3: the sum is ddf2.
    assert_eq!(checksum(&[&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]]), !0xddf2);
}

#[test]
fn fragments_in_any_order_are_the_packet() {
    let from = Ipv4Addr::new(10, 1, 0, 10);
    let packet = Packet::udp((from, 1), (from, 2), &[7; 100]).fragmentable(9);
    let mut fragments = packet.fragments(40);
    assert_eq!(fragments.len(), 3);
    fragments.reverse();
    assert_eq!(Packet::reassemble(&fragments), Ok(packet));
    assert!(Packet::reassemble(&fragments[1..]).is_err());
}
