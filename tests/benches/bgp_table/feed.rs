//! The two peers of a contender: bytes that were made before, sent as fast as it takes them, and a
//! reader that counts which prefixes it was told.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nvgate::demo::lab::Namespace;
use nvgate_bgp::wire::{
    AttributeBlock, Capability, Codec, Message, MessageLimit, MessageType, Open, UpdatePacker,
    decode, encode_keepalive, encode_open, frame,
};
use nvgate_bgp::{
    Aggregator, AsPath, AsnWidth, Attributes, Community, Family, NeighborKind, Nlri, Origin,
};
use nvgate_model::{Asn, Prefix};
use nvgate_tests::scenario::Random;
use socket2::{Domain, Socket, Type};

/// The port of BGP.
const PORT: u16 = 179;
/// How long a daemon may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);
/// What is proposed; a contender that is busy for long may still be one.
const HOLD_SECS: u16 = 240;
/// Between two KEEPALIVEs.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// Where prefixes begin: one in each 1024 addresses from here on, so that its place says which it is.
const FIRST: u32 = u32::from_be_bytes([11, 0, 0, 0]);
const SLOT_BITS: u32 = 10;

/// A table as a peer sends it.
pub struct Feed {
    /// UPDATEs that announce all prefixes.
    pub announce: Vec<u8>,
    /// UPDATEs that withdraw them.
    pub withdraw: Vec<u8>,
    /// Prefixes.
    pub prefixes: usize,
    /// Distinct sets of attributes.
    pub sets: usize,
}

fn codec() -> Codec {
    Codec { asn_width: AsnWidth::Four, ..Codec::initial(NeighborKind::External) }
}

impl Feed {
    /// So many prefixes of 22 to 24 bits in no order, so many on average with a set of attributes:
    /// most sets have few, a few have many.
    pub fn new(prefixes: usize, a_set: usize, from: (Ipv4Addr, u32)) -> Result<Self> {
        let mut random = Random(7);
        let step = 386_093;
        ensure!(!prefixes.is_multiple_of(step), "the step must visit every prefix");
        let nlris: Vec<Nlri> = (0..prefixes)
            .map(|number| {
                let slot = (number * step % prefixes) as u32;
                let length = random.pick(&[22, 23, 24, 24, 24, 24, 24]);
                let address = Ipv4Addr::from_bits(FIRST + (slot << SLOT_BITS));
                Ok(Prefix::containing(address.into(), length)?.into())
            })
            .collect::<Result<_>>()?;
        let (mut announce, mut withdraw) = (Vec::new(), Vec::new());
        let (mut rest, mut sets) = (&nlris[..], 0);
        while !rest.is_empty() {
            let block = AttributeBlock::new(
                &attributes(sets, from, &mut random),
                Family::Ipv4Unicast,
                &codec(),
            )?;
            let (of_set, later) = rest.split_at(share(a_set, &mut random).min(rest.len()));
            UpdatePacker::new(&mut announce, &codec()).announce(&block, of_set.iter().copied());
            rest = later;
            sets += 1;
        }
        UpdatePacker::new(&mut withdraw, &codec())
            .withdraw(Family::Ipv4Unicast, nlris.iter().copied());
        Ok(Self { announce, withdraw, prefixes, sets })
    }
}

/// How many prefixes share a set: on average `a_set`, half of the sets less than a third of that.
fn share(a_set: usize, random: &mut Random) -> usize {
    match (a_set, random.below(10)) {
        (1, _) => 1,
        (_, 0..5) => 1 + random.below(a_set.div_ceil(3)),
        (_, 5..8) => 1 + random.below(a_set),
        (_, 8) => 1 + random.below(3 * a_set),
        (_, _) => a_set + random.below(5 * a_set),
    }
}

/// Attributes as of a transit provider: three to six hops, communities, at times a MED or who
/// aggregated; no two sets are the same.
fn attributes(number: usize, (address, asn): (Ipv4Addr, u32), random: &mut Random) -> Attributes {
    let mut attributes = Attributes::originated(address.into(), Origin::Igp);
    let mut path =
        vec![Asn(asn), Asn(210_000 + (number >> 12) as u32), Asn(4096 + (number & 0xfff) as u32)];
    path.extend((0..random.below(4)).map(|_| Asn(1000 + random.below(60_000) as u32)));
    attributes.as_path = AsPath::sequence(&path);
    let tag = |random: &mut Random| Community((asn & 0xffff) << 16 | random.below(4000) as u32);
    attributes.communities = (0..random.below(8)).map(|_| tag(random)).collect();
    attributes.med = random.chance(20).then(|| random.below(100) as u32);
    if random.chance(8) {
        let aggregator = Aggregator { asn: path[path.len() - 1], router_id: address };
        attributes.edit_rare(|rare| rare.aggregator = Some(aggregator));
        attributes.atomic_aggregate = random.chance(50);
    }
    attributes
}

/// An established session with a contender.
pub struct Peer {
    stream: TcpStream,
    own: (Ipv4Addr, u32),
}

impl Peer {
    /// Connects from `own` in its namespace until the contender listens, and opens the session.
    pub fn open(namespace: &Namespace, own: (Ipv4Addr, u32), to: Ipv4Addr) -> Result<Self> {
        let began = Instant::now();
        loop {
            match namespace.run(|| connect(own.0, to))? {
                Ok(stream) => return Self::establish(stream, own),
                Err(error) if began.elapsed() > PATIENCE => {
                    return Err(error).context("the contender does not listen");
                }
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    fn establish(mut stream: TcpStream, own: (Ipv4Addr, u32)) -> Result<Self> {
        let open = Open {
            asn: Asn(own.1),
            hold_time_secs: HOLD_SECS,
            identifier: own.0,
            capabilities: vec![
                Capability::family(Family::Ipv4Unicast),
                Capability::FourOctetAsn(Asn(own.1)),
            ],
            ignored_capabilities: 0,
        };
        let mut bytes = Vec::new();
        encode_open(&open, &mut bytes)?;
        stream.write_all(&bytes)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut input = Vec::new();
        let mut opened = false;
        loop {
            while let Ok(Some(whole)) = frame(&input, MessageLimit::Standard) {
                let (kind, length) = (whole.kind(), whole.bytes().len());
                match kind {
                    MessageType::Open => {
                        bytes.clear();
                        encode_keepalive(&mut bytes);
                        stream.write_all(&bytes)?;
                        opened = true;
                    }
                    MessageType::Keepalive if opened => {
                        stream.set_read_timeout(None)?;
                        return Ok(Self { stream, own });
                    }
                    MessageType::Keepalive
                    | MessageType::Update
                    | MessageType::Notification
                    | MessageType::RouteRefresh => {
                        anyhow::bail!("{:?} before the session: {input:?}", kind)
                    }
                }
                input.drain(..length);
            }
            let mut piece = [0; 4096];
            let count = stream.read(&mut piece).context("waiting for the session")?;
            ensure!(count > 0, "{:?}: the contender hung up", self_name(own));
            input.extend(&piece[..count]);
        }
    }

    /// Reads and forgets, in a thread, what the contender tells who taught it.
    pub fn drain(&self) -> Result<JoinHandle<()>> {
        let mut stream = self.stream.try_clone()?;
        Ok(std::thread::spawn(move || {
            let mut piece = vec![0; 1 << 16];
            while stream.read(&mut piece).is_ok_and(|count| count > 0) {}
        }))
    }

    /// Sends KEEPALIVEs in a thread, until the session ends. Not for a peer that sends anything else.
    pub fn keep_alive(&self) -> Result<()> {
        let mut stream = self.stream.try_clone()?;
        let mut bytes = Vec::new();
        encode_keepalive(&mut bytes);
        std::thread::spawn(move || {
            while stream.write_all(&bytes).is_ok() {
                std::thread::sleep(KEEPALIVE);
            }
        });
        Ok(())
    }

    /// Writes all of it.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).with_context(|| format!("{:?} sends", self.own))
    }

    /// Counts in a thread what it is told.
    pub fn count(&self, slots: usize) -> Result<Counting> {
        let stream = self.stream.try_clone()?;
        let told = Arc::new(AtomicUsize::new(0));
        let shown = Arc::clone(&told);
        let thread = std::thread::spawn(move || read(stream, slots, &shown));
        Ok(Counting { told, thread: Some(thread) })
    }
}

fn self_name(own: (Ipv4Addr, u32)) -> String {
    format!("AS {} at {}", own.1, own.0)
}

impl Drop for Peer {
    fn drop(&mut self) {
        // The contender may have closed it.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

fn connect(from: Ipv4Addr, to: Ipv4Addr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::new(from.into(), 0).into())?;
    socket.connect_timeout(&SocketAddr::new(to.into(), PORT).into(), Duration::from_secs(1))?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket.into())
}

/// A reader that counts.
pub struct Counting {
    told: Arc<AtomicUsize>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Counting {
    /// Waits until it has been told exactly so many prefixes.
    pub fn reaches(&self, prefixes: usize, limit: Duration) -> Result<()> {
        let began = Instant::now();
        while self.told.load(Ordering::Acquire) != prefixes {
            let ended = self.thread.as_ref().is_none_or(JoinHandle::is_finished);
            let told = self.told.load(Ordering::Acquire);
            ensure!(!ended, "the session ended with {told} prefixes told");
            ensure!(began.elapsed() < limit, "{told} prefixes after {limit:?}, not {prefixes}");
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

/// Reads until the session ends; the number of prefixes that are told now is in `told`.
fn read(mut stream: TcpStream, slots: usize, told: &AtomicUsize) -> Result<()> {
    let mut known = vec![false; slots];
    let mut count = 0_usize;
    let (mut input, mut start, mut end) = (vec![0; 1 << 20], 0, 0);
    loop {
        let read = stream.read(&mut input[end..])?;
        if read == 0 {
            return Ok(());
        }
        end += read;
        while let Some(whole) =
            frame(&input[start..end], MessageLimit::Standard).map_err(|reset| {
                anyhow::anyhow!("the contender sent no message: {:?}", reset.notification)
            })?
        {
            if whole.kind() == MessageType::Notification {
                anyhow::bail!("a NOTIFICATION: {:?}", whole.bytes());
            }
            if let Ok(Message::Update(update)) = decode(whole, &codec()) {
                for nlri in update.withdrawn() {
                    let slot = slot(nlri, slots)?;
                    count -= usize::from(std::mem::replace(&mut known[slot], false));
                }
                for nlri in update.announced().flat_map(|group| group.routes) {
                    let slot = slot(nlri, slots)?;
                    count += usize::from(!std::mem::replace(&mut known[slot], true));
                }
            }
            start += whole.bytes().len();
        }
        told.store(count, Ordering::Release);
        if end > input.len() / 2 {
            input.copy_within(start..end, 0);
            (start, end) = (0, end - start);
        }
    }
}

fn slot(nlri: Nlri, slots: usize) -> Result<usize> {
    let std::net::IpAddr::V4(network) = nlri.prefix.network() else {
        anyhow::bail!("{} is no prefix of the table", nlri.prefix)
    };
    let slot = network.to_bits().wrapping_sub(FIRST) as usize >> SLOT_BITS;
    ensure!(slot < slots, "{} is no prefix of the table", nlri.prefix);
    Ok(slot)
}
