//! When sessions are looked at again: a ring of one-second slots, each a list of sessions.
//!
//! A refreshed session is not moved; when its slot comes up it is armed again for what is left.
//! Deadlines beyond the ring's end are looked at once a turn. So arming, disarming and expiring
//! cost a constant each, and a call does no more than it is allowed to.

use nvgate_model::Tick;

use crate::session::Session;
use crate::slab::{NONE, Slab};

/// Slots of the ring: the seconds one turn takes, a power of two.
const SLOTS: u32 = 512;

/// A session's place in the ring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Links {
    previous: u32,
    next: u32,
    /// The second the session is looked at.
    due: u32,
}

impl Links {
    pub(crate) const UNARMED: Self = Self { previous: NONE, next: NONE, due: 0 };
}

#[derive(Debug)]
pub(crate) struct Ring {
    heads: Box<[u32]>,
    /// The second whose slot is being emptied; everything armed is due then or within a turn.
    cursor: u32,
    armed: usize,
}

/// How much an expiry call may still do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    /// Sessions to look at.
    pub(crate) sessions: usize,
    /// Empty slots to step over.
    slots: u32,
}

impl Allowance {
    pub(crate) const fn new(sessions: usize) -> Self {
        Self { sessions, slots: SLOTS }
    }
}

impl Ring {
    pub(crate) fn new() -> Self {
        Self { heads: vec![NONE; SLOTS as usize].into_boxed_slice(), cursor: 0, armed: 0 }
    }

    /// Puts an unarmed session where it is looked at once `deadline` has passed, or earlier.
    pub(crate) fn arm(
        &mut self,
        sessions: &mut Slab<Session>,
        index: u32,
        now: Tick,
        deadline: Tick,
    ) {
        if self.armed == 0 {
            self.cursor = self.cursor.max(second(now));
        }
        self.link(sessions, index, deadline);
    }

    fn link(&mut self, sessions: &mut Slab<Session>, index: u32, deadline: Tick) {
        self.armed += 1;
        let due = second_after(deadline).clamp(self.cursor, self.cursor + SLOTS - 1);
        let head = &mut self.heads[(due % SLOTS) as usize];
        let next = *head;
        *head = index;
        sessions[index].links = Links { previous: NONE, next, due };
        if next != NONE {
            sessions[next].links.previous = index;
        }
    }

    /// Takes an armed session out.
    pub(crate) fn disarm(&mut self, sessions: &mut Slab<Session>, index: u32) {
        let Links { previous, next, due } = sessions[index].links;
        if previous == NONE {
            self.heads[(due % SLOTS) as usize] = next;
        } else {
            sessions[previous].links.next = next;
        }
        if next != NONE {
            sessions[next].links.previous = previous;
        }
        self.armed -= 1;
    }

    /// Moves an armed session forward if `deadline` comes before it would be looked at.
    pub(crate) fn hasten(&mut self, sessions: &mut Slab<Session>, index: u32, deadline: Tick) {
        if second_after(deadline) < sessions[index].links.due {
            self.disarm(sessions, index);
            self.link(sessions, index, deadline);
        }
    }

    /// Takes out a session whose slot has come up; `None` when there is none or `allowance` is
    /// used up.
    pub(crate) fn poll(
        &mut self,
        sessions: &mut Slab<Session>,
        now: Tick,
        allowance: &mut Allowance,
    ) -> Option<u32> {
        let now = second(now);
        if self.armed == 0 || self.cursor > now || allowance.sessions == 0 {
            return None;
        }
        loop {
            let index = self.heads[(self.cursor % SLOTS) as usize];
            if index != NONE {
                allowance.sessions -= 1;
                self.disarm(sessions, index);
                return Some(index);
            }
            if self.cursor == now || allowance.slots == 0 {
                return None;
            }
            allowance.slots -= 1;
            self.cursor += 1;
        }
    }
}

/// The second a tick lies in.
const fn second(tick: Tick) -> u32 {
    tick.0 / Tick::PER_SECOND
}

/// The first second at whose beginning a tick has passed.
const fn second_after(tick: Tick) -> u32 {
    tick.0.div_ceil(Tick::PER_SECOND)
}
