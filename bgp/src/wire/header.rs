//! The header of all messages, which finds where one ends and the next begins, and the messages
//! that are little more than a header.

use super::{MessageLimit, reset};
use crate::notification::{Notification, NotificationReason};
use crate::reaction::SessionReset;

/// The kinds of messages.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum MessageType {
    /// RFC 4271 section 4.2.
    Open = 1,
    /// RFC 4271 section 4.3.
    Update = 2,
    /// RFC 4271 section 4.5.
    Notification = 3,
    /// RFC 4271 section 4.4.
    Keepalive = 4,
    /// RFC 2918 section 3.
    RouteRefresh = 5,
}

/// One whole message, of which only the header was looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame<'a> {
    kind: MessageType,
    bytes: &'a [u8],
}

/// The bytes of the header (RFC 4271 section 4.1).
pub(super) const HEADER: usize = 19;
const MARKER: [u8; 16] = [0xFF; 16];

impl<'a> Frame<'a> {
    /// What the message is.
    #[must_use]
    pub const fn kind(self) -> MessageType {
        self.kind
    }

    /// The whole message with its header; its length is what the stream moves on by.
    #[must_use]
    pub const fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// What is behind the header.
    pub(super) fn body(self) -> &'a [u8] {
        &self.bytes[HEADER..]
    }
}

impl MessageType {
    const fn from_wire(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Open),
            2 => Some(Self::Update),
            3 => Some(Self::Notification),
            4 => Some(Self::Keepalive),
            5 => Some(Self::RouteRefresh),
            _ => None,
        }
    }

    /// The lengths that the message may have with its header (RFC 4271 section 6.1, RFC 8654
    /// section 4). That of ROUTE-REFRESH has a NOTIFICATION of its own (RFC 7313 section 5), but for
    /// one without a family.
    const fn lengths(self, limit: MessageLimit) -> (usize, usize) {
        match self {
            Self::Open => (29, MessageLimit::Standard.bytes()),
            Self::Update => (23, limit.bytes()),
            Self::Notification => (21, limit.bytes()),
            Self::Keepalive => (HEADER, HEADER),
            Self::RouteRefresh => (23, limit.bytes()),
        }
    }
}

/// The first message of `bytes`; none if it is not whole yet. A header that is wrong is found
/// before the rest arrives.
///
/// # Errors
///
/// The marker is not all ones, the length is none that the message can have, or the type is
/// unknown (RFC 4271 section 6.1).
pub fn frame(bytes: &[u8], limit: MessageLimit) -> Result<Option<Frame<'_>>, SessionReset> {
    let Some((header, _)) = bytes.split_first_chunk::<HEADER>() else { return Ok(None) };
    let [marker @ .., high, low, code] = header;
    if *marker != MARKER {
        return Err(reset(NotificationReason::ConnectionNotSynchronized, &[]));
    }
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let bad_length = || Err(reset(NotificationReason::BadMessageLength, &[*high, *low]));
    if length < HEADER || length > limit.bytes() {
        return bad_length();
    }
    let Some(kind) = MessageType::from_wire(*code) else {
        return Err(reset(NotificationReason::BadMessageType, &[*code]));
    };
    let (shortest, longest) = kind.lengths(limit);
    if length < shortest || length > longest {
        return bad_length();
    }
    Ok(bytes.get(..length).map(|bytes| Frame { kind, bytes }))
}

/// Appends a header whose length [`end`] fills in.
pub(super) fn begin(kind: MessageType, out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&MARKER);
    out.extend_from_slice(&[0, 0, kind as u8]);
    start
}

/// Fills in the length of the message that began at `start`: at most 65535 bytes.
pub(super) fn end(start: usize, out: &mut [u8]) {
    let length = (out.len() - start) as u16;
    out[start + MARKER.len()..][..2].copy_from_slice(&length.to_be_bytes());
}

/// Appends a KEEPALIVE.
pub fn encode_keepalive(out: &mut Vec<u8>) {
    let start = begin(MessageType::Keepalive, out);
    end(start, out);
}

/// Appends a NOTIFICATION. Data that would make it longer than `limit` is cut.
pub fn encode_notification(notification: &Notification, limit: MessageLimit, out: &mut Vec<u8>) {
    let start = begin(MessageType::Notification, out);
    let (code, subcode) = notification.reason.to_wire();
    out.extend_from_slice(&[code, subcode]);
    let room = limit.bytes() - HEADER - 2;
    out.extend_from_slice(&notification.data[..notification.data.len().min(room)]);
    end(start, out);
}

/// The NOTIFICATION with this body. The header's check has seen that it has code and subcode.
pub(super) fn notification(body: &[u8]) -> Result<Notification, SessionReset> {
    let Some((&[code, subcode], data)) = body.split_first_chunk() else {
        return Err(reset(NotificationReason::BadMessageLength, &[]));
    };
    Ok(Notification::new(NotificationReason::from_wire(code, subcode), data))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Codec, Message, NeighborKind, decode};

    fn header(length: u16, code: u8) -> Vec<u8> {
        [&MARKER[..], &length.to_be_bytes(), &[code]].concat()
    }

    fn refused(bytes: &[u8], limit: MessageLimit) -> Notification {
        frame(bytes, limit).expect_err("the header is wrong").notification
    }

    #[test]
    fn a_message_is_framed_when_it_is_whole() {
        let mut bytes = Vec::new();
        encode_keepalive(&mut bytes);
        assert_eq!(bytes, header(19, 4));
        for length in 0..19 {
            assert_eq!(frame(&bytes[..length], MessageLimit::Standard), Ok(None));
        }
        let notification = Notification::new(NotificationReason::HoldTimerExpired, &[7, 8]);
        encode_notification(&notification, MessageLimit::Standard, &mut bytes);
        let first = frame(&bytes, MessageLimit::Standard).unwrap().unwrap();
        assert_eq!((first.kind(), first.bytes()), (MessageType::Keepalive, &bytes[..19]));
        assert_eq!(frame(&bytes[19..41], MessageLimit::Standard), Ok(None));
        let second = frame(&bytes[19..], MessageLimit::Standard).unwrap().unwrap();
        assert_eq!(second.bytes(), [&header(23, 3)[..], &[4, 0, 7, 8]].concat());
        let codec = Codec::initial(NeighborKind::External);
        assert_eq!(decode(first, &codec), Ok(Message::Keepalive));
        assert_eq!(decode(second, &codec), Ok(Message::Notification(notification)));
    }

    #[test]
    fn a_wrong_marker_length_or_type_is_refused_by_the_header_alone() {
        use MessageLimit::{Extended, Standard};
        for at in 0..16 {
            let mut bytes = header(19, 4);
            bytes[at] = 0xFE;
            let expected = Notification::new(NotificationReason::ConnectionNotSynchronized, &[]);
            assert_eq!(refused(&bytes, Standard), expected);
        }
        for (length, code, limit) in [
            (0_u16, 4, Standard),
            (18, 4, Standard),
            (18, 99, Standard),
            (20, 4, Standard),
            (4097, 2, Standard),
            (4097, 99, Standard),
            (28, 1, Standard),
            (4097, 1, Extended),
            (20, 4, Extended),
            (22, 2, Standard),
            (20, 3, Standard),
            (22, 5, Standard),
        ] {
            let reason = NotificationReason::BadMessageLength;
            let expected = Notification::new(reason, &length.to_be_bytes());
            assert_eq!(refused(&header(length, code), limit), expected, "{length} {code}");
        }
        for code in [0, 6, 255] {
            let expected = Notification::new(NotificationReason::BadMessageType, &[code]);
            assert_eq!(refused(&header(19, code), Standard), expected);
        }
    }

    #[test]
    fn lengths_at_the_bounds_are_waited_for() {
        use MessageLimit::{Extended, Standard};
        for (length, code, limit) in [
            (29, 1, Standard),
            (4096, 1, Extended),
            (23, 2, Standard),
            (4096, 2, Standard),
            (65_535, 2, Extended),
            (21, 3, Standard),
            (65_535, 3, Extended),
            (23, 5, Standard),
        ] {
            assert_eq!(frame(&header(length, code), limit), Ok(None), "{length} {code}");
        }
    }

    #[test]
    fn data_of_a_notification_is_cut_at_the_limit() {
        let notification = Notification::new(NotificationReason::Update, &[7; 70_000]);
        for limit in [MessageLimit::Standard, MessageLimit::Extended] {
            let mut bytes = vec![1];
            encode_notification(&notification, limit, &mut bytes);
            assert_eq!(bytes.len() - 1, limit.bytes());
            let whole = frame(&bytes[1..], limit).unwrap().unwrap();
            assert_eq!(whole.bytes(), &bytes[1..]);
        }
    }
}
