//! Which of a prefix's routes is best, and why each of the others lost (RFC 4271 section 9.1.2).
//!
//! A pure function of the candidates: their order makes no difference, and no step compares a pair
//! alone, so that MEDs of several neighbour ASes cannot make a circle. The age of a route is no step,
//! because it depends on the order of arrival. A table calls this for every prefix that changed.

use std::net::{IpAddr, Ipv4Addr};

use nvgate_model::Asn;

use crate::attributes::Attributes;
use crate::community::Community;
use crate::nlri::PathId;

#[cfg(test)]
mod tests;

/// LOCAL_PREF of a route that has none, in the degree of preference (RFC 4271 section 9.1.1).
pub const DEFAULT_LOCAL_PREFERENCE: u32 = 100;

/// One route to the prefix, as import left it.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// The attributes after import; those received if import gave none.
    pub attributes: &'a Attributes,
    /// Why the route may not be chosen at all.
    pub barred: Option<Barred>,
    /// Preference within this speaker only, before everything else; higher wins.
    pub weight: u16,
    /// Where the route comes from.
    pub source: Source,
    /// The cost to reach the next hop; lower wins.
    pub metric: u32,
    /// The BGP identifier of the peer.
    pub router_id: Ipv4Addr,
    /// The peer's address.
    pub peer: IpAddr,
    /// Our own address on the session: two sessions with one peer differ here.
    pub local: IpAddr,
    /// The path identifier that the peer gave the route.
    pub path_id: Option<PathId>,
}

/// Where a route comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// This speaker originates it.
    Local,
    /// A peer in another AS.
    External,
    /// A peer in our AS.
    Internal,
}

/// Why a route may not be chosen, whatever its attributes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Barred {
    /// Import policy rejected it.
    Rejected,
    /// It came through our AS, or through this speaker as a reflector.
    Loop,
    /// ONLY_TO_CUSTOMER forbids the way it came (RFC 9234 section 5).
    Leak,
    /// Its next hop is unreachable, or not yet known to be reachable.
    Unresolved,
    /// Its peer's session ended, and the routes have not all been removed yet.
    PeerGone,
}

/// What the decision made of a route: the best, or the step at which it lost.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Verdict {
    /// The best route.
    Best,
    /// It was not eligible.
    Barred(Barred),
    /// It is kept beyond graceful restart and another is not (RFC 9494 section 4.3).
    LlgrStale,
    /// Another has a higher weight.
    Weight,
    /// Another has a higher LOCAL_PREF.
    LocalPreference,
    /// Another is originated here.
    LocallyOriginated,
    /// Another has a shorter AS_PATH (RFC 4271 section 9.1.2.2 a).
    PathLength,
    /// Another has a lower ORIGIN (section 9.1.2.2 b).
    Origin,
    /// Another of the same neighbour AS has a lower MULTI_EXIT_DISC (section 9.1.2.2 c).
    Med,
    /// Another came by eBGP, this by iBGP (section 9.1.2.2 d).
    Internal,
    /// Another's next hop is nearer (section 9.1.2.2 e).
    Metric,
    /// Another's router has a lower identifier: ORIGINATOR_ID, else the peer's (section 9.1.2.2 f,
    /// RFC 4456 section 9).
    RouterId,
    /// Another passed fewer reflectors (RFC 4456 section 9).
    ClusterLength,
    /// Another's peer has a lower address (RFC 4271 section 9.1.2.2 g), or the same with a lower one
    /// of ours.
    PeerAddress,
    /// Another path of the same peer has a lower identifier.
    PathId,
}

/// What the decision made of a route, and whether packets take it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Standing {
    /// The best, or the step at which it lost.
    pub verdict: Verdict,
    /// Whether packets take it: the best, and those that are used beside it.
    pub used: bool,
}

impl Standing {
    /// What a slice of standings may hold before the decision.
    pub const UNDECIDED: Self = Self { verdict: Verdict::Best, used: false };
}

/// Whose MULTI_EXIT_DISCs compare.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum MedComparison {
    /// Those of routes from the same neighbour AS (RFC 4271 section 9.1.2.2 c).
    #[default]
    SameNeighbor,
    /// All.
    Always,
}

/// How alike the AS_PATHs of routes used side by side are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum MultipathPath {
    /// The same path.
    #[default]
    Exact,
    /// The same neighbour AS and the same length.
    Neighbor,
    /// The same length.
    Length,
}

/// What an operator may choose about the decision.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Whose MULTI_EXIT_DISCs compare.
    pub med: MedComparison,
    /// The most routes used side by side, the best among them; 1 means no multipath.
    pub multipath: u8,
    /// How alike they are.
    pub multipath_path: MultipathPath,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            med: MedComparison::default(),
            multipath: 1,
            multipath_path: MultipathPath::default(),
        }
    }
}

/// A step that looks at one route at a time: the lowest rank goes on, the others get the verdict.
type Step = (Verdict, fn(&Candidate<'_>) -> u64);

/// Writes what becomes of each candidate to the same place of `standings`, and returns the place of
/// the best. None if none is eligible. Time is that of sorting the candidates.
///
/// # Panics
///
/// The slices differ in length.
pub fn select(
    candidates: &[Candidate<'_>],
    options: &Options,
    standings: &mut [Standing],
) -> Option<usize> {
    assert_eq!(candidates.len(), standings.len(), "one standing a candidate");
    for (candidate, standing) in candidates.iter().zip(&mut *standings) {
        let verdict = candidate.barred.map_or(Verdict::Best, Verdict::Barred);
        *standing = Standing { verdict, used: false };
    }
    if candidates.len() > 1 {
        keep_lowest(candidates, standings, &PREFERENCE);
        keep_lowest_med(candidates, options.med, standings);
        keep_lowest(candidates, standings, &DISTANCE);
    }
    break_ties(candidates, options, standings)
}

const PREFERENCE: [Step; 6] = [
    (Verdict::LlgrStale, |candidate| {
        u64::from(candidate.attributes.communities.contains(Community::LLGR_STALE))
    }),
    (Verdict::Weight, |candidate| u64::from(u16::MAX - candidate.weight)),
    (Verdict::LocalPreference, |candidate| {
        let preference = candidate.attributes.local_preference;
        u64::from(u32::MAX - preference.unwrap_or(DEFAULT_LOCAL_PREFERENCE))
    }),
    (Verdict::LocallyOriginated, |candidate| u64::from(candidate.source != Source::Local)),
    (Verdict::PathLength, |candidate| candidate.attributes.as_path.hop_count() as u64),
    (Verdict::Origin, |candidate| u64::from(candidate.attributes.origin.to_wire())),
];

const DISTANCE: [Step; 2] = [
    (Verdict::Internal, |candidate| u64::from(candidate.source == Source::Internal)),
    (Verdict::Metric, |candidate| u64::from(candidate.metric)),
];

fn keep_lowest(candidates: &[Candidate<'_>], standings: &mut [Standing], steps: &[Step]) {
    for (verdict, rank) in steps {
        let lowest = left(candidates, standings).map(|(_, candidate)| rank(candidate)).min();
        for (candidate, standing) in candidates.iter().zip(&mut *standings) {
            if standing.verdict == Verdict::Best && Some(rank(candidate)) != lowest {
                standing.verdict = *verdict;
            }
        }
    }
}

/// The candidates that no step took out yet, with their places.
fn left<'a, 'b>(
    candidates: &'b [Candidate<'a>],
    standings: &'b [Standing],
) -> impl Iterator<Item = (usize, &'b Candidate<'a>)> {
    let places = candidates.iter().zip(standings).enumerate();
    places.filter_map(|(place, (candidate, standing))| {
        (standing.verdict == Verdict::Best).then_some((place, candidate))
    })
}

/// Within each group only the lowest MED goes on. Sorted by group, so that many candidates of many
/// neighbours do not cost the square of their number.
fn keep_lowest_med(
    candidates: &[Candidate<'_>],
    comparison: MedComparison,
    standings: &mut [Standing],
) {
    let group = |candidate: &Candidate<'_>| match comparison {
        MedComparison::SameNeighbor => neighbor(candidate),
        MedComparison::Always => None,
    };
    let med = |candidate: &Candidate<'_>| candidate.attributes.med.unwrap_or(0);
    let meds = || left(candidates, standings).map(|(_, candidate)| med(candidate));
    if meds().min() == meds().max() {
        return;
    }
    let mut ranked: Vec<(Option<Asn>, u32, usize)> = left(candidates, standings)
        .map(|(place, candidate)| (group(candidate), med(candidate), place))
        .collect();
    ranked.sort_unstable();
    for neighbors in ranked.chunk_by(|a, b| a.0 == b.0) {
        for (_, _, place) in neighbors.iter().filter(|(_, med, _)| *med != neighbors[0].1) {
            standings[*place].verdict = Verdict::Med;
        }
    }
}

/// The AS within which MEDs compare; none is the local AS.
fn neighbor(candidate: &Candidate<'_>) -> Option<Asn> {
    candidate.attributes.as_path.neighbor()
}

/// What is left for a decision among equals; no two routes of a prefix have the same.
type Tie = (u32, usize, (IpAddr, IpAddr), Option<PathId>);

fn tie(candidate: &Candidate<'_>) -> Tie {
    let attributes = candidate.attributes;
    (
        attributes.originator_id().unwrap_or(candidate.router_id).to_bits(),
        attributes.cluster_list().len(),
        (candidate.peer, candidate.local),
        candidate.path_id,
    )
}

fn break_ties(
    candidates: &[Candidate<'_>],
    options: &Options,
    standings: &mut [Standing],
) -> Option<usize> {
    let (best, _) = left(candidates, standings).min_by_key(|(_, candidate)| tie(candidate))?;
    if candidates.len() > 1 {
        use_side_by_side(candidates, best, options, standings);
        for (candidate, standing) in candidates.iter().zip(&mut *standings) {
            if standing.verdict == Verdict::Best {
                standing.verdict = lost_tie(&tie(&candidates[best]), &tie(candidate));
            }
        }
    }
    standings[best] = Standing { verdict: Verdict::Best, used: true };
    Some(best)
}

/// Marks those that may be used beside the best: the first in the order of ties, up to the bound.
fn use_side_by_side(
    candidates: &[Candidate<'_>],
    best: usize,
    options: &Options,
    standings: &mut [Standing],
) {
    let beside = usize::from(options.multipath).saturating_sub(1);
    if beside == 0 {
        return;
    }
    let alike = |candidate: &Candidate<'_>| match options.multipath_path {
        MultipathPath::Exact => candidate.attributes.as_path == candidates[best].attributes.as_path,
        MultipathPath::Neighbor => neighbor(candidate) == neighbor(&candidates[best]),
        MultipathPath::Length => true,
    };
    let mut equals: Vec<(Tie, usize)> = left(candidates, standings)
        .filter(|(place, candidate)| *place != best && alike(candidate))
        .map(|(place, candidate)| (tie(candidate), place))
        .collect();
    equals.sort_unstable();
    for (_, place) in equals.into_iter().take(beside) {
        standings[place].used = true;
    }
}

/// The first of the last steps at which the best is ahead.
fn lost_tie(best: &Tie, other: &Tie) -> Verdict {
    if best.0 != other.0 {
        Verdict::RouterId
    } else if best.1 != other.1 {
        Verdict::ClusterLength
    } else if best.2 != other.2 {
        Verdict::PeerAddress
    } else {
        Verdict::PathId
    }
}
