//! UPDATE: routes withdrawn and announced (RFC 4271 section 4.3).

use super::{Codec, reset};
use crate::notification::NotificationReason;
use crate::reaction::SessionReset;

/// An UPDATE whose fields were found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Update<'a> {
    withdrawn: &'a [u8],
    attributes: &'a [u8],
    nlri: &'a [u8],
}

/// Finds the fields. Lengths that go beyond the message leave the NLRI unknown (RFC 4271 section
/// 6.3, RFC 7606 section 3 b).
pub(super) fn decode<'a>(body: &'a [u8], _codec: &Codec) -> Result<Update<'a>, SessionReset> {
    let malformed = || reset(NotificationReason::MalformedAttributeList, &[]);
    let (withdrawn, rest) = counted(body).ok_or_else(malformed)?;
    let (attributes, nlri) = counted(rest).ok_or_else(malformed)?;
    Ok(Update { withdrawn, attributes, nlri })
}

/// The field behind a length of two octets, and what is behind it.
fn counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, behind) = bytes.split_first_chunk()?;
    behind.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}
