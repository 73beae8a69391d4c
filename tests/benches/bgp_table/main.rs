//! What a full table costs a BGP speaker: IPv4 routes in from one peer and out to another through
//! nvgate, BIRD 2, FRR, GoBGP and OpenBGPD; then all of them withdrawn; then announced again.
//!
//! ```text
//! feeds, core 0: AS 100001 ---+
//!                             +--- contender, last core: AS 100000, alone in its namespace
//! reads, core 0: AS 100002 ---+
//! ```
//!
//! Both peers are this program, over the kernel's TCP: what they send was made before, and the reader
//! parses what it is told and counts prefixes. Rounds are interleaved. Measured are the seconds from the
//! first byte until the reader was told everything, the CPU time of the contender's processes (user
//! and system) until they are idle, and their resident memory, then and at most. No contender puts
//! routes into a kernel; nvgate is the whole gateway, which takes them into the table that its
//! workers forward by, too. Needs root; arguments: rounds (default 3), routes (1,000,000), routes that
//! share a set of attributes on average (6), and the names of contenders, all unless there are any.

mod feed;
mod rivals;

use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nvgate::demo::lab::{LinkSetup, Namespace, SuperPackets};
use nvgate_tests::skip::has_peers;

use feed::{Feed, Peer};
use rivals::{Contender, End, FABRIC, PROVIDER, Process};

const OWN: End = (Ipv4Addr::new(10, 9, 0, 100), 100_000);
const FEEDS: End = (Ipv4Addr::new(10, 9, 0, 1), 100_001);
const READS: End = (Ipv4Addr::new(10, 9, 0, 2), 100_002);
/// The longest that a phase may take.
const PHASE: Duration = Duration::from_secs(180);
/// A contender that used less than this of its core for that long is idle.
const IDLE_SECONDS: f64 = 0.03;
const IDLE: Duration = Duration::from_millis(500);
const PHASES: [&str; 3] = ["announced", "withdrawn", "announced again"];

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let programs = ["ip", "taskset", "bird", "vtysh", "gobgpd", "bgpctl"];
    if !has_peers("bgp_table", &programs) {
        return Ok(());
    }
    let mut numbers = words.iter().filter_map(|word| word.parse::<usize>().ok());
    let (rounds, routes) = (numbers.next().unwrap_or(3), numbers.next().unwrap_or(1_000_000));
    let a_set = numbers.next().unwrap_or(6);
    let named = |one: &Contender| {
        words.iter().any(|word| one.name().to_lowercase().starts_with(&word.to_lowercase()))
    };
    let mut contenders: Vec<Contender> = Contender::ALL.into_iter().filter(named).collect();
    if contenders.is_empty() {
        contenders = Contender::ALL.to_vec();
    }
    let bench = Bench::build()?;
    let feeds: Vec<Feed> = contenders
        .iter()
        .map(|one| Feed::new(routes / one.divisor(), a_set, FEEDS))
        .collect::<Result<_>>()?;
    println!("{}", machine()?);
    let mut all = vec![Vec::new(); contenders.len()];
    for round in 1..=rounds {
        for (contender, (feed, measured)) in contenders.iter().zip(feeds.iter().zip(&mut all)) {
            let phases = bench.measure(*contender, feed)?;
            println!("round {round}, {}: {}", contender.name(), line(&phases));
            measured.push(phases);
        }
    }
    report(&contenders, &feeds, &all, rounds);
    Ok(())
}

/// One phase of one contender.
#[derive(Clone, Copy, Debug)]
struct Measured {
    seconds: f64,
    cpu: f64,
    resident: f64,
    most: f64,
}

fn line(phases: &[Measured; 3]) -> String {
    let phase = |one: &Measured| format!("{:.2} s, CPU {:.2} s", one.seconds, one.cpu);
    let text: Vec<String> =
        PHASES.iter().zip(phases).map(|(name, one)| format!("{name} {}", phase(one))).collect();
    format!("{}; {:.0} MiB at most", text.join("; "), phases[2].most)
}

fn report(contenders: &[Contender], feeds: &[Feed], all: &[Vec<[Measured; 3]>], rounds: usize) {
    for (phase, name) in PHASES.iter().enumerate() {
        println!("\nall routes {name}; medians (and spread) of {rounds} rounds");
        println!(
            "| {:<16} | {:>9} | {:>8} | {:<18} | {:<18} | {:>9} | {:>9} |",
            "", "routes", "sets", "seconds", "CPU seconds", "MiB", "most MiB"
        );
        println!(
            "|{:-<18}|{:-<11}|{:-<10}|{:-<20}|{:-<20}|{:-<11}|{:-<11}|",
            "", "", "", "", "", "", ""
        );
        for ((contender, feed), rounds) in contenders.iter().zip(feeds).zip(all) {
            let spread = |field: fn(&Measured) -> f64| {
                let mut values: Vec<f64> = rounds.iter().map(|one| field(&one[phase])).collect();
                values.sort_by(f64::total_cmp);
                [values[0], values[values.len() / 2], values[values.len() - 1]]
            };
            let text =
                |[least, median, most]: [f64; 3]| format!("{median:.2} ({least:.2}-{most:.2})");
            println!(
                "| {:<16} | {:>9} | {:>8} | {:<18} | {:<18} | {:>9.0} | {:>9.0} |",
                contender.name(),
                feed.prefixes,
                feed.sets,
                text(spread(|one| one.seconds)),
                text(spread(|one| one.cpu)),
                spread(|one| one.resident)[1],
                spread(|one| one.most)[1],
            );
        }
    }
}

struct Bench {
    peers: Namespace,
    contender: Namespace,
    core: usize,
    directory: tempfile::TempDir,
}

impl Bench {
    fn build() -> Result<Self> {
        // Asked before the bench pins itself: afterwards it is one.
        let cores = std::thread::available_parallelism()?.get();
        ensure!(cores > 1, "one core cannot be shared by the process under test and all else");
        let own = std::process::id().to_string();
        let pinned = Command::new("taskset").args(["-a", "-c", "-p", "0", &own]).output()?;
        ensure!(pinned.status.success(), "taskset: {}", pinned.status);
        let (peers, contender) = (Namespace::new("peers")?, Namespace::new("contender")?);
        peers.add_veth("eth0", &contender, "eth0")?;
        peers.add_veth(FABRIC, &contender, FABRIC)?;
        for (namespace, name, addresses) in [
            (&peers, "eth0", &[FEEDS.0, READS.0][..]),
            (&contender, "eth0", &[OWN.0]),
            (&peers, FABRIC, &[]),
            (&contender, FABRIC, &[PROVIDER]),
        ] {
            let addresses: Vec<_> = addresses.iter().map(|&address| (address.into(), 24)).collect();
            namespace.set_up(&LinkSetup {
                name,
                mac: None,
                mtu: 1500,
                addresses: &addresses,
                super_packets: SuperPackets::Allowed,
            })?;
        }
        let directory = tempfile::TempDir::with_prefix("nvgate-bench-")?;
        Ok(Self { peers, contender, core: cores - 1, directory })
    }

    fn measure(&self, contender: Contender, feed: &Feed) -> Result<[Measured; 3]> {
        let directory = self.directory.path().join(format!("{contender:?}"));
        fs::create_dir_all(&directory)?;
        let ends = (OWN, [FEEDS, READS]);
        let process = Process::start(contender, &self.contender, self.core, &directory, ends)?;
        let run = || -> Result<[Measured; 3]> {
            let mut feeds = Peer::open(&self.peers, FEEDS, OWN.0)?;
            let reads = Peer::open(&self.peers, READS, OWN.0)?;
            let drained = feeds.drain()?;
            let counting = reads.count(feed.prefixes)?;
            reads.keep_alive()?;
            idle(&process)?;
            let mut phase = |bytes: &[u8], expected| {
                let (before, began) = (process.cpu_seconds()?, Instant::now());
                feeds.send(bytes)?;
                counting.reaches(expected, PHASE)?;
                let seconds = began.elapsed().as_secs_f64();
                idle(&process)?;
                let cpu = process.cpu_seconds()? - before;
                let [resident, most] = process.memory()?;
                Ok::<_, anyhow::Error>(Measured { seconds, cpu, resident, most })
            };
            let phases = [
                phase(&feed.announce, feed.prefixes)?,
                phase(&feed.withdraw, 0)?,
                phase(&feed.announce, feed.prefixes)?,
            ];
            drop((feeds, reads));
            // Its socket is closed.
            let _ = drained.join();
            Ok(phases)
        };
        let log = || fs::read_to_string(directory.join("log")).unwrap_or_default();
        run().with_context(|| format!("{}: {}", contender.name(), log()))
    }
}

/// Waits until the contender does nothing.
fn idle(process: &Process) -> Result<()> {
    let began = Instant::now();
    let mut before = process.cpu_seconds()?;
    while began.elapsed() < PHASE {
        std::thread::sleep(IDLE);
        let now = process.cpu_seconds()?;
        if now - before < IDLE_SECONDS {
            return Ok(());
        }
        before = now;
    }
    anyhow::bail!("not idle after {PHASE:?}")
}

/// The processor and the kernel.
fn machine() -> Result<String> {
    let processors = fs::read_to_string("/proc/cpuinfo")?;
    let model = processors.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("unknown processor", |line| line.trim_start_matches([' ', '\t', ':']));
    let count = processors.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(format!("{count} cores of {model}, Linux {}", kernel.trim()))
}
