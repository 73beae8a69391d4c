//! What a domain with BGP comes to, computed from nothing but what its routers tell now and what is
//! configured now: which routes count, which is best, by which packets go, and what each router is
//! told. Naive on purpose, and without a line of the speaker's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nvgate_model::Prefix;

/// The gateway's AS in every domain.
pub const OWN_ASN: u32 = 64_512;

const NO_EXPORT: u32 = 0xffff_ff01;
const NO_ADVERTISE: u32 = 0xffff_ff02;
const DEFAULT_PREFERENCE: u32 = 100;

/// A route as it is told, by a router or to it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Telling {
    /// The AS path, without sets.
    pub path: Vec<u32>,
    /// 0 to 2.
    pub origin: u8,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// LOCAL_PREF.
    pub preference: Option<u32>,
    /// Communities.
    pub communities: BTreeSet<u32>,
    /// The next hop.
    pub next_hop: IpAddr,
}

/// What is configured of a router's routes on the way in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ImportRule {
    /// Nothing.
    None,
    /// LOCAL_PREF of all.
    Prefer(u32),
    /// LOCAL_PREF of those with this community.
    PreferTagged(u32, u32),
    /// None within this prefix.
    RejectWithin(Prefix),
    /// A weight of all.
    Weigh(u16),
}

/// What is configured of what a router is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ExportRule {
    /// Nothing.
    None,
    /// Nothing with this community.
    RejectTagged(u32),
    /// All get this community.
    Tag(u32),
    /// The own AS so many times more; to other ASes.
    Prepend(u8),
    /// MULTI_EXIT_DISC of all.
    Med(u32),
}

/// A router of a domain, with how it is configured.
#[derive(Clone, Debug)]
pub struct RouterModel {
    /// Its address, which is its BGP identifier, too.
    pub address: Ipv4Addr,
    /// Its AS.
    pub asn: u32,
    /// The gateway's address on the session.
    pub local: Ipv4Addr,
    /// The gateway's IPv6 address next to it.
    pub local_ipv6: Ipv6Addr,
    /// Whether its session stands.
    pub up: bool,
    /// Whether it may teach a default route.
    pub accept_default: bool,
    /// Whether it is told what others taught.
    pub announce_learned: bool,
    /// For what it tells.
    pub import: ImportRule,
    /// For what it is told.
    pub export: ExportRule,
    /// What it tells.
    pub tells: BTreeMap<Prefix, Telling>,
}

/// How alike the paths of routes used side by side are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Alike {
    /// The same path.
    Path,
    /// The same first AS, and as long.
    Neighbour,
    /// As long.
    Length,
}

/// A domain.
#[derive(Clone, Debug)]
pub struct DomainModel {
    /// Its routers.
    pub routers: Vec<RouterModel>,
    /// What is announced of its own.
    pub own: BTreeMap<Prefix, Own>,
    /// Nothing within these is taken from routers.
    pub kept: Vec<Prefix>,
    /// Customer addresses with a lookup record.
    pub reachable: BTreeSet<IpAddr>,
    /// The gateway's own addresses.
    pub gateways: BTreeSet<IpAddr>,
    /// Whether MEDs of different neighbours compare.
    pub always_med: bool,
    /// Routes used side by side.
    pub multipath: usize,
    /// How alike they are.
    pub alike: Alike,
}

/// Why a domain has a route of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Own {
    /// A subnet.
    Subnet,
    /// A static route, announced or not.
    Static(bool),
}

/// Where packets go by learned routes, and what each router is told.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Outcome {
    /// The next hops of each learned prefix.
    pub fib: BTreeMap<Prefix, BTreeSet<IpAddr>>,
    /// By router.
    pub told: Vec<BTreeMap<Prefix, Telling>>,
}

/// A route that counts.
#[derive(Clone, Debug)]
struct Candidate {
    /// Who taught it; none: it is the domain's own.
    router: Option<usize>,
    weight: u16,
    telling: Telling,
}

impl DomainModel {
    /// What has to be, once nothing happens any more.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let taught =
            self.routers.iter().filter(|router| router.up).flat_map(|one| one.tells.keys());
        let prefixes: BTreeSet<Prefix> = taught.chain(self.own.keys()).copied().collect();
        let mut outcome =
            Outcome { told: vec![BTreeMap::new(); self.routers.len()], ..Outcome::default() };
        for prefix in prefixes {
            let candidates = self.candidates(prefix);
            let used = self.used(&candidates);
            let Some(best) = used.first() else { continue };
            if best.router.is_some() {
                let hops = used.iter().map(|one| one.telling.next_hop).collect();
                outcome.fib.insert(prefix, hops);
            }
            for (number, told) in outcome.told.iter_mut().enumerate() {
                told.extend(self.told(number, prefix, best).map(|telling| (prefix, telling)));
            }
        }
        outcome
    }

    fn candidates(&self, prefix: Prefix) -> Vec<Candidate> {
        let unspecified = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let own = self.own.get(&prefix).map(|_| Candidate {
            router: None,
            weight: 0,
            telling: Telling {
                path: Vec::new(),
                origin: 0,
                med: None,
                preference: None,
                communities: BTreeSet::new(),
                next_hop: unspecified,
            },
        });
        let taught = (0..self.routers.len()).filter_map(|number| self.taught(number, prefix));
        own.into_iter().chain(taught).collect()
    }

    /// The route as the domain has it, if it has it.
    fn taught(&self, number: usize, prefix: Prefix) -> Option<Candidate> {
        let router = &self.routers[number];
        let mut telling = router.tells.get(&prefix).filter(|_| router.up)?.clone();
        let external = router.asn != OWN_ASN;
        if external {
            telling.preference = None;
        }
        let wrong_first = external && telling.path.first() != Some(&router.asn);
        let kept = self.kept.iter().any(|kept| kept.covers(prefix));
        let default = prefix.length() == 0 && !router.accept_default;
        if wrong_first || kept || default || telling.path.contains(&OWN_ASN) {
            return None;
        }
        if self.gateways.contains(&telling.next_hop) || !self.reachable.contains(&telling.next_hop)
        {
            return None;
        }
        let mut weight = 0;
        match router.import {
            ImportRule::None => {}
            ImportRule::Prefer(preference) => telling.preference = Some(preference),
            ImportRule::PreferTagged(tag, preference) => {
                if telling.communities.contains(&tag) {
                    telling.preference = Some(preference);
                }
            }
            ImportRule::RejectWithin(within) if within.covers(prefix) => return None,
            ImportRule::RejectWithin(_) => {}
            ImportRule::Weigh(given) => weight = given,
        }
        Some(Candidate { router: Some(number), weight, telling })
    }

    /// The best route, and those that are used beside it.
    fn used<'a>(&self, candidates: &'a [Candidate]) -> Vec<&'a Candidate> {
        let mut left: Vec<&Candidate> = candidates.iter().collect();
        keep_least(&mut left, |one| u32::from(u16::MAX - one.weight));
        keep_least(&mut left, |one| {
            u32::MAX - one.telling.preference.unwrap_or(DEFAULT_PREFERENCE)
        });
        keep_least(&mut left, |one| u32::from(one.router.is_some()));
        keep_least(&mut left, |one| one.telling.path.len() as u32);
        keep_least(&mut left, |one| u32::from(one.telling.origin));
        let all = left.clone();
        left.retain(|one| {
            let rivals = all.iter().filter(|other| {
                self.always_med || other.telling.path.first() == one.telling.path.first()
            });
            rivals.map(|other| other.telling.med.unwrap_or(0)).min()
                == Some(one.telling.med.unwrap_or(0))
        });
        keep_least(&mut left, |one| {
            u32::from(one.router.is_some_and(|number| self.routers[number].asn == OWN_ASN))
        });
        // Identifiers are addresses here, and no two routers of a domain have the same.
        left.sort_by_key(|one| one.router.map(|number| self.routers[number].address));
        let Some(best) = left.first().copied() else { return left };
        let alike = |one: &&Candidate| match self.alike {
            Alike::Path => one.telling.path == best.telling.path,
            Alike::Neighbour => one.telling.path.first() == best.telling.path.first(),
            Alike::Length => true,
        };
        left.into_iter().filter(alike).take(self.multipath).collect()
    }

    /// What a router is told of the best route.
    fn told(&self, number: usize, prefix: Prefix, best: &Candidate) -> Option<Telling> {
        let router = &self.routers[number];
        let external = router.asn != OWN_ASN;
        let teacher = best.router.map(|number| &self.routers[number]);
        let stays_inside = !external && teacher.is_some_and(|teacher| teacher.asn == OWN_ASN);
        if !router.up || best.router == Some(number) || stays_inside {
            return None;
        }
        let wanted = match (teacher, self.own.get(&prefix)) {
            (Some(_), _) => router.announce_learned,
            (None, Some(Own::Static(announced))) => *announced,
            (None, Some(Own::Subnet) | None) => true,
        };
        let communities = &best.telling.communities;
        let secret =
            communities.contains(&NO_ADVERTISE) || external && communities.contains(&NO_EXPORT);
        if !wanted || secret {
            return None;
        }
        let mut telling = best.telling.clone();
        let own_route = telling.path.is_empty();
        let mut prepended = 1;
        let mut med_stays = !external || own_route;
        match router.export {
            ExportRule::None => {}
            ExportRule::RejectTagged(tag) if communities.contains(&tag) => return None,
            ExportRule::RejectTagged(_) => {}
            ExportRule::Tag(tag) => drop(telling.communities.insert(tag)),
            ExportRule::Prepend(times) => prepended += usize::from(times),
            ExportRule::Med(med) => {
                telling.med = Some(med);
                med_stays = true;
            }
        }
        if !med_stays {
            telling.med = None;
        }
        if external {
            telling.path.splice(..0, vec![OWN_ASN; prepended]);
            telling.preference = None;
        } else {
            telling.preference = Some(telling.preference.unwrap_or(DEFAULT_PREFERENCE));
        }
        if external || teacher.is_none() {
            telling.next_hop = match prefix.is_ipv4() {
                true => router.local.into(),
                false => router.local_ipv6.into(),
            };
        }
        Some(telling)
    }
}

fn keep_least(left: &mut Vec<&Candidate>, rank: impl Fn(&Candidate) -> u32) {
    let least = left.iter().map(|one| rank(one)).min();
    left.retain(|one| Some(rank(one)) == least);
}
