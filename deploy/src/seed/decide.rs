//! What is to be in effect, from the seed that was found, the one in effect until now, and the
//! machine's NICs. It decides and changes nothing; whatever it decides, a NIC is for management if
//! the machine has one that may be.

use std::net::SocketAddr;

use super::files::Seed;
use super::judge::Judgement;
use super::nics::{HostNic, NamedNic, Role, name_management, named_by_order};
use super::report::{MAX_PROBLEMS, Problem, State};
use crate::plan::{ADMIN_LISTEN, Addressing};

/// A seed that was found.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Where, for people.
    pub source: String,
    /// Its files.
    pub seed: Seed,
}

/// What is to be in effect.
#[derive(Clone, Debug)]
pub struct Decision {
    /// What becomes of the seed; [`State::Applied`] has its files put in effect.
    pub state: State,
    /// The machine's name, if it is given one.
    pub hostname: Option<String>,
    /// The NICs with their names.
    pub nics: Vec<NamedNic>,
    /// Lines of authorized_keys.
    pub ssh_keys: Vec<String>,
    /// Where the health endpoint will listen.
    pub health: SocketAddr,
    /// Whether gateway.yaml gives the management NIC its addresses, and so nobody else may.
    pub management_is_described: bool,
    /// Whether a NIC that has a role is not there, and may still come.
    pub missing_nic: bool,
    /// Everything that is wrong with the seed.
    pub problems: Vec<Problem>,
}

/// Decides. `last` is the seed in effect until now.
#[must_use]
pub fn decide(candidate: Option<&Candidate>, last: Option<&Seed>, nics: &[HostNic]) -> Decision {
    let judged = candidate.map(|candidate| (&candidate.seed, candidate.seed.judge(Some(nics))));
    let mut decision = match (judged, last) {
        (None, None) => waiting(named_by_order(nics)),
        (None, Some(last)) => in_effect(State::Unchanged, last, last.judge(Some(nics))),
        (Some((seed, judgement)), Some(last)) if last == seed => {
            in_effect(State::Unchanged, seed, judgement)
        }
        (Some((seed, judgement)), _) if judgement.plan.is_ok() => {
            in_effect(State::Applied, seed, judgement)
        }
        (Some((_, broken)), Some(last)) => kept(&broken, last, last.judge(Some(nics))),
        // It still says who may log in, and which NICs it could name.
        (Some((seed, broken)), None) => Decision {
            health: ADMIN_LISTEN,
            management_is_described: false,
            ..in_effect(State::Waiting, seed, broken)
        },
    };
    name_management(&mut decision.nics, nics);
    let is_management = |nic: &NamedNic| nic.role == Role::Management;
    if decision.state == State::Waiting && !decision.nics.iter().any(is_management) {
        // Nothing uses the roles that a broken seed gave to all NICs.
        decision.nics.clear();
        name_management(&mut decision.nics, nics);
    }
    decision
}

/// Nothing is in effect and nothing is to be.
fn waiting(nics: Vec<NamedNic>) -> Decision {
    Decision {
        state: State::Waiting,
        hostname: None,
        nics,
        ssh_keys: Vec::new(),
        health: ADMIN_LISTEN,
        management_is_described: false,
        missing_nic: false,
        problems: Vec::new(),
    }
}

/// The last good seed remains in effect, with the management NIC of the broken one if its own is
/// not there any more.
fn kept(broken: &Judgement, last: &Seed, judgement: Judgement) -> Decision {
    let mut decision = in_effect(State::KeptLastGood, last, judgement);
    let mut problems = problems(broken);
    problems.append(&mut decision.problems);
    decision.problems = problems;
    decision.missing_nic = broken.missing_nic;
    if !decision.nics.iter().any(|nic| nic.role == Role::Management) {
        let taken: Vec<_> = decision.nics.iter().map(|nic| nic.index).collect();
        let management = broken.named.iter().find(|nic| nic.role == Role::Management);
        decision.nics.extend(management.filter(|nic| !taken.contains(&nic.index)).cloned());
    }
    decision
}

fn problems(judgement: &Judgement) -> Vec<Problem> {
    let errors = judgement.plan.as_ref().err().cloned().unwrap_or_default();
    errors.into_iter().take(MAX_PROBLEMS).map(Problem::of_diagnostic).collect()
}

/// A seed that was judged is in effect.
fn in_effect(state: State, seed: &Seed, judgement: Judgement) -> Decision {
    let problems = problems(&judgement);
    let Judgement { description, named, missing_nic, plan } = judgement;
    // The gateway starts without a NIC that is missing, as far as it comes.
    let gateway = plan.or_else(|_| seed.judge(None).plan).ok().map(|plan| plan.gateway);
    let link = gateway
        .as_ref()
        .and_then(|gateway| gateway.links.as_ref()?.link(&Role::Management.link_name(0)));
    Decision {
        state,
        hostname: description.hostname,
        nics: named,
        ssh_keys: description.ssh_keys,
        management_is_described: link.is_some_and(|link| link.addressing != Addressing::Foreign),
        health: gateway.map_or(ADMIN_LISTEN, |gateway| gateway.admin_listen),
        missing_nic,
        problems,
    }
}
