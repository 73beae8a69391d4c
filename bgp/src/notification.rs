//! NOTIFICATION: why a session ends. Codes and subcodes by their names, and the text for humans
//! that a shutdown may carry (RFC 9003).

use std::fmt;

/// A NOTIFICATION message (RFC 4271 section 4.5).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Notification {
    /// Code and subcode.
    pub reason: NotificationReason,
    /// What the reason defines: often the offending bytes.
    pub data: Box<[u8]>,
}

/// A text that a shutdown cannot carry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("shutdown text has {0} bytes, more than 255")]
pub struct InvalidShutdownText(pub usize);

/// Makes the enum of all reasons from one table: variant, code, subcode, text, where it is defined.
macro_rules! reasons {
    ($($variant:ident = ($code:literal, $subcode:literal, $text:literal, $source:literal),)+) => {
        /// A code with a subcode, by name; subcode 0 is "unspecific" (RFC 4271 section 4.5).
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum NotificationReason {
            $(#[doc = concat!("Code ", $code, ", subcode ", $subcode, " (", $source, ").")] $variant,)+
            /// A code or subcode that has no name here.
            Unknown {
                /// The code.
                code: u8,
                /// The subcode.
                subcode: u8,
            },
        }

        impl NotificationReason {
            #[cfg(test)]
            const NAMED: &[Self] = &[$(Self::$variant),+];

            /// The reason with these numbers.
            #[must_use]
            pub const fn from_wire(code: u8, subcode: u8) -> Self {
                match (code, subcode) {
                    $(($code, $subcode) => Self::$variant,)+
                    (code, subcode) => Self::Unknown { code, subcode },
                }
            }

            /// Code and subcode.
            #[must_use]
            pub const fn to_wire(self) -> (u8, u8) {
                match self {
                    $(Self::$variant => ($code, $subcode),)+
                    Self::Unknown { code, subcode } => (code, subcode),
                }
            }

            /// The text of a reason that has a name.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$variant => Some($text),)+
                    Self::Unknown { .. } => None,
                }
            }
        }
    };
}

reasons! {
    MessageHeader = (1, 0, "message header error", "RFC 4271 section 6.1"),
    ConnectionNotSynchronized = (1, 1, "connection not synchronized", "RFC 4271 section 6.1"),
    BadMessageLength = (1, 2, "bad message length", "RFC 4271 section 6.1"),
    BadMessageType = (1, 3, "bad message type", "RFC 4271 section 6.1"),
    Open = (2, 0, "OPEN message error", "RFC 4271 section 6.2"),
    UnsupportedVersion = (2, 1, "unsupported version number", "RFC 4271 section 6.2"),
    BadPeerAs = (2, 2, "bad peer AS", "RFC 4271 section 6.2"),
    BadIdentifier = (2, 3, "bad BGP identifier", "RFC 4271 section 6.2"),
    UnsupportedParameter = (2, 4, "unsupported optional parameter", "RFC 4271 section 6.2"),
    UnacceptableHoldTime = (2, 6, "unacceptable hold time", "RFC 4271 section 6.2"),
    UnsupportedCapability = (2, 7, "unsupported capability", "RFC 5492 section 5"),
    RoleMismatch = (2, 11, "role mismatch", "RFC 9234 section 4.2"),
    Update = (3, 0, "UPDATE message error", "RFC 4271 section 6.3"),
    MalformedAttributeList = (3, 1, "malformed attribute list", "RFC 4271 section 6.3"),
    UnrecognizedWellKnownAttribute =
        (3, 2, "unrecognized well-known attribute", "RFC 4271 section 6.3"),
    MissingWellKnownAttribute = (3, 3, "missing well-known attribute", "RFC 4271 section 6.3"),
    AttributeFlags = (3, 4, "attribute flags error", "RFC 4271 section 6.3"),
    AttributeLength = (3, 5, "attribute length error", "RFC 4271 section 6.3"),
    InvalidOrigin = (3, 6, "invalid ORIGIN attribute", "RFC 4271 section 6.3"),
    InvalidNextHop = (3, 8, "invalid NEXT_HOP attribute", "RFC 4271 section 6.3"),
    OptionalAttribute = (3, 9, "optional attribute error", "RFC 4271 section 6.3"),
    InvalidNetworkField = (3, 10, "invalid network field", "RFC 4271 section 6.3"),
    MalformedAsPath = (3, 11, "malformed AS_PATH", "RFC 4271 section 6.3"),
    HoldTimerExpired = (4, 0, "hold timer expired", "RFC 4271 section 6.5"),
    FiniteStateMachine = (5, 0, "finite state machine error", "RFC 4271 section 6.6"),
    UnexpectedInOpenSent = (5, 1, "unexpected message in OpenSent", "RFC 6608 section 3"),
    UnexpectedInOpenConfirm = (5, 2, "unexpected message in OpenConfirm", "RFC 6608 section 3"),
    UnexpectedInEstablished = (5, 3, "unexpected message in Established", "RFC 6608 section 3"),
    Cease = (6, 0, "cease", "RFC 4271 section 6.7"),
    MaximumPrefixes = (6, 1, "maximum number of prefixes reached", "RFC 4486 section 4"),
    AdministrativeShutdown = (6, 2, "administrative shutdown", "RFC 4486 section 4"),
    PeerDeconfigured = (6, 3, "peer de-configured", "RFC 4486 section 4"),
    AdministrativeReset = (6, 4, "administrative reset", "RFC 4486 section 4"),
    ConnectionRejected = (6, 5, "connection rejected", "RFC 4486 section 4"),
    OtherConfigurationChange = (6, 6, "other configuration change", "RFC 4486 section 4"),
    ConnectionCollision = (6, 7, "connection collision resolution", "RFC 4486 section 4"),
    OutOfResources = (6, 8, "out of resources", "RFC 4486 section 4"),
    HardReset = (6, 9, "hard reset", "RFC 8538 section 3"),
    BfdDown = (6, 10, "BFD down", "RFC 9384 section 3"),
    RouteRefresh = (7, 0, "ROUTE-REFRESH message error", "RFC 7313 section 5"),
    BadRefreshLength = (7, 1, "invalid ROUTE-REFRESH length", "RFC 7313 section 5"),
    SendHoldTimerExpired = (8, 0, "send hold timer expired", "RFC 9687 section 3"),
}

impl Notification {
    /// The most bytes of shutdown text (RFC 9003 section 2).
    pub const SHUTDOWN_TEXT_MAX: usize = 255;

    /// The message with this reason and data.
    #[must_use]
    pub fn new(reason: NotificationReason, data: &[u8]) -> Self {
        Self { reason, data: data.into() }
    }

    /// The message with a text for the humans at the other end; an empty one is left out. Defined
    /// for administrative shutdown and reset (RFC 9003 section 2).
    ///
    /// # Errors
    ///
    /// The text is longer than 255 bytes.
    pub fn with_text(reason: NotificationReason, text: &str) -> Result<Self, InvalidShutdownText> {
        let length = u8::try_from(text.len()).map_err(|_| InvalidShutdownText(text.len()))?;
        let data: Vec<u8> = match length {
            0 => Vec::new(),
            length => std::iter::once(length).chain(text.bytes()).collect(),
        };
        Ok(Self { reason, data: data.into_boxed_slice() })
    }

    /// The text that the other end sent with a shutdown or reset: control characters and what is
    /// not UTF-8 replaced, because it goes to logs and terminals (RFC 9003 sections 2 and 6).
    #[must_use]
    pub fn text(&self) -> Option<String> {
        let told = matches!(
            self.reason,
            NotificationReason::AdministrativeShutdown | NotificationReason::AdministrativeReset
        );
        let (&length, behind) = self.data.split_first().filter(|_| told)?;
        let text = String::from_utf8_lossy(behind.get(..usize::from(length))?);
        let printable = |letter: char| if letter.is_control() { '\u{FFFD}' } else { letter };
        (length > 0).then(|| text.chars().map(printable).collect())
    }

    /// This message as one that ends the session although graceful restart keeps routes over
    /// notifications: inside a Cease / Hard Reset (RFC 8538 section 3.1).
    #[must_use]
    pub fn hard_reset(&self) -> Self {
        let (code, subcode) = self.reason.to_wire();
        let data: Vec<u8> = [code, subcode].iter().chain(&self.data).copied().collect();
        Self { reason: NotificationReason::HardReset, data: data.into_boxed_slice() }
    }

    /// The message inside a Cease / Hard Reset.
    #[must_use]
    pub fn inside_hard_reset(&self) -> Option<Self> {
        let hard = self.reason == NotificationReason::HardReset;
        let (&[code, subcode], data) = self.data.split_first_chunk().filter(|_| hard)?;
        Some(Self::new(NotificationReason::from_wire(code, subcode), data))
    }
}

impl fmt::Display for NotificationReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = self.name() {
            return formatter.write_str(name);
        }
        let (code, subcode) = self.to_wire();
        match Self::from_wire(code, 0).name() {
            Some(name) => write!(formatter, "{name}, subcode {subcode}"),
            None => write!(formatter, "code {code}, subcode {subcode}"),
        }
    }
}

/// The reason, what is inside a hard reset, and the text if there is one.
impl fmt::Display for Notification {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(formatter)?;
        let inside = self.inside_hard_reset();
        if let Some(inside) = &inside {
            write!(formatter, " ({})", inside.reason)?;
        }
        match inside.as_ref().unwrap_or(self).text() {
            Some(text) => write!(formatter, ": \"{text}\""),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Notification {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Notification({self}, data {:02x?})", self.data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_its_numbers() {
        for reason in NotificationReason::NAMED {
            let (code, subcode) = reason.to_wire();
            assert_eq!(NotificationReason::from_wire(code, subcode), *reason);
        }
        // Deprecated: Authentication Failure and AS Routing Loop (RFC 4271 appendix A).
        for (code, subcode, text) in [
            (2, 5, "OPEN message error, subcode 5"),
            (3, 7, "UPDATE message error, subcode 7"),
            (200, 1, "code 200, subcode 1"),
        ] {
            let reason = NotificationReason::from_wire(code, subcode);
            assert_eq!(reason, NotificationReason::Unknown { code, subcode });
            assert_eq!(reason.to_string(), text);
        }
    }

    #[test]
    fn a_shutdown_text_is_sent_and_read() {
        let reason = NotificationReason::AdministrativeShutdown;
        let notification = Notification::with_text(reason, "Wartung bis 10\u{a0}Uhr").unwrap();
        assert_eq!(notification.data[0], 19);
        assert_eq!(
            notification.to_string(),
            "administrative shutdown: \"Wartung bis 10\u{a0}Uhr\""
        );
        assert_eq!(Notification::with_text(reason, "").unwrap().data.len(), 0);
        let long = "x".repeat(256);
        assert_eq!(Notification::with_text(reason, &long), Err(InvalidShutdownText(256)));
    }

    #[test]
    fn a_hostile_text_is_made_harmless_or_left_out() {
        let text =
            |data: &[u8]| Notification::new(NotificationReason::AdministrativeReset, data).text();
        assert_eq!(text(b"\x04a\x1b[b").as_deref(), Some("a\u{FFFD}[b"));
        assert_eq!(text(b"\x02\xFFb").as_deref(), Some("\u{FFFD}b"));
        for data in [&b""[..], b"\x00", b"\x05abc"] {
            assert_eq!(text(data), None, "{data:?}");
        }
        assert_eq!(Notification::new(NotificationReason::Cease, b"\x01a").text(), None);
    }

    #[test]
    fn a_hard_reset_carries_another_notification() {
        let reason = NotificationReason::AdministrativeReset;
        let inner = Notification::with_text(reason, "bye").unwrap();
        let hard = inner.hard_reset();
        assert_eq!(hard.reason.to_wire(), (6, 9));
        assert_eq!(hard.inside_hard_reset(), Some(inner.clone()));
        assert_eq!(hard.to_string(), "hard reset (administrative reset): \"bye\"");
        assert_eq!(inner.inside_hard_reset(), None);
    }
}
