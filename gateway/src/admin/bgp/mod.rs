//! What the gateway says about BGP: peers, routes with what became of them, and everything about
//! one prefix. Keys have no field to be in.
//!
//! The speaker's thread makes the reports ([`crate::peering`]); `answers` serves them.

pub(super) mod answers;

use std::net::IpAddr;

use nvgate_model::{InvalidPrefix, Prefix};
use serde::{Deserialize, Serialize};

use super::health::Component;

/// The peers of the front end and of all tenants, or of one tenant.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PeersReport {
    /// The peers, those of the front end first, then by tenant.
    pub peers: Vec<PeerReport>,
}

/// One peer.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PeerReport {
    /// The tenant; none: it is a router of the front end.
    pub tenant: Option<String>,
    /// What the configuration calls it; a neighbour that came from a range is `RANGE@ADDRESS`.
    pub name: String,
    /// The name of the range that it came from.
    pub range: Option<String>,
    /// A text for humans.
    pub description: String,
    /// Its address.
    pub address: String,
    /// The gateway's address, once it is known.
    pub local_address: Option<String>,
    /// Its AS, or the first and the last that it may have.
    pub asn: String,
    /// The AS that the gateway shows it.
    pub local_asn: String,
    /// Its BGP identifier, while the session is established.
    pub router_id: Option<String>,
    /// The state of the session, such as `Established` (RFC 4271 section 8.2.2).
    pub state: String,
    /// Whether the session is established.
    pub up: bool,
    /// Whether the configuration has it shut down.
    pub shutdown: bool,
    /// Whether only the peer opens connections.
    pub passive: bool,
    /// Whether BFD watches it.
    pub bfd: bool,
    /// Seconds since the session was established, or since it ended; absent before the first.
    pub since_secs: Option<u64>,
    /// The hold time in seconds that was agreed on; 0: none.
    pub hold_secs: Option<u16>,
    /// How often an established session ended.
    pub flaps: u64,
    /// IPv4 routes.
    pub ipv4: RouteCounts,
    /// IPv6 routes.
    pub ipv6: RouteCounts,
    /// Messages from it.
    pub messages_received: MessageTotals,
    /// Messages to it.
    pub messages_sent: MessageTotals,
    /// Errors in what it sent that the session survived, and what was not stored.
    pub errors: PeerErrors,
    /// What ended the last established session.
    pub last_down: Option<String>,
    /// What ended the last session or attempt, and who ended it.
    pub last_error: Option<String>,
    /// How many seconds ago.
    pub last_error_age_secs: Option<u64>,
}

/// Routes of one family of a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct RouteCounts {
    /// Those that it taught and that are held.
    pub received: u64,
    /// Those of them that import let in.
    pub accepted: u64,
    /// Those that it and the peers treated alike are told; each is told none of its own.
    pub announced: u64,
    /// Whether the received ones are kept from an earlier session (RFC 4724).
    pub stale: bool,
}

/// Messages by their type.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct MessageTotals {
    /// OPEN.
    pub open: u64,
    /// UPDATE.
    pub update: u64,
    /// NOTIFICATION.
    pub notification: u64,
    /// KEEPALIVE.
    pub keepalive: u64,
    /// ROUTE-REFRESH.
    pub route_refresh: u64,
}

/// What a peer did wrong, and what was too much.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PeerErrors {
    /// UPDATEs with an error that the session survived.
    pub defective_updates: u64,
    /// Those of them whose routes were withdrawn for it (RFC 7606 section 2).
    pub treated_as_withdraw: u64,
    /// UPDATEs of families that were not agreed on.
    pub foreign_updates: u64,
    /// Routes that were not stored, because a bound was reached.
    pub refused_routes: u64,
    /// Routes that no message to the peer could carry.
    pub unsendable_routes: u64,
    /// Connections of the peer that were not taken.
    pub refused_connections: u64,
    /// The last error in an UPDATE.
    pub last_defect: Option<String>,
    /// Why the last route was not stored.
    pub last_refusal: Option<String>,
}

/// Routes of a place: whole prefixes, IPv4 before IPv6.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct RoutesReport {
    /// The tenant; none: the front end.
    pub tenant: Option<String>,
    /// The routes.
    pub routes: Vec<RouteReport>,
    /// The prefix to ask behind, if there is more.
    pub after: Option<String>,
}

/// One route, with what became of it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct RouteReport {
    /// The prefix.
    pub prefix: String,
    /// Who taught it; absent for the gateway's own, and for one of a peer that is gone.
    pub peer: Option<String>,
    /// Why the gateway has it of its own.
    pub own: Vec<String>,
    /// The path identifier it was announced with (RFC 7911).
    pub path_id: Option<u32>,
    /// Seconds since it was announced so.
    pub age_secs: u64,
    /// Whether import let it in.
    pub accepted: bool,
    /// Whether it is the best route of its prefix.
    pub best: bool,
    /// Whether it is used beside the best one.
    pub multipath: bool,
    /// Whether packets that take it are discarded.
    pub discard: bool,
    /// Whether its peer restarts and has not announced it again (RFC 4724).
    pub stale: bool,
    /// `best`, or what it lost by, such as `path_length`; absent while that waits to be decided.
    pub verdict: Option<String>,
    /// The same in words.
    pub why: String,
    /// The rule of import that decided.
    pub rule: Option<RuleReport>,
    /// The weight that import gave it.
    pub weight: u16,
    /// What was received.
    pub received: AttributesReport,
    /// What import made of it.
    pub imported: Option<AttributesReport>,
}

/// A rule of a policy.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleReport {
    /// A built-in one, by its name.
    BuiltIn(String),
    /// One of the configuration.
    Configured {
        /// The policy.
        policy: String,
        /// Which of its rules, from 1.
        rule: u32,
        /// The file.
        file: String,
        /// The line in it, from 1.
        line: u32,
    },
}

/// What a route is announced with.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct AttributesReport {
    /// The next hop.
    pub next_hop: String,
    /// `igp`, `egp` or `incomplete`.
    pub origin: String,
    /// The AS path, sets in braces.
    pub as_path: String,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// LOCAL_PREF.
    pub local_preference: Option<u32>,
    /// Communities of all kinds.
    pub communities: Vec<String>,
    /// All others, each as text.
    pub others: Vec<String>,
}

/// Everything about one prefix of a place.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ExplainReport {
    /// The tenant; none: the front end.
    pub tenant: Option<String>,
    /// The prefix that was asked for, an address as a prefix of its own.
    pub asked: String,
    /// The prefix that the rest is about: the one asked for, or if there is no route to it the longest
    /// that covers it, preferably one that packets take.
    pub prefix: String,
    /// Its routes, the best first.
    pub routes: Vec<RouteReport>,
    /// Routes that are left out, because there are too many.
    pub omitted: u64,
    /// What each peer with an established session is told.
    pub advertised: Vec<AdvertisedReport>,
}

/// What a peer is told of a prefix.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct AdvertisedReport {
    /// The peer.
    pub peer: String,
    /// Each path; none: it is told nothing.
    pub paths: Vec<PathReport>,
    /// Whether that was sent already.
    pub sent: bool,
    /// What export says of the best route; absent if there is none, or the peer taught it.
    pub export: Option<ExportReport>,
}

/// One path that a peer is told.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PathReport {
    /// Its identifier (RFC 7911).
    pub path_id: Option<u32>,
    /// What it is announced with.
    pub attributes: AttributesReport,
}

/// What a peer's export makes of a route.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ExportReport {
    /// Whether it lets the route out.
    pub accepted: bool,
    /// The rule that decided.
    pub rule: RuleReport,
}

/// What an explanation is asked for: a prefix, or an address, which is one of its own.
///
/// # Errors
///
/// It is neither.
pub fn destination(text: &str) -> Result<Prefix, InvalidPrefix> {
    text.parse().map_or_else(|_| text.parse(), |address: IpAddr| Ok(Prefix::host(address)))
}

/// A peer with which the exchange begins anew.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ClearReport {
    /// The tenant; none: the front end.
    pub tenant: Option<String>,
    /// The peer, as it was named.
    pub peer: String,
    /// Whether the session ended, too.
    pub hard: bool,
}

/// Whether the gateway is about to go (RFC 8326).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum DrainReport {
    /// It stays.
    #[default]
    Serving,
    /// Peers are told that it goes.
    Draining {
        /// Seconds until sessions end.
        ends_in_secs: u64,
    },
    /// Sessions have ended, and none begins.
    Drained,
}

impl DrainReport {
    /// Whether an operator has to know; none while the gateway stays.
    #[must_use]
    pub fn health(self) -> Option<Component> {
        let reason = match self {
            Self::Serving => return None,
            Self::Draining { ends_in_secs } => format!(
                "BGP peers are told that the gateway goes, and sessions end in {ends_in_secs} s: \
                 `nvgate drain --cancel` calls it off"
            ),
            Self::Drained => "all BGP sessions have ended: end the gateway, or begin anew by \
                              `nvgate drain --cancel`"
                .to_owned(),
        };
        Some(Component::degraded("drain", reason))
    }
}

impl PeerReport {
    /// Its routes by family, each with the family's name.
    #[must_use]
    pub const fn by_family(&self) -> [(&'static str, RouteCounts); 2] {
        [("ipv4", self.ipv4), ("ipv6", self.ipv6)]
    }

    /// Routes received, accepted and announced, of both families.
    #[must_use]
    pub const fn routes(&self) -> [u64; 3] {
        [
            self.ipv4.received + self.ipv6.received,
            self.ipv4.accepted + self.ipv6.accepted,
            self.ipv4.announced + self.ipv6.announced,
        ]
    }

    /// Whether something is wrong with it that an operator wants to know. None for neighbours of a
    /// range, which come and go as they like.
    #[must_use]
    pub fn health(&self) -> Option<Component> {
        if self.range.is_some() {
            return None;
        }
        let name = match &self.tenant {
            Some(tenant) => format!("bgp {tenant}/{}", self.name),
            None => format!("front_end bgp {}", self.name),
        };
        if self.up || self.shutdown {
            return Some(Component::ok(name));
        }
        let address = &self.address;
        let last_down = self.last_down.as_ref();
        let reason = match (
            &self.last_error,
            last_down.filter(|down| self.last_error.as_ref() != Some(down)),
        ) {
            (Some(error), Some(down)) => {
                format!("no session with {address}: {error}; the last one ended: {down}")
            }
            (Some(error), None) => format!("no session with {address}: {error}"),
            (None, _) if self.passive => format!("no session: waits for {address} to connect"),
            (None, _) => format!("no session with {address} yet: {}", self.state),
        };
        Some(Component::degraded(name, reason))
    }
}

impl MessageTotals {
    /// Each type's name with its messages.
    #[must_use]
    pub const fn by_type(&self) -> [(&'static str, u64); 5] {
        [
            ("open", self.open),
            ("update", self.update),
            ("notification", self.notification),
            ("keepalive", self.keepalive),
            ("route_refresh", self.route_refresh),
        ]
    }
}

/// Such as `rule tenant-import-default`, or `rule 2 of policy from-router (red.yaml:31)`.
impl std::fmt::Display for RuleReport {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::BuiltIn(name) => write!(formatter, "the built-in rule {name}"),
            Self::Configured { policy, rule, file, line } => {
                write!(formatter, "rule {rule} of policy {policy} ({file}:{line})")
            }
        }
    }
}

/// Such as `next hop 10.1.0.10, origin igp, AS path 65010, communities 65010:1`.
impl std::fmt::Display for AttributesReport {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = if self.as_path.is_empty() { "empty" } else { &self.as_path };
        let (next_hop, origin) = (&self.next_hop, &self.origin);
        write!(formatter, "next hop {next_hop}, origin {origin}, AS path {path}")?;
        if let Some(med) = self.med {
            write!(formatter, ", MED {med}")?;
        }
        if let Some(preference) = self.local_preference {
            write!(formatter, ", local preference {preference}")?;
        }
        if !self.communities.is_empty() {
            write!(formatter, ", communities {}", self.communities.join(" "))?;
        }
        self.others.iter().try_for_each(|other| write!(formatter, ", {other}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::samples;

    #[test]
    fn reports_survive_their_json() {
        let peers = PeersReport { peers: samples::peers() };
        let text = serde_json::to_string(&peers).unwrap();
        assert_eq!(serde_json::from_str::<PeersReport>(&text).unwrap(), peers);
        let explanation = samples::explanation();
        let text = serde_json::to_string(&explanation).unwrap();
        assert!(text.contains(r#""rule":{"built_in":"default"}"#), "{text}");
        assert!(text.contains(r#""configured":{"policy":"from-router","rule":2,"#), "{text}");
        assert_eq!(serde_json::from_str::<ExplainReport>(&text).unwrap(), explanation);
    }
}
