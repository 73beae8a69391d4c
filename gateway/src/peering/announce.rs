//! What the front end is told: public addresses whose tenants are served, each only once every worker
//! forwards for it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use nvgate_bgp::speaker::{OwnRoute, Place, Speaker};
use nvgate_bgp::{Attributes, Origin};
use nvgate_deploy::plan::{AnnouncePlan, Plan};
use nvgate_model::{Instant, Prefix};

use crate::counters::WorkerCounters;
use crate::snapshot::{Domain, FrontEndLink, Snapshot};

/// How often workers are looked at while some are behind.
const LOOK: Duration = Duration::from_millis(5);

/// What of a snapshot counts for the front end.
#[derive(Debug, Default)]
pub(super) struct Served {
    /// The front-end link.
    pub(super) link: Arc<FrontEndLink>,
    generation: u32,
    /// Where tunnels end.
    tunnels: BTreeSet<IpAddr>,
}

impl Served {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        Self {
            link: Arc::clone(&snapshot.front_end.link),
            generation: snapshot.generation.0,
            tunnels: snapshot.tunnel_sockets().map(|(socket, _)| socket.ip()).collect(),
        }
    }

    /// What is to be announced: of what the plan says, that for which a domain of the snapshot, or a
    /// tunnel, is there.
    pub(super) fn announced(&self, plan: &Plan, domains: &[Arc<Domain>]) -> BTreeSet<Prefix> {
        let front_end = &plan.gateway.front_end;
        let Some(bgp) = front_end.bgp.as_ref().filter(|_| self.link.running) else {
            return BTreeSet::new();
        };
        let AnnouncePlan { addresses, aggregates, shared_addresses, front_end_prefixes } =
            &bgp.announce;
        let planned: BTreeSet<_> = plan.tenants.iter().map(|one| one.routing_domain).collect();
        let served = || domains.iter().filter(|domain| planned.contains(&domain.id));
        let leased: BTreeSet<IpAddr> = served()
            .filter_map(|domain| domain.nat.as_ref())
            .flat_map(|nat| nat.addresses())
            .map(|&address| address.into())
            .collect();
        let in_use = |pool: &str| {
            let pool = front_end.pools.iter().find(|one| one.name == pool);
            let holds = |address| pool?.prefixes.iter().find(|one| one.contains(address));
            leased.iter().any(|&address| holds(address).is_some())
        };
        let mut announced: BTreeSet<Prefix> = aggregates
            .iter()
            .filter(|aggregate| in_use(&aggregate.pool))
            .flat_map(|aggregate| aggregate.prefixes.iter().copied())
            .collect();
        let shared = front_end.shared_addresses.iter().map(|address| address.ip());
        let shared: Vec<IpAddr> = shared.filter(|own| self.tunnels.contains(own)).collect();
        let singly = leased
            .iter()
            .filter(|_| *addresses)
            .chain(shared.iter().filter(|_| *shared_addresses))
            .map(|&address| Prefix::host(address))
            .filter(|address| !announced.iter().any(|aggregate| aggregate.covers(*address)))
            .collect::<Vec<_>>();
        announced.extend(singly);
        if *front_end_prefixes {
            announced.extend(served().flat_map(|domain| domain.front_end_prefixes.iter().copied()));
        }
        announced
    }
}

/// What was announced, and what waits for the workers.
#[derive(Debug)]
pub(super) struct Announcer {
    workers: Vec<Arc<WorkerCounters>>,
    told: BTreeSet<Prefix>,
    /// Each with the generation of the snapshot that has it first.
    waiting: BTreeMap<Prefix, u32>,
    look_at: Option<Instant>,
}

impl Announcer {
    pub(super) const fn new(workers: Vec<Arc<WorkerCounters>>) -> Self {
        Self { workers, told: BTreeSet::new(), waiting: BTreeMap::new(), look_at: None }
    }

    /// Withdraws what is not wanted any more, and notes what is new.
    pub(super) fn follow(
        &mut self,
        now: Instant,
        served: &Served,
        wanted: &BTreeSet<Prefix>,
        speaker: &mut Speaker,
    ) {
        for prefix in self.told.extract_if(.., |prefix| !wanted.contains(prefix)) {
            speaker.retract(now, Place::FrontEnd, prefix, OwnRoute::Local);
        }
        self.waiting.retain(|prefix, _| wanted.contains(prefix));
        for &prefix in wanted.difference(&self.told) {
            self.waiting.entry(prefix).or_insert(served.generation);
        }
        self.turn(now, speaker);
    }

    /// Announces what all workers forward for.
    pub(super) fn turn(&mut self, now: Instant, speaker: &mut Speaker) {
        if self.waiting.is_empty() {
            self.look_at = None;
            return;
        }
        let workers = &self.workers;
        let adopted = |generation: u32| {
            workers.iter().all(|worker| is_reached(worker.adopted.read(), generation))
        };
        for (prefix, _) in self.waiting.extract_if(.., |_, generation| adopted(*generation)) {
            // Each peer gets our next hop instead.
            let attributes = Attributes::originated(Ipv4Addr::UNSPECIFIED.into(), Origin::Igp);
            let place = Place::FrontEnd;
            if let Err(error) = speaker.originate(now, place, prefix, OwnRoute::Local, attributes) {
                tracing::warn!(%prefix, %error, "a public prefix is not announced");
            }
            self.told.insert(prefix);
        }
        self.look_at = (!self.waiting.is_empty()).then(|| now + LOOK);
    }

    /// When [`turn`](Self::turn) is to be called.
    pub(super) const fn due(&self) -> Option<Instant> {
        self.look_at
    }
}

/// Whether a worker that adopted `adopted`, 0 for nothing yet, is at `generation`, which wraps.
fn is_reached(adopted: u64, generation: u32) -> bool {
    adopted != 0 && (adopted as u32).wrapping_sub(generation) < 1 << 31
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use nvgate_bgp::speaker::{SpeakerConfig, Start};
    use nvgate_deploy::host::{HostView, LinkFacts};
    use nvgate_model::MacAddress;

    use super::*;
    use crate::demo::site::write_config;
    use crate::snapshot::SnapshotBuilder;

    const PEER: &str = "    asn: 64512\n    peers: [{name: up, address: 198.51.100.2, asn: 65001, \
                        import: none, export: none}]\n";

    fn plan(front_end: &str) -> Plan {
        let directory = tempfile::tempdir().unwrap();
        write_config(directory.path(), Some(1)).unwrap();
        let file = directory.path().join("gateway.yaml");
        let gateway = fs::read_to_string(&file).unwrap();
        let link = "  link: front0\n";
        let with = format!("{link}  bgp:\n{PEER}{front_end}");
        fs::write(file, gateway.replace(link, &with)).unwrap();
        crate::demo::read_plan(directory.path()).unwrap()
    }

    fn host(running: bool) -> HostView {
        let link = |index| LinkFacts {
            index,
            mac: MacAddress([2, 0, 0, 0, 0, index as u8]),
            mtu: 1500,
            running,
            addresses: Vec::new(),
        };
        let links = [("fabric0".to_owned(), link(1)), ("front0".to_owned(), link(2))];
        HostView { links: BTreeMap::from(links), ..HostView::default() }
    }

    fn announced(plan: &Plan, without: Option<&str>, running: bool) -> Vec<String> {
        let mut served = plan.clone();
        served.tenants.retain(|tenant| Some(tenant.name.as_str()) != without);
        let snapshot = SnapshotBuilder::new(1, 7).build(&served, &host(running)).unwrap();
        let domains: Vec<_> = snapshot.domains().cloned().collect();
        let announced = Served::of(&snapshot).announced(plan, &domains);
        announced.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_lease_is_announced_only_while_its_domain_is_there_and_the_link_runs() {
        let plan = plan("");
        assert_eq!(announced(&plan, None, true), ["203.0.113.10/32", "203.0.113.20/32"]);
        assert_eq!(announced(&plan, Some("blue"), true), ["203.0.113.10/32"]);
        assert!(announced(&plan, None, false).is_empty());
    }

    #[test]
    fn an_aggregate_takes_the_place_of_its_leases_as_long_as_it_has_one() {
        let pools = "  pools: [{name: public, prefixes: 203.0.113.8/29}]\n";
        let plan = plan(&format!("    announce: {{aggregates: public}}\n{pools}"));
        assert_eq!(announced(&plan, None, true), ["203.0.113.8/29", "203.0.113.20/32"]);
        assert_eq!(announced(&plan, Some("red"), true), ["203.0.113.20/32"]);
        let mut off = plan.clone();
        off.gateway.front_end.bgp.as_mut().unwrap().announce.addresses = false;
        assert_eq!(announced(&off, None, true), ["203.0.113.8/29"]);
    }

    #[test]
    fn what_is_new_waits_for_every_worker_and_what_is_gone_for_none() {
        let workers: Vec<Arc<WorkerCounters>> = vec![Arc::default(), Arc::default()];
        let mut announcer = Announcer::new(workers.clone());
        let now = Instant(1);
        let mut speaker = Speaker::new(SpeakerConfig::default(), now, 7, Start::Cold);
        let served = |generation| Served { generation, ..Served::default() };
        let both: BTreeSet<Prefix> =
            ["203.0.113.10/32", "203.0.113.20/32"].map(|text| text.parse().unwrap()).into();
        let one: BTreeSet<Prefix> = both.iter().copied().take(1).collect();

        announcer.follow(now, &served(3), &one, &mut speaker);
        workers[0].adopted.set(3);
        announcer.turn(now, &mut speaker);
        assert!(announcer.told.is_empty() && announcer.due().is_some());
        announcer.follow(now, &served(4), &both, &mut speaker);
        workers[1].adopted.set(3);
        announcer.turn(now, &mut speaker);
        assert_eq!(announcer.told, one, "the first one waits for its own snapshot only");
        for worker in &workers {
            worker.adopted.set(5);
        }
        announcer.turn(now, &mut speaker);
        assert_eq!((&announcer.told, announcer.due()), (&both, None));
        announcer.follow(now, &served(6), &one, &mut speaker);
        assert_eq!(announcer.told, one);
        assert!(is_reached(1, u32::MAX), "generations wrap");
    }
}
