//! The numbers of rules: what status, `explain` and the stored route name a rule by.

use std::fmt;

/// A rule: one of the built-in ones below 32, or one of the configuration, whose place in the YAML
/// the plan's table knows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(u16);

macro_rules! built_in {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        impl RuleId {
            $($(#[$doc])* pub const $name: Self = Self($number);)*

            /// Every built-in rule with its name.
            const NAMES: &'static [(Self, &'static str)] = &[$((Self::$name, $text)),*];
        }
    };
}

built_in! {
    /// No rule decided: the policy's default did, or there is no policy and none is needed.
    DEFAULT = 0, "default";
    /// An external session of the front end has no policy in this direction (RFC 8212).
    NO_POLICY = 1, "no-policy";
    /// The AS path has more numbers than the plan allows.
    PATH_TOO_LONG = 2, "path-too-long";
    /// The AS path does not begin with the neighbour's AS (RFC 4271 section 6.3).
    FIRST_AS = 3, "first-as";
    /// Our own AS is in the path more often than `allowas-in` allows (RFC 4271 section 9.1.2).
    OWN_AS = 4, "own-as";
    /// We are the ORIGINATOR_ID, or our cluster is in the CLUSTER_LIST (RFC 4456 section 8).
    OWN_ROUTER = 5, "own-router";
    /// The next hop is nothing to send to, our own address, or not on the link shared with a
    /// neighbour that is one hop away (RFC 4271 section 6.3); on export, there is none to give.
    NEXT_HOP = 6, "next-hop";
    /// ONLY_TO_CUSTOMER forbids this way (RFC 9234 section 5).
    LEAK = 7, "leak";
    /// GRACEFUL_SHUTDOWN makes the route least preferred (RFC 8326).
    GRACEFUL_SHUTDOWN = 8, "graceful-shutdown";
    /// BLACKHOLE discards the route's traffic (RFC 7999).
    BLACKHOLE = 9, "blackhole";
    /// NO_ADVERTISE (RFC 1997).
    NO_ADVERTISE = 10, "no-advertise";
    /// NO_EXPORT (RFC 1997).
    NO_EXPORT = 11, "no-export";
    /// NO_EXPORT_SUBCONFED, which outside confederations says the same (RFC 1997).
    NO_EXPORT_SUBCONFED = 12, "no-export-subconfed";
    /// Learned from an internal neighbour, for an internal one, and neither is our client
    /// (RFC 4271 section 9.2, RFC 4456 section 6).
    NOT_REFLECTED = 13, "not-reflected";
    /// The domain's own subnet or a part of it.
    TENANT_IMPORT_SUBNET = 14, "tenant-import-subnet";
    /// Of the space of provider addresses.
    TENANT_IMPORT_PROVIDER = 15, "tenant-import-provider";
    /// Of the space of front-end addresses.
    TENANT_IMPORT_FRONT_END = 16, "tenant-import-front-end";
    /// Nothing that can be forwarded to.
    TENANT_IMPORT_MARTIAN = 17, "tenant-import-martian";
    /// A default route, without `accept_default`.
    TENANT_IMPORT_DEFAULT = 18, "tenant-import-default";
    /// A prefix of the tunnel's other side that the tenant sees as another one.
    TENANT_IMPORT_UNTRANSLATED = 19, "tenant-import-untranslated";
    /// The domain's subnet.
    TENANT_EXPORT_SUBNET = 20, "tenant-export-subnet";
    /// A static route: announced if marked so, and not otherwise.
    TENANT_EXPORT_STATIC = 21, "tenant-export-static";
    /// A prefix as the other side of a tunnel sees it: for that tunnel's neighbours only.
    TENANT_EXPORT_TRANSLATED = 22, "tenant-export-translated";
    /// What another neighbour of the tenant taught.
    TENANT_EXPORT_LEARNED = 23, "tenant-export-learned";
    /// A prefix that the tunnel's other side sees as another one.
    TENANT_EXPORT_UNTRANSLATED = 24, "tenant-export-untranslated";
    /// Nothing that belongs on the public side.
    FRONT_END_IMPORT_MARTIAN = 25, "front-end-import-martian";
    /// Of our own public addresses.
    FRONT_END_IMPORT_OWN = 26, "front-end-import-own";
}

impl RuleId {
    /// The first number of a configured rule.
    const CONFIGURED: u16 = 32;

    /// How many configured rules there can be.
    pub const CONFIGURED_MAX: usize = (u16::MAX - Self::CONFIGURED) as usize + 1;

    /// The configured rule with this index in the plan's table; none beyond
    /// [`CONFIGURED_MAX`](Self::CONFIGURED_MAX).
    #[must_use]
    pub fn configured(index: usize) -> Option<Self> {
        let index = u16::try_from(index).ok()?;
        index.checked_add(Self::CONFIGURED).map(Self)
    }

    /// The index in the plan's table; none of a built-in rule.
    #[must_use]
    pub fn index(self) -> Option<usize> {
        self.0.checked_sub(Self::CONFIGURED).map(usize::from)
    }

    /// The name of a built-in rule.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        Self::NAMES.iter().find(|(id, _)| *id == self).map(|(_, name)| *name)
    }
}

/// The name of a built-in rule, the index of a configured one behind `#`.
impl fmt::Display for RuleId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.name(), self.index()) {
            (Some(name), _) => formatter.write_str(name),
            (None, Some(index)) => write!(formatter, "#{index}"),
            (None, None) => write!(formatter, "built-in {}", self.0),
        }
    }
}

impl fmt::Debug for RuleId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_rules_are_below_the_configured_ones_and_each_has_a_number_and_a_name() {
        for (index, (id, name)) in RuleId::NAMES.iter().enumerate() {
            assert_eq!((usize::from(id.0), id.name(), id.index()), (index, Some(*name), None));
            assert!(id.0 < RuleId::CONFIGURED);
            assert_eq!(RuleId::NAMES.iter().filter(|(_, other)| other == name).count(), 1);
        }
    }

    #[test]
    fn configured_rules_end_where_two_bytes_end() {
        let last = RuleId::CONFIGURED_MAX - 1;
        for index in [0, 1, last] {
            let id = RuleId::configured(index).unwrap();
            assert_eq!((id.index(), id.name()), (Some(index), None));
        }
        assert_eq!(RuleId::configured(last + 1), None);
        assert_eq!(RuleId::configured(usize::MAX), None);
        assert_eq!(RuleId::configured(7).unwrap().to_string(), "#7");
        assert_eq!(RuleId::OWN_AS.to_string(), "own-as");
    }
}
