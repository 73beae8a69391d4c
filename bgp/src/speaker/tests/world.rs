//! Speakers, the networks that their places are in, and TCP between them: pipes that carry bytes at
//! once, hold so many that were not read, and end. Nothing waits but for timers, and every loop has a
//! bound, so that a livelock fails.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use nvgate_model::{Instant, Prefix};

use super::configs::{PLACE, address, own, prefix};
use crate::Attributes;
use crate::rib::{NextHopChange, Reach, Resolution};
use crate::session::{Closed, Closing, Connection, Endpoints};
use crate::speaker::{
    Event, NeighborChange, OwnRoute, PeerIndex, PeerStatus, Place, Speaker, SpeakerConfig, Start,
    Turn,
};

/// The bytes that TCP holds in each direction.
const PIPE: usize = 64 << 10;
/// Rounds without the time moving.
const ROUNDS_MAX: usize = 200_000;

/// One speaker and what the gateway would know of it.
pub(super) struct Host {
    pub(super) speaker: Speaker,
    /// The address that it has in each of its places, and the network.
    attached: BTreeMap<Place, (u32, IpAddr)>,
    /// What each place forwards by.
    pub(super) fib: BTreeMap<(Place, Prefix), Reach>,
    pub(super) events: Vec<(Instant, Event)>,
    /// Bytes sent, by peer, each time with when.
    pub(super) sent: BTreeMap<PeerIndex, Vec<(Instant, Vec<u8>)>>,
    /// Next hops that no way leads to.
    pub(super) unreachable: BTreeSet<IpAddr>,
    pub(super) wanted: BTreeSet<(Place, IpAddr)>,
    /// Whether it reads from TCP.
    pub(super) reads: bool,
    pub(super) turns: usize,
}

struct End {
    host: usize,
    peer: PeerIndex,
    connection: Connection,
    /// Bytes on their way to this end.
    input: VecDeque<u8>,
    /// How this end will learn of the other's end, once it has read everything.
    closing: Option<Closed>,
    is_open: bool,
}

struct Pipe {
    ends: [End; 2],
    network: u32,
    addresses: [IpAddr; 2],
}

pub(super) struct World {
    pub(super) now: Instant,
    pub(super) hosts: Vec<Host>,
    pipes: Vec<Pipe>,
    /// Pairs of addresses of a network between which nothing goes.
    cut: BTreeSet<(u32, IpAddr, IpAddr)>,
    /// By network, so that none shows in another what goes on.
    next_ports: BTreeMap<u32, u16>,
}

impl World {
    pub(super) fn new() -> Self {
        let now = Instant::default() + Duration::from_secs(1000);
        let (hosts, pipes, cut) = (Vec::new(), Vec::new(), BTreeSet::new());
        Self { now, hosts, pipes, cut, next_ports: BTreeMap::new() }
    }

    /// Routers that each have one place, all in one network, numbered from 1.
    pub(super) fn of(configs: impl IntoIterator<Item = SpeakerConfig>) -> Self {
        let mut world = Self::new();
        for (config, number) in configs.into_iter().zip(1..) {
            world.add(config, number, &[(PLACE, 0)], Start::Cold);
        }
        world
    }

    /// Adds a speaker whose address is that of `number` in each of these places and networks.
    pub(super) fn add(
        &mut self,
        config: SpeakerConfig,
        number: u8,
        attached: &[(Place, u32)],
        start: Start,
    ) -> usize {
        let seed = 7 + u64::from(number);
        let attached =
            attached.iter().map(|(place, network)| (*place, (*network, address(number)))).collect();
        self.hosts.push(Host {
            speaker: Speaker::new(config, self.now, seed, start),
            attached,
            fib: BTreeMap::new(),
            events: Vec::new(),
            sent: BTreeMap::new(),
            unreachable: BTreeSet::new(),
            wanted: BTreeSet::new(),
            reads: true,
            turns: 0,
        });
        self.hosts.len() - 1
    }

    /// Another speaker takes the place of one; its connections break, or nobody notices.
    pub(super) fn replace(&mut self, host: usize, config: SpeakerConfig, start: Start) {
        self.break_pipes(|pipe| pipe.ends.iter().any(|end| end.host == host));
        let of = &mut self.hosts[host];
        of.speaker = Speaker::new(config, self.now, 99, start);
        of.events.clear();
        of.wanted.clear();
    }

    fn break_pipes(&mut self, broken: impl Fn(&Pipe) -> bool) {
        for pipe in self.pipes.iter_mut().filter(|pipe| broken(pipe)) {
            for end in &mut pipe.ends {
                end.input.clear();
                end.closing.get_or_insert(Closed::Reset);
            }
        }
    }

    /// Nothing goes between two addresses of network 0 any more, and connections break.
    pub(super) fn cut(&mut self, one: u8, other: u8) {
        self.cut_in(0, one, other);
    }

    pub(super) fn cut_in(&mut self, network: u32, one: u8, other: u8) {
        let pair = [address(one), address(other)];
        self.cut.extend([(network, pair[0], pair[1]), (network, pair[1], pair[0])]);
        let is = |pipe: &Pipe| pipe.addresses == pair || pipe.addresses == [pair[1], pair[0]];
        self.break_pipes(|pipe| pipe.network == network && is(pipe));
    }

    pub(super) fn mend(&mut self, one: u8, other: u8) {
        self.mend_in(0, one, other);
    }

    pub(super) fn mend_in(&mut self, network: u32, one: u8, other: u8) {
        let pair = [address(one), address(other)];
        self.cut.retain(|(of, a, b)| *of != network || !(pair.contains(a) && pair.contains(b)));
    }

    /// Bytes that the other end of the peer's connection never sent.
    pub(super) fn inject(&mut self, host: usize, peer: PeerIndex, bytes: &[u8]) {
        let ends = self.pipes.iter_mut().flat_map(|pipe| &mut pipe.ends);
        let mut ends = ends.filter(|end| end.is_open && (end.host, end.peer) == (host, peer));
        ends.next().into_iter().for_each(|end| end.input.extend(bytes));
    }

    /// The bytes that wait to be read by the host from the peer.
    pub(super) fn waiting(&self, host: usize, peer: PeerIndex) -> usize {
        let ends = self.pipes.iter().flat_map(|pipe| &pipe.ends);
        ends.filter(|end| (end.host, end.peer) == (host, peer)).map(|end| end.input.len()).sum()
    }

    /// Runs until nothing happens for `time` but what was due within it.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        for _ in 0..ROUNDS_MAX {
            self.settle();
            let due = self.hosts.iter().filter_map(|host| host.speaker.poll_timeout()).min();
            match due.filter(|due| *due <= end) {
                Some(due) => self.now = self.now.max(due),
                None => {
                    self.now = end;
                    return;
                }
            }
        }
        panic!("the speakers do not come to rest");
    }

    /// Serves everything that is to be done now.
    pub(super) fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let mut busy = false;
            for host in 0..self.hosts.len() {
                busy |= self.serve(host);
            }
            busy |= self.carry();
            if !busy {
                return;
            }
        }
        panic!("the speakers do not settle");
    }

    /// One round of a speaker, in the order that it asks for.
    fn serve(&mut self, host: usize) -> bool {
        let now = self.now;
        let of = &mut self.hosts[host];
        let mut busy = false;
        if of.speaker.poll_timeout().is_some_and(|due| due <= now) {
            of.speaker.handle_timeout(now);
            busy = true;
        }
        for _ in 0..ROUNDS_MAX {
            of.turns += 1;
            if of.speaker.turn(now) == Turn::Idle {
                break;
            }
        }
        busy |= self.transmit(host);
        while let Some(event) = self.hosts[host].speaker.poll_event() {
            self.hosts[host].events.push((now, event.clone()));
            self.follow(host, event);
            busy = true;
        }
        busy
    }

    fn end_of(
        &mut self,
        host: usize,
        peer: PeerIndex,
        connection: Connection,
    ) -> Option<(usize, usize)> {
        let is = |end: &End| {
            end.is_open && (end.host, end.peer, end.connection) == (host, peer, connection)
        };
        let pipes = self.pipes.iter().enumerate();
        let mut ends =
            pipes.flat_map(|(pipe, of)| [0, 1].map(|end| (pipe, end, is(&of.ends[end]))));
        ends.find(|(_, _, found)| *found).map(|(pipe, end, _)| (pipe, end))
    }

    fn transmit(&mut self, host: usize) -> bool {
        let mut busy = false;
        let now = self.now;
        while let Some((peer, connection, bytes)) = self.hosts[host].speaker.poll_transmit() {
            let bytes = bytes.to_vec();
            let end = self.end_of(host, peer, connection);
            let taken = end.map_or(bytes.len(), |(pipe, end)| {
                let other = &mut self.pipes[pipe].ends[1 - end];
                let taken = bytes.len().min(PIPE.saturating_sub(other.input.len()));
                other.input.extend(&bytes[..taken]);
                taken
            });
            let of = &mut self.hosts[host];
            if taken > 0 {
                of.sent.entry(peer).or_default().push((now, bytes[..taken].to_vec()));
            }
            of.speaker.handle_transmitted(now, peer, connection, taken);
            busy |= taken > 0;
        }
        busy
    }

    fn follow(&mut self, host: usize, event: Event) {
        match event {
            Event::Connect(peer, connection, key, port) => {
                self.connect(host, peer, connection, key.remote, port);
            }
            Event::Close(peer, connection, closing) => {
                if let Some((pipe, end)) = self.end_of(host, peer, connection) {
                    let ends = &mut self.pipes[pipe].ends;
                    ends[end].is_open = false;
                    let told = match closing {
                        Closing::Finish => Closed::Finished,
                        Closing::Abort => Closed::Reset,
                    };
                    ends[1 - end].closing.get_or_insert(told);
                }
            }
            Event::NextHop(place, NextHopChange::Wanted(address)) => {
                let of = &mut self.hosts[host];
                assert!(of.wanted.insert((place, address)));
                let known = if of.unreachable.contains(&address) {
                    Resolution::Unreachable
                } else {
                    Resolution::Reachable { metric: 0, connected: true }
                };
                of.speaker.handle_next_hop(place, address, known);
            }
            Event::NextHop(place, NextHopChange::Unwanted(address)) => {
                assert!(self.hosts[host].wanted.remove(&(place, address)));
            }
            Event::RoutesChanged(place) => {
                let of = &mut self.hosts[host];
                while let Some(change) = of.speaker.poll_change(place) {
                    match change.now {
                        Reach::Gone => drop(of.fib.remove(&(place, change.prefix))),
                        now @ (Reach::Local | Reach::Discard | Reach::Via(_)) => {
                            of.fib.insert((place, change.prefix), now);
                        }
                    }
                }
            }
            Event::Forgotten(peer) => assert!(self.hosts[host].speaker.peer(peer).is_none()),
            Event::Up(..)
            | Event::Down(..)
            | Event::PrefixWarning(..)
            | Event::Bfd(..)
            | Event::Malformed(..)
            | Event::Restarted(_) => {}
        }
    }

    fn connect(
        &mut self,
        host: usize,
        peer: PeerIndex,
        connection: Connection,
        remote: IpAddr,
        port: u16,
    ) {
        let now = self.now;
        let Some((network, local)) = self.hosts[host].attached.get(&peer.place).copied() else {
            return self.hosts[host].speaker.handle_closed(now, peer, connection, Closed::Refused);
        };
        let port_here = self.next_ports.entry(network).or_insert(50_000);
        *port_here = port_here.checked_add(1).unwrap_or(50_000);
        let endpoints = Endpoints {
            local: SocketAddr::new(local, *port_here),
            remote: SocketAddr::new(remote, port),
        };
        let theirs = Endpoints { local: endpoints.remote, remote: endpoints.local };
        let found = self.hosts.iter().enumerate().find_map(|(other, of)| {
            let at = of.attached.iter().find(|(_, at)| **at == (network, remote));
            at.map(|(place, _)| (other, *place))
        });
        let found = found.filter(|_| !self.cut.contains(&(network, local, remote)));
        let accepted = found.and_then(|(other, place)| {
            let accepted = self.hosts[other].speaker.handle_incoming(now, place, theirs).ok()?;
            Some((other, accepted))
        });
        let of = &mut self.hosts[host];
        let Some((other, (their_peer, their_connection))) = accepted else {
            return of.speaker.handle_closed(now, peer, connection, Closed::Refused);
        };
        of.speaker.handle_connected(now, peer, connection, endpoints);
        let end = |host, peer, connection| End {
            host,
            peer,
            connection,
            input: VecDeque::new(),
            closing: None,
            is_open: true,
        };
        let ends = [end(host, peer, connection), end(other, their_peer, their_connection)];
        self.pipes.push(Pipe { ends, network, addresses: [local, remote] });
    }

    /// Carries bytes and ends over all pipes.
    fn carry(&mut self) -> bool {
        let mut busy = false;
        for pipe in 0..self.pipes.len() {
            for end in 0..2 {
                busy |= self.deliver(pipe, end);
            }
        }
        self.pipes.retain(|pipe| pipe.ends.iter().any(|end| end.is_open));
        busy
    }

    fn deliver(&mut self, pipe: usize, end: usize) -> bool {
        let now = self.now;
        let ends = &mut self.pipes[pipe].ends;
        let of = &mut ends[end];
        let host = &mut self.hosts[of.host];
        if !of.is_open {
            return !std::mem::take(&mut of.input).is_empty();
        }
        if !host.reads && of.closing.is_none() {
            return false;
        }
        let bytes = of.input.make_contiguous();
        let taken = host.speaker.handle_bytes(now, of.peer, of.connection, bytes);
        of.input.drain(..taken);
        if of.input.is_empty()
            && let Some(closed) = of.closing
        {
            of.is_open = false;
            host.speaker.handle_closed(now, of.peer, of.connection, closed);
            return true;
        }
        if taken > 0 {
            let other = &ends[1 - end];
            let (peer, connection) = (other.peer, other.connection);
            self.hosts[other.host].speaker.handle_writable(peer, connection);
        }
        taken > 0
    }

    /// Whether each peer of the host has an established session.
    pub(super) fn is_up(&self, host: usize) -> bool {
        let speaker = &self.hosts[host].speaker;
        let places = self.hosts[host].attached.keys();
        places.into_iter().all(|place| {
            let status = speaker.place(*place).unwrap();
            status.established == status.peers
        })
    }

    /// The only peer of the host.
    pub(super) fn peer(&self, host: usize) -> PeerIndex {
        let [peer] = self.hosts[host].speaker.peers(PLACE)[..] else { panic!("one peer") };
        peer
    }

    pub(super) fn host(&mut self, host: usize) -> &mut Host {
        &mut self.hosts[host]
    }
}

impl World {
    /// The sessions that began and ended so far at a host.
    pub(super) fn flaps(&self, host: usize) -> (usize, usize) {
        let events = || self.hosts[host].events.iter();
        let ups = events().filter(|(_, event)| matches!(event, Event::Up(..))).count();
        let downs = events().filter(|(_, event)| matches!(event, Event::Down(..))).count();
        (ups, downs)
    }

    pub(super) fn originate(&mut self, host: usize, text: &str) {
        self.originate_with(host, text, own());
    }

    pub(super) fn originate_with(&mut self, host: usize, text: &str, attributes: Attributes) {
        let now = self.now;
        let speaker = &mut self.hosts[host].speaker;
        speaker.originate(now, PLACE, prefix(text), OwnRoute::Local, attributes).unwrap();
    }

    pub(super) fn retract(&mut self, host: usize, text: &str) {
        let now = self.now;
        let speaker = &mut self.hosts[host].speaker;
        assert!(speaker.retract(now, PLACE, prefix(text), OwnRoute::Local));
    }

    pub(super) fn status(&self, host: usize, peer: usize) -> PeerStatus {
        let speaker = &self.hosts[host].speaker;
        speaker.peer(speaker.peers(PLACE)[peer]).unwrap()
    }

    pub(super) fn reconfigure(
        &mut self,
        host: usize,
        config: SpeakerConfig,
    ) -> Vec<NeighborChange> {
        let now = self.now;
        self.hosts[host].speaker.reconfigure(now, config)
    }
}

impl Host {
    /// The prefixes that the place forwards by.
    pub(super) fn prefixes(&self) -> Vec<String> {
        self.fib.keys().map(|(_, prefix)| prefix.to_string()).collect()
    }

    /// The next hops of a prefix.
    pub(super) fn via(&self, prefix: Prefix) -> Vec<IpAddr> {
        match self.fib.get(&(PLACE, prefix)) {
            Some(Reach::Via(hops)) => hops.iter().map(|hop| hop.next_hop).collect(),
            Some(Reach::Local | Reach::Discard | Reach::Gone) | None => Vec::new(),
        }
    }

    /// The path of the best route to a prefix.
    pub(super) fn path(&self, prefix: Prefix) -> Option<String> {
        let status = self.speaker.explain(PLACE, prefix);
        let best = status.routes.into_iter().find(|one| one.route.used)?;
        Some(best.route.imported?.as_path.to_string())
    }
}
