//! Which capabilities each thread keeps once sockets are open. On Linux they belong to a thread, and
//! a new thread has those of the one that started it.

use caps::{CapSet, Capability, CapsHashSet};

/// What control goes on needing: the kernel's network, and, when root started the gateway by hand,
/// files that belong to others. The service's user never has those last ones.
const CONTROL: [Capability; 5] = [
    Capability::CAP_NET_ADMIN,
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_DAC_READ_SEARCH,
    Capability::CAP_FOWNER,
];

/// Which thread gives up what it does not need.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Keeper {
    /// Control, after the workers' sockets are open.
    Control,
    /// The thread of BGP and BFD, which listens on port 179 whenever a configuration has it so.
    Speaker,
    /// A worker: everything it does, it does with open sockets.
    Worker,
}

impl Keeper {
    fn needs(self) -> CapsHashSet {
        match self {
            Self::Control => CONTROL.into_iter().collect(),
            Self::Speaker => [Capability::CAP_NET_BIND_SERVICE].into_iter().collect(),
            Self::Worker => CapsHashSet::new(),
        }
    }
}

/// Gives up, for this thread and those it starts, all capabilities but those that `keeper` needs.
///
/// # Errors
///
/// The kernel refused it.
pub(super) fn give_up(keeper: Keeper) -> Result<(), caps::errors::CapsError> {
    let needed = keeper.needs();
    // What is effective must be permitted; ambient ones go with either of the others.
    for set in [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable] {
        let held = caps::read(None, set)?;
        caps::set(None, set, &held.intersection(&needed).copied().collect())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// The sets of a thread that gave up what `keeper` does not need.
    fn left_to(keeper: Keeper) -> [CapsHashSet; 4] {
        let sets = [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable, CapSet::Ambient];
        let given_up = thread::spawn(move || {
            give_up(keeper).unwrap();
            sets.map(|set| caps::read(None, set).unwrap())
        });
        given_up.join().unwrap()
    }

    #[test]
    fn a_thread_keeps_at_most_what_it_needs_and_the_others_lose_nothing() {
        let before = caps::read(None, CapSet::Permitted).unwrap();
        assert_eq!(left_to(Keeper::Worker), std::array::from_fn(|_| CapsHashSet::new()));
        for keeper in [Keeper::Control, Keeper::Speaker] {
            let [effective, permitted, ..] = left_to(keeper);
            assert_eq!(permitted, before.intersection(&keeper.needs()).copied().collect());
            assert!(effective.is_subset(&permitted));
        }
        assert_eq!(caps::read(None, CapSet::Permitted).unwrap(), before);
    }
}
