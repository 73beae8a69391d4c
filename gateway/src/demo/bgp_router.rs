//! A router on a tenant's premises, small: one BGP session (RFC 4271) to the gateway over the kernel's
//! TCP, one prefix that it teaches, and what it hears.
//!
//! It shares the messages' encoding with the gateway, and neither sessions nor tables.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nvgate_bgp::wire::{
    AttributeBlock, Capability, Codec, Message, MessageLimit, Open, UpdatePacker, decode,
    encode_keepalive, encode_open, frame,
};
use nvgate_bgp::{AsPath, AsnWidth, Attributes, Family, NeighborKind, Nlri, Origin};
use nvgate_model::{Asn, Prefix};

use super::lab::probe::Worker;
use super::lab::{LabError, Namespace};

const HOLD_TIME_SECS: u16 = 30;
const KEEPALIVE: Duration = Duration::from_secs(10);
/// How long it waits after a session that failed.
const RETRY: Duration = Duration::from_millis(250);
const CONNECTING: Duration = Duration::from_secs(2);
/// How often it looks whether it is to stop, or to teach otherwise.
const LOOK: Duration = Duration::from_millis(20);

/// What a router knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RouterConfig {
    /// Its AS.
    pub asn: Asn,
    /// Its address, which is its identifier and the next hop of what it teaches.
    pub address: Ipv4Addr,
    /// The gateway's end of the session.
    pub gateway: SocketAddr,
    /// What it teaches.
    pub teaches: Prefix,
}

/// A running router. Ends when dropped.
#[derive(Debug)]
pub struct BgpRouter {
    shared: Arc<Shared>,
    _worker: Worker,
}

#[derive(Debug, Default)]
struct Shared {
    silent: AtomicBool,
    heard: Mutex<BTreeSet<Prefix>>,
}

impl BgpRouter {
    /// Starts one in `namespace`.
    pub fn start(namespace: &Namespace, config: RouterConfig) -> Result<Self, LabError> {
        let shared = Arc::<Shared>::default();
        let of_thread = Arc::clone(&shared);
        let worker = Worker::start(namespace, "bgp-router", move |stop| {
            while !stop.load(Ordering::Relaxed) {
                // A session that ends begins anew, as a router's does.
                let _ = Session::run(&config, &of_thread, stop);
                of_thread.heard().clear();
                thread::sleep(RETRY);
            }
        })?;
        Ok(Self { shared, _worker: worker })
    }

    /// The prefixes that the gateway announces.
    #[must_use]
    pub fn heard(&self) -> BTreeSet<Prefix> {
        self.shared.heard().clone()
    }

    /// Takes back what it taught.
    pub fn withdraw(&self) {
        self.shared.silent.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn heard(&self) -> std::sync::MutexGuard<'_, BTreeSet<Prefix>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Session<'a> {
    config: &'a RouterConfig,
    shared: &'a Shared,
    stream: TcpStream,
    codec: Codec,
    established: bool,
    teaching: bool,
    keepalive_at: Instant,
}

impl<'a> Session<'a> {
    /// One session from its beginning to its end.
    fn run(config: &'a RouterConfig, shared: &'a Shared, stop: &AtomicBool) -> io::Result<()> {
        let stream = TcpStream::connect_timeout(&config.gateway, CONNECTING)?;
        stream.set_read_timeout(Some(LOOK))?;
        stream.set_nodelay(true)?;
        let neighbor = NeighborKind::External;
        let codec = Codec { asn_width: AsnWidth::Four, ..Codec::initial(neighbor) };
        let keepalive_at = Instant::now() + KEEPALIVE;
        let mut session = Self {
            config,
            shared,
            stream,
            codec,
            established: false,
            teaching: false,
            keepalive_at,
        };
        session.open()?;
        let (mut input, mut chunk) = (Vec::new(), [0; 4096]);
        while !stop.load(Ordering::Relaxed) {
            match session.stream.read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(count) => input.extend_from_slice(&chunk[..count]),
                Err(error)
                    if [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut]
                        .contains(&error.kind()) => {}
                Err(error) => return Err(error),
            }
            while let Some(length) = session.handle(&input)? {
                input.drain(..length);
            }
            session.speak()?;
        }
        Ok(())
    }

    fn open(&mut self) -> io::Result<()> {
        let RouterConfig { asn, address, .. } = *self.config;
        let open = Open {
            asn,
            hold_time_secs: HOLD_TIME_SECS,
            identifier: address,
            capabilities: vec![
                Capability::family(Family::Ipv4Unicast),
                Capability::FourOctetAsn(asn),
            ],
            ignored_capabilities: 0,
        };
        let mut message = Vec::new();
        encode_open(&open, &mut message).map_err(io::Error::other)?;
        self.stream.write_all(&message)
    }

    /// Handles the first message of `input`; returns its length, or none if it is not whole yet.
    fn handle(&mut self, input: &[u8]) -> io::Result<Option<usize>> {
        let broken = |_| io::Error::other("the gateway's message is wrong");
        let Some(frame) = frame(input, MessageLimit::Standard).map_err(broken)? else {
            return Ok(None);
        };
        let length = frame.bytes().len();
        match decode(frame, &self.codec).map_err(broken)? {
            Message::Open(_) => self.keepalive()?,
            Message::Keepalive => self.established = true,
            Message::Update(update) => {
                let mut heard = self.shared.heard();
                for route in update.withdrawn() {
                    heard.remove(&route.prefix);
                }
                for group in update.announced() {
                    heard.extend(group.routes.into_iter().map(|route| route.prefix));
                }
            }
            Message::Notification(_) => return Err(io::ErrorKind::ConnectionAborted.into()),
            Message::Refresh(_) => {}
        }
        Ok(Some(length))
    }

    /// Says what is due.
    fn speak(&mut self) -> io::Result<()> {
        if !self.established {
            return Ok(());
        }
        if Instant::now() >= self.keepalive_at {
            self.keepalive()?;
        }
        let teach = !self.shared.silent.load(Ordering::Relaxed);
        if teach != self.teaching {
            let RouterConfig { asn, address, teaches, .. } = *self.config;
            let mut attributes = Attributes::originated(address.into(), Origin::Igp);
            attributes.as_path = AsPath::sequence(&[asn]);
            let block = AttributeBlock::new(&attributes, Family::Ipv4Unicast, &self.codec)
                .map_err(io::Error::other)?;
            let mut message = Vec::new();
            let mut packer = UpdatePacker::new(&mut message, &self.codec);
            let route = [Nlri { prefix: teaches, path_id: None }];
            if teach {
                packer.announce(&block, route);
            } else {
                packer.withdraw(Family::Ipv4Unicast, route);
            }
            self.stream.write_all(&message)?;
            self.teaching = teach;
        }
        Ok(())
    }

    fn keepalive(&mut self) -> io::Result<()> {
        let mut message = Vec::new();
        encode_keepalive(&mut message);
        self.keepalive_at = Instant::now() + KEEPALIVE;
        self.stream.write_all(&message)
    }
}
