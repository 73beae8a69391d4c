//! BGP as records: of a tenant's routing domain and of the front end, which differ in little. What
//! a peer is stands in [`peer`], what becomes of routes in [`policy`]; the texts of both in
//! [`scalar`] and [`words`].

mod peer;
mod policy;
mod scalar;
mod words;

use std::net::Ipv4Addr;

use nvgate_model::Asn;

use super::decode::{List, record};
use super::scalar::{Name, Number, Switch};

pub(crate) use peer::{MaxPrefixes, Peer, PrefixCount};
pub(crate) use policy::{
    AsList, AsPath, CommunityList, ListedPrefix, Match, Policy, PrefixList, Prepend, Rule, Set,
};
pub(crate) use scalar::{
    AsEntry, AsSpan, CommunityEntry, Either, NextHopSetting, PathsSent, PolicyName,
    PrefixReference, Shutdown,
};
pub(crate) use words::{
    FamilyName, LearnedMartians, MultipathAlike, NextHopKind, PrivateAs, RestartMode, ThenWord,
    VerdictWord,
};

/// Peers of one place, as far as the file goes; `limits` says how many may be.
pub(crate) const MAX_PEERS: usize = 4096;
/// Policies of one place, and lists of each kind.
pub(crate) const MAX_NAMED: usize = 1024;
/// Pools of which the front end announces the prefixes.
pub(crate) const MAX_AGGREGATES: usize = 64;

record! {
    /// BGP between the tenant's network and routers of the tenant: behind the overlay, or at its
    /// sites.
    TenantBgp, "`bgp`" {
        /// The tenant's own AS, 1 to 4294967294 without the reserved ones. Private ones are 64512 to
        /// 65534 and 4200000000 to 4294967294; two tenants may have the same.
        required asn: Asn,
        /// The gateway's BGP identifier in the domain. Default: its IPv4 address in the gateway
        /// subnet, else its lowest one.
        optional router_id: Ipv4Addr,
        /// The cluster that it reflects routes for (RFC 4456). Default: `router_id`.
        optional cluster_id: Ipv4Addr,
        /// `true`: peers may teach a default route, which then goes before the way out through NAT.
        /// Default: false.
        optional accept_default: Switch,
        /// The routers that it speaks with.
        required peers: List<Peer, 1, MAX_PEERS>,
        /// What becomes of routes, by the names that peers refer to.
        optional policies: List<Policy, 0, MAX_NAMED>,
        /// Prefixes that rules refer to by a name.
        optional prefix_lists: List<PrefixList, 0, MAX_NAMED>,
        /// Communities that rules refer to by a name.
        optional community_lists: List<CommunityList, 0, MAX_NAMED>,
        /// AS numbers that rules refer to by a name.
        optional as_lists: List<AsList, 0, MAX_NAMED>,
        /// Which of several routes is best.
        optional decision: Decision,
        /// What the tenant's routers may cost the gateway.
        optional limits: BgpLimits,
    }
}

record! {
    /// BGP with the routers of the front end, by the kernel's TCP.
    FrontEndBgp, "`bgp`" {
        /// The gateway's AS, 1 to 4294967294 without the reserved ones.
        required asn: Asn,
        /// The gateway's BGP identifier. Default: its IPv4 provider address.
        optional router_id: Ipv4Addr,
        /// The cluster that it reflects routes for (RFC 4456). Default: `router_id`.
        optional cluster_id: Ipv4Addr,
        /// What is announced, as far as the peers' `export` lets it out.
        optional announce: Announce,
        /// What is never learned: `not-global` is what the registries say is not globally reachable
        /// (private and documentation space among it), `unforwardable` only what cannot be forwarded
        /// at all. Default: not-global.
        optional martians: LearnedMartians,
        /// The routers that it speaks with.
        required peers: List<Peer, 1, MAX_PEERS>,
        /// What becomes of routes, by the names that peers refer to.
        optional policies: List<Policy, 0, MAX_NAMED>,
        /// Prefixes that rules refer to by a name.
        optional prefix_lists: List<PrefixList, 0, MAX_NAMED>,
        /// Communities that rules refer to by a name.
        optional community_lists: List<CommunityList, 0, MAX_NAMED>,
        /// AS numbers that rules refer to by a name.
        optional as_lists: List<AsList, 0, MAX_NAMED>,
        /// Which of several routes is best.
        optional decision: Decision,
        /// What the routers may cost the gateway.
        optional limits: BgpLimits,
    }
}

record! {
    /// What the front end announces; each only while its tenant is served.
    Announce, "`announce`" {
        /// The tenants' NAT addresses, one by one. Default: true.
        optional addresses: Switch,
        /// Pools that are announced as their prefixes, as long as one address is leased, instead of
        /// one by one. Default: none.
        optional aggregates: List<Name, 0, MAX_AGGREGATES>,
        /// The gateway's `shared_addresses`, one by one. Default: true.
        optional shared_addresses: Switch,
        /// The tenants' `front_end_prefixes`. Default: true.
        optional front_end_prefixes: Switch,
    }
}

record! {
    /// Which of several routes to a prefix is best, where RFC 4271 leaves a choice.
    Decision, "`decision`" {
        /// `true`: MEDs of different neighbour ASes compare, too. Default: false.
        optional always_compare_med: Switch,
        /// Routes used side by side at most, 1 to 64. Default: 1.
        optional multipath: Number<1, 64>,
        /// How alike their AS paths are: `exact`, `neighbor` (first AS and length) or `length`.
        /// Default: exact.
        optional multipath_path: MultipathAlike,
    }
}

record! {
    /// What peers may cost.
    BgpLimits, "`limits`" {
        /// Peers, with all that dynamic ranges admit, 1 to 4096. Default: 64.
        optional peers: Number<1, 4096>,
        /// Prefixes of both families, 1 to 16777216. Default: 10000 of a tenant, 4000000 of the
        /// front end.
        optional prefixes: Number<1, 16_777_216>,
        /// Memory of routes' attributes in MiB, 1 to 65536. Default: 64 of a tenant, 1024 of the
        /// front end.
        optional attributes_mib: Number<1, 65_536>,
        /// Routes a second that are taken from all peers together, 1 to 100000000. Default: 10000 of a
        /// tenant, unlimited on the front end.
        optional updates_per_sec: Number<1, 100_000_000>,
        /// AS numbers in a path, 1 to 1000; routes with more are rejected. Default: 1000.
        optional path_length: Number<1, 1000>,
    }
}
