//! What the speaker shows, as reports: with the names that the plan has for peers, rules and sites,
//! and bounded in size.

use std::collections::BTreeMap;
use std::sync::Arc;

use nvgate_bgp::Family;
use nvgate_bgp::config::Opening;
use nvgate_bgp::policy::Verdict as PolicyVerdict;
use nvgate_bgp::rib::PeerSlot;
use nvgate_bgp::session::State;
use nvgate_bgp::speaker::{Advertised, PeerIndex, PeerStatus, RouteStatus, Speaker};
use nvgate_deploy::plan::{BgpPeerPlan, BgpPlan, Plan};
use nvgate_model::{DomainSlot, Instant};

use super::questions::{PeersQuestion, PrefixQuestion, Question, RoutesQuestion, Unanswered};
use super::tenants::{Spoken, spoken};
use super::words;
use crate::admin::bgp::{
    AdvertisedReport, ExplainReport, ExportReport, PathReport, PeerErrors, PeerReport, PeersReport,
    RouteCounts, RouteReport, RoutesReport,
};
use crate::snapshot::Domain;

/// Routes asked of the speaker at once.
const SLICE: usize = 128;
/// About the most bytes of an answer; a page ends before its limit there.
const ANSWER_MAX: usize = 4 << 20;
/// Paths of a prefix that a peer is told and that are shown.
const PATHS_MAX: usize = 64;

/// The speaker with what names things.
pub(super) struct View<'a> {
    pub(super) now: Instant,
    pub(super) plan: &'a Plan,
    pub(super) domains: &'a BTreeMap<DomainSlot, Arc<Domain>>,
    pub(super) speaker: &'a Speaker,
}

impl View<'_> {
    /// Answers, unless nobody waits for it any more.
    pub(super) fn answer(&self, question: Question) {
        // Whoever asked may have gone in the meantime.
        match question {
            Question::Peers(question, reply) if !reply.is_closed() => {
                let _ = reply.send(self.peers(&question));
            }
            Question::Routes(question, reply) if !reply.is_closed() => {
                let _ = reply.send(self.routes(&question));
            }
            Question::Explain(question, reply) if !reply.is_closed() => {
                let _ = reply.send(self.explain(&question));
            }
            Question::Peers(..) | Question::Routes(..) | Question::Explain(..) => {}
        }
    }

    /// Every peer of the front end and of every tenant.
    pub(super) fn all_peers(&self) -> Vec<PeerReport> {
        self.places().flat_map(|of| self.peers_of(of)).collect()
    }

    fn places(&self) -> impl Iterator<Item = Spoken<'_>> {
        spoken(self.plan, self.domains)
    }

    /// A tenant, or the front end.
    fn place(&self, name: Option<&str>) -> Result<Spoken<'_>, Unanswered> {
        let found = self.places().find(|of| of.name().as_deref() == name);
        found.ok_or_else(|| match name {
            Some(name) => Unanswered::NoTenant(name.to_owned()),
            None => Unanswered::NoFrontEnd,
        })
    }

    /// The peer with this name or address.
    pub(super) fn find(&self, tenant: Option<&str>, peer: &str) -> Result<PeerIndex, Unanswered> {
        let of = self.place(tenant)?;
        let unknown = || Unanswered::NoPeer { tenant: of.name(), peer: peer.to_owned() };
        self.names(of).find(peer).ok_or_else(unknown)
    }

    fn peers(&self, question: &PeersQuestion) -> Result<PeersReport, Unanswered> {
        let peers = match &question.tenant {
            None => self.all_peers(),
            Some(name) => self.peers_of(self.place(Some(name))?),
        };
        Ok(PeersReport { peers })
    }

    fn peers_of(&self, of: Spoken<'_>) -> Vec<PeerReport> {
        let peers = self.speaker.peers(of.place).into_iter();
        peers.filter_map(|peer| self.speaker.peer(peer)).map(|peer| self.peer(of, &peer)).collect()
    }

    fn peer(&self, of: Spoken<'_>, peer: &PeerStatus) -> PeerReport {
        let planned = planned(of.bgp, peer);
        let agreed = peer.negotiated.as_deref();
        let counts = |family: Family| RouteCounts {
            received: peer.received[family.index()].into(),
            accepted: peer.accepted[family.index()].into(),
            announced: peer.announced[family.index()] as u64,
            stale: peer.stale[family.index()],
        };
        let age = |at: Instant| self.now.since(at).as_secs();
        let since = peer.established_at.or(peer.last_down.as_ref().map(|down| down.at));
        let error = words::last_error(peer);
        PeerReport {
            tenant: of.name(),
            name: name(planned, peer),
            range: planned.filter(|_| peer.range.is_some()).map(|range| range.name.clone()),
            description: peer.config.description.to_string(),
            address: peer.key.remote.to_string(),
            local_address: agreed
                .map(|agreed| agreed.endpoints.local.ip())
                .or(peer.key.local)
                .map(|address| address.to_string()),
            asn: agreed.map_or_else(
                || words::asns(peer.config.remote_asns),
                |agreed| agreed.remote_asn.to_string(),
            ),
            local_asn: peer.config.shown_asn().to_string(),
            router_id: agreed.map(|agreed| agreed.remote_identifier.to_string()),
            state: peer.state.name().to_owned(),
            up: peer.state == State::Established,
            shutdown: peer.config.shutdown.is_some(),
            passive: peer.config.opening != Opening::Active,
            bfd: peer.config.bfd,
            since_secs: since.map(age),
            hold_secs: agreed.map(|agreed| agreed.hold_time.seconds()),
            flaps: peer.flaps,
            ipv4: counts(Family::Ipv4Unicast),
            ipv6: counts(Family::Ipv6Unicast),
            messages_received: words::messages(&peer.counters.received),
            messages_sent: words::messages(&peer.counters.sent),
            errors: errors(peer),
            last_down: peer.last_down.as_ref().map(|last| words::down(&last.down.reason)),
            last_error_age_secs: error.as_ref().map(|(at, _)| age(*at)),
            last_error: error.map(|(_, text)| text),
        }
    }

    /// The peers of a place with their names.
    fn names(&self, of: Spoken<'_>) -> Names {
        let peers = self.speaker.peers(of.place).into_iter();
        let named = peers.filter_map(|peer| {
            let status = self.speaker.peer(peer)?;
            let name = name(planned(of.bgp, &status), &status);
            Some((peer, (name, status.key.remote.to_string())))
        });
        Names(named.collect())
    }

    fn routes(&self, question: &RoutesQuestion) -> Result<RoutesReport, Unanswered> {
        let of = self.place(question.tenant.as_deref())?;
        let names = self.names(of);
        let peer = question.peer.as_ref().map(|text| self.find(question.tenant.as_deref(), text));
        let peer = peer.transpose()?;
        let mut report = RoutesReport { tenant: question.tenant.clone(), ..Default::default() };
        if let Some(prefix) = question.prefix {
            let routes = self.speaker.explain(of.place, prefix).routes;
            let of_peer = routes.iter().filter(|route| peer.is_none() || route.peer == peer);
            report.routes = of_peer.map(|route| self.route(of, &names, route)).collect();
            return Ok(report);
        }
        let mut after = question.after;
        let mut bytes = 0;
        for family in Family::ALL {
            if after.is_some_and(|after| Family::of(after).index() > family.index()) {
                continue;
            }
            let mut behind = after.filter(|after| Family::of(*after) == family);
            loop {
                let left = question.limit - report.routes.len();
                let slice =
                    self.speaker.routes(of.place, family, peer, false, behind, left.min(SLICE));
                let Some(last) = slice.last() else { break };
                behind = Some(last.route.nlri.prefix);
                after = behind;
                for route in &slice {
                    let route = self.route(of, &names, route);
                    bytes += route_size(&route);
                    report.routes.push(route);
                }
                if report.routes.len() >= question.limit || bytes >= ANSWER_MAX {
                    report.after = after.map(|after| after.to_string());
                    return Ok(report);
                }
            }
        }
        Ok(report)
    }

    fn route(&self, of: Spoken<'_>, names: &Names, status: &RouteStatus) -> RouteReport {
        let route = &status.route;
        let rule = route.rule.map(|rule| words::rule(rule, of.bgp));
        let verdict = route.verdict.map(words::verdict);
        let best = verdict.is_some_and(|(name, _)| name == "best");
        let why = match (verdict, &rule, &route.imported) {
            (_, Some(rule), None) => format!("import rejected it by {rule}"),
            (None, ..) => "it waits to be decided".to_owned(),
            (Some((_, why)), ..) if route.used && !best => {
                format!("used beside the best route, behind which it stands because {why}")
            }
            (Some((_, why)), ..) => why.to_owned(),
        };
        let learned = Instant(u64::from(route.learned_secs) * 1_000_000_000);
        RouteReport {
            prefix: route.nlri.prefix.to_string(),
            peer: status.peer.map(|peer| names.of(peer)),
            own: own(of, status),
            path_id: route.nlri.path_id.map(|id| id.0),
            age_secs: self.now.since(learned).as_secs(),
            accepted: route.imported.is_some(),
            best,
            multipath: route.used && !best,
            discard: route.discard,
            stale: route.stale,
            verdict: verdict.map(|(name, _)| name.to_owned()),
            why,
            rule,
            weight: route.weight,
            received: words::attributes(&route.received),
            imported: route.imported.as_ref().map(words::attributes),
        }
    }

    fn explain(&self, question: &PrefixQuestion) -> Result<ExplainReport, Unanswered> {
        let of = self.place(question.tenant.as_deref())?;
        let names = self.names(of);
        let asked = question.prefix;
        let prefix = self.speaker.longest_match(of.place, asked).unwrap_or(asked);
        let status = self.speaker.explain(of.place, prefix);
        let mut bytes = 0;
        let all = status.routes.len();
        let shown = status.routes.iter().map(|route| self.route(of, &names, route));
        let routes: Vec<_> = shown
            .take_while(|route| {
                bytes += route_size(route);
                bytes < ANSWER_MAX
            })
            .collect();
        let advertised = status.advertised.iter();
        Ok(ExplainReport {
            tenant: question.tenant.clone(),
            asked: asked.to_string(),
            prefix: prefix.to_string(),
            omitted: (all - routes.len()) as u64,
            routes,
            advertised: advertised.map(|one| advertisement(of, &names, one)).collect(),
        })
    }
}

/// Names and addresses of a place's peers.
struct Names(BTreeMap<PeerIndex, (String, String)>);

impl Names {
    fn of(&self, peer: PeerIndex) -> String {
        self.0.get(&peer).map_or_else(|| "?".to_owned(), |(name, _)| name.clone())
    }

    /// The peer with this name, else the first with this address.
    fn find(&self, text: &str) -> Option<PeerIndex> {
        let by_name = self.0.iter().find(|(_, (name, _))| name == text);
        let by_address = || self.0.iter().find(|(_, (_, address))| address == text);
        by_name.or_else(by_address).map(|(peer, _)| *peer)
    }
}

/// What the plan has of a peer, or of the range that it came from.
fn planned<'a>(bgp: &'a BgpPlan, peer: &PeerStatus) -> Option<&'a BgpPeerPlan> {
    bgp.peers.iter().find(|planned| match (peer.range, planned.dynamic) {
        (Some(range), Some(dynamic)) => dynamic.range == range,
        (None, None) => {
            planned.config.remote_address == peer.key.remote
                && planned.config.local_address == peer.key.local
        }
        (Some(_), None) | (None, Some(_)) => false,
    })
}

/// The name of a peer; the address of one that is about to leave with the configuration.
fn name(planned: Option<&BgpPeerPlan>, peer: &PeerStatus) -> String {
    match (planned, peer.range) {
        (Some(planned), None) => planned.name.clone(),
        (Some(planned), Some(_)) => format!("{}@{}", planned.name, peer.key.remote),
        (None, _) => peer.key.remote.to_string(),
    }
}

fn errors(peer: &PeerStatus) -> PeerErrors {
    let intake = &peer.intake;
    PeerErrors {
        defective_updates: intake.defective_updates,
        treated_as_withdraw: intake.treated_as_withdraw,
        foreign_updates: intake.foreign_updates,
        refused_routes: intake.refused_routes,
        unsendable_routes: peer.unsendable,
        refused_connections: peer.counters.refused,
        last_defect: intake.last_defect.as_ref().map(ToString::to_string),
        last_refusal: intake.last_refusal.map(|refusal| refusal.to_string()),
    }
}

fn own(of: Spoken<'_>, status: &RouteStatus) -> Vec<String> {
    if status.route.peer != PeerSlot::LOCAL {
        return Vec::new();
    }
    status.reasons.iter().map(|reason| words::own_route(*reason, of.tenant)).collect()
}

fn advertisement(of: Spoken<'_>, names: &Names, one: &Advertised) -> AdvertisedReport {
    let path = |(id, attributes): &(Option<nvgate_bgp::PathId>, nvgate_bgp::Attributes)| {
        PathReport { path_id: id.map(|id| id.0), attributes: words::attributes(attributes) }
    };
    AdvertisedReport {
        peer: names.of(one.peer),
        paths: one.paths.iter().take(PATHS_MAX).map(path).collect(),
        sent: one.told,
        export: one.export.map(|(verdict, rule)| ExportReport {
            accepted: verdict == PolicyVerdict::Accept,
            rule: words::rule(rule, of.bgp),
        }),
    }
}

fn route_size(route: &RouteReport) -> usize {
    300 + words::size(&route.received) + route.imported.as_ref().map_or(0, words::size)
}
