//! What a session costs: opened, found again, and expired, with one million in one NAT.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nvgate_model::{Protocol, Tick};
use nvgate_nat::{Budget, Flow, Nat, NatConfig, Seen, Timeouts, WorkerShare};
use nvgate_packet::rewrite::Socket;

const CUSTOMERS: u32 = 50_000;

fn flow(number: u32) -> Flow {
    let customer = number % CUSTOMERS;
    Flow {
        protocol: Protocol::Udp,
        source: Socket::new(Ipv4Addr::from_bits(0x0a00_0000 | customer >> 4), customer as u16 & 15),
        destination: Socket::new(Ipv4Addr::from_bits(0xc000_0000 | number), 53),
        tcp_flags: 0,
    }
}

fn main() {
    for count in [1_000_u32, 64_000, 1_000_000] {
        let timeouts = Timeouts {
            tcp_established_secs: 7440,
            tcp_transitory_secs: 240,
            udp_secs: 120,
            icmp_secs: 60,
        };
        let address = Ipv4Addr::new(203, 0, 113, 1);
        let config = Arc::new(NatConfig::new(&[address], &[], timeouts));
        let share = WorkerShare { index: 0, count: 1 };
        let mut nat = Nat::new(config, share, 1, count as usize);
        let tenant = Arc::new(Budget::new(count));
        let customer = Arc::new(Budget::new(count));
        let mut longest = Duration::ZERO;

        let begin = Instant::now();
        let mut last = begin;
        for number in 0..count {
            nat.outbound(Tick(0), &flow(number), &tenant, &customer)
                .expect("every budget has room");
            let now = Instant::now();
            longest = longest.max(now - last);
            last = now;
        }
        let opened = begin.elapsed();

        let begin = Instant::now();
        for number in 0..count {
            nat.outbound(Tick(0), &flow(number), &tenant, &customer).expect("the session is open");
        }
        let found = begin.elapsed();

        let begin = Instant::now();
        let mut closed = 0;
        while closed < count {
            nat.expire(Tick(1_200), 256, |_| Seen::default(), |_| closed += 1);
        }
        let expired = begin.elapsed();
        println!(
            "{count:>9} sessions: open {:>5} ns (longest {longest:?}), find {:>4} ns, expire {:>4} ns",
            opened.as_nanos() / u128::from(count),
            found.as_nanos() / u128::from(count),
            expired.as_nanos() / u128::from(count),
        );
    }
}
