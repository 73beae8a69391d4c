//! The bandwidth of a tunnel in one direction, in inner IP bytes; what exceeds it is dropped by the
//! caller, with `TunnelPolicedInbound` or `TunnelPolicedOutbound`.

use nvgate_model::Instant;

use crate::bucket::Bucket;

/// The largest burst is what the rate gives in this time, in nanoseconds: 100 ms, longer than the
/// queues of what sends here, shorter than anyone would notice.
const BURST_NANOS: u64 = 100_000_000;
/// A burst always holds one packet of the largest size, 65,535 bytes, or it could never pass.
const LARGEST_PACKET: u64 = 65_535;
/// Credit of one byte: a kilobit a second is one millionth of a bit a nanosecond.
const BYTE: u64 = 8_000_000;

/// A limit in kilobits (1000 bits) of inner IP packets a second.
#[derive(Clone, Debug)]
pub struct Policer {
    kbps: u32,
    bucket: Bucket,
}

impl Policer {
    /// A limit of `kbps`, with its burst unspent: 100 ms at that rate, at least 65,535 bytes. Zero
    /// lets no more than that one burst through.
    #[must_use]
    pub const fn new(kbps: u32, now: Instant) -> Self {
        let burst = kbps as u64 * BURST_NANOS;
        let least = LARGEST_PACKET * BYTE;
        let capacity = if burst > least { burst } else { least };
        Self { kbps, bucket: Bucket::new(kbps as u64, capacity, now) }
    }

    /// The limit in kilobits a second.
    #[must_use]
    pub const fn kbps(&self) -> u32 {
        self.kbps
    }

    /// Whether a packet of `length` bytes may pass now; counts it if so.
    #[must_use]
    pub fn admit(&mut self, now: Instant, length: usize) -> bool {
        let cost = u64::try_from(length).unwrap_or(u64::MAX).saturating_mul(BYTE);
        self.bucket.take(now, cost)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Bytes that pass now, one by one.
    fn drain(policer: &mut Policer, now: Instant) -> u64 {
        (0..).take_while(|_| policer.admit(now, 1)).count() as u64
    }

    #[test]
    fn the_burst_is_100_ms_and_at_least_the_largest_packet() {
        for (kbps, burst) in [(0, 65_535), (5_242, 65_535), (8_000, 100_000), (80_000, 1_000_000)] {
            assert_eq!(drain(&mut Policer::new(kbps, Instant(0)), Instant(0)), burst, "{kbps}");
        }
    }

    #[test]
    fn over_an_hour_exactly_the_rate_passes_however_it_is_divided() {
        for kbps in [1_u32, 7, 333] {
            let mut policer = Policer::new(kbps, Instant(0));
            drain(&mut policer, Instant(0));
            // 30 ms is no whole number of bytes at any of these rates.
            let steps = (1..=120_000).map(|step| Instant(0) + Duration::from_millis(step * 30));
            let passed: u64 = steps.map(|now| drain(&mut policer, now)).sum();
            assert_eq!(passed, u64::from(kbps) * 125 * 3600, "{kbps}");
        }
    }

    #[test]
    fn the_largest_packet_passes_the_slowest_limit_once() {
        let mut policer = Policer::new(1, Instant(0));
        assert!(policer.admit(Instant(0), 65_535));
        assert!(!policer.admit(Instant(0), 1));
        assert!(policer.admit(Instant(0) + Duration::from_millis(8), 1));
    }
}
