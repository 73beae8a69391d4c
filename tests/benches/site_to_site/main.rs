//! What a site-to-site tunnel costs: nvgate with NVGRE in front of it, and wireguard-go and
//! boringtun-cli in its place with plain routing. The far side is wireguard-go in all three.
//!
//! ```text
//! VM -- NVGRE host == nvgate ------------+
//!                                        +-- far: wireguard-go, iperf3
//! VM -- wireguard-go or boringtun-cli ---+
//! ```
//!
//! Rounds are interleaved. The gateway's machine is the last core: the process under test runs
//! there, and what arrives on a link of its namespace is received there (RPS), as by interrupts of a
//! network card of its own. Everything else, and what it receives, has the first core. Measured
//! are the CPU time of the process (/proc/PID/stat: user and system) and the time in which that
//! core was not idle, which contains the kernel's work for it: receiving, and routing for the
//! rivals. Needs root; arguments: rounds (default 5), seconds of each measurement (3) and TCP
//! streams (4).

mod host;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nvgate::demo::gateway_process::GatewayProcess;
use nvgate::demo::lab::probe::ping;
use nvgate::demo::lab::{LinkSetup, Namespace, SuperPackets};
use nvgate_model::{MacAddress, Prefix, ProviderAddress, Vsid};
use nvgate_nvgre::encap::OuterTemplate;
use nvgate_tests::run_lab::binary;
use nvgate_tests::skip::has_peers;
use nvgate_tests::wg_lab::{Peer, PeerPlan, Program, exec, peer_key};

use host::FastHost;

const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9470);
const PUBLIC: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
const VM_MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 10]);
/// The inner MAC address of a gateway whose configuration names none.
const GATEWAY_MAC: MacAddress = MacAddress([0x02, 0x6e, 0x76, 0x67, 0x00, 0x01]);
/// The outer addresses of the host's and the gateway's ends of the fabric.
const FABRIC_MACS: [MacAddress; 2] =
    [MacAddress([2, 0, 0, 0, 1, 11]), MacAddress([2, 0, 0, 0, 1, 1])];
const VSID: u32 = 5001;
/// Between two runs.
const PAUSE: Duration = Duration::from_millis(500);
/// /proc/PID/stat counts hundredths of a second.
const TICKS: f64 = 100.0;

/// Who is measured: its name, and the number that its addresses have.
const CONTENDERS: [(&str, u8); 3] =
    [("nvgate, with NVGRE", 1), ("wireguard-go, routed", 2), ("boringtun-cli, routed", 3)];

fn main() -> Result<()> {
    let programs = ["wireguard-go", "boringtun-cli", "wg", "ip", "iperf3", "taskset", "ethtool"];
    if !has_peers("site_to_site", &programs) {
        return Ok(());
    }
    let mut numbers = std::env::args().skip(1).filter_map(|word| word.parse::<u32>().ok());
    let (rounds, secs) = (numbers.next().unwrap_or(5), numbers.next().unwrap_or(3));
    let streams = numbers.next().unwrap_or(4);
    let bench = Bench::build()?;
    for reverse in [false, true] {
        let way = if reverse { "from" } else { "to" };
        println!(
            "\nTCP {way} the site, streams: {streams}; medians (and spread) of {rounds} rounds"
        );
        let mut all = [const { Vec::new() }; CONTENDERS.len()];
        for _ in 0..rounds {
            for (index, measured) in all.iter_mut().enumerate() {
                measured.push(bench.measure(index, (secs, streams), reverse)?);
            }
        }
        report(&mut all);
    }
    Ok(())
}

/// One measurement.
#[derive(Clone, Copy, Debug)]
struct Measured {
    megabits: f64,
    /// CPU seconds of the process a gigabyte of TCP payload.
    cpu: f64,
    /// Seconds in which its core was not idle, a gigabyte.
    core: f64,
}

fn report(all: &mut [Vec<Measured>; CONTENDERS.len()]) {
    let medians = all.each_mut().map(|rounds| {
        [|one: &Measured| one.megabits, |one: &Measured| one.cpu, |one: &Measured| one.core]
            .map(|field| spread(rounds, field))
    });
    let wide = |words: [&str; 6]| {
        let [name, speed, cpu, of_rival, core, core_of_rival] = words;
        println!(
            "| {name:<21} | {speed:<15} | {cpu:<16} | {of_rival:<14} | {core:<16} | {core_of_rival:<14} |"
        );
    };
    let less = "boringtun's /";
    wide(["", "Mbit/s", "process, s/GB", less, "core, s/GB", less]);
    let [dashes, short] = ["-".repeat(21), "-".repeat(14)];
    wide([&dashes, &dashes[..15], &dashes[..16], &short, &dashes[..16], &short]);
    let rival = medians[2];
    for ((name, _), [speed, cpu, core]) in CONTENDERS.iter().zip(medians) {
        let text = |[least, median, most]: [f64; 3], digits: usize| {
            format!("{median:.digits$} ({least:.digits$}-{most:.digits$})")
        };
        let times = |rival: [f64; 3], own: [f64; 3]| format!("{:.2}", rival[1] / own[1]);
        let (of_rival, core_of_rival) = (times(rival[1], cpu), times(rival[2], core));
        wide([name, &text(speed, 0), &text(cpu, 2), &of_rival, &text(core, 2), &core_of_rival]);
    }
}

/// The least, the median and the most.
fn spread(rounds: &[Measured], field: impl Fn(&Measured) -> f64) -> [f64; 3] {
    let mut values: Vec<f64> = rounds.iter().map(field).collect();
    values.sort_by(f64::total_cmp);
    [values[0], values[values.len() / 2], values[values.len() - 1]]
}

struct Bench {
    _iperf: Killed,
    _far_peers: Vec<Peer>,
    rivals: Vec<Peer>,
    gateway: GatewayProcess,
    _host: FastHost,
    core: String,
    vm: Namespace,
    plain_vm: Namespace,
    _namespaces: Vec<Namespace>,
    _directory: tempfile::TempDir,
}

/// A child that is killed when dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Bench {
    fn build() -> Result<Self> {
        // Asked before the bench pins itself: afterwards it is one.
        let cores = std::thread::available_parallelism()?.get();
        ensure!(cores > 1, "one core cannot be shared by the process under test and all else");
        let last = cores - 1;
        pin(std::process::id(), 0)?;
        let directory = tempfile::TempDir::with_prefix("nvgate-bench-")?;
        let [vm, plain_vm, host, gateway, rival, far] =
            ["vm", "plain-vm", "host", "gateway", "rival", "far"].map(Namespace::new);
        let (vm, plain_vm, host) = (vm?, plain_vm?, host?);
        let (gateway, rival, far) = (gateway?, rival?, far?);
        let network = |second| Ipv4Addr::new(10, second, 0, 10);
        join(&vm, ("eth0", &[network(1)]), &host, ("port0", &[]))?;
        // The host's kernel has no part in NVGRE.
        let providers = [11, 1].map(|last| Ipv4Addr::new(192, 0, 2, last));
        join(&host, ("fabric0", &[]), &gateway, ("fabric0", &[providers[1]]))?;
        let front = |net, last| Ipv4Addr::new(198, 51, net, last);
        join(&gateway, ("front0", &[front(100, 1)]), &far, ("eth0", &[front(100, 2)]))?;
        join(&rival, ("front0", &[front(101, 1)]), &far, ("eth1", &[front(101, 2)]))?;
        let routers = [2, 3].map(|second| Ipv4Addr::new(10, second, 0, 1));
        let own = [network(2), network(3)];
        join(&plain_vm, ("eth0", &own), &rival, ("vm0", &routers))?;
        rival.set_sysctl("ipv4/ip_forward", "1")?;
        vm.add_route(Prefix::DEFAULT_V4, Some(Ipv4Addr::new(10, 1, 0, 1).into()), "eth0")?;
        plain_vm.add_route(Prefix::DEFAULT_V4, Some(routers[0].into()), "eth0")?;
        let public = Prefix::new(PUBLIC.into(), 32).context("a host's prefix")?;
        far.add_route(public, None, "eth0")?;
        // As links of hardware do by themselves.
        for (namespace, link) in
            [(&gateway, "fabric0"), (&gateway, "front0"), (&rival, "front0"), (&rival, "vm0")]
        {
            exec(namespace, &format!("ethtool -K {link} gro on"))?;
        }
        for (namespace, link, mac) in [
            (&vm, "eth0", VM_MAC),
            (&host, "port0", GATEWAY_MAC),
            (&host, "fabric0", FABRIC_MACS[0]),
            (&gateway, "fabric0", FABRIC_MACS[1]),
        ] {
            exec(namespace, &format!("ip link set dev {link} address {mac}"))?;
        }
        // NVGRE and its inner Ethernet leave 1458 of the underlay's 1500.
        exec(&vm, "ip link set dev eth0 mtu 1458")?;
        let neighbour = format!("{} lladdr {} dev fabric0", providers[0], FABRIC_MACS[0]);
        exec(&gateway, &format!("ip neigh add {neighbour} nud permanent"))?;
        for (namespace, core) in
            [(&vm, 0), (&plain_vm, 0), (&host, 0), (&far, 0), (&gateway, last), (&rival, last)]
        {
            receive_on(namespace, core)?;
        }
        let [own, remote] = providers.map(|address| ProviderAddress(address.into()));
        let template = OuterTemplate::new(FABRIC_MACS[0], FABRIC_MACS[1], own, remote)?;
        let vsid = Vsid::new(VSID).context("a VSID")?;
        let endpoint = FastHost::start(&host, ("port0", "fabric0"), vsid, template)?;
        configure(directory.path())?;
        let log = directory.path().join("gateway.log");
        let mut process =
            GatewayProcess::start(&gateway, &binary()?, directory.path(), (&log, None), ADMIN)?;
        process.wait_ready(&gateway, || false)?;
        pin(process.id(), last)?;

        let mut rivals = Vec::new();
        let mut far_peers = Vec::new();
        for (_, number) in CONTENDERS {
            let program = if number == 3 { Program::Boringtun } else { Program::WireGuardGo };
            let port = 51_820 + u16::from(number);
            let (inner, inside) = (format!("10.77.{number}.1/32"), format!("10.{number}.0.0/24"));
            let near = match number {
                1 => SocketAddr::new(PUBLIC.into(), port),
                _ => SocketAddr::new(front(101, 1).into(), port),
            };
            let own_key = peer_key(number).public().to_string();
            let far_key = peer_key(number + 10).public().to_string();
            let plan = PeerPlan {
                program: Program::WireGuardGo,
                key: number + 10,
                port,
                gateway_key: &own_key,
                gateway: near,
                addresses: &[&inner],
                networks: &[&inside],
                metric: 100,
                keepalive_secs: 1,
            };
            far_peers.push(Peer::start(directory.path(), &far, &far, &plan)?);
            if number > 1 {
                let plan = PeerPlan {
                    program,
                    key: number,
                    gateway_key: &far_key,
                    gateway: SocketAddr::new(front(101, 2).into(), port),
                    addresses: &[],
                    networks: &[&inner],
                    keepalive_secs: 0,
                    ..plan
                };
                let peer = Peer::start(directory.path(), &rival, &rival, &plan)?;
                pin(peer.id(), last)?;
                rivals.push(peer);
            }
        }
        let mut server = Command::new("iperf3");
        server.arg("-s").stdout(Stdio::null());
        let iperf = Killed(far.command(server)?);
        Ok(Self {
            _iperf: iperf,
            _far_peers: far_peers,
            rivals,
            gateway: process,
            _host: endpoint,
            core: format!("cpu{last} "),
            vm,
            plain_vm,
            _namespaces: vec![host, gateway, rival, far],
            _directory: directory,
        })
    }

    fn measure(
        &self,
        index: usize,
        (secs, streams): (u32, u32),
        reverse: bool,
    ) -> Result<Measured> {
        let (name, number) = CONTENDERS[index];
        let (vm, process) = match index {
            0 => (&self.vm, self.gateway.id()),
            _ => (&self.plain_vm, self.rivals[index - 1].id()),
        };
        let target = Ipv4Addr::new(10, 77, number, 1);
        // It asks from its first address, which the third contender's far side does not accept.
        if number < 3 {
            vm.run(|| ping(target.into(), Duration::from_secs(8)))?.context(name)?;
        }
        // The server may still be busy with the end of the run before.
        std::thread::sleep(PAUSE);
        let (before, idle_before) = (cpu_ticks(process)?, idle_ticks(&self.core)?);
        let began = Instant::now();
        let direction = if reverse { "-R" } else { "" };
        let line = format!(
            "iperf3 -J -P {streams} -C cubic -c {target} -B 10.{number}.0.10 -t {secs} {direction}"
        );
        let answer: serde_json::Value = serde_json::from_str(&exec(vm, &line)?)?;
        let spent = (cpu_ticks(process)? - before) as f64 / TICKS;
        let idle = (idle_ticks(&self.core)? - idle_before) as f64 / TICKS;
        let busy = began.elapsed().as_secs_f64() - idle;
        let received = &answer["end"]["sum_received"];
        let bytes = received["bytes"].as_f64().with_context(|| format!("{name}: {answer}"))?;
        let rate = received["bits_per_second"].as_f64().context("a rate")?;
        ensure!(bytes > 0.0, "{name} carried nothing");
        let gigabytes = bytes / 1e9;
        Ok(Measured { megabits: rate / 1e6, cpu: spent / gigabytes, core: busy / gigabytes })
    }
}

/// Joins two namespaces by a link with /24 addresses.
fn join(
    one: &Namespace,
    (name, addresses): (&str, &[Ipv4Addr]),
    other: &Namespace,
    (other_name, other_addresses): (&str, &[Ipv4Addr]),
) -> Result<()> {
    one.add_veth(name, other, other_name)?;
    for (namespace, name, addresses) in
        [(one, name, addresses), (other, other_name, other_addresses)]
    {
        let addresses: Vec<_> = addresses.iter().map(|&address| (address.into(), 24)).collect();
        namespace.set_up(&LinkSetup {
            name,
            mac: None,
            mtu: 1500,
            addresses: &addresses,
            super_packets: SuperPackets::Allowed,
        })?;
    }
    Ok(())
}

fn configure(directory: &Path) -> Result<()> {
    let state = directory.join("state");
    fs::create_dir_all(directory.join("tenants.d"))?;
    fs::write(
        directory.join("gateway.yaml"),
        format!(
            "fabric: {{link: fabric0, provider_addresses: [192.0.2.1]}}\nfront_end: {{link: front0}}\n\
             workers: 1\nadmin: {{listen: '{ADMIN}'}}\nstate_directory: {}\n",
            state.display()
        ),
    )?;
    let tenant = format!(
        "tenant: red\nrouting_domain: 6c0f2b0e-8a2f-4e3c-9b55-0a8a4f0e7d11\n\
         subnets: [{{name: web, vsid: {VSID}, prefixes: [10.1.0.0/24]}}]\n\
         nat: {{addresses: [{PUBLIC}]}}\n\
         endpoints: [{{subnet: web, customer_addresses: [10.1.0.10], mac: '{VM_MAC}', \
         provider_addresses: [192.0.2.11]}}]\n\
         vpn:\n  listen: [{{address: 1, port: 51821, private_key: '{}'}}]\n  \
         sites: [{{name: far, tunnels: [{{name: a, public_key: '{}', allowed: 10.77.1.0/24}}]}}]\n\
         routes: [{{prefix: 10.77.1.0/24, via: far}}]\n",
        peer_key(1).to_base64().as_str(),
        peer_key(11).public(),
    );
    Ok(fs::write(directory.join("tenants.d/red.yaml"), tenant)?)
}

/// What arrives on the links of `namespace` is received on `core`.
fn receive_on(namespace: &Namespace, core: usize) -> Result<()> {
    namespace.run(|| -> Result<()> {
        // What /sys shows of links is the namespace's that mounted it.
        unshare(CloneFlags::CLONE_NEWNS)?;
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), none)?;
        for link in fs::read_dir("/sys/class/net")? {
            let queue = link?.path().join("queues/rx-0/rps_cpus");
            fs::write(&queue, format!("{:x}", 1_u64 << core))
                .context(queue.display().to_string())?;
        }
        Ok(())
    })?
}

/// Keeps all threads of a process, and those to come, on one core.
fn pin(process: u32, core: usize) -> Result<()> {
    let status = Command::new("taskset")
        .args(["-a", "-c", "-p", &core.to_string(), &process.to_string()])
        .stdout(Stdio::null())
        .status()?;
    ensure!(status.success(), "taskset: {status}");
    Ok(())
}

/// User and system time of all threads of a process.
fn cpu_ticks(process: u32) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, fields) = stat.rsplit_once(") ").context("/proc/PID/stat")?;
    let times = fields.split(' ').skip(11).take(2).map(str::parse::<u64>);
    Ok(times.sum::<Result<u64, _>>()?)
}

/// The time in which a core, named as in /proc/stat, had nothing to do.
fn idle_ticks(core: &str) -> Result<u64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().find_map(|line| line.strip_prefix(core)).context("/proc/stat")?;
    // User, nice, system, idle, waiting for a disk.
    let times = line.split_ascii_whitespace().skip(3).take(2).map(str::parse::<u64>);
    Ok(times.sum::<Result<u64, _>>()?)
}
