//! One seeded scenario of BGP: tenants with the same addresses and AS numbers, each with routers that
//! tell routes, withdraw them, fall silent and come back, while policies, peers and tenants are
//! reloaded. The gateway is whole: its speaker, TCP over NVGRE, snapshots. Whenever everything has
//! come to rest, what it forwards by and what each router was told is what [`DomainModel`](crate::model_bgp::DomainModel) says.

mod draw;
mod plans;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use nvgate::io::packet::Waker;
use nvgate::peering::{Learnt, LearntBox, Peering, Questions, Ties};
use nvgate::snapshot::LearnedRoute;
use nvgate_bgp::{AsPath, Attributes, Community, Origin};
use nvgate_deploy::plan::Plan;
use nvgate_model::{Asn, Instant, Prefix, RoutingDomainId};

use self::plans::{ROUTERS, Tenant, domain, gateway, router_end, seat};
use super::Random;
use crate::frames::{IPV4, Packet};
use crate::model_bgp::{Outcome, Telling};
use crate::rig::Station;
use crate::rig_bgp::{BgpRouter, Told};
use crate::rig_endpoint::Neighbourhood;
use crate::rig_plan::{APP, WEB, customer, endpoint_mac, plan, provider_v6};

/// Steps of a scenario, and after how many everything is looked at.
const STEPS: usize = 36;
const LOOK: usize = 12;
/// Tenants at most.
const TENANTS: u8 = 6;
/// What the longest chain of timers takes: a session's silence is noticed, and the longest pause
/// before the next attempt is over.
const REST: Duration = Duration::from_secs(200);
/// Moments of one pause.
const MOMENTS: usize = 20_000;

/// A gateway with BGP, its tenants' routers, and what each is configured as and tells.
pub struct Scenario {
    random: Random,
    here: Neighbourhood<Peering, BgpRouter>,
    published: Arc<ArcSwap<Plan>>,
    learnt: Arc<LearntBox>,
    /// What each domain was taught, as control has it.
    learned: BTreeMap<RoutingDomainId, BTreeMap<Prefix, LearnedRoute>>,
    _questions: Questions,
    tenants: Vec<Tenant>,
    steps: String,
    /// Routes compared so far.
    pub compared: usize,
}

impl Scenario {
    /// The scenario of a seed.
    ///
    /// # Panics
    ///
    /// The machine has no file descriptor left.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let count = 1 + random.below(usize::from(TENANTS)) as u8;
        let tenants: Vec<Tenant> =
            (0..count).map(|number| Tenant::new(number, &mut random)).collect();
        let first = plan(plans::of(&tenants));
        let published = Arc::new(ArcSwap::from_pointee(first.clone()));
        let learnt = Arc::new(LearntBox::default());
        let waker = Waker::new().expect("a file descriptor");
        let (questions, asked) = Questions::new(waker.clone());
        let ties = Ties {
            plan: Arc::clone(&published),
            learnt: Arc::clone(&learnt),
            shown: Arc::default(),
            asked,
            workers: Vec::new(),
            waker,
        };
        let peering = Peering::new(ties, Instant(1_000_000_000), seed);
        let peering = peering.expect("a file descriptor");
        let workers = 1 + (seed % 2) as u16;
        let mut here = Neighbourhood::with(&first, workers, peering);
        for tenant in &tenants {
            for number in 0..ROUTERS {
                let router = &tenant.routers[number];
                let ends = (router_end(number, router.asn), gateway(number));
                let seat = seat(tenant.number, number);
                let name = (tenant.number, number);
                let now = here.rig.now;
                here.routers.push(BgpRouter::new(name, ends, router.opening, seat, now));
            }
        }
        Self {
            random,
            here,
            published,
            learnt,
            learned: BTreeMap::new(),
            _questions: questions,
            tenants,
            steps: String::new(),
            compared: 0,
        }
    }

    /// What was done so far.
    #[must_use]
    pub fn steps(&self) -> &str {
        &self.steps
    }

    /// Plays it.
    ///
    /// # Errors
    ///
    /// What is not as the model says.
    pub fn play(&mut self) -> Result<(), String> {
        self.tell_all();
        for step in 1..=STEPS {
            self.step();
            let pause = self.random.below(6000) as u64;
            self.pass(Duration::from_millis(pause));
            if step % LOOK == 0 {
                self.pass(REST);
                self.look()?;
            }
        }
        self.packets()
    }

    fn note(&mut self, what: &str) {
        let _ = writeln!(self.steps, "{:?} {what}", self.here.rig.now);
    }

    fn step(&mut self) {
        let tenant = self.random.below(self.tenants.len());
        let number = self.random.below(ROUTERS);
        let at = tenant * ROUTERS + number;
        let name = format!("tenant {tenant} router {number}");
        match self.random.below(20) {
            0..8 => {
                self.tenants[tenant].routers[number].draw_routes(&mut self.random);
                let tells = &self.tenants[tenant].routers[number].tells;
                let what = format!("{name} tells {tells:?}");
                self.note(&what);
                self.tell_all();
            }
            8..10 => {
                self.here.routers[at].cut ^= true;
                let cut = self.here.routers[at].cut;
                self.note(&format!("{name} cut: {cut}"));
            }
            10 => {
                self.note(&format!("{name} breaks its connection"));
                let now = self.here.rig.now;
                self.here.routers[at].flap(now);
            }
            11 => {
                self.note(&format!("{name} asks again"));
                self.here.routers[at].ask_again();
            }
            12..18 => {
                self.tenants[tenant].routers[number].reconfigure(&mut self.random);
                let what = format!("{name} is now {:?}", self.tenants[tenant].routers[number]);
                self.note(&what);
                self.reload();
            }
            _ => {
                self.tenants[tenant].reconfigure(&mut self.random);
                let what = self.tenants[tenant].summary();
                self.note(&format!("tenant {tenant} is now {what}"));
                self.reload();
            }
        }
    }

    fn tell_all(&mut self) {
        for router in &mut self.here.routers {
            let (tenant, number) = router.name;
            let tells = &self.tenants[usize::from(tenant)].routers[number].tells;
            router.tell(tells.iter().map(|(to, telling)| (*to, attributes(telling))).collect());
        }
    }

    /// As control does: the plan first, then its snapshot.
    fn reload(&mut self) {
        let plan = plan(plans::of(&self.tenants));
        self.published.store(Arc::new(plan.clone()));
        self.here.rig.reload(&plan);
    }

    /// Lets time pass from one moment at which something is due to the next.
    fn pass(&mut self, duration: Duration) {
        let end = self.here.rig.now + duration;
        for _ in 0..MOMENTS {
            self.here.carry();
            let (learnt, _) = self.learnt.take();
            if !learnt.is_empty() {
                self.note_learnt(&learnt);
                self.here.rig.learn_all(learnt);
                continue;
            }
            let now = self.here.rig.now;
            let routers = self.here.routers.iter().filter_map(BgpRouter::poll_timeout);
            let due = routers.chain(self.here.driver.poll_timeout(now)).min();
            let Some(due) = due.filter(|due| *due < end) else {
                self.here.rig.advance(end.since(now));
                return self.here.carry();
            };
            self.here.rig.advance(due.since(now));
        }
        panic!("something is due for ever");
    }

    fn note_learnt(&mut self, learnt: &[Learnt]) {
        for (domain, changes) in learnt {
            let known = self.learned.entry(*domain).or_default();
            if changes.anew {
                known.clear();
            }
            for (prefix, route) in &changes.routes {
                known.remove(prefix);
                known.extend(route.iter().map(|route| (*prefix, route.clone())));
            }
        }
    }

    /// Compares everything with the model.
    fn look(&mut self) -> Result<(), String> {
        for tenant in &self.tenants {
            let at = usize::from(tenant.number) * ROUTERS;
            let routers = &self.here.routers[at..at + ROUTERS];
            for (number, router) in routers.iter().enumerate() {
                let expected = tenant.speaks_with(number) && !router.cut;
                if router.is_up() != expected {
                    let (name, up) = (router.name, router.is_up());
                    return Err(format!("{name:?}: up is {up}"));
                }
            }
            let up: Vec<bool> = routers.iter().map(BgpRouter::is_up).collect();
            let Outcome { fib, told } = tenant.model(&up).outcome();
            let learned = self.learned.get(&domain(tenant.number));
            let learned = learned.map(next_hops).unwrap_or_default();
            if learned != fib {
                let number = tenant.number;
                return Err(format!("tenant {number} forwards by {learned:#?}\nnot by {fib:#?}"));
            }
            self.compared += fib.len();
            for (router, told) in routers.iter().zip(told) {
                let told: Told =
                    told.iter().map(|(to, telling)| (*to, attributes(telling))).collect();
                if router.heard != told {
                    let (name, heard) = (router.name, &router.heard);
                    return Err(format!("{name:?} was told {heard:#?}\nnot {told:#?}"));
                }
                self.compared += told.len();
            }
        }
        Ok(())
    }

    /// Sends a packet to each prefix that routers may tell, and sees where it goes.
    fn packets(&mut self) -> Result<(), String> {
        for tenant in self.tenants.iter().filter(|tenant| tenant.present) {
            let at = usize::from(tenant.number) * ROUTERS;
            let up: Vec<bool> =
                self.here.routers[at..at + ROUTERS].iter().map(BgpRouter::is_up).collect();
            let ways = tenant.ways(&tenant.model(&up).outcome());
            let from = Station::new(tenant.number, APP, 22, &[provider_v6(15).into()]);
            for target in draw::TARGETS {
                let to: IpAddr = target.parse().expect("an address");
                let packet = Packet::udp((customer(APP, 22), 4000), (to, 9), b"where?");
                let output = self.here.rig.from_tenant(&from, &packet);
                let way = ways.iter().filter(|(prefix, _)| prefix.contains(to));
                let way = way.max_by_key(|(prefix, _)| prefix.length()).map(|(_, hops)| hops);
                let macs: Vec<_> =
                    output.overlay().iter().map(|nvgre| nvgre.inner.destination).collect();
                let right = match (way, &macs[..]) {
                    (Some(hops), [mac]) => hops.iter().any(|hop| mac_of(*hop) == Some(*mac)),
                    (None, []) => {
                        // Beside it the gateway may announce addresses of a tenant that came.
                        let frames = output.frames();
                        frames.iter().filter(|frame| frame.ethertype == IPV4).count() == 1
                    }
                    (Some(_), _) | (None, _) => false,
                };
                if !right {
                    let number = tenant.number;
                    return Err(format!("tenant {number} to {to}: {macs:?} instead of {way:?}"));
                }
                self.compared += 1;
            }
        }
        Ok(())
    }
}

/// The MAC of the endpoint with a customer address.
fn mac_of(address: IpAddr) -> Option<nvgate_model::MacAddress> {
    [WEB, APP].into_iter().find_map(|subnet| {
        let last = (1..=255).find(|last| address == IpAddr::V4(customer(subnet, *last)));
        last.map(|last| endpoint_mac(subnet, last))
    })
}

fn next_hops(routes: &BTreeMap<Prefix, LearnedRoute>) -> BTreeMap<Prefix, BTreeSet<IpAddr>> {
    let hops = |route: &LearnedRoute| match route {
        LearnedRoute::Via(hops) => hops.iter().copied().collect(),
        LearnedRoute::Discard => BTreeSet::new(),
    };
    routes.iter().map(|(prefix, route)| (*prefix, hops(route))).collect()
}

fn attributes(telling: &Telling) -> Attributes {
    let origin = Origin::from_wire(telling.origin).expect("0 to 2");
    let mut attributes = Attributes::originated(telling.next_hop, origin);
    let path: Vec<Asn> = telling.path.iter().copied().map(Asn).collect();
    attributes.as_path = AsPath::sequence(&path);
    attributes.med = telling.med;
    attributes.local_preference = telling.preference;
    attributes.communities = telling.communities.iter().copied().map(Community).collect();
    attributes
}
