//! BFD of 3 x 100 ms with a router in a VM, one behind a tunnel and one of the front end, while the
//! machine has nothing left to give: nobody is taken for dead who is not.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nvgate::admin::bgp::PeersReport;
use nvgate::demo::lab::Namespace;
use nvgate_tests::bgp_lab::{
    BIRD, Daemon, INTERNET, THROUGH, Upstream, ask_internet, bird, established, speak_on_front_end,
};
use nvgate_tests::bgp_routers::said;
use nvgate_tests::skip::has_peers;
use nvgate_tests::wg_lab::{Peer, PeerPlan, Premises, build, gateway_key, give_vpn, place};
use nvgate_tests::wg_twins::{HQ, hq, plan, tunnel};

/// How long the load lasts.
const LOAD: Duration = Duration::from_secs(30);
/// What of the machine's time must be used meanwhile, or it was no load.
const BUSY: f64 = 0.9;
const WATCHED: &str = ", bfd: {interval_millis: 100, multiplier: 3}";

/// Time of all cores until now, in ticks: used, and in all.
fn times() -> Result<[u64; 2]> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().context("a line")?;
    let ticks: Vec<u64> =
        line.split_ascii_whitespace().skip(1).take(8).map(str::parse).collect::<Result<_, _>>()?;
    let all: u64 = ticks.iter().sum();
    let idle = ticks.get(3..5).context("idle time")?.iter().sum::<u64>();
    Ok([all - idle, all])
}

/// The daemon's BFD sessions, with the time since when each is as it is.
fn sessions(router: &Daemon, namespace: &Namespace) -> Result<Vec<String>> {
    let answer = router.ask(namespace, "show bfd sessions")?;
    let lines: Vec<_> = answer.lines().filter(|line| line.contains(" Up ")).collect();
    ensure!(lines.len() == 1, "{answer}");
    Ok(lines.into_iter().map(str::to_owned).collect())
}

/// Bytes a second that two TCP connections of iperf3 carry from `client` to `target`, which is in
/// `server`.
fn carry(server: &Namespace, client: &Namespace, target: IpAddr) -> Result<f64> {
    let mut command = Command::new("iperf3");
    command.args(["-s", "-1", "-B", &target.to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut listening = server.command(command)?;
    std::thread::sleep(Duration::from_millis(500));
    let mut command = Command::new("iperf3");
    command.args(["-c", &target.to_string(), "-P", "2", "-J", "--connect-timeout", "5000"]);
    command.args(["-t", &LOAD.as_secs().to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let output = client.command(command)?.wait_with_output();
    // It serves one client and may have ended.
    let _ = listening.kill();
    listening.wait()?;
    let report: serde_json::Value = serde_json::from_slice(&output?.stdout)?;
    let rate = report["end"]["sum_received"]["bits_per_second"].as_f64();
    Ok(rate.with_context(|| report.to_string())? / 8.0)
}

#[test]
fn bfd_of_three_times_100_ms_gives_nobody_up_while_the_machine_is_busy() -> Result<()> {
    const TEST: &str = "bfd_of_three_times_100_ms_gives_nobody_up_while_the_machine_is_busy";
    if !has_peers(TEST, &[&BIRD[..], &["iperf3"]].concat()) {
        return Ok(());
    }
    let Some(mut lab) = build(TEST, 1)? else { return Ok(()) };
    let upstream = Upstream::build(&lab, 1)?;
    speak_on_front_end(&lab, &[upstream.peer(WATCHED)], "")?;
    let vpn = hq(&tunnel("a", 1, ""));
    let peer = |name: &str, address: &str| {
        format!("    - {{name: {name}, address: {address}, asn: 65010{WATCHED}}}\n")
    };
    let peers = peer("web", "10.1.0.10") + &peer("hq", "192.168.10.1");
    give_vpn(&lab, "red", &format!("{vpn}bgp:\n  asn: 64512\n  peers:\n{peers}"))?;
    lab.start()?;
    let place = place(&lab, 1)?;
    let key = gateway_key(&lab, "red")?;
    let premises = Premises::build("red-hq", HQ)?;
    let plan = PeerPlan { networks: &THROUGH, ..plan(0, &key, 1) };
    let _tunnel = Peer::start(lab.config(), &place, &premises.router, &plan)?;
    let near = |local: [u8; 4], gateway: [u8; 4], taught: &str, more: &str| {
        bird(Ipv4Addr::from(local), Ipv4Addr::from(gateway), taught, &format!("{more}  bfd on;\n"))
    };
    let web = near([10, 1, 0, 10], [10, 1, 0, 1], "172.30.0.0/16", "  direct;\n");
    let far = near([192, 168, 10, 1], [10, 254, 254, 1], "192.168.77.0/24", "  multihop;\n");
    let routers = [
        (upstream.bird(&lab, "  bfd on;\n")?, &upstream.namespace),
        (Daemon::bird(lab.config(), lab.vm("red-web"), &web)?, lab.vm("red-web")),
        (Daemon::bird(lab.config(), &premises.router, &far)?, &premises.router),
    ];
    let before = lab.wait("all sessions are up, with BFD", || {
        let of = |(router, namespace): &(Daemon, &Namespace)| {
            established(router, namespace)?;
            sessions(router, namespace)
        };
        routers.iter().map(of).collect::<Result<Vec<_>>>()
    })?;
    let vm = lab.vm("red-app");
    lab.wait("the Internet is reached", || ask_internet(vm))?;

    let over = AtomicBool::new(false);
    let [used, all] = times()?;
    let rates = std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism()?.get() {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let out = scope.spawn(|| carry(&upstream.namespace, vm, INTERNET.into()));
        let through = scope.spawn(|| carry(&premises.client, vm, premises.ipv4.into()));
        let rates = [out, through].map(|load| load.join().ok().context("a load panicked"));
        over.store(true, Ordering::Relaxed);
        rates.into_iter().map(|rate| rate?).collect::<Result<Vec<f64>>>()
    })?;
    let [used, all] = [times()?[0] - used, times()?[1] - all];
    let busy = used as f64 / all as f64;
    println!("{busy:.2} of the machine used, {rates:.0?} bytes/s out and through the tunnel");
    ensure!(busy > BUSY, "{busy:.2} of the machine is no load");
    ensure!(rates.iter().all(|rate| *rate > 1e6), "{rates:?} bytes/s");
    for ((router, namespace), before) in routers.iter().zip(before) {
        let after = sessions(router, namespace)?;
        ensure!(after == before, "{}: {before:?} became {after:?}", namespace.name());
    }
    let report: PeersReport = serde_json::from_str(&said(&lab, "peers --json")?)?;
    ensure!(report.peers.len() == 3, "{report:?}");
    for peer in &report.peers {
        ensure!(peer.up && peer.bfd && peer.flaps == 0, "{peer:?}");
    }
    Ok(())
}
