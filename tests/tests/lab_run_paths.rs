//! What every path carries: MTUs that senders are told the truth about, and many flows over two
//! workers that are answered at once.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::socket::{getsockopt, sockopt::IpMtu};
use nvgate::demo::lab::Namespace;
use nvgate::demo::lab::probe::{ask_tcp, ask_udp, download};
use nvgate::demo::site::{DOWNLOAD_BYTES, DOWNLOAD_PORT, INBOUND_PORT, SERVER, SERVICE_PORT};
use nvgate_tests::run_lab::{PATIENCE, PUBLIC, RunLab};
use nvgate_tests::run_lab_host::{Change, change};
use nvgate_tests::run_lab_traffic::{Stream, echo_request, median};

/// IPv4 and UDP headers.
const HEADERS: usize = 28;
/// A public port that leads to red-web's port of the same number.
const STREAM_PORT: u16 = 9000;
/// A round trip between a VM and the server that waited for nothing.
const PROMPT: Duration = Duration::from_millis(20);
/// How often a way may try to be prompt: a busy machine is late now and then, a worker that nobody
/// wakes always waits for its 50 ms to end.
const TRIES: u32 = 5;
/// Source ports of the MTU claims: enough that each worker receives flows that the other owns.
const SOURCES: usize = 6;

/// Sends UDP of `length` bytes of IP, never fragmented on the way, until the kernel has learned a
/// smaller path MTU than it began with and an answer came; returns both MTUs.
fn learn_mtu(from: &Namespace, target: SocketAddr, length: usize) -> Result<(i32, i32)> {
    from.run(|| {
        // Linux sends UDP with DF set up to the path MTU it knows (ip(7), IP_PMTUDISC_WANT), and
        // fragments what is longer.
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect(target)?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        let first = getsockopt(&socket, IpMtu)?;
        let payload = vec![b'x'; length - HEADERS];
        let deadline = Instant::now() + PATIENCE;
        loop {
            // An ICMP error may be reported here instead of by the option.
            let _ = socket.send(&payload);
            let answered = socket.recv(&mut [0; 2048]).is_ok();
            let learned = getsockopt(&socket, IpMtu)?;
            if learned != first && answered {
                return Ok((first, learned));
            }
            let state = format!("path MTU {first}, then {learned}, answered: {answered}");
            ensure!(Instant::now() < deadline, "{state}");
        }
    })?
}

/// Datagrams of `length` bytes of IP, which the kernel by now cuts into fragments, are answered
/// from every source port, also where a small datagram went before them.
fn fragments_arrive(from: &Namespace, target: SocketAddr, length: usize) -> Result<()> {
    from.run(|| {
        for source in 0..SOURCES {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            socket.connect(target)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            for payload in [8, 8, length - HEADERS, length - HEADERS] {
                socket.send(&vec![b'x'; payload])?;
                let answer = socket.recv(&mut [0; 2048]);
                answer.with_context(|| format!("{payload} bytes from source {source}"))?;
            }
        }
        Ok(())
    })?
}

fn publish_stream_port(lab: &RunLab) -> Result<()> {
    let rule = "  inbound:\n";
    let more = format!("    - {{protocol: tcp, public_port: {STREAM_PORT}, to: 10.1.0.10}}\n");
    lab.edit("red", rule, &format!("{rule}{more}"))
}

/// TCP of full size both ways, opened from either side.
fn tcp_works(lab: &RunLab) -> Result<()> {
    let vm = lab.vm("red-web");
    let (bytes, _) =
        vm.run(|| download((SERVER, DOWNLOAD_PORT).into(), Duration::from_secs(15), || false))??;
    ensure!(bytes == DOWNLOAD_BYTES, "{bytes} bytes");
    let server = &lab.site.server;
    let out = (SERVER, STREAM_PORT).into();
    let inside = (lab.site.vm("red-web").ipv4, STREAM_PORT).into();
    for (name, stream) in [
        ("outbound", Stream::start(vm, out, server, out)?),
        ("inbound", Stream::start(server, (PUBLIC[0], STREAM_PORT).into(), vm, inside)?),
    ] {
        stream.end_after(10).context(name)?;
    }
    Ok(())
}

#[test]
fn a_server_learns_what_the_tunnel_leaves() -> Result<()> {
    const TEST: &str = "a_server_learns_what_the_tunnel_leaves";
    let Some(mut lab) = RunLab::build(TEST, 2)? else { return Ok(()) };
    publish_stream_port(&lab)?;
    lab.start()?;
    let target = (PUBLIC[0], INBOUND_PORT).into();
    let first = learn_mtu(&lab.site.server, target, 1500)?;
    ensure!(first == (1500, 1458), "{first:?}");
    fragments_arrive(&lab.site.server, target, 1500)?;
    tcp_works(&lab)
}

#[test]
fn a_vm_learns_what_the_front_end_carries() -> Result<()> {
    const TEST: &str = "a_vm_learns_what_the_front_end_carries";
    let Some(mut lab) = RunLab::build(TEST, 2)? else { return Ok(()) };
    publish_stream_port(&lab)?;
    change(&lab.site.gateway, "front0", &[Change::Mtu(1400)])?;
    lab.start()?;
    let target = (SERVER, SERVICE_PORT).into();
    let first = learn_mtu(lab.vm("red-web"), target, 1458)?;
    ensure!(first == (1458, 1400), "{first:?}");
    fragments_arrive(lab.vm("red-web"), target, 1458)?;
    tcp_works(&lab)
}

/// The median round trip of many flows is prompt.
fn prompt(what: &str, mut ask: impl FnMut(u16) -> Result<()>) -> Result<()> {
    const COUNT: u16 = 150;
    let mut late = Vec::new();
    for _ in 0..TRIES {
        let took = median(COUNT, &mut ask).with_context(|| what.to_owned())?;
        if took < PROMPT {
            println!("{what}: {took:?}");
            return Ok(());
        }
        late.push(took);
    }
    bail!("{what}: {late:?}")
}

#[test]
fn many_flows_over_two_workers_are_all_answered_at_once() -> Result<()> {
    const TEST: &str = "many_flows_over_two_workers_are_all_answered_at_once";
    let Some(mut lab) = RunLab::build(TEST, 2)? else { return Ok(()) };
    lab.start()?;
    let asked = AtomicU16::new(0);
    let nonce = |name: &str| format!("{name}-{}", asked.fetch_add(1, Ordering::Relaxed));
    for tenant in ["red", "blue"] {
        let web = format!("{tenant}-web");
        let public = PUBLIC[usize::from(tenant == "blue")];
        let vm = lab.vm(&web);
        let db = lab.site.vm(&format!("{tenant}-db")).ipv4;
        let server = &lab.site.server;
        // The first packets resolve neighbours.
        vm.run(|| ask_tcp((SERVER, SERVICE_PORT).into(), &nonce(&web), PATIENCE))??;
        vm.run(|| ask_tcp((db, SERVICE_PORT).into(), &nonce(&web), PATIENCE))??;
        for (way, from, target, label, source) in [
            ("out", vm, (SERVER, SERVICE_PORT), "server", IpAddr::from(public)),
            ("in", server, (public, INBOUND_PORT), &*web, SERVER.into()),
            ("between", vm, (db, SERVICE_PORT), &*format!("{tenant}-db"), vm_address(&lab, &web)),
        ] {
            let target = SocketAddr::from(target);
            let right = |answer: nvgate::demo::lab::probe::Answer| {
                ensure!(answer.label == label && answer.seen_as.ip() == source, "{answer:?}");
                Ok(())
            };
            prompt(&format!("{tenant} {way} TCP"), |_| {
                right(from.run(|| ask_tcp(target, &nonce(&web), PATIENCE))??)
            })?;
            prompt(&format!("{tenant} {way} UDP"), |_| {
                right(from.run(|| ask_udp(target, &nonce(&web), PATIENCE))??)
            })?;
        }
        prompt(&format!("{tenant} out ICMP"), |number| {
            vm.run(|| echo_request(SERVER, 1000 + number, PATIENCE))?.map(|_| ())
        })?;
    }
    let workers = lab.status()?.workers;
    let both = workers.len() == 2 && workers.iter().all(|worker| worker.handoffs_received > 50);
    ensure!(both, "packets crossed between the workers: {workers:?}");
    Ok(())
}

fn vm_address(lab: &RunLab, name: &str) -> IpAddr {
    lab.site.vm(name).ipv4.into()
}
