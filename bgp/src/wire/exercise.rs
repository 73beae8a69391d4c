//! What a fuzzer does to this module: any bytes in, all that they say read and sent again.

use super::{
    AttributeBlock, Codec, Message, MessageLimit, NeighborKind, Nlris, Update, UpdatePacker,
    decode, encode_notification, encode_open, encode_refresh, frame,
};
use crate::as_path::AsnWidth;
use crate::attributes::Attributes;
use crate::family::Family;
use crate::nlri::Nlri;

/// Takes `data` for a codec of two bytes and the stream of a peer with it. What is understood is
/// encoded and decoded again.
///
/// # Panics
///
/// What was decoded again is not what was encoded: an error in this module.
pub fn exercise(data: &[u8]) {
    let Some((choice, mut stream)) = data.split_first_chunk() else { return };
    let codec = codec(*choice);
    while let Ok(Some(whole)) = frame(stream, codec.max_message) {
        stream = &stream[whole.bytes().len()..];
        if let Ok(message) = decode(whole, &codec) {
            send_again(&message, &codec);
        }
    }
}

fn codec([low, high]: [u8; 2]) -> Codec {
    let bit = |index: u32| u16::from_be_bytes([high, low]) >> index & 1 != 0;
    let paths = [bit(0), bit(1)];
    Codec {
        asn_width: if bit(2) { AsnWidth::Two } else { AsnWidth::Four },
        max_message: if bit(3) { MessageLimit::Extended } else { MessageLimit::Standard },
        add_path_in: paths,
        add_path_out: paths,
        families: [!bit(4), !bit(5)],
        ipv6_next_hop: bit(6),
        neighbor: if bit(7) { NeighborKind::Internal } else { NeighborKind::External },
        accept_as_set: bit(8),
    }
}

fn send_again(message: &Message<'_>, codec: &Codec) {
    let mut out = Vec::new();
    match message {
        Message::Update(update) => return send_update_again(update, codec),
        Message::Open(open) => {
            let open = super::Open { ignored_capabilities: 0, ..open.clone() };
            // Parameters with lengths of two octets hold more than is sent with one parameter.
            if encode_open(&open, &mut out).is_ok() {
                assert_same(&out, codec, &Message::Open(open));
            }
            return;
        }
        Message::Notification(notification) => {
            encode_notification(notification, codec.max_message, &mut out);
        }
        Message::Keepalive => super::encode_keepalive(&mut out),
        Message::Refresh(refresh) => encode_refresh(*refresh, &mut out),
    }
    assert_same(&out, codec, message);
}

fn assert_same(bytes: &[u8], codec: &Codec, expected: &Message<'_>) {
    let whole = frame(bytes, codec.max_message).expect("what is sent is framed").expect("whole");
    assert_eq!(whole.bytes(), bytes);
    assert_eq!(decode(whole, codec).as_ref(), Ok(expected));
}

fn send_update_again(update: &Update<'_>, codec: &Codec) {
    for family in Family::ALL {
        let routes: Vec<Nlri> = update.withdrawn().filter(|nlri| nlri.family() == family).collect();
        let mut out = Vec::new();
        UpdatePacker::new(&mut out, codec).withdraw(family, routes.iter().copied());
        let (withdrawn, announced) = received(&out, codec);
        assert_eq!((withdrawn, announced), (routes, Vec::new()));
    }
    for group in update.announced() {
        assert!(!group.routes.is_empty() && codec.families[group.routes.family().index()]);
        announce_again(group.attributes, group.routes, codec);
    }
}

fn announce_again(attributes: &Attributes, routes: Nlris<'_>, codec: &Codec) {
    // With the flags and next hop of the usual form they may become longer than what came.
    let Ok(block) = AttributeBlock::new(attributes, routes.family(), codec) else { return };
    let mut out = Vec::new();
    UpdatePacker::new(&mut out, codec).announce(&block, routes);
    let (withdrawn, announced) = received(&out, codec);
    let expected: Vec<_> = routes.map(|nlri| (attributes.clone(), nlri)).collect();
    assert_eq!((withdrawn, announced), (Vec::new(), expected));
}

/// What the UPDATEs in `bytes` withdraw and announce.
pub(super) fn received(bytes: &[u8], codec: &Codec) -> (Vec<Nlri>, Vec<(Attributes, Nlri)>) {
    let (mut withdrawn, mut announced) = (Vec::new(), Vec::new());
    let mut stream = bytes;
    while !stream.is_empty() {
        let whole = frame(stream, codec.max_message).expect("what is sent is framed");
        let whole = whole.expect("what is sent is whole");
        stream = &stream[whole.bytes().len()..];
        let Ok(Message::Update(update)) = decode(whole, codec) else { panic!("no update") };
        assert_eq!((update.defects(), update.foreign_family()), (&[][..], None));
        withdrawn.extend(update.withdrawn());
        for group in update.announced() {
            announced.extend(group.routes.map(|nlri| (group.attributes.clone(), nlri)));
        }
    }
    (withdrawn, announced)
}
