//! The lab by itself, without a gateway: two hosts whose "gateway" is each other. These need the
//! capabilities of [`privilege`](super::privilege) and say so where they are missing.

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::errno::Errno;
use nvgate_deploy::plan::RouteTarget;
use nvgate_model::{MacAddress, Prefix, Vsid};
use nvgate_vpn::PrivateKey;

use super::host_endpoint::{HostConfig, HostEndpoint, Port, Record};
use super::lab::probe::{Answer, DownloadServer, Service, ask_tcp, ask_udp, download, ping};
use super::lab::{LinkSetup, Namespace, SuperPackets};
use super::wireguard_endpoint::{EndpointConfig, WireGuardEndpoint};

const PATIENCE: Duration = Duration::from_secs(10);
const REFUSAL: Duration = Duration::from_millis(600);
const TENANT_MTU: u32 = 1458;

/// A namespace, or `None` (said aloud) where this user may not make one.
fn first_namespace(name: &str) -> Option<Namespace> {
    match Namespace::new(name) {
        Ok(namespace) => Some(namespace),
        Err(error) if error.source.raw_os_error() == Some(Errno::EPERM as i32) => {
            eprintln!("skipped: needs CAP_SYS_ADMIN to make network namespaces");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn vsid(number: u32) -> Vsid {
    Vsid::new(number).unwrap()
}

fn provider(host: usize) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, 11 + host as u8)
}

fn link<'a>(name: &'a str, mtu: u32, addresses: &'a [(IpAddr, u8)]) -> LinkSetup<'a> {
    LinkSetup { name, mac: None, mtu, addresses, super_packets: SuperPackets::Allowed }
}

/// A VM of the test: which host, which virtual subnet, the last byte of 10.1.0.x and fd00:1::x.
struct Place {
    host: usize,
    vsid: Vsid,
    last: u8,
}

impl Place {
    fn mac(&self) -> MacAddress {
        MacAddress([2, 0, 0, 0, 0, self.last])
    }

    fn ipv4(&self) -> IpAddr {
        Ipv4Addr::new(10, 1, 0, self.last).into()
    }

    fn ipv6(&self) -> IpAddr {
        format!("fd00:1::{:x}", self.last).parse().unwrap()
    }
}

/// Two hosts on one wire, each the other's "gateway", and their VMs.
struct Lab {
    vms: Vec<Namespace>,
    endpoints: Vec<HostEndpoint>,
    _hosts: Vec<Namespace>,
}

impl Lab {
    fn build(places: &[Place]) -> Option<Self> {
        let hosts = vec![first_namespace("host1")?, Namespace::new("host2").unwrap()];
        hosts[0].add_veth("fabric0", &hosts[1], "fabric0").unwrap();
        for (index, host) in hosts.iter().enumerate() {
            host.set_up(&link("fabric0", 1500, &[(provider(index).into(), 24)])).unwrap();
        }
        let mut vms = Vec::new();
        let mut ports = [vec![], vec![]];
        for (index, place) in places.iter().enumerate() {
            let vm = Namespace::new(&format!("vm{index}")).unwrap();
            let port = format!("port{index}");
            hosts[place.host].add_veth(&port, &vm, "eth0").unwrap();
            hosts[place.host].set_up(&link(&port, TENANT_MTU, &[])).unwrap();
            vm.set_up(&LinkSetup {
                mac: Some(place.mac()),
                super_packets: SuperPackets::Never,
                ..link("eth0", TENANT_MTU, &[(place.ipv4(), 24), (place.ipv6(), 64)])
            })
            .unwrap();
            ports[place.host].push(Port { link: port, vsid: place.vsid, mac: place.mac() });
            vms.push(vm);
        }
        let records: Vec<_> = places
            .iter()
            .map(|place| Record {
                vsid: place.vsid,
                mac: place.mac(),
                provider: provider(place.host),
            })
            .collect();
        let endpoints = ports
            .into_iter()
            .enumerate()
            .map(|(host, ports)| {
                let config = HostConfig {
                    provider: provider(host),
                    gateway: provider(1 - host),
                    records: records.clone(),
                    ports,
                };
                HostEndpoint::start(&hosts[host], config).unwrap()
            })
            .collect();
        Some(Self { vms, endpoints, _hosts: hosts })
    }
}

#[test]
fn two_vms_of_one_subnet_talk_over_nvgre() {
    let places = [
        Place { host: 0, vsid: vsid(5001), last: 10 },
        Place { host: 1, vsid: vsid(5001), last: 20 },
    ];
    let Some(lab) = Lab::build(&places) else { return };
    let [near, far] = &lab.vms[..] else { unreachable!("two places") };
    let sockets = [places[1].ipv4(), places[1].ipv6()].map(|address| SocketAddr::new(address, 7));
    let service = Service::start(far, "far", &sockets).unwrap();

    for (place, socket) in [places[0].ipv4(), places[0].ipv6()].into_iter().zip(sockets) {
        near.run(|| ping(socket.ip(), PATIENCE)).unwrap().unwrap();
        let tcp = near.run(|| ask_tcp(socket, "over-tcp", PATIENCE)).unwrap().unwrap();
        let udp = near.run(|| ask_udp(socket, "over-udp", PATIENCE)).unwrap().unwrap();
        for Answer { label, seen_as } in [tcp, udp] {
            assert_eq!((label.as_str(), seen_as.ip()), ("far", place));
        }
    }
    let mut nonces: Vec<_> = service.seen().into_iter().map(|seen| seen.nonce).collect();
    // A question by UDP is asked again when its answer is late.
    nonces.dedup();
    assert_eq!(nonces, ["over-tcp", "over-udp", "over-tcp", "over-udp"]);
    assert!(lab.endpoints[0].counters().sent.load(Ordering::Relaxed) > 0);
    assert_eq!(lab.endpoints[0].counters().dropped.load(Ordering::Relaxed), 0);
}

#[test]
fn a_download_over_nvgre_arrives_whole() {
    const BYTES: u64 = 3_000_000;
    let places = [
        Place { host: 0, vsid: vsid(5001), last: 10 },
        Place { host: 1, vsid: vsid(5001), last: 20 },
    ];
    let Some(lab) = Lab::build(&places) else { return };
    let target = SocketAddr::new(places[1].ipv4(), 80);
    let _server = DownloadServer::start(&lab.vms[1], target, BYTES).unwrap();
    let (bytes, _) = lab.vms[0].run(|| download(target, PATIENCE, || false)).unwrap().unwrap();
    assert_eq!(bytes, BYTES);
    let stopped = lab.vms[0].run(|| download(target, PATIENCE, || true)).unwrap().unwrap_err();
    assert_eq!(stopped.kind(), io::ErrorKind::TimedOut);
}

#[test]
fn equal_addresses_in_two_subnets_are_two_vms() {
    let places = [
        Place { host: 0, vsid: vsid(5001), last: 10 },
        Place { host: 0, vsid: vsid(6001), last: 10 },
        Place { host: 1, vsid: vsid(5001), last: 20 },
        Place { host: 1, vsid: vsid(6001), last: 20 },
        Place { host: 1, vsid: vsid(6001), last: 30 },
    ];
    let Some(lab) = Lab::build(&places) else { return };
    let shared = SocketAddr::new(places[2].ipv4(), 7);
    let red = Service::start(&lab.vms[2], "red", &[shared]).unwrap();
    let blue = Service::start(&lab.vms[3], "blue", &[shared]).unwrap();

    let answer = lab.vms[0].run(|| ask_tcp(shared, "of-red", PATIENCE)).unwrap().unwrap();
    assert_eq!(answer.label, "red");
    let answer = lab.vms[1].run(|| ask_udp(shared, "of-blue", PATIENCE)).unwrap().unwrap();
    assert_eq!(answer.label, "blue");
    assert!(red.seen().iter().all(|seen| seen.nonce == "of-red"));
    assert!(blue.seen().iter().all(|seen| seen.nonce == "of-blue"));
    let only_blue = places[4].ipv4();
    assert!(lab.vms[0].run(|| ping(only_blue, REFUSAL)).unwrap().is_err());
    lab.vms[1].run(|| ping(only_blue, PATIENCE)).unwrap().unwrap();
}

#[test]
fn two_hosts_talk_through_a_tunnel() {
    const BYTES: u64 = 3_000_000;
    const MTU: u32 = 1440;
    let Some(near) = first_namespace("router0") else { return };
    let routers = [near, Namespace::new("router1").unwrap()];
    routers[0].add_veth("wan", &routers[1], "wan").unwrap();
    let keys = [PrivateKey::from_bytes([1; 32]), PrivateKey::from_bytes([2; 32])];
    let [hosts, inner] =
        [10, 20].map(|last| [MacAddress([2, 0, 0, 0, 0, last]), MacAddress([2, 0, 0, 0, 1, last])]);
    let address = |end: u8| Ipv4Addr::new(192, 168, 50, 10 + end);
    let mut ends = Vec::new();
    for (end, router) in routers.iter().enumerate() {
        let host = Namespace::new(&format!("premises{end}")).unwrap();
        router.set_up(&link("wan", 1500, &[(provider(end).into(), 24)])).unwrap();
        router.add_veth("lan", &host, "eth0").unwrap();
        router.set_up(&link("lan", MTU, &[])).unwrap();
        host.set_up(&LinkSetup {
            mac: Some(hosts[end]),
            super_packets: SuperPackets::Never,
            ..link("eth0", MTU, &[(address(end as u8).into(), 24)])
        })
        .unwrap();
        host.add_neighbour("eth0", address(1 - end as u8).into(), inner[end]).unwrap();
        let config = EndpointConfig {
            link: "lan".into(),
            host: hosts[end],
            router: inner[end],
            mtu: MTU as usize,
            local: (provider(end), 51_820).into(),
            gateway: (provider(1 - end), 51_820).into(),
            key: keys[end].clone(),
            gateway_key: keys[1 - end].public(),
        };
        ends.push((WireGuardEndpoint::start(router, config).unwrap(), host));
    }
    let [(_, near), (_, far)] = &ends[..] else { unreachable!("two ends") };
    let _server = DownloadServer::start(far, (address(1), 80).into(), BYTES).unwrap();
    near.run(|| ping(address(1).into(), PATIENCE)).unwrap().unwrap();
    let target = (address(1), 80).into();
    let (bytes, _) = near.run(|| download(target, PATIENCE, || false)).unwrap().unwrap();
    assert_eq!(bytes, BYTES);
}

#[test]
fn a_namespace_is_apart_and_its_children_live_in_it() {
    let Some(namespace) = first_namespace("apart") else { return };
    assert_eq!(namespace.link_index("lo").unwrap(), 1);
    assert!(namespace.link_index("eth0").is_err());
    let inside = namespace.run(|| std::fs::read_link("/proc/thread-self/ns/net")).unwrap().unwrap();
    let outside = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
    assert_ne!(inside, outside);
    let mut command = Command::new("readlink");
    command.arg("/proc/self/ns/net").stdout(Stdio::piped());
    let mut child = namespace.command(command).unwrap();
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(text.trim(), inside.to_str().unwrap());
}

#[test]
fn an_error_names_the_namespace_and_what_was_tried() {
    let Some(namespace) = first_namespace("bare") else { return };
    let error = namespace.add_route("0.0.0.0/0".parse().unwrap(), None, "nope").unwrap_err();
    assert!(
        error.to_string().starts_with("cannot find the link nope in namespace `bare`: "),
        "{error}"
    );
}

#[test]
fn what_is_zero_or_empty_is_left_out_of_the_account() {
    let account = serde_json::json!({
        "tenants": [{"name": "red", "drops": {"no_route": 0, "martian": 2}, "idle": {"a": 0}}],
        "failed": false, "reason": "", "none": null, "rate": 0.0,
    });
    let kept = serde_json::json!({
        "tenants": [{"name": "red", "drops": {"martian": 2}}], "failed": false,
    });
    assert_eq!(super::without_nothing(account), kept);
}

#[test]
fn the_demos_configuration_is_valid_and_gives_every_vm_a_record() {
    let directory = tempfile::tempdir().unwrap();
    super::site::write_config(directory.path(), Some(2)).unwrap();
    let plan = super::read_plan(directory.path()).unwrap();
    assert_eq!(plan.gateway.workers.get(), 2);
    let names: Vec<_> = plan.tenants.iter().map(|tenant| tenant.name.as_str()).collect();
    assert_eq!(names, ["blue", "red"]);
    let records = Record::all_of(&plan);
    let on_second_host = records.iter().filter(|record| record.provider == provider(1)).count();
    assert_eq!((records.len(), on_second_host), (7, 5));
}

#[test]
fn the_premises_of_both_tenants_are_the_same_but_for_nat() {
    let directory = tempfile::tempdir().unwrap();
    let keys = super::premises::draw_keys().unwrap();
    super::site::write_config(directory.path(), None).unwrap();
    super::premises::append_config(directory.path(), &keys).unwrap();
    let plan = super::read_plan(directory.path()).unwrap();
    let prefix: Prefix = "192.168.50.0/24".parse().unwrap();
    for (name, internet, key) in [("red", true, &keys[0]), ("blue", false, &keys[1])] {
        let tenant = plan.tenants.iter().find(|tenant| tenant.name.as_str() == name).unwrap();
        let [site] = &tenant.vpn.as_ref().unwrap().sites[..] else { panic!("one site") };
        assert_eq!((site.internet, site.tunnels[0].peer), (internet, key.public()));
        let taught: Prefix = super::premises::TAUGHT.parse().unwrap();
        assert_eq!(site.tunnels[0].allowed, [prefix, taught]);
        let [route] = &tenant.routes[..] else { panic!("one route") };
        assert_eq!((route.prefix, route.target), (prefix, RouteTarget::Site(0)));
    }
}
