//! A small web server in a network namespace, and curl as its client: a file either way, compared
//! byte by byte, with the address that the server saw.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, setns};

use crate::ovs_lab::{Lab, Namespace};

/// The longest that a client may pause.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest upload that the server takes, in bytes.
const MAX_UPLOAD: u64 = 64 << 20;

/// Serves one file to every GET and takes any PUT.
pub struct WebServer {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    peers: Vec<SocketAddr>,
    upload: Vec<u8>,
}

impl WebServer {
    /// Listens on `address` inside `namespace`.
    ///
    /// # Errors
    ///
    /// When the address cannot be bound there.
    pub fn start(namespace: &Namespace, address: SocketAddr, file: Vec<u8>) -> Result<Self> {
        let place = namespace.open()?;
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (ready, started) = mpsc::channel();
        let thread = std::thread::spawn({
            let (stop, seen) = (Arc::clone(&stop), Arc::clone(&seen));
            move || {
                let listener = setns(place, CloneFlags::CLONE_NEWNET)
                    .map_err(std::io::Error::from)
                    .and_then(|()| TcpListener::bind(address))
                    .and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
                match listener {
                    Ok(listener) => {
                        ready.send(Ok(())).ok();
                        serve(&listener, &stop, &seen, &file);
                    }
                    Err(error) => drop(ready.send(Err(error))),
                }
            }
        });
        started.recv()?.with_context(|| format!("listening on {address}"))?;
        Ok(Self { stop, seen, thread: Some(thread) })
    }

    /// The addresses that clients had, in the order of their requests.
    #[must_use]
    pub fn peers(&self) -> Vec<SocketAddr> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).peers.clone()
    }

    /// What the last PUT brought.
    #[must_use]
    pub fn upload(&self) -> Vec<u8> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).upload.clone()
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn serve(listener: &TcpListener, stop: &AtomicBool, seen: &Mutex<Seen>, file: &[u8]) {
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, peer)) => {
                if let Err(error) = answer(stream, peer, seen, file) {
                    println!("web server: {peer}: {error:#}");
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(error) => println!("web server: {error}"),
        }
    }
}

fn answer(stream: TcpStream, peer: SocketAddr, seen: &Mutex<Seen>, file: &[u8]) -> Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(&stream);
    let mut length = 0;
    let mut request = String::new();
    reader.read_line(&mut request)?;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let header = header.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
    }
    ensure!(length <= MAX_UPLOAD, "an upload of {length} bytes");
    let mut upload = Vec::new();
    reader.take(length).read_to_end(&mut upload)?;
    let body = if request.starts_with("PUT") { &[] } else { file };
    {
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.peers.push(peer);
        seen.upload = upload;
    }
    let mut stream = &stream;
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    stream.write_all(body)?;
    Ok(())
}

/// `length` bytes that differ from `seed` to `seed`.
#[must_use]
pub fn file(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .flatten()
    .take(length)
    .collect()
}

/// Downloads from `server` by curl.
///
/// # Errors
///
/// When curl fails; `connect_secs` bounds how long it tries to connect.
pub fn download(
    lab: &Lab,
    client: &Namespace,
    server: SocketAddr,
    connect_secs: u32,
) -> Result<Vec<u8>> {
    let path = lab.directory().join("download");
    curl(client, server, connect_secs, &format!("--output {}", path.display()))?;
    let bytes = std::fs::read(&path)?;
    std::fs::remove_file(&path)?;
    Ok(bytes)
}

/// Uploads `bytes` to `server` by curl.
///
/// # Errors
///
/// When curl fails.
pub fn upload(lab: &Lab, client: &Namespace, server: SocketAddr, bytes: &[u8]) -> Result<()> {
    let path = lab.directory().join("upload");
    std::fs::write(&path, bytes)?;
    curl(client, server, 5, &format!("--header Expect: --upload-file {}", path_text(&path)?))
}

fn path_text(path: &Path) -> Result<&str> {
    path.to_str().context("a temporary folder whose name is not UTF-8")
}

fn curl(client: &Namespace, server: SocketAddr, connect_secs: u32, what: &str) -> Result<()> {
    client
        .run(&format!(
            "curl --silent --show-error --fail --noproxy * --max-time 20 \
             --connect-timeout {connect_secs} {what} http://{server}/file"
        ))
        .map(drop)
}
