//! BMP (RFC 7854) out of the real gateway: what BIRD teaches in two tenants with the same addresses, as
//! a collector sees it that is there before the sessions, one that comes after them, and one that is
//! there when they end.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use nvgate::admin::health::HealthState;
use nvgate_tests::bgp_lab::{BIRD, Daemon, GATEWAY};
use nvgate_tests::bgp_routers::{CHANNEL, ROUTE, WEB, bird_with};
use nvgate_tests::run_lab::RunLab;
use nvgate_tests::skip::has_peers;
use nvgate_tests::wg_lab::give_vpn;
use nvgate_tests::wg_twins::TENANTS;

const COLLECTOR: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 11_019);

const BMP: &str = "bmp: {address: 127.0.0.1, port: 11019}\n";

/// A router with two protocols that teach.
fn bird() -> String {
    let more = "protocol static more { ipv4; route 172.31.0.0/16 unreachable; }\n";
    bird_with(WEB[0], WEB[1], [65010, 64512], ROUTE, CHANNEL) + more
}

/// A prefix as it stands in an UPDATE.
type Routed = (Ipv4Addr, u8);

/// What a collector was told by the connection under way.
#[derive(Clone, Default, Debug)]
struct Told {
    description: String,
    /// By distinguisher, address and AS.
    sessions: BTreeMap<(u64, Ipv4Addr, u32), BTreeSet<Routed>>,
    ends_of_rib: usize,
    /// The reasons of Peer Down, by distinguisher.
    downs: Vec<(u64, u8)>,
    terminated: bool,
    /// What was no BMP.
    fault: Option<String>,
}

/// A collector with one connection.
struct Collector {
    told: Arc<Mutex<Told>>,
    stream: Arc<Mutex<Option<TcpStream>>>,
}

impl Collector {
    /// Listens where the gateway's kernel finds it, for one connection.
    fn start(lab: &RunLab) -> Result<Self> {
        let listener = lab.site.gateway.run(|| TcpListener::bind(COLLECTOR))??;
        let (told, stream) = (Arc::<Mutex<Told>>::default(), Arc::<Mutex<_>>::default());
        let collector = Self { told: told.clone(), stream: stream.clone() };
        thread::spawn(move || {
            let Ok((accepted, _)) = listener.accept() else { return };
            drop(listener);
            *stream.lock().unwrap_or_else(PoisonError::into_inner) = accepted.try_clone().ok();
            let mut accepted = accepted;
            while let Ok(message) = read(&mut accepted) {
                let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
                if let Err(error) = told.take(&message) {
                    told.fault = Some(format!("{error:#} in {message:02x?}"));
                    return;
                }
            }
        });
        Ok(collector)
    }

    fn told(&self) -> Result<Told> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner).clone();
        ensure!(told.fault.is_none(), "{:?}", told.fault);
        Ok(told)
    }

    /// Goes away.
    fn leave(self) -> Result<()> {
        let stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(stream.context("no connection")?.shutdown(Shutdown::Both)?)
    }
}

/// The next message: a common header of version, length and type, and what follows (section 4.1).
fn read(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut message = vec![0; 6];
    stream.read_exact(&mut message)?;
    let length = u32::from_be_bytes([message[1], message[2], message[3], message[4]]) as usize;
    message.resize(length.clamp(6, 1 << 20), 0);
    stream.read_exact(&mut message[6..])?;
    Ok(message)
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    let found = bytes.get(at..at + N).context("too short")?;
    Ok(found.try_into()?)
}

impl Told {
    fn take(&mut self, message: &[u8]) -> Result<()> {
        ensure!(message[0] == 3, "version {}", message[0]);
        let (kind, body) = (message[5], &message[6..]);
        match kind {
            4 => {
                let length = usize::from(u16::from_be_bytes(number(body, 2)?));
                ensure!(u16::from_be_bytes(number(body, 0)?) == 1, "sysDescr first");
                let text = body.get(4..4 + length).context("too short")?;
                self.description = String::from_utf8(text.to_vec())?;
                return Ok(());
            }
            5 => {
                self.terminated = true;
                return Ok(());
            }
            0..=3 => {}
            kind => anyhow::bail!("message type {kind}"),
        }
        ensure!(!self.description.is_empty() && !self.terminated, "out of order");
        // The per-peer header (section 4.2): a local instance, before policy, four-octet AS numbers.
        ensure!(body[..2] == [2, 0], "peer type and flags {:?}", &body[..2]);
        let distinguisher = u64::from_be_bytes(number(body, 2)?);
        let address = Ipv4Addr::from(number::<4>(body, 22)?);
        let peer = (distinguisher, address, u32::from_be_bytes(number(body, 26)?));
        let rest = body.get(42..).context("too short")?;
        match kind {
            0 => {
                let routes = self.sessions.get_mut(&peer).context("routes before Peer Up")?;
                self.ends_of_rib += usize::from(update(rest, routes)?);
            }
            1 => {}
            2 => {
                ensure!(self.sessions.remove(&peer).is_some(), "Peer Down without Peer Up");
                self.downs.push((distinguisher, *rest.first().context("no reason")?));
            }
            _ => {
                let opens = rest.get(20..).context("no OPENs")?;
                let first = usize::from(u16::from_be_bytes(number(opens, 16)?));
                for open in [opens, opens.get(first..).context("one OPEN")?] {
                    ensure!(open.get(18) == Some(&1), "no OPEN");
                }
                let sent = u16::from_be_bytes(number(opens, 20)?);
                ensure!(sent == 64_512, "the first OPEN is of AS {sent}");
                ensure!(self.sessions.insert(peer, BTreeSet::new()).is_none(), "Peer Up twice");
            }
        }
        Ok(())
    }
}

/// Replays an UPDATE of IPv4; whether it is an End-of-RIB.
fn update(message: &[u8], routes: &mut BTreeSet<Routed>) -> Result<bool> {
    ensure!(message.get(18) == Some(&2), "no UPDATE");
    let body = &message[19..];
    let withdrawn = usize::from(u16::from_be_bytes(number(body, 0)?));
    let (gone, rest) = body[2..].split_at(withdrawn);
    let attributes = usize::from(u16::from_be_bytes(number(rest, 0)?));
    let announced = rest.get(2 + attributes..).context("too short")?;
    for prefix in prefixes(gone)? {
        routes.remove(&prefix);
    }
    let announced = prefixes(announced)?;
    let is_end = gone.is_empty() && announced.is_empty();
    routes.extend(announced);
    Ok(is_end)
}

fn prefixes(mut bytes: &[u8]) -> Result<Vec<Routed>> {
    let mut found = Vec::new();
    while let Some((&length, rest)) = bytes.split_first() {
        let octets = usize::from(length.div_ceil(8));
        let mut address = [0; 4];
        address[..octets].copy_from_slice(rest.get(..octets).context("too short")?);
        found.push((address.into(), length));
        bytes = &rest[octets..];
    }
    Ok(found)
}

/// How the component `bmp` is.
fn health(lab: &RunLab) -> Result<(HealthState, String)> {
    let component = lab.status()?.components.into_iter().find(|part| part.name == "bmp");
    let component = component.context("no component")?;
    Ok((component.status, component.reason.unwrap_or_default()))
}

fn reload(lab: &RunLab, gateway: &str) -> Result<()> {
    let before = lab.generation()?;
    lab.write("gateway", gateway)?;
    lab.signal(Signal::SIGHUP)?;
    lab.wait_loaded(before)
}

const BOTH: [Routed; 2] = [(Ipv4Addr::new(172, 30, 0, 0), 16), (Ipv4Addr::new(172, 31, 0, 0), 16)];

/// The distinguishers of the two sessions, if both have both routes.
fn both_have_both(collector: &Collector) -> Result<[u64; 2]> {
    let told = collector.told()?;
    let sessions: Vec<_> = told.sessions.iter().collect();
    let [((one, at, asn), routes), ((other, same, _), as_well)] = sessions[..] else {
        anyhow::bail!("{told:?}")
    };
    ensure!((*at, *same, *asn) == ([10, 1, 0, 10].into(), [10, 1, 0, 10].into(), 65_010));
    ensure!(routes.iter().eq(&BOTH) && as_well.iter().eq(&BOTH), "{told:?}");
    Ok([*one, *other])
}

#[test]
fn a_collector_follows_twins_with_the_same_addresses_from_any_time_on() -> Result<()> {
    const TEST: &str = "a_collector_follows_twins_with_the_same_addresses_from_any_time_on";
    if !has_peers(TEST, &BIRD) {
        return Ok(());
    }
    let Some(mut lab) = RunLab::build(TEST, 1)? else { return Ok(()) };
    for tenant in TENANTS {
        give_vpn(&lab, tenant, GATEWAY)?;
    }
    give_vpn(&lab, "gateway", BMP)?;
    let early = Collector::start(&lab)?;
    lab.start()?;
    lab.wait("the gateway says who it is", || {
        let told = early.told()?;
        ensure!(told.description.starts_with("nvgate ") && told.sessions.is_empty(), "{told:?}");
        ensure!(health(&lab)? == (HealthState::Ok, String::new()), "{:?}", health(&lab)?);
        Ok(())
    })?;
    let mut routers: Vec<Daemon> = TENANTS
        .iter()
        .map(|tenant| Daemon::bird(lab.config(), lab.vm(&format!("{tenant}-web")), &bird()))
        .collect::<Result<_>>()?;
    let first = lab.wait("sessions that come are told", || both_have_both(&early))?;
    early.leave()?;
    let fault = lab.wait("that nobody collects is seen", || {
        let (state, reason) = health(&lab)?;
        ensure!(state == HealthState::Degraded, "{state:?}");
        Ok(reason)
    })?;
    ensure!(fault.contains("127.0.0.1:11019") && fault.contains("see that it runs"), "{fault}");
    let late = Collector::start(&lab)?;
    let again = lab.wait("sessions of before are told", || {
        ensure!(late.told()?.ends_of_rib >= 2, "{:?}", late.told()?);
        both_have_both(&late)
    })?;
    ensure!(again == first, "{again:?} {first:?}");

    routers[0].ask(lab.vm(&format!("{}-web", TENANTS[0])), "disable more")?;
    let only = lab.wait("one withdraws", || {
        let told = late.told()?;
        let less: Vec<u64> = (told.sessions.iter())
            .filter(|(_, routes)| routes.iter().eq(&BOTH[..1]))
            .map(|((distinguisher, ..), _)| *distinguisher)
            .collect();
        let [only] = less[..] else { anyhow::bail!("{told:?}") };
        Ok(only)
    })?;
    drop(routers.remove(1));
    let (gone, _) = lab.wait("the other's session ends", || {
        let told = late.told()?;
        let [down] = told.downs[..] else { anyhow::bail!("{told:?}") };
        ensure!(told.sessions.len() == 1, "{told:?}");
        Ok(down)
    })?;
    ensure!(gone != only && again.contains(&gone), "{gone} {only} {again:?}");

    let gateway = std::fs::read_to_string(lab.file("gateway"))?;
    reload(&lab, &gateway.replace(BMP, ""))?;
    let told = lab.wait("the collector is told that it is one no more", || {
        let told = late.told()?;
        ensure!(told.terminated && health(&lab).is_err(), "{told:?}");
        Ok(told)
    })?;
    ensure!(told.downs.len() == 1, "a session ended for it: {told:?}");
    let last = Collector::start(&lab)?;
    reload(&lab, &gateway)?;
    lab.wait("a collector that is new is told who is up", || {
        let told = last.told()?;
        ensure!(told.sessions.values().flatten().eq(&BOTH[..1]), "{told:?}");
        Ok(())
    })?;
    lab.end(Signal::SIGTERM)?;
    let told = last.told()?;
    ensure!(told.sessions.is_empty() && told.terminated, "{told:?}");
    // Cease, by us (section 4.9).
    ensure!(told.downs == [(only, 1)], "{told:?}");
    Ok(())
}
