//! What a table costs: a million IPv4 routes in from one peer and out to another, withdrawn, and in
//! again; with six prefixes a set of attributes, and with a set for each. Each case runs in a process
//! of its own, so that its resident memory is its own.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock and its own memory")]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::time::Instant as Clock;

use nvgate_bgp::decision::Options;
use nvgate_bgp::policy::RuleId;
use nvgate_bgp::rib::{
    ExportVerdict, Exported, GroupFacts, GroupIndex, ImportVerdict, Imported, PathsOut, PeerFacts,
    PeerKind, PeerSlot, Policies, Progress, Resolution, RouteSource, SawPrefix, Table, TableConfig,
    TableLimits, Taken, UpdateSink,
};
use nvgate_bgp::{AsPath, Attributes, Community, Family, Nlri, Origin};
use nvgate_model::{Asn, Instant, Prefix};

const ROUTES: usize = 1_000_000;
/// Routes between turns of the decision: as many as a speaker's turn has.
const TURN: usize = 1024;
const ROUNDS: usize = 3;
const OURS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 250);
const NOW: Instant = Instant(0);

/// Lets everything in, and sends it as an eBGP speaker does.
struct Ebgp;

impl Policies for Ebgp {
    fn import(&self, _: PeerSlot, _: Prefix, _: &Attributes) -> Imported {
        Imported {
            verdict: ImportVerdict::Unchanged,
            rule: RuleId::DEFAULT,
            weight: 0,
            discard: false,
            saw_prefix: SawPrefix::No,
        }
    }

    fn export(&self, _: GroupIndex, _: RouteSource<'_>, _: Prefix, held: &Attributes) -> Exported {
        let mut sent = held.clone();
        sent.as_path = held.as_path.prepended(Asn(64_496), 1);
        sent.next_hop = OURS.into();
        sent.med = None;
        sent.local_preference = None;
        Exported { verdict: ExportVerdict::Changed(sent), saw_prefix: SawPrefix::No }
    }
}

/// A buffer that is sent when it is full; its bytes are about those of UPDATEs.
#[derive(Default)]
struct Wire {
    buffer: Vec<u8>,
    routes: usize,
}

impl Wire {
    fn nlri(&mut self, routes: &[Nlri]) {
        self.routes += routes.len();
        for nlri in routes {
            let IpAddr::V4(network) = nlri.prefix.network() else { continue };
            self.buffer.push(nlri.prefix.length());
            let octets = usize::from(nlri.prefix.length().div_ceil(8));
            self.buffer.extend_from_slice(&network.octets()[..octets]);
        }
        if self.buffer.len() > 64 << 10 {
            black_box(&self.buffer);
            self.buffer.clear();
        }
    }
}

impl UpdateSink for Wire {
    fn announce(&mut self, attributes: &Attributes, routes: &[Nlri]) -> Taken {
        self.buffer.extend_from_slice(&[0xff; 30]);
        self.buffer.extend_from_slice(attributes.as_path.as_wire());
        for community in attributes.communities.as_slice() {
            self.buffer.extend_from_slice(&community.0.to_be_bytes());
        }
        self.nlri(routes);
        Taken::Routes(routes.len())
    }

    fn withdraw(&mut self, _: Family, routes: &[Nlri]) -> usize {
        self.nlri(routes);
        routes.len()
    }

    fn end_of_rib(&mut self, _: Family) -> bool {
        true
    }
}

struct Setup {
    table: Table,
    from: PeerSlot,
    to: PeerSlot,
    group: GroupIndex,
    wire: Wire,
}

fn peer(number: u8) -> PeerFacts {
    PeerFacts {
        kind: PeerKind::External,
        router_id: Ipv4Addr::new(192, 0, 2, number),
        address: Ipv4Addr::new(192, 0, 2, number).into(),
        local: OURS.into(),
        route_limits: [u32::MAX; 2],
    }
}

impl Setup {
    fn new() -> Self {
        let limits = TableLimits { prefixes: 2_000_000, attribute_bytes: usize::MAX };
        let options = Options::default();
        let config = TableConfig { limits, router_id: OURS, cluster_id: OURS, options };
        let mut table = Table::new(config, 1);
        let from = table.add_peer(peer(1)).expect("the first peer");
        let to = table.add_peer(peer(2)).expect("the second peer");
        let facts = GroupFacts {
            family: Family::Ipv4Unicast,
            kind: PeerKind::External,
            paths: PathsOut::Best,
        };
        let group = table.open_group(facts).expect("the first group");
        while table.sweep(&Ebgp) {}
        table.join(group, to);
        let mut setup = Self { table, from, to, group, wire: Wire::default() };
        setup.turn();
        setup
    }

    /// One turn of a speaker: next hops, decisions, changes, updates.
    fn turn(&mut self) {
        while let Some(change) = self.table.poll_next_hop() {
            black_box(&change);
            let reachable = Resolution::Reachable { metric: 0, connected: true };
            self.table.handle_next_hop(peer(1).address, reachable);
        }
        while self.table.sweep(&Ebgp) {}
        while self.table.decide(TURN, &Ebgp) {}
        while let Some(change) = self.table.poll_change() {
            black_box(&change);
        }
        while self.table.drain(self.group, self.to, &mut self.wire).progress != Progress::Idle {}
    }

    fn announce(&mut self, updates: &[Attributes], a_set: usize) {
        let mut waiting = 0;
        for (number, attributes) in updates.iter().enumerate() {
            let routes = (number * a_set..((number + 1) * a_set).min(ROUTES)).map(nlri);
            self.table.announce(self.from, attributes, routes, NOW, &Ebgp);
            waiting += a_set;
            if waiting >= TURN {
                waiting = 0;
                self.turn();
            }
        }
        self.turn();
    }

    fn withdraw(&mut self) {
        for number in 0..ROUTES {
            self.table.withdraw(self.from, nlri(number));
            if number % TURN == 0 {
                self.turn();
            }
        }
        self.turn();
    }

    fn lose_peer(&mut self) {
        self.table.remove_peer(self.from);
        loop {
            let sweeping = self.table.sweep(&Ebgp);
            self.table.decide(usize::MAX, &Ebgp);
            while self.table.poll_change().is_some() {}
            while self.table.drain(self.group, self.to, &mut self.wire).progress != Progress::Idle {
            }
            if !sweeping {
                break;
            }
        }
        self.from = self.table.add_peer(peer(1)).expect("a slot is free");
    }
}

/// Distinct prefixes of 24 bits in no order.
fn nlri(number: usize) -> Nlri {
    let network = Ipv4Addr::from_bits((number as u32).wrapping_mul(2_654_435_761) << 8);
    Prefix::containing(network.into(), 24).expect("24 bits are a length").into()
}

/// The attributes of an UPDATE: paths of four hops, four communities.
fn attributes(number: usize) -> Attributes {
    let number = number as u32;
    let mut attributes = Attributes::originated(peer(1).address, Origin::Igp);
    let hop = |shift: u32| Asn(100_000 + (number >> shift & 0xfff));
    attributes.as_path = AsPath::sequence(&[Asn(64_500), hop(12), hop(4), hop(0)]);
    let tag = |offset: u32| Community(64_500 << 16 | (number >> (4 * offset) & 0xffff));
    attributes.communities = (0..4).map(tag).collect();
    attributes
}

fn resident_bytes() -> usize {
    let text = std::fs::read("/proc/self/statm").unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let pages: usize = text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * 4096
}

/// The time that this process ran on a processor so far, which other processes do not lengthen.
fn processor_seconds() -> f64 {
    let text = std::fs::read("/proc/self/schedstat").unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let nanoseconds = text.split(' ').next().and_then(|text| text.parse::<f64>().ok());
    nanoseconds.unwrap_or(0.0) / 1e9
}

fn timed(what: &str, run: impl FnOnce()) {
    let (start, before) = (Clock::now(), processor_seconds());
    run();
    let (wall, busy) = (start.elapsed().as_secs_f64(), processor_seconds() - before);
    let rate = ROUTES as f64 / busy / 1e6;
    println!(
        "  {what:<20} {rate:>6.2} million routes/s: {busy:.3} s of a core, {wall:.3} s in all"
    );
}

fn case(a_set: usize) {
    println!("{ROUTES} routes, {a_set} a set of attributes");
    let updates: Vec<Attributes> = (0..ROUTES.div_ceil(a_set)).map(attributes).collect();
    let before = resident_bytes();
    let mut setup = Setup::new();
    for round in 0..ROUNDS {
        timed("in to out", || setup.announce(&updates, a_set));
        assert_eq!(setup.table.prefix_count(), ROUTES);
        if round == 0 {
            let a_route = |bytes: usize| bytes as f64 / ROUTES as f64;
            let (counted, resident) = (setup.table.footprint(), resident_bytes() - before);
            let sets = setup.table.attribute_sets();
            println!("  {:.0} bytes a route counted", a_route(counted));
            println!("  {:.0} bytes a route resident, {sets} sets", a_route(resident));
        }
        timed("announced unchanged", || setup.announce(&updates, a_set));
        if round + 1 == ROUNDS {
            timed("peer lost", || setup.lose_peer());
        } else {
            timed("withdrawn", || setup.withdraw());
        }
        assert_eq!((setup.table.prefix_count(), setup.table.attribute_sets()), (0, 0));
    }
    let told = 2 * ROUNDS * ROUTES;
    assert_eq!(setup.wire.routes, told, "every route is told and withdrawn once a round");
}

fn main() {
    let argument = |name: &str| std::env::args().skip_while(|text| text != name).nth(1);
    if let Some(a_set) = argument("--a-set").and_then(|text| text.parse().ok()) {
        case(a_set);
        return;
    }
    let program = std::env::current_exe().expect("a running program has a path");
    for a_set in ["6", "1"] {
        let status = Command::new(&program).args(["--a-set", a_set]).status();
        assert!(status.is_ok_and(|status| status.success()), "the case failed");
    }
}
