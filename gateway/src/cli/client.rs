//! One HTTP request to a gateway's health endpoint or control socket: blocking, bounded in time and
//! size.
//!
//! It speaks HTTP/1.0, so that the answer is never chunked and ends with the connection (RFC 9112
//! sections 6.1 and 9.3).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the whole answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an answer: far more than the status of the most tenants a plan may have.
const MAX_ANSWER: u64 = 64 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("`{0}` is not HOST:PORT: {1}")]
    Address(String, io::Error),
    #[error(
        "no gateway answers at {0}: it is not running, or its health endpoint is elsewhere \
         (see admin.listen in its gateway.yaml, and --admin or --config here)"
    )]
    NotRunning(String),
    #[error("cannot reach {0}: {1}")]
    Unreachable(String, io::Error),
    #[error("{0} did not finish its answer in {seconds} s", seconds = ANSWER_TIMEOUT.as_secs())]
    Slow(String),
    #[error("what listens at {0} is not a gateway: {1}")]
    Strange(String, &'static str),
    #[error("{2}, says the gateway at {0} (HTTP status {1})")]
    Refused(String, u16, String),
    #[error(
        "no gateway takes commands at {0}: it is not running, or its state directory is elsewhere \
         (see --config)"
    )]
    NoSocket(String),
    #[error("not permitted to command the gateway at {0}: run as its user, or as root")]
    Forbidden(String),
}

/// The body that `path` has at the health endpoint on `authority`, a HOST:PORT.
pub(super) fn fetch(authority: &str, path: &str) -> Result<Vec<u8>, FetchError> {
    let unresolved = |error| FetchError::Address(authority.to_owned(), error);
    let mut addresses = authority.to_socket_addrs().map_err(unresolved)?;
    let address =
        addresses.next().ok_or_else(|| unresolved(io::Error::other("the name has no address")))?;
    let address = reachable(address);
    let label = address.to_string();
    let stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT);
    let answer = stream.and_then(|stream| exchange(stream, "GET", &label, path));
    conclude(label, answer, FetchError::NotRunning)
}

/// The body that a command has at the control socket at `socket`.
pub(super) fn command(socket: &Path, path: &str) -> Result<Vec<u8>, FetchError> {
    let label = socket.display().to_string();
    let stream = match UnixStream::connect(socket) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(FetchError::NoSocket(label));
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(FetchError::Forbidden(label));
        }
        stream => stream,
    };
    let answer = stream.and_then(|stream| exchange(stream, "POST", "gateway", path));
    conclude(label, answer, FetchError::NoSocket)
}

fn conclude(
    label: String,
    answer: io::Result<Vec<u8>>,
    absent: impl FnOnce(String) -> FetchError,
) -> Result<Vec<u8>, FetchError> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            let kind = error.kind();
            return Err(if kind == io::ErrorKind::ConnectionRefused {
                absent(label)
            } else if kind == io::ErrorKind::TimedOut || kind == io::ErrorKind::WouldBlock {
                FetchError::Slow(label)
            } else if kind == io::ErrorKind::FileTooLarge {
                FetchError::Strange(label, "its answer is larger than 64 MiB")
            } else {
                FetchError::Unreachable(label, error)
            });
        }
    };
    match parse_answer(&answer) {
        Ok((200, body)) => Ok(body.to_vec()),
        Ok((code, body)) => Err(FetchError::Refused(label, code, sentence(body))),
        Err(what) => Err(FetchError::Strange(label, what)),
    }
}

/// The first line of a body, made harmless for a terminal.
fn sentence(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(400)]);
    let line = text.lines().next().unwrap_or_default();
    let line: String = line.chars().filter(|letter| !letter.is_control()).collect();
    if line.is_empty() { "refused".to_owned() } else { line }
}

/// Where to connect to for what listens on `address`: a wildcard is reached by loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

/// A connection whose reads and writes end in time.
trait Timed: io::Read + io::Write {
    fn set_timeouts(&self, left: Duration) -> io::Result<()>;
}

impl Timed for TcpStream {
    fn set_timeouts(&self, left: Duration) -> io::Result<()> {
        self.set_write_timeout(Some(left))?;
        self.set_read_timeout(Some(left))
    }
}

impl Timed for UnixStream {
    fn set_timeouts(&self, left: Duration) -> io::Result<()> {
        self.set_write_timeout(Some(left))?;
        self.set_read_timeout(Some(left))
    }
}

/// Sends the request and reads until the server closes.
fn exchange(mut stream: impl Timed, method: &str, host: &str, path: &str) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    stream.set_timeouts(ANSWER_TIMEOUT)?;
    let request = format!(
        "{method} {path} HTTP/1.0\r\nHost: {host}\r\nAccept: */*\r\nContent-Length: 0\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut chunk = vec![0; 64 << 10];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_timeouts(left)?;
        let length = match stream.read(&mut chunk) {
            Ok(0) => return Ok(answer),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if (answer.len() + length) as u64 > MAX_ANSWER {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        answer.extend_from_slice(&chunk[..length]);
    }
}

/// The status code and the body of an HTTP/1 answer that ended with its connection.
fn parse_answer(answer: &[u8]) -> Result<(u16, &[u8]), &'static str> {
    const NOT_HTTP: &str = "it does not speak HTTP";
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").ok_or(NOT_HTTP)?;
    let head = str::from_utf8(&answer[..end]).map_err(|_| NOT_HTTP)?;
    let body = &answer[end + 4..];
    let mut lines = head.split("\r\n");
    let status_line = lines.next().ok_or(NOT_HTTP)?;
    let mut words = status_line.strip_prefix("HTTP/1.").ok_or(NOT_HTTP)?.split(' ');
    let code = words.nth(1).and_then(|code| code.parse().ok()).ok_or(NOT_HTTP)?;
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map(|(_, value)| value.trim().parse::<usize>());
    match length {
        None => Ok((code, body)),
        Some(Ok(length)) if length == body.len() => Ok((code, body)),
        Some(Ok(_)) => Err("its answer was cut short"),
        Some(Err(_)) => Err(NOT_HTTP),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_answer_is_its_code_and_body() {
        let answer = b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok";
        assert_eq!(parse_answer(answer), Ok((200, &b"ok"[..])));
        assert_eq!(parse_answer(b"HTTP/1.1 503 No\r\n\r\nbody"), Ok((503, &b"body"[..])));
        assert!(parse_answer(b"HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\nok").is_err());
        assert!(parse_answer(b"SSH-2.0-x\r\n\r\n").is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_return(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_answer(&bytes);
            let mut answer = b"HTTP/1.1 ".to_vec();
            answer.extend(bytes);
            answer.extend(b"\r\n\r\n");
            let _ = parse_answer(&answer);
        }
    }

    #[test]
    fn a_gateway_that_is_not_running_is_said_so() {
        // The port was ours a moment ago and nobody listens on it now.
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = fetch(&free.to_string(), "/v1/status").unwrap_err();
        assert!(error.to_string().starts_with(&format!("no gateway answers at {free}")), "{error}");
        assert!(matches!(fetch("nonsense", "/").unwrap_err(), FetchError::Address(..)));
    }

    #[test]
    fn a_wildcard_is_reached_by_loopback() {
        let of = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(of("0.0.0.0:9470"), "127.0.0.1:9470");
        assert_eq!(of("[::]:9470"), "[::1]:9470");
        assert_eq!(of("192.0.2.1:9470"), "192.0.2.1:9470");
    }
}
