//! What the crate `bgp` has as values, in the words that operators read. Texts of peers are bounded.

use std::time::Duration;

use nvgate_bgp::config::AsnRange;
use nvgate_bgp::decision::{Barred, Verdict};
use nvgate_bgp::policy::RuleId;
use nvgate_bgp::session::{Closed, DownReason, MessageCounts};
use nvgate_bgp::speaker::{OwnRoute, PeerStatus};
use nvgate_bgp::wire::MessageType;
use nvgate_bgp::{AsPath, Attributes, RareAttributes};
use nvgate_deploy::plan::{BgpPlan, TenantPlan};
use nvgate_model::Instant;

use crate::admin::bgp::{AttributesReport, MessageTotals, RuleReport};

/// Entries of a list, such as the communities of a route, that are shown.
const LIST_MAX: usize = 256;
/// AS numbers of a path that are shown.
const PATH_MAX: usize = 512;
/// How long a NOTIFICATION is still named behind attempts that failed for less telling reasons: who
/// sent or got one often closes connections unheard for minutes.
const STILL_TELLING: Duration = Duration::from_secs(300);

pub(super) fn asns(range: AsnRange) -> String {
    let (first, last) = (range.first(), range.last());
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

pub(super) const fn messages(counts: &MessageCounts) -> MessageTotals {
    MessageTotals {
        open: counts.of(MessageType::Open),
        update: counts.of(MessageType::Update),
        notification: counts.of(MessageType::Notification),
        keepalive: counts.of(MessageType::Keepalive),
        route_refresh: counts.of(MessageType::RouteRefresh),
    }
}

/// What ended the last session or attempt, and when; with what a NOTIFICATION said not long before.
pub(super) fn last_error(peer: &PeerStatus) -> Option<(Instant, String)> {
    let lost = peer.last_closed.map(|(at, closed)| (at, connection(closed).to_owned()));
    let ended = peer.last_down.as_ref().map(|last| (last.at, down(&last.down.reason)));
    let sent = peer.last_sent.as_ref();
    let sent = sent.map(|last| (last.at, format!("the gateway ended it: {}", last.notification)));
    let received = peer.last_received.as_ref();
    let received =
        received.map(|last| (last.at, format!("the peer ended it: {}", last.notification)));
    let told = latest([sent, received]);
    latest([with_reason(lost, told.clone(), peer.established_at), ended, told])
}

type Said = Option<(Instant, String)>;

/// Of what was said at one moment the last.
fn latest<const N: usize>(said: [Said; N]) -> Said {
    said.into_iter().flatten().max_by_key(|(at, _)| *at)
}

/// A connection that was lost, with the NOTIFICATION that may be why: none of the same moment, nor
/// from before a session that stands.
fn with_reason(lost: Said, told: Said, established_at: Option<Instant>) -> Said {
    let (at, text) = lost?;
    let telling = |(then, _): &(Instant, String)| {
        *then < at && at.since(*then) <= STILL_TELLING && established_at.is_none_or(|up| up < *then)
    };
    match told {
        Some((then, _)) if then == at => None,
        told => Some(match told.filter(telling) {
            Some((_, reason)) => (at, format!("{text}; before that {reason}")),
            None => (at, text),
        }),
    }
}

pub(super) fn down(reason: &DownReason) -> String {
    match reason {
        DownReason::Sent(notification) => format!("the gateway ended it: {notification}"),
        DownReason::Received(notification) => format!("the peer ended it: {notification}"),
        DownReason::Closed(closed) => connection(*closed).to_owned(),
        DownReason::PeerRestarted => "the peer came back on a new connection".to_owned(),
    }
}

const fn connection(closed: Closed) -> &'static str {
    match closed {
        Closed::Refused => "the peer refuses the connection, or there is no way to it",
        Closed::Reset => "the peer reset the connection",
        Closed::Finished => "the peer closed the connection",
        Closed::TimedOut => "the peer does not answer",
    }
}

/// The name of a verdict, and what it means.
pub(super) const fn verdict(verdict: Verdict) -> (&'static str, &'static str) {
    match verdict {
        Verdict::Best => ("best", "the best route"),
        Verdict::Barred(Barred::Rejected) => ("rejected", "import rejected it"),
        Verdict::Barred(Barred::Loop) => ("loop", "it came through the gateway's own AS or router"),
        Verdict::Barred(Barred::Leak) => ("leak", "ONLY_TO_CUSTOMER forbids the way it came"),
        Verdict::Barred(Barred::Unresolved) => ("unresolved", "its next hop cannot be reached"),
        Verdict::Barred(Barred::PeerGone) => ("peer_gone", "the session of its peer ended"),
        Verdict::LlgrStale => ("llgr_stale", "it is stale beyond graceful restart, another is not"),
        Verdict::Weight => ("weight", "another has a higher weight"),
        Verdict::LocalPreference => ("local_preference", "another has a higher local preference"),
        Verdict::LocallyOriginated => ("locally_originated", "another is the gateway's own"),
        Verdict::PathLength => ("path_length", "another has a shorter AS path"),
        Verdict::Origin => ("origin", "another has a lower origin"),
        Verdict::Med => ("med", "another of the same neighbour AS has a lower MED"),
        Verdict::Internal => ("internal", "another came by eBGP, this one by iBGP"),
        Verdict::Metric => ("metric", "the next hop of another is nearer"),
        Verdict::RouterId => ("router_id", "the router of another has a lower identifier"),
        Verdict::ClusterLength => ("cluster_length", "another passed fewer reflectors"),
        Verdict::PeerAddress => ("peer_address", "the peer of another has a lower address"),
        Verdict::PathId => ("path_id", "another path of the peer has a lower identifier"),
    }
}

pub(super) fn own_route(reason: OwnRoute, tenant: Option<&TenantPlan>) -> String {
    match reason {
        OwnRoute::Local if tenant.is_none() => "public addresses of tenants".to_owned(),
        OwnRoute::Local => "a subnet of the tenant".to_owned(),
        OwnRoute::Static { announce: true } => "a route of the tenant, to be announced".to_owned(),
        OwnRoute::Static { announce: false } => {
            "a route of the tenant, not to be announced".to_owned()
        }
        OwnRoute::Translated(site) => {
            let vpn = tenant.and_then(|tenant| tenant.vpn.as_ref());
            let sites = vpn.map_or(&[][..], |vpn| &vpn.sites);
            let named = usize::try_from(site.0).ok().and_then(|number| sites.get(number));
            let name = named.map_or("?", |site| &site.name);
            format!("what the site {name} sees of the tenant")
        }
    }
}

pub(super) fn rule(rule: RuleId, bgp: &BgpPlan) -> RuleReport {
    match bgp.rules.of(rule) {
        Some(place) => RuleReport::Configured {
            policy: place.policy.to_string(),
            rule: place.rule,
            file: place.file.to_string(),
            line: place.line,
        },
        None => RuleReport::BuiltIn(rule.to_string()),
    }
}

pub(super) fn attributes(of: &Attributes) -> AttributesReport {
    let communities = of.communities.as_slice().iter().map(ToString::to_string);
    let extended = of.extended_communities().iter().map(ToString::to_string);
    let large = of.large_communities().iter().map(ToString::to_string);
    let mut others = Vec::new();
    if of.atomic_aggregate {
        others.push("atomic aggregate".to_owned());
    }
    if let Some(rare) = of.rare() {
        note_rare(rare, &mut others);
    }
    AttributesReport {
        next_hop: of.next_hop.to_string(),
        origin: of.origin.to_string(),
        as_path: path(&of.as_path),
        med: of.med,
        local_preference: of.local_preference,
        communities: list(communities.chain(extended).chain(large)),
        others,
    }
}

fn note_rare(rare: &RareAttributes, others: &mut Vec<String>) {
    if let Some(address) = rare.link_local_next_hop {
        others.push(format!("link-local next hop {address}"));
    }
    if let Some(aggregator) = rare.aggregator {
        others.push(format!("aggregator AS {} {}", aggregator.asn, aggregator.router_id));
    }
    if let Some(originator) = rare.originator_id {
        others.push(format!("originator {originator}"));
    }
    if !rare.cluster_list.is_empty() {
        let clusters = list(rare.cluster_list.iter().map(ToString::to_string));
        others.push(format!("clusters {}", clusters.join(" ")));
    }
    if let Some(asn) = rare.only_to_customer {
        others.push(format!("only to customers of AS {asn}"));
    }
    let unknown = rare.unknown.iter();
    others.extend(unknown.map(|one| format!("{} ({} bytes)", one.code, one.value.len())));
}

fn path(of: &AsPath) -> String {
    let numbers = of.numbers().count();
    if numbers <= PATH_MAX {
        return of.to_string();
    }
    let first: Vec<_> = of.numbers().take(PATH_MAX).map(|asn| asn.to_string()).collect();
    format!("{} and {} more", first.join(" "), numbers - PATH_MAX)
}

fn list(mut entries: impl Iterator<Item = String>) -> Vec<String> {
    let mut shown: Vec<_> = entries.by_ref().take(LIST_MAX).collect();
    let left = entries.count();
    if left > 0 {
        shown.push(format!("and {left} more"));
    }
    shown
}

/// About how many bytes it takes in an answer.
pub(super) fn size(of: &AttributesReport) -> usize {
    let texts = of.communities.iter().chain(&of.others).map(|text| text.len() + 3).sum::<usize>();
    of.as_path.len() + texts + 150
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use nvgate_bgp::{Community, CommunitySet, Origin};
    use nvgate_model::Asn;

    use super::*;

    #[test]
    fn attributes_read_as_text() {
        let mut of = Attributes::originated(Ipv4Addr::new(10, 1, 0, 10).into(), Origin::Igp);
        of.as_path = AsPath::sequence(&[Asn(65010), Asn(65011)]);
        of.med = Some(5);
        of.communities = CommunitySet::from_iter([Community(65010 << 16 | 1)]);
        of.edit_rare(|rare| rare.originator_id = Some(Ipv4Addr::new(10, 1, 0, 9)));
        let expected = "next hop 10.1.0.10, origin igp, AS path 65010 65011, MED 5, \
                        communities 65010:1, originator 10.1.0.9";
        assert_eq!(attributes(&of).to_string(), expected);
    }

    #[test]
    fn a_lost_connection_is_shown_with_the_notification_that_came_before_it() {
        let at = |secs| Instant::default() + Duration::from_secs(secs);
        let said = |secs: u64, text: &str| Some((at(secs), text.to_owned()));
        let told = || said(100, "the peer ended it: role mismatch");
        let lost = |secs| said(secs, "lost");
        let both = "lost; before that the peer ended it: role mismatch";
        assert_eq!(with_reason(lost(101), told(), None), said(101, both));
        assert_eq!(with_reason(lost(400), told(), Some(at(99))), said(400, both));
        assert_eq!(with_reason(lost(401), told(), None), lost(401), "long ago");
        assert_eq!(with_reason(lost(99), told(), None), lost(99), "it came later");
        assert_eq!(with_reason(lost(100), told(), None), None, "it says more");
        assert_eq!(with_reason(lost(102), told(), Some(at(101))), lost(102), "of another session");
        assert_eq!(with_reason(lost(101), None, None), lost(101));
        assert_eq!(with_reason(None, told(), None), None);
        assert_eq!(latest([told(), lost(101), None]), lost(101));
    }

    #[test]
    fn long_lists_and_paths_are_cut() {
        let numbers: Vec<_> = (0..PATH_MAX as u32 + 3).map(Asn).collect();
        let text = path(&AsPath::sequence(&numbers));
        assert!(text.ends_with(" 511 and 3 more"), "{text}");
        let entries = list((0..LIST_MAX + 2).map(|entry| entry.to_string()));
        assert_eq!(entries.len(), LIST_MAX + 1);
        assert_eq!(entries.last().map(String::as_str), Some("and 2 more"));
    }
}
