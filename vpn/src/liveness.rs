//! Whether the far side of a tunnel answers: when to send a probe, and what its replies mean.
//!
//! The gateway sends the probe (an ICMP echo request through the tunnel) that
//! [`poll`](Liveness::poll) asks for, and hands in the sequence numbers of the replies.

use std::num::NonZeroU16;
use std::time::Duration;

use nvgate_model::Instant;

/// How a tunnel is probed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProbeConfig {
    /// Between two probes, and the longest that a reply is waited for.
    pub interval: Duration,
    /// As many probes in a row unanswered and the far side counts as gone.
    pub failures: NonZeroU16,
    /// How long a far side that was gone has to answer every probe before it counts again; zero:
    /// the first reply is enough.
    pub hold: Duration,
}

/// What is known of the far side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reachability {
    /// It has not answered yet.
    Untested,
    /// It answers.
    Up,
    /// It answered once and does so no more.
    Down,
    /// It answers again, since the instant given, and has to go on for the hold time.
    Holding(Instant),
}

/// The probe of one tunnel. Starts [`Untested`](Reachability::Untested); the first reply ever
/// needs no hold time.
#[derive(Clone, Debug)]
pub struct Liveness {
    config: ProbeConfig,
    state: Reachability,
    /// The sequence number of the newest probe.
    sent: u16,
    /// The newest sequence number that was answered.
    answered: u16,
    next_probe: Instant,
}

impl Liveness {
    /// A probe whose first request is due at once.
    #[must_use]
    pub const fn new(config: ProbeConfig, now: Instant) -> Self {
        Self { config, state: Reachability::Untested, sent: 0, answered: 0, next_probe: now }
    }

    /// The sequence number of the probe to send now, if one is due. Also counts those that stayed
    /// unanswered.
    pub fn poll(&mut self, now: Instant) -> Option<u16> {
        if now < self.next_probe {
            return None;
        }
        let unanswered = self.sent.wrapping_sub(self.answered);
        match self.state {
            Reachability::Up if unanswered >= self.config.failures.get() => {
                self.state = Reachability::Down;
            }
            Reachability::Holding(_) if unanswered > 0 => self.state = Reachability::Down,
            Reachability::Up
            | Reachability::Holding(_)
            | Reachability::Untested
            | Reachability::Down => {}
        }
        // Far behind, an old number would look like a new one once numbers have wrapped.
        if unanswered > self.config.failures.get() {
            self.answered = self.answered.wrapping_add(1);
        }
        self.sent = self.sent.wrapping_add(1);
        self.next_probe = now + self.config.interval;
        Some(self.sent)
    }

    /// When [`poll`](Self::poll) has the next probe.
    #[must_use]
    pub const fn poll_timeout(&self) -> Instant {
        self.next_probe
    }

    /// Takes the reply to the probe `sequence`; one that was not sent, or is older than one
    /// already answered, changes nothing.
    pub fn handle_reply(&mut self, sequence: u16, now: Instant) {
        let ahead = sequence.wrapping_sub(self.answered);
        if ahead == 0 || ahead > self.sent.wrapping_sub(self.answered) {
            return;
        }
        self.answered = sequence;
        self.state = match self.state {
            Reachability::Untested | Reachability::Up => Reachability::Up,
            Reachability::Down if self.config.hold.is_zero() => Reachability::Up,
            Reachability::Down => Reachability::Holding(now),
            Reachability::Holding(since) if now.since(since) >= self.config.hold => {
                Reachability::Up
            }
            Reachability::Holding(since) => Reachability::Holding(since),
        };
    }

    /// What is known of the far side.
    #[must_use]
    pub const fn state(&self) -> Reachability {
        self.state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(failures: u16, hold_secs: u64) -> ProbeConfig {
        ProbeConfig {
            interval: Duration::from_secs(2),
            failures: NonZeroU16::new(failures).unwrap(),
            hold: Duration::from_secs(hold_secs),
        }
    }

    /// A probe every two seconds, of which `answer` says which are answered half a second later.
    fn run(liveness: &mut Liveness, now: &mut Instant, answers: &[bool]) -> Reachability {
        for answer in answers {
            let sequence = liveness.poll(*now).expect("a probe is due every two seconds");
            assert_eq!(liveness.poll(*now), None);
            if *answer {
                liveness.handle_reply(sequence, *now + Duration::from_millis(500));
            }
            *now = *now + Duration::from_secs(2);
            assert_eq!(liveness.poll_timeout(), *now);
        }
        liveness.state()
    }

    #[test]
    fn it_is_up_with_the_first_reply_and_down_after_so_many_failures() {
        let (mut liveness, mut now) = (Liveness::new(config(3, 5), Instant(9)), Instant(9));
        assert_eq!(run(&mut liveness, &mut now, &[false; 5]), Reachability::Untested);
        assert_eq!(run(&mut liveness, &mut now, &[true]), Reachability::Up);
        assert_eq!(run(&mut liveness, &mut now, &[false, false, true]), Reachability::Up);
        assert_eq!(run(&mut liveness, &mut now, &[false; 3]), Reachability::Up);
        assert_eq!(run(&mut liveness, &mut now, &[false]), Reachability::Down);
    }

    #[test]
    fn it_comes_back_after_answering_for_the_hold_time_without_a_miss() {
        let (mut liveness, mut now) = (Liveness::new(config(1, 4), Instant(0)), Instant(0));
        assert_eq!(run(&mut liveness, &mut now, &[true, false, false]), Reachability::Down);
        let holding = run(&mut liveness, &mut now, &[true, true]);
        assert!(matches!(holding, Reachability::Holding(_)));
        assert_eq!(run(&mut liveness, &mut now, &[false, false]), Reachability::Down);
        assert_eq!(run(&mut liveness, &mut now, &[true, true, true]), Reachability::Up);
    }

    #[test]
    fn replies_that_were_not_asked_for_or_come_again_change_nothing() {
        let mut liveness = Liveness::new(config(2, 0), Instant(0));
        liveness.handle_reply(0, Instant(0));
        liveness.handle_reply(7, Instant(0));
        assert_eq!(liveness.state(), Reachability::Untested);
        let (mut now, mut first) = (Instant(0), None);
        for _ in 0..70_000 {
            let sequence = liveness.poll(now);
            first = first.or(sequence);
            now = liveness.poll_timeout();
            if sequence > Some(4) {
                liveness.handle_reply(first.unwrap(), now);
                assert_ne!(liveness.state(), Reachability::Up);
            }
            if sequence == Some(u16::MAX) {
                break;
            }
        }
    }

    #[test]
    fn a_reply_slower_than_the_interval_counts() {
        let mut liveness = Liveness::new(config(3, 0), Instant(0));
        let mut now = Instant(0);
        let mut last = None;
        for _ in 0..20 {
            let sequence = liveness.poll(now);
            if let Some(last) = last {
                liveness.handle_reply(last, now + Duration::from_millis(1));
            }
            last = sequence;
            now = liveness.poll_timeout();
        }
        assert_eq!(liveness.state(), Reachability::Up);
    }
}
