//! The same bytes by a codec of other hands: what is encoded here decodes there to the same values,
//! and what that codec makes of its values decodes here to what it was.
//!
//! Left out is what netgauze-bgp-pkt 0.13 cannot do: messages beyond 4096 bytes (RFC 8654, which it
//! refuses by length), prefixes within or up to multicast (it takes none as unicast), BGP
//! identifiers that are no unicast addresses (which RFC 6286 allows), ONLY_TO_CUSTOMER with the
//! partial flag (which it must not have by its book, and may by RFC 4271 section 5), NOTIFICATIONs
//! with code 8 (RFC 9687) or subcode 0 of codes 6 and 7 (unknown to it), the optional parameters of
//! RFC 9072, refreshes and capabilities with numbers that nobody assigned, and as attributes that
//! are unknown here those that it knows and looks into (25, 26, 29, 40). AS4_AGGREGATOR it passes
//! on as bytes.

mod messages;
mod update;

use netgauze_bgp_pkt::BgpMessage;
use netgauze_bgp_pkt::wire::deserializer::BgpParsingContext;
use netgauze_iana::address_family::AddressType;
use netgauze_parse_utils::WritablePdu;
use netgauze_parse_utils::reader::SliceReader;
use netgauze_parse_utils::traits::ParseFromWithOneInput;

use super::Codec;
use crate::as_path::AsnWidth;
use crate::family::{AfiSafi, Family};

/// The other codec's message in these bytes, all of them. It takes any error for one.
fn theirs(bytes: &[u8], codec: &Codec) -> BgpMessage {
    let paths = Family::ALL
        .map(|family| (address_type(family.afi_safi()), codec.add_path_in[family.index()]));
    let asn4 = codec.asn_width == AsnWidth::Four;
    let mut context = BgpParsingContext::new(
        asn4,
        [].into(),
        paths.into_iter().collect(),
        true,
        true,
        true,
        true,
    );
    let mut reader = SliceReader::new(bytes);
    let message = BgpMessage::parse(&mut reader, &mut context);
    let message = message.unwrap_or_else(|error| panic!("{error}: {bytes:02x?}"));
    assert!(reader.is_empty(), "{bytes:02x?}");
    message
}

/// The bytes that the other codec makes.
fn written(message: &BgpMessage) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.write(&mut bytes).expect("what it read it can write");
    bytes
}

fn address_type(afi_safi: AfiSafi) -> AddressType {
    match afi_safi.family().expect("unicast of IPv4 or IPv6") {
        Family::Ipv4Unicast => AddressType::Ipv4Unicast,
        Family::Ipv6Unicast => AddressType::Ipv6Unicast,
    }
}

fn afi_safi(address_type: AddressType) -> AfiSafi {
    AfiSafi {
        afi: u16::from(address_type.address_family()),
        safi: u8::from(address_type.subsequent_address_family()),
    }
}
