//! Ports on real links, in network namespaces.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::num::NonZeroUsize;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use nvgate_packet::buf::{Checksum, Gso, GsoKind, HEADROOM, MAX_FRAME, Offload, PacketBuf};
use nvgate_packet::udp;

use super::lab::{
    CLIENT, CLIENT_MAC, LIMIT, Lab, SERVER, SERVER_MAC, TOWARDS_CLIENT_MAC, open_port,
};
use super::*;

/// A byte of a stream whose every part is different.
fn pattern(at: usize) -> u8 {
    (at ^ at >> 8 ^ at >> 16) as u8
}

fn send_stream(mut stream: TcpStream, total: usize) {
    let mut sent = 0;
    while sent < total {
        let piece: Vec<u8> = (sent..total.min(sent + (1 << 18))).map(pattern).collect();
        stream.write_all(&piece).unwrap();
        sent += piece.len();
    }
}

/// Reads to the end; the bytes read and whether all were as sent.
fn receive_stream(mut stream: TcpStream) -> (usize, bool) {
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let mut buffer = vec![0; 1 << 18];
    let (mut received, mut right) = (0, true);
    loop {
        let count = stream.read(&mut buffer).unwrap();
        if count == 0 {
            return (received, right);
        }
        right &= buffer[..count].iter().enumerate().all(|(at, &b)| b == pattern(received + at));
        received += count;
    }
}

/// Sends on a stream, or receives and returns what [`receive_stream`] does.
fn exchange(stream: TcpStream, total: usize, send: bool) -> Option<(usize, bool)> {
    if send {
        send_stream(stream, total);
        return None;
    }
    Some(receive_stream(stream))
}

/// Sends `total` bytes over TCP from the client to the server, or back, through the forwarder.
fn transfer(lab: &Lab, total: usize, back: bool) -> (usize, bool) {
    let (listening, is_listening) = mpsc::channel();
    let server = lab.server.start(move || {
        let listener = TcpListener::bind((SERVER, 7)).unwrap();
        listening.send(()).unwrap();
        let stream = listener.accept().unwrap().0;
        exchange(stream, total, back)
    });
    is_listening.recv_timeout(LIMIT).unwrap();
    let client = lab.client.start(move || {
        let stream = TcpStream::connect((SERVER, 7)).unwrap();
        exchange(stream, total, !back)
    });
    let results = [server, client].map(|result| result.recv_timeout(LIMIT).unwrap());
    results.into_iter().flatten().next().unwrap()
}

#[test]
fn tcp_passes_both_ways_in_super_packets_with_partial_checksums() {
    const TOTAL: usize = 64 << 20;
    let Some(lab) = Lab::new() else { return };
    for back in [false, true] {
        let forwarder = lab.forward(1);
        let started = Instant::now();
        assert_eq!(transfer(&lab, TOTAL, back), (TOTAL, true));
        let seconds = started.elapsed().as_secs_f64();
        let report = forwarder.stop()[0];
        println!("{:.2} Gbit/s, {report:?}", TOTAL as f64 * 8e-9 / seconds);
        assert!(report.super_packets > 0 && report.partial >= report.super_packets);
        assert!(report.longest > 60_000, "{report:?}");
        assert!(report.least_headroom >= HEADROOM);
        let data = report.rx[usize::from(back)];
        assert!(data.frames > 510, "the ring wrapped: {report:?}");
        assert_eq!((data.truncated, data.offload_invalid), (0, 0));
        assert_eq!(report.tx.map(|tx| tx.refused), [0, 0]);
    }
}

#[test]
fn two_workers_share_the_flows_of_a_port() {
    let Some(lab) = Lab::new() else { return };
    let forwarder = lab.forward(2);
    // All of them fall to one worker once in 2^23 runs.
    for _ in 0..24 {
        assert_eq!(transfer(&lab, 1 << 16, false), (1 << 16, true));
    }
    let reports = forwarder.stop();
    assert!(reports.iter().all(|report| report.packets > 0), "{reports:?}");
}

#[test]
fn a_udp_super_packet_arrives_as_its_datagrams() {
    let Some(lab) = Lab::new() else { return };
    let forwarder = lab.forward(1);
    let (bound, is_bound) = mpsc::channel();
    let received = lab.server.start(move || {
        let socket = UdpSocket::bind((SERVER, 9)).unwrap();
        bound.send(()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut buffer = [0; 2048];
        (0..5).map(|_| socket.recv(&mut buffer).map(|count| (count, buffer[0]))).collect::<Vec<_>>()
    });
    is_bound.recv_timeout(LIMIT).unwrap();
    lab.client.run(|| {
        let socket = UdpSocket::bind((CLIENT, 0)).unwrap();
        sys::set(&socket, libc::IPPROTO_UDP, libc::UDP_SEGMENT, &1000_i32).unwrap();
        let payload: Vec<u8> = (0..4500).map(|at| (at / 1000) as u8).collect();
        socket.send_to(&payload, (SERVER, 9)).unwrap();
    });
    let received: Vec<_> =
        received.recv_timeout(LIMIT).unwrap().into_iter().map(Result::unwrap).collect();
    assert_eq!(received, [(1000, 0), (1000, 1), (1000, 2), (1000, 3), (500, 4)]);
    let report = forwarder.stop()[0];
    assert_eq!((report.super_packets, report.partial), (1, 1));
}

/// An Ethernet header from the gateway to the client.
fn to_client(ether_type: u16) -> Vec<u8> {
    let mut frame = CLIENT_MAC.to_vec();
    frame.extend(TOWARDS_CLIENT_MAC);
    frame.extend(ether_type.to_be_bytes());
    frame
}

/// All frames that arrive at a port: `expected` of them, however late, and any more until it is
/// quiet.
fn arrived(rx: &mut Rx, expected: usize) -> Vec<Vec<u8>> {
    let waker = Waker::new().unwrap();
    let deadline = Instant::now() + LIMIT;
    let mut frames = Vec::new();
    loop {
        wait(&mut [&mut *rx], &waker, Duration::from_millis(200)).unwrap();
        let mut batch = ArrayVec::new();
        let taken = rx.receive(&mut batch);
        frames.extend(batch.iter().map(|packet| packet.bytes().to_vec()));
        if taken == 0 && (frames.len() >= expected || Instant::now() > deadline) {
            return frames;
        }
    }
}

#[test]
fn frames_of_every_length_arrive_as_they_were_sent() {
    let Some(lab) = Lab::new() else { return };
    let mut rx = lab.client.run(|| open_port("c", 1, 64)).remove(0).0;
    let mut tx = lab.port("gc", 1).remove(0).1;
    let frames: Vec<Vec<u8>> = [14, 15, 41, 60, 61, 1513, 1514]
        .into_iter()
        .map(|length| {
            let mut frame = to_client(0x0806);
            frame.extend((14..length).map(pattern));
            frame
        })
        .collect();
    for frame in &frames {
        tx.send(&frame[..14], &frame[14..], Offload::default()).unwrap();
    }
    tx.flush();
    assert_eq!(arrived(&mut rx, frames.len()), frames);
}

#[test]
fn a_port_receives_neither_tagged_frames_nor_those_to_others_nor_its_own() {
    let Some(lab) = Lab::new() else { return };
    let mut ends = lab.client.run(|| open_port("c", 1, 64));
    let (rx, own) = &mut ends[0];
    let mut tx = lab.port("gc", 1).remove(0).1;
    let mut other = to_client(0x0800);
    other[..6].copy_from_slice(&SERVER_MAC);
    let mut tagged = to_client(0x8100);
    tagged.extend([0, 5, 0x08, 0]);
    let mut priority = to_client(0x8100);
    priority.extend([0x20, 0, 0x08, 0, 0x45]);
    let unknown = to_client(0x88cc);
    let mut broadcast = to_client(0x0806);
    broadcast[..6].fill(0xff);
    for frame in [&other, &tagged, &priority, &unknown, &broadcast] {
        tx.send(frame, &[0; 50], Offload::default()).unwrap();
    }
    own.send(&to_client(0x0800), &[0; 50], Offload::default()).unwrap();
    own.flush();
    tx.flush();
    let arrived = arrived(rx, 2);
    assert_eq!(arrived.len(), 2, "{arrived:?}");
    assert_eq!(arrived[0][12..15], [0x08, 0, 0x45]);
    assert_eq!(arrived[1][..6], [0xff; 6]);
}

#[test]
fn what_the_kernel_refuses_is_counted_and_loses_nothing_else() {
    let Some(lab) = Lab::new() else { return };
    let mut rx = lab.client.run(|| open_port("c", 1, 64)).remove(0).0;
    let mut tx = lab.port("gc", 1).remove(0).1;
    let good = to_client(0x0806);
    let outside = Offload { checksum: Checksum::Partial { start: 5000, field: 16 }, gso: None };
    let contradiction = Offload {
        checksum: Checksum::Partial { start: 34, field: 16 },
        gso: Some(Gso { kind: GsoKind::Udp, size: 100 }),
    };
    tx.send(&good, &[1; 46], Offload::default()).unwrap();
    tx.send(&good, &[0; 46], outside).unwrap();
    tx.send(&good, &[2; 46], Offload::default()).unwrap();
    tx.send(&good, &[0; 3000], Offload::default()).unwrap();
    tx.send(&good, &[0; 1000], contradiction).unwrap();
    tx.send(&good[..13], &[], Offload::default()).unwrap();
    tx.send(&good, &[3; 46], Offload::default()).unwrap();
    let length = MAX_FRAME + 1;
    assert_eq!(tx.send(&[], &vec![0; length], Offload::default()), Err(FrameTooLong { length }));
    tx.flush();
    let marks: Vec<u8> = arrived(&mut rx, 3).iter().map(|frame| frame[14]).collect();
    assert_eq!(marks, [1, 2, 3]);
    let expected = TxCounters { frames: 3, bytes: 180, congested: 0, refused: 4 };
    assert_eq!(tx.counters(), expected);
}

#[test]
fn a_burst_beyond_the_ring_is_counted_as_dropped_by_the_kernel() {
    const BURST: u64 = 300;
    let Some(lab) = Lab::new() else { return };
    let mut rx = lab.client.run(|| open_port("c", 1, 64)).remove(0).0;
    let mut tx = lab.port("gc", 1).remove(0).1;
    for _ in 0..BURST {
        tx.send(&to_client(0x0806), &[0; 46], Offload::default()).unwrap();
    }
    tx.flush();
    assert_eq!(tx.counters().frames, BURST);
    // The kernel delivers a burst within the sender's calls, or soon after. Nothing is taken before
    // all of it is there: that would make room for more.
    let slots = rx.slots();
    let deadline = Instant::now() + LIMIT;
    while rx.counters().ring_full < BURST - slots as u64 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    let received = arrived(&mut rx, slots).len() as u64;
    let counters = rx.counters();
    assert_eq!(received, slots as u64);
    assert_eq!((counters.frames, counters.ring_full), (received, BURST - received));
    tx.send(&to_client(0x0806), &[0; 46], Offload::default()).unwrap();
    tx.flush();
    assert_eq!(arrived(&mut rx, 1).len(), 1, "the ring goes on after an overflow");
}

#[test]
fn datagrams_that_leave_together_arrive_one_by_one() {
    const LENGTHS: [usize; 6] = [1400, 1400, 1400, 600, 1400, 1400];
    let Some(lab) = Lab::new() else { return };
    let [from, to]: [SocketAddr; 2] =
        [SERVER, CLIENT].map(|address| SocketAddr::new(address.parse().unwrap(), 51_820));
    let socket = lab.client.run(move || UdpSocket::bind(to)).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let mut tx = lab.port("gc", 1).remove(0).1;
    for (mark, length) in (0_u8..).zip(LENGTHS) {
        let mut storage = vec![mark; HEADROOM + 28 + length];
        let end = storage.len();
        let offload = udp::write_headers(&mut storage[HEADROOM..], from, to, 0).unwrap();
        let mut packet = PacketBuf::new(&mut storage, HEADROOM, end, offload);
        packet.prepend::<14>().unwrap().copy_from_slice(&to_client(0x0800));
        tx.send_datagram(packet.bytes(), packet.offload()).unwrap();
    }
    tx.flush();
    // A shorter one ends the first super-packet.
    let frames = if train::kernel_takes() { 2 } else { LENGTHS.len() as u64 };
    assert_eq!(tx.counters().frames, frames, "{:?}", tx.counters());
    let mut buffer = [0; 2048];
    for (mark, length) in (0_u8..).zip(LENGTHS) {
        let received = socket.recv(&mut buffer).unwrap();
        assert_eq!(received, length);
        assert!(buffer[..length].iter().all(|&byte| byte == mark));
    }
}

#[test]
fn a_packet_may_be_extended_by_all_its_headroom_without_touching_another() {
    let Some(lab) = Lab::new() else { return };
    let mut rx = lab.client.run(|| open_port("c", 1, 64)).remove(0).0;
    let mut tx = lab.port("gc", 1).remove(0).1;
    for round in 0..4_u8 {
        for mark in 0..40 {
            tx.send(&to_client(0x0806), &[mark ^ round; 1000], Offload::default()).unwrap();
        }
        tx.flush();
        std::thread::sleep(Duration::from_millis(200));
        let mut batch = ArrayVec::<PacketBuf<'_>, BATCH>::new();
        assert_eq!(rx.receive(&mut batch), 40);
        for packet in &mut batch {
            let headroom = packet.headroom();
            assert!(headroom >= HEADROOM);
            packet.prepend_slice(headroom).unwrap().fill(0xee);
        }
        for (mark, packet) in (0..).zip(&batch) {
            let frame = &packet.bytes()[packet.len() - 1014..];
            assert_eq!(frame[..14], to_client(0x0806));
            assert!(frame[14..].iter().all(|&byte| byte == mark ^ round));
        }
        drop(batch);
        rx.release();
    }
}

#[test]
fn opening_says_what_is_missing() {
    let Some(lab) = Lab::new() else { return };
    let messages = lab.gateway.run(|| {
        let open = |link| {
            let options =
                PortOptions { link, admit: Admit::Gre, workers: NonZeroUsize::MIN, ring_slots: 64 };
            open(&options).map(|_| ()).unwrap_err().to_string()
        };
        [open("lo"), open("nothing"), open("a-name-longer-than-links-have"), open("a\0b")]
    });
    assert_eq!(messages[0], "link lo is not an Ethernet link (its hardware type is 772)");
    assert_eq!(messages[1], "link nothing does not exist in this network namespace");
    assert!(messages[2].ends_with("does not exist in this network namespace"));
    assert!(messages[3].ends_with("does not exist in this network namespace"));
}

#[test]
fn a_link_that_is_down_is_refused_and_one_that_comes_back_goes_on() {
    let Some(lab) = Lab::new() else { return };
    let mut rx = lab.client.run(|| open_port("c", 1, 64)).remove(0).0;
    let mut tx = lab.port("gc", 1).remove(0).1;
    lab.set_link("gc", false);
    let refused = lab.gateway.run(|| {
        let (admit, workers) = (Admit::Gre, NonZeroUsize::MIN);
        open(&PortOptions { link: "gc", admit, workers, ring_slots: 64 }).map(|_| ()).unwrap_err()
    });
    assert_eq!(refused.to_string(), "link gc is down: bring it up with `ip link set gc up`");
    tx.send(&to_client(0x0806), &[0; 46], Offload::default()).unwrap();
    tx.flush();
    assert_eq!(tx.counters().refused, 1);
    lab.set_link("gc", true);
    tx.send(&to_client(0x0806), &[7; 46], Offload::default()).unwrap();
    tx.flush();
    assert_eq!(arrived(&mut rx, 1).len(), 1);

    lab.set_link("c", false);
    let waker = Waker::new().unwrap();
    wait(&mut [&mut rx], &waker, Duration::from_secs(1)).unwrap();
    let started = Instant::now();
    wait(&mut [&mut rx], &waker, Duration::from_millis(200)).unwrap();
    assert!(started.elapsed() >= Duration::from_millis(200), "a dead link must not spin");
    lab.set_link("c", true);
    tx.send(&to_client(0x0806), &[7; 46], Offload::default()).unwrap();
    tx.flush();
    assert_eq!(arrived(&mut rx, 1).len(), 1);
}

#[test]
fn a_waker_ends_the_wait_once() {
    let waker = Waker::new().unwrap();
    let other = waker.clone();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        other.wake();
        other.wake();
    });
    let started = Instant::now();
    wait(&mut [], &waker, LIMIT).unwrap();
    thread.join().unwrap();
    assert!(started.elapsed() < LIMIT);
    wait(&mut [], &waker, Duration::ZERO).unwrap();
    let started = Instant::now();
    wait(&mut [], &waker, Duration::from_millis(100)).unwrap();
    assert!(started.elapsed() >= Duration::from_millis(100));
}

#[test]
fn without_the_capability_the_error_says_what_to_do() {
    let Some(lab) = Lab::new() else { return };
    let refused = lab.client.run(|| {
        // SAFETY: the call takes no pointers. Unlike libc's function of that name it changes the
        // calling thread only, which ends with the test.
        if unsafe { libc::syscall(libc::SYS_setresuid, -1, 65_534, -1) } != 0 {
            return None;
        }
        let (admit, workers) = (Admit::Gre, NonZeroUsize::MIN);
        Some(open(&PortOptions { link: "c", admit, workers, ring_slots: 64 }).map(|_| ()))
    });
    let Some(refused) = refused else {
        println!("SKIPPED: this user namespace has no user without capabilities");
        return;
    };
    assert!(matches!(refused, Err(OpenError::MissingCapability { .. })), "{refused:?}");
}
