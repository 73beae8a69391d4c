//! OPEN: who the other end is and what it can do (RFC 4271 section 4.2).

use std::net::Ipv4Addr;

use nvgate_model::Asn;

use super::capability::{AddPathMode, Capability, ExtendedNextHop, GracefulRestart};
use super::header::{MessageType, begin, end};
use super::{MessageLimit, reset};
use crate::family::Family;
use crate::notification::NotificationReason;
use crate::reaction::SessionReset;

/// An OPEN message. The AS is the real one: the capability's, where there is one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Open {
    /// The AS of the sender; never 0 (RFC 7607 section 2).
    pub asn: Asn,
    /// The hold time that the sender proposes: 0, or at least 3 s.
    pub hold_time_secs: u16,
    /// The BGP identifier; never 0.0.0.0 (RFC 6286 section 2.1).
    pub identifier: Ipv4Addr,
    /// The capabilities in their order, equal ones once.
    pub capabilities: Vec<Capability>,
    /// How many capabilities were ignored: known ones with an impossible value, and those beyond
    /// [`CAPABILITIES_MAX`](Self::CAPABILITIES_MAX). Not sent.
    pub ignored_capabilities: u16,
}

/// Capabilities that no OPEN has room for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OpenTooLong {
    /// The value of one.
    #[error("capability {code} has {length} bytes, more than 255")]
    Capability {
        /// Its code.
        code: u8,
        /// The bytes of its value.
        length: usize,
    },
    /// All together.
    #[error("OPEN has {0} bytes, more than 4096")]
    Message(usize),
}

const VERSION: u8 = 4;
/// The optional parameter that holds capabilities (RFC 5492 section 4).
const CAPABILITIES: u8 = 2;
/// As the type of the first parameter: lengths have two octets (RFC 9072 section 2).
const EXTENDED: u8 = 255;

impl Open {
    /// The most capabilities that are kept of an OPEN.
    pub const CAPABILITIES_MAX: usize = 64;

    /// Whether the capability with exactly this value is announced.
    #[must_use]
    pub fn announces(&self, capability: &Capability) -> bool {
        self.capabilities.contains(capability)
    }

    /// The longest message that who sends this takes (RFC 8654 section 4).
    #[must_use]
    pub fn longest_message(&self) -> MessageLimit {
        if self.announces(&Capability::ExtendedMessage) {
            MessageLimit::Extended
        } else {
            MessageLimit::Standard
        }
    }

    /// Whether AS numbers of four octets are announced.
    #[must_use]
    pub fn has_four_octet_asn(&self) -> bool {
        self.announces(&Capability::FourOctetAsn(self.asn))
    }

    /// The families whose routes the sender exchanges, by index: IPv4 unicast if it announces none
    /// at all.
    #[must_use]
    pub fn families(&self) -> [bool; 2] {
        let mut announced = self.capabilities.iter().map(Capability::code);
        if !announced.any(|code| code == Capability::family(Family::Ipv4Unicast).code()) {
            return [true, false];
        }
        Family::ALL.map(|family| self.announces(&Capability::family(family)))
    }

    /// What the sender can do with path identifiers of this family; the last that it says counts.
    #[must_use]
    pub fn add_path(&self, family: Family) -> Option<AddPathMode> {
        self.capabilities.iter().rev().find_map(|capability| {
            let Capability::AddPath(entries) = capability else { return None };
            let last = entries.iter().rfind(|(afi_safi, _)| afi_safi.family() == Some(family));
            last.map(|(_, mode)| *mode)
        })
    }

    /// How the sender restarts; the last that it says counts (RFC 4724 section 3).
    #[must_use]
    pub fn graceful_restart(&self) -> Option<&GracefulRestart> {
        self.capabilities.iter().rev().find_map(|capability| {
            let Capability::GracefulRestart(restart) = capability else { return None };
            Some(restart)
        })
    }

    /// Whether IPv4 routes with IPv6 next hops are announced (RFC 8950).
    #[must_use]
    pub fn has_ipv6_next_hop(&self) -> bool {
        self.capabilities.iter().any(|capability| {
            matches!(capability, Capability::ExtendedNextHop(entries)
                if entries.contains(&ExtendedNextHop::IPV4_VIA_IPV6))
        })
    }

    /// The number of the sender's role.
    ///
    /// # Errors
    ///
    /// It announces two different ones (RFC 9234 section 4.2).
    pub fn role(&self) -> Result<Option<u8>, SessionReset> {
        let mut found = None;
        for capability in &self.capabilities {
            if let Capability::Role(role) = capability
                && found.replace(*role).is_some()
            {
                return Err(reset(NotificationReason::RoleMismatch, &[]));
            }
        }
        Ok(found)
    }
}

/// Appends an OPEN. What is in the two octets for the AS is AS_TRANS, if the AS has no room there
/// (RFC 6793 section 9): then the capability must be among those given. More than 255 bytes of capabilities are sent as RFC 9072 says.
///
/// # Errors
///
/// The capabilities have no room; nothing is appended.
pub fn encode_open(open: &Open, out: &mut Vec<u8>) -> Result<(), OpenTooLong> {
    let start = out.len();
    let encoded = put_open(open, out);
    if encoded.is_err() {
        out.truncate(start);
    }
    encoded
}

fn put_open(open: &Open, out: &mut Vec<u8>) -> Result<(), OpenTooLong> {
    let capabilities = capabilities(&open.capabilities)?;
    let start = begin(MessageType::Open, out);
    out.push(VERSION);
    out.extend_from_slice(&open.asn.in_two_octets().to_be_bytes());
    out.extend_from_slice(&open.hold_time_secs.to_be_bytes());
    out.extend_from_slice(&open.identifier.octets());
    match (capabilities.len(), u8::try_from(capabilities.len() + 2)) {
        (0, _) => out.push(0),
        (length, Ok(parameters)) if parameters != EXTENDED => {
            out.extend_from_slice(&[parameters, CAPABILITIES, length as u8]);
        }
        (length, _) => {
            let [high, low] = (length as u16).to_be_bytes();
            let [all_high, all_low] = (length as u16).wrapping_add(3).to_be_bytes();
            out.extend_from_slice(&[EXTENDED, EXTENDED, all_high, all_low]);
            out.extend_from_slice(&[CAPABILITIES, high, low]);
        }
    }
    out.extend_from_slice(&capabilities);
    let length = out.len() - start;
    if length > MessageLimit::Standard.bytes() {
        return Err(OpenTooLong::Message(length));
    }
    end(start, out);
    Ok(())
}

fn capabilities(capabilities: &[Capability]) -> Result<Vec<u8>, OpenTooLong> {
    let mut bytes = Vec::new();
    for capability in capabilities {
        let code = capability.code();
        let start = bytes.len();
        bytes.extend_from_slice(&[code, 0]);
        capability.put(&mut bytes);
        let length = bytes.len() - start - 2;
        bytes[start + 1] =
            u8::try_from(length).map_err(|_| OpenTooLong::Capability { code, length })?;
    }
    Ok(bytes)
}

pub(super) fn decode(body: &[u8]) -> Result<Open, SessionReset> {
    let malformed = || reset(NotificationReason::Open, &[]);
    let (head, parameters) = body.split_first_chunk().ok_or_else(malformed)?;
    let &[version, as_high, as_low, hold_high, hold_low, a, b, c, d, length] = head;
    if version != VERSION {
        return Err(reset(NotificationReason::UnsupportedVersion, &[0, VERSION]));
    }
    let mut open = Open {
        asn: Asn(u32::from(u16::from_be_bytes([as_high, as_low]))),
        hold_time_secs: u16::from_be_bytes([hold_high, hold_low]),
        identifier: Ipv4Addr::new(a, b, c, d),
        capabilities: Vec::new(),
        ignored_capabilities: 0,
    };
    if matches!(open.hold_time_secs, 1 | 2) {
        return Err(reset(NotificationReason::UnacceptableHoldTime, &[]));
    }
    if open.identifier.is_unspecified() {
        return Err(reset(NotificationReason::BadIdentifier, &[]));
    }
    take_parameters(parameters, length, &mut open)?;
    open.asn = agreed_asn(&open)?;
    Ok(open)
}

/// The AS by the capability, which the two octets and others like it must agree with; AS_TRANS is
/// nobody's AS.
fn agreed_asn(open: &Open) -> Result<Asn, SessionReset> {
    let is_nobodys = |asn| asn == Asn::ZERO || asn == Asn::TRANS;
    let wrong = || reset(NotificationReason::BadPeerAs, &[]);
    let mut asn = open.asn;
    for capability in &open.capabilities {
        if let Capability::FourOctetAsn(four) = capability {
            if is_nobodys(*four) || asn != *four && asn != Asn::TRANS {
                return Err(wrong());
            }
            asn = *four;
        }
    }
    if is_nobodys(asn) { Err(wrong()) } else { Ok(asn) }
}

/// Optional parameters with lengths of one octet, or of two (RFC 9072 section 2). They must fill
/// the message.
fn take_parameters(bytes: &[u8], length: u8, open: &mut Open) -> Result<(), SessionReset> {
    let malformed = || reset(NotificationReason::Open, &[]);
    let extended = length != 0 && bytes.first() == Some(&EXTENDED);
    let (announced, mut rest) = if extended {
        let (&[_, high, low], rest) = bytes.split_first_chunk().ok_or_else(malformed)?;
        (usize::from(u16::from_be_bytes([high, low])), rest)
    } else {
        (usize::from(length), bytes)
    };
    if rest.len() != announced {
        return Err(malformed());
    }
    while !rest.is_empty() {
        let (kind, value, behind) = parameter(rest, extended).ok_or_else(malformed)?;
        if kind != CAPABILITIES {
            return Err(reset(NotificationReason::UnsupportedParameter, &[]));
        }
        take_capabilities(value, open).ok_or_else(malformed)?;
        rest = behind;
    }
    Ok(())
}

/// The type and value of the first parameter, and what is behind it.
fn parameter(bytes: &[u8], extended: bool) -> Option<(u8, &[u8], &[u8])> {
    let (kind, length, behind) = if extended {
        let (&[kind, high, low], behind) = bytes.split_first_chunk()?;
        (kind, u16::from_be_bytes([high, low]), behind)
    } else {
        let (&[kind, length], behind) = bytes.split_first_chunk()?;
        (kind, u16::from(length), behind)
    };
    let (value, behind) = behind.split_at_checked(usize::from(length))?;
    Some((kind, value, behind))
}

/// None if a capability ends behind the parameter.
fn take_capabilities(mut bytes: &[u8], open: &mut Open) -> Option<()> {
    while !bytes.is_empty() {
        let (code, value, behind) = parameter(bytes, false)?;
        bytes = behind;
        match Capability::from_wire(code, value) {
            Some(capability) if open.capabilities.contains(&capability) => {}
            Some(capability) if open.capabilities.len() < Open::CAPABILITIES_MAX => {
                open.capabilities.push(capability);
            }
            Some(_) | None => open.ignored_capabilities += 1,
        }
    }
    Some(())
}

#[cfg(test)]
mod tests;
