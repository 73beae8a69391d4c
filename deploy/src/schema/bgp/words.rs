//! What is written as one word of a few.

use nvgate_bgp::policy::SourceKind;
use serde_json::{Value, json};

use crate::schema::decode::{Scalar, hint, quoted};
use crate::schema::scalar::words;

words! {
    /// The families whose routes are exchanged.
    FamilyName {
        /// IPv4 unicast.
        Ipv4 = "ipv4",
        /// IPv6 unicast.
        Ipv6 = "ipv6",
    }
}

words! {
    /// What survives a restart.
    RestartMode {
        /// Nothing.
        Off = "off",
        /// The peer's routes.
        Helper = "helper",
        /// Both sides' routes.
        Full = "full",
    }
}

words! {
    /// What becomes of private AS numbers.
    PrivateAs {
        /// They stay.
        Keep = "keep",
        /// They go if there are no others.
        RemoveIfAll = "remove-if-all",
        /// They go.
        Remove = "remove",
        /// The gateway's takes their places.
        Replace = "replace",
    }
}

words! {
    /// The next hop of what a peer is sent.
    NextHopKind {
        /// The gateway.
        Own = "self",
        /// The one that the route has.
        Unchanged = "unchanged",
    }
}

words! {
    /// What becomes of a route that a rule matches.
    ThenWord {
        /// It is let through.
        Accept = "accept",
        /// It is not.
        Reject = "reject",
        /// The next rule is asked.
        Next = "next",
    }
}

words! {
    /// What becomes of a route that no rule decides about.
    VerdictWord {
        /// It is let through.
        Accept = "accept",
        /// It is not.
        Reject = "reject",
    }
}

words! {
    /// How alike paths are that are used side by side.
    MultipathAlike {
        /// The same.
        Exact = "exact",
        /// Of the same neighbour AS and length.
        Neighbor = "neighbor",
        /// Of the same length.
        Length = "length",
    }
}

words! {
    /// What the front end never learns.
    LearnedMartians {
        /// What is not globally reachable.
        NotGlobal = "not-global",
        /// What cannot be forwarded.
        Unforwardable = "unforwardable",
    }
}

words! {
    /// Where a route comes from.
    SourceName {
        /// A subnet, a leased address.
        Local = "local",
        /// A static route.
        Static = "static",
        /// A static route that is announced.
        AnnouncedStatic = "announced-static",
        /// A prefix as a site sees it.
        Translated = "translated",
        /// eBGP.
        External = "external",
        /// iBGP.
        Internal = "internal",
    }
}

impl SourceName {
    pub(crate) const fn kind(self) -> SourceKind {
        match self {
            Self::Local => SourceKind::Local,
            Self::Static => SourceKind::Static,
            Self::AnnouncedStatic => SourceKind::AnnouncedStatic,
            Self::Translated => SourceKind::Translated,
            Self::External => SourceKind::External,
            Self::Internal => SourceKind::Internal,
        }
    }
}
