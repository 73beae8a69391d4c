//! Any bytes as BFD packets to a session that is Up: what is no packet changes nothing but counters,
//! what is one is sent again as the same, and whoever is named survives it.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use nvgate_bfd::{
    Arrival, ControlPacket, Hops, Path, SessionConfig, SessionKey, SessionStatus, Sessions, State,
};
use nvgate_model::Instant;

use super::{Input, block};

/// Packets and pauses of one input.
const STEPS: usize = 64;
/// Packets in a row without the time moving.
const BURST: usize = 16;

const fn address(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, last))
}

/// A table with a session of place 0 and one of place 1 between the same addresses, and the other
/// end of the first.
struct Watched {
    now: Instant,
    here: Sessions<u8>,
    there: Sessions<u8>,
}

const HERE: SessionKey<u8> = SessionKey { place: 0, local: address(1), peer: address(2) };
const THERE: SessionKey<u8> = SessionKey { place: 0, local: address(2), peer: address(1) };
const OTHER: SessionKey<u8> = SessionKey { place: 1, ..HERE };

const fn arrival(key: SessionKey<u8>) -> Arrival<u8> {
    Arrival { key, hops: Hops::Single, ttl: 255 }
}

impl Watched {
    fn new() -> Self {
        let now = Instant::default() + Duration::from_secs(10);
        let mut watched = Self { now, here: Sessions::new(4, 1), there: Sessions::new(4, 2) };
        let config = SessionConfig::new(Path::SingleHop);
        let Self { here, there, .. } = &mut watched;
        for opened in [
            here.open(now, HERE, config),
            here.open(now, OTHER, config),
            there.open(now, THERE, config),
        ] {
            opened.expect("a table with room");
        }
        watched.pass(Duration::from_secs(5));
        assert_eq!(watched.status(HERE).state, State::Up);
        watched
    }

    fn status(&self, key: SessionKey<u8>) -> SessionStatus {
        self.here.status(&key).expect("nobody closed it")
    }

    /// Lets time pass while both ends talk, punctually.
    fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            self.exchange();
            let due = [self.here.poll_timeout(), self.there.poll_timeout()].into_iter().flatten();
            let Some(due) = due.min().filter(|due| *due <= end) else { break };
            assert!(due > self.now, "what was due is due again");
            self.now = due;
        }
        self.now = end;
    }

    fn exchange(&mut self) {
        let now = self.now;
        self.here.handle_timeout(now);
        self.there.handle_timeout(now);
        for _ in 0..BURST {
            let mut quiet = true;
            while let Some(sent) = self.here.poll_transmit(now) {
                quiet = false;
                if sent.key == HERE {
                    let _ = self.there.handle_packet(now, &arrival(THERE), &sent.payload);
                }
            }
            while let Some(sent) = self.there.poll_transmit(now) {
                quiet = false;
                let _ = self.here.handle_packet(now, &arrival(HERE), &sent.payload);
            }
            while self.here.poll_event().is_some() || self.there.poll_event().is_some() {}
            if quiet {
                return;
            }
        }
        panic!("packets of one moment without end");
    }

    /// A payload arrives that nobody of ours sent; with a byte that says how.
    fn receive(&mut self, how: u8, payload: &mut [u8]) {
        let key = if how & 1 == 0 { HERE } else { OTHER };
        let mine = self.status(key).local_discriminator;
        if how & 2 != 0
            && let Some(yours) = payload.get_mut(8..12)
        {
            yours.copy_from_slice(&mine.get().to_be_bytes());
        }
        let hops = if how & 4 == 0 { Hops::Single } else { Hops::Multiple };
        let arrival = Arrival { key, hops, ttl: if how & 8 == 0 { 255 } else { 254 } };
        let before = [HERE, OTHER].map(|key| essence(self.status(key)));
        let taken = self.here.handle_packet(self.now, &arrival, payload);
        let after = [HERE, OTHER].map(|key| essence(self.status(key)));
        let other = usize::from(key == HERE);
        assert_eq!(before[other], after[other], "a packet of another place changed something");
        match ControlPacket::decode(payload) {
            Ok(packet) => {
                let sent = ControlPacket { authentication: None, ..packet };
                assert_eq!(ControlPacket::decode(&sent.encode()), Ok(sent));
                let named = packet.your_discriminator;
                let admitted = how & 12 == 0 && named.is_none_or(|yours| yours == mine);
                assert!(taken.is_err() || admitted, "{packet:?}");
            }
            Err(reason) => assert_eq!(taken, Err(reason)),
        }
        if taken.is_err() {
            assert_eq!(before, after, "a packet that was discarded changed something");
        }
    }
}

/// A status without its counters.
fn essence(status: SessionStatus) -> SessionStatus {
    SessionStatus { counters: nvgate_bfd::SessionCounters::default(), ..status }
}

/// A sequence of packets and pauses; then the neighbour is heard again, alone.
///
/// # Panics
///
/// A claim does not hold.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let mut watched = Watched::new();
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        match input.byte() {
            how @ 0..128 => watched.receive(how, &mut input.block().to_vec()),
            pause => watched.pass(Duration::from_millis(u64::from(pause & 127) * 10)),
        }
    }
    // Whatever a stranger asked for in the neighbour's name, the neighbour's own packets go on.
    watched.pass(Duration::from_secs(20));
    assert_eq!(watched.status(HERE).state, State::Up);
    assert_eq!((watched.here.len(), watched.there.len()), (2, 1));
}

/// Packets of a neighbour in each state, with and without what is not spoken.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let packet = |state: u8, flags: u8| {
        let head = [0x20, state << 6 | flags, 3, 24];
        [&head[..], &[0, 0, 0, 7], &[0; 4], &[0, 1, 0x86, 0xa0], &[0, 1, 0x86, 0xa0], &[0; 4]]
            .concat()
    };
    let arrives = |how: u8, bytes: &[u8]| [&[how][..], &block(bytes)].concat();
    let authenticated = [&[0x20, 0xc4, 3, 26][..], &packet(3, 0)[4..], &[1, 2]].concat();
    vec![
        [arrives(2, &packet(3, 0)), vec![138], arrives(2, &packet(3, 0x20))].concat(),
        [arrives(2, &packet(0, 0)), arrives(2, &packet(1, 0)), vec![255]].concat(),
        [arrives(0, &packet(1, 0)), arrives(3, &packet(2, 0x10)), arrives(3, &packet(3, 0))]
            .concat(),
        [arrives(2, &packet(3, 2)), vec![200], arrives(2, &packet(3, 0x22))].concat(),
        [arrives(2, &authenticated), arrives(6, &packet(3, 0)), arrives(10, &packet(3, 0))]
            .concat(),
    ]
}
