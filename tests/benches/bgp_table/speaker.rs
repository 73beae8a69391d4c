//! nvgate's contender: the speaker on the front end's place, in a process of its own, with the
//! kernel's TCP and nothing else of the gateway. What it would forward by is taken and counted.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant as Clock;

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nvgate_bgp::decision::Options;
use nvgate_bgp::policy::{
    Direction, ExportGuard, FrontEndImport, ImportGuard, Martians, Policy, Verdict,
};
use nvgate_bgp::rib::{NextHopChange, Resolution, TableConfig, TableLimits};
use nvgate_bgp::session::{Closed, Connection, Endpoints};
use nvgate_bgp::speaker::{
    Event, Neighbor, PeerIndex, Place, PlaceConfig, RouteConfig, Speaker, SpeakerConfig, Start,
    Turn,
};
use nvgate_model::Instant;
use nvgate_tests::bgp_peers::{End, session};

/// What a read of a socket brings at most.
const READ: usize = 64 << 10;
/// Turns before sockets are looked at again.
const TURNS: usize = 8;

fn end((address, asn): (Ipv4Addr, u32)) -> End {
    End { address: address.into(), asn, router_id: address }
}

fn neighbor(own: (Ipv4Addr, u32), other: (Ipv4Addr, u32)) -> Neighbor {
    let mut config = session(end(own), end(other));
    config.families[1] = None;
    let accept = |direction| {
        let policy = Policy::compile(direction, Vec::new(), Verdict::Accept);
        Some(Arc::new(policy.expect("no rules are a policy")))
    };
    let routes = RouteConfig {
        import_guard: ImportGuard::FrontEnd(Arc::new(FrontEndImport::new(
            &[],
            Martians::Unforwardable,
        ))),
        import: accept(Direction::Import),
        export_guard: ExportGuard::FrontEnd,
        export: accept(Direction::Export),
        path_numbers_max: 1000,
        enforce_first_as: true,
        graceful_shutdown: true,
        blackhole: false,
        own_addresses: vec![own.0.into()],
        shared_subnets: None,
        next_hops: [None; 2],
        link_local: None,
        next_hop_unchanged: false,
    };
    Neighbor { config: Arc::new(config), routes: Arc::new(routes) }
}

fn config(own: (Ipv4Addr, u32), others: &[(Ipv4Addr, u32)]) -> SpeakerConfig {
    let place = PlaceConfig {
        table: TableConfig {
            limits: TableLimits { prefixes: 4_000_000, attribute_bytes: 4 << 30 },
            router_id: own.0,
            cluster_id: own.0,
            options: Options::default(),
        },
        updates_per_second: None,
        peers_max: 64,
        peers: others.iter().map(|other| neighbor(own, *other)).collect(),
        ranges: Vec::new(),
    };
    SpeakerConfig { places: [(Place::FrontEnd, Arc::new(place))].into() }
}

struct Link {
    stream: TcpStream,
    /// Whether TCP took less than it was offered.
    full: bool,
}

struct Process {
    speaker: Speaker,
    links: BTreeMap<(PeerIndex, Connection), Link>,
    began: Clock,
    piece: Vec<u8>,
}

/// Speaks until it is killed.
pub fn run(own: (Ipv4Addr, u32), others: &[(Ipv4Addr, u32)]) -> Result<()> {
    let listener = TcpListener::bind((own.0, 179)).context("listening")?;
    listener.set_nonblocking(true)?;
    let began = Clock::now();
    let now = Instant(1);
    let speaker = Speaker::new(config(own, others), now, 7, Start::Cold);
    let mut process = Process { speaker, links: BTreeMap::new(), began, piece: vec![0; READ] };
    loop {
        process.turn()?;
        process.wait(&listener)?;
        process.accept(&listener)?;
    }
}

impl Process {
    fn now(&self) -> Instant {
        Instant(1) + self.began.elapsed()
    }

    fn wait(&self, listener: &TcpListener) -> Result<()> {
        let now = self.now();
        let timeout = match self.speaker.poll_timeout().map(|due| due.since(now).as_millis()) {
            Some(millis) => PollTimeout::from(millis.min(1000) as u16),
            None => PollTimeout::NONE,
        };
        let mut watched = vec![PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        watched.extend(self.links.iter().map(|((peer, connection), link)| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::POLLIN, self.speaker.read_room(*peer, *connection) > 0);
            flags.set(PollFlags::POLLOUT, link.full);
            PollFd::new(link.stream.as_fd(), flags)
        }));
        poll(&mut watched, timeout)?;
        Ok(())
    }

    fn accept(&mut self, listener: &TcpListener) -> Result<()> {
        let (stream, remote) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let ends = Endpoints { local: stream.local_addr()?, remote };
        let now = self.now();
        if let Ok(whose) = self.speaker.handle_incoming(now, Place::FrontEnd, ends) {
            self.links.insert(whose, Link { stream, full: false });
        }
        Ok(())
    }

    /// One round: bytes in, turns, bytes out, events.
    fn turn(&mut self) -> Result<()> {
        let now = self.now();
        if self.speaker.poll_timeout().is_some_and(|due| due <= now) {
            self.speaker.handle_timeout(now);
        }
        self.read(now)?;
        for _ in 0..TURNS {
            if self.speaker.turn(now) == Turn::Idle {
                break;
            }
        }
        self.write(now)?;
        self.hear();
        Ok(())
    }

    fn read(&mut self, now: Instant) -> Result<()> {
        let mut over = Vec::new();
        for (&(peer, connection), link) in &mut self.links {
            let room = self.speaker.read_room(peer, connection).min(READ);
            if room == 0 {
                continue;
            }
            match link.stream.read(&mut self.piece[..room]) {
                Ok(0) => over.push((peer, connection)),
                Ok(count) => {
                    self.speaker.handle_bytes(now, peer, connection, &self.piece[..count]);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => over.push((peer, connection)),
            }
        }
        for (peer, connection) in over {
            self.links.remove(&(peer, connection));
            self.speaker.handle_closed(now, peer, connection, Closed::Finished);
        }
        Ok(())
    }

    fn write(&mut self, now: Instant) -> Result<()> {
        for (&(peer, connection), link) in &mut self.links {
            if std::mem::take(&mut link.full) {
                self.speaker.handle_writable(peer, connection);
            }
        }
        while let Some((peer, connection, bytes)) = self.speaker.poll_transmit() {
            let Some(link) = self.links.get_mut(&(peer, connection)) else {
                let all = bytes.len();
                self.speaker.handle_transmitted(now, peer, connection, all);
                continue;
            };
            let taken = match link.stream.write(bytes) {
                Ok(taken) => taken,
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                Err(error) => return Err(error.into()),
            };
            link.full = taken < bytes.len();
            self.speaker.handle_transmitted(now, peer, connection, taken);
        }
        Ok(())
    }

    fn hear(&mut self) {
        while let Some(event) = self.speaker.poll_event() {
            match event {
                Event::NextHop(place, NextHopChange::Wanted(address)) => {
                    let known = Resolution::Reachable { metric: 0, connected: true };
                    self.speaker.handle_next_hop(place, address, known);
                }
                Event::RoutesChanged(place) => while self.speaker.poll_change(place).is_some() {},
                Event::Close(peer, connection, _) => drop(self.links.remove(&(peer, connection))),
                Event::Connect(..)
                | Event::Up(..)
                | Event::Down(..)
                | Event::PrefixWarning(..)
                | Event::Bfd(..)
                | Event::Forgotten(_)
                | Event::NextHop(..)
                | Event::Restarted(_) => {}
            }
        }
    }
}
