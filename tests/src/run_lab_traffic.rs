//! Traffic of the lab that goes on while things happen to the gateway, and traffic that is measured.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nvgate::demo::lab::Namespace;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Bytes of one round of a stream: many packets of full size each way.
const ROUND: usize = 64 * 1024;
/// Time between two rounds.
const PAUSE: Duration = Duration::from_millis(5);
/// How long a stream may wait before it counts as broken.
const BROKEN: Duration = Duration::from_secs(15);

/// A TCP connection that carries 64 KiB to a server and back, again and again, until it is ended.
/// Wrong bytes and resets end it.
pub struct Stream {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    client: JoinHandle<io::Result<Carried>>,
    server: JoinHandle<io::Result<()>>,
    /// Where the server sees it come from.
    pub seen_as: SocketAddr,
}

/// What a stream has carried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Carried {
    /// Rounds there and back.
    pub rounds: u64,
    /// The longest of them.
    pub longest: Duration,
}

impl Stream {
    /// Starts a stream from `client` to `target`, which leads to `listen` inside `server`.
    ///
    /// # Errors
    ///
    /// When it cannot be connected.
    pub fn start(
        client: &Namespace,
        target: SocketAddr,
        server: &Namespace,
        listen: SocketAddr,
    ) -> Result<Self> {
        let listener = server.run(|| TcpListener::bind(listen))??;
        let near = client.run(|| TcpStream::connect_timeout(&target, BROKEN))?;
        let near = near.with_context(|| format!("connecting to {target}"))?;
        let (far, seen_as) = listener.accept()?;
        let stop = Arc::new(AtomicBool::new(false));
        let rounds = Arc::new(AtomicU64::new(0));
        let (ending, counted) = (Arc::clone(&stop), Arc::clone(&rounds));
        let server = server.spawn("stream-server", move || echo(far))?;
        let client = client.spawn("stream-client", move || carry(near, &ending, &counted))?;
        Ok(Self { stop, rounds, client, server, seen_as })
    }

    /// Ends the stream in good order once it has carried `more` rounds from now on.
    ///
    /// # Errors
    ///
    /// When it broke, or does not carry them in time.
    pub fn end_after(self, more: u64) -> Result<Carried> {
        let enough = self.rounds.load(Ordering::Relaxed) + more;
        let deadline = Instant::now() + BROKEN;
        while self.rounds.load(Ordering::Relaxed) < enough
            && !self.client.is_finished()
            && Instant::now() < deadline
        {
            std::thread::sleep(PAUSE);
        }
        self.stop.store(true, Ordering::Relaxed);
        let carried = self.client.join().ok().context("the client panicked")?;
        let carried = carried.context("the client's end")?;
        self.server.join().ok().context("the server panicked")?.context("the server's end")?;
        ensure!(carried.rounds >= enough, "{carried:?} instead of {enough} rounds");
        Ok(carried)
    }
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(BROKEN))?;
    stream.set_write_timeout(Some(BROKEN))?;
    let mut buffer = vec![0; ROUND];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            length => stream.write_all(&buffer[..length])?,
        }
    }
}

fn carry(mut stream: TcpStream, stop: &AtomicBool, rounds: &AtomicU64) -> io::Result<Carried> {
    stream.set_read_timeout(Some(BROKEN))?;
    stream.set_write_timeout(Some(BROKEN))?;
    let mut carried = Carried { rounds: 0, longest: Duration::ZERO };
    let mut back = vec![0; ROUND];
    while !stop.load(Ordering::Relaxed) {
        let sent: Vec<u8> = (0..ROUND).map(|at| (at as u64 * 31 + carried.rounds) as u8).collect();
        let started = Instant::now();
        stream.write_all(&sent)?;
        stream.read_exact(&mut back)?;
        if back != sent {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "other bytes came back"));
        }
        carried.longest = carried.longest.max(started.elapsed());
        carried.rounds += 1;
        rounds.store(carried.rounds, Ordering::Relaxed);
        std::thread::sleep(PAUSE);
    }
    Ok(carried)
}

/// One echo request with `identifier` to `target`, and its round trip. Acts in the namespace of
/// the calling thread.
///
/// # Errors
///
/// When no reply came in `timeout`.
pub fn echo_request(target: Ipv4Addr, identifier: u16, timeout: Duration) -> Result<Duration> {
    let mut socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
    socket.connect(&SockAddr::from(SocketAddr::new(IpAddr::V4(target), 0)))?;
    let [high, low] = identifier.to_be_bytes();
    // With the sequence 1: the checksum is what makes the four words sum up to 0xffff.
    let rest = (0x0800_u32 + u32::from(identifier) + 1) as u64;
    let folded = (rest & 0xffff) + (rest >> 16);
    let [c0, c1] = (!(folded as u16)).to_be_bytes();
    let started = Instant::now();
    socket.send(&[8, 0, c0, c1, high, low, 0, 1])?;
    let mut buffer = [0; 2048];
    loop {
        let left = timeout.checked_sub(started.elapsed()).filter(|left| !left.is_zero());
        socket.set_read_timeout(Some(left.context("no echo reply")?))?;
        let length = socket.read(&mut buffer).context("no echo reply")?;
        let header = usize::from(buffer[0] & 0xf) * 4;
        if let Some(icmp) = buffer[..length].get(header..header + 8)
            && (icmp[0], &icmp[4..6]) == (0, &[high, low][..])
        {
            return Ok(started.elapsed());
        }
    }
}

/// Does `work` for every number below `count` and returns the median of how long it took.
///
/// # Errors
///
/// The first that failed.
pub fn median(count: u16, mut work: impl FnMut(u16) -> Result<()>) -> Result<Duration> {
    ensure!(count > 0, "a median needs at least one");
    let mut times = Vec::with_capacity(usize::from(count));
    for number in 0..count {
        let started = Instant::now();
        work(number).with_context(|| format!("number {number} of {count}"))?;
        times.push(started.elapsed());
    }
    times.sort();
    Ok(times[times.len() / 2])
}
