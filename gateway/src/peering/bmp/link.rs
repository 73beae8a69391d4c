//! The connection with a collector: a thread that connects, writes what it is given, and tries again
//! when that ends. Only this thread waits for the collector.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::io::packet::Waker;

/// Chunks that wait to be written.
const CHUNKS_MAX: usize = 16;
/// News that nobody took yet; the thread waits with more.
const NEWS_MAX: usize = 16;
/// How long a connection may take to stand, and a write to move something.
const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });
/// How often a connection with nothing to write is looked at, and a stop is seen.
const LOOK: Duration = Duration::from_millis(200);
/// How long last words may take once the link is stopped.
const GOODBYE: Duration = Duration::from_secs(2);
/// The pause before another attempt: at first, and at most.
const PAUSE_MIN: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 5000 });
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// A connection that stood so long makes the next pause the first again.
const STOOD: Duration = Duration::from_secs(60);

/// What the thread says.
pub(super) enum News {
    /// There is a connection, and this is where its bytes go. It ends when this is dropped.
    Connected(SyncSender<Vec<u8>>),
    /// There is none, for this reason.
    Lost(String),
}

/// The thread of one collector.
pub(super) struct Link {
    target: SocketAddr,
    news: Receiver<News>,
    flags: Arc<Flags>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Flags {
    stop: AtomicBool,
    /// Somebody found no room for a chunk.
    waits: AtomicBool,
}

/// What the thread owns.
struct Writer {
    target: SocketAddr,
    news: SyncSender<News>,
    flags: Arc<Flags>,
    waker: Waker,
}

impl Link {
    /// Starts the thread. It wakes who takes its news by `waker`.
    pub(super) fn start(target: SocketAddr, waker: Waker) -> io::Result<Self> {
        let (sender, news) = mpsc::sync_channel(NEWS_MAX);
        let flags = Arc::<Flags>::default();
        let writer = Writer { target, news: sender, flags: flags.clone(), waker };
        let thread =
            thread::Builder::new().name("nvgate-bmp".to_owned()).spawn(move || writer.run())?;
        Ok(Self { target, news, flags, thread })
    }

    pub(super) const fn target(&self) -> SocketAddr {
        self.target
    }

    pub(super) fn poll(&self) -> Option<News> {
        self.news.try_recv().ok()
    }

    /// Has the thread wake its user when it takes the next chunk.
    pub(super) fn wake_when_there_is_room(&self) {
        self.flags.waits.store(true, Ordering::SeqCst);
    }

    /// Has the thread end, once it has written what it was given.
    pub(super) fn stop(&self) {
        self.flags.stop.store(true, Ordering::SeqCst);
        self.thread.thread().unpark();
    }

    pub(super) fn is_over(&self) -> bool {
        self.thread.is_finished()
    }
}

impl Writer {
    fn run(&self) {
        let mut pause = PAUSE_MIN;
        while !self.stops() {
            let begun = Instant::now();
            let lost = match TcpStream::connect_timeout(&self.target, PATIENCE) {
                Ok(stream) => self.serve(&stream),
                Err(error) => error.to_string(),
            };
            if self.stops() {
                return;
            }
            if begun.elapsed() > STOOD {
                pause = PAUSE_MIN;
            }
            let fault = format!(
                "BMP collector {}: {lost}; tried again every {} s at most: see that it runs there \
                 and that the host has a way to it",
                self.target,
                PAUSE_MAX.as_secs()
            );
            if !self.say(News::Lost(fault)) {
                return;
            }
            let end = Instant::now() + pause;
            while !self.stops() && Instant::now() < end {
                thread::park_timeout(end.saturating_duration_since(Instant::now()));
            }
            pause = PAUSE_MAX.min(2 * pause);
        }
    }

    fn stops(&self) -> bool {
        self.flags.stop.load(Ordering::SeqCst)
    }

    /// Whether there is still somebody to say it to.
    fn say(&self, news: News) -> bool {
        let said = self.news.send(news).is_ok();
        self.waker.wake();
        said
    }

    /// Writes what comes, until nothing will; why it ended.
    fn serve(&self, stream: &TcpStream) -> String {
        let (sender, chunks) = mpsc::sync_channel(CHUNKS_MAX);
        if let Err(error) = stream.set_write_timeout(Some(PATIENCE)) {
            return error.to_string();
        }
        if !self.say(News::Connected(sender)) {
            return "nobody has anything to tell".to_owned();
        }
        match self.write_all(stream, &chunks) {
            Ok(()) => {
                // All was written, and nothing follows.
                let _ = stream.shutdown(Shutdown::Write);
                "it took less than BGP peers told, and is told everything anew".to_owned()
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                format!("it took nothing for {} s", PATIENCE.as_secs())
            }
            Err(error) => error.to_string(),
        }
    }

    fn write_all(&self, stream: &TcpStream, chunks: &Receiver<Vec<u8>>) -> io::Result<()> {
        let mut goodbye = None;
        loop {
            match chunks.recv_timeout(LOOK) {
                Ok(chunk) => {
                    if self.flags.waits.swap(false, Ordering::SeqCst) {
                        self.waker.wake();
                    }
                    let mut rest = &*chunk;
                    while !rest.is_empty() {
                        if self.stops() {
                            let end = *goodbye.get_or_insert_with(|| Instant::now() + GOODBYE);
                            if Instant::now() >= end {
                                return Ok(());
                            }
                        }
                        rest = &rest[(&mut &*stream).write(rest)?..];
                    }
                }
                Err(RecvTimeoutError::Timeout) => look(stream)?,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }
}

/// Whether the collector has closed the connection. It has nothing to say (RFC 7854 section 3.2).
fn look(stream: &TcpStream) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    let read = (&mut &*stream).read(&mut [0; 512]);
    stream.set_nonblocking(false)?;
    match read {
        Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection")),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::mpsc::TrySendError;

    use super::*;

    /// A link to a listener of its own.
    fn link() -> (TcpListener, Link) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = listener.local_addr().unwrap();
        (listener, Link::start(target, Waker::new().unwrap()).unwrap())
    }

    fn connected(link: &Link) -> SyncSender<Vec<u8>> {
        match link.news.recv_timeout(Duration::from_secs(10)).unwrap() {
            News::Connected(sending) => sending,
            News::Lost(fault) => panic!("{fault}"),
        }
    }

    fn lost(link: &Link) -> String {
        match link.news.recv_timeout(Duration::from_secs(10)).unwrap() {
            News::Connected(_) => panic!("connected"),
            News::Lost(fault) => fault,
        }
    }

    #[test]
    fn a_collector_that_goes_is_connected_to_again_and_gets_what_is_written() {
        let (listener, link) = link();
        let sending = connected(&link);
        drop(listener.accept().unwrap());
        let fault = lost(&link);
        assert!(fault.contains("it closed the connection; tried again every 60 s"), "{fault}");
        assert!(matches!(sending.try_send(vec![1]), Err(TrySendError::Disconnected(_))));
        let sending = connected(&link);
        let (mut stream, _) = listener.accept().unwrap();
        sending.send(b"all of it".to_vec()).unwrap();
        link.stop();
        drop(sending);
        let mut read = String::new();
        stream.read_to_string(&mut read).unwrap();
        assert_eq!(read, "all of it");
        let end = Instant::now() + Duration::from_secs(5);
        while !link.is_over() {
            assert!(Instant::now() < end, "the thread goes on");
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_collector_that_reads_nothing_fills_a_bounded_channel_and_loses_its_connection() {
        let (listener, link) = link();
        let sending = connected(&link);
        let _stream = listener.accept().unwrap();
        // What the kernel's buffers take is bounded too.
        let chunk = vec![0; 1 << 20];
        let mut taken = 0;
        let end = Instant::now() + Duration::from_secs(10);
        let fault = loop {
            assert!(Instant::now() < end, "{taken} MiB went nowhere");
            match sending.try_send(chunk.clone()) {
                Ok(()) => taken += 1,
                Err(TrySendError::Full(_)) => thread::sleep(Duration::from_millis(20)),
                Err(TrySendError::Disconnected(_)) => break lost(&link),
            }
        };
        assert!(taken < 100 && fault.contains("it took nothing for 1 s"), "{taken}: {fault}");
    }
}
