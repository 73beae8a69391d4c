//! What the lab sends and answers: echo requests, a service that says who it is and whom it saw,
//! and a bulk download whose every byte is known. All of it is the kernel's real TCP, UDP and ICMP,
//! and every wait is bounded.
//!
//! The functions act in the network namespace of the calling thread: call them inside
//! [`Namespace::run`].

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::{LabError, Namespace};

/// How often a probe that may be lost is sent again.
const RESEND_INTERVAL: Duration = Duration::from_millis(250);
/// How often a thread that waits looks whether it is to stop.
const STOP_INTERVAL_MS: u16 = 50;
/// How long a service waits for a client that says nothing.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest question and answer, in bytes.
const MESSAGE_LIMIT: usize = 512;
/// Questions a service remembers; later ones are answered and forgotten.
const SEEN_LIMIT: usize = 4096;
/// Bytes of one piece of a download.
const CHUNK: usize = 64 * 1024;

/// Lines of an HTTP response before its body.
const HTTP_HEAD_LINES: usize = 16;
const HTTP_GET: &[u8] = b"GET ";

const ECHO_REQUEST_V4: u8 = 8;
const ECHO_REPLY_V4: u8 = 0;
const ECHO_REQUEST_V6: u8 = 128;
const ECHO_REPLY_V6: u8 = 129;

/// Sends ICMP or ICMPv6 echo requests to `target` until one is answered, at most for `timeout`;
/// returns the round trip of the answered one. Needs `CAP_NET_RAW` in the namespace.
pub fn ping(target: IpAddr, timeout: Duration) -> io::Result<Duration> {
    let (domain, protocol, request, reply) = match target {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, ECHO_REQUEST_V4, ECHO_REPLY_V4),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, ECHO_REQUEST_V6, ECHO_REPLY_V6),
    };
    let mut socket = Socket::new(domain, Type::RAW, Some(protocol))?;
    socket.connect(&SockAddr::from(SocketAddr::new(target, 0)))?;
    let identifier = std::process::id().to_be_bytes();
    let deadline = Instant::now() + timeout;
    let mut buffer = [0; 2048];
    let mut sequence = 0_u16;
    while Instant::now() < deadline {
        sequence += 1;
        let mut message = [request, 0, 0, 0, identifier[2], identifier[3], 0, 0];
        message[6..].copy_from_slice(&sequence.to_be_bytes());
        // The kernel fills in the ICMPv6 checksum of a raw socket (RFC 3542 section 3.1).
        if target.is_ipv4() {
            let checksum = !ones_complement_sum(0, &message);
            message[2..4].copy_from_slice(&checksum.to_be_bytes());
        }
        let sent = Instant::now();
        socket.send(&message)?;
        while let Some(wait) = RESEND_INTERVAL.checked_sub(sent.elapsed()).filter(|w| !w.is_zero())
        {
            socket.set_read_timeout(Some(wait))?;
            let length = match socket.read(&mut buffer) {
                Ok(length) => length,
                Err(error) if is_timeout(&error) => break,
                Err(error) => return Err(error),
            };
            let start = if target.is_ipv4() { usize::from(buffer[0] & 0xf) * 4 } else { 0 };
            let Some(answer) = buffer[..length].get(start..start + message.len()) else { continue };
            if answer[0] == reply && answer[1] == 0 && answer[4..] == message[4..] {
                return Ok(sent.elapsed());
            }
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "no echo reply"))
}

/// What a service answered: who it is and which address and port it saw the question come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The service's label.
    pub label: String,
    /// The asker as the service saw it.
    pub seen_as: SocketAddr,
}

/// Asks the service at `target` over TCP; `nonce` (without white space) identifies the question.
pub fn ask_tcp(target: SocketAddr, nonce: &str, timeout: Duration) -> io::Result<Answer> {
    let deadline = Instant::now() + timeout;
    let mut stream = TcpStream::connect_timeout(&target, timeout)?;
    let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    stream.set_read_timeout(Some(left))?;
    stream.set_write_timeout(Some(left))?;
    stream.write_all(format!("{nonce}\n").as_bytes())?;
    let mut text = String::new();
    stream.take(MESSAGE_LIMIT as u64).read_to_string(&mut text)?;
    parse_answer(&text)
}

/// Asks the service at `target` over UDP, again every quarter of a second until it answers.
pub fn ask_udp(target: SocketAddr, nonce: &str, timeout: Duration) -> io::Result<Answer> {
    let any: IpAddr = if target.is_ipv4() { [0; 4].into() } else { [0_u8; 16].into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(target)?;
    socket.set_read_timeout(Some(RESEND_INTERVAL))?;
    let deadline = Instant::now() + timeout;
    let mut buffer = [0; MESSAGE_LIMIT];
    while Instant::now() < deadline {
        socket.send(nonce.as_bytes())?;
        match socket.recv(&mut buffer) {
            Ok(length) => return parse_answer(&String::from_utf8_lossy(&buffer[..length])),
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "no answer"))
}

fn parse_answer(text: &str) -> io::Result<Answer> {
    text.trim_end()
        .split_once(' ')
        .and_then(|(label, address)| {
            Some(Answer { label: label.into(), seen_as: address.parse().ok()? })
        })
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("answered `{text}`")))
}

/// A question a service received.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// Who asked.
    pub from: SocketAddr,
    /// What it said.
    pub nonce: String,
}

/// A service that answers every question over TCP and UDP with its label and the asker's address,
/// and remembers the questions; an HTTP GET is a question too. Ends when dropped.
#[derive(Debug)]
pub struct Service {
    seen: Arc<Mutex<Vec<Seen>>>,
    _worker: Worker,
}

impl Service {
    /// Listens at `addresses` inside `namespace`. `label` must hold no white space.
    pub fn start(
        namespace: &Namespace,
        label: &str,
        addresses: &[SocketAddr],
    ) -> Result<Self, LabError> {
        let listen = || -> io::Result<Vec<(TcpListener, UdpSocket)>> {
            let mut listeners = Vec::with_capacity(addresses.len());
            for &address in addresses {
                let pair = (TcpListener::bind(address)?, UdpSocket::bind(address)?);
                pair.0.set_nonblocking(true)?;
                pair.1.set_nonblocking(true)?;
                listeners.push(pair);
            }
            Ok(listeners)
        };
        let listeners = namespace
            .run(listen)?
            .map_err(|source| namespace.fail(&format!("listen for `{label}`"), source))?;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&seen);
        let label = label.to_owned();
        let worker = Worker::start(namespace, &format!("service-{label}"), move |stop| {
            serve(&listeners, &label, &notes, stop);
        })?;
        Ok(Self { seen, _worker: worker })
    }

    /// The questions so far.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn serve(
    listeners: &[(TcpListener, UdpSocket)],
    label: &str,
    notes: &Mutex<Vec<Seen>>,
    stop: &AtomicBool,
) {
    let note = |from: SocketAddr, nonce: &[u8]| {
        let nonce = String::from_utf8_lossy(nonce).trim_end().to_owned();
        let mut notes = notes.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.len() < SEEN_LIMIT {
            notes.push(Seen { from, nonce });
        }
        format!("{label} {from}\n")
    };
    let mut buffer = [0; MESSAGE_LIMIT];
    let fds = listeners.iter().flat_map(|(tcp, udp)| [tcp.as_fd(), udp.as_fd()]);
    let mut polled: Vec<_> = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    while !stop.load(Ordering::Relaxed) {
        // An interrupted or failed poll only costs one more round.
        let _ = poll(&mut polled, PollTimeout::from(STOP_INTERVAL_MS));
        for (tcp, udp) in listeners {
            if let Ok((mut stream, from)) = tcp.accept() {
                // A client that misbehaves is its own loss; the service goes on.
                let _ = answer_stream(&mut stream, &mut buffer, |nonce| note(from, nonce));
            }
            if let Ok((length, from)) = udp.recv_from(&mut buffer) {
                let answer = note(from, &buffer[..length]);
                let _ = udp.send_to(answer.as_bytes(), from);
            }
        }
    }
}

fn answer_stream(
    stream: &mut TcpStream,
    buffer: &mut [u8; MESSAGE_LIMIT],
    note: impl FnOnce(&[u8]) -> String,
) -> io::Result<()> {
    let question = read_question(stream, buffer)?;
    let answer = note(question);
    if question.starts_with(HTTP_GET) {
        write_http_head(stream, answer.len() as u64)?;
    }
    stream.write_all(answer.as_bytes())
}

/// Reads a question: one line, or the head of an HTTP request.
fn read_question<'a>(
    stream: &mut TcpStream,
    buffer: &'a mut [u8; MESSAGE_LIMIT],
) -> io::Result<&'a [u8]> {
    stream.set_read_timeout(Some(CLIENT_TIMEOUT))?;
    stream.set_write_timeout(Some(CLIENT_TIMEOUT))?;
    let mut length = 0;
    loop {
        let end: &[u8] = if buffer.starts_with(HTTP_GET) { b"\r\n\r\n" } else { b"\n" };
        if length == buffer.len() || buffer[..length].ends_with(end) {
            return Ok(&buffer[..length]);
        }
        match stream.read(&mut buffer[length..])? {
            0 => return Ok(&buffer[..length]),
            read => length += read,
        }
    }
}

fn write_http_head(stream: &mut TcpStream, length: u64) -> io::Result<()> {
    let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes())
}

/// An HTTP server that sends the same known bytes to everyone who asks. Ends when dropped.
#[derive(Debug)]
pub struct DownloadServer {
    _worker: Worker,
}

impl DownloadServer {
    /// Serves `bytes` bytes at `address` inside `namespace`, one client after the other.
    pub fn start(namespace: &Namespace, address: SocketAddr, bytes: u64) -> Result<Self, LabError> {
        let listener = namespace
            .run(|| {
                let listener = TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                Ok(listener)
            })?
            .map_err(|source| namespace.fail("listen for downloads", source))?;
        let worker = Worker::start(namespace, "download", move |stop| {
            while !stop.load(Ordering::Relaxed) {
                let mut polled = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
                // An interrupted or failed poll only costs one more round.
                let _ = poll(&mut polled, PollTimeout::from(STOP_INTERVAL_MS));
                if let Ok((mut stream, _)) = listener.accept() {
                    // A client that goes away notices for itself that bytes are missing.
                    let _ = send_pattern(&mut stream, bytes, stop);
                }
            }
        })?;
        Ok(Self { _worker: worker })
    }
}

fn send_pattern(stream: &mut TcpStream, bytes: u64, stop: &AtomicBool) -> io::Result<()> {
    read_question(stream, &mut [0; MESSAGE_LIMIT])?;
    write_http_head(stream, bytes)?;
    let mut pattern = Pattern::default();
    let mut chunk = vec![0; CHUNK];
    let mut left = bytes;
    while left > 0 && !stop.load(Ordering::Relaxed) {
        let length = left.min(CHUNK as u64) as usize;
        pattern.fill(&mut chunk[..length]);
        stream.write_all(&chunk[..length])?;
        left -= length as u64;
    }
    Ok(())
}

/// Downloads from a [`DownloadServer`] until it closes, comparing every byte. Returns how many came
/// and how long that took. Fails on the first wrong byte, after `timeout`, and soon after `stop`.
pub fn download(
    target: SocketAddr,
    timeout: Duration,
    stop: impl Fn() -> bool,
) -> io::Result<(u64, Duration)> {
    let started = Instant::now();
    let mut stream = TcpStream::connect_timeout(&target, timeout)?;
    stream.set_read_timeout(Some(CLIENT_TIMEOUT))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut stream = BufReader::new(stream);
    skip_http_head(&mut stream)?;
    let mut pattern = Pattern::default();
    let (mut chunk, mut wanted) = (vec![0; CHUNK], vec![0; CHUNK]);
    let mut received = 0_u64;
    loop {
        let length = stream.read(&mut chunk)?;
        if length == 0 {
            return Ok((received, started.elapsed()));
        }
        pattern.fill(&mut wanted[..length]);
        if let Some(at) = (0..length).find(|&at| chunk[at] != wanted[at]) {
            let at = received + at as u64;
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("byte {at} is not the one that was sent"),
            ));
        }
        received += length as u64;
        if stop() || started.elapsed() > timeout {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("stopped after {received} bytes"),
            ));
        }
    }
}

fn skip_http_head(stream: &mut BufReader<TcpStream>) -> io::Result<()> {
    let mut line = String::new();
    for _ in 0..HTTP_HEAD_LINES {
        line.clear();
        stream.take(MESSAGE_LIMIT as u64).read_line(&mut line)?;
        if line == "\r\n" {
            return Ok(());
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "not an HTTP response"))
}

/// An endless sequence of bytes without a short period (SplitMix64), the same every time.
#[derive(Default)]
struct Pattern {
    state: u64,
    word: [u8; 8],
    used: usize,
}

impl Pattern {
    fn fill(&mut self, out: &mut [u8]) {
        for byte in out {
            if self.used == 0 {
                self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut mixed = self.state;
                mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                self.word = (mixed ^ (mixed >> 31)).to_le_bytes();
            }
            *byte = self.word[self.used];
            self.used = (self.used + 1) % self.word.len();
        }
    }
}

/// Asks an HTTP/1.1 server for `path` and returns the status code and the body, at most `limit`
/// bytes in all.
pub fn http_get(
    address: SocketAddr,
    path: &str,
    timeout: Duration,
    limit: u64,
) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut response = String::new();
    stream.take(limit).read_to_string(&mut response)?;
    let bad = || io::Error::new(io::ErrorKind::InvalidData, "not an HTTP response");
    let (head, body) = response.split_once("\r\n\r\n").ok_or_else(bad)?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(bad)?;
    Ok((status, body.to_owned()))
}

/// A thread that is told to stop, and waited for, when this is dropped.
#[derive(Debug)]
pub(in crate::demo) struct Worker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    pub(in crate::demo) fn start(
        namespace: &Namespace,
        name: &str,
        work: impl FnOnce(&AtomicBool) + Send + 'static,
    ) -> Result<Self, LabError> {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let thread = namespace.spawn(name, move || work(&flag))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A worker that panicked has already said so.
            drop(thread.join());
        }
    }
}

/// The folded ones' complement sum of RFC 1071 over `bytes`, continuing `sum`.
pub(in crate::demo) fn ones_complement_sum(sum: u32, bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|pair| u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])));
    let mut total = u64::from(sum) + words.sum::<u64>();
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
