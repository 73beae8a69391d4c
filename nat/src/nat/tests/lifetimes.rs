//! How long sessions live, and what is left when they are gone.

use super::*;

#[test]
fn timeouts_follow_the_state_of_a_connection() {
    let mut bench = Bench::new(&[FIRST], &[]);
    bench.outbound(Protocol::Tcp, vm(5000), server(80), TCP_SYN).unwrap();
    assert!(bench.closes_after(240), "opening");

    bench.connect(vm(5000));
    assert!(bench.closes_after(7440), "established");

    let public = bench.connect(vm(5000));
    bench.outbound(Protocol::Tcp, vm(5000), server(80), FIN_ACK).unwrap();
    bench.advance(1000, Seen::default());
    bench.inbound(Protocol::Tcp, server(80), public, FIN_ACK).unwrap();
    bench.outbound(Protocol::Tcp, vm(5000), server(80), TCP_ACK).unwrap();
    assert!(bench.closes_after(240), "both FINs");

    let public = bench.connect(vm(5000));
    bench.inbound(Protocol::Tcp, server(80), public, TCP_RST).unwrap();
    assert!(bench.closes_after(240), "reset");

    let public = bench.connect(vm(5000));
    bench.inbound(Protocol::Tcp, server(80), public, TCP_RST).unwrap();
    bench.advance(200, Seen::default());
    bench.inbound(Protocol::Tcp, server(80), public, TCP_ACK).unwrap();
    assert!(bench.closes_after(7440), "data after a reset");

    bench.udp(vm(5000), server(53));
    assert!(bench.closes_after(120), "UDP");
    bench.outbound(Protocol::Icmp, vm(77), server(0), 0).unwrap();
    assert!(bench.closes_after(60), "echo");
}

#[test]
fn udp_and_echo_are_refreshed_by_outbound_packets_only() {
    for protocol in [Protocol::Udp, Protocol::Icmp] {
        let mut bench = Bench::new(&[FIRST], &[]);
        let public = bench.outbound(protocol, vm(5000), server(0), 0).unwrap().source;
        bench.advance(50, Seen::default());
        bench.outbound(protocol, vm(5000), server(0), 0).unwrap();
        bench.advance(50, Seen::default());
        bench.inbound(protocol, server(0), public, 0).unwrap();
        assert_eq!(bench.nat.usage().sessions, 1);
        bench.advance(70, Seen { outbound: None, inbound: Some(Tick(1_500)) });
        assert_eq!(bench.nat.usage().sessions, 0, "{protocol}");
    }
}

#[test]
fn what_compiled_entries_forwarded_counts_as_seen() {
    let mut bench = Bench::new(&[FIRST], &[]);
    bench.udp(vm(5000), server(53));
    let closed = bench.advance(199, Seen { outbound: Some(Tick(800)), inbound: Some(Tick(1_900)) });
    assert_eq!(closed, []);
    assert_eq!(bench.advance(1, Seen::default()).len(), 1, "80 s + 120 s");

    let start = bench.now;
    bench.connect(vm(5000));
    let inbound = Some(start.plus_secs(7_000));
    assert_eq!(bench.advance(14_439, Seen { outbound: None, inbound }), []);
    assert_eq!(bench.advance(1, Seen { outbound: None, inbound }).len(), 1);
}

#[test]
fn a_closed_session_is_reported_with_its_sockets_and_gives_everything_back() {
    let mut bench = Bench::new(&[FIRST], &[]);
    let sent = bench.outbound(Protocol::Udp, vm(5000), server(53), 0).unwrap();
    let expected = SessionView {
        session: sent.session,
        protocol: Protocol::Udp,
        customer: vm(5000),
        public: sent.source,
        remote: server(53),
    };
    assert_eq!(bench.nat.sessions().collect::<Vec<_>>(), [expected]);
    assert_eq!(bench.nat.usage().udp.blocks_leased, 1);
    assert_eq!(bench.advance(120, Seen::default()), [expected]);
    let usage = bench.nat.usage();
    assert_eq!((usage.mappings, usage.udp.ports_in_use, usage.udp.blocks_leased), (0, 0, 0));
    assert_eq!((bench.tenant.used(), bench.customer.used()), (0, 0));
}

#[test]
fn expiry_looks_at_no_more_sessions_than_it_may() {
    let mut bench = Bench::new(&[FIRST], &[]);
    for port in 0..100 {
        bench.udp(vm(5000), server(port));
    }
    let (mut asked, mut closed) = (0, 0);
    let mut round = |nat: &mut Nat| {
        let before = (asked, closed);
        nat.expire(
            Tick(2_000),
            30,
            |_| {
                asked += 1;
                Seen::default()
            },
            |_| closed += 1,
        );
        (asked - before.0, closed - before.1)
    };
    assert_eq!(round(&mut bench.nat), (30, 30));
    assert_eq!(round(&mut bench.nat), (30, 30));
    assert_eq!(round(&mut bench.nat), (30, 30));
    assert_eq!(round(&mut bench.nat), (10, 10));
    assert_eq!(round(&mut bench.nat), (0, 0));
}

#[test]
fn a_session_opened_after_a_long_silence_is_looked_at_once() {
    let mut bench = Bench::new(&[FIRST], &[]);
    bench.now = Tick(1_000_000_000);
    bench.udp(vm(5000), server(53));
    let mut asked = 0;
    for secs in 1..=120 {
        let now = bench.now.plus_secs(secs);
        bench.nat.expire(
            now,
            10,
            |_| {
                asked += 1;
                Seen::default()
            },
            |_| assert_eq!(secs, 120),
        );
    }
    assert_eq!((asked, bench.nat.usage().sessions), (1, 0));
}

#[test]
fn a_clock_that_jumps_or_stands_still_neither_hangs_nor_loses_a_session() {
    let mut bench = Bench::new(&[FIRST], &[]);
    bench.now = Tick(1_000_000_000);
    bench.udp(vm(5000), server(53));
    bench.nat.expire(Tick(5), 10, |_| Seen::default(), |_| panic!("not due"));
    assert_eq!(bench.advance(120, Seen::default()).len(), 1);
    bench.udp(vm(5000), server(53));
    let mut closed = 0;
    for _ in 0..3 {
        bench.nat.expire(Tick(u32::MAX), 10, |_| Seen::default(), |_| closed += 1);
    }
    assert_eq!(closed, 1);
}

#[test]
fn shorter_timeouts_reach_sessions_that_are_open() {
    let mut bench = Bench::new(&[FIRST], &[]);
    bench.connect(vm(5000));
    let timeouts = Timeouts { tcp_established_secs: 100, ..TIMEOUTS };
    let config = Arc::new(NatConfig::new(&[FIRST], &[], timeouts));
    assert_eq!(bench.nat.reconfigure(config), 0);
    assert!(bench.closes_after(100));
}

#[test]
fn a_session_that_a_shorter_timeout_ends_is_closed_in_the_same_second() {
    let mut bench = Bench::new(&[FIRST], &[]);
    bench.connect(vm(5000));
    assert_eq!(bench.advance(90, Seen::default()), []);
    let timeouts = Timeouts { tcp_established_secs: 80, ..TIMEOUTS };
    assert_eq!(bench.nat.reconfigure(Arc::new(NatConfig::new(&[FIRST], &[], timeouts))), 0);
    bench.nat.expire(bench.now, usize::MAX, |_| Seen::default(), |_| {});
    assert_eq!(bench.nat.usage().sessions, 0);
}

#[test]
fn a_socket_that_is_reserved_closes_its_sessions_and_is_lent_no_more() {
    let mut bench = Bench::new(&[FIRST], &[]);
    let public = bench.udp(vm(5000), server(53));
    let config = NatConfig::new(&[FIRST], &[], TIMEOUTS).reserving([(Protocol::Udp, public)]);
    assert_eq!(bench.nat.reconfigure(Arc::new(config)), 1);
    // Every port that there is but one.
    let ports = usize::from(u16::MAX - 1023) - 1;
    for port in 0..ports {
        assert_ne!(bench.udp(vm(port as u16), server(53)), public);
    }
    let one_more = bench.outbound(Protocol::Udp, vm(ports as u16), server(53), 0);
    assert_eq!(one_more.map(|_| ()), Err(DropReason::NatNoPort));
}

#[test]
fn a_million_sessions_open_and_close() {
    let mut bench = Bench::new(&[FIRST], &[]);
    for number in 0..1_000_000_u32 {
        let remote =
            Socket::new(Ipv4Addr::from_bits(0xc000_0000 | number >> 4), number as u16 & 15);
        bench.udp(vm((number % 1_000) as u16), remote);
    }
    let usage = bench.nat.usage();
    assert_eq!((usage.sessions, usage.mappings), (1_000_000, 1_000));
    let mut closed = 0;
    for _ in 0..1_000 {
        bench.nat.expire(Tick(1_200), 1_000, |_| Seen::default(), |_| closed += 1);
    }
    assert_eq!(
        (closed, bench.tenant.used(), bench.nat.usage().udp.blocks_leased),
        (1_000_000, 0, 0)
    );
    assert_eq!(bench.nat.filter.len(), 0);
}
