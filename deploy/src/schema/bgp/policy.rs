//! Policies and the lists that their rules refer to, as records.

use nvgate_bgp::Origin;
use nvgate_bgp::policy::CommunityPattern;
use nvgate_model::{Asn, Prefix};

use super::scalar::{
    AsEntry, AsSpan, CommunityEntry, Either, Lengths, MedSetting, NextHopSetting, Number32,
    NumberTest, OwnCommunity, PrefixReference,
};
use super::words::{SourceName, ThenWord, VerdictWord};
use crate::schema::decode::{List, record};
use crate::schema::scalar::{Name, Number, PrefixOrAddress};

/// Rules of one policy.
pub(crate) const MAX_RULES: usize = nvgate_bgp::policy::Policy::RULES_MAX;
/// Prefixes of one list.
pub(crate) const MAX_LISTED_PREFIXES: usize = 65_536;
/// Other entries of one list, of a condition and of a change.
pub(crate) const MAX_LISTED: usize = 1024;
/// Kinds of sources.
const SOURCES: usize = 6;

record! {
    /// Rules in order: the first that matches and says `accept` or `reject` decides.
    Policy, "a policy" {
        /// Unique here; peers refer to it. Not `none`.
        required name: Name,
        /// The rules, up to 4096.
        optional rules: List<Rule, 0, MAX_RULES>,
        /// What becomes of routes that no rule decides about: `accept` or `reject`. Default: accept
        /// for tenants, whose built-in rules stand around these; reject on the front end.
        optional default: VerdictWord,
    }
}

record! {
    /// A rule: what a route must be, what is changed, and what becomes of it.
    Rule, "a rule" {
        /// What a route must meet, all of it. Default: every route matches.
        optional r#match: Match,
        /// What is changed of a route that matches.
        optional set: Set,
        /// What becomes of it: `accept`, `reject`, or `next`, which asks the next rule.
        required then: ThenWord,
    }
}

record! {
    /// What a route must meet, all of it.
    Match, "`match`" {
        /// One of these prefixes: `10.0.0.0/8` is that one alone, `{prefix: 10.0.0.0/8, le: 24}` those
        /// within it of that length at most; or the name of a prefix list.
        optional prefix: List<Either<PrefixReference, ListedPrefix>, 1, MAX_LISTED>,
        /// What its AS path is like.
        optional as_path: AsPath,
        /// At least one of these communities, such as `64496:100`, `no-export`, `rt:64496:*`,
        /// `64496:*:1`; or the name of a community list.
        optional communities: List<CommunityEntry, 1, MAX_LISTED>,
        /// Each of these.
        optional all_communities: List<CommunityEntry, 1, MAX_LISTED>,
        /// Its next hop is one of these addresses or within one of these prefixes.
        optional next_hop: List<PrefixOrAddress, 1, MAX_LISTED>,
        /// One of these peers, by name, taught it.
        optional peer: List<Name, 1, MAX_LISTED>,
        /// `igp`, `egp` or `incomplete`.
        optional origin: Origin,
        /// Its MED (0 if it has none): a number, or one behind `<`, `<=`, `>=` or `>`.
        optional med: NumberTest,
        /// Its LOCAL_PREF (100 if it has none), likewise.
        optional local_preference: NumberTest,
        /// It is one of these: `local` (a subnet, a leased address), `static`, `announced-static`,
        /// `translated` (as a site sees it), `external`, `internal` (learned by eBGP, iBGP).
        optional source: List<SourceName, 1, SOURCES>,
    }
}

record! {
    /// What an AS path is like, all of it. Entries are numbers, ranges such as 64512-65534, or names
    /// of AS lists.
    AsPath, "`as_path`" {
        /// One of these is in it.
        optional contains: List<AsEntry, 1, MAX_LISTED>,
        /// Nothing but these is in it.
        optional only: List<AsEntry, 1, MAX_LISTED>,
        /// The last one, who originated the route, is one of these.
        optional originates: List<AsEntry, 1, MAX_LISTED>,
        /// The first one, who taught the route, is one of these.
        optional neighbor: List<AsEntry, 1, MAX_LISTED>,
        /// Its length, or a range such as 1-3; 0 is the empty path.
        optional length: Lengths,
    }
}

record! {
    /// What is changed, in the order that the keys have here.
    Set, "`set`" {
        /// LOCAL_PREF, 0 to 4294967295; the higher one wins.
        optional local_preference: Number32,
        /// MED: a number, `+10`, `-10`, or `none`.
        optional med: MedSetting,
        /// ORIGIN: `igp`, `egp` or `incomplete`.
        optional origin: Origin,
        /// Import only: wins before LOCAL_PREF and is told to nobody, 0 to 65535.
        optional weight: Number<0, 65_535>,
        /// Communities that are taken off, with `*` for any part.
        optional remove_communities: List<CommunityEntry, 1, MAX_LISTED>,
        /// Communities that take the place of others.
        optional replace_communities: Replace,
        /// Communities that are put on.
        optional add_communities: List<OwnCommunity, 1, MAX_LISTED>,
        /// How often the gateway's own AS is put in front of the path, 1 to 10; or a record.
        optional prepend: Either<Number<1, 10>, Prepend>,
        /// The next hop: an address, or `self` (export only).
        optional next_hop: NextHopSetting,
    }
}

record! {
    /// Communities that take the place of others: nothing is put on a route that had none of them.
    Replace, "`replace_communities`" {
        /// What is taken off, with `*` for any part, or the names of community lists.
        required from: List<CommunityEntry, 1, MAX_LISTED>,
        /// What is put on instead.
        required to: List<OwnCommunity, 1, MAX_LISTED>,
    }
}

record! {
    /// An AS that is put in front of a path.
    Prepend, "`prepend`" {
        /// The AS. Default: the gateway's own.
        optional asn: Asn,
        /// How often, 1 to 10.
        required times: Number<1, 10>,
    }
}

record! {
    /// Prefixes under a name.
    PrefixList, "a prefix list" {
        /// Unique among prefix lists.
        required name: Name,
        /// The prefixes, up to 65536; each alone, or with bounds of length.
        required prefixes: List<Either<Prefix, ListedPrefix>, 1, MAX_LISTED_PREFIXES>,
    }
}

record! {
    /// Prefixes within one prefix. Without `ge` and `le` it is that prefix alone.
    ListedPrefix, "a prefix" {
        /// The prefix.
        required prefix: Prefix,
        /// The least length. Default: that of `prefix`.
        optional ge: Number<0, 128>,
        /// The greatest length. Default: that of `prefix`, or with `ge` all there are.
        optional le: Number<0, 128>,
    }
}

record! {
    /// Communities under a name.
    CommunityList, "a community list" {
        /// Unique among community lists, and no well-known community.
        required name: Name,
        /// The communities, with `*` for any part.
        required communities: List<CommunityPattern, 1, MAX_LISTED>,
    }
}

record! {
    /// AS numbers under a name.
    AsList, "an AS list" {
        /// Unique among AS lists.
        required name: Name,
        /// Numbers, and ranges such as 64512-65534.
        required asns: List<AsSpan, 1, MAX_LISTED>,
    }
}
