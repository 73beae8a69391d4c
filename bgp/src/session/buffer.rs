//! Bytes of one connection that wait: received ones for [`Session::poll_message`], ours for TCP.
//! Both are bounded, and unallocated when nothing waits.
//!
//! [`Session::poll_message`]: super::Session::poll_message

use std::ops::Range;

/// The most received bytes that wait; an extended message always fits.
pub const READ_BUFFER: usize = 128 << 10;
/// The most bytes that UPDATEs may fill of what waits to be sent.
pub const WRITE_BUFFER: usize = 128 << 10;
/// The bytes beyond it that only KEEPALIVE, NOTIFICATION and ROUTE-REFRESH may use.
pub const WRITE_RESERVE: usize = 8 << 10;

/// The most bytes of a NOTIFICATION of ours: room is always left for one.
const LAST_WORD: usize = 4096;
/// Where in a message its length stands (RFC 4271 section 4.1).
const LENGTH: Range<usize> = 16..18;

/// What came and was not looked at.
#[derive(Debug, Default)]
pub(super) struct ReadBuffer {
    bytes: Vec<u8>,
    start: usize,
}

/// What TCP has not taken yet.
#[derive(Debug, Default)]
pub(super) struct WriteBuffer {
    bytes: Vec<u8>,
    /// Where the first message begins of which TCP has not taken all.
    front: usize,
    /// Where the first byte is that TCP has not taken.
    start: usize,
}

impl ReadBuffer {
    pub(super) fn room(&self) -> usize {
        READ_BUFFER - self.waiting().len()
    }

    /// Takes as many bytes as there is room for; how many.
    pub(super) fn put(&mut self, bytes: &[u8]) -> usize {
        let taken = &bytes[..bytes.len().min(self.room())];
        // What is moved is less than what was polled, so memory is twice the bound at most.
        if self.start * 2 >= self.bytes.len() {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(taken);
        taken.len()
    }

    pub(super) fn waiting(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Moves on by one message of so many bytes; where it is until the next [`put`](Self::put).
    pub(super) fn take(&mut self, length: usize) -> Range<usize> {
        let start = self.start;
        self.start = (start + length).min(self.bytes.len());
        start..self.start
    }

    /// The bytes of a message that was taken.
    pub(super) fn taken(&self, message: Range<usize>) -> &[u8] {
        &self.bytes[message]
    }

    /// Gives memory back if nothing waits.
    pub(super) fn rest(&mut self) {
        if self.start == self.bytes.len() {
            *self = Self::default();
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl WriteBuffer {
    pub(super) fn waiting(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting().is_empty()
    }

    /// The bytes that UPDATEs may fill.
    pub(super) fn room(&self) -> usize {
        WRITE_BUFFER.saturating_sub(self.waiting().len())
    }

    /// Whether so many bytes of a control message fit and a NOTIFICATION still would.
    pub(super) fn has_reserve(&self, length: usize) -> bool {
        self.waiting().len() + length <= WRITE_BUFFER + WRITE_RESERVE - LAST_WORD
    }

    /// What `put` appends, which must be whole messages.
    pub(super) fn append(&mut self, put: impl FnOnce(&mut Vec<u8>)) -> &[u8] {
        if self.front * 2 >= self.bytes.len() {
            self.bytes.drain(..self.front);
            self.start -= self.front;
            self.front = 0;
        }
        let end = self.bytes.len();
        put(&mut self.bytes);
        &self.bytes[end..]
    }

    /// TCP took so many bytes; never more count than waited.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.start = (self.start + bytes).min(self.bytes.len());
        if self.is_empty() {
            *self = Self::default();
            return;
        }
        while let Some(length) = message_length(&self.bytes[self.front..])
            && self.front + length <= self.start
        {
            self.front += length;
        }
    }

    /// Forgets every message that TCP has no part of.
    pub(super) fn cut(&mut self) {
        let end = match message_length(&self.bytes[self.front..]) {
            Some(length) if self.start > self.front => self.front + length,
            Some(_) | None => self.start,
        };
        self.bytes.truncate(end);
    }
}

/// The length that the first message's header says; none if there is no whole header or it says
/// less than a header, so that a walk always moves on.
pub(super) fn message_length(bytes: &[u8]) -> Option<usize> {
    let length = bytes.get(LENGTH)?;
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    (length >= 19).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{encode_keepalive, encode_notification};
    use crate::{Notification, NotificationReason};

    #[test]
    fn received_bytes_are_bounded_and_keep_their_order() {
        let mut buffer = ReadBuffer::default();
        let bytes: Vec<u8> = (0..READ_BUFFER + 9).map(|index| index as u8).collect();
        assert_eq!(buffer.put(&bytes), READ_BUFFER);
        assert_eq!((buffer.room(), buffer.put(&bytes)), (0, 0));
        let message = buffer.take(1000);
        assert_eq!(buffer.taken(message), &bytes[..1000]);
        assert_eq!(buffer.room(), 1000);
        assert_eq!(buffer.put(&bytes[READ_BUFFER..]), 9);
        assert_eq!(buffer.waiting(), &bytes[1000..]);
        assert!(buffer.bytes.len() <= 2 * READ_BUFFER);
    }

    #[test]
    fn nothing_that_waits_takes_no_memory() {
        let mut buffer = ReadBuffer::default();
        buffer.put(&[7; 100]);
        buffer.take(60);
        buffer.rest();
        assert_eq!(buffer.waiting(), [7; 40]);
        buffer.take(40);
        buffer.rest();
        assert_eq!(buffer.bytes.capacity(), 0);

        let mut output = WriteBuffer::default();
        output.append(encode_keepalive);
        output.sent(19);
        assert_eq!(output.bytes.capacity(), 0);
    }

    #[test]
    fn a_last_word_overtakes_what_tcp_has_no_part_of() {
        let notification = Notification::new(NotificationReason::Cease, &[]);
        let mut bytes = Vec::new();
        encode_keepalive(&mut bytes);
        let put = |out: &mut Vec<u8>| {
            encode_notification(&notification, crate::wire::MessageLimit::Standard, out);
        };
        for (sent, kept) in [(0, 0), (1, 18), (18, 1), (19, 0), (25, 13), (38, 0), (56, 1)] {
            let mut output = WriteBuffer::default();
            output.append(|out| out.extend_from_slice(&bytes.repeat(3)));
            output.sent(sent);
            output.cut();
            output.append(put);
            let mut expected = bytes[19 - kept..].to_vec();
            put(&mut expected);
            assert_eq!(output.waiting(), expected, "{sent} bytes sent");
        }
    }

    #[test]
    fn what_was_sent_is_dropped_from_memory_while_more_comes() {
        let mut output = WriteBuffer::default();
        for _ in 0..10_000 {
            output.append(encode_keepalive);
            output.append(encode_keepalive);
            output.sent(30);
            output.append(|_| ());
            output.sent(output.waiting().len() - 5);
            assert!(output.bytes.len() < 200, "{}", output.bytes.len());
        }
    }

    #[test]
    fn the_reserve_always_leaves_room_for_a_notification() {
        let mut output = WriteBuffer::default();
        output.append(|out| out.resize(WRITE_BUFFER, 0xFF));
        assert_eq!(output.room(), 0);
        assert!(
            output.has_reserve(WRITE_RESERVE - 4096) && !output.has_reserve(WRITE_RESERVE - 4095)
        );
    }
}
