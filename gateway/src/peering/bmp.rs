//! What a BMP collector is told (RFC 7854): the speaker's stream of sessions and routes as messages,
//! handed to a thread that has the connection.
//!
//! Three states: without a connection the speaker is not monitored and nothing is kept; with a new one
//! monitoring begins, so that the collector is told everything that holds, and goes on with what
//! happens. A collector that takes less than peers tell loses its connection and begins anew. The
//! speaker's thread never waits: what the thread of the connection has not taken stays in the
//! speaker's queue, which is bounded.

mod feed;
mod link;

use std::net::SocketAddr;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

use nvgate_bgp::bmp::Termination;
use nvgate_bgp::speaker::Speaker;
use nvgate_model::Instant;

use self::feed::{Fed, Feed};
use self::link::{Link, News};
use crate::io::packet::Waker;

/// Bytes at which a chunk for the connection is full; the last message is whole.
const CHUNK: usize = 64 * 1024;
/// Chunks that are made in one turn of the thread, so that packets are not kept waiting.
const CHUNKS_A_TURN: usize = 8;
/// Steps of the speaker's stream for one chunk.
const STEPS_A_CHUNK: usize = 256;
/// How often statistics are told (RFC 7854 section 4.8).
const STATISTICS: Duration = Duration::from_secs(60);

/// Export to one collector, or none.
pub(super) struct Bmp {
    waker: Waker,
    link: Option<Link>,
    /// Connections that were ended and have last words.
    ended: Vec<Link>,
    feed: Feed,
    /// To the connection that stands.
    sending: Option<SyncSender<Vec<u8>>>,
    /// A chunk that found no room.
    chunk: Vec<u8>,
    statistics_at: Instant,
    fault: String,
}

impl Bmp {
    pub(super) fn new(waker: Waker) -> Self {
        Self {
            waker,
            link: None,
            ended: Vec::new(),
            feed: Feed::default(),
            sending: None,
            chunk: Vec::new(),
            statistics_at: Instant::default(),
            fault: String::new(),
        }
    }

    /// Lets this be the collector from now on.
    pub(super) fn follow(&mut self, target: Option<SocketAddr>, speaker: &mut Speaker) {
        if self.link.as_ref().map(Link::target) == target {
            return;
        }
        self.end(speaker);
        let Some(target) = target else { return };
        self.fault = format!("not connected to the BMP collector {target} yet");
        match Link::start(target, self.waker.clone()) {
            Ok(link) => self.link = Some(link),
            Err(error) => self.fault = format!("no thread for the BMP collector: {error}"),
        }
    }

    /// Ends the feed in order, as far as there is room, and the connection behind it.
    pub(super) fn end(&mut self, speaker: &mut Speaker) {
        if self.sending.is_some() {
            for _ in 0..CHUNKS_A_TURN {
                if self.fill(speaker) != Fed::More || !self.hand_over() {
                    break;
                }
            }
            self.feed.end(Termination::Administrative, &mut self.chunk);
            if !self.hand_over() {
                tracing::debug!("the BMP collector is told no reason: it reads too slowly");
            }
        }
        self.give_up(speaker);
        self.ended.retain(|link| !link.is_over());
        if let Some(link) = self.link.take() {
            link.stop();
            self.ended.push(link);
        }
    }

    /// Takes what the connection's thread says, and makes chunks for it; whether there is more at
    /// once.
    pub(super) fn turn(&mut self, now: Instant, speaker: &mut Speaker) -> bool {
        while let Some(news) = self.link.as_ref().and_then(Link::poll) {
            match news {
                News::Connected(sending) => {
                    tracing::info!("BMP collector connected");
                    self.begin(now, sending, speaker);
                }
                News::Lost(fault) => {
                    if self.fault != fault {
                        tracing::warn!(fault, "BMP");
                    }
                    self.fault = fault;
                    self.give_up(speaker);
                }
            }
        }
        if self.sending.is_none() {
            return false;
        }
        if now >= self.statistics_at {
            self.statistics_at = now + STATISTICS;
            self.feed.statistics(speaker, &mut self.chunk);
        }
        for _ in 0..CHUNKS_A_TURN {
            let fed = self.fill(speaker);
            if !self.hand_over() {
                return false;
            }
            match fed {
                Fed::All => return false,
                Fed::More => {}
                Fed::Overrun => {
                    self.give_up(speaker);
                    return false;
                }
            }
        }
        true
    }

    /// When the next statistics are due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.sending.as_ref().map(|_| self.statistics_at)
    }

    /// Whether the collector, if there is one, is told everything; else why not.
    pub(super) fn health(&self) -> Option<Result<(), String>> {
        self.link.as_ref()?;
        Some(if self.sending.is_some() { Ok(()) } else { Err(self.fault.clone()) })
    }

    pub(super) fn has_last_words(&self) -> bool {
        self.ended.iter().any(|link| !link.is_over())
    }

    fn begin(&mut self, now: Instant, sending: SyncSender<Vec<u8>>, speaker: &mut Speaker) {
        speaker.monitor(true);
        self.chunk.clear();
        self.feed = Feed::begin(&mut self.chunk);
        self.sending = Some(sending);
        self.statistics_at = now + STATISTICS;
    }

    /// The connection is over, or is to be: its thread sees that nobody sends any more.
    fn give_up(&mut self, speaker: &mut Speaker) {
        self.sending = None;
        self.chunk = Vec::new();
        speaker.monitor(false);
    }

    fn fill(&mut self, speaker: &mut Speaker) -> Fed {
        for _ in 0..STEPS_A_CHUNK {
            if self.chunk.len() >= CHUNK {
                return Fed::More;
            }
            let fed = self.feed.step(speaker, &mut self.chunk);
            if fed != Fed::More {
                return fed;
            }
        }
        Fed::More
    }

    /// Whether the connection's thread has room for another chunk.
    fn hand_over(&mut self) -> bool {
        let (Some(sending), Some(link)) = (&self.sending, &self.link) else { return false };
        if self.chunk.is_empty() {
            return true;
        }
        // Whoever finds no room asks to be woken, and then looks once more.
        for waits in [false, true] {
            if waits {
                link.wake_when_there_is_room();
            }
            match sending.try_send(std::mem::take(&mut self.chunk)) {
                Ok(()) => return true,
                Err(TrySendError::Full(chunk)) => self.chunk = chunk,
                // It says why itself.
                Err(TrySendError::Disconnected(_)) => return false,
            }
        }
        false
    }
}
