//! Interrupt moderation as network cards do it: a worker with many packets coming one by one pauses
//! after each turn, so that they come together.
//!
//! What a packet costs by itself is the kernel's: waking a core and being woken. A card's driver
//! saves it by a pause of about 100 us between interrupts, and only if packets really gather in it: one
//! question and one answer at a time, as of a database's client, would only become slower. So the
//! pause is kept up as long as it gathers [`GATHERED`] packets, and tried again after [`HOLD`].

use std::time::Duration;

use nvgate_model::Instant;

use crate::io::BATCH;

/// How long a worker pauses.
const PAUSE: Duration = Duration::from_micros(100);
/// Packets that a pause has to gather on average.
const GATHERED: u32 = 3;
/// Pauses between two judgements. It is pauses that are counted and not time: traffic comes in bursts.
const JUDGED: u32 = 16;
/// How long after pauses that gathered too few none is tried.
const HOLD: Duration = Duration::from_millis(50);

/// When one worker pauses.
#[derive(Debug, Default)]
pub(super) struct Moderation {
    pausing: bool,
    /// Since the last judgement.
    packets: u32,
    pauses: u32,
    /// When the packets began to be counted, or until when no pause is tried.
    since: Instant,
}

impl Moderation {
    /// How long to pause after a turn that began at `now` and took `packets` packets.
    pub(super) fn after_turn(&mut self, now: Instant, packets: usize) -> Option<Duration> {
        if packets == 0 {
            return None;
        }
        self.packets = self.packets.saturating_add(packets as u32);
        if self.pausing {
            self.judge(now);
        } else if self.packets >= GATHERED * JUDGED {
            self.pausing = now.since(self.since) <= PAUSE * JUDGED && now >= self.since;
            (self.packets, self.pauses) = (0, 0);
            self.since = self.since.max(now);
        }
        let pause = self.pausing && packets < BATCH;
        self.pauses += u32::from(pause);
        pause.then_some(PAUSE)
    }

    fn judge(&mut self, now: Instant) {
        if self.pauses < JUDGED {
            return;
        }
        self.pausing = self.packets >= GATHERED * self.pauses;
        self.since = if self.pausing { now } else { now + HOLD };
        (self.packets, self.pauses) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays a second in which `rate(microseconds)` packets have come by then, and says how often the
    /// worker paused and how many packets it took.
    fn play(mut moderation: Moderation, rate: impl Fn(u64) -> u64) -> (u64, u64) {
        let (mut now, mut taken, mut pauses) = (0, 0, 0);
        while now < 1_000_000 {
            let packets = (rate(now) - taken).min(BATCH as u64);
            taken += packets;
            let at = Instant(now * 1_000);
            // A turn takes two microseconds.
            now += 2;
            if let Some(pause) = moderation.after_turn(at, packets as usize) {
                pauses += 1;
                now += pause.as_micros() as u64;
            }
        }
        (pauses, taken)
    }

    #[test]
    fn many_packets_one_by_one_are_gathered() {
        // 50,000 a second.
        let (pauses, taken) = play(Moderation::default(), |at| at / 20);
        assert!((9_000..10_000).contains(&pauses), "{pauses} pauses");
        assert!(taken > 49_900, "{taken} packets");
    }

    #[test]
    fn few_packets_are_not_delayed() {
        // 20,000 a second: two in the time of a pause.
        let (pauses, _) = play(Moderation::default(), |at| at / 50);
        assert_eq!(pauses, 0);
    }

    #[test]
    fn a_worker_with_full_batches_does_not_pause() {
        let (pauses, _) = play(Moderation::default(), |at| at * 64);
        assert_eq!(pauses, 0);
    }

    #[test]
    fn one_question_at_a_time_is_slowed_only_while_it_is_tried() {
        // The next one comes 18 us after the one before was taken: 50,000 a second without a pause.
        let mut moderation = Moderation::default();
        let (mut now, mut questions, mut paused) = (0_u64, 0_u64, 0_u64);
        while now < 1_000_000 {
            questions += 1;
            let pause =
                moderation.after_turn(Instant(now * 1_000), 1).map_or(0, |pause| pause.as_micros());
            paused += pause as u64;
            now += 20_u64.max(pause as u64 + 2);
        }
        assert!(paused < 50_000, "paused {paused} us of a second");
        assert!(questions > 47_000, "{questions} questions");
    }
}
